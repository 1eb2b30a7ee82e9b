//! `citation_formatter`: citations and bibliographies in the styles of the Citation Style Language, by hayagriva.

use hayagriva::archive::{ArchivedStyle, locales};
use hayagriva::citationberg::{IndependentStyle, LocaleCode, Style};
use hayagriva::{
    BibliographyDriver, BibliographyRequest, BufWriteFormat, CitationItem, CitationRequest, Entry, Library, io,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required};
use crate::error::{Class, Error, Result};

/// The citation formatter.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "citation_formatter",
    aliases: &["citation", "citations"],
    category: "utility",
    summary: "format citations and bibliographies from BibTeX or YAML in any CSL style",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles],
    spellings: &[
        Spelling::Param("bibliography", "input"),
        Spelling::Param("file", "path"),
        Spelling::Value("operation", "format", "format_citation"),
        Spelling::Value("operation", "validate", "validate_bibliography"),
        Spelling::Value("format", "bib", "bibtex"),
        Spelling::Value("format", "biblatex", "bibtex"),
        Spelling::Value("format", "yml", "yaml"),
    ],
    examples: &[
        example(
            "APA from BibTeX",
            r#"{"operation": "format_citation", "format": "bibtex", "input": "@book{tolkien, author = {Tolkien, J. R. R.}, title = {The Hobbit}, year = 1937, publisher = {Allen \\& Unwin}}"}"#,
            r#"{"citations": [{"key": "tolkien", "citation": "(Tolkien, 1937)"}],
                "reference_list": ["Tolkien, J. R. R. (1937). The Hobbit. Allen & Unwin."], "entry_count": 1}"#,
        ),
        example(
            "IEEE from YAML, two of three",
            r#"{"operation": "format_citation", "style": "ieee", "cite_keys": "b,a", "input": "a:\n  type: book\n  author: Doe, Ann\n  title: One\n  date: 2001\nb:\n  type: book\n  author: Roe, Bob\n  title: Two\n  date: 2002\nc:\n  type: book\n  title: Three\n"}"#,
            r#"{"citations": [{"key": "b", "citation": "[1]"}, {"key": "a", "citation": "[2]"}],
                "reference_list": ["[1] B. Roe, Two. 2002.", "[2] A. Doe, One. 2001."]}"#,
        ),
        example(
            "what is missing in a bibliography",
            r#"{"operation": "validate_bibliography", "input": "x:\n  type: article\n  title: T\n"}"#,
            r#"{"valid": true, "entry_count": 1, "entries": [{"key": "x", "type": "article", "missing": ["author", "date", "parent"]}]}"#,
        ),
    ],
};

/// Largest bibliography.
const MAX_INPUT: usize = 5_000_000;

/// Formats citations. `style` is a name of `list_styles` (a hundred are built in) or a file with a style of the Citation Style Language
/// (.csl, of which there are thousands at github.com/citation-style-language/styles).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The bibliography as text.
    input: Option<String>,
    /// A file in place of it.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// How the bibliography is written; recognised if not given.
    format: Option<Format>,
    /// The style.
    #[serde(default = "apa")]
    #[schemars(length(min = 1))]
    style: String,
    /// Which entries, in the order they are cited, with commas in between; all if not given.
    cite_keys: Option<Keys>,
    /// The language of words like "and" and "edition": de-DE, fr-FR, …
    locale: Option<String>,
    /// Texts, or HTML with italics and the like.
    #[serde(default)]
    output: Output,
}

