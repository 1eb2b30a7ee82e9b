//! A fleet as a file describes it, for `llmspell-fleet apply`. Unknown keys are errors, each with its line.
//!
//! ```toml
//! fleet = "shop"                # whose kernels they are
//! [defaults]                    # what is said here holds for all that do not say otherwise
//! restart = "on-failure"
//! [kernels.web]                 # one kernel, web
//! config = "web.toml"
//! [kernels.pool]                # pool-1, pool-2 and pool-3
//! count = 3
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use super::spawn::find_config;
use super::wanted::{Policy, SCHEMA, Wanted, digest};
use crate::cli::{Grant, Permissions, Profile};
use crate::error::{Class, Error, Result, nearest};
use crate::home::{Home, check_id};
use crate::units;

/// More kernels than this of one name are a slip.
const MOST: usize = 1000;

/// Keys of a kernel and of the defaults.
const KEYS: [&str; 17] = [
    "config",
    "engine",
    "workdir",
    "restart",
    "memory",
    "cpu",
    "env",
    "env_from",
    "labels",
    "profile",
    "allow_read",
    "allow_write",
    "allow_net",
    "allow_run",
    "allow_env",
    "port",
    "count",
];
/// The last of [`KEYS`] are of one kernel only.
const SHARED: usize = KEYS.len() - 2;

/// What a file wants.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Whose kernels they are.
    pub fleet: String,
    /// The names in it, each of one kernel or of a group.
    pub names: Vec<String>,
    /// Every kernel. Port 0: any free one.
    pub kernels: Vec<Wanted>,
}

/// What surrounds a file.
pub struct Surroundings<'a> {
    /// What errors call it.
    pub name: &'a str,
    /// Paths in it are taken from here.
    pub folder: &'a Path,
    /// Where configurations are besides.
    pub home: &'a Home,
    /// Variables `env_from` can name.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads `text`.
///
/// # Errors
/// `Config` with the line of what is wrong; `NotFound` for a configuration that is not there.
pub fn read(text: &str, around: &Surroundings<'_>) -> Result<Desired> {
    let reader = Reader { text, around };
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        reader.wrong(error.span().map_or(0, |span| span.start), "", message)
    })?;
    reader.file(table.get_ref())
}

#[derive(Clone, Default)]
struct Settings {
    wanted: Wanted,
    permissions: Permissions,
    count: Option<usize>,
}

struct Reader<'a> {
    text: &'a str,
    around: &'a Surroundings<'a>,
}

