//! Command line of llmspell-tool(1).

use std::path::PathBuf;
use std::time::Duration;

use llmspell::cli::{Command, Example, Flag, Group, Operand, Permissions, Talk, Target, Value, names};
use llmspell::error::{Class, Error, Result};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// What to ask the kernel.
    pub(crate) action: Action,
    /// The kernel to ask.
    pub(crate) target: Target,
    /// `--config`, for a private kernel.
    pub(crate) config: Option<PathBuf>,
    /// `--profile` and `--allow-`, for a private kernel.
    pub(crate) permissions: Permissions,
    /// Time for the answer; zero is as long as it takes.
    pub(crate) timeout: Option<Duration>,
    /// How to print the answer.
    pub(crate) format: Format,
    /// How much to say on standard error.
    pub(crate) talk: Talk,
}

/// What to ask the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Which tools there are.
    List { category: Option<String>, available: bool },
    /// What one tool does and takes.
    Info { name: String, schema: bool },
    /// Run a tool.
    Invoke { name: String, params: Params, stream: bool },
    /// Which tools are about `query`.
    Search { query: String, category: Option<String> },
    /// Run the worked examples of tools.
    Test { tools: Tools },
}

/// Where the parameters of an invocation come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Params {
    /// `--params JSON`.
    Json(String),
    /// `--params -`.
    Stdin,
    /// `--params @FILE`.
    File(PathBuf),
    /// `name=value` operands; none at all is an empty object.
    Pairs(Vec<Pair>),
}

/// One `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The parameter.
    pub(crate) name: String,
    /// Its value.
    pub(crate) content: Content,
}

/// The value of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// `name=value`, typed by the schema of the tool.
    Typed(String),
    /// `name=:TEXT`, text as it stands.
    Text(String),
    /// `name=@FILE`, the text of a file.
    File(PathBuf),
    /// `name=@-`, the text of standard input.
    Stdin,
}

/// Which tools to test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tools {
    /// All of them.
    All,
    /// These.
    Named(Vec<String>),
}

/// How to print the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one line.
    Json,
    /// JSON for people: indented.
    Pretty,
}

const FORMATS: [(&str, Format); 3] = [("text", Format::Text), ("json", Format::Json), ("pretty", Format::Pretty)];

/// Where tools come from; remote sources are not in this build.
const SOURCES: [(&str, ()); 1] = [("local", ())];

/// Everything the rows below can write to.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    target: Target,
    config: Option<PathBuf>,
    permissions: Permissions,
    timeout: Option<Duration>,
    format: Format,
    talk: Talk,
    category: Option<String>,
    words: Vec<String>,
    params: Option<Params>,
    pairs: Vec<Pair>,
    schema: bool,
    stream: bool,
    all: bool,
    available: bool,
}

impl AsMut<Permissions> for Draft {
    fn as_mut(&mut self) -> &mut Permissions {
        &mut self.permissions
    }
}

impl AsMut<Target> for Draft {
    fn as_mut(&mut self) -> &mut Target {
        &mut self.target
    }
}

impl AsMut<Talk> for Draft {
    fn as_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}

impl Draft {
    /// The arguments around `action`.
    fn ask(self, action: Action) -> Result<Args> {
        let Draft { target, config, permissions, timeout, format, talk, .. } = self;
        if target != Target::Unsaid && permissions != Permissions::default() {
            return Err(Error::new(Class::Usage, "permissions: a running kernel has its own").hint(
                "Start that kernel with these flags, or ask a private one without --kernel and --connection-file.",
            ));
        }
        Ok(Args { action, target, config, permissions, timeout, format, talk })
    }

    /// The one tool that was named.
    fn tool(&mut self) -> String {
        std::mem::take(&mut self.words).concat()
    }

    fn invoke(mut self) -> Result<Args> {
        let pairs = std::mem::take(&mut self.pairs);
        let params = match self.params.take() {
            Some(_) if !pairs.is_empty() => {
                return Err(Error::new(Class::Usage, format!("{}: not together with --params", pairs[0].name)));
            }
            Some(params) => params,
            None => Params::Pairs(pairs),
        };
        let action = Action::Invoke { name: self.tool(), params, stream: self.stream };
        self.ask(action)
    }

