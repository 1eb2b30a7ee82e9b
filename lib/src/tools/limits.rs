//! What `[tools]` limits for every tool: which may be called, how often, and how large a result may be.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value};

use super::ToolSpec;
use crate::config::Tools;
use crate::error::{Class, Error, Result};

/// Whether the configuration lets `spec` be called at all.
///
/// # Errors
/// `Denied`.
pub(super) fn permitted(spec: &ToolSpec, settings: &Tools) -> Result<()> {
    let is = |entry: &&String| {
        let entry = entry.trim().replace('-', "_");
        entry == spec.name || entry.strip_prefix("category:") == Some(spec.category)
    };
    match settings.deny.iter().find(is) {
        Some(entry) => Err(Error::new(Class::Denied, format!("forbidden by {entry:?} in tools.deny"))
            .hint("Take it out of tools.deny to allow it.")),
        None => Ok(()),
    }
}

/// Calls that may still be made now, by tool; "" is for all of them. A bucket holds a minute's calls and fills evenly.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<&'static str, (f64, Instant)>>);

impl Rates {
    /// Counts a call of `name`.
    ///
    /// # Errors
    /// `Budget` when it comes too soon.
    pub(super) fn count(&self, name: &'static str, settings: &Tools) -> Result<()> {
        let own = settings.rate_limits.get(name).copied().unwrap_or(0);
        let limits = [("", settings.rate_limit_per_minute), (name, own)];
        if limits.iter().all(|(_, limit)| *limit == 0) {
            return Ok(());
        }
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for (key, limit) in limits.iter().filter(|(_, limit)| *limit > 0) {
            let full = f64::from(*limit);
            let (left, since) = buckets.entry(key).or_insert((full, now));
            *left = (*left + now.duration_since(*since).as_secs_f64() * full / 60.0).min(full);
            *since = now;
            if *left < 1.0 {
                let wait = (1.0 - *left) * 60.0 / full;
                let key = if key.is_empty() { "tools.rate_limit_per_minute" } else { "tools.rate_limits" };
                return Err(Error::new(Class::Budget, format!("more than {limit} calls a minute"))
                    .hint(format!("Try again in {wait:.1} s, or raise {key}.")));
            }
        }
        // Only now: a call that one limit refused does not count for the other.
        for (key, _) in limits.iter().filter(|(_, limit)| *limit > 0) {
            buckets.entry(key).and_modify(|(left, _)| *left -= 1.0);
        }
        Ok(())
    }
}

/// Cuts what makes `envelope` larger than `most` bytes (0: no limit): texts and lists at their ends. What was cut is
/// marked: `metadata.truncated`, with the size it had.
pub(super) fn cut(envelope: &mut Map<String, Value>, most: u64) {
    let whole: u64 = envelope.values().map(size).sum();
    if most == 0 || whole <= most {
        return;
    }
    // The text often says the same as the result: half for each.
    let half = most / 2;
    let mut left = half;
    if let Some(text) = envelope.get_mut("text") {
        shorten(text, &mut left);
    }
    left += most - half;
    if let Some(result) = envelope.get_mut("result") {
        shorten(result, &mut left);
    }
    if let Some(Value::Object(metadata)) = envelope.get_mut("metadata") {
        metadata.insert("truncated".into(), true.into());
        metadata.insert("bytes_before".into(), whole.into());
    }
}

/// About as many bytes as `value` takes as JSON.
fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<u64>() + 2,
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() as u64 + size(value) + 4).sum::<u64>() + 2
        }
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
    }
}

/// Takes `left` bytes of `value`; names of members stay.
fn shorten(value: &mut Value, left: &mut u64) {
    match value {
        Value::String(text) => {
            let mut end = usize::try_from(*left).unwrap_or(usize::MAX).min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            *left -= end as u64;
        }
        Value::Array(items) => {
            let mut kept = 0;
            for item in items.iter_mut() {
                let needed = size(item) + 1;
                if needed > *left {
                    // The first that does not fit is cut itself, when that is worth it.
                    if kept == 0 {
                        shorten(item, left);
                        kept = 1;
                    }
                    break;
                }
                *left -= needed;
                kept += 1;
            }
            items.truncate(kept);
        }
        Value::Object(members) => members.values_mut().for_each(|member| shorten(member, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) => *left = left.saturating_sub(8),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rates_are_limited_for_one_and_for_all() {
        let mut settings = Tools { rate_limit_per_minute: 3, ..Tools::default() };
        settings.rate_limits.insert("a".into(), 1);
        let rates = Rates::default();
        assert!(rates.count("a", &settings).is_ok());
        let error = rates.count("a", &settings).unwrap_err();
        assert_eq!((error.class(), error.text()), (Class::Budget, "more than 1 calls a minute"));
        assert!(error.next_step().unwrap().contains("tools.rate_limits"), "{error:?}");
        assert!(rates.count("b", &settings).is_ok() && rates.count("b", &settings).is_ok());
        assert!(rates.count("b", &settings).unwrap_err().next_step().unwrap().contains("rate_limit_per_minute"));
        // Half a minute later.
        if let Some((_, since)) = rates.0.lock().unwrap().get_mut("") {
            *since -= std::time::Duration::from_secs(30);
        }
        assert!(rates.count("b", &settings).is_ok());
        assert!(Rates::default().count("a", &Tools::default()).is_ok());
    }

    #[test]
    fn what_is_too_large_is_cut_and_marked() {
        let limited = |mut envelope: Value, most| {
            cut(envelope.as_object_mut().unwrap(), most);
            envelope
        };
        let small = json!({"result": {"a": "b"}, "metadata": {}});
        assert_eq!(limited(small.clone(), 100), small);
        assert_eq!(limited(json!({"result": "é".repeat(100), "metadata": {}}), 0)["metadata"], json!({}));
        let got = limited(
            json!({"text": "é".repeat(100), "result": {"list": vec!["x".repeat(9); 100], "n": 1}, "metadata": {}}),
            101,
        );
        assert_eq!(got["text"], "é".repeat(25));
        assert_eq!(got["result"], json!({"list": vec!["x".repeat(9); 4], "n": 1}));
        assert_eq!(got["metadata"]["truncated"], true);
        assert!(got["metadata"]["bytes_before"].as_u64().unwrap() > 1000);
        let got = limited(json!({"result": [["y".repeat(50)]], "metadata": {}}), 10);
        assert_eq!(got["result"], json!([["y".repeat(10)]]));
    }

    #[test]
    fn tools_are_denied_by_name_and_category() {
        let spec = &crate::tools::hash_calculator::SPEC;
        let with = |entry: &str| permitted(spec, &Tools { deny: vec![entry.into()], ..Tools::default() });
        assert!(with("calculator").is_ok());
        assert_eq!(with("hash-calculator").unwrap_err().class(), Class::Denied);
        assert!(with(&format!("category:{}", spec.category)).is_err());
    }
}
