//! Ordering kernels and starting them, many at a time.

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::launch::{Launch, Ready};
use super::process::{Here, timespec};
use super::stop;
use super::survey::{Condition, Kernel, survey};
use super::wanted::{Claim, Lock, Policy, SCHEMA, State, Wanted, changes, digest, drain, forget, is_unwanted, now};
use super::{Enforced, FIRST_PORT};
use crate::error::{Class, Error, Result};
use crate::home::{Home, check_id};
use crate::protocol::connection::Channel;

/// Kernels that are on their way at one time.
const AT_ONCE: usize = 16;
/// How often another port is tried when somebody was faster.
const TRIES: usize = 5;

/// What kind of kernels, and how many.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Their configuration; absent: the user's.
    pub config: Option<PathBuf>,
    /// Their engine; absent: what the configuration says.
    pub engine: Option<String>,
    /// What they are called; absent: `kernel-PORT`.
    pub name: Option<String>,
    /// The first shell port; absent: a free one from 9555 on.
    pub port: Option<u16>,
    /// How many of a group; 0: one that is of no group.
    pub count: usize,
    /// When they are started again.
    pub restart: Policy,
    /// Longest memory, bytes.
    pub memory: Option<u64>,
    /// Processors' worth of time.
    pub cpu: Option<f64>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// More words for `llmspell-kernel`.
    pub arguments: Vec<String>,
    /// Where they work.
    pub workdir: PathBuf,
    /// How long one may take to be ready.
    pub timeout: Duration,
}

/// A kernel that answers now.
#[derive(Clone, Debug)]
pub struct Spawned {
    /// What it printed.
    pub ready: Ready,
    /// What holds its limits.
    pub limits: Option<Enforced>,
    /// How long it took to be ready.
    pub took: Duration,
}

/// An order for one kernel, written down, with the right to start it.
struct Ordered {
    wanted: Wanted,
    claim: Claim,
    tries: usize,
}

/// Starts what is ordered and tells `on` of each as it becomes ready or fails, in any order.
///
/// # Errors
/// What makes starting any of them pointless: a configuration that is not there, a name that is taken. Nothing was
/// started then.
pub fn spawn(home: &Home, here: &Here, order: &Order, on: &mut dyn FnMut(&str, Result<Spawned>)) -> Result<()> {
    let folder = std::env::current_dir().map_err(|e| Error::system("working folder", e))?;
    let config = order.config.as_deref().map(|path| find_config(home, &folder, path)).transpose()?;
    let config_digest = config.as_deref().map(digest).transpose()?;
    if !order.workdir.is_dir() {
        return Err(Error::new(Class::NotFound, format!("--workdir: {}: no such folder", order.workdir.display())));
    }
    let count = order.count.max(1);
    let mut queue = VecDeque::new();
    {
        let _lock = Lock::take(home)?;
        let all = survey(home, here);
        let mut ports = Ports::new(&all);
        for index in 0..count {
            let port = match order.port {
                Some(first) => {
                    u16::try_from(index).ok().and_then(|index| first.checked_add(index)).ok_or_else(|| {
                        Error::new(Class::Usage, format!("--port {first} --count {count}: there are no such ports"))
                    })?
                }
                None => ports.next()?,
            };
            let id = match (&order.name, order.count) {
                (None, _) => format!("kernel-{port}"),
                (Some(name), 0) => name.clone(),
                (Some(name), _) => numbered(name, &all, &queue),
            };
            check_id(&id)?;
            let wanted = Wanted {
                schema_version: SCHEMA,
                id,
                run: true,
                group: order.name.clone().filter(|_| order.count > 0),
                fleet: None,
                port,
                config: config.clone(),
                config_digest: config_digest.clone(),
                engine: order.engine.clone(),
                workdir: order.workdir.clone(),
                arguments: order.arguments.clone(),
                env: order.env.clone(),
                labels: order.labels.clone(),
                restart: order.restart,
                memory: order.memory,
                cpu: order.cpu,
            };
            let claim = claim(home, &all, &wanted.id)?;
            queue.push_back(Ordered { wanted, claim, tries: 0 });
        }
        // Only now is anything written: a name that is taken leaves no trace.
        for ordered in &queue {
            State::remove(home, &ordered.wanted.id)?;
            ordered.wanted.write(home)?;
        }
    }
    start_all(home, here, queue, order, on)
}

