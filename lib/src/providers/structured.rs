//! Answers that are JSON of a schema: what the model wrote is read, compared, and asked for once more if it is not right.

use serde_json::Value;

use super::{Message, Part, Reply, Request, Role, plain};
use crate::tools::mismatches;

/// The JSON in `text`, which some models put between fences.
fn json(text: &str) -> Result<Value, String> {
    let text = text.trim();
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")).map(|rest| {
        let (first, lines) = rest.split_once('\n').unwrap_or(("", rest));
        if first.trim().chars().all(char::is_alphanumeric) { lines } else { rest }
    });
    serde_json::from_str(inner.unwrap_or(text)).map_err(|error| format!("it is not JSON: {error}"))
}

/// Puts the bare JSON into `reply`, if it is what `schema` asks for.
///
/// # Errors
/// What is wrong with it, for the model.
pub(super) fn check(reply: &mut Reply, schema: &Value) -> Result<(), String> {
    let text = reply.text();
    let value = json(&text)?;
    let wrong = mismatches(schema, &value);
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    if json(&text).is_ok() && text.trim().starts_with("```") {
        let first = reply.parts.iter().position(|part| matches!(part, Part::Text { .. }));
        reply.parts.retain(|part| !matches!(part, Part::Text { .. }));
        reply.parts.insert(first.unwrap_or(0), Part::Text { text: value.to_string() });
    }
    Ok(())
}

/// `request` once more, with the answer that was not right and what is wrong with it.
pub(super) fn again(request: &Request, reply: &Reply, wrong: &str) -> Request {
    let mut request = request.clone();
    let parts = reply.parts.clone();
    if !plain(&parts).is_empty() {
        request.messages.push(Message { role: Role::Assistant, parts });
    }
    let text = format!("This answer does not fit the schema: {wrong}. Answer again, with nothing but the JSON.");
    request.messages.push(Message::text(Role::User, text));
    request
}

/// For services that know JSON but no schemas: the schema as an instruction.
pub(super) fn instruct(request: &Request, schema: &Value) -> Request {
    let text = format!("Answer with nothing but JSON that fits this JSON Schema:\n{schema}");
    let mut request = request.clone();
    let place = request.messages.iter().take_while(|message| message.role == Role::System).count();
    request.messages.insert(place, Message::text(Role::System, text));
    request
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fences_are_taken_off_and_faults_told() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
        let of = |text: &str| {
            let mut reply = Reply { parts: vec![Part::Text { text: text.into() }], ..Reply::default() };
            check(&mut reply, &schema).map(|()| reply.text())
        };
        assert_eq!(of("{\"n\": 1}").unwrap(), "{\"n\": 1}");
        assert_eq!(of("```json\n{\"n\": 1}\n```").unwrap(), "{\"n\":1}");
        assert!(of("Sure! {}").unwrap_err().starts_with("it is not JSON"));
        assert_eq!(of("{\"n\": \"x\"}").unwrap_err(), "n: not of type integer");
        assert_eq!(of("{}").unwrap_err(), "n: missing");
        assert_eq!(of("{\"n\": 1, \"m\": 2}").unwrap_err(), "m: not known");
    }
}
