//! What may stand at a cursor: globals, fields, methods, keywords, modules, tools and their parameters.

use std::path::{Path, PathBuf};

use mlua::{Lua, Table, Value};
use serde_json::Value as Json;

use super::api;
use super::cursor::{self, End, Kind, Role, Tokens, is_name, scan};
use super::look::{self, Context, Thing};
use crate::engine::{Completion, Completions};

/// More than this nobody reads.
const MOST: usize = 2000;
/// Entries of a folder that are looked at.
const MOST_FILES: usize = 2000;

/// What may stand at the byte `cursor` of `code`.
pub(super) fn complete(lua: &Lua, code: &str, cursor: usize) -> Completions {
    let mut end = cursor.min(code.len());
    while !code.is_char_boundary(end) {
        end -= 1;
    }
    let tokens = scan(&code[..end]);
    let (start, mut items) = match tokens.end {
        End::Comment | End::LongText => (end, Vec::new()),
        End::Text(start) => (start, in_text(lua, &tokens)),
        End::Code => in_code(lua, &tokens, end),
    };
    let prefix = &code[start..end];
    items.retain(|item| item.text.starts_with(prefix));
    // Stable: of equals the first stays.
    items.sort_by(|a, b| a.text.cmp(&b.text));
    items.dedup_by(|a, b| a.text == b.text);
    items.truncate(MOST);
    let items = items.into_iter().map(|candidate| candidate.done(lua)).collect();
    Completions { start, end, items }
}

/// What may become a completion; what it is called like is found out for those that are answered only.
struct Candidate {
    text: String,
    kind: &'static str,
    /// It stands for this value, found under this name.
    value: Option<(Value, Option<String>)>,
}

impl Candidate {
    fn done(self, lua: &Lua) -> Completion {
        let Some((value, path)) = self.value else {
            return Completion { text: self.text, kind: self.kind, signature: None };
        };
        let kind = match value {
            Value::Function(_) => "function",
            Value::Table(_) if path.as_deref().is_some_and(|path| api::entry(path).is_some()) => "module",
            _ => self.kind,
        };
        Completion { text: self.text, kind, signature: look::signature(lua, &value, path.as_deref()) }
    }
}

fn item(text: impl Into<String>, kind: &'static str) -> Candidate {
    Candidate { text: text.into(), kind, value: None }
}

fn of_value(text: String, value: Value, path: Option<String>) -> Candidate {
    Candidate { text, kind: "instance", value: Some((value, path)) }
}

/// In an unfinished string.
fn in_text(lua: &Lua, tokens: &Tokens<'_>) -> Vec<Candidate> {
    let Some(last) = tokens.list.len().checked_sub(1) else { return Vec::new() };
    match tokens.role(last) {
        Role::Module => modules(lua),
        Role::Tool => tools(lua),
        Role::Help => {
            let names = api::entries().filter(|entry| !api::is_method(entry));
            let mut items: Vec<_> = names.map(|entry| item(entry.name, "function")).collect();
            items.extend(tools(lua));
            items
        }
        Role::Choice(tool, name) => {
            let Some(info) = tool_info(lua, &tool) else { return Vec::new() };
            let choices = info["schema"]["properties"][&name]["enum"].as_array().into_iter().flatten();
            choices.filter_map(Json::as_str).map(|choice| item(choice, "instance")).collect()
        }
        Role::KeyOf(chain) => match look::resolve(lua, &chain) {
            Some(Thing::Value(value)) if look::is_tool_table(lua, &value) => tools(lua),
            Some(Thing::Value(value @ Value::Table(_))) => {
                let fields = look::fields(lua, &value);
                fields.into_iter().map(|(name, value)| of_value(name, value, None)).collect()
            }
            _ => Vec::new(),
        },
        Role::None => Vec::new(),
    }
}

/// Outside of strings and comments: from where on, and what.
fn in_code(lua: &Lua, tokens: &Tokens<'_>, end: usize) -> (usize, Vec<Candidate>) {
    let list = &tokens.list;
    // The name that is being written, if one is.
    let word = list.last().filter(|token| token.end() == end && token.kind == Kind::Name);
    let start = word.map_or(end, |word| word.start);
    let before = list.len() - usize::from(word.is_some());
    let sign = before.checked_sub(1).map(|index| list[index]);
    match sign.map(|sign| (sign.kind, sign.text)) {
        Some((Kind::Sign, sign @ ("." | ":"))) => (start, fields(lua, tokens, before - 1, sign == ":")),
        // In the middle of a number: `1.`, `0x`
        Some((Kind::Number, _)) if word.is_none() && list.last().is_some_and(|token| token.end() == end) => {
            (end, Vec::new())
        }
        Some((Kind::Name, "goto")) | Some((Kind::Sign, "::")) => (start, Vec::new()),
        sign => {
            let mut items = Vec::new();
            if let Some((Kind::Sign, "{" | "," | ";")) = sign
                && let Some(tool) = tokens.open_bracket(before).and_then(|brace| tokens.tool_of_table(brace))
                && let Some(info) = tool_info(lua, &tool)
            {
                let names = info["schema"]["properties"].as_object().into_iter().flatten();
                items.extend(names.map(|(name, _)| item(name.as_str(), "param")));
                return (start, items);
            }
            items.extend(cursor::keywords().iter().map(|word| item(*word, "keyword")));
            for (name, value) in look::fields(lua, &Value::Table(lua.globals())) {
                if is_name(&name) {
                    items.push(of_value(name.clone(), value, Some(name)));
                }
            }
            // What the state knows says more than the code's own mention.
            let declared = tokens.declared().into_iter().filter(|name| word.is_none_or(|word| word.text != *name));
            items.extend(declared.map(|name| item(name, "instance")));
            (start, items)
        }
    }
}

