//! `os.execute`: a shell command whose output goes where the script's goes; `io.popen`: one at the other end of a pipe. Both end
//! when the script is stopped, and see of the environment what the script may.

#![expect(unsafe_code, reason = "borrows the descriptor of a handle")]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, OsStr};
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mlua::{AnyUserData, IntoLuaMulti, Lua, MultiValue};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::fault::Fault;
use super::file;
use super::run::{self, Run};
use super::stdlib;
use super::wait::{self, Queue};
use crate::engine::{Output, Stream};
use crate::error::{Class, Error, Result};

/// How long output of a command that has ended may trail behind: what it left in the background may hold the pipe for ever.
const TRAIL: Duration = Duration::from_millis(100);

/// The shell, if scripts may run it.
pub(super) fn shell(run: &Run) -> Result<PathBuf> {
    run.runtime.policy.check_run("sh").map_err(|error| match (error.class(), error.next_step()) {
        (Class::Denied, None) => error.hint("Allow it with --allow-run=sh."),
        _ => error,
    })
}

/// What runs `command`, in a process group of its own.
fn command(run: &Run, command: &mlua::LuaString) -> Result<Command> {
    let mut shell = Command::new(shell(run)?);
    shell.arg("-c").arg(OsStr::from_bytes(&command.as_bytes())).current_dir(&run.cwd).process_group(0);
    let allowed = |name: &OsStr| name.to_str().is_some_and(|name| run.runtime.policy.check_env(name).is_ok());
    shell.env_clear().envs(std::env::vars_os().filter(|(name, _)| allowed(name)));
    Ok(shell)
}

thread_local! {
    /// Programs behind pipes of this thread's scripts, by the order of their start; each until its handle is closed, so that
    /// its number stands for no other process.
    static PIPED: RefCell<Vec<(u64, Pid, RawFd)>> = const { RefCell::new(Vec::new()) };
    static STARTED: Cell<u64> = const { Cell::new(0) };
}

