//! What is kept of a kernel besides what it writes of itself: what the user wants of it, and what happened to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, OFlags, flock, inotify};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Class, Error, Result};
use crate::home::{self, Home};

/// Version of the files below `fleet/` and of the documents of `--json`.
pub const SCHEMA: u32 = 1;

/// When a kernel that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Never.
    #[default]
    Never,
    /// When it crashed, was killed, exited with another status than 0, or stopped answering.
    OnFailure,
    /// Whenever it ends and nobody asked for it.
    Always,
}

impl Policy {
    /// With their names.
    pub const ALL: [(&'static str, Policy); 3] =
        [("never", Policy::Never), ("on-failure", Policy::OnFailure), ("always", Policy::Always)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }
}

/// What the user wants of a kernel: `fleet/wanted/ID.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// [`SCHEMA`].
    pub schema_version: u32,
    /// Its id.
    pub id: String,
    /// Whether it should run.
    pub run: bool,
    /// The name it shares with others that were started together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The fleet of a file that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// Its shell port; 0: as the other words say.
    pub port: u16,
    /// Its configuration; absent: the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// SHA-256 of that file when the kernel was ordered, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<String>,
    /// Its engine; absent: what the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Where it works.
    pub workdir: PathBuf,
    /// More words for `llmspell-kernel`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Variables it gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What the user calls it by besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it is started again.
    #[serde(default)]
    pub restart: Policy,
    /// Longest memory, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// How many processors' worth of time it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
}

/// What happened to a kernel: `fleet/state/ID.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`SCHEMA`].
    pub schema_version: u32,
    /// How often it was started again, all in all.
    #[serde(default)]
    pub restarts: u64,
    /// Ends in a row without a stable time between.
    #[serde(default)]
    pub failures: u32,
    /// When it was ready last, seconds since 1970; absent: it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<f64>,
    /// How it ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// When, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<f64>,
    /// The next attempt: boot id and milliseconds after boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<(String, u64)>,
    /// Whether it fails so often that attempts are rare now.
    #[serde(default)]
    pub crash_looping: bool,
    /// What holds its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<super::Enforced>,
}

/// Where things are.
impl Home {
    /// What is kept of many kernels.
    #[must_use]
    pub fn fleet_dir(&self) -> PathBuf {
        self.root().join("fleet")
    }

    pub(super) fn wanted_dir(&self) -> PathBuf {
        self.fleet_dir().join("wanted")
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.fleet_dir().join("state")
    }
}

