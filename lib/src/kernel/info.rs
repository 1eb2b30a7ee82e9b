//! `kernel_info_reply`.

use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::Language;
use crate::protocol;
use crate::protocol::connection::{Channel, Connection};

/// What a kernel tells of itself.
#[derive(Serialize)]
pub(super) struct KernelInfo {
    status: &'static str,
    protocol_version: &'static str,
    implementation: &'static str,
    implementation_version: &'static str,
    language_info: Language,
    banner: String,
    help_links: [HelpLink; 2],
    supported_features: &'static [&'static str],
    /// What `supported_features` replaced; older clients look here.
    debugger: bool,
    /// Ours: what a client names it by.
    kernel_id: String,
    /// The content of a `connect_reply`.
    #[serde(skip)]
    pub(super) ports: Value,
}

#[derive(Serialize)]
struct HelpLink {
    text: &'static str,
    url: &'static str,
}

impl KernelInfo {
    pub(super) fn new(id: &str, connection: &Connection, language: Language) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        KernelInfo {
            status: "ok",
            protocol_version: protocol::VERSION,
            implementation: "llmspell",
            implementation_version: version,
            banner: format!("llmspell {version}, Lua {}", language.version),
            language_info: language,
            help_links: [
                HelpLink { text: "Lua 5.4 reference manual", url: "https://www.lua.org/manual/5.4/" },
                HelpLink { text: "llmspell", url: env!("CARGO_PKG_REPOSITORY") },
            ],
            supported_features: &[],
            debugger: false,
            kernel_id: id.into(),
            ports: json!({
                "status": "ok",
                "shell_port": connection.port(Channel::Shell),
                "iopub_port": connection.port(Channel::Iopub),
                "stdin_port": connection.port(Channel::Stdin),
                "control_port": connection.port(Channel::Control),
                "hb_port": connection.port(Channel::Heartbeat),
            }),
        }
    }
}
