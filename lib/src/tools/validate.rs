//! Checks a value against the part of JSON Schema that `schemars` writes for Rust types: types, properties, items, choices,
//! ranges, lengths, `anyOf` and `oneOf`, references into `$defs`. What it does not know it does not check; a test keeps the
//! schemas of all tools within what it knows.

use serde_json::{Map, Number, Value};

/// Every keyword that is understood; the second half says nothing about values.
#[cfg(test)]
pub(super) const KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "pattern",
    "minProperties",
    "maxProperties", // below: for readers
    "$defs",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
];

/// What is wrong at one place.
#[derive(Debug)]
pub(super) struct Fault<'a> {
    /// Names and numbers that lead there, outermost first.
    pub(super) path: Vec<String>,
    /// The value there.
    pub(super) value: &'a Value,
    /// What the schema says there.
    pub(super) schema: &'a Value,
    pub(super) kind: Kind<'a>,
}

/// Kinds of faults.
#[derive(Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A member the schema does not know.
    Unknown(&'a str),
    /// A member that is needed.
    Missing(&'a str),
    /// Not of the right type.
    Type,
    /// None of the values that are listed.
    NotListed,
    /// Below a limit.
    Below(&'a Value),
    /// Above a limit.
    Above(&'a Value),
    /// Anything else, in words.
    Other(String),
}

/// What is wrong with `value` in words, for whoever wrote it; nothing when it fits `schema`.
#[must_use]
pub fn mismatches(schema: &Value, value: &Value) -> Vec<String> {
    let text = |fault: Fault<'_>| {
        let mut path = fault.path;
        let what = match &fault.kind {
            Kind::Unknown(name) => {
                path.push((*name).to_owned());
                "not known".to_owned()
            }
            Kind::Missing(name) => {
                path.push((*name).to_owned());
                "missing".to_owned()
            }
            Kind::Type => match &fault.schema["type"] {
                Value::Null => "not allowed here".to_owned(),
                Value::String(kind) => format!("not of type {kind}"),
                kinds => format!("not of type {kinds}"),
            },
            Kind::NotListed => {
                let listed = [&fault.schema["enum"], &fault.schema["const"]].into_iter().find(|list| !list.is_null());
                format!("not one of {}", listed.unwrap_or(&Value::Null))
            }
            Kind::Below(limit) => format!("below {limit}"),
            Kind::Above(limit) => format!("above {limit}"),
            Kind::Other(text) => text.clone(),
        };
        if path.is_empty() { what } else { format!("{}: {what}", path.join(".")) }
    };
    faults(schema, value).into_iter().take(10).map(text).collect()
}

/// Everything that is wrong with `value`, in no useful order.
pub(super) fn faults<'a>(root: &'a Value, value: &'a Value) -> Vec<Fault<'a>> {
    let mut found = Vec::new();
    Checker { root }.check(root, value, &mut Vec::new(), &mut found);
    found
}

/// `schema`, or what it refers to.
pub(super) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    // A chain of references ends or is no type; what goes in circles says nothing.
    let mut schema = schema;
    for _ in 0..8 {
        match schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')).and_then(|path| root.pointer(path)) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

struct Checker<'a> {
    root: &'a Value,
}

/// A step of a path that is only made into text when something is wrong.
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Checker<'a> {
    fn check(&self, schema: &'a Value, value: &'a Value, path: &mut Vec<Step<'a>>, found: &mut Vec<Fault<'a>>) {
        let Value::Object(rules) = resolve(self.root, schema) else {
            if *schema == Value::Bool(false) {
                self.fault(schema, value, path, Kind::Type, found);
            }
            return;
        };
        let schema = resolve(self.root, schema);
        if rules.get("type").is_some_and(|kind| !is_of(value, kind)) {
            let kind = if lists(rules) { Kind::NotListed } else { Kind::Type };
            return self.fault(schema, value, path, kind, found);
        }
        let listed = rules.get("enum").and_then(Value::as_array).is_none_or(|listed| listed.contains(value));
        if !listed || rules.get("const").is_some_and(|only| only != value) {
            return self.fault(schema, value, path, Kind::NotListed, found);
        }
        for rule in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.check(rule, value, path, found);
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = rules.get(name) {
                self.one_of(schema, branches, value, path, found);
            }
        }
        match value {
            Value::Object(members) => self.object(schema, rules, members, value, path, found),
            Value::Array(items) => self.array(schema, rules, items, value, path, found),
            Value::Number(number) => self.number(schema, rules, number, value, path, found),
            Value::String(text) => self.text(schema, rules, text, value, path, found),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn fault(
        &self,
        schema: &'a Value,
        value: &'a Value,
        path: &[Step<'a>],
        kind: Kind<'a>,
        found: &mut Vec<Fault<'a>>,
    ) {
        let step = |step: &Step<'_>| match step {
            Step::Name(name) => (*name).to_owned(),
            Step::Index(index) => index.to_string(),
        };
        found.push(Fault { path: path.iter().map(step).collect(), value, schema, kind });
    }

    /// One of `branches` has to fit. If none does, the faults are those of the branch that was most likely meant: not of
    /// another type, not with another tag.
    fn one_of(
        &self,
        schema: &'a Value,
        branches: &'a [Value],
        value: &'a Value,
        path: &mut Vec<Step<'a>>,
        found: &mut Vec<Fault<'a>>,
    ) {
        let mut meant: Option<Vec<Fault<'a>>> = None;
        let mut tagged = None;
        for branch in branches {
            let mut wrong = Vec::new();
            self.check(branch, value, path, &mut wrong);
            if wrong.is_empty() {
                return;
            }
            let here = |fault: &Fault<'_>| {
                fault.path.len() == path.len() && matches!(fault.kind, Kind::Type | Kind::NotListed)
            };
            if wrong.iter().any(here) {
                continue;
            }
            let tag = |fault: &Fault<'_>| fault.kind == Kind::NotListed && fault.schema.get("const").is_some();
            match wrong.iter().position(tag) {
                Some(at) => tagged = Some(wrong.swap_remove(at)),
                None if meant.as_ref().is_none_or(|best| wrong.len() < best.len()) => meant = Some(wrong),
                None => {}
            }
        }
        match (meant, tagged) {
            (Some(wrong), _) => found.extend(wrong),
            // The value of a tag that no branch has: the tags are what is listed.
            (None, Some(fault)) => {
                let name = fault.path.last().cloned().unwrap_or_default();
                let tags = branches.iter().map(|branch| &resolve(self.root, branch)["properties"][&name]["const"]);
                let tags: Vec<_> = tags.filter_map(Value::as_str).collect();
                let text = format!("{} is not one of {}", fault.value, tags.join(", "));
                found.push(Fault { kind: Kind::Other(text), ..fault });
            }
            (None, None) => self.fault(schema, value, path, Kind::Type, found),
        }
    }

    fn object(
        &self,
        schema: &'a Value,
        rules: &'a Map<String, Value>,
        members: &'a Map<String, Value>,
        value: &'a Value,
        path: &mut Vec<Step<'a>>,
        found: &mut Vec<Fault<'a>>,
    ) {
        let properties = rules.get("properties").and_then(Value::as_object);
        let others = rules.get("additionalProperties");
        for (name, member) in members {
            path.push(Step::Name(name));
            match (properties.and_then(|properties| properties.get(name)), others) {
                (Some(rule), _) => self.check(rule, member, path, found),
                (None, Some(Value::Bool(false))) => {
                    path.pop();
                    self.fault(schema, value, path, Kind::Unknown(name), found);
                    continue;
                }
                (None, Some(rule)) => self.check(rule, member, path, found),
                (None, None) => {}
            }
            path.pop();
        }
        for name in rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                self.fault(schema, value, path, Kind::Missing(name), found);
            }
        }
        self.count(schema, rules, members.len(), ["minProperties", "maxProperties"], value, path, found);
    }

    fn array(
        &self,
        schema: &'a Value,
        rules: &'a Map<String, Value>,
        items: &'a [Value],
        value: &'a Value,
        path: &mut Vec<Step<'a>>,
        found: &mut Vec<Fault<'a>>,
    ) {
        let first = rules.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            if let Some(rule) = first.get(index).or_else(|| rules.get("items")) {
                path.push(Step::Index(index));
                self.check(rule, item, path, found);
                path.pop();
            }
        }
        if rules.get("uniqueItems") == Some(&Value::Bool(true))
            && items.iter().enumerate().any(|(index, item)| items[..index].contains(item))
        {
            self.fault(schema, value, path, Kind::Other("has an item twice".into()), found);
        }
        self.count(schema, rules, items.len(), ["minItems", "maxItems"], value, path, found);
    }

    fn number(
        &self,
        schema: &'a Value,
        rules: &'a Map<String, Value>,
        number: &Number,
        value: &'a Value,
        path: &[Step<'a>],
        found: &mut Vec<Fault<'a>>,
    ) {
        use std::cmp::Ordering::{Equal, Greater, Less};
        for (name, wrong) in [
            ("minimum", &[Less][..]),
            ("exclusiveMinimum", &[Less, Equal]),
            ("maximum", &[Greater]),
            ("exclusiveMaximum", &[Greater, Equal]),
        ] {
            let Some(limit) = rules.get(name) else { continue };
            if limit.as_number().and_then(|limit| compare(number, limit)).is_some_and(|order| wrong.contains(&order)) {
                let kind = if wrong.contains(&Less) { Kind::Below(limit) } else { Kind::Above(limit) };
                self.fault(schema, value, path, kind, found);
            }
        }
    }

    fn text(
        &self,
        schema: &'a Value,
        rules: &'a Map<String, Value>,
        text: &str,
        value: &'a Value,
        path: &[Step<'a>],
        found: &mut Vec<Fault<'a>>,
    ) {
        if rules.contains_key("minLength") || rules.contains_key("maxLength") {
            self.count(schema, rules, text.chars().count(), ["minLength", "maxLength"], value, path, found);
        }
        if let Some(pattern) = rules.get("pattern").and_then(Value::as_str)
            && regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
        {
            self.fault(schema, value, path, Kind::Other(format!("does not match {pattern}")), found);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are what the others have, and a number")]
    fn count(
        &self,
        schema: &'a Value,
        rules: &'a Map<String, Value>,
        count: usize,
        [fewest, most]: [&str; 2],
        value: &'a Value,
        path: &[Step<'a>],
        found: &mut Vec<Fault<'a>>,
    ) {
        let limit = |name: &str| rules.get(name).and_then(Value::as_u64);
        let count = count as u64;
        let what = match value {
            Value::String(_) => "characters",
            Value::Array(_) => "items",
            _ => "members",
        };
        if let Some(least) = limit(fewest).filter(|least| count < *least) {
            let text = if least == 1 { "empty".to_owned() } else { format!("has {count} {what}, fewer than {least}") };
            self.fault(schema, value, path, Kind::Other(text), found);
        }
        if let Some(most) = limit(most).filter(|most| count > *most) {
            self.fault(schema, value, path, Kind::Other(format!("has {count} {what}, more than {most}")), found);
        }
    }
}

/// Whether `rules` list their values.
fn lists(rules: &Map<String, Value>) -> bool {
    rules.contains_key("enum") || rules.contains_key("const")
}

/// The type of `value`, as JSON Schema calls it.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether `value` is of the type, or one of the types, `kind`.
fn is_of(value: &Value, kind: &Value) -> bool {
    match kind {
        Value::String(kind) => match kind.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|float| float.fract() == 0.0),
            _ => true,
        },
        Value::Array(kinds) => kinds.iter().any(|kind| is_of(value, kind)),
        _ => true,
    }
}

/// How two numbers compare; whole ones without going through floating point.
fn compare(a: &Number, b: &Number) -> Option<std::cmp::Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(schema: &Value, value: &Value) -> Vec<String> {
        faults(schema, value).iter().map(|fault| format!("{} {:?}", fault.path.join("."), fault.kind)).collect()
    }

    #[test]
    fn values_that_fit_have_no_fault() {
        let schema = json!({
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": 1, "maximum": 18446744073709551615_u64},
                "x": {"type": ["number", "null"], "exclusiveMinimum": 0},
                "s": {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^a"},
                "list": {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "minItems": 1, "maxItems": 2, "uniqueItems": true},
                "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
                "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
                "any": true,
                "one": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            },
            "additionalProperties": false,
            "required": ["n"],
            "$defs": {"Tree": {"type": "object", "properties": {"child": {"$ref": "#/$defs/Tree"}}, "additionalProperties": false}},
        });
        for value in [
            json!({"n": 18446744073709551615_u64, "x": 0.5, "s": "aéé", "list": [{}, {"child": {"child": {}}}]}),
            json!({"n": 3.0, "x": null, "map": {"a": true}, "pair": ["a", 1], "any": [1], "one": ["a"]}),
        ] {
            assert_eq!(told(&schema, &value), Vec::<String>::new());
        }
        for (value, fault) in [
            (json!([]), " Type"),
            (json!({}), " Missing(\"n\")"),
            (json!({"n": 0}), "n Below(Number(1))"),
            (json!({"n": 1.5}), "n Type"),
            (json!({"n": 1, "x": 0}), "x Below(Number(0))"),
            (json!({"n": 1, "s": "abcd"}), "s Other(\"has 4 characters, more than 3\")"),
            (json!({"n": 1, "s": "b"}), "s Other(\"does not match ^a\")"),
            (json!({"n": 1, "s": "b", "z": 1}), " Unknown(\"z\")"),
            (json!({"n": 1, "list": []}), "list Other(\"empty\")"),
            (json!({"n": 1, "list": [{}, {}]}), "list Other(\"has an item twice\")"),
            (json!({"n": 1, "list": [{"child": {"chld": {}}}]}), "list.0.child Unknown(\"chld\")"),
            (json!({"n": 1, "map": {"a": 1}}), "map.a Type"),
            (json!({"n": 1, "pair": ["a", "b"]}), "pair.1 Type"),
            (json!({"n": 1, "one": 5}), "one Type"),
            (json!({"n": 1, "one": ["a", 5]}), "one.1 Type"),
        ] {
            assert!(told(&schema, &value).contains(&fault.to_owned()), "{value} {:?}", told(&schema, &value));
        }
    }

    #[test]
    fn tags_choose_the_branch_that_is_told_about() {
        let schema = json!({"oneOf": [
            {"type": "object", "properties": {"type": {"const": "a"}, "n": {"type": "number"}}, "required": ["type", "n"]},
            {"type": "object", "properties": {"type": {"const": "b"}}, "required": ["type"]},
        ]});
        assert_eq!(told(&schema, &json!({"type": "b"})), Vec::<String>::new());
        assert_eq!(told(&schema, &json!({"type": "a", "n": "x"})), ["n Type"]);
        assert_eq!(told(&schema, &json!({"type": "c"})), ["type Other(\"\\\"c\\\" is not one of a, b\")"]);
        assert_eq!(told(&schema, &json!(5)), [" Type"]);
    }
}
