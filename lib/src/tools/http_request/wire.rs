//! One request and its response, no redirects: HTTP/1.1 (RFC 9112) over TCP or TLS.
//!
//! The connection goes to the very addresses the policy checked, so a name that resolves differently a moment later (DNS
//! rebinding) gains nothing; for https the certificate has to match the name as well. Proxies of the environment are not
//! used: they would resolve names beyond the policy's sight.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use url::{Position, Url};

use super::super::Call;
use crate::error::{Class, Error, Result, reason};

/// Longest status line with all headers, bytes.
const MAX_HEAD: u64 = 256 << 10;
/// How long one wait for the other side lasts before the next look at the call.
const PATIENCE: Duration = Duration::from_millis(100);
/// Time for a connection or an answer when the call has no limit.
const NO_LIMIT: Duration = Duration::from_secs(3600);

/// What is sent.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) body: Option<&'a [u8]>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Names in lower case, in the order they came.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// The first header called `name`.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Sends `request` to `addresses`, in turn until one connects, and reads at most `most` bytes of body.
///
/// # Errors
/// `Remote` when the other side fails, `Tool` for a body larger than `most`, `Timeout`, `Interrupted`.
pub(super) fn exchange(request: &Request<'_>, addresses: &[SocketAddr], most: u64, call: &Call) -> Result<Response> {
    // A time limit shows up as whatever broke first; the call knows.
    talk(request, addresses, most, call).map_err(|fault| call.check().err().unwrap_or(fault))
}

fn remote(url: &Url, what: impl std::fmt::Display) -> Error {
    Error::new(Class::Remote, format!("{}: {what}", url.origin().ascii_serialization()))
}

fn talk(request: &Request<'_>, addresses: &[SocketAddr], most: u64, call: &Call) -> Result<Response> {
    let fault = |e: io::Error| remote(request.url, reason(&e)).source(e);
    let stream = connect(addresses, call).map_err(fault)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(fault)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(fault)?;
    let stream = Patient { stream, call };
    let stream: Box<dyn Stream> =
        if request.url.scheme() == "http" { Box::new(stream) } else { Box::new(tls(request.url, stream)?) };
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(&message(request)).and_then(|()| stream.get_mut().flush()).map_err(fault)?;
    let mut response = head(&mut stream).map_err(fault)?;
    if request.method == "HEAD" || matches!(response.status, 204 | 304) {
        return Ok(response);
    }
    let chunked = response.header("transfer-encoding").is_some_and(|coding| coding.to_lowercase().ends_with("chunked"));
    let length = response.header("content-length").and_then(|length| length.parse::<u64>().ok());
    let room = most.saturating_add(1);
    let body = match length {
        _ if chunked => chunks(&mut stream, room).map_err(fault)?,
        Some(length) if length > most => return Err(too_large(request.url, most)),
        Some(length) => {
            let body = until_end(stream.take(length), room).map_err(fault)?;
            if (body.len() as u64) < length {
                return Err(remote(request.url, "the answer ended early"));
            }
            body
        }
        None => until_end(stream, room).map_err(fault)?,
    };
    response.body = body;
    fits(request.url, response, most)
}

fn too_large(url: &Url, most: u64) -> Error {
    Error::new(Class::Tool, format!("{}: the answer is larger than {most} bytes", url.origin().ascii_serialization()))
        .hint("Raise tools.http_request.max_response_size.")
}

fn fits(url: &Url, response: Response, most: u64) -> Result<Response> {
    if response.body.len() as u64 > most { Err(too_large(url, most)) } else { Ok(response) }
}

