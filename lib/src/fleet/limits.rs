//! What holds a kernel to its limits: a cgroup of version 2 where one can be made, else a limit of the process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::wanted::Wanted;
use crate::error::{Class, Error, Result};

/// What holds the limits of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Enforced {
    /// A cgroup of version 2.
    Cgroup {
        /// Its folder.
        path: PathBuf,
    },
    /// `RLIMIT_DATA` of the process: memory of its own, children excluded.
    Rlimit,
}

/// Where cgroups can be made.
#[derive(Clone, Debug)]
pub(super) struct Cgroups(PathBuf);

/// What a kernel is started with.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) enforced: Option<Enforced>,
    /// `cgroup.procs`, open for writing.
    pub(super) procs: Option<File>,
    /// `RLIMIT_DATA`.
    pub(super) data: Option<u64>,
}

impl Cgroups {
    /// The place of this user: of root below the top, of others below their own service manager.
    pub(super) fn find() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let top = Path::new("/sys/fs/cgroup");
        Cgroups(match uid {
            0 => top.join("llmspell.slice"),
            _ => top.join(format!("user.slice/user-{uid}.slice/user@{uid}.service/llmspell.slice")),
        })
    }

    #[cfg(test)]
    fn at(path: impl Into<PathBuf>) -> Self {
        Cgroups(path.into())
    }

    /// A cgroup for `wanted` with its limits set.
    fn make(&self, wanted: &Wanted) -> std::io::Result<(PathBuf, File)> {
        let path = self.0.join(&wanted.id);
        fs::create_dir_all(&path)?;
        for parent in [self.0.parent(), Some(&*self.0)].into_iter().flatten() {
            // Where it is so already, or may not be said, the files below tell.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory +cpu +pids");
        }
        if let Some(bytes) = wanted.memory {
            set(&path.join("memory.max"), &bytes.to_string())?;
            // Swapping would only put it off.
            let _ = set(&path.join("memory.swap.max"), "0");
        }
        if let Some(cpus) = wanted.cpu {
            set(&path.join("cpu.max"), &format!("{} 100000", (cpus * 100_000.0).max(1000.0) as u64))?;
        }
        let procs = fs::OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        Ok((path, procs))
    }
}

/// Writes a file that the kernel made; a folder that is no cgroup has none.
fn set(path: &Path, value: &str) -> std::io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// What can hold the limits of `wanted` here.
///
/// # Errors
/// `Absent` when nothing can: a limit that is asked for is never left out in silence.
pub(super) fn prepare(wanted: &Wanted, cgroups: &Cgroups) -> Result<Limits> {
    if wanted.memory.is_none() && wanted.cpu.is_none() {
        return Ok(Limits::default());
    }
    match cgroups.make(wanted) {
        Ok((path, procs)) => Ok(Limits { enforced: Some(Enforced::Cgroup { path }), procs: Some(procs), data: None }),
        Err(error) if wanted.cpu.is_some() => Err(Error::new(
            Class::Absent,
            format!(
                "cpu limit of kernel {}: no cgroup of version 2 can be made here: {}",
                wanted.id,
                crate::error::reason(&error)
            ),
        )
        .hint("Leave --cpu out, or run the kernels in a session of systemd, which lends you its cgroup.")),
        Err(_) => Ok(Limits { enforced: Some(Enforced::Rlimit), procs: None, data: wanted.memory }),
    }
}

/// Ends what still runs in the cgroup of a kernel that ended, and removes it.
pub(super) fn sweep(enforced: Option<&Enforced>) {
    if let Some(Enforced::Cgroup { path }) = enforced {
        let _ = set(&path.join("cgroup.kill"), "1");
        let _ = fs::remove_dir(path);
    }
}

/// Whether the kernel whose limits these are was ended for its memory.
#[must_use]
pub(super) fn out_of_memory(enforced: Option<&Enforced>) -> bool {
    let Some(Enforced::Cgroup { path }) = enforced else { return false };
    let events = fs::read_to_string(path.join("memory.events")).unwrap_or_default();
    events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_held_by_something_or_refused() {
        let root = std::env::temp_dir().join(format!("llmspell-cgroup-{}", uuid::Uuid::new_v4().simple()));
        // What the kernel would make in a new cgroup.
        let path = root.join("llmspell.slice/k");
        fs::create_dir_all(&path).unwrap();
        for file in ["memory.max", "cpu.max", "cgroup.procs", "memory.events"] {
            fs::write(path.join(file), "").unwrap();
        }
        let cgroups = Cgroups::at(root.join("llmspell.slice"));
        let mut wanted = Wanted { id: "k".into(), memory: Some(1 << 20), cpu: Some(0.5), ..Wanted::default() };
        let limits = prepare(&wanted, &cgroups).unwrap();
        assert_eq!(limits.enforced, Some(Enforced::Cgroup { path: path.clone() }));
        assert_eq!(fs::read_to_string(path.join("memory.max")).unwrap(), "1048576");
        assert_eq!(fs::read_to_string(path.join("cpu.max")).unwrap(), "50000 100000");
        assert!(!out_of_memory(limits.enforced.as_ref()));
        fs::write(path.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert!(out_of_memory(limits.enforced.as_ref()));

        let none = Cgroups::at(root.join("plain"));
        assert_eq!(prepare(&wanted, &none).unwrap_err().class(), Class::Absent);
        wanted.cpu = None;
        let limits = prepare(&wanted, &none).unwrap();
        assert_eq!((limits.enforced, limits.data), (Some(Enforced::Rlimit), Some(1 << 20)));
        wanted.memory = None;
        assert_eq!(prepare(&wanted, &none).unwrap().enforced, None);
        fs::remove_dir_all(root).unwrap();
    }
}
