//! `doctor`: what an installation needs, looked at one by one. It changes nothing and asks no host.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, statfs, statvfs};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use serde_json::Value;

use crate::config::{Loaded, Trust};
use crate::engine::ENGINES;
use crate::error::reason;
use crate::home::Home;
use crate::protocol::connection::{Connection, SOCKET_PATH_MAX};
use crate::tools::Registry;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, but may surprise.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it went.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

impl Check {
    fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Check { name, status, detail: detail.into(), next_step: None }
    }

    fn next(mut self, step: impl Into<String>) -> Self {
        self.next_step = Some(step.into());
        self
    }
}

/// All checks.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order of looking.
    pub checks: Vec<Check>,
}

impl Report {
    /// 0 when nothing failed, else 1.
    #[must_use]
    pub fn exit(&self) -> u8 {
        u8::from(self.checks.iter().any(|check| check.status == Status::Fail))
    }

    /// `{"ok": …, "checks": [{"name", "status", "detail", "next_step"?}]}`
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::json!({ "ok": self.exit() == 0, "checks": self.checks })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok  ",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            writeln!(f, "{status}  {:<11}  {}", check.name, check.detail)?;
            check.next_step.iter().try_for_each(|step| writeln!(f, "{:19}{step}", ""))?;
        }
        Ok(())
    }
}

/// Looks at everything. `loaded` is best made by `Config::survey`, so that a wrong configuration is a check, too.
#[must_use]
pub fn doctor(home: &Home, loaded: &Loaded) -> Report {
    let mut checks = vec![home_folder(home)];
    checks.extend(config(loaded));
    checks.push(project(loaded));
    checks.push(workdir(loaded));
    checks.push(sockets(&home.runtime_dir()));
    let logs_dir = loaded.config.daemon.log_dir.clone().unwrap_or_else(|| home.log_dir());
    checks.push(logs(&logs_dir, loaded.config.daemon.max_log_size));
    checks.push(build());
    checks.extend(kernels(home));
    checks.push(descriptors());
    checks.push(jupyter(std::env::var_os("PATH").unwrap_or_default().as_ref()));
    Report { checks }
}

fn home_folder(home: &Home) -> Check {
    let (root, shown) = (home.root(), home.root().display());
    match fs::metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::new("home", Status::Ok, format!("{shown}: not there yet; made at the first use"))
        }
        Err(error) => Check::new("home", Status::Fail, format!("{shown}: {}", reason(&error)))
            .next("Set LLMSPELL_HOME to a folder of your own."),
        Ok(meta) if !meta.is_dir() => Check::new("home", Status::Fail, format!("{shown}: not a folder"))
            .next("Move it away, or set LLMSPELL_HOME."),
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => {
            Check::new("home", Status::Fail, format!("{shown}: belongs to another user"))
                .next("Set LLMSPELL_HOME to a folder of your own.")
        }
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            Check::new("home", Status::Warn, format!("{shown}: others may enter (mode {:03o})", meta.mode() & 0o777))
                .next(format!("chmod 700 {shown}"))
        }
        Ok(_) => match network(root) {
            Some(system) => Check::new("home", Status::Warn, format!("{shown}: on {system}, where locks may not hold"))
                .next("Set LLMSPELL_HOME to a folder on a local disk."),
            None => Check::new("home", Status::Ok, shown.to_string()),
        },
    }
}

/// Whether a kernel in the background can write its log there, and two files of `size` find room.
fn logs(dir: &Path, size: u64) -> Check {
    let shown = dir.display();
    if !dir.exists() {
        return Check::new("logs", Status::Ok, format!("{shown}: not there yet; made at the first use"));
    }
    if let Err(errno) = rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK) {
        return Check::new("logs", Status::Fail, format!("{shown}: {}", reason(&errno.into())))
            .next("Set daemon.log_dir to a folder of your own.");
    }
    let room = statvfs(dir).map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize));
    if room / 2 < size {
        return Check::new("logs", Status::Warn, format!("{shown}: {} MB free", room / 1_000_000))
            .next("Make room, or lower daemon.max_log_size and daemon.max_log_files.");
    }
    Check::new("logs", Status::Ok, shown.to_string())
}

fn config(loaded: &Loaded) -> Vec<Check> {
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let read = if files.is_empty() { "no file; defaults".to_owned() } else { files.join(", ") };
    let mut checks = vec![Check::new("config", Status::Ok, read)];
    checks.extend(loaded.problems.iter().map(|problem| {
        let check = Check::new("config", Status::Fail, problem.to_string());
        problem.hint.iter().fold(check, |check, hint| check.next(hint))
    }));
    checks.extend(loaded.warnings.iter().map(|warning| Check::new("config", Status::Warn, warning)));
    for file in &loaded.files {
        if fs::metadata(file).is_ok_and(|meta| meta.mode() & 0o022 != 0) {
            let shown = file.display();
            checks.push(
                Check::new("config", Status::Warn, format!("{shown}: others may write it"))
                    .next(format!("chmod go-w {shown}")),
            );
        }
    }
    checks
}

