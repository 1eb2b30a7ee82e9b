//! Everything a kernel says goes through here: any thread puts messages in, the io thread takes them out in that order.
//!
//! Stream output is gathered: it leaves when it is large, when something else follows it, or [`STREAM_DELAY`] after its
//! first byte, whichever comes first. That is why a hundred thousand `print`s are a few dozen messages.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;
use serde_json::Value;

use super::pace::Pace;
use crate::engine::Stream;
use crate::error::{Error, Result};
use crate::protocol::content::{Comm, ErrorContent, StatusContent, StreamContent};
use crate::protocol::wire::{Incoming, Session};

/// How long the first byte of a stream message may wait for company.
const STREAM_DELAY: Duration = Duration::from_millis(20);
/// A stream message leaves when it holds this many bytes.
const STREAM_SIZE: usize = 64 * 1024;
/// A writer waits while this many stream bytes are still to be sent.
const BACKLOG_SIZE: usize = 16 << 20;
/// How long the first messages about a request may wait for its `idle`, so that a short one is sent in one go.
const HOLD: Duration = Duration::from_millis(1);

type Frames = Vec<Vec<u8>>;

/// A message on its way out.
pub(super) enum Out {
    Shell(Frames),
    Control(Frames),
    Stdin(Frames),
    Iopub(Frames),
}

/// Whose request something answers.
#[derive(Clone)]
pub(super) struct Parent {
    /// Its header, byte for byte.
    pub(super) header: Arc<str>,
    /// Its routing frames.
    pub(super) identities: Vec<Vec<u8>>,
    /// Its id.
    pub(super) msg_id: String,
    /// The session it came from.
    pub(super) session: String,
    /// Whether it came by control, else by shell.
    pub(super) control: bool,
    /// When it came.
    pub(super) arrived: Instant,
}

impl Parent {
    pub(super) fn of(message: &Incoming, control: bool) -> Self {
        Parent {
            header: Arc::clone(&message.header_json),
            identities: message.identities.clone(),
            msg_id: message.header.msg_id.clone(),
            session: message.header.session.clone(),
            control,
            arrived: Instant::now(),
        }
    }
}

/// The queue between all threads and the io thread.
pub(super) struct Outbox {
    session: Session,
    wake: OwnedFd,
    queue: Mutex<Queue>,
    drained: Condvar,
}

#[derive(Default)]
struct Queue {
    out: Vec<Out>,
    stream: Option<Pending>,
    /// Whether the io thread was already told.
    told: bool,
    /// When it looks without being told.
    look: Option<Instant>,
    /// Stream bytes in `out` that the io thread has not sent.
    backlog: usize,
    /// How fast it may go, if that matters.
    pace: Option<Pace>,
    /// The script is interrupted: its output no longer waits.
    hurry: bool,
    /// Nothing follows any more.
    closed: bool,
}

struct Pending {
    parent: Arc<str>,
    stream: Stream,
    bytes: Vec<u8>,
    due: Instant,
}

