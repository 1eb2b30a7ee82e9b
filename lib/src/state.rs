//! What scripts, tools, agents and workflows remember: JSON values by scope and key, in the store of the kernel.
//!
//! A value's full name is `SCOPE:KEY`. An acknowledged write survives the end of the process however it comes; with
//! `state.durable` also the loss of power.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::Serialize;
use serde_json::{Number, Value};

use crate::error::{Class, Error, Result};
use crate::store::Store;
use crate::store::state::Change;

/// Longest full name, in bytes.
const LONGEST_NAME: usize = 1024;
/// Largest value, in bytes of JSON.
const LARGEST: usize = 64 << 20;

/// The state of one kernel or of one run. Opened at its first use.
#[derive(Default)]
pub struct State {
    file: OnceLock<PathBuf>,
    durable: bool,
    store: Mutex<Option<Store>>,
}

/// A copy of the state that was made by [`State::backup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Its name: when it was made, to the microsecond, in UTC.
    pub id: String,
    /// Its size in bytes.
    pub size: u64,
}

/// `SCOPE:KEY`. In the scope `custom` a key that begins with a colon is a full name itself.
///
/// # Errors
/// `Usage` for what can be no name.
pub fn full_name(scope: &str, key: &str) -> Result<String> {
    let name = match key.strip_prefix(':').filter(|_| scope == "custom") {
        Some(name) => name.to_owned(),
        None => format!("{scope}:{key}"),
    };
    let wrong = |why: &str| Err(Error::new(Class::Usage, format!("state: key {key:?} of scope {scope:?}: {why}")));
    if key.is_empty() || name.is_empty() {
        wrong("empty")
    } else if name.len() > LONGEST_NAME {
        Err(Error::new(Class::Usage, format!("state: a name of {} bytes; {LONGEST_NAME} are the most", name.len())))
    } else if name.chars().any(char::is_control) {
        wrong("has control characters")
    } else {
        Ok(name)
    }
}

fn fits(name: &str, value: &Value) -> Result<()> {
    // Counting is cheaper than writing it twice, and most values are small.
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > LARGEST { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Count(0), value)
        .map_err(|_| Error::new(Class::Usage, format!("state: {name}: more than 64 MiB")))
}

impl State {
    /// State with `durable` writes or without; in memory until [`State::keep_in`] names a file.
    #[must_use]
    pub fn new(durable: bool) -> Self {
        State { durable, ..State::default() }
    }

    /// Names the file. Only the first call counts, and only before the first use.
    pub fn keep_in(&self, file: PathBuf) {
        self.file.set(file).ok();
    }

