//! Kernelspecs: how Jupyter learns of the kernel. A folder `kernels/NAME` in one of Jupyter's data folders, with `kernel.json`
//! and logos ("Making kernels for Jupyter"). Only folders whose `kernel.json` is ours are replaced or removed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Class, Error, Result};
use crate::protocol;

/// What a kernelspec is called when nothing else is said.
pub const DEFAULT_NAME: &str = "llmspell";

const LOGOS: [(&str, &[u8]); 3] = [
    ("logo-32x32.png", include_bytes!("logo/logo-32x32.png")),
    ("logo-64x64.png", include_bytes!("logo/logo-64x64.png")),
    ("logo-svg.svg", include_bytes!("logo/logo-svg.svg")),
];
const SPEC: &str = "kernel.json";

/// Which of Jupyter's folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The user's own.
    #[default]
    User,
    /// That of the active Python environment.
    Environment,
    /// `share/jupyter` below this folder.
    Prefix(PathBuf),
}

/// What to install.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// The folder's name.
    pub name: Option<String>,
    /// What Jupyter shows.
    pub display_name: Option<String>,
    /// The configuration of its kernels.
    pub config: Option<PathBuf>,
    /// Their engine.
    pub engine: Option<String>,
}

/// An installed kernelspec of ours.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// What Jupyter shows.
    pub display_name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The program it starts.
    pub program: PathBuf,
    /// Whether that program is there.
    pub works: bool,
}

/// What of the environment decides where Jupyter looks.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    jupyter_path: Vec<PathBuf>,
    user: Option<PathBuf>,
    environment: Option<PathBuf>,
    system: Vec<PathBuf>,
}

impl Folders {
    /// As the environment of this process says.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn new(get: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let jupyter_path = get("JUPYTER_PATH").map(|paths| std::env::split_paths(&paths).collect()).unwrap_or_default();
        let user = get("JUPYTER_DATA_DIR")
            .or_else(|| get("XDG_DATA_HOME").map(|dir| dir.join("jupyter")))
            .or_else(|| get("HOME").map(|home| home.join(".local/share/jupyter")));
        let environment = get("VIRTUAL_ENV").or_else(|| get("CONDA_PREFIX")).map(|dir| dir.join("share/jupyter"));
        let system = ["/usr/local/share/jupyter", "/usr/share/jupyter"].map(PathBuf::from).into();
        Folders { jupyter_path, user, environment, system }
    }

    /// Where Jupyter looks, first what wins.
    fn all(&self) -> impl Iterator<Item = PathBuf> {
        let data = self.jupyter_path.iter().chain(&self.user).chain(&self.environment).chain(&self.system);
        data.map(|dir| dir.join("kernels"))
    }

    /// Where the kernelspecs of `place` are.
    fn of(&self, place: &Place) -> Result<PathBuf> {
        let dir = match place {
            Place::Prefix(prefix) => {
                let prefix = std::path::absolute(prefix).map_err(|error| Error::io(prefix, error))?;
                return Ok(prefix.join("share/jupyter/kernels"));
            }
            Place::User => self.user.as_ref().ok_or_else(|| {
                Error::new(Class::Usage, "--user: no home folder: HOME is not set").hint("Say where with --prefix DIR.")
            })?,
            Place::Environment => self.environment.as_ref().ok_or_else(|| {
                Error::new(Class::Usage, "--sys-prefix: no Python environment is active")
                    .hint("Activate one (VIRTUAL_ENV or CONDA_PREFIX is then set), or say where with --prefix DIR.")
            })?,
        };
        Ok(dir.join("kernels"))
    }
}

