//! Ending kernels: asked first, killed after their grace, with what they left running.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::limits::{out_of_memory, sweep};
use super::process::{Here, Process, Stat};
use super::survey::Kernel;
use super::wanted::{Claim, Wanted};
use crate::daemon::PidFile;
use crate::error::{Class, Error, Result};
use crate::home::Home;
use crate::protocol::connection::{Channel, Connection};

/// How long the system may take to bury what was killed.
const BURIAL: Duration = Duration::from_secs(10);

/// How a kernel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did not run.
    NotRunning,
    /// It ended as asked.
    Asked,
    /// It did not follow and was killed.
    Killed,
}

/// Ends `kernels`, all at the same time, and tells `on` how each of them ended. They have `grace` before they are killed.
pub fn stop(home: &Home, here: &Here, kernels: &[Kernel], grace: Duration, on: &mut dyn FnMut(&Kernel, Result<End>)) {
    let mut waiting = Vec::new();
    for kernel in kernels {
        match begin(home, here, kernel) {
            Ok(Some(ending)) => waiting.push((kernel, ending)),
            Ok(None) => on(kernel, Ok(End::NotRunning)),
            Err(error) => on(kernel, Err(error)),
        }
    }
    let until = Instant::now() + grace;
    for (kernel, ending) in waiting {
        on(kernel, ending.end.finish(home, &kernel.id, until.saturating_duration_since(Instant::now())));
        drop(ending.claim);
    }
}

struct Stopping {
    claim: Claim,
    end: Ending,
}

/// Notes that it is not wanted and asks it to end; nothing when it does not run.
fn begin(home: &Home, here: &Here, kernel: &Kernel) -> Result<Option<Stopping>> {
    let claim = Claim::wait(home, &kernel.id)?;
    // A record that cannot be read is nothing a watch would follow either.
    if let Ok(Some(mut wanted)) = Wanted::read(home, &kernel.id)
        && wanted.run
    {
        wanted.run = false;
        wanted.write(home)?;
    }
    let kernel = Kernel::look(home, here, &kernel.id);
    let Some(connection) = kernel.connection.as_ref() else { return Ok(None) };
    match Ending::ask(here, &kernel, connection) {
        Ok(end) => Ok(Some(Stopping { claim, end })),
        Err(error) if error.class() == Class::NotFound => {
            clear(home, &kernel.id, connection);
            Ok(None)
        }
        Err(error) => Err(error.within(format!("kernel {}", kernel.id))),
    }
}

/// Ends `kernel`, whose claim the caller holds.
pub(super) fn end(home: &Home, here: &Here, kernel: &Kernel, grace: Duration) -> Result<End> {
    let Some(connection) = kernel.connection.as_ref() else { return Ok(End::NotRunning) };
    match Ending::ask(here, kernel, connection) {
        Ok(ending) => ending.finish(home, &kernel.id, grace),
        Err(error) if error.class() == Class::NotFound => Ok(End::NotRunning),
        Err(error) => Err(error.within(format!("kernel {}", kernel.id))),
    }
}

/// A kernel that was asked to end.
struct Ending {
    process: Process,
    connection: Connection,
    limits: Option<super::Enforced>,
}

impl Ending {
    fn ask(here: &Here, kernel: &Kernel, connection: &Connection) -> Result<Self> {
        let process = Process::open(here, connection)?;
        process.signal(Signal::TERM)?;
        Ok(Ending { process, connection: connection.clone(), limits: kernel.state.limits.clone() })
    }

    fn finish(self, home: &Home, id: &str, grace: Duration) -> Result<End> {
        let mut end = End::Asked;
        if !self.process.ended(grace) {
            end = End::Killed;
            self.process.signal(Signal::KILL)?;
            if !self.process.ended(BURIAL) {
                return Err(Error::new(
                    Class::Timeout,
                    format!("kernel {id}: the process {} does not end, killed as it is", self.process.pid),
                )
                .hint("It waits for a device; only that can let it go."));
            }
        }
        leave_nothing(&self.process.stat, self.process.pid);
        sweep(self.limits.as_ref());
        clear(home, id, &self.connection);
        Ok(end)
    }
}

/// Kills what a kernel that led a session of its own left running in it.
pub(super) fn leave_nothing(stat: &Stat, pid: i32) {
    if stat.session != pid {
        return;
    }
    let Ok(entries) = fs::read_dir("/proc") else { return };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for left in pids.filter(|left| *left > 1 && *left != pid) {
        let ours = |stat: Stat| stat.session == pid && stat.lives() && stat.start_ticks >= 1;
        // Opened first, looked at then. The number of a session is not given out again while it has members.
        if Stat::of(left).is_some_and(ours)
            && let Ok(process) = Process::child(left)
            && ours(process.stat)
        {
            let _ = process.signal(Signal::KILL);
        }
    }
}

/// Removes what a kernel left behind that could not do it itself, unless a successor has it.
pub(super) fn clear(home: &Home, id: &str, connection: &Connection) {
    let Ok(_pid_file) = PidFile::acquire(&home.pid_file(id)) else { return };
    let file = home.connection_file(id);
    let same = |found: Connection| found.pid == connection.pid && found.started == connection.started;
    if Connection::read(&file).is_ok_and(same) {
        let _ = fs::remove_file(&file);
        for socket in Channel::ALL.iter().filter_map(|channel| connection.socket_file(*channel)) {
            let _ = fs::remove_file(socket);
        }
    }
}

/// The words for a kernel whose end is `known` to the system, or not.
pub(super) fn cause(known: Option<String>, kernel: &Kernel) -> String {
    match known {
        known if out_of_memory(kernel.state.limits.as_ref()) => {
            format!("out of memory ({})", known.as_deref().unwrap_or("killed by the system"))
        }
        Some(known) => known,
        // A kernel that ends in good order takes its files with it.
        None if kernel.connection.is_none() => "ended by itself".into(),
        None => "crashed or killed; the system does not say how".into(),
    }
}
