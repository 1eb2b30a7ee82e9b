//! Lua's file handles over descriptors the policy opened, and over pipes to programs. No function that opens by name is left.
#![expect(unsafe_code, reason = "fills the userdata Lua's own methods of files work on")]

use std::ffi::{CStr, c_int};
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use mlua::{AnyUserData, Lua};
use mlua_sys as ffi;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::fault::Fault;
use super::process;
use super::run::Run;
use crate::error::{Error, Result};

/// `luaL_Stream`, and what a pipe needs besides; Lua looks at the first two only.
#[repr(C)]
struct Handle {
    file: *mut libc::FILE,
    /// None: closed.
    close: Option<ffi::lua_CFunction>,
    /// The program at the other end of a pipe.
    child: libc::pid_t,
}

/// Name of the metatable Lua's library gives its files.
const METATABLE: &CStr = c"FILE*";

/// More is not read at once, bytes: mlua's allocator ends the process where a size does not even fit into memory.
const MOST: ffi::lua_Number = (1 << 30) as ffi::lua_Number;

/// Has the library's own methods look at the sizes they are given.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    // SAFETY: the metatable and its methods are there since the library was opened; the stack is as before at the end.
    unsafe {
        lua.exec_raw((), |state| {
            ffi::luaL_getmetatable(state, METATABLE.as_ptr());
            ffi::lua_getfield(state, -1, c"__index".as_ptr());
            for name in [c"read", c"lines"] {
                ffi::lua_getfield(state, -1, name.as_ptr());
                ffi::lua_pushcclosure(state, sized, 1);
                ffi::lua_setfield(state, -2, name.as_ptr());
            }
            ffi::lua_settop(state, 0);
        })
    }
}

/// Calls its upvalue, unless an argument is a size that is too large.
unsafe extern "C-unwind" fn sized(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua; nothing here needs dropping.
    unsafe {
        let count = ffi::lua_gettop(state);
        for index in 2..=count {
            if ffi::lua_type(state, index) == ffi::LUA_TNUMBER && ffi::lua_tonumber(state, index) > MOST {
                return ffi::luaL_argerror(state, index, c"more than 1 GiB at once".as_ptr());
            }
        }
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, count, ffi::LUA_MULTRET);
        ffi::lua_gettop(state)
    }
}

/// A handle for `file`.
pub(super) fn plain(lua: &Lua, file: OwnedFd, mode: &CStr) -> Result<AnyUserData, Fault> {
    handle(lua, file, mode, 0, close)
}

/// A handle for a pipe to `child`, which closing waits for.
pub(super) fn piped(lua: &Lua, pipe: OwnedFd, mode: &CStr, child: libc::pid_t) -> Result<AnyUserData, Fault> {
    handle(lua, pipe, mode, child, close_pipe)
}

fn handle(
    lua: &Lua,
    fd: OwnedFd,
    mode: &CStr,
    child: libc::pid_t,
    close: ffi::lua_CFunction,
) -> Result<AnyUserData, Fault> {
    let mut handle: *mut Handle = std::ptr::null_mut();
    // SAFETY: leaves its one value, closed as far as Lua can see; held by the caller, it stays where it is. `fdopen` takes the
    // descriptor over when it succeeds.
    unsafe {
        let userdata: AnyUserData = lua.exec_raw((), |state| {
            handle = ffi::lua_newuserdatauv(state, size_of::<Handle>(), 0).cast();
            handle.write(Handle { file: std::ptr::null_mut(), close: None, child });
            ffi::luaL_setmetatable(state, METATABLE.as_ptr());
        })?;
        let file = libc::fdopen(fd.as_raw_fd(), mode.as_ptr());
        if file.is_null() {
            return Err(Error::system("open", std::io::Error::last_os_error()).into());
        }
        _ = fd.into_raw_fd();
        (*handle).file = file;
        (*handle).close = Some(close);
        Ok(userdata)
    }
}

unsafe extern "C-unwind" fn close(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: Lua calls this once for a handle it has marked as closed.
    unsafe {
        let handle: *mut Handle = ffi::luaL_checkudata(state, 1, METATABLE.as_ptr()).cast();
        ffi::luaL_fileresult(state, c_int::from(libc::fclose((*handle).file) == 0), std::ptr::null())
    }
}

unsafe extern "C-unwind" fn close_pipe(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: as in `close`; only handles of `piped` have this function.
    unsafe {
        let handle: *mut Handle = ffi::luaL_checkudata(state, 1, METATABLE.as_ptr()).cast();
        if Run::current().is_none() {
            impatient(BorrowedFd::borrow_raw(libc::fileno((*handle).file)));
        }
        libc::fclose((*handle).file);
        let (kind, code) = process::ended((*handle).child);
        if kind == c"exit" && code == 0 {
            ffi::lua_pushboolean(state, 1);
        } else {
            ffi::lua_pushnil(state);
        }
        ffi::lua_pushstring(state, kind.as_ptr());
        ffi::lua_pushinteger(state, code.into());
        3
    }
}

/// Whether reading and writing it ends: pipes and devices may wait for ever, or never end.
pub(super) fn is_tame(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    let null = || std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == metadata.rdev());
    kind.is_file() || kind.is_dir() || kind.is_char_device() && null()
}

/// Makes it wait where the policy opened it not to.
pub(super) fn patient(file: &File) -> std::io::Result<()> {
    Ok(fcntl_setfl(file, fcntl_getfl(file)? - OFlags::NONBLOCK)?)
}

/// Makes it not wait.
pub(super) fn impatient(file: BorrowedFd<'_>) {
    if let Ok(flags) = fcntl_getfl(file) {
        fcntl_setfl(file, flags | OFlags::NONBLOCK).ok();
    }
}

/// Writes out what files that are still open hold back.
pub(super) fn flush_all() {
    // SAFETY: the null pointer stands for all of them.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}
