//! `markdown_processor`: HTML, plain text, headings, links, tables and front matter of Markdown.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required};
use crate::error::{Class, Error, Result};

/// The Markdown processor.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "markdown_processor",
    aliases: &["markdown"],
    category: "data",
    summary: "render Markdown to HTML or plain text; its outline, links, tables, code and front matter",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("markdown", "input"),
        Spelling::Param("file", "path"),
        Spelling::Value("operation", "html", "to_html"),
        Spelling::Value("operation", "render", "to_html"),
        Spelling::Value("operation", "text", "to_text"),
        Spelling::Value("operation", "toc", "outline"),
        Spelling::Value("operation", "headings", "outline"),
    ],
    examples: &[
        example(
            "HTML; raw HTML in it is escaped",
            r##"{"input": "# Hi\n\n*a* <b>b</b> ~~c~~"}"##,
            r#"{"html": "<h1>Hi</h1>\n<p><em>a</em> &lt;b&gt;b&lt;/b&gt; <del>c</del></p>\n"}"#,
        ),
        example(
            "what it is made of",
            r##"{"operation": "extract", "input": "---\ntitle: T\n---\n# A\n[x](http://e.org)\n\n```sh\nls\n```\n"}"##,
            r#"{"front_matter": "title: T\n", "headings": [{"level": 1, "text": "A", "id": "a"}],
                "links": [{"text": "x", "url": "http://e.org"}], "code_blocks": [{"language": "sh", "code": "ls\n"}]}"#,
        ),
        example(
            "a table as data",
            r#"{"operation": "extract", "input": "| n | x |\n|---|---|\n| a | 1 |\n| b | 2 |"}"#,
            r#"{"tables": [{"header": ["n", "x"], "rows": [["a", "1"], ["b", "2"]]}]}"#,
        ),
        example(
            "a table of contents",
            r##"{"operation": "outline", "input": "# One\n## Two\n## Two\n"}"##,
            r##"{"outline": "- [One](#one)\n  - [Two](#two)\n  - [Two](#two-1)\n"}"##,
        ),
        example(
            "plain text",
            r#"{"operation": "to_text", "input": "A **b** [c](d)\n\n- e\n- f"}"#,
            r#"{"text": "A b c\n\n- e\n- f"}"#,
        ),
    ],
};

/// Reads Markdown: CommonMark with tables, footnotes, strikethrough, task lists and front matter.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to make of it.
    #[serde(default)]
    operation: Operation,
    /// The Markdown.
    input: Option<String>,
    /// A file in place of it, UTF-8.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// Where to write the HTML, the text or the outline as well.
    #[schemars(length(min = 1))]
    output_file: Option<String>,
    /// `to_html`: let raw HTML through. Only for texts you trust: it may hold scripts.
    #[serde(default)]
    allow_html: bool,
    /// `to_html`: a whole page with this title.
    page_title: Option<String>,
    /// `to_html`: headings carry an id.
    #[serde(default)]
    heading_ids: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    ToHtml,
    ToText,
    Outline,
    Extract,
}

/// Processes.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let text = match &params.path {
        Some(_) if params.input.is_some() => return Err(Error::new(Class::Usage, "path: given together with input")),
        Some(path) => files::read_text(path, call)?,
        None => required(params.input, "input")?,
    };
    call.check()?;
    let (name, member, made) = match params.operation {
        Operation::ToHtml => {
            let body = to_html(&text, params.allow_html, params.heading_ids);
            let made = match &params.page_title {
                Some(title) => page(&body, title),
                None => body,
            };
            ("to_html", "html", made)
        }
        Operation::ToText => ("to_text", "text", to_text(&text)),
        Operation::Outline => ("outline", "outline", outline(&headings(&text))),
        Operation::Extract => return Ok(Answer::new("extract", extract(&text))),
    };
    call.check()?;
    let mut result = json!({});
    if params.operation == Operation::Outline {
        result["headings"] = headings(&text).iter().map(Heading::json).collect();
    }
    if let Some(path) = &params.output_file {
        files::write(path, made.as_bytes(), call)?;
        result["output_file"] = path.as_str().into();
    }
    result[member] = made.as_str().into();
    Ok(Answer::new(name, result).text(made))
}

