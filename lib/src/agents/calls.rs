//! Calls a model wants: checked, decided on, done side by side, each answered with something the model can read.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::approval::{self, Decision, Waiting};
use super::spec::{Mode, Rule, ToolUse};
use super::text::{cut, untrusted, visible};
use super::turns::Session;
use super::{Context, Event, Function, Input};
use crate::error::{Class, Error, Result, nearest};
use crate::providers::ToolDef;
use crate::store::checkpoint::ApprovalRow;

/// A call as the model wants it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: Value,
    /// Its place in the run, the same each time.
    pub(super) key: String,
    /// Whether the model was cut off while it wrote it.
    pub(super) cut: bool,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub(super) enum Done {
    /// This.
    Answer { content: String, is_error: bool },
    /// It waits for a person.
    Waits(Vec<Waiting>),
}

/// What is to be done for a call.
enum Job<'a> {
    Tool(&'a str),
    Agent(&'a str),
    Function { function: &'a Function, repeatable: bool },
}

/// What is known of a call before it is done.
enum Plan<'a> {
    Known(Done),
    Do(Job<'a>, Value),
}

/// Parameters of an agent that is a tool.
pub(super) fn agent_schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["input"],
        "properties": { "input": { "type": "string", "description": "what it is to do, with all it needs to know" } },
    })
}

fn refused(text: impl std::fmt::Display) -> Done {
    Done::Answer { content: format!("error: {text}"), is_error: true }
}

/// An error as the model gets it.
fn told(error: &Error) -> String {
    let class = error.class().row().name;
    match error.next_step() {
        Some(hint) => format!("error ({class}): {error}. {hint}"),
        None => format!("error ({class}): {error}"),
    }
}

