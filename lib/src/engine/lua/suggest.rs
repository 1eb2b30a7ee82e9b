//! What may have been meant by a name that is nil: the hint of `attempt to call a nil value (field 'invok')`.

use mlua::{Lua, Value};

use super::api;
use super::cursor::Chain;
use super::look::{self, Thing};
use crate::error::nearest;

/// The hint for `message`, raised by `line` of a script.
pub(super) fn hint(lua: &Lua, message: &str, line: &str) -> Option<String> {
    let (_, rest) = message.split_once("a nil value (")?;
    let (kind, rest) = rest.split_once(" '")?;
    let name = &rest[..rest.find('\'')?];
    let (owner, names) = match kind {
        "global" => (None, globals(lua)),
        "field" | "method" => match owner(line, name) {
            Some(owner) => (Some(owner), fields(lua, owner)?),
            None => return None,
        },
        _ => return None,
    };
    // A name of the other case, or one that others call so.
    let same = names.iter().find(|known| known.to_lowercase() == name.to_lowercase());
    let near = same.map(String::as_str).or_else(|| nearest(name, names.iter().map(String::as_str)))?;
    if near == name {
        return None;
    }
    Some(match owner {
        Some(owner) if kind == "method" => format!("Did you mean {owner}:{near}?"),
        Some(owner) => format!("Did you mean {owner}.{near}?"),
        None => format!("Did you mean {near}?"),
    })
}

/// What stands in front of `name` in `line`: `Tool` of `Tool.invok(…)`.
fn owner<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.match_indices(name).find_map(|(at, _)| {
        let before = line[..at].strip_suffix(['.', ':'])?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let start = before.rfind(|c| !is_name(c)).map_or(0, |at| at + 1);
        let owner = before.get(start..)?;
        let whole = line[at + name.len()..].chars().next().is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
        (!owner.is_empty() && whole).then_some(owner)
    })
}

fn globals(lua: &Lua) -> Vec<String> {
    let mut names: Vec<_> = look::fields(lua, &Value::Table(lua.globals())).into_keys().collect();
    names.extend(api::entries().map(|entry| entry.name.to_owned()).filter(|name| !name.contains('.')));
    names
}

/// What `owner` has. A local is not known here: then what values of any kind have.
fn fields(lua: &Lua, owner: &str) -> Option<Vec<String>> {
    match look::resolve(lua, &Chain::of(owner)) {
        Some(Thing::Value(value)) => {
            let mut names: Vec<_> = look::fields(lua, &value).into_keys().collect();
            if look::is_tool_table(lua, &value) {
                let context = look::context(lua)?;
                names.extend(context.runtime.registry.names().map(str::to_owned));
            }
            Some(names)
        }
        Some(Thing::Tool(_)) => Some(api::methods("tool").map(|(name, _)| name.to_owned()).collect()),
        _ => {
            let methods = api::kinds().flat_map(api::methods).map(|(name, _)| name.to_owned());
            Some(methods.collect())
        }
    }
}
