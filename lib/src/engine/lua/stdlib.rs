//! What a script finds of Lua's standard library: all that only computes as it is, all that touches files, programs and the
//! environment through the policy. No bytecode, no C modules, of `debug` what only looks.
#![expect(unsafe_code, reason = "makes plain userdata")]

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{AnyUserData, Function, IntoLuaMulti, Lua, MultiValue, StdLib, Table, Value};
use mlua_sys as ffi;
use rustix::fs::{AtFlags, renameat, unlinkat};
use rustix::io::Errno;

use super::debug;
use super::fault::{self, Fault};
use super::file;
use super::interrupt::Stop;
use super::output;
use super::process;
use super::run::{self, Run};
use super::traceback::{OWN, place};
use crate::error::{Class, Error, Result};
use crate::runtime::Runtime;
use crate::security::Profile;

/// The libraries opened by Lua itself; base always is.
pub(super) fn libraries() -> StdLib {
    StdLib::COROUTINE
        | StdLib::TABLE
        | StdLib::STRING
        | StdLib::UTF8
        | StdLib::MATH
        | StdLib::OS
        | StdLib::IO
        | StdLib::PACKAGE
}

/// Replaces what must not be as Lua has it.
pub(super) fn open(lua: &Lua, runtime: &Runtime) -> mlua::Result<()> {
    let globals = lua.globals();
    globals.get::<Table>("string")?.raw_remove("dump")?;
    debug::open(lua)?;
    file::open(lua)?;
    os(lua, &globals.get("os")?)?;
    package(lua, &globals.get("package")?, runtime)?;
    prelude(lua)
}

/// Runs the part that is written in Lua.
fn prelude(lua: &Lua) -> mlua::Result<()> {
    let native = lua.create_table()?;
    let error_metatable = lua.create_table()?;
    fault::open(lua, &error_metatable)?;
    native.raw_set("error_metatable", error_metatable)?;
    output::open(lua, &native)?;

    let body = |lua: &Lua, (path, mode): (mlua::LuaString, Option<String>)| open_file(lua, &path, mode.as_deref());
    native.raw_set("open", fault::function(lua, "open", body)?)?;
    let body = |lua: &Lua, ()| {
        let folder = std::env::temp_dir();
        current()?.runtime.policy.check_write(&folder.join("lua"))?;
        let made = tempfile::tempfile().map_err(|error| Error::io(&folder, error))?;
        file::plain(lua, made.into(), c"w+")
    };
    native.raw_set("tmpfile", fault::function(lua, "tmpfile", body)?)?;
    native.raw_set("popen", fault::function(lua, "popen", process::popen)?)?;

    let body = |lua: &Lua, (path, mode, has_env, env): (Option<mlua::LuaString>, Option<String>, bool, Value)| {
        load_file(lua, path, mode.as_deref(), has_env.then_some(env))
    };
    native.raw_set("loadfile", fault::function(lua, "loadfile", body)?)?;
    // SAFETY: `place` only looks; `newuserdata` leaves its one result.
    unsafe {
        let here = |lua: &Lua, ()| {
            let mut text = String::new();
            lua.exec_raw::<()>((), |state| text = place(state))?;
            Ok(text)
        };
        native.raw_set("place", fault::function(lua, "place", here)?)?;
        let handle = |lua: &Lua, metatable: Table| {
            Ok(lua.exec_raw::<AnyUserData>(metatable, |state| {
                ffi::lua_newuserdatauv(state, 0, 0);
                ffi::lua_insert(state, 1);
                ffi::lua_setmetatable(state, 1);
            })?)
        };
        native.raw_set("handle", fault::function(lua, "handle", handle)?)?;
    }
    lua.load(include_str!("prelude.lua")).set_name(OWN).call::<()>(native)
}

/// The running script; code that runs outside of one (a finalizer while the state is closed) reaches nothing.
pub(super) fn current() -> Result<Rc<Run>> {
    Run::current().ok_or_else(|| Error::new(Class::Denied, "no script runs"))
}

