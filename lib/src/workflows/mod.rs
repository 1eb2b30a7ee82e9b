//! Workflows: steps one after another, side by side, by condition, in a loop, or in the order of what they need.
//!
//! A [`Definition`] is read from JSON ([`definition`]); [`run()`] runs it on the caller's thread, which reaches tools, agents and
//! functions of the script through a [`Host`]. While steps work elsewhere the thread waits in the host, which may serve
//! other calls meanwhile. [`expand`] puts results of earlier steps into parameters. With a [`Journal`] each finished step is
//! remembered before the next begins, so that an execution that was ended by force goes on behind it.

mod condition;
mod definition;
mod expand;
mod journal;
mod read;
mod report;
mod run;
mod tasks;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use definition::{Branch, Condition, Definition, Over, Retry, Shape, Step, Strategy, Work};
pub use journal::{Journal, Past};
pub use run::{Outcome, run};

use crate::error::{Class, Error, Result};

/// Most passes of one loop.
pub const MOST_PASSES: u64 = 1_000_000;
/// Most steps of a workflow, those of the workflows in it included.
pub const MOST_STEPS: usize = 10_000;
/// How deep workflows may be in one another.
pub const DEEPEST: usize = 32;
/// Passes of which a loop keeps the outputs, the last ones.
const KEPT_PASSES: u64 = 1_000;

/// What a workflow needs of whoever runs it. All of it is called on the thread of [`run()`].
pub trait Host {
    /// Starts a tool. Its envelope or error is to come out of [`Host::next`] under `ticket`, exactly once.
    fn tool(&self, ticket: u64, name: &str, input: Value, limit: Option<Duration>) -> Stopper;

    /// Starts an agent, likewise: its answer is `{text, data?, …}`. `place` is where its step stands, the same each time the
    /// execution is taken up.
    fn agent(&self, ticket: u64, name: &str, input: Value, limit: Option<Duration>, place: &str) -> Stopper;

    /// Calls a function of the script and waits for it, at most for `limit`.
    fn call(&self, function: usize, context: &Rc<Context>, limit: Option<Duration>) -> Called;

    /// Waits for one of the started to end, until then, or for ever. `None`: the time has come.
    ///
    /// # Errors
    /// [`Stopped`]: the whole is to end now.
    fn next(&self, until: Option<Instant>) -> Result<Option<(u64, Result<Value>)>, Stopped>;

    /// Is told what happens.
    fn notice(&self, event: &Event<'_>);
}

/// Stops what was started; what it still answers is not heard.
pub type Stopper = Box<dyn FnOnce()>;

/// Whoever runs the workflow wants it to end at once; why is known to the host.
#[derive(Debug)]
pub struct Stopped;

/// How a function of the script ended.
#[derive(Debug)]
pub enum Called {
    /// With this.
    Value(Value),
    /// It failed.
    Failed(Error),
    /// The whole is to end.
    Stopped,
}

/// What happens in an execution.
#[derive(Debug)]
pub enum Event<'a> {
    /// It begins; so many steps or passes are to come, where that is known.
    Began {
        /// Its id.
        execution: &'a str,
        /// The workflow.
        workflow: &'a str,
        /// Steps, branches or passes.
        total: Option<u64>,
    },
    /// A step begins.
    StepBegan {
        /// Its name.
        step: &'a str,
    },
    /// A step has ended.
    StepEnded {
        /// What is known of it.
        record: &'a Record,
    },
    /// One of `total` is done.
    Advanced {
        /// How many are.
        done: u64,
    },
    /// Finished steps are being undone.
    Undoing {
        /// How many.
        steps: usize,
    },
    /// It has ended.
    Ended {
        /// Whether without an error.
        success: bool,
    },
}

/// What a step has left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// `tool`, `agent`, `workflow` or `function`.
    pub kind: String,
    /// The tool, agent, workflow or function.
    pub of: String,
    /// Whether it did what it was to do; also when it was skipped.
    pub success: bool,
    /// Whether its condition, or a step it needs, kept it from running.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// What it is worth: a tool's `result`, an agent's text, a function's value, a workflow's output.
    pub output: Value,
    /// All of a tool's envelope, an agent's answer, or a workflow's outputs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
    /// How often it was tried.
    pub attempts: u32,
    /// How long all of that took, in milliseconds.
    pub duration_ms: f64,
}

/// An error that can be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Its class, as on the wire.
    pub class: String,
    /// What happened.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Fault {
    fn of(error: &Error) -> Self {
        Fault {
            class: error.class().row().name.to_owned(),
            message: error.text().to_owned(),
            hint: error.next_step().map(str::to_owned),
        }
    }

    fn error(&self) -> Error {
        let error = Error::new(Class::from_name(&self.class), self.message.clone());
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

/// What placeholders, conditions and functions see.
#[derive(Clone, Debug)]
pub struct Context {
    /// Id of the execution.
    pub execution: Rc<str>,
    /// Name of the workflow.
    pub workflow: Rc<str>,
    /// What it was given.
    pub input: Rc<Value>,
    /// What its steps have left.
    pub steps: Rc<RefCell<Steps>>,
    /// What all workflows of the execution share.
    pub shared: Rc<RefCell<Shared>>,
    /// The pass of a loop.
    pub turn: Option<Rc<Turn>>,
    /// The step that asks.
    pub step: Rc<str>,
    /// How often it was tried, this time included.
    pub attempt: u32,
    /// Its parameters, for a function.
    pub parameters: Value,
}

/// A pass of a loop.
#[derive(Clone, Debug)]
pub struct Turn {
    /// What it is about.
    pub value: Value,
    /// Its number, from 1.
    pub index: u64,
}

/// Records by name of the step, in the order in which they ended.
#[derive(Debug, Default)]
pub struct Steps {
    list: Vec<Rc<Record>>,
    places: std::collections::HashMap<String, usize>,
}

impl Steps {
    /// The newest record of the step.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Rc<Record>> {
        self.list.get(*self.places.get(name)?)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Record>> {
        self.list.iter()
    }

    fn put(&mut self, record: Rc<Record>) {
        match self.places.get(&record.name) {
            Some(place) => self.list[*place] = record,
            None => {
                self.places.insert(record.name.clone(), self.list.len());
                self.list.push(record);
            }
        }
    }
}

/// Values by name, and which of them changed since they were last kept.
#[derive(Debug, Default)]
pub struct Shared {
    values: Map<String, Value>,
    changed: std::collections::BTreeSet<String>,
}

impl Shared {
    /// The value called `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Sets it; null takes it away.
    pub fn set(&mut self, key: &str, value: Value) {
        self.changed.insert(key.to_owned());
        match value {
            Value::Null => drop(self.values.remove(key)),
            value => drop(self.values.insert(key.to_owned(), value)),
        }
    }
}

#[cfg(test)]
fn test_context(input: Value) -> Context {
    Context {
        execution: "e1".into(),
        workflow: "w".into(),
        input: Rc::new(input),
        steps: Rc::default(),
        shared: Rc::default(),
        turn: None,
        step: "s".into(),
        attempt: 1,
        parameters: Value::Null,
    }
}
