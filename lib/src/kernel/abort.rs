//! After an error: which of a client's requests it had sent before it could know.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::outbox::Parent;
use crate::protocol::wire::Header;

/// Requests that were sent before an error may still arrive for this long.
const WINDOW: Duration = Duration::from_millis(100);
/// A request that seems to have been longer on its way came from a clock that is not ours.
const WAY: Duration = Duration::from_millis(250);
/// An error this soon after its request may overtake what the client sends in the same go.
const RUSH: Duration = Duration::from_millis(50);
/// So it waits until nothing came for this long.
const QUIET: Duration = Duration::from_millis(5);

/// How long the error of `failed` is to wait for the next request.
pub(super) fn patience(failed: &Parent) -> Duration {
    RUSH.saturating_sub(failed.arrived.elapsed()).min(QUIET)
}

/// An error that aborts what its client had already sent.
pub(super) struct Abort {
    session: String,
    /// When the error was about to be told.
    at: Instant,
    /// What the client's clock said when it sent the request that failed.
    sent: Option<Date>,
    /// From then until the error.
    after: Duration,
    /// From here on nothing arrives any more that was sent before.
    until: Instant,
}

impl Abort {
    /// The request of `failed` is about to be answered with an error.
    pub(super) fn new(failed: &Parent) -> Self {
        let (at, sent) = (Instant::now(), Date::of(failed));
        let served = at - failed.arrived;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let way = sent.as_ref().and_then(|sent| now.checked_sub(served)?.checked_sub(sent.since_1970));
        let way = way.filter(|way| *way < WAY).unwrap_or_default();
        Abort { session: failed.session.clone(), at, sent, after: way + served, until: at + WINDOW }
    }

    /// Whether `request` was sent before the error was told. Of the dates in headers only the time between two counts, so that
    /// it does not matter much what clock and zone the client has, nor whether it has any.
    pub(super) fn covers(&self, request: &Parent) -> bool {
        if request.session != self.session {
            return false;
        }
        if request.arrived <= self.at {
            return true;
        }
        let between = || {
            let (first, second) = (self.sent.as_ref()?, Date::of(request)?);
            // A date that was cut may be that much later.
            Some(second.since_1970.checked_sub(first.since_1970)? + second.precision)
        };
        request.arrived < self.until && between().is_some_and(|between| between < self.after)
    }

    /// One was aborted: a long queue is aborted to its end.
    pub(super) fn aborted(&mut self) {
        self.until = Instant::now() + WINDOW;
    }
}

/// The date of a header.
#[derive(Debug, PartialEq)]
struct Date {
    since_1970: Duration,
    /// What its last digit stands for.
    precision: Duration,
}

impl Date {
    fn of(request: &Parent) -> Option<Self> {
        Self::read(&serde_json::from_str::<Header>(&request.header).ok()?.date)
    }

    /// ISO 8601 with any offset; without one as if it were UTC.
    fn read(text: &str) -> Option<Self> {
        let (local, offset) = match text.as_bytes() {
            [.., b'Z'] => (text.get(..text.len() - 1)?, 0),
            [.., sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let (local, offset) = text.split_at_checked(text.len() - 6)?;
                let minutes = offset.get(1..3)?.parse::<i64>().ok()? * 60 + offset.get(4..)?.parse::<i64>().ok()?;
                (local, if *sign == b'-' { -minutes } else { minutes })
            }
            _ => (text, 0),
        };
        let date = humantime::parse_rfc3339_weak(local).ok()?;
        let date = date.duration_since(UNIX_EPOCH).ok()?;
        let seconds = i64::try_from(date.as_secs()).ok()?.checked_sub(offset * 60)?;
        let digits = local.rsplit_once('.').map_or(0, |(_, digits)| digits.len());
        Some(Date {
            since_1970: Duration::new(seconds.try_into().ok()?, date.subsec_nanos()),
            precision: Duration::from_nanos(10_u64.pow(9 - digits.min(9) as u32)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_clients_write_them() {
        let nanos = |text: &str| Date::read(text).map(|date| (date.since_1970.as_nanos(), date.precision.as_nanos()));
        let zulu = 1_000_000_000_123_456_000;
        assert_eq!(nanos("2001-09-09T01:46:40.123456Z"), Some((zulu, 1_000)));
        assert_eq!(nanos("2001-09-09T01:46:40.123456+00:00"), Some((zulu, 1_000)));
        assert_eq!(nanos("2001-09-09T07:16:40.123456+05:30"), Some((zulu, 1_000)));
        assert_eq!(nanos("2001-09-08 17:46:40.123456-08:00"), Some((zulu, 1_000)));
        assert_eq!(nanos("2001-09-09T01:46:40.123456"), Some((zulu, 1_000)));
        assert_eq!(nanos("2001-09-09T01:46:40.123Z"), Some((1_000_000_000_123_000_000, 1_000_000)));
        assert_eq!(nanos("2001-09-09T01:46:40"), Some((1_000_000_000_000_000_000, 1_000_000_000)));
        for none in
            ["", "Z", "yesterday", "2001-09-09", "2001-09-09T01:46:40+xx:yy", "1970-01-01T00:00:00+01:00", "é+00:00"]
        {
            assert_eq!(Date::read(none), None, "{none}");
        }
    }
}
