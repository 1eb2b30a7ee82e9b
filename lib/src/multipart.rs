//! Whole messages over a ZeroMQ socket. A signal that arrives in the middle neither loses nor cuts one, as it would with
//! the plain calls, which then return `EINTR` (zmq_msg_recv(3), zmq_msg_send(3)).

use zmq::{Error, Result, SNDMORE, Socket};

/// Receives a message; `flags` are those of its first frame.
pub(crate) fn receive(socket: &Socket, flags: i32) -> Result<Vec<Vec<u8>>> {
    let mut frames = vec![undisturbed(|| socket.recv_bytes(flags))?];
    // The rest of a message is there as soon as its first frame is.
    while socket.get_rcvmore()? {
        frames.push(undisturbed(|| socket.recv_bytes(0))?);
    }
    Ok(frames)
}

/// Sends a message.
pub(crate) fn send(socket: &Socket, frames: &[Vec<u8>], flags: i32) -> Result<()> {
    for (at, frame) in frames.iter().enumerate() {
        let more = if at + 1 < frames.len() { SNDMORE } else { 0 };
        undisturbed(|| socket.send(frame.as_slice(), flags | more))?;
    }
    Ok(())
}

fn undisturbed<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Error::EINTR) => {}
            result => return result,
        }
    }
}