fn connect(addresses: &[SocketAddr], call: &Call) -> io::Result<TcpStream> {
    let mut last = io::Error::other("no address");
    for address in addresses {
        call.check().map_err(io::Error::other)?;
        match TcpStream::connect_timeout(address, limit(call)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Time left, never zero, as the system's timeouts want it.
fn limit(call: &Call) -> Duration {
    call.remaining().unwrap_or(NO_LIMIT).clamp(Duration::from_millis(1), NO_LIMIT)
}

fn message(request: &Request<'_>) -> Vec<u8> {
    let url = request.url;
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let path = &url[Position::BeforePath..Position::AfterQuery];
    let mut message =
        format!("{} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", request.method).into_bytes();
    if let Some(length) = length(request) {
        message.extend(format!("Content-Length: {length}\r\n").into_bytes());
    }
    for (name, value) in &request.headers {
        message.extend([name, ": ", value, "\r\n"].concat().into_bytes());
    }
    message.extend(b"\r\n");
    message.extend(request.body.unwrap_or_default());
    message
}

/// What Content-Length says: a method that usually has a body says 0 when it has none.
fn length(request: &Request<'_>) -> Option<usize> {
    match request.body {
        Some(body) => Some(body.len()),
        None => matches!(request.method, "POST" | "PUT" | "PATCH").then_some(0),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {what}"))
}

/// The status line and the headers of the final answer.
fn head(stream: &mut impl BufRead) -> io::Result<Response> {
    let mut stream = stream.take(MAX_HEAD);
    loop {
        let first = line(&mut stream)?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u16>().ok());
        let status = status.filter(|status| (100..600).contains(status)).ok_or_else(|| invalid("status line"))?;
        let mut headers = Vec::new();
        loop {
            let line = line(&mut stream)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("header"))?;
            headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
        if status >= 200 {
            return Ok(Response { status, headers, body: Vec::new() });
        }
    }
}

/// A line without its end.
fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(invalid("ended early, or too much of it"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A body in chunks (RFC 9112, 7.1), at most `room` bytes of it.
fn chunks(stream: &mut impl BufRead, room: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(&mut stream.by_ref().take(4096))?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("chunk size"))?;
        if size == 0 {
            return Ok(body);
        }
        let left = room - body.len() as u64;
        let read = stream.by_ref().take(size.min(left)).read_to_end(&mut body)? as u64;
        if body.len() as u64 == room {
            return Ok(body);
        }
        if read < size || !line(&mut stream.by_ref().take(2))?.is_empty() {
            return Err(invalid("chunk"));
        }
    }
}

fn until_end(stream: impl Read, room: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    stream.take(room).read_to_end(&mut body)?;
    Ok(body)
}

/// A connection that waits in small steps and looks at the call in between.
struct Patient<'a> {
    stream: TcpStream,
    call: &'a Call,
}

impl Patient<'_> {
    fn wait<T>(&mut self, mut step: impl FnMut(&mut TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            self.call.check().map_err(io::Error::other)?;
            match step(&mut self.stream) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                done => return done,
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(|stream| stream.read(buffer))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.wait(|stream| stream.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Either kind of connection.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// Speaks TLS over `stream`; the handshake happens with the first byte written.
fn tls<'a>(url: &Url, stream: Patient<'a>) -> Result<StreamOwned<ClientConnection, Patient<'a>>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let fault = |e: rustls::Error| remote(url, e.to_string());
    if CONFIG.get().is_none() {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(fault)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Two first calls at once make the same.
        drop(CONFIG.set(config.into()));
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|e| remote(url, e))?;
    let config = Arc::clone(CONFIG.get().expect("set above"));
    Ok(StreamOwned::new(ClientConnection::new(config, name).map_err(fault)?, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_and_interim_answers_skipped() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA:  b \r\nContent-Type: x\r\n\r\nrest";
        let mut stream = BufReader::new(text.as_bytes());
        let response = head(&mut stream).unwrap();
        assert_eq!(
            (response.status, response.header("a"), response.header("content-type")),
            (200, Some("b"), Some("x"))
        );
        for text in
            ["", "HTTP/1.1 200", "SSH-2.0\r\n\r\n", "HTTP/1.1 999 x\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"]
        {
            assert!(head(&mut BufReader::new(text.as_bytes())).is_err(), "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(100_000));
        assert!(head(&mut BufReader::new(endless.as_bytes())).is_err());
    }

    #[test]
    fn chunks_are_joined_and_limited() {
        let read = |text: &str, room| chunks(&mut BufReader::new(text.as_bytes()), room);
        assert_eq!(read("4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n", 100).unwrap(), b"Wikipedia");
        assert_eq!(read("4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n", 6).unwrap(), b"Wikipe");
        assert!(read("4\r\nWi", 100).is_err());
        assert!(read("zz\r\n", 100).is_err());
        assert!(read("ffffffffffffffff\r\nabc", 100).is_err());
    }
}
