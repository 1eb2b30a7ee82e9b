//! The dialects against what services send: the files of `tests/recordings`, split at every byte and cut at every byte. What
//! is made of each, and what is sent, is compared with committed files; `BLESS=1` rewrites them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::served::Taking;
use super::services::Service;
use super::transport::Take;
use super::{Blob, Delta, Message, Part, Request, Role, ToolChoice, ToolDef};
use crate::config::Config;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recordings"))
}

/// Compares with the committed file `name`.
fn compare(name: &str, is: &BTreeMap<String, Value>) {
    let text = serde_json::to_string_pretty(is).unwrap() + "\n";
    let path = folder().join("expected").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let known: BTreeMap<String, Value> =
        serde_json::from_str(&fs::read_to_string(&path).unwrap_or_default()).unwrap_or_default();
    for (name, value) in is {
        assert_eq!(known.get(name), Some(value), "{name}: BLESS=1 and look at the difference");
    }
    assert_eq!(known.len(), is.len());
}

/// What is made of a recording that arrives in `pieces`.
fn read(name: &str, pieces: &[&[u8]], cut: bool) -> Value {
    let service = Service::of(name.split('-').next().unwrap(), &Config::default()).unwrap();
    let mut deltas = Vec::new();
    let mut hear = |delta: Delta| deltas.push(delta);
    let mut taking = Taking::new(&service, true, &mut hear).unwrap();
    taking.begin(if name.ends_with(".json") { "application/json" } else { "text/event-stream" });
    let mut going = true;
    let mut result = Ok(());
    for piece in pieces {
        match taking.bytes(piece) {
            Ok(more) => going = more,
            Err(error) => result = Err(error),
        }
        if !going || result.is_err() {
            break;
        }
    }
    if going && result.is_ok() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        result = taking.end(cut.then_some(&reset));
    }
    if let Err(error) = result {
        return json!({ "error": error.text(), "class": error.class().row().name });
    }
    let reply = taking.reader.reply();
    let text: String =
        deltas.iter().filter_map(|d| if let Delta::Text(text) = d { Some(text.as_str()) } else { None }).collect();
    assert_eq!(text, reply.text(), "{name}: the pieces are the answer");
    let mut value = serde_json::to_value(&reply).unwrap();
    value["streamed_calls"] = deltas.iter().filter(|delta| matches!(delta, Delta::ToolCall { .. })).count().into();
    for part in value["parts"].as_array_mut().unwrap() {
        // Ids that were minted differ each time.
        if part["type"] == "tool_call" && part["id"].as_str().unwrap().len() == 29 {
            part["id"] = "minted".into();
        }
    }
    value
}

