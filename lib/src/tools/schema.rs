//! JSON Schemas of parameters: tidied for those who read them, and what is read from them.

use serde_json::{Map, Value, json};

use super::validate::resolve;

/// Takes out what says nothing to a caller: `null` beside a type (leaving a parameter out says it), Rust's formats, whose
/// limits are written down. Choices that have a description each become a list, with the descriptions in one.
pub(super) fn tidy(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    if let (Some(format), Some("integer")) = (members.get("format"), members.get("type").and_then(Value::as_str)) {
        let (least, most) = match format.as_str().unwrap_or_default() {
            "int8" => (i64::from(i8::MIN), i64::from(i8::MAX)),
            "int16" => (i64::from(i16::MIN), i64::from(i16::MAX)),
            "int32" => (i64::from(i32::MIN), i64::from(i32::MAX)),
            "uint8" => (0, i64::from(u8::MAX)),
            "uint16" => (0, i64::from(u16::MAX)),
            "uint32" => (0, i64::from(u32::MAX)),
            "uint64" | "uint" => (0, i64::MAX),
            _ => (i64::MIN, i64::MAX),
        };
        // Limits nobody meets by chance are noise.
        if least > i64::MIN && !members.contains_key("minimum") {
            members.insert("minimum".into(), least.into());
        }
        if most < i64::MAX && !members.contains_key("maximum") {
            members.insert("maximum".into(), most.into());
        }
    }
    members.retain(|name, value| name != "$schema" && name != "format" && !(name == "default" && value.is_null()));
    for branches in ["anyOf", "oneOf"] {
        if let Some(Value::Array(schemas)) = members.get_mut(branches) {
            schemas.retain(|schema| schema["type"] != "null");
            schemas.iter_mut().for_each(tidy);
            if let [Value::Object(only)] = &mut schemas[..] {
                let only = std::mem::take(only);
                members.remove(branches);
                for (name, value) in only {
                    members.entry(name).or_insert(value);
                }
            } else if schemas.iter().all(|schema| schema["const"].is_string() || schema["enum"].is_array()) {
                let Some(Value::Array(schemas)) = members.remove(branches) else { continue };
                list_choices(members, &schemas);
            }
        }
    }
    if let Some(Value::Array(kinds)) = members.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = &mut kinds[..] {
            let kind = kind.take();
            members.insert("type".into(), kind);
        }
    }
    if let Some(Value::Array(listed)) = members.get_mut("enum") {
        listed.retain(|value| !value.is_null());
    }
    for (name, value) in members {
        match (name.as_str(), value) {
            ("properties" | "$defs", Value::Object(schemas)) => schemas.values_mut().for_each(tidy),
            ("allOf" | "prefixItems", Value::Array(schemas)) => schemas.iter_mut().for_each(tidy),
            ("items" | "additionalProperties", schema) => tidy(schema),
            _ => {}
        }
    }
}

/// Writes the choices of `schemas` as one list, and what each says about its own.
fn list_choices(members: &mut Map<String, Value>, schemas: &[Value]) {
    let mut listed = Vec::new();
    let mut text = members.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for schema in schemas {
        let own: Vec<_> = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const")).cloned().collect();
        if let (Some(about), [one]) = (schema["description"].as_str(), &own[..]) {
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}{}: {about}", one.as_str().unwrap_or_default()));
        }
        listed.extend(own);
    }
    if !text.is_empty() {
        members.insert("description".into(), text.into());
    }
    members.insert("type".into(), "string".into());
    members.insert("enum".into(), listed.into());
}

/// Writes `members` the way `schema` lists them: nothing for `null`; a choice whatever its case, `-` and `_`; 3.0 as 3
/// where an integer is wanted, since Lua does not always tell them apart. `root` is the whole schema.
pub(super) fn normalise(members: &mut Map<String, Value>, schema: &Value, root: &Value) {
    members.retain(|name, value| !value.is_null() || property(schema, name).is_null());
    for (name, value) in members {
        let known = property(schema, name);
        let schema = if known.is_null() { &schema["additionalProperties"] } else { known };
        normalise_value(value, schema, root);
    }
}

