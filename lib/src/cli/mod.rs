//! Command lines. A program is one constant table of commands, flags and operands ([`Command`]); the parser, `--help`,
//! the page and the
//! completions all read it, so none of them can drift. [`main`] is the whole outer life of a program.

mod check;
mod complete;
pub mod front;
mod help;
pub(crate) mod man;
mod parse;
mod progress;
mod secret;
mod shared;
mod table;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

pub use check::{check, check_page};
pub use progress::Progress;
pub use secret::{Silence, secret};
pub use shared::{Engine, Grant, Permissions, Profile, Talk, Target};
pub use table::{Command, Example, Flag, Group, Operand, Value, names};

use crate::error::{Class, Error, Result};
use parse::Request;

/// What `--generate` can print.
const KINDS: &[&str] = &["man", "bash", "zsh", "fish", "examples"];

/// The version of every program of the suite.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The date in the pages: that of the version, not of the build, so that the same source always gives the same page.
const DATE: &str = "2026-11-01";

/// Runs a program: reads the command line, prints help, version and the like or calls `run`, reports an error, and
/// says with what to exit.
/// `run` returns the exit status; its errors exit as [`crate::error::CLASSES`] says. A closed standard output is
/// success.
pub fn main<D: Default, A>(program: &'static Command<D, A>, run: fn(A) -> Result<u8>) -> ExitCode {
    let outcome = parse::parse(program, std::env::args_os().skip(1)).and_then(|request| match request {
        Request::Print(text) => print(&text).map(|()| 0),
        Request::Run(args) => run(args),
    });
    finish(program.name, outcome)
}

/// The arguments that `words`, a command line without the program's name, make: [`main`] without its effects.
///
/// # Errors
/// Those of the command line; `Usage` with the text when it only asks for text.
pub fn args<D: Default, A, W: Into<OsString>>(
    program: &'static Command<D, A>,
    words: impl IntoIterator<Item = W>,
) -> Result<A> {
    match parse::parse(program, words.into_iter().map(Into::into))? {
        Request::Run(args) => Ok(args),
        Request::Print(text) => Err(Error::new(Class::Usage, text)),
    }
}

/// Reports what went wrong, if anything, and says with what to exit.
fn finish(program: &str, outcome: Result<u8>) -> ExitCode {
    match outcome {
        Ok(status) => status.into(),
        Err(error) if is_closed_output(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(program, &error);
            error.class().row().exit.into()
        }
    }
}

/// Prints `error` to standard error the one way all programs do: `llmspell-tool: what happened`, and the next step on
/// a second line.
pub fn report(program: &str, error: &Error) {
    let hint = error.next_step().map(|hint| format!("{hint}\n")).unwrap_or_default();
    // Nothing is left to tell the user with when standard error is gone.
    let _ = io::stderr().write_all(format!("{program}: {error}\n{hint}").as_bytes());
}

/// Prints `text` as it is to standard output and flushes it. The error of a closed pipe, handed on, ends the program
/// with success.
///
/// # Errors
/// What the system said, naming standard output.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(output_error)
}

/// The error of a failed write to standard output, for those who write to it themselves.
pub fn output_error(error: io::Error) -> Error {
    let closed = error.kind() == io::ErrorKind::BrokenPipe;
    let error = Error::system("standard output", error);
    if closed { error.source(ClosedOutput) } else { error }
}

/// Whether `error` only says that nobody reads our standard output any more.
#[must_use]
pub fn is_closed_output(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<ClosedOutput>())
}

/// The mark on errors of a closed standard output; a broken pipe elsewhere is a real failure.
#[derive(Debug)]
struct ClosedOutput;

impl std::fmt::Display for ClosedOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads standard output")
    }
}

impl std::error::Error for ClosedOutput {}

/// `llmspell-kernel 0.11.0-dev` and a newline.
fn version(name: &str) -> String {
    format!("{name} {VERSION}\n")
}

/// What `--generate KIND` prints.
fn generate<D, A>(program: &'static Command<D, A>, kind: &str) -> String {
    match kind {
        "man" => man::page(program),
        "bash" => complete::bash(program),
        "zsh" => complete::zsh(program),
        "fish" => complete::fish(program),
        _ => examples(program),
    }
}

