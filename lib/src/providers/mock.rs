//! The model of tests and of development without a network: it answers from a script. Nobody gets it who does not name it.
//!
//! `mock/echo` repeats what it is told, `mock/FILE` reads a script in TOML or JSON, `mock/{…}` is a script in JSON itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Delta, Deltas, Finish, Message, Model, Part, Reply, Request, Role, Usage, minted, plain};
use crate::error::{Class, Error, Result};
use crate::security::Policy;
use crate::tools::Cancel;
use crate::units;

/// Largest script, in bytes.
const LARGEST: u64 = 16 << 20;

/// What it answers, in order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Script {
    replies: Vec<Line>,
    /// Before every answer that does not set its own.
    #[serde(deserialize_with = "wait")]
    delay: Duration,
    /// Between pieces, where an answer does not set its own.
    #[serde(deserialize_with = "wait")]
    chunk_delay: Duration,
    /// Whether it begins anew behind the last answer.
    repeat: bool,
}

/// An answer: text alone, or more.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Full(Box<Answer>),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Answer {
    /// Given only where the last message holds this.
    r#match: Option<String>,
    /// Not used up when it was given.
    repeat: bool,
    text: String,
    /// The text in the pieces in which it streams.
    chunks: Vec<String>,
    reasoning: String,
    tool_calls: Vec<ScriptedCall>,
    /// Text that is JSON, for a request with a schema.
    json: Option<Value>,
    finish: Option<Finish>,
    usage: Option<Counts>,
    #[serde(deserialize_with = "some_wait")]
    delay: Option<Duration>,
    #[serde(deserialize_with = "some_wait")]
    chunk_delay: Option<Duration>,
    /// It fails instead, behind the pieces of its text if it has any.
    error: Option<Fault>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedCall {
    #[serde(default)]
    id: String,
    name: String,
    #[serde(default = "no_arguments")]
    arguments: Value,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Counts {
    input_tokens: u64,
    output_tokens: u64,
    cached_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
}

/// A failure: its text, or its class, too.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Fault {
    Text(String),
    Full { class: Option<String>, text: String },
}

fn no_arguments() -> Value {
    Value::Object(Map::new())
}

fn wait<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Duration, D::Error> {
    let wrong = |error: Error| serde::de::Error::custom(error.text());
    match Value::deserialize(from)? {
        Value::String(text) => units::duration(&text).map_err(wrong),
        Value::Number(seconds) => Duration::try_from_secs_f64(seconds.as_f64().unwrap_or(-1.0))
            .map_err(|_| serde::de::Error::custom(format!("{seconds} is not a duration"))),
        other => Err(serde::de::Error::custom(format!("{other} is not a duration"))),
    }
}

fn some_wait<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<Duration>, D::Error> {
    wait(from).map(Some)
}

/// The model.
pub(super) struct Mock {
    name: String,
    /// None: it repeats what it is told.
    script: Option<Script>,
    /// Which answers were given.
    given: Mutex<Vec<bool>>,
}

impl Mock {
    /// The one that `text` names: `echo`, a script in JSON, or the path of one, which `policy` has to let read.
    pub(super) fn new(text: &str, policy: &Policy) -> Result<Self> {
        let text = text.trim();
        if text == "echo" {
            return Ok(Mock { name: "mock/echo".into(), script: None, given: Mutex::default() });
        }
        if text.starts_with('{') {
            let script = serde_json::from_str(text).map_err(|error| {
                Error::new(Class::Usage, format!("mock: the script is not right: {error}")).hint(SHAPE)
            })?;
            return Ok(Self::of("inline", script));
        }
        let missing =
            |error: Error| error.within("mock").hint("mock/echo repeats what it is told; mock/FILE reads a script.");
        let path = policy.workdir().join(text);
        Self::read(text, &path, policy.open_read(&path).map_err(missing)?)
    }

