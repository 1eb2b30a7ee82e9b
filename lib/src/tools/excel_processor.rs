//! `excel_processor`: reads workbooks (xlsx, xls, xlsb, ods) and writes xlsx.

use std::io::Cursor;

use calamine::{Data, Range, Reader, Sheets, open_workbook_auto_from_rs};
use rust_xlsxwriter::{Format, Workbook, Worksheet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required, word};
use crate::error::{Class, Error, Result};

/// The workbook tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "excel_processor",
    aliases: &["excel", "excel_reader", "spreadsheet"],
    category: "data",
    summary: "read Excel and OpenDocument workbooks, write xlsx",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("input", "path"),
        Spelling::Param("file_path", "path"),
        Spelling::Param("file", "path"),
        Spelling::Param("data", "rows"),
        Spelling::Param("output_file", "target_path"),
        Spelling::Value("operation", "list", "sheets"),
        Spelling::Value("operation", "create", "write"),
    ],
    examples: &[
        example(
            "write",
            r#"{"operation": "write", "target_path": "$TMP/a.xlsx", "rows": [{"name": "Ann", "age": 30, "ok": true}, {"name": "Bob", "age": 25.5}]}"#,
            r#"{"path": "$TMP/a.xlsx", "sheets": [{"name": "Sheet1", "rows": 3, "columns": 3}]}"#,
        ),
        example(
            "read as objects",
            r#"{"operation": "read", "path": "$TMP/a.xlsx"}"#,
            r#"{"sheet": "Sheet1", "columns": ["age", "name", "ok"], "rows": [{"name": "Ann", "age": 30, "ok": true}, {"name": "Bob", "age": 25.5, "ok": null}], "row_count": 2}"#,
        ),
        example(
            "a range as lists",
            r#"{"operation": "read", "path": "$TMP/a.xlsx", "range": "A1:B2", "header": false}"#,
            r#"{"rows": [["age", "name"], [30, "Ann"]]}"#,
        ),
        example(
            "which sheets there are",
            r#"{"operation": "sheets", "path": "$TMP/a.xlsx"}"#,
            r#"{"sheets": [{"name": "Sheet1", "rows": 3, "columns": 3}]}"#,
        ),
    ],
};

/// Rows that are returned unless told otherwise, and most cells of an answer or a sheet.
const MAX_ROWS: usize = 10_000;
const MAX_CELLS: usize = 5_000_000;

/// Reads a workbook, or writes one. Dates are read as ISO 8601. A cell that is written from a text that begins with `=` is a formula
/// only with `formulas`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The workbook to read.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// `read`: the name of the sheet, or its number from 1; the first if not given.
    sheet: Option<Sheet>,
    /// `read`: the cells, as `B2:D10`; all that hold something if not given.
    range: Option<String>,
    /// `read`: the first row names the columns, rows are objects; `write` of objects: write the names.
    #[serde(default = "super::yes")]
    header: bool,
    /// `read`: rows to leave out before.
    #[serde(default)]
    offset: usize,
    /// `read`: most rows.
    #[serde(default = "rows")]
    limit: usize,
    /// `write`: where to write, an .xlsx file.
    #[schemars(length(min = 1))]
    target_path: Option<String>,
    /// `write`: the rows of one sheet: objects or lists.
    rows: Option<Vec<Value>>,
    /// `write`: rows of several sheets by name.
    sheets: Option<Map<String, Value>>,
    /// `write`: texts that begin with `=` are formulas.
    #[serde(default)]
    formulas: bool,
}

