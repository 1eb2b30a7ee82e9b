//! Script engines. A kernel and `llmspell-run` drive any engine through [`Engine`]; `lua/` is the one there is.
//!
//! An engine lives on one thread, the script thread. Others reach it only through its [`Interrupter`].

pub mod lua;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use crate::error::{Class, Error, Result};
use crate::protocol::content::{Comm, Display, ErrorContent};
use crate::runtime::Runtime;

/// The engines a build can have, in the order of preference.
pub const ENGINES: &[&str] = &["lua"];

/// Makes the engine called `name` on this thread, which becomes its script thread.
///
/// # Errors
/// `Absent` for an engine this build has not, `Usage` for a name nobody knows.
pub fn make(name: &str, runtime: Arc<Runtime>) -> Result<Box<dyn Engine>> {
    match name {
        "lua" => Ok(Box::new(lua::Lua::new(runtime)?)),
        "js" | "javascript" => {
            Err(Error::new(Class::Absent, "engine js: built without javascript").hint("Use --engine lua."))
        }
        _ => Err(Error::new(Class::Usage, format!("engine {name}: not one of lua, js"))),
    }
}

/// A language that runs scripts.
pub trait Engine {
    /// What `kernel_info_reply` tells of it.
    fn language(&self) -> Language;

    /// Runs `script`; what it prints goes to `output` as it happens. Globals stay for the next script.
    fn execute(&mut self, script: &Script<'_>, output: &Arc<dyn Output>) -> Outcome;

    /// Whether `code` could be run as it stands.
    fn is_complete(&mut self, code: &str) -> Completeness;

    /// What may stand at the byte `cursor` of `code`. Runs none of the user's code.
    fn complete(&mut self, code: &str, cursor: usize) -> Completions;

    /// What is known of the name at the byte `cursor` of `code`; with `source`, its definition too. Runs none of the user's code.
    fn inspect(&mut self, code: &str, cursor: usize, source: bool) -> Option<Inspected>;

    /// Hands a message to a comm, or opens one, and stops what hears it at the deadline; `None` when nobody registered for it.
    fn comm(&mut self, message: &Comm, deadline: Option<Instant>, output: &Arc<dyn Output>) -> Option<Outcome>;

    /// The comms that are open: id and target.
    fn comms(&mut self) -> Vec<(String, String)>;

    /// The handle by which other threads stop a running script.
    fn interrupter(&self) -> Interrupter;
}

/// `language_info` of a `kernel_info_reply`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Language {
    /// `lua`
    pub name: &'static str,
    /// `5.4.8`
    pub version: String,
    /// `text/x-lua`
    pub mimetype: &'static str,
    /// `.lua`
    pub file_extension: &'static str,
    /// `lua`
    pub pygments_lexer: &'static str,
    /// `lua`
    pub codemirror_mode: &'static str,
    /// `script`
    pub nbconvert_exporter: &'static str,
}

/// Code to run.
#[derive(Clone, Debug, Default)]
pub struct Script<'a> {
    /// The source text; bytes, as a script file may hold any.
    pub code: &'a [u8],
    /// What errors call it: `@` and a path for a file, `=` and a label for a cell, as Lua's chunk names.
    pub name: String,
    /// `ARGS`, if the script has any.
    pub args: Option<Args>,
    /// When it is stopped with a `Timeout`.
    pub deadline: Option<Instant>,
    /// Whether it may ask the user ([`Output::input`]).
    pub allow_stdin: bool,
    /// Where relative paths of this script start; the policy's working folder when absent.
    pub cwd: Option<PathBuf>,
    /// Whether its modules may be read from the folder of the file in `name` even where the policy does not allow it:
    /// true where that file was named by the user whose process this is, never for what a client says.
    pub own_folder: bool,
}

/// Arguments of a script, as typed after its name.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// `ARGS[0]`: the script's base name.
    pub script: String,
    /// The arguments, untouched.
    pub words: Vec<String>,
}

impl Args {
    /// `ARGS` of the predecessor: `--key value` and `--flag` become named, the rest is numbered from 1.
    /// `--key=value` is split too. A `--` in front of all, as the predecessor needed it, is passed over; a later one
    /// ends the named ones.
    #[must_use]
    pub fn parse(&self) -> (Vec<String>, Map<String, Value>) {
        let (mut numbered, mut named) = (Vec::new(), Map::new());
        let mut words = self.words.iter().peekable();
        words.next_if(|first| *first == "--");
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some("") => {
                    numbered.extend(words.by_ref().cloned());
                }
                Some(key) => {
                    let (key, value) = match key.split_once('=') {
                        Some((key, value)) => (key, value.to_owned()),
                        None => (key, words.next_if(|next| !next.starts_with("--")).cloned().unwrap_or("true".into())),
                    };
                    named.insert(key.to_owned(), Value::String(value));
                }
                None => numbered.push(word.clone()),
            }
        }
        (numbered, named)
    }
}

