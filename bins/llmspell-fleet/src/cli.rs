//! Command line of llmspell-fleet(1): what can be asked for.

mod apply;
mod net;
mod table;
mod top;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use llmspell::cli::{Engine, Permissions, Talk};
use llmspell::error::{Class, Error, Result};
use llmspell::fleet::Policy;
use llmspell::fleet::watch::Settings;
use llmspell::service::{Format, Scope};

pub(crate) use apply::Change;
pub(crate) use table::CLI;

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Args {
    /// Print one JSON document.
    pub(crate) json: bool,
    /// How much to say on standard error.
    pub(crate) talk: Talk,
    /// What to do.
    pub(crate) action: Action,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Start kernels.
    Spawn(Box<Spawn>),
    /// Show those there are.
    List { which: Which, labels: BTreeMap<String, String> },
    /// Ask them how they are.
    Health { which: Which, timeout: Duration },
    /// End them.
    Stop { which: Which, timeout: Duration },
    /// End them and start them again, one after the other.
    Restart { which: Which, grace: Duration, timeout: Duration },
    /// Tell everything about them.
    Status { which: Which, timeout: Duration },
    /// Show their logs.
    Logs(Box<Logs>),
    /// Measure them.
    Metrics { which: Which, prometheus: bool, timeout: Duration },
    /// Run a script in them.
    Exec { names: Vec<String>, script: String },
    /// Forget those that are gone.
    Cleanup { dry_run: bool },
    /// Start them again when they end.
    Watch(Settings),
    /// Make them what a file says.
    Apply { file: PathBuf, prune: bool, adopt: bool, change: Change },
    /// Make the group `name` as many as `count`.
    Scale { name: String, count: usize, change: Change },
    /// Their figures, again and again.
    Top(Box<crate::top::Settings>),
    /// Print a unit for that.
    WatchUnit,
    /// Give clients one kernel for many.
    Route(Route),
    /// Serve the fleet over HTTP.
    Serve(Serve),
    /// Files for an engine that supervises, into a folder or on standard output.
    Export { which: Which, format: Format, scope: Scope, output: Option<PathBuf> },
}

/// What is routed.
pub(crate) type Route = llmspell::fleet::route::Settings;

/// Where and for whom to serve.
pub(crate) type Serve = llmspell::fleet::serve::Settings;

/// Which lines of which logs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Logs {
    pub(crate) which: Which,
    pub(crate) follow: bool,
    pub(crate) count: usize,
    pub(crate) since: Option<SystemTime>,
    pub(crate) level: Option<u8>,
    pub(crate) grep: Option<String>,
}

/// Which kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Every one.
    All,
    /// Those that are called so.
    Named(Vec<String>),
}

/// Kernels to start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spawn {
    pub(crate) config: Option<PathBuf>,
    pub(crate) engine: Option<Engine>,
    pub(crate) name: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) count: usize,
    pub(crate) restart: Policy,
    pub(crate) memory: Option<u64>,
    pub(crate) cpu: Option<f64>,
    /// Without a value: that of this process.
    pub(crate) env: BTreeMap<String, Option<String>>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) workdir: Option<PathBuf>,
    pub(crate) permissions: Permissions,
    pub(crate) timeout: Duration,
}

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a kernel may take to be ready.
pub(crate) const START: Duration = Duration::from_secs(30);
/// How long a kernel may take to end before it is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// More kernels than this are a slip.
const MOST: usize = 1000;

/// Everything the rows below can write to.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    format: Option<Format>,
    scope: Scope,
    output: Option<PathBuf>,
    json: bool,
    talk: Talk,
    operands: Vec<String>,
    config: Option<PathBuf>,
    engine: Option<Engine>,
    name: Option<String>,
    port: Option<u16>,
    count: Option<usize>,
    restart: Policy,
    memory: Option<u64>,
    cpu: Option<f64>,
    env: BTreeMap<String, Option<String>>,
    labels: BTreeMap<String, String>,
    workdir: Option<PathBuf>,
    permissions: Permissions,
    timeout: Option<Duration>,
    all: bool,
    force: bool,
    grace: Option<Duration>,
    follow: bool,
    since: Option<SystemTime>,
    level: Option<u8>,
    grep: Option<String>,
    prometheus: bool,
    dry_run: bool,
    detailed: bool,
    parallel: Option<usize>,
    prune: bool,
    adopt: bool,
    interval: Option<Duration>,
    sort: Option<usize>,
    once: bool,
    batch: bool,
    file: PathBuf,
    backoff: Option<Duration>,
    backoff_max: Option<Duration>,
    stable: Option<Duration>,
    probe: Option<Duration>,
    unit: bool,
    serve: Serve,
}

impl AsMut<Permissions> for Draft {
    fn as_mut(&mut self) -> &mut Permissions {
        &mut self.permissions
    }
}

impl AsMut<Talk> for Draft {
    fn as_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}

