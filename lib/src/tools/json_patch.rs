//! `json_patch`: changes to JSON by patches (RFC 6902), merge patches (RFC 7386) and pointers (RFC 6901).

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Level, Spelling, ToolSpec, example, required};
use crate::error::{Class, Error, Result};

/// The JSON patch tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "json_patch",
    aliases: &["json_merge"],
    category: "data",
    summary: "apply and make JSON Patch (RFC 6902) and Merge Patch (RFC 7386), follow JSON Pointers",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("document", "input"),
        Spelling::Param("path", "pointer"),
        Spelling::Value("operation", "patch", "apply"),
        Spelling::Value("operation", "merge_patch", "merge"),
    ],
    examples: &[
        example(
            "apply a patch",
            r#"{"input": {"a": [1, 2]}, "patch": [{"op": "add", "path": "/a/1", "value": 9}, {"op": "move", "from": "/a", "path": "/b"}]}"#,
            r#"{"result": {"b": [1, 9, 2]}}"#,
        ),
        example(
            "merge; null removes",
            r#"{"operation": "merge", "input": {"a": 1, "b": {"c": 2}}, "patch": {"a": null, "b": {"d": 3}}}"#,
            r#"{"result": {"b": {"c": 2, "d": 3}}}"#,
        ),
        example(
            "the patch that leads from one to the other",
            r#"{"operation": "diff", "input": {"a": 1}, "target": {"a": 1, "b": [2]}}"#,
            r#"{"patch": [{"op": "add", "path": "/b", "value": [2]}]}"#,
        ),
        example(
            "what a pointer leads to",
            r#"{"operation": "get", "input": {"a/b": [10, 20]}, "pointer": "/a~1b/1"}"#,
            r#"{"result": 20, "found": true}"#,
        ),
    ],
};

/// Deepest nesting of what comes out: what JSON parsers take.
const MAX_DEPTH: usize = 127;

/// Changes `input`. A patch is applied as a whole or, when one of its steps fails, not at all.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// `apply` a patch, `merge` a merge patch, `diff`: make the patch to `target`, `merge_diff`: the merge patch, `get` by pointer.
    #[serde(default)]
    operation: Operation,
    /// The document: any JSON value, null if not given; a string is read as JSON if it is some.
    #[serde(default)]
    input: Value,
    /// The patch.
    patch: Option<Value>,
    /// `diff`, `merge_diff`: what should come out.
    target: Option<Value>,
    /// `get`: JSON Pointer, as `/a/0`.
    pointer: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Apply,
    Merge,
    Diff,
    MergeDiff,
    Get,
}

/// Does one operation.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    let mut document = read(params.input);
    match params.operation {
        Operation::Apply => {
            let patch = read(required(params.patch, "patch")?);
            let patch: json_patch::Patch =
                serde_json::from_value(patch).map_err(|e| Error::new(Class::Usage, format!("patch: {e}")))?;
            apply(&mut document, &patch, call)?;
            Ok(Answer::new("apply", json!({"result": document})))
        }
        Operation::Merge => {
            json_patch::merge(&mut document, &read(required(params.patch, "patch")?));
            Ok(Answer::new("merge", json!({"result": document})))
        }
        Operation::Diff => {
            let patch = json_patch::diff(&document, &read(required(params.target, "target")?));
            Ok(Answer::new("diff", json!({"patch": patch})))
        }
        Operation::MergeDiff => {
            let target = read(required(params.target, "target")?);
            let patch = merge_diff(&document, &target);
            Ok(Answer::new("merge_diff", json!({"patch": patch})))
        }
        Operation::Get => {
            let pointer = required(params.pointer, "pointer")?;
            if !pointer.is_empty() && !pointer.starts_with('/') {
                return Err(Error::new(Class::Usage, "pointer: does not begin with /"));
            }
            let found = document.pointer(&pointer);
            Ok(Answer::new("get", json!({"found": found.is_some(), "result": found})))
        }
    }
}

