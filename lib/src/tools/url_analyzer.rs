//! `url_analyzer`: the parts of a URL, as browsers see them (WHATWG URL), and what its server says of it when asked.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::http::Request;
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, web, yes};
use crate::error::{Class, Error, Result};

/// The URL tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "url_analyzer",
    aliases: &["url", "url_parser"],
    category: "web",
    summary: "take a URL apart: host, port, path, query; ask its server for type, size and redirect",
    level: Level::Restricted,
    effects: &[Effect::Network],
    spellings: &[Spelling::Param("url", "input"), Spelling::Param("fetch", "fetch_metadata")],
    examples: &[
        example(
            "the parts",
            r#"{"input": "HTTPS://Example.com/a/../b?q=1&q=2&e=%C3%A4#top"}"#,
            r##"{"valid": true, "normalized": "https://example.com/b?q=1&q=2&e=%C3%A4#top", "scheme": "https", "host": "example.com",
                "port": 443, "path": "/b", "query_params": {"q": ["1", "2"], "e": "ä"}, "fragment": "top"}"##,
        ),
        example(
            "an address in disguise",
            r#"{"input": "http://0x7f.1/"}"#,
            r#"{"host": "127.0.0.1", "host_details": {"type": "ipv4", "is_ip": true}}"#,
        ),
        example("what is no URL", r#"{"input": "nonsense"}"#, r#"{"valid": false}"#),
        example(
            "what the server says",
            r#"{"input": "$HTTP/redirect/2", "fetch_metadata": true}"#,
            r#"{"metadata": {"status_code": 302, "is_redirect": true, "redirect_location": "/redirect/1"}}"#,
        ),
    ],
};

/// Takes a URL apart. Text that is no URL is an answer, too: `valid` is false.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The URL.
    #[schemars(length(min = 1))]
    input: String,
    /// Whether the server is asked by HEAD, for http and https. A redirect is told, not followed.
    #[serde(default)]
    fetch_metadata: bool,
    /// Whether `%20` and `+` in `query_params` are read.
    #[serde(default = "yes")]
    decode_params: bool,
    /// Longest time for the server, seconds.
    #[serde(default = "ten")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
}

fn ten() -> f64 {
    10.0
}

/// Takes apart.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let url = match Url::parse(params.input.trim()) {
        Ok(url) => url,
        Err(error) => {
            let result = json!({"valid": false, "original": params.input, "error": error.to_string()});
            return Ok(Answer::new("analyze", result).message(format!("not a URL: {error}")));
        }
    };
    let mut shown = url.clone();
    if url.password().is_some() {
        // The caller knows it; whoever reads the answer need not.
        _ = shown.set_password(Some("********"));
    }
    let (kind, is_ip) = match url.host() {
        None => ("none", false),
        Some(Host::Domain(_)) => ("domain", false),
        Some(Host::Ipv4(_)) => ("ipv4", true),
        Some(Host::Ipv6(_)) => ("ipv6", true),
    };
    let mut result = json!({
        "valid": true, "original": if url.password().is_some() { shown.as_str() } else { &params.input }, "normalized": shown.as_str(),
        "scheme": url.scheme(), "host": url.host_str(), "port": url.port_or_known_default(), "path": url.path(),
        "path_segments": url.path_segments().map(|parts| parts.filter(|part| !part.is_empty()).collect::<Vec<_>>()),
        "query": url.query(), "query_params": query(&url, params.decode_params), "fragment": url.fragment(),
        "username": Some(url.username()).filter(|name| !name.is_empty()),
        "has_auth": !url.username().is_empty() || url.password().is_some(), "has_password": url.password().is_some(),
        "host_details": {"type": kind, "value": url.host_str(), "is_ip": is_ip}, "origin": url.origin().ascii_serialization(),
    });
    if params.fetch_metadata {
        match fetch(url, params.timeout, call) {
            Ok(metadata) => result["metadata"] = metadata,
            Err(error) if matches!(error.class(), Class::Interrupted | Class::Denied) => return Err(error),
            Err(error) => result["metadata_error"] = error.to_string().into(),
        }
    }
    Ok(Answer::new("analyze", result))
}

/// The pairs of the query; a key that comes several times has a list.
fn query(url: &Url, decode: bool) -> Map<String, Value> {
    let raw = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    };
    let pairs: Vec<(String, String)> = if decode {
        url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
    } else {
        url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(raw).collect()
    };
    let mut map: Map<String, Value> = Map::new();
    for (key, value) in pairs {
        match map.get_mut(&key) {
            None => _ = map.insert(key, value.into()),
            Some(Value::Array(values)) => values.push(value.into()),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    map
}

fn fetch(url: Url, timeout: f64, call: &Call) -> Result<Value> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::new(Class::Usage, format!("{}: neither http nor https", url.scheme())));
    }
    let response = Request::new("HEAD", url, &call.settings)?.stay().send_within(web::seconds(timeout), call)?;
    let status = response.status;
    Ok(json!({
        "status_code": status, "status_text": web::reason(status), "is_success": response.is_success(),
        "is_redirect": matches!(status, 301 | 302 | 303 | 307 | 308), "redirect_location": response.header("location"),
        "content_type": response.header("content-type"),
        "content_length": response.header("content-length").and_then(|length| length.parse::<u64>().ok()),
        "server": response.header("server"), "last_modified": response.header("last-modified"), "etag": response.header("etag"),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    #[test]
    fn parts_are_told_and_passwords_are_not() {
        let got = result("url_analyzer", json!({"url": "https://ada:geheim@[::1]:8443/?a=1+2&b"}));
        assert_eq!((&got["port"], &got["host_details"]["type"]), (&json!(8443), &json!("ipv6")));
        assert_eq!((&got["username"], &got["has_password"]), (&json!("ada"), &json!(true)));
        assert_eq!(got["query_params"], json!({"a": "1 2", "b": ""}));
        assert!(!got.to_string().contains("geheim"), "{got}");
        let got = result("url_analyzer", json!({"input": "http://h/?a=1+2&a=%20", "decode_params": false}));
        assert_eq!(got["query_params"], json!({"a": ["1+2", "%20"]}));
        assert_eq!(result("url_analyzer", json!({"input": "mailto:a@b.c"}))["host"], Value::Null);
    }

    #[test]
    fn wrong_calls_are_refused() {
        bad(
            "url_analyzer",
            &[
                (json!({}), Class::Usage),
                (json!({"input": ""}), Class::Usage),
                (json!({"input": "http://127.0.0.1/", "fetch_metadata": true}), Class::Denied),
                (json!({"input": "http://h/", "timeout": 0}), Class::Usage),
            ],
        );
    }
}
