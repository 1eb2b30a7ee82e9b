//! What is known of a name: the reference for what is ours, debug information and the comment above for what a script
//! defined, the registry for tools. Also the global `help`.

use std::io::Read;

use mlua::{Function, Lua, MultiValue, Value};
use serde_json::Value as Json;

use super::absent;
use super::api::{self, Entry};
use super::cursor::{self, Base, Chain, End, Key, Kind, Role, scan};
use super::fault::{self, Fault};
use super::look::{self, Thing};
use super::stdlib::current;
use crate::engine::Inspected;
use crate::error::{Class, Error};

/// Text of a value is cut here, bytes.
const LONGEST: usize = 400;
/// More fields of a table are counted.
const MOST_FIELDS: usize = 40;
/// A file longer than this is not read for a comment, bytes.
const MOST_SOURCE: u64 = 1 << 20;

/// What is at the byte `cursor` of `code`.
pub(super) fn inspect(lua: &Lua, code: &str, cursor: usize, source: bool) -> Option<Inspected> {
    let mut cursor = cursor.min(code.len());
    while !code.is_char_boundary(cursor) {
        cursor -= 1;
    }
    let subject = subject(lua, code, cursor)?;
    Some(subject.page(lua, source))
}

/// What is asked about.
enum Subject {
    Thing(Thing, Option<String>),
    /// A parameter of a tool.
    Parameter(String, String),
    Everything,
}

fn subject(lua: &Lua, code: &str, cursor: usize) -> Option<Subject> {
    let until = scan(&code[..cursor]);
    match until.end {
        End::Comment | End::LongText => return None,
        End::Text(start) => {
            let quote = code.as_bytes()[start - 1];
            let end = code[cursor..].bytes().position(|byte| byte == quote || byte == b'\n');
            let content = &code[start..end.map_or(code.len(), |length| cursor + length)];
            match until.role(until.list.len().checked_sub(1)?) {
                Role::Tool => return look::tool_name(lua, content).map(|name| Subject::Thing(Thing::Tool(name), None)),
                Role::Help => return named(lua, content),
                Role::Module => {
                    let loaded = ["package", "loaded", content].map(str::to_owned);
                    let [base, keys @ ..] = loaded;
                    let chain = Chain { base: Base::Name(base), keys: keys.map(Key::Name).to_vec() };
                    return look::resolve(lua, &chain).map(|thing| Subject::Thing(thing, Some(content.to_owned())));
                }
                Role::Choice(tool, name) => return Some(Subject::Parameter(tool, name)),
                Role::KeyOf(mut chain) => {
                    chain.keys.push(Key::Name(content.to_owned()));
                    return of_chain(lua, &chain);
                }
                Role::None => {}
            }
        }
        End::Code => {}
    }
    let tokens = scan(code);
    let touches = |token: &&cursor::Token<'_>| token.start <= cursor && cursor <= token.end();
    let at = tokens.list.iter().position(|token| token.kind == Kind::Name && touches(&token));
    if let Some(at) = at {
        let is_key = tokens.list.get(at + 1).is_some_and(|next| next.text == "=");
        if is_key && let Some(tool) = tokens.open_bracket(at).and_then(|brace| tokens.tool_of_table(brace)) {
            return Some(Subject::Parameter(tool, tokens.list[at].text.to_owned()));
        }
        if let Some(found) = tokens.chain(at).and_then(|chain| of_chain(lua, &chain)) {
            return Some(found);
        }
    }
    // Otherwise the innermost call around it that is known.
    let mut before = tokens.list.iter().position(|token| token.end() > cursor).unwrap_or(tokens.list.len());
    if tokens.list.get(before).is_some_and(|token| token.start < cursor && token.kind == Kind::Name) {
        return None;
    }
    while let Some(bracket) = tokens.open_bracket(before) {
        if let Some(tool) = tokens.tool_of_table(bracket).and_then(|name| look::tool_name(lua, &name)) {
            return Some(Subject::Thing(Thing::Tool(tool), None));
        }
        let call = (tokens.list[bracket].text == "(").then(|| bracket.checked_sub(1)).flatten();
        if let Some(found) = call.and_then(|last| tokens.chain(last)).and_then(|chain| of_chain(lua, &chain)) {
            return Some(found);
        }
        before = bracket;
    }
    None
}

