//! `ask` and the global `Provider`: models for scripts that need no agent.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};

use super::fault::{self, Fault};
use super::json::{from_lua, to_lua};
use super::stdlib::current;
use super::wait::{self, Queue};
use crate::error::{Class, Error, Result, nearest};
use crate::providers::{Delta, Known, Message, Model, Part, Purpose, Reply, Request, Role};
use crate::runtime::CallOptions;
use crate::tools::Cancel;

/// Largest file that is attached, in bytes.
const LARGEST: u64 = 32 << 20;

/// Makes `ask` and `Provider`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    lua.globals().raw_set("ask", fault::function(lua, "ask", ask)?)?;
    let provider = lua.create_table()?;
    let add = |name: &'static str, function: Function| provider.raw_set(name, function);
    let list = |lua: &Lua, _: MultiValue| {
        let all = current()?.runtime.providers.list();
        let shown: Vec<_> = all.iter().filter(|known| known.is_set_up).map(shown).collect();
        Ok(to_lua(lua, &json!(shown))?)
    };
    add("list", fault::function(lua, "list", list)?)?;
    let get = |lua: &Lua, args: MultiValue| -> Result<Value, Fault> {
        match known(lua, args, "get")? {
            Some(known) => Ok(to_lua(lua, &shown(&known))?),
            None => Ok(Value::Nil),
        }
    };
    add("get", fault::function(lua, "get", get)?)?;
    let capabilities = |lua: &Lua, args: MultiValue| -> Result<Value, Fault> {
        match known(lua, args, "getCapabilities")? {
            Some(known) => Ok(to_lua(lua, &shown(&known)["capabilities"])?),
            None => Ok(Value::Nil),
        }
    };
    add("getCapabilities", fault::function(lua, "getCapabilities", capabilities)?)?;
    let available = |lua: &Lua, args: MultiValue| {
        Ok(known(lua, args, "isAvailable")?.is_some_and(|known| known.has_key && known.is_set_up))
    };
    add("isAvailable", fault::function(lua, "isAvailable", available)?)?;
    let default = |_: &Lua, _: MultiValue| Ok(current()?.runtime.providers.default_model().map(str::to_owned));
    add("default", fault::function(lua, "default", default)?)?;
    let spent = |lua: &Lua, _: MultiValue| {
        let spent = current()?.runtime.providers.spent();
        let mut shown = json!(spent.usage);
        shown["calls"] = spent.calls.into();
        shown["cost"] = spent.cost.into();
        Ok(to_lua(lua, &shown)?)
    };
    add("spent", fault::function(lua, "spent", spent)?)?;
    add("embed", fault::function(lua, "embed", embed)?)?;
    add("rerank", fault::function(lua, "rerank", rerank)?)?;
    lua.globals().raw_set("Provider", provider)
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

/// The provider that the first argument names; `Provider:get(name)` works as well.
fn known(lua: &Lua, mut args: MultiValue, function: &str) -> Result<Option<Known>, Fault> {
    if let Some(Value::Table(first)) = args.front()
        && lua.globals().raw_get::<Value>("Provider")? == Value::Table(first.clone())
    {
        args.pop_front();
    }
    match args.pop_front() {
        Some(Value::String(name)) => match current()?.runtime.providers.get(&name.to_string_lossy()) {
            Ok(known) => Ok(Some(known)),
            Err(error) if error.class() == Class::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        },
        other => {
            let kind = other.as_ref().map_or("nothing", Value::type_name);
            Err(usage(format!("Provider.{function}: a provider's name expected, got {kind}")).into())
        }
    }
}

/// A provider as scripts see it.
fn shown(known: &Known) -> Json {
    let answers = !matches!(known.kind, "voyage" | "jina");
    let mut capabilities = json!({
        "supports_streaming": answers,
        "supports_multimodal": answers && known.kind != "deepseek",
    });
    if let Some(model) = &known.model {
        capabilities["available_models"] = json!([model]);
    }
    let mut shown =
        json!({ "name": known.name, "type": known.kind, "enabled": known.has_key, "capabilities": capabilities });
    if !known.base_url.is_empty() {
        shown["base_url"] = known.base_url.as_str().into();
    }
    shown
}

