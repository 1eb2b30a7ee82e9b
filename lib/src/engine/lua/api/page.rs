//! llmspell-lua(7), made from the reference. Compared with the page by the test below; `BLESS=1` writes it. The examples are
//! run where `tests` has them.

use std::fmt::Write;

use super::{Entry, SECTIONS, Section};
use crate::cli::man::{literal, plain, sentences, verbatim};

const HEAD: &str = r#".\" Made from the reference by: BLESS=1 cargo test -p llmspell --features full --lib lua::api
.TH LLMSPELL\-LUA 7 2026-11-24 "llmspell 0.11.0-dev"
.nh
.ad l
.SH NAME
llmspell\-lua \- what Lua scripts find
.SH DESCRIPTION
Scripts are Lua 5.4.
.B help("NAME")
tells of each name what stands here, and so does Shift\-Tab in a notebook.
.PP
Functions of globals are called with a dot, methods of values, below in lower
case, with a colon:
.B Tool.get("calculator"):execute(params)
.PP
Behind
.B \-\->
in an example stands what it prints.
.SH ERRORS
What fails raises; a tool that says no does not.
The error is a table that reads like a string:
.B err.message
what happened,
.B err.class
one of the classes in EXIT STATUS of
.BR llmspell\-run (1),
.B err.hint
the next step, where there is one.
An argument of a wrong type is
.B usage
everywhere and not told again below.
.PP
.EX
local ok, err = pcall(Tool.invoke, "calculater", {})
print(err.class, err)
.EE
"#;

fn entry(entry: &Entry) -> String {
    let mut text = format!(".TP\n{}{}\n", literal(entry.name), plain(entry.signature).replace('-', "\\-"));
    for (at, paragraph) in entry.doc.split("\n\n").enumerate() {
        let _ = writeln!(text, "{}{}", if at == 0 { "" } else { ".IP\n" }, sentences(paragraph));
    }
    if !entry.errors.is_empty() {
        let _ = writeln!(text, "{}", sentences(&format!("Raises {}", entry.errors)));
    }
    if !entry.example.is_empty() {
        let _ = write!(text, ".IP\n.EX\n{}\n.EE\n", verbatim(entry.example));
    }
    text
}

fn section(section: &Section) -> String {
    let about: Vec<_> = section.about.split("\n\n").map(|text| format!("{}\n", sentences(text))).collect();
    let rows: String = section.rows.iter().map(entry).collect();
    format!(".SH {}\n{}{rows}", section.title, about.join(".PP\n"))
}

fn page() -> String {
    let sections: String = SECTIONS.iter().map(section).collect();
    format!("{HEAD}{sections}.SH SEE ALSO\n.BR llmspell\\-run (1),\n.BR llmspell\\-tools (7),\n.BR llmspell.toml (5)\n")
}

#[test]
fn the_page_is_what_the_reference_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../man/llmspell-lua.7");
    let wanted = page();
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed != wanted && std::env::var_os("BLESS").is_some() {
        return std::fs::write(path, wanted).unwrap();
    }
    assert!(committed == wanted, "BLESS=1 cargo test -p llmspell --features full --lib lua::api");
}
