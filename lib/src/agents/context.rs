//! What agents share: contexts, each with a parent it may inherit from, and memory by scope. It lives as long as the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use crate::error::{Class, Error, Result};

/// What a child gets of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inherit {
    /// It looks into its parent.
    See,
    /// It begins with a copy.
    Copy,
    /// It is the same.
    Share,
    /// Nothing.
    Nothing,
}

#[derive(Debug)]
struct One {
    parent: Option<String>,
    inherit: Inherit,
    about: Value,
    data: Map<String, Value>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Contexts {
    contexts: Mutex<HashMap<String, One>>,
    memory: Mutex<HashMap<String, Map<String, Value>>>,
}

/// `global`, or `KIND:ID`.
///
/// # Errors
/// `Usage` for an unknown type or a missing id.
pub fn scope_name(scope: &Value) -> Result<String> {
    let kind = match scope {
        Value::Null => "global",
        Value::Object(scope) => scope.get("type").map_or(Some("global"), Value::as_str).unwrap_or_default(),
        Value::Array(list) if list.is_empty() => "global",
        _ => return Err(Error::new(Class::Usage, "scope: a table like {type = \"session\", id = …} expected")),
    };
    match kind {
        "global" => Ok("global".into()),
        "session" | "workflow" | "agent" | "user" => match scope["id"].as_str().filter(|id| !id.is_empty()) {
            Some(id) => Ok(format!("{kind}:{id}")),
            None => Err(Error::new(Class::Usage, format!("scope: type {kind} needs an id"))),
        },
        _ => Err(Error::new(
            Class::Usage,
            format!("scope: type {kind:?} is not one of global, session, workflow, agent, user"),
        )),
    }
}

impl Contexts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, One>> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unknown(id: &str) -> Error {
        Error::new(Class::NotFound, format!("context {id}: no such context"))
    }

    /// A new one; its id.
    ///
    /// # Errors
    /// `Usage` for a scope that is none, `Conflict` when its `conversation_id` is taken.
    pub fn create(&self, config: &Value) -> Result<String> {
        scope_name(&config["scope"])?;
        let data = config["data"].as_object().cloned().unwrap_or_default();
        let given = config["conversation_id"].as_str().map(str::to_owned);
        let id = given.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let mut all = self.lock();
        if all.contains_key(&id) {
            return Err(Error::new(Class::Conflict, format!("context {id}: there is one")));
        }
        all.insert(id.clone(), One { parent: None, inherit: Inherit::Nothing, about: config.clone(), data });
        Ok(id)
    }

    /// One below `parent`, which it inherits from as `inheritance` says: `inherit`, `copy`, `share`, `isolate`.
    ///
    /// # Errors
    /// `NotFound` for an unknown parent, `Usage` for a scope or an inheritance that is none.
    pub fn child(&self, parent: &str, scope: &Value, inheritance: &str) -> Result<String> {
        scope_name(scope)?;
        let inherit = match inheritance {
            "inherit" | "" => Inherit::See,
            "copy" => Inherit::Copy,
            "share" => Inherit::Share,
            "isolate" => Inherit::Nothing,
            other => {
                let text = format!("inheritance: {other:?} is not one of inherit, copy, share, isolate");
                return Err(Error::new(Class::Usage, text));
            }
        };
        let mut all = self.lock();
        if !all.contains_key(parent) {
            return Err(Self::unknown(parent));
        }
        let data = if inherit == Inherit::Copy { Self::all(&all, parent) } else { Map::new() };
        let id = uuid::Uuid::new_v4().to_string();
        let about = serde_json::json!({ "scope": scope, "parent": parent, "inheritance": inheritance });
        all.insert(id.clone(), One { parent: Some(parent.to_owned()), inherit, about, data });
        Ok(id)
    }

    /// The context whose data `id` writes.
    fn owner(all: &HashMap<String, One>, id: &str) -> String {
        let mut id = id.to_owned();
        // Parents are older than children, so this ends.
        while let Some(One { inherit: Inherit::Share, parent: Some(parent), .. }) = all.get(&id) {
            if !all.contains_key(parent) {
                break;
            }
            id.clone_from(parent);
        }
        id
    }

