//! `web_scraper`: parts of a web page by CSS selectors, its links, pictures and metadata. No script of the page is run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use scraper::{ElementRef, Html, Selector};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::http::{self, Request};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, html, web};
use crate::error::{Class, Error, Result};

/// The scraper.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "web_scraper",
    aliases: &["scraper"],
    category: "web",
    summary: "read a web page: text, parts by CSS selectors, links, images and metadata",
    level: Level::Restricted,
    effects: &[Effect::Network],
    spellings: &[Spelling::Param("url", "input")],
    examples: &[
        example(
            "title and text",
            r#"{"input": "$HTTP/serve?type=text/html&body=<title>T</title><h1>Hi</h1><p>one <b>two</b></p>"}"#,
            r#"{"content": {"title": "T", "text": "Hi\none two"}}"#,
        ),
        example(
            "parts by name",
            r#"{"input": "$HTTP/serve?type=text/html&body=<h1>Hi</h1><a href=/x>one</a><a href=/y>two</a>",
                "selectors": {"head": "h1", "names": "a", "targets": "a@href"}}"#,
            r#"{"content": {"head": "Hi", "names": ["one", "two"], "targets": ["/x", "/y"]}}"#,
        ),
        example(
            "links, made absolute",
            r#"{"input": "$HTTP/serve?type=text/html&body=<a href=/x>one</a>", "extract_links": true}"#,
            r#"{"content": {"links": [{"url": "$HTTP/x", "text": "one"}]}}"#,
        ),
    ],
};

/// Most parts of a kind that are told.
const MOST: usize = 10_000;

/// Reads a page. Without selectors it tells title and text.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The URL.
    #[schemars(length(min = 1))]
    input: String,
    /// One CSS selector; what it finds is `selected_content`. A trailing `@name` takes that attribute, `@html` the markup.
    selector: Option<String>,
    /// CSS selectors by name; what each finds is a text, or a list of them.
    #[serde(default)]
    selectors: BTreeMap<String, String>,
    /// Whether the links are listed.
    #[serde(default)]
    extract_links: bool,
    /// Whether the images are listed.
    #[serde(default)]
    extract_images: bool,
    /// Whether the metadata are listed.
    #[serde(default)]
    extract_meta: bool,
    /// Longest time, seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
    /// Headers to send.
    #[serde(default)]
    headers: Map<String, Value>,
    /// Refused when true: no script of the page is run.
    #[serde(default)]
    wait_for_js: bool,
}

fn thirty() -> f64 {
    30.0
}

/// What is looked for, and what is taken of it.
struct Wanted {
    selector: Selector,
    take: Option<String>,
}

impl Wanted {
    fn new(css: &str, parameter: &str) -> Result<Self> {
        // `@` has no place in a selector outside quotes.
        let split =
            css.rsplit_once('@').filter(|(_, name)| name.chars().all(|c| c.is_alphanumeric() || "-_:".contains(c)));
        let (css, take) = split.map_or((css, None), |(css, name)| (css, Some(name.to_owned())));
        Ok(Wanted { selector: html::selector(css, parameter)?, take })
    }

    fn find(&self, page: &Html) -> Vec<String> {
        let take = |element: ElementRef<'_>| match self.take.as_deref() {
            None => Some(html::text(element)),
            Some("html") => Some(element.html()),
            Some(name) => element.attr(name).map(str::to_owned),
        };
        page.select(&self.selector).filter_map(take).take(MOST).collect()
    }
}