fn project(loaded: &Loaded) -> Check {
    let file = loaded.dir.join("llmspell.toml");
    let shown = file.display();
    match loaded.project {
        Trust::Absent => Check::new("trust", Status::Ok, "no project file in use"),
        Trust::Trusted => Check::new("trust", Status::Ok, format!("{shown}: trusted")),
        Trust::Changed => Check::new("trust", Status::Warn, format!("{shown}: changed since it was trusted"))
            .next("Read it, then llmspell-run --trust."),
        Trust::Untrusted => {
            Check::new("trust", Status::Ok, format!("{shown}: not trusted; it may only narrow permissions"))
                .next("llmspell-run --trust trusts it.")
        }
    }
}

/// The root of a file system is more than a project.
fn workdir(loaded: &Loaded) -> Check {
    let dir = loaded.config.kernel.workdir.as_ref().unwrap_or(&loaded.dir);
    let shown = dir.display();
    let real = fs::canonicalize(dir);
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
    match real.as_deref().map(|real| (real, real.parent())) {
        Err(error) => Check::new("workdir", Status::Fail, format!("{shown}: {}", reason(error)))
            .next("Set kernel.workdir to a folder that exists."),
        Ok((_, None)) => Check::new("workdir", Status::Warn, format!("{shown}: never a root for scripts"))
            .next("Start in a project's folder, or name one with --workdir."),
        Ok((real, Some(parent))) if device(real).ok() != device(parent).ok() => Check::new(
            "workdir",
            Status::Warn,
            format!("{shown}: the root of a file system, all of it open to scripts"),
        )
        .next("Start in a project's folder, or name one with --workdir."),
        Ok(_) => Check::new("workdir", Status::Ok, shown.to_string()),
    }
}

/// What a kernel appends to the folder: the id most have, and the port.
const SOCKET_NAME: &str = "/llmspell-kernel-65535";

/// `dir` is where the sockets of the ipc transport go.
fn sockets(dir: &Path) -> Check {
    let shown = dir.display();
    let length = dir.as_os_str().len() + SOCKET_NAME.len();
    if length > SOCKET_PATH_MAX {
        let detail = format!("{shown}: socket paths take {length} bytes, {SOCKET_PATH_MAX} fit");
        return Check::new("sockets", Status::Fail, detail).next("Set XDG_RUNTIME_DIR to a shorter path.");
    }
    // The folder itself is made by the first kernel; what it is made in must be there.
    let base = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match (fs::metadata(base), network(base)) {
        (Err(error), _) => Check::new("sockets", Status::Fail, format!("{}: {}", base.display(), reason(&error)))
            .next("Set XDG_RUNTIME_DIR to a folder only you can enter."),
        (Ok(_), Some(system)) => {
            Check::new("sockets", Status::Fail, format!("{shown}: on {system}, which has no sockets"))
                .next("Set XDG_RUNTIME_DIR to a folder on a local disk.")
        }
        (Ok(meta), None) if base == dir && meta.mode() & 0o077 != 0 => {
            Check::new("sockets", Status::Warn, format!("{shown}: others may enter (mode {:03o})", meta.mode() & 0o777))
                .next(format!("chmod 700 {shown}"))
        }
        (Ok(_), None) => Check::new("sockets", Status::Ok, shown.to_string()),
    }
}

/// The name of the network file system `path` is on, if it is. Magic numbers: statfs(2).
fn network(path: &Path) -> Option<&'static str> {
    let kind = statfs(path).ok()?.f_type;
    // The type of `f_type` differs between machines; the numbers have 32 bits.
    match kind as u32 {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x5346_414f => Some("AFS"),
        0x00c3_6400 => Some("Ceph"),
        0x0102_1997 => Some("9P"),
        _ => None,
    }
}

fn build() -> Check {
    let registry = Registry::new();
    let tools: Vec<_> = registry.names().collect();
    let detail =
        format!("llmspell {}; engines: {}; tools: {}", env!("CARGO_PKG_VERSION"), ENGINES.join(", "), tools.join(", "));
    Check::new("build", Status::Ok, detail)
}

