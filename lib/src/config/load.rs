//! The layers, merged key by key: defaults < `/etc` < user < project < environment < flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;
use super::former;
use super::keys::{self, KEYS, Key, Node};
use super::read::{self, Problem};
use super::trust::{self, State};
use crate::error::{Class, Error, Result, nearest, reason};
use crate::home::Home;

/// Largest file that is taken for a configuration.
const LARGEST: u64 = 1 << 20;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Holds `config.toml` and the list of trusted folders.
    pub home: Home,
    /// The folder whose `llmspell.toml` is read; relative paths of the environment and of flags start here.
    pub dir: PathBuf,
    /// `/etc/llmspell/config.toml`
    pub system: PathBuf,
    /// The only file to read, if one was named with `--config`; `$LLMSPELL_CONFIG` counts when it was not.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Key, value and the flag that set it.
    pub flags: Vec<(String, Value, String)>,
}

impl Sources {
    /// What this process has: its environment, its working folder, no flags.
    ///
    /// # Errors
    /// `Config` when there is no home, or what the system said of the working folder.
    pub fn of_process() -> Result<Self> {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Ok(Sources {
            home: Home::find()?,
            dir: std::env::current_dir().map_err(|e| Error::system("working folder", e))?,
            system: "/etc/llmspell/config.toml".into(),
            file: None,
            env: std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(),
            flags: Vec::new(),
        })
    }

    fn var(&self, name: &str) -> Option<&str> {
        let mut vars = self.env.iter().filter(|(var, value)| var == name && !value.is_empty());
        vars.next().map(|(_, value)| &value[..])
    }

    /// The path behind `~/…`.
    fn expand(&self, path: &str, base: &Path) -> PathBuf {
        match (path.strip_prefix('~'), self.var("HOME")) {
            (Some(""), Some(home)) => home.into(),
            (Some(rest), Some(home)) if rest.starts_with('/') => Path::new(home).join(&rest[1..]),
            _ => base.join(path),
        }
    }

    /// `path` as people write it.
    fn show(&self, path: &Path) -> String {
        if path == self.dir.join(trust::FILE) {
            return format!("./{}", trust::FILE);
        }
        match self.var("HOME").and_then(|home| path.strip_prefix(home).ok()) {
            Some(rest) => format!("~/{}", rest.display()),
            None => path.display().to_string(),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// A file, as people write it, and the line.
    File(String, usize),
    /// An environment variable.
    Env(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(file, line) => write!(f, "{file}:{line}"),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// The effective configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values; paths are absolute.
    pub config: Config,
    /// Where each value that is no default comes from, by key.
    pub origins: BTreeMap<String, Origin>,
    /// What to tell the user: lines without the program's name.
    pub warnings: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// Whether the project's file is trusted.
    pub project: State,
    /// Where this process was started.
    pub dir: PathBuf,
    /// What is wrong and was left out; empty after [`Config::load`].
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// Where the value of `key` comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or_default()
    }
}

/// Keys whose values are new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// They are in force.
    pub applied: Vec<String>,
    /// They wait for the next start.
    pub waiting: Vec<String>,
}

/// `old` with those values of `new` that may change while a kernel runs.
pub(super) fn merge(old: &Config, new: &Config) -> (Config, Changes) {
    let mut changes = Changes::default();
    let (Ok(mut table), Ok(wanted)) = (Table::try_from(old), Table::try_from(new)) else {
        return (old.clone(), changes);
    };
    for key in &KEYS.1 {
        let path = keys::split(&key.path);
        let (is, wants) = (get(&table, &path), get(&wanted, &path));
        if is == wants {
            continue;
        }
        match wants {
            Some(value) if key.live => {
                set(&mut table, &path, value.clone());
                changes.applied.push(key.path.clone());
            }
            _ => changes.waiting.push(key.path.clone()),
        }
    }
    if old.providers != new.providers {
        changes.waiting.push("providers".into());
    }
    (Config::deserialize(Value::Table(table)).unwrap_or_else(|_| old.clone()), changes)
}

/// Reads every layer; what is wrong is left out and listed.
pub(super) fn load(sources: &Sources) -> Loaded {
    let mut layers = Layers::new(sources);
    let asked =
        sources.file.clone().or_else(|| sources.var("LLMSPELL_CONFIG").map(|file| sources.expand(file, &sources.dir)));
    match asked {
        Some(file) => layers.file(&sources.dir.join(file), Role::Required),
        None => {
            layers.file(&sources.system, Role::Optional);
            layers.file(&sources.home.config_file(), Role::Optional);
            layers.file(&sources.dir.join(trust::FILE), Role::Project);
        }
    }
    // A service's own, which nobody else can read: keys of model services, for one.
    if let Some(dir) = sources.var("CREDENTIALS_DIRECTORY").map(Path::new).filter(|dir| dir.is_absolute()) {
        layers.file(&dir.join(trust::FILE), Role::Optional);
    }
    layers.env();
    layers.flags();
    layers.finish()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Named by the user: must be there.
    Required,
    /// May be missing.
    Optional,
    /// May be missing, and may be somebody else's.
    Project,
}

struct Layers<'a> {
    sources: &'a Sources,
    table: Table,
    origins: BTreeMap<String, Origin>,
    warnings: Vec<String>,
    warned: BTreeSet<&'static str>,
    problems: Vec<Problem>,
    files: Vec<PathBuf>,
    project: State,
}

