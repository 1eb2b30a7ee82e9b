//! Drivers that are asynchronous, run to their end on the thread of the call: with its deadline, and at once over when it is
//! cancelled. Their connections are closed with them.

use std::future::Future;
use std::io;

use tokio::net::unix::pipe::Receiver;

use super::Call;
use crate::error::{Class, Error, Result};

/// Runs `work` until it is done or the call is over.
///
/// # Errors
/// `Timeout`, `Interrupted`, or those of `work`.
pub(super) fn wait<T>(call: &Call, work: impl Future<Output = Result<T>>) -> Result<T> {
    let fault = |e: io::Error| Error::system("runtime", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fault)?;
    let stop = call.cancel.fd().and_then(|fd| fd.try_clone_to_owned()).map_err(fault)?;
    runtime.block_on(async {
        let stop = Receiver::from_owned_fd(stop).map_err(fault)?;
        let over = async {
            match call.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.readable() => Err(Error::new(Class::Interrupted, "cancelled")),
            () = over => Err(Error::new(Class::Timeout, "time limit reached")),
            result = work => result,
        }
    })
}
