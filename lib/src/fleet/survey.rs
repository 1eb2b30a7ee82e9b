//! What there is: every kernel that is wanted or that wrote a connection file here, and what became of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::process::{Here, Standing, Stat, boot_time};
use super::wanted::{Claim, State, Wanted, ids};
use crate::error::{Class, Error, Result, nearest};
use crate::home::Home;
use crate::protocol::connection::{Channel, Connection, Transport};

/// What a kernel is doing, as far as its files and its process tell; what only its answers tell is in [`super::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A command is starting it.
    Starting,
    /// Its process runs; whether it answers was not asked.
    Running,
    /// It answers on every channel.
    Ready,
    /// It answers, and a script runs.
    Busy,
    /// Some of it answers.
    Degraded,
    /// It does not answer.
    Unhealthy,
    /// It ended and will be started again.
    Backoff,
    /// It ended again and again; attempts are rare now.
    CrashLooping,
    /// A command is stopping it.
    Stopping,
    /// It ended as it should.
    Stopped,
    /// It ended as it should not.
    Dead,
    /// It cannot be judged from here.
    Foreign,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 12] = [
        Condition::Starting,
        Condition::Running,
        Condition::Ready,
        Condition::Busy,
        Condition::Degraded,
        Condition::Unhealthy,
        Condition::Backoff,
        Condition::CrashLooping,
        Condition::Stopping,
        Condition::Stopped,
        Condition::Dead,
        Condition::Foreign,
    ];

    /// Its name in lists and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Condition::Starting => "starting",
            Condition::Running => "running",
            Condition::Ready => "ready",
            Condition::Busy => "busy",
            Condition::Degraded => "degraded",
            Condition::Unhealthy => "unhealthy",
            Condition::Backoff => "backoff",
            Condition::CrashLooping => "crash-looping",
            Condition::Stopping => "stopping",
            Condition::Stopped => "stopped",
            Condition::Dead => "dead",
            Condition::Foreign => "foreign",
        }
    }

    /// Whether nothing is wrong with a kernel that should run.
    #[must_use]
    pub fn is_well(self) -> bool {
        matches!(self, Condition::Ready | Condition::Busy)
    }
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its id.
    pub id: String,
    /// What the user wants of it; absent for one that was started by hand.
    pub wanted: Option<Wanted>,
    /// What happened to it.
    pub state: State,
    /// Its connection file.
    pub file: PathBuf,
    /// What stands there, if it is there and can be read.
    pub connection: Option<Connection>,
    /// Its process, if that runs.
    pub stat: Option<Stat>,
    /// What it is doing.
    pub condition: Condition,
    /// Why we think so; empty when there is nothing to say.
    pub reason: String,
}

impl Kernel {
    /// Looks at the kernel called `id`.
    #[must_use]
    pub fn look(home: &Home, here: &Here, id: &str) -> Self {
        Self::look_at(home, here, id, None)
    }

    /// The same; what is not among the `files` of a kernel that was stopped need not be looked for.
    fn look_at(home: &Home, here: &Here, id: &str, files: Option<&Files>) -> Self {
        let file = home.connection_file(id);
        let (wanted, trouble) = match Wanted::read(home, id) {
            Ok(wanted) => (wanted, None),
            Err(error) => (None, Some(error)),
        };
        let idle = wanted.as_ref().is_some_and(|wanted| !wanted.run) && files.is_some_and(|files| files.are_few(id));
        let state = if wanted.is_some() && !idle { State::read(home, id) } else { State::default() };
        if idle {
            let (condition, reason) = (Condition::Stopped, String::new());
            return Kernel { id: id.to_owned(), wanted, state, file, connection: None, stat: None, condition, reason };
        }
        let connection = match Connection::read(&file) {
            Err(error) if error.class() == Class::NotFound => Ok(None),
            other => other.map(Some),
        };
        let mut kernel = Kernel {
            id: id.to_owned(),
            wanted,
            state,
            file,
            connection: None,
            stat: None,
            condition: Condition::Foreign,
            reason: String::new(),
        };
        (kernel.condition, kernel.reason) = match (connection, trouble) {
            (Err(error), _) => (Condition::Unhealthy, format!("connection file invalid: {error}")),
            (Ok(connection), trouble) => {
                let standing = connection.as_ref().map(|connection| here.standing(connection));
                kernel.connection = connection;
                if let Some(Standing::Alive(stat)) = &standing {
                    kernel.stat = Some(*stat);
                }
                match (trouble, standing) {
                    (Some(error), Some(Standing::Alive(_))) => (Condition::Running, error.to_string()),
                    (Some(error), _) => (Condition::Foreign, error.to_string()),
                    (None, standing) => kernel.judge(home, here, standing),
                }
            }
        };
        kernel
    }

