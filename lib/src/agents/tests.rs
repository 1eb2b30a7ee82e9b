//! The loop against models that say what a test needs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::approval::{Decision, decide};
use super::spec::{Approval, Limits, Mode, Overflow, Rule, Spec, ToolUse};
use super::*;
use crate::config::Config;
use crate::providers::{Delta, Deltas, Finish, Reply, Request, ToolDef};
use crate::security::{Grants, Policy, Profile};
use crate::tools::Cancel;

type Answering = dyn Fn(usize, &Request, &Cancel, &mut Deltas<'_>) -> Result<Reply> + Send + Sync;

/// A model that is a function of how often it was asked, and what.
struct Scripted {
    count: AtomicUsize,
    answer: Box<Answering>,
    seen: Mutex<Vec<Request>>,
}

impl Model for Scripted {
    fn name(&self) -> &str {
        "test/scripted"
    }

    fn ask(&self, request: &Request, cancel: &Cancel, deltas: &mut Deltas<'_>) -> Result<Reply> {
        self.seen.lock().unwrap().push(request.clone());
        (self.answer)(self.count.fetch_add(1, Ordering::SeqCst), request, cancel, deltas)
    }
}

fn scripted(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Arc<Scripted> {
    let answer = move |count, request: &Request, _: &Cancel, deltas: &mut Deltas<'_>| {
        let reply = answer(count, request);
        deltas(Delta::Text(reply.text()));
        Ok(reply)
    };
    Arc::new(Scripted { count: AtomicUsize::new(0), answer: Box::new(answer), seen: Mutex::default() })
}

fn says(text: &str) -> Reply {
    Reply { model: "scripted".into(), parts: vec![Part::Text { text: text.into() }], ..Reply::default() }
}

fn calls(calls: &[(&str, Value)]) -> Reply {
    let part = |(at, (name, arguments)): (usize, &(&str, Value))| Part::ToolCall {
        id: format!("id{at}"),
        name: (*name).into(),
        arguments: arguments.clone(),
        blob: None,
    };
    let parts = calls.iter().enumerate().map(part).collect();
    Reply { model: "scripted".into(), parts, finish: Finish::ToolCalls, ..Reply::default() }
}

/// Which turn of the run this request is, by what was answered before: so that a model can be asked again.
fn turn(request: &Request) -> usize {
    request.messages.iter().filter(|message| message.role == Role::Assistant).count()
}

fn results(request: &Request) -> Vec<(String, bool)> {
    let parts = request.messages.last().map(|message| message.parts.clone()).unwrap_or_default();
    parts
        .into_iter()
        .filter_map(|part| match part {
            Part::ToolResult { content, is_error, .. } => Some((content, is_error)),
            _ => None,
        })
        .collect()
}

struct World {
    agents: Arc<Agents>,
    dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    world_in(dir)
}

fn world_in(dir: tempfile::TempDir) -> World {
    let grants = Grants { profile: Profile::Privileged, workdir: dir.path().into(), ..Grants::default() };
    let runtime = Runtime::new(Config::default(), Policy::new(grants));
    runtime.state.keep_in(dir.path().join("store/k.db"));
    World { agents: Agents::new(runtime), dir }
}

fn tools(names: &[&str]) -> Vec<ToolUse> {
    names.iter().map(|name| ToolUse::Registry((*name).into())).collect()
}

impl World {
    fn agent(&self, spec: Spec, model: Arc<Scripted>) -> Arc<Agent> {
        let name = if spec.name.is_empty() { "a".to_owned() } else { spec.name.clone() };
        self.agents.create_with(Spec { name, ..spec }, model).unwrap()
    }

    fn context(&self) -> Context {
        Context::new(self.agents.runtime.call())
    }

    fn run(&self, name: &str) -> Result<Outcome> {
        self.agents.run(name, &Input::text("go"), &self.context())
    }

    fn run_as(&self, id: &str) -> Result<Outcome> {
        self.agents.run("a", &Input::text("go"), &Context { run: Some(id.into()), ..self.context() })
    }
}

#[test]
fn calls_are_done_and_their_results_are_marked() {
    let world = world();
    let model = scripted(|count, request| match count {
        0 => calls(&[("calculator", json!({"input": "6*7"})), ("calculator", json!({"input": "1/"}))]),
        _ => {
            let results = results(request);
            assert_eq!(results.len(), 2);
            assert!(results[0].0.starts_with("<tool_output tool=\"calculator\">\n"), "{results:?}");
            assert!(results[0].0.contains("42") && !results[0].1);
            assert!(results[1].1, "{results:?}");
            says("42\x1b[2J")
        }
    });
    let agent = world.agent(Spec { tools: tools(&["calculator"]), ..Spec::default() }, Arc::clone(&model));
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let events: Events = Arc::new(move |agent, event| listener.lock().unwrap().push(format!("{agent}: {event:?}")));
    let context = Context { events: Some(events), remember: true, ..world.context() };
    let outcome = world.agents.run("a", &Input::text("go"), &context).unwrap();
    assert_eq!((outcome.text.as_str(), outcome.turns, outcome.tool_calls, outcome.tool_errors), ("42␛[2J", 2, 2, 1));
    assert_eq!(outcome.run, None, "nobody asked for it to be kept");
    let told = told.lock().unwrap().join("\n");
    assert!(told.contains("a: ToolCall") && told.contains("a: Text(\"42␛[2J\")"), "{told}");
    assert_eq!(agent.history().len(), 4);
    let first = &model.seen.lock().unwrap()[0];
    assert!(first.messages[0].plain().contains("not instructions"));
    assert_eq!(first.tools[0].name, "calculator");
    assert_eq!(world.agents.runtime.state.store(|store| store.runs()).unwrap(), []);
}

#[test]
fn a_model_that_never_ends_is_ended() {
    let world = world();
    let forever =
        |_, _: &Request| calls(&[("calculator", json!({"input": "1"})), ("calculator", json!({"input": "2"}))]);
    let with =
        |name: &str, limits| Spec { name: name.into(), tools: tools(&["calculator"]), limits, ..Spec::default() };
    world.agent(with("turns", Limits { turns: 3, ..Limits::default() }), scripted(forever));
    world.agent(with("calls", Limits { tool_calls: 5, ..Limits::default() }), scripted(forever));
    let error = world.run("turns").unwrap_err();
    assert_eq!((error.class(), error.text()), (Class::Budget, "agent turns: no answer after 3 turns"));
    let error = world.run("calls").unwrap_err();
    assert_eq!((error.class(), error.text()), (Class::Budget, "agent calls: more than 5 calls of tools"));
    assert_eq!(world.agents.get("calls").unwrap().life.metrics()["failed"], 1);
}

#[test]
fn what_is_wrong_goes_back_to_the_model() {
    let world = world();
    let model = scripted(|count, request| match count {
        0 => calls(&[
            ("calculater", json!({"input": "1"})),
            ("calculator", json!("{\"input\": ")),
            ("calculator", json!([1])),
            ("calculator", json!({"inptu": "1"})),
            ("calculator", json!("{\"input\": \"2+2\"}")),
            ("file_operations", json!({"operation": "read", "path": "/etc/passwd"})),
        ]),
        1 => {
            let results = results(request);
            let find = |at: usize, text: &str| assert!(results[at].0.contains(text), "{:?}", results[at]);
            find(0, "did you mean calculator?");
            find(1, "not JSON");
            find(2, "not a JSON object");
            find(3, "did you mean input?");
            find(4, "4");
            find(5, "no tool");
            let cut = calls(&[("calculator", json!({"input": "3"}))]);
            Reply { finish: Finish::Length, ..cut }
        }
        _ => {
            assert!(results(request)[0].0.contains("cut off"));
            says("done")
        }
    });
    world.agent(Spec { tools: tools(&["calculator"]), ..Spec::default() }, model);
    let outcome = world.run("a").unwrap();
    assert_eq!((outcome.tool_calls, outcome.tool_errors), (7, 6));
}

#[test]
fn long_results_are_cut_with_a_mark() {
    let world = world();
    let model = scripted(|count, request| match count {
        0 => calls(&[("text_manipulator", json!({"operation": "repeat", "input": "x", "options": {"count": 5000}}))]),
        _ => says(&results(request)[0].0),
    });
    let limits = Limits { result_bytes: 100, ..Limits::default() };
    world.agent(Spec { tools: tools(&["text_manipulator"]), limits, ..Spec::default() }, model);
    let text = world.run("a").unwrap().text;
    assert!(text.len() < 300, "{text}");
    assert!(text.contains("[cut: ") || text.contains("error"), "{text}");
}

fn writes(path: &str) -> Value {
    json!({"operation": "write", "path": path, "input": "x"})
}

#[test]
fn what_writes_waits_for_a_person_and_is_done_once() {
    let world = world();
    let model = scripted(|_, request| match turn(request) {
        0 => calls(&[
            ("file_operations", writes("a.txt")),
            ("calculator", json!({"input": "1+1"})),
            ("file_operations", json!({"operation": "append", "path": "log.txt", "input": "x"})),
        ]),
        _ => says(&results(request).iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("|")),
    });
    let spec = Spec { tools: tools(&["file_operations", "calculator"]), ..Spec::default() };
    world.agent(spec, Arc::clone(&model));
    let paused = world.run_as("r1").unwrap();
    assert_eq!((paused.finish.as_str(), paused.waiting.len()), ("paused", 2));
    assert!(!world.dir.path().join("a.txt").exists());
    // Nothing has changed: it still waits, and the model is not asked again.
    assert_eq!(world.run_as("r1").unwrap().waiting, paused.waiting);
    assert_eq!(model.count.load(Ordering::SeqCst), 1);
    let state = &world.agents.runtime.state;
    let edited = Decision::Edit(writes("b.txt"));
    decide(state, &paused.waiting[0].id, &edited).unwrap();
    assert_eq!(decide(state, &paused.waiting[0].id, &Decision::Approve).unwrap_err().class(), Class::Conflict);
    assert_eq!(decide(state, "zzz", &Decision::Approve).unwrap_err().class(), Class::NotFound);
    assert_eq!(world.run_as("r1").unwrap().waiting.len(), 1);
    assert!(world.dir.path().join("b.txt").exists() && !world.dir.path().join("a.txt").exists());
    std::fs::remove_file(world.dir.path().join("b.txt")).unwrap();
    decide(state, &paused.waiting[1].id, &Decision::Deny(Some("not today".into()))).unwrap();
    let outcome = world.run_as("r1").unwrap();
    assert!(outcome.text.contains("denied by a person: not today"), "{}", outcome.text);
    assert!(!world.dir.path().join("b.txt").exists(), "done twice");
    assert_eq!((model.count.load(Ordering::SeqCst), outcome.turns), (2, 2));
    // It is over: what it answered is answered again.
    assert_eq!(world.run_as("r1").unwrap().text, outcome.text);
    assert_eq!(model.count.load(Ordering::SeqCst), 2);
}

#[test]
fn who_waits_is_woken_by_a_decision() {
    let world = world();
    let model = scripted(|_, request| match turn(request) {
        0 => calls(&[("file_operations", writes("a.txt"))]),
        _ => says("written"),
    });
    let approval = Approval { mode: Mode::Wait, ..Approval::default() };
    world.agent(Spec { tools: tools(&["file_operations"]), approval, ..Spec::default() }, model);
    let (sender, asked) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    let events: Events = Arc::new(move |_, event| {
        if let Event::Approval(waiting) = event {
            sender.lock().unwrap().send(waiting.id).unwrap();
        }
    });
    let context = Context { events: Some(events), ..world.context() };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| world.agents.run("a", &Input::text("go"), &context));
        let id = asked.recv_timeout(Duration::from_secs(30)).unwrap();
        // As another process would, with a connection of its own.
        let other = crate::state::State::default();
        other.keep_in(world.dir.path().join("store/k.db"));
        decide(&other, &id[..4], &Decision::Approve).unwrap();
        assert_eq!(run.join().unwrap().unwrap().text, "written");
    });
    assert!(world.dir.path().join("a.txt").exists());
}

