//! ZMTP 3.0 over descriptors that never block, as much of it as Jupyter's sockets speak: greeting, NULL mechanism, frames.
//!
//! Source: rfc.zeromq.org/spec/23. A library hands every message over between threads, twice on its way through; here one
//! thread reads and writes, which is what keeps a detour through the route cheaper than an echo. And it hides whose
//! connection a subscription came by, which has to be known to show everybody their own.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// A message: its frames.
pub(super) type Message = Vec<Vec<u8>>;

/// Read at once.
const CHUNK: usize = 16 << 10;
/// How often one connection is read before the others get their turn.
const TURN: usize = 16;
/// Most frames of a message.
const FRAMES: usize = 1024;
/// Bytes of a greeting.
const GREETING: usize = 64;
/// What a buffer keeps when it is empty.
const KEPT: usize = 256 << 10;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What we are on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Router,
    Publisher,
    Dealer,
    Subscriber,
}

impl Kind {
    fn name(self) -> &'static [u8] {
        match self {
            Kind::Router => b"ROUTER",
            Kind::Publisher => b"XPUB",
            Kind::Dealer => b"DEALER",
            Kind::Subscriber => b"SUB",
        }
    }

    /// Whether `other` is a socket this one talks with.
    fn fits(self, other: &[u8]) -> bool {
        let fitting: &[&[u8]] = match self {
            Kind::Router => &[b"DEALER", b"REQ", b"ROUTER"],
            Kind::Publisher => &[b"SUB", b"XSUB"],
            Kind::Dealer => &[b"ROUTER", b"DEALER", b"REP"],
            Kind::Subscriber => &[b"PUB", b"XPUB"],
        };
        fitting.contains(&other)
    }
}

/// The connection is at its end, or what came is no ZMTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Handshake,
    Open,
}

/// One connection.
pub(super) struct Peer {
    fd: OwnedFd,
    wire: Decoder,
    output: VecDeque<Rc<[u8]>>,
    /// Of the first of `output`.
    sent: usize,
    queued: usize,
}

