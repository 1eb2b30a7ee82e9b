//! What a workflow is, and how it is read from JSON. A function of the script stands there as `{"$function": NUMBER}`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::condition;
pub use super::condition::Condition;
use super::expand;
use super::read::{Reader, kind, usage};
use super::{DEEPEST, MOST_PASSES, MOST_STEPS};
use crate::error::{Error, Result, nearest};

/// Most at the same time, unless the workflow says.
const MOST_AT_ONCE: usize = 256;

/// A workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// `workflow_` and a UUID.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// How its steps go together.
    pub shape: Shape,
    /// What becomes of a step that fails.
    pub strategy: Strategy,
    /// How long all of it may take.
    pub timeout: Option<Duration>,
    /// Shared values it starts with.
    pub shared: Map<String, Value>,
    /// Whether finished steps are kept for a later resume.
    pub checkpoint: bool,
}

/// How steps go together.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// One after another.
    Sequential(Vec<Step>),
    /// Branches side by side, at most so many at the same time.
    Parallel(Vec<Branch>, usize),
    /// The first branch whose condition holds.
    Conditional {
        /// Asked in order.
        branches: Vec<(Condition, Branch)>,
        /// When none holds.
        otherwise: Branch,
        /// Every branch whose condition holds.
        all: bool,
    },
    /// The same steps again and again.
    Loop {
        /// How often, about what.
        over: Over,
        /// Most passes.
        most: Option<u64>,
        /// The steps.
        body: Vec<Step>,
        /// Asked after every pass: one that holds ends it.
        breaks: Vec<Condition>,
    },
    /// Each step as soon as those it needs have ended, at most so many at the same time. In an order in which none comes
    /// before one it needs.
    Graph(Vec<Step>, usize),
}

/// Steps with a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// One after another.
    pub steps: Vec<Step>,
}

/// What a loop goes over.
#[derive(Clone, Debug, PartialEq)]
pub enum Over {
    /// From the first up to, without, the second.
    Range(i64, i64, i64),
    /// So many times.
    Count(u64),
    /// The items of a list, or of what a placeholder stands for.
    Items(Value),
    /// As long as it holds.
    While(Condition),
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Unique among its neighbours.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// How long one try may take.
    pub timeout: Option<Duration>,
    /// How it is tried again; that of the workflow when absent.
    pub retry: Option<Retry>,
    /// Overrides that of the workflow.
    pub strategy: Option<Strategy>,
    /// What undoes it.
    pub undo: Option<Box<Work>>,
    /// It runs only if this holds.
    pub when: Option<Condition>,
    /// Names of the steps it needs; of a graph only.
    pub after: Vec<String>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Runs a tool.
    Tool(String, Value),
    /// Asks an agent.
    Agent(String, Value),
    /// Runs a workflow; without an input with that of the one it is in.
    Workflow(Box<Definition>, Option<Value>),
    /// Calls a function of the script, which is called so.
    Function(usize, String, Value),
}

/// What becomes of a step that fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    /// The workflow fails at once.
    FailFast,
    /// The others run all the same.
    Continue,
    /// It is tried again; then the workflow fails.
    Retry(Retry),
    /// What was done is undone in reverse order; then the workflow fails.
    Compensate,
}

/// How a step is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How often at most, the first time included.
    pub attempts: u32,
    /// The first pause.
    pub delay: Duration,
    /// Each pause is so much longer than the one before,
    pub factor: f64,
    /// up to this.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 3, delay: Duration::from_secs(1), factor: 2.0, longest: Duration::from_secs(60) }
    }
}

impl Retry {
    /// The pause behind try number `attempt`, counted from 1.
    pub(super) fn pause(&self, attempt: u32) -> Duration {
        let factor = self.factor.powi(i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX));
        let seconds = self.delay.as_secs_f64() * factor;
        Duration::try_from_secs_f64(seconds).map_or(self.longest, |pause| pause.min(self.longest))
    }

    fn read(reader: &mut Reader) -> Result<Self> {
        let given = Retry::default();
        let attempts = reader.count(&["max_attempts", "attempts"], 1)?.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let delay = reader.duration(&["delay_ms", "backoff_ms", "retry_delay_ms", "delay"])?.unwrap_or(given.delay);
        let longest = reader.duration(&["max_delay_ms", "max_delay"])?.unwrap_or(given.longest.max(delay));
        let factor = reader.number(&["backoff_factor", "factor"], 1.0)?.unwrap_or(given.factor);
        Ok(Retry { attempts: attempts.unwrap_or(given.attempts), delay, factor, longest })
    }
}

