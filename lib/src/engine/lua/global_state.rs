//! The global `State`: values that outlive the script.

use std::time::Instant;

use mlua::{Function, Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};

use super::fault::{self, Fault};
use super::json::{from_lua, to_lua};
use super::stdlib::current;
use crate::error::{Class, Error, Result};
use crate::state::State;

/// Where the version that [`migrate`] counts is kept.
const VERSION: (&str, &str) = ("llmspell", "schema_version");

/// Steps of one migration.
const MOST_STEPS: i64 = 10_000;

/// Makes `State`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let table = lua.create_table()?;
    let add = |name: &'static str, function: Function| table.raw_set(name, function);
    add("save", fault::function(lua, "save", save)?)?;
    add("set", fault::function(lua, "set", save)?)?;
    add("load", fault::function(lua, "load", load)?)?;
    add("get", fault::function(lua, "get", load)?)?;
    add("save_all", fault::function(lua, "save_all", save_all)?)?;
    let delete = |_: &Lua, args: MultiValue| {
        let [scope, key] = names(&args, "delete")?;
        with(|state| state.delete(&scope, &key))
    };
    add("delete", fault::function(lua, "delete", delete)?)?;
    let exists = |_: &Lua, args: MultiValue| {
        let [scope, key] = names(&args, "exists")?;
        with(|state| Ok(state.load(&scope, &key)?.is_some()))
    };
    add("exists", fault::function(lua, "exists", exists)?)?;
    let keys = |_: &Lua, scope: String| with(|state| state.keys(&scope));
    add("list_keys", fault::function(lua, "list_keys", keys)?)?;
    let clear = |_: &Lua, scope: String| with(|state| state.clear(&scope));
    add("clear", fault::function(lua, "clear", clear)?)?;
    add("increment", fault::function(lua, "increment", increment)?)?;
    add("compare_and_swap", fault::function(lua, "compare_and_swap", compare_and_swap)?)?;
    for (kind, getter, setter) in [("agent", "agent_get", "agent_set"), ("tool", "tool_get", "tool_set")] {
        let get = move |lua: &Lua, (id, key): (String, String)| value(lua, kind, &format!("{id}:{key}"));
        add(getter, fault::function(lua, getter, get)?)?;
        let set = move |lua: &Lua, (id, key, value): (String, String, Value)| {
            let value = from_lua(lua, &value)?;
            with(|state| state.save(kind, &format!("{id}:{key}"), &value))
        };
        add(setter, fault::function(lua, setter, set)?)?;
    }
    let get = |lua: &Lua, (id, step): (String, String)| value(lua, "workflow", &format!("{id}:{step}"));
    add("workflow_get", fault::function(lua, "workflow_get", get)?)?;
    let list = |_: &Lua, id: String| with(|state| state.keys(&format!("workflow:{id}")));
    add("workflow_list", fault::function(lua, "workflow_list", list)?)?;
    add("migrate", fault::function(lua, "migrate", migrate)?)?;
    let version = |lua: &Lua, ()| Ok(to_lua(lua, &json!({ "current_version": with(version)? }))?);
    add("get_migration_status", fault::function(lua, "get_migration_status", version)?)?;
    backups(lua, &table)?;
    lua.globals().raw_set("State", table)
}

fn with<T>(work: impl FnOnce(&State) -> Result<T>) -> Result<T, Fault> {
    Ok(work(&current()?.runtime.state)?)
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Usage, text)
}

fn name(value: Option<&Value>, function: &str, what: &str) -> Result<String> {
    match value {
        Some(Value::String(text)) => Ok(text.to_string_lossy()),
        Some(Value::Integer(number)) => Ok(number.to_string()),
        other => {
            let kind = other.map_or("nothing", Value::type_name);
            Err(usage(format!("State.{function}: {what}: string expected, got {kind}")))
        }
    }
}

/// Scope and key, the first two arguments.
fn names(args: &MultiValue, function: &str) -> Result<[String; 2]> {
    Ok([name(args.front(), function, "scope")?, name(args.get(1), function, "key")?])
}

fn save(lua: &Lua, args: MultiValue) -> Result<(), Fault> {
    let [scope, key] = names(&args, "save")?;
    let value = from_lua(lua, args.get(2).unwrap_or(&Value::Nil)).map_err(|error| error.within(key.clone()))?;
    with(|state| state.save(&scope, &key, &value))
}

/// The value; the third argument where there is none.
fn load(lua: &Lua, mut args: MultiValue) -> Result<Value, Fault> {
    let [scope, key] = names(&args, "load")?;
    match with(|state| state.load(&scope, &key))? {
        Some(value) => Ok(to_lua(lua, &value)?),
        None => Ok(args.remove(2).unwrap_or(Value::Nil)),
    }
}

fn value(lua: &Lua, scope: &str, key: &str) -> Result<Value, Fault> {
    let value = with(|state| state.load(scope, key))?;
    Ok(value.map_or(Ok(Value::Nil), |value| to_lua(lua, &value))?)
}

