//! Tools: one file each. This file holds what they share: [`ToolSpec`], [`Call`], the list, and the [`Registry`] through
//! which every caller (messages, Lua, models, tests) lists, describes, searches, invokes and tests them.
//!
//! A tool is a params struct, a `SPEC` and a `run`. Spelling, validation, policy, deadline, envelope: once, here. `optional`
//! names the tools that only some builds have.

#[cfg(test)]
mod abuse;
mod api_tester;
#[cfg(feature = "tool-archives")]
mod archive_handler;
#[cfg(feature = "tool-media")]
mod audio_processor;
mod base64_encoder;
mod calculator;
mod cancel;
#[cfg(feature = "tool-documents")]
mod citation_formatter;
#[cfg(feature = "tool-csv")]
mod csv_analyzer;
#[cfg(feature = "tool-documents")]
mod data_converter;
mod data_validation;
#[cfg(feature = "tool-database")]
mod database_connector;
mod date_time_handler;
mod diff_calculator;
mod echo;
#[cfg(feature = "tool-email")]
mod email_sender;
mod environment_reader;
#[cfg(feature = "tool-excel")]
mod excel_processor;
mod faults;
#[cfg(feature = "tool-web")]
mod feed_reader;
#[cfg(feature = "tool-media")]
mod ffmpeg;
mod file_converter;
mod file_operations;
mod file_search;
mod file_watcher;
mod files;
mod graph_builder;
mod graphql_query;
mod hash_calculator;
#[cfg(feature = "tool-web")]
mod html;
#[cfg(feature = "tool-documents")]
mod html_to_markdown;
pub mod http;
mod http_request;
#[cfg(feature = "tool-media")]
mod image_processor;
mod json_patch;
#[cfg(feature = "tool-json-query")]
mod json_processor;
mod limits;
#[cfg(feature = "tool-documents")]
mod markdown_processor;
pub mod net;
mod optional;
#[cfg(all(test, feature = "full"))]
mod page;
#[cfg(feature = "tool-pdf")]
mod pdf_processor;
pub mod process;
mod process_executor;
mod regex_tool;
mod registry;
#[cfg(any(feature = "tool-database", feature = "tool-email"))]
mod rounds;
mod schedule_calculator;
mod schema;
mod secret_scanner;
mod service_checker;
#[cfg(feature = "tool-web")]
mod sitemap_crawler;
mod system_monitor;
#[cfg(feature = "tool-templates")]
mod template_engine;
#[cfg(test)]
mod testing;
mod text_diff_patch;
mod text_manipulator;
mod text_statistics;
mod url_analyzer;
mod uuid_generator;
mod validate;
#[cfg(feature = "tool-media")]
mod video_processor;
mod web;
#[cfg(feature = "tool-web")]
mod web_scraper;
mod web_search;
mod webhook_caller;
#[cfg(feature = "tool-web")]
mod webpage_monitor;

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
pub use registry::{Dynamic, Registry, TestCase};
pub use validate::mismatches;

use crate::config::Tools;
use crate::error::{Class, Error, Result};
use crate::security::Policy;

