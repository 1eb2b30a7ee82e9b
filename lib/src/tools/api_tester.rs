//! `api_tester`: one request and what is expected of its answer, each expectation with its own verdict.

use std::time::Instant;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::http::{self, Request, Response};
use super::web::{self, Method};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, yes};
use crate::error::{Class, Error, Result};

/// The API tester.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "api_tester",
    aliases: &["api_test"],
    category: "api",
    summary: "send a request and check status, headers, body, JSON values and time of the answer",
    level: Level::Restricted,
    effects: &[Effect::Network],
    spellings: &[
        Spelling::Param("url", "input"),
        Spelling::Param("assertions", "expect"),
        Spelling::Param("expected", "expect"),
    ],
    examples: &[
        example(
            "expectations that are met",
            r#"{"input": "$HTTP/items?page=2", "expect": {"status": 200, "headers": {"content-type": "application/json"},
                "json": {"path": "/items?page=2", "/method": "GET", "headers.host": {"matches": "^127"}}}}"#,
            r#"{"passed": true, "failed_count": 0, "response": {"status_code": 200, "body_is_json": true}}"#,
        ),
        example(
            "and one that is not",
            r#"{"input": "$HTTP/status/404", "expect": {"status": "2xx", "body_contains": "status"}}"#,
            r#"{"passed": false, "failed_count": 1, "assertions": [
                {"check": "status", "expected": "2xx", "actual": 404, "passed": false},
                {"check": "body_contains", "expected": "status", "passed": true}]}"#,
        ),
        example(
            "without any it is a look",
            r#"{"input": "$HTTP/", "method": "POST", "body": {"a": 1}}"#,
            r#"{"request": {"method": "POST"}, "response": {"is_success": true}, "assertions": [], "passed": true}"#,
        ),
    ],
};

/// Sends a request and checks its answer. An expectation that is not met is an answer, not a failure: look at `passed`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The URL.
    #[schemars(length(min = 1))]
    input: String,
    /// The method.
    #[serde(default)]
    method: Method,
    /// Headers to send.
    #[serde(default)]
    headers: Map<String, Value>,
    /// What to send: a text as it is, anything else as JSON.
    #[serde(default)]
    body: Value,
    /// Longest time, seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
    /// Whether redirects are followed.
    #[serde(default = "yes")]
    follow_redirects: bool,
    /// What is expected.
    #[serde(default)]
    expect: Expect,
}

fn thirty() -> f64 {
    30.0
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
struct Expect {
    /// A status, a class such as `2xx`, or a list of them.
    status: Option<Value>,
    /// By name: a text the header must hold, `true` (there) or `false` (not there), or `{"matches": REGEX}`.
    headers: Map<String, Value>,
    /// A text the body must hold.
    body_contains: Option<String>,
    /// A regular expression the body must match.
    body_matches: Option<String>,
    /// By path (`data.items[0].id` or a JSON pointer): the value that must be there, `{"matches": REGEX}`, `{"type": NAME}` or
    /// `{"exists": BOOL}`.
    json: Map<String, Value>,
    /// Longest time of the answer, milliseconds.
    max_duration_ms: Option<u64>,
}

/// Sends and checks.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let url = http::parse(&params.input, "input")?;
    let request = web::with_headers(Request::new(params.method.name(), url, &call.settings)?, &params.headers)?;
    let mut request = web::with_body(request, &params.body)?;
    if !params.follow_redirects {
        request = request.stay();
    }
    let checks = Checks::new(&params.expect)?;
    let started = Instant::now();
    let response = request.send_within(web::seconds(params.timeout), call)?;
    let elapsed = started.elapsed();
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let text = response.text();
    let body = text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let assertions = checks.run(&response, text.as_deref().unwrap_or_default(), body.as_ref(), millis);
    let failed = assertions.iter().filter(|row| row["passed"] == false).count();
    let size = response.body.len();
    let result = json!({
        "request": {"method": params.method.name(), "url": params.input, "timeout": params.timeout},
        "response": {
            "status_code": response.status, "status_text": web::reason(response.status), "is_success": response.is_success(),
            "headers": web::headers(&response), "body_is_json": body.is_some(), "body": body.map_or_else(|| text.into(), Value::from),
            "body_size": size, "url": response.url.as_str(), "redirects": response.redirects,
        },
        "timing": {"duration_ms": millis, "duration_secs": elapsed.as_secs_f64()},
        "passed": failed == 0, "passed_count": assertions.len() - failed, "failed_count": failed, "assertions": assertions,
    });
    let message = match (assertions.len(), failed) {
        (0, _) => format!("{} {}: {}", params.method.name(), params.input, response.status),
        (count, 0) => format!("all {count} expectations met"),
        (count, failed) => format!("{failed} of {count} expectations not met"),
    };
    Ok(Answer::new("test", result).message(message))
}

