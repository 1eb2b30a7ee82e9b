//! `video_processor`: what films say about themselves, read here from MP4, MOV, Matroska, WebM, AVI and FLV; thumbnails, frames
//! and conversion, which are the work of ffmpeg.

mod avi;
mod flv;
mod iso;
mod matroska;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, ffmpeg, required, word};
use crate::error::{Class, Error, Result, reason};

/// The film tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "video_processor",
    aliases: &["video"],
    category: "media",
    summary: "read properties of films, take thumbnails and frames and convert them with ffmpeg",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles, Effect::RunPrograms],
    spellings: &[
        Spelling::Param("file_path", "source_path"),
        Spelling::Param("path", "source_path"),
        Spelling::Param("input", "source_path"),
        Spelling::Param("output", "target_path"),
        Spelling::Param("output_path", "target_path"),
        Spelling::Param("format", "target_format"),
        Spelling::Param("timestamp", "timestamp_seconds"),
        Spelling::Value("operation", "info", "metadata"),
        Spelling::Value("operation", "frame", "extract_frame"),
        Spelling::Value("operation", "frames", "extract_frames"),
    ],
    examples: &[
        example(
            "what it is",
            r#"{"operation": "metadata", "file_path": "$TMP/clip.mp4"}"#,
            r#"{"metadata": {"format": "mp4", "duration_seconds": 1.0, "fps": 10.0, "resolution": {"width": 16, "height": 8}}}"#,
        ),
        example(
            "known by its content",
            r#"{"operation": "detect", "file_path": "$TMP/clip.mp4"}"#,
            r#"{"format": "mp4", "supported": true}"#,
        ),
        example(
            "what conversion needs",
            r#"{"operation": "capabilities"}"#,
            r#"{"reads": ["mp4", "mov", "m4v", "3gp", "mkv", "webm", "avi", "flv"]}"#,
        ),
    ],
};

const READS: &[&str] = &["mp4", "mov", "m4v", "3gp", "mkv", "webm", "avi", "flv"];

/// Works on a film.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do; all but `metadata`, `detect` and `capabilities` need ffmpeg.
    #[serde(default)]
    operation: Operation,
    /// The film.
    source_path: Option<String>,
    /// Where the new file goes; for `extract_frames` a name with `{}`, which becomes 1, 2, 3.
    target_path: Option<String>,
    /// Where to look or to begin, seconds.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e7))]
    timestamp_seconds: f64,
    /// For `thumbnail`: largest width, pixels.
    #[serde(default = "small")]
    #[schemars(range(min = 1, max = 10_000))]
    max_width: u32,
    /// For `thumbnail`: largest height, pixels.
    #[serde(default = "small")]
    #[schemars(range(min = 1, max = 10_000))]
    max_height: u32,
    /// For `extract_frames`: how many.
    #[serde(default = "some")]
    #[schemars(range(min = 1, max = 1000))]
    count: u32,
    /// For `extract_frames`: time between two of them, seconds.
    #[serde(default = "second")]
    #[schemars(range(min = 0.001, max = 1e6))]
    interval_seconds: f64,
    /// For `convert`; the ending of `target_path` if not given.
    target_format: Option<Format>,
    /// For `convert`, pixels; the height follows.
    #[schemars(range(min = 2, max = 10_000))]
    width: Option<u32>,
    /// For `convert`: how much to take, seconds.
    #[schemars(range(min = 0.001, max = 1e7))]
    duration_seconds: Option<f64>,
}

fn small() -> u32 {
    320
}

fn some() -> u32 {
    10
}

fn second() -> f64 {
    1.0
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Metadata,
    Detect,
    Thumbnail,
    ExtractFrame,
    ExtractFrames,
    Convert,
    Capabilities,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Format {
    Mp4,
    Mov,
    Mkv,
    Webm,
    Avi,
    Gif,
}

/// What a container tells of its film.
#[derive(Debug, Default, PartialEq)]
struct Film {
    duration: Option<f64>,
    title: Option<String>,
    tracks: Vec<Track>,
}

/// A part of a film.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Track {
    /// `video audio subtitle other`
    kind: &'static str,
    codec: Option<String>,
    language: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    rotation: Option<u32>,
    fps: Option<f64>,
    channels: Option<u32>,
    sample_rate: Option<u32>,
    bit_rate: Option<u64>,
}

