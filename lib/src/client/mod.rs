//! The other side of a kernel's channels: connect, execute, ask for tools, interrupt. Used by the programs and the tests.
//!
//! A client never hangs: a kernel that is not there, does not accept the key, or dies in the middle of a request is an
//! error at once.

mod find;
mod many;
mod private;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};
use zmq::{Context, DONTWAIT, POLLIN, PollItem, Socket, SocketEvent, SocketType};

pub use find::{Found, find, running};
pub use many::{Many, Reply};
pub use private::{Private, Program};

use crate::error::{Class, Error, Result};
use crate::multipart;
use crate::protocol::connection::{Channel, Connection};
use crate::protocol::content::{
    ClearOutput, Display, ErrorContent, Execute, InputReply, InputRequest, Interrupt, Shutdown, StreamContent, Tool,
};
use crate::protocol::wire::{Incoming, Session};

/// How long a kernel may take to answer the first request, which it does at once however busy it is.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How much longer than its time limit a request is waited for.
const SLACK: Duration = Duration::from_secs(5);
/// How long to listen after a connection ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What happens while a request runs.
#[derive(Debug)]
pub enum Event {
    /// Output.
    Stream(StreamContent),
    /// Something to show.
    Display(Display),
    /// Something shown earlier, as it is now.
    Update(Display),
    /// What was shown so far is to go.
    Clear(ClearOutput),
    /// A MIME bundle: the value of the script.
    Result(Value),
    /// The script's error; the reply repeats it.
    Error(ErrorContent),
    /// A question, to be answered by the return value of the handler: told when it comes, and again whenever
    /// [`Watch::input`] is readable, until there is an answer. Meanwhile output goes on and the kernel may die.
    Input(InputRequest),
}

/// What a handler says to an [`Event::Input`], nothing while the user has not finished; nothing to the others.
pub type Answer = Option<InputReply>;

/// A connection to a kernel.
pub struct Client {
    /// What the kernel is called in messages.
    name: String,
    session: Session,
    shell: Socket,
    control: Socket,
    stdin: Socket,
    iopub: Socket,
    monitor: Socket,
    /// `kernel_info_reply`.
    info: Map<String, Value>,
    subscribed: bool,
}

/// Who wants to know of what happens, and may stop it.
pub struct Watch<'a> {
    /// Receives every event.
    pub on_event: &'a mut dyn FnMut(Event) -> Result<Answer>,
    /// Readable when the user wants to stop: the first time asks the kernel to, the second time gives up.
    pub stop: Option<BorrowedFd<'a>>,
    /// Readable when there is more of an answer to a question.
    pub input: Option<BorrowedFd<'a>>,
    /// When to give up.
    pub deadline: Option<Instant>,
}

impl Client {
    /// Connects to the kernel that wrote `file`; with `output`, also to what it publishes.
    ///
    /// # Errors
    /// `NotFound` when no kernel is there, `Denied` when it does not accept the key, and those of [`Connection::read`].
    pub fn open(file: &Path, output: bool) -> Result<Self> {
        let connection = Connection::read(file)?;
        let name = connection.kernel_id.clone().unwrap_or_else(|| file.display().to_string());
        if connection.pid.is_some() && !connection.is_elsewhere() && !connection.is_alive() {
            return Err(gone(&name, file));
        }
        Self::connect(&connection, name, file, output)
    }

