//! `data_validation`: checks data against rules and tells everything that is wrong with it, and where.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::fmt::strtime;
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::validate::type_of;
use super::{Answer, Call, Level, Spelling, ToolSpec, example};
use crate::error::{Class, Error, Result};

/// The data validator.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "data_validation",
    aliases: &["validate_data", "data_validator"],
    category: "utility",
    summary: "check data against rules: types, lengths, ranges, patterns, email, URL, date, nested objects",
    level: Level::Safe,
    effects: &[],
    spellings: &[Spelling::Param("data", "input")],
    examples: &[
        example(
            "a text that is too short",
            r#"{"input": "abc", "rules": {"rules": [{"type": "length", "min": 5}]}}"#,
            r#"{"valid": false, "errors": [{"field": "input", "value": "abc", "rule": "length", "message": "length 3 is below 5"}]}"#,
        ),
        example(
            "an object",
            r#"{"input": {"name": "Ann", "email": "ann@example.com"}, "rules": [{"type": "object", "properties": {"email": {"rules": [{"type": "email"}]}}, "required": ["name", "email"]}]}"#,
            r#"{"valid": true, "errors": []}"#,
        ),
        example(
            "every item of an array, each fault with its place",
            r#"{"input": {"n": [1, 20, 3]}, "rules": [{"type": "object", "properties": {"n": [{"type": "array", "item_rules": [{"type": "range", "max": 9}]}]}}]}"#,
            r#"{"valid": false, "errors": [{"field": "input.n[1]", "message": "20 is above 9"}]}"#,
        ),
        example(
            "a date as it is written",
            r#"{"input": "2024-02-30", "rules": [{"type": "date", "format": "%Y-%m-%d"}]}"#,
            r#"{"valid": false}"#,
        ),
    ],
};

