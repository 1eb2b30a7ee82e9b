//! `image_processor`: pictures read, changed and written: PNG, JPEG, GIF, WebP, BMP, TIFF. Formats are told by content, not by
//! name; pictures are turned upright as their EXIF says before anything else is done.

use std::io::Cursor;
use std::path::Path;

use exif::{In, Tag};
use image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{
    AnimationDecoder, DynamicImage, Frame, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgba, RgbaImage,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required, word, yes};
use crate::error::{Class, Error, Result};

/// The picture tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "image_processor",
    aliases: &["image"],
    category: "media",
    summary: "resize, crop, rotate, flip and convert pictures, make thumbnails, read their metadata",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("file_path", "source_path"),
        Spelling::Param("path", "source_path"),
        Spelling::Param("input", "source_path"),
        Spelling::Param("output", "target_path"),
        Spelling::Param("output_path", "target_path"),
        Spelling::Param("format", "target_format"),
        Spelling::Param("angle", "degrees"),
        Spelling::Value("operation", "info", "metadata"),
        Spelling::Value("operation", "grayscale", "greyscale"),
        Spelling::Value("target_format", "jpg", "jpeg"),
        Spelling::Value("target_format", "tif", "tiff"),
    ],
    examples: &[
        example(
            "a picture of one colour",
            r##"{"operation": "create", "target_path": "$TMP/red.png", "width": 40, "height": 20, "colour": "#ff0000"}"##,
            r#"{"width": 40, "height": 20, "format": "png"}"#,
        ),
        example(
            "half as wide",
            r#"{"operation": "resize", "source_path": "$TMP/red.png", "target_path": "$TMP/small.jpg", "width": 20}"#,
            r#"{"width": 20, "height": 10, "format": "jpeg"}"#,
        ),
        example(
            "turned",
            r#"{"operation": "rotate", "source_path": "$TMP/red.png", "target_path": "$TMP/turned.gif", "degrees": 90}"#,
            r#"{"width": 20, "height": 40, "format": "gif"}"#,
        ),
        example(
            "what it is",
            r#"{"operation": "metadata", "file_path": "$TMP/small.jpg"}"#,
            r#"{"metadata": {"format": "jpeg", "dimensions": {"width": 20, "height": 10}, "color_mode": "rgb", "bit_depth": 8}}"#,
        ),
    ],
};

/// Longest side of a picture, pixels.
const MAX_SIDE: u32 = 30_000;
/// Most memory a picture may take while it is decoded or made.
const MAX_MEMORY: u64 = 1 << 29;

/// Works on a picture. What is written replaces a file of that name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The picture; for all but `create`.
    source_path: Option<String>,
    /// Where the new picture goes; for all but `detect` and `metadata`.
    target_path: Option<String>,
    /// For `resize`, `crop` and `create`, pixels. `resize` takes the other one from the picture's shape.
    #[schemars(range(min = 1, max = 30_000))]
    width: Option<u32>,
    /// For `resize`, `crop` and `create`, pixels.
    #[schemars(range(min = 1, max = 30_000))]
    height: Option<u32>,
    /// For `crop`: the left edge.
    x: Option<u32>,
    /// For `crop`: the upper edge.
    y: Option<u32>,
    /// For `rotate`: clockwise, any angle; the corners of what is not a multiple of 90 are filled with `colour`.
    #[serde(default = "quarter")]
    #[schemars(range(min = -36_000.0, max = 36_000.0))]
    degrees: f64,
    /// For `flip`.
    #[serde(default)]
    direction: Direction,
    /// For `blur`: the radius, pixels.
    #[serde(default = "radius")]
    #[schemars(range(min = 0.1, max = 100.0))]
    radius: f32,
    /// For `brightness`: added to each channel.
    #[schemars(range(min = -255, max = 255))]
    amount: Option<i32>,
    /// For `resize` with both sides given: whether the picture keeps its shape and fits inside.
    #[serde(default = "yes")]
    maintain_aspect_ratio: bool,
    /// For `thumbnail`, pixels.
    #[serde(default = "small")]
    #[schemars(range(min = 1, max = 30_000))]
    max_width: u32,
    /// For `thumbnail`, pixels.
    #[serde(default = "small")]
    #[schemars(range(min = 1, max = 30_000))]
    max_height: u32,
    /// What to write; the ending of `target_path` if not given.
    target_format: Option<Format>,
    /// For JPEG.
    #[serde(default = "quality")]
    #[schemars(range(min = 1, max = 100))]
    quality: u8,
    /// `#rrggbb` or `#rrggbbaa`: of `create`, and behind what is transparent or turned; transparent if not given, white in JPEG.
    colour: Option<String>,
    /// Whether a picture is first turned upright as its EXIF says; the new one has no EXIF.
    #[serde(default = "yes")]
    auto_orient: bool,
}

