//! Runs that a script does not wait for at once: `agent:execute_async(input)` answers a value whose `await` does.
//!
//! Functions of the script that such a run needs are called while the script awaits it, not before.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mlua::{Lua, MultiValue, Table, Value};

use super::super::fault::{self, Fault};
use super::super::stdlib::current;
use super::super::wait::{self, Callback, Queue};
use super::work;
use crate::agents::Outcome;
use crate::error::{Class, Error, Result};
use crate::runtime::JobHandle;

/// Where the metatable of such values is.
const METATABLE: &str = "llmspell.pending";

/// One run.
#[derive(Default)]
pub(super) struct Pending {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    result: Option<Result<Outcome>>,
    /// Of the script, while it awaits.
    queue: Option<Queue<()>>,
    /// What is to be called then.
    parked: VecDeque<Callback>,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn call(&self, callback: Callback) -> bool {
        let mut inner = self.lock();
        match inner.queue.clone() {
            Some(queue) => {
                drop(inner);
                queue.call(callback)
            }
            None => {
                inner.parked.push_back(callback);
                true
            }
        }
    }

    pub(super) fn done(&self, result: Result<Outcome>) {
        let mut inner = self.lock();
        inner.result = Some(result);
        if let Some(queue) = inner.queue.take() {
            drop(inner);
            queue.done(());
        }
    }
}

/// Those of a state, by number.
#[derive(Default)]
struct All {
    last: u64,
    open: HashMap<u64, (Arc<Pending>, JobHandle)>,
}

type Known = Rc<RefCell<All>>;

/// Makes the metatable.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    lua.set_app_data(Known::default());
    let methods = lua.create_table()?;
    methods
        .raw_set("await", fault::function(lua, "await", |lua, mut args: MultiValue| awaited(lua, args.pop_front()))?)?;
    let is_done = |lua: &Lua, mut args: MultiValue| -> Result<bool, Fault> {
        Ok(match find(lua, args.pop_front().as_ref())?.1 {
            Some((pending, _)) => pending.lock().result.is_some(),
            None => true,
        })
    };
    methods.raw_set("is_done", fault::function(lua, "is_done", is_done)?)?;
    let cancel = |lua: &Lua, mut args: MultiValue| -> Result<(), Fault> {
        if let Some((_, job)) = find(lua, args.pop_front().as_ref())?.1 {
            job.cancel();
        }
        Ok(())
    };
    methods.raw_set("cancel", fault::function(lua, "cancel", cancel)?)?;
    let metatable = lua.create_table()?;
    metatable.raw_set("__name", "pending")?;
    metatable.raw_set("__index", methods)?;
    lua.set_named_registry_value(METATABLE, metatable)
}

fn known(lua: &Lua) -> Result<Known, Fault> {
    let known = lua.app_data_ref::<Known>().map(|known| Rc::clone(&known));
    Ok(known.ok_or_else(|| Error::new(Class::Bug, "no runs here"))?)
}

/// The value of a run that was begun.
pub(super) fn value(lua: &Lua, pending: Arc<Pending>, job: JobHandle) -> Result<Table, Fault> {
    let all = known(lua)?;
    let mut all = all.borrow_mut();
    all.last += 1;
    let number = all.last;
    all.open.insert(number, (pending, job));
    let table = lua.create_table()?;
    table.raw_set("number", number)?;
    table.set_metatable(Some(lua.named_registry_value(METATABLE)?))?;
    Ok(table)
}

type Found = (u64, Option<(Arc<Pending>, JobHandle)>);

fn find(lua: &Lua, value: Option<&Value>) -> Result<Found, Fault> {
    let Some(Value::Table(table)) = value else {
        let error = Error::new(Class::Usage, "a run that was begun expected");
        return Err(error.hint("Call it with a colon, as in pending:await().").into());
    };
    let number: u64 = table.raw_get("number")?;
    Ok((number, known(lua)?.borrow().open.get(&number).cloned()))
}

fn awaited(lua: &Lua, value: Option<Value>) -> Result<Table, Fault> {
    let (number, found) = find(lua, value.as_ref())?;
    let (pending, job) = found.ok_or_else(|| Error::new(Class::Usage, "await: it was awaited before"))?;
    let run = current()?;
    let result = loop {
        // Here, as no queue would hold all of them.
        let parked = std::mem::take(&mut pending.lock().parked);
        for callback in parked {
            callback(lua)?;
        }
        wait::wait(lua, &run, |queue: Queue<()>| {
            let mut inner = pending.lock();
            if inner.result.is_some() || !inner.parked.is_empty() {
                drop(inner);
                queue.done(());
            } else {
                inner.queue = Some(queue);
            }
            let (pending, job) = (Arc::clone(&pending), job.clone());
            Ok(move || {
                pending.lock().queue = None;
                job.cancel();
            })
        })?;
        let mut inner = pending.lock();
        inner.queue = None;
        if inner.parked.is_empty()
            && let Some(result) = inner.result.take()
        {
            break result;
        }
    };
    known(lua)?.borrow_mut().open.remove(&number);
    work::output(lua, &result?)
}