fn rows() -> usize {
    MAX_ROWS
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Read,
    Sheets,
    Write,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Sheet {
    Number(usize),
    Name(String),
}

/// Reads or writes.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    let name = word(&params.operation);
    if params.operation == Operation::Write {
        return write(&params, call);
    }
    let path = required(params.path.as_deref(), "path")?;
    let bytes = files::read(path, call)?;
    // A workbook is compressed: what it unpacks to is looked at before it is.
    bounded(&bytes, path, call)?;
    let mut book = guarded(path, || open_workbook_auto_from_rs(Cursor::new(bytes)).map_err(|e| damaged(path, &e)))?;
    let names = book.sheet_names();
    if params.operation == Operation::Sheets {
        let mut list = Vec::new();
        for sheet in &names {
            call.check()?;
            let range = sheet_of(&mut book, sheet, path)?;
            let (rows, columns) = range.get_size();
            list.push(json!({"name": sheet, "rows": rows, "columns": columns}));
        }
        let result = json!({"path": path, "sheets": list, "sheet_count": names.len()});
        return Ok(Answer::new(name, result).message(format!("{} sheets", names.len())));
    }
    let wanted = match &params.sheet {
        None => names.first().ok_or_else(|| Error::new(Class::Tool, format!("{path}: no sheet in it")))?,
        Some(Sheet::Number(number)) => names.get(number.wrapping_sub(1)).ok_or_else(|| {
            Error::new(Class::Usage, format!("sheet: {number}, but there are {} sheets", names.len()))
        })?,
        Some(Sheet::Name(name)) => names.iter().find(|one| *one == name).ok_or_else(|| {
            Error::new(Class::Usage, format!("sheet: no sheet {name:?}")).hint(format!("Sheets: {}.", names.join(", ")))
        })?,
    }
    .clone();
    let mut range = sheet_of(&mut book, &wanted, path)?;
    if let Some(cells) = &params.range {
        let (from, to) = corners(cells)?;
        // What lies outside holds nothing, however far it goes.
        let end = range.end().unwrap_or((0, 0));
        let to = (to.0.min(end.0.max(from.0)), to.1.min(end.1.max(from.1)));
        range = range.range(from, to);
    }
    let mut source = range.rows();
    let width = range.width();
    let columns: Vec<String> = match params.header {
        true => source.next().map(headers).unwrap_or_default(),
        false => (0..width).map(letters).collect(),
    };
    let total = range.height().saturating_sub(usize::from(params.header));
    let mut out = Vec::new();
    for row in source.skip(params.offset).take(params.limit.min(MAX_CELLS / width.max(1))) {
        call.check()?;
        let cells = row.iter().map(cell);
        out.push(match params.header {
            true => Value::Object(columns.iter().cloned().zip(cells).collect()),
            false => cells.collect(),
        });
    }
    let truncated = params.offset + out.len() < total;
    let result = json!({
        "path": path, "sheet": wanted, "columns": columns, "row_count": out.len(), "total_rows": total, "rows": out, "truncated": truncated,
    });
    Ok(Answer::new(name, result).message(format!("{total} rows in {wanted}")))
}

/// The reader is strict about its own assumptions: a panic of it is an error of the file.
fn guarded<T>(path: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::new(Class::Tool, format!("{path}: damaged: the reader cannot follow it"))))
}

fn damaged(path: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(
        Class::Tool,
        format!("{path}: not a readable workbook: {}", super::lower(&error.to_string().replace('\n', " "))),
    )
}

/// Refuses a workbook that unpacks to more than its size explains.
fn bounded(bytes: &[u8], path: &str, call: &Call) -> Result<()> {
    if !bytes.starts_with(b"PK") {
        return Ok(());
    }
    let most = call.settings.file_operations.max_file_size.saturating_mul(10);
    let mut book = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged(path, &e))?;
    let mut total = 0_u64;
    for at in 0..book.len() {
        call.check()?;
        total = total.saturating_add(book.by_index_raw(at).map_err(|e| damaged(path, &e))?.size());
    }
    if total > most {
        return Err(Error::new(Class::Tool, format!("{path}: unpacks to more than {most} bytes"))
            .hint("Raise tools.file_operations.max_file_size."));
    }
    Ok(())
}

