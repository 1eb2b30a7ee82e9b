//! What begins with a dot, and `NAME?`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use llmspell::cli::print;
use llmspell::error::{Class, Error, Result, nearest};
use serde_json::Value;

use super::{Console, Next};
use crate::session::Source;

/// Each with what follows it, and what it does. The page has them too.
pub(crate) const COMMANDS: &[(&str, &str)] = &[
    (".help", "List commands and keys."),
    (".inspect NAME", "Show what is known of a name; NAME? does the same."),
    (".source NAME", "The same with the text of a function; NAME?? does the same."),
    (".tools [WORD...]", "List the tools, or those the words find."),
    (".load FILE", "Run a file here."),
    (".save FILE", "Write what was typed so far into a new file."),
    (".reset", "Forget all variables and modules; not on a running kernel."),
    (".clear", "Empty the screen."),
    (".quit", "End; so do .exit and Ctrl-D."),
];

/// Other names.
const ALIASES: &[(&str, &str)] = &[("exit", "quit"), ("h", "help"), ("q", "quit")];

/// What keys do, beside those every line editor has.
pub(crate) const KEYS: &[(&str, &str)] = &[
    ("TAB", "Complete; at the beginning of a line, indent."),
    ("Enter", "Run what is complete, else begin another line."),
    ("Alt-Enter", "Begin another line."),
    ("Up, Down", "Go through what was typed."),
    ("Ctrl-R", "Search what was typed."),
    ("Ctrl-C", "Stop what runs, or clear the line."),
    ("Ctrl-D", "End, on an empty line."),
];

/// A command: its name, and what stands behind it.
#[derive(Debug, PartialEq)]
pub(super) struct Command {
    name: String,
    rest: String,
}

/// The names, for completion.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(command, _)| parts(command).0)
}

/// `.inspect NAME` as `inspect` and `NAME`.
fn parts(command: &'static str) -> (&'static str, &'static str) {
    let command = &command[1..];
    command.split_once(' ').unwrap_or((command, ""))
}

/// The command in `text`, if it is one and no code. No code begins with a dot, nor ends with a question mark outside of
/// strings and comments.
pub(super) fn of(text: &str) -> Option<Command> {
    let text = text.trim();
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '.' | ':'))
    };
    for (mark, command) in [("??", "source"), ("?", "inspect")] {
        if let Some(name) = text.strip_suffix(mark)
            && is_name(name.trim())
        {
            return Some(Command { name: command.into(), rest: name.trim().into() });
        }
    }
    let command = text.strip_prefix('.').filter(|rest| rest.starts_with(|char: char| char.is_ascii_alphabetic()))?;
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    Some(Command { name: name.into(), rest: rest.trim().into() })
}

impl Console {
    pub(super) fn command(&mut self, command: &Command) -> Result<Next> {
        let rest = command.rest.as_str();
        let takes = COMMANDS.iter().map(|(command, _)| parts(command)).find(|(name, _)| *name == command.name);
        match takes {
            Some((name, "")) if !rest.is_empty() => {
                return Err(Error::new(Class::Usage, format!(".{name} takes nothing")));
            }
            Some((name, what)) if rest.is_empty() && !what.is_empty() && !what.starts_with('[') => {
                return Err(Error::new(Class::Usage, format!(".{name} needs {what}")));
            }
            _ => {}
        }
        match &*command.name {
            "help" => print(&help())?,
            "inspect" => self.inspect(rest, false)?,
            "source" => self.inspect(rest, true)?,
            "tools" => self.tools(rest)?,
            "load" => {
                let source = Source::file(Path::new(&*home(rest)), true, Vec::new())?;
                return self.execute(&source);
            }
            "save" => self.save(&home(rest))?,
            "reset" => {
                self.session.borrow_mut().reset()?;
                self.typed.clear();
            }
            "clear" => self.editor.clear_screen(),
            "quit" => return Ok(Next::End(0)),
            other => {
                let near = nearest(other, names()).map_or("See .help.".into(), |near| format!("Did you mean .{near}?"));
                return Err(Error::new(Class::Usage, format!(".{other}: there is no such command")).hint(near));
            }
        }
        Ok(Next::Go)
    }

    fn inspect(&self, name: &str, source: bool) -> Result<()> {
        match self.session.borrow_mut().inspect(name, source)? {
            Some(text) => print(&format!("{text}\n")),
            None => Err(Error::new(Class::NotFound, format!("{name}: nothing is known of it"))),
        }
    }

    fn tools(&self, words: &str) -> Result<()> {
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        let tools = self.session.borrow_mut().tools(&words)?;
        if tools.is_empty() {
            return Err(Error::new(Class::NotFound, "no tool is found by these words"));
        }
        let text = |tool: &Value, name: &str| tool[name].as_str().unwrap_or_default().to_owned();
        let rows: Vec<_> = tools.iter().map(|tool| (text(tool, "name"), text(tool, "summary"))).collect();
        print(&columns(&rows))
    }

    fn save(&self, path: &str) -> Result<()> {
        let mut text = self.typed.join("\n");
        text.push('\n');
        let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o666).to_owned();
        let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::new(Class::Conflict, format!("{path}: exists already")),
            _ => Error::io(path, error),
        })
    }
}

fn help() -> String {
    let rows = |rows: &[(&str, &str)]| {
        let rows: Vec<_> = rows.iter().map(|(name, doc)| ((*name).to_owned(), (*doc).to_owned())).collect();
        columns(&rows)
    };
    format!("{}\n{}", rows(COMMANDS), rows(KEYS))
}

fn columns(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, doc)| format!("{name:<width$}  {doc}\n")).collect()
}

/// `~/` as the shell has it.
fn home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_code() {
        let command = |name: &str, rest: &str| Some(Command { name: name.into(), rest: rest.into() });
        assert_eq!(of(".help"), command("help", ""));
        assert_eq!(of(" .load a b.lua "), command("load", "a b.lua"));
        assert_eq!(of(".exit"), command("quit", ""));
        assert_eq!(of("string.rep?"), command("inspect", "string.rep"));
        assert_eq!(of("f ??"), command("source", "f"));
        for code in ["", "x", ".5", "...", "'?'", "f('a?')", "-- what?"] {
            assert_eq!(of(code), None, "{code}");
        }
    }
}
