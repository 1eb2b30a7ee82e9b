//! Contents of the messages, typed: Jupyter's ("Messages on the shell/control/iopub channel") and our own two pairs,
//! `tool_request`/`tool_reply` and `status_request`/`status_reply`, described in llmspell-protocol(7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::wire::Incoming;
use crate::error::{Class, Error, Result};

/// What is asked of a kernel.
#[derive(Debug)]
pub enum Request {
    /// `kernel_info_request`
    KernelInfo,
    /// `execute_request`
    Execute(Execute),
    /// `is_complete_request`
    IsComplete(IsComplete),
    /// `interrupt_request`
    Interrupt(Interrupt),
    /// `shutdown_request`
    Shutdown(Shutdown),
    /// `tool_request`
    Tool(Tool),
    /// `status_request`
    Status,
    /// A `…_request` this kernel does not serve.
    Unknown,
}

impl Request {
    /// The request in a message.
    ///
    /// # Errors
    /// `Usage` when the content is not of its shape.
    pub fn parse(message: &Incoming) -> Result<Self> {
        fn typed<'a, T: Deserialize<'a>>(message: &'a Incoming) -> Result<T> {
            serde_json::from_str(message.content.get())
                .map_err(|e| Error::new(Class::Usage, format!("{}: {e}", message.header.msg_type)))
        }
        Ok(match message.header.msg_type.as_str() {
            "kernel_info_request" => Request::KernelInfo,
            "execute_request" => Request::Execute(typed(message)?),
            "is_complete_request" => Request::IsComplete(typed(message)?),
            "interrupt_request" => Request::Interrupt(typed(message)?),
            "shutdown_request" => Request::Shutdown(typed(message)?),
            "tool_request" => Request::Tool(typed(message)?),
            "status_request" => Request::Status,
            _ => Request::Unknown,
        })
    }
}

/// `execute_request`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Execute {
    /// Source code.
    pub code: String,
    /// No output, no count.
    #[serde(default)]
    pub silent: bool,
    /// Whether it is remembered; false when silent.
    #[serde(default = "yes")]
    pub store_history: bool,
    /// Expressions to evaluate afterwards, by name.
    #[serde(default)]
    pub user_expressions: BTreeMap<String, String>,
    /// Whether the client answers `input_request`.
    #[serde(default = "yes")]
    pub allow_stdin: bool,
    /// Whether an error aborts the requests queued behind.
    #[serde(default = "yes")]
    pub stop_on_error: bool,
    /// Ours: what errors call the code, `@FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_name: Option<String>,
    /// Ours: `ARGS`; the script's name, then the words behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Ours: where relative paths start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Ours: time limit in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
}

fn yes() -> bool {
    true
}

/// `is_complete_request`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IsComplete {
    /// Source code.
    pub code: String,
}

/// `interrupt_request`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Interrupt {
    /// Ours: stop only the request with this id; without it, whatever the script thread runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msg_id: Option<String>,
}

/// `shutdown_request` and its reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shutdown {
    /// Whether a restart follows.
    #[serde(default)]
    pub restart: bool,
}

/// `tool_request`: the command and what it needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tool {
    /// `list info invoke search test`
    pub command: String,
    /// Tool, for info, invoke and test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Parameters, for invoke: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// Words, for search: a list or one string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Words>,
    /// Only tools of this category, for list and search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Time limit, seconds; the kernel's `tool_timeout` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Whether progress is sent as `stream` messages on iopub.
    #[serde(default, alias = "streaming")]
    pub stream: bool,
    /// Where relative paths of the parameters start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

/// A list of words, or one string of them.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Words(vec![text])),
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text),
                    other => Err(serde::de::Error::custom(format!("query: {other} is not a string"))),
                })
                .collect::<Result<_, _>>()
                .map(Words),
            other => Err(serde::de::Error::custom(format!("query: {other} is not a list of words"))),
        }
    }
}

/// `status: error` of any reply, and the `error` message of iopub.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorContent {
    /// Kind of error.
    pub ename: String,
    /// What happened.
    pub evalue: String,
    /// A line each.
    #[serde(default)]
    pub traceback: Vec<String>,
    /// Ours: the class, by which a client chooses its exit status.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// Ours: the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Ours: the argument of `os.exit`, by which the script ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
}

impl ErrorContent {
    /// `{"status": "error", …}`, as replies carry it.
    #[must_use]
    pub fn reply(&self) -> Map<String, Value> {
        let mut reply = match serde_json::to_value(self) {
            Ok(Value::Object(reply)) => reply,
            _ => Map::new(),
        };
        reply.insert("status".into(), "error".into());
        reply
    }
}

impl From<&Error> for ErrorContent {
    fn from(error: &Error) -> Self {
        let row = error.class().row();
        ErrorContent {
            ename: row.ename.into(),
            evalue: error.text().into(),
            traceback: vec![format!("{}: {}", row.ename, error.text())],
            class: row.name.into(),
            hint: error.next_step().map(str::to_owned),
            exit: None,
        }
    }
}

impl From<&ErrorContent> for Error {
    fn from(content: &ErrorContent) -> Self {
        let error = Error::new(Class::from_name(&content.class), content.evalue.clone());
        match &content.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

/// A `stream` message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamContent {
    /// `stdout` or `stderr`.
    pub name: String,
    /// Text.
    pub text: String,
}

/// A `status` message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusContent {
    /// `starting busy idle`
    pub execution_state: String,
}

/// An `input_request`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InputRequest {
    /// What to ask.
    pub prompt: String,
    /// Whether not to echo.
    #[serde(default)]
    pub password: bool,
}

/// An `input_reply`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InputReply {
    /// The line; ours: null at the end of input.
    pub value: Option<String>,
}
