//! Puts a kernel's service where systemd or launchd finds it, and takes it away again. Files that somebody else wrote stay.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{File, Format, Scope, Service, Setting, files, launchd, unit};
use crate::error::{Class, Error, Result};
use crate::home::DEFAULT_KERNEL;

/// What every file of ours holds.
const MARK: &str = "Made by `llmspell-kernel install-service`";
const SYSUSERS: &str = "/etc/sysusers.d/llmspell.conf";

/// What to install, and what to do then.
#[derive(Clone, Debug)]
pub struct Plan {
    /// systemd or launchd.
    pub format: Format,
    /// Where and whose.
    pub setting: Setting,
    /// The kernel.
    pub service: Service,
    /// Replace files of somebody else.
    pub force: bool,
    /// Start it with the machine, or with the user's first session.
    pub enable: bool,
    /// Start it now.
    pub start: bool,
}

impl Plan {
    /// The files and where they go.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, File)> {
        let folder = self.folder();
        let place = |file: File| match file.name.strip_suffix(".sysusers") {
            Some(_) => (PathBuf::from(SYSUSERS), file),
            None => (folder.join(&file.name), file),
        };
        files(self.format, std::slice::from_ref(&self.service), &self.setting).into_iter().map(place).collect()
    }

    fn folder(&self) -> PathBuf {
        let home = &self.setting.home;
        match (self.format, self.setting.scope) {
            (Format::Launchd, Scope::System) => "/Library/LaunchDaemons".into(),
            (Format::Launchd, Scope::User) => home.join("Library/LaunchAgents"),
            (_, Scope::System) => "/etc/systemd/system".into(),
            (_, Scope::User) => std::env::var_os("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute())
                .unwrap_or_else(|| home.join(".config"))
                .join("systemd/user"),
        }
    }

    /// The folder of the configurations of kernels.
    fn kernels(&self) -> PathBuf {
        match self.setting.scope {
            Scope::System => "/etc/llmspell/kernels".into(),
            Scope::User => self.setting.home.join(".llmspell/kernels"),
        }
    }

    /// The configuration its unit names.
    #[must_use]
    pub fn config(&self) -> Option<PathBuf> {
        let usual = (self.format == Format::Systemd && self.service.id != DEFAULT_KERNEL)
            .then(|| self.kernels().join(format!("{}.toml", self.service.id)));
        self.service.config.clone().or(usual)
    }

    /// Writes the files, and `config` as the configuration if the unit names one that is missing. Tells `say` what was done
    /// and what is left to do, a line each.
    ///
    /// # Errors
    /// `Denied` when a system service is not installed by root or could not reach the program, `Conflict` when a file is
    /// somebody else's, `Remote` when systemd or launchd refuses.
    pub fn install(&self, config: &str, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        self.check()?;
        for (path, file) in self.files() {
            if !self.force && fs::read_to_string(&path).is_ok_and(|there| there != file.text && !ours(&path, &there)) {
                return Err(Error::new(Class::Conflict, format!("{}: written by somebody else", path.display()))
                    .hint("Move it away, or replace it with --force."));
            }
        }
        for (path, file) in self.files() {
            if fs::read_to_string(&path).is_ok_and(|there| there == file.text) {
                say(format!("unchanged {}", path.display()))?;
                continue;
            }
            folder(path.parent().unwrap_or(Path::new("/")), 0o755)?;
            write(&path, &file.text, 0o644)?;
            say(format!("wrote {}", path.display()))?;
        }
        match self.format {
            Format::Launchd => self.launchd(say),
            _ => self.systemd(config, say),
        }
    }

    fn check(&self) -> Result<()> {
        if self.setting.scope == Scope::User {
            return Ok(());
        }
        if !is_root() {
            return Err(Error::new(Class::Denied, "--system: only root can install a service of the machine")
                .hint("Use sudo, or install it for yourself with --user."));
        }
        let program = &self.setting.program;
        if self.format == Format::Systemd && ["/home", "/root", "/run/user"].iter().any(|dir| program.starts_with(dir))
        {
            return Err(Error::new(Class::Denied, format!("{}: out of reach for a system service", program.display()))
                .hint("Install the programs first (make install), and run install-service from there."));
        }
        Ok(())
    }

    fn systemd(&self, config: &str, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        let system = self.setting.scope == Scope::System;
        folder(&self.kernels(), if system { 0o755 } else { 0o700 })?;
        if let Some(path) = self.config().filter(|path| !path.exists()) {
            write(&path, config, if system { 0o644 } else { 0o600 })?;
            say(format!("wrote {}, which sets nothing yet", path.display()))?;
        }
        let unit = unit(&self.service.id);
        if !running() {
            say("systemd does not run here: nothing was reloaded or started".into())?;
            return match self.enable || self.start {
                true => Err(Error::new(Class::Remote, "systemd: not running").hint("Enable the unit where it runs.")),
                false => Ok(()),
            };
        }
        if system {
            call("systemd-sysusers", &[SYSUSERS])?;
        }
        let systemctl = |words: &[&str]| {
            let scope: &[&str] = if system { &[] } else { &["--user"] };
            call("systemctl", &[scope, words].concat())
        };
        systemctl(&["daemon-reload"])?;
        if self.enable {
            systemctl(&["enable", "--quiet", &unit])?;
            say(format!("enabled {unit}"))?;
        }
        if self.start {
            // One that runs gets the unit as it is now.
            systemctl(&["restart", &unit])?;
            say(format!("started {unit}"))?;
        }
        let user = if system { "" } else { " --user" };
        match (self.enable, self.start) {
            (false, false) => say(format!("next: systemctl{user} enable --now {unit}"))?,
            (true, false) => say(format!("next: systemctl{user} start {unit}"))?,
            _ => {}
        }
        if !system && !lingers() {
            say("it ends with your last session; to keep it: loginctl enable-linger".into())?;
        }
        Ok(())
    }

    fn launchd(&self, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        for dir in [
            launchd::log(&self.service, &self.setting).parent().unwrap_or(Path::new("/")),
            &launchd::workdir(&self.service, &self.setting),
        ] {
            folder(dir, 0o700)?;
        }
        let domain = match self.setting.scope {
            Scope::System => "system".to_owned(),
            Scope::User => format!("gui/{}", rustix::process::getuid().as_raw()),
        };
        let list = self.folder().join(format!("{}.plist", launchd::label(&self.service.id))).display().to_string();
        if self.enable || self.start {
            call("launchctl", &["bootstrap", &domain, &list])?;
            say(format!("started {}", launchd::label(&self.service.id)))
        } else {
            say(format!("next: launchctl bootstrap {domain} {list}"))
        }
    }

    /// Stops the kernel and removes what [`Plan::install`] wrote: the units once no other kernel has a configuration of
    /// its own. Configurations, state and logs stay.
    ///
    /// # Errors
    /// `NotFound` when nothing is installed, `Denied`, `Remote`.
    pub fn remove(&self, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        if self.setting.scope == Scope::System && !is_root() {
            return Err(
                Error::new(Class::Denied, "--system: only root can remove a service of the machine").hint("Use sudo.")
            );
        }
        let there: Vec<PathBuf> = (self.files().into_iter())
            .map(|(path, _)| path)
            .filter(|path| fs::read_to_string(path).is_ok_and(|text| self.force || ours(path, &text)))
            .collect();
        if there.is_empty() {
            return Err(Error::new(Class::NotFound, format!("{}: no service of ours", self.folder().display()))
                .hint("Say whose with --user or --system."));
        }
        match self.format {
            Format::Launchd => {
                let domain = match self.setting.scope {
                    Scope::System => "system".to_owned(),
                    Scope::User => format!("gui/{}", rustix::process::getuid().as_raw()),
                };
                let label = launchd::label(&self.service.id);
                if call("launchctl", &["bootout", &format!("{domain}/{label}")]).is_ok() {
                    say(format!("stopped {label}"))?;
                }
            }
            _ if running() => {
                let scope: &[&str] = if self.setting.scope == Scope::System { &[] } else { &["--user"] };
                let words = ["disable", "--quiet", "--now", super::UNIT, "llmspell-kernel@.service"];
                call("systemctl", &[scope, &words].concat())?;
                // Instances that were started and not enabled.
                call("systemctl", &[scope, &["stop", "llmspell-kernel@*"]].concat())?;
                say("stopped and disabled llmspell-kernel and all llmspell-kernel@ID".into())?;
            }
            _ => {}
        }
        for path in there {
            fs::remove_file(&path).map_err(|error| Error::io(&path, error))?;
            say(format!("removed {}", path.display()))?;
        }
        if self.format == Format::Systemd && running() {
            let scope: &[&str] = if self.setting.scope == Scope::System { &[] } else { &["--user"] };
            call("systemctl", &[scope, &["daemon-reload"]].concat())?;
        }
        let state = match self.setting.scope {
            Scope::System => "/var/lib/llmspell".into(),
            Scope::User => self.setting.home.join(".llmspell"),
        };
        say(format!("kept {} and {}", self.kernels().display(), state.display()))
    }
}

