//! `tool_request`: served beside scripts, on the runtime's pool.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::control;
use super::counters::Counters;
use super::outbox::{Outbox, Parent};
use crate::engine::Stream;
use crate::error::{Class, Error, Result};
use crate::protocol::content::{ErrorContent, Tool};
use crate::runtime::{CallOptions, JobHandle, Runtime};
use crate::tools::{Call, Progress, Registry};

/// Longest time limit a request may set.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) struct Tools {
    pub(super) runtime: Arc<Runtime>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) control: Sender<control::Job>,
    /// What runs, by a number of ours.
    pub(super) jobs: Mutex<HashMap<u64, Job>>,
    pub(super) next: AtomicU64,
    /// Requests whose reply is still to come.
    pub(super) unanswered: AtomicU64,
}

/// A request that runs.
pub(super) struct Job {
    /// The session and `msg_id` of its request; two may have the same.
    asked_by: (String, String),
    /// `None` while it is being started.
    handle: Option<JobHandle>,
}

impl Tools {
    /// Starts the request; the reply follows from another thread.
    pub(super) fn serve(self: &Arc<Self>, parent: Parent, request: Tool) {
        self.outbox.status(Some(&parent.header), "busy");
        let begun = Instant::now();
        let options = match self.options(&parent, &request) {
            Ok(options) => options,
            Err(error) => return self.finish(&parent, &request, begun, Err(error)),
        };
        self.counters.tools_running.fetch_add(1, Relaxed);
        self.unanswered.fetch_add(1, Relaxed);
        let registry = Arc::clone(&self.runtime.registry);
        let (this, work, asked_by) =
            (Arc::clone(self), request.clone(), (parent.session.clone(), parent.msg_id.clone()));
        let number = self.next.fetch_add(1, Relaxed);
        self.jobs().insert(number, Job { asked_by, handle: None });
        let handle = self.runtime.start(
            options,
            move |call| run(&registry, &work, call),
            move |result| {
                this.jobs().remove(&number);
                this.counters.touch();
                this.counters.tools_running.fetch_sub(1, Relaxed);
                this.finish(&parent, &request, begun, result);
                // Last: with nothing unanswered the kernel may end.
                this.unanswered.fetch_sub(1, Relaxed);
                if this.counters.stopping.load(Relaxed) {
                    let _ = this.control.send(control::Job::ToolEnded);
                }
            },
        );
        // Unless it is over already.
        if let Some(job) = self.jobs().get_mut(&number) {
            job.handle = Some(handle);
        }
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<u64, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn options(&self, parent: &Parent, request: &Tool) -> Result<CallOptions> {
        if !self.runtime.now().kernel.tools.enable_tool_cli {
            return Err(Error::new(Class::Denied, "tool requests are turned off in this kernel")
                .hint("Set kernel.tools.enable_tool_cli = true."));
        }
        let timeout = match request.timeout {
            None => None,
            Some(seconds) if seconds > 0.0 && seconds.is_finite() => {
                Some(Duration::try_from_secs_f64(seconds).map_or(LONGEST, |limit| limit.min(LONGEST)))
            }
            Some(seconds) => {
                return Err(Error::new(Class::Usage, format!("timeout: {seconds} is not a number of seconds above 0")));
            }
        };
        let progress = request.stream.then(|| -> Progress {
            let (outbox, header) = (Arc::clone(&self.outbox), Arc::clone(&parent.header));
            Arc::new(move |line| outbox.stream(&header, Stream::Stderr, format!("{line}\n").as_bytes()))
        });
        Ok(CallOptions { cwd: request.cwd.clone().map(PathBuf::from), timeout, progress })
    }

    fn finish(&self, parent: &Parent, request: &Tool, begun: Instant, result: Result<Map<String, Value>>) {
        let mut reply = match result {
            Ok(reply) => {
                self.counters.tools_done.fetch_add(1, Relaxed);
                reply
            }
            Err(error) => {
                self.counters.tools_failed.fetch_add(1, Relaxed);
                let mut reply = ErrorContent::from(&error).reply();
                reply.insert("success".into(), false.into());
                reply.insert("error".into(), error.text().into());
                reply.insert("error_type".into(), error.class().row().error_type.into());
                reply
            }
        };
        if let Some(name) = &request.name {
            reply.entry("tool").or_insert_with(|| name.clone().into());
        }
        reply.insert("duration_ms".into(), (begun.elapsed().as_micros() as f64 / 1000.0).into());
        self.outbox.reply(parent, "tool_reply", &reply);
        self.outbox.status(Some(&parent.header), "idle");
    }

    /// Stops what `session` asked for under this id; false when nothing of the kind runs.
    pub(super) fn cancel(&self, session: &str, msg_id: &str) -> bool {
        self.cancel_where(|(by, id)| by == session && id == msg_id)
    }

    pub(super) fn cancel_all(&self) {
        self.cancel_where(|_| true);
    }

    fn cancel_where(&self, meant: impl Fn(&(String, String)) -> bool) -> bool {
        let handles: Vec<_> =
            self.jobs().values().filter(|job| meant(&job.asked_by)).map(|job| job.handle.clone()).collect();
        handles.iter().flatten().for_each(JobHandle::cancel);
        !handles.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.unanswered.load(Relaxed) == 0
    }
}

/// The commands of a `tool_request`.
const COMMANDS: &[&str] = &["list", "info", "invoke", "search", "test"];

/// The reply of one request, without what every reply has.
fn run(registry: &Registry, request: &Tool, call: &Call) -> Result<Map<String, Value>> {
    let name = || {
        request
            .name
            .as_deref()
            .ok_or_else(|| Error::new(Class::Usage, format!("tool_request {}: name is missing", request.command)))
    };
    let category = request.category.as_deref();
    let reply = match request.command.as_str() {
        "list" => {
            let tools = if request.available { registry.list_all(category)? } else { registry.list(category)? };
            json!({"count": tools.len(), "tools": tools, "category": category})
        }
        "search" => {
            let words = request.query.as_ref().map_or(&[][..], |words| &words.0);
            let matches = registry.search(words, category)?;
            json!({"count": matches.len(), "matches": matches, "query": words})
        }
        "info" => registry.info(name()?)?,
        "invoke" => {
            let params = request.params.clone().unwrap_or_else(|| json!({}));
            registry.invoke(name()?, params, call)?
        }
        "test" => {
            let cases = registry.test(name()?, call)?;
            let success = cases.iter().all(|case| case.passed);
            let failed = cases.iter().filter(|case| !case.passed).count();
            let message = format!("{} of {} examples passed", cases.len() - failed, cases.len());
            json!({"success": success, "message": message, "cases": cases})
        }
        other => {
            let error = Error::new(
                Class::Usage,
                format!("tool_request: command {other:?} is not one of {}", COMMANDS.join(", ")),
            );
            return Err(error);
        }
    };
    let mut map = match reply {
        Value::Object(map) => map,
        other => Map::from_iter([("result".to_owned(), other)]),
    };
    map.insert("status".into(), "ok".into());
    Ok(map)
}
