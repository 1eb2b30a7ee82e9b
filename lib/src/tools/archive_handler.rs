//! `archive_handler`: zip, tar, tar.gz, tar.zst, gz and zst: list, extract, create.
//!
//! Extracting trusts nothing an archive says: names that lead out are refused, links and devices are left out, and sizes
//! are counted as bytes come, not as declared.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required, word};
use crate::error::{Class, Error, Result};

/// The archive handler.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "archive_handler",
    aliases: &["archive"],
    category: "filesystem",
    summary: "list, extract and create archives: zip, tar, tar.gz, tar.zst, gz, zst",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("archive_path", "path"),
        Spelling::Param("output_dir", "target_path"),
        Spelling::Param("destination", "target_path"),
        Spelling::Param("files", "input"),
        Spelling::Value("operation", "unpack", "extract"),
        Spelling::Value("operation", "pack", "create"),
        Spelling::Value("format", "tgz", "tar.gz"),
        Spelling::Value("format", "tzst", "tar.zst"),
    ],
    examples: &[
        example(
            "create from texts",
            r#"{"operation": "create", "path": "$TMP/a.tar.gz", "texts": {"docs/a.txt": "one", "b.txt": "two"}}"#,
            r#"{"format": "tar.gz", "archived_files": ["b.txt", "docs/a.txt"], "total_size": 6}"#,
        ),
        example(
            "list",
            r#"{"operation": "list", "path": "$TMP/a.tar.gz"}"#,
            r#"{"format": "tar.gz", "file_count": 2, "files": [{"name": "b.txt", "size": 3, "is_dir": false}, {"name": "docs/a.txt", "size": 3}]}"#,
        ),
        example(
            "extract",
            r#"{"operation": "extract", "path": "$TMP/a.tar.gz", "target_path": "$TMP/out"}"#,
            r#"{"extracted_files": ["b.txt", "docs/a.txt"], "total_size": 6, "skipped": []}"#,
        ),
        example(
            "pack a folder",
            r#"{"operation": "create", "path": "$TMP/out.zip", "input": ["$TMP/out"]}"#,
            r#"{"format": "zip", "archived_files": ["out/b.txt", "out/docs/a.txt"]}"#,
        ),
    ],
};

/// Most entries that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// Lists, extracts or creates an archive. Names that lead out of `target_path` are refused with the whole archive; links and devices
/// are left out and listed as skipped.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    operation: Operation,
    /// The archive.
    #[schemars(length(min = 1))]
    path: String,
    /// `extract`: the folder to extract to; made if it is not there.
    #[schemars(length(min = 1))]
    target_path: Option<String>,
    /// `create`: files and folders, each stored by its last name with all below it.
    #[serde(default)]
    input: Vec<String>,
    /// `create`: texts to store, by name.
    #[serde(default)]
    texts: std::collections::BTreeMap<String, String>,
    /// The format; recognised if not given: by content for reading, by name for creating.
    format: Option<Format>,
    /// `extract`: only these entries, and what is below them.
    only: Option<Vec<String>>,
    /// `extract`: replace files that are there.
    #[serde(default = "super::yes")]
    overwrite: bool,
    /// `create`: how hard to try, 0 to 9.
    #[serde(default = "six")]
    #[schemars(range(max = 9))]
    level: u32,
    /// `extract`: most bytes in all.
    #[serde(default = "gigabyte")]
    max_total_size: u64,
    /// `extract`: most files.
    #[serde(default = "ten_thousand")]
    max_files: usize,
}

fn six() -> u32 {
    6
}

fn gigabyte() -> u64 {
    1_000_000_000
}

