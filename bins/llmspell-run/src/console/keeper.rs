//! Ends the console from other threads: on SIGTERM, and when its kernel is gone. At the prompt the terminal is raw and its
//! thread waits for a key, so the one who knows ends the process; otherwise the console ends before its next prompt.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use llmspell::cli::report;
use llmspell::daemon::{leave_signal, no_restart, signal_fd};
use llmspell::error::{Class, Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM, SIGURG};

use crate::PROGRAM;
use crate::local::drain;

/// How long the editor is at drawing what a key changed; then twice as long, and so on.
const DRAWN: Duration = Duration::from_millis(2);
const TRIES: u32 = 10;

/// What the threads share.
pub(super) struct Keeper {
    state: Mutex<State>,
    /// Told when the prompt is left.
    left: Condvar,
    /// The terminal as it was.
    before: Termios,
}

#[derive(Default)]
struct State {
    at_prompt: bool,
    /// How many there were.
    prompts: u64,
    /// Why it is to end.
    end: Option<Error>,
}

impl Keeper {
    pub(super) fn new() -> Result<Arc<Self>> {
        let before = tcgetattr(std::io::stdin()).map_err(|e| Error::system("terminal", e.into()))?;
        let keeper = Arc::new(Keeper { state: Mutex::default(), left: Condvar::new(), before });
        // The engine's, which does nothing where no script is to stop; here it also wakes the editor.
        let wakes = signal_fd(&[SIGURG])?;
        no_restart(SIGURG).map_err(|error| Error::system("SIGURG", error))?;
        let (ends, ctrl_c, this) = (signal_fd(&[SIGTERM])?, signal_fd(&[SIGINT])?, Arc::clone(&keeper));
        let watch = move || {
            // The editor's thread is to get it, not the one that sends it.
            leave_signal(SIGURG);
            let _wakes = wakes;
            loop {
                let mut fds = [PollFd::new(&ends, PollFlags::IN), PollFd::new(&ctrl_c, PollFlags::IN)];
                if poll(&mut fds, None).is_err() {
                    continue;
                }
                if !fds[0].revents().is_empty() {
                    return this.end(&Error::new(Class::Interrupted, "ended by a signal"));
                }
                drain(&ctrl_c);
                this.wake_editor();
            }
        };
        std::thread::Builder::new().name("llmspell-end".into()).spawn(watch).map_err(|e| Error::system("thread", e))?;
        Ok(keeper)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the editor look whether there was a signal: it does when one ends its wait for a key, as this one does.
    fn wake_editor(&self) {
        let mut state = self.lock();
        let prompt = state.prompts;
        for pause in (0..TRIES).map(|doubled| DRAWN * (1 << doubled)) {
            if !state.at_prompt || state.prompts != prompt {
                return;
            }
            let _ = kill_process(getpid(), Signal::URG);
            // It may have been drawing, or waiting for a kernel.
            state = self.left.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs `prompt` so that the process can be ended meanwhile; instead says how to end, if it is to.
    pub(super) fn at_prompt<R>(&self, prompt: impl FnOnce() -> R) -> Result<R, Result<u8>> {
        {
            let mut state = self.lock();
            if let Some(error) = state.end.take() {
                return Err(Err(error));
            }
            state.at_prompt = true;
            state.prompts += 1;
        }
        let read = prompt();
        self.lock().at_prompt = false;
        self.left.notify_all();
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
