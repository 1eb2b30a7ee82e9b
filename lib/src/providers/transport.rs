//! A request to a service and its answer, over HTTP or from a recording; what went wrong in the words of our errors.

use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use url::Url;

use super::cassette::{Asked, Cassette};
use super::complaint;
use crate::error::{Class, Error, Result, reason};
use crate::log::redact;
use crate::tools::Call;
use crate::tools::http::{self, Waits};

/// Largest answer, in bytes.
const LARGEST: usize = 64 << 20;
/// Largest answer that tells an error.
const LARGEST_ERROR: u64 = 1 << 20;
/// Longest wait a service may ask for before the request is repeated.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Why there is no answer.
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether the same request may do better later.
    pub(super) again: bool,
    /// How long the service wants to be left alone.
    pub(super) after: Option<Duration>,
    /// Whether the key was refused.
    pub(super) key: bool,
}

impl From<Error> for Failure {
    /// What may be passing is tried again.
    fn from(error: Error) -> Self {
        let again = matches!(error.class(), Class::Remote | Class::Timeout);
        Failure { error, again, after: None, key: false }
    }
}

/// What is sent where.
pub(super) struct Question<'a> {
    /// The provider, for messages.
    pub(super) name: &'a str,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'a str, String)>,
    pub(super) body: &'a Value,
    pub(super) key: Option<&'a str>,
    pub(super) waits: Waits,
}

/// What takes an answer: its media type at first, then its bytes as they come; false when it needs no more.
pub(super) trait Take {
    /// Whether it is fit for what comes.
    fn begin(&mut self, media_type: &str);
    /// The next bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Result<bool>;
    /// The end; `cut`: the connection broke instead of ending properly.
    fn end(&mut self, cut: Option<&io::Error>) -> Result<()>;
}

/// Sends `question` and hands the answer to `take`.
pub(super) fn ask(
    question: &Question<'_>,
    cassette: &Cassette,
    call: &Call,
    take: &mut dyn Take,
) -> Result<(), Failure> {
    if let Some(played) = cassette.play(&question.url, question.body) {
        let played = played?;
        let mut body = &played.body[..];
        return answer(question, played.status, &played.headers, &mut body, call, take);
    }
    let text = serde_json::to_vec(question.body).map_err(|error| Error::new(Class::Bug, error.to_string()))?;
    let headers: Vec<(&str, &str)> = question.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let within = |error: Error| error.within(format_args!("provider {}", question.name));
    let streamed = http::stream(&question.url, &headers, &text, question.waits, call).map_err(within)?;
    let (status, headers) = (streamed.status, streamed.headers.clone());
    let asked = Asked { url: &question.url, request: question.body, status, headers: headers.clone() };
    let mut tape = cassette.tape(streamed, question.key, asked);
    let result = answer(question, status, &headers, &mut tape, call, take);
    // What failed half-way is worth keeping, too.
    tape.end()?;
    result
}

fn answer(
    question: &Question<'_>,
    status: u16,
    headers: &[(String, String)],
    body: &mut dyn Read,
    call: &Call,
    take: &mut dyn Take,
) -> Result<(), Failure> {
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    if !(200..300).contains(&status) {
        let mut text = Vec::new();
        // A body that breaks off tells what it told.
        let _ = body.take(LARGEST_ERROR).read_to_end(&mut text);
        call.check()?;
        return Err(refusal(question.name, status, &header, &text));
    }
    let within = |error: Error| error.within(format_args!("provider {}", question.name));
    let kind = header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim().to_lowercase();
    take.begin(&kind);
    let mut buffer = vec![0; 16 << 10];
    let mut total = 0usize;
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return take.end(None).map_err(|error| within(error).into()),
            Ok(count) => {
                total += count;
                if total > LARGEST {
                    let error = Error::new(Class::Remote, format!("the answer is larger than {LARGEST} bytes"));
                    return Err(Failure { error: within(error), again: false, after: None, key: false });
                }
                match take.bytes(&buffer[..count]).map_err(within) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                call.check()?;
                return take.end(Some(&error)).map_err(|error| within(error).into());
            }
        }
    }
}

/// The error of a connection that broke.
pub(super) fn broken(cut: Option<&io::Error>) -> Error {
    match cut {
        Some(error) if error.kind() == io::ErrorKind::TimedOut => Error::new(Class::Timeout, reason(error)),
        Some(error) => Error::new(Class::Remote, format!("the answer broke off: {}", reason(error))),
        None => Error::new(Class::Remote, "the answer ended before it was complete"),
    }
}

