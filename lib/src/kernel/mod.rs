//! A kernel: five Jupyter channels, a script engine, tools.
//!
//! ```text
//! sockets ── io thread ──► script thread   execute, complete, inspect, history, comms, kernel_info; in order
//!                │     ──► control thread  interrupt, shutdown, status, usage, kernel_info; at once
//!                │     ──► tool pool       tool_request; beside everything else
//!                ◄── outbox ◄── all of them
//! heartbeat thread: echo; history thread: keeps what was executed
//! ```
//!
//! The life of a request: the io thread verifies and parses it and hands it on; whoever serves it says `busy`, its
//! output, its reply and, last, `idle`, through the outbox; the io thread sends them in that order.

mod abort;
mod clients;
mod comm;
mod control;
mod counters;
mod handshake;
mod history;
mod info;
mod input;
mod io;
mod keeper;
mod look;
mod outbox;
mod pace;
mod script;
mod sockets;
mod tools;
mod usage;

use std::collections::{HashSet, VecDeque};
use std::io::IsTerminal;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::daemon::{self, PidFile, raise_open_files, signal_fd};
use crate::engine;
use crate::error::{Class, Error, Result};
use crate::home::{self, Home};
use crate::protocol::connection::{self, Connection, Transport};
use crate::protocol::registration::{Registration, Startup};
use crate::protocol::wire::Session;
use crate::runtime::Runtime;

pub use control::{Admin, Reload};

/// How a kernel is to be reached and known.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Its id; absent: `llmspell-kernel`, or the name of a connection file that another program wrote.
    pub id: Option<String>,
    /// Where the connection file is or goes; absent: in `~/.llmspell/kernel`.
    pub connection_file: Option<PathBuf>,
    /// One more PID file, beside the one in `~/.llmspell/kernel`.
    pub pid_file: Option<PathBuf>,
    /// Absent: tcp if ports are asked for, else ipc.
    pub transport: Option<Transport>,
    /// Address of tcp.
    pub ip: String,
    /// The address to listen on where the connection file that is given names another, by which clients come.
    pub bind: Option<IpAddr>,
    /// Who may connect to ports: addresses and blocks. Empty: this machine.
    pub clients: Vec<String>,
    /// Shell, iopub, stdin, control, heartbeat; 0: any free port.
    pub ports: Option<[u16; 5]>,
    /// The folder of a private kernel, which ends when its standard input closes.
    pub private: Option<PathBuf>,
    /// Engine: `lua`.
    pub engine: String,
}

/// A kernel that answers.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Ready {
    /// Its id.
    pub id: String,
    /// Its process.
    pub pid: u32,
    /// Where clients read how to connect.
    pub connection_file: PathBuf,
    /// Where the shell channel is.
    pub endpoint: String,
}

