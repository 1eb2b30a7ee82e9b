//! `file_search`: a text or pattern in files, or files by name.
//!
//! Binary files (a NUL in the first 8 KiB) and hidden files are skipped, `.gitignore` is obeyed, links are not followed.
//! Each file is opened through the policy, so what the policy hides is not found here either.

use std::io::Read;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, yes};
use crate::error::{Class, Error, Result};

/// The search tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "file_search",
    aliases: &["grep", "find_in_files"],
    category: "filesystem",
    summary: "search files by content, with context lines, or by name",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles],
    spellings: &[
        Spelling::Param("query", "pattern"),
        Spelling::Param("directory", "path"),
        Spelling::Param("regex", "use_regex"),
        Spelling::Param("glob", "name_pattern"),
    ],
    examples: &[
        example(
            "nothing in an empty folder",
            r#"{"pattern": "TODO", "path": "$TMP", "recursive": true}"#,
            r#"{"matches": [], "summary": {"total_matches": 0, "files_searched": 0, "has_matches": false}}"#,
        ),
        example("files by name", r#"{"name_pattern": "*.md", "path": "$TMP"}"#, r#"{"files": [], "truncated": false}"#),
        example(
            "a regular expression, case ignored",
            r#"{"pattern": "^fn \\w+", "use_regex": true, "case_sensitive": false, "path": "$TMP"}"#,
            r#"{"summary": {"files_skipped": 0}, "skipped_files": []}"#,
        ),
    ],
};

/// Most matches, found files and skipped files that are listed.
const MAX_ROWS: usize = 1000;
/// Longest line that is shown whole, characters.
const MAX_LINE: usize = 1000;
/// Where a NUL means binary, bytes.
const SNIFFED: usize = 8192;
/// Files between two reports of progress.
const REPORT: u64 = 500;

/// Finds a text or pattern in files, or files by name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to find in the files; may be left out to find files by `name_pattern`.
    #[schemars(length(min = 1))]
    pattern: Option<String>,
    /// Folder or file to search.
    #[schemars(length(min = 1))]
    path: String,
    /// Only files of this name, with `*`, `?`, `[…]` and `{…,…}`; with a `/` the path below `path` is compared.
    name_pattern: Option<String>,
    /// Whether to search the folders below.
    #[serde(default)]
    recursive: bool,
    /// Whether upper and lower case differ.
    #[serde(default = "yes")]
    case_sensitive: bool,
    /// Whether `pattern` is a regular expression (Rust `regex` syntax, line by line).
    #[serde(default)]
    use_regex: bool,
    /// Lines shown before and after each match.
    #[serde(default = "two")]
    #[schemars(range(max = 50))]
    context_lines: usize,
    /// Only files with these extensions: an array or a comma-separated text.
    include_extensions: Option<Listing>,
    /// No files with these extensions: an array or a comma-separated text.
    exclude_extensions: Option<Listing>,
    /// No folders of these names: an array or a comma-separated text.
    exclude_dirs: Option<Listing>,
    /// Larger files are skipped, bytes.
    #[serde(default = "ten_mib")]
    #[schemars(range(max = 1_073_741_824))]
    max_file_size: u64,
    /// Most matches in one file; 0: no limit.
    #[serde(default)]
    max_matches_per_file: usize,
    /// Deepest folder.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 100))]
    max_depth: usize,
    /// Whether files whose name begins with a dot are searched.
    #[serde(default)]
    include_hidden: bool,
    /// Whether what `.gitignore` and `.ignore` name is left out.
    #[serde(default = "yes")]
    respect_gitignore: bool,
}

fn two() -> usize {
    2
}

fn twenty() -> usize {
    20
}