    fn test(mut self) -> Result<Args> {
        let tools = match (self.all, std::mem::take(&mut self.words)) {
            (true, words) if words.is_empty() => Tools::All,
            (true, words) => return Err(Error::new(Class::Usage, format!("{}: not together with --all", words[0]))),
            (false, words) if words.is_empty() => return Err(Error::new(Class::Usage, "TOOL or --all is missing")),
            (false, words) => Tools::Named(words),
        };
        self.ask(Action::Test { tools })
    }
}

/// Reads `name=value`.
fn pair(text: &str) -> Result<Pair> {
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(Error::new(Class::Usage, format!("{text:?} is not of the form name=value")));
    };
    let content = match (value.strip_prefix('@'), value.strip_prefix(':')) {
        (Some("-"), _) => Content::Stdin,
        (Some(file), _) => Content::File(file.into()),
        (_, Some(text)) => Content::Text(text.to_owned()),
        _ => Content::Typed(value.to_owned()),
    };
    Ok(Pair { name: name.to_owned(), content })
}

const TOOL: Operand<Draft> = Operand::new("TOOL", word).doc("The name of a tool, as `list` shows it.");

fn word(draft: &mut Draft, value: Value) -> Result<()> {
    draft.words.push(value.into_text()?);
    Ok(())
}

const CATEGORY: Flag<Draft> = Flag::value("category", "NAME", |draft: &mut Draft, value| {
    draft.category = Some(value.into_text()?);
    Ok(())
})
.doc("Only tools of the category NAME.");

const OUTPUT: Group<Draft> = Group::new(
    "Output",
    &[
        Flag::switch("json", |draft: &mut Draft| draft.format = Format::Json)
            .excludes(&["format"])
            .doc("Print one JSON document, for programs. The same as `--format json`."),
        Flag::value("format", "FORMAT", |draft: &mut Draft, value| {
            draft.format = value.pick(&FORMATS)?;
            Ok(())
        })
        .choices(&names(&FORMATS))
        .doc(
            "Print the answer as FORMAT. `text` is for people, `json` is one line, `pretty` is JSON with indentation.",
        ),
        Flag::QUIET,
        Flag::VERBOSE,
    ],
);

const ASKING: Group<Draft> = Group::new(
    "Asking",
    &[
        Flag::timeout(|draft: &mut Draft, value| {
            draft.timeout = Some(value.duration()?);
            Ok(())
        }),
        Flag::value("source", "NAME", |_, value| value.pick(&SOURCES))
            .choices(&names(&SOURCES))
            .doc("Ask for tools of the source NAME. All tools of this version are in the kernel itself."),
        Flag::config(|draft: &mut Draft, value| {
            draft.config = Some(value.path()?);
            Ok(())
        }),
    ],
);

