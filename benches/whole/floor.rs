//! What ZeroMQ itself costs here: other processes that echo, or answer as a kernel that has nothing to do.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use llmspell::protocol::wire::Session;
use serde_json::json;
use zmq::{Context, Socket, SocketType};

use crate::{Result, text};

/// Another process of this program; it ends with this one's wish.
pub(crate) struct Helper(Child);

impl Helper {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().map_err(text)?);
        Ok(Helper(command.args(arguments).stdin(Stdio::null()).spawn().map_err(text)?))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends back whatever comes, by libzmq alone.
pub(crate) fn echo(endpoint: &str) -> Result<()> {
    let socket = Context::new().socket(SocketType::ROUTER).map_err(text)?;
    socket.bind(endpoint).map_err(text)?;
    zmq::proxy(&socket, &socket).map_err(text)
}

/// Answers every request as a kernel must: verified, busy, input, reply, idle, all signed; one thread, nothing else.
pub(crate) fn replier(shell: &str, iopub: &str, key: &str) -> Result<()> {
    let context = Context::new();
    let bind = |kind, endpoint| -> zmq::Result<Socket> {
        let socket = context.socket(kind)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.bind(endpoint)?;
        Ok(socket)
    };
    let (shell, iopub) = (bind(SocketType::ROUTER, shell).map_err(text)?, bind(SocketType::PUB, iopub).map_err(text)?);
    let session = Session::new(key);
    let publish = |parent: &str, kind: &str, content| {
        let (frames, _) = session.frames(&[kind.as_bytes().to_vec()], kind, Some(parent), &content);
        iopub.send_multipart(frames, 0).map_err(text)
    };
    loop {
        let frames = shell.recv_multipart(0).map_err(text)?;
        let message = session.signer().parse(frames).map_err(text)?;
        let parent = &message.header_json;
        publish(parent, "status", json!({"execution_state": "busy"}))?;
        publish(parent, "execute_input", json!({"code": "1+1", "execution_count": 1}))?;
        let reply = json!({"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []});
        let (frames, _) = session.frames(&message.identities, "execute_reply", Some(parent), &reply);
        shell.send_multipart(frames, 0).map_err(text)?;
        publish(parent, "status", json!({"execution_state": "idle"}))?;
    }
}

/// The other end of an [`echo`].
pub(crate) struct Echo {
    socket: Socket,
    _process: Helper,
}

impl Echo {
    pub(crate) fn start(endpoint: &str) -> Result<Self> {
        let socket = Context::new().socket(SocketType::DEALER).map_err(text)?;
        socket.set_reconnect_ivl(5).map_err(text)?;
        socket.set_linger(0).map_err(text)?;
        socket.connect(endpoint).map_err(text)?;
        let echo = Echo { socket, _process: Helper::start(&["--echo", endpoint])? };
        echo.round(10)?;
        Ok(echo)
    }

    /// Seconds of `count` round trips.
    pub(crate) fn round(&self, count: usize) -> Result<Vec<f64>> {
        (0..count).map(|_| echoed(&self.socket)).collect()
    }
}

/// Seconds until what is sent is back.
pub(crate) fn echoed(socket: &Socket) -> Result<f64> {
    let begun = Instant::now();
    socket.send(&b"ping"[..], 0).map_err(text)?;
    socket.recv_bytes(0).map_err(text)?;
    Ok(begun.elapsed().as_secs_f64())
}
