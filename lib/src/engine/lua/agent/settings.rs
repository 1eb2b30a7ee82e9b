//! Settings of an agent, as scripts give them: a table, or a builder that fills one.

use std::collections::BTreeMap;
use std::time::Duration;

use mlua::{Function, Lua, Table, Value};
use serde_json::{Map, Value as Json, json};

use super::super::callback;
use super::super::fault::Fault;
use super::super::json::from_lua;
use crate::agents::spec::{Approval, Limits, MODES, Mode, OVERFLOWS, Overflow, Rule, Spec, ToolUse};
use crate::error::{Class, Error, Result, nearest};
use crate::providers::ToolDef;

/// Every setting. Those of `max_memory_mb` and `type` are taken and change nothing, as scripts of v0.10 give them.
pub(super) const KEYS: &[&str] = &[
    "name",
    "description",
    "model",
    "provider",
    "system_prompt",
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "seed",
    "effort",
    "schema",
    "extra",
    "tools",
    "allowed_tools",
    "approval",
    "max_execution_time",
    "max_turns",
    "max_tool_calls",
    "max_parallel_tools",
    "max_recursion_depth",
    "max_result_bytes",
    "tool_timeout",
    "context_window",
    "overflow",
    "max_conversation_length",
    "resource_limits",
    "custom_config",
    "agent_type",
    "type",
    "max_memory_mb",
];

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

/// What the settings are worth, as JSON where they have that form.
struct Settings<'a> {
    lua: &'a Lua,
    table: Table,
}

