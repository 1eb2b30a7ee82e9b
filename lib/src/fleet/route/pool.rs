//! The kernels behind the route and the sessions in front of it: who is bound to whom, and what is on its way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use super::ends::Owner;
use super::zmtp::Message;
use crate::fleet::process::Process;
use crate::protocol::connection::{Channel, Connection};
use crate::protocol::wire::{Session, Signer};

/// How many requests of a kernel are counted as being served at most; more is as good as busy.
const COUNTED: usize = 1000;

/// Requests that change nothing: another kernel may answer them when the first dies.
pub(super) const REPEATABLE: [&str; 6] = [
    "kernel_info_request",
    "is_complete_request",
    "complete_request",
    "inspect_request",
    "history_request",
    "comm_info_request",
];

/// A request that waits for its reply.
pub(super) struct Flight {
    pub(super) channel: Channel,
    /// Whose it is, and the frames in front of the delimiter.
    pub(super) client: Vec<u8>,
    pub(super) prefix: Vec<Vec<u8>>,
    pub(super) session: String,
    /// Its header frame.
    pub(super) header: String,
    pub(super) msg_type: String,
    /// All of it, when it may be sent to another kernel.
    pub(super) again: Option<Message>,
}

/// A kernel.
pub(super) struct Member {
    pub(super) connection: Connection,
    pub(super) signer: Signer,
    /// Makes our own requests to it; its id is our identity there.
    pub(super) session: Session,
    pub(super) process: Option<Process>,
    /// Connections by channel, in the order of [`CHANNELS`].
    pub(super) links: [Option<u64>; 4],
    /// Whether it told who it is, and whether what it publishes arrives.
    pub(super) info: bool,
    pub(super) heard: bool,
    /// No new session goes there.
    pub(super) retired: bool,
    /// Since when one of its connections is gone.
    pub(super) leaving: Option<Instant>,
    /// When to try again: to connect, or to ask.
    pub(super) again: Option<Instant>,
    pub(super) attempts: u32,
    /// That it cannot be reached was told.
    pub(super) unreachable: bool,
    pub(super) flight: HashMap<String, Flight>,
    /// Requests it said busy of, and not yet idle.
    busy: HashSet<String>,
}

/// The channels of a kernel that are used; its heartbeat is not.
pub(super) const CHANNELS: [Channel; 4] = [Channel::Shell, Channel::Iopub, Channel::Stdin, Channel::Control];

impl Member {
    pub(super) fn new(connection: Connection, process: Option<Process>) -> Self {
        let session = Session::new(&connection.key);
        Member {
            signer: session.signer().clone(),
            session,
            connection,
            process,
            links: [None; 4],
            info: false,
            heard: false,
            retired: false,
            leaving: None,
            again: None,
            attempts: 0,
            unreachable: false,
            flight: HashMap::new(),
            busy: HashSet::new(),
        }
    }

    pub(super) fn link(&self, channel: Channel) -> Option<u64> {
        CHANNELS.iter().position(|one| *one == channel).and_then(|at| self.links[at])
    }

    pub(super) fn is_ready(&self) -> bool {
        self.info && self.heard && self.leaving.is_none() && self.links.iter().all(Option::is_some)
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.busy.is_empty() || !self.flight.is_empty()
    }

    /// What it says of itself on iopub, whoever asked for it.
    pub(super) fn says(&mut self, request: &str, content: &[u8]) {
        if content.windows(4).any(|word| word == b"idle") {
            self.busy.remove(request);
        } else if content.windows(4).any(|word| word == b"busy") && self.busy.len() < COUNTED {
            self.busy.insert(request.to_owned());
        }
    }

    /// Whether something of `session` is on its way there.
    pub(super) fn serves(&self, session: &str) -> bool {
        self.flight.values().any(|flight| flight.session == session)
    }
}

