//! What the control thread looks after by itself: whether the kernel lives and is used, and what the service manager
//! sees of it. It wakes for nothing but that: an idle kernel without a watchdog sleeps.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::outbox::Outbox;
use crate::daemon::Notify;
use crate::engine::Interrupter;

/// The status line is not said more often.
const STATUS_PACE: Duration = Duration::from_secs(1);
/// How often old logs are looked at, as nobody may write one for days.
const TIDY: Duration = Duration::from_secs(3600);

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Nobody uses the kernel.
    Unused,
    /// Old logs may have come of age.
    Tidy,
}

pub(super) struct Keeper {
    pub(super) notify: Notify,
    counters: Arc<Counters>,
    outbox: Arc<Outbox>,
    interrupter: Interrupter,
    /// When the watchdog is to be told next.
    watch: Option<Instant>,
    /// The io thread's beats when it was last asked for one.
    beats: u64,
    /// Requests waited although no script ran.
    unserved: bool,
    /// Whether it was logged that there is no life.
    told_dead: bool,
    /// When the status line is due.
    status: Option<Instant>,
    said: String,
    /// When to look whether somebody uses the kernel.
    unused: Option<Instant>,
    tidy: Instant,
}

impl Keeper {
    pub(super) fn new(counters: Arc<Counters>, outbox: Arc<Outbox>, interrupter: Interrupter) -> Self {
        let notify = Notify::from_env();
        counters.watched.store(notify.is_heard(), Relaxed);
        let mut keeper = Keeper {
            watch: notify.watchdog().map(|_| Instant::now()),
            notify,
            counters,
            outbox,
            interrupter,
            beats: u64::MAX,
            unserved: false,
            told_dead: false,
            status: None,
            said: String::new(),
            unused: None,
            tidy: Instant::now() + TIDY,
        };
        keeper.said = keeper.state();
        keeper
    }

    /// Clients can connect.
    pub(super) fn ready(&self) {
        self.notify.ready(&self.said);
    }

    /// Something happened that the status line may tell.
    pub(super) fn changed(&mut self) {
        self.status.get_or_insert_with(|| Instant::now() + STATUS_PACE);
    }

    /// When to call [`Keeper::look`] at the latest; `idle_timeout` of zero: however long it is unused.
    pub(super) fn due(&mut self, idle_timeout: Duration) -> Instant {
        match idle_timeout.is_zero() {
            true => self.unused = None,
            false => {
                self.unused.get_or_insert_with(|| self.counters.last_use() + idle_timeout);
            }
        }
        [self.watch, self.status, self.unused].into_iter().flatten().fold(self.tidy, Instant::min)
    }

    /// Does what is due.
    pub(super) fn look(&mut self, idle_timeout: Duration) -> Option<Duty> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.watch)
            && let Some(patience) = self.notify.watchdog()
        {
            self.watch = Some(now + patience / 2);
            self.sign_of_life(patience);
        }
        if is_due(self.status) {
            self.status = None;
            self.counters.changed.store(false, Relaxed);
            let state = self.state();
            if state != self.said {
                self.notify.say(&format!("STATUS={state}"));
                self.said = state;
            }
        }
        if is_due(self.unused) {
            let since = self.counters.last_use() + idle_timeout;
            if self.counters.is_used() {
                // It does not end the moment its last work does.
                self.unused = Some(now + idle_timeout.min(Duration::from_secs(60)).max(Duration::from_millis(20)));
            } else if since <= now {
                self.unused = None;
                return Some(Duty::Unused);
            } else {
                self.unused = Some(since);
            }
        }
        if self.tidy <= now {
            self.tidy = now + TIDY;
            return Some(Duty::Tidy);
        }
        None
    }

    /// Tells the watchdog that the kernel lives, if it does: this thread is here, the io thread came round since it was
    /// last asked to, no request waits for a script thread that does nothing, and a script that was told to stop has not
    /// ignored it for the watchdog's whole patience. A script that merely runs, however long, is alive.
    fn sign_of_life(&mut self, patience: Duration) {
        let beats = self.counters.beats.load(Relaxed);
        let io_lives = beats != self.beats;
        self.beats = beats;
        self.outbox.nudge();
        let unserved = self.counters.is_unserved();
        let script_lives = !(unserved && std::mem::replace(&mut self.unserved, unserved));
        self.unserved = unserved;
        let follows = self.interrupter.0.pending_since().is_none_or(|since| since.elapsed() < patience);
        let problem = match (io_lives, script_lives, follows) {
            (false, ..) => "the io thread does not come round",
            (_, false, _) => "the script thread does not take requests",
            (.., false) => "the script does not follow an interrupt",
            _ => {
                self.told_dead = false;
                return self.notify.say("WATCHDOG=1");
            }
        };
        if !std::mem::replace(&mut self.told_dead, true) {
            log::error!("no sign of life to the watchdog: {problem}");
        }
    }

    /// One line for people.
    fn state(&self) -> String {
        let counters = &self.counters;
        let plural = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let doing = match (counters.stopping.load(Relaxed), counters.busy()) {
            (true, _) => "stopping",
            (_, true) => "running a script",
            _ => "idle",
        };
        format!(
            "{doing}; {}, {}, {}",
            plural(counters.clients.load(Relaxed) as u64, "client"),
            plural(counters.execution_count.load(Relaxed), "execution"),
            plural(counters.tools_done.load(Relaxed) + counters.tools_failed.load(Relaxed), "tool call"),
        )
    }
}
