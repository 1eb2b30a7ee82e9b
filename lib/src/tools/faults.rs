//! What is wrong with parameters, said so that the caller can mend it: which one, why, and the nearest right spelling.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

use super::schema::{choices, property};
use super::{Spelling, ToolSpec};
use crate::error::{Class, Error, Result, nearest};

/// Longest value that is quoted in a message, characters.
const MAX_QUOTED: usize = 60;

/// Checks `params`; the error tells the fault the others most likely follow from.
pub(super) fn check(validator: &Validator, schema: &Value, spec: &ToolSpec, params: &Value) -> Result<()> {
    match validator.iter_errors(params).min_by_key(rank) {
        Some(error) => Err(describe(&error, schema, spec)),
        None => Ok(()),
    }
}

/// First comes an unknown name, which explains a missing one; everything else is as good as the next.
fn rank(error: &ValidationError<'_>) -> bool {
    !matches!(error.kind(), Kind::AdditionalProperties { .. })
}

fn describe(error: &ValidationError<'_>, schema: &Value, spec: &ToolSpec) -> Error {
    let path = error.instance_path().to_string();
    if let Kind::AnyOf { context } = error.kind() {
        // "A text or a list": what is wrong inside the list, not that it is no text.
        let inner = |inner: &&ValidationError<'_>| !is_type(inner) || inner.instance_path().to_string() != path;
        if let Some(inner) = context.iter().flatten().filter(inner).min_by_key(|error| rank(error)) {
            return describe(inner, schema, spec);
        }
    }
    let steps: Vec<_> = path.split('/').filter(|step| !step.is_empty()).collect();
    let place = steps.iter().fold(schema, |schema, step| property(schema, step));
    let path = steps.join(".");
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let names = || place["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let usage = |text: String| Error::new(Class::Usage, text);
    let value = quoted(error.instance());
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let name = unexpected.first().map_or("", String::as_str);
            match nearest(name, names()) {
                Some(near) => usage(format!("{}: no such parameter; did you mean {near}?", at(name))),
                None => usage(format!("{}: no such parameter", at(name))).hint(offer(place)),
            }
        }
        Kind::Required { property } => {
            usage(format!("{}: missing", at(property.as_str().unwrap_or_default()))).hint(offer(place))
        }
        Kind::Minimum { limit } => usage(format!("{path}: {value} is below {limit}")),
        Kind::Maximum { limit } => usage(format!("{path}: {value} is above {limit}")),
        Kind::MinLength { .. } => usage(format!("{path}: empty")),
        _ if choices(place).next().is_some() => not_listed(error, place, spec, &path),
        _ => {
            let kinds = match error.kind() {
                Kind::Type { kind: TypeKind::Single(kind) } => vec![article(&kind.to_string())],
                _ => kinds(place),
            };
            match kinds.is_empty() {
                false => usage(format!("{path}: {value} is not {}", kinds.join(" or "))),
                true => usage(format!("{path}: {}", error.masked_with("the value"))),
            }
        }
    }
}

/// The names there are.
pub(super) fn offer(schema: &Value) -> String {
    let names: Vec<_> = schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    format!("Parameters: {}.", names.join(", "))
}

fn is_type(error: &ValidationError<'_>) -> bool {
    matches!(error.kind(), Kind::Type { .. })
}

/// A value that is none of those the property `place` lists.
fn not_listed(error: &ValidationError<'_>, place: &Value, spec: &ToolSpec, path: &str) -> Error {
    let listed: Vec<_> = choices(place).collect();
    let text = format!("{path}: {} is not one of {}", quoted(error.instance()), listed.join(", "));
    let old = spec.spellings.iter().filter_map(|spelling| match spelling {
        Spelling::Value(name, old, new) if *name == path => Some((*old, *new)),
        _ => None,
    });
    let given = error.instance().as_str().unwrap_or_default();
    let known: Vec<_> = listed.iter().map(|listed| (*listed, *listed)).chain(old).collect();
    match nearest(given, known.iter().map(|(spelling, _)| *spelling)) {
        Some(near) => {
            let today = known.iter().find(|(spelling, _)| *spelling == near).map_or(near, |(_, today)| today);
            Error::new(Class::Usage, format!("{text}; did you mean {today}?"))
        }
        None => Error::new(Class::Usage, text),
    }
}

/// What the schema of a property asks for, each with its article.
fn kinds(property: &Value) -> Vec<String> {
    let one = |kind: &Value| kind.as_str().map(article);
    match (&property["type"], &property["anyOf"]) {
        (Value::Array(kinds), _) => kinds.iter().filter_map(one).collect(),
        (Value::Null, Value::Array(schemas)) => schemas.iter().flat_map(kinds).collect(),
        (kind, _) => one(kind).into_iter().collect(),
    }
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
