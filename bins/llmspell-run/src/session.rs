//! What the two places in which a script can run have in common.

use llmspell::engine::{self, Completeness, Completions};
use llmspell::error::Result;
use llmspell::protocol::content::ErrorContent;
use serde_json::Value;

/// A script's text and what it is called.
pub(crate) struct Source {
    pub(crate) code: Vec<u8>,
    /// As Lua names chunks: `@FILE`, `=stdin`, `=-e`; none for what was typed at the console, which is numbered.
    pub(crate) name: Option<String>,
    /// `ARGS`.
    pub(crate) args: Option<engine::Args>,
}

/// Where scripts run: this process, or a kernel. What they print goes to our streams as it comes.
pub(crate) trait Session {
    /// Runs a script to its end.
    ///
    /// # Errors
    /// What is no fault of the script: the kernel went away, nobody reads our output.
    fn run(&mut self, source: &Source) -> Result<End>;

    /// The number of the next input.
    fn number(&self) -> u64;

    /// Whether `code` could be run as it stands.
    fn is_complete(&mut self, code: &str) -> Completeness;

    /// What may stand at the byte `cursor` of `code`.
    fn complete(&mut self, code: &str, cursor: usize) -> Completions;

    /// What is known of the name at the end of `code`; with `source`, its definition too.
    ///
    /// # Errors
    /// When it cannot be asked now.
    fn inspect(&mut self, code: &str, source: bool) -> Result<Option<String>>;

    /// Names and summaries of tools: of all, or of those that `words` find.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn tools(&mut self, words: &[String]) -> Result<Vec<Value>>;

    /// Forgets all that scripts have made.
    ///
    /// # Errors
    /// Where that is not ours to do.
    fn reset(&mut self) -> Result<()>;

    /// Where this is, for the greeting.
    fn place(&self) -> String;
}

/// How a script ended, wherever it ran.
#[derive(Default)]
pub(crate) struct End {
    pub(crate) value: Option<Value>,
    pub(crate) text: Option<String>,
    pub(crate) error: Option<ErrorContent>,
    pub(crate) exit: Option<u8>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// What the script wants to be the next input.
    pub(crate) next_input: Option<String>,
    /// Whether its output ends in the middle of a line.
    pub(crate) open_line: bool,
    /// Nobody reads our output any more.
    pub(crate) closed: bool,
}
