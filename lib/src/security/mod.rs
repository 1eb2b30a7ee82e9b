//! The policy: what scripts and tools may read, write, reach and see. It decides and opens; it never acts beyond that.
//!
//! `paths` knows files, `net` hosts. A hard link somebody else made inside a root is what it cannot see through.

mod net;
mod paths;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Class, Error, Result};
pub use net::listed;
use paths::Roots;

/// How much is allowed before any `--allow-…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Computing only: no files, no network.
    Safe,
    /// Files below the working folder and the temporary folder, public hosts.
    #[default]
    Standard,
    /// Everything but the keys and `~/.llmspell`.
    Privileged,
}

/// What a policy is made from; all paths absolute, `*` for all of them.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// The starting point.
    pub profile: Profile,
    /// Where relative paths start; a root for reading and writing under `Standard`, unless it is `/`.
    pub workdir: PathBuf,
    /// More folders or files that may be read.
    pub read: Vec<PathBuf>,
    /// More folders or files that may be read and written.
    pub write: Vec<PathBuf>,
    /// More hosts: `host`, `host:port`, `*.domain`, an address, a CIDR block, or `*` for all.
    pub net: Vec<String>,
    /// Hosts that are refused whatever else is said.
    pub net_deny: Vec<String>,
    /// Programs that may be run: a name found in PATH, an absolute path, or `*`.
    pub run: Vec<String>,
    /// Environment variables that may be read: a name, `PREFIX*`, or `*`.
    pub env: Vec<String>,
    /// Never inside any root: `~/.llmspell`, keys.
    pub hidden: Vec<PathBuf>,
}

/// What is allowed. Made once; shared.
#[derive(Debug)]
pub struct Policy {
    grants: Grants,
    read: Roots,
    write: Roots,
    hidden: Roots,
}

/// A folder that was opened after the policy agreed, and the name of one thing in it. What is done with the name
/// through the descriptor happens in that folder, whatever becomes of its path meanwhile.
#[derive(Debug)]
pub struct Place {
    /// The folder.
    pub dir: OwnedFd,
    /// The name in it; may be missing, is no symbolic link that was followed.
    pub name: OsString,
    /// Both as one real path, for messages.
    pub path: PathBuf,
}

/// Variables without secrets that every script may see under `Standard`; a trailing `*` stands for any end.
const HARMLESS_ENV: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "PWD",
    "HOSTNAME",
    "EDITOR",
    "PAGER",
    "COLUMNS",
    "LINES",
    "XDG_*",
];

/// Parts of names that smell of secrets: readable only when named in full.
const SECRET_ENV: &[&str] =
    &["PASSWORD", "PASSWD", "SECRET", "KEY", "TOKEN", "CREDENTIAL", "AUTH", "COOKIE", "SESSION"];

impl Policy {
    /// Resolves the roots of `grants`.
    pub fn new(grants: Grants) -> Self {
        let mut read = grants.read.clone();
        let mut write = grants.write.clone();
        match grants.profile {
            Profile::Safe => {}
            Profile::Standard => {
                write.extend(grants.workdir.parent().map(|_| grants.workdir.clone()));
                write.push(std::env::temp_dir());
            }
            Profile::Privileged => write.push("*".into()),
        }
        read.extend(write.iter().cloned());
        Policy { read: Roots::new(&read), write: Roots::new(&write), hidden: Roots::new(&grants.hidden), grants }
    }

    /// Where relative paths start.
    pub fn workdir(&self) -> &Path {
        &self.grants.workdir
    }

    /// The starting point it was made from.
    pub fn profile(&self) -> Profile {
        self.grants.profile
    }

    /// The same policy with one more folder to read from (a script's own, for `require`).
    #[must_use]
    pub fn with_read(&self, dir: &Path) -> Self {
        let mut grants = self.grants.clone();
        grants.read.push(dir.to_path_buf());
        Self::new(grants)
    }

    /// The real path behind `path`, if it may be read.
    ///
    /// # Errors
    /// `Denied` (also for what does not exist outside the roots), `NotFound`.
    pub fn check_read(&self, path: &Path) -> Result<PathBuf> {
        let real = self.within(path, &self.read, "read")?;
        real.symlink_metadata().map_err(|e| Error::io(path, e))?;
        Ok(real)
    }

