//! A kernel as another process, and the thinnest client of it: raw sockets, our frames, nothing checked that is timed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use llmspell::protocol::connection::{Channel, Connection, Transport, free_ports};
use llmspell::protocol::wire::Session;
use serde_json::json;
use zmq::{Context, POLLIN, Socket, SocketType};

use crate::floor::Helper;
use crate::{Result, text};

/// How long anything may take before the benchmark gives up on it.
const PATIENCE_MS: i32 = 60_000;

pub(crate) struct Kernel {
    process: Process,
    session: Session,
    shell: Socket,
    control: Socket,
    iopub: Socket,
    pub(crate) heartbeat: Socket,
    file: PathBuf,
    /// Seconds from exec to the first `kernel_info_reply`.
    pub(crate) start: f64,
}

/// What answers.
enum Process {
    Kernel(Child),
    /// One that only replies; held for its end.
    Replier {
        _helper: Helper,
    },
    /// One that others started.
    Other,
}

/// A message that came: the reply to whom, and its content.
struct Message(Vec<Vec<u8>>);

impl Message {
    fn answers(&self, id: &str) -> bool {
        self.0.len() > 3 && contains(&self.0[self.0.len() - 3], id.as_bytes())
    }

    fn content(&self) -> &[u8] {
        self.0.last().map_or(&[], |frame| frame)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Endpoints nobody has: a number for file names, ports for tcp.
fn connection(dir: &Path, transport: Transport) -> Connection {
    static NUMBER: AtomicU16 = AtomicU16::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut connection = match transport {
        Transport::Ipc => {
            Connection::new(transport, dir.join(format!("k{number}")).display().to_string(), [1, 2, 3, 4, 5])
        }
        Transport::Tcp => Connection::new(transport, "127.0.0.1".into(), [0; 5]),
    };
    if transport == Transport::Tcp {
        let free: Vec<_> = free_ports("127.0.0.1").skip(usize::from(number) * 5).take(5).collect();
        Channel::ALL.into_iter().zip(free).for_each(|(channel, port)| connection.set_port(channel, port));
    }
    connection
}

impl Kernel {
    /// Starts `program` and waits until it answers.
    pub(crate) fn start(program: &Path, dir: &Path, transport: Transport) -> Result<Self> {
        Self::start_with(dir, transport, |_, file| {
            let child = Command::new(program)
                .arg("--connection-file")
                .arg(file)
                .env_clear()
                .env("HOME", dir)
                .current_dir(dir)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn();
            Ok(Process::Kernel(child.map_err(|e| format!("{}: {e}", program.display()))?))
        })
    }

    /// The kernel that only replies.
    pub(crate) fn start_replier(dir: &Path, transport: Transport) -> Result<Self> {
        Self::start_with(dir, transport, |connection, _| {
            let (shell, iopub) = (connection.endpoint(Channel::Shell), connection.endpoint(Channel::Iopub));
            Ok(Process::Replier { _helper: Helper::start(&["--replier", &shell, &iopub, &connection.key])? })
        })
    }

    /// What listens where `file` says.
    pub(crate) fn attach(file: &Path) -> Result<Self> {
        let connection = Connection::read(file).map_err(text)?;
        Self::connect(&connection, file.to_owned(), |_, _| Ok(Process::Other))
    }

    fn start_with(
        dir: &Path,
        transport: Transport,
        spawn: impl FnOnce(&Connection, &Path) -> Result<Process>,
    ) -> Result<Self> {
        let connection = connection(dir, transport);
        let file = dir.join(format!("{}.json", connection.key));
        connection.write(&file).map_err(text)?;
        Self::connect(&connection, file, spawn)
    }

    fn connect(
        connection: &Connection,
        file: PathBuf,
        spawn: impl FnOnce(&Connection, &Path) -> Result<Process>,
    ) -> Result<Self> {
        let context = Context::new();
        let session = Session::new(&connection.key);
        let connect = |kind, channel: Channel| -> zmq::Result<Socket> {
            let socket = context.socket(kind)?;
            socket.set_linger(0)?;
            socket.set_sndhwm(0)?;
            socket.set_rcvhwm(0)?;
            socket.set_rcvtimeo(PATIENCE_MS)?;
            // The kernel is not there yet.
            socket.set_reconnect_ivl(1)?;
            if kind == SocketType::SUB {
                socket.set_subscribe(b"")?;
            }
            socket.connect(&connection.endpoint(channel))?;
            Ok(socket)
        };
        let shell = connect(SocketType::DEALER, Channel::Shell).map_err(text)?;
        let control = connect(SocketType::DEALER, Channel::Control).map_err(text)?;
        let iopub = connect(SocketType::SUB, Channel::Iopub).map_err(text)?;
        let heartbeat = connect(SocketType::DEALER, Channel::Heartbeat).map_err(text)?;
        let begun = Instant::now();
        let process = spawn(connection, &file)?;
        let mut kernel = Kernel { process, session, shell, control, iopub, heartbeat, file, start: 0.0 };
        kernel.info(Channel::Shell)?;
        kernel.start = begun.elapsed().as_secs_f64();
        kernel.join()?;
        Ok(kernel)
    }

    /// Asks until what it publishes arrives, and until nothing more does.
    fn join(&self) -> Result<()> {
        while self.iopub.poll(POLLIN, 50).map_err(text)? == 0 {
            self.info(Channel::Shell)?;
        }
        while self.iopub.poll(POLLIN, 50).map_err(text)? != 0 {
            receive(&self.iopub)?;
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.process {
            Process::Kernel(child) => child.id(),
            Process::Replier { .. } | Process::Other => 0,
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    fn socket(&self, channel: Channel) -> &Socket {
        if channel == Channel::Control { &self.control } else { &self.shell }
    }

    fn send(&self, channel: Channel, msg_type: &str, content: &serde_json::Value) -> Result<String> {
        let (frames, id) = self.session.frames(&[], msg_type, None, content);
        self.socket(channel).send_multipart(frames, 0).map_err(text)?;
        Ok(id)
    }

    fn reply(&self, channel: Channel, id: &str) -> Result<Message> {
        loop {
            let message = receive(self.socket(channel))?;
            if message.answers(id) {
                return Ok(message);
            }
        }
    }

    /// What is published about `id` until its idle.
    fn published(&self, id: &str) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = receive(&self.iopub)?;
            if message.answers(id) {
                let idle = contains(message.content(), b"\"idle\"");
                messages.push(message);
                if idle {
                    return Ok(messages);
                }
            }
        }
    }

    /// Seconds of a `kernel_info_request`, to its reply.
    pub(crate) fn info(&self, channel: Channel) -> Result<f64> {
        let begun = Instant::now();
        let id = self.send(channel, "kernel_info_request", &json!({}))?;
        self.reply(channel, &id)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Seconds of a script, until its idle and its reply are here, and what it printed: messages and bytes.
    pub(crate) fn execute(&self, code: &str) -> Result<(f64, usize, usize)> {
        let begun = Instant::now();
        let id = self.send(Channel::Shell, "execute_request", &execute(code))?;
        let published = self.published(&id)?;
        let reply = self.reply(Channel::Shell, &id)?;
        let seconds = begun.elapsed().as_secs_f64();
        if !contains(reply.content(), b"\"ok\"") {
            return Err(String::from_utf8_lossy(reply.content()).into_owned());
        }
        let texts = published.iter().filter_map(|message| {
            let content: serde_json::Value = serde_json::from_slice(message.content()).ok()?;
            Some(content.get("text")?.as_str()?.len())
        });
        let texts: Vec<usize> = texts.collect();
        Ok((seconds, texts.len(), texts.iter().sum()))
    }

    /// Seconds of `count` scripts sent at once, until every reply and every idle is here.
    pub(crate) fn pipelined(&self, count: usize) -> Result<f64> {
        let requests: Vec<_> =
            (0..count).map(|_| self.session.frames(&[], "execute_request", None, &execute("1+1")).0).collect();
        let begun = Instant::now();
        for frames in requests {
            self.shell.send_multipart(frames, 0).map_err(text)?;
        }
        let (mut replies, mut idles) = (0, 0);
        while replies < count || idles < count {
            let mut items = [self.shell.as_poll_item(POLLIN), self.iopub.as_poll_item(POLLIN)];
            if zmq::poll(&mut items, i64::from(PATIENCE_MS)).map_err(text)? == 0 {
                return Err(format!("{replies} replies and {idles} idles of {count}"));
            }
            while let Ok(frames) = self.shell.recv_multipart(zmq::DONTWAIT) {
                if !contains(Message(frames).content(), b"\"ok\"") {
                    return Err("a script failed".into());
                }
                replies += 1;
            }
            while let Ok(frames) = self.iopub.recv_multipart(zmq::DONTWAIT) {
                idles += usize::from(contains(Message(frames).content(), b"\"idle\""));
            }
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Seconds from `interrupt_request` to the reply of the script that it ends.
    pub(crate) fn interrupt(&self, code: &str) -> Result<f64> {
        self.stopped_by(code, || self.send(Channel::Control, "interrupt_request", &json!({})).map(drop))
    }

    /// Seconds from `stop` to the reply of the script that it ends.
    pub(crate) fn stopped_by(&self, code: &str, stop: impl FnOnce() -> Result<()>) -> Result<f64> {
        let id = self.send(Channel::Shell, "execute_request", &execute(code))?;
        while !receive(&self.iopub)?.answers(&id) {}
        std::thread::sleep(Duration::from_millis(100));
        let begun = Instant::now();
        stop()?;
        self.reply(Channel::Shell, &id)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.published(&id)?;
        Ok(seconds)
    }

    /// Seconds until the process has ended.
    pub(crate) fn shutdown(mut self) -> Result<f64> {
        let begun = Instant::now();
        self.send(Channel::Control, "shutdown_request", &json!({"restart": false}))?;
        if let Process::Kernel(child) = &mut self.process {
            child.wait().map_err(text)?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Process::Kernel(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn execute(code: &str) -> serde_json::Value {
    json!({"code": code, "silent": false, "store_history": true, "allow_stdin": false, "stop_on_error": true})
}

fn receive(socket: &Socket) -> Result<Message> {
    socket.recv_multipart(0).map(Message).map_err(|error| format!("nothing more came: {error}"))
}
