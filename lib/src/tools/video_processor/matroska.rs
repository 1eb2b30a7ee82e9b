//! Matroska and WebM: elements of EBML (RFC 8794, RFC 9559). Clusters, which hold the pictures, are skipped.

use std::io::{self, Read, Seek, SeekFrom};

use super::{Film, Track, broken, codec};

/// Largest element that is read whole.
const MAX_ELEMENT: u64 = 16 << 20;

const EBML: u64 = 0x1a45_dfa3;
const SEGMENT: u64 = 0x1853_8067;
const INFO: u64 = 0x1549_a966;
const TRACKS: u64 = 0x1654_ae6b;

/// Reads what stands around the clusters.
pub(super) fn read(file: &mut (impl Read + Seek), size: u64) -> io::Result<Film> {
    let (id, length) = header(file)?;
    let end = file.stream_position()?.checked_add(length.unwrap_or(u64::MAX));
    if id != EBML || end.is_none_or(|end| end > size) {
        return Err(broken("its header is longer than the file"));
    }
    file.seek(SeekFrom::Start(end.unwrap_or(size)))?;
    let (id, _) = header(file)?;
    if id != SEGMENT {
        return Err(broken("no segment"));
    }
    let mut film = Film::default();
    let mut described = false;
    while file.stream_position()? < size {
        let Ok((id, length)) = header(file) else { break };
        let at = file.stream_position()?;
        // Of a recording that was not closed nobody knows where the next element is.
        let Some(length) = length.filter(|length| at.checked_add(*length).is_some_and(|end| end <= size)) else {
            break;
        };
        if matches!(id, INFO | TRACKS) {
            if length > MAX_ELEMENT {
                return Err(broken("its description is larger than 16 MiB"));
            }
            let mut data = vec![0; length as usize];
            file.read_exact(&mut data)?;
            if id == INFO {
                info(&data, &mut film);
            } else {
                film.tracks = elements(&data).filter(|(id, _)| *id == 0xae).map(|(_, entry)| track(entry)).collect();
                described = true;
            }
        } else {
            file.seek(SeekFrom::Start(at + length))?;
        }
    }
    if described { Ok(film) } else { Err(broken("no description of its tracks")) }
}

/// The bytes a number takes, by the zeros it begins with.
fn width(first: u8) -> Option<usize> {
    let width = first.leading_zeros() as usize + 1;
    (width <= 8).then_some(width)
}

/// Id and size of the next element; no size when it is not known.
fn header(file: &mut impl Read) -> io::Result<(u64, Option<u64>)> {
    let mut number = || {
        let mut buffer = [0; 8];
        file.read_exact(&mut buffer[..1])?;
        let width = width(buffer[0]).ok_or_else(|| broken("an element without a length"))?;
        file.read_exact(&mut buffer[1..width])?;
        Ok::<_, io::Error>((buffer[..width].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), width))
    };
    let (id, _) = number()?;
    let (raw, width) = number()?;
    Ok((id, known(raw, width)))
}

/// A size without its marker; all ones mean that it is not known.
fn known(raw: u64, width: usize) -> Option<u64> {
    let ones = (1_u64 << (7 * width)) - 1;
    Some(raw & ones).filter(|size| *size != ones)
}

/// Id and content of the elements in `data`, as far as they are whole.
fn elements(mut data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    fn number<'a>(data: &mut &'a [u8]) -> Option<(u64, usize)> {
        let width = width(*data.first()?)?;
        let (head, rest): (&'a [u8], _) = data.split_at_checked(width)?;
        *data = rest;
        Some((head.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), width))
    }
    std::iter::from_fn(move || {
        let (id, _) = number(&mut data)?;
        let (raw, width) = number(&mut data)?;
        let (content, rest) = data.split_at_checked(usize::try_from(known(raw, width)?).ok()?)?;
        data = rest;
        Some((id, content))
    })
}

fn unsigned(data: &[u8]) -> u64 {
    data.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn float(data: &[u8]) -> Option<f64> {
    match data.len() {
        4 => Some(f32::from_be_bytes(data.try_into().ok()?).into()),
        8 => Some(f64::from_be_bytes(data.try_into().ok()?)),
        _ => None,
    }
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).trim_end_matches('\0').to_owned()
}

fn info(data: &[u8], film: &mut Film) {
    let (mut scale, mut length) = (1_000_000, None);
    for (id, content) in elements(data) {
        match id {
            0x2a_d7b1 => scale = unsigned(content),
            0x4489 => length = float(content),
            0x7ba9 => film.title = Some(text(content)),
            _ => {}
        }
    }
    film.duration = length.map(|length| length * scale as f64 / 1e9).filter(|seconds| seconds.is_finite());
}

fn track(entry: &[u8]) -> Track {
    let mut track = Track { kind: "other", ..Track::default() };
    let narrow = |data: &[u8]| u32::try_from(unsigned(data)).ok();
    for (id, content) in elements(entry) {
        match id {
            0x83 => {
                track.kind = match unsigned(content) {
                    1 => "video",
                    2 => "audio",
                    17 => "subtitle",
                    _ => "other",
                }
            }
            0x86 => track.codec = Some(codec(&text(content))),
            0x22_b59c | 0x22_b59d => track.language = Some(text(content)).filter(|language| language != "und"),
            0x23_e383 => track.fps = Some(unsigned(content)).filter(|nanos| *nanos > 0).map(|nanos| 1e9 / nanos as f64),
            0xe0 => {
                for (id, content) in elements(content) {
                    match id {
                        0xb0 => track.width = narrow(content),
                        0xba => track.height = narrow(content),
                        _ => {}
                    }
                }
            }
            0xe1 => {
                track.channels = Some(1);
                for (id, content) in elements(content) {
                    match id {
                        0x9f => track.channels = narrow(content),
                        0xb5 => track.sample_rate = float(content).map(|rate| rate as u32),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if track.kind != "video" {
        track.fps = None;
    }
    track
}
