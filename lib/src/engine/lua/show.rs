//! Values for people: as one would write them in Lua, keys sorted, with an end.

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::fault;
use super::json;
use super::records::Records;
use super::run;
use crate::engine::Shown;

/// Deeper tables are shown as `{…}`.
const DEEPEST: usize = 8;
/// More entries of one table are counted, not shown.
const WIDEST: usize = 200;
/// Where the text of a table is cut, in bytes.
const LONGEST: usize = 64 << 10;

/// Where a string that is shown as it stands is cut, in bytes.
const MOST: usize = 64 << 20;

/// A table that does not fit into so many characters gets a line for each of its entries.
const LINE: usize = 100;

/// What a script returned; `None` for nothing, a lone nil, and what was shown already.
pub(super) fn shown(lua: &Lua, values: &MultiValue) -> Option<Shown> {
    if values.iter().all(Value::is_nil) && values.len() < 2 {
        return None;
    }
    match values.iter().collect::<Vec<_>>().as_slice() {
        [value] if is_silent(lua, value) => None,
        [value] => Some(one(lua, value)),
        several => {
            let mut texts = String::new();
            for (index, value) in several.iter().enumerate() {
                if index > 0 {
                    texts.push('\t');
                }
                if texts.len() > MOST {
                    texts.push_str(&format!("… {} more", several.len() - index));
                    break;
                }
                texts.push_str(&text(lua, value));
            }
            Some(Shown { text: texts, json: json::all_from_lua(lua, several).map(Into::into), html: None })
        }
    }
}

/// One value in every form it has.
pub(super) fn one(lua: &Lua, value: &Value) -> Shown {
    Shown {
        text: text(lua, value),
        json: json::from_lua(lua, value).ok(),
        html: Records::of(value, None).map(|records| records.html(lua)),
    }
}

/// Handles of what is displayed, and the standard streams, which `io.write` answers.
fn is_silent(lua: &Lua, value: &Value) -> bool {
    match value {
        Value::Table(table) => {
            table.metatable().is_some_and(|metatable| metatable.raw_get("__silent").unwrap_or(false))
        }
        Value::UserData(_) => lua.globals().raw_get::<Table>("io").is_ok_and(|io| {
            ["stdout", "stderr"].iter().any(|name| io.raw_get::<Value>(*name).is_ok_and(|stream| stream == *value))
        }),
        _ => false,
    }
}

/// One value; a string alone stands as it is.
pub(super) fn text(lua: &Lua, value: &Value) -> String {
    match value {
        Value::String(string) => {
            let bytes = string.as_bytes();
            let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).into_owned();
            if bytes.len() > MOST {
                text.push_str(&format!("… {} more bytes", bytes.len() - MOST));
            }
            text
        }
        value => {
            let mut text = String::new();
            add_lines(lua, &mut text, value, &mut Vec::new());
            text
        }
    }
}

/// On one line if it fits there.
fn add_lines(lua: &Lua, text: &mut String, value: &Value, path: &mut Vec<Table>) {
    let mut line = String::new();
    add(lua, &mut line, value, path);
    let table = match value {
        Value::Table(table) if !has_tostring(table) => table,
        _ => return text.push_str(&line),
    };
    if 2 * path.len() + line.chars().count() <= LINE || path.contains(table) || text.len() > LONGEST {
        return text.push_str(&line);
    }
    let length = table.raw_len();
    let keys = keys(table, length);
    if keys.is_empty() && entries(table, length, &keys).all(|(_, value)| !value.is_table()) {
        return text.push_str(&line);
    }
    let indent = "  ".repeat(path.len());
    path.push(table.clone());
    text.push('{');
    for (count, (key, value)) in entries(table, length, &keys).enumerate() {
        text.push_str(&format!("\n{indent}  "));
        if count == WIDEST || text.len() > LONGEST {
            text.push_str(&format!("… {} more", length + keys.len() - count));
            break;
        }
        add_key(lua, text, key, path);
        add_lines(lua, text, &value, path);
        text.push(',');
    }
    path.pop();
    text.push_str(&format!("\n{indent}}}"));
}

fn add(lua: &Lua, text: &mut String, value: &Value, path: &mut Vec<Table>) {
    match value {
        Value::String(string) => quote(text, &string.as_bytes()),
        Value::LightUserData(pointer) if pointer.0.is_null() => text.push_str("JSON.null"),
        Value::Table(table) if !has_tostring(table) => add_table(lua, text, table, path),
        value => text.push_str(&to_string(lua, value)),
    }
}

pub(super) fn has_tostring(table: &Table) -> bool {
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
    let keys = keys(table, length);
    if length == 0 && keys.is_empty() {
        return text.push_str("{}");
    }
    if path.len() == DEEPEST {
        return text.push_str("{…}");
    }
    path.push(table.clone());
    text.push('{');
    for (count, (key, value)) in entries(table, length, &keys).enumerate() {
        if count > 0 {
            text.push_str(", ");
        }
        if count == WIDEST || text.len() > LONGEST {
            text.push_str(&format!("… {} more", length + keys.len() - count));
            break;
        }
        add_key(lua, text, key, path);
        add(lua, text, &value, path);
    }
    text.push('}');
    path.pop();
}

/// The keys beside those of the list, sorted.
fn keys(table: &Table, length: usize) -> Vec<Value> {
    let mut keys: Vec<Value> = Vec::new();
    for (key, _) in table.pairs::<Value, Value>().flatten().take_while(|_| !run::stopping()) {
        if !matches!(key, Value::Integer(key) if key >= 1 && key as u64 <= length as u64) {
            keys.push(key);
        }
    }
    keys.sort_by_cached_key(order);
    keys
}

/// The list, then what has a key.
fn entries<'a>(table: &'a Table, length: usize, keys: &'a [Value]) -> impl Iterator<Item = (Option<&'a Value>, Value)> {
    let items = (1..=length).map(|index| (None, table.raw_get::<Value>(index).unwrap_or(Value::Nil)));
    items.chain(keys.iter().map(|key| (Some(key), table.raw_get::<Value>(key).unwrap_or(Value::Nil))))
}

fn add_key(lua: &Lua, text: &mut String, key: Option<&Value>, path: &mut Vec<Table>) {
    match key {
        Some(Value::String(name)) if is_name(&name.as_bytes()) => text.push_str(&format!("{} = ", name.display())),
        Some(key) => {
            text.push('[');
            add(lua, text, key, path);
            text.push_str("] = ");
        }
        None => {}
    }
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
    let shown = &bytes[..bytes.len().min(LONGEST)];
    text.push('"');
    for chunk in shown.utf8_chunks() {
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
    if bytes.len() > shown.len() {
        text.push_str(&format!("… {} more bytes", bytes.len() - shown.len()));
    }
}
