//! The global `Workflow`. Builders and workflows are in `workflow.lua`; here is how a definition is read, and how an execution
//! reaches tools, agents and the functions of the script: the script thread drives it, and waits where nothing can go on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{AnyUserData, Function, Lua, Table, Value};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::agent;
use super::callback;
use super::fault::{self, Fault};
use super::json::{from_lua, to_lua};
use super::run::Run;
use super::stdlib::current;
use super::traceback::OWN;
use super::wait::{Queue, Waiting};
use crate::agents;
use crate::checkpoint::{self, Status};
use crate::engine::Stream;
use crate::error::{Class, Error, Result};
use crate::runtime::{CallOptions, JobHandle};
use crate::workflows::{self, Called, Context, Definition, Event, Host, Journal, Outcome, Stopped, Stopper};

/// Where the functions of the Lua side are.
const FACE: &str = "llmspell.workflow";
/// Executions in one another, of workflows whose functions execute workflows.
const DEEPEST: u32 = 8;
/// How long an execution takes before its progress is shown.
const QUIET: Duration = Duration::from_millis(500);
/// Executions of which the outputs stay in the state.
const KEPT: usize = 100;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Makes `Workflow`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let native = lua.create_table()?;
    let fail = |_: &Lua, text: String| -> Result<(), Fault> { Err(usage(text).into()) };
    native.raw_set("fail", fault::function(lua, "Workflow", fail)?)?;
    let id = |_: &Lua, ()| Ok(checkpoint::new_id());
    native.raw_set("id", fault::function(lua, "Workflow", id)?)?;
    native.raw_set("build", fault::function(lua, "build", build)?)?;
    native.raw_set("execute", fault::function(lua, "execute", execute)?)?;
    native.raw_set("unfinished", fault::function(lua, "resume", unfinished)?)?;
    native.raw_set("executions", fault::function(lua, "executions", executions)?)?;
    let forget = |_: &Lua, id: String| {
        let run = current()?;
        clear(&run, &id)?;
        Ok(run.runtime.state.store(|store| match store.run(&id)? {
            Some(row) if row.kind == KIND => store.remove_run(&id),
            _ => Ok(false),
        })?)
    };
    native.raw_set("forget", fault::function(lua, "forget", forget)?)?;
    let clear = |_: &Lua, id: String| Ok(clear(&*current()?, &id)?);
    native.raw_set("clear", fault::function(lua, "clear_outputs", clear)?)?;
    let steps = |lua: &Lua, definition: AnyUserData| {
        let definition = definition.borrow::<Definition>()?;
        let steps: Vec<Json> = definition
            .steps()
            .map(|step| json!({"name": step.name, "type": step.work.kind(), "of": step.work.of(), "after": step.after}))
            .collect();
        Ok(to_lua(lua, &steps.into())?)
    };
    native.raw_set("steps", fault::function(lua, "get_info", steps)?)?;
    let warnings = |lua: &Lua, definition: AnyUserData| {
        let registry = Arc::clone(&current()?.runtime.registry);
        let warnings = definition.borrow::<Definition>()?.warnings(&|tool| registry.exists(tool));
        Ok(to_lua(lua, &json!(warnings))?)
    };
    native.raw_set("warnings", fault::function(lua, "validate", warnings)?)?;
    let state = |lua: &Lua, (id, key, set, value): (String, String, bool, Value)| -> Result<Value, Fault> {
        let (run, key) = (current()?, format!("{id}:state:{key}"));
        if set {
            run.runtime.state.save("workflow", &key, &from_lua(lua, &value)?)?;
            return Ok(Value::Boolean(true));
        }
        Ok(to_lua(lua, &run.runtime.state.load("workflow", &key)?.unwrap_or_default())?)
    };
    native.raw_set("state", fault::function(lua, "get_state", state)?)?;
    native.raw_set("peek", fault::function(lua, "context", peek)?)?;
    native.raw_set("step", fault::function(lua, "steps", step)?)?;
    native.raw_set("shared", fault::function(lua, "shared", shared)?)?;
    let face: Table = lua.load(include_str!("workflow.lua")).set_name(OWN).call(native)?;
    lua.set_named_registry_value(FACE, face)
}

