//! Markdown on pages: lines broken by the widths of Helvetica and Courier, the fonts every reader of PDF has.

use pdf_extract::{Dictionary, Document, Object, ObjectId, Stream};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::super::Call;
use crate::error::{Class, Error, Result};

/// Points left free at every edge.
const MARGIN: f64 = 60.0;
const BODY: f64 = 11.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Font {
    Regular,
    Bold,
    Italic,
    BoldItalic,
    Mono,
}

const FONTS: [(Font, &str, &str); 5] = [
    (Font::Regular, "F1", "Helvetica"),
    (Font::Bold, "F2", "Helvetica-Bold"),
    (Font::Italic, "F3", "Helvetica-Oblique"),
    (Font::BoldItalic, "F4", "Helvetica-BoldOblique"),
    (Font::Mono, "F5", "Courier"),
];

/// Widths of the characters 32 to 126, thousandths of the size, from Adobe's font metrics.
const REGULAR: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];
const BOLD: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 333, 333, 584, 584, 584, 611, 975, 722, 722, 722, 722, 667, 611, 778, 722, 278, 556, 722, 611, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 333, 278, 333, 584, 556, 333, 556, 611, 556, 611,
    556, 333, 611, 611, 278, 278, 556, 278, 889, 611, 611, 611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389,
    280, 389, 584,
];

/// A run of text in one font.
#[derive(Clone)]
struct Run {
    font: Font,
    bytes: Vec<u8>,
}

/// Runs at a place, of one size.
struct Line {
    x: f64,
    y: f64,
    size: f64,
    runs: Vec<Run>,
}

/// What stands on a page.
#[derive(Default)]
pub(super) struct Page {
    lines: Vec<Line>,
    /// Heights of rules.
    rules: Vec<f64>,
}

/// The text in the encoding of the fonts.
fn encode(text: &str) -> Result<Vec<u8>> {
    let plain = text.replace('\t', "    ").replace('\u{2212}', "-").replace(['\u{200b}', '\u{feff}'], "");
    let (bytes, _, lacks) = encoding_rs::WINDOWS_1252.encode(&plain);
    if lacks {
        let missing =
            plain.chars().find(|c| encoding_rs::WINDOWS_1252.encode(c.encode_utf8(&mut [0; 4])).2).unwrap_or('?');
        return Err(Error::new(Class::Tool, format!("content: {missing:?} is not in the fonts every PDF reader has"))
            .hint("They hold the letters of Western Europe."));
    }
    Ok(bytes.iter().copied().filter(|byte| *byte >= 32 && *byte != 127).collect())
}

fn width(font: Font, size: f64, bytes: &[u8]) -> f64 {
    let table = match font {
        Font::Mono => return bytes.len() as f64 * 0.6 * size,
        Font::Bold | Font::BoldItalic => &BOLD,
        Font::Regular | Font::Italic => &REGULAR,
    };
    let one = |byte: &u8| match byte {
        32..=126 => f64::from(table[usize::from(byte - 32)]),
        // Accented letters are as wide as those without; this is the nearest plain one.
        0xc0..=0xc5 => f64::from(table[33]),
        0xcc..=0xcf | 0xec..=0xef => 278.0,
        0xc6 | 0x97 | 0x85 | 0x99 => 1000.0,
        0xd2..=0xd6 | 0xd8 => 778.0,
        0xd9..=0xdc | 0xc7 | 0xd0 | 0xd1 => 722.0,
        0xc8..=0xcb => 667.0,
        0x91 | 0x92 => 222.0,
        0x95 => 350.0,
        _ => 556.0,
    };
    bytes.iter().map(one).sum::<f64>() * size / 1000.0
}

/// Puts lines on pages.
struct Setter<'a> {
    pages: Vec<Page>,
    paper: (f64, f64),
    y: f64,
    call: &'a Call,
}

