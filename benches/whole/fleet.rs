//! Many kernels: starting, listing, asking and starting them again, and what the watch costs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::process::{cpu_seconds_of_children, pss_mb, run, switches_per_second};
use crate::{Effort, Result, median, ms, percentile, repeat, row, text};

/// Kernels that are on record in the longest list.
const RECORDED: usize = 1000;

pub(crate) fn rows(effort: &Effort, bin: &Path, dir: &Path) -> Result<()> {
    let fleet = bin.join("llmspell-fleet");
    let outcome = measure(effort, &fleet, dir);
    // Whatever happened, nothing stays behind.
    let stopped = run(&fleet, &["stop", "--all", "--force", "--quiet"], dir);
    outcome.and(stopped.map(drop))
}

fn measure(effort: &Effort, fleet: &Path, dir: &Path) -> Result<()> {
    let count = effort.kernels;
    let many = count.to_string();
    let seconds = run(fleet, &["spawn", "--name", "bench", "--count", &many, "--restart", "always", "--quiet"], dir)?;
    row(&format!("fleet: {count} kernels spawned and ready"), &format!("{seconds:.2} s"), None, "1.5 s");
    listing(effort, fleet, dir, count, "10 ms, 5 ms")?;
    let mut times = repeat(effort.tools, |_| run(fleet, &["health"], dir))?;
    row(&format!("fleet: health of {count}"), &ms(&mut times), None, "100 ms");

    let before = pids(fleet, dir)?;
    let mut watch = Watch::start(fleet, dir)?;
    let mut back = Vec::new();
    for (id, pid) in before.iter().take(effort.starts * 2) {
        let begun = Instant::now();
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().map_err(text)?;
        if !killed.success() {
            return Err(format!("kernel {id}: its process {pid} could not be killed"));
        }
        watch.until("started", id)?;
        back.push(begun.elapsed().as_secs_f64());
    }
    let shown = format!("{:.1} ms (p95 {:.1})", median(&mut back) * 1e3, percentile(&mut back, 95) * 1e3);
    row("fleet: kill -9 to answering again", &shown, None, "50 ms");
    let (pss, switches) = (pss_mb(watch.child.id())?, switches_per_second(watch.child.id(), effort.idle_seconds)?);
    row(&format!("fleet: PSS of the watch of {count}"), &format!("{pss:.2} MB"), None, "5 MB");
    row("fleet: wake-ups of the idle watch", &format!("{switches:.1} /s"), None, "1 /s");
    drop(watch);
    let left = pids(fleet, dir)?;
    let watch = Watch::start(fleet, dir)?;
    let after = pids(fleet, dir)?;
    let shown = format!("{}, then {}{}", left.len(), after.len(), if left == after { "" } else { ", others" });
    row("fleet: kernels after kill -9 of the watch, and a new one", &shown, None, &format!("{count}, then {count}"));
    drop(watch);

    let wanted = dir.join(".llmspell/fleet/wanted");
    let one = fs::read_to_string(wanted.join("bench-1.json")).map_err(text)?;
    for number in count..RECORDED {
        let (id, stopped) = (format!("record-{number}"), one.replace("\"run\": true", "\"run\": false"));
        fs::write(wanted.join(format!("{id}.json")), stopped.replace("bench-1", &id)).map_err(text)?;
    }
    listing(effort, fleet, dir, RECORDED, "50 ms")?;
    let seconds = run(fleet, &["stop", "--all", "--quiet"], dir)?;
    row(&format!("fleet: {count} kernels stopped"), &format!("{seconds:.2} s"), None, "");
    Ok(())
}

/// Wall and processor time of `list`.
fn listing(effort: &Effort, fleet: &Path, dir: &Path, count: usize, aim: &str) -> Result<()> {
    let rounds = effort.tools * 5;
    let before = cpu_seconds_of_children()?;
    let mut times = repeat(rounds, |_| run(fleet, &["list", "--json"], dir))?;
    let cpu = (cpu_seconds_of_children()? - before) / rounds as f64;
    let shown = format!("{:.1} ms, CPU {:.1} ms", median(&mut times) * 1e3, cpu * 1e3);
    row(&format!("fleet: list of {count}"), &shown, None, aim);
    Ok(())
}

/// Ids and processes of the kernels that run.
fn pids(fleet: &Path, dir: &Path) -> Result<Vec<(String, u64)>> {
    let output = Command::new(fleet).args(["list", "--json"]).env_clear().env("HOME", dir).output().map_err(text)?;
    let document: Value = serde_json::from_slice(&output.stdout).map_err(text)?;
    let kernels = document["kernels"].as_array().ok_or("list: no kernels")?;
    Ok(kernels.iter().filter_map(|row| Some((row["id"].as_str()?.to_owned(), row["pid"].as_u64()?))).collect())
}

/// A watch, killed at the end.
struct Watch {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Watch {
    fn start(fleet: &Path, dir: &Path) -> Result<Self> {
        let mut child = Command::new(fleet)
            .args(["watch", "--json"])
            .env_clear()
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(text)?;
        let stdout = BufReader::new(child.stdout.take().ok_or("watch: no output")?);
        let mut watch = Watch { child, stdout };
        watch.until("ready", "")?;
        Ok(watch)
    }

    /// Reads events up to this one.
    fn until(&mut self, what: &str, id: &str) -> Result<()> {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).map_err(text)? == 0 {
                return Err("the watch ended".into());
            }
            let event: Value = serde_json::from_str(&line).map_err(text)?;
            if event["event"] == what && event["kernel"] == id {
                return Ok(());
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
