//! `csv_analyzer`: tables as CSV, TSV or Parquet: profile, filter, sample, transform, validate, convert. Rows stream through; what is kept
//! of a column is of bounded size.

mod parquet_file;
mod profile;
mod rows;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required, word};
use crate::error::{Class, Error, Result};
use rows::{Sink, Source};

/// The table analyzer.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "csv_analyzer",
    aliases: &["csv"],
    category: "data",
    summary: "profile, filter, sample, transform, validate and convert tables: CSV, TSV, Parquet, JSON Lines",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("csv", "input"),
        Spelling::Param("data", "input"),
        Spelling::Param("file", "path"),
        Spelling::Param("file_path", "path"),
        Spelling::Value("operation", "profile", "analyze"),
    ],
    examples: &[
        example(
            "profile",
            r#"{"input": "name,age\nAnn,30\nBob,\nCy,40\n"}"#,
            r#"{"row_count": 3, "column_count": 2, "delimiter": ",", "columns": [{"name": "name", "data_type": "string", "unique_count": 3},
                {"name": "age", "data_type": "integer", "null_count": 1, "min_value": 30, "max_value": 40, "mean": 35, "median": 35}]}"#,
        ),
        example(
            "filter",
            r#"{"operation": "filter", "input": "name;age\nAnn;30\nBob;25\nCy;9\n", "options": {"filter": "age >= 25"}}"#,
            r#"{"output": "name;age\nAnn;30\nBob;25\n", "rows_in": 3, "rows_out": 2}"#,
        ),
        example(
            "convert to JSON; what is no number stays a text",
            r#"{"operation": "convert", "input": "id,n\n007,1\n008,2.5\n", "options": {"format": "json"}}"#,
            r#"{"rows_out": 2, "output": "[{\"id\":\"007\",\"n\":1},{\"id\":\"008\",\"n\":2.5}]"}"#,
        ),
        example(
            "validate",
            r#"{"operation": "validate", "input": "mail,age\na@b.de,200\nx,30\n", "options": {"rules": {"mail": "email", "age": "range:0-150"}}}"#,
            r#"{"valid": false, "total_rows": 2, "error_count": 2, "errors": [{"row": 1, "column": "age", "value": "200"}, {"row": 2, "column": "mail", "value": "x"}]}"#,
        ),
        example(
            "transform",
            r#"{"operation": "transform", "input": "a,b\n2,3\n", "options": {"add_columns": {"c": "a * b + 1"}, "rename_columns": {"a": "x"}}}"#,
            r#"{"output": "x,b,c\n2,3,7\n"}"#,
        ),
    ],
};

/// Faults that are listed.
const MAX_ERRORS: usize = 1000;

/// Works on a table, given as text or as a file (.csv, .tsv, .parquet; others are looked at). The first row names the columns. Nothing is too
/// long: rows stream through, and what a profile keeps of a column has a bound (medians and counts of different values are
/// estimates beyond it, and say so).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The table as CSV or TSV text.
    input: Option<String>,
    /// A file in place of it.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// Where to write the resulting table, in place of returning it.
    #[schemars(length(min = 1))]
    output_file: Option<String>,
    /// How to do it.
    #[serde(default)]
    options: Options,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Analyze,
    Convert,
    Filter,
    Sample,
    Transform,
    Validate,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
struct Options {
    /// What stands between cells; recognised if not given.
    delimiter: Option<String>,
    /// `convert`: json, jsonl, csv, tsv or parquet; by the name of `output_file` if not given.
    format: Option<String>,
    /// `filter`: `column op value` with `== != > < >= <= contains`, joined by `and`.
    filter: Option<String>,
    /// `sample`: how many rows; 10 if not given.
    size: Option<usize>,
    /// `sample`: rows spread over the table by chance, in place of the first ones.
    random: bool,
    /// `sample`: the same seed draws the same rows.
    seed: Option<u64>,
    /// `transform`: new columns, each a calculation with the other columns: `price * count`.
    add_columns: BTreeMap<String, String>,
    /// `transform`: old and new names.
    rename_columns: BTreeMap<String, String>,
    /// `transform`: columns to leave out.
    drop_columns: Vec<String>,
    /// `transform`, `convert`: only these columns, in this order.
    columns: Option<Vec<String>>,
    /// `validate`: for each column `email`, `url`, `date`, `integer`, `number`, `required`, `unique`, `range:min-max`, `length:min-max`, `regex:…` or `in:a|b`.
    rules: BTreeMap<String, String>,
}

