//! Words in, typed arguments out. Nothing here touches the disk.

use std::ffi::OsString;

use lexopt::Arg;

use super::table::{Action, Command, Flag, Value, not_among};
use super::{Trail, help};
use crate::error::{Class, Error, Result, nearest};

/// What a command line asks for.
pub(super) enum Request<A> {
    /// Do the work.
    Run(A),
    /// Print this and be done: help, version, page, completions.
    Print(String),
}

/// Reads `words`, the command line without the program's name.
///
/// # Errors
/// `Usage`, with the flag or operand in front and a hint; whatever a row's own function says, likewise.
pub(super) fn parse<D: Default, A>(
    program: &'static Command<D, A>,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Request<A>> {
    let mut trail = Trail::new(program);
    let outcome = read(&mut trail, lexopt::Parser::from_args(words));
    outcome.map_err(|error| match error.next_step() {
        Some(_) => error,
        None => error.hint(format!("Try `{} --help`.", trail.name())),
    })
}

fn read<D: Default, A>(trail: &mut Trail<D, A>, mut parser: lexopt::Parser) -> Result<Request<A>> {
    let mut draft = D::default();
    let mut given: Vec<&Flag<D>> = Vec::new();
    let mut operands = 0;
    while let Some(arg) = parser.next().map_err(complaint)? {
        let (flag, short) = match arg {
            Arg::Value(word) => {
                if operands == 0 && !trail.last().commands.is_empty() {
                    for name in descend(trail, &word)? {
                        let flag = long(trail, name)?;
                        if let Action::Switch(set) = flag.action {
                            set(&mut draft);
                        }
                        given.push(flag);
                    }
                    continue;
                }
                operand(trail, &mut draft, &mut operands, word)?;
                if trail.last().flags_end {
                    for word in parser.raw_args().map_err(complaint)? {
                        operand(trail, &mut draft, &mut operands, word)?;
                    }
                }
                continue;
            }
            Arg::Long(name) => (long(trail, name)?, false),
            Arg::Short(letter) => (
                trail
                    .flags()
                    .find(|flag| flag.short == Some(letter))
                    .ok_or_else(|| usage(format!("-{letter}: unknown flag")))?,
                true,
            ),
        };
        if let Some(text) = apply(trail, flag, short, &mut draft, &mut parser).map_err(|e| e.within(flag.long()))? {
            return Ok(Request::Print(text));
        }
        given.push(flag);
    }
    settle(trail, &given, operands)?;
    match trail.last().make {
        Some(make) => Ok(Request::Run(make(draft)?)),
        None => Err(usage("a command is missing".to_owned())),
    }
}

/// Steps down to the sub-command called `word`; the switches that name implies.
fn descend<D, A>(trail: &mut Trail<D, A>, word: &OsString) -> Result<&'static [&'static str]> {
    let command = trail.last();
    let name = word.to_string_lossy();
    let alias = |sub: &Command<D, A>| sub.aliases.iter().find(|(alias, _)| **alias == *name).map(|(_, flags)| *flags);
    let found = command.commands.iter().find_map(|sub| {
        let flags = if *sub.name == *name { Some(&[][..]) } else { alias(sub) };
        flags.map(|flags| (sub, flags))
    });
    match found {
        Some((sub, flags)) => {
            trail.push(sub);
            Ok(flags)
        }
        None => Err(not_among(&name, command.commands.iter().map(|sub| sub.name)).within("command")),
    }
}

/// Gives `word` to the operand whose turn it is.
fn operand<D, A>(trail: &Trail<D, A>, draft: &mut D, count: &mut usize, word: OsString) -> Result<()> {
    let rows = trail.last().operands;
    let row = rows.get(*count).or(rows.last().filter(|row| row.repeated));
    let row = row.ok_or_else(|| usage(format!("{word:?}: unexpected operand")))?;
    *count += 1;
    (row.set)(draft, Value(word)).map_err(|error| error.within(row.metavar))
}

