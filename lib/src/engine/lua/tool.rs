//! The global `Tool`: what the registry offers, as tables.

use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::{Map, Value as Json, json};

use super::fault::{self, Fault};
use super::json::{from_lua, to_lua};
use super::stdlib::current;
use super::wait::{self, Queue};
use crate::error::{Class, Error, Result};
use crate::runtime::{CallOptions, JobHandle};
use crate::tools::Progress;

/// Makes `Tool`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let tool = lua.create_table()?;
    let metatable = lua.create_table()?;
    let add = |name: &'static str, function: Function| tool.raw_set(name, function);
    let invoke_function = fault::function(lua, "invoke", |lua, mut args: MultiValue| {
        shift(lua, &mut args)?;
        let name = text(args.pop_front(), "invoke")?;
        invoke(lua, &name, args.pop_front(), args.pop_front())
    })?;
    add("execute", invoke_function.clone())?;
    add("invoke", invoke_function)?;
    add(
        "list",
        fault::function(lua, "list", |lua, mut args: MultiValue| {
            shift(lua, &mut args)?;
            listed(lua, &list(category(args.pop_front())?.as_deref())?)
        })?,
    )?;
    add(
        "discover",
        fault::function(lua, "discover", |lua, mut args: MultiValue| {
            shift(lua, &mut args)?;
            discover(lua, args.pop_front())
        })?,
    )?;
    add(
        "search",
        fault::function(lua, "search", |lua, mut args: MultiValue| {
            shift(lua, &mut args)?;
            let words = words(args.pop_front())?;
            let found = current()?.runtime.registry.search(&words, category(args.pop_front())?.as_deref())?;
            listed(lua, &found.into_iter().map(entry).collect::<Vec<_>>())
        })?,
    )?;
    add(
        "categories",
        fault::function(lua, "categories", |lua, _: MultiValue| {
            let mut names: Vec<Json> = list(None)?.iter().map(|entry| entry["category"].clone()).collect();
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            names.dedup();
            listed(lua, &names)
        })?,
    )?;
    add(
        "exists",
        fault::function(lua, "exists", |lua, mut args: MultiValue| {
            shift(lua, &mut args)?;
            Ok(current()?.runtime.registry.exists(&text(args.pop_front(), "exists")?))
        })?,
    )?;
    add(
        "info",
        fault::function(lua, "info", |lua, mut args: MultiValue| {
            shift(lua, &mut args)?;
            Ok(to_lua(lua, &current()?.runtime.registry.info(&text(args.pop_front(), "info")?)?)?)
        })?,
    )?;
    add(
        "test",
        fault::function(lua, "test", |lua, mut args: MultiValue| {
            shift(lua, &mut args)?;
            test(lua, text(args.pop_front(), "test")?)
        })?,
    )?;
    let object_metatable = lua.create_table()?;
    let call = |lua: &Lua, (tool, params, options): (Table, Option<Value>, Option<Value>)| {
        invoke(lua, &tool.raw_get::<String>("name")?, params, options)
    };
    object_metatable.raw_set("__call", fault::function(lua, "execute", call)?)?;
    let of_get = object_metatable.clone();
    add(
        "get",
        fault::function(lua, "get", move |lua, mut args: MultiValue| {
            shift(lua, &mut args)?;
            object(lua, &text(args.pop_front(), "get")?, &of_get)
        })?,
    )?;
    let index = move |lua: &Lua, (_, key): (Value, Value)| match key {
        Value::String(name) => object(lua, &name.to_string_lossy(), &object_metatable),
        _ => Ok(None),
    };
    metatable.raw_set("__index", fault::function(lua, "Tool", index)?)?;
    tool.set_metatable(Some(metatable))?;
    lua.set_named_registry_value(RESULT, result_metatable(lua)?)?;
    lua.globals().raw_set("tools", &tool)?;
    lua.globals().raw_set("Tool", tool)
}

/// Where the metatable of results is.
const RESULT: &str = "llmspell.tool.result";

