//! Questions to the user: the script thread waits here, the io thread brings the answer, an interrupt ends the wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::{Class, Error, Result};

/// Where the script thread waits for an `input_reply`.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose session was asked, and the id of the question; nobody else may answer, and what comes unasked is dropped.
    asked: Option<(String, String)>,
    answer: Option<Option<String>>,
    /// Whether the request that is served was interrupted.
    interrupted: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script thread begins to serve a request: interrupts so far were for others.
    pub(super) fn begin(&self) {
        *self.lock() = State::default();
    }

    /// Whether the request that is served was interrupted.
    pub(super) fn is_interrupted(&self) -> bool {
        self.lock().interrupted
    }

    /// Sends the question by `ask`, which returns its id, and waits for the answer of `session`; `None` is the end of
    /// its input.
    pub(super) fn wait(
        &self,
        session: &str,
        deadline: Option<Instant>,
        ask: impl FnOnce() -> String,
    ) -> Result<Option<String>> {
        let mut state = self.lock();
        state.answer = None;
        state.asked = Some((session.to_owned(), ask()));
        let answer = loop {
            if state.interrupted {
                break Err(Error::new(Class::Interrupted, "interrupted"));
            }
            if let Some(line) = state.answer.take() {
                break Ok(line);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break Err(Error::new(Class::Timeout, "nobody answered in time")),
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        };
        state.asked = None;
        answer
    }

    /// An `input_reply` of `session` came. `parent` is the id of the question, if it says so; some clients do not.
    pub(super) fn answer(&self, session: &str, parent: &str, line: Option<String>) {
        let mut state = self.lock();
        let meant = state.asked.as_ref().is_some_and(|(by, id)| by == session && (parent.is_empty() || parent == id));
        if meant {
            state.answer = Some(line);
            self.changed.notify_all();
        }
    }

    /// The script is interrupted.
    pub(super) fn interrupt(&self) {
        self.lock().interrupted = true;
        self.changed.notify_all();
    }
}
