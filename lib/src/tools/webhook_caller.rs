//! `webhook_caller`: delivers an event to a webhook, signed, and tries again while the other side has trouble.

use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::http::{self, Header, Request, Response};
use super::web::{self, Method};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example};
use crate::error::{Class, Error, Result};

/// The webhook tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "webhook_caller",
    aliases: &["webhook"],
    category: "api",
    summary: "deliver a JSON payload to a webhook, signed by HMAC, with retries",
    level: Level::Restricted,
    effects: &[Effect::Network],
    spellings: &[
        Spelling::Param("url", "input"),
        Spelling::Param("webhook_url", "input"),
        Spelling::Param("body", "payload"),
        Spelling::Param("data", "payload"),
        Spelling::Param("retries", "max_retries"),
    ],
    examples: &[
        example(
            "an event",
            r#"{"input": "$HTTP/hook", "payload": {"event": "done"}}"#,
            r#"{"success": true, "status_code": 200, "retries_attempted": 0,
                "response": {"json": {"method": "POST", "body": "{\"event\":\"done\"}"}}}"#,
        ),
        example(
            "signed as GitHub signs",
            r#"{"input": "$HTTP/hook", "payload": "Hello, World!", "secret": "It's a Secret to Everybody"}"#,
            r#"{"response": {"json": {"headers":
                {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}}}}"#,
        ),
        example(
            "refused for good",
            r#"{"input": "$HTTP/status/410", "payload": {}}"#,
            r#"{"success": false, "status_code": 410, "status_text": "Gone", "retries_attempted": 0}"#,
        ),
        example(
            "trouble over there",
            r#"{"input": "$HTTP/status/503", "payload": {}, "max_retries": 1, "initial_delay_ms": 1}"#,
            r#"{"success": false, "status_code": 503, "retries_attempted": 1}"#,
        ),
    ],
};

/// Longest pause between two attempts, whatever the other side asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// Delivers. Connections that fail, 429 and 5xx are tried again; any other status is the answer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Where to.
    #[schemars(length(min = 1))]
    input: String,
    /// What: a text as it is, anything else as JSON.
    #[serde(default = "nothing")]
    payload: Value,
    /// Headers to send.
    #[serde(default)]
    headers: Map<String, Value>,
    /// The method.
    #[serde(default = "post")]
    method: Method,
    /// Signs the body with this secret.
    secret: Option<String>,
    /// How: `github` puts `sha256=HEX` into `signature_header`; `standard` is Standard Webhooks, three headers.
    #[serde(default)]
    signature: Signature,
    /// For `github`.
    #[serde(default = "signature_header")]
    signature_header: String,
    /// How often it is tried again.
    #[serde(default = "three")]
    #[schemars(range(max = 20))]
    max_retries: u32,
    /// First pause, milliseconds; each is twice the one before, Retry-After may ask for more.
    #[serde(default = "half_a_second")]
    #[schemars(range(max = 60_000))]
    initial_delay_ms: u64,
    /// Longest time of one attempt, seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
}

fn nothing() -> Value {
    json!({})
}

fn post() -> Method {
    Method::Post
}

fn signature_header() -> String {
    "X-Hub-Signature-256".into()
}

fn three() -> u32 {
    3
}

fn half_a_second() -> u64 {
    500
}

fn thirty() -> f64 {
    30.0
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Signature {
    #[default]
    Github,
    Standard,
}

/// Delivers.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let request = prepare(&params, call)?;
    let started = Instant::now();
    let mut pause = Duration::from_millis(params.initial_delay_ms);
    let mut retries = 0;
    let outcome = loop {
        let outcome = request.send_within(web::seconds(params.timeout), call);
        // The limit of one attempt is no reason to stop; that of the call is.
        call.check()?;
        let wait = match &outcome {
            Ok(response) if response.status == 429 || response.status >= 500 => {
                let asked = response.header("retry-after").and_then(|value| value.trim().parse().ok());
                Some(asked.map_or(pause, Duration::from_secs).min(LONGEST))
            }
            Err(error) if matches!(error.class(), Class::Remote | Class::Timeout) => Some(pause),
            _ => None,
        };
        match wait {
            Some(wait) if retries < params.max_retries && call.remaining().is_none_or(|left| wait < left) => {
                retries += 1;
                call.progress(format!("attempt {retries} failed, next in {} ms", wait.as_millis()));
                call.sleep(wait)?;
                pause = (pause * 2).min(LONGEST);
            }
            _ => break outcome,
        }
    };
    let response = outcome.map_err(|error| match retries {
        0 => error,
        _ => error.within(format!("{} attempts", retries + 1)),
    })?;
    Ok(answer(&params, &response, retries, started.elapsed()))
}