/// The right to start `id`, which must not run.
fn claim(home: &Home, all: &[Kernel], id: &str) -> Result<Claim> {
    let claim = Claim::take(home, id)?;
    match all.iter().find(|kernel| kernel.id == id) {
        Some(kernel) if kernel.stat.is_some() => {
            let pid = kernel.pid().map(|pid| format!(" (PID {pid})")).unwrap_or_default();
            Err(Error::new(Class::Conflict, format!("kernel {id}: runs already{pid}"))
                .hint("Choose another --name, or stop that one first."))
        }
        Some(kernel) if kernel.condition == Condition::Foreign => {
            Err(Error::new(Class::Conflict, format!("kernel {id}: {}", kernel.reason))
                .hint("Choose another --name, or remove its files if you are sure that it is gone."))
        }
        _ => Ok(claim),
    }
}

/// `name-1`, `name-2`: the first that nobody has.
fn numbered(name: &str, all: &[Kernel], queue: &VecDeque<Ordered>) -> String {
    let taken = |id: &str| {
        let stopped = |kernel: &Kernel| kernel.id == id && kernel.wanted.as_ref().is_some_and(|wanted| !wanted.run);
        all.iter().any(|kernel| kernel.id == id && !stopped(kernel)) || queue.iter().any(|other| other.wanted.id == id)
    };
    (1..).map(|number| format!("{name}-{number}")).find(|id| !taken(id)).unwrap_or_default()
}

/// A configuration as users name it: from `folder`, else among those of the units.
pub(super) fn find_config(home: &Home, folder: &Path, path: &Path) -> Result<PathBuf> {
    let here = crate::client::absolute(&folder.join(path))?;
    let kept = home.root().join("kernels").join(path);
    match [here, kept].into_iter().find(|path| path.is_file()) {
        Some(found) => Ok(found),
        None => Err(Error::new(Class::NotFound, format!("configuration {}: no such file", path.display()))
            .hint(format!("Looked in {} and in {}.", folder.display(), home.root().join("kernels").display()))),
    }
}

/// Shell ports nobody has.
struct Ports {
    taken: Vec<u16>,
    next: u16,
}

impl Ports {
    fn new(all: &[Kernel]) -> Self {
        let wanted = all.iter().filter_map(|kernel| kernel.wanted.as_ref().map(|wanted| wanted.port));
        let bound = all.iter().filter(|kernel| kernel.stat.is_some()).filter_map(|kernel| kernel.connection.as_ref());
        let bound = bound.flat_map(|connection| Channel::ALL.map(|channel| connection.port(channel)));
        Ports { taken: wanted.chain(bound).collect(), next: FIRST_PORT }
    }

    fn next(&mut self) -> Result<u16> {
        loop {
            let port = self.next;
            if port >= 32_000 {
                return Err(Error::new(Class::Conflict, format!("no free port from {FIRST_PORT} on")));
            }
            self.next += 1;
            if self.is_free(port) {
                return Ok(port);
            }
        }
    }

    fn is_free(&self, port: u16) -> bool {
        !self.taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok()
    }
}

