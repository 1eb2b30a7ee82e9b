//! Starting a kernel again with its ports and its key, also one that was started by hand, and one whose restart was cut
//! short.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::launch::Launch;
use super::process::{Here, Process, wait_any};
use super::spawn::{Spawned, unwanted};
use super::stop::{self, End};
use super::survey::Kernel;
use super::wanted::{Claim, SCHEMA, State, Wanted, changes, digest, drain, is_unwanted, now};
use crate::client::Program;
use crate::error::{Class, Error, Result};
use crate::home::Home;
use crate::protocol::connection::{Channel, Connection, Transport};

/// Ends `kernel` if it runs and starts it again, with the ports and the key it had: clients that are attached come
/// back by themselves. Also how it ended.
///
/// # Errors
/// `NotFound` for one that nobody ordered and that does not run; what stopping and starting say.
pub fn restart(
    home: &Home,
    here: &Here,
    kernel: &Kernel,
    grace: Duration,
    timeout: Duration,
) -> Result<(End, Spawned)> {
    let _claim = Claim::wait(home, &kernel.id)?;
    let kernel = settled(home, here, &kernel.id, timeout)?;
    // A record that cannot be read is not replaced by one of our making.
    let mut wanted = match Wanted::read(home, &kernel.id)? {
        Some(wanted) => wanted,
        None => adopt(&kernel)?,
    };
    if wanted.config_changed() {
        // An explicit command takes the configuration as it is now, if that is one: what runs is not ended for nothing.
        check_config(&wanted)?;
        wanted.config_digest = wanted.config.as_deref().map(digest).transpose()?;
    }
    wanted.run = true;
    replace(home, here, &kernel, wanted, grace, timeout)
}

/// Ends `kernel` if it runs and starts it as `wanted` says, with the ports and the key it had; its claim must be held.
/// The record is changed in between: whoever is killed here leaves one that tells what is still to be done.
pub(super) fn replace(
    home: &Home,
    here: &Here,
    kernel: &Kernel,
    wanted: Wanted,
    grace: Duration,
    timeout: Duration,
) -> Result<(End, Spawned)> {
    let kept = kept_file(home, &wanted.id);
    let end = match (&kernel.connection, kernel.stat) {
        (Some(connection), Some(_)) => {
            // It takes its own with it, when it ends in good order.
            crate::home::private_dir(&home.fleet_dir().join("kept"))?;
            connection.write(&kept)?;
            stop::end(home, here, kernel, grace)?
        }
        _ => End::NotRunning,
    };
    let connection = kernel.connection.clone().or_else(|| Connection::read(&kept).ok());
    let moves = |connection: &Connection| wanted.port != 0 && connection.port(Channel::Shell) != wanted.port;
    let connection = match connection {
        Some(old) if old.transport == Transport::Tcp && moves(&old) => {
            stop::clear(home, &wanted.id, &old);
            None
        }
        other => other,
    };
    wanted.write(home)?;
    let restarts = kernel.state.restarts + u64::from(end != End::NotRunning);
    let spawned = start_again(home, &wanted, connection.as_ref(), timeout)?;
    State { restarts, limits: spawned.limits.clone(), ready: now(), ..State::default() }.write(home, &wanted.id)?;
    drop_kept(home, &wanted.id);
    Ok((end, spawned))
}

/// Looks at the kernel `id`. One that a command had begun to start, and was killed at it, is waited for.
pub(super) fn settled(home: &Home, here: &Here, id: &str, limit: Duration) -> Result<Kernel> {
    let until = Instant::now() + limit;
    crate::home::private_dir(&home.kernel_dir())?;
    let changes = changes(&[home.kernel_dir()])?;
    loop {
        let kernel = Kernel::look(home, here, id);
        let left = until.saturating_duration_since(Instant::now());
        match starting(home, id) {
            Some(process) if kernel.stat.is_none() && !left.is_zero() => {
                wait_any(&[process.fd(), changes.as_fd()], left);
                drain(&changes);
            }
            _ => return Ok(kernel),
        }
    }
}

/// The process that has the PID file of `id` and was started with that id.
fn starting(home: &Home, id: &str) -> Option<Process> {
    let pid = std::fs::read_to_string(home.pid_file(id)).ok()?.trim().parse().ok()?;
    let process = Process::child(pid).ok()?;
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
    words.windows(2).any(|pair| pair == [b"--id".as_slice(), id.as_bytes()]).then_some(process)
}

/// Where the addresses of a kernel are kept while it is ended and started again.
fn kept_file(home: &Home, id: &str) -> PathBuf {
    home.fleet_dir().join("kept").join(format!("{id}.json"))
}

/// They are not needed any more.
pub(super) fn drop_kept(home: &Home, id: &str) {
    let _ = std::fs::remove_file(kept_file(home, id));
}

/// Puts the addresses in place of a kernel whose restart was cut short.
pub(super) fn recover(home: &Home, id: &str) {
    if let Ok(connection) = Connection::read(&kept_file(home, id)) {
        let _ = keep_connection(home, id, Some(&connection));
        drop_kept(home, id);
    }
}