impl Settings<'_> {
    fn json(&self, key: &str) -> Result<Option<Json>, Fault> {
        match self.table.raw_get::<Value>(key)? {
            Value::Nil => Ok(None),
            value => Ok(Some(from_lua(self.lua, &value).map_err(|error| error.within(key))?)),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, Fault> {
        match self.json(key)? {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(usage(format!("{key}: {other} is not a string")).into()),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, Fault> {
        match self.json(key)? {
            None => Ok(None),
            Some(Json::Number(number)) => Ok(number.as_f64()),
            Some(other) => Err(usage(format!("{key}: {other} is not a number")).into()),
        }
    }

    fn count(&self, key: &str) -> Result<Option<u64>, Fault> {
        match self.number(key)? {
            None => Ok(None),
            Some(number) if number.fract() == 0.0 && (0.0..9e15).contains(&number) => Ok(Some(number as u64)),
            Some(number) => Err(usage(format!("{key}: {number} is not a whole number from 0 on")).into()),
        }
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>, Fault> {
        let value: Value = self.table.raw_get(key)?;
        if value.is_nil() {
            return Ok(None);
        }
        Ok(Some(duration(&value).ok_or_else(|| usage(format!("{key}: seconds or a duration like \"5m\" expected")))?))
    }

    fn within(&self, key: &str) -> Result<Option<Self>, Fault> {
        match self.table.raw_get(key)? {
            Value::Nil => Ok(None),
            Value::Table(table) => Ok(Some(Settings { lua: self.lua, table })),
            other => Err(usage(format!("{key}: table expected, got {}", other.type_name())).into()),
        }
    }
}

/// Seconds, or a text like `5m`.
pub(super) fn duration(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) => humantime::parse_duration(&text.to_string_lossy()).ok(),
        value => Duration::try_from_secs_f64(value.as_f64()?).ok(),
    }
}

/// The agent that `table` describes.
pub(super) fn spec(lua: &Lua, table: Table) -> Result<Spec, Fault> {
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        let key = key.as_string().map(|key| key.to_string_lossy()).unwrap_or_default();
        if matches!(&*key, "base_url" | "api_key") {
            return Err(Error::new(Class::Absent, format!("{key}: not a setting of an agent"))
                .hint("It belongs to the provider: [providers.NAME] in llmspell.toml(5), or its environment variable.")
                .into());
        }
        if !KEYS.contains(&&*key) {
            let error = usage(format!("{key}: no such setting"));
            return Err(match nearest(&key, KEYS.iter().copied()) {
                Some(near) => error.hint(format!("Did you mean {near}?")),
                None => error.hint(format!("Settings: {}.", KEYS.join(", "))),
            }
            .into());
        }
    }
    let all = Settings { lua, table };
    let custom = all.within("custom_config")?;
    let custom_text = |key: &str| custom.as_ref().map_or(Ok(None), |custom| custom.text(key));
    let custom_count = |key: &str| custom.as_ref().map_or(Ok(None), |custom| custom.count(key));
    let fallback = || format!("agent_{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let default = Spec::default();
    let basic = all.text("agent_type")?.as_deref() == Some("basic");
    let (model, heat, length) = model(&all)?;
    Ok(Spec {
        name: all.text("name")?.unwrap_or_else(fallback),
        description: all.text("description")?.unwrap_or_default(),
        // What answered without a model in v0.10 repeats what it is told.
        model: if basic && model.is_empty() { "mock/echo".into() } else { model },
        system_prompt: all.text("system_prompt")?.or(custom_text("system_prompt")?),
        temperature: all.number("temperature")?.or(heat),
        top_p: all.number("top_p")?,
        max_tokens: all.count("max_tokens")?.or(length),
        stop: match all.json("stop")? {
            None => Vec::new(),
            Some(Json::String(text)) => vec![text],
            Some(list) => serde_json::from_value(list).map_err(|_| usage("stop: a list of strings expected"))?,
        },
        seed: all.count("seed")?,
        effort: all.text("effort")?,
        schema: match all.json("schema")? {
            Some(Json::Object(schema)) => Some(Json::Object(schema)),
            None => None,
            Some(_) => return Err(usage("schema: a JSON Schema, a table, expected").into()),
        },
        extra: match all.json("extra")? {
            Some(Json::Object(members)) => members,
            None => Map::new(),
            Some(_) => return Err(usage("extra: a table expected").into()),
        },
        tools: tools(&all)?,
        approval: approval(&all)?,
        limits: limits(&all)?,
        context_window: all.count("context_window")?,
        overflow: match all.text("overflow")? {
            None => Overflow::default(),
            Some(name) => *choice("overflow", &name, &OVERFLOWS)?,
        },
        max_conversation_length: all
            .count("max_conversation_length")?
            .or(custom_count("max_conversation_length")?)
            .map_or(default.max_conversation_length, |number| number as usize),
    })
}

fn choice<'a, T>(key: &str, name: &str, choices: &'a [(&str, T)]) -> Result<&'a T> {
    choices.iter().find(|(known, _)| *known == name).map(|(_, value)| value).ok_or_else(|| {
        let known: Vec<_> = choices.iter().map(|(known, _)| *known).collect();
        usage(format!("{key}: {name:?} is not one of {}", known.join(", ")))
    })
}

/// `provider/model`, and what a table of v0.10 says of temperature and tokens besides.
fn model(all: &Settings<'_>) -> Result<(String, Option<f64>, Option<u64>), Fault> {
    let provider = all.text("provider")?.filter(|text| !text.is_empty());
    if let Value::Table(table) = all.table.raw_get("model")? {
        let inner = Settings { lua: all.lua, table };
        let id = inner.text("model_id")?.or(inner.text("model")?).unwrap_or_default();
        let provider = inner.text("provider")?.filter(|text| !text.is_empty()).or(provider);
        return Ok((joined(provider, id), inner.number("temperature")?, inner.count("max_tokens")?));
    }
    Ok((joined(provider, all.text("model")?.unwrap_or_default()), None, None))
}

fn joined(provider: Option<String>, model: String) -> String {
    match provider {
        Some(provider) if !model.is_empty() && !model.starts_with(&format!("{provider}/")) => {
            format!("{provider}/{model}")
        }
        _ => model,
    }
}

