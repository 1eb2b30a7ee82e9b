//! The services that are known: one row each. Any other server of a dialect is a `[providers.NAME]` with a `base_url`.

use url::Url;

use super::dialect::Dialect;
use super::{anthropic, cohere, gemini, ollama, openai, responses};
use crate::config::{Config, Provider};
use crate::error::{Class, Error, Result, nearest};

/// How to speak to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
    /// Ollama's own.
    Ollama,
    /// Cohere's chat.
    Cohere,
    /// Embeddings and ranking only.
    Vectors,
    /// The scripted one.
    Mock,
}

/// Where servers of one dialect differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// The limit is called `max_completion_tokens`.
    pub max_completion_tokens: bool,
    /// The seed is called `random_seed`.
    pub random_seed: bool,
    /// `any` means that a tool is required.
    pub any_for_required: bool,
    /// Ids of calls have nine letters and digits.
    pub short_call_ids: bool,
    /// Content is a string, never parts.
    pub plain_content: bool,
    /// Usage at the end of a stream is to be asked for.
    pub stream_options: bool,
    /// The key goes into the header `api-key`.
    pub api_key_header: bool,
    /// It can be asked for JSON, but not for JSON of a schema.
    pub json_object: bool,
}

const NONE: Quirks = Quirks {
    max_completion_tokens: false,
    random_seed: false,
    any_for_required: false,
    short_call_ids: false,
    plain_content: false,
    stream_options: true,
    api_key_header: false,
    json_object: false,
};

/// A service that is known.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, as `provider/model` has it.
    pub name: &'static str,
    /// Other names that find it.
    pub aliases: &'static [&'static str],
    /// Its dialect.
    pub kind: Kind,
    /// Where it is.
    pub base_url: &'static str,
    /// Environment variables that may hold its key, first one first; none: it needs no key.
    pub keys: &'static [&'static str],
    /// Environment variable that may say where it is.
    pub base_url_env: &'static str,
    /// What it does its own way.
    pub quirks: Quirks,
}

const fn row(
    name: &'static str,
    kind: Kind,
    base_url: &'static str,
    keys: &'static [&'static str],
    base_url_env: &'static str,
) -> Row {
    Row { name, aliases: &[], kind, base_url, keys, base_url_env, quirks: NONE }
}

/// All of them.
pub const ROWS: &[Row] = &[
    Row {
        quirks: Quirks { max_completion_tokens: true, ..NONE },
        ..row("openai", Kind::Chat, "https://api.openai.com/v1", &["OPENAI_API_KEY"], "OPENAI_BASE_URL")
    },
    row("openai_responses", Kind::Responses, "https://api.openai.com/v1", &["OPENAI_API_KEY"], "OPENAI_BASE_URL"),
    Row {
        aliases: &["claude"],
        ..row("anthropic", Kind::Anthropic, "https://api.anthropic.com", &["ANTHROPIC_API_KEY"], "ANTHROPIC_BASE_URL")
    },
    Row {
        aliases: &["google"],
        ..row(
            "gemini",
            Kind::Gemini,
            "https://generativelanguage.googleapis.com/v1beta",
            &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
            "GEMINI_BASE_URL",
        )
    },
    row("ollama", Kind::Ollama, "http://127.0.0.1:11434", &[], "OLLAMA_HOST"),
    row("cohere", Kind::Cohere, "https://api.cohere.com", &["COHERE_API_KEY", "CO_API_KEY"], "COHERE_BASE_URL"),
    row("groq", Kind::Chat, "https://api.groq.com/openai/v1", &["GROQ_API_KEY"], "GROQ_BASE_URL"),
    Row {
        quirks: Quirks {
            random_seed: true,
            any_for_required: true,
            short_call_ids: true,
            stream_options: false,
            ..NONE
        },
        ..row("mistral", Kind::Chat, "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"], "MISTRAL_BASE_URL")
    },
    Row {
        quirks: Quirks { plain_content: true, json_object: true, ..NONE },
        ..row("deepseek", Kind::Chat, "https://api.deepseek.com", &["DEEPSEEK_API_KEY"], "DEEPSEEK_BASE_URL")
    },
    row("openrouter", Kind::Chat, "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY"], "OPENROUTER_BASE_URL"),
    row("together", Kind::Chat, "https://api.together.xyz/v1", &["TOGETHER_API_KEY"], "TOGETHER_BASE_URL"),
    row("fireworks", Kind::Chat, "https://api.fireworks.ai/inference/v1", &["FIREWORKS_API_KEY"], "FIREWORKS_BASE_URL"),
    Row { aliases: &["grok"], ..row("xai", Kind::Chat, "https://api.x.ai/v1", &["XAI_API_KEY"], "XAI_BASE_URL") },
    row("cerebras", Kind::Chat, "https://api.cerebras.ai/v1", &["CEREBRAS_API_KEY"], "CEREBRAS_BASE_URL"),
    row("perplexity", Kind::Chat, "https://api.perplexity.ai", &["PERPLEXITY_API_KEY"], "PERPLEXITY_BASE_URL"),
    Row {
        quirks: Quirks { api_key_header: true, max_completion_tokens: true, ..NONE },
        // Its address is that of one's own resource: https://NAME.openai.azure.com/openai/v1
        ..row("azure", Kind::Chat, "", &["AZURE_OPENAI_API_KEY"], "AZURE_OPENAI_ENDPOINT")
    },
    Row {
        aliases: &["llama_cpp", "llama.cpp", "llama-server"],
        ..row("llamacpp", Kind::Chat, "http://127.0.0.1:8080/v1", &[], "LLAMACPP_BASE_URL")
    },
    row("vllm", Kind::Chat, "http://127.0.0.1:8000/v1", &[], "VLLM_BASE_URL"),
    Row {
        aliases: &["lm_studio", "lm-studio"],
        ..row("lmstudio", Kind::Chat, "http://127.0.0.1:1234/v1", &[], "LMSTUDIO_BASE_URL")
    },
    row("voyage", Kind::Vectors, "https://api.voyageai.com/v1", &["VOYAGE_API_KEY"], "VOYAGE_BASE_URL"),
    row("jina", Kind::Vectors, "https://api.jina.ai/v1", &["JINA_API_KEY"], "JINA_BASE_URL"),
    row("mock", Kind::Mock, "", &[], ""),
];

