//! What all dialects are: how a request is written, how an answer is put together; and what they share for it.

use serde_json::{Map, Value};

use super::services::Service;
use super::{Blob, Deltas, Part, Reply, Request};
use crate::error::{Class, Error, Result};

/// How to speak to a service.
pub(super) trait Dialect: Sync {
    /// Path below the base URL.
    fn path(&self, request: &Request, stream: bool) -> String;
    /// Whether a stream is lines of JSON instead of events.
    fn is_lines(&self) -> bool {
        false
    }
    /// Headers that carry the key and what else each request needs.
    fn headers(&self, key: Option<&str>, service: &Service) -> Vec<(&'static str, String)>;
    /// The body.
    fn body(&self, request: &Request, service: &Service, stream: bool) -> Value;
    /// What reads an answer.
    fn reader(&self, service: &Service) -> Box<dyn Reader>;
}

/// Puts an answer together.
pub(super) trait Reader {
    /// Takes the data of one event of a stream; whether it was the last.
    ///
    /// # Errors
    /// What the service says went wrong.
    fn event(&mut self, kind: &str, data: &Value, deltas: &mut Deltas<'_>) -> Result<bool>;
    /// Takes an answer that came whole.
    ///
    /// # Errors
    /// What the service says went wrong, and what is no answer.
    fn whole(&mut self, body: &Value, deltas: &mut Deltas<'_>) -> Result<()>;
    /// Whether the answer has come to its end, so that a connection that closes loses nothing.
    fn is_complete(&self) -> bool;
    /// The answer.
    fn reply(self: Box<Self>) -> Reply;
}

/// The text of a service's error, in whichever shape; `None` where there is none.
pub(super) fn complaint(body: &Value) -> Option<String> {
    let error = &body["error"];
    let text =
        [&error["message"], error, &body["message"], &body["detail"]].into_iter().find_map(|place| match place {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Object(_) | Value::Array(_) if !std::ptr::eq(place, error) => Some(place.to_string()),
            _ => None,
        });
    text.or_else(|| (error.is_object()).then(|| error.to_string())).map(|text| {
        // A complaint is one line for people; services sometimes send whole pages.
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
        line.trim().to_owned()
    })
}

pub(super) fn failed(text: impl Into<String>) -> Error {
    Error::new(Class::Remote, text)
}

/// Tool calls that arrive in pieces.
#[derive(Default)]
pub(super) struct Calls(pub(super) Vec<Call>);

#[derive(Default)]
pub(super) struct Call {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) text: String,
    pub(super) whole: Option<Value>,
    pub(super) blob: Option<Blob>,
}

impl Calls {
    /// The call known as `key`, made if it is not there; whether it is new.
    pub(super) fn at(&mut self, key: &str) -> (&mut Call, bool) {
        let known = self.0.iter().position(|call| call.key == key);
        let at = known.unwrap_or_else(|| {
            self.0.push(Call { key: key.to_owned(), ..Call::default() });
            self.0.len() - 1
        });
        (&mut self.0[at], known.is_none())
    }

    pub(super) fn parts(self) -> impl Iterator<Item = Part> {
        self.0.into_iter().filter(|call| !call.name.is_empty()).map(|call| {
            let arguments = call.whole.unwrap_or_else(|| arguments(&call.text));
            Part::ToolCall { id: minted(call.id), name: call.name, arguments, blob: call.blob }
        })
    }
}

/// What a model wrote as parameters: nothing is `{}`; what is no JSON stays as it is, for the model to be told.
pub(super) fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Map::new());
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// `id`, or a new one.
pub(super) fn minted(id: String) -> String {
    if id.is_empty() { format!("call_{}", &uuid::Uuid::new_v4().simple().to_string()[..24]) } else { id }
}

/// Text as a member of `value`, in whichever shape services send it: a string, or a list of parts with `text`.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter(|part| matches!(part["type"].as_str(), None | Some("text" | "output_text")))
            .map(|part| part.as_str().or(part["text"].as_str()).unwrap_or_default())
            .collect(),
        _ => String::new(),
    }
}

/// The first of `names` that is a number in `value`.
pub(super) fn count(value: &Value, names: &[&str]) -> u64 {
    names.iter().find_map(|name| value.pointer(name)?.as_u64()).unwrap_or(0)
}