/// What scripts of v0.10 read of a result, made when it is read: `_raw_text`, all of it as JSON; `text`, the text the tool
/// gave, else its message, else its data as JSON; `data`, that text as a value where it is JSON; and `metadata.response`.
fn result_metatable(lua: &Lua) -> mlua::Result<Table> {
    let metatable = lua.create_table()?;
    let index = |lua: &Lua, (result, key): (Table, Value)| -> Result<Value, Fault> {
        let Value::String(key) = key else { return Ok(Value::Nil) };
        let json = |value: &Value| Ok::<_, Fault>(Value::String(lua.create_string(from_lua(lua, value)?.to_string())?));
        match &*key.as_bytes() {
            b"_raw_text" => json(&Value::Table(result)),
            b"text" => match result.raw_get("message")? {
                Value::Nil => json(&result.raw_get("result")?),
                message => Ok(message),
            },
            b"data" => match result.raw_get::<Value>("text")? {
                Value::String(text) => match serde_json::from_slice::<Json>(&text.as_bytes()) {
                    Ok(data) => Ok(to_lua(lua, &data)?),
                    Err(_) => Ok(Value::Nil),
                },
                _ => Ok(Value::Nil),
            },
            _ => Ok(Value::Nil),
        }
    };
    metatable.raw_set("__index", fault::function(lua, "result", index)?)?;
    Ok(metatable)
}

/// The envelope as scripts get it.
fn result(lua: &Lua, envelope: &Json) -> Result<Value, Fault> {
    let value = to_lua(lua, envelope)?;
    let Value::Table(table) = &value else { return Ok(value) };
    table.set_metatable(Some(lua.named_registry_value(RESULT)?))?;
    if let Value::Table(metadata) = table.raw_get("metadata")? {
        let behind = lua.create_table()?;
        let fields = lua.create_table()?;
        fields.raw_set("response", table)?;
        fields.raw_set("operation", table.raw_get::<Value>("operation")?)?;
        behind.raw_set("__index", fields)?;
        metadata.set_metatable(Some(behind))?;
    }
    Ok(value)
}

/// The schema with what scripts of v0.10 read of one: `name`, and `parameters` with the types it had.
fn schema_of(info: &Json) -> Json {
    let mut schema = info["schema"].clone();
    let of = |row: &Json| {
        let name = row["name"].as_str().unwrap_or_default();
        let kind = match schema["properties"][name]["type"].as_str() {
            Some("integer") => "number",
            Some(kind) => kind,
            None => "string",
        };
        let mut row = row.clone();
        row["type"] = kind.into();
        row
    };
    let parameters: Vec<_> = info["parameters"].as_array().into_iter().flatten().map(of).collect();
    schema["name"] = info["name"].clone();
    schema["parameters"] = parameters.into();
    schema
}

/// `Tool:list()` works like `Tool.list()`.
fn shift(lua: &Lua, args: &mut MultiValue) -> mlua::Result<()> {
    if let Some(Value::Table(first)) = args.front()
        && lua.globals().raw_get::<Value>("Tool")? == Value::Table(first.clone())
    {
        args.pop_front();
    }
    Ok(())
}

fn text(value: Option<Value>, function: &str) -> Result<String> {
    match value {
        Some(Value::String(text)) => Ok(text.to_string_lossy()),
        other => Err(usage(format!("Tool.{function}: a tool's name expected, got {}", kind(other.as_ref())))),
    }
}

fn kind(value: Option<&Value>) -> &'static str {
    value.map_or("nothing", Value::type_name)
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

/// A category as such, or the field of a filter.
fn category(value: Option<Value>) -> Result<Option<String>, Fault> {
    match value {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.to_string_lossy())),
        Some(Value::Table(filter)) => Ok(filter.get("category")?),
        other => Err(usage(format!("category: string expected, got {}", kind(other.as_ref()))).into()),
    }
}

fn words(value: Option<Value>) -> Result<Vec<String>, Fault> {
    match value {
        Some(Value::String(words)) => Ok(words.to_string_lossy().split_whitespace().map(str::to_owned).collect()),
        Some(Value::Table(words)) => Ok(words.sequence_values::<String>().collect::<mlua::Result<_>>()?),
        other => Err(usage(format!("Tool.search: words expected, got {}", kind(other.as_ref()))).into()),
    }
}

/// An entry of the registry's list with the names scripts know.
fn entry(mut entry: Json) -> Json {
    if let Some(members) = entry.as_object_mut() {
        members.insert("description".into(), members.get("summary").cloned().unwrap_or_default());
        members.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    }
    entry
}