fn quarter() -> f64 {
    90.0
}

fn radius() -> f32 {
    2.0
}

fn small() -> u32 {
    200
}

fn quality() -> u8 {
    85
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Metadata,
    Detect,
    Resize,
    Convert,
    Crop,
    Rotate,
    Flip,
    Thumbnail,
    Greyscale,
    Blur,
    Brightness,
    Invert,
    Create,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Direction {
    #[default]
    Horizontal,
    Vertical,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Format {
    Png,
    Jpeg,
    Gif,
    Webp,
    Bmp,
    Tiff,
}

impl Format {
    fn of(format: ImageFormat) -> Option<Self> {
        Some(match format {
            ImageFormat::Png => Format::Png,
            ImageFormat::Jpeg => Format::Jpeg,
            ImageFormat::Gif => Format::Gif,
            ImageFormat::WebP => Format::Webp,
            ImageFormat::Bmp => Format::Bmp,
            ImageFormat::Tiff => Format::Tiff,
            _ => return None,
        })
    }

    fn image(self) -> ImageFormat {
        match self {
            Format::Png => ImageFormat::Png,
            Format::Jpeg => ImageFormat::Jpeg,
            Format::Gif => ImageFormat::Gif,
            Format::Webp => ImageFormat::WebP,
            Format::Bmp => ImageFormat::Bmp,
            Format::Tiff => ImageFormat::Tiff,
        }
    }
}

/// Works.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    match params.operation {
        Operation::Detect => detect(&params, call),
        Operation::Metadata => metadata(&params, call),
        _ => change(&params, call),
    }
}

fn source<'a>(params: &'a Params, call: &Call) -> Result<(&'a str, Vec<u8>)> {
    let path = required(params.source_path.as_deref(), "source_path")?;
    Ok((path, files::read(path, call)?))
}

fn detect(params: &Params, call: &Call) -> Result<Answer> {
    let (path, bytes) = source(params, call)?;
    let guessed = image::guess_format(&bytes).ok();
    let format = guessed.and_then(Format::of);
    let result = json!({
        "file_path": path, "format": format.map(|format| word(&format)), "mime_type": guessed.map(|format| format.to_mime_type()),
        "supported": format.is_some(),
    });
    Ok(Answer::new("detect", result))
}

/// The decoder's view of a picture that is too large, broken or unknown.
fn fault(path: &str, error: &ImageError) -> Error {
    let text = match error {
        ImageError::Limits(_) => {
            return Error::new(Class::Tool, format!("{path}: larger than {MAX_SIDE} pixels a side or 512 MiB"));
        }
        ImageError::Unsupported(_) => {
            return Error::new(Class::Tool, format!("{path}: not a picture this tool reads"))
                .hint("It reads PNG, JPEG, GIF, WebP, BMP and TIFF.");
        }
        ImageError::IoError(error) => crate::error::reason(error),
        error => error.to_string(),
    };
    Error::new(Class::Tool, format!("{path}: broken picture: {}", text.replace('\n', " ")))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    limits
}

fn reader<'a>(path: &str, bytes: &'a [u8]) -> Result<(ImageReader<Cursor<&'a [u8]>>, Format)> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| Error::io(path, e))?;
    reader.limits(limits());
    match reader.format().and_then(Format::of) {
        Some(format) => Ok((reader, format)),
        None => Err(Error::new(Class::Tool, format!("{path}: not a picture this tool reads"))
            .hint("It reads PNG, JPEG, GIF, WebP, BMP and TIFF.")),
    }
}