pub(super) fn parser(text: &str) -> Parser<'_> {
    Parser::new_ext(
        text,
        Options::ENABLE_TABLES
            | Options::ENABLE_FOOTNOTES
            | Options::ENABLE_STRIKETHROUGH
            | Options::ENABLE_TASKLISTS
            | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
            | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS,
    )
}

fn to_html(text: &str, raw: bool, ids: bool) -> String {
    let mut names = headings(text).into_iter().map(|heading| heading.id);
    let mut inside = false;
    let events = parser(text).filter_map(|event| match event {
        // Front matter is no text.
        Event::Start(Tag::MetadataBlock(_)) => {
            inside = true;
            None
        }
        Event::End(TagEnd::MetadataBlock(_)) => {
            inside = false;
            None
        }
        _ if inside => None,
        Event::Html(html) | Event::InlineHtml(html) if !raw => Some(Event::Text(html)),
        Event::Start(Tag::Heading { level, classes, attrs, .. }) if ids => {
            Some(Event::Start(Tag::Heading { level, id: names.next().map(Into::into), classes, attrs }))
        }
        Event::Start(Tag::Link { link_type, dest_url, title, id }) if !raw && active(&dest_url) => {
            Some(Event::Start(Tag::Link { link_type, dest_url: "".into(), title, id }))
        }
        event => Some(event),
    });
    let mut out = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut out, events);
    out
}

/// Whether following the link would run something.
fn active(url: &str) -> bool {
    let plain: String =
        url.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect::<String>().to_lowercase();
    ["javascript:", "vbscript:", "data:text/html"].iter().any(|scheme| plain.starts_with(scheme))
}

fn page(body: &str, title: &str) -> String {
    let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

struct Heading {
    level: usize,
    text: String,
    id: String,
}

impl Heading {
    fn json(&self) -> Value {
        json!({"level": self.level, "text": self.text, "id": self.id})
    }
}

/// The headings, with the ids code hosts give them.
fn headings(text: &str) -> Vec<Heading> {
    let mut found: Vec<Heading> = Vec::new();
    let mut used = std::collections::HashMap::<String, usize>::new();
    let mut open: Option<(HeadingLevel, String)> = None;
    for event in parser(text) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => open = Some((level, String::new())),
            Event::End(TagEnd::Heading(_)) => {
                let Some((level, text)) = open.take() else { continue };
                let plain: String = text
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect();
                let count = used.entry(plain.clone()).and_modify(|count| *count += 1).or_insert(0);
                let id = if *count == 0 { plain } else { format!("{plain}-{count}") };
                found.push(Heading { level: level as usize, text, id });
            }
            Event::Text(part) | Event::Code(part) => {
                if let Some((_, text)) = &mut open {
                    text.push_str(&part);
                }
            }
            _ => {}
        }
    }
    found
}

fn outline(headings: &[Heading]) -> String {
    let top = headings.iter().map(|heading| heading.level).min().unwrap_or(1);
    let line = |heading: &Heading| {
        let text = heading.text.replace('[', "\\[").replace(']', "\\]");
        format!("{}- [{text}](#{})\n", "  ".repeat(heading.level - top), heading.id)
    };
    headings.iter().map(line).collect()
}

