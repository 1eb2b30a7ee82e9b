//! Stopping a script that runs, from any thread, at no cost until it happens.
//!
//! [`Shared::interrupt`] sets a sticky flag and sends `SIGURG` to the script thread. The handler, on that thread, arms a hook
//! that fires at every instruction, as `lua.c` does; the hook raises until the top level has been reached and the flag is
//! cleared, so no `pcall` can swallow it. A hook left on a state that outlived its script takes itself off.
#![expect(unsafe_code, reason = "a signal handler and a Lua hook")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use mlua_sys as ffi;

use super::run;
use super::traceback;
use crate::daemon::no_restart;
use crate::engine::{Interrupt, Reason};
use crate::error::{Error, Result};

/// Why a script ends before its last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stop {
    /// From outside, by the user or because the kernel shuts down.
    Interrupt = 1,
    /// Its deadline passed.
    Deadline,
    /// It called `os.exit`.
    Exit,
    /// Nobody can read its output any more.
    Closed,
}

/// What other threads know of an engine.
#[derive(Default)]
pub(super) struct Shared {
    /// 0, or a [`Stop`]. Changed only under the lock and only while a script runs.
    stop: AtomicU8,
    running: Mutex<Option<Running>>,
    me: OnceLock<Weak<Shared>>,
}

struct Running {
    thread: libc::pthread_t,
    number: u64,
    since: Option<Instant>,
    wakers: Vec<Waker>,
}

/// Wakes the script thread where it waits in Rust.
pub(super) type Waker = Box<dyn Fn() + Send>;

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        let shared = Arc::new(Shared::default());
        shared.me.set(Arc::downgrade(&shared)).ok();
        shared
    }

    /// A script starts on this thread. Returns its number, by which its deadline knows it.
    pub(super) fn begin(&self) -> u64 {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // SAFETY: has no precondition.
        let thread = unsafe { libc::pthread_self() };
        *self.lock() = Some(Running { thread, number, since: None, wakers: Vec::new() });
        number
    }

    /// The script is over: from here on nothing reaches it, and nothing that was meant for it reaches the next.
    pub(super) fn end(&self) -> Option<Stop> {
        *self.lock() = None;
        let stop = self.stop();
        self.stop.store(0, Ordering::Release);
        stop
    }

    /// Why the script is being stopped, if it is.
    pub(super) fn stop(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Acquire) {
            1 => Some(Stop::Interrupt),
            2 => Some(Stop::Deadline),
            3 => Some(Stop::Exit),
            4 => Some(Stop::Closed),
            _ => None,
        }
    }

    /// Whether the script is being stopped. Safe in a signal handler.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire) != 0
    }

    /// Sets the flag from the script thread itself.
    pub(super) fn stop_here(&self, stop: Stop) {
        if let Some(running) = self.lock().as_mut() {
            self.set(running, stop);
        }
    }

    /// Until [`Shared::stop_waking`], `waker` is called when the script is told to stop; at once, if it already was.
    pub(super) fn wake_by(&self, waker: Waker) {
        if let Some(running) = self.lock().as_mut() {
            if self.stopping() {
                waker();
            }
            running.wakers.push(waker);
        }
    }

    /// Forgets the newest waker.
    pub(super) fn stop_waking(&self) {
        if let Some(running) = self.lock().as_mut() {
            running.wakers.pop();
        }
    }

    fn send(&self, stop: Stop, only: Option<u64>) {
        let mut guard = self.lock();
        let Some(running) = guard.as_mut().filter(|running| only.is_none_or(|number| number == running.number)) else {
            return;
        };
        self.set(running, stop);
        running.wakers.iter().for_each(|wake| wake());
        // SAFETY: the thread is alive: it cannot leave its script while we hold the lock. A signal that arrives after the
        // script's end finds the flag cleared.
        unsafe { libc::pthread_kill(running.thread, libc::SIGURG) };
        let number = running.number;
        drop(guard);
        // The signal may come just before a system call that waits: it is sent again until the script is over.
        if let (Some(me), Ok(timer)) = (self.me.get(), Timer::get()) {
            timer.add((Instant::now() + AGAIN, number, true), me.clone());
        }
    }

    /// The first reason stays.
    fn set(&self, running: &mut Running, stop: Stop) {
        if self.stop.compare_exchange(0, stop as u8, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            running.since = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interrupt for Shared {
    fn interrupt(&self, reason: Reason) {
        let stop = match reason {
            Reason::Interrupt | Reason::Shutdown => Stop::Interrupt,
            Reason::Deadline => Stop::Deadline,
        };
        self.send(stop, None);
    }

    fn pending_since(&self) -> Option<Instant> {
        self.lock().as_ref()?.since
    }
}

/// Makes this thread ready to be interrupted: the process has the handler, the thread lets the signal in.
pub(super) fn prepare() -> Result<()> {
    static INSTALLED: OnceLock<std::result::Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: `run::arm` is async-signal-safe: it reads a constant-initialised thread-local and atomics, and sets hooks.
        unsafe { signal_hook::low_level::register(libc::SIGURG, run::arm) }
            .and_then(|_| no_restart(libc::SIGURG))
            .map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    });
    installed.map_err(|number| Error::system("SIGURG", std::io::Error::from_raw_os_error(number)))?;
    // SAFETY: a signal set is plain data that `sigemptyset` initialises.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGURG);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
    Ok(())
}

