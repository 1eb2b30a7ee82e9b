//! Agents at work for a script: what they are given, what is told meanwhile, what comes back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mlua::{Function, Lua, RegistryKey, Table, Value};
use serde_json::{Value as Json, json};

use super::super::callback::{self, Call};
use super::super::fault::{self, Fault};
use super::super::json::{from_lua, to_lua};
use super::super::run::Run;
use super::super::stdlib::current;
use super::super::wait::{self, Queue};
use super::pending::{self, Pending};
use super::settings::duration;
use crate::agents::approval::{Asker, Decision, Waiting};
use crate::agents::{Agent, Agents, Caller, Context, Event, Events, Input, Outcome, visible};
use crate::engine::Stream;
use crate::error::{Class, Error, Result};
use crate::providers::Part;
use crate::runtime::{CallOptions, JobHandle, Runtime};

/// A run may end itself that long before it is given up.
const GRACE: Duration = Duration::from_secs(5);

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

/// How an agent is to be run.
#[derive(Default)]
pub(super) struct Options {
    run: Option<String>,
    timeout: Option<Duration>,
    /// Told pieces of the answer, or all events.
    on_chunk: Option<Arc<RegistryKey>>,
    on_event: Option<Arc<RegistryKey>>,
    /// Whether the answer is written to the output as it comes.
    stream: bool,
    /// Whether it knows of the conversation, and is added to it.
    fresh: bool,
    pub(super) context: Option<String>,
}

impl Options {
    /// `{run, timeout, on_chunk, on_event, stream, fresh, context}`, or nothing.
    pub(super) fn of(lua: &Lua, value: Option<Value>) -> Result<Self, Fault> {
        let table = match value {
            None | Some(Value::Nil) => return Ok(Options::default()),
            Some(Value::Table(table)) => table,
            Some(other) => return Err(usage(format!("options: table expected, got {}", other.type_name())).into()),
        };
        let function = |key: &str| -> Result<Option<Arc<RegistryKey>>, Fault> {
            let function = table.get::<Option<Function>>(key)?;
            Ok(function.map(|function| lua.create_registry_value(function)).transpose()?.map(Arc::new))
        };
        let time = match table.get::<Value>("timeout")? {
            Value::Nil => None,
            value => {
                Some(duration(&value).ok_or_else(|| usage("timeout: seconds or a duration like \"5s\" expected"))?)
            }
        };
        Ok(Options {
            run: table.get("run")?,
            timeout: time,
            on_chunk: function("on_chunk")?,
            on_event: function("on_event")?,
            stream: table.get::<Option<bool>>("stream")?.unwrap_or(false),
            fresh: table.get::<Option<bool>>("fresh")?.unwrap_or(false),
            context: table.get("context")?,
        })
    }

    pub(super) fn chunks_to(&mut self, lua: &Lua, function: &Function) -> mlua::Result<()> {
        self.on_chunk = Some(Arc::new(lua.create_registry_value(function)?));
        Ok(())
    }

    pub(super) fn stream(&mut self) {
        self.stream = true;
    }

    /// Of the run `id`.
    pub(super) fn of_run(self, id: String) -> Self {
        Options { run: Some(id), ..self }
    }

    /// Without the conversation.
    pub(super) fn forgetful(self) -> Self {
        Options { fresh: true, ..self }
    }
}

/// What an agent is given: text, or `{text, parameters?, media?, image?}`.
pub(super) fn input(lua: &Lua, value: Option<&Value>) -> Result<Input, Fault> {
    let table = match value {
        Some(Value::String(text)) => return Ok(Input::text(text.to_string_lossy())),
        Some(Value::Table(table)) => table,
        other => {
            let kind = other.map_or("nothing", Value::type_name);
            return Err(usage(format!("input: text or a table with text expected, got {kind}")).into());
        }
    };
    let text = |key: &str| table.get::<Option<String>>(key);
    let mut said = match text("text")?.or(text("prompt")?).or(text("input")?) {
        Some(text) => text,
        None => return Err(usage("input: it has no text").hint("agent:invoke({text = \"…\"})").into()),
    };
    if let parameters @ Value::Table(_) = table.get::<Value>("parameters")? {
        let parameters = from_lua(lua, &parameters).map_err(|error| error.within("parameters"))?;
        said.push_str(&format!("\n\nParameters: {parameters}"));
    }
    if let Some(modes) = table.get::<Option<Vec<String>>>("output_modalities")?
        && let Some(mode) = modes.iter().find(|mode| *mode != "text")
    {
        return Err(Error::new(Class::Absent, format!("output_modalities: {mode}: agents answer in text only")).into());
    }
    let mut media: Vec<Table> = table.get::<Option<Vec<Table>>>("media")?.unwrap_or_default();
    media.extend(table.get::<Option<Table>>("image")?);
    let parts = media.iter().map(part).collect::<Result<_, Fault>>()?;
    Ok(Input { text: said, parts })
}