fn to_text(text: &str) -> String {
    let mut out = String::new();
    let mut lists: Vec<Option<u64>> = Vec::new();
    let mut skip = false;
    let gap = |out: &mut String, lines: usize| {
        if !out.is_empty() {
            let have = out.len() - out.trim_end_matches('\n').len();
            out.push_str(&"\n".repeat(lines.saturating_sub(have)));
        }
    };
    for event in parser(text) {
        match event {
            Event::Start(Tag::MetadataBlock(_)) => skip = true,
            Event::End(TagEnd::MetadataBlock(_)) => skip = false,
            _ if skip => {}
            // The first paragraph of an item stands beside its mark.
            Event::Start(Tag::Paragraph | Tag::Heading { .. } | Tag::CodeBlock(_) | Tag::Table(_))
                if lists.is_empty() || !out.ends_with("- ") && !out.ends_with(". ") =>
            {
                gap(&mut out, if lists.is_empty() { 2 } else { 1 });
            }
            Event::Start(Tag::List(first)) => {
                gap(&mut out, if lists.is_empty() { 2 } else { 1 });
                lists.push(first);
            }
            Event::End(TagEnd::List(_)) => {
                lists.pop();
            }
            Event::Start(Tag::Item) => {
                gap(&mut out, 1);
                // Deeper than anybody indents, the depth no longer shows.
                out.push_str(&"  ".repeat(lists.len().saturating_sub(1).min(20)));
                match lists.last_mut() {
                    Some(Some(number)) => {
                        out.push_str(&format!("{number}. "));
                        *number += 1;
                    }
                    _ => out.push_str("- "),
                }
            }
            Event::End(TagEnd::TableCell) => out.push('\t'),
            Event::End(TagEnd::TableHead | TagEnd::TableRow) => {
                out.truncate(out.trim_end_matches('\t').len());
                out.push('\n');
            }
            Event::Text(part) | Event::Code(part) | Event::InlineMath(part) | Event::DisplayMath(part) => {
                out.push_str(&part);
            }
            Event::SoftBreak => out.push(' '),
            Event::HardBreak => out.push('\n'),
            Event::Rule => {
                gap(&mut out, 2);
                out.push_str("---");
            }
            Event::TaskListMarker(done) => out.push_str(if done { "[x] " } else { "[ ] " }),
            _ => {}
        }
    }
    out.trim_end().to_owned()
}

