//! The global `Agent`.

mod instance;
mod pending;
mod settings;
mod work;

use std::sync::Arc;

use mlua::{Function, Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};

use super::fault::{self, Fault};
use super::json::{from_lua, to_lua};
use super::stdlib::current;
use crate::agents::approval::{self, Decision};
use crate::agents::spec::{Spec, ToolUse};
use crate::agents::{Agent, Agents};
use crate::error::{Class, Error, Result};
use work::Job;
pub(super) use work::{Options, start_step};

/// Where the metatable of builders is.
const BUILDER: &str = "llmspell.agent_builder";
/// Where the metatable of pieces of answers is.
const CHUNK: &str = "llmspell.chunk";
/// Runs at the same time where a script says nothing.
const MOST: usize = 128;

/// A kind of agent that is ready to be made.
struct Template {
    name: &'static str,
    description: &'static str,
    prompt: &'static str,
    all_tools: bool,
    model: &'static str,
}

const TEMPLATES: &[Template] = &[
    Template {
        name: "llm",
        description: "answers by its model, without tools",
        prompt: "You are a helpful assistant. Answer briefly and correctly; say so when you do not know.",
        all_tools: false,
        model: "",
    },
    Template {
        name: "tool-orchestrator",
        description: "has all tools and chooses among them",
        prompt: "You solve tasks with the tools you have. Think about which ones are needed, call them, check what they \
                 answer, and then say what came out.",
        all_tools: true,
        model: "",
    },
    Template {
        name: "basic",
        description: "repeats what it is told, for trying out scripts without a model",
        prompt: "",
        all_tools: false,
        model: "mock/echo",
    },
];

/// The agents of this state.
pub(super) fn agents(lua: &Lua) -> Result<Arc<Agents>> {
    let agents = lua.app_data_ref::<Arc<Agents>>().map(|agents| Arc::clone(&agents));
    agents.ok_or_else(|| Error::new(Class::Bug, "no agents here"))
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

/// Makes `Agent`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    instance::open(lua)?;
    pending::open(lua)?;
    builder(lua)?;
    let chunk = lua.create_table()?;
    let text = |_: &Lua, chunk: Table| -> Result<String, Fault> {
        Ok(chunk.raw_get::<Option<String>>("text")?.unwrap_or_default())
    };
    chunk.raw_set("__tostring", fault::function(lua, "tostring", text)?)?;
    lua.set_named_registry_value(CHUNK, chunk)?;

    let global = lua.create_table()?;
    let add = |name: &'static str, function: Function| global.raw_set(name, function);
    let new_builder = |lua: &Lua, _: MultiValue| -> Result<Table, Fault> {
        let builder = lua.create_table()?;
        builder.raw_set("settings", lua.create_table()?)?;
        builder.set_metatable(Some(lua.named_registry_value(BUILDER)?))?;
        Ok(builder)
    };
    add("builder", fault::function(lua, "builder", new_builder)?)?;
    let create = |lua: &Lua, table: Table| made(lua, settings::spec(lua, table)?);
    add("create", fault::function(lua, "create", create)?)?;
    let register = |lua: &Lua, table: Table| -> Result<String, Fault> {
        Ok(agents(lua)?.create(settings::spec(lua, table)?)?.spec.name.clone())
    };
    add("register", fault::function(lua, "register", register)?)?;
    let list = |lua: &Lua, _: MultiValue| {
        let all = agents(lua)?;
        let rows: Vec<_> = all.names().iter().filter_map(|name| all.get(name).ok()).map(|agent| row(&agent)).collect();
        shown(lua, &rows)
    };
    add("list", fault::function(lua, "list", list)?)?;
    let names = |lua: &Lua, _: MultiValue| shown(lua, &agents(lua)?.names());
    add("list_instances", fault::function(lua, "list_instances", names)?)?;
    let get = |lua: &Lua, name: String| -> Result<Option<Table>, Fault> {
        match agents(lua)?.get(&name) {
            Ok(agent) => Ok(Some(instance::value(lua, &agent.spec.name)?)),
            Err(_) => Ok(None),
        }
    };
    add("get", fault::function(lua, "get", get)?)?;
    templates(lua, &global)?;
    looks(lua, &global)?;
    contexts(lua, &global)?;
    runs(lua, &global)?;
    let wrap = |lua: &Lua, (name, config): (String, Option<Table>)| -> Result<String, Fault> {
        let text = |key: &str| config.as_ref().map_or(Ok(None), |config| config.get::<Option<String>>(key));
        let tool = text("tool_name")?.unwrap_or_else(|| settings::plain(&format!("{name}_tool")));
        agents(lua)?.wrap(&name, &tool, text("description")?.as_deref())?;
        Ok(tool)
    };
    add("wrap_as_tool", fault::function(lua, "wrap_as_tool", wrap)?)?;
    add("create_composite", fault::function(lua, "create_composite", composite)?)?;
    add("invoke_all", fault::function(lua, "invoke_all", invoke_all)?)?;
    lua.globals().raw_set("Agent", global)
}