fn metadata(params: &Params, call: &Call) -> Result<Answer> {
    let (path, bytes) = source(params, call)?;
    let (reader, format) = reader(path, &bytes)?;
    let mut decoder = reader.into_decoder().map_err(|e| fault(path, &e))?;
    let (width, height) = decoder.dimensions();
    let colour = decoder.original_color_type();
    let channels = u16::from(colour.channel_count()).max(1);
    let name = format!("{colour:?}").to_lowercase();
    let mode = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == 'f');
    let mode = match mode.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "l" => "grey",
        "la" => "grey_alpha",
        other => other,
    };
    let icc = decoder.icc_profile().ok().flatten().is_some();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms).to_exif();
    let raw = decoder.exif_metadata().ok().flatten();
    let exif = raw.and_then(|raw| exif::Reader::new().read_raw(raw).ok());
    let dpi = exif.as_ref().and_then(|exif| {
        let value = |tag| {
            exif.get_field(tag, In::PRIMARY).and_then(|field| match &field.value {
                exif::Value::Rational(values) => values.first().map(exif::Rational::to_f64),
                _ => None,
            })
        };
        let unit = exif.get_field(Tag::ResolutionUnit, In::PRIMARY).and_then(|field| field.value.get_uint(0));
        let inches = if unit == Some(3) { 2.54 } else { 1.0 };
        Some(json!({"x": value(Tag::XResolution)? * inches, "y": value(Tag::YResolution)? * inches}))
    });
    let fields = |exif: &exif::Exif| {
        let row = |field: &exif::Field| {
            let value = field.display_value().with_unit(exif).to_string();
            // A maker's note is a kilobyte of numbers that says nothing to anybody.
            (field.tag.to_string(), Value::from(value.chars().take(1000).collect::<String>()))
        };
        exif.fields().filter(|field| field.ifd_num == In::PRIMARY).map(row).collect::<Map<_, _>>()
    };
    let frames = match format {
        Format::Gif => Some(count_frames(path, &bytes, call)?),
        _ => None,
    };
    let found = json!({
        "format": word(&format), "mime_type": format.image().to_mime_type(), "file_size": bytes.len(),
        "dimensions": {"width": width, "height": height}, "color_mode": mode, "bit_depth": colour.bits_per_pixel() / channels,
        "has_alpha": mode.ends_with('a') || mode.ends_with("alpha"), "dpi": dpi, "orientation": orientation, "icc_profile": icc,
        "exif": exif.as_ref().map(fields), "frames": frames,
    });
    Ok(Answer::new("metadata", json!({"file_path": path, "metadata": found})))
}

fn count_frames(path: &str, bytes: &[u8], call: &Call) -> Result<u64> {
    let mut count = 0;
    for frame in gif(path, bytes)?.into_frames() {
        call.check()?;
        frame.map_err(|e| fault(path, &e))?;
        count += 1;
    }
    Ok(count)
}

fn gif<'a>(path: &str, bytes: &'a [u8]) -> Result<GifDecoder<Cursor<&'a [u8]>>> {
    let mut decoder = GifDecoder::new(Cursor::new(bytes)).map_err(|e| fault(path, &e))?;
    decoder.set_limits(limits()).map_err(|e| fault(path, &e))?;
    Ok(decoder)
}

/// Reads, changes and writes.
fn change(params: &Params, call: &Call) -> Result<Answer> {
    let target = required(params.target_path.as_deref(), "target_path")?;
    let format = match params.target_format {
        Some(format) => format,
        None => by_name(target)?,
    };
    // What cannot be written is told before anything is read.
    call.policy
        .place(&call.path(target))
        .map(drop)
        .or_else(|e| if e.class() == Class::NotFound { Ok(()) } else { Err(e) })?;
    let (bytes, width, height, frames) = if params.operation == Operation::Create {
        let (width, height) = (required(params.width, "width")?, required(params.height, "height")?);
        room(width, height)?;
        let image = RgbaImage::from_pixel(width, height, colour(params)?.unwrap_or(Rgba([0; 4])));
        (encode(&image.into(), format, params, target)?, width, height, 1)
    } else {
        let (path, bytes) = source(params, call)?;
        let (reader, from) = reader(path, &bytes)?;
        if from == Format::Gif && format == Format::Gif {
            animated(path, &bytes, params, call)?
        } else {
            let mut decoder = reader.into_decoder().map_err(|e| fault(path, &e))?;
            let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
            let mut image = DynamicImage::from_decoder(decoder).map_err(|e| fault(path, &e))?;
            if params.auto_orient {
                image.apply_orientation(orientation);
            }
            call.check()?;
            let image = apply(image, params)?;
            call.check()?;
            (encode(&image, format, params, target)?, image.width(), image.height(), 1)
        }
    };
    call.check()?;
    files::write(target, &bytes, call)?;
    let result = json!({
        "source_path": params.source_path, "target_path": target, "width": width, "height": height, "format": word(&format),
        "file_size": bytes.len(), "frames": frames,
    });
    let message = format!("{target}: {width} × {height}, {} bytes", bytes.len());
    Ok(Answer::new(word(&params.operation), result).message(message))
}

