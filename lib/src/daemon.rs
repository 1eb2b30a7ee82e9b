//! Being a good process: the PID file that keeps a kernel single, signals that arrive as readable descriptors, limits.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Class, Error, Result};

/// A PID file: the number and a newline, locked for the life of the process, removed at its end.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _lock: File,
}

impl PidFile {
    /// Makes this process the owner of `path`. What a dead process left there is taken over.
    ///
    /// # Errors
    /// `Conflict` while another process holds it; `Denied` for a symbolic link or what is no file.
    pub fn acquire(path: &Path) -> Result<Self> {
        loop {
            let mut file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
                .open(path)
                .map_err(|error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                    Some(rustix::io::Errno::LOOP) => refused(path, "is a symbolic link"),
                    Some(rustix::io::Errno::ISDIR | rustix::io::Errno::NXIO) => refused(path, "is not a file"),
                    _ => Error::io(path, error),
                })?;
            let meta = file.metadata().map_err(|e| Error::io(path, e))?;
            if !meta.is_file() {
                return Err(refused(path, "is not a file"));
            }
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                return Err(Error::new(
                    Class::Conflict,
                    format!("{}: held by running process {}", path.display(), text.trim()),
                )
                .hint("Stop that one, or choose another --id."));
            }
            // Its last owner may have removed it between our open and our lock: then we hold a file nobody sees.
            if fs::symlink_metadata(path).is_ok_and(|now| now.ino() == meta.ino() && now.dev() == meta.dev()) {
                file.set_len(0)
                    .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
                    .map_err(|e| Error::io(path, e))?;
                return Ok(PidFile { path: path.to_owned(), _lock: file });
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Still locked, so it is still ours.
        let _ = fs::remove_file(&self.path);
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(Class::Denied, format!("{}: {why}", path.display())).hint("Remove it and start again.")
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_has_one_owner_and_outlives_no_one() {
        let dir = std::env::temp_dir().join(format!("llmspell-pid-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("k.pid");
        for left_over in ["", "garbage", "999999999\n"] {
            fs::write(&path, left_over).unwrap();
            let owner = PidFile::acquire(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
            assert_eq!(PidFile::acquire(&path).unwrap_err().class(), Class::Conflict);
            drop(owner);
            assert!(!path.exists());
        }
        let link = dir.join("link.pid");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(PidFile::acquire(&link).unwrap_err().class(), Class::Denied);
        assert_eq!(PidFile::acquire(&dir).unwrap_err().class(), Class::Denied);
        fs::remove_dir_all(dir).unwrap();
    }
}
