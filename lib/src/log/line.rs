//! One event is one line.

use std::fmt::Write;
use std::time::SystemTime;

use log::Record;
use serde_json::{Map, Value, json};

/// Appends `2026-01-02T03:04:05.678Z WARN llmspell::engine: message`; line ends and control characters in it are escaped.
pub(super) fn text(out: &mut String, record: &Record<'_>, message: &str) {
    let _ = write!(out, "{} {} {}: ", now(), record.level(), record.target());
    for c in message.chars() {
        match c {
            '\t' => out.push('\t'),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('\n');
}

/// Appends `{"time": …, "level": …, "module": …, "message": …}`, with `"fields": {…}` where there are some.
pub(super) fn json(out: &mut String, record: &Record<'_>, message: &str, fields: &Map<String, Value>) {
    let mut line = json!({
        "time": now().to_string(),
        "level": record.level().as_str().to_lowercase(),
        "module": record.target(),
        "message": message,
    });
    if !fields.is_empty() {
        line["fields"] = Value::Object(fields.clone());
    }
    let _ = writeln!(out, "{line}");
}

fn now() -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_one_line() {
        let record = Record::builder().level(log::Level::Warn).target("a::b").build();
        let (mut plain, mut line) = (String::new(), String::new());
        text(&mut plain, &record, "a\nb\x1b[31m");
        assert!(plain.ends_with("Z WARN a::b: a\\nb\\u{1b}[31m\n"), "{plain}");
        json(&mut line, &record, "a\nb", &Map::from_iter([("n".to_owned(), json!(1))]));
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&told["level"], &told["message"], &told["fields"]),
            (&json!("warn"), &json!("a\nb"), &json!({"n": 1}))
        );
        assert!(line.ends_with("}\n"));
    }
}
