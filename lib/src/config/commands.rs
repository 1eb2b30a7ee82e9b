//! `config show`, `check`, `init` and `migrate`: text in, text out; the programs print it.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::json;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::former;
use super::keys::{self, KEYS, Key, Kind};
use super::load::{self, Loaded, Sources};
use super::read::{self, Problem};
use crate::error::{Class, Error, Result, nearest};
use crate::home;

/// The effective configuration, each value with its origin, secrets hidden; all of it, or one section or key.
/// With `json` one object: key → `{"value": …, "origin": …}`.
///
/// # Errors
/// `NotFound` for a section or key nobody knows.
pub fn show(loaded: &Loaded, section: Option<&str>, json: bool) -> Result<String> {
    let within = |path: &str| {
        section.is_none_or(|section| {
            path == section || path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let (sections, keys) = &*KEYS;
    let values = Table::try_from(&loaded.config).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
    // Each key as a path; one of a section with a free name for each such section.
    let named = |key: &Key| match key.path.split_once(".*.") {
        Some((all, name)) => match values.get(all) {
            Some(Value::Table(table)) => {
                table.keys().map(|one| vec![all.to_owned(), one.clone(), name.to_owned()]).collect()
            }
            _ => Vec::new(),
        },
        None => vec![keys::split(&key.path)],
    };
    let mut rows: Vec<_> = keys.iter().flat_map(|key| named(key).into_iter().map(move |path| (path, key))).collect();
    // Sections of one kind stand one behind the other; the rest keeps its order.
    rows.sort_by_cached_key(|(path, key)| key.is_of_any().then(|| path[..path.len() - 1].to_vec()));
    if let Some(section) = section.filter(|_| !rows.iter().any(|(path, _)| within(&keys::dotted(path)))) {
        let paths = sections.iter().map(|s| &s.path[..]).chain(keys.iter().map(|key| &key.path[..]));
        let meant = nearest(section, paths).map_or_else(String::new, |near| format!("; did you mean {near}?"));
        return Err(Error::new(Class::NotFound, format!("config {section}: no such section or key{meant}")));
    }
    let mut object = serde_json::Map::new();
    let (mut text, mut open) = (String::new(), String::new());
    for (path, key) in rows.iter().filter(|(path, _)| within(&keys::dotted(path))) {
        let section = keys::dotted(&path[..path.len() - 1]);
        if section != open {
            open = section;
            let _ = writeln!(text, "{}[{open}]", if text.is_empty() { "" } else { "\n" });
        }
        for (path, value) in entries(key, path, &values) {
            let value = if keys::is_secret(&path) { Value::String("<redacted>".into()) } else { value };
            let dotted = keys::dotted(&path);
            let origin = loaded.origin(&dotted);
            let depth = key.path.split('.').count() - 1;
            let _ = writeln!(text, "{} = {value}  # {origin}", keys::dotted(&path[depth..]));
            object.insert(dotted, json!({"value": value, "origin": origin.to_string()}));
        }
    }
    match json {
        true => serde_json::to_string_pretty(&object)
            .map(|text| text + "\n")
            .map_err(|e| Error::new(Class::Bug, e.to_string())),
        false => Ok(text),
    }
}

/// What is set under `key`, which stands at `path`: its value, or each entry of its table.
fn entries(key: &Key, path: &[String], values: &Table) -> Vec<(Vec<String>, Value)> {
    match load::get(values, path) {
        Some(Value::Table(map)) if key.kind == Kind::Map => {
            let entry = |(name, value): (&String, &Value)| ([path, std::slice::from_ref(name)].concat(), value.clone());
            map.iter().map(entry).collect()
        }
        Some(value) => vec![(path.to_vec(), value.clone())],
        None => Vec::new(),
    }
}

/// Everything there is to say about the configuration.
#[derive(Debug)]
pub struct Checked {
    /// What is wrong; with any, programs do not start.
    pub problems: Vec<Problem>,
    /// What has no effect.
    pub warnings: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "error: {problem}")?;
            problem.hint.iter().try_for_each(|hint| writeln!(f, "  {hint}"))?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))?;
        if self.problems.is_empty() {
            let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
            writeln!(f, "ok: {}", if files.is_empty() { "no file, defaults only".into() } else { files.join(", ") })?;
        }
        Ok(())
    }
}

/// Reads every layer and lists all problems. For one file set `sources.file`.
#[must_use]
pub fn check(sources: &Sources) -> Checked {
    let loaded = load::load(sources);
    Checked { problems: loaded.problems, warnings: loaded.warnings, files: loaded.files }
}

