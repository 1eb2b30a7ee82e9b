//! The io thread: owns the sockets, sleeps in `poll`, takes messages in and hands them on, sends what is in the outbox.

use std::collections::{HashSet, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use serde_json::json;
use zmq::{DONTWAIT, POLLIN, PollItem, Socket, SocketEvent};

use super::counters::{Counters, Fault};
use super::input::Gate;
use super::outbox::{Out, Outbox, Parent, size};
use super::sockets::{Sockets, set_flag};
use super::tools::Tools;
use super::{control, script};
use crate::error::{Class, Error};
use crate::multipart;
use crate::protocol::content::{InputReply, Request};
use crate::protocol::wire::{Drop, Incoming};

/// Messages taken from one socket before the others get their turn.
const TURN: usize = 64;
/// How long the kernel waits for a subscriber that does not read before it goes on without it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it tries meanwhile.
const RETRY: Duration = Duration::from_millis(5);
/// Signatures that are remembered to refuse repetitions.
const REMEMBERED: usize = 8192;

pub(super) struct Io {
    pub(super) sockets: Sockets,
    pub(super) outbox: Arc<Outbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) gate: Arc<Gate>,
    pub(super) tools: Arc<Tools>,
    pub(super) script: Sender<script::Job>,
    pub(super) control: Sender<control::Job>,
    /// Readable on a signal, and what it means.
    pub(super) signals: Vec<(OwnedFd, fn() -> control::Job)>,
    /// Readable when the parent of a private kernel is gone.
    pub(super) parent: Option<OwnedFd>,
    pub(super) seen: Seen,
    /// Connections of iopub, by their descriptors.
    pub(super) followers: HashSet<u32>,
    pub(super) guests: Guests,
    /// Messages for iopub that could not be sent yet.
    pub(super) backlog: VecDeque<Vec<Vec<u8>>>,
    /// Since when the head of the backlog waits.
    pub(super) stalled: Option<Instant>,
}

impl Io {
    /// Runs until the outbox is closed and empty.
    pub(super) fn run(&mut self) {
        let mut taken = Vec::new();
        loop {
            self.counters.beats.fetch_add(1, Relaxed);
            if self.counters.watched.load(Relaxed) && !self.counters.changed.swap(true, Relaxed) {
                let _ = self.control.send(control::Job::Changed);
            }
            let due = self.outbox.take(&mut taken);
            for out in taken.drain(..) {
                self.send(out);
            }
            self.send_backlog();
            if self.backlog.is_empty() && self.outbox.is_closed() {
                return;
            }
            self.wait(due);
        }
    }