fn ten_thousand() -> usize {
    10_000
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    List,
    Extract,
    Create,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
enum Format {
    #[serde(rename = "zip")]
    Zip,
    #[serde(rename = "tar")]
    Tar,
    #[serde(rename = "tar.gz")]
    TarGz,
    #[serde(rename = "tar.zst")]
    TarZst,
    #[serde(rename = "gz")]
    Gz,
    #[serde(rename = "zst")]
    Zst,
}

/// Lists, extracts or creates.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    if let Operation::Create = params.operation {
        return create(&params, call);
    }
    let path = params.path.as_str();
    let mut file = call.open(path)?;
    if !file.metadata().map_err(|e| Error::io(path, e))?.is_file() {
        return Err(Error::new(Class::Tool, format!("{path}: not a file")));
    }
    let format = match params.format {
        Some(format) => format,
        None => sniff(&mut file, path)?,
    };
    match params.operation {
        Operation::List => {
            let mut entries = Vec::new();
            // Reading through a stream costs as much as extracting it.
            let meter = Meter::new(call, u64::MAX, 0);
            each(file, format, path, &meter, &mut |entry, _| {
                entries.push(entry.json());
                Ok(())
            })?;
            let result = json!({"format": format, "files": entries, "file_count": entries.len()});
            Ok(Answer::new("list", result).message(format!("{} entries", entries.len())))
        }
        _ => extract(file, format, &params, call),
    }
}

/// One entry, as the archive tells of it.
struct Entry {
    name: String,
    size: u64,
    compressed: Option<u64>,
    mode: Option<u32>,
    modified: Option<u64>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    File,
    Dir,
    Link,
    Other,
    Encrypted,
}

impl Entry {
    fn json(&self) -> Value {
        let mut row =
            json!({"name": self.name, "size": self.size, "is_dir": self.kind == Kind::Dir, "type": self.kind});
        if let Some(size) = self.compressed {
            row["compressed_size"] = size.into();
        }
        if let Some(mode) = self.mode {
            row["mode"] = format!("{:04o}", mode & 0o7777).into();
        }
        row
    }
}

/// Counts what is read, and looks at the clock.
struct Meter<'a> {
    call: &'a Call,
    left: Cell<u64>,
    most: u64,
    fault: Cell<Option<Error>>,
}

impl<'a> Meter<'a> {
    /// Up to `most` bytes of content, and `slack` around it.
    fn new(call: &'a Call, most: u64, slack: u64) -> Self {
        Meter { call, left: Cell::new(most.saturating_add(slack)), most, fault: Cell::default() }
    }
}

struct Metered<'a, R> {
    inner: R,
    meter: &'a Meter<'a>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.meter.left.get();
        let fault = match self.meter.call.check() {
            Err(error) => error,
            Ok(()) if count as u64 > left => {
                Error::new(Class::Tool, format!("the content is larger than {} bytes", self.meter.most))
                    .hint("Allow more with max_total_size.")
            }
            Ok(()) => {
                self.meter.left.set(left - count as u64);
                return Ok(count);
            }
        };
        self.meter.fault.set(Some(fault));
        Err(io::Error::other("stopped"))
    }
}

/// Recognises a format by its first bytes.
fn sniff(file: &mut File, path: &str) -> Result<Format> {
    let fault = |e: io::Error| Error::io(path, e);
    let mut start = |decoder: fn(File) -> io::Result<Box<dyn Read>>| -> io::Result<Vec<u8>> {
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        // What cannot be decoded is no tar.
        _ = decoder(file.try_clone()?)?.take(512).read_to_end(&mut bytes);
        file.seek(SeekFrom::Start(0))?;
        Ok(bytes)
    };
    let is_tar = |bytes: &[u8]| {
        bytes.get(257..262) == Some(b"ustar")
            || bytes.len() == 512 && tar::Header::from_byte_slice(bytes).cksum().ok() == sum(bytes)
    };
    let bytes = start(|file| Ok(Box::new(file))).map_err(fault)?;
    Ok(match bytes.as_slice() {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Format::Zip,
        [0x1f, 0x8b, ..] => match is_tar(&start(|file| Ok(Box::new(MultiGzDecoder::new(file)))).map_err(fault)?) {
            true => Format::TarGz,
            false => Format::Gz,
        },
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            match is_tar(&start(|file| Ok(Box::new(zstd::Decoder::new(file)?))).map_err(fault)?) {
                true => Format::TarZst,
                false => Format::Zst,
            }
        }
        bytes if is_tar(bytes) || bytes.len() == 512 && bytes.iter().all(|byte| *byte == 0) => Format::Tar,
        _ => {
            return Err(Error::new(Class::Tool, format!("{path}: not an archive of a known format"))
                .hint("Known are zip, tar, tar.gz, tar.zst, gz and zst."));
        }
    })
}