impl Strategy {
    const NAMES: [&str; 4] = ["fail_fast", "continue", "retry", "compensate"];

    fn read(at: &str, value: Value) -> Result<Self> {
        let (name, more) = match value {
            Value::String(name) => (name, None),
            Value::Object(_) => {
                let mut reader = Reader::new(at, value)?;
                (reader.name(&["type"])?, Some(reader))
            }
            other => {
                return Err(usage(format!("{at}: one of {} expected, got {}", Self::NAMES.join(", "), kind(&other))));
            }
        };
        let mut more = match more {
            Some(reader) => reader,
            None => Reader::new(at, Value::Object(Map::new()))?,
        };
        let plain: String = name.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        let strategy = match plain.as_str() {
            "failfast" | "fail" | "stop" => Strategy::FailFast,
            "continue" => Strategy::Continue,
            "retry" => Strategy::Retry(Retry::read(&mut more)?),
            "compensate" | "rollback" => Strategy::Compensate,
            _ => {
                let error = usage(format!("{at}: {name:?} is not one of {}", Self::NAMES.join(", ")));
                return Err(match nearest(&name, Self::NAMES) {
                    Some(near) => error.hint(format!("Did you mean {near}?")),
                    None => error,
                });
            }
        };
        more.finish()?;
        Ok(strategy)
    }
}

impl Definition {
    /// Reads a workflow.
    ///
    /// # Errors
    /// `Usage` naming the step and the key that is wrong, for names that stand for two steps, for steps that need each
    /// other in a circle, and for more than [`MOST_STEPS`] or deeper than [`DEEPEST`].
    pub fn read(value: Value) -> Result<Self> {
        let mut left = MOST_STEPS;
        Self::read_at(value, 0, &mut left)
    }

    fn read_at(value: Value, depth: usize, left: &mut usize) -> Result<Self> {
        if depth >= DEEPEST {
            return Err(usage(format!("workflow: more than {DEEPEST} in one another")));
        }
        let mut reader = Reader::new("workflow", value)?;
        let name = reader.name(&["name"])?;
        reader.call(format!("workflow {name}"));
        let id = reader.text(&["id"])?.unwrap_or_else(|| format!("workflow_{}", uuid::Uuid::new_v4()));
        let description = reader.text(&["description"])?;
        let strategy = match reader.take(&["error_strategy", "on_error"]) {
            Some(value) => Strategy::read(&format!("{}: error_strategy", reader.at()), value)?,
            None => Strategy::FailFast,
        };
        let timeout = reader.duration(&["timeout_ms", "timeout"])?;
        let shared = match reader.take(&["shared_data", "shared"]) {
            None => Map::new(),
            Some(Value::Object(values)) => values,
            Some(Value::Array(items)) if items.is_empty() => Map::new(),
            Some(other) => return Err(reader.wrong(format!("shared_data: table expected, got {}", kind(&other)))),
        };
        let checkpoint = reader.switch(&["checkpoint"])?.unwrap_or(true);
        let shape = Shape::read(&mut reader, depth, left)?;
        reader.finish()?;
        Ok(Definition { id, name, description, shape, strategy, timeout, shared, checkpoint })
    }

