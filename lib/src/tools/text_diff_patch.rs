//! `text_diff_patch`: makes unified diffs and applies them, to texts and files.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, diff_calculator, example, files, required};
use crate::error::{Class, Error, Result};

/// The patch tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "text_diff_patch",
    aliases: &["patch", "text_patch"],
    category: "utility",
    summary: "make unified diffs of texts and files and apply them, also backwards",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("text", "input"),
        Spelling::Param("file", "path"),
        Spelling::Param("diff", "patch"),
        Spelling::Value("operation", "diff", "make"),
        Spelling::Value("operation", "create", "make"),
        Spelling::Value("operation", "patch", "apply"),
    ],
    examples: &[
        example(
            "make a patch",
            r#"{"operation": "make", "input": "a\nb\n", "new_text": "a\nc\n", "name": "f.txt"}"#,
            r#"{"patch": "--- a/f.txt\n+++ b/f.txt\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"}"#,
        ),
        example(
            "apply it; lines may have been added before",
            r#"{"operation": "apply", "input": "new\na\nb\n", "patch": "@@ -1,2 +1,2 @@\n a\n-b\n+c\n"}"#,
            r#"{"result": "new\na\nc\n", "applied": 1, "hunks": [{"line": 2, "offset": 1}]}"#,
        ),
        example(
            "take it back",
            r#"{"operation": "apply", "reverse": true, "input": "a\nc\n", "patch": "@@ -1,2 +1,2 @@\n a\n-b\n+c\n"}"#,
            r#"{"result": "a\nb\n"}"#,
        ),
        example(
            "only look whether it fits",
            r#"{"operation": "check", "input": "x\n", "patch": "@@ -1 +1 @@\n-y\n+z\n"}"#,
            r#"{"applies": false, "error": "hunk 1 (line 1): does not fit"}"#,
        ),
    ],
};

/// Most lines looked at to both sides of where a hunk should be, times its lines: 10 million comparisons.
const MAX_WORK: usize = 10_000_000;

/// Makes a unified diff (`make`) of a text or file and a new text, or applies one (`apply`): as a whole, or not at all. A hunk whose
/// place has moved is looked for nearby; nothing is applied where the context differs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do; `check` tells whether a patch would apply.
    operation: Operation,
    /// The text to start from.
    input: Option<String>,
    /// A file in place of `input`; `apply` changes it.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// `make`: what the text shall become.
    new_text: Option<String>,
    /// `make`: a file in place of `new_text`.
    #[schemars(length(min = 1))]
    new_file: Option<String>,
    /// `make`: the name in the head of the diff; that of the file if not given, else `text`.
    name: Option<String>,
    /// `make`: lines around a change.
    #[serde(default = "three")]
    #[schemars(range(max = 1000))]
    context_lines: usize,
    /// `apply`, `check`: the unified diff of one file.
    patch: Option<String>,
    /// `apply`, `check`: from the new to the old text.
    #[serde(default)]
    reverse: bool,
}

fn three() -> usize {
    3
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    Make,
    Apply,
    Check,
}

/// Makes or applies.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    let old = match &params.path {
        Some(_) if params.input.is_some() => {
            return Err(Error::new(Class::Usage, "path: given together with input"));
        }
        Some(path) => files::read_text(path, call)?,
        None => required(params.input, "input")?,
    };
    if params.operation == Operation::Make {
        let new = match &params.new_file {
            Some(path) => files::read_text(path, call)?,
            None => required(params.new_text, "new_text")?,
        };
        let name = params.name.or(params.path).unwrap_or_else(|| "text".into());
        if name.contains(['\n', '\r']) {
            return Err(Error::new(Class::Usage, "name: more than one line"));
        }
        let names = (format!("a/{name}"), format!("b/{name}"));
        let diff = diff_calculator::lines(&old, &new, call);
        let patch = diff_calculator::unified(&diff, params.context_lines, (&names.0, &names.1));
        let message = if patch.is_empty() { "No differences" } else { "Patch made" };
        return Ok(Answer::new("make", json!({"patch": patch})).message(message).text(patch));
    }
    let patch = required(params.patch, "patch")?;
    let hunks = parse(&patch, params.reverse)?;
    let applied = apply(&old, &hunks, call);
    if params.operation == Operation::Check {
        return Ok(match applied {
            Ok((_, places)) => Answer::new("check", json!({"applies": true, "hunks": places})),
            Err(error) if error.class() == Class::Tool => {
                Answer::new("check", json!({"applies": false, "error": error.text()}))
            }
            Err(error) => return Err(error),
        });
    }
    let (text, places) = applied?;
    let mut result = json!({"applied": hunks.len(), "hunks": places});
    let message = format!("{} hunks applied", hunks.len());
    if let Some(path) = &params.path {
        files::write(path, text.as_bytes(), call)?;
        result["path"] = path.as_str().into();
        return Ok(Answer::new("apply", result).message(message));
    }
    result["result"] = text.as_str().into();
    Ok(Answer::new("apply", result).message(message).text(text))
}

