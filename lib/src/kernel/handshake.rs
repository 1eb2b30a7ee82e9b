//! Telling the launcher where the kernel listens, when it left the choice to the kernel.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use zmq::{Context, DONTWAIT, POLLIN, PollItem, SocketType};

use super::sockets::zmq_error;
use crate::error::{Class, Error, Result};
use crate::multipart;
use crate::protocol::connection::Connection;
use crate::protocol::registration::Registration;

/// How long the launcher has to acknowledge.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends where `connection` listens and waits for the acknowledgement, unless one of `signals` comes first.
///
/// # Errors
/// `Timeout` when nobody acknowledges, `Interrupted` by a signal, `System`.
pub(super) fn register(
    context: &Context,
    registration: &Registration,
    connection: &Connection,
    signals: &[&OwnedFd],
) -> Result<()> {
    let endpoint = registration.endpoint();
    let failed = |error| zmq_error(&format!("registration at {endpoint}"), error);
    let socket = context.socket(SocketType::DEALER).map_err(failed)?;
    socket.set_linger(0).map_err(failed)?;
    socket.connect(&endpoint).map_err(failed)?;
    multipart::send(&socket, &registration.message(connection), 0).map_err(failed)?;
    let until = Instant::now() + PATIENCE;
    loop {
        let mut items = vec![socket.as_poll_item(POLLIN)];
        items.extend(signals.iter().map(|fd| PollItem::from_fd(fd.as_raw_fd(), POLLIN)));
        let left = until.saturating_duration_since(Instant::now());
        match zmq::poll(&mut items, left.as_micros().div_ceil(1000) as i64) {
            Ok(0) => {
                return Err(Error::new(Class::Timeout, format!("registration at {endpoint}: nobody acknowledges"))
                    .hint("Is the launcher that wrote the file still there?"));
            }
            Err(zmq::Error::EINTR) => continue,
            Err(error) => return Err(failed(error)),
            Ok(_) if items[1..].iter().any(|item| !item.get_revents().is_empty()) => {
                return Err(Error::new(Class::Interrupted, format!("registration at {endpoint}: interrupted")));
            }
            Ok(_) => {}
        }
        match multipart::receive(&socket, DONTWAIT) {
            Ok(frames) if registration.acknowledges(&frames) => return Ok(()),
            Ok(_) => log::warn!("registration at {endpoint}: an answer without the right signature is ignored"),
            Err(zmq::Error::EAGAIN) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