/// `path` of a script as bytes.
fn native_path(run: &Run, path: &mlua::LuaString) -> PathBuf {
    run.cwd.join(OsStr::from_bytes(&path.as_bytes()))
}

/// Lua's way to say no: nil, a message, a number. What the policy denied is an error value, so that `assert` keeps its class.
fn refused(lua: &Lua, path: &mlua::LuaString, error: &Error) -> Result<MultiValue, Fault> {
    let number = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error);
    let (message, number) = match error.class() {
        Class::Denied => (Value::Table(fault::error_value(lua, error)?), number.unwrap_or(libc::EACCES)),
        class => {
            let number = number.unwrap_or(if class == Class::NotFound { libc::ENOENT } else { libc::EIO });
            let reason = std::io::Error::from_raw_os_error(number).to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default();
            (Value::String(lua.create_string(format!("{}: {reason}", path.display()))?), number)
        }
    };
    Ok((Value::Nil, message, number).into_lua_multi(lua)?)
}

/// `io.open`: the policy opens, and what was opened becomes one of Lua's files as it is.
fn open_file(lua: &Lua, path: &mlua::LuaString, mode: Option<&str>) -> Result<MultiValue, Fault> {
    let run = current()?;
    let mode = mode.unwrap_or("r");
    let mut options = OpenOptions::new();
    let mode = match mode.strip_suffix('b').unwrap_or(mode) {
        "r" => c"r",
        "r+" => {
            options.read(true).write(true);
            c"r+"
        }
        "w" => {
            options.write(true).create(true);
            c"w"
        }
        "w+" => {
            options.read(true).write(true).create(true);
            c"w+"
        }
        "a" => {
            options.append(true).create(true);
            c"a"
        }
        "a+" => {
            options.read(true).append(true).create(true);
            c"a+"
        }
        _ => return Err(Error::new(Class::Usage, "bad argument #2 to 'open' (invalid mode)").into()),
    };
    let full = native_path(&run, path);
    let policy = &run.runtime.policy;
    let opened = if mode == c"r" { policy.open_read(&full) } else { policy.open_write(&full, &options) };
    let ready = opened.and_then(|file| {
        let metadata = file.metadata().map_err(|error| Error::io(&full, error))?;
        if !file::is_tame(&metadata) {
            if policy.profile() != Profile::Privileged {
                return Err(Error::new(Class::Denied, format!("{}: neither a file nor a folder", path.display()))
                    .hint("Pipes and devices need --profile privileged."));
            }
            file::patient(&file).map_err(|error| Error::io(&full, error))?;
        } else if matches!(mode.to_bytes(), [b'w', ..]) && metadata.is_file() {
            file.set_len(0).map_err(|error| Error::io(&full, error))?;
        }
        Ok(file)
    });
    match ready {
        Ok(file) => Ok(file::plain(lua, file.into(), mode)?.into_lua_multi(lua)?),
        Err(error) => refused(lua, path, &error),
    }
}

