//! Asking kernels how they are: heartbeat, control and shell each for itself, all kernels at the same time, and none of
//! them longer than a limit.

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use serde_json::{Map, Value, json};
use zmq::{Context, DONTWAIT, POLLIN, Socket, SocketType};

use super::survey::{Condition, Kernel};
use crate::multipart;
use crate::protocol::connection::{Channel, Connection};
use crate::protocol::wire::{Incoming, Session};

/// Kernels asked at one time: ZeroMQ has a thousand sockets to give.
const AT_ONCE: usize = 250;
/// Descriptors for asking one: a socket and a wake-up for each channel, and some to spare.
const DESCRIPTORS: u64 = 10;
/// Descriptors that are needed for anything else.
const OURS: u64 = 32;

/// What a kernel answered.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Whether the heartbeat came back.
    pub heartbeat: bool,
    /// `status_reply`, from control.
    pub status: Option<Map<String, Value>>,
    /// Whether shell answered; nothing when it was not asked, as a script runs there.
    pub shell: Option<bool>,
    /// How long control took.
    pub latency: Option<Duration>,
}

impl Answers {
    fn number(&self, name: &str) -> Option<f64> {
        self.status.as_ref()?.get(name)?.as_f64()
    }

    fn flag(&self, name: &str) -> bool {
        self.status.as_ref().and_then(|status| status.get(name)) == Some(&Value::Bool(true))
    }

    /// How long it has been running.
    #[must_use]
    pub fn uptime(&self) -> Option<Duration> {
        self.number("uptime_s").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// Resident memory, bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        self.number("rss_bytes").map(|bytes| bytes as u64)
    }

    /// Clients that follow it.
    #[must_use]
    pub fn clients(&self) -> Option<u64> {
        self.number("clients").map(|count| count as u64)
    }

    /// What they say about the kernel, and why.
    #[must_use]
    pub fn verdict(&self, limit: Duration) -> (Condition, String) {
        let silent: Vec<&str> =
            [(!self.heartbeat, "heartbeat"), (self.status.is_none(), "control"), (self.shell == Some(false), "shell")]
                .iter()
                .filter_map(|(silent, name)| silent.then_some(*name))
                .collect();
        let limit = crate::units::show_duration(limit);
        if !self.heartbeat && self.status.is_none() && self.shell != Some(true) {
            return (Condition::Unhealthy, format!("answers on no channel within {limit}"));
        }
        if !silent.is_empty() {
            return (Condition::Degraded, format!("{}: no answer within {limit}", silent.join(", ")));
        }
        if self.flag("stopping") {
            return (Condition::Stopping, String::new());
        }
        if self.flag("stuck") {
            return (Condition::Degraded, "a script does not follow its interrupt".into());
        }
        if self.flag("busy") {
            let queue = self.number("queue").unwrap_or(0.0);
            let text =
                if queue > 0.0 { format!("a script runs, {queue} requests wait") } else { "a script runs".into() };
            return (Condition::Busy, text);
        }
        (Condition::Ready, String::new())
    }
}

/// One kernel that is asked.
struct Asked {
    session: Session,
    heartbeat: Socket,
    control: Socket,
    shell: Socket,
    asked: Instant,
    answers: Answers,
    shell_asked: bool,
}

impl Asked {
    fn new(context: &Context, connection: &Connection) -> zmq::Result<Self> {
        let session = Session::new(&connection.key);
        let make = |channel: Channel| -> zmq::Result<Socket> {
            let socket = context.socket(SocketType::DEALER)?;
            socket.set_linger(0)?;
            socket.set_ipv6(true)?;
            socket.set_identity(session.id().as_bytes())?;
            socket.connect(&connection.endpoint(channel))?;
            Ok(socket)
        };
        let (heartbeat, control, shell) = (make(Channel::Heartbeat)?, make(Channel::Control)?, make(Channel::Shell)?);
        let asked = Instant::now();
        let answers = Answers::default();
        let one = Asked { session, heartbeat, control, shell, asked, answers, shell_asked: false };
        one.heartbeat.send("llmspell-fleet", DONTWAIT)?;
        one.ask(&one.control, "status_request")?;
        Ok(one)
    }

    fn ask(&self, socket: &Socket, msg_type: &str) -> zmq::Result<()> {
        let (frames, _) = self.session.frames(&[], msg_type, None, &json!({}));
        multipart::send(socket, &frames, DONTWAIT)
    }

    /// A script holds shell until it ends, so it is asked only when control says that none runs, or says nothing.
    fn ask_shell(&mut self) {
        self.shell_asked = true;
        self.answers.shell = Some(false);
        let _ = self.ask(&self.shell, "kernel_info_request");
    }

    fn done(&self) -> bool {
        self.answers.heartbeat && self.answers.status.is_some() && self.answers.shell != Some(false)
    }