/// The row called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Row> {
    let name = name.to_lowercase();
    ROWS.iter().find(|row| row.name == name || row.aliases.contains(&name.as_str()))
}

/// A service to talk to: its row, with what configuration and environment say.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name in configuration and results.
    pub name: String,
    /// Its dialect.
    pub kind: Kind,
    /// Where it is, without a slash at its end; empty where nobody said.
    pub base_url: String,
    /// What it does its own way.
    pub quirks: Quirks,
    /// Its row.
    pub row: &'static Row,
    /// Its section.
    pub section: Provider,
}

/// A variable of the environment, if it says anything.
pub(super) fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !name.is_empty() && !value.trim().is_empty())
}

impl Service {
    /// The service called `name`.
    ///
    /// # Errors
    /// `NotFound` when neither configuration nor the table knows it; `Config` when its section is wrong.
    pub fn of(name: &str, config: &Config) -> Result<Self> {
        let section = config.providers.get(name).cloned();
        let row = match section.as_ref().and_then(|section| section.r#type.as_deref()) {
            Some(kind) => Some(find(kind).ok_or_else(|| {
                let meant = nearest(kind, ROWS.iter().map(|row| row.name));
                let meant = meant.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                Error::new(Class::Config, format!("providers.{name}.type: no service {kind:?}{meant}"))
            })?),
            None => find(name).or_else(|| section.as_ref().and_then(|_| find("openai"))),
        };
        let Some(row) = row else {
            let known = config.providers.keys().map(|name| &name[..]).chain(ROWS.iter().map(|row| row.name));
            let meant = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return Err(Error::new(Class::NotFound, format!("provider {name}: not known{meant}"))
                .hint("Name another, or give it a section [providers.NAME] with a base_url."));
        };
        let section = section.unwrap_or_default();
        let base_url = section.base_url.clone().or_else(|| {
            let named = var(row.base_url_env)?;
            Some(if row.kind == Kind::Ollama { ollama_host(&named) } else { named })
        });
        // A service of one's own name is not where the one it is like is, unless it says nothing at all.
        let base_url = base_url.unwrap_or_else(|| row.base_url.to_owned());
        let base_url = base_url.trim().trim_end_matches('/').to_owned();
        let base_url = match row.kind {
            // As their SDKs have it, and as people write it.
            Kind::Anthropic => base_url.strip_suffix("/v1").unwrap_or(&base_url).to_owned(),
            Kind::Cohere => {
                ["/v1", "/v2"].iter().find_map(|end| base_url.strip_suffix(end)).unwrap_or(&base_url).to_owned()
            }
            _ => base_url,
        };
        Ok(Service { name: name.to_owned(), kind: row.kind, base_url, quirks: row.quirks, row, section })
    }

    /// Whether it is where its row says, or where the environment says that it is.
    #[must_use]
    pub fn is_at_home(&self) -> bool {
        self.section.base_url.is_none() || self.name == self.row.name
    }

