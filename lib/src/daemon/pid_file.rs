//! The PID file: the number and a newline, held under a lock for the life of the process.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::error::{Class, Error, Result};

/// A PID file: the number and a newline, locked for the life of the process, removed at its end.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    lock: File,
}

/// Longer than a PID, a newline and blanks ever are.
const LONGEST: u64 = 32;

impl PidFile {
    /// Makes this process the owner of `path`. What a dead process left there is taken over, whatever it says: the lock
    /// alone tells whether somebody lives, so that no process is ever asked or signalled by a number.
    ///
    /// # Errors
    /// `Conflict` while another process holds it; `Denied` for a symbolic or hard link, for what is no file, and for
    /// what others own or can write or replace.
    pub fn acquire(path: &Path) -> Result<Self> {
        Self::take(path, u64::MAX)
    }

    /// The same where somebody may have named the wrong file: one that is longer than any PID is refused.
    ///
    /// # Errors
    /// Those of [`PidFile::acquire`].
    pub fn acquire_named(path: &Path) -> Result<Self> {
        Self::take(path, LONGEST)
    }

    fn take(path: &Path, longest: u64) -> Result<Self> {
        loop {
            let file = open(path)?;
            let meta = file.metadata().map_err(|e| Error::io(path, e))?;
            let dir = path.parent().map_or_else(|| fs::metadata("/"), fs::metadata).map_err(|e| Error::io(path, e))?;
            if let Some(why) = unsafe_file(&meta).or_else(|| unsafe_folder(&dir)) {
                return Err(refused(path, why));
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(held(path, file)),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::io(path, errno.into()).within("lock")),
            }
            // Its last owner may have removed it between our open and our lock: then we hold a file nobody sees.
            if !fs::symlink_metadata(path).is_ok_and(|now| now.ino() == meta.ino() && now.dev() == meta.dev()) {
                continue;
            }
            if file.metadata().is_ok_and(|meta| meta.len() > longest) {
                return Err(refused(path, "is not a PID file"));
            }
            let owned = PidFile { path: path.to_owned(), lock: file };
            // When it fails, the file goes with its owner: nobody finds an empty one.
            return owned.write().map(|()| owned).map_err(|e| Error::io(path, e));
        }
    }

    fn write(&self) -> io::Result<()> {
        let (mut file, text) = (&self.lock, format!("{}\n", std::process::id()));
        // Otherwise all of it is written over: some file systems make one that was truncated wait for the disk.
        if file.metadata()?.len() > text.len() as u64 {
            file.set_len(0)?;
        }
        file.write_all(text.as_bytes())
    }
}

fn open(path: &Path) -> Result<File> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path)
        .map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::LOOP) => refused(path, "is a symbolic link"),
            Some(Errno::ISDIR | Errno::NXIO) => refused(path, "is not a file"),
            _ => Error::io(path, error),
        })
}

fn unsafe_file(meta: &Metadata) -> Option<&'static str> {
    let us = rustix::process::geteuid().as_raw();
    match () {
        () if !meta.is_file() => Some("is not a file"),
        () if meta.uid() != us => Some("belongs to another user"),
        () if meta.mode() & 0o022 != 0 => Some("others can write it"),
        () if meta.nlink() > 1 => Some("is a hard link to another file"),
        () => None,
    }
}

/// In a folder with the sticky bit, such as `/tmp`, nobody can replace the file of another.
fn unsafe_folder(meta: &Metadata) -> Option<&'static str> {
    (meta.mode() & 0o002 != 0 && meta.mode() & 0o1000 == 0).then_some("others can replace it in its folder")
}

fn held(path: &Path, file: File) -> Error {
    let mut text = String::new();
    let _ = file.take(LONGEST).read_to_string(&mut text);
    let who = match text.trim().parse::<u32>() {
        Ok(pid) => format!("running process {pid}"),
        // It has just begun.
        Err(_) => "another process".to_owned(),
    };
    Error::new(Class::Conflict, format!("{}: held by {who}", path.display()))
        .hint("Stop that one, or choose another --id.")
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Still locked, so it is still ours.
        let _ = fs::remove_file(&self.path);
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(Class::Denied, format!("{}: {why}", path.display()))
        .hint("Look at it; if nobody needs it, remove it and start again.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(format!("llmspell-pid-{}", uuid::Uuid::new_v4().simple()));
            fs::create_dir(&dir).unwrap();
            Folder(dir)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_pid_file_has_one_owner_and_outlives_no_one() {
        let folder = Folder::new();
        let path = folder.0.join("k.pid");
        let huge = "9".repeat(10_000);
        for left_over in
            ["", "garbage", "0\n", "-1\n", "1\n", "2147483648\n", "999999999\r\n", "\0\u{1}\u{fffd}", &huge, "99999\n"]
        {
            fs::write(&path, left_over).unwrap();
            let owner = PidFile::acquire(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
            assert_eq!(PidFile::acquire(&path).unwrap_err().class(), Class::Conflict);
            drop(owner);
            assert!(!path.exists());
        }
        fs::write(&path, &huge).unwrap();
        assert_eq!(PidFile::acquire_named(&path).unwrap_err().class(), Class::Denied);
        assert_eq!(fs::read_to_string(&path).unwrap(), huge);
    }

    #[test]
    fn what_is_not_ours_is_refused_and_untouched() {
        let folder = Folder::new();
        let (path, secret) = (folder.0.join("k.pid"), folder.0.join("secret"));
        let refuses = |why: &str| {
            let error = PidFile::acquire(&path).unwrap_err();
            assert_eq!(error.class(), Class::Denied, "{error}");
            assert!(error.text().ends_with(why), "{error}");
            assert!(fs::symlink_metadata(&path).is_ok());
        };
        fs::write(&secret, "key").unwrap();
        symlink(&secret, &path).unwrap();
        refuses("is a symbolic link");
        fs::remove_file(&path).unwrap();
        symlink("/nowhere/at/all", &path).unwrap();
        refuses("is a symbolic link");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&secret, &path).unwrap();
        refuses("is a hard link to another file");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "key");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refuses("is not a file");
        fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        refuses("is not a file");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        refuses("others can write it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
        refuses("others can replace it in its folder");
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o1777)).unwrap();
        drop(PidFile::acquire(&path).unwrap());
        if rustix::process::geteuid().is_root() {
            fs::write(&path, "1\n").unwrap();
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            refuses("belongs to another user");
        }
    }
}
