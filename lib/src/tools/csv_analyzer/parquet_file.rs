//! Parquet files, row by row, without Arrow.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde_json::Value;

use super::super::{Call, lower};
use super::rows::typed;
use crate::error::{Class, Error, Result};

/// Rows of a group, as far as they are held at once.
const GROUP: usize = 50_000;
/// Most bytes of a table that is written.
const MAX_BYTES: usize = 1 << 30;

fn wrong(error: &dyn std::fmt::Display) -> Error {
    Error::new(Class::Tool, format!("not a readable Parquet file: {}", lower(&error.to_string().replace('\n', " "))))
}

/// The reader is strict about its own assumptions: a panic of it is an error of the file.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| Err(wrong(&"damaged")))
}

pub(super) struct Reader {
    names: Vec<String>,
    rows: RowIter<'static>,
}

impl Reader {
    pub(super) fn new(file: File) -> Result<Self> {
        guarded(|| {
            let reader = SerializedFileReader::new(file).map_err(|e| wrong(&e))?;
            let fields = reader.metadata().file_metadata().schema().get_fields();
            let names = fields.iter().map(|field| field.name().to_owned()).collect();
            Ok(Reader { names, rows: RowIter::from_file_into(Box::new(reader)) })
        })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    pub(super) fn read(&mut self, row: &mut Vec<String>) -> Result<bool> {
        let Some(next) = guarded(|| self.rows.next().transpose().map_err(|e| wrong(&e)))? else { return Ok(false) };
        row.clear();
        for (_, field) in next.get_column_iter() {
            row.push(match field {
                Field::Null => String::new(),
                Field::Str(text) => text.clone(),
                Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned(),
                Field::Float(number) => number.to_string(),
                Field::Double(number) => number.to_string(),
                // Dates and times are those of UTC.
                other => other.to_string().trim_end_matches(" +00:00").to_owned(),
            });
        }
        Ok(true)
    }
}

/// What a column is written as.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Integer,
    Float,
    Boolean,
    Text,
}

/// Collects a table and writes it: types are known only when all rows were seen, so the cells are kept as text.
pub(super) struct Writer {
    names: Vec<String>,
    columns: Vec<Vec<Option<String>>>,
    kinds: Vec<Option<Kind>>,
    size: usize,
}

impl Writer {
    pub(super) fn new(names: &[String]) -> Self {
        Writer {
            names: names.to_vec(),
            columns: vec![Vec::new(); names.len()],
            kinds: vec![None; names.len()],
            size: 0,
        }
    }

    pub(super) fn push(&mut self, row: &[String], call: &Call) -> Result<()> {
        call.check()?;
        for ((column, kind), cell) in self.columns.iter_mut().zip(&mut self.kinds).zip(row) {
            self.size += cell.len() + size_of::<Option<String>>();
            if cell.is_empty() {
                column.push(None);
                continue;
            }
            let seen = match typed(cell) {
                Value::Bool(_) => Kind::Boolean,
                Value::Number(number) if number.is_i64() => Kind::Integer,
                Value::Number(_) => Kind::Float,
                _ => Kind::Text,
            };
            *kind = Some(match (*kind, seen) {
                (None, seen) => seen,
                (Some(kind), seen) if kind == seen => kind,
                (Some(Kind::Integer | Kind::Float), Kind::Integer | Kind::Float) => Kind::Float,
                _ => Kind::Text,
            });
            column.push(Some(cell.clone()));
        }
        if self.size > MAX_BYTES {
            return Err(Error::new(Class::Tool, "the table is too large for one Parquet file: more than 1 GiB")
                .hint("Filter it first, or convert it in parts."));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Vec<u8>> {
        let bug = |e: parquet::errors::ParquetError| {
            Error::new(Class::Tool, format!("not to be written: {}", lower(&e.to_string())))
        };
        let kinds: Vec<Kind> = self.kinds.iter().map(|kind| kind.unwrap_or(Kind::Text)).collect();
        let mut fields = Vec::new();
        for (name, kind) in self.names.iter().zip(&kinds) {
            let (physical, logical) = match kind {
                Kind::Integer => (Physical::INT64, None),
                Kind::Float => (Physical::DOUBLE, None),
                Kind::Boolean => (Physical::BOOLEAN, None),
                Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            };
            let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
            fields.push(Arc::new(builder.with_logical_type(logical).build().map_err(bug)?));
        }
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().map_err(bug)?);
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let mut bytes = Vec::new();
        let mut file = SerializedFileWriter::new(&mut bytes, schema, properties).map_err(bug)?;
        let count = self.columns.first().map_or(0, Vec::len);
        for start in (0..count).step_by(GROUP) {
            let end = (start + GROUP).min(count);
            let mut group = file.next_row_group().map_err(bug)?;
            for (column, kind) in self.columns.iter().zip(&kinds) {
                let Some(mut out) = group.next_column().map_err(bug)? else { break };
                let cells = &column[start..end];
                let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
                let present = cells.iter().flatten();
                match kind {
                    Kind::Integer => {
                        let values: Vec<i64> = present.map(|cell| cell.parse().unwrap_or_default()).collect();
                        out.typed::<Int64Type>().write_batch(&values, Some(&levels), None)
                    }
                    Kind::Float => {
                        let values: Vec<f64> = present.map(|cell| cell.parse().unwrap_or_default()).collect();
                        out.typed::<DoubleType>().write_batch(&values, Some(&levels), None)
                    }
                    Kind::Boolean => {
                        let values: Vec<bool> = present.map(|cell| cell.eq_ignore_ascii_case("true")).collect();
                        out.typed::<BoolType>().write_batch(&values, Some(&levels), None)
                    }
                    Kind::Text => {
                        let values: Vec<ByteArray> = present.map(|cell| ByteArray::from(cell.as_str())).collect();
                        out.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)
                    }
                }
                .map_err(bug)?;
                out.close().map_err(bug)?;
            }
            group.close().map_err(bug)?;
        }
        file.close().map_err(bug)?;
        Ok(bytes)
    }
}
