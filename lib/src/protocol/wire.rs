//! Frames of a message: identities, `<IDS|MSG>`, signature, header, parent header, metadata, content, buffers.
//!
//! Source: "The Wire Protocol" in the Jupyter messaging specification. The signature is the hex HMAC-SHA256 over the
//! four JSON frames, keyed with the text of the connection file's key; an empty key means unsigned.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Ends the identity frames.
pub const DELIMITER: &[u8] = b"<IDS|MSG>";

/// Most bytes of the header, parent header and metadata frames together; content and buffers may be larger.
const MAX_ENVELOPE: usize = 1 << 20;

/// What identifies a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Unique in its session.
    pub msg_id: String,
    /// The sender's session: one per client, and per life of a kernel.
    #[serde(default)]
    pub session: String,
    /// The sender's user.
    #[serde(default)]
    pub username: String,
    /// ISO 8601, UTC.
    #[serde(default)]
    pub date: String,
    /// `execute_request`, `status`, …
    pub msg_type: String,
    /// Of the specification.
    #[serde(default)]
    pub version: String,
    /// The subshell it is for, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subshell_id: Option<String>,
}

/// A [`Header`] of ours.
#[derive(Serialize)]
struct Written<'a> {
    msg_id: &'a str,
    session: &'a str,
    username: &'a str,
    date: fmt::Arguments<'a>,
    msg_type: &'a str,
    version: &'a str,
}

/// A message that arrived and whose signature was right.
#[derive(Debug)]
pub struct Incoming {
    /// The routing frames in front of the delimiter.
    pub identities: Vec<Vec<u8>>,
    /// Its header.
    pub header: Header,
    /// The header frame byte for byte: the parent header of every answer.
    pub header_json: Arc<str>,
    /// The parent's header; empty fields when there is none.
    pub parent: Header,
    /// The metadata frame.
    pub metadata: Box<RawValue>,
    /// The content frame: a JSON object.
    pub content: Box<RawValue>,
    /// Binary frames behind the content.
    pub buffers: Vec<Vec<u8>>,
    /// The signature frame, by which a repetition is known.
    pub signature: Vec<u8>,
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drop {
    /// No delimiter, or too few frames behind it.
    Framing,
    /// The signature is missing or wrong.
    Signature,
    /// The same signature came before.
    Replay,
    /// A frame is not the JSON it must be.
    Json,
    /// A frame is larger than allowed.
    Size,
}

impl Drop {
    /// Every reason, in the order of the counters.
    pub const ALL: [Drop; 5] = [Drop::Framing, Drop::Signature, Drop::Replay, Drop::Json, Drop::Size];

    /// Its name in `status_reply`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Drop::Framing => "framing",
            Drop::Signature => "signature",
            Drop::Replay => "replay",
            Drop::Json => "json",
            Drop::Size => "size",
        }
    }
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Drop::Framing => "frames do not make a message",
            Drop::Signature => "signature missing or wrong",
            Drop::Replay => "signature was used before",
            Drop::Json => "a frame is not the JSON it must be",
            Drop::Size => "header too large",
        })
    }
}

/// Signs and verifies with the key of a connection file.
#[derive(Clone)]
pub struct Signer {
    mac: Option<Hmac<Sha256>>,
}

impl Signer {
    /// A signer for `key`, taken as text; the empty key signs nothing and accepts everything.
    #[must_use]
    pub fn new(key: &str) -> Self {
        let mac =
            (!key.is_empty()).then(|| Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length"));
        Signer { mac }
    }

    /// Lower-case hex digest over `frames`; empty without a key.
    pub fn sign<'a>(&self, frames: impl IntoIterator<Item = &'a [u8]>) -> String {
        let Some(mac) = &self.mac else { return String::new() };
        let mut mac = mac.clone();
        for frame in frames {
            mac.update(frame);
        }
        hex(&mac.finalize().into_bytes())
    }

    pub(super) fn verify<'a>(&self, signature: &[u8], frames: impl IntoIterator<Item = &'a [u8]>) -> bool {
        self.mac.is_none() || bool::from(self.sign(frames).as_bytes().ct_eq(signature))
    }

    /// Where the delimiter of `frames` is, once the signature behind it was found right.
    ///
    /// # Errors
    /// The reason to drop them.
    pub fn check(&self, frames: &[Vec<u8>]) -> Result<usize, Drop> {
        let at = frames.iter().position(|frame| frame == DELIMITER).ok_or(Drop::Framing)?;
        let [_, signature, header, parent, metadata, content, ..] = &frames[at..] else { return Err(Drop::Framing) };
        if header.len() + parent.len() + metadata.len() > MAX_ENVELOPE {
            return Err(Drop::Size);
        }
        if !self.verify(signature, [&**header, parent, metadata, content]) {
            return Err(Drop::Signature);
        }
        Ok(at)
    }

    /// Takes `frames` apart.
    ///
    /// # Errors
    /// The reason to drop them.
    pub fn parse(&self, frames: Vec<Vec<u8>>) -> Result<Incoming, Drop> {
        let at = self.check(&frames)?;
        let mut frames = frames.into_iter();
        let identities: Vec<_> = frames.by_ref().take(at).collect();
        let mut next = || frames.next().ok_or(Drop::Framing);
        let (_, signature) = (next()?, next()?);
        let (header, parent, metadata, content) = (next()?, next()?, next()?, next()?);
        let buffers = frames.collect();
        let header_json = String::from_utf8(header).map_err(|_| Drop::Json)?;
        let header = serde_json::from_str(&header_json).map_err(|_| Drop::Json)?;
        let parent = match &*parent {
            b"{}" | b"" => Header::default(),
            // A parent of a shape we do not know takes nothing away from the message.
            json => serde_json::from_slice(json).unwrap_or_default(),
        };
        Ok(Incoming {
            identities,
            header,
            header_json: header_json.into(),
            parent,
            metadata: object(metadata)?,
            content: object(content)?,
            buffers,
            signature,
        })
    }
}

