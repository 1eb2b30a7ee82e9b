//! `-h` and `--help`.

use super::table::{Command, Flag, Group};
use super::{Trail, VERSION};
use crate::error::CLASSES;

/// Where text ends: wide enough to read, narrow enough for every terminal.
const WIDTH: usize = 80;

/// The widest name that still has its text beside it.
const NAME: usize = 28;

/// A heading and its rows of a name and a text.
type Section = (&'static str, Vec<(String, String)>);

/// The help of one command; `full` brings descriptions, details, files, exit statuses and examples.
pub(super) fn help<D, A>(trail: &Trail<D, A>, full: bool) -> String {
    let (program, command) = (trail.first(), trail.last());
    let operands = command.operands.iter().map(|row| (row.metavar.to_owned(), row.doc.to_owned()));
    let flags = |group: &Group<D>| {
        let shown = group.flags.iter().filter(|flag| !flag.hidden);
        (group.title, shown.map(|flag| (spelled(flag), flag.text())).collect())
    };
    let mut sections: Vec<Section> = vec![("Operands", operands.collect())];
    for (heading, name, text) in commands(trail) {
        match sections.iter_mut().find(|(title, _)| *title == heading) {
            Some((_, rows)) => rows.push((name, text)),
            None => sections.push((heading, vec![(name, text)])),
        }
    }
    sections.extend(trail.groups().map(flags));

    let mut out = Out::default();
    out.text(0, &format!("{} - {}", trail.name(), command.summary));
    out.title("Usage");
    trail.synopsis().iter().for_each(|line| out.line(2, line));
    if !full {
        out.columns(sections);
        out.blank();
        out.line(0, &format!("`{} --help` tells more, {}(1) everything.", trail.name(), program.name));
        return out.0;
    }
    let also = command.also();
    for paragraph in command.about.iter().copied().chain(also.as_deref()) {
        out.blank();
        out.text(0, paragraph);
    }
    let owned =
        |rows: &[(&str, &str)]| rows.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    sections.push(("Environment", owned(program.environment)));
    sections.push(("Files", owned(program.files)));
    sections.push(("Exit status", exits()));
    out.details(sections);
    examples(&mut out, trail);
    out.0
}

/// Every command below `trail` that does something: its heading, its name and its summary.
fn commands<D, A>(trail: &Trail<D, A>) -> Vec<(&'static str, String, String)> {
    let depth = trail.0.len();
    let below = Trail(trail.0.clone()).all().into_iter().skip(1).filter(|sub| sub.last().make.is_some());
    let name = |sub: &Trail<D, A>| sub.0[depth..].iter().map(|command| command.name).collect::<Vec<_>>().join(" ");
    below.map(|sub| (sub.last().heading, name(&sub), sentence(sub.last()))).collect()
}

/// The summary as a sentence.
fn sentence<D, A>(command: &Command<D, A>) -> String {
    let mut chars = command.summary.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).chain(['.']).collect()).unwrap_or_default()
}

/// Every exit status and what it means; statuses of several classes are one row.
pub(super) fn exits() -> Vec<(String, String)> {
    let mut rows = vec![("0".to_owned(), "Success, also when nobody reads standard output any more.".to_owned())];
    for class in CLASSES {
        match rows.last_mut() {
            Some((status, doc)) if *status == class.exit.to_string() => *doc += &format!(" {}", class.doc),
            _ => rows.push((class.exit.to_string(), class.doc.to_owned())),
        }
    }
    rows
}

/// The examples of this command and those below.
fn examples<D, A>(out: &mut Out, trail: &Trail<D, A>) {
    let name = trail.name();
    let mine = trail.first().examples.iter().filter(|example| example.command.contains(&name));
    for (index, example) in mine.enumerate() {
        if index == 0 {
            out.title("Examples");
        } else {
            out.blank();
        }
        out.text(2, example.title);
        example.command.lines().for_each(|line| out.line(6, line));
    }
    out.blank();
    out.line(0, &format!("llmspell {VERSION}"));
}

