//! When a kernel that ended is started again: at once the first time, later and later if it keeps ending, rarely but
//! for ever once it clearly loops. Chance spreads the attempts of many that fell together.

use std::time::Duration;

/// The rule, the same for all kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The longest wait before the second attempt; doubled for each further one.
    pub first: Duration,
    /// No wait is longer.
    pub most: Duration,
    /// A run of this length makes the past forgotten.
    pub stable: Duration,
    /// So many ends in a row are a loop.
    pub loops: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
            stable: Duration::from_secs(60),
            loops: 6,
        }
    }
}

impl Backoff {
    /// Ends in a row, this one included, after a run of `ran` that `before` others preceded.
    #[must_use]
    pub fn count(&self, before: u32, ran: Duration) -> u32 {
        if ran >= self.stable { 1 } else { before.saturating_add(1) }
    }

    /// Whether so many ends in a row are a loop.
    #[must_use]
    pub fn is_loop(&self, failures: u32) -> bool {
        failures >= self.loops
    }

    /// How long to wait after `failures` ends in a row. `chance` is anywhere from 0 to 1.
    #[must_use]
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        match failures {
            0 | 1 => Duration::ZERO,
            // Half of it is certain, so that a loop costs next to nothing.
            _ if self.is_loop(failures) => self.most.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0),
            _ => {
                let longest = self.first.saturating_mul(1 << (failures - 2).min(20)).min(self.most);
                longest.mul_f64(chance.clamp(0.0, 1.0))
            }
        }
    }
}

/// Anywhere from 0 to 1.
pub(super) fn chance() -> f64 {
    (uuid::Uuid::new_v4().as_u128() >> 96) as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_exact() {
        let rule = Backoff::default();
        let waits = |chance| (1..=8).map(|failures| rule.wait(failures, chance).as_millis()).collect::<Vec<_>>();
        assert_eq!(waits(1.0), [0, 1000, 2000, 4000, 8000, 60_000, 60_000, 60_000]);
        assert_eq!(waits(0.5), [0, 500, 1000, 2000, 4000, 45_000, 45_000, 45_000]);
        assert_eq!(waits(0.0), [0, 0, 0, 0, 0, 30_000, 30_000, 30_000]);
        let patient = Backoff { loops: u32::MAX, ..rule };
        assert_eq!(patient.wait(100, 1.0), rule.most);
        assert!((0..100).all(|_| (0.0..=1.0).contains(&chance())));
    }

    #[test]
    fn a_stable_run_makes_the_past_forgotten() {
        let rule = Backoff::default();
        assert_eq!([rule.count(0, Duration::ZERO), rule.count(4, Duration::from_secs(59))], [1, 5]);
        assert_eq!(rule.count(40, rule.stable), 1);
        assert!(!rule.is_loop(5) && rule.is_loop(6) && rule.is_loop(u32::MAX));
    }
}
