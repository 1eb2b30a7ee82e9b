//! The page, in the man(7) macros that groff and mandoc both know.

use super::table::{Command, Flag};
use super::{DATE, Trail, VERSION, help};

/// The whole page of `program`.
pub(super) fn page<D, A>(program: &'static Command<D, A>) -> String {
    let trail = Trail::new(program);
    let mut page = format!(
        ".\\\" Made by `{name} --generate man`; change the table in cli.rs instead.\n\
         .TH {upper} 1 {DATE} \"llmspell {VERSION}\" \"User Commands\"\n.nh\n.ad l\n",
        name = program.name,
        upper = program.name.to_uppercase(),
    );
    page += &format!(".SH NAME\n{} \\- {}\n", program.name.replace('-', "\\-"), prose(program.summary));
    page += ".SH SYNOPSIS\n.nf\n";
    trail.synopsis().iter().for_each(|line| page += &format!("{}\n", usage(line, &trail.name())));
    page += ".fi\n.SH DESCRIPTION\n";
    page += &paragraphs(program.about);
    page += &operands(&trail);
    if !program.commands.is_empty() {
        page += ".SH COMMANDS\n";
        let commands = Trail::new(program).all().into_iter().skip(1);
        commands.filter(|sub| sub.last().make.is_some()).for_each(|sub| page += &command(&sub));
    }
    page += ".SH OPTIONS\n";
    if program.make.is_none() {
        page += "Every command takes these, and they may stand before it.\n";
    }
    for group in trail.groups() {
        page += &format!(".SS {}\n", group.title);
        group.flags.iter().for_each(|flag| page += &option(flag));
    }
    program.topics.iter().for_each(|(title, topic)| page += &rows(title, topic.iter().copied()));
    page += &rows("SIGNALS", program.signals.iter().copied());
    page += &rows("ENVIRONMENT", program.environment.iter().copied());
    page += &rows("FILES", program.files.iter().copied());
    page += &rows("EXIT STATUS", help::exits().iter().map(|(status, doc)| (&**status, &**doc)));
    page += ".SH EXAMPLES\n";
    for (index, example) in program.examples.iter().enumerate() {
        let break_ = if index == 0 { "" } else { ".PP\n" };
        page += &format!(
            "{break_}{}\n.PP\n.RS 4\n.EX\n{}\n.EE\n.RE\n",
            sentences(example.title),
            verbatim(example.command)
        );
    }
    if !program.see_also.is_empty() {
        let pages: Vec<_> = program.see_also.iter().map(|page| reference(page)).collect();
        page += &format!(".SH SEE ALSO\n{}\n", pages.join(",\n"));
    }
    page
}

/// A sub-command: what it does, its operands, its own flags. The common ones stand under OPTIONS.
fn command<D, A>(sub: &Trail<D, A>) -> String {
    let synopsis: Vec<_> = sub.synopsis().iter().map(|line| usage(line, &sub.name())).collect();
    let mut text = format!(".SS {}\n.nf\n{}\n.fi\n", sub.command_name(), synopsis.join("\n"));
    let root = sub.first().flags.iter().map(|group| group.title);
    let shared: Vec<_> = root.filter(|title| sub.last().flags.iter().any(|group| group.title == *title)).collect();
    if !sub.last().about.is_empty() {
        text += &format!(".PP\n{}", paragraphs(sub.last().about));
    }
    if let Some(also) = sub.last().also() {
        text += &format!(".PP\n{}\n", sentences(&also));
    }
    text += &operands(sub);
    for group in sub.last().flags.iter().filter(|group| !shared.contains(&group.title)) {
        group.flags.iter().for_each(|flag| text += &option(flag));
    }
    text
}

fn operands<D, A>(trail: &Trail<D, A>) -> String {
    let rows = trail.last().operands.iter();
    rows.map(|row| format!(".TP\n\\fI{}\\fR\n{}\n", row.metavar, sentences(row.doc))).collect()
}

