//! `feed_reader`: RSS, Atom and JSON Feed, from the web or from a text.

use std::time::SystemTime;

use feed_rs::model::{Entry, Feed, FeedType, Person, Text};
use feed_rs::parser;
use schemars::JsonSchema;
use scraper::Html;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::http::{self, Header, Request};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, html, web};
use crate::error::{Class, Error, Result};

/// The feed reader.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "feed_reader",
    aliases: &["rss_reader", "rss", "feed"],
    category: "web",
    summary: "read RSS, Atom and JSON feeds: title, items, dates, links, enclosures",
    level: Level::Restricted,
    effects: &[Effect::Network],
    spellings: &[Spelling::Param("url", "input"), Spelling::Param("max_items", "limit")],
    examples: &[
        example(
            "from the web",
            r#"{"input": "$HTTP/serve?type=application/rss%2Bxml&body=<rss version='2.0'><channel><title>T</title><item><title>one</title><link>http://h/1</link><pubDate>Mon, 15 Jan 2024 10:30:00 GMT</pubDate></item></channel></rss>"}"#,
            r#"{"title": "T", "feed_type": "rss2", "count": 1,
                "items": [{"title": "one", "link": "http://h/1", "published": "2024-01-15T10:30:00Z"}]}"#,
        ),
        example(
            "from a text, since a moment",
            r#"{"content": "<feed xmlns='http://www.w3.org/2005/Atom'><title>T</title><id>i</id><updated>2024-01-01T00:00:00Z</updated><entry><id>1</id><title>old</title><updated>2023-01-01T00:00:00Z</updated></entry><entry><id>2</id><title>new</title><updated>2024-01-01T00:00:00Z</updated></entry></feed>",
                "since": "2023-06-01T00:00:00Z"}"#,
            r#"{"feed_type": "atom", "count": 1, "total": 2, "items": [{"title": "new", "id": "2"}]}"#,
        ),
        example(
            "a JSON feed",
            r#"{"content": "{\"version\": \"https://jsonfeed.org/version/1.1\", \"title\": \"T\", \"items\": [{\"id\": \"1\", \"content_html\": \"<b>x</b>\"}]}"}"#,
            r#"{"feed_type": "json", "items": [{"id": "1", "content": "<b>x</b>", "text": "x"}]}"#,
        ),
    ],
};

/// Reads a feed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The URL of the feed.
    input: Option<String>,
    /// The feed itself, instead of `input`.
    content: Option<String>,
    /// Most items, in the order of the feed.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 10_000))]
    limit: usize,
    /// Only items of this moment (RFC 3339) or later; those without a date are left out then.
    since: Option<String>,
    /// What an earlier answer had as `etag`: the server then tells whether anything is new.
    etag: Option<String>,
    /// What an earlier answer had as `last_modified`.
    last_modified: Option<String>,
    /// Longest time, seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
    /// Headers to send.
    #[serde(default)]
    headers: Map<String, Value>,
}

fn fifty() -> usize {
    50
}

fn thirty() -> f64 {
    30.0
}

/// Reads.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let since = match &params.since {
        Some(text) => Some(humantime::parse_rfc3339_weak(text).map_err(|_| {
            Error::new(Class::Usage, format!("since: {text:?} is not a date")).hint("Such as 2024-01-31T12:00:00Z.")
        })?),
        None => None,
    };
    let (bytes, base, validators) = match (&params.input, &params.content) {
        (Some(url), None) => {
            let mut request =
                web::with_headers(Request::new("GET", http::parse(url, "input")?, &call.settings)?, &params.headers)?;
            for (name, value) in [("if-none-match", &params.etag), ("if-modified-since", &params.last_modified)] {
                if let Some(value) = value {
                    request = request.header(Header::new(name, value, false)?);
                }
            }
            let response = request.send_within(web::seconds(params.timeout), call)?;
            if response.status == 304 {
                let result = json!({"not_modified": true, "count": 0, "items": []});
                return Ok(Answer::new("read", result).message("nothing new"));
            }
            if !response.is_success() {
                return Err(Error::new(Class::Remote, format!("{}: status {}", response.url, response.status)));
            }
            let validators =
                (response.header("etag").map(str::to_owned), response.header("last-modified").map(str::to_owned));
            (response.body, Some(response.url.to_string()), validators)
        }
        (None, Some(text)) => (text.clone().into_bytes(), None, (None, None)),
        (None, None) => {
            return Err(
                Error::new(Class::Usage, "input: missing").hint("Give the URL as input, or the feed as content.")
            );
        }
        (Some(_), Some(_)) => return Err(Error::new(Class::Usage, "content: given together with input")),
    };
    let feed = parser::Builder::new().base_uri(base.as_ref()).build().parse(&bytes[..]).map_err(|e| {
        let what = base.as_deref().unwrap_or("content");
        Error::new(Class::Tool, format!("{what}: not a feed: {}", e.to_string().replace('\n', " ")))
    })?;
    call.check()?;
    let total = feed.entries.len();
    let new = |entry: &&Entry| match since {
        None => true,
        Some(since) => entry.published.or(entry.updated).is_some_and(|date| SystemTime::from(date) >= since),
    };
    let items: Vec<_> = feed.entries.iter().filter(new).take(params.limit).map(item).collect();
    let count = items.len();
    let title = feed.title.as_ref().map(|title| title.content.clone());
    let message = format!("{}: {count} of {total} items", title.as_deref().unwrap_or("feed"));
    let mut result = head(&feed);
    result["etag"] = validators.0.into();
    result["last_modified"] = validators.1.into();
    result["count"] = count.into();
    result["total"] = total.into();
    result["items"] = items.into();
    Ok(Answer::new("read", result).message(message))
}