/// The parser, `--help`, the page and completions all read this.
pub(crate) const CLI: Command<Draft, Args> = Command::new(
    "llmspell-tool",
    "list, describe, invoke, search and test \
     tools",
)
.about(&[
    "Asks a kernel about its tools, or to run one. The kernel is the one that `--kernel` or `--connection-file` \
         names, then that of `$LLMSPELL_KERNEL`, then the one called llmspell-kernel if it is running. If there is \
         none, a private kernel is started for the one question and ends with it.",
    "Relative paths in parameters are taken from where you are. What tools may do is said by the kernel; for a \
         private one, by the configuration and the permission flags.",
])
.common(&[OUTPUT, Group::TARGET, ASKING, Group::PERMISSIONS])
.commands(&[
    Command::new("list", "list the tools")
        .about(&["Prints a line for each tool: its name, its category and what it does."])
        .flags(&[Group::new(
            "Choosing",
            &[
                CATEGORY,
                Flag::switch("available", |draft: &mut Draft| draft.available = true).doc(
                    "List tools of other builds as well. Each is shown with the feature that brings it, see \
                         llmspell-builds(7).",
                ),
            ],
        )])
        .make(|mut draft| {
            let (category, available) = (draft.category.take(), draft.available);
            draft.ask(Action::List { category, available })
        }),
    Command::new("info", "describe a tool")
        .about(&["Prints what TOOL does, its parameters, what it may touch and its worked examples."])
        .flags(&[Group::new(
            "Choosing",
            &[Flag::switch("show-schema", |draft: &mut Draft| draft.schema = true)
                .doc("Print the JSON Schema of the parameters as well.")],
        )])
        .operands(&[TOOL])
        .make(|mut draft| {
            let action = Action::Info { name: draft.tool(), schema: draft.schema };
            draft.ask(action)
        }),
    Command::new("invoke", "run a tool")
        .about(&["Runs TOOL and prints its result. Parameters come from `--params` or from operands, not both."])
        .flags(&[Group::new(
            "Parameters",
            &[
                Flag::value("params", "JSON", |draft: &mut Draft, value| {
                    let text = value.text()?;
                    draft.params = Some(match (text, text.strip_prefix('@')) {
                        ("-", _) | (_, Some("-")) => Params::Stdin,
                        (_, Some(file)) => Params::File(file.into()),
                        _ => Params::Json(text.to_owned()),
                    });
                    Ok(())
                })
                .doc(
                    "Take the parameters from the object JSON. With `-` it is read from standard input, with \
                         `@FILE` from FILE.",
                ),
                Flag::switch("stream", |draft: &mut Draft| draft.stream = true)
                    .doc("Show progress on standard error even where it is no terminal."),
            ],
        )])
        .operands(&[
            TOOL,
            Operand::new("NAME=VALUE", |draft: &mut Draft, value| {
                draft.pairs.push(pair(value.text()?)?);
                Ok(())
            })
            .optional()
            .repeated()
            .doc(
                "One parameter, its type taken from the tool's schema. `NAME=@FILE` takes the text of FILE, \
                     `NAME=@-` that of standard input, and `NAME=:TEXT` takes TEXT as it stands.",
            ),
        ])
        .make(Draft::invoke),
    Command::new("search", "find tools by what they do")
        .about(&["Prints the tools whose name, summary or category is about every WORD, the best first. Exits \
                 with 1 if there is none."])
        .flags(&[Group::new("Choosing", &[CATEGORY])])
        .operands(&[Operand::new("WORD", word).repeated().doc("What to look for.")])
        .make(|mut draft| {
            let action = Action::Search { query: draft.words.join(" "), category: draft.category.take() };
            draft.ask(action)
        }),
    Command::new("test", "run the worked examples of tools")
        .about(&["Runs the examples that `info` shows and compares what comes out. Exits with 1 if one differs."])
        .flags(&[Group::new(
            "Choosing",
            &[Flag::switch("all", |draft: &mut Draft| draft.all = true).doc("Test every tool.")],
        )])
        .operands(&[TOOL.optional().repeated()])
        .make(Draft::test),
])
.environment(&[
    ("LLMSPELL_HOME", "The folder of all files instead of `~/.llmspell`."),
    ("LLMSPELL_KERNEL", "The kernel to ask when the command line names none."),
    ("NO_COLOR", "If not empty, nothing is coloured."),
])
.files(&[
    ("~/.llmspell/config.toml", "The user's configuration."),
    ("~/.llmspell/kernel/ID.json", "The connection file of the kernel ID."),
])
.examples(&[
    Example::new("List the tools for files.", "llmspell-tool list --category filesystem"),
    Example::new("Learn what a tool takes.", "llmspell-tool info calculator"),
    Example::new("Run a tool.", "llmspell-tool invoke calculator --params '{\"expression\": \"2 + 2 * 3\"}'")
        .prints("8\n"),
    Example::new("Run it with less typing.", "llmspell-tool invoke calculator expression='2 + 2 * 3'").prints("8\n"),
    Example::new("Give it a file's text.", "llmspell-tool invoke hash_calculator operation=hash input=@notes.txt"),
    Example::new("Hand a result to another program.", "llmspell-tool list --json | jq -r '.tools[].name'"),
    Example::new("Find a tool.", "llmspell-tool search \"file system\""),
    Example::new("Test every tool.", "llmspell-tool test --all"),
    Example::new("Ask the kernel on a port.", "llmspell-tool --kernel 59000 list"),
])
.see_also(&["llmspell-kernel(1)", "llmspell-run(1)", "llmspell.toml(5)", "llmspell-builds(7)", "llmspell(7)"]);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llmspell::cli::{Profile, args, check, check_page};

    use super::*;

    fn action(words: &[&str]) -> Action {
        args(&CLI, words).unwrap().action
    }

    fn typed(name: &str, value: &str) -> Pair {
        Pair { name: name.into(), content: Content::Typed(value.into()) }
    }

    #[test]
    fn the_table_is_fit() {
        assert_eq!(check(&CLI), Vec::<String>::new());
    }

    #[test]
    fn the_page_is_what_the_table_says() {
        check_page(&CLI, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../man/llmspell-tool.1"))).unwrap();
    }

    #[test]
    fn release_note_lines_work() {
        assert_eq!(action(&["list", "--source", "local"]), Action::List { category: None, available: false });
        assert_eq!(action(&["info", "calculator"]), Action::Info { name: "calculator".into(), schema: false });
        let params = r#"{"expression": "2 + 2 * 3"}"#;
        assert_eq!(
            action(&["invoke", "calculator", "--params", params]),
            Action::Invoke { name: "calculator".into(), params: Params::Json(params.into()), stream: false }
        );
        assert_eq!(action(&["search", "file system"]), Action::Search { query: "file system".into(), category: None });
        assert_eq!(action(&["test", "file_reader"]), Action::Test { tools: Tools::Named(vec!["file_reader".into()]) });
    }

    #[test]
    fn parameters_come_in_many_ways() {
        let params = |words: &[&str]| match action(&[&["invoke", "t"], words].concat()) {
            Action::Invoke { params, .. } => params,
            other => panic!("{other:?}"),
        };
        assert_eq!(params(&[]), Params::Pairs(vec![]));
        assert_eq!(params(&["--params", "-"]), Params::Stdin);
        assert_eq!(params(&["--params=@p.json"]), Params::File("p.json".into()));
        assert_eq!(
            params(&["a=1", "b=x=y", "c="]),
            Params::Pairs(vec![typed("a", "1"), typed("b", "x=y"), typed("c", "")])
        );
        let content = |word: &str| match params(&[word]) {
            Params::Pairs(mut pairs) => pairs.remove(0).content,
            other => panic!("{other:?}"),
        };
        assert_eq!(content("a=@f"), Content::File("f".into()));
        assert_eq!(content("a=@-"), Content::Stdin);
        assert_eq!(content("a=:@f"), Content::Text("@f".into()));
    }

    #[test]
    fn common_flags_stand_anywhere() {
        for line in [
            "-k 9555 --format pretty --timeout 5 -v list --category x",
            "list --category=x -k9555 -v --timeout=5s --format=pretty",
        ] {
            let args = args(&CLI, line.split(' ')).unwrap();
            assert_eq!(args.target, Target::Kernel("9555".into()));
            assert_eq!((args.format, args.talk), (Format::Pretty, Talk::Verbose));
            assert_eq!(args.timeout, Some(Duration::from_secs(5)));
            assert_eq!(args.action, Action::List { category: Some("x".into()), available: false });
        }
        assert_eq!(args(&CLI, ["--profile=safe", "test", "--all"]).unwrap().permissions.profile, Some(Profile::Safe));
        assert_eq!(action(&["test", "--all"]), Action::Test { tools: Tools::All });
        assert_eq!(action(&["info", "x", "--show-schema"]), Action::Info { name: "x".into(), schema: true });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (line, text) in [
            ("", "a command is missing"),
            ("lst", r#"command: "lst" is unknown, did you mean list?"#),
            ("info", "TOOL is missing"),
            ("invoke t x", r#"NAME=VALUE: "x" is not of the form name=value"#),
            ("invoke t a=1 --params {}", "a: not together with --params"),
            ("search", "WORD is missing"),
            ("test", "TOOL or --all is missing"),
            ("test x --all", "x: not together with --all"),
            ("list --json --format text", "--json: not together with --format"),
            ("list --source mcp:x", r#"--source: "mcp:x" is unknown, choose local"#),
            ("-k x --allow-net list", "permissions: a running kernel has its own"),
            ("list --stream", "--stream: unknown flag"),
        ] {
            let error = args(&CLI, line.split_whitespace()).unwrap_err();
            assert_eq!((error.class(), error.text()), (Class::Usage, text), "{line}");
        }
    }
}