fn long<D, A>(trail: &Trail<D, A>, name: &str) -> Result<&'static Flag<D>> {
    trail.flags().find(|flag| flag.name == name).ok_or_else(|| {
        let shown: Vec<_> = trail.flags().filter(|flag| !flag.hidden).map(|flag| flag.name).collect();
        usage(match nearest(name, shown) {
            Some(near) => format!("--{name}: unknown flag, did you mean --{near}?"),
            None => format!("--{name}: unknown flag"),
        })
    })
}

/// Does what `flag` says; text to print ends the parsing.
fn apply<D, A>(
    trail: &Trail<D, A>,
    flag: &Flag<D>,
    short: bool,
    draft: &mut D,
    parser: &mut lexopt::Parser,
) -> Result<Option<String>> {
    let value = match flag.action {
        Action::Value(_) | Action::Generate => {
            Some(parser.value().map_err(|_| usage(format!("{} is missing", flag.metavar)))?)
        }
        Action::Optional(_) => parser.optional_value(),
        _ => None,
    };
    let value = value.map(Value);
    if let (Some(value), false) = (&value, flag.choices.is_empty()) {
        let text = value.text()?;
        if !flag.choices.contains(&text) {
            return Err(not_among(text, flag.choices.iter().copied()));
        }
    }
    match (&flag.action, value) {
        (Action::Switch(set), _) => set(draft),
        (Action::Value(set), Some(value)) => set(draft, value)?,
        (Action::Optional(set), value) => set(draft, value)?,
        (Action::Absent(hint), _) => return Err(Error::new(Class::Absent, "not in this build").hint(*hint)),
        (Action::Help, _) => return Ok(Some(help::help(trail, !short))),
        (Action::Version, _) => return Ok(Some(super::version(trail.first().name))),
        (Action::Generate, Some(kind)) => return Ok(Some(super::generate(trail.first(), kind.text()?))),
        (Action::Value(_) | Action::Generate, None) => {}
    }
    Ok(None)
}

/// What can only be judged at the end: flags of another command, flags that exclude each other, missing operands.
fn settle<D, A>(trail: &Trail<D, A>, given: &[&Flag<D>], operands: usize) -> Result<()> {
    for flag in given {
        if !trail.flags().any(|known| known.name == flag.name) {
            return Err(usage(format!("--{}: not a flag of `{}`", flag.name, trail.name())));
        }
        if let Some(other) = given.iter().find(|other| flag.excludes.contains(&other.name)) {
            return Err(usage(format!("--{}: not together with --{}", flag.name, other.name)));
        }
    }
    match trail.last().operands.iter().skip(operands).find(|row| !row.optional) {
        Some(row) if trail.last().make.is_some() => Err(usage(format!("{} is missing", row.metavar))),
        _ => Ok(()),
    }
}

fn usage(text: String) -> Error {
    Error::new(Class::Usage, text)
}

