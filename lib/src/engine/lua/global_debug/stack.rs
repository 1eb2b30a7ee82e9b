//! The calls that lead to a place of the script, with their variables where asked for. Frames of the engine are left out.
#![expect(unsafe_code, reason = "the raw stack interface")]

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;

use mlua::Lua;
use mlua_sys as ffi;
use serde_json::{Map, Value as Json, json};

use crate::engine::lua::look;
use crate::engine::lua::run;
use crate::engine::lua::traceback::{self, OWN};

/// Frames that are looked at, of ours too.
const DEEPEST: c_int = 10_000;
/// Variables of one frame.
const MOST_VARIABLES: c_int = 250;
/// Text of a variable, bytes.
const LONGEST: usize = 200;

/// What is wanted of each frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) max_depth: usize,
    pub(super) locals: bool,
    pub(super) upvalues: bool,
    pub(super) source: bool,
}

/// One call.
struct Frame {
    /// `t.lua`
    source: String,
    line: c_int,
    name: Option<String>,
    /// `local`, `method` …; `main` for the script itself.
    kind: String,
    locals: Map<String, Json>,
    upvalues: Map<String, Json>,
    code: Option<String>,
}

/// The frames, innermost first, and whether there are more.
fn frames(lua: &Lua, wanted: Wanted) -> mlua::Result<(Vec<Frame>, bool)> {
    let (mut found, mut more) = (Vec::new(), false);
    // SAFETY: what is called here raises nothing: it looks, pushes one value where room was made, and takes it off again.
    unsafe {
        lua.exec_raw::<()>((), |state| {
            let around = run::resumers().filter(|resumer| *resumer != state);
            for state in std::iter::once(state).chain(around) {
                more |= !of_state(state, wanted, &mut found);
            }
        })?;
    }
    if wanted.source
        && let Some(context) = look::context(lua)
    {
        let seen = context.seen.borrow();
        for frame in &mut found {
            let place = format!("{}:", frame.source);
            let code =
                seen.at(&place).and_then(|(code, _)| code.split(|byte| *byte == b'\n').nth(frame.line as usize - 1));
            frame.code = code.map(|line| String::from_utf8_lossy(line).trim().chars().take(LONGEST).collect());
        }
    }
    Ok((found, more))
}

/// Adds the frames of one state; false where there was no room for all.
unsafe fn of_state(state: *mut ffi::lua_State, wanted: Wanted, found: &mut Vec<Frame>) -> bool {
    // SAFETY: `info` is filled by `lua_getstack` and then `lua_getinfo`; its texts end with a zero.
    unsafe {
        if ffi::lua_checkstack(state, 4) == 0 {
            return true;
        }
        let mut info = MaybeUninit::<ffi::lua_Debug>::zeroed();
        let mut level = 0;
        while level < DEEPEST && ffi::lua_getstack(state, level, info.as_mut_ptr()) != 0 {
            level += 1;
            ffi::lua_getinfo(state, c"nSl".as_ptr(), info.as_mut_ptr());
            let known = &*info.as_ptr();
            if known.currentline <= 0 || CStr::from_ptr(known.source).to_bytes() == OWN.as_bytes() {
                continue;
            }
            if found.len() >= wanted.max_depth {
                return false;
            }
            let text = |text: *const std::ffi::c_char| CStr::from_ptr(text).to_string_lossy().into_owned();
            let what = text(known.what);
            let mut frame = Frame {
                source: text(known.short_src.as_ptr()),
                line: known.currentline,
                name: (!known.name.is_null()).then(|| text(known.name)),
                kind: if what == "main" { what } else { text(known.namewhat) },
                locals: Map::new(),
                upvalues: Map::new(),
                code: None,
            };
            if wanted.locals {
                variables(state, &mut frame.locals, |number| ffi::lua_getlocal(state, info.as_ptr(), number));
            }
            if wanted.upvalues {
                ffi::lua_getinfo(state, c"f".as_ptr(), info.as_mut_ptr());
                let function = ffi::lua_gettop(state);
                variables(state, &mut frame.upvalues, |number| ffi::lua_getupvalue(state, function, number));
                ffi::lua_pop(state, 1);
            }
            found.push(frame);
        }
    }
    true
}

