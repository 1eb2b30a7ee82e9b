//! `regex_tool`: search, replace, split and take apart by regular expressions.

use std::borrow::Cow;

use regex::{Captures, Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Call, Level, Spelling, ToolSpec, example, required};
use crate::error::{Class, Error, Result};

/// The regular expression tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "regex_tool",
    aliases: &["regex"],
    category: "utility",
    summary: "search, replace, split and extract by regular expressions, in linear time",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("text", "input"),
        Spelling::Param("regex", "pattern"),
        Spelling::Value("operation", "find", "find_all"),
        Spelling::Value("operation", "match", "test"),
        Spelling::Value("operation", "is_match", "test"),
        Spelling::Value("operation", "captures", "find_all"),
    ],
    examples: &[
        example(
            "all finds with their groups",
            r#"{"operation": "find_all", "pattern": "(?<key>\\w+)=(\\d+)", "input": "a=1 ä=22"}"#,
            r#"{"count": 2, "matches": [{"text": "a=1", "start": 0, "end": 3, "groups": ["a", "1"], "named": {"key": "a"}},
                {"text": "ä=22", "start": 4, "end": 8, "groups": ["ä", "22"]}]}"#,
        ),
        example(
            "swap two words",
            r#"{"operation": "replace", "pattern": "(\\w+) (\\w+)", "input": "hello world", "replacement": "$2 $1"}"#,
            r#"{"result": "world hello", "count": 1}"#,
        ),
        example(
            "split at commas and blanks",
            r#"{"operation": "split", "pattern": "[, ]+", "input": "a, b,c"}"#,
            r#"{"result": ["a", "b", "c"]}"#,
        ),
        example(
            "test",
            r#"{"operation": "test", "pattern": "^a.c$", "input": "ABC", "ignore_case": true}"#,
            r#"{"matches": true}"#,
        ),
    ],
};

/// Most finds that are listed.
const MAX_MATCHES: usize = 10_000;
/// Largest compiled pattern, bytes.
const MAX_PATTERN: usize = 1 << 22;

/// Works on a text with a regular expression in the syntax of Rust's regex crate: as Perl's, without look-around and back
/// references, so that the time grows with the text only. Positions count characters.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The regular expression.
    pattern: String,
    /// The text.
    input: Option<String>,
    /// `replace`: what comes in place of a find; `$1`, `${name}` stand for groups, `$$` for a dollar.
    replacement: Option<String>,
    /// `find_all`, `replace`, `split`: at most so many finds; 10000 if not given.
    #[schemars(range(min = 1))]
    limit: Option<usize>,
    /// Upper and lower case are the same.
    #[serde(default)]
    ignore_case: bool,
    /// `^` and `$` also fit at line ends.
    #[serde(default)]
    multi_line: bool,
    /// `.` also fits line ends.
    #[serde(default)]
    dot_all: bool,
    /// Blanks and `#` comments in the pattern mean nothing.
    #[serde(default)]
    verbose: bool,
    /// `pattern` is a text to find as it stands.
    #[serde(default)]
    literal: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    Test,
    #[default]
    FindAll,
    Replace,
    Split,
    Validate,
    Escape,
}

/// Works on the text.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    if params.operation == Operation::Escape {
        let text = regex::escape(&params.pattern);
        return Ok(Answer::new("escape", json!({"result": text})).text(text));
    }
    let source =
        if params.literal { Cow::Owned(regex::escape(&params.pattern)) } else { Cow::Borrowed(&*params.pattern) };
    let compiled = RegexBuilder::new(&source)
        .case_insensitive(params.ignore_case)
        .multi_line(params.multi_line)
        .dot_matches_new_line(params.dot_all)
        .ignore_whitespace(params.verbose)
        .size_limit(MAX_PATTERN)
        .build();
    if params.operation == Operation::Validate {
        return Ok(Answer::new(
            "validate",
            match &compiled {
                Ok(regex) => {
                    json!({"valid": true, "groups": regex.captures_len() - 1, "names": names(regex).collect::<Vec<_>>()})
                }
                Err(error) => json!({"valid": false, "error": fault("pattern", &source, error).text()}),
            },
        ));
    }
    let regex = compiled.map_err(|error| fault("pattern", &source, &error))?;
    let input = required(params.input, "input")?;
    let most = params.limit.unwrap_or(MAX_MATCHES).min(MAX_MATCHES);
    match params.operation {
        Operation::Test => Ok(Answer::new("test", json!({"matches": regex.is_match(&input)}))),
        Operation::Replace => {
            let with = required(params.replacement, "replacement")?;
            let most = params.limit.unwrap_or(usize::MAX);
            let (mut out, mut last, mut count) = (String::with_capacity(input.len()), 0, 0_usize);
            for captures in regex.captures_iter(&input).take(most) {
                call.check()?;
                let range = captures.get_match().range();
                out.push_str(&input[last..range.start]);
                captures.expand(&with, &mut out);
                last = range.end;
                count += 1;
                if out.len() as u64 > call.settings.file_operations.max_file_size {
                    return Err(Error::new(Class::Tool, "result: larger than tools.file_operations.max_file_size"));
                }
            }
            out.push_str(&input[last..]);
            Ok(Answer::new("replace", json!({"result": out, "count": count})).text(out))
        }
        Operation::Split => {
            let parts: Vec<&str> = match params.limit {
                Some(most) => regex.splitn(&input, most).collect(),
                None => regex.split(&input).collect(),
            };
            Ok(Answer::new("split", json!({"result": parts, "count": parts.len()})))
        }
        _ => {
            let mut at = Positions { text: &input, byte: 0, chars: 0 };
            let mut found = regex.captures_iter(&input);
            let mut matches = Vec::new();
            for captures in found.by_ref().take(most) {
                call.check()?;
                matches.push(describe(&regex, &captures, &mut at));
            }
            let more = found.next().is_some();
            let result = json!({"count": matches.len(), "matches": matches, "truncated": more});
            Ok(Answer::new("find_all", result))
        }
    }
}

