//! `audio_processor`: what sound files say about themselves, read here; and their conversion, which is the work of ffmpeg.

use std::io::{BufReader, Read, Seek};

use lofty::config::ParseOptions;
use lofty::file::{AudioFile, FileType, TaggedFileExt};
use lofty::probe::Probe;
use lofty::tag::{Accessor, ItemKey, ItemValue, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, ffmpeg, required, word};
use crate::error::{Class, Error, Result};

/// The sound tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "audio_processor",
    aliases: &["audio"],
    category: "media",
    summary: "read properties and tags of sound files, convert and cut them with ffmpeg",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles, Effect::RunPrograms],
    spellings: &[
        Spelling::Param("file_path", "source_path"),
        Spelling::Param("path", "source_path"),
        Spelling::Param("input", "source_path"),
        Spelling::Param("output", "target_path"),
        Spelling::Param("output_path", "target_path"),
        Spelling::Param("format", "target_format"),
        Spelling::Value("operation", "info", "metadata"),
        Spelling::Value("operation", "trim", "convert"),
        Spelling::Value("operation", "cut", "convert"),
    ],
    examples: &[
        example(
            "a moment of silence",
            r#"{"operation": "metadata", "file_path": "$TMP/silence.wav"}"#,
            r#"{"metadata": {"format": "wav", "duration_seconds": 0.1, "sample_rate": 8000, "channels": 1, "bit_depth": 8}}"#,
        ),
        example(
            "known by its content",
            r#"{"operation": "detect", "file_path": "$TMP/silence.wav"}"#,
            r#"{"format": "wav", "supported": true}"#,
        ),
        example(
            "what conversion needs",
            r#"{"operation": "capabilities"}"#,
            r#"{"reads": ["aac", "aiff", "ape", "flac", "m4a", "mp3", "mpc", "ogg", "opus", "speex", "wav", "wavpack"]}"#,
        ),
    ],
};

const READS: &[&str] = &["aac", "aiff", "ape", "flac", "m4a", "mp3", "mpc", "ogg", "opus", "speex", "wav", "wavpack"];

/// Works on a sound file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do; `convert` needs ffmpeg.
    #[serde(default)]
    operation: Operation,
    /// The sound file; for all but `capabilities`.
    source_path: Option<String>,
    /// For `convert`: where the new file goes.
    target_path: Option<String>,
    /// For `convert`; the ending of `target_path` if not given.
    target_format: Option<Format>,
    /// For `convert`: samples a second.
    #[schemars(range(min = 1000, max = 768_000))]
    sample_rate: Option<u32>,
    /// For `convert`.
    #[schemars(range(min = 1, max = 64))]
    channels: Option<u32>,
    /// For `convert` to a format with loss: bits a second.
    #[schemars(range(min = 1000, max = 10_000_000))]
    bit_rate: Option<u32>,
    /// For `convert`: where to begin, seconds.
    #[schemars(range(min = 0.0, max = 1e7))]
    start_seconds: Option<f64>,
    /// For `convert`: how much to take, seconds.
    #[schemars(range(min = 0.001, max = 1e7))]
    duration_seconds: Option<f64>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Metadata,
    Detect,
    Convert,
    Capabilities,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Format {
    Wav,
    Mp3,
    Flac,
    Ogg,
    Opus,
    M4a,
    Aac,
    Aiff,
}

/// Works.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    match params.operation {
        Operation::Capabilities => {
            let result = json!({"reads": READS, "ffmpeg": ffmpeg::available(call)});
            Ok(Answer::new("capabilities", result))
        }
        Operation::Detect => {
            let path = required(params.source_path.as_deref(), "source_path")?;
            let format = probe(path, call)?.file_type().and_then(name);
            let result = json!({
                "file_path": path, "format": format.unwrap_or("unknown"), "supported": format.is_some(),
            });
            Ok(Answer::new("detect", result))
        }
        Operation::Metadata => metadata(required(params.source_path.as_deref(), "source_path")?, call),
        Operation::Convert => convert(&params, call),
    }
}

