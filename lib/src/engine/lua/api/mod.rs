//! The reference of what scripts find: one row a function or value, in a file for each global. Inspection, completion and
//! llmspell-lua(7) are made from it.
//!
//! A global is added with its file here and a line in [`SECTIONS`]. A row tells what is returned and raised; its example is
//! run by the tests, and what stands behind `-->` in it is what it prints.

mod absent;
mod agent;
mod comm;
mod config;
mod debug;
mod display;
mod json;
mod language;
mod logger;
mod model;
mod script;
mod state;
mod streaming;
mod system;
mod tool;

#[cfg(test)]
mod page;

/// One function, table or value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// `string.format`; `tool.execute`, in lower case, for a method of such values.
    pub(super) name: &'static str,
    /// `(format, …) → string`; empty for what is not called.
    pub(super) signature: &'static str,
    /// What it does, in Markdown.
    pub(super) doc: &'static str,
    /// What it raises, in Markdown; empty where that is only `usage` for arguments of a wrong type.
    pub(super) errors: &'static str,
    /// A few lines of Lua.
    pub(super) example: &'static str,
}

impl Entry {
    const fn errors(self, errors: &'static str) -> Self {
        Entry { errors, ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Entry { example, ..self }
    }
}

/// The rows of one global.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// Its heading.
    pub(super) title: &'static str,
    /// What is to be known before, in Markdown: paragraphs, with an empty line between.
    pub(super) about: &'static str,
    /// Kinds of values whose methods are here: `tool`. Their metatables have it as `__name`.
    pub(super) values: &'static [&'static str],
    /// In the order in which they are to be read.
    pub(super) rows: &'static [Entry],
}

/// All of it.
pub(super) const SECTIONS: &[Section] = &[
    script::SCRIPT,
    model::MODEL,
    model::PROVIDER,
    tool::TOOL,
    agent::AGENT,
    state::STATE,
    json::JSON,
    config::CONFIG,
    logger::LOGGER,
    debug::DEBUG,
    streaming::STREAMING,
    display::DISPLAY,
    comm::COMM,
    language::BASE,
    system::IO,
    system::OS,
    language::STRING,
    language::TABLE,
    language::MATH,
    language::UTF8,
    language::COROUTINE,
    language::PACKAGE,
    language::DEBUG,
    absent::ABSENT,
];

/// All rows.
pub(super) fn entries() -> impl Iterator<Item = &'static Entry> {
    SECTIONS.iter().flat_map(|section| section.rows)
}

/// The row called `name`.
pub(super) fn entry(name: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.name == name)
}

/// What is to be known of a global as a whole, for its own row.
pub(super) fn about(entry: &Entry) -> impl Iterator<Item = &'static str> {
    let global = SECTIONS.iter().find(|section| section.title == entry.name.to_uppercase());
    global.into_iter().filter(|_| entry.signature.is_empty()).flat_map(|section| section.about.split("\n\n"))
}

/// Whether a row is of values of a kind, and not to be found by its name.
pub(super) fn is_method(entry: &Entry) -> bool {
    kinds().any(|kind| entry.name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.')))
}

/// The kinds of values that have methods.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().flat_map(|section| section.values).copied()
}

/// The methods and fields of values of a kind, and what they are called there.
pub(super) fn methods(kind: &str) -> impl Iterator<Item = (&'static str, &'static Entry)> {
    entries().filter_map(move |entry| Some((entry.name.strip_prefix(kind)?.strip_prefix('.')?, entry)))
}

const fn row(name: &'static str, signature: &'static str, doc: &'static str) -> Entry {
    Entry { name, signature, doc, errors: "", example: "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_unique_and_say_something() {
        let mut names: Vec<_> = entries().map(|entry| entry.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for entry in entries() {
            assert!(entry.doc.ends_with('.') || entry.doc.ends_with('…'), "{}", entry.name);
            assert!(entry.signature.is_empty() || entry.signature.starts_with('('), "{}", entry.name);
            let errors = entry.errors.is_empty() || entry.errors.ends_with('.');
            assert!(errors, "{}", entry.name);
        }
    }
}