/// The expectations, made sure of before anything is sent.
struct Checks<'a> {
    expect: &'a Expect,
    body: Option<Regex>,
}

fn usage(text: String) -> Error {
    Error::new(Class::Usage, text)
}

fn regex(text: &str, name: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| {
        // The last line says what; those before show where.
        let text = e.to_string();
        usage(format!("{name}: not a regular expression: {}", text.lines().last().unwrap_or_default().trim()))
    })
}

impl<'a> Checks<'a> {
    fn new(expect: &'a Expect) -> Result<Self> {
        for wanted in statuses(expect.status.as_ref()) {
            let class =
                |text: &str| text.len() == 3 && text.ends_with("xx") && matches!(text.as_bytes()[0], b'1'..=b'5');
            let known = wanted.as_u64().is_some_and(|status| (100..600).contains(&status))
                || wanted.as_str().is_some_and(class);
            if !known {
                return Err(usage(format!("expect.status: {wanted} is neither a status nor a class such as \"2xx\"")));
            }
        }
        for (name, wanted) in expect.headers.iter().chain(&expect.json) {
            if let Some(text) = wanted.get("matches") {
                regex(text.as_str().unwrap_or_default(), name)?;
            }
        }
        let body = expect.body_matches.as_deref().map(|text| regex(text, "expect.body_matches")).transpose()?;
        Ok(Checks { expect, body })
    }

    fn run(&self, response: &Response, text: &str, body: Option<&Value>, millis: u64) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut row = |check: String, expected: Value, actual: Value, passed: bool| {
            rows.push(json!({"check": check, "expected": expected, "actual": actual, "passed": passed}));
        };
        let expect = self.expect;
        if let Some(wanted) = &expect.status {
            let fits = |wanted: &Value| match wanted.as_str() {
                Some(class) => class.as_bytes()[0] - b'0' == (response.status / 100) as u8,
                None => wanted.as_u64() == Some(response.status.into()),
            };
            row(
                "status".into(),
                wanted.clone(),
                response.status.into(),
                statuses(Some(wanted)).iter().any(|wanted| fits(wanted)),
            );
        }
        for (name, wanted) in &expect.headers {
            let actual = response.header(&name.to_lowercase());
            let passed = match wanted {
                Value::Bool(there) => actual.is_some() == *there,
                Value::Object(_) => actual.is_some_and(|actual| fits(&actual.into(), wanted)),
                wanted => {
                    let wanted = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
                    actual.is_some_and(|actual| actual.contains(&wanted))
                }
            };
            row(format!("headers.{name}"), wanted.clone(), actual.into(), passed);
        }
        if let Some(wanted) = &expect.body_contains {
            row("body_contains".into(), wanted.as_str().into(), Value::Null, text.contains(wanted));
        }
        if let Some(wanted) = &self.body {
            let found = wanted.find(text).map(|found| found.as_str());
            row("body_matches".into(), wanted.as_str().into(), found.into(), found.is_some());
        }
        for (path, wanted) in &expect.json {
            let actual = body.and_then(|body| at(body, path));
            let passed = match wanted.get("exists").and_then(Value::as_bool) {
                Some(there) => actual.is_some() == there,
                None => actual.is_some_and(|actual| fits(actual, wanted)),
            };
            row(format!("json.{path}"), wanted.clone(), actual.cloned().into(), passed);
        }
        if let Some(most) = expect.max_duration_ms {
            row("max_duration_ms".into(), most.into(), millis.into(), millis <= most);
        }
        rows
    }
}

