//! What a script or a request can reach, built once from the configuration: policy, tools, models, and the pool they run on.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime as Pool};
use tokio::sync::{Notify, Semaphore};

use crate::config::{Changes, Config, Tools};
use crate::error::{Class, Error, Result};
use crate::home::Home;
use crate::providers::Providers;
use crate::security::Policy;
use crate::state::State;
use crate::tools::{Call, Cancel, Portion, Progress, Registry};

/// Most tool calls at the same time that can be configured.
const MOST_TOOLS: usize = 256;

/// Everything below the script engines.
pub struct Runtime {
    /// The configuration it was started with.
    pub config: Config,
    /// The configuration with what changed since.
    now: RwLock<Arc<Config>>,
    /// What is allowed.
    pub policy: Arc<Policy>,
    /// The tools.
    pub registry: Arc<Registry>,
    /// The models.
    pub providers: Arc<Providers>,
    /// What is remembered.
    pub state: State,
    /// `[tools]` of `now`, for every call.
    settings: RwLock<Arc<Tools>>,
    slots: Arc<Semaphore>,
    pool: OnceLock<Pool>,
}

/// What a tool call is given besides name and parameters.
#[derive(Clone, Default)]
pub struct CallOptions {
    /// Where relative paths start; the policy's working folder when absent.
    pub cwd: Option<PathBuf>,
    /// Time limit; `kernel.tools.tool_timeout` when absent.
    pub timeout: Option<Duration>,
    /// Where progress goes.
    pub progress: Option<Progress>,
    /// Where it is told how much is done.
    pub portion: Option<Portion>,
    /// Where parts of the result go.
    pub output: Option<Progress>,
}

/// Stops a job that was started with [`Runtime::start`].
#[derive(Clone)]
pub struct JobHandle {
    cancel: Cancel,
    wake: Arc<Notify>,
}

/// Goes off unless it is dropped before: [`Runtime::alarm`].
pub struct Alarm(tokio::task::AbortHandle);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl JobHandle {
    /// Stops it: `done` is called at once with `Interrupted`, the work ends at its next look.
    pub fn cancel(&self) {
        self.cancel.cancel();
        self.wake.notify_one();
    }
}