/// The checksum a tar header should have.
fn sum(header: &[u8]) -> Option<u32> {
    let byte = |(at, byte): (usize, &u8)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte });
    Some(header.iter().enumerate().map(byte).sum())
}

/// Shows every entry with its content to `visit`.
fn each(
    file: File,
    format: Format,
    path: &str,
    meter: &Meter<'_>,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let call = meter.call;
    let metered = |inner: Box<dyn Read>| Metered { inner, meter };
    let zst = |file| zstd::Decoder::new(file).map_err(|e| Error::io(path, e));
    let done = match format {
        Format::Zip => zipped(file, path, meter, visit),
        Format::Tar => tarred(metered(Box::new(BufReader::new(file))), path, call, visit),
        Format::TarGz => tarred(metered(Box::new(MultiGzDecoder::new(BufReader::new(file)))), path, call, visit),
        Format::TarZst => tarred(metered(Box::new(zst(file)?)), path, call, visit),
        Format::Gz | Format::Zst => {
            let name = Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let compressed = file.metadata().ok().map(|metadata| metadata.len());
            let reader: Box<dyn Read> = match format {
                Format::Gz => Box::new(MultiGzDecoder::new(BufReader::new(file))),
                _ => Box::new(zst(file)?),
            };
            let entry = Entry { name, size: 0, compressed, mode: None, modified: None, kind: Kind::File };
            visit(&entry, &mut metered(reader))
        }
    };
    // A limit explains more than what it made of the archive.
    match meter.fault.take() {
        Some(fault) => Err(fault),
        None => done,
    }
}

fn too_many() -> Error {
    Error::new(Class::Tool, format!("more than {MAX_ENTRIES} entries"))
}

fn damaged(path: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Class::Tool, format!("{path}: damaged: {}", super::lower(&error.to_string().replace('\n', " "))))
}

fn zipped(
    file: File,
    path: &str,
    meter: &Meter<'_>,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(path, &e))?;
    if archive.len() > MAX_ENTRIES {
        return Err(too_many());
    }
    for at in 0..archive.len() {
        meter.call.check()?;
        let entry = {
            let raw = archive.by_index_raw(at).map_err(|e| damaged(path, &e))?;
            let mode = raw.unix_mode();
            let kind = match mode.map(|mode| mode & 0o170_000) {
                _ if raw.encrypted() => Kind::Encrypted,
                Some(0o120_000) => Kind::Link,
                Some(0o040_000) => Kind::Dir,
                Some(0 | 0o100_000) | None if raw.is_dir() => Kind::Dir,
                Some(0 | 0o100_000) | None => Kind::File,
                Some(_) => Kind::Other,
            };
            let name = raw.name().map_err(|e| damaged(path, &e))?.into_owned();
            Entry { name, size: raw.size(), compressed: Some(raw.compressed_size()), mode, modified: None, kind }
        };
        if entry.kind == Kind::File {
            let content = archive.by_index(at).map_err(|e| damaged(&format!("{path}: {}", entry.name), &e))?;
            visit(&entry, &mut Metered { inner: content, meter })?;
        } else {
            visit(&entry, &mut io::empty())?;
        }
    }
    Ok(())
}

fn tarred(
    reader: impl Read,
    path: &str,
    call: &Call,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries().map_err(|e| damaged(path, &e))?;
    for (count, entry) in entries.enumerate() {
        call.check()?;
        if count >= MAX_ENTRIES {
            return Err(too_many());
        }
        let mut entry = entry.map_err(|e| damaged(path, &e))?;
        let header = entry.header();
        let kind = match header.entry_type() {
            kind if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => Kind::File,
            kind if kind.is_dir() => Kind::Dir,
            kind if kind.is_symlink() || kind.is_hard_link() => Kind::Link,
            _ => Kind::Other,
        };
        let (mode, modified) = (header.mode().ok(), header.mtime().ok());
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let told = Entry { name, size: entry.size(), compressed: None, mode, modified, kind };
        visit(&told, &mut entry)?;
    }
    Ok(())
}

