//! `web_search`: search engines by their programming interfaces. Which of them can be used depends on the keys in the environment;
//! `providers` tells. Keys are sent to their engine and shown nowhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::http::{self, Header, Request};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, required, web, word};
use crate::config::{SearchProvider, WebSearch};
use crate::error::{Class, Error, Result};

/// The search tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "web_search",
    aliases: &["search", "websearch"],
    category: "web",
    summary: "search the web with DuckDuckGo, Brave, Google, SerpApi, Serper, Tavily or SearXNG",
    level: Level::Restricted,
    effects: &[Effect::Network],
    spellings: &[
        Spelling::Param("query", "input"),
        Spelling::Param("q", "input"),
        Spelling::Param("limit", "max_results"),
        Spelling::Value("provider", "serperdev", "serper"),
        Spelling::Value("provider", "ddg", "duckduckgo"),
        Spelling::Value("search_type", "image", "images"),
    ],
    examples: &[
        example(
            "a SearXNG of one's own",
            r#"{"input": "rust", "provider": "searxng", "max_results": 1, "endpoint":
                "$HTTP/serve?body={\"results\":[{\"title\":\"Rust\",\"url\":\"https://rust-lang.org/\",\"content\":\"a language\"},{\"title\":\"x\",\"url\":\"https://x/\"}]}"}"#,
            r#"{"query": "rust", "provider": "searxng", "count": 1, "results": [
                {"title": "Rust", "url": "https://rust-lang.org/", "snippet": "a language", "rank": 1, "provider": "searxng"}]}"#,
        ),
        example(
            "instant answers of DuckDuckGo",
            r#"{"input": "rust", "provider": "duckduckgo", "endpoint":
                "$HTTP/serve?body={\"Heading\":\"Rust\",\"AbstractText\":\"a language\",\"AbstractURL\":\"https://e.org/\",\"RelatedTopics\":[]}"}"#,
            r#"{"count": 1, "results": [{"title": "Rust", "url": "https://e.org/", "snippet": "a language"}]}"#,
        ),
        example(
            "which engines can be used",
            r#"{"operation": "providers"}"#,
            r#"{"providers": {"duckduckgo": {"configured": true, "needs": []}}}"#,
        ),
    ],
};

/// Searches. Without a provider the first one that is configured is asked, then the next when it fails or finds nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// For `search`: what is looked for.
    #[schemars(length(min = 1, max = 2000))]
    input: Option<String>,
    /// Which engine; `tools.web_search.provider` if not given.
    provider: Option<Provider>,
    /// Most results; `tools.web_search.max_results` if not given.
    #[schemars(range(min = 1, max = 100))]
    max_results: Option<usize>,
    /// What kind of results.
    #[serde(default)]
    search_type: Kind,
    /// Whether adult content is left out; `tools.web_search.safe_search` if not given.
    safe_search: Option<bool>,
    /// Two letters, such as `en`.
    #[schemars(length(min = 2, max = 10))]
    language: Option<String>,
    /// For `searxng` and `duckduckgo`, which need no key: where the engine is.
    endpoint: Option<String>,
    /// Longest time of one engine, seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
}

