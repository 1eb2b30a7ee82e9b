//! `file_converter`: encodings, line endings and indentation of text files.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required};
use crate::error::{Class, Error, Result};

/// The file converter.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "file_converter",
    aliases: &[],
    category: "filesystem",
    summary: "convert text files: character encoding, line endings, indentation",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("text", "input"),
        Spelling::Param("input_path", "path"),
        Spelling::Param("source_path", "path"),
        Spelling::Param("output_path", "target_path"),
        Spelling::Value("operation", "line_ending", "line_endings"),
        Spelling::Value("line_ending", "unix", "lf"),
        Spelling::Value("line_ending", "windows", "crlf"),
        Spelling::Value("line_ending", "dos", "crlf"),
    ],
    examples: &[
        example(
            "a text into a file of another encoding",
            r#"{"operation": "encoding", "input": "größer\r\n", "target_path": "$TMP/a.txt", "to_encoding": "utf-16le"}"#,
            r#"{"from_encoding": "utf-8", "to_encoding": "utf-16le", "output_path": "$TMP/a.txt", "size": 18}"#,
        ),
        example(
            "what a file is",
            r#"{"operation": "detect", "path": "$TMP/a.txt"}"#,
            r#"{"encoding": "utf-16le", "bom": true, "line_endings": {"lf": 0, "crlf": 1, "cr": 0}, "line_ending": "crlf", "indentation": "none"}"#,
        ),
        example(
            "line endings in place; the old file is kept",
            r#"{"operation": "line_endings", "path": "$TMP/a.txt", "line_ending": "lf"}"#,
            r#"{"output_path": "$TMP/a.txt", "backup_path": "$TMP/a.txt.backup", "changed": true, "size": 16}"#,
        ),
        example(
            "tabs to blanks",
            r#"{"operation": "indentation", "input": "a\n\tb\n", "tab_size": 2}"#,
            r#"{"output": "a\n  b\n", "changed_lines": 1}"#,
        ),
    ],
};

/// Converts a text file, in place unless `target_path` is given; in place the old one is kept as `NAME.backup`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to convert; `detect` only tells what the file is.
    operation: Operation,
    /// The file.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// A text in place of a file; what comes of it is returned as `output` unless there is a `target_path`.
    input: Option<String>,
    /// Where to write; `path` if not given.
    #[schemars(length(min = 1))]
    target_path: Option<String>,
    /// The encoding of the file: a name of the WHATWG list (utf-8, utf-16le, windows-1252, iso-8859-15, shift_jis, …), ascii, or auto.
    #[serde(default = "auto")]
    from_encoding: String,
    /// `encoding`: the encoding to write.
    to_encoding: Option<String>,
    /// `encoding`: with a byte order mark in front; UTF-16 has one unless this is false.
    bom: Option<bool>,
    /// `encoding`: write `?` or a numeric reference for what the encoding lacks, in place of refusing.
    #[serde(default)]
    lossy: bool,
    /// `line_endings`: how lines shall end.
    line_ending: Option<LineEnding>,
    /// `indentation`: blanks for tabs; false: tabs for blanks.
    #[serde(default = "super::yes")]
    convert_to_spaces: bool,
    /// `indentation`: blanks a tab stands for.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 32))]
    tab_size: usize,
    /// Keep the old file as `NAME.backup` when converting in place.
    #[serde(default = "super::yes")]
    backup: bool,
}

fn auto() -> String {
    "auto".into()
}

