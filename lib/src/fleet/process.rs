//! Which process is meant: its number, when it started, in which boot and in which PID name space. A signal goes
//! through a pidfd that was opened first and checked then, so that it never meets a stranger.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Class, Error, Result};
use crate::protocol::connection::{Connection, pid_namespace};

/// What is the same for all processes here: read once.
#[derive(Clone, Debug)]
pub struct Here {
    /// Boot id.
    pub boot: String,
    /// PID name space.
    pub pid_namespace: Option<u64>,
    /// Name of this machine.
    pub host: String,
    ticks_per_second: u64,
}

/// What `/proc/PID/stat` tells.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// `R`, `S`, `T`, `Z` and so on.
    pub state: char,
    /// Its session.
    pub session: i32,
    /// User and system time, clock ticks.
    pub cpu_ticks: u64,
    /// Threads.
    pub threads: u64,
    /// Start, clock ticks after boot.
    pub start_ticks: u64,
    /// Resident memory, pages.
    pub pages: u64,
    /// Wait status; of a zombie only.
    pub status: i32,
}

impl Stat {
    /// Of the process `pid`; nothing when there is none.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        // It comes whole with the first read.
        let mut buffer = [0; 2048];
        let length = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut buffer)).ok()?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        // The command's name may hold blanks and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Field 3 of proc(5) is the first here.
        let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
        Some(Stat {
            state: fields.first()?.chars().next()?,
            session: fields.get(3)?.parse().ok()?,
            cpu_ticks: number(14)? + number(15)?,
            threads: number(20)?,
            start_ticks: number(22)?,
            pages: number(24)?,
            status: number(52).unwrap_or(0) as i32,
        })
    }

    /// Whether it still runs: a process that only waits to be buried does not.
    #[must_use]
    pub fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// What became of the process a connection file tells of.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It runs.
    Alive(Stat),
    /// It does not; why we think so.
    Dead(String),
    /// It cannot be judged from here, and is never signalled.
    Foreign(String),
}

impl Here {
    /// This machine.
    #[must_use]
    pub fn find() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Here {
            boot: read("/proc/sys/kernel/random/boot_id"),
            pid_namespace: pid_namespace(),
            host: read("/proc/sys/kernel/hostname"),
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
        }
    }

    /// What became of the process that wrote `connection`.
    #[must_use]
    pub fn standing(&self, connection: &Connection) -> Standing {
        let Some(pid) = connection.pid else {
            return Standing::Foreign("its connection file names no process".into());
        };
        if pid <= 1 && connection.process().is_none() {
            return Standing::Dead(format!("its connection file names the process {pid}, which no kernel is"));
        }
        let text = |key: &str| connection.rest.get(key).and_then(serde_json::Value::as_str);
        if let Some(host) = text("host").filter(|host| *host != self.host) {
            return Standing::Foreign(format!("runs on the machine {host}"));
        }
        let started = connection.started.as_deref().and_then(|started| started.rsplit_once('/'));
        if started.is_some_and(|(boot, _)| boot != self.boot) && !connection.is_contained() {
            return Standing::Dead("the machine was started anew since".into());
        }
        if connection.pid_namespace.is_some_and(|namespace| self.pid_namespace.is_some_and(|ours| ours != namespace)) {
            return Standing::Foreign("runs in another PID name space, a container for one".into());
        }
        match Stat::of(pid) {
            None => Standing::Dead(format!("the process {pid} is gone")),
            Some(stat) if !stat.lives() => Standing::Dead(ended_as(stat.status)),
            Some(stat) => match started {
                Some((_, ticks)) if ticks.parse() == Ok(stat.start_ticks) => Standing::Alive(stat),
                _ => Standing::Dead(format!("the process {pid} is another one now")),
            },
        }
    }

    /// How long a process that started at `ticks` runs.
    #[must_use]
    pub fn age(&self, ticks: u64) -> Duration {
        let now = boot_time();
        let start = Duration::from_millis(ticks.saturating_mul(1000) / self.ticks_per_second);
        now.saturating_sub(start)
    }

    /// Clock ticks as seconds.
    #[must_use]
    pub fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_per_second as f64
    }
}

/// Time since boot, sleep included: a clock nobody sets.
#[must_use]
pub(super) fn boot_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// A wait status in words: `exit status 3`, `signal 9 (KILL)`.
#[must_use]
pub(super) fn ended_as(status: i32) -> String {
    let signal = status & 0x7f;
    match signal {
        0 => format!("exit status {}", (status >> 8) & 0xff),
        _ => match signal_name(signal) {
            Some(name) => format!("signal {signal} ({name})"),
            None => format!("signal {signal}"),
        },
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    let names = [
        (1, "HUP"),
        (2, "INT"),
        (3, "QUIT"),
        (4, "ILL"),
        (6, "ABRT"),
        (7, "BUS"),
        (8, "FPE"),
        (9, "KILL"),
        (11, "SEGV"),
        (13, "PIPE"),
        (15, "TERM"),
    ];
    names.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name)
}

/// A process of ours that ran when it was opened, and that no other can be taken for.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// What it was when it was opened.
    pub stat: Stat,
    fd: OwnedFd,
}

