//! Runs of agents and workflows that go on where they ended: what was finished is kept and not done again, also after
//! `kill -9`. One process at a time owns a run.
//!
//! [`Run::open`] with an id that is new begins one, with a known id it goes on. What a step came to is [`Run::record`]ed
//! under a key that is the same each time, and found by [`Run::step`] the next time. [`Run::end`] says how it ended.

use std::collections::HashMap;

use serde_json::Value;

use crate::daemon::PidFile;
use crate::error::{Class, Error, Result};
use crate::state::State;

/// Days after which a run that nobody touched is forgotten.
pub const KEPT_DAYS: i64 = 30;

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Somebody works on it, or was killed while they did.
    Running,
    /// It waits for a person.
    Paused,
    /// It ended with an error and can go on.
    Failed,
    /// It has a result.
    Done,
}

impl Status {
    /// Its name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Failed => "failed",
            Status::Done => "done",
        }
    }

    fn of(name: &str) -> Self {
        [Status::Paused, Status::Failed, Status::Done].into_iter().find(|s| s.name() == name).unwrap_or(Status::Running)
    }
}

/// A run this process owns until it is dropped.
pub struct Run<'a> {
    state: &'a State,
    id: String,
    about: Value,
    status: Status,
    result: Value,
    recorded: HashMap<String, Value>,
    _lock: Option<PidFile>,
}

/// An id that is nobody's yet.
#[must_use]
pub fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// # Errors
/// `Usage` for what can be no id: it is 1 to 128 letters, digits, `-`, `_`, `.` or `:`.
pub fn check_id(id: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if (1..=128).contains(&id.len()) && id.bytes().all(fits) && !id.starts_with('.') {
        return Ok(());
    }
    Err(Error::new(Class::Usage, format!("run {id:?}: not an id"))
        .hint("Up to 128 letters, digits, '-', '_', '.' and ':'."))
}

impl<'a> Run<'a> {
    /// Begins the run `id` of `kind`, or takes up where it ended.
    ///
    /// # Errors
    /// `Conflict` while somebody works on it, or when the id is that of another kind or about something else; `Usage` for a
    /// bad id; `System` when the store cannot be written.
    pub fn open(state: &'a State, id: &str, kind: &str, about: &Value) -> Result<Self> {
        check_id(id)?;
        let lock = match state.file() {
            Some(file) => {
                let dir = file.with_extension("runs");
                crate::home::private_dir(&dir)?;
                Some(PidFile::acquire(&dir.join(id)).map_err(|error| {
                    let hint = "It is being worked on; wait for it, or choose another id.";
                    let named = error.within(format!("run {id}"));
                    if named.class() == Class::Conflict { named.hint(hint) } else { named }
                })?)
            }
            None => None,
        };
        let in_memory = lock.is_none();
        let row = state.store(|store| {
            if let (true, Some(row)) = (in_memory, store.run(id)?)
                && row.status == "running"
            {
                return Err(Error::new(Class::Conflict, format!("run {id}: it is being worked on")));
            }
            store.prune_runs(KEPT_DAYS)?;
            let row = store.begin_run(id, kind, about)?;
            if row.kind != kind || row.about != *about {
                let what = if row.kind == kind { "something else" } else { &row.kind };
                return Err(Error::new(Class::Conflict, format!("run {id}: there is one about {what}"))
                    .hint("Give what is new an id of its own."));
            }
            if row.status != "done" {
                store.set_run(id, "running", &Value::Null)?;
            }
            Ok(row)
        })?;
        let recorded = state.store(|store| store.steps(id))?.into_iter().collect();
        let status = Status::of(&row.status);
        Ok(Run { state, id: row.id, about: row.about, status, result: row.result, recorded, _lock: lock })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is about, as it was begun.
    #[must_use]
    pub fn about(&self) -> &Value {
        &self.about
    }

    /// What it came to, if it was done before.
    #[must_use]
    pub fn result(&self) -> Option<&Value> {
        (self.status == Status::Done).then_some(&self.result)
    }

    /// What was recorded for `key` before this process took it up.
    #[must_use]
    pub fn step(&self, key: &str) -> Option<&Value> {
        self.recorded.get(key)
    }

    /// Keeps what the step `key` came to. Once this returns, it outlives the process.
    ///
    /// # Errors
    /// `System` when the store cannot be written.
    pub fn record(&self, key: &str, result: &Value) -> Result<()> {
        self.state.store(|store| store.put_step(&self.id, key, result))
    }

    /// Says how it stands, and gives it back.
    ///
    /// # Errors
    /// `System` when the store cannot be written.
    pub fn end(mut self, status: Status, result: &Value) -> Result<()> {
        self.status = status;
        self.state.store(|store| store.set_run(&self.id, status.name(), result))
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // Nobody would take it up again in a store that is only in memory.
        if self._lock.is_none() && self.status == Status::Running {
            let _ = self.state.store(|store| store.set_run(&self.id, Status::Failed.name(), &Value::Null));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn both(test: impl Fn(&State)) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::default();
        state.keep_in(dir.path().join("k.db"));
        test(&state);
        test(&State::default());
    }

    #[test]
    fn what_was_recorded_is_found_again() {
        both(|state| {
            let about = json!({"q": 1});
            let run = Run::open(state, "a:1", "agent", &about).unwrap();
            assert_eq!(run.step("one"), None);
            run.record("one", &json!([1])).unwrap();
            run.record("one", &json!([1, 2])).unwrap();
            assert_eq!(Run::open(state, "a:1", "agent", &about).err().unwrap().class(), Class::Conflict, "it is owned");
            drop(run);
            let run = Run::open(state, "a:1", "agent", &about).unwrap();
            assert_eq!((run.step("one"), run.result()), (Some(&json!([1, 2])), None));
            run.end(Status::Done, &json!("fine")).unwrap();
            for (kind, about) in [("workflow", about.clone()), ("agent", json!({"q": 2}))] {
                assert_eq!(Run::open(state, "a:1", kind, &about).err().unwrap().class(), Class::Conflict);
            }
            let run = Run::open(state, "a:1", "agent", &about).unwrap();
            assert_eq!(run.result(), Some(&json!("fine")));
        });
    }

    #[test]
    fn ids_are_file_names() {
        let long = "x".repeat(129);
        for id in ["", "../x", "a/b", ".x", "é", long.as_str()] {
            assert_eq!(Run::open(&State::default(), id, "agent", &json!(1)).err().unwrap().class(), Class::Usage);
        }
        check_id(&new_id()).unwrap();
    }
}
