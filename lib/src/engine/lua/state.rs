//! The engine itself: a state, and how a script runs in it.
#![expect(unsafe_code, reason = "calls the script with a message handler of our own")]

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mlua::{Function, IntoLua, LuaOptions, MultiValue, Value};
use mlua_sys as ffi;

use super::interrupt::{self, Alarm, Shared, Stop};
use super::look::{self, Context, Seen};
use super::run::{Frame, Run};
use super::traceback::{self, Trace};
use super::{
    absent, agent, ask, comm, complete, completion, coroutine, display, expression, fault, file, global_config,
    global_debug, global_logger, global_state, inspect, json, process, show, stdlib, streaming, suggest, tool,
};
use crate::agents::Agents;
use crate::engine::{
    Args, Completeness, Completions, Engine, Excerpt, Inspected, Interrupter, Language, Outcome, Output, Script,
    ScriptError, Shown,
};
use crate::error::{Class, Error, Result};
use crate::protocol::content::{Comm, CommKind};
use crate::runtime::Runtime;

/// Lines shown before and behind that of an error.
const AROUND: usize = 2;

/// A Lua state on its script thread.
pub struct Lua {
    /// Never closed: that would run finalizers of scripts, of which nothing could end one that loops. A process has one
    /// engine for its life, so nothing is lost but in tests.
    lua: ManuallyDrop<mlua::Lua>,
    /// Its main state, in which scripts start.
    main: *mut ffi::lua_State,
    shared: Arc<Shared>,
    runtime: Arc<Runtime>,
}

/// How a script failed, before it is told.
enum Failure {
    /// By an error of ours.
    Error(Error),
    /// It does not compile.
    Syntax(String),
    /// It raised this.
    Raised(Value),
}

impl From<mlua::Error> for Failure {
    fn from(error: mlua::Error) -> Self {
        match error {
            mlua::Error::SyntaxError { message, .. } => Failure::Syntax(message),
            error => Failure::Error(Error::new(Class::Script, fault::first_line(&error))),
        }
    }
}

impl Lua {
    /// Opens a state with the libraries the policy allows.
    ///
    /// # Errors
    /// `System` when there is no memory.
    pub fn new(runtime: Arc<Runtime>) -> Result<Self> {
        interrupt::prepare()?;
        let open = || -> mlua::Result<_> {
            // With its option to let panics through, mlua would replace `pcall`; no function of ours lets one out.
            let lua = mlua::Lua::new_with(stdlib::libraries(), LuaOptions::new())?;
            let mut main = std::ptr::null_mut();
            // SAFETY: only looks at which state this is.
            unsafe { lua.exec_raw::<()>((), |state| main = state)? };
            stdlib::open(&lua, &runtime)?;
            coroutine::open(&lua)?;
            json::open(&lua)?;
            display::open(&lua)?;
            tool::open(&lua)?;
            lua.set_app_data(Agents::new(Arc::clone(&runtime)));
            agent::open(&lua)?;
            ask::open(&lua)?;
            global_state::open(&lua)?;
            comm::open(&lua)?;
            inspect::open(&lua)?;
            streaming::open(&lua)?;
            global_config::open(&lua)?;
            global_logger::open(&lua)?;
            global_debug::open(&lua)?;
            absent::open(&lua)?;
            lua.set_app_data(Rc::new(Context { runtime: Arc::clone(&runtime), seen: RefCell::new(Seen::default()) }));
            let limit = runtime.config.engines.lua.max_memory_bytes;
            lua.set_memory_limit(usize::try_from(limit).unwrap_or(usize::MAX))?;
            Ok((lua, main))
        };
        let (lua, main) =
            open().map_err(|error| Error::new(Class::System, format!("lua: {}", fault::first_line(&error))))?;
        Ok(Lua { lua: ManuallyDrop::new(lua), main, shared: Shared::new(), runtime })
    }

    /// The state, for tests that add functions of their own.
    #[cfg(test)]
    pub(super) fn state(&self) -> &mlua::Lua {
        &self.lua
    }

