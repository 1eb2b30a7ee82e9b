//! The script that runs on this thread: what it was given, and the chain of coroutines it is in.
//!
//! The chain is a list of [`Frame`]s on the C stack, newest first, its head in a thread-local. A signal handler walks it, so
//! the head is constant-initialised and needs no destructor, and every frame is complete before it becomes the head.
#![expect(unsafe_code, reason = "frames live on the C stack and are reached by pointer, also from a signal handler")]

use std::cell::{Cell, OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use mlua_sys as ffi;

use super::interrupt::{self, Shared};
use super::traceback::Trace;
use crate::engine::{Output, Script};
use crate::error::Error;
use crate::runtime::Runtime;
use crate::security::Policy;

/// One script while it runs.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) output: Arc<dyn Output>,
    /// Relative paths start here.
    pub(super) cwd: PathBuf,
    /// The script's own folder, when it is a file: as its chunk name has it, perhaps relative.
    pub(super) folder: Option<PathBuf>,
    /// Whether `require` may read that folder whatever the policy says.
    own_folder: bool,
    /// Whether the user may be asked.
    pub(super) allow_stdin: bool,
    /// The line `print` puts together, kept for its capacity.
    pub(super) line: RefCell<Vec<u8>>,
    /// Where the error or the stop came from.
    pub(super) trace: RefCell<Option<Trace>>,
    /// The argument of `os.exit`.
    pub(super) exit: Cell<u8>,
    /// Why nothing can be written any more.
    pub(super) closed: RefCell<Option<Error>>,
    modules: OnceCell<Arc<Policy>>,
}

impl Run {
    pub(super) fn new(
        shared: &Arc<Shared>,
        runtime: &Arc<Runtime>,
        script: &Script<'_>,
        output: &Arc<dyn Output>,
    ) -> Rc<Self> {
        let folder = script.name.strip_prefix('@').map(|path| Path::new(path).parent().unwrap_or(Path::new("")).into());
        Rc::new(Run {
            shared: Arc::clone(shared),
            runtime: Arc::clone(runtime),
            output: Arc::clone(output),
            cwd: script.cwd.clone().unwrap_or_else(|| runtime.policy.workdir().to_path_buf()),
            folder,
            own_folder: script.own_folder,
            allow_stdin: script.allow_stdin,
            line: RefCell::default(),
            trace: RefCell::default(),
            exit: Cell::default(),
            closed: RefCell::default(),
            modules: OnceCell::new(),
        })
    }

    /// The script that runs on this thread; none while a state is opened, asked about code, or closed.
    pub(super) fn current() -> Option<Rc<Run>> {
        // SAFETY: every frame in the chain outlives its time as head, and its `run` came from an `Rc` that outlives the frame.
        unsafe {
            let frame = TOP.with(|top| top.load(Ordering::Relaxed)).as_ref()?;
            Rc::increment_strong_count(frame.run);
            Some(Rc::from_raw(frame.run))
        }
    }

    /// What `require` may read: also the configured folders, and the script's own if that is granted.
    pub(super) fn modules(&self) -> &Policy {
        self.modules.get_or_init(|| {
            let own = self.folder.iter().filter(|_| self.own_folder);
            let folders = own.chain(&self.runtime.config.engines.lua.package_paths);
            folders.fold(Arc::clone(&self.runtime.policy), |policy, folder| {
                Arc::new(policy.with_read(&self.cwd.join(folder)))
            })
        })
    }

    /// Tells the script to end for a reason of its own; the caller then raises.
    pub(super) fn stop(&self, code: interrupt::Stop) {
        self.shared.stop_here(code);
        arm();
    }
}

/// A state in which the script's code runs: its main one, or a coroutine that was resumed.
pub(super) struct Frame {
    state: *mut ffi::lua_State,
    run: *const Run,
    below: *const Frame,
}

thread_local! {
    static TOP: AtomicPtr<Frame> = const { AtomicPtr::new(ptr::null_mut()) };
}

impl Frame {
    /// A frame for `run` on its main state; [`Frame::enter`] makes it the head.
    pub(super) fn root(run: &Rc<Run>, state: *mut ffi::lua_State) -> Self {
        Frame { state, run: Rc::as_ptr(run), below: top() }
    }

    /// A frame for a coroutine of the script that runs; outside of one there is nothing to stop.
    pub(super) fn coroutine(state: *mut ffi::lua_State) -> Option<Self> {
        let below = top();
        // SAFETY: the head is alive.
        unsafe { below.as_ref() }.map(|frame| Frame { state, run: frame.run, below })
    }

    /// Runs `body` with this frame as the head. `body` must not leave by a Lua error.
    pub(super) fn enter<R>(&self, body: impl FnOnce() -> R) -> R {
        /// Takes the frame off again, also when `body` panics.
        struct Leave(*const Frame);
        impl Drop for Leave {
            fn drop(&mut self) {
                TOP.with(|top| top.store(self.0.cast_mut(), Ordering::Release));
            }
        }
        TOP.with(|top| top.store(ptr::from_ref(self).cast_mut(), Ordering::Release));
        let _leave = Leave(self.below);
        body()
    }
}

fn top() -> *const Frame {
    TOP.with(|top| top.load(Ordering::Acquire))
}

/// Whether the script that runs on this thread was told to end. Safe in a signal handler.
pub(super) fn stopping() -> bool {
    // SAFETY: the head and its run are alive.
    unsafe { top().as_ref().is_some_and(|frame| (*frame.run).shared.stopping()) }
}

/// Arms the hook on every state of the chain whose script was told to end. Called by the signal handler: no lock, no memory.
pub(super) fn arm() {
    let mut frame = top();
    // SAFETY: all frames of the chain are alive, so are their runs and states; `lua_sethook` is made to be called so.
    unsafe {
        while let Some(this) = frame.as_ref() {
            if (*this.run).shared.stopping() {
                interrupt::arm(this.state);
            }
            frame = this.below;
        }
    }
}

/// The states of the running script below the newest one, innermost first.
pub(super) fn resumers() -> impl Iterator<Item = *mut ffi::lua_State> {
    // SAFETY: as in `arm`; the iterator is used up before any frame leaves.
    let mut frame = unsafe { top().as_ref() };
    let run = frame.map(|frame| frame.run);
    std::iter::from_fn(move || {
        // SAFETY: as above.
        frame = frame.and_then(|this| unsafe { this.below.as_ref() }).filter(|below| Some(below.run) == run);
        frame.map(|frame| frame.state)
    })
}