/// Serves until shut down; calls `ready` once clients can connect.
///
/// # Errors
/// `Conflict` when the id or a port is taken, `Absent` for an engine or encryption this build has not, `Denied`,
/// `Config`, `System`. Nothing is left behind then.
pub fn serve(
    settings: &Settings,
    home: &Home,
    runtime: &Arc<Runtime>,
    admin: Admin,
    ready: impl FnOnce(&Ready),
) -> Result<()> {
    raise_open_files();
    let mut place = Place::claim(settings, home)?;
    runtime.remember(home, place.kept.then_some(&place.id));
    let signals: Vec<(_, fn() -> control::Job)> = vec![
        (signal_fd(&[SIGTERM])?, || control::Job::Terminate),
        (signal_fd(&[SIGHUP])?, || control::Job::Reload),
        (signal_fd(&[SIGUSR1])?, || control::Job::Dump),
        (signal_fd(&[SIGUSR2])?, || control::Job::Louder),
        (signal_fd(&[SIGINT])?, || control::Job::Interrupt),
    ];
    let mut context = zmq::Context::new();
    let (sockets, heartbeat) = place.bind(&context, settings)?;
    let pace = pace::Pace::new(&runtime.config.kernel.pace);
    let outbox = Arc::new(outbox::Outbox::new(Session::new(&place.connection.key), pace)?);
    let counters = Arc::new(counters::Counters::new());
    let gate = Arc::new(input::Gate::default());
    let (script_jobs, script_queue) = channel();
    let (control_jobs, control_queue) = channel();
    let tools = Arc::new(tools::Tools {
        runtime: Arc::clone(runtime),
        outbox: Arc::clone(&outbox),
        counters: Arc::clone(&counters),
        control: control_jobs.clone(),
        jobs: std::sync::Mutex::default(),
        next: AtomicU64::default(),
        unanswered: AtomicU64::default(),
    });

    // The engine is made on the thread it lives on, and sends back what others need of it.
    let (made, engine_made) = channel();
    let script = {
        let (name, id, runtime) = (settings.engine.clone(), place.id.clone(), Arc::clone(runtime));
        let (outbox, counters, gate) = (Arc::clone(&outbox), Arc::clone(&counters), Arc::clone(&gate));
        let control = control_jobs.clone();
        let (connection, history) = (place.connection.clone(), place.history.clone());
        spawn("llmspell-script", move || {
            let engine = match engine::make(&name, Arc::clone(&runtime)) {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = made.send(Err(error));
                    return;
                }
            };
            let history = match history::History::start(history) {
                Ok(history) => history,
                Err(error) => {
                    let _ = made.send(Err(error));
                    return;
                }
            };
            let info = Arc::new(info::KernelInfo::new(&id, &connection, engine.language()));
            if made.send(Ok((engine.interrupter(), Arc::clone(&info)))).is_err() {
                return;
            }
            let (jobs, early, abort) = (script_queue, VecDeque::new(), None);
            script::ScriptThread {
                engine,
                outbox,
                counters,
                gate,
                info,
                control,
                runtime,
                jobs,
                early,
                abort,
                history,
            }
            .run();
        })?
    };
    let made = engine_made.recv().map_err(|_| Error::new(Class::Bug, "the script thread ended at its start"))?;
    let (interrupter, info) = made?;

    spawn("llmspell-heartbeat", move || {
        // Returns when the context ends.
        let _ = zmq::proxy(&heartbeat, &heartbeat);
    })?;
    let control_thread = {
        let thread = control::ControlThread {
            id: place.id.clone(),
            outbox: Arc::clone(&outbox),
            counters: Arc::clone(&counters),
            gate: Arc::clone(&gate),
            tools: Arc::clone(&tools),
            info,
            keeper: keeper::Keeper::new(Arc::clone(&counters), Arc::clone(&outbox), interrupter.clone()),
            interrupter,
            script: script_jobs.clone(),
            admin,
            private: settings.private.is_some(),
            terminal: settings.private.is_none() && std::io::stdin().is_terminal(),
            stop: None,
            usage: usage::Usage::default(),
        };
        spawn("llmspell-control", move || thread.run(&control_queue))?
    };
    let parent = match &settings.private {
        Some(_) => Some(std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| Error::system("standard input", e))?),
        None => daemon::jupyter_parent(),
    };
    if let Some(registration) = &place.registration {
        let signals: Vec<_> = signals.iter().map(|(fd, _)| fd).collect();
        handshake::register(&context, registration, &place.connection, &signals)?;
    }
    place.publish()?;
    outbox.status(None, "starting");
    let told = control_jobs.clone();
    let mut io = io::Io {
        sockets,
        outbox,
        counters,
        gate,
        tools,
        script: script_jobs,
        control: control_jobs,
        signals,
        parent,
        seen: io::Seen::default(),
        followers: HashSet::new(),
        guests: io::Guests::default(),
        backlog: VecDeque::new(),
        stalled: None,
    };
    let (id, shell) = (&place.id, place.connection.endpoint(connection::Channel::Shell));
    log::info!("kernel {id} ready at {shell}, PID {}, version {}", std::process::id(), env!("CARGO_PKG_VERSION"));
    ready(&Ready {
        id: place.id.clone(),
        pid: std::process::id(),
        connection_file: place.file.clone(),
        endpoint: place.connection.endpoint(connection::Channel::Shell),
    });
    let _ = told.send(control::Job::Ready);
    drop(told);
    io.run();

    // The last messages leave while the context ends.
    drop(io);
    if let Err(error) = context.destroy() {
        log::warn!("end of the sockets: {}", error.message());
    }
    let script_ended = control_thread.join().unwrap_or(false);
    drop(place);
    if script_ended {
        let _ = script.join();
        log::info!("kernel ended");
    } else {
        log::logger().flush();
        // A script that nothing stops still runs on its thread; only leaving the process ends it.
        daemon::leave(0);
    }
    Ok(())
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(work).map_err(|e| Error::system(format!("thread {name}"), e))
}

