//! MP4, MOV and their kin: the `moov` box (ISO/IEC 14496-12), which describes all tracks.

use std::io::{self, Read, Seek, SeekFrom};

use super::{Film, Track, broken, bytes, codec};

/// Largest description that is read.
const MAX_MOOV: u64 = 64 << 20;

/// Finds and reads the description.
pub(super) fn read(file: &mut (impl Read + Seek), size: u64) -> io::Result<Film> {
    let mut at = 0;
    while at + 8 <= size {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let mut length = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let mut header = 8;
        if length == 1 {
            let mut long = [0; 8];
            file.read_exact(&mut long)?;
            (length, header) = (u64::from_be_bytes(long), 16);
        } else if length == 0 {
            length = size - at;
        }
        if length < header || at.checked_add(length).is_none_or(|end| end > size) {
            return Err(broken("a box is longer than the file"));
        }
        if &head[4..] == b"moov" {
            if length > MAX_MOOV {
                return Err(broken("its description is larger than 64 MiB"));
            }
            let mut moov = vec![0; (length - header) as usize];
            file.read_exact(&mut moov)?;
            return Ok(film(&moov));
        }
        at += length;
    }
    Err(broken("no description of its tracks"))
}

/// Type and content of each box in `data`, as far as they are whole.
fn boxes(mut data: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(bytes(data, 0)?) as usize;
        let kind = data.get(4..8)?;
        let (start, length) = match length {
            0 => (8, data.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(bytes(data, 8)?)).ok()?),
            length => (8, length),
        };
        let content = data.get(start..length)?;
        data = &data[length..];
        Some((kind, content))
    })
}

fn find<'a>(data: &'a [u8], path: &[&[u8]]) -> Option<&'a [u8]> {
    path.iter().try_fold(data, |data, wanted| boxes(data).find(|(kind, _)| kind == wanted).map(|(_, content)| content))
}

/// Timescale and duration of `mvhd` or `mdhd`.
fn times(data: &[u8]) -> Option<(u32, u64)> {
    if data.first()? == &1 {
        return Some((u32::from_be_bytes(bytes(data, 20)?), u64::from_be_bytes(bytes(data, 24)?)));
    }
    let duration = u32::from_be_bytes(bytes(data, 16)?);
    Some((u32::from_be_bytes(bytes(data, 12)?), if duration == u32::MAX { 0 } else { duration.into() }))
}

fn seconds((scale, duration): (u32, u64)) -> Option<f64> {
    (scale > 0 && duration > 0).then(|| duration as f64 / f64::from(scale))
}

fn film(moov: &[u8]) -> Film {
    let duration = find(moov, &[b"mvhd"]).and_then(times).and_then(seconds);
    let tracks: Vec<_> =
        boxes(moov).filter(|(kind, _)| kind == b"trak").filter_map(|(_, trak)| track(moov, trak)).collect();
    // A fragmented file counts its parts elsewhere.
    let fragments = || {
        let mehd = find(moov, &[b"mvex", b"mehd"])?;
        let (scale, _) = find(moov, &[b"mvhd"]).and_then(times)?;
        let long = if mehd.first()? == &1 {
            u64::from_be_bytes(bytes(mehd, 4)?)
        } else {
            u32::from_be_bytes(bytes(mehd, 4)?).into()
        };
        seconds((scale, long))
    };
    Film { duration: duration.or_else(fragments), title: title(moov), tracks }
}

/// The title of iTunes' list, or of QuickTime's.
fn title(moov: &[u8]) -> Option<String> {
    let name: &[u8] = b"\xa9nam";
    let listed = find(moov, &[b"udta", b"meta"])
        // `meta` has a version before its boxes.
        .and_then(|meta| find(meta.get(4..)?, &[b"ilst", name, b"data"]))
        .and_then(|data| data.get(8..));
    let plain = || find(moov, &[b"udta", name]).and_then(|data| data.get(4..));
    let text = listed.or_else(plain)?;
    Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty())
}

