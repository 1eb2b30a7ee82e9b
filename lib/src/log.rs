//! Logs to standard error: text or JSON lines, a level for each module, secrets masked.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{LazyLock, PoisonError, RwLock};
use std::time::SystemTime;

use flexi_logger::{DeferredNow, LogSpecification, Logger, LoggerHandle};
use log::{LevelFilter, Record};
use regex::Regex;
use serde_json::json;

use crate::config::{Level, Log, LogFormat};
use crate::error::{Class, Error, Result};

/// Keeps the log going; drop it last.
pub struct Handle(LoggerHandle);

impl Handle {
    /// Takes the levels of `config` from now on.
    pub fn set(&self, config: &Log) {
        self.0.set_new_spec(levels(config));
    }
}

/// Starts the log of this process. Once.
///
/// # Errors
/// `Bug` when it was started before.
pub fn start(config: &Log) -> Result<Handle> {
    let format = match config.format {
        LogFormat::Text => text,
        LogFormat::Json => json_line,
    };
    let started = Logger::with(levels(config)).log_to_stderr().format(format).start();
    started.map(Handle).map_err(|error| Error::new(Class::Bug, format!("log: {error}")))
}

fn levels(config: &Log) -> LogSpecification {
    let mut builder = LogSpecification::builder();
    builder.default(filter(config.level));
    for (module, level) in &config.modules {
        builder.module(module, filter(*level));
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

/// `2026-01-02T03:04:05.678Z WARN llmspell::engine: message`; line ends and control characters in it are escaped.
fn text(out: &mut dyn Write, _: &mut DeferredNow, record: &Record<'_>) -> io::Result<()> {
    let message = record.args().to_string();
    let line: String = redact(&message).chars().flat_map(|c| shown(c).chars().collect::<Vec<_>>()).collect();
    write!(out, "{} {} {}: {line}", now(), record.level(), record.target())
}

fn shown(c: char) -> Cow<'static, str> {
    match c {
        '\t' => "\t".into(),
        c if c.is_control() => c.escape_default().to_string().into(),
        c => c.to_string().into(),
    }
}

/// `{"time": …, "level": …, "module": …, "message": …}`
fn json_line(out: &mut dyn Write, _: &mut DeferredNow, record: &Record<'_>) -> io::Result<()> {
    let message = record.args().to_string();
    let line = json!({
        "time": now(),
        "level": record.level().as_str().to_lowercase(),
        "module": record.target(),
        "message": redact(&message),
    });
    write!(out, "{line}")
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Values that must never be shown, told by whoever reads them.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on `secret` is masked in every log line. Shorter than 8 bytes it would mask ordinary words; not taken.
pub fn hide(secret: &str) {
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    if secret.len() >= 8 && !secrets.iter().any(|known| known == secret) {
        secrets.push(secret.to_owned());
    }
}

/// Headers up to the end of line or text, values after a telling name (quoted or not), and well-known shapes.
static PATTERNS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    [
        (r#"(?i)((?:authorization|cookie)\\?["']?\s*[:=]\s*\\?["']?)[^"'\\\r\n]+"#, "${1}<redacted>"),
        (
            r#"(?xi)
            ( (?:api[_-]?key|password|passwd|secret|[a-z]*token) \\?["']? \s*[:=]\s* )
            (?: \\"[^"\\]*\\" | "(?:[^"\\]|\\.)*"? | '[^']*'? | [^\s"',;&]+ )"#,
            "${1}<redacted>",
        ),
        (r"(?i)\b(bearer\s+)[a-z0-9._~+/=-]{8,}", "${1}<redacted>"),
        (r"\bsk-[A-Za-z0-9_-]{8,}", "<redacted>"),
    ]
    .map(|(pattern, with)| (Regex::new(pattern).expect("a constant pattern"), with))
});

/// `text` with secrets masked: those told to [`hide`], what follows `api_key=`, `Authorization:`, `Bearer`, and `sk-…`.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for secret in SECRETS.read().unwrap_or_else(PoisonError::into_inner).iter() {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), "<redacted>"));
        }
    }
    for (pattern, with) in &*PATTERNS {
        if let Cow::Owned(masked) = pattern.replace_all(&text, *with) {
            text = Cow::Owned(masked);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        hide("correct horse");
        hide("it");
        for (text, expected) in [
            ("api_key=abc rest", "api_key=<redacted> rest"),
            (r#"{"api_key": "a \"b c", "b": 1}"#, r#"{"api_key": <redacted>, "b": 1}"#),
            (r#""{\"api_key\":\"abc d\",\"b\":1}""#, r#""{\"api_key\":<redacted>,\"b\":1}""#),
            ("password = 'a b' c", "password = <redacted> c"),
            ("Authorization: Token abc.def\nHost: h", "Authorization: <redacted>\nHost: h"),
            ("sent Bearer abcdefghij twice", "sent Bearer <redacted> twice"),
            ("key sk-ant-0123456789", "key <redacted>"),
            ("https://h/?access_token=abc&b=1", "https://h/?access_token=<redacted>&b=1"),
            ("said correct horse", "said <redacted>"),
            ("wait for it: 3 tokens", "wait for it: 3 tokens"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    fn line(format: flexi_logger::FormatFunction, message: &str) -> String {
        let mut out = Vec::new();
        // One expression: before Rust 1.89 `format_args!` with arguments cannot be kept in a variable.
        let mut record = Record::builder();
        record.level(log::Level::Warn).target("a::b");
        format(&mut out, &mut DeferredNow::new(), &record.args(format_args!("{message}")).build()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_event_is_one_line() {
        let text = line(text, "a\nb\x1b[31m");
        assert!(text.ends_with("Z WARN a::b: a\\nb\\u{1b}[31m"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&line(json_line, "a\nb password=x")).unwrap();
        assert_eq!((&json["level"], &json["message"]), (&json!("warn"), &json!("a\nb password=<redacted>")));
    }

    #[test]
    fn levels_are_those_of_the_module() {
        let mut config = Log { level: Level::Error, ..Log::default() };
        config.modules.insert("llmspell::engine".into(), Level::Debug);
        let levels = levels(&config);
        assert!(levels.enabled(log::Level::Debug, "llmspell::engine::lua"));
        assert!(!levels.enabled(log::Level::Warn, "llmspell::tools"));
    }
}
