//! Runs of agents and workflows, the steps they have finished, and the calls of tools that wait for a person.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::{Store, broken};
use crate::error::{Class, Error, Result};

/// A run as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// Its id.
    pub id: String,
    /// `agent`, `workflow`.
    pub kind: String,
    /// `running`, `paused`, `failed`, `done`.
    pub status: String,
    /// What it is about, as its kind needs it.
    pub about: Value,
    /// What it came to, once it is done.
    pub result: Value,
    /// When it began, seconds since 1970.
    pub began: i64,
    /// When it changed last, seconds since 1970.
    pub changed: i64,
}

/// A call that a person decides on.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ApprovalRow {
    /// Its id.
    pub id: String,
    /// The run that waits.
    pub run: String,
    /// The call within it.
    pub step: String,
    /// Who wants it.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// Its parameters; those of the person, once they are edited.
    pub arguments: Value,
    /// When it was asked for, seconds since 1970.
    pub asked: i64,
    /// `approved`, `denied`; nothing while it waits.
    pub decision: Option<String>,
    /// Why, in the person's words.
    pub reason: Option<String>,
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::new(Class::Config, format!("runs: {error}")))
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The row before its texts are parsed.
type RawRun = (String, String, String, String, String, i64, i64);

fn raw_run(row: &Row<'_>) -> rusqlite::Result<RawRun> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn run((id, kind, status, about, result, began, changed): RawRun) -> Result<RunRow> {
    Ok(RunRow { id, kind, status, about: parse(&about)?, result: parse(&result)?, began, changed })
}

const RUN: &str = "SELECT id, kind, status, about, result, began, changed FROM run";
const APPROVAL: &str = "SELECT id, run, step, agent, tool, arguments, asked, decision, reason FROM approval";