fn thirty() -> f64 {
    30.0
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Search,
    Providers,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Kind {
    #[default]
    Web,
    News,
    Images,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Provider {
    Searxng,
    Brave,
    Tavily,
    Serper,
    Serpapi,
    Google,
    Duckduckgo,
}

/// In the order they are asked when none is named.
const ALL: [Provider; 7] = [
    Provider::Searxng,
    Provider::Brave,
    Provider::Tavily,
    Provider::Serper,
    Provider::Serpapi,
    Provider::Google,
    Provider::Duckduckgo,
];

impl Provider {
    /// Where its key may be, the first one that is set counts.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Provider::Searxng | Provider::Duckduckgo => &[],
            Provider::Brave => &["LLMSPELL_API_KEY_BRAVE_SEARCH", "WEBSEARCH_BRAVE_API_KEY", "BRAVE_API_KEY"],
            Provider::Tavily => &["LLMSPELL_API_KEY_TAVILY", "WEBSEARCH_TAVILY_API_KEY", "TAVILY_API_KEY"],
            Provider::Serper => {
                &["LLMSPELL_API_KEY_SERPERDEV", "WEBSEARCH_SERPERDEV_API_KEY", "SERPERDEV_API_KEY", "SERPER_API_KEY"]
            }
            Provider::Serpapi => &["LLMSPELL_API_KEY_SERPAPI", "WEBSEARCH_SERPAPI_API_KEY", "SERPAPI_API_KEY"],
            Provider::Google => {
                &["LLMSPELL_API_KEY_GOOGLE_SEARCH", "WEBSEARCH_GOOGLE_API_KEY", "GOOGLE_SEARCH_API_KEY"]
            }
        }
    }

    fn named(name: &str) -> Option<Self> {
        let name = if name == "serperdev" { "serper" } else { name };
        ALL.into_iter().find(|provider| word(provider) == name)
    }

    fn endpoint(self, kind: Kind) -> &'static str {
        match (self, kind) {
            // Each has an own one.
            (Provider::Searxng, _) => "",
            (Provider::Duckduckgo, _) => "https://api.duckduckgo.com/",
            (Provider::Brave, Kind::Web) => "https://api.search.brave.com/res/v1/web/search",
            (Provider::Brave, Kind::News) => "https://api.search.brave.com/res/v1/news/search",
            (Provider::Brave, Kind::Images) => "https://api.search.brave.com/res/v1/images/search",
            (Provider::Tavily, _) => "https://api.tavily.com/search",
            (Provider::Serper, Kind::Web) => "https://google.serper.dev/search",
            (Provider::Serper, Kind::News) => "https://google.serper.dev/news",
            (Provider::Serper, Kind::Images) => "https://google.serper.dev/images",
            (Provider::Serpapi, _) => "https://serpapi.com/search",
            (Provider::Google, _) => "https://www.googleapis.com/customsearch/v1",
        }
    }
}

/// A variable of our own environment. That of the keys is not the scripts'.
fn variable(names: &[&str]) -> Option<String> {
    names
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// What an engine needs beside the question.
struct Access {
    key: String,
    /// Google's engine.
    engine: String,
    endpoint: Url,
}

fn engine(settings: &WebSearch) -> Option<String> {
    settings
        .google_engine_id
        .clone()
        .or_else(|| variable(&["WEBSEARCH_GOOGLE_SEARCH_ENGINE_ID", "GOOGLE_SEARCH_ENGINE_ID"]))
}

fn searxng(settings: &WebSearch) -> Option<String> {
    settings.searxng_url.clone().or_else(|| variable(&["WEBSEARCH_SEARXNG_URL", "SEARXNG_URL"]))
}

/// What is missing before `provider` can be asked.
fn missing(provider: Provider, settings: &WebSearch) -> Vec<String> {
    let mut missing = Vec::new();
    if !provider.keys().is_empty() && variable(provider.keys()).is_none() {
        missing.push(format!("the environment variable {}", provider.keys().last().unwrap_or(&"")));
    }
    if provider == Provider::Google && engine(settings).is_none() {
        missing.push("tools.web_search.google_engine_id".into());
    }
    if provider == Provider::Searxng && searxng(settings).is_none() {
        missing.push("tools.web_search.searxng_url".into());
    }
    missing
}

/// Searches.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let settings = &call.settings.web_search;
    if let Operation::Providers = params.operation {
        let row = |provider| {
            let missing = missing(provider, settings);
            (word(&provider), json!({"configured": missing.is_empty(), "needs": missing}))
        };
        let rows: serde_json::Map<_, _> = ALL.into_iter().map(row).collect();
        return Ok(Answer::new("providers", json!({"default": word(&settings.provider), "providers": rows})));
    }
    let query = required(params.input.as_deref().map(str::trim).filter(|query| !query.is_empty()), "input")?;
    let most = params.max_results.unwrap_or(settings.max_results);
    let configured = match settings.provider {
        SearchProvider::Auto => variable(&["WEBSEARCH_DEFAULT_PROVIDER"]).and_then(|name| Provider::named(&name)),
        one => Provider::named(&word(&one)),
    };
    let asked: Vec<Provider> = match params.provider.or(configured) {
        Some(one) => vec![one],
        // DuckDuckGo needs nothing and knows no news or images.
        None => ALL
            .into_iter()
            .filter(|one| missing(*one, settings).is_empty() && !instant(*one, params.search_type))
            .collect(),
    };
    let mut faults = Vec::new();
    let mut last = None;
    for provider in asked {
        match ask(provider, query, most, &params, call) {
            Ok(results) if !results.is_empty() => return Ok(answer(query, Some(provider), results, &faults)),
            Ok(_) => last = Some(provider),
            Err(error) => {
                call.check()?;
                if params.provider.or(configured).is_some() || error.class() == Class::Denied {
                    return Err(error);
                }
                faults.push(error.to_string());
            }
        }
    }
    match (last, faults.first()) {
        (None, Some(first)) => Err(Error::new(Class::Remote, first.clone())),
        (None, None) => Err(Error::new(Class::Config, "no search engine for this is configured").hint(hint())),
        (last, _) => Ok(answer(query, last, Vec::new(), &faults)),
    }
}