/// Writes the kernelspec; one of ours with its name is replaced.
///
/// # Errors
/// `Usage` for a name Jupyter does not take, `Conflict` when another kernel has it, `NotFound` for a configuration that is not
/// there, `Denied`, `System`.
pub fn install(folders: &Folders, place: &Place, spec: &Spec) -> Result<Installed> {
    let name = name(spec.name.as_deref())?;
    let folder = folders.of(place)?.join(&name);
    if folder.symlink_metadata().is_ok() && ours(&folder).is_none() {
        return Err(Error::new(Class::Conflict, format!("{}: another kernel's", folder.display()))
            .hint("Choose another --name."));
    }
    let program = std::env::current_exe().map_err(|error| Error::system("path of this program", error))?;
    let mut argv = vec![text(&program)?, "start".into(), "--connection-file".into(), "{connection_file}".into()];
    if let Some(config) = &spec.config {
        let config = std::fs::canonicalize(config).map_err(|error| Error::io(config, error))?;
        argv.extend(["--config".into(), text(&config)?]);
    }
    if let Some(engine) = &spec.engine {
        argv.extend(["--engine".into(), engine.clone()]);
    }
    let display_name = spec.display_name.clone().unwrap_or_else(|| "Lua (llmspell)".into());
    let document = json!({
        "argv": argv,
        "display_name": display_name,
        "language": "lua",
        "interrupt_mode": "message",
        "kernel_protocol_version": protocol::VERSION,
        "metadata": {"llmspell": {"version": env!("CARGO_PKG_VERSION")}},
    });
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    for (file, bytes) in LOGOS {
        write(&folder, file, bytes)?;
    }
    // Last: without it Jupyter does not see the folder.
    write(&folder, SPEC, format!("{document:#}\n").as_bytes())?;
    Ok(Installed { name, display_name, folder, program, works: true })
}

/// Removes the kernelspec; its folder.
///
/// # Errors
/// `NotFound` when there is none, `Conflict` when it is another kernel's, `Denied`, `System`.
pub fn uninstall(folders: &Folders, place: &Place, name: Option<&str>) -> Result<PathBuf> {
    let name = self::name(name)?;
    let folder = folders.of(place)?.join(&name);
    if folder.symlink_metadata().is_err() {
        return Err(Error::new(Class::NotFound, format!("{}: no such kernelspec", folder.display()))
            .hint("`llmspell-kernel list` shows those there are."));
    }
    if ours(&folder).is_none() {
        return Err(Error::new(Class::Conflict, format!("{}: another kernel's", folder.display()))
            .hint("`jupyter kernelspec remove` removes it."));
    }
    for file in std::iter::once(SPEC).chain(LOGOS.map(|(file, _)| file)) {
        match std::fs::remove_file(folder.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(folder.join(file), error));
            }
            _ => {}
        }
    }
    // What somebody else put there stays.
    let _ = std::fs::remove_dir(&folder);
    Ok(folder)
}

/// Our kernelspecs where Jupyter looks for them, and below `place`; by folder and name.
#[must_use]
pub fn list(folders: &Folders, place: &Place) -> Vec<Installed> {
    let mut found: Vec<Installed> = Vec::new();
    for kernels in folders.of(place).into_iter().chain(folders.all()) {
        let Ok(entries) = std::fs::read_dir(&kernels) else { continue };
        let mut here: Vec<_> = entries.flatten().filter_map(|entry| ours(&entry.path())).collect();
        here.sort_by(|a, b| a.name.cmp(&b.name));
        here.retain(|one| found.iter().all(|other| other.folder != one.folder));
        found.append(&mut here);
    }
    found
}

/// What is installed in `folder`, if it is ours.
fn ours(folder: &Path) -> Option<Installed> {
    let document: Value = serde_json::from_slice(&std::fs::read(folder.join(SPEC)).ok()?).ok()?;
    let program = PathBuf::from(document["argv"].get(0)?.as_str()?);
    let marked = document["metadata"]["llmspell"].is_object();
    (marked || program.file_name()? == "llmspell-kernel").then(|| Installed {
        name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        display_name: document["display_name"].as_str().unwrap_or_default().into(),
        works: program.is_file(),
        folder: folder.into(),
        program,
    })
}

fn name(name: Option<&str>) -> Result<String> {
    let name = name.unwrap_or(DEFAULT_NAME).to_ascii_lowercase();
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !name.bytes().all(fit) || name.is_empty() || name.starts_with('.') {
        return Err(Error::new(Class::Usage, format!("--name: \"{name}\": use letters, digits, '.', '_' or '-'")));
    }
    Ok(name)
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::new(Class::Usage, format!("{}: not UTF-8, which kernel.json needs", path.display())))
}