/// The path below a folder that `name` means; `None` when it leads elsewhere.
fn inside(name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    if name.contains(['\\', '\0']) {
        return None;
    }
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

fn extract(file: File, format: Format, params: &Params, call: &Call) -> Result<Answer> {
    let path = params.path.as_str();
    let target = required(params.target_path.as_deref(), "target_path")?;
    let full = call.path(target);
    if !full.is_dir() {
        files::make_dirs(&full, call)?;
    }
    let root = call.writable(target)?;
    let wanted = |name: &Path| {
        params.only.as_ref().is_none_or(|only| only.iter().any(|one| name.starts_with(one.trim_end_matches('/'))))
    };
    let (mut extracted, mut skipped, mut total) = (Vec::new(), Vec::new(), 0_u64);
    // Headers and padding of as many entries as there may be.
    let meter =
        Meter::new(call, params.max_total_size, if format == Format::Zip { 0 } else { 4096 * MAX_ENTRIES as u64 });
    each(file, format, path, &meter, &mut |entry, content| {
        let Some(below) = inside(&entry.name) else {
            return Err(Error::new(Class::Denied, format!("{path}: entry {:?}: leads out of the folder", entry.name))
                .hint("Nothing more was extracted; whoever made this archive means harm or erred."));
        };
        if !wanted(&below) {
            return Ok(());
        }
        let place = full.join(&below);
        match entry.kind {
            Kind::Dir => {
                if !below.as_os_str().is_empty() && !place.is_dir() {
                    files::make_dirs(&place, call)?;
                }
                return Ok(());
            }
            Kind::File if !below.as_os_str().is_empty() => {}
            kind => {
                skipped.push(json!({"name": entry.name, "reason": word(&kind)}));
                return Ok(());
            }
        }
        if extracted.len() >= params.max_files {
            return Err(Error::new(Class::Tool, format!("{path}: more than {} files", params.max_files))
                .hint("Allow more with max_files."));
        }
        let real = files::place_for_new(&place.to_string_lossy(), call)?;
        // A link that was there before may lead elsewhere.
        if !real.path.starts_with(&root) {
            return Err(Error::new(Class::Denied, format!("{}: a link leads out of the folder", place.display())));
        }
        if !params.overwrite && files::stat(&real.dir, &real.name).is_ok_and(|stat| stat.is_some()) {
            skipped.push(json!({"name": entry.name, "reason": "exists"}));
            return Ok(());
        }
        let options = OpenOptions::new().write(true).create(true).truncate(true).clone();
        let mut out = call.policy.open_write(&place, &options)?;
        let size = match io::copy(content, &mut out) {
            Ok(size) => size,
            Err(error) => {
                // Half a file is worse than none.
                _ = rustix::fs::unlinkat(&real.dir, &real.name, rustix::fs::AtFlags::empty());
                return Err(damaged(&format!("{path}: {}", entry.name), &error));
            }
        };
        total += size;
        if total > params.max_total_size {
            _ = rustix::fs::unlinkat(&real.dir, &real.name, rustix::fs::AtFlags::empty());
            return Err(Error::new(
                Class::Tool,
                format!("{path}: the content is larger than {} bytes", params.max_total_size),
            )
            .hint("Allow more with max_total_size."));
        }
        if let Some(mode) = entry.mode.filter(|mode| mode & 0o777 != 0) {
            // Who may run it is kept; set-id bits are not.
            _ = out.set_permissions(std::fs::Permissions::from_mode(mode & 0o777 | 0o600));
        }
        if let Some(seconds) = entry.modified {
            let time = std::time::SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds));
            _ = time.map(|time| out.set_modified(time));
        }
        extracted.push(below.to_string_lossy().into_owned());
        if extracted.len() % 1000 == 0 {
            call.progress(format!("{} files", extracted.len()));
        }
        Ok(())
    })?;
    let count = extracted.len();
    let result = json!({
        "format": format, "extracted_files": extracted, "file_count": count, "total_size": total, "output_dir": target, "skipped": skipped,
    });
    Ok(Answer::new("extract", result).message(format!("Extracted {count} files to {target}")))
}

