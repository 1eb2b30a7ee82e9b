//! Lua 5.4.
//!
//! A state lives on its script thread. [`run`] knows the script that runs and the coroutines it is in, [`interrupt`] stops it,
//! [`wait`] is how it waits for work on other threads, [`fault`] how functions for scripts fail. [`stdlib`], [`output`],
//! [`coroutine`] and [`process`] are the standard library as the policy allows it; then one file per global.

mod complete;
mod coroutine;
mod fault;
mod interrupt;
mod json;
mod output;
mod process;
mod run;
mod show;
mod stdlib;
mod tool;
mod traceback;
mod wait;

#[cfg(test)]
mod tests;

mod state;

pub use state::Lua;
