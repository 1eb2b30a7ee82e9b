//! What scripts of v0.10 may ask for and this build does not have: one row a name, with what to do instead. Using one says so.
//!
//! A row gives way to a global or function of that name, so what is built later only removes its row.

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::fault::{self, Fault};
use crate::error::{Class, Error};

/// One name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absent {
    /// `Session`, or `Tool.register`.
    pub(super) name: &'static str,
    /// What to do instead, a sentence.
    pub(super) instead: &'static str,
}

const fn row(name: &'static str, instead: &'static str) -> Absent {
    Absent { name, instead }
}

/// All of them. Globals also have a row in the reference.
pub(super) const ABSENT: &[Absent] = &[
    row("Session", "State keeps values after the script has ended, and a kernel keeps the history of its cells."),
    row("Artifact", "Keep text with State.save, and files with io.open or Tool.file_operations."),
    row("RAG", "Tool.file_search looks through files, Tool.web_search through the web."),
    row("Event", "Call the function that is to know; Comm reaches the widgets of a notebook."),
    row("Hook", "Call what is to run before or after from a function around the call."),
    row("Replay", "Run the script again; State keeps what it has to know of the last run."),
    row("Utils", "In v0.10 it had no functions."),
    row("Tool.batch", "Call Tool.invoke for each."),
    row("Tool.create", "A function of the script does as well; a module in package.path shares it."),
    row("Tool.executeAsync", "Tool.invoke waits for the result; its option on_progress hears of it meanwhile."),
    row("Tool.get_info", "It is Tool.info(name)."),
    row("Tool.get_schema", "It is Tool.get(name).schema."),
    row("Tool.is_available", "It is Tool.exists(name)."),
    row("Tool.register", "A function of the script does as well; a module in package.path shares it."),
    row("Tool.unregister", "The key tools.deny of llmspell.toml(5) takes a tool away."),
    row("State.all", "It is State.list_keys(scope), then State.load for each."),
    row("State.append", "State.load the list, add to it, State.save it."),
    row("State.get_schema_versions", "State.get_migration_status tells the version there is."),
    row("State.keys", "It is State.list_keys(scope)."),
    row("State.list", "It is State.list_keys(scope)."),
    row("Config.addAllowedPath", "Scripts cannot widen what they may do: --allow-write, or security.allow_write."),
    row("Config.restoreSnapshot", "Scripts cannot change the configuration; there is nothing to restore."),
    row("Config.setProvider", "Scripts cannot change the configuration: set it in ~/.llmspell/config.toml."),
    row("Config.setSecurity", "Scripts cannot change what they may do: flags and ~/.llmspell/config.toml can."),
    row("Workflow.create", "It is Workflow.builder(), or Workflow.sequential{…} and the like."),
    row("Workflow.delete", "It is Workflow.remove(id)."),
    row("Workflow.discover_types", "It is Workflow.types()."),
    row("Workflow.execute", "It is workflow:execute(input), of the workflow that was built."),
    row("Workflow.executeAsync", "Make it a step of a parallel workflow: it runs beside the others."),
    row("Workflow.from_file", "A module that builds it, got by require, keeps a workflow in a file."),
    row("Workflow.from_yaml", "A workflow is a Lua table: Workflow.sequential{…}."),
    row("Workflow.save", "The script is what keeps a workflow; its executions keep themselves."),
    row("JSON.decode", "It is JSON.parse(text)."),
    row("JSON.encode", "It is JSON.stringify(value)."),
];

impl Absent {
    /// What is raised when `asked`, this or something of it, is used.
    fn error(&self, asked: &str) -> Fault {
        Error::new(Class::Absent, format!("{asked} is not in this build")).hint(self.instead).into()
    }
}

/// What to do instead of the global `name`, if it is one of them.
pub(super) fn instead(name: &str) -> Option<&'static str> {
    ABSENT.iter().find(|row| row.name == name).map(|row| row.instead)
}

/// Puts them where nothing is. The last of all that open.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let globals = lua.globals();
    for row in ABSENT {
        match row.name.split_once('.') {
            None if globals.raw_get::<Value>(row.name)?.is_nil() => globals.raw_set(row.name, global(lua, row)?)?,
            _ => {}
        }
    }
    let mut owners: Vec<_> = ABSENT.iter().filter_map(|row| Some(row.name.split_once('.')?.0)).collect();
    owners.dedup();
    owners.into_iter().try_for_each(|owner| match globals.raw_get(owner)? {
        Value::Table(table) => fields(lua, owner, &table),
        _ => Ok(()),
    })
}

/// A table that raises whatever is done with it.
fn global(lua: &Lua, row: &'static Absent) -> mlua::Result<Table> {
    let metatable = lua.create_table()?;
    let index = move |_: &Lua, (_, key): (Value, Value)| -> Result<(), Fault> {
        Err(match key {
            Value::String(key) => row.error(&format!("{}.{}", row.name, key.to_string_lossy())),
            _ => row.error(row.name),
        })
    };
    metatable.raw_set("__index", fault::function(lua, row.name, index)?)?;
    let refuse = move |_: &Lua, _: MultiValue| -> Result<(), Fault> { Err(row.error(row.name)) };
    metatable.raw_set("__call", fault::function(lua, row.name, refuse)?)?;
    metatable.raw_set("__name", "absent")?;
    let text = move |_: &Lua, _: MultiValue| Ok(format!("{} (not in this build)", row.name));
    metatable.raw_set("__tostring", fault::function(lua, row.name, text)?)?;
    let table = lua.create_table()?;
    table.set_metatable(Some(metatable))?;
    Ok(table)
}

/// Lets `table`, the global `owner`, answer functions that raise for its names, unless it has them.
fn fields(lua: &Lua, owner: &'static str, table: &Table) -> mlua::Result<()> {
    let metatable = match table.metatable() {
        Some(metatable) => metatable,
        None => lua.create_table()?,
    };
    let before: Value = metatable.raw_get("__index")?;
    let index = move |lua: &Lua, (table, key): (Table, Value)| -> Result<Value, Fault> {
        if let Value::String(name) = &key
            && let Some(row) = find(owner, &name.to_string_lossy())
        {
            return Ok(Value::Function(refusing(lua, row)?));
        }
        Ok(match &before {
            Value::Function(before) => fault::call(lua, before, (table, key))?.pop_front().unwrap_or(Value::Nil),
            Value::Table(before) => before.get(key)?,
            _ => Value::Nil,
        })
    };
    metatable.raw_set("__index", fault::function(lua, owner, index)?)?;
    table.set_metatable(Some(metatable))
}

fn find(owner: &str, name: &str) -> Option<&'static Absent> {
    ABSENT.iter().find(|row| row.name.split_once('.') == Some((owner, name)))
}

fn refusing(lua: &Lua, row: &'static Absent) -> mlua::Result<Function> {
    fault::function(lua, row.name, move |_, _: MultiValue| -> Result<(), Fault> { Err(row.error(row.name)) })
}