/// `-p, --port PORT`.
fn spelled<D>(flag: &Flag<D>) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    format!("{short}--{}{}", flag.name, flag.argument(str::to_owned))
}

/// The first sentence of `doc`.
pub(super) fn first_sentence(doc: &str) -> &str {
    doc.find(". ").map_or(doc, |end| &doc[..=end])
}

#[derive(Default)]
struct Out(String);

impl Out {
    fn blank(&mut self) {
        self.0.push('\n');
    }

    /// A heading with an empty line before it.
    fn title(&mut self, title: &str) {
        self.0 += &format!("\n{title}:\n");
    }

    /// One line as it is.
    fn line(&mut self, indent: usize, line: &str) {
        self.0 += &format!("{:indent$}{line}\n", "");
    }

    /// Text without its markup, in lines of at most [`WIDTH`].
    fn text(&mut self, indent: usize, text: &str) {
        wrap(&text.replace('`', ""), WIDTH - indent).iter().for_each(|line| self.line(indent, line));
    }

    /// Names and first sentences in two columns, the same two in every section.
    fn columns(&mut self, sections: Vec<Section>) {
        let names = sections.iter().flat_map(|(_, rows)| rows).map(|(name, _)| name.len());
        let column = 4 + names.filter(|width| *width <= NAME).max().unwrap_or_default();
        for (title, rows) in sections.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            self.title(title);
            for (name, text) in rows {
                let mut lines = wrap(&first_sentence(&text).replace('`', ""), WIDTH - column).into_iter();
                if name.len() > NAME {
                    self.line(2, &name);
                } else {
                    let first = lines.next().unwrap_or_default();
                    self.line(2, &format!("{name:<width$}{first}", width = column - 2));
                }
                lines.for_each(|line| self.line(column, &line));
            }
        }
    }

    /// Names, and below each its whole text.
    fn details(&mut self, sections: Vec<Section>) {
        for (title, rows) in sections.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            self.title(title);
            for (name, text) in rows {
                self.line(2, &name);
                self.text(10, &text);
            }
        }
    }
}

/// Breaks `text` at spaces into lines of at most `width`; a longer word stands alone.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    wrap_by(text, width, |text| text.chars().count())
}

/// The same, where `size` measures.
pub(super) fn wrap_by(text: &str, width: usize, size: impl Fn(&str) -> usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if size(line) + 1 + size(word) <= width => {
                line.push(' ');
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NESTED, PROGRAM};
    use super::*;

    #[test]
    fn short_help_is_one_line_a_flag() {
        let text = help(&Trail::new(&PROGRAM), false);
        let expected = "sample - do what samples do

Usage:
  sample [FLAGS] WORD [WORD...]

Operands:
  WORD                Any word.
  WORD                Any word.

Flags:
  -p, --port PORT     Listen on PORT.
  -q, --quiet         Say less.
      --loud          Say more.
      --kind KIND     What kind [of: it's].
  -i, --input FILE    Read FILE.
      --allow[=LIST]  Allow LIST, or everything.

General:
  -h, --help          Print help.
  -V, --version       Print the version.

`sample --help` tells more, sample(1) everything.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn full_help_tells_everything() {
        let text = help(&Trail::new(&PROGRAM), true);
        for part in [
            "It does very little. And\\that well.\n",
            "  -p, --port PORT\n          Listen on PORT. Zero is any.\n",
            "One of red or green.",
            "Not together with --loud.",
            "Exit status:\n  0\n          Success",
            "Examples:\n  Say x.\n      sample -q x\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(!text.contains("--later") && !text.contains("--generate"));
    }

    #[test]
    fn commands_are_listed_where_they_do_something() {
        let text = help(&Trail::new(&NESTED), false);
        assert!(text.contains("Commands:\n  config show      Print it.\n"), "{text}");
        let below = Trail(vec![&NESTED, &NESTED.commands[0], &NESTED.commands[0].commands[0]]);
        let text = help(&below, true);
        assert!(text.contains("\nAlso called print. whisper is show --quiet.\n"), "{text}");
    }
}