/// What their runs are called in the store.
const KIND: &str = "workflow";

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

fn build(lua: &Lua, table: Value) -> Result<(AnyUserData, String, String, &'static str), Fault> {
    let definition = Definition::read(from_lua(lua, &table).map_err(|error| error.within("workflow"))?)?;
    let (id, name, kind) = (definition.id.clone(), definition.name.clone(), definition.kind());
    Ok((lua.create_any_userdata(definition)?, id, name, kind))
}

/// What runs about a workflow have in common; the input beside it.
fn about(definition: &Definition, input: &Json) -> Json {
    json!({ "workflow": definition.name, "shape": definition.fingerprint(), "input": input })
}

/// `workflow:resume([id])`: id and input of what is to go on.
fn unfinished(lua: &Lua, (definition, id): (AnyUserData, Option<String>)) -> Result<(String, Value), Fault> {
    let (run, definition) = (current()?, definition.borrow::<Definition>()?);
    let row = match id {
        Some(id) => {
            let row = run.runtime.state.store(|store| store.run(&id))?;
            let row = row.filter(|row| row.kind == KIND).ok_or_else(|| {
                Error::new(Class::NotFound, format!("execution {id}: there is none"))
                    .hint("Workflow.executions() lists those that can go on.")
            })?;
            let same = about(&definition, &row.about["input"]);
            if row.about != same {
                return Err(Error::new(
                    Class::Conflict,
                    format!("execution {id}: workflow {} is not as it was when that began", definition.name),
                )
                .hint("Execute it anew, or bring its steps back to what they were.")
                .into());
            }
            row
        }
        None => newest(&run, &definition, None)?.ok_or_else(|| {
            Error::new(Class::NotFound, format!("workflow {}: nothing of it is unfinished", definition.name))
        })?,
    };
    Ok((row.id, to_lua(lua, &row.about["input"])?))
}

/// The newest unfinished run of this workflow, with `input` if that is given, that nobody works on.
fn newest(
    run: &Run,
    definition: &Definition,
    input: Option<&Json>,
) -> Result<Option<crate::store::checkpoint::RunRow>> {
    let rows = run.runtime.state.store(|store| store.runs())?;
    Ok(rows.into_iter().find(|row| {
        row.kind == KIND
            && row.status != Status::Done.name()
            && input.is_none_or(|input| row.about["input"] == *input)
            && row.about == about(definition, &row.about["input"])
            && checkpoint::is_free(&run.runtime.state, &row.id)
    }))
}

/// `Workflow.executions([name])`
fn executions(lua: &Lua, name: Option<String>) -> Result<Value, Fault> {
    let run = current()?;
    let rows = run.runtime.state.store(|store| store.runs())?;
    let of = |row: crate::store::checkpoint::RunRow| {
        let free = checkpoint::is_free(&run.runtime.state, &row.id);
        let status = if row.status == Status::Running.name() && free { "interrupted" } else { &row.status };
        json!({
            "id": row.id, "workflow": row.about["workflow"], "status": status, "input": row.about["input"],
            "began": row.began, "changed": row.changed,
        })
    };
    let fits = |row: &crate::store::checkpoint::RunRow| {
        row.kind == KIND && name.as_ref().is_none_or(|name| row.about["workflow"] == **name)
    };
    let list: Vec<Json> = rows.into_iter().filter(fits).map(of).collect();
    Ok(to_lua(lua, &list.into())?)
}

/// Forgets the outputs of an execution.
fn clear(run: &Run, id: &str) -> Result<usize> {
    run.runtime.state.clear(&format!("workflow:{id}"))
}

type Execute = (AnyUserData, Table, Value, Table, Table, bool);