/// A frame that must hold one JSON object.
fn object(frame: Vec<u8>) -> Result<Box<RawValue>, Drop> {
    let text = String::from_utf8(frame).map_err(|_| Drop::Json)?;
    let value = RawValue::from_string(text).map_err(|_| Drop::Json)?;
    if value.get().trim_start().starts_with('{') { Ok(value) } else { Err(Drop::Json) }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Makes the messages of one session: numbers, dates and signs them. Shared by all threads of a kernel or client.
pub struct Session {
    signer: Signer,
    id: String,
    username: String,
    next: AtomicU64,
}

impl Session {
    /// A new session that signs with `key`.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Session {
            signer: Signer::new(key),
            id: uuid::Uuid::new_v4().simple().to_string(),
            username: std::env::var("USER").unwrap_or_else(|_| "llmspell".into()),
            next: AtomicU64::new(0),
        }
    }

    /// Its id, the `session` of its headers.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What checks the other side's messages.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The frames of a message, identities first, and its `msg_id`. `parent` is the JSON of the header it answers.
    ///
    /// # Panics
    /// When `content` cannot be JSON, which no type of ours is.
    pub fn frames<C: Serialize + ?Sized>(
        &self,
        identities: &[Vec<u8>],
        msg_type: &str,
        parent: Option<&str>,
        content: &C,
    ) -> (Vec<Vec<u8>>, String) {
        let content = serde_json::to_vec(content).expect("our contents are JSON");
        self.frames_of(identities, msg_type, parent, content)
    }

    /// As [`Session::frames`], with the content already encoded.
    pub fn frames_of(
        &self,
        identities: &[Vec<u8>],
        msg_type: &str,
        parent: Option<&str>,
        content: Vec<u8>,
    ) -> (Vec<Vec<u8>>, String) {
        self.frames_with(identities, msg_type, parent, content, b"{}".to_vec())
    }

    /// As [`Session::frames_of`], with the metadata already encoded; buffers may be put behind.
    pub fn frames_with(
        &self,
        identities: &[Vec<u8>],
        msg_type: &str,
        parent: Option<&str>,
        content: Vec<u8>,
        metadata: Vec<u8>,
    ) -> (Vec<Vec<u8>>, String) {
        let msg_id = format!("{}_{}", self.id, self.next.fetch_add(1, Ordering::Relaxed));
        let header = Written {
            msg_id: &msg_id,
            session: &self.id,
            username: &self.username,
            date: format_args!("{}", humantime::format_rfc3339_micros(SystemTime::now())),
            msg_type,
            version: super::VERSION,
        };
        let header = serde_json::to_vec(&header).expect("a header is JSON");
        let parent = parent.map_or_else(|| b"{}".to_vec(), |parent| parent.as_bytes().to_vec());
        let signature = self.signer.sign([&*header, &parent, &metadata, &content]).into_bytes();
        let mut frames = Vec::with_capacity(identities.len() + 6);
        frames.extend_from_slice(identities);
        frames.extend([DELIMITER.to_vec(), signature, header, parent, metadata, content]);
        (frames, msg_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(session: &Session) -> Vec<Vec<u8>> {
        session.frames(&[b"id".to_vec()], "execute_request", None, &serde_json::json!({"code": "1"})).0
    }

    #[test]
    fn what_one_session_sends_another_reads() {
        let (here, there) = (Session::new("secret"), Session::new("secret"));
        let parsed = there.signer().parse(message(&here)).unwrap();
        assert_eq!(parsed.identities, [b"id"]);
        assert_eq!(parsed.header.session, here.id());
        assert_eq!(parsed.header.msg_type, "execute_request");
        assert_eq!(parsed.content.get(), r#"{"code":"1"}"#);
    }

    // RFC 4231, test case 2.
    #[test]
    fn signature_is_hmac_sha256_in_hex() {
        let signer = Signer::new("Jefe");
        let digest = signer.sign([&b"what do ya want "[..], b"for nothing?"]);
        assert_eq!(digest, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn forgeries_and_fragments_are_dropped_with_their_reason() {
        let session = Session::new("secret");
        let change = |at: usize, frame: &[u8]| {
            let mut frames = message(&session);
            frames[at] = frame.to_vec();
            session.signer().parse(frames).unwrap_err()
        };
        assert_eq!(change(1, b"<NO>"), Drop::Framing);
        assert_eq!(change(2, b""), Drop::Signature);
        assert_eq!(change(6, b"{}"), Drop::Signature);
        assert_eq!(session.signer().parse(message(&Session::new("other"))).unwrap_err(), Drop::Signature);
        assert_eq!(session.signer().parse(message(&session)[..5].to_vec()).unwrap_err(), Drop::Framing);
        let unsigned = Session::new("");
        let mut frames = message(&unsigned);
        frames[6] = b"[1]".to_vec();
        assert_eq!(unsigned.signer().parse(frames).unwrap_err(), Drop::Json);
        let mut frames = message(&unsigned);
        frames[3] = vec![0xff, b'{', b'}'];
        assert_eq!(unsigned.signer().parse(frames).unwrap_err(), Drop::Json);
        let mut frames = message(&unsigned);
        frames[5] = vec![b' '; MAX_ENVELOPE];
        assert_eq!(unsigned.signer().parse(frames).unwrap_err(), Drop::Size);
    }
}
