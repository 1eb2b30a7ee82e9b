//! How a call is stopped: a flag that is looked at, a descriptor that is waited on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// A flag that stops a call; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    set: AtomicBool,
    /// Made for the first who waits: the reading end of a pipe nobody writes to.
    reader: OnceLock<OwnedFd>,
    /// Closed to wake those who wait.
    writer: Mutex<Option<OwnedFd>>,
    /// Stopped with it.
    children: Mutex<Vec<Weak<Shared>>>,
}

impl Cancel {
    /// Stops the call: at its next look, or in the middle of a wait.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::SeqCst);
        drop(self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        let children = std::mem::take(&mut *self.0.children.lock().unwrap_or_else(PoisonError::into_inner));
        children.iter().filter_map(Weak::upgrade).for_each(|child| Cancel(child).cancel());
    }

    /// One that is stopped with this one, and can be stopped alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Cancel::default();
        {
            let mut children = self.0.children.lock().unwrap_or_else(PoisonError::into_inner);
            children.retain(|child| child.strong_count() > 0);
            children.push(Arc::downgrade(&child.0));
        }
        // Stopped before it was known, it was not told.
        if self.is_cancelled() {
            child.cancel();
        }
        child
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Becomes readable (end of file) once it is stopped.
    ///
    /// # Errors
    /// When no descriptor is to be had.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.reader.get().is_none() {
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
            // The lock is held: nobody else sets it, and `cancel` has either been or comes after.
            drop(self.0.reader.set(reading));
            *writer = (!self.0.set.load(Ordering::SeqCst)).then_some(writing);
        }
        Ok(self.0.reader.get().expect("set above").as_fd())
    }

    /// Waits until one of `fds` is ready, the call is stopped, or `deadline` is reached; what is ready of each.
    ///
    /// # Errors
    /// What the system said.
    pub fn poll(&self, fds: &[(BorrowedFd<'_>, PollFlags)], deadline: Option<Instant>) -> io::Result<Vec<PollFlags>> {
        let stop = (self.fd()?, PollFlags::IN);
        let mut all: Vec<_> =
            fds.iter().chain([&stop]).map(|(fd, what)| PollFd::from_borrowed_fd(*fd, *what)).collect();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // A day is a time that every clock can count; whoever waits looks again.
            let left = left.map(|left| left.min(Duration::from_secs(86_400)));
            match poll(&mut all, left.and_then(|left| Timespec::try_from(left).ok()).as_ref()) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(all.iter().take(fds.len()).map(PollFd::revents).collect()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_stopped_before_or_meanwhile() {
        let cancel = Cancel::default();
        let soon = Instant::now() + Duration::from_millis(5);
        cancel.poll(&[], Some(soon)).unwrap();
        assert!(Instant::now() >= soon);
        let other = cancel.clone();
        let waiter = std::thread::spawn(move || other.poll(&[], None).unwrap());
        cancel.cancel();
        assert!(waiter.join().unwrap().is_empty());
        cancel.poll(&[], None).unwrap();
        assert!(cancel.is_cancelled());
        let (before, after) = (Cancel::default(), Cancel::default());
        let (child, alone) = (before.child(), after.child());
        alone.cancel();
        assert!(!after.is_cancelled() && !child.is_cancelled());
        before.cancel();
        assert!(child.is_cancelled() && before.child().is_cancelled());
        before.poll(&[], None).unwrap();
    }
}