fn of_chain(lua: &Lua, chain: &Chain) -> Option<Subject> {
    let path = match &chain.base {
        Base::Text => chain.keys.iter().try_fold("string".to_owned(), |path, key| match key {
            Key::Name(name) => Some(format!("{path}.{name}")),
            Key::Index(_) => None,
        }),
        Base::Name(_) => chain.path(),
    };
    match look::resolve(lua, chain) {
        Some(thing) => Some(Subject::Thing(thing, path)),
        // In the reference, but nil just now.
        None => path.as_deref().and_then(api::entry).map(|entry| Subject::Thing(Thing::Row(entry), path.clone())),
    }
}

/// What `help "name"` is about.
fn named(lua: &Lua, name: &str) -> Option<Subject> {
    let tokens = scan(name);
    let chain = tokens.list.len().checked_sub(1).and_then(|last| tokens.chain(last));
    chain
        .and_then(|chain| of_chain(lua, &chain))
        .or_else(|| api::entry(name).map(|entry| Subject::Thing(Thing::Row(entry), None)))
        .or_else(|| look::tool_name(lua, name).map(|name| Subject::Thing(Thing::Tool(name), None)))
}

/// A page in the making: the same for both forms.
#[derive(Default)]
struct Page {
    /// `name(parameters)`, or the name and what it is.
    head: String,
    /// Markdown paragraphs.
    body: Vec<String>,
    /// A few lines of Lua.
    example: Option<&'static str>,
    /// Where it was defined.
    place: Option<String>,
    /// Its source text.
    source: Option<String>,
}

impl Page {
    fn done(self) -> Inspected {
        let mut text = self.head.clone();
        let mut markdown = format!("```lua\n{}\n```", self.head);
        for paragraph in &self.body {
            text.push_str(&format!("\n\n{}", paragraph.replace('`', "")));
            markdown.push_str(&format!("\n\n{paragraph}"));
        }
        if let Some(example) = self.example {
            text.push_str(&format!("\n\n{example}"));
            markdown.push_str(&format!("\n\n```lua\n{example}\n```"));
        }
        if let Some(place) = &self.place {
            text.push_str(&format!("\n\nDefined in {place}"));
            markdown.push_str(&format!("\n\n*Defined in {place}*"));
        }
        if let Some(source) = &self.source {
            text.push_str(&format!("\n\n{source}"));
            markdown.push_str(&format!("\n\n```lua\n{source}\n```"));
        }
        Inspected { text, markdown }
    }
}

impl Subject {
    fn page(&self, lua: &Lua, source: bool) -> Inspected {
        let page = match self {
            Subject::Everything => overview(),
            Subject::Parameter(tool, name) => parameter(lua, tool, name),
            Subject::Thing(Thing::Row(entry), _) => of_row(entry),
            Subject::Thing(Thing::Tool(name), _) => tool(lua, name),
            Subject::Thing(Thing::Value(value), path) => of_value(lua, value, path.as_deref(), source),
        };
        page.done()
    }
}

fn of_row(entry: &Entry) -> Page {
    let mut body = vec![entry.doc.to_owned()];
    body.extend(api::about(entry).map(str::to_owned));
    if !entry.errors.is_empty() {
        body.push(format!("Raises {}", entry.errors));
    }
    let example = (!entry.example.is_empty()).then_some(entry.example);
    Page { head: format!("{}{}", entry.name, entry.signature), body, example, ..Page::default() }
}

/// What there is at all.
fn overview() -> Page {
    let names = |section: &api::Section| {
        let names = section.rows.iter().filter(|entry| !api::is_method(entry)).map(|entry| entry.name);
        names.collect::<Vec<_>>().join(" ")
    };
    let sections = api::SECTIONS.iter().map(|section| format!("{}\n{}", section.title, names(section)));
    let head = "help(name) tells more of each of these, of a tool and of any value".into();
    Page { head, body: sections.collect(), ..Page::default() }
}

fn info(lua: &Lua, tool: &str) -> Json {
    look::context(lua).and_then(|context| context.runtime.registry.info(tool).ok()).unwrap_or_default()
}