impl<'a> Layers<'a> {
    fn new(sources: &'a Sources) -> Self {
        Layers {
            sources,
            table: Table::try_from(Config::default()).unwrap_or_default(),
            origins: BTreeMap::new(),
            warnings: Vec::new(),
            warned: BTreeSet::new(),
            problems: Vec::new(),
            files: Vec::new(),
            project: State::Absent,
        }
    }

    fn file(&mut self, path: &Path, role: Role) {
        let shown = self.sources.show(path);
        let text = match contents(path, role) {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(text) => {
                let mut problem = Problem::new(format!("config {shown}"), None, text);
                problem.hint = (role == Role::Required).then(|| "llmspell-kernel config init writes one.".into());
                return self.problems.push(problem);
            }
        };
        self.files.push(path.to_path_buf());
        let base = path.parent().unwrap_or(Path::new("/"));
        let trusted = role != Role::Project || {
            self.project = trust::state(&self.sources.home, base, text.as_bytes());
            self.project == State::Trusted
        };
        let found = read::read(&text);
        for (line, key, text, hint) in found.wrong {
            let mut problem = Problem::new(format!("config {shown}:{line}"), key, text);
            problem.hint = hint;
            self.problems.push(problem);
        }
        for dropped in found.dropped {
            let (Some(row), Some(note)) = (dropped.row, dropped.note()) else { continue };
            if self.warned.insert(row.path) {
                self.warnings.push(format!("config {shown}:{}: {note}", dropped.line));
            }
            let Some((path, value)) = dropped.moved() else { continue };
            let (Some(Node::Key(key)), Some(value)) = (keys::find(&path), value.or(dropped.value)) else { continue };
            // The new name beside the old one goes before it.
            if !found.settings.iter().any(|setting| setting.path == path) {
                let origin = Origin::File(shown.clone(), dropped.line);
                self.offer(trusted, key, &path, value, origin, base);
            }
        }
        for setting in found.settings {
            let origin = Origin::File(shown.clone(), setting.line);
            self.offer(trusted, setting.key, &setting.path, setting.value, origin, base);
        }
    }

    /// Sets a value of a file, or tells why not.
    fn offer(&mut self, trusted: bool, key: &Key, path: &[String], value: Value, origin: Origin, base: &Path) {
        let value = self.absolute(key, value, base);
        if trusted || self.permits(key, path, &value, base) {
            return self.put(key, path, value, origin, base);
        }
        let folder = match self.project {
            State::Changed => "whose file changed since it was trusted",
            _ => "that is not trusted",
        };
        let key = keys::dotted(path);
        self.warnings
            .push(format!("config {origin}: {key}: not taken from a folder {folder}; llmspell-run --trust allows it"));
    }

