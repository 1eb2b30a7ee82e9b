//! The logs of many kernels as one: their lines in order of time, chosen by age, level and text, followed as they grow,
//! also over rotation, removal and truncation.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use regex_lite::Regex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use serde_json::Value;

use crate::error::{Class, Error, Result};
use crate::home::{self, Home};
use crate::units;

/// Levels of log lines, the gravest first.
pub const LEVELS: [(&str, u8); 5] = [("error", 0), ("warn", 1), ("info", 2), ("debug", 3), ("trace", 4)];

/// A longer line is cut in two.
const LONGEST: usize = 1 << 20;
/// What is read of the end of a file first.
const BLOCK: u64 = 64 * 1024;

/// Which lines.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not older than this.
    pub since: Option<SystemTime>,
    /// Of this level or a graver one; lines without a level belong to the line before.
    pub level: Option<u8>,
    /// With this in it.
    pub grep: Option<Regex>,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// The kernel whose it is.
    pub id: String,
    /// When it was written; of a line without a time, that of the line before.
    pub time: Option<SystemTime>,
    /// Its level, as that of the line before if it has none.
    pub level: Option<u8>,
    /// The line without its end.
    pub text: String,
}

/// Reads an expression of `--grep`.
///
/// # Errors
/// `Usage` when it is none.
pub fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| Error::new(Class::Usage, format!("{text:?} is not a regular expression: {error}")))
}

/// Reads a moment: a duration before now, or a time as it stands in the logs.
///
/// # Errors
/// `Usage` when it is neither.
pub fn moment(text: &str) -> Result<SystemTime> {
    if let Ok(age) = units::duration(text) {
        return Ok(SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    humantime::parse_rfc3339_weak(text.trim()).map_err(|_| {
        Error::new(Class::Usage, format!("{text:?} is neither a duration nor a time"))
            .hint("Write 10m for the last ten minutes, or 2026-01-02T03:04:05Z.")
    })
}

/// Ids that have a log.
#[must_use]
pub fn ids(home: &Home) -> Vec<String> {
    let Ok(entries) = fs::read_dir(home.log_dir()) else { return Vec::new() };
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .filter(|id| home::check_id(id).is_ok() && !is_stamped(id))
        .collect();
    ids.sort();
    ids
}

/// Whether `stem` ends like the name of a log that was rotated away: `.2026-01-02T03-04-05Z`, perhaps with a number.
fn is_stamped(stem: &str) -> bool {
    let stem =
        stem.rsplit_once('.').filter(|(_, end)| end.len() == 3 && end.parse::<u16>().is_ok()).map_or(stem, |(s, _)| s);
    let Some((_, stamp)) = stem.rsplit_once('.') else { return false };
    stamp.len() == 20 && stamp.ends_with('Z') && stamp.as_bytes()[10] == b'T' && stamp[..4].parse::<u16>().is_ok()
}

/// One kernel's log.
struct Source {
    id: String,
    path: PathBuf,
    file: Option<(File, u64)>,
    at: u64,
    rest: Vec<u8>,
    last: (Option<SystemTime>, Option<u8>),
}

/// Logs that are read, and may be followed.
pub struct Logs {
    sources: Vec<Source>,
    filter: Filter,
    inotify: rustix::fd::OwnedFd,
    home: Home,
    /// Logs that appear later belong to it.
    all: bool,
}

impl Logs {
    /// Opens the logs of `ids`; without any, all there are and will be.
    ///
    /// # Errors
    /// `NotFound` when one of them has none; `System`.
    pub fn open(home: &Home, ids: Option<&[String]>, filter: Filter) -> Result<Self> {
        home::private_dir(home.root())?;
        home::private_dir(&home.log_dir())?;
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let inotify = inotify::init(flags).map_err(|e| Error::system("inotify", e.into()))?;
        // Before anything is read, so that nothing falls in between.
        let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, home.log_dir(), what).map_err(|e| Error::io(home.log_dir(), e.into()))?;
        let names = ids.map_or_else(|| self::ids(home), <[String]>::to_vec);
        let mut sources = Vec::new();
        for id in names {
            let source = Source::new(home, &id);
            if ids.is_some() && !source.path.exists() {
                return Err(Error::new(Class::NotFound, format!("kernel {id}: has no log"))
                    .hint(format!("{} is not there.", source.path.display())));
            }
            sources.push(source);
        }
        Ok(Logs { sources, filter, inotify, home: home.clone(), all: ids.is_none() })
    }

    /// The last `count` lines of all logs together, in order of time. What follows is what comes after.
    ///
    /// # Errors
    /// What the system said.
    pub fn last(&mut self, count: usize) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for source in &mut self.sources {
            lines.extend(source.last(count, &self.filter)?);
        }
        lines.sort_by_key(|line| line.time);
        Ok(lines.split_off(lines.len().saturating_sub(count)))
    }

    /// Whether there is more than one log.
    #[must_use]
    pub fn is_many(&self) -> bool {
        self.all || self.sources.len() > 1
    }

    /// Waits for the next lines; nothing when `stop` became readable.
    ///
    /// # Errors
    /// What the system said.
    pub fn next(&mut self, stop: BorrowedFd<'_>) -> Result<Option<Vec<Line>>> {
        loop {
            let mut fds = [stop, self.inotify.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Error::system("poll", error.into())),
            }
            if !fds[0].revents().is_empty() {
                return Ok(None);
            }
            let lines = self.changed()?;
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
    }

    /// Reads what the system says has changed.
    fn changed(&mut self) -> Result<Vec<Line>> {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut names: BTreeMap<String, ()> = BTreeMap::new();
        let mut everything = false;
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            everything |= event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            if let Some(Ok(name)) = event.file_name().map(std::ffi::CStr::to_str) {
                // The end of what was rotated away was written to it under its own name.
                let stem = name.strip_suffix(".log").unwrap_or_default();
                let id = if is_stamped(stem) {
                    self.sources.iter().find(|one| stem.starts_with(&*one.id)).map(|one| one.id.clone())
                } else {
                    Some(stem.to_owned())
                };
                names.extend(id.map(|id| (id, ())));
            }
        }
        if self.all {
            for id in names.keys() {
                let new = home::check_id(id).is_ok() && self.sources.iter().all(|source| source.id != *id);
                if new && self.home.log_file(id).exists() {
                    self.sources.push(Source::new(&self.home, id));
                }
            }
        }
        let mut lines = Vec::new();
        for source in self.sources.iter_mut().filter(|source| everything || names.contains_key(&source.id)) {
            source.read(&self.filter, &mut lines)?;
        }
        lines.sort_by_key(|line| line.time);
        Ok(lines)
    }
}

