//! What an execution keeps of each finished step, so that it can go on behind it.
//!
//! A row's key is the path of the step. In a loop each pass writes over the rows of the one before, unless there is something
//! to undo in them; so a row says itself where it stands.

use std::cell::{Cell, RefCell};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{KEPT_PASSES, Record, Shared};
use crate::error::{Class, Error, Result};

/// Where rows are kept.
pub trait Journal {
    /// What was kept under `key` before this execution was taken up.
    fn past(&self, key: &str) -> Option<&Value>;

    /// Keeps it. Once this returns, it outlives the process.
    ///
    /// # Errors
    /// `System` when it cannot be written.
    fn keep(&self, key: &str, row: &Value) -> Result<()>;
}

/// A row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// Its place, numbers of passes included.
    at: String,
    /// Rows are numbered in the order they were written.
    number: u64,
    /// What a step has left.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Record>,
    /// What undoes it, expanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<Value>,
    /// Which branches were chosen; what a pass of a loop has left.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// All shared values, once any has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<Map<String, Value>>,
}

/// A journal as an execution uses it.
pub(super) struct Rows<'a> {
    journal: Option<&'a dyn Journal>,
    number: Cell<u64>,
    /// Number of the row the shared values are from.
    shared_from: Cell<u64>,
    changed: Cell<bool>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(journal: Option<&'a dyn Journal>) -> Self {
        Rows { journal, number: Cell::new(1), shared_from: Cell::new(0), changed: Cell::new(false) }
    }

    /// The row that stands at `at`, and the number it was written under; what it says of shared values is taken over.
    fn past(&self, key: &str, at: &str, shared: &RefCell<Shared>) -> Option<Past> {
        let row: Past = serde_json::from_value(self.journal?.past(key)?.clone()).ok()?;
        if row.at != at {
            return None;
        }
        self.number.set(self.number.get().max(row.number + 1));
        if let Some(values) = row.shared.clone().filter(|_| row.number > self.shared_from.get()) {
            self.shared_from.set(row.number);
            self.changed.set(true);
            let mut shared = shared.borrow_mut();
            shared.values = values;
            shared.changed.clear();
        }
        Some(row)
    }

    fn keep(&self, key: &str, mut row: Past, shared: &RefCell<Shared>) -> Result<u64> {
        let number = self.number.get();
        self.number.set(number + 1);
        let Some(journal) = self.journal else { return Ok(number) };
        row.number = number;
        {
            let mut shared = shared.borrow_mut();
            if !std::mem::take(&mut shared.changed).is_empty() {
                self.changed.set(true);
            }
            row.shared = self.changed.get().then(|| shared.values.clone());
        }
        let row = serde_json::to_value(row).map_err(|error| Error::new(Class::Bug, error.to_string()))?;
        journal.keep(key, &row)?;
        Ok(number)
    }

    /// What the step at `place` has left before, with its number and what undoes it.
    pub(super) fn step(
        &self,
        place: &Place,
        unique: bool,
        shared: &RefCell<Shared>,
    ) -> Option<(Record, u64, Option<Value>)> {
        let row = self.past(place.key(unique), &place.full, shared)?;
        Some((row.record?, row.number, row.undo))
    }

    /// Keeps it; its number.
    pub(super) fn keep_step(
        &self,
        place: &Place,
        unique: bool,
        record: &Record,
        undo: Option<&Value>,
        shared: &RefCell<Shared>,
    ) -> Result<u64> {
        if self.journal.is_none() {
            return self.keep("", Past::default(), shared);
        }
        let row = Past { at: place.full.clone(), record: Some(record.clone()), undo: undo.cloned(), ..Past::default() };
        self.keep(place.key(unique), row, shared)
    }

    /// Another value that was kept at `place`.
    pub(super) fn value(&self, place: &Place, shared: &RefCell<Shared>) -> Option<Value> {
        self.past(&place.short, &place.full, shared)?.value
    }

    /// Keeps it.
    pub(super) fn keep_value(&self, place: &Place, value: &Value, shared: &RefCell<Shared>) -> Result<()> {
        if self.journal.is_none() {
            return Ok(());
        }
        let row = Past { at: place.full.clone(), value: Some(value.clone()), ..Past::default() };
        self.keep(&place.short, row, shared).map(drop)
    }

    /// What the record of a body's step was in the newest pass that has one.
    pub(super) fn newest(&self, key: &str) -> Option<Record> {
        let row: Past = serde_json::from_value(self.journal?.past(key)?.clone()).ok()?;
        row.record
    }

    /// Where the outputs of passes are kept: of the last [`KEPT_PASSES`].
    pub(super) fn pass_place(place: &Place, pass: u64) -> Place {
        Place { short: format!("{}#{}", place.short, pass % KEPT_PASSES), full: format!("{}#{pass}", place.full) }
    }

    /// The passes that have ended, oldest first; what they say of shared values is taken over.
    pub(super) fn passes(&self, place: &Place, shared: &RefCell<Shared>) -> Vec<(u64, Value)> {
        let Some(journal) = self.journal else { return Vec::new() };
        let prefix = format!("{}#", place.full);
        let mut found = Vec::new();
        for slot in 0..KEPT_PASSES {
            let key = format!("{}#{slot}", place.short);
            let Some(row) = journal.past(&key) else { continue };
            let at = row["at"].as_str().unwrap_or_default();
            let Some(pass) = at.strip_prefix(&prefix).and_then(|pass| pass.parse::<u64>().ok()) else { continue };
            let at = at.to_owned();
            if let Some(Past { value: Some(value), .. }) = self.past(&key, &at, shared) {
                found.push((pass, value));
            }
        }
        found.sort_by_key(|(pass, _)| *pass);
        found
    }
}

/// Where something stands in an execution.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Without the numbers of passes.
    short: String,
    /// With them.
    full: String,
}

impl Place {
    pub(super) fn inside(&self, name: &str) -> Place {
        let join = |path: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        Place { short: join(&self.short), full: join(&self.full) }
    }

    pub(super) fn pass(&self, pass: u64) -> Place {
        Place { short: self.short.clone(), full: format!("{}@{pass}", self.full) }
    }

    /// The key of a row: one for all passes, or a `unique` one for each.
    pub(super) fn key(&self, unique: bool) -> &str {
        if unique { &self.full } else { &self.short }
    }

    pub(super) fn full(&self) -> &str {
        &self.full
    }
}

impl Journal for crate::checkpoint::Run<'_> {
    fn past(&self, key: &str) -> Option<&Value> {
        self.step(key)
    }

    fn keep(&self, key: &str, row: &Value) -> Result<()> {
        self.record(key, row)
    }
}
