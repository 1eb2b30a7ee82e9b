//! Agents: a model with instructions, tools and a conversation. [`Agents`] knows them by name; [`Agents::run`] has one work
//! on an input until it has an answer.
//!
//! [`spec`] is what an agent is made of, [`turns`] the loop of questions and calls, [`calls`] how a call is checked and done,
//! [`approval`] how a person decides on one, [`window`] how a conversation is made to fit, [`life`] states and numbers.

pub mod approval;
mod calls;
pub mod context;
pub mod life;
pub mod spec;
#[cfg(test)]
mod tests;
mod text;
mod turns;
pub mod window;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use approval::{Asker, Waiting};
use life::Life;
pub use text::visible;

use crate::error::{Class, Error, Result, nearest};
use crate::providers::{Message, Model, Part, Role, Usage};
use crate::runtime::Runtime;
use crate::tools::{Answer, Call, Dynamic};
use spec::{Spec, ToolUse};

/// A function of a script; only the engine it is of knows what is in it.
#[derive(Clone)]
pub struct Function(pub Arc<dyn Any + Send + Sync>);

/// Calls a function of the script that waits for this work, on its thread: arguments and result are JSON values. Any worker may
/// call it; calls are done one after the other. `Interrupted` once nobody waits any more.
pub type Caller = Arc<dyn Fn(&Function, Vec<Value>) -> Result<Value> + Send + Sync>;

/// What an agent is given to work on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// What is said.
    pub text: String,
    /// Pictures and documents beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

impl Input {
    /// Text alone.
    pub fn text(text: impl Into<String>) -> Self {
        Input { text: text.into(), parts: Vec::new() }
    }
}

/// What happens while an agent works.
#[derive(Clone, Debug)]
pub enum Event {
    /// A piece of its answer; what would command a terminal is made visible.
    Text(String),
    /// A piece of what it thinks, likewise.
    Reasoning(String),
    /// It calls a tool.
    ToolCall {
        /// Id of the call.
        id: String,
        /// The tool.
        name: String,
        /// Its parameters.
        arguments: Value,
    },
    /// A tool has answered.
    ToolResult {
        /// Id of the call.
        id: String,
        /// The tool.
        name: String,
        /// What it answered.
        content: String,
        /// Whether it failed.
        is_error: bool,
    },
    /// A call waits for a person.
    Approval(Waiting),
}

/// Receives events with the name of the agent, from any thread.
pub type Events = Arc<dyn Fn(&str, Event) + Send + Sync>;

/// What a run may use.
#[derive(Clone)]
pub struct Context {
    /// Policy, folder, deadline, and what stops it.
    pub call: Call,
    /// Who is told what happens.
    pub events: Option<Events>,
    /// Who calls functions of the script, where one waits.
    pub script: Option<Caller>,
    /// Who is asked where a call needs a person and the agent asks at once.
    pub asker: Option<Asker>,
    /// The id under which it can be taken up again. A run of that id that has ended answers what it answered then.
    pub run: Option<String>,
    /// Whether it knows of the conversation so far, and is added to it.
    pub remember: bool,
    /// How many agents have called each other to get here.
    pub depth: usize,
}

impl Context {
    /// One for a run that nobody listens to, without memory.
    #[must_use]
    pub fn new(call: Call) -> Self {
        Context { call, events: None, script: None, asker: None, run: None, remember: false, depth: 0 }
    }

