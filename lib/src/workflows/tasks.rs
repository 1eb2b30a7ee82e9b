//! What runs at the same time on one thread: futures over the tickets and timers of a host. A future that is dropped stops
//! what it waits for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Called, Context, Host, Stopped, Stopper};
use crate::error::{Class, Error, Result};

/// What is under way.
#[derive(Default)]
pub(super) struct Tasks {
    next: Cell<u64>,
    /// Results of those that somebody waits for; `None` while there is none.
    results: RefCell<HashMap<u64, Option<Result<Value>>>>,
    timers: RefCell<BTreeSet<(Instant, u64)>>,
    calls: RefCell<VecDeque<Call>>,
    /// Whether all of it should be looked at again at once.
    again: Cell<bool>,
}

/// A function of the script whose turn is to come.
struct Call {
    ticket: u64,
    function: usize,
    context: Rc<Context>,
    limit: Option<Duration>,
}

impl Tasks {
    /// Runs `work` to its end; the thread waits in the host where nothing can go on.
    pub(super) fn drive<T>(&self, host: &dyn Host, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut work = pin!(work);
        let mut context = task::Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(result) = work.as_mut().poll(&mut context) {
                return Ok(result);
            }
            // One function at a time, so that what ended meanwhile goes on in between.
            let call = loop {
                let call = self.calls.borrow_mut().pop_front();
                match call {
                    Some(call) if !self.results.borrow().contains_key(&call.ticket) => {}
                    other => break other,
                }
            };
            let mut until = None;
            if let Some(call) = call {
                let result = match host.call(call.function, &call.context, call.limit) {
                    Called::Value(value) => Ok(value),
                    Called::Failed(error) => Err(error),
                    Called::Stopped => return Err(Stopped),
                };
                self.arrived(call.ticket, result);
                until = Some(Instant::now());
            } else if self.again.take() {
                until = Some(Instant::now());
            } else if let Some((at, _)) = self.timers.borrow().first() {
                until = Some(*at);
            }
            // All that is there.
            while let Some((ticket, result)) = host.next(until)? {
                self.arrived(ticket, result);
                until = Some(Instant::now());
            }
        }
    }

    fn arrived(&self, ticket: u64, result: Result<Value>) {
        if let Some(waiting) = self.results.borrow_mut().get_mut(&ticket) {
            *waiting = Some(result);
        }
    }

    fn ticket(&self) -> u64 {
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        ticket
    }

    /// What `start` starts under the ticket it is given.
    pub(super) fn job(&self, start: impl FnOnce(u64) -> Stopper) -> impl Future<Output = Result<Value>> {
        let ticket = self.ticket();
        self.results.borrow_mut().insert(ticket, None);
        Job { tasks: self, ticket, stop: Some(start(ticket)) }
    }

    /// A call of a function of the script, once everything else that can be started was.
    pub(super) fn call(
        &self,
        function: usize,
        context: Rc<Context>,
        limit: Option<Duration>,
    ) -> impl Future<Output = Result<Value>> {
        let ticket = self.ticket();
        self.results.borrow_mut().insert(ticket, None);
        self.calls.borrow_mut().push_back(Call { ticket, function, context, limit });
        Job { tasks: self, ticket, stop: None }
    }

    /// A pause.
    pub(super) fn pause(&self, time: Duration) -> impl Future<Output = ()> {
        let until = Instant::now() + time;
        let key = (until, self.ticket());
        self.timers.borrow_mut().insert(key);
        Timer { tasks: self, key }
    }

    /// `work`, within `limit` if there is one.
    pub(super) async fn within<T>(&self, limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = limit else { return work.await };
        let (mut timer, mut work) = (pin!(self.pause(limit)), pin!(work));
        std::future::poll_fn(|context| {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            timer.as_mut().poll(context).map(|()| {
                Err(Error::new(Class::Timeout, format!("no result within {}", humantime::format_duration(limit))))
            })
        })
        .await
    }

    /// Lets the host have a look whether the whole is to end.
    pub(super) async fn breathe(&self) {
        let mut breathed = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut breathed, true) {
                return Poll::Ready(());
            }
            self.again.set(true);
            Poll::Pending
        })
        .await;
    }
}

struct Job<'a> {
    tasks: &'a Tasks,
    ticket: u64,
    stop: Option<Stopper>,
}

impl Future for Job<'_> {
    type Output = Result<Value>;

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut results = self.tasks.results.borrow_mut();
        if !matches!(results.get(&self.ticket), Some(Some(_))) {
            return Poll::Pending;
        }
        let result = results.remove(&self.ticket).flatten();
        drop(results);
        self.stop = None;
        result.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.tasks.results.borrow_mut().remove(&self.ticket);
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

struct Timer<'a> {
    tasks: &'a Tasks,
    key: (Instant, u64),
}

impl Future for Timer<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<()> {
        if Instant::now() >= self.key.0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.tasks.timers.borrow_mut().remove(&self.key);
    }
}

/// A future that cannot move.
pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs what `source` gives, at most `most` at the same time, until it has nothing more and all have ended. It is asked again
/// whenever one has ended. The first error ends all the others.
pub(super) async fn side_by_side<'a>(
    most: usize,
    mut source: impl FnMut() -> Option<Boxed<'a, Result<()>>>,
) -> Result<()> {
    let mut active: Vec<Boxed<'a, Result<()>>> = Vec::new();
    std::future::poll_fn(move |context| {
        loop {
            while active.len() < most
                && let Some(work) = source()
            {
                active.push(work);
            }
            let (before, mut failed) = (active.len(), None);
            // All of them, so that what has ended beside a failure is known.
            active.retain_mut(|work| match work.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => {
                    failed.get_or_insert(error);
                    false
                }
            });
            if let Some(error) = failed {
                active.clear();
                return Poll::Ready(Err(error));
            }
            if active.is_empty() && before == 0 {
                return Poll::Ready(Ok(()));
            }
            if active.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await
}