#[test]
fn rules_decide_before_people_do() {
    let world = world();
    let model = || {
        scripted(|_, request| match turn(request) {
            0 => calls(&[("file_operations", writes("a.txt"))]),
            _ => says(&results(request)[0].0),
        })
    };
    let with = |name: &str, rule: Rule, mode| Spec {
        name: name.into(),
        tools: tools(&["file_operations"]),
        approval: Approval { rules: BTreeMap::from([("file_operations".into(), rule)]), mode, ..Approval::default() },
        ..Spec::default()
    };
    world.agent(with("deny", Rule::Deny, Mode::Pause), model());
    assert!(world.run("deny").unwrap().text.contains("not allowed"));
    world.agent(with("never", Rule::Never, Mode::Pause), model());
    assert!(!world.run("never").unwrap().is_paused());
    let function = Function(Arc::new(()));
    world.agent(with("script", Rule::Ask(function), Mode::Pause), model());
    let caller: Caller = Arc::new(|_, arguments| {
        assert_eq!(arguments[0]["tool"], "file_operations");
        Ok(json!("too late"))
    });
    let context = Context { script: Some(caller), ..world.context() };
    let outcome = world.agents.run("script", &Input::text("go"), &context).unwrap();
    assert!(outcome.text.contains("too late"), "{}", outcome.text);
    world.agent(with("ask", Rule::ByEffect, Mode::Ask), model());
    let asker: Asker = Arc::new(|waiting| {
        assert_eq!(waiting.tool, "file_operations");
        Ok(Some(Decision::Edit(writes("c.txt"))))
    });
    let context = Context { asker: Some(asker), ..world.context() };
    assert!(!world.agents.run("ask", &Input::text("go"), &context).unwrap().is_paused());
    assert!(world.dir.path().join("c.txt").exists());
}

