//! llmspell-run(1): a script, or the console, in this process or in a running kernel.

mod cli;
mod console;
mod here;
mod local;
mod session;
mod there;

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use cli::{Args, Script};
use here::Here;
use llmspell::cli::{Talk, Target, front, main as program, print, report};
use llmspell::config;
use llmspell::engine;
use llmspell::error::{Class, Error, Result};
use llmspell::home::Home;
use serde_json::{Value, json};
use session::{End, Session, Source};
use there::There;

const PROGRAM: &str = "llmspell-run";

fn main() -> ExitCode {
    front::dispatch().unwrap_or_else(|| program(&cli::CLI, run))
}

fn run(args: Args) -> Result<u8> {
    if args.trust {
        let dir = std::env::current_dir().map_err(|e| Error::system("working folder", e))?;
        let file = config::trust(&Home::find()?, &dir)?;
        eprint_line(&format!("{} is trusted as it is now", file.display()));
        if args.script == Script::Unsaid {
            return Ok(0);
        }
    }
    if args.script == Script::Unsaid && std::io::stdin().is_terminal() {
        return console::run(&args);
    }
    let source = Source::read(&args)?;
    let begun = Instant::now();
    let end = match &args.target {
        Target::Unsaid => Here::open(&args, false)?.run(&source)?,
        Target::Kernel(id) => There::open(&args, Some(id), None)?.run(&source)?,
        Target::File(file) => There::open(&args, None, Some(file))?.run(&source)?,
    };
    end.show(&args, begun)
}

impl Source {
    fn read(args: &Args) -> Result<Self> {
        let words: Vec<_> = args.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let (code, name, script) = match &args.script {
            Script::Code(code) => (code.clone().into(), "=-e".to_owned(), "-e".to_owned()),
            Script::Stdin | Script::Unsaid => {
                let mut code = Vec::new();
                std::io::stdin().read_to_end(&mut code).map_err(|e| Error::system("standard input", e))?;
                (code, "=stdin".into(), "-".into())
            }
            // Its modules are beside it, wherever it works.
            Script::File(file) => return Source::file(file, args.workdir.is_some(), words),
        };
        Source { code, name: Some(name), args: Some(engine::Args { script, words }) }.checked()
    }

    /// A script file, by its absolute path if that is needed.
    fn file(file: &Path, absolute: bool, words: Vec<String>) -> Result<Self> {
        let code = std::fs::read(file).map_err(|e| Error::io(file, e))?;
        let script = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = if absolute { &std::path::absolute(file).map_err(|e| Error::io(file, e))? } else { file };
        let name = Some(format!("@{}", file.display()));
        Source { code, name, args: Some(engine::Args { script, words }) }.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.code.starts_with(b"\x1bLua") || self.code.contains(&0) {
            let name = self.name.as_deref().unwrap_or_default().trim_start_matches(['@', '=']);
            return Err(Error::new(Class::Usage, format!("{name}: not a text file"))
                .hint("Give it the Lua source, not a compiled chunk or another binary file."));
        }
        Ok(self)
    }
}

impl End {
    /// Prints what there is to print; the exit status.
    fn show(self, args: &Args, begun: Instant) -> Result<u8> {
        let status = match (&self.error, self.exit) {
            _ if self.closed => 0,
            (_, Some(code)) => code,
            (Some(error), None) => Class::from_name(&error.class).row().exit,
            (None, None) => 0,
        };
        if args.json {
            print(&format!("{}\n", self.json(status, begun)))?;
            return Ok(status);
        }
        if let (Some(error), None, false) = (&self.error, self.exit, self.closed) {
            let mut text = Error::from(error);
            if args.talk != Talk::Quiet && error.traceback.len() > 1 {
                let lines = error.traceback[1..].join("\n");
                text = Error::new(text.class(), format!("{}\n{lines}", text.text()));
                if let Some(hint) = &error.hint {
                    text = text.hint(hint.clone());
                }
            }
            report(PROGRAM, &text);
        }
        if let (Some(text), Script::Code(_)) = (&self.text, &args.script) {
            print(&format!("{text}\n"))?;
        }
        if args.talk == Talk::Verbose {
            eprint_line(&format!("ended after {:?} with exit status {status}", begun.elapsed()));
        }
        Ok(status)
    }

    fn json(self, status: u8, begun: Instant) -> Value {
        let result = match (self.value, self.text) {
            (Some(value), _) => value,
            (None, Some(text)) => Value::String(text),
            (None, None) => Value::Null,
        };
        let mut document = json!({
            "status": if self.error.is_none() && status == 0 { "ok" } else { "error" },
            "result": result,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "exit_status": status,
            "duration_ms": begun.elapsed().as_micros() as f64 / 1000.0,
        });
        if let Some(error) = &self.error {
            document["error"] = serde_json::to_value(error).unwrap_or_default();
        }
        document
    }
}

pub(crate) fn eprint(text: &str) {
    // Nothing is left to tell the user with when standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

pub(crate) fn eprint_line(text: &str) {
    eprint(&format!("{}: {text}\n", PROGRAM));
}
