//! Starting one kernel: the program, detached from us in every way, and the line with which it says that it is ready.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::Deserialize;

use super::limits::{Cgroups, Enforced, prepare};
use super::sys;
use super::wanted::Wanted;
use crate::client::Program;
use crate::error::{CLASSES, Class, Error, Result};
use crate::home::{self, Home};

/// What a kernel prints when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// Its id.
    pub id: String,
    /// Its process.
    pub pid: i32,
    /// Where clients read how to connect.
    pub connection_file: PathBuf,
    /// Where the shell channel is.
    pub endpoint: String,
}

/// A kernel on its way.
pub struct Launch {
    id: String,
    child: Child,
    stdout: ChildStdout,
    line: Vec<u8>,
    log: PathBuf,
    /// Where the log ended before.
    from: u64,
    /// What holds its limits.
    pub enforced: Option<Enforced>,
}

impl Launch {
    /// Starts what `wanted` describes. It goes on whatever becomes of us.
    ///
    /// # Errors
    /// `NotFound` without the program; `Absent` when its limits cannot be held here; `System`.
    pub fn start(home: &Home, wanted: &Wanted) -> Result<Self> {
        let limits = prepare(wanted, &Cgroups::find())?;
        home::private_dir(&home.log_dir())?;
        let log = home.log_file(&wanted.id);
        let output =
            fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&log).map_err(|e| Error::io(&log, e))?;
        let from = output.metadata().map_or(0, |meta| meta.len());
        let program = Program("llmspell-kernel").path();
        let mut command = Command::new(&program);
        command.args(["--id", &wanted.id, "--port", &wanted.port.to_string(), "--json"]);
        // It rotates its log itself; what is printed besides, a panic for one, is appended to the same file.
        command.arg("--log-file").arg(&log);
        if let Some(config) = &wanted.config {
            command.arg("--config").arg(config);
        }
        if let Some(engine) = &wanted.engine {
            command.args(["--engine", engine]);
        }
        command
            .arg("--workdir")
            .arg(&wanted.workdir)
            .args(&wanted.arguments)
            .envs(&wanted.env)
            .env("LLMSPELL_HOME", home.root())
            .env_remove("LLMSPELL_KERNEL")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(output);
        sys::detach(&mut command, limits.procs, limits.data);
        let mut child = command.spawn().map_err(|error| {
            Error::system(program.display(), error).hint("Install llmspell-kernel beside llmspell-fleet.")
        })?;
        let stdout = child.stdout.take().ok_or_else(|| Error::new(Class::Bug, "a child without output"))?;
        rustix::io::ioctl_fionbio(&stdout, true).map_err(|e| Error::system("pipe", e.into()))?;
        let (id, enforced) = (wanted.id.clone(), limits.enforced);
        Ok(Launch { id, child, stdout, line: Vec::new(), log, from, enforced })
    }

    /// Readable when [`Launch::advance`] may have something to say.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Takes what it printed; nothing while it is neither ready nor gone.
    pub fn advance(&mut self) -> Option<Result<Ready>> {
        let mut buffer = [0; 4096];
        loop {
            match self.stdout.read(&mut buffer) {
                Ok(0) => return Some(Err(self.failed())),
                Ok(count) => self.line.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(Error::system(format!("kernel {}", self.id), error))),
            }
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let ready = serde_json::from_slice(&self.line[..end]);
                return Some(ready.map_err(|error| {
                    Error::new(Class::Remote, format!("kernel {}: its first line is not JSON: {error}", self.id))
                }));
            }
        }
    }

    /// Ends it: it took too long.
    pub fn give_up(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its process, to be waited for by whoever goes on.
    #[must_use]
    pub fn into_child(self) -> Child {
        self.child
    }

    /// Why it ended before it was ready: its class is that of its exit status, its words are in its log.
    fn failed(&mut self) -> Error {
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return Error::system(format!("kernel {}", self.id), error),
        };
        let class = CLASSES
            .iter()
            .find(|row| status.code() == Some(i32::from(row.exit)))
            .map_or(Class::Remote, |row| row.class);
        let (said, hint) = said(&tail(&self.log, self.from));
        let text = said.unwrap_or_else(|| format!("ended before it was ready ({status})"));
        let error = Error::new(class, format!("kernel {}: {text}", self.id));
        error.hint(hint.unwrap_or_else(|| format!("Its log: {}", self.log.display())))
    }
}

/// What was written to `path` since it had `from` bytes.
fn tail(path: &std::path::Path, from: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(from)).is_ok()
    {
        let _ = file.take(64 * 1024).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The error a program of ours reported, and the hint on the line below.
fn said(text: &str) -> (Option<String>, Option<String>) {
    const NAME: &str = "llmspell-kernel: ";
    let mut found = (None, None);
    for line in text.lines() {
        match line.strip_prefix(NAME) {
            Some(rest) if rest.starts_with("warning: ") => {}
            Some(rest) => found = (Some(rest.to_owned()), None),
            None if found.0.is_some() && found.1.is_none() => found.1 = Some(line.to_owned()),
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_kernel_is_found_in_what_it_wrote() {
        let text = "2026-01-01T00:00:00.000Z INFO x: y\nllmspell-kernel: warning: old key\nllmspell-kernel: port: in use\nTake another.\nmore\n";
        assert_eq!(said(text), (Some("port: in use".into()), Some("Take another.".into())));
        assert_eq!(said("nothing of ours\n"), (None, None));
    }
}