impl Reader<'_> {
    fn wrong(&self, at: usize, key: &str, text: impl std::fmt::Display) -> Error {
        let line = self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        Error::new(Class::Config, format!("{}:{line}: {key}{text}", self.around.name))
    }

    fn unknown(&self, at: usize, key: &str, name: &str, known: &[&'static str]) -> Error {
        let meant = nearest(name, known.iter().copied()).map(|near| format!("; did you mean {near}?"));
        let error = self.wrong(at, key, format!("unknown key{}", meant.as_deref().unwrap_or_default()));
        if meant.is_some() { error } else { error.hint(format!("Known are {}.", known.join(", "))) }
    }

    fn file(&self, table: &DeTable<'_>) -> Result<Desired> {
        let mut fleet = None;
        let mut base = Settings {
            wanted: Wanted { workdir: self.around.folder.to_owned(), ..Wanted::default() },
            ..Settings::default()
        };
        for (name, value) in table {
            let at = name.span().start;
            match (&**name.get_ref(), value.get_ref()) {
                ("fleet", DeValue::String(text)) => {
                    check_id(text).map_err(|error| self.wrong(at, "fleet", error.text()))?;
                    fleet = Some(text.to_string());
                }
                ("defaults", DeValue::Table(table)) => {
                    self.settings("defaults", table, &KEYS[..SHARED], &mut base)?;
                }
                ("kernels", DeValue::Table(_)) => {}
                ("fleet", _) => return Err(self.wrong(at, "fleet", "is not text")),
                ("defaults" | "kernels", _) => return Err(self.wrong(at, name.get_ref(), "is a section")),
                (other, _) => return Err(self.unknown(at, other, other, &["fleet", "defaults", "kernels"])),
            }
        }
        let Some(fleet) = fleet else {
            return Err(self
                .wrong(0, "fleet", "is missing")
                .hint("Give the fleet a name: fleet = \"shop\". Only kernels that carry it are changed or removed."));
        };
        let mut desired = Desired { fleet, names: Vec::new(), kernels: Vec::new() };
        let kernels = table.get("kernels").and_then(|value| value.get_ref().as_table());
        let (mut ids, mut ports) = (BTreeSet::new(), BTreeMap::new());
        for (name, value) in kernels.into_iter().flatten() {
            let (at, name) = (name.span().start, name.get_ref());
            let key = format!("kernels.{name}");
            let DeValue::Table(table) = value.get_ref() else {
                return Err(self
                    .wrong(at, &key, "is a section")
                    .hint(format!("Its settings go below a line [{key}].")));
            };
            check_id(name).map_err(|error| self.wrong(at, &key, error.text()))?;
            let mut settings = base.clone();
            self.settings(&key, table, &KEYS, &mut settings)?;
            desired.names.push(name.to_string());
            for wanted in self.expand(at, &key, name, &desired.fleet, settings)? {
                check_id(&wanted.id).map_err(|error| self.wrong(at, &key, error.text()))?;
                if !ids.insert(wanted.id.clone()) {
                    return Err(self.wrong(at, &key, format!("there are two kernels called {}", wanted.id)));
                }
                if wanted.port != 0
                    && let Some(other) = ports.insert(wanted.port, wanted.id.clone())
                {
                    let text = format!("{} has the port {} of {other}", wanted.id, wanted.port);
                    return Err(self.wrong(at, &key, text));
                }
                desired.kernels.push(wanted);
            }
        }
        Ok(desired)
    }

    /// The kernels of one name.
    fn expand(&self, at: usize, key: &str, name: &str, fleet: &str, settings: Settings) -> Result<Vec<Wanted>> {
        let Settings { mut wanted, permissions, count } = settings;
        wanted.schema_version = SCHEMA;
        wanted.run = true;
        wanted.fleet = Some(fleet.to_owned());
        wanted.arguments = permissions.to_words();
        let Some(count) = count else {
            return Ok(vec![Wanted { id: name.to_owned(), ..wanted }]);
        };
        let one = |index: usize| {
            let port = match wanted.port {
                0 => 0,
                first => u16::try_from(index - 1).ok().and_then(|more| first.checked_add(more)).ok_or_else(|| {
                    self.wrong(at, key, format!("port {first} and count {count}: there are no such ports"))
                })?,
            };
            Ok(Wanted { id: format!("{name}-{index}"), group: Some(name.to_owned()), port, ..wanted.clone() })
        };
        (1..=count).map(one).collect()
    }

    fn settings(&self, section: &str, table: &DeTable<'_>, keys: &[&'static str], into: &mut Settings) -> Result<()> {
        for (name, value) in table {
            let (at, name) = (name.span().start, &**name.get_ref());
            let key = format!("{section}.{name}");
            if !keys.contains(&name) {
                return Err(self.unknown(at, &key, name, keys));
            }
            self.setting(name, plain(value), into).map_err(|error| {
                let place = self.wrong(value.span().start, &key, error.text());
                let place = Error::new(error.class(), place.text());
                match error.next_step() {
                    Some(hint) => place.hint(hint),
                    None => place,
                }
            })?;
        }
        Ok(())
    }

    fn setting(&self, name: &str, value: Value, into: &mut Settings) -> Result<()> {
        let wanted = &mut into.wanted;
        match name {
            "config" => {
                let path = find_config(self.around.home, self.around.folder, Path::new(&text(value)?))?;
                wanted.config_digest = Some(digest(&path)?);
                wanted.config = Some(path);
            }
            "engine" => {
                let engine = text(value)?;
                wanted.engine = Some(pick(&engine, &["lua", "js"])?.to_owned());
            }
            "workdir" => {
                let path: PathBuf = self.around.folder.join(text(value)?);
                if !path.is_dir() {
                    return Err(Error::new(Class::NotFound, format!("{}: no such folder", path.display())));
                }
                wanted.workdir = path;
            }
            "restart" => {
                let policy = text(value)?;
                let name = pick(&policy, &Policy::ALL.map(|(name, _)| name))?;
                wanted.restart =
                    Policy::ALL.iter().find(|(known, _)| *known == name).map_or(Policy::Never, |row| row.1);
            }
            "memory" => wanted.memory = Some(units::size(&text(value)?)?),
            "cpu" => {
                let cpus = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
                wanted.cpu = Some(
                    cpus.filter(|cpus| *cpus > 0.0 && *cpus <= 4096.0)
                        .ok_or_else(|| usage("is not a number of processors such as 0.5"))?,
                );
            }
            "env" => wanted.env.extend(pairs(value)?),
            "env_from" => {
                for name in texts(value)? {
                    let value = (self.around.variable)(&name).ok_or_else(|| {
                        usage(format!("{name} is not set here")).hint(format!("Set it: export {name}=..."))
                    })?;
                    wanted.env.insert(name, value);
                }
            }
            "labels" => wanted.labels.extend(pairs(value)?),
            "profile" => {
                let all = [Profile::Safe, Profile::Standard, Profile::Privileged];
                let profile = text(value)?;
                let name = pick(&profile, &all.map(Profile::name))?;
                into.permissions.profile = all.into_iter().find(|profile| profile.name() == name);
            }
            "allow_read" => into.permissions.read = grant(value)?,
            "allow_write" => into.permissions.write = grant(value)?,
            "allow_net" => into.permissions.net = grant(value)?,
            "allow_run" => into.permissions.run = grant(value)?,
            "allow_env" => into.permissions.env = grant(value)?,
            "port" => {
                let port = value.as_integer().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
                wanted.port = port.ok_or_else(|| usage("is not a port number"))?;
            }
            _ => {
                let count = value.as_integer().and_then(|count| usize::try_from(count).ok());
                let count = count.filter(|count| *count <= MOST);
                into.count = Some(count.ok_or_else(|| usage(format!("is not a number from 0 to {MOST}")))?);
            }
        }
        Ok(())
    }
}