/// `io.popen(command [, mode])`.
pub(super) fn popen(lua: &Lua, (text, mode): (mlua::LuaString, Option<String>)) -> Result<AnyUserData, Fault> {
    let run = stdlib::current()?;
    let mut command = command(&run, &text)?;
    let mode = match mode.as_deref() {
        None | Some("r") => c"r",
        Some("w") => c"w",
        _ => return Err(Error::new(Class::Usage, "bad argument #2 to 'popen' (invalid mode)").into()),
    };
    if mode == c"r" {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
    } else {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().map_err(|error| Error::system("sh", error))?;
    let pipe = child.stdout.take().map(OwnedFd::from).or_else(|| child.stdin.take().map(OwnedFd::from));
    let pipe = pipe.ok_or_else(|| Error::new(Class::Bug, "no pipe"))?;
    let id = Pid::from_child(&child);
    let number = pipe.as_raw_fd();
    let handle = file::piped(lua, pipe, mode, id.as_raw_pid());
    match handle {
        Ok(_) => {
            STARTED.set(STARTED.get() + 1);
            PIPED.with_borrow_mut(|piped| piped.push((STARTED.get(), id, number)));
        }
        Err(_) => {
            rustix::process::kill_process_group(id, Signal::KILL).ok();
            child.wait().ok();
        }
    }
    handle
}

/// How many programs were started behind pipes so far, for [`kill_since`].
pub(super) fn started() -> u64 {
    STARTED.get()
}

/// Kills the programs behind pipes that were started since, with all they started.
pub(super) fn kill_since(started: u64) {
    PIPED.with_borrow(|piped| {
        for (_, id, _) in piped.iter().filter(|(number, ..)| *number > started) {
            rustix::process::kill_process_group(*id, Signal::KILL).ok();
        }
    });
}

/// Makes the pipes that are still open take what they can and no more: nobody waits for their programs to read.
pub(super) fn let_go() {
    PIPED.with_borrow(|piped| {
        for (.., number) in piped {
            // SAFETY: its handle is open, or it would not be in the list.
            file::impatient(unsafe { BorrowedFd::borrow_raw(*number) });
        }
    });
}

/// Waits for a program behind a pipe; a script that is being stopped kills it. `exit` or `signal`, and the number.
pub(super) fn ended(child: libc::pid_t) -> (&'static CStr, i32) {
    let Some(id) = Pid::from_raw(child) else { return (c"exit", -1) };
    if Run::current().is_none() {
        // Collected between scripts: nobody asks, and nothing could end the wait.
        PIPED.with_borrow_mut(|piped| piped.retain(|(_, other, _)| *other != id));
        thread::spawn(move || rustix::process::waitpid(Some(id), WaitOptions::empty()));
        return (c"exit", 0);
    }
    let status = loop {
        if run::stopping() {
            rustix::process::kill_process_group(id, Signal::KILL).ok();
        }
        match rustix::process::waitpid(Some(id), WaitOptions::empty()) {
            Ok(Some((_, status))) => break Some(status),
            Err(Errno::INTR) | Ok(None) => {}
            Err(_) => break None,
        }
    };
    PIPED.with_borrow_mut(|piped| piped.retain(|(_, other, _)| *other != id));
    match status {
        Some(status) => match status.terminating_signal() {
            Some(signal) => (c"signal", signal),
            None => (c"exit", status.exit_status().unwrap_or_default()),
        },
        None => (c"exit", -1),
    }
}

/// `os.execute([command])`. The command's standard input is empty.
pub(super) fn execute(lua: &Lua, text: Option<mlua::LuaString>) -> Result<MultiValue, Fault> {
    let run = stdlib::current()?;
    let Some(text) = text else {
        return Ok(shell(&run).is_ok().into_lua_multi(lua)?);
    };
    let mut shell = command(&run, &text)?;
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = Arc::clone(&run.output);
    let status = wait::wait(lua, &run, move |queue| start(&mut shell, &output, queue))??;
    let (kind, code) = match status.signal() {
        Some(signal) => ("signal", signal),
        None => ("exit", status.code().unwrap_or_default()),
    };
    Ok((status.success().then_some(true), kind, code).into_lua_multi(lua)?)
}

/// What the threads of a command know of each other.
#[derive(Default)]
struct Progress {
    /// The command itself has ended.
    exited: AtomicBool,
    /// How many wait for the script thread to take what they read.
    waiting: AtomicUsize,
}

/// Starts `command` with a thread for each stream and one that waits; answers how to kill it with all it started.
fn start(
    command: &mut Command,
    output: &Arc<dyn Output>,
    queue: Queue<Result<ExitStatus>>,
) -> Result<impl FnOnce() + use<>> {
    let mut child = command.spawn().map_err(|error| Error::system("sh", error))?;
    let (ended, streams) = channel();
    let progress = Arc::new(Progress::default());
    if let Some(stdout) = child.stdout.take() {
        pump(stdout, Stream::Stdout, output, queue.clone(), &progress, ended.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        pump(stderr, Stream::Stderr, output, queue.clone(), &progress, ended);
    }
    let id = Pid::from_child(&child);
    // Empty once the child was reaped and its number may stand for another process.
    let child = Arc::new(Mutex::new(Some(child)));
    let reaped = Arc::clone(&child);
    thread::spawn(move || {
        while rustix::process::waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .is_err_and(|e| e == Errno::INTR)
        {}
        progress.exited.store(true, Ordering::Release);
        for _ in 0..2 {
            while streams.recv_timeout(TRAIL) == Err(RecvTimeoutError::Timeout) {
                if progress.waiting.load(Ordering::Acquire) == 0 {
                    break;
                }
            }
        }
        let child = lock(&reaped).take();
        let status =
            child.map_or_else(|| Err(std::io::Error::from_raw_os_error(libc::ECHILD)), |mut child| child.wait());
        queue.done(status.map_err(|error| Error::system("sh", error)));
    });
    Ok(move || {
        if lock(&child).is_some() {
            rustix::process::kill_process_group(id, Signal::KILL).ok();
        }
    })
}

fn lock(child: &Mutex<Option<Child>>) -> std::sync::MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has what comes out of `pipe` written on the script thread, no faster than that takes it. Once the command has ended, only
/// what the pipe could hold by then; what it left in the background writes into the void.
fn pump(
    mut pipe: impl Read + Send + 'static,
    stream: Stream,
    output: &Arc<dyn Output>,
    queue: Queue<Result<ExitStatus>>,
    progress: &Arc<Progress>,
    ended: Sender<()>,
) {
    /// Read at once.
    const CHUNK: usize = 8 << 10;
    /// What a pipe holds on Linux, which is more than elsewhere, and what was in hand when the command ended.
    const HELD: usize = (64 << 10) + CHUNK;
    let (output, progress) = (Arc::clone(output), Arc::clone(progress));
    thread::spawn(move || {
        let (mut buffer, mut left) = ([0; CHUNK], HELD);
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            if progress.exited.load(Ordering::Acquire) {
                left = left.saturating_sub(count);
            }
            let (writer, bytes) = (Arc::clone(&output), buffer[..count].to_vec());
            progress.waiting.fetch_add(1, Ordering::AcqRel);
            let taken = queue.call(Box::new(move |_| Ok(writer.write(stream, &bytes)?)));
            progress.waiting.fetch_sub(1, Ordering::AcqRel);
            if !taken || left == 0 {
                break;
            }
        }
        ended.send(()).ok();
        drop((queue, output));
        std::io::copy(&mut pipe, &mut std::io::sink()).ok();
    });
}
