//! An execution.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::condition::{Condition, Known};
use super::definition::{Branch, Definition, Over, Retry, Shape, Step, Strategy, Work};
use super::journal::{Journal, Place, Rows};
use super::read::{kind, usage};
use super::tasks::{Boxed, Tasks, side_by_side};
use super::{Context, Event, Fault, Host, KEPT_PASSES, MOST_PASSES, Record, Shared, Steps, Stopped, Turn, expand};
use crate::error::{Class, Error, Result};

/// How an execution ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its id.
    pub execution: String,
    /// What it is worth: the output of the last step; of branches and of a graph a table by name, of a loop a list.
    pub output: Value,
    /// Why it failed, if it did.
    pub error: Option<Error>,
    /// What its steps have left, in the order they ended first.
    pub records: Vec<Rc<Record>>,
    /// Numbers, as the kind of workflow has them.
    pub numbers: Map<String, Value>,
    /// Texts of agents by name, those of workflows in it included.
    pub agents: Map<String, Value>,
    /// How long it took.
    pub took: Duration,
    /// Steps that were not run again because an earlier process had finished them.
    pub resumed: u64,
}

/// Runs `definition` on this thread until it has ended.
///
/// # Errors
/// [`Stopped`] when the host wants it to end; everything else is told by [`Outcome::error`].
pub fn run(
    definition: &Definition,
    execution: &str,
    input: Value,
    host: &dyn Host,
    journal: Option<&dyn Journal>,
) -> Result<Outcome, Stopped> {
    let began = Instant::now();
    let engine = Engine {
        host,
        tasks: Tasks::default(),
        rows: Rows::new(journal),
        execution: execution.into(),
        agents: RefCell::default(),
        resumed: Cell::new(0),
    };
    let mut shared = Shared::default();
    shared.values = definition.shared.clone();
    let shared = Rc::new(RefCell::new(shared));
    host.notice(&Event::Began { execution, workflow: &definition.name, total: total(definition) });
    let scope = Scope::new(&engine, definition, Rc::new(input), &shared, None, Place::default());
    let ended = engine.tasks.drive(host, engine.definition(&scope))?;
    host.notice(&Event::Ended { success: ended.is_ok() });
    let records: Vec<_> = scope.steps.borrow().iter().cloned().collect();
    let (output, error) = match ended {
        Ok(output) => (output, None),
        Err(error) => (Value::Null, Some(error)),
    };
    let numbers = super::report::numbers(definition, &records, &scope.counts.borrow());
    Ok(Outcome {
        execution: execution.to_owned(),
        output,
        error,
        records,
        numbers,
        agents: engine.agents.take(),
        took: began.elapsed(),
        resumed: engine.resumed.get(),
    })
}

/// Steps, branches or passes to come, where that is known.
fn total(definition: &Definition) -> Option<u64> {
    match &definition.shape {
        Shape::Sequential(steps) | Shape::Graph(steps, _) => Some(steps.len() as u64),
        Shape::Parallel(branches, _) => Some(branches.len() as u64),
        Shape::Conditional { .. } => None,
        Shape::Loop { over, most, .. } => over.passes().map(|passes| passes.min(most.unwrap_or(u64::MAX))),
    }
}

struct Engine<'a> {
    host: &'a dyn Host,
    tasks: Tasks,
    rows: Rows<'a>,
    execution: Rc<str>,
    agents: RefCell<Map<String, Value>>,
    resumed: Cell<u64>,
}

/// Numbers of one run of a definition.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Branches, or passes, that were begun.
    pub(super) begun: u64,
    /// Of these, those that ended well.
    pub(super) succeeded: u64,
    /// How many there were to be, where that was known.
    pub(super) planned: u64,
    /// Why a loop ended before its end.
    pub(super) broke: Option<String>,
    /// Outputs a loop kept.
    pub(super) kept: u64,
    /// Steps that ran, in all passes, and how many of them failed.
    pub(super) steps: u64,
    pub(super) failed: u64,
}