impl Setter<'_> {
    /// Goes down by `height`, on the next page if need be.
    fn down(&mut self, height: f64) -> Result<()> {
        self.call.check()?;
        self.y -= height;
        if self.y < MARGIN {
            self.pages.push(Page::default());
            self.y = self.paper.1 - MARGIN - height;
        }
        Ok(())
    }

    fn put(&mut self, x: f64, size: f64, runs: Vec<Run>) -> Result<()> {
        self.down(size * 1.35)?;
        let y = self.y;
        if let Some(page) = self.pages.last_mut() {
            page.lines.push(Line { x, y, size, runs });
        }
        Ok(())
    }

    /// Sets runs as a paragraph, broken at blanks; `first` stands in front of the first line.
    fn paragraph(&mut self, indent: f64, size: f64, first: &[u8], runs: &[Run]) -> Result<()> {
        let left = MARGIN + indent;
        let room = (self.paper.0 - MARGIN - left).max(100.0);
        let mut line: Vec<Run> = Vec::new();
        let mut used = 0.0;
        let mut bullet = Some(first).filter(|first| !first.is_empty());
        // Words with the blank before them; a break of its own is an empty word with a line end.
        for run in runs {
            for word in run.bytes.split_inclusive(|byte| *byte == b' ') {
                let mut word = word;
                loop {
                    let trimmed = word.trim_ascii_end();
                    if used + width(run.font, size, trimmed) <= room {
                        break;
                    }
                    if line.is_empty() {
                        // A word longer than a line is cut.
                        let mut fits = word.len().max(1);
                        while fits > 1 && width(run.font, size, &word[..fits]) > room {
                            fits -= 1;
                        }
                        line.push(Run { font: run.font, bytes: word[..fits].to_vec() });
                        word = &word[fits..];
                    }
                    self.bullet(&mut bullet, left, size);
                    self.put(left, size, std::mem::take(&mut line))?;
                    used = 0.0;
                    if word.is_empty() {
                        break;
                    }
                }
                if word.is_empty() || line.is_empty() && word == b" " {
                    continue;
                }
                used += width(run.font, size, word);
                match line.last_mut().filter(|last| last.font == run.font) {
                    Some(last) => last.bytes.extend_from_slice(word),
                    None => line.push(Run { font: run.font, bytes: word.to_vec() }),
                }
            }
        }
        if !line.is_empty() {
            self.bullet(&mut bullet, left, size);
            self.put(left, size, line)?;
        }
        Ok(())
    }

    /// Puts what stands in front of a line into the line that comes next, as `paragraph` is about to set it.
    fn bullet(&mut self, bullet: &mut Option<&[u8]>, left: f64, size: f64) {
        let Some(bytes) = bullet.take() else { return };
        let y = match self.y - size * 1.35 {
            y if y < MARGIN => return,
            y => y,
        };
        let runs = vec![Run { font: Font::Regular, bytes: bytes.to_vec() }];
        if let Some(page) = self.pages.last_mut() {
            page.lines.push(Line { x: left - width(Font::Regular, size, bytes) - 6.0, y, size, runs });
        }
    }
}

/// Lays out `content`.
pub(super) fn pages(content: &str, plain: bool, paper: (f64, f64), numbers: bool, call: &Call) -> Result<Vec<Page>> {
    let mut set = Setter { pages: vec![Page::default()], paper, y: paper.1 - MARGIN, call };
    if plain {
        for line in content.lines() {
            let runs = [Run { font: Font::Mono, bytes: encode(line)? }];
            if line.trim().is_empty() {
                set.down(9.0 * 1.35)?;
            } else {
                set.paragraph(0.0, 9.0, b"", &runs)?;
            }
        }
    } else {
        markdown(content, &mut set)?;
    }
    let mut pages = set.pages;
    if numbers && pages.len() > 1 {
        let count = pages.len();
        for (at, page) in pages.iter_mut().enumerate() {
            let bytes = format!("{} / {count}", at + 1).into_bytes();
            let x = (paper.0 - width(Font::Regular, 9.0, &bytes)) / 2.0;
            page.lines.push(Line { x, y: MARGIN / 2.0, size: 9.0, runs: vec![Run { font: Font::Regular, bytes }] });
        }
    }
    Ok(pages)
}

