//! What kernels use and do, as numbers: from the system for their processes, from the kernels for the rest.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::probe::{Answers, probe};
use super::process::Here;
use super::survey::{Condition, Kernel};
use crate::home::Home;

/// The numbers of one kernel.
pub struct Measured {
    /// The kernel, its condition as its answers tell.
    pub kernel: Kernel,
    /// What it answered.
    pub answers: Answers,
    open_files: Option<usize>,
}

/// Measures `kernels`; those that do not answer within `limit` have the numbers of their process only.
#[must_use]
pub fn measure(mut kernels: Vec<Kernel>, limit: Duration) -> Vec<Measured> {
    let answers = probe(&mut kernels, limit);
    let measured = |(kernel, answers): (Kernel, Answers)| {
        let open_files = kernel.pid().and_then(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).map(Iterator::count);
        Measured { kernel, answers, open_files }
    };
    kernels.into_iter().zip(answers).map(measured).collect()
}

impl Measured {
    /// A number of the kernel's own count, also a nested one.
    fn status(&self, path: &[&str]) -> Option<f64> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.answers.status.as_ref()?.get(*first)?, |value, name| value.get(name))?.as_f64()
    }

    /// What `--json` says.
    #[must_use]
    pub fn row(&self, here: &Here) -> Map<String, Value> {
        let stat = self.kernel.stat;
        let row = json!({
            "id": self.kernel.id,
            "state": self.kernel.condition.name(),
            "up": self.answers.status.is_some(),
            "cpu_s": stat.map(|stat| here.seconds(stat.cpu_ticks)).or_else(|| self.status(&["cpu_s"])),
            "rss_bytes": self.kernel.rss_bytes().or_else(|| self.answers.rss_bytes()),
            "open_files": self.open_files,
            "threads": stat.map(|stat| stat.threads),
            "uptime_s": self.kernel.uptime(here).map(|age| age.as_secs_f64()).or_else(|| self.status(&["uptime_s"])),
            "restarts": self.kernel.state.restarts,
            "clients": self.answers.clients(),
            "executions": self.status(&["executions"]),
            "queue": self.status(&["queue"]),
            "tools_running": self.status(&["tools", "running"]),
            "tools_done": self.status(&["tools", "done"]),
            "tools_failed": self.status(&["tools", "failed"]),
            "dropped_messages": self.dropped().map(|(_, count)| count).sum::<f64>(),
        });
        match row {
            Value::Object(row) => row,
            _ => Map::new(),
        }
    }

    /// Messages that were dropped, by reason.
    fn dropped(&self) -> impl Iterator<Item = (&str, f64)> {
        let errors = self.answers.status.as_ref().and_then(|status| status.get("errors")).and_then(Value::as_object);
        errors.into_iter().flatten().filter_map(|(reason, count)| Some((reason.as_str(), count.as_f64()?)))
    }
}

/// A number of each kernel: its name, what it is, the field of [`Measured::row`].
const GAUGES: [(&str, &str, &str); 8] = [
    ("llmspell_kernel_resident_memory_bytes", "Resident memory.", "rss_bytes"),
    ("llmspell_kernel_open_fds", "Open file descriptors.", "open_files"),
    ("llmspell_kernel_threads", "Threads.", "threads"),
    ("llmspell_kernel_uptime_seconds", "For how long the process runs.", "uptime_s"),
    ("llmspell_kernel_clients", "Clients that follow the kernel.", "clients"),
    ("llmspell_kernel_queued_requests", "Requests that wait for the script thread.", "queue"),
    ("llmspell_kernel_running_tools", "Tools that run.", "tools_running"),
    ("llmspell_kernel_up", "Whether the kernel answers.", "up"),
];

/// The same for numbers that only grow while the process lives.
const COUNTERS: [(&str, &str, &str); 3] = [
    ("llmspell_kernel_cpu_seconds_total", "Processor time, user and system.", "cpu_s"),
    ("llmspell_kernel_executions_total", "Scripts that were executed.", "executions"),
    ("llmspell_kernel_restarts_total", "How often the kernel was started again.", "restarts"),
];

/// All of it in the text format of Prometheus.
#[must_use]
pub fn prometheus(home: &Home, here: &Here, measured: &[Measured]) -> String {
    let mut text = String::new();
    let rows: Vec<Map<String, Value>> = measured.iter().map(|one| one.row(here)).collect();
    let rows = &rows;
    let kinds = [("gauge", &GAUGES[..]), ("counter", &COUNTERS[..])];
    for (kind, table) in kinds {
        for (name, help, field) in table {
            let samples = rows.iter().filter_map(|row| {
                let value = &row[*field];
                let number = value.as_f64().or_else(|| value.as_bool().map(|up| f64::from(u8::from(up))))?;
                Some((vec![("kernel", row["id"].as_str().unwrap_or_default())], number))
            });
            family(&mut text, name, kind, help, samples);
        }
    }
    let results = |one: &Measured| {
        let (done, failed) = (one.status(&["tools", "done"])?, one.status(&["tools", "failed"])?);
        Some([("ok", done - failed), ("error", failed)])
    };
    let calls = measured.iter().filter_map(|one| Some((one, results(one)?))).flat_map(|(one, results)| {
        results.map(|(result, count)| (vec![("kernel", one.kernel.id.as_str()), ("result", result)], count.max(0.0)))
    });
    family(&mut text, "llmspell_kernel_tool_calls_total", "counter", "Tool calls that ended.", calls);
    let dropped = measured.iter().flat_map(|one| {
        one.dropped().map(|(reason, count)| (vec![("kernel", one.kernel.id.as_str()), ("reason", reason)], count))
    });
    let help = "Messages that were dropped, and why.";
    family(&mut text, "llmspell_kernel_dropped_messages_total", "counter", help, dropped);
    let states = Condition::ALL.iter().map(|state| {
        let count = measured.iter().filter(|one| one.kernel.condition == *state).count();
        (vec![("state", state.name())], count as f64)
    });
    family(&mut text, "llmspell_kernels", "gauge", "Kernels that are known, by state.", states);
    let watch = f64::from(u8::from(super::watch::is_running(home)));
    family(&mut text, "llmspell_fleet_watch_up", "gauge", "Whether a watch runs.", [(vec![], watch)]);
    text
}

/// One metric with its samples; nothing when there are none.
fn family<'a>(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, f64)>,
) {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return;
    }
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value) in samples {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

/// A label's value: what would end it or the line is escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_out() {
        let mut text = String::new();
        family(&mut text, "x", "gauge", "Y.", [(vec![("a", "b\"} 1\nc\\")], 1.5), (vec![], 2.0)]);
        assert_eq!(text, "# HELP x Y.\n# TYPE x gauge\nx{a=\"b\\\"} 1\\nc\\\\\"} 1.5\nx 2\n");
        text.clear();
        family(&mut text, "x", "gauge", "Y.", []);
        assert_eq!(text, "");
    }
}