/// Works.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    if let Operation::Capabilities = params.operation {
        return Ok(Answer::new("capabilities", json!({"reads": READS, "ffmpeg": ffmpeg::available(call)})));
    }
    let path = required(params.source_path.as_deref(), "source_path")?;
    match params.operation {
        Operation::Capabilities => unreachable!("answered above"),
        Operation::Detect => {
            let (mut file, _) = open(path, call)?;
            let format = sniff(&head(path, &mut file)?);
            let supported = format.is_some_and(|format| READS.contains(&format));
            let result = json!({"file_path": path, "format": format.unwrap_or("unknown"), "supported": supported});
            Ok(Answer::new("detect", result))
        }
        Operation::Metadata => metadata(path, call),
        Operation::Thumbnail | Operation::ExtractFrame => {
            let target = required(params.target_path.as_deref(), "target_path")?;
            let muxer = picture(target)?;
            let mut output: Vec<_> = ["-an", "-frames:v", "1", "-c:v", muxer].map(str::to_owned).into();
            if let Operation::Thumbnail = params.operation {
                let fit = format!(
                    "scale=w='min({},iw)':h='min({},ih)':force_original_aspect_ratio=decrease",
                    params.max_width, params.max_height
                );
                output.extend(["-vf".to_owned(), fit]);
            }
            let size = ffmpeg::convert(path, target, Some(params.timestamp_seconds), &output, "image2", call)?;
            made(&params, json!({"timestamp_seconds": params.timestamp_seconds, "file_size": size}))
        }
        Operation::ExtractFrames => frames(path, &params, call),
        Operation::Convert => convert(path, &params, call),
    }
}

fn made(params: &Params, more: Value) -> Result<Answer> {
    let mut result = json!({"source_path": params.source_path, "target_path": params.target_path});
    if let (Some(result), Value::Object(more)) = (result.as_object_mut(), more) {
        result.extend(more);
    }
    Ok(Answer::new(word(&params.operation), result))
}

/// ffmpeg's encoder for the picture called `path`.
fn picture(path: &str) -> Result<&'static str> {
    match path.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).as_deref() {
        Some("png") => Ok("png"),
        Some("jpg" | "jpeg") => Ok("mjpeg"),
        Some("bmp") => Ok("bmp"),
        Some("tif" | "tiff") => Ok("tiff"),
        _ => Err(Error::new(Class::Usage, format!("target_path: {path}: its ending names no picture format"))
            .hint("End it with .png, .jpg, .bmp or .tiff.")),
    }
}

fn frames(path: &str, params: &Params, call: &Call) -> Result<Answer> {
    let target = required(params.target_path.as_deref(), "target_path")?;
    let muxer = picture(target)?;
    if !target.contains("{}") {
        return Err(Error::new(Class::Usage, format!("target_path: {target}: has no {{}} for the number")));
    }
    let mut written = Vec::new();
    for index in 0..params.count {
        call.progress(format!("frame {} of {}", index + 1, params.count));
        let at = params.timestamp_seconds + f64::from(index) * params.interval_seconds;
        let name = target.replace("{}", &(index + 1).to_string());
        let output: Vec<_> = ["-an", "-frames:v", "1", "-c:v", muxer].map(str::to_owned).into();
        match ffmpeg::convert(path, &name, Some(at), &output, "image2", call) {
            Ok(_) => written.push(json!({"path": name, "timestamp_seconds": at})),
            // The film is over.
            Err(error) if index > 0 && error.class() == Class::Tool => break,
            Err(error) => return Err(error),
        }
    }
    made(params, json!({"count": written.len(), "frames": written}))
}

