//! `schedule_calculator`: when a cron expression fires, and what it says.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, Zoned};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, Level, Spelling, ToolSpec, date_time_handler, example};
use crate::error::{Class, Error, Result};

/// The schedule calculator.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "schedule_calculator",
    aliases: &["cron", "cron_calculator", "schedule"],
    category: "utility",
    summary: "tell when a cron expression fires next or last, in any time zone, and what it means",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("cron", "expression"),
        Spelling::Param("input", "expression"),
        Spelling::Value("operation", "validate", "describe"),
        Spelling::Value("operation", "prev", "previous"),
    ],
    examples: &[
        example(
            "the next three",
            r#"{"expression": "30 9 * * MON-FRI", "from": "2024-03-01T12:00:00Z", "count": 3}"#,
            r#"{"times": ["2024-03-04T09:30:00Z", "2024-03-05T09:30:00Z", "2024-03-06T09:30:00Z"]}"#,
        ),
        example(
            "the last days of months before",
            r#"{"operation": "previous", "expression": "0 0 L * *", "from": "2024-03-15", "count": 2}"#,
            r#"{"times": ["2024-02-29T00:00:00Z", "2024-01-31T00:00:00Z"]}"#,
        ),
        example(
            "in words",
            r#"{"operation": "describe", "expression": "@daily"}"#,
            r#"{"valid": true, "description": "At 00:00."}"#,
        ),
        example(
            "whether it fires at a moment",
            r#"{"operation": "matches", "expression": "0 12 * * *", "from": "2024-03-31T12:00:00+02:00", "timezone": "Europe/Berlin"}"#,
            r#"{"matches": true}"#,
        ),
    ],
};

/// Calculates with cron expressions: five fields (minute, hour, day of month, month, day of week), with seconds in front six, with the
/// year at the end seven; names, lists, ranges, steps, `L`, `W`, `#` and @hourly to @yearly are understood.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to tell.
    #[serde(default)]
    operation: Operation,
    /// The cron expression.
    expression: String,
    /// The moment to start from, not itself among the times; now if not given.
    from: Option<String>,
    /// IANA name of the time zone the expression is meant in, or `local`.
    #[serde(default = "utc")]
    timezone: String,
    /// How many times.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 1000))]
    count: usize,
}

fn utc() -> String {
    "UTC".into()
}

fn five() -> usize {
    5
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Next,
    Previous,
    Matches,
    Describe,
}

/// Calculates.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let zone = date_time_handler::time_zone(&params.timezone, "timezone")?;
    let parsed = parse(&params.expression);
    if params.operation == Operation::Describe {
        return Ok(Answer::new(
            "describe",
            match parsed {
                Ok(cron) => json!({"valid": true, "description": cron.describe()}),
                Err(error) => json!({"valid": false, "error": error.text()}),
            },
        ));
    }
    let cron = parsed?;
    let from = match &params.from {
        None => Zoned::new(Timestamp::now(), zone),
        Some(text) => date_time_handler::parse(text, &zone)
            .ok_or_else(|| Error::new(Class::Usage, format!("from: {text:?} is no date and time")))?
            .with_time_zone(zone),
    };
    if params.operation == Operation::Matches {
        let matches = cron.is_time_matching(&from).map_err(|e| fault(&params.expression, &e))?;
        return Ok(Answer::new("matches", json!({"matches": matches, "at": date_time_handler::iso(&from)})));
    }
    let next = params.operation == Operation::Next;
    let (name, mut at, mut times) = (if next { "next" } else { "previous" }, from.clone(), Vec::new());
    while times.len() < params.count {
        call.check()?;
        let found =
            if next { cron.find_next_occurrence(&at, false) } else { cron.find_previous_occurrence(&at, false) };
        match found {
            Ok(time) => {
                times.push(date_time_handler::iso(&time));
                at = time;
            }
            // An expression may stop firing, as one with a year does.
            Err(_) => break,
        }
    }
    let result = json!({
        "expression": params.expression, "timezone": params.timezone, "from": date_time_handler::iso(&from),
        "times": times, "count": times.len(), "description": cron.describe(),
    });
    let message = match times.first() {
        Some(first) => format!("{name}: {first}"),
        None => format!("{name}: never"),
    };
    Ok(Answer::new(name, result).message(message))
}

fn parse(expression: &str) -> Result<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build();
    // Its length is bounded by what a line of a table holds.
    if expression.len() > 1000 {
        return Err(Error::new(Class::Usage, "expression: longer than 1000 characters"));
    }
    parser.parse(expression).map_err(|error| fault(expression, &error))
}

fn fault(expression: &str, error: &croner::errors::CronError) -> Error {
    let text = error.to_string();
    let text = text.trim_end_matches('.');
    Error::new(Class::Usage, format!("expression: {expression:?}: {}", super::lower(text)))
        .hint("Fields: minute hour day month weekday, as in `30 9 * * MON-FRI`.")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    fn times(expression: &str, from: &str, zone: &str) -> serde_json::Value {
        result("cron", json!({"expression": expression, "from": from, "timezone": zone, "count": 2}))["times"].take()
    }

    #[test]
    fn times_follow_the_calendar_and_the_clock() {
        for (expression, from, zone, expected) in [
            ("0 0 29 2 *", "2023-01-01", "UTC", json!(["2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"])),
            ("0 0 * * FRI#2", "2024-03-01", "UTC", json!(["2024-03-08T00:00:00Z", "2024-04-12T00:00:00Z"])),
            ("*/20 * * * * *", "2024-03-01", "UTC", json!(["2024-03-01T00:00:20Z", "2024-03-01T00:00:40Z"])),
            (
                "0 12 * * *",
                "2024-03-30",
                "Europe/Berlin",
                json!(["2024-03-30T12:00:00+01:00", "2024-03-31T12:00:00+02:00"]),
            ),
            ("0 0 0 1 1 * 2025", "2024-03-01", "UTC", json!(["2025-01-01T00:00:00Z"])),
        ] {
            assert_eq!(times(expression, from, zone), expected, "{expression}");
        }
        let wrong = result("cron", json!({"operation": "describe", "expression": "61 * * * *"}));
        assert_eq!(wrong["valid"], false);
    }

    #[test]
    fn bad_input() {
        let wrong = |expression: &str| (json!({"expression": expression}), Class::Usage);
        let long = "1,".repeat(1000);
        bad(
            "schedule_calculator",
            &[
                (json!({}), Class::Usage),
                wrong(""),
                wrong("* * * *"),
                wrong("60 * * * *"),
                wrong("* * * * * * * *"),
                wrong("a b c d e"),
                wrong("*/0 * * * *"),
                wrong(&long),
                (json!({"expression": "* * * * *", "timezone": "Mars/Base"}), Class::Usage),
                (json!({"expression": "* * * * *", "from": "soon"}), Class::Usage),
                (json!({"expression": "* * * * *", "count": 0}), Class::Usage),
            ],
        );
    }
}
