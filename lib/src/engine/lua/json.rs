//! Lua values as JSON and back, and the global `JSON`.

use mlua::{Lua, LuaSerdeExt, Table, Value};
use serde_json::{Map, Number, Value as Json};

use super::fault::{self, Fault};
use super::run;
use crate::error::{Class, Error, Result};

/// Deeper tables are taken for circular.
const DEEPEST: usize = 128;

/// What a conversion may cost outside of Lua's memory: values, and bytes of text. A table that is in many places counts each time.
const MOST_VALUES: usize = 1 << 20;
const MOST_BYTES: usize = 64 << 20;

/// What is left of them.
struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    fn new() -> Self {
        Budget { values: MOST_VALUES, bytes: MOST_BYTES }
    }

    fn value(&mut self) -> Result<()> {
        self.values = self.values.checked_sub(1).ok_or_else(|| wrong("more than 1048576 values"))?;
        Ok(())
    }

    fn text(&mut self, text: &mlua::LuaString) -> Result<String> {
        self.bytes = self.bytes.checked_sub(text.as_bytes().len()).ok_or_else(|| wrong("more than 64 MiB of text"))?;
        utf8(text)
    }
}

/// `JSON.parse`, `JSON.stringify`, `JSON.null`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let json = lua.create_table()?;
    let parse = |lua: &Lua, text: mlua::LuaString| {
        parseable(&text.as_bytes())?;
        let value: Json = serde_json::from_slice(&text.as_bytes())
            .map_err(|error| Error::new(Class::Usage, format!("JSON parse error: {error}")))?;
        Ok(to_lua(lua, &value)?)
    };
    json.raw_set("parse", fault::function(lua, "parse", parse)?)?;
    let stringify = |lua: &Lua, value: Value| -> Result<String, Fault> {
        let value = from_lua(lua, &value).map_err(|error| error.within("JSON.stringify"))?;
        Ok(value.to_string())
    };
    json.raw_set("stringify", fault::function(lua, "stringify", stringify)?)?;
    json.raw_set("null", Value::NULL)?;
    lua.globals().raw_set("JSON", json)
}

/// Whether the values of `text` are within the budget, without making them.
fn parseable(text: &[u8]) -> Result<()> {
    let too_much = |what: &str| Err(Error::new(Class::Usage, format!("JSON parse error: more than {what}")));
    if text.len() > MOST_BYTES {
        return too_much("64 MiB of text");
    }
    let (mut values, mut in_string, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    if values > MOST_VALUES { too_much("1048576 values") } else { Ok(()) }
}

/// `value` for scripts. Null is nil, so it leaves a hole in an array and nothing in an object.
pub(super) fn to_lua(lua: &Lua, value: &Json) -> mlua::Result<Value> {
    Ok(match value {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                table.raw_set(index + 1, to_lua(lua, item)?)?;
            }
            if items.is_empty() {
                // An empty array stays one on its way back.
                table.set_metatable(Some(lua.array_metatable()))?;
            }
            Value::Table(table)
        }
        Json::Object(members) => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for (key, member) in members {
                table.raw_set(key.as_str(), to_lua(lua, member)?)?;
            }
            Value::Table(table)
        }
    })
}

/// `value` as JSON. A table with `[1]` is an array up to its length, holes null; any other an object whose keys are
/// strings or numbers. Not-a-number and infinities are null.
///
/// # Errors
/// `Usage`: functions, threads, userdata, text that is not UTF-8, a table that is both, too deep, too much.
pub(super) fn from_lua(lua: &Lua, value: &Value) -> Result<Json> {
    convert(lua, value, 0, &mut Budget::new())
}

/// All of `values` within one budget; `None` where any has no such form.
pub(super) fn all_from_lua(lua: &Lua, values: &[&Value]) -> Option<Vec<Json>> {
    let mut budget = Budget::new();
    values.iter().map(|value| convert(lua, value, 0, &mut budget).ok()).collect()
}

fn convert(lua: &Lua, value: &Value, depth: usize, budget: &mut Budget) -> Result<Json> {
    budget.value()?;
    if run::stopping() {
        return Err(Error::new(Class::Interrupted, "interrupted"));
    }
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Boolean(value) => Json::Bool(*value),
        Value::Integer(integer) => Json::Number((*integer).into()),
        Value::Number(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::String(budget.text(text)?),
        Value::LightUserData(pointer) if pointer.0.is_null() => Json::Null,
        Value::Table(_) if depth == DEEPEST => return Err(wrong("table deeper than 128 levels, or circular")),
        Value::Table(table) => convert_table(lua, table, depth + 1, budget)?,
        other => return Err(wrong(format!("a {} has no JSON form", other.type_name()))),
    })
}

fn convert_table(lua: &Lua, table: &Table, depth: usize, budget: &mut Budget) -> Result<Json> {
    let len = table.raw_len();
    let broken = |error: mlua::Error| wrong(fault::first_line(&error));
    if len == 0 && table.metatable().is_some_and(|metatable| metatable == lua.array_metatable()) {
        return Ok(Json::Array(Vec::new()));
    }
    if len > 0 {
        let mut count = 0;
        for pair in table.pairs::<Value, Value>() {
            match pair.map_err(broken)?.0 {
                Value::Integer(key) if key >= 1 && key as u64 <= len as u64 => count += 1,
                key => return Err(wrong(format!("table is both an array and an object: key {}", shown(&key)))),
            }
        }
        let mut items = Vec::with_capacity(count.min(budget.values));
        for index in 1..=len {
            items.push(convert(lua, &table.raw_get(index).map_err(broken)?, depth, budget)?);
        }
        return Ok(Json::Array(items));
    }
    let mut members = Map::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(broken)?;
        let key = match &key {
            Value::String(text) => budget.text(text)?,
            Value::Integer(integer) => integer.to_string(),
            Value::Number(number) => number.to_string(),
            key => return Err(wrong(format!("key {} has no JSON form", shown(key)))),
        };
        members.insert(key, convert(lua, &value, depth, budget)?);
    }
    Ok(Json::Object(members))
}

fn shown(key: &Value) -> String {
    match key {
        Value::String(text) => format!("\"{}\"", text.display()),
        Value::Integer(integer) => integer.to_string(),
        Value::Number(number) => number.to_string(),
        other => format!("of type {}", other.type_name()),
    }
}

fn utf8(text: &mlua::LuaString) -> Result<String> {
    text.to_str().map(|text| text.to_owned()).map_err(|_| wrong("text is not UTF-8"))
}

fn wrong(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}
