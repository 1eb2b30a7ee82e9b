//! Logs: text or JSON lines, a level for each module, secrets masked, to a file, standard error, syslog or the journal.

mod fields;
mod file;
mod line;
mod redact;
mod system;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flexi_logger::writers::LogWriter;
use flexi_logger::{DeferredNow, ErrorChannel, LogSpecification, Logger, LoggerHandle};
use log::{LevelFilter, Record};

use crate::config::{Daemon, Level, Log, LogFormat};
use crate::error::{Class, Error, Result};
use file::LogFile;
use system::{Journal, Stderr, Syslog};

pub use fields::{enabled, event};
pub use redact::{hide, redact};

/// Messages that could not be written, in this process.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many messages could not be written since the start.
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// A log file: the live one has always this name, older ones have the time of their end in theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSettings {
    /// The live file.
    pub path: PathBuf,
    /// It is rotated before it is larger; 0: however large it is.
    pub max_size: u64,
    /// It is rotated at midnight UTC.
    pub daily: bool,
    /// Old files are removed when they are older; zero: never.
    pub max_age: Duration,
    /// Most old files that are kept; 0: any number.
    pub max_files: usize,
    /// Whether old files are compressed.
    pub compress: bool,
    /// Whether standard output and error lead into the file as well: those of a process in the background.
    pub standard_streams: bool,
}

impl FileSettings {
    /// The file at `path` under the limits of `daemon`.
    #[must_use]
    pub fn new(path: PathBuf, daemon: &Daemon, standard_streams: bool) -> Self {
        FileSettings {
            path,
            max_size: if daemon.log_rotation_on_size { daemon.max_log_size } else { 0 },
            daily: daemon.log_rotation_daily,
            max_age: Duration::from_secs(u64::from(daemon.max_log_age_days) * 24 * 3600),
            max_files: daemon.max_log_files,
            compress: daemon.compress_logs,
            standard_streams,
        }
    }
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sinks {
    /// A file.
    pub file: Option<FileSettings>,
    /// Standard error.
    pub stderr: bool,
    /// The system log by `/dev/log`.
    pub syslog: bool,
    /// The journal of systemd by its own protocol.
    pub journald: bool,
}

impl Sinks {
    /// Standard error, nothing else.
    #[must_use]
    pub fn stderr() -> Self {
        Sinks { stderr: true, ..Sinks::default() }
    }
}

/// Changes the log while it goes on; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Handle {
    logger: LoggerHandle,
    writer: Arc<Writer>,
}

impl Handle {
    /// Takes levels, format and limits from now on. Where lines go stays.
    pub fn set(&self, config: &Log, daemon: &Daemon) {
        self.logger.set_new_spec(levels(config, None));
        let mut state = self.writer.lock();
        state.config = config.clone();
        state.raised = None;
        if let Some(file) = &mut state.file {
            file.set(FileSettings::new(PathBuf::new(), daemon, false));
        }
    }

    /// One level more, and behind the last one those of the configuration again; says which it is.
    pub fn louder(&self) -> Level {
        let mut state = self.writer.lock();
        let configured = state.config.level;
        state.raised = match state.raised.unwrap_or(configured) {
            Level::Trace => None,
            Level::Debug => Some(Level::Trace),
            _ => Some(Level::Debug),
        };
        let (levels, level) = (levels(&state.config, state.raised), state.raised.unwrap_or(configured));
        drop(state);
        self.logger.set_new_spec(levels);
        level
    }

    /// Writes a line whatever the level: what somebody asked for by a signal.
    pub fn say(&self, text: &str) {
        let mut record = Record::builder();
        record.level(log::Level::Info).target("llmspell::kernel");
        self.writer.lock().write(&record.args(format_args!("{text}")).build());
    }

    /// Opens the file anew: somebody moved it away, or wants to. False when there is none.
    pub fn reopen(&self) -> bool {
        let mut state = self.writer.lock();
        state.file.as_mut().map(LogFile::reopen).is_some()
    }

    /// Removes and compresses old files as their age demands; cheap, for now and then.
    pub fn tidy(&self) {
        if let Some(file) = &self.writer.lock().file {
            file.tidy();
        }
    }
}