/// Runs a workflow: its report, and the error if it failed.
fn execute(
    lua: &Lua,
    (definition, functions, input, options, shared, debugging): Execute,
) -> Result<(Value, Option<Table>), Fault> {
    let run = current()?;
    let mut definition = definition.borrow::<Definition>()?.clone();
    let input = match from_lua(lua, &input).map_err(|error| error.within("input"))? {
        Json::Null => json!({}),
        Json::Array(items) if items.is_empty() => json!({}),
        input => input,
    };
    if let Json::Object(values) = from_lua(lua, &Value::Table(shared)).map_err(|error| error.within("shared data"))? {
        definition.shared.extend(values);
    }
    let options = Options::of(lua, options)?;
    let mut host = LuaHost::new(lua, &run, functions, &definition, debugging)?;
    // A wait that ends by an error of the script forgets nothing.
    let _inner = Nested::enter()?;
    let resume = options.resume.unwrap_or(false);
    let (id, named) = match options.id {
        Some(id) => (id, true),
        None => match resume.then(|| newest(&run, &definition, Some(&input))).transpose()?.flatten() {
            Some(row) => (row.id, false),
            None => (checkpoint::new_id(), false),
        },
    };
    let keeps = options.checkpoint.unwrap_or(definition.checkpoint) && (named || run.runtime.state.file().is_some());
    let outcome = if keeps {
        let kept = checkpoint::Run::open(&run.runtime.state, &id, KIND, &about(&definition, &input))?;
        if let Some(report) = kept.result() {
            return Ok((to_lua(lua, report)?, None));
        }
        host.keeps = Some(id.clone());
        let outcome = host.run(&definition, &id, input, Some(&kept))?;
        if !outcome.agents.is_empty()
            && (outcome.error.is_none() || definition.strategy == workflows::Strategy::Compensate)
        {
            forget_agents(&run, &id)?;
        }
        match &outcome.error {
            // Compensated, there is nothing to go on with.
            Some(error) if definition.strategy != workflows::Strategy::Compensate => {
                kept.end(Status::Failed, &json!(error.text()))?;
            }
            None if named => kept.end(Status::Done, &outcome.report(&definition))?,
            _ => {
                kept.end(Status::Done, &Json::Null)?;
                run.runtime.state.store(|store| store.remove_run(&id))?;
            }
        }
        outcome
    } else {
        host.run(&definition, &id, input, None)?
    };
    leave(&run, &outcome)?;
    let report = to_lua(lua, &outcome.report(&definition))?;
    let error =
        outcome.error.map(|error| fault::error_value(lua, &error.within(format!("workflow {}", definition.name))));
    Ok((report, error.transpose()?))
}

/// Forgets the runs of agents that were steps of an execution which will not go on.
fn forget_agents(run: &Run, id: &str) -> Result<()> {
    let start = format!("{id}.");
    run.runtime.state.store(|store| {
        let rows = store.runs()?;
        rows.iter().filter(|row| row.id.starts_with(&start)).try_for_each(|row| store.remove_run(&row.id).map(drop))
    })
}

/// Puts the outputs where scripts look for them, and forgets those of the oldest execution when there are too many.
fn leave(run: &Run, outcome: &Outcome) -> Result<()> {
    const LIST: &str = "workflow_executions";
    let state = &run.runtime.state;
    let kept = outcome.kept();
    if kept.is_empty() {
        return Ok(());
    }
    state.save_all("workflow", kept.iter().map(|(key, value)| (key.as_str(), value)))?;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    state.save(LIST, &format!("{:020}:{}", since.as_micros(), outcome.execution), &Json::Null)?;
    let keys = state.keys(LIST)?;
    for key in keys.iter().rev().skip(KEPT) {
        if let Some((_, id)) = key.split_once(':') {
            clear(run, id)?;
        }
        state.delete(LIST, key)?;
    }
    Ok(())
}

/// What `execute` may be told.
#[derive(Default)]
struct Options {
    id: Option<String>,
    resume: Option<bool>,
    checkpoint: Option<bool>,
}

impl Options {
    fn of(lua: &Lua, table: Table) -> Result<Self, Fault> {
        let Json::Object(mut members) = from_lua(lua, &Value::Table(table)).map_err(|error| error.within("options"))?
        else {
            return Err(usage("options: a table with names expected").into());
        };
        let mut switch = |name: &str| match members.remove(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Bool(set)) => Ok(Some(set)),
            Some(other) => Err(usage(format!("options: {name}: true or false expected, got {other}"))),
        };
        let (resume, checkpoint) = (switch("resume")?, switch("checkpoint")?);
        let id = match members.remove("id") {
            None => None,
            Some(Json::String(id)) => Some(id),
            Some(other) => return Err(usage(format!("options: id: text expected, got {other}")).into()),
        };
        if let Some(name) = members.keys().next() {
            return Err(usage(format!("options: {name}: no such option"))
                .hint("It has: checkpoint, id, resume.")
                .into());
        }
        Ok(Options { id, resume, checkpoint })
    }
}

