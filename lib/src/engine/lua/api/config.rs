//! `Config`

use super::{Section, row};

pub(super) const CONFIG: Section = Section {
    title: "CONFIG",
    about: "The configuration as it is now, of files, environment and flags together; llmspell.toml(5) tells every key. It is read-only here, and values that are secret are `<redacted>`.",
    values: &[],
    rows: &[
        row("Config", "", "What is configured."),
        row("Config.get", "([key [, default]]) → value", "The value of a key or section, such as `kernel.tools.tool_timeout`; `default` where it is not set. Without a key, all of it.").errors("`not_found` for what is no key.").example("print(Config.get('kernel.tools.max_concurrent_tools'))  --> 10\nprint(Config.get('kernel.port', 'any'))  --> any"),
        row("Config.getDefaultEngine", "() → string", "The engine of scripts whose name does not tell.").example("print(Config.getDefaultEngine())  --> lua"),
        row("Config.getPermissions", "() → table", "What scripts may do with the configuration: `{read, modify_providers, modify_tools, modify_runtime, modify_security, access_secrets}`; only `read` is true.").example("print(Config.getPermissions().modify_security)  --> false"),
        row("Config.getProvider", "(name) → table | nil", "The section `providers.NAME`, its keys hidden; nil where there is none.").example("print(Config.getProvider('nobody'))  --> nil"),
        row("Config.getSection", "(name) → table", "One section.").errors("`not_found` for what is no section.").example("print(Config.getSection('kernel.tools').tool_timeout)  --> 30s"),
        row("Config.getSecurity", "() → table", "The section `security`. What it comes to, `Config.isFileAccessAllowed` tells.").example("print(Config.getSecurity().profile)  --> standard"),
        row("Config.getTools", "() → table", "The section `tools`.").example("print(Config.getTools().file_operations.atomic_writes)  --> true"),
        row("Config.isFileAccessAllowed", "(path [, mode]) → boolean", "Whether the policy lets this script read the path, or with the mode `write` write it. It need not exist.").example("print(Config.isFileAccessAllowed('notes.txt', 'write'))  --> true\nprint(Config.isFileAccessAllowed('/etc/shadow'))  --> false"),
        row("Config.isNetworkAccessAllowed", "([host [, port]]) → boolean", "Whether the policy lets this script reach the host, on port 443 if none is given; without a host, whether it can reach any.").errors("`remote` for a name that does not resolve.").example("print(Config.isNetworkAccessAllowed('127.0.0.1', 80))  --> false"),
        row("Config.listProviders", "() → list", "The names of the providers that are configured.").example("print(#Config.listProviders())"),
        row("Config.snapshot", "() → table", "All of it as a table of its own.").example("print(Config.snapshot().log.level)  --> warn"),
        row("Config.toJson", "() → string", "All of it as JSON text.").example("print(JSON.parse(Config.toJson()).kernel.transport)  --> ipc"),
    ],
};
