//! What was executed, by session (one life of a kernel) and line (its execution count).

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Params, Row, params};

use super::{Store, broken};
use crate::error::Result;

/// Lines a file keeps; the oldest go first.
const KEPT: i64 = 100_000;
/// Lines that are kept in memory.
const KEPT_IN_MEMORY: i64 = 10_000;
/// Most lines of one answer.
const MOST: i64 = 100_000;

/// One executed cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which life of the kernel.
    pub session: i64,
    /// Its execution count.
    pub line: i64,
    /// The code.
    pub source: String,
    /// Its value as text, if it had one.
    pub output: Option<String>,
}

impl Line {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Line { session: row.get(0)?, line: row.get(1)?, source: row.get(2)?, output: row.get(3)? })
    }
}

/// Columns of a [`Line`].
const COLUMNS: &str = "session, line, source, output";

impl Store {
    /// Begins a session and answers its number; what is older than the file keeps goes.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn begin_history(&mut self) -> Result<i64> {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        self.connection.execute("INSERT INTO history_session (started) VALUES (?)", [now]).map_err(broken)?;
        let session = self.connection.last_insert_rowid();
        self.prune()?;
        Ok(session)
    }

    /// The number the next session would get.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn next_session(&self) -> Result<i64> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'history_session'";
        let last: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0)).optional().map_err(broken)?;
        Ok(last.unwrap_or(0) + 1)
    }

    /// Keeps `lines`, all or none.
    ///
    /// # Errors
    /// `System` when the file cannot be written.
    pub fn add_history(&mut self, lines: &[Line]) -> Result<()> {
        let mut add = || -> rusqlite::Result<()> {
            let change = self.connection.transaction()?;
            {
                let sql = format!("INSERT OR REPLACE INTO history ({COLUMNS}) VALUES (?, ?, ?, ?)");
                let mut insert = change.prepare_cached(&sql)?;
                for line in lines {
                    insert.execute(params![line.session, line.line, line.source, line.output])?;
                }
            }
            change.commit()
        };
        add().map_err(broken)?;
        if self.in_memory { self.prune() } else { Ok(()) }
    }

    fn prune(&mut self) -> Result<()> {
        let kept = if self.in_memory { KEPT_IN_MEMORY } else { KEPT };
        let sql = "DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?";
        self.connection.execute(sql, [kept]).map(drop).map_err(broken)
    }

    /// The last `n` lines of all sessions, oldest first.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn history_tail(&self, n: i64) -> Result<Vec<Line>> {
        let mut lines = self.lines("ORDER BY id DESC LIMIT ?", [n.clamp(0, MOST)])?;
        lines.reverse();
        Ok(lines)
    }

    /// The lines from `start` to before `stop` of a session. Below zero both count from its end.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn history_range(&self, session: i64, start: i64, stop: Option<i64>) -> Result<Vec<Line>> {
        let sql = "SELECT coalesce(max(line), 0) FROM history WHERE session = ?";
        let last: i64 = self.connection.query_row(sql, [session], |row| row.get(0)).map_err(broken)?;
        let from_end = |at: i64| if at < 0 { last.saturating_add(1).saturating_add(at) } else { at };
        let (start, stop) = (from_end(start), stop.map_or(i64::MAX, from_end));
        self.lines("WHERE session = ? AND line >= ? AND line < ? ORDER BY line LIMIT ?", [session, start, stop, MOST])
    }

    /// The last `n` lines whose source matches a pattern with `*`, `?` and `[…]`, oldest first; `unique`: of those with the
    /// same source the newest.
    ///
    /// # Errors
    /// `System` when the file cannot be read.
    pub fn history_search(&self, pattern: &str, n: Option<i64>, unique: bool) -> Result<Vec<Line>> {
        let which = if unique {
            "WHERE id IN (SELECT max(id) FROM history WHERE source GLOB ? GROUP BY source) ORDER BY id DESC LIMIT ?"
        } else {
            "WHERE source GLOB ? ORDER BY id DESC LIMIT ?"
        };
        let mut lines = self.lines(which, params![pattern, n.unwrap_or(MOST).clamp(0, MOST)])?;
        lines.reverse();
        Ok(lines)
    }

    fn lines(&self, which: &str, params: impl Params) -> Result<Vec<Line>> {
        let ask = || -> rusqlite::Result<Vec<Line>> {
            let mut select = self.connection.prepare(&format!("SELECT {COLUMNS} FROM history {which}"))?;
            select.query_map(params, Line::of)?.collect()
        };
        ask().map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(session: i64, line: i64, source: &str) -> Line {
        Line { session, line, source: source.into(), output: (line % 2 == 0).then(|| format!("{line}")) }
    }

    fn sources(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.source.as_str()).collect()
    }

    #[test]
    fn sessions_follow_each_other_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.db");
        for session in 1..=2 {
            let mut store = Store::open(&path).unwrap();
            assert_eq!(store.next_session().unwrap(), session);
            assert_eq!(store.begin_history().unwrap(), session);
            store.add_history(&[line(session, 1, "a"), line(session, 2, &format!("b{session}"))]).unwrap();
        }
        let store = Store::open(&path).unwrap();
        let tail = store.history_tail(3).unwrap();
        assert_eq!(tail, [line(1, 2, "b1"), line(2, 1, "a"), line(2, 2, "b2")]);
        assert_eq!(sources(&store.history_range(1, 0, None).unwrap()), ["a", "b1"]);
        assert_eq!(sources(&store.history_range(2, 1, Some(2)).unwrap()), ["a"]);
        assert_eq!(sources(&store.history_range(2, -1, None).unwrap()), ["b2"]);
        assert_eq!(sources(&store.history_range(7, 0, None).unwrap()), [""; 0]);
    }

    #[test]
    fn searching() {
        let mut store = Store::in_memory().unwrap();
        store
            .add_history(&[line(1, 1, "x = 1"), line(1, 2, "y = 1"), line(1, 3, "x = 1"), line(1, 4, "x = 2")])
            .unwrap();
        let search = |pattern: &str, n, unique| store.history_search(pattern, n, unique).unwrap();
        assert_eq!(sources(&search("x*", None, false)), ["x = 1", "x = 1", "x = 2"]);
        assert_eq!(sources(&search("x*", None, true)), ["x = 1", "x = 2"]);
        assert_eq!(sources(&search("?*", Some(2), false)), ["x = 1", "x = 2"]);
        assert_eq!(sources(&search("'; DROP TABLE history --", None, false)), [""; 0]);
        assert!(search("*", Some(-1), false).is_empty());
    }

    #[test]
    fn memory_has_an_end() {
        let mut store = Store::in_memory().unwrap();
        for part in 0..3 {
            let lines: Vec<_> = (0..5000).map(|at| line(1, part * 5000 + at, "x")).collect();
            store.add_history(&lines).unwrap();
        }
        let kept = store.history_range(1, 0, None).unwrap();
        assert_eq!((kept.len(), kept[0].line), (10_000, 5000));
    }
}
