//! `debug` that only looks, and `load` that takes text only. A finalizer runs wherever memory is asked for, also inside the
//! engine's own functions: a look at the stack must never hand out what it finds there.
#![expect(unsafe_code, reason = "C functions for Lua")]

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;

use mlua::{Lua, Table, Value};
use mlua_sys as ffi;

use super::traceback::OWN;
use super::{interrupt, run};

/// Makes `debug` and replaces `load`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    // SAFETY: each is a C function that keeps Lua's stack discipline; `luaopen_debug` leaves one table.
    let (library, load, getlocal) = unsafe {
        let library: Table = lua.exec_raw((), |state| {
            ffi::lua_pushcfunction(state, ffi::luaopen_debug);
            ffi::lua_call(state, 0, 1);
        })?;
        (library, lua.create_c_function(load)?, lua.create_c_function(getlocal)?)
    };
    let own: Value = library.raw_get("getinfo")?;
    // SAFETY: the one value there is becomes the closure's upvalue.
    let getinfo: Value = unsafe { lua.exec_raw(own, |state| ffi::lua_pushcclosure(state, getinfo, 1))? };
    let looking = lua.create_table()?;
    looking.raw_set("traceback", library.raw_get::<Value>("traceback")?)?;
    looking.raw_set("getinfo", getinfo)?;
    looking.raw_set("getlocal", getlocal)?;
    lua.globals().get::<Table>("package")?.get::<Table>("loaded")?.raw_set("debug", &looking)?;
    lua.globals().raw_set("debug", looking)?;
    lua.globals().raw_set("load", load)
}

/// The thread that is looked at, and where the arguments behind it start.
unsafe fn thread(state: *mut ffi::lua_State) -> (*mut ffi::lua_State, c_int) {
    // SAFETY: the caller is a C function called by Lua.
    unsafe { if ffi::lua_type(state, 1) == ffi::LUA_TTHREAD { (ffi::lua_tothread(state, 1), 1) } else { (state, 0) } }
}

/// Whether the function of this level is none of the script's.
unsafe fn hidden(state: *mut ffi::lua_State, info: *mut ffi::lua_Debug) -> bool {
    // SAFETY: `info` came from `lua_getstack`; `S` fills both texts, which end with a zero.
    unsafe {
        ffi::lua_getinfo(state, c"S".as_ptr(), info);
        CStr::from_ptr((*info).what) == c"C" || CStr::from_ptr((*info).source).to_bytes() == OWN.as_bytes()
    }
}

/// The level at `index`; `None` when the stack is not that deep.
unsafe fn level(
    state: *mut ffi::lua_State,
    thread: *mut ffi::lua_State,
    index: c_int,
) -> Option<(c_int, MaybeUninit<ffi::lua_Debug>)> {
    // SAFETY: may raise; nothing here needs dropping.
    unsafe {
        let level = c_int::try_from(ffi::luaL_checkinteger(state, index)).unwrap_or(-1);
        let mut info = MaybeUninit::zeroed();
        (level >= 0 && ffi::lua_getstack(thread, level, info.as_mut_ptr()) != 0).then_some((level, info))
    }
}

/// `getinfo([thread,] f [, what])`: calls the library's, the upvalue, without `f` where the function is none of the script's.
unsafe extern "C-unwind" fn getinfo(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua; nothing here needs dropping.
    unsafe {
        let (thread, first) = thread(state);
        ffi::lua_settop(state, first + 2);
        if ffi::lua_type(state, first + 1) != ffi::LUA_TFUNCTION {
            let Some((number, mut info)) = level(state, thread, first + 1) else {
                ffi::lua_pushnil(state);
                return 1;
            };
            if hidden(thread, info.as_mut_ptr()) {
                let what = ffi::luaL_optlstring(state, first + 2, c"flnSrtu".as_ptr(), std::ptr::null_mut());
                ffi::luaL_gsub(state, what, c"f".as_ptr(), c"".as_ptr());
                ffi::lua_replace(state, first + 2);
            }
            if thread == state {
                // The library's function is one level more.
                ffi::lua_pushinteger(state, ffi::lua_Integer::from(number) + 1);
                ffi::lua_replace(state, first + 1);
            }
        }
        if ffi::lua_type(state, first + 2) == ffi::LUA_TNIL {
            ffi::lua_settop(state, first + 1);
        }
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, ffi::lua_gettop(state) - 1, 1);
        1
    }
}

