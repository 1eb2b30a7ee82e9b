//! What no log may show.

use std::borrow::Cow;
use std::sync::{LazyLock, PoisonError, RwLock};

use regex::Regex;

/// Values that must never be shown, told by whoever reads them.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on `secret` is masked in every log line. Shorter than 8 bytes it would mask ordinary words; not taken.
pub fn hide(secret: &str) {
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    if secret.len() >= 8 && !secrets.iter().any(|known| known == secret) {
        secrets.push(secret.to_owned());
    }
}

/// Headers up to the end of line or text, values after a telling name (quoted or not), and well-known shapes.
static PATTERNS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    [
        (r#"(?i)((?:authorization|cookie)\\?["']?\s*[:=]\s*\\?["']?)[^"'\\\r\n]+"#, "${1}<redacted>"),
        (
            r#"(?xi)
            ( (?:api[_-]?key|password|passwd|secret|[a-z]*token) \\?["']? \s*[:=]\s* )
            (?: \\"[^"\\]*\\" | "(?:[^"\\]|\\.)*"? | '[^']*'? | [^\s"',;&]+ )"#,
            "${1}<redacted>",
        ),
        (r"(?i)\b(bearer\s+)[a-z0-9._~+/=-]{8,}", "${1}<redacted>"),
        (r"\bsk-[A-Za-z0-9_-]{8,}", "<redacted>"),
    ]
    .map(|(pattern, with)| (Regex::new(pattern).expect("a constant pattern"), with))
});

/// `text` with secrets masked: those told to [`hide`], what follows `api_key=`, `Authorization:`, `Bearer`, and `sk-…`.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for secret in SECRETS.read().unwrap_or_else(PoisonError::into_inner).iter() {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), "<redacted>"));
        }
    }
    for (pattern, with) in &*PATTERNS {
        if let Cow::Owned(masked) = pattern.replace_all(&text, *with) {
            text = Cow::Owned(masked);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        hide("correct horse");
        hide("it");
        for (text, expected) in [
            ("api_key=abc rest", "api_key=<redacted> rest"),
            (r#"{"api_key": "a \"b c", "b": 1}"#, r#"{"api_key": <redacted>, "b": 1}"#),
            (r#""{\"api_key\":\"abc d\",\"b\":1}""#, r#""{\"api_key\":<redacted>,\"b\":1}""#),
            ("password = 'a b' c", "password = <redacted> c"),
            ("Authorization: Token abc.def\nHost: h", "Authorization: <redacted>\nHost: h"),
            ("sent Bearer abcdefghij twice", "sent Bearer <redacted> twice"),
            ("key sk-ant-0123456789", "key <redacted>"),
            ("https://h/?access_token=abc&b=1", "https://h/?access_token=<redacted>&b=1"),
            ("said correct horse", "said <redacted>"),
            ("wait for it: 3 tokens", "wait for it: 3 tokens"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}
