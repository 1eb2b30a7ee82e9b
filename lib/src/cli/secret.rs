//! A line that is not shown while it is typed.

use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::error::{Class, Error, Result};

/// A terminal that does not echo while this lives.
pub struct Silence(OwnedFd, Termios);

impl Silence {
    /// Over `terminal`; none where it is none.
    pub fn new(terminal: &impl AsFd) -> Option<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&terminal, OptionalActions::Flush, &quiet).ok()?;
        Some(Silence(terminal, before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, OptionalActions::Flush, &self.1);
    }
}

/// A secret: asked for at a terminal with `prompt`, else the first line of standard input.
///
/// # Errors
/// `Usage` when there is none, or what the system said.
pub fn secret(prompt: &str) -> Result<String> {
    /// No secret is longer.
    const LONGEST: u64 = 64 << 10;
    let input = std::io::stdin().lock();
    let fault = |error| Error::system("standard input", error);
    let silence = if isatty(&input) {
        let _ = write!(std::io::stderr(), "{prompt}: ");
        Silence::new(&input)
    } else {
        None
    };
    let mut line = String::new();
    input.take(LONGEST).read_line(&mut line).map_err(fault)?;
    drop(silence);
    let line = line.trim();
    if line.is_empty() {
        return Err(Error::new(Class::Usage, "standard input: nothing to read"));
    }
    Ok(line.to_owned())
}
