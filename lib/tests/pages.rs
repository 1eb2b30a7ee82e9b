//! The hand-written pages: their tables of errors are those of `error::CLASSES`. `BLESS=1` rewrites them.
#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use llmspell::error::CLASSES;

fn page(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../man")).join(name)
}

/// Compares what stands between the comment lines `begin TITLE` and `end TITLE` with `rows`, or replaces it.
fn check(name: &str, title: &str, rows: &[String]) {
    let text = fs::read_to_string(page(name)).unwrap();
    let (head, rest) = text.split_once(&format!(".\\\" begin {title}")).unwrap_or_else(|| panic!("{name}: no {title}"));
    let (comment, rest) = rest.split_once('\n').unwrap();
    let (table, tail) = rest.split_once(&format!(".\\\" end {title}")).unwrap();
    let wanted: String = rows.iter().map(|row| format!("{row}\n")).collect();
    if table != wanted && std::env::var_os("BLESS").is_some() {
        let text = format!("{head}.\\\" begin {title}{comment}\n{wanted}.\\\" end {title}{tail}");
        fs::write(page(name), text).unwrap();
        return;
    }
    assert_eq!(table, wanted, "man/{name} differs from error::CLASSES: BLESS=1 cargo test -p llmspell --test pages");
}

#[test]
fn exit_statuses_are_those_of_the_class_table() {
    let mut statuses: BTreeMap<u8, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for row in CLASSES {
        let (names, docs) = statuses.entry(row.exit).or_default();
        names.push(row.name);
        docs.push(row.doc);
    }
    let mut rows = vec!["status|class|meaning".to_owned(), "0||Success.".to_owned()];
    rows.extend(
        statuses
            .iter()
            .map(|(exit, (names, docs))| format!("{exit}|{}|T{{\n{}\nT}}", names.join(", "), docs.join(" "))),
    );
    check("llmspell.7", "exit status", &rows);
}

#[test]
fn error_types_are_those_of_the_class_table() {
    let mut rows = vec!["class|ename|error_type".to_owned()];
    rows.extend(CLASSES.iter().map(|row| format!("{}|{}|{}", row.name, row.ename, row.error_type)));
    check("llmspell-protocol.7", "error types", &rows);
}
