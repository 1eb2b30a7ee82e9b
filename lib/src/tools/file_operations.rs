//! `file_operations`: files and folders, one operation a call.
//!
//! The policy opens the folder that holds the thing; what is then created, renamed or removed is named relative to that
//! open folder, so nothing that happens to the path meanwhile leads elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files::{self, copy_bytes, fault, kind, make_dir, make_dirs, named, place_for_new, replace, stat, system};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, required, timestamp};
use crate::error::{Class, Error, Result};
use crate::security::Place;

/// The file tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "file_operations",
    aliases: &["file_reader", "file_writer", "file"],
    category: "filesystem",
    summary: "read, write, list, copy, move and delete files and folders",
    level: Level::Privileged,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("action", "operation"),
        Spelling::Param("content", "input"),
        Spelling::Param("file_path", "path"),
        Spelling::Param("source", "source_path"),
        Spelling::Param("target", "target_path"),
        Spelling::Param("destination", "target_path"),
        Spelling::Value("operation", "list", "list_dir"),
        Spelling::Value("operation", "ls", "list_dir"),
        Spelling::Value("operation", "dir", "list_dir"),
        Spelling::Value("operation", "cp", "copy"),
        Spelling::Value("operation", "mv", "move"),
        Spelling::Value("operation", "rename", "move"),
        Spelling::Value("operation", "mkdir", "create_dir"),
        Spelling::Value("operation", "stat", "metadata"),
        Spelling::Value("operation", "info", "metadata"),
        Spelling::Value("operation", "rm", "delete"),
        Spelling::Value("operation", "remove", "delete"),
    ],
    examples: &[
        example(
            "write, making folders on the way",
            r#"{"operation": "write", "path": "$TMP/notes/a.txt", "input": "one\ntwo\n"}"#,
            r#"{"size": 8}"#,
        ),
        example(
            "read",
            r#"{"operation": "read", "path": "$TMP/notes/a.txt"}"#,
            r#"{"input": "one\ntwo\n", "size": 8}"#,
        ),
        example(
            "one line of it",
            r#"{"operation": "read", "path": "$TMP/notes/a.txt", "start_line": 2, "max_lines": 1}"#,
            r#"{"input": "two\n", "lines": 1, "more": false}"#,
        ),
        example(
            "list a folder",
            r#"{"operation": "list_dir", "path": "$TMP/notes"}"#,
            r#"{"entries": [{"name": "a.txt", "type": "file", "size": 8}], "count": 1, "truncated": false}"#,
        ),
        example(
            "move",
            r#"{"operation": "move", "source_path": "$TMP/notes/a.txt", "target_path": "$TMP/notes/b.txt"}"#,
            r#"{"target": "$TMP/notes/b.txt"}"#,
        ),
        example("exists", r#"{"operation": "exists", "path": "$TMP/notes/a.txt"}"#, r#"{"exists": false}"#),
    ],
};

/// Most entries of one listing.
const MAX_ENTRIES: usize = 10_000;
/// Works on files and folders the policy allows. Relative paths start in the caller's folder.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The file or folder; for `copy` and `move` another way to say `source_path`.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// `write`, `append`: the content.
    input: Option<String>,
    /// How content is given: as it is (UTF-8), or any bytes in base64.
    #[serde(default)]
    encoding: Encoding,
    /// `read`: first line, from 1.
    #[schemars(range(min = 1))]
    start_line: Option<usize>,
    /// `read`: most lines.
    max_lines: Option<usize>,
    /// `copy`, `move`: from here.
    #[schemars(length(min = 1))]
    source_path: Option<String>,
    /// `copy`, `move`: to here; a file there is replaced.
    #[schemars(length(min = 1))]
    target_path: Option<String>,
    /// `create_dir`: with all folders above; `list_dir`, `delete`: with all below.
    #[serde(default)]
    recursive: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Read,
    Write,
    Append,
    Delete,
    CreateDir,
    ListDir,
    Copy,
    Move,
    Metadata,
    Exists,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Encoding {
    #[default]
    Text,
    Base64,
}

