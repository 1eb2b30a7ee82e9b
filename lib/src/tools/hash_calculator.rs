//! `hash_calculator`: digests of texts and files, and whether they are the expected ones.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::digest::DynDigest;

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, required};
use crate::error::{Class, Error, Result};

/// The hash calculator.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "hash_calculator",
    aliases: &["hash", "checksum"],
    category: "utility",
    summary: "calculate or verify SHA-2, SHA-1, MD5 and BLAKE3 digests of texts and files",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles],
    spellings: &[
        Spelling::Param("expected", "expected_hash"),
        Spelling::Param("path", "file"),
        Spelling::Param("file_path", "file"),
        Spelling::Value("input_type", "text", "string"),
    ],
    examples: &[
        example(
            "SHA-256 of a text",
            r#"{"operation": "hash", "input": "abc"}"#,
            r#"{"algorithm": "SHA-256", "hash": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "format": "hex"}"#,
        ),
        example(
            "MD5 in base64",
            r#"{"operation": "hash", "algorithm": "md5", "input": "abc", "format": "base64"}"#,
            r#"{"algorithm": "MD5", "hash": "kAFQmDzST7DWlj99KOF/cg=="}"#,
        ),
        example(
            "verify; upper case is the same",
            r#"{"operation": "verify", "algorithm": "sha-1", "input": "abc", "expected_hash": "A9993E364706816ABA3E25717850C26C9CD0D89D"}"#,
            r#"{"algorithm": "SHA-1", "verified": true}"#,
        ),
    ],
};

/// Bytes read at once.
const CHUNK: usize = 1 << 16;
/// Chunks between two lines of progress: 64 MiB.
const REPORT: u64 = 1 << 10;

/// Calculates the digest of a text (its UTF-8 bytes) or of a file, or compares it with the expected one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Calculate, or calculate and compare.
    operation: Operation,
    /// Which digest. MD5 and SHA-1 only tell accidents from the original, not attacks.
    #[serde(default)]
    algorithm: Algorithm,
    /// What to hash; `file` when only `file` is given, else `string`.
    input_type: Option<InputType>,
    /// The text.
    input: Option<String>,
    /// The file.
    file: Option<String>,
    /// How to write the digest.
    #[serde(default)]
    format: Format,
    /// The digest to compare with; needed to verify.
    expected_hash: Option<String>,
    /// How `expected_hash` is written.
    #[serde(default)]
    expected_format: Format,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    Hash,
    Verify,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Algorithm {
    Md5,
    Sha1,
    Sha224,
    #[default]
    Sha256,
    Sha384,
    Sha512,
    Blake3,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum InputType {
    String,
    File,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Format {
    #[default]
    Hex,
    Base64,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha1 => "SHA-1",
            Algorithm::Sha224 => "SHA-224",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha384 => "SHA-384",
            Algorithm::Sha512 => "SHA-512",
            Algorithm::Blake3 => "BLAKE3",
        }
    }

    fn hasher(self) -> Hasher {
        Hasher::Digest(match self {
            Algorithm::Md5 => Box::<md5::Md5>::default(),
            Algorithm::Sha1 => Box::<sha1::Sha1>::default(),
            Algorithm::Sha224 => Box::<sha2::Sha224>::default(),
            Algorithm::Sha256 => Box::<sha2::Sha256>::default(),
            Algorithm::Sha384 => Box::<sha2::Sha384>::default(),
            Algorithm::Sha512 => Box::<sha2::Sha512>::default(),
            Algorithm::Blake3 => return Hasher::Blake3(Box::default()),
        })
    }
}

/// A digest under way; BLAKE3 has traits of its own.
enum Hasher {
    Digest(Box<dyn DynDigest>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Digest(digest) => digest.update(bytes),
            Hasher::Blake3(hasher) => _ = hasher.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Hasher::Digest(digest) => digest.finalize().into_vec(),
            Hasher::Blake3(hasher) => hasher.finalize().as_bytes().to_vec(),
        }
    }
}

/// Calculates or verifies.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let digest = digest(&params, call)?;
    let name = params.algorithm.name();
    match params.operation {
        Operation::Hash => {
            let (hash, format) = match params.format {
                Format::Hex => (hex(&digest), "hex"),
                Format::Base64 => (STANDARD.encode(&digest), "base64"),
            };
            let result = json!({"algorithm": name, "hash": hash, "format": format});
            Ok(Answer::new("hash", result).message(format!("Calculated {name} hash")).text(hash))
        }
        Operation::Verify => {
            let expected = required(params.expected_hash, "expected_hash")?;
            let write = |bytes: &[u8]| match params.expected_format {
                Format::Hex => hex(bytes),
                Format::Base64 => STANDARD.encode(bytes),
            };
            let wanted = match params.expected_format {
                Format::Hex => unhex(expected.trim()),
                Format::Base64 => STANDARD.decode(expected.trim()).ok(),
            };
            let wanted = wanted.filter(|wanted| wanted.len() == digest.len()).ok_or_else(|| {
                let written = write(&digest);
                Error::new(Class::Usage, format!("expected_hash: not a {name} digest of {} characters", written.len()))
            })?;
            Ok(if wanted == digest {
                Answer::new("verify", json!({"algorithm": name, "verified": true}))
                    .message("Hash verification successful")
            } else {
                let (expected, actual) = (write(&wanted), write(&digest));
                Answer::new(
                    "verify",
                    json!({"algorithm": name, "verified": false, "expected": expected, "actual": actual}),
                )
                .message("Hash verification failed")
            })
        }
    }
}

