//! The global `Debug`: lines for whoever looks for a fault, timers, values as text, memory, the stack.

mod dump;
mod filter;
mod profile;
mod stack;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use log::LevelFilter;
use mlua::{Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};

use super::fault::{self, Fault};
use super::global_logger::{level, no_level, text};
use super::json::{from_lua, to_lua};
use super::output;
use super::stdlib::current;
use crate::engine::Stream;
use crate::error::{Class, Error, Result};
use crate::log::redact;
use crate::runtime::memory;
use dump::Style;
use filter::Filters;
use profile::Profile;

/// Lines that are kept.
const MOST_CAPTURED: usize = 10_000;
/// What they may take together, bytes.
const MOST_BYTES: usize = 16 << 20;
/// Names are cut here, characters.
const LONGEST_NAME: usize = 200;

/// What `Debug` knows of one state.
struct Debugging {
    level: Cell<LevelFilter>,
    enabled: Cell<bool>,
    filters: RefCell<Filters>,
    captured: RefCell<Captured>,
    profile: RefCell<Profile>,
    /// Rounds of the garbage collector since the state was opened.
    collections: Cell<u64>,
    /// When memory was last looked at, and what was in use.
    snapshot: Cell<Option<(Instant, u64)>>,
}

/// The lines that were shown, newest last.
#[derive(Default)]
struct Captured {
    lines: VecDeque<Json>,
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Captured {
    fn keep(&mut self, line: Json, size: usize) {
        self.lines.push_back(line);
        self.sizes.push_back(size);
        self.bytes += size;
        while self.lines.len() > MOST_CAPTURED || self.bytes > MOST_BYTES {
            self.lines.pop_front();
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }
}

impl Debugging {
    /// Shows a line, unless level or filters say no. What nobody listens to is not even put together.
    fn line(&self, lua: &Lua, level: LevelFilter, message: &Value, module: Option<&str>, data: Option<&Json>) {
        let wanted = self.enabled.get() && level != LevelFilter::Off && level <= self.level.get();
        if !wanted || !self.filters.borrow().show(module) {
            return;
        }
        let message = text(lua, message);
        let message = redact(&message);
        let data_text = data.map(Json::to_string).unwrap_or_default();
        let data_text = redact(&data_text);
        let now = SystemTime::now();
        let stamp = humantime::format_rfc3339_millis(now).to_string();
        let mut line = format!("{} {level} ", stamp.replacen('T', " ", 1).trim_end_matches('Z'));
        if let Some(module) = module {
            line.push_str(&format!("[{module}] "));
        }
        line.push_str(&message);
        if data.is_some() {
            line.push_str(&format!(" {data_text}"));
        }
        line.push('\n');
        let mut entry = json!({ "timestamp": stamp, "level": level.as_str(), "message": message });
        if let Some(module) = module {
            entry["module"] = module.into();
        }
        if data.is_some() {
            // Masked text may be no JSON any more.
            entry["metadata"] = serde_json::from_str(&data_text).unwrap_or_else(|_| data_text.into());
        }
        self.captured.borrow_mut().keep(entry, 2 * line.len());
        if let Ok(run) = current() {
            let written = run.output.write(Stream::Stderr, line.as_bytes());
            output::ended(&run, written);
        }
    }

    /// Bytes: what values of the script take, what is reserved for this process and what of it is in memory; collections.
    fn memory(&self, lua: &Lua) -> Json {
        let process = memory();
        json!({
            "used_bytes": lua.used_memory(),
            "allocated_bytes": process.map(|memory| memory.private),
            "resident_bytes": process.map(|memory| memory.resident),
            "collections": self.collections.get(),
        })
    }
}

/// Makes `Debug`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let known = Rc::new(Debugging {
        level: Cell::new(LevelFilter::Info),
        enabled: Cell::new(true),
        filters: RefCell::default(),
        captured: RefCell::default(),
        profile: RefCell::default(),
        collections: Cell::new(0),
        snapshot: Cell::new(None),
    });
    let debug = lua.create_table()?;
    lines(lua, &debug, &known)?;
    filters(lua, &debug, &known)?;
    timers(lua, &debug, &known)?;
    measures(lua, &debug, &known)?;
    dumps(lua, &debug)?;
    count_collections(lua, &known)?;
    lua.globals().raw_set("Debug", debug)
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

/// A module, if one is given.
fn module(value: Option<&Value>) -> Result<Option<String>> {
    match value {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::String(name)) => {
            // It stands in a line.
            let name = name.to_string_lossy();
            Ok(Some(name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()))
        }
        Some(other) => Err(usage(format!("module: text expected, got {}", other.type_name()))),
    }
}

