//! A log file that never stops whoever writes it: rotated by size and by day, reopened when somebody took it away, and
//! what cannot be written, on a full disk or without the folder, is counted and told of as soon as writing works again.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;
use rustix::stdio::{dup2_stderr, dup2_stdout};

use super::FileSettings;
use crate::error::{Error, Result};
use crate::home;

/// How often it is looked whether the file still is where it was, and opening it is tried again.
const LOOK: Duration = Duration::from_secs(1);
const DAY: u64 = 24 * 3600;
/// The time in the name of an old file: `ID.2026-01-02T03-04-05Z.log`.
const STAMP: &str = "0000-00-00T00-00-00Z";

/// The live file.
pub(super) struct LogFile {
    settings: FileSettings,
    file: Option<File>,
    size: u64,
    /// Days since 1970 of what is in it.
    day: u64,
    looked: Instant,
    /// The last line is not whole.
    torn: bool,
    /// Messages that could not be written since the last one that could.
    lost: u64,
}

impl LogFile {
    /// Opens the file, in a folder that is made if it is missing.
    pub(super) fn open(settings: FileSettings) -> Result<Self> {
        if let Some(dir) = settings.path.parent().filter(|dir| !dir.is_dir()) {
            home::private_dir(dir).map_err(|error| error.within("log"))?;
        }
        let (file, size, day) = open(&settings.path).map_err(|e| Error::io(&settings.path, e).within("log"))?;
        let mut log =
            LogFile { settings, file: None, size: 0, day: today(), looked: Instant::now(), torn: false, lost: 0 };
        log.take(file, size, day);
        log.tidy();
        Ok(log)
    }

    fn take(&mut self, file: File, size: u64, day: u64) {
        if self.settings.standard_streams {
            let _ = dup2_stdout(&file);
            let _ = dup2_stderr(&file);
        }
        (self.file, self.size, self.day) = (Some(file), size, day);
        self.looked = Instant::now();
    }

    /// New limits; the path stays.
    pub(super) fn set(&mut self, settings: FileSettings) {
        let (path, standard_streams) = (std::mem::take(&mut self.settings.path), self.settings.standard_streams);
        self.settings = FileSettings { path, standard_streams, ..settings };
        self.tidy();
    }

    /// Opens whatever has the name now, or makes it.
    pub(super) fn reopen(&mut self) {
        self.looked = Instant::now();
        // With the old one it goes on as long as there is no new one.
        if let Ok((file, size, day)) = open(&self.settings.path) {
            self.take(file, size, day);
            self.torn = false;
        }
    }

    /// Writes one line; false when it is lost.
    pub(super) fn write(&mut self, line: &[u8]) -> bool {
        if self.looked.elapsed() >= LOOK {
            self.look();
        }
        let size = self.settings.max_size;
        if self.size > 0 && (size > 0 && self.size + line.len() as u64 > size || self.day != today()) {
            self.rotate();
        }
        let Some(file) = &mut self.file else {
            self.lost += 1;
            return false;
        };
        let before = if self.lost == 0 && !self.torn {
            Vec::new()
        } else {
            let end = if self.torn { "\n" } else { "" };
            format!("{end}{} messages before this one were lost\n", self.lost).into_bytes()
        };
        match write(file, &before).and_then(|()| write(file, line)) {
            Ok(()) => {
                self.size += (before.len() + line.len()) as u64;
                (self.torn, self.lost) = (false, 0);
                true
            }
            Err(partly) => {
                self.torn |= partly;
                self.lost += 1;
                false
            }
        }
    }

    /// Whether somebody moved or removed the file, and whether it is there again.
    fn look(&mut self) {
        self.looked = Instant::now();
        let here = self.file.as_ref().and_then(|file| file.metadata().ok());
        let same = match (here, fs::metadata(&self.settings.path)) {
            (Some(here), Ok(there)) => here.ino() == there.ino() && here.dev() == there.dev(),
            _ => false,
        };
        if !same {
            if let Some(dir) = self.settings.path.parent().filter(|dir| !dir.is_dir()) {
                let _ = home::private_dir(dir);
            }
            self.reopen();
        }
    }

    /// Gives the live file the name of an old one and begins a new one.
    fn rotate(&mut self) {
        if !self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|meta| meta.is_file())) {
            // A pipe or a device has no end.
            (self.size, self.day) = (0, today());
            return;
        }
        let moved = old_name(&self.settings.path).and_then(|old| fs::rename(&self.settings.path, old));
        match moved.and_then(|()| open(&self.settings.path)) {
            Ok((file, size, day)) => {
                self.take(file, size, day);
                self.tidy();
            }
            // It grows on; tried again when as much came as fits, or tomorrow.
            Err(_) => (self.size, self.day) = (1, today()),
        }
    }

    /// Removes what is too old or too much, and compresses, beside whoever logs.
    pub(super) fn tidy(&self) {
        let settings = self.settings.clone();
        if settings.compress {
            // Without a thread it stays as it is until the next time.
            let _ = std::thread::Builder::new().name("llmspell-log".into()).spawn(move || tidy(&settings));
        } else {
            tidy(&settings);
        }
    }
}

