//! What v0.10 could configure and this version cannot, or calls otherwise: warned of, never refused.

/// A key or section of v0.10.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) path: &'static str,
    pub(super) fate: Fate,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Fate {
    /// Its value, a number with this unit, is now the key of this name in the same section, or of this path.
    Moved(&'static str, &'static str),
    /// Its tables are now those of the section above it.
    Up,
    /// It has no effect; why.
    Gone(&'static str),
}

const ABSENT: &str = "not in this version";
const DEAD: &str = "never had an effect";

const fn gone(path: &'static str, why: &'static str) -> Former {
    Former { path, fate: Fate::Gone(why) }
}

/// The keys; the longest that fits counts.
pub(super) const FORMER: &[Former] = &[
    Former { path: "engines.lua.timeout_ms", fate: Fate::Moved("timeout", "ms") },
    gone("engines.lua.stdlib", "every script has the safe standard library"),
    gone("engines.lua.enable_debug", ABSENT),
    gone("engines.lua.security_level", "use security.profile"),
    gone("engines.javascript", "built without javascript"),
    Former { path: "providers.default_provider", fate: Fate::Moved("models.default", "") },
    Former { path: "providers.providers", fate: Fate::Up },
    Former { path: "providers.*.provider_type", fate: Fate::Moved("type", "") },
    Former { path: "providers.*.default_model", fate: Fate::Moved("model", "") },
    Former { path: "providers.*.endpoint", fate: Fate::Moved("base_url", "") },
    Former { path: "providers.*.timeout_seconds", fate: Fate::Moved("timeout", "s") },
    Former { path: "providers.*.max_retries", fate: Fate::Moved("retries", "") },
    gone("providers.*.enabled", "a provider is used when it is named"),
    gone("providers.*.name", "the section is its name"),
    gone("providers.*.rate_limit", "use requests_per_minute and tokens_per_minute"),
    gone("providers.*.retry", "use retries"),
    gone("providers.*.temperature", "set it in the script"),
    gone("runtime", ABSENT),
    gone("runtime.max_concurrent_scripts", "a kernel runs one script at a time"),
    gone("runtime.script_timeout_seconds", "use engines.lua.timeout"),
    gone("runtime.enable_streaming", "output is always streamed"),
    gone("runtime.security", "use the section security"),
    gone("runtime.security.allow_file_access", "use security.profile, allow_read and allow_write"),
    gone("runtime.security.allow_network_access", "use security.profile and allow_net"),
    gone("runtime.security.allow_process_spawn", "use security.allow_run"),
    gone("runtime.security.max_memory_bytes", "use engines.lua.max_memory_bytes"),
    gone("runtime.security.max_execution_time_ms", "use engines.lua.timeout"),
    gone("runtime.state_persistence", "state is always kept in ~/.llmspell/store; see the section state"),
    gone("runtime.sessions", "sessions are not in this version"),
    gone("hooks", ABSENT),
    gone("events", ABSENT),
    gone("debug", "use the section log"),
    gone("rag", ABSENT),
    gone("llm", "use models.default, and a section providers.NAME"),
    gone("state.backend", "state is always kept in ~/.llmspell/store"),
    gone("state.enabled", DEAD),
    gone("sessions", ABSENT),
    gone("logging", "use the section log"),
    gone("monitoring", ABSENT),
    gone("service", ABSENT),
    gone("signals", "nothing to set; llmspell-kernel(1) tells what each does"),
    gone("protocols", ABSENT),
    gone("daemon.daemonize", "use --daemon"),
    gone("daemon.logging", "use the other keys of daemon, and the section log"),
    gone("daemon.working_dir", "use kernel.workdir"),
    gone("daemon.umask", "always 077"),
    gone("kernel.execution", "use engines.lua and kernel.tools"),
    gone("kernel.health", ABSENT),
    gone("kernel.log_level", "use log.level"),
    gone("tools.enabled", "use tools.deny"),
    gone("tools.file_operations.enabled", "use security.profile"),
    gone("tools.file_operations.max_depth", DEAD),
    gone("tools.file_operations.allowed_extensions", DEAD),
    gone("tools.file_operations.blocked_extensions", DEAD),
    gone("tools.file_operations.validate_file_types", DEAD),
    gone("tools.http_request.max_request_size", "never had an effect; max_response_size limits answers"),
    gone("tools.web_search.rate_limit_per_minute", DEAD),
    gone("tools.web_search.allowed_domains", DEAD),
    gone("tools.web_search.blocked_domains", DEAD),
    gone("tools.web_search.timeout_seconds", DEAD),
    gone("tools.web_search.user_agent", "use tools.http_request.user_agent"),
    gone("tools.network", "use the section tools.http_request"),
    gone("tools.web_tools", "use the section tools.http_request"),
    gone("tools.media", DEAD),
    gone("tools.database.connection_timeout_seconds", DEAD),
    gone("tools.database.max_connections", DEAD),
    gone("tools.database.allowed_hosts", DEAD),
    gone("tools.database.query_timeout_seconds", DEAD),
    gone("tools.database.enable_query_logging", DEAD),
    gone("tools.email.smtp_password", "never had an effect; EMAIL_SMTP_PASSWORD in the environment is the password"),
    gone("tools.email.rate_limit_per_minute", DEAD),
    gone("tools.email.enable_tls", "never had an effect; use tools.email.tls"),
    gone("tools.system", "use security.allow_run and security.allow_env"),
    gone("tools.data", ABSENT),
    gone("tools.academic", ABSENT),
    gone("tools.document", ABSENT),
    gone("tools.search", "use the section tools.web_search"),
];

/// The row for `path`, and whether `path` is only on the way to rows.
pub(super) fn find(path: &[String]) -> (Option<&'static Former>, bool) {
    let under = |path: &[String], row: &Former| {
        let mut parts = row.path.split('.');
        path.iter()
            .all(|name| parts.next().is_some_and(|part| part == "*" || part == name))
            .then(|| parts.next().is_some())
    };
    let row =
        (1..=path.len()).rev().find_map(|length| FORMER.iter().find(|row| under(&path[..length], row) == Some(false)));
    (row, FORMER.iter().any(|row| under(path, row) == Some(true)))
}

/// Whether v0.10 had something of its own at `path`, where names are free now.
pub(super) fn is_taken(path: &[String]) -> bool {
    FORMER.iter().any(|row| row.path.split('.').eq(path.iter().map(|name| &name[..])))
}

/// The key of today that an environment variable of one provider sets: `LLMSPELL_OPENAI_MODEL`, `LLMSPELL_PROVIDER_X_BASE_URL`;
/// an empty one for a key, which stays in the environment.
pub(super) fn provider_variable(name: &str) -> Option<(String, &'static str)> {
    let rest = name.strip_prefix("LLMSPELL_")?;
    let (rest, any) = rest.strip_prefix("PROVIDER_").map_or((rest, false), |rest| (rest, true));
    const ENDS: [(&str, &str); 7] = [
        ("_API_KEY", ""),
        ("_BASE_URL", "base_url"),
        ("_ENDPOINT", "base_url"),
        ("_MODEL", "model"),
        ("_PROVIDER_TYPE", "type"),
        ("_TIMEOUT", "timeout"),
        ("_MAX_RETRIES", "retries"),
    ];
    ENDS.iter().find_map(|(end, key)| {
        let provider = rest.strip_suffix(end)?.to_lowercase();
        (any || super::SERVICES.contains(&&provider[..])).then_some((provider, *key))
    })
}

/// Environment variables of v0.10 that set a key of today.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    ("LLMSPELL_MODEL", "models.default"),
    ("LLMSPELL_ENGINE", "default_engine"),
    ("LLMSPELL_TOOLS_ALLOWED_PATHS", "tools.file_operations.allowed_paths"),
    ("LLMSPELL_TOOLS_MAX_FILE_SIZE", "tools.file_operations.max_file_size"),
    ("LLMSPELL_TOOLS_NETWORK_TIMEOUT", "tools.http_request.timeout_seconds"),
];