impl Wanted {
    /// Reads that of `id`; nothing when there is none.
    ///
    /// # Errors
    /// `Config` when it is damaged or newer than this program.
    pub fn read(home: &Home, id: &str) -> Result<Option<Self>> {
        let path = home.wanted_dir().join(format!("{id}.json"));
        let wanted: Option<Wanted> = read(&path)?;
        match wanted {
            Some(wanted) if wanted.schema_version > SCHEMA => Err(newer(&path)),
            wanted => Ok(wanted),
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// What the system said; the old file is intact then.
    pub fn write(&self, home: &Home) -> Result<()> {
        // On the disk before the old one goes: it says what must run after a loss of power.
        write(&home.wanted_dir(), &self.id, self, home::write_durable)
    }

    /// Whether the file of its configuration is another than it was.
    #[must_use]
    pub fn config_changed(&self) -> bool {
        self.config.as_deref().is_some_and(|path| digest(path).ok() != self.config_digest)
    }
}

impl State {
    /// Reads that of `id`. What is damaged is as if nothing had happened: nothing depends on it but counters.
    #[must_use]
    pub fn read(home: &Home, id: &str) -> Self {
        read(&home.state_dir().join(format!("{id}.json"))).ok().flatten().unwrap_or_default()
    }

    /// From now on nothing has happened.
    pub(super) fn remove(home: &Home, id: &str) -> Result<()> {
        remove(&home.state_dir().join(format!("{id}.json")))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// What the system said; the old file is intact then.
    pub fn write(&self, home: &Home, id: &str) -> Result<()> {
        write(&home.state_dir(), id, &State { schema_version: SCHEMA, ..self.clone() }, home::write_private)
    }
}

/// Seconds since 1970, to be shown; nothing is decided by this clock.
pub(super) fn now() -> Option<f64> {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs_f64())
}

/// Notes that `id` is not to run. A record that cannot be read is nothing anybody would follow either.
pub(super) fn unwant(home: &Home, id: &str) -> Result<()> {
    match Wanted::read(home, id) {
        Ok(Some(wanted)) if wanted.run => Wanted { run: false, ..wanted }.write(home),
        _ => Ok(()),
    }
}

/// Whether `id` was stopped or forgotten.
pub(super) fn is_unwanted(home: &Home, id: &str) -> bool {
    match Wanted::read(home, id) {
        Ok(Some(wanted)) => !wanted.run,
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Readable when a file comes or goes in one of `dirs`.
///
/// # Errors
/// What the system said.
pub(super) fn changes(dirs: &[PathBuf]) -> Result<OwnedFd> {
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    let inotify = inotify::init(flags).map_err(|e| Error::system("inotify", e.into()))?;
    // Files come by being renamed; what is being written besides does not matter.
    let what = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE;
    for dir in dirs {
        inotify::add_watch(&inotify, dir, what).map_err(|e| Error::io(dir, e.into()))?;
    }
    Ok(inotify)
}

/// Takes what [`changes`] tells; which files it was does not matter.
pub(super) fn drain(inotify: &OwnedFd) {
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    while reader.next().is_ok() {}
}

/// Forgets the kernel `id`; its claim must be held.
pub(super) fn forget(home: &Home, id: &str) -> Result<()> {
    // The record by which it is found goes last.
    State::remove(home, id)?;
    remove(&home.fleet_dir().join("kept").join(format!("{id}.json")))?;
    remove(&home.wanted_dir().join(format!("{id}.json")))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// Ids with a file in `dir`, in order.
pub(super) fn ids(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let id = |entry: std::io::Result<fs::DirEntry>| {
        let id = entry.ok()?.file_name().into_string().ok()?.strip_suffix(".json")?.to_owned();
        home::check_id(&id).is_ok().then_some(id)
    };
    let mut ids: Vec<_> = entries.filter_map(id).collect();
    ids.sort();
    ids
}

/// SHA-256 of a file, in hex.
pub(super) fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match whole(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, error)),
    };
    match serde_json::from_str(&text) {
        Ok(value) => Ok(Some(value)),
        Err(_) if version(&text).is_some_and(|version| version > SCHEMA) => Err(newer(path)),
        Err(error) => Err(Error::new(Class::Config, format!("{}: {error}", path.display()))
            .hint("Nothing was done with it. Remove it and spawn the kernel again.")),
    }
}

/// The text of a small file, with as few calls as can be: there may be thousands.
fn whole(path: &Path) -> std::io::Result<String> {
    let (mut file, mut bytes, mut length) = (File::open(path)?, vec![0; 2048], 0);
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // A read that leaves room has met the end.
        if length < bytes.len() {
            bytes.truncate(length);
            return String::from_utf8(bytes).map_err(|_| std::io::ErrorKind::InvalidData.into());
        }
        bytes.resize(2 * length, 0);
    }
}

fn version(text: &str) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    value.get("schema_version")?.as_u64()?.try_into().ok()
}

fn newer(path: &Path) -> Error {
    Error::new(Class::Config, format!("{}: written by a newer llmspell-fleet", path.display()))
        .hint("Use that version; nothing was changed.")
}

fn write<T: Serialize>(dir: &Path, id: &str, value: &T, how: fn(&Path, &[u8]) -> Result<()>) -> Result<()> {
    home::private_dir(dir)?;
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
    how(&dir.join(format!("{id}.json")), text.as_bytes())
}

/// The lock of names and ports. Held for moments only, never while something is waited for.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "open it is locked")] File);

impl Lock {
    /// Waits for it.
    ///
    /// # Errors
    /// What the system said.
    pub fn take(home: &Home) -> Result<Self> {
        home::private_dir(home.root())?;
        home::private_dir(&home.fleet_dir())?;
        locked(&home.fleet_dir().join("lock"), FlockOperation::LockExclusive)?
            .map(Lock)
            .ok_or_else(|| Error::new(Class::Conflict, "fleet: locked"))
    }
}

/// The right to start or stop one kernel. It ends with the process that holds it, however that ends.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "open it is locked")] File);

impl Claim {
    /// Waits for the right to start or stop `id`.
    ///
    /// # Errors
    /// What the system said.
    pub fn wait(home: &Home, id: &str) -> Result<Self> {
        Self::make(home, "claim", id, FlockOperation::LockExclusive)
    }

