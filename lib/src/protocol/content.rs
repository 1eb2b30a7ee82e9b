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
    /// `complete_request`
    Complete(Complete),
    /// `inspect_request`
    Inspect(Inspect),
    /// `history_request`
    History(History),
    /// `comm_info_request`
    CommInfo(CommInfo),
    /// `comm_open`, `comm_msg`, `comm_close`
    Comm(Comm),
    /// `connect_request`
    Connect,
    /// `usage_request`
    Usage,
    /// `create_subshell_request`, `delete_subshell_request`, `list_subshell_request`
    Subshell,
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
            "complete_request" => Request::Complete(typed(message)?),
            "inspect_request" => Request::Inspect(typed(message)?),
            "history_request" => Request::History(typed(message)?),
            "comm_info_request" => Request::CommInfo(typed(message)?),
            "comm_open" => Request::Comm(Comm::of(CommKind::Open, typed(message)?, message)),
            "comm_msg" => Request::Comm(Comm::of(CommKind::Msg, typed(message)?, message)),
            "comm_close" => Request::Comm(Comm::of(CommKind::Close, typed(message)?, message)),
            "connect_request" => Request::Connect,
            "usage_request" => Request::Usage,
            "create_subshell_request" | "delete_subshell_request" | "list_subshell_request" => Request::Subshell,
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
    #[serde(default, deserialize_with = "or_default")]
    pub silent: bool,
    /// Whether it is remembered; false when silent.
    #[serde(default = "yes", deserialize_with = "or_yes")]
    pub store_history: bool,
    /// Expressions to evaluate afterwards, by name.
    #[serde(default, deserialize_with = "or_default")]
    pub user_expressions: BTreeMap<String, String>,
    /// Whether the client answers `input_request`.
    #[serde(default = "yes", deserialize_with = "or_yes")]
    pub allow_stdin: bool,
    /// Whether an error aborts the requests queued behind.
    #[serde(default = "yes", deserialize_with = "or_yes")]
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

/// What is null is as good as absent: some clients write out what they leave open.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

/// As [`or_default`], where absent is true.
fn or_yes<'de, D: serde::Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    Option::deserialize(value).map(|value| value.unwrap_or(true))
}

/// `is_complete_request`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IsComplete {
    /// Source code.
    pub code: String,
}

/// `complete_request`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Complete {
    /// Source code.
    pub code: String,
    /// Where the cursor stands, in Unicode code points.
    pub cursor_pos: usize,
}

/// `inspect_request`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inspect {
    /// Source code.
    pub code: String,
    /// Where the cursor stands, in Unicode code points.
    pub cursor_pos: usize,
    /// 1: the source text too.
    #[serde(default, deserialize_with = "or_default")]
    pub detail_level: u8,
}

/// `history_request`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// `range`, `tail` or `search`.
    pub hist_access_type: String,
    /// Whether each entry is to hold its result too.
    #[serde(default, deserialize_with = "or_default")]
    pub output: bool,
    /// For range: a session; 0 is the running one, below counts backwards from it.
    #[serde(default)]
    pub session: Option<i64>,
    /// For range: the first line.
    #[serde(default)]
    pub start: Option<i64>,
    /// For range: the line behind the last; absent: to the end.
    #[serde(default)]
    pub stop: Option<i64>,
    /// For tail and search: at most so many, the last ones.
    #[serde(default)]
    pub n: Option<i64>,
    /// For search: a pattern with `*` and `?`.
    #[serde(default)]
    pub pattern: Option<String>,
    /// For search: each source text once.
    #[serde(default, deserialize_with = "or_default")]
    pub unique: bool,
}

/// `comm_info_request`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CommInfo {
    /// Only comms of this target.
    #[serde(default)]
    pub target_name: Option<String>,
}

/// Which of the three messages of a comm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommKind {
    /// `comm_open`
    Open,
    /// `comm_msg`
    Msg,
    /// `comm_close`
    Close,
}

impl CommKind {
    /// The message type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CommKind::Open => "comm_open",
            CommKind::Msg => "comm_msg",
            CommKind::Close => "comm_close",
        }
    }
}

/// A message of a comm, in either direction.
#[derive(Clone, Debug)]
pub struct Comm {
    /// Its type.
    pub kind: CommKind,
    /// Its content.
    pub content: CommContent,
    /// The metadata frame, an object.
    pub metadata: Value,
    /// Binary frames.
    pub buffers: Vec<Vec<u8>>,
}

impl Comm {
    fn of(kind: CommKind, content: CommContent, message: &Incoming) -> Self {
        let metadata = serde_json::from_str(message.metadata.get()).unwrap_or_default();
        Comm { kind, content, metadata, buffers: message.buffers.clone() }
    }
}

/// The content of a comm's message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CommContent {
    /// Which comm.
    pub comm_id: String,
    /// Whom it is opened for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// What the two ends have to say.
    #[serde(default)]
    pub data: Value,
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
    #[serde(default, deserialize_with = "or_default")]
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
    /// For list: also the tools that other builds have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub available: bool,
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

/// A `display_data` or `update_display_data` message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Display {
    /// What to show, by MIME type.
    pub data: Map<String, Value>,
    /// How to show it, by MIME type.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// What notebooks do not store.
    #[serde(default)]
    pub transient: Transient,
}

impl Display {
    /// What a terminal shows of it.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.data.get("text/plain").and_then(Value::as_str)
    }
}

/// `transient` of a [`Display`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transient {
    /// By which it is updated later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_id: Option<String>,
    /// Ours: it is the progress of something, which a terminal draws as one line in place; true when that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_ended: Option<bool>,
}

/// A `clear_output` message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClearOutput {
    /// Whether to wait for the next output.
    #[serde(default)]
    pub wait: bool,
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
