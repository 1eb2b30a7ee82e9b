//! What the engine does, through its public face. `policy` and `tool` need a policy and a registry that work.

mod agent;
mod asking;
mod comm;
mod display;
mod errors;
mod interrupt;
mod language;
mod odd;
mod policy;
mod predecessor;
mod reference;
mod sandbox;
mod state;
mod tool;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Lua;
use crate::config::Config;
use crate::engine::{Args, Engine, Outcome, Output, Script, ScriptError, Stream};
use crate::error::{Class, Error, Result};
use crate::protocol::content::Display;
use crate::runtime::Runtime;
use crate::security::{Grants, Policy};

/// Keeps what was written, answers from a list.
#[derive(Default)]
pub(super) struct Kept {
    out: Mutex<Vec<u8>>,
    err: Mutex<Vec<u8>>,
    answers: Mutex<VecDeque<String>>,
    /// What was displayed, updates and clearing included, in order with the text written.
    shown: Mutex<Vec<String>>,
    /// Whether the other end has gone.
    closed: bool,
}

impl Output for Kept {
    fn write(&self, stream: Stream, bytes: &[u8]) -> Result<()> {
        if self.closed {
            return Err(Error::new(Class::System, "broken pipe"));
        }
        let kept = if stream == Stream::Stdout { &self.out } else { &self.err };
        kept.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn display(&self, display: &Display, update: bool) -> Result<()> {
        let display = serde_json::to_value(display).unwrap();
        let kind = if update { "update" } else { "display" };
        self.shown.lock().unwrap().push(format!("{kind} {display}"));
        self.write(Stream::Stdout, b"<display>")
    }

    fn clear(&self, wait: bool) -> Result<()> {
        self.shown.lock().unwrap().push(format!("clear {wait}"));
        Ok(())
    }

    fn input(&self, _: &str, _: bool) -> Result<Option<String>> {
        Ok(self.answers.lock().unwrap().pop_front())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned()
    }
}

fn runtime(workdir: &Path, change: impl FnOnce(&mut Config, &mut Grants)) -> Arc<Runtime> {
    let (mut config, mut grants) = (Config::default(), Grants { workdir: workdir.into(), ..Grants::default() });
    change(&mut config, &mut grants);
    Runtime::new(config, Policy::new(grants))
}

pub(super) fn engine() -> Lua {
    Lua::new(runtime(Path::new("/tmp"), |_, _| ())).unwrap()
}

fn script(code: &str) -> Script<'_> {
    Script { code: code.as_bytes(), name: "@t.lua".into(), ..Script::default() }
}

fn run(engine: &mut Lua, code: &str) -> (Outcome, String) {
    let kept = Arc::new(Kept::default());
    let outcome = engine.execute(&script(code), &(Arc::clone(&kept) as Arc<dyn Output>));
    (outcome, kept.text())
}

/// What `code` prints; it must end well.
fn prints(code: &str) -> String {
    let (outcome, text) = run(&mut engine(), code);
    assert!(outcome.error.is_none(), "{code}: {:?}", outcome.error);
    text
}

/// What `code` is worth, for people.
fn value(code: &str) -> String {
    let (outcome, _) = run(&mut engine(), code);
    assert!(outcome.error.is_none(), "{code}: {:?}", outcome.error);
    outcome.value.map_or_else(|| "nothing".into(), |value| value.text)
}

fn failure(code: &str) -> ScriptError {
    run(&mut engine(), code).0.error.unwrap_or_else(|| panic!("{code} ended well"))
}

fn soon(limit: Duration, what: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !what() {
        assert!(Instant::now() < end, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