/// A function of a script that counts its calls.
fn counting(name: &str, repeatable: bool) -> ToolUse {
    let def = ToolDef { name: name.into(), description: String::new(), parameters: json!({"type": "object"}) };
    ToolUse::Function { def, function: Function(Arc::new(name.to_owned())), repeatable }
}

#[test]
fn a_run_goes_on_where_it_was_killed_at_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store/k.db");
    // Each pass dies at the next step, as if the process had been killed: an error that ends the run at once, with the
    // journal as it is. Counts say how often each thing was done over all passes.
    let asked = Arc::new(Mutex::new(BTreeMap::<usize, usize>::new()));
    let done = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let mut passes = 0;
    let text = loop {
        passes += 1;
        assert!(passes < 30);
        let world = world();
        let runtime =
            Runtime::new(Config::default(), Policy::new(Grants { workdir: dir.path().into(), ..Grants::default() }));
        runtime.state.keep_in(file.clone());
        let agents = Agents::new(runtime);
        // Alive for one more thing than the pass before.
        let left = Arc::new(AtomicUsize::new(1));
        let dies = |left: &AtomicUsize| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .map(drop)
                .map_err(|_| Error::new(Class::Interrupted, "killed"))
        };
        let (asked, life) = (Arc::clone(&asked), Arc::clone(&left));
        let answer = move |_, request: &Request, _: &Cancel, _: &mut Deltas<'_>| {
            dies(&life)?;
            *asked.lock().unwrap().entry(turn(request)).or_default() += 1;
            Ok(match turn(request) {
                0 => calls(&[("one", json!({})), ("two", json!({}))]),
                1 => calls(&[("three", json!({}))]),
                _ => says("over"),
            })
        };
        let model = Arc::new(Scripted { count: AtomicUsize::new(0), answer: Box::new(answer), seen: Mutex::default() });
        let limits = Limits { parallel: 1, ..Limits::default() };
        let all = ["one", "two", "three"].map(|name| counting(name, true)).to_vec();
        agents.create_with(Spec { name: "a".into(), tools: all, limits, ..Spec::default() }, model).unwrap();
        let (done, life) = (Arc::clone(&done), left);
        let caller: Caller = Arc::new(move |function, _| {
            dies(&life)?;
            let name = function.0.downcast_ref::<String>().unwrap().clone();
            *done.lock().unwrap().entry(name).or_default() += 1;
            Ok(json!("fine"))
        });
        let context = Context { script: Some(caller), run: Some("r".into()), ..Context::new(agents.runtime.call()) };
        match agents.run("a", &Input::text("go"), &context) {
            Ok(outcome) => break outcome.text,
            Err(error) => assert_eq!(error.class(), Class::Interrupted),
        }
        drop(world);
    };
    assert_eq!((text.as_str(), passes), ("over", 6));
    assert!(asked.lock().unwrap().values().all(|count| *count == 1), "{asked:?}");
    assert_eq!(done.lock().unwrap().values().copied().collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn what_was_under_way_is_not_done_again_unless_it_may() {
    for (repeatable, times) in [(false, 1), (true, 2)] {
        let world = world();
        let model = scripted(|_, request| match turn(request) {
            0 => calls(&[("send", json!({}))]),
            _ => says(&results(request)[0].0),
        });
        world.agent(Spec { tools: vec![counting("send", repeatable)], ..Spec::default() }, model);
        let count = Arc::new(AtomicUsize::new(0));
        let sent = Arc::clone(&count);
        // The first time it is sent, and the process ends before that is known.
        let caller: Caller = Arc::new(move |_, _| match sent.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Error::new(Class::Interrupted, "killed")),
            _ => Ok(json!("sent")),
        });
        let context = Context { script: Some(caller), run: Some("r".into()), ..world.context() };
        world.agents.run("a", &Input::text("go"), &context).unwrap_err();
        let text = world.agents.run("a", &Input::text("go"), &context).unwrap().text;
        assert_eq!(count.load(Ordering::SeqCst), times);
        assert_eq!(text.contains("it was not done again"), !repeatable, "{text}");
    }
}

