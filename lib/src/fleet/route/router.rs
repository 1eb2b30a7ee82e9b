//! The connections of the route: who is at their ends, who is read from and who waits, and which kernels are in the pool.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use serde_json::json;

use super::ends::{self, Owner};
use super::pool::{CHANNELS, Member, Pool};
use super::zmtp::{Kind, Peer};
use super::{Settings, is_route};
use crate::error::{Class, Error};
use crate::fleet::process::{Here, Process, Stat, timespec};
use crate::fleet::survey::{Condition, Kernel, choose, survey};
use crate::fleet::watch::Event;
use crate::home::Home;
use crate::protocol::connection::{Channel, Connection};
use crate::protocol::wire::Session;

/// Largest message that is taken in, as in a kernel: of clients and kernels, of subscriptions, of heartbeats.
pub(super) const LARGEST: usize = 256 << 20;
const LARGEST_TOPIC: usize = 1024;
const LARGEST_PING: usize = 1 << 20;
/// How much may wait for somebody to read before its sources are no longer read, and when they are again.
pub(super) const HIGH: usize = 4 << 20;
const LOW: usize = 1 << 20;
/// How long a client that does not read holds up its kernel before it loses messages.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a connection may take to introduce itself.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long the connections of a kernel may take to end one after the other.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Until a kernel is tried again, doubled each time up to the second.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MOST: Duration = Duration::from_secs(10);

/// How often the last words of a kernel are read for, each time as much as there is room for.
const TURNS: usize = 256;

/// At the other end of a connection.
pub(super) enum Side {
    Client { owner: Owner, sessions: Vec<String>, name: Vec<u8>, topics: Vec<Vec<u8>> },
    Kernel(String),
}

pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) channel: Channel,
    pub(super) side: Side,
    /// What epoll was told to wait for.
    pub(super) interest: EventFlags,
    /// Not read until this connection has room.
    pub(super) blocked: Option<u64>,
    /// Since when it has no room.
    pub(super) full: Option<Instant>,
    /// It loses messages until it has read what waits.
    pub(super) cut: bool,
    pub(super) begun: Instant,
}

pub(super) struct Router<'a> {
    pub(super) home: &'a Home,
    pub(super) here: &'a Here,
    pub(super) settings: &'a Settings,
    pub(super) connection: Connection,
    /// Makes our own messages to clients, and has the pool's key.
    pub(super) session: Session,
    pub(super) epoll: OwnedFd,
    pub(super) links: HashMap<u64, Link>,
    /// Connections of clients by what they call themselves, for each channel.
    pub(super) names: [HashMap<Vec<u8>, u64>; 5],
    /// Connections on iopub.
    pub(super) followers: HashMap<Owner, Vec<u64>>,
    pub(super) pool: Pool,
    pub(super) processes: HashMap<u64, String>,
    pub(super) next: u64,
    /// When something has to be seen to.
    pub(super) due: Option<Instant>,
    /// No more connections can be taken for the moment.
    pub(super) deaf: bool,
    pub(super) begun: Instant,
    /// Whether clients were let in.
    pub(super) told: bool,
    /// What was dropped, by reason.
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) on: &'a mut dyn FnMut(&Event),
}