/// A sheet. Two cells far apart would make it as large as all between them, so its corners are looked at first.
fn sheet_of(book: &mut Sheets<Cursor<Vec<u8>>>, name: &str, path: &str) -> Result<Range<Data>> {
    guarded(path, || {
        let (mut rows, mut columns) = (0_u64, 0_u64);
        let mut see = |(row, column): (u32, u32)| {
            rows = rows.max(u64::from(row) + 1);
            columns = columns.max(u64::from(column) + 1);
        };
        match book {
            Sheets::Xlsx(book) => {
                let mut cells = book.worksheet_cells_reader(name).map_err(|e| damaged(path, &e))?;
                while let Some(cell) = cells.next_cell().map_err(|e| damaged(path, &e))? {
                    see(cell.get_position());
                }
            }
            Sheets::Xlsb(book) => {
                let mut cells = book.worksheet_cells_reader(name).map_err(|e| damaged(path, &e))?;
                while let Some(cell) = cells.next_cell().map_err(|e| damaged(path, &e))? {
                    see(cell.get_position());
                }
            }
            // The others hold at most 65536 rows, or tell what they hold in order.
            _ => {}
        }
        if rows * columns > 4 * MAX_CELLS as u64 {
            return Err(Error::new(Class::Tool, format!("{path}: {name}: more than {} cells", 4 * MAX_CELLS)));
        }
        book.worksheet_range(name).map_err(|e| damaged(path, &e))
    })
}

/// The names of the columns, each once.
fn headers(row: &[Data]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (at, data) in row.iter().enumerate() {
        let name = match cell(data) {
            Value::Null => letters(at),
            Value::String(text) => text.trim().to_owned(),
            value => value.to_string(),
        };
        let mut unique = name.clone();
        let mut count = 1;
        while names.contains(&unique) {
            count += 1;
            unique = format!("{name}_{count}");
        }
        names.push(unique);
    }
    names
}

fn cell(data: &Data) -> Value {
    match data {
        Data::Empty => Value::Null,
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => text.as_str().into(),
        Data::Bool(value) => (*value).into(),
        Data::Int(number) => (*number).into(),
        // Workbooks know one kind of number.
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => (*number as i64).into(),
        Data::Float(number) => (*number).into(),
        Data::DateTime(time) => match time.is_duration() {
            true => time.as_f64().into(),
            false => moment(time.as_f64()).map_or_else(|| time.as_f64().into(), Value::from),
        },
        Data::Error(error) => json!({"error": error.to_string()}),
    }
}

/// Days since the end of 1899 as a date, with a time if it has one.
fn moment(days: f64) -> Option<String> {
    if !(0.0..2_958_466.0).contains(&days) {
        return None;
    }
    // Lotus believed that 1900 was a leap year, and workbooks still do.
    let base = jiff::civil::date(1899, 12, if days < 60.0 { 31 } else { 30 }).at(0, 0, 0, 0);
    let millis = (days * 86_400_000.0).round() as i64;
    let time = base.checked_add(jiff::SignedDuration::from_millis(millis)).ok()?;
    Some(if days.fract() == 0.0 { time.date().to_string() } else { time.to_string() })
}

/// `A`, `B`, … `AA`.
fn letters(mut at: usize) -> String {
    let mut name = Vec::new();
    loop {
        name.push(b'A' + u8::try_from(at % 26).unwrap_or(0));
        match at / 26 {
            0 => break,
            rest => at = rest - 1,
        }
    }
    name.reverse();
    String::from_utf8(name).unwrap_or_default()
}

