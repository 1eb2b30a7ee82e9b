//! Many kernels on one machine. No manager has to run: the folders are the registry, and every command reads them,
//! looks at the processes, acts and goes. [`watch`] adds restarts and probes; killing it changes nothing for a kernel.
//!
//! ```text
//! kernel/ID.pid, ID.json   what a kernel writes of itself: its number, identity and addresses
//! fleet/lock               held while names and ports are given out
//! fleet/claim/ID           held while ID is being started or stopped
//! fleet/group/NAME     held while a group or, as @NAME, a fleet of a file is changed
//! fleet/kept/ID.json   the addresses of a kernel that is ended and started again
//! fleet/wanted/ID.json     what the user wants: written by commands of the user only
//! fleet/state/ID.json      what happened: restarts, causes, the next attempt
//! ```

mod backoff;
mod cleanup;
mod export;
mod launch;
mod limits;
mod process;
mod restart;
mod spawn;
mod stop;
mod sys;
mod survey;
mod wanted;

pub mod apply;
pub mod desired;
pub mod logs;
pub mod metrics;
pub mod probe;
pub mod route;
pub mod serve;
pub mod watch;

pub use backoff::Backoff;
pub use cleanup::{abandoned, forget_kernel, forgettable};
pub use export::service;
pub use launch::{Launch, Ready};
pub use limits::Enforced;
pub use process::{Here, Process, Standing};
pub use restart::restart;
pub use spawn::{Order, Spawned, spawn};
pub use stop::{End, stop};
pub use survey::{Condition, Kernel, choose, survey};
pub use wanted::{Claim, Lock, Policy, SCHEMA, State, Wanted};

/// The first shell port that is given out.
pub const FIRST_PORT: u16 = 9555;
