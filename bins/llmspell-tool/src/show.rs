//! Replies for people and for programs.

use std::fmt::Write;

use llmspell::cli::{Talk, print};
use llmspell::error::Result;
use serde_json::{Map, Value};

use crate::cli::Format;

/// One JSON document.
pub(crate) fn json(document: &Value, format: Format) -> Result<()> {
    let text = if format == Format::Pretty { format!("{document:#}\n") } else { format!("{document}\n") };
    print(&text)
}

/// The objects in a list of the reply.
pub(crate) fn rows<'a>(reply: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    reply.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A string of an object; empty when there is none.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What kind of JSON a value is.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Tools, a line each; how many there are.
pub(crate) fn list(reply: &Map<String, Value>, key: &str, format: Format) -> Result<usize> {
    let tools = rows(reply, key);
    if format != Format::Text {
        json(&Value::Object(reply.clone()), format)?;
        return Ok(tools.len());
    }
    let width = |key: &str| tools.iter().map(|tool| text(tool, key).len()).max().unwrap_or(0);
    let (names, categories) = (width("name"), width("category"));
    let mut lines = String::new();
    for tool in tools {
        let (name, category, summary) = (text(tool, "name"), text(tool, "category"), text(tool, "summary"));
        let _ = write!(lines, "{name:names$}  {category:categories$}  {summary}");
        if let Some(feature) = tool.get("feature").and_then(Value::as_str) {
            let _ = write!(lines, " (not in this build: needs --features {feature})");
        }
        lines.push('\n');
    }
    print(&lines)?;
    Ok(tools.len())
}

/// Everything about one tool.
pub(crate) fn info(reply: &Map<String, Value>, schema: bool, format: Format) -> Result<()> {
    let reply = Value::Object(reply.clone());
    if format != Format::Text {
        return json(&reply, format);
    }
    let mut out = format!("{}: {}\n\n", text(&reply, "name"), text(&reply, "summary"));
    let words = |key: &str| -> String {
        let list = reply.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    for (label, value) in [
        ("category", text(&reply, "category").to_owned()),
        ("security level", text(&reply, "security_level").to_owned()),
        ("effects", words("effects")),
        ("also called", words("aliases")),
    ] {
        if !value.is_empty() {
            let _ = writeln!(out, "{label}: {value}");
        }
    }
    out.push_str("\nparameters:\n");
    for parameter in reply.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let required = parameter.get("required") == Some(&Value::Bool(true));
        let _ = write!(out, "  {} ({}", text(parameter, "name"), text(parameter, "type"));
        match parameter.get("default").filter(|default| !default.is_null()) {
            _ if required => out.push_str(", required)"),
            Some(default) => {
                let _ = write!(out, ", default {default})");
            }
            None => out.push(')'),
        }
        let _ = writeln!(out, "\n      {}", text(parameter, "description").replace('\n', "\n      "));
    }
    out.push_str("\nexamples:\n");
    for example in reply.get("examples").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(out, "  # {}", text(example, "title"));
        let params = example["params"].to_string();
        let _ = writeln!(out, "  llmspell-tool invoke {} --params {}", text(&reply, "name"), quoted(&params));
        let _ = writeln!(out, "  {}", example["result"]);
    }
    if schema {
        let _ = writeln!(out, "\nschema:\n{:#}", reply["schema"]);
    }
    print(&out)
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The result of a call: its text if it has one, else its data.
pub(crate) fn result(reply: &Map<String, Value>, format: Format) -> Result<()> {
    if format != Format::Text {
        return json(&Value::Object(reply.clone()), format);
    }
    let data = reply.get("result");
    let text = reply.get("text").or(data).and_then(Value::as_str);
    print(&match (text, data) {
        (Some(text), _) if text.ends_with('\n') || text.is_empty() => text.to_owned(),
        (Some(text), _) => format!("{text}\n"),
        (None, Some(data)) => format!("{data:#}\n"),
        (None, None) => String::new(),
    })
}

/// How the examples of one tool fared.
pub(crate) fn test(reply: &Map<String, Value>, talk: Talk) -> Result<()> {
    let reply = Value::Object(reply.clone());
    let passed = reply["success"] == true;
    let mark = if passed { "ok" } else { "FAILED" };
    let mut out = String::new();
    if talk != Talk::Quiet || !passed {
        let _ = writeln!(out, "{mark} {}: {}", text(&reply, "tool"), text(&reply, "message"));
    }
    for case in reply["cases"].as_array().into_iter().flatten() {
        let passed = case["passed"] == true;
        if !passed || talk == Talk::Verbose {
            let _ = writeln!(out, "  {} {}", if passed { "ok" } else { "FAILED" }, text(case, "title"));
        }
        if let Some(message) = case["message"].as_str() {
            let _ = writeln!(out, "    {}", message.replace('\n', "\n    "));
        }
    }
    print(&out)
}