    /// Its file, if it has one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.get().map(PathBuf::as_path)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Store>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Store) -> Result<T>) -> Result<T> {
        self.store(|store| work(store).map_err(|error| error.within("state")))
    }

    /// Does `work` on the store, for what else is kept there.
    ///
    /// # Errors
    /// `System` when it cannot be opened, and those of `work`.
    pub fn store<T>(&self, work: impl FnOnce(&mut Store) -> Result<T>) -> Result<T> {
        let mut guard = self.lock();
        let store = match &mut *guard {
            Some(store) => store,
            none => none.insert(match self.file.get() {
                Some(file) => {
                    let store = Store::open(file)?;
                    if self.durable {
                        store.make_durable()?;
                    }
                    store
                }
                None => Store::in_memory()?,
            }),
        };
        work(store)
    }

    /// Keeps `value`.
    ///
    /// # Errors
    /// `Usage` for a bad name or too large a value, `System` when the store cannot be written.
    pub fn save(&self, scope: &str, key: &str, value: &Value) -> Result<()> {
        self.save_all(scope, [(key, value)])
    }

    /// Keeps all of `values` or none.
    ///
    /// # Errors
    /// As [`State::save`].
    pub fn save_all<'a>(&self, scope: &str, values: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<()> {
        let named = |(key, value): (&str, &'a Value)| {
            let name = full_name(scope, key)?;
            fits(&name, value)?;
            Ok((name, value))
        };
        let values = values.into_iter().map(named).collect::<Result<Vec<_>>>()?;
        self.with(|store| store.put_state(values.iter().map(|(name, value)| (name.as_str(), *value))))
    }

    /// The value, if there is one.
    ///
    /// # Errors
    /// `Usage` for a bad name, `System` when the store cannot be read.
    pub fn load(&self, scope: &str, key: &str) -> Result<Option<Value>> {
        let name = full_name(scope, key)?;
        self.with(|store| store.get_state(&name))
    }

    /// Forgets the value; whether there was one.
    ///
    /// # Errors
    /// As [`State::save`].
    pub fn delete(&self, scope: &str, key: &str) -> Result<bool> {
        let name = full_name(scope, key)?;
        self.with(|store| store.remove_state(&name))
    }

    /// The keys of a scope, in order.
    ///
    /// # Errors
    /// `System` when the store cannot be read.
    pub fn keys(&self, scope: &str) -> Result<Vec<String>> {
        let start = format!("{scope}:");
        let names = self.with(|store| store.state_names(&start))?;
        Ok(names.into_iter().map(|name| name[start.len()..].to_owned()).collect())
    }

    /// Forgets all values of a scope; how many there were.
    ///
    /// # Errors
    /// `System` when the store cannot be written.
    pub fn clear(&self, scope: &str) -> Result<usize> {
        self.with(|store| store.clear_state(&format!("{scope}:")))
    }

    /// Adds `by` to a number (nothing counts as 0) and answers the sum.
    ///
    /// # Errors
    /// `Usage` when there is something else than a number, or the sum is none; otherwise as [`State::save`].
    pub fn increment(&self, scope: &str, key: &str, by: &Number) -> Result<Number> {
        let name = full_name(scope, key)?;
        let wrong = |what: String| Error::new(Class::Usage, format!("{name}: {what}"));
        self.with(|store| {
            store.change_state(&name, |now| {
                let now = match now {
                    None => Number::from(0),
                    Some(Value::Number(number)) => number,
                    Some(_) => return Err(wrong("not a number".into())),
                };
                let whole = now.as_i64().zip(by.as_i64()).and_then(|(a, b)| a.checked_add(b)).map(Number::from);
                let sum = || Number::from_f64(now.as_f64()? + by.as_f64()?);
                let sum = whole.or_else(sum).ok_or_else(|| wrong("the sum is no number".into()))?;
                Ok((Change::Put(sum.clone().into()), sum))
            })
        })
    }

    /// Replaces the value by `new` if it is `expected` (`None`: nothing is there); whether it was.
    ///
    /// # Errors
    /// As [`State::save`].
    pub fn compare_and_swap(
        &self,
        scope: &str,
        key: &str,
        expected: Option<&Value>,
        new: Option<Value>,
    ) -> Result<bool> {
        let name = full_name(scope, key)?;
        if let Some(new) = &new {
            fits(&name, new)?;
        }
        self.with(|store| {
            store.change_state(&name, |now| {
                let same = match (&now, expected) {
                    (None, None) => true,
                    (Some(now), Some(expected)) => equal(now, expected),
                    _ => false,
                };
                Ok(match new {
                    _ if !same => (Change::Keep, false),
                    Some(new) => (Change::Put(new), true),
                    None => (Change::Remove, true),
                })
            })
        })
    }

    /// How many values there are, and their bytes.
    ///
    /// # Errors
    /// `System` when the store cannot be read.
    pub fn size(&self) -> Result<(i64, i64)> {
        self.with(|store| store.state_size())
    }

    /// Where copies are put: `store/backup/KERNEL`.
    fn backups_dir(&self) -> Result<PathBuf> {
        let none = || Error::new(Class::Usage, "state: it is in memory only, so there is nothing to back up");
        let file = self.file.get().ok_or_else(none)?;
        let name = file.file_stem().unwrap_or_default();
        Ok(file.with_file_name("backup").join(name))
    }

    fn backup_file(&self, id: &str) -> Result<PathBuf> {
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let file = self.backups_dir()?.join(format!("{id}.db"));
        if plain && file.is_file() {
            return Ok(file);
        }
        Err(Error::new(Class::NotFound, format!("state: no backup {id:?}")).hint("State.list_backups() lists them."))
    }

    /// Makes a copy of the whole store, which stays in use meanwhile.
    ///
    /// # Errors
    /// `Usage` when the state is in memory only, `System` when the copy cannot be written.
    pub fn backup(&self) -> Result<Backup> {
        let dir = self.backups_dir()?;
        crate::home::private_dir(&dir)?;
        let now = humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string();
        let id: String = now.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let file = dir.join(format!("{id}.db"));
        self.with(|store| store.copy_to(&file))?;
        let size = std::fs::metadata(&file).map_err(|error| Error::io(&file, error))?.len();
        Ok(Backup { id, size })
    }

    /// The copies there are, oldest first.
    ///
    /// # Errors
    /// `Usage` when the state is in memory only, `System` when the folder cannot be read.
    pub fn backups(&self) -> Result<Vec<Backup>> {
        let dir = self.backups_dir()?;
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(&dir, error)),
        };
        let mut found: Vec<Backup> = entries
            .flatten()
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.strip_suffix(".db")?.to_owned();
                Some(Backup { id, size: entry.metadata().ok()?.len() })
            })
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Makes the values those of a copy; how many there are then.
    ///
    /// # Errors
    /// `NotFound` when there is no such copy, `Config` when it is damaged; then nothing has changed.
    pub fn restore(&self, id: &str) -> Result<i64> {
        let file = self.backup_file(id)?;
        self.with(|store| store.restore_state(&file))
    }

    /// Looks whether a copy is whole; what is wrong with it, if anything is.
    ///
    /// # Errors
    /// `NotFound` when there is no such copy.
    pub fn validate_backup(&self, id: &str) -> Result<Option<String>> {
        let file = self.backup_file(id)?;
        Ok(Store::check(&file).err().map(|error| error.to_string()))
    }

    /// Removes a copy.
    ///
    /// # Errors
    /// `NotFound` when there is no such copy, `System` when it cannot be removed.
    pub fn remove_backup(&self, id: &str) -> Result<()> {
        let file = self.backup_file(id)?;
        std::fs::remove_file(&file).map_err(|error| Error::io(&file, error))
    }
}

