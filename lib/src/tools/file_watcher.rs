//! `file_watcher`: tells what happens to files and folders while it runs. The system reports every event (inotify on
//! Linux); between events the call sleeps.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use globset::{GlobBuilder, GlobMatcher};
use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use rustix::event::PollFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, required, timestamp, yes};
use crate::error::{Class, Error, Result};

/// The watcher.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "file_watcher",
    aliases: &["watch", "watcher"],
    category: "filesystem",
    summary: "report files and folders that are created, changed, renamed or deleted while it runs",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles],
    spellings: &[
        Spelling::Param("path", "input"),
        Spelling::Param("paths", "input"),
        Spelling::Param("timeout", "timeout_seconds"),
    ],
    examples: &[
        example("the defaults", r#"{"operation": "config"}"#, r#"{"default_debounce_ms": 100, "max_paths": 100}"#),
        example(
            "nothing happens for a moment",
            r#"{"input": ["$TMP"], "timeout_ms": 20}"#,
            r#"{"events": [], "event_count": 0, "ended_by": "timeout"}"#,
        ),
        example(
            "only some names, until the time is over",
            r#"{"input": "$TMP", "pattern": "*.txt", "continuous": true, "timeout_ms": 20}"#,
            r#"{"event_count": 0}"#,
        ),
    ],
};

const MAX_PATHS: usize = 100;
/// Left of the call's own time limit to hand over what was seen.
const MARGIN: Duration = Duration::from_millis(250);

/// Watches until the first burst of events is over, or for as long as wanted. Each event is also reported as progress.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do; `config` tells the defaults.
    #[serde(default)]
    operation: Operation,
    /// For `watch`: a file or folder, or a list of them.
    input: Option<Paths>,
    /// Whether folders inside are watched too, those made later included.
    #[serde(default = "yes")]
    recursive: bool,
    /// Only names or paths like this: `*`, `?`, `**`, `[a-z]`.
    pattern: Option<String>,
    /// Events so close together are one burst; repeated changes of a file in it are told once.
    #[serde(default = "debounce")]
    #[schemars(range(min = 1, max = 60_000))]
    debounce_ms: u64,
    /// Longest time, seconds. It ends earlier when the call's own time limit does.
    #[schemars(range(min = 0.001, max = 604_800.0))]
    timeout_seconds: Option<f64>,
    /// Longest time, milliseconds; wins over `timeout_seconds`.
    #[schemars(range(min = 1, max = 604_800_000))]
    timeout_ms: Option<u64>,
    /// Ends after so many events.
    #[serde(default = "max_events")]
    #[schemars(range(min = 1, max = 100_000))]
    max_events: usize,
    /// Whether it goes on after the first burst.
    #[serde(default)]
    continuous: bool,
}

fn debounce() -> u64 {
    100
}

