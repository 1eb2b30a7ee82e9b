//! Ollama's own dialect: lines of JSON.

use serde_json::{Map, Value, json};

use super::services::Service;
use super::{
    Calls, Delta, Deltas, Dialect, Finish, Message, Part, Reader, Reply, Request, Role, Usage, complaint, count, failed,
};
use crate::error::Result;

/// The dialect.
pub(super) struct Chat;

impl Dialect for Chat {
    fn path(&self, _: &Request, _: bool) -> String {
        "api/chat".into()
    }

    fn is_lines(&self) -> bool {
        true
    }

    fn headers(&self, key: Option<&str>, _: &Service) -> Vec<(&'static str, String)> {
        key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect()
    }

    fn body(&self, request: &Request, _: &Service, stream: bool) -> Value {
        let mut options = Map::new();
        let mut option = |name: &str, value: Value| _ = options.insert(name.into(), value);
        if let Some(most) = request.max_tokens {
            option("num_predict", most.into());
        }
        if let Some(temperature) = request.temperature {
            option("temperature", json!(temperature));
        }
        if let Some(top_p) = request.top_p {
            option("top_p", json!(top_p));
        }
        if let Some(seed) = request.seed {
            option("seed", seed.into());
        }
        if !request.stop.is_empty() {
            option("stop", json!(request.stop));
        }
        let mut extra = request.extra.clone();
        if let Some(Value::Object(more)) = extra.remove("options") {
            options.extend(more);
        }
        if !options.contains_key("num_ctx") {
            // Without it the server cuts what does not fit its small default, silently and from the front.
            options.insert("num_ctx".into(), context(request).into());
        }
        let mut body = Map::new();
        body.insert("model".into(), request.model.as_str().into());
        body.insert("messages".into(), request.messages.iter().flat_map(messages).collect());
        body.insert("stream".into(), stream.into());
        body.insert("options".into(), options.into());
        if !request.tools.is_empty() && request.tool_choice != super::ToolChoice::None {
            let tool = |tool: &super::ToolDef| {
                json!({ "type": "function", "function": {
                    "name": tool.name, "description": tool.description, "parameters": tool.parameters } })
            };
            body.insert("tools".into(), request.tools.iter().map(tool).collect());
        }
        if let Some(schema) = &request.schema {
            body.insert("format".into(), schema.clone());
        }
        match request.effort.as_deref() {
            None => {}
            Some("none") => _ = body.insert("think".into(), false.into()),
            Some(effort @ ("low" | "medium" | "high")) => _ = body.insert("think".into(), effort.into()),
            Some(_) => _ = body.insert("think".into(), true.into()),
        }
        body.extend(extra);
        Value::Object(body)
    }

    fn reader(&self, _: &Service) -> Box<dyn Reader> {
        Box::<Answer>::default()
    }
}

/// Room for what is asked, at three bytes a token, and for an answer; a power of two from 8192 on.
fn context(request: &Request) -> u64 {
    let said: usize = request.messages.iter().flat_map(|message| &message.parts).map(length).sum();
    let tools: usize =
        request.tools.iter().map(|tool| tool.description.len() + tool.parameters.to_string().len()).sum();
    let tokens = (said + tools) as u64 / 3 + request.max_tokens.unwrap_or(2048);
    tokens.next_power_of_two().clamp(8192, 131_072)
}

fn length(part: &Part) -> usize {
    match part {
        Part::Text { text } | Part::Reasoning { text, .. } => text.len(),
        Part::ToolCall { arguments, .. } => arguments.to_string().len(),
        Part::ToolResult { content, .. } => content.len(),
        Part::Image { .. } => 3000,
        Part::File { data, .. } => data.len(),
    }
}

fn messages(message: &Message) -> Vec<Value> {
    let results = message.parts.iter().filter_map(|part| match part {
        Part::ToolResult { name, content, .. } => {
            Some(json!({ "role": "tool", "tool_name": name, "content": content }))
        }
        _ => None,
    });
    let mut all: Vec<Value> = results.collect();
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => return all,
    };
    let mut turn = json!({ "role": role, "content": message.plain() });
    let images: Vec<&str> = (message.parts.iter())
        .filter_map(|part| if let Part::Image { data, .. } = part { Some(data.as_str()) } else { None })
        .collect();
    if !images.is_empty() {
        turn["images"] = json!(images);
    }
    let calls: Vec<Value> = (message.parts.iter())
        .filter_map(|part| match part {
            Part::ToolCall { name, arguments, .. } => {
                let arguments = if arguments.is_object() { arguments.clone() } else { json!({ "input": arguments }) };
                Some(json!({ "function": { "name": name, "arguments": arguments } }))
            }
            _ => None,
        })
        .collect();
    if !calls.is_empty() {
        turn["tool_calls"] = calls.into();
    }
    all.push(turn);
    all
}

/// An answer that is being put together.
#[derive(Default)]
struct Answer {
    reply: Reply,
    text: String,
    thinking: String,
    calls: Calls,
    reason: Option<String>,
    done: bool,
}

impl Reader for Answer {
    fn event(&mut self, _: &str, data: &Value, deltas: &mut Deltas<'_>) -> Result<bool> {
        if !data["error"].is_null() {
            return Err(failed(complaint(data).unwrap_or_else(|| data.to_string())));
        }
        if let Some(model) = data["model"].as_str() {
            model.clone_into(&mut self.reply.model);
        }
        let message = &data["message"];
        if let Some(piece) = message["thinking"].as_str().filter(|piece| !piece.is_empty()) {
            self.thinking.push_str(piece);
            deltas(Delta::Reasoning(piece.to_owned()));
        }
        if let Some(piece) = message["content"].as_str().filter(|piece| !piece.is_empty()) {
            self.text.push_str(piece);
            deltas(Delta::Text(piece.to_owned()));
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            // Each call comes whole.
            let key = self.calls.0.len().to_string();
            let (new, _) = self.calls.at(&key);
            new.id = super::minted(call["id"].as_str().unwrap_or_default().to_owned());
            call["function"]["name"].as_str().unwrap_or_default().clone_into(&mut new.name);
            match &call["function"]["arguments"] {
                Value::String(text) => new.text.clone_from(text),
                Value::Null => {}
                whole => new.whole = Some(whole.clone()),
            }
            deltas(Delta::ToolCall { id: new.id.clone(), name: new.name.clone() });
        }
        if data["done"] == true {
            self.done = true;
            self.reason = data["done_reason"].as_str().map(str::to_owned);
            self.reply.usage = Usage {
                input_tokens: count(data, &["/prompt_eval_count"]),
                output_tokens: count(data, &["/eval_count"]),
                ..Usage::default()
            };
        }
        Ok(self.done)
    }

    fn whole(&mut self, body: &Value, deltas: &mut Deltas<'_>) -> Result<()> {
        self.event("", body, deltas)?;
        if self.done || body["message"].is_object() {
            self.done = true;
            return Ok(());
        }
        Err(failed("the answer has no message"))
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn reply(self: Box<Self>) -> Reply {
        let mut reply = self.reply;
        if !self.thinking.is_empty() {
            reply.parts.push(Part::Reasoning { text: self.thinking, blob: None });
        }
        if !self.text.is_empty() {
            reply.parts.push(Part::Text { text: self.text });
        }
        reply.parts.extend(self.calls.parts());
        reply.finish = match self.reason.as_deref() {
            Some("length") => Finish::Length,
            _ if reply.calls().next().is_some() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        reply
    }
}
