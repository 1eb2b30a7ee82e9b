//! Traffic with services in a file, one JSON object a line: recorded without keys, played back instead of a service.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::error::{Class, Error, Result};

/// One request with its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// Where it went, without what stands in front of the path.
    path: String,
    request: Value,
    status: u16,
    headers: Vec<(String, String)>,
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// Headers of answers that say something later; others may tell who asked.
const HEADERS: &[&str] = &["content-type", "retry-after", "retry-after-ms", "x-should-retry"];

/// An answer of a file.
pub(super) struct Played {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What is recorded and what is played.
#[derive(Default)]
pub(super) struct Cassette {
    record: Option<PathBuf>,
    /// Where they are from, and those that were not played yet.
    replay: Option<(PathBuf, Mutex<VecDeque<Entry>>)>,
}

impl Cassette {
    /// For the files of `[models]`.
    ///
    /// # Errors
    /// What the system said of them; `Config` for a line that is no recording.
    pub(super) fn new(record: Option<&Path>, replay: Option<&Path>) -> Result<Self> {
        let mut cassette = Cassette { record: record.map(Path::to_path_buf), replay: None };
        if let Some(path) = replay {
            let text = fs::read_to_string(path).map_err(|error| Error::io(path, error).within("replay"))?;
            let entry = |(index, line): (usize, &str)| {
                serde_json::from_str(line).map_err(|error| {
                    Error::new(
                        Class::Config,
                        format!("replay {}:{}: not a recording: {error}", path.display(), index + 1),
                    )
                    .hint("--record FILE makes one.")
                })
            };
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let entries = lines.map(entry).collect::<Result<VecDeque<Entry>>>()?;
            cassette.replay = Some((path.to_path_buf(), Mutex::new(entries)));
        }
        Ok(cassette)
    }

    /// Whether answers come from a file.
    pub(super) fn plays(&self) -> bool {
        self.replay.is_some()
    }

    /// The next answer to this very request.
    pub(super) fn play(&self, url: &Url, request: &Value) -> Option<Result<Played>> {
        let (file, entries) = self.replay.as_ref()?;
        let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path_of(url);
        let Some(at) = entries.iter().position(|entry| entry.path == path && entry.request == *request) else {
            let near = entries.iter().filter(|entry| entry.path == path).count();
            let text = format!("replay {}: no answer to this request to {path}", file.display());
            let hint = match near {
                0 => "Nothing is left that was asked there.".to_owned(),
                near => format!("What was asked there differs ({near} left); record it anew."),
            };
            return Some(Err(Error::new(Class::NotFound, text).hint(hint)));
        };
        let entry = entries.remove(at)?;
        let body = match (entry.body, entry.body_base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(text)) => match STANDARD.decode(text) {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(Error::new(Class::Config, error.to_string()).within("replay"))),
            },
            (None, None) => Vec::new(),
        };
        Some(Ok(Played { status: entry.status, headers: entry.headers, body }))
    }

    /// Reads `body` on and, if traffic is recorded, writes it down with its request once it ends.
    pub(super) fn tape<'a, R: Read>(&'a self, body: R, key: Option<&'a str>, asked: Asked<'a>) -> Tape<'a, R> {
        Tape { body, cassette: self, key, asked, heard: Vec::new() }
    }

    fn write(&self, asked: &Asked<'_>, key: Option<&str>, heard: &[u8]) -> Result<()> {
        let Some(path) = &self.record else { return Ok(()) };
        let known = |(name, _): &&(String, String)| HEADERS.contains(&&name[..]);
        let (body, body_base64) = match std::str::from_utf8(heard) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(heard))),
        };
        let entry = Entry {
            path: path_of(asked.url),
            request: asked.request.clone(),
            status: asked.status,
            headers: asked.headers.iter().filter(known).cloned().collect(),
            body,
            body_base64,
        };
        let mut line = serde_json::to_string(&entry).map_err(|error| Error::new(Class::Bug, error.to_string()))?;
        if let Some(key) = key {
            line = line.replace(key, "<redacted>");
        }
        line.push('\n');
        let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|error| Error::io(path, error).within("record"))
    }
}

/// Path and query.
fn path_of(url: &Url) -> String {
    url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
}

/// A request and the head of its answer.
pub(super) struct Asked<'a> {
    pub(super) url: &'a Url,
    pub(super) request: &'a Value,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
}

/// A body on its way.
pub(super) struct Tape<'a, R> {
    body: R,
    cassette: &'a Cassette,
    key: Option<&'a str>,
    asked: Asked<'a>,
    heard: Vec<u8>,
}

impl<R: Read> Read for Tape<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        if self.cassette.record.is_some() {
            self.heard.extend_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}

impl<R> Tape<'_, R> {
    /// Writes down what was heard.
    ///
    /// # Errors
    /// What the system said of the file.
    pub(super) fn end(self) -> Result<()> {
        self.cassette.write(&self.asked, self.key, &self.heard)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_recorded_is_played_once_and_has_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tape.jsonl");
        let url = Url::parse("https://h:1/v1/x?a=b").unwrap();
        let recorder = Cassette::new(Some(&path), None).unwrap();
        for body in [&b"the key is sk-secret"[..], b"\xff\xfe"] {
            let headers = vec![("content-type".into(), "text/plain".into()), ("set-cookie".into(), "me".into())];
            let asked = Asked { url: &url, request: &json!({"a": 1}), status: 200, headers };
            let mut tape = recorder.tape(body, Some("sk-secret"), asked);
            io::copy(&mut tape, &mut io::sink()).unwrap();
            tape.end().unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("sk-secret") && !text.contains("cookie"), "{text}");
        let player = Cassette::new(None, Some(&path)).unwrap();
        let other = Url::parse("http://else/v1/x?a=b").unwrap();
        let play = || player.play(&other, &json!({"a": 1})).unwrap();
        assert_eq!(play().unwrap().body, b"the key is <redacted>");
        assert_eq!(play().unwrap().body, b"\xff\xfe");
        assert_eq!(play().err().map(|error| error.class()), Some(Class::NotFound));
        fs::write(&path, "{}\n").unwrap();
        assert_eq!(Cassette::new(None, Some(&path)).err().map(|error| error.class()), Some(Class::Config));
    }
}
