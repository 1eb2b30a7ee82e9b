//! Configuration: typed TOML, defaults < files < environment < flags. The types below are the only list of keys:
//! checking, `config init`, `config show` and llmspell.toml(5) are made from them.
//!
//! A field's `x-project` says what an untrusted `./llmspell.toml` may do with it: `free` anything, `subset` only
//! values already allowed, `less` only a lower value, `inside` only paths of its own folder; nothing said: refused.
//! `x-adds` marks lists to which every layer adds, `x-live` what a running kernel takes over.

pub mod commands;
mod flags;
mod former;
mod keys;
mod load;
mod models;
mod read;
pub mod reference;
mod text;
mod trust;
mod view;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use load::{Changes, Loaded, Origin, Sources};
pub use models::{Models, Provider, SERVICES};
pub use read::Problem;
pub use trust::{State as Trust, trust};
pub use view::{known, view};

use crate::home::{self, Home};
use crate::security::{Grants, Profile};

/// Reads `text` as a configuration and as one of v0.10, for the fuzz targets.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(text: &str) {
    drop(read::read(text));
    if let Ok(new) = commands::migrate_text(text) {
        assert_eq!(commands::migrate_text(&new).expect("what was migrated is well-formed"), new);
    }
}

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The engine of scripts whose name does not tell.
    #[schemars(extend("enum" = ["lua"], "x-project" = "free"))]
    pub default_engine: String,
    /// Script engines.
    pub engines: Engines,
    /// Permissions of scripts and tools.
    pub security: Security,
    /// The kernel.
    pub kernel: Kernel,
    /// A kernel in the background, and log files.
    pub daemon: Daemon,
    /// Logs.
    pub log: Log,
    /// What scripts, agents and workflows remember.
    pub state: State,
    /// Models: which are asked, and what it may cost.
    pub models: Models,
    /// A model service or server, by a name of your own. Services that are known need no section.
    pub providers: BTreeMap<String, Provider>,
    /// Tools.
    pub tools: Tools,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            default_engine: "lua".into(),
            engines: Engines::default(),
            security: Security::default(),
            kernel: Kernel::default(),
            daemon: Daemon::default(),
            log: Log::default(),
            state: State::default(),
            models: Models::default(),
            providers: BTreeMap::new(),
            tools: Tools::default(),
        }
    }
}

/// `[engines]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Engines {
    /// Lua scripts.
    pub lua: Lua,
}

/// `[engines.lua]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lua {
    /// Most memory the values of one script state may take; 0 sets no limit.
    #[serde(with = "text::size")]
    #[schemars(schema_with = "text::size_schema", extend("x-project" = "free"))]
    pub max_memory_bytes: u64,
    /// Longest run of one script or cell; 0s sets no limit.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-live" = true, "x-project" = "free"))]
    pub timeout: Duration,
    /// More folders in which `require` looks for modules.
    #[schemars(schema_with = "text::paths_schema", extend("x-project" = "inside"))]
    pub package_paths: Vec<PathBuf>,
}

impl Default for Lua {
    fn default() -> Self {
        Lua { max_memory_bytes: 512 << 20, timeout: Duration::ZERO, package_paths: Vec::new() }
    }
}

/// `[security]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// The starting point: `safe` computes only, `standard` adds files below the working folder and public hosts,
    /// `privileged` allows all but keys and `~/.llmspell`.
    #[schemars(extend("x-project" = "less"))]
    pub profile: Profile,
    /// More folders or files that may be read.
    #[schemars(schema_with = "text::paths_schema", extend("x-project" = "subset"))]
    pub allow_read: Vec<PathBuf>,
    /// More folders or files that may be read and written.
    #[schemars(schema_with = "text::paths_schema", extend("x-project" = "subset"))]
    pub allow_write: Vec<PathBuf>,
    /// More hosts that may be reached: `host`, `host:port`, `*.domain`, an address, a CIDR block, or `*`.
    #[schemars(extend("x-project" = "subset"))]
    pub allow_net: Vec<String>,
    /// Hosts that are refused whatever else is said. Every layer adds to this list.
    #[schemars(extend("x-project" = "free", "x-adds" = true))]
    pub deny_net: Vec<String>,
    /// Programs that may be run: a name found in PATH, an absolute path, or `*`.
    #[schemars(extend("x-project" = "subset"))]
    pub allow_run: Vec<String>,
    /// Environment variables that scripts may read: a name, `PREFIX*`, or `*`.
    #[schemars(extend("x-project" = "subset"))]
    pub allow_env: Vec<String>,
}