impl Source {
    fn new(home: &Home, id: &str) -> Self {
        Source { id: id.to_owned(), path: home.log_file(id), file: None, at: 0, rest: Vec::new(), last: (None, None) }
    }

    /// The last lines, of older files too while the live one has too few.
    fn last(&mut self, count: usize, filter: &Filter) -> Result<Vec<Line>> {
        let mut found = Vec::new();
        if let Some((mut file, inode)) = open(&self.path)? {
            let size = file.metadata().map_or(0, |meta| meta.len());
            let (lines, end) = self.tail(&mut file, size, count, filter)?;
            (found, self.at) = (lines, end);
            self.file = Some((file, inode));
        }
        for path in self.older() {
            if found.len() >= count {
                break;
            }
            let Some((mut file, _)) = open(&path)? else { continue };
            let left = count - found.len();
            let mut lines = if path.extension().is_some_and(|end| end == "gz") {
                self.unpacked(file, left, filter)
            } else {
                let size = file.metadata().map_or(0, |meta| meta.len());
                self.tail(&mut file, size, left, filter)?.0
            };
            // Files in order of time: nothing before this one can be younger.
            let done = lines.is_empty() && filter.since.is_some();
            lines.append(&mut found);
            found = lines;
            if done {
                break;
            }
        }
        Ok(found)
    }

