//! One event is one line.

use std::fmt::Write;
use std::time::SystemTime;

use log::Record;
use serde_json::json;

use crate::config::LogFormat;

/// Appends the line of `record`, whose text is `message`, with its end.
pub(super) fn line(format: LogFormat, out: &mut String, record: &Record<'_>, message: &str) {
    match format {
        LogFormat::Text => text(out, record, message),
        LogFormat::Json => json_line(out, record, message),
    }
    out.push('\n');
}

/// `2026-01-02T03:04:05.678Z WARN llmspell::engine: message`; line ends and control characters in it are escaped.
fn text(out: &mut String, record: &Record<'_>, message: &str) {
    let _ = write!(out, "{} {} {}: ", now(), record.level(), record.target());
    for c in message.chars() {
        match c {
            '\t' => out.push('\t'),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

/// `{"time": …, "level": …, "module": …, "message": …}`
fn json_line(out: &mut String, record: &Record<'_>, message: &str) {
    let line = json!({
        "time": now().to_string(),
        "level": record.level().as_str().to_lowercase(),
        "module": record.target(),
        "message": message,
    });
    let _ = write!(out, "{line}");
}

fn now() -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(format: LogFormat, message: &str) -> String {
        let mut out = String::new();
        let record = Record::builder().level(log::Level::Warn).target("a::b").build();
        line(format, &mut out, &record, message);
        out
    }

    #[test]
    fn one_event_is_one_line() {
        let text = made(LogFormat::Text, "a\nb\x1b[31m");
        assert!(text.ends_with("Z WARN a::b: a\\nb\\u{1b}[31m\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&made(LogFormat::Json, "a\nb")).unwrap();
        assert_eq!((&json["level"], &json["message"]), (&json!("warn"), &json!("a\nb")));
    }
}