fn max_events() -> usize {
    1000
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Watch,
    Config,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Paths {
    One(String),
    Many(Vec<String>),
}

/// What the caller sees of an event.
#[derive(Serialize)]
struct Seen {
    event_type: &'static str,
    path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_path: Option<PathBuf>,
    timestamp: String,
    /// Joins the two halves of a rename.
    #[serde(skip)]
    tracker: Option<usize>,
}

/// What the watching thread leaves for the call.
type Inbox = Arc<Mutex<Vec<(SystemTime, notify::Result<Event>)>>>;

/// Watches.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    if let Operation::Config = params.operation {
        let result = json!({
            "default_debounce_ms": debounce(), "default_timeout": 300, "max_events": max_events(), "max_paths": MAX_PATHS,
        });
        return Ok(Answer::new("config", result));
    }
    let paths = match required(params.input.as_ref(), "input")? {
        Paths::One(path) => std::slice::from_ref(path),
        Paths::Many(paths) => paths,
    };
    if paths.is_empty() || paths.len() > MAX_PATHS {
        return Err(Error::new(Class::Usage, format!("input: {} paths; 1 to {MAX_PATHS} can be watched", paths.len())));
    }
    let glob = params.pattern.as_deref().map(glob).transpose()?;
    let real = paths.iter().map(|path| call.readable(path)).collect::<Result<Vec<_>>>()?;

    let inbox = Inbox::default();
    let (wake, bell) = std::io::pipe().map_err(|e| Error::system("pipe", e))?;
    let letters = Arc::clone(&inbox);
    let settings = notify::Config::default().with_follow_symlinks(false);
    let handler = move |event| {
        let mut letters = letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push((SystemTime::now(), event));
        // One byte while the box was empty: the pipe never fills.
        if letters.len() == 1 {
            drop((&bell).write_all(b"!"));
        }
    };
    let mut watcher = notify::RecommendedWatcher::new(handler, settings).map_err(|e| fault(&e, None))?;
    let mode = if params.recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
    for path in &real {
        watcher.watch(path, mode).map_err(|e| fault(&e, Some(path)))?;
    }
    call.progress(format!(
        "watching {}",
        real.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    ));

    let limit = match (params.timeout_ms, params.timeout_seconds) {
        (Some(millis), _) => Duration::from_millis(millis),
        (None, seconds) => Duration::try_from_secs_f64(seconds.unwrap_or(300.0)).unwrap_or(Duration::MAX),
    };
    let own = Instant::now().checked_add(limit);
    let call_end = call.deadline.map(|deadline| deadline.checked_sub(MARGIN).unwrap_or(deadline));
    let end = [own, call_end].into_iter().flatten().min();
    let burst = Duration::from_millis(params.debounce_ms);
    let mut events: Vec<Seen> = Vec::new();
    let ended_by = loop {
        let ready = call.cancel.poll(&[(wake.as_fd(), PollFlags::IN)], end).map_err(|e| Error::system("poll", e))?;
        call.check()?;
        if ready[0].is_empty() {
            break "timeout";
        }
        // The rest of the burst, that is until nothing came for so long.
        let mut before = 0;
        loop {
            let count = inbox.lock().unwrap_or_else(PoisonError::into_inner).len();
            if count == before || count > params.max_events || end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            before = count;
            call.sleep(burst.min(end.map_or(burst, |end| end.saturating_duration_since(Instant::now()))))?;
        }
        let batch = {
            let mut letters = inbox.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock, so that no byte is left for an empty box.
            let mut byte = [0];
            std::io::Read::read_exact(&mut &wake, &mut byte).map_err(|e| Error::system("pipe", e))?;
            std::mem::take(&mut *letters)
        };
        let batch = gather(batch, |path| {
            let named =
                |glob: &GlobMatcher| glob.is_match(path) || path.file_name().is_some_and(|name| glob.is_match(name));
            // What is private stays so, also inside a watched folder.
            let hidden = call.policy.check_read(path).is_err_and(|error| error.class() == Class::Denied);
            glob.as_ref().is_none_or(named) && !hidden
        })?;
        let heard = !batch.is_empty();
        for event in batch.into_iter().take(params.max_events - events.len()) {
            call.progress(format!("{} {}", event.event_type, event.path.display()));
            events.push(event);
        }
        if events.len() == params.max_events {
            break "max_events";
        }
        if heard && !params.continuous {
            break "quiet";
        }
    };
    let count = events.len();
    let message = format!("{count} event{}", if count == 1 { "" } else { "s" });
    Ok(Answer::new("watch", json!({"events": events, "event_count": count, "ended_by": ended_by})).message(message))
}

fn glob(pattern: &str) -> Result<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|e| Error::new(Class::Usage, format!("pattern: {}", e.kind())))
}

fn fault(error: &notify::Error, path: Option<&Path>) -> Error {
    use notify::ErrorKind;
    let what = path.map_or_else(|| "watcher".to_owned(), |path| path.display().to_string());
    match &error.kind {
        ErrorKind::Io(error) => Error::new(Class::System, format!("{what}: {}", crate::error::reason(error))),
        ErrorKind::PathNotFound => Error::new(Class::NotFound, format!("{what}: no such file or folder")),
        ErrorKind::MaxFilesWatch => {
            Error::new(Class::System, format!("{what}: more folders than the system lets one user watch"))
                .hint("Raise fs.inotify.max_user_watches, or watch without recursive.")
        }
        kind => Error::new(Class::System, format!("{what}: {kind:?}")),
    }
}

