//! `sitemap_crawler`: the URLs a site lists for crawlers (sitemaps.org): sitemaps, their indexes, compressed or plain, as robots.txt
//! names them. It reads what is listed and fetches no page.

use std::collections::{HashSet, VecDeque};
use std::io::Read;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use quick_xml::Reader;
use quick_xml::events::Event;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::http::{self, Request};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, web, yes};
use crate::error::{Class, Error, Result};

/// The sitemap tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "sitemap_crawler",
    aliases: &["sitemap"],
    category: "web",
    summary: "list the URLs of a site from its sitemaps, their indexes and robots.txt",
    level: Level::Restricted,
    effects: &[Effect::Network],
    spellings: &[Spelling::Param("url", "input"), Spelling::Param("max", "max_urls")],
    examples: &[
        example(
            "a sitemap",
            r#"{"input": "$HTTP/serve?type=text/xml&body=<urlset><url><loc>http://h/a?x=1%26amp;y=2</loc><lastmod>2024-01-15</lastmod><priority>0.5</priority></url></urlset>"}"#,
            r#"{"urls_found": 1, "urls": [{"url": "http://h/a?x=1&y=2", "lastmod": "2024-01-15", "priority": 0.5, "has_metadata": true}]}"#,
        ),
        example(
            "an index and what it names",
            r#"{"input": "$HTTP/serve?type=text/xml&body=<sitemapindex><sitemap><loc>$HTTP/serve?type=text/plain%26amp;body=http://h/b</loc></sitemap></sitemapindex>"}"#,
            r#"{"urls_found": 1, "urls": [{"url": "http://h/b"}], "stats": {"sitemaps_processed": 2, "index_files_found": 1}}"#,
        ),
        example(
            "a child that is missing is told, not fatal",
            r#"{"input": "$HTTP/serve?type=text/xml&body=<sitemapindex><sitemap><loc>$HTTP/status/404</loc></sitemap></sitemapindex>"}"#,
            r#"{"urls_found": 0, "errors": [{"url": "$HTTP/status/404", "error": "status 404"}]}"#,
        ),
    ],
};

/// Most sitemaps of one site.
const MAX_SITEMAPS: usize = 1000;
/// Largest sitemap, unpacked; the protocol allows 50 MB.
const MAX_SITEMAP: u64 = 50 << 20;

/// Lists the URLs of a site. `input` is a sitemap, an index of them, robots.txt, or the site itself: then its robots.txt names
/// the sitemaps, else `/sitemap.xml` is read.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The URL of a sitemap or of a site.
    #[schemars(length(min = 1))]
    input: String,
    /// Whether sitemaps named by an index are read.
    #[serde(default = "yes")]
    follow_sitemaps: bool,
    /// Ends after so many URLs.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 100_000))]
    max_urls: usize,
    /// Longest time of one request, seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
    /// Whether each URL of the site says if its robots.txt lets crawlers in, as `allowed`.
    #[serde(default)]
    check_robots: bool,
}

fn thousand() -> usize {
    1000
}

fn thirty() -> f64 {
    30.0
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    urls: Vec<Value>,
    listed: HashSet<String>,
    processed: usize,
    indexes: usize,
    errors: Vec<Value>,
}

/// Lists.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let first = http::parse(&params.input, "input")?;
    let limit = web::seconds(params.timeout);
    let is_robots = first.path().ends_with("/robots.txt");
    let is_site = first.path() == "/" && first.query().is_none();
    let robots = if is_robots || is_site || params.check_robots { robots(&first, limit, call)? } else { None };
    let named = robots.as_ref().map(|robots| robots.sitemaps.clone()).unwrap_or_default();
    let mut todo: VecDeque<Url> = if is_robots || is_site { named.into() } else { [first.clone()].into() };
    if todo.is_empty() {
        todo.extend(first.join("/sitemap.xml"));
    }
    let mut seen: HashSet<Url> = todo.iter().cloned().collect();
    let mut found = Found::default();
    let alone = todo.len() == 1;
    while let Some(url) = todo.pop_front() {
        if found.urls.len() >= params.max_urls || found.processed >= MAX_SITEMAPS {
            break;
        }
        call.progress(format!("{url} ({} URLs so far)", found.urls.len()));
        let children = match sitemap(&url, limit, call).and_then(|bytes| read(&url, &bytes, &params, &mut found)) {
            Ok(children) => children,
            // That of the whole call, or the only one there is.
            Err(error) if call.check().is_err() || alone && found.processed == 0 => return Err(error),
            Err(error) => {
                let text = error.text().strip_prefix(&format!("{url}: ")).unwrap_or(error.text()).to_owned();
                found.errors.push(json!({"url": url.as_str(), "error": text}));
                continue;
            }
        };
        found.processed += 1;
        if !children.is_empty() {
            found.indexes += 1;
        }
        if params.follow_sitemaps {
            todo.extend(children.into_iter().filter(|child| seen.insert(child.clone())));
        }
    }
    if let Some(robots) = robots.as_ref().filter(|_| params.check_robots) {
        for row in &mut found.urls {
            let url = row["url"].as_str().and_then(|url| Url::parse(url).ok());
            row["allowed"] = url.filter(|url| url.origin() == first.origin()).map(|url| robots.allows(&url)).into();
        }
    }
    let count = found.urls.len();
    let with = found.urls.iter().filter(|row| row["has_metadata"] == true).count();
    let result = json!({
        "sitemap_url": params.input, "urls_found": count, "max_urls": params.max_urls, "follow_sitemaps": params.follow_sitemaps,
        "urls": found.urls, "errors": found.errors, "truncated": count >= params.max_urls,
        "robots": robots.map(|robots| json!({"sitemaps": robots.sitemaps.iter().map(Url::as_str).collect::<Vec<_>>()})),
        "stats": {
            "sitemaps_processed": found.processed, "index_files_found": found.indexes, "total_urls_discovered": count,
            "urls_with_metadata": with,
        },
    });
    Ok(Answer::new("crawl", result).message(format!("{count} URLs in {} sitemaps", found.processed)))
}