    /// The real path behind `path` (its last part need not exist), if it may be written.
    ///
    /// # Errors
    /// `Denied`, `NotFound` when its folder does not exist.
    pub fn check_write(&self, path: &Path) -> Result<PathBuf> {
        let real = self.within(path, &self.write, "write")?;
        real.parent().map_or(Ok(()), |parent| parent.metadata().map(drop)).map_err(|e| Error::io(path, e))?;
        Ok(real)
    }

    /// Opens for reading; no step of the way there follows a symbolic link the check did not see.
    ///
    /// # Errors
    /// As [`Policy::check_read`].
    pub fn open_read(&self, path: &Path) -> Result<File> {
        paths::open(&self.within(path, &self.read, "read")?).map_err(|e| Error::io(path, e))
    }

    /// Opens with `options` for writing, checked the same way; a new file has mode 0644 less the umask.
    /// Custom flags of `options` are replaced.
    ///
    /// # Errors
    /// As [`Policy::check_write`].
    pub fn open_write(&self, path: &Path, options: &OpenOptions) -> Result<File> {
        let place = self.place(path)?;
        paths::open_with(&place, options).map_err(|e| Error::io(path, e))
    }

    /// The opened folder that holds `path`, to create, rename or remove something in it. Symbolic links are followed
    /// up to and including the last part.
    ///
    /// # Errors
    /// As [`Policy::check_write`].
    pub fn place(&self, path: &Path) -> Result<Place> {
        let real = self.within(path, &self.write, "write")?;
        paths::place(real).map_err(|e| Error::io(path, e))
    }

    /// As [`Policy::place`], but the last part itself is meant even when it is a symbolic link; refuses roots and
    /// whatever contains a root or something hidden.
    ///
    /// # Errors
    /// As [`Policy::check_write`].
    pub fn place_to_remove(&self, path: &Path) -> Result<Place> {
        let path = self.grants.workdir.join(path);
        let real = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => paths::resolve(parent).map(|parent| parent.join(name)),
            _ => paths::resolve(&path).filter(|real| real.parent().is_some()),
        };
        let real = self.allowed(real, &self.write).map_err(|hidden| denied(&path, hidden, "write"))?;
        if self.write.below(&real) || self.read.below(&real) || self.hidden.below(&real) {
            return Err(Error::new(Class::Denied, format!("{}: holds an allowed or hidden folder", path.display()))
                .hint("Name the things inside it one by one."));
        }
        paths::place(real).map_err(|e| Error::io(&path, e))
    }

    /// The real path behind `path`, if it lies in `roots` and is not hidden.
    fn within(&self, path: &Path, roots: &Roots, what: &str) -> Result<PathBuf> {
        let real = paths::resolve(&self.grants.workdir.join(path));
        self.allowed(real, roots).map_err(|hidden| denied(path, hidden, what))
    }

    /// `real`, if it lies in `roots` and is not hidden; else whether it is hidden.
    fn allowed(&self, real: Option<PathBuf>, roots: &Roots) -> Result<PathBuf, bool> {
        match real {
            Some(real) if self.hidden.contain(&real) => Err(true),
            Some(real) if roots.contain(&real) => Ok(real),
            _ => Err(false),
        }
    }

    /// The addresses `host`:`port` stands for, if it may be reached. Every address is checked, so a name
    /// that resolves to a private one is refused.
    ///
    /// # Errors
    /// `Denied`, `Remote` when it does not resolve.
    pub fn check_host(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
        net::check(&self.grants, host, port)
    }

    /// Whether this variable may be read.
    ///
    /// # Errors
    /// `Denied`.
    pub fn check_env(&self, name: &str) -> Result<()> {
        let grants = &self.grants.env;
        let secret = secret_env(name);
        let standard = self.grants.profile == Profile::Standard;
        let allowed = self.grants.profile == Profile::Privileged
            || grants.iter().any(|grant| grant == "*" || grant == name)
            || !secret && grants.iter().any(|grant| fits(grant, name))
            || !secret && standard && HARMLESS_ENV.iter().any(|harmless| fits(harmless, name));
        if allowed {
            return Ok(());
        }
        Err(Error::new(Class::Denied, format!("environment variable {name}: not allowed"))
            .hint(format!("Allow it with --allow-env={name}.")))
    }

    /// Whether this program may be run; its real path.
    ///
    /// # Errors
    /// `Denied`, `NotFound`.
    pub fn check_run(&self, program: &str) -> Result<PathBuf> {
        let grants = &self.grants.run;
        let all = self.grants.profile == Profile::Privileged || grants.iter().any(|grant| grant == "*");
        let denied = || {
            Error::new(Class::Denied, format!("program {program}: not allowed"))
                .hint(format!("Allow it with --allow-run={program}."))
        };
        // Nothing granted: the same answer for what is there and what is not.
        if !all && grants.is_empty() {
            return Err(denied());
        }
        let real = find_program(program, &self.grants.workdir);
        let granted = |real: &Path| {
            grants.iter().any(|grant| find_program(grant, &self.grants.workdir).is_some_and(|granted| granted == real))
        };
        match real {
            Some(real) if self.hidden.contain(&real) => Err(denied()),
            Some(real) if all || granted(&real) => Ok(real),
            None if all || grants.iter().any(|grant| grant == program) => {
                Err(Error::new(Class::NotFound, format!("program {program}: not found")))
            }
            _ => Err(denied()),
        }
    }
}

