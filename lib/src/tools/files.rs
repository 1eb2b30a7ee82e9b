//! Files for the tools: whole ones read and written, under the policy and the size limit. What is created, renamed or
//! removed is named relative to the opened folder that holds it, so nothing that happens to the path meanwhile leads elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::Call;
use crate::error::{Class, Error, Result};
use crate::security::Place;

/// Bytes copied between two looks at the clock.
const CHUNK: usize = 1 << 20;

/// The error of a failed read or write of `path`.
pub(super) fn fault(path: &str) -> impl Fn(io::Error) -> Error {
    move |error| Error::io(path, error)
}

/// The content of the file at `path`, if it is not larger than `tools.file_operations.max_file_size`.
pub(super) fn read(path: &str, call: &Call) -> Result<Vec<u8>> {
    let most = call.settings.file_operations.max_file_size;
    let file = call.open(path)?;
    if !file.metadata().map_err(|e| Error::io(path, e))?.is_file() {
        return Err(Error::new(Class::Tool, format!("{path}: not a file")));
    }
    let mut bytes = Vec::new();
    copy_bytes(&mut file.take(most.saturating_add(1)), &mut bytes, call).map_err(|e| e.within(path))?;
    if bytes.len() as u64 > most {
        return Err(Error::new(Class::Tool, format!("{path}: larger than {most} bytes"))
            .hint("Raise tools.file_operations.max_file_size."));
    }
    Ok(bytes)
}

/// The content of the UTF-8 text at `path`, without a byte order mark.
pub(super) fn read_text(path: &str, call: &Call) -> Result<String> {
    let text = String::from_utf8(read(path, call)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(Class::Tool, format!("{path}: not UTF-8 text: byte {at}"))
            .hint("file_converter turns other encodings into UTF-8.")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

pub(super) fn system(path: &str) -> impl Fn(Errno) -> Error {
    move |error| Error::io(path, error.into())
}

/// Copies until the end, looking at the clock in between.
pub(super) fn copy_bytes(from: &mut impl Read, to: &mut impl Write, call: &Call) -> Result<u64> {
    let fault = |e: io::Error| Error::new(Class::System, crate::error::reason(&e));
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        call.check()?;
        let count = from.read(&mut buffer).map_err(fault)?;
        if count == 0 {
            return Ok(size);
        }
        to.write_all(&buffer[..count]).map_err(fault)?;
        size += count as u64;
    }
}

/// Puts `bytes` at `path`, in one step if it is a file or nothing; missing folders are made.
pub(super) fn write(path: &str, bytes: &[u8], call: &Call) -> Result<()> {
    let place = place_for_new(path, call)?;
    let present = stat(&place.dir, &place.name).map_err(system(path))?;
    let regular = present.is_none_or(|stat| kind(&stat) == FileType::RegularFile);
    if call.settings.file_operations.atomic_writes && regular {
        let mode = present.map(|stat| Mode::from_raw_mode(stat.st_mode));
        replace(&place, mode, |file| file.write_all(bytes).map_err(fault(path))).map_err(|e| named(e, path))?;
    } else {
        let options = OpenOptions::new().write(true).create(true).truncate(true).clone();
        let mut file = call.policy.open_write(&call.path(path), &options)?;
        file.write_all(bytes).map_err(fault(path))?;
    }
    Ok(())
}

/// An error that may lack its path.
pub(super) fn named(error: Error, path: &str) -> Error {
    if error.text().contains(path) { error } else { error.within(path) }
}

/// Where `path` will be, after its missing folders were made.
pub(super) fn place_for_new(path: &str, call: &Call) -> Result<Place> {
    let full = call.path(path);
    match call.policy.place(&full) {
        Err(error) if error.class() == Class::NotFound => {
            make_dirs(full.parent().unwrap_or(&full), call)?;
            call.policy.place(&full)
        }
        place => place,
    }
}

/// Makes `dir` and every missing folder above it.
pub(super) fn make_dirs(dir: &Path, call: &Call) -> Result<()> {
    let mut missing = Vec::new();
    for dir in dir.ancestors() {
        match make_dir(dir, call) {
            Err(error) if error.class() == Class::NotFound => missing.push(dir),
            Err(error) if error.class() == Class::Conflict => break,
            result => {
                result?;
                break;
            }
        }
    }
    missing.into_iter().rev().try_for_each(|dir| make_dir(dir, call))
}

pub(super) fn make_dir(dir: &Path, call: &Call) -> Result<()> {
    let place = call.policy.place(dir)?;
    mkdirat(&place.dir, &place.name, Mode::from_raw_mode(0o755)).map_err(|e| Error::io(dir, e.into()))
}

/// Lets `fill` write a new file beside the one `place` names and puts it there in one step, with `mode` if there is one.
pub(super) fn replace(place: &Place, mode: Option<Mode>, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let fault = |e: Errno| Error::io(&place.path, e.into());
    let name =
        format!(".{}.{}.tmp", place.name.to_string_lossy().chars().take(50).collect::<String>(), uuid::Uuid::new_v4());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&place.dir, &name, flags, Mode::from_raw_mode(0o644)).map_err(fault)?);
    let result = fill(&mut file).and_then(|()| {
        if let Some(mode) = mode {
            rustix::fs::fchmod(&file, mode).map_err(fault)?;
        }
        file.sync_all().map_err(|e| Error::io(&place.path, e))?;
        renameat(&place.dir, &name, &place.dir, &place.name).map_err(fault)
    });
    if result.is_err() {
        // The first error is the one to tell.
        _ = unlinkat(&place.dir, &name, AtFlags::empty());
    }
    result
}

pub(super) fn stat(dir: impl AsFd, name: impl AsRef<Path>) -> Result<Option<Stat>, Errno> {
    match statat(dir, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