/// Whether a kernel would take the configuration of `wanted`.
pub(super) fn check_config(wanted: &Wanted) -> Result<()> {
    let Some(config) = &wanted.config else { return Ok(()) };
    let thing = || format!("configuration {}", config.display());
    std::fs::metadata(config).map_err(|e| Error::system(thing(), e))?;
    let program = Program("llmspell-kernel").path();
    let output =
        Command::new(&program).args(["config", "check"]).arg(config).current_dir("/").stdin(Stdio::null()).output();
    let output = output.map_err(|e| Error::system(program.display(), e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.lines().find(|line| line.contains(": ")).unwrap_or("llmspell-kernel does not take it").to_owned();
    Err(Error::new(Class::Config, format!("kernel {}: {said}", wanted.id))
        .hint(format!("It was left as it is. llmspell-kernel config check {}", config.display())))
}

/// Leaves the connection of the last run where the next one looks for it.
fn keep_connection(home: &Home, id: &str, connection: Option<&Connection>) -> Result<()> {
    let file = home.connection_file(id);
    match connection {
        Some(connection) if !file.exists() => connection.write(&file),
        _ => Ok(()),
    }
}

fn start_again(home: &Home, wanted: &Wanted, connection: Option<&Connection>, timeout: Duration) -> Result<Spawned> {
    keep_connection(home, &wanted.id, connection)?;
    match start_one(home, wanted, timeout) {
        // Somebody else has one of its ports now: better new ones than no kernel.
        Err(error) if error.class() == Class::Conflict => {
            let Some(connection) = connection else { return Err(error) };
            stop::clear(home, &wanted.id, connection);
            start_one(home, wanted, timeout)
        }
        outcome => outcome,
    }
}

fn start_one(home: &Home, wanted: &Wanted, timeout: Duration) -> Result<Spawned> {
    let begun = Instant::now();
    let changes = changes(&[home.wanted_dir()])?;
    let mut launch = Launch::start(home, wanted)?;
    loop {
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            launch.give_up();
            return Err(Error::new(Class::Timeout, format!("kernel {}: not ready in time", wanted.id)));
        }
        wait_any(&[launch.fd(), changes.as_fd()], left);
        if let Some(ready) = launch.advance() {
            let limits = launch.enforced.clone();
            return Ok(Spawned { ready: ready?, limits, took: begun.elapsed() });
        }
        drain(&changes);
        if is_unwanted(home, &wanted.id) {
            launch.give_up();
            return Err(unwanted(&wanted.id));
        }
    }
}

/// An order for a kernel that was started by hand, from its command line.
fn adopt(kernel: &Kernel) -> Result<Wanted> {
    let Some(pid) = kernel.pid() else {
        return Err(Error::new(Class::NotFound, format!("kernel {}: does not run, and nobody ordered it", kernel.id))
            .hint("Start it with llmspell-fleet spawn."));
    };
    if kernel.connection.as_ref().is_some_and(super::route::is_route) {
        return Err(Error::new(Class::Conflict, format!("{}: is a route, not a kernel", kernel.id))
            .hint("Stop it, and start it again with llmspell-fleet route."));
    }
    let io = |e| Error::system(format!("kernel {} (PID {pid})", kernel.id), e);
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(io)?;
    let unit = groups.lines().filter_map(|line| line.rsplit('/').next()).find(|name| name.ends_with(".service"));
    if let Some(unit) = unit.filter(|unit| !unit.starts_with("user@")) {
        return Err(Error::new(Class::Conflict, format!("kernel {}: belongs to the unit {unit}", kernel.id))
            .hint(format!("systemctl restart {unit}")));
    }
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(io)?;
    let words = words.split(|byte| *byte == 0).skip(1).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut wanted = Wanted {
        schema_version: SCHEMA,
        id: kernel.id.clone(),
        port: kernel.port().unwrap_or_default(),
        workdir: started_in(pid).map_err(io)?,
        ..Wanted::default()
    };
    // What we say ourselves is left out; everything else is handed on as it was.
    let mut words = words.filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ if word.len() > 2 && !word.starts_with("--") && ["-p", "-c"].contains(&&word[..2]) => {
                (word[..2].to_owned(), Some(word[2..].to_owned()))
            }
            _ => (word.clone(), None),
        };
        let mut value = || value.clone().or_else(|| words.next());
        match name.as_str() {
            "--id" | "--port" | "-p" | "--log-file" => drop(value()),
            "--workdir" => wanted.workdir = value().map_or(wanted.workdir.clone(), |dir| wanted.workdir.join(dir)),
            "--config" | "-c" => wanted.config = value().map(|file| wanted.workdir.join(file)),
            "--engine" => wanted.engine = value(),
            "--json" | "--daemon" | "-d" | "start" => {}
            _ => wanted.arguments.push(word),
        }
    }
    if wanted.workdir == Path::new("/") {
        return Err(Error::new(Class::Conflict, format!("kernel {}: where it was started is not known", kernel.id))
            .hint("Stop it, and spawn it with --workdir."));
    }
    wanted.config_digest = wanted.config.as_deref().map(digest).transpose()?;
    Ok(wanted)
}

/// The folder a process was started in: where it is, or for one that went into the background where its shell was.
fn started_in(pid: i32) -> std::io::Result<PathBuf> {
    let now = std::fs::read_link(format!("/proc/{pid}/cwd"))?;
    if now != Path::new("/") {
        return Ok(now);
    }
    let variables = std::fs::read(format!("/proc/{pid}/environ"))?;
    let shell = variables.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"PWD="));
    let shell = shell.map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path)));
    Ok(shell.filter(|path| path.is_dir()).unwrap_or(now))
}
