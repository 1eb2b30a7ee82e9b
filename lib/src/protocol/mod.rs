//! The Jupyter wire protocol: bytes in, types out, no sockets.
//!
//! [`wire`] frames and signs (jupyter_client messaging 5.x, "The Wire Protocol"), [`content`] types what is inside,
//! [`connection`] is the file by which a client finds a kernel, [`registration`] the one by which a kernel finds who started
//! it. Whatever bytes come in, a message or an [`wire::Drop`]
//! goes out; never a panic.

pub mod connection;
pub mod content;
pub mod registration;
pub mod wire;

/// The version of the messaging specification that is spoken.
pub const VERSION: &str = "5.6";