fn shown(lua: &Lua, value: &impl serde::Serialize) -> Result<Value, Fault> {
    let value = serde_json::to_value(value).map_err(|error| Error::new(Class::Bug, error.to_string()))?;
    Ok(to_lua(lua, &value)?)
}

fn made(lua: &Lua, spec: Spec) -> Result<Table, Fault> {
    let agent = agents(lua)?.create(spec)?;
    Ok(instance::value(lua, &agent.spec.name)?)
}

fn row(agent: &Agent) -> Json {
    json!({
        "name": agent.spec.name, "description": agent.spec.description, "model": agent.model(),
        "state": agent.life.state().name(),
    })
}

/// The metatable of builders: each setter keeps its value, and answers the builder.
fn builder(lua: &Lua) -> mlua::Result<()> {
    let methods = lua.create_table()?;
    let kept = |builder: &Table| -> Result<Table, Fault> {
        builder.raw_get("settings").map_err(|_| {
            Fault::from(usage("an agent builder expected").hint("Call it with a colon, as in builder:name(\"x\")."))
        })
    };
    for key in settings::KEYS.iter().copied() {
        let set = move |_: &Lua, (builder, value): (Table, Value)| {
            kept(&builder)?.raw_set(key, value)?;
            Ok(builder)
        };
        methods.raw_set(key, fault::function(lua, key, set)?)?;
    }
    for key in ["base_url", "api_key"] {
        let set = move |_: &Lua, (builder, value): (Table, Value)| {
            kept(&builder)?.raw_set(key, value)?;
            Ok(builder)
        };
        methods.raw_set(key, fault::function(lua, key, set)?)?;
    }
    for key in ["allow_tool", "tool"] {
        let push = move |lua: &Lua, (builder, tool): (Table, Value)| {
            let settings = kept(&builder)?;
            let list = match settings.raw_get("allowed_tools")? {
                Value::Table(list) => list,
                _ => lua.create_table()?,
            };
            list.raw_push(tool)?;
            settings.raw_set("allowed_tools", list)?;
            Ok(builder)
        };
        methods.raw_set(key, fault::function(lua, key, push)?)?;
    }
    let approve = move |lua: &Lua, (builder, tool, rule): (Table, String, Value)| {
        let settings = kept(&builder)?;
        let rules = match settings.raw_get("approval")? {
            Value::Table(rules) => rules,
            Value::Nil => lua.create_table()?,
            mode => {
                let rules = lua.create_table()?;
                let is_mode = mode.as_string().is_some_and(|m| matches!(&*m.as_bytes(), b"pause" | b"wait" | b"ask"));
                rules.raw_set(if is_mode { "mode" } else { "default" }, mode)?;
                rules
            }
        };
        rules.raw_set(tool, rule)?;
        settings.raw_set("approval", rules)?;
        Ok(builder)
    };
    methods.raw_set("approve", fault::function(lua, "approve", approve)?)?;
    let build = move |lua: &Lua, builder: Table| made(lua, settings::spec(lua, kept(&builder)?)?);
    methods.raw_set("build", fault::function(lua, "build", build)?)?;
    let metatable = lua.create_table()?;
    metatable.raw_set("__name", "agent_builder")?;
    metatable.raw_set("__index", methods)?;
    lua.set_named_registry_value(BUILDER, metatable)
}

fn template(name: &str) -> Result<&'static Template> {
    TEMPLATES.iter().find(|template| template.name == name).ok_or_else(|| {
        let names: Vec<_> = TEMPLATES.iter().map(|template| template.name).collect();
        Error::new(Class::NotFound, format!("agent template {name}: no such template"))
            .hint(format!("There are: {}.", names.join(", ")))
    })
}

