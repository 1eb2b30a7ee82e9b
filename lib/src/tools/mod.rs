//! Tools: one file each. This file holds what they share: [`ToolSpec`], [`Call`], the list, and the [`Registry`] through
//! which every caller (messages, Lua, models, tests) lists, describes, searches, invokes and tests them.
//!
//! A tool is a params struct, a `SPEC` and a `run`. Spelling, validation, policy, deadline, envelope: once, here. `optional`
//! names the tools that only some builds have.

mod calculator;
mod cancel;
mod echo;
mod environment_reader;
mod faults;
mod file_operations;
mod file_search;
mod file_watcher;
mod hash_calculator;
pub mod http;
mod http_request;
pub mod net;
mod optional;
pub mod process;
mod registry;
mod schema;
mod system_monitor;
mod text_manipulator;
mod validate;

use std::fs::File;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use cancel::Cancel;
pub use registry::{Registry, TestCase};

use crate::config::Tools;
use crate::error::{Class, Error, Result};
use crate::security::Policy;

/// The tools of this build. One behind a feature has its row in `optional` too.
fn builtin() -> Vec<Box<dyn Tool>> {
    vec![
        tool(&calculator::SPEC, calculator::run),
        tool(&environment_reader::SPEC, environment_reader::run),
        tool(&file_operations::SPEC, file_operations::run),
        tool(&file_search::SPEC, file_search::run),
        tool(&file_watcher::SPEC, file_watcher::run),
        tool(&hash_calculator::SPEC, hash_calculator::run),
        tool(&http_request::SPEC, http_request::run),
        tool(&system_monitor::SPEC, system_monitor::run),
        tool(&text_manipulator::SPEC, text_manipulator::run),
    ]
}

/// Everything about a tool but its parameters (those are its params struct) and its work (its `run`).
#[derive(Debug)]
pub struct ToolSpec {
    /// The one name that is printed: `snake_case`.
    pub name: &'static str,
    /// Other names that find it. Case, `-` for `_` and the suffix `_tool` need no alias.
    pub aliases: &'static [&'static str],
    /// `utility data api filesystem system media web`.
    pub category: &'static str,
    /// One line, lower case, no full stop.
    pub summary: &'static str,
    /// How much trust it needs.
    pub level: Level,
    /// What it touches outside itself.
    pub effects: &'static [Effect],
    /// Old spellings of parameters and of their values, rewritten before validation.
    pub spellings: &'static [Spelling],
    /// Worked examples: shown by `info`, executed and compared by `test`.
    pub examples: &'static [Example],
}

/// How much trust a tool needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Computes only.
    Safe,
    /// Touches files or hosts the policy allows.
    Restricted,
    /// Changes the system.
    Privileged,
}

impl Level {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Safe => "safe",
            Level::Restricted => "restricted",
            Level::Privileged => "privileged",
        }
    }
}

/// What a tool touches outside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads files.
    ReadFiles,
    /// Creates, changes or removes files.
    WriteFiles,
    /// Talks to other hosts.
    Network,
    /// Runs programs.
    RunPrograms,
    /// Reads environment variables.
    ReadEnvironment,
}

impl Effect {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Effect::ReadFiles => "read_files",
            Effect::WriteFiles => "write_files",
            Effect::Network => "network",
            Effect::RunPrograms => "run_programs",
            Effect::ReadEnvironment => "read_environment",
        }
    }
}

/// An old spelling that is still accepted.
#[derive(Clone, Copy, Debug)]
pub enum Spelling {
    /// The parameter `.0` is now called `.1`.
    Param(&'static str, &'static str),
    /// Of the parameter `.0`, the value `.1` is now `.2`.
    Value(&'static str, &'static str, &'static str),
}

/// A call with its result.
#[derive(Debug)]
pub struct Example {
    /// What it shows.
    pub title: &'static str,
    /// Parameters, JSON. `$TMP` stands for a fresh folder in which `test` runs the examples in order, `$HTTP` for the
    /// address of a server that tells what it was asked.
    pub params: &'static str,
    /// JSON that the `result` must contain: objects may have more members, everything else must be equal.
    pub result: &'static str,
}

/// A row of [`ToolSpec::examples`].
pub const fn example(title: &'static str, params: &'static str, result: &'static str) -> Example {
    Example { title, params, result }
}

/// What a tool answers; the registry makes the envelope of it.
#[derive(Debug)]
pub struct Answer {
    /// Which operation ran.
    pub operation: String,
    /// The data.
    pub result: Value,
    /// A sentence for people.
    pub message: Option<String>,
    /// The text a script wants when it asks for text (a file's content, a body).
    pub text: Option<String>,
}

impl Answer {
    /// `result` of `operation`.
    pub fn new(operation: impl Into<String>, result: Value) -> Self {
        Answer { operation: operation.into(), result, message: None, text: None }
    }

