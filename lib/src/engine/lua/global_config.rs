//! The global `Config`: the configuration as it is now, to be read only, and what the policy allows.

use std::path::PathBuf;

use mlua::{Function, Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};

use super::fault::{self, Fault};
use super::json::to_lua;
use super::stdlib::current;
use super::wait;
use crate::config::{known, view};
use crate::error::{Class, Error, Result};
use crate::log::redact;
use crate::runtime::CallOptions;
use crate::security::Profile;

/// Makes `Config`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let config = lua.create_table()?;
    let add = |name: &'static str, function: Function| config.raw_set(name, function);
    let get = |lua: &Lua, (path, default): (Option<String>, Option<Value>)| match path {
        Some(path) => {
            known(&path)?;
            match at(&values()?, &path) {
                Some(value) => Ok(to_lua(lua, value)?),
                None => Ok(default.unwrap_or(Value::Nil)),
            }
        }
        None => Ok(to_lua(lua, &values()?)?),
    };
    add("get", fault::function(lua, "get", get)?)?;
    let section = |lua: &Lua, path: String| {
        known(&path)?;
        match at(&values()?, &path) {
            Some(section @ Json::Object(_)) => Ok(to_lua(lua, section)?),
            _ => Err(Fault::from(
                Error::new(Class::Usage, format!("configuration: {path}: a key, no section"))
                    .hint(format!("Config.get({path:?}) reads it.")),
            )),
        }
    };
    add("getSection", fault::function(lua, "getSection", section)?)?;
    let whole = |lua: &Lua, _: MultiValue| Ok(to_lua(lua, &values()?)?);
    add("snapshot", fault::function(lua, "snapshot", whole)?)?;
    let text = |_: &Lua, _: MultiValue| Ok(format!("{:#}", values()?));
    add("toJson", fault::function(lua, "toJson", text)?)?;
    let engine = |_: &Lua, _: MultiValue| Ok(current()?.runtime.now().default_engine.clone());
    add("getDefaultEngine", fault::function(lua, "getDefaultEngine", engine)?)?;
    for (name, section) in [("getSecurity", "security"), ("getTools", "tools")] {
        let get = move |lua: &Lua, _: MultiValue| Ok(to_lua(lua, &values()?[section])?);
        add(name, fault::function(lua, name, get)?)?;
    }
    let provider = |lua: &Lua, name: String| Ok(to_lua(lua, &values()?["providers"][name])?);
    add("getProvider", fault::function(lua, "getProvider", provider)?)?;
    let providers = |_: &Lua, _: MultiValue| {
        let values = values()?;
        let entries = values["providers"].as_object().into_iter().flatten();
        Ok(entries.filter(|(_, entry)| entry.is_object()).map(|(name, _)| name.clone()).collect::<Vec<_>>())
    };
    add("listProviders", fault::function(lua, "listProviders", providers)?)?;
    add("isFileAccessAllowed", fault::function(lua, "isFileAccessAllowed", file_access)?)?;
    add("isNetworkAccessAllowed", fault::function(lua, "isNetworkAccessAllowed", network_access)?)?;
    let permissions = |lua: &Lua, _: MultiValue| {
        // What a script may do with the configuration, which is the same for all.
        Ok(to_lua(
            lua,
            &json!({
                "read": true, "modify_providers": false, "modify_tools": false, "modify_runtime": false,
                "modify_security": false, "access_secrets": false,
            }),
        )?)
    };
    add("getPermissions", fault::function(lua, "getPermissions", permissions)?)?;
    let metatable = lua.create_table()?;
    let refuse = |_: &Lua, (_, key): (Table, Value)| -> Result<(), Fault> {
        let name = key.as_string().map(|name| name.to_string_lossy()).unwrap_or_default();
        Err(Error::new(Class::Denied, format!("Config.{name}: scripts cannot change the configuration"))
            .hint("Set it in ~/.llmspell/config.toml, in the environment or by a flag; llmspell.toml(5) tells how.")
            .into())
    };
    metatable.raw_set("__newindex", fault::function(lua, "Config", refuse)?)?;
    config.set_metatable(Some(metatable))?;
    lua.globals().raw_set("Config", config)
}

/// All that is set, secrets hidden.
fn values() -> Result<Json> {
    fn hide(value: &mut Json) {
        match value {
            Json::String(text) => {
                if let std::borrow::Cow::Owned(masked) = redact(text) {
                    *text = masked;
                }
            }
            Json::Array(items) => items.iter_mut().for_each(hide),
            Json::Object(members) => members.values_mut().for_each(hide),
            _ => {}
        }
    }
    let mut values = view(&current()?.runtime.now());
    hide(&mut values);
    Ok(values)
}

fn at<'a>(values: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(values, |value, name| value.get(name))
}

/// Whether the policy lets `path` be read, or with `write` be written.
fn file_access(_: &Lua, (path, mode): (String, Option<String>)) -> Result<bool, Fault> {
    let run = current()?;
    let full = run.cwd.join(PathBuf::from(path));
    let policy = &run.runtime.policy;
    let checked = match mode.as_deref() {
        None | Some("read" | "r") => policy.check_read(&full),
        Some("write" | "w") => policy.check_write(&full),
        Some(other) => {
            let text = format!("Config.isFileAccessAllowed: {other:?}: read or write expected");
            return Err(Error::new(Class::Usage, text).into());
        }
    };
    allowed(checked)
}

/// Denied is no; what is not there is allowed all the same.
fn allowed<T>(checked: Result<T>) -> Result<bool, Fault> {
    match checked {
        Ok(_) => Ok(true),
        Err(error) if error.class() == Class::NotFound => Ok(true),
        Err(error) if error.class() == Class::Denied => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the policy lets `host` be reached; without one, whether any.
fn network_access(lua: &Lua, (host, port): (Option<String>, Option<u16>)) -> Result<bool, Fault> {
    let run = current()?;
    let Some(host) = host else {
        let named = || !run.runtime.now().security.allow_net.is_empty();
        return Ok(run.runtime.policy.profile() != Profile::Safe || named());
    };
    // Names are looked up, which may take its time.
    let policy = std::sync::Arc::clone(&run.runtime.policy);
    let checked = wait::wait(lua, &run, |queue| {
        let work = move |_: &crate::tools::Call| policy.check_host(&host, port.unwrap_or(443)).map(drop);
        let job = run.runtime.start(CallOptions::default(), work, move |result| queue.done(result));
        Ok(move || job.cancel())
    })?;
    allowed(checked)
}