/// Does one operation.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let writes = matches!(params.operation, Operation::Write | Operation::Append);
    if params.input.is_some() && !writes {
        return Err(Error::new(Class::Usage, "input: only write and append take it")
            .hint(r#"Say what to do with operation = "write"."#));
    }
    if matches!(params.operation, Operation::Copy | Operation::Move) {
        let source = required(params.source_path.as_ref().or(params.path.as_ref()), "source_path")?;
        let target = required(params.target_path.as_ref(), "target_path")?;
        return match params.operation {
            Operation::Copy => copy(source, target, call),
            _ => rename(source, target, call),
        };
    }
    let path = required(params.path.as_deref(), "path")?;
    match params.operation {
        Operation::Write => write(path, &content(params.input, params.encoding)?, call),
        Operation::Append => append(path, &content(params.input, params.encoding)?, call),
        Operation::Delete => delete(path, params.recursive, call),
        Operation::CreateDir => create_dir(path, params.recursive, call),
        Operation::ListDir => list_dir(path, params.recursive, call),
        Operation::Metadata => metadata(path, call),
        Operation::Exists => exists(path, call),
        _ => read(path, &params, call),
    }
}

/// The bytes to write.
fn content(input: Option<String>, encoding: Encoding) -> Result<Vec<u8>> {
    let input = required(input, "input")?;
    match encoding {
        Encoding::Text => Ok(input.into_bytes()),
        Encoding::Base64 => {
            STANDARD.decode(input.trim()).map_err(|e| Error::new(Class::Usage, format!("input: not base64: {e}")))
        }
    }
}

fn read(path: &str, params: &Params, call: &Call) -> Result<Answer> {
    let file = call.open(path)?;
    if file.metadata().map_err(fault(path))?.is_dir() {
        return Err(Error::new(Class::Tool, format!("{path}: is a folder")).hint("list_dir shows what is in it."));
    }
    let most = call.settings.file_operations.max_file_size;
    let mut bytes = Vec::new();
    let mut result = json!({"path": path});
    if params.start_line.is_some() || params.max_lines.is_some() {
        let (first, most_lines) = (params.start_line.unwrap_or(1), params.max_lines.unwrap_or(usize::MAX));
        let (lines, more) = read_lines(file, first, most_lines, most, &mut bytes, call).map_err(|e| e.within(path))?;
        result["start_line"] = first.into();
        result["lines"] = lines.into();
        result["more"] = more.into();
    } else {
        let mut file = file.take(most.saturating_add(1));
        copy_bytes(&mut file, &mut bytes, call).map_err(|e| e.within(path))?;
    }
    if bytes.len() as u64 > most {
        return Err(Error::new(Class::Tool, format!("{path}: larger than {most} bytes"))
            .hint("Read a part with start_line and max_lines, or raise tools.file_operations.max_file_size."));
    }
    let size = bytes.len();
    let (text, encoding) = match params.encoding {
        Encoding::Base64 => (STANDARD.encode(&bytes), "base64"),
        Encoding::Text => match String::from_utf8(bytes) {
            Ok(text) => (text, "text"),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                return Err(Error::new(Class::Tool, format!("{path}: not UTF-8 text: byte {at}"))
                    .hint(r#"Read it with encoding = "base64"."#));
            }
        },
    };
    result["input"] = text.as_str().into();
    result["size"] = size.into();
    result["encoding"] = encoding.into();
    Ok(Answer::new("read", result).message(format!("Read {size} bytes from {path}")).text(text))
}

/// At most `most_lines` lines from the line `first` on, as long as they fit in `most` bytes (else one byte more is read).
fn read_lines(
    file: File,
    first: usize,
    most_lines: usize,
    most: u64,
    bytes: &mut Vec<u8>,
    call: &Call,
) -> Result<(usize, bool)> {
    let mut reader = BufReader::new(file);
    let fault = |e| Error::new(Class::System, crate::error::reason(&e));
    for skipped in 1..first {
        if skipped % 1024 == 0 {
            call.check()?;
        }
        if reader.skip_until(b'\n').map_err(fault)? == 0 {
            return Ok((0, false));
        }
    }
    let mut lines = 0;
    while lines < most_lines {
        call.check()?;
        let room = most.saturating_add(1).saturating_sub(bytes.len() as u64);
        if reader.by_ref().take(room).read_until(b'\n', bytes).map_err(fault)? == 0 {
            return Ok((lines, false));
        }
        lines += 1;
    }
    Ok((lines, !reader.fill_buf().map_err(fault)?.is_empty()))
}

fn write(path: &str, bytes: &[u8], call: &Call) -> Result<Answer> {
    files::write(path, bytes, call)?;
    let size = bytes.len();
    Ok(Answer::new("write", json!({"path": path, "size": size})).message(format!("Wrote {size} bytes to {path}")))
}

fn append(path: &str, bytes: &[u8], call: &Call) -> Result<Answer> {
    place_for_new(path, call)?;
    let options = OpenOptions::new().append(true).create(true).clone();
    let mut file = call.policy.open_write(&call.path(path), &options)?;
    file.write_all(bytes).map_err(fault(path))?;
    let size = bytes.len();
    Ok(Answer::new("append", json!({"path": path, "appended_size": size}))
        .message(format!("Appended {size} bytes to {path}")))
}

fn delete(path: &str, recursive: bool, call: &Call) -> Result<Answer> {
    let place = call.policy.place_to_remove(&call.path(path))?;
    let stat = statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW).map_err(system(path))?;
    let (what, count) = if kind(&stat) == FileType::Directory {
        if !recursive {
            return Err(Error::new(Class::Tool, format!("{path}: is a folder"))
                .hint("Delete it with all it holds by recursive = true."));
        }
        ("directory", remove_tree(&place.dir, Path::new(&place.name), call).map_err(|e| e.within(path))?)
    } else {
        unlinkat(&place.dir, &place.name, AtFlags::empty()).map_err(system(path))?;
        ("file", 1)
    };
    Ok(Answer::new("delete", json!({"path": path, "deleted": count})).message(format!("Deleted {what}: {path}")))
}

/// Removes the folder `name` in `dir` with all it holds, links and not what they lead to. How many things went.
fn remove_tree(dir: impl AsFd, name: &Path, call: &Call) -> Result<u64> {
    call.check()?;
    let fault = |e: Errno| Error::io(name, e.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = openat(&dir, name, flags, Mode::empty()).map_err(fault)?;
    let mut count = 1;
    for entry in names(&inner).map_err(fault)? {
        let entry = Path::new(&entry);
        let stat = statat(&inner, entry, AtFlags::SYMLINK_NOFOLLOW).map_err(fault)?;
        if kind(&stat) == FileType::Directory {
            count += remove_tree(&inner, entry, call)?;
        } else {
            unlinkat(&inner, entry, AtFlags::empty()).map_err(fault)?;
            count += 1;
        }
    }
    unlinkat(&dir, name, AtFlags::REMOVEDIR).map_err(fault)?;
    Ok(count)
}

/// What the open folder `dir` holds, sorted.
fn names(dir: impl AsFd) -> Result<Vec<PathBuf>, Errno> {
    use std::os::unix::ffi::OsStringExt;
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsString::from_vec(name).into());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn create_dir(path: &str, recursive: bool, call: &Call) -> Result<Answer> {
    let full = call.path(path);
    let made = if recursive { make_dirs(&full, call) } else { make_dir(&full, call) };
    match made {
        Err(error) if error.class() == Class::Conflict && call.readable(path)?.is_dir() => {}
        made => made?,
    }
    let result = json!({"path": path, "recursive": recursive});
    Ok(Answer::new("create_dir", result).message(format!("Created directory: {path}")))
}

fn list_dir(path: &str, recursive: bool, call: &Call) -> Result<Answer> {
    let mut entries = Vec::new();
    let truncated = !list_into(Path::new(path), recursive, &mut entries, call)?;
    let count = entries.len();
    let result = json!({"path": path, "entries": entries, "count": count, "truncated": truncated});
    Ok(Answer::new("list_dir", result).message(format!("Found {count} entries in {path}")))
}

/// Appends what `path` holds; false when there is no room for all.
fn list_into(path: &Path, recursive: bool, entries: &mut Vec<Value>, call: &Call) -> Result<bool> {
    call.check()?;
    let fault = |e: Errno| Error::io(path, e.into());
    let dir = call.policy.open_read(&call.cwd.join(path))?;
    for name in names(&dir).map_err(fault)? {
        if entries.len() == MAX_ENTRIES {
            return Ok(false);
        }
        // Gone between the two looks: not there.
        let Some(stat) = stat(&dir, &name).map_err(fault)? else { continue };
        let inner = path.join(&name);
        let kind = kind(&stat);
        entries.push(json!({
            "name": name.to_string_lossy(), "path": inner.to_string_lossy(), "type": kind_name(kind), "size": stat.st_size,
            "modified": modified(&stat),
        }));
        if recursive && kind == FileType::Directory {
            match list_into(&inner, true, entries, call) {
                // A folder that may not be looked into is shown, no more.
                Err(error) if matches!(error.class(), Class::Denied | Class::NotFound) => {}
                whole => {
                    if !whole? {
                        return Ok(false);
                    }
                }
            }
        }
    }
    Ok(true)
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        _ => "unknown",
    }
}

fn modified(stat: &Stat) -> String {
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    let since = seconds + Duration::from_nanos(stat.st_mtime_nsec);
    timestamp(SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH))
}

