//! One TOML text, taken apart: its settings with lines, what it has of v0.10, what is wrong with it.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use toml::Value;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Table};

use super::former::{self, Fate, Former};
use super::keys::{self, Key, Node};
use crate::error::{Class, Error};

/// Something wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `config ./llmspell.toml:12`, `environment LLMSPELL_LOG_LEVEL` or a flag.
    pub place: String,
    /// The key, if it is known.
    pub key: Option<String>,
    /// What is wrong.
    pub text: String,
    /// The next step.
    pub hint: Option<String>,
    pub(super) class: Class,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.place, self.text),
            None => write!(f, "{}: {}", self.place, self.text),
        }
    }
}

impl Problem {
    pub(super) fn new(place: impl Into<String>, key: Option<String>, text: impl Into<String>) -> Self {
        Problem { place: place.into(), key, text: text.into(), hint: None, class: Class::Config }
    }

    pub(super) fn into_error(self) -> Error {
        let error = Error::new(self.class, self.to_string());
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// One setting of a file.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) key: &'static Key,
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) line: usize,
}

/// Something of a file that this version does not take.
#[derive(Debug)]
pub(super) struct Dropped {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// None: nobody knows it.
    pub(super) row: Option<&'static Former>,
    /// The value, if it is no table.
    pub(super) value: Option<Value>,
    /// From first to last byte of each setting in it.
    pub(super) spans: Vec<Range<usize>>,
}

/// A file taken apart.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) settings: Vec<Setting>,
    pub(super) dropped: Vec<Dropped>,
    /// Line, key, text, hint.
    pub(super) wrong: Vec<(usize, Option<String>, String, Option<String>)>,
    /// Where every setting, taken or not, stands.
    pub(super) spans: Vec<Range<usize>>,
}

/// Takes `text` apart. When it is not TOML, only that is found.
pub(super) fn read(text: &str) -> Found {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, found: Found::default() };
    if errors.is_empty() {
        reader.table(table.get_ref(), &mut Vec::new());
    }
    for error in errors {
        let line = reader.line(error.span().map_or(0, |span| span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        reader.found.wrong.push((line, None, message, None));
    }
    reader.found.wrong.sort_by_key(|(line, ..)| *line);
    reader.found
}

struct Reader<'a> {
    text: &'a str,
    found: Found,
}

impl Reader<'_> {
    /// The line of byte `at`, from 1.
    fn line(&self, at: usize) -> usize {
        self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
    }

    fn table(&mut self, table: &DeTable<'_>, path: &mut Vec<String>) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            self.entry(name.span(), value, path);
            path.pop();
        }
    }

    fn entry(&mut self, name: Range<usize>, value: &Spanned<DeValue<'_>>, path: &mut Vec<String>) {
        let line = self.line(name.start);
        let refuse = |text: String, hint| (line, Some(keys::dotted(path)), text, hint);
        match (keys::find(path), value.get_ref()) {
            (Some(Node::Section | Node::Map), DeValue::Table(table)) => self.table(table, path),
            (Some(Node::Section), _) => {
                let hint = format!("Its settings go below a line [{}].", keys::dotted(path));
                self.found.wrong.push(refuse("is a section, not a setting".into(), Some(hint)));
            }
            (Some(Node::Map), _) => self.found.wrong.push(refuse("is not a table".into(), None)),
            (Some(Node::Key(key)), _) => {
                self.found.spans.push(name.start..value.span().end);
                let line = self.line(value.span().start);
                let value = plain(value);
                match key.check(path, &value) {
                    Ok(()) => self.found.settings.push(Setting { key, path: path.clone(), value, line }),
                    Err(text) => {
                        let hint = key.example().map(|like| format!("Write it like {like}."));
                        self.found.wrong.push((line, Some(keys::dotted(path)), text, hint));
                    }
                }
            }
            (None, inner) => {
                let (row, on_the_way) = former::find(path);
                if let (Some(Former { fate: Fate::Up, .. }), DeValue::Table(table)) = (row, inner) {
                    self.found.dropped.push(Dropped { path: path.clone(), line, row, value: None, spans: Vec::new() });
                    let mut above = path[..path.len() - 1].to_vec();
                    return self.table(table, &mut above);
                }
                if let (true, DeValue::Table(table)) = (on_the_way, inner) {
                    return self.table(table, path);
                }
                if row.is_none() {
                    let meant = keys::nearest(path).map(|near| format!("; did you mean {near}?"));
                    self.found.wrong.push(refuse(format!("unknown key{}", meant.unwrap_or_default()), None));
                }
                let mut spans = Vec::new();
                leaves(name, value, &mut spans);
                self.found.spans.extend(spans.iter().cloned());
                let value = (!value.get_ref().is_table()).then(|| plain(value));
                self.found.dropped.push(Dropped { path: path.clone(), line, row, value, spans });
            }
        }
    }
}

/// Where the settings in `value` stand. Tables in braces count as one setting.
fn leaves(name: Range<usize>, value: &Spanned<DeValue<'_>>, spans: &mut Vec<Range<usize>>) {
    let whole = name.start..value.span().end.max(name.end);
    match value.get_ref() {
        DeValue::Table(table) => table.iter().for_each(|(name, value)| leaves(name.span(), value, spans)),
        // [[name]]: what is inside comes after the name; else it is a value.
        DeValue::Array(array) if array.iter().any(|item| item.get_ref().is_table()) => {
            for table in array.iter().filter_map(|item| item.get_ref().as_table()) {
                table.iter().for_each(|(name, value)| leaves(name.span(), value, spans));
            }
        }
        _ => spans.push(whole),
    }
}

