//! `base64_encoder`: base64 of texts, bytes and files, and back.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, hash_calculator, lower, required};
use crate::error::{Class, Error, Result};

/// The base64 encoder.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "base64_encoder",
    aliases: &["base64"],
    category: "utility",
    summary: "encode to base64 and decode from it: texts, bytes and files, standard and URL-safe",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("text", "input"),
        Spelling::Param("data", "input"),
        Spelling::Value("variant", "url", "url_safe"),
    ],
    examples: &[
        example("encode a text", r#"{"operation": "encode", "input": "hello"}"#, r#"{"output": "aGVsbG8="}"#),
        example(
            "for URLs, without padding",
            r#"{"operation": "encode", "input": "hello>?", "variant": "url-safe", "padding": false}"#,
            r#"{"output": "aGVsbG8-Pw", "variant": "url-safe"}"#,
        ),
        example(
            "decode",
            r#"{"operation": "decode", "input": "c3RyYcOfZQ=="}"#,
            r#"{"output": "straße", "binary": false}"#,
        ),
        example(
            "what is no text comes back as hexadecimal digits",
            r#"{"operation": "decode", "input": "//79"}"#,
            r#"{"output": "fffefd", "binary": true}"#,
        ),
    ],
};

/// Encodes to base64 or decodes from it. Decoding takes padded and unpadded text, and blanks and line ends in it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Which way.
    operation: Operation,
    /// The text to encode (its UTF-8 bytes), or the base64 text to decode.
    input: Option<String>,
    /// A file in place of `input`.
    #[schemars(length(min = 1))]
    input_file: Option<String>,
    /// Where to put the result in place of returning it.
    #[schemars(length(min = 1))]
    output_file: Option<String>,
    /// Standard has `+` and `/`, URL-safe `-` and `_`.
    #[serde(default)]
    variant: Variant,
    /// `encode`: whether to fill up with `=`.
    #[serde(default = "super::yes")]
    padding: bool,
    /// `encode`: `input` is hexadecimal digits; `decode`: give hexadecimal digits even for a text.
    #[serde(default)]
    binary_input: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    Encode,
    Decode,
}

#[derive(Clone, Copy, Default, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Variant {
    #[default]
    Standard,
    UrlSafe,
}

impl Variant {
    fn engine(self, padding: bool) -> GeneralPurpose {
        let config = GeneralPurposeConfig::new()
            .with_encode_padding(padding)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent);
        GeneralPurpose::new(if matches!(self, Variant::Standard) { &STANDARD } else { &URL_SAFE }, config)
    }

    fn name(self) -> &'static str {
        match self {
            Variant::Standard => "standard",
            Variant::UrlSafe => "url-safe",
        }
    }
}

/// Encodes or decodes.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let (operation, done) = match params.operation {
        Operation::Encode => ("encode", "Base64 encode completed"),
        Operation::Decode => ("decode", "Base64 decode completed"),
    };
    // As in the predecessor, a file goes before a text.
    let given = match &params.input_file {
        Some(path) => files::read(path, call)?,
        None => required(params.input.clone(), "input")?.into_bytes(),
    };
    let engine = params.variant.engine(params.padding);
    let bytes = match params.operation {
        Operation::Encode if params.binary_input && params.input_file.is_none() => {
            let text: Vec<u8> = given.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let text = String::from_utf8_lossy(&text);
            let bytes = hash_calculator::unhex(&text)
                .ok_or_else(|| Error::new(Class::Usage, "input: not pairs of hexadecimal digits"))?;
            engine.encode(bytes).into_bytes()
        }
        Operation::Encode => engine.encode(given).into_bytes(),
        Operation::Decode => {
            let text: Vec<u8> = given.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
            engine.decode(text).map_err(|error| {
                let name = if params.input_file.is_some() { "input_file" } else { "input" };
                let other = if matches!(params.variant, Variant::Standard) { "url-safe" } else { "standard" };
                Error::new(
                    Class::Usage,
                    format!(
                        "{name}: not {} base64: {}",
                        params.variant.name(),
                        lower(error.to_string().trim_end_matches('.'))
                    ),
                )
                .hint(format!("The other alphabet is variant = \"{other}\"."))
            })?
        }
    };
    let mut result = json!({"variant": params.variant.name(), "size": bytes.len()});
    if let Some(path) = &params.output_file {
        files::write(path, &bytes, call)?;
        result["file_path"] = path.as_str().into();
        return Ok(Answer::new(operation, result).message(format!("{done} successfully")));
    }
    let hexadecimal = params.operation == Operation::Decode && params.binary_input;
    let (text, binary) = match String::from_utf8(bytes) {
        Ok(text) if hexadecimal => (hash_calculator::hex(text.as_bytes()), true),
        Ok(text) => (text, false),
        Err(error) => (hash_calculator::hex(error.as_bytes()), true),
    };
    result["output"] = text.as_str().into();
    result["binary"] = binary.into();
    Ok(Answer::new(operation, result).message(done).text(text))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    #[test]
    fn texts_bytes_and_files_go_both_ways() {
        let (dir, call) = folder();
        let bytes: Vec<u8> = (0..=255).cycle().take(100_003).collect();
        std::fs::write(dir.path().join("bytes"), &bytes).unwrap();
        for variant in ["standard", "url_safe", "URL-Safe", "url"] {
            for params in [
                json!({"operation": "encode", "input_file": "bytes", "output_file": "new/text", "variant": variant}),
                json!({"operation": "decode", "input_file": "new/text", "output_file": "again", "variant": variant}),
            ] {
                run("base64_encoder", params, &call).unwrap();
            }
            assert_eq!(std::fs::read(dir.path().join("again")).unwrap(), bytes);
        }
        // RFC 4648, 10.
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            let answer = run("base64", json!({"operation": "encode", "input": text}), &call).unwrap();
            assert_eq!(answer["result"]["output"], encoded);
            for given in [encoded, encoded.trim_end_matches('='), &format!(" {encoded}\n")] {
                let answer = run("base64", json!({"operation": "decode", "input": given}), &call).unwrap();
                assert_eq!(answer["text"], text);
            }
        }
        let hex = json!({"operation": "encode", "input": "FF fe", "binary_input": true});
        assert_eq!(run("base64", hex, &call).unwrap()["text"], "//4=");
    }

    #[test]
    fn bad_input() {
        bad(
            "base64_encoder",
            &[
                (json!({}), Class::Usage),
                (json!({"operation": "encode"}), Class::Usage),
                (json!({"operation": "decode", "input": "a"}), Class::Usage),
                (json!({"operation": "decode", "input": "a-b_"}), Class::Usage),
                (json!({"operation": "decode", "input": "Zg==Zg=="}), Class::Usage),
                (json!({"operation": "decode", "input": "ä"}), Class::Usage),
                (json!({"operation": "encode", "input": "abc", "binary_input": true}), Class::Usage),
                (json!({"operation": "encode", "input": "xx", "binary_input": true}), Class::Usage),
                (json!({"operation": "encode", "input_file": "absent"}), Class::NotFound),
                (json!({"operation": "encode", "input_file": "."}), Class::Tool),
                (json!({"operation": "encode", "input_file": "/etc/passwd"}), Class::Denied),
                (json!({"operation": "encode", "input": "x", "output_file": "../x"}), Class::Denied),
            ],
        );
    }
}
