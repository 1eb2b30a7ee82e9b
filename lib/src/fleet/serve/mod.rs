//! The fleet over HTTP: a page, the documents of the commands, the metrics, and a few actions.
//!
//! It answers with what the commands of this program print: each is run as a process of its own, so there is one code path
//! for a document and nothing of the asking stays here. The socket is a local one only its owner can open, or with a token
//! an address of this machine. Whatever a client does costs it its own connection and no more than that.

mod door;
mod pages;
mod work;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use self::door::Door;
use self::pages::Site;
use self::work::Work;
use crate::daemon::{Notify, PidFile, signal_fd};
use crate::error::{Class, Error, Result};
use crate::home::{self, Home};
use crate::protocol::connection::SOCKET_PATH_MAX;

/// Connections at one time. Who comes later waits until one ends.
const CONNECTIONS: usize = 64;
/// How long a client may take for the head of a request, also of its next one.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes and lines of a head.
const HEAD_SIZE: usize = 16 << 10;
const HEAD_LINES: usize = 64;
/// How long a connection may last, whatever it does.
const LIFE: Duration = Duration::from_secs(120);
/// How long requests that are being served have at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Until a listener that has no descriptor left tries again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where and for whom to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// An address; nothing for the local socket.
    pub listen: Option<SocketAddr>,
    /// Whether others than this machine may reach that address.
    pub remote: bool,
    /// Names clients may call it by, besides its address.
    pub hosts: Vec<String>,
    /// Where the token is; `-` is standard input.
    pub token_file: Option<PathBuf>,
}

/// That it serves.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Its process.
    pub pid: u32,
    /// `http://127.0.0.1:8080/`, or `unix:PATH`.
    pub endpoint: String,
    /// The file with the token, if it is in one.
    pub token_file: Option<PathBuf>,
}

/// Is told of every action: what was done, and how it went.
pub type Told = Arc<dyn Fn(&str) + Send + Sync>;

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves until SIGTERM or SIGINT. `ready` is told once clients can connect.
///
/// # Errors
/// `Conflict` when the address is taken or another serves; `Config` for an address or token that is refused; `Denied` for a
/// token others can read; `System`.
pub fn serve(home: &Home, settings: &Settings, ready: &mut dyn FnMut(&Serving), on: Told) -> Result<()> {
    if let Some(address) = settings.listen.filter(|address| !address.ip().is_loopback() && !settings.remote) {
        return Err(Error::new(Class::Config, format!("--listen {address}: other machines can reach it")).hint(
            "What is sent is not encrypted. Listen on 127.0.0.1 behind a proxy that encrypts, or add --remote if you mean it.",
        ));
    }
    home::private_dir(home.root())?;
    home::private_dir(&home.fleet_dir())?;
    let (token, token_file) = door::token(home, settings.token_file.as_deref())?;
    crate::daemon::raise_open_files();
    let stop = signal_fd(&[SIGTERM, SIGINT])?;
    // What it tells nobody has to read; a terminal that goes is no reason to end.
    let _hangup = signal_fd(&[SIGHUP])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(work::AT_ONCE)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .map_err(|error| Error::system("runtime", error))?;
    let program = std::env::current_exe().map_err(|error| Error::system("this program", error))?;
    let outcome = runtime.block_on(async {
        let (listener, endpoint, _socket) = listen(home, settings.listen)?;
        let door = Door::new(token, settings.listen, &settings.hosts);
        let site = Arc::new(Site { door, work: Work::new(program, home), on });
        let manager = Notify::from_env();
        ready(&Serving { pid: std::process::id(), endpoint, token_file });
        manager.ready("serving");
        accept(&listener, &site, stop).await?;
        manager.stopping(FAREWELL);
        Ok(())
    });
    // A command that runs for nobody any more ends by itself.
    runtime.shutdown_background();
    outcome
}

/// A socket in the file system that goes with its owner.
struct SocketFile(PathBuf, #[expect(dead_code, reason = "open it is locked")] PidFile);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn listen(home: &Home, address: Option<SocketAddr>) -> Result<(Listener, String, Option<SocketFile>)> {
    let Some(address) = address else {
        let path = home.fleet_dir().join("serve.sock");
        if path.as_os_str().len() > SOCKET_PATH_MAX {
            let text = format!("{}: longer than the {SOCKET_PATH_MAX} bytes of a socket path", path.display());
            return Err(
                Error::new(Class::Config, text).hint("Set LLMSPELL_HOME to a shorter folder, or give --listen.")
            );
        }
        let pid_file = PidFile::acquire(&home.fleet_dir().join("serve.pid")).map_err(|error| match error.class() {
            Class::Conflict => Error::new(Class::Conflict, "another llmspell-fleet serve runs").source(error),
            _ => error,
        })?;
        // The PID file is ours, so whoever left it is gone.
        let _ = std::fs::remove_file(&path);
        let bound = UnixListener::bind(&path).map_err(|error| Error::io(&path, error))?;
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).map_err(|error| Error::io(&path, error))?;
        let endpoint = format!("unix:{}", path.display());
        return Ok((Listener::Unix(bound), endpoint, Some(SocketFile(path, pid_file))));
    };
    let wrong = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Error::new(Class::Conflict, format!("--listen {address}: in use by another process"))
                .hint("Give another port; 0 takes any free one.")
        }
        _ => Error::system(format!("--listen {address}"), error),
    };
    let bound = std::net::TcpListener::bind(address).map_err(wrong)?;
    bound.set_nonblocking(true).map_err(wrong)?;
    let bound = TcpListener::from_std(bound).map_err(wrong)?;
    let endpoint = format!("http://{}/", bound.local_addr().map_err(wrong)?);
    Ok((Listener::Tcp(bound), endpoint, None))
}

/// Takes connections until `stop` is readable, and lets those that are being served end.
async fn accept(listener: &Listener, site: &Arc<Site>, stop: OwnedFd) -> Result<()> {
    let stop = UnixStream::from_std(stop.into()).map_err(|error| Error::system("signal pipe", error))?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let (ending, ends) = watch::channel(());
    loop {
        let slot = tokio::select! {
            _ = stop.readable() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let accepted = tokio::select! {
            _ = stop.readable() => break,
            accepted = async {
                Ok::<_, std::io::Error>(match listener {
                    Listener::Tcp(listener) => spawn(listener.accept().await?.0, site, ends.clone(), slot),
                    Listener::Unix(listener) => spawn(listener.accept().await?.0, site, ends.clone(), slot),
                })
            } => accepted,
        };
        if accepted.is_err() {
            // No descriptor is left; one that ends gives one back.
            tokio::select! {
                _ = stop.readable() => break,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
    drop(ends);
    let _ = ending.send(());
    let _ = tokio::time::timeout(FAREWELL, ending.closed()).await;
    Ok(())
}

fn spawn<S>(stream: S, site: &Arc<Site>, mut ends: watch::Receiver<()>, slot: impl Send + 'static)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let site = Arc::clone(site);
    tokio::spawn(async move {
        let _slot = slot;
        let service = service_fn(move |request| pages::answer(Arc::clone(&site), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_SIZE)
            .max_headers(HEAD_LINES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // What goes wrong with it is between the two of them.
        let _ = tokio::time::timeout(LIFE, async {
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = ends.changed() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        })
        .await;
    });
}
