//! `pdf_processor`: text, pages and metadata of PDF files, and PDF files from Markdown or text.

mod layout;

use std::collections::BTreeMap;

use pdf_extract::{Document, Object, PlainTextOutput};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required};
use crate::error::{Class, Error, Result};

/// The PDF processor.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "pdf_processor",
    aliases: &["pdf"],
    category: "data",
    summary: "extract text, pages and metadata of PDF files; make PDF files of Markdown or text",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("input", "path"),
        Spelling::Param("file_path", "path"),
        Spelling::Param("file", "path"),
        Spelling::Param("markdown", "content"),
        Spelling::Param("text", "content"),
        Spelling::Param("output_file", "target_path"),
        Spelling::Value("operation", "text", "extract_text"),
        Spelling::Value("operation", "pages", "extract_pages"),
        Spelling::Value("operation", "metadata", "extract_metadata"),
        Spelling::Value("operation", "create", "generate"),
    ],
    examples: &[
        example(
            "make one",
            r##"{"operation": "generate", "content": "# Report\n\nIt is **all** right: größer.\n\n- one\n- two", "target_path": "$TMP/a.pdf", "title": "Report"}"##,
            r#"{"path": "$TMP/a.pdf", "pages": 1}"#,
        ),
        example(
            "its text",
            r#"{"operation": "extract_text", "path": "$TMP/a.pdf"}"#,
            r#"{"text": "Report\n\nIt is all right: größer.\n\n• one\n\n• two", "page_count": 1}"#,
        ),
        example(
            "what it says about itself",
            r#"{"operation": "extract_metadata", "path": "$TMP/a.pdf"}"#,
            r#"{"title": "Report", "page_count": 1, "pdf_version": "1.7", "encrypted": false, "page_sizes": [{"width": 595, "height": 842}]}"#,
        ),
        example(
            "some pages",
            r#"{"operation": "extract_pages", "path": "$TMP/a.pdf", "start_page": 1, "end_page": 1}"#,
            r#"{"pages": [{"page": 1}]}"#,
        ),
    ],
};

/// Most characters of text that are returned.
const MAX_TEXT: usize = 10_000_000;

/// Reads or makes a PDF file. Text is what the file says its text is; scanned pages have none. What is made is A4 or Letter, in
/// Helvetica and Courier, which have the letters of Western Europe.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The PDF file to read.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// The first page, from 1.
    #[schemars(range(min = 1))]
    start_page: Option<u32>,
    /// The last page.
    #[schemars(range(min = 1))]
    end_page: Option<u32>,
    /// What opens an encrypted file.
    password: Option<String>,
    /// `generate`: Markdown, or text with `plain`.
    content: Option<String>,
    /// `generate`: a file in place of `content`.
    #[schemars(length(min = 1))]
    content_file: Option<String>,
    /// `generate`: where to write the PDF.
    #[schemars(length(min = 1))]
    target_path: Option<String>,
    /// `generate`: the content is no Markdown; its lines stay as they are, in Courier.
    #[serde(default)]
    plain: bool,
    /// `generate`: the size of the paper.
    #[serde(default)]
    paper: Paper,
    /// `generate`: the title the file tells.
    title: Option<String>,
    /// `generate`: the author the file tells.
    author: Option<String>,
    /// `generate`: number the pages.
    #[serde(default = "super::yes")]
    page_numbers: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    ExtractText,
    ExtractPages,
    ExtractMetadata,
    Generate,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Paper {
    #[default]
    A4,
    Letter,
}

