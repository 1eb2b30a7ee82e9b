//! `http_request`: one HTTP call with its redirects and retries.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::http::{self, Header, Request, Response};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, required, timestamp, yes};
use crate::config;
use crate::error::{Class, Error, Result};

/// The HTTP tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "http_request",
    aliases: &["http_client", "http", "fetch"],
    category: "api",
    summary: "send HTTP requests with authentication, redirects and retries",
    level: Level::Restricted,
    effects: &[Effect::Network],
    spellings: &[Spelling::Param("url", "input"), Spelling::Param("data", "body")],
    examples: &[
        example(
            "get",
            r#"{"input": "$HTTP/hello?a=b"}"#,
            r#"{"status_code": 200, "body": {"method": "GET", "path": "/hello?a=b"}}"#,
        ),
        example(
            "post JSON with a bearer token",
            r#"{"input": "$HTTP/", "method": "POST", "body": {"n": 1}, "auth": {"type": "bearer", "token": "t"}}"#,
            r#"{"body": {"method": "POST", "body": "{\"n\":1}",
                "headers": {"authorization": "Bearer t", "content-type": "application/json"}}}"#,
        ),
        example(
            "follow redirects",
            r#"{"input": "$HTTP/redirect/2"}"#,
            r#"{"status_code": 200, "redirects": 2, "body": {"path": "/"}}"#,
        ),
        example("a refusal is an answer too", r#"{"input": "$HTTP/status/404"}"#, r#"{"status_code": 404}"#),
    ],
};

/// Sends a request; any status is a success of the tool, so look at `status_code`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The URL, http or https.
    #[schemars(length(min = 1))]
    input: String,
    /// The method.
    #[serde(default)]
    method: Method,
    /// Headers to send: texts, numbers or booleans.
    #[serde(default)]
    headers: Map<String, Value>,
    /// What to send: a text as it is (text/plain unless the headers say otherwise), anything else as JSON.
    body: Option<Value>,
    /// Who is asking; not sent to another origin after a redirect.
    auth: Option<Auth>,
    /// When to try again; without it there is one attempt.
    retry: Option<Retry>,
    /// Longest time for everything, seconds; the configured one if not given.
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: Option<f64>,
    /// Whether redirects are followed.
    #[serde(default = "yes")]
    follow_redirects: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
enum Method {
    #[default]
    Get,
    Post,
    Put,
    Delete,
    Patch,
    Head,
    Options,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Auth {
    /// How.
    #[serde(rename = "type")]
    kind: AuthKind,
    /// For `basic`.
    username: Option<String>,
    /// For `basic`; empty if not given.
    password: Option<String>,
    /// For `bearer`.
    token: Option<String>,
    /// For `api_key`.
    key: Option<String>,
    /// For `api_key`; `X-API-Key` if not given.
    header_name: Option<String>,
    /// For `custom`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum AuthKind {
    None,
    Basic,
    Bearer,
    ApiKey,
    Custom,
}

#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
struct Retry {
    /// Attempts in all.
    #[schemars(range(min = 1, max = 20))]
    max_attempts: u32,
    /// First pause, milliseconds.
    #[schemars(range(max = 3_600_000))]
    initial_delay_ms: u64,
    /// Longest pause, milliseconds; a Retry-After of the server (in seconds) may be longer.
    #[schemars(range(max = 3_600_000))]
    max_delay_ms: u64,
    /// Each pause is so many times the one before.
    #[schemars(range(min = 1.0, max = 100.0))]
    backoff_factor: f64,
    /// Also try again after these; failures of the connection always count.
    retry_on_status: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            max_attempts: 3,
            initial_delay_ms: 1000,
            max_delay_ms: 30_000,
            backoff_factor: 2.0,
            retry_on_status: vec![429, 500, 502, 503, 504],
        }
    }
}

