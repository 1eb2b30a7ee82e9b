//! `diff_calculator`: what differs between two texts or two JSON values.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use similar::{Algorithm, ChangeTag, DiffTag, TextDiff, TextDiffConfig};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required};
use crate::error::{Class, Error, Result};

/// The diff calculator.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "diff_calculator",
    aliases: &["diff"],
    category: "utility",
    summary: "tell what differs between two texts, files or JSON values",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles],
    spellings: &[
        Spelling::Param("operation", "type"),
        Spelling::Param("old", "old_text"),
        Spelling::Param("new", "new_text"),
        Spelling::Value("type", "text_diff", "text"),
        Spelling::Value("type", "json_diff", "json"),
    ],
    examples: &[
        example(
            "two texts",
            r#"{"old_text": "a\nb\n", "new_text": "a\nc\n"}"#,
            r#"{"diff": "--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n", "stats": {"old_lines": 2, "new_lines": 2, "added": 1, "removed": 1}}"#,
        ),
        example(
            "every line with its mark",
            r#"{"old_text": "a\nb\n", "new_text": "a\nc\n", "format": "inline"}"#,
            r#"{"diff": " a\n-b\n+c\n"}"#,
        ),
        example(
            "two JSON values",
            r#"{"type": "json", "old_json": {"a": {"b": 1, "c": 2}, "d": 3}, "new_json": {"a": {"b": 1, "c": 4}, "e": 5}}"#,
            r#"{"diff": {"added": {"e": 5}, "removed": {"d": 3}, "modified": {"a.c": {"old": 2, "new": 4}}, "unchanged": ["a.b"]},
                "summary": {"added": 1, "removed": 1, "modified": 1, "unchanged": 1}}"#,
        ),
        example(
            "as a JSON Patch (RFC 6902)",
            r#"{"type": "json", "format": "patch", "old_json": {"a": 1}, "new_json": {"a": 2}}"#,
            r#"{"patch": [{"op": "replace", "path": "/a", "value": 2}]}"#,
        ),
    ],
};

/// Tells what differs. Lines of texts are compared as they are; JSON values member by member, arrays as a whole.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to compare; `json` when only JSON values are given.
    r#type: Option<Type>,
    /// The one text.
    old_text: Option<String>,
    /// The other text.
    new_text: Option<String>,
    /// The one JSON value.
    old_json: Option<Value>,
    /// The other JSON value.
    new_json: Option<Value>,
    /// A file in place of the one text or value.
    #[schemars(length(min = 1))]
    old_file: Option<String>,
    /// A file in place of the other.
    #[schemars(length(min = 1))]
    new_file: Option<String>,
    /// How to show differences; `patch` is for JSON: RFC 6902.
    #[serde(default)]
    format: Format,
    /// `unified`, `context`: lines shown around a change.
    #[serde(default = "three")]
    #[schemars(range(max = 1000))]
    context_lines: usize,
}