    /// Compiles and runs within the reach of an interrupt; the text of the values belongs to it, as `__tostring` may loop.
    fn run(&self, script: &Script<'_>) -> Result<Option<Shown>, Failure> {
        self.arguments(script.args.as_ref())?;
        let words = script.args.iter().flat_map(|args| &args.words);
        let mut values = words.map(|word| word.as_str().into_lua(&self.lua)).collect::<mlua::Result<MultiValue>>()?;
        values.push_front(Value::Function(self.compile(script)?));
        Ok(show::shown(&self.lua, &self.call(values)?))
    }

    /// Calls the first of `values` with the others.
    fn call(&self, values: MultiValue) -> Result<MultiValue, Failure> {
        let mut status = ffi::LUA_OK;
        // SAFETY: function and arguments are all there is on this stack; the handler goes below them and away again.
        let mut values: MultiValue = unsafe {
            self.lua.exec_raw(values, |state| {
                ffi::lua_pushcfunction(state, traceback::handler);
                ffi::lua_insert(state, 1);
                status = ffi::lua_pcall(state, ffi::lua_gettop(state) - 2, ffi::LUA_MULTRET, 1);
                ffi::lua_remove(state, 1);
            })?
        };
        match status {
            ffi::LUA_OK => Ok(values),
            ffi::LUA_ERRMEM => {
                drop(values);
                self.lua.gc_collect()?;
                Err(Failure::Error(
                    Error::new(Class::Script, "not enough memory").hint("The limit is engines.lua.max_memory_bytes."),
                ))
            }
            _ => Err(Failure::Raised(values.pop_front().unwrap_or(Value::Nil))),
        }
    }

    /// Keeps of a script what errors, completion and inspection look for: its text, where its paths start.
    fn remember(&self, script: &Script<'_>) {
        let Some(context) = look::context(&self.lua) else { return };
        let mut seen = context.seen.borrow_mut();
        seen.keep(&script.name, script.code);
        if let Some(cwd) = &script.cwd {
            seen.cwd = Some(cwd.clone());
        }
        if let Some(path) = script.name.strip_prefix('@') {
            let cwd = seen.cwd.as_deref().unwrap_or(self.runtime.policy.workdir());
            seen.folder = cwd.join(path).parent().map(Into::into);
        }
    }

    /// Runs `body` as `script`, within the reach of an interrupt and of its deadline.
    fn guard(
        &self,
        script: &Script<'_>,
        output: &Arc<dyn Output>,
        body: impl FnOnce() -> Result<Option<Shown>, Failure>,
    ) -> Outcome {
        let run = Run::new(&self.shared, &self.runtime, script, output);
        let frame = Frame::root(&run, self.main);
        let started = process::started();
        let (result, stop) = frame.enter(|| {
            let number = self.shared.begin();
            if output.is_stopped() {
                run.stop(Stop::Interrupt);
            }
            let alarm = script.deadline.map(|at| Alarm::set(at, &self.shared, number)).transpose();
            let result = alarm.map_err(Failure::Error).and_then(|_alarm| {
                let body = || {
                    body().map_err(|failure| {
                        let trace = run.trace.borrow().clone();
                        self.tell(failure, trace)
                    })
                };
                // What a panic leaves behind is Lua's, whose stack unwound with it.
                catch_unwind(AssertUnwindSafe(body)).map_err(|panic| Failure::Error(fault::panicked(panic.as_ref())))
            });
            (result, self.shared.end())
        });
        // SAFETY: the state is ours and this is its thread.
        unsafe { interrupt::disarm(self.main) };
        if stop.is_some_and(|stop| stop != Stop::Exit) {
            process::kill_since(started);
        }
        outcome(self, &run, result, stop)
    }

    /// The script as a function: an expression if it is one, else statements.
    fn compile(&self, script: &Script<'_>) -> Result<Function, Failure> {
        if let Some(function) = expression::compile_value(&self.lua, script.code, &script.name) {
            return Ok(function);
        }
        Ok(stdlib::compile(&self.lua, script.code, &script.name, None)?)
    }