/// Lines (with their ends) that are there, and that come in their place.
struct Hunk<'a> {
    /// Where it should be, from 0.
    start: usize,
    old: Vec<&'a str>,
    new: Vec<&'a str>,
}

/// The hunks of a diff of one file.
fn parse(patch: &str, reverse: bool) -> Result<Vec<Hunk<'_>>> {
    let wrong = |number: usize, what: &str| Error::new(Class::Usage, format!("patch: line {}: {what}", number + 1));
    let mut hunks: Vec<Hunk<'_>> = Vec::new();
    let mut lines = patch.split_inclusive('\n').enumerate().peekable();
    let mut headers = 0;
    while let Some((number, line)) = lines.next() {
        if line.starts_with("--- ") {
            headers += 1;
            if headers > 1 {
                return Err(wrong(number, "a second file").hint("Apply the patches of several files one by one."));
            }
        }
        let Some(head) = line.strip_prefix("@@ ") else { continue };
        let ((old_start, mut old_left), (_, mut new_left)) =
            ranges(head).ok_or_else(|| wrong(number, "not `@@ -line,count +line,count @@`"))?;
        let new_start = ranges(head).map_or(0, |(_, (start, _))| start);
        let start = if reverse { new_start } else { old_start };
        let (wanted_old, wanted_new) = (old_left, new_left);
        // An empty side names the line before.
        let empty = if reverse { wanted_new == 0 } else { wanted_old == 0 };
        let mut hunk =
            Hunk { start: if empty { start } else { start.saturating_sub(1) }, old: Vec::new(), new: Vec::new() };
        while old_left > 0 || new_left > 0 {
            let (number, line) = lines.next().ok_or_else(|| wrong(number, "the hunk is cut short"))?;
            let (mark, rest) = match line.chars().next() {
                // Editors strip the blank of an empty line.
                Some('\n') | Some('\r') => (' ', line),
                Some(mark @ (' ' | '-' | '+')) => (mark, &line[1..]),
                Some('\\') => continue,
                _ => return Err(wrong(number, "neither ` `, `-` nor `+` in front")),
            };
            // The last line without an end.
            let rest = match lines.peek() {
                Some((_, next)) if next.starts_with('\\') => rest.trim_end_matches(['\n', '\r']),
                _ => rest,
            };
            let (old, new) = if reverse { (&mut hunk.new, &mut hunk.old) } else { (&mut hunk.old, &mut hunk.new) };
            let short = || wrong(number, "more lines than its head says");
            if mark != '+' {
                old_left = old_left.checked_sub(1).ok_or_else(short)?;
                old.push(rest);
            }
            if mark != '-' {
                new_left = new_left.checked_sub(1).ok_or_else(short)?;
                new.push(rest);
            }
        }
        hunks.push(hunk);
    }
    if hunks.is_empty() && !patch.trim().is_empty() {
        return Err(Error::new(Class::Usage, "patch: no hunk in it").hint("A hunk begins with `@@ -1,3 +1,4 @@`."));
    }
    Ok(hunks)
}

/// `-1,3 +1,4 @@`: start and count of both sides.
fn ranges(head: &str) -> Option<((usize, usize), (usize, usize))> {
    let mut words = head.split_whitespace();
    let mut range = |mark: char| {
        let word = words.next()?.strip_prefix(mark)?;
        let (start, count) = word.split_once(',').unwrap_or((word, "1"));
        Some((start.parse().ok()?, count.parse().ok()?))
    };
    Some((range('-')?, range('+')?))
}