fn option<D>(flag: &Flag<D>) -> String {
    if flag.hidden {
        return String::new();
    }
    let short = flag.short.map(|short| format!("{}, ", literal(&format!("-{short}")))).unwrap_or_default();
    let argument = flag.argument(|metavar| format!("\\fI{metavar}\\fR"));
    format!(".TP\n{short}{}{argument}\n{}\n", literal(&flag.long()), sentences(&flag.text()))
}

/// A section of names and sentences; nothing where there are none.
fn rows<'a>(title: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let text: String = rows.map(|(name, text)| format!(".TP\n{}\n{}\n", literal(name), sentences(text))).collect();
    if text.is_empty() { text } else { format!(".SH {title}\n{text}") }
}

fn paragraphs(paragraphs: &[&str]) -> String {
    let texts: Vec<_> = paragraphs.iter().map(|text| format!("{}\n", sentences(text))).collect();
    texts.join(".PP\n")
}

/// A usage line: the name in bold, the rest as it is.
fn usage(line: &str, name: &str) -> String {
    format!("{}{}", literal(name), plain(line.strip_prefix(name).unwrap_or(line)).replace('-', "\\-"))
}

/// `llmspell-run(1)` with the name in bold.
fn reference(page: &str) -> String {
    match page.split_once('(') {
        Some((name, section)) => format!("{}({section}", literal(name)),
        None => literal(page),
    }
}

/// Prose, each sentence on a new line as roff wants it, and no line too long to read in a diff.
pub(crate) fn sentences(text: &str) -> String {
    let text = prose(text);
    // What is not ASCII is `\[u2026]` to roff.
    let size = |text: &str| text.chars().map(|char| if char.is_ascii() { 1 } else { 8 }).sum();
    let lines: Vec<_> =
        text.split_inclusive(". ").flat_map(|line| help::wrap_by(line, 80, size)).map(guarded).collect();
    lines.join("\n")
}

/// Prose: what stands between backticks is bold.
fn prose(text: &str) -> String {
    let part = |(index, part)| if index % 2 == 1 { literal(part) } else { plain(part) };
    text.split('`').enumerate().map(part).collect()
}

/// Bold, with hyphens that can be copied to a shell.
pub(crate) fn literal(text: &str) -> String {
    format!("\\fB{}\\fR", plain(text).replace('-', "\\-"))
}

/// Lines kept as they are.
pub(crate) fn verbatim(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| guarded(plain(line).replace('-', "\\-"))).collect();
    lines.join("\n")
}

/// Text with everything escaped that roff would read or improve: backslash, quotes that curl, tilde, caret.
pub(crate) fn plain(text: &str) -> String {
    text.replace('\\', "\\e").replace('\'', "\\(aq").replace('~', "\\(ti").replace('^', "\\(ha")
}

/// A line that does not look like a request.
fn guarded(line: String) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NESTED, PROGRAM};
    use super::*;

    #[test]
    fn roff_reads_nothing_into_the_text() {
        assert_eq!(sentences("It's `a-b`. ~ \\n"), "It\\(aqs \\fBa\\-b\\fR.\n\\(ti \\en");
        assert_eq!(verbatim("x -y\n.z"), "x \\-y\n\\&.z");
        assert_eq!(reference("a-b(1)"), "\\fBa\\-b\\fR(1)");
    }

    #[test]
    fn the_page_has_every_part() {
        let text = page(&PROGRAM);
        for part in [
            ".TH SAMPLE 1 ",
            ".SH NAME\nsample \\- do what samples do\n",
            ".SH SYNOPSIS\n.nf\n\\fBsample\\fR [FLAGS] WORD [WORD...]\n.fi\n",
            ".TP\n\\fB\\-p\\fR, \\fB\\-\\-port\\fR \\fIPORT\\fR\nListen on PORT.\nZero is any.\n",
            "\\fB\\-\\-allow\\fR[=\\fILIST\\fR]\n",
            ".SH EXIT STATUS\n.TP\n\\fB0\\fR\n",
            ".EX\nsample \\-q x\n.EE\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("later"));
        assert!(page(&NESTED).contains(".SH COMMANDS\n.SS config show\n"));
    }
}
