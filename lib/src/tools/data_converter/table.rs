//! CSV as a list of objects.

use serde_json::{Map, Value};

use super::super::{Call, lower};
use crate::error::{Class, Error, Result};

/// What stands between cells: one ASCII character.
fn delimiter(text: &str) -> Result<u8> {
    match text {
        "\\t" | "tab" => Ok(b'\t'),
        text => match text.as_bytes() {
            [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
            _ => Err(Error::new(Class::Usage, format!("delimiter: {text:?} is not one character"))),
        },
    }
}

pub(super) fn read(text: &str, between: &str, infer: bool, call: &Call) -> Result<Value> {
    let wrong = |e: csv::Error| Error::new(Class::Tool, format!("not CSV: {}", lower(&e.to_string())));
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter(between)?).from_reader(text.as_bytes());
    let names = reader.headers().map_err(wrong)?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        call.check()?;
        let record = record.map_err(wrong)?;
        let cell = |(name, cell): (&str, &str)| (name.to_owned(), if infer { typed(cell) } else { cell.into() });
        rows.push(Value::Object(names.iter().zip(&record).map(cell).collect()));
    }
    Ok(rows.into())
}

/// What a cell most likely means.
fn typed(cell: &str) -> Value {
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

pub(super) fn write(data: &Value, between: &str) -> Result<String> {
    let rows = match data {
        Value::Array(rows) => rows.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut names: Vec<&str> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for row in rows {
        for name in row.as_object().into_iter().flat_map(Map::keys) {
            if known.insert(name) {
                names.push(name);
            }
        }
    }
    let mut out = csv::WriterBuilder::new().delimiter(delimiter(between)?).flexible(true).from_writer(Vec::new());
    let fault = |e: csv::Error| Error::new(Class::Tool, e.to_string());
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    if !names.is_empty() {
        out.write_record(&names).map_err(fault)?;
    }
    for (at, row) in rows.iter().enumerate() {
        match row {
            Value::Object(members) => {
                out.write_record(names.iter().map(|name| members.get(*name).map_or(String::new(), cell)))
                    .map_err(fault)?;
            }
            Value::Array(cells) if names.is_empty() => out.write_record(cells.iter().map(cell)).map_err(fault)?,
            _ => {
                return Err(Error::new(
                    Class::Tool,
                    format!("[{at}]: no row: CSV holds a list of objects, or of lists"),
                ));
            }
        }
    }
    let bytes = out.into_inner().map_err(|e| Error::new(Class::Bug, e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| Error::new(Class::Bug, e.to_string()))
}
