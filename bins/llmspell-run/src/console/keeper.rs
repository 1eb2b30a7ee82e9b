//! Ends the console from other threads: on SIGTERM, and when its kernel is gone. At the prompt the terminal is raw and its
//! thread waits for a key, so the one who knows ends the process; otherwise the console ends before its next prompt.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llmspell::cli::report;
use llmspell::daemon::signal_fd;
use llmspell::error::{Class, Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::SIGTERM;

use crate::PROGRAM;

/// What the threads share.
pub(super) struct Keeper {
    state: Mutex<State>,
    /// The terminal as it was.
    before: Termios,
}

#[derive(Default)]
struct State {
    at_prompt: bool,
    /// Why it is to end.
    end: Option<Error>,
}

impl Keeper {
    pub(super) fn new() -> Result<Arc<Self>> {
        let before = tcgetattr(std::io::stdin()).map_err(|e| Error::system("terminal", e.into()))?;
        let keeper = Arc::new(Keeper { state: Mutex::default(), before });
        let (signals, this) = (signal_fd(&[SIGTERM])?, Arc::clone(&keeper));
        let watch = move || {
            if poll(&mut [PollFd::new(&signals.as_fd(), PollFlags::IN)], None).is_ok() {
                this.end(&Error::new(Class::Interrupted, "ended by a signal"));
            }
        };
        std::thread::Builder::new().name("llmspell-end".into()).spawn(watch).map_err(|e| Error::system("thread", e))?;
        Ok(keeper)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `prompt` so that the process can be ended meanwhile; instead says how to end, if it is to.
    pub(super) fn at_prompt<R>(&self, prompt: impl FnOnce() -> R) -> Result<R, Result<u8>> {
        {
            let mut state = self.lock();
            if let Some(error) = state.end.take() {
                return Err(Err(error));
            }
            state.at_prompt = true;
        }
        let read = prompt();
        self.lock().at_prompt = false;
        Ok(read)
    }

    /// Ends the console because of `error`.
    pub(super) fn end(&self, error: &Error) {
        let mut state = self.lock();
        if !state.at_prompt {
            let again = Error::new(error.class(), error.text().to_owned());
            state.end = Some(again);
            return;
        }
        // Bracketed paste off, the terminal as it was, a line of its own.
        let _ = std::io::stdout().write_all(b"\x1b[?2004l\r\n");
        let _ = std::io::stdout().flush();
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
        report(PROGRAM, error);
        // What scripts wrote into files they left open gets there.
        std::process::exit(i32::from(error.class().row().exit))
    }
}
