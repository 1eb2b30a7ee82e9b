//! Programs that tools run: never through a shell, in a process group of their own that ends with the call, with the
//! environment the policy shows, and only so much output kept.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, prlimit};

use super::Call;
use crate::error::{Class, Error, Result};

/// Time to end by itself once asked to.
const GRACE: Duration = Duration::from_millis(500);
/// Read at once.
const CHUNK: usize = 32 << 10;

/// What is run.
pub struct Program {
    /// For messages.
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    folder: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    most: usize,
    memory: Option<u64>,
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Finished {
    /// The exit status, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote, as much as is kept.
    pub stdout: Vec<u8>,
    /// As `stdout`.
    pub stderr: Vec<u8>,
    /// Whether there was more than is kept.
    pub truncated: bool,
    /// How long it ran.
    pub took: Duration,
}

/// Where a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl Program {
    /// The program called `name` (found in PATH) or at a path, if the policy allows to run it.
    ///
    /// # Errors
    /// `Denied`, `NotFound`.
    pub fn new(name: &str, call: &Call) -> Result<Self> {
        let path = call.policy.check_run(name)?;
        let environment = std::env::vars_os();
        let seen = |name: &OsString| name.to_str().is_some_and(|name| call.policy.check_env(name).is_ok());
        Ok(Program {
            name: name.to_owned(),
            path,
            arguments: Vec::new(),
            folder: None,
            environment: environment.filter(|(name, _)| seen(name)).collect(),
            input: Vec::new(),
            most: 1 << 20,
            memory: None,
        })
    }

