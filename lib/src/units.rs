//! The one grammar of durations (`30s`, `1h30m`, `500ms`; a plain number is seconds) and sizes (`10MB`, `512KiB`; a
//! plain number is bytes),
//! for flags, configuration and parameters alike. What is shown can be read back.

use std::time::Duration;

use crate::error::{Class, Error, Result};

/// Reads a duration: numbers with units (`ns us ms s m h d` and what humantime(1) knows besides), or a plain number of
/// seconds.
///
/// # Errors
/// `Usage` when `text` is none.
pub fn duration(text: &str) -> Result<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text.trim()).map_err(|error| {
        Error::new(Class::Usage, format!("{text:?} is not a duration"))
            .hint("Write a number and a unit, such as 500ms, 30s or 2h; 0 for none.")
            .source(error)
    })
}

/// Units of time from the largest, in nanoseconds.
const TIMES: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Writes a duration so that [`duration`] reads the same back: `1h30m`, `0s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, nanos) in TIMES {
        if rest >= nanos {
            text += &format!("{}{unit}", rest / nanos);
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Units of size in bytes: powers of 1000 and, with an `i`, of 1024.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a size in bytes: a whole number and `B KB MB GB TB` (powers of 1000) or `KiB MiB GiB TiB` (powers of 1024),
/// upper or lower case.
///
/// # Errors
/// `Usage` when `text` is none, or more than 64 bits hold.
pub fn size(text: &str) -> Result<u64> {
    let word = text.trim();
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = (&word[..digits], word[digits..].trim_start());
    let scale = match unit {
        "" => Some(1),
        unit => SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, scale)| *scale),
    };
    let bytes = scale.and_then(|scale| number.parse::<u64>().ok()?.checked_mul(scale));
    bytes.ok_or_else(|| {
        Error::new(Class::Usage, format!("{text:?} is not a size"))
            .hint("Write a whole number and a unit, such as 10MB or 512KiB; a plain number is bytes.")
    })
}

/// Writes a size so that [`size`] reads the same back, in the unit that makes it shortest: `10MB`, `64KiB`, `4097`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    SIZES
        .iter()
        .filter(|(unit, scale)| *unit != "B" && bytes != 0 && bytes.is_multiple_of(*scale))
        .map(|(unit, scale)| format!("{}{unit}", bytes / scale))
        .chain([bytes.to_string()])
        .min_by_key(String::len)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show_the_same() {
        let known = [
            ("0", Duration::ZERO, "0s"),
            ("90", Duration::from_secs(90), "1m30s"),
            ("30s", Duration::from_secs(30), "30s"),
            (" 2h ", Duration::from_secs(7200), "2h"),
            ("500ms", Duration::from_millis(500), "500ms"),
            ("1h 30m", Duration::from_secs(5400), "1h30m"),
            ("40d", Duration::from_secs(40 * 86_400), "40d"),
        ];
        for (text, expected, shown) in known {
            assert_eq!(duration(text).unwrap(), expected, "{text}");
            assert_eq!(show_duration(expected), shown);
            assert_eq!(duration(shown).unwrap(), expected, "{shown}");
        }
        assert_eq!(duration(&show_duration(Duration::MAX)).unwrap(), Duration::MAX);
        for bad in ["", "5x", "-1", "1.", "s"] {
            let error = duration(bad).unwrap_err();
            assert_eq!((error.class(), error.text()), (Class::Usage, &*format!("{bad:?} is not a duration")));
        }
    }

    #[test]
    fn sizes_read_and_show_the_same() {
        let known = [
            ("0", 0, "0"),
            ("4097", 4097, "4097"),
            ("10MB", 10_000_000, "10MB"),
            ("512KiB", 524_288, "512KiB"),
            ("1 gib", 1 << 30, "1GiB"),
            ("7b", 7, "7"),
        ];
        for (text, bytes, shown) in known {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
            assert_eq!(show_size(bytes), shown);
            assert_eq!(size(shown).unwrap(), bytes, "{shown}");
        }
        assert_eq!(size(&show_size(u64::MAX)).unwrap(), u64::MAX);
        for bad in ["", "MB", "10M", "-1", "1.5GB", "99999999TB", "10 MB MB"] {
            let error = size(bad).unwrap_err();
            assert_eq!((error.class(), error.text()), (Class::Usage, &*format!("{bad:?} is not a size")));
        }
    }
}