    /// Whether an untrusted project may say this.
    fn permits(&self, key: &Key, path: &[String], value: &Value, base: &Path) -> bool {
        let now = get(&self.table, path);
        match key.project.as_deref() {
            Some("free") => true,
            Some("less") => rank(value) <= now.and_then(rank) && rank(value).is_some(),
            Some("subset") => {
                let now = now.and_then(Value::as_array).map_or(&[][..], |now| now);
                let all = now.iter().any(|item| item.as_str() == Some("*"));
                value.as_array().is_some_and(|items| items.iter().all(|item| all && !key.is_path || now.contains(item)))
            }
            Some("inside") => {
                let items = value.as_array().map_or(std::slice::from_ref(value), |items| items);
                let real = fs::canonicalize(base);
                items.iter().all(|item| match (&real, item.as_str().map(fs::canonicalize)) {
                    (Ok(base), Some(Ok(path))) => path.starts_with(base),
                    _ => false,
                })
            }
            _ => false,
        }
    }

    /// `value` with its paths made absolute.
    fn absolute(&self, key: &Key, value: Value, base: &Path) -> Value {
        match value {
            Value::String(path) if key.is_path => {
                Value::String(self.sources.expand(&path, base).to_string_lossy().into_owned())
            }
            Value::Array(items) if key.is_path => {
                Value::Array(items.into_iter().map(|item| self.absolute(key, item, base)).collect())
            }
            value => value,
        }
    }

    /// Sets a value that was checked.
    fn put(&mut self, key: &Key, path: &[String], value: Value, origin: Origin, base: &Path) {
        let value = self.absolute(key, value, base);
        if let Err(text) = key.check(path, &value) {
            let (place, name, class) = match &origin {
                Origin::Flag(flag) => (flag.clone(), None, Class::Usage),
                Origin::Env(name) => (format!("environment {name}"), None, Class::Config),
                origin => (format!("config {origin}"), Some(keys::dotted(path)), Class::Config),
            };
            let hint = key.example().map(|like| format!("Write it like {like}."));
            return self.problems.push(Problem { place, key: name, text, hint, class });
        }
        let value = match (key.adds, get(&self.table, path), value) {
            (true, Some(Value::Array(now)), Value::Array(more)) => {
                let mut items = now.clone();
                items.extend(more.into_iter().filter(|item| !now.contains(item)));
                Value::Array(items)
            }
            (_, _, value) => value,
        };
        set(&mut self.table, path, value);
        self.origins.insert(keys::dotted(path), origin);
    }

    fn env(&mut self) {
        let sources = self.sources;
        let by_name = |name: &str| KEYS.1.iter().find(|key| key.variable().as_deref() == Some(name));
        let by_old_name = |name: &str| {
            let (_, path) = former::VARIABLES.iter().find(|(old, _)| *old == name)?;
            KEYS.1.iter().find(|key| key.path == *path)
        };
        let ours = |name: &str| name.starts_with("LLMSPELL_") && !former::OTHER_VARIABLES.contains(&name);
        let mut vars: Vec<_> = sources.env.iter().filter(|(name, value)| ours(name) && !value.is_empty()).collect();
        // Old names first, so that the systematic ones win.
        vars.sort_by_key(|(name, _)| (by_name(name).is_some(), name));
        for (name, text) in vars {
            let Some(key) = by_name(name).or_else(|| by_old_name(name)) else {
                match former::provider_variable(name) {
                    Some((provider, key)) => self.provider(name, provider, key, text),
                    None => self.stranger(name),
                }
                continue;
            };
            match key.parse(text) {
                Ok(value) => self.put(key, &keys::split(&key.path), value, Origin::Env(name.clone()), &sources.dir),
                Err(text) => self.problems.push(Problem::new(format!("environment {name}"), None, text)),
            }
        }
    }

    /// A variable of one provider.
    fn provider(&mut self, name: &str, provider: String, key: &str, text: &str) {
        let path = ["providers".to_owned(), provider, key.to_owned()];
        // Keys stay where they are until they are used.
        let Some(Node::Key(key)) = keys::find(&path).filter(|_| !key.is_empty()) else { return };
        let base = &self.sources.dir;
        match key.parse(text) {
            Ok(value) => self.put(key, &path, value, Origin::Env(name.to_owned()), base),
            Err(text) => self.problems.push(Problem::new(format!("environment {name}"), None, text)),
        }
    }