/// The documented default file: every key with its default, commented out as `#key = value`; text is `# text`.
#[must_use]
pub fn default_file() -> String {
    let mut text = String::from(
        "# Configuration of llmspell. Every key stands here with its default; remove the # before a key to change it.\n\
         # llmspell.toml(5) explains files, environment and trust.\n",
    );
    let (sections, keys) = &*KEYS;
    let top = keys::Section { path: String::new(), doc: String::new() };
    for section in std::iter::once(&top).chain(sections) {
        let mut keys = keys.iter().filter(|key| key.section() == section.path).peekable();
        if keys.peek().is_none() {
            continue;
        }
        // A section with a free name is an example only.
        let (mark, header) = match section.path.strip_suffix(".*") {
            Some(all) => ("# ", format!("# [{all}.NAME]")),
            None => ("#", format!("[{}]", section.path)),
        };
        if !section.path.is_empty() {
            let _ = writeln!(text, "\n# {}\n{header}", section.doc);
        }
        for key in keys {
            text.push_str(if mark == "#" { "\n" } else { "#\n" });
            wrap(&key.doc, &mut text);
            let _ = match (&key.default, key.example()) {
                (Some(Value::Table(_)), _) => writeln!(text, "{mark}{} = {{}}", key.name()),
                (Some(default), _) => writeln!(text, "{mark}{} = {default}", key.name()),
                (None, like) => {
                    writeln!(text, "# Not set; for example {} = {}", key.name(), like.unwrap_or_default())
                }
            };
        }
    }
    text
}

/// `doc` as comment lines of at most 100 bytes.
fn wrap(doc: &str, text: &mut String) {
    let options = textwrap::Options::new(100).initial_indent("# ").subsequent_indent("# ");
    textwrap::wrap(doc, options).iter().for_each(|line| text.extend([line, "\n"]));
}

/// Writes [`default_file`] to `path`, readable by the user only.
///
/// # Errors
/// `Conflict` when there is one and not `force`; else what the system said.
pub fn init(path: &Path, force: bool) -> Result<()> {
    if !force && fs::symlink_metadata(path).is_ok() {
        return Err(Error::new(Class::Conflict, format!("{}: exists", path.display())).hint("--force writes over it."));
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
        home::private_dir(dir)?;
    }
    home::write_private(path, default_file().as_bytes())
}

/// The file rewritten for this version: renamed keys renamed, what has no effect commented out with the reason.
/// With `write` it replaces the file, whose old content stays beside it as `.bak`.
///
/// # Errors
/// `Config` when it is not TOML or a key to drop shares a line with one to keep, `Conflict` when there is a `.bak`.
pub fn migrate(path: &Path, write: bool) -> Result<String> {
    let io = |error| Error::io(path, error);
    let old = fs::read_to_string(path).map_err(io)?;
    let new = migrate_text(&old).map_err(|error| error.within(format!("config {}", path.display())))?;
    if write && new != old {
        let mut backup = path.as_os_str().to_owned();
        backup.push(".bak");
        let backup = PathBuf::from(backup);
        if backup.exists() {
            return Err(
                Error::new(Class::Conflict, format!("{}: exists", backup.display())).hint("Move it away first.")
            );
        }
        fs::copy(path, &backup).map_err(|error| Error::io(&backup, error))?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(io)?;
        file.write_all(new.as_bytes()).map_err(io)?;
        let mode = fs::metadata(path).map_err(io)?.permissions();
        file.as_file().set_permissions(mode).map_err(io)?;
        file.persist(path).map_err(|error| Error::io(path, error.error))?;
    }
    Ok(new)
}