    fn judge(&self, home: &Home, here: &Here, standing: Option<Standing>) -> (Condition, String) {
        let run = self.wanted.as_ref().map(|wanted| wanted.run);
        match (standing, run) {
            (Some(Standing::Alive(stat)), _) if matches!(stat.state, 'T' | 't') => {
                (Condition::Unhealthy, "suspended by a signal; kill -CONT lets it go on".into())
            }
            (Some(Standing::Alive(_)), Some(false)) if Claim::is_held(home, &self.id) => {
                (Condition::Stopping, String::new())
            }
            (Some(Standing::Alive(_)), _) => (Condition::Running, String::new()),
            (Some(Standing::Foreign(why)), _) => (Condition::Foreign, why),
            (Some(Standing::Dead(why)), None) => (Condition::Dead, why),
            (None, None) => (Condition::Stopped, String::new()),
            (_, Some(false)) => {
                let stopping = Claim::is_held(home, &self.id);
                (if stopping { Condition::Stopping } else { Condition::Stopped }, String::new())
            }
            (_, Some(true)) if Claim::is_held(home, &self.id) => (Condition::Starting, String::new()),
            (left, Some(true)) => {
                let cause = self.state.cause.clone();
                if let Some(wait) = self.next_attempt(here) {
                    let failures = self.state.failures;
                    let cause = cause.unwrap_or_default();
                    let when = crate::units::show_duration(Duration::from_secs(wait.as_secs()));
                    let text = format!("{cause}; {failures} times in a row; next attempt in {when}");
                    let looping = self.state.crash_looping;
                    return (if looping { Condition::CrashLooping } else { Condition::Backoff }, text);
                }
                match (left, cause) {
                    (_, Some(cause)) => (Condition::Dead, cause),
                    (Some(Standing::Dead(why)), None) => (Condition::Dead, why),
                    (None, None) if self.state.ready.is_none() => (Condition::Dead, "its start was cut short".into()),
                    _ => (Condition::Stopped, "it ended by itself".into()),
                }
            }
        }
    }

    /// How long until it is started again, when a watch has decided that in this boot.
    #[must_use]
    pub fn next_attempt(&self, here: &Here) -> Option<Duration> {
        let (boot, at) = self.state.next.as_ref()?;
        (*boot == here.boot).then(|| Duration::from_millis(*at).saturating_sub(boot_time()))
    }

    /// Its shell port, if it listens on ports.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match &self.connection {
            Some(connection) => (connection.transport == Transport::Tcp).then_some(connection.shell_port),
            None => self.wanted.as_ref().map(|wanted| wanted.port).filter(|port| *port != 0),
        }
    }

    /// Its process; only while that runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.stat.and(self.connection.as_ref()?.pid)
    }

    /// How long its process runs.
    #[must_use]
    pub fn uptime(&self, here: &Here) -> Option<Duration> {
        self.stat.map(|stat| here.age(stat.start_ticks))
    }

    /// Resident memory.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        self.stat.map(|stat| stat.pages * rustix::param::page_size() as u64)
    }

    /// What `--json` says of it.
    #[must_use]
    pub fn row(&self, here: &Here) -> Map<String, Value> {
        let wanted = self.wanted.as_ref();
        let row = json!({
            "id": self.id,
            "state": self.condition.name(),
            "reason": self.reason,
            "managed": wanted.is_some(),
            "group": wanted.and_then(|wanted| wanted.group.as_ref()),
            "fleet": wanted.and_then(|wanted| wanted.fleet.as_ref()),
            "pid": self.pid(),
            "uptime_s": self.uptime(here).map(|age| age.as_secs_f64()),
            "port": self.port(),
            "endpoint": self.connection.as_ref().map(|connection| connection.endpoint(Channel::Shell)),
            "connection_file": self.connection.as_ref().map(|_| &self.file),
            "config": wanted.and_then(|wanted| wanted.config.as_ref()),
            "engine": wanted.and_then(|wanted| wanted.engine.as_ref()),
            "restart": wanted.map(|wanted| wanted.restart.name()),
            "restarts": self.state.restarts,
            "next_attempt_s": self.next_attempt(here).map(|wait| wait.as_secs_f64()),
            "labels": wanted.map(|wanted| &wanted.labels),
            "rss_bytes": self.rss_bytes(),
            "cpu_s": self.stat.map(|stat| here.seconds(stat.cpu_ticks)),
        });
        match row {
            Value::Object(row) => row,
            _ => Map::new(),
        }
    }

    /// Whether `name` means it: its id, the name of its group, `kernel-PORT`, its port or its PID.
    fn is_called(&self, name: &str) -> bool {
        let number = name.strip_prefix("kernel-").unwrap_or(name).parse::<i64>().ok();
        let group = self.wanted.as_ref().and_then(|wanted| wanted.group.as_deref());
        group == Some(name)
            || number.is_some_and(|number| {
                self.port().map(i64::from) == Some(number) || self.pid().map(i64::from) == Some(number)
            })
    }
}