/// Beginnings of variables of v0.10 that set nothing now.
pub(super) const GONE_VARIABLES: &[(&str, &str)] = &[
    ("LLMSPELL_MAX_CONCURRENT_SCRIPTS", "a kernel runs one script at a time"),
    ("LLMSPELL_SCRIPT_TIMEOUT_SECONDS", "use LLMSPELL_ENGINES_LUA_TIMEOUT"),
    ("LLMSPELL_ALLOW_FILE_ACCESS", "use LLMSPELL_SECURITY_PROFILE"),
    ("LLMSPELL_ALLOW_NETWORK_ACCESS", "use LLMSPELL_SECURITY_ALLOW_NET"),
    ("LLMSPELL_ALLOW_PROCESS_SPAWN", "use LLMSPELL_SECURITY_ALLOW_RUN"),
    ("LLMSPELL_MAX_MEMORY_BYTES", "use LLMSPELL_ENGINES_LUA_MAX_MEMORY_BYTES"),
    ("LLMSPELL_MAX_EXECUTION_TIME_MS", "use LLMSPELL_ENGINES_LUA_TIMEOUT"),
    ("LLMSPELL_STATE_", ABSENT),
    ("LLMSPELL_SESSIONS_", ABSENT),
    ("LLMSPELL_HOOKS_", ABSENT),
    ("LLMSPELL_EVENTS_", ABSENT),
    ("LLMSPELL_RAG_", ABSENT),
    ("LLMSPELL_DEBUG", "use LLMSPELL_LOG_LEVEL"),
    ("LLMSPELL_TOOLS_", ABSENT),
    ("LLMSPELL_NETWORK_", ABSENT),
    ("LLMSPELL_WEB_", ABSENT),
    ("LLMSPELL_MEDIA_", ABSENT),
    ("LLMSPELL_DB_", ABSENT),
    ("LLMSPELL_EMAIL_", ABSENT),
    ("LLMSPELL_SYSTEM_", ABSENT),
    ("LLMSPELL_DATA_", ABSENT),
    ("LLMSPELL_ACADEMIC_", ABSENT),
    ("LLMSPELL_DOC_", ABSENT),
    ("LLMSPELL_SEARCH_", ABSENT),
    ("LLMSPELL_LOG_FILE", ABSENT),
    ("LLMSPELL_PID_FILE", ABSENT),
];