/// The events of a burst as the caller sees them: halves of a rename joined, repetitions left out.
fn gather(batch: Vec<(SystemTime, notify::Result<Event>)>, wanted: impl Fn(&Path) -> bool) -> Result<Vec<Seen>> {
    let mut seen: Vec<Seen> = Vec::new();
    for (time, event) in batch {
        let event = event.map_err(|e| fault(&e, None))?;
        if event.need_rescan() {
            return Err(Error::new(Class::System, "events were lost: too many at once")
                .hint("Raise fs.inotify.max_queued_events, or watch less."));
        }
        let tracker = event.tracker();
        let mut paths = event.paths.into_iter();
        let Some(path) = paths.next() else { continue };
        let mut push = |event_type, path: PathBuf, old_path| {
            let same = |known: &&Seen| known.path == path;
            let last = seen.iter().rev().find(same).map(|known| known.event_type);
            // A change says nothing new after a change, or after what brought the file.
            if event_type == "modify" && matches!(last, Some("modify" | "create")) {
                return;
            }
            seen.push(Seen { event_type, path, old_path, timestamp: timestamp(time), tracker });
        };
        match event.kind {
            EventKind::Create(_) => push("create", path, None),
            EventKind::Remove(_) => push("delete", path, None),
            // Until its other half comes.
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => push("delete", path, None),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => push("create", path, None),
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
                seen.retain(|known| tracker.is_none() || known.tracker != tracker);
                let new = paths.next().unwrap_or_else(|| path.clone());
                let event = ("rename", new, Some(path));
                seen.push(Seen {
                    event_type: event.0,
                    path: event.1,
                    old_path: event.2,
                    timestamp: timestamp(time),
                    tracker,
                });
            }
            EventKind::Modify(ModifyKind::Name(_)) => push("rename", path, None),
            EventKind::Modify(_) => push("modify", path, None),
            EventKind::Access(_) => {}
            EventKind::Any | EventKind::Other => push("other", path, None),
        }
    }
    seen.retain(|event| wanted(&event.path) || event.old_path.as_deref().is_some_and(&wanted));
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use crate::security::{Grants, Policy, Profile};
    use serde_json::Value;
    use std::fs;

    fn call(dir: &Path) -> Call {
        let grants = Grants {
            profile: Profile::Safe,
            workdir: dir.into(),
            read: vec![dir.into()],
            hidden: vec![dir.join("private")],
            ..Grants::default()
        };
        Call::new(Arc::new(Policy::new(grants)))
    }

    /// Runs `act` as soon as the tool watches.
    fn watch(dir: &Path, params: Value, act: impl Fn() + Send + Sync + 'static) -> Result<Value> {
        let mut call = call(dir);
        call.progress = Some(Arc::new(move |line: &str| {
            if line.starts_with("watching ") {
                act()
            }
        }));
        Ok(Registry::new().invoke("file_watcher", params, &call)?["result"].take())
    }

    fn kinds(result: &Value, dir: &Path) -> Vec<String> {
        let dir = format!("{}/", dir.display());
        let row =
            |event: &Value| format!("{} {}", event["event_type"], event["path"]).replace('"', "").replace(&dir, "");
        result["events"].as_array().unwrap().iter().map(row).collect()
    }

    #[test]
    fn a_burst_is_told_as_it_happened() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().canonicalize().unwrap();
        fs::create_dir(dir.join("private")).unwrap();
        fs::write(dir.join("old"), "x").unwrap();
        let at = dir.clone();
        let got = watch(&dir, json!({"path": ".", "timeout": 60}), move || {
            fs::write(at.join("a.txt"), "1").unwrap();
            fs::write(at.join("a.txt"), "2").unwrap();
            fs::write(at.join("private/key"), "k").unwrap();
            fs::rename(at.join("old"), at.join("new")).unwrap();
            fs::remove_file(at.join("a.txt")).unwrap();
        });
        let got = got.unwrap();
        assert_eq!(kinds(&got, &dir), ["create a.txt", "rename new", "delete a.txt"]);
        assert_eq!(got["ended_by"], "quiet");
        assert_eq!(got["events"][1]["old_path"], dir.join("old").to_str().unwrap());
    }

    #[test]
    fn it_ends_by_count_or_time_and_folders_made_later_are_watched() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().canonicalize().unwrap();
        let at = dir.clone();
        let params =
            json!({"input": [dir], "continuous": true, "max_events": 2, "pattern": "*.log", "debounce_ms": 20});
        let writer = Mutex::new(None);
        let got = watch(&dir, params, move || {
            let at = at.clone();
            let write = move || {
                fs::create_dir(at.join("sub")).unwrap();
                // Whether it is seen as made or as found changed depends on when the new folder is first watched.
                for number in 0.. {
                    std::thread::sleep(Duration::from_millis(10));
                    if fs::write(at.join(format!("sub/{number}.log")), "x").is_err() {
                        break;
                    }
                }
            };
            *writer.lock().unwrap() = Some(std::thread::spawn(write));
        });
        let got = got.unwrap();
        assert_eq!((&got["ended_by"], &got["event_count"]), (&json!("max_events"), &json!(2)));
        fs::remove_dir_all(&dir).ok();
    }

    #[test]
    fn cancel_and_deadline_end_it() {
        let tmp = tempfile::tempdir().unwrap();
        let mut call = call(tmp.path());
        let cancel = call.cancel.clone();
        call.progress = Some(Arc::new(move |_: &str| cancel.cancel()));
        let error = Registry::new().invoke("file_watcher", json!({"input": "."}), &call).unwrap_err();
        assert_eq!(error.class(), Class::Interrupted);
        let call = self::call(tmp.path()).within(MARGIN + Duration::from_millis(300));
        let got = Registry::new().invoke("file_watcher", json!({"input": "."}), &call).unwrap();
        assert_eq!(got["result"]["ended_by"], "timeout", "what was seen is handed over before the call's own limit");
    }

    #[test]
    fn wrong_calls_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        for (params, class) in [
            (json!({}), Class::Usage),
            (json!({"input": []}), Class::Usage),
            (json!({"input": ".", "pattern": "[x"}), Class::Usage),
            (json!({"input": "missing"}), Class::NotFound),
            (json!({"input": "/etc"}), Class::Denied),
            (json!({"input": "private"}), Class::Denied),
            (json!({"input": ".", "max_events": 0}), Class::Usage),
            (json!({"input": 5}), Class::Usage),
        ] {
            assert_eq!(watch(tmp.path(), params.clone(), || ()).unwrap_err().class(), class, "{params}");
        }
    }
}