fn templates(lua: &Lua, global: &Table) -> mlua::Result<()> {
    let names = |lua: &Lua, _: MultiValue| shown(lua, &TEMPLATES.iter().map(|one| one.name).collect::<Vec<_>>());
    global.raw_set("list_templates", fault::function(lua, "list_templates", names)?)?;
    let discover = |lua: &Lua, _: MultiValue| {
        let row = |one: &Template| json!({ "type": one.name, "description": one.description });
        shown(lua, &TEMPLATES.iter().map(row).collect::<Vec<_>>())
    };
    global.raw_set("discover", fault::function(lua, "discover", discover)?)?;
    let info = |lua: &Lua, name: String| {
        let one = template(&name)?;
        let info = json!({
            "name": one.name, "description": one.description, "category": "agent", "complexity": "standard",
            "system_prompt": one.prompt, "required_parameters": [], "optional_parameters": settings::KEYS,
        });
        shown(lua, &info)
    };
    global.raw_set("get_info", fault::function(lua, "get_info", info)?)?;
    let create = |lua: &Lua, (name, kind, params): (String, String, Option<Table>)| {
        let one = template(&kind)?;
        let settings = lua.create_table()?;
        settings.raw_set("description", one.description)?;
        if !one.prompt.is_empty() {
            settings.raw_set("system_prompt", one.prompt)?;
        }
        if !one.model.is_empty() {
            settings.raw_set("model", one.model)?;
        }
        if one.all_tools {
            settings.raw_set("tools", lua.create_sequence_from(["*"])?)?;
        }
        for pair in params.iter().flat_map(|params| params.pairs::<Value, Value>()) {
            let (key, value) = pair?;
            settings.raw_set(key, value)?;
        }
        settings.raw_set("name", name)?;
        made(lua, settings::spec(lua, settings)?)
    };
    global.raw_set("create_from_template", fault::function(lua, "create_from_template", create)?)
}

/// What is to be known of an agent.
fn details(agent: &Agent) -> Json {
    let mut config = agent.spec.shown();
    config["system_prompt"] = json!(agent.spec.instructions());
    let delegates = agent.spec.tools.iter().any(|tool| matches!(tool, ToolUse::Agent { .. }));
    json!({
        "id": agent.spec.name, "name": agent.spec.name, "description": agent.spec.description, "model": agent.model(),
        "state": agent.life.state().name(), "metrics": agent.life.metrics(), "config": config,
        "composition": { "can_be_wrapped": true, "supports_delegation": delegates, "supports_nesting": true },
        "messages": agent.history().len(),
    })
}

fn hierarchy(all: &Agents, agent: &Agent, deep: usize) -> Json {
    let child = |tool: &ToolUse| match tool {
        ToolUse::Agent { agent, .. } if deep > 0 => all.get(agent).ok().map(|agent| hierarchy(all, &agent, deep - 1)),
        _ => None,
    };
    let children: Vec<_> = agent.spec.tools.iter().filter_map(child).collect();
    json!({ "name": agent.spec.name, "type": "agent", "id": agent.spec.name, "children": children })
}

fn capabilities(agent: &Agent) -> Json {
    json!({
        "id": agent.spec.name, "name": agent.spec.name, "description": agent.spec.description, "config": agent.spec.shown(),
        "capabilities": {
            "supports_streaming": true, "supports_tools": !agent.spec.tools.is_empty(), "supports_context": true,
            // It takes pictures in; what it says is text.
            "supports_multimodal": false,
        },
    })
}

/// What only looks.
fn looks(lua: &Lua, global: &Table) -> mlua::Result<()> {
    let details_of = |lua: &Lua, name: String| shown(lua, &details(&*agents(lua)?.get(&name)?));
    global.raw_set("get_details", fault::function(lua, "get_details", details_of)?)?;
    let tree = |lua: &Lua, name: String| {
        let all = agents(lua)?;
        let agent = all.get(&name)?;
        shown(lua, &json!({ "root": hierarchy(&all, &agent, agent.spec.limits.depth) }))
    };
    global.raw_set("get_hierarchy", fault::function(lua, "get_hierarchy", tree)?)?;
    let list = |lua: &Lua, _: MultiValue| {
        let all = agents(lua)?;
        let table = lua.create_table()?;
        for name in all.names() {
            if let Ok(agent) = all.get(&name) {
                table.raw_set(name, to_lua(lua, &capabilities(&agent))?)?;
            }
        }
        Ok(table)
    };
    global.raw_set("list_capabilities", fault::function(lua, "list_capabilities", list)?)?;
    let discover = |lua: &Lua, wanted: String| {
        let all = agents(lua)?;
        let has = |agent: &Agent| {
            let spec = &agent.spec;
            match &*wanted {
                "streaming" | "context" => true,
                "tools" => !spec.tools.is_empty(),
                "composite" | "delegation" => spec.tools.iter().any(|tool| matches!(tool, ToolUse::Agent { .. })),
                "structured_output" => spec.schema.is_some(),
                word => {
                    spec.name.contains(word)
                        || spec.description.contains(word)
                        || spec.tools.iter().any(|tool| tool.name() == Some(word))
                }
            }
        };
        let found: Vec<_> =
            all.names().into_iter().filter(|name| all.get(name).is_ok_and(|agent| has(&agent))).collect();
        shown(lua, &found)
    };
    global.raw_set("discover_by_capability", fault::function(lua, "discover_by_capability", discover)?)
}

