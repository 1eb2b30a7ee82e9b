//! The states of an agent, and what was counted and measured of its runs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::Outcome;
use crate::error::{Class, Error, Result};
use crate::providers::Usage;

/// Changes of state that are kept.
const KEPT: usize = 100;

/// Where an agent stands. A new one is ready for work without being initialized, as scripts expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// New.
    #[default]
    Uninitialized,
    /// Initialized, or stopped.
    Ready,
    /// Started.
    Running,
    /// It takes no work until it is resumed.
    Paused,
    /// Somebody said that something is wrong with it; it takes no work until it recovers.
    Error,
    /// It takes no work any more.
    Terminated,
}

impl State {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Uninitialized => "Uninitialized",
            State::Ready => "Ready",
            State::Running => "Running",
            State::Paused => "Paused",
            State::Error => "Error",
            State::Terminated => "Terminated",
        }
    }
}

/// What may be done, from which states, and where it leads.
const MOVES: [(&str, &[State], State); 7] = [
    ("initialize", &[State::Uninitialized], State::Ready),
    ("start", &[State::Ready, State::Paused], State::Running),
    ("pause", &[State::Uninitialized, State::Ready, State::Running], State::Paused),
    ("resume", &[State::Paused], State::Running),
    ("stop", &[State::Running, State::Paused], State::Ready),
    ("recover", &[State::Error], State::Ready),
    (
        "terminate",
        &[State::Uninitialized, State::Ready, State::Running, State::Paused, State::Error],
        State::Terminated,
    ),
];

/// A change of state.
#[derive(Clone, Debug)]
struct Change {
    from: State,
    to: State,
    at: SystemTime,
    /// Since the change before.
    after: Duration,
    reason: Option<String>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    changes: Vec<Change>,
    changed: Instant,
    born: Instant,
    count: u64,
    recoveries: u64,
    last_error: Option<String>,
    active: u64,
    done: u64,
    paused: u64,
    failed: u64,
    interrupted: u64,
    time: Duration,
    longest: Duration,
    turns: u64,
    tool_calls: u64,
    tool_errors: u64,
    usage: Usage,
    cost: Option<f64>,
}

/// States and numbers of one agent.
#[derive(Debug)]
pub struct Life(Mutex<Inner>);

impl Default for Life {
    fn default() -> Self {
        let now = Instant::now();
        Life(Mutex::new(Inner {
            state: State::default(),
            changes: Vec::new(),
            changed: now,
            born: now,
            count: 0,
            recoveries: 0,
            last_error: None,
            active: 0,
            done: 0,
            paused: 0,
            failed: 0,
            interrupted: 0,
            time: Duration::ZERO,
            longest: Duration::ZERO,
            turns: 0,
            tool_calls: 0,
            tool_errors: 0,
            usage: Usage::default(),
            cost: None,
        }))
    }
}

impl Inner {
    fn go(&mut self, to: State, reason: Option<String>) {
        let change = Change { from: self.state, to, at: SystemTime::now(), after: self.changed.elapsed(), reason };
        (self.state, self.changed) = (to, Instant::now());
        self.count += 1;
        if self.changes.len() == KEPT {
            self.changes.remove(0);
        }
        self.changes.push(change);
    }
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Does one of `initialize start pause resume stop recover terminate`.
    ///
    /// # Errors
    /// `Usage` when it cannot be done from where it stands.
    pub fn act(&self, what: &str) -> Result<()> {
        let (_, from, to) = MOVES
            .iter()
            .find(|(name, ..)| *name == what)
            .ok_or_else(|| Error::new(Class::Bug, format!("agent: no move {what}")))?;
        let mut life = self.lock();
        if !from.contains(&life.state) {
            let names = from.iter().map(|state| state.name()).collect::<Vec<_>>().join(" or ");
            let now = life.state.name();
            return Err(Error::new(Class::Usage, format!("agent: can only {what} from {names} state, current: {now}")));
        }
        if what == "recover" {
            life.recoveries += 1;
            life.last_error = None;
        }
        life.go(*to, Some(what.to_owned()));
        Ok(())
    }

    /// Somebody says that something is wrong with it.
    pub fn set_error(&self, text: &str) {
        let mut life = self.lock();
        life.last_error = Some(text.to_owned());
        life.go(State::Error, Some(text.to_owned()));
    }