/// How a kernel is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Sockets in a folder only the user can enter.
    #[default]
    Ipc,
    /// Ports.
    Tcp,
}

/// `[kernel]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// Name of the kernel and of its files; when not set, `llmspell-kernel`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text::id")]
    #[schemars(schema_with = "text::id_schema", extend("x-project" = "free"))]
    pub id: Option<String>,
    /// `ipc`: sockets in a folder only the user can enter; `tcp`: ports. A port that is asked for means tcp.
    pub transport: Transport,
    /// The shell port; when not set, a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("x-like" = "9555"))]
    pub port: Option<u16>,
    /// The address to listen on with tcp. Whoever can reach it can read what scripts print.
    pub ip: IpAddr,
    /// Who may connect to the ports: addresses, and blocks such as `10.0.0.0/8`. An address of `ip` that other machines
    /// reach needs this list.
    pub allow_clients: Vec<String>,
    /// The working folder, a root for reading and writing unless it is `/`; when not set, where the kernel was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::path_schema", extend("x-project" = "inside"))]
    pub workdir: Option<PathBuf>,
    /// How long running work may go on once the kernel is told to stop.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-live" = true, "x-project" = "free"))]
    pub grace: Duration,
    /// How long the kernel may go unused, without a client and without work, before it ends; 0s: for ever.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-live" = true, "x-project" = "free"))]
    pub idle_timeout: Duration,
    /// Most clients that may follow the kernel; 0 sets no limit. Those above it get an error; tools are for all.
    #[schemars(extend("x-live" = true))]
    pub max_clients: usize,
    /// Tools called by clients of the kernel.
    pub tools: KernelTools,
    /// How fast output is sent. A Jupyter server drops what comes faster than its own limits; scripts wait instead.
    pub pace: Pace,
}

impl Default for Kernel {
    fn default() -> Self {
        Kernel {
            id: None,
            transport: Transport::Ipc,
            port: None,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            allow_clients: Vec::new(),
            workdir: None,
            grace: Duration::from_secs(5),
            idle_timeout: Duration::ZERO,
            max_clients: 0,
            tools: KernelTools::default(),
            pace: Pace::default(),
        }
    }
}

/// `[kernel.tools]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KernelTools {
    /// Whether the kernel answers `tool_request`, which llmspell-tool(1) sends.
    #[schemars(extend("x-live" = true, "x-project" = "less"))]
    pub enable_tool_cli: bool,
    /// Time limit of a call that names none; 0s sets no limit.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-live" = true, "x-project" = "free"))]
    pub tool_timeout: Duration,
    /// Tool calls that run at the same time; others wait.
    #[schemars(range(min = 1, max = 256), extend("x-live" = true, "x-project" = "free"))]
    pub max_concurrent_tools: usize,
}

impl Default for KernelTools {
    fn default() -> Self {
        KernelTools { enable_tool_cli: true, tool_timeout: Duration::from_secs(30), max_concurrent_tools: 10 }
    }
}

/// When output is paced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaceWhen {
    /// In a kernel that a Jupyter program started.
    #[default]
    Auto,
    /// In every kernel.
    Always,
    /// In none.
    Never,
}

