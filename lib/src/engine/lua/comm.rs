//! The global `Comm`: messages to and from a client's widgets.

use mlua::{Function, Lua, Table, Value};
use serde_json::{Value as Json, json};

use super::fault::{self, Fault};
use super::json::{from_lua, to_lua};
use super::stdlib::current;
use crate::error::{Class, Error, Result};
use crate::protocol::content::{Comm, CommContent, CommKind};

/// Where the tables below are kept.
const KEY: &str = "llmspell.comm";

/// A function and its arguments.
pub(super) type Call = (Function, Vec<Value>);

/// What a state knows of its comms.
struct Comms {
    /// Functions by target.
    targets: Table,
    /// Comms by id.
    open: Table,
    /// `{on_msg, on_close}` by id.
    handlers: Table,
    /// Of every comm.
    metatable: Table,
}

impl Comms {
    fn of(lua: &Lua) -> mlua::Result<Self> {
        let all: Table = lua.named_registry_value(KEY)?;
        let part = |name: &str| all.raw_get::<Table>(name);
        Ok(Comms {
            targets: part("targets")?,
            open: part("open")?,
            handlers: part("handlers")?,
            metatable: part("metatable")?,
        })
    }

    /// A new comm, known from now on.
    fn add(&self, lua: &Lua, id: &str, target: &str) -> mlua::Result<Table> {
        let comm = lua.create_table()?;
        comm.raw_set("id", id)?;
        comm.raw_set("target", target)?;
        comm.set_metatable(Some(self.metatable.clone()))?;
        self.open.raw_set(id, &comm)?;
        self.handlers.raw_set(id, lua.create_table()?)?;
        Ok(comm)
    }

    fn remove(&self, id: &str) -> mlua::Result<()> {
        self.open.raw_remove(id)?;
        self.handlers.raw_remove(id)
    }
}

/// Makes `Comm`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let all = lua.create_table()?;
    for name in ["targets", "open", "handlers", "metatable"] {
        all.raw_set(name, lua.create_table()?)?;
    }
    let metatable: Table = all.raw_get("metatable")?;
    metatable.raw_set("__name", "comm")?;
    metatable.raw_set("__index", methods(lua)?)?;
    lua.set_named_registry_value(KEY, all)?;

    let comm = lua.create_table()?;
    let register = |lua: &Lua, (target, function): (String, Function)| -> Result<(), Fault> {
        Ok(Comms::of(lua)?.targets.raw_set(target, function)?)
    };
    comm.raw_set("register", fault::function(lua, "register", register)?)?;
    let unregister =
        |lua: &Lua, target: String| -> Result<(), Fault> { Ok(Comms::of(lua)?.targets.raw_remove(target)?) };
    comm.raw_set("unregister", fault::function(lua, "unregister", unregister)?)?;
    let open = |lua: &Lua, (target, data, metadata, buffers): (String, Value, Value, Option<Table>)| {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let comms = Comms::of(lua)?;
        let comm = comms.add(lua, &id, &target)?;
        if let Err(fault) = send(lua, CommKind::Open, &id, Some(target), &data, &metadata, buffers) {
            comms.remove(&id)?;
            return Err(fault);
        }
        Ok(comm)
    };
    comm.raw_set("open", fault::function(lua, "open", open)?)?;
    let list = |lua: &Lua, ()| {
        let list = lua.create_table()?;
        for (id, target) in self::list(lua) {
            list.raw_set(id, target)?;
        }
        Ok(list)
    };
    comm.raw_set("list", fault::function(lua, "list", list)?)?;
    lua.globals().raw_set("Comm", comm)
}

fn methods(lua: &Lua) -> mlua::Result<Table> {
    let methods = lua.create_table()?;
    let send_data = |lua: &Lua, (comm, data, metadata, buffers): (Value, Value, Value, Option<Table>)| {
        send(lua, CommKind::Msg, &id(lua, &comm)?, None, &data, &metadata, buffers)
    };
    methods.raw_set("send", fault::function(lua, "send", send_data)?)?;
    let close = |lua: &Lua, (comm, data, metadata, buffers): (Value, Value, Value, Option<Table>)| {
        let id = id(lua, &comm)?;
        send(lua, CommKind::Close, &id, None, &data, &metadata, buffers)?;
        Ok(Comms::of(lua)?.remove(&id)?)
    };
    methods.raw_set("close", fault::function(lua, "close", close)?)?;
    for name in ["on_msg", "on_close"] {
        let on = move |lua: &Lua, (comm, function): (Value, Option<Function>)| -> Result<(), Fault> {
            let handlers: Table = Comms::of(lua)?.handlers.raw_get(id(lua, &comm)?)?;
            Ok(handlers.raw_set(name, function)?)
        };
        methods.raw_set(name, fault::function(lua, name, on)?)?;
    }
    Ok(methods)
}

