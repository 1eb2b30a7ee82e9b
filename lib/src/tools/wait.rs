//! Waiting as a call may: for descriptors or a moment, but never past its deadline or a cancel. Nothing here polls.

use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Call;
use crate::error::{Error, Result};

/// A flag that stops a call, and a bell for those who wait; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    set: AtomicBool,
    /// Made when somebody first waits.
    bell: OnceLock<Option<(PipeReader, PipeWriter)>>,
}

impl Cancel {
    /// Stops the call at its next look, or at once where it waits.
    pub fn cancel(&self) {
        if !self.0.set.swap(true, Ordering::AcqRel) {
            self.ring();
        }
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    fn ring(&self) {
        if let Some(Some((_, bell))) = self.0.bell.get() {
            // One byte in an empty pipe does not block, and its end lives as long as we do.
            drop((&*bell).write_all(b"!"));
        }
    }

    /// Readable for good once cancelled.
    ///
    /// # Errors
    /// `System` when no descriptor is to be had.
    pub fn bell(&self) -> Result<BorrowedFd<'_>> {
        let bell = self.0.bell.get_or_init(|| std::io::pipe().ok());
        if self.is_cancelled() {
            self.ring();
        }
        match bell {
            Some((reader, _)) => Ok(reader.as_fd()),
            None => Err(Error::system("pipe", std::io::Error::last_os_error())),
        }
    }
}

impl Call {
    /// Waits until one of `sources` can be read (true) or `until` is over (false).
    ///
    /// # Errors
    /// `Interrupted`, `Timeout`: as [`Call::check`].
    pub(crate) fn readable_by(&self, sources: &[BorrowedFd<'_>], until: Option<Instant>) -> Result<bool> {
        let bell = self.cancel.bell()?;
        let mut fds: Vec<_> = sources.iter().chain([&bell]).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        loop {
            self.check()?;
            let end = [until, self.deadline].into_iter().flatten().min();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            // What the system cannot count is longer than anybody waits.
            let limit = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, limit.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) if fds[..sources.len()].iter().any(|fd| !fd.revents().is_empty()) => return Ok(true),
                Ok(_) => self.check()?,
                Err(error) => return Err(Error::system("poll", error.into())),
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                self.check()?;
                return Ok(false);
            }
        }
    }

    /// Does nothing for `pause`.
    ///
    /// # Errors
    /// As [`Call::check`].
    pub(crate) fn sleep(&self, pause: Duration) -> Result<()> {
        self.readable_by(&[], Instant::now().checked_add(pause)).map(drop)
    }

    /// The same call with at most `limit` of time.
    pub(crate) fn within(&self, limit: Duration) -> Call {
        let mut call = self.clone();
        if let Some(end) = Instant::now().checked_add(limit) {
            call.deadline = Some(call.deadline.map_or(end, |deadline| deadline.min(end)));
        }
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::security::{Grants, Policy};

    fn call() -> Call {
        Call::new(Arc::new(Policy::new(Grants { workdir: "/".into(), ..Grants::default() })))
    }

    #[test]
    fn a_cancel_ends_a_wait_at_once_whenever_it_comes() {
        let call = call();
        let cancel = call.cancel.clone();
        let thread = std::thread::spawn(move || call.sleep(Duration::from_secs(3600)).unwrap_err().class());
        cancel.cancel();
        assert_eq!(thread.join().unwrap(), Class::Interrupted);
        let early = self::call();
        early.cancel.cancel();
        assert_eq!(early.sleep(Duration::from_secs(3600)).unwrap_err().class(), Class::Interrupted);
    }

    #[test]
    fn waits_end_with_their_source_their_moment_or_the_deadline() {
        let call = call();
        let (reader, mut writer) = std::io::pipe().unwrap();
        assert!(!call.readable_by(&[reader.as_fd()], Some(Instant::now())).unwrap());
        writer.write_all(b"x").unwrap();
        assert!(call.readable_by(&[reader.as_fd()], None).unwrap());
        let short = call.within(Duration::from_millis(5));
        assert_eq!(short.sleep(Duration::MAX).unwrap_err().class(), Class::Timeout);
    }
}
