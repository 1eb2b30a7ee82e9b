//! `service_checker`: whether a service answers: a TCP port, TLS with its certificate, HTTP, a name in DNS, a systemd unit.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::http::{self, Request};
use super::process::Program;
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, net, web, word};
use crate::error::{Class, Error, Result};

/// The checker.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "service_checker",
    aliases: &["service_check", "port_checker"],
    category: "system",
    summary: "check whether a TCP port, TLS or HTTP server, DNS name or systemd unit is up",
    level: Level::Restricted,
    effects: &[Effect::Network, Effect::RunPrograms],
    spellings: &[
        Spelling::Param("service", "target"),
        Spelling::Param("host", "target"),
        Spelling::Param("url", "target"),
        Spelling::Param("type", "check_type"),
        Spelling::Param("timeout", "timeout_seconds"),
        Spelling::Value("check_type", "port", "tcp"),
        Spelling::Value("check_type", "unit", "systemd"),
    ],
    examples: &[
        example(
            "an HTTP server",
            r#"{"target": "$HTTP/status/204", "check_type": "http"}"#,
            r#"{"available": true, "metadata": {"status_code": 204, "method": "HEAD"}}"#,
        ),
        example(
            "one in trouble",
            r#"{"target": "$HTTP/status/503", "check_type": "http"}"#,
            r#"{"available": false, "status": "HTTP 503"}"#,
        ),
        example(
            "a TCP port, told by its URL",
            r#"{"target": "$HTTP", "check_type": "tcp"}"#,
            r#"{"available": true, "error": null}"#,
        ),
    ],
};

/// Checks a service once. What does not answer is an answer: `available` is false.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// `host:port` for `tcp` and `tls`, a URL for `http` and `https`, a name for `dns`, a unit for `systemd`.
    #[schemars(length(min = 1))]
    target: String,
    /// How it is checked.
    check_type: Check,
    /// Longest time, seconds.
    #[serde(default = "five")]
    #[schemars(range(min = 0.001, max = 300.0))]
    timeout_seconds: f64,
}

