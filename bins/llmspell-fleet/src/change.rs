//! What changes something: starting, stopping, running a script, forgetting, watching.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use llmspell::cli::{Talk, print, report};
use llmspell::client::Program;
use llmspell::error::{Class, Error, Result};
use llmspell::fleet::{self, End, Enforced, Kernel, Order, Policy, Spawned};
use serde_json::{Value, json};

use crate::cli::{Spawn, Which};
use crate::{Fleet, Outcome, PROGRAM, show};

impl Fleet {
    pub(crate) fn spawn(&self, spawn: Spawn) -> Result<u8> {
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
        fleet::spawn(&self.home, &self.here, &order, &mut |id, spawned: Result<Spawned>| {
            self.progress("");
            match spawned {
                Ok(spawned) => {
                    outcome.done += 1;
                    if self.json {
                        rows.push(spawned_row(&spawned));
                    } else if printed.is_ok() {
                        printed = print(&format!("{}\n", spawned.ready.id));
                        self.say_limits(&spawned);
                    }
                }
                Err(error) => {
                    if self.json {
                        rows.push(json!({ "id": id, "failed": show::error(&error) }));
                    }
                    report(PROGRAM, &error);
                    outcome.failed.push(error);
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

    pub(crate) fn stop(&self, which: &Which, grace: Duration) -> Result<u8> {
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

    pub(crate) fn restart(&self, which: &Which, grace: Duration, timeout: Duration) -> Result<u8> {
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
        Ok(failed.map_or(0, |error| {
            report(PROGRAM, &error);
            error.class().row().exit
        }))
    }

    pub(crate) fn exec(&self, names: &[String], script: &str) -> Result<u8> {
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

    pub(crate) fn cleanup(&self, dry_run: bool) -> Result<u8> {
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

    pub(crate) fn watch(&self, settings: fleet::watch::Settings) -> Result<u8> {
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