/// All of `bytes`; otherwise whether some of them were written.
fn write(file: &mut File, mut bytes: &[u8]) -> Result<(), bool> {
    let mut partly = false;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(partly),
            Ok(count) => (partly, bytes) = (true, &bytes[count..]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(partly),
        }
    }
    Ok(())
}

/// The file, its size, and the day of what is in it.
fn open(path: &Path) -> io::Result<(File, u64, u64)> {
    // A pipe that nobody reads must not stop us.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    let size = if meta.is_file() { meta.len() } else { 0 };
    let day = if size == 0 { today() } else { meta.mtime().max(0) as u64 / DAY };
    Ok((file, size, day))
}

fn today() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()) / DAY
}

/// What comes before and behind the time in the names of old files.
fn parts(path: &Path) -> (OsString, OsString) {
    let mut stem = path.file_stem().unwrap_or_default().to_os_string();
    stem.push(".");
    let ending = path.extension().map_or_else(OsString::new, |ending| {
        let mut dotted = OsString::from(".");
        dotted.push(ending);
        dotted
    });
    (stem, ending)
}

/// A free name for the live file, which is full.
fn old_name(path: &Path) -> io::Result<PathBuf> {
    let (stem, ending) = parts(path);
    let stamp = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(':', "-");
    for number in 0..1000 {
        let mut name = stem.clone();
        name.push(&stamp);
        if number > 0 {
            name.push(format!(".{number:03}"));
        }
        name.push(&ending);
        let old = path.with_file_name(&name);
        name.push(".gz");
        if !old.exists() && !path.with_file_name(name).exists() {
            return Ok(old);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whether `name` is that of an old file of `path`: our own stamp, nothing that only looks alike.
fn is_old(name: &str, stem: &str, ending: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let Some(middle) = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(ending)) else { return false };
    let fits = |c: char, like: char| if like == '0' { c.is_ascii_digit() } else { c == like };
    let stamp = middle.get(..STAMP.len()).unwrap_or_default();
    let number = &middle[stamp.len()..];
    stamp.len() == STAMP.len()
        && stamp.chars().zip(STAMP.chars()).all(|(c, like)| fits(c, like))
        && (number.is_empty() || number.len() == 4 && number.chars().zip(".000".chars()).all(|(c, like)| fits(c, like)))
}

/// The old files of `path`, the newest first.
fn old_files(path: &Path) -> Vec<PathBuf> {
    let (stem, ending) = parts(path);
    let (stem, ending) = (stem.to_string_lossy(), ending.to_string_lossy());
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            is_old(entry.file_name().to_str()?, &stem, &ending).then(|| entry.path())
        })
        .collect();
    // The time is in the name, and `.001` comes behind nothing.
    files.sort_by_cached_key(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let middle = name.strip_suffix(".gz").unwrap_or(&name).strip_suffix(&*ending).unwrap_or_default().to_owned();
        std::cmp::Reverse(middle)
    });
    files
}

fn tidy(settings: &FileSettings) {
    for (at, file) in old_files(&settings.path).into_iter().enumerate() {
        let age = || file.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        let too_many = settings.max_files > 0 && at >= settings.max_files;
        let too_old = !settings.max_age.is_zero() && age().is_some_and(|age| age > settings.max_age);
        if too_many || too_old {
            let _ = fs::remove_file(&file);
        } else if settings.compress && file.extension().is_none_or(|ending| ending != "gz") {
            // Without room for it the file stays as it is.
            let _ = compress(&file);
        }
    }
}