/// The examples as JSON lines: `{"title", "command", "output"?}`.
fn examples<D, A>(program: &Command<D, A>) -> String {
    let line = |example: &Example| {
        let mut line = serde_json::json!({ "command": example.command });
        if let Some(output) = example.output {
            line["output"] = output.into();
        }
        line["title"] = example.title.into();
        format!("{line}\n")
    };
    program.examples.iter().map(line).collect()
}

/// `a`, `a or b`, `a, b or c`.
fn list(items: impl Iterator<Item = String>, last: &str) -> String {
    let items: Vec<_> = items.collect();
    match items.split_last() {
        Some((end, start)) if !start.is_empty() => format!("{} {last} {end}", start.join(", ")),
        _ => items.concat(),
    }
}

/// From the program down to one of its commands.
struct Trail<D: 'static, A: 'static>(Vec<&'static Command<D, A>>);

impl<D, A> Trail<D, A> {
    fn new(program: &'static Command<D, A>) -> Self {
        Trail(vec![program])
    }

    fn push(&mut self, command: &'static Command<D, A>) {
        self.0.push(command);
    }

    fn first(&self) -> &'static Command<D, A> {
        self.0[0]
    }

    fn last(&self) -> &'static Command<D, A> {
        self.0[self.0.len() - 1]
    }

    /// What a user types to get there: `llmspell-kernel config show`.
    fn name(&self) -> String {
        self.0.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
    }

    /// The same without the program: `config show`.
    fn command_name(&self) -> String {
        self.0.iter().skip(1).map(|command| command.name).collect::<Vec<_>>().join(" ")
    }

    /// Groups of flags it understands, its own first.
    fn groups(&self) -> impl Iterator<Item = &'static Group<D>> + use<'_, D, A> {
        let common = self.0.iter().flat_map(|command| command.common.iter());
        self.last().flags.iter().chain(common).chain([&Group::GENERAL])
    }

    /// Every flag it understands.
    fn flags(&self) -> impl Iterator<Item = &'static Flag<D>> + use<'_, D, A> {
        self.groups().flat_map(|group| group.flags.iter())
    }

    /// Itself and everything below, in the order of the table.
    fn all(self) -> Vec<Self> {
        let below: Vec<_> =
            self.last().commands.iter().flat_map(|sub| Trail([&self.0[..], &[sub]].concat()).all()).collect();
        [self].into_iter().chain(below).collect()
    }

    /// Usage lines, whole.
    fn synopsis(&self) -> Vec<String> {
        let (name, command) = (self.name(), self.last());
        if !command.synopsis.is_empty() {
            return command.synopsis.iter().map(|line| format!("{name} {line}")).collect();
        }
        let mut lines = Vec::new();
        if command.make.is_some() {
            let operands: String = command.operands.iter().map(|row| format!(" {}", row.spelled())).collect();
            lines.push(format!("{name} [FLAGS]{operands}"));
        }
        if !command.commands.is_empty() {
            lines.push(format!("{name} COMMAND [FLAGS] [OPERANDS]"));
        }
        lines
    }
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_output_is_success_and_other_broken_pipes_are_not() {
        let closed = output_error(io::ErrorKind::BrokenPipe.into());
        assert!(is_closed_output(&closed));
        assert!(!is_closed_output(&Error::system("socket", io::ErrorKind::BrokenPipe.into())));
        assert!(!is_closed_output(&output_error(io::ErrorKind::StorageFull.into())));
        assert_eq!(finish("x", Err(closed)), ExitCode::SUCCESS);
    }

    #[test]
    fn classes_decide_the_exit_status() {
        assert_eq!(finish("x", Ok(1)), ExitCode::from(1));
        assert_eq!(finish("x", Err(Error::new(Class::Usage, "this line is meant to be here"))), ExitCode::from(2));
    }

    #[test]
    fn lists_read_like_prose() {
        let list = |items: &[&str]| list(items.iter().map(|item| (*item).to_owned()), "or");
        assert_eq!((list(&[]), list(&["a"]), list(&["a", "b", "c"])), (String::new(), "a".into(), "a, b or c".into()));
    }

    #[test]
    fn examples_are_json_lines() {
        assert_eq!(
            generate(&sample::PROGRAM, "examples"),
            "{\"command\":\"sample -q x\",\"output\":\"x\\n\",\"title\":\"Say x.\"}\n{\"command\":\"sample - \
             <f\",\"title\":\"Read.\"}\n"
        );
    }
}