    /// `sequential`, `parallel`, `conditional`, `loop` or `graph`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.shape {
            Shape::Sequential(_) => "sequential",
            Shape::Parallel(..) => "parallel",
            Shape::Conditional { .. } => "conditional",
            Shape::Loop { .. } => "loop",
            Shape::Graph(..) => "graph",
        }
    }

    /// Every step that stands in it, without those of workflows in it.
    pub fn steps(&self) -> Box<dyn Iterator<Item = &Step> + '_> {
        match &self.shape {
            Shape::Sequential(steps) | Shape::Graph(steps, _) | Shape::Loop { body: steps, .. } => {
                Box::new(steps.iter())
            }
            Shape::Parallel(branches, _) => Box::new(branches.iter().flat_map(|branch| &branch.steps)),
            Shape::Conditional { branches, otherwise, .. } => {
                Box::new(branches.iter().map(|(_, branch)| branch).chain([otherwise]).flat_map(|branch| &branch.steps))
            }
        }
    }

    /// A mark of its work: the same for what has the same steps, whatever its ids and what its functions do.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut plain = Definition { id: String::new(), shared: Map::new(), ..self.clone() };
        plain.each_inner(&mut |inner| inner.id.clear());
        let digest = Sha256::digest(format!("{plain:?}"));
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What may be wrong with it: tools that `exists` does not know, conditions on steps that are not there.
    #[must_use]
    pub fn warnings(&self, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut warnings = Vec::new();
        let names: BTreeSet<&str> = self.steps().map(|step| step.name.as_str()).collect();
        if names.is_empty() {
            warnings.push("it has no steps".to_owned());
        }
        for step in self.steps() {
            match &step.work {
                Work::Tool(tool, _) if !tool.contains("{{") && !exists(tool) => {
                    warnings.push(format!("step {}: there is no tool {tool}", step.name));
                }
                Work::Workflow(inner, _) => {
                    let inner = inner.warnings(exists).into_iter();
                    warnings.extend(inner.map(|warning| format!("step {}: {warning}", step.name)));
                }
                _ => {}
            }
            let mut meant = BTreeSet::new();
            step.when.iter().for_each(|condition| condition.steps(&mut meant));
            meant.retain(|name| !names.contains(name.as_str()));
            warnings.extend(meant.iter().map(|name| format!("step {}: when: there is no step {name}", step.name)));
        }
        warnings
    }

    fn each_inner(&mut self, change: &mut dyn FnMut(&mut Definition)) {
        let mut all: Vec<&mut Step> = match &mut self.shape {
            Shape::Sequential(steps) | Shape::Graph(steps, _) | Shape::Loop { body: steps, .. } => {
                steps.iter_mut().collect()
            }
            Shape::Parallel(branches, _) => branches.iter_mut().flat_map(|branch| &mut branch.steps).collect(),
            Shape::Conditional { branches, otherwise, .. } => branches
                .iter_mut()
                .map(|(_, branch)| branch)
                .chain([otherwise])
                .flat_map(|branch| &mut branch.steps)
                .collect(),
        };
        for step in &mut all {
            let works = std::iter::once(&mut step.work).chain(step.undo.as_deref_mut());
            for work in works {
                if let Work::Workflow(inner, _) = work {
                    change(inner);
                    inner.each_inner(change);
                }
            }
        }
    }
}

impl Shape {
    fn read(reader: &mut Reader, depth: usize, left: &mut usize) -> Result<Self> {
        const KINDS: [&str; 5] = ["sequential", "parallel", "conditional", "loop", "graph"];
        let kind = reader.name(&["type"])?;
        match kind.as_str() {
            "sequential" => Ok(Shape::Sequential(steps(reader, &["steps"], depth, left)?)),
            "parallel" => {
                let most = most(reader)?;
                let mut branches = Vec::new();
                for (number, value) in reader.list(&["branches"])?.unwrap_or_default().into_iter().enumerate() {
                    branches.push(Branch::read(reader.at(), number, value, depth, left)?);
                }
                // A step of its own is a branch.
                for step in steps(reader, &["steps"], depth, left)? {
                    branches.push(Branch { name: step.name.clone(), steps: vec![step] });
                }
                unique(reader.at(), "branch", branches.iter().map(|branch| branch.name.as_str()))?;
                unique(reader.at(), "step", branches.iter().flat_map(|b| &b.steps).map(|step| step.name.as_str()))?;
                Ok(Shape::Parallel(branches, most))
            }
            "conditional" => Self::read_conditional(reader, depth, left),
            "loop" => Self::read_loop(reader, depth, left),
            "graph" => {
                let most = most(reader)?;
                let steps = steps(reader, &["steps"], depth, left)?;
                Ok(Shape::Graph(ordered(reader.at(), steps)?, most))
            }
            other => {
                let error = reader.wrong(format!("type: {other:?} is not one of {}", KINDS.join(", ")));
                Err(match nearest(other, KINDS) {
                    Some(near) => error.hint(format!("Did you mean {near}?")),
                    None => error,
                })
            }
        }
    }

