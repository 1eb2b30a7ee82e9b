//! The PID file: the number and a newline, held under a lock for the life of the process.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

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