/// The whole number `name` of `options`, if it is there.
fn number(options: &Table, name: &str, into: &mut usize) -> Result<(), Fault> {
    match options.raw_get::<Value>(name)? {
        Value::Nil => {}
        value => match fault::number(&value).filter(|number| *number >= 0.0 && number.fract() == 0.0) {
            Some(number) => *into = number.min(u32::MAX.into()) as usize,
            None => return Err(usage(format!("{name}: a whole number expected")).into()),
        },
    }
    Ok(())
}

/// The choice `name` of `options`, if it is there.
fn choice(options: &Table, name: &str, into: &mut bool) -> Result<(), Fault> {
    match options.raw_get::<Value>(name)? {
        Value::Nil => {}
        Value::Boolean(yes) => *into = yes,
        other => return Err(usage(format!("{name}: true or false expected, got {}", other.type_name())).into()),
    }
    Ok(())
}

/// `log`, `logWithData`, one for each level, the level itself, what was shown.
fn lines(lua: &Lua, debug: &Table, known: &Rc<Debugging>) -> mlua::Result<()> {
    let message = |value: Option<Value>, function: &str| match value {
        Some(Value::Nil) | None => Err(usage(format!("Debug.{function}: a message expected, got nothing"))),
        Some(value) => Ok(value),
    };
    for (name, level) in [
        ("trace", LevelFilter::Trace),
        ("debug", LevelFilter::Debug),
        ("info", LevelFilter::Info),
        ("warn", LevelFilter::Warn),
        ("error", LevelFilter::Error),
    ] {
        let known = Rc::clone(known);
        let write = move |lua: &Lua, (text, about): (Option<Value>, Option<Value>)| {
            let (text, about) = (message(text, name)?, module(about.as_ref())?);
            known.line(lua, level, &text, about.as_deref(), None);
            Ok(())
        };
        debug.raw_set(name, fault::function(lua, name, write)?)?;
    }
    let this = Rc::clone(known);
    let write = move |lua: &Lua, (given, text, about): (Value, Option<Value>, Option<Value>)| {
        let level = level(&given).ok_or_else(|| no_level("Debug.log", &given))?;
        let (text, about) = (message(text, "log")?, module(about.as_ref())?);
        this.line(lua, level, &text, about.as_deref(), None);
        Ok(())
    };
    debug.raw_set("log", fault::function(lua, "log", write)?)?;
    let this = Rc::clone(known);
    let write = move |lua: &Lua, (given, text, data, about): (Value, Option<Value>, Value, Option<Value>)| {
        let level = level(&given).ok_or_else(|| no_level("Debug.logWithData", &given))?;
        let (text, about) = (message(text, "logWithData")?, module(about.as_ref())?);
        let data = match &data {
            // As v0.10 had it.
            Value::Function(_) => Json::Null,
            data => from_lua(lua, data).map_err(|error| error.within("Debug.logWithData: data"))?,
        };
        this.line(lua, level, &text, about.as_deref(), Some(&data));
        Ok(())
    };
    debug.raw_set("logWithData", fault::function(lua, "logWithData", write)?)?;
    let this = Rc::clone(known);
    let set = move |_: &Lua, given: Value| Ok(level(&given).map(|level| this.level.set(level)).is_some());
    debug.raw_set("setLevel", fault::function(lua, "setLevel", set)?)?;
    let this = Rc::clone(known);
    let get = move |_: &Lua, _: MultiValue| Ok(this.level.get().as_str());
    debug.raw_set("getLevel", fault::function(lua, "getLevel", get)?)?;
    let this = Rc::clone(known);
    let set = move |_: &Lua, on: bool| {
        this.enabled.set(on);
        Ok(())
    };
    debug.raw_set("setEnabled", fault::function(lua, "setEnabled", set)?)?;
    let this = Rc::clone(known);
    let get = move |_: &Lua, _: MultiValue| Ok(this.enabled.get());
    debug.raw_set("isEnabled", fault::function(lua, "isEnabled", get)?)?;
    let this = Rc::clone(known);
    let entries = move |lua: &Lua, most: Option<u32>| {
        let captured = this.captured.borrow();
        let before = most.map_or(0, |most| captured.lines.len().saturating_sub(most as usize));
        let entries = captured.lines.iter().skip(before).map(|line| to_lua(lua, line));
        Ok(lua.create_sequence_from(entries.collect::<mlua::Result<Vec<_>>>()?)?)
    };
    debug.raw_set("getCapturedEntries", fault::function(lua, "getCapturedEntries", entries)?)?;
    let this = Rc::clone(known);
    let clear = move |_: &Lua, _: MultiValue| {
        this.captured.take();
        Ok(())
    };
    debug.raw_set("clearCaptured", fault::function(lua, "clearCaptured", clear)?)
}