    /// Takes it at once.
    ///
    /// # Errors
    /// `Conflict` while another has it.
    pub fn take(home: &Home, id: &str) -> Result<Self> {
        Self::make(home, "claim", id, FlockOperation::NonBlockingLockExclusive)
    }

    /// The right to change how many kernels the group `name` has.
    ///
    /// # Errors
    /// `Conflict` while another has it, unless it may `wait`.
    pub(super) fn group(home: &Home, name: &str, wait: bool) -> Result<Self> {
        let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        Self::make(home, "group", name, how)
    }

    fn make(home: &Home, kind: &str, id: &str, operation: FlockOperation) -> Result<Self> {
        let dir = home.fleet_dir().join(kind);
        home::private_dir(home.root())?;
        home::private_dir(&dir)?;
        locked(&dir.join(id), operation)?.map(Claim).ok_or_else(|| {
            Error::new(Class::Conflict, format!("kernel {id}: being started or stopped by another command"))
                .hint("Wait a moment and try again.")
        })
    }

    /// Whether somebody has that of `id` just now.
    #[must_use]
    pub fn is_held(home: &Home, id: &str) -> bool {
        let Ok(file) = File::open(home.fleet_dir().join("claim").join(id)) else { return false };
        // A shared lock for a moment: whoever wants the other kind meanwhile waits for that long.
        flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// Removes the file of `id`, which must be held.
    pub(super) fn remove(self, home: &Home, id: &str) {
        let _ = fs::remove_file(home.fleet_dir().join("claim").join(id));
    }
}

/// Opens and locks `path`; nothing when another holds it.
fn locked(path: &Path, operation: FlockOperation) -> Result<Option<File>> {
    loop {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(path)
            .map_err(|e| Error::io(path, e))?;
        match flock(&file, operation) {
            Ok(()) => {}
            Err(rustix::io::Errno::INTR) => continue,
            // Somebody who only looked, with a shared lock, is gone in a moment; whoever works holds the other kind.
            Err(rustix::io::Errno::WOULDBLOCK) if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() => {
                flock(&file, FlockOperation::LockExclusive).map_err(|e| Error::io(path, e.into()))?;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(Error::io(path, error.into())),
        }
        // Its last holder may have removed it between our open and our lock.
        let meta = file.metadata().map_err(|e| Error::io(path, e))?;
        if fs::symlink_metadata(path).is_ok_and(|now| now.ino() == meta.ino() && now.dev() == meta.dev()) {
            return Ok(Some(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_survive_and_newer_ones_are_refused() {
        let root = std::env::temp_dir().join(format!("llmspell-wanted-{}", uuid::Uuid::new_v4().simple()));
        let home = Home::at(&root);
        assert!(Wanted::read(&home, "k").unwrap().is_none());
        let wanted = Wanted { schema_version: SCHEMA, id: "k".into(), port: 9555, ..Wanted::default() };
        wanted.write(&home).unwrap();
        let path = home.wanted_dir().join("k.json");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Wanted::read(&home, "k").unwrap().unwrap().port, 9555);
        assert_eq!(ids(&home.wanted_dir()), ["k"]);
        for (text, what) in [
            (r#"{"schema_version": 2}"#, "newer"),
            (r#"{"schema_version": 1, "id""#, "EOF"),
            ("", "EOF"),
            ("\u{0}", "expected value"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Wanted::read(&home, "k").unwrap_err();
            assert!(error.class() == Class::Config && error.text().contains(what), "{error}");
        }
        let state = State { schema_version: SCHEMA, restarts: 3, ..State::default() };
        state.write(&home, "k").unwrap();
        assert_eq!(State::read(&home, "k"), state);
        forget(&home, "k").unwrap();
        assert_eq!(State::read(&home, "k"), State::default());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_claim_has_one_holder() {
        let root = std::env::temp_dir().join(format!("llmspell-claim-{}", uuid::Uuid::new_v4().simple()));
        let home = Home::at(&root);
        assert!(!Claim::is_held(&home, "k"));
        let claim = Claim::take(&home, "k").unwrap();
        assert!(Claim::is_held(&home, "k"));
        assert_eq!(Claim::take(&home, "k").unwrap_err().class(), Class::Conflict);
        claim.remove(&home, "k");
        assert!(!Claim::is_held(&home, "k"));
        drop(Claim::take(&home, "k").unwrap());
        drop(Lock::take(&home).unwrap());
        fs::remove_dir_all(root).unwrap();
    }
}
