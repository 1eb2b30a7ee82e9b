//! What is where: paths, methods, documents, and the answers to what does not fit.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Told;
use super::door::{Door, Refusal};
use super::work::{Done, Work};
use crate::error::{CLASSES, Class, Error, Result};
use crate::fleet::SCHEMA;
use crate::home::check_id;

/// The page, in which every `NONCE` is replaced.
const DASHBOARD: &str = include_str!("dashboard.html");
/// Largest body of a request.
const BODY: usize = 64 << 10;
/// How long it may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Most kernels a request may name.
const NAMED: usize = 1000;
/// Most kernels one request may start.
const STARTED: usize = 100;

pub(super) struct Site {
    pub(super) door: Door,
    pub(super) work: Work,
    pub(super) on: Told,
}

type Answer = Response<Full<Bytes>>;

/// Answers a request, whatever it is.
pub(super) async fn answer(site: Arc<Site>, request: Request<Incoming>) -> std::result::Result<Answer, Infallible> {
    let mut answer = match route(&site, request).await {
        Ok(answer) => answer,
        Err(Wrong { status, error }) => {
            let mut answer = document(status, failed(&error));
            if status == StatusCode::UNAUTHORIZED {
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            answer
        }
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(answer)
}

/// A refusal and its status.
struct Wrong {
    status: StatusCode,
    error: Error,
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Wrong { status: status_of(error.class().row().exit), error }
    }
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        let (status, text, hint) = match refusal {
            Refusal::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "host: not a name of this service",
                "Use its address, or allow the name with --host.",
            ),
            Refusal::Origin => {
                (StatusCode::FORBIDDEN, "origin: another site's page", "Use the page of this service itself.")
            }
            Refusal::Token => (
                StatusCode::UNAUTHORIZED,
                "token: missing or wrong",
                "Send the header Authorization: Bearer with the token of the service.",
            ),
        };
        Wrong { status, error: Error::new(Class::Denied, text).hint(hint) }
    }
}

async fn route(site: &Site, request: Request<Incoming>) -> std::result::Result<Answer, Wrong> {
    site.door.admits(request.headers())?;
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(&path).split('/').collect();
    let reads = |command: &str| matches!(command, "list" | "health" | "status" | "metrics");
    match (&parts[..], request.method()) {
        ([""], &Method::GET | &Method::HEAD) => Ok(page()),
        (["health"], &Method::GET | &Method::HEAD) => look(site, &request, "health", &[], true).await,
        (["metrics"], &Method::GET | &Method::HEAD) => look(site, &request, "prometheus", &[], false).await,
        (["api", command, names @ ..], &Method::GET | &Method::HEAD) if reads(command) && names.len() < 2 => {
            look(site, &request, command, names, false).await
        }
        (["api", "stop" | "restart" | "spawn"], &Method::POST) => {
            let trusted = site.door.trusts(request.headers());
            // Read in any case, so that the answer is not lost on one who still sends.
            let body = body(request.into_body()).await;
            trusted?;
            act(site, parts[1].to_owned(), &body?).await
        }
        ([""] | ["health"] | ["metrics"], _) => Err(method("GET, HEAD")),
        (["api", command, names @ ..], _) if reads(command) && names.len() < 2 => Err(method("GET, HEAD")),
        (["api", "stop" | "restart" | "spawn"], _) => Err(method("POST")),
        _ => Err(Wrong {
            status: StatusCode::NOT_FOUND,
            error: Error::new(Class::NotFound, "path: nothing is here")
                .hint("Try /, /metrics, /health, /api/list, /api/health, /api/status or /api/metrics."),
        }),
    }
}

fn method(allowed: &'static str) -> Wrong {
    let error = Error::new(Class::Usage, format!("method: only {allowed} here"));
    Wrong { status: StatusCode::METHOD_NOT_ALLOWED, error }
}