    fn read_conditional(reader: &mut Reader, depth: usize, left: &mut usize) -> Result<Self> {
        let mut branches = Vec::new();
        let given = reader.list(&["branches"])?.unwrap_or_default();
        let then = steps(reader, &["then_steps", "then"], depth, left)?;
        let condition = reader.take(&["condition"]);
        if condition.is_some() || !then.is_empty() {
            let at = format!("{}: condition", reader.at());
            let condition = condition.map_or(Ok(Condition::Always), |value| condition::read(&at, value))?;
            branches.push((condition, Branch { name: "then".into(), steps: then }));
        }
        for (number, value) in given.into_iter().enumerate() {
            let mut inner = Reader::new(format!("{}: branch {}", reader.at(), number + 1), value)?;
            let name = inner.text(&["name"])?.unwrap_or_else(|| format!("branch_{}", number + 1));
            let at = format!("{}: condition", inner.at());
            let condition =
                inner.take(&["condition", "when"]).map_or(Ok(Condition::Always), |v| condition::read(&at, v))?;
            let steps = steps(&mut inner, &["steps"], depth, left)?;
            inner.finish()?;
            branches.push((condition, Branch { name, steps }));
        }
        let otherwise = match reader.take(&["default_branch", "else_steps", "else"]) {
            None => Branch::default(),
            Some(Value::Object(branch)) if !branch.is_empty() => {
                Branch::read(reader.at(), branches.len(), Value::Object(branch), depth, left)?
            }
            Some(list) => {
                let mut inner = Reader::new(reader.at(), Value::Object(Map::from_iter([("else".to_owned(), list)])))?;
                Branch { name: "else".into(), steps: steps(&mut inner, &["else"], depth, left)? }
            }
        };
        unique(reader.at(), "branch", branches.iter().map(|(_, branch)| branch.name.as_str()))?;
        let all = reader.switch(&["execute_all_matching"])?.unwrap_or(false);
        Ok(Shape::Conditional { branches, otherwise: Branch { name: "else".into(), ..otherwise }, all })
    }

    fn read_loop(reader: &mut Reader, depth: usize, left: &mut usize) -> Result<Self> {
        let iterator = reader.take(&["iterator"]).ok_or_else(|| {
            reader
                .wrong("iterator: missing")
                .hint("Say what it goes over: with_range, with_collection, with_count or with_while.")
        })?;
        let mut inner = Reader::new(format!("{}: iterator", reader.at()), iterator)?;
        let mut found = Vec::new();
        if let Some(range) = inner.take(&["range"]) {
            let mut range = Reader::new(format!("{}: range", reader.at()), range)?;
            let start = range.integer(&["start"])?.unwrap_or(0);
            let end = range.integer(&["end"])?.ok_or_else(|| range.wrong("end: missing"))?;
            let step = range.integer(&["step"])?.unwrap_or(1);
            if step == 0 {
                return Err(range.wrong("step: it is 0, so the end would never be reached"));
            }
            range.finish()?;
            found.push(Over::Range(start, end, step));
        }
        if let Some(count) = inner.count(&["count"], 0)? {
            found.push(Over::Count(count));
        }
        match inner.take(&["collection"]) {
            None => {}
            Some(items @ (Value::Array(_) | Value::String(_))) => found.push(Over::Items(items)),
            // A table without [1] in pairs() order, as scripts of v0.10 have it.
            Some(Value::Object(members)) => {
                found.push(Over::Items(members.into_iter().map(|(_, value)| value).collect()));
            }
            Some(other) => {
                return Err(inner.wrong(format!("collection: list or placeholder expected, got {}", kind(&other))));
            }
        }
        if let Some(condition) = inner.take(&["while_condition", "while"]) {
            found.push(Over::While(condition::read(&format!("{}: while", reader.at()), condition)?));
        }
        let most = inner.count(&["max_iterations"], 1)?.or(reader.count(&["max_iterations"], 1)?);
        inner.finish()?;
        let over = match found.len() {
            1 => found.swap_remove(0),
            0 => return Err(reader.wrong("iterator: one of range, count, collection, while_condition expected")),
            _ => return Err(reader.wrong("iterator: more than one is given")),
        };
        if let Some(passes) = over.passes().map(|passes| passes.min(most.unwrap_or(u64::MAX)))
            && passes > MOST_PASSES
        {
            return Err(reader
                .wrong(format!("{passes} passes; {MOST_PASSES} are the most"))
                .hint("Set max_iterations, or do more in one pass."));
        }
        let body = steps(reader, &["body", "steps"], depth, left)?;
        let mut breaks = Vec::new();
        for value in reader.list(&["break_conditions"])?.unwrap_or_default() {
            breaks.push(condition::read(&format!("{}: break_conditions", reader.at()), value)?);
        }
        Ok(Shape::Loop { over, most, body, breaks })
    }
}

