//! The pace a Jupyter server asks for: beyond its limits it drops output, so a script waits instead.
//!
//! The server counts over a sliding window, and from nothing again at every `idle`: messages, but for `status`,
//! `comm_open` and `execute_input`, and bytes of `stream` messages (`iopub_msg_rate_limit`, `iopub_data_rate_limit` and
//! `rate_limit_window` of jupyter_server). It counts when it reads, which may be in bursts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config;

/// The part of the server's limits that is used, in percent. Less than half, as what one window held back and what the next
/// one sends may reach a busy server together.
const SHARE: u64 = 45;

pub(super) struct Pace {
    window: Duration,
    messages: usize,
    bytes: u64,
    /// What was sent in the window, and its stream bytes.
    sent: VecDeque<(Instant, usize)>,
    sum: u64,
}

impl Pace {
    /// `None` where nobody asks for one.
    pub(super) fn new(config: &config::Pace) -> Option<Self> {
        // Jupyter tells its kernels who started them.
        let wanted = match config.when {
            config::PaceWhen::Auto => std::env::var_os("JPY_PARENT_PID").is_some(),
            config::PaceWhen::Always => true,
            config::PaceWhen::Never => false,
        };
        let window = config.window.as_secs_f64();
        let messages = window * f64::from(config.messages) * SHARE as f64 / 100.0;
        let bytes = window * config.bytes as f64 * SHARE as f64 / 100.0;
        (wanted && window > 0.0).then(|| Pace {
            window: config.window,
            // Fewer than one would never be sent.
            messages: (messages as usize).max(1),
            bytes: (bytes as u64).max(1),
            sent: VecDeque::new(),
            sum: 0,
        })
    }

    /// A message is sent; `bytes` counts for those of streams.
    pub(super) fn count(&mut self, bytes: usize) {
        self.sent.push_back((Instant::now(), bytes));
        self.sum += bytes as u64;
    }

    /// `idle` is sent: the server forgets what it counted.
    pub(super) fn rest(&mut self) {
        self.sent.clear();
        self.sum = 0;
    }

    /// When the next message may be sent; `None` for now.
    pub(super) fn due(&mut self) -> Option<Instant> {
        let now = Instant::now;
        loop {
            if self.sum < self.bytes && self.sent.len() < self.messages {
                return None;
            }
            let &(at, bytes) = self.sent.front()?;
            let due = at + self.window;
            if due > now() {
                return Some(due);
            }
            self.sent.pop_front();
            self.sum -= bytes as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(messages: u32, bytes: u64, window: Duration) -> Pace {
        Pace::new(&config::Pace { when: config::PaceWhen::Always, messages, bytes, window }).unwrap()
    }

    #[test]
    fn what_is_over_a_limit_waits_for_the_window_and_idle_ends_the_wait() {
        let mut by_bytes = pace(1_000_000, 100, Duration::from_secs(100));
        by_bytes.count(4_499);
        assert!(by_bytes.due().is_none());
        by_bytes.count(1);
        assert!(by_bytes.due().is_some_and(|due| due > Instant::now() + Duration::from_secs(50)));
        by_bytes.rest();
        assert!(by_bytes.due().is_none());
        let mut by_messages = pace(1, 1_000_000, Duration::from_secs(100));
        (0..44).for_each(|_| by_messages.count(0));
        assert!(by_messages.due().is_none());
        by_messages.count(0);
        assert!(by_messages.due().is_some());
    }

    #[test]
    fn what_is_older_than_the_window_counts_no_more() {
        let mut pace = pace(1, 1, Duration::from_nanos(1));
        pace.count(1_000_000);
        while pace.due().is_some() {}
        assert!(pace.sent.is_empty() && pace.sum == 0);
    }

    #[test]
    fn it_is_not_asked_for_outside_jupyter() {
        assert!(Pace::new(&config::Pace { when: config::PaceWhen::Never, ..Default::default() }).is_none());
    }
}