fn contexts(lua: &Lua, global: &Table) -> mlua::Result<()> {
    let of = |lua: &Lua, value: Option<Value>| from_lua(lua, &value.unwrap_or(Value::Nil));
    let create = move |lua: &Lua, config: Option<Value>| Ok(agents(lua)?.contexts.create(&of(lua, config)?)?);
    global.raw_set("create_context", fault::function(lua, "create_context", create)?)?;
    let child = move |lua: &Lua, (parent, scope, how): (String, Option<Value>, Option<String>)| {
        Ok(agents(lua)?.contexts.child(&parent, &of(lua, scope)?, how.as_deref().unwrap_or_default())?)
    };
    global.raw_set("create_child_context", fault::function(lua, "create_child_context", child)?)?;
    let update = |lua: &Lua, (id, key, value): (String, String, Value)| {
        Ok(agents(lua)?.contexts.set(&id, &key, from_lua(lua, &value)?)?)
    };
    global.raw_set("update_context", fault::function(lua, "update_context", update)?)?;
    let get = |lua: &Lua, (id, key): (String, String)| {
        let value = agents(lua)?.contexts.get(&id, &key)?;
        Ok(value.map_or(Ok(Value::Nil), |value| to_lua(lua, &value))?)
    };
    global.raw_set("get_context_data", fault::function(lua, "get_context_data", get)?)?;
    let remove = |lua: &Lua, id: String| Ok(agents(lua)?.contexts.remove(&id)?);
    global.raw_set("remove_context", fault::function(lua, "remove_context", remove)?)?;
    let remember = |lua: &Lua, (scope, key, value): (Value, String, Value)| {
        Ok(agents(lua)?.contexts.remember(&from_lua(lua, &scope)?, &key, from_lua(lua, &value)?)?)
    };
    global.raw_set("set_shared_memory", fault::function(lua, "set_shared_memory", remember)?)?;
    let recall = |lua: &Lua, (scope, key): (Value, String)| {
        let value = agents(lua)?.contexts.recall(&from_lua(lua, &scope)?, &key)?;
        Ok(value.map_or(Ok(Value::Nil), |value| to_lua(lua, &value))?)
    };
    global.raw_set("get_shared_memory", fault::function(lua, "get_shared_memory", recall)?)
}

/// Runs that can go on, and calls that wait for a person.
fn runs(lua: &Lua, global: &Table) -> mlua::Result<()> {
    let runs = |lua: &Lua, _: MultiValue| {
        let all = current()?.runtime.state.store(|store| store.runs())?;
        let row = |run: &crate::store::checkpoint::RunRow| {
            json!({
                "id": run.id, "kind": run.kind, "status": run.status, "agent": run.about["agent"],
                "error": run.result["error"], "began": run.began, "changed": run.changed,
            })
        };
        shown(lua, &all.iter().map(row).collect::<Vec<_>>())
    };
    global.raw_set("runs", fault::function(lua, "runs", runs)?)?;
    let forget = |_: &Lua, id: String| Ok(current()?.runtime.state.store(|store| store.remove_run(&id))?);
    global.raw_set("forget_run", fault::function(lua, "forget_run", forget)?)?;
    let list = |lua: &Lua, _: MultiValue| shown(lua, &current()?.runtime.state.store(|store| store.approvals(true))?);
    global.raw_set("approvals", fault::function(lua, "approvals", list)?)?;
    let approve = |lua: &Lua, (id, edited): (String, Option<Table>)| {
        let decision = match edited {
            None => Decision::Approve,
            Some(table) => match from_lua(lua, &Value::Table(table))? {
                Json::Array(list) if list.is_empty() => Decision::Edit(json!({})),
                value => Decision::Edit(value),
            },
        };
        shown(lua, &approval::decide(&current()?.runtime.state, &id, &decision)?.call)
    };
    global.raw_set("approve", fault::function(lua, "approve", approve)?)?;
    let deny = |lua: &Lua, (id, reason): (String, Option<String>)| {
        shown(lua, &approval::decide(&current()?.runtime.state, &id, &Decision::Deny(reason))?.call)
    };
    global.raw_set("deny", fault::function(lua, "deny", deny)?)
}