/// Names of the options of `ask`.
const OPTIONS: &[&str] = &[
    "details",
    "effort",
    "extra",
    "files",
    "max_tokens",
    "messages",
    "model",
    "on_reasoning",
    "on_text",
    "schema",
    "seed",
    "stop",
    "system",
    "temperature",
    "timeout",
    "top_p",
];

/// What `ask` was told besides its texts.
#[derive(Default)]
struct Asked {
    model: String,
    request: Request,
    timeout: Duration,
    /// Whether more than the answer is returned.
    details: bool,
    on_text: Option<Function>,
    on_reasoning: Option<Function>,
}

/// `ask(text, …, [options])`: the answer, and what is known of it.
fn ask(lua: &Lua, args: MultiValue) -> Result<MultiValue, Fault> {
    let asked = asked(lua, args)?;
    let run = current()?;
    let model = run.runtime.providers.model(&asked.model)?;
    let (wants_json, wants_details) = (asked.request.schema.is_some(), asked.details);
    let reply = stream(lua, model, asked)?;
    let text = reply.text();
    let answer = match serde_json::from_str::<Json>(&text) {
        Ok(value) if wants_json => to_lua(lua, &value)?,
        _ => Value::String(lua.create_string(&text)?),
    };
    if !wants_details {
        return Ok(answer.into_lua_multi(lua)?);
    }
    let mut details = json!({ "model": reply.model, "finish": reply.finish, "usage": reply.usage });
    if let Some(cost) = reply.cost {
        details["cost"] = cost.into();
    }
    let thought: Vec<_> = (reply.parts.iter())
        .filter_map(|part| if let Part::Reasoning { text, .. } = part { Some(text.as_str()) } else { None })
        .collect();
    if !thought.concat().is_empty() {
        details["reasoning"] = thought.join("\n").into();
    }
    Ok((answer, to_lua(lua, &details)?).into_lua_multi(lua)?)
}

/// Asks on the pool while this thread serves the pieces of the answer.
fn stream(lua: &Lua, model: Arc<dyn Model>, asked: Asked) -> Result<Reply, Fault> {
    let run = current()?;
    let options = CallOptions { cwd: Some(run.cwd.clone()), timeout: Some(asked.timeout), ..CallOptions::default() };
    let key = |function: Option<Function>| {
        function.map(|function| lua.create_registry_value(function).map(Arc::new)).transpose()
    };
    let (on_text, on_reasoning) = (key(asked.on_text)?, key(asked.on_reasoning)?);
    let request = asked.request;
    let reply = wait::wait(lua, &run, |queue: Queue<Result<Reply>>| {
        let pieces = queue.clone();
        let work = move |cancel: &Cancel| {
            let mut hear = |delta: Delta| {
                let (function, piece) = match delta {
                    Delta::Text(piece) => (&on_text, piece),
                    Delta::Reasoning(piece) => (&on_reasoning, piece),
                    Delta::ToolCall { .. } => return,
                };
                let Some(key) = function.clone() else { return };
                pieces.call(Box::new(move |lua| {
                    let function: Function = lua.registry_value(&key)?;
                    fault::call(lua, &function, piece).map(drop)
                }));
            };
            model.ask(&request, cancel, &mut hear)
        };
        let job = run.runtime.start(options, move |call| work(&call.cancel), move |result| queue.done(result));
        Ok(move || job.cancel())
    })?;
    Ok(reply?)
}