fn hint() -> String {
    "Set the key of one in the kernel's environment, such as BRAVE_API_KEY or TAVILY_API_KEY, or tools.web_search.searxng_url.".into()
}

/// Whether it has instant answers only, which are none of this kind.
fn instant(provider: Provider, kind: Kind) -> bool {
    provider == Provider::Duckduckgo && kind != Kind::Web
}

fn answer(query: &str, provider: Option<Provider>, results: Vec<Value>, faults: &[String]) -> Answer {
    let count = results.len();
    let message = match (count, provider) {
        (0, Some(Provider::Duckduckgo)) => format!("no instant answer; this engine has no index. {}", hint()),
        (0, _) => "nothing found".to_owned(),
        (count, _) => format!("{count} results"),
    };
    let provider = provider.map(|provider| word(&provider));
    let result = json!({"query": query, "provider": provider, "count": count, "results": results, "failed": faults});
    Answer::new("search", result).message(message)
}

fn ask(provider: Provider, query: &str, most: usize, params: &Params, call: &Call) -> Result<Vec<Value>> {
    let settings = &call.settings.web_search;
    let name = word(&provider);
    if instant(provider, params.search_type) {
        return Err(
            Error::new(Class::Usage, "search_type: duckduckgo has instant answers of the web only").hint(hint())
        );
    }
    let keyless = provider.keys().is_empty();
    if params.endpoint.is_some() && !keyless {
        return Err(Error::new(
            Class::Usage,
            format!("endpoint: {name}: only searxng and duckduckgo can be elsewhere"),
        )
        .hint("The configuration can move the others: tools.web_search.endpoints."));
    }
    let missing = missing(provider, settings);
    if params.endpoint.is_none() && !missing.is_empty() {
        return Err(Error::new(Class::Config, format!("{name}: not configured"))
            .hint(format!("Set {}.", missing.join(" and "))));
    }
    let place = params.endpoint.clone().or_else(|| settings.endpoints.get(&name).cloned());
    let place = place.or_else(|| searxng(settings).filter(|_| provider == Provider::Searxng));
    let place = place.unwrap_or_else(|| provider.endpoint(params.search_type).to_owned());
    let mut endpoint = http::parse(&place, "endpoint")?;
    if provider == Provider::Searxng && endpoint.path() == "/" {
        endpoint.set_path("/search");
    }
    let access = Access {
        key: variable(provider.keys()).unwrap_or_default(),
        engine: engine(settings).unwrap_or_default(),
        endpoint,
    };
    let safe = params.safe_search.unwrap_or(settings.safe_search);
    let hidden = |error: Error| {
        // Some engines take the key in the URL, which errors name.
        if access.key.is_empty() || !error.text().contains(&access.key) {
            return error;
        }
        Error::new(error.class(), error.text().replace(&access.key, "********"))
    };
    let request = request(provider, query, most, safe, params, &access, call)?;
    let response = request.send_within(web::seconds(params.timeout), call).map_err(&hidden)?;
    if !response.is_success() {
        let said =
            response.json().ok().and_then(|body| complaint(&body)).unwrap_or_default().replace(&access.key, "********");
        let said = if access.key.is_empty() || said.is_empty() { said } else { format!(": {said}") };
        let error = Error::new(Class::Remote, format!("{name}: status {}{said}", response.status));
        return Err(match response.status {
            401 | 403 => error.hint(format!("Its key is in one of {}.", provider.keys().join(", "))),
            _ => error,
        });
    }
    let body = response.json().map_err(hidden)?;
    let rows = rows(provider, params.search_type, &body);
    Ok(rows
        .into_iter()
        .filter(|row| !row.1.is_empty())
        .take(most)
        .enumerate()
        .map(|(index, (title, url, snippet))| {
            json!({"title": title, "url": url, "snippet": snippet, "provider": name, "rank": index + 1})
        })
        .collect())
}

