//! llmspell-fleet(1): many kernels, without a manager that must run.

mod apply;
mod ask;
mod change;
mod cli;
mod net;
mod show;
mod top;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cli::{Action, Args, Which};
use llmspell::cli::{Talk, is_closed_output, main as program, print};
use llmspell::error::{Class, Error, Result};
use llmspell::fleet::{self, Here, Kernel};
use llmspell::home::Home;
use llmspell::service::{self, Format, Scope, Setting};
use serde_json::json;

const PROGRAM: &str = "llmspell-fleet";

fn main() -> ExitCode {
    program(&cli::CLI, run)
}

fn run(args: Args) -> Result<u8> {
    let lines = matches!(
        args.action,
        Action::Logs(_) | Action::Watch(_) | Action::Route(_) | Action::Serve(_) | Action::Exec { .. }
    );
    let (json, outcome) = (args.json && !lines, act(args));
    match outcome {
        // A program that reads a document gets one.
        Err(error) if json && !is_closed_output(&error) => {
            show::document(json!({ "failed": show::error(&error) }))?;
            Err(error)
        }
        outcome => outcome,
    }
}

fn act(args: Args) -> Result<u8> {
    let fleet = Fleet { home: Home::find()?, here: Here::find(), json: args.json, talk: args.talk };
    match args.action {
        Action::Spawn(spawn) => fleet.spawn(*spawn),
        Action::List { which, labels } => fleet.list(&which, &labels),
        Action::Health { which, timeout } => fleet.health(&which, timeout),
        Action::Stop { which, timeout } => fleet.stop(&which, timeout),
        Action::Restart { which, grace, timeout } => fleet.restart(&which, grace, timeout),
        Action::Status { which, timeout } => fleet.status(&which, timeout),
        Action::Logs(logs) => fleet.logs(*logs),
        Action::Metrics { which, prometheus, timeout } => fleet.metrics(&which, prometheus, timeout),
        Action::Exec { names, script } => fleet.exec(&names, &script),
        Action::Cleanup { dry_run } => fleet.cleanup(dry_run),
        Action::Watch(settings) => fleet.watch(settings),
        Action::Route(settings) => fleet.route(&settings),
        Action::Serve(settings) => fleet.serve(&settings),
        Action::Export { which, format, scope, output } => fleet.export(&which, format, scope, output.as_deref()),
        Action::Apply { file, prune, adopt, change } => fleet.apply(&file, prune, adopt, &change),
        Action::Scale { name, count, change } => fleet.scale(&name, count, &change),
        Action::Top(settings) => fleet.top(*settings),
        Action::WatchUnit => print(&fleet::watch::unit(&program_path()?, &fleet.home)).map(|()| 0),
    }
}

/// What every command needs.
struct Fleet {
    home: Home,
    here: Here,
    json: bool,
    talk: Talk,
}

/// What became of several kernels: 0, the status of the only failure's class, or 1.
#[derive(Default)]
struct Outcome {
    done: usize,
    failed: Vec<Error>,
}

impl Outcome {
    fn exit(&self) -> u8 {
        match &self.failed[..] {
            [] => 0,
            [only] if self.done == 0 => only.class().row().exit,
            _ => 1,
        }
    }
}

impl Fleet {
    fn export(&self, which: &Which, format: Format, scope: Scope, output: Option<&Path>) -> Result<u8> {
        let mut services = Vec::new();
        for kernel in self.choose(which)? {
            match &kernel.wanted {
                Some(wanted) => services.push(fleet::service(wanted)),
                None if *which == Which::All => {}
                None => {
                    return Err(Error::new(Class::NotFound, format!("kernel {}: was not spawned", kernel.id))
                        .hint("What nobody ordered cannot be handed on: llmspell-fleet spawn."));
                }
            }
        }
        if services.is_empty() {
            return Err(Error::new(Class::NotFound, "nothing to export").hint("llmspell-fleet spawn starts kernels."));
        }
        let program = program_path()?.with_file_name("llmspell-kernel");
        let home = std::env::home_dir().unwrap_or_default();
        let files = service::files(format, &services, &Setting { program, scope, home, sources: None });
        let Some(folder) = output else { return print(&service::show(&files)).map(|()| 0) };
        for file in files {
            let path = folder.join(&file.name);
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
            std::fs::write(&path, &file.text).map_err(|error| Error::io(&path, error))?;
            print(&format!("{}\n", path.display()))?;
        }
        Ok(0)
    }

    fn choose(&self, which: &Which) -> Result<Vec<Kernel>> {
        match which {
            Which::All => Ok(fleet::survey(&self.home, &self.here)),
            Which::Named(names) => fleet::choose(&self.home, &self.here, names),
        }
    }

    /// A line on standard error about what takes a while, rewritten in place; on a terminal only.
    fn progress(&self, text: &str) {
        if self.talk != Talk::Quiet && !self.json && std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
    }
}

/// Where this program is.
fn program_path() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| Error::system("this program", e))
}
