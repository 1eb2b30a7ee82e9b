//! Going into the background: two forks, a session of its own, and a pipe by which the process that was started tells
//! whether it is ready, so that the one a user sees returns neither too early nor with the wrong status.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use fork::{Fork, fork, redirect_stdio, setsid, waitpid};
use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use crate::daemon::leave;
use crate::error::{Class, Error, Result};

/// Who returns from [`detach`].
pub enum Side {
    /// The process that was called: the other one is ready and says this.
    Caller(String),
    /// The process in the background.
    Background(Notice),
}

/// What goes through the pipe.
#[derive(Serialize, Deserialize)]
enum Word {
    Ready(String),
    Failed { class: String, text: String, hint: Option<String> },
}

/// The way back to the caller, who waits for it.
pub struct Notice(Option<File>);

impl Notice {
    /// The process serves; `text` is for whoever called.
    pub fn ready(&mut self, text: &str) {
        self.send(&Word::Ready(text.to_owned()));
    }

    /// The process ends with this error. Once it was ready nobody is there to hear it.
    pub fn failed(&mut self, error: &Error) {
        let hint = error.next_step().map(str::to_owned);
        self.send(&Word::Failed { class: error.class().row().name.to_owned(), text: error.text().to_owned(), hint });
    }

    fn send(&mut self, word: &Word) {
        if let Some(mut pipe) = self.0.take() {
            // Nobody has to be there to read it: the caller may have been stopped meanwhile.
            let _ = pipe.write_all(&serde_json::to_vec(word).unwrap_or_default());
        }
    }
}

/// Splits the process: the caller waits until the one in the background is ready, or has failed. That one has a session
/// of its own, the working directory `/`, the umask 077, no signal blocked, and of all descriptors only standard input,
/// output and error, which lead nowhere. Paths have to be absolute before, and no thread may run.
///
/// # Errors
/// In the caller: what the other process said in [`Notice::failed`], or what the system said.
pub fn detach() -> Result<Side> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::system("pipe", e.into()))?;
    match fork().map_err(|e| Error::system("fork", e))? {
        Fork::Parent(child) => {
            drop(write);
            let said = hear(read);
            // It ended at once, after the second fork.
            let _ = waitpid(child);
            said.map(Side::Caller)
        }
        Fork::Child => {
            drop(read);
            let mut notice = Notice(Some(write.into()));
            match settle(&notice) {
                Ok(()) => Ok(Side::Background(notice)),
                Err(error) => {
                    notice.failed(&Error::system("going into the background", error));
                    leave(i32::from(Class::System.row().exit));
                }
            }
        }
    }
}

/// The second half, in the first child: only the second one comes back.
fn settle(notice: &Notice) -> io::Result<()> {
    setsid()?;
    // No session leader any more: it can never get a terminal.
    if let Fork::Parent(_) = fork()? {
        leave(0);
    }
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    redirect_stdio()?;
    unblock_signals();
    if let Some(pipe) = &notice.0 {
        close_others(pipe);
    }
    Ok(())
}

/// Waits for the word of the process in the background.
fn hear(read: OwnedFd) -> Result<String> {
    let mut bytes = Vec::new();
    File::from(read).read_to_end(&mut bytes).map_err(|e| Error::system("pipe", e))?;
    match serde_json::from_slice(&bytes) {
        Ok(Word::Ready(text)) => Ok(text),
        Ok(Word::Failed { class, text, hint }) => {
            let error = Error::new(Class::from_name(&class), text);
            Err(match hint {
                Some(hint) => error.hint(hint),
                None => error,
            })
        }
        Err(_) => Err(Error::new(Class::System, "the process in the background ended before it was ready")
            .hint("Its log may tell why; in the foreground, without --daemon, it says it here.")),
    }
}

/// Whoever started us may have blocked some, and that is inherited.
#[expect(unsafe_code, reason = "no safe crate here sets the signal mask")]
fn unblock_signals() {
    // SAFETY: the set is initialised before it is used, and only this thread exists.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// A pipe or lock of the caller must not live as long as we do: whoever waits for its end would wait for ours.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "descriptors we were started with have no owner in this process")]
fn close_others(pipe: &File) {
    let close = |first: i64, last: i64| {
        // SAFETY: right after the start nothing of this process is open but the standard streams and the pipe, which
        // is in no range. A system that has not this call leaves them open.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    };
    let keep = i64::from(pipe.as_raw_fd());
    if keep > 3 {
        close(3, keep - 1);
    }
    close(keep + 1, i64::from(u32::MAX));
}

#[cfg(not(target_os = "linux"))]
fn close_others(_: &File) {}