fn extract(text: &str) -> Value {
    let (mut links, mut images, mut codes, mut tables, mut tasks) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut front, mut notes) = (Value::Null, 0_u64);
    // Texts being collected, the innermost last.
    let mut open: Vec<(String, Map<String, Value>)> = Vec::new();
    let (mut row, mut rows): (Vec<Value>, Vec<Value>) = (vec![], vec![]);
    for event in parser(text) {
        let start = |map: Value| (String::new(), map.as_object().cloned().unwrap_or_default());
        match event {
            Event::Start(Tag::Link { dest_url, title, .. } | Tag::Image { dest_url, title, .. }) => {
                let title = if title.is_empty() { Value::Null } else { title.to_string().into() };
                open.push(start(json!({"url": dest_url.to_string(), "title": title})));
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match &kind {
                    pulldown_cmark::CodeBlockKind::Fenced(info) => info.split_whitespace().next().map(str::to_owned),
                    pulldown_cmark::CodeBlockKind::Indented => None,
                };
                open.push(start(json!({"language": language})));
            }
            Event::Start(Tag::MetadataBlock(_) | Tag::TableCell) => open.push(start(json!({}))),
            Event::Start(Tag::Table(_)) => rows.clear(),
            Event::Start(Tag::FootnoteDefinition(_)) => notes += 1,
            Event::End(
                end @ (TagEnd::Link | TagEnd::Image | TagEnd::CodeBlock | TagEnd::MetadataBlock(_) | TagEnd::TableCell),
            ) => {
                let Some((text, mut map)) = open.pop() else { continue };
                let mut put = |name: &str, list: &mut Vec<Value>| {
                    map.insert(name.into(), text.as_str().into());
                    list.push(std::mem::take(&mut map).into());
                };
                match end {
                    TagEnd::Link => put("text", &mut links),
                    TagEnd::Image => put("text", &mut images),
                    TagEnd::CodeBlock => put("code", &mut codes),
                    TagEnd::TableCell => row.push(text.as_str().into()),
                    _ => front = text.as_str().into(),
                }
                // What is inside is text of what is around, as a link in a cell.
                if let (TagEnd::Link | TagEnd::Image, Some((outer, _))) = (end, open.last_mut()) {
                    outer.push_str(&text);
                }
            }
            Event::End(TagEnd::TableHead | TagEnd::TableRow) => rows.push(std::mem::take(&mut row).into()),
            Event::End(TagEnd::Table) => {
                let body = rows.split_off(1.min(rows.len()));
                tables.push(json!({"header": rows.pop(), "rows": body}));
            }
            Event::TaskListMarker(done) => tasks.push(json!(done)),
            Event::Text(part) | Event::Code(part) => {
                if let Some((text, _)) = open.last_mut() {
                    text.push_str(&part);
                }
            }
            _ => {}
        }
    }
    let done = tasks.iter().filter(|done| **done == json!(true)).count();
    let headings = headings(text);
    json!({
        "front_matter": front, "title": headings.first().map(|heading| heading.text.clone()),
        "headings": headings.iter().map(Heading::json).collect::<Vec<_>>(), "links": links, "images": images, "code_blocks": codes,
        "tables": tables, "tasks": {"total": tasks.len(), "done": done}, "footnotes": notes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    #[test]
    fn html_holds_nothing_that_runs_unless_told_so() {
        let html = |input: &str, allow: bool| {
            let made = result("markdown", json!({"input": input, "allow_html": allow}));
            made["html"].as_str().unwrap().to_owned()
        };
        assert!(!html("<script>x</script>", false).contains("<script"));
        assert!(!html("a <img onerror=x>", false).contains("<img"));
        assert!(
            !html("[a](JavaScript:x) [b](<java\tscript:x>) <javascript:x>", false)
                .to_lowercase()
                .contains("href=\"java")
        );
        assert!(html("<b>x</b>", true).contains("<b>x</b>"));
        assert_eq!(html("---\na: 1\n---\nx", false), "<p>x</p>\n");
        let page = result("markdown", json!({"input": "## A b", "heading_ids": true, "page_title": "<T>"}));
        let page = page["html"].as_str().unwrap();
        assert!(page.contains("<title>&lt;T&gt;</title>") && page.contains("<h2 id=\"a-b\">A b</h2>"), "{page}");
    }

    #[test]
    fn text_keeps_lists_code_and_tables() {
        let input = "# T\n\nA  \nb `c`\n\n1. x\n   - y\n2. z\n\n```\ncode\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n- [x] done";
        let text = result("markdown", json!({"operation": "to_text", "input": input}))["text"].take();
        assert_eq!(text, "T\n\nA\nb c\n\n1. x\n  - y\n2. z\n\ncode\n\na\tb\n1\t2\n\n- [x] done");
        let parts = result(
            "markdown",
            json!({"operation": "extract", "input": "![i](a.png \"t\")\n\n|[l](u)|\n|-|\n|c|\n\n- [ ] t"}),
        );
        assert_eq!(parts["images"], json!([{"url": "a.png", "title": "t", "text": "i"}]));
        assert_eq!((&parts["tables"][0]["header"], &parts["tasks"]["total"]), (&json!(["l"]), &json!(1)));
    }

    #[test]
    fn deep_and_broken_texts_do_no_harm() {
        let (dir, call) = folder();
        for input in [
            "> ".repeat(20_000),
            "- ".repeat(5_000),
            "*a ".repeat(20_000),
            "[".repeat(50_000),
            "`".repeat(50_001),
            "\u{0}".into(),
        ] {
            for operation in ["to_html", "to_text", "outline", "extract"] {
                run("markdown", json!({"operation": operation, "input": input}), &call).unwrap();
            }
        }
        run("markdown", json!({"input": "# x", "output_file": "sub/x.html"}), &call).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("sub/x.html")).unwrap(), "<h1>x</h1>\n");
    }

    #[test]
    fn bad_input() {
        bad(
            "markdown_processor",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "x", "path": "y"}), Class::Usage),
                (json!({"operation": "pdf", "input": "x"}), Class::Usage),
                (json!({"path": "absent"}), Class::NotFound),
                (json!({"path": "/etc/passwd"}), Class::Denied),
            ],
        );
    }
}