fn limits(all: &Settings<'_>) -> Result<Limits, Fault> {
    let default = Limits::default();
    let old = all.within("resource_limits")?;
    let count = |key: &str, old_key: &str| -> Result<Option<u64>, Fault> {
        let old = old.as_ref().map_or(Ok(None), |old| old.count(old_key))?;
        Ok(all.count(key)?.or(old))
    };
    for memory in [all.count("max_memory_mb")?, count("max_memory_mb", "max_memory_mb")?].into_iter().flatten().take(1)
    {
        log::debug!(
            "agent: max_memory_mb = {memory}: an agent has no memory of its own; engines.lua.max_memory_bytes limits scripts"
        );
    }
    let number = |given: Option<u64>, default: usize| given.map_or(default, |number| number as usize);
    let old_time = count("max_execution_time_secs", "max_execution_time_secs").ok().flatten().map(Duration::from_secs);
    Ok(Limits {
        time: all.duration("max_execution_time")?.or(old_time).unwrap_or(default.time),
        turns: number(all.count("max_turns")?, default.turns),
        tool_calls: number(count("max_tool_calls", "max_tool_calls")?, default.tool_calls),
        parallel: number(all.count("max_parallel_tools")?, default.parallel),
        depth: number(count("max_recursion_depth", "max_recursion_depth")?, default.depth),
        result_bytes: number(all.count("max_result_bytes")?, default.result_bytes),
        tool_time: all.duration("tool_timeout")?,
    })
}

fn rule(lua: &Lua, value: &Value, at: &str) -> Result<Rule, Fault> {
    Ok(match value {
        Value::Boolean(true) => Rule::Always,
        Value::Boolean(false) => Rule::Never,
        Value::Function(function) => Rule::Ask(callback::keep(lua, function)?),
        Value::String(name) => {
            let rules =
                [("by_effect", Rule::ByEffect), ("never", Rule::Never), ("always", Rule::Always), ("deny", Rule::Deny)];
            choice(at, &name.to_string_lossy(), &rules)?.clone()
        }
        other => return Err(usage(format!("{at}: a rule or a function expected, got {}", other.type_name())).into()),
    })
}

/// A mode or a rule for all; or rules by tool, with `default` and `mode`.
fn approval(all: &Settings<'_>) -> Result<Approval, Fault> {
    let mut approval = Approval::default();
    match all.table.raw_get("approval")? {
        Value::Nil => {}
        Value::String(name) if MODES.iter().any(|(mode, _)| *name.as_bytes() == *mode.as_bytes()) => {
            approval.mode = *choice("approval", &name.to_string_lossy(), &MODES)?;
        }
        Value::Table(table) => {
            let mut rules = BTreeMap::new();
            for pair in table.pairs::<String, Value>() {
                let (key, value) = pair?;
                match &*key {
                    "mode" => {
                        let name = value.as_string().map(|name| name.to_string_lossy()).unwrap_or_default();
                        approval.mode = *choice::<Mode>("approval.mode", &name, &MODES)?;
                    }
                    "default" => approval.rule = rule(all.lua, &value, "approval.default")?,
                    tool => {
                        rules.insert(tool.to_owned(), rule(all.lua, &value, &format!("approval.{tool}"))?);
                    }
                }
            }
            approval.rules = rules;
        }
        other => approval.rule = rule(all.lua, &other, "approval")?,
    }
    Ok(approval)
}

fn tools(all: &Settings<'_>) -> Result<Vec<ToolUse>, Fault> {
    let mut tools: Vec<ToolUse> = Vec::new();
    for key in ["allowed_tools", "tools"] {
        let list = match all.table.raw_get(key)? {
            Value::Nil => continue,
            Value::Table(list) => list,
            Value::String(name) => all.lua.create_sequence_from([name])?,
            other => return Err(usage(format!("{key}: a list expected, got {}", other.type_name())).into()),
        };
        for item in list.sequence_values::<Value>() {
            let tool = tool(all.lua, &item?)?;
            // Named in both lists, it is meant once.
            if !tools
                .iter()
                .any(|known| matches!((known, &tool), (ToolUse::Registry(a), ToolUse::Registry(b)) if a == b))
            {
                tools.push(tool);
            }
        }
    }
    Ok(tools)
}