fn page() -> Answer {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let mut answer = Response::new(Full::from(DASHBOARD.replace("NONCE", &nonce)));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// The document of a command that only looks. `judged`: its answer is also the status.
async fn look<B>(
    site: &Site,
    request: &Request<B>,
    command: &str,
    names: &[&str],
    judged: bool,
) -> std::result::Result<Answer, Wrong> {
    if site.door.is_guarded() {
        site.door.trusts(request.headers())?;
    }
    let mut words: Vec<String> = match command {
        "prometheus" => vec!["metrics".into(), "--prometheus".into()],
        command => vec![command.into(), "--json".into()],
    };
    words.push("--quiet".into());
    words.extend(names_of(names.iter().map(|name| (*name).to_owned()).collect())?);
    let done = site.work.look(&words).await?;
    if command == "prometheus" && done.status == 0 {
        let mut answer = Response::new(Full::from(done.out));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Ok(answer);
    }
    Ok(told(done, judged))
}

/// What may stand in a request that changes something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    kernels: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    /// A file in `~/.llmspell/kernels`.
    config: Option<String>,
    engine: Option<String>,
    name: Option<String>,
    count: Option<usize>,
    restart: Option<String>,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

fn unfit(status: StatusCode, text: String) -> Wrong {
    Wrong { status, error: Error::new(Class::Usage, text) }
}

async fn body(body: Incoming) -> std::result::Result<Bytes, Wrong> {
    let large = || unfit(StatusCode::PAYLOAD_TOO_LARGE, format!("body: larger than {BODY} bytes"));
    if body.size_hint().lower() > BODY as u64 {
        return Err(large());
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, BODY).collect()).await {
        Err(_) => Err(unfit(StatusCode::REQUEST_TIMEOUT, "body: took too long".into())),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(large()),
        Ok(Err(_)) => Err(unfit(StatusCode::BAD_REQUEST, "body: was cut short".into())),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

async fn act(site: &Site, command: String, body: &[u8]) -> std::result::Result<Answer, Wrong> {
    let json = |error: serde_json::Error| unfit(StatusCode::BAD_REQUEST, format!("body: {error}"));
    let mut words = vec![command.clone(), "--json".into(), "--quiet".into()];
    if command == "spawn" {
        words.extend(new(serde_json::from_slice(body).map_err(json)?)?);
    } else {
        let Named { kernels } = serde_json::from_slice(body).map_err(json)?;
        if kernels.is_empty() || kernels.len() > NAMED {
            return Err(unfit(StatusCode::BAD_REQUEST, format!("kernels: name 1 to {NAMED}")));
        }
        words.extend(names_of(kernels)?);
    }
    let done = site.work.act(&words).await?;
    (site.on)(&format!("{} with status {}", words.join(" "), done.status));
    Ok(told(done, true))
}

/// Names as words of a command line: none can be a flag or a file.
fn names_of(names: Vec<String>) -> Result<Vec<String>> {
    if names.is_empty() {
        return Ok(names);
    }
    names.iter().try_for_each(|name| check_id(name).map_err(|error| error.within("kernels")))?;
    Ok(std::iter::once("--".to_owned()).chain(names).collect())
}

/// The words behind `spawn`. Who is let in here does not choose files, permissions or variables.
fn new(new: New) -> Result<Vec<String>> {
    let mut words = Vec::new();
    if let Some(name) = &new.name {
        check_id(name)?;
        words.push(format!("--name={name}"));
    }
    if let Some(count) = new.count {
        if !(1..=STARTED).contains(&count) {
            return Err(Error::new(Class::Usage, format!("count: {count} is not between 1 and {STARTED}")));
        }
        words.push(format!("--count={count}"));
    }
    words.extend(new.restart.map(|policy| format!("--restart={policy}")));
    for (name, value) in new.labels {
        if name.contains('=') {
            return Err(Error::new(Class::Usage, format!("labels: {name:?} has a =")));
        }
        words.push(format!("--label={name}={value}"));
    }
    words.push("--".into());
    match (new.config, new.engine) {
        (Some(config), engine) => {
            check_id(&config).map_err(|error| error.within("config"))?;
            words.push(config);
            words.extend(engine);
        }
        (None, Some(_)) => return Err(Error::new(Class::Usage, "engine: needs a config")),
        (None, None) => {}
    }
    Ok(words)
}

/// What a command printed, with the status that fits. A document that tells of several is one also when some failed.
fn told(done: Done, judged: bool) -> Answer {
    let said: Value = serde_json::from_slice(&done.out).unwrap_or_default();
    let status = match done.status {
        0 => StatusCode::OK,
        // The answer is no, which to a question is an answer.
        1 if !judged && said.get("failed").is_none() => StatusCode::OK,
        status => status_of(u8::try_from(status).unwrap_or(70)),
    };
    if done.out.is_empty() {
        // A word that does not fit is refused before there is a document.
        let said = String::from_utf8_lossy(&done.said);
        let line = said.lines().next().unwrap_or_default();
        let text = line.split_once(": ").map_or("the command said nothing", |(_, text)| text);
        let class = CLASSES.iter().find(|row| i32::from(row.exit) == done.status).map_or(Class::Bug, |row| row.class);
        return document(status_of(class.row().exit), failed(&Error::new(class, text)));
    }
    let mut answer = Response::new(Full::from(done.out));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The shape of every failure, here as from the commands.
fn failed(error: &Error) -> Value {
    json!({
        "schema_version": SCHEMA,
        "failed": { "class": error.class().row().name, "error": error.text(), "hint": error.next_step() },
    })
}

fn document(status: StatusCode, document: Value) -> Answer {
    let mut answer = Response::new(Full::from(format!("{document}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The status of HTTP for an exit status.
fn status_of(exit: u8) -> StatusCode {
    let class = CLASSES.iter().find(|row| row.exit == exit).map(|row| row.class);
    match class {
        Some(Class::Usage) => StatusCode::BAD_REQUEST,
        Some(Class::Config | Class::Absent) => StatusCode::UNPROCESSABLE_ENTITY,
        Some(Class::Denied) => StatusCode::FORBIDDEN,
        Some(Class::NotFound) => StatusCode::NOT_FOUND,
        Some(Class::Conflict) => StatusCode::CONFLICT,
        Some(Class::Timeout) => StatusCode::GATEWAY_TIMEOUT,
        Some(Class::Remote) => StatusCode::BAD_GATEWAY,
        Some(Class::Budget) => StatusCode::TOO_MANY_REQUESTS,
        Some(Class::Tool | Class::Script) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>> {
        new(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn nothing_a_client_says_becomes_a_flag_or_a_file() {
        assert_eq!(names_of(vec!["pool".into()]).unwrap(), ["--", "pool"]);
        assert_eq!(names_of(vec!["-x".into()]).unwrap(), ["--", "-x"]);
        for bad in ["../x", "a/b.json", "", "a b", "\u{0}"] {
            assert_eq!(names_of(vec![bad.into()]).unwrap_err().class(), Class::Usage, "{bad}");
        }
        let all = r#"{"config": "a.toml", "engine": "lua", "name": "n", "count": 2, "restart": "always", "labels": {"x": "--y"}}"#;
        assert_eq!(
            words(all).unwrap(),
            ["--name=n", "--count=2", "--restart=always", "--label=x=--y", "--", "a.toml", "lua"]
        );
        assert_eq!(words("{}").unwrap(), ["--"]);
        for bad in [r#"{"config": "/etc/x"}"#, r#"{"config": "../x"}"#, r#"{"count": 0}"#, r#"{"engine": "lua"}"#] {
            assert_eq!(words(bad).unwrap_err().class(), Class::Usage, "{bad}");
        }
        assert!(serde_json::from_str::<New>(r#"{"env": {}}"#).is_err());
    }

    #[test]
    fn exit_statuses_have_their_like() {
        let done = |status, text: &str| {
            let said = b"llmspell-fleet: --x: no".to_vec();
            told(Done { status, out: text.as_bytes().to_vec(), said }, true).status().as_u16()
        };
        assert_eq!(
            [done(0, "{}"), done(1, "{}"), done(5, r#"{"failed": {}}"#), done(6, "{}"), done(0, "")],
            [200, 503, 404, 409, 500]
        );
    }
}
