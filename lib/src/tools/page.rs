//! The text of llmspell-tools(7), made from the tools of a full build. Compared with the page by the test below; `BLESS=1`
//! writes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::Registry;
use super::optional::OPTIONAL;
use super::validate::type_of;

const HEAD: &str = r#"'\" t
.\" Made from the tools by the tests of the library: BLESS=1 cargo test -p llmspell --features full --lib tools::page
.TH LLMSPELL\-TOOLS 7 2026-11-23 "llmspell 0.11.0-dev"
.nh
.ad l
.SH NAME
llmspell\-tools \- every tool: parameters, results, examples
.SH DESCRIPTION
.B llmspell\-tool info
.I NAME
and
.BI Tool.info( name )
in Lua tell the same of the tools of a build.
In Lua a tool is called by
.BI Tool. name ( params ),
from a shell by
.B llmspell\-tool invoke
.IR "NAME params" .
.PP
The answer holds
.BR operation ,
.BR success ,
.B result
(described here),
.B metadata
with
.BR duration_ms ,
and, where there is one, a
.B message
for people and the
.B text
itself.
A result larger than
.B tools.max_result_size
is cut, and
.B metadata.truncated
is true.
Choices are taken in every spelling that differs in case,
.B \-
and
.BR _ ;
a parameter that is
.B null
was not given.
Members of results are those of the examples; there may be more.
"#;

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('~', "\\(ti").replace('^', "\\(ha")
}

/// A line that is no request.
fn harmless(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// How long mandoc counts a line: it writes what is not ASCII by its number.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 8 }).sum()
}

/// Text that roff fills, in lines of the length it likes.
fn roff(text: &str) -> String {
    let paragraph = |line: &str| {
        let (mut lines, mut room) = (vec![String::new()], 76_usize);
        for word in escaped(line).split_whitespace() {
            match lines.last_mut() {
                Some(last) if last.is_empty() || width(word) + 1 < room => {
                    let gap = if last.is_empty() { "" } else { " " };
                    last.push_str(&format!("{gap}{word}"));
                    room = 76_usize.saturating_sub(width(last));
                }
                _ => {
                    room = 76_usize.saturating_sub(width(word));
                    lines.push(word.to_owned());
                }
            }
        }
        lines.iter().map(|line| harmless(line)).collect::<Vec<_>>().join("\n")
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(paragraph).collect::<Vec<_>>().join("\n.br\n")
}

/// JSON as it stands: in one line if that is short.
fn json(value: &Value) -> String {
    let line = value.to_string();
    let text = if line.len() < 60 { line } else { format!("{value:#}") };
    text.lines().map(|line| harmless(&escaped(line))).collect::<Vec<_>>().join("\n")
}

/// The members of the results of `examples` with their types.
fn members(examples: &[Value]) -> BTreeMap<&str, Vec<&'static str>> {
    let mut found: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
    for (name, value) in examples.iter().filter_map(|example| example["result"].as_object()).flatten() {
        let kinds = found.entry(name).or_default();
        if !kinds.contains(&type_of(value)) {
            kinds.push(type_of(value));
        }
    }
    found
}

fn tool(page: &mut String, info: &Value) {
    let text = |name: &str| info[name].as_str().unwrap_or_default();
    let name = text("name");
    let _ = write!(page, ".SH {}\n{}\n", name.to_uppercase(), roff(&format!("{}.", text("summary"))));
    let list = |name: &str| {
        let list = info[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        list.map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    let feature = OPTIONAL.iter().find(|row| row.name == name).map(|row| row.feature).unwrap_or_default();
    for (label, value) in [
        ("Category", text("category").to_owned()),
        ("Also called", list("aliases")),
        ("Touches", list("effects")),
        ("Feature", feature.to_owned()),
    ] {
        if !value.is_empty() {
            let _ = write!(page, ".br\n{}\n", roff(&format!("{label}: {value}.")));
        }
    }
    if text("description") != text("summary") {
        let _ = write!(page, ".PP\n{}\n", roff(text("description")));
    }
    for parameter in info["parameters"].as_array().into_iter().flatten() {
        let text = |name: &str| parameter[name].as_str().unwrap_or_default();
        let more = match parameter.get("default") {
            _ if parameter["required"] == true => ", required".to_owned(),
            Some(default) => format!(", default {default}"),
            None => String::new(),
        };
        let about = format!("({}{more}) {}", text("type").replace('|', ", "), text("description"));
        let _ = write!(page, ".TP\n.B {}\n{}\n", roff(text("name")), roff(&about));
    }
    let empty = Vec::new();
    let examples = info["examples"].as_array().unwrap_or(&empty);
    let found = members(examples);
    if !found.is_empty() {
        let told: Vec<_> =
            found.iter().map(|(name, kinds)| format!("{} ({})", roff(name), kinds.join(" or "))).collect();
        let _ = write!(page, ".PP\nResult: {}.\n", told.join(",\n"));
    }
    for example in examples {
        let title = roff(example["title"].as_str().unwrap_or_default());
        let params = json(&example["params"]).replace('\'', "'\\e''");
        let _ = write!(
            page,
            ".PP\n{title}:\n.RS 4\n.EX\nllmspell\\-tool invoke {name} \\-\\-params \\e\n\\&'{params}'\n{}\n.EE\n.RE\n",
            json(&example["result"])
        );
    }
}

fn page() -> String {
    let registry = Registry::new();
    let mut page = HEAD.to_owned();
    for name in registry.names() {
        tool(&mut page, &registry.info(name).expect("a name of the list"));
    }
    page.push_str(".SH SEE ALSO\n.BR llmspell\\-tool (1),\n.BR llmspell\\-builds (7),\n.BR llmspell (7)\n");
    page
}

#[test]
fn the_page_is_what_the_tools_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../man/llmspell-tools.7");
    let wanted = page();
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed != wanted && std::env::var_os("BLESS").is_some() {
        return std::fs::write(path, wanted).unwrap();
    }
    assert!(committed == wanted, "BLESS=1 cargo test -p llmspell --features full --lib tools::page");
}
