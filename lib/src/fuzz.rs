//! Bodies of the fuzz targets: any bytes in, never a panic. `fuzz/` wraps them for cargo-fuzz; the test below runs them on
//! `fuzz/corpus/` and on random changes of it.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::protocol::connection::{Channel, Connection};
use crate::protocol::content::{ErrorContent, InputReply, InputRequest, Request, StatusContent, StreamContent};
use crate::protocol::wire::{DELIMITER, Session, Signer};
use crate::security::{Grants, Policy, Profile};
use crate::tools::{Call, Registry};

/// The frames of a message, a line each, as they come from a socket.
pub fn wire(bytes: &[u8]) {
    let frames: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let signer = Signer::new("key");
    drop(signer.parse(frames.clone()));
    // What is behind the signature is only reached with a right one.
    let mut signed = frames.clone();
    if let Some(at) = signed.iter().position(|frame| frame == DELIMITER).filter(|at| at + 6 <= frames.len()) {
        signed[at + 1] = signer.sign(signed[at + 2..at + 6].iter().map(|frame| &frame[..])).into_bytes();
        if let Ok(message) = signer.parse(signed) {
            drop(Request::parse(&message));
            let answer = Session::new("key").frames(&message.identities, "x", Some(&message.header_json), &());
            assert!(signer.parse(answer.0).is_err(), "a content is an object");
            let answer =
                Session::new("key").frames_of(&message.identities, "x", Some(&message.header_json), b"{}".into());
            let answer = signer.parse(answer.0).expect("what is sent can be read");
            assert_eq!(answer.parent.msg_id, message.header.msg_id);
        }
    }
    if let Ok(message) = Signer::new("").parse(frames) {
        drop(Request::parse(&message));
    }
}

/// The content of a message of every type.
pub fn content(bytes: &[u8]) {
    const TYPES: &[&str] =
        &["execute", "is_complete", "interrupt", "shutdown", "tool", "status", "kernel_info", "other"];
    for name in TYPES {
        let header = format!(r#"{{"msg_id": "1", "msg_type": "{name}_request"}}"#);
        let [header, empty] = [header.into_bytes(), b"{}".to_vec()];
        let frames = vec![DELIMITER.to_vec(), Vec::new(), header, empty.clone(), empty, bytes.to_vec()];
        if let Ok(message) = Signer::new("").parse(frames) {
            drop(Request::parse(&message));
        }
    }
    drop(serde_json::from_slice::<ErrorContent>(bytes).map(|content| content.reply()));
    drop(serde_json::from_slice::<InputReply>(bytes));
    drop(serde_json::from_slice::<InputRequest>(bytes));
    drop(serde_json::from_slice::<StreamContent>(bytes));
    drop(serde_json::from_slice::<StatusContent>(bytes));
}

/// A connection file.
pub fn connection_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(connection) = Connection::parse(text) {
        for channel in Channel::ALL {
            drop((connection.endpoint(channel), connection.socket_file(channel)));
        }
        let _ = connection.is_alive();
        let again = serde_json::to_string(&connection).expect("a connection is JSON");
        assert!(Connection::parse(&again).is_ok(), "{again}");
    }
}

/// A configuration.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        crate::config::fuzz(text);
    }
}

/// Parameters of a tool: its name, a newline, JSON. The tool runs, where it can reach nothing.
pub fn tool_params(bytes: &[u8]) {
    static REGISTRY: LazyLock<(Registry, Arc<Policy>)> = LazyLock::new(|| {
        let workdir = PathBuf::from("/nonexistent");
        let policy = Policy::new(Grants { profile: Profile::Safe, workdir, ..Grants::default() });
        (Registry::new(), Arc::new(policy))
    });
    let Some((name, params)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n')) else { return };
    let Ok(params) = serde_json::from_str::<Value>(params) else { return };
    let (registry, policy) = &*REGISTRY;
    let mut call = Call::new(Arc::clone(policy));
    call.deadline = Some(Instant::now() + Duration::from_secs(1));
    drop(registry.invoke(name, params, &call));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::catch_unwind;
    use std::path::Path;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// xorshift64*
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
        }
    }

    const PIECES: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b":",
        b",",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\n",
        b"=",
        b"\\ud800",
        b"\0",
        b"\xff",
        "é".as_bytes(),
        "\u{10ffff}".as_bytes(),
        b"<IDS|MSG>",
        b"#",
        b"'",
        b"\"\"\"",
        b"0.1",
        b"%",
        b"..",
    ];

    fn change(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=dice.below(4) {
            let (from, to) = (dice.below(bytes.len() + 1), dice.below(bytes.len() + 1));
            let range = from.min(to)..from.max(to);
            match dice.below(6) {
                0 if !bytes.is_empty() => {
                    let at = dice.below(bytes.len());
                    bytes[at] ^= 1 << dice.below(8);
                }
                1 => drop(bytes.splice(from..from, PIECES[dice.below(PIECES.len())].iter().copied())),
                2 => drop(bytes.drain(range.start..range.end.min(range.start + 16))),
                3 => {
                    let copy = bytes[range].to_vec();
                    bytes.splice(to..to, copy);
                }
                4 => drop(bytes.splice(from..from, other[dice.below(other.len())..].iter().copied().take(64))),
                _ => bytes.truncate(from),
            }
            bytes.truncate(1 << 16);
        }
    }

    /// Every entry of the corpus and `count` changes of them. A failure names the seed; `LLMSPELL_FUZZ_SEED` runs it again.
    fn run(name: &str, target: fn(&[u8]), count: usize) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let corpus: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(corpus.len() > 2, "{name}: no corpus");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("LLMSPELL_FUZZ_SEED").map_or(now, |seed| seed.parse().unwrap());
        let mut dice = Dice(seed | 1);
        let attempt = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert!(catch_unwind(|| target(bytes)).is_ok(), "{name}: LLMSPELL_FUZZ_SEED={seed} input {text:?}");
        };
        corpus.iter().for_each(|bytes| attempt(bytes));
        for _ in 0..count {
            let mut bytes = corpus[dice.below(corpus.len())].clone();
            let at = dice.below(corpus.len());
            change(&mut dice, &mut bytes, &corpus[at]);
            attempt(&bytes);
        }
    }

    #[test]
    fn wire_takes_anything() {
        run("wire", wire, 20_000);
    }

    #[test]
    fn content_takes_anything() {
        run("content", content, 10_000);
    }

    #[test]
    fn connection_file_takes_anything() {
        run("connection_file", connection_file, 20_000);
    }

    #[test]
    fn config_takes_anything() {
        run("config", config, 3_000);
    }

    #[test]
    fn tool_params_take_anything() {
        run("tool_params", tool_params, 10_000);
    }
}
