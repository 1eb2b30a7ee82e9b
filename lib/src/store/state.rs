//! Values by name: what the state of scripts, agents and workflows is kept in.

use std::path::Path;

use rusqlite::{OptionalExtension, TransactionBehavior, params};
use serde_json::Value;

use super::{Store, broken, text};
use crate::error::{Class, Error, Result};

/// Replaces a value or makes it.
const PUT: &str =
    "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// The names that start with a text, of which GLOB's special characters are meant as such.
fn prefix(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        match character {
            '*' | '?' | '[' => pattern.extend(['[', character, ']']),
            other => pattern.push(other),
        }
    }
    pattern.push('*');
    pattern
}

fn parse(name: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::new(Class::Config, format!("state: {name}: {error}")))
}

impl Store {
    /// Keeps `values`, all or none.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn put_state<'a>(&mut self, values: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<()> {
        let put = || -> rusqlite::Result<()> {
            let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut insert = change.prepare_cached(PUT)?;
                for (name, value) in values {
                    insert.execute(params![name, value.to_string()])?;
                }
            }
            change.commit()
        };
        put().map_err(broken)
    }

    /// The value called `name`.
    ///
    /// # Errors
    /// `System` when the file cannot be read, `Config` when what is there is no JSON.
    pub fn get_state(&self, name: &str) -> Result<Option<Value>> {
        let ask = || -> rusqlite::Result<Option<String>> {
            let mut select = self.connection.prepare_cached("SELECT value FROM state WHERE name = ?")?;
            select.query_row([name], |row| row.get(0)).optional()
        };
        ask().map_err(broken)?.map(|text| parse(name, &text)).transpose()
    }

    /// Forgets `name`; whether it was there.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn remove_state(&mut self, name: &str) -> Result<bool> {
        let sql = "DELETE FROM state WHERE name = ?";
        Ok(self.connection.execute(sql, [name]).map_err(broken)? > 0)
    }

    /// Forgets every name that starts with `start`; how many there were.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn clear_state(&mut self, start: &str) -> Result<usize> {
        let sql = "DELETE FROM state WHERE name GLOB ?";
        self.connection.execute(sql, [prefix(start)]).map_err(broken)
    }

    /// The names that start with `start`, in order.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn state_names(&self, start: &str) -> Result<Vec<String>> {
        let ask = || -> rusqlite::Result<Vec<String>> {
            let mut select =
                self.connection.prepare_cached("SELECT name FROM state WHERE name GLOB ? ORDER BY name")?;
            select.query_map([prefix(start)], |row| row.get(0))?.collect()
        };
        ask().map_err(broken)
    }

    /// Makes of the value called `name` what `change` says (`None`: nothing), while nobody else can change it.
    ///
    /// # Errors
    /// `System` when the file cannot be written, and what `change` answers; then nothing has changed.
    pub fn change_state<T>(
        &mut self,
        name: &str,
        change: impl FnOnce(Option<Value>) -> Result<(Change, T)>,
    ) -> Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
        let sql = "SELECT value FROM state WHERE name = ?";
        let now: Option<String> = transaction.query_row(sql, [name], |row| row.get(0)).optional().map_err(broken)?;
        let (change, answer) = change(now.map(|text| parse(name, &text)).transpose()?)?;
        match change {
            Change::Keep => return Ok(answer),
            Change::Put(value) => transaction.execute(PUT, params![name, value.to_string()]),
            Change::Remove => transaction.execute("DELETE FROM state WHERE name = ?", [name]),
        }
        .map_err(broken)?;
        transaction.commit().map_err(broken)?;
        Ok(answer)
    }

    /// Makes the values those of another database; how many there are then.
    ///
    /// # Errors
    /// `Config` when that is no whole database; then nothing has changed.
    pub fn restore_state(&mut self, file: &Path) -> Result<i64> {
        Store::check(file)?;
        let from = text(file)?;
        self.connection.execute("ATTACH ? AS copy", [from]).map_err(broken)?;
        let restore = |connection: &mut rusqlite::Connection| -> rusqlite::Result<i64> {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute("DELETE FROM main.state", [])?;
            let count = change.execute("INSERT INTO main.state SELECT name, value FROM copy.state", [])?;
            change.commit()?;
            Ok(count as i64)
        };
        let restored = restore(&mut self.connection);
        let detached = self.connection.execute("DETACH copy", []);
        let count = restored.map_err(broken)?;
        detached.map_err(broken)?;
        Ok(count)
    }

    /// How many names there are, and the bytes of their values.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn state_size(&self) -> Result<(i64, i64)> {
        let sql = "SELECT count(*), coalesce(sum(length(CAST(value AS BLOB))), 0) FROM state";
        self.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(broken)
    }
}

/// What [`Store::change_state`] does.
pub enum Change {
    /// Nothing.
    Keep,
    /// Puts this.
    Put(Value),
    /// Forgets the name.
    Remove,
}