/// A session of a client.
#[derive(Default)]
pub(super) struct Guest {
    /// Its connections on shell and control. Without one it is over.
    pub(super) links: HashMap<u64, Owner>,
    /// Its kernel.
    pub(super) kernel: Option<String>,
    /// The kernel it had before, until it was told.
    pub(super) lost: Option<String>,
    /// With which request it is told, and in which words.
    pub(super) note: Option<(String, String)>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) members: BTreeMap<String, Member>,
    pub(super) guests: HashMap<String, Guest>,
}

impl Pool {
    /// The kernel of `session`: the one it has, else the least busy one.
    pub(super) fn bind(&mut self, session: &str) -> Option<String> {
        let current = self.guests.get(session).and_then(|guest| guest.kernel.clone());
        if let Some(id) = &current
            && let Some(member) = self.members.get(id)
            && member.is_ready()
            && (!member.retired || member.serves(session))
        {
            return current;
        }
        let bound = |id: &str| self.guests.values().filter(|guest| guest.kernel.as_deref() == Some(id)).count();
        let ready = self.members.iter().filter(|(_, member)| member.is_ready());
        // One that is about to end is better than none.
        let best = ready
            .min_by_key(|(id, member)| (member.retired, member.flight.len().max(member.busy.len()), bound(id)))
            .map(|(id, _)| id.clone())?;
        let guest = self.guests.entry(session.to_owned()).or_default();
        if current.is_some() && current != Some(best.clone()) && guest.lost.is_none() {
            guest.lost = current;
        }
        guest.kernel = Some(best.clone());
        Some(best)
    }

    /// The kernel `id` is gone: its sessions have none now.
    pub(super) fn unbind(&mut self, id: &str) {
        for guest in self.guests.values_mut().filter(|guest| guest.kernel.as_deref() == Some(id)) {
            guest.kernel = None;
            guest.lost = Some(id.to_owned());
        }
    }

    /// A connection ended, and with its last one its session.
    pub(super) fn leave(&mut self, session: &str, link: u64) {
        let Some(guest) = self.guests.get_mut(session) else { return };
        guest.links.remove(&link);
        if guest.links.is_empty() {
            self.guests.remove(session);
            for member in self.members.values_mut() {
                member.flight.retain(|_, flight| flight.session != session);
            }
        }
    }

    /// Whether what is in flight anywhere is `session`'s.
    pub(super) fn has_flights(&self, session: &str) -> bool {
        self.members.values().any(|member| member.serves(session))
    }

    pub(super) fn ready(&self) -> usize {
        self.members.values().filter(|member| member.is_ready()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::connection::Transport;

    fn pool(ids: &[&str]) -> Pool {
        let mut pool = Pool::default();
        for id in ids {
            let connection = Connection::new(Transport::Ipc, "/nowhere".into(), [1, 2, 3, 4, 5]);
            let mut member = Member::new(connection, None);
            (member.links, member.info, member.heard) = ([Some(9); 4], true, true);
            pool.members.insert((*id).to_owned(), member);
        }
        pool
    }

    #[test]
    fn sessions_spread_stay_and_move_on() {
        let mut pool = pool(&["a", "b", "c"]);
        let mut bind = |session: &str| pool.bind(session).unwrap();
        assert_eq!([bind("1"), bind("2"), bind("3"), bind("1")], ["a", "b", "c", "a"]);
        // Busy is worse than having a session.
        pool.members.get_mut("a").unwrap().says("x", br#"{"execution_state": "busy"}"#);
        pool.members.get_mut("b").unwrap().retired = true;
        assert_eq!(pool.bind("4").unwrap(), "c");
        pool.members.get_mut("a").unwrap().says("x", br#"{"execution_state":"idle"}"#);
        assert_eq!(pool.bind("2").unwrap(), "a");
        assert_eq!(pool.guests["2"].lost.as_deref(), Some("b"));
        pool.members.remove("a");
        pool.unbind("a");
        assert_eq!(pool.guests["1"].lost.as_deref(), Some("a"));
        pool.members.remove("c");
        pool.unbind("c");
        assert_eq!(pool.bind("1").unwrap(), "b");
        pool.members.get_mut("b").unwrap().heard = false;
        assert_eq!(pool.bind("1"), None);
    }
}
