//! Whose Ctrl-C is: the line editor's while a line is edited, from Enter on that of the script which is about to begin. What
//! the editor had no time for, as Enter was already in its buffer, is the script's too.

use std::sync::atomic::{AtomicBool, Ordering};

use llmspell::daemon::share_signal;
use llmspell::error::{Error, Result};
use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use signal_hook::consts::SIGINT;

/// Whether a line is edited.
static AT_PROMPT: AtomicBool = AtomicBool::new(false);
/// Whether there was one since the line was begun.
static EARLY: AtomicBool = AtomicBool::new(false);

/// The editor gets it only while it edits. Comes right after the editor has caught it.
pub(super) fn share() -> Result<()> {
    share_signal(SIGINT, || {
        EARLY.store(true, Ordering::SeqCst);
        AT_PROMPT.load(Ordering::SeqCst)
    })
}

/// Runs the editor. The keys that suspend and quit are no signals meanwhile: the editor knows how to suspend.
pub(super) fn at_prompt<R>(edit: impl FnOnce() -> R) -> Result<R> {
    let failed = |error: rustix::io::Errno| Error::system("terminal", error.into());
    let terminal = std::io::stdin();
    let before = tcgetattr(&terminal).map_err(failed)?;
    let mut editing = before.clone();
    // _POSIX_VDISABLE
    editing.special_codes[SpecialCodeIndex::VSUSP] = 0;
    editing.special_codes[SpecialCodeIndex::VQUIT] = 0;
    tcsetattr(&terminal, OptionalActions::Now, &editing).map_err(failed)?;
    EARLY.store(false, Ordering::SeqCst);
    back_to_prompt();
    let read = edit();
    leave_prompt();
    tcsetattr(&terminal, OptionalActions::Now, &before).map_err(failed)?;
    Ok(read)
}

/// Enter: from here on it is the script's.
pub(super) fn leave_prompt() {
    AT_PROMPT.store(false, Ordering::SeqCst);
}

/// The line goes on.
pub(super) fn back_to_prompt() {
    AT_PROMPT.store(true, Ordering::SeqCst);
}

/// Whether there was one, which is then forgotten.
pub(crate) fn take_early() -> bool {
    EARLY.swap(false, Ordering::SeqCst)
}