/// All frames of a GIF, each changed alike: the new file, its width, height and number of frames.
fn animated(path: &str, bytes: &[u8], params: &Params, call: &Call) -> Result<(Vec<u8>, u32, u32, u64)> {
    let mut out = Vec::new();
    let (mut width, mut height, mut count) = (0, 0, 0);
    {
        let mut encoder = GifEncoder::new_with_speed(&mut out, 10);
        for frame in gif(path, bytes)?.into_frames() {
            call.check()?;
            let frame = frame.map_err(|e| fault(path, &e))?;
            let delay = frame.delay();
            let image = apply(frame.into_buffer().into(), params)?.into_rgba8();
            (width, height) = image.dimensions();
            if count == 1 {
                encoder.set_repeat(Repeat::Infinite).map_err(|e| fault(path, &e))?;
            }
            encoder.encode_frame(Frame::from_parts(image, 0, 0, delay)).map_err(|e| fault(path, &e))?;
            count += 1;
        }
    }
    Ok((out, width, height, count))
}

fn by_name(path: &str) -> Result<Format> {
    let found = ImageFormat::from_path(Path::new(path)).ok().and_then(Format::of);
    found.ok_or_else(|| {
        Error::new(Class::Usage, format!("target_path: {path}: its ending names no format"))
            .hint("End it with .png, .jpg, .gif, .webp, .bmp or .tiff, or set target_format.")
    })
}

/// Whether a picture of this size may be made.
fn room(width: u32, height: u32) -> Result<()> {
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) * 4 > MAX_MEMORY {
        return Err(Error::new(
            Class::Tool,
            format!("{width} × {height}: larger than {MAX_SIDE} pixels a side or 512 MiB"),
        ));
    }
    Ok(())
}

fn colour(params: &Params) -> Result<Option<Rgba<u8>>> {
    let Some(text) = params.colour.as_deref() else { return Ok(None) };
    let wrong = || Error::new(Class::Usage, format!("colour: {text:?} is not #rrggbb or #rrggbbaa"));
    let digits = text.strip_prefix('#').filter(|digits| matches!(digits.len(), 6 | 8)).ok_or_else(wrong)?;
    let number = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
    let number = if digits.len() == 6 { number << 8 | 0xff } else { number };
    Ok(Some(Rgba(number.to_be_bytes())))
}