/// Starts the log of this process. Once.
///
/// # Errors
/// What the system said of the file, naming it; `Bug` when the log was started before.
pub fn start(config: &Log, sinks: Sinks) -> Result<Handle> {
    let state = State {
        config: config.clone(),
        raised: None,
        line: String::with_capacity(256),
        file: sinks.file.map(LogFile::open).transpose()?,
        // What comes by both ways would stand there twice.
        stderr: Stderr::new().filter(|stderr| sinks.stderr && !(sinks.journald && stderr.is_journal())),
        syslog: sinks.syslog.then(Syslog::default),
        journal: sinks.journald.then(Journal::default),
    };
    let quiet = state.stderr.is_none();
    let writer = Arc::new(Writer(Mutex::new(state)));
    let started = Logger::with(levels(config, None))
        .log_to_writer(Box::new(Front(Arc::clone(&writer))))
        .error_channel(ErrorChannel::DevNull)
        .start();
    if quiet {
        // Where nobody looks at standard error, a panic is a line of the log.
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    }
    let logger = started.map_err(|error| Error::new(Class::Bug, format!("log: {error}")))?;
    Ok(Handle { logger, writer })
}

/// Everything a line can go to.
struct Writer(Mutex<State>);

struct State {
    config: Log,
    /// The level a signal asked for.
    raised: Option<Level>,
    line: String,
    file: Option<LogFile>,
    stderr: Option<Stderr>,
    syslog: Option<Syslog>,
    journal: Option<Journal>,
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whatever cannot be written is counted once, however many sinks failed.
    fn write(&mut self, record: &Record<'_>) {
        let mut fine = true;
        let message = record.args().to_string();
        let message = redact(&message);
        let fields = fields::of(record);
        self.line.clear();
        let format = self.config.format;
        let (told, message) = (&message, format!("{message}{}", fields::text(&fields)));
        match format {
            LogFormat::Text => line::text(&mut self.line, record, &message),
            LogFormat::Json => line::json(&mut self.line, record, told, &fields),
        }
        if let Some(file) = &mut self.file {
            fine &= file.write(self.line.as_bytes());
        }
        if let Some(stderr) = &mut self.stderr {
            fine &= stderr.write(format, &self.line, record.level());
        }
        if let Some(syslog) = &mut self.syslog {
            fine &= syslog.write(record, &message);
        }
        if let Some(journal) = &mut self.journal {
            fine &= journal.write(record, &message);
        }
        if !fine {
            LOST.fetch_add(1, Relaxed);
        }
    }
}

/// What the logger calls.
struct Front(Arc<Writer>);

impl LogWriter for Front {
    fn write(&self, _: &mut DeferredNow, record: &Record<'_>) -> io::Result<()> {
        // A panic may come from within, and must not wait for itself.
        if std::thread::panicking() {
            match self.0.0.try_lock() {
                Ok(mut state) => state.write(record),
                Err(_) => drop(LOST.fetch_add(1, Relaxed)),
            }
        } else {
            self.0.lock().write(record);
        }
        Ok(())
    }

    /// Nothing is held back.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn levels(config: &Log, raised: Option<Level>) -> LogSpecification {
    let at_least = |level: Level| filter(raised.map_or(level, |raised| raised.max(level)));
    let mut builder = LogSpecification::builder();
    builder.default(at_least(config.level));
    for (module, level) in &config.modules {
        builder.module(module, at_least(*level));
    }
    builder.build()
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::Off,
        Level::Error => LevelFilter::Error,
        Level::Warn => LevelFilter::Warn,
        Level::Info => LevelFilter::Info,
        Level::Debug => LevelFilter::Debug,
        Level::Trace => LevelFilter::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_module() {
        let mut config = Log { level: Level::Error, ..Log::default() };
        config.modules.insert("llmspell::engine".into(), Level::Debug);
        let levels = levels(&config, None);
        assert!(levels.enabled(log::Level::Debug, "llmspell::engine::lua"));
        assert!(!levels.enabled(log::Level::Warn, "llmspell::tools"));
    }
}