/// Does one operation.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let name = word(&params.operation);
    let mut source = match (&params.path, &params.input) {
        (Some(_), Some(_)) => return Err(Error::new(Class::Usage, "path: given together with input")),
        (Some(path), None) => Source::file(path, params.options.delimiter.as_deref(), call)?,
        (None, input) => Source::text(required(input.as_ref(), "input")?, params.options.delimiter.as_deref())?,
    };
    let options = &params.options;
    match params.operation {
        Operation::Analyze => {
            let result = profile::profile(&mut source, call)?;
            let message = format!("{} rows, {} columns", result["row_count"], result["column_count"]);
            Ok(Answer::new(name, result).message(message))
        }
        Operation::Validate => validate(&mut source, &options.rules, call),
        Operation::Convert => {
            let format = match (options.format.as_deref(), params.output_file.as_deref()) {
                (Some(format), _) => format,
                (None, Some(path)) => path.rsplit('.').next().unwrap_or_default(),
                (None, None) => return Err(Error::new(Class::Usage, "options.format: missing").hint(FORMATS)),
            };
            let columns = options.columns.as_deref();
            convert(&mut source, &format.to_lowercase(), columns, params.output_file.as_deref(), call)
        }
        _ => {
            let (rows_in, rows_out, sink) = reshape(&mut source, &params, call)?;
            let mut result = json!({"rows_in": rows_in, "rows_out": rows_out});
            let answer = Answer::new(name, Value::Null).message(format!("{rows_out} of {rows_in} rows"));
            let text = sink.finish(params.output_file.as_deref(), call)?;
            match (&params.output_file, text) {
                (Some(path), _) => {
                    result["output_file"] = path.as_str().into();
                    Ok(Answer { result, ..answer })
                }
                (None, text) => {
                    result["output"] = text.as_str().into();
                    Ok(Answer { result, ..answer }.text(text))
                }
            }
        }
    }
}

const FORMATS: &str = "Formats: json, jsonl, csv, tsv, parquet.";

/// The column called `name`.
fn column(names: &[String], name: &str, parameter: &str) -> Result<usize> {
    names.iter().position(|one| one == name).ok_or_else(|| {
        let error = Error::new(Class::Usage, format!("{parameter}: no column {name:?}"));
        match crate::error::nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("Did you mean {near}?")),
            None => error.hint(format!("Columns: {}.", names.join(", "))),
        }
    })
}

/// Filters, samples or transforms: how many rows came, how many went, and they.
fn reshape(source: &mut Source, params: &Params, call: &Call) -> Result<(u64, u64, Sink)> {
    let options = &params.options;
    let names = source.names().to_vec();
    let mut sink = Sink::new(source.delimiter(), params.output_file.as_deref(), call)?;
    let (mut rows_in, mut rows_out) = (0_u64, 0_u64);
    let mut row = Vec::new();
    match params.operation {
        Operation::Filter => {
            let tests = tests(required(options.filter.as_deref(), "options.filter")?, &names)?;
            sink.write(&names)?;
            while source.read(&mut row, call)? {
                rows_in += 1;
                if tests.iter().all(|test| test.fits(&row)) {
                    rows_out += 1;
                    sink.write(&row)?;
                }
            }
        }
        Operation::Sample => {
            let size = options.size.unwrap_or(10).min(1_000_000);
            sink.write(&names)?;
            if !options.random {
                while rows_out < size as u64 && source.read(&mut row, call)? {
                    rows_in += 1;
                    rows_out += 1;
                    sink.write(&row)?;
                }
                return Ok((rows_in, rows_out, sink));
            }
            let mut kept: Vec<(u64, Vec<String>)> = Vec::new();
            let mut random = Random::new(options.seed);
            while source.read(&mut row, call)? {
                // Each row stays with the same chance.
                rows_in += 1;
                if kept.len() < size {
                    kept.push((rows_in, row.clone()));
                } else if let Some(place) = kept.get_mut(usize::try_from(random.below(rows_in)).unwrap_or(usize::MAX)) {
                    *place = (rows_in, row.clone());
                }
            }
            kept.sort_by_key(|(at, _)| *at);
            rows_out = kept.len() as u64;
            for (_, row) in kept {
                sink.write(&row)?;
            }
        }
        _ => {
            let added: Vec<(&String, &String)> = options.add_columns.iter().collect();
            for old in options.rename_columns.keys() {
                column(&names, old, "options.rename_columns")?;
            }
            for name in &options.drop_columns {
                column(&names, name, "options.drop_columns")?;
            }
            let mut all = names.clone();
            all.extend(added.iter().map(|(name, _)| (*name).clone()));
            let chosen: Vec<usize> = match &options.columns {
                Some(chosen) => {
                    chosen.iter().map(|name| column(&all, name, "options.columns")).collect::<Result<_>>()?
                }
                None => (0..all.len()).filter(|at| !options.drop_columns.contains(&all[*at])).collect(),
            };
            let called = |at: &usize| options.rename_columns.get(&all[*at]).unwrap_or(&all[*at]).clone();
            sink.write(&chosen.iter().map(called).collect::<Vec<_>>())?;
            while source.read(&mut row, call)? {
                rows_in += 1;
                for (name, expression) in &added {
                    let value = calculate(expression, &names, &row)
                        .map_err(|e| e.within(format!("options.add_columns.{name}: row {rows_in}")))?;
                    row.push(value);
                }
                sink.write(&chosen.iter().map(|at| row.get(*at).cloned().unwrap_or_default()).collect::<Vec<_>>())?;
                rows_out += 1;
            }
        }
    }
    Ok((rows_in, rows_out, sink))
}