fn five() -> f64 {
    5.0
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Check {
    Tcp,
    Tls,
    Http,
    Https,
    Dns,
    Systemd,
}

/// What a check found.
struct Found {
    available: bool,
    status: String,
    metadata: Map<String, Value>,
}

fn found(available: bool, status: impl Into<String>, metadata: Value) -> Found {
    let Value::Object(metadata) = metadata else {
        return Found { available, status: status.into(), metadata: Map::new() };
    };
    Found { available, status: status.into(), metadata }
}

/// Checks.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let inner = call.within(web::seconds(params.timeout_seconds));
    let started = Instant::now();
    let target = params.target.trim();
    let outcome = match params.check_type {
        Check::Tcp => tcp(target, &inner),
        Check::Tls => tls(target, &inner),
        Check::Http | Check::Https => ask(target, params.check_type, &inner),
        Check::Dns => dns(target, &inner),
        Check::Systemd => unit(target, &inner),
    };
    let took = started.elapsed();
    // The limit of the check is a finding, that of the call is not.
    call.check()?;
    let (found, error) = match outcome {
        Ok(found) => (found, None),
        Err(error) if matches!(error.class(), Class::Remote | Class::Timeout) => {
            let status = if error.class() == Class::Timeout { "No answer in time" } else { "Connection failed" };
            (found(false, status, json!({})), Some(error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let result = json!({
        "target": target, "check_type": word(&params.check_type), "available": found.available, "status": found.status,
        "error": error, "response_time_ms": millis(took), "metadata": found.metadata, "timeout_seconds": params.timeout_seconds,
    });
    let state = if found.available { "up" } else { "down" };
    Ok(Answer::new("check", result).message(format!("{target} is {state}: {}", found.status)))
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e5).round() / 100.0
}

/// Host and port of `host:port`, `[v6]:port` or a URL.
fn address(target: &str) -> Result<(String, u16)> {
    let wrong = || {
        Error::new(Class::Usage, format!("target: {target:?} is not host:port"))
            .hint("Such as example.com:443 or [::1]:22.")
    };
    let text = if target.contains("://") { target.to_owned() } else { format!("tcp://{target}") };
    let url = url::Url::parse(&text).map_err(|_| wrong())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    Ok((host.to_owned(), url.port_or_known_default().ok_or_else(wrong)?))
}

fn tcp(target: &str, call: &Call) -> Result<Found> {
    let (host, port) = address(target)?;
    let socket = net::connect(&host, port, call)?;
    let peer = socket.peer().ok();
    Ok(found(true, "Connected", json!({"resolved_ip": peer.map(|peer| peer.ip()), "resolved_port": port})))
}

fn tls(target: &str, call: &Call) -> Result<Found> {
    let (host, port) = address(target)?;
    let socket = net::connect(&host, port, call)?;
    let peer = socket.peer().ok();
    let stream = net::tls(&host, socket)?;
    let connection = &stream.conn;
    let metadata = json!({
        "resolved_ip": peer.map(|peer| peer.ip()), "resolved_port": port,
        "protocol": connection.protocol_version().and_then(|version| version.as_str().map(str::to_owned)),
        "cipher": connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str().map(str::to_owned)),
        "certificates": connection.peer_certificates().map_or(0, <[_]>::len),
    });
    Ok(found(true, "Certificate valid", metadata))
}

fn ask(target: &str, check: Check, call: &Call) -> Result<Found> {
    let scheme = if check == Check::Https { "https" } else { "http" };
    let text = if target.contains("://") { target.to_owned() } else { format!("{scheme}://{target}") };
    let url = http::parse(&text, "target")?;
    if check == Check::Https && url.scheme() != "https" {
        return Err(Error::new(Class::Usage, format!("target: {target}: is not https")));
    }
    let mut method = "HEAD";
    let mut response = Request::new(method, url.clone(), &call.settings)?.send(call)?;
    // Some servers know GET only.
    if matches!(response.status, 405 | 501) {
        method = "GET";
        response = Request::new(method, url, &call.settings)?.send(call)?;
    }
    let up = (200..400).contains(&response.status);
    let metadata = json!({
        "status_code": response.status, "method": method, "content_type": response.header("content-type"),
        "url": response.url.as_str(), "redirects": response.redirects,
    });
    Ok(found(up, format!("HTTP {}", response.status), metadata))
}

fn dns(target: &str, call: &Call) -> Result<Found> {
    let host = address(target).map_or_else(|_| target.to_owned(), |(host, _)| host);
    if host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(Error::new(Class::Usage, format!("target: {target:?} is not a name")));
    }
    let mut addresses: Vec<_> = call.policy.check_host(&host, 0)?.iter().map(|address| address.ip()).collect();
    addresses.dedup();
    let metadata =
        json!({"address_count": addresses.len(), "first_address": addresses.first(), "addresses": addresses});
    Ok(found(true, "Resolved", metadata))
}

fn unit(target: &str, call: &Call) -> Result<Found> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._:-\\".contains(c);
    if !target.chars().all(plain) || target.starts_with('-') {
        return Err(Error::new(Class::Usage, format!("target: {target:?} is not the name of a unit")));
    }
    let properties = "--property=LoadState,ActiveState,SubState,MainPID,ActiveEnterTimestamp,Description";
    let finished = Program::new("systemctl", call)?.args(["show", properties, "--", target]).run(call)?;
    if finished.code != Some(0) {
        let words = String::from_utf8_lossy(&finished.stderr).trim().replace('\n', " ");
        return Err(Error::new(Class::Tool, format!("systemctl: {words}")));
    }
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let value =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    let active = value("ActiveState");
    let metadata = json!({
        "load_state": value("LoadState"), "active_state": active, "sub_state": value("SubState"), "description": value("Description"),
        "main_pid": value("MainPID").parse::<u32>().ok().filter(|pid| *pid > 0), "active_since": value("ActiveEnterTimestamp"),
    });
    Ok(found(matches!(active, "active" | "reloading"), format!("{active} ({})", value("SubState")), metadata))
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::super::testing::bad;
    use super::*;
    use crate::security::{Grants, Policy, Profile};
    use std::net::TcpListener;
    use std::sync::Arc;

    fn run(params: Value) -> Result<Value> {
        let net = ["127.0.0.1", "localhost", "::1"].map(str::to_owned).into();
        let grants = Grants { profile: Profile::Safe, workdir: "/".into(), net, ..Grants::default() };
        let call = Call::new(Arc::new(Policy::new(grants)));
        Ok(Registry::new().invoke("service_checker", params, &call)?["result"].take())
    }

    #[test]
    fn ports_and_names_are_found_up_or_down() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let at = format!("127.0.0.1:{port}");
        let got = run(json!({"target": at, "type": "port"})).unwrap();
        assert_eq!((&got["available"], &got["metadata"]["resolved_ip"]), (&json!(true), &json!("127.0.0.1")));
        // It accepts, but says nothing.
        let got = run(json!({"target": at, "check_type": "tls", "timeout": 0.1})).unwrap();
        assert_eq!((&got["available"], &got["status"]), (&json!(false), &json!("No answer in time")));
        drop(listener);
        let got = run(json!({"target": at, "check_type": "tcp"})).unwrap();
        assert_eq!((&got["available"], &got["status"]), (&json!(false), &json!("Connection failed")));
        assert!(got["error"].as_str().unwrap().contains("refused"), "{got}");
        let got = run(json!({"target": "localhost", "check_type": "dns"})).unwrap();
        assert!(got["metadata"]["address_count"].as_u64().unwrap() > 0);
    }

    #[test]
    fn wrong_calls_are_refused() {
        bad(
            "service_checker",
            &[
                (json!({}), Class::Usage),
                (json!({"target": "x"}), Class::Usage),
                (json!({"target": "example.com", "check_type": "tcp"}), Class::Usage),
                (json!({"target": "", "check_type": "dns"}), Class::Usage),
                (json!({"target": "a b", "check_type": "dns"}), Class::Usage),
                (json!({"target": "127.0.0.1:1", "check_type": "tcp"}), Class::Denied),
                (json!({"target": "http://127.0.0.1", "check_type": "https"}), Class::Usage),
                (json!({"target": "-x", "check_type": "systemd"}), Class::Usage),
                (json!({"target": "ssh.service", "check_type": "systemd"}), Class::Denied),
            ],
        );
    }
}