    /// Sets `ARGS` and `arg`.
    fn arguments(&self, args: Option<&Args>) -> mlua::Result<()> {
        let globals = self.lua.globals();
        let Some(args) = args else {
            globals.raw_set("ARGS", Value::Nil)?;
            return globals.raw_set("arg", Value::Nil);
        };
        let (numbered, named) = args.parse();
        let all = self.lua.create_table()?;
        for (key, value) in &named {
            all.raw_set(key.as_str(), json::to_lua(&self.lua, value)?)?;
        }
        for (index, word) in std::iter::once(&args.script).chain(&numbered).enumerate() {
            all.raw_set(index, word.as_str())?;
            all.raw_set(index.to_string(), word.as_str())?;
        }
        let typed = self.lua.create_sequence_from(args.words.iter().map(String::as_str))?;
        typed.raw_set(0, args.script.as_str())?;
        globals.raw_set("ARGS", all)?;
        globals.raw_set("arg", typed)
    }

    /// What the failure is to the user.
    fn tell(&self, failure: Failure, trace: Option<Trace>) -> ScriptError {
        let trace = trace.unwrap_or_default();
        let (class, ename, evalue, hint) = match failure {
            Failure::Error(error) => {
                let hint = error.next_step().map(str::to_owned);
                let ename = error.class().row().ename;
                (error.class(), ename.to_owned(), format!("{}{error}", trace.place), hint)
            }
            Failure::Syntax(message) => (Class::Script, "SyntaxError".into(), message, None),
            Failure::Raised(value) => self.tell_value(&value, &trace.place),
        };
        let traceback = std::iter::once(evalue.clone()).chain(trace.lines).collect();
        let excerpt = self.excerpt(&evalue).or_else(|| self.excerpt(&trace.place));
        let hint = hint.or_else(|| suggest::hint(&self.lua, &evalue, excerpt.as_ref()?.text()));
        ScriptError { class, ename, evalue, traceback, hint, excerpt }
    }

    /// The lines around the place that `text` starts with.
    fn excerpt(&self, text: &str) -> Option<Box<Excerpt>> {
        let context = look::context(&self.lua)?;
        let seen = context.seen.borrow();
        let (code, behind) = seen.at(text)?;
        let line: usize = behind.split(':').next()?.parse().ok()?;
        let first = line.saturating_sub(AROUND).max(1);
        let line_text = |line: &[u8]| String::from_utf8_lossy(line).chars().take(200).collect();
        let code = code.strip_suffix(b"\n").unwrap_or(code);
        let lines = code.split(|byte| *byte == b'\n').skip(first - 1).take(line - first + 1 + AROUND);
        let lines: Vec<String> = lines.map(line_text).collect();
        (line < first + lines.len()).then(|| Box::new(Excerpt { first, line, lines }))
    }

    /// A raised value: text as it stands; a table by its `__tostring`, message or JSON, its class kept when it is one of ours.
    fn tell_value(&self, value: &Value, place: &str) -> (Class, String, String, Option<String>) {
        let plain = |text: String| (Class::Script, Class::Script.row().ename.to_owned(), text, None);
        let table = match value {
            Value::String(text) => return plain(text.to_string_lossy()),
            Value::Error(error) => return plain(fault::first_line(error)),
            Value::Table(table) => table,
            other => {
                return plain(format!(
                    "{place}(error object is a {} value: {})",
                    other.type_name(),
                    show::to_string(&self.lua, other)
                ));
            }
        };
        let field = |name: &str| table.raw_get::<Option<String>>(name).ok().flatten();
        let has_text = table.metatable().is_some_and(|meta| meta.contains_key("__tostring").unwrap_or(false));
        let text = has_text
            .then(|| show::to_string(&self.lua, value))
            .or_else(|| ["message", "msg", "text"].into_iter().find_map(field))
            .or_else(|| json::from_lua(&self.lua, value).ok().map(|json| json.to_string()))
            .unwrap_or_else(|| show::to_string(&self.lua, value));
        let known = |name: String| crate::error::CLASSES.iter().find(|row| row.name == name);
        let row = field("class").and_then(known).unwrap_or(Class::Script.row());
        (row.class, row.ename.to_owned(), format!("{place}{text}"), field("hint"))
    }
}

