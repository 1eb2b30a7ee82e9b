//! Rows in and out: text and files as CSV, TSV and Parquet, one row at a time.

use std::fs::File;
use std::io::{BufReader, BufWriter, Cursor, Read, Seek, SeekFrom, Write};

use serde_json::Value;

use super::super::{Call, files, lower};
use super::parquet_file;
use crate::error::{Class, Error, Result};

/// Faults of rows that are kept.
const MAX_FAULTS: usize = 10;
/// Bytes that are looked at to recognise a delimiter.
const SNIFF: usize = 1 << 16;

/// Where rows come from.
pub(super) struct Source {
    kind: Kind,
    names: Vec<String>,
    delimiter: u8,
    /// What was wrong with rows.
    pub(super) faults: Vec<String>,
    /// Bytes of the text or file.
    pub(super) size: u64,
    count: u64,
}

enum Kind {
    Text { reader: Box<csv::Reader<Box<dyn Read>>>, record: csv::StringRecord },
    Parquet(Box<parquet_file::Reader>),
}

impl Source {
    pub(super) fn text(text: &str, delimiter: Option<&str>) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let delimiter = chosen(delimiter, text.as_bytes())?;
        let size = text.len() as u64;
        Self::csv(Box::new(Cursor::new(text.as_bytes().to_vec())), delimiter, size)
    }

    pub(super) fn file(path: &str, delimiter: Option<&str>, call: &Call) -> Result<Self> {
        let fault = |e| Error::io(path, e);
        let mut file = call.open(path)?;
        let metadata = file.metadata().map_err(fault)?;
        if !metadata.is_file() {
            return Err(Error::new(Class::Tool, format!("{path}: not a file")));
        }
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(SNIFF as u64).read_to_end(&mut start).map_err(fault)?;
        file.seek(SeekFrom::Start(0)).map_err(fault)?;
        if start.starts_with(b"PAR1") {
            let reader = parquet_file::Reader::new(file).map_err(|e| e.within(path))?;
            let names = reader.names();
            let kind = Kind::Parquet(Box::new(reader));
            return Ok(Source { kind, names, delimiter: b',', faults: Vec::new(), size: metadata.len(), count: 0 });
        }
        let mark = if start.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        file.seek(SeekFrom::Start(mark)).map_err(fault)?;
        let by_name = path.to_lowercase().ends_with(".tsv").then_some("\t");
        let delimiter = chosen(delimiter.or(by_name), &start)?;
        Self::csv(Box::new(BufReader::with_capacity(1 << 16, file)), delimiter, metadata.len())
            .map_err(|e| e.within(path))
    }

    fn csv(reader: Box<dyn Read>, delimiter: u8, size: u64) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(reader);
        let names: Vec<String> =
            reader.headers().map_err(|e| wrong(&e))?.iter().map(|name| name.trim().to_owned()).collect();
        if names.is_empty() || names.iter().all(String::is_empty) {
            return Err(Error::new(Class::Tool, "no table: nothing names the columns"));
        }
        let kind = Kind::Text { reader: Box::new(reader), record: csv::StringRecord::new() };
        Ok(Source { kind, names, delimiter, faults: Vec::new(), size, count: 0 })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Reads a row; false at the end. One that is too short is filled up, one that is too long is cut, and noted.
    pub(super) fn read(&mut self, row: &mut Vec<String>, call: &Call) -> Result<bool> {
        if self.count.is_multiple_of(256) {
            call.check()?;
        }
        if self.count > 0 && self.count.is_multiple_of(1_000_000) {
            call.progress(format!("{} million rows", self.count / 1_000_000));
        }
        let width = self.names.len();
        match &mut self.kind {
            Kind::Parquet(reader) => {
                if !reader.read(row)? {
                    return Ok(false);
                }
            }
            Kind::Text { reader, record } => {
                if !reader.read_record(record).map_err(|e| wrong(&e))? {
                    return Ok(false);
                }
                if record.len() != width && self.faults.len() < MAX_FAULTS {
                    let line = record.position().map_or(0, csv::Position::line);
                    self.faults.push(format!("line {line}: {} cells, not {width}", record.len()));
                }
                row.truncate(width);
                row.resize(width, String::new());
                for (cell, given) in row.iter_mut().zip(record.iter().chain(std::iter::repeat(""))) {
                    cell.clear();
                    cell.push_str(given);
                }
            }
        }
        self.count += 1;
        Ok(true)
    }
}