fn probe(path: &str, call: &Call) -> Result<Probe<BufReader<impl Read + Seek + use<>>>> {
    let file = call.open(path)?;
    if !file.metadata().map_err(|e| Error::io(path, e))?.is_file() {
        return Err(Error::new(Class::Tool, format!("{path}: not a file")));
    }
    let probe = Probe::new(BufReader::new(file)).options(ParseOptions::new());
    probe.guess_file_type().map_err(|e| Error::io(path, e))
}

fn name(kind: FileType) -> Option<&'static str> {
    Some(match kind {
        FileType::Aac => "aac",
        FileType::Aiff => "aiff",
        FileType::Ape => "ape",
        FileType::Flac => "flac",
        FileType::Mp4 => "m4a",
        FileType::Mpeg => "mp3",
        FileType::Mpc => "mpc",
        FileType::Opus => "opus",
        FileType::Vorbis => "ogg",
        FileType::Speex => "speex",
        FileType::Wav => "wav",
        FileType::WavPack => "wavpack",
        _ => return None,
    })
}

fn metadata(path: &str, call: &Call) -> Result<Answer> {
    let size = call.open(path)?.metadata().map_err(|e| Error::io(path, e))?.len();
    let probe = probe(path, call)?;
    let Some(format) = probe.file_type().and_then(name) else {
        return Err(Error::new(Class::Tool, format!("{path}: not a sound file this tool reads"))
            .hint(format!("It reads {}.", READS.join(", "))));
    };
    let file = probe.read().map_err(|e| {
        Error::new(Class::Tool, format!("{path}: broken {format}: {}", e.to_string().replace('\n', " ")))
    })?;
    call.check()?;
    let properties = file.properties();
    let mut found = json!({
        "format": format, "file_size": size, "duration_seconds": (properties.duration().as_millis() as f64) / 1000.0,
        "sample_rate": properties.sample_rate(), "channels": properties.channels(), "bit_depth": properties.bit_depth(),
        "bit_rate": properties.audio_bitrate().or(properties.overall_bitrate()).map(|kilo| u64::from(kilo) * 1000),
        "title": null, "artist": null, "album": null, "year": null, "genre": null, "track": null, "comment": null,
        "pictures": file.tags().iter().map(|tag| tag.picture_count()).sum::<u32>(), "tags": {},
    });
    if let Some(tag) = file.primary_tag().or_else(|| file.first_tag()) {
        for (name, value) in [
            ("title", tag.title()),
            ("artist", tag.artist()),
            ("album", tag.album()),
            ("genre", tag.genre()),
            ("comment", tag.comment()),
        ] {
            found[name] = value.as_deref().into();
        }
        found["year"] = tag.date().map(|date| date.year).into();
        found["track"] = tag.track().into();
        found["tags"] = all(tag).into();
    }
    Ok(Answer::new("metadata", json!({"file_path": path, "metadata": found})))
}

/// Every text of a tag by the name of its key; several under one name become a list.
fn all(tag: &Tag) -> Map<String, Value> {
    let mut all: Map<String, Value> = Map::new();
    for item in tag.items() {
        let (ItemValue::Text(text) | ItemValue::Locator(text)) = item.value() else { continue };
        let name = match item.key() {
            ItemKey::AlbumArtist => "album_artist".into(),
            key => heck::AsSnakeCase(format!("{key:?}")).to_string(),
        };
        match all.get_mut(&name) {
            None => _ = all.insert(name, text.as_str().into()),
            Some(Value::Array(values)) => values.push(text.as_str().into()),
            Some(first) => *first = json!([first.take(), text]),
        }
    }
    all
}

