//! AVI: the `hdrl` list of a RIFF file, which comes first and describes all streams.

use std::io::{self, Read};

use super::{Film, Track, broken, bytes, codec};

/// Largest description that is read.
const MAX_HEAD: u32 = 1 << 20;

/// Reads the description.
pub(super) fn read(file: &mut impl Read) -> io::Result<Film> {
    // RIFF, size, "AVI ", LIST, size, "hdrl".
    let mut start = [0; 24];
    file.read_exact(&mut start)?;
    let size = u32::from_le_bytes([start[16], start[17], start[18], start[19]]);
    if &start[12..16] != b"LIST" || &start[20..] != b"hdrl" || !(4..=MAX_HEAD).contains(&size) {
        return Err(broken("no description of its streams"));
    }
    let mut list = vec![0; size as usize - 4];
    file.read_exact(&mut list)?;
    let mut film = Film::default();
    for (kind, content) in chunks(&list) {
        if kind == b"LIST" && content.starts_with(b"strl") {
            let (track, seconds) = stream(&content[4..]);
            film.duration = [film.duration, seconds].into_iter().flatten().reduce(f64::max);
            film.tracks.push(track);
        }
    }
    Ok(film)
}

/// Name and content of each chunk, as far as they are whole.
fn chunks(mut data: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let size = u32::from_le_bytes(bytes(data, 4)?) as usize;
        let (kind, content) = (data.get(..4)?, data.get(8..8_usize.checked_add(size)?)?);
        // Each begins at an even place.
        data = data.get(8 + size + size % 2..).unwrap_or_default();
        Some((kind, content))
    })
}

fn stream(list: &[u8]) -> (Track, Option<f64>) {
    let mut track = Track { kind: "other", ..Track::default() };
    let mut seconds = None;
    for (kind, content) in chunks(list) {
        let long = |at| bytes(content, at).map(u32::from_le_bytes);
        let short = |at| bytes(content, at).map(u16::from_le_bytes);
        match (kind, track.kind) {
            (b"strh", _) => {
                let rate = match (long(20), long(24)) {
                    (Some(scale @ 1..), Some(rate @ 1..)) => Some(f64::from(rate) / f64::from(scale)),
                    _ => None,
                };
                seconds = rate.and_then(|rate| Some(f64::from(long(32)?) / rate));
                match content.get(..4) {
                    Some(b"vids") => (track.kind, track.fps) = ("video", rate),
                    Some(b"auds") => track.kind = "audio",
                    Some(b"txts") => track.kind = "subtitle",
                    _ => {}
                }
            }
            (b"strf", "video") => {
                track.width = long(4);
                // Negative when the lines come top first.
                track.height = long(8).map(|height| height.cast_signed().unsigned_abs());
                let name = content.get(16..20).filter(|name| *name != [0; 4]);
                track.codec = Some(name.map_or_else(|| "raw".into(), |name| codec(&String::from_utf8_lossy(name))));
            }
            (b"strf", "audio") => {
                track.codec = short(0).map(|tag| match tag {
                    1 => "pcm".into(),
                    0x50 => "mp2".into(),
                    0x55 => "mp3".into(),
                    0xff | 0x1600..=0x1602 => "aac".into(),
                    0x2000 => "ac3".into(),
                    tag => format!("0x{tag:04x}"),
                });
                track.channels = short(2).map(Into::into);
                track.sample_rate = long(4);
                track.bit_rate = long(8).map(|bytes| u64::from(bytes) * 8);
            }
            _ => {}
        }
    }
    (track, seconds)
}