/// `{base64, format = "png"}`, `{base64, mime, name}`
fn part(item: &Table) -> Result<Part, Fault> {
    let text = |key: &str| item.get::<Option<String>>(key);
    let data = text("base64")?.or(text("data")?).ok_or_else(|| usage("media: one has no base64"))?;
    let mime = match text("mime")? {
        Some(mime) => mime,
        None => format!("image/{}", text("format")?.unwrap_or_else(|| "png".into()).replace("jpg", "jpeg")),
    };
    Ok(match mime.starts_with("image/") {
        true => Part::Image { mime, data },
        false => Part::File { name: text("name")?.unwrap_or_else(|| "file".into()), mime, data },
    })
}

/// An event as scripts get it.
fn event_table(agent: &str, event: &Event) -> Json {
    match event {
        Event::Text(text) => json!({ "type": "text", "agent": agent, "text": text }),
        Event::Reasoning(text) => json!({ "type": "reasoning", "agent": agent, "text": text }),
        Event::ToolCall { id, name, arguments } => {
            json!({ "type": "tool_call", "agent": agent, "id": id, "name": name, "arguments": arguments })
        }
        Event::ToolResult { id, name, content, is_error } => {
            json!({ "type": "tool_result", "agent": agent, "id": id, "name": name, "content": content, "is_error": is_error })
        }
        Event::Approval(waiting) => {
            json!({ "type": "approval", "agent": waiting.agent, "id": waiting.id, "name": waiting.tool,
                "arguments": waiting.arguments, "run": waiting.run })
        }
    }
}

/// Tells the script, and its output, what happens.
fn events(options: &Options, own: &str, call: &Call) -> Option<Events> {
    let (on_chunk, on_event, stream) = (options.on_chunk.clone(), options.on_event.clone(), options.stream);
    if on_chunk.is_none() && on_event.is_none() && !stream {
        return None;
    }
    let (own, call) = (own.to_owned(), Arc::clone(call));
    Some(Arc::new(move |agent, event| {
        // Pieces of the answer are those of the agent that was asked, not of those it asks in turn.
        let mine = agent == own;
        let chunk = on_chunk.clone().filter(|_| mine && matches!(event, Event::Text(_)));
        let functions: Vec<_> = chunk.into_iter().chain(on_event.clone()).collect();
        if functions.is_empty() && !stream {
            return;
        }
        let agent = agent.to_owned();
        call(Box::new(move |lua| {
            if stream {
                shown(&agent, mine, &event)?;
            }
            for key in &functions {
                let function: Function = lua.registry_value(key)?;
                let table = to_lua(lua, &event_table(&agent, &event))?;
                if let Value::Table(table) = &table {
                    table.set_metatable(Some(lua.named_registry_value(super::CHUNK)?))?;
                }
                fault::call(lua, &function, table)?;
            }
            Ok(())
        }));
    }))
}

/// Writes an event for people: the answer to standard output, the rest to standard error.
fn shown(agent: &str, mine: bool, event: &Event) -> Result<(), Fault> {
    let run = current()?;
    let (stream, text) = match event {
        Event::Text(text) if mine => (Stream::Stdout, text.clone()),
        Event::ToolCall { name, arguments, .. } => {
            let arguments = arguments.to_string();
            let short: String = visible(&arguments).chars().take(120).collect();
            (Stream::Stderr, format!("[{agent}: {name} {short}]\n"))
        }
        Event::ToolResult { name, content, is_error: true, .. } => {
            let line = content.lines().find(|line| line.starts_with("error")).unwrap_or("error");
            (Stream::Stderr, format!("[{agent}: {name}: {line}]\n"))
        }
        Event::Approval(waiting) => {
            (Stream::Stderr, format!("[{agent}: {} waits for approval {}]\n", waiting.tool, waiting.id))
        }
        _ => return Ok(()),
    };
    run.output.write(stream, text.as_bytes())?;
    Ok(run.output.flush()?)
}

/// Asks the user of the script, where there is one.
fn asker(call: &Call) -> Asker {
    let call = Arc::clone(call);
    Arc::new(move |waiting: &Waiting| {
        let waiting = waiting.clone();
        callback::answered(&*call, Box::new(move |_| ask(&waiting)))
    })
}

