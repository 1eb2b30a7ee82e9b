//! `~/.llmspell`: every path below it, its mode, and who makes it. Nothing here is readable by others.

use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Class, Error, Result};

/// The id of the kernel a client means when it names none.
pub const DEFAULT_KERNEL: &str = "llmspell-kernel";

/// The folder of all files of the suite: `$LLMSPELL_HOME`, else `~/.llmspell`.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The folder this process uses, absolute, symbolic links not resolved. Nothing is created.
    ///
    /// # Errors
    /// `Config` when neither `LLMSPELL_HOME` nor `HOME` is set, or the first is not absolute.
    pub fn find() -> Result<Self> {
        if let Some(root) = std::env::var_os("LLMSPELL_HOME").filter(|root| !root.is_empty()) {
            let root = std::path::absolute(&root).map_err(|e| Error::io(&root, e))?;
            return Ok(Home { root });
        }
        match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Ok(Home { root: Path::new(&home).join(".llmspell") }),
            None => Err(Error::new(Class::Config, "neither LLMSPELL_HOME nor HOME is set")
                .hint("Set LLMSPELL_HOME to a folder only you can read.")),
        }
    }

    /// `root` itself, for tests and embedders.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Home { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The user's configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Connection and PID files.
    #[must_use]
    pub fn kernel_dir(&self) -> PathBuf {
        self.root.join("kernel")
    }

    /// Connection file of the kernel called `id`.
    #[must_use]
    pub fn connection_file(&self, id: &str) -> PathBuf {
        self.kernel_dir().join(format!("{id}.json"))
    }

    /// PID file of the kernel called `id`.
    #[must_use]
    pub fn pid_file(&self, id: &str) -> PathBuf {
        self.kernel_dir().join(format!("{id}.pid"))
    }

    /// Sockets of the ipc transport: `$XDG_RUNTIME_DIR/llmspell`, with a number behind it for a home that is not
    /// `~/.llmspell`, as kernels of two homes may have one id; without that variable in the folder itself.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute()) else {
            return self.root.join("run");
        };
        let usual = std::env::var_os("HOME").is_some_and(|home| self.root == Path::new(&home).join(".llmspell"));
        let name = if usual {
            "llmspell".to_owned()
        } else {
            let digest = Sha256::digest(self.root.as_os_str().as_encoded_bytes());
            format!("llmspell-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
        };
        Path::new(&dir).join(name)
    }

    /// Databases.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Database of the kernel called `id`.
    #[must_use]
    pub fn store_file(&self, id: &str) -> PathBuf {
        self.store_dir().join(format!("{id}.db"))
    }

    /// History of the kernels that Jupyter programs start for themselves: one for all, as each of them has another name.
    #[must_use]
    pub fn jupyter_history(&self) -> PathBuf {
        self.store_file("jupyter")
    }

    /// What was typed at the console.
    #[must_use]
    pub fn history_file(&self) -> PathBuf {
        self.root.join("history")
    }

    /// Log file of the kernel called `id`.
    #[must_use]
    pub fn log_file(&self, id: &str) -> PathBuf {
        self.log_dir().join(format!("{id}.log"))
    }

    /// Log folder.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.root.join("logs")
    }
}

/// The folder in which systemd puts what a unit's `LoadCredential=` names, for this service alone.
#[must_use]
pub fn credentials_dir() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// The secret called `name` among the credentials of this service, without blanks around it; none where there is none.
///
/// # Errors
/// What the system said, naming the file; `Config` when it is no text, empty, or longer than 64 KiB.
pub fn credential(name: &str) -> Result<Option<String>> {
    let Some(path) = credentials_dir().map(|dir| dir.join(name)) else { return Ok(None) };
    let mut text = String::new();
    let read = fs::File::open(&path).and_then(|file| file.take(64 << 10).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(&path, error).within("credential")),
        Ok(_) if text.trim().is_empty() => {
            Err(Error::new(Class::Config, format!("credential {}: empty", path.display())))
        }
        Ok(_) => Ok(Some(text.trim().to_owned())),
    }
}

/// `path` with the kernel's id wherever `{id}` stands.
#[must_use]
pub fn for_kernel(path: &Path, id: &str) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(4).position(|word| word == b"{id}") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(id.as_bytes());
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest);
    std::ffi::OsString::from_vec(out).into()
}

/// Creates `dir`, one of our own folders, with mode 0700, parents included; closes it if others could enter.
///
/// # Errors
/// `Denied` when it belongs to somebody else; otherwise what the system said.
pub fn private_dir(dir: &Path) -> Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::new(Class::Conflict, format!("{}: not a folder", dir.display())));
        }
        Err(error) => return Err(Error::io(dir, error)),
    }
    let meta = fs::metadata(dir).map_err(|e| Error::io(dir, e))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::new(Class::Denied, format!("{}: belongs to another user", dir.display()))
            .hint("Set LLMSPELL_HOME to a folder of your own."));
    }
    if meta.mode() & 0o077 != 0 {
        // Ours but too open (an old version, a loose umask): close it rather than refuse to work.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|e| Error::io(dir, e))?;
    }
    Ok(())
}

/// Writes `bytes` to `path` with mode 0600: a temporary file beside it, then renamed over it, so that nobody reads half.
///
/// # Errors
/// What the system said, naming `path`.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, false)
}

/// The same, for what must outlive a loss of power: it is on the disk before the old file goes.
///
/// # Errors
/// As [`write_private`].
pub fn write_durable(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, true)
}

fn replace(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    let temporary = path.with_file_name(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| if sync { file.sync_data() } else { Ok(()) }))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::io(path, error)
    })
}

/// Whether `id` can name a kernel: letters, digits, `.`, `_`, `-`; not empty, not starting with a dot; at most 64 bytes.
///
/// # Errors
/// `Usage` saying what is wrong.
pub fn check_id(id: &str) -> Result<()> {
    let fine = !id.is_empty()
        && id.len() <= 64
        && !id.starts_with('.')
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fine {
        return Ok(());
    }
    Err(Error::new(Class::Usage, format!("kernel id {id:?}: use 1 to 64 letters, digits, '.', '_' or '-'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names() {
        for good in ["llmspell-kernel", "kernel-9555", "a.b_c"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".hidden", "a/b", "..", "a b", "ü", &"x".repeat(65)] {
            assert_eq!(check_id(bad).unwrap_err().class(), Class::Usage, "{bad}");
        }
    }
}