#[test]
fn an_end_comes_at_once_and_time_is_limited() {
    let world = world();
    let waits = || {
        let answer = |_, _: &Request, cancel: &Cancel, _: &mut Deltas<'_>| {
            cancel.poll(&[], None).unwrap();
            Err(Error::new(Class::Interrupted, "cancelled"))
        };
        Arc::new(Scripted { count: AtomicUsize::new(0), answer: Box::new(answer), seen: Mutex::default() })
    };
    let limits = Limits { time: Duration::from_millis(20), ..Limits::default() };
    world.agent(Spec { name: "slow".into(), limits, ..Spec::default() }, waits());
    assert_eq!(world.run("slow").unwrap_err().class(), Class::Timeout);
    world.agent(Spec::default(), waits());
    let context = world.context();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| world.agents.run("a", &Input::text("go"), &context));
        context.call.cancel.cancel();
        assert_eq!(run.join().unwrap().unwrap_err().class(), Class::Interrupted);
    });
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(world.agents.get("a").unwrap().life.metrics()["interrupted"], 1);
}

#[test]
fn agents_are_tools_of_agents() {
    let world = world();
    world.agent(Spec { name: "inner".into(), tools: tools(&["file_operations"]), ..Spec::default() }, {
        scripted(|_, request| match turn(request) {
            0 => calls(&[("file_operations", writes("x.txt"))]),
            _ => says("inner is done"),
        })
    });
    let ask = ToolUse::Agent { name: "helper".into(), agent: "inner".into(), description: "helps".into() };
    let outer = scripted(|_, request| match turn(request) {
        0 => calls(&[("helper", json!({"input": "do it"})), ("helper", json!({}))]),
        _ => {
            assert!(results(request)[1].0.contains("input: missing"));
            says(&results(request)[0].0)
        }
    });
    world.agent(Spec { tools: vec![ask], ..Spec::default() }, outer);
    let paused = world.run_as("r").unwrap();
    assert_eq!((paused.waiting.len(), paused.waiting[0].agent.as_str()), (1, "inner"));
    decide(&world.agents.runtime.state, &paused.waiting[0].id, &Decision::Approve).unwrap();
    assert!(world.run_as("r").unwrap().text.contains("inner is done"));
    // One that calls itself ends.
    let itself = scripted(|_, request| match turn(request) {
        0 => calls(&[("me", json!({"input": "again"}))]),
        _ => says("end"),
    });
    let limits = Limits { depth: 3, ..Limits::default() };
    world.agent(Spec { name: "loop".into(), limits: limits.clone(), ..Spec::default() }, scripted(|_, _| says("x")));
    world.agents.remove("loop");
    let me = ToolUse::Agent { name: "me".into(), agent: "loop".into(), description: String::new() };
    let agent = Agent {
        spec: Spec { name: "loop".into(), tools: vec![me], limits, ..Spec::default() },
        life: Life::default(),
        model: itself,
        conversation: Mutex::default(),
    };
    world.agents.agents.write().unwrap().insert("loop".into(), Arc::new(agent));
    assert_eq!(world.run("loop").unwrap_err().class(), Class::Budget);
}