fn start_all(
    home: &Home,
    here: &Here,
    mut queue: VecDeque<Ordered>,
    order: &Order,
    on: &mut dyn FnMut(&str, Result<Spawned>),
) -> Result<()> {
    let mut running: Vec<(Ordered, Launch, Instant)> = Vec::new();
    let changes = changes(&[home.wanted_dir()])?;
    loop {
        while running.len() < AT_ONCE
            && let Some(ordered) = queue.pop_front()
        {
            match Launch::start(home, &ordered.wanted) {
                Ok(launch) => running.push((ordered, launch, Instant::now())),
                Err(error) => {
                    forget(home, &ordered.wanted.id)?;
                    on(&ordered.wanted.id, Err(error));
                }
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        let deadline = running.iter().map(|(_, _, begun)| *begun + order.timeout).min();
        let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        let fds = running.iter().map(|(_, launch, _)| launch.fd()).chain([changes.as_fd()]);
        let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::system("poll", error.into())),
        }
        let changed = fds.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if changed {
            drain(&changes);
        }
        let mut index = 0;
        while let Some((ordered, launch, begun)) = running.get_mut(index) {
            let outcome = match launch.advance() {
                None if changed && is_unwanted(home, &ordered.wanted.id) => {
                    launch.give_up();
                    Err(unwanted(&ordered.wanted.id))
                }
                None if begun.elapsed() >= order.timeout => {
                    launch.give_up();
                    let text = format!("kernel {}: not ready in time", ordered.wanted.id);
                    Err(Error::new(Class::Timeout, text)
                        .hint("Give it more with --timeout; its log tells what it does."))
                }
                None => {
                    index += 1;
                    continue;
                }
                Some(outcome) => outcome,
            };
            let (mut ordered, launch, begun) = running.swap_remove(index);
            match outcome {
                Ok(ready) => {
                    let limits = launch.enforced.clone();
                    let state = State { limits: limits.clone(), ready: now(), ..State::default() };
                    state.write(home, &ordered.wanted.id)?;
                    let spawned = finish(home, here, &ordered, Spawned { ready, limits, took: begun.elapsed() });
                    on(&ordered.wanted.id, spawned);
                }
                // Somebody took the port between our look and its bind.
                Err(error) if error.class() == Class::Conflict && order.port.is_none() && ordered.tries < TRIES => {
                    ordered.tries += 1;
                    match another_port(home, here, ordered, order) {
                        Ok(again) => queue.push_back(again),
                        Err(error) => on("", Err(error)),
                    }
                }
                Err(error) => {
                    forget(home, &ordered.wanted.id)?;
                    on(&ordered.wanted.id, Err(error));
                }
            }
        }
    }
}

/// A stop that came while it was on its way was for it.
fn finish(home: &Home, here: &Here, ordered: &Ordered, spawned: Spawned) -> Result<Spawned> {
    let id = &ordered.wanted.id;
    match Wanted::read(home, id)? {
        Some(wanted) if wanted.run => Ok(spawned),
        _ => {
            let kernel = Kernel::look(home, here, id);
            stop::end(home, here, &kernel, Duration::from_secs(5))?;
            Err(unwanted(id))
        }
    }
}

pub(super) fn unwanted(id: &str) -> Error {
    // Not `Conflict`, for which another port would be tried.
    Error::new(Class::Interrupted, format!("kernel {id}: stopped by another command while it started"))
}

fn another_port(home: &Home, here: &Here, ordered: Ordered, order: &Order) -> Result<Ordered> {
    let _lock = Lock::take(home)?;
    let all = survey(home, here);
    let Ordered { mut wanted, claim: held, tries } = ordered;
    let old = wanted.id.clone();
    if all.iter().any(|kernel| kernel.id == old && kernel.stat.is_some()) {
        return Err(Error::new(Class::Conflict, format!("kernel {old}: runs already"))
            .hint("Somebody else started it at the same time."));
    }
    wanted.port = Ports::new(&all).next()?;
    let held = match order.name {
        Some(_) => held,
        None => {
            forget(home, &old)?;
            held.remove(home, &old);
            wanted.id = format!("kernel-{}", wanted.port);
            claim(home, &all, &wanted.id)?
        }
    };
    State::remove(home, &wanted.id)?;
    wanted.write(home)?;
    Ok(Ordered { wanted, claim: held, tries })
}

/// Starts the new kernel `wanted`. Its port may be another free one unless it is `fixed`.
pub(super) fn create(home: &Home, here: &Here, wanted: &Wanted, fixed: bool, timeout: Duration) -> Result<Spawned> {
    let mut wanted = wanted.clone();
    let port = Some(wanted.port).filter(|_| fixed);
    let order = Order { name: Some(wanted.id.clone()), port, timeout, ..Order::default() };
    let ordered = {
        let _lock = Lock::take(home)?;
        let all = survey(home, here);
        let mut ports = Ports::new(&all);
        if !fixed && (wanted.port == 0 || !ports.is_free(wanted.port)) {
            wanted.port = ports.next()?;
        }
        let claim = claim(home, &all, &wanted.id)?;
        State::remove(home, &wanted.id)?;
        wanted.write(home)?;
        Ordered { wanted, claim, tries: 0 }
    };
    let mut outcome = Err(Error::new(Class::Bug, "a start without an end"));
    start_all(home, here, VecDeque::from([ordered]), &order, &mut |_, spawned| outcome = spawned)?;
    outcome
}