    /// Whether it costs nothing: a server of one's own.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.row.keys.is_empty()
            || Url::parse(&self.base_url).is_ok_and(|url| match url.host() {
                Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
                Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => false,
            }) && !self.is_at_home()
    }

    /// `path` there.
    ///
    /// # Errors
    /// `Config` when where it is is no address.
    pub(super) fn url(&self, path: &str) -> Result<Url> {
        let wrong = |what: &str| {
            let section = &self.name;
            Error::new(Class::Config, format!("providers.{section}.base_url: {what}"))
                .hint("Write it like https://host/v1.")
        };
        if self.base_url.is_empty() {
            let hint = match self.row.base_url_env {
                "" => "Set it.".to_owned(),
                variable => format!(
                    "Set it, or {variable}, to where your resource is, such as https://NAME.openai.azure.com/openai/v1."
                ),
            };
            return Err(wrong("not set").hint(hint));
        }
        let text = format!("{}/{path}", self.base_url);
        let url = Url::parse(&text).map_err(|error| wrong(&format!("{:?}: {error}", self.base_url)))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong(&format!("{:?} is not http or https", self.base_url)));
        }
        Ok(url)
    }

    /// How it is spoken to.
    ///
    /// # Errors
    /// `Usage` for one that cannot be asked.
    pub(super) fn dialect(&self) -> Result<&'static dyn Dialect> {
        Ok(match self.kind {
            Kind::Chat => &openai::Chat,
            Kind::Responses => &responses::Responses,
            Kind::Anthropic => &anthropic::Messages,
            Kind::Gemini => &gemini::Content,
            Kind::Ollama => &ollama::Chat,
            Kind::Cohere => &cohere::Chat,
            Kind::Vectors | Kind::Mock => {
                let text = format!("provider {}: has no models that answer", self.name);
                return Err(Error::new(Class::Usage, text).hint("It embeds and ranks."));
            }
        })
    }
}

/// As Ollama reads `OLLAMA_HOST`: scheme and port may be left out, and 0.0.0.0 is where a server listens.
#[must_use]
pub fn ollama_host(text: &str) -> String {
    let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let bracketed = host.rsplit_once(']').map_or(host, |(_, port)| port);
    let (name, port) = match bracketed.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() => (&host[..host.len() - port.len() - 1], port.to_owned()),
        _ => (host.trim_end_matches(':'), if scheme == "https" { "443" } else { "11434" }.into()),
    };
    let name = if name.is_empty() || name == "0.0.0.0" { "127.0.0.1" } else { name };
    format!("{scheme}://{name}:{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_names_of_their_own() {
        let mut names: Vec<_> = ROWS.iter().flat_map(|row| row.aliases.iter().chain([&row.name])).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert_eq!(find("Claude").unwrap().name, "anthropic");
        assert!(find("nobody").is_none());
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        let mut known = crate::config::SERVICES.to_vec();
        known.sort_by_key(|name| names.iter().position(|row| row == name));
        assert_eq!(names, known);
    }

    #[test]
    fn sections_name_services_of_ones_own() {
        let mut config = Config::default();
        let mut set = |name: &str, kind: Option<&str>, url: Option<&str>| {
            let section =
                Provider { r#type: kind.map(str::to_owned), base_url: url.map(str::to_owned), ..Provider::default() };
            config.providers.insert(name.into(), section);
        };
        set("mine", None, Some("http://127.0.0.1:1/v1/"));
        set("other", Some("claude"), Some("https://h/v1"));
        set("wrong", Some("opnai"), None);
        set("odd", None, Some("ftp://h"));
        let of = |name: &str| Service::of(name, &config);
        let mine = of("mine").unwrap();
        assert_eq!((mine.kind, mine.url("models").unwrap().as_str()), (Kind::Chat, "http://127.0.0.1:1/v1/models"));
        assert!(mine.is_free() && !mine.is_at_home());
        assert_eq!(of("other").unwrap().base_url, "https://h");
        assert_eq!(
            of("wrong").unwrap_err().to_string(),
            "providers.wrong.type: no service \"opnai\"; did you mean openai?"
        );
        assert_eq!(of("opnai").unwrap_err().to_string(), "provider opnai: not known; did you mean openai?");
        assert_eq!(of("odd").unwrap().url("x").unwrap_err().class(), Class::Config);
        assert!(!of("openai").unwrap().is_free() && of("ollama").unwrap().is_free());
    }

    #[test]
    fn ollama_is_where_its_variable_says() {
        for (text, url) in [
            ("127.0.0.1", "http://127.0.0.1:11434"),
            ("0.0.0.0:1234", "http://127.0.0.1:1234"),
            ("https://host", "https://host:443"),
            ("http://host:80/ollama/", "http://host:80/ollama"),
            (":5", "http://127.0.0.1:5"),
            ("[::1]", "http://[::1]:11434"),
            ("[::1]:7", "http://[::1]:7"),
        ] {
            assert_eq!(ollama_host(text), url, "{text}");
        }
    }
}
