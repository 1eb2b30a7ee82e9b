//! Values for people: as one would write them in Lua, keys sorted, with an end.

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::fault;
use super::json;
use super::run;
use crate::engine::Shown;

/// Deeper tables are shown as `{…}`.
const DEEPEST: usize = 8;
/// More entries of one table are counted, not shown.
const WIDEST: usize = 200;
/// Where the whole text is cut, in bytes.
const LONGEST: usize = 64 << 10;

/// What a script returned; `None` for nothing and for a lone nil.
pub(super) fn shown(lua: &Lua, values: &MultiValue) -> Option<Shown> {
    if values.iter().all(Value::is_nil) && values.len() < 2 {
        return None;
    }
    let text = values.iter().map(|value| text(lua, value)).collect::<Vec<_>>().join("\t");
    let json = match values.iter().collect::<Vec<_>>().as_slice() {
        [value] => json::from_lua(lua, value).ok(),
        several => several.iter().map(|value| json::from_lua(lua, value).ok()).collect::<Option<_>>(),
    };
    Some(Shown { text, json })
}

/// One value; a string alone stands as it is.
fn text(lua: &Lua, value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string_lossy(),
        value => {
            let mut text = String::new();
            let mut path = Vec::new();
            add(lua, &mut text, value, &mut path);
            text
        }
    }
}

fn add(lua: &Lua, text: &mut String, value: &Value, path: &mut Vec<Table>) {
    match value {
        Value::String(string) => quote(text, &string.as_bytes()),
        Value::LightUserData(pointer) if pointer.0.is_null() => text.push_str("JSON.null"),
        Value::Table(table) if !has_tostring(table) => add_table(lua, text, table, path),
        value => text.push_str(&to_string(lua, value)),
    }
}

fn has_tostring(table: &Table) -> bool {
    table.metatable().is_some_and(|metatable| {
        ["__tostring", "__name"].iter().any(|name| metatable.raw_get::<Value>(*name).is_ok_and(|value| !value.is_nil()))
    })
}

/// `tostring(value)`, which may run the script's `__tostring`; its failure is not the value's.
pub(super) fn to_string(lua: &Lua, value: &Value) -> String {
    let tostring: mlua::Result<Function> = lua.globals().get("tostring");
    let called = tostring.ok().and_then(|tostring| fault::call(lua, &tostring, value).ok());
    match called.as_ref().and_then(|values| values.front()) {
        Some(Value::String(text)) => text.to_string_lossy(),
        _ => value.type_name().to_owned(),
    }
}

fn add_table(lua: &Lua, text: &mut String, table: &Table, path: &mut Vec<Table>) {
    if path.contains(table) {
        return text.push_str("<cycle>");
    }
    let length = table.raw_len();
    let mut keys: Vec<Value> = Vec::new();
    for (key, _) in table.pairs::<Value, Value>().flatten().take_while(|_| !run::stopping()) {
        if !matches!(key, Value::Integer(key) if key >= 1 && key as u64 <= length as u64) {
            keys.push(key);
        }
    }
    if length == 0 && keys.is_empty() {
        return text.push_str("{}");
    }
    if path.len() == DEEPEST {
        return text.push_str("{…}");
    }
    keys.sort_by_cached_key(order);
    path.push(table.clone());
    text.push('{');
    let items = (1..=length).map(|index| (None, table.raw_get::<Value>(index)));
    let members = keys.iter().map(|key| (Some(key), table.raw_get::<Value>(key)));
    for (count, (key, value)) in items.chain(members).enumerate() {
        if count > 0 {
            text.push_str(", ");
        }
        if count == WIDEST || text.len() > LONGEST {
            text.push_str(&format!("… {} more", length + keys.len() - count));
            break;
        }
        match key {
            Some(Value::String(name)) if is_name(&name.as_bytes()) => text.push_str(&format!("{} = ", name.display())),
            Some(key) => {
                text.push('[');
                add(lua, text, key, path);
                text.push_str("] = ");
            }
            None => {}
        }
        add(lua, text, &value.unwrap_or(Value::Nil), path);
    }
    text.push('}');
    path.pop();
}

/// Numbers first, by value, then strings, then the rest by type.
fn order(key: &Value) -> (u8, i64, Vec<u8>) {
    match key {
        Value::Integer(key) => (0, *key, Vec::new()),
        Value::Number(key) => (0, *key as i64, key.to_string().into_bytes()),
        Value::String(key) => (1, 0, key.as_bytes().to_vec()),
        other => (2, 0, other.type_name().into()),
    }
}

fn is_name(text: &[u8]) -> bool {
    const KEYWORDS: &str = " and break do else elseif end false for function goto if in local nil not or repeat return then true until while ";
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let name = text.first().is_some_and(|byte| !byte.is_ascii_digit()) && text.iter().all(word);
    name && !std::str::from_utf8(text).is_ok_and(|text| KEYWORDS.contains(&format!(" {text} ")))
}

fn quote(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                char if char.is_control() && char.is_ascii() => text.push_str(&format!("\\x{:02x}", char as u32)),
                char => text.push(char),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
}