/// Which of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`, as Jupyter calls them.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Where a script's output goes and its questions are answered: a Jupyter client, or this process's own streams.
/// Called from the script thread; must not block for long.
pub trait Output: Send + Sync {
    /// Text or bytes for one of the streams.
    ///
    /// # Errors
    /// When nobody can ever read it again (a closed pipe): the script is then ended.
    fn write(&self, stream: Stream, bytes: &[u8]) -> Result<()>;

    /// Makes what was written visible now.
    ///
    /// # Errors
    /// As `write`.
    fn flush(&self) -> Result<()>;

    /// Shows `display`, or with `update` what was shown under its id as it is now. In order with what is written.
    ///
    /// # Errors
    /// As `write`.
    fn display(&self, display: &Display, update: bool) -> Result<()>;

    /// Takes away what was shown so far, with `wait` once something new is shown.
    ///
    /// # Errors
    /// As `write`.
    fn clear(&self, wait: bool) -> Result<()>;

    /// Asks the user for a line; without the newline. `None` at the end of input. `password`: do not echo.
    /// Waits until answered; whoever interrupts the engine also ends this wait, with `Interrupted`.
    ///
    /// # Errors
    /// `Denied` when this requester cannot be asked.
    fn input(&self, prompt: &str, password: bool) -> Result<Option<String>>;

    /// Whether the script is to stop although it has hardly begun: whoever wants to stop it may have been too early for its
    /// [`Interrupter`].
    fn is_stopped(&self) -> bool {
        false
    }

    /// Sends a message of a comm to the other end.
    ///
    /// # Errors
    /// `Denied` where there is no other end.
    fn comm(&self, message: &Comm) -> Result<()> {
        let _ = message;
        Err(Error::new(Class::Denied, "comm: this client has none"))
    }

    /// A long text to read, beside the output where the client can.
    ///
    /// # Errors
    /// As `write`.
    fn page(&self, text: &Inspected) -> Result<()> {
        self.write(Stream::Stdout, format!("{}\n", text.text).as_bytes())
    }

    /// Proposes the next input, where the client has one.
    ///
    /// # Errors
    /// `Denied` where it has none.
    fn next_input(&self, text: &str, replace: bool) -> Result<()> {
        let _ = (text, replace);
        Err(Error::new(Class::Denied, "set_next_input: this client has no next input"))
    }
}

/// How a script ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Its value, if it had one that is not nil.
    pub value: Option<Shown>,
    /// Why it failed, if it did.
    pub error: Option<ScriptError>,
    /// The argument of `os.exit`, if it ended so.
    pub exit: Option<u8>,
}

impl Outcome {
    /// The error it counts as in messages; leaving by `os.exit` with anything but success is one.
    #[must_use]
    pub fn error_content(&self) -> Option<ErrorContent> {
        match (&self.error, self.exit) {
            (Some(error), _) => Some(error.content(true)),
            (None, None | Some(0)) => None,
            (None, Some(code)) => Some(ErrorContent {
                ename: "SystemExit".into(),
                traceback: vec![format!("SystemExit: {code}")],
                exit: Some(code),
                ..ErrorContent::from(&Error::new(Class::Script, code.to_string()))
            }),
        }
    }
}

impl ScriptError {
    /// As messages carry it, its report coloured or not.
    #[must_use]
    pub fn content(&self, coloured: bool) -> ErrorContent {
        ErrorContent {
            ename: self.ename.clone(),
            evalue: self.evalue.clone(),
            traceback: self.report(coloured),
            class: self.class.row().name.into(),
            hint: self.hint.clone(),
            exit: None,
        }
    }
}

/// A value to show.
#[derive(Debug, Clone)]
pub struct Shown {
    /// For people.
    pub text: String,
    /// As JSON, when it has that shape.
    pub json: Option<Value>,
    /// As HTML, when it is a list of records.
    pub html: Option<String>,
}

/// The JSON of a value that is a table for people: under JSON's own type JupyterLab would show a tree of it instead.
pub const TABLE_JSON: &str = "application/vnd.llmspell.table+json";

impl Shown {
    /// The MIME type of its JSON.
    #[must_use]
    pub fn json_type(&self) -> &'static str {
        if self.html.is_some() { TABLE_JSON } else { "application/json" }
    }

    /// As a MIME bundle.
    #[must_use]
    pub fn bundle(&self) -> Map<String, Value> {
        let mut bundle = Map::new();
        bundle.insert("text/plain".into(), self.text.clone().into());
        if let Some(json @ (Value::Object(_) | Value::Array(_))) = &self.json {
            bundle.insert(self.json_type().into(), json.clone());
        }
        if let Some(html) = &self.html {
            bundle.insert("text/html".into(), html.clone().into());
        }
        bundle
    }
}

