//! The script thread: owns the engine, serves what needs it, one request after the other.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::abort::{self, Abort};
use super::control;
use super::counters::Counters;
use super::history::History;
use super::info::KernelInfo;
use super::input::Gate;
use super::look;
use super::outbox::{Outbox, Parent};
use crate::engine::{Args, Completeness, Engine, Inspected, Output, Script, Stream};
use crate::error::{Class, Error, Result};
use crate::protocol::content::{ClearOutput, Comm, Display, ErrorContent, Execute, InputRequest, Request};
use crate::runtime::Runtime;

/// Work for the script thread.
pub(super) enum Job {
    /// What its sender waits for, under this number in [`Counters::begin`].
    Request(u64, Request),
    /// Nothing follows.
    Stop,
}

pub(super) struct ScriptThread {
    pub(super) engine: Box<dyn Engine>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) gate: Arc<Gate>,
    pub(super) info: Arc<KernelInfo>,
    pub(super) control: Sender<control::Job>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) jobs: Receiver<Job>,
    /// Jobs that were taken before their turn.
    pub(super) early: VecDeque<Job>,
    /// The error behind which requests are aborted.
    pub(super) abort: Option<Abort>,
    pub(super) history: History,
}

impl ScriptThread {
    /// Serves until [`Job::Stop`].
    pub(super) fn run(mut self) {
        while let Some(Job::Request(number, request)) = self.early.pop_front().or_else(|| self.jobs.recv().ok()) {
            let Some(parent) = self.counters.begin(number) else { continue };
            self.outbox.status(Some(&parent.header), "busy");
            if self.counters.stopping.load(Relaxed) {
                let error = Error::new(Class::Remote, "the kernel is shutting down");
                self.outbox.refuse(&parent, reply_type(&request), &error);
            } else {
                self.gate.begin();
                self.outbox.calm();
                self.counters.set_running(Some(parent.msg_id.clone()));
                self.serve(&parent, request);
                self.counters.set_running(None);
            }
            self.outbox.status(Some(&parent.header), "idle");
        }
        let _ = self.control.send(control::Job::ScriptEnded);
    }

    fn serve(&mut self, parent: &Parent, request: Request) {
        match request {
            Request::Execute(_) if self.abort.as_ref().is_some_and(|abort| abort.covers(parent)) => {
                self.abort_reply(parent);
            }
            Request::Execute(request) => self.execute(parent, request),
            Request::IsComplete(request) => {
                let content = match self.engine.is_complete(&request.code) {
                    Completeness::Complete => json!({"status": "complete"}),
                    Completeness::Incomplete(indent) => json!({"status": "incomplete", "indent": indent}),
                    Completeness::Invalid => json!({"status": "invalid"}),
                };
                self.outbox.reply(parent, "is_complete_reply", &content);
            }
            Request::Complete(request) => {
                let content = look::complete(&mut *self.engine, &request);
                self.outbox.reply(parent, "complete_reply", &content);
            }
            Request::Inspect(request) => {
                let content = look::inspect(&mut *self.engine, &request);
                self.outbox.reply(parent, "inspect_reply", &content);
            }
            Request::History(request) => match self.history.ask(request) {
                Ok(content) => self.outbox.reply(parent, "history_reply", &content),
                Err(error) => self.outbox.refuse(parent, "history_reply", &error),
            },
            Request::CommInfo(request) => self.comm_info(parent, &request),
            Request::Comm(message) => self.comm(parent, &message),
            Request::Connect => self.outbox.reply(parent, "connect_reply", &self.info.ports),
            // kernel_info is the only other request that waits for its turn here.
            _ => self.outbox.reply(parent, "kernel_info_reply", &*self.info),
        }
    }

    fn abort_reply(&mut self, parent: &Parent) {
        if let Some(abort) = &mut self.abort {
            abort.aborted();
        }
        let error = ErrorContent {
            ename: "Aborted".into(),
            traceback: Vec::new(),
            ..ErrorContent::from(&Error::new(Class::Interrupted, "an earlier request failed"))
        };
        // It was not executed, so it has no number; a notebook would show one.
        self.reply_error(parent, &error, None);
    }

