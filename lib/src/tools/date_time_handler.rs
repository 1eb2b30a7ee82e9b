//! `date_time_handler`: dates and times: read in many spellings, convert between time zones, calculate.

use jiff::civil::{self, DateTime};
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;
use jiff::{RoundMode, Span, SpanRound, Timestamp, Unit as Part, Zoned};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Level, Spelling, ToolSpec, example, required};
use crate::error::{Class, Error, Result};

/// The date and time tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "date_time_handler",
    aliases: &["datetime_handler", "date_time", "datetime"],
    category: "utility",
    summary: "read dates and times, convert time zones, add, subtract and compare",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("date", "input"),
        Spelling::Param("datetime", "input"),
        Spelling::Param("to_timezone", "target_timezone"),
        Spelling::Value("operation", "convert", "convert_timezone"),
        Spelling::Value("operation", "format", "parse"),
        Spelling::Value("unit", "s", "seconds"),
        Spelling::Value("unit", "sec", "seconds"),
        Spelling::Value("unit", "second", "seconds"),
        Spelling::Value("unit", "m", "minutes"),
        Spelling::Value("unit", "min", "minutes"),
        Spelling::Value("unit", "minute", "minutes"),
        Spelling::Value("unit", "h", "hours"),
        Spelling::Value("unit", "hr", "hours"),
        Spelling::Value("unit", "hour", "hours"),
        Spelling::Value("unit", "d", "days"),
        Spelling::Value("unit", "day", "days"),
        Spelling::Value("unit", "w", "weeks"),
        Spelling::Value("unit", "week", "weeks"),
        Spelling::Value("unit", "month", "months"),
        Spelling::Value("unit", "y", "years"),
        Spelling::Value("unit", "year", "years"),
    ],
    examples: &[
        example(
            "a date in words",
            r#"{"input": "March 4, 2024"}"#,
            r#"{"parsed": {"utc": "2024-03-04T00:00:00Z", "weekday": "Monday", "timestamp": 1709510400}}"#,
        ),
        example(
            "what time it is elsewhere",
            r#"{"operation": "convert_timezone", "input": "2024-01-15T10:30:00Z", "target_timezone": "America/New_York"}"#,
            r#"{"original": "2024-01-15 10:30:00 UTC", "converted": "2024-01-15 05:30:00 EST"}"#,
        ),
        example(
            "a month after the last of January",
            r#"{"operation": "add", "input": "2024-01-31", "amount": 1, "unit": "month"}"#,
            r#"{"result": "2024-02-29T00:00:00Z"}"#,
        ),
        example(
            "how long between",
            r#"{"operation": "difference", "start": "2024-01-15", "end": "2024-01-16T01:00:00Z"}"#,
            r#"{"difference": {"total_seconds": 90000, "hours": 25, "days": 1, "human_readable": "1 day, 1 hour"}}"#,
        ),
    ],
};

/// How a date and time is written unless said otherwise.
const ISO: &str = "%Y-%m-%dT%H:%M:%S%.f%:z";
const FORMATS: &[(&str, &str)] = &[
    ("ISO 8601", ISO),
    ("date", "%Y-%m-%d"),
    ("time", "%H:%M:%S"),
    ("date and time", "%Y-%m-%d %H:%M:%S"),
    ("with the zone", "%Y-%m-%d %H:%M:%S %Z"),
    ("US", "%m/%d/%Y"),
    ("European", "%d.%m.%Y"),
    ("long", "%A, %B %d, %Y"),
    ("RFC 2822", "%a, %d %b %Y %H:%M:%S %z"),
    ("seconds since 1970", "%s"),
];
/// Spellings without a zone; of two that fit the first counts, so the day stands before the month.
const SPELLINGS: &[&str] = &[
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d/%m/%Y",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%d-%m-%Y %H:%M:%S",
    "%d-%m-%Y",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%B %d, %Y %H:%M:%S",
    "%B %d, %Y %H:%M",
    "%B %d, %Y",
    "%d %B %Y %H:%M:%S",
    "%d %B %Y %H:%M",
    "%d %B %Y",
    "%b %d, %Y",
    "%d %b %Y",
    "%A, %B %d, %Y",
    "%Y%m%dT%H%M%S",
    "%Y%m%d",
];