fn wrong(error: &csv::Error) -> Error {
    Error::new(Class::Tool, format!("not CSV in UTF-8: {}", lower(&error.to_string().replace('\n', " "))))
}

/// The delimiter that was named, or that cuts the first lines into the same number of cells most often.
fn chosen(named: Option<&str>, start: &[u8]) -> Result<u8> {
    match named {
        Some("\\t" | "tab") => return Ok(b'\t'),
        Some(text) => {
            return match text.as_bytes() {
                [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
                _ => Err(Error::new(Class::Usage, format!("options.delimiter: {text:?} is not one character"))),
            };
        }
        None => {}
    }
    let cells = |delimiter: u8| {
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(start);
        let counts: Vec<usize> = reader.byte_records().take(20).filter_map(|record| Some(record.ok()?.len())).collect();
        let first = counts.first().copied().unwrap_or(1);
        let same = counts.iter().filter(|count| **count == first).count();
        if first < 2 { (0, 0) } else { (same, first) }
    };
    let best = b",;\t|".iter().copied().max_by_key(|delimiter| (cells(*delimiter), std::cmp::Reverse(*delimiter)));
    Ok(best.filter(|delimiter| cells(*delimiter).1 > 0).unwrap_or(b','))
}

/// What a cell most likely means.
pub(super) fn typed(cell: &str) -> Value {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let number = digits.starts_with(|c: char| c.is_ascii_digit())
        && (!digits.starts_with('0') || digits.len() == 1 || digits.starts_with("0."));
    match cell {
        "" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        // JSON's own parser knows which number is exact as which kind.
        _ if number => match serde_json::from_str::<Value>(cell) {
            Ok(value @ Value::Number(_)) => value,
            _ => cell.into(),
        },
        _ => cell.into(),
    }
}

/// Where rows go: memory up to the size limit, or a file beside the one that is asked for.
pub(super) struct Sink {
    out: Out,
    delimiter: u8,
    left: u64,
}

enum Out {
    Memory(Vec<u8>),
    File(BufWriter<File>),
}

impl Sink {
    pub(super) fn new(delimiter: u8, target: Option<&str>, call: &Call) -> Result<Self> {
        let left = call.settings.file_operations.max_file_size;
        let out = match target {
            None => Out::Memory(Vec::new()),
            Some(path) => {
                // Asked first, so that nobody waits for a refusal.
                files::place_for_new(path, call)?;
                Out::File(BufWriter::new(tempfile::tempfile().map_err(|e| Error::system("temporary file", e))?))
            }
        };
        Ok(Sink { out, delimiter, left })
    }

    pub(super) fn write(&mut self, row: &[String]) -> Result<()> {
        let mut writer = csv::WriterBuilder::new().delimiter(self.delimiter).from_writer(Vec::new());
        writer.write_record(row).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
        let bytes = writer.into_inner().map_err(|e| Error::new(Class::Bug, e.to_string()))?;
        self.bytes(&bytes)
    }

    pub(super) fn raw(&mut self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.out {
            Out::File(file) => file.write_all(bytes).map_err(|e| Error::system("temporary file", e)),
            Out::Memory(memory) => {
                self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
                    Error::new(Class::Tool, "the resulting table is too large to return").hint("Give an output_file.")
                })?;
                memory.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// The text, or nothing when it went to `target`.
    pub(super) fn finish(self, target: Option<&str>, call: &Call) -> Result<String> {
        match (self.out, target) {
            (Out::Memory(bytes), _) => String::from_utf8(bytes).map_err(|e| Error::new(Class::Bug, e.to_string())),
            (Out::File(file), target) => {
                let path = target.unwrap_or_default();
                let mut file = file.into_inner().map_err(|e| Error::system("temporary file", e.into_error()))?;
                file.seek(SeekFrom::Start(0)).map_err(|e| Error::system("temporary file", e))?;
                let place = files::place_for_new(path, call)?;
                files::replace(&place, None, |out| files::copy_bytes(&mut file, out, call).map(drop))
                    .map_err(|e| files::named(e, path))?;
                Ok(String::new())
            }
        }
    }
}
