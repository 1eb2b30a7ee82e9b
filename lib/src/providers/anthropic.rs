//! Anthropic's messages.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::services::Service;
use super::{
    Blob, Delta, Deltas, Dialect, Finish, Message, Part, Reader, Reply, Request, Role, ToolChoice, Usage, complaint,
    count, failed, minted,
};
use crate::error::Result;

/// The dialect.
pub(super) struct Messages;

/// Tokens of an answer when the request names no limit, which this service insists on.
const MAX_TOKENS: u64 = 8192;

impl Dialect for Messages {
    fn path(&self, _: &Request, _: bool) -> String {
        "v1/messages".into()
    }

    fn headers(&self, key: Option<&str>, _: &Service) -> Vec<(&'static str, String)> {
        let version = ("anthropic-version", "2023-06-01".to_owned());
        key.map(|key| ("x-api-key", key.to_owned())).into_iter().chain([version]).collect()
    }

    fn body(&self, request: &Request, service: &Service, stream: bool) -> Value {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| _ = body.insert(name.into(), value);
        put("model", request.model.as_str().into());
        put("max_tokens", request.max_tokens.unwrap_or(MAX_TOKENS).into());
        let system: Vec<_> =
            request.messages.iter().filter(|message| message.role == Role::System).map(Message::plain).collect();
        if !system.is_empty() {
            put("system", system.join("\n\n").into());
        }
        put("messages", turns(&request.messages, &service.name));
        if let Some(temperature) = request.temperature {
            put("temperature", json!(temperature));
        }
        if let Some(top_p) = request.top_p {
            put("top_p", json!(top_p));
        }
        if !request.stop.is_empty() {
            put("stop_sequences", json!(request.stop));
        }
        if !request.tools.is_empty() {
            let tool = |tool: &super::ToolDef| json!({ "name": tool.name, "description": tool.description, "input_schema": tool.parameters });
            put("tools", request.tools.iter().map(tool).collect());
            match &request.tool_choice {
                ToolChoice::Auto => {}
                ToolChoice::None => put("tool_choice", json!({ "type": "none" })),
                ToolChoice::Required => put("tool_choice", json!({ "type": "any" })),
                ToolChoice::Named(name) => put("tool_choice", json!({ "type": "tool", "name": name })),
            }
        }
        let mut output = Map::new();
        if let Some(effort) = &request.effort {
            output.insert("effort".into(), effort.as_str().into());
        }
        if let Some(schema) = &request.schema {
            output.insert("format".into(), json!({ "type": "json_schema", "schema": schema }));
        }
        if !output.is_empty() {
            put("output_config", output.into());
        }
        if stream {
            put("stream", true.into());
        }
        body.extend(request.extra.clone());
        Value::Object(body)
    }

    fn reader(&self, service: &Service) -> Box<dyn Reader> {
        Box::new(Answer { provider: service.name.clone(), ..Answer::default() })
    }
}

/// Turns of the user and of the model in turn: neighbours of one side become one, results of tools stand first.
fn turns(messages: &[Message], provider: &str) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages.iter().filter(|message| message.role != Role::System) {
        let side = if message.role == Role::Assistant { "assistant" } else { "user" };
        let mut blocks: Vec<Value> = message.parts.iter().filter_map(|part| block(part, provider)).collect();
        match turns.last_mut() {
            Some((last, all)) if *last == side => all.append(&mut blocks),
            _ => turns.push((side, blocks)),
        }
    }
    let turn = |(side, mut blocks): (&str, Vec<Value>)| {
        // Stable: only results change their place, and the model's own turns have none.
        blocks.sort_by_key(|block| block["type"] != "tool_result");
        json!({ "role": side, "content": blocks })
    };
    let filled = |(_, blocks): &(&str, Vec<Value>)| !blocks.is_empty();
    turns.into_iter().filter(filled).map(turn).collect()
}

fn block(part: &Part, provider: &str) -> Option<Value> {
    let source = |mime: &str, data: &str| json!({ "type": "base64", "media_type": mime, "data": data });
    Some(match part {
        Part::Text { text } if text.is_empty() => return None,
        Part::Text { text } => json!({ "type": "text", "text": text }),
        // Without its signature the service does not take it back.
        Part::Reasoning { blob, .. } => Blob::of(blob.as_ref(), provider)?.clone(),
        Part::ToolCall { id, name, arguments, .. } => {
            let input = if arguments.is_object() { arguments.clone() } else { json!({ "input": arguments }) };
            json!({ "type": "tool_use", "id": id, "name": name, "input": input })
        }
        Part::ToolResult { id, content, is_error, .. } => {
            let mut block = json!({ "type": "tool_result", "tool_use_id": id, "content": content });
            if *is_error {
                block["is_error"] = true.into();
            }
            block
        }
        Part::Image { mime, data } => json!({ "type": "image", "source": source(mime, data) }),
        Part::File { name, mime, data } => {
            json!({ "type": "document", "title": name, "source": source(mime, data) })
        }
    })
}

/// An answer that is being put together.
#[derive(Default)]
struct Answer {
    provider: String,
    reply: Reply,
    /// Blocks by index: what they began as, and the pieces since.
    blocks: BTreeMap<u64, Block>,
    usage: Map<String, Value>,
    stop: Option<String>,
    done: bool,
}

#[derive(Default)]
struct Block {
    start: Value,
    text: String,
    signature: String,
}