fn convert(params: &Params, call: &Call) -> Result<Answer> {
    let source = required(params.source_path.as_deref(), "source_path")?;
    let target = required(params.target_path.as_deref(), "target_path")?;
    let format = match params.target_format {
        Some(format) => format,
        None => {
            let ending = target.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).unwrap_or_default();
            let ending = match ending.as_str() {
                "aif" => "aiff",
                "oga" => "ogg",
                other => other,
            };
            serde_json::from_value(ending.into()).map_err(|_| {
                Error::new(Class::Usage, format!("target_path: {target}: its ending names no format"))
                    .hint("End it with .wav, .mp3, .flac, .ogg, .opus, .m4a, .aac or .aiff, or set target_format.")
            })?
        }
    };
    let (muxer, codec, lossy) = match format {
        Format::Wav => ("wav", "pcm_s16le", false),
        Format::Mp3 => ("mp3", "libmp3lame", true),
        Format::Flac => ("flac", "flac", false),
        Format::Ogg => ("ogg", "libvorbis", true),
        Format::Opus => ("opus", "libopus", true),
        Format::M4a => ("ipod", "aac", true),
        Format::Aac => ("adts", "aac", true),
        Format::Aiff => ("aiff", "pcm_s16be", false),
    };
    let mut output: Vec<String> = ["-vn", "-map_metadata", "0", "-c:a", codec].map(str::to_owned).into();
    let mut option =
        |name: &str, value: Option<String>| output.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    option("-ar", params.sample_rate.map(|rate| rate.to_string()));
    option("-ac", params.channels.map(|channels| channels.to_string()));
    option("-b:a", params.bit_rate.filter(|_| lossy).map(|rate| rate.to_string()));
    option("-t", params.duration_seconds.map(|seconds| seconds.to_string()));
    let size = ffmpeg::convert(source, target, params.start_seconds, &output, muxer, call)?;
    let result = json!({"source_path": source, "target_path": target, "format": word(&format), "file_size": size});
    Ok(Answer::new("convert", result).message(format!("{target}: {size} bytes")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    /// A canonical WAV file of `seconds` of 8-bit silence.
    fn wav(seconds: u32) -> Vec<u8> {
        let data = vec![128; 8000 * seconds as usize];
        let mut out = b"RIFF".to_vec();
        out.extend((36 + data.len() as u32).to_le_bytes());
        out.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        out.extend(8000_u32.to_le_bytes());
        out.extend(8000_u32.to_le_bytes());
        out.extend(b"\x01\0\x08\0data");
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn properties_are_read_whatever_the_name() {
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a.mp3"), wav(2)).unwrap();
        let got = run("audio_processor", json!({"path": "a.mp3"}), &call).unwrap();
        let got = &got["result"]["metadata"];
        assert_eq!(
            (&got["format"], &got["duration_seconds"], &got["bit_rate"]),
            (&json!("wav"), &json!(2.0), &json!(64_000))
        );
    }

    #[test]
    fn broken_files_are_refused() {
        let (dir, call) = folder();
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("text", b"hello".to_vec()),
            ("head.flac", b"fLaC\0\0\0\x22".to_vec()),
            ("head.ogg", b"OggS\0\x02".to_vec()),
            ("head.wav", wav(1)[..30].to_vec()),
            ("head.aiff", b"FORM\xff\xff\xff\xffAIFF".to_vec()),
        ] {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            let error = run("audio_processor", json!({"path": name}), &call).unwrap_err();
            assert_eq!(error.class(), Class::Tool, "{name}: {error}");
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_programs_need_leave() {
        bad(
            "audio_processor",
            &[
                (json!({}), Class::Usage),
                (json!({"operation": "sing"}), Class::Usage),
                (json!({"path": "missing.mp3"}), Class::NotFound),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                (json!({"operation": "convert", "path": "a.wav"}), Class::Usage),
                (json!({"operation": "convert", "path": "a.wav", "output": "b.xyz"}), Class::Usage),
                (json!({"operation": "convert", "path": "a.wav", "output": "b.mp3", "channels": 0}), Class::Usage),
            ],
        );
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a.wav"), wav(1)).unwrap();
        let params = json!({"operation": "convert", "source_path": "a.wav", "target_path": "b.mp3"});
        let error = run("audio_processor", params, &call).unwrap_err();
        assert_eq!((error.class(), error.next_step()), (Class::Denied, Some("Allow it with --allow-run=ffmpeg.")));
    }
}
