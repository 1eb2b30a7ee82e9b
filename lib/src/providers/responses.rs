//! OpenAI's responses.

use serde_json::{Map, Value, json};

use super::openai::{data_url, strict};
use super::services::Service;
use super::{
    Blob, Delta, Deltas, Dialect, Finish, Message, Part, Reader, Reply, Request, Role, ToolChoice, Usage, arguments,
    complaint, count, failed, minted,
};
use crate::error::Result;

/// The dialect.
pub(super) struct Responses;

impl Dialect for Responses {
    fn path(&self, _: &Request, _: bool) -> String {
        "responses".into()
    }

    fn headers(&self, key: Option<&str>, _: &Service) -> Vec<(&'static str, String)> {
        key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect()
    }

    fn body(&self, request: &Request, service: &Service, stream: bool) -> Value {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| _ = body.insert(name.into(), value);
        put("model", request.model.as_str().into());
        let system: Vec<_> =
            request.messages.iter().filter(|message| message.role == Role::System).map(Message::plain).collect();
        if !system.is_empty() {
            put("instructions", system.join("\n\n").into());
        }
        put("input", request.messages.iter().flat_map(|message| items(message, &service.name)).collect());
        // Nothing is kept there; what it thought comes back sealed instead.
        put("store", false.into());
        put("include", json!(["reasoning.encrypted_content"]));
        if let Some(most) = request.max_tokens {
            put("max_output_tokens", most.into());
        }
        if let Some(temperature) = request.temperature {
            put("temperature", json!(temperature));
        }
        if let Some(top_p) = request.top_p {
            put("top_p", json!(top_p));
        }
        if let Some(effort) = &request.effort {
            put("reasoning", json!({ "effort": effort, "summary": "auto" }));
        }
        if !request.tools.is_empty() {
            let tool = |tool: &super::ToolDef| {
                json!({ "type": "function", "name": tool.name, "description": tool.description,
                    "parameters": tool.parameters, "strict": strict(&tool.parameters) })
            };
            put("tools", request.tools.iter().map(tool).collect());
            match &request.tool_choice {
                ToolChoice::Auto => {}
                ToolChoice::None => put("tool_choice", "none".into()),
                ToolChoice::Required => put("tool_choice", "required".into()),
                ToolChoice::Named(name) => put("tool_choice", json!({ "type": "function", "name": name })),
            }
        }
        if let Some(schema) = &request.schema {
            put(
                "text",
                json!({ "format": {
                "type": "json_schema", "name": "answer", "schema": schema, "strict": strict(schema) } }),
            );
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

/// A turn as the items it is here.
fn items(message: &Message, provider: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut content = Vec::new();
    let ours = message.role == Role::Assistant;
    for part in &message.parts {
        match part {
            Part::Text { .. } if message.role == Role::System => {}
            Part::Text { text } if ours => content.push(json!({ "type": "output_text", "text": text })),
            Part::Text { text } => content.push(json!({ "type": "input_text", "text": text })),
            Part::Image { mime, data } => {
                let image = json!({ "type": "input_image", "image_url": data_url(mime, data), "detail": "auto" });
                content.push(image);
            }
            Part::File { name, mime, data } => {
                content.push(json!({ "type": "input_file", "filename": name, "file_data": data_url(mime, data) }));
            }
            // It stands in front of the call it led to.
            Part::Reasoning { blob, .. } => items.extend(Blob::of(blob.as_ref(), provider).cloned()),
            Part::ToolCall { id, name, arguments, .. } => {
                let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
                flush(&mut items, &mut content, ours);
                items.push(json!({ "type": "function_call", "call_id": id, "name": name, "arguments": arguments }));
            }
            Part::ToolResult { id, content, .. } => {
                items.push(json!({ "type": "function_call_output", "call_id": id, "output": content }));
            }
        }
    }
    flush(&mut items, &mut content, ours);
    items
}

fn flush(items: &mut Vec<Value>, content: &mut Vec<Value>, ours: bool) {
    if !content.is_empty() {
        let content = std::mem::take(content);
        // What the model said is text; as a part it would need the id it had.
        items.push(match ours {
            true => json!({ "role": "assistant", "content": content.iter().map(text_of_part).collect::<String>() }),
            false => json!({ "role": "user", "content": content }),
        });
    }
}

fn text_of_part(part: &Value) -> &str {
    part["text"].as_str().unwrap_or_default()
}

/// An answer that is being put together.
#[derive(Default)]
struct Answer {
    provider: String,
    reply: Reply,
    incomplete: Option<String>,
    /// Pieces of the item that is under way were heard.
    heard: bool,
    done: bool,
}

impl Answer {
    /// Takes an item of the output that is whole.
    fn item(&mut self, item: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match item["type"].as_str() {
            Some("message") => {
                let said = |part: &Value| match part["type"].as_str() {
                    Some("refusal") => text(&part["refusal"]),
                    _ => text(&part["text"]),
                };
                let text: String = item["content"].as_array().into_iter().flatten().map(said).collect();
                if !text.is_empty() {
                    self.reply.parts.push(Part::Text { text });
                }
            }
            Some("reasoning") => {
                let pieces = [&item["summary"], &item["content"]];
                let said: Vec<String> = pieces
                    .iter()
                    .flat_map(|list| list.as_array().into_iter().flatten())
                    .map(|piece| text(&piece["text"]))
                    .collect();
                let sealed = item["encrypted_content"].is_string();
                let blob = sealed.then(|| Blob { provider: self.provider.clone(), value: item.clone() });
                self.reply.parts.push(Part::Reasoning { text: said.join("\n"), blob });
            }
            Some("function_call") => {
                let whole = &item["arguments"];
                let arguments = whole.as_str().map_or_else(|| whole.clone(), arguments);
                let id = minted(text(&item["call_id"]));
                self.reply.parts.push(Part::ToolCall { id, name: text(&item["name"]), arguments, blob: None });
            }
            _ => {}
        }
    }

    /// Takes the response itself: everything but its output, which came item by item.
    fn response(&mut self, response: &Value) -> Result<()> {
        if let Some(model) = response["model"].as_str() {
            model.clone_into(&mut self.reply.model);
        }
        self.reply.id = response["id"].as_str().map(str::to_owned);
        let usage = &response["usage"];
        if usage.is_object() {
            self.reply.usage = Usage {
                input_tokens: count(usage, &["/input_tokens"]),
                output_tokens: count(usage, &["/output_tokens"]),
                cached_tokens: count(usage, &["/input_tokens_details/cached_tokens"]),
                cache_write_tokens: count(usage, &["/input_tokens_details/cache_write_tokens"]),
                reasoning_tokens: count(usage, &["/output_tokens_details/reasoning_tokens"]),
            };
        }
        if response["error"].is_object() || response["status"] == "failed" {
            return Err(failed(complaint(response).unwrap_or_else(|| "the response failed".into())));
        }
        if response["status"] == "incomplete" {
            let reason = response["incomplete_details"]["reason"].as_str().unwrap_or("max_output_tokens");
            self.incomplete = Some(reason.to_owned());
        }
        Ok(())
    }
}

/// Parts that came whole.
fn tell(parts: &[Part], deltas: &mut Deltas<'_>) {
    for part in parts {
        match part {
            Part::Text { text } => deltas(Delta::Text(text.clone())),
            Part::ToolCall { id, name, .. } => deltas(Delta::ToolCall { id: id.clone(), name: name.clone() }),
            _ => {}
        }
    }
}

impl Reader for Answer {
    fn event(&mut self, kind: &str, data: &Value, deltas: &mut Deltas<'_>) -> Result<bool> {
        let delta = || data["delta"].as_str().unwrap_or_default().to_owned();
        match data["type"].as_str().unwrap_or(kind) {
            "response.output_text.delta" | "response.refusal.delta" => {
                self.heard = true;
                deltas(Delta::Text(delta()));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                deltas(Delta::Reasoning(delta()));
            }
            "response.output_item.added" if data["item"]["type"] == "function_call" => {
                self.heard = true;
                let member = |name: &str| data["item"][name].as_str().unwrap_or_default().to_owned();
                deltas(Delta::ToolCall { id: member("call_id"), name: member("name") });
            }
            "response.output_item.done" => {
                let before = self.reply.parts.len();
                self.item(&data["item"]);
                if !std::mem::take(&mut self.heard) {
                    tell(&self.reply.parts[before..], deltas);
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.response(&data["response"])?;
                self.done = true;
                return Ok(true);
            }
            "error" => return Err(failed(complaint(data).unwrap_or_else(|| data.to_string()))),
            _ => {}
        }
        Ok(false)
    }

    fn whole(&mut self, body: &Value, deltas: &mut Deltas<'_>) -> Result<()> {
        self.response(body)?;
        let Some(output) = body["output"].as_array() else { return Err(failed("the answer has no output")) };
        output.iter().for_each(|item| self.item(item));
        tell(&self.reply.parts, deltas);
        self.done = true;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn reply(self: Box<Self>) -> Reply {
        let mut reply = self.reply;
        let cut = self.incomplete.as_deref().is_some_and(|reason| reason != "content_filter");
        if cut {
            // The last call may have been cut off.
            reply.parts.retain(|part| !matches!(part, Part::ToolCall { .. }));
        }
        reply.finish = match self.incomplete.as_deref() {
            Some("content_filter") => Finish::Filter,
            _ if cut => Finish::Length,
            _ if reply.calls().next().is_some() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        reply
    }
}