fn apa() -> String {
    "apa".into()
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    FormatCitation,
    ValidateBibliography,
    ListStyles,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Format {
    Yaml,
    Bibtex,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Output {
    #[default]
    Text,
    Html,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Keys {
    Text(String),
    List(Vec<String>),
}

/// Formats, validates or lists.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    if let Operation::ListStyles = params.operation {
        let row = |style: &ArchivedStyle| json!({"name": style.names().first(), "title": style.display_name()});
        let styles: Vec<Value> = ArchivedStyle::all().iter().map(row).collect();
        let result = json!({"total_available": styles.len(), "supported_styles": styles});
        return Ok(Answer::new("list_styles", result).message("More styles are taken as .csl files"));
    }
    let text = match (&params.path, params.input) {
        (Some(_), Some(_)) => return Err(Error::new(Class::Usage, "path: given together with input")),
        (Some(path), None) => files::read_text(path, call)?,
        (None, input) => required(input, "input")?,
    };
    if text.len() > MAX_INPUT {
        return Err(Error::new(Class::Usage, format!("input: larger than {MAX_INPUT} bytes")));
    }
    let format = params.format.unwrap_or(match text.trim_start().starts_with(['@', '%']) {
        true => Format::Bibtex,
        false => Format::Yaml,
    });
    let library = guarded(|| read(&text, format))?;
    if let Operation::ValidateBibliography = params.operation {
        return Ok(match library {
            Ok(library) => {
                let entries: Vec<Value> = library.iter().map(look).collect();
                Answer::new(
                    "validate_bibliography",
                    json!({"valid": true, "entry_count": library.len(), "format": format, "entries": entries}),
                )
            }
            Err(error) => {
                Answer::new("validate_bibliography", json!({"valid": false, "format": format, "error": error.text()}))
            }
        });
    }
    let library = library?;
    let keys: Vec<String> = match params.cite_keys {
        None => library.keys().map(str::to_owned).collect(),
        Some(Keys::List(keys)) => keys,
        Some(Keys::Text(text)) => {
            text.split(',').map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).collect()
        }
    };
    let entries: Vec<&Entry> = keys
        .iter()
        .map(|key| {
            library.get(key).ok_or_else(|| {
                let error = Error::new(Class::Usage, format!("cite_keys: {key:?} is not in the bibliography"));
                match crate::error::nearest(key, library.keys()) {
                    Some(near) => error.hint(format!("Did you mean {near}?")),
                    None => error,
                }
            })
        })
        .collect::<Result<_>>()?;
    let style = style(&params.style, call)?;
    let known = locales();
    let locale = params.locale.map(LocaleCode);
    if let Some(locale) = locale.as_ref().filter(|code| !known.iter().any(|one| one.lang.as_ref() == Some(*code))) {
        let mut names: Vec<_> = known.iter().filter_map(|one| Some(one.lang.as_ref()?.0.clone())).collect();
        names.sort();
        return Err(Error::new(Class::Usage, format!("locale: {:?} is not built in", locale.0))
            .hint(format!("Built in: {}.", names.join(", "))));
    }
    let out = match params.output {
        Output::Text => BufWriteFormat::Plain,
        Output::Html => BufWriteFormat::Html,
    };
    let (citations, references) = guarded(|| {
        let mut driver = BibliographyDriver::new();
        for entry in &entries {
            call.check()?;
            let items = vec![CitationItem::with_entry(*entry)];
            driver.citation(CitationRequest::new(items, &style, locale.clone(), &known, None));
        }
        let done = driver.finish(BibliographyRequest::new(&style, locale.clone(), &known));
        let write = |part: &dyn Fn(&mut String) -> std::fmt::Result| {
            let mut text = String::new();
            part(&mut text).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
            Ok::<_, Error>(text)
        };
        let mut citations = Vec::new();
        for citation in &done.citations {
            citations.push(write(&|text| citation.citation.write_buf(text, out))?);
        }
        let mut references = Vec::new();
        for item in done.bibliography.iter().flat_map(|list| &list.items) {
            let first = write(&|text| item.first_field.as_ref().map_or(Ok(()), |first| first.write_buf(text, out)))?;
            let rest = write(&|text| item.content.write_buf(text, out))?;
            let between = if first.is_empty() || rest.starts_with(' ') { "" } else { " " };
            references.push(format!("{first}{between}{rest}"));
        }
        Ok::<_, Error>((citations, references))
    })??;
    let text = references.join("\n");
    let pairs: Vec<Value> =
        keys.iter().zip(citations).map(|(key, citation)| json!({"key": key, "citation": citation})).collect();
    let result = json!({
        "style": params.style, "format": format, "citations": pairs, "reference_list": references, "entry_count": pairs.len(),
    });
    Ok(Answer::new("format_citation", result).message(format!("{} citations", keys.len())).text(text))
}

/// The library is strict about its own assumptions: a panic of it is an error of the input.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .map_err(|_| Error::new(Class::Tool, "input: the bibliography cannot be formatted"))
}

fn read(text: &str, format: Format) -> Result<Library> {
    match format {
        Format::Yaml => io::from_yaml_str(text).map_err(|e| {
            Error::new(Class::Tool, format!("input: not a YAML bibliography: {}", e.to_string().replace('\n', " ")))
        }),
        Format::Bibtex => io::from_biblatex_str(text).map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            Error::new(Class::Tool, format!("input: not BibTeX: {}", super::lower(&first.replace('\n', " "))))
        }),
    }
}

/// A built-in style by name, or one from a file.
fn style(name: &str, call: &Call) -> Result<IndependentStyle> {
    let parsed = if name.ends_with(".csl") || name.contains('/') {
        let text = files::read_text(name, call)?;
        Style::from_xml(&text).map_err(|e| {
            Error::new(Class::Tool, format!("{name}: not a CSL style: {}", e.to_string().replace('\n', " ")))
        })?
    } else {
        let plain = name.trim().to_lowercase().replace([' ', '_'], "-");
        let plain = match plain.as_str() {
            "mla" => "modern-language-association",
            "apa" => "american-psychological-association",
            "chicago" => "chicago-author-date",
            "chicago-fullnote-bibliography" | "chicago-notes" => "chicago-notes",
            "harvard" => "harvard-cite-them-right",
            other => other,
        };
        let found = ArchivedStyle::by_name(plain).or_else(|| {
            ArchivedStyle::all().iter().find(|style| style.names().contains(&plain) || style.csl_id() == name).copied()
        });
        found
            .ok_or_else(|| {
                let error = Error::new(Class::Usage, format!("style: {name:?} is not built in"));
                let names = ArchivedStyle::all().iter().flat_map(|style| style.names()).copied();
                match crate::error::nearest(plain, names) {
                    Some(near) => error.hint(format!("Did you mean {near}?")),
                    None => {
                        error.hint("operation = \"list_styles\" lists those that are; others are taken as .csl files.")
                    }
                }
            })?
            .get()
    };
    match parsed {
        Style::Independent(style) => Ok(style),
        Style::Dependent(_) => {
            Err(Error::new(Class::Tool, format!("{name}: refers to another style")).hint("Use that one."))
        }
    }
}