/// What a status other than success means.
fn refusal<'h>(name: &str, status: u16, header: &dyn Fn(&str) -> Option<&'h str>, body: &[u8]) -> Failure {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    // Gemini's stream fails with a list of one.
    let json = json.get(0).unwrap_or(&json);
    let said = complaint(json).unwrap_or_else(|| {
        if json.is_object() {
            return String::new();
        }
        let text = String::from_utf8_lossy(body);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        text.trim().to_owned()
    });
    let said = redact(&said);
    let code = ["/error/code", "/error/type", "/error/status", "/code", "/type"];
    let code = code.iter().find_map(|place| json.pointer(place)?.as_str()).unwrap_or_default();
    let text = match &said[..] {
        "" => format!("provider {name}: status {status}"),
        said => format!("provider {name}: status {status}: {said}"),
    };
    let broke = matches!(code, "insufficient_quota" | "billing_error") || status == 402;
    let bad_key = status == 401 || code == "invalid_api_key" || said.contains("API key not valid");
    let (class, hint) = match status {
        _ if broke => (Class::Budget, Some("The account of the service has nothing left.".to_owned())),
        _ if bad_key => {
            (Class::Denied, Some(format!("Its key is wrong; llmspell-kernel keys set {name} sets another.")))
        }
        403 => (Class::Denied, None),
        404 => (Class::NotFound, Some("Is the name of the model right?".to_owned())),
        408 | 504 => (Class::Timeout, None),
        429 => (Class::Budget, Some("The service allows no more requests for now.".to_owned())),
        300..400 => (Class::Remote, Some(format!("Set the base_url of providers.{name} to where it moved."))),
        _ => (Class::Remote, None),
    };
    let error = hint.into_iter().fold(Error::new(class, text), Error::hint);
    let again = match header("x-should-retry") {
        Some("true") => true,
        Some("false") => false,
        _ => !broke && (matches!(status, 408 | 409 | 429) || status >= 500 && status != 501),
    };
    let after = wait(header, json);
    let too_long = after.is_some_and(|after| after > LONGEST_WAIT);
    Failure { error, again: again && !too_long, after, key: bad_key }
}

/// How long the service wants to be left alone: milliseconds, seconds, or a date; Gemini says it in the body.
fn wait<'h>(header: &dyn Fn(&str) -> Option<&'h str>, body: &Value) -> Option<Duration> {
    let seconds = |text: &str| Duration::try_from_secs_f64(text.trim().parse().ok()?).ok();
    if let Some(millis) = header("retry-after-ms").and_then(seconds) {
        return Some(millis / 1000);
    }
    if let Some(text) = header("retry-after") {
        return seconds(text).or_else(|| {
            let date = jiff::fmt::rfc2822::parse(text).ok()?;
            let then = SystemTime::from(date.timestamp());
            Some(then.duration_since(SystemTime::now()).unwrap_or_default())
        });
    }
    let details = body.pointer("/error/details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail["retryDelay"].as_str())?;
    seconds(delay.strip_suffix('s')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, headers: &[(&str, &'static str)], body: &str) -> Failure {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        refusal("p", status, &header, body.as_bytes())
    }

    #[test]
    fn refusals_have_their_class_and_say_what_the_service_said() {
        for (status, body, class, again, text) in [
            (
                401,
                r#"{"error":{"message":"bad key","code":"invalid_api_key"}}"#,
                Class::Denied,
                false,
                "provider p: status 401: bad key",
            ),
            (
                400,
                r#"[{"error":{"message":"API key not valid. x","status":"INVALID_ARGUMENT"}}]"#,
                Class::Denied,
                false,
                "provider p: status 400: API key not valid. x",
            ),
            (400, r#"{"object":"error","message":"flat"}"#, Class::Remote, false, "provider p: status 400: flat"),
            (402, "{}", Class::Budget, false, "provider p: status 402"),
            (
                404,
                r#"{"error":"model 'x' not found"}"#,
                Class::NotFound,
                false,
                "provider p: status 404: model 'x' not found",
            ),
            (
                429,
                r#"{"error":{"message":"slow","code":"insufficient_quota"}}"#,
                Class::Budget,
                false,
                "provider p: status 429: slow",
            ),
            (429, r#"{"error":{"message":"slow"}}"#, Class::Budget, true, "provider p: status 429: slow"),
            (422, r#"{"detail":[{"msg":"x"}]}"#, Class::Remote, false, "provider p: status 422: [{\"msg\":\"x\"}]"),
            (
                503,
                "<html>\n\u{1b}[31mbusy</html>",
                Class::Remote,
                true,
                "provider p: status 503: <html>  [31mbusy</html>",
            ),
            (529, "", Class::Remote, true, "provider p: status 529"),
            (504, "", Class::Timeout, true, "provider p: status 504"),
        ] {
            let failure = of(status, &[], body);
            assert_eq!((failure.error.class(), failure.again, failure.error.text()), (class, again, text));
        }
    }

    #[test]
    fn services_say_when_to_come_back() {
        let after = |headers: &[(&str, &'static str)], body: &str| of(429, headers, body).after;
        assert_eq!(after(&[("retry-after-ms", "1500"), ("retry-after", "9")], ""), Some(Duration::from_millis(1500)));
        assert_eq!(after(&[("retry-after", "0.5")], ""), Some(Duration::from_millis(500)));
        assert_eq!(after(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], ""), Some(Duration::ZERO));
        let body = r#"{"error":{"details":[{"@type":"x"},{"retryDelay":"34s"}]}}"#;
        assert_eq!(after(&[], body), Some(Duration::from_secs(34)));
        assert_eq!(after(&[("retry-after", "soon")], ""), None);
        assert!(!of(429, &[("retry-after", "3600")], "").again);
        assert!(!of(503, &[("x-should-retry", "false")], "").again);
        assert!(of(400, &[("x-should-retry", "true")], "").again);
    }
}
