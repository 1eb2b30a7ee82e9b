//! `html_to_markdown`: Markdown of HTML pages and fragments.

use htmd::HtmlToMarkdown;
use htmd::options::{BulletListMarker, HeadingStyle, LinkStyle, Options, TranslationMode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required};
use crate::error::{Class, Error, Result};

/// The converter.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "html_to_markdown",
    aliases: &["html2md"],
    category: "data",
    summary: "convert HTML to Markdown",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[Spelling::Param("html", "input"), Spelling::Param("file", "path")],
    examples: &[
        example(
            "a fragment",
            r#"{"input": "<h1>Title</h1><p>A <b>bold</b> <a href=\"/x\">link</a></p><ul><li>one<li>two</ul>"}"#,
            r##"{"markdown": "# Title\n\nA **bold** [link](/x)\n\n- one\n- two"}"##,
        ),
        example(
            "scripts and styles are left out",
            r#"{"input": "<style>p {}</style><p>Text</p><script>x()</script>"}"#,
            r#"{"markdown": "Text"}"#,
        ),
        example(
            "other elements too",
            r#"{"input": "<nav>Menu</nav><p>Text</p>", "skip": ["nav"]}"#,
            r#"{"markdown": "Text"}"#,
        ),
    ],
};

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 256;

/// Converts HTML to Markdown (CommonMark with tables).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The HTML.
    input: Option<String>,
    /// A file in place of it, UTF-8.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// Where to write the Markdown as well.
    #[schemars(length(min = 1))]
    output_file: Option<String>,
    /// Elements to leave out with all in them, besides script, style, head and noscript.
    #[serde(default)]
    skip: Vec<String>,
    /// Underline headings in place of marking them with `#`.
    #[serde(default)]
    underlined_headings: bool,
    /// Collect links at the end.
    #[serde(default)]
    reference_links: bool,
    /// Keep as HTML what Markdown cannot say.
    #[serde(default)]
    keep_html: bool,
}

/// Most elements that may be open at once in the text: the parser looks through all of them again and again.
const MAX_OPEN: usize = 2000;
/// Elements that have no end, or whose end is often left out.
const ENDLESS: &[&str] = &[
    "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option", "p",
    "param", "source", "td", "th", "tr", "track", "wbr",
];

/// Whether more elements are open somewhere than the parser can deal with in time.
fn too_deep(html: &str) -> bool {
    let mut open = 0_usize;
    for (at, _) in html.match_indices('<') {
        let rest = &html[at + 1..];
        let (close, rest) = match rest.strip_prefix('/') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let name: String =
            rest.chars().take_while(char::is_ascii_alphanumeric).take(20).collect::<String>().to_lowercase();
        if name.is_empty() || ENDLESS.contains(&name.as_str()) {
            continue;
        }
        open = if close { open.saturating_sub(1) } else { open + 1 };
        if open > MAX_OPEN {
            return true;
        }
    }
    false
}

/// Converts.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let html = match &params.path {
        Some(_) if params.input.is_some() => return Err(Error::new(Class::Usage, "path: given together with input")),
        Some(path) => files::read_text(path, call)?,
        None => required(params.input, "input")?,
    };
    call.check()?;
    if too_deep(&html) {
        return Err(Error::new(Class::Tool, format!("input: more than {MAX_OPEN} elements open at once")));
    }
    let skip: Vec<&str> = ["script", "style", "head", "noscript", "template"]
        .into_iter()
        .chain(params.skip.iter().map(|name| name.trim()))
        .collect();
    let options = Options {
        heading_style: if params.underlined_headings { HeadingStyle::Setex } else { HeadingStyle::Atx },
        link_style: if params.reference_links { LinkStyle::Referenced } else { LinkStyle::Inlined },
        bullet_list_marker: BulletListMarker::Dash,
        ul_bullet_spacing: 1,
        ol_number_spacing: 1,
        translation_mode: if params.keep_html { TranslationMode::Faithful } else { TranslationMode::Pure },
        ..Options::default()
    };
    let converter = HtmlToMarkdown::builder().options(options).skip_tags(skip).build();
    let fault = |e: std::io::Error| Error::new(Class::Tool, e.to_string());
    let tree = converter.html_to_tree(&html).map_err(fault)?;
    // The converter calls itself for every level.
    let mut todo = vec![(tree.clone(), 0)];
    while let Some((node, depth)) = todo.pop() {
        if depth > MAX_DEPTH {
            return Err(Error::new(Class::Tool, format!("input: elements nested deeper than {MAX_DEPTH}")));
        }
        todo.extend(node.children.borrow().iter().map(|child| (child.clone(), depth + 1)));
    }
    call.check()?;
    let text = converter.tree_to_markdown(&tree);
    let text = text.trim().to_owned();
    let mut result = json!({"markdown": text, "html_length": html.len(), "markdown_length": text.len()});
    if let Some(path) = &params.output_file {
        files::write(path, format!("{text}\n").as_bytes(), call)?;
        result["output_file"] = path.as_str().into();
    }
    Ok(Answer::new("convert", result).text(text))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    #[test]
    fn the_usual_elements_become_markdown() {
        for (html, expected) in [
            ("", ""),
            ("plain &amp; simple", "plain & simple"),
            ("<p>a</p><p>b<br>c</p>", "a\n\nb  \nc"),
            ("<ol><li>x<li>y</ol>", "1. x\n2. y"),
            ("<pre><code class=\"language-rust\">fn x() {}\n</code></pre>", "```rust\nfn x() {}\n```"),
            ("<p><code>a*b</code> <em>i</em></p>", "`a*b` *i*"),
            ("<blockquote><p>q</p></blockquote>", "> q"),
            ("<img src=a.png alt=A>", "![A](a.png)"),
            ("<table><tr><th>a</th></tr><tr><td>1</td></tr></table>", "| a |\n| - |\n| 1 |"),
            ("<p>unclosed <b>bold", "unclosed **bold**"),
        ] {
            let converted = result("html_to_markdown", json!({"input": html}));
            assert_eq!(converted["markdown"], expected, "{html}");
        }
    }

    #[test]
    fn bad_input() {
        bad(
            "html_to_markdown",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "x", "path": "y"}), Class::Usage),
                (json!({"path": "absent"}), Class::NotFound),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                (json!({"input": "<div>".repeat(100_000)}), Class::Tool),
                (json!({"input": "x", "output_file": "../x"}), Class::Denied),
            ],
        );
    }
}
