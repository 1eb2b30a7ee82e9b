//! What the system tells of processes and files.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, text};

/// A temporary folder, short enough for socket paths.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("llmspell-bench-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(text)?;
        Ok(Folder(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Proportional share of memory.
pub(crate) fn pss_mb(pid: u32) -> Result<f64> {
    Ok(field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")? * 1024.0 / 1e6)
}

/// The most memory it ever had.
pub(crate) fn peak_mb(pid: u32) -> Result<f64> {
    Ok(field(&format!("/proc/{pid}/status"), "VmHWM:")? * 1024.0 / 1e6)
}

/// How often any thread of the process was put on a CPU, over `seconds`.
pub(crate) fn switches_per_second(pid: u32, seconds: f64) -> Result<f64> {
    let before = switches(pid)?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok((switches(pid)? - before) / seconds)
}

fn switches(pid: u32) -> Result<f64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(text)?;
    tasks
        .map(|task| {
            let status = task.map_err(text)?.path().join("status").display().to_string();
            Ok(field(&status, "voluntary_ctxt_switches:")? + field(&status, "nonvoluntary_ctxt_switches:")?)
        })
        .sum()
}

/// The number behind `name` at the start of a line.
fn field(file: &str, name: &str) -> Result<f64> {
    let status = fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).ok_or_else(|| format!("{file}: no {name}"))
}

/// Processor time of all children that ended, to a hundredth of a second.
pub(crate) fn cpu_seconds_of_children() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").map_err(text)?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // Fields 16 and 17 of proc(5), in clock ticks; the first here is the third there.
    let ticks: f64 = fields.skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

pub(crate) fn size_mb(file: &Path) -> Result<f64> {
    Ok(fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?.len() as f64 / 1e6)
}

/// Seconds of a whole program, which must succeed.
pub(crate) fn run<A: AsRef<OsStr>>(program: &Path, arguments: &[A], dir: &Path) -> Result<f64> {
    run_with(program, arguments, dir, Stdio::null())
}

/// The same, reading `input`.
pub(crate) fn run_with<A: AsRef<OsStr>>(program: &Path, arguments: &[A], dir: &Path, input: Stdio) -> Result<f64> {
    let begun = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("HOME", dir)
        .current_dir(dir)
        .stdin(input)
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let seconds = begun.elapsed().as_secs_f64();
    if output.status.success() {
        return Ok(seconds);
    }
    Err(format!("{}: {}{}", program.display(), output.status, String::from_utf8_lossy(&output.stderr)))
}

/// `cargo build --release` with `arguments`.
pub(crate) fn build(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--release", "--quiet"]).args(arguments).status().map_err(text)?;
    if status.success() { Ok(()) } else { Err(format!("cargo build: {status}")) }
}
