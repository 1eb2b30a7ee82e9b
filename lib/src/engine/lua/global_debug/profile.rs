//! Timers: what took how long.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

/// Finished timers that are told of one by one.
const MOST_FINISHED: usize = 1000;
/// Names that are counted; what comes later is counted together.
const MOST_NAMES: usize = 1000;
/// Timers that run at once.
const MOST_RUNNING: usize = 10_000;
/// Laps and events of one timer.
const MOST_MARKS: usize = 1000;
/// Timers around one that are remembered, the innermost.
const MOST_AROUND: usize = 50;
/// What is counted together.
const OTHERS: &str = "(others)";

/// A lap or an event: when it was, in milliseconds since the start of its timer, and what came with it.
struct Mark {
    name: String,
    at: f64,
    data: Option<Json>,
}

struct Timer {
    name: String,
    started: Instant,
    /// The timers that ran when it was started, the outermost first.
    around: Vec<u64>,
    /// What timers within it took.
    within: Duration,
    laps: Vec<Mark>,
    events: Vec<Mark>,
}

/// A finished timer.
struct Finished {
    id: u64,
    name: String,
    took: f64,
    laps: Vec<Mark>,
    events: Vec<Mark>,
}

/// All timers of one name.
#[derive(Default)]
struct Sum {
    count: u64,
    total: f64,
    least: f64,
    most: f64,
}

/// All timers.
#[derive(Default)]
pub(super) struct Profile {
    last: u64,
    running: BTreeMap<u64, Timer>,
    finished: VecDeque<Finished>,
    sums: BTreeMap<String, Sum>,
    /// Microseconds by the names of the timers around and its own, without those within.
    flames: BTreeMap<String, u64>,
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl Profile {
    /// Starts one; `None` where too many run.
    pub(super) fn start(&mut self, name: String) -> Option<u64> {
        if self.running.len() >= MOST_RUNNING {
            return None;
        }
        self.last += 1;
        // The keys are in the order of the starts.
        let mut around: Vec<u64> = self.running.keys().rev().take(MOST_AROUND).copied().collect();
        around.reverse();
        let timer = Timer {
            name,
            started: Instant::now(),
            around,
            within: Duration::ZERO,
            laps: Vec::new(),
            events: Vec::new(),
        };
        self.running.insert(self.last, timer);
        Some(self.last)
    }

    /// Milliseconds since its start; `None` where it does not run.
    pub(super) fn elapsed(&self, id: u64) -> Option<f64> {
        self.running.get(&id).map(|timer| ms(timer.started.elapsed()))
    }

    /// Ends it: milliseconds.
    pub(super) fn stop(&mut self, id: u64) -> Option<f64> {
        let timer = self.running.remove(&id)?;
        let took = timer.started.elapsed();
        let mut names = Vec::new();
        for id in &timer.around {
            names.extend(self.running.get(id).map(|timer| timer.name.clone()));
        }
        if let Some(outer) = timer.around.iter().rev().find_map(|id| self.running.get_mut(id).map(|_| *id)) {
            let outer = self.running.get_mut(&outer)?;
            outer.within += took;
        }
        names.push(timer.name.clone());
        let own = took.saturating_sub(timer.within).as_micros() as u64;
        // A `;` separates, and the last blank is before the number.
        let stack = names.iter().map(|name| name.replace([';', '\n'], " ")).collect::<Vec<_>>().join(";");
        let stack =
            if self.flames.len() < MOST_NAMES || self.flames.contains_key(&stack) { stack } else { OTHERS.into() };
        *self.flames.entry(stack).or_default() += own;
        let took = ms(took);
        let known = self.sums.len() < MOST_NAMES || self.sums.contains_key(&timer.name);
        let sum = self.sums.entry(if known { timer.name.clone() } else { OTHERS.into() }).or_default();
        sum.least = if sum.count == 0 { took } else { sum.least.min(took) };
        sum.most = sum.most.max(took);
        sum.count += 1;
        sum.total += took;
        self.finished.push_back(Finished { id, name: timer.name, took, laps: timer.laps, events: timer.events });
        if self.finished.len() > MOST_FINISHED {
            self.finished.pop_front();
        }
        Some(took)
    }

    /// A lap, or with data an event, of a timer that runs; false where it does not, or has too many.
    pub(super) fn mark(&mut self, id: u64, name: String, data: Option<Json>) -> bool {
        let Some(timer) = self.running.get_mut(&id) else { return false };
        let mark = Mark { name, at: ms(timer.started.elapsed()), data };
        let marks = if mark.data.is_some() { &mut timer.events } else { &mut timer.laps };
        if marks.len() < MOST_MARKS {
            marks.push(mark);
            return true;
        }
        false
    }

    /// As a table for people.
    pub(super) fn report(&self) -> String {
        let mut lines = Vec::new();
        if self.sums.is_empty() {
            lines.push("no timer has been stopped yet".to_owned());
        } else {
            let widest = self.sums.keys().map(|name| name.chars().count()).max().unwrap_or(0).clamp(5, 60);
            lines.push(format!(
                "{:widest$}  {:>8}  {:>12}  {:>12}  {:>12}  {:>12}",
                "timer", "count", "total ms", "mean ms", "least ms", "most ms"
            ));
            lines.extend(self.sums.iter().map(|(name, sum)| {
                format!(
                    "{name:widest$}  {:>8}  {:>12.3}  {:>12.3}  {:>12.3}  {:>12.3}",
                    sum.count,
                    sum.total,
                    sum.total / sum.count as f64,
                    sum.least,
                    sum.most
                )
            }));
        }
        let running = self.running.values();
        lines.extend(running.map(|timer| format!("{}: running for {:.3} ms", timer.name, ms(timer.started.elapsed()))));
        lines.join("\n")
    }

    /// All that is known.
    pub(super) fn json(&self) -> Json {
        let marks = |marks: &[Mark]| {
            let mark = |mark: &Mark| json!({ "name": mark.name, "at_ms": mark.at, "data": mark.data });
            marks.iter().map(mark).collect::<Vec<_>>()
        };
        let timers = self.sums.iter().map(|(name, sum)| {
            json!({
                "name": name, "count": sum.count, "total_ms": sum.total, "mean_ms": sum.total / sum.count as f64,
                "min_ms": sum.least, "max_ms": sum.most,
            })
        });
        let running = self.running.iter().map(|(id, timer)| {
            json!({
                "id": super::timer_id(*id), "name": timer.name, "elapsed_ms": ms(timer.started.elapsed()),
                "laps": marks(&timer.laps), "events": marks(&timer.events),
            })
        });
        let finished = self.finished.iter().map(|timer| {
            json!({
                "id": super::timer_id(timer.id), "name": timer.name, "duration_ms": timer.took,
                "laps": marks(&timer.laps), "events": marks(&timer.events),
            })
        });
        json!({
            "timers": timers.collect::<Vec<_>>(),
            "running": running.collect::<Vec<_>>(),
            "finished": finished.collect::<Vec<_>>(),
        })
    }

    /// Folded stacks, a line each: the names from the outermost to the innermost, and microseconds.
    pub(super) fn flames(&self) -> String {
        self.flames.iter().map(|(stack, micros)| format!("{stack} {micros}\n")).collect()
    }
}
