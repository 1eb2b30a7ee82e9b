//! Looking at a state without running anything in it: raw access only, `__index` is followed when it is a table.
#![expect(unsafe_code, reason = "raw metatables of any value, names of parameters")]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, Lua, Table, Value};
use mlua_sys as ffi;

use super::api::{self, Entry};
use super::cursor::{Base, Chain, Key};
use super::traceback::OWN;
use crate::runtime::Runtime;

/// A chain of `__index` tables is followed so far.
const DEEPEST: usize = 10;
/// More entries of one table are not looked at.
const WIDEST: usize = 100_000;
/// Text of executed scripts that is kept, bytes.
const KEPT: usize = 256 << 10;
/// Longer ones are not.
const LONGEST: usize = KEPT / 4;
/// What one costs besides its text.
const ENTRY: usize = 128;

/// What looking needs besides the state.
pub(super) struct Context {
    pub(super) runtime: Arc<Runtime>,
    pub(super) seen: RefCell<Seen>,
}

/// What was executed.
#[derive(Default)]
pub(super) struct Seen {
    /// The last scripts by chunk name, as they were given; what is read from a file later is not among them.
    scripts: VecDeque<(Rc<str>, Box<[u8]>)>,
    /// Their names.
    names: HashSet<Rc<str>>,
    bytes: usize,
    /// Where relative paths of the last script started.
    pub(super) cwd: Option<PathBuf>,
    /// The folder of the last script that was a file.
    pub(super) folder: Option<PathBuf>,
}

impl Seen {
    /// Keeps the text of a script; one of the same name gives way.
    pub(super) fn keep(&mut self, name: &str, code: &[u8]) {
        if self.names.contains(name)
            && let Some(at) = self.scripts.iter().position(|(kept, _)| **kept == *name)
        {
            self.forget(at);
        }
        if code.len() > LONGEST {
            return;
        }
        self.bytes += code.len() + ENTRY;
        let name: Rc<str> = name.into();
        self.names.insert(Rc::clone(&name));
        self.scripts.push_back((name, code.into()));
        while self.bytes > KEPT {
            self.forget(0);
        }
    }

    fn forget(&mut self, at: usize) {
        if let Some((name, code)) = self.scripts.remove(at) {
            self.names.remove(&name);
            self.bytes -= code.len() + ENTRY;
        }
    }

    /// The script whose place starts `text`, as `lua_Debug.short_src` has it, and what is behind it; Lua cuts long names,
    /// which then are not found.
    pub(super) fn at<'a>(&self, text: &'a str) -> Option<(&[u8], &'a str)> {
        self.scripts.iter().rev().find_map(|(name, code)| {
            let name = name.strip_prefix(['@', '=']).unwrap_or(name);
            Some((&**code, text.strip_prefix(name)?.strip_prefix(':')?))
        })
    }

    /// The text of a numbered cell. What else is kept may be another script of the same name, or a file, which is not
    /// shown without asking the policy.
    pub(super) fn cell(&self, name: &str) -> Option<&str> {
        if !name.starts_with("=[") || name == "=[*]" {
            return None;
        }
        let (_, code) = self.scripts.iter().rev().find(|(cell, _)| **cell == *name)?;
        std::str::from_utf8(code).ok()
    }
}

/// The context of `lua`, set when it was opened.
pub(super) fn context(lua: &Lua) -> Option<Rc<Context>> {
    lua.app_data_ref::<Rc<Context>>().map(|context| Rc::clone(&context))
}