/// The id of a comm that is open.
fn id(lua: &Lua, comm: &Value) -> Result<String, Fault> {
    let known = |table: &Table| -> Option<String> {
        let id: String = table.raw_get("id").ok()?;
        let open: Table = Comms::of(lua).ok()?.open.raw_get(id.as_str()).ok()?;
        (open == *table).then_some(id)
    };
    match comm {
        Value::Table(table) => match known(table) {
            Some(id) => Ok(id),
            None => Err(Error::new(Class::Usage, "comm: it is closed").into()),
        },
        other => Err(Error::new(Class::Usage, format!("comm expected, got {}", other.type_name()))
            .hint("Call it with a colon, as in comm:send(data).")
            .into()),
    }
}

fn send(
    lua: &Lua,
    kind: CommKind,
    id: &str,
    target: Option<String>,
    data: &Value,
    metadata: &Value,
    buffers: Option<Table>,
) -> Result<(), Fault> {
    let object = |value: &Value, what: &str| -> Result<Json> {
        match from_lua(lua, value).map_err(|error| error.within(what))? {
            Json::Null => Ok(json!({})),
            Json::Array(items) if items.is_empty() => Ok(json!({})),
            other => Ok(other),
        }
    };
    let metadata = object(metadata, "metadata")?;
    if !metadata.is_object() {
        return Err(Error::new(Class::Usage, "metadata: a table with names expected").into());
    }
    let buffers: Vec<mlua::LuaString> = match buffers {
        Some(list) => list.sequence_values().collect::<mlua::Result<_>>()?,
        None => Vec::new(),
    };
    let content = CommContent { comm_id: id.to_owned(), target_name: target, data: object(data, "data")? };
    let buffers = buffers.iter().map(|bytes| bytes.as_bytes().to_vec()).collect();
    Ok(current()?.output.comm(&Comm { kind, content, metadata, buffers })?)
}

/// Id and target of every comm, sorted.
pub(super) fn list(lua: &Lua) -> Vec<(String, String)> {
    let Ok(comms) = Comms::of(lua) else { return Vec::new() };
    let target = |(id, comm): (String, Table)| Some((id, comm.raw_get("target").ok()?));
    let mut list: Vec<_> = comms.open.pairs::<String, Table>().flatten().filter_map(target).collect();
    list.sort();
    list
}

/// The function that is to hear `message`, and what it is to be given. `None`: nobody is to; else without a function, all is
/// done already.
pub(super) fn arrived(lua: &Lua, message: &Comm) -> mlua::Result<Option<Option<Call>>> {
    let (comms, id) = (Comms::of(lua)?, message.content.comm_id.as_str());
    if message.kind == CommKind::Open {
        let target = message.content.target_name.as_deref().unwrap_or_default();
        let Some(function) = comms.targets.raw_get::<Option<Function>>(target)? else { return Ok(None) };
        let comm = comms.add(lua, id, target)?;
        return Ok(Some(Some((function, vec![Value::Table(comm), told(lua, message)?]))));
    }
    let Some(handlers) = comms.handlers.raw_get::<Option<Table>>(id)? else { return Ok(None) };
    if message.kind == CommKind::Close {
        comms.remove(id)?;
    }
    let name = if message.kind == CommKind::Close { "on_close" } else { "on_msg" };
    let function: Option<Function> = handlers.raw_get(name)?;
    Ok(Some(match function {
        Some(function) => Some((function, vec![told(lua, message)?])),
        None => None,
    }))
}

/// Forgets a comm whose opening failed.
pub(super) fn forget(lua: &Lua, id: &str) {
    if let Ok(comms) = Comms::of(lua) {
        comms.remove(id).ok();
    }
}

/// A message as scripts see it.
fn told(lua: &Lua, message: &Comm) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.raw_set("comm_id", message.content.comm_id.as_str())?;
    table.raw_set("data", to_lua(lua, &message.content.data)?)?;
    table.raw_set("metadata", to_lua(lua, &message.metadata)?)?;
    let buffers = message.buffers.iter().map(|bytes| lua.create_string(bytes)).collect::<mlua::Result<Vec<_>>>()?;
    table.raw_set("buffers", lua.create_sequence_from(buffers)?)?;
    Ok(Value::Table(table))
}