/// Works on dates and times. Understood are seconds since 1970, ISO 8601 and RFC 3339, RFC 2822, and common spellings of dates
/// with and without a time (03/04/2024 is the third of April). Without a zone UTC is meant, or `timezone` if given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The date and time.
    input: Option<Input>,
    /// IANA name of the time zone (Europe/Berlin), `local` or an offset (+02:00): of `now`, and of an `input` without one.
    timezone: Option<String>,
    /// `convert_timezone`: into this zone.
    target_timezone: Option<String>,
    /// `add`, `subtract`: how many units.
    amount: Option<i64>,
    /// `add`, `subtract`: days and more follow the calendar, so a day may have 23 hours.
    unit: Option<Unit>,
    /// `difference`: from here.
    start: Option<Input>,
    /// `difference`: to here.
    end: Option<Input>,
    /// How to write the result, as strftime does.
    format: Option<String>,
    /// `parse`: how `input` is written, as strftime does.
    input_format: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Parse,
    Now,
    ConvertTimezone,
    Add,
    Subtract,
    Difference,
    Info,
    Formats,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Input {
    Text(String),
    Seconds(i64),
}

impl Input {
    fn text(&self) -> String {
        match self {
            Input::Text(text) => text.clone(),
            Input::Seconds(seconds) => seconds.to_string(),
        }
    }
}

#[derive(Clone, Copy, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Unit {
    Seconds,
    Minutes,
    Hours,
    Days,
    Weeks,
    Months,
    Years,
}

/// Does one operation.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    let zone = match &params.timezone {
        Some(name) => time_zone(name, "timezone")?,
        None => TimeZone::UTC,
    };
    let read = |value: Option<&Input>, name: &str| -> Result<(String, Zoned)> {
        let text = required(value, name)?.text();
        let zoned = match &params.input_format {
            Some(format) => by_format(&text, format, &zone).map_err(|e| e.within(name))?,
            None => parse(&text, &zone).ok_or_else(|| {
                Error::new(Class::Usage, format!("{name}: {text:?} is no date and time"))
                    .hint("Write it as 2024-03-04T15:30:00Z, or say how it is written with input_format.")
            })?,
        };
        Ok((text, zoned))
    };
    let show = |time: &Zoned| match &params.format {
        Some(format) => write(time, format),
        None => Ok(iso(time)),
    };
    let format_used = params.format.as_deref().unwrap_or(ISO);
    match params.operation {
        Operation::Parse => {
            let (input, time) = read(params.input.as_ref(), "input")?;
            let utc = time.with_time_zone(TimeZone::UTC);
            let mut parsed = fields(&utc);
            parsed["utc"] = show(&utc)?.into();
            let text = if params.format.is_some() { show(&time)? } else { show(&utc)? };
            let result =
                json!({"input": input, "parsed": parsed, "formatted": show(&time)?, "format_used": format_used});
            Ok(Answer::new("parse", result).message("Date and time parsed").text(text))
        }
        Operation::Now => {
            let zone = if params.timezone.is_some() { zone } else { TimeZone::system() };
            let name = params.timezone.unwrap_or_else(|| "local".into());
            let now = Zoned::new(Timestamp::now(), zone);
            let text = match &params.format {
                Some(format) => write(&now, format)?,
                None => iso(&now),
            };
            let result = json!({
                "timezone": name, "datetime": text, "format": format_used, "timestamp": now.timestamp().as_second(),
            });
            Ok(Answer::new("now", result).message("Current time retrieved").text(text))
        }
        Operation::ConvertTimezone => {
            let (input, time) = read(params.input.as_ref(), "input")?;
            let target = required(params.target_timezone, "target_timezone")?;
            let format = params.format.as_deref().unwrap_or("%Y-%m-%d %H:%M:%S %Z");
            let converted = time.with_time_zone(time_zone(&target, "target_timezone")?);
            let text = write(&converted, format)?;
            let result = json!({
                "input": input, "target_timezone": target, "original": write(&time, format)?, "converted": text,
                "iso": iso(&converted),
            });
            Ok(Answer::new("convert_timezone", result).message("Time zone converted").text(text))
        }
        Operation::Add | Operation::Subtract => {
            let name = if params.operation == Operation::Add { "add" } else { "subtract" };
            let (input, time) = read(params.input.as_ref(), "input")?;
            let (amount, unit) = (required(params.amount, "amount")?, required(params.unit, "unit")?);
            let sum = span(amount, unit)
                .and_then(|span| if name == "add" { time.checked_add(span) } else { time.checked_sub(span) })
                .map_err(|_| Error::new(Class::Usage, "amount: leads out of the years -9999 to 9999"))?;
            let text = show(&sum)?;
            let result =
                json!({"input": input, "amount": amount, "unit": unit, "original": show(&time)?, "result": text});
            Ok(Answer::new(name, result).message(format!("{name} operation completed")).text(text))
        }
        Operation::Difference => {
            let (first, start) = read(params.start.as_ref(), "start")?;
            let (second, end) = read(params.end.as_ref(), "end")?;
            let result = json!({"start": first, "end": second, "difference": difference(&start, &end)?});
            let text = result["difference"]["human_readable"].as_str().unwrap_or_default().to_owned();
            Ok(Answer::new("difference", result).message("Time difference calculated").text(text))
        }
        Operation::Info => {
            let (input, time) = read(params.input.as_ref(), "input")?;
            let result = json!({"input": input, "info": info(&time)?});
            Ok(Answer::new("info", result).message("Date and time information retrieved"))
        }
        Operation::Formats => {
            let now = Zoned::now();
            let mut examples = serde_json::Map::new();
            for (name, format) in FORMATS {
                examples.insert((*name).into(), json!({"format": format, "example": write(&now, format)?}));
            }
            let known: Vec<_> = SPELLINGS.iter().chain(FORMATS.iter().map(|(_, format)| format)).collect();
            Ok(Answer::new("formats", json!({"available_formats": known, "example_formats": examples}))
                .message("Date and time formats"))
        }
    }
}

