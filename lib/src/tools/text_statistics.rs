//! `text_statistics`: counts, frequencies and readability of a text.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required};
use crate::error::Result;

/// The text statistician.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "text_statistics",
    aliases: &["word_count"],
    category: "utility",
    summary: "count characters, words, sentences, lines; word frequency, reading time, readability",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles],
    spellings: &[Spelling::Param("text", "input"), Spelling::Param("path", "file"), Spelling::Param("limit", "top")],
    examples: &[
        example(
            "counts",
            r#"{"input": "One two. Two?\n\nDrei!"}"#,
            r#"{"characters": 20, "words": 4, "unique_words": 3, "sentences": 3, "lines": 3, "paragraphs": 2}"#,
        ),
        example(
            "the most frequent words",
            r#"{"input": "the cat and the hat and the rat", "top": 2}"#,
            r#"{"frequency": [{"word": "the", "count": 3}, {"word": "and", "count": 2}]}"#,
        ),
        example(
            "how hard English is to read",
            r#"{"input": "The cat sat on the mat."}"#,
            r#"{"readability": {"flesch_reading_ease": 116.1, "flesch_kincaid_grade": -1.4, "syllables": 6}}"#,
        ),
    ],
};

/// Words a minute of a quiet reader.
const SPEED: f64 = 238.0;

/// Counts what a text consists of. A word is a run of letters and digits, with `'` and `-` inside; a sentence ends with `.`, `!`,
/// `?`, `…` or their like in other scripts before a blank; Chinese and Japanese characters count as a word each.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The text.
    input: Option<String>,
    /// A file in place of it, UTF-8.
    #[schemars(length(min = 1))]
    file: Option<String>,
    /// How many of the most frequent words to list.
    #[serde(default = "ten")]
    #[schemars(range(max = 10_000))]
    top: usize,
    /// Words shorter than that are not listed.
    #[serde(default = "one")]
    min_length: usize,
}

fn ten() -> usize {
    10
}

fn one() -> usize {
    1
}

/// Counts.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let text = match &params.file {
        Some(path) => files::read_text(path, call)?,
        None => required(params.input, "input")?,
    };
    let mut count: HashMap<String, u64> = HashMap::new();
    let (mut words, mut letters, mut syllables, mut longest) = (0_u64, 0_u64, 0_u64, "");
    for (number, word) in Words(&text).enumerate() {
        if number % 4096 == 0 {
            call.check()?;
        }
        words += 1;
        let length = word.chars().count();
        letters += length as u64;
        syllables += syllables_of(word);
        if length > longest.chars().count() {
            longest = word;
        }
        *count.entry(word.to_lowercase()).or_default() += 1;
    }
    let sentences = sentences(&text);
    let lines = text.lines().count();
    let paragraphs = paragraphs(&text);
    let unique = count.len();
    let mut frequency: Vec<_> =
        count.into_iter().filter(|(word, _)| word.chars().count() >= params.min_length).collect();
    frequency.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let frequency: Vec<Value> =
        frequency.into_iter().take(params.top).map(|(word, count)| json!({"word": word, "count": count})).collect();
    let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
    let (per_sentence, per_word) = (ratio(words, sentences), ratio(syllables, words));
    let grade = |value: f64| if words == 0 { Value::Null } else { round(value, 1).into() };
    let result = json!({
        "bytes": text.len(), "characters": text.chars().count(),
        "characters_without_blanks": text.chars().filter(|c| !c.is_whitespace()).count(),
        "words": words, "unique_words": unique, "sentences": sentences, "lines": lines, "paragraphs": paragraphs,
        "longest_word": longest,
        "longest_line": text.lines().map(|line| line.chars().count()).max().unwrap_or(0),
        "average_word_length": round(ratio(letters, words), 2),
        "average_sentence_length": round(per_sentence, 2),
        "reading_time_seconds": (words as f64 / SPEED * 60.0).round(),
        "frequency": frequency,
        "readability": {
            "syllables": syllables,
            "flesch_reading_ease": grade(206.835 - 1.015 * per_sentence - 84.6 * per_word),
            "flesch_kincaid_grade": grade(0.39 * per_sentence + 11.8 * per_word - 15.59),
        },
    });
    Ok(Answer::new("analyze", result).message(format!("{words} words in {sentences} sentences")))
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// The words of a text, in order.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let start = self.0.find(char::is_alphanumeric)?;
        let rest = &self.0[start..];
        let mut end = 0;
        let mut chars = rest.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let inner = "'’-".contains(c) && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
            if !(c.is_alphanumeric() || inner || is_mark(c)) || is_han(c) && end > 0 {
                break;
            }
            end = at + c.len_utf8();
            if is_han(c) {
                break;
            }
        }
        self.0 = &rest[end..];
        Some(&rest[..end])
    }
}