/// A name, a tool, an agent, or a table that describes one of them or a function.
fn tool(lua: &Lua, item: &Value) -> Result<ToolUse, Fault> {
    let table = match item {
        Value::String(name) if *name.as_bytes() == *b"*" => return Ok(ToolUse::All),
        Value::String(name) => {
            let name = name.to_string_lossy();
            let registry = &super::agents(lua)?.runtime().registry.clone();
            return Ok(ToolUse::Registry(registry.canonical(&name).map_or(name, str::to_owned)));
        }
        Value::Table(table) => table,
        other => return Err(usage(format!("tools: a name or a table expected, got {}", other.type_name())).into()),
    };
    let text = |key: &str| -> Result<Option<String>, Fault> { Ok(table.raw_get(key)?) };
    let name = text("name")?.ok_or_else(|| usage("tools: one has no name"))?;
    let of_agent = match table.raw_get::<Value>("agent")? {
        Value::String(agent) => Some(agent.to_string_lossy()),
        Value::Table(agent) => Some(agent.raw_get("name")?),
        _ if super::instance::is_agent(lua, table)? => Some(name.clone()),
        _ => None,
    };
    if let Some(agent) = of_agent {
        let known = super::agents(lua)?.get(&agent)?;
        let about =
            text("description")?.filter(|text| !text.is_empty()).unwrap_or_else(|| known.spec.description.clone());
        let description = if about.is_empty() { format!("Asks the agent {agent}.") } else { about };
        return Ok(ToolUse::Agent { name: plain(&name), agent, description });
    }
    let function = ["handler", "execute", "run", "fn", "func"]
        .iter()
        .find_map(|key| table.raw_get::<Option<Function>>(*key).ok().flatten());
    let registered = table.metatable().is_some() || function.is_none();
    let Some(function) = function.filter(|_| !registered) else {
        let registry = &super::agents(lua)?.runtime().registry.clone();
        if registry.exists(&name) {
            return Ok(ToolUse::Registry(registry.canonical(&name).map_or(name, str::to_owned)));
        }
        return Err(usage(format!("tool {name}: neither a tool of llmspell nor one with a handler, a function")).into());
    };
    let parameters = match table.raw_get::<Value>("parameters")? {
        Value::Nil => json!({ "type": "object", "properties": {} }),
        value => schema(from_lua(lua, &value).map_err(|error| error.within(format!("tool {name}: parameters")))?)
            .map_err(|error| error.within(format!("tool {name}")))?,
    };
    let def = ToolDef { name, description: text("description")?.unwrap_or_default(), parameters };
    let repeatable = table.raw_get::<Option<bool>>("repeatable")?.unwrap_or(false);
    Ok(ToolUse::Function { def, function: callback::keep(lua, &function)?, repeatable })
}

/// A JSON Schema as it stands; or the short form `{city = "where", days = {type = "integer"}}`, of which all are required that
/// do not say `optional`.
fn schema(given: Json) -> Result<Json> {
    let Json::Object(given) = given else {
        return match given {
            Json::Array(list) if list.is_empty() => Ok(json!({ "type": "object", "properties": {} })),
            _ => Err(usage("parameters: a table expected")),
        };
    };
    if given.get("type").is_some_and(|kind| kind == "object") || given.contains_key("properties") {
        let mut whole = given;
        whole.entry("type").or_insert_with(|| "object".into());
        return Ok(Json::Object(whole));
    }
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, about) in given {
        let property = match about {
            Json::String(text) => {
                required.push(name.clone());
                json!({ "type": "string", "description": text })
            }
            Json::Object(mut about) => {
                if about.remove("optional") != Some(true.into()) {
                    required.push(name.clone());
                }
                Json::Object(about)
            }
            other => return Err(usage(format!("parameters.{name}: {other} is neither a description nor a schema"))),
        };
        properties.insert(name, property);
    }
    Ok(json!({ "type": "object", "properties": properties, "required": required }))
}

/// A name as services take it for a tool.
pub(super) fn plain(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.chars().map(|c| if fits(c) { c } else { '_' }).take(64).collect()
}
