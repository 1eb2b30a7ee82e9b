//! Connections of tools. A connection goes to the very addresses the policy checked, so a name that resolves differently a
//! moment later (DNS rebinding) gains nothing; TLS compares the certificate with the name. Proxies of the environment are
//! not used: they would resolve names beyond the policy's sight. A wait ends with the call.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as connect_socket, socket_with, sockopt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Call;
use crate::error::{Class, Error, Result, reason};
use crate::units::show_duration;

/// Longest wait for one address while there are others to try.
const NEXT_ADDRESS: Duration = Duration::from_secs(10);

/// Either kind of connection.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A TCP connection whose waits end with the call.
pub struct Socket {
    stream: TcpStream,
    call: Call,
    patience: Patience,
}

/// Longest wait for a single step of a connection; clones share it, so that it can change while the connection is in use.
#[derive(Clone, Debug, Default)]
pub struct Patience(Arc<AtomicU64>);

impl Patience {
    /// No step may take longer than `limit` from now on; zero sets no limit.
    pub fn set(&self, limit: Duration) {
        self.0.store(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn limit(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|millis| *millis > 0).map(Duration::from_millis)
    }
}

/// Connects to `host`:`port`, if the policy allows.
///
/// # Errors
/// `Denied`, `Remote` when nobody answers, `Timeout`, `Interrupted`.
pub fn connect(host: &str, port: u16, call: &Call) -> Result<Socket> {
    connect_to(&call.policy.check_host(host, port)?, &format!("{host}:{port}"), call)
}

/// Connects to the first of `addresses` that answers, whatever `name` may stand for by now.
fn connect_to(addresses: &[SocketAddr], name: &str, call: &Call) -> Result<Socket> {
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        let others = index + 1 < addresses.len();
        let limit = others.then(|| Instant::now() + NEXT_ADDRESS);
        match try_connect(*address, limit, call) {
            Ok(stream) => return Ok(Socket { stream, call: call.clone(), patience: Patience::default() }),
            Err(error) => {
                call.check()?;
                last = Some(error);
            }
        }
    }
    let error = last.unwrap_or_else(|| io::Error::other("no address"));
    Err(Error::new(Class::Remote, format!("{name}: {}", reason(&error))).source(error))
}

fn try_connect(address: SocketAddr, limit: Option<Instant>, call: &Call) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect_socket(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            let until = [limit, call.deadline].into_iter().flatten().min();
            let ready = call.cancel.poll(&[(socket.as_fd(), PollFlags::OUT)], until)?;
            if ready[0].is_empty() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
            }
            sockopt::socket_error(&socket)??;
        }
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    // A question is sent when it is asked.
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Socket {
    /// The address it is connected to.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// The same connection, whose waits now end with `call`.
    #[must_use]
    pub fn of(self, call: &Call) -> Self {
        Socket { call: call.clone(), ..self }
    }

    /// How long it waits for a step.
    pub fn patience(&self) -> Patience {
        self.patience.clone()
    }

    fn wait<T>(&mut self, what: PollFlags, mut step: impl FnMut(&mut TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match step(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => return done,
            }
            self.call.check().map_err(io::Error::other)?;
            let limit = self.patience.limit();
            let until = [limit.map(|limit| Instant::now() + limit), self.call.deadline].into_iter().flatten().min();
            let ready = self.call.cancel.poll(&[(self.stream.as_fd(), what)], until)?;
            if let (Some(limit), true) = (limit, ready[0].is_empty()) {
                self.call.check().map_err(io::Error::other)?;
                let text = format!("nothing came for {}", show_duration(limit));
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Also between reads that never wait.
        self.call.check().map_err(io::Error::other)?;
        self.wait(PollFlags::IN, |stream| stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.call.check().map_err(io::Error::other)?;
        self.wait(PollFlags::OUT, |stream| stream.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Speaks TLS over `socket` as a client of `host`; the handshake is over when this returns.
///
/// # Errors
/// `Remote` when the certificate is not that of the host or the other side fails; `Timeout`, `Interrupted`; `Config` for a
/// bad `tools.ca_file`.
pub fn tls(host: &str, mut socket: Socket) -> Result<StreamOwned<ClientConnection, Socket>> {
    let remote = |what: String| Error::new(Class::Remote, format!("{host}: {what}"));
    let config = tls_config(socket.call.settings.ca_file.as_deref())?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|e| remote(e.to_string()))?;
    let mut connection = ClientConnection::new(config, name).map_err(|e| remote(e.to_string()))?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut socket)
            .map_err(|error| socket.call.check().err().unwrap_or_else(|| remote(reason(&error))))?;
    }
    Ok(StreamOwned::new(connection, socket))
}

/// What a TLS client trusts: Mozilla's list, and the authorities of `ca_file`.
///
/// # Errors
/// `Config` when `ca_file` holds no certificates.
pub fn tls_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    static USUAL: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let (None, Some(config)) = (ca_file, USUAL.get()) {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = ca_file {
        let wrong = |what: String| Error::new(Class::Config, format!("tools.ca_file: {}: {what}", file.display()));
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
        let certificates = read.map_err(|e| wrong(e.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("no certificate in it".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
    }
    let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Class::Bug, e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    if ca_file.is_none() {
        // Two first calls at once make the same.
        drop(USUAL.set(Arc::clone(&config)));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::security::{Grants, Policy, Profile};

    fn call(net: &[&str]) -> Call {
        let net = net.iter().map(|host| (*host).to_owned()).collect();
        Call::new(Arc::new(Policy::new(Grants {
            profile: Profile::Safe,
            workdir: "/".into(),
            net,
            ..Grants::default()
        })))
    }

    #[test]
    fn connections_go_where_the_check_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let call = call(&["127.0.0.1"]);
        // The first refuses, the name leads nowhere.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut socket = connect_to(&[closed, address], "rebinding.invalid", &call).unwrap();
        assert_eq!(socket.peer().unwrap(), address);
        let (mut other, _) = listener.accept().unwrap();
        socket.write_all(b"x").unwrap();
        let mut got = [0];
        other.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"x");
        drop(other);
        assert_eq!(socket.read(&mut got).unwrap(), 0);
        assert_eq!(connect("127.0.0.2", 1, &call).err().map(|e| e.class()), Some(Class::Denied));
        assert_eq!(connect("127.0.0.1", closed.port(), &call).err().map(|e| e.class()), Some(Class::Remote));
    }

    #[test]
    fn a_wait_ends_with_the_call() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut socket = connect("127.0.0.1", port, &call(&["127.0.0.1"]).within(Duration::from_millis(20))).unwrap();
        assert!(socket.read(&mut [0]).is_err());
        let mut socket = connect("127.0.0.1", port, &call(&["127.0.0.1"])).unwrap();
        socket.patience().set(Duration::from_millis(20));
        let error = socket.read(&mut [0]).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::TimedOut, "nothing came for 20ms".to_owned()));
        let call = call(&["127.0.0.1"]);
        let mut socket = connect("127.0.0.1", port, &call).unwrap();
        let reader = std::thread::spawn(move || socket.read(&mut [0]).is_err());
        call.cancel.cancel();
        assert!(reader.join().unwrap());
    }

    #[test]
    fn certificate_files_are_read_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(tls_config(Some(&file)).unwrap_err().class(), Class::Config, "{text}");
        }
        assert!(Arc::ptr_eq(&tls_config(None).unwrap(), &tls_config(None).unwrap()));
    }
}