fn digest(params: &Params, call: &Call) -> Result<Vec<u8>> {
    let mut hasher = params.algorithm.hasher();
    let from_file = match params.input_type {
        Some(kind) => matches!(kind, InputType::File),
        None if params.file.is_some() && params.input.is_some() => {
            return Err(
                Error::new(Class::Usage, "file: given together with input").hint("Say which one with input_type.")
            );
        }
        None => params.file.is_some(),
    };
    if !from_file {
        hasher.update(required(params.input.as_ref(), "input")?.as_bytes());
        return Ok(hasher.finish());
    }
    // The predecessor's scripts give the path as `file`, some as `input`.
    let path = required(params.file.as_ref().or(params.input.as_ref()), "file")?;
    let mut file = call.open(path)?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut buffer = vec![0; CHUNK];
    let mut chunks = 0;
    loop {
        call.check()?;
        let count = file.read(&mut buffer).map_err(|e| Error::io(path, e))?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
        chunks += 1;
        let done = chunks * CHUNK as u64;
        call.portion(done, size);
        // Who draws a bar needs no lines.
        if call.portion.is_none() && chunks % REPORT == 0 {
            call.progress(format!("{path}: {} of {} MiB", done >> 20, size >> 20));
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use crate::security::{Grants, Policy, Profile};
    use std::sync::{Arc, Mutex};

    #[test]
    fn files_are_streamed_verified_and_checked_by_the_policy() {
        let dir = tempfile::tempdir().unwrap();
        let size = 65 * CHUNK as u64;
        std::fs::File::create(dir.path().join("zeros")).unwrap().set_len(size).unwrap();
        let workdir = dir.path().to_path_buf();
        let read = vec![workdir.clone()];
        let grants = Grants { profile: Profile::Safe, workdir, read, ..Grants::default() };
        let mut call = Call::new(Arc::new(Policy::new(grants)));
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&told);
        call.portion = Some(Arc::new(move |done, total| listener.lock().unwrap().push((done, total))));
        let run = |params| Registry::new().invoke("hash_calculator", params, &call);
        let expected = hex(&blake3::hash(&vec![0; usize::try_from(size).unwrap()]).as_bytes()[..]);
        let hashed = run(json!({"operation": "hash", "algorithm": "BLAKE3", "file": "zeros"})).unwrap();
        assert_eq!((&hashed["result"]["hash"], &hashed["text"]), (&json!(expected), &json!(expected)));
        let told = told.lock().unwrap().clone();
        assert_eq!((told.len(), told.last()), (65, Some(&(size, size))));
        let wrong = "0".repeat(64);
        let params = json!({
            "operation": "verify", "algorithm": "blake3", "input_type": "file", "input": "zeros", "expected_hash": wrong,
        });
        let verified = run(params).unwrap()["result"].take();
        assert_eq!(verified, json!({"algorithm": "BLAKE3", "verified": false, "expected": wrong, "actual": expected}));
        for (params, class) in [
            (json!({"operation": "hash", "file": "/etc/passwd"}), Class::Denied),
            (json!({"operation": "hash", "algorithm": "sha3", "input": "x"}), Class::Usage),
            (json!({"operation": "verify", "input": "x", "expected_hash": "abc"}), Class::Usage),
            (json!({"operation": "verify", "input": "x"}), Class::Usage),
            (json!({"operation": "hash", "input": "x", "file": "zeros"}), Class::Usage),
        ] {
            assert_eq!(run(params.clone()).unwrap_err().class(), class, "{params}");
        }
        call.cancel.cancel();
        let error = Registry::new()
            .invoke("hash_calculator", json!({"operation": "hash", "file": "zeros"}), &call)
            .unwrap_err();
        assert_eq!(error.class(), Class::Interrupted);
    }

    fn hash(algorithm: Algorithm, text: &str) -> String {
        let mut hasher = algorithm.hasher();
        hasher.update(text.as_bytes());
        hex(&hasher.finish())
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        // RFC 1321 A.5, RFC 3174 7.3, FIPS 180-4 examples (NIST), BLAKE3 test_vectors.json (input_len 0).
        assert_eq!(hash(Algorithm::Md5, "message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        assert_eq!(hash(Algorithm::Sha1, "abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hash(Algorithm::Sha224, "abc"), "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7");
        assert_eq!(hash(Algorithm::Sha256, "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            hash(Algorithm::Sha384, "abc"),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
        );
        assert_eq!(
            hash(Algorithm::Sha512, "abc"),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
        assert_eq!(hash(Algorithm::Blake3, ""), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }

    #[test]
    fn hexadecimal_goes_both_ways() {
        assert_eq!(unhex("00fFa0"), Some(vec![0, 255, 160]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
        assert_eq!(hex(&[0, 255, 160]), "00ffa0");
    }
}