/// Which modules are shown.
fn filters(lua: &Lua, debug: &Table, known: &Rc<Debugging>) -> mlua::Result<()> {
    let this = Rc::clone(known);
    let add = move |_: &Lua, (pattern, enabled): (String, bool)| {
        let kind = if pattern.contains('*') { "wildcard" } else { "hierarchical" };
        match this.filters.borrow_mut().add(&pattern, kind, enabled) {
            true => Ok(()),
            false => Err(Fault::from(usage("Debug.addModuleFilter: too many or too long patterns"))),
        }
    };
    debug.raw_set("addModuleFilter", fault::function(lua, "addModuleFilter", add)?)?;
    let this = Rc::clone(known);
    let add = move |_: &Lua, (pattern, kind, enabled): (String, String, bool)| {
        Ok(this.filters.borrow_mut().add(&pattern, &kind, enabled))
    };
    debug.raw_set("addAdvancedFilter", fault::function(lua, "addAdvancedFilter", add)?)?;
    let this = Rc::clone(known);
    let remove = move |_: &Lua, pattern: String| Ok(this.filters.borrow_mut().remove(&pattern));
    debug.raw_set("removeModuleFilter", fault::function(lua, "removeModuleFilter", remove)?)?;
    let this = Rc::clone(known);
    let clear = move |_: &Lua, _: MultiValue| {
        this.filters.borrow_mut().clear();
        Ok(())
    };
    debug.raw_set("clearModuleFilters", fault::function(lua, "clearModuleFilters", clear)?)?;
    let this = Rc::clone(known);
    let set = move |_: &Lua, on: bool| {
        this.filters.borrow_mut().by_default = on;
        Ok(())
    };
    debug.raw_set("setDefaultFilterEnabled", fault::function(lua, "setDefaultFilterEnabled", set)?)?;
    let this = Rc::clone(known);
    let summary = move |lua: &Lua, _: MultiValue| Ok(to_lua(lua, &this.filters.borrow().summary())?);
    debug.raw_set("getFilterSummary", fault::function(lua, "getFilterSummary", summary)?)
}

/// What scripts know a timer by.
fn timer_id(id: u64) -> String {
    format!("timer-{id}")
}

fn name(text: &mlua::LuaString) -> String {
    text.to_string_lossy().chars().take(LONGEST_NAME).collect()
}

/// `timer` and what it makes, `recordEvent`.
fn timers(lua: &Lua, debug: &Table, known: &Rc<Debugging>) -> mlua::Result<()> {
    fn number(id: &Value) -> Option<u64> {
        id.as_string()?.to_str().ok()?.strip_prefix("timer-")?.parse().ok()
    }
    fn id(this: &Value, method: &str) -> Result<u64, Fault> {
        let known = this.as_table().and_then(|timer| timer.raw_get::<Value>("id").ok());
        known.and_then(|id| number(&id)).ok_or_else(|| {
            let text = format!("timer.{method}: a timer expected, got {}", this.type_name());
            usage(text).hint(format!("Call it as timer:{method}().")).into()
        })
    }
    let methods = lua.create_table()?;
    let this = Rc::clone(known);
    let stop = move |_: &Lua, timer: Value| Ok(this.profile.borrow_mut().stop(id(&timer, "stop")?));
    methods.raw_set("stop", fault::function(lua, "stop", stop)?)?;
    let this = Rc::clone(known);
    let elapsed = move |_: &Lua, timer: Value| Ok(this.profile.borrow().elapsed(id(&timer, "elapsed")?));
    methods.raw_set("elapsed", fault::function(lua, "elapsed", elapsed)?)?;
    let this = Rc::clone(known);
    let lap = move |_: &Lua, (timer, lap): (Value, mlua::LuaString)| {
        Ok(this.profile.borrow_mut().mark(id(&timer, "lap")?, name(&lap), None))
    };
    methods.raw_set("lap", fault::function(lua, "lap", lap)?)?;
    let metatable = lua.create_table()?;
    metatable.raw_set("__name", "timer")?;
    metatable.raw_set("__index", methods)?;
    let this = Rc::clone(known);
    let start = move |lua: &Lua, called: mlua::LuaString| {
        let timer = lua.create_table()?;
        let Some(id) = this.profile.borrow_mut().start(name(&called)) else {
            return Err(Fault::from(usage("Debug.timer: 10000 timers run").hint("timer:stop() ends one.")));
        };
        timer.raw_set("id", timer_id(id))?;
        timer.raw_set("name", called)?;
        timer.set_metatable(Some(metatable.clone()))?;
        Ok(timer)
    };
    debug.raw_set("timer", fault::function(lua, "timer", start)?)?;
    let this = Rc::clone(known);
    let record = move |lua: &Lua, (timer, event, data): (mlua::LuaString, mlua::LuaString, Value)| {
        let data = from_lua(lua, &data).map_err(|error| error.within("Debug.recordEvent: data"))?;
        let Some(id) = number(&Value::String(timer)) else { return Ok(false) };
        Ok(this.profile.borrow_mut().mark(id, name(&event), Some(data)))
    };
    debug.raw_set("recordEvent", fault::function(lua, "recordEvent", record)?)?;
    let this = Rc::clone(known);
    let report = move |_: &Lua, _: MultiValue| Ok(this.profile.borrow().report());
    debug.raw_set("performanceReport", fault::function(lua, "performanceReport", report)?)?;
    let this = Rc::clone(known);
    let report = move |lua: &Lua, _: MultiValue| {
        let mut report = this.profile.borrow().json();
        report["timestamp"] = humantime::format_rfc3339_millis(SystemTime::now()).to_string().into();
        report["memory"] = this.memory(lua);
        Ok(report.to_string())
    };
    debug.raw_set("jsonReport", fault::function(lua, "jsonReport", report)?)?;
    let this = Rc::clone(known);
    let flames = move |_: &Lua, _: MultiValue| Ok(this.profile.borrow().flames());
    debug.raw_set("flameGraph", fault::function(lua, "flameGraph", flames)?)
}

