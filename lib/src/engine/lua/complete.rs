//! Whether code is complete as it stands: Lua's own parser says, and the blocks still open say how far to indent.

use mlua::Lua;

use super::expression;
use super::stdlib::compile;
use crate::engine::Completeness;

/// Whether `code` can be run, as an expression or as statements.
pub(super) fn is_complete(lua: &Lua, code: &str) -> Completeness {
    if expression::compile_value(lua, code.as_bytes(), "=code").is_some() {
        return Completeness::Complete;
    }
    let mut incomplete = false;
    for code in [code, &format!("return {code}")] {
        match compile(lua, code.as_bytes(), "=code", None) {
            Ok(_) => return Completeness::Complete,
            Err(error) => {
                let text = super::fault::first_line(&error);
                let in_string = text.contains("unfinished string");
                incomplete |=
                    text.ends_with("<eof>") && (!in_string || code.ends_with(['\\', '\n']) && continues(code));
            }
        }
    }
    if incomplete { Completeness::Incomplete("  ".repeat(depth(code.as_bytes()))) } else { Completeness::Invalid }
}

/// Whether a short string goes on in the next line.
fn continues(code: &str) -> bool {
    let code = code.trim_end_matches('\n');
    (code.len() - code.trim_end_matches('\\').len()) & 1 == 1 || code.ends_with("\\z")
}

/// How many blocks, tables and parentheses are open at the end; inside a long string or comment, none counts.
fn depth(code: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut rest = code;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'-' if after.starts_with(b"-") => match long(&after[1..]) {
                Some(Some(rest)) => rest,
                Some(None) => return 0,
                None => after.iter().position(|byte| *byte == b'\n').map_or(&[], |end| &after[end..]),
            },
            b'[' => match long(rest) {
                Some(Some(rest)) => rest,
                Some(None) => return 0,
                None => after,
            },
            quote @ (b'"' | b'\'') => short(after, *quote),
            b'{' | b'(' => {
                depth += 1;
                after
            }
            b'}' | b')' => {
                depth = depth.saturating_sub(1);
                after
            }
            byte if byte.is_ascii_alphabetic() || *byte == b'_' => {
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let end = rest.iter().position(|byte| !word(byte)).unwrap_or(rest.len());
                match &rest[..end] {
                    b"function" | b"do" | b"then" | b"repeat" => depth += 1,
                    b"end" | b"until" | b"elseif" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                &rest[end..]
            }
            _ => after,
        };
    }
    depth
}

/// After the short string that ends with `quote`.
fn short(mut rest: &[u8], quote: u8) -> &[u8] {
    loop {
        match rest {
            [b'\\', _, after @ ..] => rest = after,
            [byte, after @ ..] if *byte == quote || *byte == b'\n' => return after,
            [_, after @ ..] => rest = after,
            [] => return rest,
        }
    }
}

/// After a long bracket; `None` if there is none here, `Some(None)` if it does not end.
pub(super) fn long(rest: &[u8]) -> Option<Option<&[u8]>> {
    let level = rest.strip_prefix(b"[")?.iter().take_while(|byte| **byte == b'=').count();
    (rest.get(level + 1) == Some(&b'[')).then(|| {
        let close: Vec<u8> = [b"]".as_slice(), &b"=".repeat(level), b"]"].concat();
        rest.windows(close.len()).position(|window| window == close).map(|at| &rest[at + close.len()..])
    })
}