/// The text with all hunks applied, and where each went.
fn apply(text: &str, hunks: &[Hunk<'_>], call: &Call) -> Result<(String, Vec<serde_json::Value>)> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::with_capacity(text.len());
    let mut places = Vec::new();
    let (mut done, mut drift) = (0_usize, 0_isize);
    for (number, hunk) in hunks.iter().enumerate() {
        call.check()?;
        let wanted = hunk.start.saturating_add_signed(drift);
        let at = find(&lines, &hunk.old, wanted, done).ok_or_else(|| {
            Error::new(Class::Tool, format!("hunk {} (line {}): does not fit", number + 1, hunk.start + 1))
                .hint("The text is not the one the patch was made for.")
        })?;
        drift = isize::try_from(at).unwrap_or(0) - isize::try_from(hunk.start).unwrap_or(0);
        out.extend(lines[done..at].iter().copied());
        out.extend(hunk.new.iter().copied());
        done = at + hunk.old.len();
        places.push(json!({"line": at + 1, "offset": drift}));
    }
    out.extend(lines[done..].iter().copied());
    Ok((out, places))
}

/// Where `block` is found, as near to `wanted` as can be, not before `first`.
fn find(lines: &[&str], block: &[&str], wanted: usize, first: usize) -> Option<usize> {
    let last = lines.len().checked_sub(block.len()).filter(|last| *last >= first)?;
    let wanted = wanted.clamp(first, last);
    let reach = (MAX_WORK / block.len().max(1)).min(lines.len());
    let fits = |at: usize| (first..=last).contains(&at) && lines[at..at + block.len()] == *block;
    (0..=reach)
        .find_map(|off| [wanted.checked_sub(off), wanted.checked_add(off)].into_iter().flatten().find(|at| fits(*at)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    #[test]
    fn what_was_made_applies_and_goes_back() {
        let texts =
            ["", "a", "a\n", "a\nb\nc\n", "x\na\nb\nc\nd\ne\nf\ng\nh\ni\nz", "a\r\nb\r\n", "c\nb\na\n", "\n\n\n"];
        for old in texts {
            for new in texts {
                for context in [0, 1, 3] {
                    let patch = json!({"operation": "make", "input": old, "new_text": new, "context_lines": context});
                    let patch = result("patch", patch)["patch"].take();
                    let forth = result("patch", json!({"operation": "apply", "input": old, "patch": patch}));
                    assert_eq!(forth["result"], new, "{old:?} {new:?} {patch}");
                    let back = json!({"operation": "apply", "input": new, "patch": patch, "reverse": true});
                    assert_eq!(result("patch", back)["result"], old, "{old:?} {new:?} {patch}");
                }
            }
        }
    }

    #[test]
    fn files_are_changed_as_a_whole_or_not_at_all() {
        let (dir, call) = folder();
        let path = dir.path().join("f");
        std::fs::write(&path, "1\n2\n3\n").unwrap();
        let patch = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+one\n@@ -3 +3 @@\n-3\n+three\n";
        run("patch", json!({"operation": "apply", "path": "f", "patch": patch}), &call).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n2\nthree\n");
        let half = "@@ -1 +1 @@\n-one\n+1\n@@ -3 +3 @@\n-drei\n+3\n";
        let error = run("patch", json!({"operation": "apply", "path": "f", "patch": half}), &call).unwrap_err();
        assert_eq!(error.text(), "text_diff_patch: hunk 2 (line 3): does not fit");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n2\nthree\n");
    }

    #[test]
    fn bad_input() {
        let apply = |patch: &str| (json!({"operation": "apply", "input": "a\n", "patch": patch}), Class::Usage);
        bad(
            "text_diff_patch",
            &[
                (json!({}), Class::Usage),
                (json!({"operation": "make", "input": "x"}), Class::Usage),
                (json!({"operation": "apply", "input": "x"}), Class::Usage),
                (json!({"operation": "apply", "input": "x", "path": "y", "patch": ""}), Class::Usage),
                (json!({"operation": "make", "input": "a", "new_text": "b", "name": "x\ny"}), Class::Usage),
                apply("nonsense"),
                apply("@@ nonsense @@\n"),
                apply("@@ -1,2 +1 @@\n-a\n"),
                apply("@@ -1 +1 @@\n-a\n-b\n+c\n"),
                apply("@@ -1 +1 @@\nx\n"),
                apply("@@ -99999999999999999999 +1 @@\n"),
                apply("--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n--- c\n+++ d\n@@ -1 +1 @@\n-a\n+b\n"),
                (json!({"operation": "apply", "input": "x\n", "patch": "@@ -1 +1 @@\n-a\n+b\n"}), Class::Tool),
                (
                    json!({"operation": "apply", "input": "", "patch": "@@ -18446744073709551615 +1 @@\n-a\n+b\n"}),
                    Class::Tool,
                ),
                (json!({"operation": "apply", "path": "/etc/passwd", "patch": ""}), Class::Denied),
            ],
        );
    }
}
