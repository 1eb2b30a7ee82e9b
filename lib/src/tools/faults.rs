//! What is wrong with parameters, said so that the caller can mend it: which one, why, and the nearest right spelling.

use serde_json::{Map, Value};

use super::schema::{choices, squeeze};
use super::validate::{Fault, Kind, faults};
use super::{Spelling, ToolSpec};
use crate::error::{Class, Error, Result, nearest};

/// Longest value that is quoted in a message, characters.
const MAX_QUOTED: usize = 60;

/// Checks `params`; the error tells the fault the others most likely follow from.
pub(super) fn check(schema: &Value, spec: &ToolSpec, params: &Value) -> Result<()> {
    // First comes an unknown name, which explains a missing one; everything else is as good as the next.
    let first = faults(schema, params).into_iter().min_by_key(|fault| !matches!(fault.kind, Kind::Unknown(_)));
    first.map_or(Ok(()), |fault| Err(describe(&fault, spec)))
}

fn describe(fault: &Fault<'_>, spec: &ToolSpec) -> Error {
    let Fault { value, schema, .. } = fault;
    let path = fault.path.join(".");
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let names = || schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let usage = |text: String| Error::new(Class::Usage, text);
    let quoted = quoted(value);
    match &fault.kind {
        Kind::Unknown(name) => match nearest(name, names()) {
            Some(near) => usage(format!("{}: no such parameter; did you mean {near}?", at(name))),
            None => usage(format!("{}: no such parameter", at(name))).hint(offer(schema)),
        },
        Kind::Missing(name) => usage(format!("{}: missing", at(name))).hint(offer(schema)),
        Kind::Below(limit) => usage(format!("{path}: {quoted} is below {limit}")),
        Kind::Above(limit) => usage(format!("{path}: {quoted} is above {limit}")),
        Kind::Other(text) => usage(format!("{path}: {text}")),
        Kind::NotListed => not_listed(fault, spec, &path),
        Kind::Type => match kinds(schema) {
            kinds if kinds.is_empty() => usage(format!("{path}: {quoted} is not allowed here")),
            kinds => usage(format!("{path}: {quoted} is not {}", kinds.join(" or "))),
        },
    }
}

/// The names there are.
pub(super) fn offer(schema: &Value) -> String {
    let names: Vec<_> = schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    format!("Parameters: {}.", names.join(", "))
}

/// A value that is none of those the schema lists.
fn not_listed(fault: &Fault<'_>, spec: &ToolSpec, path: &str) -> Error {
    let mut listed: Vec<_> = choices(fault.schema).map(str::to_owned).collect();
    if listed.is_empty() {
        let values = fault.schema["enum"].as_array().into_iter().flatten().chain(fault.schema.get("const"));
        listed.extend(values.map(Value::to_string));
    }
    let text = match &listed[..] {
        [only] => format!("{path}: {} is not {only}", quoted(fault.value)),
        _ => format!("{path}: {} is not one of {}", quoted(fault.value), listed.join(", ")),
    };
    let old = spec.spellings.iter().filter_map(|spelling| match spelling {
        Spelling::Value(name, old, new) if *name == path => Some((*old, *new)),
        _ => None,
    });
    let given = fault.value.as_str().unwrap_or_default();
    let known: Vec<_> = listed.iter().map(|listed| (&listed[..], &listed[..])).chain(old).collect();
    match nearest(given, known.iter().map(|(spelling, _)| *spelling)) {
        Some(near) => {
            let today = known.iter().find(|(spelling, _)| squeeze(spelling) == squeeze(near));
            let today = today.map_or(near, |(_, today)| today);
            Error::new(Class::Usage, format!("{text}; did you mean {today}?"))
        }
        None => Error::new(Class::Usage, text),
    }
}

/// What a schema asks for, each with its article.
fn kinds(schema: &Value) -> Vec<String> {
    let one = |kind: &Value| kind.as_str().map(article);
    let branches = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    let mut kinds = match (&schema["type"], branches) {
        (Value::Array(kinds), _) => kinds.iter().filter_map(one).collect(),
        (Value::Null, Some(schemas)) => schemas.iter().flat_map(kinds).collect::<Vec<_>>(),
        (kind, _) => one(kind).into_iter().collect(),
    };
    kinds.dedup();
    kinds
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

/// A value as it was given; what may hold more than one, perhaps a secret, is only named.
fn quoted(value: &Value) -> String {
    let text = match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        value => value.to_string(),
    };
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