impl Peer {
    /// Greets over `fd` as `kind`, under `identity`. Nothing larger than `largest` bytes is taken in.
    pub(super) fn new(fd: OwnedFd, kind: Kind, identity: &[u8], largest: usize) -> Self {
        let wire = Decoder::new(kind, largest);
        let mut peer = Peer { fd, wire, output: VecDeque::new(), sent: 0, queued: 0 };
        peer.send(&greeting(kind, identity).into());
        peer
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the other side has introduced itself.
    pub(super) fn is_open(&self) -> bool {
        self.wire.stage == Stage::Open
    }

    /// What the other side calls itself; empty when it does not.
    pub(super) fn identity(&self) -> &[u8] {
        &self.wire.identity
    }

    /// Bytes that wait for the other side to read.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Takes in what is there. What came before the end is in `messages` also when it is the end.
    pub(super) fn read(&mut self, messages: &mut Vec<Message>) -> Result<(), Closed> {
        for _ in 0..TURN {
            let input = &mut self.wire.input;
            input.reserve(CHUNK);
            let room = input.capacity() - input.len();
            let count = match recv(&self.fd, spare_capacity(input), RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Closed),
                Ok((_, count)) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Closed),
            };
            let pongs = self.wire.decode(messages)?;
            for pong in pongs {
                self.send(&pong.into());
            }
            if count < room {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends an encoded message, at once if there is room. That the connection is broken is learnt by reading.
    pub(super) fn send(&mut self, bytes: &Rc<[u8]>) {
        self.queued += bytes.len();
        self.output.push_back(Rc::clone(bytes));
        if self.output.len() == 1 {
            let _ = self.flush();
        }
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) -> Result<(), Closed> {
        while let Some(first) = self.output.front() {
            match send(&self.fd, &first[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.queued -= count;
                    self.sent += count;
                    if self.sent == first.len() {
                        self.output.pop_front();
                        self.sent = 0;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Closed),
            }
        }
        Ok(())
    }
}

/// What comes in, byte by byte if it has to be.
struct Decoder {
    kind: Kind,
    largest: usize,
    stage: Stage,
    input: Vec<u8>,
    frames: Message,
    /// Bytes of `frames`.
    held: usize,
    identity: Vec<u8>,
}

impl Decoder {
    fn new(kind: Kind, largest: usize) -> Self {
        let (input, frames, identity) = (Vec::new(), Vec::new(), Vec::new());
        Decoder { kind, largest, stage: Stage::Greeting, input, frames, held: 0, identity }
    }

    /// Moves the whole messages of `input` to `messages`. Answers to pings are returned.
    fn decode(&mut self, messages: &mut Vec<Message>) -> Result<Vec<Vec<u8>>, Closed> {
        let (mut used, mut pongs) = (0, Vec::new());
        loop {
            let rest = &self.input[used..];
            if self.stage == Stage::Greeting {
                if !begins_well(rest) {
                    return Err(Closed);
                }
                if rest.len() < GREETING {
                    break;
                }
                used += GREETING;
                self.stage = Stage::Handshake;
                continue;
            }
            let Some((flags, head, size)) = head(rest) else { break };
            if flags & !(MORE | LONG | COMMAND) != 0 || size > self.largest as u64 {
                return Err(Closed);
            }
            let Some(body) = rest.get(head..head + size as usize) else { break };
            used += head + body.len();
            if flags & COMMAND != 0 {
                match (command(body).ok_or(Closed)?, self.stage) {
                    ((b"READY", properties), Stage::Handshake) => {
                        self.identity = introduced(properties, self.kind).ok_or(Closed)?;
                        self.stage = Stage::Open;
                    }
                    ((b"PING", rest), Stage::Open) => {
                        // Two bytes for how long it is good, then what is sent back, at most 16 bytes.
                        let context = rest.get(2..).filter(|context| context.len() <= 16).ok_or(Closed)?;
                        pongs.push(frame(COMMAND, &[b"\x04PONG", context].concat()));
                    }
                    ((b"ERROR", _), _) | (_, Stage::Handshake) => return Err(Closed),
                    // Of a later version; it does not need an answer.
                    _ => {}
                }
                continue;
            }
            if self.stage != Stage::Open {
                return Err(Closed);
            }
            self.held += body.len();
            if self.held > self.largest || self.frames.len() >= FRAMES {
                return Err(Closed);
            }
            self.frames.push(body.to_vec());
            if flags & MORE == 0 {
                self.held = 0;
                messages.push(std::mem::take(&mut self.frames));
            }
        }
        self.input.drain(..used);
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = Vec::new();
        }
        Ok(pongs)
    }
}

/// Whether these may be the first bytes of a greeting we understand: signature, version 3, no encryption.
fn begins_well(bytes: &[u8]) -> bool {
    let at = |index: usize, fits: &dyn Fn(u8) -> bool| bytes.get(index).is_none_or(|byte| fits(*byte));
    let mechanism = bytes.get(12..32.min(bytes.len())).unwrap_or_default();
    let null = *b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    at(0, &|byte| byte == 0xff)
        && at(9, &|byte| byte == 0x7f)
        && at(10, &|major| major >= 3)
        && null.starts_with(mechanism)
}

/// Flags, size of the head and size of the body of a frame; nothing while they are not all there.
fn head(bytes: &[u8]) -> Option<(u8, usize, u64)> {
    let flags = *bytes.first()?;
    if flags & LONG == 0 {
        return Some((flags, 2, u64::from(*bytes.get(1)?)));
    }
    let size = bytes.get(1..9)?.try_into().ok()?;
    Some((flags, 9, u64::from_be_bytes(size)))
}

/// The name of a command and what follows.
fn command(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// The identity among the properties of a socket that fits.
fn introduced(mut properties: &[u8], kind: Kind) -> Option<Vec<u8>> {
    let (mut fits, mut identity) = (false, Vec::new());
    while !properties.is_empty() {
        let (name, rest) = command(properties)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        properties = rest;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            fits = kind.fits(value);
        } else if name.eq_ignore_ascii_case(b"Identity") && value.len() <= 255 {
            identity = value.to_vec();
        }
    }
    fits.then_some(identity)
}

/// What we say first: who we are does not depend on what the other side says.
fn greeting(kind: Kind, identity: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; GREETING];
    (bytes[0], bytes[8], bytes[9], bytes[10]) = (0xff, 1, 0x7f, 3);
    bytes[12..16].copy_from_slice(b"NULL");
    let mut ready = b"\x05READY".to_vec();
    let mut property = |name: &[u8], value: &[u8]| {
        ready.push(name.len() as u8);
        ready.extend_from_slice(name);
        ready.extend_from_slice(&(value.len() as u32).to_be_bytes());
        ready.extend_from_slice(value);
    };
    property(b"Socket-Type", kind.name());
    if !identity.is_empty() {
        property(b"Identity", identity);
    }
    bytes.extend(frame(COMMAND, &ready));
    bytes
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 9);
    put(&mut bytes, flags, body);
    bytes
}