/// Without spans.
fn plain(value: &Spanned<DeValue<'_>>) -> Value {
    Value::deserialize(ValueDeserializer::from(value.clone())).unwrap_or_else(|_| Value::Table(Table::new()))
}

impl Dropped {
    /// What to tell of it, if v0.10 knew it.
    pub(super) fn note(&self) -> Option<String> {
        Some(match &self.row?.fate {
            Fate::Gone(why) => format!("{}: {why}", keys::dotted(&self.path)),
            Fate::Up => {
                let above = keys::dotted(&self.path[..self.path.len() - 1]);
                format!("{}: its sections are now called {above}.NAME", keys::dotted(&self.path))
            }
            Fate::Moved(name, unit) => {
                let (_, value) = self.moved()?;
                // Only what changed with its name.
                let value = value.filter(|_| !unit.is_empty()).map_or_else(String::new, |value| format!(" = {value}"));
                format!("{}: now called {name}{value}", keys::dotted(&self.path))
            }
        })
    }

    /// The path it has now, and its value with the unit, if it is a number.
    pub(super) fn moved(&self) -> Option<(Vec<String>, Option<Value>)> {
        let Fate::Moved(name, unit) = &self.row?.fate else { return None };
        let mut path = self.path.clone();
        match name.contains('.') {
            true => path = keys::split(name),
            false => *path.last_mut()? = (*name).to_owned(),
        }
        let value = match self.value.clone() {
            Some(Value::Integer(number)) if !unit.is_empty() => Some(Value::String(format!("{number}{unit}"))),
            value => value,
        };
        Some((path, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        let place = |(line, key, text, _): (usize, Option<String>, String, _)| {
            format!("{line}: {}: {text}", key.unwrap_or_default())
        };
        read(text).wrong.into_iter().map(place).collect()
    }

    #[test]
    fn every_error_has_its_line() {
        for (text, expected) in [
            (
                "[kernel.tools]\n\ntool_timout = 1",
                "3: kernel.tools.tool_timout: unknown key; did you mean tool_timeout?",
            ),
            ("[kernel.tools]\ntool_timeout = '5x'", "2: kernel.tools.tool_timeout: \"5x\" is not a duration"),
            ("kernel.tools.tool_timeout = -1", "1: kernel.tools.tool_timeout: -1 is not a duration"),
            ("\nengines.lua.max_memory_bytes = 'lots'", "2: engines.lua.max_memory_bytes: \"lots\" is not a size"),
            ("security.profile = 'root'", "1: security.profile: \"root\" is not one of safe, standard, privileged"),
            ("security.allow_net = 'x'", "1: security.allow_net: \"x\" is not a list of texts"),
            ("kernel.port = 0", "1: kernel.port: 0 is not a whole number from 1 to 65535"),
            ("kernel.port = 70000", "1: kernel.port: 70000 is not a whole number from 1 to 65535"),
            ("kernel.ip = 'here'", "1: kernel.ip: \"here\" is not an IP address"),
            ("kernel.id = '../x'", "1: kernel.id: \"../x\" is not a kernel id"),
            ("kernel.ip = \"a\\nb\"", "1: kernel.ip: \"a\\nb\" is not an IP address"),
            (
                "tools.http_request.allowed_hosts = []",
                "1: tools.http_request.allowed_hosts: [] is not a list of at least one host",
            ),
            ("kernel = 1", "1: kernel: is a section, not a setting"),
            ("log.modules = 1", "1: log.modules: is not a table"),
            (
                "[log.modules]\na = 'loud'",
                "2: log.modules.a: \"loud\" is not one of off, error, warn, info, debug, trace",
            ),
            ("tool_timeout = 1", "1: tool_timeout: unknown key; did you mean kernel.tools.tool_timeout?"),
            ("\"kernel.tools\" = {}", "1: \"kernel.tools\": unknown key; did you mean kernel?"),
            (
                "[tools.http_request.default_headers]\nAuthorization = 5",
                "2: tools.http_request.default_headers.Authorization: is not a text",
            ),
            ("default_engine = 'perl'", "1: default_engine: \"perl\" is not \"lua\""),
            (
                "kernel.tools.max_concurrent_tools = 0",
                "1: kernel.tools.max_concurrent_tools: 0 is not a whole number from 1 to 256",
            ),
            (
                "kernel.tools.tool_timeout = '9000000000h'",
                "1: kernel.tools.tool_timeout: \"9000000000h\" is not a duration",
            ),
        ] {
            assert_eq!(wrong(text), [expected], "{text}");
        }
        let syntax = wrong("a = 1\nb = = 2\n");
        assert!(syntax[0].starts_with("2: : "), "{syntax:?}");
    }

    #[test]
    fn random_text_never_panics() {
        let words = [
            "[",
            "]",
            "kernel",
            ".",
            "tools",
            "=",
            "\"",
            "'",
            "{",
            "}",
            "\n",
            "1",
            "-",
            "e",
            "x",
            "log",
            "modules",
            ",",
            "providers",
            "true",
            "\u{e9}",
            "#",
            "[[",
            "]]",
            "'''",
            "\"\"\"",
            "tool_timeout",
            "engines.lua",
            "timeout_ms",
            " ",
            "inf",
            "1979-05-27T07:32:00Z",
            "0x",
            "_",
            "\\u",
            "\0",
        ];
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..4000 {
            let mut text = String::new();
            for _ in 0..24 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                text += words[seed as usize % words.len()];
            }
            let found = read(&text);
            assert!(found.spans.iter().all(|span| text.get(span.clone()).is_some()), "{text:?}");
            let _ = super::super::commands::migrate_text(&text);
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(!read(&("a = ".to_owned() + &"[".repeat(100_000))).wrong.is_empty());
        let _ = read(&("a.".repeat(50_000) + "b = 1"));
    }
}
