//! Which folders' `llmspell.toml` may say everything. `~/.llmspell/trusted` has one line a folder, as sha256sum(1)
//! would print it: the hash of the file, two spaces, the folder's real path. A file that changes is no longer trusted.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Class, Error, Result};
use crate::home::{self, Home};

/// The name of a project's file.
pub(super) const FILE: &str = "llmspell.toml";

/// Whether the project's file may say everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none, or another file was asked for.
    Absent,
    /// The folder is trusted, and the file is the one that was.
    Trusted,
    /// The folder was trusted with another content of the file.
    Changed,
    /// Nobody trusted the folder.
    Untrusted,
}

fn list(home: &Home) -> PathBuf {
    home.root().join("trusted")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether `dir`, whose file holds `bytes`, is trusted.
pub(super) fn state(home: &Home, dir: &Path, bytes: &[u8]) -> State {
    let (Ok(dir), Ok(lines)) = (fs::canonicalize(dir), fs::read_to_string(list(home))) else { return State::Untrusted };
    let mut lines = lines.lines().filter_map(|line| line.split_once("  "));
    match lines.find(|(_, path)| Path::new(path) == dir) {
        Some((hashed, _)) if hashed == hash(bytes) => State::Trusted,
        Some(_) => State::Changed,
        None => State::Untrusted,
    }
}

/// Trusts the `llmspell.toml` of `dir` as it is now; returns its path. Once it changes it must be trusted again.
///
/// # Errors
/// `NotFound` when there is none, `Usage` for a folder whose name is no line of text, or what the system said.
pub fn trust(home: &Home, dir: &Path) -> Result<PathBuf> {
    let real = fs::canonicalize(dir).map_err(|e| Error::io(dir, e))?;
    let file = real.join(FILE);
    let bytes = fs::read(&file).map_err(|e| Error::io(&file, e))?;
    let name = real.to_str().filter(|name| !name.contains('\n'));
    let name = name
        .ok_or_else(|| Error::new(Class::Usage, format!("{}: a name like this cannot be trusted", real.display())))?;
    let path = list(home);
    let old = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(|e| Error::io(&path, e))?,
    };
    let others = old.lines().filter(|line| line.split_once("  ").is_none_or(|(_, path)| path != name));
    let mut lines: String = others.flat_map(|line| [line, "\n"]).collect();
    let _ = writeln!(lines, "{}  {name}", hash(&bytes));
    home::private_dir(home.root())?;
    home::write_private(&path, lines.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_changed_file_must_be_trusted_again() {
        let dir = tempfile::tempdir().unwrap();
        let (home, project) = (Home::at(dir.path().join("home")), dir.path().join("project"));
        fs::create_dir(&project).unwrap();
        assert_eq!(trust(&home, &project).unwrap_err().class(), Class::NotFound);
        fs::write(project.join(FILE), "a").unwrap();
        assert_eq!(state(&home, &project, b"a"), State::Untrusted);
        for _ in 0..2 {
            trust(&home, &project).unwrap();
        }
        assert_eq!(state(&home, &project, b"a"), State::Trusted);
        assert_eq!(state(&home, &project, b"b"), State::Changed);
        assert_eq!(fs::read_to_string(list(&home)).unwrap().lines().count(), 1);
        assert_eq!(fs::metadata(list(&home)).unwrap().mode() & 0o777, 0o600);
    }
}