/// The sitemap at `url`, unpacked.
fn sitemap(url: &Url, limit: Duration, call: &Call) -> Result<Vec<u8>> {
    let response = Request::new("GET", url.clone(), &call.settings)?.send_within(limit, call)?;
    if !response.is_success() {
        return Err(Error::new(Class::Remote, format!("{url}: status {}", response.status)));
    }
    // Compressed files often come under whatever type.
    if !response.body.starts_with(&[0x1f, 0x8b]) {
        return Ok(response.body);
    }
    let mut bytes = Vec::new();
    MultiGzDecoder::new(&response.body[..])
        .take(MAX_SITEMAP + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::new(Class::Tool, format!("{url}: not gzip: {e}")))?;
    if bytes.len() as u64 > MAX_SITEMAP {
        return Err(Error::new(Class::Tool, format!("{url}: larger than {MAX_SITEMAP} bytes unpacked")));
    }
    Ok(bytes)
}

/// Adds the URLs of a sitemap; the sitemaps it names.
fn read(url: &Url, bytes: &[u8], params: &Params, found: &mut Found) -> Result<Vec<Url>> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if !text.starts_with('<') {
        // The plain form: a URL a line.
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Ok(listed) = http::parse(line, "line") else {
                return Err(Error::new(Class::Tool, format!("{url}: neither a sitemap nor a list of URLs")));
            };
            add(found, params, listed.as_str(), Map::new());
        }
        return Ok(Vec::new());
    }
    let broken = |e: String| Error::new(Class::Tool, format!("{url}: broken XML: {}", e.replace('\n', " ")));
    let mut reader = Reader::from_str(text);
    let mut children = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut entry = Map::new();
    let mut known = false;
    let mut words = String::new();
    loop {
        match reader.read_event().map_err(|e| broken(e.to_string()))? {
            Event::Start(start) => {
                let name = start.local_name().as_ref().to_owned();
                known |= matches!(name.as_str(), "urlset" | "sitemapindex");
                path.push(name);
                words.clear();
            }
            Event::Text(part) => words.push_str(&part),
            Event::CData(part) => words.push_str(&part),
            Event::GeneralRef(name) => match quick_xml::escape::unescape(&format!("&{};", &*name)) {
                Ok(text) => words.push_str(&text),
                Err(error) => return Err(broken(error.to_string())),
            },
            Event::End(_) => {
                let name = path.pop().unwrap_or_default();
                let value = words.trim();
                match (path.last().map(String::as_str), name.as_str()) {
                    (Some("url"), "loc" | "lastmod" | "changefreq") | (Some("sitemap"), "loc") => {
                        _ = entry.insert(name, value.into());
                    }
                    (Some("url"), "priority") => {
                        _ = value.parse::<f64>().map(|number| entry.insert(name, number.into()));
                    }
                    (_, "url") => {
                        let mut entry = std::mem::take(&mut entry);
                        if let Some(Value::String(listed)) = entry.remove("loc") {
                            add(found, params, &listed, entry);
                        }
                        if found.urls.len() >= params.max_urls {
                            return Ok(children);
                        }
                    }
                    (_, "sitemap") => {
                        let listed = entry.remove("loc").and_then(|listed| url.join(listed.as_str()?).ok());
                        children.extend(listed.filter(|listed| matches!(listed.scheme(), "http" | "https")));
                        entry.clear();
                    }
                    _ => {}
                }
                words.clear();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !known {
        return Err(Error::new(Class::Tool, format!("{url}: not a sitemap")));
    }
    Ok(children)
}

fn add(found: &mut Found, params: &Params, listed: &str, more: Map<String, Value>) {
    if found.urls.len() < params.max_urls && found.listed.insert(listed.to_owned()) {
        let mut row = json!({"url": listed, "has_metadata": !more.is_empty()});
        if let Some(row) = row.as_object_mut() {
            row.extend(more);
        }
        found.urls.push(row);
    }
}

/// What robots.txt says (RFC 9309).
#[derive(Default)]
struct Robots {
    sitemaps: Vec<Url>,
    /// Of the group for everybody, or for us: whether it allows, and what.
    rules: Vec<(bool, String)>,
}

/// Robots.txt of the site of `url`; nothing when it has none.
fn robots(url: &Url, limit: Duration, call: &Call) -> Result<Option<Robots>> {
    let at = url.join("/robots.txt").map_err(|e| Error::new(Class::Usage, format!("input: {e}")))?;
    let response = Request::new("GET", at.clone(), &call.settings)?.send_within(limit, call)?;
    if !response.is_success() {
        return Ok(None);
    }
    Ok(Some(Robots::parse(&String::from_utf8_lossy(&response.body), &at)))
}

impl Robots {
    fn parse(text: &str, at: &Url) -> Self {
        let mut robots = Robots::default();
        let (mut ours, mut everybody) = (Vec::new(), Vec::new());
        let (mut for_us, mut for_all, mut naming, mut us_named) = (false, false, false, false);
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim().to_lowercase().as_str() {
                "sitemap" => robots.sitemaps.extend(at.join(value)),
                "user-agent" => {
                    if !naming {
                        (for_us, for_all) = (false, false);
                    }
                    naming = true;
                    for_us |= value.eq_ignore_ascii_case("llmspell");
                    us_named |= for_us;
                    for_all |= value == "*";
                }
                rule @ ("allow" | "disallow") => {
                    naming = false;
                    // An empty Disallow forbids nothing.
                    if !value.is_empty() {
                        let rule = (rule == "allow", value.to_owned());
                        if for_us {
                            ours.push(rule.clone());
                        }
                        if for_all {
                            everybody.push(rule);
                        }
                    }
                }
                _ => {}
            }
        }
        robots.rules = if us_named { ours } else { everybody };
        robots
    }

    /// The longest rule that fits decides; of two as long the one that allows.
    fn allows(&self, url: &Url) -> bool {
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let fitting = self.rules.iter().filter(|(_, pattern)| fits(pattern, path));
        fitting.max_by_key(|(allow, pattern)| (pattern.len(), *allow)).is_none_or(|(allow, _)| *allow)
    }
}

/// Whether `path` begins as `pattern`, in which `*` stands for anything and a last `$` for the end.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, whole) = pattern.strip_suffix('$').map_or((pattern, false), |pattern| (pattern, true));
    let mut parts = pattern.split('*');
    let Some(mut rest) = path.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return !whole || rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() && whole {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::bad;
    use super::*;

    #[test]
    fn robots_are_read_as_the_standard_says() {
        let at = Url::parse("http://h/robots.txt").unwrap();
        let text = "Sitemap: /s.xml\nUser-agent: a\nUser-agent: *\nDisallow: /private # no\nAllow: /private/open\nDisallow: /*.pdf$\n\
            User-agent: other\nDisallow: /\n";
        let robots = Robots::parse(text, &at);
        assert_eq!(robots.sitemaps, [at.join("/s.xml").unwrap()]);
        for (path, allowed) in [
            ("/", true),
            ("/private/x", false),
            ("/private/open/x", true),
            ("/a/b.pdf", false),
            ("/a/b.pdfx", true),
            ("/b.pdf?x", true),
        ] {
            assert_eq!(robots.allows(&at.join(path).unwrap()), allowed, "{path}");
        }
        let ours = Robots::parse("User-agent: *\nDisallow: /\nUser-agent: LLMspell\nDisallow:\n", &at);
        assert!(ours.allows(&at));
    }

    #[test]
    fn sitemaps_are_read_in_every_form() {
        let params: Params = serde_json::from_value(json!({"input": "http://h/"})).unwrap();
        let url = Url::parse("http://h/sitemap.xml").unwrap();
        let mut found = Found::default();
        let text = "\u{feff}<?xml version='1.0'?><s:urlset xmlns:s='x'><!-- c --><s:url><s:loc><![CDATA[http://h/ä]]></s:loc></s:url>\
            <s:url><s:loc> http://h/&#98; </s:loc></s:url><s:url/></s:urlset>";
        assert!(read(&url, text.as_bytes(), &params, &mut found).unwrap().is_empty());
        assert_eq!(
            found.urls.iter().map(|row| row["url"].as_str().unwrap()).collect::<Vec<_>>(),
            ["http://h/ä", "http://h/b"]
        );
        let index = "<sitemapindex><sitemap><loc>/a.xml</loc></sitemap><sitemap><loc>file:///etc/passwd</loc></sitemap></sitemapindex>";
        assert_eq!(read(&url, index.as_bytes(), &params, &mut found).unwrap(), [url.join("/a.xml").unwrap()]);
        for text in ["<html></html>", "<urlset><url></urlset>", "<urlset>&unknown;</urlset>", "hello"] {
            assert_eq!(read(&url, text.as_bytes(), &params, &mut found).unwrap_err().class(), Class::Tool, "{text}");
        }
    }

    #[test]
    fn wrong_calls_are_refused() {
        bad(
            "sitemap_crawler",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "nonsense"}), Class::Usage),
                (json!({"input": "http://127.0.0.1/"}), Class::Denied),
                (json!({"input": "http://127.0.0.1/s.xml", "max_urls": 0}), Class::Usage),
            ],
        );
    }
}