fn save_all(lua: &Lua, (scope, values): (String, Table)) -> Result<(), Fault> {
    let values = values
        .pairs::<Value, Value>()
        .map(|pair| {
            let (key, value) = pair?;
            let key = name(Some(&key), "save_all", "key")?;
            let value = from_lua(lua, &value).map_err(|error| error.within(key.clone()))?;
            Ok((key, value))
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    with(|state| state.save_all(&scope, values.iter().map(|(key, value)| (key.as_str(), value))))
}

fn increment(lua: &Lua, (scope, key, by): (String, String, Option<Value>)) -> Result<Value, Fault> {
    let by = match from_lua(lua, &by.unwrap_or(Value::Integer(1)))? {
        Json::Number(by) => by,
        _ => return Err(usage("State.increment: by: number expected").into()),
    };
    let sum = with(|state| state.increment(&scope, &key, &by))?;
    Ok(to_lua(lua, &sum.into())?)
}

fn compare_and_swap(lua: &Lua, args: MultiValue) -> Result<bool, Fault> {
    let [scope, key] = names(&args, "compare_and_swap")?;
    let given = |at: usize| match args.get(at) {
        None | Some(Value::Nil) => Ok(None),
        Some(value) => from_lua(lua, value).map(Some),
    };
    let (expected, new) = (given(2)?, given(3)?);
    with(|state| state.compare_and_swap(&scope, &key, expected.as_ref(), new))
}

fn version(state: &State) -> Result<i64> {
    Ok(state.load(VERSION.0, VERSION.1)?.and_then(|version| version.as_i64()).unwrap_or(0))
}

/// `State.migrate(version, steps)`: calls `steps[n]` for each version that is still to come, and counts it once it is done.
fn migrate(lua: &Lua, (to, steps): (i64, Table)) -> Result<Value, Fault> {
    let began = Instant::now();
    let from = with(version)?;
    if to < from || to < 0 {
        return Err(usage(format!("State.migrate: the state is of version {from} already")).into());
    }
    if to - from > MOST_STEPS {
        return Err(usage(format!("State.migrate: {to}: more than {MOST_STEPS} steps from version {from}")).into());
    }
    let step = |number: i64| match steps.get::<Value>(number)? {
        Value::Function(step) => Ok(step),
        _ => Err(Fault::from(usage(format!("State.migrate: steps[{number}]: function expected")))),
    };
    // All are looked for before the first is run.
    let steps = (from + 1..=to).map(|number| Ok((number, step(number)?))).collect::<Result<Vec<_>, Fault>>()?;
    for (number, step) in &steps {
        fault::call(lua, step, ())?;
        with(|state| state.save(VERSION.0, VERSION.1, &json!(number)))?;
    }
    let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    let done = json!({
        "success": true, "status": if steps.is_empty() { "up_to_date" } else { "completed" },
        "from_version": from, "to_version": to, "current_version": to, "duration_ms": milliseconds,
    });
    Ok(to_lua(lua, &done)?)
}

/// `create_backup`, `list_backups`, `restore_backup`, `validate_backup`, `cleanup_backups` and `get_storage_usage`.
fn backups(lua: &Lua, table: &Table) -> mlua::Result<()> {
    /// Copies that a clean-up keeps.
    const KEPT: usize = 10;
    fn shown<T: serde::Serialize>(lua: &Lua, value: T) -> Result<Value, Fault> {
        let value = serde_json::to_value(value).map_err(|error| Error::new(Class::Bug, error.to_string()))?;
        Ok(to_lua(lua, &value)?)
    }
    let create = |lua: &Lua, _: MultiValue| {
        let backup = with(State::backup)?;
        shown(lua, json!({ "success": true, "backup_id": backup.id, "size_bytes": backup.size }))
    };
    table.raw_set("create_backup", fault::function(lua, "create_backup", create)?)?;
    let list = |lua: &Lua, ()| shown(lua, with(State::backups)?);
    table.raw_set("list_backups", fault::function(lua, "list_backups", list)?)?;
    let restore = |lua: &Lua, id: String| {
        let count = with(|state| state.restore(&id))?;
        shown(lua, json!({ "success": true, "backup_id": id, "items_restored": count }))
    };
    table.raw_set("restore_backup", fault::function(lua, "restore_backup", restore)?)?;
    let validate = |lua: &Lua, id: String| {
        let wrong = with(|state| state.validate_backup(&id))?;
        shown(lua, json!({ "backup_id": id, "is_valid": wrong.is_none(), "error": wrong }))
    };
    table.raw_set("validate_backup", fault::function(lua, "validate_backup", validate)?)?;
    let cleanup = |lua: &Lua, (dry, keep): (Option<bool>, Option<usize>)| {
        let mut old = with(State::backups)?;
        old.truncate(old.len().saturating_sub(keep.unwrap_or(KEPT)));
        if !dry.unwrap_or(false) {
            old.iter().try_for_each(|backup| with(|state| state.remove_backup(&backup.id)))?;
        }
        shown(lua, json!({ "success": true, "dry_run": dry.unwrap_or(false), "removed": old }))
    };
    table.raw_set("cleanup_backups", fault::function(lua, "cleanup_backups", cleanup)?)?;
    let size = |lua: &Lua, ()| {
        let (count, bytes) = with(State::size)?;
        let file = current()?.runtime.state.file().and_then(|file| file.metadata().ok()).map(|meta| meta.len());
        shown(lua, json!({ "items": count, "value_bytes": bytes, "file_bytes": file }))
    };
    table.raw_set("get_storage_usage", fault::function(lua, "get_storage_usage", size)?)
}
