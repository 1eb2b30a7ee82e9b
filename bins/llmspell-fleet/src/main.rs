//! llmspell-fleet(1): many kernels, without a manager that must run.

mod cli;
mod show;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use cli::{Action, Args, Spawn, Which};
use llmspell::cli::{Talk, main as program, print, report};
use llmspell::client::Program;
use llmspell::daemon::signal_fd;
use llmspell::error::{Class, Error, Result};
use llmspell::fleet::logs::{self, Filter};
use llmspell::fleet::{self, Condition, End, Enforced, Here, Kernel, Order, Policy, Spawned, metrics};
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
        Action::Restart { which, grace, timeout } => fleet.restart(&which, grace, timeout),
        Action::Status { which, timeout } => fleet.status(&which, timeout),
        Action::Logs(logs) => fleet.logs(*logs),
        Action::Metrics { which, prometheus, timeout } => fleet.metrics(&which, prometheus, timeout),
        Action::Exec { names, script } => fleet.exec(&names, &script),
        Action::Cleanup { dry_run } => fleet.cleanup(dry_run),
        Action::Watch(settings) => fleet.watch(settings),
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
        if outcome.done > 0 {
            self.say_watch(&order);
        }
        Ok(outcome.exit())
    }

    /// A policy that nobody follows is worth a word.
    fn say_watch(&self, order: &Order) {
        if order.restart != Policy::Never && self.talk != Talk::Quiet && !fleet::watch::is_running(&self.home) {
            let text = format!("--restart {}: no watch runs, so nothing starts them again", order.restart.name());
            let hint = "Run llmspell-fleet watch, or let systemd do it:\n  \
                        llmspell-fleet watch --unit >~/.config/systemd/user/llmspell-fleet-watch.service\n  \
                        systemctl --user enable --now llmspell-fleet-watch";
            report(PROGRAM, &Error::new(Class::Config, text).hint(hint));
        }
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

impl Fleet {
    fn restart(&self, which: &Which, grace: Duration, timeout: Duration) -> Result<u8> {
        let mut kernels = self.choose(which)?;
        if *which == Which::All {
            kernels.retain(|kernel| kernel.stat.is_some() || kernel.wanted.as_ref().is_some_and(|wanted| wanted.run));
        }
        let (mut rows, mut failed) = (Vec::new(), None);
        for (index, kernel) in kernels.iter().enumerate() {
            self.progress(&format!("restarting {} ({} of {})", kernel.id, index + 1, kernels.len()));
            let changed = kernel.wanted.as_ref().is_some_and(fleet::Wanted::config_changed);
            let restarted = fleet::restart(&self.home, &self.here, kernel, grace, timeout);
            self.progress("");
            match restarted {
                Ok((end, spawned)) => {
                    if changed && self.talk != Talk::Quiet {
                        let text = format!("{PROGRAM}: {}: its configuration is another than before\n", kernel.id);
                        let _ = std::io::stderr().write_all(text.as_bytes());
                    }
                    let mut row = spawned_row(&spawned);
                    row["end"] = end_word(end).into();
                    rows.push(row);
                    if !self.json {
                        let word = if end == End::NotRunning { "started" } else { "restarted" };
                        print(&format!("{}: {word} with PID {}\n", kernel.id, spawned.ready.pid))?;
                    }
                }
                Err(error) => {
                    rows.push(json!({ "id": kernel.id, "failed": show::error(&error) }));
                    let left = kernels.len() - index - 1;
                    failed = Some(match left {
                        0 => error,
                        _ => error.within(format!("{left} kernels were left as they are")),
                    });
                    break;
                }
            }
        }
        if self.json {
            show::document(json!({ "kernels": rows }))?;
        }
        failed.map_or(Ok(0), Err)
    }

    fn status(&self, which: &Which, timeout: Duration) -> Result<u8> {
        let mut kernels = self.choose(which)?;
        let answers = fleet::probe::probe(&mut kernels, timeout);
        let run = kernels.iter().zip(&answers).all(|(kernel, one)| kernel.stat.is_some() || one.status.is_some());
        let watched = fleet::watch::is_running(&self.home);
        if self.json {
            let row = |(kernel, answers): (&Kernel, &fleet::probe::Answers)| {
                let mut row = kernel.row(&self.here);
                row.extend(show::details(kernel, &self.home));
                row.insert("status".into(), json!(answers.status));
                Value::Object(row)
            };
            let rows: Vec<Value> = kernels.iter().zip(&answers).map(row).collect();
            show::document(json!({ "watch": watched, "kernels": rows }))?;
        } else {
            let text = |(kernel, one)| show::status(kernel, one, &self.here, &self.home, watched);
            let texts: Vec<String> = kernels.iter().zip(&answers).map(text).collect();
            print(&texts.join("\n"))?;
        }
        Ok(u8::from(!run))
    }

    fn logs(&self, wanted: cli::Logs) -> Result<u8> {
        let ids = match &wanted.which {
            Which::All => None,
            // A kernel that was forgotten may still have a log.
            Which::Named(names) => Some(match fleet::choose(&self.home, &self.here, names) {
                Ok(kernels) => kernels.into_iter().map(|kernel| kernel.id).collect::<Vec<_>>(),
                Err(_) if names.iter().all(|name| self.home.log_file(name).exists()) => names.clone(),
                Err(error) => return Err(error),
            }),
        };
        let grep = wanted.grep.as_deref().map(logs::pattern).transpose()?;
        let filter = Filter { since: wanted.since, level: wanted.level, grep };
        let stop = signal_fd(&[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
        let mut logs = logs::Logs::open(&self.home, ids.as_deref(), filter)?;
        let show = |lines: Vec<logs::Line>, many: bool| {
            let line = |line: &logs::Line| match (self.json, many) {
                (true, _) => format!("{}\n", line.json()),
                (false, true) => format!("{}: {}\n", line.id, line.text),
                (false, false) => format!("{}\n", line.text),
            };
            print(&lines.iter().map(line).collect::<String>())
        };
        show(logs.last(wanted.count)?, logs.is_many())?;
        while wanted.follow {
            match logs.next(stop.as_fd())? {
                Some(lines) => show(lines, logs.is_many())?,
                None => break,
            }
        }
        Ok(0)
    }

    fn metrics(&self, which: &Which, prometheus: bool, timeout: Duration) -> Result<u8> {
        let measured = metrics::measure(self.choose(which)?, timeout);
        if prometheus {
            return print(&metrics::prometheus(&self.home, &self.here, &measured)).map(|()| 0);
        }
        let rows: Vec<_> = measured.iter().map(|one| one.row(&self.here)).collect();
        if self.json {
            return show::document(json!({ "kernels": rows })).map(|()| 0);
        }
        print(&show::metrics(&rows)).map(|()| 0)
    }

    fn exec(&self, names: &[String], script: &str) -> Result<u8> {
        let kernels = fleet::choose(&self.home, &self.here, names)?;
        let run = Program("llmspell-run").path();
        let mut exit = 0;
        for kernel in &kernels {
            if kernel.connection.is_none() {
                return Err(Error::new(Class::NotFound, format!("kernel {}: not running", kernel.id)));
            }
            if kernels.len() > 1 && self.talk != Talk::Quiet {
                let _ = writeln!(std::io::stderr(), "{PROGRAM}: {}:", kernel.id);
            }
            let mut command = Command::new(&run);
            command.arg("--connection-file").arg(&kernel.file);
            if self.json {
                command.arg("--json");
            }
            match script {
                "-" => command.arg("-"),
                file if Path::new(file).is_file() => command.arg(file),
                code => command.arg("-e").arg(code),
            };
            if kernels.len() == 1 {
                return Err(Error::system(run.display(), command.exec()));
            }
            let status = command.status().map_err(|e| Error::system(run.display(), e))?;
            if !status.success() {
                exit = 1;
            }
        }
        Ok(exit)
    }

    fn cleanup(&self, dry_run: bool) -> Result<u8> {
        let mut outcome = Outcome::default();
        let mut forgotten = Vec::new();
        for kernel in fleet::forgettable(&self.home, &self.here) {
            let done = if dry_run { Ok(true) } else { fleet::forget_kernel(&self.home, &self.here, &kernel) };
            match done {
                Ok(true) => {
                    outcome.done += 1;
                    forgotten.push(kernel);
                }
                Ok(false) => {}
                Err(error) => {
                    report(PROGRAM, &error);
                    outcome.failed.push(error);
                }
            }
        }
        let files = fleet::abandoned(&self.home);
        for file in files.iter().filter(|_| !dry_run) {
            std::fs::remove_file(file).map_err(|e| Error::io(file, e))?;
        }
        if self.json {
            let rows: Vec<_> = forgotten.iter().map(|kernel| kernel.row(&self.here)).collect();
            show::document(json!({ "dry_run": dry_run, "kernels": rows, "files": files }))?;
        } else {
            let word = if dry_run { "would be forgotten" } else { "forgotten" };
            let line = |kernel: &Kernel| format!("{}: {word} ({})\n", kernel.id, kernel.condition.name());
            print(&forgotten.iter().map(line).collect::<String>())?;
        }
        Ok(outcome.exit())
    }

    fn watch(&self, settings: fleet::watch::Settings) -> Result<u8> {
        fleet::watch::watch(&self.home, &self.here, settings, &mut |event| {
            let text = match (self.json, event.id.is_empty()) {
                (true, _) => format!("{}\n", json!({ "kernel": event.id, "event": event.what, "text": event.text })),
                (false, true) => format!("{}\n", event.text),
                (false, false) => format!("{}: {}\n", event.id, event.text),
            };
            // Nobody has to read it.
            let _ = print(&text);
        })?;
        Ok(0)
    }
}

/// Where this program is.
fn program_path() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| Error::system("this program", e))
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