fn head(feed: &Feed) -> Value {
    let kind = match feed.feed_type {
        FeedType::Atom => "atom",
        FeedType::JSON => "json",
        FeedType::RSS0 => "rss0",
        FeedType::RSS1 => "rss1",
        FeedType::RSS2 => "rss2",
    };
    json!({
        "feed_type": kind, "title": text(feed.title.as_ref()), "description": text(feed.description.as_ref()),
        "link": link(&feed.links), "language": feed.language, "updated": feed.updated.or(feed.published).map(date),
        "authors": people(&feed.authors), "generator": feed.generator.as_ref().map(|generator| &generator.content),
    })
}

fn item(entry: &Entry) -> Value {
    let content = entry.content.as_ref().and_then(|content| content.body.as_deref());
    let summary = entry.summary.as_ref().map(|summary| summary.content.as_str());
    let media = entry.media.iter().flat_map(|media| &media.content);
    let media = media.filter_map(|media| {
        let kind = media.content_type.as_ref().map(ToString::to_string);
        Some(json!({"url": media.url.as_ref()?.as_str(), "type": kind, "size": media.size}))
    });
    let attached = entry.links.iter().filter(|link| link.rel.as_deref() == Some("enclosure"));
    let attached = attached.map(|link| json!({"url": link.href, "type": link.media_type, "size": link.length}));
    json!({
        "id": entry.id, "title": text(entry.title.as_ref()), "link": link(&entry.links), "summary": summary, "content": content,
        "text": content.or(summary).map(|markup| html::text(Html::parse_fragment(markup).root_element())),
        "published": entry.published.map(date), "updated": entry.updated.map(date), "authors": people(&entry.authors),
        "categories": entry.categories.iter().map(|category| category.label.as_ref().unwrap_or(&category.term)).collect::<Vec<_>>(),
        "enclosures": media.chain(attached).collect::<Vec<_>>(),
    })
}

fn text(text: Option<&Text>) -> Option<&str> {
    text.map(|text| text.content.as_str())
}

/// The page, rather than the feed itself or something attached.
fn link(links: &[feed_rs::model::Link]) -> Option<&str> {
    let page = |link: &&feed_rs::model::Link| matches!(link.rel.as_deref(), None | Some("alternate"));
    links.iter().find(page).or_else(|| links.first()).map(|link| link.href.as_str())
}

fn people(people: &[Person]) -> Vec<&str> {
    people.iter().filter_map(|person| person.name.as_deref().or(person.email.as_deref())).collect()
}

fn date(date: impl Into<SystemTime>) -> String {
    humantime::format_rfc3339_seconds(date.into().max(SystemTime::UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    #[test]
    fn enclosures_and_authors_are_told() {
        let feed = "<rss version='2.0' xmlns:dc='http://purl.org/dc/elements/1.1/'><channel><title>P</title><link>http://h/</link>\
            <item><title>e</title><dc:creator>Ada</dc:creator><category>c</category><guid>g</guid>\
            <enclosure url='http://h/a.mp3' type='audio/mpeg' length='5'/><description>&lt;p&gt;a&lt;/p&gt;</description></item></channel></rss>";
        let got = result("feed_reader", json!({"content": feed}));
        let item = &got["items"][0];
        assert_eq!(
            (&item["authors"], &item["categories"], &item["text"]),
            (&json!(["Ada"]), &json!(["c"]), &json!("a"))
        );
        assert_eq!(item["enclosures"], json!([{"url": "http://h/a.mp3", "type": "audio/mpeg", "size": 5}]));
        assert_eq!(got["link"], "http://h/");
    }

    #[test]
    fn wrong_calls_are_refused() {
        bad(
            "feed_reader",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "http://127.0.0.1/", "content": "x"}), Class::Usage),
                (json!({"input": "http://127.0.0.1/"}), Class::Denied),
                (json!({"content": "nonsense"}), Class::Tool),
                (json!({"content": "<rss><channel>"}), Class::Tool),
                (json!({"content": "<feed/>", "since": "yesterday"}), Class::Usage),
                (json!({"content": "{}", "limit": 0}), Class::Usage),
            ],
        );
    }
}
