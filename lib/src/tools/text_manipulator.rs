//! `text_manipulator`: changes to texts. Lengths and positions count characters, never bytes.

use heck::{ToKebabCase, ToLowerCamelCase, ToPascalCase, ToShoutySnakeCase, ToSnakeCase, ToTitleCase};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Level, Spelling, ToolSpec, example, required};
use crate::error::{Class, Error, Result};

/// The text manipulator.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "text_manipulator",
    aliases: &["text"],
    category: "utility",
    summary: "change texts: case, replace, split, join, trim, wrap, indent",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("text", "input"),
        Spelling::Value("operation", "upper", "uppercase"),
        Spelling::Value("operation", "lower", "lowercase"),
        Spelling::Value("operation", "wrap", "word_wrap"),
    ],
    examples: &[
        example("upper case", r#"{"operation": "uppercase", "input": "straße"}"#, r#"{"result": "STRASSE"}"#),
        example(
            "word boundaries",
            r#"{"operation": "snake_case", "input": "Hello BigWorld"}"#,
            r#"{"result": "hello_big_world"}"#,
        ),
        example(
            "split into an array",
            r#"{"operation": "split", "input": "a,b,,c", "options": {"delimiter": ","}}"#,
            r#"{"result": ["a", "b", "", "c"]}"#,
        ),
        example(
            "at most so many characters",
            r#"{"operation": "truncate", "input": "abcdefghij", "options": {"max_length": 8}}"#,
            r#"{"result": "abcde...", "result_length": 8}"#,
        ),
    ],
};