fn ten_mib() -> u64 {
    10 << 20
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Listing {
    Text(String),
    List(Vec<String>),
}

impl Listing {
    /// The items, without blanks and leading dots.
    fn items(this: Option<Self>) -> Vec<String> {
        let items = match this {
            None => Vec::new(),
            Some(Listing::Text(text)) => text.split(',').map(str::to_owned).collect(),
            Some(Listing::List(items)) => items,
        };
        items.iter().map(|item| item.trim().to_lowercase()).filter(|item| !item.is_empty()).collect()
    }

    fn extensions(this: Option<Self>) -> Vec<String> {
        Self::items(this).iter().map(|item| item.trim_start_matches(['*', '.']).to_owned()).collect()
    }
}

/// What is looked for.
struct Wanted {
    pattern: Option<Regex>,
    name: Option<(GlobMatcher, bool)>,
    include: Vec<String>,
    exclude: Vec<String>,
    context: usize,
    most: usize,
    max_file_size: u64,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    matches: Vec<Value>,
    lines: Vec<String>,
    files: Vec<Value>,
    skipped: Vec<Value>,
    searched: u64,
    skipped_count: u64,
    truncated: bool,
}

/// Searches.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let given = PathBuf::from(&params.path);
    let root = call.readable(&params.path)?;
    let exclude_dirs = Listing::items(params.exclude_dirs);
    let wanted = Wanted {
        pattern: params
            .pattern
            .as_deref()
            .map(|text| pattern(text, params.use_regex, params.case_sensitive))
            .transpose()?,
        name: params.name_pattern.as_deref().map(|glob| name(glob, params.case_sensitive)).transpose()?,
        include: Listing::extensions(params.include_extensions),
        exclude: Listing::extensions(params.exclude_extensions),
        context: params.context_lines,
        most: if params.max_matches_per_file == 0 { usize::MAX } else { params.max_matches_per_file },
        max_file_size: params.max_file_size,
    };
    if wanted.pattern.is_none() && wanted.name.is_none() {
        return Err(Error::new(Class::Usage, "pattern: missing").hint("Give a pattern, a name_pattern, or both."));
    }
    let policy = call.policy.clone();
    let walk = WalkBuilder::new(&root)
        .follow_links(false)
        .hidden(!params.include_hidden)
        .git_ignore(params.respect_gitignore)
        .ignore(params.respect_gitignore)
        // A project's own rules only: nothing above the folder is read, no other configuration.
        .parents(false)
        .git_global(false)
        .git_exclude(false)
        .require_git(false)
        .max_depth(Some(if params.recursive { params.max_depth } else { 1 }))
        .sort_by_file_name(Ord::cmp)
        .filter_entry(move |entry| {
            let folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            let name = entry.file_name().to_string_lossy().to_lowercase();
            !folder || entry.depth() == 0 || !exclude_dirs.contains(&name) && policy.check_read(entry.path()).is_ok()
        })
        .build();
    let mut found = Found::default();
    let mut seen = 0;
    for entry in walk {
        call.check()?;
        let Ok(entry) = entry else { continue };
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        seen += 1;
        if seen % REPORT == 0 {
            call.progress(format!("{seen} files seen, {} matches", found.matches.len()));
        }
        let below = entry.path().strip_prefix(&root).unwrap_or(entry.path());
        let shown = if below.as_os_str().is_empty() { given.clone() } else { given.join(below) };
        if !wanted.file(entry.path(), below) {
            continue;
        }
        search(&wanted, entry.path(), &shown.to_string_lossy(), &mut found, call)?;
        if found.truncated {
            break;
        }
    }
    Ok(answer(found, &params.pattern, params.name_pattern.as_deref()))
}

fn answer(found: Found, pattern: &Option<String>, name: Option<&str>) -> Answer {
    let (count, searched) = (found.matches.len(), found.searched);
    let message = match (pattern, count) {
        (None, _) => format!("Found {} files. Name pattern: '{}'", found.files.len(), name.unwrap_or_default()),
        (Some(pattern), 0) => format!("No matches found in {searched} files searched. Search pattern: '{pattern}'"),
        (Some(pattern), _) => format!("Found {count} matches across {searched} files. Search pattern: '{pattern}'"),
    };
    let mut result = json!({
        "matches": found.matches,
        "summary": {
            "total_matches": count, "files_searched": searched, "files_skipped": found.skipped_count, "has_matches": count > 0,
        },
        "skipped_files": found.skipped,
        "truncated": found.truncated,
    });
    if pattern.is_none() {
        result["files"] = found.files.into();
    }
    Answer::new("search", result).message(message).text(found.lines.join("\n"))
}

fn pattern(text: &str, regex: bool, case_sensitive: bool) -> Result<Regex> {
    let source = if regex { text.to_owned() } else { regex::escape(text) };
    RegexBuilder::new(&source).case_insensitive(!case_sensitive).build().map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::new(Class::Usage, format!("pattern: {text:?} is not a regular expression: {reason}"))
    })
}

/// The matcher of a name, and whether it looks at the whole path.
fn name(glob: &str, case_sensitive: bool) -> Result<(GlobMatcher, bool)> {
    let built = GlobBuilder::new(glob).literal_separator(true).case_insensitive(!case_sensitive).build();
    let fault = |e: globset::Error| Error::new(Class::Usage, format!("name_pattern: {glob:?}: {}", e.kind()));
    Ok((built.map_err(fault)?.compile_matcher(), glob.contains('/')))
}

