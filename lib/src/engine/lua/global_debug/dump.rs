//! A value as text with its types and lengths, for whoever looks for a fault. Asks no metatable.

use mlua::{Lua, Table, Value};

use crate::engine::lua::fault::Fault;
use crate::engine::lua::run;

/// Deeper is not gone whatever the options say: the stack is ours.
const DEEPEST: usize = 100;
/// The text is cut here, bytes.
const LONGEST: usize = 4 << 20;
/// Keys of one table that are sorted; of a larger one some.
const MOST_KEYS: usize = 100_000;

/// How much is shown, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) max_depth: usize,
    pub(super) indent_size: usize,
    pub(super) max_string_length: usize,
    pub(super) max_array_elements: usize,
    pub(super) max_table_pairs: usize,
    pub(super) show_types: bool,
    pub(super) show_addresses: bool,
    pub(super) compact_mode: bool,
}

pub(super) const USUAL: Style = Style {
    max_depth: 10,
    indent_size: 2,
    max_string_length: 200,
    max_array_elements: 50,
    max_table_pairs: 50,
    show_types: true,
    show_addresses: false,
    compact_mode: false,
};

pub(super) const COMPACT: Style = Style {
    max_depth: 3,
    max_string_length: 50,
    max_array_elements: 10,
    max_table_pairs: 10,
    show_types: false,
    compact_mode: true,
    ..USUAL
};

pub(super) const VERBOSE: Style = Style {
    max_depth: 20,
    indent_size: 4,
    max_string_length: 1000,
    max_array_elements: 200,
    max_table_pairs: 200,
    ..USUAL
};

impl Style {
    /// The usual one with what `options` change.
    pub(super) fn of(options: Option<&Table>) -> Result<Self, Fault> {
        let mut style = USUAL;
        let Some(options) = options else { return Ok(style) };
        for (name, number) in [
            ("max_depth", &mut style.max_depth),
            ("indent_size", &mut style.indent_size),
            ("max_string_length", &mut style.max_string_length),
            ("max_array_elements", &mut style.max_array_elements),
            ("max_table_pairs", &mut style.max_table_pairs),
        ] {
            super::number(options, name, number)?;
        }
        for (name, choice) in [
            ("show_types", &mut style.show_types),
            ("show_addresses", &mut style.show_addresses),
            ("compact_mode", &mut style.compact_mode),
        ] {
            super::choice(options, name, choice)?;
        }
        style.indent_size = style.indent_size.min(40);
        Ok(style)
    }
}

/// `value`, behind `label` if there is one.
pub(super) fn dump(_: &Lua, value: &Value, style: Style, label: Option<&str>) -> String {
    let mut text = label.map(|label| format!("{label}: ")).unwrap_or_default();
    Dump { style, text: &mut text, path: Vec::new() }.add(value);
    text
}

struct Dump<'a> {
    style: Style,
    text: &'a mut String,
    /// The tables around.
    path: Vec<Table>,
}

impl Dump<'_> {
    fn note(&mut self, note: &str) {
        if self.style.show_types {
            self.text.push_str(&format!(" ({note})"));
        }
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::Nil => self.text.push_str("nil"),
            Value::Boolean(yes) => {
                self.text.push_str(&yes.to_string());
                self.note("boolean");
            }
            Value::Integer(number) => {
                self.text.push_str(&number.to_string());
                self.note("integer");
            }
            Value::Number(number) => {
                self.text.push_str(&format!("{number:?}"));
                self.note("number");
            }
            Value::String(string) => self.string(string),
            Value::Table(table) => self.table(table),
            other => {
                self.text.push_str(&format!("<{}>", other.type_name()));
                self.address(other);
            }
        }
    }

    fn address(&mut self, value: &Value) {
        if self.style.show_addresses {
            self.text.push_str(&format!(" @{:p}", value.to_pointer()));
        }
    }

    fn string(&mut self, string: &mlua::LuaString) {
        let whole = string.to_string_lossy();
        let count = whole.chars().count();
        let shown: String = whole.chars().take(self.style.max_string_length).collect();
        self.text.push_str(&format!("{shown:?}"));
        if count > self.style.max_string_length {
            self.text.push('…');
        }
        self.note(&format!("string, {count} chars"));
    }

    fn table(&mut self, table: &Table) {
        if self.path.contains(table) {
            return self.text.push_str("<circular reference>");
        }
        let length = table.raw_len();
        let mut keys: Vec<Value> =
            table.pairs::<Value, Value>().flatten().take(MOST_KEYS).map(|(key, _)| key).collect();
        let listed = |key: &Value| matches!(key, Value::Integer(at) if *at >= 1 && *at as u64 <= length as u64);
        let is_list = length > 0 && keys.iter().all(listed);
        let (open, shut) = if is_list { ('[', ']') } else { ('{', '}') };
        if self.path.len() >= self.style.max_depth.min(DEEPEST) {
            self.text.push_str(&format!("{open}…{shut}"));
            return self.note(&format!("{} entries, too deep", keys.len()));
        }
        self.text.push(open);
        let (kind, count) = if is_list { ("array", length) } else { ("table", keys.len()) };
        if self.style.show_types && !self.style.compact_mode {
            let unit = if is_list { "elements" } else { "pairs" };
            self.text.push_str(&format!(" ({kind}, {count} {unit})"));
        }
        self.address(&Value::Table(table.clone()));
        self.path.push(table.clone());
        let most = if is_list { self.style.max_array_elements } else { self.style.max_table_pairs };
        if is_list {
            keys = (1..=length.min(most)).map(|at| Value::Integer(at as i64)).collect();
        } else {
            keys.sort_by_cached_key(order);
        }
        for (at, key) in keys.iter().take(most).enumerate() {
            if run::stopping() || self.text.len() > LONGEST {
                break;
            }
            self.separate(at > 0);
            if !is_list {
                self.key(key);
            }
            self.add(&table.raw_get(key.clone()).unwrap_or(Value::Nil));
        }
        if count > most {
            self.separate(most > 0);
            self.text.push_str(&format!("… {} more", count - most));
        }
        self.path.pop();
        if !self.style.compact_mode && count > 0 {
            self.line();
        }
        self.text.push(shut);
    }

    fn separate(&mut self, comma: bool) {
        if comma {
            self.text.push(',');
        }
        match self.style.compact_mode {
            true if comma => self.text.push(' '),
            true => {}
            false => self.line(),
        }
    }

    fn line(&mut self) {
        self.text.push('\n');
        self.text.push_str(&" ".repeat(self.style.indent_size * self.path.len()));
    }

    fn key(&mut self, key: &Value) {
        let text = match key {
            Value::String(name) => {
                let name = name.to_string_lossy();
                let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if plain { name } else { format!("[{:?}]", name.chars().take(200).collect::<String>()) }
            }
            Value::Integer(number) => format!("[{number}]"),
            Value::Number(number) => format!("[{number:?}]"),
            Value::Boolean(yes) => format!("[{yes}]"),
            other => format!("[<{}>]", other.type_name()),
        };
        self.text.push_str(&format!("{text} = "));
    }
}

/// Numbers by their size, then text, then the rest.
fn order(key: &Value) -> (u8, i64, String) {
    match key {
        Value::Integer(number) => (0, *number, String::new()),
        Value::Number(number) => (0, *number as i64, String::new()),
        Value::String(name) => (1, 0, name.to_string_lossy()),
        other => (2, 0, other.type_name().to_owned()),
    }
}