fn put(bytes: &mut Vec<u8>, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(size) => bytes.extend([flags, size]),
        Err(_) => {
            bytes.push(flags | LONG);
            bytes.extend((body.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(body);
}

/// A message as it goes over the wire: `first`, if there is one, then `frames`.
pub(super) fn encode(first: Option<&[u8]>, frames: &[Vec<u8>]) -> Rc<[u8]> {
    let size: usize =
        first.iter().map(|frame| frame.len()).chain(frames.iter().map(Vec::len)).map(|size| size + 9).sum();
    let mut bytes = Vec::with_capacity(size);
    let mut left = frames.len() + usize::from(first.is_some());
    for body in first.into_iter().chain(frames.iter().map(Vec::as_slice)) {
        left -= 1;
        put(&mut bytes, if left > 0 { MORE } else { 0 }, body);
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Message>, Closed> {
        let mut messages = Vec::new();
        decoder.input.extend_from_slice(bytes);
        decoder.decode(&mut messages).map(|_| messages)
    }

    #[test]
    fn a_conversation_is_understood_byte_by_byte() {
        let long = vec![7; 300];
        let mut bytes = greeting(Kind::Dealer, b"me");
        bytes.extend_from_slice(&encode(Some(b"a"), &[Vec::new(), long.clone()]));
        bytes.extend(frame(COMMAND, b"\x04PING\0\x0ahello"));
        bytes.extend_from_slice(&encode(None, &[b"b".to_vec()]));
        for step in [1, 7, bytes.len()] {
            let mut decoder = Decoder::new(Kind::Router, 1000);
            let mut messages = Vec::new();
            for part in bytes.chunks(step) {
                messages.extend(fed(&mut decoder, part).unwrap());
            }
            assert_eq!(messages, [vec![b"a".to_vec(), Vec::new(), long.clone()], vec![b"b".to_vec()]]);
            assert_eq!(decoder.identity, b"me");
            assert!(decoder.input.is_empty());
        }
        let mut decoder = Decoder::new(Kind::Router, 1000);
        fed(&mut decoder, &greeting(Kind::Dealer, b"")).unwrap();
        decoder.input.extend(frame(COMMAND, b"\x04PING\0\x0ahello"));
        assert_eq!(decoder.decode(&mut Vec::new()).unwrap(), [b"\x04\x0a\x04PONGhello".to_vec()]);
    }

    #[test]
    fn what_is_no_zmtp_ends_the_connection_before_it_takes_room() {
        let hello = greeting(Kind::Dealer, b"");
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = hello.clone();
            change(&mut bytes);
            fed(&mut Decoder::new(Kind::Router, 1000), &bytes)
        };
        assert_eq!(fed(&mut Decoder::new(Kind::Router, 1000), b"GET / HTTP/1.1\r\n"), Err(Closed));
        assert_eq!(with(&|bytes| bytes[10] = 2), Err(Closed));
        assert_eq!(with(&|bytes| bytes[12..17].copy_from_slice(b"CURVE")), Err(Closed));
        assert_eq!(with(&|bytes| bytes.truncate(64 + 20)), Ok(vec![]));
        for bad in [
            &[LONG, 0, 0, 0, 0, 0, 0, 4, 0][..],
            &[LONG, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0x80, 0],
            &[COMMAND, 0],
            &[COMMAND, 3, 9, b'R', b'E'],
            &[COMMAND, 6, 5, b'E', b'R', b'R', b'O', b'R'],
        ] {
            assert_eq!(with(&|bytes| bytes.extend_from_slice(bad)), Err(Closed), "{bad:?}");
        }
        // Too much in small pieces, and pieces of nothing.
        assert_eq!(with(&|bytes| (0..5).for_each(|_| put(bytes, MORE, &[0; 250]))), Err(Closed));
        assert_eq!(with(&|bytes| (0..2000).for_each(|_| put(bytes, MORE, b""))), Err(Closed));
        // A message before the introduction, and a socket of the wrong kind.
        let mut early = hello[..64].to_vec();
        put(&mut early, 0, b"x");
        assert_eq!(fed(&mut Decoder::new(Kind::Router, 1000), &early), Err(Closed));
        assert_eq!(fed(&mut Decoder::new(Kind::Publisher, 1000), &hello), Err(Closed));
    }
}