impl Wanted {
    /// Whether the name of this file is one to look at.
    fn file(&self, path: &Path, below: &Path) -> bool {
        let extension =
            path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
        let named = self.name.as_ref().is_none_or(|(glob, whole)| {
            let name = if *whole { below } else { Path::new(path.file_name().unwrap_or_default()) };
            glob.is_match(name)
        });
        named && (self.include.is_empty() || self.include.contains(&extension)) && !self.exclude.contains(&extension)
    }
}

/// Looks into one file.
fn search(wanted: &Wanted, path: &Path, shown: &str, found: &mut Found, call: &Call) -> Result<()> {
    let Some(pattern) = &wanted.pattern else {
        let size = path.symlink_metadata().map_or(0, |metadata| metadata.len());
        if found.files.len() == MAX_ROWS {
            found.truncated = true;
        } else {
            found.files.push(json!({"file_path": shown, "size": size}));
            found.lines.push(shown.to_owned());
        }
        return Ok(());
    };
    let text = match content(wanted, path, call)? {
        Ok(text) => text,
        Err(reason) => {
            found.skipped_count += 1;
            if found.skipped.len() < MAX_ROWS {
                found.skipped.push(json!({"file_path": shown, "reason": reason}));
            }
            return Ok(());
        }
    };
    found.searched += 1;
    let lines: Vec<_> = text.lines().collect();
    let mut count = 0;
    for (index, line) in lines.iter().enumerate() {
        if index % 4096 == 0 {
            call.check()?;
        }
        // Counted on from the last hit: a line can be the whole file.
        let (mut column, mut from) = (1, 0);
        for hit in pattern.find_iter(line) {
            if count == wanted.most {
                return Ok(());
            }
            if found.matches.len() == MAX_ROWS {
                found.truncated = true;
                return Ok(());
            }
            count += 1;
            column += line[from..hit.start()].chars().count();
            from = hit.start();
            let around = |lines: &[&str]| lines.iter().map(|line| clip(line)).collect::<Vec<_>>();
            let after = (index + 1).min(lines.len())..(index + 1 + wanted.context).min(lines.len());
            found.matches.push(json!({
                "file_path": shown,
                "line_number": index + 1,
                "column_number": column,
                "line_content": clip(line),
                "matched_text": clip(hit.as_str()),
                "context_before": around(&lines[index.saturating_sub(wanted.context)..index]),
                "context_after": around(&lines[after]),
            }));
            found.lines.push(format!("{shown}:{}:{}", index + 1, clip(line)));
        }
    }
    Ok(())
}