/// `[kernel.pace]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// When output is paced. `auto`: in a kernel that a Jupyter program started, as it then sets JPY_PARENT_PID.
    #[schemars(extend("x-project" = "free"))]
    pub when: PaceWhen,
    /// Messages a second, on average over the window: the server's `iopub_msg_rate_limit`.
    #[schemars(range(min = 1), extend("x-project" = "free"))]
    pub messages: u32,
    /// Bytes of text a second, on average over the window: the server's `iopub_data_rate_limit`.
    #[serde(with = "text::size")]
    #[schemars(schema_with = "text::size_schema", extend("x-project" = "free"))]
    pub bytes: u64,
    /// The window: the server's `rate_limit_window`.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-project" = "free"))]
    pub window: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { when: PaceWhen::Auto, messages: 1000, bytes: 1_000_000, window: Duration::from_secs(3) }
    }
}

/// `[daemon]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    /// A second PID file, beside the one in `~/.llmspell/kernel`. `{id}` becomes the kernel's id, and kernels that
    /// share a configuration need it; one without it that names a file in `~/.llmspell/kernel` is for that kernel only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::file_schema")]
    pub pid_file: Option<PathBuf>,
    /// The folder of log files; when not set, `~/.llmspell/logs`. The live file is always `ID.log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::folder_schema")]
    pub log_dir: Option<PathBuf>,
    /// A log file is rotated before it is larger.
    #[serde(with = "text::size")]
    #[schemars(extend("x-live" = true), schema_with = "text::size_schema")]
    pub max_log_size: u64,
    /// Whether log files are rotated by size.
    #[schemars(extend("x-live" = true))]
    pub log_rotation_on_size: bool,
    /// Whether log files are rotated at midnight UTC. With both off, logrotate(8) may do it, and send SIGHUP.
    #[schemars(extend("x-live" = true))]
    pub log_rotation_daily: bool,
    /// Days after which old log files are removed; 0 keeps them.
    #[schemars(extend("x-live" = true), range(max = 36_500))]
    pub max_log_age_days: u32,
    /// Most old log files that are kept; 0 sets no limit.
    #[schemars(extend("x-live" = true))]
    pub max_log_files: usize,
    /// Whether old log files are compressed.
    #[schemars(extend("x-live" = true))]
    pub compress_logs: bool,
}

impl Default for Daemon {
    fn default() -> Self {
        Daemon {
            pid_file: None,
            log_dir: None,
            max_log_size: 10_000_000,
            log_rotation_on_size: true,
            log_rotation_daily: true,
            max_log_age_days: 7,
            max_log_files: 20,
            compress_logs: false,
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What may need attention.
    #[default]
    Warn,
    /// What happened.
    Info,
    /// How it happened.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// As it stands in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// The log file.
    File,
    /// syslog.
    Syslog,
    /// The journal of systemd.
    Journald,
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged. A kernel in the background logs `info` unless something else is said.
    #[schemars(extend("x-live" = true, "x-project" = "free"))]
    pub level: Level,
    /// Lines for people, or one JSON object a line.
    #[schemars(extend("x-live" = true, "x-project" = "free"))]
    pub format: LogFormat,
    /// Where a kernel's lines go, one or more of `stderr`, `file`, `syslog` and `journald`. When empty: to its file for a
    /// kernel in the background or with `--log-file`, else to standard error.
    pub outputs: Vec<LogOutput>,
    /// Levels of single modules, such as `"llmspell::engine" = "debug"`.
    #[schemars(extend("x-live" = true, "x-project" = "free"))]
    pub modules: BTreeMap<String, Level>,
}

/// `[state]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Whether each acknowledged write outlives the loss of power too; slower by what the disk needs for that.
    #[schemars(extend("x-project" = "free"))]
    pub durable: bool,
    /// Name of the store in `~/.llmspell/store`, to share one between kernels; when not set, each kernel has its own
    /// and runs without a kernel share `default`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text::id")]
    #[schemars(schema_with = "text::id_schema")]
    pub store: Option<String>,
}

/// `[tools]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tools {
    /// Tools that may not be called: names, or `category:NAME` for all of one category. Every layer adds to this list.
    #[schemars(extend("x-project" = "free", "x-adds" = true))]
    pub deny: Vec<String>,
    /// Most calls of tools in a minute; 0 sets no limit.
    #[schemars(range(max = 1_000_000), extend("x-project" = "free"))]
    pub rate_limit_per_minute: u32,
    /// Most calls of single tools in a minute, such as `web_search = 30`.
    #[schemars(extend("x-project" = "free"))]
    pub rate_limits: BTreeMap<String, u32>,
    /// Time limits of single tools in seconds, in place of `kernel.tools.tool_timeout`, such as `video_processor = 600`.
    #[schemars(extend("x-project" = "free"))]
    pub timeouts: BTreeMap<String, u32>,
    /// Largest result of a call; a larger one is cut and says so. 0 sets no limit.
    #[serde(with = "text::size")]
    #[schemars(schema_with = "text::size_schema", extend("x-project" = "free"))]
    pub max_result_size: u64,
    /// A PEM file with more certificate authorities that tools trust, such as that of a company.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::path_schema")]
    pub ca_file: Option<PathBuf>,
    /// The tool `file_operations`.
    pub file_operations: FileOperations,
    /// The tool `database_connector`.
    pub database: Database,
    /// The tool `email_sender`. Passwords and keys are in the environment only.
    pub email: Email,
    /// The tool `web_search`. The keys of engines are in the environment only.
    pub web_search: WebSearch,
    /// The tool `http_request`. Its limits and `user_agent` hold for every tool that asks by HTTP.
    pub http_request: HttpRequest,
}