/// `B2:D10` as corners from 0.
fn corners(text: &str) -> Result<((u32, u32), (u32, u32))> {
    let corner = |text: &str| {
        let text = text.trim().replace('$', "").to_uppercase();
        let split = text.find(|c: char| c.is_ascii_digit())?;
        let (letters, digits) = text.split_at(split);
        if letters.is_empty() || letters.len() > 3 || !letters.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let column = letters.bytes().fold(0, |at, byte| at * 26 + u32::from(byte - b'A') + 1) - 1;
        let row: u32 = digits.parse().ok().filter(|row| (1..=1_048_576).contains(row))?;
        (column < 16_384).then_some((row - 1, column))
    };
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    match (corner(from), corner(to)) {
        (Some(from), Some(to)) if from.0 <= to.0 && from.1 <= to.1 => Ok((from, to)),
        _ => Err(Error::new(Class::Usage, format!("range: {text:?} is no range")).hint("Write it as B2:D10.")),
    }
}

fn write(params: &Params, call: &Call) -> Result<Answer> {
    let path = required(params.target_path.as_deref(), "target_path")?;
    if !path.to_lowercase().ends_with(".xlsx") {
        return Err(Error::new(Class::Usage, "target_path: only .xlsx is written"));
    }
    let mut sheets: Vec<(String, &[Value])> = Vec::new();
    if let Some(rows) = &params.rows {
        sheets.push(("Sheet1".into(), rows));
    }
    for (name, rows) in params.sheets.iter().flatten() {
        let rows =
            rows.as_array().ok_or_else(|| Error::new(Class::Usage, format!("sheets.{name}: not an array of rows")))?;
        sheets.push((name.clone(), rows));
    }
    if sheets.is_empty() {
        return Err(Error::new(Class::Usage, "rows: missing"));
    }
    let mut book = Workbook::new();
    let mut told = Vec::new();
    for (name, rows) in &sheets {
        let fault = |e: rust_xlsxwriter::XlsxError| {
            Error::new(Class::Tool, format!("sheet {name:?}: {}", super::lower(&e.to_string().replace('\n', " "))))
        };
        let sheet = book.add_worksheet();
        sheet.set_name(name.as_str()).map_err(fault)?;
        let (height, width) =
            fill(sheet, rows, params.header, params.formulas, call).map_err(|e| e.within(format!("sheet {name:?}")))?;
        told.push(json!({"name": name, "rows": height, "columns": width}));
    }
    let bytes = book.save_to_buffer().map_err(|e| Error::new(Class::Tool, super::lower(&e.to_string())))?;
    files::write(path, &bytes, call)?;
    let result = json!({"path": path, "sheets": told, "size": bytes.len()});
    Ok(Answer::new("write", result).message(format!("Wrote {} sheets to {path}", sheets.len())))
}

/// Writes rows; how many rows and columns they took.
fn fill(sheet: &mut Worksheet, rows: &[Value], header: bool, formulas: bool, call: &Call) -> Result<(usize, usize)> {
    let fault =
        |e: rust_xlsxwriter::XlsxError| Error::new(Class::Tool, super::lower(&e.to_string().replace('\n', " ")));
    let mut names: Vec<&str> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if known.insert(name) {
            names.push(name);
        }
    }
    let (mut at, mut width) = (0_u32, names.len());
    if header && !names.is_empty() {
        let bold = Format::new().set_bold();
        for (column, name) in names.iter().enumerate() {
            sheet.write_string_with_format(0, place(column)?, *name, &bold).map_err(fault)?;
        }
        sheet.set_freeze_panes(1, 0).map_err(fault)?;
        at = 1;
    }
    let mut cells = 0_usize;
    for (number, row) in rows.iter().enumerate() {
        call.check()?;
        let values: Vec<&Value> = match row {
            Value::Object(members) => names.iter().map(|name| members.get(*name).unwrap_or(&Value::Null)).collect(),
            Value::Array(values) => values.iter().collect(),
            _ => return Err(Error::new(Class::Usage, format!("rows[{number}]: neither an object nor an array"))),
        };
        width = width.max(values.len());
        cells += values.len();
        if cells > MAX_CELLS {
            return Err(Error::new(Class::Tool, format!("more than {MAX_CELLS} cells")));
        }
        for (column, value) in values.into_iter().enumerate() {
            let column = place(column)?;
            match value {
                Value::Null => continue,
                Value::Bool(value) => sheet.write_boolean(at, column, *value),
                Value::Number(number) => sheet.write_number(at, column, number.as_f64().unwrap_or_default()),
                Value::String(text) if formulas && text.starts_with('=') => {
                    sheet.write_formula(at, column, text.as_str())
                }
                Value::String(text) => sheet.write_string(at, column, text),
                value => sheet.write_string(at, column, value.to_string()),
            }
            .map_err(fault)?;
        }
        at += 1;
    }
    Ok((at as usize, width))
}