#[test]
fn a_wrapped_agent_is_a_tool_of_everybody() {
    let world = world();
    world.agent(
        Spec { description: "knows".into(), ..Spec::default() },
        scripted(|_, request| says(&format!("you said {}", request.messages.last().unwrap().plain()))),
    );
    world.agents.wrap("a", "a_tool", None).unwrap();
    assert_eq!(world.agents.wrap("a", "calculator", None).unwrap_err().class(), Class::Conflict);
    let runtime = &world.agents.runtime;
    assert_eq!(runtime.registry.info("a_tool").unwrap()["summary"], "knows");
    let (sender, done) = std::sync::mpsc::channel();
    runtime.invoke("a_tool", json!({"input": "hi"}), Default::default(), move |result| sender.send(result).unwrap());
    let envelope = done.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    assert_eq!(envelope["text"], "you said hi");
    assert!(runtime.registry.search(&["knows".into()], None).unwrap().iter().any(|row| row["name"] == "a_tool"));
}

#[test]
fn a_budget_of_a_provider_ends_all() {
    let world = world();
    let spent = |_, _: &Request, _: &Cancel, _: &mut Deltas<'_>| Err(Error::new(Class::Budget, "spent"));
    let model = Arc::new(Scripted { count: AtomicUsize::new(0), answer: Box::new(spent), seen: Mutex::default() });
    world.agent(Spec { name: "inner".into(), ..Spec::default() }, model);
    let ask = ToolUse::Agent { name: "helper".into(), agent: "inner".into(), description: String::new() };
    world.agent(
        Spec { tools: vec![ask], ..Spec::default() },
        scripted(|_, _| calls(&[("helper", json!({"input": "x"}))])),
    );
    let error = world.run("a").unwrap_err();
    assert_eq!((error.class(), error.text()), (Class::Budget, "agent a: agent inner: spent"));
}

