//! Calls of tools that a person decides on. They are kept in the store, so that any process can decide; who waits is woken
//! through a pipe beside the store.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Class, Error, Result};
use crate::home::Home;
use crate::state::State;
use crate::store::checkpoint::ApprovalRow;
use crate::tools::Cancel;

/// A call that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its id, by which it is decided on.
    pub id: String,
    /// Who wants it.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// Its parameters.
    pub arguments: Value,
    /// The run that waits.
    pub run: String,
}

impl From<ApprovalRow> for Waiting {
    fn from(row: ApprovalRow) -> Self {
        Waiting { id: row.id, agent: row.agent, tool: row.tool, arguments: row.arguments, run: row.run }
    }
}

/// What a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Approve,
    /// It may be done with these parameters instead.
    Edit(Value),
    /// It may not, for this reason.
    Deny(Option<String>),
}

/// Asks a person at once; nothing when there is none to ask.
pub type Asker = Arc<dyn Fn(&Waiting) -> Result<Option<Decision>> + Send + Sync>;

/// A short id, that nobody has to type wrong.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..10].to_owned()
}

/// What was decided on.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The call, with its parameters.
    pub call: Waiting,
    /// Whether somebody was waiting for it at that moment.
    pub woken: bool,
}

/// Decides on the call `id`, or the one whose id begins so, and wakes who waits for it.
///
/// # Errors
/// `NotFound` when no call waits under this id, `Usage` when several do or the parameters are no object, `Conflict` when it was
/// decided on before.
pub fn decide(state: &State, id: &str, decision: &Decision) -> Result<Decided> {
    let (approve, edited, reason) = match decision {
        Decision::Approve => (true, None, None),
        Decision::Edit(arguments) if !arguments.is_object() => {
            return Err(Error::new(Class::Usage, "parameters: not a JSON object"));
        }
        Decision::Edit(arguments) => (true, Some(arguments), None),
        Decision::Deny(reason) => (false, None, reason.as_deref()),
    };
    let row = state.store(|store| {
        let all = store.approvals(false)?;
        let mut fitting = all.into_iter().filter(|row| !id.is_empty() && row.id.starts_with(id));
        let row = match (fitting.next(), fitting.next()) {
            (Some(row), None) => row,
            (Some(_), Some(_)) => return Err(Error::new(Class::Usage, format!("approval {id}: begins several ids"))),
            (None, _) => return Err(Error::new(Class::NotFound, format!("approval {id}: no such call"))),
        };
        if !store.decide(&row.id, approve, edited, reason)? {
            let how = row.decision.as_deref().unwrap_or("decided on");
            return Err(Error::new(Class::Conflict, format!("approval {}: it was {how} before", row.id)));
        }
        Ok(row)
    })?;
    let wake = |pipe: PathBuf| -> std::io::Result<()> {
        let mut pipe = File::options().write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(pipe)?;
        pipe.write_all(b"!")
    };
    // Nobody reads where nobody waits.
    let woken = state.file().is_some_and(|file| wake(pipe_of(file, &row.run)).is_ok());
    let mut call = Waiting::from(row);
    if let Some(arguments) = edited {
        call.arguments = arguments.clone();
    }
    Ok(Decided { call, woken })
}

/// The stores of all kernels and of `llmspell-run` below `home`: their names and states.
///
/// # Errors
/// `System` when the folder cannot be read.
pub fn stores(home: &Home) -> Result<Vec<(String, State)>> {
    let dir = home.store_dir();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(&dir, error)),
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.strip_suffix(".db")?.to_owned();
            let state = State::default();
            state.keep_in(entry.path());
            Some((name, state))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// The calls that wait in any of them, oldest first, with the name of their store.
///
/// # Errors
/// `System` when one cannot be read.
pub fn everywhere(home: &Home) -> Result<Vec<(String, ApprovalRow)>> {
    let mut all = Vec::new();
    for (name, state) in stores(home)? {
        all.extend(state.store(|store| store.approvals(true))?.into_iter().map(|row| (name.clone(), row)));
    }
    all.sort_by_key(|(_, row)| row.asked);
    Ok(all)
}

/// Decides on the call `id` in whichever of them it is.
///
/// # Errors
/// As [`decide`].
pub fn decide_anywhere(home: &Home, id: &str, decision: &Decision) -> Result<Decided> {
    let mut last = None;
    let mut fitting = Vec::new();
    for (_, state) in stores(home)? {
        let rows = state.store(|store| store.approvals(false))?;
        if !id.is_empty() && rows.iter().any(|row| row.id.starts_with(id)) {
            fitting.push(state);
        }
    }
    if fitting.len() > 1 {
        return Err(Error::new(Class::Usage, format!("approval {id}: begins several ids")));
    }
    for state in fitting {
        last = Some(decide(&state, id, decision)?);
    }
    last.ok_or_else(|| {
        Error::new(Class::NotFound, format!("approval {id}: no such call"))
            .hint("llmspell-kernel approvals list shows those that wait.")
    })
}

/// `+` is in no id of a run.
fn pipe_of(store: &Path, run: &str) -> PathBuf {
    store.with_extension("runs").join(format!("{run}+wake"))
}

/// Waits until none of the calls of `run` waits any more; `false` where nobody else could decide.
pub(super) fn wait(state: &State, run: &str, cancel: &Cancel, deadline: Option<Instant>) -> Result<bool> {
    /// Goes with who waits.
    struct Pipe(PathBuf);
    impl Drop for Pipe {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
    let Some(path) = state.file().map(|file| pipe_of(file, run)) else { return Ok(false) };
    match mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(Error::io(&path, error.into())),
    }
    let path = Pipe(path);
    // Also for writing, so that it has no end when a writer leaves.
    let open = File::options().read(true).write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&path.0);
    let pipe = open.map_err(|error| Error::io(&path.0, error))?;
    loop {
        // Looked at before each wait: a decision wakes only who has the pipe open already.
        let open = state.store(|store| store.approvals(true))?;
        if !open.iter().any(|row| row.run == run) {
            return Ok(true);
        }
        let ready = cancel.poll(&[(pipe.as_fd(), PollFlags::IN)], deadline).map_err(|e| Error::system("wait", e))?;
        if cancel.is_cancelled() {
            return Err(Error::new(Class::Interrupted, "cancelled"));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::new(Class::Timeout, "nobody decided in time"));
        }
        if ready.iter().any(|flags| !flags.is_empty()) {
            while rustix::io::read(&pipe, &mut [0; 64]).is_ok_and(|count| count > 0) {}
        }
    }
}