    /// Sleeps until something can be done, and takes in what came.
    fn wait(&mut self, due: Option<Instant>) {
        let retry = (!self.backlog.is_empty()).then(|| Instant::now() + RETRY);
        let timeout = match due.into_iter().chain(retry).min() {
            None => -1,
            // Rounded up: a timer that fires early would spin.
            Some(at) => at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000) as i64,
        };
        let mut items = vec![
            self.sockets.control.as_poll_item(POLLIN),
            self.sockets.shell.as_poll_item(POLLIN),
            self.sockets.stdin.as_poll_item(POLLIN),
            self.sockets.iopub.as_poll_item(POLLIN),
            self.sockets.connections.as_poll_item(POLLIN),
            PollItem::from_fd(self.outbox.wake_fd(), POLLIN),
        ];
        items.extend(self.signals.iter().map(|(fd, _)| PollItem::from_fd(fd.as_raw_fd(), POLLIN)));
        items.extend(self.parent.iter().map(|fd| PollItem::from_fd(fd.as_raw_fd(), POLLIN)));
        if let Err(error) = zmq::poll(&mut items, timeout) {
            if error != zmq::Error::EINTR {
                log::error!("poll: {}", error.message());
            }
            return;
        }
        let ready: Vec<bool> = items.iter().map(|item| !item.get_revents().is_empty()).collect();
        drop(items);
        if ready[0] {
            self.receive(|io| &io.sockets.control, Self::on_control);
        }
        if ready[1] {
            self.receive(|io| &io.sockets.shell, Self::on_shell);
        }
        if ready[2] {
            self.receive(|io| &io.sockets.stdin, Self::on_stdin);
        }
        if ready[3] {
            self.receive(|io| &io.sockets.iopub, Self::on_subscription);
        }
        if ready[4] {
            self.receive(|io| &io.sockets.connections, Self::on_connection);
        }
        for (at, (fd, job)) in self.signals.iter().enumerate() {
            if ready[6 + at] && drain(fd) > 0 {
                let _ = self.control.send(job());
            }
        }
        if self.parent.as_ref().is_some_and(|fd| ready[6 + self.signals.len()] && drain(fd) == 0) {
            self.parent = None;
            let _ = self.control.send(control::Job::ParentGone);
        }
    }

    fn receive(&mut self, socket: fn(&Self) -> &Socket, handle: fn(&mut Self, Vec<Vec<u8>>)) {
        for _ in 0..TURN {
            match multipart::receive(socket(self), DONTWAIT) {
                Ok(frames) => handle(self, frames),
                Err(zmq::Error::EAGAIN) => return,
                Err(error) => return log::error!("receive: {}", error.message()),
            }
        }
    }

    /// The message in `frames`, unless it has to be dropped.
    fn accept(&mut self, frames: Vec<Vec<u8>>, channel: &str) -> Option<Incoming> {
        let parsed = self
            .outbox
            .session()
            .signer()
            .parse(frames)
            .and_then(|message| if self.seen.insert(&message.signature) { Ok(message) } else { Err(Drop::Replay) });
        parsed.inspect_err(|drop| self.counters.dropped(*drop, channel)).ok()
    }

    fn on_shell(&mut self, frames: Vec<Vec<u8>>) {
        if let Some(message) = self.accept(frames, "shell") {
            let parent = Parent::of(&message, false);
            self.dispatch(parent, &message);
        }
    }

    fn on_control(&mut self, frames: Vec<Vec<u8>>) {
        if let Some(message) = self.accept(frames, "control") {
            let parent = Parent::of(&message, true);
            self.dispatch(parent, &message);
        }
    }

    fn dispatch(&mut self, parent: Parent, message: &Incoming) {
        let msg_type = &message.header.msg_type;
        let request = match Request::parse(message) {
            Ok(request) => request,
            Err(error) => {
                self.counters.fault(Fault::Content, || error.text().to_owned());
                return self.refuse(&parent, msg_type, &error);
            }
        };
        if self.counters.stopping.load(Relaxed)
            && !matches!(request, Request::Status | Request::KernelInfo | Request::Interrupt(_) | Request::Shutdown(_))
        {
            return self.refuse(&parent, msg_type, &Error::new(Class::Remote, "the kernel is shutting down"));
        }
        if !matches!(request, Request::Status | Request::KernelInfo) {
            self.counters.touch();
        }
        if !parent.control && !self.admits(&parent.session, &request) {
            let error = Error::new(Class::Conflict, format!("the kernel has its {} clients", self.guests.capacity))
                .hint("Wait until one leaves, or raise kernel.max_clients.");
            return self.refuse(&parent, msg_type, &error);
        }
        match request {
            Request::Tool(request) => self.tools.serve(parent, request),
            Request::Status | Request::Interrupt(_) | Request::Shutdown(_) => {
                self.outbox.look_soon();
                let _ = self.control.send(control::Job::Request(parent, request));
            }
            Request::Usage => {
                self.outbox.look_soon();
                let _ = self.control.send(control::Job::Request(parent, request));
            }
            Request::Subshell => {
                let error = Error::new(Class::Absent, format!("{msg_type}: this kernel has no subshells"))
                    .hint("Requests to tools and on control are served beside a running script.");
                self.refuse(&parent, msg_type, &error);
            }
            _ if message.header.subshell_id.is_some() => {
                let error = Error::new(Class::NotFound, format!("{msg_type}: no such subshell"));
                self.refuse(&parent, msg_type, &error);
            }
            Request::KernelInfo | Request::Connect if parent.control => {
                self.outbox.look_soon();
                let _ = self.control.send(control::Job::Request(parent, request));
            }
            Request::Unknown => {
                self.counters.fault(Fault::UnknownType, || format!("{msg_type:?}: unknown message type"));
                let text = format!("{msg_type}: not served by this kernel");
                self.refuse(&parent, msg_type, &Error::new(Class::Absent, text));
            }
            request => {
                let number = self.counters.wait(parent, script::reply_type(&request));
                self.outbox.look_soon();
                let _ = self.script.send(script::Job::Request(number, request));
            }
        }
    }

    /// Whether the client may ask for this. More follow the kernel than it may have: those that came first are served.
    /// Tools are for everybody, and everybody may learn who is here.
    fn admits(&mut self, session: &str, request: &Request) -> bool {
        self.guests.capacity = self.tools.runtime.now().kernel.max_clients;
        matches!(request, Request::Tool(_) | Request::KernelInfo) || self.guests.admit(session, self.followers.len())
    }

    /// Answers with an error; to what is no request, only with busy and idle.
    fn refuse(&self, parent: &Parent, msg_type: &str, error: &Error) {
        self.outbox.status(Some(&parent.header), "busy");
        if let Some(name) = msg_type.strip_suffix("_request") {
            self.outbox.refuse(parent, &format!("{name}_reply"), error);
        }
        self.outbox.status(Some(&parent.header), "idle");
    }

    fn on_stdin(&mut self, frames: Vec<Vec<u8>>) {
        let Some(message) = self.accept(frames, "stdin") else { return };
        if message.header.msg_type != "input_reply" {
            let name = message.header.msg_type;
            return self.counters.fault(Fault::UnknownType, || format!("stdin: {name:?}: unknown message type"));
        }
        match serde_json::from_str::<InputReply>(message.content.get()) {
            Ok(reply) => self.gate.answer(&message.header.session, &message.parent.msg_id, reply.value),
            Err(error) => self.counters.fault(Fault::Content, || format!("input_reply: {error}")),
        }
    }

    /// A subscription: 1 and the topic. Its end, 0 and the topic, changes nothing.
    fn on_subscription(&mut self, frames: Vec<Vec<u8>>) {
        if let Some((1, topic)) = frames.first().and_then(|frame| frame.split_first()) {
            let content = json!({"subscription": String::from_utf8_lossy(topic)});
            let (welcome, _) = self.outbox.session().frames(&[topic.to_vec()], "iopub_welcome", None, &content);
            // Before everything else this subscriber gets.
            self.backlog.push_front(welcome);
        }
    }

    /// A connection of iopub came or went. Every client that follows the kernel has one.
    fn on_connection(&mut self, frames: Vec<Vec<u8>>) {
        // The event in 16 bits, then its value, here the descriptor, in 32: zmq_socket_monitor(3).
        let Some(([a, b], &[c, d, e, f])) = frames.first().and_then(|frame| frame.split_first_chunk()) else { return };
        let descriptor = u32::from_ne_bytes([c, d, e, f]);
        match SocketEvent::from_raw(u16::from_ne_bytes([*a, *b])) {
            SocketEvent::ACCEPTED => self.followers.insert(descriptor),
            SocketEvent::DISCONNECTED => self.followers.remove(&descriptor),
            _ => false,
        };
        self.counters.clients.store(self.followers.len(), Relaxed);
        self.counters.touch();
    }

    fn send(&mut self, out: Out) {
        let (socket, frames) = match out {
            Out::Iopub(frames) => return self.backlog.push_back(frames),
            Out::Shell(frames) => (&self.sockets.shell, frames),
            Out::Control(frames) => (&self.sockets.control, frames),
            Out::Stdin(frames) => (&self.sockets.stdin, frames),
        };
        // To a client that is gone a ROUTER sends nothing, without an error.
        if let Err(error) = multipart::send(socket, &frames, DONTWAIT) {
            log::warn!("send: {}", error.message());
        }
    }

    /// Sends what subscribers have room for. One that has none for [`PATIENCE`] loses messages, alone.
    fn send_backlog(&mut self) {
        if !self.backlog.is_empty() {
            // Who is new gets its welcome first.
            self.receive(|io| &io.sockets.iopub, Self::on_subscription);
        }
        while let Some(frames) = self.backlog.front() {
            match multipart::send(&self.sockets.iopub, frames, DONTWAIT) {
                Err(zmq::Error::EAGAIN) if !self.impatient() => return,
                Err(zmq::Error::EAGAIN) => self.send_without_waiting(),
                Ok(()) => self.stalled = None,
                Err(error) => log::error!("iopub: {}", error.message()),
            }
            if let Some(frames) = self.backlog.pop_front() {
                self.outbox.sent(size(&frames));
            }
        }
    }

    fn impatient(&mut self) -> bool {
        self.stalled.get_or_insert_with(Instant::now).elapsed() >= PATIENCE
    }

    /// Sends the head of the backlog to those who have room, past those who have none.
    fn send_without_waiting(&mut self) {
        self.counters.fault(Fault::SlowSubscriber, || "iopub: a subscriber stopped reading and loses messages".into());
        let Some(frames) = self.backlog.front() else { return };
        let sent = set_flag(&mut self.sockets.iopub, zmq_sys::ZMQ_XPUB_NODROP, false)
            .and_then(|()| multipart::send(&self.sockets.iopub, frames, DONTWAIT))
            .and_then(|()| set_flag(&mut self.sockets.iopub, zmq_sys::ZMQ_XPUB_NODROP, true));
        if let Err(error) = sent {
            log::error!("iopub: {}", error.message());
        }
    }
}