fn ask(waiting: &Waiting) -> Result<Option<Decision>, Fault> {
    let run = current()?;
    if !run.allow_stdin {
        return Ok(None);
    }
    let wants = format!("agent {} wants {} {}", waiting.agent, waiting.tool, waiting.arguments);
    run.output.write(Stream::Stderr, format!("{}\n", visible(&wants)).as_bytes())?;
    loop {
        let Some(answer) = run.output.input("allow? [y]es, [n]o, [e]dit: ", false)? else { return Ok(None) };
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(Some(Decision::Approve)),
            "n" | "no" => return Ok(Some(Decision::Deny(None))),
            "e" | "edit" => {
                let Some(text) = run.output.input("parameters as JSON: ", false)? else { return Ok(None) };
                match serde_json::from_str::<Json>(&text) {
                    Ok(edited @ Json::Object(_)) => return Ok(Some(Decision::Edit(edited))),
                    _ => run.output.write(Stream::Stderr, b"that is not a JSON object\n")?,
                }
            }
            _ => {}
        }
    }
}

/// Where runs are started from.
struct Place {
    runtime: Arc<Runtime>,
    cwd: PathBuf,
}

impl Place {
    fn of(run: &Run) -> Self {
        Place { runtime: Arc::clone(&run.runtime), cwd: run.cwd.clone() }
    }
}

/// Starts one run; `done` gets its end, on another thread.
fn start(
    place: &Place,
    agents: &Arc<Agents>,
    agent: Arc<Agent>,
    given: (Input, Options),
    script: (Caller, &Call),
    done: impl FnOnce(Result<Outcome>) + Send + 'static,
) -> JobHandle {
    let (mut input, options) = given;
    let limit = options.timeout.unwrap_or(agent.spec.limits.time).min(agent.spec.limits.time);
    let events = events(&options, &agent.spec.name, script.1);
    let (asker, caller) = (asker(script.1), script.0);
    let job = CallOptions { cwd: Some(place.cwd.clone()), timeout: Some(limit + GRACE), ..CallOptions::default() };
    let agents = Arc::clone(agents);
    let work = move |call: &crate::tools::Call| {
        if let Some(id) = &options.context {
            let (about, data) = agents.contexts.about(id)?;
            let about = json!({ "user_id": about["user_id"], "session_id": about["session_id"], "data": data });
            input.text = format!("Context: {about}\n\n{}", input.text);
        }
        let context = Context {
            events,
            script: Some(caller),
            asker: Some(asker),
            run: options.run,
            remember: !options.fresh,
            ..Context::new(call.within(limit))
        };
        agents.run_agent(&agent, &input, &context)
    };
    place.runtime.spawn(job, work, done)
}

/// Runs one and waits for it.
pub(super) fn invoke(lua: &Lua, agent: Arc<Agent>, input: Input, options: Options) -> Result<Outcome, Fault> {
    let run = current()?;
    let agents = super::agents(lua)?;
    let shown = options.stream;
    let outcome = wait::wait(lua, &run, |queue: Queue<Result<Outcome>>| {
        let calls = queue.clone();
        let call: Call = Arc::new(move |callback| calls.call(callback));
        let script = callback::caller(Arc::clone(&call));
        let place = Place::of(&run);
        let job = start(&place, &agents, agent, (input, options), (script, &call), move |result| queue.done(result));
        Ok(move || job.cancel())
    })??;
    if shown && !outcome.is_paused() && !outcome.text.ends_with('\n') {
        run.output.write(Stream::Stdout, b"\n")?;
    }
    Ok(outcome)
}

/// Begins one, for whom it is awaited later.
pub(super) fn begin(lua: &Lua, agent: Arc<Agent>, input: Input, options: Options) -> Result<Table, Fault> {
    let run = current()?;
    let pending = Arc::new(Pending::default());
    let calls = Arc::clone(&pending);
    let call: Call = Arc::new(move |callback| calls.call(callback));
    let script = callback::caller(Arc::clone(&call));
    let done = Arc::clone(&pending);
    let given = (input, options);
    let job = start(&Place::of(&run), &super::agents(lua)?, agent, given, (script, &call), move |end| done.done(end));
    pending::value(lua, pending, job)
}

/// One of many.
pub(super) struct Job {
    pub(super) agent: Arc<Agent>,
    pub(super) input: Input,
    pub(super) options: Options,
}