fn os(lua: &Lua, os: &Table) -> mlua::Result<()> {
    let remove = |lua: &Lua, path: mlua::LuaString| {
        let run = current()?;
        let full = native_path(&run, &path);
        let removed = run.runtime.policy.place_to_remove(&full).and_then(|place| {
            // As remove(3): a file, else an empty folder.
            let removed = unlinkat(&place.dir, &place.name, AtFlags::empty()).or_else(|error| match error {
                Errno::ISDIR | Errno::PERM => unlinkat(&place.dir, &place.name, AtFlags::REMOVEDIR),
                error => Err(error),
            });
            removed.map_err(|error| Error::io(&full, error.into()))
        });
        done(lua, &path, removed)
    };
    os.raw_set("remove", fault::function(lua, "remove", remove)?)?;
    let rename = |lua: &Lua, (from, to): (mlua::LuaString, mlua::LuaString)| {
        let run = current()?;
        let (full, policy) = (native_path(&run, &from), &run.runtime.policy);
        let renamed = policy.place_to_remove(&full).and_then(|source| {
            let target = policy.place_to_remove(&native_path(&run, &to))?;
            renameat(&source.dir, &source.name, &target.dir, &target.name)
                .map_err(|error| Error::io(&full, error.into()))
        });
        done(lua, &from, renamed)
    };
    os.raw_set("rename", fault::function(lua, "rename", rename)?)?;
    let tmpname = |_: &Lua, ()| {
        let path = std::env::temp_dir().join(format!("lua_{}", uuid::Uuid::new_v4().simple()));
        current()?.runtime.policy.open_write(&path, OpenOptions::new().write(true).create_new(true))?;
        Ok(path.to_string_lossy().into_owned())
    };
    os.raw_set("tmpname", fault::function(lua, "tmpname", tmpname)?)?;
    let getenv = |lua: &Lua, name: String| {
        let allowed = current()?.runtime.policy.check_env(&name).is_ok() && !name.contains(['=', '\0']);
        let value = allowed.then(|| std::env::var_os(&name)).flatten();
        Ok(value.map(|value| lua.create_string(value.into_vec())).transpose()?)
    };
    os.raw_set("getenv", fault::function(lua, "getenv", getenv)?)?;
    let exit = |_: &Lua, code: Value| -> Result<(), Fault> {
        let run = current()?;
        let code = match code {
            Value::Nil | Value::Boolean(true) => 0,
            Value::Boolean(false) => 1,
            other => other.as_i64().or_else(|| other.as_f64().map(|code| code as i64)).unwrap_or(1) & 0xff,
        };
        run.exit.set(code as u8);
        run.stop(Stop::Exit);
        Err(Fault::Stop)
    };
    os.raw_set("exit", fault::function(lua, "exit", exit)?)?;
    os.raw_set("execute", fault::function(lua, "execute", process::execute)?)?;
    // The locale belongs to the process: it can be asked for, not set.
    let setlocale = |_: &Lua, locale: Option<String>| Ok(locale.is_none_or(|locale| locale == "C").then_some("C"));
    os.raw_set("setlocale", fault::function(lua, "setlocale", setlocale)?)
}

fn done(lua: &Lua, path: &mlua::LuaString, result: Result<()>) -> Result<MultiValue, Fault> {
    match result {
        Ok(()) => Ok(true.into_lua_multi(lua)?),
        Err(error) => refused(lua, path, &error),
    }
}

/// Compiles text; a first line that starts with `#` and a byte order mark are skipped. No bytecode.
pub(super) fn compile(lua: &Lua, code: &[u8], name: &str, env: Option<Table>) -> mlua::Result<Function> {
    let code = code.strip_prefix(b"\xef\xbb\xbf").unwrap_or(code);
    let code = match code {
        [b'#', ..] => &code[code.iter().position(|byte| *byte == b'\n').unwrap_or(code.len())..],
        _ => code,
    };
    let chunk = lua.load(code).set_name(name).set_mode(ChunkMode::Text);
    match env {
        Some(env) => chunk.set_environment(env).into_function(),
        None => chunk.into_function(),
    }
}

fn load_file(
    lua: &Lua,
    path: Option<mlua::LuaString>,
    mode: Option<&str>,
    env: Option<Value>,
) -> Result<MultiValue, Fault> {
    let Some(path) = path else {
        return Err(Error::new(Class::Usage, "loadfile: needs a path: standard input is not a script").into());
    };
    let run = current()?;
    let read = run
        .runtime
        .policy
        .open_read(&native_path(&run, &path))
        .and_then(|file| read(&path.display().to_string(), file));
    let code = match read {
        Ok(code) => code,
        Err(error) => return refused(lua, &path, &error),
    };
    if mode.is_some_and(|mode| !mode.contains('t')) {
        let message =
            format!("{}: attempt to load a text chunk (mode is '{}')", path.display(), mode.unwrap_or_default());
        return Ok((Value::Nil, message).into_lua_multi(lua)?);
    }
    let env = match env {
        Some(Value::Table(env)) => Some(env),
        Some(_) => return Err(Error::new(Class::Usage, "bad argument #3 to 'loadfile' (table expected)").into()),
        None => None,
    };
    match compile(lua, &code, &format!("@{}", path.display()), env) {
        Ok(chunk) => Ok(chunk.into_lua_multi(lua)?),
        Err(error) => Ok((Value::Nil, fault::first_line(&error)).into_lua_multi(lua)?),
    }
}