/// `getlocal([thread,] f, local)`: only variables of the script's own functions, no temporaries.
unsafe extern "C-unwind" fn getlocal(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua; nothing here needs dropping.
    unsafe {
        let (thread, first) = thread(state);
        let number = c_int::try_from(ffi::luaL_checkinteger(state, first + 2)).unwrap_or(c_int::MAX);
        if ffi::lua_type(state, first + 1) == ffi::LUA_TFUNCTION {
            ffi::lua_pushvalue(state, first + 1);
            ffi::lua_pushstring(state, ffi::lua_getlocal(state, std::ptr::null(), number));
            return 1;
        }
        let Some((_, mut info)) = level(state, thread, first + 1) else {
            return ffi::luaL_argerror(state, first + 1, c"level out of range".as_ptr());
        };
        if hidden(thread, info.as_mut_ptr()) {
            ffi::lua_pushnil(state);
            return 1;
        }
        if thread != state && ffi::lua_checkstack(thread, 1) == 0 {
            return ffi::luaL_error(state, c"stack overflow".as_ptr());
        }
        let name = ffi::lua_getlocal(thread, info.as_ptr(), number);
        if name.is_null() {
            ffi::lua_pushnil(state);
            return 1;
        }
        ffi::lua_xmove(thread, state, 1);
        let text = CStr::from_ptr(name);
        if text == c"(temporary)" || text == c"(C temporary)" {
            ffi::lua_pushnil(state);
            return 1;
        }
        if text.to_bytes().starts_with(b"(") && text != c"(vararg)" {
            ffi::lua_pop(state, 1);
            ffi::lua_pushnil(state);
        }
        ffi::lua_pushstring(state, name);
        ffi::lua_insert(state, -2);
        2
    }
}

/// `load` that takes text only. Pieces are collected before Lua's parser starts, so nothing of Lua's own is below the reader.
unsafe extern "C-unwind" fn load(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua; nothing here needs dropping.
    unsafe {
        let has_env = ffi::lua_type(state, 4) != ffi::LUA_TNONE;
        let mode = ffi::luaL_optlstring(state, 3, c"t".as_ptr(), std::ptr::null_mut());
        let mode = if CStr::from_ptr(mode).to_bytes().contains(&b't') { c"t" } else { c"" };
        let mut name: *const c_char = c"=(load)".as_ptr();
        if ffi::lua_isstring(state, 1) == 0 {
            ffi::luaL_checktype(state, 1, ffi::LUA_TFUNCTION);
            name = ffi::luaL_optlstring(state, 2, name, std::ptr::null_mut());
            if !pieces(state) {
                ffi::lua_pushnil(state);
                ffi::lua_insert(state, -2);
                return 2;
            }
        } else {
            ffi::lua_pushvalue(state, 1);
            let text = ffi::lua_tolstring(state, -1, std::ptr::null_mut());
            name = ffi::luaL_optlstring(state, 2, text, std::ptr::null_mut());
        }
        let mut len = 0;
        let text = ffi::lua_tolstring(state, -1, &raw mut len);
        if ffi::luaL_loadbufferx(state, text, len, name, mode.as_ptr()) != ffi::LUA_OK {
            ffi::lua_pushnil(state);
            ffi::lua_insert(state, -2);
            return 2;
        }
        if has_env {
            ffi::lua_pushvalue(state, 4);
            if ffi::lua_setupvalue(state, -2, 1).is_null() {
                ffi::lua_pop(state, 1);
            }
        }
        1
    }
}

/// Leaves what the reader, argument 1, answers call by call, as one string; or the message, when it fails.
unsafe fn pieces(state: *mut ffi::lua_State) -> bool {
    // SAFETY: between the buffer's calls the stack is as it was, and the buffer does not move.
    unsafe {
        let mut buffer = MaybeUninit::uninit();
        let buffer: *mut ffi::luaL_Buffer = buffer.as_mut_ptr();
        ffi::luaL_buffinit(state, buffer);
        loop {
            ffi::luaL_checkstack(state, 2, c"too many nested functions".as_ptr());
            ffi::lua_pushvalue(state, 1);
            if ffi::lua_pcall(state, 0, 1, 0) != ffi::LUA_OK {
                if run::stopping() {
                    interrupt::raise(state);
                }
                return false;
            }
            if ffi::lua_type(state, -1) == ffi::LUA_TNIL {
                break;
            }
            let mut len = 0;
            if ffi::lua_tolstring(state, -1, &raw mut len).is_null() {
                ffi::lua_pushstring(state, c"reader function must return a string".as_ptr());
                return false;
            }
            if len == 0 {
                break;
            }
            ffi::luaL_addvalue(buffer);
        }
        ffi::lua_pop(state, 1);
        ffi::luaL_pushresult(buffer);
        true
    }
}
