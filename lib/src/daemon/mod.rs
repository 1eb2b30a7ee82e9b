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

/// Takes `signal` over from a library that has just caught it: the library gets it only while `is_theirs` says so, which is
/// asked in the signal handler and may use nothing but atomics.
///
/// # Errors
/// `System` for what is no signal.
#[expect(unsafe_code, reason = "no safe crate takes a foreign handler away")]
pub fn share_signal(signal: i32, is_theirs: fn() -> bool) -> Result<()> {
    let failed = |error| Error::system(format!("signal {signal}"), error);
    // SAFETY: an action is plain data, which is asked for and replaced by the default one.
    let theirs = unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        if libc::sigaction(signal, std::ptr::null(), &raw mut action) != 0
            || libc::signal(signal, libc::SIG_DFL) == libc::SIG_ERR
        {
            return Err(failed(std::io::Error::last_os_error()));
        }
        let is_function = action.sa_flags & libc::SA_SIGINFO == 0
            && action.sa_sigaction != libc::SIG_DFL
            && action.sa_sigaction != libc::SIG_IGN;
        // SAFETY: then it is a handler of this type.
        is_function.then(|| std::mem::transmute::<libc::sighandler_t, extern "C" fn(libc::c_int)>(action.sa_sigaction))
    };
    let handler = move || {
        if let (true, Some(theirs)) = (is_theirs(), theirs) {
            theirs(signal);
        }
    };
    // SAFETY: `is_theirs` is safe in a handler by contract, and the other function is one.
    unsafe { signal_hook::low_level::register(signal, handler) }.map(drop).map_err(failed)
}

/// Has the handler of `signal` end a wait in a system call.
///
/// # Errors
/// What the system says of something that is no signal.
#[expect(unsafe_code, reason = "no safe crate changes the flags of a handler")]
pub fn no_restart(signal: i32) -> std::io::Result<()> {
    // SAFETY: asks for the handler as it is and sets it again with one flag less.
    let done = unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        let asked = libc::sigaction(signal, std::ptr::null(), &raw mut action);
        action.sa_flags &= !libc::SA_RESTART;
        if asked == 0 { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } else { asked }
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// From here on this thread leaves `signal` to the others.
#[expect(unsafe_code, reason = "no safe crate has signal masks")]
pub fn leave_signal(signal: i32) {
    // SAFETY: a signal set is plain data that `sigemptyset` initialises.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
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