/// The whole of a file of code.
fn read(path: &str, mut file: File) -> Result<Vec<u8>> {
    /// Longer is no code.
    const LONGEST: usize = 64 << 20;
    let mut code = Vec::new();
    while code.len() <= LONGEST && !run::stopping() {
        match file.by_ref().take(1 << 20).read_to_end(&mut code) {
            Ok(0) => return Ok(code),
            Ok(_) => {}
            Err(error) => return Err(Error::io(path, error)),
        }
    }
    Err(Error::io(path, std::io::Error::from_raw_os_error(libc::EFBIG)))
}

/// `package` with Lua's own `require`, which is given two searchers: `preload` and ours.
fn package(lua: &Lua, package: &Table, runtime: &Runtime) -> mlua::Result<()> {
    for name in ["loadlib", "cpath", "searchpath"] {
        package.raw_remove(name)?;
    }
    let folders = runtime.config.engines.lua.package_paths.iter().map(PathBuf::as_path).chain([Path::new(".")]);
    let templates = folders.flat_map(|folder| ["?.lua", "?/init.lua"].map(|name| folder.join(name)));
    let templates: Vec<_> = templates.map(|template| template.to_string_lossy().into_owned()).collect();
    package.raw_set("path", templates.join(";"))?;
    let of_package = package.clone();
    let searcher = fault::function(lua, "require", move |lua, name: String| search(lua, &of_package, &name))?;
    let preload: Value = package.get::<Table>("searchers")?.raw_get(1)?;
    package.raw_set("searchers", lua.create_sequence_from([preload, Value::Function(searcher)])?)
}

/// Looks for a module in the script's folder, then along `package.path`.
fn search(lua: &Lua, package: &Table, name: &str) -> Result<MultiValue, Fault> {
    let run = current()?;
    let file_name = name.replace('.', "/");
    let path: String = package.raw_get("path")?;
    let own = run.folder.iter().flat_map(|folder| ["?.lua", "?/init.lua"].map(|name| folder.join(name)));
    let own: Vec<String> = own.map(|template| template.to_string_lossy().into_owned()).collect();
    let mut tried = String::new();
    for template in own.iter().map(String::as_str).chain(path.split(';').filter(|template| !template.is_empty())) {
        let candidate = template.replace('?', &file_name);
        let candidate = candidate.strip_prefix("./").unwrap_or(&candidate);
        let found = run.modules().open_read(&run.cwd.join(candidate)).and_then(|file| read(candidate, file));
        let code = match found {
            Ok(code) => code,
            Err(error) => {
                let why = if error.class() == Class::NotFound { String::new() } else { format!(" ({})", error.text()) };
                tried.push_str(&format!("\n\tno file '{candidate}'{why}"));
                continue;
            }
        };
        return match compile(lua, &code, &format!("@{candidate}"), None) {
            Ok(chunk) => Ok((chunk, candidate).into_lua_multi(lua)?),
            Err(error) => {
                let message =
                    format!("error loading module '{name}' from file '{candidate}':\n\t{}", fault::first_line(&error));
                Err(Fault::Raise(Value::String(lua.create_string(message)?)))
            }
        };
    }
    Ok(tried.trim_start_matches('\n').into_lua_multi(lua)?)
}