/// Memory and the stack.
fn measures(lua: &Lua, debug: &Table, known: &Rc<Debugging>) -> mlua::Result<()> {
    let this = Rc::clone(known);
    let stats = move |lua: &Lua, _: MultiValue| Ok(to_lua(lua, &this.memory(lua))?);
    debug.raw_set("memoryStats", fault::function(lua, "memoryStats", stats)?)?;
    let this = Rc::clone(known);
    let snapshot = move |lua: &Lua, _: MultiValue| {
        let mut snapshot = this.memory(lua);
        let used = lua.used_memory() as u64;
        snapshot["timestamp"] = humantime::format_rfc3339_millis(SystemTime::now()).to_string().into();
        if let Some((when, before)) = this.snapshot.replace(Some((Instant::now(), used))) {
            snapshot["since_last"] =
                json!({ "seconds": when.elapsed().as_secs_f64(), "used_bytes": used as i64 - before as i64 });
        }
        Ok(to_lua(lua, &snapshot)?)
    };
    debug.raw_set("memorySnapshot", fault::function(lua, "memorySnapshot", snapshot)?)?;
    fn wanted(options: Option<&Table>) -> Result<stack::Wanted, Fault> {
        let mut wanted = stack::Wanted { max_depth: 50, locals: false, upvalues: false, source: false };
        if let Some(options) = options {
            number(options, "max_depth", &mut wanted.max_depth)?;
            choice(options, "capture_locals", &mut wanted.locals)?;
            choice(options, "capture_upvalues", &mut wanted.upvalues)?;
            choice(options, "include_source", &mut wanted.source)?;
        }
        Ok(wanted)
    }
    let trace = |lua: &Lua, options: Option<Table>| Ok(stack::text(lua, wanted(options.as_ref())?)?);
    debug.raw_set("stackTrace", fault::function(lua, "stackTrace", trace)?)?;
    let trace = |lua: &Lua, options: Option<Table>| Ok(stack::json(lua, wanted(options.as_ref())?)?.to_string());
    debug.raw_set("stackTraceJson", fault::function(lua, "stackTraceJson", trace)?)
}

/// Values as text.
fn dumps(lua: &Lua, debug: &Table) -> mlua::Result<()> {
    for (name, style) in [("dump", dump::USUAL), ("dumpCompact", dump::COMPACT), ("dumpVerbose", dump::VERBOSE)] {
        let dump = move |lua: &Lua, (value, label): (Value, Option<String>)| {
            Ok(dump::dump(lua, &value, style, label.as_deref()))
        };
        debug.raw_set(name, fault::function(lua, name, dump)?)?;
    }
    let dump = |lua: &Lua, (value, options, label): (Value, Option<Table>, Option<String>)| {
        Ok(dump::dump(lua, &value, Style::of(options.as_ref())?, label.as_deref()))
    };
    debug.raw_set("dumpWithOptions", fault::function(lua, "dumpWithOptions", dump)?)
}

/// Has each round of the garbage collector count itself, by a value nobody holds whose finalizer makes the next.
fn count_collections(lua: &Lua, known: &Rc<Debugging>) -> mlua::Result<()> {
    let this = Rc::clone(known);
    let finalizer = move |lua: &Lua, _: Value| {
        this.collections.set(this.collections.get() + 1);
        sentinel(lua)
    };
    let metatable = lua.create_table()?;
    metatable.raw_set("__gc", lua.create_function(finalizer)?)?;
    lua.set_named_registry_value(SENTINEL, metatable)?;
    sentinel(lua)
}

/// Where the metatable of the value is that counts collections.
const SENTINEL: &str = "llmspell.debug.sentinel";

fn sentinel(lua: &Lua) -> mlua::Result<()> {
    let value = lua.create_table()?;
    value.set_metatable(Some(lua.named_registry_value(SENTINEL)?))
}