fn copy(source: &str, target: &str, call: &Call) -> Result<Answer> {
    let size = copy_file(call.open(source)?, source, &place_for_new(target, call)?, target, call)?;
    let result = json!({"source": source, "target": target, "size": size});
    Ok(Answer::new("copy", result).message(format!("Copied {source} to {target}")))
}

/// Copies an open file to a place, permissions included. Its size.
fn copy_file(mut from: File, source: &str, place: &Place, target: &str, call: &Call) -> Result<u64> {
    let metadata = from.metadata().map_err(fault(source))?;
    if !metadata.is_file() {
        return Err(Error::new(Class::Tool, format!("{source}: not a file")));
    }
    if stat(&place.dir, &place.name).map_err(system(target))?.is_some_and(|stat| kind(&stat) != FileType::RegularFile) {
        return Err(Error::new(Class::Conflict, format!("{target}: in the way and not a file")));
    }
    let mut size = 0;
    let mode = Mode::from_raw_mode(metadata.permissions().mode() & 0o777);
    replace(place, Some(mode), |file| {
        size = copy_bytes(&mut from, file, call)?;
        Ok(())
    })
    .map_err(|e| named(e, target))?;
    Ok(size)
}

fn rename(source: &str, target: &str, call: &Call) -> Result<Answer> {
    let from = call.policy.place_to_remove(&call.path(source))?;
    // Before any folder is made for it.
    statat(&from.dir, &from.name, AtFlags::SYMLINK_NOFOLLOW).map_err(system(source))?;
    let to = place_for_new(target, call)?;
    match renameat(&from.dir, &from.name, &to.dir, &to.name) {
        Err(Errno::XDEV) => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = File::from(openat(&from.dir, &from.name, flags, Mode::empty()).map_err(system(source))?);
            copy_file(file, source, &to, target, call)?;
            unlinkat(&from.dir, &from.name, AtFlags::empty()).map_err(system(source))?;
        }
        renamed => renamed.map_err(system(target))?,
    }
    let result = json!({"source": source, "target": target});
    Ok(Answer::new("move", result).message(format!("Moved {source} to {target}")))
}

