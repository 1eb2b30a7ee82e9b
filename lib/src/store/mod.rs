//! The embedded database: one SQLite file for one kernel, in WAL mode, brought up to date when it is opened. What is in it is
//! private: the file has mode 0600 in a folder of mode 0700.

pub mod history;

use std::fs::{OpenOptions, Permissions, set_permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Class, Error, Result};
use crate::home;

/// What makes the tables, one step a version; `user_version` counts those that were done. Only ever add a step.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE history_session (id INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT NOT NULL);
    CREATE TABLE history (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL, line INTEGER NOT NULL, source TEXT NOT NULL, output TEXT
    );
    CREATE UNIQUE INDEX history_line ON history (session, line);
"];

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
        if let Some(folder) = path.parent() {
            home::private_dir(folder)?;
        }
        // SQLite gives the files beside it the mode of this one.
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        file.and_then(|_| set_permissions(path, Permissions::from_mode(0o600))).map_err(|e| Error::io(path, e))?;
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

    fn with(mut connection: Connection, in_memory: bool) -> Result<Self> {
        let mut prepare = || -> rusqlite::Result<i64> {
            // A crash of the system may cost the last moments, never the file. 256 KiB of cache.
            connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -256;")?;
            let known = MIGRATIONS.len() as i64;
            let change = connection.transaction()?;
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
