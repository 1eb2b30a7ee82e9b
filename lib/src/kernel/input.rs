//! Questions to the user: the script thread waits here, the io thread brings the answer, an interrupt ends the wait.

use std::sync::{Condvar, Mutex, PoisonError};
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
    /// The session that was asked; nobody else may answer, and what comes unasked is dropped.
    asked: Option<String>,
    answer: Option<Answer>,
}

enum Answer {
    Line(Option<String>),
    Interrupted,
}

impl Gate {
    /// Runs `ask` and waits for the answer of `session`; `None` is the end of its input.
    pub(super) fn wait(&self, session: &str, deadline: Option<Instant>, ask: impl FnOnce()) -> Result<Option<String>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { asked: Some(session.to_owned()), answer: None };
        ask();
        loop {
            match state.answer.take() {
                Some(Answer::Line(line)) => {
                    state.asked = None;
                    return Ok(line);
                }
                Some(Answer::Interrupted) => {
                    state.asked = None;
                    return Err(Error::new(Class::Interrupted, "interrupted"));
                }
                None => {}
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    state.asked = None;
                    return Err(Error::new(Class::Timeout, "nobody answered in time"));
                }
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// An `input_reply` of `session` came.
    pub(super) fn answer(&self, session: &str, line: Option<String>) {
        self.put(|state| (state.asked.as_deref() == Some(session)).then_some(Answer::Line(line)));
    }

    /// The script is interrupted.
    pub(super) fn interrupt(&self) {
        self.put(|state| state.asked.is_some().then_some(Answer::Interrupted));
    }

    fn put(&self, answer: impl FnOnce(&State) -> Option<Answer>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answer(&state) {
            state.answer = Some(answer);
            self.changed.notify_all();
        }
    }
}