/// The refusal; the same for what exists and what does not.
fn denied(path: &Path, hidden: bool, what: &str) -> Error {
    if hidden {
        return Error::new(Class::Denied, format!("{}: private to llmspell", path.display()));
    }
    // Without the `.` of `folder/.`; whether it is a folder must not be told, so the hint names the path itself.
    let path: PathBuf = path.components().collect();
    Error::new(Class::Denied, format!("{}: outside the folders allowed to {what}", path.display()))
        .hint(format!("Allow it with --allow-{what}={}.", path.display()))
}

/// Whether the name of this variable smells of a secret.
#[must_use]
pub fn secret_env(name: &str) -> bool {
    let upper = name.to_uppercase();
    upper.starts_with("AWS_") || SECRET_ENV.iter().any(|part| upper.contains(part))
}

/// Whether `name` is `pattern`, or begins as a `pattern` with a trailing `*`.
fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// The real path of a program: a path as it stands, a bare name looked up in PATH.
fn find_program(program: &str, workdir: &Path) -> Option<PathBuf> {
    let executable = |path: PathBuf| {
        let real = path.canonicalize().ok()?;
        let metadata = real.metadata().ok()?;
        (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(real)
    };
    if program.contains('/') {
        return executable(workdir.join(program));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).find_map(|dir| executable(dir.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// `inside` may be written; `outside`, beside it, nothing.
    fn folders() -> (tempfile::TempDir, Policy) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["inside", "inside/private", "outside", "inside-out"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("inside/a.txt"), "a").unwrap();
        fs::write(dir.path().join("inside/private/key"), "k").unwrap();
        fs::write(dir.path().join("outside/secret"), "s").unwrap();
        let inside = dir.path().join("inside");
        let policy = Policy::new(Grants {
            profile: Profile::Safe,
            workdir: inside.clone(),
            write: vec![inside.clone()],
            hidden: vec![inside.join("private")],
            ..Grants::default()
        });
        (dir, policy)
    }

    fn class<T: std::fmt::Debug>(result: Result<T>) -> Class {
        result.unwrap_err().class()
    }

    #[test]
    fn roots_are_compared_by_components_and_links_cannot_escape() {
        let (dir, policy) = folders();
        let at = |path: &str| dir.path().join(path);
        symlink(at("outside/secret"), at("inside/link")).unwrap();
        symlink(at("outside"), at("inside/folder")).unwrap();
        symlink(at("outside/missing"), at("inside/dangling")).unwrap();
        assert!(policy.open_read(&at("inside/a.txt")).is_ok());
        assert!(policy.open_read(Path::new("a.txt")).is_ok(), "relative to the working folder");
        for path in
            ["inside-out/x", "inside/../outside/secret", "inside/link", "inside/folder/secret", "inside/dangling"]
        {
            assert_eq!(class(policy.open_read(&at(path))), Class::Denied, "{path}");
            assert_eq!(class(policy.check_read(&at(path))), Class::Denied, "{path}");
            let options = OpenOptions::new().write(true).create(true).clone();
            assert_eq!(class(policy.open_write(&at(path), &options)), Class::Denied, "{path}");
        }
        assert!(!at("outside/missing").exists());
    }

    #[test]
    fn outside_existing_and_missing_look_the_same() {
        let (dir, policy) = folders();
        let there = policy.check_read(&dir.path().join("outside/secret")).unwrap_err();
        let missing = policy.check_read(&dir.path().join("outside/absent")).unwrap_err();
        assert_eq!(there.text().replace("secret", "absent"), missing.text());
        let hint = there.next_step().unwrap();
        assert_eq!(hint.replace("secret", "absent"), missing.next_step().unwrap());
        assert!(hint.ends_with("/outside/secret.") && hint.contains("--allow-read="), "{hint}");
        assert_eq!(class(policy.check_read(&dir.path().join("inside/absent"))), Class::NotFound);
    }

    #[test]
    fn hidden_wins_over_everything() {
        let (dir, _) = folders();
        let private = dir.path().join("inside/private");
        let policy = Policy::new(Grants {
            profile: Profile::Privileged,
            workdir: "/".into(),
            read: vec!["*".into()],
            hidden: vec![private.clone()],
            ..Grants::default()
        });
        assert!(policy.open_read(&dir.path().join("outside/secret")).is_ok());
        assert_eq!(class(policy.open_read(&private.join("key"))), Class::Denied);
        assert_eq!(class(policy.place_to_remove(&dir.path().join("inside"))), Class::Denied);
    }

    #[test]
    fn writing_creates_inside_only_and_never_through_a_link() {
        let (dir, policy) = folders();
        let options = OpenOptions::new().write(true).create_new(true).clone();
        assert!(policy.open_write(&dir.path().join("inside/new"), &options).is_ok());
        assert_eq!(class(policy.check_write(&dir.path().join("inside/no/such"))), Class::NotFound);
        assert_eq!(class(policy.place_to_remove(&dir.path().join("inside"))), Class::Denied, "a root");
    }

    #[test]
    fn standard_has_workdir_and_temporary_folder_unless_workdir_is_the_root() {
        let everywhere = Policy::new(Grants { workdir: "/".into(), ..Grants::default() });
        assert_eq!(class(everywhere.check_read(Path::new("/etc/hostname"))), Class::Denied);
        assert!(everywhere.check_write(&std::env::temp_dir().join("x")).is_ok());
        let etc = everywhere.with_read(Path::new("/etc"));
        assert!(etc.check_read(Path::new("/etc/passwd")).is_ok());
        assert_eq!(class(etc.check_write(Path::new("/etc/passwd"))), Class::Denied);
    }

    #[test]
    fn variables_with_secrets_are_named_or_absent() {
        let with = |profile, env: &[&str]| {
            let env = env.iter().map(|name| (*name).to_owned()).collect();
            Policy::new(Grants { profile, workdir: "/".into(), env, ..Grants::default() })
        };
        let standard = with(Profile::Standard, &["MY_*"]);
        for (name, allowed) in [
            ("HOME", true),
            ("LC_ALL", true),
            ("MY_COLOUR", true),
            ("MY_API_KEY", false),
            ("AWS_REGION", false),
            ("OTHER", false),
        ] {
            assert_eq!(standard.check_env(name).is_ok(), allowed, "{name}");
        }
        assert!(with(Profile::Standard, &["MY_API_KEY"]).check_env("MY_API_KEY").is_ok());
        assert!(with(Profile::Safe, &[]).check_env("HOME").is_err());
    }

    #[test]
    fn programs_are_granted_by_name_or_path() {
        let with = |run: &[&str]| {
            let run = run.iter().map(|name| (*name).to_owned()).collect();
            Policy::new(Grants { workdir: "/".into(), run, ..Grants::default() })
        };
        assert_eq!(class(with(&[]).check_run("ls")), Class::Denied);
        assert_eq!(class(with(&["cat"]).check_run("ls")), Class::Denied);
        assert!(with(&["ls"]).check_run("ls").unwrap().is_absolute());
        assert_eq!(class(with(&["*"]).check_run("no-such-program")), Class::NotFound);
    }
}