/// Sends the request.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let settings = &call.settings.http_request;
    let seconds = params.timeout.unwrap_or(settings.timeout_seconds as f64);
    let call = &call.within(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(86_400)));
    let request = request(&params, &call.settings)?;
    let retry = params.retry.unwrap_or(Retry { max_attempts: 1, ..Retry::default() });
    let longest = Duration::from_millis(retry.max_delay_ms);
    let mut pause = longest.min(Duration::from_millis(retry.initial_delay_ms));
    let mut attempt = 1;
    let response = loop {
        let outcome = request.send(call);
        let wait = match &outcome {
            Err(error) if error.class() == Class::Remote => Some(pause),
            Ok(response) if retry.retry_on_status.contains(&response.status) => {
                let asked = response.header("retry-after").and_then(|value| value.trim().parse().ok());
                Some(asked.map_or(pause, Duration::from_secs))
            }
            _ => None,
        };
        match wait {
            // No use in a pause that outlasts the call.
            Some(wait) if attempt < retry.max_attempts && call.remaining().is_none_or(|left| wait < left) => {
                let millis = wait.as_millis();
                call.progress(format!("attempt {attempt} of {} failed, next in {millis} ms", retry.max_attempts));
                call.sleep(wait)?;
                pause = longest.min(pause.mul_f64(retry.backoff_factor));
                attempt += 1;
            }
            _ => break outcome?,
        }
    };
    Ok(answer(response, params.method, attempt))
}

fn request(params: &Params, settings: &config::Tools) -> Result<Request> {
    let usage = |text: String| Error::new(Class::Usage, text);
    let mut request = Request::new(params.method.name(), http::parse(&params.input, "input")?, settings)?;
    for (name, value) in &params.headers {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err(usage(format!("headers.{name}: not a string"))),
        };
        request = request.header(Header::new(name, &text, false)?);
    }
    for header in params.auth.as_ref().map_or_else(|| Ok(Vec::new()), authenticate)? {
        request = request.header(header);
    }
    let settings = &settings.http_request;
    for (name, value) in &settings.default_headers {
        let header = Header::new(name, value, false).map_err(|e| e.within("tools.http_request.default_headers"))?;
        request = request.default_header(header);
    }
    request = match &params.body {
        None | Some(Value::Null) => request,
        Some(Value::String(text)) => request.body(text.as_str(), "text/plain; charset=utf-8")?,
        Some(json) => request.json(json)?,
    };
    if !params.follow_redirects {
        request = request.stay();
    }
    Ok(request.only(&settings.allowed_hosts))
}

fn authenticate(auth: &Auth) -> Result<Vec<Header>> {
    Ok(match auth.kind {
        AuthKind::None => Vec::new(),
        AuthKind::Basic => {
            let username = required(auth.username.as_ref(), "auth.username")?;
            vec![Header::basic(username, auth.password.as_deref().unwrap_or_default())?]
        }
        AuthKind::Bearer => {
            let token = required(auth.token.as_ref(), "auth.token")?;
            vec![Header::new("authorization", &format!("Bearer {token}"), true)?]
        }
        AuthKind::ApiKey => {
            let key = required(auth.key.as_ref(), "auth.key")?;
            vec![Header::new(auth.header_name.as_deref().unwrap_or("x-api-key"), key, true)?]
        }
        AuthKind::Custom => {
            auth.headers.iter().map(|(name, value)| Header::new(name, value, true)).collect::<Result<_>>()?
        }
    })
}