fn markdown(content: &str, set: &mut Setter<'_>) -> Result<()> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut runs: Vec<Run> = Vec::new();
    let (mut bold, mut italic, mut quotes, mut size, mut code, mut skip) = (0_u32, 0_u32, 0_u32, BODY, false, false);
    let mut lists: Vec<Option<u64>> = Vec::new();
    let mut bullet: Vec<u8> = Vec::new();
    macro_rules! flush {
        ($after:expr) => {
            if !runs.is_empty() {
                let indent = (lists.len().min(10) as f64) * 18.0 + f64::from(quotes.min(10)) * 14.0;
                set.paragraph(indent, size, &std::mem::take(&mut bullet), &std::mem::take(&mut runs))?;
                set.down($after)?;
            }
        };
    }
    for event in Parser::new_ext(content, options) {
        let font = match (code, bold > 0, italic > 0) {
            (true, ..) => Font::Mono,
            (_, true, true) => Font::BoldItalic,
            (_, true, _) => Font::Bold,
            (_, _, true) => Font::Italic,
            _ => Font::Regular,
        };
        match event {
            Event::Start(Tag::MetadataBlock(_)) => skip = true,
            Event::End(TagEnd::MetadataBlock(_)) => skip = false,
            _ if skip => {}
            Event::Start(Tag::Heading { level, .. }) => {
                flush!(4.0);
                size = match level {
                    HeadingLevel::H1 => 20.0,
                    HeadingLevel::H2 => 16.0,
                    HeadingLevel::H3 => 13.5,
                    _ => 12.0,
                };
                bold += 1;
                set.down(size * 0.4)?;
            }
            Event::End(TagEnd::Heading(_)) => {
                flush!(6.0);
                size = BODY;
                bold = bold.saturating_sub(1);
            }
            Event::Start(Tag::Strong | Tag::TableHead) => bold += 1,
            Event::End(TagEnd::Strong) => bold = bold.saturating_sub(1),
            Event::Start(Tag::Emphasis) => italic += 1,
            Event::End(TagEnd::Emphasis) => italic = italic.saturating_sub(1),
            Event::Start(Tag::BlockQuote(_)) => {
                flush!(4.0);
                quotes += 1;
            }
            Event::End(TagEnd::BlockQuote(_)) => {
                flush!(4.0);
                quotes = quotes.saturating_sub(1);
            }
            Event::Start(Tag::List(first)) => {
                flush!(2.0);
                lists.push(first);
            }
            Event::End(TagEnd::List(_)) => {
                flush!(2.0);
                lists.pop();
                if lists.is_empty() {
                    set.down(4.0)?;
                }
            }
            Event::Start(Tag::Item) => {
                flush!(2.0);
                bullet = match lists.last_mut() {
                    Some(Some(number)) => {
                        let text = format!("{number}.");
                        *number += 1;
                        text.into_bytes()
                    }
                    // The bullet of the encoding.
                    _ => vec![0x95],
                };
            }
            Event::End(TagEnd::Item) => flush!(2.0),
            Event::Start(Tag::CodeBlock(_)) => {
                flush!(4.0);
                code = true;
                size = 9.0;
            }
            Event::End(TagEnd::CodeBlock) => {
                code = false;
                size = BODY;
                set.down(6.0)?;
            }
            Event::Text(text) if code => {
                for line in text.lines() {
                    runs.push(Run { font: Font::Mono, bytes: encode(line)? });
                    if line.trim().is_empty() {
                        runs.clear();
                        set.down(size * 1.35)?;
                    }
                    flush!(0.0);
                }
            }
            Event::Text(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                runs.push(Run { font, bytes: encode(&text)? });
            }
            Event::Code(text) => runs.push(Run { font: Font::Mono, bytes: encode(&text)? }),
            Event::SoftBreak => runs.push(Run { font, bytes: b" ".to_vec() }),
            Event::HardBreak => flush!(0.0),
            Event::TaskListMarker(done) => {
                runs.push(Run { font, bytes: if done { b"[x] ".to_vec() } else { b"[ ] ".to_vec() } });
            }
            Event::End(TagEnd::Paragraph) => flush!(6.0),
            Event::End(TagEnd::TableCell) => runs.push(Run { font, bytes: b"   ".to_vec() }),
            Event::End(TagEnd::TableHead) => {
                bold = bold.saturating_sub(1);
                flush!(1.0);
            }
            Event::End(TagEnd::TableRow) => flush!(1.0),
            Event::End(TagEnd::Table) => set.down(6.0)?,
            Event::Rule => {
                flush!(4.0);
                set.down(8.0)?;
                let y = set.y;
                if let Some(page) = set.pages.last_mut() {
                    page.rules.push(y);
                }
            }
            _ => {}
        }
    }
    flush!(0.0);
    Ok(())
}

