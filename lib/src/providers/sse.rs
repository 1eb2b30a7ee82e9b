//! Server-sent events (WHATWG HTML, 9.2), and lines of JSON, from bytes that arrive in any pieces.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// `event:`; empty when there was none.
    pub(super) kind: String,
    /// Lines of `data:`, joined.
    pub(super) data: String,
}

/// Longest line, in bytes: an image in base64 fits.
const LONGEST: usize = 64 << 20;

/// Splits bytes into events.
#[derive(Default)]
pub(super) struct Parser {
    /// Each line is an event's data.
    lines: bool,
    line: Vec<u8>,
    /// The last byte was a carriage return, so that a newline behind it ends nothing.
    carriage: bool,
    event: Event,
    any: bool,
}

impl Parser {
    /// For one JSON value a line instead of events.
    pub(super) fn of_lines() -> Self {
        Parser { lines: true, ..Parser::default() }
    }

    /// Whether it takes lines of JSON.
    pub(super) fn is_lines(&self) -> bool {
        self.lines
    }

    /// Takes `bytes` and hands over the events that are whole now; false when a line is too long to be true.
    pub(super) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> bool {
        for &byte in bytes {
            let after_carriage = std::mem::take(&mut self.carriage);
            match byte {
                b'\n' if after_carriage => {}
                b'\n' | b'\r' => {
                    self.carriage = byte == b'\r';
                    self.end_line(events);
                }
                byte if self.line.len() < LONGEST => self.line.push(byte),
                _ => return false,
            }
        }
        true
    }

    /// The bytes have come to an orderly end: what is left is an event, too.
    pub(super) fn end(&mut self, events: &mut Vec<Event>) {
        if !self.line.is_empty() {
            self.end_line(events);
        }
        self.dispatch(events);
    }

    fn end_line(&mut self, events: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
        if self.lines {
            if !line.trim().is_empty() {
                events.push(Event { kind: String::new(), data: line.to_owned() });
            }
            return;
        }
        if line.is_empty() {
            return self.dispatch(events);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if self.any {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.any = true;
            }
            "event" => value.clone_into(&mut self.event.kind),
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.any) {
            events.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        for piece in pieces {
            assert!(parser.feed(piece, &mut events));
        }
        parser.end(&mut events);
        events.into_iter().map(|event| (event.kind, event.data)).collect()
    }

    #[test]
    fn events_are_the_same_however_the_bytes_arrive() {
        let text = ": comment\r\nevent: a\r\ndata: {\"x\":\r\ndata:  \"é\u{1F600}\"}\r\n\r\nid: 1\rdata: b\r\rdata:c\n\ndata: last".as_bytes();
        let whole = parse(&[text]);
        let expected =
            [("a", "{\"x\":\n \"é\u{1F600}\"}"), ("", "b"), ("", "c"), ("", "last")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(whole, expected);
        for at in 0..text.len() {
            assert_eq!(parse(&[&text[..at], &text[at..]]), expected, "split at {at}");
        }
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(parse(&bytes), expected);
    }

    #[test]
    fn lines_of_json() {
        let (mut parser, mut events) = (Parser::of_lines(), Vec::new());
        assert!(parser.feed(b"{\"a\":1}\r\n\n{\"b\"", &mut events) && parser.feed(b":2}", &mut events));
        parser.end(&mut events);
        assert_eq!(events.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), ["{\"a\":1}", "{\"b\":2}"]);
    }
}
