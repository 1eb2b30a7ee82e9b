//! A kernel as a service of an engine that supervises: systemd, launchd, Compose, Kubernetes, Nomad. Here are the texts;
//! [`install`] puts those of systemd and launchd in their places. The files in `deploy/` are what this prints.
//!
//! Everywhere the kernel runs in the foreground and is named by its id, and the engine is what restarts it.

mod compose;
pub mod install;
mod kubernetes;
mod launchd;
mod nomad;
mod systemd;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::home::DEFAULT_KERNEL;

pub use systemd::{TEMPLATE, UNIT};

/// The address and the five ports of the first kernel in a container; each further one has the next five.
pub const FIRST_PORT: u16 = 9555;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Units.
    Systemd,
    /// Property lists.
    Launchd,
    /// `compose.yaml`.
    Compose,
    /// Manifests.
    Kubernetes,
    /// A job.
    Nomad,
}

/// The formats and what they are called.
pub const FORMATS: [(&str, Format); 5] = [
    ("systemd", Format::Systemd),
    ("launchd", Format::Launchd),
    ("compose", Format::Compose),
    ("kubernetes", Format::Kubernetes),
    ("nomad", Format::Nomad),
];

/// Whose service it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// One user's: it runs with that user's rights.
    #[default]
    User,
    /// The machine's: it runs as the user `llmspell`.
    System,
}

/// When the engine starts it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    Never,
    /// When it failed.
    #[default]
    OnFailure,
    /// Whenever it ends.
    Always,
}

/// A kernel to be supervised.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its id.
    pub id: String,
    /// Its configuration, absolute; without one it reads what every program reads.
    pub config: Option<PathBuf>,
    /// The text of that file, where the engine wants it in its own.
    pub text: Option<String>,
    /// Shell, iopub, stdin, control, heartbeat.
    pub ports: Option<[u16; 5]>,
    /// How many of them, where the engine counts.
    pub count: u32,
    /// Whether the machine of a container listens for it; else there may be several of it.
    pub published: bool,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Variables whose values are nothing for a file: the engine takes them from its own environment or from a secret.
    pub secrets: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// Most memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Most processor time, percent of one processor.
    pub cpu_percent: Option<u32>,
}

impl Service {
    /// A service with nothing out of the ordinary.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Service {
            id: id.into(),
            config: None,
            text: None,
            ports: None,
            count: 1,
            published: true,
            environment: BTreeMap::new(),
            secrets: Vec::new(),
            restart: Restart::default(),
            memory_bytes: None,
            cpu_percent: None,
        }
    }

    /// The five ports: those that were asked for, else the block of five at `index`.
    fn ports_at(&self, index: usize) -> [u16; 5] {
        let first = FIRST_PORT.saturating_add(u16::try_from(index * 5).unwrap_or(u16::MAX - 5));
        self.ports.unwrap_or_else(|| std::array::from_fn(|i| first.saturating_add(i as u16)))
    }

    /// What a container's kernel is started with.
    fn container_args(&self, index: usize) -> Vec<String> {
        let ports = self.ports_at(index).map(|port| port.to_string()).join(",");
        let mut args = vec!["--id".to_owned(), self.id.clone()];
        if self.config.is_some() {
            args.extend(["--config".into(), format!("{CONTAINER_CONFIG}/{}.toml", self.id)]);
        }
        args.extend(["--ip".into(), "0.0.0.0".into(), "--ports".into(), ports]);
        args.extend(["--clients".into(), PRIVATE_NETWORKS.into()]);
        args
    }
}

/// Where the image expects configurations.
const CONTAINER_CONFIG: &str = "/etc/llmspell/kernels";
/// Networks of engines: whoever is in them may ask, if it has the key.
const PRIVATE_NETWORKS: &str = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16";
/// What says whether the kernel `id` is well, inside a container.
fn probe(id: &str) -> [&str; 4] {
    ["llmspell-fleet", "health", "--quiet", id]
}

/// The image, which `deploy/docker/Dockerfile` builds.
const IMAGE: &str = concat!("llmspell:", env!("CARGO_PKG_VERSION"));

/// What is the same for all kernels.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `llmspell-kernel`, absolute.
    pub program: PathBuf,
    /// Whose services.
    pub scope: Scope,
    /// The user's home folder, where the engine needs absolute paths.
    pub home: PathBuf,
    /// The sources from which Compose may build the image.
    pub sources: Option<PathBuf>,
}

/// A file for an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, perhaps in a folder.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl File {
    fn new(name: impl Into<String>, text: String) -> Self {
        File { name: name.into(), text }
    }
}

/// The files that make `format` run `services`.
#[must_use]
pub fn files(format: Format, services: &[Service], setting: &Setting) -> Vec<File> {
    match format {
        Format::Systemd => systemd::files(services, setting),
        Format::Launchd => services.iter().map(|one| launchd::file(one, setting)).collect(),
        Format::Compose => vec![compose::file(services, setting)],
        Format::Kubernetes => services.iter().enumerate().map(|(index, one)| kubernetes::file(one, index)).collect(),
        Format::Nomad => vec![nomad::file(services)],
    }
}