/// Counts executions in one another.
struct Nested;

impl Nested {
    fn enter() -> Result<Self> {
        if DEPTH.get() >= DEEPEST {
            return Err(usage(format!(
                "workflows whose functions execute workflows: more than {DEEPEST} in one another"
            )));
        }
        DEPTH.set(DEPTH.get() + 1);
        Ok(Nested)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// What an execution needs of the script that runs it.
struct LuaHost<'a> {
    lua: &'a Lua,
    run: &'a Rc<Run>,
    functions: Table,
    context: Function,
    waiting: Waiting<'a, (u64, Result<Json>)>,
    queue: Queue<(u64, Result<Json>)>,
    /// Why it is to stop.
    fault: RefCell<Option<Fault>>,
    began: Instant,
    progress: RefCell<Shown>,
    debugging: bool,
    /// Its id, where finished steps are kept.
    keeps: Option<String>,
}

/// What is shown of its progress.
struct Shown {
    draw: Function,
    state: Value,
    name: String,
    step: String,
    done: u64,
    total: Option<u64>,
}

impl<'a> LuaHost<'a> {
    fn new(
        lua: &'a Lua,
        run: &'a Rc<Run>,
        functions: Table,
        definition: &Definition,
        debugging: bool,
    ) -> mlua::Result<Self> {
        let face: Table = lua.named_registry_value(FACE)?;
        let (queue, waiting) = Waiting::new(run);
        let progress = Shown {
            draw: face.raw_get("progress")?,
            state: Value::Nil,
            name: definition.name.clone(),
            step: String::new(),
            done: 0,
            total: None,
        };
        Ok(LuaHost {
            lua,
            run,
            functions,
            context: face.raw_get("context")?,
            waiting,
            queue,
            fault: RefCell::default(),
            began: Instant::now(),
            progress: RefCell::new(progress),
            debugging,
            keeps: None,
        })
    }

    fn run(
        &self,
        definition: &Definition,
        id: &str,
        input: Json,
        journal: Option<&dyn Journal>,
    ) -> Result<Outcome, Fault> {
        workflows::run(definition, id, input, self, journal).map_err(|Stopped| self.fault.take().unwrap_or(Fault::Stop))
    }

    fn stop(&self, fault: Fault) -> Stopped {
        self.fault.borrow_mut().get_or_insert(fault);
        Stopped
    }

    /// Shows how far it is; nothing that happens there ends the execution.
    fn show(&self, ended: bool) {
        let mut shown = self.progress.borrow_mut();
        if DEPTH.get() > 1 || shown.state.is_nil() && (ended || self.began.elapsed() < QUIET) {
            return;
        }
        let label = match &*shown.step {
            "" => shown.name.clone(),
            step => format!("{}: {step}", shown.name),
        };
        let args = (shown.state.clone(), shown.done, shown.total, label, ended);
        if let Ok(values) = fault::call(self.lua, &shown.draw, args) {
            shown.state = values.into_iter().next().unwrap_or(Value::Nil);
        }
    }

    fn stopper(job: JobHandle) -> Stopper {
        Box::new(move || job.cancel())
    }
}

impl Host for LuaHost<'_> {
    fn tool(&self, ticket: u64, name: &str, input: Json, limit: Option<Duration>) -> Stopper {
        let options = CallOptions { cwd: Some(self.run.cwd.clone()), timeout: limit, ..CallOptions::default() };
        let queue = self.queue.clone();
        Self::stopper(self.run.runtime.invoke(name, input, options, move |result| queue.done((ticket, result))))
    }