    fn connect(connection: &Connection, name: String, file: &Path, output: bool) -> Result<Self> {
        let context = Context::new();
        let session = Session::new(&connection.key);
        let wire =
            |error: zmq::Error| Error::new(Class::System, format!("connection to kernel {name}: {}", error.message()));
        let make = |kind: SocketType, channel: Channel| -> zmq::Result<Socket> {
            let socket = context.socket(kind)?;
            // What is on its way when we end is an interrupt; no more than that is waited for.
            socket.set_linger(if channel == Channel::Control { 100 } else { 0 })?;
            socket.set_ipv6(true)?;
            // What we ask for must not be lost, however much of it there is.
            socket.set_rcvhwm(0)?;
            socket.set_sndhwm(0)?;
            if kind == SocketType::DEALER {
                socket.set_identity(session.id().as_bytes())?;
            }
            if channel == Channel::Control {
                let events = SocketEvent::CONNECTED.to_raw()
                    | SocketEvent::CONNECT_RETRIED.to_raw()
                    | SocketEvent::CLOSED.to_raw()
                    | SocketEvent::DISCONNECTED.to_raw();
                socket.monitor("inproc://control-monitor", i32::from(events))?;
            }
            if kind != SocketType::SUB || output {
                socket.connect(&connection.endpoint(channel))?;
            }
            Ok(socket)
        };
        let control = make(SocketType::DEALER, Channel::Control).map_err(wire)?;
        let monitor = context.socket(SocketType::PAIR).map_err(wire)?;
        monitor.connect("inproc://control-monitor").map_err(wire)?;
        let shell = make(SocketType::DEALER, Channel::Shell).map_err(wire)?;
        let stdin = make(SocketType::DEALER, Channel::Stdin).map_err(wire)?;
        let iopub = make(SocketType::SUB, Channel::Iopub).map_err(wire)?;
        if output {
            iopub.set_subscribe(b"").map_err(wire)?;
        }
        let info = Map::new();
        let mut client = Client { name, session, shell, control, stdin, iopub, monitor, info, subscribed: output };
        client.handshake(file)?;
        Ok(client)
    }

