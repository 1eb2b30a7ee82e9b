//! How the script thread waits for work that runs elsewhere: for its result, a callback, or being stopped.

use std::sync::mpsc::{SyncSender, sync_channel};

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
pub(super) struct Queue<T>(SyncSender<Event<T>>);

/// Callbacks that may wait for their turn; who has more waits itself.
const MOST: usize = 64;

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue(self.0.clone())
    }
}

impl<T> Queue<T> {
    /// The work is over. A wait that has ended meanwhile does not care.
    pub(super) fn done(&self, result: T) {
        self.0.send(Event::Done(result)).ok();
    }

    /// Has `callback` run on the script thread, in order; waits only for a place in the queue. Whether anybody still listens.
    pub(super) fn call(&self, callback: Callback) -> bool {
        self.0.send(Event::Call(callback)).is_ok()
    }
}

/// Starts work and waits for it. `start` answers how to cancel it, which is done when the script is stopped or a callback fails.
pub(super) fn wait<T: Send + 'static, C: FnOnce()>(
    lua: &Lua,
    run: &Run,
    start: impl FnOnce(Queue<T>) -> Result<C, Error>,
) -> Result<T, Fault> {
    /// Forgets the waker, also when a callback panics.
    struct Registered<'a>(&'a Run);
    impl Drop for Registered<'_> {
        fn drop(&mut self) {
            self.0.shared.stop_waking();
        }
    }
    let (sender, events) = sync_channel(MOST);
    let waker = sender.clone();
    run.shared.wake_by(Box::new(move || {
        // Where the queue is full, something else wakes.
        waker.try_send(Event::Wake).ok();
    }));
    let _registered = Registered(run);
    let cancel = start(Queue(sender))?;
    for event in events {
        let fault = match event {
            Event::Done(result) => return Ok(result),
            _ if run.shared.stopping() => Fault::Stop,
            Event::Wake => continue,
            Event::Call(callback) => match callback(lua) {
                Ok(()) => continue,
                Err(fault) => fault,
            },
        };
        cancel();
        return Err(fault);
    }
    Err(Error::new(Class::Bug, "work ended without a result").into())
}
