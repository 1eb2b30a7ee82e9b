//! What stands at a cursor: tokens of unfinished code, and the chains of names in it. Looks at text only.

use super::complete::long;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    /// A string; its content lies within these bytes, escapes as written.
    Text(usize, usize),
    Sign,
}

/// A piece of code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// As written.
    pub(super) text: &'a str,
    /// Where it starts, in bytes.
    pub(super) start: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

/// What the end of the code is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Code,
    Comment,
    /// A short string whose content starts here.
    Text(usize),
    LongText,
}

/// The code up to some place, in tokens.
pub(super) struct Tokens<'a> {
    pub(super) code: &'a str,
    pub(super) list: Vec<Token<'a>>,
    pub(super) end: End,
}

const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// Lua's reserved words.
pub(super) fn keywords() -> &'static [&'static str] {
    KEYWORDS
}

/// Whether `text` can be written as a name.
pub(super) fn is_name(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && text.bytes().all(word)
        && !KEYWORDS.contains(&text)
}

/// Where a chain of names begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Name(String),
    /// A string literal.
    Text,
}

/// A step of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Name(String),
    Index(i64),
}

/// `a.b["c"][1]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) base: Base,
    pub(super) keys: Vec<Key>,
}

impl Chain {
    /// The chain `a.b.c`.
    pub(super) fn of(path: &str) -> Self {
        let mut names = path.split('.').map(str::to_owned);
        Chain { base: Base::Name(names.next().unwrap_or_default()), keys: names.map(Key::Name).collect() }
    }

    /// `a.b.c`, when it is made of names only.
    pub(super) fn path(&self) -> Option<String> {
        let Base::Name(base) = &self.base else { return None };
        self.keys.iter().try_fold(base.clone(), |path, key| match key {
            Key::Name(name) => Some(format!("{path}.{name}")),
            Key::Index(_) => None,
        })
    }
}

/// Cuts `code` into tokens.
pub(super) fn scan(code: &str) -> Tokens<'_> {
    let bytes = code.as_bytes();
    let mut list = Vec::new();
    let mut at = 0;
    let end = loop {
        let rest = &bytes[at..];
        let Some(first) = rest.first().copied() else { break End::Code };
        let start = at;
        let kind = if rest.starts_with(b"--") {
            at = match long(&rest[2..]) {
                Some(Some(left)) => bytes.len() - left.len(),
                Some(None) => break End::Comment,
                None => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(line) => at + line + 1,
                    None => break End::Comment,
                },
            };
            continue;
        } else if first == b'[' && matches!(rest.get(1), Some(b'[' | b'=')) && long(rest).is_some() {
            let Some(Some(left)) = long(rest) else { break End::LongText };
            at = bytes.len() - left.len();
            let fence = rest.iter().skip(1).position(|byte| *byte == b'[').unwrap_or(0) + 2;
            Kind::Text(start + fence, at - fence)
        } else if first == b'"' || first == b'\'' {
            match text_end(&rest[1..], first) {
                Some(length) => at += 1 + length + 1,
                None => break End::Text(start + 1),
            }
            Kind::Text(start + 1, at - 1)
        } else if first.is_ascii_digit() {
            let number = |(index, byte): (usize, &u8)| {
                byte.is_ascii_alphanumeric() || *byte == b'.' && rest.get(index + 1) != Some(&b'.')
            };
            at += rest.iter().enumerate().position(|pair| !number(pair)).unwrap_or(rest.len()).max(1);
            Kind::Number
        } else if first.is_ascii_alphabetic() || first == b'_' {
            let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            at += rest.iter().position(|byte| !word(byte)).unwrap_or(rest.len());
            Kind::Name
        } else if first.is_ascii_whitespace() {
            at += 1;
            continue;
        } else {
            let signs = ["...", "..", "::", "==", "~=", "<=", ">=", "//", "<<", ">>"];
            let sign = signs.iter().find(|sign| rest.starts_with(sign.as_bytes()));
            at += match (sign, code[at..].chars().next()) {
                (Some(sign), _) => sign.len(),
                (None, char) => char.map_or(1, char::len_utf8),
            };
            Kind::Sign
        };
        list.push(Token { kind, text: &code[start..at], start });
    };
    Tokens { code, list, end }
}

/// The length of a short string's content, if the string ends.
fn text_end(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        match rest.get(at)? {
            b'\\' => at += 2,
            byte if *byte == quote => return Some(at),
            // It cannot go on in the next line: what follows is code again.
            b'\n' => return Some(at),
            _ => at += 1,
        }
    }
}