/// What an engine says about its refusal.
fn complaint(body: &Value) -> Option<String> {
    let places = ["/error/message", "/error/detail", "/error", "/message", "/detail/error", "/detail"];
    let text = places.iter().find_map(|place| body.pointer(place)?.as_str())?;
    Some(text.replace('\n', " ").chars().take(300).collect())
}

fn request(
    provider: Provider,
    query: &str,
    most: usize,
    safe: bool,
    params: &Params,
    access: &Access,
    call: &Call,
) -> Result<Request> {
    let kind = params.search_type;
    let language = params.language.as_deref();
    let mut url = access.endpoint.clone();
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let mut body = None;
    let mut header = None;
    match provider {
        Provider::Duckduckgo => {
            pairs.extend([
                ("q", query.into()),
                ("format", "json".into()),
                ("no_html", "1".into()),
                ("skip_disambig", "1".into()),
            ]);
            // Its own words for moderate and off.
            pairs.push(("kp", if safe { "1" } else { "-2" }.into()));
        }
        Provider::Searxng => {
            let category = match kind {
                Kind::Web => "general",
                Kind::News => "news",
                Kind::Images => "images",
            };
            pairs.extend([("q", query.into()), ("format", "json".into()), ("categories", category.into())]);
            pairs.push(("safesearch", u8::from(safe).to_string()));
            pairs.extend(language.map(|language| ("language", language.to_owned())));
        }
        Provider::Brave => {
            let level = match (safe, kind) {
                (false, _) => "off",
                // Images know no step between.
                (true, Kind::Images) => "strict",
                (true, _) => "moderate",
            };
            let limit = if kind == Kind::Web { 20 } else { 50 };
            pairs.extend([("q", query.into()), ("count", most.min(limit).to_string()), ("safesearch", level.into())]);
            pairs.extend(language.map(|language| ("search_lang", language.to_owned())));
            header = Some(Header::new("x-subscription-token", &access.key, true)?);
        }
        Provider::Google => {
            pairs.extend([("key", access.key.clone()), ("cx", access.engine.clone()), ("q", query.into())]);
            pairs.extend([("num", most.min(10).to_string()), ("safe", if safe { "active" } else { "off" }.into())]);
            pairs.extend(language.map(|language| ("lr", format!("lang_{language}"))));
            if kind == Kind::Images {
                pairs.push(("searchType", "image".into()));
            }
        }
        Provider::Serpapi => {
            pairs.extend([("engine", "google".into()), ("api_key", access.key.clone()), ("q", query.into())]);
            pairs.extend([("num", most.to_string()), ("safe", if safe { "active" } else { "off" }.into())]);
            pairs.extend(language.map(|language| ("hl", language.to_owned())));
            match kind {
                Kind::Web => {}
                Kind::News => pairs.push(("tbm", "nws".into())),
                Kind::Images => pairs.push(("tbm", "isch".into())),
            }
        }
        Provider::Serper => {
            let mut question = json!({"q": query, "num": most, "safe": if safe { "active" } else { "off" }});
            if let Some(language) = language {
                question["hl"] = language.into();
            }
            body = Some(question);
            header = Some(Header::new("x-api-key", &access.key, true)?);
        }
        Provider::Tavily => {
            let topic = if kind == Kind::News { "news" } else { "general" };
            body = Some(json!({
                "query": query, "max_results": most.min(20), "topic": topic, "include_images": kind == Kind::Images,
                "include_image_descriptions": kind == Kind::Images,
            }));
            header = Some(Header::new("authorization", &format!("Bearer {}", access.key), true)?);
        }
    }
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    let mut request = Request::new(if body.is_some() { "POST" } else { "GET" }, url, &call.settings)?;
    request = request.default_header(Header::new("accept", "application/json", false)?);
    if let Some(header) = header {
        request = request.header(header);
    }
    match body {
        Some(body) => request.json(&body),
        None => Ok(request),
    }
}