fn convert(path: &str, params: &Params, call: &Call) -> Result<Answer> {
    let target = required(params.target_path.as_deref(), "target_path")?;
    let format = match params.target_format {
        Some(format) => format,
        None => {
            let ending = target.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).unwrap_or_default();
            serde_json::from_value(ending.into()).map_err(|_| {
                Error::new(Class::Usage, format!("target_path: {target}: its ending names no format"))
                    .hint("End it with .mp4, .mov, .mkv, .webm, .avi or .gif, or set target_format.")
            })?
        }
    };
    let (muxer, codecs): (_, &[&str]) = match format {
        Format::Mp4 => ("mp4", &["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart"]),
        Format::Mov => ("mov", &["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"]),
        Format::Mkv => ("matroska", &["-c:v", "libx264", "-c:a", "libopus"]),
        Format::Webm => ("webm", &["-c:v", "libvpx-vp9", "-c:a", "libopus"]),
        Format::Avi => ("avi", &["-c:v", "mpeg4", "-c:a", "libmp3lame"]),
        Format::Gif => ("gif", &["-an"]),
    };
    let mut output: Vec<String> = codecs.iter().map(|&text| text.to_owned()).collect();
    // Even sides, as most encoders want them.
    let size =
        params.width.map_or_else(|| "trunc(iw/2)*2:trunc(ih/2)*2".into(), |width| format!("{}:-2", width / 2 * 2));
    output.extend(["-vf".to_owned(), format!("scale={size}")]);
    if let Some(seconds) = params.duration_seconds {
        output.extend(["-t".to_owned(), seconds.to_string()]);
    }
    let size = ffmpeg::convert(path, target, Some(params.timestamp_seconds), &output, muxer, call)?;
    made(params, json!({"format": word(&format), "file_size": size}))
}

fn open(path: &str, call: &Call) -> Result<(File, u64)> {
    let file = call.open(path)?;
    let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::new(Class::Tool, format!("{path}: not a file")));
    }
    Ok((file, metadata.len()))
}

fn head(path: &str, file: &mut File) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    file.by_ref().take(64).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    file.seek(SeekFrom::Start(0)).map_err(|e| Error::io(path, e))?;
    Ok(head)
}

/// The container a file begins like.
fn sniff(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, text: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(text));
    if at(4, b"ftyp") {
        return Some(match head.get(8..12) {
            Some(b"qt  ") => "mov",
            Some(b"M4V " | b"M4VH" | b"M4VP") => "m4v",
            Some([b'3', b'g', ..]) => "3gp",
            _ => "mp4",
        });
    }
    if at(4, b"moov") || at(4, b"mdat") || at(4, b"wide") || at(4, b"free") {
        return Some("mov");
    }
    if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) {
        return Some(if head.windows(4).any(|part| part == b"webm") { "webm" } else { "mkv" });
    }
    if at(0, b"RIFF") && at(8, b"AVI ") {
        return Some("avi");
    }
    [(&b"FLV"[..], "flv"), (&[0x30, 0x26, 0xb2, 0x75], "wmv"), (&[0, 0, 1, 0xba], "mpeg"), (b"OggS", "ogv")]
        .into_iter()
        .find_map(|(magic, name)| at(0, magic).then_some(name))
}

