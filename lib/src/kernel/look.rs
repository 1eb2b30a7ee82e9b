//! `complete_request` and `inspect_request`: the engine counts bytes, Jupyter counts Unicode code points.

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::protocol::content::{Complete, Inspect};

/// The byte at which character number `position` starts.
fn byte(code: &str, position: usize) -> usize {
    code.char_indices().nth(position).map_or(code.len(), |(at, _)| at)
}

/// The content of a `complete_reply`.
pub(super) fn complete(engine: &mut dyn Engine, request: &Complete) -> Value {
    let code = &request.code;
    let found = engine.complete(code, byte(code, request.cursor_pos));
    let position = |byte: usize| code[..byte].chars().count();
    let (start, end) = (position(found.start), position(found.end));
    let matches: Vec<&str> = found.items.iter().map(|item| item.text.as_str()).collect();
    let typed = |item: &crate::engine::Completion| {
        let signature = item.signature.as_deref().unwrap_or_default();
        json!({"text": item.text, "type": item.kind, "start": start, "end": end, "signature": signature})
    };
    let types: Vec<_> = found.items.iter().map(typed).collect();
    json!({
        "status": "ok",
        "matches": matches,
        "cursor_start": start,
        "cursor_end": end,
        "metadata": {"_jupyter_types_experimental": types},
    })
}

/// The content of an `inspect_reply`.
pub(super) fn inspect(engine: &mut dyn Engine, request: &Inspect) -> Value {
    let at = byte(&request.code, request.cursor_pos);
    let data = match engine.inspect(&request.code, at, request.detail_level > 0) {
        Some(found) => json!({"text/plain": found.text, "text/markdown": found.markdown}),
        None => json!({}),
    };
    let found = data != json!({});
    json!({"status": "ok", "found": found, "data": data, "metadata": {}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_code_points() {
        let code = "a😀é!";
        let bytes: Vec<_> = (0..7).map(|position| byte(code, position)).collect();
        // é is written as e and a combining mark or as one character: each code point counts.
        assert_eq!(bytes[..4], [0, 1, 5, 7]);
        assert_eq!(byte(code, 99), code.len());
    }
}
