//! The front name: `llmspell` is a link to `llmspell-run`, and called by it that program dispatches like git.
//! `llmspell tool list` runs the `llmspell-tool` beside it, else the one in `$PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::error::{Class, Error, Result, nearest};

/// The front name itself.
const NAME: &str = "llmspell";

/// What can stand after it, and what it does.
const PROGRAMS: [(&str, &str); 4] = [
    ("run", "Run a script."),
    ("kernel", "Run a kernel that serves scripts and tools."),
    ("tool", "List, describe, invoke, search and test tools."),
    ("fleet", "Start, watch and stop many kernels."),
];

/// What a command line that begins with the front name asks for.
#[derive(Debug, PartialEq)]
enum Decision {
    /// Print this.
    Print(String),
    /// Run this program with these words.
    Exec(String, Vec<OsString>),
}

/// Called by the name `llmspell`, runs the program its first operand names and does not come back, or says why not.
/// By any other name there is nothing to do: `None`.
#[must_use]
pub fn dispatch() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    let called = words.next()?;
    if Path::new(&called).file_name() != Some(OsStr::new(NAME)) {
        return None;
    }
    let outcome = decide(words.collect()).and_then(|decision| match decision {
        Decision::Print(text) => super::print(&text).map(|()| 0),
        Decision::Exec(program, words) => Err(exec(&program, &words)),
    });
    Some(super::finish(NAME, outcome))
}

/// What `words`, those after the front name, ask for.
fn decide(words: Vec<OsString>) -> Result<Decision> {
    let mut words = words.into_iter();
    let first = words.next().unwrap_or_default();
    let first = first.to_string_lossy();
    let known = |name: &str| PROGRAMS.iter().any(|(program, _)| *program == name);
    match &*first {
        "-h" | "--help" => Ok(Decision::Print(help())),
        "-V" | "--version" => Ok(Decision::Print(super::version(NAME))),
        "help" => match words.next().map(|word| word.to_string_lossy().into_owned()) {
            None => Ok(Decision::Print(help())),
            Some(program) if known(&program) => Ok(Decision::Exec(format!("{NAME}-{program}"), vec!["--help".into()])),
            Some(program) => Err(unknown(&program)),
        },
        "" => Err(usage("a program is missing".to_owned())),
        program if known(program) => Ok(Decision::Exec(format!("{NAME}-{program}"), words.collect())),
        other => Err(unknown(other)),
    }
}

fn unknown(word: &str) -> Error {
    usage(match nearest(word, PROGRAMS.iter().map(|(program, _)| *program)) {
        Some(near) => format!("{word:?} is unknown, did you mean {near}?"),
        None => format!("{word:?} is unknown"),
    })
}

fn usage(text: String) -> Error {
    Error::new(Class::Usage, text).hint(format!("Try `{NAME} --help`."))
}

fn help() -> String {
    let rows: String = PROGRAMS.iter().map(|(program, doc)| format!("  {program:<8}{doc}\n")).collect();
    format!(
        "llmspell - kernels, scripts and tools as Unix programs\n\n\
         Usage:\n  llmspell PROGRAM [WORDS]\n\n\
         Programs:\n{rows}\n\
         `llmspell PROGRAM --help` tells more, llmspell-PROGRAM(1) everything.\n"
    )
}

/// Becomes `program`; coming back means it failed.
fn exec(program: &str, words: &[OsString]) -> Error {
    let beside = beside(std::env::current_exe().ok(), program);
    let error = Command::new(beside.as_deref().unwrap_or(Path::new(program))).args(words).exec();
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Class::Absent, format!("{program}: not installed"))
            .hint("It belongs beside llmspell-run or into a folder of $PATH."),
        _ => Error::system(program, error),
    }
}

/// `program` in the folder of `this` executable, if it is there.
fn beside(this: Option<PathBuf>, program: &str) -> Option<PathBuf> {
    this.map(|this| this.with_file_name(program)).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(words: &[&str]) -> Result<Decision> {
        super::decide(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn it_dispatches_like_git() {
        let exec =
            |program: &str, words: &[&str]| Decision::Exec(program.into(), words.iter().map(OsString::from).collect());
        let invoke = ["invoke", "calculator", "--params", r#"{"expression": "2 + 2 * 3"}"#];
        assert_eq!(decide(&[&["tool"][..], &invoke].concat()).unwrap(), exec("llmspell-tool", &invoke));
        assert_eq!(decide(&["kernel", "start", "--help"]).unwrap(), exec("llmspell-kernel", &["start", "--help"]));
        assert_eq!(decide(&["run", "x.lua", "-h"]).unwrap(), exec("llmspell-run", &["x.lua", "-h"]));
        assert_eq!(decide(&["help", "fleet"]).unwrap(), exec("llmspell-fleet", &["--help"]));
    }

    #[test]
    fn it_helps() {
        assert_eq!(
            decide(&["--version"]).unwrap(),
            Decision::Print(format!("llmspell {}\n", env!("CARGO_PKG_VERSION")))
        );
        let Decision::Print(text) = decide(&["--help"]).unwrap() else { panic!("no help") };
        assert!(PROGRAMS.iter().all(|(program, _)| text.contains(program)));
        assert_eq!(decide(&["help"]).unwrap(), decide(&["-h"]).unwrap());
        for (words, text) in [
            (&["tol"][..], r#""tol" is unknown, did you mean tool?"#),
            (&["help", "kernal"], r#""kernal" is unknown, did you mean kernel?"#),
            (&["zzz"], r#""zzz" is unknown"#),
            (&[], "a program is missing"),
        ] {
            let error = decide(words).unwrap_err();
            assert_eq!((error.text(), error.next_step()), (text, Some("Try `llmspell --help`.")));
        }
    }

    #[test]
    fn the_program_beside_comes_first() {
        assert_eq!(beside(Some("/bin/llmspell-run".into()), "sh"), Some("/bin/sh".into()));
        assert_eq!(beside(Some("/bin/llmspell-run".into()), "no-such-program"), None);
        assert_eq!(beside(None, "sh"), None);
    }
}