/// A script's error.
#[derive(Debug, Clone)]
pub struct ScriptError {
    /// Its class; `Script` when the script itself raised it.
    pub class: Class,
    /// `LuaError`, `KeyboardInterrupt`, `DeniedError` …
    pub ename: String,
    /// The message with `file:line:` in front.
    pub evalue: String,
    /// The traceback, a line each, the first being the message.
    pub traceback: Vec<String>,
    /// The next step, when the error had one.
    pub hint: Option<String>,
    /// The lines of the script around its place.
    pub excerpt: Option<Box<Excerpt>>,
}

/// Lines of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Number of the first one.
    pub first: usize,
    /// Number of the one that is meant.
    pub line: usize,
    /// The lines.
    pub lines: Vec<String>,
}

impl Excerpt {
    /// The line that is meant.
    #[must_use]
    pub fn text(&self) -> &str {
        self.lines.get(self.line - self.first).map_or("", String::as_str)
    }
}

impl ScriptError {
    /// Message, lines of the script, callers: for people. `coloured` by the codes of terminals, which notebooks know too; the
    /// message then has the kind of the error in front and the hint behind it.
    #[must_use]
    pub fn report(&self, coloured: bool) -> Vec<String> {
        let paint = |code: &str, text: &str| match coloured {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let mut lines = vec![self.evalue.clone()];
        if coloured {
            lines[0] = format!("{}: {}", paint("1;31", &self.ename), self.evalue);
            lines[0].extend(self.hint.iter().map(|hint| format!("\n{}: {hint}", paint("33", "hint"))));
        }
        if let Some(excerpt) = &self.excerpt {
            for (number, text) in (excerpt.first..).zip(&excerpt.lines) {
                let meant = number == excerpt.line;
                let head = format!("{} {number:>4} | ", if meant { "-->" } else { "   " });
                lines.push(format!("{}{text}", paint(if meant { "1;32" } else { "2" }, &head)));
            }
        }
        let callers = self.traceback.iter().skip(1).map(|line| match line.split_once(": in ") {
            Some((place, what)) => format!("\t{} in {what}", paint("36", &format!("{place}:"))),
            None => format!("\t{line}"),
        });
        if self.traceback.len() > 1 {
            lines.push("stack traceback:".into());
        }
        lines.extend(callers);
        lines
    }
}

/// Answer to "is this code complete?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completeness {
    /// Can be run.
    Complete,
    /// More lines are needed; the next is to be indented so.
    Incomplete(String),
    /// Cannot become valid by adding lines.
    Invalid,
}

/// What may stand at a cursor.
#[derive(Debug, Clone, Default)]
pub struct Completions {
    /// The bytes of the code that a completion replaces: from here
    pub start: usize,
    /// to here.
    pub end: usize,
    /// Sorted.
    pub items: Vec<Completion>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// What to put in.
    pub text: String,
    /// `function`, `module`, `keyword`, `instance`, `param` …, as clients know them.
    pub kind: &'static str,
    /// How it is called, for functions.
    pub signature: Option<String>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// As plain text.
    pub text: String,
    /// As Markdown.
    pub markdown: String,
}

/// Why a script is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user asked.
    Interrupt,
    /// Its deadline passed.
    Deadline,
    /// The kernel shuts down.
    Shutdown,
}

/// Stops the running script from any other thread. Clones reach the same engine.
#[derive(Clone)]
pub struct Interrupter(pub Arc<dyn Interrupt>);

/// What an engine offers other threads.
pub trait Interrupt: Send + Sync {
    /// Stops the script that runs now, if one runs; sticky until its top level is reached. Returns at once.
    /// Idle, it does nothing.
    fn interrupt(&self, reason: Reason);

    /// When the script that runs now was told to stop, if it has not stopped since.
    fn pending_since(&self) -> Option<Instant>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> (Vec<String>, String) {
        let words = line.split_whitespace().map(str::to_owned).collect();
        let (numbered, named) = Args { script: String::new(), words }.parse();
        (numbered, Value::Object(named).to_string())
    }

    // The first line is observed of v0.10, which needed the `--`.
    #[test]
    fn arguments_are_named_or_numbered() {
        for (line, numbered, named) in [
            ("-- --a -1 -b x --c", &["-b", "x"][..], r#"{"a":"-1","c":"true"}"#),
            ("--a -1 -b x --c", &["-b", "x"], r#"{"a":"-1","c":"true"}"#),
            ("--a --b=1=2", &[], r#"{"a":"true","b":"1=2"}"#),
            ("x -- --a -- y", &["x", "--a", "--", "y"], "{}"),
            ("-- -- --a", &["--a"], "{}"),
            ("", &[], "{}"),
        ] {
            assert_eq!(
                parse(line),
                (numbered.iter().map(|&word| word.to_owned()).collect(), named.to_owned()),
                "{line}"
            );
        }
    }
}
