//! The list of keys, read from the schema of [`Config`]: name, documentation, default, what a value must be.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{Config, former};

/// One key of the configuration.
#[derive(Debug)]
pub(super) struct Key {
    /// `kernel.tools.tool_timeout`
    pub(super) path: String,
    /// Its documentation, one paragraph.
    pub(super) doc: String,
    /// `a duration`
    pub(super) noun: String,
    /// A value as it could be written.
    pub(super) like: Option<String>,
    /// Its default; none where nothing is set.
    pub(super) default: Option<Value>,
    /// What kind of value, for text that comes from the environment.
    pub(super) kind: Kind,
    /// Whether it holds paths.
    pub(super) is_path: bool,
    /// Whether layers add to it instead of replacing it.
    pub(super) adds: bool,
    /// Whether a running kernel takes a new value.
    pub(super) live: bool,
    /// What an untrusted project file may do: `free`, `subset`, `less`, `inside` or nothing.
    pub(super) project: Option<String>,
    choices: Vec<String>,
    range: (Option<i64>, Option<i64>),
    fewest: Option<u64>,
}

/// The shapes of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Integer,
    Number,
    Text,
    List,
    /// A table whose keys the user chooses.
    Map,
}

/// A section: name and documentation.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) path: String,
    pub(super) doc: String,
}

/// Every key, top-level ones first, then by section.
pub(super) static KEYS: LazyLock<(Vec<Section>, Vec<Key>)> = LazyLock::new(|| {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let (mut sections, mut keys) = (Vec::new(), Vec::new());
    collect("", &schema, &Value::Table(defaults), &mut sections, &mut keys);
    (sections, keys)
});

fn collect(prefix: &str, schema: &Json, defaults: &Value, sections: &mut Vec<Section>, keys: &mut Vec<Key>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let path = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    // A table of sections whose names the user chooses stands for one of them, called `*`.
    let any = |schema: &Json| schema["additionalProperties"]["properties"].is_object();
    let is_section = |schema: &Json| schema["properties"].is_object() || any(schema);
    for (name, schema) in properties.iter().filter(|(_, schema)| !is_section(schema)) {
        keys.push(key(path(name), schema, defaults.get(name).cloned()));
    }
    for (name, schema) in properties.iter().filter(|(_, schema)| is_section(schema)) {
        let none = Value::Table(Table::new());
        if any(schema) {
            let path = path(name) + ".*";
            sections.push(Section { path: path.clone(), doc: doc(schema) });
            let one = &schema["additionalProperties"];
            // What each has where nothing is said.
            let defaults = Value::try_from(super::Provider::default()).unwrap_or_else(|_| none.clone());
            collect(&path, one, &defaults, sections, keys);
            continue;
        }
        sections.push(Section { path: path(name), doc: doc(schema) });
        collect(&path(name), schema, defaults.get(name).unwrap_or(&none), sections, keys);
    }
}

fn doc(schema: &Json) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn key(path: String, schema: &Json, default: Option<Value>) -> Key {
    let text = |name: &str| schema[name].as_str().map(str::to_owned);
    let kind = match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
        Some("boolean") => Kind::Bool,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("array") => Kind::List,
        Some("object") => Kind::Map,
        _ => Kind::Text,
    };
    // Of a map, what counts is what its values may be.
    let value = if kind == Kind::Map { &schema["additionalProperties"] } else { schema };
    let choices = choices(value);
    let bound = |name: &str| value[name].as_i64().or_else(|| Some(value[name].as_f64()? as i64));
    let range = (bound("minimum"), bound("maximum"));
    let noun = text("x-noun").unwrap_or_else(|| match kind {
        _ if !choices.is_empty() => match &choices[..] {
            [only] => format!("{only:?}"),
            _ => format!("one of {}", choices.join(", ")),
        },
        Kind::Bool => "true or false".into(),
        Kind::Integer => match range {
            (Some(min), Some(max)) => format!("a whole number from {min} to {max}"),
            (Some(min), None) => format!("a whole number from {min}"),
            _ => "a whole number".into(),
        },
        Kind::Number => match range {
            (Some(min), _) => format!("a number from {min}"),
            _ => "a number".into(),
        },
        Kind::List => "a list of texts".into(),
        Kind::Text | Kind::Map => match schema["format"].as_str() {
            Some("ip") => "an IP address".into(),
            _ => "a text".into(),
        },
    });
    Key {
        doc: doc(schema),
        noun,
        like: text("x-like"),
        default: default.or_else(|| (kind == Kind::Map).then(|| Value::Table(Table::new()))),
        kind,
        is_path: schema["x-path"].as_bool().unwrap_or(false),
        adds: schema["x-adds"].as_bool().unwrap_or(false),
        live: schema["x-live"].as_bool().unwrap_or(false),
        project: text("x-project"),
        choices,
        range,
        fewest: schema["minItems"].as_u64(),
        path,
    }
}

