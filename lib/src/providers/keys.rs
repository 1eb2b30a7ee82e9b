//! Keys of services: where they are looked for, and the file that holds those given with `llmspell-kernel keys set`.
//! A key that was found is masked in every log line from then on.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use toml::{Table, Value};

use super::services::{Service, var};
use crate::error::{Class, Error, Result};
use crate::home::{self, Home};
use crate::log;

/// Longest key, in bytes.
const LONGEST: usize = 16 << 10;

/// `~/.llmspell/keys.toml`: a key a line, `openai = "…"`, readable by the user only.
pub struct Keys {
    path: PathBuf,
}

impl Keys {
    /// The file in `home`, whether it is there or not.
    #[must_use]
    pub fn of(home: &Home) -> Self {
        Keys { path: home.root().join("keys.toml") }
    }

    fn read(&self) -> Result<Table> {
        let fault = |error| Error::io(&self.path, error);
        let open = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&self.path);
        let mut file = match open {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Table::new()),
            other => other.map_err(fault)?,
        };
        let meta = file.metadata().map_err(fault)?;
        let wrong = |what: &str| Error::new(Class::Config, format!("{}: {what}", self.path.display()));
        if meta.mode() & 0o077 != 0 {
            return Err(wrong("others may read it").hint(format!("chmod 600 {}", self.path.display())));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(fault)?;
        // What the parser says would quote the line.
        text.parse().map_err(|_| wrong("not TOML"))
    }

    fn write(&self, table: &Table) -> Result<()> {
        if let Some(dir) = self.path.parent() {
            home::private_dir(dir)?;
        }
        home::write_durable(&self.path, table.to_string().as_bytes())
    }

    /// The key called `name`.
    ///
    /// # Errors
    /// `Config` when others may read the file, or it is none.
    pub fn get(&self, name: &str) -> Result<Option<String>> {
        Ok(self.read()?.get(name).and_then(Value::as_str).map(str::to_owned))
    }

    /// Names of the keys there are.
    ///
    /// # Errors
    /// As [`Keys::get`].
    pub fn list(&self) -> Result<Vec<String>> {
        Ok(self.read()?.keys().cloned().collect())
    }

    /// Keeps `key` as `name`.
    ///
    /// # Errors
    /// `Usage` for a name or key that cannot be one; as [`Keys::get`].
    pub fn set(&self, name: &str, key: &str) -> Result<()> {
        let fine = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !fine {
            return Err(Error::new(Class::Usage, format!("key {name:?}: use letters, digits, '.', '_' or '-'")));
        }
        let key = fit(key).map_err(|what| Error::new(Class::Usage, format!("key {name}: {what}")))?;
        let mut table = self.read()?;
        table.insert(name.to_owned(), Value::String(key));
        self.write(&table)
    }

    /// Forgets the key called `name`.
    ///
    /// # Errors
    /// `NotFound`; as [`Keys::get`].
    pub fn remove(&self, name: &str) -> Result<()> {
        let mut table = self.read()?;
        if table.remove(name).is_none() {
            return Err(Error::new(Class::NotFound, format!("key {name}: there is none"))
                .hint("llmspell-kernel keys list names those there are."));
        }
        self.write(&table)
    }
}

/// `text` as a key: one line that a header can hold.
fn fit(text: &str) -> std::result::Result<String, &'static str> {
    let text = text.trim();
    match text {
        "" => Err("empty"),
        _ if text.len() > LONGEST => Err("too long"),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err("has blanks or letters that no key has"),
        _ => Ok(text.to_owned()),
    }
}

/// The key of `service` and where it was found; none where it needs none.
///
/// # Errors
/// `Config` when it needs one and none is set, naming where it may be; what went wrong where one is set.
pub(super) fn find(service: &Service, home: Option<&Home>) -> Result<Option<String>> {
    let Some((key, place)) = look(service, home)? else {
        let free = service.row.keys.is_empty() || !service.is_at_home();
        return if free { Ok(None) } else { Err(missing(service)) };
    };
    let key =
        fit(&key).map_err(|what| Error::new(Class::Config, format!("key of {}: {place}: {what}", service.name)))?;
    log::hide(&key);
    Ok(Some(key))
}

fn missing(service: &Service) -> Error {
    let name = &service.name;
    let variable = service.row.keys.first().copied().unwrap_or("LLMSPELL_API_KEY");
    Error::new(Class::Config, format!("provider {name}: no key"))
        .hint(format!("Set {variable}, run llmspell-kernel keys set {name}, or set api_key_env, api_key_file or api_key_command in [providers.{name}]."))
}

/// Whether a key of `service` is set anywhere, or none is needed; nothing is run for it.
#[must_use]
pub fn is_set(service: &Service, home: Option<&Home>) -> bool {
    service.row.keys.is_empty()
        || !service.is_at_home()
        || !service.section.api_key_command.is_empty()
        || look(service, home).is_ok_and(|found| found.is_some())
}

