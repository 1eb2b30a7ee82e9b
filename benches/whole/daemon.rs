//! A kernel as a service: going into the background, PID files, logs, signals.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use llmspell::config::{Level, Log};
use llmspell::daemon::PidFile;
use llmspell::log::{FileSettings, Sinks};
use llmspell::protocol::connection::Transport;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::kernel::Kernel;
use crate::{Effort, Result, median, ms, percentile, process, repeat, row, text};

pub(crate) fn daemon(effort: &Effort, program: &Path, dir: &Path) -> Result<()> {
    let mut ends = Vec::new();
    let mut starts = repeat(effort.starts, |_| {
        let seconds = process::run(program, &["--daemon"], dir)?;
        let file = dir.join(".llmspell/kernel/llmspell-kernel.pid");
        let pid = fs::read_to_string(file).map_err(text)?.trim().parse().map_err(text)?;
        ends.push(end(&open(pid)?)?);
        Ok(seconds)
    })?;
    row("--daemon: exec to the caller's end", &ms(&mut starts), None, "180 ms");
    row("--daemon: SIGTERM to end of process", &ms(&mut ends), None, "8.5 ms");
    signals(program, dir)?;
    pid_files(dir)?;
    logs(dir)
}

fn open(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or("no pid")?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(text)
}

fn end(process: &OwnedFd) -> Result<f64> {
    let begun = Instant::now();
    pidfd_send_signal(process, Signal::TERM).map_err(text)?;
    poll(&mut [PollFd::new(process, PollFlags::IN)], None).map_err(text)?;
    Ok(begun.elapsed().as_secs_f64())
}

fn signals(program: &Path, dir: &Path) -> Result<()> {
    let kernel = Kernel::start(program, dir, Transport::Ipc)?;
    let process = open(kernel.pid() as i32)?;
    let mut times = repeat(20, |_| {
        kernel.stopped_by("while true do end", || pidfd_send_signal(&process, Signal::INT).map_err(text))
    })?;
    row("SIGINT to the reply of a looping script", &ms(&mut times), None, "8.5 ms");
    Ok(())
}

fn micros(values: &mut [f64]) -> String {
    format!("{:.2} us (p99 {:.2})", median(values) * 1e6, percentile(values, 99) * 1e6)
}

fn pid_files(dir: &Path) -> Result<()> {
    let path = dir.join("bench.pid");
    let mut times = repeat(1000, |_| {
        let begun = Instant::now();
        drop(PidFile::acquire(&path).map_err(text)?);
        Ok(begun.elapsed().as_secs_f64())
    })?;
    row("PID file: take and remove", &micros(&mut times), None, "600 us");
    let _held = PidFile::acquire(&path).map_err(text)?;
    let mut times = repeat(1000, |_| {
        let begun = Instant::now();
        let refused = PidFile::acquire(&path).is_err();
        let seconds = begun.elapsed().as_secs_f64();
        if refused { Ok(seconds) } else { Err("a held PID file was given away".into()) }
    })?;
    row("PID file: check of one that is held", &micros(&mut times), None, "600 us");
    Ok(())
}

/// Messages as a kernel writes them, first into a file that never turns over, then into one that often does.
fn logs(dir: &Path) -> Result<()> {
    let settings = |max_size| FileSettings {
        path: dir.join("bench.log"),
        max_size,
        max_age: Duration::from_secs(7 * 24 * 3600),
        max_files: 20,
        compress: false,
        standard_streams: false,
    };
    let message = |number: usize| {
        let begun = Instant::now();
        log::info!("shell: message {number} of session 5f0c dropped: signature, {} so far", number + 1);
        begun.elapsed().as_secs_f64()
    };
    let config = Log { level: Level::Info, ..Log::default() };
    let daemon = |max_size| llmspell::config::Daemon { max_log_size: max_size, ..Default::default() };
    let handle = llmspell::log::start(&config, Sinks { file: Some(settings(0)), ..Sinks::default() }).map_err(text)?;
    let mut times: Vec<f64> = (0..50_000).map(message).collect();
    row("one log message into a file", &micros(&mut times), None, "5 us");
    let mut times: Vec<f64> = (0..50_000)
        .map(|number| {
            let begun = Instant::now();
            log::debug!("not logged: {number}");
            begun.elapsed().as_secs_f64()
        })
        .collect();
    row("one log message below the level", &micros(&mut times), None, "");
    // A line is about 120 bytes: every message finds the file full.
    handle.set(&config, &daemon(100));
    let mut times: Vec<f64> = (0..500).map(message).collect();
    row("log rotation, 20 old files", &ms(&mut times), None, "7.8 ms");
    if llmspell::log::lost() > 0 {
        return Err("log messages were lost".into());
    }
    Ok(())
}
