//! Agents as values of scripts: a table with its name, and the methods.

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};

use super::super::fault::{self, Fault};
use super::super::json::{from_lua, to_lua};
use super::super::stdlib::current;
use super::super::tool;
use super::work::{self, Options};
use crate::agents::Agent;
use crate::agents::spec::ToolUse;
use crate::error::{Class, Error, Result};
use crate::providers::Message;

/// Where the metatable of agents is.
const METATABLE: &str = "llmspell.agent";

/// The value of the agent `name`.
pub(super) fn value(lua: &Lua, name: &str) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("name", name)?;
    table.set_metatable(Some(lua.named_registry_value(METATABLE)?))?;
    Ok(table)
}

/// Whether a table is one.
pub(super) fn is_agent(lua: &Lua, table: &Table) -> mlua::Result<bool> {
    let ours: Table = lua.named_registry_value(METATABLE)?;
    Ok(table.metatable() == Some(ours))
}

/// The agent that a method was called on.
fn this(lua: &Lua, args: &mut MultiValue, method: &str) -> Result<Arc<Agent>, Fault> {
    match args.pop_front() {
        Some(Value::Table(table)) if is_agent(lua, &table)? => {
            Ok(super::agents(lua)?.get(&table.raw_get::<String>("name")?)?)
        }
        other => {
            let kind = other.as_ref().map_or("nothing", Value::type_name);
            Err(Error::new(Class::Usage, format!("{method}: an agent expected, got {kind}"))
                .hint(format!("Call it with a colon, as in agent:{method}(…)."))
                .into())
        }
    }
}

fn text(value: Option<Value>, method: &str, what: &str) -> Result<String> {
    match value {
        Some(Value::String(text)) => Ok(text.to_string_lossy()),
        other => {
            let kind = other.as_ref().map_or("nothing", Value::type_name);
            Err(Error::new(Class::Usage, format!("{method}: {what}: string expected, got {kind}")))
        }
    }
}

type Method = fn(&Lua, Arc<Agent>, MultiValue) -> Result<Value, Fault>;

/// All methods. More than one name is for scripts of v0.10 and its documentation.
const METHODS: &[(&str, Method)] = &[
    ("invoke", invoke),
    ("execute", invoke),
    ("run", invoke),
    ("invokeStream", stream),
    ("execute_streaming", stream),
    ("execute_async", begin),
    ("invoke_async", begin),
    ("resume_run", resume_run),
    ("execute_with_context", with_context),
    ("invokeTool", invoke_tool),
    ("discover_tools", |lua, agent, _| json(lua, &tool_names(&agent))),
    ("has_tool", |_, agent, mut args| {
        let name = text(args.pop_front(), "has_tool", "name")?;
        Ok(Value::Boolean(has_tool(&agent, &name)))
    }),
    ("get_tool_metadata", |lua, agent, mut args| {
        let name = text(args.pop_front(), "get_tool_metadata", "name")?;
        Ok(if has_tool(&agent, &name) { json(lua, &tool_about(lua, &name)?)? } else { Value::Nil })
    }),
    ("get_all_tool_metadata", |lua, agent, _| {
        let all = lua.create_table()?;
        for name in tool_names(&agent) {
            all.raw_set(name.as_str(), json(lua, &tool_about(lua, &name)?)?)?;
        }
        Ok(Value::Table(all))
    }),
    ("get_state", |lua, agent, _| json(lua, &json!(agent.life.state().name()))),
    ("get_agent_state", |lua, agent, _| json(lua, &json!(agent.life.state().name()))),
    ("get_config", |lua, agent, _| json(lua, &agent.spec.shown())),
    ("get_info", |lua, agent, _| json(lua, &super::details(&agent))),
    ("get_id", |lua, agent, _| json(lua, &json!(agent.spec.name))),
    ("get_history", |lua, agent, _| history(lua, &agent)),
    ("set_history", |lua, agent, mut args| {
        let messages = from_lua(lua, &args.pop_front().unwrap_or(Value::Nil))?;
        agent.set_history(messages_of(&messages)?);
        Ok(Value::Nil)
    }),
    ("reset", |_, agent, _| {
        agent.set_history(Vec::new());
        Ok(Value::Nil)
    }),
    ("save_state", |_, agent, _| {
        let messages = serde_json::to_value(agent.history()).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
        let kept = json!({ "config": agent.spec.shown(), "conversation": messages });
        current()?.runtime.state.save("agent", &kept_as(&agent), &kept)?;
        Ok(Value::Nil)
    }),
    ("load_state", |_, agent, _| {
        let Some(kept) = current()?.runtime.state.load("agent", &kept_as(&agent))? else {
            return Ok(Value::Boolean(false));
        };
        agent.set_history(messages_of(&kept["conversation"])?);
        Ok(Value::Boolean(true))
    }),
    ("delete_state", |_, agent, _| {
        current()?.runtime.state.delete("agent", &kept_as(&agent))?;
        Ok(Value::Nil)
    }),
    ("initialize", |_, agent, _| act(&agent, "initialize")),
    ("start", |_, agent, _| act(&agent, "start")),
    ("pause", |_, agent, _| act(&agent, "pause")),
    ("resume", |_, agent, _| act(&agent, "resume")),
    ("stop", |_, agent, _| act(&agent, "stop")),
    ("terminate", |_, agent, _| act(&agent, "terminate")),
    ("recover", |_, agent, _| act(&agent, "recover")),
    ("set_error", |_, agent, mut args| {
        agent.life.set_error(&text(args.pop_front(), "set_error", "message")?);
        Ok(Value::Nil)
    }),
    ("get_state_history", |lua, agent, _| json(lua, &agent.life.history())),
    ("get_last_error", |lua, agent, _| json(lua, &json!(agent.life.last_error()))),
    ("get_recovery_attempts", |lua, agent, _| json(lua, &json!(agent.life.recoveries()))),
    ("is_healthy", |_, agent, _| Ok(Value::Boolean(agent.life.is_healthy()))),
    ("get_state_metrics", |lua, agent, _| json(lua, &agent.life.state_metrics())),
    ("get_metrics", |lua, agent, _| json(lua, &agent.life.metrics())),
    ("get_performance", |lua, agent, _| json(lua, &agent.life.metrics())),
    ("get_health", |lua, agent, _| json(lua, &health(&agent))),
    ("get_bridge_metrics", |lua, agent, _| {
        let agents = super::agents(lua)?;
        let tools = agents.runtime().registry.list(None)?.len();
        json(
            lua,
            &json!({ "active_agents": agents.names().len(), "total_tools": tools, "performance": agent.life.metrics() }),
        )
    }),
    ("logEvent", |_, agent, mut args| {
        let kind = text(args.pop_front(), "logEvent", "type")?;
        log::info!("agent {}: {kind}: {}", agent.spec.name, text(args.pop_front(), "logEvent", "message")?);
        Ok(Value::Nil)
    }),
    ("destroy", |lua, agent, _| {
        super::agents(lua)?.remove(&agent.spec.name);
        Ok(Value::Nil)
    }),
    ("set_state", |_, _, _| {
        absent("set_state", "pause(), resume() and others change its state, save_state() keeps its conversation.")
    }),
    ("configure_alerts", |_, _, _| absent("configure_alerts", "get_metrics() tells the numbers to compare.")),
    ("get_alerts", |_, _, _| absent("get_alerts", "get_metrics() tells the numbers to compare.")),
];