fn place(column: usize) -> Result<u16> {
    u16::try_from(column).map_err(|_| Error::new(Class::Tool, "more than 16384 columns"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    #[test]
    fn sheets_go_both_ways() {
        let (_dir, call) = folder();
        let sheets = json!({"A b": [[1, "x", null, true], [2.5, "=1+1"]], "Zwei": [{"k": {"n": 1}}]});
        run("excel", json!({"operation": "write", "target_path": "n/a.xlsx", "sheets": sheets}), &call).unwrap();
        let read = |more: Value| {
            let mut params = json!({"path": "n/a.xlsx"});
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            run("excel", params, &call).unwrap()["result"].take()
        };
        assert_eq!(read(json!({"header": false}))["rows"], json!([[1, "x", null, true], [2.5, "=1+1", null, null]]));
        assert_eq!(read(json!({"sheet": 2}))["rows"], json!([{"k": "{\"n\":1}"}]));
        assert_eq!(
            read(json!({"sheet": "A b", "range": "B1:Z99", "header": false, "limit": 1}))["rows"],
            json!([["x", null, true]])
        );
        assert_eq!(read(json!({"header": false, "limit": 1}))["truncated"], true);
        assert_eq!(
            (letters(0), letters(25), letters(26), letters(701), letters(702)),
            ("A".into(), "Z".into(), "AA".into(), "ZZ".into(), "AAA".into())
        );
        assert_eq!(
            (moment(45_000.5).unwrap(), moment(1.0).unwrap()),
            ("2023-03-15T12:00:00".into(), "1900-01-01".into())
        );
    }

    #[test]
    fn damaged_workbooks_are_errors() {
        let (dir, call) = folder();
        run("excel", json!({"operation": "write", "target_path": "a.xlsx", "rows": [["a", 1], ["b", 2]]}), &call)
            .unwrap();
        let whole = std::fs::read(dir.path().join("a.xlsx")).unwrap();
        for at in (0..whole.len()).step_by(13) {
            let mut broken = whole.clone();
            broken[at] ^= 0x55;
            std::fs::write(dir.path().join("b.xlsx"), broken).unwrap();
            _ = run("excel", json!({"path": "b.xlsx"}), &call);
            std::fs::write(dir.path().join("b.xlsx"), &whole[..at]).unwrap();
            assert!(run("excel", json!({"path": "b.xlsx"}), &call).is_err());
        }
    }

    #[test]
    fn bad_input() {
        let write = |more: Value, class| {
            let mut params = json!({"operation": "write", "target_path": "a.xlsx"});
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            (params, class)
        };
        bad(
            "excel_processor",
            &[
                (json!({}), Class::Usage),
                (json!({"path": "absent.xlsx"}), Class::NotFound),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                write(json!({}), Class::Usage),
                write(json!({"rows": [1]}), Class::Usage),
                write(json!({"rows": [], "target_path": "a.xls"}), Class::Usage),
                write(json!({"rows": [], "target_path": "../a.xlsx"}), Class::Denied),
                write(json!({"sheets": {"a/b": []}}), Class::Tool),
                write(json!({"sheets": {"a": 1}}), Class::Usage),
                write(json!({"rows": [vec![1; 70_000]]}), Class::Tool),
            ],
        );
    }
}