/// Numbers that look like chance (SplitMix64).
struct Random(u64);

impl Random {
    fn new(seed: Option<u64>) -> Self {
        Random(seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0))
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most.max(1)
    }
}

/// The value of a calculation over the cells of a row; empty when a cell it needs is no number.
fn calculate(expression: &str, names: &[String], row: &[String]) -> Result<String> {
    let mut variables = BTreeMap::new();
    for (name, cell) in names.iter().zip(row) {
        if let Ok(number) = cell.trim().parse::<f64>() {
            variables.insert(name.clone(), number);
        }
    }
    match super::calculator::evaluate(expression, &variables) {
        Ok(value) if value.fract() == 0.0 && value.abs() < 9e15 => Ok(format!("{value:.0}")),
        Ok(value) => Ok(value.to_string()),
        // A column that is there but holds no number in this row.
        Err(_)
            if names
                .iter()
                .zip(row)
                .any(|(name, cell)| expression.contains(name.as_str()) && cell.trim().parse::<f64>().is_err()) =>
        {
            Ok(String::new())
        }
        Err(error) => Err(error),
    }
}

/// One comparison of a filter.
struct Test {
    at: usize,
    op: &'static str,
    value: String,
    number: Option<f64>,
}

const OPS: [&str; 8] = ["==", "!=", ">=", "<=", ">", "<", "=", "contains"];

fn tests(filter: &str, names: &[String]) -> Result<Vec<Test>> {
    let one = |text: &str| {
        let text = text.trim();
        let found = OPS
            .iter()
            .filter_map(|op| Some((text.find(op)?, *op)))
            .min_by_key(|(at, op)| (*at, std::cmp::Reverse(op.len())));
        let (at, op) = found.ok_or_else(|| {
            Error::new(Class::Usage, format!("options.filter: {text:?} is not `column op value`"))
                .hint(format!("Operators: {}.", OPS.join(" ")))
        })?;
        let value = text[at + op.len()..].trim().trim_matches(['"', '\'']).to_owned();
        let at = column(names, text[..at].trim(), "options.filter")?;
        Ok(Test { at, op, number: value.parse().ok(), value })
    };
    filter.split(" and ").map(one).collect()
}

impl Test {
    fn fits(&self, row: &[String]) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let cell = row.get(self.at).map_or("", String::as_str);
        if self.op == "contains" {
            return cell.contains(&self.value);
        }
        // As numbers if both are.
        let order = match (cell.trim().parse::<f64>(), self.number) {
            (Ok(cell), Some(number)) => cell.partial_cmp(&number),
            _ => Some(cell.cmp(&self.value)),
        };
        match self.op {
            "==" | "=" => order == Some(Equal),
            "!=" => order != Some(Equal),
            ">" => order == Some(Greater),
            "<" => order == Some(Less),
            ">=" => matches!(order, Some(Greater | Equal)),
            _ => matches!(order, Some(Less | Equal)),
        }
    }
}