/// Reads what is there; 0 at the end.
fn drain(fd: &OwnedFd) -> usize {
    let mut bytes = [0; 64];
    // An error other than "nothing there" is the end as well.
    match rustix::io::read(fd, &mut bytes) {
        Ok(count) => count,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 1,
        Err(_) => 0,
    }
}

/// The sessions that are served while there are as many clients as there may be, the one that was quiet longest first.
/// A connection does not tell whose it is, so one that left is known by that there is room for another.
#[derive(Default)]
pub(super) struct Guests {
    sessions: Vec<String>,
    /// 0: any number.
    capacity: usize,
}

impl Guests {
    /// Whether `session` is served, with `followers` connections.
    fn admit(&mut self, session: &str, followers: usize) -> bool {
        if self.capacity == 0 {
            return true;
        }
        if let Some(at) = self.sessions.iter().position(|known| known == session) {
            let known = self.sessions.remove(at);
            self.sessions.push(known);
            return true;
        }
        if followers > self.capacity {
            return false;
        }
        if self.sessions.len() >= self.capacity {
            self.sessions.drain(..=self.sessions.len() - self.capacity);
        }
        self.sessions.push(session.to_owned());
        true
    }
}

/// The last signatures that came in, by their first half: 128 bits of an HMAC that was right do not repeat by chance.
#[derive(Default)]
pub(super) struct Seen {
    set: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Seen {
    /// Remembers `signature`, in hex; false when it was here before.
    fn insert(&mut self, signature: &[u8]) -> bool {
        let Some(half) = signature.first_chunk() else { return true };
        if !self.set.insert(*half) {
            return false;
        }
        self.order.push_back(*half);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }
}