impl Router<'_> {
    pub(super) fn say(&mut self, id: &str, what: &'static str, text: impl Into<String>) {
        // Who is there from the beginning is no news.
        if what == "joined" && !self.told {
            return;
        }
        (self.on)(&Event { id: id.to_owned(), what, text: text.into() });
    }

    pub(super) fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    pub(super) fn arm(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether every kernel is ready, or will not be soon.
    pub(super) fn is_settled(&self) -> bool {
        self.pool.members.values().all(|member| member.is_ready() || member.unreachable)
    }

    /// The kernels that belong to the pool now.
    pub(super) fn chosen(&self) -> Vec<Kernel> {
        let named = |name: &String| choose(self.home, self.here, std::slice::from_ref(name)).unwrap_or_default();
        let mut kernels: Vec<Kernel> = match &self.settings.names[..] {
            [] => survey(self.home, self.here),
            names => names.iter().flat_map(named).collect(),
        };
        kernels.retain(|kernel| {
            let labels = kernel.wanted.as_ref().map(|wanted| &wanted.labels);
            let labelled =
                self.settings.labels.iter().all(|(name, value)| labels.and_then(|all| all.get(name)) == Some(value));
            // What cannot be judged from here was named, or laid into the folder, on purpose.
            let runs = kernel.stat.is_some() || kernel.condition == Condition::Foreign;
            labelled && runs && kernel.connection.as_ref().is_some_and(|connection| !is_route(connection))
        });
        kernels
    }

    /// Takes in who came and lets go who went.
    pub(super) fn sync(&mut self) {
        let chosen = self.chosen();
        for member in self.pool.members.values_mut() {
            member.retired = true;
        }
        for kernel in chosen {
            let Some(connection) = kernel.connection else { continue };
            let retired = matches!(kernel.condition, Condition::Stopping | Condition::Unhealthy);
            if let Some(member) = self.pool.members.get_mut(&kernel.id) {
                let known = &member.connection;
                if known.pid == connection.pid && known.started == connection.started && known.key == connection.key {
                    member.retired = retired;
                    continue;
                }
                self.lose(&kernel.id, "it was started anew");
            }
            let process = Process::open(self.here, &connection).ok();
            let token = self.token();
            if let Some(process) = &process
                && epoll::add(&self.epoll, process.fd(), EventData::new_u64(token), EventFlags::IN).is_ok()
            {
                self.processes.insert(token, kernel.id.clone());
            }
            let mut member = Member::new(connection, process);
            member.retired = retired;
            self.pool.members.insert(kernel.id.clone(), member);
            self.reach(&kernel.id);
        }
    }

    pub(super) fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Connects to the kernel `id`.
    pub(super) fn reach(&mut self, id: &str) {
        let Some(member) = self.pool.members.get_mut(id) else { return };
        member.again = None;
        let (connection, name) = (member.connection.clone(), member.session.id().as_bytes().to_vec());
        for (at, channel) in CHANNELS.into_iter().enumerate() {
            let kind = if channel == Channel::Iopub { Kind::Subscriber } else { Kind::Dealer };
            let token = self.token();
            let made = ends::reach(&connection, channel).and_then(|fd| {
                let peer = Peer::new(fd, kind, &name, LARGEST);
                self.add(token, peer, channel, Side::Kernel(id.to_owned())).map_err(std::io::Error::from)
            });
            match made {
                Ok(()) => {
                    if let Some(member) = self.pool.members.get_mut(id) {
                        member.links[at] = Some(token);
                    }
                }
                Err(error) => return self.give_up(id, &error.to_string()),
            }
        }
    }

    pub(super) fn add(&mut self, token: u64, peer: Peer, channel: Channel, side: Side) -> rustix::io::Result<()> {
        let interest = EventFlags::IN | EventFlags::OUT;
        epoll::add(&self.epoll, peer.fd(), EventData::new_u64(token), interest)?;
        let begun = Instant::now();
        self.arm(begun + HANDSHAKE);
        let link = Link { peer, channel, side, interest, blocked: None, full: None, cut: false, begun };
        self.links.insert(token, link);
        Ok(())
    }

    /// The kernel `id` cannot be reached now; it is tried again later.
    pub(super) fn give_up(&mut self, id: &str, why: &str) {
        let Some(member) = self.pool.members.get_mut(id) else { return };
        let links = std::mem::take(&mut member.links);
        let wait = AGAIN.saturating_mul(1 << member.attempts.min(6)).min(AGAIN_MOST);
        member.attempts += 1;
        (member.info, member.heard, member.leaving) = (false, false, None);
        let at = Instant::now() + wait;
        member.again = Some(at);
        let first = !std::mem::replace(&mut member.unreachable, true);
        self.arm(at);
        for link in links.into_iter().flatten() {
            self.close(link);
        }
        if first {
            self.say(id, "failed", format!("cannot be reached: {why}"));
        }
    }

    pub(super) fn accept(&mut self, listeners: &[OwnedFd; 5], at: usize) {
        let channel = Channel::ALL[at];
        loop {
            match ends::accept(&listeners[at], self.connection.transport) {
                Ok((fd, owner)) => {
                    let (kind, largest) = match channel {
                        Channel::Iopub => (Kind::Publisher, LARGEST_TOPIC),
                        Channel::Heartbeat => (Kind::Router, LARGEST_PING),
                        _ => (Kind::Router, LARGEST),
                    };
                    let token = self.token();
                    let side = Side::Client { owner, sessions: Vec::new(), name: Vec::new(), topics: Vec::new() };
                    let _ = self.add(token, Peer::new(fd, kind, b"", largest), channel, side);
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    // No descriptor is left. Those who wait are taken when somebody goes.
                    self.deaf = true;
                    self.fault("connections");
                    for listener in listeners {
                        let _ = epoll::delete(&self.epoll, listener);
                    }
                    return self.arm(Instant::now() + LAST_WORDS);
                }
            }
        }
    }

    pub(super) fn on_link(&mut self, token: u64, flags: EventFlags) {
        let Some(link) = self.links.get_mut(&token) else { return };
        let mut alive = true;
        if flags.contains(EventFlags::OUT) {
            alive = link.peer.flush().is_ok();
            if link.peer.queued() <= LOW {
                (link.full, link.cut) = (None, false);
                self.unblock(token);
            }
        }
        let ended = EventFlags::HUP | EventFlags::ERR;
        let Some(link) = self.links.get_mut(&token) else { return };
        if alive && (flags.contains(EventFlags::IN) && link.blocked.is_none() || flags.intersects(ended)) {
            let (was_open, mut messages) = (link.peer.is_open(), Vec::new());
            alive = link.peer.read(&mut messages).is_ok();
            if !was_open && link.peer.is_open() {
                self.opened(token);
            }
            for frames in messages {
                self.on_message(token, frames);
            }
        }
        if alive { self.rearm(token) } else { self.ended(token) }
    }

    /// Has epoll wait for what this connection needs.
    pub(super) fn rearm(&mut self, token: u64) {
        let Some(link) = self.links.get_mut(&token) else { return };
        let mut interest = EventFlags::empty();
        if link.blocked.is_none() {
            interest |= EventFlags::IN;
        }
        if link.peer.queued() > 0 {
            interest |= EventFlags::OUT;
        }
        if interest != link.interest
            && epoll::modify(&self.epoll, link.peer.fd(), EventData::new_u64(token), interest).is_ok()
        {
            link.interest = interest;
        }
    }

    /// Reads again from those who waited for `token` to have room.
    pub(super) fn unblock(&mut self, token: u64) {
        let waiting: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.blocked == Some(token)).map(|(other, _)| *other).collect();
        for other in waiting {
            if let Some(link) = self.links.get_mut(&other) {
                link.blocked = None;
            }
            self.rearm(other);
        }
    }

    /// Stops reading from `source` until `target` has room.
    pub(super) fn block(&mut self, source: u64, target: u64) {
        if let Some(link) = self.links.get_mut(&source) {
            link.blocked = Some(target);
            self.rearm(source);
        }
        let mut due = None;
        if let Some(link) = self.links.get_mut(&target)
            && matches!(link.side, Side::Client { .. })
        {
            due = Some(*link.full.get_or_insert_with(Instant::now) + PATIENCE);
        }
        if let Some(due) = due {
            self.arm(due);
        }
    }

    /// The other end closed the connection, or does not speak as it must.
    pub(super) fn ended(&mut self, token: u64) {
        let kernel = match self.links.get(&token) {
            Some(Link { side: Side::Kernel(id), .. }) => Some(id.clone()),
            _ => None,
        };
        self.close(token);
        let Some(id) = kernel else { return };
        let Some(member) = self.pool.members.get_mut(&id) else { return };
        if !(member.info && member.heard) && member.leaving.is_none() {
            return self.give_up(&id, "it closed the connection");
        }
        member.links.iter_mut().filter(|link| **link == Some(token)).for_each(|link| *link = None);
        // What it said last may still be on its way through the others.
        if member.links.iter().all(Option::is_none) {
            return self.lose(&id, "it closed its connections");
        }
        if member.leaving.is_none() {
            let now = Instant::now();
            member.leaving = Some(now);
            self.arm(now + LAST_WORDS);
        }
    }

    pub(super) fn close(&mut self, token: u64) {
        let Some(link) = self.links.remove(&token) else { return };
        let _ = epoll::delete(&self.epoll, link.peer.fd());
        if let Side::Client { owner, sessions, name, .. } = &link.side {
            let names = &mut self.names[number(link.channel)];
            if names.get(name) == Some(&token) {
                names.remove(name);
            }
            if let Some(followers) = self.followers.get_mut(owner) {
                followers.retain(|follower| *follower != token);
                if followers.is_empty() {
                    self.followers.remove(owner);
                }
            }
            sessions.iter().for_each(|session| self.pool.leave(session, token));
        }
        self.unblock(token);
    }

    /// The kernel `id` is gone.
    pub(super) fn lose(&mut self, id: &str, why: &str) {
        // Its last words first: what it sent is there when it is seen to end.
        let links = self.pool.members.get(id).map(|member| member.links).unwrap_or_default();
        let mut messages = Vec::new();
        for token in links.into_iter().flatten() {
            for _ in 0..TURNS {
                let Some(link) = self.links.get_mut(&token) else { break };
                let more = link.peer.read(&mut messages).is_ok() && !messages.is_empty();
                for frames in std::mem::take(&mut messages) {
                    self.on_message(token, frames);
                }
                if !more {
                    break;
                }
            }
        }
        let Some(member) = self.pool.members.remove(id) else { return };
        self.processes.retain(|_, known| known != id);
        for token in member.links.into_iter().flatten() {
            self.close(token);
        }
        self.pool.unbind(id);
        let known = member.process.as_ref().and_then(Process::cause);
        let why = known.map_or(why.to_owned(), |cause| format!("{why}: {cause}"));
        self.say(id, "left", format!("left the pool: {why}; {} requests were on their way", member.flight.len()));
        for flight in member.flight.into_values() {
            self.strand(flight, id);
        }
        // It may be reached, though its process cannot be seen from here.
        if member.process.is_none() && !member.retired {
            self.sync();
        }
    }

    /// Sees to what is due.
    pub(super) fn tend(&mut self, listeners: &[OwnedFd; 5]) {
        let now = Instant::now();
        self.due = None;
        if std::mem::take(&mut self.deaf) {
            for (token, listener) in listeners.iter().enumerate() {
                let _ = epoll::add(&self.epoll, listener, EventData::new_u64(token as u64), EventFlags::IN);
            }
        }
        let (mut silent, mut full, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for (token, link) in &self.links {
            if !link.peer.is_open() {
                let at = link.begun + HANDSHAKE;
                if at <= now { silent.push(*token) } else { next.push(at) }
            }
            if let Some(since) = link.full.filter(|_| !link.cut) {
                let at = since + PATIENCE;
                if at <= now { full.push(*token) } else { next.push(at) }
            }
        }
        silent.into_iter().for_each(|token| self.ended(token));
        for token in full {
            self.fault("slow_subscriber");
            if let Some(link) = self.links.get_mut(&token) {
                link.cut = true;
            }
            self.unblock(token);
        }
        let (mut gone, mut again) = (Vec::new(), Vec::new());
        for (id, member) in &self.pool.members {
            if let Some(since) = member.leaving {
                let at = since + LAST_WORDS;
                if at <= now { gone.push(id.clone()) } else { next.push(at) }
            }
            if let Some(at) = member.again {
                if at <= now { again.push(id.clone()) } else { next.push(at) }
            }
        }
        gone.iter().for_each(|id| self.lose(id, "it closed a connection"));
        for id in again {
            let connected = self.pool.members.get(&id).is_some_and(|member| member.links.iter().all(Option::is_some));
            if connected { self.ask(&id) } else { self.reach(&id) }
        }
        next.into_iter().for_each(|at| self.arm(at));
    }

    /// What is under way is answered, so that nobody waits for what does not come.
    pub(super) fn farewell(&mut self) {
        let ids: Vec<String> = self.pool.members.keys().cloned().collect();
        let error = Error::new(Class::Remote, format!("{}: the route is stopping", self.settings.id));
        for id in ids {
            let Some(member) = self.pool.members.remove(&id) else { continue };
            member.flight.into_values().for_each(|flight| self.refuse(&flight, &error));
        }
        let until = Instant::now() + LAST_WORDS;
        while Instant::now() < until {
            let behind: Vec<&mut Link> = self.links.values_mut().filter(|link| link.peer.queued() > 0).collect();
            if behind.is_empty() {
                return;
            }
            let mut fds: Vec<_> = behind
                .iter()
                .map(|link| rustix::event::PollFd::from_borrowed_fd(link.peer.fd(), rustix::event::PollFlags::OUT))
                .collect();
            let left = timespec(until.saturating_duration_since(Instant::now()));
            let _ = rustix::event::poll(&mut fds, Some(&left));
            drop(fds);
            let broken: Vec<u64> = self
                .links
                .iter_mut()
                .filter_map(|(token, link)| link.peer.flush().is_err().then_some(*token))
                .collect();
            broken.into_iter().for_each(|token| self.close(token));
        }
    }

    /// `status_reply` of the route itself.
    pub(super) fn status(&self) -> serde_json::Value {
        let members: Vec<_> = self
            .pool
            .members
            .iter()
            .map(|(id, member)| {
                let bound = self.pool.guests.values().filter(|guest| guest.kernel.as_ref() == Some(id)).count();
                json!({
                    "id": id,
                    "ready": member.is_ready(),
                    "busy": member.is_busy(),
                    "retired": member.retired,
                    "sessions": bound,
                    "in_flight": member.flight.len(),
                })
            })
            .collect();
        let stat = Stat::of(std::process::id() as i32);
        json!({
            "status": "ok",
            "pid": std::process::id(),
            "id": self.settings.id,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.begun.elapsed().as_secs_f64(),
            "rss_bytes": stat.map(|stat| stat.pages * rustix::param::page_size() as u64),
            "cpu_s": stat.map(|stat| self.here.seconds(stat.cpu_ticks)),
            "clients": self.pool.guests.len(),
            "busy": false,
            "stuck": false,
            "stopping": false,
            "queue": self.pool.members.values().map(|member| member.flight.len()).sum::<usize>(),
            "pool": members,
            "errors": self.faults,
        })
    }
}

/// Where a channel stands in [`Channel::ALL`].
pub(super) fn number(channel: Channel) -> usize {
    Channel::ALL.iter().position(|one| *one == channel).unwrap_or_default()
}
