//! One connection file for a pool of equal kernels. A session of a client is bound to the least busy of them; what it asks
//! goes there, what that kernel publishes about it comes back, and when the kernel dies its requests are answered with an
//! error at once and the session moves on.
//!
//! Everything happens on one thread that waits for descriptors: clients, kernels, files that change, processes that end.
//! Clients have the pool's key and never see that of a kernel: what passes is verified with one and signed with the other,
//! byte for byte.

mod ends;
mod pool;
mod router;
mod traffic;
mod zmtp;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::pool::Pool;
use self::router::Router;
use super::launch::Ready;
use super::process::{Here, timespec};
use super::survey::{Kernel, survey};
use super::wanted::{Wanted, changes, drain};
use super::watch::Event;
use crate::daemon::{Notify, PidFile, signal_fd};
use crate::error::{Class, Error, Result};
use crate::home::{self, Home};
use crate::protocol::connection::{Channel, Connection, Transport};
use crate::protocol::wire::Session;

/// How long kernels may take to answer before the route is ready without them.
const START: Duration = Duration::from_secs(2);

/// Tokens of what is not a connection.
const CHANGES: u64 = 5;
const STOP: u64 = 6;
const HANGUP: u64 = 7;
const FIRST: u64 = 16;

/// The key in a connection file that says it is no kernel's own.
const MARK: &str = "pool";

/// What is routed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What the route is called, as if it were a kernel.
    pub id: String,
    /// Names of kernels, as in every command; none: all.
    pub names: Vec<String>,
    /// Labels they must have.
    pub labels: BTreeMap<String, String>,
    /// The shell port; nothing for local sockets.
    pub port: Option<u16>,
}

/// Whether `connection` is that of a route.
#[must_use]
pub fn is_route(connection: &Connection) -> bool {
    connection.rest.contains_key(MARK)
}

/// Routes until SIGTERM or SIGINT. `ready` is told once clients can connect, `on` what happens.
///
/// # Errors
/// `Conflict` when the id, a port or a name is taken; `Config` for paths that are too long; `System`.
pub fn route(
    home: &Home,
    here: &Here,
    settings: &Settings,
    ready: &mut dyn FnMut(&Ready),
    on: &mut dyn FnMut(&Event),
) -> Result<()> {
    for dir in [home.root().to_owned(), home.kernel_dir(), home.wanted_dir()] {
        home::private_dir(&dir)?;
    }
    refuse_taken(home, here, &settings.id)?;
    let pid_file = PidFile::acquire(&home.pid_file(&settings.id)).map_err(|error| match error.class() {
        Class::Conflict => error.within(settings.id.clone()),
        _ => error,
    })?;
    crate::daemon::raise_open_files();
    let mut connection = front(home, settings)?;
    if connection.transport == Transport::Ipc {
        home::private_dir(&home.runtime_dir())?;
    }
    let stop = signal_fd(&[SIGTERM, SIGINT])?;
    let hangup = signal_fd(&[SIGHUP])?;
    let explicit: Vec<PathBuf> = settings.names.iter().filter(|name| is_file(name)).map(PathBuf::from).collect();
    let mut dirs = vec![home.kernel_dir(), home.wanted_dir()];
    for file in &explicit {
        let file = crate::client::absolute(file)?;
        dirs.extend(file.parent().map(Path::to_path_buf));
    }
    let changes = changes(&dirs)?;
    let listeners = ends::bind(&mut connection)?;
    connection.kernel_id = Some(settings.id.clone());
    connection.identify();
    let files = Files { home, id: &settings.id, connection: connection.clone(), _pid_file: pid_file };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::system("epoll", e.into()))?;
    let add = |fd: &OwnedFd, token| {
        epoll::add(&epoll, fd, EventData::new_u64(token), EventFlags::IN).map_err(|e| Error::system("epoll", e.into()))
    };
    for (token, listener) in listeners.iter().enumerate() {
        add(listener, token as u64)?;
    }
    add(&changes, CHANGES)?;
    add(&stop, STOP)?;
    add(&hangup, HANGUP)?;
    let mut router = Router {
        home,
        here,
        settings,
        session: Session::new(&connection.key),
        connection,
        epoll,
        links: HashMap::new(),
        names: [const { None }; 5].map(|_: Option<()>| HashMap::new()),
        followers: HashMap::new(),
        pool: Pool::default(),
        processes: HashMap::new(),
        next: FIRST,
        due: None,
        deaf: false,
        begun: Instant::now(),
        told: false,
        faults: BTreeMap::new(),
        on,
    };
    router.sync();
    let manager = Notify::from_env();
    let mut said = usize::MAX;
    let mut events = Vec::with_capacity(64);
    loop {
        if !router.told && (router.is_settled() || router.begun.elapsed() >= START) {
            router.told = true;
            files.publish()?;
            ready(&files.ready());
            manager.say("READY=1");
        }
        let count = router.pool.ready();
        if router.told && count != said {
            said = count;
            manager.say(&format!("STATUS=routing to {count} of {} kernels", router.pool.members.len()));
        }
        if !router.told {
            router.arm(router.begun + START);
        }
        let left = router.due.map(|due| timespec(due.saturating_duration_since(Instant::now())));
        match epoll::wait(&router.epoll, spare_capacity(&mut events), left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::system("epoll", error.into())),
        }
        let mut stale = false;
        for event in events.drain(..) {
            let (token, flags) = (event.data.u64(), event.flags);
            match token {
                STOP => {
                    manager.say("STOPPING=1");
                    router.farewell();
                    return Ok(());
                }
                CHANGES => {
                    drain(&changes);
                    stale = true;
                }
                HANGUP => {
                    let _ = rustix::io::read(&hangup, &mut [0; 64]);
                    stale = true;
                }
                listener if listener < CHANGES => router.accept(&listeners, listener as usize),
                token => match router.processes.get(&token).cloned() {
                    Some(id) => router.lose(&id, "its process ended"),
                    None => router.on_link(token, flags),
                },
            }
        }
        if router.due.is_some_and(|due| due <= Instant::now()) {
            router.tend(&listeners);
        }
        if stale {
            router.sync();
        }
    }
}

