//! HTTP for tools: one request with its redirects, the policy asked about the host of every hop; `net` connects, `wire` is
//! HTTP/1.1. Bodies that come as gzip or deflate are unpacked, never beyond the size limit. No cookies are kept.

mod wire;

use std::io::Read;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::Url;

use super::{Call, net};
use crate::config::Tools;
use crate::error::{Class, Error, Result};
use crate::security::listed;

/// Headers that follow from the URL and the body.
const OWN_HEADERS: &[&str] =
    &["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"];

/// A header to send; a secret one stays with the origin it was meant for.
#[derive(Clone)]
pub struct Header {
    /// In lower case.
    name: String,
    value: String,
    secret: bool,
}

/// What is sent, and how far it may lead.
#[derive(Clone)]
pub struct Request {
    /// Where it goes first.
    pub url: Url,
    method: String,
    headers: Vec<Header>,
    body: Option<Vec<u8>>,
    /// Most redirects that are followed; at 0 the redirect itself is the answer.
    redirects: u32,
    /// Whether more redirects than that are an error.
    strict: bool,
    /// Most bytes of body.
    most: u64,
    /// The only hosts that may be asked; all that the policy allows when it is empty.
    only: Vec<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// Unpacked.
    pub body: Vec<u8>,
    /// Where it came from in the end.
    pub url: Url,
    /// How many redirects led there.
    pub redirects: u32,
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

/// A percent-encoded part of a URL as it was meant.
fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

impl Header {
    /// A header that may be sent. One whose name smells of a secret is one.
    ///
    /// # Errors
    /// `Usage` for what no header can be, and for those that follow from URL and body.
    pub fn new(name: &str, value: &str, secret: bool) -> Result<Self> {
        let wrong = |why: &str| usage(format!("headers.{name}: {why}"));
        let name = name.to_ascii_lowercase();
        // RFC 9110, 5.6.2 and 5.5.
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err(wrong("not a header name"));
        }
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(wrong("follows from the URL and the body"));
        }
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(wrong("has characters a header cannot have"));
        }
        let smells = ["authorization", "cookie", "key", "token", "secret"].iter().any(|part| name.contains(part));
        Ok(Header { name, value: value.to_owned(), secret: secret || smells })
    }

    /// `Authorization: Basic`.
    ///
    /// # Errors
    /// None in practice.
    pub fn basic(username: &str, password: &str) -> Result<Self> {
        Header::new("authorization", &format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))), true)
    }
}

