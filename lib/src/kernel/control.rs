//! The control thread: interrupt, shutdown, status, kernel_info. It never waits for the script thread.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde_json::json;

use super::counters::Counters;
use super::info::KernelInfo;
use super::input::Gate;
use super::keeper::{Duty, Keeper};
use super::outbox::{Outbox, Parent};
use super::script;
use super::tools::Tools;
use super::usage::Usage;
use crate::config::Loaded;
use crate::engine::{Interrupter, Reason};
use crate::error::{Class, Error, Result};
use crate::protocol::content::{Interrupt, Request, Shutdown};

/// How long a script may take to end once it is stopped; then the kernel leaves without it.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// What else the end takes, at most: the last messages leave, the store is closed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Work for the control thread.
#[expect(clippy::large_enum_variant, reason = "the large one is the frequent one")]
pub(super) enum Job {
    Request(Parent, Request),
    /// SIGTERM: shut down, giving running work its grace.
    Terminate,
    /// SIGHUP: reopen logs, read the configuration again.
    Reload,
    /// SIGUSR1: the status into the log.
    Dump,
    /// SIGUSR2: log more, or again as configured.
    Louder,
    /// Something happened that a service manager may want to know.
    Changed,
    /// Clients can connect.
    Ready,
    /// SIGINT: stop the script; idle at a terminal, shut down.
    Interrupt,
    /// Who started the kernel for itself is gone.
    ParentGone,
    /// The script thread has ended.
    ScriptEnded,
    /// While stopping: one tool call less.
    ToolEnded,
}

pub(super) struct ControlThread {
    pub(super) id: String,
    pub(super) outbox: Arc<Outbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) gate: Arc<Gate>,
    pub(super) tools: Arc<Tools>,
    pub(super) info: Arc<KernelInfo>,
    pub(super) interrupter: Interrupter,
    pub(super) script: Sender<script::Job>,
    pub(super) admin: Admin,
    pub(super) keeper: Keeper,
    /// Whether the kernel is its client's own, and ends with it.
    pub(super) private: bool,
    pub(super) terminal: bool,
    pub(super) stop: Option<Stop>,
    pub(super) usage: Usage,
}

/// What a running kernel has of whoever set it up.
#[derive(Default)]
pub struct Admin {
    /// The log.
    pub log: Option<crate::log::Handle>,
    /// Reads the configuration again.
    pub reload: Option<Reload>,
}

/// Reads the configuration again, as at the start.
pub type Reload = Box<dyn Fn() -> Result<Loaded> + Send>;

impl Admin {
    fn say(&self, text: &str) {
        if let Some(log) = &self.log {
            log.say(text);
        }
    }
}

/// A shutdown under way.
pub(super) struct Stop {
    /// Who asked.
    asked: Option<(Parent, Shutdown)>,
    /// When patience ends.
    until: Instant,
    /// Whether running work was already told to end.
    told: bool,
    script_ended: bool,
}

impl ControlThread {
    /// Serves until the kernel is shut down. True when the script thread ended too.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) -> bool {
        loop {
            let idle_timeout = match self.private || self.stop.is_some() {
                true => Duration::ZERO,
                false => self.tools.runtime.now().kernel.idle_timeout,
            };
            let due = self.keeper.due(idle_timeout);
            let due = self.stop.as_ref().map_or(due, |stop| stop.until.min(due));
            match jobs.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(job) => self.serve(job),
                Err(RecvTimeoutError::Timeout) => {
                    if self.stop.as_ref().is_some_and(|stop| stop.until <= Instant::now()) {
                        self.out_of_patience();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return true,
            }
            if due <= Instant::now() {
                match self.keeper.look(idle_timeout) {
                    Some(Duty::Unused) if self.stop.is_none() => {
                        log::info!("unused for {}; ending", humantime::format_duration(idle_timeout));
                        self.stop(Duration::ZERO, None);
                    }
                    Some(Duty::Tidy) => self.admin.log.iter().for_each(crate::log::Handle::tidy),
                    _ => {}
                }
            }
            if let Some(stop) = &self.stop {
                let given_up = stop.told && stop.until <= Instant::now();
                if given_up || stop.script_ended && self.tools.is_idle() {
                    return self.finish();
                }
            }
        }
    }

