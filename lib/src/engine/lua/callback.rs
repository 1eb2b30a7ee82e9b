//! Functions of a script that workers call while the script waits for them.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use mlua::{Function, Lua, MultiValue, RegistryKey, Value};

use super::fault::{self, Fault};
use super::json::{from_lua, to_lua};
use super::wait::Callback;
use crate::agents;
use crate::error::{Class, Error, Result};

/// Keeps `function` for workers.
pub(super) fn keep(lua: &Lua, function: &Function) -> mlua::Result<agents::Function> {
    Ok(agents::Function(Arc::new(lua.create_registry_value(function)?)))
}

/// Where callbacks go: to the queue of the wait. False where nobody waits.
pub(super) type Call = Arc<dyn Fn(Callback) -> bool + Send + Sync>;

/// Has what was kept called through `call`; what it raises is the error.
pub(super) fn caller(call: Call) -> agents::Caller {
    Arc::new(move |function, arguments| {
        let key = Arc::clone(&function.0).downcast::<RegistryKey>();
        let key = key.map_err(|_| Error::new(Class::Bug, "a function of another engine"))?;
        answered(
            &*call,
            Box::new(move |lua| {
                let function: Function = lua.registry_value(&key)?;
                let values = arguments.iter().map(|value| to_lua(lua, value)).collect::<mlua::Result<MultiValue>>()?;
                let answer = fault::call(lua, &function, values)?;
                Ok(from_lua(lua, answer.front().unwrap_or(&Value::Nil))?)
            }),
        )
    })
}

/// Work for the script thread that answers something.
type Asked<R> = Box<dyn FnOnce(&Lua) -> Result<R, Fault> + Send>;

/// What `work` answers on the script thread. Only a stop ends the wait there; an error is this caller's.
pub(super) fn answered<R: Send + 'static>(
    call: &(dyn Fn(Callback) -> bool + Send + Sync),
    work: Asked<R>,
) -> Result<R> {
    let (sender, receiver) = sync_channel(1);
    let gone = || Error::new(Class::Interrupted, "the script waits no more");
    let callback: Callback = Box::new(move |lua| {
        let answer = match work(lua) {
            Ok(answer) => Ok(answer),
            Err(Fault::Stop) => return Err(Fault::Stop),
            Err(fault) => Err(error_of(fault)),
        };
        sender.send(answer).ok();
        Ok(())
    });
    if !call(callback) {
        return Err(gone());
    }
    receiver.recv().unwrap_or_else(|_| Err(gone()))
}

/// What was raised, as an error of ours: with its class if it is one.
fn error_of(fault: Fault) -> Error {
    match fault {
        Fault::Error(error) => error,
        Fault::Stop => Error::new(Class::Interrupted, "interrupted"),
        Fault::Raise(Value::Table(table)) => {
            let field = |name: &str| table.raw_get::<Option<String>>(name).ok().flatten();
            let class = field("class").map_or(Class::Script, |name| Class::from_name(&name));
            let error = Error::new(class, field("message").unwrap_or_else(|| "an error that is a table".into()));
            match field("hint") {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        Fault::Raise(Value::String(text)) => Error::new(Class::Script, text.to_string_lossy()),
        Fault::Raise(other) => Error::new(Class::Script, format!("an error that is a {}", other.type_name())),
    }
}
