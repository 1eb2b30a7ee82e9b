//! OpenAI's chat completions, and what the many servers that speak it make of it.

use serde_json::{Map, Value, json};

use super::services::{Quirks, Service};
use super::{
    Blob, Calls, Delta, Deltas, Dialect, Finish, Message, Part, Reader, Reply, Request, Role, ToolChoice, Usage,
    complaint, count, failed, text_of,
};
use crate::error::Result;

/// The dialect.
pub(super) struct Chat;

impl Dialect for Chat {
    fn path(&self, _: &Request, _: bool) -> String {
        "chat/completions".into()
    }

    fn headers(&self, key: Option<&str>, service: &Service) -> Vec<(&'static str, String)> {
        let header = |key: &str| match service.quirks.api_key_header {
            true => ("api-key", key.to_owned()),
            false => ("authorization", format!("Bearer {key}")),
        };
        key.map(header).into_iter().collect()
    }

    fn body(&self, request: &Request, service: &Service, stream: bool) -> Value {
        let quirks = &service.quirks;
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| _ = body.insert(name.into(), value);
        put("model", request.model.as_str().into());
        // DeepSeek wants what it thought back within a round of tools, and refuses what is older.
        let round = request.messages.iter().rposition(|message| message.role == Role::User).unwrap_or(0);
        let all = request
            .messages
            .iter()
            .enumerate()
            .flat_map(|(at, message)| messages(message, service, at > round || !service.quirks.plain_content));
        put("messages", all.collect());
        if let Some(most) = request.max_tokens {
            put(if quirks.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" }, most.into());
        }
        if let Some(temperature) = request.temperature {
            put("temperature", json!(temperature));
        }
        if let Some(top_p) = request.top_p {
            put("top_p", json!(top_p));
        }
        if !request.stop.is_empty() {
            put("stop", json!(request.stop));
        }
        if let Some(seed) = request.seed {
            put(if quirks.random_seed { "random_seed" } else { "seed" }, seed.into());
        }
        if let Some(effort) = &request.effort {
            put("reasoning_effort", effort.as_str().into());
        }
        if !request.tools.is_empty() {
            let tool = |tool: &super::ToolDef| {
                json!({ "type": "function", "function": {
                    "name": tool.name, "description": tool.description, "parameters": tool.parameters } })
            };
            put("tools", request.tools.iter().map(tool).collect());
            let choice = match &request.tool_choice {
                ToolChoice::Auto => None,
                ToolChoice::None => Some(json!("none")),
                // It refuses both at once.
                _ if quirks.any_for_required && request.schema.is_some() => None,
                ToolChoice::Required => Some(json!(if quirks.any_for_required { "any" } else { "required" })),
                ToolChoice::Named(name) => Some(json!({ "type": "function", "function": { "name": name } })),
            };
            if let Some(choice) = choice {
                put("tool_choice", choice);
            }
        }
        if quirks.json_object && request.schema.is_some() {
            put("response_format", json!({ "type": "json_object" }));
        } else if let Some(schema) = &request.schema {
            let strict = strict(schema);
            put(
                "response_format",
                json!({ "type": "json_schema", "json_schema": {
                "name": "answer", "schema": schema, "strict": strict } }),
            );
        }
        if stream {
            put("stream", true.into());
            if quirks.stream_options {
                put("stream_options", json!({ "include_usage": true }));
            }
        }
        body.extend(request.extra.clone());
        Value::Object(body)
    }

    fn reader(&self, service: &Service) -> Box<dyn Reader> {
        Box::new(Answer { provider: service.name.clone(), ..Answer::default() })
    }
}

/// Whether a schema is as strict as OpenAI's `strict` wants it: every object closed, every property required.
pub(super) fn strict(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            let object = members.get("type").is_some_and(|kind| kind == "object") || members.contains_key("properties");
            let closed = !object || {
                let required: Vec<_> =
                    members.get("required").and_then(Value::as_array).into_iter().flatten().collect();
                members.get("additionalProperties") == Some(&Value::Bool(false))
                    && (members.get("properties").and_then(Value::as_object).into_iter().flatten())
                        .all(|(name, _)| required.iter().any(|known| *known == name))
            };
            closed && members.values().all(strict)
        }
        Value::Array(items) => items.iter().all(strict),
        _ => true,
    }
}

/// `data:` URL of a part's bytes.
pub(super) fn data_url(mime: &str, data: &str) -> String {
    format!("data:{mime};base64,{data}")
}