    /// The last `count` lines of a compressed file that fit; of one that is damaged what can be read.
    fn unpacked(&self, file: File, count: usize, filter: &Filter) -> Vec<Line> {
        let mut text = BufReader::new(MultiGzDecoder::new(file));
        let (mut lines, mut last, mut line) = (VecDeque::new(), (None, None), Vec::new());
        while (&mut text).take(LONGEST as u64).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            lines.extend(line_of(&self.id, &line, &mut last, filter));
            if lines.len() > count {
                lines.pop_front();
            }
            line.clear();
        }
        lines.into()
    }

    /// What was rotated away, the latest first.
    fn older(&self) -> Vec<PathBuf> {
        let Some(entries) = self.path.parent().and_then(|dir| fs::read_dir(dir).ok()) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let whole = name.strip_suffix(".gz").unwrap_or(&name);
                let middle = whole.strip_prefix(&self.id)?.strip_prefix('.')?.strip_suffix(".log")?;
                (is_stamped(&format!(".{middle}")) && middle.len() <= 24).then(|| self.path.with_file_name(&name))
            })
            .collect();
        paths.sort();
        // One that is just being compressed is there twice.
        paths.dedup_by(|packed, plain| packed.with_extension("") == *plain);
        paths.reverse();
        paths
    }

    /// The last `count` lines of `file` that fit, and where its last whole line ends.
    fn tail(&mut self, file: &mut File, size: u64, count: usize, filter: &Filter) -> Result<(Vec<Line>, u64)> {
        let io = |e| Error::io(&self.path, e);
        let mut length = BLOCK;
        loop {
            let from = size.saturating_sub(length);
            file.seek(SeekFrom::Start(from)).map_err(io)?;
            let mut bytes = Vec::new();
            (&mut *file).take(size - from).read_to_end(&mut bytes).map_err(io)?;
            // The first line is not whole, unless it is the first of the file.
            let begin = if from == 0 {
                0
            } else {
                bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1)
            };
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(begin, |at| at + 1).max(begin);
            let mut last = (None, None);
            let mut lines = Vec::new();
            for line in bytes[begin..end].split_inclusive(|byte| *byte == b'\n') {
                lines.extend(line_of(&self.id, line, &mut last, filter));
            }
            // Older than asked for: there is no need to look further back.
            let first = parse(bytes[begin..end].split(|byte| *byte == b'\n').next().unwrap_or_default()).0;
            let old = filter.since.is_some_and(|since| first.is_some_and(|first| first < since));
            if lines.len() >= count || from == 0 || old {
                self.last = last;
                let lines = lines.split_off(lines.len().saturating_sub(count));
                return Ok((lines, from + end as u64));
            }
            length *= 8;
        }
    }

    /// What was written since: the rest of the file that is open, and of the one that stands in its place now.
    fn read(&mut self, filter: &Filter, lines: &mut Vec<Line>) -> Result<()> {
        loop {
            if let Some((mut file, inode)) = self.file.take() {
                let size = file.metadata().map_err(|e| Error::io(&self.path, e))?.len();
                if size < self.at {
                    // Truncated: what is there now is new.
                    self.at = 0;
                    self.rest.clear();
                }
                file.seek(SeekFrom::Start(self.at)).map_err(|e| Error::io(&self.path, e))?;
                let mut bytes = Vec::new();
                self.at += file.read_to_end(&mut bytes).map_err(|e| Error::io(&self.path, e))? as u64;
                self.take(&bytes, filter, lines);
                let same = fs::metadata(&self.path).is_ok_and(|now| now.ino() == inode);
                // While there is no other, it may still be written to.
                if same || !self.path.exists() {
                    self.file = Some((file, inode));
                    return Ok(());
                }
            }
            (self.at, self.file) = (0, open(&self.path)?);
            if self.file.is_none() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, bytes: &[u8], filter: &Filter, lines: &mut Vec<Line>) {
        self.rest.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(at) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            lines.extend(line_of(&self.id, &self.rest[from..=from + at], &mut self.last, filter));
            from += at + 1;
        }
        self.rest.drain(..from);
        if self.rest.len() > LONGEST {
            let rest = std::mem::take(&mut self.rest);
            lines.extend(line_of(&self.id, &rest, &mut self.last, filter));
        }
    }
}

fn open(path: &std::path::Path) -> Result<Option<(File, u64)>> {
    match File::open(path) {
        Ok(file) => {
            let meta = file.metadata().map_err(|e| Error::io(path, e))?;
            Ok(meta.is_file().then_some((file, meta.ino())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, error)),
    }
}

/// The line in `bytes`, if the filter wants it. `last` is what the line before had, and then what this one has.
fn line_of(id: &str, bytes: &[u8], last: &mut (Option<SystemTime>, Option<u8>), filter: &Filter) -> Option<Line> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let (time, level) = parse(bytes);
    if time.is_some() {
        *last = (time, level);
    }
    let (time, level) = *last;
    if filter.since.is_some_and(|since| time.is_none_or(|time| time < since)) {
        return None;
    }
    // What has no level, a panic for one, is never hidden by it.
    if filter.level.is_some_and(|most| level.is_some_and(|level| level > most)) {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    if filter.grep.as_ref().is_some_and(|pattern| !pattern.is_match(&text)) {
        return None;
    }
    Some(Line { id: id.to_owned(), time, level, text: text.into_owned() })
}

/// When a line was written and its level: `2026-01-02T03:04:05.678Z WARN …`, or the same as JSON.
fn parse(bytes: &[u8]) -> (Option<SystemTime>, Option<u8>) {
    let time = |text: &str| humantime::parse_rfc3339(text).ok();
    let level = |name: &str| LEVELS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, level)| *level);
    if bytes.first() == Some(&b'{') {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        return (value["time"].as_str().and_then(time), value["level"].as_str().and_then(level));
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
    let mut words = head.split_ascii_whitespace();
    let when = words.next().and_then(time);
    (when, when.and(words.next()).and_then(level))
}