    /// With a sentence for people.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// With the text itself.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}

/// A tool as the registry sees it.
trait Tool: Send + Sync {
    fn spec(&self) -> &'static ToolSpec;
    /// JSON Schema of the parameters.
    fn schema(&self) -> Value;
    /// Runs on checked parameters.
    fn run(&self, params: Value, call: &Call) -> Result<Answer>;
}

struct Typed<P> {
    spec: &'static ToolSpec,
    run: fn(P, &Call) -> Result<Answer>,
    params: PhantomData<fn() -> P>,
}

fn tool<P: DeserializeOwned + JsonSchema + 'static>(
    spec: &'static ToolSpec,
    run: fn(P, &Call) -> Result<Answer>,
) -> Box<dyn Tool> {
    Box::new(Typed { spec, run, params: PhantomData })
}

impl<P: DeserializeOwned + JsonSchema> Tool for Typed<P> {
    fn spec(&self) -> &'static ToolSpec {
        self.spec
    }

    fn schema(&self) -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        settings.into_generator().into_root_schema_for::<P>().to_value()
    }

    fn run(&self, params: Value, call: &Call) -> Result<Answer> {
        let params = serde_json::from_value(params).map_err(|e| Error::new(Class::Usage, e.to_string()))?;
        (self.run)(params, call)
    }
}

/// Receives the progress of a long call: a line for people.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What one call may use: policy, folder, time. A tool reaches files and hosts only through this.
#[derive(Clone)]
pub struct Call {
    /// What is allowed.
    pub policy: Arc<Policy>,
    /// `[tools]` of the configuration.
    pub settings: Arc<Tools>,
    /// Relative paths start here.
    pub cwd: PathBuf,
    /// When the call must be over.
    pub deadline: Option<Instant>,
    /// Set by whoever waits for the call.
    pub cancel: Cancel,
    /// Where progress goes, if anybody listens.
    pub progress: Option<Progress>,
}

impl Call {
    /// A call under `policy` from its working folder, without a time limit, with the default settings.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        let cwd = policy.workdir().to_path_buf();
        Call { policy, settings: Arc::default(), cwd, deadline: None, cancel: Cancel::default(), progress: None }
    }

    /// `path` as the caller meant it: absolute, from the call's folder. Says nothing about permission.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.cwd.join(path)
    }

    /// Opens `path` for reading, if the policy allows.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, or what the system said.
    pub fn open(&self, path: &str) -> Result<File> {
        self.policy.open_read(&self.path(path))
    }

    /// The real path behind `path`, if the policy allows to read it.
    ///
    /// # Errors
    /// `Denied`, `NotFound`.
    pub fn readable(&self, path: &str) -> Result<PathBuf> {
        self.policy.check_read(&self.path(path))
    }

    /// The real path behind `path` (whose last part need not exist), if the policy allows to write it.
    ///
    /// # Errors
    /// `Denied`, `NotFound` when its folder does not exist.
    pub fn writable(&self, path: &str) -> Result<PathBuf> {
        self.policy.check_write(&self.path(path))
    }

    /// To be called in every loop: whether to go on.
    ///
    /// # Errors
    /// `Interrupted` once cancelled, `Timeout` past the deadline.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(Class::Interrupted, "cancelled"));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::new(Class::Timeout, "time limit reached")),
            _ => Ok(()),
        }
    }

    /// The same call with at most `limit` left.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        let end = Instant::now().checked_add(limit);
        Call { deadline: [self.deadline, end].into_iter().flatten().min(), ..self.clone() }
    }

    /// Waits for `wait`, unless the call ends first.
    ///
    /// # Errors
    /// As [`Call::check`].
    pub fn sleep(&self, wait: Duration) -> Result<()> {
        let end = Instant::now().checked_add(wait);
        while end.is_none_or(|end| Instant::now() < end) {
            self.check()?;
            let until = [end, self.deadline].into_iter().flatten().min();
            self.cancel.poll(&[], until).map_err(|e| Error::system("pause", e))?;
        }
        self.check()
    }

    /// Time left, if there is a limit; zero when it is over.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Tells whoever listens how far it is.
    pub fn progress(&self, line: impl AsRef<str>) {
        if let Some(progress) = &self.progress {
            progress(line.as_ref());
        }
    }
}

/// The parameter `name`, which this operation needs.
fn required<T>(value: Option<T>, name: &str) -> Result<T> {
    value.ok_or_else(|| Error::new(Class::Usage, format!("{name}: missing")))
}

/// The name of a choice as parameters spell it.
fn word(choice: &impl serde::Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The `true` of `#[serde(default = …)]`.
fn yes() -> bool {
    true
}

/// `time` as RFC 3339 in UTC; what the format cannot say becomes the nearest it can.
fn timestamp(time: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LAST);
    humantime::format_rfc3339_nanos(SystemTime::UNIX_EPOCH + since).to_string()
}