/// Makes the metatable.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let methods = lua.create_table()?;
    for (name, method) in METHODS.iter().copied() {
        let call = move |lua: &Lua, mut args: MultiValue| {
            let agent = this(lua, &mut args, name)?;
            method(lua, agent, args)
        };
        methods.raw_set(name, fault::function(lua, name, call)?)?;
    }
    let metatable = lua.create_table()?;
    metatable.raw_set("__name", "agent")?;
    metatable.raw_set("__index", methods)?;
    lua.set_named_registry_value(METATABLE, metatable)
}

fn json(lua: &Lua, value: &impl serde::Serialize) -> Result<Value, Fault> {
    let value = serde_json::to_value(value).map_err(|error| Error::new(Class::Bug, error.to_string()))?;
    Ok(to_lua(lua, &value)?)
}

fn absent(method: &str, hint: &str) -> Result<Value, Fault> {
    Err(Error::new(Class::Absent, format!("agent:{method}: not here")).hint(hint).into())
}

fn act(agent: &Agent, what: &str) -> Result<Value, Fault> {
    agent.life.act(what)?;
    Ok(Value::Nil)
}

fn kept_as(agent: &Agent) -> String {
    format!("{}:state", agent.spec.name)
}

fn messages_of(value: &Json) -> Result<Vec<Message>> {
    if value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(Vec::new());
    }
    let wrong =
        |error| Error::new(Class::Usage, format!("conversation: {error}")).hint("Give it as get_history() does.");
    let plain = |message: &Json| match (message["role"].as_str(), message["text"].as_str(), message.get("parts")) {
        (Some(role), Some(text), None) => json!({ "role": role, "parts": [{ "type": "text", "text": text }] }),
        _ => message.clone(),
    };
    let list: Vec<Json> = value.as_array().into_iter().flatten().map(plain).collect();
    serde_json::from_value(list.into()).map_err(wrong)
}

/// `{role, text, parts}` each.
fn history(lua: &Lua, agent: &Agent) -> Result<Value, Fault> {
    let row = |message: &Message| {
        let mut row = serde_json::to_value(message).unwrap_or_default();
        row["text"] = message.plain().into();
        row
    };
    json(lua, &agent.history().iter().map(row).collect::<Vec<_>>())
}

