//! How the script thread waits for work that runs elsewhere: for its results, callbacks, or being stopped.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mlua::Lua;

use super::fault::Fault;
use super::run::Run;
use crate::error::{Class, Error};

/// Work for the script thread: Lua code that other threads want to be called.
pub(super) type Callback = Box<dyn FnOnce(&Lua) -> Result<(), Fault> + Send>;

enum Event<T> {
    Done(T),
    Call(Callback),
    /// Look whether the script is being stopped.
    Wake,
}

/// The other end of a wait.
pub(super) struct Queue<T> {
    sender: Sender<Event<T>>,
    room: Arc<Room>,
}

/// Callbacks that may wait for their turn; who has more waits itself.
const MOST: usize = 64;

/// Places for callbacks. A result needs none: who brings one may be a thread that others depend on.
#[derive(Default)]
struct Room {
    state: Mutex<RoomState>,
    changed: Condvar,
}

#[derive(Default)]
struct RoomState {
    taken: usize,
    closed: bool,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place; false when nobody listens any more.
    fn enter(&self) -> bool {
        let full = |state: &mut RoomState| state.taken >= MOST && !state.closed;
        let mut state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.taken += 1;
        !state.closed
    }

    fn leave(&self) {
        self.lock().taken -= 1;
        self.changed.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue { sender: self.sender.clone(), room: Arc::clone(&self.room) }
    }
}

impl<T> Queue<T> {
    /// The work is over. A wait that has ended meanwhile does not care.
    pub(super) fn done(&self, result: T) {
        self.sender.send(Event::Done(result)).ok();
    }

    /// Has `callback` run on the script thread, in order; waits only for a place in the queue. Whether anybody still listens.
    pub(super) fn call(&self, callback: Callback) -> bool {
        self.room.enter() && self.sender.send(Event::Call(callback)).is_ok()
    }
}

/// This end: of one result, or of many.
pub(super) struct Waiting<'a, T> {
    run: &'a Run,
    events: Receiver<Event<T>>,
    room: Arc<Room>,
}

impl<'a, T: Send + 'static> Waiting<'a, T> {
    /// A wait that the stop of `run` ends.
    pub(super) fn new(run: &'a Run) -> (Queue<T>, Self) {
        let (sender, events) = channel();
        let waker = sender.clone();
        run.shared.wake_by(Box::new(move || {
            waker.send(Event::Wake).ok();
        }));
        let room = Arc::<Room>::default();
        (Queue { sender, room: Arc::clone(&room) }, Waiting { run, events, room })
    }

    /// The next result; callbacks are served meanwhile. `None`: it is later than `until`.
    ///
    /// # Errors
    /// When the script is stopped, or by a callback that fails.
    pub(super) fn next(&self, lua: &Lua, until: Option<Instant>) -> Result<Option<T>, Fault> {
        loop {
            let event = match until {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => self.events.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Done(result)) => return Ok(Some(result)),
                Ok(Event::Call(callback)) => {
                    self.room.leave();
                    self.check()?;
                    callback(lua)?;
                }
                Ok(Event::Wake) => self.check()?,
                Err(RecvTimeoutError::Timeout) => {
                    self.check()?;
                    return Ok(None);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(Class::Bug, "work ended without a result").into());
                }
            }
        }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.run.shared.stopping() { Err(Fault::Stop) } else { Ok(()) }
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.run.shared.stop_waking();
        self.room.close();
    }
}

/// Starts work and waits for it. `start` answers how to cancel it, which is done when the script is stopped or a callback fails.
pub(super) fn wait<T: Send + 'static, C: FnOnce()>(
    lua: &Lua,
    run: &Run,
    start: impl FnOnce(Queue<T>) -> Result<C, Error>,
) -> Result<T, Fault> {
    let (queue, waiting) = Waiting::new(run);
    let cancel = start(queue)?;
    match waiting.next(lua, None) {
        Ok(Some(result)) => Ok(result),
        Ok(None) => Err(Error::new(Class::Bug, "work ended without a result").into()),
        Err(fault) => {
            cancel();
            Err(fault)
        }
    }
}