fn is_file(name: &str) -> bool {
    name.contains('/') || name.ends_with(".json")
}

/// A route must not look like a kernel there is.
fn refuse_taken(home: &Home, here: &Here, id: &str) -> Result<()> {
    home::check_id(id)?;
    let group = |kernel: &Kernel| kernel.wanted.as_ref().and_then(|wanted| wanted.group.clone()).as_deref() == Some(id);
    if Wanted::read(home, id).is_ok_and(|wanted| wanted.is_none()) && !survey(home, here).iter().any(group) {
        return Ok(());
    }
    Err(Error::new(Class::Conflict, format!("{id}: kernels are called so")).hint("Give the route another --name."))
}

/// The addresses of the route. Those of one that was killed are kept, with its key, so that its clients come back.
fn front(home: &Home, settings: &Settings) -> Result<Connection> {
    let transport = if settings.port.is_some() { Transport::Tcp } else { Transport::Ipc };
    let left = Connection::read(&home.connection_file(&settings.id)).ok().filter(|left| {
        is_route(left)
            && left.transport == transport
            && settings.port.is_none_or(|port| [0, left.shell_port].contains(&port))
    });
    let ip = match transport {
        Transport::Ipc => home.runtime_dir().join(&settings.id).display().to_string(),
        Transport::Tcp => "127.0.0.1".to_owned(),
    };
    let fresh = || Connection::new(transport, ip, [settings.port.unwrap_or(0), 0, 0, 0, 0]);
    let mut connection = left.unwrap_or_else(fresh);
    if let Some(key) = home::credential("connection-key")? {
        if key.len() < 16 {
            return Err(Error::new(Class::Config, "credential connection-key: shorter than 16 characters"));
        }
        connection.key = key;
    }
    connection.rest.insert(MARK.into(), true.into());
    Ok(connection)
}

/// What the route leaves in the home while it runs.
struct Files<'a> {
    home: &'a Home,
    id: &'a str,
    connection: Connection,
    _pid_file: PidFile,
}

impl Files<'_> {
    fn publish(&self) -> Result<()> {
        self.connection.write(&self.home.connection_file(self.id))
    }

    fn ready(&self) -> Ready {
        Ready {
            id: self.id.to_owned(),
            pid: self.connection.pid.unwrap_or_default(),
            connection_file: self.home.connection_file(self.id),
            endpoint: self.connection.endpoint(Channel::Shell),
        }
    }
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        let file = self.home.connection_file(self.id);
        let ours = |found: Connection| found.pid == self.connection.pid && found.started == self.connection.started;
        if Connection::read(&file).is_ok_and(ours) {
            let _ = fs::remove_file(file);
        }
        for socket in Channel::ALL.iter().filter_map(|channel| self.connection.socket_file(*channel)) {
            let _ = fs::remove_file(socket);
        }
    }
}