impl Outbox {
    pub(super) fn new(session: Session, pace: Option<Pace>) -> Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| Error::system("eventfd", e.into()))?;
        let queue = Mutex::new(Queue { pace, ..Queue::default() });
        Ok(Outbox { session, wake, queue, drained: Condvar::new() })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Readable when the io thread has something to send.
    pub(super) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Has the io thread come round, with nothing to send.
    pub(super) fn nudge(&self) {
        self.tell(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, queue: &mut Queue) {
        if !queue.told {
            queue.told = true;
            // Only a full counter could fail, and then the io thread is awake anyway.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// What is not `urgent` may wait until the io thread looks by itself, if it is going to.
    fn push(&self, out: Out, urgent: bool) {
        self.push_to(self.lock(), out, urgent);
    }

    fn push_to(&self, mut queue: MutexGuard<'_, Queue>, out: Out, urgent: bool) {
        self.end_stream(&mut queue);
        queue.out.push(out);
        if urgent || queue.look.is_none_or(|look| look <= Instant::now()) {
            self.tell(&mut queue);
        }
    }

    /// For the io thread, before it hands a request on: it looks here soon, told or not.
    pub(super) fn look_soon(&self) {
        self.lock().look = Some(Instant::now() + HOLD);
    }

    /// Waits while the io thread is far behind, and while a Jupyter server would drop what is sent now.
    fn room<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        while !queue.closed && !queue.hurry {
            if queue.backlog > BACKLOG_SIZE {
                queue = self.drained.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let Some(due) = queue.pace.as_mut().and_then(Pace::due) else { break };
            let left = due.saturating_duration_since(Instant::now());
            queue = self.drained.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue
    }

    /// The script is interrupted: what it still says is little, and must not hold up its end.
    pub(super) fn hurry(&self) {
        self.lock().hurry = true;
        self.drained.notify_all();
    }

    /// The next request is served.
    pub(super) fn calm(&self) {
        self.lock().hurry = false;
    }

    /// A message for all, with its type as topic.
    pub(super) fn publish<C: Serialize + ?Sized>(&self, parent: Option<&str>, msg_type: &str, content: &C) {
        let (frames, _) = self.session.frames(&[msg_type.as_bytes().to_vec()], msg_type, parent, content);
        if let (true, Some(pace)) = (msg_type != "execute_input", &mut self.lock().pace) {
            pace.count(0);
        }
        self.push(Out::Iopub(frames), false);
    }

    /// A message of a comm for all.
    pub(super) fn comm(&self, parent: Option<&str>, message: &Comm) {
        let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_else(|_| b"{}".to_vec());
        let (content, metadata) =
            (json(serde_json::to_vec(&message.content)), json(serde_json::to_vec(&message.metadata)));
        let topic = [format!("comm-{}", message.content.comm_id).into_bytes()];
        let (mut frames, _) = self.session.frames_with(&topic, message.kind.name(), parent, content, metadata);
        frames.extend_from_slice(&message.buffers);
        let mut queue = self.room(self.lock());
        if let Some(pace) = &mut queue.pace {
            pace.count(0);
        }
        self.push_to(queue, Out::Iopub(frames), false);
    }

    /// As `publish`, for what a script may send without end: waits while the io thread is far behind.
    pub(super) fn show<C: Serialize>(&self, parent: &str, msg_type: &str, content: &C) {
        let (frames, _) = self.session.frames(&[msg_type.as_bytes().to_vec()], msg_type, Some(parent), content);
        let mut queue = self.room(self.lock());
        self.end_stream(&mut queue);
        queue.backlog += size(&frames);
        if let Some(pace) = &mut queue.pace {
            pace.count(0);
        }
        queue.out.push(Out::Iopub(frames));
        self.tell(&mut queue);
    }

    /// `busy`, `idle` or `starting`. Idle is the last of a request, so all of it leaves now.
    pub(super) fn status(&self, parent: Option<&str>, state: &str) {
        let content = StatusContent { execution_state: state.into() };
        let (frames, _) = self.session.frames(&[b"status".to_vec()], "status", parent, &content);
        let idle = state == "idle";
        let mut queue = self.lock();
        self.end_stream(&mut queue);
        if let (true, Some(pace)) = (idle, &mut queue.pace) {
            pace.rest();
        }
        self.push_to(queue, Out::Iopub(frames), idle);
    }

    /// The answer to `parent`, on the channel it came by.
    pub(super) fn reply<C: Serialize + ?Sized>(&self, parent: &Parent, msg_type: &str, content: &C) {
        let (frames, _) = self.session.frames(&parent.identities, msg_type, Some(&parent.header), content);
        self.push(if parent.control { Out::Control(frames) } else { Out::Shell(frames) }, false);
    }

    /// The answer `status: error`; to what has no answer, none.
    pub(super) fn refuse(&self, parent: &Parent, msg_type: &str, error: &Error) {
        if !msg_type.is_empty() {
            let mut content = ErrorContent::from(error).reply();
            if msg_type == "execute_reply" {
                // Not executed, so without a number; but some clients look for the field.
                content.insert("execution_count".into(), Value::Null);
            }
            self.reply(parent, msg_type, &Value::Object(content));
        }
    }

    /// A question to the client that sent `parent`, and its id.
    pub(super) fn ask<C: Serialize>(&self, parent: &Parent, content: &C) -> String {
        let (frames, id) = self.session.frames(&parent.identities, "input_request", Some(&parent.header), content);
        self.push(Out::Stdin(frames), true);
        id
    }

    /// Output of a script or a tool. Waits while the io thread is far behind.
    pub(super) fn stream(&self, parent: &Arc<str>, stream: Stream, bytes: &[u8]) {
        let mut queue = self.room(self.lock());
        let same = queue.stream.as_ref().is_some_and(|p| p.stream == stream && Arc::ptr_eq(&p.parent, parent));
        if !same {
            self.end_stream(&mut queue);
            let due = Instant::now() + STREAM_DELAY;
            let parent = Arc::clone(parent);
            queue.stream = Some(Pending { parent, stream, bytes: Vec::with_capacity(bytes.len().max(256)), due });
            // The io thread is to wake when it is due.
            self.tell(&mut queue);
        }
        let Some(pending) = &mut queue.stream else { return };
        pending.bytes.extend_from_slice(bytes);
        if pending.bytes.len() >= STREAM_SIZE {
            self.send_stream(&mut queue, false);
            self.tell(&mut queue);
        }
    }

    /// Lets gathered output go now.
    pub(super) fn flush(&self) {
        let mut queue = self.lock();
        self.end_stream(&mut queue);
        self.tell(&mut queue);
    }

    fn end_stream(&self, queue: &mut Queue) {
        self.send_stream(queue, true);
        queue.stream = None;
    }

    /// Makes a message of what is gathered. Unless it is the `end`, the bytes of a character that is cut stay behind.
    fn send_stream(&self, queue: &mut Queue, end: bool) {
        let Some(pending) = &mut queue.stream else { return };
        let whole = if end { pending.bytes.len() } else { whole_characters(&pending.bytes) };
        if whole == 0 {
            return;
        }
        let rest = pending.bytes.split_off(whole);
        let bytes = std::mem::replace(&mut pending.bytes, rest);
        pending.due = Instant::now() + STREAM_DELAY;
        let text = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        let content = StreamContent { name: pending.stream.name().into(), text };
        let (frames, _) = self.session.frames(&[b"stream".to_vec()], "stream", Some(&pending.parent), &content);
        let bytes = size(&frames);
        queue.backlog += bytes;
        if let Some(pace) = &mut queue.pace {
            pace.count(bytes);
        }
        queue.out.push(Out::Iopub(frames));
    }

    /// For the io thread: appends everything to send; says when to look next without being told.
    pub(super) fn take(&self, taken: &mut Vec<Out>) -> Option<Instant> {
        let mut queue = self.lock();
        if std::mem::take(&mut queue.told) {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            // Whoever told has begun; from here on every message is told.
            queue.look = None;
        }
        queue.look = queue.look.filter(|look| *look > Instant::now());
        if queue.stream.as_ref().is_some_and(|pending| pending.due <= Instant::now()) {
            // What is left of a cut character gets one more delay to become whole.
            let whole = queue.stream.as_ref().map_or(0, |pending| whole_characters(&pending.bytes));
            self.send_stream(&mut queue, whole == 0);
            if queue.stream.as_ref().is_some_and(|pending| pending.bytes.is_empty()) {
                queue.stream = None;
            }
        }
        taken.append(&mut queue.out);
        queue.stream.as_ref().map(|pending| pending.due).into_iter().chain(queue.look).min()
    }

    /// For the io thread: that many stream bytes are sent or given up.
    pub(super) fn sent(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.backlog = queue.backlog.saturating_sub(bytes);
        if queue.backlog <= BACKLOG_SIZE {
            self.drained.notify_all();
        }
    }

    /// Ends the io thread once it has sent what is here; writers no longer wait.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        self.end_stream(&mut queue);
        queue.closed = true;
        self.tell(&mut queue);
        self.drained.notify_all();
    }

    /// For the io thread: whether nothing follows what was taken.
    pub(super) fn is_closed(&self) -> bool {
        let queue = self.lock();
        queue.closed && queue.out.is_empty()
    }
}

/// Bytes of a message's frames; counted only for what a script may send without end.
pub(super) fn size(frames: &Frames) -> usize {
    const COUNTED: [&[u8]; 4] = [b"stream", b"display_data", b"update_display_data", b"clear_output"];
    let counted = frames.first().is_some_and(|topic| COUNTED.contains(&topic.as_slice()));
    if counted { frames.iter().map(Vec::len).sum() } else { 0 }
}

/// How many bytes are left when a character that is cut at the end is left out.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        match bytes[at] {
            0x80..=0xbf => continue,
            0xc0..=0xff => {
                let need = match bytes[at] {
                    0xf0.. => 4,
                    0xe0.. => 3,
                    _ => 2,
                };
                return if bytes.len() - at < need { at } else { bytes.len() };
            }
            _ => return bytes.len(),
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        let text = "aü€😀".as_bytes();
        for end in 0..=text.len() {
            let whole = whole_characters(&text[..end]);
            assert!(std::str::from_utf8(&text[..whole]).is_ok() && end - whole < 4, "{end}");
        }
        assert_eq!(whole_characters(b"\xbf\xbf\xbf\xbf\xbf"), 5);
    }

    #[test]
    fn what_comes_before_idle_waits_for_it_only_while_somebody_looks() {
        let outbox = Outbox::new(Session::new(""), None).unwrap();
        let told = || outbox.lock().told;
        outbox.look_soon();
        outbox.status(None, "busy");
        assert!(!told());
        outbox.status(None, "idle");
        assert!(told());
        let mut taken = Vec::new();
        assert!(outbox.take(&mut taken).is_none());
        assert_eq!(taken.len(), 2);
        outbox.status(None, "busy");
        assert!(told());
    }

    #[test]
    fn output_is_gathered_and_keeps_its_place() {
        let outbox = Outbox::new(Session::new(""), None).unwrap();
        let parent: Arc<str> = "{}".into();
        outbox.stream(&parent, Stream::Stdout, b"a");
        outbox.stream(&parent, Stream::Stdout, b"b");
        let mut taken = Vec::new();
        assert!(outbox.take(&mut taken).is_some());
        assert!(taken.is_empty());
        outbox.stream(&parent, Stream::Stderr, b"c");
        outbox.status(None, "idle");
        assert!(outbox.take(&mut taken).is_none());
        let contents: Vec<_> = taken
            .iter()
            .map(|out| match out {
                Out::Iopub(frames) => String::from_utf8(frames.last().unwrap().clone()).unwrap(),
                _ => panic!("not on iopub"),
            })
            .collect();
        assert_eq!(
            contents,
            [r#"{"name":"stdout","text":"ab"}"#, r#"{"name":"stderr","text":"c"}"#, r#"{"execution_state":"idle"}"#]
        );
    }
}