impl Over {
    /// How many there are, where that is known before.
    pub(super) fn passes(&self) -> Option<u64> {
        match self {
            Over::Range(start, end, step) => {
                let way = i128::from(*end) - i128::from(*start);
                let passes = if (way > 0) == (*step > 0) { way.abs().div_euclid(i128::from(*step).abs()) } else { 0 };
                let rest = if (way > 0) == (*step > 0) { way.abs().rem_euclid(i128::from(*step).abs()) } else { 0 };
                Some(u64::try_from(passes + i128::from(rest > 0)).unwrap_or(u64::MAX))
            }
            Over::Count(count) => Some(*count),
            Over::Items(Value::Array(items)) => Some(items.len() as u64),
            Over::Items(_) | Over::While(_) => None,
        }
    }
}

fn most(reader: &mut Reader) -> Result<usize> {
    let most = reader.count(&["max_concurrency"], 1)?;
    Ok(most.map_or(MOST_AT_ONCE, |most| usize::try_from(most).unwrap_or(usize::MAX)))
}

impl Branch {
    fn read(at: &str, number: usize, value: Value, depth: usize, left: &mut usize) -> Result<Self> {
        let mut reader = Reader::new(format!("{at}: branch {}", number + 1), value)?;
        let name = reader.text(&["name"])?.unwrap_or_else(|| format!("branch_{}", number + 1));
        reader.call(format!("{at}: branch {name}"));
        let _ = reader.text(&["description"])?;
        let steps = steps(&mut reader, &["steps"], depth, left)?;
        reader.finish()?;
        Ok(Branch { name, steps })
    }
}

fn steps(reader: &mut Reader, names: &[&'static str], depth: usize, left: &mut usize) -> Result<Vec<Step>> {
    let values = reader.list(names)?.unwrap_or_default();
    let mut steps = Vec::with_capacity(values.len());
    for (number, value) in values.into_iter().enumerate() {
        *left = left.checked_sub(1).ok_or_else(|| usage(format!("{}: more than {MOST_STEPS} steps", reader.at())))?;
        steps.push(Step::read(reader.at(), number, value, depth, left)?);
    }
    unique(reader.at(), "step", steps.iter().map(|step| step.name.as_str()))?;
    Ok(steps)
}

fn unique<'a>(at: &str, what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(usage(format!("{at}: {what} {name}: there are two of this name")));
        }
    }
    Ok(())
}

impl Step {
    fn read(at: &str, number: usize, value: Value, depth: usize, left: &mut usize) -> Result<Self> {
        let mut reader = Reader::new(format!("{at}: step {}", number + 1), value)?;
        let name = reader.name(&["name"])?;
        reader.call(format!("{at}: step {name}"));
        let work = Work::read(&mut reader, depth, left)?;
        let timeout = reader.duration(&["timeout_ms", "timeout"])?;
        let retry = match (reader.take(&["retry"]), reader.count(&["retry_count", "max_retries"], 0)?) {
            (Some(_), Some(_)) => return Err(reader.wrong("retry: retry_count says it too")),
            (Some(value), None) => {
                let mut inner = Reader::new(format!("{}: retry", reader.at()), value)?;
                let retry = Retry::read(&mut inner)?;
                inner.finish()?;
                Some(retry)
            }
            (None, Some(count)) => {
                let attempts = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
                let delay = reader.duration(&["retry_delay_ms"])?.unwrap_or(Retry::default().delay);
                Some(Retry { attempts, delay, ..Retry::default() })
            }
            (None, None) => None,
        };
        let strategy = match reader.take(&["on_error", "error_strategy"]) {
            Some(value) => Some(Strategy::read(&format!("{}: on_error", reader.at()), value)?),
            None => None,
        };
        let undo = match reader.take(&["undo", "compensate"]) {
            Some(value) => {
                let mut inner = Reader::new(format!("{}: undo", reader.at()), with_type(value))?;
                let _ = inner.text(&["name"])?;
                let work = Work::read(&mut inner, depth, left)?;
                inner.finish()?;
                Some(Box::new(work))
            }
            None => None,
        };
        let when = match reader.take(&["when", "condition"]) {
            Some(value) => Some(condition::read(&format!("{}: when", reader.at()), value)?),
            None => None,
        };
        let mut after = Vec::new();
        match reader.take(&["depends_on", "after", "dependencies"]) {
            None => {}
            Some(Value::String(name)) => after.push(name),
            Some(Value::Array(names)) => {
                for name in names {
                    match name {
                        Value::String(name) => after.push(name),
                        other => return Err(reader.wrong(format!("depends_on: names expected, got {}", kind(&other)))),
                    }
                }
            }
            Some(other) => return Err(reader.wrong(format!("depends_on: names expected, got {}", kind(&other)))),
        }
        let _ = reader.text(&["description"])?;
        reader.finish()?;
        Ok(Step { name, work, timeout, retry, strategy, undo, when, after })
    }
}