/// What is stored: a name, and a file or a text.
enum Source<'a> {
    File(PathBuf),
    Text(&'a str),
    Dir,
}

fn create(params: &Params, call: &Call) -> Result<Answer> {
    let path = params.path.as_str();
    let format = params.format.or_else(|| by_name(path)).ok_or_else(|| {
        Error::new(Class::Usage, format!("path: {path:?} does not say which format"))
            .hint("End it in .zip, .tar, .tar.gz, .tar.zst, .gz or .zst, or say format.")
    })?;
    let mut sources: std::collections::BTreeMap<String, Source<'_>> = std::collections::BTreeMap::new();
    let mut skipped = Vec::new();
    let own = call.writable(path).ok();
    for given in &params.input {
        let root = call.readable(given)?;
        let base = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for entry in ignore::WalkBuilder::new(&root).standard_filters(false).follow_links(false).build() {
            call.check()?;
            let entry = entry.map_err(|e| Error::new(Class::Tool, format!("{given}: {e}")))?;
            let below = entry.path().strip_prefix(&root).unwrap_or(Path::new(""));
            let name = Path::new(&base).join(below).to_string_lossy().trim_end_matches('/').to_owned();
            if Some(entry.path()) == own.as_deref() {
                continue;
            }
            let source = match entry.file_type() {
                Some(kind) if kind.is_file() => Source::File(entry.path().to_path_buf()),
                Some(kind) if kind.is_dir() => Source::Dir,
                _ => {
                    skipped.push(json!({"name": name, "reason": "neither file nor folder"}));
                    continue;
                }
            };
            if sources.len() >= MAX_ENTRIES {
                return Err(too_many());
            }
            if let (Some(_), Source::File(_)) = (sources.insert(name.clone(), source), &sources[&name]) {
                return Err(Error::new(Class::Usage, format!("input: {name:?} is there twice")));
            }
        }
    }
    for (name, text) in &params.texts {
        let name = inside(name)
            .filter(|name| !name.as_os_str().is_empty())
            .ok_or_else(|| Error::new(Class::Usage, format!("texts: {name:?} leads out of the archive")))?;
        let name = name.to_string_lossy().into_owned();
        if sources.insert(name.clone(), Source::Text(text)).is_some() {
            return Err(Error::new(Class::Usage, format!("texts: {name:?} is there twice")));
        }
    }
    let names: Vec<String> =
        sources.iter().filter(|(_, source)| !matches!(source, Source::Dir)).map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        return Err(Error::new(Class::Usage, "input: nothing to store"));
    }
    if matches!(format, Format::Gz | Format::Zst) && names.len() != 1 {
        return Err(
            Error::new(Class::Usage, format!("format: {} holds one file", word(&format))).hint("Use tar.gz or zip.")
        );
    }
    let place = files::place_for_new(path, call)?;
    let mut total = 0;
    files::replace(&place, None, |out| {
        total = match format {
            Format::Zip => write_zip(out, &sources, params.level, call)?,
            Format::Tar => write_tar(out, &sources, call)?.1,
            Format::TarGz => {
                let (gz, total) = write_tar(GzEncoder::new(out, Compression::new(params.level)), &sources, call)?;
                gz.finish().map_err(|e| Error::io(path, e))?;
                total
            }
            Format::TarZst => {
                let encoder = zstd::Encoder::new(out, zstd_level(params.level)).map_err(|e| Error::io(path, e))?;
                let (zst, total) = write_tar(encoder, &sources, call)?;
                zst.finish().map_err(|e| Error::io(path, e))?;
                total
            }
            Format::Gz => {
                let mut gz = GzEncoder::new(out, Compression::new(params.level));
                let total = copy_all(&sources, &mut gz, call)?;
                gz.finish().map_err(|e| Error::io(path, e))?;
                total
            }
            Format::Zst => {
                let mut zst = zstd::Encoder::new(out, zstd_level(params.level)).map_err(|e| Error::io(path, e))?;
                let total = copy_all(&sources, &mut zst, call)?;
                zst.finish().map_err(|e| Error::io(path, e))?;
                total
            }
        };
        Ok(())
    })
    .map_err(|e| files::named(e, path))?;
    let size = call.readable(path)?.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let count = names.len();
    let result = json!({
        "archive_path": path, "format": format, "archived_files": names, "file_count": count, "total_size": total, "archive_size": size,
        "compression_level": params.level, "skipped": skipped,
    });
    Ok(Answer::new("create", result).message(format!("Created {path} of {count} files")))
}