fn four() -> usize {
    4
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    Encoding,
    LineEndings,
    Indentation,
    Detect,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum LineEnding {
    Lf,
    Crlf,
    Cr,
}

/// An encoding as the parameters name it.
#[derive(Clone, Copy, PartialEq)]
enum Charset {
    Ascii,
    Of(&'static Encoding),
}

impl Charset {
    fn named(name: &str, parameter: &str) -> Result<Self> {
        let plain = name.trim().to_lowercase();
        let known = match plain.replace(['-', '_'], "").as_str() {
            // The WHATWG list means windows-1252 by these.
            "ascii" | "usascii" => return Ok(Charset::Ascii),
            "utf8" => Some(UTF_8),
            "utf16" | "utf16le" => Some(UTF_16LE),
            "utf16be" => Some(UTF_16BE),
            "iso88591" | "latin1" | "windows1252" => Some(encoding_rs::WINDOWS_1252),
            "windows1250" => Some(encoding_rs::WINDOWS_1250),
            "windows1251" => Some(encoding_rs::WINDOWS_1251),
            "iso885915" => Some(encoding_rs::ISO_8859_15),
            _ => Encoding::for_label_no_replacement(plain.as_bytes()),
        };
        known.map(Charset::Of).ok_or_else(|| {
            Error::new(Class::Usage, format!("{parameter}: {name:?} is no known encoding"))
                .hint("Known are utf-8, utf-16le, utf-16be, ascii, iso-8859-1 to -16, windows-1250 to -1258, shift_jis, gbk, big5, euc-kr and more.")
        })
    }

    fn name(self) -> String {
        match self {
            Charset::Ascii => "ascii".into(),
            Charset::Of(encoding) => encoding.name().to_lowercase(),
        }
    }
}

/// Converts.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let old = match (&params.path, params.input) {
        (Some(_), Some(_)) => return Err(Error::new(Class::Usage, "path: given together with input")),
        (None, Some(text)) => text.into_bytes(),
        (path, None) => files::read(required(path.as_deref(), "path")?, call)?,
    };
    let (charset, text, bom) = decode(&old, &params.from_encoding).map_err(|e| match e.class() {
        Class::Tool => e.within(params.path.as_deref().unwrap_or("input")),
        _ => e,
    })?;
    call.check()?;
    let (name, bytes, mut result, message) = match params.operation {
        Operation::Detect => return Ok(detect(charset, &text, bom, old.len())),
        Operation::Encoding => {
            let wanted = required(params.to_encoding.as_deref(), "to_encoding")?;
            let to = Charset::named(wanted, "to_encoding")?;
            let new = encode(&text, to, params.bom, params.lossy)?;
            let extra = json!({"from_encoding": charset.name(), "to_encoding": to.name()});
            ("encoding", new, extra, format!("Converted encoding from {} to {}", charset.name(), to.name()))
        }
        Operation::LineEndings => {
            let ending = match required(params.line_ending, "line_ending")? {
                LineEnding::Lf => "\n",
                LineEnding::Crlf => "\r\n",
                LineEnding::Cr => "\r",
            };
            let new = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', ending);
            ("line_endings", encode(&new, charset, Some(bom), false)?, json!({}), "Converted line endings".into())
        }
        Operation::Indentation => {
            let (new, changed) = indent(&text, params.convert_to_spaces, params.tab_size);
            let new = encode(&new, charset, Some(bom), false)?;
            ("indentation", new, json!({"changed_lines": changed}), "Converted indentation".into())
        }
    };
    let changed = old != bytes;
    result["operation"] = name.into();
    result["changed"] = changed.into();
    result["size"] = bytes.len().into();
    if let Some(path) = &params.path {
        result["input_path"] = path.as_str().into();
        let in_place = params.target_path.as_ref().is_none_or(|target| call.path(target) == call.path(path));
        if in_place && changed && params.backup {
            let backup = format!("{path}.backup");
            files::write(&backup, &old, call)?;
            result["backup_path"] = backup.into();
        }
        if in_place && !changed {
            result["output_path"] = path.as_str().into();
            return Ok(Answer::new(name, result).message("Nothing to convert"));
        }
    }
    match params.target_path.as_ref().or(params.path.as_ref()) {
        Some(target) => {
            files::write(target, &bytes, call)?;
            result["output_path"] = target.as_str().into();
            Ok(Answer::new(name, result).message(message))
        }
        None => {
            let text = String::from_utf8(bytes).map_err(|_| {
                Error::new(Class::Usage, "target_path: missing").hint("Only UTF-8 can be returned as a text.")
            })?;
            result["output"] = text.as_str().into();
            Ok(Answer::new(name, result).message(message).text(text))
        }
    }
}

/// The encoding, the text, and whether there was a byte order mark.
fn decode(bytes: &[u8], from: &str) -> Result<(Charset, String, bool)> {
    let auto = from.trim().is_empty() || from.eq_ignore_ascii_case("auto");
    let mark = Encoding::for_bom(bytes);
    let charset = match (auto, mark) {
        (false, _) => Charset::named(from, "from_encoding")?,
        (true, Some((encoding, _))) => Charset::Of(encoding),
        (true, None) if std::str::from_utf8(bytes).is_ok() => Charset::Of(UTF_8),
        (true, None) => Charset::Of(guess(bytes)),
    };
    let encoding = match charset {
        Charset::Ascii => match bytes.iter().position(|byte| !byte.is_ascii()) {
            Some(at) => return Err(Error::new(Class::Tool, format!("not ascii: byte {at}"))),
            None => UTF_8,
        },
        Charset::Of(encoding) => encoding,
    };
    let length = mark.filter(|(marked, _)| *marked == encoding).map_or(0, |(_, length)| length);
    match encoding.decode_without_bom_handling_and_without_replacement(&bytes[length..]) {
        Some(text) => Ok((charset, text.into_owned(), length > 0)),
        None => Err(Error::new(Class::Tool, format!("not {}", charset.name()))
            .hint("Say its encoding with from_encoding; operation = \"detect\" guesses.")),
    }
}

