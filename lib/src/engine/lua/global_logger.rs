//! The global `Logger`: what a script tells the log of its kernel.

use log::LevelFilter;
use mlua::{Lua, MultiValue, Table, Value};
use serde_json::{Map, Value as Json};

use super::fault::{self, Fault};
use super::json::from_lua;
use super::show;
use crate::error::{Class, Error, Result};

/// The module of what a script logs; a logger with a name has its own below.
const MODULE: &str = "script";
/// Longer names of loggers are refused, bytes.
const LONGEST_NAME: usize = 100;
/// A message is cut here, bytes.
const LONGEST: usize = 64 << 10;

/// Names of levels, as v0.10 took them.
const LEVELS: &[(&str, LevelFilter)] = &[
    ("off", LevelFilter::Off),
    ("none", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("err", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("warning", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

/// A level by its name, or its number from 0 (off) to 5 (trace).
pub(super) fn level(value: &Value) -> Option<LevelFilter> {
    let name = match value {
        Value::String(name) => name.to_string_lossy().to_lowercase(),
        value => {
            let number = fault::number(value).filter(|number| number.fract() == 0.0)?;
            return LevelFilter::iter().find(|level| *level as usize as f64 == number);
        }
    };
    let named = LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level);
    named.or_else(|| LevelFilter::iter().find(|level| (*level as usize).to_string() == name))
}

/// That `value` is none.
pub(super) fn no_level(function: &str, value: &Value) -> Error {
    let given = match value {
        Value::String(name) => format!("{:?}", name.to_string_lossy()),
        value => value.type_name().to_owned(),
    };
    Error::new(Class::Usage, format!("{function}: {given} is no level"))
        .hint("Levels are error, warn, info, debug and trace.")
}

/// Makes `Logger`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let logger = lua.create_table()?;
    let metatable = lua.create_table()?;
    metatable.raw_set("__name", "logger")?;
    metatable.raw_set("__index", &logger)?;
    for (name, level) in [
        ("trace", log::Level::Trace),
        ("debug", log::Level::Debug),
        ("info", log::Level::Info),
        ("warn", log::Level::Warn),
        ("error", log::Level::Error),
    ] {
        let own = metatable.clone();
        let write = move |lua: &Lua, mut args: MultiValue| {
            let this = This::of(lua, &own, &mut args)?;
            this.write(lua, level, args)
        };
        logger.raw_set(name, fault::function(lua, name, write)?)?;
    }
    let own = metatable.clone();
    let write = move |lua: &Lua, mut args: MultiValue| {
        let this = This::of(lua, &own, &mut args)?;
        let given = args.pop_front().unwrap_or(Value::Nil);
        match level(&given).map(|level| level.to_level()) {
            Some(Some(level)) => this.write(lua, level, args),
            Some(None) => Ok(()),
            None => Err(no_level("Logger.log", &given).into()),
        }
    };
    logger.raw_set("log", fault::function(lua, "log", write)?)?;
    let own = metatable.clone();
    let enabled = move |lua: &Lua, mut args: MultiValue| {
        let this = This::of(lua, &own, &mut args)?;
        let given = args.pop_front().unwrap_or(Value::Nil);
        let level = level(&given).ok_or_else(|| no_level("Logger.enabled", &given))?;
        Ok(level.to_level().is_some_and(|level| crate::log::enabled(level, &this.module)))
    };
    logger.raw_set("enabled", fault::function(lua, "enabled", enabled)?)?;
    let own = metatable.clone();
    let get = move |lua: &Lua, mut args: MultiValue| {
        let this = This::of(lua, &own, &mut args)?;
        let name = name(args.front())?;
        this.derived(lua, Some(&name), &Map::new(), &own)
    };
    logger.raw_set("get", fault::function(lua, "get", get)?)?;
    let own = metatable;
    let with = move |lua: &Lua, mut args: MultiValue| {
        let this = This::of(lua, &own, &mut args)?;
        this.derived(lua, None, &fields(lua, args.front(), "Logger.with")?, &own)
    };
    logger.raw_set("with", fault::function(lua, "with", with)?)?;
    lua.globals().raw_set("Logger", logger)
}

/// The logger a function was called of.
struct This {
    module: String,
    /// What every message of it tells.
    fields: Map<String, Json>,
}

impl This {
    /// `logger:info(…)`, `Logger:info(…)` and `Logger.info(…)`.
    fn of(lua: &Lua, own: &Table, args: &mut MultiValue) -> Result<Self, Fault> {
        let mut this = This { module: MODULE.into(), fields: Map::new() };
        let Some(Value::Table(first)) = args.front() else { return Ok(this) };
        if own.raw_get::<Value>("__index")? == Value::Table(first.clone()) {
            args.pop_front();
        } else if first.metatable().as_ref() == Some(own) {
            if let Some(name) = first.raw_get::<Option<Value>>("name")? {
                this.module = format!("{MODULE}::{}", name_of(&name)?);
            }
            this.fields = fields(lua, Some(&first.raw_get("fields")?), "Logger")?;
            args.pop_front();
        }
        Ok(this)
    }

    fn write(&self, lua: &Lua, level: log::Level, args: MultiValue) -> Result<(), Fault> {
        let Some(message) = args.front() else {
            return Err(Error::new(
                Class::Usage,
                format!("Logger.{}: a message expected, got nothing", name_of_level(level)),
            )
            .into());
        };
        let given = fields(lua, args.get(1), "Logger")?;
        if !crate::log::enabled(level, &self.module) {
            return Ok(());
        }
        let mut fields = self.fields.clone();
        fields.extend(given);
        crate::log::event(level, &self.module, &text(lua, message), &fields);
        Ok(())
    }

    /// A logger below this one.
    fn derived(&self, lua: &Lua, name: Option<&str>, more: &Map<String, Json>, own: &Table) -> Result<Table, Fault> {
        let logger = lua.create_table()?;
        let above = self.module.strip_prefix(MODULE).unwrap_or_default().trim_start_matches("::");
        let name = match (above, name) {
            ("", name) => name.map(str::to_owned),
            (above, None) => Some(above.to_owned()),
            (above, Some(name)) => Some(format!("{above}::{name}")),
        };
        if let Some(name) = &name {
            name_of(&Value::String(lua.create_string(name)?))?;
        }
        logger.raw_set("name", name)?;
        let mut fields = self.fields.clone();
        fields.extend(more.clone());
        logger.raw_set("fields", super::json::to_lua(lua, &Json::Object(fields))?)?;
        logger.set_metatable(Some(own.clone()))?;
        Ok(logger)
    }
}

/// A message as text, not too long.
pub(super) fn text(lua: &Lua, message: &Value) -> String {
    let mut text = show::text(lua, message);
    if text.len() > LONGEST {
        let cut = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

fn name_of_level(level: log::Level) -> String {
    level.as_str().to_lowercase()
}

/// The name of a logger: a part of a module's name, which stands in a line as it is.
fn name(value: Option<&Value>) -> Result<String> {
    match value {
        Some(value) => name_of(value),
        None => Err(Error::new(Class::Usage, "Logger.get: a name expected, got nothing")),
    }
}

fn name_of(value: &Value) -> Result<String> {
    let text = match value {
        Value::String(name) => name.to_string_lossy(),
        value => {
            return Err(Error::new(Class::Usage, format!("Logger.get: a name expected, got {}", value.type_name())));
        }
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(fits) {
        return Err(Error::new(Class::Usage, format!("Logger.get: {text:?} is no name of a logger"))
            .hint("Letters, digits and _ - . : make one."));
    }
    Ok(text)
}

fn fields(lua: &Lua, value: Option<&Value>, function: &str) -> Result<Map<String, Json>, Fault> {
    let given = match value {
        None | Some(Value::Nil) => return Ok(Map::new()),
        Some(value @ Value::Table(_)) => {
            from_lua(lua, value).map_err(|error| error.within(format!("{function}: fields")))?
        }
        Some(other) => {
            let text = format!("{function}: fields: a table expected, got {}", other.type_name());
            return Err(Error::new(Class::Usage, text).into());
        }
    };
    match given {
        Json::Object(fields) => Ok(fields),
        Json::Array(list) if list.is_empty() => Ok(Map::new()),
        _ => Err(Error::new(Class::Usage, format!("{function}: fields: names expected as keys")).into()),
    }
}
