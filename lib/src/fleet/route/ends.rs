//! Where connections begin: the five sockets clients come to, and the way to those of a kernel.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, getpeername, socket_with, sockopt};

use crate::error::{Class, Error, Result};
use crate::fleet::sys;
use crate::protocol::connection::{Channel, Connection, SOCKET_PATH_MAX, Transport, free_ports};

/// Whose a connection is. What a session gets to see goes to the connections of its owner, as a subscription does not say
/// of which session it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A process, which the system knows for local sockets.
    Process(i32),
    /// A machine. What is nearer cannot be told: the end of an ssh tunnel is another process for every port.
    Address(Option<IpAddr>),
}

/// Binds all five, or none; ports of 0 are chosen and written into `connection`.
pub(super) fn bind(connection: &mut Connection) -> Result<[OwnedFd; 5]> {
    if connection.transport == Transport::Ipc && connection.ip.len() + "-65535".len() > SOCKET_PATH_MAX {
        let text = format!("{}-…: longer than the {SOCKET_PATH_MAX} bytes of a socket path", connection.ip);
        return Err(Error::new(Class::Config, text).hint("Set XDG_RUNTIME_DIR to a shorter folder, or give --port."));
    }
    let mut taken = HashSet::new();
    let mut bound = Vec::new();
    for (number, channel) in Channel::ALL.into_iter().enumerate() {
        if connection.transport == Transport::Ipc && connection.port(channel) == 0 {
            connection.set_port(channel, number as u16 + 1);
        }
        bound.push(bind_one(connection, channel, &mut taken)?);
    }
    bound.try_into().map_err(|_| Error::new(Class::Bug, "five channels"))
}

fn bind_one(connection: &mut Connection, channel: Channel, taken: &mut HashSet<u16>) -> Result<OwnedFd> {
    let wrong = |connection: &Connection, error: std::io::Error| {
        let thing = format!("{} channel at {}", channel.name(), connection.endpoint(channel));
        match error.kind() {
            std::io::ErrorKind::AddrInUse => Error::new(Class::Conflict, format!("{thing}: in use by another process"))
                .hint("Give another --port, or none for local sockets."),
            _ => Error::system(thing, error),
        }
    };
    if let Some(file) = connection.socket_file(channel) {
        // The PID file is ours, so whoever left it is gone.
        let _ = fs::remove_file(&file);
        let listener = UnixListener::bind(&file).map_err(|error| wrong(connection, error))?;
        listener.set_nonblocking(true).map_err(|error| wrong(connection, error))?;
        return Ok(listener.into());
    }
    let ip = connection.ip.clone();
    let fixed = connection.port(channel);
    let candidates: &mut dyn Iterator<Item = u16> =
        if fixed == 0 { &mut free_ports(&ip) } else { &mut std::iter::once(fixed) };
    for port in candidates {
        if taken.contains(&port) {
            continue;
        }
        connection.set_port(channel, port);
        match TcpListener::bind((ip.as_str(), port)) {
            Ok(listener) => {
                taken.insert(port);
                listener.set_nonblocking(true).map_err(|error| wrong(connection, error))?;
                return Ok(listener.into());
            }
            Err(error) if fixed == 0 && error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(wrong(connection, error)),
        }
    }
    Err(Error::new(Class::Conflict, format!("{ip}: no free port")))
}

/// The next who came to `listener`, and whose connection it is.
pub(super) fn accept(listener: &OwnedFd, transport: Transport) -> rustix::io::Result<(OwnedFd, Owner)> {
    let fd = rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let owner = match transport {
        Transport::Ipc => Owner::Process(sys::peer_process(&fd).unwrap_or(0)),
        Transport::Tcp => {
            let _ = sockopt::set_tcp_nodelay(&fd, true);
            let address = getpeername(&fd).ok().flatten().and_then(|address| SocketAddr::try_from(address).ok());
            Owner::Address(address.map(|address| address.ip().to_canonical()))
        }
    };
    Ok((fd, owner))
}

/// A connection to a channel of a kernel, made or on its way.
pub(super) fn reach(connection: &Connection, channel: Channel) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    if let Some(file) = connection.socket_file(channel) {
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&fd, &SocketAddrUnix::new(file)?)?;
        return Ok(fd);
    }
    let host = connection.ip.trim_matches(['[', ']']);
    let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such address");
    let address = (host, connection.port(channel)).to_socket_addrs()?.next().ok_or_else(none)?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    match connect(&fd, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}