/// What bytes without a mark that are no UTF-8 most likely are.
fn guess(bytes: &[u8]) -> &'static Encoding {
    let sample = &bytes[..bytes.len().min(1 << 16) & !1];
    let zeros = |parity: usize| sample.iter().skip(parity).step_by(2).filter(|byte| **byte == 0).count();
    let half = sample.len() / 2;
    match (zeros(0), zeros(1)) {
        (even, odd) if half > 0 && odd * 2 > half && even * 10 < half => UTF_16LE,
        (even, odd) if half > 0 && even * 2 > half && odd * 10 < half => UTF_16BE,
        _ => {
            let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Allow);
            detector.feed(bytes, true);
            detector.guess(None, chardetng::Utf8Detection::Deny)
        }
    }
}

fn encode(text: &str, to: Charset, bom: Option<bool>, lossy: bool) -> Result<Vec<u8>> {
    let wide = to == Charset::Of(UTF_16LE) || to == Charset::Of(UTF_16BE);
    let mut out = Vec::new();
    if bom.unwrap_or(wide) && (wide || to == Charset::Of(UTF_8)) {
        push(&mut out, '\u{feff}', to);
    }
    match to {
        _ if wide => text.chars().for_each(|c| push(&mut out, c, to)),
        Charset::Ascii if text.is_ascii() || lossy => {
            out.extend(text.chars().map(|c| u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'?')));
        }
        Charset::Ascii => {
            let lacking = text.chars().find(|c| !c.is_ascii());
            return Err(lacks(lacking, to));
        }
        Charset::Of(encoding) => {
            let (bytes, _, replaced) = encoding.encode(text);
            if replaced && !lossy {
                let lacking = text.chars().find(|c| encoding.encode(c.encode_utf8(&mut [0; 4])).2);
                return Err(lacks(lacking, to));
            }
            out.extend_from_slice(&bytes);
        }
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, c: char, to: Charset) {
    if to == Charset::Of(UTF_8) {
        return out.extend(c.encode_utf8(&mut [0; 4]).bytes());
    }
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend(if to == Charset::Of(UTF_16LE) { unit.to_le_bytes() } else { unit.to_be_bytes() });
    }
}

fn lacks(lacking: Option<char>, to: Charset) -> Error {
    let lacking = lacking.map(|c| format!("{c:?}")).unwrap_or_default();
    Error::new(Class::Tool, format!("to_encoding: {} has no {lacking}", to.name()))
        .hint("lossy = true writes a substitute.")
}

/// The text with its leading blanks changed, and how many lines were.
fn indent(text: &str, to_spaces: bool, tab: usize) -> (String, usize) {
    let (mut out, mut changed) = (String::with_capacity(text.len()), 0);
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start_matches([' ', '\t']);
        let lead = &line[..line.len() - rest.len()];
        let columns = lead.chars().fold(0, |at, c| if c == '\t' { (at / tab + 1) * tab } else { at + 1 });
        let new = match to_spaces {
            true => " ".repeat(columns),
            false => "\t".repeat(columns / tab) + &" ".repeat(columns % tab),
        };
        changed += usize::from(new != lead);
        out.push_str(&new);
        out.push_str(rest);
    }
    (out, changed)
}