fn three() -> usize {
    3
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Type {
    Text,
    Json,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Format {
    #[default]
    Unified,
    Context,
    Inline,
    Simple,
    Patch,
}

/// Compares.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    let only_json = params.old_json.is_some() && params.old_text.is_none() && params.old_file.is_none();
    if params.r#type == Some(Type::Json) || params.r#type.is_none() && only_json {
        let old = json_of(params.old_json, params.old_file.as_deref(), "old_json", call)?;
        let new = json_of(params.new_json, params.new_file.as_deref(), "new_json", call)?;
        return Ok(json_diff(&old, &new, params.format));
    }
    if params.format == Format::Patch {
        return Err(Error::new(Class::Usage, "format: patch is for JSON values").hint(r#"Say type = "json"."#));
    }
    let text = |text: Option<String>, file: Option<&str>, name: &str| match file {
        Some(path) => files::read_text(path, call),
        None => required(text, name),
    };
    let old = text(params.old_text, params.old_file.as_deref(), "old_text")?;
    let new = text(params.new_text, params.new_file.as_deref(), "new_text")?;
    let names = (params.old_file.as_deref().unwrap_or("old"), params.new_file.as_deref().unwrap_or("new"));
    let diff = lines(&old, &new, call);
    call.check()?;
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    let (added, removed) = (count(ChangeTag::Insert), count(ChangeTag::Delete));
    let (old_lines, new_lines) = (old.lines().count(), new.lines().count());
    let text = match params.format {
        Format::Unified => unified(&diff, params.context_lines, names),
        Format::Context => context(&diff, params.context_lines, names),
        Format::Inline => inline(&diff),
        _ => simple(&diff),
    };
    let result = json!({
        "type": "text", "format": params.format, "diff": text, "ratio": diff.ratio(),
        "stats": {"old_lines": old_lines, "new_lines": new_lines, "added": added, "removed": removed},
    });
    let message = if added + removed == 0 { "No differences" } else { "Text diff calculated" };
    Ok(Answer::new("text_diff", result).message(message).text(text))
}

/// The difference of two texts by lines; the nearer the deadline, the coarser.
pub(super) fn lines<'a>(old: &'a str, new: &'a str, call: &Call) -> TextDiff<'a, 'a, str> {
    let mut config = TextDiffConfig::default();
    config.algorithm(Algorithm::Myers);
    // Some difference is better than none: what is left of the time, at most ten seconds, halved for all that follows.
    let most = std::time::Duration::from_secs(10);
    config.timeout(call.remaining().map_or(most, |left| (left / 2).min(most)));
    config.diff_lines(old, new)
}

/// In the format of `diff -u`; empty for equal texts.
pub(super) fn unified(diff: &TextDiff<'_, '_, str>, context: usize, (old, new): (&str, &str)) -> String {
    diff.unified_diff().context_radius(context).header(old, new).to_string()
}

/// In the format of `diff -c`; empty for equal texts.
fn context(diff: &TextDiff<'_, '_, str>, radius: usize, (old, new): (&str, &str)) -> String {
    let mut out = String::new();
    for group in diff.grouped_ops(radius) {
        if out.is_empty() {
            out = format!("*** {old}\n--- {new}\n");
        }
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let range = |range: std::ops::Range<usize>| match range.len() {
            0 => range.start.to_string(),
            1 => (range.start + 1).to_string(),
            _ => format!("{},{}", range.start + 1, range.end),
        };
        let side = |out: &mut String, tag: DiffTag, mark: &str, only: ChangeTag| {
            if !group.iter().any(|op| op.tag() == tag || op.tag() == DiffTag::Replace) {
                return;
            }
            for op in &group {
                for change in diff.iter_changes(op) {
                    let mark = match change.tag() {
                        ChangeTag::Equal => " ",
                        tag if tag != only => continue,
                        _ if op.tag() == DiffTag::Replace => "!",
                        _ => mark,
                    };
                    push_line(out, &format!("{mark} "), change.value());
                }
            }
        };
        out.push_str(&format!("***************\n*** {} ****\n", range(first.old_range().start..last.old_range().end)));
        side(&mut out, DiffTag::Delete, "-", ChangeTag::Delete);
        out.push_str(&format!("--- {} ----\n", range(first.new_range().start..last.new_range().end)));
        side(&mut out, DiffTag::Insert, "+", ChangeTag::Insert);
    }
    out
}

fn push_line(out: &mut String, mark: &str, line: &str) {
    out.push_str(mark);
    out.push_str(line);
    if !line.ends_with('\n') {
        out.push_str("\n\\ No newline at end of file\n");
    }
}

fn inline(diff: &TextDiff<'_, '_, str>) -> String {
    let mut out = String::new();
    for change in diff.iter_all_changes() {
        let mark = match change.tag() {
            ChangeTag::Equal => " ",
            ChangeTag::Delete => "-",
            ChangeTag::Insert => "+",
        };
        push_line(&mut out, mark, change.value());
    }
    out
}

fn simple(diff: &TextDiff<'_, '_, str>) -> String {
    let place = |range: std::ops::Range<usize>| format!("{}-{}", range.start + 1, range.end.max(range.start + 1));
    let told = diff.ops().iter().filter_map(|op| {
        let (old, new) = (place(op.old_range()), place(op.new_range()));
        match op.tag() {
            DiffTag::Equal => None,
            DiffTag::Delete => Some(format!("Deleted lines {old}\n")),
            DiffTag::Insert => Some(format!("Inserted lines {new}\n")),
            DiffTag::Replace => Some(format!("Replaced at lines {old} with lines {new}\n")),
        }
    });
    let told: Vec<_> = told.collect();
    format!("Total changes: {}\n\n{}", told.len(), told.concat())
}

fn json_of(given: Option<Value>, file: Option<&str>, name: &str, call: &Call) -> Result<Value> {
    let (text, name) = match (file, given) {
        (Some(path), _) => (files::read_text(path, call)?, path),
        (None, Some(Value::String(text))) => (text, name),
        (None, given) => return required(given, name),
    };
    match serde_json::from_str(&text) {
        Ok(value) => Ok(value),
        // A value may be a text that is no JSON; a file may not.
        Err(_) if file.is_none() => Ok(Value::String(text)),
        Err(error) => Err(Error::new(Class::Tool, format!("{name}: not JSON: {error}"))),
    }
}

#[derive(Default)]
struct Changes {
    added: Map<String, Value>,
    removed: Map<String, Value>,
    modified: Map<String, Value>,
    unchanged: Vec<String>,
}

fn json_diff(old: &Value, new: &Value, format: Format) -> Answer {
    let mut changes = Changes::default();
    compare(old, new, "", &mut changes);
    let summary = json!({
        "added": changes.added.len(), "removed": changes.removed.len(), "modified": changes.modified.len(),
        "unchanged": changes.unchanged.len(),
    });
    let mut result = json!({
        "type": "json", "summary": summary,
        "diff": {
            "added": changes.added, "removed": changes.removed, "modified": changes.modified, "unchanged": changes.unchanged,
        },
    });
    if format == Format::Patch {
        result["patch"] = json!(json_patch::diff(old, new));
    }
    Answer::new("json_diff", result).message("JSON diff calculated")
}

fn compare(old: &Value, new: &Value, path: &str, changes: &mut Changes) {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                match after.get(name) {
                    Some(now) => compare(value, now, &at(name), changes),
                    None => drop(changes.removed.insert(at(name), value.clone())),
                }
            }
            for (name, value) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
                changes.added.insert(at(name), value.clone());
            }
        }
        _ if old == new => changes.unchanged.push(path.to_owned()),
        _ => {
            let mut change = json!({"old": old, "new": new});
            let mut place = path;
            if path.is_empty() {
                place = "value";
                if let (Value::Array(before), Value::Array(after)) = (old, new) {
                    place = "[]";
                    change["old_length"] = before.len().into();
                    change["new_length"] = after.len().into();
                }
            }
            changes.modified.insert(place.to_owned(), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    #[test]
    fn formats() {
        let diff = |old: &str, new: &str, format: &str| {
            result("diff", json!({"old_text": old, "new_text": new, "format": format}))["diff"].take()
        };
        assert_eq!(diff("a\n", "a\n", "unified"), "");
        assert_eq!(diff("a\n", "a\n", "context"), "");
        assert_eq!(diff("", "", "simple"), "Total changes: 0\n\n");
        assert_eq!(diff("a\nb\n", "a\nc\n", "simple"), "Total changes: 1\n\nReplaced at lines 2-2 with lines 2-2\n");
        assert_eq!(
            diff("a\nb\n", "a\nc\nd\n", "context"),
            "*** old\n--- new\n***************\n*** 1,2 ****\n  a\n! b\n--- 1,3 ----\n  a\n! c\n! d\n"
        );
        assert_eq!(diff("a", "b", "inline"), "-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n");
    }

    #[test]
    fn json_and_files() {
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a.json"), "[1, 2]").unwrap();
        let params = json!({"type": "json", "old_file": "a.json", "new_json": [1]});
        let diff = run("diff", params, &call).unwrap()["result"]["diff"].take();
        assert_eq!(diff["modified"], json!({"[]": {"old": [1, 2], "new": [1], "old_length": 2, "new_length": 1}}));
        let same = result("diff", json!({"old_json": 1, "new_json": 1}));
        assert_eq!(same["summary"]["modified"], 0);
        std::fs::write(dir.path().join("b"), b"\xff").unwrap();
        std::fs::write(dir.path().join("c"), "{").unwrap();
        for params in
            [json!({"old_file": "b", "new_text": ""}), json!({"type": "json", "old_file": "c", "new_json": 1})]
        {
            assert_eq!(run("diff", params, &call).unwrap_err().class(), Class::Tool);
        }
    }

    #[test]
    fn bad_input() {
        bad(
            "diff_calculator",
            &[
                (json!({}), Class::Usage),
                (json!({"old_text": "a"}), Class::Usage),
                (json!({"old_json": 1}), Class::Usage),
                (json!({"old_text": "a", "new_text": "b", "format": "patch"}), Class::Usage),
                (json!({"old_text": "a", "new_text": "b", "format": "html"}), Class::Usage),
                (json!({"old_file": "absent", "new_text": ""}), Class::NotFound),
                (json!({"old_file": "/etc/passwd", "new_text": ""}), Class::Denied),
            ],
        );
    }
}
