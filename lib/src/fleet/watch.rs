//! The optional supervisor: it starts kernels again as their policy says, when they end and when they stop answering.
//! It waits for what happens (processes that end, files that change, times that come) and never looks round by itself.
//! A kernel neither needs nor notices it: a watch that is killed and started again takes over what runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::backoff::{Backoff, chance};
use super::launch::Launch;
use super::process::{Here, Process, Stat, boot_time, ended_as, timespec};
use super::stop;
use super::survey::{Condition, Kernel, survey};
use super::wanted::{Claim, Policy, State, Wanted, changes, drain, is_unwanted, now};
use crate::daemon::{Notify, PidFile, signal_fd};
use crate::error::{Class, Error, Result};
use crate::home::{self, Home};

/// So many rounds without an answer are enough.
const SILENT_ROUNDS: u32 = 3;
/// How long a kernel may take to be ready.
const START: Duration = Duration::from_secs(30);

/// How to watch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// When a kernel is started again.
    pub backoff: Backoff,
    /// How often kernels are asked how they are; zero: never.
    pub every: Duration,
    /// How long they may take to answer.
    pub limit: Duration,
}

/// What the watch did or saw.
#[derive(Clone, Debug)]
pub struct Event {
    /// The kernel; empty: the watch itself.
    pub id: String,
    /// `ready ended waiting started failed silent`.
    pub what: &'static str,
    /// In words.
    pub text: String,
}

/// Whether a watch runs for `home`.
#[must_use]
pub fn is_running(home: &Home) -> bool {
    let Ok(file) = fs::File::open(pid_file(home)) else { return false };
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()
}

fn pid_file(home: &Home) -> std::path::PathBuf {
    home.fleet_dir().join("watch.pid")
}

/// The PID file of the watch, which is one for each home.
fn only_one(home: &Home) -> Result<PidFile> {
    let path = pid_file(home);
    let first = PidFile::acquire(&path);
    let Err(error) = &first else { return first };
    let holder = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if error.class() == Class::Conflict
        && let Some(pid) = holder
        && !Stat::of(pid).is_some_and(|stat| stat.lives())
        && let Ok(file) = fs::File::open(&path)
    {
        // It was killed between the fork and the exec of a kernel, whose half holds the lock for a moment more.
        let _ = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive);
        drop(file);
        return PidFile::acquire(&path);
    }
    first.map_err(|error| match error.class() {
        Class::Conflict => Error::new(Class::Conflict, "another watch runs").source(error),
        _ => error,
    })
}

/// A unit of systemd for the watch of this user.
#[must_use]
pub fn unit(program: &std::path::Path, home: &Home) -> String {
    // A percent sign means something there, and a blank ends a word.
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"));
    format!(
        "[Unit]\nDescription=llmspell kernels: restarts and probes\nDocumentation=man:llmspell-fleet(1)\n\n\
         [Service]\nType=notify\nExecStart={} watch\nEnvironment={}\n\
         # The kernels go on when the watch is stopped or started again; it takes them over.\nKillMode=process\n\
         Restart=on-failure\n\n[Install]\nWantedBy=default.target\n",
        quoted(&program.display().to_string()),
        quoted(&format!("LLMSPELL_HOME={}", home.root().display())),
    )
}

/// A process that is watched.
struct Held {
    process: Process,
    /// Of those that were started here, whose end the system tells us in full.
    child: Option<Child>,
    kernel: Kernel,
    since: Instant,
    silent: u32,
    /// Why it was killed here.
    killed: Option<String>,
}

struct Starting {
    launch: Launch,
    _claim: Claim,
    wanted: Wanted,
    state: State,
    begun: Instant,
}

struct Watch<'a> {
    home: &'a Home,
    here: &'a Here,
    settings: Settings,
    held: BTreeMap<String, Held>,
    starting: Vec<Starting>,
    /// When to start what ended.
    due: BTreeMap<String, Instant>,
    round: Option<Round>,
    next_round: Option<Instant>,
    /// Something is to be looked at anew.
    stale: bool,
    on: &'a mut dyn FnMut(&Event),
}