impl Process {
    /// The process that wrote `connection`.
    ///
    /// # Errors
    /// `NotFound` when it does not run, `Denied` when it cannot be judged from here.
    pub fn open(here: &Here, connection: &Connection) -> Result<Self> {
        let pid = connection.pid.unwrap_or(0);
        let fd = open(pid);
        // Only now: what is checked is what the descriptor holds.
        match (here.standing(connection), fd) {
            (Standing::Alive(stat), Ok(fd)) => Ok(Process { pid, stat, fd }),
            (Standing::Alive(_), Err(error)) => Err(error),
            (Standing::Dead(why), _) => Err(Error::new(Class::NotFound, format!("not running: {why}"))),
            (Standing::Foreign(why), _) => {
                Err(Error::new(Class::Denied, why).hint("Only what runs here can be signalled: do it there."))
            }
        }
    }

    /// A child that was not waited for, which no other can be.
    ///
    /// # Errors
    /// What the system said.
    pub fn child(pid: i32) -> Result<Self> {
        let fd = open(pid)?;
        let stat = Stat::of(pid).ok_or_else(|| Error::new(Class::NotFound, format!("process {pid}: not running")))?;
        Ok(Process { pid, stat, fd })
    }

    /// Sends it a signal; that it is gone is no error.
    ///
    /// # Errors
    /// `Denied` for another user's.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::system(format!("process {}", self.pid), error.into())),
        }
    }

    /// Waits for its end; false when `limit` is over first.
    #[must_use]
    pub fn ended(&self, limit: Duration) -> bool {
        wait_any(&[self.fd.as_fd()], limit)
    }

    /// Readable once it ended.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How it ended, where the system still knows: of a zombie, and since Linux 6.15 of what was buried.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        let stat = Stat::of(self.pid).filter(|stat| stat.start_ticks == self.stat.start_ticks && !stat.lives());
        stat.map(|stat| stat.status).or_else(|| super::sys::exit_status(self.fd.as_fd())).map(ended_as)
    }
}

fn open(pid: i32) -> Result<OwnedFd> {
    // 0 and less mean whole groups of processes, and 1 is everybody's.
    let Some(known) = Some(pid).filter(|pid| *pid > 1).and_then(Pid::from_raw) else {
        return Err(Error::new(Class::Denied, format!("process {pid}: is never signalled")));
    };
    pidfd_open(known, PidfdFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::SRCH => Error::new(Class::NotFound, format!("process {pid}: not running")),
        error => Error::system(format!("process {pid}"), error.into()),
    })
}

/// Waits until one of `fds` is readable, at most `limit`; whether one is.
pub(super) fn wait_any(fds: &[BorrowedFd<'_>], limit: Duration) -> bool {
    let until = Instant::now() + limit;
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// `duration` for a system call.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().min(i64::MAX as u64) as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::protocol::connection::{Transport, started};

    fn connection(pid: i32) -> Connection {
        let mut connection = Connection::new(Transport::Tcp, "127.0.0.1".into(), [1, 2, 3, 4, 5]);
        connection.pid = Some(pid);
        connection.started = started(pid);
        connection
    }

    #[test]
    fn only_the_very_process_is_alive() {
        let here = Here::find();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let file = connection(pid);
        let process = Process::open(&here, &file).unwrap();
        assert!(matches!(here.standing(&file), Standing::Alive(stat) if stat.lives()));
        for (started, what) in [
            (format!("{}/1", here.boot), "another one now"),
            (file.started.clone().unwrap().replace(&here.boot, "other"), "started anew"),
        ] {
            let other = Connection { started: Some(started), ..file.clone() };
            assert!(matches!(here.standing(&other), Standing::Dead(why) if why.contains(what)));
            assert_eq!(Process::open(&here, &other).unwrap_err().class(), Class::NotFound);
        }
        let mut elsewhere = file.clone();
        elsewhere.pid_namespace = Some(1);
        assert_eq!(Process::open(&here, &elsewhere).unwrap_err().class(), Class::Denied);
        elsewhere.pid_namespace = None;
        elsewhere.rest = serde_json::Map::from_iter([("host".to_owned(), "nowhere".into())]);
        assert_eq!(Process::open(&here, &elsewhere).unwrap_err().class(), Class::Denied);

        assert!(!process.ended(Duration::ZERO));
        process.signal(Signal::KILL).unwrap();
        assert!(process.ended(Duration::from_secs(10)));
        // A zombie, as nobody waited for it.
        assert!(matches!(here.standing(&file), Standing::Dead(why) if why == "signal 9 (KILL)"));
        assert_eq!(process.cause().unwrap(), "signal 9 (KILL)");
        child.wait().unwrap();
        process.signal(Signal::KILL).unwrap();
        assert!(matches!(here.standing(&file), Standing::Dead(why) if why.contains("is gone")));
    }

    #[test]
    fn the_numbers_that_mean_many_are_refused() {
        let here = Here::find();
        for pid in [-1, 0, 1] {
            assert_eq!(open(pid).unwrap_err().class(), Class::Denied);
            assert!(Process::open(&here, &connection(pid)).is_err());
        }
        assert_eq!(open(i32::MAX).unwrap_err().class(), Class::NotFound);
    }

    #[test]
    fn ends_have_words() {
        assert_eq!(
            [ended_as(0), ended_as(3 << 8), ended_as(9), ended_as(0x80 | 11), ended_as(64)],
            ["exit status 0", "exit status 3", "signal 9 (KILL)", "signal 11 (SEGV)", "signal 64"]
        );
    }
}