fn asked(lua: &Lua, args: MultiValue) -> Result<Asked, Fault> {
    let (mut texts, mut asked, mut given) = (Vec::new(), Asked::default(), None);
    let last = args.len();
    for (index, value) in args.into_iter().enumerate() {
        match value {
            Value::String(text) => texts.push(text.to_string_lossy()),
            Value::Integer(_) | Value::Number(_) => texts.push(value.to_string()?),
            Value::Nil => {}
            Value::Table(table) if index + 1 == last => given = Some(table),
            other => return Err(usage(format!("ask: a text expected, got {}", other.type_name())).into()),
        }
    }
    let mut parts = vec![Part::Text { text: texts.join("\n\n") }];
    if let Some(table) = given {
        options(lua, &table, &mut asked, &mut parts)?;
    }
    if texts.iter().any(|text| !text.trim().is_empty()) || parts.len() > 1 {
        asked.request.messages.push(Message { role: Role::User, parts });
    }
    if !asked.request.messages.iter().any(|message| message.role == Role::User) {
        return Err(usage("ask: nothing to ask").into());
    }
    Ok(asked)
}

fn options(lua: &Lua, table: &Table, asked: &mut Asked, parts: &mut Vec<Part>) -> Result<(), Fault> {
    for pair in table.pairs::<Value, Value>() {
        let (name, _) = pair?;
        let name = name.to_string()?;
        if !OPTIONS.contains(&&name[..]) {
            let meant = nearest(&name, OPTIONS.iter().copied());
            let meant = meant.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return Err(usage(format!("ask: no option {name}{meant}"))
                .hint(format!("Options: {}.", OPTIONS.join(", ")))
                .into());
        }
    }
    let wrong = |name: &str, error: mlua::Error| usage(format!("ask: {name}: {}", fault::first_line(&error)));
    macro_rules! get {
        ($name:literal) => {
            table.get($name).map_err(|error| wrong($name, error))?
        };
    }
    let request = &mut asked.request;
    asked.model = {
        let model: Option<String> = get!("model");
        model.unwrap_or_default()
    };
    request.max_tokens = get!("max_tokens");
    request.temperature = get!("temperature");
    request.top_p = get!("top_p");
    request.seed = get!("seed");
    request.effort = get!("effort");
    request.stop = match get!("stop") {
        Value::Nil => Vec::new(),
        Value::String(text) => vec![text.to_string_lossy()],
        Value::Table(texts) => {
            texts.sequence_values().collect::<mlua::Result<_>>().map_err(|error| wrong("stop", error))?
        }
        other => return Err(usage(format!("ask: stop: a text expected, got {}", other.type_name())).into()),
    };
    asked.details = get!("details");
    asked.on_text = get!("on_text");
    asked.on_reasoning = get!("on_reasoning");
    let timeout: Value = get!("timeout");
    if !timeout.is_nil() {
        asked.timeout = super::tool::duration(&timeout)?;
    }
    if let Some(system) = {
        let system: Option<String> = get!("system");
        system
    } {
        request.messages.push(Message::text(Role::System, system));
    }
    let schema: Value = get!("schema");
    if !schema.is_nil() {
        request.schema = Some(from_lua(lua, &schema).map_err(|error| error.within("ask: schema"))?);
    }
    let extra: Value = get!("extra");
    if let Json::Object(extra) = from_lua(lua, &extra).map_err(|error| error.within("ask: extra"))? {
        request.extra = extra;
    }
    let messages: Value = get!("messages");
    if !messages.is_nil() {
        let Value::Table(messages) = messages else { return Err(usage("ask: messages: a list expected").into()) };
        for message in messages.sequence_values::<Table>() {
            let message = message.map_err(|error| wrong("messages", error))?;
            let text = message.get::<Option<String>>("content").map_err(|error| wrong("messages", error))?;
            let role = match message.get::<Option<String>>("role").map_err(|error| wrong("messages", error))?.as_deref()
            {
                Some("system") => Role::System,
                Some("user") | None => Role::User,
                Some("assistant") => Role::Assistant,
                Some(other) => {
                    return Err(usage(format!("ask: messages: {other:?} is not one of system, user, assistant")).into());
                }
            };
            request.messages.push(Message::text(role, text.unwrap_or_default()));
        }
    }
    let files: Option<Vec<String>> = get!("files");
    for path in files.unwrap_or_default() {
        parts.push(attached(&path)?);
    }
    Ok(())
}