/// A function alone stands for a step that calls it.
fn with_type(value: Value) -> Value {
    match function(&value) {
        Some(_) => Value::Object(Map::from_iter([
            ("type".to_owned(), Value::from("function")),
            ("function".to_owned(), value),
        ])),
        None => value,
    }
}

/// The number of a function of the script.
pub(super) fn function(value: &Value) -> Option<usize> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    members.get("$function")?.as_u64().and_then(|number| usize::try_from(number).ok())
}

impl Work {
    fn read(reader: &mut Reader, depth: usize, left: &mut usize) -> Result<Self> {
        const KINDS: [&str; 4] = ["tool", "agent", "workflow", "function"];
        let empty = || Value::Object(Map::new());
        let kind = reader.name(&["type"])?;
        match kind.as_str() {
            "tool" => {
                let name = reader.name(&["tool"])?;
                let input = match reader.take(&["input", "parameters", "params"]) {
                    None => empty(),
                    Some(Value::Array(items)) if items.is_empty() => empty(),
                    Some(input @ (Value::Object(_) | Value::String(_))) => input,
                    Some(other) => {
                        return Err(reader.wrong(format!("input: table expected, got {}", super::read::kind(&other))));
                    }
                };
                Ok(Work::Tool(name, input))
            }
            "agent" => {
                let name = reader.name(&["agent"])?;
                let input = reader.take(&["input", "prompt"]).ok_or_else(|| reader.wrong("input: missing"))?;
                Ok(Work::Agent(name, input))
            }
            "workflow" => {
                let value = reader.take(&["workflow"]).ok_or_else(|| reader.wrong("workflow: missing"))?;
                if !value.is_object() {
                    return Err(reader.wrong("workflow: a workflow that was built expected"));
                }
                let inner =
                    Definition::read_at(value, depth + 1, left).map_err(|error: Error| error.within(reader.at()))?;
                Ok(Work::Workflow(Box::new(inner), reader.take(&["input"])))
            }
            "function" | "custom" => {
                let value = reader.take(&["function", "fn"]).ok_or_else(|| reader.wrong("function: missing"))?;
                let number = function(&value).ok_or_else(|| reader.wrong("function: a function expected"))?;
                let called = reader.text(&["function_name"])?.unwrap_or_default();
                let parameters = reader.take(&["parameters", "input", "params"]).unwrap_or_else(empty);
                Ok(Work::Function(number, called, parameters))
            }
            other => {
                let error = reader.wrong(format!("type: {other:?} is not one of {}", KINDS.join(", ")));
                Err(match nearest(other, KINDS) {
                    Some(near) => error.hint(format!("Did you mean {near}?")),
                    None => error,
                })
            }
        }
    }

    /// `tool`, `agent`, `workflow` or `function`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Work::Tool(..) => "tool",
            Work::Agent(..) => "agent",
            Work::Workflow(..) => "workflow",
            Work::Function(..) => "function",
        }
    }

    /// The tool, agent, workflow or function.
    #[must_use]
    pub fn of(&self) -> &str {
        match self {
            Work::Tool(name, _) | Work::Agent(name, _) | Work::Function(_, name, _) => name,
            Work::Workflow(inner, _) => &inner.name,
        }
    }

    /// Its parameters as they were given.
    fn input(&self) -> Option<&Value> {
        match self {
            Work::Tool(_, input) | Work::Agent(_, input) | Work::Function(_, _, input) => Some(input),
            Work::Workflow(_, input) => input.as_ref(),
        }
    }
}