/// What a chain of names leads to.
#[derive(Clone)]
pub(super) enum Thing {
    Value(Value),
    /// A tool, by the name in the registry.
    Tool(String),
    /// Something of a value that is made when it is asked for.
    Row(&'static Entry),
}

/// Follows `chain` through the state.
pub(super) fn resolve(lua: &Lua, chain: &Chain) -> Option<Thing> {
    let (mut thing, keys) = match &chain.base {
        Base::Text => (Thing::Value(Value::String(lua.create_string("").ok()?)), &chain.keys[..]),
        Base::Name(name) => {
            (step(lua, &Thing::Value(Value::Table(lua.globals())), &Key::Name(name.clone()))?, &chain.keys[..])
        }
    };
    for key in keys {
        thing = step(lua, &thing, key)?;
    }
    Some(thing)
}

fn step(lua: &Lua, thing: &Thing, key: &Key) -> Option<Thing> {
    match (thing, key) {
        (Thing::Value(value), Key::Index(index)) => {
            let value: Value = value.as_table()?.raw_get(*index).ok()?;
            (!value.is_nil()).then_some(Thing::Value(value))
        }
        (Thing::Value(value), Key::Name(name)) => match field(lua, value, name) {
            Some(value) => Some(Thing::Value(value)),
            None if is_tool_table(lua, value) => tool_name(lua, name).map(Thing::Tool),
            None => None,
        },
        (Thing::Tool(_), Key::Name(name)) => api::entry(&format!("tool.{name}")).map(Thing::Row),
        _ => None,
    }
}

/// Whether `value` is the global `Tool`, whose `__index` makes tools.
pub(super) fn is_tool_table(lua: &Lua, value: &Value) -> bool {
    let tool: Option<Value> = lua.globals().raw_get("Tool").ok();
    value.is_table() && tool.as_ref() == Some(value)
}

/// The registry's name of a tool.
pub(super) fn tool_name(lua: &Lua, name: &str) -> Option<String> {
    let context = context(lua)?;
    let registry = &context.runtime.registry;
    registry.exists(name).then(|| registry.info(name).ok()).flatten()?["name"].as_str().map(str::to_owned)
}

/// The metatable of any value, whatever its `__metatable` says.
pub(super) fn metatable(lua: &Lua, value: &Value) -> Option<Table> {
    if let Value::Table(table) = value {
        return table.metatable();
    }
    // SAFETY: one value on the stack is replaced by another.
    let metatable: mlua::Result<Value> = unsafe {
        lua.exec_raw(value.clone(), |state| {
            if ffi::lua_getmetatable(state, 1) == 0 {
                ffi::lua_pushnil(state);
            }
            ffi::lua_replace(state, 1);
        })
    };
    match metatable {
        Ok(Value::Table(table)) => Some(table),
        _ => None,
    }
}

/// The tables in which a field of `value` is looked for, in order.
fn tables(lua: &Lua, value: &Value) -> Vec<Table> {
    let mut found: Vec<Table> = Vec::new();
    let mut value = value.clone();
    for _ in 0..DEEPEST {
        if let Value::Table(table) = &value {
            if found.contains(table) {
                break;
            }
            found.push(table.clone());
        }
        match metatable(lua, &value).and_then(|metatable| metatable.raw_get::<Value>("__index").ok()) {
            Some(next @ Value::Table(_)) => value = next,
            _ => break,
        }
    }
    found
}

fn field(lua: &Lua, value: &Value, name: &str) -> Option<Value> {
    tables(lua, value).iter().find_map(|table| table.raw_get(name).ok().filter(|value: &Value| !value.is_nil()))
}

/// The fields of `value` that have names.
pub(super) fn fields(lua: &Lua, value: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for table in tables(lua, value) {
        for (key, value) in table.pairs::<Value, Value>().take(WIDEST).flatten() {
            if let Value::String(key) = key
                && let Ok(key) = key.to_str()
            {
                fields.entry(key.to_owned()).or_insert(value);
            }
        }
    }
    fields
}

/// The row of the reference that describes `value`: a function of ours by identity, a table or constant by its place.
pub(super) fn row(lua: &Lua, value: &Value, path: Option<&str>) -> Option<&'static Entry> {
    let at_home = |entry: &&Entry| {
        let found = resolve(lua, &Chain::of(entry.name));
        matches!(found, Some(Thing::Value(found)) if found == *value)
    };
    match value {
        Value::Function(function) => {
            if !is_ours(function) {
                return None;
            }
            // Most are asked for under their own name.
            if let Some(entry) = path.and_then(api::entry).filter(at_home) {
                return Some(entry);
            }
            let called = |entry: &&Entry| !entry.signature.is_empty() && !api::is_method(entry);
            api::entries().filter(called).find(at_home).or_else(|| {
                let (owner, name) = path?.rsplit_once('.')?;
                let owner = resolve(lua, &Chain::of(owner)).and_then(|thing| match thing {
                    Thing::Value(value) => kind(lua, &value),
                    _ => None,
                });
                let known = owner.into_iter().chain(api::kinds());
                known.filter_map(|kind| api::entry(&format!("{kind}.{name}"))).next()
            })
        }
        _ => path.map(|path| path.strip_prefix("_G.").unwrap_or(path)).and_then(api::entry),
    }
}