fn choices(schema: &Json) -> Vec<String> {
    let listed = schema["enum"].as_array().into_iter().flatten();
    let documented = schema["oneOf"].as_array().into_iter().flatten();
    let documented = documented.flat_map(|one| {
        let several = one["enum"].as_array().into_iter().flatten();
        several.chain(one.get("const"))
    });
    listed.chain(documented).filter_map(Json::as_str).map(str::to_owned).collect()
}

impl Key {
    /// The section it stands in; empty at the top.
    pub(super) fn section(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit_once('.').map_or(&self.path, |(_, name)| name)
    }

    /// Whether it stands in a section whose name the user chooses.
    pub(super) fn is_of_any(&self) -> bool {
        self.path.contains(".*.")
    }

    /// A value as it could be written in a file, if not every value is obvious.
    pub(super) fn example(&self) -> Option<String> {
        let like = self.like.as_ref()?;
        Some(if self.kind == Kind::Text { format!("\"{like}\"") } else { like.clone() })
    }

    /// The environment variable that sets it; none for maps.
    pub(super) fn variable(&self) -> Option<String> {
        (self.kind != Kind::Map && !self.is_of_any())
            .then(|| format!("LLMSPELL_{}", self.path.replace('.', "_").to_uppercase()))
    }

    /// Whether `value` may stand at `path`, which is this key or an entry of this map.
    ///
    /// # Errors
    /// The text for the user.
    pub(super) fn check(&self, path: &[String], value: &Value) -> Result<(), String> {
        let table = path
            .iter()
            .rev()
            .fold(value.clone(), |value, name| Value::Table(Table::from_iter([(name.clone(), value)])));
        let number = value.as_integer().map(|number| number as f64).or_else(|| value.as_float());
        let in_range = number.is_none_or(|number| {
            self.range.0.is_none_or(|min| number >= min as f64) && self.range.1.is_none_or(|max| number <= max as f64)
        });
        let enough = value.as_array().is_none_or(|items| items.len() as u64 >= self.fewest.unwrap_or(0));
        let known =
            self.choices.is_empty() || value.as_str().is_some_and(|text| self.choices.iter().any(|c| c == text));
        match Config::deserialize(table) {
            Ok(_) if in_range && enough && known => Ok(()),
            _ if is_secret(path) => Err(format!("is not {}", self.noun)),
            _ => Err(format!("{} is not {}", shown(value), self.noun)),
        }
    }

    /// The value that `text` from the environment means.
    ///
    /// # Errors
    /// The text for the user.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self.kind {
            Kind::Bool => text.parse().ok().map(Value::Boolean),
            Kind::Integer => text.trim().parse().ok().map(Value::Integer),
            Kind::Number => text.trim().parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
            Kind::List => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Some(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
            }
            Kind::Text | Kind::Map => Some(Value::String(text.to_owned())),
        };
        value.ok_or_else(|| format!("{text:?} is not {}", self.noun))
    }
}