/// `text` as a URL that can be asked: http or https, without a fragment.
///
/// # Errors
/// `Usage`, about the parameter `parameter`.
pub fn parse(text: &str, parameter: &str) -> Result<Url> {
    let mut url = Url::parse(text.trim()).map_err(|e| {
        usage(format!("{parameter}: {text:?} is not a URL: {e}")).hint("It begins with http:// or https://.")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(usage(format!("{parameter}: {} is neither http nor https", url.scheme())));
    }
    url.set_fragment(None);
    Ok(url)
}

impl Request {
    /// A request without a body, with the limits of `[tools.http_request]`. A name and password in the URL become a basic
    /// authentication.
    ///
    /// # Errors
    /// `Usage` when the URL has no host.
    pub fn new(method: &str, mut url: Url, settings: &Tools) -> Result<Self> {
        let mut headers = Vec::new();
        if !url.username().is_empty() {
            headers.push(Header::basic(&decoded(url.username()), &decoded(url.password().unwrap_or_default()))?);
        }
        // Neither has a meaning on the wire.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(usage(format!("{url}: has no host")));
        }
        let settings = &settings.http_request;
        Ok(Request {
            url,
            method: method.to_owned(),
            headers,
            body: None,
            redirects: settings.max_redirects,
            strict: true,
            most: settings.max_response_size,
            only: Vec::new(),
        })
    }

    /// Sends `header`, in place of one of the same name.
    pub fn header(mut self, header: Header) -> Self {
        self.headers.retain(|known| known.name != header.name);
        self.headers.push(header);
        self
    }

    /// Sends `header` unless there is one of that name.
    pub fn default_header(mut self, header: Header) -> Self {
        if !self.has(&header.name) {
            self.headers.push(header);
        }
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|known| known.name == name)
    }

    /// Sends `body`, called `kind` unless a header says otherwise.
    ///
    /// # Errors
    /// `Usage` when `kind` cannot be a header.
    pub fn body(mut self, body: impl Into<Vec<u8>>, kind: &str) -> Result<Self> {
        self.body = Some(body.into());
        Ok(self.default_header(Header::new("content-type", kind, false)?))
    }

    /// Sends `value`.
    ///
    /// # Errors
    /// None in practice.
    pub fn json(self, value: &Value) -> Result<Self> {
        self.body(value.to_string(), "application/json")
    }

    /// Follows no redirect: it is the answer.
    pub fn stay(mut self) -> Self {
        (self.redirects, self.strict) = (0, false);
        self
    }

    /// Most bytes of body, if fewer than the configured ones.
    pub fn most(mut self, bytes: u64) -> Self {
        self.most = self.most.min(bytes);
        self
    }

    /// Asks only these hosts, which are `tools.http_request.allowed_hosts`; all that the policy allows if there are none.
    pub fn only(mut self, hosts: &[String]) -> Self {
        self.only = hosts.to_vec();
        self
    }

    /// Sends it and follows its redirects. Any status is an answer.
    ///
    /// # Errors
    /// `Denied`, `Remote` when the other side fails, `Tool` for too many redirects or too large a body, `Timeout`,
    /// `Interrupted`.
    pub fn send(&self, call: &Call) -> Result<Response> {
        let mut url = self.url.clone();
        let mut method = self.method.clone();
        let mut body = self.body.as_deref();
        let agent = Header::new("user-agent", &call.settings.http_request.user_agent, false)?;
        let mut headers: Vec<_> = self.headers.iter().collect();
        let packed = (!self.has("accept-encoding")).then_some(("accept-encoding", "gzip, deflate"));
        if !self.has("user-agent") {
            headers.push(&agent);
        }
        let mut redirects = 0;
        loop {
            self.allowed(&url)?;
            let pairs = headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).chain(packed);
            let accept = (!self.has("accept")).then_some(("accept", "*/*"));
            let pairs = pairs.chain(accept).collect();
            let message = wire::Message { method: &method, url: &url, headers: pairs, body };
            let answer = wire::exchange(&message, self.most, call)?;
            let location = match answer.status {
                301 | 302 | 303 | 307 | 308 if self.redirects > 0 || self.strict => answer.header("location"),
                _ => None,
            };
            let Some(location) = location else {
                let mut response =
                    Response { status: answer.status, headers: answer.headers, body: answer.body, url, redirects };
                if packed.is_some() {
                    response.unpack(self.most)?;
                }
                return Ok(response);
            };
            redirects += 1;
            if redirects > self.redirects {
                let text = format!("{}: more than {} redirects", self.url, self.redirects);
                return Err(Error::new(Class::Tool, text).hint("Raise tools.http_request.max_redirects."));
            }
            let mut next = url
                .join(location)
                .map_err(|e| Error::new(Class::Remote, format!("{url}: redirect to {location:?}: {e}")))?;
            next.set_fragment(None);
            if !matches!(next.scheme(), "http" | "https") {
                let text = format!("{url}: redirect to {}: neither http nor https", next.scheme());
                return Err(Error::new(Class::Denied, text));
            }
            let becomes_get = match answer.status {
                303 => method != "HEAD",
                301 | 302 => method == "POST",
                _ => false,
            };
            if becomes_get {
                method = "GET".to_owned();
                body = None;
                headers.retain(|header| !header.name.starts_with("content-"));
            }
            if next.origin() != url.origin() {
                headers.retain(|header| !header.secret);
            }
            url = next;
        }
    }

    /// As [`Request::send`], within `limit`, if the call has not less time anyway.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn send_within(&self, limit: Duration, call: &Call) -> Result<Response> {
        self.send(&call.within(limit))
    }

    /// What the policy says of the host comes when it is connected to; this is the tool's own narrower list.
    fn allowed(&self, url: &Url) -> Result<()> {
        let host = url.host_str().ok_or_else(|| usage(format!("{url}: has no host")))?;
        if self.only.is_empty() || listed(&self.only, host, url.port_or_known_default().unwrap_or(80)) {
            return Ok(());
        }
        Err(Error::new(Class::Denied, format!("host {host}: not in tools.http_request.allowed_hosts"))
            .hint("Add it there, or call a tool that has no such list."))
    }
}