impl Store {
    /// The run called `id`, made if there is none.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn begin_run(&mut self, id: &str, kind: &str, about: &Value) -> Result<RunRow> {
        let sql = "INSERT INTO run (id, kind, status, about, result, began, changed) \
                   VALUES (?1, ?2, 'running', ?3, 'null', ?4, ?4) ON CONFLICT (id) DO NOTHING";
        self.connection.execute(sql, params![id, kind, about.to_string(), now()]).map_err(broken)?;
        self.run(id)?.ok_or_else(|| Error::new(Class::Bug, format!("run {id}: gone")))
    }

    /// The run called `id`.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn run(&self, id: &str) -> Result<Option<RunRow>> {
        let ask = || self.connection.query_row(&format!("{RUN} WHERE id = ?"), [id], raw_run).optional();
        ask().map_err(broken)?.map(run).transpose()
    }

    /// All runs, the newest first.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn runs(&self) -> Result<Vec<RunRow>> {
        let ask = || -> rusqlite::Result<Vec<RawRun>> {
            self.connection.prepare(&format!("{RUN} ORDER BY began DESC, id"))?.query_map([], raw_run)?.collect()
        };
        ask().map_err(broken)?.into_iter().map(run).collect()
    }

    /// How the run called `id` stands.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn set_run(&mut self, id: &str, status: &str, result: &Value) -> Result<()> {
        let sql = "UPDATE run SET status = ?, result = ?, changed = ? WHERE id = ?";
        self.connection.execute(sql, params![status, result.to_string(), now(), id]).map(drop).map_err(broken)
    }

    /// Keeps what a step of a run came to, instead of what was kept for it before.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn put_step(&mut self, run: &str, key: &str, result: &Value) -> Result<()> {
        let sql = "INSERT INTO run_step (run, key, result) VALUES (?, ?, ?) \
                   ON CONFLICT (run, key) DO UPDATE SET result = excluded.result";
        let mut insert = self.connection.prepare_cached(sql).map_err(broken)?;
        insert.execute(params![run, key, result.to_string()]).map(drop).map_err(broken)
    }

    /// The steps of a run.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn steps(&self, run: &str) -> Result<Vec<(String, Value)>> {
        let ask = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut select = self.connection.prepare("SELECT key, result FROM run_step WHERE run = ?")?;
            select.query_map([run], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        ask().map_err(broken)?.into_iter().map(|(key, text)| Ok((key, parse(&text)?))).collect()
    }

    /// Forgets a run with all that belongs to it; whether there was one.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn remove_run(&mut self, id: &str) -> Result<bool> {
        let remove = || -> rusqlite::Result<usize> {
            let change = self.connection.unchecked_transaction()?;
            change.execute("DELETE FROM run_step WHERE run = ?", [id])?;
            change.execute("DELETE FROM approval WHERE run = ?", [id])?;
            let count = change.execute("DELETE FROM run WHERE id = ?", [id])?;
            change.commit()?;
            Ok(count)
        };
        Ok(remove().map_err(broken)? > 0)
    }

    /// Forgets the runs that have not changed for `days`, whatever became of them; how many there were.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn prune_runs(&mut self, days: i64) -> Result<usize> {
        let before = now() - days * 86_400;
        let ask = || -> rusqlite::Result<Vec<String>> {
            let mut select = self.connection.prepare_cached("SELECT id FROM run WHERE changed < ?")?;
            select.query_map([before], |row| row.get(0))?.collect()
        };
        let old = ask().map_err(broken)?;
        old.iter().try_for_each(|id| self.remove_run(id).map(drop))?;
        Ok(old.len())
    }

    /// Asks for a decision; nothing changes where the call has been asked for already. The request as it is kept.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn ask_approval(&mut self, new: &ApprovalRow) -> Result<ApprovalRow> {
        let sql = "INSERT INTO approval (id, run, step, agent, tool, arguments, asked) VALUES (?, ?, ?, ?, ?, ?, ?) \
                   ON CONFLICT (run, step) DO NOTHING";
        let values = params![new.id, new.run, new.step, new.agent, new.tool, new.arguments.to_string(), now()];
        self.connection.execute(sql, values).map_err(broken)?;
        let found = self.some_approvals("run = ?1 AND step = ?2", params![new.run, new.step])?;
        found.into_iter().next().ok_or_else(|| Error::new(Class::Bug, "approval: gone"))
    }

    /// Decides on a call that waits: approved or denied, with other parameters, for a reason; whether it waited.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn decide(&mut self, id: &str, approve: bool, edited: Option<&Value>, reason: Option<&str>) -> Result<bool> {
        let sql = "UPDATE approval SET decision = ?2, arguments = coalesce(?3, arguments), reason = ?4 \
                   WHERE id = ?1 AND decision IS NULL";
        let decision = if approve { "approved" } else { "denied" };
        let values = params![id, decision, edited.map(Value::to_string), reason];
        Ok(self.connection.execute(sql, values).map_err(broken)? > 0)
    }

    /// The calls that were asked for, oldest first; with `open` only those that wait.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn approvals(&self, open: bool) -> Result<Vec<ApprovalRow>> {
        self.some_approvals("NOT ?1 OR decision IS NULL", params![open])
    }

    fn some_approvals(&self, which: &str, values: impl rusqlite::Params) -> Result<Vec<ApprovalRow>> {
        let of = |row: &Row<'_>| {
            let row = ApprovalRow {
                id: row.get(0)?,
                run: row.get(1)?,
                step: row.get(2)?,
                agent: row.get(3)?,
                tool: row.get(4)?,
                arguments: Value::String(row.get(5)?),
                asked: row.get(6)?,
                decision: row.get(7)?,
                reason: row.get(8)?,
            };
            Ok(row)
        };
        let ask = || -> rusqlite::Result<Vec<ApprovalRow>> {
            let mut select = self.connection.prepare(&format!("{APPROVAL} WHERE {which} ORDER BY asked, rowid"))?;
            select.query_map(values, of)?.collect()
        };
        let mut rows = ask().map_err(broken)?;
        for row in &mut rows {
            row.arguments = parse(row.arguments.as_str().unwrap_or_default())?;
        }
        Ok(rows)
    }
}
