//! Command line of llmspell-run(1).

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use llmspell::cli::{Command, Engine, Example, Flag, Group, Operand, Permissions, Talk, Target};
use llmspell::error::{Class, Error, Result};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// The script.
    pub(crate) script: Script,
    /// What follows it, untouched: the script's `arg`.
    pub(crate) arguments: Vec<OsString>,
    /// The engine; else the file's ending decides.
    pub(crate) engine: Option<Engine>,
    /// The kernel to run it in; unsaid means in this process.
    pub(crate) target: Target,
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// Time for the whole script; zero is as much as it takes.
    pub(crate) timeout: Option<Duration>,
    /// The working directory.
    pub(crate) workdir: Option<PathBuf>,
    /// `--profile` and `--allow-`.
    pub(crate) permissions: Permissions,
    /// Which model is asked.
    pub(crate) models: Models,
    /// Print results and errors as JSON.
    pub(crate) json: bool,
    /// How much to say on standard error.
    pub(crate) talk: Talk,
    /// Trust the project's configuration from now on.
    pub(crate) trust: bool,
}

/// Which model is asked, and what it may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Models {
    /// `--model`
    pub(crate) model: Option<String>,
    /// `--provider`
    pub(crate) provider: Option<String>,
    /// `--max-cost`, a number.
    pub(crate) max_cost: Option<String>,
    /// `--record`
    pub(crate) record: Option<PathBuf>,
    /// `--replay`
    pub(crate) replay: Option<PathBuf>,
}

impl Models {
    /// The default model they name, if any: a provider in front of it, or one that has its own.
    pub(crate) fn default_model(&self) -> Option<String> {
        match (&self.provider, &self.model) {
            (Some(provider), Some(model)) => Some(format!("{provider}/{model}")),
            (provider, model) => provider.clone().or_else(|| model.clone()),
        }
    }
}

/// Where the script comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// `FILE`.
    File(PathBuf),
    /// `-`.
    Stdin,
    /// `--execute`.
    Code(String),
    /// Nowhere said: typed at a terminal, else from standard input.
    Unsaid,
}

/// Everything the rows below can write to.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    code: Option<String>,
    file: Option<OsString>,
    arguments: Vec<OsString>,
    engine: Option<Engine>,
    target: Target,
    config: Option<PathBuf>,
    timeout: Option<Duration>,
    workdir: Option<PathBuf>,
    permissions: Permissions,
    models: Models,
    json: bool,
    talk: Talk,
    trust: bool,
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

impl AsMut<Option<Engine>> for Draft {
    fn as_mut(&mut self) -> &mut Option<Engine> {
        &mut self.engine
    }
}

impl AsMut<Talk> for Draft {
    fn as_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}

fn make(draft: Draft) -> Result<Args> {
    let Draft { engine, target, config, timeout, workdir, permissions, models, json, talk, trust, arguments, .. } =
        draft;
    let script = match (draft.code, draft.file) {
        (Some(code), _) => Script::Code(code),
        (None, Some(file)) if file == "-" => Script::Stdin,
        (None, Some(file)) => Script::File(file.into()),
        (None, None) => Script::Unsaid,
    };
    if target != Target::Unsaid && permissions != Permissions::default() {
        return Err(Error::new(Class::Usage, "permissions: a running kernel has its own")
            .hint("Start that kernel with these flags, or run the script without --kernel and --connection-file."));
    }
    if target != Target::Unsaid && models != Models::default() {
        return Err(Error::new(Class::Usage, "models: a running kernel has its own")
            .hint("Configure that kernel's models, or run the script without --kernel and --connection-file."));
    }
    Ok(Args { script, arguments, engine, target, config, timeout, workdir, permissions, models, json, talk, trust })
}

/// What a scripted model is.
const MOCK: &[(&str, &str)] = &[
    ("mock/echo", "Repeats what it is told."),
    ("mock/FILE", "Answers from a script in TOML or JSON, in which `replies` is a list."),
    ("mock/{...}", "Answers from a script in JSON that stands in its name: `mock/{\"replies\": [\"yes\", \"no\"]}`."),
    (
        "a reply",
        "A text, or a table of `text` or `chunks` (the pieces in which it streams) or `json`, `reasoning`, `tool_calls` \
         (each with `name` and `arguments`), `finish`, `usage`, `delay`, `chunk_delay`, and `error` (a text, or `class` \
         and `text`) to fail. One with `match` is given only where the last message holds that text; `repeat = true` \
         keeps it for the next time.",
    ),
    ("beside replies", "`delay` and `chunk_delay` for all of them; `repeat = true` to begin anew behind the last one."),
];

