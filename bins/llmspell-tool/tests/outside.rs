//! What every program does before it does anything of its own, seen from outside.

use std::fs::File;
use std::io;
use std::process::{Command, Output, Stdio};

fn tool(words: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmspell-tool"));
    let child = command.args(words).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
    child.and_then(std::process::Child::wait_with_output).expect("it runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// The writing end of a pipe nobody reads.
fn closed_pipe() -> io::Result<Stdio> {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    Ok(writer.into())
}

#[test]
fn errors_are_one_line_and_a_next_step() {
    for (words, stderr, status) in [
        (
            &["list", "--catgory", "x"][..],
            "llmspell-tool: --catgory: unknown flag, did you mean --category?\nTry `llmspell-tool list --help`.\n",
            2,
        ),
        (&["info"], "llmspell-tool: TOOL is missing\nTry `llmspell-tool info --help`.\n", 2),
        (
            &["list", "--timeout", "5x"],
            "llmspell-tool: --timeout: \"5x\" is not a duration\nWrite a number and a unit, such as 500ms, 30s or 2h; 0 for none.\n",
            2,
        ),
    ] {
        let output = tool(words, Stdio::piped(), Stdio::piped());
        assert_eq!(
            (text(&output.stdout), text(&output.stderr), output.status.code()),
            ("", stderr, Some(status)),
            "{words:?}"
        );
    }
}

#[test]
fn a_closed_output_is_success() -> io::Result<()> {
    for words in [&["--help"][..], &["--version"], &["--generate", "zsh"]] {
        let output = tool(words, closed_pipe()?, Stdio::piped());
        assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)), "{words:?}");
    }
    // Nobody to tell: the status still does.
    assert_eq!(tool(&["--nothing"], Stdio::null(), closed_pipe()?).status.code(), Some(2));
    Ok(())
}

#[test]
fn a_full_disk_is_a_failure() -> io::Result<()> {
    let output = tool(&["--help"], File::options().write(true).open("/dev/full")?.into(), Stdio::piped());
    assert_eq!(
        (text(&output.stderr), output.status.code()),
        ("llmspell-tool: standard output: no space left on device\n", Some(74))
    );
    Ok(())
}