/// Brings the steps of a graph into an order in which none comes before one it needs; a placeholder for another step's
/// result is a need too. Otherwise they stay as they were given.
fn ordered(at: &str, mut steps: Vec<Step>) -> Result<Vec<Step>> {
    let places: HashMap<String, usize> =
        steps.iter().enumerate().map(|(place, step)| (step.name.clone(), place)).collect();
    for step in &mut steps {
        let named = step.after.iter().find(|name| !places.contains_key(*name));
        if let Some(name) = named {
            let error = usage(format!("{at}: step {}: depends_on: there is no step {name}", step.name));
            return Err(match nearest(name, places.keys().map(String::as_str)) {
                Some(near) => error.hint(format!("Did you mean {near}?")),
                None => error,
            });
        }
        let mut meant = BTreeSet::new();
        if let Some(input) = step.work.input() {
            expand::steps(input, &places, &mut meant);
        }
        if let Some(condition) = &step.when {
            condition.steps(&mut meant);
        }
        meant.retain(|name| places.contains_key(name) && *name != step.name && !step.after.contains(name));
        step.after.extend(meant);
    }
    // Those that need nothing more, in the order they were given.
    let mut waits: Vec<BTreeSet<usize>> =
        steps.iter().map(|step| step.after.iter().map(|name| places[name]).collect()).collect();
    let mut needed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, on) in waits.iter().enumerate() {
        on.iter().for_each(|other| needed.entry(*other).or_default().push(place));
    }
    let mut ready: BTreeSet<usize> = (0..steps.len()).filter(|place| waits[*place].is_empty()).collect();
    let mut order = Vec::with_capacity(steps.len());
    while let Some(place) = ready.pop_first() {
        order.push(place);
        for other in needed.remove(&place).unwrap_or_default() {
            waits[other].remove(&place);
            if waits[other].is_empty() {
                ready.insert(other);
            }
        }
    }
    if order.len() < steps.len() {
        return Err(usage(format!("{at}: steps need each other: {}", circle(&steps, &waits))));
    }
    let mut taken: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|place| taken[place].take()).collect())
}

