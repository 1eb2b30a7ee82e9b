//! Keys out of the bytes of a terminal. The reader of crossterm loses those that come together with a new size.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Control(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Help,
    /// One that means nothing here.
    Other,
}

/// Takes the keys that are whole out of `bytes`.
pub(super) fn take(bytes: &mut Vec<u8>) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut at = 0;
    while let Some((key, length)) = first(&bytes[at..]) {
        keys.push(key);
        at += length;
    }
    bytes.drain(..at);
    keys
}

/// The first key and its length; nothing when there is only a part of one.
fn first(bytes: &[u8]) -> Option<(Key, usize)> {
    match bytes {
        [] => None,
        // What a terminal sends for a key comes in one piece; an escape that nothing follows was typed.
        [0x1b] => Some((Key::Escape, 1)),
        [0x1b, b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| (0x40..0x7f).contains(byte))?;
            Some((named(&rest[..end], rest[end]), end + 3))
        }
        [0x1b, b'O', letter, ..] => Some((named(&[], *letter), 3)),
        [0x1b, b'O'] => None,
        [0x1b, ..] => Some((Key::Escape, 1)),
        [b'\r' | b'\n', ..] => Some((Key::Enter, 1)),
        [0x7f | 0x08, ..] => Some((Key::Backspace, 1)),
        [0, ..] => Some((Key::Other, 1)),
        [low @ 1..0x20, ..] => Some((Key::Control(char::from(low + 0x60)), 1)),
        [lead, ..] => {
            let length = match lead {
                0xc2..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..0xf5 => 4,
                _ => 1,
            };
            let text = std::str::from_utf8(bytes.get(..length)?).ok().and_then(|text| text.chars().next());
            Some(text.map_or((Key::Other, 1), |letter| (Key::Char(letter), length)))
        }
    }
}

/// The key of an escape sequence.
fn named(parameters: &[u8], last: u8) -> Key {
    match (last, parameters.split(|byte| *byte == b';').next().unwrap_or_default()) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        (b'P', _) | (b'~', b"11") => Key::Help,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_keys() {
        let keys = |text: &[u8]| {
            let mut bytes = text.to_vec();
            (take(&mut bytes), bytes)
        };
        let whole = |text: &[u8]| {
            let (keys, rest) = keys(text);
            assert!(rest.is_empty(), "{text:?}: {rest:?}");
            keys
        };
        assert_eq!(whole(b"qQ/"), [Key::Char('q'), Key::Char('Q'), Key::Char('/')]);
        assert_eq!(whole("ü€".as_bytes()), [Key::Char('ü'), Key::Char('€')]);
        assert_eq!(whole(b"\x03\r\x7f\x1b"), [Key::Control('c'), Key::Enter, Key::Backspace, Key::Escape]);
        assert_eq!(whole(b"\x1b[A\x1b[1;5B\x1bOH\x1b[4~"), [Key::Up, Key::Down, Key::Home, Key::End]);
        assert_eq!(whole(b"\x1b[5~\x1b[6~\x1bOP\x1b[200~"), [Key::PageUp, Key::PageDown, Key::Help, Key::Other]);
        assert_eq!(whole(b"\x1bx\xff\xc3("), [Key::Escape, Key::Char('x'), Key::Other, Key::Other, Key::Char('(')]);
        assert_eq!(whole(b"\0"), [Key::Other]);
        for part in [&b"\x1b["[..], b"\x1b[1;", b"\x1bO", b"\xe2\x82"] {
            assert_eq!(keys(part), (Vec::new(), part.to_vec()));
        }
    }
}