#[test]
fn recordings_are_read_the_same_however_they_arrive() {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !entry.path().is_file() {
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        let whole = read(&name, &[&bytes], false);
        for at in 0..bytes.len() {
            assert_eq!(read(&name, &[&bytes[..at], &bytes[at..]], false), whole, "{name} split at {at}");
            // A connection that breaks is an error, or everything had come.
            let cut = read(&name, &[&bytes[..at]], true);
            let told = cut["error"].is_string();
            assert!(
                told || cut["finish"] == whole["finish"] && cut["parts"] == whole["parts"],
                "{name} cut at {at}: {cut}"
            );
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(read(&name, &single, false), whole, "{name} byte by byte");
        all.insert(name, whole);
    }
    assert!(all.len() > 40, "{}", all.len());
    compare("replies.json", &all);
}

#[test]
fn what_is_no_answer_is_an_error() {
    for (name, bytes) in [
        ("openai-x.sse", &b"data: {\"choices\": [\n\n"[..]),
        ("openai-x.sse", b"data: nonsense\n\n"),
        ("openai-x.sse", b""),
        ("openai-x.sse", b"<html>busy</html>"),
        ("openai-x.json", b"[]"),
        ("openai-x.json", b"{\"choices\": []}"),
        ("anthropic-x.sse", b"event: message_start\ndata: 5\n\n"),
        ("anthropic-x.json", b"null"),
        ("gemini-x.sse", b"data: {}\n\n"),
        ("gemini-x.json", b"{}"),
        ("ollama-x.ndjson", b"{\"message\": 5}\n"),
        ("cohere-x.json", b"{\"message\": \"flat\"}"),
        ("openai_responses-x.json", b"{}"),
    ] {
        let made = read(name, &[bytes], false);
        assert!(made["error"].is_string(), "{name} {}: {made}", String::from_utf8_lossy(bytes));
        assert_eq!(made["class"], "remote");
    }
}

#[test]
fn random_answers_never_panic() {
    let words = [
        "data: ",
        "event: error\n",
        "\n\n",
        "\n",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"choices\"",
        "\"delta\"",
        "\"tool_calls\"",
        "null",
        "\"index\"",
        "0",
        "-1",
        "1e99",
        "\"type\"",
        "\"content_block_delta\"",
        "\"error\"",
        "\"\"",
        "\"content\"",
        "true",
        "\"parts\"",
        "[DONE]",
        "\"finish_reason\"",
        "\"usage\"",
        "\"message\"",
        "\"candidates\"",
        "\"response.completed\"",
        "\"done\"",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for round in 0..6000 {
        let mut text = String::new();
        for _ in 0..20 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            text += words[seed as usize % words.len()];
        }
        let service = ["openai", "anthropic", "gemini", "ollama", "cohere", "openai_responses"][round % 6];
        let kind = if round % 5 == 0 { "json" } else { "sse" };
        read(&format!("{service}-x.{kind}"), &[text.as_bytes()], false);
    }
}

/// A conversation with everything in it, as `service` had it before.
fn conversation(service: &str) -> Request {
    let blob = |value: Value| Some(Blob { provider: service.into(), value });
    let thought = match service {
        "anthropic" => json!({ "type": "thinking", "thinking": "t", "signature": "EqQB" }),
        "openai_responses" => json!({ "id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA" }),
        "gemini" => json!({ "text": "", "thoughtSignature": "c2ln" }),
        "openrouter" => json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "data": "abc" }] }),
        _ => json!({ "reasoning_content": "t" }),
    };
    let signature = if service == "gemini" { blob("c2ln".into()) } else { None };
    let call = |id: &str, name: &str, arguments: Value| Part::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments,
        blob: signature.clone(),
    };
    let result = |id: &str, name: &str, is_error| Part::ToolResult {
        id: id.into(),
        name: name.into(),
        content: "result".into(),
        is_error,
    };
    let thinks = matches!(service, "anthropic" | "openai_responses" | "gemini" | "openrouter" | "deepseek");
    let reasoning = Part::Reasoning { text: "t".into(), blob: blob(thought).filter(|_| thinks) };
    let foreign = Part::Reasoning {
        text: "elsewhere".into(),
        blob: Some(Blob { provider: "another".into(), value: json!({ "secret": 1 }) }),
    };
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"], "additionalProperties": false });
    Request {
        model: "model-x".into(),
        messages: vec![
            Message::text(Role::System, "Be brief."),
            Message {
                role: Role::User,
                parts: vec![
                    Part::Text { text: "What is this?".into() },
                    Part::Image { mime: "image/png".into(), data: "iVBORw0KGgo=".into() },
                    Part::File { name: "a.pdf".into(), mime: "application/pdf".into(), data: "JVBERi0=".into() },
                ],
            },
            Message {
                role: Role::Assistant,
                parts: vec![
                    foreign,
                    reasoning,
                    Part::Text { text: "I look.".into() },
                    call("call_1", "weather", json!({ "city": "Graz" })),
                    call("call_2", "time", json!({})),
                ],
            },
            Message {
                role: Role::Tool,
                parts: vec![result("call_1", "weather", false), result("call_2", "time", true)],
            },
            Message::text(Role::User, "Go on."),
        ],
        tools: vec![
            ToolDef { name: "weather".into(), description: "Tells the weather.".into(), parameters: schema.clone() },
            ToolDef {
                name: "time".into(),
                description: "Tells the time.".into(),
                parameters: json!({ "type": "object", "properties": {} }),
            },
        ],
        tool_choice: ToolChoice::Required,
        max_tokens: Some(100),
        temperature: Some(0.5),
        top_p: Some(0.9),
        stop: vec!["END".into()],
        seed: Some(7),
        effort: Some("low".into()),
        schema: Some(schema),
        ..Request::default()
    }
}

#[test]
fn what_is_sent_is_what_was_looked_at() {
    let mut all = BTreeMap::new();
    for name in
        ["openai", "openai_responses", "anthropic", "gemini", "ollama", "cohere", "mistral", "deepseek", "openrouter"]
    {
        let service = Service::of(name, &Config::default()).unwrap();
        let dialect = service.dialect().unwrap();
        let request = conversation(name);
        let body = dialect.body(&request, &service, true);
        assert!(!body.to_string().contains("secret"), "{name} gets what another service said");
        let headers: BTreeMap<_, _> = dialect.headers(Some("KEY"), &service).into_iter().collect();
        all.insert(name.to_owned(), json!({ "path": dialect.path(&request, true), "headers": headers, "body": body }));
    }
    compare("requests.json", &all);
}
