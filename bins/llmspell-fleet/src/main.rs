//! llmspell-fleet(1): many kernels, without a manager that must run.

mod cli;
mod show;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use cli::{Action, Args, Spawn, Which};
use llmspell::cli::{Talk, main as program, print, report};
use llmspell::error::{Class, Error, Result};
use llmspell::fleet::{self, Condition, End, Enforced, Here, Kernel, Order, Spawned};
use llmspell::home::Home;
use serde_json::{Value, json};

const PROGRAM: &str = "llmspell-fleet";

fn main() -> ExitCode {
    program(&cli::CLI, run)
}

fn run(args: Args) -> Result<u8> {
    let fleet = Fleet { home: Home::find()?, here: Here::find(), json: args.json, talk: args.talk };
    match args.action {
        Action::Spawn(spawn) => fleet.spawn(*spawn),
        Action::List { labels } => fleet.list(&labels),
        Action::Health { which, timeout } => fleet.health(&which, timeout),
        Action::Stop { which, timeout } => fleet.stop(&which, timeout),
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

    fn spawn(&self, spawn: Spawn) -> Result<u8> {
        let workdir = std::env::current_dir().map_err(|e| Error::system("working folder", e))?;
        let variable = |(name, value): (String, Option<String>)| match value.or_else(|| std::env::var(&name).ok()) {
            Some(value) => Ok((name, value)),
            None => Err(Error::new(Class::Usage, format!("--env: {name} is not set here"))
                .hint(format!("Give it a value: --env {name}=VALUE"))),
        };
        let order = Order {
            config: spawn.config,
            engine: spawn.engine.map(|engine| engine.name().to_owned()),
            name: spawn.name,
            port: spawn.port,
            count: spawn.count,
            restart: spawn.restart,
            memory: spawn.memory,
            cpu: spawn.cpu,
            env: spawn.env.into_iter().map(variable).collect::<Result<_>>()?,
            labels: spawn.labels,
            arguments: spawn.permissions.to_words(),
            workdir: spawn.workdir.map_or(workdir.clone(), |dir| workdir.join(dir)),
            timeout: spawn.timeout,
        };
        let (mut outcome, mut rows, mut printed) = (Outcome::default(), Vec::new(), Ok(()));
        fleet::spawn(&self.home, &self.here, &order, &mut |id, spawned: &Result<Spawned>| {
            self.progress("");
            match spawned {
                Ok(spawned) => {
                    outcome.done += 1;
                    if self.json {
                        rows.push(spawned_row(spawned));
                    } else if printed.is_ok() {
                        printed = print(&format!("{}\n", spawned.ready.id));
                        self.say_limits(spawned);
                    }
                }
                Err(error) => {
                    if self.json {
                        rows.push(json!({ "id": id, "failed": show::error(error) }));
                    }
                    report(PROGRAM, error);
                    let copy = Error::new(error.class(), error.text());
                    outcome.failed.push(copy);
                }
            }
            if order.count > 1 {
                self.progress(&format!("{} of {} kernels are ready", outcome.done, order.count));
            }
        })?;
        self.progress("");
        printed?;
        if self.json {
            show::document(json!({ "kernels": rows }))?;
        }
        Ok(outcome.exit())
    }

    fn say_limits(&self, spawned: &Spawned) {
        if self.talk == Talk::Verbose || spawned.limits == Some(Enforced::Rlimit) && self.talk != Talk::Quiet {
            let by = match &spawned.limits {
                None => return,
                Some(Enforced::Cgroup { path }) => format!("by the cgroup {}", path.display()),
                Some(Enforced::Rlimit) => {
                    "by a limit on the data of its process, as no cgroup of version 2 can be made here".to_owned()
                }
            };
            let _ = writeln!(std::io::stderr(), "{PROGRAM}: {}: memory is limited {by}", spawned.ready.id);
        }
    }

    fn list(&self, labels: &BTreeMap<String, String>) -> Result<u8> {
        let mut kernels = self.choose(&Which::All)?;
        kernels.retain(|kernel| {
            labels
                .iter()
                .all(|(name, value)| kernel.wanted.as_ref().and_then(|wanted| wanted.labels.get(name)) == Some(value))
        });
        if self.json {
            let rows: Vec<_> = kernels.iter().map(|kernel| kernel.row(&self.here)).collect();
            return show::document(json!({ "kernels": rows })).map(|()| 0);
        }
        if kernels.is_empty() && self.talk != Talk::Quiet {
            let _ = writeln!(std::io::stderr(), "{PROGRAM}: no kernels; llmspell-fleet spawn CONFIG starts one");
        }
        print(&show::list(&kernels, &self.here)).map(|()| 0)
    }

    fn health(&self, which: &Which, timeout: Duration) -> Result<u8> {
        let mut kernels = self.choose(which)?;
        // Nobody asks after those that were stopped, unless by name.
        if *which == Which::All {
            kernels.retain(|kernel| kernel.condition != Condition::Stopped);
        }
        let answers = fleet::probe::probe(&mut kernels, timeout);
        let well = kernels.iter().all(|kernel| kernel.condition.is_well());
        if self.json {
            let rows: Vec<Value> = kernels
                .iter()
                .zip(&answers)
                .map(|(kernel, answers)| {
                    let mut row = kernel.row(&self.here);
                    row.insert("healthy".into(), kernel.condition.is_well().into());
                    row.insert(
                        "channels".into(),
                        json!({
                            "heartbeat": answers.heartbeat,
                            "control": answers.status.is_some(),
                            "shell": answers.shell,
                        }),
                    );
                    row.insert("latency_s".into(), json!(answers.latency.map(|time| time.as_secs_f64())));
                    row.insert("status".into(), json!(answers.status));
                    Value::Object(row)
                })
                .collect();
            show::document(json!({ "healthy": well, "kernels": rows }))?;
        } else if let ([kernel], Which::Named(_)) = (&kernels[..], which) {
            print(&format!("{}\n", show::health(kernel, &answers[0])))?;
        } else {
            let width = kernels.iter().map(|kernel| kernel.id.len()).max().unwrap_or(0);
            let lines = kernels.iter().zip(&answers);
            print(
                &lines
                    .map(|(kernel, one)| format!("{:width$}  {}\n", kernel.id, show::health(kernel, one)))
                    .collect::<String>(),
            )?;
        }
        Ok(u8::from(!well))
    }

    fn stop(&self, which: &Which, grace: Duration) -> Result<u8> {
        let mut kernels = self.choose(which)?;
        if *which == Which::All {
            kernels.retain(|kernel| kernel.stat.is_some() || kernel.wanted.as_ref().is_some_and(|wanted| wanted.run));
        }
        let (mut outcome, mut rows, mut printed) = (Outcome::default(), Vec::new(), Ok(()));
        let total = kernels.len();
        self.progress(&format!("stopping {total} kernels"));
        fleet::stop(&self.home, &self.here, &kernels, grace, &mut |kernel, end| {
            self.progress("");
            let word = match end {
                Ok(end) => {
                    outcome.done += 1;
                    end_word(end)
                }
                Err(error) => {
                    report(PROGRAM, &error);
                    rows.push(json!({ "id": kernel.id, "failed": show::error(&error) }));
                    outcome.failed.push(error);
                    return;
                }
            };
            rows.push(json!({ "id": kernel.id, "end": word }));
            if !self.json && printed.is_ok() {
                printed = print(&format!("{}: {word}\n", kernel.id));
            }
            self.progress(&format!("{} of {total} kernels ended", outcome.done));
        });
        self.progress("");
        printed?;
        if self.json {
            show::document(json!({ "kernels": rows }))?;
        }
        Ok(outcome.exit())
    }
}

/// How a kernel ended, in a word.
fn end_word(end: End) -> &'static str {
    match end {
        End::NotRunning => "was not running",
        End::Asked => "stopped",
        End::Killed => "killed",
    }
}

fn spawned_row(spawned: &Spawned) -> Value {
    json!({
        "id": spawned.ready.id,
        "pid": spawned.ready.pid,
        "connection_file": spawned.ready.connection_file,
        "endpoint": spawned.ready.endpoint,
        "limits": spawned.limits,
        "took_s": spawned.took.as_secs_f64(),
    })
}