impl Default for Tools {
    fn default() -> Self {
        Tools {
            deny: Vec::new(),
            rate_limit_per_minute: 0,
            rate_limits: BTreeMap::new(),
            timeouts: BTreeMap::new(),
            max_result_size: 64_000_000,
            ca_file: None,
            file_operations: FileOperations::default(),
            database: Database::default(),
            email: Email::default(),
            web_search: WebSearch::default(),
            http_request: HttpRequest::default(),
        }
    }
}

/// `[tools.file_operations]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileOperations {
    /// More folders that may be read and written, by scripts and other tools too.
    #[schemars(schema_with = "text::paths_schema", extend("x-project" = "subset"))]
    pub allowed_paths: Vec<PathBuf>,
    /// Largest file that is read whole.
    #[serde(with = "text::size")]
    #[schemars(schema_with = "text::size_schema", extend("x-project" = "free"))]
    pub max_file_size: u64,
    /// Whether a file is written beside its place and then renamed, so that nobody sees half of it.
    #[schemars(extend("x-project" = "free"))]
    pub atomic_writes: bool,
}

impl Default for FileOperations {
    fn default() -> Self {
        FileOperations { allowed_paths: Vec::new(), max_file_size: 50_000_000, atomic_writes: true }
    }
}

/// `[tools.database]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// Whether calls may change databases on servers. Files are a matter of the policy.
    #[schemars(extend("x-project" = "less"))]
    pub allow_write: bool,
    /// URLs of servers or paths of SQLite files by the names calls use; a password `$NAME` is the environment variable NAME.
    pub connections: BTreeMap<String, String>,
}

/// `[tools.email]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Email {
    /// How messages are sent when a call does not say.
    pub provider: MailProvider,
    /// Who sends when a call does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "an address", "x-like" = "Ada <ada@example.com>"))]
    pub from_address: Option<String>,
    /// The SMTP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "a host", "x-like" = "smtp.example.com"))]
    pub smtp_host: Option<String>,
    /// Its port; 587, or 465 with `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("x-like" = "587"))]
    pub smtp_port: Option<u16>,
    /// Who we are to it; the password is EMAIL_SMTP_PASSWORD in the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "a name", "x-like" = "ada"))]
    pub smtp_username: Option<String>,
    /// How the connection is encrypted. A server that offers no STARTTLS is refused, unless it is this machine.
    pub tls: MailTls,
    /// The region of Amazon SES.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "a region", "x-like" = "eu-west-1"))]
    pub ses_region: Option<String>,
    /// Other places of `ses` and `sendgrid`: gateways, tests. The key goes there too.
    pub endpoints: BTreeMap<String, String>,
}