/// The file.
pub(super) fn write(pages: &[Page], paper: (f64, f64), about: &[(&str, Option<String>)]) -> Result<Vec<u8>> {
    let mut document = Document::with_version("1.7");
    let root: ObjectId = document.new_object_id();
    let mut fonts = Dictionary::new();
    for (_, name, base) in FONTS {
        let mut font = Dictionary::new();
        font.set("Type", Object::Name(b"Font".to_vec()));
        font.set("Subtype", Object::Name(b"Type1".to_vec()));
        font.set("BaseFont", Object::Name(base.into()));
        font.set("Encoding", Object::Name(b"WinAnsiEncoding".to_vec()));
        fonts.set(name, Object::Reference(document.add_object(font)));
    }
    let mut resources = Dictionary::new();
    resources.set("Font", Object::Dictionary(fonts));
    let resources = document.add_object(resources);
    let mut kids = Vec::new();
    for page in pages {
        let content = document.add_object(Stream::new(Dictionary::new(), content(page, paper)));
        let mut node = Dictionary::new();
        node.set("Type", Object::Name(b"Page".to_vec()));
        node.set("Parent", Object::Reference(root));
        node.set("Contents", Object::Reference(content));
        kids.push(Object::Reference(document.add_object(node)));
    }
    let mut tree = Dictionary::new();
    tree.set("Type", Object::Name(b"Pages".to_vec()));
    tree.set("Count", Object::Integer(i64::try_from(kids.len()).unwrap_or(0)));
    tree.set("Kids", Object::Array(kids));
    tree.set("Resources", Object::Reference(resources));
    tree.set(
        "MediaBox",
        Object::Array(vec![0.into(), 0.into(), Object::Integer(paper.0 as i64), Object::Integer(paper.1 as i64)]),
    );
    document.objects.insert(root, Object::Dictionary(tree));
    let mut catalog = Dictionary::new();
    catalog.set("Type", Object::Name(b"Catalog".to_vec()));
    catalog.set("Pages", Object::Reference(root));
    let catalog = document.add_object(catalog);
    document.trailer.set("Root", Object::Reference(catalog));
    let mut info = Dictionary::new();
    let now = jiff::Timestamp::now().strftime("D:%Y%m%d%H%M%SZ").to_string();
    info.set("CreationDate", Object::string_literal(now));
    info.set("Producer", Object::string_literal(concat!("llmspell ", env!("CARGO_PKG_VERSION"))));
    for (name, text) in about {
        if let Some(text) = text {
            let wide = [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes));
            info.set(*name, Object::string_literal(wide.collect::<Vec<u8>>()));
        }
    }
    let info = document.add_object(info);
    document.trailer.set("Info", Object::Reference(info));
    document.compress();
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
    Ok(bytes)
}

/// The drawing of a page.
fn content(page: &Page, paper: (f64, f64)) -> Vec<u8> {
    let mut out = Vec::new();
    for line in &page.lines {
        out.extend(format!("BT {:.2} {:.2} Td\n", line.x, line.y).into_bytes());
        for run in &line.runs {
            let name = FONTS.iter().find(|(font, ..)| *font == run.font).map_or("F1", |(_, name, _)| name);
            out.extend(format!("/{name} {} Tf (", line.size).into_bytes());
            for byte in &run.bytes {
                if b"()\\".contains(byte) {
                    out.push(b'\\');
                }
                out.push(*byte);
            }
            out.extend(b") Tj\n");
        }
        out.extend(b"ET\n");
    }
    for y in &page.rules {
        out.extend(format!("0.5 w {MARGIN} {y:.2} m {:.2} {y:.2} l S\n", paper.0 - MARGIN).into_bytes());
    }
    out
}
