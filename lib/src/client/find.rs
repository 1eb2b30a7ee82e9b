//! Which kernel a client means: the one it names, else `$LLMSPELL_KERNEL`, else the default one if it runs, else none.

use std::fs;
use std::path::{Path, PathBuf};

use super::absolute;
use crate::error::{Class, Error, Result, nearest};
use crate::home::{DEFAULT_KERNEL, Home};
use crate::protocol::connection::Connection;

/// A running kernel of this home.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Its connection file.
    pub file: PathBuf,
    /// Its process.
    pub pid: Option<i32>,
    /// Its shell port.
    pub port: u16,
}

/// The connection file of the kernel that is meant; `None`: none is named and the default one does not run.
/// `kernel` may be an id, `kernel-PORT`, a port or a PID.
///
/// # Errors
/// `NotFound` for a named kernel that does not run, `Usage` when both ways of naming are used.
pub fn find(home: &Home, kernel: Option<&str>, connection_file: Option<&Path>) -> Result<Option<PathBuf>> {
    match (kernel, connection_file) {
        (Some(_), Some(_)) => {
            Err(Error::new(Class::Usage, "--kernel and --connection-file: only one of them can be given"))
        }
        (None, Some(file)) => absolute(file).map(Some),
        (Some(name), None) => named(home, name).map(Some),
        (None, None) => match std::env::var("LLMSPELL_KERNEL").ok().filter(|name| !name.is_empty()) {
            Some(name) => named(home, &name).map(Some).map_err(|e| e.within("LLMSPELL_KERNEL")),
            None => Ok(running(home).into_iter().find(|found| found.id == DEFAULT_KERNEL).map(|found| found.file)),
        },
    }
}

fn named(home: &Home, name: &str) -> Result<PathBuf> {
    let kernels = running(home);
    let number = name.strip_prefix("kernel-").unwrap_or(name).parse::<i64>().ok();
    let matches = |found: &&Found| {
        found.id == name
            || number.is_some_and(|number| i64::from(found.port) == number || found.pid.map(i64::from) == Some(number))
    };
    let exact = kernels.iter().find(|found| found.id == name);
    if let Some(found) = exact.or_else(|| kernels.iter().find(matches)) {
        return Ok(found.file.clone());
    }
    let error = Error::new(Class::NotFound, format!("kernel {name}: not running"));
    Err(match nearest(name, kernels.iter().map(|found| found.id.as_str())) {
        Some(near) => error.hint(format!("Did you mean {near}?")),
        None if kernels.is_empty() => error.hint(format!("No kernel runs. Start it: llmspell-kernel --id {name}")),
        None => {
            let ids: Vec<_> = kernels.iter().map(|found| found.id.as_str()).collect();
            error.hint(format!("Running: {}.", ids.join(", ")))
        }
    })
}

/// The kernels of `home` whose process lives, by id. A file left by a dead one is passed over, not removed.
#[must_use]
pub fn running(home: &Home) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(home.kernel_dir()) else { return Vec::new() };
    let mut kernels: Vec<Found> = entries
        .filter_map(|entry| {
            let file = entry.ok()?.path();
            let id = file.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
            let connection = Connection::read(&file).ok()?;
            let (pid, port) = (connection.pid, connection.shell_port);
            connection.is_alive().then_some(Found { id, file, pid, port })
        })
        .collect();
    kernels.sort_by(|a, b| a.id.cmp(&b.id));
    kernels
}