/// Longest waits of a request whose answer streams.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For the connection.
    pub connect: Duration,
    /// For the head of the answer.
    pub response: Duration,
    /// For the next piece of the body.
    pub idle: Duration,
}

/// An answer whose body is read as it comes.
pub struct Streamed {
    /// The status.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    body: wire::Body,
}

impl Streamed {
    /// The first header called `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Read for Streamed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.body.read(buffer)
    }
}

/// Sends one request, follows no redirect, and leaves the body to be read as it comes. Of the policy in `call` only hosts
/// matter. A header that is no header is left out: who makes them here is ourselves.
///
/// # Errors
/// `Denied`, `Remote` when the other side fails, `Timeout`, `Interrupted`.
pub fn stream(url: &Url, headers: &[(&str, &str)], body: &[u8], waits: Waits, call: &Call) -> Result<Streamed> {
    let fine = |value: &str| !value.bytes().any(|byte| byte.is_ascii_control());
    let headers = headers.iter().filter(|(name, value)| fine(name) && fine(value)).copied().collect();
    let message = wire::Message { method: "POST", url, headers, body: Some(body) };
    let host = url.host_str().ok_or_else(|| usage(format!("{url}: has no host")))?;
    let connecting = if waits.connect.is_zero() { call.clone() } else { call.within(waits.connect) };
    let port = url.port_or_known_default().unwrap_or(80);
    let socket = net::connect(host, port, &connecting).map_err(|error| call.check().err().unwrap_or(error))?;
    let socket = socket.of(call);
    let patience = socket.patience();
    patience.set(waits.response);
    let (answer, body) = wire::ask(&message, socket, call)?;
    patience.set(waits.idle);
    Ok(Streamed { status: answer.status, headers: answer.headers, body })
}

impl Response {
    /// The first header called `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the status says that all went well.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The media type without its parameters, in lower case; empty if not told.
    pub fn media_type(&self) -> String {
        let kind = self.header("content-type").unwrap_or_default();
        kind.split(';').next().unwrap_or_default().trim().to_lowercase()
    }

    /// The body as text, if it is UTF-8 or Latin-1 that says so.
    pub fn text(&self) -> Option<String> {
        let kind = self.header("content-type").unwrap_or_default().to_lowercase();
        match std::str::from_utf8(&self.body) {
            Ok(text) => Some(text.to_owned()).filter(|text| !text.contains('\0')),
            // Its bytes are the first 256 characters of Unicode.
            Err(_) if kind.contains("iso-8859-1") || kind.contains("latin1") => {
                Some(self.body.iter().copied().map(char::from).collect())
            }
            Err(_) => None,
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `Remote` when it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::new(Class::Remote, format!("{}: status {}, not JSON: {e}", self.url, self.status)))
    }

    /// Undoes Content-Encoding, with at most `most` bytes as the result.
    fn unpack(&mut self, most: u64) -> Result<()> {
        let Some(coding) = self.header("content-encoding").map(str::to_lowercase) else { return Ok(()) };
        let packed = &self.body[..];
        let room = most.saturating_add(1);
        let mut body = Vec::new();
        let read = match coding.trim() {
            _ if packed.is_empty() => return Ok(()),
            "gzip" | "x-gzip" => flate2::read::MultiGzDecoder::new(packed).take(room).read_to_end(&mut body),
            // RFC 9110 means the zlib format; some servers send the bare one (its first byte is no 0x.8).
            "deflate" if packed[0] & 0x0f == 8 => {
                flate2::read::ZlibDecoder::new(packed).take(room).read_to_end(&mut body)
            }
            "deflate" => flate2::read::DeflateDecoder::new(packed).take(room).read_to_end(&mut body),
            _ => return Ok(()),
        };
        read.map_err(|e| Error::new(Class::Remote, format!("{}: not {coding} as it says: {e}", self.url)))?;
        if body.len() as u64 > most {
            return Err(wire::too_large(&self.url, most));
        }
        self.body = body;
        self.headers.retain(|(name, _)| name != "content-encoding" && name != "content-length");
        Ok(())
    }
}