    fn execute(&mut self, parent: &Parent, request: Execute) {
        self.abort = None;
        self.counters.executions.fetch_add(1, Relaxed);
        let counts = request.store_history && !request.silent;
        let mut count = self.counters.execution_count.load(Relaxed);
        if !request.silent {
            count += 1;
            // Only what is kept is counted: the next one may have the same number.
            if counts {
                self.counters.execution_count.store(count, Relaxed);
            }
            let content = json!({"code": request.code, "execution_count": count});
            self.outbox.publish(Some(&parent.header), "execute_input", &content);
        }
        let deadline = self.deadline(request.timeout);
        let payload = Arc::new(Mutex::new(Vec::new()));
        let output: Arc<dyn Output> = Arc::new(Requester {
            outbox: Arc::clone(&self.outbox),
            gate: Arc::clone(&self.gate),
            parent: parent.clone(),
            silent: request.silent,
            deadline,
            payload: Arc::clone(&payload),
        });
        let script = Script {
            code: request.code.as_bytes(),
            name: request.chunk_name.unwrap_or_else(|| if counts { format!("=[{count}]") } else { "=[*]".into() }),
            args: request.args.map(|words| {
                let mut words = words.into_iter();
                Args { script: words.next().unwrap_or_default(), words: words.collect() }
            }),
            deadline,
            allow_stdin: request.allow_stdin,
            cwd: request.cwd.map(PathBuf::from),
            own_folder: false,
        };
        if self.gate.is_interrupted() {
            let error = Error::new(Class::Interrupted, "interrupted before it began");
            return self.reply_error(parent, &ErrorContent::from(&error), Some(count));
        }
        let outcome = self.engine.execute(&script, &output);
        if counts {
            self.history.add(count, request.code.clone(), outcome.value.as_ref().map(|value| value.text.clone()));
        }
        match outcome.error_content() {
            None => {
                if let (Some(value), false) = (&outcome.value, request.silent) {
                    let content = json!({"execution_count": count, "data": value.bundle(), "metadata": {}});
                    self.outbox.publish(Some(&parent.header), "execute_result", &content);
                }
                let expressions = self.user_expressions(&request.user_expressions, &script, &output);
                let content = json!({
                    "status": "ok",
                    "execution_count": count,
                    "user_expressions": expressions,
                    "payload": *payload.lock().unwrap_or_else(PoisonError::into_inner),
                });
                self.outbox.reply(parent, "execute_reply", &content);
            }
            Some(error) => {
                if request.stop_on_error {
                    while let Ok(job) = self.jobs.recv_timeout(abort::patience(parent)) {
                        self.early.push_back(job);
                    }
                    // Before the client can know: what it sends after it does is not aborted.
                    self.abort = Some(Abort::new(parent));
                }
                if !request.silent {
                    self.outbox.publish(Some(&parent.header), "error", &error);
                }
                self.reply_error(parent, &error, Some(count));
            }
        }
    }