/// The changed picture.
fn apply(image: DynamicImage, params: &Params) -> Result<DynamicImage> {
    let (width, height) = (image.width(), image.height());
    Ok(match params.operation {
        Operation::Resize => {
            let keep = |side: u32, by: u32, of: u32| {
                u32::try_from((u64::from(side) * u64::from(by) / u64::from(of.max(1))).max(1)).unwrap_or(u32::MAX)
            };
            let (new_width, new_height) = match (params.width, params.height) {
                (None, None) => return Err(Error::new(Class::Usage, "width or height: missing")),
                (Some(new), None) => (new, keep(height, new, width)),
                (None, Some(new)) => (keep(width, new, height), new),
                (Some(w), Some(h)) if params.maintain_aspect_ratio => {
                    // The side that is tight decides.
                    if u64::from(w) * u64::from(height) <= u64::from(h) * u64::from(width) {
                        (w, keep(height, w, width))
                    } else {
                        (keep(width, h, height), h)
                    }
                }
                (Some(w), Some(h)) => (w, h),
            };
            room(new_width, new_height)?;
            image.resize_exact(new_width, new_height, FilterType::Lanczos3)
        }
        Operation::Thumbnail => {
            // Never larger than it was.
            let (most_width, most_height) = (params.max_width.min(width), params.max_height.min(height));
            if (most_width, most_height) == (width, height) { image } else { image.thumbnail(most_width, most_height) }
        }
        Operation::Crop => {
            let (x, y) = (required(params.x, "x")?, required(params.y, "y")?);
            let (w, h) = (required(params.width, "width")?, required(params.height, "height")?);
            if x.checked_add(w).is_none_or(|end| end > width) || y.checked_add(h).is_none_or(|end| end > height) {
                let text = format!("{w} × {h} at {x}, {y}: outside the picture of {width} × {height}");
                return Err(Error::new(Class::Tool, text));
            }
            image.crop_imm(x, y, w, h)
        }
        Operation::Rotate => {
            let degrees = params.degrees.rem_euclid(360.0);
            if degrees == 0.0 {
                image
            } else if degrees == 90.0 {
                image.rotate90()
            } else if degrees == 180.0 {
                image.rotate180()
            } else if degrees == 270.0 {
                image.rotate270()
            } else {
                turned(&image.into_rgba8(), degrees, colour(params)?.unwrap_or(Rgba([0; 4])))?.into()
            }
        }
        Operation::Flip => match params.direction {
            Direction::Horizontal => image.fliph(),
            Direction::Vertical => image.flipv(),
        },
        Operation::Greyscale => image.grayscale(),
        Operation::Blur => image.fast_blur(params.radius),
        Operation::Brightness => image.brighten(required(params.amount, "amount")?),
        Operation::Invert => {
            let mut image = image;
            image.invert();
            image
        }
        Operation::Convert | Operation::Metadata | Operation::Detect | Operation::Create => image,
    })
}

/// `image` turned clockwise in a frame that holds all of it; each new pixel is mixed of the four it came from.
fn turned(image: &RgbaImage, degrees: f64, behind: Rgba<u8>) -> Result<RgbaImage> {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (w, h) = (f64::from(image.width()), f64::from(image.height()));
    let new_w = (w * cos.abs() + h * sin.abs()).round().max(1.0) as u32;
    let new_h = (w * sin.abs() + h * cos.abs()).round().max(1.0) as u32;
    room(new_w, new_h)?;
    let pixel = |x: i64, y: i64| match (u32::try_from(x), u32::try_from(y)) {
        (Ok(x), Ok(y)) if x < image.width() && y < image.height() => *image.get_pixel(x, y),
        _ => behind,
    };
    Ok(RgbaImage::from_fn(new_w, new_h, |x, y| {
        let (dx, dy) = (f64::from(x) + 0.5 - f64::from(new_w) / 2.0, f64::from(y) + 0.5 - f64::from(new_h) / 2.0);
        let (sx, sy) = (dx * cos + dy * sin + w / 2.0 - 0.5, dy * cos - dx * sin + h / 2.0 - 0.5);
        let (left, top) = (sx.floor(), sy.floor());
        let (fx, fy) = (sx - left, sy - top);
        let (left, top) = (left as i64, top as i64);
        let corners = [
            (pixel(left, top), (1.0 - fx) * (1.0 - fy)),
            (pixel(left + 1, top), fx * (1.0 - fy)),
            (pixel(left, top + 1), (1.0 - fx) * fy),
            (pixel(left + 1, top + 1), fx * fy),
        ];
        let mixed =
            |channel: usize| corners.iter().map(|(pixel, share)| f64::from(pixel.0[channel]) * share).sum::<f64>();
        Rgba([0, 1, 2, 3].map(|channel| mixed(channel).round().clamp(0.0, 255.0) as u8))
    }))
}