fn zstd_level(level: u32) -> i32 {
    // Its 3 is what 6 is to gzip.
    i32::try_from(level).map_or(3, |level| (level / 2).max(1))
}

fn by_name(path: &str) -> Option<Format> {
    let lower = path.to_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| lower.ends_with(end));
    Some(match () {
        () if ends(&[".tar.gz", ".tgz"]) => Format::TarGz,
        () if ends(&[".tar.zst", ".tzst"]) => Format::TarZst,
        () if ends(&[".zip", ".jar", ".whl"]) => Format::Zip,
        () if ends(&[".tar"]) => Format::Tar,
        () if ends(&[".gz"]) => Format::Gz,
        () if ends(&[".zst"]) => Format::Zst,
        () => return None,
    })
}

type Sources<'a> = std::collections::BTreeMap<String, Source<'a>>;

fn copy_all(sources: &Sources<'_>, out: &mut dyn Write, call: &Call) -> Result<u64> {
    let mut total = 0;
    for source in sources.values() {
        total += copy(source, out, call)?;
    }
    Ok(total)
}

fn copy(source: &Source<'_>, mut out: &mut dyn Write, call: &Call) -> Result<u64> {
    match source {
        Source::Dir => Ok(0),
        Source::Text(text) => {
            out.write_all(text.as_bytes()).map_err(|e| Error::system("archive", e))?;
            Ok(text.len() as u64)
        }
        Source::File(path) => {
            let mut file = call.policy.open_read(path)?;
            files::copy_bytes(&mut file, &mut out, call).map_err(|e| e.within(path.display()))
        }
    }
}

fn write_zip(out: &mut File, sources: &Sources<'_>, level: u32, call: &Call) -> Result<u64> {
    let fault = |e: zip::result::ZipError| Error::new(Class::System, super::lower(&e.to_string()));
    let method = if level == 0 { CompressionMethod::Stored } else { CompressionMethod::Deflated };
    let options = SimpleFileOptions::default().compression_method(method);
    let options = if level == 0 { options } else { options.compression_level(Some(i64::from(level))) };
    let mut zip = ZipWriter::new(out);
    let mut total = 0;
    for (name, source) in sources {
        call.check()?;
        let (mode, size) = match source {
            Source::File(path) => call
                .policy
                .open_read(path)?
                .metadata()
                .map_or((0o644, 0), |metadata| (metadata.permissions().mode() & 0o777, metadata.len())),
            _ => (0o644, 0),
        };
        let options = options.unix_permissions(mode).large_file(size >= u64::from(u32::MAX));
        if let Source::Dir = source {
            zip.add_directory(format!("{name}/"), options.unix_permissions(0o755)).map_err(fault)?;
            continue;
        }
        zip.start_file(name.as_str(), options).map_err(fault)?;
        total += copy(source, &mut zip, call)?;
    }
    zip.finish().map_err(fault)?;
    Ok(total)
}