/// The parser, `--help`, the page and completions all read this.
pub(crate) const CLI: Command<Draft, Args> = Command::new("llmspell-run", "run a script, or a console")
    .about(&[
        "Runs the script FILE, or what `--execute` gives, in this process or in a running kernel. What the script \
         prints goes to standard output; everything else goes to standard error.",
        "Without FILE, at a terminal, it is a console, with `--kernel` beside the other clients of a kernel: it reads a line, or as many as belong together, runs them, shows \
         their value and reads on. TAB completes, `NAME?` tells what is known of a name, Ctrl-C stops what runs or \
         clears the line, and `.help` lists the rest. What was typed is kept in `~/.llmspell/history`. When standard \
         input is no terminal, the script is read from there.",
        "Everything after FILE belongs to the script, flags or not: a Lua script finds it in the table `arg`, with \
         its own name at 0.",
        "A script may compute and use the tools the configuration allows. What else it may do is said by the \
         permission flags, or by the kernel it runs in.",
        "A project's `./llmspell.toml` may narrow what is allowed and choose models. Anything more waits until you \
         trust it with `--trust`.",
    ])
    .synopsis(&["[FLAGS] FILE [ARG...]", "[FLAGS] -e CODE [ARG...]", "[FLAGS]"])
    .flags(&[
        Group::new(
            "Script",
            &[
                Flag::value("execute", "CODE", |draft: &mut Draft, value| {
                    draft.code = Some(value.into_text()?);
                    Ok(())
                })
                .short('e')
                .doc("Run CODE instead of a file. Every operand is an argument of it then."),
                Flag::ENGINE,
                Flag::timeout(|draft: &mut Draft, value| {
                    draft.timeout = Some(value.duration()?);
                    Ok(())
                }),
                Flag::workdir(|draft: &mut Draft, value| {
                    draft.workdir = Some(value.path()?);
                    Ok(())
                }),
            ],
        ),
        Group::new(
            "Output",
            &[
                Flag::switch("json", |draft: &mut Draft| draft.json = true).doc(
                    "Print one JSON document, for programs. It holds the result, the output and the error, if any.",
                ),
                Flag::QUIET,
                Flag::VERBOSE,
            ],
        ),
        Group::new(
            "Models",
            &[
                Flag::value("model", "MODEL", |draft: &mut Draft, value| {
                    draft.models.model = Some(value.into_text()?);
                    Ok(())
                })
                .short('m')
                .doc("Ask MODEL where the script names none. It is `provider/model`, or the name of a well-known one. \
                     `mock/echo` repeats what it is told; see MODELS WITHOUT A NETWORK."),
                Flag::value("provider", "NAME", |draft: &mut Draft, value| {
                    draft.models.provider = Some(value.into_text()?);
                    Ok(())
                })
                .doc("Ask the provider NAME. Without `--model` its section in the configuration names the model."),
                Flag::value("max-cost", "DOLLARS", |draft: &mut Draft, value| {
                    let cost: f64 = value.parse("a number of US dollars")?;
                    if !cost.is_finite() || cost < 0.0 {
                        return Err(Error::new(Class::Usage, format!("{cost} is not a number of US dollars")));
                    }
                    draft.models.max_cost = Some(value.into_text()?);
                    Ok(())
                })
                .doc("Spend no more on models than this; what would cost more ends with exit status 9."),
                Flag::value("record", "FILE", |draft: &mut Draft, value| {
                    draft.models.record = Some(value.path()?);
                    Ok(())
                })
                .doc("Add requests to model services and their answers to FILE, without keys."),
                Flag::value("replay", "FILE", |draft: &mut Draft, value| {
                    draft.models.replay = Some(value.path()?);
                    Ok(())
                })
                .doc("Give the answers recorded in FILE instead of asking a service."),
            ],
        ),
        Group::TARGET,
        Group::new(
            "Configuration",
            &[
                Flag::config(|draft: &mut Draft, value| {
                    draft.config = Some(value.path()?);
                    Ok(())
                }),
                Flag::switch("trust", |draft: &mut Draft| draft.trust = true)
                    .doc("Trust the project's `./llmspell.toml` from now on. Without a script nothing is run."),
            ],
        ),
        Group::PERMISSIONS,
    ])
    .operands(&[
        Operand::new("FILE", |draft: &mut Draft, value| {
            match draft.code {
                Some(_) => draft.arguments.push(value.into_os()),
                None => draft.file = Some(value.path()?.into()),
            }
            Ok(())
        })
        .optional()
        .doc("The script. With `-` it is read from standard input; without, at a terminal, it is typed."),
        Operand::new("ARG", |draft: &mut Draft, value| {
            draft.arguments.push(value.into_os());
            Ok(())
        })
        .optional()
        .repeated()
        .doc("An argument of the script, left untouched."),
    ])
    .flags_end_at_operands()
    .make(make)
    .topics(&[("MODELS WITHOUT A NETWORK", MOCK), ("COMMANDS OF THE CONSOLE", crate::console::COMMANDS), ("KEYS OF THE CONSOLE", crate::console::KEYS)])
    .environment(&[
        ("LLMSPELL_HOME", "The folder of all files instead of `~/.llmspell`."),
        ("NO_COLOR", "If not empty, nothing is coloured."),
    ])
    .files(&[
        ("~/.llmspell/config.toml", "The user's configuration."),
        ("./llmspell.toml", "The project's configuration."),
        ("~/.llmspell/history", "What was typed at the console, the last 10,000 inputs."),
        ("~/.llmspell/kernel/ID.json", "The connection file of the kernel ID."),
    ])
    .examples(&[
        Example::new("Run a line.", "llmspell-run -e 'print(2 + 2 * 3)'").prints("8\n"),
        Example::new("Hand arguments to a line.", "llmspell-run -e 'print(#arg, arg[1])' one --two").prints("2\tone\n"),
        Example::new("Run a script from a pipe.", "echo 'print(\"hello\")' | llmspell-run -").prints("hello\n"),
        Example::new(
            "Use a tool.",
            "llmspell-run -e 'print(Tool.get(\"calculator\"):execute({expression = \"2^10\"}).result.result)'",
        )
        .prints("1024\n"),
        Example::new("Ask a model about what comes from a pipe.", "git diff | llmspell-run -e 'print(ask(\"Review this.\", stdin()))'"),
        Example::new(
            "Try a line without a model.",
            "echo there | llmspell-run --model mock/echo -e 'print(ask(\"hello\", stdin()))'",
        )
        .prints("hello\n\nthere\n"),
        Example::new("Run a script file for at most a minute.", "llmspell-run --timeout 1m report.lua --month 3"),
        Example::new(
            "Let a script read a folder and nothing else.",
            "llmspell-run --profile safe --allow-read=./data report.lua",
        ),
        Example::new("Run it in the kernel a notebook uses.", "llmspell-run --kernel llmspell-kernel report.lua"),
    ])
    .see_also(&["llmspell-kernel(1)", "llmspell-tool(1)", "llmspell-lua(7)", "llmspell.toml(5)", "llmspell(7)"]);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llmspell::cli::{Profile, args, check, check_page};

    use super::*;

    fn run(words: &[&str]) -> Args {
        args(&CLI, words).unwrap()
    }

    #[test]
    fn the_table_is_fit() {
        assert_eq!(check(&CLI), Vec::<String>::new());
    }

    #[test]
    fn the_page_is_what_the_table_says() {
        check_page(&CLI, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../man/llmspell-run.1"))).unwrap();
    }

    #[test]
    fn scripts_come_from_three_places() {
        let file = run(&["-q", "x.lua", "-q", "--help", "--"]);
        assert_eq!((file.script, file.talk), (Script::File("x.lua".into()), Talk::Quiet));
        assert_eq!(file.arguments, ["-q", "--help", "--"]);
        let stdin = run(&["-", "a"]);
        assert_eq!((stdin.script, stdin.arguments), (Script::Stdin, vec!["a".into()]));
        let code = run(&["-e", "return 1", "a", "-b"]);
        assert_eq!((code.script, code.arguments), (Script::Code("return 1".into()), vec!["a".into(), "-b".into()]));
        assert_eq!(run(&["--execute=x", "--", "-b"]).arguments, ["-b"]);
        assert_eq!(run(&["--", "-odd.lua"]).script, Script::File("-odd.lua".into()));
    }

    #[test]
    fn every_flag_arrives() {
        let line = "-k 9555 -c c.toml --timeout 2h --workdir / --engine js --json -v x.js";
        let args = run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((args.target, args.config), (Target::Kernel("9555".into()), Some("c.toml".into())));
        assert_eq!((args.timeout, args.workdir), (Some(Duration::from_secs(7200)), Some("/".into())));
        assert_eq!((args.engine, args.json, args.talk), (Some(Engine::Js), true, Talk::Verbose));
        assert_eq!(run(&["--profile=safe", "x"]).permissions.profile, Some(Profile::Safe));
    }

    #[test]
    fn without_a_script_the_console_or_standard_input_is_meant() {
        assert_eq!(run(&[]).script, Script::Unsaid);
        assert_eq!(run(&["--trust"]).script, Script::Unsaid);
    }

    #[test]
    fn a_running_kernel_keeps_its_permissions() {
        let error = args(&CLI, ["-k", "x", "--allow-net", "x.lua"]).unwrap_err();
        assert_eq!((error.class(), error.text()), (Class::Usage, "permissions: a running kernel has its own"));
        let error = args(&CLI, ["-k", "x", "--model", "m", "x.lua"]).unwrap_err();
        assert_eq!((error.class(), error.text()), (Class::Usage, "models: a running kernel has its own"));
    }

    #[test]
    fn models_are_named_with_their_provider_or_without() {
        let model = |words: &[&str]| run(words).models.default_model();
        assert_eq!(model(&["-m", "a/b", "x"]).as_deref(), Some("a/b"));
        assert_eq!(model(&["--provider", "a", "--model", "b", "x"]).as_deref(), Some("a/b"));
        assert_eq!(model(&["--provider", "a", "x"]).as_deref(), Some("a"));
        assert_eq!(model(&["x"]), None);
        for wrong in ["-1", "x", "inf", "NaN"] {
            assert!(args(&CLI, [format!("--max-cost={wrong}"), "x".into()]).is_err(), "{wrong}");
        }
    }
}