/// Watches until SIGTERM or SIGINT.
///
/// # Errors
/// `Conflict` when another watch runs; `System`.
pub fn watch(home: &Home, here: &Here, settings: Settings, on: &mut dyn FnMut(&Event)) -> Result<()> {
    for dir in [home.root().to_owned(), home.kernel_dir(), home.wanted_dir()] {
        home::private_dir(&dir)?;
    }
    let _one = only_one(home)?;
    crate::daemon::raise_open_files();
    let stop = signal_fd(&[SIGTERM, SIGINT])?;
    let again = signal_fd(&[SIGHUP])?;
    let changes = changes(&[home.kernel_dir(), home.wanted_dir()])?;
    let held = BTreeMap::new();
    let mut watch = Watch {
        home,
        here,
        settings,
        held,
        starting: Vec::new(),
        due: BTreeMap::new(),
        round: None,
        next_round: None,
        stale: false,
        on,
    };
    watch.sync();
    let text = format!("watching {} kernels", watch.held.len());
    let manager = Notify::from_env();
    manager.say(&format!("READY=1\nSTATUS={text}"));
    watch.say("", "ready", text);
    loop {
        watch.attempt();
        watch.plan_round();
        let [stopping, changed, hangup] = watch.wait(&stop, &changes, &again)?;
        if stopping {
            manager.say("STOPPING=1");
            return Ok(());
        }
        watch.bury();
        watch.advance();
        watch.take_round();
        if changed {
            drain(&changes);
        }
        if hangup {
            let _ = rustix::io::read(&again, &mut [0; 64]);
        }
        if changed || hangup || std::mem::take(&mut watch.stale) {
            watch.sync();
            manager.say(&format!("STATUS=watching {} kernels", watch.held.len()));
        }
    }
}