fn health(agent: &Agent) -> Json {
    let status = if agent.life.is_healthy() { "healthy" } else { "unhealthy" };
    let metrics = agent.life.metrics();
    json!({
        "status": status, "state": agent.life.state().name(), "last_error": agent.life.last_error(),
        "success_rate": metrics["success_rate"],
        "timestamp": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
    })
}

/// `agent:invoke(input [, options])`
fn invoke(lua: &Lua, agent: Arc<Agent>, mut args: MultiValue) -> Result<Value, Fault> {
    let input = work::input(lua, args.pop_front().as_ref())?;
    let options = Options::of(lua, args.pop_front())?;
    Ok(Value::Table(work::output(lua, &work::invoke(lua, agent, input, options)?)?))
}

/// `agent:execute_async(input [, options])`
fn begin(lua: &Lua, agent: Arc<Agent>, mut args: MultiValue) -> Result<Value, Fault> {
    let input = work::input(lua, args.pop_front().as_ref())?;
    let options = Options::of(lua, args.pop_front())?;
    Ok(Value::Table(work::begin(lua, agent, input, options)?))
}

/// `agent:invokeStream(input [, function [, options]])`: without a function the answer is written as it comes.
fn stream(lua: &Lua, agent: Arc<Agent>, mut args: MultiValue) -> Result<Value, Fault> {
    let input = work::input(lua, args.pop_front().as_ref())?;
    let function = match args.front() {
        Some(Value::Function(_) | Value::Nil) => args.pop_front(),
        _ => None,
    };
    let mut options = Options::of(lua, args.pop_front())?;
    let count = std::rc::Rc::new(std::cell::Cell::new(0u64));
    match function {
        Some(Value::Function(function)) => {
            let seen = std::rc::Rc::clone(&count);
            let counted = fault::function(lua, "chunk", move |lua, chunk: Value| {
                seen.set(seen.get() + 1);
                if let Value::Table(chunk) = &chunk {
                    chunk.raw_set("index", seen.get())?;
                }
                fault::call(lua, &function, chunk).map(drop)
            })?;
            options.chunks_to(lua, &counted)?;
        }
        _ => options.stream(),
    }
    let outcome = work::invoke(lua, agent, input, options)?;
    let table = work::output(lua, &outcome)?;
    table.raw_set("success", true)?;
    table.raw_set("chunks_received", count.get())?;
    Ok(Value::Table(table))
}

/// `agent:resume_run(id [, options])`: goes on with a run that paused or was cut off, whatever it was asked.
fn resume_run(lua: &Lua, agent: Arc<Agent>, mut args: MultiValue) -> Result<Value, Fault> {
    let id = text(args.pop_front(), "resume_run", "run")?;
    let row = current()?.runtime.state.store(|store| store.run(&id))?;
    let row = row.ok_or_else(|| Error::new(Class::NotFound, format!("run {id}: no such run")))?;
    if row.kind != "agent" || row.about["agent"] != *agent.spec.name {
        return Err(Error::new(Class::Usage, format!("run {id}: not one of agent {}", agent.spec.name)).into());
    }
    let input = serde_json::from_value(row.about["input"].clone())
        .map_err(|error| Error::new(Class::Config, format!("run {id}: {error}")))?;
    let options = Options::of(lua, args.pop_front())?.of_run(id);
    Ok(Value::Table(work::output(lua, &work::invoke(lua, agent, input, options)?)?))
}

fn with_context(lua: &Lua, agent: Arc<Agent>, mut args: MultiValue) -> Result<Value, Fault> {
    let input = work::input(lua, args.pop_front().as_ref())?;
    let id = text(args.pop_front(), "execute_with_context", "context")?;
    let mut options = Options::of(lua, args.pop_front())?;
    options.context = Some(id);
    Ok(Value::Table(work::output(lua, &work::invoke(lua, agent, input, options)?)?))
}

/// The script itself calls, not the model: the allow list and approvals are not asked.
fn invoke_tool(lua: &Lua, _: Arc<Agent>, mut args: MultiValue) -> Result<Value, Fault> {
    let name = text(args.pop_front(), "invokeTool", "tool")?;
    tool::invoke(lua, &name, args.pop_front(), args.pop_front())
}

fn tool_names(agent: &Agent) -> Vec<String> {
    agent.spec.tools.iter().map(|tool| tool.name().unwrap_or("*").to_owned()).collect()
}

fn has_tool(agent: &Agent, name: &str) -> bool {
    agent.spec.tools.iter().any(|tool| matches!(tool, ToolUse::All) || tool.name() == Some(name))
}

fn tool_about(lua: &Lua, name: &str) -> Result<Json, Fault> {
    let info = super::agents(lua)?.runtime().registry.info(name);
    let description = info.map_or(Json::Null, |info| info["summary"].clone());
    Ok(json!({ "name": name, "description": description, "version": env!("CARGO_PKG_VERSION") }))
}