/// Without spans.
fn plain(value: &Spanned<DeValue<'_>>) -> Value {
    Value::deserialize(ValueDeserializer::from(value.clone())).unwrap_or(Value::Boolean(false))
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Class::Config, text)
}

fn text(value: Value) -> Result<String> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) => Err(usage("is empty")),
        _ => Err(usage("is not text")),
    }
}

fn texts(value: Value) -> Result<Vec<String>> {
    match value {
        Value::Array(items) => items.into_iter().map(text).collect(),
        _ => Err(usage("is not a list of texts")),
    }
}

fn pairs(value: Value) -> Result<BTreeMap<String, String>> {
    let Value::Table(table) = value else { return Err(usage("is not a table such as { NAME = \"value\" }")) };
    let pair = |(name, value): (String, Value)| match value {
        Value::String(text) if !name.is_empty() && !name.contains(['=', '\0']) && !text.contains('\0') => {
            Ok((name, text))
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok((name, value.to_string())),
        _ => Err(usage(format!("{name}: is not text"))),
    };
    table.into_iter().map(pair).collect()
}

/// `true` is everything, `false` nothing of it, a list just that.
fn grant(value: Value) -> Result<Option<Grant>> {
    match value {
        Value::Boolean(all) => Ok(all.then_some(Grant::All)),
        Value::Array(_) => texts(value).map(|items| Some(Grant::Only(items))),
        _ => Err(usage("is neither true nor false nor a list of texts")),
    }
}

fn pick<'a>(text: &str, names: &[&'a str]) -> Result<&'a str> {
    if let Some(name) = names.iter().find(|name| **name == text) {
        return Ok(name);
    }
    Err(match nearest(text, names.iter().copied()) {
        Some(near) => usage(format!("{text:?} is unknown, did you mean {near}?")),
        None => usage(format!("{text:?} is unknown, choose one of {}", names.join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(text: &str) -> Result<Desired> {
        let home = Home::at("/nowhere");
        let variable = |name: &str| (name == "HERE").then(|| "there".to_owned());
        read(text, &Surroundings { name: "f.toml", folder: Path::new("/"), home: &home, variable: &variable })
    }

    #[test]
    fn kernels_and_groups() {
        let text = "fleet = 'shop'\n[defaults]\nrestart = 'always'\nenv = { A = 'a', B = 1 }\n[kernels.web]\nport = 9600\n\
                    memory = '512MB'\ncpu = 1\nallow_net = ['example.org']\nprofile = 'safe'\n[kernels.pool]\ncount = 2\n\
                    restart = 'never'\nport = 9700\nenv = { B = 'b' }\nenv_from = ['HERE']\nlabels = { x = 'y' }\n\
                    [kernels.none]\ncount = 0\n";
        let desired = desired(text).unwrap();
        assert_eq!(desired.names, ["none", "pool", "web"]);
        let ids: Vec<(&str, u16)> = desired.kernels.iter().map(|one| (&*one.id, one.port)).collect();
        assert_eq!(ids, [("pool-1", 9700), ("pool-2", 9701), ("web", 9600)]);
        let web = &desired.kernels[2];
        assert_eq!(
            (web.memory, web.cpu, web.restart, &web.group),
            (Some(512_000_000), Some(1.0), Policy::Always, &None)
        );
        assert_eq!(web.arguments, ["--profile=safe", "--allow-net=example.org"]);
        let pool = &desired.kernels[0];
        assert_eq!(pool.env.iter().map(|(a, b)| format!("{a}={b}")).collect::<Vec<_>>(), ["A=a", "B=b", "HERE=there"]);
        assert_eq!(
            (pool.restart, pool.group.as_deref(), pool.fleet.as_deref()),
            (Policy::Never, Some("pool"), Some("shop"))
        );
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for (text, said) in [
            ("", "f.toml:1: fleet: is missing"),
            ("fleet = 1", "f.toml:1: fleet: is not text"),
            ("fleet = 'a b'", "f.toml:1: fleet: kernel id \"a b\": use"),
            ("fleet = 'x'\nkernel = 1", "f.toml:2: kernel: unknown key; did you mean kernels?"),
            ("fleet = 'x'\n[kernels]\nweb = 1", "f.toml:3: kernels.web: is a section"),
            (
                "fleet = 'x'\n[kernels.web]\nmemroy = '1MB'",
                "f.toml:3: kernels.web.memroy: unknown key; did you mean memory?",
            ),
            ("fleet = 'x'\n[defaults]\ncount = 1", "f.toml:3: defaults.count: unknown key"),
            ("fleet = 'x'\n[kernels.web]\nmemory = 'x'", "f.toml:3: kernels.web.memory: "),
            ("fleet = 'x'\n[kernels.web]\ncpu = 0", "f.toml:3: kernels.web.cpu: is not a number of processors"),
            (
                "fleet = 'x'\n[kernels.web]\nrestart = 'on-failur'",
                "f.toml:3: kernels.web.restart: \"on-failur\" is unknown, did you mean on-failure?",
            ),
            ("fleet = 'x'\n[kernels.web]\ncount = -1", "f.toml:3: kernels.web.count: is not a number"),
            ("fleet = 'x'\n[kernels.web]\nport = 70000", "f.toml:3: kernels.web.port: is not a port number"),
            ("fleet = 'x'\n[kernels.web]\nenv_from = ['GONE']", "f.toml:3: kernels.web.env_from: GONE is not set here"),
            (
                "fleet = 'x'\n[kernels.web]\nconfig = 'gone.toml'",
                "f.toml:3: kernels.web.config: configuration gone.toml: no such file",
            ),
            (
                "fleet = 'x'\n[kernels.a]\ncount=1\n[kernels.a-1]",
                "f.toml:4: kernels.a-1: there are two kernels called a-1",
            ),
            ("fleet = 'x'\n[kernels.a]\nport=9\n[kernels.b]\nport=9", "f.toml:4: kernels.b: b has the port 9 of a"),
            ("fleet = 'x'\n[kernels.a]\nport=65535\ncount=2", "f.toml:2: kernels.a: port 65535 and count 2"),
            ("fleet = 'x'\n[kernels.'a/b']", "f.toml:2: kernels.a/b: kernel id"),
            ("fleet = 'x'\n[kernels", "f.toml:2: "),
        ] {
            let error = desired(text).unwrap_err();
            assert!(error.text().starts_with(said), "{text}: {error}");
        }
    }
}
