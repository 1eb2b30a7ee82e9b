//! What changes nothing: lists, health, everything about a kernel, numbers, logs.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use llmspell::cli::{Talk, print};
use llmspell::daemon::signal_fd;
use llmspell::error::Result;
use llmspell::fleet::logs::{self, Filter};
use llmspell::fleet::{self, Condition, Kernel, metrics};
use serde_json::{Value, json};

use crate::cli::{self, Which};
use crate::{Fleet, PROGRAM, show};

impl Fleet {
    pub(crate) fn list(&self, which: &Which, labels: &BTreeMap<String, String>) -> Result<u8> {
        let mut kernels = self.choose(which)?;
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

    pub(crate) fn health(&self, which: &Which, timeout: Duration) -> Result<u8> {
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

    pub(crate) fn status(&self, which: &Which, timeout: Duration) -> Result<u8> {
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

    pub(crate) fn metrics(&self, which: &Which, prometheus: bool, timeout: Duration) -> Result<u8> {
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

    pub(crate) fn logs(&self, wanted: cli::Logs) -> Result<u8> {
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
        if wanted.follow {
            while let Some(lines) = logs.next(stop.as_fd())? {
                show(lines, logs.is_many())?;
            }
        }
        Ok(0)
    }
}