fn encode(image: &DynamicImage, format: Format, params: &Params, target: &str) -> Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    let colour = colour(params)?;
    let behind = if format == Format::Jpeg { Some(colour.unwrap_or(Rgba([255; 4]))) } else { colour };
    let flat =
        behind.filter(|_| image.color().has_alpha() && params.operation != Operation::Create || format == Format::Jpeg);
    let flat = flat.filter(|_| image.color().has_alpha()).map(|behind| flattened(image, behind));
    let image = flat.as_ref().unwrap_or(image);
    let done = match format {
        Format::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut out, params.quality);
            match image {
                DynamicImage::ImageLuma8(grey) => grey.write_with_encoder(encoder),
                image => image.to_rgb8().write_with_encoder(encoder),
            }
        }
        // These know eight bits a channel only.
        Format::Gif | Format::Webp | Format::Bmp => {
            let image = if image.color().has_alpha() || format == Format::Gif {
                DynamicImage::from(image.to_rgba8())
            } else {
                DynamicImage::from(image.to_rgb8())
            };
            image.write_to(&mut out, format.image())
        }
        // The one pair of channels it does not know.
        Format::Tiff if matches!(image, DynamicImage::ImageLumaA8(_) | DynamicImage::ImageLumaA16(_)) => {
            image.to_rgba8().write_to(&mut out, format.image())
        }
        Format::Png | Format::Tiff => image.write_to(&mut out, format.image()),
    };
    done.map_err(|e| Error::new(Class::Tool, format!("{target}: {}", e.to_string().replace('\n', " "))))?;
    Ok(out.into_inner())
}