    pub(super) fn deadline(&self, seconds: Option<f64>) -> Option<Instant> {
        let asked = seconds.filter(|s| *s > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
        let longest = self.runtime.now().engines.lua.timeout;
        let limit = match (asked, longest.is_zero()) {
            (Some(asked), true) => asked,
            (Some(asked), false) => asked.min(longest),
            (None, true) => return None,
            (None, false) => longest,
        };
        Instant::now().checked_add(limit)
    }

    fn reply_error(&self, parent: &Parent, error: &ErrorContent, count: Option<u64>) {
        let mut reply = error.reply();
        reply.insert("execution_count".into(), count.into());
        self.outbox.reply(parent, "execute_reply", &reply);
    }

    /// Each in turn, under the limits of `script`; once interrupted or out of time, none of the rest.
    fn user_expressions(
        &mut self,
        expressions: &BTreeMap<String, String>,
        script: &Script<'_>,
        output: &Arc<dyn Output>,
    ) -> Map<String, Value> {
        let mut results = Map::new();
        let mut stopped: Option<ErrorContent> = None;
        for (name, code) in expressions {
            if let Some(error) = &stopped {
                results.insert(name.clone(), Value::Object(error.reply()));
                continue;
            }
            let script = Script { code: code.as_bytes(), name: format!("={name}"), args: None, ..script.clone() };
            let outcome = self.engine.execute(&script, output);
            let error = outcome.error_content();
            let is_stop =
                |error: &&ErrorContent| matches!(Class::from_name(&error.class), Class::Interrupted | Class::Timeout);
            stopped = error.as_ref().filter(is_stop).cloned();
            let result = match (error, &outcome.value) {
                (Some(error), _) => Value::Object(error.reply()),
                (None, Some(value)) => json!({"status": "ok", "data": value.bundle(), "metadata": {}}),
                (None, None) => json!({"status": "ok", "data": {"text/plain": "nil"}, "metadata": {}}),
            };
            results.insert(name.clone(), result);
        }
        results
    }
}

/// The type of the answer; empty where there is none.
pub(super) fn reply_type(request: &Request) -> &'static str {
    match request {
        Request::Execute(_) => "execute_reply",
        Request::IsComplete(_) => "is_complete_reply",
        Request::Complete(_) => "complete_reply",
        Request::Inspect(_) => "inspect_reply",
        Request::History(_) => "history_reply",
        Request::CommInfo(_) => "comm_info_reply",
        Request::Connect => "connect_reply",
        Request::Comm(_) => "",
        _ => "kernel_info_reply",
    }
}

/// The client whose request runs: its output goes to iopub, its questions to stdin.
pub(super) struct Requester {
    pub(super) outbox: Arc<Outbox>,
    pub(super) gate: Arc<Gate>,
    pub(super) parent: Parent,
    pub(super) silent: bool,
    pub(super) deadline: Option<Instant>,
    /// For the reply.
    pub(super) payload: Arc<Mutex<Vec<Value>>>,
}

impl Requester {
    fn payload(&self) -> MutexGuard<'_, Vec<Value>> {
        self.payload.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output for Requester {
    fn write(&self, stream: Stream, bytes: &[u8]) -> Result<()> {
        if !self.silent {
            self.outbox.stream(&self.parent.header, stream, bytes);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.outbox.flush();
        Ok(())
    }

    fn display(&self, display: &Display, update: bool) -> Result<()> {
        if !self.silent {
            let msg_type = if update { "update_display_data" } else { "display_data" };
            self.outbox.show(&self.parent.header, msg_type, display);
        }
        Ok(())
    }

    fn clear(&self, wait: bool) -> Result<()> {
        if !self.silent {
            self.outbox.show(&self.parent.header, "clear_output", &ClearOutput { wait });
        }
        Ok(())
    }

    fn input(&self, prompt: &str, password: bool) -> Result<Option<String>> {
        let question = InputRequest { prompt: prompt.into(), password };
        self.gate.wait(&self.parent.session, self.deadline, || self.outbox.ask(&self.parent, &question))
    }

    fn is_stopped(&self) -> bool {
        self.gate.is_interrupted()
    }

    fn comm(&self, message: &Comm) -> Result<()> {
        self.outbox.comm(Some(&self.parent.header), message);
        Ok(())
    }

    fn page(&self, text: &Inspected) -> Result<()> {
        let data = json!({"text/plain": text.text, "text/markdown": text.markdown});
        self.payload().push(json!({"source": "page", "data": data, "start": 0}));
        Ok(())
    }

    fn next_input(&self, text: &str, replace: bool) -> Result<()> {
        // There is one next input: the last that was proposed.
        self.payload().retain(|item| item["source"] != "set_next_input");
        self.payload().push(json!({"source": "set_next_input", "text": text, "replace": replace}));
        Ok(())
    }
}