    fn tell(&self, agent: &str, event: impl FnOnce() -> Event) {
        if let Some(events) = &self.events {
            events(agent, event());
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The agent.
    pub agent: String,
    /// The answer, with what would command a terminal made visible.
    pub text: String,
    /// The answer as a value, where a schema was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// The model, as its service calls it.
    pub model: String,
    /// Why the model ended: `stop`, `length`, `filter`; `paused` where calls wait for a person.
    pub finish: String,
    /// What all turns together took.
    pub usage: Usage,
    /// What it cost in US dollars, as far as prices are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// How often the model was asked.
    pub turns: usize,
    /// How many calls were done.
    pub tool_calls: usize,
    /// Of these, how many failed.
    pub tool_errors: usize,
    /// How long it took.
    pub duration_ms: u64,
    /// Tokens of the last request, as its service counted or, without that, as estimated.
    pub context_tokens: u64,
    /// Its id, where it can be taken up again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The calls that wait for a person.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
}

impl Outcome {
    /// Whether it waits for a person.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// One agent.
pub struct Agent {
    /// What it is made of.
    pub spec: Spec,
    /// States and numbers.
    pub life: Life,
    model: Arc<dyn Model>,
    conversation: Mutex<Vec<Message>>,
}

impl Agent {
    fn conversation(&self) -> MutexGuard<'_, Vec<Message>> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was said so far, without the instructions.
    #[must_use]
    pub fn history(&self) -> Vec<Message> {
        self.conversation().clone()
    }

    /// Makes `messages` what was said so far.
    pub fn set_history(&self, messages: Vec<Message>) {
        *self.conversation() = messages;
    }

    /// `provider/model`
    #[must_use]
    pub fn model(&self) -> &str {
        self.model.name()
    }

    /// Adds what a run has said; of a long conversation only the end stays.
    fn add(&self, messages: &[Message]) {
        let mut all = self.conversation();
        all.extend_from_slice(messages);
        window::shorten(&mut all, self.spec.max_conversation_length);
    }
}

/// The agents of a process, by name.
pub struct Agents {
    runtime: Arc<Runtime>,
    agents: RwLock<BTreeMap<String, Arc<Agent>>>,
    /// What agents share.
    pub contexts: context::Contexts,
}

impl Agents {
    /// None yet.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>) -> Arc<Self> {
        Arc::new(Agents { runtime, agents: RwLock::default(), contexts: context::Contexts::default() })
    }

    /// What they use.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Makes an agent.
    ///
    /// # Errors
    /// `Conflict` when the name is taken; `Usage` for what cannot be; what [`crate::providers::Providers::model`] says.
    pub fn create(&self, spec: Spec) -> Result<Arc<Agent>> {
        let model = self.runtime.providers.model(&spec.model).map_err(|e| e.within(format!("agent {}", spec.name)))?;
        self.create_with(spec, model)
    }

    /// The same with a model that is there already.
    ///
    /// # Errors
    /// As [`Agents::create`].
    pub fn create_with(&self, spec: Spec, model: Arc<dyn Model>) -> Result<Arc<Agent>> {
        let named = |error: Error| error.within(format!("agent {}", spec.name));
        spec.check().map_err(named)?;
        for tool in &spec.tools {
            match tool {
                ToolUse::Registry(name) if !self.runtime.registry.exists(name) => {
                    return Err(self
                        .runtime
                        .registry
                        .info(name)
                        .err()
                        .map(named)
                        .unwrap_or_else(|| named(Error::new(Class::NotFound, format!("tool {name}: no such tool")))));
                }
                ToolUse::Agent { agent, .. } => drop(self.get(agent).map_err(named)?),
                _ => {}
            }
        }
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        if agents.contains_key(&spec.name) {
            return Err(Error::new(Class::Conflict, format!("agent {}: there is one of that name", spec.name))
                .hint("Take another name, or destroy the old one first."));
        }
        let agent = Arc::new(Agent { life: Life::default(), model, conversation: Mutex::default(), spec });
        agents.insert(agent.spec.name.clone(), Arc::clone(&agent));
        Ok(agent)
    }

    /// The agent called `name`.
    ///
    /// # Errors
    /// `NotFound`, with the nearest name.
    pub fn get(&self, name: &str) -> Result<Arc<Agent>> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.get(name).cloned().ok_or_else(|| {
            let error = Error::new(Class::NotFound, format!("agent {name}: no such agent"));
            match nearest(name, agents.keys().map(String::as_str)) {
                Some(near) => error.hint(format!("Did you mean {near}?")),
                None => error.hint("An agent lives as long as the session that made it."),
            }
        })
    }

    /// Their names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Forgets an agent, and the tools it was wrapped as; whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.agents.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// Has the agent `name` work on `input` until it has an answer or waits for a person. Blocks: a worker thread calls it, as
    /// [`Runtime::spawn`] gives one.
    ///
    /// # Errors
    /// `NotFound` for no agent; `Budget` for a limit of turns, calls or cost; `Timeout`; `Interrupted`; what its model says.
    /// What a tool says goes to the model instead.
    pub fn run(&self, name: &str, input: &Input, context: &Context) -> Result<Outcome> {
        self.run_agent(&*self.get(name)?, input, context)
    }

    /// The same for one that is at hand, whatever became of its name.
    ///
    /// # Errors
    /// As [`Agents::run`].
    pub fn run_agent(&self, agent: &Agent, input: &Input, context: &Context) -> Result<Outcome> {
        turns::run(self, agent, input, context).map_err(|error| error.within(format!("agent {}", agent.spec.name)))
    }

    /// Makes the agent `name` a tool of everybody, called `tool`.
    ///
    /// # Errors
    /// `NotFound` for no agent, `Conflict` when the tools' names are taken, `Usage` for what can be no name.
    pub fn wrap(self: &Arc<Self>, name: &str, tool: &str, description: Option<&str>) -> Result<()> {
        let agent = self.get(name)?;
        let (agents, name): (Weak<Self>, _) = (Arc::downgrade(self), name.to_owned());
        let summary = description.unwrap_or(&agent.spec.description);
        let run = move |params: Value, call: &Call| {
            let agents = agents.upgrade().ok_or_else(|| Error::new(Class::NotFound, "its session has ended"))?;
            let said = params["input"].as_str().or(params["text"].as_str()).unwrap_or_default();
            let mut context = Context::new(call.clone());
            if let Some(output) = call.output.clone() {
                context.events = Some(Arc::new(move |_, event| {
                    if let Event::Text(text) = event {
                        output(&text);
                    }
                }));
            }
            let outcome = agents.run(&name, &Input::text(said), &context)?;
            let value = json!({ "text": outcome.text, "outcome": outcome });
            Ok(Answer::new("invoke", value).text(outcome.text))
        };
        let schema = calls::agent_schema();
        self.runtime.registry.add(Dynamic {
            name: tool.to_owned(),
            summary: if summary.is_empty() {
                format!("asks the agent {}", agent.spec.name)
            } else {
                summary.to_owned()
            },
            schema,
            run: Arc::new(run),
        })
    }
}

/// How long a run of `spec` may take.
pub fn time_limit(spec: &Spec) -> Duration {
    spec.limits.time
}

/// A message of the user.
fn question(input: &Input) -> Message {
    let mut message = Message::text(Role::User, &*input.text);
    message.parts.extend(input.parts.iter().cloned());
    message
}