/// Ways to send mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailProvider {
    /// An SMTP server.
    #[default]
    Smtp,
    /// Amazon SES.
    Ses,
    /// SendGrid.
    Sendgrid,
}

/// How SMTP is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// After the greeting.
    #[default]
    Starttls,
    /// From the first byte.
    Tls,
    /// Not at all.
    None,
}

/// `[tools.web_search]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebSearch {
    /// The engine that is asked when a call names none; `auto` asks those that are configured, in turn.
    #[schemars(extend("x-project" = "free"))]
    pub provider: SearchProvider,
    /// Results of a call that names no number.
    #[schemars(range(min = 1, max = 100), extend("x-project" = "free"))]
    pub max_results: usize,
    /// Whether adult content is left out when a call does not say.
    #[schemars(extend("x-project" = "free"))]
    pub safe_search: bool,
    /// Where SearXNG is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "a URL", "x-like" = "https://search.example.org/"))]
    pub searxng_url: Option<String>,
    /// The id of the engine of Google's Programmable Search.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "an id", "x-like" = "017576662512468239146:omuauf_lfve"))]
    pub google_engine_id: Option<String>,
    /// Other places of engines, by their names: gateways, tests. The key goes there too.
    pub endpoints: BTreeMap<String, String>,
}

impl Default for WebSearch {
    fn default() -> Self {
        WebSearch {
            provider: SearchProvider::Auto,
            max_results: 10,
            safe_search: true,
            searxng_url: None,
            google_engine_id: None,
            endpoints: BTreeMap::new(),
        }
    }
}

/// Search engines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SearchProvider {
    /// Those that are configured, in turn.
    #[default]
    Auto,
    /// Brave Search.
    Brave,
    /// Instant answers of DuckDuckGo.
    Duckduckgo,
    /// Google's Programmable Search.
    Google,
    /// A SearXNG.
    Searxng,
    /// SerpApi.
    Serpapi,
    /// Serper.
    Serper,
    /// Tavily.
    Tavily,
}

/// `[tools.http_request]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpRequest {
    /// Time limit of a request that names none, in seconds.
    #[schemars(range(min = 1, max = 86_400), extend("x-project" = "free"))]
    pub timeout_seconds: u64,
    /// Most redirects that are followed.
    #[schemars(range(max = 50), extend("x-project" = "free"))]
    pub max_redirects: u32,
    /// The only hosts this tool may ask, `*` for every host the policy allows. It never widens the policy.
    #[schemars(length(min = 1), extend("x-project" = "subset", "x-noun" = "a list of at least one host"))]
    pub allowed_hosts: Vec<String>,
    /// Hosts that are refused, to scripts and other tools too. Every layer adds to this list.
    #[schemars(extend("x-project" = "free", "x-adds" = true))]
    pub blocked_hosts: Vec<String>,
    /// Largest body of an answer.
    #[serde(with = "text::size")]
    #[schemars(schema_with = "text::size_schema", extend("x-project" = "free"))]
    pub max_response_size: u64,
    /// What requests call themselves.
    #[schemars(extend("x-project" = "free"))]
    pub user_agent: String,
    /// Headers of every request that does not set them itself.
    pub default_headers: BTreeMap<String, String>,
}