/// Whether this process is root's.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether we wrote it.
fn ours(path: &Path, text: &str) -> bool {
    text.contains(MARK) || path == Path::new(SYSUSERS)
}

/// Whether systemd is what runs this machine.
fn running() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Whether services of this user go on after the last session.
fn lingers() -> bool {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    !user.is_empty() && Path::new("/var/lib/systemd/linger").join(user).exists()
}

/// Makes one of our folders; one that is there keeps its mode.
fn folder(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| Error::io(path, error))
}

/// All of the file or nothing. A symbolic link is replaced and not followed.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let new = path.with_file_name(format!(".{}.{}", super::file_name(path), uuid::Uuid::new_v4().simple()));
    let written = fs::write(&new, text)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        Error::io(path, error)
    })
}

/// Runs `program` and shows what it complains of.
fn call(program: &str, words: &[&str]) -> Result<()> {
    let line = || format!("{program} {}", words.join(" "));
    let done = Command::new(program).args(words).output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(Class::NotFound, format!("{program}: no such program")),
        _ => Error::system(line(), error),
    })?;
    if done.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
    let error = Error::new(Class::Remote, format!("{}: {text}", line()));
    Err(match text.contains("Failed to connect to bus") {
        true => error.hint("There is no session of this user: log in as the user, not with su or sudo."),
        false if words.contains(&"restart") => error.hint("journalctl -e -u llmspell-kernel tells why."),
        false => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(home: &Path, format: Format) -> Plan {
        let setting = Setting {
            program: "/usr/local/bin/llmspell-kernel".into(),
            scope: Scope::User,
            home: home.into(),
            sources: None,
        };
        Plan { format, setting, service: Service::new("a"), force: false, enable: false, start: false }
    }

    #[test]
    fn what_somebody_else_wrote_stays() {
        let home = tempfile::tempdir().unwrap();
        let plan = plan(home.path(), Format::Launchd);
        let (path, file) = plan.files().remove(0);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        let mut said = Vec::new();
        let mut say = |line| {
            said.push(line);
            Ok(())
        };
        assert_eq!(plan.install("", &mut say).unwrap_err().class(), Class::Conflict);
        assert_eq!(plan.remove(&mut say).unwrap_err().class(), Class::NotFound);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        Plan { force: true, ..plan.clone() }.install("", &mut say).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), file.text);
        plan.install("", &mut say).unwrap();
        plan.remove(&mut say).unwrap();
        assert!(!path.exists());
        assert!(said.iter().any(|line| line.starts_with("unchanged ")), "{said:?}");
    }
}
