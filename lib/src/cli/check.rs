//! Tables as data: what a test of every program asks of its table and page.

use std::fs;
use std::path::Path;

use super::table::{Action, Command, Flag, Value};
use super::{Trail, man};

/// Everything wrong with the table of `program`; empty when it is fit to be used.
pub fn check<D: Default, A>(program: &'static Command<D, A>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut shapes: Vec<(&str, Option<char>, bool)> = Vec::new();
    for trail in Trail::new(program).all() {
        let mut complain = |what: String| wrong.push(format!("{}: {what}", trail.name()));
        let flags: Vec<_> = trail.flags().collect();
        for (index, flag) in flags.iter().enumerate() {
            let name = flag.name;
            if flags[..index].iter().any(|other| other.name == name) {
                complain(format!("--{name} twice"));
            }
            if flag.short.is_some() && flags[..index].iter().any(|other| other.short == flag.short) {
                complain(format!("-{} twice", flag.short.unwrap_or_default()));
            }
            for other in flag.excludes.iter().filter(|other| !flags.iter().any(|flag| flag.name == **other)) {
                complain(format!("--{name} excludes --{other}, which is not there"));
            }
            flag_complaints(flag).into_iter().for_each(&mut complain);
            // Completions read a word alone, so names and letters mean the same in every command.
            let shape = (name, flag.short, flag.takes_value());
            if shapes
                .iter()
                .any(|other| (other.0 == name || other.1 == flag.short && flag.short.is_some()) && *other != shape)
            {
                complain(format!("--{name} is another flag in another command"));
            }
            shapes.push(shape);
        }
        command_complaints(&trail).into_iter().for_each(&mut complain);
    }
    wrong
}

fn flag_complaints<D: Default>(flag: &Flag<D>) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = flag.name;
    let mut ask = |fine: bool, what: &str| {
        if !fine {
            wrong.push(format!("--{name}: {what}"));
        }
    };
    ask(is_kebab(name) && name.len() > 1, "the name is not kebab-case");
    ask(flag.short.is_none_or(|short| short.is_ascii_alphanumeric()), "the letter is not ASCII");
    ask(flag.hidden && flag.doc.is_empty() || is_prose(flag.doc), "the doc is no prose that ends with a full stop");
    ask(super::help::first_sentence(flag.doc).len() <= 80, "the first sentence is long");
    match flag.action {
        Action::Value(_) | Action::Optional(_) | Action::Generate => {
            ask(is_metavar(flag.metavar), "no metavariable in capitals");
        }
        _ => ask(flag.metavar.is_empty() && flag.choices.is_empty(), "a switch with a value"),
    }
    // A value after a space would be taken for an operand, after a letter for more letters.
    ask(!matches!(flag.action, Action::Optional(_)) || flag.short.is_none(), "an optional value and a letter");
    for choice in flag.choices {
        ask(choice.is_ascii() && !choice.is_empty() && !choice.contains(' '), "a choice is not one ASCII word");
        if let Action::Value(set) = flag.action {
            ask(set(&mut D::default(), Value(choice.into())).is_ok(), "a choice is refused");
        }
    }
    wrong
}

fn command_complaints<D, A>(trail: &Trail<D, A>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ask = |fine: bool, what: &str| {
        if !fine {
            wrong.push(what.to_owned());
        }
    };
    let command = trail.last();
    ask(is_kebab(command.name), "the name is not kebab-case");
    for (alias, flags) in command.aliases {
        ask(is_kebab(alias), "an alias is not kebab-case");
        let switch =
            |name: &&str| trail.flags().any(|flag| flag.name == *name && matches!(flag.action, Action::Switch(_)));
        ask(flags.iter().all(switch), "an alias implies what is no switch");
    }
    ask(
        command.summary.starts_with(|c: char| c.is_ascii_lowercase()) && !command.summary.ends_with('.'),
        "the summary is no fragment",
    );
    ask(command.about.iter().all(|text| is_prose(text)), "a paragraph is no prose that ends with a full stop");
    ask(command.make.is_some() || !command.commands.is_empty(), "nothing to do");
    ask(command.operands.is_empty() || command.commands.is_empty(), "operands and sub-commands");
    ask(command.operands.iter().all(|row| is_prose(row.doc)), "an operand's doc is no prose");
    ask(command.operands.iter().rev().skip(1).all(|row| !row.repeated), "only the last operand may be repeated");
    ask(command.operands.is_sorted_by_key(|row| row.optional), "an operand that must be there after one that may");
    let topics = command.topics.iter().flat_map(|(_, rows)| *rows);
    let rows = command.signals.iter().chain(command.environment).chain(command.files).chain(topics);
    ask(rows.into_iter().all(|(_, text)| is_prose(text)), "a row is no prose that ends with a full stop");
    for example in command.examples {
        ask(is_prose(example.title), "an example's title is no prose that ends with a full stop");
        ask(example.command.contains(trail.first().name), "an example shows something else");
    }
    for text in command.about.iter().copied().chain(trail.flags().map(|flag| flag.doc)) {
        for word in text.split('`').skip(1).step_by(2).filter_map(|literal| literal.strip_prefix("--")) {
            let name = word.split(['=', ' ', '[']).next().unwrap_or(word);
            let known = Trail::new(trail.first()).all().iter().any(|any| any.flags().any(|flag| flag.name == name));
            ask(known, &format!("--{name} is mentioned and not there"));
        }
    }
    wrong
}