/// One run of a definition: an execution, or a step of one that is a workflow.
struct Scope<'a> {
    definition: &'a Definition,
    name: Rc<str>,
    execution: Rc<str>,
    input: Rc<Value>,
    shared: Rc<RefCell<Shared>>,
    steps: Rc<RefCell<Steps>>,
    turn: RefCell<Option<Rc<Turn>>>,
    place: Place,
    /// What could be undone.
    undo: RefCell<Vec<Undo<'a>>>,
    counts: RefCell<Counts>,
    /// The output of the step that ended last.
    last: RefCell<Value>,
    outer: bool,
}

/// A finished step that can be undone.
struct Undo<'a> {
    number: u64,
    place: Place,
    name: String,
    work: &'a Work,
    /// Its parameters, expanded when the step had ended; why they could not be.
    input: Result<Value, Fault>,
}

impl<'a> Scope<'a> {
    fn new(
        engine: &Engine<'_>,
        definition: &'a Definition,
        input: Rc<Value>,
        shared: &Rc<RefCell<Shared>>,
        turn: Option<Rc<Turn>>,
        place: Place,
    ) -> Self {
        Scope {
            definition,
            name: definition.name.as_str().into(),
            execution: Rc::clone(&engine.execution),
            input,
            shared: Rc::clone(shared),
            steps: Rc::default(),
            turn: RefCell::new(turn),
            outer: place.full().is_empty(),
            place,
            undo: RefCell::default(),
            counts: RefCell::default(),
            last: RefCell::default(),
        }
    }

    fn context(&self, step: &str, attempt: u32, parameters: Value) -> Context {
        Context {
            execution: Rc::clone(&self.execution),
            workflow: Rc::clone(&self.name),
            input: Rc::clone(&self.input),
            steps: Rc::clone(&self.steps),
            shared: Rc::clone(&self.shared),
            turn: self.turn.borrow().clone(),
            step: step.into(),
            attempt,
            parameters,
        }
    }

    /// Whether what a step did is to be undone when the workflow fails.
    fn compensates(&self, step: &Step) -> bool {
        step.undo.is_some()
    }
}

