//! What the fleet says: lines for people, documents for programs.

use std::time::Duration;

use llmspell::cli::print;
use llmspell::error::{Error, Result};
use llmspell::fleet::probe::Answers;
use llmspell::fleet::{Condition, Here, Kernel, SCHEMA};
use serde_json::{Map, Value, json};

/// Prints a document: `schema_version`, then `fields`.
pub(crate) fn document(fields: Value) -> Result<()> {
    let mut document = Map::from_iter([("schema_version".to_owned(), SCHEMA.into())]);
    if let Value::Object(fields) = fields {
        document.extend(fields);
    }
    print(&format!("{}\n", Value::Object(document)))
}

/// An error as a field of a document.
pub(crate) fn error(error: &Error) -> Value {
    json!({ "class": error.class().row().name, "error": error.text(), "hint": error.next_step() })
}

/// `2h 15m`: the two largest units.
pub(crate) fn uptime(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(3);
    let mut rest = seconds;
    let parts: Vec<String> = units[first..]
        .iter()
        .take(2)
        .map(|(unit, size)| {
            let count = rest / size;
            rest %= size;
            format!("{count}{unit}")
        })
        .collect();
    parts.join(" ")
}

/// `42MB`, `1.2GB`
pub(crate) fn memory(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{}MB", bytes.div_ceil(1_000_000)),
        _ => format!("{:.1}GB", bytes as f64 / 1e9),
    }
}

/// Rows under a head, each column as wide as it must be; the last is not filled up.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let width = |column: usize| {
        rows.iter().map(|row| row.get(column).map_or(0, |cell| cell.chars().count())).chain([head[column].len()]).max()
    };
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    for row in [&head].into_iter().chain(rows) {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

pub(crate) fn list(kernels: &[Kernel], here: &Here) -> String {
    if kernels.is_empty() {
        return String::new();
    }
    let dash = || "-".to_owned();
    let rows: Vec<Vec<String>> = kernels
        .iter()
        .map(|kernel| {
            vec![
                kernel.id.clone(),
                kernel.condition.name().to_owned(),
                kernel.pid().map_or_else(dash, |pid| pid.to_string()),
                kernel.port().map_or_else(dash, |port| port.to_string()),
                kernel.rss_bytes().map_or_else(dash, memory),
                kernel.uptime(here).map_or_else(dash, uptime),
                kernel.reason.clone(),
            ]
        })
        .collect();
    table(&["KERNEL", "STATE", "PID", "PORT", "MEMORY", "UPTIME", ""], &rows)
}

/// `HEALTHY (uptime: 2h 15m, memory: 42MB, clients: 3)`
pub(crate) fn health(kernel: &Kernel, answers: &Answers) -> String {
    let word = match kernel.condition {
        Condition::Ready => "HEALTHY".to_owned(),
        other => other.name().to_uppercase(),
    };
    let parts: Vec<String> = [
        Some(kernel.reason.clone()).filter(|reason| !reason.is_empty()),
        answers.uptime().map(|age| format!("uptime: {}", uptime(age))),
        answers.rss_bytes().map(|bytes| format!("memory: {}", memory(bytes))),
        answers.clients().map(|count| format!("clients: {count}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { word } else { format!("{word} ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (8100, "2h 15m"), (90_000, "1d 1h")]
        {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
        assert_eq!([memory(0), memory(41_500_000), memory(1_250_000_000)], ["0MB", "42MB", "1.2GB"]);
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [vec!["a".into(), "bbb".into()], vec!["cc".into(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X   Y\na   bbb\ncc\n");
    }
}