/// Whether a call with these parameters writes, runs, sends or changes the system, by what the registry tells of its tool.
fn has_effect(info: &Value, arguments: &Value) -> bool {
    let effects = |name: &str| info["effects"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let method = arguments["method"].as_str().unwrap_or("GET").to_ascii_uppercase();
    let sends = matches!(info["name"].as_str(), Some("email_sender" | "webhook_caller"))
        || !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS");
    effects("write_files")
        || effects("run_programs")
        || info["security_level"] == "privileged"
        || effects("network") && sends
}

impl Session<'_> {
    /// The tools as the model sees them.
    pub(super) fn tool_defs(&self) -> Result<Vec<ToolDef>> {
        let registry = &self.agents.runtime.registry;
        let def = |name: &str| -> Result<ToolDef> {
            let info = registry.info(name)?;
            let mut parameters = info["schema"].clone();
            if let Some(members) = parameters.as_object_mut() {
                ["$schema", "title"].iter().for_each(|name| drop(members.remove(*name)));
            }
            let text = |key: &str| info[key].as_str().unwrap_or_default().trim().to_owned();
            let (summary, description) = (text("summary"), text("description"));
            let description = if description.is_empty() { summary } else { description };
            Ok(ToolDef { name: name.to_owned(), description, parameters })
        };
        let mut defs = Vec::new();
        for tool in &self.agent.spec.tools {
            match tool {
                ToolUse::Registry(name) => defs.push(def(name)?),
                ToolUse::Function { def, .. } => defs.push(def.clone()),
                ToolUse::Agent { name, description, .. } => defs.push(ToolDef {
                    name: name.clone(),
                    description: description.clone(),
                    parameters: agent_schema(),
                }),
                ToolUse::All => {
                    for row in registry.list(None)? {
                        defs.push(def(row["name"].as_str().unwrap_or_default())?);
                    }
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        defs.retain(|def| seen.insert(def.name.clone()));
        Ok(defs)
    }

    /// Does what the model wants; one answer a call, in order.
    pub(super) fn do_calls(&self, calls: &[Wanted]) -> Result<Vec<Done>> {
        let mut plans = Vec::with_capacity(calls.len());
        for call in calls {
            plans.push(self.plan(call)?);
        }
        if self.agent.spec.approval.mode == Mode::Wait
            && plans.iter().any(|plan| matches!(plan, Plan::Known(Done::Waits(_))))
        {
            // What needs nobody does not wait.
            let done = self.side_by_side(calls, plans)?;
            let Some(run) = self.journal.as_ref().map(|journal| journal.id()) else { return Ok(done) };
            if !approval::wait(&self.agents.runtime.state, run, &self.call.cancel, self.call.deadline)? {
                return Ok(done);
            }
            let mut plans = Vec::with_capacity(calls.len());
            for (call, done) in calls.iter().zip(done) {
                plans.push(match done {
                    Done::Waits(_) => self.plan(call)?,
                    done => Plan::Known(done),
                });
            }
            return self.side_by_side(calls, plans);
        }
        self.side_by_side(calls, plans)
    }

    fn side_by_side(&self, calls: &[Wanted], plans: Vec<Plan<'_>>) -> Result<Vec<Done>> {
        let jobs: Vec<usize> = (0..plans.len()).filter(|at| matches!(plans[*at], Plan::Do(..))).collect();
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(at) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Plan::Do(job, arguments) = &plans[*at] else { continue };
                let result = self.do_call(&calls[*at], job, arguments);
                done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((*at, result));
            }
        };
        let helpers = self.agent.spec.limits.parallel.min(jobs.len()).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                // Where no thread is to be had, this one does it all.
                let _ = std::thread::Builder::new().name("llmspell-call".into()).spawn_scoped(scope, work);
            }
            work();
        });
        let mut results: Vec<Option<Result<Done>>> = plans
            .into_iter()
            .map(|plan| match plan {
                Plan::Known(done) => Some(Ok(done)),
                Plan::Do(..) => None,
            })
            .collect();
        for (at, result) in done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            results[at] = Some(result);
        }
        results
            .into_iter()
            .map(|one| one.unwrap_or_else(|| Err(Error::new(Class::Bug, "a call was not done"))))
            .collect()
    }

    /// What is to be done for a call: nothing, where it was done before, is wrong or refused.
    fn plan(&self, call: &Wanted) -> Result<Plan<'_>> {
        if let Some(kept) = self.journal.as_ref().and_then(|journal| journal.step(&call.key)) {
            let content = kept["content"].as_str().unwrap_or_default().to_owned();
            return Ok(Plan::Known(Done::Answer { content, is_error: kept["is_error"] == true }));
        }
        let known = |done| Ok(Plan::Known(done));
        if call.cut {
            return known(refused("the call was cut off by the limit of tokens and not done; say it shorter"));
        }
        let spec = &self.agent.spec;
        let registry = &self.agents.runtime.registry;
        let job = spec.tools.iter().find_map(|tool| match tool {
            ToolUse::Registry(name) if *name == call.name => Some(Job::Tool(name)),
            ToolUse::Agent { name, agent, .. } if *name == call.name => Some(Job::Agent(agent)),
            ToolUse::Function { def, function, repeatable } if def.name == call.name => {
                Some(Job::Function { function, repeatable: *repeatable })
            }
            _ => None,
        });
        let all = spec.tools.iter().any(|tool| matches!(tool, ToolUse::All));
        let any = self.defs.iter().find(|def| all && def.name == call.name).map(|def| Job::Tool(&def.name));
        let Some(job) = job.or(any) else {
            let names = self.defs.iter().map(|def| def.name.as_str());
            let near = match nearest(&call.name, names.clone()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are: {}", names.collect::<Vec<_>>().join(", ")),
            };
            return known(refused(format_args!("no tool {:?} here; {near}", call.name)));
        };
        let arguments = match &call.arguments {
            Value::Object(_) => call.arguments.clone(),
            Value::Null => json!({}),
            Value::String(text) if text.trim().is_empty() => json!({}),
            Value::String(text) => match serde_json::from_str(text) {
                Ok(object @ Value::Object(_)) => object,
                Ok(_) => return known(refused("the parameters are not a JSON object")),
                Err(error) => return known(refused(format_args!("the parameters are not JSON: {error}"))),
            },
            _ => return known(refused("the parameters are not a JSON object")),
        };
        if let Job::Tool(name) = job
            && let Err(error) = registry.check(name, &arguments)
        {
            return known(Done::Answer { content: told(&error), is_error: true });
        }
        if let Job::Agent(_) = job
            && !arguments["input"].is_string()
        {
            return known(refused("input: missing, a string is expected"));
        }
        match self.decision(call, &job, &arguments)? {
            Verdict::Go(arguments) => Ok(Plan::Do(job, arguments)),
            Verdict::Refused(why) => known(refused(why)),
            Verdict::Wait(waiting) => known(Done::Waits(vec![waiting])),
        }
    }

    /// Whether a call may be done.
    fn decision(&self, call: &Wanted, job: &Job<'_>, arguments: &Value) -> Result<Verdict> {
        let approval = &self.agent.spec.approval;
        let rule = approval.rules.get(&call.name).unwrap_or(&approval.rule);
        let effect = || match job {
            Job::Tool(name) => self.agents.runtime.registry.info(name).is_ok_and(|info| has_effect(&info, arguments)),
            // What it calls in turn is looked at there; a function of the script is the user's own.
            Job::Agent(_) | Job::Function { .. } => false,
        };
        let go = || Ok(Verdict::Go(arguments.clone()));
        let mut at_once = None;
        match rule {
            Rule::Never => return go(),
            Rule::Deny => return Ok(Verdict::Refused(format!("{} is not allowed here", call.name))),
            Rule::ByEffect if !effect() => return go(),
            Rule::ByEffect | Rule::Always => {}
            Rule::Ask(function) => {
                let asked =
                    json!({ "agent": self.agent.spec.name, "tool": call.name, "arguments": arguments, "id": call.id });
                match self.script(function, vec![asked])? {
                    Value::Bool(true) => return go(),
                    Value::Bool(false) => return Ok(Verdict::Refused(format!("{} was not approved", call.name))),
                    Value::String(why) => at_once = Some(Decision::Deny(Some(why))),
                    Value::Null => {}
                    edited @ Value::Object(_) => at_once = Some(Decision::Edit(edited)),
                    other => {
                        let text =
                            format!("approval of {}: {other} is not true, false, a reason or parameters", call.name);
                        return Err(Error::new(Class::Usage, text));
                    }
                }
            }
        }
        match at_once {
            Some(Decision::Edit(edited)) => return Ok(Verdict::Go(edited)),
            Some(Decision::Deny(why)) => {
                let why = why.unwrap_or_default();
                return Ok(Verdict::Refused(format!("{} was not approved: {why}", call.name)));
            }
            _ => {}
        }
        self.ask_person(call, arguments)
    }

    /// Asks a person, who perhaps has decided already.
    fn ask_person(&self, call: &Wanted, arguments: &Value) -> Result<Verdict> {
        let state = &self.agents.runtime.state;
        let agent = self.agent.spec.name.clone();
        let Some(journal) = &self.journal else {
            return Ok(Verdict::Refused(format!("{} needs approval, which cannot be kept here", call.name)));
        };
        let row = ApprovalRow {
            id: approval::new_id(),
            run: journal.id().to_owned(),
            step: call.key.clone(),
            agent,
            tool: call.name.clone(),
            arguments: arguments.clone(),
            asked: 0,
            decision: None,
            reason: None,
        };
        let mut row = state.store(|store| store.ask_approval(&row))?;
        if row.decision.is_none()
            && self.agent.spec.approval.mode == Mode::Ask
            && let Some(asker) = &self.context.asker
            && let Some(decision) = asker(&Waiting::from(row.clone()))?
        {
            approval::decide(state, &row.id, &decision)?;
            row = state.store(|store| store.ask_approval(&row))?;
        }
        Ok(match row.decision.as_deref() {
            Some("approved") => Verdict::Go(row.arguments),
            Some(_) => match row.reason {
                Some(reason) => Verdict::Refused(format!("{} was denied by a person: {reason}", call.name)),
                None => Verdict::Refused(format!("{} was denied by a person", call.name)),
            },
            None => {
                let waiting = Waiting::from(row);
                self.context.tell(&self.agent.spec.name, || Event::Approval(waiting.clone()));
                Verdict::Wait(waiting)
            }
        })
    }

    fn script(&self, function: &Function, arguments: Vec<Value>) -> Result<Value> {
        match &self.context.script {
            Some(caller) => caller(function, arguments),
            None => Err(Error::new(Class::Usage, "it needs a function of a script, and none is running")),
        }
    }

    /// Does a call and keeps what came of it.
    fn do_call(&self, call: &Wanted, job: &Job<'_>, arguments: &Value) -> Result<Done> {
        let name = &self.agent.spec.name;
        self.context.tell(name, || Event::ToolCall {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments: arguments.clone(),
        });
        let begun = format!("{}:begun", call.key);
        let repeatable = match job {
            Job::Tool(tool) => {
                let info = self.agents.runtime.registry.info(tool);
                !info.is_ok_and(|info| {
                    has_effect(&info, arguments)
                        || info["effects"].as_array().is_some_and(|all| all.contains(&json!("network")))
                })
            }
            // It is a run of its own, which goes on.
            Job::Agent(_) => true,
            Job::Function { repeatable, .. } => *repeatable,
        };
        let result = match &self.journal {
            Some(journal) if !repeatable && journal.step(&begun).is_some() => Ok(refused(
                "llmspell ended while this call was under way, so nobody knows whether it was done; it was not done again",
            )),
            journal => {
                if let Some(journal) = journal
                    && !repeatable
                {
                    journal.record(&begun, &Value::Bool(true))?;
                }
                self.perform(call, job, arguments)
            }
        };
        let done = match result {
            Ok(done) => done,
            // These end the run: no answer of a model would help.
            Err(error) if matches!(error.class(), Class::Budget | Class::Interrupted | Class::Bug) => {
                return Err(error);
            }
            Err(error) if error.class() == Class::Timeout && self.is_over() => return Err(error),
            Err(error) => {
                let content = cut(&told(&error), self.agent.spec.limits.result_bytes).into_owned();
                Done::Answer { content: untrusted(&call.name, &content), is_error: true }
            }
        };
        if let Done::Answer { content, is_error } = &done {
            if let Some(journal) = &self.journal {
                journal.record(&call.key, &json!({ "content": content, "is_error": is_error }))?;
            }
            self.context.tell(name, || Event::ToolResult {
                id: call.id.clone(),
                name: call.name.clone(),
                content: visible(content).into_owned(),
                is_error: *is_error,
            });
        }
        Ok(done)
    }

    fn perform(&self, call: &Wanted, job: &Job<'_>, arguments: &Value) -> Result<Done> {
        let limits = &self.agent.spec.limits;
        let runtime = &self.agents.runtime;
        let text = match job {
            Job::Tool(name) => {
                let configured = || runtime.timeout_of(name).unwrap_or_else(|| runtime.now().kernel.tools.tool_timeout);
                let limit = limits.tool_time.unwrap_or_else(configured);
                let mut inner = if limit.is_zero() { self.call.clone() } else { self.call.within(limit) };
                inner.cancel = self.call.cancel.child();
                (inner.progress, inner.output, inner.portion) = (None, None, None);
                let _alarm = inner.deadline.map(|at| runtime.alarm(at, &inner.cancel)).transpose()?;
                let envelope = runtime.invoke_here(name, arguments.clone(), &inner).map_err(|error| {
                    let over =
                        inner.deadline.is_some_and(|at| Instant::now() >= at) && !self.call.cancel.is_cancelled();
                    if error.class() == Class::Interrupted && over {
                        return Error::new(Class::Timeout, format!("{name}: no result within its time"));
                    }
                    error
                })?;
                match (&envelope["text"], &envelope["result"]) {
                    (Value::String(text), _) | (_, Value::String(text)) => text.clone(),
                    (_, result) => result.to_string(),
                }
            }
            Job::Function { function, .. } => match self.script(function, vec![arguments.clone()])? {
                Value::String(text) => text,
                Value::Null => "done".into(),
                other => other.to_string(),
            },
            Job::Agent(agent) => {
                let context = Context {
                    call: self.call.clone(),
                    run: self.journal.as_ref().map(|journal| format!("{}.{}", journal.id(), call.key)),
                    remember: false,
                    depth: self.context.depth + 1,
                    ..self.context.clone()
                };
                let input = Input::text(arguments["input"].as_str().unwrap_or_default());
                let outcome = self.agents.run(agent, &input, &context)?;
                self.count_inner(&outcome);
                if outcome.is_paused() {
                    return Ok(Done::Waits(outcome.waiting));
                }
                outcome.text
            }
        };
        let content = untrusted(&call.name, &cut(&text, limits.result_bytes));
        Ok(Done::Answer { content, is_error: false })
    }
}

/// What becomes of a call.
enum Verdict {
    /// It is done with these parameters.
    Go(Value),
    Refused(String),
    Wait(Waiting),
}