fn track(moov: &[u8], trak: &[u8]) -> Option<Track> {
    let mdia = find(trak, &[b"mdia"])?;
    let mdhd = find(mdia, &[b"mdhd"])?;
    let (scale, duration) = times(mdhd)?;
    let kind = match find(mdia, &[b"hdlr"])?.get(8..12)? {
        b"vide" => "video",
        b"soun" => "audio",
        b"subt" | b"sbtl" | b"text" | b"clcp" => "subtitle",
        _ => "other",
    };
    let mut track = Track { kind, language: language(mdhd), ..Track::default() };
    let stbl = find(mdia, &[b"minf", b"stbl"])?;
    if let Some((name, entry)) = find(stbl, &[b"stsd"]).and_then(|stsd| boxes(stsd.get(8..)?).next()) {
        track.codec = Some(codec(&String::from_utf8_lossy(name)));
        if kind == "video" {
            track.width = bytes(entry, 24).map(|two| u16::from_be_bytes(two).into());
            track.height = bytes(entry, 26).map(|two| u16::from_be_bytes(two).into());
        } else if kind == "audio" {
            track.channels = bytes(entry, 16).map(|two| u16::from_be_bytes(two).into());
            // 16.16; zero where the rate does not fit.
            track.sample_rate =
                bytes(entry, 24).map(|two| u32::from(u16::from_be_bytes(two))).filter(|rate| *rate > 0).or(Some(scale));
        }
    }
    let length = seconds((scale, duration));
    if kind == "video" {
        track.rotation = find(trak, &[b"tkhd"]).and_then(rotation);
        let count = find(stbl, &[b"stts"]).map_or(0, samples);
        let even = || {
            let trex = find(moov, &[b"mvex", b"trex"])?;
            let each = u32::from_be_bytes(bytes(trex, 12)?);
            (each > 0).then(|| f64::from(scale) / f64::from(each))
        };
        track.fps = length.filter(|_| count > 0).map(|seconds| count as f64 / seconds).or_else(even);
    }
    let size = find(stbl, &[b"stsz"]).map_or(0, sizes);
    track.bit_rate = length.filter(|_| size > 0).map(|seconds| (size as f64 * 8.0 / seconds) as u64);
    Some(track)
}

/// Three letters of five bits; `und` is none.
fn language(mdhd: &[u8]) -> Option<String> {
    let at = if mdhd.first()? == &1 { 32 } else { 20 };
    let packed = u16::from_be_bytes(bytes(mdhd, at)?);
    let letters: String = [10, 5, 0].map(|shift| char::from((packed >> shift & 31) as u8 + 0x60)).into_iter().collect();
    (letters != "und" && letters.bytes().all(|letter| letter.is_ascii_lowercase())).then_some(letters)
}

/// Clockwise, of the four that cameras write.
fn rotation(tkhd: &[u8]) -> Option<u32> {
    let at = if tkhd.first()? == &1 { 52 } else { 40 };
    let cell = |index: usize| bytes(tkhd, at + index * 4).map(i32::from_be_bytes);
    Some(match (cell(0)?.signum(), cell(1)?.signum(), cell(3)?.signum()) {
        (0, 1, -1) => 90,
        (-1, 0, 0) => 180,
        (0, -1, 1) => 270,
        _ => 0,
    })
}

fn samples(stts: &[u8]) -> u64 {
    let rows = stts.get(8..).unwrap_or_default().chunks_exact(8);
    rows.filter_map(|row| bytes(row, 0)).map(|count| u64::from(u32::from_be_bytes(count))).sum()
}

fn sizes(stsz: &[u8]) -> u64 {
    let number = |at| bytes(stsz, at).map_or(0, |four| u64::from(u32::from_be_bytes(four)));
    match (number(4), number(8)) {
        (0, _) => {
            let each = stsz.get(12..).unwrap_or_default().chunks_exact(4);
            each.filter_map(|four| bytes(four, 0)).map(|four| u64::from(u32::from_be_bytes(four))).sum()
        }
        (size, count) => size * count,
    }
}
