//! HTML pages for the tools that read them: characters, selectors, the text a reader would see.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use scraper::{ElementRef, Html, Node, Selector};

use super::http::Response;
use crate::error::{Class, Error, Result};

/// The page as text, in the encoding that its byte order mark, its headers or its first lines name (HTML, 13.2.3).
pub(super) fn decode(response: &Response) -> String {
    let header = response.header("content-type").and_then(|kind| charset(kind.as_bytes()));
    let meta = || charset(&response.body[..response.body.len().min(1024)]);
    let guess = || if std::str::from_utf8(&response.body).is_ok() { UTF_8 } else { WINDOWS_1252 };
    let encoding = header.or_else(meta).unwrap_or_else(guess);
    let (text, ..) = encoding.decode(&response.body);
    text.into_owned()
}

/// The encoding after `charset=`.
fn charset(text: &[u8]) -> Option<&'static Encoding> {
    let text = text.to_ascii_lowercase();
    let at = text.windows(8).position(|part| part == b"charset=")? + 8;
    let name = text[at..].iter().skip_while(|byte| b"\"' ".contains(byte));
    let name: Vec<u8> =
        name.take_while(|byte| byte.is_ascii_alphanumeric() || b"-_:.".contains(byte)).copied().collect();
    Encoding::for_label(&name)
}

/// A CSS selector, `parameter` saying whose fault it is.
pub(super) fn selector(css: &str, parameter: &str) -> Result<Selector> {
    Selector::parse(css).map_err(|_| Error::new(Class::Usage, format!("{parameter}: {css:?} is not a CSS selector")))
}

/// What an element shows: without scripts and styles, blocks on lines of their own, other white space as one blank.
pub(super) fn text(element: ElementRef<'_>) -> String {
    let mut text = String::new();
    for edge in element.traverse() {
        use ego_tree::iter::Edge;
        match edge {
            Edge::Open(node) => match node.value() {
                Node::Text(part) if node.ancestors().all(|above| !hidden(above.value())) => {
                    for piece in part.split_inclusive(char::is_whitespace) {
                        let word = piece.trim_end();
                        text.push_str(word);
                        if word.len() < piece.len() && !text.ends_with([' ', '\n']) && !text.is_empty() {
                            text.push(' ');
                        }
                    }
                }
                Node::Element(element) if block(element.name()) => line(&mut text),
                _ => {}
            },
            Edge::Close(node) => {
                if matches!(node.value(), Node::Element(element) if block(element.name())) {
                    line(&mut text);
                }
            }
        }
    }
    text.trim().to_owned()
}

fn hidden(node: &Node) -> bool {
    matches!(node, Node::Element(element) if matches!(element.name(), "script" | "style" | "noscript" | "template" | "head"))
}

fn block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "blockquote"
            | "br"
            | "dd"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "header"
            | "hr"
            | "li"
            | "main"
            | "nav"
            | "ol"
            | "p"
            | "pre"
            | "section"
            | "table"
            | "tr"
            | "ul"
    )
}

fn line(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// The text of the page's `title`.
pub(super) fn title(page: &Html) -> Option<String> {
    let found = page.select(&Selector::parse("title").ok()?).next()?;
    Some(found.text().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The text of the page's `body`, or of all of it.
pub(super) fn body(page: &Html) -> String {
    let body = Selector::parse("body").ok().and_then(|body| page.select(&body).next());
    text(body.unwrap_or_else(|| page.root_element()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_a_reader_sees() {
        let page = Html::parse_document(
            "<title> A\n b </title><body><h1>Head</h1><p>one  <b>two</b>\nthree<script>x()</script></p><ul><li>a<li>b</ul>end<br>x",
        );
        assert_eq!(title(&page).unwrap(), "A b");
        assert_eq!(body(&page), "Head\none two three\na\nb\nend\nx");
    }

    #[test]
    fn encodings_are_found() {
        let name = |text: &str| charset(text.as_bytes()).map(Encoding::name);
        assert_eq!(name("text/html; charset=\"Shift_JIS\""), Some("Shift_JIS"));
        assert_eq!(name("<meta charset=latin1>"), Some("windows-1252"));
        assert_eq!(name("text/html"), None);
    }
}