fn validate(source: &mut Source, rules: &BTreeMap<String, String>, call: &Call) -> Result<Answer> {
    if rules.is_empty() {
        return Err(Error::new(Class::Usage, "options.rules: missing").hint(r#"Give them as {"column": "email"}."#));
    }
    let names = source.names().to_vec();
    let mut checks = Vec::new();
    for (name, rule) in rules {
        checks.push((column(&names, name, "options.rules")?, Check::parse(rule)?, std::collections::HashSet::new()));
    }
    let (mut row, mut errors, mut count, mut total) = (Vec::new(), Vec::new(), 0_u64, 0_u64);
    while source.read(&mut row, call)? {
        total += 1;
        for (at, check, seen) in &mut checks {
            let cell = row.get(*at).map_or("", String::as_str);
            let fault = match check {
                Check::Unique if seen.len() < 1_000_000 => {
                    (!seen.insert(cell.to_owned())).then(|| "is there twice".to_owned())
                }
                check => check.fault(cell),
            };
            if let Some(fault) = fault {
                count += 1;
                if errors.len() < MAX_ERRORS {
                    errors.push(json!({"row": total, "column": names[*at], "value": cell, "error": fault}));
                }
            }
        }
    }
    let result = json!({"valid": count == 0, "total_rows": total, "error_count": count, "errors": errors});
    Ok(Answer::new("validate", result).message(if count == 0 { "Valid".into() } else { format!("{count} errors") }))
}

enum Check {
    Required,
    Unique,
    Range(f64, f64),
    Length(usize, usize),
    Pattern(regex::Regex),
    In(Vec<String>),
    Kind(&'static str, fn(&str) -> bool),
}

impl Check {
    fn parse(rule: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Class::Usage, format!("options.rules: {rule:?} is no rule"))
                .hint("Rules: email, url, date, integer, number, required, unique, range:min-max, length:min-max, regex:…, in:a|b.")
        };
        fn bounds<T: std::str::FromStr>(text: &str) -> Option<(T, T)> {
            // The minus of a negative number is no dash.
            let (at, _) = text.match_indices('-').find(|(at, _)| *at > 0 && !text[..*at].ends_with(['e', 'E', '-']))?;
            Some((text[..at].parse().ok()?, text[at + 1..].parse().ok()?))
        }
        let (name, rest) = rule.split_once(':').unwrap_or((rule, ""));
        Ok(match name.trim() {
            "required" => Check::Required,
            "unique" => Check::Unique,
            "range" => bounds(rest.trim()).map(|(min, max)| Check::Range(min, max)).ok_or_else(wrong)?,
            "length" => bounds(rest.trim()).map(|(min, max)| Check::Length(min, max)).ok_or_else(wrong)?,
            "regex" | "pattern" => Check::Pattern(
                regex::Regex::new(rest).map_err(|e| super::regex_tool::fault("options.rules", rest, &e))?,
            ),
            "in" => Check::In(rest.split('|').map(|one| one.trim().to_owned()).collect()),
            "email" => Check::Kind("an email address", super::data_validation::is_email),
            "url" => Check::Kind("a URL", |cell| url::Url::parse(cell).is_ok_and(|url| url.has_authority())),
            "date" => {
                Check::Kind("a date", |cell| super::date_time_handler::parse(cell, &jiff::tz::TimeZone::UTC).is_some())
            }
            "integer" => Check::Kind("an integer", |cell| cell.parse::<i64>().is_ok()),
            "number" => Check::Kind("a number", |cell| cell.parse::<f64>().is_ok()),
            _ => return Err(wrong()),
        })
    }

    fn fault(&self, cell: &str) -> Option<String> {
        let empty = cell.is_empty();
        match self {
            Check::Required => empty.then(|| "is empty".into()),
            // Only `required` minds an empty cell.
            _ if empty => None,
            Check::Unique => None,
            Check::Range(min, max) => match cell.trim().parse::<f64>() {
                Ok(number) if (*min..=*max).contains(&number) => None,
                Ok(_) => Some(format!("is not between {min} and {max}")),
                Err(_) => Some("is not a number".into()),
            },
            Check::Length(min, max) => {
                (!(*min..=*max).contains(&cell.chars().count())).then(|| format!("has not {min} to {max} characters"))
            }
            Check::Pattern(regex) => (!regex.is_match(cell)).then(|| format!("does not match {regex}")),
            Check::In(list) => (!list.iter().any(|one| one == cell)).then(|| format!("is none of {}", list.join(", "))),
            Check::Kind(what, is) => (!is(cell)).then(|| format!("is not {what}")),
        }
    }
}

fn convert(
    source: &mut Source,
    format: &str,
    columns: Option<&[String]>,
    target: Option<&str>,
    call: &Call,
) -> Result<Answer> {
    let names = source.names().to_vec();
    let chosen: Vec<usize> = match columns {
        Some(columns) => columns.iter().map(|name| column(&names, name, "options.columns")).collect::<Result<_>>()?,
        None => (0..names.len()).collect(),
    };
    let pick = |row: &[String]| chosen.iter().map(|at| row.get(*at).cloned().unwrap_or_default()).collect::<Vec<_>>();
    let names = pick(&names);
    let mut row = Vec::new();
    let mut count = 0_u64;
    let mut result = json!({"format": format});
    let binary = match format {
        "csv" | "tsv" => {
            let mut sink = Sink::new(if format == "tsv" { b'\t' } else { b',' }, target, call)?;
            sink.write(&names)?;
            while source.read(&mut row, call)? {
                count += 1;
                sink.write(&pick(&row))?;
            }
            return finish(result, count, sink, target, call);
        }
        "json" | "jsonl" | "jsonlines" | "json lines" | "json_lines" | "ndjson" => {
            let list = format == "json";
            let mut sink = Sink::new(b',', target, call)?;
            sink.raw(if list { "[" } else { "" })?;
            while source.read(&mut row, call)? {
                let members: Map<String, Value> =
                    names.iter().cloned().zip(pick(&row).iter().map(|cell| rows::typed(cell))).collect();
                let between = match (list, count) {
                    (true, 0) | (false, _) => "",
                    (true, _) => ",",
                };
                sink.raw(&format!("{between}{}{}", Value::Object(members), if list { "" } else { "\n" }))?;
                count += 1;
            }
            sink.raw(if list { "]" } else { "" })?;
            return finish(result, count, sink, target, call);
        }
        "parquet" => {
            let mut table = parquet_file::Writer::new(&names);
            while source.read(&mut row, call)? {
                count += 1;
                table.push(&pick(&row), call)?;
            }
            table.finish()?
        }
        "excel" | "xlsx" => {
            return Err(Error::new(Class::Usage, "options.format: workbooks are made by excel_processor")
                .hint("Use excel_processor with operation = \"write\"."));
        }
        _ => return Err(Error::new(Class::Usage, format!("options.format: {format:?} is none")).hint(FORMATS)),
    };
    result["rows_out"] = count.into();
    result["size_bytes"] = binary.len().into();
    match target {
        Some(path) => {
            files::write(path, &binary, call)?;
            result["output_file"] = path.into();
        }
        None => {
            result["encoding"] = "base64".into();
            result["data"] = STANDARD.encode(&binary).into();
        }
    }
    Ok(Answer::new("convert", result).message(format!("{count} rows")))
}

fn finish(mut result: Value, count: u64, sink: Sink, target: Option<&str>, call: &Call) -> Result<Answer> {
    result["rows_out"] = count.into();
    let text = sink.finish(target, call)?;
    let answer = Answer::new("convert", Value::Null).message(format!("{count} rows"));
    match target {
        Some(path) => {
            result["output_file"] = path.into();
            Ok(Answer { result, ..answer })
        }
        None => {
            result["output"] = text.as_str().into();
            Ok(Answer { result, ..answer }.text(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    #[test]
    fn profiles_tell_types_and_figures() {
        let input = "i\tf\tb\td\tt\ts\n1\t1.5\ttrue\t2024-01-01\t2024-01-01T10:00:00Z\tx\n2\t2.5\tfalse\t2024-02-01\t2024-01-01 11:00\ty\n\t-3\t\t\t\tz\n";
        let profile = result("csv_analyzer", json!({"input": input}));
        let kinds: Vec<_> = profile["columns"].as_array().unwrap().iter().map(|column| &column["data_type"]).collect();
        assert_eq!(json!(kinds), json!(["integer", "float", "boolean", "date", "date_time", "string"]));
        assert_eq!((&profile["delimiter"], &profile["row_count"]), (&json!("\t"), &json!(3)));
        let float = &profile["columns"][1];
        assert_eq!(
            (&float["min_value"], &float["max_value"], &float["median"]),
            (&json!(-3.0), &json!(2.5), &json!(1.5))
        );
        let single = result("csv", json!({"input": "name\na\nb\n"}));
        assert_eq!((&single["column_count"], &single["row_count"]), (&json!(1), &json!(2)));
        let ragged = result("csv", json!({"input": "a,b\n1\n2,3,4\n5,6\n"}));
        assert_eq!((&ragged["row_count"], ragged["parse_errors"].as_array().unwrap().len()), (&json!(3), 2));
    }

    #[test]
    fn large_files_stream_and_parquet_goes_both_ways() {
        let (dir, call) = folder();
        let mut text = String::from("id,name,score,on\n");
        for n in 0..50_000 {
            text.push_str(&format!("{n},name {},{},{}\n", n % 100, f64::from(n) / 4.0, n % 2 == 0));
        }
        std::fs::write(dir.path().join("a.csv"), &text).unwrap();
        let to = |path: &str, target: &str| {
            run("csv", json!({"operation": "convert", "path": path, "output_file": target}), &call).unwrap()
        };
        assert_eq!(to("a.csv", "a.parquet")["result"]["rows_out"], 50_000);
        to("a.parquet", "b.csv");
        assert!(std::fs::read_to_string(dir.path().join("b.csv")).unwrap() == text);
        let profile = run("csv", json!({"path": "a.parquet"}), &call).unwrap()["result"].take();
        assert_eq!((&profile["row_count"], &profile["columns"][1]["unique_count"]), (&json!(50_000), &json!(100)));
        assert_eq!(profile["columns"][0]["max_value"], 49_999);
        let filter =
            json!({"operation": "filter", "path": "a.parquet", "options": {"filter": "id < 10 and on == true"}});
        assert_eq!(run("csv", filter, &call).unwrap()["result"]["rows_out"], 5);
        let sample = json!({"operation": "sample", "path": "a.csv", "options": {"size": 5, "random": true, "seed": 1}});
        let draw = || run("csv", sample.clone(), &call).unwrap()["result"].take();
        assert_eq!((draw(), draw()["rows_out"].clone()), (draw(), json!(5)));
        call.cancel.cancel();
        assert_eq!(run("csv", json!({"path": "a.csv"}), &call).unwrap_err().class(), Class::Interrupted);
    }

    #[test]
    fn bad_input() {
        let (dir, call) = folder();
        std::fs::write(dir.path().join("x.parquet"), b"PAR1 nonsense PAR1").unwrap();
        std::fs::write(dir.path().join("y.csv"), b"a,b\n\xff\xfe,1\n").unwrap();
        assert_eq!(run("csv", json!({"path": "x.parquet"}), &call).unwrap_err().class(), Class::Tool);
        assert_eq!(run("csv", json!({"path": "y.csv"}), &call).unwrap_err().class(), Class::Tool);
        let with = |operation: &str, options: Value| {
            (json!({"operation": operation, "input": "a,b\n1,2\n", "options": options}), Class::Usage)
        };
        bad(
            "csv_analyzer",
            &[
                (json!({}), Class::Usage),
                (json!({"input": ""}), Class::Tool),
                (json!({"input": "a", "path": "b"}), Class::Usage),
                (json!({"path": "absent.csv"}), Class::NotFound),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                with("filter", json!({})),
                with("filter", json!({"filter": "a"})),
                with("filter", json!({"filter": "c == 1"})),
                with("convert", json!({})),
                with("convert", json!({"format": "pdf"})),
                with("convert", json!({"format": "json", "columns": ["z"]})),
                with("validate", json!({})),
                with("validate", json!({"rules": {"z": "email"}})),
                with("validate", json!({"rules": {"a": "frob"}})),
                with("validate", json!({"rules": {"a": "range:x"}})),
                with("transform", json!({"rename_columns": {"z": "y"}})),
                with("analyze", json!({"delimiter": "ab"})),
                (
                    json!({"operation": "transform", "input": "a\n1\n", "options": {"add_columns": {"c": "a +"}}}),
                    Class::Tool,
                ),
            ],
        );
    }
}