/// Behind the `.` or `:` at `sign`.
fn fields(lua: &Lua, tokens: &Tokens<'_>, sign: usize, methods: bool) -> Vec<Candidate> {
    let chain = sign.checked_sub(1).and_then(|last| tokens.chain(last));
    let Some(chain) = chain else { return Vec::new() };
    let path = chain.path();
    match look::resolve(lua, &chain) {
        Some(Thing::Value(value)) => {
            let mut items = Vec::new();
            for (name, field) in look::fields(lua, &value) {
                if is_name(&name) && (!methods || field.is_function()) {
                    let path = path.as_ref().map(|path| format!("{path}.{name}"));
                    items.push(of_value(name, field, path));
                }
            }
            if !methods && look::is_tool_table(lua, &value) {
                items.extend(tools(lua));
            }
            items
        }
        Some(Thing::Tool(_)) => api::methods("tool")
            .filter(|(_, entry)| !methods || entry.signature.starts_with("(self"))
            .map(|(name, entry)| item(name, if entry.signature.is_empty() { "instance" } else { "function" }))
            .collect(),
        _ => Vec::new(),
    }
}

fn tools(lua: &Lua) -> Vec<Candidate> {
    let Some(context) = look::context(lua) else { return Vec::new() };
    context.runtime.registry.names().map(|name| item(name, "function")).collect()
}

fn tool_info(lua: &Lua, name: &str) -> Option<Json> {
    look::context(lua)?.runtime.registry.info(name).ok()
}

/// What `require` would find.
fn modules(lua: &Lua) -> Vec<Candidate> {
    let mut names = Vec::new();
    let package: Option<Table> = lua.globals().raw_get("package").ok();
    for known in ["loaded", "preload"] {
        if let Some(known) = package.as_ref().and_then(|package| package.raw_get::<Table>(known).ok()) {
            names.extend(look::fields(lua, &Value::Table(known)).into_keys());
        }
    }
    let path: Option<String> = package.and_then(|package| package.raw_get("path").ok());
    if let Some(context) = look::context(lua) {
        let templates = path.as_deref().unwrap_or("./?.lua;./?/init.lua");
        for folder in folders(&context, templates) {
            modules_in(&context, &folder, "", &mut names);
        }
    }
    names.retain(|name| name != "_G");
    names.into_iter().map(|name| item(name, "module")).collect()
}

/// The folders in which modules are looked for: the script's own, then those of `package.path`.
fn folders(context: &Context, templates: &str) -> Vec<PathBuf> {
    let seen = context.seen.borrow();
    let cwd = seen.cwd.clone().unwrap_or_else(|| context.runtime.policy.workdir().to_path_buf());
    let given = templates.split(';').filter_map(|template| template.strip_suffix("?.lua")).map(Path::new);
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in seen.folder.iter().map(PathBuf::as_path).chain(given) {
        let folder: PathBuf = cwd.join(folder).components().collect();
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Adds the modules of a folder, and of the folders in it one level deep. Only where `require` may read.
fn modules_in(context: &Context, folder: &Path, prefix: &str, names: &mut Vec<String>) {
    let allowed = |path: &Path| {
        let configured = &context.runtime.config.engines.lua.package_paths;
        context.runtime.policy.check_read(path).is_ok()
            || configured.iter().any(|allowed| path.starts_with(allowed))
            || context.seen.borrow().folder.as_ref().is_some_and(|own| path.starts_with(own))
    };
    if !allowed(folder) {
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.take(MOST_FILES).flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if let Some(name) = name.strip_suffix(".lua") {
            // The `init` of a folder is what the folder is called.
            if !name.contains('.') && (name != "init" || prefix.is_empty()) {
                names.push(format!("{prefix}{name}"));
            }
        } else if !name.contains('.') && path.is_dir() {
            if path.join("init.lua").is_file() {
                names.push(format!("{prefix}{name}"));
            }
            if prefix.is_empty() {
                modules_in(context, &path, &format!("{name}."), names);
            }
        }
    }
}