#[test]
fn conversations_are_made_to_fit() {
    let world = world();
    let model = || {
        scripted(|_, request| match request.messages.last().unwrap().plain() {
            text if text.starts_with("Summarise") => says("they spoke of whales"),
            _ => says(&request.messages.iter().map(Message::plain).collect::<Vec<_>>().join("/")),
        })
    };
    for (name, overflow) in [("trim", Overflow::Trim), ("sum", Overflow::Summarise), ("fail", Overflow::Fail)] {
        let spec =
            Spec { name: name.into(), context_window: Some(400), overflow, max_tokens: Some(100), ..Spec::default() };
        let agent = world.agent(spec, model());
        let long = "whale ".repeat(300);
        agent.set_history(vec![Message::text(Role::User, long), Message::text(Role::Assistant, "fine")]);
        let context = Context { remember: true, ..world.context() };
        let outcome = world.agents.run(name, &Input::text("and now?"), &context);
        match name {
            "trim" => assert_eq!(outcome.unwrap().text, "and now?"),
            "sum" => {
                assert_eq!(outcome.unwrap().text, "[Summary of what was said before: they spoke of whales]/and now?");
            }
            _ => assert_eq!(outcome.unwrap_err().class(), Class::Usage),
        }
    }
}

#[test]
fn answers_fit_the_schema_or_are_refused() {
    let world = world();
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}});
    for (name, text, ends_well) in [("a", " {\"a\": 1}\n", true), ("b", "{\"a\": \"x\"}", false), ("c", "Sure!", false)]
    {
        let spec = Spec { name: name.into(), schema: Some(schema.clone()), ..Spec::default() };
        world.agent(spec, scripted(move |_, _| says(text)));
        match world.run(name) {
            Ok(outcome) => assert_eq!((outcome.data, ends_well), (Some(json!({"a": 1})), true)),
            Err(error) => assert_eq!((error.class(), ends_well), (Class::Remote, false)),
        }
    }
}

#[test]
fn many_run_side_by_side() {
    let world = world();
    let answer = |_, _: &Request, cancel: &Cancel, _: &mut Deltas<'_>| {
        cancel.poll(&[], Some(Instant::now() + Duration::from_millis(100))).unwrap();
        Ok(says("x"))
    };
    let model = Arc::new(Scripted { count: AtomicUsize::new(0), answer: Box::new(answer), seen: Mutex::default() });
    world.agent(Spec::default(), model);
    let (sender, done) = std::sync::mpsc::channel();
    for _ in 0..100 {
        let (agents, sender) = (Arc::clone(&world.agents), sender.clone());
        let work = move |call: &Call| agents.run("a", &Input::text("go"), &Context::new(call.clone()));
        world.agents.runtime.spawn(Default::default(), work, move |result| sender.send(result).unwrap());
    }
    for _ in 0..100 {
        done.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    }
    assert_eq!(world.agents.get("a").unwrap().life.metrics()["successful"], 100);
}