/// Runs many, at most `most` at the same time, and waits for all; their ends in the order they were given.
pub(super) fn invoke_all(lua: &Lua, jobs: Vec<Job>, most: usize) -> Result<Vec<Result<Outcome>>, Fault> {
    /// What is still to be done, and what was.
    struct All {
        jobs: Mutex<std::iter::Enumerate<std::vec::IntoIter<Job>>>,
        ends: Mutex<Vec<Option<Result<Outcome>>>>,
        left: AtomicUsize,
        handles: Mutex<Vec<JobHandle>>,
        queue: Queue<Vec<Result<Outcome>>>,
        start: Starter,
    }
    type Starter = Box<dyn Fn(&Arc<All>, usize, Job) -> JobHandle + Send + Sync>;
    impl All {
        fn next(this: &Arc<All>) {
            let next = this.jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
            if let Some((at, job)) = next {
                let handle = (this.start)(this, at, job);
                this.handles.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
            }
        }

        fn ended(this: &Arc<All>, at: usize, result: Result<Outcome>) {
            this.ends.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
            if this.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                let ends = std::mem::take(&mut *this.ends.lock().unwrap_or_else(PoisonError::into_inner));
                let missing = || Err(Error::new(Class::Bug, "a run has no end"));
                this.queue.done(ends.into_iter().map(|end| end.unwrap_or_else(missing)).collect());
            } else {
                All::next(this);
            }
        }
    }
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let run = current()?;
    let agents = super::agents(lua)?;
    let count = jobs.len();
    wait::wait(lua, &run, |queue: Queue<Vec<Result<Outcome>>>| {
        let calls = queue.clone();
        let call: Call = Arc::new(move |callback| calls.call(callback));
        let script = callback::caller(Arc::clone(&call));
        let place = Place::of(&run);
        let starter: Starter = Box::new(move |all, at, job| {
            let all = Arc::clone(all);
            let done = move |result| All::ended(&all, at, result);
            start(&place, &agents, job.agent, (job.input, job.options), (Arc::clone(&script), &call), done)
        });
        let all = Arc::new(All {
            jobs: Mutex::new(jobs.into_iter().enumerate()),
            ends: Mutex::new((0..count).map(|_| None).collect()),
            left: AtomicUsize::new(count),
            handles: Mutex::default(),
            queue,
            start: starter,
        });
        for _ in 0..most.clamp(1, count) {
            All::next(&all);
        }
        Ok(move || {
            all.jobs.lock().unwrap_or_else(PoisonError::into_inner).by_ref().for_each(drop);
            all.handles.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(JobHandle::cancel);
        })
    })
}

/// What comes of a run, as scripts of v0.10 read it: `text`, `data` or the members of its JSON, and `metadata`.
pub(super) fn output(lua: &Lua, outcome: &Outcome) -> Result<Table, Fault> {
    let table = lua.create_table()?;
    if !outcome.is_paused() {
        let parsed = match &outcome.data {
            Some(data) => Some(data.clone()),
            None => serde_json::from_str::<Json>(outcome.text.trim()).ok(),
        };
        match parsed {
            Some(Json::Object(members))
                if ["success", "result", "operation"].iter().any(|key| members.contains_key(*key)) =>
            {
                for (key, value) in &members {
                    table.raw_set(key.as_str(), to_lua(lua, value)?)?;
                }
                table.raw_set("_raw_text", outcome.text.as_str())?;
                table.raw_set("data", to_lua(lua, &Json::Object(members))?)?;
            }
            Some(value) => table.raw_set("data", to_lua(lua, &value)?)?,
            None => {}
        }
    }
    table.raw_set("text", outcome.text.as_str())?;
    let usage = outcome.usage;
    let metadata = json!({
        "agent": outcome.agent, "model": outcome.model, "finish_reason": outcome.finish,
        "token_count": usage.input_tokens + usage.output_tokens, "usage": usage, "cost_usd": outcome.cost,
        "execution_time_ms": outcome.duration_ms, "turns": outcome.turns, "tool_calls": outcome.tool_calls,
        "tool_errors": outcome.tool_errors, "context_tokens": outcome.context_tokens, "run": outcome.run,
    });
    table.raw_set("metadata", to_lua(lua, &metadata)?)?;
    if outcome.is_paused() {
        table.raw_set("paused", true)?;
        table.raw_set("run", outcome.run.clone())?;
        let waiting = serde_json::to_value(&outcome.waiting).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
        table.raw_set("approvals", to_lua(lua, &waiting)?)?;
    }
    Ok(table)
}