/// The tools of this build. One behind a feature has its row in `optional` too.
fn builtin() -> Vec<Box<dyn Tool>> {
    vec![
        tool(&api_tester::SPEC, api_tester::run),
        #[cfg(feature = "tool-archives")]
        tool(&archive_handler::SPEC, archive_handler::run),
        #[cfg(feature = "tool-media")]
        tool(&audio_processor::SPEC, audio_processor::run),
        tool(&base64_encoder::SPEC, base64_encoder::run),
        tool(&calculator::SPEC, calculator::run),
        #[cfg(feature = "tool-documents")]
        tool(&citation_formatter::SPEC, citation_formatter::run),
        #[cfg(feature = "tool-csv")]
        tool(&csv_analyzer::SPEC, csv_analyzer::run),
        #[cfg(feature = "tool-documents")]
        tool(&data_converter::SPEC, data_converter::run),
        tool(&data_validation::SPEC, data_validation::run),
        #[cfg(feature = "tool-database")]
        tool(&database_connector::SPEC, database_connector::run),
        tool(&date_time_handler::SPEC, date_time_handler::run),
        tool(&diff_calculator::SPEC, diff_calculator::run),
        #[cfg(feature = "tool-email")]
        tool(&email_sender::SPEC, email_sender::run),
        tool(&environment_reader::SPEC, environment_reader::run),
        #[cfg(feature = "tool-excel")]
        tool(&excel_processor::SPEC, excel_processor::run),
        #[cfg(feature = "tool-web")]
        tool(&feed_reader::SPEC, feed_reader::run),
        tool(&file_converter::SPEC, file_converter::run),
        tool(&file_operations::SPEC, file_operations::run),
        tool(&file_search::SPEC, file_search::run),
        tool(&file_watcher::SPEC, file_watcher::run),
        tool(&graph_builder::SPEC, graph_builder::run),
        tool(&graphql_query::SPEC, graphql_query::run),
        tool(&hash_calculator::SPEC, hash_calculator::run),
        #[cfg(feature = "tool-documents")]
        tool(&html_to_markdown::SPEC, html_to_markdown::run),
        tool(&http_request::SPEC, http_request::run),
        #[cfg(feature = "tool-media")]
        tool(&image_processor::SPEC, image_processor::run),
        tool(&json_patch::SPEC, json_patch::run),
        #[cfg(feature = "tool-json-query")]
        tool(&json_processor::SPEC, json_processor::run),
        #[cfg(feature = "tool-documents")]
        tool(&markdown_processor::SPEC, markdown_processor::run),
        #[cfg(feature = "tool-pdf")]
        tool(&pdf_processor::SPEC, pdf_processor::run),
        tool(&process_executor::SPEC, process_executor::run),
        tool(&regex_tool::SPEC, regex_tool::run),
        tool(&schedule_calculator::SPEC, schedule_calculator::run),
        tool(&secret_scanner::SPEC, secret_scanner::run),
        tool(&service_checker::SPEC, service_checker::run),
        #[cfg(feature = "tool-web")]
        tool(&sitemap_crawler::SPEC, sitemap_crawler::run),
        tool(&system_monitor::SPEC, system_monitor::run),
        #[cfg(feature = "tool-templates")]
        tool(&template_engine::SPEC, template_engine::run),
        tool(&text_diff_patch::SPEC, text_diff_patch::run),
        tool(&text_manipulator::SPEC, text_manipulator::run),
        tool(&text_statistics::SPEC, text_statistics::run),
        tool(&url_analyzer::SPEC, url_analyzer::run),
        tool(&uuid_generator::SPEC, uuid_generator::run),
        #[cfg(feature = "tool-media")]
        tool(&video_processor::SPEC, video_processor::run),
        #[cfg(feature = "tool-web")]
        tool(&web_scraper::SPEC, web_scraper::run),
        tool(&web_search::SPEC, web_search::run),
        tool(&webhook_caller::SPEC, webhook_caller::run),
        #[cfg(feature = "tool-web")]
        tool(&webpage_monitor::SPEC, webpage_monitor::run),
    ]
}

/// Files that the examples of `tool` find in `$TMP`.
fn example_files(tool: &str) -> &'static [(&'static str, &'static [u8])] {
    match tool {
        #[cfg(feature = "tool-media")]
        "audio_processor" => &[("silence.wav", include_bytes!("audio_processor/silence.wav"))],
        #[cfg(feature = "tool-media")]
        "video_processor" => &[("clip.mp4", include_bytes!("video_processor/clip.mp4"))],
        _ => &[],
    }
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

/// Receives how much of a long call is done: so much of so much.
pub type Portion = Arc<dyn Fn(u64, u64) + Send + Sync>;

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
    /// Where it is told how much is done, if anybody listens.
    pub portion: Option<Portion>,
    /// Where parts of the result go before it is complete, if anybody listens.
    pub output: Option<Progress>,
}

impl Call {
    /// A call under `policy` from its working folder, without a time limit, with the default settings.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        let cwd = policy.workdir().to_path_buf();
        Call {
            policy,
            settings: Arc::default(),
            cwd,
            deadline: None,
            cancel: Cancel::default(),
            progress: None,
            portion: None,
            output: None,
        }
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

    /// Tells whoever listens that `done` of `total` is done; cheap enough for every step of a loop.
    pub fn portion(&self, done: u64, total: u64) {
        if let Some(portion) = &self.portion {
            portion(done, total);
        }
    }

    /// Hands whoever listens `text` as a part of the result that is there already: lines of a program, rows of a table.
    pub fn output(&self, text: impl AsRef<str>) {
        if let Some(output) = &self.output {
            output(text.as_ref());
        }
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

/// `text` as part of a sentence: without a capital in front, unless it is a word of capitals.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), second) if !second.is_some_and(char::is_uppercase) => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
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
