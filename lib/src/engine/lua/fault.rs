//! Functions for scripts, and the errors they raise: tables with `class`, `message` and `hint` that read like strings.
#![expect(unsafe_code, reason = "raises any Lua value, which a callback of mlua cannot")]

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use mlua::{FromLuaMulti, Function, IntoLuaMulti, LightUserData, Lua, MultiValue, Table, Value};
use mlua_sys as ffi;

use super::{interrupt, run};
use crate::error::{Class, Error};

/// Where the metatable of error values is kept.
const METATABLE: &str = "llmspell.error";

/// Why a function for scripts failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// An error of ours; the script gets it as an error value.
    Error(Error),
    /// A value to raise as it is.
    Raise(Value),
    /// The script is being stopped.
    Stop,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Error(error)
    }
}

impl From<mlua::Error> for Fault {
    fn from(error: mlua::Error) -> Self {
        let class = match &error {
            mlua::Error::BadArgument { .. } | mlua::Error::FromLuaConversionError { .. } => Class::Usage,
            _ => Class::Script,
        };
        Fault::Error(Error::new(class, first_line(&error)))
    }
}

/// What mlua says, without its own traceback.
pub(super) fn first_line(error: &mlua::Error) -> String {
    match error {
        mlua::Error::MemoryError(_) => "not enough memory".into(),
        mlua::Error::RuntimeError(text) | mlua::Error::SyntaxError { message: text, .. } => {
            text.lines().next().unwrap_or_default().to_owned()
        }
        mlua::Error::BadArgument { pos, to, cause, .. } => {
            let to = to.as_ref().map(|to| format!(" to '{to}'")).unwrap_or_default();
            format!("bad argument #{pos}{to} ({})", first_line(cause))
        }
        mlua::Error::FromLuaConversionError { from, to, message } => {
            let wanted = message.as_deref().map(|message| message.strip_prefix("expected ").ok_or(message));
            match wanted {
                Some(Err(message)) => message.to_owned(),
                Some(Ok(wanted)) => format!("{wanted} expected, got {from}"),
                None => format!("{to} expected, got {from}"),
            }
        }
        mlua::Error::CallbackError { cause, .. } => first_line(cause),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// Marks a result that is to be raised.
static RAISE: u8 = 0;

fn marker() -> *mut c_void {
    ptr::from_ref(&RAISE).cast_mut().cast()
}

/// The function `name` for scripts. A panic in `body` becomes an error of class `bug`.
pub(super) fn function<A, R>(
    lua: &Lua,
    name: &'static str,
    body: impl Fn(&Lua, A) -> Result<R, Fault> + 'static,
) -> mlua::Result<Function>
where
    A: FromLuaMulti,
    R: IntoLuaMulti,
{
    let inner = lua.create_function(move |lua, args: MultiValue| {
        let call = || -> Result<MultiValue, Fault> {
            let args = A::from_lua_args(args, 1, Some(name), lua)?;
            Ok(body(lua, args)?.into_lua_multi(lua)?)
        };
        let fault = match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(values)) => return Ok(values),
            Ok(Err(fault)) => fault,
            Err(panic) => Fault::Error(panicked(panic.as_ref()).within(name)),
        };
        let value = match fault {
            Fault::Error(error) => Value::Table(error_value(lua, &error)?),
            Fault::Raise(value) => value,
            Fault::Stop => Value::Nil,
        };
        Ok(MultiValue::from_iter([Value::LightUserData(LightUserData(marker())), value]))
    })?;
    // SAFETY: pushes the one value that becomes the closure's upvalue; `raising` keeps the stack discipline.
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, raising, 1)) }
}

/// Calls its upvalue and raises what that marked.
unsafe extern "C-unwind" fn raising(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua; nothing here needs dropping.
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, ffi::lua_gettop(state) - 1, ffi::LUA_MULTRET);
        if run::stopping() {
            return interrupt::raise(state);
        }
        if ffi::lua_type(state, 1) == ffi::LUA_TLIGHTUSERDATA && ffi::lua_touserdata(state, 1) == marker() {
            ffi::lua_settop(state, 2);
            ffi::lua_error(state);
        }
        ffi::lua_gettop(state)
    }
}

/// Calls `function`; an error is the very value that was raised.
pub(super) fn call(lua: &Lua, function: &Function, args: impl IntoLuaMulti) -> Result<MultiValue, Fault> {
    let mut values = args.into_lua_multi(lua)?;
    values.push_front(Value::Function(function.clone()));
    let mut status = ffi::LUA_OK;
    // SAFETY: function and arguments are all there is on this stack; `lua_pcall` replaces them by results or the error.
    let mut values: MultiValue = unsafe {
        lua.exec_raw(values, |state| {
            status = ffi::lua_pcall(state, ffi::lua_gettop(state) - 1, ffi::LUA_MULTRET, 0);
        })?
    };
    match status {
        ffi::LUA_OK => Ok(values),
        _ if run::stopping() => Err(Fault::Stop),
        _ => Err(Fault::Raise(values.pop_front().unwrap_or(Value::Nil))),
    }
}

/// `value` as a number: mlua tells only one of Lua's two kinds at a time.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(integer) => Some(*integer as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// Keeps the metatable that error values get.
pub(super) fn open(lua: &Lua, metatable: &Table) -> mlua::Result<()> {
    lua.set_named_registry_value(METATABLE, metatable)
}

/// `error` as scripts see it.
pub(super) fn error_value(lua: &Lua, error: &Error) -> mlua::Result<Table> {
    let value = lua.create_table()?;
    value.raw_set("class", error.class().row().name)?;
    value.raw_set("message", error.text())?;
    value.raw_set("hint", error.next_step())?;
    value.set_metatable(Some(lua.named_registry_value(METATABLE)?))?;
    Ok(value)
}

/// A panic as an error.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let cause = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    Error::new(Class::Bug, format!("panicked: {cause}")).hint("Please report this with the script that caused it.")
}