    fn agent(&self, ticket: u64, name: &str, input: Json, limit: Option<Duration>, place: &str) -> Stopper {
        let queue = self.queue.clone();
        let done = move |result: Result<agents::Outcome>| queue.done((ticket, result.and_then(answer)));
        let calls = self.queue.clone();
        let call: callback::Call = Arc::new(move |callback| calls.call(callback));
        let start = || {
            let agents = agent::agents(self.lua)?;
            let agent = agents.get(name)?;
            // A step is taken up where it ended, without the calls of tools it has done.
            let id = self.keeps.as_ref().map(|id| {
                let digest = Sha256::digest(place);
                let mark: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                format!("{id}.{mark}")
            });
            Ok((agents, agent, said(input)?, id))
        };
        match start() {
            Ok((agents, agent, input, id)) => {
                let options = agent::Options::of_step(id, limit);
                Self::stopper(agent::start_step(self.run, &agents, agent, (input, options), call, done))
            }
            Err(error) => {
                done(Err(error));
                Box::new(|| ())
            }
        }
    }

    fn call(&self, function: usize, context: &Rc<Context>, limit: Option<Duration>) -> Called {
        let began = Instant::now();
        let call = || -> Result<Json, Fault> {
            let function: Function = self.functions.raw_get(function + 1)?;
            let handle = self.lua.create_any_userdata(Rc::clone(context))?;
            let context = fault::call(self.lua, &self.context, handle)?;
            let mut values = fault::call(self.lua, &function, context)?;
            match (values.pop_front(), values.pop_front()) {
                // Lua's own way to say no.
                (Some(Value::Nil), Some(why @ (Value::String(_) | Value::Table(_)))) => Err(Fault::Raise(why)),
                (value, _) => Ok(from_lua(self.lua, &value.unwrap_or(Value::Nil))?),
            }
        };
        match call() {
            Ok(_) if limit.is_some_and(|limit| began.elapsed() > limit) => {
                let limit = humantime::format_duration(limit.unwrap_or_default());
                Called::Failed(Error::new(Class::Timeout, format!("no result within {limit}")))
            }
            Ok(value) => Called::Value(value),
            Err(Fault::Stop) => {
                self.stop(Fault::Stop);
                Called::Stopped
            }
            Err(fault) => Called::Failed(callback::error_of(fault)),
        }
    }

    fn next(&self, until: Option<Instant>) -> Result<Option<(u64, Result<Json>)>, Stopped> {
        // It is looked at once more when it gets long.
        let due = (self.progress.borrow().state.is_nil() && self.began.elapsed() < QUIET).then(|| self.began + QUIET);
        if let Some(due) = due.filter(|due| until.is_none_or(|until| *due < until)) {
            match self.waiting.next(self.lua, Some(due)).map_err(|fault| self.stop(fault))? {
                Some(result) => return Ok(Some(result)),
                None => self.show(false),
            }
        }
        self.waiting.next(self.lua, until).map_err(|fault| self.stop(fault))
    }

    fn notice(&self, event: &Event<'_>) {
        let line = match event {
            Event::Began { execution, total, .. } => {
                self.progress.borrow_mut().total = *total;
                format!("began as {execution}")
            }
            Event::StepBegan { step } => {
                self.progress.borrow_mut().step = (*step).to_owned();
                self.show(false);
                format!("step {step} began")
            }
            Event::StepEnded { record } => {
                let how = match &record.error {
                    _ if record.skipped => "was skipped".to_owned(),
                    None => "ended".to_owned(),
                    Some(fault) => format!("failed: {}", fault.message),
                };
                format!("step {} {how} after {} ms", record.name, record.duration_ms)
            }
            Event::Advanced { done } => {
                self.progress.borrow_mut().done = *done;
                self.show(false);
                return;
            }
            Event::Undoing { steps } => format!("undoing {steps} steps"),
            Event::Ended { success } => {
                self.show(true);
                format!("ended {}", if *success { "well" } else { "with an error" })
            }
        };
        if self.debugging {
            let line = format!("workflow {}: {line}\n", self.progress.borrow().name);
            let _ = self.run.output.write(Stream::Stderr, line.as_bytes());
        }
    }
}

