//! llmspell: kernels that run scripts and tools as Unix services. This file is the map.
//!
//! The modules stand in import order: each uses only those above it (a test holds us to it). The programs in `bins/`
//! hold a flag table and a few lines that call in here.
//!
//! The life of a request: a client ([`client`]) frames and signs it ([`protocol`]); the kernel's io thread ([`kernel`])
//! verifies it and hands it on: to the script thread, which owns the engine ([`engine`]), to the control thread, which
//! never waits for a script, or to the tool pool ([`runtime`]), where [`tools`] validates, applies [`security`] and
//! runs. Whoever serves it says busy, its output, its reply and, last, idle.

// What everything uses.
pub mod error;
pub mod home;
pub mod units;
pub mod cli;
pub mod service;

// What is allowed and configured.
#[cfg(feature = "runtime")]
pub mod security;
#[cfg(feature = "runtime")]
pub mod config;
pub mod daemon;
#[cfg(feature = "runtime")]
pub mod log;

// Messages, and the side that asks.
pub mod protocol;
mod multipart;
pub mod client;

// What outlives a process.
#[cfg(feature = "runtime")]
pub mod store;
#[cfg(feature = "runtime")]
pub mod state;
#[cfg(feature = "runtime")]
pub mod checkpoint;

// The side that answers.
#[cfg(feature = "runtime")]
pub mod tools;
#[cfg(feature = "runtime")]
pub mod providers;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "runtime")]
pub mod agents;
#[cfg(feature = "runtime")]
pub mod engine;
#[cfg(feature = "runtime")]
pub mod doctor;
#[cfg(feature = "runtime")]
pub mod kernel;
#[cfg(feature = "runtime")]
pub mod kernelspec;

// Many kernels.
#[cfg(feature = "fleet")]
pub mod fleet;

#[cfg(all(feature = "runtime", any(test, feature = "fuzz")))]
#[doc(hidden)]
pub mod fuzz;