/// Does one operation.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    if params.operation == Operation::Generate {
        return generate(params, call);
    }
    let path = required(params.path.as_deref(), "path")?;
    let bytes = files::read(path, call)?;
    if !bytes[..bytes.len().min(1024)].windows(5).any(|window| window == b"%PDF-") {
        return Err(Error::new(Class::Tool, format!("{path}: not a PDF file")));
    }
    let size = bytes.len();
    let document = guarded(path, || load(&bytes, params.password.as_deref(), path))??;
    drop(bytes);
    let pages = guarded(path, || document.get_pages())?;
    if params.operation == Operation::ExtractMetadata {
        let mut result = guarded(path, || metadata(&document, &pages))?;
        result["file_path"] = path.into();
        result["file_size"] = size.into();
        return Ok(Answer::new("extract_metadata", result).message(format!("{} pages", pages.len())));
    }
    let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
    let (first, last) = (params.start_page.unwrap_or(1), params.end_page.unwrap_or(count).min(count));
    if first > count && count > 0 {
        return Err(Error::new(Class::Usage, format!("start_page: {first}, but there are {count} pages")));
    }
    let (mut texts, mut length, mut truncated) = (Vec::new(), 0, false);
    for page in first..=last {
        call.check()?;
        let mut text = guarded(path, || text_of(&document, page, path))??;
        if length + text.len() > MAX_TEXT {
            let mut end = MAX_TEXT - length;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            truncated = true;
        }
        length += text.len();
        texts.push((page, text));
        if truncated {
            break;
        }
        if page % 50 == 0 {
            call.progress(format!("{path}: page {page} of {last}"));
        }
    }
    let whole = texts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n\n");
    let mut result = json!({"file_path": path, "page_count": count, "truncated": truncated});
    if params.operation == Operation::ExtractPages {
        let row = |(page, text): &(u32, String)| json!({"page": page, "text": text, "length": text.chars().count()});
        result["pages"] = texts.iter().map(row).collect();
        return Ok(Answer::new("extract_pages", result).text(whole));
    }
    result["length"] = whole.chars().count().into();
    result["text"] = whole.as_str().into();
    Ok(Answer::new("extract_text", result).text(whole))
}

/// The reader is strict about its own assumptions: a panic of it is an error of the file.
fn guarded<T>(path: &str, work: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .map_err(|_| Error::new(Class::Tool, format!("{path}: damaged: the reader cannot follow it")))
}

fn damaged(path: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Class::Tool, format!("{path}: damaged: {}", super::lower(&error.to_string().replace('\n', " "))))
}

fn load(bytes: &[u8], password: Option<&str>, path: &str) -> Result<Document> {
    let locked = || match password {
        Some(_) => Error::new(Class::Tool, format!("{path}: encrypted: the password is wrong")),
        None => Error::new(Class::Tool, format!("{path}: encrypted")).hint("Give its password."),
    };
    let loaded = match password {
        Some(password) => Document::load_mem_with_options(bytes, pdf_extract::LoadOptions::with_password(password)),
        None => Document::load_mem(bytes),
    };
    match loaded {
        // It decrypts while it reads, if it can.
        Ok(document) if document.is_encrypted() && !document.was_encrypted() => Err(locked()),
        Ok(document) => Ok(document),
        Err(error) if error.to_string().to_lowercase().contains("password") => Err(locked()),
        Err(error) => Err(damaged(path, &error)),
    }
}

fn text_of(document: &Document, page: u32, path: &str) -> Result<String> {
    let mut text = String::new();
    let mut out = PlainTextOutput::new(&mut text);
    pdf_extract::output_doc_page(document, &mut out, page).map_err(|e| damaged(&format!("{path}: page {page}"), &e))?;
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    Ok(lines.join("\n").trim_matches('\n').to_owned())
}

/// The object itself, past references.
fn resolve<'a>(document: &'a Document, object: &'a Object) -> Option<&'a Object> {
    document.dereference(object).ok().map(|(_, object)| object)
}

