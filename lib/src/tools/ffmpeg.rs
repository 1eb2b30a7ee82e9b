//! ffmpeg, for what tools do not do themselves with sound and film. It is asked for the one conversion, reads the one file and
//! writes into a private folder; what comes out is put in its place as any file a tool writes.

use std::fs::{self, File};

use serde_json::{Value, json};

use super::process::Program;
use super::{Call, files};
use crate::error::{Class, Error, Result};

/// Containers it may look for in the source: none of those that name other files or hosts (playlists, scripts).
const DEMUXERS: &str = "aac,ac3,aiff,ape,asf,avi,caf,flac,flv,gif,matroska,webm,mov,mp4,m4a,3gp,mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,ogg,\
    tta,w64,wav,wv,h264,hevc,m4v";

/// Whether it can be used, and why not.
pub(super) fn available(call: &Call) -> Value {
    match call.policy.check_run("ffmpeg") {
        Ok(path) => json!({"available": true, "path": path}),
        Err(error) => json!({"available": false, "reason": error.text(), "hint": hint(&error)}),
    }
}

fn hint(error: &Error) -> String {
    match error.class() {
        Class::NotFound => "Install ffmpeg, for example by apt install ffmpeg.".into(),
        _ => error.next_step().unwrap_or_default().to_owned(),
    }
}

/// Converts `source`, from `start` on, with the options `output` into the container `muxer` at `target`. Its size.
///
/// # Errors
/// `Denied` or `NotFound` without leave or ffmpeg, `Tool` with the last words of ffmpeg.
pub(super) fn convert(
    source: &str,
    target: &str,
    start: Option<f64>,
    output: &[String],
    muxer: &str,
    call: &Call,
) -> Result<u64> {
    let program = Program::new("ffmpeg", call).map_err(|error| {
        let hint = hint(&error);
        error.hint(hint)
    })?;
    let real = call.readable(source)?;
    // Where nothing may be written, nothing need be made.
    let place = files::place_for_new(target, call)?;
    let folder = tempfile::tempdir().map_err(|e| Error::system("temporary folder", e))?;
    let made = folder.path().join("out");
    let mut arguments: Vec<String> = [
        "-nostdin",
        "-hide_banner",
        "-loglevel",
        "error",
        "-protocol_whitelist",
        "file",
        "-format_whitelist",
        DEMUXERS,
    ]
    .map(str::to_owned)
    .into();
    if let Some(start) = start.filter(|start| *start > 0.0) {
        arguments.extend(["-ss".to_owned(), start.to_string()]);
    }
    let real = real.to_str().ok_or_else(|| Error::new(Class::Tool, format!("{source}: its path is not UTF-8")))?;
    arguments.extend(["-i".to_owned(), format!("file:{real}")]);
    arguments.extend(output.iter().cloned());
    if muxer == "image2" {
        // One picture, no pattern.
        arguments.extend(["-update".to_owned(), "1".to_owned()]);
    }
    arguments.extend(["-f".to_owned(), muxer.to_owned(), "-y".to_owned(), format!("file:{}", made.display())]);
    let finished = program.args(arguments).run(call)?;
    let size = fs::metadata(&made).map_or(0, |metadata| metadata.len());
    if finished.code != Some(0) || size == 0 {
        let words = String::from_utf8_lossy(&finished.stderr);
        let words = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing came out").trim();
        return Err(Error::new(Class::Tool, format!("{source}: ffmpeg: {}", words.replace(real, source))));
    }
    let mut made = File::open(&made).map_err(|e| Error::system("temporary folder", e))?;
    files::replace(&place, None, |file| files::copy_bytes(&mut made, file, call).map(drop))
        .map_err(|e| files::named(e, target))?;
    Ok(size)
}
