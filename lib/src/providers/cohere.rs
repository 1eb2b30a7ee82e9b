//! Cohere's chat, version 2.

use serde_json::{Map, Value, json};

use super::services::Service;
use super::{
    Calls, Delta, Deltas, Dialect, Finish, Message, Part, Reader, Reply, Request, Role, ToolChoice, Usage, complaint,
    count, failed,
};
use crate::error::Result;

/// The dialect.
pub(super) struct Chat;

impl Dialect for Chat {
    fn path(&self, _: &Request, _: bool) -> String {
        "v2/chat".into()
    }

    fn headers(&self, key: Option<&str>, _: &Service) -> Vec<(&'static str, String)> {
        key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect()
    }

    fn body(&self, request: &Request, _: &Service, stream: bool) -> Value {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| _ = body.insert(name.into(), value);
        put("model", request.model.as_str().into());
        put("messages", request.messages.iter().flat_map(messages).collect());
        put("stream", stream.into());
        if let Some(most) = request.max_tokens {
            put("max_tokens", most.into());
        }
        if let Some(temperature) = request.temperature {
            put("temperature", json!(temperature));
        }
        if let Some(top_p) = request.top_p {
            put("p", json!(top_p));
        }
        if let Some(seed) = request.seed {
            put("seed", seed.into());
        }
        if !request.stop.is_empty() {
            put("stop_sequences", json!(request.stop));
        }
        if !request.tools.is_empty() {
            let tool = |tool: &super::ToolDef| {
                json!({ "type": "function", "function": {
                    "name": tool.name, "description": tool.description, "parameters": tool.parameters } })
            };
            put("tools", request.tools.iter().map(tool).collect());
            match &request.tool_choice {
                ToolChoice::Auto => {}
                ToolChoice::None => put("tool_choice", "NONE".into()),
                // It cannot be told which.
                ToolChoice::Required | ToolChoice::Named(_) => put("tool_choice", "REQUIRED".into()),
            }
        }
        if let Some(schema) = &request.schema {
            put("response_format", json!({ "type": "json_object", "json_schema": schema }));
        }
        body.extend(request.extra.clone());
        Value::Object(body)
    }

    fn reader(&self, _: &Service) -> Box<dyn Reader> {
        Box::<Answer>::default()
    }
}

fn messages(message: &Message) -> Vec<Value> {
    let results = message.parts.iter().filter_map(|part| match part {
        Part::ToolResult { id, content, .. } => Some(json!({ "role": "tool", "tool_call_id": id, "content": content })),
        _ => None,
    });
    let mut all: Vec<Value> = results.collect();
    match message.role {
        Role::System => all.push(json!({ "role": "system", "content": message.plain() })),
        Role::User => {
            let part = |part: &Part| match part {
                Part::Text { text } => Some(json!({ "type": "text", "text": text })),
                Part::Image { mime, data } => {
                    let url = super::openai::data_url(mime, data);
                    Some(json!({ "type": "image_url", "image_url": { "url": url } }))
                }
                _ => None,
            };
            let content: Vec<Value> = message.parts.iter().filter_map(part).collect();
            all.push(json!({ "role": "user", "content": content }));
        }
        Role::Assistant => {
            let mut turn = json!({ "role": "assistant" });
            let text = message.plain();
            let calls: Vec<Value> = (message.parts.iter())
                .filter_map(|part| match part {
                    Part::ToolCall { id, name, arguments, .. } => {
                        let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
                        Some(json!({ "id": id, "type": "function",
                            "function": { "name": name, "arguments": arguments } }))
                    }
                    _ => None,
                })
                .collect();
            if !text.is_empty() || calls.is_empty() {
                turn["content"] = text.into();
            }
            if !calls.is_empty() {
                turn["tool_calls"] = calls.into();
            }
            all.push(turn);
        }
        Role::Tool => {}
    }
    all
}

/// An answer that is being put together.
#[derive(Default)]
struct Answer {
    reply: Reply,
    text: String,
    thinking: String,
    calls: Calls,
    finish: Option<String>,
    done: bool,
}

impl Answer {
    fn piece(&mut self, content: &Value, deltas: &mut Deltas<'_>) {
        if let Some(piece) = content["text"].as_str().filter(|piece| !piece.is_empty()) {
            self.text.push_str(piece);
            deltas(Delta::Text(piece.to_owned()));
        }
        if let Some(piece) = content["thinking"].as_str().filter(|piece| !piece.is_empty()) {
            self.thinking.push_str(piece);
            deltas(Delta::Reasoning(piece.to_owned()));
        }
    }

    fn call(&mut self, key: &str, call: &Value, deltas: &mut Deltas<'_>) {
        let (known, _) = self.calls.at(key);
        if let Some(id) = call["id"].as_str() {
            id.clone_into(&mut known.id);
        }
        if let Some(name) = call["function"]["name"].as_str() {
            name.clone_into(&mut known.name);
            deltas(Delta::ToolCall { id: known.id.clone(), name: name.to_owned() });
        }
        known.text.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
    }

    fn end(&mut self, delta: &Value) -> Result<()> {
        self.finish = delta["finish_reason"].as_str().map(str::to_owned);
        self.done = true;
        let usage = &delta["usage"];
        self.reply.usage = Usage {
            input_tokens: count(usage, &["/tokens/input_tokens", "/billed_units/input_tokens"]),
            output_tokens: count(usage, &["/tokens/output_tokens", "/billed_units/output_tokens"]),
            cached_tokens: count(usage, &["/cached_tokens"]),
            ..Usage::default()
        };
        match self.finish.as_deref() {
            Some("ERROR") => Err(failed(complaint(delta).unwrap_or_else(|| "the service ended with an error".into()))),
            _ => Ok(()),
        }
    }
}

impl Reader for Answer {
    fn event(&mut self, kind: &str, data: &Value, deltas: &mut Deltas<'_>) -> Result<bool> {
        let message = &data["delta"]["message"];
        match data["type"].as_str().unwrap_or(kind) {
            "message-start" => self.reply.id = data["id"].as_str().map(str::to_owned),
            "content-start" | "content-delta" => self.piece(&message["content"], deltas),
            "tool-call-start" | "tool-call-delta" => {
                let key = data["index"].to_string();
                self.call(&key, &message["tool_calls"], deltas);
            }
            "message-end" => {
                self.end(&data["delta"])?;
                return Ok(true);
            }
            "error" => return Err(failed(complaint(data).unwrap_or_else(|| data.to_string()))),
            _ => {}
        }
        Ok(false)
    }

    fn whole(&mut self, body: &Value, deltas: &mut Deltas<'_>) -> Result<()> {
        let message = &body["message"];
        if !message.is_object() {
            return Err(failed(complaint(body).unwrap_or_else(|| "the answer has no message".into())));
        }
        self.reply.id = body["id"].as_str().map(str::to_owned);
        for content in message["content"].as_array().into_iter().flatten() {
            self.piece(content, deltas);
        }
        for (at, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            self.call(&at.to_string(), call, deltas);
        }
        self.end(body)
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
        let cut = self.finish.as_deref() == Some("MAX_TOKENS");
        if !cut {
            reply.parts.extend(self.calls.parts());
        }
        reply.finish = match () {
            () if cut => Finish::Length,
            () if reply.calls().next().is_some() => Finish::ToolCalls,
            () => Finish::Stop,
        };
        reply
    }
}