/// What there was of files when the folders were read: opening those that are not there takes most of the time of many.
struct Files(BTreeSet<String>);

impl Files {
    fn list(home: &Home, connections: &[String]) -> Self {
        let claims = fs::read_dir(home.fleet_dir().join("claim")).into_iter().flatten();
        let claims = claims.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Files(claims.chain(ids(&home.state_dir())).chain(connections.iter().cloned()).collect())
    }

    /// Whether `id` has but its record.
    fn are_few(&self, id: &str) -> bool {
        !self.0.contains(id)
    }
}

/// Every kernel of `home`, by id; with numbers in order of size.
#[must_use]
pub fn survey(home: &Home, here: &Here) -> Vec<Kernel> {
    let mut all = ids(&home.wanted_dir());
    let connections = ids(&home.kernel_dir());
    // After the records, as a claim is there before the record is.
    let files = Files::list(home, &connections);
    all.extend(connections);
    all.sort_by(|a, b| natural(a).cmp(&natural(b)));
    all.dedup();
    all.iter().map(|id| Kernel::look_at(home, here, id, Some(&files))).collect()
}

/// `kernel-9` before `kernel-10`.
pub(super) fn natural(id: &str) -> (&str, u64, &str) {
    let stem = id.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem, id[stem.len()..].parse().unwrap_or(0), id)
}

/// The kernels that `names` mean, each once; without names all of them. A name with a slash, or one that ends in
/// `.json`, is the connection file of a kernel anywhere.
///
/// # Errors
/// `NotFound` for a name nobody has.
pub fn choose(home: &Home, here: &Here, names: &[String]) -> Result<Vec<Kernel>> {
    if names.is_empty() {
        return Ok(survey(home, here));
    }
    let mut all: Option<Vec<Kernel>> = None;
    let mut chosen: Vec<Kernel> = Vec::new();
    for name in names {
        let mut found: Vec<Kernel> = if name.contains('/') || name.ends_with(".json") {
            vec![elsewhere(here, Path::new(name))?]
        } else if has(home, name) {
            vec![Kernel::look(home, here, name)]
        } else {
            let all = all.get_or_insert_with(|| survey(home, here));
            all.iter().filter(|kernel| kernel.is_called(name)).cloned().collect()
        };
        if found.is_empty() {
            return Err(unknown(name, all.as_deref().unwrap_or_default()));
        }
        found.retain(|kernel| chosen.iter().all(|known| known.id != kernel.id || known.file != kernel.file));
        chosen.append(&mut found);
    }
    Ok(chosen)
}

/// Whether there is a kernel with the very id `name`.
fn has(home: &Home, name: &str) -> bool {
    crate::home::check_id(name).is_ok()
        && (home.connection_file(name).exists() || home.wanted_dir().join(format!("{name}.json")).exists())
}

pub(super) fn unknown(name: &str, all: &[Kernel]) -> Error {
    let error = Error::new(Class::NotFound, format!("kernel {name}: unknown"));
    match nearest(name, all.iter().map(|kernel| kernel.id.as_str())) {
        Some(near) => error.hint(format!("Did you mean {near}?")),
        None if all.is_empty() => error.hint("There is none. Start one: llmspell-fleet spawn CONFIG"),
        None => error.hint("llmspell-fleet list shows those there are."),
    }
}

/// A kernel that is reached by its connection file, wherever it runs.
fn elsewhere(here: &Here, file: &Path) -> Result<Kernel> {
    let file = crate::client::absolute(file)?;
    let connection = Connection::read(&file)?;
    let stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let id = connection.kernel_id.clone().unwrap_or_else(stem);
    let (condition, reason, stat) = match here.standing(&connection) {
        Standing::Alive(stat) => (Condition::Running, String::new(), Some(stat)),
        // Its number may mean something on another machine.
        Standing::Dead(why) | Standing::Foreign(why) => (Condition::Foreign, why, None),
    };
    let state = State::default();
    Ok(Kernel { id, wanted: None, state, file, connection: Some(connection), stat, condition, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_by_size() {
        let mut ids = ["kernel-10", "kernel-9", "a", "kernel-x", "kernel-9555"];
        ids.sort_by(|a, b| natural(a).cmp(&natural(b)));
        assert_eq!(ids, ["a", "kernel-9", "kernel-10", "kernel-9555", "kernel-x"]);
    }
}
