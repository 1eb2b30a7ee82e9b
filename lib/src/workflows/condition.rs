//! Conditions: on shared data, on what steps have left, or a function of the script.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read::{Reader, kind, usage};
use super::{Context, definition, expand};
use crate::error::{Result, nearest};

/// What may hold or not.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// It does.
    Always,
    /// It does not.
    Never,
    /// The shared value is this.
    SharedEquals(String, Value),
    /// There is such a shared value.
    SharedExists(String),
    /// The step ran and did not fail.
    Succeeded(String),
    /// The step ran and failed.
    Failed(String),
    /// The step's output is this.
    OutputIs(String, Value),
    /// The step's output, as text, holds this.
    OutputHolds(String, String),
    /// Two values, placeholders expanded, are the same.
    Equal(Value, Value),
    /// All of them hold.
    All(Vec<Condition>),
    /// One of them does.
    Any(Vec<Condition>),
    /// It does not.
    Not(Box<Condition>),
    /// The function answers something else than false and nil.
    Function(usize),
}

const KINDS: [&str; 13] = [
    "always",
    "never",
    "shared_data_equals",
    "shared_data_exists",
    "step_succeeded",
    "step_failed",
    "step_result_equals",
    "step_result_contains",
    "equals",
    "all",
    "any",
    "not",
    "function",
];

/// Reads a condition: a table with `type`, a function, true or false.
pub(super) fn read(at: &str, value: Value) -> Result<Condition> {
    read_at(at, value, 0)
}

fn read_at(at: &str, value: Value, depth: usize) -> Result<Condition> {
    if depth > super::DEEPEST {
        return Err(usage(format!("{at}: more than {} in one another", super::DEEPEST)));
    }
    match &value {
        Value::Bool(true) => return Ok(Condition::Always),
        Value::Bool(false) => return Ok(Condition::Never),
        Value::Object(_) => {}
        other => return Err(usage(format!("{at}: table with a type, or function, expected, got {}", kind(other)))),
    }
    if let Some(number) = definition::function(&value) {
        return Ok(Condition::Function(number));
    }
    let mut reader = Reader::new(at, value)?;
    let name = reader.name(&["type"])?;
    let step = |reader: &mut Reader| reader.name(&["step", "step_name", "step_id"]);
    let expected = |reader: &mut Reader| reader.take(&["value", "expected", "expected_value", "expected_output"]);
    let list = |reader: &mut Reader| -> Result<Vec<Condition>> {
        let values = reader.list(&["conditions"])?.ok_or_else(|| reader.wrong("conditions: missing"))?;
        values.into_iter().map(|value| read_at(at, value, depth + 1)).collect()
    };
    let condition = match name.as_str() {
        "always" => Condition::Always,
        "never" => Condition::Never,
        "shared_data_equals" => {
            Condition::SharedEquals(reader.name(&["key"])?, expected(&mut reader).unwrap_or_default())
        }
        "shared_data_exists" => Condition::SharedExists(reader.name(&["key"])?),
        "step_succeeded" => Condition::Succeeded(step(&mut reader)?),
        "step_failed" => Condition::Failed(step(&mut reader)?),
        "step_result_equals" | "step_output_equals" => {
            Condition::OutputIs(step(&mut reader)?, expected(&mut reader).unwrap_or_default())
        }
        "step_result_contains" | "step_output_contains" => {
            Condition::OutputHolds(step(&mut reader)?, reader.name(&["text", "search_text", "value"])?)
        }
        "equals" => Condition::Equal(
            reader.take(&["left", "a"]).unwrap_or_default(),
            reader.take(&["right", "b", "value"]).unwrap_or_default(),
        ),
        "all" | "and" => Condition::All(list(&mut reader)?),
        "any" | "or" => Condition::Any(list(&mut reader)?),
        "not" => {
            let inner = reader.take(&["condition"]).ok_or_else(|| reader.wrong("condition: missing"))?;
            Condition::Not(Box::new(read_at(at, inner, depth + 1)?))
        }
        "function" | "custom" => {
            let value = reader.take(&["function", "fn"]).ok_or_else(|| reader.wrong("function: missing"))?;
            let number = definition::function(&value).ok_or_else(|| reader.wrong("function: a function expected"))?;
            Condition::Function(number)
        }
        other => {
            let error = reader.wrong(format!("type: {other:?} is not one of {}", KINDS.join(", ")));
            return Err(match nearest(other, KINDS) {
                Some(near) => error.hint(format!("Did you mean {near}?")),
                None => error,
            });
        }
    };
    reader.finish()?;
    Ok(condition)
}

/// What is known of a condition without calling the script.
pub(super) enum Known {
    Holds(bool),
    /// Ask this function.
    Ask(usize),
}

impl Condition {
    /// The names of the steps it looks at.
    pub(super) fn steps(&self, found: &mut BTreeSet<String>) {
        match self {
            Condition::Succeeded(step)
            | Condition::Failed(step)
            | Condition::OutputIs(step, _)
            | Condition::OutputHolds(step, _) => {
                found.insert(step.clone());
            }
            Condition::All(list) | Condition::Any(list) => list.iter().for_each(|one| one.steps(found)),
            Condition::Not(inner) => inner.steps(found),
            _ => {}
        }
    }

    /// Looks at one that is not made of others.
    pub(super) fn look(&self, context: &Context) -> Result<Known> {
        let steps = context.steps.borrow();
        let shared = context.shared.borrow();
        let record = |name: &str| steps.get(name).filter(|record| !record.skipped);
        Ok(Known::Holds(match self {
            Condition::Always => true,
            Condition::SharedEquals(key, value) => {
                same(shared.get(key).unwrap_or(&Value::Null), &expand::value(value, context)?)
            }
            Condition::SharedExists(key) => shared.get(key).is_some(),
            Condition::Succeeded(step) => record(step).is_some_and(|record| record.success),
            Condition::Failed(step) => record(step).is_some_and(|record| !record.success),
            Condition::OutputIs(step, value) => {
                let value = expand::value(value, context)?;
                record(step).is_some_and(|record| same(&record.output, &value))
            }
            Condition::OutputHolds(step, text) => {
                record(step).is_some_and(|record| expand::text(&record.output).contains(text.as_str()))
            }
            Condition::Equal(a, b) => same(&expand::value(a, context)?, &expand::value(b, context)?),
            Condition::Function(number) => return Ok(Known::Ask(*number)),
            // Those made of others are asked one by one, as they may hold functions.
            Condition::Never | Condition::All(_) | Condition::Any(_) | Condition::Not(_) => false,
        }))
    }
}

/// 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}
