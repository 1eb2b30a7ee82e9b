//! What a table is made of: commands, groups of flags, operands, examples. All of it is constant data.
//!
//! `D` is the draft the rows write to while parsing; `A` is what a program gets, made from the draft once everything
//! is read.
//! Text is plain; between `backticks` stands what is typed as it is. The first sentence of a `doc` is the short help.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Class, Error, Result, nearest};
use crate::units;

/// A program, or one of its sub-commands.
pub struct Command<D: 'static, A: 'static> {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [(&'static str, &'static [&'static str])],
    pub(super) heading: &'static str,
    pub(super) summary: &'static str,
    pub(super) about: &'static [&'static str],
    pub(super) synopsis: &'static [&'static str],
    pub(super) common: &'static [Group<D>],
    pub(super) flags: &'static [Group<D>],
    pub(super) operands: &'static [Operand<D>],
    pub(super) flags_end: bool,
    pub(super) commands: &'static [Command<D, A>],
    pub(super) make: Option<fn(D) -> Result<A>>,
    pub(super) signals: &'static [(&'static str, &'static str)],
    pub(super) environment: &'static [(&'static str, &'static str)],
    pub(super) files: &'static [(&'static str, &'static str)],
    pub(super) topics: &'static [(&'static str, &'static [(&'static str, &'static str)])],
    pub(super) examples: &'static [Example],
    pub(super) see_also: &'static [&'static str],
}

impl<D, A> Command<D, A> {
    /// A command called `name`; `summary` is a fragment: `run a script`.
    pub const fn new(name: &'static str, summary: &'static str) -> Self {
        Command {
            name,
            aliases: &[],
            heading: "Commands",
            summary,
            about: &[],
            synopsis: &[],
            common: &[],
            flags: &[],
            operands: &[],
            flags_end: false,
            commands: &[],
            make: None,
            signals: &[],
            environment: &[],
            files: &[],
            topics: &[],
            examples: &[],
            see_also: &[],
        }
    }

    /// Other names, each with the switches it implies. They are told on the page and not completed.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [(&'static str, &'static [&'static str])]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The heading below which the help of the program lists it.
    #[must_use]
    pub const fn heading(mut self, heading: &'static str) -> Self {
        self.heading = heading;
        self
    }

    /// The description, a paragraph each.
    #[must_use]
    pub const fn about(mut self, about: &'static [&'static str]) -> Self {
        self.about = about;
        self
    }

    /// Usage lines without the name, where those made from the table would not say enough.
    #[must_use]
    pub const fn synopsis(mut self, synopsis: &'static [&'static str]) -> Self {
        self.synopsis = synopsis;
        self
    }

    /// Flags of this command and of every command below it.
    #[must_use]
    pub const fn common(mut self, groups: &'static [Group<D>]) -> Self {
        self.common = groups;
        self
    }

    /// Flags of this command alone.
    #[must_use]
    pub const fn flags(mut self, groups: &'static [Group<D>]) -> Self {
        self.flags = groups;
        self
    }

    /// Operands in order; only the last may be repeated.
    #[must_use]
    pub const fn operands(mut self, operands: &'static [Operand<D>]) -> Self {
        self.operands = operands;
        self
    }

    /// Leaves everything after the first operand untouched, flags or not.
    #[must_use]
    pub const fn flags_end_at_operands(mut self) -> Self {
        self.flags_end = true;
        self
    }

    /// Sub-commands.
    #[must_use]
    pub const fn commands(mut self, commands: &'static [Command<D, A>]) -> Self {
        self.commands = commands;
        self
    }

    /// Makes the arguments from the draft; a command without it needs one of its sub-commands.
    #[must_use]
    pub const fn make(mut self, make: fn(D) -> Result<A>) -> Self {
        self.make = Some(make);
        self
    }

    /// What signals do, each with its sentences.
    #[must_use]
    pub const fn signals(mut self, rows: &'static [(&'static str, &'static str)]) -> Self {
        self.signals = rows;
        self
    }

    /// Variables it reads, each with a sentence.
    #[must_use]
    pub const fn environment(mut self, rows: &'static [(&'static str, &'static str)]) -> Self {
        self.environment = rows;
        self
    }

    /// Files it reads or writes, each with a sentence.
    #[must_use]
    pub const fn files(mut self, rows: &'static [(&'static str, &'static str)]) -> Self {
        self.files = rows;
        self
    }

    /// Sections of the page alone: a title, and names with a sentence each.
    #[must_use]
    pub const fn topics(mut self, topics: &'static [(&'static str, &'static [(&'static str, &'static str)])]) -> Self {
        self.topics = topics;
        self
    }

    /// Command lines people would run.
    #[must_use]
    pub const fn examples(mut self, examples: &'static [Example]) -> Self {
        self.examples = examples;
        self
    }

    /// Pages to read next: `llmspell-run(1)`.
    #[must_use]
    pub const fn see_also(mut self, pages: &'static [&'static str]) -> Self {
        self.see_also = pages;
        self
    }

    /// What is said of its other names.
    pub(super) fn also(&self) -> Option<String> {
        let (flags, plain): (Vec<_>, Vec<_>) = self.aliases.iter().partition(|(_, flags)| !flags.is_empty());
        let names = super::list(plain.iter().map(|(name, _)| format!("`{name}`")), "and");
        let plain = (!plain.is_empty()).then(|| format!("Also called {names}."));
        let flags = flags.iter().map(|(name, flags)| {
            let flags: String = flags.iter().map(|flag| format!(" --{flag}")).collect();
            format!("`{name}` is `{}{flags}`.", self.name)
        });
        let text: Vec<String> = plain.into_iter().chain(flags).collect();
        (!text.is_empty()).then(|| text.join(" "))
    }
}