/// A file as a part of a message, if the policy lets it be read.
fn attached(path: &str) -> Result<Part, Fault> {
    let run = current()?;
    let file = run.runtime.policy.open_read(&run.cwd.join(path))?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(usage(format!("ask: {path}: larger than 32 MiB")).into());
    }
    let name = path.rsplit('/').next().unwrap_or(path).to_owned();
    let mime = match &bytes[..] {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [b'%', b'P', b'D', b'F', ..] => "application/pdf",
        bytes => match std::str::from_utf8(bytes) {
            // Text is read by every model.
            Ok(text) => return Ok(Part::Text { text: format!("\n\n{name}:\n\n{text}") }),
            Err(_) => return Err(usage(format!("ask: {path}: neither text, nor a picture, nor PDF")).into()),
        },
    };
    let data = STANDARD.encode(&bytes);
    Ok(match mime.starts_with("image/") {
        true => Part::Image { mime: mime.into(), data },
        false => Part::File { name, mime: mime.into(), data },
    })
}

/// Runs `work`, which asks a service, on the pool.
fn on_pool<T: Send + 'static>(
    lua: &Lua,
    work: impl FnOnce(&crate::providers::Providers, &Cancel) -> Result<T> + Send + 'static,
) -> Result<T, Fault> {
    let run = current()?;
    let options = CallOptions { cwd: Some(run.cwd.clone()), timeout: Some(Duration::ZERO), ..CallOptions::default() };
    let providers = Arc::clone(&run.runtime.providers);
    let result = wait::wait(lua, &run, |queue: Queue<Result<T>>| {
        let job =
            run.runtime.start(options, move |call| work(&providers, &call.cancel), move |result| queue.done(result));
        Ok(move || job.cancel())
    })?;
    Ok(result?)
}

/// `Provider.embed(model, texts, [options])`
fn embed(lua: &Lua, (model, texts, options): (String, Value, Option<Table>)) -> Result<MultiValue, Fault> {
    let texts = match texts {
        Value::String(text) => vec![text.to_string_lossy()],
        Value::Table(texts) => texts.sequence_values().collect::<mlua::Result<Vec<String>>>()?,
        other => return Err(usage(format!("Provider.embed: texts expected, got {}", other.type_name())).into()),
    };
    let option = |name: &str| options.as_ref().map_or(Ok(None), |options| options.get::<Option<Value>>(name));
    let purpose = match option("purpose")? {
        Some(Value::String(text)) if text == "query" => Purpose::Query,
        None | Some(Value::Nil) => Purpose::Document,
        Some(Value::String(text)) if text == "document" => Purpose::Document,
        _ => return Err(usage("Provider.embed: purpose: \"document\" or \"query\" expected").into()),
    };
    let dimensions: Option<u32> = options.as_ref().map_or(Ok(None), |options| options.get("dimensions"))?;
    let done = on_pool(lua, move |all, cancel| all.embed(&model, &texts, purpose, dimensions, cancel))?;
    let mut details = json!({ "model": done.model, "usage": done.usage });
    if let Some(cost) = done.cost {
        details["cost"] = cost.into();
    }
    let vectors =
        done.vectors.into_iter().map(|vector| lua.create_sequence_from(vector)).collect::<mlua::Result<Vec<_>>>()?;
    Ok((lua.create_sequence_from(vectors)?, to_lua(lua, &details)?).into_lua_multi(lua)?)
}

/// `Provider.rerank(model, query, documents, [top])`
fn rerank(
    lua: &Lua,
    (model, query, documents, top): (String, String, Vec<String>, Option<usize>),
) -> Result<Value, Fault> {
    let done = on_pool(lua, move |all, cancel| all.rerank(&model, &query, &documents, top, cancel))?;
    // Places of Lua begin at 1.
    let shown: Vec<_> = done.results.iter().map(|one| json!({ "index": one.index + 1, "score": one.score })).collect();
    Ok(to_lua(lua, &json!(shown))?)
}