    /// Tells of a variable that sets nothing.
    fn stranger(&mut self, name: &str) {
        let names: Vec<_> = KEYS.1.iter().filter_map(Key::variable).collect();
        let gone = former::GONE_VARIABLES.iter().find(|(prefix, _)| name.starts_with(prefix));
        self.warnings.push(match (gone, nearest(name, names.iter().map(|name| &name[..]))) {
            (Some((_, why)), _) => format!("environment {name}: {why}"),
            (None, Some(near)) => format!("environment {name}: sets nothing; did you mean {near}?"),
            (None, None) => format!("environment {name}: sets nothing"),
        });
    }

    fn flags(&mut self) {
        for (path, value, flag) in &self.sources.flags {
            let path = keys::split(path);
            let Some(Node::Key(key)) = keys::find(&path) else {
                let mut problem = Problem::new(flag, Some(keys::dotted(&path)), "no such key");
                problem.class = Class::Bug;
                self.problems.push(problem);
                continue;
            };
            self.put(key, &path, value.clone(), Origin::Flag(flag.clone()), &self.sources.dir);
        }
    }

    fn finish(mut self) -> Loaded {
        let config = Config::deserialize(Value::Table(self.table)).unwrap_or_else(|error| {
            let mut problem = Problem::new("config", None, error.message());
            problem.class = Class::Bug;
            self.problems.push(problem);
            Config::default()
        });
        Loaded {
            config,
            origins: self.origins,
            warnings: self.warnings,
            files: self.files,
            project: self.project,
            dir: self.sources.dir.clone(),
            problems: self.problems,
        }
    }
}

/// The text of a file; none when it is optional and not there.
fn contents(path: &Path, role: Role) -> Result<Option<String>, String> {
    let missing = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let meta = match fs::metadata(path) {
        Err(error) if role != Role::Required && missing(&error) => return Ok(None),
        other => other.map_err(|error| reason(&error))?,
    };
    // A pipe that nobody feeds must not stop a program that was not told to read it.
    if role != Role::Required && !meta.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| reason(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("is larger than {LARGEST} bytes"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            Err(format!("line {} is not UTF-8", good.iter().filter(|byte| **byte == b'\n').count() + 1))
        }
    }
}

/// How much a value of a key that may only be lowered allows.
fn rank(value: &Value) -> Option<usize> {
    match value {
        Value::Boolean(on) => Some(usize::from(*on)),
        Value::String(profile) => ["safe", "standard", "privileged"].iter().position(|name| name == profile),
        _ => None,
    }
}

/// The value at `path`.
pub(super) fn get<'t>(table: &'t Table, path: &[String]) -> Option<&'t Value> {
    let (name, section) = path.split_last()?;
    section.iter().try_fold(table, |table, name| table.get(name)?.as_table())?.get(name)
}

