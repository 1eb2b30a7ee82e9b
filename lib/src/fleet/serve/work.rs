//! The commands behind the pages: this very program, run with `--json`, a few at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Class, Error, Result};
use crate::home::Home;

/// Commands that run at the same time.
pub(super) const AT_ONCE: usize = 8;
/// Of these, those that change something: looking must always be possible.
const ACTIONS: usize = 4;
/// Requests that wait for their turn at most.
const WAITING: usize = 256;
/// How long what was told is still good: as many pages as there are cost no more than one.
const FRESH: Duration = Duration::from_millis(500);

/// What a command printed, and its exit status.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) status: i32,
    pub(super) out: Vec<u8>,
    /// On standard error.
    pub(super) said: Vec<u8>,
}

type Kept = Arc<tokio::sync::Mutex<Option<(Instant, Done)>>>;

pub(super) struct Work {
    program: PathBuf,
    home: PathBuf,
    /// Where new kernels work.
    workdir: PathBuf,
    looks: Arc<Semaphore>,
    actions: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    kept: Mutex<HashMap<Vec<String>, Kept>>,
}

impl Work {
    pub(super) fn new(program: PathBuf, home: &Home) -> Self {
        // A service is started in the root, which is nobody's place to work.
        let workdir = std::env::current_dir().ok().filter(|dir| dir != Path::new("/")).or_else(std::env::home_dir);
        Work {
            program,
            workdir: workdir.unwrap_or_else(|| home.root().to_owned()),
            home: home.root().to_owned(),
            looks: Arc::new(Semaphore::new(AT_ONCE - ACTIONS)),
            actions: Arc::new(Semaphore::new(ACTIONS)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            kept: Mutex::new(HashMap::new()),
        }
    }

    /// Runs a command that only looks; who asks the same at the same time gets the same answer.
    pub(super) async fn look(&self, words: &[String]) -> Result<Done> {
        let _waiting = self.queue()?;
        let kept = {
            let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() > WAITING {
                all.clear();
            }
            Arc::clone(all.entry(words.to_vec()).or_default())
        };
        let mut kept = kept.lock().await;
        if let Some((_, done)) = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(done.clone());
        }
        let done = self.run(&self.looks, words).await?;
        *kept = Some((Instant::now(), done.clone()));
        Ok(done)
    }

    /// Runs a command that changes something, to its end, whoever still waits for it.
    pub(super) async fn act(&self, words: &[String]) -> Result<Done> {
        let _waiting = self.queue()?;
        let done = self.run(&self.actions, words).await;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
        done
    }

    fn queue(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|error| Error::new(Class::Budget, "too many requests wait").hint("Ask again later.").source(error))
    }

    async fn run(&self, turns: &Arc<Semaphore>, words: &[String]) -> Result<Done> {
        let wrong = |error: &dyn std::fmt::Display| Error::new(Class::Bug, format!("turn: {error}"));
        let turn = Arc::clone(turns).acquire_owned().await.map_err(|error| wrong(&error))?;
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .current_dir(&self.workdir)
            .env("LLMSPELL_HOME", &self.home)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        // Those are about this process.
        for name in
            ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "CREDENTIALS_DIRECTORY"]
        {
            command.env_remove(name);
        }
        let program = self.program.display().to_string();
        let output = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            command.output()
        });
        let output = output.await.map_err(|error| wrong(&error))?.map_err(|error| Error::system(program, error))?;
        Ok(Done { status: output.status.code().unwrap_or(70), out: output.stdout, said: output.stderr })
    }
}