/// Arms the hook on `state`.
///
/// # Safety
/// `state` is alive and belongs to this thread.
pub(super) unsafe fn arm(state: *mut ffi::lua_State) {
    // SAFETY: by contract.
    unsafe { ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, 1) };
}

/// Takes the hook off `state`.
///
/// # Safety
/// As [`arm`].
pub(super) unsafe fn disarm(state: *mut ffi::lua_State) {
    // SAFETY: by contract.
    unsafe { ffi::lua_sethook(state, None, 0, 0) };
}

/// Holds nothing that needs dropping when it raises.
unsafe extern "C-unwind" fn hook(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls this with its running state.
    unsafe {
        if run::stopping() {
            raise(state);
        } else {
            disarm(state);
        }
    }
}

/// Raises the error by which a stopped script unwinds. Scripts never get to see its value.
///
/// # Safety
/// `state` is the running state, in a C function or a hook; nothing on the Rust side of it needs dropping.
pub(super) unsafe fn raise(state: *mut ffi::lua_State) -> libc::c_int {
    // SAFETY: by contract; `lua_error` does not return.
    unsafe {
        traceback::record(state, 0, true);
        ffi::lua_pushstring(state, c"interrupted".as_ptr());
        ffi::lua_error(state)
    }
}

/// Ends a script at its deadline, unless it is dropped before.
pub(super) struct Alarm(Key);

/// When, for which script, and whether it was told before.
type Key = (Instant, u64, bool);

/// How long a script has to come to its end before it is signalled again.
const AGAIN: Duration = Duration::from_millis(20);

struct Timer {
    alarms: Mutex<BTreeMap<Key, Weak<Shared>>>,
    changed: Condvar,
}

impl Timer {
    /// The one timer, whose thread starts at the first deadline and sleeps until the next.
    fn get() -> Result<&'static Timer> {
        static TIMER: Timer = Timer { alarms: Mutex::new(BTreeMap::new()), changed: Condvar::new() };
        static STARTED: Mutex<bool> = Mutex::new(false);
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if !*started {
            std::thread::Builder::new()
                .name("llmspell-timer".into())
                .spawn(|| TIMER.serve())
                .map_err(|error| Error::system("timer thread", error))?;
            *started = true;
        }
        Ok(&TIMER)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Weak<Shared>>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: Key, shared: Weak<Shared>) {
        self.lock().insert(key, shared);
        self.changed.notify_one();
    }

    fn serve(&self) {
        let mut alarms = self.lock();
        loop {
            let Some((&(at, number, again), _)) = alarms.first_key_value() else {
                alarms = self.changed.wait(alarms).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let shared = alarms.pop_first().and_then(|(_, shared)| shared.upgrade());
                drop(alarms);
                if let Some(shared) = shared
                    && let Some(stop) = if again { shared.stop() } else { Some(Stop::Deadline) }
                {
                    shared.send(stop, Some(number));
                }
                alarms = self.lock();
            } else {
                alarms = self.changed.wait_timeout(alarms, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl Alarm {
    /// Stops script `number` of `shared` at `at`.
    pub(super) fn set(at: Instant, shared: &Arc<Shared>, number: u64) -> Result<Self> {
        let key = (at, number, false);
        Timer::get()?.add(key, Arc::downgrade(shared));
        Ok(Alarm(key))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Ok(timer) = Timer::get() {
            timer.lock().remove(&self.0);
        }
    }
}