fn answer(response: Response, method: Method, attempts: u32) -> Answer {
    let (url, redirects) = (&response.url, response.redirects);
    let (body, encoding, text) = body(&response);
    let mut headers = Map::new();
    for (name, value) in &response.headers {
        match headers.get_mut(name) {
            None => _ = headers.insert(name.clone(), value.as_str().into()),
            Some(Value::Array(values)) => values.push(value.as_str().into()),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    let result = json!({
        "status_code": response.status, "headers": headers, "body": body, "encoding": encoding, "url": url.as_str(),
        "redirects": redirects, "attempts": attempts, "timestamp": timestamp(SystemTime::now()),
    });
    let message = format!("{} {url}: {}", method.name(), response.status);
    let answer = Answer::new(method.name(), result).message(message);
    match text {
        Some(text) => answer.text(text),
        None => answer,
    }
}

/// The body as a value, how it is to be read (`json`, `text`, `base64`), and its text.
fn body(response: &Response) -> (Value, &'static str, Option<String>) {
    let Some(text) = response.text() else { return (STANDARD.encode(&response.body).into(), "base64", None) };
    let mime = response.media_type();
    let json = mime == "application/json" || mime.ends_with("+json");
    match serde_json::from_str(&text) {
        Ok(value) if json => (value, "json", Some(text)),
        _ => (text.as_str().into(), "text", Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Registry, echo};
    use super::*;
    use crate::config::Tools;
    use crate::security::{Grants, Policy, Profile};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread;

    fn call(net: &[String]) -> Call {
        let grants = Grants { profile: Profile::Safe, workdir: "/".into(), net: net.to_vec(), ..Grants::default() };
        Call::new(Arc::new(Policy::new(grants)))
    }

    fn local() -> Call {
        call(&["127.0.0.1".into()])
    }

    fn run(call: &Call, params: Value) -> Result<Value> {
        Ok(Registry::new().invoke("http_client", params, call)?["result"].take())
    }

    /// Answers each connection with the next of `answers`; dropped with the process.
    fn server(answers: Vec<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
                // Enough of the small requests of these tests.
                let mut request = [0; 4096];
                _ = stream.read(&mut request).unwrap();
                _ = stream.write_all(&answer);
            }
        });
        address
    }

    #[test]
    fn requests_carry_what_they_were_given() {
        let server = echo::Server::start().unwrap();
        let at = format!("http://{}", server.address);
        let told = |params: Value| run(&local(), params).unwrap()["body"].take();
        let seen =
            told(json!({"url": format!("{at}/p?q=1#f"), "method": "put", "body": "text", "headers": {"X-N": 5}}));
        assert_eq!((&seen["method"], &seen["path"], &seen["body"]), (&json!("PUT"), &json!("/p?q=1"), &json!("text")));
        assert_eq!(seen["headers"]["x-n"], "5");
        assert_eq!(seen["headers"]["host"], server.address.to_string());
        assert_eq!(seen["headers"]["content-type"], "text/plain; charset=utf-8");
        assert!(seen["headers"]["user-agent"].as_str().unwrap().starts_with("llmspell/"));
        // RFC 7617, 2.
        let basic = json!({"type": "basic", "username": "Aladdin", "password": "open sesame"});
        let seen = told(json!({"input": at, "auth": basic}));
        assert_eq!(seen["headers"]["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let seen = told(json!({"input": at.replace("http://", "http://Aladdin:open%20sesame@")}));
        assert_eq!(seen["headers"]["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let seen = told(json!({"input": at, "auth": {"type": "api_key", "key": "k", "header_name": "X-Mine"}}));
        assert_eq!(seen["headers"]["x-mine"], "k");
        let head = run(&local(), json!({"input": at, "method": "HEAD"})).unwrap();
        assert_eq!((&head["status_code"], &head["body"]), (&json!(200), &json!("")));
    }

    #[test]
    fn bodies_come_as_json_text_or_base64() {
        let with = |kind: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n");
            let address = server(vec![[head.as_bytes(), body].concat()]);
            run(&local(), json!({"input": format!("http://{address}")})).unwrap()
        };
        let got = with("application/problem+json", b"{\"a\":[1]}");
        assert_eq!((&got["body"], &got["encoding"]), (&json!({"a": [1]}), &json!("json")));
        assert_eq!(got["headers"]["set-cookie"], json!(["a", "b"]));
        assert_eq!(with("text/html; charset=ISO-8859-1", b"\xe4")["body"], "ä");
        let got = with("image/png", b"\x89PNG\0");
        assert_eq!((&got["body"], &got["encoding"]), (&json!("iVBORwA="), &json!("base64")));
    }

    #[test]
    fn packed_bodies_are_unpacked_within_the_limit() {
        use flate2::{Compression, write};
        let pack = |text: &[u8]| {
            let mut gzip = write::GzEncoder::new(Vec::new(), Compression::best());
            let mut zlib = write::ZlibEncoder::new(Vec::new(), Compression::best());
            let mut bare = write::DeflateEncoder::new(Vec::new(), Compression::best());
            gzip.write_all(text).unwrap();
            zlib.write_all(text).unwrap();
            bare.write_all(text).unwrap();
            [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap()), ("deflate", bare.finish().unwrap())]
        };
        let get = |coding: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n\r\n");
            let address = server(vec![[head.as_bytes(), body].concat()]);
            run(&local(), json!({"input": format!("http://{address}")}))
        };
        for (coding, body) in pack(b"hello") {
            let got = get(coding, &body).unwrap();
            assert_eq!((&got["body"], &got["headers"]["content-encoding"]), (&json!("hello"), &Value::Null));
        }
        let limit = Tools::default().http_request.max_response_size as usize;
        for (coding, body) in pack(&vec![0; limit + 1]) {
            assert!(body.len() < limit / 100);
            assert_eq!(get(coding, &body).unwrap_err().class(), Class::Tool);
        }
        assert_eq!(get("gzip", b"not at all").unwrap_err().class(), Class::Remote);
        assert_eq!(get("br", b"as it is").unwrap()["body"], "as it is");
    }

    #[test]
    fn configured_headers_are_sent_unless_given() {
        let server = echo::Server::start().unwrap();
        let mut call = local();
        let mut settings = Tools::default();
        settings.http_request.default_headers = [("X-A".into(), "a".into()), ("X-B".into(), "b".into())].into();
        call.settings = Arc::new(settings);
        let params = json!({"input": format!("http://{}", server.address), "headers": {"x-b": "c"}});
        let seen = run(&call, params).unwrap()["body"]["headers"].take();
        assert_eq!(
            (&seen["x-a"], &seen["x-b"], &seen["accept-encoding"]),
            (&json!("a"), &json!("c"), &json!("gzip, deflate"))
        );
    }

    #[test]
    fn every_hop_is_checked() {
        for target in [
            "http://127.0.0.2/",
            "http://169.254.169.254/latest",
            "http://[::1]/",
            "http://2130706434/",
            "file:///etc/passwd",
        ] {
            let address =
                server(vec![format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n").into()]);
            let error = run(&local(), json!({"input": format!("http://{address}")})).unwrap_err();
            assert_eq!(error.class(), Class::Denied, "{target} {error}");
        }
        let error = run(&call(&[]), json!({"input": "http://127.0.0.1:1/"})).unwrap_err();
        assert_eq!(error.class(), Class::Denied);
        assert_eq!(run(&local(), json!({"input": "ftp://127.0.0.1/"})).unwrap_err().class(), Class::Usage);
    }

    #[test]
    fn secrets_stay_with_their_origin_and_methods_change_as_browsers_do() {
        let other = echo::Server::start().unwrap();
        let redirect = |status: u16, target: String| {
            format!("HTTP/1.1 {status} x\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n")
        };
        let first = server(vec![redirect(302, format!("http://{}/", other.address)).into()]);
        let params = json!({
            "input": format!("http://{first}"), "method": "POST", "body": {"a": 1},
            "headers": {"Cookie": "c", "X-Plain": "p"}, "auth": {"type": "custom", "headers": {"X-Sign": "s"}},
        });
        let got = run(&local(), params.clone()).unwrap();
        let headers = &got["body"]["headers"];
        assert_eq!((&got["body"]["method"], &got["redirects"]), (&json!("GET"), &json!(1)));
        assert_eq!(headers["x-plain"], "p");
        for gone in ["cookie", "x-sign", "content-type"] {
            assert_eq!(headers.get(gone), None, "{gone}");
        }
        let first = server(vec![redirect(307, format!("http://{}/", other.address)).into()]);
        let mut params = params;
        params["input"] = format!("http://{first}").into();
        let got = run(&local(), params).unwrap();
        assert_eq!((&got["body"]["method"], &got["body"]["body"]), (&json!("POST"), &json!("{\"a\":1}")));
    }

    #[test]
    fn redirects_have_an_end() {
        let server = echo::Server::start().unwrap();
        let at = format!("http://{}/redirect/9", server.address);
        assert!(run(&local(), json!({"input": at})).unwrap_err().text().contains("more than 5 redirects"));
        let got = run(&local(), json!({"input": at, "follow_redirects": false})).unwrap();
        assert_eq!((&got["status_code"], &got["headers"]["location"]), (&json!(302), &json!("/redirect/8")));
    }

    #[test]
    fn large_bodies_are_refused_whether_announced_or_not() {
        let mut call = local();
        let mut settings = Tools::default();
        settings.http_request.max_response_size = 1000;
        call.settings = Arc::new(settings);
        let long = "x".repeat(2000);
        for head in ["Content-Length: 2000\r\n\r\n", "\r\n", "Transfer-Encoding: chunked\r\n\r\n7d0\r\n"] {
            let address = server(vec![format!("HTTP/1.1 200 OK\r\n{head}{long}").into()]);
            let error = run(&call, json!({"input": format!("http://{address}")})).unwrap_err();
            assert!(error.text().contains("larger than 1000 bytes"), "{error}");
        }
    }

    #[test]
    fn retries_happen_when_asked_for() {
        let busy = b"HTTP/1.1 503 x\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_vec();
        let fine = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
        let address = server(vec![busy.clone(), Vec::new(), fine]);
        let at = format!("http://{address}");
        let got = run(&local(), json!({"input": at, "retry": {"initial_delay_ms": 1}})).unwrap();
        assert_eq!((&got["status_code"], &got["attempts"], &got["body"]), (&json!(200), &json!(3), &json!("ok")));
        let at = format!("http://{}", server(vec![busy]));
        assert_eq!(run(&local(), json!({"input": at})).unwrap()["status_code"], 503);
        let slow = b"HTTP/1.1 503 x\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n".to_vec();
        let at = format!("http://{}", server(vec![slow]));
        assert_eq!(
            run(&local(), json!({"input": at, "retry": {}})).unwrap()["attempts"],
            1,
            "the pause outlasts the call"
        );
    }

    #[test]
    fn a_silent_server_meets_the_deadline_and_a_cancel() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let error = run(&local(), json!({"input": at, "timeout": 0.2})).unwrap_err();
        assert_eq!(error.class(), Class::Timeout, "{error}");
        let call = local();
        let cancel = call.cancel.clone();
        let stopper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            cancel.cancel();
        });
        assert_eq!(run(&call, json!({"input": at})).unwrap_err().class(), Class::Interrupted);
        stopper.join().unwrap();
    }

    #[test]
    fn a_broken_other_side_is_remote() {
        for answer in [&b""[..], b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"] {
            let at = format!("http://{}", server(vec![answer.to_vec()]));
            assert_eq!(run(&local(), json!({"input": at})).unwrap_err().class(), Class::Remote);
        }
        let at = format!("https://{}", server(vec![b"not TLS".to_vec()]));
        assert_eq!(run(&local(), json!({"input": at, "timeout": 5})).unwrap_err().class(), Class::Remote);
    }

    #[test]
    fn settings_narrow_and_headers_cannot_be_smuggled() {
        let mut call = local();
        let mut settings = Tools::default();
        settings.http_request.allowed_hosts = vec!["example.com".into(), "10.0.0.0/8".into()];
        call.settings = Arc::new(settings);
        assert_eq!(run(&call, json!({"input": "http://127.0.0.1:1"})).unwrap_err().class(), Class::Denied);
        for headers in [json!({"A": "b\r\nC: d"}), json!({"A b": "c"}), json!({"Host": "x"}), json!({"A": [1]})] {
            let error = run(&local(), json!({"input": "http://127.0.0.1:1", "headers": headers})).unwrap_err();
            assert_eq!(error.class(), Class::Usage, "{headers}");
        }
    }
}