/// All of them as one text; where there are several, each after a line with its name.
#[must_use]
pub fn show(files: &[File]) -> String {
    if let [one] = files {
        return one.text.clone();
    }
    let mut out = String::new();
    for file in files {
        let _ = write!(out, "{}# {}\n{}", if out.is_empty() { "" } else { "\n" }, file.name, file.text);
    }
    out
}

/// `text` as a string of JSON, which YAML and HCL take too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A list of strings as JSON, which YAML and HCL take too.
fn list<T: AsRef<str>>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item.as_ref())).collect::<Vec<_>>().join(", "))
}

/// The unit, label or resource of the kernel `id`: `llmspell-kernel` stays as it is.
#[must_use]
pub fn unit(id: &str) -> String {
    if id == DEFAULT_KERNEL { UNIT.into() } else { format!("llmspell-kernel@{id}.service") }
}

/// Names of Kubernetes and Nomad know no upper case, dots and underscores.
fn dns_name(id: &str) -> String {
    let name: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    name.trim_matches('-').to_owned()
}

/// The last part of a path, as text.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(scope: Scope) -> Setting {
        let program = PathBuf::from("/usr/local/bin/llmspell-kernel");
        Setting { program, scope, home: "/Users/you".into(), sources: Some("../..".into()) }
    }

    /// The kernels of `deploy/docker` and `deploy/kubernetes`.
    fn kernels(config: &str) -> Vec<Service> {
        let key = |name: &str| vec![name.to_owned()];
        [("openai", key("OPENAI_API_KEY")), ("anthropic", key("ANTHROPIC_API_KEY")), ("local", vec![])]
            .into_iter()
            .map(|(name, secrets)| {
                let file = format!("{config}/{name}.toml");
                let here =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config").join(format!("{name}.toml"));
                let text = std::fs::read_to_string(here).ok();
                let service = Service::new(format!("kernel-{name}"));
                Service { config: Some(file.into()), text, secrets, published: name != "local", ..service }
            })
            .collect()
    }

    #[test]
    fn deploy_holds_what_this_prints() {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let default = [Service::new(DEFAULT_KERNEL)];
        let all = [
            ("systemd", files(Format::Systemd, &default, &setting(Scope::System))),
            ("systemd/user", files(Format::Systemd, &default, &setting(Scope::User))),
            ("launchd", files(Format::Launchd, &default, &setting(Scope::User))),
            ("docker", files(Format::Compose, &kernels("../../examples/config"), &setting(Scope::User))),
            ("kubernetes", files(Format::Kubernetes, &kernels("/etc/llmspell/kernels"), &setting(Scope::User))),
            ("nomad", files(Format::Nomad, &kernels("/etc/llmspell/kernels"), &setting(Scope::User))),
        ];
        for (folder, files) in all {
            for file in files {
                let path = deploy.join(folder).join(&file.name);
                if std::env::var_os("BLESS").is_some() {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(&path, &file.text).unwrap();
                }
                let there = std::fs::read_to_string(&path).unwrap_or_default();
                assert_eq!(there, file.text, "{}: BLESS=1 rewrites it", path.display());
            }
        }
    }

    #[test]
    fn what_differs_stands_in_a_drop_in() {
        let service = Service {
            config: Some("/srv/my kernels/100%.toml".into()),
            ports: Some([1, 2, 3, 4, 5]),
            environment: [("A".into(), "x \"y\" $z".into())].into(),
            restart: Restart::Always,
            memory_bytes: Some(1 << 30),
            cpu_percent: Some(150),
            ..Service::new("a.b")
        };
        let files = files(Format::Systemd, &[service, Service::new("c")], &setting(Scope::System));
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, [UNIT, TEMPLATE, "llmspell.sysusers", "llmspell-kernel@a.b.service.d/50-llmspell.conf"]);
        assert_eq!(
            files[3].text,
            "[Service]\nExecStart=\nExecStart=/usr/local/bin/llmspell-kernel --id a.b --config \"/srv/my kernels/100%%.toml\" \
             --ports 1,2,3,4,5\nEnvironment=\"A=x \\\"y\\\" $z\"\nRestart=always\nMemoryMax=1073741824\nCPUQuota=150%\n"
        );
    }

    #[test]
    fn nothing_of_a_kernel_gets_out_of_its_place() {
        let nasty = "a\"b\n- c: ${d} %{e} <f>&".to_owned();
        let service =
            Service { environment: [("A".into(), nasty.clone())].into(), text: Some(nasty), ..Service::new("K.x_y") };
        let service = Service { config: Some("/x\"y.toml".into()), ..service };
        let one = |format| files(format, std::slice::from_ref(&service), &setting(Scope::User)).remove(0);
        assert!(one(Format::Launchd).text.contains("<string>a\"b&#10;- c: ${d} %{e} &lt;f&gt;&amp;</string>"));
        assert!(one(Format::Compose).text.contains(r#"A: "a\"b\n- c: $${d} %{e} <f>&""#));
        assert!(one(Format::Nomad).text.contains(r#"A = "a\"b\n- c: $${d} %%{e} <f>&""#));
        let kubernetes = one(Format::Kubernetes);
        assert_eq!(kubernetes.name, "k-x-y.yaml");
        assert!(kubernetes.text.contains("  kernel.toml: |\n    a\"b\n    - c: ${d} %{e} <f>&\n---\n"));
    }
}