fn parameter_line(row: &Json) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let required = if row["required"] == true { ", required" } else { "" };
    let default = row.get("default").map(|default| format!(", default `{default}`")).unwrap_or_default();
    format!("`{}` ({}{required}{default}): {}", text("name"), text("type"), text("description"))
}

fn tool(lua: &Lua, name: &str) -> Page {
    let info = info(lua, name);
    let summary = info["summary"].as_str().unwrap_or_default();
    let mut body = vec![format!("Tool of the category {}: {summary}.", info["category"].as_str().unwrap_or_default())];
    if let Some(more) = info["description"].as_str().filter(|text| *text != summary) {
        body.push(more.to_owned());
    }
    let lines: Vec<_> = info["parameters"].as_array().into_iter().flatten().map(parameter_line).collect();
    if !lines.is_empty() {
        body.push("Parameters:".into());
        body.push(lines.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n"));
    }
    Page { head: format!("Tool.{name}(params [, options]) → table"), body, ..Page::default() }
}

fn parameter(lua: &Lua, tool: &str, name: &str) -> Page {
    let info = info(lua, tool);
    let row = info["parameters"].as_array().into_iter().flatten().find(|row| row["name"] == name);
    let body = row.map_or_else(|| format!("{tool} has no such parameter."), parameter_line);
    Page { head: format!("{tool}: {name}"), body: vec![body], ..Page::default() }
}

fn of_value(lua: &Lua, value: &Value, path: Option<&str>, source: bool) -> Page {
    if let Some(name) = tool_object(lua, value) {
        return tool(lua, &name);
    }
    let row = look::row(lua, value, path);
    let mut page = match (row, value) {
        (Some(entry), _) => of_row(entry),
        (None, Value::Function(function)) => of_function(lua, function, path, source),
        _ => Page { head: path.unwrap_or(value.type_name()).to_owned(), ..Page::default() },
    };
    match value {
        Value::Function(_) => {}
        Value::Table(_) if class_name(lua, value).as_deref() == Some("absent") => {
            page.body.extend(path.and_then(absent::instead).map(str::to_owned));
        }
        Value::Table(table) => {
            let count = table.pairs::<Value, Value>().take(100_000).count();
            let fields = look::fields(lua, value);
            let kind = class_name(lua, value).unwrap_or_else(|| "table".into());
            page.body.push(format!("{kind} with {count} entries"));
            let mut lines: Vec<_> =
                fields.iter().take(MOST_FIELDS).map(|(name, field)| line(lua, name, field)).collect();
            if fields.len() > MOST_FIELDS {
                lines.push(format!("… {} more", fields.len() - MOST_FIELDS));
            }
            if !lines.is_empty() {
                page.body.push(lines.join("\n"));
            }
        }
        value => page.body.push(format!("{}: `{}`", kind(lua, value), plain(value))),
    }
    page
}

/// A tool that `Tool.get` made.
fn tool_object(lua: &Lua, value: &Value) -> Option<String> {
    let table = value.as_table()?;
    let is_tool = table.raw_get::<Value>("getSchema").is_ok_and(|value| value.is_function());
    let name: String = is_tool.then(|| table.raw_get("name").ok()).flatten()?;
    look::tool_name(lua, &name)
}

fn line(lua: &Lua, name: &str, value: &Value) -> String {
    match value {
        Value::Function(_) => format!("- `{name}{}`", look::signature(lua, value, None).unwrap_or_default()),
        Value::Table(_) | Value::UserData(_) | Value::Thread(_) => format!("- `{name}`: {}", kind(lua, value)),
        value => format!("- `{name}`: {} `{}`", kind(lua, value), plain(value)),
    }
}

/// `__name` of the metatable.
fn class_name(lua: &Lua, value: &Value) -> Option<String> {
    look::metatable(lua, value)?.raw_get("__name").ok()
}

fn kind(lua: &Lua, value: &Value) -> String {
    match value {
        Value::Integer(_) => "integer".into(),
        Value::Number(_) => "float".into(),
        Value::Table(_) | Value::UserData(_) => class_name(lua, value).unwrap_or_else(|| value.type_name().into()),
        value => value.type_name().into(),
    }
}

/// A value without asking it.
fn plain(value: &Value) -> String {
    let mut text = match value {
        Value::Nil => "nil".into(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) => format!("{:?}", text.to_string_lossy()),
        value => value.type_name().to_owned(),
    };
    if text.len() > LONGEST {
        let cut = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// A function that a script defined.
fn of_function(lua: &Lua, function: &Function, path: Option<&str>, source: bool) -> Page {
    let info = function.info();
    let mut page =
        Page { head: format!("{}{}", path.unwrap_or("function"), look::parameters(lua, function)), ..Page::default() };
    let (Some(chunk), Some(first)) = (info.source, info.line_defined.filter(|line| *line > 0)) else { return page };
    page.place = Some(match (chunk.strip_prefix('='), chunk.strip_prefix('@')) {
        (Some(cell), _) => format!("cell {cell}, line {first}"),
        (None, Some(file)) => format!("{file}:{first}"),
        (None, None) => format!("a loaded text, line {first}"),
    });
    let Some(code) = source_of(lua, &chunk) else { return page };
    let lines: Vec<&str> = code.lines().collect();
    if let Some(comment) = comment_above(&lines, first) {
        page.body.push(comment);
    }
    if source {
        let last = info.last_line_defined.unwrap_or(first).clamp(first, lines.len());
        page.source = lines.get(first - 1..last).map(|lines| lines.join("\n"));
    }
    page
}

/// The text a function was compiled from.
fn source_of(lua: &Lua, chunk: &str) -> Option<String> {
    let context = look::context(lua)?;
    let seen = context.seen.borrow();
    if let Some(code) = seen.cell(chunk) {
        return Some(code.to_owned());
    }
    let policy = &context.runtime.policy;
    let cwd = seen.cwd.clone().unwrap_or_else(|| policy.workdir().to_path_buf());
    let file = policy.open_read(&cwd.join(chunk.strip_prefix('@')?)).ok()?;
    let mut code = Vec::new();
    file.take(MOST_SOURCE).read_to_end(&mut code).ok()?;
    Some(String::from_utf8_lossy(&code).into_owned())
}

/// The comment that ends in the line above `first` (counted from 1), without its dashes.
fn comment_above(lines: &[&str], first: usize) -> Option<String> {
    let above = lines.get(..first.checked_sub(1)?)?;
    let last = above.last()?.trim();
    let mut comment: Vec<String> = Vec::new();
    if last.ends_with("]]") || last.ends_with("--]]") {
        let start = above.iter().rposition(|line| line.trim_start().starts_with("--[["))?;
        for line in &above[start..] {
            let line = line.trim().trim_start_matches("--[[").trim_end_matches("]]").trim_end_matches("--");
            comment.push(line.trim().to_owned());
        }
    } else {
        let start = above.iter().rposition(|line| !line.trim_start().starts_with("--")).map_or(0, |at| at + 1);
        for line in &above[start..] {
            let line = line.trim().trim_start_matches('-');
            comment.push(line.strip_prefix(' ').unwrap_or(line).to_owned());
        }
    }
    let text = comment.join("\n").trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// `help` and `set_next_input`.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let help = |lua: &Lua, args: MultiValue| -> Result<(), Fault> {
        let subject = match args.front() {
            None => Some(Subject::Everything),
            Some(Value::String(name)) => named(lua, &name.to_string_lossy()),
            Some(value) => Some(Subject::Thing(Thing::Value(value.clone()), None)),
        };
        let Some(subject) = subject else {
            let name = args.front().and_then(|name| name.as_string().map(|name| name.to_string_lossy()));
            return Err(Error::new(
                Class::NotFound,
                format!("help: {}: nothing is known of it", name.unwrap_or_default()),
            )
            .into());
        };
        current()?.output.page(&subject.page(lua, false))?;
        Ok(())
    };
    lua.globals().raw_set("help", fault::function(lua, "help", help)?)?;
    let next = |_: &Lua, (text, replace): (String, Option<bool>)| -> Result<(), Fault> {
        Ok(current()?.output.next_input(&text, replace.unwrap_or(false))?)
    };
    lua.globals().raw_set("set_next_input", fault::function(lua, "set_next_input", next)?)
}