/// An entry and what one would expect of its kind.
fn look(entry: &Entry) -> Value {
    use hayagriva::types::EntryType;
    let kind = entry.entry_type();
    let mut missing = Vec::new();
    if entry.title().is_none() {
        missing.push("title");
    }
    if entry.authors().is_none_or(<[_]>::is_empty) && entry.editors().is_none_or(<[_]>::is_empty) {
        missing.push("author");
    }
    if entry.date_any().is_none() {
        missing.push("date");
    }
    if matches!(kind, EntryType::Article | EntryType::Chapter) && entry.parents().is_empty() {
        missing.push("parent");
    }
    json!({"key": entry.key(), "type": kind, "title": entry.title().map(ToString::to_string), "missing": missing})
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    const BIB: &str = "@article{einstein, author={Einstein, Albert}, title={Zur Elektrodynamik bewegter K{\\\"o}rper}, journal={Annalen der Physik}, \
        volume={322}, number={10}, pages={891--921}, year={1905}}\n@book{knuth, author={Knuth, Donald E.}, title={The Art of Computer Programming}, \
        publisher={Addison-Wesley}, year={1968}}";

    #[test]
    fn the_styles_of_the_predecessor_are_all_there() {
        for (style, citation) in [
            ("apa", "(Einstein, 1905)"),
            ("mla", "(Einstein)"),
            ("chicago-author-date", "(Einstein 1905)"),
            ("harvard", "(Einstein, 1905)"),
            ("ieee", "[1]"),
            ("nature", "1"),
            ("vancouver", "(1)"),
        ] {
            let made = result("citation-formatter", json!({"input": BIB, "style": style, "cite_keys": ["einstein"]}));
            assert_eq!(made["citations"][0]["citation"], citation, "{style}");
            assert!(made["reference_list"][0].as_str().unwrap().contains("322"), "{made}");
        }
        let note =
            result("citation", json!({"input": BIB, "style": "chicago-fullnote-bibliography", "cite_keys": "knuth"}));
        assert!(note["citations"][0]["citation"].as_str().unwrap().starts_with("Donald E. Knuth"), "{note}");
        let html = result("citation", json!({"input": BIB, "output": "html", "cite_keys": "knuth"}));
        assert!(html["reference_list"][0].as_str().unwrap().contains("<span style"), "{html}");
        assert!(result("citation", json!({"operation": "list_styles"}))["total_available"].as_u64().unwrap() > 50);
    }

    #[test]
    fn styles_come_from_files_too() {
        let (dir, call) = folder();
        let csl = r#"<?xml version="1.0"?><style xmlns="http://purl.org/net/xbiblio/csl" class="in-text" version="1.0"><info><title>t</title><id>t</id><updated>2020-01-01T00:00:00+00:00</updated></info><citation><layout prefix="{" suffix="}"><text variable="title"/></layout></citation></style>"#;
        std::fs::write(dir.path().join("t.csl"), csl).unwrap();
        std::fs::write(dir.path().join("b.bib"), BIB).unwrap();
        let made = run("citation", json!({"path": "b.bib", "style": "t.csl", "cite_keys": "knuth"}), &call).unwrap();
        assert_eq!(made["result"]["citations"][0]["citation"], "{The Art of Computer Programming}");
        std::fs::write(dir.path().join("x.csl"), "<style/>").unwrap();
        assert_eq!(
            run("citation", json!({"path": "b.bib", "style": "x.csl"}), &call).unwrap_err().class(),
            Class::Tool
        );
    }

    #[test]
    fn bad_input() {
        let wrong = result("citation", json!({"operation": "validate", "input": "@book{x, title = "}));
        assert_eq!((&wrong["valid"], &wrong["format"]), (&json!(false), &json!("bibtex")));
        bad(
            "citation_formatter",
            &[
                (json!({}), Class::Usage),
                (json!({"input": BIB, "style": "appa"}), Class::Usage),
                (json!({"input": BIB, "cite_keys": "einstien"}), Class::Usage),
                (json!({"input": BIB, "locale": "xx-XX"}), Class::Usage),
                (json!({"input": "@book{"}), Class::Tool),
                (json!({"input": "- a\n- b"}), Class::Tool),
                (json!({"input": "a: 5"}), Class::Tool),
                (json!({"input": "x", "path": "y"}), Class::Usage),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                (json!({"input": BIB, "style": "/etc/x.csl"}), Class::Denied),
            ],
        );
    }
}