fn kernels(home: &Home) -> Vec<Check> {
    let entries = fs::read_dir(home.kernel_dir()).into_iter().flatten().flatten();
    let mut files: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let mut checks: Vec<_> = files.iter().map(|file| kernel(file)).collect();
    if checks.is_empty() {
        checks.push(Check::new("kernels", Status::Ok, "none"));
    }
    checks
}

fn kernel(file: &Path) -> Check {
    let id = file.file_stem().unwrap_or_default().to_string_lossy();
    let remove = format!("The next start takes the name over; or rm {}", file.display());
    match Connection::read(file) {
        Err(error) => {
            let check = Check::new("kernels", Status::Warn, format!("{id}: {error}"));
            error.next_step().into_iter().fold(check, |check, hint| check.next(hint))
        }
        Ok(connection) => match connection.pid {
            None => Check::new("kernels", Status::Warn, format!("{id}: {} names no PID", file.display())).next(remove),
            Some(pid) if connection.is_alive() => {
                Check::new("kernels", Status::Ok, format!("{id}: process {pid} runs"))
            }
            Some(pid) => {
                Check::new("kernels", Status::Warn, format!("{id}: stale, process {pid} is gone")).next(remove)
            }
        },
    }
}

/// Fewer would end a kernel with some dozens of clients.
const DESCRIPTORS: u64 = 1024;

fn descriptors() -> Check {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < DESCRIPTORS => {
            Check::new("descriptors", Status::Warn, format!("{limit} open files allowed, {DESCRIPTORS} advised"))
                .next(format!("ulimit -n {DESCRIPTORS}"))
        }
        Some(limit) => Check::new("descriptors", Status::Ok, format!("{limit} open files allowed")),
        None => Check::new("descriptors", Status::Ok, "any number of open files allowed"),
    }
}

fn jupyter(path: &std::ffi::OsStr) -> Check {
    let runs =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    let found = std::env::split_paths(path).map(|dir| dir.join("jupyter")).find(runs);
    Check::new(
        "jupyter",
        Status::Ok,
        match found {
            Some(file) => format!("{}; a kernelspec is not in this version", file.display()),
            None => "not in PATH; only notebooks need it".into(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use crate::protocol::connection::Transport;

    #[test]
    fn stale_and_broken_kernels_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        crate::home::private_dir(&home.kernel_dir()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        let written_by = |pid: u32| {
            let mut connection = Connection::new(Transport::Ipc, "/tmp/none".into(), [1, 2, 3, 4, 5]);
            connection.pid = Some(pid as i32);
            connection
        };
        written_by(std::process::id()).write(&home.connection_file("a")).unwrap();
        written_by(gone).write(&home.connection_file("b")).unwrap();
        crate::home::write_private(&home.connection_file("c"), b"{").unwrap();
        written_by(u32::MAX).write(&home.connection_file("d")).unwrap();
        let sources = Sources {
            home: home.clone(),
            dir: dir.path().into(),
            system: dir.path().join("none"),
            file: None,
            env: Vec::new(),
            flags: Vec::new(),
        };
        let report = doctor(&home, &Config::load(&sources).unwrap());
        let kernels: Vec<_> = report.checks.iter().filter(|c| c.name == "kernels").map(|c| c.status).collect();
        assert_eq!(kernels, [Status::Ok, Status::Warn, Status::Warn, Status::Warn], "{report}");
        assert_eq!(report.json()["ok"], report.exit() == 0);
        fs::set_permissions(home.root(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(home_folder(&home).status, Status::Warn);
    }

    #[test]
    fn long_socket_paths_fail() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(90));
        fs::create_dir(&long).unwrap();
        assert_eq!(sockets(&long).status, Status::Fail);
        assert_eq!(sockets(&dir.path().join("none")).status, Status::Ok);
    }

    #[test]
    fn the_log_folder_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(logs(&dir.path().join("none"), 1).status, Status::Ok);
        assert_eq!(logs(dir.path(), 1).status, Status::Ok);
        assert_eq!(logs(dir.path(), u64::MAX).status, Status::Warn);
        assert_eq!(logs(Path::new("/proc/self"), 1).status, Status::Fail);
    }

    #[test]
    fn the_workdir_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let mut loaded = Loaded {
            config: Config::default(),
            origins: Default::default(),
            warnings: Vec::new(),
            files: Vec::new(),
            project: Trust::Absent,
            dir: dir.path().into(),
            problems: Vec::new(),
        };
        assert_eq!(workdir(&loaded).status, Status::Ok);
        loaded.dir = "/".into();
        assert_eq!(workdir(&loaded).status, Status::Warn);
        loaded.config.kernel.workdir = Some(dir.path().join("none"));
        assert_eq!(workdir(&loaded).status, Status::Fail);
    }
}