/// A turn as the messages it is here: each result of a tool is one of its own.
fn messages(message: &Message, service: &Service, thoughts: bool) -> Vec<Value> {
    let results = message.parts.iter().filter_map(|part| match part {
        Part::ToolResult { id, content, .. } => {
            Some(json!({ "role": "tool", "tool_call_id": call_id(id, &service.quirks), "content": content }))
        }
        _ => None,
    });
    let mut all: Vec<Value> = results.collect();
    match message.role {
        Role::System => all.push(json!({ "role": "system", "content": message.plain() })),
        Role::User => all.push(json!({ "role": "user", "content": user_content(message, service) })),
        Role::Assistant => all.push(assistant(message, service, thoughts)),
        Role::Tool => {}
    }
    all
}

/// Mistral takes ids of nine letters and digits only.
fn call_id(id: &str, quirks: &Quirks) -> String {
    if !quirks.short_call_ids || (id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return id.to_owned();
    }
    use sha2::Digest;
    let digest = sha2::Sha256::digest(id);
    digest.iter().take(9).map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyz012345"[usize::from(byte % 32)])).collect()
}

fn user_content(message: &Message, service: &Service) -> Value {
    let only_text = message.parts.iter().all(|part| matches!(part, Part::Text { .. }));
    if only_text || service.quirks.plain_content {
        return message.plain().into();
    }
    let part = |part: &Part| match part {
        Part::Text { text } => Some(json!({ "type": "text", "text": text })),
        Part::Image { mime, data } => {
            Some(json!({ "type": "image_url", "image_url": { "url": data_url(mime, data) } }))
        }
        Part::File { name, mime, data } => {
            Some(json!({ "type": "file", "file": { "filename": name, "file_data": data_url(mime, data) } }))
        }
        _ => None,
    };
    message.parts.iter().filter_map(part).collect()
}

fn assistant(message: &Message, service: &Service, thoughts: bool) -> Value {
    let text = message.plain();
    let mut turn = json!({ "role": "assistant", "content": text });
    let calls: Vec<Value> = (message.parts.iter())
        .filter_map(|part| match part {
            Part::ToolCall { id, name, arguments, .. } => {
                let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
                Some(json!({ "id": call_id(id, &service.quirks), "type": "function",
                    "function": { "name": name, "arguments": arguments } }))
            }
            _ => None,
        })
        .collect();
    if !calls.is_empty() {
        turn["tool_calls"] = calls.into();
        if text.is_empty() && !service.quirks.plain_content {
            turn["content"] = Value::Null;
        }
    }
    for part in message.parts.iter().filter(|_| thoughts) {
        // What it thought goes back under the name it came with.
        if let Part::Reasoning { blob, .. } = part
            && let Some(Value::Object(members)) = Blob::of(blob.as_ref(), &service.name)
        {
            for (name, value) in members {
                turn[name.as_str()] = value.clone();
            }
        }
    }
    turn
}

/// An answer that is being put together.
#[derive(Default)]
struct Answer {
    provider: String,
    reply: Reply,
    text: String,
    reasoning: String,
    /// The member that carried the reasoning.
    reasoning_name: &'static str,
    reasoning_details: Vec<Value>,
    calls: Calls,
    finish: Option<String>,
    /// `[DONE]` came.
    done: bool,
}

impl Answer {
    fn choice(&mut self, choice: &Value, deltas: &mut Deltas<'_>) {
        let delta = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
        for name in ["reasoning_content", "reasoning"] {
            let piece = delta[name].as_str().unwrap_or_default();
            if !piece.is_empty() {
                self.reasoning_name = name;
                self.reasoning.push_str(piece);
                deltas(Delta::Reasoning(piece.to_owned()));
                break;
            }
        }
        self.reasoning_details.extend(delta["reasoning_details"].as_array().into_iter().flatten().cloned());
        if let Value::Array(parts) = &delta["content"] {
            // Mistral's thinking comes among the parts of the content.
            for part in parts.iter().filter(|part| part["type"] == "thinking") {
                let piece = text_of(&part["thinking"]);
                self.reasoning.push_str(&piece);
                deltas(Delta::Reasoning(piece));
            }
        }
        for piece in [text_of(&delta["content"]), text_of(&delta["refusal"])] {
            if !piece.is_empty() {
                self.text.push_str(&piece);
                deltas(Delta::Text(piece));
            }
        }
        for (at, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            self.call(at, call, deltas);
        }
        if let Some(finish) = choice["finish_reason"].as_str().filter(|finish| !finish.is_empty()) {
            self.finish = Some(finish.to_owned());
        }
    }