/// Puts `FILE.gz` in the place of `file`, with its time.
fn compress(file: &Path) -> io::Result<()> {
    let mut name = file.as_os_str().to_os_string();
    name.push(".gz");
    let packed = PathBuf::from(name);
    let time = file.metadata()?.modified()?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&packed).and_then(|out| {
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
        io::copy(&mut File::open(file)?, &mut encoder)?;
        encoder.finish()?.set_modified(time)
    });
    match made {
        Ok(()) => fs::remove_file(file),
        Err(error) => {
            // Half of it, unless another one is at it.
            if error.kind() != io::ErrorKind::AlreadyExists {
                let _ = fs::remove_file(&packed);
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(format!("llmspell-log-{}", uuid::Uuid::new_v4().simple()));
            fs::create_dir(&dir).unwrap();
            Folder(dir)
        }

        fn settings(&self) -> FileSettings {
            FileSettings {
                path: self.0.join("k.log"),
                max_size: 100,
                max_age: Duration::from_secs(7 * DAY),
                max_files: 3,
                compress: false,
                standard_streams: false,
            }
        }

        fn old(&self) -> Vec<PathBuf> {
            old_files(&self.0.join("k.log"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn lines(count: usize) -> Vec<u8> {
        b"0123456789012345678901234567890123456789\n".repeat(count)
    }

    #[test]
    fn it_is_rotated_by_size_and_only_so_many_are_kept() {
        let folder = Folder::new();
        let mut log = LogFile::open(folder.settings()).unwrap();
        for _ in 0..9 {
            assert!(log.write(&lines(1)));
        }
        assert_eq!(fs::read(folder.0.join("k.log")).unwrap(), lines(1));
        let old = folder.old();
        assert_eq!(old.len(), 3);
        assert!(old.iter().all(|file| fs::read(file).unwrap() == lines(2)));
        assert_eq!(fs::metadata(folder.0.join("k.log")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn it_is_rotated_by_day_and_old_ones_go_by_age() {
        let folder = Folder::new();
        let day = |days: u64| SystemTime::now() - Duration::from_secs(days * DAY);
        for (name, days) in
            [("k.2020-01-01T00-00-00Z.log", 8), ("k.2020-01-02T00-00-00Z.log.gz", 8), ("k.2026-01-01T00-00-00Z.log", 6)]
        {
            File::create(folder.0.join(name)).unwrap().set_modified(day(days)).unwrap();
        }
        fs::write(folder.0.join("k.log"), lines(1)).unwrap();
        File::options().append(true).open(folder.0.join("k.log")).unwrap().set_modified(day(1)).unwrap();
        let mut log = LogFile::open(FileSettings { max_size: 0, ..folder.settings() }).unwrap();
        assert_eq!(folder.old().len(), 1);
        assert!(log.write(&lines(2)));
        assert_eq!(fs::read(folder.0.join("k.log")).unwrap(), lines(2));
        assert_eq!(folder.old().len(), 2);
    }

    #[test]
    fn what_others_put_there_stays() {
        let names = ["k.log", "k.txt", "k-2.2020-01-01T00-00-00Z.log", "k.2020-01-01T00-00-00Zx.log", "k.2020.log"];
        for name in names {
            assert!(!is_old(name, "k.", ".log"), "{name}");
        }
        for name in ["k.2020-01-01T00-00-00Z.log", "k.2020-01-01T00-00-00Z.001.log.gz"] {
            assert!(is_old(name, "k.", ".log"), "{name}");
        }
        assert!(!is_old("k.ü020-01-01T00-00-00Z", "k.", ""));
    }

    #[test]
    fn old_ones_are_compressed_and_can_be_read() {
        let folder = Folder::new();
        fs::write(folder.0.join("k.2026-01-01T00-00-00Z.log"), lines(3)).unwrap();
        tidy(&FileSettings { compress: true, max_age: Duration::ZERO, ..folder.settings() });
        let packed = folder.0.join("k.2026-01-01T00-00-00Z.log.gz");
        assert_eq!(folder.old(), std::slice::from_ref(&packed));
        let mut text = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(File::open(packed).unwrap()), &mut text).unwrap();
        assert_eq!(text, lines(3));
    }

    #[test]
    fn it_comes_back_when_it_was_moved_or_removed() {
        let folder = Folder::new();
        let path = folder.0.join("k.log");
        let mut log = LogFile::open(folder.settings()).unwrap();
        assert!(log.write(b"a\n"));
        fs::rename(&path, folder.0.join("k.log.1")).unwrap();
        log.reopen();
        assert!(log.write(b"b\n"));
        assert_eq!(fs::read(&path).unwrap(), b"b\n");
        fs::remove_file(&path).unwrap();
        log.look();
        assert!(log.write(b"c\n"));
        assert_eq!(fs::read(&path).unwrap(), b"c\n");
    }

    #[test]
    fn what_is_lost_is_told_of() {
        let folder = Folder::new();
        let mut log = LogFile::open(FileSettings { max_size: 0, ..folder.settings() }).unwrap();
        log.file = Some(File::options().write(true).open("/dev/full").unwrap());
        assert!(!log.write(b"a\n"));
        assert!(!log.write(b"b\n"));
        log.reopen();
        assert!(log.write(b"c\n"));
        assert_eq!(fs::read(&log.settings.path).unwrap(), b"2 messages before this one were lost\nc\n");
    }
}