    /// Asks who is there; with output, until what it publishes arrives here.
    fn handshake(&mut self, file: &Path) -> Result<()> {
        let deadline = Instant::now() + HANDSHAKE;
        let id = self.send(Channel::Control, "kernel_info_request", &json!({}))?;
        let (mut answered, mut joined, mut connected) = (false, !self.subscribed, false);
        while !answered || !joined {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let error = if connected {
                    Error::new(Class::Denied, format!("kernel {}: does not answer", self.name)).hint(format!(
                        "The key in {} may not be its key: look for the connection file it wrote last.",
                        file.display()
                    ))
                } else {
                    Error::new(Class::Timeout, format!("kernel {}: no connection", self.name))
                };
                return Err(error);
            }
            self.poll(Some(left), None, None)?;
            while let Some(event) = self.event()? {
                match event {
                    SocketEvent::CONNECTED => connected = true,
                    _ if connected => return Err(self.died()),
                    _ => return Err(gone(&self.name, file)),
                }
            }
            while let Some(message) = self.receive(Channel::Control)? {
                if message.parent.msg_id == id {
                    self.info = serde_json::from_str(message.content.get()).unwrap_or_default();
                    answered = true;
                }
            }
            while self.subscribed && self.receive(Channel::Iopub)?.is_some() {
                joined = true;
            }
        }
        Ok(())
    }

    /// What the kernel is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel said of itself: a `kernel_info_reply`.
    #[must_use]
    pub fn info(&self) -> &Map<String, Value> {
        &self.info
    }

    /// Runs code. Output and questions go to the watch; the reply comes back when all of it has been seen.
    ///
    /// # Errors
    /// `Remote` when the kernel dies, `Interrupted` when the user gives up, and what the handler returns.
    pub fn execute(&mut self, request: &Execute, watch: &mut Watch<'_>) -> Result<Map<String, Value>> {
        self.request(Channel::Shell, "execute_request", request, watch)
    }

    /// Asks about code: `is_complete_request`, `complete_request`, `inspect_request`. The kernel answers between scripts, so
    /// this waits no longer than `limit`.
    ///
    /// # Errors
    /// `Timeout` when a script ran all the time, what the reply says, and as [`Client::execute`].
    pub fn look<C: Serialize>(&mut self, msg_type: &str, content: &C, limit: Duration) -> Result<Map<String, Value>> {
        let deadline = Some(Instant::now() + limit);
        let mut watch = Watch { on_event: &mut |_| Ok(None), stop: None, input: None, deadline };
        let reply = self.request(Channel::Shell, msg_type, content, &mut watch)?;
        // An `is_complete_reply` has a status of its own.
        if reply.get("status").is_some_and(|status| status == "error") { reply_or_error(reply) } else { Ok(reply) }
    }

    /// Asks for a tool. Progress goes to the watch if the client was opened with output.
    ///
    /// # Errors
    /// What the reply says, by its class; and as [`Client::execute`].
    pub fn tool(&mut self, request: &Tool, watch: &mut Watch<'_>) -> Result<Map<String, Value>> {
        if watch.deadline.is_none() {
            let limit = request.timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            watch.deadline = limit.and_then(|limit| Instant::now().checked_add(limit + SLACK));
        }
        let reply = self.request(Channel::Shell, "tool_request", request, watch)?;
        reply_or_error(reply)
    }

    /// `status_reply`: what the kernel counts about itself.
    ///
    /// # Errors
    /// `Remote` when the kernel dies, `Timeout` when it does not answer.
    pub fn status(&mut self) -> Result<Map<String, Value>> {
        self.ask("status_request", &json!({})).and_then(reply_or_error)
    }

    /// Ends the kernel.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub fn shutdown(&mut self) -> Result<()> {
        self.ask("shutdown_request", &Shutdown { restart: false }).map(drop)
    }

    /// A request on control, which is answered at once.
    fn ask<C: Serialize>(&mut self, msg_type: &str, content: &C) -> Result<Map<String, Value>> {
        let deadline = Some(Instant::now() + SLACK);
        let mut watch = Watch { on_event: &mut |_| Ok(None), stop: None, input: None, deadline };
        self.request(Channel::Control, msg_type, content, &mut watch)
    }

    fn request<C: Serialize>(
        &mut self,
        channel: Channel,
        msg_type: &str,
        content: &C,
        watch: &mut Watch<'_>,
    ) -> Result<Map<String, Value>> {
        let id = self.send(channel, msg_type, content)?;
        self.exchange(channel, &id, watch).inspect_err(|error| {
            // Whoever asked is going: nobody else's request is meant.
            if error.class() != Class::Remote {
                let _ = self.send(Channel::Control, "interrupt_request", &Interrupt { msg_id: Some(id.clone()) });
            }
        })
    }

    /// Waits for the reply to the request `id` and, with output, for its idle.
    fn exchange(&self, channel: Channel, id: &str, watch: &mut Watch<'_>) -> Result<Map<String, Value>> {
        let (mut reply, mut idle, mut stopped, mut lost) = (None, !self.subscribed, false, None);
        let stop_it = || self.send(Channel::Control, "interrupt_request", &Interrupt { msg_id: Some(id.to_owned()) });
        let mut question: Option<(InputRequest, Incoming)> = None;
        loop {
            if let (Some(reply), true) = (&mut reply, idle) {
                return Ok(std::mem::take(reply));
            }
            let deadline = lost.into_iter().chain(watch.deadline).min();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return match (lost, reply) {
                    // The reply is here; the rest of the output is not coming.
                    (Some(_), Some(reply)) => Ok(reply),
                    (Some(_), None) => Err(self.died()),
                    (None, _) => Err(Error::new(Class::Timeout, format!("kernel {}: no reply in time", self.name))),
                };
            }
            let (stop, mut input) = self.poll(left, watch.stop, watch.input.filter(|_| question.is_some()))?;
            if stop {
                if let Some(stop) = watch.stop {
                    let _ = rustix::io::read(stop, &mut [0; 64]);
                }
                if stopped {
                    return Err(Error::new(Class::Interrupted, "interrupted").hint("The kernel may still be at it."));
                }
                stopped = true;
                stop_it()?;
            }
            while let Some(message) = self.receive(channel)? {
                if message.parent.msg_id == id {
                    reply = Some(serde_json::from_str(message.content.get()).unwrap_or_default());
                }
            }
            while let Some(message) = self.receive(Channel::Iopub)? {
                if message.parent.msg_id == id {
                    // On its own channel the wish to stop may have overtaken the request.
                    if stopped && message.content.get().contains("\"busy\"") {
                        stop_it()?;
                    }
                    idle |= self.on_iopub(&message, watch)?;
                }
            }
            while let Some(message) = self.receive(Channel::Stdin)? {
                if message.parent.msg_id == id {
                    question = serde_json::from_str(message.content.get()).ok().map(|asked| (asked, message));
                    input = true;
                }
            }
            if let Some((asked, message)) = question.as_ref().filter(|_| input)
                && let Some(answer) = (watch.on_event)(Event::Input(asked.clone()))?
            {
                self.send_as(Channel::Stdin, "input_reply", Some(&message.header_json), &answer)?;
                question = None;
            }
            while let Some(event) = self.event()? {
                if event != SocketEvent::CONNECTED && lost.is_none() {
                    // What it sent before it died may still be on its way through other connections.
                    lost = Some(Instant::now() + LAST_WORDS);
                }
            }
        }
    }

    /// True when it was the last of its request.
    fn on_iopub(&self, message: &Incoming, watch: &mut Watch<'_>) -> Result<bool> {
        fn content<T: serde::de::DeserializeOwned>(message: &Incoming) -> Option<T> {
            serde_json::from_str(message.content.get()).ok()
        }
        let event = match message.header.msg_type.as_str() {
            "status" => return Ok(message.content.get().contains("\"idle\"")),
            "stream" => content(message).map(Event::Stream),
            "display_data" => content(message).map(Event::Display),
            "update_display_data" => content(message).map(Event::Update),
            "clear_output" => content(message).map(Event::Clear),
            "execute_result" => content(message).map(|mut value: Value| Event::Result(value["data"].take())),
            "error" => content(message).map(Event::Error),
            _ => None,
        };
        if let Some(event) = event {
            (watch.on_event)(event)?;
        }
        Ok(false)
    }

    fn socket(&self, channel: Channel) -> &Socket {
        match channel {
            Channel::Shell => &self.shell,
            Channel::Iopub => &self.iopub,
            Channel::Stdin => &self.stdin,
            Channel::Control | Channel::Heartbeat => &self.control,
        }
    }

    fn send<C: Serialize>(&self, channel: Channel, msg_type: &str, content: &C) -> Result<String> {
        self.send_as(channel, msg_type, None, content)
    }

    fn send_as<C: Serialize>(
        &self,
        channel: Channel,
        msg_type: &str,
        parent: Option<&str>,
        content: &C,
    ) -> Result<String> {
        let (frames, id) = self.session.frames(&[], msg_type, parent, content);
        multipart::send(self.socket(channel), &frames, 0).map_err(|e| self.wire(e))?;
        Ok(id)
    }

    /// The next message that is one; what is forged or broken is passed over.
    fn receive(&self, channel: Channel) -> Result<Option<Incoming>> {
        loop {
            match multipart::receive(self.socket(channel), DONTWAIT) {
                Ok(frames) => match self.session.signer().parse(frames) {
                    Ok(message) => return Ok(Some(message)),
                    Err(drop) => log::warn!("{}: {drop}", channel.name()),
                },
                Err(zmq::Error::EAGAIN) => return Ok(None),
                Err(error) => return Err(self.wire(error)),
            }
        }
    }

    /// The next event of the connection.
    fn event(&self) -> Result<Option<SocketEvent>> {
        match multipart::receive(&self.monitor, DONTWAIT) {
            Ok(frames) => {
                let raw =
                    frames.first().and_then(|frame| frame.get(..2)).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
                Ok(Some(SocketEvent::from_raw(raw)))
            }
            Err(zmq::Error::EAGAIN) => Ok(None),
            Err(error) => Err(self.wire(error)),
        }
    }

    /// Sleeps until something is there to receive. Tells whether `stop` and `input` are readable.
    fn poll(
        &self,
        timeout: Option<Duration>,
        stop: Option<BorrowedFd<'_>>,
        input: Option<BorrowedFd<'_>>,
    ) -> Result<(bool, bool)> {
        let timeout = timeout.map_or(-1, |left| left.as_micros().div_ceil(1000) as i64);
        let mut items = vec![
            self.monitor.as_poll_item(POLLIN),
            self.shell.as_poll_item(POLLIN),
            self.control.as_poll_item(POLLIN),
            self.stdin.as_poll_item(POLLIN),
            self.iopub.as_poll_item(POLLIN),
        ];
        items.extend([stop, input].iter().flatten().map(|fd| PollItem::from_fd(fd.as_raw_fd(), POLLIN)));
        match zmq::poll(&mut items, timeout) {
            Ok(_) | Err(zmq::Error::EINTR) => {
                // The end of a pipe counts as well.
                let ready = |at: usize| items.get(at).is_some_and(|item| !item.get_revents().is_empty());
                Ok((stop.is_some() && ready(5), input.is_some() && ready(5 + usize::from(stop.is_some()))))
            }
            Err(error) => Err(self.wire(error)),
        }
    }

    fn wire(&self, error: zmq::Error) -> Error {
        Error::new(Class::System, format!("connection to kernel {}: {}", self.name, error.message()))
    }

    fn died(&self) -> Error {
        Error::new(Class::Remote, format!("kernel {}: went away", self.name))
            .hint("It was stopped or it crashed: its log tells. Nothing of this request can be recovered.")
    }
}

