//! The value of a chunk: that of `return`, and of an expression at its end, as in other notebooks.
//!
//! Where the last statement starts is found by compiling: from the end upwards, the first place where what stands before it
//! is a whole chunk and what follows is the operand of a `return`. Nothing is run for it.

use mlua::{Function, Lua};

use super::stdlib::compile;

/// Longer code is a script, not something somebody typed.
const LONGEST: usize = 16 << 10;

/// Makes an expression a chunk. In the scope of a variable to be closed a call is not a tail call, so that what it raises still
/// has its place in the script.
const RETURN: &[u8] = b"local llmspell__ <close> = nil return ";

/// `code` as a function that answers the value of its last expression; `None` if it does not end with one, or is too long.
pub(super) fn compile_value(lua: &Lua, code: &[u8], name: &str) -> Option<Function> {
    if code.len() > LONGEST || code.starts_with(b"#") {
        return None;
    }
    let returning = |at: usize| {
        let code = [&code[..at], RETURN, &code[at..]].concat();
        compile(lua, &code, name, None).ok()
    };
    if let Some(function) = returning(0) {
        return Some(function);
    }
    // A script file has the value it returns.
    if name.starts_with('@') {
        return None;
    }
    let compiles = |code: &[u8]| compile(lua, code, name, None).is_ok();
    let mut whole = None;
    starts(code).filter(|at| is_start(&code[*at..])).find_map(|at| {
        let rest = &code[at..];
        if !compiles(&[b"return ", rest].concat()) || !compiles(&code[..at]) {
            return None;
        }
        // Lua takes `f⏎(x)` for one call and `a = b⏎-c` for one assignment: so it stays, as long as that makes sense.
        if may_continue(rest) && *whole.get_or_insert_with(|| compiles(code)) {
            return None;
        }
        returning(at)
    })
}

/// Places where a statement may start, the last first: lines, and what follows a semicolon.
fn starts(code: &[u8]) -> impl Iterator<Item = usize> {
    let in_comment = |at: usize| {
        let line = code[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        code[line..at].windows(2).any(|pair| pair == b"--")
    };
    (1..code.len()).rev().filter(move |at| match code[at - 1] {
        b'\n' => true,
        b';' => !in_comment(*at),
        _ => false,
    })
}

/// Whether an expression may start here; not in a blank line or a comment.
fn is_start(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    let word = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    match &rest[..word] {
        b"" => !rest.starts_with(b"--") && rest.first().is_some_and(|byte| b"({\"'[-~#.".contains(byte)),
        word => {
            const STATEMENTS: [&[u8]; 13] = [
                b"local", b"if", b"for", b"while", b"repeat", b"return", b"end", b"else", b"elseif", b"until", b"do",
                b"goto", b"break",
            ];
            !STATEMENTS.contains(&word)
        }
    }
}

/// Whether the expression before may go on here.
fn may_continue(rest: &[u8]) -> bool {
    rest.trim_ascii_start().first().is_some_and(|byte| b"({\"'[-~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::super::tests::engine;
    use crate::engine::{Completeness, Engine, Output, Script};

    fn value(code: &str) -> Option<String> {
        let mut engine = engine();
        let script = Script { code: code.as_bytes(), name: "=[1]".into(), ..Script::default() };
        let output: std::sync::Arc<dyn Output> = std::sync::Arc::new(super::super::tests::Kept::default());
        let outcome = engine.execute(&script, &output);
        assert!(outcome.error.is_none(), "{code}: {:?}", outcome.error);
        outcome.value.map(|value| value.text)
    }

    #[test]
    fn the_last_expression_is_the_value() {
        for (code, expected) in [
            ("x = 1\nx", "1"),
            ("x = 1; x + 1", "2"),
            ("local t = {1,\n2}\nt", "{1, 2}"),
            ("local function f(...) return select('#', ...) end\nf(\n  1,\n  nil\n)", "2"),
            ("local s = 'a'\n-- done\ns .. 'b' -- so\n\n-- end", "ab"),
            ("local n = 0\nfor i = 1, 3 do\n  n = n + i\nend\nn", "6"),
            ("local t = {n = 0}\nfunction t:f() return 7 end\nt:f()", "7"),
            ("x = 5\nreturn x", "5"),
            ("local a, b = 1, 2\na, b", "1\t2"),
            ("x = 1\n#'abc'", "3"),
            ("local s = [[\nx\n]]\n{s}", "{\"x\\n\"}"),
            ("print('a')\nnot x", "true"),
        ] {
            assert_eq!(value(code).as_deref(), Some(expected), "{code}");
        }
    }

    #[test]
    fn statements_have_none() {
        for code in [
            "x = 1",
            "n = 0\nfor i = 1, 3 do\n  tostring(i)\nend",
            "if true then\n  tostring(1)\nend",
            "local f = function() return\n  5\nend",
            "x = 1 -- y; x",
            "--[[\nx\n--]]",
            "while true do\n  tostring(1)\n  break\nend",
            "function f()\n  g()\nend",
            "x = [[\ny\n]]",
        ] {
            assert_eq!(value(code), None, "{code}");
        }
    }

    #[test]
    fn a_line_that_goes_on_goes_on() {
        assert_eq!(value("local b, c = 5, 2\nx = b\n-c"), None);
        assert_eq!(value("local b, c = 5, 2\nx = b\n-c\nx").as_deref(), Some("3"));
        assert_eq!(value("local f = function(x) x() return 1 end\nlocal y = f\n(function() end)"), None);
    }

    #[test]
    fn nothing_runs_twice() {
        assert_eq!(value("n = (n or 0) + 1\nlocal function f() n = n + 1 return n end\nf()").as_deref(), Some("2"));
    }

    #[test]
    fn it_is_complete() {
        assert_eq!(engine().is_complete("x = 1\nx"), Completeness::Complete);
        assert_eq!(engine().is_complete("for i = 1, 2 do\nx"), Completeness::Incomplete("  ".into()));
    }
}