fn normalise_value(value: &mut Value, schema: &Value, root: &Value) {
    let schema = resolve(root, schema);
    match value {
        Value::String(text) => {
            if let Some(listed) = choices(schema).find(|listed| squeeze(listed) == squeeze(text)) {
                *text = listed.to_owned();
            }
        }
        Value::Number(number) if number.is_f64() && schema["type"] == "integer" => {
            // Up to here every integral float has exactly one integer.
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
            if let Some(float) = whole {
                *number = (float as i64).into();
            }
        }
        Value::Array(items) if schema["items"].is_object() => {
            items.iter_mut().for_each(|item| normalise_value(item, &schema["items"], root));
        }
        Value::Object(members) if schema["properties"].is_object() || schema["additionalProperties"].is_object() => {
            normalise(members, schema, root);
        }
        _ => {}
    }
}

/// The schema of the member `name` of an object described by `schema`; `null` for none.
pub(super) fn property<'a>(schema: &'a Value, name: &str) -> &'a Value {
    &schema["properties"][name]
}

/// The strings `schema` allows, if it lists them.
pub(super) fn choices(schema: &Value) -> impl Iterator<Item = &str> {
    schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// `{name, type, required, default?, description}` of every parameter, for people; the required ones first.
pub(super) fn parameters(schema: &Value) -> Vec<Value> {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut list: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    list.sort_by_key(|(name, _)| !required.contains(&name.as_str()));
    let describe = |(name, property): (&String, &Value)| {
        let mut row = json!({
            "name": name,
            "type": kind(resolve(schema, property)),
            "required": required.contains(&name.as_str()),
            "description": property["description"].as_str().unwrap_or_default(),
        });
        if let Some(default) = property.get("default") {
            row["default"] = default.clone();
        }
        row
    };
    list.into_iter().map(describe).collect()
}

/// The type of a property in a word, or its choices.
fn kind(property: &Value) -> String {
    let listed: Vec<_> = choices(property).collect();
    match (&property["type"], property["anyOf"].as_array()) {
        _ if !listed.is_empty() => listed.join("|"),
        (Value::String(kind), _) => kind.clone(),
        (Value::Array(kinds), _) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|"),
        (_, Some(schemas)) => schemas.iter().map(kind).collect::<Vec<_>>().join("|"),
        _ => "any".into(),
    }
}

/// `text` in lower case without `-` and `_`.
pub(super) fn squeeze(text: &str) -> String {
    text.to_lowercase().replace(['-', '_'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_tidied_but_a_property_may_be_called_format() {
        let mut schema = json!({
            "$schema": "x",
            "properties": {
                "format": {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}], "description": "d"},
                "n": {"type": ["integer", "null"], "format": "uint64", "default": null},
            },
        });
        tidy(&mut schema);
        let tidied = json!({
            "properties": {"format": {"type": "string", "enum": ["a"], "description": "d"}, "n": {"type": "integer"}},
        });
        assert_eq!(schema, tidied);
    }

    #[test]
    fn choices_with_a_description_each_become_a_list() {
        let mut schema = json!({"oneOf": [
            {"type": "string", "const": "a", "description": "First."}, {"type": "string", "enum": ["b", "c"]},
        ]});
        tidy(&mut schema);
        assert_eq!(schema, json!({"type": "string", "enum": ["a", "b", "c"], "description": "a: First."}));
        let mut schema = json!({"type": "integer", "format": "uint8"});
        tidy(&mut schema);
        assert_eq!(schema, json!({"type": "integer", "minimum": 0, "maximum": 255}));
    }

    #[test]
    fn values_are_normalised_where_the_schema_says_so() {
        let schema = json!({"properties": {
            "n": {"type": "integer"},
            "x": {"type": "number"},
            "c": {"enum": ["list_dir"]},
            "o": {"properties": {"n": {"type": "integer"}}},
            "list": {"items": {"type": "integer"}},
            "any": {},
        }});
        let any = json!({"n": 1.0, "z": null});
        let mut given =
            json!({"n": 3.0, "x": 3.0, "c": "List-Dir", "o": {"n": 2.0}, "list": [4.0], "any": any, "unknown": null});
        normalise(given.as_object_mut().unwrap(), &schema, &schema);
        assert_eq!(
            given,
            json!({"n": 3, "x": 3.0, "c": "list_dir", "o": {"n": 2}, "list": [4], "any": any, "unknown": null})
        );
        let mut given = json!({"n": null});
        normalise(given.as_object_mut().unwrap(), &schema, &schema);
        assert_eq!(given, json!({}));
    }
}
