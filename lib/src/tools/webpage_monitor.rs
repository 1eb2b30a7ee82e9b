//! `webpage_monitor`: what changed on a page since the last look. The last look is a text the caller hands over, or a file.

use std::time::SystemTime;

use schemars::JsonSchema;
use scraper::Html;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use similar::{DiffOp, TextDiff};

use super::http::{self, Request};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, html, timestamp, web, yes};
use crate::error::{Class, Error, Result};

/// The monitor.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "webpage_monitor",
    aliases: &["page_monitor"],
    category: "web",
    summary: "tell what changed on a web page, or in a part of it, since the last look",
    level: Level::Restricted,
    effects: &[Effect::Network, Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[Spelling::Param("url", "input"), Spelling::Param("state_path", "state_file")],
    examples: &[
        example(
            "the first look",
            r#"{"input": "$HTTP/serve?type=text/html&body=<p>one</p><p>two</p>"}"#,
            r#"{"current_content": "one\ntwo", "has_changes": false}"#,
        ),
        example(
            "the next one",
            r#"{"input": "$HTTP/serve?type=text/html&body=<p>one</p><p>three</p>", "previous_content": "one\ntwo"}"#,
            r#"{"has_changes": true, "change_count": 1, "changes": [
                {"type": "modification", "old_line": 2, "new_line": 2, "old_content": "two", "new_content": "three"}]}"#,
        ),
        example(
            "with a file that remembers",
            r#"{"input": "$HTTP/serve?type=text/html&body=<p>one</p>", "state_file": "$TMP/page.json"}"#,
            r#"{"has_changes": false, "message": "first look"}"#,
        ),
        example(
            "and the look after that",
            r#"{"input": "$HTTP/serve?type=text/html&body=<p>one</p>", "state_file": "$TMP/page.json"}"#,
            r#"{"has_changes": false, "message": "no change", "previous_content": "one"}"#,
        ),
    ],
};

/// Looks at a page and compares. Text is compared line by line, as a reader sees it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The URL.
    #[schemars(length(min = 1))]
    input: String,
    /// What the last look found; without it and without `state_file` this is the first one.
    previous_content: Option<String>,
    /// A file that holds the last look and is written at each, for one page and selector.
    state_file: Option<String>,
    /// Only the parts this CSS selector finds.
    selector: Option<String>,
    /// Whether lines that differ in white space only are the same.
    #[serde(default = "yes")]
    ignore_whitespace: bool,
    /// Longest time, seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
    /// Headers to send.
    #[serde(default)]
    headers: Map<String, Value>,
}

fn thirty() -> f64 {
    30.0
}

/// Looks.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let selector = params.selector.as_deref().map(|css| html::selector(css, "selector")).transpose()?;
    let url = http::parse(&params.input, "input")?;
    let remembered = match &params.state_file {
        Some(path) => remembered(path, &params, call)?,
        None => None,
    };
    let request = web::with_headers(Request::new("GET", url, &call.settings)?, &params.headers)?;
    let response = request.send_within(web::seconds(params.timeout), call)?;
    // A page of an error is not what is watched.
    if !response.is_success() {
        return Err(Error::new(Class::Remote, format!("{}: status {}", response.url, response.status)));
    }
    let text = html::decode(&response);
    let current = if response.media_type().contains("html") || response.media_type().is_empty() {
        let page = Html::parse_document(&text);
        match &selector {
            Some(selector) => page.select(selector).map(html::text).collect::<Vec<_>>().join("\n"),
            None => html::body(&page),
        }
    } else {
        text
    };
    if let Some(path) = &params.state_file {
        let state = json!({
            "url": params.input, "selector": params.selector, "content": current, "time": timestamp(SystemTime::now()),
        });
        files::write(path, state.to_string().as_bytes(), call)?;
    }
    let hash: String = Sha256::digest(current.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut result = json!({
        "url": params.input, "current_content": current, "content_hash": hash, "selector_used": params.selector,
        "ignore_whitespace": params.ignore_whitespace,
    });
    let message = match params.previous_content.or(remembered) {
        None => {
            result["has_changes"] = false.into();
            "first look".to_owned()
        }
        Some(previous) => {
            let changes = changes(&previous, &current, params.ignore_whitespace);
            let count = changes.len();
            result["has_changes"] = (count > 0).into();
            result["change_count"] = count.into();
            result["changes"] = changes.into();
            result["previous_content"] = previous.into();
            match count {
                0 => "no change".into(),
                1 => "1 change".into(),
                count => format!("{count} changes"),
            }
        }
    };
    result["message"] = message.as_str().into();
    Ok(Answer::new("monitor", result).message(message))
}

