//! A private kernel: a child over ipc in a fresh folder of mode 0700, that ends when we do, however we end.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Client;
use crate::error::{CLASSES, Class, Error, Result};
use crate::home::{self, Home};
use crate::protocol::connection::SOCKET_PATH_MAX;

/// A program of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Program(pub &'static str);

impl Program {
    /// Its file: beside the running program, else the name alone, to be found in PATH.
    #[must_use]
    pub fn path(self) -> PathBuf {
        std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(|dir| dir.join(self.0)))
            .filter(|path| path.is_file())
            .unwrap_or_else(|| PathBuf::from(self.0))
    }
}

/// A child kernel and the connection to it.
pub struct Private {
    /// The connection.
    pub client: Client,
    /// Its standard input is the pipe whose end tells it to leave.
    child: Child,
}

impl Private {
    /// Starts one with `arguments` beside our own and connects.
    ///
    /// # Errors
    /// `NotFound` without the program; otherwise the class of the child's exit status, whose message is on stderr.
    pub fn start(home: &Home, arguments: &[OsString], output: bool) -> Result<Self> {
        let dir = folder(home)?;
        Self::start_in(&dir, arguments, output).inspect_err(|_| {
            let _ = std::fs::remove_dir_all(&dir);
        })
    }

    fn start_in(dir: &Path, arguments: &[OsString], output: bool) -> Result<Self> {
        let program = Program("llmspell-kernel").path();
        let mut child = Command::new(&program)
            .arg("--private")
            .arg(dir)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C at the terminal is ours to pass on.
            .process_group(0)
            .spawn()
            .map_err(|error| {
                Error::system(program.display(), error)
                    .hint("Install llmspell-kernel beside this program, or name a running one with --kernel.")
            })?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            // The line that says it is ready; nothing when it fails.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        if line.is_empty() {
            let status = child.wait().map_err(|e| Error::system(program.display(), e))?;
            let class = CLASSES
                .iter()
                .find(|row| status.code() == Some(i32::from(row.exit)))
                .map_or(Class::Remote, |row| row.class);
            return Err(Error::new(class, format!("private kernel: did not start ({status}); it says why above")));
        }
        let client = Client::open(&dir.join("kernel.json"), output)?;
        Ok(Private { client, child })
    }
}

/// A fresh folder: where no script may look, unless that place is too long for a socket's path or cannot be written.
fn folder(home: &Home) -> Result<PathBuf> {
    let name = format!("llmspell-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let make = |parent: &Path| {
        let dir = parent.join(&name);
        DirBuilder::new().mode(0o700).create(&dir).map_err(|e| Error::io(&dir, e)).map(|()| dir)
    };
    let runtime = home.runtime_dir();
    let fits = runtime.as_os_str().len() + name.len() + "//k-5".len() <= SOCKET_PATH_MAX;
    match fits.then(|| home::private_dir(&runtime).and_then(|()| make(&runtime))) {
        Some(Ok(dir)) => Ok(dir),
        _ => make(&std::env::temp_dir()),
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // It cleans up behind itself; there is nothing to wait for.
        drop(self.child.stdin.take());
    }
}