/// Applies step by step. A copy of a copy doubles, and nests: few steps could fill the memory or the stack.
fn apply(document: &mut Value, patch: &json_patch::Patch, call: &Call) -> Result<()> {
    use json_patch::PatchOperation::{Add, Copy, Move, Remove, Replace, Test};
    let most = usize::try_from(call.settings.file_operations.max_file_size).unwrap_or(usize::MAX);
    // At least as large as the document is; measured only where that would be too much.
    let (mut size, mut deep) = measure(document);
    for (at, step) in patch.0.iter().enumerate() {
        call.check()?;
        let tool = |text: &str| Error::new(Class::Tool, format!("patch[{at}]: {text}"));
        json_patch::patch(document, std::slice::from_ref(step)).map_err(|error| {
            let text = error.to_string();
            tool(text.split_once(": ").map_or(text.as_str(), |(_, text)| text))
        })?;
        let below = |path: &json_patch::jsonptr::PointerBuf| path.count();
        (size, deep) = match step {
            Add(step) => grown(size, deep, measure(&step.value), below(&step.path)),
            Replace(step) => grown(size, deep, measure(&step.value), below(&step.path)),
            Copy(step) => grown(size, deep, (size, deep), below(&step.path)),
            Move(step) => grown(size, deep, (0, deep), below(&step.path)),
            Remove(_) | Test(_) => (size, deep),
        };
        if size > most || deep > MAX_DEPTH {
            (size, deep) = measure(document);
        }
        if size > most {
            return Err(tool(&format!("the document grows beyond {most} bytes")));
        }
        if deep > MAX_DEPTH {
            return Err(tool(&format!("the document nests deeper than {MAX_DEPTH}")));
        }
    }
    Ok(())
}

/// Size and depth at most, after something of a size and depth was put `below` so many names.
fn grown(size: usize, deep: usize, new: (usize, usize), below: usize) -> (usize, usize) {
    (size.saturating_add(new.0), deep.max(below + new.1))
}

/// JSON given as text.
fn read(value: Value) -> Value {
    match value {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        value => value,
    }
}

/// About how many bytes the value takes, and how deep it nests.
fn measure(value: &Value) -> (usize, usize) {
    let sum = |all: &mut dyn Iterator<Item = (usize, &Value)>| {
        let (size, deep) = all.fold((32, 0), |(size, deep), (name, value)| {
            let (more, depth) = measure(value);
            (size + name + more, deep.max(depth))
        });
        (size, deep + 1)
    };
    match value {
        Value::Array(items) => sum(&mut items.iter().map(|item| (0, item))),
        Value::Object(members) => sum(&mut members.iter().map(|(name, value)| (32 + name.len(), value))),
        Value::String(text) => (32 + text.len(), 0),
        _ => (32, 0),
    }
}

/// The merge patch that makes `new` of `old`. A member of `new` that is null cannot be said; it goes missing.
fn merge_diff(old: &Value, new: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (old, new) else { return new.clone() };
    let mut patch = serde_json::Map::new();
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in after {
        match before.get(name) {
            Some(old) if old == value => {}
            Some(old) => drop(patch.insert(name.clone(), merge_diff(old, value))),
            None => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    patch.into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    #[test]
    fn patches_lead_back_and_forth() {
        let (old, new) = (json!({"a": [1, {"b": 2}], "c": "x"}), json!({"a": [1, {"b": 3}, 4], "d": {"e": null}}));
        let patch = result("json_patch", json!({"operation": "diff", "input": old, "target": new}))["patch"].take();
        assert_eq!(result("json_patch", json!({"input": old, "patch": patch}))["result"], new);
        let new = json!({"a": {"b": 1}, "z": 2});
        let patch =
            result("json_patch", json!({"operation": "merge_diff", "input": old, "target": new}))["patch"].take();
        assert_eq!(result("json_patch", json!({"operation": "merge", "input": old, "patch": patch}))["result"], new);
        assert_eq!(result("json_patch", json!({"operation": "get", "input": "[1]", "pointer": "/7"}))["found"], false);
    }

    #[test]
    fn merges_are_those_of_the_standard() {
        // RFC 7386, appendix A.
        for (old, patch, new) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(
                result("json_patch", json!({"operation": "merge", "input": old, "patch": patch}))["result"],
                new
            );
        }
    }

    #[test]
    fn bad_input() {
        bad(
            "json_patch",
            &[
                (json!({}), Class::Usage),
                (json!({"input": 1}), Class::Usage),
                (json!({"input": 1, "patch": 1}), Class::Usage),
                (json!({"input": {}, "patch": [{"op": "frob", "path": "/a"}]}), Class::Usage),
                (json!({"input": {}, "patch": [{"op": "add", "path": "a", "value": 1}]}), Class::Usage),
                (json!({"input": {}, "patch": [{"op": "remove", "path": "/a"}]}), Class::Tool),
                (json!({"input": {"a": 1}, "patch": [{"op": "test", "path": "/a", "value": 2}]}), Class::Tool),
                (json!({"input": [1], "patch": [{"op": "add", "path": "/5", "value": 2}]}), Class::Tool),
                (
                    json!({"input": {"a": 1, "b": 2}, "patch": vec![json!({"op": "copy", "from": "", "path": "/b"}); 200]}),
                    Class::Tool,
                ),
                (json!({"operation": "get", "input": {}, "pointer": "a"}), Class::Usage),
                (json!({"operation": "diff", "input": {}}), Class::Usage),
            ],
        );
    }
}