/// What the file holds of the last look; nothing when there is no file.
fn remembered(path: &str, params: &Params, call: &Call) -> Result<Option<String>> {
    let text = match files::read_text(path, call) {
        Err(error) if error.class() == Class::NotFound => return Ok(None),
        text => text?,
    };
    let wrong = |what: &str| Error::new(Class::Tool, format!("{path}: {what}")).hint("Name another state_file.");
    let state: Value = serde_json::from_str(&text).map_err(|_| wrong("not a file of this tool"))?;
    let content = state["content"].as_str().ok_or_else(|| wrong("not a file of this tool"))?;
    if state["url"] != params.input.as_str() || state["selector"].as_str() != params.selector.as_deref() {
        return Err(wrong("of another page or selector"));
    }
    Ok(Some(content.to_owned()))
}

/// The changed lines; `group` counts the places.
fn changes(old: &str, new: &str, ignore_whitespace: bool) -> Vec<Value> {
    let plain = |line: &str| {
        if ignore_whitespace { line.split_whitespace().collect::<Vec<_>>().join(" ") } else { line.to_owned() }
    };
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let keep = |line: &String| !ignore_whitespace || !line.is_empty();
    let numbered = |lines: &[&str]| {
        let lines = lines.iter().enumerate().map(|(index, line)| (index, plain(line)));
        lines.filter(|(_, line)| keep(line)).collect::<Vec<_>>()
    };
    let (old_lines, new_lines) = (numbered(&old), numbered(&new));
    let texts = |lines: &[(usize, String)]| lines.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>();
    let (old_texts, new_texts) = (texts(&old_lines), texts(&new_lines));
    let (old_refs, new_refs): (Vec<&str>, Vec<&str>) =
        (old_texts.iter().map(String::as_str).collect(), new_texts.iter().map(String::as_str).collect());
    let diff = TextDiff::from_slices(&old_refs, &new_refs);
    let mut rows = Vec::new();
    let mut group = 0;
    for op in diff.ops() {
        if matches!(op, DiffOp::Equal { .. }) {
            continue;
        }
        let (olds, news) = (&old_lines[op.old_range()], &new_lines[op.new_range()]);
        for index in 0..olds.len().max(news.len()) {
            let at = |lines: &[(usize, String)], whole: &[&str]| {
                lines.get(index).map(|(number, _)| (number + 1, whole[*number].to_owned()))
            };
            rows.push(match (at(olds, &old), at(news, &new)) {
                (Some((from, before)), Some((to, after))) => json!({
                    "type": "modification", "old_line": from, "new_line": to, "old_content": before, "new_content": after, "group": group,
                }),
                (Some((from, before)), None) => json!({"type": "deletion", "old_line": from, "content": before, "group": group}),
                (None, Some((to, after))) => json!({"type": "addition", "new_line": to, "content": after, "group": group}),
                (None, None) => continue,
            });
        }
        group += 1;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    #[test]
    fn lines_are_compared() {
        assert_eq!(
            changes("a\n\n b\nc", "a\nb \nd\ne", true),
            [
                json!({"type": "modification", "old_line": 4, "new_line": 3, "old_content": "c", "new_content": "d", "group": 0}),
                json!({"type": "addition", "new_line": 4, "content": "e", "group": 0}),
            ]
        );
        assert_eq!(
            changes("a\nb", "b", false),
            [json!({"type": "deletion", "old_line": 1, "content": "a", "group": 0})]
        );
        assert_eq!(changes("a b", "a  b", false).len(), 1);
        assert_eq!(changes("a b", "a  b", true).len(), 0);
    }

    #[test]
    fn a_state_file_belongs_to_one_page() {
        let (dir, call) = folder();
        for (text, words) in
            [("nonsense", "not a file of this tool"), (r#"{"url": "x", "content": ""}"#, "of another page")]
        {
            std::fs::write(dir.path().join("s"), text).unwrap();
            let error =
                run("webpage_monitor", json!({"input": "http://127.0.0.1/", "state_file": "s"}), &call).unwrap_err();
            assert!(error.text().contains(words), "{error}");
        }
        bad(
            "webpage_monitor",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "http://127.0.0.1/"}), Class::Denied),
                (json!({"input": "http://127.0.0.1/", "state_file": "/etc/passwd"}), Class::Denied),
                (json!({"input": "http://127.0.0.1/", "selector": ">"}), Class::Usage),
            ],
        );
    }
}