    /// The one of a script that the configuration names.
    pub(super) fn from_config(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error).within("mock"))?;
        Self::read(&path.file_name().unwrap_or_default().to_string_lossy(), path, file)
    }

    fn read(name: &str, path: &Path, file: File) -> Result<Self> {
        let mut content = String::new();
        let read = file.take(LARGEST + 1).read_to_string(&mut content);
        read.map_err(|error| Error::io(path, error).within("mock"))?;
        let wrong = |what: &str| Error::new(Class::Usage, format!("mock: {}: {what}", path.display())).hint(SHAPE);
        if content.len() as u64 > LARGEST {
            return Err(wrong("larger than 16 MiB"));
        }
        let script = if content.trim_start().starts_with('{') {
            serde_json::from_str(&content).map_err(|error| wrong(&error.to_string()))?
        } else {
            toml::from_str(&content).map_err(|error: toml::de::Error| wrong(error.message()))?
        };
        Ok(Self::of(name, script))
    }

    fn of(name: &str, script: Script) -> Self {
        let given = Mutex::new(vec![false; script.replies.len()]);
        Mock { name: format!("mock/{name}"), script: Some(script), given }
    }

    /// The next answer to a last message of `said`.
    fn next(&self, script: &Script, said: &str) -> Result<Answer> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |line: &Line| match line {
            Line::Full(answer) => answer.r#match.as_ref().is_none_or(|text| said.contains(text.as_str())),
            Line::Text(_) => true,
        };
        let find = |given: &[bool]| script.replies.iter().zip(given).position(|(line, given)| !given && fits(line));
        let at = find(&given).or_else(|| {
            // What belongs to other messages stays as it is.
            if script.repeat {
                script
                    .replies
                    .iter()
                    .zip(given.iter_mut())
                    .filter(|(line, _)| fits(line))
                    .for_each(|(_, g)| *g = false);
            }
            find(&given)
        });
        let at = at.ok_or_else(|| {
            Error::new(Class::Remote, format!("{}: its script has no further answer to this", self.name))
                .hint("Add one to replies, or set repeat = true.")
        })?;
        let answer = match &script.replies[at] {
            Line::Text(text) => Answer { text: text.clone(), ..Answer::default() },
            Line::Full(answer) => (**answer).clone(),
        };
        given[at] = !answer.repeat;
        Ok(answer)
    }
}

const SHAPE: &str = "A script is {\"replies\": [\"text\", {\"text\": …, \"tool_calls\": [{\"name\": …, \"arguments\": {…}}]}]}; \
                     llmspell-run(1) has all of it.";