impl Drop for Lua {
    /// What scripts wrote into files they left open gets there, however the process goes on to end.
    fn drop(&mut self) {
        process::let_go();
        file::flush_all();
    }
}

impl Engine for Lua {
    fn language(&self) -> Language {
        let version = version();
        Language {
            name: "lua",
            version,
            mimetype: "text/x-lua",
            file_extension: ".lua",
            pygments_lexer: "lua",
            codemirror_mode: "lua",
            nbconvert_exporter: "script",
        }
    }

    fn execute(&mut self, script: &Script<'_>, output: &Arc<dyn Output>) -> Outcome {
        self.remember(script);
        self.guard(script, output, || self.run(script))
    }

    fn is_complete(&mut self, code: &str) -> Completeness {
        complete::is_complete(&self.lua, code)
    }

    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        // Asked with every key: a fault of ours is not to end the kernel.
        catch_unwind(AssertUnwindSafe(|| completion::complete(&self.lua, code, cursor))).unwrap_or_else(|panic| {
            log::error!("complete: {}", fault::panicked(panic.as_ref()));
            Completions { start: cursor, end: cursor, ..Completions::default() }
        })
    }

    fn inspect(&mut self, code: &str, cursor: usize, source: bool) -> Option<Inspected> {
        catch_unwind(AssertUnwindSafe(|| inspect::inspect(&self.lua, code, cursor, source))).unwrap_or_else(|panic| {
            log::error!("inspect: {}", fault::panicked(panic.as_ref()));
            None
        })
    }

    fn comm(&mut self, message: &Comm, deadline: Option<Instant>, output: &Arc<dyn Output>) -> Option<Outcome> {
        let script = Script { name: format!("={}", message.kind.name()), deadline, ..Script::default() };
        let call = match comm::arrived(&self.lua, message) {
            Ok(None) => return None,
            Ok(Some(None)) => return Some(Outcome::default()),
            Ok(Some(Some(call))) => Ok(call),
            Err(error) => Err(error),
        };
        let outcome = self.guard(&script, output, || {
            let (function, args) = call?;
            let mut values = MultiValue::from_vec(args);
            values.push_front(Value::Function(function));
            self.call(values).map(|_| None)
        });
        if outcome.error.is_some() && message.kind == CommKind::Open {
            comm::forget(&self.lua, &message.content.comm_id);
        }
        Some(outcome)
    }

    fn comms(&mut self) -> Vec<(String, String)> {
        comm::list(&self.lua)
    }

    fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::clone(&self.shared) as _)
    }
}

/// `5.4.8`, from Lua's own mark in the program.
fn version() -> String {
    unsafe extern "C" {
        /// `$LuaVersion: Lua 5.4.8  Copyright …`
        static lua_ident: std::ffi::c_char;
    }
    // SAFETY: a constant text of liblua that ends with a zero.
    let ident = unsafe { std::ffi::CStr::from_ptr(&raw const lua_ident) }.to_string_lossy();
    ident.split_whitespace().nth(2).unwrap_or("5.4").to_owned()
}

/// A stop decides how a script ended, whatever it was doing.
fn outcome(
    engine: &Lua,
    run: &Rc<Run>,
    result: Result<Result<Option<Shown>, ScriptError>, Failure>,
    stop: Option<Stop>,
) -> Outcome {
    let error = match stop {
        Some(Stop::Exit) => return Outcome { exit: Some(run.exit.get()), ..Outcome::default() },
        Some(Stop::Interrupt) => Some(Error::new(Class::Interrupted, "interrupted")),
        Some(Stop::Deadline) => Some(Error::new(Class::Timeout, "time limit reached")),
        Some(Stop::Closed) => run.closed.take(),
        None => None,
    };
    let failed = |failure| Outcome { error: Some(engine.tell(failure, run.trace.take())), ..Outcome::default() };
    match (error, result) {
        (Some(error), _) => failed(Failure::Error(error)),
        (None, Ok(Ok(value))) => Outcome { value, ..Outcome::default() },
        (None, Ok(Err(error))) => Outcome { error: Some(error), ..Outcome::default() },
        (None, Err(failure)) => failed(failure),
    }
}