fn metadata(path: &str, call: &Call) -> Result<Answer> {
    let (mut file, size) = open(path, call)?;
    let format = sniff(&head(path, &mut file)?);
    let film = match format {
        Some("mp4" | "mov" | "m4v" | "3gp") => iso::read(&mut file, size),
        Some("mkv" | "webm") => matroska::read(&mut file, size),
        Some("avi") => avi::read(&mut file),
        Some("flv") => flv::read(&mut file),
        _ => {
            return Err(Error::new(Class::Tool, format!("{path}: not a film this tool reads"))
                .hint(format!("It reads {}.", READS.join(", "))));
        }
    };
    let format = format.unwrap_or_default();
    let film = film.map_err(|e| Error::new(Class::Tool, format!("{path}: broken {format}: {}", reason(&e))))?;
    let first = |kind: &str| film.tracks.iter().find(|track| track.kind == kind);
    let (video, audio) = (first("video"), first("audio"));
    let overall = film.duration.filter(|seconds| *seconds > 0.0).map(|seconds| (size as f64 * 8.0 / seconds) as u64);
    let found = json!({
        "format": format, "file_size": size, "duration_seconds": film.duration.map(thousandths), "bit_rate": overall, "title": film.title,
        "resolution": video.map(|track| json!({"width": track.width, "height": track.height})),
        "rotation": video.and_then(|track| track.rotation), "fps": video.and_then(|track| track.fps).map(thousandths),
        "video_codec": video.and_then(|track| track.codec.clone()), "video_bitrate": video.and_then(|track| track.bit_rate),
        "audio_codec": audio.and_then(|track| track.codec.clone()), "audio_bitrate": audio.and_then(|track| track.bit_rate),
        "audio_channels": audio.and_then(|track| track.channels), "audio_sample_rate": audio.and_then(|track| track.sample_rate),
        "tracks": film.tracks,
    });
    Ok(Answer::new("metadata", json!({"file_path": path, "metadata": found})))
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A fault of the file itself.
fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

/// `N` bytes at `at`, if they are there.
fn bytes<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The usual name of a codec that containers call by four letters or by an id of theirs.
fn codec(name: &str) -> String {
    let known = match name.trim_end_matches(['\0', ' ']).to_ascii_lowercase().as_str() {
        "avc1" | "avc3" | "h264" | "x264" | "v_mpeg4/iso/avc" => "h264",
        "hvc1" | "hev1" | "hevc" | "v_mpegh/iso/hevc" => "hevc",
        "av01" | "v_av1" => "av1",
        "vp08" | "vp80" | "v_vp8" => "vp8",
        "vp09" | "vp90" | "v_vp9" => "vp9",
        "mp4v" | "fmp4" | "xvid" | "divx" | "dx50" | "v_mpeg4/iso/asp" | "v_mpeg4/iso/sp" => "mpeg4",
        "mjpg" | "mjpa" | "jpeg" => "mjpeg",
        "mp4a" | "a_aac" => "aac",
        ".mp3" | "a_mpeg/l3" => "mp3",
        "a_opus" | "opus" => "opus",
        "a_vorbis" => "vorbis",
        "a_flac" | "flac" => "flac",
        "a_ac3" | "ac-3" => "ac3",
        "ec-3" | "a_eac3" => "eac3",
        "alac" | "a_alac" => "alac",
        "sowt" | "twos" | "lpcm" | "a_pcm/int/lit" => "pcm",
        "s_text/utf8" | "tx3g" => "text",
        _ => return name.trim_end_matches(['\0', ' ']).to_owned(),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    #[test]
    fn broken_films_are_refused() {
        let (dir, call) = folder();
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("text", b"hello".to_vec()),
            ("no-moov.mp4", b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08mdat".to_vec()),
            ("huge.mp4", b"\0\0\0\x10ftypisom\0\0\0\0\xff\xff\xff\xffmoov".to_vec()),
            ("huge.mkv", b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe".to_vec()),
            ("cut.avi", b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl".to_vec()),
            ("cut.flv", b"FLV\x01\x05\0\0\0\x09".to_vec()),
        ] {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            let error = run("video_processor", json!({"path": name}), &call).unwrap_err();
            assert_eq!(error.class(), Class::Tool, "{name}: {error}");
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_programs_need_leave() {
        bad(
            "video_processor",
            &[
                (json!({}), Class::Usage),
                (json!({"path": "missing.mp4"}), Class::NotFound),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                (json!({"operation": "thumbnail", "path": "a.mp4"}), Class::Usage),
                (json!({"operation": "thumbnail", "path": "a.mp4", "output": "a.xyz"}), Class::Usage),
                (json!({"operation": "extract_frames", "path": "a.mp4", "output": "a.png"}), Class::Usage),
                (json!({"operation": "convert", "path": "a.mp4", "output": "a.doc"}), Class::Usage),
            ],
        );
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a.mp4"), b"x").unwrap();
        let params = json!({"operation": "thumbnail", "source_path": "a.mp4", "target_path": "b.png"});
        let error = run("video_processor", params, &call).unwrap_err();
        assert_eq!((error.class(), error.next_step()), (Class::Denied, Some("Allow it with --allow-run=ffmpeg.")));
    }
}
