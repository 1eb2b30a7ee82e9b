//! `[models]` and `[providers.NAME]`: which models are asked, where, with which key, and what it may cost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;

/// Names of the services that need no section of their own; `providers::services` has the row of each.
pub const SERVICES: &[&str] = &[
    "openai",
    "openai_responses",
    "anthropic",
    "gemini",
    "ollama",
    "cohere",
    "groq",
    "mistral",
    "deepseek",
    "openrouter",
    "together",
    "fireworks",
    "xai",
    "cerebras",
    "perplexity",
    "azure",
    "voyage",
    "jina",
    "llamacpp",
    "vllm",
    "lmstudio",
    "mock",
];

/// `[models]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// The model that is asked when nobody names one: `provider/model`, or a provider whose section names its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-project" = "free", "x-noun" = "a model", "x-like" = "ollama/llama3.2"))]
    pub default: Option<String>,
    /// Models that are asked in turn when one cannot answer.
    #[schemars(extend("x-project" = "free"))]
    pub fallback: Vec<String>,
    /// Most that one run of a script or one kernel may spend, in US dollars; 0 sets no limit. Calls whose price is not
    /// known are then refused.
    #[schemars(range(min = 0.0))]
    pub max_cost: f64,
    /// Most that may be spent in a day (UTC) by all that use this home folder, in US dollars; 0 sets no limit.
    #[schemars(range(min = 0.0))]
    pub max_cost_per_day: f64,
    /// Most tokens, read and written, that one run of a script or one kernel may use; 0 sets no limit.
    pub max_tokens_per_run: u64,
    /// US dollars for a million tokens by `provider/model`: read, written and, where it differs, read from the cache and
    /// written to it. A name that ends in `*` is a beginning.
    #[schemars(extend("x-noun" = "a list of two to four prices", "x-like" = "[1.25, 10.0, 0.125]"))]
    pub prices: BTreeMap<String, Vec<f64>>,
    /// How often a request is repeated that a service or the network failed, before anything of its answer came.
    #[schemars(range(max = 20), extend("x-project" = "free"))]
    pub retries: u32,
    /// Longest wait for a connection.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-project" = "free"))]
    pub connect_timeout: Duration,
    /// Longest wait until an answer begins; models that think take their time.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-project" = "free"))]
    pub response_timeout: Duration,
    /// Longest wait between two pieces of an answer.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-project" = "free"))]
    pub idle_timeout: Duration,
    /// Longest time for an answer with all its repetitions; 0s sets no limit.
    #[serde(with = "text::duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-project" = "free"))]
    pub total_timeout: Duration,
    /// A file to which requests and answers are recorded, without keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::path_schema")]
    pub record: Option<PathBuf>,
    /// A file of recorded answers that are given instead of asking a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::path_schema")]
    pub replay: Option<PathBuf>,
}

impl Default for Models {
    fn default() -> Self {
        Models {
            default: None,
            fallback: Vec::new(),
            max_cost: 0.0,
            max_cost_per_day: 0.0,
            max_tokens_per_run: 0,
            prices: BTreeMap::new(),
            retries: 2,
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(120),
            total_timeout: Duration::ZERO,
            record: None,
            replay: None,
        }
    }
}

/// `[providers.NAME]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// The service whose ways it has, such as `openai`, `anthropic`, `gemini`, `ollama`, `cohere`, `llamacpp` or `mock`; when
    /// not set, the one of its name, else `openai`, whose chat completions many servers speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "a service", "x-like" = "openai"))]
    pub r#type: Option<String>,
    /// The model that is asked when only the provider is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-project" = "free", "x-noun" = "a model", "x-like" = "llama3.2"))]
    pub model: Option<String>,
    /// Where it is; when not set, where its service is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "a URL", "x-like" = "http://127.0.0.1:8080/v1"))]
    pub base_url: Option<String>,
    /// The environment variable that holds its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "a variable", "x-like" = "OPENAI_API_KEY"))]
    pub api_key_env: Option<String>,
    /// The file that holds its key and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::path_schema")]
    pub api_key_file: Option<PathBuf>,
    /// The program, with its arguments, that prints its key.
    #[schemars(extend("x-noun" = "a list of texts", "x-like" = "[\"pass\", \"show\", \"openai\"]"))]
    pub api_key_command: Vec<String>,
    /// Its key itself. Better kept elsewhere: llmspell-kernel keys set NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-noun" = "a key", "x-like" = "<key>"))]
    pub api_key: Option<String>,
    /// More headers of its requests.
    pub headers: BTreeMap<String, String>,
    /// Most tokens of an answer when the request does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("x-project" = "free", "x-like" = "4096"))]
    pub max_tokens: Option<u64>,
    /// In place of `models.response_timeout`.
    #[serde(skip_serializing_if = "Option::is_none", with = "text::some_duration")]
    #[schemars(schema_with = "text::duration_schema", extend("x-project" = "free"))]
    pub timeout: Option<Duration>,
    /// In place of `models.retries`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 20), extend("x-project" = "free", "x-like" = "2"))]
    pub retries: Option<u32>,
    /// Most requests in a minute; more wait. 0 sets no limit.
    #[schemars(range(max = 1_000_000), extend("x-project" = "free"))]
    pub requests_per_minute: u32,
    /// Most tokens, read and written, in a minute; more requests wait. 0 sets no limit.
    #[schemars(extend("x-project" = "free"))]
    pub tokens_per_minute: u64,
    /// Whether answers are not streamed, for servers that cannot.
    #[schemars(extend("x-project" = "free"))]
    pub whole: bool,
    /// Of a `mock`: the script it answers from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::path_schema")]
    pub script: Option<PathBuf>,
}