/// Adds those variables that have a name; `get` pushes the value of one and answers its name.
unsafe fn variables(
    state: *mut ffi::lua_State,
    into: &mut Map<String, Json>,
    get: impl Fn(c_int) -> *const std::ffi::c_char,
) {
    for number in 1..=MOST_VARIABLES {
        let name = get(number);
        if name.is_null() {
            break;
        }
        // SAFETY: the name ends with a zero, and one value was pushed.
        unsafe {
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            if !name.starts_with('(') && name != "_ENV" {
                into.insert(name, plain(state));
            }
            ffi::lua_pop(state, 1);
        }
    }
}

/// The value on top without asking it: numbers, booleans and text as such, anything else by its kind.
unsafe fn plain(state: *mut ffi::lua_State) -> Json {
    // SAFETY: only looks; a number is not turned into text where it stands.
    unsafe {
        match ffi::lua_type(state, -1) {
            ffi::LUA_TNIL => Json::Null,
            ffi::LUA_TBOOLEAN => (ffi::lua_toboolean(state, -1) != 0).into(),
            ffi::LUA_TNUMBER if ffi::lua_isinteger(state, -1) != 0 => ffi::lua_tointeger(state, -1).into(),
            ffi::LUA_TNUMBER => ffi::lua_tonumber(state, -1).into(),
            ffi::LUA_TSTRING => {
                let bytes = traceback::bytes(state, -1);
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned();
                if bytes.len() > LONGEST { format!("{text}…").into() } else { text.into() }
            }
            kind => format!("<{}>", CStr::from_ptr(ffi::lua_typename(state, kind)).to_string_lossy()).into(),
        }
    }
}

impl Frame {
    fn called(&self) -> String {
        match &self.name {
            _ if self.kind == "main" => "main chunk".into(),
            Some(name) if self.kind.is_empty() => format!("function '{name}'"),
            Some(name) => format!("{} '{name}'", self.kind),
            None => "function".into(),
        }
    }
}

/// As text, a line a frame, its variables below it.
pub(super) fn text(lua: &Lua, wanted: Wanted) -> mlua::Result<String> {
    let (frames, more) = frames(lua, wanted)?;
    let mut text = "stack traceback:".to_owned();
    for frame in &frames {
        text.push_str(&format!("\n\t{}:{}: in {}", frame.source, frame.line, frame.called()));
        text.extend(frame.code.iter().map(|code| format!("\n\t\t> {code}")));
        for (kind, variables) in [("local", &frame.locals), ("upvalue", &frame.upvalues)] {
            text.extend(variables.iter().map(|(name, value)| format!("\n\t\t{kind} {name} = {value}")));
        }
    }
    if more {
        text.push_str("\n\t…");
    }
    Ok(text)
}

/// The same as a value.
pub(super) fn json(lua: &Lua, wanted: Wanted) -> mlua::Result<Json> {
    let (frames, truncated) = frames(lua, wanted)?;
    let frame = |frame: &Frame| {
        let mut told =
            json!({ "function": frame.name, "kind": frame.kind, "source": frame.source, "line": frame.line });
        for (name, wanted, variables) in
            [("locals", wanted.locals, &frame.locals), ("upvalues", wanted.upvalues, &frame.upvalues)]
        {
            if wanted {
                told[name] = Json::Object(variables.clone());
            }
        }
        if let Some(code) = &frame.code {
            told["code"] = code.as_str().into();
        }
        told
    };
    let frames: Vec<_> = frames.iter().map(frame).collect();
    Ok(json!({ "frames": frames, "max_depth": wanted.max_depth, "truncated": truncated }))
}