impl Answer {
    fn start(&mut self, index: u64, block: &Value, deltas: &mut Deltas<'_>) {
        let mut started = Block { start: block.clone(), ..Block::default() };
        match block["type"].as_str() {
            Some("text") => block["text"].as_str().unwrap_or_default().clone_into(&mut started.text),
            Some("thinking") => {
                block["thinking"].as_str().unwrap_or_default().clone_into(&mut started.text);
                block["signature"].as_str().unwrap_or_default().clone_into(&mut started.signature);
            }
            Some("tool_use") => {
                let member = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
                started.start["id"] = minted(member("id")).into();
                let id = started.start["id"].as_str().unwrap_or_default().to_owned();
                deltas(Delta::ToolCall { id, name: member("name") });
            }
            _ => {}
        }
        if !started.text.is_empty() {
            let text = started.text.clone();
            deltas(if block["type"] == "thinking" { Delta::Reasoning(text) } else { Delta::Text(text) });
        }
        self.blocks.insert(index, started);
    }

    fn piece(&mut self, index: u64, delta: &Value, deltas: &mut Deltas<'_>) {
        let block = self.blocks.entry(index).or_default();
        let text = |name: &str| delta[name].as_str().unwrap_or_default().to_owned();
        match delta["type"].as_str() {
            Some("text_delta") => {
                block.text.push_str(&text("text"));
                deltas(Delta::Text(text("text")));
            }
            Some("thinking_delta") => {
                block.text.push_str(&text("thinking"));
                deltas(Delta::Reasoning(text("thinking")));
            }
            Some("signature_delta") => block.signature.push_str(&text("signature")),
            Some("input_json_delta") => block.text.push_str(&text("partial_json")),
            _ => {}
        }
    }

    fn message(&mut self, message: &Value) {
        if let Some(model) = message["model"].as_str() {
            model.clone_into(&mut self.reply.model);
        }
        self.reply.id = message["id"].as_str().map(str::to_owned);
        self.usage(&message["usage"]);
    }

    /// Counts are cumulative: the last word on each counts.
    fn usage(&mut self, usage: &Value) {
        let known = usage.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        self.usage.extend(known.map(|(name, value)| (name.clone(), value.clone())));
    }

    fn stop(&mut self, delta: &Value) {
        if let Some(stop) = delta["stop_reason"].as_str() {
            self.stop = Some(stop.to_owned());
        }
    }
}

impl Reader for Answer {
    fn event(&mut self, kind: &str, data: &Value, deltas: &mut Deltas<'_>) -> Result<bool> {
        let index = data["index"].as_u64().unwrap_or(0);
        match data["type"].as_str().unwrap_or(kind) {
            "message_start" => self.message(&data["message"]),
            "content_block_start" => self.start(index, &data["content_block"], deltas),
            "content_block_delta" => self.piece(index, &data["delta"], deltas),
            "message_delta" => {
                self.stop(&data["delta"]);
                self.usage(&data["usage"]);
            }
            "message_stop" => {
                self.done = true;
                return Ok(true);
            }
            "error" => return Err(failed(complaint(data).unwrap_or_else(|| data.to_string()))),
            _ => {}
        }
        Ok(false)
    }

    fn whole(&mut self, body: &Value, deltas: &mut Deltas<'_>) -> Result<()> {
        if body["type"] == "error" {
            return Err(failed(complaint(body).unwrap_or_else(|| body.to_string())));
        }
        let Some(blocks) = body["content"].as_array() else { return Err(failed("the answer has no content")) };
        self.message(body);
        self.stop(body);
        for (index, block) in blocks.iter().enumerate() {
            self.start(index as u64, block, deltas);
        }
        self.done = true;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn reply(self: Box<Self>) -> Reply {
        let Answer { provider, mut reply, blocks, usage, stop, .. } = *self;
        let cut = matches!(stop.as_deref(), Some("max_tokens" | "model_context_window_exceeded"));
        let last = blocks.keys().next_back().copied();
        for (index, block) in blocks {
            let blob = |value: Value| Some(Blob { provider: provider.clone(), value });
            match block.start["type"].as_str().unwrap_or("text") {
                "text" if !block.text.is_empty() => reply.parts.push(Part::Text { text: block.text }),
                "thinking" => {
                    let value = json!({ "type": "thinking", "thinking": block.text, "signature": block.signature });
                    let blob = if block.signature.is_empty() { None } else { blob(value) };
                    reply.parts.push(Part::Reasoning { text: block.text, blob });
                }
                "redacted_thinking" => {
                    reply.parts.push(Part::Reasoning { text: String::new(), blob: blob(block.start) });
                }
                // The last one was cut off: it must not be run.
                "tool_use" if cut && Some(index) == last => {}
                "tool_use" => {
                    let member = |name: &str| block.start[name].as_str().unwrap_or_default().to_owned();
                    let given = block.start["input"].as_object().filter(|input| !input.is_empty());
                    let arguments =
                        given.map_or_else(|| super::arguments(&block.text), |input| Value::Object(input.clone()));
                    reply.parts.push(Part::ToolCall { id: member("id"), name: member("name"), arguments, blob: None });
                }
                _ => {}
            }
        }
        let usage = Value::Object(usage);
        let (cached, written) =
            (count(&usage, &["/cache_read_input_tokens"]), count(&usage, &["/cache_creation_input_tokens"]));
        reply.usage = Usage {
            // Its own count leaves the cache out.
            input_tokens: count(&usage, &["/input_tokens"]) + cached + written,
            output_tokens: count(&usage, &["/output_tokens"]),
            cached_tokens: cached,
            cache_write_tokens: written,
            reasoning_tokens: count(&usage, &["/output_tokens_details/reasoning_tokens"]),
        };
        reply.finish = match stop.as_deref() {
            _ if cut => Finish::Length,
            Some("refusal") => Finish::Filter,
            _ if reply.calls().next().is_some() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        reply
    }
}