pub(super) fn time_zone(name: &str, parameter: &str) -> Result<TimeZone> {
    if name.eq_ignore_ascii_case("local") {
        return Ok(TimeZone::system());
    }
    if let Ok(zone) = TimeZone::get(name) {
        return Ok(zone);
    }
    let offset = ["%:z", "%z"].iter().find_map(|format| strtime::parse(format, name).ok()?.offset());
    offset.map(TimeZone::fixed).ok_or_else(|| {
        let names: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        let error = Error::new(Class::Usage, format!("{parameter}: {name:?} is no time zone"));
        match crate::error::nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("Did you mean {near}?")),
            None => error.hint("Use a name as Europe/Berlin, UTC, local, or an offset as +02:00."),
        }
    })
}

/// `text` by the rules in order: seconds, standards, spellings.
pub(super) fn parse(text: &str, zone: &TimeZone) -> Option<Zoned> {
    let text = text.trim();
    // Eight digits are a date.
    if text.len() != 8
        && let Ok(seconds) = text.parse::<i64>()
    {
        return Some(Timestamp::from_second(seconds).ok()?.to_zoned(zone.clone()));
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some(zoned);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        let offset = jiff::fmt::temporal::Pieces::parse(text).ok().and_then(|pieces| pieces.to_numeric_offset());
        let zone = offset.filter(|offset| !offset.is_zero()).map_or(TimeZone::UTC, TimeZone::fixed);
        return Some(time.to_zoned(zone));
    }
    if let Ok(zoned) = rfc2822::parse(text) {
        return Some(zoned);
    }
    let zoned = text.strip_suffix(" UTC").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
    let zone = if zoned.len() == text.len() { zone } else { &TimeZone::UTC };
    let civil = SPELLINGS.iter().find_map(|format| civil(&strtime::parse(format, zoned).ok()?));
    let civil = civil.or_else(|| zoned.parse::<DateTime>().ok())?;
    civil.to_zoned(zone.clone()).ok()
}

fn civil(broken: &strtime::BrokenDownTime) -> Option<DateTime> {
    broken.to_datetime().ok().or_else(|| Some(broken.to_date().ok()?.to_datetime(civil::Time::midnight())))
}

fn by_format(text: &str, format: &str, zone: &TimeZone) -> Result<Zoned> {
    let broken = strtime::parse(format, text).map_err(|e| Error::new(Class::Usage, format!("{text:?}: {e}")))?;
    if let Ok(zoned) = broken.to_zoned() {
        return Ok(zoned);
    }
    if let Ok(time) = broken.to_timestamp() {
        return Ok(time.to_zoned(zone.clone()));
    }
    let civil = civil(&broken).and_then(|civil| civil.to_zoned(zone.clone()).ok());
    civil.ok_or_else(|| Error::new(Class::Usage, format!("{text:?}: no whole date in it")))
}