/// Most faults that are told.
const MAX_ERRORS: usize = 100;
/// Deepest nesting of rules.
const MAX_DEPTH: usize = 64;
/// Largest compiled pattern, bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Checks `input` against all `rules` and lists every fault (at most 100). A rule is an object with a `type`; a rule about
/// texts, numbers or arrays says nothing about other values, only `type` does.
///
/// - `required`: not null, not an empty text
/// - `type`: `expected` is null, boolean, number, integer, string, array or object
/// - `length`: `min`, `max` characters of a text or items of an array
/// - `range`: `min`, `max` of a number
/// - `pattern`: `regex` found in a text
/// - `enum`: one of `values`
/// - `email`, `url`, `date` (with `format` as strftime does, else ISO 8601)
/// - `custom`: `name` is phone, uuid, credit_card, ipv4, ipv6 or hostname
/// - `array`: `min_items`, `max_items`, `unique`, `item_rules`
/// - `object`: `properties` (name to rules), `required` names, `additional_properties` false to refuse others
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to check, any JSON; null if not given.
    #[serde(default)]
    input: Value,
    /// An array of rules, or `{"rules": […]}`.
    rules: Given,
    /// Stop at the first fault.
    #[serde(default)]
    fail_fast: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Given {
    List(Vec<Value>),
    Object(serde_json::Map<String, Value>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    List(Vec<Rule>),
    Object { rules: Vec<Rule> },
}

impl Rules {
    fn list(&self) -> &[Rule] {
        match self {
            Rules::List(rules) | Rules::Object { rules } => rules,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Rules::List(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Rule {
    Required {},
    Type {
        expected: Kind,
    },
    Length {
        min: Option<usize>,
        max: Option<usize>,
    },
    Range {
        min: Option<f64>,
        max: Option<f64>,
    },
    Pattern {
        #[serde(alias = "pattern")]
        regex: String,
    },
    Enum {
        values: Vec<Value>,
    },
    Email {},
    Url {},
    Date {
        format: Option<String>,
    },
    Custom {
        name: Custom,
    },
    Array {
        min_items: Option<usize>,
        max_items: Option<usize>,
        #[serde(default)]
        unique: bool,
        item_rules: Option<Rules>,
    },
    Object {
        #[serde(default)]
        properties: BTreeMap<String, Rules>,
        #[serde(default)]
        required: Vec<String>,
        #[serde(default = "super::yes")]
        additional_properties: bool,
    },
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Null,
    Boolean,
    Number,
    Integer,
    String,
    Array,
    Object,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Custom {
    Phone,
    Uuid,
    CreditCard,
    Ipv4,
    Ipv6,
    Hostname,
}

/// The faults found, and what stops the search for more.
struct Check<'a> {
    call: &'a Call,
    most: usize,
    errors: Vec<Value>,
}

/// Checks the data.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let given = match params.rules {
        Given::List(rules) => Value::Array(rules),
        Given::Object(mut rules) => match rules.remove("rules") {
            Some(list) if rules.is_empty() => list,
            _ => {
                return Err(Error::new(
                    Class::Usage,
                    "rules: neither an array of rules nor an object with `rules` only",
                )
                .hint(r#"Give them as [{"type": "required"}, …]."#));
            }
        },
    };
    if depth(&given) > MAX_DEPTH {
        return Err(Error::new(Class::Usage, format!("rules: nested deeper than {MAX_DEPTH}")));
    }
    let rules = rules(&given, "rules")?;
    let mut check = Check { call, most: if params.fail_fast { 1 } else { MAX_ERRORS }, errors: Vec::new() };
    check.all(&rules, &params.input, "input")?;
    let (valid, count) = (check.errors.is_empty(), check.errors.len());
    let result = json!({
        "valid": valid, "errors": check.errors, "error_count": count, "rule_count": rules.len(),
        "truncated": !params.fail_fast && count == MAX_ERRORS,
    });
    let message = if valid { "Data validation passed" } else { "Data validation failed" };
    Ok(Answer::new("validate_data", result).message(message))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Reads the rules one by one, so that a fault is told with its place.
fn rules(list: &Value, path: &str) -> Result<Vec<Rule>> {
    let list = list.as_array().ok_or_else(|| Error::new(Class::Usage, format!("{path}: not an array of rules")))?;
    let read = |(at, rule): (usize, &Value)| {
        let path = format!("{path}[{at}]");
        let kind = rule["type"].as_str().unwrap_or_default();
        match (kind, rule) {
            ("array", Value::Object(rule)) => inner(rule.get("item_rules"), &format!("{path}.item_rules"))?,
            ("object", Value::Object(rule)) => {
                for (name, rules) in rule.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    inner(Some(rules), &format!("{path}.properties.{name}"))?;
                }
            }
            _ => {}
        }
        Rule::deserialize(rule).map_err(|error| Error::new(Class::Usage, format!("{path}: {error}")))
    };
    list.iter().enumerate().map(read).collect()
}

fn inner(given: Option<&Value>, path: &str) -> Result<()> {
    match given {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(object)) if object.contains_key("rules") => rules(&object["rules"], path).map(drop),
        Some(list) => rules(list, path).map(drop),
    }
}

impl Check<'_> {
    fn all(&mut self, rules: &[Rule], value: &Value, path: &str) -> Result<()> {
        for rule in rules {
            self.call.check()?;
            if self.errors.len() >= self.most {
                return Ok(());
            }
            self.one(rule, value, path)?;
        }
        Ok(())
    }

    fn fault(&mut self, rule: &str, value: &Value, path: &str, message: String) {
        if self.errors.len() < self.most {
            let shown = match value {
                Value::Array(_) | Value::Object(_) => Value::Null,
                value => value.clone(),
            };
            self.errors.push(json!({"field": path, "value": shown, "rule": rule, "message": message}));
        }
    }

    fn one(&mut self, rule: &Rule, value: &Value, path: &str) -> Result<()> {
        let (name, message) = match (rule, value) {
            (Rule::Required {}, Value::Null) => ("required", Some("missing".into())),
            (Rule::Required {}, Value::String(text)) => ("required", text.is_empty().then(|| "empty".into())),
            (Rule::Type { expected }, value) => {
                let given = type_of(value);
                let fits = match expected {
                    Kind::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
                    Kind::Number => value.is_number(),
                    expected => json!(expected) == given,
                };
                let expected = json!(expected);
                ("type", (!fits).then(|| format!("{given}, expected {}", expected.as_str().unwrap_or_default())))
            }
            (Rule::Length { min, max }, Value::String(text)) => {
                ("length", size("length", text.chars().count(), *min, *max))
            }
            (Rule::Length { min, max }, Value::Array(items)) => ("length", size("length", items.len(), *min, *max)),
            (Rule::Range { min, max }, Value::Number(number)) => {
                let value = number.as_f64().unwrap_or(f64::NAN);
                let below = min.filter(|min| value < *min).map(|min| format!("{number} is below {min}"));
                (
                    "range",
                    below.or_else(|| max.filter(|max| value > *max).map(|max| format!("{number} is above {max}"))),
                )
            }
            (Rule::Pattern { regex }, Value::String(text)) => {
                let compiled = RegexBuilder::new(regex)
                    .size_limit(MAX_PATTERN)
                    .build()
                    .map_err(|error| super::regex_tool::fault("rules: regex", regex, &error))?;
                ("pattern", (!compiled.is_match(text)).then(|| format!("does not match {regex}")))
            }
            (Rule::Enum { values }, value) => {
                ("enum", (!values.contains(value)).then(|| "not one of the values".into()))
            }
            (Rule::Email {}, Value::String(text)) => {
                ("email", (!is_email(text)).then(|| "not an email address".into()))
            }
            (Rule::Url {}, Value::String(text)) => {
                let url = url::Url::parse(text).ok().filter(url::Url::has_authority);
                ("url", url.is_none().then(|| "not a URL".into()))
            }
            (Rule::Date { format }, Value::String(text)) => (
                "date",
                (!is_date(text, format.as_deref())).then(|| {
                    format!("not a date{}", format.as_ref().map(|format| format!(" as {format}")).unwrap_or_default())
                }),
            ),
            (Rule::Custom { name }, Value::String(text)) => ("custom", custom(*name, text)),
            (Rule::Array { min_items, max_items, unique, item_rules }, Value::Array(items)) => {
                if let Some(message) = size("number of items", items.len(), *min_items, *max_items) {
                    self.fault("array", value, path, message);
                }
                if *unique {
                    let mut seen = std::collections::HashSet::new();
                    if let Some(at) = items.iter().position(|item| !seen.insert(item)) {
                        self.fault("array", value, path, format!("item {at} is there twice"));
                    }
                }
                if let Some(rules) = item_rules {
                    for (at, item) in items.iter().enumerate() {
                        self.all(rules.list(), item, &format!("{path}[{at}]"))?;
                    }
                }
                return Ok(());
            }
            (Rule::Object { properties, required, additional_properties }, Value::Object(members)) => {
                for name in required.iter().filter(|name| members.get(*name).is_none_or(Value::is_null)) {
                    self.fault("object", &Value::Null, &format!("{path}.{name}"), "missing".into());
                }
                for (name, rules) in properties {
                    let path = format!("{path}.{name}");
                    match members.get(name) {
                        Some(member) => self.all(rules.list(), member, &path)?,
                        // What is not there breaks only the rule that it must be, and that is told once.
                        None if required.contains(name) => {}
                        None if rules.list().iter().any(|rule| matches!(rule, Rule::Required {})) => {
                            self.fault("required", &Value::Null, &path, "missing".into());
                        }
                        None => {}
                    }
                }
                if !additional_properties {
                    for (name, member) in members.iter().filter(|(name, _)| !properties.contains_key(*name)) {
                        self.fault("object", member, &format!("{path}.{name}"), "no such property".into());
                    }
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(message) = message {
            self.fault(name, value, path, message);
        }
        Ok(())
    }
}

fn size(what: &str, size: usize, min: Option<usize>, max: Option<usize>) -> Option<String> {
    let below = min.filter(|min| size < *min).map(|min| format!("{what} {size} is below {min}"));
    below.or_else(|| max.filter(|max| size > *max).map(|max| format!("{what} {size} is above {max}")))
}

/// One local part and a domain with a dot, as people write them; no comments, no quoted strings.
pub(super) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    local.len() <= 64
        && local.split('.').all(|part| !part.is_empty() && part.chars().all(atom))
        && domain.contains('.')
        && is_hostname(domain)
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=253).contains(&text.len()) && text.split('.').all(label)
}

fn is_date(text: &str, format: Option<&str>) -> bool {
    match format {
        Some(format) => strtime::parse(format, text).is_ok_and(|broken| {
            let dated = broken.year().is_some() || broken.month().is_some() || broken.day().is_some();
            broken.to_date().is_ok() || broken.to_timestamp().is_ok() || !dated && broken.to_time().is_ok()
        }),
        None => {
            text.parse::<jiff::Timestamp>().is_ok()
                || text.parse::<jiff::civil::DateTime>().is_ok()
                || text.parse::<jiff::civil::Date>().is_ok()
        }
    }
}

fn custom(name: Custom, text: &str) -> Option<String> {
    static PHONE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\+?[1-9][0-9]{6,14}$").expect("constant"));
    let (valid, what) = match name {
        Custom::Phone => {
            let digits: String = text.chars().filter(|c| !" -().".contains(*c)).collect();
            (PHONE.is_match(&digits), "phone number")
        }
        Custom::Uuid => (uuid::Uuid::try_parse(text).is_ok(), "UUID"),
        Custom::CreditCard => (is_card(text), "credit card number"),
        Custom::Ipv4 => (text.parse::<std::net::Ipv4Addr>().is_ok(), "IPv4 address"),
        Custom::Ipv6 => (text.parse::<std::net::Ipv6Addr>().is_ok(), "IPv6 address"),
        Custom::Hostname => (is_hostname(text), "host name"),
    };
    (!valid).then(|| format!("not a {what}").replace("a IP", "an IP"))
}

/// 13 to 19 digits whose Luhn sum is right.
pub(super) fn is_card(text: &str) -> bool {
    let digits: Option<Vec<u32>> = text.chars().filter(|c| !" -".contains(*c)).map(|c| c.to_digit(10)).collect();
    let luhn = |digits: &[u32]| {
        let doubled = |(at, digit): (usize, &u32)| if at % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { *digit };
        digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
    };
    digits.is_some_and(|digits| (13..=19).contains(&digits.len()) && luhn(&digits))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    #[test]
    fn each_rule_takes_what_fits_and_nothing_else() {
        for (rule, good, wrong) in [
            (json!({"type": "required"}), json!(["x", 0, false, [], {}]), json!([null, ""])),
            (json!({"type": "type", "expected": "integer"}), json!([1, 2.0, -3]), json!([1.5, "1", null])),
            (json!({"type": "type", "expected": "object"}), json!([{}]), json!([[], "x", null])),
            (json!({"type": "length", "min": 2, "max": 3}), json!(["äö", [1, 2], 5]), json!(["ä", "abcd", [1]])),
            (json!({"type": "range", "min": 0}), json!([0, 1.5, "x"]), json!([-0.1])),
            (json!({"type": "pattern", "regex": "^a+$"}), json!(["aa"]), json!(["ab"])),
            (json!({"type": "enum", "values": [1, "x", null]}), json!([1, "x", null]), json!([2, "y"])),
            (
                json!({"type": "email"}),
                json!(["a.b+c@x-y.example.com"]),
                json!(["a", "a@b", ".a@b.de", "a@b..de", "a b@c.de"]),
            ),
            (
                json!({"type": "url"}),
                json!(["https://a.example/x?y#z"]),
                json!(["a.example", "mailto:a@b.de", "http://"]),
            ),
            (json!({"type": "date"}), json!(["2024-02-29", "2024-02-29T10:00:00Z"]), json!(["2023-02-29", "x"])),
            (json!({"type": "date", "format": "%d.%m.%Y"}), json!(["29.02.2024"]), json!(["2024-02-29"])),
            (json!({"type": "custom", "name": "phone"}), json!(["+49 30 1234567"]), json!(["12", "x"])),
            (
                json!({"type": "custom", "name": "credit_card"}),
                json!(["4111 1111 1111 1111"]),
                json!(["4111111111111112"]),
            ),
            (json!({"type": "custom", "name": "ipv6"}), json!(["::1"]), json!(["1.2.3.4", ":::"])),
            (
                json!({"type": "array", "unique": true, "max_items": 2}),
                json!([[1, 2], "x"]),
                json!([[1, 1], [1, 2, 3]]),
            ),
        ] {
            for (values, valid) in [(good, true), (wrong, false)] {
                for value in values.as_array().unwrap() {
                    let checked = result("data_validation", json!({"input": value, "rules": [rule]}));
                    assert_eq!(checked["valid"], valid, "{rule} {value} {checked}");
                }
            }
        }
    }

    #[test]
    fn faults_come_with_their_place_and_all_at_once() {
        let rules = json!([{
            "type": "object", "required": ["a", "z"], "additional_properties": false,
            "properties": {"a": {"rules": [{"type": "range", "max": 1}]}, "b": [{"type": "required"}]},
        }]);
        let checked = result("data_validation", json!({"input": {"a": 5, "c": 1}, "rules": rules}));
        let fields: Vec<_> = checked["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
        assert_eq!(json!(fields), json!(["input.z", "input.a", "input.b", "input.c"]));
        let many = result(
            "data_validation",
            json!({
                "input": vec![0; 500], "rules": [{"type": "array", "item_rules": [{"type": "range", "min": 1}]}],
            }),
        );
        assert_eq!((&many["error_count"], &many["truncated"]), (&json!(100), &json!(true)));
    }

    #[test]
    fn bad_input() {
        let mut deep = json!([{"type": "required"}]);
        for _ in 0..100 {
            deep = json!([{"type": "array", "item_rules": deep}]);
        }
        bad(
            "data_validation",
            &[
                (json!({}), Class::Usage),
                (json!({"input": 1}), Class::Usage),
                (json!({"input": 1, "rules": {}}), Class::Usage),
                (json!({"input": 1, "rules": [1]}), Class::Usage),
                (json!({"input": 1, "rules": [{}]}), Class::Usage),
                (json!({"input": 1, "rules": [{"type": "nonsense"}]}), Class::Usage),
                (json!({"input": 1, "rules": [{"type": "range", "minimum": 1}]}), Class::Usage),
                (json!({"input": "x", "rules": [{"type": "pattern", "regex": "("}]}), Class::Usage),
                (json!({"input": "x", "rules": [{"type": "pattern", "regex": "(a{1000}){1000}"}]}), Class::Usage),
                (json!({"input": [], "rules": [{"type": "array", "item_rules": [{"type": "x"}]}]}), Class::Usage),
                (json!({"input": [], "rules": deep}), Class::Usage),
            ],
        );
    }
}
