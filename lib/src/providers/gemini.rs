//! Google's `generateContent`.

use serde_json::{Map, Value, json};

use super::services::Service;
use super::{
    Blob, Delta, Deltas, Dialect, Finish, Message, Part, Reader, Reply, Request, Role, ToolChoice, Usage, complaint,
    count, failed, minted,
};
use crate::error::Result;

/// The dialect.
pub(super) struct Content;

impl Dialect for Content {
    fn path(&self, request: &Request, stream: bool) -> String {
        let model = request.model.strip_prefix("models/").unwrap_or(&request.model);
        // A name cannot leave its place in the path.
        let model: String = url::form_urlencoded::byte_serialize(model.as_bytes()).collect();
        let verb = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        format!("models/{model}:{verb}")
    }

    fn headers(&self, key: Option<&str>, _: &Service) -> Vec<(&'static str, String)> {
        key.map(|key| ("x-goog-api-key", key.to_owned())).into_iter().collect()
    }

    fn body(&self, request: &Request, service: &Service, _: bool) -> Value {
        let mut config = Map::new();
        let mut put = |name: &str, value: Value| _ = config.insert(name.into(), value);
        if let Some(most) = request.max_tokens {
            put("maxOutputTokens", most.into());
        }
        if let Some(temperature) = request.temperature {
            put("temperature", json!(temperature));
        }
        if let Some(top_p) = request.top_p {
            put("topP", json!(top_p));
        }
        if let Some(seed) = request.seed {
            put("seed", seed.into());
        }
        if !request.stop.is_empty() {
            put("stopSequences", json!(request.stop));
        }
        if let Some(effort) = &request.effort {
            put("thinkingConfig", json!({ "thinkingLevel": effort }));
        }
        if let Some(schema) = &request.schema {
            put("responseMimeType", "application/json".into());
            put("responseJsonSchema", schema.clone());
        }
        let mut body = Map::new();
        body.insert("contents".into(), contents(&request.messages, &service.name));
        let system: Vec<_> =
            request.messages.iter().filter(|message| message.role == Role::System).map(Message::plain).collect();
        if !system.is_empty() {
            body.insert("systemInstruction".into(), json!({ "parts": [{ "text": system.join("\n\n") }] }));
        }
        if !config.is_empty() {
            body.insert("generationConfig".into(), config.into());
        }
        if !request.tools.is_empty() {
            let tool = |tool: &super::ToolDef| json!({ "name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters });
            let all: Vec<Value> = request.tools.iter().map(tool).collect();
            body.insert("tools".into(), json!([{ "functionDeclarations": all }]));
            let calling = match &request.tool_choice {
                ToolChoice::Auto => None,
                ToolChoice::None => Some(json!({ "mode": "NONE" })),
                ToolChoice::Required => Some(json!({ "mode": "ANY" })),
                ToolChoice::Named(name) => Some(json!({ "mode": "ANY", "allowedFunctionNames": [name] })),
            };
            if let Some(calling) = calling {
                body.insert("toolConfig".into(), json!({ "functionCallingConfig": calling }));
            }
        }
        body.extend(request.extra.clone());
        Value::Object(body)
    }

    fn reader(&self, service: &Service) -> Box<dyn Reader> {
        Box::new(Answer { provider: service.name.clone(), ..Answer::default() })
    }
}

/// Turns of user and model; neighbours of one side become one, as results of calls made together have to.
fn contents(messages: &[Message], provider: &str) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages.iter().filter(|message| message.role != Role::System) {
        let side = if message.role == Role::Assistant { "model" } else { "user" };
        let mut parts: Vec<Value> = message.parts.iter().filter_map(|one| part(one, provider)).collect();
        match turns.last_mut() {
            Some((last, all)) if *last == side => all.append(&mut parts),
            _ => turns.push((side, parts)),
        }
    }
    let filled = turns.into_iter().filter(|(_, parts)| !parts.is_empty());
    filled.map(|(side, parts)| json!({ "role": side, "parts": parts })).collect()
}

fn part(part: &Part, provider: &str) -> Option<Value> {
    let inline = |mime: &str, data: &str| json!({ "inlineData": { "mimeType": mime, "data": data } });
    Some(match part {
        Part::Text { text } if text.is_empty() => return None,
        Part::Text { text } => json!({ "text": text }),
        Part::Reasoning { blob, .. } => Blob::of(blob.as_ref(), provider)?.clone(),
        Part::ToolCall { name, arguments, blob, .. } => {
            let args = if arguments.is_object() { arguments.clone() } else { json!({ "input": arguments }) };
            let mut call = json!({ "functionCall": { "name": name, "args": args } });
            if let Some(signature) = Blob::of(blob.as_ref(), provider) {
                call["thoughtSignature"] = signature.clone();
            }
            call
        }
        Part::ToolResult { name, content, is_error, .. } => {
            // It has to be an object.
            let response = if *is_error { json!({ "error": content }) } else { json!({ "result": content }) };
            json!({ "functionResponse": { "name": name, "response": response } })
        }
        Part::Image { mime, data } | Part::File { mime, data, .. } => inline(mime, data),
    })
}

/// An answer that is being put together.
#[derive(Default)]
struct Answer {
    provider: String,
    reply: Reply,
    finish: Option<String>,
    /// The request was refused before an answer began.
    blocked: Option<String>,
}

impl Answer {
    fn part(&mut self, part: &Value, deltas: &mut Deltas<'_>) {
        let signature = part.get("thoughtSignature").filter(|signature| signature.is_string());
        let blob = |value: Value| Blob { provider: self.provider.clone(), value };
        if let Some(call) = part.get("functionCall") {
            let id = minted(call["id"].as_str().unwrap_or_default().to_owned());
            let name = call["name"].as_str().unwrap_or_default().to_owned();
            deltas(Delta::ToolCall { id: id.clone(), name: name.clone() });
            let arguments = if call["args"].is_object() { call["args"].clone() } else { json!({}) };
            let blob = signature.cloned().map(blob);
            self.reply.parts.push(Part::ToolCall { id, name, arguments, blob });
            return;
        }
        let piece = part["text"].as_str().unwrap_or_default();
        if part["thought"] == true {
            deltas(Delta::Reasoning(piece.to_owned()));
            match self.reply.parts.last_mut() {
                Some(Part::Reasoning { text, blob: None }) => text.push_str(piece),
                _ => self.reply.parts.push(Part::Reasoning { text: piece.to_owned(), blob: None }),
            }
            return;
        }
        if !piece.is_empty() {
            deltas(Delta::Text(piece.to_owned()));
            match self.reply.parts.last_mut() {
                Some(Part::Text { text }) => text.push_str(piece),
                _ => self.reply.parts.push(Part::Text { text: piece.to_owned() }),
            }
        }
        if let Some(signature) = signature {
            // A signature of the text itself goes back with an empty part of its own.
            let back = json!({ "text": "", "thoughtSignature": signature });
            self.reply.parts.push(Part::Reasoning { text: String::new(), blob: Some(blob(back)) });
        }
    }