pub(super) fn write(time: &Zoned, format: &str) -> Result<String> {
    strtime::format(format, time).map_err(|e| Error::new(Class::Usage, format!("format: {e}")))
}

/// RFC 3339, with `Z` for UTC.
pub(super) fn iso(time: &Zoned) -> String {
    let text = strtime::format(ISO, time).unwrap_or_else(|_| time.timestamp().to_string());
    if time.time_zone().iana_name() == Some("UTC") || *time.time_zone() == TimeZone::UTC {
        text.replace("+00:00", "Z")
    } else {
        text
    }
}

fn span(amount: i64, unit: Unit) -> Result<Span, jiff::Error> {
    let span = Span::new();
    match unit {
        Unit::Seconds => span.try_seconds(amount),
        Unit::Minutes => span.try_minutes(amount),
        Unit::Hours => span.try_hours(amount),
        Unit::Days => span.try_days(amount),
        Unit::Weeks => span.try_weeks(amount),
        Unit::Months => span.try_months(amount),
        Unit::Years => span.try_years(amount),
    }
}

fn fields(time: &Zoned) -> Value {
    json!({
        "timestamp": time.timestamp().as_second(), "year": time.year(), "month": time.month(), "day": time.day(),
        "hour": time.hour(), "minute": time.minute(), "second": time.second(),
        "weekday": strtime::format("%A", time).unwrap_or_default(),
    })
}

fn difference(start: &Zoned, end: &Zoned) -> Result<Value> {
    let total = end.timestamp().as_second() - start.timestamp().as_second();
    let (size, past) = (total.abs(), total < 0);
    let parts = [("day", size / 86_400), ("hour", size / 3600 % 24), ("minute", size / 60 % 60), ("second", size % 60)];
    let words: Vec<_> = parts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    let words = if words.is_empty() { "0 seconds".into() } else { words.join(", ") };
    let round = SpanRound::new().largest(Part::Year).smallest(Part::Second).mode(RoundMode::Trunc).relative(start);
    let calendar =
        start.until(end).and_then(|span| span.round(round)).map_err(|e| Error::new(Class::Tool, e.to_string()))?;
    Ok(json!({
        "total_seconds": total, "days": total / 86_400, "hours": total / 3600, "minutes": total / 60,
        "human_readable": if past { format!("{words} ago") } else { words },
        "calendar": {
            "years": calendar.get_years(), "months": calendar.get_months(), "days": calendar.get_days(),
            "hours": calendar.get_hours(), "minutes": calendar.get_minutes(), "seconds": calendar.get_seconds(),
        },
        "iso8601": calendar.to_string(),
    }))
}

