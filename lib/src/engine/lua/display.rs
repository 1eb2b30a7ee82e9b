//! `display`, `Display` and `Progress`: what a script shows beside text. The face is in `display.lua`; here is what needs
//! MIME bundles, files and the output.

use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mlua::{Lua, Table, Value};
use serde_json::{Map, Value as Json};

use super::fault::{self, Fault};
use super::json::from_lua;
use super::records::{self, Records};
use super::show;
use super::stdlib::current;
use super::traceback::OWN;
use crate::error::{Class, Error, Result};
use crate::protocol::content::{Display, Transient};

/// How a PNG file starts.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// The largest image that is shown, in bytes.
const LARGEST_IMAGE: u64 = 32 << 20;

/// Makes the three globals.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let native = lua.create_table()?;
    type Shown = (Table, Option<Table>, String, bool, Option<bool>);
    let display = |lua: &Lua, (data, metadata, id, update, progress_ended): Shown| -> Result<(), Fault> {
        show_bundle(lua, &data, metadata.as_ref(), id, update, progress_ended)
    };
    native.raw_set("show", fault::function(lua, "display", display)?)?;
    let clear = |_: &Lua, wait: bool| Ok(current()?.output.clear(wait)?);
    native.raw_set("clear", fault::function(lua, "clear", clear)?)?;
    let fail = |_: &Lua, text: String| -> Result<(), Fault> { Err(Error::new(Class::Usage, text).into()) };
    native.raw_set("fail", fault::function(lua, "display", fail)?)?;
    let id = |_: &Lua, ()| Ok(uuid::Uuid::new_v4().simple().to_string());
    native.raw_set("id", fault::function(lua, "display", id)?)?;
    let start = Instant::now();
    let now = move |_: &Lua, ()| Ok(start.elapsed().as_secs_f64());
    native.raw_set("now", fault::function(lua, "Progress", now)?)?;
    native.raw_set("value", fault::function(lua, "display", value)?)?;
    native.raw_set("png", fault::function(lua, "png", png)?)?;
    native.raw_set("records", fault::function(lua, "table", table)?)?;
    let json = |lua: &Lua, value: Value| Ok(format!("{:#}", from_lua(lua, &value)?));
    native.raw_set("json", fault::function(lua, "json", json)?)?;
    let text = |_: &Lua, html: String| Ok(records::strip(&html));
    native.raw_set("text_of_html", fault::function(lua, "html", text)?)?;
    let escape = |_: &Lua, text: String| Ok(records::escape(&text));
    native.raw_set("escape", fault::function(lua, "html", escape)?)?;
    lua.load(include_str!("display.lua")).set_name(OWN).call::<()>(native)
}

fn show_bundle(
    lua: &Lua,
    data: &Table,
    metadata: Option<&Table>,
    id: String,
    update: bool,
    progress_ended: Option<bool>,
) -> Result<(), Fault> {
    let run = current()?;
    let data = object(lua, data, "display")?;
    for (mime, content) in &data {
        let json = mime == "application/json" || mime.ends_with("+json");
        if !json && !content.is_string() {
            return Err(Error::new(Class::Usage, format!("display: {mime}: text expected")).into());
        }
    }
    let metadata = metadata.map(|metadata| object(lua, metadata, "metadata")).transpose()?.unwrap_or_default();
    let transient = Transient { display_id: Some(id), progress_ended };
    Ok(run.output.display(&Display { data, metadata, transient }, update)?)
}

fn object(lua: &Lua, table: &Table, what: &str) -> Result<Map<String, Json>> {
    match from_lua(lua, &Value::Table(table.clone())).map_err(|error| error.within(what))? {
        Json::Object(members) => Ok(members),
        _ => Err(Error::new(Class::Usage, format!("{what}: names expected as keys"))),
    }
}

/// Any value as `{mime = content}`: itself, if it is such a table.
fn value(lua: &Lua, value: Value) -> Result<Table, Fault> {
    if let Value::Table(table) = &value {
        let mut keys = table.pairs::<Value, Value>().map(|pair| pair.map(|(key, _)| key)).peekable();
        let is_mime = |key: mlua::Result<Value>| match key {
            Ok(Value::String(name)) => name.as_bytes().contains(&b'/') && !name.as_bytes().contains(&b' '),
            _ => false,
        };
        if keys.peek().is_some() && keys.all(is_mime) {
            return Ok(table.clone());
        }
    }
    let bundle = lua.create_table()?;
    let shown = show::one(lua, &value);
    if let (Some(Json::Object(_) | Json::Array(_)), Value::Table(_)) = (&shown.json, &value) {
        bundle.raw_set(shown.json_type(), value)?;
    }
    bundle.raw_set("text/plain", shown.text)?;
    bundle.raw_set("text/html", shown.html)?;
    Ok(bundle)
}

/// Text, HTML of a list of records; `columns` are those to show.
fn table(lua: &Lua, (rows, columns): (Value, Option<Vec<String>>)) -> Result<(String, String), Fault> {
    let Some(records) = Records::of(&rows, columns) else {
        return Err(Error::new(Class::Usage, "Display.table: a list of tables with string keys expected").into());
    };
    Ok((records.text(lua), records.html(lua)))
}

/// The image itself, or the path of one: base64, size in bytes, width, height.
fn png(_: &Lua, image: mlua::LuaString) -> Result<(String, usize, u32, u32), Fault> {
    let given = image.as_bytes();
    let mut read = Vec::new();
    let bytes: &[u8] = if given.starts_with(PNG) {
        &given
    } else {
        let path = match std::str::from_utf8(&given) {
            Ok(path) if !path.contains('\0') => path,
            _ => return Err(Error::new(Class::Usage, "Display.png: neither a PNG image nor a path").into()),
        };
        let run = current()?;
        let file = run.runtime.policy.open_read(&run.cwd.join(PathBuf::from(path)))?;
        file.take(LARGEST_IMAGE + 1).read_to_end(&mut read).map_err(|error| Error::io(path, error))?;
        if !read.starts_with(PNG) {
            return Err(Error::new(Class::Usage, format!("Display.png: {path}: not a PNG image")).into());
        }
        &read
    };
    if bytes.len() as u64 > LARGEST_IMAGE {
        return Err(Error::new(Class::Usage, "Display.png: image larger than 32 MiB").into());
    }
    // The first chunk is IHDR: length, name, width, height.
    let number = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    Ok((BASE64.encode(bytes), bytes.len(), number(16), number(20)))
}