fn write_tar<W: Write>(out: W, sources: &Sources<'_>, call: &Call) -> Result<(W, u64)> {
    let fault = |e: io::Error| Error::system("archive", e);
    let mut tar = tar::Builder::new(out);
    let mut total = 0;
    for (name, source) in sources {
        call.check()?;
        let mut header = tar::Header::new_gnu();
        match source {
            Source::Dir => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                tar.append_data(&mut header, format!("{name}/"), io::empty()).map_err(fault)?;
            }
            Source::Text(text) => {
                header.set_mode(0o644);
                header.set_size(text.len() as u64);
                total += text.len() as u64;
                tar.append_data(&mut header, name, text.as_bytes()).map_err(fault)?;
            }
            Source::File(path) => {
                let file = call.policy.open_read(path)?;
                let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
                header.set_metadata(&metadata);
                // Nobody else's business.
                header.set_uid(0);
                header.set_gid(0);
                total += metadata.len();
                // A file that grows meanwhile must not disturb what follows, one that shrinks is an error.
                let meter = Meter::new(call, metadata.len(), 0);
                let reader = Metered { inner: file.take(metadata.len()), meter: &meter };
                let done = tar.append_data(&mut header, name, reader);
                done.map_err(|e| meter.fault.take().unwrap_or_else(|| Error::io(path, e)))?;
            }
        }
    }
    tar.into_inner().map(|out| (out, total)).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    fn tar_of(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, link, content) in entries {
            let mut header = tar::Header::new_gnu();
            // The builder refuses what we want to try.
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(name.as_bytes());
            old.linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn every_format_keeps_what_it_was_given() {
        let (dir, call) = folder();
        std::fs::create_dir_all(dir.path().join("in/sub/empty")).unwrap();
        std::fs::write(dir.path().join("in/a"), vec![7; 300_000]).unwrap();
        std::fs::write(dir.path().join("in/sub/run"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(dir.path().join("in/sub/run"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("in/link")).unwrap();
        for name in ["x.zip", "x.tar", "x.tgz", "x.tar.gz", "x.tar.zst"] {
            let made = run("archive", json!({"operation": "create", "path": name, "input": ["in"]}), &call).unwrap();
            assert_eq!(made["result"]["archived_files"], json!(["in/a", "in/sub/run"]), "{name}");
            assert_eq!(made["result"]["skipped"][0]["name"], "in/link");
            let out = format!("out-{name}");
            let got = run("archive", json!({"operation": "extract", "path": name, "target_path": out}), &call).unwrap();
            assert_eq!(
                (&got["result"]["total_size"], &got["result"]["file_count"]),
                (&json!(300_010), &json!(2)),
                "{name}"
            );
            let out = dir.path().join(out).join("in");
            assert_eq!(std::fs::read(out.join("a")).unwrap(), vec![7; 300_000]);
            assert_eq!(out.join("sub/run").metadata().unwrap().permissions().mode() & 0o777, 0o755);
            assert!(out.join("sub/empty").is_dir());
        }
        for name in ["y.gz", "y.zst"] {
            run("archive", json!({"operation": "create", "path": name, "input": ["in/a"]}), &call).unwrap();
            run("archive", json!({"operation": "unpack", "path": name, "target_path": "o"}), &call).unwrap();
            assert_eq!(std::fs::read(dir.path().join("o/y")).unwrap().len(), 300_000);
        }
        let only = json!({"operation": "extract", "path": "x.zip", "target_path": "p", "only": ["in/sub"]});
        assert_eq!(run("archive", only.clone(), &call).unwrap()["result"]["extracted_files"], json!(["in/sub/run"]));
        let mut keep = only;
        keep["overwrite"] = false.into();
        assert_eq!(run("archive", keep, &call).unwrap()["result"]["skipped"][0]["reason"], "exists");
    }

    #[test]
    fn nothing_leaves_the_folder() {
        use tar::EntryType as T;
        let (dir, call) = folder();
        let write = |bytes: &[u8]| std::fs::write(dir.path().join("x.tar"), bytes).unwrap();
        let extract = || run("archive", json!({"operation": "extract", "path": "x.tar", "target_path": "out"}), &call);
        for name in ["../evil", "/tmp/evil", "a/../../evil", "a\\..\\evil"] {
            write(&tar_of(&[(name, T::Regular, "", b"x")]));
            assert_eq!(extract().unwrap_err().class(), Class::Denied, "{name}");
        }
        write(&tar_of(&[
            ("l", T::Symlink, "..", b""),
            ("l/evil", T::Regular, "", b"x"),
            ("h", T::Link, "/etc/passwd", b""),
            ("f", T::Fifo, "", b""),
            ("d", T::Block, "", b""),
            ("s", T::Regular, "", b"x"),
        ]));
        let got = extract().unwrap();
        assert_eq!(got["result"]["extracted_files"], json!(["l/evil", "s"]));
        assert_eq!(got["result"]["skipped"].as_array().unwrap().len(), 4);
        assert_eq!(dir.path().join("out/s").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        // A link that was there before.
        std::fs::create_dir(dir.path().join("other")).unwrap();
        std::os::unix::fs::symlink("../other", dir.path().join("out/m")).unwrap();
        write(&tar_of(&[("m/evil", T::Regular, "", b"x")]));
        assert_eq!(extract().unwrap_err().class(), Class::Denied);
        assert!(!dir.path().join("other/evil").exists() && !dir.path().join("evil").exists());
    }

    #[test]
    fn bombs_go_off_elsewhere() {
        let (dir, call) = folder();
        std::fs::write(dir.path().join("zeros"), vec![0; 20_000_000]).unwrap();
        for name in ["b.zip", "b.tar.gz", "b.tar.zst", "b.gz"] {
            run("archive", json!({"operation": "create", "path": name, "input": ["zeros"]}), &call).unwrap();
            let extract =
                json!({"operation": "extract", "path": name, "target_path": "out", "max_total_size": 1_000_000});
            let error = run("archive", extract, &call).unwrap_err();
            assert!(error.text().contains("larger than 1000000 bytes"), "{name}: {error}");
        }
        let kept: Vec<_> = std::fs::read_dir(dir.path().join("out")).unwrap().collect();
        assert!(kept.is_empty(), "{kept:?}");
        let few = json!({"operation": "create", "path": "c.tar", "texts": {"a": "1", "b": "2"}});
        run("archive", few, &call).unwrap();
        let error =
            run("archive", json!({"operation": "extract", "path": "c.tar", "target_path": "o", "max_files": 1}), &call);
        assert!(error.unwrap_err().text().contains("more than 1 files"));
        call.cancel.cancel();
        let error =
            run("archive", json!({"operation": "extract", "path": "c.tar", "target_path": "o"}), &call).unwrap_err();
        assert_eq!(error.class(), Class::Interrupted);
    }

    #[test]
    fn damaged_archives_are_errors() {
        let (dir, call) = folder();
        for name in ["a.zip", "a.tar", "a.tar.gz", "a.tar.zst"] {
            run(
                "archive",
                json!({"operation": "create", "path": name, "texts": {"a": "text ".repeat(500), "b": "more"}}),
                &call,
            )
            .unwrap();
            let whole = std::fs::read(dir.path().join(name)).unwrap();
            for at in (0..whole.len()).step_by(7) {
                let mut broken = whole.clone();
                broken[at] ^= 0xff;
                std::fs::write(dir.path().join("b"), &broken).unwrap();
                for operation in ["list", "extract"] {
                    _ = run("archive", json!({"operation": operation, "path": "b", "target_path": "o"}), &call);
                }
                std::fs::write(dir.path().join("b"), &whole[..at]).unwrap();
                _ = run("archive", json!({"operation": "extract", "path": "b", "target_path": "o"}), &call);
            }
        }
    }

    #[test]
    fn bad_input() {
        bad(
            "archive_handler",
            &[
                (json!({}), Class::Usage),
                (json!({"operation": "list"}), Class::Usage),
                (json!({"operation": "list", "path": "absent"}), Class::NotFound),
                (json!({"operation": "list", "path": "/etc/passwd"}), Class::Denied),
                (json!({"operation": "list", "path": "."}), Class::Tool),
                (json!({"operation": "create", "path": "a.zip"}), Class::Usage),
                (json!({"operation": "create", "path": "a.rar", "texts": {"a": "b"}}), Class::Usage),
                (json!({"operation": "create", "path": "a.gz", "texts": {"a": "b", "c": "d"}}), Class::Usage),
                (json!({"operation": "create", "path": "a.zip", "texts": {"../a": "b"}}), Class::Usage),
                (json!({"operation": "create", "path": "../a.zip", "texts": {"a": "b"}}), Class::Denied),
                (json!({"operation": "create", "path": "a.zip", "input": ["/etc/passwd"]}), Class::Denied),
                (json!({"operation": "create", "path": "a.zip", "level": 10, "texts": {"a": "b"}}), Class::Usage),
            ],
        );
    }
}
