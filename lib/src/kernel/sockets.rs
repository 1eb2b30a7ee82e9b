//! The five sockets: all of them bound, or none.

use std::os::unix::net::UnixStream;

use zmq::{Context, Socket, SocketEvent, SocketType};

use super::clients::Clients;
use crate::error::{Class, Error, Result};
use crate::protocol::connection::{Channel, Connection, SOCKET_PATH_MAX, Transport, free_ports};

/// Messages a subscriber of iopub may be behind before the kernel waits for it, and then goes on without it.
const IOPUB_QUEUE: i32 = 1000;
/// Replies a client may leave unread before more are dropped.
const REPLY_QUEUE: i32 = 100_000;
/// Largest frame that is taken in: what is larger ends its connection.
const LARGEST_FRAME: i64 = 256 << 20;
/// Requests a client may have sent before the kernel takes them in.
const REQUEST_QUEUE: i32 = 10_000;
/// Largest subscription; nobody needs a key to send one, and the topic is kept.
const LARGEST_TOPIC: i64 = 1024;
/// Largest heartbeat; nobody needs a key for it either.
const LARGEST_PING: i64 = 1 << 20;

/// Where ZeroMQ tells of connections.
const CONNECTIONS: &str = "inproc://iopub-connections";

/// The bound sockets.
pub(super) struct Sockets {
    pub(super) shell: Socket,
    pub(super) iopub: Socket,
    pub(super) stdin: Socket,
    pub(super) control: Socket,
    /// What happens to the connections of iopub.
    pub(super) connections: Socket,
}

/// Binds all five for `clients`; ports of 0 in `connection` are chosen and written back. The last is the heartbeat's.
pub(super) fn bind(context: &Context, connection: &mut Connection, clients: &Clients) -> Result<(Sockets, Socket)> {
    if connection.transport == Transport::Ipc {
        let longest = connection.ip.len() + "-65535".len();
        if longest > SOCKET_PATH_MAX {
            return Err(Error::new(
                Class::Config,
                format!("{}-…: longer than the {SOCKET_PATH_MAX} bytes of a socket path", connection.ip),
            )
            .hint("Set XDG_RUNTIME_DIR to a shorter folder, or give --port for tcp."));
        }
    }
    let make = |kind| context.socket(kind).map_err(|e| zmq_error("socket", e));
    let mut heartbeat = make(SocketType::ROUTER)?;
    let mut sockets = Sockets {
        shell: make(SocketType::ROUTER)?,
        iopub: make(SocketType::XPUB)?,
        stdin: make(SocketType::ROUTER)?,
        control: make(SocketType::ROUTER)?,
        connections: make(SocketType::PAIR)?,
    };
    configure(&mut sockets, &mut heartbeat, clients).map_err(|e| zmq_error("socket options", e))?;
    let events = i32::from(SocketEvent::ACCEPTED.to_raw() | SocketEvent::DISCONNECTED.to_raw());
    let watched = sockets.iopub.monitor(CONNECTIONS, events).and_then(|()| sockets.connections.connect(CONNECTIONS));
    watched.map_err(|e| zmq_error("socket monitor", e))?;
    let mut taken = Vec::new();
    for channel in Channel::ALL {
        let socket = match channel {
            Channel::Shell => &sockets.shell,
            Channel::Iopub => &sockets.iopub,
            Channel::Stdin => &sockets.stdin,
            Channel::Control => &sockets.control,
            Channel::Heartbeat => &heartbeat,
        };
        bind_one(socket, channel, connection, &mut taken)?;
    }
    Ok((sockets, heartbeat))
}

fn configure(sockets: &mut Sockets, heartbeat: &mut Socket, clients: &Clients) -> zmq::Result<()> {
    for router in [&sockets.shell, &sockets.stdin, &sockets.control] {
        // A client that comes back under its identity takes its connection over.
        router.set_router_handover(true)?;
        router.set_sndhwm(REPLY_QUEUE)?;
        router.set_rcvhwm(REQUEST_QUEUE)?;
        router.set_maxmsgsize(LARGEST_FRAME)?;
    }
    sockets.iopub.set_sndhwm(IOPUB_QUEUE)?;
    sockets.iopub.set_maxmsgsize(LARGEST_TOPIC)?;
    heartbeat.set_maxmsgsize(LARGEST_PING)?;
    // Every subscription is told, also when another client has the same one.
    sockets.iopub.set_xpub_verbose(true)?;
    set_flag(&mut sockets.iopub, zmq_sys::ZMQ_XPUB_NODROP, true)?;
    let Sockets { shell, iopub, stdin, control, .. } = sockets;
    for socket in [shell, iopub, stdin, control, heartbeat] {
        socket.set_linger(1000)?;
        clients.guard(socket)?;
    }
    Ok(())
}

/// Sets a switch the zmq crate has no name for.
pub(super) fn set_flag(socket: &mut Socket, option: u32, on: bool) -> zmq::Result<()> {
    set_option(socket, option, &i32::from(on).to_ne_bytes())
}

/// Sets an option the zmq crate has no name for.
#[expect(unsafe_code, reason = "options that are missing in the zmq crate")]
pub(super) fn set_option(socket: &mut Socket, option: u32, value: &[u8]) -> zmq::Result<()> {
    // SAFETY: the socket is open and ours; libzmq copies `value`, whose size is given, and checks it.
    let code =
        unsafe { zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), option as i32, value.as_ptr().cast(), value.len()) };
    if code == 0 {
        return Ok(());
    }
    // SAFETY: no arguments; reads the error of this thread.
    Err(zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() }))
}

fn bind_one(socket: &Socket, channel: Channel, connection: &mut Connection, taken: &mut Vec<u16>) -> Result<()> {
    let fixed = connection.port(channel);
    if fixed != 0 || connection.transport == Transport::Ipc {
        if fixed == 0 {
            connection.set_port(channel, taken.len() as u16 + 1);
        }
        taken.push(connection.port(channel));
        let endpoint = connection.endpoint(channel);
        // ZeroMQ would take the socket of a living process over without a word.
        if connection.socket_file(channel).is_some_and(|file| UnixStream::connect(file).is_ok()) {
            return Err(Error::new(Class::Conflict, format!("{endpoint}: in use by another process"))
                .hint("Stop that one, or choose another --id."));
        }
        return socket.bind(&endpoint).map_err(|error| {
            let error = zmq_error(&format!("{} channel at {endpoint}", channel.name()), error);
            if error.class() == Class::Conflict {
                error.hint("Give another --port, or none to take any free one.")
            } else {
                error
            }
        });
    }
    let ip = connection.ip.clone();
    for port in free_ports(&ip) {
        if taken.contains(&port) {
            continue;
        }
        connection.set_port(channel, port);
        match socket.bind(&connection.endpoint(channel)) {
            Ok(()) => {
                taken.push(port);
                return Ok(());
            }
            Err(zmq::Error::EADDRINUSE) => continue,
            Err(error) => return Err(zmq_error(&format!("{} channel at {ip}", channel.name()), error)),
        }
    }
    Err(Error::new(Class::Conflict, format!("{ip}: no free port")))
}

/// ZeroMQ's error on `thing`.
pub(super) fn zmq_error(thing: &str, error: zmq::Error) -> Error {
    let class = match error {
        zmq::Error::EADDRINUSE => Class::Conflict,
        zmq::Error::EACCES => Class::Denied,
        zmq::Error::EADDRNOTAVAIL | zmq::Error::ENODEV | zmq::Error::EINVAL => Class::Config,
        _ => Class::System,
    };
    Error::new(class, format!("{thing}: {}", error.message().to_lowercase())).source(error)
}
