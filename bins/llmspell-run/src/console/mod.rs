//! The console: reads input at a terminal, runs it, shows its value, again and again.

mod commands;
mod ctrl_c;
mod editor;
mod keeper;

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use commands::{COMMANDS, KEYS};
pub(crate) use ctrl_c::take_early;
use editor::{Editor, Read};
use keeper::Keeper;
use llmspell::cli::{Talk, Target, is_closed_output, print, report};
use llmspell::error::{Class, Error, Result};
use llmspell::home::Home;

use crate::cli::Args;
use crate::here::Here;
use crate::session::{End, Session, Source};
use crate::there::There;
use crate::{PROGRAM, eprint, local};

/// Runs the console until its user ends it; the exit status.
pub(crate) fn run(args: &Args) -> Result<u8> {
    if args.json {
        return Err(Error::new(Class::Usage, "--json: the console is for people")
            .hint("Give it a script, or - for standard input."));
    }
    // First, as it catches Ctrl-C, which nobody did before.
    let mut editor = Editor::new(&Home::find()?, args.talk)?;
    let keeper = Keeper::new()?;
    let session: Rc<RefCell<dyn Session>> = match &args.target {
        Target::Unsaid => Rc::new(RefCell::new(Here::open(args, true)?)),
        Target::Kernel(id) => there(args, Some(id), &keeper)?,
        Target::File(_) => there(args, None, &keeper)?,
    };
    if args.talk != Talk::Quiet {
        print(&format!("{}\n.help tells what there is, Ctrl-D ends.\n", session.borrow().place()))?;
    }
    editor.ask(Rc::clone(&session));
    Console { session, editor, keeper, typed: Vec::new(), initial: String::new() }.run()
}

/// A kernel, of whose end the user is told at once.
fn there(args: &Args, id: Option<&str>, keeper: &Arc<Keeper>) -> Result<Rc<RefCell<dyn Session>>> {
    let file = match &args.target {
        Target::File(file) => Some(file.as_path()),
        _ => None,
    };
    let mut there = There::open(args, id, file)?;
    there.learn_count()?;
    let (keeper, file, name) = (Arc::clone(keeper), there.file.clone(), there.name().to_owned());
    let watch = move || {
        if llmspell::client::wait_for_end(&file).is_ok() {
            keeper.end(&Error::new(Class::Remote, format!("kernel {name}: went away")));
        }
    };
    std::thread::Builder::new().name("llmspell-watch".into()).spawn(watch).map_err(|e| Error::system("thread", e))?;
    Ok(Rc::new(RefCell::new(there)))
}

/// One sitting.
pub(crate) struct Console {
    session: Rc<RefCell<dyn Session>>,
    editor: Editor,
    keeper: Arc<Keeper>,
    /// What was run, for `.save`.
    typed: Vec<String>,
    /// What the next input begins as.
    initial: String,
}

/// Whether there is a next input.
pub(crate) enum Next {
    Go,
    /// The exit status.
    End(u8),
}

impl Console {
    fn run(mut self) -> Result<u8> {
        loop {
            let number = self.session.borrow().number();
            let initial = std::mem::take(&mut self.initial);
            let editor = &mut self.editor;
            let read = match self.keeper.at_prompt(|| editor.read(number, &initial)) {
                Ok(read) => read?,
                Err(end) => return end,
            };
            let next = match read {
                Read::Input(text) if text.trim().is_empty() => Ok(Next::Go),
                Read::Input(text) => self.input(&text),
                Read::Cleared => Ok(Next::Go),
                Read::End => Ok(Next::End(0)),
            };
            match next {
                Ok(Next::Go) => {}
                Ok(Next::End(status)) => return Ok(status),
                Err(error) if is_closed_output(&error) || error.class() == Class::Remote => return Err(error),
                Err(error) => report(PROGRAM, &error),
            }
        }
    }

    fn input(&mut self, text: &str) -> Result<Next> {
        if let Some(command) = commands::of(text) {
            return self.command(&command);
        }
        self.typed.push(text.to_owned());
        self.execute(&Source { code: text.as_bytes().to_vec(), name: None, args: None })
    }

    /// Runs a script and shows how it ended.
    fn execute(&mut self, source: &Source) -> Result<Next> {
        let end = self.session.borrow_mut().run(source)?;
        if end.closed {
            return Ok(Next::End(0));
        }
        self.show(end)
    }

    fn show(&mut self, end: End) -> Result<Next> {
        if end.open_line {
            print("\n")?;
        }
        if let Some(status) = end.exit {
            return Ok(Next::End(status));
        }
        if let Some(text) = end.text {
            print(&format!("{text}\n"))?;
        }
        if let Some(error) = end.error {
            let mut text = error.traceback.join("\n");
            if let (Some(hint), false) = (&error.hint, local::colours()) {
                text.push_str(&format!("\n{hint}"));
            }
            eprint(&format!("{text}\n"));
        }
        self.initial = end.next_input.unwrap_or_default();
        let _ = std::io::stdout().flush();
        Ok(Next::Go)
    }
}