fn set(table: &mut Table, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(name.clone(), value);
    } else if let Value::Table(inner) = table.entry(name).or_insert_with(|| Value::Table(Table::new())) {
        set(inner, rest, value);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::keys::Kind;
    use super::*;
    use crate::security::Profile;

    /// A fresh home, project and `/etc`.
    pub(in crate::config) fn fresh() -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["user/.llmspell", "project/sub", "etc"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let sources = Sources {
            home: Home::at(at("user/.llmspell")),
            dir: at("project"),
            system: at("etc/config.toml"),
            file: None,
            env: vec![("HOME".into(), at("user").to_str().unwrap().into())],
            flags: Vec::new(),
        };
        (dir, sources)
    }

    fn project(sources: &Sources, text: &str) {
        fs::write(sources.dir.join(trust::FILE), text).unwrap();
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let (_dir, mut sources) = fresh();
        let timeout = |sources: &Sources| {
            let loaded = Config::load(sources).unwrap();
            (loaded.config.kernel.tools.tool_timeout.as_secs(), loaded.origin("kernel.tools.tool_timeout").to_string())
        };
        assert_eq!(timeout(&sources), (30, "default".into()));
        fs::write(&sources.system, "[kernel]\ngrace = 9\ntools.tool_timeout = 1").unwrap();
        assert_eq!(timeout(&sources), (1, format!("{}:3", sources.system.display())));
        fs::write(sources.home.config_file(), "[kernel.tools]\ntool_timeout = 2").unwrap();
        assert_eq!(timeout(&sources), (2, "~/.llmspell/config.toml:2".into()));
        project(&sources, "kernel.tools.tool_timeout = '3s'");
        assert_eq!(timeout(&sources), (3, "./llmspell.toml:1".into()));
        sources.env.push(("LLMSPELL_KERNEL_TOOLS_TOOL_TIMEOUT".into(), "4".into()));
        assert_eq!(timeout(&sources), (4, "env LLMSPELL_KERNEL_TOOLS_TOOL_TIMEOUT".into()));
        sources.flags.push(("kernel.tools.tool_timeout".into(), Value::Integer(5), "--timeout".into()));
        assert_eq!(timeout(&sources), (5, "flag --timeout".into()));
        assert_eq!(Config::load(&sources).unwrap().config.kernel.grace, Duration::from_secs(9));
    }

    #[test]
    fn a_named_file_is_the_only_one() {
        let (dir, mut sources) = fresh();
        fs::write(sources.home.config_file(), "kernel.grace = 9").unwrap();
        project(&sources, "kernel.grace = 8");
        let file = dir.path().join("my.toml");
        fs::write(&file, "security.profile = 'privileged'").unwrap();
        sources.env.push(("LLMSPELL_CONFIG".into(), "../my.toml".into()));
        let loaded = Config::load(&sources).unwrap();
        assert_eq!((loaded.config.kernel.grace.as_secs(), loaded.config.security.profile), (5, Profile::Privileged));
        sources.file = Some("none.toml".into());
        let error = Config::load(&sources).unwrap_err();
        assert_eq!(error.class(), Class::Config);
        assert!(error.text().ends_with("none.toml: no such file or directory"), "{error}");
    }

    #[test]
    fn errors_name_the_file_as_people_write_it() {
        let (_dir, mut sources) = fresh();
        fs::write(sources.home.config_file(), "\n[kernel.tools]\ntool_timeout = '5x'\nx = 1").unwrap();
        let error = Config::load(&sources).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config ~/.llmspell/config.toml:3: kernel.tools.tool_timeout: \"5x\" is not a duration"
        );
        fs::remove_file(sources.home.config_file()).unwrap();
        project(&sources, "[kernel.tools]\ntool_timout = 1");
        let error = Config::load(&sources).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config ./llmspell.toml:2: kernel.tools.tool_timout: unknown key; did you mean tool_timeout?"
        );
        project(&sources, "");
        sources.env.push(("LLMSPELL_KERNEL_PORT".into(), "x".into()));
        let error = Config::load(&sources).unwrap_err();
        assert_eq!(error.to_string(), "environment LLMSPELL_KERNEL_PORT: \"x\" is not a whole number from 1 to 65535");
        sources.env.pop();
        sources.flags.push(("log.level".into(), "loud".into(), "--log-level".into()));
        let error = Config::load(&sources).unwrap_err();
        assert_eq!(error.to_string(), "--log-level: \"loud\" is not one of off, error, warn, info, debug, trace");
        assert_eq!(error.class(), Class::Usage);
    }

    #[test]
    fn an_untrusted_project_may_only_narrow() {
        let (_dir, sources) = fresh();
        fs::write(sources.home.config_file(), "security.allow_net = ['a', 'b']\nsecurity.deny_net = ['x']").unwrap();
        let refused = |text: &str| {
            project(&sources, text);
            let loaded = Config::load(&sources).unwrap();
            (loaded.warnings.len(), loaded.config)
        };
        for text in [
            "security.profile = 'privileged'",
            "security.allow_read = ['/']",
            "security.allow_read = ['.']",
            "security.allow_write = ['~']",
            "security.allow_net = ['a', 'c']",
            "security.allow_run = ['sh']",
            "security.allow_env = ['*']",
            "tools.file_operations.allowed_paths = ['/tmp']",
            "kernel.ip = '0.0.0.0'",
            "kernel.port = 9555",
            "kernel.transport = 'tcp'",
            "kernel.workdir = '..'",
            "engines.lua.package_paths = ['/etc']",
            "tools.http_request.default_headers.Authorization = 'x'",
        ] {
            let (warnings, config) = refused(text);
            assert_eq!(warnings, 1, "{text}");
            assert_eq!((config.security.allow_net.len(), config.kernel), (2, Config::default().kernel), "{text}");
            trust::trust(&sources.home, &sources.dir).unwrap();
            assert_eq!(refused(text).0, 0, "{text}");
        }
        for text in [
            "security.profile = 'safe'",
            "security.allow_net = ['b']",
            "kernel.workdir = 'sub'",
            "kernel.tools.enable_tool_cli = false",
            "tools.http_request.allowed_hosts = ['h']",
            "kernel.grace = 1",
        ] {
            assert_eq!(refused(text).0, 0, "{text}");
        }
        assert_eq!(refused("security.deny_net = []").1.security.deny_net, ["x"]);
        assert_eq!(refused("security.deny_net = ['y']").1.security.deny_net, ["x", "y"]);
        project(&sources, "security.profile = 'safe'");
        trust::trust(&sources.home, &sources.dir).unwrap();
        project(&sources, "security.profile = 'privileged'");
        assert_eq!(Config::load(&sources).unwrap().project, State::Changed);
        fs::remove_file(sources.home.root().join("trusted")).unwrap();
        let warning = Config::load(&sources).unwrap().warnings.remove(0);
        assert!(warning.starts_with("config ./llmspell.toml:1: security.profile: not taken"), "{warning}");
        assert!(warning.ends_with("llmspell-run --trust allows it"), "{warning}");
    }

    #[test]
    fn old_keys_warn_once_and_do_not_stop() {
        let (_dir, sources) = fresh();
        let text = "[engines.lua]\ntimeout_ms = 1500\n[providers]\ndefault_provider = 'openai'\n[providers.providers.openai]\nprovider_type = 'openai'\ndefault_model = 'gpt-x'\ntimeout_seconds = 30\nmax_retries = 3\n[providers.providers.openai.retry]\nmax_delay_ms = 1\n[runtime.security]\nallow_file_access = true";
        fs::write(&sources.system, text).unwrap();
        fs::write(sources.home.config_file(), "[providers.openai]\nheaders = { X-Title = 't' }").unwrap();
        let loaded = Config::load(&sources).unwrap();
        assert_eq!(loaded.warnings.len(), 9, "{:?}", loaded.warnings);
        assert!(
            loaded.warnings.iter().any(|w| w.ends_with(":2: engines.lua.timeout_ms: now called timeout = \"1500ms\"")),
            "{:?}",
            loaded.warnings
        );
        assert!(
            loaded
                .warnings
                .iter()
                .any(|w| w.ends_with(":5: providers.providers: its sections are now called providers.NAME")),
            "{:?}",
            loaded.warnings
        );
        assert_eq!(loaded.config.models.default.as_deref(), Some("openai"));
        let provider = &loaded.config.providers["openai"];
        assert_eq!((provider.r#type.as_deref(), provider.model.as_deref()), (Some("openai"), Some("gpt-x")));
        assert_eq!((provider.timeout, provider.retries), (Some(Duration::from_secs(30)), Some(3)));
        assert_eq!(provider.headers["X-Title"], "t");
        assert_eq!(loaded.config.engines.lua.timeout, Duration::from_millis(1500));
    }

    #[test]
    fn providers_have_names_of_ones_own() {
        let (_dir, mut sources) = fresh();
        fs::write(
            sources.home.config_file(),
            "[providers.mine]\nbase_url = 'http://127.0.0.1:1/v1'\napi_key = 'sesame-open'\napi_key_env = 'MINE'",
        )
        .unwrap();
        project(
            &sources,
            "models.default = 'mine/x'\nproviders.mine.model = 'y'\nproviders.mine.base_url = 'https://evil'",
        );
        sources.env.push(("LLMSPELL_OPENAI_MODEL".into(), "gpt".into()));
        sources.env.push(("LLMSPELL_OPENAI_API_KEY".into(), "k".into()));
        sources.env.push(("LLMSPELL_MODELS_MAX_COST".into(), "0.5".into()));
        let loaded = Config::load(&sources).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
        assert!(loaded.warnings[0].contains("providers.mine.base_url: not taken"), "{:?}", loaded.warnings);
        let mine = &loaded.config.providers["mine"];
        assert_eq!((mine.model.as_deref(), mine.base_url.as_deref()), (Some("y"), Some("http://127.0.0.1:1/v1")));
        assert_eq!(loaded.config.models.max_cost, 0.5);
        assert_eq!(loaded.origin("providers.openai.model").to_string(), "env LLMSPELL_OPENAI_MODEL");
        let shown = super::super::commands::show(&loaded, None, false).unwrap();
        assert!(shown.contains("\nmodel = \"y\"  # ./llmspell.toml:2\n"), "{shown}");
        assert!(shown.contains("api_key = \"<redacted>\"") && !shown.contains("sesame"), "{shown}");
        assert!(shown.contains("api_key_env = \"MINE\""), "{shown}");
        assert_eq!(loaded.config.secrets().collect::<Vec<_>>(), ["sesame-open"]);
        let error = Config::load(&Sources { env: vec![("LLMSPELL_MODELS_MAX_COST".into(), "-1".into())], ..sources });
        assert!(error.unwrap_err().to_string().ends_with("-1.0 is not a number from 0"));
    }

    #[test]
    fn the_environment_is_typed_by_the_keys() {
        let (_dir, mut sources) = fresh();
        for (name, value) in [
            ("LLMSPELL_TOOLS_ALLOWED_PATHS", "~/a, b"),
            ("LLMSPELL_TOOLS_HTTP_REQUEST_USER_AGENT", "007"),
            ("LLMSPELL_KERNEL_TOOLS_ENABLE_TOOL_CLI", "false"),
            ("LLMSPELL_KERNEL_TOOLS_TOL_TIMEOUT", "1"),
            ("LLMSPELL_STATE_PATH", "x"),
            ("LLMSPELL_HOME", "/x"),
            ("LLMSPELL_ENGINE", "lua"),
        ] {
            sources.env.push((name.into(), value.into()));
        }
        let loaded = Config::load(&sources).unwrap();
        let paths = &loaded.config.tools.file_operations.allowed_paths;
        assert!(paths[0].ends_with("user/a") && paths[1] == sources.dir.join("b"), "{paths:?}");
        assert_eq!(loaded.config.tools.http_request.user_agent, "007");
        assert!(!loaded.config.kernel.tools.enable_tool_cli);
        assert_eq!(
            loaded.warnings,
            [
                "environment LLMSPELL_KERNEL_TOOLS_TOL_TIMEOUT: sets nothing; did you mean LLMSPELL_KERNEL_TOOLS_TOOL_TIMEOUT?",
                "environment LLMSPELL_STATE_PATH: not in this version",
            ]
        );
    }

    #[test]
    fn no_value_of_any_key_panics() {
        let (_dir, sources) = fresh();
        let values = [
            "0",
            "-1",
            "1",
            "9223372036854775807",
            "nan",
            "-inf",
            "1e400",
            "true",
            "''",
            "'*'",
            "'~'",
            "'~root'",
            "'\u{1F600}'",
            "'99999999999999999999GB'",
            "'1000000000000h'",
            "'-1s'",
            "[]",
            "['']",
            "[1]",
            "[[]]",
            "{}",
            "{ a = 1 }",
            "{ '' = '' }",
            "1979-05-27",
            "[{ a = [{}] }]",
            "'\\u0000'",
            "\"\\u0000\"",
        ];
        for (key, value) in KEYS.1.iter().flat_map(|key| values.iter().map(move |value| (key, value))) {
            project(&sources, &format!("{} = {value}", key.path));
            let loaded = Config::survey(&sources);
            let told = loaded.problems.len() + loaded.warnings.len() + loaded.origins.len();
            assert!(told > 0 || key.kind == Kind::Map, "{} = {value}", key.path);
        }
    }

    #[test]
    fn every_key_can_be_set_by_its_variable_and_its_flag() {
        let (_dir, mut sources) = fresh();
        for key in KEYS.1.iter().filter(|key| key.kind != Kind::Map) {
            let value =
                key.default.clone().or_else(|| key.like.as_deref().and_then(|like| key.parse(like).ok())).unwrap();
            let path = key.path.replace('*', "x");
            sources.flags = vec![(path.clone(), value, "--x".into())];
            assert_eq!(Config::load(&sources).unwrap().origin(&path), Origin::Flag("--x".into()));
        }
    }
}