/// What a kernel holds in the file system while it lives.
struct Place {
    id: String,
    connection: Connection,
    /// The connection file clients are told of.
    file: PathBuf,
    /// Files this kernel writes, and removes at its end.
    written: Vec<PathBuf>,
    /// Whether clients may have found it; before that there is nothing of ours to remove.
    published: bool,
    /// The folder of a private kernel, removed at its end.
    folder: Option<PathBuf>,
    /// The launcher that waits to be told of the ports.
    registration: Option<Registration>,
    /// Whether its next life is known by its id, so that what it keeps under that name is found again.
    kept: bool,
    /// Where its history is kept; none: it ends with the kernel.
    history: Option<PathBuf>,
    _pid_files: Vec<PidFile>,
}

impl Place {
    fn claim(settings: &Settings, home: &Home) -> Result<Self> {
        if let Some(dir) = &settings.private {
            let meta = std::fs::metadata(dir).map_err(|e| Error::io(dir, e))?;
            if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
                return Err(Error::new(Class::Denied, format!("--private: {}: others can enter it", dir.display()))
                    .hint("Give it an empty folder of mode 0700."));
            }
            let prefix = dir.join("k").display().to_string();
            let file = dir.join("kernel.json");
            let id = settings.id.clone().unwrap_or_else(|| format!("private-{}", std::process::id()));
            let connection = Connection::new(Transport::Ipc, prefix, [0; 5]);
            let folder = Some(dir.clone());
            return Ok(Place {
                id,
                connection,
                written: vec![file.clone()],
                file,
                folder,
                published: false,
                registration: None,
                kept: false,
                history: None,
                _pid_files: Vec::new(),
            });
        }
        let (given, registration) = match &settings.connection_file {
            Some(file) if file.exists() => match Startup::read(file)? {
                Startup::Connection(connection) => (Some(*connection), None),
                Startup::Registration(registration) => (Some(registration.connection()), Some(registration)),
            },
            _ => (None, None),
        };
        // A file without our keys was made by whoever starts us: it stays theirs.
        let theirs = given.as_ref().is_some_and(|connection| connection.pid.is_none());
        let id = settings.id_with(theirs, registration.as_ref())?;
        if let (Some(connection), Some(file)) = (&given, &settings.connection_file)
            && let Some(pid) = connection.pid.filter(|_| connection.is_alive())
        {
            return Err(Error::new(
                Class::Conflict,
                format!("connection file {}: in use by the kernel with PID {pid}", file.display()),
            )
            .hint("Stop that kernel, or choose another --connection-file."));
        }
        let kept = !theirs || settings.id.is_some();
        // A registration file tells nobody where the kernel is: its own connection file does.
        let registered = kept || registration.is_some();
        let mut written = Vec::new();
        let mut pid_files = Vec::new();
        if registered {
            home::private_dir(home.root())?;
            home::private_dir(&home.kernel_dir())?;
            pid_files.push(PidFile::acquire(&home.pid_file(&id)).map_err(|error| match error.class() {
                Class::Conflict => error.within(format!("kernel {id}")),
                _ => error,
            })?);
            written.push(home.connection_file(&id));
        }
        if let Some(path) = settings.pid_file.as_ref().filter(|path| !registered || **path != home.pid_file(&id)) {
            let hint = "Give every kernel one of its own: {id} in the path becomes the id.";
            pid_files.push(PidFile::acquire_named(path).map_err(|error| match error.class() {
                Class::Conflict => error.hint(hint),
                _ => error,
            })?);
        }
        let file = settings.connection_file.clone().filter(|_| registration.is_none());
        let file = file.unwrap_or_else(|| home.connection_file(&id));
        if !theirs && !written.contains(&file) {
            written.push(file.clone());
        }
        // Left by a kernel that died: its ports and key are kept, so that its clients come back.
        let left = given.or_else(|| Connection::read(&home.connection_file(&id)).ok().filter(|_| registered));
        let mut connection = match left {
            Some(connection) if theirs || settings.agrees(&connection) => connection,
            _ => settings.connection(home, &id),
        };
        if let Some(key) = home::credential("connection-key")?.filter(|_| !theirs) {
            if key.len() < 16 {
                return Err(Error::new(Class::Config, "credential connection-key: shorter than 16 characters"));
            }
            connection.key = key;
        }
        if !theirs && connection.transport == Transport::Ipc {
            home::private_dir(&home.runtime_dir())?;
        }
        let history = Some(if kept { home.store_file(&id) } else { home.jupyter_history() });
        Ok(Place {
            id,
            connection,
            file,
            written,
            published: false,
            folder: None,
            registration,
            kept,
            history,
            _pid_files: pid_files,
        })
    }

    /// The bound sockets. What clients are told of stays as the connection file that was given says.
    fn bind(&mut self, context: &zmq::Context, settings: &Settings) -> Result<(sockets::Sockets, zmq::Socket)> {
        let mut local = self.connection.clone();
        if let Some(ip) = settings.bind.filter(|_| local.transport == Transport::Tcp) {
            local.ip = ip.to_string();
        }
        let clients = clients::Clients::new(local.transport, &local.ip, &settings.clients)?;
        let bound = sockets::bind(context, &mut local, &clients)?;
        let ports = connection::Channel::ALL.map(|channel| (channel, local.port(channel)));
        ports.into_iter().for_each(|(channel, port)| self.connection.set_port(channel, port));
        Ok(bound)
    }

    /// Writes the connection files: from now on clients find the kernel.
    fn publish(&mut self) -> Result<()> {
        self.connection.kernel_id = Some(self.id.clone());
        self.connection.identify();
        self.published = true;
        self.written.iter().try_for_each(|file| self.connection.write(file))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Before the PID file goes, so that no successor's files are removed; and what was never ours stays.
        let files = self.written.iter().filter(|_| self.published);
        for file in files {
            // Unless somebody else wrote it since.
            let ours = |found: Connection| found.pid == self.connection.pid && found.started == self.connection.started;
            if Connection::read(file).is_ok_and(ours) {
                let _ = std::fs::remove_file(file);
            }
        }
        let sockets = connection::Channel::ALL.iter().filter(|_| self.published);
        for socket in sockets.filter_map(|channel| self.connection.socket_file(*channel)) {
            let _ = std::fs::remove_file(socket);
        }
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl Settings {
    /// The id the kernel will have, unless it is private.
    ///
    /// # Errors
    /// Those of a connection file that is there and cannot be used; `Usage` when its name is no id.
    pub fn kernel_id(&self) -> Result<String> {
        let file = self.connection_file.as_ref().filter(|file| self.id.is_none() && file.exists());
        match file.map(|file| Startup::read(file)).transpose()? {
            Some(Startup::Registration(registration)) => self.id_with(true, Some(&registration)),
            Some(Startup::Connection(given)) => self.id_with(given.pid.is_none(), None),
            None => self.id_with(false, None),
        }
    }

    /// `theirs`: the file was written by another program, and it or its name tells the id.
    fn id_with(&self, theirs: bool, registration: Option<&Registration>) -> Result<String> {
        let launched = registration.map(|registration| &registration.kernel_id).filter(|id| home::check_id(id).is_ok());
        let id = match (&self.id, &self.connection_file, launched) {
            (Some(id), ..) | (None, _, Some(id)) => id.clone(),
            (None, Some(file), None) if theirs => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            (None, _, None) => home::DEFAULT_KERNEL.to_owned(),
        };
        home::check_id(&id).map(|()| id)
    }

    /// Whether what was asked for is what `connection` has.
    fn agrees(&self, connection: &Connection) -> bool {
        let wanted = self.transport();
        let ports = connection::Channel::ALL.map(|channel| connection.port(channel));
        wanted == connection.transport
            && (wanted == Transport::Ipc || self.ip == connection.ip)
            && self.ports.is_none_or(|wanted| wanted.iter().zip(ports).all(|(want, has)| *want == 0 || *want == has))
    }

    fn transport(&self) -> Transport {
        match self.transport {
            Some(transport) => transport,
            None if self.ports.is_some() => Transport::Tcp,
            None => Transport::Ipc,
        }
    }

    fn connection(&self, home: &Home, id: &str) -> Connection {
        let transport = self.transport();
        let ip = match transport {
            Transport::Tcp => self.ip.clone(),
            Transport::Ipc => home.runtime_dir().join(id).display().to_string(),
        };
        Connection::new(transport, ip, self.ports.unwrap_or_default())
    }
}