fn look(service: &Service, home: Option<&Home>) -> Result<Option<(String, String)>> {
    let (name, section) = (&service.name, &service.section);
    if let Some(variable) = &section.api_key_env
        && let Some(key) = var(variable)
    {
        return Ok(Some((key, variable.clone())));
    }
    if let Some(path) = &section.api_key_file {
        return Ok(Some((file(path)?, path.display().to_string())));
    }
    if !section.api_key_command.is_empty() {
        return Ok(Some((command(name, &section.api_key_command)?, "api_key_command".into())));
    }
    if let Some(key) = &section.api_key {
        return Ok(Some((key.clone(), "api_key".into())));
    }
    let capitals: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let mut variables = vec![format!("LLMSPELL_{capitals}_API_KEY"), format!("LLMSPELL_PROVIDER_{capitals}_API_KEY")];
    // The key of a service goes to that service only.
    let at_home = service.is_at_home();
    variables.extend(service.row.keys.iter().filter(|_| at_home).map(|name| (*name).to_owned()));
    for variable in variables {
        if let Some(key) = var(&variable) {
            return Ok(Some((key, variable)));
        }
    }
    let names = [name.as_str(), service.row.name];
    let names = &names[..if at_home && service.row.name != name { 2 } else { 1 }];
    for name in names {
        if let Some(key) = home::credential(&format!("{name}-api-key"))? {
            return Ok(Some((key, format!("credential {name}-api-key"))));
        }
        if let Some(key) = home.map(|home| Keys::of(home).get(name)).transpose()?.flatten() {
            return Ok(Some((key, "keys.toml".into())));
        }
    }
    Ok(None)
}

fn file(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LONGEST as u64 + 2).read_to_string(&mut text));
    read.map_err(|error| Error::io(path, error).within("api_key_file"))?;
    Ok(text)
}

fn command(name: &str, words: &[String]) -> Result<String> {
    let place = format!("providers.{name}.api_key_command");
    let (program, arguments) =
        words.split_first().ok_or_else(|| Error::new(Class::Config, format!("{place}: empty")))?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::system(format!("{place}: {program}"), error))?;
    if !output.status.success() {
        return Err(Error::new(Class::Config, format!("{place}: {program}: {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| Error::new(Class::Config, format!("{place}: printed no text")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{Config, Provider};

    #[test]
    fn the_file_of_keys_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("new"));
        let keys = Keys::of(&home);
        assert!(keys.list().unwrap().is_empty());
        keys.set("openai", " sk-test-one\n").unwrap();
        keys.set("my.own", "two").unwrap();
        assert_eq!(keys.list().unwrap(), ["my.own", "openai"]);
        assert_eq!(keys.get("openai").unwrap().as_deref(), Some("sk-test-one"));
        assert_eq!(fs::metadata(&keys.path).unwrap().permissions().mode() & 0o777, 0o600);
        keys.remove("my.own").unwrap();
        assert_eq!(keys.remove("my.own").unwrap_err().class(), Class::NotFound);
        for (name, key) in [("", "k"), ("a b", "k"), ("a", ""), ("a", "two words"), ("a", "line\nline"), ("a", "clé")]
        {
            assert_eq!(keys.set(name, key).unwrap_err().class(), Class::Usage, "{name} {key}");
        }
        fs::set_permissions(&keys.path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(keys.get("openai").unwrap_err().class(), Class::Config);
    }

    #[test]
    fn sections_say_where_a_key_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let mut config = Config::default();
        let url = Some("https://example.org/v1".to_owned());
        let path = dir.path().join("key");
        fs::write(&path, "from-file\n").unwrap();
        let of = |provider: Provider, config: &mut Config| {
            config.providers.insert("mine".into(), Provider { base_url: url.clone(), ..provider });
            find(&Service::of("mine", config).unwrap(), Some(&home))
        };
        let file = Provider { api_key_file: Some(path), ..Provider::default() };
        assert_eq!(of(file, &mut config).unwrap().as_deref(), Some("from-file"));
        let words = ["printf", "from-%s", "command"].map(str::to_owned).to_vec();
        let command = Provider { api_key_command: words, ..Provider::default() };
        assert_eq!(of(command, &mut config).unwrap().as_deref(), Some("from-command"));
        let fails = Provider { api_key_command: vec!["false".into()], ..Provider::default() };
        assert!(of(fails, &mut config).unwrap_err().to_string().starts_with("providers.mine.api_key_command: false: "));
        // A server of one's own may need none, and never gets that of the service it is like.
        assert_eq!(of(Provider::default(), &mut config).unwrap(), None);
        Keys::of(&home).set("mine", "from-keys").unwrap();
        assert_eq!(of(Provider::default(), &mut config).unwrap().as_deref(), Some("from-keys"));
        let error = find(&Service::of("jina", &config).unwrap(), Some(&home)).unwrap_err();
        assert_eq!((error.class(), error.text()), (Class::Config, "provider jina: no key"));
        assert!(error.next_step().unwrap().starts_with("Set JINA_API_KEY, run llmspell-kernel keys set jina"));
    }
}