fn list(category: Option<&str>) -> Result<Vec<Json>> {
    Ok(current()?.runtime.registry.list(category)?.into_iter().map(entry).collect())
}

fn listed(lua: &Lua, entries: &[Json]) -> Result<Table, Fault> {
    let values = entries.iter().map(|entry| to_lua(lua, entry)).collect::<mlua::Result<Vec<_>>>()?;
    Ok(lua.create_sequence_from(values)?)
}

/// Those of a category whose description holds `tag`; a category nobody has is an empty list here.
fn discover(lua: &Lua, filter: Option<Value>) -> Result<Table, Fault> {
    let tag: Option<String> = match &filter {
        Some(Value::Table(filter)) => filter.get("tag")?,
        _ => None,
    };
    let (category, tag) = (category(filter)?, tag.map(|tag| tag.to_lowercase()));
    let fits = |entry: &Json| {
        let description = entry["description"].as_str().unwrap_or_default().to_lowercase();
        category.as_ref().is_none_or(|category| entry["category"] == **category)
            && tag.as_ref().is_none_or(|tag| description.contains(tag.as_str()))
    };
    listed(lua, &list(None)?.into_iter().filter(fits).collect::<Vec<_>>())
}

/// The tool `name` as a table that can be called; nil if there is none. One that only other builds have says so when
/// it is called: the nil of its name would not.
fn object(lua: &Lua, name: &str, metatable: &Table) -> Result<Option<Table>, Fault> {
    let registry = &current()?.runtime.registry;
    if registry.is_absent(name) {
        let table = lua.create_table()?;
        table.raw_set("name", name)?;
        table.raw_set("available", false)?;
        let name = name.to_owned();
        let refuse = fault::function(lua, "execute", move |_, _: MultiValue| -> Result<(), Fault> {
            Ok(current()?.runtime.registry.info(&name).map(drop)?)
        })?;
        table.raw_set("execute", &refuse)?;
        table.raw_set("invoke", &refuse)?;
        table.raw_set("getSchema", refuse)?;
        table.set_metatable(Some(metatable.clone()))?;
        return Ok(Some(table));
    }
    if !registry.exists(name) {
        return Ok(None);
    }
    let info = registry.info(name)?;
    let table = lua.create_table()?;
    for key in ["name", "category", "level"] {
        table.raw_set(key, to_lua(lua, &info[key])?)?;
    }
    table.raw_set("description", to_lua(lua, &info["summary"])?)?;
    table.raw_set("version", env!("CARGO_PKG_VERSION"))?;
    let schema = schema_of(&info);
    table.raw_set("schema", to_lua(lua, &schema)?)?;
    let name = info["name"].as_str().unwrap_or(name).to_owned();
    // `tool:execute(params)` and `tool.invoke(params)` alike: a tool is never another's parameters.
    let run = |name: String, metatable: Table| {
        move |lua: &Lua, mut args: MultiValue| {
            let own = args.front().and_then(Value::as_table).and_then(Table::metatable);
            if own.is_some_and(|own| own == metatable) {
                args.pop_front();
            }
            invoke(lua, &name, args.pop_front(), args.pop_front())
        }
    };
    table.raw_set("execute", fault::function(lua, "execute", run(name.clone(), metatable.clone()))?)?;
    table.raw_set("invoke", fault::function(lua, "invoke", run(name, metatable.clone()))?)?;
    let get_schema = move |lua: &Lua, _: MultiValue| Ok(to_lua(lua, &schema)?);
    table.raw_set("getSchema", fault::function(lua, "getSchema", get_schema)?)?;
    table.set_metatable(Some(metatable.clone()))?;
    Ok(Some(table))
}

/// Options of a call.
fn options(lua: &Lua, value: Option<Value>, queue: &Queue<Result<Json>>) -> Result<CallOptions, Fault> {
    let mut options = CallOptions { cwd: Some(current()?.cwd.clone()), ..CallOptions::default() };
    let table = match value {
        None | Some(Value::Nil) => return Ok(options),
        Some(Value::Table(table)) => table,
        other => return Err(usage(format!("options: table expected, got {}", kind(other.as_ref()))).into()),
    };
    options.timeout = match table.get::<Value>("timeout")? {
        Value::Nil => None,
        value => Some(duration(&value)?),
    };
    if let Some(function) = table.get::<Option<Function>>("on_progress")? {
        options.progress = Some(progress(lua, function, queue.clone())?);
    }
    Ok(options)
}