    /// More arguments, each as it stands.
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Runs it in `folder`, if the policy allows to read that; without it, in the folder of the call.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Usage` when it is no folder.
    pub fn in_folder(mut self, folder: &str, call: &Call) -> Result<Self> {
        let real = call.readable(folder)?;
        if !real.is_dir() {
            return Err(Error::new(Class::Usage, format!("{folder}: not a folder")));
        }
        self.folder = Some(real);
        Ok(self)
    }

    /// Sets a variable of its environment, if the policy shows variables of that name.
    ///
    /// # Errors
    /// `Denied`, `Usage` for what no variable can be.
    pub fn env(mut self, name: &str, value: &str, call: &Call) -> Result<Self> {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Error::new(Class::Usage, format!("environment: {name:?} cannot be set")));
        }
        call.policy.check_env(name)?;
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
        Ok(self)
    }

    /// What it reads from its standard input; empty without it.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Bytes that are kept of each stream; 1 MiB without it. The rest is read and dropped.
    pub fn keep(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// Most memory it may map, bytes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Runs it to its end. A status that is not 0 is no error here.
    ///
    /// # Errors
    /// What keeps it from starting; `Timeout`, `Interrupted` when the call ends first: then it was killed with all it
    /// started.
    pub fn run(self, call: &Call) -> Result<Finished> {
        self.watch(call, &mut |_, _| {})
    }

    /// As [`Program::run`]; `seen` gets all output as it comes.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn watch(self, call: &Call, seen: &mut dyn FnMut(From, &[u8])) -> Result<Finished> {
        call.check()?;
        let started = Instant::now();
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.as_deref().unwrap_or(&call.cwd)).process_group(0);
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let fault = |error| Error::system(format!("program {}", self.name), error);
        let mut group = Group { child: command.spawn().map_err(fault)?, ended: false };
        if let Some(bytes) = self.memory {
            let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
            prlimit(Some(group.id()), Resource::As, limit).map_err(|e| fault(e.into()))?;
        }
        let mut finished = Finished::default();
        let watched = follow(&mut group, &self, call, &mut finished, seen);
        let over = call.check();
        // Whatever is left of the group: nothing outlives the call.
        let status = group.end(watched.is_err()).map_err(fault)?;
        finished.took = started.elapsed();
        match (watched, over) {
            (Ok(()), _) => {}
            (Err(_), Err(over)) => return Err(over.within(format!("program {}: killed", self.name))),
            (Err(error), Ok(())) => return Err(fault(error)),
        }
        finished.code = status.code();
        finished.signal = status.signal();
        Ok(finished)
    }
}

/// A child and the group it leads; killed when dropped.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Ends what is left of the group, politely if the child itself still runs and `ask`, and collects the child.
    fn end(&mut self, ask: bool) -> io::Result<std::process::ExitStatus> {
        if ask && kill_process_group(self.id(), Signal::TERM).is_ok() {
            let pidfd = pidfd_open(self.id(), PidfdFlags::empty())?;
            // The call is over: nothing but the clock ends this wait.
            let never = super::Cancel::default();
            never.poll(&[(pidfd.as_fd(), PollFlags::IN)], Some(Instant::now() + GRACE))?;
        }
        // Not collected yet, so that its number still stands for this group.
        kill_process_group(self.id(), Signal::KILL).ok();
        self.ended = true;
        self.child.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            self.end(false).ok();
        }
    }
}

/// Feeds and drains the child until it has ended; an error when the call ends first.
fn follow(
    group: &mut Group,
    program: &Program,
    call: &Call,
    finished: &mut Finished,
    seen: &mut dyn FnMut(From, &[u8]),
) -> io::Result<()> {
    let pidfd = pidfd_open(group.id(), PidfdFlags::empty())?;
    let mut stdin = group.child.stdin.take();
    let mut stdout = group.child.stdout.take().map(|pipe| std::fs::File::from(OwnedFd::from(pipe)));
    let mut stderr = group.child.stderr.take().map(|pipe| std::fs::File::from(OwnedFd::from(pipe)));
    for fd in [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)] {
        fd.map_or(Ok(()), |fd| rustix::io::ioctl_fionbio(fd, true))?;
    }
    let mut input = &program.input[..];
    let mut buffer = vec![0; CHUNK];
    let mut exited = false;
    while !exited {
        call.check().map_err(io::Error::other)?;
        {
            let reads =
                [stdout.as_ref(), stderr.as_ref()].into_iter().flatten().map(|pipe| (pipe.as_fd(), PollFlags::IN));
            let writes = stdin.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::OUT));
            let child: (BorrowedFd<'_>, _) = (pidfd.as_fd(), PollFlags::IN);
            let fds: Vec<_> = [child].into_iter().chain(reads).chain(writes).collect();
            exited = !call.cancel.poll(&fds, call.deadline)?[0].is_empty();
        }
        if exited {
            // What it left in the background may write for ever.
            kill_process_group(group.id(), Signal::KILL).ok();
        }
        if let Some(pipe) = &mut stdin {
            match pipe.write(&input[..input.len().min(CHUNK)]) {
                Ok(count) => input = &input[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It does not want more.
                Err(_) => input = &[],
            }
            if input.is_empty() {
                stdin = None;
            }
        }
        for (pipe, from) in [(&mut stdout, From::Stdout), (&mut stderr, From::Stderr)] {
            while let Some(open) = pipe {
                match open.read(&mut buffer) {
                    Ok(0) => *pipe = None,
                    Ok(count) => {
                        seen(from, &buffer[..count]);
                        let kept = if from == From::Stdout { &mut finished.stdout } else { &mut finished.stderr };
                        let room = program.most.saturating_sub(kept.len()).min(count);
                        kept.extend_from_slice(&buffer[..room]);
                        finished.truncated |= room < count;
                        // One that never stops writing must not keep us from looking up.
                        if !exited {
                            break;
                        }
                        call.check().map_err(io::Error::other)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => *pipe = None,
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::security::{Grants, Policy, Profile};

    fn call(run: &[&str]) -> Call {
        let run = run.iter().map(|name| (*name).to_owned()).collect();
        let workdir = std::env::temp_dir();
        Call::new(Arc::new(Policy::new(Grants { profile: Profile::Standard, workdir, run, ..Grants::default() })))
    }

    fn sh(call: &Call, script: &str) -> Program {
        Program::new("sh", call).unwrap().args(["-c", script])
    }

    #[test]
    fn programs_run_with_input_output_and_status() {
        let call = call(&["sh"]);
        assert_eq!(Program::new("cat", &call).err().map(|error| error.class()), Some(Class::Denied));
        let done = sh(&call, "cat; echo wrong >&2; exit 3").input("in").run(&call).unwrap();
        assert_eq!((done.code, &done.stdout[..], &done.stderr[..]), (Some(3), &b"in"[..], &b"wrong\n"[..]));
        assert_eq!(sh(&call, "kill -TERM $$").run(&call).unwrap().signal, Some(15));
        // More than pipes hold, both ways at once.
        let much = vec![b'x'; 1 << 20];
        let done = sh(&call, "cat").input(much.clone()).keep(1 << 21).run(&call).unwrap();
        assert!(done.stdout == much && !done.truncated);
        let done = sh(&call, "cat").input(much).keep(1000).run(&call).unwrap();
        assert!(done.stdout.len() == 1000 && done.truncated);
        // One that does not read its input.
        assert_eq!(sh(&call, "exec 0<&-; exit 4").input(vec![0; 1 << 20]).run(&call).unwrap().code, Some(4));
    }

    /// Waits until the process whose number `text` is has ended.
    fn gone(text: &[u8]) {
        let pid = std::str::from_utf8(text).unwrap().trim().parse().ok().and_then(Pid::from_raw).unwrap();
        if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
            let limit = Some(Instant::now() + Duration::from_secs(20));
            let ready = crate::tools::Cancel::default().poll(&[(pidfd.as_fd(), PollFlags::IN)], limit).unwrap();
            assert!(!ready[0].is_empty(), "{pid:?} still runs");
        }
    }

    #[test]
    fn nothing_outlives_the_call() {
        let mut limited = call(&["sh"]);
        limited.deadline = Some(Instant::now() + Duration::from_millis(300));
        let mut seen = Vec::new();
        let mut keep = |_, text: &[u8]| seen.extend_from_slice(text);
        let error = sh(&limited, "sleep 100 & echo $!; sleep 100").watch(&limited, &mut keep).unwrap_err();
        assert_eq!(error.class(), Class::Timeout, "{error}");
        gone(&seen);
        let call = call(&["sh"]);
        let cancel = call.cancel.clone();
        let mut seen = Vec::new();
        let mut keep = |_, text: &[u8]| {
            seen.extend_from_slice(text);
            cancel.cancel();
        };
        let error = sh(&call, "trap '' TERM; sleep 100 & echo $!; sleep 100").watch(&call, &mut keep).unwrap_err();
        assert_eq!(error.class(), Class::Interrupted, "{error}");
        gone(&seen);
        // What a program leaves in the background ends with it, and does not hold up its pipes.
        let fresh = Call::new(Arc::clone(&call.policy));
        gone(&sh(&fresh, "sleep 100 & echo $!").run(&fresh).unwrap().stdout);
    }

    #[test]
    fn the_environment_is_what_the_policy_shows() {
        let call = call(&["sh"]);
        let denied = Program::new("sh", &call).unwrap().env("LD_PRELOAD", "x", &call).err();
        assert_eq!(denied.map(|error| error.class()), Some(Class::Denied));
        let done = sh(&call, "echo $LANG; env | grep -c CARGO").env("LANG", "xx", &call).unwrap().run(&call).unwrap();
        assert_eq!(done.stdout, b"xx\n0\n");
        let done = sh(&call, "pwd").in_folder("/tmp", &call).unwrap().memory(1 << 30).run(&call).unwrap();
        assert_eq!(done.stdout, b"/tmp\n");
        assert_eq!(
            Program::new("sh", &call).unwrap().in_folder("/etc", &call).err().map(|e| e.class()),
            Some(Class::Denied)
        );
    }
}