/// Which kind of values with methods `value` is of, by the `__name` of its metatable.
fn kind(lua: &Lua, value: &Value) -> Option<&'static str> {
    let name: String = metatable(lua, value)?.raw_get("__name").ok()?;
    let name = if name == "FILE*" { "file" } else { &name };
    api::kinds().find(|kind| *kind == name)
}

/// Whether a function is no script's.
fn is_ours(function: &Function) -> bool {
    let info = function.info();
    info.what == "C" || info.source.as_deref() == Some(OWN)
}

/// `(a, b, ...)` of a function that a script defined.
pub(super) fn parameters(lua: &Lua, function: &Function) -> String {
    let info = function.info();
    if info.what == "C" {
        return "(...)".into();
    }
    let mut names = Vec::new();
    // SAFETY: asks the function on top of the stack, which stays, for the names of its parameters.
    let asked: mlua::Result<()> = unsafe {
        lua.exec_raw(function.clone(), |state| {
            for number in 1..=i32::from(info.num_params) {
                ffi::lua_settop(state, 1);
                let name = ffi::lua_getlocal(state, std::ptr::null(), number);
                let name = if name.is_null() {
                    "?".into()
                } else {
                    std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
                };
                names.push(name);
            }
            ffi::lua_settop(state, 0);
        })
    };
    if asked.is_err() {
        return "(...)".into();
    }
    if info.is_vararg {
        names.push("...".into());
    }
    format!("({})", names.join(", "))
}

/// How a value is called, if it is a function.
pub(super) fn signature(lua: &Lua, value: &Value, path: Option<&str>) -> Option<String> {
    let Value::Function(function) = value else { return None };
    match row(lua, value, path) {
        Some(entry) => Some(entry.signature.to_owned()),
        None => Some(parameters(lua, function)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_and_told_by_their_names() {
        let mut seen = Seen::default();
        for (name, code) in [("=[1]", "a"), ("@x/y.lua", "b"), ("=[*]", "c"), ("=[1]", "d")] {
            seen.keep(name, code.as_bytes());
        }
        assert_eq!(seen.scripts.len(), 3);
        assert_eq!(seen.at("[1]:3: no"), Some((&b"d"[..], "3: no")));
        assert_eq!(seen.at("x/y.lua:7: no"), Some((&b"b"[..], "7: no")));
        assert_eq!(seen.at("x/y.lu:7: no"), None);
        assert_eq!(seen.cell("=[1]"), Some("d"));
        // Of several, and of a file.
        assert_eq!((seen.cell("=[*]"), seen.cell("@x/y.lua")), (None, None));
    }

    #[test]
    fn the_oldest_texts_give_way() {
        let mut seen = Seen::default();
        let long = vec![b' '; LONGEST];
        for cell in 1..=6 {
            seen.keep(&format!("=[{cell}]"), &long);
            assert!(seen.bytes <= KEPT);
        }
        assert!(seen.cell("=[1]").is_none() && seen.cell("=[6]").is_some());
        seen.keep("=[6]", &[&long[..], b" "].concat());
        assert!(seen.cell("=[6]").is_none());
    }
}