/// Flags under one heading.
pub struct Group<D: 'static> {
    pub(super) title: &'static str,
    pub(super) flags: &'static [Flag<D>],
}

impl<D> Group<D> {
    /// `flags` under the heading `title`.
    pub const fn new(title: &'static str, flags: &'static [Flag<D>]) -> Self {
        Group { title, flags }
    }

    /// What every command understands besides its own.
    pub(super) const GENERAL: Self = Group::new(
        "General",
        &[
            Flag::new("help", "", Action::Help)
                .short('h')
                .doc("Print help. `-h` prints a summary, `--help` everything."),
            Flag::new("version", "", Action::Version).short('V').doc("Print the version."),
            Flag::new("generate", "KIND", Action::Generate)
                .choices(super::KINDS)
                .hidden()
                .doc("Print the page, the examples or the completions of a shell."),
        ],
    );
}

/// One flag.
pub struct Flag<D: 'static> {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) metavar: &'static str,
    pub(super) choices: &'static [&'static str],
    pub(super) excludes: &'static [&'static str],
    pub(super) doc: &'static str,
    pub(super) hidden: bool,
    pub(super) action: Action<D>,
}

/// What a flag does.
pub(super) enum Action<D: 'static> {
    Switch(fn(&mut D)),
    Value(fn(&mut D, Value) -> Result<()>),
    Optional(fn(&mut D, Option<Value>) -> Result<()>),
    Absent(&'static str),
    Help,
    Version,
    Generate,
}

impl<D> Flag<D> {
    const fn new(name: &'static str, metavar: &'static str, action: Action<D>) -> Self {
        Flag { name, short: None, metavar, choices: &[], excludes: &[], doc: "", hidden: false, action }
    }

    /// A flag without a value.
    pub const fn switch(name: &'static str, set: fn(&mut D)) -> Self {
        Flag::new(name, "", Action::Switch(set))
    }

    /// A flag with a value; `set` only checks and stores, and its errors leave the name of the flag to the parser.
    /// `FILE` and `DIR` as `metavar` complete files and folders.
    pub const fn value(name: &'static str, metavar: &'static str, set: fn(&mut D, Value) -> Result<()>) -> Self {
        Flag::new(name, metavar, Action::Value(set))
    }

    /// A flag that may stand alone or have a value after `=`.
    pub const fn optional(
        name: &'static str,
        metavar: &'static str,
        set: fn(&mut D, Option<Value>) -> Result<()>,
    ) -> Self {
        Flag::new(name, metavar, Action::Optional(set))
    }

    /// A flag this build knows but cannot serve; `hint` says what to do instead.
    pub const fn absent(name: &'static str, hint: &'static str) -> Self {
        Flag::new(name, "", Action::Absent(hint)).hidden()
    }

    /// Its letter.
    #[must_use]
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// The only values it takes.
    #[must_use]
    pub const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    /// Flags that cannot stand beside it; saying so on one of the two is enough.
    #[must_use]
    pub const fn excludes(mut self, names: &'static [&'static str]) -> Self {
        self.excludes = names;
        self
    }

    /// What it does: a short first sentence, then details.
    #[must_use]
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// Keeps it out of help, page and completions.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Whether the next word belongs to it.
    pub(super) fn takes_value(&self) -> bool {
        matches!(self.action, Action::Value(_) | Action::Generate)
    }

    /// `--name`.
    pub(super) fn long(&self) -> String {
        format!("--{}", self.name)
    }

    /// What stands after the name: ` PORT`, `[=LIST]` or nothing; `style` dresses the metavariable.
    pub(super) fn argument(&self, style: impl Fn(&str) -> String) -> String {
        match self.action {
            Action::Optional(_) => format!("[={}]", style(self.metavar)),
            _ if self.metavar.is_empty() => String::new(),
            _ => format!(" {}", style(self.metavar)),
        }
    }

    /// The whole text: doc, choices, what it excludes.
    pub(super) fn text(&self) -> String {
        let mut text = self.doc.to_owned();
        match self.choices {
            [] => {}
            [only] => text += &format!(" Only `{only}` is known."),
            choices => {
                text += &format!(" One of {}.", super::list(choices.iter().map(|choice| format!("`{choice}`")), "or"));
            }
        }
        if !self.excludes.is_empty() {
            text += &format!(
                " Not together with {}.",
                super::list(self.excludes.iter().map(|name| format!("`--{name}`")), "or")
            );
        }
        text
    }
}