/// What is wrong with a pattern, in one line.
pub(super) fn fault(name: &str, pattern: &str, error: &regex::Error) -> Error {
    let text = match error {
        regex::Error::CompiledTooBig(_) => "too large when compiled".into(),
        error => {
            let text = error.to_string();
            let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    };
    let shown: String = pattern.chars().filter(|c| !c.is_control()).take(60).collect();
    Error::new(Class::Usage, format!("{name}: {shown:?}: {text}"))
}

fn names(regex: &Regex) -> impl Iterator<Item = &str> {
    regex.capture_names().flatten()
}

/// Turns positions in bytes, asked for in order, into characters.
struct Positions<'a> {
    text: &'a str,
    byte: usize,
    chars: usize,
}

impl Positions<'_> {
    fn at(&mut self, byte: usize) -> usize {
        if byte < self.byte {
            return self.text[..byte].chars().count();
        }
        self.chars += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.chars
    }
}

fn describe(regex: &Regex, captures: &Captures<'_>, at: &mut Positions<'_>) -> Value {
    let whole = captures.get_match();
    let mut found = json!({"text": whole.as_str(), "start": at.at(whole.start()), "end": at.at(whole.end())});
    if captures.len() > 1 {
        found["groups"] = captures.iter().skip(1).map(|group| group.map(|group| group.as_str())).collect();
        let named: Map<String, Value> = names(regex)
            .map(|name| (name.to_owned(), captures.name(name).map(|group| group.as_str()).into()))
            .collect();
        if !named.is_empty() {
            found["named"] = named.into();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    #[test]
    fn finds_are_counted_in_characters_and_groups_may_be_missing() {
        let found = result("regex", json!({"pattern": "(x)|(ö)", "input": "äöx"}));
        assert_eq!(
            found["matches"],
            json!([
                {"text": "ö", "start": 1, "end": 2, "groups": [null, "ö"]}, {"text": "x", "start": 2, "end": 3, "groups": ["x", null]},
            ])
        );
        let many = result("regex", json!({"pattern": "a", "input": "a".repeat(10_001)}));
        assert_eq!((&many["count"], &many["truncated"]), (&json!(10_000), &json!(true)));
        let empty = result("regex", json!({"pattern": "", "input": "ab"}));
        assert_eq!(empty["count"], 3);
    }

    #[test]
    fn operations_and_flags() {
        for (params, expected) in [
            (
                json!({"operation": "replace", "pattern": "a", "input": "aaa", "replacement": "b$$", "limit": 2}),
                json!("b$b$a"),
            ),
            (
                json!({"operation": "replace", "pattern": "(?<n>a)", "input": "a", "replacement": "${n}x$1"}),
                json!("axa"),
            ),
            (
                json!({"operation": "replace", "pattern": ".", "literal": true, "input": "a.b", "replacement": ""}),
                json!("ab"),
            ),
            (json!({"operation": "split", "pattern": ",", "input": "a,b,c", "limit": 2}), json!(["a", "b,c"])),
            (json!({"operation": "escape", "pattern": "a.b*"}), json!("a\\.b\\*")),
        ] {
            assert_eq!(result("regex_tool", params.clone())["result"], expected, "{params}");
        }
        let lines = json!({"pattern": "^b$", "multi_line": true, "input": "a\nb"});
        assert_eq!(result("regex", lines)["matches"][0]["start"], 2);
        let wrong = result("regex", json!({"operation": "validate", "pattern": "a("}));
        assert_eq!(
            (&wrong["valid"], wrong["error"].as_str().unwrap()),
            (&json!(false), "pattern: \"a(\": unclosed group")
        );
    }

    #[test]
    fn bad_input() {
        bad(
            "regex_tool",
            &[
                (json!({}), Class::Usage),
                (json!({"pattern": "a"}), Class::Usage),
                (json!({"pattern": "(", "input": "x"}), Class::Usage),
                (json!({"pattern": "(?=a)", "input": "x"}), Class::Usage),
                (json!({"pattern": "(a{1000}){10000}", "input": "x"}), Class::Usage),
                (json!({"operation": "replace", "pattern": "a", "input": "x"}), Class::Usage),
                (json!({"pattern": "a", "input": "x", "limit": 0}), Class::Usage),
                (json!({"operation": "frob", "pattern": "a", "input": "x"}), Class::Usage),
            ],
        );
    }
}