/// lexopt's own complaints in our words.
fn complaint(error: lexopt::Error) -> Error {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => usage(format!("{option}: takes no value")),
        other => usage(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Did, PROGRAM};
    use super::*;

    fn run(words: &[&str]) -> Result<Did> {
        match parse(&PROGRAM, words.iter().map(OsString::from))? {
            Request::Run(args) => Ok(args),
            Request::Print(text) => Err(usage(text)),
        }
    }

    fn said(words: &[&str]) -> (String, String) {
        let error = run(words).unwrap_err();
        (error.text().to_owned(), error.next_step().unwrap_or_default().to_owned())
    }

    #[test]
    fn flags_have_many_spellings() {
        for words in [
            &["--port", "80", "-q", "x"][..],
            &["--port=80", "--quiet", "x"],
            &["-p80", "-q", "x"],
            &["-qp", "80", "x"],
            &["-qp=80", "--", "x"],
        ] {
            let did = run(words).unwrap();
            assert_eq!((did.port, did.quiet, did.words), (Some(80), true, vec!["x".to_owned()]), "{words:?}");
        }
    }

    #[test]
    fn optional_values_need_the_equals_sign() {
        assert_eq!(run(&["--allow", "x"]).unwrap().allow, Some(None));
        assert_eq!(run(&["--allow=a,b", "x"]).unwrap().allow, Some(Some("a,b".to_owned())));
    }

    #[test]
    fn everything_after_the_first_operand_is_left_untouched() {
        let did = run(&["-q", "script", "--port", "--", "-x"]).unwrap();
        assert_eq!((did.port, did.words), (None, ["script", "--port", "--", "-x"].map(str::to_owned).to_vec()));
        assert_eq!(run(&["--", "-q"]).unwrap().words, ["-q"]);
        assert_eq!(run(&["-"]).unwrap().words, ["-"]);
    }

    #[test]
    fn errors_name_the_flag_once_and_the_next_step() {
        let try_help = "Try `sample --help`.".to_owned();
        for (words, text) in [
            (&["--port", "abc", "x"][..], r#"--port: "abc" is not a port number"#),
            (&["--port"], "--port: PORT is missing"),
            (&["--prot", "1"], "--prot: unknown flag, did you mean --port?"),
            (&["--zzz"], "--zzz: unknown flag"),
            (&["-z"], "-z: unknown flag"),
            (&["--quiet=1"], "--quiet: takes no value"),
            (&["--quiet", "--loud", "x"], "--quiet: not together with --loud"),
            (&["--loud", "--quiet", "x"], "--quiet: not together with --loud"),
            (&["--kind", "grene", "x"], r#"--kind: "grene" is unknown, did you mean green?"#),
            (&["--kind", "zzz", "x"], r#"--kind: "zzz" is unknown, choose red or green"#),
            (&[], "WORD is missing"),
        ] {
            assert_eq!(said(words), (text.to_owned(), try_help.clone()), "{words:?}");
        }
        let error = run(&["--later"]).unwrap_err();
        assert_eq!(
            (error.class(), error.text(), error.next_step()),
            (Class::Absent, "--later: not in this build", Some("Wait."))
        );
    }

    #[test]
    fn sub_commands_take_their_own_flags_and_the_common_ones() {
        use super::super::sample::NESTED;
        let run = |words: &[&str]| match parse(&NESTED, words.iter().map(OsString::from)) {
            Ok(Request::Run(args)) => Ok(args),
            Ok(Request::Print(text)) => Err(usage(text)),
            Err(error) => Err(error),
        };
        assert_eq!(run(&["-q", "config", "show", "x"]).unwrap().words, ["show", "x"]);
        assert!(run(&["config", "-q", "show", "--json"]).unwrap().quiet);
        assert_eq!(run(&["config", "print", "x"]).unwrap().words, ["show", "x"]);
        assert!(run(&["config", "whisper"]).unwrap().quiet);
        assert_eq!(run(&[]).unwrap().words, ["root"]);
        for (words, text, hint) in [
            (&["cnofig"][..], r#"command: "cnofig" is unknown, did you mean config?"#, "Try `nested --help`."),
            (&["config"], "a command is missing", "Try `nested config --help`."),
            (&["config", "show", "x", "y"], r#""y": unexpected operand"#, "Try `nested config show --help`."),
            (
                &["--port", "1", "config", "show"],
                "--port: not a flag of `nested config show`",
                "Try `nested config show --help`.",
            ),
            (&["config", "show", "--port", "1"], "--port: unknown flag", "Try `nested config show --help`."),
        ] {
            let error = run(words).unwrap_err();
            assert_eq!((error.text(), error.next_step().unwrap()), (text, hint), "{words:?}");
        }
    }

    #[test]
    fn words_need_not_be_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let bad = OsString::from_vec(vec![b'a', 0xff]);
        let error = parse(&PROGRAM, ["--port".into(), bad]).err().unwrap();
        assert_eq!(error.text(), r#"--port: "a\xFF" is not UTF-8"#);
    }
}
