//! What passes the route: requests to the kernel of their session, replies and questions back to who asked, and of what
//! kernels publish to everybody their own.

use std::rc::Rc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pool::{Flight, REPEATABLE};
use super::router::{AGAIN, HIGH, LARGEST, Router, Side, number};
use super::zmtp::{Message, encode};
use crate::error::{Class, Error};
use crate::protocol::connection::Channel;
use crate::protocol::content::{ErrorContent, StreamContent};
use crate::protocol::wire::Drop;

/// What of a header decides where a message goes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Who {
    msg_id: String,
    session: String,
    msg_type: String,
}

impl Who {
    fn read(frame: &[u8]) -> Option<Self> {
        serde_json::from_slice(frame).ok()
    }
}

/// Where a request came from.
struct Origin {
    channel: Channel,
    /// What the client calls itself.
    client: Vec<u8>,
    /// Its connection, unless it has gone since.
    link: Option<u64>,
}

impl Router<'_> {
    /// A connection introduced itself.
    pub(super) fn opened(&mut self, token: u64) {
        let Some(link) = self.links.get_mut(&token) else { return };
        let (channel, given) = (link.channel, link.peer.identity().to_vec());
        match &mut link.side {
            Side::Kernel(id) => {
                let id = id.clone();
                if channel == Channel::Iopub {
                    // Everything it publishes.
                    link.peer.send(&encode(None, &[vec![1]]));
                }
                let Some(member) = self.pool.members.get(&id) else { return };
                let mut links = member.links.iter().flatten().filter_map(|token| self.links.get(token));
                if links.all(|link| link.peer.is_open()) && member.links.iter().all(Option::is_some) {
                    self.ask(&id);
                }
            }
            Side::Client { owner, name, .. } => {
                if channel == Channel::Iopub {
                    let owner = owner.clone();
                    return self.followers.entry(owner).or_default().push(token);
                }
                // Those who give no name get one nobody else can have.
                *name = if given.is_empty() { [&[0], &token.to_be_bytes()[..]].concat() } else { given };
                // Who comes back under a name takes it over.
                self.names[number(channel)].insert(name.clone(), token);
            }
        }
    }

    /// Asks the kernel `id` who it is, which tells that the key is right and that what it publishes arrives.
    pub(super) fn ask(&mut self, id: &str) {
        let Some(member) = self.pool.members.get_mut(id) else { return };
        let Some(token) = member.link(Channel::Control) else { return };
        let (frames, _) = member.session.frames(&[], "kernel_info_request", None, &json!({}));
        let wait = AGAIN.saturating_mul(1 << member.attempts.min(5));
        let at = Instant::now() + wait;
        member.attempts += 1;
        member.again = Some(at);
        self.push(token, &encode(None, &frames));
        self.arm(at);
    }

    /// Sends to a connection.
    fn push(&mut self, token: u64, bytes: &Rc<[u8]>) {
        let Some(link) = self.links.get_mut(&token) else { return };
        if link.peer.queued() > LARGEST {
            return self.fault("slow_client");
        }
        link.peer.send(bytes);
        if link.peer.queued() > 0 {
            self.rearm(token);
        }
    }

    pub(super) fn on_message(&mut self, token: u64, frames: Message) {
        let Some(link) = self.links.get(&token) else { return };
        let channel = link.channel;
        match &link.side {
            Side::Kernel(id) => {
                let id = id.clone();
                if channel == Channel::Iopub {
                    self.on_published(token, &id, frames);
                } else {
                    self.on_reply(channel, &id, frames);
                }
            }
            Side::Client { name, .. } => match channel {
                Channel::Heartbeat if link.peer.queued() > HIGH => {}
                Channel::Heartbeat => self.push(token, &encode(None, &frames)),
                Channel::Iopub => self.on_subscription(token, &frames),
                Channel::Stdin => self.on_answer(token, frames),
                Channel::Shell | Channel::Control => {
                    let origin = Origin { channel, client: name.clone(), link: Some(token) };
                    self.on_request(&origin, frames);
                }
            },
        }
    }

    /// Where the delimiter is, and what the header says; nothing when the message is dropped.
    fn accept_message(&mut self, frames: &Message) -> Option<(usize, Who)> {
        let read = |at: usize| Who::read(&frames[at + 2]).filter(|who| !who.msg_id.is_empty()).ok_or(Drop::Json);
        match self.session.signer().check(frames).and_then(|at| Ok((at, read(at)?))) {
            Ok(accepted) => Some(accepted),
            Err(drop) => {
                self.fault(drop.name());
                None
            }
        }
    }

    fn on_request(&mut self, origin: &Origin, frames: Message) {
        let Some((at, mut who)) = self.accept_message(&frames) else { return };
        if who.session.is_empty() {
            who.session = origin.client.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        if matches!(who.msg_type.as_str(), "status_request" | "connect_request") {
            return self.answer(origin, &frames, at, &who);
        }
        if let Some(token) = origin.link
            && let Some(link) = self.links.get_mut(&token)
            && let Side::Client { owner, sessions, .. } = &mut link.side
        {
            if !sessions.contains(&who.session) {
                sessions.push(who.session.clone());
            }
            let guest = self.pool.guests.entry(who.session.clone()).or_default();
            guest.links.entry(token).or_insert_with(|| owner.clone());
        }
        let harmful = match who.msg_type.as_str() {
            // It would meet the script of somebody else.
            "interrupt_request" => !self.pool.has_flights(&who.session),
            "shutdown_request" => true,
            _ => false,
        };
        if harmful {
            return self.answer(origin, &frames, at, &who);
        }
        let Some(id) = self.pool.bind(&who.session) else {
            let error = Error::new(Class::Remote, format!("{}: no kernel of the pool is ready", self.settings.id))
                .hint("llmspell-fleet list shows those there are.");
            let Some(flight) = flight(origin, &frames, at, who) else { return };
            return self.refuse(&flight, &error);
        };
        self.forward(origin, &id, frames, at, who);
    }

    fn forward(&mut self, origin: &Origin, id: &str, mut frames: Message, at: usize, who: Who) {
        if who.msg_type == "execute_request"
            && let Some(guest) = self.pool.guests.get_mut(&who.session)
            && let Some(lost) = guest.lost.take()
        {
            let text =
                format!("kernel {lost} went away; this session goes on in {id}, without what it had set there\n");
            guest.note = Some((who.msg_id.clone(), text));
        }
        let Some(member) = self.pool.members.get_mut(id) else { return };
        let Some(target) = member.link(origin.channel) else { return };
        let msg_id = who.msg_id.clone();
        if let Some(mut flight) = flight(origin, &frames, at, who) {
            if REPEATABLE.contains(&flight.msg_type.as_str()) {
                flight.again = Some(frames.clone());
            }
            member.flight.insert(msg_id, flight);
        }
        frames[at + 1] = member.signer.sign(frames[at + 2..at + 6].iter().map(Vec::as_slice)).into_bytes();
        let bytes = encode(Some(&origin.client), &frames);
        self.push(target, &bytes);
        let full = self.links.get(&target).is_some_and(|link| link.peer.queued() > HIGH);
        if let Some(source) = origin.link.filter(|_| full) {
            self.block(source, target);
        }
    }

    /// A kernel went away with this on its way: to another kernel if that does no harm, else back.
    pub(super) fn strand(&mut self, mut flight: Flight, kernel: &str) {
        if let Some(frames) = flight.again.take()
            && let Some((at, mut who)) = self.accept_message(&frames)
            && let Some(id) = self.pool.bind(&flight.session)
        {
            who.session.clone_from(&flight.session);
            let origin = Origin { channel: flight.channel, client: flight.client, link: None };
            return self.forward(&origin, &id, frames, at, who);
        }
        let error = Error::new(Class::Remote, format!("kernel {kernel}: went away"))
            .hint("The next request goes to another kernel of the pool; what was set in this one is lost.");
        self.refuse(&flight, &error);
    }

    /// What the route answers itself: about itself, and what one client must not do to others.
    fn answer(&mut self, origin: &Origin, frames: &Message, at: usize, who: &Who) {
        let content = match who.msg_type.as_str() {
            "status_request" => self.status(),
            "interrupt_request" => json!({"status": "ok"}),
            "connect_request" => {
                let port = |channel| self.connection.port(channel);
                json!({
                    "status": "ok",
                    "shell_port": port(Channel::Shell),
                    "iopub_port": port(Channel::Iopub),
                    "stdin_port": port(Channel::Stdin),
                    "control_port": port(Channel::Control),
                    "hb_port": port(Channel::Heartbeat),
                })
            }
            _ => {
                let error = Error::new(
                    Class::Denied,
                    format!("{}: the kernels of a pool are not one client's to end", self.settings.id),
                )
                .hint("llmspell-fleet stop ends kernels, and the route.");
                Value::Object(ErrorContent::from(&error).reply())
            }
        };
        let Ok(header) = std::str::from_utf8(&frames[at + 2]) else { return };
        let reply = format!("{}_reply", who.msg_type.trim_end_matches("_request"));
        let (identities, header) = (frames[..at].to_vec(), header.to_owned());
        self.publish_own(&who.session, header.as_bytes(), "status", &json!({"execution_state": "busy"}));
        self.reply_own(origin.channel, &origin.client, &identities, &header, &reply, &content);
        self.publish_own(&who.session, header.as_bytes(), "status", &json!({"execution_state": "idle"}));
    }

    /// Answers a request that no kernel will.
    pub(super) fn refuse(&mut self, flight: &Flight, error: &Error) {
        let content = ErrorContent::from(error);
        if flight.msg_type == "execute_request" {
            self.publish_own(&flight.session, flight.header.as_bytes(), "error", &content);
        }
        let reply = format!("{}_reply", flight.msg_type.trim_end_matches("_request"));
        let content = Value::Object(content.reply());
        self.reply_own(flight.channel, &flight.client, &flight.prefix, &flight.header, &reply, &content);
        self.publish_own(&flight.session, flight.header.as_bytes(), "status", &json!({"execution_state": "idle"}));
    }

    fn reply_own(
        &mut self,
        channel: Channel,
        client: &[u8],
        prefix: &[Vec<u8>],
        header: &str,
        kind: &str,
        content: &Value,
    ) {
        let Some(token) = self.names[number(channel)].get(client).copied() else { return };
        let (frames, _) = self.session.frames(prefix, kind, Some(header), content);
        self.push(token, &encode(None, &frames));
    }

    /// Publishes a message of the route for one session.
    fn publish_own<C: Serialize>(&mut self, session: &str, header: &[u8], kind: &str, content: &C) {
        let Ok(header) = std::str::from_utf8(header) else { return };
        let (frames, _) = self.session.frames(&[kind.as_bytes().to_vec()], kind, Some(header), content);
        for token in self.followers_of(session) {
            self.show(token, &frames[0], &encode(None, &frames));
        }
    }

    /// Sends what is published to a connection that wants it; false when it has no room for it.
    fn show(&mut self, token: u64, topic: &[u8], bytes: &Rc<[u8]>) -> bool {
        let Some(link) = self.links.get_mut(&token) else { return true };
        let Side::Client { topics, .. } = &link.side else { return true };
        if !topics.iter().any(|wanted| topic.starts_with(wanted)) {
            return true;
        }
        if link.cut {
            self.fault("lost_messages");
            return true;
        }
        link.peer.send(bytes);
        let queued = link.peer.queued();
        if queued > 0 {
            self.rearm(token);
        }
        queued <= HIGH
    }

    /// Connections on iopub of those who have `session`.
    fn followers_of(&self, session: &str) -> Vec<u64> {
        let Some(guest) = self.pool.guests.get(session) else { return Vec::new() };
        let mut owners: Vec<_> = guest.links.values().collect();
        owners.dedup();
        let mut tokens: Vec<u64> =
            owners.into_iter().filter_map(|owner| self.followers.get(owner)).flatten().copied().collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// An `input_reply`.
    fn on_answer(&mut self, token: u64, mut frames: Message) {
        let Some((at, who)) = self.accept_message(&frames) else { return };
        let Some(Side::Client { name, .. }) = self.links.get(&token).map(|link| &link.side) else { return };
        let name = name.clone();
        let kernel = self.pool.guests.get(&who.session).and_then(|guest| guest.kernel.as_ref());
        let Some(member) = kernel.and_then(|id| self.pool.members.get(id)) else { return };
        let Some(target) = member.link(Channel::Stdin) else { return };
        frames[at + 1] = member.signer.sign(frames[at + 2..at + 6].iter().map(Vec::as_slice)).into_bytes();
        self.push(target, &encode(Some(&name), &frames));
    }

    /// 1 and a topic, or 0 and one that is no longer wanted.
    fn on_subscription(&mut self, token: u64, frames: &Message) {
        let Some(Side::Client { topics, .. }) = self.links.get_mut(&token).map(|link| &mut link.side) else { return };
        match frames.first().and_then(|frame| frame.split_first()) {
            Some((1, topic)) if topics.len() < 256 => {
                topics.push(topic.to_vec());
                let content = json!({"subscription": String::from_utf8_lossy(topic)});
                let (frames, _) = self.session.frames(&[topic.to_vec()], "iopub_welcome", None, &content);
                self.push(token, &encode(None, &frames));
            }
            Some((0, topic)) => {
                if let Some(at) = topics.iter().position(|known| known == topic) {
                    topics.swap_remove(at);
                }
            }
            _ => {}
        }
    }

    /// From the shell, control or stdin channel of a kernel: the first frame says for whom.
    fn on_reply(&mut self, channel: Channel, id: &str, mut frames: Message) {
        let Some(member) = self.pool.members.get_mut(id) else { return };
        let Ok(at) = member.signer.check(&frames) else { return self.fault("kernel_signature") };
        if at == 0 {
            // Ours.
            let is_info = Who::read(&frames[2]).is_some_and(|who| who.msg_type == "kernel_info_reply");
            if is_info && !member.info {
                member.info = true;
                self.known(id);
            }
            return;
        }
        if channel != Channel::Stdin
            && let Some(parent) = Who::read(&frames[at + 3])
        {
            member.flight.remove(&parent.msg_id);
        }
        let Some(token) = self.names[number(channel)].get(&frames[0]).copied() else { return };
        frames[at + 1] = self.session.signer().sign(frames[at + 2..at + 6].iter().map(Vec::as_slice)).into_bytes();
        self.push(token, &encode(None, &frames[1..]));
    }

    /// Whether the kernel is ready now.
    fn known(&mut self, id: &str) {
        let Some(member) = self.pool.members.get_mut(id) else { return };
        if !(member.info && member.heard) {
            return;
        }
        (member.again, member.attempts, member.unreachable) = (None, 0, false);
        self.say(id, "joined", "joined the pool");
    }

    fn on_published(&mut self, source: u64, id: &str, mut frames: Message) {
        let Some(member) = self.pool.members.get_mut(id) else { return };
        let Ok(at) = member.signer.check(&frames) else { return self.fault("kernel_signature") };
        if !member.heard {
            member.heard = true;
            self.known(id);
        }
        let Some(member) = self.pool.members.get_mut(id) else { return };
        let (Some(who), Some(parent)) = (Who::read(&frames[at + 2]), Who::read(&frames[at + 3])) else { return };
        match who.msg_type.as_str() {
            "iopub_welcome" => return,
            "status" => member.says(&parent.msg_id, &frames[at + 5]),
            _ => {}
        }
        let targets = if parent.msg_id.is_empty() {
            // For everybody who is bound to it.
            let guests = self.pool.guests.iter().filter(|(_, guest)| guest.kernel.as_deref() == Some(id));
            let sessions: Vec<String> = guests.map(|(session, _)| session.clone()).collect();
            let mut tokens: Vec<u64> = sessions.iter().flat_map(|session| self.followers_of(session)).collect();
            tokens.sort_unstable();
            tokens.dedup();
            tokens
        } else {
            self.followers_of(&parent.session)
        };
        if targets.is_empty() {
            return;
        }
        frames[at + 1] = self.session.signer().sign(frames[at + 2..at + 6].iter().map(Vec::as_slice)).into_bytes();
        let topic = if at > 0 { frames[0].clone() } else { Vec::new() };
        let bytes = encode(None, &frames);
        for token in targets {
            if !self.show(token, &topic, &bytes) {
                self.block(source, token);
            }
        }
        // Behind its busy.
        if who.msg_type == "status"
            && let Some(guest) = self.pool.guests.get_mut(&parent.session)
            && let Some((_, text)) = guest.note.take_if(|(request, _)| *request == parent.msg_id)
        {
            let note = StreamContent { name: "stderr".into(), text };
            self.publish_own(&parent.session, &frames[at + 3], "stream", &note);
        }
    }
}

/// A request that waits for its reply; nothing for what has none.
fn flight(origin: &Origin, frames: &Message, at: usize, who: Who) -> Option<Flight> {
    if !who.msg_type.ends_with("_request") {
        return None;
    }
    Some(Flight {
        channel: origin.channel,
        client: origin.client.clone(),
        prefix: frames[..at].to_vec(),
        session: who.session,
        header: String::from_utf8(frames[at + 2].clone()).ok()?,
        msg_type: who.msg_type,
        again: None,
    })
}
