//! `ask`, `stdin` and `Provider`.

use super::{Section, row};

pub(super) const MODEL: Section = Section {
    title: "MODELS",
    about: "A question to a model. The model is the one of the options, else the default: `--model`, `LLMSPELL_MODEL` or `models.default` in llmspell.toml(5).",
    values: &[],
    rows: &[
        row(
            "ask",
            "(text, … [, options]) → string | value [, details]",
            "Asks a model; several texts are put together with an empty line between. With a `schema` the answer is the value it describes.\n\nOptions: `model`, `system`, `messages` (a list of `{role, content}` that goes before), `files` (paths of texts, pictures and PDF), `schema` (JSON Schema of the answer), `max_tokens`, `temperature`, `top_p`, `stop`, `seed`, `effort` (how much it thinks), `timeout`, `on_text` and `on_reasoning` (functions that get the pieces as they come), `extra` (more members of the request), `details` (true returns them as well).\n\nDetails: `model`, `finish`, `usage`, `cost` in US dollars where the price is known, `reasoning`.",
        )
        .errors("`config` without a default model or key, `denied` for a wrong key, `remote` and `timeout` when the service fails, `budget` at a limit of cost or rate.")
        .example("print(ask(\"Say it:\", \"hello\", {model = \"mock/echo\"})) --> Say it:\n--> \n--> hello"),
        row("stdin", "() → string", "All of standard input. In a notebook the client is asked."),
    ],
};

pub(super) const PROVIDER: Section = Section {
    title: "PROVIDER",
    about: "Model services: those that are set up, and what else they do besides answering.",
    values: &[],
    rows: &[
        row("Provider", "", "Model services."),
        row("Provider.default", "() → string | nil", "The model that is asked where none is named."),
        row(
            "Provider.embed",
            "(model, texts [, options]) → list, details",
            "Vectors of texts, each a list of numbers of length 1. Options: `purpose` (`document`, or `query` for what is looked for), `dimensions`.",
        )
        .errors("what `ask` raises; `usage` for a provider that does not embed."),
        row(
            "Provider.get",
            "(name) → table | nil",
            "A provider: `{name, type, enabled, base_url, capabilities}`; `enabled` tells whether it has a key or needs none. Nil for what nobody knows.",
        ),
        row(
            "Provider.getCapabilities",
            "(name) → table | nil",
            "`{supports_streaming, supports_multimodal, available_models}`; models are those of the configuration.",
        ),
        row(
            "Provider.isAvailable",
            "(name) → boolean",
            "Whether it is set up and has a key or needs none. Nothing is asked.",
        ),
        row("Provider.list", "() → list", "The providers that are set up, as `Provider.get` gives each."),
        row(
            "Provider.rerank",
            "(model, query, documents [, top]) → list",
            "Documents in the order in which they answer a question: `{index, score}` each, the best first; `index` is the place in `documents`.",
        )
        .errors("what `ask` raises; `usage` for a provider that does not rank."),
        row(
            "Provider.spent",
            "() → table",
            "What models took in this run or kernel so far: `{calls, cost, input_tokens, output_tokens, …}`.",
        ),
    ],
};