pub(super) fn duration(value: &Value) -> Result<Duration> {
    let wrong = || usage("timeout: a duration like \"5s\" or a number of seconds expected");
    match value {
        Value::String(text) => humantime::parse_duration(&text.to_string_lossy()).map_err(|_| wrong()),
        value => fault::number(value).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(wrong),
    }
}

/// Hands the lines a tool reports to `function`, on the script thread.
fn progress(lua: &Lua, function: Function, queue: Queue<Result<Json>>) -> mlua::Result<Progress> {
    let key = Arc::new(lua.create_registry_value(function)?);
    Ok(Arc::new(move |line: &str| {
        let (key, line) = (Arc::clone(&key), line.to_owned());
        queue.call(Box::new(move |lua| {
            let function: Function = lua.registry_value(&key)?;
            fault::call(lua, &function, line).map(drop)
        }));
    }))
}

/// Parameters for a tool: an empty table is an object, a whole number has no fraction.
fn params(lua: &Lua, value: Option<Value>) -> Result<Json> {
    fn whole(value: &mut Json) {
        match value {
            Json::Number(number) => {
                let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
                if let (true, Some(float)) = (number.is_f64(), float) {
                    *value = Json::from(float as i64);
                }
            }
            Json::Array(items) => items.iter_mut().for_each(whole),
            Json::Object(members) => members.values_mut().for_each(whole),
            _ => {}
        }
    }
    let mut params = match value {
        None | Some(Value::Nil) => Json::Object(Map::new()),
        Some(value @ Value::Table(_)) => from_lua(lua, &value).map_err(|error| error.within("params"))?,
        other => return Err(usage(format!("params: table expected, got {}", kind(other.as_ref())))),
    };
    whole(&mut params);
    if params == json!([]) {
        params = json!({});
    }
    Ok(params)
}

/// Runs a tool on the pool while this thread serves its progress. A tool that says no is a result; everything else raises.
pub(super) fn invoke(lua: &Lua, name: &str, given: Option<Value>, how: Option<Value>) -> Result<Value, Fault> {
    let run = current()?;
    let params = params(lua, given).map_err(|error| error.within(name))?;
    let operation = params["operation"].as_str().unwrap_or(name).to_owned();
    let mut bad_options = None;
    let answer = wait::wait(lua, &run, |queue: Queue<Result<Json>>| {
        let job: Option<JobHandle> = match options(lua, how, &queue) {
            Ok(options) => Some(run.runtime.invoke(name, params, options, move |result| queue.done(result))),
            Err(fault) => {
                bad_options = Some(fault);
                queue.done(Ok(Json::Null));
                None
            }
        };
        Ok(move || job.iter().for_each(JobHandle::cancel))
    })?;
    if let Some(fault) = bad_options {
        return Err(fault);
    }
    match answer {
        Ok(envelope) => result(lua, &envelope),
        Err(error) if error.class() == Class::Tool => result(lua, &refusal(&operation, &error)),
        Err(error) => Err(error.into()),
    }
}

/// The envelope of a tool that ran and said no.
fn refusal(operation: &str, error: &Error) -> Json {
    let mut value = json!({ "message": error.text(), "class": error.class().row().name });
    if let Some(hint) = error.next_step() {
        value["hint"] = hint.into();
    }
    json!({ "operation": operation, "success": false, "error": value })
}

/// Runs a tool's examples on the pool.
fn test(lua: &Lua, name: String) -> Result<MultiValue, Fault> {
    let run = current()?;
    let registry = Arc::clone(&run.runtime.registry);
    let options = CallOptions { cwd: Some(run.cwd.clone()), ..CallOptions::default() };
    let cases = wait::wait(lua, &run, |queue| {
        let job = run.runtime.start(options, move |call| registry.test(&name, call), move |result| queue.done(result));
        Ok(move || job.cancel())
    })??;
    let cases = serde_json::to_value(cases).map_err(|error| Error::new(Class::Bug, error.to_string()))?;
    Ok(to_lua(lua, &cases)?.into_lua_multi(lua)?)
}
