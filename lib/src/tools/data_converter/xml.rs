//! XML as JSON: an element is an object of its attributes (`@name`), its elements by name (a list where there are several) and its text
//! (`#text`); one with nothing but a text is that text. Entities of a document type are not followed.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

use super::super::{Call, lower};
use super::MAX_DEPTH;
use crate::error::{Class, Error, Result};

/// An element being read.
struct Open {
    name: String,
    members: Map<String, Value>,
    text: String,
}

pub(super) fn read(text: &str, call: &Call) -> Result<Value> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    loop {
        call.check()?;
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|e| wrong(text, at, &lower(&e.to_string())))?;
        match event {
            Event::Start(start) => {
                if root.is_some() {
                    return Err(wrong(text, at, "a second root element"));
                }
                if open.len() >= MAX_DEPTH {
                    return Err(wrong(text, at, &format!("nested deeper than {MAX_DEPTH}")));
                }
                open.push(element(&start).map_err(|what| wrong(text, at, &what))?);
            }
            Event::End(_) => {
                let Some(done) = open.pop() else { return Err(wrong(text, at, "an end without its start")) };
                let (name, value) = finish(done);
                match open.last_mut() {
                    Some(outer) => put(&mut outer.members, name, value),
                    None => root = Some((name, value)),
                }
            }
            Event::Text(part) => {
                let part = part.xml10_content();
                match open.last_mut() {
                    Some(outer) => outer.text.push_str(&part),
                    None if part.trim().is_empty() => {}
                    None => return Err(wrong(text, at, "text outside the root element")),
                }
            }
            Event::CData(part) => {
                let part = part.xml10_content();
                open.last_mut().ok_or_else(|| wrong(text, at, "text outside the root element"))?.text.push_str(&part);
            }
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                let c = match reference.resolve_char_ref() {
                    Ok(Some(c)) => c.to_string(),
                    Ok(None) => quick_xml::escape::resolve_predefined_entity(&name)
                        .ok_or_else(|| wrong(text, at, &format!("unknown entity &{name};")))?
                        .to_owned(),
                    Err(e) => return Err(wrong(text, at, &e.to_string())),
                };
                open.last_mut().ok_or_else(|| wrong(text, at, "text outside the root element"))?.text.push_str(&c);
            }
            Event::Eof => break,
            // Declarations, comments, instructions and document types say nothing about the data.
            _ => {}
        }
    }
    match (root, open.last()) {
        (_, Some(outer)) => Err(Error::new(Class::Tool, format!("not XML: <{}> has no end", outer.name))),
        (None, None) => Err(Error::new(Class::Tool, "not XML: no element")),
        (Some((name, value)), None) => Ok(Value::Object(Map::from_iter([(name, value)]))),
    }
}

fn wrong(text: &str, at: u64, what: &str) -> Error {
    let at = usize::try_from(at).unwrap_or(text.len()).min(text.len());
    let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    Error::new(Class::Tool, format!("not XML: line {line}: {}", what.replace('\n', " ")))
}

fn element(start: &BytesStart<'_>) -> Result<Open, String> {
    let mut members = Map::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| lower(&e.to_string()))?;
        let value = quick_xml::escape::unescape(&attribute.value).map_err(|e| lower(&e.to_string()))?;
        members.insert(format!("@{}", attribute.key.as_ref()), value.into_owned().into());
    }
    Ok(Open { name: start.name().as_ref().to_owned(), members, text: String::new() })
}

fn finish(done: Open) -> (String, Value) {
    let Open { name, mut members, text } = done;
    let only = members.is_empty();
    // Blanks between elements are layout.
    let text = if only { text } else { text.trim().to_owned() };
    if only {
        return (name, if text.is_empty() { Value::Null } else { text.into() });
    }
    if !text.is_empty() {
        members.insert("#text".into(), text.into());
    }
    (name, members.into())
}

/// The second of a name makes a list.
fn put(members: &mut Map<String, Value>, name: String, value: Value) {
    match members.get_mut(&name) {
        Some(Value::Array(list)) => list.push(value),
        Some(first) => {
            let list = vec![first.take(), value];
            *first = Value::Array(list);
        }
        None => drop(members.insert(name, value)),
    }
}

pub(super) fn write(data: &Value, root: &str, pretty: bool) -> Result<String> {
    let mut out = Writer { out: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>".into(), pretty };
    match data {
        // The data has a root of its own.
        Value::Object(members)
            if members.len() == 1
                && members.iter().all(|(name, value)| !name.starts_with(['@', '#']) && !value.is_array()) =>
        {
            for (name, value) in members {
                out.element(name, value, 0)?;
            }
        }
        Value::Array(items) => {
            let items = Map::from_iter([("item".to_owned(), Value::Array(items.clone()))]);
            out.element(root, &items.into(), 0)?;
        }
        data => out.element(root, data, 0)?,
    }
    if pretty {
        out.out.push('\n');
    }
    Ok(out.out)
}

struct Writer {
    out: String,
    pretty: bool,
}

impl Writer {
    fn line(&mut self, depth: usize) {
        if self.pretty {
            self.out.push('\n');
            self.out.push_str(&"  ".repeat(depth));
        }
    }

    fn element(&mut self, name: &str, value: &Value, depth: usize) -> Result<()> {
        if let Value::Array(items) = value {
            // A list in a list has no name of its own.
            return items.iter().try_for_each(|item| match item {
                Value::Array(inner) => {
                    let inner = Map::from_iter([("item".to_owned(), Value::Array(inner.clone()))]);
                    self.element(name, &inner.into(), depth)
                }
                item => self.element(name, item, depth),
            });
        }
        check_name(name)?;
        self.line(depth);
        self.out.push('<');
        self.out.push_str(name);
        let empty = Map::new();
        let members = value.as_object().unwrap_or(&empty);
        for (attribute, value) in members.iter().filter_map(|(name, value)| Some((name.strip_prefix('@')?, value))) {
            check_name(attribute)?;
            self.out.push_str(&format!(" {attribute}=\"{}\"", escape(&plain(value))?));
        }
        let inner: Vec<_> = members.iter().filter(|(name, _)| !name.starts_with('@') && *name != "#text").collect();
        let text = match value {
            Value::Object(members) => members.get("#text").map(plain).unwrap_or_default(),
            value => plain(value),
        };
        if inner.is_empty() && text.is_empty() {
            self.out.push_str("/>");
            return Ok(());
        }
        self.out.push('>');
        self.out.push_str(&escape(&text)?);
        for (name, value) in &inner {
            self.element(name, value, depth + 1)?;
        }
        if !inner.is_empty() {
            self.line(depth);
        }
        self.out.push_str(&format!("</{name}>"));
        Ok(())
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn escape(text: &str) -> Result<String> {
    if let Some(c) = text.chars().find(|c| c.is_control() && !"\t\n\r".contains(*c) && (*c as u32) < 0x80) {
        return Err(Error::new(Class::Tool, format!("XML has no {c:?}")));
    }
    Ok(quick_xml::escape::escape(text).into_owned())
}

fn check_name(name: &str) -> Result<()> {
    let first = name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == ':');
    if first && name.chars().all(|c| c.is_alphanumeric() || "_-.:".contains(c)) {
        return Ok(());
    }
    Err(Error::new(Class::Tool, format!("{name:?}: not a name of an XML element")))
}