impl<'a> Engine<'a> {
    /// Runs the definition of `scope` to its end, and undoes what it did when it fails and is to.
    fn definition<'s>(&'s self, scope: &'s Scope<'a>) -> Boxed<'s, Result<Value>> {
        Box::pin(async move {
            let definition = scope.definition;
            let failed = scope.place.inside("!failed");
            let result = match self.rows.value(&failed, &scope.shared) {
                // It had failed, and was being undone.
                Some(fault) if definition.strategy == Strategy::Compensate => {
                    self.recall(scope);
                    Err(serde_json::from_value::<Fault>(fault)
                        .map_or_else(|error| Error::new(Class::Bug, error.to_string()), |fault| fault.error()))
                }
                _ => self.tasks.within(definition.timeout, self.shape(scope)).await,
            };
            match result {
                Ok(output) => Ok(output),
                Err(error) if definition.strategy == Strategy::Compensate => {
                    self.rows.keep_value(&failed, &json!(Fault::of(&error)), &scope.shared)?;
                    Err(self.undo(scope, error).await)
                }
                Err(error) => Err(error),
            }
        })
    }

    async fn shape<'s>(&'s self, scope: &'s Scope<'a>) -> Result<Value> {
        match &scope.definition.shape {
            Shape::Sequential(steps) => {
                self.sequence(scope, steps, &scope.place).await?;
                Ok(scope.last.take())
            }
            Shape::Parallel(branches, most) => self.parallel(scope, branches, *most).await,
            Shape::Conditional { branches, otherwise, all } => self.conditional(scope, branches, otherwise, *all).await,
            Shape::Loop { over, most, body, breaks } => self.passes(scope, over, *most, body, breaks).await,
            Shape::Graph(steps, most) => self.graph(scope, steps, *most).await,
        }
    }

    async fn sequence<'s>(&'s self, scope: &'s Scope<'a>, steps: &'a [Step], place: &Place) -> Result<()> {
        let advances = scope.outer && matches!(scope.definition.shape, Shape::Sequential(_));
        for (done, step) in steps.iter().enumerate() {
            self.step(scope, step, place.inside(&step.name)).await?;
            if advances {
                self.host.notice(&Event::Advanced { done: done as u64 + 1 });
            }
        }
        Ok(())
    }

    /// Tells that one of several has ended.
    fn advance(&self, scope: &Scope<'_>) {
        let mut counts = scope.counts.borrow_mut();
        counts.succeeded += 1;
        if scope.outer {
            self.host.notice(&Event::Advanced { done: counts.succeeded });
        }
    }

    async fn parallel<'s>(&'s self, scope: &'s Scope<'a>, branches: &'a [Branch], most: usize) -> Result<Value> {
        scope.counts.borrow_mut().planned = branches.len() as u64;
        let mut next = branches.iter();
        side_by_side(most, || {
            let branch = next.next()?;
            scope.counts.borrow_mut().begun += 1;
            Some(Box::pin(async move {
                let alone = matches!(&branch.steps[..], [step] if step.name == branch.name);
                let place = if alone { scope.place.clone() } else { scope.place.inside(&branch.name) };
                self.sequence(scope, &branch.steps, &place).await.map_err(|error| match alone {
                    true => error,
                    false => error.within(format!("branch {}", branch.name)),
                })?;
                self.advance(scope);
                Ok(())
            }))
        })
        .await?;
        let steps = scope.steps.borrow();
        let output = |branch: &Branch| {
            let record = branch.steps.last().and_then(|step| steps.get(&step.name));
            (branch.name.clone(), record.map_or(Value::Null, |record| record.output.clone()))
        };
        Ok(branches.iter().map(output).collect())
    }

    async fn conditional<'s>(
        &'s self,
        scope: &'s Scope<'a>,
        branches: &'a [(Condition, Branch)],
        otherwise: &'a Branch,
        all: bool,
    ) -> Result<Value> {
        scope.counts.borrow_mut().planned = branches.len() as u64 + 1;
        // What was chosen stays chosen, whatever the conditions would say now.
        let place = scope.place.inside("!chosen");
        let chosen = match self.rows.value(&place, &scope.shared) {
            Some(chosen) => chosen,
            None => {
                let mut chosen = Vec::new();
                for (number, (condition, branch)) in branches.iter().enumerate() {
                    let context = scope.context(&branch.name, 1, Value::Null);
                    if self.holds(condition, Rc::new(context)).await? {
                        chosen.push(number);
                        if !all {
                            break;
                        }
                    }
                }
                let chosen = json!(chosen);
                self.rows.keep_value(&place, &chosen, &scope.shared)?;
                chosen
            }
        };
        let chosen: Vec<usize> =
            chosen.as_array().into_iter().flatten().filter_map(|n| usize::try_from(n.as_u64()?).ok()).collect();
        scope.counts.borrow_mut().kept = chosen.len() as u64;
        let mut run: Vec<&Branch> = chosen.iter().filter_map(|n| Some(&branches.get(*n)?.1)).collect();
        if run.is_empty() {
            run.push(otherwise);
        }
        for branch in run {
            scope.counts.borrow_mut().begun += 1;
            let place = scope.place.inside(&branch.name);
            self.sequence(scope, &branch.steps, &place).await?;
            self.advance(scope);
        }
        Ok(scope.last.take())
    }

    async fn passes<'s>(
        &'s self,
        scope: &'s Scope<'a>,
        over: &'a Over,
        most: Option<u64>,
        body: &'a [Step],
        breaks: &'a [Condition],
    ) -> Result<Value> {
        let items = match over {
            Over::Items(items) => {
                let context = scope.context(&scope.name, 1, Value::Null);
                match expand::value(items, &context)? {
                    Value::Array(items) => items,
                    Value::Object(members) => members.into_iter().map(|(_, value)| value).collect(),
                    other => return Err(usage(format!("collection: list expected, got {}", kind(&other)))),
                }
            }
            _ => Vec::new(),
        };
        let known = if matches!(over, Over::Items(_)) { Some(items.len() as u64) } else { over.passes() };
        let end = known.unwrap_or(u64::MAX).min(most.unwrap_or(u64::MAX));
        scope.counts.borrow_mut().planned = if end == u64::MAX { 0 } else { end };
        let outer = scope.turn.borrow().clone();
        let mut outputs = VecDeque::new();
        let mut pass = self.recall_passes(scope, body, &mut outputs);
        if scope.outer && pass > 0 {
            self.host.notice(&Event::Advanced { done: pass });
        }
        while pass < end && scope.counts.borrow().broke.is_none() {
            if pass >= MOST_PASSES {
                return Err(Error::new(Class::Budget, format!("more than {MOST_PASSES} passes"))
                    .hint("Set max_iterations, or a condition that ends it."));
            }
            pass += 1;
            let value = match over {
                Over::Range(start, _, step) => {
                    let value = i128::from(*start) + i128::from(*step) * i128::from(pass - 1);
                    json!(i64::try_from(value).unwrap_or_default())
                }
                Over::Items(_) => {
                    items.get(usize::try_from(pass - 1).unwrap_or(usize::MAX)).cloned().unwrap_or_default()
                }
                Over::Count(_) | Over::While(_) => pass.into(),
            };
            *scope.turn.borrow_mut() = Some(Rc::new(Turn { value, index: pass }));
            let place = scope.place.pass(pass);
            if let Over::While(condition) = over
                && !self.holds(condition, Rc::new(scope.context(&scope.name, 1, Value::Null))).await?
            {
                scope.counts.borrow_mut().broke.get_or_insert_with(|| "condition".to_owned());
                break;
            }
            scope.counts.borrow_mut().begun += 1;
            *scope.last.borrow_mut() = Value::Null;
            self.sequence(scope, body, &place).await.map_err(|error| error.within(format!("pass {pass}")))?;
            for (number, condition) in breaks.iter().enumerate() {
                if self.holds(condition, Rc::new(scope.context(&scope.name, 1, Value::Null))).await? {
                    scope.counts.borrow_mut().broke = Some(format!("break condition {}", number + 1));
                    break;
                }
            }
            let output = scope.last.take();
            let row = json!({ "output": output, "broke": scope.counts.borrow().broke });
            self.rows.keep_value(&Rows::pass_place(&scope.place, pass), &row, &scope.shared)?;
            keep(&mut outputs, output);
            self.advance(scope);
            if pass.is_multiple_of(64) {
                self.tasks.breathe().await;
            }
        }
        *scope.turn.borrow_mut() = outer;
        let mut counts = scope.counts.borrow_mut();
        counts.kept = outputs.len() as u64;
        Ok(Value::Array(outputs.into()))
    }

    /// Takes up a loop behind its last finished pass; which that is.
    fn recall_passes(&self, scope: &Scope<'a>, body: &'a [Step], outputs: &mut VecDeque<Value>) -> u64 {
        let past = self.rows.passes(&scope.place, &scope.shared);
        let Some(&(last, _)) = past.last() else { return 0 };
        self.resumed.set(self.resumed.get() + last);
        let mut counts = scope.counts.borrow_mut();
        (counts.begun, counts.succeeded) = (last, last);
        for (_, row) in past {
            counts.broke = row["broke"].as_str().map(str::to_owned);
            keep(outputs, row["output"].clone());
        }
        // What the newest pass has left, and what all of them did that could be undone.
        for step in body {
            if step.undo.is_some() {
                for pass in 1..=last {
                    let place = scope.place.pass(pass).inside(&step.name);
                    if let Some((record, number, input)) = self.rows.step(&place, true, &scope.shared) {
                        scope.steps.borrow_mut().put(Rc::new(record));
                        remember(scope, step, place, number, input.ok_or(None));
                    }
                }
            } else if let Some(record) = self.rows.newest(scope.place.inside(&step.name).key(false)) {
                scope.steps.borrow_mut().put(Rc::new(record));
            }
        }
        last
    }

    async fn graph<'s>(&'s self, scope: &'s Scope<'a>, steps: &'a [Step], most: usize) -> Result<Value> {
        scope.counts.borrow_mut().planned = steps.len() as u64;
        let ended: RefCell<BTreeSet<&str>> = RefCell::default();
        let mut waiting: Vec<&Step> = steps.iter().collect();
        let (ended, this) = (&ended, self);
        side_by_side(most, || {
            let ready = waiting.iter().position(|step| {
                let ended = ended.borrow();
                step.after.iter().all(|name| ended.contains(name.as_str()))
            })?;
            let step = waiting.remove(ready);
            Some(Box::pin(async move {
                let lost = step.after.iter().find(|name| {
                    scope.steps.borrow().get(name).is_none_or(|record| !record.success || record.error.is_some())
                });
                match lost {
                    // Only where failures do not end the whole.
                    Some(name) => this.skip(scope, step, Some(format!("step {name} failed"))),
                    None => this.step(scope, step, scope.place.inside(&step.name)).await?,
                }
                ended.borrow_mut().insert(step.name.as_str());
                this.advance(scope);
                Ok(())
            }))
        })
        .await?;
        let records = scope.steps.borrow();
        // Those that nobody needed are what it was for.
        let needed: BTreeSet<&String> = steps.iter().flat_map(|step| &step.after).collect();
        let ends = steps.iter().filter(|step| !needed.contains(&step.name));
        Ok(ends.filter_map(|step| Some((step.name.clone(), records.get(&step.name)?.output.clone()))).collect())
    }

    /// A step that does not run; `because` another one failed, it counts as failed too.
    fn skip(&self, scope: &Scope<'_>, step: &Step, because: Option<String>) {
        let record = Record {
            name: step.name.clone(),
            kind: step.work.kind().to_owned(),
            of: step.work.of().to_owned(),
            success: because.is_none(),
            skipped: true,
            error: because.map(|why| Fault { class: Class::Conflict.row().name.into(), message: why, hint: None }),
            ..Record::default()
        };
        self.ended(scope, Rc::new(record));
    }

    fn ended(&self, scope: &Scope<'_>, record: Rc<Record>) {
        if !record.skipped {
            let mut counts = scope.counts.borrow_mut();
            counts.steps += 1;
            counts.failed += u64::from(!record.success);
            *scope.last.borrow_mut() = record.output.clone();
        }
        self.host.notice(&Event::StepEnded { record: &record });
        if record.kind == "agent" && record.success && !record.skipped {
            let text = record.details.get("text").cloned().unwrap_or_else(|| expand::text(&record.output).into());
            self.agents.borrow_mut().insert(record.of.clone(), text);
        }
        scope.steps.borrow_mut().put(record);
    }

    /// Runs one step with all its tries. An error is one that ends the workflow.
    async fn step<'s>(&'s self, scope: &'s Scope<'a>, step: &'a Step, place: Place) -> Result<()> {
        let unique = scope.compensates(step);
        if let Some((record, number, input)) = self.rows.step(&place, unique, &scope.shared) {
            self.resumed.set(self.resumed.get() + 1);
            self.ended(scope, Rc::new(record));
            remember(scope, step, place, number, input.ok_or(None));
            return Ok(());
        }
        if let Some(condition) = &step.when {
            let context = Rc::new(scope.context(&step.name, 1, Value::Null));
            if !self.holds(condition, context).await.map_err(|error| error.within(format!("step {}", step.name)))? {
                self.skip(scope, step, None);
                return Ok(());
            }
        }
        self.host.notice(&Event::StepBegan { step: &step.name });
        let began = Instant::now();
        let strategy = step.strategy.as_ref().unwrap_or(&scope.definition.strategy);
        let retry = match (&step.retry, strategy) {
            (Some(retry), _) | (None, Strategy::Retry(retry)) => retry.clone(),
            _ => Retry { attempts: 1, ..Retry::default() },
        };
        let mut attempts = 1;
        let result = loop {
            let once = self.once(scope, &step.work, &step.name, attempts, step.timeout, &place);
            match once.await {
                Err(error) if attempts < retry.attempts && may_pass(&error) => {
                    self.tasks.pause(retry.pause(attempts)).await;
                    attempts += 1;
                }
                result => break result,
            }
        };
        let mut record = Record {
            name: step.name.clone(),
            kind: step.work.kind().to_owned(),
            of: step.work.of().to_owned(),
            attempts,
            duration_ms: (began.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            ..Record::default()
        };
        match result {
            Ok((output, details)) => {
                record.success = true;
                (record.output, record.details) = (output, details);
                let record = Rc::new(record);
                scope.steps.borrow_mut().put(Rc::clone(&record));
                let input = step.undo.as_deref().map(|work| self.undo_input(scope, &step.name, work));
                let kept = input.as_ref().and_then(|input| input.as_ref().ok());
                let number = self.rows.keep_step(&place, unique, &record, kept, &scope.shared)?;
                self.ended(scope, record);
                if let Some(input) = input {
                    remember(scope, step, place, number, input.map_err(Some));
                }
                Ok(())
            }
            Err(error) => {
                record.error = Some(Fault::of(&error));
                let record = Rc::new(record);
                let goes_on = *strategy == Strategy::Continue;
                if goes_on {
                    self.rows.keep_step(&place, unique, &record, None, &scope.shared)?;
                }
                self.ended(scope, record);
                if goes_on { Ok(()) } else { Err(error.within(format!("step {}", step.name))) }
            }
        }
    }

    fn undo_input(&self, scope: &Scope<'_>, step: &str, work: &Work) -> Result<Value, Fault> {
        let given = match work {
            Work::Tool(_, input) | Work::Agent(_, input) | Work::Function(_, _, input) => input,
            Work::Workflow(_, Some(input)) => input,
            Work::Workflow(_, None) => return Ok((*scope.input).clone()),
        };
        expand::value(given, &scope.context(step, 1, Value::Null)).map_err(|error| Fault::of(&error))
    }

    /// One try: output and details.
    async fn once<'s>(
        &'s self,
        scope: &'s Scope<'a>,
        work: &'a Work,
        step: &str,
        attempt: u32,
        limit: Option<Duration>,
        place: &Place,
    ) -> Result<(Value, Map<String, Value>)> {
        let context = scope.context(step, attempt, Value::Null);
        let input = match work {
            Work::Tool(_, input)
            | Work::Agent(_, input)
            | Work::Function(_, _, input)
            | Work::Workflow(_, Some(input)) => Some(expand::value(input, &context)?),
            Work::Workflow(_, None) => None,
        };
        self.work(scope, work, input, context, limit, place).await
    }

    async fn work<'s>(
        &'s self,
        scope: &'s Scope<'a>,
        work: &'a Work,
        input: Option<Value>,
        context: Context,
        limit: Option<Duration>,
        place: &Place,
    ) -> Result<(Value, Map<String, Value>)> {
        match work {
            Work::Tool(name, _) => {
                let name = expand::string(name, &context)?;
                let input = input.unwrap_or_default();
                let job = self.tasks.job(|ticket| self.host.tool(ticket, &name, input, limit));
                match self.tasks.within(limit, job).await? {
                    Value::Object(mut envelope) => {
                        let output = envelope.get("result").cloned().unwrap_or_default();
                        envelope.remove("success");
                        Ok((output, envelope))
                    }
                    other => Ok((other, Map::new())),
                }
            }
            Work::Agent(name, _) => {
                let name = expand::string(name, &context)?;
                let input = input.unwrap_or_default();
                if matches!(&input, Value::String(text) if text.trim().is_empty()) {
                    return Err(usage(format!("agent {name}: its input is empty")));
                }
                let job = self.tasks.job(|ticket| self.host.agent(ticket, &name, input, limit, place.full()));
                match self.tasks.within(limit, job).await? {
                    Value::Object(answer) => {
                        let output = answer.get("data").or_else(|| answer.get("text")).cloned().unwrap_or_default();
                        Ok((output, answer))
                    }
                    other => Ok((other, Map::new())),
                }
            }
            Work::Function(number, ..) => {
                let context = Rc::new(Context { parameters: input.unwrap_or_default(), ..context });
                Ok((self.tasks.call(*number, context, limit).await?, Map::new()))
            }
            Work::Workflow(definition, _) => {
                let input = input.map_or_else(|| Rc::clone(&scope.input), Rc::new);
                {
                    // It starts with its own values where the execution has none of that name.
                    let mut shared = scope.shared.borrow_mut();
                    for (key, value) in &definition.shared {
                        if shared.get(key).is_none() {
                            shared.set(key, value.clone());
                        }
                    }
                }
                let turn = scope.turn.borrow().clone();
                let inner = Scope::new(self, definition, input, &scope.shared, turn, place.clone());
                let result = self.tasks.within(limit, self.definition(&inner)).await;
                let output = result.map_err(|error| error.within(format!("workflow {}", definition.name)))?;
                let outputs: Map<String, Value> =
                    inner.steps.borrow().iter().map(|record| (record.name.clone(), record.output.clone())).collect();
                let failed = inner.counts.borrow().failed;
                let details = json!({ "outputs": outputs, "failed_steps": failed });
                // What it did can still be undone by the one it is in.
                if definition.strategy == Strategy::Compensate {
                    self.hand_over(scope, inner);
                }
                Ok((output, details.as_object().cloned().unwrap_or_default()))
            }
        }
    }

    fn hand_over(&self, scope: &Scope<'a>, inner: Scope<'a>) {
        scope.undo.borrow_mut().extend(inner.undo.take());
    }

    /// Whether `condition` holds. Functions are asked one after another, and no more than is needed.
    fn holds<'s>(&'s self, condition: &'a Condition, context: Rc<Context>) -> Boxed<'s, Result<bool>> {
        Box::pin(async move {
            match condition {
                Condition::All(list) => {
                    for one in list {
                        if !self.holds(one, Rc::clone(&context)).await? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                }
                Condition::Any(list) => {
                    for one in list {
                        if self.holds(one, Rc::clone(&context)).await? {
                            return Ok(true);
                        }
                    }
                    Ok(false)
                }
                Condition::Not(inner) => Ok(!self.holds(inner, context).await?),
                plain => match plain.look(&context)? {
                    Known::Holds(holds) => Ok(holds),
                    Known::Ask(function) => {
                        let answer = self.tasks.call(function, context, None).await;
                        let answer = answer.map_err(|error| error.within("condition"))?;
                        Ok(!matches!(answer, Value::Null | Value::Bool(false)))
                    }
                },
            }
        })
    }

    /// What had been done before it failed, from the journal: a process was ended while it was being undone.
    fn recall(&self, scope: &Scope<'a>) {
        let definition: &'a Definition = scope.definition;
        let at = |step: &'a Step, place: Place| {
            if let Some((record, number, input)) = self.rows.step(&place, step.undo.is_some(), &scope.shared) {
                let success = record.success;
                self.ended(scope, Rc::new(record));
                if success {
                    remember(scope, step, place, number, input.ok_or(None));
                }
            }
        };
        match &definition.shape {
            Shape::Sequential(steps) | Shape::Graph(steps, _) => {
                steps.iter().for_each(|step| at(step, scope.place.inside(&step.name)));
            }
            Shape::Parallel(branches, _) => {
                for branch in branches {
                    let alone = matches!(&branch.steps[..], [step] if step.name == branch.name);
                    let place = if alone { scope.place.clone() } else { scope.place.inside(&branch.name) };
                    branch.steps.iter().for_each(|step| at(step, place.inside(&step.name)));
                }
            }
            Shape::Conditional { branches, otherwise, .. } => {
                for branch in branches.iter().map(|(_, branch)| branch).chain([otherwise]) {
                    let place = scope.place.inside(&branch.name);
                    branch.steps.iter().for_each(|step| at(step, place.inside(&step.name)));
                }
            }
            Shape::Loop { body, .. } => {
                let last = self.recall_passes(scope, body, &mut VecDeque::new());
                let place = scope.place.pass(last + 1);
                body.iter().for_each(|step| at(step, place.inside(&step.name)));
            }
        }
    }

    /// Undoes what was done, the last first; the error, with what came of that.
    async fn undo<'s>(&'s self, scope: &'s Scope<'a>, error: Error) -> Error {
        let mut done = scope.undo.take();
        done.sort_by_key(|undo| undo.number);
        self.host.notice(&Event::Undoing { steps: done.len() });
        let mut undone = 0;
        let mut failed = Vec::new();
        for undo in done.iter().rev() {
            let place = undo.place.inside("!undone");
            if self.rows.value(&place, &scope.shared).is_some() {
                undone += 1;
                continue;
            }
            let context = scope.context(&undo.name, 1, Value::Null);
            let result = match &undo.input {
                Ok(input) => self.work(scope, undo.work, Some(input.clone()), context, None, &place).await.map(drop),
                Err(fault) => Err(fault.error()),
            };
            match result.and_then(|()| self.rows.keep_value(&place, &Value::Bool(true), &scope.shared)) {
                Ok(()) => undone += 1,
                Err(error) => failed.push(format!("{}: {error}", undo.name)),
            }
        }
        let told = match (undone, &failed[..]) {
            (0, []) => "nothing had to be undone".to_owned(),
            (1, []) => "1 step was undone".to_owned(),
            (count, []) => format!("{count} steps were undone"),
            (count, failed) => format!("{count} undone, {} not: {}", failed.len(), failed.join("; ")),
        };
        let class = error.class();
        let hint = error.next_step().map(str::to_owned);
        let error = Error::new(class, format!("{}; {told}", error.text()));
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

fn keep(outputs: &mut VecDeque<Value>, output: Value) {
    if outputs.len() as u64 == KEPT_PASSES {
        outputs.pop_front();
    }
    outputs.push_back(output);
}

/// Puts a finished step on the list of what can be undone. `Err(None)`: nothing is known of its parameters.
fn remember<'s>(scope: &Scope<'s>, step: &'s Step, place: Place, number: u64, input: Result<Value, Option<Fault>>) {
    let Some(work) = step.undo.as_deref() else { return };
    let input = input.map_err(|fault| {
        fault.unwrap_or_else(|| Fault {
            class: Class::Bug.row().name.into(),
            message: "its parameters are not known any more".into(),
            hint: None,
        })
    });
    scope.undo.borrow_mut().push(Undo { number, place, name: step.name.clone(), work, input });
}

/// Whether it is worth trying again: what is wrong with the call itself stays wrong.
fn may_pass(error: &Error) -> bool {
    !matches!(
        error.class(),
        Class::Usage | Class::Config | Class::Denied | Class::NotFound | Class::Absent | Class::Bug
    )
}