fn metadata(document: &Document, pages: &BTreeMap<u32, (u32, u16)>) -> Value {
    let mut result = json!({
        "pdf_version": document.version, "page_count": pages.len(), "encrypted": document.was_encrypted() || document.is_encrypted(),
        "title": null, "author": null, "subject": null, "keywords": null, "creator": null, "producer": null,
        "created": null, "modified": null,
    });
    let info = document.trailer.get(b"Info").ok().and_then(|info| resolve(document, info)?.as_dict().ok());
    for (key, name) in [
        ("Title", "title"),
        ("Author", "author"),
        ("Subject", "subject"),
        ("Keywords", "keywords"),
        ("Creator", "creator"),
        ("Producer", "producer"),
        ("CreationDate", "created"),
        ("ModDate", "modified"),
    ] {
        let value = info.and_then(|info| resolve(document, info.get(key.as_bytes()).ok()?)?.as_str().ok());
        if let Some(text) = value.map(text_string) {
            result[name] =
                if matches!(name, "created" | "modified") { date(&text).unwrap_or(text) } else { text }.into();
        }
    }
    let sizes = pages.values().take(1000).map(|id| match size_of(document, *id) {
        Some((width, height)) => json!({"width": width.round() as i64, "height": height.round() as i64}),
        None => Value::Null,
    });
    result["page_sizes"] = sizes.collect();
    let catalog = document.catalog().ok();
    result["has_forms"] = catalog.is_some_and(|catalog| catalog.has(b"AcroForm")).into();
    result["has_outline"] = catalog.is_some_and(|catalog| catalog.has(b"Outlines")).into();
    result
}

/// Width and height in points; the box may stand in a node above.
fn size_of(document: &Document, page: (u32, u16)) -> Option<(f64, f64)> {
    let mut node = document.get_dictionary(page).ok()?;
    for _ in 0..50 {
        if let Some(corners) = node.get(b"MediaBox").ok().and_then(|object| resolve(document, object)?.as_array().ok())
        {
            let number = |at: usize| resolve(document, corners.get(at)?)?.as_float().ok().map(f64::from);
            return Some(((number(2)? - number(0)?).abs(), (number(3)? - number(1)?).abs()));
        }
        node = node.get(b"Parent").ok().and_then(|object| resolve(document, object)?.as_dict().ok())?;
    }
    None
}

/// A text of the file: UTF-16 or UTF-8 with their marks, else Latin.
fn text_string(bytes: &[u8]) -> String {
    match bytes {
        [0xfe, 0xff, rest @ ..] => encoding_rs::UTF_16BE.decode_without_bom_handling(rest).0.into_owned(),
        [0xff, 0xfe, rest @ ..] => encoding_rs::UTF_16LE.decode_without_bom_handling(rest).0.into_owned(),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        bytes => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
    }
}

/// `D:20240304153000+01'00'` as RFC 3339.
fn date(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches("D:");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, zone) = text.split_at(end);
    let part = |from: usize, to: usize, other: &'static str| digits.get(from..to).unwrap_or(other);
    let zone: String = zone.chars().filter(|c| *c != '\'').collect();
    let zone = match zone.as_bytes() {
        [sign @ (b'+' | b'-'), hours @ ..] if hours.len() >= 4 && hours.iter().all(u8::is_ascii_digit) => {
            format!("{}{}:{}", char::from(*sign), &zone[1..3], &zone[3..5])
        }
        _ => "Z".into(),
    };
    let date = format!(
        "{}-{}-{}T{}:{}:{}{zone}",
        digits.get(..4)?,
        part(4, 6, "01"),
        part(6, 8, "01"),
        part(8, 10, "00"),
        part(10, 12, "00"),
        part(12, 14, "00")
    );
    date.parse::<jiff::Timestamp>().ok().map(|_| date)
}

