//! Reading tables whose every key is known: what is left over is a mistake, and is told with the nearest name.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{Class, Error, Result, nearest};

/// A table that is being read.
pub(super) struct Reader {
    at: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Reader {
    /// Reads `value`, which errors call `at`.
    pub(super) fn new(at: impl Into<String>, value: Value) -> Result<Self> {
        let at = at.into();
        match value {
            Value::Object(members) => Ok(Reader { at, members, known: Vec::new() }),
            Value::Array(items) if items.is_empty() => Ok(Reader { at, members: Map::new(), known: Vec::new() }),
            other => Err(usage(format!("{at}: table expected, got {}", kind(&other)))),
        }
    }

    /// What errors call it.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// Gives it another name.
    pub(super) fn call(&mut self, at: impl Into<String>) {
        self.at = at.into();
    }

    /// An error about it.
    pub(super) fn wrong(&self, text: impl std::fmt::Display) -> Error {
        usage(format!("{}: {text}", self.at))
    }

    /// What stands under the first of `names` that is there.
    pub(super) fn take(&mut self, names: &[&'static str]) -> Option<Value> {
        self.known.extend(names);
        names.iter().find_map(|name| self.members.remove(*name)).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&mut self, names: &[&'static str]) -> Result<Option<String>> {
        match self.take(names) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(format!("{}: text expected, got {}", names[0], kind(&other)))),
        }
    }

    /// A text that must be there and not be empty.
    pub(super) fn name(&mut self, names: &[&'static str]) -> Result<String> {
        match self.text(names)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.wrong(format!("{}: empty", names[0]))),
            None => Err(self.wrong(format!("{}: missing", names[0]))),
        }
    }

    /// A list; the empty table is one.
    pub(super) fn list(&mut self, names: &[&'static str]) -> Result<Option<Vec<Value>>> {
        match self.take(names) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(Value::Object(members)) if members.is_empty() => Ok(Some(Vec::new())),
            Some(other) => Err(self.wrong(format!("{}: list expected, got {}", names[0], kind(&other)))),
        }
    }

    /// A whole number of at least `least`.
    pub(super) fn count(&mut self, names: &[&'static str], least: u64) -> Result<Option<u64>> {
        let Some(value) = self.take(names) else { return Ok(None) };
        match whole(&value).and_then(|number| u64::try_from(number).ok()).filter(|number| *number >= least) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(format!("{}: whole number of at least {least} expected, got {value}", names[0]))),
        }
    }

    /// A whole number.
    pub(super) fn integer(&mut self, names: &[&'static str]) -> Result<Option<i64>> {
        let Some(value) = self.take(names) else { return Ok(None) };
        whole(&value).map(Some).ok_or_else(|| self.wrong(format!("{}: whole number expected, got {value}", names[0])))
    }

    /// Milliseconds under the first name; a text like `"5s"` under any.
    pub(super) fn duration(&mut self, names: &[&'static str]) -> Result<Option<Duration>> {
        let Some(value) = self.take(names) else { return Ok(None) };
        let duration = match &value {
            Value::String(text) => humantime::parse_duration(text).ok(),
            value => value.as_f64().and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()),
        };
        duration.filter(|duration| !duration.is_zero()).map(Some).ok_or_else(|| {
            self.wrong(format!("{}: milliseconds above 0 or a text like \"5s\" expected, got {value}", names[0]))
        })
    }

    /// A number of at least `least`.
    pub(super) fn number(&mut self, names: &[&'static str], least: f64) -> Result<Option<f64>> {
        let Some(value) = self.take(names) else { return Ok(None) };
        match value.as_f64().filter(|number| *number >= least && number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(format!("{}: number of at least {least} expected, got {value}", names[0]))),
        }
    }

    /// Whether it is set.
    pub(super) fn switch(&mut self, names: &[&'static str]) -> Result<Option<bool>> {
        match self.take(names) {
            None => Ok(None),
            Some(Value::Bool(set)) => Ok(Some(set)),
            Some(other) => Err(self.wrong(format!("{}: true or false expected, got {}", names[0], kind(&other)))),
        }
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<()> {
        let Some(key) = self.members.keys().next() else { return Ok(()) };
        let error = self.wrong(format!("{key}: no such key"));
        match nearest(key, self.known.iter().copied()) {
            Some(near) => Err(error.hint(format!("Did you mean {near}?"))),
            None => {
                let mut known = self.known;
                known.sort_unstable();
                known.dedup();
                Err(error.hint(format!("It has: {}.", known.join(", "))))
            }
        }
    }
}

/// A number without a fraction.
pub(super) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
    })
}

pub(super) fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