impl Watch<'_> {
    fn say(&mut self, id: &str, what: &'static str, text: impl Into<String>) {
        (self.on)(&Event { id: id.to_owned(), what, text: text.into() });
    }

    /// Takes over what runs, and plans what should run.
    fn sync(&mut self) {
        let kernels = survey(self.home, self.here);
        let wanted = |kernel: &Kernel| {
            kernel.wanted.as_ref().is_some_and(|wanted| wanted.run && wanted.restart != Policy::Never)
        };
        let ids: Vec<&str> = kernels.iter().filter(|kernel| wanted(kernel)).map(|kernel| kernel.id.as_str()).collect();
        self.due.retain(|id, _| ids.contains(&id.as_str()));
        // A stop does not wait until what is on its way has arrived.
        self.starting.retain_mut(|one| {
            let unwanted = is_unwanted(self.home, &one.wanted.id);
            if unwanted {
                one.launch.give_up();
            }
            !unwanted
        });
        // A child is kept in any case, to be buried.
        self.held.retain(|id, held| held.child.is_some() || ids.contains(&id.as_str()));
        for kernel in kernels {
            if !wanted(&kernel) || self.starting.iter().any(|other| other.wanted.id == kernel.id) {
                continue;
            }
            match (&kernel.connection, kernel.stat) {
                (Some(connection), Some(stat)) => {
                    self.due.remove(&kernel.id);
                    let known = self.held.get(&kernel.id);
                    if known.is_some_and(|held| held.process.stat.start_ticks == stat.start_ticks) {
                        continue;
                    }
                    if let Ok(process) = Process::open(self.here, connection) {
                        let age = self.here.age(stat.start_ticks);
                        let since = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
                        let held = Held { process, child: None, kernel, since, silent: 0, killed: None };
                        self.held.insert(held.kernel.id.clone(), held);
                    }
                }
                _ => self.plan(&kernel),
            }
        }
    }

    /// One that should run and does not.
    fn plan(&mut self, kernel: &Kernel) {
        if self.due.contains_key(&kernel.id) || self.held.contains_key(&kernel.id) {
            return;
        }
        let always = kernel.wanted.as_ref().is_some_and(|wanted| wanted.restart == Policy::Always);
        match kernel.condition {
            Condition::Backoff | Condition::CrashLooping => {
                let wait = kernel.next_attempt(self.here).unwrap_or_default();
                self.due.insert(kernel.id.clone(), Instant::now() + wait);
            }
            Condition::Dead => self.ended(kernel, &kernel.reason, Duration::ZERO),
            Condition::Stopped if always => self.ended(kernel, &kernel.reason, Duration::ZERO),
            _ => {}
        }
    }

    /// Notes how a kernel ended and when it is started again.
    fn ended(&mut self, kernel: &Kernel, cause: &str, ran: Duration) {
        let rule = self.settings.backoff;
        let mut state = State::read(self.home, &kernel.id);
        state.failures = rule.count(state.failures, ran);
        state.crash_looping = rule.is_loop(state.failures);
        state.cause = Some(cause.to_owned());
        state.ended = now();
        let wait = rule.wait(state.failures, chance());
        let at = boot_time() + wait;
        state.next = Some((self.here.boot.clone(), at.as_millis() as u64));
        self.due.insert(kernel.id.clone(), Instant::now() + wait);
        if wait.is_zero() {
            self.say(&kernel.id, "ended", format!("ended: {cause}"));
        } else {
            let shown = crate::units::show_duration(Duration::from_millis(wait.as_millis() as u64));
            let many = if state.crash_looping { "; it is crash-looping" } else { "" };
            self.say(
                &kernel.id,
                "waiting",
                format!("ended: {cause}; {} in a row, next attempt in {shown}{many}", state.failures),
            );
            self.keep(&kernel.id, &state);
            return;
        }
        // Starting comes first; what is written then has all of it.
        self.keep(&kernel.id, &state);
    }

    fn keep(&mut self, id: &str, state: &State) {
        if let Err(error) = state.write(self.home, id) {
            self.say(id, "failed", format!("what happened could not be noted: {error}"));
        }
    }

    /// Sees to those whose process ended.
    fn bury(&mut self) {
        let gone: Vec<String> =
            self.held.iter().filter(|(_, held)| held.process.ended(Duration::ZERO)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            let Some(mut held) = self.held.remove(&id) else { continue };
            use std::os::unix::process::ExitStatusExt;
            let status = held.child.as_mut().and_then(|child| child.wait().ok()).map(ExitStatusExt::into_raw);
            let known = match status {
                Some(status) => Some(ended_as(status)),
                None => held.process.cause(),
            };
            // Whoever stops or restarts it has the claim, and sees to it; unless it is killed at it.
            let Ok(_claim) = Claim::take(self.home, &id) else {
                self.due.insert(id, Instant::now() + Duration::from_secs(1));
                continue;
            };
            stop::leave_nothing(&held.process.stat, held.process.pid);
            let kernel = Kernel::look(self.home, self.here, &id);
            let Some(wanted) = kernel.wanted.as_ref().filter(|wanted| wanted.run && kernel.stat.is_none()) else {
                continue;
            };
            // A kernel that ends in good order takes its files with it.
            let well = known.as_deref().map_or(kernel.connection.is_none(), |cause| cause == "exit status 0");
            let cause = match held.killed.take() {
                Some(why) => why,
                None => stop::cause(known, &kernel),
            };
            let again = match wanted.restart {
                Policy::Never => false,
                Policy::OnFailure => !well,
                Policy::Always => true,
            };
            if again {
                self.ended(&kernel, &cause, held.since.elapsed());
            } else {
                self.say(&id, "ended", format!("ended: {cause}; not started again, as it ended well"));
            }
        }
    }

    /// Starts those whose time has come.
    fn attempt(&mut self) {
        let now = Instant::now();
        let due: Vec<String> = self.due.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.due.remove(&id);
            // Whoever has it starts or stops it, or is killed at it.
            let Ok(claim) = Claim::take(self.home, &id) else {
                self.due.insert(id, now + Duration::from_secs(1));
                continue;
            };
            let kernel = Kernel::look(self.home, self.here, &id);
            let Some(wanted) = kernel.wanted.clone() else { continue };
            if !wanted.run || wanted.restart == Policy::Never || kernel.stat.is_some() {
                continue;
            }
            if wanted.config_changed() {
                self.say(&id, "started", "its configuration is another than when it was ordered");
            }
            super::restart::recover(self.home, &id);
            match Launch::start(self.home, &wanted) {
                Ok(launch) => {
                    let state = kernel.state.clone();
                    self.starting.push(Starting { launch, _claim: claim, wanted, state, begun: Instant::now() });
                }
                Err(error) => self.not_started(&kernel, &error, Duration::ZERO),
            }
        }
    }

    fn not_started(&mut self, kernel: &Kernel, error: &Error, took: Duration) {
        if kernel.stat.is_some() {
            // One that a watch before us had started has arrived meanwhile.
            self.stale = true;
            return;
        }
        if error.class() == Class::Conflict
            && let Some(connection) = &kernel.connection
        {
            // Somebody else has one of its ports now: better new ones than no kernel.
            stop::clear(self.home, &kernel.id, connection);
        }
        self.ended(kernel, &error.to_string(), took);
    }

    /// Sees to those that are being started.
    fn advance(&mut self) {
        let mut index = 0;
        while let Some(one) = self.starting.get_mut(index) {
            let outcome = match one.launch.advance() {
                None if one.begun.elapsed() >= START => {
                    one.launch.give_up();
                    Err(Error::new(Class::Timeout, "not ready in time"))
                }
                None => {
                    index += 1;
                    continue;
                }
                Some(outcome) => outcome,
            };
            let Starting { launch, wanted, mut state, begun, _claim } = self.starting.swap_remove(index);
            let id = wanted.id;
            let kernel = Kernel::look(self.home, self.here, &id);
            let ready = match outcome {
                Ok(ready) => ready,
                Err(error) => {
                    self.not_started(&kernel, &error, begun.elapsed());
                    continue;
                }
            };
            state.restarts += 1;
            (state.next, state.ready, state.limits) = (None, now(), launch.enforced.clone());
            self.keep(&id, &state);
            match Process::child(ready.pid) {
                Ok(process) => {
                    let run = kernel.wanted.as_ref().is_some_and(|wanted| wanted.run);
                    if !run {
                        let _ = process.signal(Signal::TERM);
                    }
                    let text = format!("started again with PID {} in {} ms", ready.pid, begun.elapsed().as_millis());
                    let child = Some(launch.into_child());
                    let held = Held { process, child, kernel, since: begun, silent: 0, killed: None };
                    self.held.insert(id.clone(), held);
                    self.say(&id, "started", text);
                }
                // It ended in between; what is left of it is found.
                Err(_) => self.ended(&kernel, "ended as soon as it was ready", begun.elapsed()),
            }
        }
    }

    /// Waits for whatever happens next.
    fn wait(&self, stop: &OwnedFd, changes: &OwnedFd, again: &OwnedFd) -> Result<[bool; 3]> {
        let deadlines = self.due.values().copied();
        let deadlines = deadlines.chain(self.starting.iter().map(|one| one.begun + START));
        let next = deadlines.chain(self.next_round).min();
        let left = next.map(|next| timespec(next.saturating_duration_since(Instant::now())));
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds: Vec<PollFd<'_>> = [stop.as_fd(), changes.as_fd(), again.as_fd()].map(readable).into();
        fds.extend(self.held.values().map(|held| readable(held.process.fd())));
        fds.extend(self.starting.iter().map(|one| readable(one.launch.fd())));
        fds.extend(self.round.iter().map(|round| readable(round.stdout.as_fd())));
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => Ok([0, 1, 2].map(|at: usize| !fds[at].revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok([false; 3]),
            Err(error) => Err(Error::system("poll", error.into())),
        }
    }

    /// Starts asking, or says when.
    fn plan_round(&mut self) {
        if self.settings.every.is_zero() || self.held.is_empty() || self.round.is_some() {
            self.next_round = None;
            return;
        }
        let now = Instant::now();
        match self.next_round {
            None => self.next_round = Some(now + self.settings.every),
            Some(at) if at > now => {}
            Some(_) => {
                self.next_round = None;
                match Round::start(self.home, self.settings.limit) {
                    Ok(round) => self.round = Some(round),
                    Err(error) => self.say("", "failed", format!("kernels cannot be asked how they are: {error}")),
                }
            }
        }
    }

    /// Takes the answers once they are all there.
    fn take_round(&mut self) {
        let Some(text) = self.round.as_mut().and_then(Round::finished) else { return };
        self.round = None;
        let document: Value = serde_json::from_slice(&text).unwrap_or_default();
        for row in document["kernels"].as_array().into_iter().flatten() {
            let (id, state) = (row["id"].as_str().unwrap_or_default(), row["state"].as_str().unwrap_or_default());
            let Some(held) = self.held.get_mut(id).filter(|held| row["pid"] == held.process.pid) else { continue };
            let silent = row["channels"]["control"] == false && matches!(state, "unhealthy" | "degraded");
            held.silent = if silent { held.silent + 1 } else { 0 };
            if held.silent >= SILENT_ROUNDS && held.killed.is_none() {
                let why = format!(
                    "killed, as it did not answer {SILENT_ROUNDS} times in a row ({})",
                    row["reason"].as_str().unwrap_or(state)
                );
                let _ = held.process.signal(Signal::KILL);
                held.killed = Some(why.clone());
                let id = id.to_owned();
                self.say(&id, "silent", why);
            }
        }
    }
}