/// Reads.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    if params.wait_for_js {
        return Err(Error::new(Class::Usage, "wait_for_js: no script of a page is run here")
            .hint("Leave it out; many pages hold their text in the markup or in JSON below <script>."));
    }
    let one = params.selector.as_deref().map(|css| Wanted::new(css, "selector")).transpose()?;
    let named = params.selectors.iter().map(|(name, css)| Ok((name, Wanted::new(css, &format!("selectors.{name}"))?)));
    let named = named.collect::<Result<Vec<_>>>()?;
    let url = http::parse(&params.input, "input")?;
    let request = web::with_headers(Request::new("GET", url, &call.settings)?, &params.headers)?;
    let response = request.send_within(web::seconds(params.timeout), call)?;
    let kind = response.media_type();
    if !kind.is_empty() && !kind.starts_with("text/") && !kind.ends_with("xml") && kind != "application/xhtml+xml" {
        return Err(Error::new(Class::Tool, format!("{}: {kind}, not a page", response.url))
            .hint("http_request gets other things."));
    }
    let page = Html::parse_document(&html::decode(&response));
    call.check()?;
    let mut content = Map::new();
    let plain = one.is_none() && named.is_empty();
    if let Some(wanted) = one {
        content.insert("selected_content".into(), wanted.find(&page).into());
    }
    for (name, wanted) in named {
        let mut found = wanted.find(&page);
        let value = if found.len() == 1 { found.remove(0).into() } else { Value::from(found) };
        content.insert(name.clone(), value);
    }
    let mut text = None;
    if plain {
        let body = html::body(&page);
        content.insert("title".into(), html::title(&page).into());
        content.insert("text".into(), body.as_str().into());
        text = Some(body);
    }
    let base = base(&page, &response.url);
    if params.extract_links {
        let row = |link: ElementRef<'_>| {
            let url = base.join(link.attr("href")?.trim()).ok()?;
            Some(json!({"url": url.as_str(), "text": html::text(link), "rel": link.attr("rel")}))
        };
        content.insert("links".into(), all(&page, "a[href], area[href]", row));
    }
    if params.extract_images {
        let row = |image: ElementRef<'_>| {
            let url = base.join(image.attr("src").or_else(|| image.attr("data-src"))?.trim()).ok()?;
            Some(
                json!({"url": url.as_str(), "alt": image.attr("alt"), "width": image.attr("width"), "height": image.attr("height")}),
            )
        };
        content.insert("images".into(), all(&page, "img", row));
    }
    if params.extract_meta {
        content.insert("metadata".into(), metadata(&page, &base));
    }
    let message = format!("{}: {}", response.url, response.status);
    let result = json!({
        "url": response.url.as_str(), "status_code": response.status, "redirects": response.redirects, "content": content,
    });
    let answer = Answer::new("scrape", result).message(message);
    Ok(match text {
        Some(text) => answer.text(text),
        None => answer,
    })
}

/// What relative links start from.
fn base(page: &Html, url: &Url) -> Url {
    let tag = Selector::parse("base[href]").ok().and_then(|tag| page.select(&tag).next());
    tag.and_then(|tag| url.join(tag.attr("href")?).ok()).unwrap_or_else(|| url.clone())
}

fn all(page: &Html, css: &str, row: impl Fn(ElementRef<'_>) -> Option<Value>) -> Value {
    let Ok(selector) = Selector::parse(css) else { return json!([]) };
    page.select(&selector).filter_map(row).take(MOST).collect()
}

fn metadata(page: &Html, base: &Url) -> Value {
    let mut tags = Map::new();
    if let Ok(selector) = Selector::parse("meta") {
        for tag in page.select(&selector) {
            let name = tag.attr("name").or_else(|| tag.attr("property")).or_else(|| tag.attr("http-equiv"));
            if let (Some(name), Some(content)) = (name, tag.attr("content")) {
                tags.entry(name.to_lowercase()).or_insert_with(|| content.into());
            }
        }
    }
    let link = |css: &str| {
        let found = Selector::parse(css).ok().and_then(|link| page.select(&link).next());
        found.and_then(|link| base.join(link.attr("href")?).ok()).map(String::from)
    };
    let language =
        Selector::parse("html").ok().and_then(|html| page.select(&html).next()).and_then(|html| html.attr("lang"));
    let feeds = all(
        page,
        "link[type='application/rss+xml'], link[type='application/atom+xml'], link[type='application/feed+json']",
        |link| Some(base.join(link.attr("href")?).ok()?.as_str().into()),
    );
    json!({
        "title": html::title(page), "description": tags.get("description").or_else(|| tags.get("og:description")), "language": language,
        "canonical": link("link[rel=canonical]"), "icon": link("link[rel~=icon]"), "feeds": feeds, "meta_tags": tags,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::bad;
    use super::*;

    #[test]
    fn relative_links_start_from_the_base_and_metadata_are_found() {
        let page = Html::parse_document(
            r#"<html lang=de><base href="/b/"><meta property="og:description" content="d"><link rel=canonical href=c>
               <link rel="shortcut icon" href="/i.png"><link rel=alternate type="application/rss+xml" href=feed.xml>"#,
        );
        let base = base(&page, &Url::parse("http://h/a/x").unwrap());
        assert_eq!(base.as_str(), "http://h/b/");
        let found = metadata(&page, &base);
        assert_eq!((&found["language"], &found["description"]), (&json!("de"), &json!("d")));
        assert_eq!((&found["canonical"], &found["icon"]), (&json!("http://h/b/c"), &json!("http://h/i.png")));
        assert_eq!(found["feeds"], json!(["http://h/b/feed.xml"]));
    }

    #[test]
    fn wrong_calls_are_refused() {
        bad(
            "web_scraper",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "nonsense"}), Class::Usage),
                (json!({"input": "http://127.0.0.1/"}), Class::Denied),
                (json!({"input": "http://127.0.0.1/", "selector": "p["}), Class::Usage),
                (json!({"input": "http://127.0.0.1/", "selectors": {"a": "]"}}), Class::Usage),
                (json!({"input": "http://127.0.0.1/", "wait_for_js": true}), Class::Usage),
            ],
        );
    }
}