/// A status or a list of them as a list.
fn statuses(wanted: Option<&Value>) -> Vec<&Value> {
    match wanted {
        Some(Value::Array(list)) => list.iter().collect(),
        one => one.into_iter().collect(),
    }
}

/// Whether `actual` is what is `wanted`: equal, matching, or of a type.
fn fits(actual: &Value, wanted: &Value) -> bool {
    let text = || actual.as_str().map_or_else(|| actual.to_string(), str::to_owned);
    if let Some(pattern) = wanted.get("matches").and_then(Value::as_str) {
        return Regex::new(pattern).is_ok_and(|regex| regex.is_match(&text()));
    }
    if let (Some(kind), Some(1)) = (wanted.get("type").and_then(Value::as_str), wanted.as_object().map(Map::len)) {
        return match actual {
            Value::Null => kind == "null",
            Value::Bool(_) => kind == "boolean",
            Value::Number(number) => kind == "number" || kind == "integer" && !number.is_f64(),
            Value::String(_) => kind == "string",
            Value::Array(_) => kind == "array",
            Value::Object(_) => kind == "object",
        };
    }
    actual == wanted || actual.as_f64().is_some_and(|number| wanted.as_f64() == Some(number))
}

/// The value at `path`: a JSON pointer, or names and `[n]` with dots between.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() || path.starts_with('/') {
        return value.pointer(path);
    }
    let path = path.strip_prefix("$.").unwrap_or(path).replace('[', ".").replace(']', "");
    path.split('.').filter(|part| !part.is_empty()).try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        value => value.get(part),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::bad;
    use super::*;

    #[test]
    fn paths_lead_into_json() {
        let value = json!({"a": [{"b.c": 1, "d": null}], "x/y": 2});
        assert_eq!(at(&value, "a[0].d"), Some(&Value::Null));
        assert_eq!(at(&value, "$.a.0"), Some(&value["a"][0]));
        assert_eq!(at(&value, "/x~1y"), Some(&json!(2)));
        assert_eq!(at(&value, "a[1].d"), None);
    }

    #[test]
    fn values_fit_what_is_wanted() {
        for (actual, wanted, fit) in [
            (json!(1), json!(1.0), true),
            (json!("abc"), json!({"matches": "^a.c$"}), true),
            (json!(5), json!({"type": "integer"}), true),
            (json!(5.5), json!({"type": "integer"}), false),
            (json!({"type": "x", "n": 1}), json!({"type": "x", "n": 1}), true),
            (json!([1]), json!([1, 2]), false),
        ] {
            assert_eq!(fits(&actual, &wanted), fit, "{actual} {wanted}");
        }
    }

    #[test]
    fn wrong_calls_are_refused_before_anything_is_sent() {
        let expect = |expect: Value| json!({"url": "http://127.0.0.1:1/", "expect": expect});
        bad(
            "api_tester",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "nonsense"}), Class::Usage),
                (json!({"url": "http://127.0.0.1:1/"}), Class::Denied),
                (expect(json!({"status": "ok"})), Class::Usage),
                (expect(json!({"status": 99})), Class::Usage),
                (expect(json!({"body_matches": "("})), Class::Usage),
                (expect(json!({"json": {"a": {"matches": "("}}})), Class::Usage),
                (expect(json!({"colour": "red"})), Class::Usage),
            ],
        );
    }
}
