//! Many tool requests over one connection: made of lines as they come, a few at a time, answered in their order.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use zmq::SocketEvent;

use super::{Client, LAST_WORDS, SLACK, reply_or_error};
use crate::error::{Class, Error, Result};
use crate::protocol::connection::Channel;
use crate::protocol::content::{Interrupt, Tool};

/// Read at once.
const CHUNK: usize = 64 << 10;
/// Replies that wait for an earlier one, for each that may run at once.
const AHEAD: usize = 64;

/// The reply to a request, or what went wrong.
pub type Reply = Result<Map<String, Value>>;

/// Where requests come from and how they are treated.
pub struct Many<'a> {
    /// Lines.
    pub input: BorrowedFd<'a>,
    /// Readable when the user wants to stop.
    pub stop: Option<BorrowedFd<'a>>,
    /// Most requests that run at the same time, at least 1.
    pub at_once: usize,
    /// Makes a request of a line; nothing to pass it over.
    pub request: &'a mut dyn FnMut(&[u8]) -> Option<Result<Tool>>,
    /// Receives the replies in the order of the lines.
    pub reply: &'a mut dyn FnMut(Reply) -> Result<()>,
}

/// A request that was made of a line.
struct Slot {
    id: String,
    deadline: Option<Instant>,
    reply: Option<Reply>,
}

/// What was read and not used.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins, and up to where there is no end of it.
    next: usize,
    searched: usize,
    ended: bool,
}

impl Lines {
    /// The next line; the last one needs no end.
    fn next(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| self.searched + at);
        let (end, after) = match end {
            Some(end) => (end, end + 1),
            None if self.ended && self.next < self.bytes.len() => (self.bytes.len(), self.bytes.len()),
            None => {
                self.bytes.drain(..self.next);
                (self.next, self.searched) = (0, self.bytes.len());
                return None;
            }
        };
        let line = self.bytes[self.next..end].to_vec();
        (self.next, self.searched) = (after, after);
        Some(line)
    }

    fn read(&mut self, input: BorrowedFd<'_>) -> Result<()> {
        let mut buffer = [0; CHUNK];
        match rustix::io::read(input, &mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(Error::system("standard input", error.into())),
        }
        Ok(())
    }
}

impl Client {
    /// Asks what the lines of `many.input` say until they end and all is answered.
    ///
    /// # Errors
    /// `Interrupted` once the user stopped it, `Remote` when the kernel dies; what `many.reply` returns.
    pub fn tools(&mut self, many: Many<'_>) -> Result<()> {
        let Many { input, stop, at_once, request, reply } = many;
        let mut lines = Lines::default();
        let mut slots: VecDeque<Slot> = VecDeque::new();
        let mut lost = None;
        loop {
            while slots.front().is_some_and(|slot| slot.reply.is_some()) {
                if let Some(done) = slots.pop_front().and_then(|slot| slot.reply) {
                    reply(done)?;
                }
            }
            let running = |slots: &VecDeque<Slot>| slots.iter().filter(|slot| slot.reply.is_none()).count();
            let mut starved = false;
            while running(&slots) < at_once.max(1) && slots.len() < at_once.max(1) * AHEAD && !starved {
                match lines.next().map(|line| request(&line)) {
                    None => starved = true,
                    Some(None) => {}
                    Some(Some(made)) => slots.push_back(self.begin(made)?),
                }
            }
            if slots.is_empty() && starved && lines.ended {
                return Ok(());
            }
            if slots.front().is_some_and(|slot| slot.reply.is_some()) {
                continue;
            }
            let deadline = slots.iter().filter(|slot| slot.reply.is_none()).filter_map(|slot| slot.deadline).min();
            let deadline = [deadline, lost].into_iter().flatten().min();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let (stopped, more) = self.poll(left, stop, (starved && !lines.ended).then_some(input))?;
            if stopped {
                self.give_up(slots.iter().filter(|slot| slot.reply.is_none()))?;
                return Err(Error::new(Class::Interrupted, "interrupted"));
            }
            if more {
                lines.read(input)?;
            }
            while let Some(message) = self.receive(Channel::Shell)? {
                if let Some(slot) = slots.iter_mut().find(|slot| slot.id == message.parent.msg_id) {
                    slot.reply = Some(reply_or_error(serde_json::from_str(message.content.get()).unwrap_or_default()));
                }
            }
            while self.receive(Channel::Iopub)?.is_some() {}
            while let Some(event) = self.event()? {
                if event != SocketEvent::CONNECTED && lost.is_none() {
                    lost = Some(Instant::now() + LAST_WORDS);
                }
            }
            let now = Instant::now();
            if lost.is_some_and(|lost| lost <= now) {
                return Err(self.died());
            }
            let late = |slot: &&mut Slot| slot.reply.is_none() && slot.deadline.is_some_and(|deadline| deadline <= now);
            for slot in slots.iter_mut().filter(late) {
                self.give_up(std::iter::once(&*slot))?;
                slot.reply = Some(Err(Error::new(Class::Timeout, format!("kernel {}: no reply in time", self.name))));
            }
        }
    }

    fn begin(&self, made: Result<Tool>) -> Result<Slot> {
        let tool = match made {
            Ok(tool) => tool,
            Err(error) => return Ok(Slot { id: String::new(), deadline: None, reply: Some(Err(error)) }),
        };
        let limit = tool.timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit.checked_add(SLACK)?));
        let id = self.send(Channel::Shell, "tool_request", &tool)?;
        Ok(Slot { id, deadline, reply: None })
    }

    fn give_up<'s>(&self, slots: impl Iterator<Item = &'s Slot>) -> Result<()> {
        for slot in slots {
            self.send(Channel::Control, "interrupt_request", &Interrupt { msg_id: Some(slot.id.clone()) })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_were_read() {
        let mut lines = Lines::default();
        assert_eq!(lines.next(), None);
        lines.bytes.extend_from_slice(b"a\n\nbc");
        assert_eq!((lines.next(), lines.next(), lines.next()), (Some(b"a".to_vec()), Some(Vec::new()), None));
        lines.bytes.extend_from_slice(b"d\ne");
        assert_eq!((lines.next(), lines.next()), (Some(b"bcd".to_vec()), None));
        lines.ended = true;
        assert_eq!((lines.next(), lines.next()), (Some(b"e".to_vec()), None));
    }
}
