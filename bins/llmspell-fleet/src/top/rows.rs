//! The figures of `top`: those of `metrics`, what changed of them since, and their order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use llmspell::fleet::Here;
use llmspell::fleet::metrics::Measured;
use serde_json::{Map, Value, json};

use crate::show;

/// A column.
pub(crate) struct Column {
    /// Its name for `--sort`.
    pub(crate) name: &'static str,
    pub(crate) head: &'static str,
    /// The field of a row.
    field: &'static str,
    /// The narrower the screen, the fewer are shown: those with the highest numbers go first.
    pub(crate) rank: u8,
    /// Whether the largest comes first.
    largest: bool,
}

const fn column(name: &'static str, head: &'static str, field: &'static str, rank: u8, largest: bool) -> Column {
    Column { name, head, field, rank, largest }
}

/// All of them; the first is as wide as there is room.
pub(crate) const COLUMNS: [Column; 10] = [
    column("kernel", "KERNEL", "id", 0, false),
    column("state", "STATE", "state", 1, false),
    column("pid", "PID", "pid", 5, false),
    column("port", "PORT", "port", 7, false),
    column("uptime", "UPTIME", "uptime_s", 4, true),
    column("cpu", "CPU%", "cpu_percent", 2, true),
    column("memory", "MEMORY", "rss_bytes", 3, true),
    column("clients", "CLIENTS", "clients", 6, true),
    column("executions", "EXECS", "executions", 8, true),
    column("restarts", "RESTARTS", "restarts", 9, true),
];

/// Names and places of [`COLUMNS`].
pub(crate) const SORTS: [(&str, usize); COLUMNS.len()] = {
    let mut sorts = [("", 0); COLUMNS.len()];
    let mut index = 0;
    while index < COLUMNS.len() {
        sorts[index] = (COLUMNS[index].name, index);
        index += 1;
    }
    sorts
};

/// A kernel with its figures.
pub(crate) struct Row {
    pub(crate) measured: Measured,
    pub(crate) numbers: Map<String, Value>,
}

impl Row {
    pub(crate) fn id(&self) -> &str {
        &self.measured.kernel.id
    }

    fn number(&self, field: &str) -> Option<f64> {
        self.numbers.get(field).and_then(Value::as_f64)
    }

    /// What stands in a column.
    pub(crate) fn cell(&self, column: &Column) -> String {
        let text = match (column.field, self.numbers.get(column.field), self.number(column.field)) {
            ("uptime_s", _, Some(seconds)) => show::uptime(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            ("rss_bytes", _, Some(bytes)) => show::memory(bytes as u64),
            ("cpu_percent", _, Some(percent)) => format!("{percent:.1}"),
            (_, _, Some(number)) => format!("{number:.0}"),
            (_, Some(Value::String(text)), _) => text.clone(),
            _ => "-".to_owned(),
        };
        text.replace(char::is_control, "?")
    }

    fn matches(&self, filter: &str) -> bool {
        let wanted = self.measured.kernel.wanted.as_ref();
        let labels =
            wanted.into_iter().flat_map(|wanted| &wanted.labels).map(|(name, value)| format!("{name}={value}"));
        let names = [self.id().to_owned(), self.measured.kernel.condition.name().to_owned()];
        let groups = wanted.into_iter().flat_map(|wanted| [&wanted.group, &wanted.fleet]).flatten().cloned();
        names.into_iter().chain(labels).chain(groups).any(|text| text.to_lowercase().contains(&filter.to_lowercase()))
    }
}

/// What was seen of processes before, to tell what they use.
#[derive(Default)]
pub(crate) struct Before(BTreeMap<String, (Value, f64, Instant)>);

impl Before {
    /// The rows of a new measurement. The share of a processor is that since the last one; of a process that was not
    /// there then, that of its whole life.
    pub(crate) fn rows(&mut self, measured: Vec<Measured>, here: &Here, now: Instant) -> Vec<Row> {
        let mut seen = BTreeMap::new();
        let row = |measured: Measured| {
            let mut numbers = measured.row(here);
            let (id, pid) = (measured.kernel.id.clone(), json!(measured.kernel.pid()));
            numbers.insert("port".into(), json!(measured.kernel.port()));
            let figure = |name: &str| numbers.get(name).and_then(Value::as_f64);
            let used = figure("cpu_s");
            let before = self.0.get(&id).filter(|(known, ..)| *known == pid);
            let share = match (used, before) {
                (Some(used), Some((_, before, then))) => Some((used - before, now.duration_since(*then).as_secs_f64())),
                (Some(used), None) => figure("uptime_s").map(|uptime| (used, uptime)),
                (None, _) => None,
            };
            // Ticks of the clock are coarse: a negative or endless share is none.
            let percent = share.filter(|(_, time)| *time > 0.0).map(|(used, time)| (used / time * 100.0).max(0.0));
            numbers.insert("cpu_percent".into(), json!(percent.map(|percent| (percent * 10.0).round() / 10.0)));
            numbers.insert("pid".into(), pid.clone());
            if let Some(used) = used {
                seen.insert(id, (pid, used, now));
            }
            Row { measured, numbers }
        };
        let rows = measured.into_iter().map(row).collect();
        self.0 = seen;
        rows
    }
}

/// Which rows, in which order.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) sort: usize,
    pub(crate) reverse: bool,
    pub(crate) filter: String,
}

impl View {
    /// The places of those of `rows` that are shown. Equal ones stay in the order of their names.
    pub(crate) fn order(&self, rows: &[Row]) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].matches(&self.filter)).collect();
        let column = &COLUMNS[self.sort];
        if column.field == "id" {
            if self.reverse {
                shown.reverse();
            }
            return shown;
        }
        let first = |a: &Row, b: &Row| match (a.number(column.field), b.number(column.field)) {
            (Some(a), Some(b)) if column.largest => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (None, None) => a.cell(column).cmp(&b.cell(column)),
            // What has no figure is last.
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let known = |row: &Row| row.numbers.get(column.field).is_some_and(|value| !value.is_null());
        shown.sort_by(|a, b| {
            let (a, b) = (&rows[*a], &rows[*b]);
            match first(a, b) {
                order if self.reverse && known(a) == known(b) => order.reverse(),
                order => order,
            }
        });
        shown
    }
}