fn detect(charset: Charset, text: &str, bom: bool, size: usize) -> Answer {
    let crlf = text.matches("\r\n").count();
    let (lf, cr) = (text.matches('\n').count() - crlf, text.matches('\r').count() - crlf);
    let ending = match (lf > 0, crlf > 0, cr > 0) {
        (false, false, false) => "none",
        (true, false, false) => "lf",
        (false, true, false) => "crlf",
        (false, false, true) => "cr",
        _ => "mixed",
    };
    let tabs = text.lines().filter(|line| line.starts_with('\t')).count();
    let blanks = text.lines().filter(|line| line.starts_with("  ")).count();
    let indentation = match (tabs > 0, blanks > 0) {
        (false, false) => "none",
        (true, false) => "tabs",
        (false, true) => "spaces",
        _ => "mixed",
    };
    let result = json!({
        "encoding": charset.name(), "bom": bom, "ascii": text.is_ascii(), "size": size,
        "characters": text.chars().count(), "line_endings": {"lf": lf, "crlf": crlf, "cr": cr}, "line_ending": ending,
        "indentation": indentation,
    });
    Answer::new("detect", result).message(format!("{}, {ending}", charset.name()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    #[test]
    fn encodings_go_both_ways_and_are_recognised() {
        let (dir, call) = folder();
        let text = "Größe: Übermäßig schöne Straßen führen nach Köln, sagt Frau Müller.\n";
        std::fs::write(dir.path().join("a"), text).unwrap();
        for to in ["utf-8", "utf-16le", "utf16be", "iso-8859-1", "windows-1252", "ISO-8859-15"] {
            let params = json!({"operation": "encoding", "path": "a", "target_path": "b", "to_encoding": to});
            run("file_converter", params, &call).unwrap();
            let back =
                json!({"operation": "encoding", "path": "b", "target_path": "c", "to_encoding": "utf8", "bom": false});
            let back = run("file_converter", back, &call).unwrap();
            assert_eq!(std::fs::read_to_string(dir.path().join("c")).unwrap(), text, "{to} {back}");
        }
        let bytes = std::fs::read(dir.path().join("a")).unwrap();
        assert_eq!(bytes, text.as_bytes());
        assert_eq!(
            decode(&encode("häß", Charset::Of(UTF_16BE), Some(false), false).unwrap(), "utf-16be").unwrap().1,
            "häß"
        );
    }

    #[test]
    fn what_is_converted_in_place_has_a_backup_and_keeps_its_mark() {
        let (dir, call) = folder();
        let path = dir.path().join("a");
        std::fs::write(&path, "\u{feff}a\r\nb\rc\n").unwrap();
        let params = json!({"operation": "line-endings", "path": "a", "line_ending": "unix"});
        let first = run("file_converter", params.clone(), &call).unwrap();
        assert_eq!(first["result"]["backup_path"], "a.backup");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\u{feff}a\nb\nc\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("a.backup")).unwrap(), "\u{feff}a\r\nb\rc\n");
        let again = run("file_converter", params, &call).unwrap();
        assert_eq!((&again["result"]["changed"], again["result"].get("backup_path")), (&json!(false), None));
        assert_eq!(indent("\tx\n  \ty\nz\n", true, 4), ("    x\n    y\nz\n".into(), 2));
        assert_eq!(indent("      x\n", false, 4), ("\t  x\n".into(), 1));
    }

    #[test]
    fn bad_input() {
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a"), "Ж\n").unwrap();
        std::fs::write(dir.path().join("b"), b"\xff\xfe\x00").unwrap();
        for (params, class) in [
            (json!({"operation": "encoding", "path": "a", "to_encoding": "latin1"}), Class::Tool),
            (json!({"operation": "encoding", "path": "a", "to_encoding": "ascii"}), Class::Tool),
            (
                json!({"operation": "encoding", "path": "a", "from_encoding": "ascii", "to_encoding": "utf-8"}),
                Class::Tool,
            ),
            (json!({"operation": "encoding", "path": "a", "to_encoding": "ebcdic"}), Class::Usage),
            (json!({"operation": "encoding", "path": "a"}), Class::Usage),
            (json!({"operation": "detect", "path": "b"}), Class::Tool),
        ] {
            let error = run("file_converter", params.clone(), &call).unwrap_err();
            assert_eq!(error.class(), class, "{params} {error}");
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "Ж\n");
        bad(
            "file_converter",
            &[
                (json!({}), Class::Usage),
                (json!({"operation": "detect"}), Class::Usage),
                (json!({"operation": "detect", "path": "x", "input": "y"}), Class::Usage),
                (json!({"operation": "encoding", "input": "ä", "to_encoding": "latin1"}), Class::Usage),
                (json!({"operation": "line_endings", "path": "x", "line_ending": "vms"}), Class::Usage),
                (json!({"operation": "detect", "path": "absent"}), Class::NotFound),
                (json!({"operation": "detect", "path": "/etc/passwd"}), Class::Denied),
                (json!({"operation": "indentation", "path": "x", "tab_size": 0}), Class::Usage),
            ],
        );
    }
}
