//! What a kernel counts about itself, for `status_reply` and for its own decisions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::outbox::Parent;
use crate::protocol::wire::Drop;

/// A stop that a script did not follow for this long makes it `stuck`.
pub(super) const STUCK_AFTER: Duration = Duration::from_millis(500);
/// A kind of fault is logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Faults that are counted besides [`Drop`]'s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A message with a type nobody knows.
    UnknownType,
    /// A content that is not of its shape.
    Content,
    /// A message that a subscriber of iopub lost because it stopped reading.
    SlowSubscriber,
}

impl Fault {
    const ALL: [(Fault, &str); 3] =
        [(Fault::UnknownType, "unknown_type"), (Fault::Content, "content"), (Fault::SlowSubscriber, "slow_subscriber")];
}

pub(super) struct Counters {
    started: Instant,
    /// Connections of iopub: one for each client that follows the kernel.
    pub(super) clients: AtomicUsize,
    pub(super) execution_count: AtomicU64,
    /// Scripts that were executed, remembered or not.
    pub(super) executions: AtomicU64,
    /// Requests for the script thread that wait, by number, with the type of their reply. Who takes one out answers it.
    waiting: Mutex<BTreeMap<u64, (Parent, &'static str)>>,
    numbers: AtomicU64,
    /// `msg_id` of the request the script thread serves.
    running: Mutex<Option<String>>,
    /// Whether the kernel takes no more work.
    pub(super) stopping: AtomicBool,
    pub(super) tools_running: AtomicI64,
    pub(super) tools_done: AtomicU64,
    pub(super) tools_failed: AtomicU64,
    faults: Mutex<BTreeMap<&'static str, Counted>>,
    /// How often the io thread came round.
    pub(super) beats: AtomicU64,
    /// Whether a service manager wants to know of changes.
    pub(super) watched: AtomicBool,
    /// Whether the control thread was told of a change it has not looked at.
    pub(super) changed: AtomicBool,
    /// Milliseconds from the start to the last use.
    used: AtomicU64,
}

#[derive(Default)]
struct Counted {
    count: u64,
    logged: Option<Instant>,
}

impl Counters {
    pub(super) fn new() -> Self {
        let names = Drop::ALL.iter().map(|drop| drop.name()).chain(Fault::ALL.iter().map(|(_, name)| *name));
        Counters {
            started: Instant::now(),
            clients: AtomicUsize::new(0),
            execution_count: AtomicU64::new(0),
            executions: AtomicU64::new(0),
            waiting: Mutex::default(),
            numbers: AtomicU64::new(0),
            running: Mutex::default(),
            stopping: AtomicBool::new(false),
            tools_running: AtomicI64::new(0),
            tools_done: AtomicU64::new(0),
            tools_failed: AtomicU64::new(0),
            faults: Mutex::new(names.map(|name| (name, Counted::default())).collect()),
            beats: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            used: AtomicU64::new(0),
        }
    }

    pub(super) fn dropped(&self, drop: Drop, channel: &str) {
        self.count(drop.name(), || format!("{channel}: message dropped: {drop}"));
    }

    pub(super) fn fault(&self, fault: Fault, text: impl FnOnce() -> String) {
        let name = Fault::ALL.iter().find(|(row, _)| *row == fault).map_or("", |(_, name)| name);
        self.count(name, text);
    }

    /// Counts, and logs the first of its kind in every interval.
    fn count(&self, name: &'static str, text: impl FnOnce() -> String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = faults.entry(name).or_default();
        counted.count += 1;
        if counted.logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            counted.logged = Some(Instant::now());
            log::warn!("{} ({} so far)", text(), counted.count);
        }
    }

    /// Somebody uses the kernel, or did until now.
    pub(super) fn touch(&self) {
        self.used.store(self.started.elapsed().as_millis() as u64, Relaxed);
    }

    /// When somebody last used the kernel.
    pub(super) fn last_use(&self) -> Instant {
        self.started + Duration::from_millis(self.used.load(Relaxed))
    }

    /// Whether a client is connected, or something runs or waits.
    pub(super) fn is_used(&self) -> bool {
        self.clients.load(Relaxed) > 0
            || self.busy()
            || self.tools_running.load(Relaxed) > 0
            || !self.waiting().is_empty()
    }

    /// Whether requests wait although no script runs.
    pub(super) fn is_unserved(&self) -> bool {
        !self.waiting().is_empty() && !self.busy()
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, (Parent, &'static str)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request for the script thread begins to wait; its number.
    pub(super) fn wait(&self, parent: Parent, reply_type: &'static str) -> u64 {
        let number = self.numbers.fetch_add(1, Relaxed);
        self.waiting().insert(number, (parent, reply_type));
        number
    }

    /// Its wait is over; `None` when it was answered meanwhile.
    pub(super) fn begin(&self, number: u64) -> Option<Parent> {
        self.waiting().remove(&number).map(|(parent, _)| parent)
    }

    /// Takes the request with this id out of those that wait.
    pub(super) fn cancel(&self, msg_id: &str) -> Option<(Parent, &'static str)> {
        let mut waiting = self.waiting();
        let number = waiting.iter().find(|(_, (parent, _))| parent.msg_id == msg_id).map(|(number, _)| *number)?;
        waiting.remove(&number)
    }

    pub(super) fn set_running(&self, msg_id: Option<String>) {
        self.touch();
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = msg_id;
    }

    pub(super) fn is_running(&self, msg_id: &str) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(msg_id)
    }

    pub(super) fn busy(&self) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The content of a `status_reply`; `stuck`: since when the script ignores a stop.
    pub(super) fn status(&self, id: &str, stuck: Option<Instant>) -> Value {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let errors: BTreeMap<_, _> = faults.iter().map(|(name, counted)| (*name, counted.count)).collect();
        let running = self.tools_running.load(Relaxed);
        json!({
            "status": "ok",
            "pid": std::process::id(),
            "id": id,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs_f64(),
            "rss_bytes": crate::runtime::memory().map(|memory| memory.resident),
            "cpu_s": cpu_seconds(),
            "clients": self.clients.load(Relaxed),
            "busy": self.busy(),
            "stuck": stuck.is_some_and(|since| since.elapsed() >= STUCK_AFTER),
            "stopping": self.stopping.load(Relaxed),
            "executions": self.executions.load(Relaxed),
            "execution_count": self.execution_count.load(Relaxed),
            "queue": self.waiting().len(),
            "tools": {
                "running": running.max(0),
                "done": self.tools_done.load(Relaxed),
                "failed": self.tools_failed.load(Relaxed),
            },
            "log": {"lost": crate::log::lost()},
            "errors": errors,
        })
    }
}

/// CPU time of this process, all threads, seconds.
pub(super) fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
