//! `os.execute`: a shell command whose output goes where the script's goes, and which ends when the script is stopped.

use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mlua::{IntoLuaMulti, Lua, MultiValue};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::fault::Fault;
use super::run::Run;
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

/// `command` for a shell that starts elsewhere.
pub(super) fn from_folder(folder: &Path, command: &[u8]) -> Vec<u8> {
    let mut text = b"cd '".to_vec();
    for byte in folder.as_os_str().as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            byte => text.push(*byte),
        }
    }
    text.extend_from_slice(b"' || exit\n");
    text.extend_from_slice(command);
    text
}

/// `os.execute([command])`. The command's standard input is empty.
pub(super) fn execute(lua: &Lua, command: Option<mlua::LuaString>) -> Result<MultiValue, Fault> {
    let run = stdlib::current()?;
    let Some(command) = command else {
        return Ok(shell(&run).is_ok().into_lua_multi(lua)?);
    };
    let mut shell = Command::new(shell(&run)?);
    let command = std::ffi::OsString::from_vec(command.as_bytes().to_vec());
    shell.arg("-c").arg(command).current_dir(&run.cwd).process_group(0);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = Arc::clone(&run.output);
    let status = wait::wait(lua, &run, move |queue| start(&mut shell, &output, queue))??;
    let (kind, code) = match status.signal() {
        Some(signal) => ("signal", signal),
        None => ("exit", status.code().unwrap_or_default()),
    };
    Ok((status.success().then_some(true), kind, code).into_lua_multi(lua)?)
}

/// Starts `command` with a thread for each stream and one that waits; answers how to kill it with all it started.
fn start(
    command: &mut Command,
    output: &Arc<dyn Output>,
    queue: Queue<Result<ExitStatus>>,
) -> Result<impl FnOnce() + use<>> {
    let mut child = command.spawn().map_err(|error| Error::system("sh", error))?;
    let (ended, streams) = channel();
    if let Some(stdout) = child.stdout.take() {
        pump(stdout, Stream::Stdout, output, queue.clone(), ended.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        pump(stderr, Stream::Stderr, output, queue.clone(), ended);
    }
    let id = Pid::from_child(&child);
    // Empty once the child was reaped and its number may stand for another process.
    let child = Arc::new(Mutex::new(Some(child)));
    let reaped = Arc::clone(&child);
    thread::spawn(move || {
        while rustix::process::waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .is_err_and(|e| e == rustix::io::Errno::INTR)
        {}
        for _ in 0..2 {
            if streams.recv_timeout(TRAIL).is_err() {
                break;
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

/// Has what comes out of `pipe` written on the script thread.
fn pump(
    mut pipe: impl Read + Send + 'static,
    stream: Stream,
    output: &Arc<dyn Output>,
    queue: Queue<Result<ExitStatus>>,
    ended: Sender<()>,
) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            let (output, bytes) = (Arc::clone(&output), buffer[..count].to_vec());
            queue.call(Box::new(move |_| Ok(output.write(stream, &bytes)?)));
        }
        ended.send(()).ok();
    });
}