impl Line {
    /// As `--json` shows it.
    #[must_use]
    pub fn json(&self) -> Value {
        let stamp = |time| humantime::format_rfc3339_millis(time).to_string();
        // A time before 1970 or after 9999 has no such form.
        let known = |time: &SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|age| age < Duration::from_secs(253_402_300_800))
        };
        serde_json::json!({
            "kernel": self.id,
            "time": self.time.filter(known).map(stamp),
            "level": self.level.and_then(|level| LEVELS.get(usize::from(level))).map(|(name, _)| name),
            "line": self.text,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.rsplit(' ').next().unwrap()).collect()
    }

    fn stamp(second: u32, word: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000Z INFO llmspell: {word}\n")
    }

    #[test]
    fn logs_are_one_and_nothing_is_lost_or_doubled() {
        let root = std::env::temp_dir().join(format!("llmspell-logs-{}", uuid::Uuid::new_v4().simple()));
        let home = Home::at(&root);
        home::private_dir(&home.log_dir()).unwrap();
        fs::write(home.log_file("a"), stamp(1, "one") + &stamp(3, "three")).unwrap();
        fs::write(home.log_file("b"), stamp(2, "two") + "without a time\n" + &stamp(4, "four")).unwrap();
        fs::write(home.log_dir().join("a.2025-12-31T00-00-00Z.log"), stamp(0, "zero")).unwrap();
        assert_eq!(ids(&home), ["a", "b"]);
        let mut logs = Logs::open(&home, None, Filter::default()).unwrap();
        assert_eq!(texts(&logs.last(100).unwrap()), ["zero", "one", "two", "time", "three", "four"]);
        let mut logs = Logs::open(&home, None, Filter::default()).unwrap();
        assert_eq!(texts(&logs.last(2).unwrap()), ["three", "four"]);

        let mut log = fs::OpenOptions::new().append(true).open(home.log_file("a")).unwrap();
        log.write_all(stamp(5, "five").as_bytes()).unwrap();
        log.write_all(b"2026-01-01T00:00:06.000Z WARN x: ha").unwrap();
        assert_eq!(texts(&logs.changed().unwrap()), ["five"]);
        log.write_all(b"lf\n").unwrap();
        // Rotated: the rest of the old file comes first, then the new one.
        fs::rename(home.log_file("a"), home.log_dir().join("a.2026-01-01T00-00-00Z.log")).unwrap();
        log.write_all(stamp(7, "seven").as_bytes()).unwrap();
        fs::write(home.log_file("a"), stamp(8, "eight")).unwrap();
        assert_eq!(texts(&logs.changed().unwrap()), ["half", "seven", "eight"]);
        // Truncated.
        fs::write(home.log_file("a"), stamp(9, "9")).unwrap();
        assert_eq!(texts(&logs.changed().unwrap()), ["9"]);
        // Removed, and there again.
        fs::remove_file(home.log_file("a")).unwrap();
        fs::write(home.log_file("a"), stamp(10, "ten")).unwrap();
        fs::write(home.log_file("c"), stamp(11, "new")).unwrap();
        assert_eq!(texts(&logs.changed().unwrap()), ["ten", "new"]);
        assert!(logs.changed().unwrap().is_empty());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn lines_are_chosen() {
        let filter = |level, grep: Option<&str>, since: Option<&str>| Filter {
            level,
            grep: grep.map(|text| pattern(text).unwrap()),
            since: since.map(|text| moment(text).unwrap()),
        };
        let chosen = |filter: &Filter| {
            let text = "2026-01-01T00:00:01.000Z INFO m: a\n{\"time\":\"2026-01-01T00:00:02.000Z\",\"level\":\"error\",\"message\":\"b\"}\nthread panicked\n";
            let mut last = (None, None);
            text.split_inclusive('\n').filter_map(|line| line_of("k", line.as_bytes(), &mut last, filter)).count()
        };
        assert_eq!(chosen(&filter(None, None, None)), 3);
        assert_eq!(chosen(&filter(Some(1), None, None)), 2);
        assert_eq!(chosen(&filter(None, Some("pan.*d$|: a"), None)), 2);
        assert_eq!(chosen(&filter(None, None, Some("2026-01-01T00:00:02Z"))), 2);
        assert_eq!(chosen(&filter(None, None, Some("1h"))), 0);
        assert_eq!(pattern("(").unwrap_err().class(), Class::Usage);
        assert_eq!(moment("noon").unwrap_err().class(), Class::Usage);
        assert!(is_stamped("a.2026-01-02T03-04-05Z") && is_stamped("a.b.2026-01-02T03-04-05Z.001"));
        assert!(!is_stamped("a") && !is_stamped("kernel-9555") && !is_stamped("a.b.001"));
    }
}
