//! Model services. One file a wire dialect, one row a service; this file holds what they share: messages made of typed
//! parts, a request, a reply, and the pieces of a reply while it streams.

mod anthropic;
mod budget;
mod cassette;
mod cohere;
mod dialect;
mod embed;
mod facade;
mod gemini;
pub mod keys;
mod mock;
mod ollama;
mod openai;
mod price;
#[cfg(test)]
mod recordings;
mod responses;
mod served;
pub mod services;
mod sse;
mod structured;
mod transport;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use budget::Spent;
use dialect::{Calls, Dialect, Reader, arguments, complaint, count, failed, minted, text_of};
pub use embed::{Embeddings, Purpose, Ranked, Reranked};
pub use facade::{Known, Providers};

#[expect(unused_imports, reason = "of the documentation")]
use crate::error::{Class, Result};
use crate::tools::Cancel;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// Results of tools.
    Tool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub parts: Vec<Part>,
}

impl Message {
    /// A turn that is only text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message { role, parts: vec![Part::Text { text: text.into() }] }
    }

    /// Its text, all parts of it.
    #[must_use]
    pub fn plain(&self) -> String {
        plain(&self.parts)
    }
}

/// The text among `parts`.
#[must_use]
pub fn plain(parts: &[Part]) -> String {
    parts.iter().filter_map(|part| if let Part::Text { text } = part { Some(text.as_str()) } else { None }).collect()
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// What the model thought.
    Reasoning {
        /// The text, as far as the service shows it.
        text: String,
        /// What only the service understands and wants back unchanged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blob: Option<Blob>,
    },
    /// The model wants a tool to be called.
    ToolCall {
        /// Its id, minted where the service gives none.
        id: String,
        /// The tool.
        name: String,
        /// Parameters: an object, or text that is no JSON, as the model wrote it.
        arguments: Value,
        /// What only the service understands and wants back unchanged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blob: Option<Blob>,
    },
    /// What a tool answered.
    ToolResult {
        /// Id of the call.
        id: String,
        /// The tool.
        name: String,
        /// The answer.
        content: String,
        /// Whether it failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// A picture.
    Image {
        /// `image/png`, `image/jpeg` …
        mime: String,
        /// Its bytes in base64.
        data: String,
    },
    /// A document.
    File {
        /// Its name.
        name: String,
        /// `application/pdf`, `text/plain` …
        mime: String,
        /// Its bytes in base64.
        data: String,
    },
}

/// Data of one service that goes back to the same service only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blob {
    /// The service.
    pub provider: String,
    /// The data.
    pub value: Value,
}

impl Blob {
    /// The data, if it is of `provider`.
    #[must_use]
    pub fn of<'a>(blob: Option<&'a Self>, provider: &str) -> Option<&'a Value> {
        blob.filter(|blob| blob.provider == provider).map(|blob| &blob.value)
    }
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolDef {
    /// `[A-Za-z0-9_-]{1,64}`
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its parameters.
    pub parameters: Value,
}

/// Whether the model has to call a tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not.
    None,
    /// It must.
    Required,
    /// It must call this one.
    Named(String),
}

/// What a model is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Name of the model at its service.
    pub model: String,
    /// The conversation; instructions first.
    pub messages: Vec<Message>,
    /// Tools it may call.
    pub tools: Vec<ToolDef>,
    /// Whether it has to.
    pub tool_choice: ToolChoice,
    /// Most tokens of the answer.
    pub max_tokens: Option<u64>,
    /// 0 is dull, 2 wild.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// For answers that repeat, as far as the service can.
    pub seed: Option<u64>,
    /// `none`, `minimal`, `low`, `medium`, `high` …
    pub effort: Option<String>,
    /// The answer is JSON of this schema.
    pub schema: Option<Value>,
    /// More members of the request, as the service knows them.
    pub extra: Map<String, Value>,
}

/// Why the model ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It was done.
    #[default]
    Stop,
    /// The limit of tokens was reached.
    Length,
    /// It waits for tools.
    ToolCalls,
    /// Its service held something back.
    Filter,
}

/// What an answer took, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Read, those from a cache included.
    pub input_tokens: u64,
    /// Written, reasoning included.
    pub output_tokens: u64,
    /// Of the input, read from the service's cache.
    pub cached_tokens: u64,
    /// Of the input, written to the service's cache.
    pub cache_write_tokens: u64,
    /// Of the output, thought.
    pub reasoning_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.input_tokens += more.input_tokens;
        self.output_tokens += more.output_tokens;
        self.cached_tokens += more.cached_tokens;
        self.cache_write_tokens += more.cache_write_tokens;
        self.reasoning_tokens += more.reasoning_tokens;
    }
}

/// What a model answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reply {
    /// The model, as its service calls it.
    pub model: String,
    /// Id of the answer at its service.
    pub id: Option<String>,
    /// What was said.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub usage: Usage,
    /// What it cost in US dollars, where the price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

impl Reply {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> String {
        plain(&self.parts)
    }

    /// The calls it wants.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall { id, name, arguments, .. } => Some((id.as_str(), name.as_str(), arguments)),
            _ => None,
        })
    }
}

/// A piece of an answer that streams.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// Text.
    Text(String),
    /// What it thinks.
    Reasoning(String),
    /// It begins to call a tool.
    ToolCall {
        /// Id of the call.
        id: String,
        /// The tool.
        name: String,
    },
}

/// Receives the pieces of an answer.
pub type Deltas<'a> = dyn FnMut(Delta) + 'a;

/// A model that can be asked: one of a service, or one of a test.
pub trait Model: Send + Sync {
    /// `provider/model`, as results name it.
    fn name(&self) -> &str;

    /// Its answer to `request`; `deltas` gets the pieces as they come. Blocks; a worker thread calls it.
    ///
    /// # Errors
    /// What the service refuses, a connection that ends, limits of cost, and [`Class::Interrupted`] when `cancel` is.
    fn ask(&self, request: &Request, cancel: &Cancel, deltas: &mut Deltas<'_>) -> Result<Reply>;
}
