//! What tokens cost. `models.prices` goes before this table; both name a model or the beginning of its name.

use super::services::Service;
use super::{Reply, Usage};
use crate::config::Config;

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Price {
    pub(super) input: f64,
    pub(super) output: f64,
    cached: f64,
    cache_write: f64,
}

/// Service, beginning of the model's name, and what its pages said in 2025: read, written, read from and written to the cache.
const PRICES: &[(&str, &str, [f64; 4])] = &[
    ("openai", "gpt-5-nano", [0.05, 0.4, 0.005, 0.05]),
    ("openai", "gpt-5-mini", [0.25, 2.0, 0.025, 0.25]),
    ("openai", "gpt-5", [1.25, 10.0, 0.125, 1.25]),
    ("openai", "gpt-4.1-nano", [0.1, 0.4, 0.025, 0.1]),
    ("openai", "gpt-4.1-mini", [0.4, 1.6, 0.1, 0.4]),
    ("openai", "gpt-4.1", [2.0, 8.0, 0.5, 2.0]),
    ("openai", "gpt-4o-mini", [0.15, 0.6, 0.075, 0.15]),
    ("openai", "gpt-4o", [2.5, 10.0, 1.25, 2.5]),
    ("openai", "o4-mini", [1.1, 4.4, 0.275, 1.1]),
    ("openai", "o3", [2.0, 8.0, 0.5, 2.0]),
    ("anthropic", "claude-opus-4-5", [5.0, 25.0, 0.5, 6.25]),
    ("anthropic", "claude-opus-4", [15.0, 75.0, 1.5, 18.75]),
    ("anthropic", "claude-sonnet-4", [3.0, 15.0, 0.3, 3.75]),
    ("anthropic", "claude-haiku-4-5", [1.0, 5.0, 0.1, 1.25]),
    ("gemini", "gemini-2.5-pro", [1.25, 10.0, 0.31, 1.25]),
    ("gemini", "gemini-2.5-flash-lite", [0.1, 0.4, 0.025, 0.1]),
    ("gemini", "gemini-2.5-flash", [0.3, 2.5, 0.075, 0.3]),
];

/// The price of `model` at `service`; none when nobody knows it.
pub(super) fn of(service: &Service, model: &str, config: &Config) -> Option<Price> {
    let name = format!("{}/{model}", service.name);
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => name == pattern,
    };
    let own = config.models.prices.iter().filter(|(pattern, _)| fits(pattern)).max_by_key(|(pattern, _)| pattern.len());
    if let Some((_, prices)) = own {
        let at = |index: usize| prices.get(index).copied();
        let input = at(0).unwrap_or(0.0);
        let output = at(1).unwrap_or(input);
        return Some(Price { input, output, cached: at(2).unwrap_or(input), cache_write: at(3).unwrap_or(input) });
    }
    if service.is_free() {
        return Some(Price { input: 0.0, output: 0.0, cached: 0.0, cache_write: 0.0 });
    }
    let sold_by = service.row.name.strip_suffix("_responses").unwrap_or(service.row.name);
    let rows = PRICES.iter().filter(|(by, begin, _)| *by == sold_by && service.is_at_home() && begins(model, begin));
    let (_, _, [input, output, cached, cache_write]) = *rows.max_by_key(|(_, begin, _)| begin.len())?;
    Some(Price { input, output, cached, cache_write })
}

/// Whether `model` is `begin`, or that with a date or an edition behind it: `gpt-4o` is not `gpt-4o-mini`.
fn begins(model: &str, begin: &str) -> bool {
    model.strip_prefix(begin).is_some_and(|rest| {
        let date = rest.trim_start_matches(['-', '@']);
        rest.is_empty()
            || date.len() < rest.len() && (date.starts_with(|c: char| c.is_ascii_digit()) || date == "latest")
    })
}

impl Price {
    /// What `usage` costs, in US dollars.
    pub(super) fn cost(&self, usage: &Usage) -> f64 {
        let plain = usage.input_tokens.saturating_sub(usage.cached_tokens + usage.cache_write_tokens);
        let all = [
            (plain, self.input),
            (usage.cached_tokens, self.cached),
            (usage.cache_write_tokens, self.cache_write),
            (usage.output_tokens, self.output),
        ];
        all.iter().map(|(tokens, price)| *tokens as f64 * price).sum::<f64>() / 1e6
    }
}

/// Puts its cost into `reply`, unless its service did.
pub(super) fn tell(reply: &mut Reply, price: Option<Price>) {
    if reply.cost.is_none() {
        reply.cost = price.map(|price| price.cost(&reply.usage));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_counts_and_the_user_s_first() {
        let mut config = Config::default();
        let price = |model: &str, config: &Config| of(&Service::of("openai", config).unwrap(), model, config);
        let input = |model: &str, config: &Config| price(model, config).map(|price| price.input);
        assert_eq!(input("gpt-4o-mini-2024-07-18", &config), Some(0.15));
        assert_eq!(input("gpt-4o", &config), Some(2.5));
        assert_eq!(input("gpt-4o-audio", &config), None);
        assert_eq!(input("unheard-of", &config), None);
        config.models.prices =
            [("openai/*".into(), vec![9.0, 9.0]), ("openai/gpt-4o".into(), vec![1.0, 2.0, 0.5])].into();
        assert_eq!(input("unheard-of", &config), Some(9.0));
        let usage =
            Usage { input_tokens: 1_000_000, output_tokens: 500_000, cached_tokens: 400_000, ..Usage::default() };
        assert_eq!(price("gpt-4o", &config).map(|price| price.cost(&usage)), Some(0.6 + 0.2 + 1.0));
        let local = Service::of("ollama", &config).unwrap();
        assert_eq!(of(&local, "llama3.2", &config).map(|price| price.cost(&usage)), Some(0.0));
    }
}