/// Changes a text; lengths and positions count characters (Unicode scalar values).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    operation: Operation,
    /// The text; for `join` an array of texts, or such an array as JSON text.
    input: Input,
    /// How to do it.
    #[serde(default)]
    options: Options,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Input {
    Text(String),
    List(Vec<String>),
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    Uppercase,
    Lowercase,
    Reverse,
    Trim,
    Replace,
    Substring,
    Split,
    Join,
    Truncate,
    Indent,
    Dedent,
    WordWrap,
    NormalizeWhitespace,
    Sanitize,
    CamelCase,
    PascalCase,
    SnakeCase,
    KebabCase,
    TitleCase,
    ShoutySnakeCase,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
struct Options {
    /// `replace`: what to replace, everywhere.
    from: Option<String>,
    /// `replace`: by what.
    to: Option<String>,
    /// `substring`: first character, from 0.
    start: Option<usize>,
    /// `substring`: character after the last.
    end: Option<usize>,
    /// `split`, `join`: what stands between; a blank if not given.
    delimiter: Option<String>,
    /// `truncate`: most characters, the dots included; 100 if not given.
    max_length: Option<usize>,
    /// `indent`: blanks before each line that is not empty; 4 if not given.
    #[schemars(range(max = 1000))]
    spaces: Option<usize>,
    /// `word_wrap`: most columns of a line; 80 if not given.
    #[schemars(range(min = 1))]
    width: Option<usize>,
}

/// Changes the text.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    let options = params.options;
    let blank = || options.delimiter.clone().unwrap_or_else(|| " ".into());
    let name = name(params.operation);
    let (original_length, result) = match (params.operation, params.input) {
        (Operation::Join, input) => {
            let (length, items) = match input {
                Input::List(items) => (items.iter().map(|item| item.chars().count()).sum(), items),
                Input::Text(text) => {
                    let items = serde_json::from_str::<Vec<String>>(&text)
                        .map_err(|_| Error::new(Class::Usage, "input: join needs an array of strings"))?;
                    (text.chars().count(), items)
                }
            };
            (length, json!(items.join(&blank())))
        }
        (_, Input::List(_)) => {
            return Err(Error::new(Class::Usage, format!("input: an array, but {name} needs a string")));
        }
        (Operation::Split, Input::Text(text)) => {
            let delimiter = blank();
            let items: Vec<String> = match delimiter.as_str() {
                "" => text.chars().map(String::from).collect(),
                delimiter => text.split(delimiter).map(str::to_owned).collect(),
            };
            (text.chars().count(), json!(items))
        }
        (operation, Input::Text(text)) => (text.chars().count(), json!(change(operation, &text, options)?)),
    };
    let result_length = match &result {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    let text = result.as_str().map_or_else(|| result.to_string(), str::to_owned);
    let result = json!({
        "operation": name, "result": result, "original_length": original_length, "result_length": result_length,
    });
    Ok(Answer::new(name, result).message(format!("Text {name} operation completed")).text(text))
}

fn change(operation: Operation, text: &str, options: Options) -> Result<String> {
    Ok(match operation {
        Operation::Uppercase => text.to_uppercase(),
        Operation::Lowercase => text.to_lowercase(),
        Operation::Reverse => text.chars().rev().collect(),
        Operation::Trim => text.trim().to_owned(),
        Operation::Replace => {
            let from = required(options.from, "options.from")?;
            if from.is_empty() {
                return Err(Error::new(Class::Usage, "options.from: empty"));
            }
            text.replace(&from, &required(options.to, "options.to")?)
        }
        Operation::Substring => {
            let (start, end) = (options.start.unwrap_or(0), options.end.unwrap_or(usize::MAX));
            text.chars().skip(start).take(end.saturating_sub(start)).collect()
        }
        Operation::Truncate => truncate(text, options.max_length.unwrap_or(100)),
        Operation::Indent => textwrap::indent(text, &" ".repeat(options.spaces.unwrap_or(4))),
        Operation::Dedent => textwrap::dedent(text),
        Operation::WordWrap => textwrap::fill(text, options.width.unwrap_or(80)),
        Operation::NormalizeWhitespace => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Operation::Sanitize => {
            text.chars().filter(|c| c.is_ascii() && (!c.is_ascii_control() || matches!(c, '\n' | '\t'))).collect()
        }
        Operation::CamelCase => text.to_lower_camel_case(),
        Operation::PascalCase => text.to_pascal_case(),
        Operation::SnakeCase => text.to_snake_case(),
        Operation::KebabCase => text.to_kebab_case(),
        Operation::TitleCase => text.to_title_case(),
        Operation::ShoutySnakeCase => text.to_shouty_snake_case(),
        Operation::Split | Operation::Join => return Err(Error::new(Class::Bug, "operation: makes no text")),
    })
}

/// At most `most` characters, the last three of them dots where something was cut off.
fn truncate(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let dots = most.min(3);
    text.chars().take(most - dots).chain(std::iter::repeat_n('.', dots)).collect()
}

fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Uppercase => "uppercase",
        Operation::Lowercase => "lowercase",
        Operation::Reverse => "reverse",
        Operation::Trim => "trim",
        Operation::Replace => "replace",
        Operation::Substring => "substring",
        Operation::Split => "split",
        Operation::Join => "join",
        Operation::Truncate => "truncate",
        Operation::Indent => "indent",
        Operation::Dedent => "dedent",
        Operation::WordWrap => "word_wrap",
        Operation::NormalizeWhitespace => "normalize_whitespace",
        Operation::Sanitize => "sanitize",
        Operation::CamelCase => "camel_case",
        Operation::PascalCase => "pascal_case",
        Operation::SnakeCase => "snake_case",
        Operation::KebabCase => "kebab_case",
        Operation::TitleCase => "title_case",
        Operation::ShoutySnakeCase => "shouty_snake_case",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(operation: &str, input: &str, options: Value) -> String {
        let operation = serde_json::from_value(json!(operation)).unwrap();
        change(operation, input, serde_json::from_value(options).unwrap()).unwrap()
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(text("substring", "äöüß", json!({"start": 1, "end": 3})), "öü");
        assert_eq!(text("substring", "abc", json!({"start": 5, "end": 9})), "");
        assert_eq!(text("substring", "abc", json!({"start": 2, "end": 1})), "");
        assert_eq!(text("truncate", "äöüßäöüß", json!({"max_length": 5})), "äö...");
        assert_eq!(text("truncate", "abcdef", json!({"max_length": 2})), "..");
        assert_eq!(text("truncate", "abc", json!({"max_length": 3})), "abc");
        assert_eq!(text("reverse", "aä", json!({})), "äa");
    }

    #[test]
    fn cases_know_words() {
        for (operation, result) in [
            ("camel_case", "helloBigWorld"),
            ("pascal_case", "HelloBigWorld"),
            ("snake_case", "hello_big_world"),
            ("kebab_case", "hello-big-world"),
            ("title_case", "Hello Big World"),
            ("shouty_snake_case", "HELLO_BIG_WORLD"),
        ] {
            assert_eq!(text(operation, "hello big_world", json!({})), result);
            assert_eq!(text(operation, "HelloBig-world", json!({})), result);
        }
    }

    #[test]
    fn lines_and_blanks() {
        assert_eq!(text("indent", "a\n\nb", json!({"spaces": 2})), "  a\n\n  b");
        assert_eq!(text("dedent", "  a\n    b", json!({})), "a\n  b");
        assert_eq!(text("word_wrap", "one two three", json!({"width": 7})), "one two\nthree");
        assert_eq!(text("normalize_whitespace", " a \t\n b ", json!({})), "a b");
        assert_eq!(text("sanitize", "a\u{7}ä\nb", json!({})), "a\nb");
        assert_eq!(text("replace", "a.b.c", json!({"from": ".", "to": ""})), "abc");
    }
}
