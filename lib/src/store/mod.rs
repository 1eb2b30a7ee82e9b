//! The embedded database: one SQLite file for one kernel, in WAL mode, brought up to date when it is opened. What is in it is
//! private: the file has mode 0600 in a folder of mode 0700.

pub mod checkpoint;
pub mod history;
pub mod state;

use std::fs::{OpenOptions, Permissions, set_permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use rustix::fs::{FlockOperation, flock};

use crate::error::{Class, Error, Result};
use crate::home;

/// What makes the tables, one step a version; `user_version` counts those that were done. Only ever add a step.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE history_session (id INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT NOT NULL);
    CREATE TABLE history (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL, line INTEGER NOT NULL, source TEXT NOT NULL, output TEXT
    );
    CREATE UNIQUE INDEX history_line ON history (session, line);
",
    "
    CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE run (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, about TEXT NOT NULL, result TEXT NOT NULL,
        began INTEGER NOT NULL, changed INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX run_changed ON run (changed);
    CREATE TABLE run_step (
        run TEXT NOT NULL, key TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (run, key)
    ) WITHOUT ROWID;
    CREATE TABLE approval (
        id TEXT NOT NULL UNIQUE, run TEXT NOT NULL, step TEXT NOT NULL, agent TEXT NOT NULL, tool TEXT NOT NULL,
        arguments TEXT NOT NULL, asked INTEGER NOT NULL, decision TEXT, reason TEXT
    );
    CREATE UNIQUE INDEX approval_step ON approval (run, step);
",
];

/// An open database.
pub struct Store {
    connection: Connection,
    /// Whether it ends with this process.
    in_memory: bool,
}

impl Store {
    /// Opens the file at `path`, made if it is not there, with its folder.
    ///
    /// # Errors
    /// `System` and `Denied` when it cannot be opened, `Config` when it is no database or one of a later version.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        home::private_dir(folder)?;
        // One at a time: who makes a database or its tables locks out others without waiting for them.
        let lock = folder.join(".lock");
        let guard = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let guard = guard.map_err(|error| Error::io(&lock, error))?;
        rustix::io::retry_on_intr(|| flock(&guard, FlockOperation::LockExclusive))
            .map_err(|error| Error::io(&lock, error.into()))?;
        // SQLite gives the files beside it the mode of this one. One that is there is not opened: closing it would take
        // away the locks of other connections of this process.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                set_permissions(path, Permissions::from_mode(0o600)).map_err(|error| Error::io(path, error))?;
            }
            Err(error) => return Err(Error::io(path, error)),
        }
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(2))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            Ok(connection)
        };
        let connection = open().map_err(|error| failed(path, error))?;
        Self::with(connection, false).map_err(|error| error.within(path.display().to_string()))
    }

    /// A database that nobody else sees and that ends with this process.
    ///
    /// # Errors
    /// `System` when there is no memory.
    pub fn in_memory() -> Result<Self> {
        Self::with(Connection::open_in_memory().map_err(broken)?, true)
    }

    /// Makes each acknowledged write outlive the loss of power.
    ///
    /// # Errors
    /// `System` when it cannot.
    pub fn make_durable(&self) -> Result<()> {
        self.connection.pragma_update(None, "synchronous", "FULL").map_err(broken)
    }

    /// Writes a copy of everything to a new file, of mode 0600.
    ///
    /// # Errors
    /// `System` when it cannot be written.
    pub fn copy_to(&self, file: &Path) -> Result<()> {
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        new.map_err(|error| Error::io(file, error))?;
        let copied = self.connection.execute("VACUUM INTO ?", [text(file)?]);
        copied.map(drop).map_err(|error| {
            let _ = std::fs::remove_file(file);
            failed(file, error)
        })
    }

    /// Whether a file is a whole database of ours.
    ///
    /// # Errors
    /// `Config` naming what is wrong.
    pub fn check(file: &Path) -> Result<()> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ask = || -> rusqlite::Result<String> {
            let connection = Connection::open_with_flags(file, flags)?;
            connection.query_row("SELECT count(*) FROM state", [], |row| row.get::<_, i64>(0))?;
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        };
        match ask().map_err(|error| failed(file, error))?.as_str() {
            "ok" => Ok(()),
            wrong => Err(Error::new(Class::Config, format!("{}: {wrong}", file.display()))),
        }
    }

    fn with(mut connection: Connection, in_memory: bool) -> Result<Self> {
        let mut prepare = || -> rusqlite::Result<i64> {
            // A crash of the system may cost the last moments, never the file. 256 KiB of cache.
            connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -256;")?;
            let known = MIGRATIONS.len() as i64;
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let version: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
            for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
                change.execute_batch(step)?;
            }
            if version < known {
                change.pragma_update(None, "user_version", known)?;
            }
            change.commit()?;
            Ok(version - known)
        };
        match prepare().map_err(broken)? {
            1.. => Err(Error::new(Class::Config, "made by a later version of llmspell")),
            _ => Ok(Store { connection, in_memory }),
        }
    }
}

/// A path for SQL.
fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::new(Class::System, format!("{}: not UTF-8", path.display())))
}

fn failed(path: &Path, error: rusqlite::Error) -> Error {
    broken(error).within(path.display().to_string())
}

/// SQLite's error as one of ours.
fn broken(error: rusqlite::Error) -> Error {
    let class = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => Class::Config,
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Class::Conflict,
        _ => Class::System,
    };
    Error::new(class, error.to_string().to_lowercase()).source(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn files_are_private_and_of_the_newest_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store/k.db");
        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            let ask = |name: &str| {
                store.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
            };
            assert_eq!(ask("user_version").unwrap(), (MIGRATIONS.len() as i64).into());
            assert_eq!(ask("journal_mode").unwrap(), "wal".to_owned().into());
            for file in ["k.db", "k.db-wal"] {
                assert_eq!(path.with_file_name(file).metadata().unwrap().mode() & 0o777, 0o600, "{file}");
            }
            assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn what_is_no_database_of_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.db");
        std::fs::write(&path, "not a database, not at all, whatever its name may say").unwrap();
        assert_eq!(Store::open(&path).err().unwrap().class(), Class::Config);
        let path = dir.path().join("later.db");
        drop(Store::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert_eq!(Store::open(&path).err().unwrap().class(), Class::Config);
    }
}