/// Whether two values are the same to a script, to which 1 and 1.0 are.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        let state = State::default();
        for value in [
            json!(null),
            json!(false),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(0.1),
            json!(1.0),
            json!(""),
            json!("\u{0}é\u{1F600}"),
            json!([]),
            json!({}),
            json!([1, [null, {"": {"b": [true]}}]]),
        ] {
            state.save("global", "x", &value).unwrap();
            assert_eq!(state.load("global", "x").unwrap(), Some(value));
        }
        assert_eq!(state.load("global", "y").unwrap(), None);
        assert!(state.delete("global", "x").unwrap());
        assert!(!state.delete("global", "x").unwrap());
    }

    #[test]
    fn names() {
        let state = State::default();
        state.save("custom", ":workflow:7:agent:a:output", &json!("text")).unwrap();
        assert_eq!(state.load("workflow", "7:agent:a:output").unwrap(), Some(json!("text")));
        state.save("a*", "k[1]", &json!(1)).unwrap();
        state.save("ab", "k", &json!(2)).unwrap();
        assert_eq!(state.keys("a*").unwrap(), ["k[1]"]);
        assert_eq!(state.clear("a*").unwrap(), 1);
        assert_eq!(state.keys("ab").unwrap(), ["k"]);
        for (scope, key) in [("a", ""), ("custom", ":"), ("a", "\n"), ("a\0", "k"), ("a", &"k".repeat(2000))] {
            assert_eq!(state.save(scope, key, &json!(1)).unwrap_err().class(), Class::Usage, "{scope:?} {key:?}");
        }
    }

    #[test]
    fn numbers_add_up() {
        let state = State::default();
        let add = |by: Value| state.increment("g", "n", by.as_number().unwrap()).map(Value::from);
        assert_eq!(add(json!(2)).unwrap(), json!(2));
        assert_eq!(add(json!(-5)).unwrap(), json!(-3));
        assert_eq!(add(json!(0.5)).unwrap(), json!(-2.5));
        state.save("g", "n", &json!(i64::MAX)).unwrap();
        assert_eq!(add(json!(1)).unwrap(), json!(i64::MAX as f64));
        state.save("g", "n", &json!("1")).unwrap();
        assert_eq!(add(json!(1)).unwrap_err().class(), Class::Usage);
    }

    #[test]
    fn one_of_many_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store/k.db");
        // Each with a connection of its own, as processes have.
        let states: Vec<_> = (0..4)
            .map(|_| {
                let state = State::default();
                state.keep_in(file.clone());
                Arc::new(state)
            })
            .collect();
        states[0].save("g", "n", &json!(0)).unwrap();
        let won: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (states.iter().enumerate())
                .map(|(at, state)| {
                    scope.spawn(move || {
                        for _ in 0..50 {
                            state.increment("g", "n", &1.into()).unwrap();
                        }
                        usize::from(state.compare_and_swap("g", "who", None, Some(json!(at))).unwrap())
                    })
                })
                .collect();
            tries.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
        assert_eq!(states[1].load("g", "n").unwrap(), Some(json!(200)));
        assert!(states[2].compare_and_swap("g", "n", Some(&json!(200.0)), None).unwrap());
        assert_eq!(states[3].load("g", "n").unwrap(), None);
    }

    #[test]
    fn copies() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(true);
        assert_eq!(state.backup().unwrap_err().class(), Class::Usage, "in memory");
        let state = State::new(true);
        state.keep_in(dir.path().join("k.db"));
        state.save("g", "a", &json!(1)).unwrap();
        let first = state.backup().unwrap();
        state.save("g", "a", &json!(2)).unwrap();
        state.save("g", "b", &json!(3)).unwrap();
        let second = state.backup().unwrap();
        assert_eq!(state.backups().unwrap(), [first.clone(), second.clone()]);
        assert_eq!(state.validate_backup(&first.id).unwrap(), None);
        assert_eq!(state.restore(&first.id).unwrap(), 1);
        assert_eq!((state.load("g", "a").unwrap(), state.load("g", "b").unwrap()), (Some(json!(1)), None));
        std::fs::write(state.backup_file(&second.id).unwrap(), "no database, whatever its name may say").unwrap();
        assert!(state.validate_backup(&second.id).unwrap().is_some());
        assert!(state.restore(&second.id).is_err());
        assert_eq!(state.load("g", "a").unwrap(), Some(json!(1)), "nothing has changed");
        state.remove_backup(&second.id).unwrap();
        assert_eq!(state.restore("../k").unwrap_err().class(), Class::NotFound);
        assert_eq!(state.backups().unwrap(), [first]);
    }
}