    fn take(&mut self, data: &Value, deltas: &mut Deltas<'_>) -> Result<()> {
        if data["error"].is_object() {
            return Err(failed(complaint(data).unwrap_or_else(|| data.to_string())));
        }
        if let Some(model) = data["modelVersion"].as_str() {
            model.clone_into(&mut self.reply.model);
        }
        if let Some(id) = data["responseId"].as_str() {
            self.reply.id = Some(id.to_owned());
        }
        if let Some(reason) = data["promptFeedback"]["blockReason"].as_str() {
            self.blocked = Some(reason.to_owned());
        }
        let candidate = &data["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.part(part, deltas);
        }
        if let Some(finish) = candidate["finishReason"].as_str() {
            self.finish = Some(finish.to_owned());
        }
        let usage = &data["usageMetadata"];
        if usage.is_object() {
            let thought = count(usage, &["/thoughtsTokenCount"]);
            self.reply.usage = Usage {
                input_tokens: count(usage, &["/promptTokenCount"]) + count(usage, &["/toolUsePromptTokenCount"]),
                output_tokens: count(usage, &["/candidatesTokenCount"]) + thought,
                cached_tokens: count(usage, &["/cachedContentTokenCount"]),
                cache_write_tokens: 0,
                reasoning_tokens: thought,
            };
        }
        Ok(())
    }
}

impl Reader for Answer {
    fn event(&mut self, _: &str, data: &Value, deltas: &mut Deltas<'_>) -> Result<bool> {
        self.take(data, deltas)?;
        Ok(false)
    }

    fn whole(&mut self, body: &Value, deltas: &mut Deltas<'_>) -> Result<()> {
        self.take(body, deltas)?;
        if self.is_complete() || !self.reply.parts.is_empty() {
            self.finish.get_or_insert_with(|| "STOP".into());
            return Ok(());
        }
        Err(failed("the answer has no candidates"))
    }

    fn is_complete(&self) -> bool {
        self.finish.is_some() || self.blocked.is_some()
    }

    fn reply(self: Box<Self>) -> Reply {
        let mut reply = self.reply;
        reply.finish = match self.finish.as_deref() {
            _ if self.blocked.is_some() => Finish::Filter,
            Some("MAX_TOKENS") => Finish::Length,
            Some(
                "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY",
            ) => Finish::Filter,
            _ if reply.calls().next().is_some() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        reply
    }
}
