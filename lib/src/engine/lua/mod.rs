//! Lua 5.4.
//!
//! A state lives on its script thread. [`run`] knows the script that runs and the coroutines it is in, [`interrupt`] stops it,
//! [`wait`] is how it waits for work on other threads, [`fault`] how functions for scripts fail. [`stdlib`], [`output`],
//! [`coroutine`], [`debug`], [`file`] and [`process`] are the standard library as the policy allows it; then one file per global. [`completion`] and
//! [`inspect`] answer what may stand at a [`cursor`] and what is known of a name, by [`look`]ing and from the reference, [`api`], which
//! has a file for each global.

mod absent;
mod agent;
mod api;
mod callback;
mod ask;
mod comm;
mod complete;
mod completion;
mod coroutine;
mod cursor;
mod debug;
mod display;
mod expression;
mod fault;
mod file;
mod global_config;
mod global_debug;
mod global_logger;
mod global_state;
mod inspect;
mod interrupt;
mod json;
mod look;
mod output;
mod process;
mod records;
mod run;
mod show;
mod stdlib;
mod streaming;
mod suggest;
mod tool;
mod traceback;
mod wait;

#[cfg(test)]
mod tests;

mod state;

pub use state::Lua;
