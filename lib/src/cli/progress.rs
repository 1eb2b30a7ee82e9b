//! The line of standard error that tells how far something is.

use std::io::{IsTerminal, Write};

/// Progress: on a terminal one line of standard error that is drawn again, elsewhere its last state.
#[derive(Default)]
pub struct Progress {
    /// Whether its line is on the terminal and not ended.
    drawn: bool,
}

impl Progress {
    /// Makes room for other output; true if there was a line.
    pub fn hide(&mut self) -> bool {
        let drawn = std::mem::take(&mut self.drawn);
        if drawn {
            let _ = std::io::stderr().write_all(b"\r\x1b[2K");
        }
        drawn
    }

    /// Draws `text` in place of the line; it stays when it has `ended`.
    pub fn draw(&mut self, text: &str, ended: bool) {
        let terminal = std::io::stderr().is_terminal();
        self.hide();
        if terminal || ended {
            let line = text.lines().next().unwrap_or_default();
            let _ = std::io::stderr().write_all(format!("{line}{}", if ended { "\n" } else { "" }).as_bytes());
        }
        self.drawn = terminal && !ended;
    }

    /// Leaves the line where it is.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = std::io::stderr().write_all(b"\n");
        }
    }
}
