//! FLV: its first script tag, `onMetaData`, in AMF0.

use std::io::{self, Read};

use super::{Film, Track, broken, bytes};

/// Reads the header and the first tag.
pub(super) fn read(file: &mut impl Read) -> io::Result<Film> {
    // Signature, version, flags, offset; size of the tag before; tag type, size, time, stream.
    let mut start = [0; 24];
    file.read_exact(&mut start)?;
    let flags = start[4];
    let size = u32::from_be_bytes([0, start[14], start[15], start[16]]);
    if start[13] != 18 {
        return Err(broken("does not begin with its description"));
    }
    let mut data = vec![0; size as usize];
    file.read_exact(&mut data)?;
    let number = |name: &str| value(&data, name).filter(|number| number.is_finite());
    let whole = |name: &str| number(name).filter(|number| (0.0..1e9).contains(number)).map(|number| number as u32);
    let rate = |name: &str| number(name).map(|kilo| (kilo * 1000.0) as u64);
    let mut film = Film { duration: number("duration"), ..Film::default() };
    if flags & 1 != 0 {
        let codec = whole("videocodecid").map(|id| match id {
            2 => "flv1".into(),
            4 | 5 => "vp6".into(),
            7 => "h264".into(),
            12 => "hevc".into(),
            id => id.to_string(),
        });
        film.tracks.push(Track {
            kind: "video",
            codec,
            width: whole("width"),
            height: whole("height"),
            fps: number("framerate"),
            bit_rate: rate("videodatarate"),
            ..Track::default()
        });
    }
    if flags & 4 != 0 {
        let codec = whole("audiocodecid").map(|id| match id {
            0 | 3 => "pcm".into(),
            2 | 14 => "mp3".into(),
            10 => "aac".into(),
            11 => "speex".into(),
            id => id.to_string(),
        });
        // 1 is true: two channels.
        let stereo = data.windows(8).position(|part| part == b"\0\x06stereo").and_then(|at| data.get(at + 9));
        film.tracks.push(Track {
            kind: "audio",
            codec,
            sample_rate: whole("audiosamplerate"),
            channels: stereo.map(|stereo| 1 + u32::from(*stereo != 0)),
            bit_rate: rate("audiodatarate"),
            ..Track::default()
        });
    }
    Ok(film)
}

/// The number called `name`: its length in two bytes, its text, the marker 0, eight bytes.
fn value(data: &[u8], name: &str) -> Option<f64> {
    let mut key = u16::try_from(name.len()).ok()?.to_be_bytes().to_vec();
    key.extend(name.bytes());
    key.push(0);
    let at = data.windows(key.len()).position(|part| part == key)?;
    bytes(data, at + key.len()).map(f64::from_be_bytes)
}