fn info(time: &Zoned) -> Result<Value> {
    let fault = |e: jiff::Error| Error::new(Class::Tool, e.to_string());
    let mut info = fields(time);
    let week = time.date().iso_week_date();
    info["day_of_year"] = time.day_of_year().into();
    info["week_of_year"] = week.week().into();
    info["week_year"] = week.year().into();
    info["quarter"] = ((time.month() - 1) / 3 + 1).into();
    info["is_leap_year"] = time.in_leap_year().into();
    info["days_in_month"] = time.days_in_month().into();
    info["timezone"] =
        time.time_zone().iana_name().map(str::to_owned).unwrap_or_else(|| time.offset().to_string()).into();
    info["utc_offset_seconds"] = time.offset().seconds().into();
    info["iso"] = iso(time).into();
    info["start_of_day"] = iso(&time.start_of_day().map_err(fault)?).into();
    info["end_of_day"] = iso(&time.end_of_day().map_err(fault)?).into();
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    fn utc(input: Value) -> String {
        let parsed = result("date_time_handler", json!({"input": input}));
        parsed["parsed"]["utc"].as_str().unwrap().to_owned()
    }

    #[test]
    fn spellings_are_understood() {
        for (input, expected) in [
            (json!("2024-03-04T15:30:00Z"), "2024-03-04T15:30:00Z"),
            (json!("2024-03-04t15:30:00+02:00"), "2024-03-04T13:30:00Z"),
            (json!("2024-03-04T15:30:00.25Z"), "2024-03-04T15:30:00.25Z"),
            (json!("Mon, 04 Mar 2024 15:30:00 -0500"), "2024-03-04T20:30:00Z"),
            (json!("2024-03-04T15:30:00[Asia/Tokyo]"), "2024-03-04T06:30:00Z"),
            (json!("2024-03-04 15:30"), "2024-03-04T15:30:00Z"),
            (json!("2024-03-04 15:30:00 UTC"), "2024-03-04T15:30:00Z"),
            (json!("2024/03/04"), "2024-03-04T00:00:00Z"),
            (json!("03/04/2024"), "2024-04-03T00:00:00Z"),
            (json!("04/23/2024"), "2024-04-23T00:00:00Z"),
            (json!("4.3.2024"), "2024-03-04T00:00:00Z"),
            (json!("4 March 2024"), "2024-03-04T00:00:00Z"),
            (json!("20240304"), "2024-03-04T00:00:00Z"),
            (json!("1709566200"), "2024-03-04T15:30:00Z"),
            (json!(1_709_566_200), "2024-03-04T15:30:00Z"),
            (json!("-1"), "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(input.clone()), expected, "{input}");
        }
    }

    #[test]
    fn summer_time_is_known() {
        let add = |unit: &str| {
            let params = json!({
                "operation": "add", "input": "2024-03-30 12:00", "timezone": "Europe/Berlin", "unit": unit,
                "amount": if unit == "days" { 1 } else { 24 },
            });
            result("datetime", params)["result"].take()
        };
        assert_eq!(
            (add("days"), add("hours")),
            (json!("2024-03-31T12:00:00+02:00"), json!("2024-03-31T13:00:00+02:00"))
        );
        let convert = json!({
            "operation": "convert_timezone", "input": "2024-07-01T12:00:00Z", "target_timezone": "+05:30", "format": "%H:%M",
        });
        assert_eq!(result("datetime", convert)["converted"], "17:30");
    }

    #[test]
    fn differences_and_facts() {
        let between = json!({"operation": "difference", "start": "2024-03-01", "end": "2023-02-28"});
        let difference = result("datetime", between)["difference"].take();
        assert_eq!((&difference["days"], &difference["human_readable"]), (&json!(-367), &json!("367 days ago")));
        assert_eq!(difference["calendar"]["years"], -1);
        let info = result("datetime", json!({"operation": "info", "input": "2024-12-30"}))["info"].take();
        let seen = [&info["week_of_year"], &info["week_year"], &info["days_in_month"], &info["quarter"]];
        assert_eq!(json!(seen), json!([1, 2025, 31, 4]));
        assert_eq!((&info["is_leap_year"], &info["day_of_year"]), (&json!(true), &json!(365)));
        let formats = result("datetime", json!({"operation": "formats"}));
        assert!(formats["example_formats"]["US"]["example"].is_string());
        let now = result("datetime", json!({"operation": "now", "timezone": "UTC"}));
        assert!(now["datetime"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn bad_input() {
        bad(
            "date_time_handler",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "tomorrow"}), Class::Usage),
                (json!({"input": "2024-02-30"}), Class::Usage),
                (json!({"input": ""}), Class::Usage),
                (json!({"input": "99999999999999999999"}), Class::Usage),
                (json!({"input": i64::MAX}), Class::Usage),
                (json!({"input": "2024-01-01", "format": "%!"}), Class::Usage),
                (json!({"input": "2024-01-01", "input_format": "%d"}), Class::Usage),
                (json!({"operation": "now", "timezone": "Europe/Berln"}), Class::Usage),
                (json!({"operation": "add", "input": "2024-01-01", "amount": i64::MAX, "unit": "years"}), Class::Usage),
                (
                    json!({"operation": "subtract", "input": "2024-01-01", "amount": i64::MIN, "unit": "s"}),
                    Class::Usage,
                ),
                (json!({"operation": "add", "input": "2024-01-01", "amount": 1, "unit": "fortnight"}), Class::Usage),
                (json!({"operation": "difference", "start": "2024-01-01"}), Class::Usage),
                (json!({"operation": "convert_timezone", "input": "2024-01-01"}), Class::Usage),
            ],
        );
    }
}