/// Waits until the kernel that wrote `file` ends, or cannot be reached. Blocks: for a thread of its own.
///
/// # Errors
/// When it cannot be watched.
pub fn wait_for_end(file: &Path) -> Result<()> {
    let connection = Connection::read(file)?;
    let wire = |error: zmq::Error| Error::new(Class::System, format!("watching a kernel: {}", error.message()));
    let context = Context::new();
    // Says nothing, so the kernel does not count it.
    let socket = context.socket(SocketType::DEALER).map_err(wire)?;
    socket.set_linger(0).map_err(wire)?;
    socket.set_ipv6(true).map_err(wire)?;
    let events =
        SocketEvent::CONNECT_RETRIED.to_raw() | SocketEvent::CLOSED.to_raw() | SocketEvent::DISCONNECTED.to_raw();
    socket.monitor("inproc://end-monitor", i32::from(events)).map_err(wire)?;
    let monitor = context.socket(SocketType::PAIR).map_err(wire)?;
    monitor.connect("inproc://end-monitor").map_err(wire)?;
    socket.connect(&connection.endpoint(Channel::Heartbeat)).map_err(wire)?;
    multipart::receive(&monitor, 0).map(drop).map_err(wire)
}

fn gone(name: &str, file: &Path) -> Error {
    Error::new(Class::NotFound, format!("kernel {name}: not running"))
        .hint(format!("{} was left behind. Start it again: llmspell-kernel --id {name}", file.display()))
}

/// The reply, or what it says went wrong.
fn reply_or_error(reply: Map<String, Value>) -> Result<Map<String, Value>> {
    match reply.get("status").and_then(Value::as_str) {
        Some("ok") => Ok(reply),
        _ => match serde_json::from_value::<ErrorContent>(Value::Object(reply)) {
            Ok(content) => Err(Error::from(&content)),
            Err(error) => Err(Error::new(Class::Remote, format!("reply of an unknown shape: {error}"))),
        },
    }
}

/// The connection file a user means, as a path.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io(path, e))
}