/// `image` laid on `behind`.
fn flattened(image: &DynamicImage, behind: Rgba<u8>) -> DynamicImage {
    let mut under = RgbaImage::from_pixel(image.width(), image.height(), behind);
    image::imageops::overlay(&mut under, &image.to_rgba8(), 0, 0);
    under.into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    fn pixel(path: &Path, x: u32, y: u32) -> [u8; 4] {
        image::open(path).unwrap().to_rgba8().get_pixel(x, y).0
    }

    /// A picture of 4 × 2: red, green, blue, white over black, clear, black, clear.
    fn sample(dir: &Path) {
        let row = |x| [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255], [255; 4]][x];
        let image = RgbaImage::from_fn(4, 2, |x, y| match (x, y) {
            (x, 0) => Rgba(row(x as usize)),
            (x, _) => Rgba([0, 0, 0, if x % 2 == 0 { 255 } else { 0 }]),
        });
        image.save(dir.join("a.png")).unwrap();
    }

    #[test]
    fn pixels_go_where_the_operation_says() {
        let (dir, call) = folder();
        let dir = dir.path();
        sample(dir);
        let make = |params: Value| {
            let mut all = json!({"source_path": "a.png", "target_path": "b.png"});
            all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
            run("image_processor", all, &call).unwrap()["result"].take()
        };
        let at = dir.join("b.png");
        make(json!({"operation": "flip"}));
        assert_eq!((pixel(&at, 0, 0), pixel(&at, 3, 0)), ([255; 4], [255, 0, 0, 255]));
        make(json!({"operation": "flip", "direction": "vertical"}));
        assert_eq!(pixel(&at, 0, 1), [255, 0, 0, 255]);
        let got = make(json!({"operation": "rotate"}));
        assert_eq!((&got["width"], &got["height"], pixel(&at, 1, 0)), (&json!(2), &json!(4), [255, 0, 0, 255]));
        let got = make(json!({"operation": "rotate", "degrees": 45}));
        assert_eq!((&got["width"], &got["height"]), (&json!(4), &json!(4)));
        assert!(pixel(&at, 0, 0)[3] < 128, "the corners are clear");
        let got = make(json!({"operation": "crop", "x": 1, "y": 0, "width": 2, "height": 1}));
        assert_eq!((&got["width"], pixel(&at, 1, 0)), (&json!(2), [0, 0, 255, 255]));
        make(json!({"operation": "grayscale"}));
        let [r, g, b, _] = pixel(&at, 0, 0);
        assert!(r == g && g == b && r > 0 && r < 255);
        make(json!({"operation": "invert"}));
        assert_eq!(pixel(&at, 0, 0), [0, 255, 255, 255]);
        make(json!({"operation": "convert", "colour": "#0000ff"}));
        assert_eq!(pixel(&at, 1, 1), [0, 0, 255, 255], "laid on blue");
        for (params, width, height) in [
            (json!({"operation": "resize", "width": 8, "height": 100}), 8, 4),
            (json!({"operation": "resize", "width": 8, "height": 100, "maintain_aspect_ratio": false}), 8, 100),
            (json!({"operation": "resize", "height": 1}), 2, 1),
            (json!({"operation": "thumbnail", "max_width": 2}), 2, 1),
            (json!({"operation": "thumbnail"}), 4, 2),
        ] {
            let got = make(params.clone());
            assert_eq!((&got["width"], &got["height"]), (&json!(width), &json!(height)), "{params}");
        }
    }

    #[test]
    fn every_format_is_written_and_known_again_whatever_its_name() {
        let (dir, call) = folder();
        sample(dir.path());
        for format in ["png", "jpg", "gif", "webp", "bmp", "tif"] {
            let params =
                json!({"operation": "convert", "source_path": "a.png", "target_path": "x", "target_format": format});
            run("image_processor", params, &call).unwrap();
            let got = run("image_processor", json!({"operation": "detect", "file_path": "x"}), &call).unwrap();
            let long = match format {
                "jpg" => "jpeg",
                "tif" => "tiff",
                other => other,
            };
            assert_eq!((&got["result"]["format"], &got["result"]["supported"]), (&json!(long), &json!(true)));
            let got = run("image_processor", json!({"path": "x"}), &call).unwrap();
            assert_eq!(got["result"]["metadata"]["dimensions"], json!({"width": 4, "height": 2}), "{format}");
        }
    }

    #[test]
    fn animations_stay_animated() {
        let (dir, call) = folder();
        let mut encoder = GifEncoder::new(std::fs::File::create(dir.path().join("a.gif")).unwrap());
        for shade in [0, 128, 255] {
            encoder.encode_frame(Frame::new(RgbaImage::from_pixel(10, 10, Rgba([shade, 0, 0, 255])))).unwrap();
        }
        drop(encoder);
        let params = json!({"operation": "resize", "source_path": "a.gif", "target_path": "b.gif", "width": 5});
        assert_eq!(run("image_processor", params, &call).unwrap()["result"]["frames"], 3);
        let got = run("image_processor", json!({"path": "b.gif"}), &call).unwrap();
        assert_eq!(
            (&got["result"]["metadata"]["frames"], &got["result"]["metadata"]["dimensions"]["width"]),
            (&json!(3), &json!(5))
        );
    }

    #[test]
    fn broken_and_huge_pictures_are_refused() {
        let (dir, call) = folder();
        sample(dir.path());
        let whole = std::fs::read(dir.path().join("a.png")).unwrap();
        let mut huge = whole.clone();
        // The width of IHDR; its checksum no longer fits either.
        huge[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        for (name, bytes) in [
            ("cut.png", whole[..whole.len() / 2].to_vec()),
            ("huge.png", huge),
            ("text.png", b"hello".to_vec()),
            ("none.png", Vec::new()),
            ("head.gif", b"GIF89a\xff\xff\xff\xff\0\0\0".to_vec()),
            ("head.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec()),
            ("head.webp", b"RIFF\xff\xff\xff\xffWEBPVP8 ".to_vec()),
            ("head.tiff", b"II*\0\xff\xff\xff\xff".to_vec()),
            ("head.bmp", b"BM\xff\xff\xff\xff".to_vec()),
        ] {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            let params = json!({"operation": "resize", "source_path": name, "target_path": "o.png", "width": 1});
            let error = run("image_processor", params, &call).unwrap_err();
            assert_eq!(error.class(), Class::Tool, "{name}: {error}");
            assert!(!dir.path().join("o.png").exists());
        }
    }

    #[test]
    fn wrong_calls_are_refused() {
        let create = |more: Value| {
            let mut all = json!({"operation": "create", "target_path": "a.png", "width": 1, "height": 1});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        bad(
            "image_processor",
            &[
                (json!({}), Class::Usage),
                (json!({"operation": "sharpen", "path": "a"}), Class::Usage),
                (json!({"path": "missing.png"}), Class::NotFound),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                (json!({"operation": "resize", "source_path": "a.png"}), Class::Usage),
                (create(json!({"colour": "red"})), Class::Usage),
                (create(json!({"width": 0})), Class::Usage),
                (create(json!({"width": 30_000, "height": 30_000})), Class::Tool),
                (create(json!({"target_path": "a.xyz"})), Class::Usage),
                (create(json!({"target_path": "/a.png"})), Class::Denied),
                (create(json!({"quality": 101})), Class::Usage),
            ],
        );
    }
}