/// [`migrate`] without the file.
pub(super) fn migrate_text(old: &str) -> Result<String> {
    let old = &flat(old);
    let found = read::read(old);
    if let Some((line, _, text, _)) = found.wrong.iter().find(|(_, key, ..)| key.is_none()) {
        return Err(Error::new(Class::Config, format!("line {line}: {text}")));
    }
    let (mut comments, mut edits, mut expected) = (Vec::new(), Vec::new(), found.settings.len());
    let mut elsewhere = String::new();
    for dropped in &found.dropped {
        let is_new = |path: &[String]| !found.settings.iter().any(|setting| setting.path == path);
        match (dropped.moved(), &dropped.spans[..]) {
            (Some((path, Some(value))), [span]) if is_new(&path) && path.first() == dropped.path.first() => {
                let name = path.last().map_or("", |name| name);
                edits.push((span.clone(), format!("{name} = {value}")));
                expected += 1;
            }
            (to, spans) => {
                // It stands in another section now; one that is there already is for its owner to change.
                if let Some((path, Some(value))) =
                    to.filter(|(path, _)| !found.settings.iter().any(|s| s.path[0] == path[0]))
                {
                    let (name, section) =
                        path.split_last().map_or(("", &[][..]), |(name, section)| (&name[..], section));
                    let _ = write!(elsewhere, "\n[{}]\n{name} = {value}\n", keys::dotted(section));
                    expected += 1;
                }
                let why = dropped.note().unwrap_or_else(|| format!("{}: unknown key", keys::dotted(&dropped.path)));
                comments.extend(spans.iter().map(|span| (span.clone(), why.clone())));
            }
        }
    }
    let new = rewrite(old, &found.spans, &comments, &edits) + &elsewhere;
    let again = read::read(&new);
    let kept =
        |setting: &read::Setting| again.settings.iter().any(|s| s.path == setting.path && s.value == setting.value);
    let readable = again.wrong.iter().all(|(_, key, ..)| key.is_some());
    if readable && again.dropped.is_empty() && again.settings.len() == expected && found.settings.iter().all(kept) {
        return Ok(new);
    }
    let line = again.dropped.first().or(found.dropped.first()).map_or(1, |dropped| dropped.line);
    Err(Error::new(Class::Config, format!("line {line}: what to drop shares a line with what to keep"))
        .hint("Write these keys on lines of their own and try again."))
}

/// Headers of sections that moved up, in their place of today.
fn flat(old: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix("[providers.providers.") {
        Some(rest) => format!("[providers.{rest}"),
        None => line.to_owned(),
    };
    old.split_inclusive('\n').map(line).collect()
}

/// `old` with the lines of `comments` commented out and `edits` made.
fn rewrite(
    old: &str,
    spans: &[Range<usize>],
    comments: &[(Range<usize>, String)],
    edits: &[(Range<usize>, String)],
) -> String {
    let (mut new, mut start, mut last) = (String::new(), 0, "");
    for line in old.split_inclusive('\n') {
        let end = start + line.len();
        let covers = |span: &Range<usize>| span.start < end && span.end > start;
        if let Some((span, why)) = comments.iter().find(|(span, _)| covers(span)) {
            if span.start >= start && why != last {
                let _ = writeln!(new, "# llmspell: {why}");
            }
            last = why;
            let _ = write!(new, "# {line}");
        } else if let Some((span, text)) = edits.iter().find(|(span, _)| covers(span)) {
            let _ = write!(new, "{}{text}{}", &old[start..span.start], &old[span.end..end]);
        } else if !spans.iter().any(covers) && is_dropped_header(line) {
            let _ = write!(new, "# {line}");
        } else {
            new.push_str(line);
        }
        start = end;
    }
    new
}

/// Whether `line` opens a section this version does not have.
fn is_dropped_header(line: &str) -> bool {
    if !line.trim_start().starts_with('[') {
        return false;
    }
    let Ok(table) = DeTable::parse(line) else { return false };
    let mut path = Vec::new();
    let mut inner = table.get_ref().iter().next();
    while let Some((name, value)) = inner {
        path.push(name.get_ref().to_string());
        inner = match value.get_ref() {
            DeValue::Table(table) => table.iter().next(),
            _ => None,
        };
    }
    let (row, on_the_way) = former::find(&path);
    !path.is_empty() && keys::find(&path).is_none() && (row.is_some() || !on_the_way)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::load::tests::fresh;
    use super::*;

    #[test]
    fn the_default_file_equals_the_defaults() {
        let (dir, mut sources) = fresh();
        let path = dir.path().join("new/config.toml");
        init(&path, false).unwrap();
        assert_eq!(init(&path, false).unwrap_err().class(), Class::Conflict);
        init(&path, true).unwrap();
        sources.file = Some(path.clone());
        let loaded = Config::load(&sources).unwrap();
        assert_eq!((loaded.config, loaded.origins.len(), loaded.warnings.len()), (Config::default(), 0, 0));
        let bare = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest.to_owned() + "\n",
            _ => line.to_owned() + "\n",
        };
        fs::write(&path, default_file().lines().map(bare).collect::<String>()).unwrap();
        let loaded = Config::load(&sources).unwrap();
        assert_eq!(loaded.config, Config::default());
        let set = KEYS.1.iter();
        let set = set.filter(|key| key.default.is_some() && key.kind != Kind::Map && !key.is_of_any()).count();
        assert_eq!(loaded.origins.len(), set);
    }

    #[test]
    fn show_is_toml_with_origins_and_without_secrets() {
        let (_dir, sources) = fresh();
        let text = "[kernel]\ngrace = 9\n[log.modules]\n\"llmspell::engine\" = 'debug'\n[tools.http_request.default_headers]\nAuthorization = 'Bearer x'";
        fs::write(sources.home.config_file(), text).unwrap();
        let loaded = Config::load(&sources).unwrap();
        let all = show(&loaded, None, false).unwrap();
        assert!(all.contains("grace = \"9s\"  # ~/.llmspell/config.toml:2\n"), "{all}");
        assert!(all.contains("modules.\"llmspell::engine\" = \"debug\"  # ~/.llmspell/config.toml:4\n"), "{all}");
        assert!(all.contains("default_headers.Authorization = \"<redacted>\"") && !all.contains("Bearer"), "{all}");
        assert!(read::read(&all).wrong.is_empty(), "{all}");
        let part = show(&loaded, Some("kernel.tools"), false).unwrap();
        assert!(part.starts_with("[kernel.tools]\nenable_tool_cli = true  # default\n"), "{part}");
        let json: serde_json::Value = serde_json::from_str(&show(&loaded, Some("kernel"), true).unwrap()).unwrap();
        assert_eq!(json["kernel.grace"]["value"], "9s");
        assert_eq!(show(&loaded, Some("kernel.tool"), false).unwrap_err().class(), Class::NotFound);
    }

    #[test]
    fn check_lists_every_problem() {
        let (_dir, sources) = fresh();
        fs::write(sources.home.config_file(), "kernel.grace = 'x'\nfoo = 1\n[rag]\n").unwrap();
        let checked = check(&sources);
        assert_eq!((checked.problems.len(), checked.warnings.len()), (2, 1), "{checked}");
        assert!(checked.to_string().contains("warning: config ~/.llmspell/config.toml:3: rag: not in this version\n"));
    }

    const OLD: &str = r#"# my settings