fn prepare(params: &Params, call: &Call) -> Result<Request> {
    let url = http::parse(&params.input, "input")?;
    let mut request = web::with_headers(Request::new(params.method.name(), url, &call.settings)?, &params.headers)?;
    let body = match &params.payload {
        Value::String(text) => text.clone(),
        json => json.to_string(),
    };
    // The same for all attempts, so that the other side can tell a repetition.
    let id = uuid::Uuid::new_v4().to_string();
    if let Some(secret) = &params.secret {
        match params.signature {
            Signature::Github => {
                let mac = sign(secret.as_bytes(), &[body.as_bytes()]);
                let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
                request = request.header(Header::new(&params.signature_header, &format!("sha256={hex}"), false)?);
            }
            Signature::Standard => {
                let now =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
                let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
                let key = STANDARD.decode(encoded).map_err(|e| {
                    Error::new(Class::Usage, format!("secret: not base64: {e}"))
                        .hint("Standard Webhooks secrets are whsec_ and base64.")
                })?;
                let mac = sign(&key, &[id.as_bytes(), b".", now.as_bytes(), b".", body.as_bytes()]);
                for (name, value) in [
                    ("webhook-id", id.as_str()),
                    ("webhook-timestamp", &now),
                    ("webhook-signature", &format!("v1,{}", STANDARD.encode(mac))),
                ] {
                    request = request.header(Header::new(name, value, false)?);
                }
            }
        }
    }
    request = request.default_header(Header::new("idempotency-key", &id, false)?);
    if matches!(params.method, Method::Get | Method::Head) {
        return Ok(request);
    }
    let kind = if params.payload.is_string() { "text/plain; charset=utf-8" } else { "application/json" };
    request.body(body, kind)
}

fn sign(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn answer(params: &Params, response: &Response, retries: u32, elapsed: Duration) -> Answer {
    let text = response.text();
    let parsed = text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let success = response.is_success();
    let result = json!({
        "success": success, "webhook_url": response.url.as_str(), "status_code": response.status,
        "status_text": web::reason(response.status),
        "response": {"body": text, "body_is_json": parsed.is_some(), "json": parsed, "headers": web::headers(response)},
        "response_time_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), "retry_count": retries,
        "retries_attempted": retries, "max_retries": params.max_retries,
    });
    let verb = if success { "delivered" } else { "refused" };
    Answer::new("call", result).message(format!("{verb}: status {} after {} attempts", response.status, retries + 1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::bad;
    use super::*;

    #[test]
    fn signatures_are_those_of_the_standards() {
        // RFC 4231, 4.3.
        let mac = sign(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        // The example of the Standard Webhooks libraries.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mac = sign(&key, &[b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}"]);
        assert_eq!(STANDARD.encode(mac), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn wrong_calls_are_refused() {
        bad(
            "webhook_caller",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "nonsense"}), Class::Usage),
                (json!({"input": "file:///etc/passwd"}), Class::Usage),
                (json!({"input": "http://127.0.0.1/"}), Class::Denied),
                (json!({"input": "http://127.0.0.1/", "max_retries": 1000}), Class::Usage),
                (json!({"input": "http://127.0.0.1/", "secret": "!", "signature": "standard"}), Class::Usage),
                (json!({"input": "http://127.0.0.1/", "secret": "x", "signature_header": "a b"}), Class::Usage),
            ],
        );
    }
}
