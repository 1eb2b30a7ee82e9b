//! How long a conversation is, and how it is made to fit.
//!
//! What a service counts is only known once it has answered. Before, tokens are estimated from the text: four bytes of ASCII
//! or one other character each; the last answer's count corrects the estimate of the next request.

use crate::error::{Class, Error, Result};
use crate::providers::{Message, Part, Role, ToolDef};

/// About how many tokens `text` has.
#[must_use]
pub fn estimate(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let other = text.chars().filter(|c| !c.is_ascii()).count() as u64;
    ascii.div_ceil(4) + other
}

/// About how many a message has. A picture counts 1000, a document as its text would.
#[must_use]
pub fn estimate_message(message: &Message) -> u64 {
    let part = |part: &Part| match part {
        Part::Text { text } | Part::Reasoning { text, .. } => estimate(text),
        Part::ToolCall { name, arguments, .. } => estimate(name) + estimate(&arguments.to_string()) + 4,
        Part::ToolResult { content, .. } => estimate(content) + 4,
        Part::Image { .. } => 1000,
        Part::File { data, .. } => data.len() as u64 * 3 / 16,
    };
    4 + message.parts.iter().map(part).sum::<u64>()
}

/// About how many the tools of a request have.
#[must_use]
pub fn estimate_tools(tools: &[ToolDef]) -> u64 {
    let of = |tool: &ToolDef| estimate(&tool.description) + estimate(&tool.parameters.to_string()) + 8;
    tools.iter().map(of).sum()
}

/// Leaves the end of a conversation: at most `most` messages, beginning with one of the user.
pub fn shorten(messages: &mut Vec<Message>, most: usize) {
    let from = messages.len().saturating_sub(most);
    if from > 0 {
        let begin = messages.iter().skip(from).position(|message| message.role == Role::User);
        messages.drain(..begin.map_or(messages.len(), |at| from + at));
    }
}

/// What is said in a run: the conversation so far, and what is new.
#[derive(Debug, Default)]
pub(super) struct Talk {
    pub(super) system: Option<Message>,
    pub(super) history: Vec<Message>,
    pub(super) new: Vec<Message>,
    /// Tokens of the tools.
    pub(super) tools: u64,
    /// How many times more tokens the service counted than were estimated.
    pub(super) factor: f64,
}

impl Talk {
    /// All of it.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.system.iter().chain(&self.history).chain(&self.new).cloned().collect()
    }

    fn raw(&self) -> u64 {
        self.tools + self.system.iter().chain(&self.history).chain(&self.new).map(estimate_message).sum::<u64>()
    }

    /// About how many tokens it has.
    pub(super) fn tokens(&self) -> u64 {
        (self.raw() as f64 * self.factor).ceil() as u64
    }

    /// Learns from what the service counted for all of it.
    pub(super) fn counted(&mut self, tokens: u64) {
        if tokens > 0 {
            self.factor = (tokens as f64 / self.raw().max(1) as f64).clamp(0.25, 4.0);
        }
    }

    /// Takes away the oldest until at most `room` tokens are left; what of the conversation was taken away.
    pub(super) fn fit(&mut self, room: u64) -> Result<Vec<Message>> {
        let mut gone = Vec::new();
        while self.tokens() > room {
            if !self.history.is_empty() {
                // A question with all that answers it: a call without its result would be refused.
                let next = self.history.iter().skip(1).position(|message| message.role == Role::User);
                gone.extend(self.history.drain(..next.map_or(self.history.len(), |at| at + 1)));
            } else if !self.forget_result() {
                let text =
                    format!("about {} tokens do not fit into its window, of which {room} are for them", self.tokens());
                return Err(Error::new(Class::Usage, text).hint("Say less, or set a larger context_window."));
            }
        }
        Ok(gone)
    }

    /// Leaves out the oldest long result of a tool that the model has answered already.
    fn forget_result(&mut self) -> bool {
        const SHORT: usize = 200;
        let answered = self.new.iter().rposition(|message| message.role == Role::Assistant).unwrap_or(0);
        let results = self.new[..answered].iter_mut().flat_map(|message| &mut message.parts);
        for part in results {
            if let Part::ToolResult { content, .. } = part
                && content.len() > SHORT
            {
                *content = format!("[left out to save room: {} bytes]", content.len());
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(role: Role, text: &str) -> Message {
        Message::text(role, text)
    }

    #[test]
    fn estimates_are_near_what_is_known() {
        // As cl100k counts them: 10, and 9.
        assert!((8..=14).contains(&estimate("The quick brown fox jumps over the lazy dog.")));
        assert!((5..=12).contains(&estimate("今日は良い天気です")));
        assert_eq!(estimate(""), 0);
    }

    #[test]
    fn a_short_end_begins_with_a_question() {
        let call = Message {
            role: Role::Assistant,
            parts: vec![Part::ToolCall { id: "1".into(), name: "x".into(), arguments: ().into(), blob: None }],
        };
        let mut all =
            vec![say(Role::User, "a"), call, say(Role::Tool, "r"), say(Role::User, "b"), say(Role::Assistant, "c")];
        shorten(&mut all, 4);
        assert_eq!(all.iter().map(Message::plain).collect::<String>(), "bc");
        shorten(&mut all, 5);
        assert_eq!(all.len(), 2);
        shorten(&mut all, 0);
        assert!(all.is_empty());
    }

    #[test]
    fn the_oldest_goes_first_and_calls_stay_with_their_results() {
        let long = "word ".repeat(400);
        let mut talk = Talk { factor: 1.0, ..Talk::default() };
        for _ in 0..3 {
            talk.history.extend([say(Role::User, &long), say(Role::Tool, &long), say(Role::Assistant, "fine")]);
        }
        talk.new.push(say(Role::User, "now"));
        let gone = talk.fit(1300).unwrap();
        assert_eq!((gone.len(), talk.history.len()), (6, 3));
        assert_eq!(talk.history[0].role, Role::User);
        talk.counted(talk.tokens() * 2);
        assert_eq!(talk.fit(1300).unwrap().len(), 3);
        let result = Part::ToolResult { id: "1".into(), name: "x".into(), content: long.clone(), is_error: false };
        talk.new.extend([
            Message { role: Role::Tool, parts: vec![result] },
            say(Role::Assistant, "then"),
            say(Role::Tool, "x"),
        ]);
        assert!(talk.fit(200).unwrap().is_empty());
        assert!(talk.tokens() <= 200);
        talk.new.push(say(Role::User, &long));
        assert_eq!(talk.fit(200).unwrap_err().class(), Class::Usage);
    }
}