/// `a → b → a`, each needing the next.
fn circle(steps: &[Step], waits: &[BTreeSet<usize>]) -> String {
    let mut way: Vec<usize> = waits.iter().position(|on| !on.is_empty()).into_iter().collect();
    while let Some(next) = way.last().and_then(|last| waits[*last].first().copied()) {
        if let Some(start) = way.iter().position(|place| *place == next) {
            let names: Vec<&str> =
                way[start..].iter().chain([&next]).map(|place| steps[*place].name.as_str()).collect();
            return names.join(" → ");
        }
        way.push(next);
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(name: &str, after: &[&str]) -> Value {
        json!({"name": name, "type": "tool", "tool": "echo", "depends_on": after})
    }

    fn graph(steps: Vec<Value>) -> Result<Vec<String>> {
        match Definition::read(json!({"name": "g", "type": "graph", "steps": steps}))?.shape {
            Shape::Graph(steps, _) => Ok(steps.into_iter().map(|step| step.name).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_graph_is_put_in_order() {
        let names = graph(vec![tool("d", &["b", "c"]), tool("c", &["a"]), tool("b", &["a"]), tool("a", &[])]).unwrap();
        assert_eq!(names, ["a", "c", "b", "d"]);
        let mut by_placeholder = tool("first", &[]);
        by_placeholder["input"] = json!({"text": ["see {{step.second.result}}"]});
        assert_eq!(graph(vec![by_placeholder, tool("second", &[])]).unwrap(), ["second", "first"]);
    }

    #[test]
    fn a_circle_is_told() {
        let error =
            graph(vec![tool("x", &[]), tool("a", &["c"]), tool("b", &["a", "x"]), tool("c", &["b"])]).unwrap_err();
        assert_eq!(error.text(), "workflow g: steps need each other: a → c → b → a");
        assert_eq!(graph(vec![tool("a", &["a"])]).unwrap_err().text(), "workflow g: steps need each other: a → a");
        let error = graph(vec![tool("fetch", &[]), tool("b", &["fetsh"])]).unwrap_err();
        assert_eq!(error.text(), "workflow g: step b: depends_on: there is no step fetsh");
        assert_eq!(error.next_step(), Some("Did you mean fetch?"));
    }

    #[test]
    fn mistakes_are_pointed_at() {
        let with = |step: Value| json!({"name": "w", "type": "sequential", "steps": [step]});
        for (value, text) in [
            (json!({"type": "sequential"}), "workflow: name: missing"),
            (
                json!({"name": "w", "type": "serial"}),
                "workflow w: type: \"serial\" is not one of sequential, parallel, conditional, loop, graph",
            ),
            (json!({"name": "w", "type": "sequential", "step": []}), "workflow w: step: no such key"),
            (
                json!({"name": "w", "type": "sequential", "error_strategy": "retri"}),
                "workflow w: error_strategy: \"retri\" is not one of fail_fast, continue, retry, compensate",
            ),
            (with(json!({"type": "tool"})), "workflow w: step 1: name: missing"),
            (with(json!({"name": "a", "type": "tool"})), "workflow w: step a: tool: missing"),
            (
                with(json!({"name": "a", "type": "tool", "tool": "t", "inptu": {}})),
                "workflow w: step a: inptu: no such key",
            ),
            (
                with(json!({"name": "a", "type": "tool", "tool": "t", "timeout_ms": 0})),
                "workflow w: step a: timeout_ms: milliseconds above 0 or a text like \"5s\" expected, got 0",
            ),
            (
                with(json!({"name": "a", "type": "function", "function": "f"})),
                "workflow w: step a: function: a function expected",
            ),
            (with(json!({"name": "a", "type": "agent", "agent": "x"})), "workflow w: step a: input: missing"),
            (
                json!({"name": "w", "type": "sequential", "steps": [tool("a", &[]), tool("a", &[])]}),
                "workflow w: step a: there are two of this name",
            ),
            (json!({"name": "w", "type": "loop"}), "workflow w: iterator: missing"),
            (
                json!({"name": "w", "type": "loop", "iterator": {"range": {"end": 5, "step": 0}}}),
                "workflow w: range: step: it is 0, so the end would never be reached",
            ),
            (
                json!({"name": "w", "type": "loop", "iterator": {"count": 2_000_000}}),
                "workflow w: 2000000 passes; 1000000 are the most",
            ),
            (
                json!({"name": "w", "type": "loop", "iterator": {"count": 2, "collection": [1]}}),
                "workflow w: iterator: more than one is given",
            ),
        ] {
            assert_eq!(Definition::read(value.clone()).unwrap_err().text(), text, "{value}");
        }
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_refused() {
        let mut value = json!({"name": "w", "type": "sequential", "steps": []});
        for _ in 1..DEEPEST {
            value = json!({"name": "w", "type": "sequential", "steps": [{"name": "s", "type": "workflow", "workflow": value}]});
        }
        assert!(Definition::read(value.clone()).is_ok());
        let deeper =
            json!({"name": "w", "type": "sequential", "steps": [{"name": "s", "type": "workflow", "workflow": value}]});
        assert!(Definition::read(deeper).unwrap_err().text().ends_with("workflow: more than 32 in one another"));
        let many: Vec<_> = (0..=MOST_STEPS).map(|number| tool(&format!("s{number}"), &[])).collect();
        let error = Definition::read(json!({"name": "w", "type": "sequential", "steps": many})).unwrap_err();
        assert_eq!(error.text(), "workflow w: more than 10000 steps");
    }

    #[test]
    fn ranges_are_counted() {
        for (range, passes) in
            [((1, 4, 1), 3), ((0, 10, 3), 4), ((5, 0, -2), 3), ((1, 1, 1), 0), ((5, 1, 1), 0), ((0, 5, -1), 0)]
        {
            assert_eq!(Over::Range(range.0, range.1, range.2).passes(), Some(passes), "{range:?}");
        }
        assert!(Over::Range(i64::MIN, i64::MAX, 1).passes().unwrap() > MOST_PASSES);
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let retry =
            Retry { attempts: 9, delay: Duration::from_millis(100), factor: 3.0, longest: Duration::from_secs(1) };
        let pauses: Vec<_> = (1..=4).map(|attempt| retry.pause(attempt).as_millis()).collect();
        assert_eq!(pauses, [100, 300, 900, 1000]);
        assert_eq!(retry.pause(u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn the_shape_is_the_same_whatever_the_ids() {
        let make = |tool_name: &str| {
            let inner = json!({"name": "i", "type": "sequential", "steps": [tool(tool_name, &[])]});
            let step = json!({"name": "s", "type": "workflow", "workflow": inner});
            Definition::read(json!({"name": "w", "type": "parallel", "steps": [step]})).unwrap()
        };
        assert_ne!(make("a"), make("a"));
        assert_eq!(make("a").fingerprint(), make("a").fingerprint());
        assert_ne!(make("a").fingerprint(), make("b").fingerprint());
    }
}