impl Runtime {
    /// Builds what `config` asks for; starts no thread yet.
    #[must_use]
    pub fn new(config: Config, policy: Policy) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(slots(&config)));
        let registry = Arc::new(Registry::new());
        let state = State::new(config.state.durable);
        let now = RwLock::new(Arc::new(config.clone()));
        let settings = RwLock::new(Arc::new(config.tools.clone()));
        let policy = Arc::new(policy);
        let providers = Arc::new(Providers::new(&config, Arc::clone(&policy)));
        Arc::new(Runtime { providers, state, settings, config, now, policy, registry, slots, pool: OnceLock::new() })
    }

    /// The configuration as it is now: keys that may change while a kernel runs are to be read here.
    #[must_use]
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what of `new` may change while a kernel runs.
    pub fn change(&self, new: &Config) -> Changes {
        let old = self.now();
        let (merged, changes) = old.merge(new);
        let (before, after) = (slots(&old), slots(&merged));
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(merged.tools.clone());
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(merged);
        if after > before {
            self.slots.add_permits(after - before);
        }
        let fewer = before.saturating_sub(after);
        let taken = self.slots.forget_permits(fewer);
        if taken < fewer
            && let Ok(pool) = self.pool()
        {
            // The others go when the calls that hold them end.
            let (slots, left) = (Arc::clone(&self.slots), (fewer - taken) as u32);
            pool.spawn(async move {
                if let Ok(permits) = slots.acquire_many(left).await {
                    permits.forget();
                }
            });
        }
        changes
    }

    /// Names where what is remembered is kept: the store of the configuration, else that of `id`; without both in memory.
    pub fn remember(&self, home: &Home, id: Option<&str>) {
        if let Some(id) = self.config.state.store.as_deref().or(id) {
            self.state.keep_in(home.store_file(id));
        }
    }

    /// Invokes the tool `name` on the pool and gives `done` its envelope or error, exactly once, on another thread.
    pub fn invoke(
        &self,
        name: &str,
        params: Value,
        options: CallOptions,
        done: impl FnOnce(Result<Value>) + Send + 'static,
    ) -> JobHandle {
        let (registry, name) = (Arc::clone(&self.registry), name.to_owned());
        let timeout = options.timeout.or_else(|| self.timeout_of(&name));
        let options = CallOptions { timeout, ..options };
        // An agent waits for tools: it takes none of their places.
        let waits = registry.added(&name).is_some();
        let work = move |call: &Call| registry.invoke(&name, params, call);
        if waits { self.spawn(options, work, done) } else { self.start(options, work, done) }
    }

    /// Invokes the tool `name` on this thread, which waits for a place among those at the same time.
    ///
    /// # Errors
    /// As [`Registry::invoke`].
    pub fn invoke_here(&self, name: &str, params: Value, call: &Call) -> Result<Value> {
        let _slot = match self.registry.added(name) {
            Some(_) => None,
            None => {
                let slots = Arc::clone(&self.slots);
                let until = call.deadline;
                let acquire = async move {
                    match until {
                        Some(until) => tokio::time::timeout_at(until.into(), slots.acquire_owned()).await,
                        None => Ok(slots.acquire_owned().await),
                    }
                };
                let slot = match Arc::clone(&self.slots).try_acquire_owned() {
                    Ok(slot) => slot,
                    Err(_) => self
                        .pool()?
                        .block_on(acquire)
                        .map_err(|_| Error::new(Class::Timeout, "no place among the tools within its time"))?
                        .map_err(|e| Error::new(Class::Bug, e.to_string()))?,
                };
                Some(slot)
            }
        };
        let work = || self.registry.invoke(name, params, call);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(told(panic)))
    }

    /// A call on behalf of what runs already: its policy, folder, deadline and end.
    #[must_use]
    pub fn call(&self) -> Call {
        let mut call = Call::new(Arc::clone(&self.policy));
        call.settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        call
    }

    /// Cancels `cancel` at `at`, unless the alarm is dropped before.
    ///
    /// # Errors
    /// `System` when no thread is to be had.
    pub fn alarm(&self, at: Instant, cancel: &Cancel) -> Result<Alarm> {
        let cancel = cancel.clone();
        let sleep = async move {
            tokio::time::sleep_until(at.into()).await;
            cancel.cancel();
        };
        Ok(Alarm(self.pool()?.spawn(sleep).abort_handle()))
    }

    /// The time limit the configuration gives the tool `name`, if it gives it its own.
    #[must_use]
    pub fn timeout_of(&self, name: &str) -> Option<Duration> {
        let settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        let timeouts = &settings.timeouts;
        // Nobody looks for the name of a tool in an empty table.
        let seconds = (!timeouts.is_empty()).then(|| timeouts.get(self.registry.canonical(name)?)).flatten();
        seconds.map(|seconds| Duration::from_secs((*seconds).into()))
    }

    /// Runs `work` on the pool, at most `max_concurrent_tools` at a time, with its deadline counted from now,
    /// and gives `done` the result, exactly once, on another thread.
    pub fn start<T: Send + 'static>(
        &self,
        options: CallOptions,
        work: impl FnOnce(&Call) -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) -> JobHandle {
        let slots = Arc::clone(&self.slots);
        self.launch(options, work, done, async move |work| {
            let slot = slots.acquire_owned().await.map_err(|e| Error::new(Class::Bug, e.to_string()))?;
            let blocking = tokio::task::spawn_blocking(move || {
                // The slot is held until the thread is really free, so that stuck calls cannot pile up.
                let _slot = slot;
                work()
            });
            blocking.await.unwrap_or_else(|error| Err(panicked(error)))
        })
    }

    /// Runs `work`, which waits for models and tools, on a thread of its own, with its deadline counted from now, and gives
    /// `done` the result, exactly once, on another thread.
    pub fn spawn<T: Send + 'static>(
        &self,
        options: CallOptions,
        work: impl FnOnce(&Call) -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) -> JobHandle {
        self.launch(options, work, done, async move |work| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let body = move || {
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                // Nobody waits any more once it was cancelled.
                sender.send(result.unwrap_or_else(|panic| Err(told(panic)))).ok();
            };
            let thread = std::thread::Builder::new().name("llmspell-agent".into());
            thread.spawn(body).map_err(|error| Error::system("thread", error))?;
            receiver.await.unwrap_or_else(|error| Err(Error::new(Class::Bug, error.to_string())))
        })
    }

    fn launch<T: Send + 'static, W, D, R, F>(&self, options: CallOptions, work: W, done: D, run: R) -> JobHandle
    where
        W: FnOnce(&Call) -> Result<T> + Send + 'static,
        D: FnOnce(Result<T>) + Send + 'static,
        R: FnOnce(Box<dyn FnOnce() -> Result<T> + Send>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        let limit = options.timeout.unwrap_or_else(|| self.now().kernel.tools.tool_timeout);
        let deadline = (!limit.is_zero()).then(|| Instant::now() + limit);
        let mut call = self.call();
        call.deadline = deadline;
        call.progress = options.progress;
        call.portion = options.portion;
        call.output = options.output;
        if let Some(cwd) = options.cwd {
            call.cwd = cwd;
        }
        let handle = JobHandle { cancel: call.cancel.clone(), wake: Arc::new(Notify::new()) };
        let (wake, cancel) = (Arc::clone(&handle.wake), call.cancel.clone());
        let pool = match self.pool() {
            Ok(pool) => pool,
            Err(error) => {
                done(Err(error));
                return handle;
            }
        };
        pool.spawn(async move {
            let job = run(Box::new(move || work(&call)));
            let over = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let result = tokio::select! {
                biased;
                result = job => result,
                () = wake.notified() => Err(Error::new(Class::Interrupted, "cancelled")),
                () = over => Err(Error::new(Class::Timeout, format!("no result within {}", humantime::format_duration(limit)))
                    .hint("Give it more time with a longer timeout.")),
            };
            cancel.cancel();
            done(result);
        });
        handle
    }

    /// The pool, started at its first use.
    fn pool(&self) -> Result<&Handle> {
        if self.pool.get().is_none() {
            let build = || {
                let mut builder = Builder::new_multi_thread();
                builder
                    .worker_threads(1)
                    .max_blocking_threads(2 * MOST_TOOLS)
                    .thread_name("llmspell-tools")
                    .enable_time()
                    .build()
            };
            // Where no thread can be had it panics rather than fail.
            let pool = std::panic::catch_unwind(build)
                .map_err(|_| Error::new(Class::System, "thread pool: no thread to be had"))?
                .map_err(|e| Error::system("thread pool", e))?;
            // Two first calls at once: one pool wins, the other goes unused.
            if let Err(unused) = self.pool.set(pool) {
                unused.shutdown_background();
            }
        }
        Ok(self.pool.get().expect("set above").handle())
    }
}

/// What this process takes, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// In memory now, with what it shares with others.
    pub resident: u64,
    /// Reserved for its data and stacks, in memory or not.
    pub private: u64,
}

/// Memory of this process; none where the system does not tell.
#[must_use]
pub fn memory() -> Option<Memory> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages = |at: usize| statm.split_ascii_whitespace().nth(at)?.parse::<u64>().ok();
    let size = rustix::param::page_size() as u64;
    Some(Memory { resident: pages(1)? * size, private: pages(5)? * size })
}

fn slots(config: &Config) -> usize {
    config.kernel.tools.max_concurrent_tools.clamp(1, MOST_TOOLS)
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.shutdown_background();
        }
    }
}

/// A tool that panicked is a bug of ours, and never the end of the kernel.
fn panicked(error: tokio::task::JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => told(panic),
        Err(error) => told(Box::new(error.to_string())),
    }
}

fn told(panic: Box<dyn std::any::Any + Send>) -> Error {
    let cause = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    Error::new(Class::Bug, format!("panicked: {cause}")).hint("Please report this with the call that caused it.")
}