    /// Keeps a value.
    ///
    /// # Errors
    /// `NotFound` for an unknown context.
    pub fn set(&self, id: &str, key: &str, value: Value) -> Result<()> {
        let mut all = self.lock();
        let id = Self::owner(&all, id);
        let one = all.get_mut(&id).ok_or_else(|| Self::unknown(&id))?;
        one.data.insert(key.to_owned(), value);
        Ok(())
    }

    /// The value, its own or an inherited one.
    ///
    /// # Errors
    /// `NotFound` for an unknown context.
    pub fn get(&self, id: &str, key: &str) -> Result<Option<Value>> {
        let all = self.lock();
        if !all.contains_key(id) {
            return Err(Self::unknown(id));
        }
        Ok(Self::all(&all, id).remove(key))
    }

    /// All that `id` sees.
    fn all(all: &HashMap<String, One>, id: &str) -> Map<String, Value> {
        let Some(one) = all.get(id) else { return Map::new() };
        let mut data = match (&one.parent, one.inherit) {
            (Some(parent), Inherit::See | Inherit::Share) => Self::all(all, parent),
            _ => Map::new(),
        };
        data.extend(one.data.clone());
        data
    }

    /// What was said when it was made, and all it sees: for a model.
    ///
    /// # Errors
    /// `NotFound` for an unknown context.
    pub fn about(&self, id: &str) -> Result<(Value, Map<String, Value>)> {
        let all = self.lock();
        let one = all.get(id).ok_or_else(|| Self::unknown(id))?;
        Ok((one.about.clone(), Self::all(&all, id)))
    }

    /// Forgets it.
    ///
    /// # Errors
    /// `NotFound` for an unknown context.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.lock().remove(id).map(drop).ok_or_else(|| Self::unknown(id))
    }

    /// Keeps a value in the memory of a scope.
    ///
    /// # Errors
    /// `Usage` for a scope that is none.
    pub fn remember(&self, scope: &Value, key: &str, value: Value) -> Result<()> {
        let scope = scope_name(scope)?;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.entry(scope).or_default().insert(key.to_owned(), value);
        Ok(())
    }

    /// The value in the memory of a scope.
    ///
    /// # Errors
    /// `Usage` for a scope that is none.
    pub fn recall(&self, scope: &Value, key: &str) -> Result<Option<Value>> {
        let scope = scope_name(scope)?;
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(memory.get(&scope).and_then(|memory| memory.get(key)).cloned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn children_see_what_they_may() {
        let contexts = Contexts::default();
        let parent = contexts.create(&json!({"data": {"a": 1}, "scope": {"type": "global"}})).unwrap();
        let child = |how: &str| contexts.child(&parent, &json!({"type": "agent", "id": "x"}), how).unwrap();
        let (see, copy, share, alone) = (child("inherit"), child("copy"), child("share"), child("isolate"));
        contexts.set(&parent, "a", json!(2)).unwrap();
        let seen = |id: &str| contexts.get(id, "a").unwrap();
        assert_eq!(
            [seen(&see), seen(&copy), seen(&share), seen(&alone)],
            [Some(json!(2)), Some(json!(1)), Some(json!(2)), None]
        );
        contexts.set(&share, "a", json!(3)).unwrap();
        contexts.set(&see, "a", json!(4)).unwrap();
        assert_eq!((seen(&parent), seen(&see)), (Some(json!(3)), Some(json!(4))));
        contexts.remove(&parent).unwrap();
        assert_eq!(contexts.get(&parent, "a").unwrap_err().class(), Class::NotFound);
        assert_eq!(contexts.child(&see, &json!({"type": "agent"}), "copy").unwrap_err().class(), Class::Usage);
        contexts.remember(&json!({"type": "user", "id": "u"}), "k", json!([1])).unwrap();
        assert_eq!(contexts.recall(&json!({"type": "user", "id": "u"}), "k").unwrap(), Some(json!([1])));
        assert_eq!(contexts.recall(&json!({}), "k").unwrap(), None);
    }
}