/// What is wrong with the page committed at `file`: nothing when it is byte for byte what the table of `program` says.
/// With `BLESS=1` in the environment the file is written instead.
pub fn check_page<D, A>(program: &'static Command<D, A>, file: &Path) -> Result<(), String> {
    let page = man::page(program);
    if std::env::var_os("BLESS").is_some() {
        return fs::write(file, page).map_err(|error| format!("{}: {error}", file.display()));
    }
    match fs::read_to_string(file) {
        Ok(text) if text == page => Ok(()),
        Ok(_) => Err(format!("{} is not what the table says; BLESS=1 writes it anew", file.display())),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

fn is_kebab(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_metavar(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b",=|".contains(&b))
}

/// Sentences with their full stop and every backtick closed, on one line.
fn is_prose(text: &str) -> bool {
    text.ends_with('.')
        && text.matches('`').count().is_multiple_of(2)
        && !text.contains(['\n', '\t'])
        && text.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Did, NESTED, PROGRAM};
    use super::super::{Example, Group, Operand};
    use super::*;

    #[test]
    fn good_tables_pass() {
        assert_eq!(check(&PROGRAM), Vec::<String>::new());
        assert_eq!(check(&NESTED), Vec::<String>::new());
    }

    #[test]
    fn bad_tables_do_not() {
        const BAD: Command<Did, Did> = Command::new("bad", "Do bad.")
            .about(&["See `--nothing`."])
            .flags(&[Group::new(
                "Flags",
                &[
                    Flag::switch("twice", |_| ()).short('t').doc("Twice."),
                    Flag::switch("twice", |_| ()).short('t').doc("no stop"),
                    Flag::switch("again", |_| ()).short('t').doc("Again."),
                    Flag::value("Caps", "x", |_, value| value.parse::<u8>("a number").map(drop))
                        .choices(&["é"])
                        .doc("Bad."),
                    Flag::optional("maybe", "LIST", |_, _| Ok(())).short('m').excludes(&["gone"]).doc("Maybe."),
                ],
            )])
            .operands(&[
                Operand::new("A", |_, _| Ok(())).repeated().optional().doc("A."),
                Operand::new("B", |_, _| Ok(())).doc("B."),
            ])
            .examples(&[Example::new("Else.", "true")]);
        let wrong = check(&BAD);
        for part in [
            "--twice twice",
            "-t twice",
            "--twice: the doc",
            "--Caps: the name",
            "--again is another flag",
            "--Caps: no metavariable",
            "--Caps: a choice is not",
            "--Caps: a choice is refused",
            "--maybe: an optional value and a letter",
            "--maybe excludes --gone",
            "the summary",
            "nothing to do",
            "only the last operand",
            "an operand that must",
            "an example shows",
            "--nothing is mentioned",
        ] {
            assert!(wrong.iter().any(|line| line.contains(part)), "{part:?} in {wrong:#?}");
        }
    }

    #[test]
    fn a_page_is_compared() {
        let error = check_page(&PROGRAM, Path::new("/nonexistent/sample.1")).unwrap_err();
        assert!(error.starts_with("/nonexistent/sample.1: "), "{error}");
    }
}