    fn take(&mut self) {
        while multipart::receive(&self.heartbeat, DONTWAIT).is_ok() {
            self.answers.heartbeat = true;
        }
        while let Ok(frames) = multipart::receive(&self.control, DONTWAIT) {
            // Without the key anybody could answer.
            if let Ok(message) = self.session.signer().parse(frames)
                && message.header.msg_type == "status_reply"
            {
                self.answers.status = serde_json::from_str(message.content.get()).ok();
                self.answers.latency = Some(self.asked.elapsed());
            }
        }
        if self.answers.status.is_some() && !self.shell_asked {
            let held = ["busy", "stopping", "stuck"].iter().any(|name| self.answers.flag(name));
            if held {
                self.shell_asked = true;
            } else {
                self.ask_shell();
            }
        }
        while let Ok(frames) = multipart::receive(&self.shell, DONTWAIT) {
            // A route without kernels says that it has none.
            let told = |message: Incoming| {
                message.header.msg_type == "kernel_info_reply"
                    && !message.content.get().contains("\"status\":\"error\"")
            };
            if self.session.signer().parse(frames).is_ok_and(told) {
                self.answers.shell = Some(true);
            }
        }
    }
}

/// Asks all of `kernels` whose process may run, and writes into them what that says. The answers are in their order.
pub fn probe(kernels: &mut [Kernel], limit: Duration) -> Vec<Answers> {
    crate::daemon::raise_open_files();
    // Too few of our own must never look like silence of theirs.
    let room = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OURS) / DESCRIPTORS;
    if room == 0 {
        kernels.iter_mut().for_each(|kernel| kernel.reason = "cannot be asked: too few open files are allowed".into());
        return kernels.iter().map(|_| Answers::default()).collect();
    }
    let mut all = Vec::with_capacity(kernels.len());
    for kernels in kernels.chunks_mut(AT_ONCE.min(room as usize)) {
        let context = Context::new();
        let mut asked: Vec<Option<Asked>> = kernels
            .iter_mut()
            .map(|kernel| {
                // One that cannot be judged by its process may still answer: it runs elsewhere.
                let may_run = kernel.stat.is_some() || kernel.condition == Condition::Foreign;
                let one = Asked::new(&context, kernel.connection.as_ref().filter(|_| may_run)?);
                one.map_err(|error| kernel.reason = format!("cannot be asked: {}", error.message())).ok()
            })
            .collect();
        wait(&mut asked, limit);
        for (kernel, asked) in kernels.iter_mut().zip(asked) {
            let answers = asked.map(|asked| asked.answers);
            if let Some(answers) = &answers {
                judge(kernel, answers, limit);
            }
            all.push(answers.unwrap_or_default());
        }
    }
    all
}

fn judge(kernel: &mut Kernel, answers: &Answers, limit: Duration) {
    let (condition, reason) = answers.verdict(limit);
    let suspended = kernel.condition == Condition::Unhealthy;
    let silent_elsewhere = kernel.condition == Condition::Foreign && condition == Condition::Unhealthy;
    if silent_elsewhere {
        // What its files say explains it better than that nobody answers.
        kernel.reason = format!("{}; {reason}", kernel.reason);
    } else if !(suspended && condition == Condition::Unhealthy) && kernel.condition != Condition::Stopping {
        (kernel.condition, kernel.reason) = (condition, reason);
    }
}

fn wait(asked: &mut [Option<Asked>], limit: Duration) {
    let begun = Instant::now();
    let half = limit / 2;
    loop {
        let elapsed = begun.elapsed();
        for one in asked.iter_mut().flatten() {
            one.take();
            // Control has had its time; shell has the rest.
            if elapsed >= half && !one.shell_asked {
                one.ask_shell();
            }
        }
        let open: Vec<&Asked> = asked.iter().flatten().filter(|one| !one.done()).collect();
        if open.is_empty() || elapsed >= limit {
            return;
        }
        let mut items = Vec::with_capacity(3 * open.len());
        for one in &open {
            for (silent, socket) in [
                (!one.answers.heartbeat, &one.heartbeat),
                (one.answers.status.is_none(), &one.control),
                (one.answers.shell == Some(false), &one.shell),
            ] {
                if silent {
                    items.push(socket.as_poll_item(POLLIN));
                }
            }
        }
        let next = if elapsed < half { half } else { limit };
        let left = next.saturating_sub(elapsed);
        let _ = zmq::poll(&mut items, left.as_micros().div_ceil(1000) as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(heartbeat: bool, status: Option<Value>, shell: Option<bool>) -> (Condition, String) {
        let status = status.and_then(|status| status.as_object().cloned());
        Answers { heartbeat, status, shell, latency: None }.verdict(Duration::from_secs(2))
    }

    #[test]
    fn what_answers_decides() {
        let idle = || Some(json!({"busy": false, "stuck": false, "stopping": false}));
        assert_eq!(verdict(true, idle(), Some(true)).0, Condition::Ready);
        assert_eq!(
            verdict(true, Some(json!({"busy": true, "queue": 2})), None),
            (Condition::Busy, "a script runs, 2 requests wait".into())
        );
        assert_eq!(verdict(true, Some(json!({"busy": true, "stuck": true})), None).0, Condition::Degraded);
        assert_eq!(verdict(true, Some(json!({"stopping": true})), None).0, Condition::Stopping);
        assert_eq!(
            verdict(true, None, Some(false)),
            (Condition::Degraded, "control, shell: no answer within 2s".into())
        );
        assert_eq!(verdict(true, idle(), Some(false)), (Condition::Degraded, "shell: no answer within 2s".into()));
        assert_eq!(verdict(false, idle(), Some(true)).0, Condition::Degraded);
        assert_eq!(verdict(false, None, Some(false)).0, Condition::Unhealthy);
    }
}
