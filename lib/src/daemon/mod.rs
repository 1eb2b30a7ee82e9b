//! Being a good process: detaching, the PID file that keeps a kernel single, signals that arrive as readable
//! descriptors, limits.

#[cfg(feature = "runtime")]
mod detach;
mod notify;
mod pid_file;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};

#[cfg(feature = "runtime")]
pub use detach::{Notice, Side, detach};
pub use notify::Notify;
pub use pid_file::PidFile;

/// A descriptor that becomes readable whenever one of `signals` arrives, instead of what the signal would do.
///
/// # Errors
/// `System` when the signal cannot be caught.
pub fn signal_fd(signals: &[i32]) -> Result<OwnedFd> {
    let (read, write) = UnixStream::pair().map_err(|e| Error::system("signal pipe", e))?;
    read.set_nonblocking(true).map_err(|e| Error::system("signal pipe", e))?;
    for signal in signals {
        let write = write.try_clone().map_err(|e| Error::system("signal pipe", e))?;
        signal_hook::low_level::pipe::register(*signal, write)
            .map_err(|e| Error::system(format!("signal {signal}"), e))?;
    }
    Ok(read.into())
}

/// Readable once the Jupyter program that started this process is gone, which then serves nobody; `None` when another did.
#[must_use]
pub fn jupyter_parent() -> Option<OwnedFd> {
    let told: i32 = std::env::var("JPY_PARENT_PID").ok()?.parse().ok()?;
    // A process further up passes the variable on too.
    let parent = rustix::process::getppid().filter(|parent| parent.as_raw_nonzero().get() == told)?;
    rustix::process::pidfd_open(parent, rustix::process::PidfdFlags::NONBLOCK).ok()
}

/// Takes away what a library made of `signal`: it does again what it does by default, until [`signal_fd`] is asked for it.
///
/// # Errors
/// `System` for what is no signal.
#[expect(unsafe_code, reason = "no safe crate takes a foreign handler away")]
pub fn default_action(signal: i32) -> Result<()> {
    // SAFETY: the default action is no function of ours.
    if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(Error::system(format!("signal {signal}"), std::io::Error::last_os_error()));
    }
    Ok(())
}

/// Raises the soft limit of open files to the hard one: every client takes several.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log::warn!("limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// Ends the process at once: no thread is waited for, nothing runs at its exit.
#[expect(unsafe_code, reason = "the standard library's exit waits for what cannot be stopped")]
pub fn leave(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}