fn generate(params: Params, call: &Call) -> Result<Answer> {
    let target = required(params.target_path.as_deref(), "target_path")?;
    let content = match &params.content_file {
        Some(_) if params.content.is_some() => {
            return Err(Error::new(Class::Usage, "content_file: given together with content"));
        }
        Some(path) => files::read_text(path, call)?,
        None => required(params.content, "content")?,
    };
    let paper = match params.paper {
        Paper::A4 => (595.0, 842.0),
        Paper::Letter => (612.0, 792.0),
    };
    let pages = layout::pages(&content, params.plain, paper, params.page_numbers, call)?;
    let about = [("Title", params.title), ("Author", params.author)];
    let bytes = layout::write(&pages, paper, &about)?;
    files::write(target, &bytes, call)?;
    let result = json!({"path": target, "pages": pages.len(), "size": bytes.len()});
    Ok(Answer::new("generate", result).message(format!("Wrote {} pages to {target}", pages.len())))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    #[test]
    fn long_texts_fill_pages_and_nothing_is_lost() {
        let (_dir, call) = folder();
        let words: Vec<String> = (0..3000).map(|n| format!("word{n}")).collect();
        let content = format!(
            "# Title\n\n{}\n\n```\nlet x = 1;\n```\n\n1. a\n2. b\n\n> quoted\n\n---\n\n|h|i|\n|-|-|\n|1|2|\n",
            words.join(" ")
        );
        let made = json!({"operation": "create", "markdown": content, "target_path": "sub/a.pdf", "paper": "letter", "author": "Ünal \u{2603}"});
        let made = run("pdf", made, &call).unwrap();
        let pages = made["result"]["pages"].as_u64().unwrap();
        assert!(pages > 3);
        let text = run("pdf", json!({"input": "sub/a.pdf"}), &call).unwrap();
        let found: Vec<&str> = text["text"].as_str().unwrap().split_whitespace().collect();
        assert!(words.iter().all(|word| found.contains(&word.as_str())));
        assert!(["x", "quoted", "h", "2.", "1;"].iter().all(|word| found.contains(word)), "{found:?}");
        let facts = run("pdf", json!({"operation": "metadata", "path": "sub/a.pdf"}), &call).unwrap();
        assert_eq!(
            (&facts["result"]["author"], &facts["result"]["page_sizes"][0]["width"]),
            (&json!("Ünal \u{2603}"), &json!(612))
        );
        assert!(facts["result"]["created"].as_str().unwrap().ends_with('Z'));
        let second =
            run("pdf", json!({"operation": "pages", "path": "sub/a.pdf", "start_page": 2, "end_page": 2}), &call)
                .unwrap();
        assert_eq!(second["result"]["pages"].as_array().unwrap().len(), 1);
        assert!(second["text"].as_str().unwrap().len() < text["text"].as_str().unwrap().len() / 2);
    }

    #[test]
    fn dates_become_those_of_the_rest() {
        assert_eq!(date("D:20240304153000+01'00'").unwrap(), "2024-03-04T15:30:00+01:00");
        assert_eq!(date("D:2024").unwrap(), "2024-01-01T00:00:00Z");
        assert_eq!((date("D:x"), date("20241399000000")), (None, None));
    }

    #[test]
    fn damaged_files_are_errors() {
        let (dir, call) = folder();
        run("pdf", json!({"operation": "generate", "content": "Text of it", "target_path": "a.pdf"}), &call).unwrap();
        let whole = std::fs::read(dir.path().join("a.pdf")).unwrap();
        for (at, cut) in [(0, 10), (0, whole.len() / 2), (0, whole.len() - 20), (30, whole.len())] {
            std::fs::write(dir.path().join("b.pdf"), &whole[at..cut]).unwrap();
            for operation in ["text", "pages", "metadata"] {
                // Whatever can still be read may be; nothing may panic.
                if let Err(error) = run("pdf", json!({"operation": operation, "path": "b.pdf"}), &call) {
                    assert_eq!(error.class(), Class::Tool, "{error}");
                }
            }
        }
        for n in (0..whole.len()).step_by(11) {
            let mut broken = whole.clone();
            broken[n] ^= 0x15;
            std::fs::write(dir.path().join("b.pdf"), &broken).unwrap();
            _ = run("pdf", json!({"path": "b.pdf"}), &call);
        }
    }

    #[test]
    fn bad_input() {
        bad(
            "pdf_processor",
            &[
                (json!({}), Class::Usage),
                (json!({"path": "absent.pdf"}), Class::NotFound),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                (json!({"operation": "generate", "content": "x"}), Class::Usage),
                (json!({"operation": "generate", "target_path": "x.pdf"}), Class::Usage),
                (json!({"operation": "generate", "content": "日本", "target_path": "x.pdf"}), Class::Tool),
                (json!({"operation": "generate", "content": "x", "target_path": "../x.pdf"}), Class::Denied),
                (json!({"operation": "ocr", "path": "x"}), Class::Usage),
                (json!({"path": "x", "start_page": 0}), Class::Usage),
            ],
        );
    }
}
