//! `llmspell`, a link to llmspell-run, dispatches like git.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

/// Runs llmspell-run as if it had been called `name`.
fn called(name: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmspell-run")).arg0(name).args(words).output().expect("it runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn it_runs_the_program_beside_it() {
    let version = env!("CARGO_PKG_VERSION");
    for (name, words, expected) in [
        ("/usr/bin/llmspell", &["run", "--version"][..], format!("llmspell-run {version}\n")),
        ("llmspell", &["--version"], format!("llmspell {version}\n")),
        ("llmspell-run", &["--version"], format!("llmspell-run {version}\n")),
    ] {
        let output = called(name, words);
        assert_eq!((text(&output.stdout), text(&output.stderr), output.status.code()), (&*expected, "", Some(0)));
    }
}

#[test]
fn it_says_what_it_does_not_know() {
    let output = called("llmspell", &["kernal"]);
    let expected = "llmspell: \"kernal\" is unknown, did you mean kernel?\nTry `llmspell --help`.\n";
    assert_eq!((text(&output.stderr), output.status.code()), (expected, Some(2)));
}