/// All of the file or nothing, readable for everyone, as Jupyter may run as somebody else.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    let failed = |error| Error::io(&path, error);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o644)).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(pairs: &[(&str, &Path)]) -> Folders {
        let mut folders =
            Folders::new(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_path_buf()));
        folders.system.clear();
        folders
    }

    #[test]
    fn places_are_jupyters() {
        let dir = Path::new("/d");
        let user = |pairs: &[(&str, &Path)]| folders(pairs).of(&Place::User).unwrap();
        assert_eq!(user(&[("HOME", dir)]), Path::new("/d/.local/share/jupyter/kernels"));
        assert_eq!(user(&[("HOME", dir), ("XDG_DATA_HOME", Path::new("/x"))]), Path::new("/x/jupyter/kernels"));
        assert_eq!(user(&[("HOME", dir), ("JUPYTER_DATA_DIR", Path::new("/j"))]), Path::new("/j/kernels"));
        assert_eq!(
            folders(&[("VIRTUAL_ENV", dir)]).of(&Place::Environment).unwrap(),
            Path::new("/d/share/jupyter/kernels")
        );
        assert_eq!(folders(&[]).of(&Place::Prefix(dir.into())).unwrap(), Path::new("/d/share/jupyter/kernels"));
        for place in [Place::User, Place::Environment] {
            assert_eq!(folders(&[]).of(&place).unwrap_err().class(), Class::Usage);
        }
    }

    #[test]
    fn it_comes_is_listed_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Prefix(dir.path().into());
        let folders = folders(&[("JUPYTER_PATH", &dir.path().join("share/jupyter"))]);
        let first = install(&folders, &place, &Spec::default()).unwrap();
        let read = || std::fs::read_to_string(first.folder.join("kernel.json")).unwrap();
        let before = read();
        assert_eq!(install(&folders, &place, &Spec::default()).unwrap(), first);
        assert_eq!((read(), std::fs::read_dir(&first.folder).unwrap().count()), (before.clone(), 4));
        let document: Value = serde_json::from_str(&before).unwrap();
        assert!(Path::new(document["argv"][0].as_str().unwrap()).is_absolute());
        assert_eq!(document["argv"].as_array().unwrap()[1..], ["start", "--connection-file", "{connection_file}"]);
        assert_eq!((&document["interrupt_mode"], &document["language"]), (&"message".into(), &"lua".into()));
        let spec = Spec { name: Some("B".into()), display_name: Some("b!".into()), ..Spec::default() };
        install(&folders, &place, &spec).unwrap();
        let listed: Vec<_> = list(&folders, &place).into_iter().map(|one| (one.name, one.display_name)).collect();
        assert_eq!(listed, [("b".into(), "b!".into()), ("llmspell".into(), "Lua (llmspell)".to_owned())]);
        uninstall(&folders, &place, None).unwrap();
        assert_eq!(uninstall(&folders, &place, None).unwrap_err().class(), Class::NotFound);
        assert_eq!(list(&folders, &place).len(), 1);
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Prefix(dir.path().into());
        let other = dir.path().join("share/jupyter/kernels/llmspell");
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("kernel.json"), r#"{"argv": ["python3"]}"#).unwrap();
        let folders = folders(&[]);
        assert_eq!(install(&folders, &place, &Spec::default()).unwrap_err().class(), Class::Conflict);
        assert_eq!(uninstall(&folders, &place, None).unwrap_err().class(), Class::Conflict);
        assert!(list(&folders, &place).is_empty() && other.join("kernel.json").exists());
        for name in ["", "a/b", ".a", "a b"] {
            let spec = Spec { name: Some(name.into()), ..Spec::default() };
            assert_eq!(install(&folders, &place, &spec).unwrap_err().class(), Class::Usage, "{name}");
        }
        let spec = Spec { name: Some("x".into()), config: Some("/none.toml".into()), ..Spec::default() };
        assert_eq!(install(&folders, &place, &spec).unwrap_err().class(), Class::NotFound);
    }
}