/// Title, URL and snippet of each result.
fn rows(provider: Provider, kind: Kind, body: &Value) -> Vec<(String, String, String)> {
    let list = |places: &[&str]| {
        places.iter().find_map(|place| body.pointer(place)?.as_array()).map(Vec::as_slice).unwrap_or_default()
    };
    let text = |row: &Value, places: &[&str]| {
        let found = places.iter().find_map(|place| row.pointer(place)?.as_str());
        found.unwrap_or_default().to_owned()
    };
    let pick = |rows: &[Value], title: &[&str], url: &[&str], snippet: &[&str]| {
        rows.iter().map(|row| (text(row, title), text(row, url), text(row, snippet))).collect::<Vec<_>>()
    };
    match (provider, kind) {
        (Provider::Duckduckgo, _) => {
            let mut rows =
                vec![(text(body, &["/Heading"]), text(body, &["/AbstractURL"]), text(body, &["/AbstractText"]))];
            let mut topics: Vec<&Value> = list(&["/Results"]).iter().chain(list(&["/RelatedTopics"])).collect();
            // Groups of topics hold topics.
            let inner: Vec<&Value> = topics.iter().filter_map(|topic| topic["Topics"].as_array()).flatten().collect();
            topics.extend(inner);
            rows.extend(topics.into_iter().filter_map(|topic| {
                let words = topic["Text"].as_str()?;
                let (title, _) = words.split_once(" - ").unwrap_or((words, ""));
                Some((title.to_owned(), topic["FirstURL"].as_str()?.to_owned(), words.to_owned()))
            }));
            rows
        }
        (Provider::Searxng, Kind::Images) => {
            pick(list(&["/results"]), &["/title"], &["/img_src", "/url"], &["/content"])
        }
        (Provider::Searxng, _) => pick(list(&["/results"]), &["/title"], &["/url"], &["/content"]),
        (Provider::Brave, Kind::Web) => pick(list(&["/web/results"]), &["/title"], &["/url"], &["/description"]),
        (Provider::Brave, Kind::News) => {
            pick(list(&["/results", "/news/results"]), &["/title"], &["/url"], &["/description"])
        }
        (Provider::Brave, Kind::Images) => pick(
            list(&["/results", "/images/results"]),
            &["/title"],
            &["/properties/url", "/url"],
            &["/source", "/url"],
        ),
        (Provider::Google, Kind::Images) => {
            pick(list(&["/items"]), &["/title"], &["/link"], &["/image/contextLink", "/snippet"])
        }
        (Provider::Google, _) => pick(list(&["/items"]), &["/title"], &["/link"], &["/snippet"]),
        (Provider::Serpapi, Kind::Images) => {
            pick(list(&["/images_results"]), &["/title"], &["/original", "/link"], &["/source", "/link"])
        }
        (Provider::Serpapi, _) => {
            pick(list(&["/news_results", "/organic_results"]), &["/title"], &["/link"], &["/snippet"])
        }
        (Provider::Serper, Kind::Images) => {
            pick(list(&["/images"]), &["/title"], &["/imageUrl"], &["/source", "/link"])
        }
        (Provider::Serper, _) => pick(list(&["/news", "/organic"]), &["/title"], &["/link"], &["/snippet"]),
        (Provider::Tavily, Kind::Images) => {
            let image = |row: &Value| match row.as_str() {
                Some(url) => (String::new(), url.to_owned(), String::new()),
                None => (text(row, &["/description"]), text(row, &["/url"]), text(row, &["/description"])),
            };
            list(&["/images"]).iter().map(image).collect()
        }
        (Provider::Tavily, _) => pick(list(&["/results"]), &["/title"], &["/url"], &["/content"]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder};
    use super::*;

    fn params(kind: &str) -> Params {
        serde_json::from_value(json!({"input": "q", "search_type": kind, "language": "de"})).unwrap()
    }

    /// Answers are cut from the documentation of each engine.
    #[test]
    fn answers_of_every_engine_are_read() {
        let row = json!([{"title": "t", "link": "https://l/", "snippet": "s"}]);
        let plain = json!([{"title": "t", "url": "https://l/", "description": "s", "content": "s"}]);
        for (provider, kind, body) in [
            (Provider::Brave, Kind::Web, json!({"web": {"results": plain}})),
            (Provider::Brave, Kind::News, json!({"type": "news", "results": plain})),
            (Provider::Google, Kind::Web, json!({"items": row})),
            (Provider::Serpapi, Kind::Web, json!({"organic_results": row})),
            (Provider::Serpapi, Kind::News, json!({"news_results": row})),
            (Provider::Serper, Kind::Web, json!({"organic": row})),
            (Provider::Serper, Kind::News, json!({"news": row})),
            (Provider::Tavily, Kind::Web, json!({"results": plain})),
            (Provider::Searxng, Kind::Web, json!({"results": plain})),
            (
                Provider::Brave,
                Kind::Images,
                json!({"results": [{"title": "t", "url": "https://page/", "source": "s", "properties": {"url": "https://l/"}}]}),
            ),
            (
                Provider::Serper,
                Kind::Images,
                json!({"images": [{"title": "t", "imageUrl": "https://l/", "source": "s"}]}),
            ),
            (Provider::Tavily, Kind::Images, json!({"images": [{"url": "https://l/", "description": "t"}]})),
        ] {
            let got = rows(provider, kind, &body);
            assert_eq!((got[0].0.as_str(), got[0].1.as_str()), ("t", "https://l/"), "{provider:?} {}", word(&kind));
        }
        for provider in ALL {
            for kind in [Kind::Web, Kind::News, Kind::Images] {
                for body in [json!({}), json!([]), json!({"results": 5, "items": {}}), json!({"results": [1, null]})] {
                    assert!(rows(provider, kind, &body).iter().all(|(_, url, _)| url.is_empty()));
                }
            }
        }
    }

    #[test]
    fn keys_go_where_the_engine_wants_them() {
        let (_dir, call) = folder();
        let access = Access { key: "K".into(), engine: "E".into(), endpoint: Url::parse("https://h/p?x=1").unwrap() };
        let url =
            |provider| request(provider, "a b", 30, true, &params("web"), &access, &call).unwrap().url.to_string();
        assert_eq!(url(Provider::Google), "https://h/p?x=1&key=K&cx=E&q=a+b&num=10&safe=active&lr=lang_de");
        assert_eq!(url(Provider::Brave), "https://h/p?x=1&q=a+b&count=20&safesearch=moderate&search_lang=de");
        assert_eq!(url(Provider::Tavily), "https://h/p?x=1");
    }

    #[test]
    fn wrong_calls_are_refused() {
        bad(
            "web_search",
            &[
                (json!({}), Class::Usage),
                (json!({"input": " "}), Class::Usage),
                (json!({"input": "x", "provider": "altavista"}), Class::Usage),
                (json!({"input": "x", "max_results": 0}), Class::Usage),
                (json!({"input": "x", "provider": "searxng"}), Class::Config),
                (json!({"input": "x", "provider": "brave", "endpoint": "http://h/"}), Class::Usage),
                (json!({"input": "x", "provider": "ddg", "search_type": "news"}), Class::Usage),
                (json!({"input": "x", "provider": "ddg"}), Class::Denied),
                (json!({"input": "x", "provider": "searxng", "endpoint": "http://127.0.0.1:1/"}), Class::Denied),
            ],
        );
    }
}
