//! One request and its response, no redirects: HTTP/1.1 (RFC 9112) over TCP or TLS.

use std::io::{self, BufRead, BufReader, Read, Write};

use url::{Position, Url};

use super::super::Call;
use super::super::net::{Socket, Stream, connect, tls};
use crate::error::{Class, Error, Result, reason};

/// Longest status line with all headers, bytes.
const MAX_HEAD: u64 = 256 << 10;

/// What is sent.
pub(super) struct Message<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) body: Option<&'a [u8]>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case, in the order they came.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The first header called `name`.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Sends `request` and reads at most `most` bytes of body.
///
/// # Errors
/// `Denied`, `Remote` when the other side fails, `Tool` for a body larger than `most`, `Timeout`, `Interrupted`.
pub(super) fn exchange(request: &Message<'_>, most: u64, call: &Call) -> Result<Answer> {
    // A time limit shows up as whatever broke first; the call knows.
    talk(request, most, call).map_err(|fault| call.check().err().unwrap_or(fault))
}

fn remote(url: &Url, what: impl std::fmt::Display) -> Error {
    Error::new(Class::Remote, format!("{}: {what}", url.origin().ascii_serialization()))
}

fn talk(request: &Message<'_>, most: u64, call: &Call) -> Result<Answer> {
    let fault = |e: io::Error| remote(request.url, reason(&e)).source(e);
    let (mut response, body) = open(request, call)?;
    if matches!(body.left, Left::Length(length) if length > most) {
        return Err(too_large(request.url, most));
    }
    body.take(most.saturating_add(1)).read_to_end(&mut response.body).map_err(fault)?;
    fits(request.url, response, most)
}

/// Sends `request` and reads the head of the answer; the body is read as it comes.
fn open(request: &Message<'_>, call: &Call) -> Result<(Answer, Body)> {
    let host = request.url.host_str().unwrap_or_default();
    let socket = connect(host, request.url.port_or_known_default().unwrap_or(80), call)?;
    ask(request, socket, call)
}

/// As [`open`], over `socket`.
pub(super) fn ask(request: &Message<'_>, socket: Socket, call: &Call) -> Result<(Answer, Body)> {
    let fault = |e: io::Error| {
        let late = e.kind() == io::ErrorKind::TimedOut;
        let error = remote(request.url, reason(&e));
        if late { Error::new(Class::Timeout, error.text()) } else { error.source(e) }
    };
    let ask = || {
        let host = request.url.host_str().unwrap_or_default();
        let stream: Box<dyn Stream> =
            if request.url.scheme() == "http" { Box::new(socket) } else { Box::new(tls(host, socket)?) };
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(&message(request)).and_then(|()| stream.get_mut().flush()).map_err(fault)?;
        let response = head(&mut stream).map_err(fault)?;
        let coding = response.header("transfer-encoding").unwrap_or_default().to_lowercase();
        let length = response.header("content-length").and_then(|length| length.parse::<u64>().ok());
        let left = match length {
            _ if request.method == "HEAD" || matches!(response.status, 204 | 304) => Left::Length(0),
            _ if coding.ends_with("chunked") => Left::Chunk(0, true),
            Some(length) => Left::Length(length),
            None => Left::Unknown,
        };
        Ok((response, Body { stream, left }))
    };
    ask().map_err(|error: Error| call.check().err().unwrap_or(error))
}

/// The body of an answer, as it comes. Where it ends before it should, reading fails.
pub(super) struct Body {
    stream: BufReader<Box<dyn Stream>>,
    left: Left,
}

#[derive(Clone, Copy)]
enum Left {
    /// So many bytes.
    Length(u64),
    /// So many bytes of a chunk; whether it is the first.
    Chunk(u64, bool),
    /// Until the connection ends.
    Unknown,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Left::Chunk(0, first) = self.left {
            if !first && !line(&mut self.stream.by_ref().take(2))?.is_empty() {
                return Err(invalid("chunk"));
            }
            let size = line(&mut self.stream.by_ref().take(4096))?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| invalid("chunk size"))?;
            self.left = if size == 0 { Left::Length(0) } else { Left::Chunk(size, false) };
        }
        let room = match self.left {
            Left::Length(left) | Left::Chunk(left, _) => usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len()),
            Left::Unknown => buffer.len(),
        };
        let count = self.stream.read(&mut buffer[..room])?;
        match &mut self.left {
            Left::Length(left) | Left::Chunk(left, _) => {
                if count == 0 && room > 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ended early"));
                }
                *left -= count as u64;
            }
            Left::Unknown => {}
        }
        Ok(count)
    }
}

pub(super) fn too_large(url: &Url, most: u64) -> Error {
    Error::new(Class::Tool, format!("{}: the answer is larger than {most} bytes", url.origin().ascii_serialization()))
        .hint("Raise tools.http_request.max_response_size.")
}

fn fits(url: &Url, response: Answer, most: u64) -> Result<Answer> {
    if response.body.len() as u64 > most { Err(too_large(url, most)) } else { Ok(response) }
}

fn message(request: &Message<'_>) -> Vec<u8> {
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
fn length(request: &Message<'_>) -> Option<usize> {
    match request.body {
        Some(body) => Some(body.len()),
        None => matches!(request.method, "POST" | "PUT" | "PATCH").then_some(0),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {what}"))
}

/// The status line and the headers of the final answer.
fn head(stream: &mut impl BufRead) -> io::Result<Answer> {
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
            return Ok(Answer { status, headers, body: Vec::new() });
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
        let read = |text: &'static str, room| {
            let stream: Box<dyn Stream> = Box::new(io::Cursor::new(text.as_bytes().to_vec()));
            let mut body = Vec::new();
            let whole = Body { stream: BufReader::new(stream), left: Left::Chunk(0, true) };
            whole.take(room).read_to_end(&mut body).map(|_| body)
        };
        assert_eq!(read("4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n", 100).unwrap(), b"Wikipedia");
        assert_eq!(read("4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n", 6).unwrap(), b"Wikipe");
        assert!(read("4\r\nWi", 100).is_err());
        assert!(read("zz\r\n", 100).is_err());
        assert!(read("4\r\nWikixx5\r\n", 100).is_err());
        assert!(read("ffffffffffffffff\r\nabc", 100).is_err());
    }
}