    /// What went wrong last, if nothing went right since.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.lock().last_error.clone()
    }

    /// How often it recovered.
    #[must_use]
    pub fn recoveries(&self) -> u64 {
        self.lock().recoveries
    }

    /// Whether it takes work, and its last run did not fail.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let life = self.lock();
        life.last_error.is_none() && !matches!(life.state, State::Error | State::Terminated)
    }

    /// A run begins.
    pub(super) fn begin(&self) -> Result<()> {
        let mut life = self.lock();
        let hint = match life.state {
            State::Paused => "agent:resume() lets it work again.",
            State::Error => "agent:recover() lets it work again.",
            State::Terminated => "Build another one.",
            _ => {
                life.active += 1;
                return Ok(());
            }
        };
        Err(Error::new(Class::Conflict, format!("takes no work, its state is {}", life.state.name())).hint(hint))
    }

    /// It ended so.
    pub(super) fn end(&self, result: &Result<Outcome>, took: Duration) {
        let mut life = self.lock();
        life.active -= 1;
        life.time += took;
        life.longest = life.longest.max(took);
        match result {
            Ok(outcome) => {
                if outcome.is_paused() {
                    life.paused += 1;
                } else {
                    life.done += 1;
                }
                life.last_error = None;
                life.turns += outcome.turns as u64;
                life.tool_calls += outcome.tool_calls as u64;
                life.tool_errors += outcome.tool_errors as u64;
                life.usage += outcome.usage;
                if let Some(cost) = outcome.cost {
                    *life.cost.get_or_insert(0.0) += cost;
                }
            }
            Err(error) if error.class() == Class::Interrupted => life.interrupted += 1,
            Err(error) => {
                life.failed += 1;
                life.last_error = Some(error.to_string());
            }
        }
    }

    /// What was counted and measured since it was made. Costs in US dollars, as far as prices are known.
    #[must_use]
    pub fn metrics(&self) -> Value {
        let life = self.lock();
        let ended = life.done + life.paused + life.failed + life.interrupted;
        let share = |part: u64| if ended == 0 { Value::Null } else { json!(part as f64 / ended as f64) };
        let mean = if ended == 0 { Value::Null } else { json!(life.time.as_secs_f64() * 1000.0 / ended as f64) };
        json!({
            "total_executions": ended, "active": life.active, "successful": life.done, "paused": life.paused,
            "failed": life.failed, "interrupted": life.interrupted,
            "success_rate": share(life.done), "error_rate": share(life.failed),
            "average_execution_time_ms": mean, "max_execution_time_ms": life.longest.as_secs_f64() * 1000.0,
            "total_execution_time_ms": life.time.as_secs_f64() * 1000.0,
            "turns": life.turns, "tool_calls": life.tool_calls, "tool_errors": life.tool_errors,
            "usage": life.usage, "cost_usd": life.cost, "uptime_ms": life.born.elapsed().as_secs_f64() * 1000.0,
        })
    }

    /// `{current_state, total_transitions, recovery_attempts, uptime}`, seconds.
    #[must_use]
    pub fn state_metrics(&self) -> Value {
        let life = self.lock();
        json!({
            "current_state": life.state.name(), "total_transitions": life.count, "recovery_attempts": life.recoveries,
            "uptime": life.born.elapsed().as_secs_f64(),
        })
    }

    /// The last changes of state: `{from, to, timestamp, elapsed, reason?}`, seconds.
    #[must_use]
    pub fn history(&self) -> Value {
        let shown = |change: &Change| {
            let mut row = json!({
                "from": change.from.name(), "to": change.to.name(), "elapsed": change.after.as_secs_f64(),
                "timestamp": humantime::format_rfc3339_millis(change.at).to_string(),
            });
            if let Some(reason) = &change.reason {
                row["reason"] = reason.as_str().into();
            }
            row
        };
        self.lock().changes.iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_each_other() {
        let life = Life::default();
        let error = life.act("start").unwrap_err();
        assert!(error.text().ends_with("can only start from Ready or Paused state, current: Uninitialized"), "{error}");
        for (what, state) in [("initialize", "Ready"), ("start", "Running"), ("pause", "Paused")] {
            life.act(what).unwrap();
            assert_eq!(life.state().name(), state);
        }
        assert_eq!(life.begin().unwrap_err().class(), Class::Conflict);
        life.act("resume").unwrap();
        life.begin().unwrap();
        life.set_error("broken");
        assert!(!life.is_healthy() && life.begin().is_err());
        life.act("recover").unwrap();
        assert!(life.is_healthy());
        life.act("terminate").unwrap();
        assert!(life.act("recover").is_err());
        assert_eq!(life.history().as_array().unwrap().len(), 7);
        assert_eq!(life.state_metrics()["total_transitions"], 7);
    }

    #[test]
    fn nothing_is_counted_that_did_not_happen() {
        let life = Life::default();
        assert_eq!(life.metrics()["success_rate"], Value::Null);
        life.begin().unwrap();
        assert_eq!(life.metrics()["active"], 1);
        life.end(&Ok(Outcome { turns: 2, ..Outcome::default() }), Duration::from_millis(5));
        life.begin().unwrap();
        life.end(&Err(Error::new(Class::Remote, "gone")), Duration::from_millis(15));
        let metrics = life.metrics();
        assert_eq!((&metrics["success_rate"], &metrics["turns"]), (&json!(0.5), &json!(2)));
        assert_eq!(metrics["average_execution_time_ms"], 10.0);
        assert_eq!(life.last_error().as_deref(), Some("gone"));
    }
}