/// Combining marks belong to the letter before.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Scripts that write no blanks between words.
fn is_han(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
}

fn sentences(text: &str) -> u64 {
    let mut count = 0;
    let mut open = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let end = match c {
            '.' | '!' | '?' | '…' | '\u{61f}' | '\u{6d4}' | '\u{964}' => {
                chars.peek().is_none_or(|next| next.is_whitespace() || "\"'”’)]»".contains(*next))
            }
            '。' | '！' | '？' => true,
            // A blank line ends a heading too.
            '\n' => chars.peek() == Some(&'\n'),
            _ => false,
        };
        if end && open {
            count += 1;
            open = false;
        } else if c.is_alphanumeric() {
            open = true;
        }
    }
    count + u64::from(open)
}

fn paragraphs(text: &str) -> usize {
    let mut count = 0;
    let mut inside = false;
    for line in text.lines() {
        let blank = line.trim().is_empty();
        count += usize::from(!blank && !inside);
        inside = !blank;
    }
    count
}

/// Groups of vowels, at least one; a silent `e` at the end is none.
fn syllables_of(word: &str) -> u64 {
    let word = word.to_lowercase();
    let vowel = |c: char| "aeiouyäöüáéíóúàèìòùâêîôûåæø".contains(c);
    let mut count = 0;
    let mut before = false;
    for c in word.chars() {
        count += u64::from(vowel(c) && !before);
        before = vowel(c);
    }
    if word.ends_with('e') && !word.ends_with("le") && count > 1 {
        count -= 1;
    }
    count.max(1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;
    use crate::error::Class;

    #[test]
    fn words_and_sentences_of_several_scripts() {
        assert_eq!(
            Words("don't stop—well-known x2 'a' e\u{301}t").collect::<Vec<_>>(),
            ["don't", "stop", "well-known", "x2", "a", "e\u{301}t"]
        );
        assert_eq!(Words("漢字 ab漢").collect::<Vec<_>>(), ["漢", "字", "ab", "漢"]);
        for (text, expected) in
            [("", 0), ("a", 1), ("A. B? C!", 3), ("e.g. 3.14 is pi.", 2), ("好。再见！", 2), ("Title\n\nText.", 2)]
        {
            assert_eq!(sentences(text), expected, "{text}");
        }
        for (word, expected) in [("cat", 1), ("table", 2), ("readability", 5), ("make", 1), ("rhythm", 1), ("xml", 1)] {
            assert_eq!(syllables_of(word), expected, "{word}");
        }
    }

    #[test]
    fn nothing_is_counted_as_nothing() {
        let counted = result("text_statistics", json!({"input": ""}));
        assert_eq!((&counted["words"], &counted["readability"]["flesch_reading_ease"]), (&json!(0), &Value::Null));
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a"), "\u{feff}one\r\ntwo\r\n").unwrap();
        let counted = run("text_statistics", json!({"path": "a"}), &call).unwrap();
        assert_eq!((&counted["result"]["lines"], &counted["result"]["words"]), (&json!(2), &json!(2)));
        call.cancel.cancel();
        assert_eq!(run("word_count", json!({"path": "a"}), &call).unwrap_err().class(), Class::Interrupted);
    }

    #[test]
    fn bad_input() {
        bad(
            "text_statistics",
            &[
                (json!({}), Class::Usage),
                (json!({"input": 5}), Class::Usage),
                (json!({"input": "x", "top": -1}), Class::Usage),
                (json!({"file": "absent"}), Class::NotFound),
                (json!({"file": "/etc/passwd"}), Class::Denied),
            ],
        );
    }
}