/// All kernels are being asked how they are: by a process of its own, so that nothing of it stays here.
struct Round {
    child: Child,
    stdout: ChildStdout,
    text: Vec<u8>,
}

impl Round {
    fn start(home: &Home, limit: Duration) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Error::system("this program", e))?;
        let mut child = Command::new(&program)
            .args(["health", "--json", "--quiet", "--timeout", &crate::units::show_duration(limit)])
            .env("LLMSPELL_HOME", home.root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Error::system(program.display(), e))?;
        let stdout = child.stdout.take().ok_or_else(|| Error::new(Class::Bug, "a child without output"))?;
        rustix::io::ioctl_fionbio(&stdout, true).map_err(|e| Error::system("pipe", e.into()))?;
        Ok(Round { child, stdout, text: Vec::new() })
    }

    /// What it printed, once it ended.
    fn finished(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stdout.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.text.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let _ = self.child.wait();
        Some(std::mem::take(&mut self.text))
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_quotes_what_it_must() {
        let text = unit(std::path::Path::new("/opt/a b/llmspell-fleet"), &Home::at("/home/50%/.llmspell"));
        assert!(text.contains("ExecStart=\"/opt/a b/llmspell-fleet\" watch\n"), "{text}");
        assert!(
            text.contains("Environment=\"LLMSPELL_HOME=/home/50%%/.llmspell\"\n") && text.contains("KillMode=process")
        );
    }
}