    /// Pieces belong to each other by index, without one by id, without that to the last, unless they name a tool.
    fn call(&mut self, at: usize, piece: &Value, deltas: &mut Deltas<'_>) {
        let id = piece["id"].as_str().unwrap_or_default();
        let key = match piece["index"].as_u64() {
            Some(index) => format!("index {index}"),
            None if !id.is_empty() => format!("id {id}"),
            None => match self.calls.0.last() {
                Some(call) if piece["function"]["name"].as_str().unwrap_or_default().is_empty() => call.key.clone(),
                _ => format!("place {} {at}", self.calls.0.len()),
            },
        };
        let function = &piece["function"];
        let (call, _) = self.calls.at(&key);
        if call.id.is_empty() {
            call.id = super::minted(id.to_owned());
        }
        if let (true, Some(name)) = (call.name.is_empty(), function["name"].as_str().filter(|name| !name.is_empty())) {
            call.name = name.to_owned();
            deltas(Delta::ToolCall { id: call.id.clone(), name: call.name.clone() });
        }
        match &function["arguments"] {
            Value::String(text) => call.text.push_str(text),
            Value::Null => {}
            whole => call.whole = Some(whole.clone()),
        }
    }

    fn take(&mut self, data: &Value, deltas: &mut Deltas<'_>) -> Result<()> {
        let trouble = match &data["error"] {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        // A flat error, as older servers send it.
        if trouble || data["object"] == "error" {
            return Err(failed(complaint(data).unwrap_or_else(|| data.to_string())));
        }
        if let (true, Some(model)) = (self.reply.model.is_empty(), data["model"].as_str()) {
            model.clone_into(&mut self.reply.model);
        }
        if self.reply.id.is_none() {
            self.reply.id = data["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        }
        for choice in data["choices"].as_array().into_iter().flatten() {
            // An error may end the choice instead of a reason.
            if choice["finish_reason"] == "error" {
                return Err(failed(complaint(choice).unwrap_or_else(|| "the service ended with an error".into())));
            }
            if choice["index"].as_u64().unwrap_or(0) == 0 {
                self.choice(choice, deltas);
            }
        }
        for usage in [&data["usage"], &data["x_groq"]["usage"]] {
            if usage.is_object() {
                self.reply.usage = self::usage(usage);
                self.reply.cost = usage["cost"].as_f64().or(self.reply.cost);
            }
        }
        Ok(())
    }
}

fn usage(usage: &Value) -> Usage {
    Usage {
        input_tokens: count(usage, &["/prompt_tokens"]),
        output_tokens: count(usage, &["/completion_tokens"]),
        cached_tokens: count(usage, &["/prompt_tokens_details/cached_tokens", "/prompt_cache_hit_tokens"]),
        cache_write_tokens: count(usage, &["/prompt_tokens_details/cache_write_tokens"]),
        reasoning_tokens: count(usage, &["/completion_tokens_details/reasoning_tokens"]),
    }
}

impl Reader for Answer {
    fn event(&mut self, _: &str, data: &Value, deltas: &mut Deltas<'_>) -> Result<bool> {
        self.take(data, deltas)?;
        // Behind the reason to finish only the usage may come, and the mark of the end.
        Ok(false)
    }

    fn whole(&mut self, body: &Value, deltas: &mut Deltas<'_>) -> Result<()> {
        self.take(body, deltas)?;
        if body["choices"].as_array().is_none_or(Vec::is_empty) {
            return Err(failed("the answer has no choices"));
        }
        self.done = true;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done || self.finish.is_some()
    }

    fn reply(self: Box<Self>) -> Reply {
        let Answer { provider, mut reply, text, reasoning, reasoning_name, reasoning_details, calls, finish, .. } =
            *self;
        if !reasoning.is_empty() || !reasoning_details.is_empty() {
            let mut back = Map::new();
            if !reasoning_details.is_empty() {
                back.insert("reasoning_details".into(), reasoning_details.into());
            } else if !reasoning_name.is_empty() {
                back.insert(reasoning_name.into(), reasoning.as_str().into());
            }
            let blob = (!back.is_empty()).then_some(Blob { provider, value: Value::Object(back) });
            reply.parts.push(Part::Reasoning { text: reasoning, blob });
        }
        if !text.is_empty() {
            reply.parts.push(Part::Text { text });
        }
        let cut = matches!(finish.as_deref(), Some("length" | "model_length"));
        // A call that was cut off must not be run.
        if !cut {
            reply.parts.extend(calls.parts());
        }
        reply.finish = match finish.as_deref() {
            _ if cut => Finish::Length,
            Some("content_filter") => Finish::Filter,
            _ if reply.calls().next().is_some() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        reply
    }
}