/// What an agent is told: text, or `{text, parameters}`.
fn said(input: Json) -> Result<agents::Input> {
    match input {
        Json::String(text) => Ok(agents::Input::text(text)),
        Json::Object(mut members) => {
            let text = ["text", "prompt", "input"].iter().find_map(|name| members.remove(*name));
            let Some(Json::String(mut text)) = text else {
                return Err(usage("input: text, or a table with text, expected"));
            };
            if let Some(parameters) = members.remove("parameters") {
                text.push_str(&format!("\n\nParameters: {parameters}"));
            }
            match members.keys().next() {
                Some(name) => Err(usage(format!("input: {name}: no such key")).hint("It has: text, parameters.")),
                None => Ok(agents::Input::text(text)),
            }
        }
        other => Ok(agents::Input::text(other.to_string())),
    }
}

/// What an agent answered; one that waits for a person has not.
fn answer(outcome: agents::Outcome) -> Result<Json> {
    if let Some(waiting) = outcome.waiting.first() {
        return Err(Error::new(Class::Denied, format!("agent {}: {} waits for approval", outcome.agent, waiting.tool))
            .hint("Agent.approvals() lists what waits; decide, then resume the workflow."));
    }
    serde_json::to_value(outcome).map_err(|error| Error::new(Class::Bug, error.to_string()))
}

fn context(handle: &AnyUserData) -> Result<Rc<Context>, Fault> {
    Ok(Rc::clone(&*handle.borrow::<Rc<Context>>()?))
}

/// A field of a function's context.
fn peek(lua: &Lua, (handle, key): (AnyUserData, String)) -> Result<Value, Fault> {
    let context = context(&handle)?;
    let turn = context.turn.as_ref();
    let value = match key.as_str() {
        "input" => return Ok(to_lua(lua, &context.input)?),
        "parameters" | "params" => return Ok(to_lua(lua, &context.parameters)?),
        "loop_value" => return Ok(turn.map_or(Ok(Value::Nil), |turn| to_lua(lua, &turn.value))?),
        "loop_index" => turn.map_or(Json::Null, |turn| turn.index.into()),
        "step" => Json::from(&*context.step),
        "workflow" => Json::from(&*context.workflow),
        "execution_id" => Json::from(&*context.execution),
        "attempt" => context.attempt.into(),
        _ => Json::Null,
    };
    Ok(to_lua(lua, &value)?)
}

/// What a step has left; without a name, the names of those that have ended.
fn step(lua: &Lua, (handle, name): (AnyUserData, Option<String>)) -> Result<Value, Fault> {
    let context = context(&handle)?;
    let steps = context.steps.borrow();
    let Some(name) = name else {
        let names: Vec<&str> = steps.iter().map(|record| record.name.as_str()).collect();
        return Ok(to_lua(lua, &json!(names))?);
    };
    let Some(record) = steps.get(&name) else { return Ok(Value::Nil) };
    let mut value = Map::new();
    value.extend(record.details.clone());
    value.insert("result".into(), record.output.clone());
    value.insert("output".into(), record.output.clone());
    value.insert("success".into(), record.success.into());
    value.insert("skipped".into(), record.skipped.into());
    value.insert("attempts".into(), record.attempts.into());
    value.insert("duration_ms".into(), record.duration_ms.into());
    if let Some(error) = &record.error {
        value.insert("error".into(), error.message.clone().into());
    }
    Ok(to_lua(lua, &value.into())?)
}

/// A shared value, or all of them; with `set` what it is from now on.
fn shared(
    lua: &Lua,
    (handle, key, set, value): (AnyUserData, Option<String>, Option<bool>, Value),
) -> Result<Value, Fault> {
    let context = context(&handle)?;
    let Some(key) = key else {
        return Ok(to_lua(lua, &Json::Object(context.shared.borrow().all().clone()))?);
    };
    if set.unwrap_or(false) {
        let value = from_lua(lua, &value).map_err(|error| error.within(format!("shared: {key}")))?;
        context.shared.borrow_mut().set(&key, value);
        return Ok(Value::Nil);
    }
    Ok(context.shared.borrow().get(&key).map_or(Ok(Value::Nil), |value| to_lua(lua, value))?)
}