fn metadata(path: &str, call: &Call) -> Result<Answer> {
    let metadata = call.readable(path)?.symlink_metadata().map_err(fault(path))?;
    let kind = match metadata.file_type() {
        kind if kind.is_file() => "file",
        kind if kind.is_dir() => "directory",
        kind if kind.is_symlink() => "symlink",
        _ => "unknown",
    };
    let mut result = json!({
        "path": path, "type": kind, "size": metadata.len(), "readonly": metadata.permissions().readonly(),
        "mode": format!("{:04o}", metadata.permissions().mode() & 0o7777),
    });
    // Not every file system keeps all three.
    for (name, time) in
        [("created", metadata.created()), ("modified", metadata.modified()), ("accessed", metadata.accessed())]
    {
        result[name] = time.map_or(Value::Null, |time| timestamp(time).into());
    }
    Ok(Answer::new("metadata", result).message(format!("Retrieved metadata for {path}")))
}

fn exists(path: &str, call: &Call) -> Result<Answer> {
    let exists = match call.readable(path) {
        Ok(_) => true,
        Err(error) if error.class() == Class::NotFound => false,
        Err(error) => return Err(error),
    };
    let word = if exists { "exists" } else { "does not exist" };
    Ok(Answer::new("exists", json!({"path": path, "exists": exists})).message(format!("Path {path} {word}")))
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use crate::config::Tools;
    use crate::security::{Grants, Policy, Profile};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    /// A call that may write in the folder, and the folder.
    fn folder() -> (tempfile::TempDir, Call) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let grants = Grants { profile: Profile::Safe, workdir: root.clone(), write: vec![root], ..Grants::default() };
        (dir, Call::new(Arc::new(Policy::new(grants))))
    }

    fn run(call: &Call, params: Value) -> Result<Value> {
        Registry::new().invoke("file_operations", params, call)
    }

    #[test]
    fn old_spellings_work_and_reading_is_the_default() {
        let (_dir, call) = folder();
        run(&call, json!({"action": "write", "path": "a", "content": "abc"})).unwrap();
        let read = Registry::new().invoke("file_reader", json!({"path": "a"}), &call).unwrap();
        assert_eq!(
            (&read["text"], &read["result"]["size"], &read["operation"]),
            (&json!("abc"), &json!(3), &json!("read"))
        );
        assert_eq!(read["message"], "Read 3 bytes from a");
        for operation in ["list", "ls", "dir", "list-dir"] {
            assert_eq!(run(&call, json!({"operation": operation, "path": "."})).unwrap()["result"]["count"], 1);
        }
        assert_eq!(run(&call, json!({"path": "a", "input": "x"})).unwrap_err().class(), Class::Usage);
    }

    #[test]
    fn writing_keeps_the_mode_leaves_nothing_behind_and_follows_links_inside() {
        let (dir, call) = folder();
        let root = dir.path().join("root");
        fs::write(root.join("a"), "old").unwrap();
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a", root.join("link")).unwrap();
        run(&call, json!({"operation": "write", "path": "link", "input": "new"})).unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "new");
        assert!(root.join("link").is_symlink());
        assert_eq!(root.join("a").metadata().unwrap().permissions().mode() & 0o777, 0o640);
        run(&call, json!({"operation": "append", "path": "a", "input": "er"})).unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "newer");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    }

    #[test]
    fn bytes_travel_as_base64_and_are_told_from_text() {
        let (_dir, call) = folder();
        run(&call, json!({"operation": "write", "path": "b", "input": "//79", "encoding": "base64"})).unwrap();
        let error = run(&call, json!({"path": "b"})).unwrap_err();
        assert_eq!(error.text(), "file_operations: b: not UTF-8 text: byte 0");
        assert!(error.next_step().unwrap().contains("base64"));
        assert_eq!(run(&call, json!({"path": "b", "encoding": "base64"})).unwrap()["text"], "//79");
    }

    #[test]
    fn large_files_are_refused_but_can_be_read_in_parts() {
        let (_dir, mut call) = folder();
        let mut settings = Tools::default();
        settings.file_operations.max_file_size = 10;
        call.settings = Arc::new(settings);
        run(&call, json!({"operation": "write", "path": "a", "input": "one\ntwo\nthree\nfour\n"})).unwrap();
        assert!(run(&call, json!({"path": "a"})).unwrap_err().text().contains("larger than 10 bytes"));
        let part = run(&call, json!({"path": "a", "start_line": 2, "max_lines": 2})).unwrap();
        assert_eq!((&part["text"], &part["result"]["more"]), (&json!("two\nthree\n"), &json!(true)));
        assert_eq!(run(&call, json!({"path": "a", "start_line": 9})).unwrap()["result"]["lines"], 0);
    }

    #[test]
    fn nothing_leaves_the_roots() {
        let (dir, call) = folder();
        fs::create_dir(dir.path().join("root-2")).unwrap();
        fs::write(dir.path().join("root-2/secret"), "s").unwrap();
        symlink(dir.path().join("root-2"), dir.path().join("root/out")).unwrap();
        run(&call, json!({"operation": "write", "path": "a", "input": "x"})).unwrap();
        for params in [
            json!({"path": "../root-2/secret"}),
            json!({"path": "out/secret"}),
            json!({"operation": "exists", "path": "../root-2/secret"}),
            json!({"operation": "exists", "path": "../root-2/absent"}),
            json!({"operation": "write", "path": "out/new", "input": "x"}),
            json!({"operation": "write", "path": "../root-3/new", "input": "x"}),
            json!({"operation": "list_dir", "path": "out"}),
            json!({"operation": "copy", "source_path": "a", "target_path": "out/a"}),
            json!({"operation": "move", "source_path": "a", "target_path": "../a"}),
            json!({"operation": "move", "source_path": "out/secret", "target_path": "s"}),
            json!({"operation": "delete", "path": "out/secret"}),
            json!({"operation": "delete", "path": ".", "recursive": true}),
            json!({"operation": "delete", "path": "..", "recursive": true}),
        ] {
            let error = run(&call, params.clone()).unwrap_err();
            assert_eq!(error.class(), Class::Denied, "{params} {error}");
        }
        assert!(dir.path().join("root-2/secret").exists() && !dir.path().join("root-3").exists());
    }

    #[test]
    fn folders_are_made_listed_and_deleted_with_links_left_alone() {
        let (dir, call) = folder();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "k").unwrap();
        assert_eq!(run(&call, json!({"operation": "mkdir", "path": "x/y"})).unwrap_err().class(), Class::NotFound);
        run(&call, json!({"operation": "mkdir", "path": "x/y", "recursive": true})).unwrap();
        run(&call, json!({"operation": "mkdir", "path": "x/y"})).unwrap();
        symlink(&outside, dir.path().join("root/x/y/link")).unwrap();
        run(&call, json!({"operation": "write", "path": "x/f", "input": "1"})).unwrap();
        let list = run(&call, json!({"operation": "list_dir", "path": "x", "recursive": true})).unwrap();
        let seen: Vec<_> =
            list["result"]["entries"].as_array().unwrap().iter().map(|e| (&e["path"], &e["type"])).collect();
        assert_eq!(json!(seen), json!([["x/f", "file"], ["x/y", "directory"], ["x/y/link", "symlink"]]));
        assert!(run(&call, json!({"operation": "delete", "path": "x"})).unwrap_err().text().contains("is a folder"));
        run(&call, json!({"operation": "delete", "path": "x/y/link"})).unwrap();
        symlink(&outside, dir.path().join("root/x/y/link")).unwrap();
        assert_eq!(
            run(&call, json!({"operation": "delete", "path": "x", "recursive": true})).unwrap()["result"]["deleted"],
            4
        );
        assert!(outside.join("keep").exists());
    }

    #[test]
    fn copies_and_moves() {
        let (_dir, call) = folder();
        run(&call, json!({"operation": "write", "path": "a", "input": "1"})).unwrap();
        run(&call, json!({"operation": "cp", "path": "a", "target_path": "n/b"})).unwrap();
        run(&call, json!({"operation": "rename", "source_path": "n", "target_path": "m"})).unwrap();
        assert_eq!(run(&call, json!({"path": "m/b"})).unwrap()["text"], "1");
        assert_eq!(
            run(&call, json!({"operation": "cp", "path": "m", "target_path": "k"})).unwrap_err().class(),
            Class::Tool
        );
        assert_eq!(
            run(&call, json!({"operation": "mv", "path": "absent", "target_path": "q/r"})).unwrap_err().class(),
            Class::NotFound
        );
        assert_eq!(run(&call, json!({"operation": "exists", "path": "q"})).unwrap()["result"]["exists"], false);
        assert_eq!(run(&call, json!({"operation": "stat", "path": "a"})).unwrap()["result"]["type"], "file");
    }

    #[test]
    fn a_cancelled_call_stops() {
        let (_dir, call) = folder();
        call.cancel.cancel();
        assert_eq!(run(&call, json!({"path": "a"})).unwrap_err().class(), Class::Interrupted);
    }
}
