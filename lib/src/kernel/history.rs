//! `history_request`, and the thread that keeps what was executed: in batches, off the script thread.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Class, Error, Result};
use crate::protocol::content;
use crate::store::Store;
use crate::store::history::Line;

/// How long the first line of a batch waits for company.
const DELAY: Duration = Duration::from_millis(100);
/// Lines of a tail when the request names no number.
const TAIL: i64 = 1000;

enum Job {
    /// A batch was begun.
    Begun,
    Ask(content::History, Sender<Result<Value>>),
}

/// What the script thread has of it.
pub(super) struct History {
    jobs: Option<Sender<Job>>,
    batch: Arc<Mutex<Vec<Line>>>,
    thread: Option<JoinHandle<()>>,
}

impl History {
    /// Starts the thread; the store is opened when it is first needed. Without a file the history ends with the kernel.
    pub(super) fn start(file: Option<PathBuf>) -> Result<Self> {
        let (jobs, queue) = channel();
        let batch = Arc::default();
        let keeper = Keeper { batch: Arc::clone(&batch), file, store: None, session: None };
        let thread = super::spawn("llmspell-history", move || keeper.run(&queue))?;
        Ok(History { jobs: Some(jobs), batch, thread: Some(thread) })
    }

    /// Keeps an executed cell. Does not wait.
    pub(super) fn add(&self, line: u64, source: String, output: Option<String>) {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        batch.push(Line { session: 0, line: i64::try_from(line).unwrap_or(i64::MAX), source, output });
        if let (1, Some(jobs)) = (batch.len(), &self.jobs) {
            let _ = jobs.send(Job::Begun);
        }
    }

    /// The content of the `history_reply`, everything added before included.
    pub(super) fn ask(&self, request: content::History) -> Result<Value> {
        let (answer, answered) = channel();
        let gone = || Error::new(Class::Bug, "history: its thread has ended");
        self.jobs.as_ref().ok_or_else(gone)?.send(Job::Ask(request, answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for History {
    /// Everything is written when this returns.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Keeper {
    batch: Arc<Mutex<Vec<Line>>>,
    file: Option<PathBuf>,
    store: Option<Store>,
    /// This life of the kernel, once it has a line.
    session: Option<i64>,
}

impl Keeper {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut due: Option<Instant> = None;
        loop {
            let job = match due {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::Begun) => {
                    due.get_or_insert_with(|| Instant::now() + DELAY);
                }
                Ok(Job::Ask(request, answer)) => {
                    self.write();
                    due = None;
                    let _ = answer.send(self.answer(&request));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.write();
                    due = None;
                }
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
        }
    }

    /// The store; in memory when the file is not to be had.
    fn store(&mut self) -> Result<&mut Store> {
        if self.store.is_none() {
            let opened = match &self.file {
                Some(file) => Store::open(file).or_else(|error| {
                    log::warn!("{error}; the history of this kernel ends with it");
                    Store::in_memory()
                }),
                None => Store::in_memory(),
            };
            self.store = Some(opened?);
        }
        self.store.as_mut().ok_or_else(|| Error::new(Class::Bug, "history: no store"))
    }

    fn write(&mut self) {
        let mut lines = std::mem::take(&mut *self.batch.lock().unwrap_or_else(PoisonError::into_inner));
        if lines.is_empty() {
            return;
        }
        let mut write = || -> Result<()> {
            let session = match self.session {
                Some(session) => session,
                None => self.store()?.begin_history()?,
            };
            self.session = Some(session);
            lines.iter_mut().for_each(|line| line.session = session);
            self.store()?.add_history(&lines)
        };
        if let Err(error) = write() {
            log::warn!("history: {} lines are lost: {error}", lines.len());
        }
    }

    fn answer(&mut self, request: &content::History) -> Result<Value> {
        let running = match self.session {
            Some(session) => session,
            None => self.store()?.next_session()?,
        };
        let store = self.store()?;
        let lines = match request.hist_access_type.as_str() {
            "tail" => store.history_tail(request.n.unwrap_or(TAIL))?,
            "range" => {
                let session = match request.session.unwrap_or(0) {
                    back @ ..=0 => running.saturating_add(back),
                    session => session,
                };
                store.history_range(session, request.start.unwrap_or(0), request.stop)?
            }
            "search" => store.history_search(request.pattern.as_deref().unwrap_or("*"), request.n, request.unique)?,
            other => {
                let text = format!("history_request: hist_access_type {other:?} is not one of tail, range, search");
                return Err(Error::new(Class::Usage, text));
            }
        };
        let row = |line: Line| match request.output {
            true => json!([line.session, line.line, [line.source, line.output]]),
            false => json!([line.session, line.line, line.source]),
        };
        Ok(json!({"status": "ok", "history": lines.into_iter().map(row).collect::<Vec<_>>()}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(history: &History, access: &str, session: Option<i64>) -> Value {
        let request = content::History { hist_access_type: access.into(), session, output: true, ..Default::default() };
        history.ask(request).unwrap()["history"].take()
    }

    #[test]
    fn it_outlives_the_kernel_and_counts_backwards() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store/k.db");
        let first = History::start(Some(file.clone())).unwrap();
        first.add(1, "a".into(), None);
        first.add(2, "b".into(), Some("2".into()));
        drop(first);
        let second = History::start(Some(file)).unwrap();
        assert_eq!(ask(&second, "range", None), json!([]));
        assert_eq!(ask(&second, "range", Some(-1)), json!([[1, 1, ["a", null]], [1, 2, ["b", "2"]]]));
        second.add(1, "c".into(), None);
        assert_eq!(ask(&second, "range", Some(0)), json!([[2, 1, ["c", null]]]));
        assert_eq!(ask(&second, "tail", None).as_array().unwrap().len(), 3);
        assert!(second.ask(content::History::default()).is_err());
    }

    #[test]
    fn without_a_file_it_works_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("taken"), "").unwrap();
        for file in [None, Some(dir.path().join("taken/k.db"))] {
            let history = History::start(file).unwrap();
            history.add(1, "a".into(), None);
            assert_eq!(ask(&history, "tail", None), json!([[1, 1, ["a", null]]]));
        }
    }
}