impl Tokens<'_> {
    fn is(&self, index: Option<usize>, sign: &str) -> bool {
        index.and_then(|index| self.list.get(index)).is_some_and(|token| token.is(sign))
    }

    fn content(&self, token: &Token<'_>) -> Option<String> {
        match token.kind {
            Kind::Text(start, end) => self.code.get(start..end).map(str::to_owned),
            _ => None,
        }
    }

    /// The chain whose last token is at `last`.
    pub(super) fn chain(&self, last: usize) -> Option<Chain> {
        let mut keys = Vec::new();
        let mut at = last;
        let base = loop {
            let token = self.list.get(at)?;
            let before = at.checked_sub(1);
            match token.kind {
                Kind::Name if self.is(before, ".") || self.is(before, ":") => {
                    keys.push(Key::Name(token.text.to_owned()));
                    at = at.checked_sub(2)?;
                }
                Kind::Name if KEYWORDS.contains(&token.text) => return None,
                Kind::Name => break Base::Name(token.text.to_owned()),
                Kind::Text(..) if self.ends_value(before) => return None,
                Kind::Text(..) => break Base::Text,
                Kind::Sign if token.is("]") && self.is(at.checked_sub(2), "[") => {
                    let key = &self.list[at - 1];
                    keys.push(match key.kind {
                        Kind::Text(..) => Key::Name(self.content(key)?),
                        Kind::Number => Key::Index(key.text.parse().ok()?),
                        _ => return None,
                    });
                    at = at.checked_sub(3)?;
                }
                // `("text"):rep`
                Kind::Sign if token.is(")") && self.is(at.checked_sub(2), "(") => {
                    let text = matches!(self.list[at - 1].kind, Kind::Text(..));
                    if !text || self.ends_value(at.checked_sub(3)) {
                        return None;
                    }
                    break Base::Text;
                }
                _ => return None,
            }
        };
        keys.reverse();
        Some(Chain { base, keys })
    }

    /// Whether a value may end at `index`, so that what follows is its call.
    fn ends_value(&self, index: Option<usize>) -> bool {
        index.and_then(|index| self.list.get(index)).is_some_and(|token| match token.kind {
            Kind::Name => !KEYWORDS.contains(&token.text),
            Kind::Sign => token.is(")") || token.is("]"),
            _ => false,
        })
    }

    /// The call whose argument number one is to stand behind the token at `last`: what is called.
    pub(super) fn called(&self, last: usize) -> Option<Chain> {
        let at = if self.is(Some(last), "(") { last.checked_sub(1)? } else { last };
        self.chain(at)
    }

    /// The innermost bracket that is open before the token at `before`.
    pub(super) fn open_bracket(&self, before: usize) -> Option<usize> {
        let mut closed = 0;
        for index in (0..before).rev() {
            let token = &self.list[index];
            if token.kind != Kind::Sign {
                continue;
            }
            match token.text {
                ")" | "]" | "}" => closed += 1,
                "(" | "[" | "{" if closed == 0 => return Some(index),
                "(" | "[" | "{" => closed -= 1,
                _ => {}
            }
        }
        None
    }

    /// The tool whose parameters are in the table that opens at `brace`: `Tool.x{`, `Tool.x(`, `Tool.x:execute(`,
    /// `Tool.invoke("x",`.
    pub(super) fn tool_of_table(&self, brace: usize) -> Option<String> {
        if !self.is(Some(brace), "{") {
            return None;
        }
        let before = brace.checked_sub(1)?;
        if self.is(Some(before), ",") {
            let name = self.list.get(before.checked_sub(1)?)?;
            let called = before.checked_sub(2)?;
            let chain = self.called(called)?;
            let takes_name = is_tool_function(&chain, &["invoke", "execute"]);
            return if takes_name { self.content(name) } else { None };
        }
        let chain = self.called(before)?;
        match (&chain.base, &chain.keys[..]) {
            (Base::Name(base), [Key::Name(name)]) if base == "Tool" => Some(name.clone()),
            (Base::Name(base), [Key::Name(name), Key::Name(how)]) if base == "Tool" => {
                matches!(how.as_str(), "execute" | "invoke").then(|| name.clone())
            }
            _ => None,
        }
    }

    /// What a string that opens behind the token at `last` names.
    pub(super) fn role(&self, last: usize) -> Role {
        if self.is(Some(last), "[") {
            return last.checked_sub(1).and_then(|before| self.chain(before)).map_or(Role::None, Role::KeyOf);
        }
        // `{mode = "…`
        if self.is(Some(last), "=")
            && let Some(name) = last.checked_sub(1).map(|index| self.list[index]).filter(|name| name.kind == Kind::Name)
            && let Some(tool) = self.open_bracket(last).and_then(|brace| self.tool_of_table(brace))
        {
            return Role::Choice(tool, name.text.to_owned());
        }
        match self.called(last) {
            Some(chain) if chain.path().is_some_and(|path| path == "require") => Role::Module,
            Some(chain) if is_tool_function(&chain, TAKE_A_NAME) => Role::Tool,
            Some(chain) if chain.path().is_some_and(|path| path == "help") => Role::Help,
            _ => Role::None,
        }
    }

    /// Names that the code declares: locals, parameters, loop variables, functions.
    pub(super) fn declared(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut declaring = false;
        for (index, token) in self.list.iter().enumerate() {
            let after_name = self.is(index.checked_sub(1), ".") || self.is(index.checked_sub(1), ":");
            match (token.kind, token.text) {
                (Kind::Name, "local" | "for" | "function") => declaring = true,
                (Kind::Name, text) if KEYWORDS.contains(&text) => declaring = false,
                (Kind::Name, text) if declaring && !after_name => names.push(text),
                (Kind::Sign, "=" | ")" | ";") => declaring = false,
                _ => {}
            }
        }
        names
    }
}