    fn serve(&mut self, job: Job) {
        match job {
            Job::Request(parent, request) => {
                self.outbox.status(Some(&parent.header), "busy");
                match request {
                    Request::Status => {
                        let status = self.counters.status(&self.id, self.interrupter.0.pending_since());
                        self.outbox.reply(&parent, "status_reply", &status);
                    }
                    Request::Interrupt(request) => {
                        self.interrupt(&parent.session, &request);
                        self.outbox.reply(&parent, "interrupt_reply", &json!({"status": "ok"}));
                    }
                    // Its reply and idle come last of all.
                    Request::Shutdown(request) => {
                        log::info!("shutdown requested");
                        return self.stop(Duration::ZERO, Some((parent, request)));
                    }
                    Request::Usage => self.outbox.reply(&parent, "usage_reply", &self.usage.reply()),
                    Request::Connect => self.outbox.reply(&parent, "connect_reply", &self.info.ports),
                    _ => self.outbox.reply(&parent, "kernel_info_reply", &*self.info),
                }
                self.outbox.status(Some(&parent.header), "idle");
            }
            Job::Terminate => {
                let grace = self.tools.runtime.now().kernel.grace;
                log::info!("terminated by SIGTERM; running work has {}", humantime::format_duration(grace));
                self.stop(grace, None);
            }
            Job::Reload => self.reload(),
            Job::Dump => {
                let status = self.counters.status(&self.id, self.interrupter.0.pending_since());
                self.admin.say(&format!("SIGUSR1: {status}"));
            }
            Job::Louder => {
                if let Some(log) = &self.admin.log {
                    log.say(&format!("SIGUSR2: log level {}", log.louder().name()));
                }
            }
            Job::Changed => self.keeper.changed(),
            Job::Ready => self.keeper.ready(),
            Job::Interrupt if self.counters.busy() => self.interrupt_script(Reason::Interrupt),
            Job::Interrupt if self.terminal => self.stop(Duration::ZERO, None),
            Job::Interrupt => {}
            Job::ParentGone => self.stop(Duration::ZERO, None),
            Job::ScriptEnded => {
                if let Some(stop) = &mut self.stop {
                    stop.script_ended = true;
                }
            }
            Job::ToolEnded => {}
        }
    }

    /// Reopens the log and takes what of the configuration may change; tells what has to wait.
    fn reload(&mut self) {
        self.keeper.notify.reloading();
        let reopened = self.admin.log.as_ref().is_some_and(crate::log::Handle::reopen);
        let reopened = if reopened { "log reopened; " } else { "" };
        match self.admin.reload.as_ref().map(|reload| reload()) {
            None => {}
            Some(Err(error)) => {
                let hint = error.next_step().map(|hint| format!(" {hint}")).unwrap_or_default();
                log::error!("SIGHUP: configuration not taken: {error}{hint}");
            }
            Some(Ok(Loaded { config, warnings, .. })) => {
                warnings.iter().for_each(|warning| log::warn!("SIGHUP: {warning}"));
                let changes = self.tools.runtime.change(&config);
                let now = self.tools.runtime.now();
                if let Some(log) = &self.admin.log {
                    config.secrets().for_each(crate::log::hide);
                    log.set(&now.log, &now.daemon);
                }
                let list = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
                self.admin.say(&format!("SIGHUP: {reopened}configuration: {} changed", list(&changes.applied)));
                if !changes.waiting.is_empty() {
                    log::warn!("SIGHUP: {}: a new value takes effect at the next start", changes.waiting.join(", "));
                }
            }
        }
        self.keeper.ready();
    }

    fn interrupt(&self, session: &str, request: &Interrupt) {
        match &request.msg_id {
            Some(id) if self.tools.cancel(session, id) => {}
            Some(id) => match self.counters.cancel(id) {
                Some((parent, reply_type)) => {
                    self.outbox.status(Some(&parent.header), "busy");
                    let error = Error::new(Class::Interrupted, "interrupted before it began");
                    self.outbox.refuse(&parent, reply_type, &error);
                    self.outbox.status(Some(&parent.header), "idle");
                }
                None if self.counters.is_running(id) => self.interrupt_script(Reason::Interrupt),
                None => {}
            },
            None => self.interrupt_script(Reason::Interrupt),
        }
    }

    fn interrupt_script(&self, reason: Reason) {
        // First what a script looks at that is just about to begin.
        self.gate.interrupt();
        self.interrupter.0.interrupt(reason);
        self.outbox.hurry();
    }

    /// Takes no more work and ends what runs after `grace`. A second request while stopping ends the grace.
    fn stop(&mut self, grace: Duration, asked: Option<(Parent, Shutdown)>) {
        let until = Instant::now() + grace;
        match &mut self.stop {
            Some(stop) => {
                stop.until = stop.until.min(until);
                stop.asked = asked.or(stop.asked.take());
            }
            None => {
                self.counters.stopping.store(true, Relaxed);
                self.keeper.notify.stopping(grace + STOP_PATIENCE + END_PATIENCE);
                let _ = self.script.send(script::Job::Stop);
                self.stop = Some(Stop { asked, until, told: false, script_ended: false });
            }
        }
        if grace.is_zero() {
            self.out_of_patience();
        }
    }

    /// The grace is over: running work is told to end.
    fn out_of_patience(&mut self) {
        self.interrupt_script(Reason::Shutdown);
        self.tools.cancel_all();
        if let Some(stop) = &mut self.stop
            && !stop.told
        {
            stop.told = true;
            stop.until = Instant::now() + STOP_PATIENCE;
        }
    }

    fn finish(&mut self) -> bool {
        let Some(stop) = self.stop.take() else { return true };
        let (parent, request) = match &stop.asked {
            Some((parent, request)) => (Some(parent), request.clone()),
            None => (None, Shutdown { restart: false }),
        };
        let header = parent.map(|parent| &*parent.header);
        let content = json!({"status": "ok", "restart": request.restart});
        self.outbox.publish(header, "shutdown_reply", &content);
        if let Some(parent) = parent {
            self.outbox.reply(parent, "shutdown_reply", &content);
        }
        self.outbox.status(header, "idle");
        if !stop.script_ended {
            log::warn!("the script does not stop; leaving without it");
        }
        self.outbox.close();
        stop.script_ended
    }
}
