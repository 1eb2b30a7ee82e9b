//! `coroutine.resume`, `wrap`, `close` and `xpcall`: as in Lua, but they keep the chain of running coroutines, and no message
//! handler runs for a script that is being stopped.
#![expect(unsafe_code, reason = "C functions for Lua")]

use std::ffi::{c_int, c_void};
use std::ptr;

use mlua::Lua;
use mlua_sys as ffi;

use super::interrupt;
use super::run::{self, Frame};

/// On top of the stack of a coroutine that died by a stop. Hooks stay off in it for good, so its `__close` handlers could
/// never be stopped: they do not run.
static DIED: u8 = 0;

/// Replaces the library's functions.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let library: mlua::Table = lua.globals().get("coroutine")?;
    // SAFETY: each is a C function that keeps Lua's stack discipline.
    unsafe {
        library.raw_set("resume", lua.create_c_function(resume)?)?;
        library.raw_set("wrap", lua.create_c_function(wrap)?)?;
        library.raw_set("close", lua.create_c_function(close)?)?;
        lua.globals().raw_set("xpcall", lua.create_c_function(xpcall)?)
    }
}

/// Resumes `co` with the `count` values on top of `state`. Results, or an error and -1, are moved to `state`.
unsafe fn resume_with(state: *mut ffi::lua_State, co: *mut ffi::lua_State, count: c_int) -> c_int {
    // SAFETY: as `auxresume` of lcorolib.c. `lua_resume` leaves no other way than by returning.
    unsafe {
        if ffi::lua_checkstack(co, count) == 0 {
            ffi::lua_pushstring(state, c"too many arguments to resume".as_ptr());
            return -1;
        }
        ffi::lua_xmove(state, co, count);
        let mut results = 0;
        let status = within(co, || ffi::lua_resume(co, state, count, &raw mut results));
        if status == ffi::LUA_OK || status == ffi::LUA_YIELD {
            if ffi::lua_checkstack(state, results + 1) == 0 {
                ffi::lua_pop(co, results);
                ffi::lua_pushstring(state, c"too many results to resume".as_ptr());
                return -1;
            }
            ffi::lua_xmove(co, state, results);
            results
        } else {
            ffi::lua_xmove(co, state, 1);
            if run::stopping() {
                ffi::lua_pushlightuserdata(co, marker());
            }
            -1
        }
    }
}

/// Runs `body`, which runs code of `co` and returns, with `co` in the chain. A stop that came just before is armed here.
unsafe fn within(co: *mut ffi::lua_State, body: impl FnOnce() -> c_int) -> c_int {
    match Frame::coroutine(co) {
        Some(frame) => frame.enter(|| {
            if run::stopping() {
                // SAFETY: `co` is alive, it is on the caller's stack.
                unsafe { interrupt::arm(co) };
            }
            body()
        }),
        None => body(),
    }
}

fn marker() -> *mut c_void {
    ptr::from_ref(&DIED).cast_mut().cast()
}

/// The coroutine at index 1 or in the upvalue.
unsafe fn thread(state: *mut ffi::lua_State) -> *mut ffi::lua_State {
    // SAFETY: the caller is a C function called by Lua.
    unsafe {
        let co = ffi::lua_tothread(state, 1);
        if co.is_null() {
            ffi::luaL_checktype(state, 1, ffi::LUA_TTHREAD);
        }
        co
    }
}

unsafe extern "C-unwind" fn resume(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: as `luaB_coresume`.
    unsafe {
        let co = thread(state);
        let results = resume_with(state, co, ffi::lua_gettop(state) - 1);
        ffi::lua_pushboolean(state, c_int::from(results >= 0));
        let results = if results < 0 { 1 } else { results };
        ffi::lua_insert(state, -(results + 1));
        results + 1
    }
}

unsafe extern "C-unwind" fn wrap(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: as `luaB_cowrap`.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TFUNCTION);
        let co = ffi::lua_newthread(state);
        ffi::lua_pushvalue(state, 1);
        ffi::lua_xmove(state, co, 1);
        ffi::lua_pushcclosure(state, wrapped, 1);
        1
    }
}

unsafe extern "C-unwind" fn wrapped(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: as `auxwrap`, but for a stopped script, which unwinds at once.
    unsafe {
        let co = ffi::lua_tothread(state, ffi::lua_upvalueindex(1));
        let results = resume_with(state, co, ffi::lua_gettop(state));
        if results >= 0 {
            return results;
        }
        if run::stopping() {
            return interrupt::raise(state);
        }
        let mut status = ffi::lua_status(co);
        if status != ffi::LUA_OK && status != ffi::LUA_YIELD {
            status = within(co, || ffi::lua_closethread(co, state));
            ffi::lua_xmove(co, state, 1);
        }
        if status != ffi::LUA_ERRMEM && ffi::lua_type(state, -1) == ffi::LUA_TSTRING {
            ffi::luaL_where(state, 1);
            ffi::lua_insert(state, -2);
            ffi::lua_concat(state, 2);
        }
        ffi::lua_error(state)
    }
}

unsafe extern "C-unwind" fn close(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: as `luaB_close`.
    unsafe {
        let co = thread(state);
        let status = ffi::lua_status(co);
        if status != ffi::LUA_OK && status != ffi::LUA_YIELD && ffi::lua_touserdata(co, -1) == marker() {
            ffi::lua_pushboolean(state, 1);
            return 1;
        }
        let mut info = std::mem::zeroed::<ffi::lua_Debug>();
        let busy = co == state || (status == ffi::LUA_OK && ffi::lua_getstack(co, 0, &raw mut info) != 0);
        if busy {
            let kind = if co == state { c"running" } else { c"normal" };
            return ffi::luaL_error(state, c"cannot close a %s coroutine".as_ptr(), kind.as_ptr());
        }
        if within(co, || ffi::lua_closethread(co, state)) == ffi::LUA_OK {
            ffi::lua_pushboolean(state, 1);
            1
        } else {
            ffi::lua_pushboolean(state, 0);
            ffi::lua_xmove(co, state, 1);
            2
        }
    }
}

unsafe extern "C-unwind" fn xpcall(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: as `luaB_xpcall`, with the handler behind `guarded`.
    unsafe {
        let count = ffi::lua_gettop(state);
        ffi::luaL_checktype(state, 2, ffi::LUA_TFUNCTION);
        ffi::lua_pushvalue(state, 2);
        ffi::lua_pushcclosure(state, guarded, 1);
        ffi::lua_replace(state, 2);
        ffi::lua_pushboolean(state, 1);
        ffi::lua_pushvalue(state, 1);
        ffi::lua_rotate(state, 3, 2);
        let status = ffi::lua_pcallk(state, count - 2, ffi::LUA_MULTRET, 2, 2, Some(finish));
        finish(state, status, 2)
    }
}

unsafe extern "C-unwind" fn finish(state: *mut ffi::lua_State, status: c_int, extra: ffi::lua_KContext) -> c_int {
    // SAFETY: as `finishpcall`.
    unsafe {
        if status == ffi::LUA_OK || status == ffi::LUA_YIELD {
            return ffi::lua_gettop(state) - extra as c_int;
        }
        ffi::lua_pushboolean(state, 0);
        ffi::lua_pushvalue(state, -2);
        2
    }
}

/// A message handler that does not run for a stop: inside it no hook could end it.
unsafe extern "C-unwind" fn guarded(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua with the message; the handler is the upvalue.
    unsafe {
        if run::stopping() {
            return 1;
        }
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, ffi::lua_gettop(state) - 1, 1);
        1
    }
}
