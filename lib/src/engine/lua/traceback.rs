//! Where an error came from, as far as the script's author is concerned: frames of the engine itself are left out.
#![expect(unsafe_code, reason = "the raw stack interface")]

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;

use mlua_sys as ffi;

use super::run::{self, Run};

/// The chunk name of the engine's own Lua code.
pub(super) const OWN: &str = "=[llmspell]";

/// Functions of Rust that only this code calls.
const ENGINES_OWN: [&str; 2] = ["[C]: in ?", "[C]: in upvalue 'fail'"];

/// Where something happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    /// `file:line: ` of the innermost line of the script, or nothing.
    pub(super) place: String,
    /// A line each, innermost first.
    pub(super) lines: Vec<String>,
}

/// Keeps in the running script where it is now, from `level` of the stack on, with the coroutines it is in. `first`: unless
/// something is kept already.
///
/// # Safety
/// As [`super::interrupt::raise`]: may raise for want of memory.
pub(super) unsafe fn record(state: *mut ffi::lua_State, level: c_int, first: bool) {
    /// Tracebacks put together; a chain of coroutines deeper than this is cut.
    const MOST: usize = 20;
    if first && Run::current().is_none_or(|run| run.trace.borrow().is_some()) {
        return;
    }
    // SAFETY: until `copy` only Lua values are held; from there on nothing raises.
    unsafe {
        ffi::luaL_checkstack(state, MOST as c_int + 10, c"traceback".as_ptr());
        ffi::luaL_traceback(state, state, std::ptr::null(), level);
        let mut count = 1;
        for resumer in run::resumers().take(MOST) {
            if resumer != state {
                ffi::lua_pushstring(state, c"\n".as_ptr());
                ffi::luaL_traceback(state, resumer, std::ptr::null(), 0);
                count += 2;
            }
        }
        ffi::lua_concat(state, count);
        copy(state);
        ffi::lua_pop(state, 1);
    }
}

/// Moves the text on top of the stack into the running script.
unsafe fn copy(state: *mut ffi::lua_State) {
    let Some(run) = Run::current() else { return };
    // SAFETY: the top of the stack is a string.
    let text = unsafe { bytes(state, -1) };
    let lines = String::from_utf8_lossy(text)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("stack traceback:"))
        .filter(|line| !line.starts_with("[llmspell]:") && !ENGINES_OWN.contains(line))
        .map(str::to_owned)
        .collect();
    // SAFETY: the caller's state.
    let place = unsafe { place(state) };
    run.trace.replace(Some(Trace { place, lines }));
}

/// `file:line: ` of the innermost function that is the script's.
///
/// # Safety
/// `state` is a live state of this thread. Raises nothing.
pub(super) unsafe fn place(state: *mut ffi::lua_State) -> String {
    // SAFETY: `lua_getinfo` fills what `S` and `l` ask for, and both strings end with a zero.
    unsafe {
        let mut info = MaybeUninit::<ffi::lua_Debug>::zeroed();
        let mut level = 0;
        while ffi::lua_getstack(state, level, info.as_mut_ptr()) != 0 {
            ffi::lua_getinfo(state, c"Sl".as_ptr(), info.as_mut_ptr());
            let info = &*info.as_ptr();
            if info.currentline > 0 && CStr::from_ptr(info.source).to_bytes() != OWN.as_bytes() {
                let source = CStr::from_ptr(info.short_src.as_ptr()).to_string_lossy();
                return format!("{source}:{}: ", info.currentline);
            }
            level += 1;
        }
    }
    String::new()
}

/// The string at `index`.
///
/// # Safety
/// It is a string and stays on the stack as long as the slice is used.
pub(super) unsafe fn bytes<'a>(state: *mut ffi::lua_State, index: c_int) -> &'a [u8] {
    // SAFETY: by contract, `lua_tolstring` answers a valid pointer and length.
    unsafe {
        let mut len = 0;
        let text = ffi::lua_tolstring(state, index, &raw mut len);
        std::slice::from_raw_parts(text.cast(), len)
    }
}

/// Message handler of the script's outermost call: keeps the traceback, changes nothing.
pub(super) unsafe extern "C-unwind" fn handler(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua where the error was raised. What a stop has recorded stays.
    unsafe { record(state, 1, run::stopping()) };
    1
}
