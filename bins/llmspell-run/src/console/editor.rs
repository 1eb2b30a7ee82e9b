//! The line editor: rustyline, asking the session what is complete and what may stand at the cursor.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use llmspell::cli::Talk;
use llmspell::engine::Completeness;
use llmspell::error::{Class, Error, Result};
use llmspell::home::{Home, private_dir, write_private};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ColorMode, CompletionType, ConditionalEventHandler, Config, Context, Event, EventContext, EventHandler,
    Helper, KeyCode, KeyEvent, Modifiers, RepeatCount,
};

use super::{commands, ctrl_c};
use crate::session::Session;
use crate::{eprint_line, local};

/// Inputs that are kept.
const KEPT: usize = 10_000;

thread_local! {
    /// For the handler of the Enter key, which must be `Send` although it is only called on this thread.
    static SESSION: RefCell<Option<Rc<RefCell<dyn Session>>>> = const { RefCell::new(None) };
}

pub(super) struct Editor {
    editor: rustyline::Editor<Asking, DefaultHistory>,
    /// Where the history is kept, if it can be.
    history: Option<PathBuf>,
    told: bool,
}

/// What was read.
pub(super) enum Read {
    Input(String),
    /// Nothing: Ctrl-C.
    Cleared,
    /// Ctrl-D.
    End,
}

impl Editor {
    /// Takes the terminal. Comes before everything that catches Ctrl-C, as rustyline catches it too, for other ends.
    pub(super) fn new(home: &Home, talk: Talk) -> Result<Self> {
        let broken = |error: ReadlineError| Error::new(Class::System, format!("terminal: {error}"));
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .color_mode(if local::colours() { ColorMode::Enabled } else { ColorMode::Disabled })
            // Ctrl-C is a signal also at the prompt, so that one which is typed just behind Enter reaches the script.
            .enable_signals(true)
            .max_history_size(KEPT)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(broken)?
            .build();
        let mut editor = rustyline::Editor::with_config(config).map_err(broken)?;
        ctrl_c::share()?;
        for enter in [KeyEvent(KeyCode::Enter, Modifiers::NONE), KeyEvent::ctrl('J')] {
            editor.bind_sequence(enter, EventHandler::Conditional(Box::new(Enter)));
        }
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), EventHandler::Simple(Cmd::Newline));
        let file = home.history_file();
        let ready = private_dir(home.root()).and_then(|()| match file.exists() {
            true => editor
                .load_history(&file)
                .map_err(|error| Error::new(Class::System, format!("{}: {error}", file.display()))),
            false => write_private(&file, b""),
        });
        let history = match ready {
            Ok(()) => Some(file),
            Err(error) => {
                if talk != Talk::Quiet {
                    eprint_line(&format!("warning: the history is not kept: {error}"));
                }
                None
            }
        };
        Ok(Editor { editor, history, told: false })
    }

    /// From now on `session` is asked what is complete, and what may stand at the cursor.
    pub(super) fn ask(&mut self, session: Rc<RefCell<dyn Session>>) {
        self.editor.set_helper(Some(Asking { session: Rc::clone(&session), files: FilenameCompleter::new() }));
        SESSION.with(|slot| slot.replace(Some(session)));
    }

    /// Reads input number `number`, which begins as `initial`.
    pub(super) fn read(&mut self, number: u64, initial: &str) -> Result<Read> {
        let read = ctrl_c::at_prompt(|| self.editor.readline_with_initial(&format!("[{number}]> "), (initial, "")))?;
        let input = match read {
            Ok(input) => input,
            Err(ReadlineError::Interrupted) => {
                if !std::mem::replace(&mut self.told, true) {
                    llmspell::cli::print("Ctrl-D or .quit ends.\n")?;
                }
                return Ok(Read::Cleared);
            }
            Err(ReadlineError::Eof) => return Ok(Read::End),
            Err(ReadlineError::Signal(_)) => return Ok(Read::Cleared),
            Err(error) => return Err(Error::new(Class::System, format!("terminal: {error}"))),
        };
        let is_new = !input.trim().is_empty() && self.editor.add_history_entry(&input).unwrap_or(false);
        if let (true, Some(file)) = (is_new, &self.history)
            && let Err(error) = self.editor.append_history(file)
        {
            eprint_line(&format!("warning: the history is not kept: {}: {error}", file.display()));
            self.history = None;
        }
        Ok(Read::Input(input))
    }

    /// Empties the screen.
    pub(super) fn clear_screen(&mut self) {
        let _ = self.editor.clear_screen();
    }
}

impl Drop for Editor {
    /// The engine may not go with the thread's own values, which it uses.
    fn drop(&mut self) {
        SESSION.with(|slot| slot.take());
    }
}

/// Enter runs what is complete, and otherwise begins a line as far to the right as it belongs.
struct Enter;

impl ConditionalEventHandler for Enter {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        let code = context.line();
        if code.trim().is_empty() || commands::of(code).is_some() {
            ctrl_c::leave_prompt();
            return Some(Cmd::AcceptLine);
        }
        let session = SESSION.with(|slot| slot.borrow().clone())?;
        ctrl_c::leave_prompt();
        let completeness = session.borrow_mut().is_complete(code);
        Some(match completeness {
            _ if ctrl_c::take_early() => Cmd::Interrupt,
            Completeness::Incomplete(indent) => {
                ctrl_c::back_to_prompt();
                Cmd::Insert(1, format!("\n{indent}"))
            }
            // In the middle of a block that is complete a line is put in.
            _ if code[context.pos()..].contains('\n') => {
                ctrl_c::back_to_prompt();
                Cmd::Newline
            }
            _ => Cmd::AcceptLine,
        })
    }
}

struct Asking {
    session: Rc<RefCell<dyn Session>>,
    files: FilenameCompleter,
}

impl Completer for Asking {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let pair = |text: String| Pair { display: text.clone(), replacement: text };
        let before = &line[..position];
        // Where nothing is begun, TAB indents.
        if before.rsplit('\n').next().is_some_and(|line| line.trim().is_empty()) {
            return Ok((position, vec![pair("  ".into())]));
        }
        if let Some(command) = before.strip_prefix('.') {
            return match command.split_once(char::is_whitespace) {
                None => {
                    let names = commands::names().filter(|name| name.starts_with(command));
                    Ok((1, names.map(|name| pair(format!("{name} "))).collect()))
                }
                Some(("load" | "save", _)) => self.files.complete_path(line, position),
                Some(("inspect" | "source", name)) => Ok(self.names(name, position - name.len())),
                Some(_) => Ok((position, Vec::new())),
            };
        }
        let found = self.session.borrow_mut().complete(line, position);
        Ok((found.start, found.items.into_iter().map(|item| pair(item.text)).collect()))
    }
}

impl Asking {
    /// Completions of `code`, which starts at `offset` of the line.
    fn names(&self, code: &str, offset: usize) -> (usize, Vec<Pair>) {
        let found = self.session.borrow_mut().complete(code, code.len());
        let pairs = found.items.into_iter().map(|item| Pair { display: item.text.clone(), replacement: item.text });
        (offset + found.start, pairs.collect())
    }
}

impl Highlighter for Asking {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Owned(format!("\x1b[1;32m{prompt}\x1b[0m"))
    }
}

impl Hinter for Asking {
    type Hint = String;
}

impl Validator for Asking {}

impl Helper for Asking {}