/// What was said last: the text, or what the tools answered.
fn last(messages: &[Message]) -> String {
    let Some(message) = messages.iter().rev().find(|message| message.role != Role::System) else {
        return String::new();
    };
    let results = message.parts.iter().filter_map(|part| match part {
        Part::ToolResult { content, .. } => Some(content.as_str()),
        _ => None,
    });
    results.chain([plain(&message.parts).as_str()]).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Waits, unless it is cancelled.
pub(super) fn pause(time: Duration, cancel: &Cancel) -> Result<()> {
    if !time.is_zero() {
        let until = Instant::now() + time;
        cancel.poll(&[], Some(until)).map_err(|error| Error::system("wait", error))?;
    }
    match cancel.is_cancelled() {
        true => Err(Error::new(Class::Interrupted, "cancelled")),
        false => Ok(()),
    }
}

impl Model for Mock {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, request: &Request, cancel: &Cancel, deltas: &mut Deltas<'_>) -> Result<Reply> {
        let said = last(&request.messages);
        let (answer, script) = match &self.script {
            Some(script) => (self.next(script, &said)?, script),
            None => {
                let chunks = said.split_inclusive(' ').map(str::to_owned).collect();
                (Answer { chunks, ..Answer::default() }, &Script::default())
            }
        };
        pause(answer.delay.unwrap_or(script.delay), cancel)?;
        let between = answer.chunk_delay.unwrap_or(script.chunk_delay);
        let mut parts = Vec::new();
        if !answer.reasoning.is_empty() {
            deltas(Delta::Reasoning(answer.reasoning.clone()));
            parts.push(Part::Reasoning { text: answer.reasoning, blob: None });
        }
        let whole = answer.json.map_or(answer.text, |json| json.to_string());
        let chunks = if answer.chunks.is_empty() { vec![whole] } else { answer.chunks };
        for (index, chunk) in chunks.iter().filter(|chunk| !chunk.is_empty()).enumerate() {
            pause(if index == 0 { Duration::ZERO } else { between }, cancel)?;
            deltas(Delta::Text(chunk.clone()));
        }
        match answer.error {
            Some(Fault::Text(text)) => return Err(Error::new(Class::Remote, text).within(&self.name)),
            Some(Fault::Full { class, text }) => {
                let class = class.map_or(Class::Remote, |name| Class::from_name(&name));
                return Err(Error::new(class, text).within(&self.name));
            }
            None => {}
        }
        let text = chunks.concat();
        if !text.is_empty() {
            parts.push(Part::Text { text });
        }
        for call in answer.tool_calls {
            let id = minted(call.id);
            deltas(Delta::ToolCall { id: id.clone(), name: call.name.clone() });
            parts.push(Part::ToolCall { id, name: call.name, arguments: call.arguments, blob: None });
        }
        let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        let usage = answer.usage.unwrap_or_default();
        Ok(Reply {
            model: self.name.clone(),
            parts,
            finish: answer.finish.unwrap_or(if calls { Finish::ToolCalls } else { Finish::Stop }),
            usage: Usage {
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: usage.cache_write_tokens,
                reasoning_tokens: usage.reasoning_tokens,
            },
            ..Reply::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::{Grants, Profile};

    fn policy(dir: &Path) -> Policy {
        Policy::new(Grants { profile: Profile::Standard, workdir: dir.into(), ..Grants::default() })
    }

    fn ask(mock: &Mock, text: &str) -> Result<(Reply, Vec<Delta>)> {
        let request = Request { messages: vec![Message::text(Role::User, text)], ..Request::default() };
        let mut all = Vec::new();
        let reply = mock.ask(&request, &Cancel::default(), &mut |delta| all.push(delta))?;
        Ok((reply, all))
    }

    #[test]
    fn echo_streams_what_it_is_told() {
        let mock = Mock::new("echo", &policy("/".as_ref())).unwrap();
        let (reply, deltas) = ask(&mock, "one two").unwrap();
        assert_eq!((reply.text().as_str(), reply.model.as_str()), ("one two", "mock/echo"));
        assert_eq!(deltas, [Delta::Text("one ".into()), Delta::Text("two".into())]);
        assert_eq!(reply.usage, Usage::default());
    }

    #[test]
    fn a_script_answers_in_order_where_it_fits() {
        let script = r#"{"replies": ["first", {"match": "rain", "text": "wet", "repeat": true},
            {"text": "then", "tool_calls": [{"name": "calculator", "arguments": {"expression": "1+1"}}]},
            {"error": {"class": "budget", "text": "spent"}}, {"chunks": ["a", "b"], "error": "cut"}]}"#;
        let mock = Mock::new(script, &policy("/".as_ref())).unwrap();
        assert_eq!(ask(&mock, "x").unwrap().0.text(), "first");
        assert_eq!(ask(&mock, "rain?").unwrap().0.text(), "wet");
        assert_eq!(ask(&mock, "rain!").unwrap().0.text(), "wet");
        let reply = ask(&mock, "x").unwrap().0;
        assert_eq!(reply.finish, Finish::ToolCalls);
        let (id, name, arguments) = reply.calls().next().unwrap();
        assert_eq!((name, arguments["expression"].as_str()), ("calculator", Some("1+1")));
        assert!(id.starts_with("call_"));
        assert_eq!(ask(&mock, "x").unwrap_err().class(), Class::Budget);
        assert_eq!(ask(&mock, "x").unwrap_err().to_string(), "mock/inline: cut");
        assert!(ask(&mock, "x").unwrap_err().to_string().contains("no further answer"));
    }

    #[test]
    fn scripts_are_files_that_may_be_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.toml"), "repeat = true\nreplies = ['a', 'b']").unwrap();
        std::fs::write(dir.path().join("wrong.json"), "{\"replies\": [{\"txt\": 1}]}").unwrap();
        let policy = policy(dir.path());
        let mock = Mock::new("a.toml", &policy).unwrap();
        assert_eq!(mock.name(), "mock/a.toml");
        let said: Vec<_> = (0..5).map(|_| ask(&mock, "").unwrap().0.text()).collect();
        assert_eq!(said.concat(), "ababa");
        assert_eq!(Mock::new("wrong.json", &policy).err().map(|e| e.class()), Some(Class::Usage));
        assert_eq!(Mock::new("none.toml", &policy).err().map(|e| e.class()), Some(Class::NotFound));
        assert_eq!(Mock::new("/etc/passwd", &policy).err().map(|e| e.class()), Some(Class::Denied));
    }

    #[test]
    fn delays_end_when_it_is_cancelled() {
        let mock = Mock::new(r#"{"delay": "1h", "replies": ["late"]}"#, &policy("/".as_ref())).unwrap();
        let cancel = Cancel::default();
        let stop = cancel.clone();
        let asker = std::thread::spawn(move || mock.ask(&Request::default(), &cancel, &mut |_| {}));
        stop.cancel();
        assert_eq!(asker.join().unwrap().unwrap_err().class(), Class::Interrupted);
    }
}