/// `Agent.create_composite(name, agents [, settings])`: an agent whose tools are agents.
fn composite(lua: &Lua, (name, members, config): (String, Vec<Value>, Option<Table>)) -> Result<Table, Fault> {
    let all = agents(lua)?;
    let (tools, mut about, mut model) = (lua.create_table()?, Vec::new(), None);
    for member in members {
        let member = match member {
            Value::String(name) => name.to_string_lossy(),
            Value::Table(table) => table.raw_get("name")?,
            other => {
                return Err(usage(format!("create_composite: an agent expected, got {}", other.type_name())).into());
            }
        };
        let agent = all.get(&member)?;
        model.get_or_insert_with(|| agent.spec.model.clone());
        about.push(format!("{}: {}", settings::plain(&member), agent.spec.description));
        tools.raw_push(instance::value(lua, &member)?)?;
    }
    if about.is_empty() {
        return Err(usage("create_composite: no agents").into());
    }
    let settings = lua.create_table()?;
    settings.raw_set("model", model)?;
    settings.raw_set("description", format!("Delegates to {}.", about.len()))?;
    let prompt = "You have these agents as tools. Give each task to the one that fits, with all it needs to know, and put \
                  together what they answer.";
    settings.raw_set("system_prompt", format!("{prompt}\n{}", about.join("\n")))?;
    for pair in config.iter().flat_map(|config| config.pairs::<Value, Value>()) {
        let (key, value) = pair?;
        settings.raw_set(key, value)?;
    }
    settings.raw_set("name", name)?;
    if let Value::Table(more) = settings.raw_get("tools")? {
        for tool in more.sequence_values::<Value>() {
            tools.raw_push(tool?)?;
        }
    }
    settings.raw_set("tools", tools)?;
    made(lua, settings::spec(lua, settings)?)
}

/// An agent by name or value.
fn agent_of(lua: &Lua, value: Value) -> Result<Arc<Agent>, Fault> {
    let name = match value {
        Value::String(name) => name.to_string_lossy(),
        Value::Table(table) => table.raw_get("name")?,
        other => return Err(usage(format!("an agent expected, got {}", other.type_name())).into()),
    };
    Ok(agents(lua)?.get(&name)?)
}

/// `Agent.invoke_all({{agent, input [, options]}, …} [, {max_concurrent = …}])`: all at once; a list of results in that order.
fn invoke_all(lua: &Lua, (list, how): (Vec<Table>, Option<Table>)) -> Result<Value, Fault> {
    let most = how.map_or(Ok(None), |how| how.get::<Option<usize>>("max_concurrent"))?.unwrap_or(MOST);
    let mut jobs = Vec::with_capacity(list.len());
    for (at, item) in list.iter().enumerate() {
        let field = |key: &str, index: i64| -> mlua::Result<Value> {
            match item.get::<Value>(key)? {
                Value::Nil => item.get(index),
                value => Ok(value),
            }
        };
        let wrong = |fault| match fault {
            Fault::Error(error) => Fault::Error(error.within(format!("invoke_all: {}", at + 1))),
            fault => fault,
        };
        let agent = agent_of(lua, field("agent", 1)?).map_err(wrong)?;
        let input = work::input(lua, Some(&field("input", 2)?)).map_err(wrong)?;
        // Side by side there is no order in which they could speak.
        let options = Options::of(lua, Some(field("options", 3)?)).map_err(wrong)?.forgetful();
        jobs.push(Job { agent, input, options });
    }
    let results = lua.create_table()?;
    for end in work::invoke_all(lua, jobs, most)? {
        let table = match end {
            Ok(outcome) => {
                let table = work::output(lua, &outcome)?;
                table.raw_set("success", true)?;
                table
            }
            Err(error) => {
                let table = lua.create_table()?;
                table.raw_set("success", false)?;
                table.raw_set("error", fault::error_value(lua, &error)?)?;
                table
            }
        };
        results.raw_push(table)?;
    }
    Ok(Value::Table(results))
}
