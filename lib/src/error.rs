//! One error for the whole suite: a class that decides exit status and names, a text, a hint, a source.
//!
//! Wording: a lower-case fragment, the named thing first, then the cause, no full stop. The hint is the next step.

use std::fmt;
use std::io;
use std::path::Path;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is. [`CLASSES`] says what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The tool or the script itself says no: a failed calculation, an uncaught Lua error.
    Tool,
    /// A script ended with an error.
    Script,
    /// The command line or the parameters are wrong.
    Usage,
    /// The configuration is wrong.
    Config,
    /// The policy or the operating system forbids it.
    Denied,
    /// The named thing does not exist.
    NotFound,
    /// The named thing is in the way or held by another.
    Conflict,
    /// It took longer than allowed.
    Timeout,
    /// The other side (a kernel, a server) failed or went away.
    Remote,
    /// A spending or rate limit was reached.
    Budget,
    /// This build was made without it.
    Absent,
    /// A fault of ours.
    Bug,
    /// The operating system failed.
    System,
    /// Stopped by the user.
    Interrupted,
}

/// What a class means outside: one row a class, in the order of exit status.
#[derive(Debug)]
pub struct ClassRow {
    /// The class.
    pub class: Class,
    /// `err.class` in Lua and `class` on the wire.
    pub name: &'static str,
    /// Exit status of every program of the suite.
    pub exit: u8,
    /// `ename` in Jupyter's error messages.
    pub ename: &'static str,
    /// `error_type` of a `tool_reply`.
    pub error_type: &'static str,
    /// For the EXIT STATUS section of the pages.
    pub doc: &'static str,
}

const fn row(
    class: Class,
    name: &'static str,
    exit: u8,
    ename: &'static str,
    error_type: &'static str,
    doc: &'static str,
) -> ClassRow {
    ClassRow { class, name, exit, ename, error_type, doc }
}

/// The one table: class → exit status, Jupyter `ename`, Lua `err.class`, `error_type`.
pub const CLASSES: &[ClassRow] = &[
    row(Class::Tool, "tool", 1, "ToolError", "execution_error", "The tool ran and failed."),
    row(Class::Script, "script", 1, "LuaError", "script_error", "The script ended with an error."),
    row(Class::Usage, "usage", 2, "UsageError", "validation_error", "Wrong command line or parameters."),
    row(Class::Config, "config", 3, "ConfigError", "configuration_error", "Wrong configuration."),
    row(Class::Denied, "denied", 4, "DeniedError", "denied", "Forbidden by the policy or the system."),
    row(Class::NotFound, "not_found", 5, "NotFoundError", "not_found", "No such script, kernel, tool or file."),
    row(Class::Conflict, "conflict", 6, "ConflictError", "conflict", "In use or held by another."),
    row(Class::Timeout, "timeout", 7, "TimeoutError", "timeout", "A time limit was reached."),
    row(Class::Remote, "remote", 8, "RemoteError", "remote_error", "A kernel or server failed or went away."),
    row(Class::Budget, "budget", 9, "BudgetError", "budget", "A spending or rate limit was reached."),
    row(Class::Absent, "absent", 10, "AbsentError", "not_in_build", "Not in this build."),
    row(Class::Bug, "bug", 70, "InternalError", "internal_error", "A fault in llmspell itself."),
    row(Class::System, "system", 74, "SystemError", "system_error", "The operating system failed."),
    row(Class::Interrupted, "interrupted", 130, "KeyboardInterrupt", "cancelled", "Interrupted."),
];

impl Class {
    /// What follows from this class.
    #[must_use]
    pub fn row(self) -> &'static ClassRow {
        CLASSES.iter().find(|row| row.class == self).expect("every class has a row")
    }

    /// The class called `name` on the wire and in Lua; an unknown name is [`Class::Remote`], as only another version sends one.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        CLASSES.iter().find(|row| row.name == name).map_or(Class::Remote, |row| row.class)
    }
}

/// A failure: what kind, what happened to which thing, and what to do next.
pub struct Error(Box<Inner>);

struct Inner {
    class: Class,
    text: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `class`; `text` names the thing first, then the cause.
    pub fn new(class: Class, text: impl Into<String>) -> Self {
        Error(Box::new(Inner { class, text: text.into(), hint: None, source: None }))
    }

    /// The next step, a sentence of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What caused it.
    #[must_use]
    pub fn source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Puts the name of the thing in front: `calculator: …`.
    #[must_use]
    pub fn within(mut self, thing: impl fmt::Display) -> Self {
        self.0.text = format!("{thing}: {}", self.0.text);
        self
    }

    /// A failed system call on `path`; the class follows the kind of `error`.
    pub fn io(path: impl AsRef<Path>, error: io::Error) -> Self {
        let path = path.as_ref().display();
        Self::system(path, error)
    }

    /// A failed system call on `thing`; the class follows the kind of `error`.
    pub fn system(thing: impl fmt::Display, error: io::Error) -> Self {
        let class = match error.kind() {
            io::ErrorKind::NotFound => Class::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Class::Denied,
            io::ErrorKind::AlreadyExists | io::ErrorKind::AddrInUse => Class::Conflict,
            io::ErrorKind::TimedOut => Class::Timeout,
            _ => Class::System,
        };
        Self::new(class, format!("{thing}: {}", reason(&error))).source(error)
    }

    /// Its kind.
    #[must_use]
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// What happened, without the hint.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The next step, if there is one.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

/// The operating system's words without Rust's ` (os error 2)`, in lower case like every error here.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.class, self.0.text)?;
        self.0.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// ` ; did you mean …?` material: the candidate nearest to `given`, if any is near.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&given, &candidate.to_lowercase().replace('-', "_")), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_one_row_and_rows_are_in_order() {
        assert!(CLASSES.windows(2).all(|pair| pair[0].exit <= pair[1].exit));
        for row in CLASSES {
            assert_eq!(Class::from_name(row.name), row.class);
            assert_eq!(CLASSES.iter().filter(|other| other.class == row.class).count(), 1);
        }
    }

    #[test]
    fn system_errors_name_the_path_and_drop_the_number() {
        let error = std::fs::read("/nonexistent/file").map_err(|e| Error::io("/nonexistent/file", e)).unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/file: no such file or directory");
        assert_eq!(error.class(), Class::NotFound);
    }

    #[test]
    fn nearest_needs_likeness() {
        assert_eq!(nearest("calcluator", ["calculator", "file_search"]), Some("calculator"));
        assert_eq!(nearest("file-serch", ["calculator", "file_search"]), Some("file_search"));
        assert_eq!(nearest("zzz", ["calculator"]), None);
    }
}
