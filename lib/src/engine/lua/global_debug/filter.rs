//! Which modules' lines are shown: rules, of which the newest that fits decides.

use regex::{Regex, RegexBuilder};
use serde_json::{Value as Json, json};

/// More rules are not taken.
const MOST: usize = 1000;

/// How the pattern of a rule is read.
enum Kind {
    Exact,
    /// `*` stands for anything.
    Wildcard(Regex),
    Regex(Regex),
    /// A module and all below it: `a` is also `a.b` and `a::b`.
    Hierarchical,
}

struct Rule {
    pattern: String,
    kind: Kind,
    enabled: bool,
}

impl Rule {
    fn fits(&self, module: &str) -> bool {
        match &self.kind {
            Kind::Exact => self.pattern == module,
            Kind::Wildcard(regex) | Kind::Regex(regex) => regex.is_match(module),
            Kind::Hierarchical => module
                .strip_prefix(&self.pattern)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ':', '/'])),
        }
    }
}

/// All rules.
pub(super) struct Filters {
    /// What holds where none fits.
    pub(super) by_default: bool,
    rules: Vec<Rule>,
}

impl Default for Filters {
    fn default() -> Self {
        Filters { by_default: true, rules: Vec::new() }
    }
}

fn regex(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(1 << 20).build().ok()
}

impl Filters {
    /// Whether lines of `module` are shown; those of none always are.
    pub(super) fn show(&self, module: Option<&str>) -> bool {
        let Some(module) = module else { return true };
        self.rules.iter().rev().find(|rule| rule.fits(module)).map_or(self.by_default, |rule| rule.enabled)
    }

    /// Adds a rule; false where pattern or kind cannot be read, or there are too many.
    pub(super) fn add(&mut self, pattern: &str, kind: &str, enabled: bool) -> bool {
        let kind = match kind {
            "exact" => Some(Kind::Exact),
            "wildcard" => {
                let parts: Vec<_> = pattern.split('*').map(regex::escape).collect();
                regex(&format!("^(?s:{})$", parts.join(".*"))).map(Kind::Wildcard)
            }
            "regex" => regex(pattern).map(Kind::Regex),
            "hierarchical" => Some(Kind::Hierarchical),
            _ => None,
        };
        match kind {
            Some(kind) if self.rules.len() < MOST => {
                self.rules.retain(|rule| rule.pattern != pattern);
                self.rules.push(Rule { pattern: pattern.to_owned(), kind, enabled });
                true
            }
            _ => false,
        }
    }

    /// Takes the rules with this pattern away; whether there were some.
    pub(super) fn remove(&mut self, pattern: &str) -> bool {
        let before = self.rules.len();
        self.rules.retain(|rule| rule.pattern != pattern);
        self.rules.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn summary(&self) -> Json {
        let rule = |rule: &Rule| {
            let kind = match rule.kind {
                Kind::Exact => "exact",
                Kind::Wildcard(_) => "wildcard",
                Kind::Regex(_) => "regex",
                Kind::Hierarchical => "hierarchical",
            };
            json!({ "pattern": rule.pattern, "pattern_type": kind, "enabled": rule.enabled })
        };
        let rules: Vec<_> = self.rules.iter().map(rule).collect();
        json!({ "default_enabled": self.by_default, "total_rules": rules.len(), "rules": rules })
    }
}