impl Draft {
    fn act(self, action: Action) -> Result<Args> {
        Ok(Args { json: self.json, talk: self.talk, action })
    }

    /// The limit of `--timeout`; 0 is none.
    fn limit(&self, default: Duration) -> Duration {
        match self.timeout {
            None => default,
            Some(limit) if limit.is_zero() => Duration::from_secs(u64::from(u32::MAX)),
            Some(limit) => limit,
        }
    }

    /// Those that are named, else all.
    fn some_or_all(&mut self) -> Result<Which> {
        let names = std::mem::take(&mut self.operands);
        match (self.all, names.is_empty()) {
            (true, false) => Err(Error::new(Class::Usage, format!("{}: not together with --all", names[0]))),
            (_, true) => Ok(Which::All),
            _ => Ok(Which::Named(names)),
        }
    }

    /// Those that are named; all of them only when that is said.
    fn named(&mut self) -> Result<Which> {
        match (self.all, self.operands.is_empty()) {
            (false, true) => Err(Error::new(Class::Usage, "KERNEL or --all is missing")),
            _ => self.some_or_all(),
        }
    }

    fn spawn(self) -> Result<Args> {
        let timeout = self.limit(START);
        let Draft { config, engine, name, port, restart, memory, cpu, env, labels, workdir, permissions, .. } = self;
        let count = self.count.unwrap_or(0);
        let spawn = Spawn {
            config,
            engine,
            name,
            port,
            count,
            restart,
            memory,
            cpu,
            env,
            labels,
            workdir,
            permissions,
            timeout,
        };
        Ok(Args { json: self.json, talk: self.talk, action: Action::Spawn(Box::new(spawn)) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llmspell::cli::{args, check, check_page};

    use super::*;

    fn action(line: &str) -> Action {
        args(&CLI, line.split_whitespace()).unwrap().action
    }

    fn spawned(line: &str) -> Spawn {
        match action(line) {
            Action::Spawn(spawn) => *spawn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_table_is_fit() {
        assert_eq!(check(&CLI), Vec::<String>::new());
    }

    #[test]
    fn the_page_is_what_the_table_says() {
        check_page(&CLI, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../man/llmspell-fleet.1"))).unwrap();
    }

    #[test]
    fn release_note_lines_work() {
        let spawn = spawned("spawn openai.toml lua");
        assert_eq!((spawn.config, spawn.engine, spawn.count), (Some("openai.toml".into()), Some(Engine::Lua), 0));
        assert_eq!(spawned("spawn ../../config/openai.toml js").engine, Some(Engine::Js));
        assert_eq!(action("list"), Action::List { which: Which::All, labels: BTreeMap::new() });
        let which = Which::Named(vec!["kernel-59000".into()]);
        assert_eq!(action("health kernel-59000"), Action::Health { which: which.clone(), timeout: ANSWER });
        assert_eq!(action("stop kernel-59000"), Action::Stop { which, timeout: GRACE });
    }

    #[test]
    fn flags_are_read() {
        let spawn = spawned(
            "spawn --name pool --count 3 --restart on-failure --memory 512MB --cpu 0.5 --env A=b=c --env B -l x=y \
             --port 9600 --timeout 5 --allow-net",
        );
        assert_eq!((spawn.name, spawn.count, spawn.port), (Some("pool".into()), 3, Some(9600)));
        assert_eq!((spawn.restart, spawn.memory, spawn.cpu), (Policy::OnFailure, Some(512_000_000), Some(0.5)));
        assert_eq!(spawn.env, BTreeMap::from([("A".into(), Some("b=c".into())), ("B".into(), None)]));
        assert_eq!((spawn.labels, spawn.timeout), (BTreeMap::from([("x".into(), "y".into())]), Duration::from_secs(5)));
        assert_eq!(spawn.permissions.to_words(), ["--allow-net"]);
        assert_eq!(
            action("exec kernel-9555 -- print(1)"),
            Action::Exec { names: vec!["kernel-9555".into()], script: "print(1)".into() }
        );
        assert_eq!(action("stop --all --force"), Action::Stop { which: Which::All, timeout: Duration::ZERO });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (line, text) in [
            ("", "a command is missing"),
            ("stop", "KERNEL or --all is missing"),
            ("stop x --all", "x: not together with --all"),
            ("spawn a.toml ruby", r#"ENGINE: "ruby" is unknown, choose lua or js"#),
            ("spawn --count 0", "--count: 0 is not between 1 and 1000"),
            ("spawn --cpu -1", "--cpu: -1 is not a number of processors"),
            ("spawn --label x", r#"--label: "x" is not of the form NAME=VALUE"#),
            ("spawn --name ../x", "--name: kernel id"),
            ("spawn --restart sometimes", r#"--restart: "sometimes" is unknown"#),
        ] {
            let error = args(&CLI, line.split_whitespace()).unwrap_err();
            assert!(error.class() == Class::Usage && error.text().starts_with(text), "{line}: {error}");
        }
    }
}