const TAKE_A_NAME: &[&str] = &["invoke", "execute", "get", "info", "exists", "test"];

fn is_tool_function(chain: &Chain, functions: &[&str]) -> bool {
    matches!((&chain.base, &chain.keys[..]), (Base::Name(base), [Key::Name(name)])
        if base == "Tool" && functions.contains(&name.as_str()))
}

/// What a string stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role {
    Module,
    Tool,
    /// A name `help` knows.
    Help,
    KeyOf(Chain),
    /// The value of this tool's parameter.
    Choice(String, String),
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(code: &str) -> Option<String> {
        let tokens = scan(code);
        tokens.chain(tokens.list.len() - 1).map(|chain| format!("{:?} {:?}", chain.base, chain.keys))
    }

    #[test]
    fn chains() {
        assert_eq!(chain("x = a.b:c").unwrap(), r#"Name("a") [Name("b"), Name("c")]"#);
        assert_eq!(chain("a['b c'][2].d").unwrap(), r#"Name("a") [Name("b c"), Index(2), Name("d")]"#);
        assert_eq!(chain("('x'):rep").unwrap(), r#"Text [Name("rep")]"#);
        for none in ["f('x'):rep", "f().x", "a..end", "return"] {
            assert_eq!(chain(none), None, "{none}");
        }
    }

    #[test]
    fn ends() {
        assert_eq!(scan("x = 'abc").end, End::Text(5));
        assert_eq!(scan("x = 'a\\'c").end, End::Text(5));
        assert_eq!(scan("x -- don't").end, End::Comment);
        assert_eq!(scan("x --[[ a ]] y").end, End::Code);
        assert_eq!(scan("x = [==[ ]] ").end, End::LongText);
        assert_eq!(scan("ü = 'ß' -- ").end, End::Comment);
        for code in ["'", "\"\\", "[", "[=", "--[", "1..", "😀.", "x[[", "--[[", "\\"] {
            scan(code);
        }
    }

    #[test]
    fn strings_and_tables_know_what_they_are_for() {
        let role = |code: &str| {
            let tokens = scan(code);
            assert!(matches!(tokens.end, End::Text(_)), "{code}");
            tokens.role(tokens.list.len() - 1)
        };
        assert_eq!(role("local x = require '"), Role::Module);
        assert_eq!(role("require(\""), Role::Module);
        assert_eq!(role("Tool.invoke('cal"), Role::Tool);
        assert_eq!(role("print('"), Role::None);
        assert!(matches!(role("x['"), Role::KeyOf(_)));
        assert_eq!(role("Tool.t({mode = '"), Role::Choice("t".into(), "mode".into()));
        for code in ["Tool.t{", "Tool.t({", "Tool.t:execute({", "Tool.invoke('t', {", "Tool['t'].invoke{"] {
            let tokens = scan(code);
            assert_eq!(tokens.tool_of_table(tokens.list.len() - 1).as_deref(), Some("t"), "{code}");
        }
        let tokens = scan("local a, b = 1; function f.g(c, d) for k, v in pairs(t) do");
        assert_eq!(tokens.declared(), ["a", "b", "f", "c", "d", "k", "v"]);
    }
}