/// An operand: a word that is no flag.
pub struct Operand<D: 'static> {
    pub(super) metavar: &'static str,
    pub(super) doc: &'static str,
    pub(super) optional: bool,
    pub(super) repeated: bool,
    pub(super) set: fn(&mut D, Value) -> Result<()>,
}

impl<D> Operand<D> {
    /// An operand that must be there once.
    pub const fn new(metavar: &'static str, set: fn(&mut D, Value) -> Result<()>) -> Self {
        Operand { metavar, doc: "", optional: false, repeated: false, set }
    }

    /// It may be left out.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// It may come many times.
    #[must_use]
    pub const fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }

    /// What it is: a short first sentence, then details.
    #[must_use]
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// `FILE`, `[FILE]`, `WORD...` or `[ARG...]`.
    pub(super) fn spelled(&self) -> String {
        let dots = if self.repeated { "..." } else { "" };
        match self.optional {
            true => format!("[{}{dots}]", self.metavar),
            false => format!("{}{dots}", self.metavar),
        }
    }
}

/// A line for EXAMPLES, which tests execute.
pub struct Example {
    pub(super) title: &'static str,
    pub(super) command: &'static str,
    pub(super) output: Option<&'static str>,
}

impl Example {
    /// `command` is a line for sh(1); `title` says what for.
    pub const fn new(title: &'static str, command: &'static str) -> Self {
        Example { title, command, output: None }
    }

    /// What it prints to standard output, whole.
    #[must_use]
    pub const fn prints(mut self, output: &'static str) -> Self {
        self.output = Some(output);
        self
    }
}

/// What was typed as the value of a flag, or as an operand.
pub struct Value(pub(super) OsString);

impl Value {
    /// As it was typed, UTF-8 or not.
    #[must_use]
    pub fn into_os(self) -> OsString {
        self.0
    }

    /// A path; nothing is opened or resolved.
    ///
    /// # Errors
    /// `Usage` when it is empty.
    pub fn path(self) -> Result<PathBuf> {
        match self.0.is_empty() {
            true => Err(Error::new(Class::Usage, "the path is empty")),
            false => Ok(self.0.into()),
        }
    }

    /// Text.
    ///
    /// # Errors
    /// `Usage` when it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        OsStr::to_str(&self.0).ok_or_else(|| Error::new(Class::Usage, format!("{:?} is not UTF-8", self.0)))
    }

    /// Text, owned.
    ///
    /// # Errors
    /// `Usage` when it is not UTF-8.
    pub fn into_text(self) -> Result<String> {
        self.text().map(str::to_owned)
    }

    /// A number or whatever else reads itself from text; `what` is what it should be: `a port number`.
    ///
    /// # Errors
    /// `Usage` when it is not `what`.
    pub fn parse<T: FromStr>(&self, what: &str) -> Result<T> {
        let text = self.text()?;
        text.parse().map_err(|_| Error::new(Class::Usage, format!("{text:?} is not {what}")))
    }

    /// A comma list of exactly `N` things, each of them `what`.
    ///
    /// # Errors
    /// `Usage` when one is not `what`, or there are more or fewer.
    pub fn parse_all<T: FromStr, const N: usize>(&self, what: &str) -> Result<[T; N]> {
        let items: Vec<T> =
            self.list()?.into_iter().map(|item| Value(item.into()).parse(what)).collect::<Result<_>>()?;
        let count = items.len();
        items.try_into().map_err(|_| Error::new(Class::Usage, format!("{N} values are needed, {count} given")))
    }

    /// A comma list; empty items are dropped.
    ///
    /// # Errors
    /// `Usage` when it is not UTF-8.
    pub fn list(&self) -> Result<Vec<String>> {
        Ok(self.text()?.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }

    /// The row of `table` it names.
    ///
    /// # Errors
    /// `Usage` naming the nearest when there is none.
    pub fn pick<T: Copy>(&self, table: &[(&'static str, T)]) -> Result<T> {
        let text = self.text()?;
        if let Some((_, item)) = table.iter().find(|(name, _)| *name == text) {
            return Ok(*item);
        }
        Err(not_among(text, table.iter().map(|(name, _)| *name)))
    }

    /// A duration ([`units::duration`]).
    ///
    /// # Errors
    /// `Usage` when it is none.
    pub fn duration(&self) -> Result<Duration> {
        units::duration(self.text()?)
    }

    /// A size in bytes ([`units::size`]).
    ///
    /// # Errors
    /// `Usage` when it is none.
    pub fn size(&self) -> Result<u64> {
        units::size(self.text()?)
    }
}

/// The error of a word that is not among `choices`.
pub(super) fn not_among(text: &str, choices: impl Iterator<Item = &'static str> + Clone) -> Error {
    let error = match nearest(text, choices.clone()) {
        Some(near) => format!("{text:?} is unknown, did you mean {near}?"),
        None => format!("{text:?} is unknown, choose {}", super::list(choices.map(str::to_owned), "or")),
    };
    Error::new(Class::Usage, error)
}

/// The names of `table`, for [`Flag::choices`] beside [`Value::pick`].
pub const fn names<T: Copy, const N: usize>(table: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        names[index] = table[index].0;
        index += 1;
    }
    names
}