/// Variables of the suite that are no keys.
pub(super) const OTHER_VARIABLES: &[&str] =
    &["LLMSPELL_HOME", "LLMSPELL_CONFIG", "LLMSPELL_KERNEL", "LLMSPELL_CONNECTION_FILE"];

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn no_former_key_is_a_key_of_today() {
        for row in FORMER {
            assert!(keys::find(&keys::split(row.path)).is_none(), "{}", row.path);
        }
        for (_, path) in VARIABLES {
            assert!(matches!(keys::find(&keys::split(path)), Some(keys::Node::Key(_))), "{path}");
        }
    }

    #[test]
    fn variables_of_one_provider_name_it() {
        let of = |name: &str| provider_variable(name);
        assert_eq!(of("LLMSPELL_OPENAI_MODEL"), Some(("openai".into(), "model")));
        assert_eq!(of("LLMSPELL_PROVIDER_MINE_BASE_URL"), Some(("mine".into(), "base_url")));
        assert_eq!(of("LLMSPELL_ANTHROPIC_API_KEY"), Some(("anthropic".into(), "")));
        assert_eq!((of("LLMSPELL_MINE_MODEL"), of("LLMSPELL_LOG_LEVEL")), (None, None));
    }

    #[test]
    fn the_longest_row_counts() {
        let row = |path: &str| find(&keys::split(path)).0.map(|row| row.path);
        assert_eq!(row("runtime.security.allow_file_access"), Some("runtime.security.allow_file_access"));
        assert_eq!(row("runtime.security.else"), Some("runtime.security"));
        assert_eq!(row("providers.openai.api_key"), None);
        assert_eq!(row("providers.openai.retry.max_delay_ms"), Some("providers.*.retry"));
        assert!(keys::find(&keys::split("providers.openai.api_key")).is_some());
        assert!(keys::find(&keys::split("providers.providers.x.model")).is_none());
        assert_eq!(row("kernel.tools"), None);
    }
}