/// `value` on one line, not too long.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        value => value.to_string().replace(char::is_control, " "),
    };
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What stands at a place of the configuration.
pub(super) enum Node {
    /// A table of keys.
    Section,
    /// A key, or an entry of a map.
    Key(&'static Key),
    /// The table of a map.
    Map,
}

/// What `path` names, if anything.
pub(super) fn find(path: &[String]) -> Option<Node> {
    let (sections, keys) = &*KEYS;
    if path.is_empty() || sections.iter().any(|section| fits(&section.path, path) || begins(&section.path, path)) {
        return Some(Node::Section);
    }
    if let Some(key) = keys.iter().find(|key| fits(&key.path, path)) {
        return Some(if key.kind == Kind::Map { Node::Map } else { Node::Key(key) });
    }
    let (_, parent) = path.split_last()?;
    keys.iter().find(|key| key.kind == Kind::Map && fits(&key.path, parent)).map(Node::Key)
}

/// Whether `path` is what `pattern` names; its `*` is any name that v0.10 did not use for something else.
pub(super) fn fits(pattern: &str, path: &[String]) -> bool {
    let mut names = pattern.split('.');
    path.iter().enumerate().all(|(at, name)| match names.next() {
        Some("*") => !former::is_taken(&path[..=at]),
        known => known == Some(name),
    }) && names.next().is_none()
}

/// Whether `path` is what stands before the `*` of `pattern`.
fn begins(pattern: &str, path: &[String]) -> bool {
    pattern.strip_suffix(".*").is_some_and(|pattern| fits(pattern, path))
}

/// The key or section a user may have meant by `path`: one of that name elsewhere, else a neighbour of a similar name.
pub(super) fn nearest(path: &[String]) -> Option<String> {
    let (name, section) = path.split_last()?;
    let (sections, keys) = &*KEYS;
    let paths = || keys.iter().map(|key| &key.path[..]).chain(sections.iter().map(|section| &section.path[..]));
    let inside = paths().filter_map(|path| match path.rsplit_once('.') {
        Some((parent, name)) => fits(parent, section).then_some(name).filter(|name| *name != "*"),
        None => section.is_empty().then_some(path),
    });
    let elsewhere = paths().find(|path| path.rsplit('.').next() == Some(name));
    elsewhere.or_else(|| crate::error::nearest(name, inside)).map(str::to_owned)
}

/// Whether a value of this name must not be shown.
pub(super) fn is_secret(path: &[String]) -> bool {
    let is_secret = |name: &String| {
        let name = name.to_lowercase().replace('-', "_");
        // They tell where a key is.
        if ["api_key_env", "api_key_file", "api_key_command"].contains(&&name[..]) {
            return false;
        }
        // Not a token that is secret.
        if ["max_tokens", "tokens_per_minute", "max_tokens_per_run"].contains(&&name[..]) {
            return false;
        }
        ["api_key", "apikey", "password", "token", "secret", "authorization", "cookie"]
            .iter()
            .any(|word| name.contains(word))
    };
    path.iter().any(is_secret)
}

/// `path` as TOML writes it.
pub(super) fn dotted(path: &[String]) -> String {
    let bare = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let quoted = |name: &String| if bare(name) { name.clone() } else { Value::String(name.clone()).to_string() };
    path.iter().map(quoted).collect::<Vec<_>>().join(".")
}

/// `a.b` as a path.
pub(super) fn split(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_section_is_documented() {
        let (sections, keys) = &*KEYS;
        assert!(keys.len() > 25, "{}", keys.len());
        for (path, doc) in keys.iter().map(|k| (&k.path, &k.doc)).chain(sections.iter().map(|s| (&s.path, &s.doc))) {
            assert!(
                doc.ends_with('.') && doc.len() > 3 && !doc.starts_with('`') || path == "kernel.transport",
                "{path}: {doc:?}"
            );
        }
    }

    #[test]
    fn variables_are_unambiguous() {
        let mut names: Vec<_> = KEYS.1.iter().filter_map(Key::variable).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn defaults_are_valid() {
        for key in KEYS.1.iter().filter(|key| key.kind != Kind::Map) {
            if let Some(default) = &key.default {
                assert_eq!(key.check(&split(&key.path), default), Ok(()), "{}", key.path);
            }
        }
    }

    #[test]
    fn nouns_come_from_the_types() {
        let noun = |path: &str| KEYS.1.iter().find(|key| key.path == path).map(|key| &key.noun[..]);
        assert_eq!(noun("security.profile"), Some("one of safe, standard, privileged"));
        assert_eq!(noun("kernel.transport"), Some("one of ipc, tcp"));
        assert_eq!(noun("log.modules"), Some("one of off, error, warn, info, debug, trace"));
        assert_eq!(noun("kernel.port"), Some("a whole number from 1 to 65535"));
        assert_eq!(noun("kernel.ip"), Some("an IP address"));
        assert_eq!(noun("default_engine"), Some("\"lua\""));
    }
}
