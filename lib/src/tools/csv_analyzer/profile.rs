//! What a table holds: of each column its type, range, moments, and estimates from a sample of bounded size.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use serde_json::{Value, json};

use super::super::{Call, date_time_handler};
use super::Random;
use super::rows::Source;
use crate::error::Result;

/// Different values that are counted exactly.
const MAX_UNIQUE: usize = 100_000;
/// Numbers that a median is taken of.
const MAX_KEPT: usize = 100_000;

/// What is known of a column.
#[derive(Default)]
struct Column {
    nulls: u64,
    /// Cells that are each of these; all are when the counts are equal.
    integers: u64,
    numbers: u64,
    booleans: u64,
    dates: u64,
    times: u64,
    filled: u64,
    /// Hashes stand for values: two of 100 000 are equal by chance once in four billion tables.
    unique: HashSet<u64>,
    more: bool,
    least: Option<String>,
    most: Option<String>,
    low: f64,
    high: f64,
    mean: f64,
    squares: f64,
    kept: Vec<f64>,
    longest: usize,
    samples: Vec<String>,
}

impl Column {
    fn see(&mut self, cell: &str, hashes: &RandomState, random: &mut Random) {
        if cell.trim().is_empty() {
            self.nulls += 1;
            return;
        }
        self.filled += 1;
        self.longest = self.longest.max(cell.chars().count());
        if self.samples.len() < 5 && !self.samples.iter().any(|sample| sample == cell) {
            self.samples.push(cell.chars().take(200).collect());
        }
        if !self.more {
            self.unique.insert(hashes.hash_one(cell));
            self.more = self.unique.len() >= MAX_UNIQUE;
        }
        let text = cell.trim();
        let number = text.parse::<f64>().ok().filter(|number| {
            // "inf" and "nan" are words, "007" is a code.
            number.is_finite() && !(text.len() > 1 && text.starts_with('0') && !text.starts_with("0."))
        });
        if let Some(number) = number {
            self.numbers += 1;
            self.integers += u64::from(text.parse::<i64>().is_ok());
            if self.numbers == 1 {
                (self.low, self.high) = (number, number);
            }
            self.low = self.low.min(number);
            self.high = self.high.max(number);
            let off = number - self.mean;
            self.mean += off / self.numbers as f64;
            self.squares += off * (number - self.mean);
            if self.kept.len() < MAX_KEPT {
                self.kept.push(number);
            } else if let Some(place) =
                self.kept.get_mut(usize::try_from(random.below(self.numbers)).unwrap_or(usize::MAX))
            {
                *place = number;
            }
        } else if matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE") {
            self.booleans += 1;
        } else if self.dates + self.times + 1 == self.filled
            && text.len() < 40
            && date_time_handler::parse(text, &jiff::tz::TimeZone::UTC).is_some()
        {
            // Only a column that held nothing else so far is worth the look.
            if text.contains(':') { self.times += 1 } else { self.dates += 1 }
        }
        if self.least.as_deref().is_none_or(|least| cell < least) {
            self.least = Some(cell.to_owned());
        }
        if self.most.as_deref().is_none_or(|most| cell > most) {
            self.most = Some(cell.to_owned());
        }
    }

    fn kind(&self) -> &'static str {
        match self.filled {
            0 => "empty",
            all if self.integers == all => "integer",
            all if self.numbers == all => "float",
            all if self.booleans == all => "boolean",
            all if self.dates == all => "date",
            all if self.times == all || self.dates + self.times == all => "date_time",
            _ if self.numbers * 10 >= self.filled * 9 => "mixed",
            _ => "string",
        }
    }

    fn json(mut self, name: &str) -> Value {
        let kind = self.kind();
        let mut row = json!({
            "name": name, "data_type": kind, "null_count": self.nulls, "unique_count": self.unique.len(), "unique_is_exact": !self.more,
            "max_length": self.longest, "sample_values": self.samples, "min_value": self.least, "max_value": self.most,
            "mean": null, "median": null, "std_dev": null,
        });
        if matches!(kind, "integer" | "float" | "mixed") {
            let number = |value: f64| match kind {
                "integer" if value.fract() == 0.0 && value.abs() < 9e15 => json!(value as i64),
                _ => json!(value),
            };
            self.kept.sort_by(f64::total_cmp);
            let at = |share: f64| {
                let place = share * (self.kept.len() - 1) as f64;
                let (low, high) = (self.kept[place.floor() as usize], self.kept[place.ceil() as usize]);
                low + (high - low) * place.fract()
            };
            if !self.kept.is_empty() {
                row["median"] = number(at(0.5));
                row["quartiles"] = json!([number(at(0.25)), number(at(0.75))]);
                row["median_is_exact"] = (self.numbers as usize <= MAX_KEPT).into();
            }
            row["min_value"] = number(self.low);
            row["max_value"] = number(self.high);
            row["mean"] = number(self.mean);
            row["std_dev"] = json!((self.squares / self.numbers.max(1) as f64).sqrt());
        }
        row
    }
}

pub(super) fn profile(source: &mut Source, call: &Call) -> Result<Value> {
    let names = source.names().to_vec();
    let mut columns: Vec<Column> = names.iter().map(|_| Column::default()).collect();
    let hashes = RandomState::new();
    let mut random = Random::new(Some(1));
    let (mut row, mut count) = (Vec::new(), 0_u64);
    while source.read(&mut row, call)? {
        count += 1;
        for (column, cell) in columns.iter_mut().zip(&row) {
            column.see(cell, &hashes, &mut random);
        }
    }
    let columns: Vec<Value> = columns.into_iter().zip(&names).map(|(column, name)| column.json(name)).collect();
    Ok(json!({
        "row_count": count, "column_count": names.len(), "encoding": "utf-8", "has_headers": true,
        "delimiter": char::from(source.delimiter()).to_string(), "columns": columns, "file_size_bytes": source.size,
        "parse_errors": source.faults,
    }))
}