/// The text of a file, or why it is skipped.
fn content(wanted: &Wanted, path: &Path, call: &Call) -> Result<Result<String, String>> {
    let file = match call.policy.open_read(path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error.text().to_owned())),
    };
    let mut bytes = Vec::new();
    let read = file.take(wanted.max_file_size.saturating_add(1)).read_to_end(&mut bytes);
    call.check()?;
    Ok(match read {
        Err(error) => Err(crate::error::reason(&error)),
        Ok(_) if bytes.len() as u64 > wanted.max_file_size => {
            Err(format!("larger than {} bytes", wanted.max_file_size))
        }
        Ok(_) if bytes[..bytes.len().min(SNIFFED)].contains(&0) => Err("binary".to_owned()),
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

/// `line`, cut when it is very long.
fn clip(line: &str) -> String {
    match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use crate::security::{Grants, Policy, Profile};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    fn folder() -> (tempfile::TempDir, Call) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root/sub", "root/target", "outside", "root/private"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let write = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
        write("root/a.txt", b"one\nTODO two\nthree todo TODO\nfour\n");
        write("root/sub/b.rs", "ä TODO\n".as_bytes());
        write("root/binary", b"TODO\0");
        write("root/.hidden", b"TODO\n");
        write("root/target/c.txt", b"TODO\n");
        write("root/.gitignore", b"target/\n");
        write("root/private/key", b"TODO\n");
        write("outside/secret", b"TODO\n");
        symlink(dir.path().join("outside"), dir.path().join("root/out")).unwrap();
        symlink(dir.path().join("outside/secret"), dir.path().join("root/link")).unwrap();
        let root = dir.path().join("root");
        let grants = Grants {
            profile: Profile::Safe,
            workdir: root.clone(),
            hidden: vec![root.join("private")],
            read: vec![root],
            ..Grants::default()
        };
        (dir, Call::new(Arc::new(Policy::new(grants))))
    }

    fn run(call: &Call, params: Value) -> Result<Value> {
        Registry::new().invoke("file_search", params, call)
    }

    #[test]
    fn matches_have_place_and_context_and_only_what_may_be_read_is_read() {
        let (_dir, call) = folder();
        let all = run(&call, json!({"pattern": "TODO", "path": ".", "recursive": true, "context_lines": 1})).unwrap();
        let result = &all["result"];
        let places = result["matches"].as_array().unwrap().iter();
        let places: Vec<_> = places.map(|m| json!([m["file_path"], m["line_number"], m["column_number"]])).collect();
        assert_eq!(json!(places), json!([["./a.txt", 2, 1], ["./a.txt", 3, 12], ["./sub/b.rs", 1, 3]]));
        assert_eq!(result["matches"][0]["context_before"], json!(["one"]));
        assert_eq!(result["matches"][0]["context_after"], json!(["three todo TODO"]));
        assert_eq!(result["skipped_files"], json!([{"file_path": "./binary", "reason": "binary"}]));
        assert_eq!(result["summary"]["files_searched"], 2);
        assert_eq!(all["message"], "Found 3 matches across 2 files. Search pattern: 'TODO'");
        assert!(all["text"].as_str().unwrap().starts_with("./a.txt:2:TODO two\n"));
    }

    #[test]
    fn filters_work_alone_and_together() {
        let (_dir, call) = folder();
        let count = |extra: Value| {
            let mut params = json!({"pattern": "todo", "path": ".", "recursive": true});
            params.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            run(&call, params).unwrap()["result"]["summary"]["total_matches"].as_u64().unwrap()
        };
        assert_eq!(count(json!({})), 1);
        assert_eq!(count(json!({"case_sensitive": false})), 4);
        assert_eq!(count(json!({"case_sensitive": false, "recursive": false})), 3);
        assert_eq!(count(json!({"case_sensitive": false, "max_matches_per_file": 1})), 2);
        assert_eq!(count(json!({"case_sensitive": false, "include_extensions": ".rs, md"})), 1);
        assert_eq!(count(json!({"case_sensitive": false, "exclude_extensions": ["txt"]})), 1);
        assert_eq!(count(json!({"case_sensitive": false, "exclude_dirs": "sub"})), 3);
        assert_eq!(count(json!({"case_sensitive": false, "respect_gitignore": false})), 5);
        assert_eq!(count(json!({"case_sensitive": false, "include_hidden": true, "name_pattern": ".h*"})), 1);
        assert_eq!(count(json!({"case_sensitive": false, "max_file_size": 10})), 1);
        assert_eq!(count(json!({"pattern": "t[a-z]+o$", "use_regex": true, "case_sensitive": false})), 3);
    }

    #[test]
    fn files_are_found_by_name() {
        let (_dir, call) = folder();
        let found = run(&call, json!({"name_pattern": "*.{txt,rs}", "path": ".", "recursive": true})).unwrap();
        assert_eq!(found["text"], "./a.txt\n./sub/b.rs");
        let found = run(&call, json!({"name_pattern": "sub/*", "path": ".", "recursive": true})).unwrap();
        assert_eq!(found["result"]["files"], json!([{"file_path": "./sub/b.rs", "size": 8}]));
        let found = run(&call, json!({"name_pattern": "key", "path": ".", "recursive": true})).unwrap();
        assert_eq!(found["result"]["files"], json!([]), "hidden by the policy");
    }

    #[test]
    fn faults_are_told() {
        let (dir, call) = folder();
        let error = run(&call, json!({"pattern": "(", "use_regex": true, "path": "."})).unwrap_err();
        assert_eq!(error.class(), Class::Usage, "{error}");
        assert!(error.text().contains("unclosed group"), "{error}");
        assert_eq!(run(&call, json!({"path": "."})).unwrap_err().class(), Class::Usage);
        assert_eq!(run(&call, json!({"pattern": "x", "path": "absent"})).unwrap_err().class(), Class::NotFound);
        let outside = dir.path().join("outside").display().to_string();
        assert_eq!(run(&call, json!({"pattern": "x", "path": outside})).unwrap_err().class(), Class::Denied);
    }

    #[test]
    fn more_than_fits_is_marked() {
        let (dir, call) = folder();
        fs::write(dir.path().join("root/many"), "x\n".repeat(MAX_ROWS + 1)).unwrap();
        let result = run(&call, json!({"pattern": "x", "path": "many"})).unwrap();
        assert_eq!(result["result"]["truncated"], true);
        assert_eq!(result["result"]["matches"].as_array().unwrap().len(), MAX_ROWS);
        assert_eq!(result["result"]["matches"][0]["file_path"], "many");
    }
}
