//! What the fleet says: lines for people, documents for programs.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use llmspell::cli::print;
use llmspell::error::{Error, Result};
use llmspell::fleet::probe::Answers;
use llmspell::fleet::{Condition, Enforced, Here, Kernel, Policy, SCHEMA, Wanted};
use llmspell::home::Home;
use llmspell::protocol::connection::Channel;
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

/// What `status --json` adds: what was ordered, without the values of variables, and what happened.
pub(crate) fn details(kernel: &Kernel, home: &Home) -> Map<String, Value> {
    let wanted = kernel.wanted.as_ref();
    let details = json!({
        "workdir": wanted.map(|wanted| &wanted.workdir),
        "arguments": wanted.map(|wanted| &wanted.arguments),
        "env": wanted.map(|wanted| wanted.env.keys().collect::<Vec<_>>()),
        "memory": wanted.and_then(|wanted| wanted.memory),
        "cpu": wanted.and_then(|wanted| wanted.cpu),
        "config_changed": wanted.map(Wanted::config_changed),
        "limits": kernel.state.limits,
        "failures": kernel.state.failures,
        "cause": kernel.state.cause,
        "ended": kernel.state.ended,
        "log": home.log_file(&kernel.id),
    });
    match details {
        Value::Object(details) => details,
        _ => Map::new(),
    }
}

/// Everything about one kernel, a line each.
pub(crate) fn status(kernel: &Kernel, answers: &Answers, here: &Here, home: &Home, watched: bool) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let reason = if kernel.reason.is_empty() { String::new() } else { format!(": {}", kernel.reason) };
    lines.push(("state", format!("{}{reason}", kernel.condition.name())));
    if let Some(pid) = kernel.pid() {
        let age = kernel.uptime(here).map(uptime).unwrap_or_default();
        let size = kernel.rss_bytes().map(memory).unwrap_or_default();
        lines.push(("process", format!("PID {pid}, up {age}, {size}")));
    }
    if let Some(status) = &answers.status {
        let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (clients, count, queue) = (number("clients"), number("executions"), number("queue"));
        lines.push(("serves", format!("{clients} clients; {count} executions, {queue} waiting")));
    }
    if let Some(connection) = &kernel.connection {
        lines.push(("address", connection.endpoint(Channel::Shell)));
        lines.push(("connection", kernel.file.display().to_string()));
    }
    if let Some(wanted) = &kernel.wanted {
        let config = wanted.config.as_ref().map_or("your own".to_owned(), |path| path.display().to_string());
        let changed = if wanted.config_changed() { " (another than when it was started)" } else { "" };
        lines.push(("configuration", format!("{config}{changed}")));
        let nobody = if wanted.restart != Policy::Never && !watched { "; no watch runs to do it" } else { "" };
        lines.push(("restart", format!("{}, done {} times{nobody}", wanted.restart.name(), kernel.state.restarts)));
        if let Some(cause) = &kernel.state.cause {
            let ago = kernel.state.ended.and_then(|at| {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
                Duration::try_from_secs_f64(now.as_secs_f64() - at).ok()
            });
            let ago = ago.map(|ago| format!(", {} ago", uptime(ago))).unwrap_or_default();
            lines.push(("ended last", format!("{cause}{ago}")));
        }
        let limits = [
            wanted.memory.map(|bytes| format!("{} of memory", llmspell::units::show_size(bytes))),
            wanted.cpu.map(|cpus| format!("{cpus} processors")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        if !limits.is_empty() {
            let by = match &kernel.state.limits {
                Some(Enforced::Cgroup { path }) => format!("held by {}", path.display()),
                Some(Enforced::Rlimit) => "held by a limit on the data of its process".to_owned(),
                None => "not in force".to_owned(),
            };
            lines.push(("limits", format!("{}, {by}", limits.join(", "))));
        }
        let pairs = |map: &BTreeMap<String, String>| {
            map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        if !wanted.labels.is_empty() {
            lines.push(("labels", pairs(&wanted.labels)));
        }
        if !wanted.env.is_empty() {
            // Their values may be keys.
            lines.push(("variables", wanted.env.keys().cloned().collect::<Vec<_>>().join(" ")));
        }
    } else {
        lines.push(("ordered", "no; it was started by hand".to_owned()));
    }
    let log = home.log_file(&kernel.id);
    if log.exists() {
        lines.push(("log", log.display().to_string()));
    }
    let rows: String = lines.iter().map(|(name, text)| format!("  {name:<14}{text}\n")).collect();
    format!("{}\n{rows}", kernel.id)
}

pub(crate) fn metrics(rows: &[Map<String, Value>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let cell = |row: &Map<String, Value>, name: &str| match &row[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        value => match (name, value.as_f64()) {
            ("rss_bytes", Some(bytes)) => memory(bytes as u64),
            ("uptime_s", Some(seconds)) => uptime(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            ("cpu_s", Some(seconds)) => format!("{seconds:.2}s"),
            (_, Some(number)) => format!("{number:.0}"),
            _ => value.to_string(),
        },
    };
    const COLUMNS: [(&str, &str); 9] = [
        ("KERNEL", "id"),
        ("STATE", "state"),
        ("CPU", "cpu_s"),
        ("MEMORY", "rss_bytes"),
        ("FILES", "open_files"),
        ("CLIENTS", "clients"),
        ("EXECUTIONS", "executions"),
        ("UPTIME", "uptime_s"),
        ("RESTARTS", "restarts"),
    ];
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| COLUMNS.iter().map(|(_, name)| cell(row, name)).collect()).collect();
    table(&COLUMNS.map(|(head, _)| head), &cells)
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