default_engine = "lua"

[engines.lua]
timeout_ms = 1500 # quick
stdlib = "All"

[providers]
default_provider = "openai"

[providers.providers.openai]
api_key = """
secret
[kernel]
"""
[providers.providers.openai.retry]

[runtime.security]
allow_file_access = true

[tools.file_operations]
allowed_paths = [
  "/tmp", # here
]
max_depth = 10
blocked_extensions = [
  "exe",
]

[tools.web_search]
max_results = 3

[[rag.sources]]
a = 1

[kernel.tools]
tool_timeout = "20s"
"#;

    #[test]
    fn migrate_keeps_what_counts_and_comments_the_rest() {
        let new = migrate_text(OLD).unwrap();
        assert!(new.contains("timeout = \"1500ms\" # quick\n"), "{new}");
        assert!(
            new.contains(
                "# llmspell: engines.lua.stdlib: every script has the safe standard library\n# stdlib = \"All\"\n"
            ),
            "{new}"
        );
        assert!(
            new.contains(
                "[providers.openai]\napi_key = \"\"\"\nsecret\n[kernel]\n\"\"\"\n# [providers.openai.retry]\n"
            ),
            "{new}"
        );
        assert!(new.contains("allowed_paths = [\n  \"/tmp\", # here\n]\n"), "{new}");
        let found = read::read(&new);
        assert_eq!((found.settings.len(), found.dropped.len(), found.wrong.len()), (7, 0, 0), "{new}");
        assert!(new.ends_with("\n[models]\ndefault = \"openai\"\n"), "{new}");
        assert_eq!(migrate_text(&new).unwrap(), new);
        let error =
            migrate_text("tools = { web_search = { user_agent = 1 }, file_operations = { atomic_writes = true } }")
                .unwrap_err();
        assert!(error.text().starts_with("line 1: what to drop"), "{error}");
    }

    #[test]
    fn migrate_keeps_a_backup_and_the_mode() {
        let (dir, _) = fresh();
        let path = dir.path().join("old.toml");
        fs::write(&path, OLD).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions();
        let new = migrate(&path, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), new);
        assert_eq!(fs::read_to_string(dir.path().join("old.toml.bak")).unwrap(), OLD);
        assert_eq!(fs::metadata(&path).unwrap().permissions(), mode);
        fs::write(&path, OLD).unwrap();
        assert_eq!(migrate(&path, true).unwrap_err().class(), Class::Conflict);
    }

    #[test]
    fn examples_parse_without_warnings() {
        let (_dir, mut sources) = fresh();
        for name in ["openai", "anthropic", "local"] {
            sources.file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/config/{name}.toml")));
            let checked = check(&sources);
            assert!(checked.problems.is_empty() && checked.warnings.is_empty(), "{checked}");
        }
    }
}
