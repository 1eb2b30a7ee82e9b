//! `print`, and writing to the two standard streams: every call hands its bytes over at once, as one piece.
#![expect(unsafe_code, reason = "C functions for Lua: a callback of mlua costs several times as much")]

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mlua::{Lua, Table};
use mlua_sys as ffi;

use super::fault::{self, Fault};
use super::interrupt::{self, Stop};
use super::run::{self, Run};
use super::traceback;
use crate::engine::Stream;
use crate::error::{Class, Error, Result};

/// `print`, and for the engine's own Lua code `write_out`, `write_err`, `flush`, `input` and `password`.
pub(super) fn open(lua: &Lua, native: &Table) -> mlua::Result<()> {
    // SAFETY: each is a C function that keeps Lua's stack discipline.
    unsafe {
        lua.globals().raw_set("print", lua.create_c_function(print)?)?;
        native.raw_set("write_out", lua.create_c_function(write_out)?)?;
        native.raw_set("write_err", lua.create_c_function(write_err)?)?;
    }
    let flush = |_: &Lua, ()| {
        if let Some(run) = Run::current() {
            let flushed = run.output.flush();
            ended(&run, flushed);
        }
        Ok(())
    };
    native.raw_set("flush", fault::function(lua, "flush", flush)?)?;
    native.raw_set("input", fault::function(lua, "read", |lua, ()| input(lua, "", false))?)?;
    let password = |lua: &Lua, prompt: mlua::LuaString| input(lua, &prompt.to_string_lossy(), true);
    native.raw_set("password", fault::function(lua, "read_password", password)?)
}

/// A line of the user's, without its newline; nil at the end.
fn input(lua: &Lua, prompt: &str, password: bool) -> Result<Option<mlua::LuaString>, Fault> {
    let Some(run) = Run::current() else { return Ok(None) };
    if !run.allow_stdin {
        let error = Error::new(Class::Denied, "standard input: the client of this script does not answer questions");
        return Err(error.hint("One that does sends its execute_request with allow_stdin = true.").into());
    }
    let line = run.output.input(prompt, password)?;
    Ok(line.map(|line| lua.create_string(line)).transpose()?)
}

unsafe extern "C-unwind" fn print(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: `luaL_tolstring` may raise or call the script's `__tostring`, so all of it comes before any Rust value.
    unsafe {
        let count = ffi::lua_gettop(state);
        for index in 1..=count {
            if ffi::lua_type(state, index) != ffi::LUA_TSTRING {
                ffi::luaL_tolstring(state, index, std::ptr::null_mut());
                ffi::lua_replace(state, index);
                // A `__tostring` may have answered a number.
                ffi::lua_tolstring(state, index, std::ptr::null_mut());
            }
        }
        send(state, Stream::Stdout, 1, b"\t", b"\n");
        if run::stopping() {
            return interrupt::raise(state);
        }
        0
    }
}

unsafe extern "C-unwind" fn write_out(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: passed on.
    unsafe { write(state, Stream::Stdout) }
}

unsafe extern "C-unwind" fn write_err(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: passed on.
    unsafe { write(state, Stream::Stderr) }
}

/// `write(file, …)`: strings and numbers; answers `file`.
unsafe fn write(state: *mut ffi::lua_State, stream: Stream) -> c_int {
    // SAFETY: as in `print`; `lua_tolstring` turns numbers into strings on the stack.
    unsafe {
        for index in 2..=ffi::lua_gettop(state) {
            if ffi::lua_tolstring(state, index, std::ptr::null_mut()).is_null() {
                return bad_argument(state, index - 1);
            }
        }
        send(state, stream, 2, b"", b"");
        if run::stopping() {
            return interrupt::raise(state);
        }
        ffi::lua_settop(state, 1);
        1
    }
}

unsafe fn bad_argument(state: *mut ffi::lua_State, number: c_int) -> c_int {
    // SAFETY: the text is dropped before the error is raised.
    unsafe {
        {
            let place = traceback::place(state);
            ffi::lua_pushlstring(state, place.as_ptr().cast(), place.len());
        }
        let kind = ffi::luaL_typename(state, number + 1);
        ffi::lua_pushfstring(state, c"bad argument #%d to 'write' (string expected, got %s)".as_ptr(), number, kind);
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}

/// Writes the strings from index `first` on. Never raises; when nothing can be written any more the script is told to end.
unsafe fn send(state: *mut ffi::lua_State, stream: Stream, first: c_int, between: &[u8], after: &[u8]) {
    let Some(run) = Run::current() else { return };
    let mut line = run.line.take();
    line.clear();
    // SAFETY: strings stay where they are while on the stack, and nothing in the loop touches it.
    unsafe {
        for index in first..=ffi::lua_gettop(state) {
            if index > first {
                line.extend_from_slice(between);
            }
            line.extend_from_slice(traceback::bytes(state, index));
        }
    }
    line.extend_from_slice(after);
    let written = catch_unwind(AssertUnwindSafe(|| run.output.write(stream, &line)));
    ended(&run, written.unwrap_or_else(|panic| Err(fault::panicked(panic.as_ref()))));
    if line.capacity() <= 1 << 20 {
        run.line.replace(line);
    }
}

/// Where nobody can read what was written, the script ends.
pub(super) fn ended(run: &Run, written: Result<()>) {
    if let Err(error) = written {
        run.closed.replace(Some(error));
        run.stop(Stop::Closed);
    }
}