impl Default for HttpRequest {
    fn default() -> Self {
        HttpRequest {
            timeout_seconds: 30,
            max_redirects: 5,
            allowed_hosts: vec!["*".into()],
            blocked_hosts: Vec::new(),
            max_response_size: 10_000_000,
            user_agent: concat!("llmspell/", env!("CARGO_PKG_VERSION")).into(),
            default_headers: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads every layer of `sources`.
    ///
    /// # Errors
    /// `Config` naming file, line and key of the first problem; `Usage` when a flag is wrong.
    pub fn load(sources: &Sources) -> crate::error::Result<Loaded> {
        let mut loaded = Self::survey(sources);
        let more = loaded.problems.len().saturating_sub(1);
        let Some(first) = loaded.problems.drain(..).next() else { return Ok(loaded) };
        Err(match more {
            0 => first.into_error(),
            _ => first.into_error().hint(format!("{more} more; llmspell-kernel config check lists all.")),
        })
    }

    /// As [`Config::load`], but what is wrong is left out and listed in `problems`: for `config check` and `doctor`.
    #[must_use]
    pub fn survey(sources: &Sources) -> Loaded {
        load::load(sources)
    }

    /// This configuration with those values of `new` that may change while a kernel runs.
    #[must_use]
    pub fn merge(&self, new: &Config) -> (Config, Changes) {
        load::merge(self, new)
    }

    /// Values that must not be shown, for `log::hide`.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let providers = self.providers.values();
        let keys = providers.clone().filter_map(|provider| provider.api_key.as_deref());
        let theirs = providers.flat_map(|provider| &provider.headers);
        let headers = self.tools.http_request.default_headers.iter().chain(theirs);
        let headers =
            headers.filter(|(name, _)| keys::is_secret(std::slice::from_ref(name))).map(|(_, value)| &value[..]);
        keys.chain(headers)
    }

    /// What is in no root: our own folders, and unless everything is allowed the places where others keep their keys.
    fn hidden(&self, home: &Home) -> Vec<PathBuf> {
        const KEYS: [&str; 6] = [".aws", ".gnupg", ".kube", ".local/share/jupyter/runtime", ".netrc", ".ssh"];
        let user = std::env::var_os("HOME").filter(|_| self.security.profile != Profile::Privileged);
        let keys = user.iter().flat_map(|user| KEYS.map(|name| Path::new(user).join(name)));
        let ours = [home.root().to_path_buf(), home.runtime_dir()].into_iter().chain(home::credentials_dir());
        ours.chain(keys).collect()
    }

    /// What the policy is made from. `workdir` is where the program was started; `kernel.workdir` goes before it.
    /// The home folder is never inside a root, and every spelling of `/` becomes `/`, which is never one.
    #[must_use]
    pub fn grants(&self, workdir: &Path, home: &Home) -> Grants {
        let workdir = self.kernel.workdir.as_deref().unwrap_or(workdir);
        let workdir = match std::fs::canonicalize(workdir) {
            Ok(real) if real.parent().is_none() => real,
            _ => workdir.to_path_buf(),
        };
        let (security, tools) = (&self.security, &self.tools);
        Grants {
            profile: security.profile,
            workdir,
            read: security.allow_read.clone(),
            write: [&security.allow_write[..], &tools.file_operations.allowed_paths].concat(),
            net: security.allow_net.clone(),
            net_deny: [&security.deny_net[..], &tools.http_request.blocked_hosts].concat(),
            run: security.allow_run.clone(),
            env: security.allow_env.clone(),
            hidden: self.hidden(home),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_gather_what_several_keys_allow() {
        let mut config = Config::default();
        config.security.allow_write = vec!["/a".into()];
        config.tools.file_operations.allowed_paths = vec!["/b".into()];
        config.tools.http_request.blocked_hosts = vec!["h".into()];
        config.tools.http_request.default_headers =
            [("Accept".into(), "a".into()), ("X-Api-Key".into(), "b".into())].into();
        assert_eq!(config.secrets().collect::<Vec<_>>(), ["b"]);
        let grants = config.grants(Path::new("/usr/.."), &Home::at("/h"));
        assert_eq!(grants.write, [PathBuf::from("/a"), "/b".into()]);
        assert_eq!(grants.net_deny, ["h"]);
        assert!(grants.hidden.contains(&PathBuf::from("/h")));
        assert_eq!(grants.workdir, Path::new("/"));
    }
}
