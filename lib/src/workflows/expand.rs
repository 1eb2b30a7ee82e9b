//! Placeholders: `{{step.NAME.result}}`, `{{input.KEY}}`, `{{loop_value}}`, `{{loop_index}}`, `{{shared.KEY}}` and
//! `{{execution_id}}`, each with a path behind it; `steps` for `step`, `output` for `result` and `:` for `.` will do.
//!
//! A text that is nothing but a placeholder becomes the value itself, whatever its type. What begins with another word is no
//! placeholder and stays as it is, so that templates of others pass; `\{{` stays as `{{`.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::read::usage;
use super::{Context, Record};
use crate::error::{Result, nearest};

/// `value` with all placeholders in its texts replaced.
pub(super) fn value(value: &Value, context: &Context) -> Result<Value> {
    Ok(match value {
        Value::String(template) => one(template, context)?,
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| self::value(item, context)).collect::<Result<_>>()?)
        }
        Value::Object(members) => {
            let mut expanded = Map::with_capacity(members.len());
            for (key, member) in members {
                expanded.insert(key.clone(), self::value(member, context)?);
            }
            Value::Object(expanded)
        }
        other => other.clone(),
    })
}

/// `value` as it stands inside of a text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `template` with all placeholders replaced, as text.
pub(super) fn string(template: &str, context: &Context) -> Result<String> {
    Ok(text(&one(template, context)?))
}

fn one(template: &str, context: &Context) -> Result<Value> {
    if !template.contains("{{") {
        return Ok(Value::String(template.to_owned()));
    }
    let (mut made, mut rest) = (String::new(), template);
    while let Some(start) = rest.find("{{") {
        let (before, from) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('\\') {
            made.push_str(before);
            made.push_str("{{");
            rest = &from[2..];
            continue;
        }
        made.push_str(before);
        let found = from.find("}}").map(|end| (from[2..end].trim(), &from[end + 2..]));
        match found.and_then(|(words, behind)| Some((Path::of(words)?, behind))) {
            Some((path, behind)) => {
                let value = path.value(context)?;
                if made.is_empty() && behind.is_empty() && start == 0 && rest.len() == template.len() {
                    return Ok(value);
                }
                made.push_str(&text(&value));
                rest = behind;
            }
            None => {
                made.push_str("{{");
                rest = &from[2..];
            }
        }
    }
    made.push_str(rest);
    Ok(Value::String(made))
}

/// The steps that placeholders in `value` name.
pub(super) fn steps(value: &Value, known: &HashMap<String, usize>, found: &mut BTreeSet<String>) {
    match value {
        Value::String(template) => {
            let mut rest = template.as_str();
            while let Some(start) = rest.find("{{") {
                rest = &rest[start + 2..];
                let words = rest.find("}}").map(|end| rest[..end].trim());
                if let Some(Path { root: Root::Step, behind, .. }) = words.and_then(Path::of)
                    && let Some((name, _)) = step_name(behind, |name| known.contains_key(name))
                {
                    found.insert(name.to_owned());
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| steps(item, known, found)),
        Value::Object(members) => members.values().for_each(|member| steps(member, known, found)),
        _ => {}
    }
}

enum Root {
    Step,
    Input,
    LoopValue,
    LoopIndex,
    Shared,
    Execution,
}

/// A placeholder: where it starts, and the path behind.
struct Path<'a> {
    words: &'a str,
    root: Root,
    behind: &'a str,
}

impl<'a> Path<'a> {
    /// `None` for what is no placeholder of ours.
    fn of(words: &'a str) -> Option<Self> {
        if words.contains(['{', '}', '\n', '|', '(']) {
            return None;
        }
        let (head, behind) = words.split_once(['.', ':']).unwrap_or((words, ""));
        let (root, behind) = match head {
            "step" | "steps" if !behind.is_empty() => (Root::Step, behind),
            "input" => (Root::Input, behind),
            "loop_value" | "loop_item" => (Root::LoopValue, behind),
            "loop_index" if behind.is_empty() => (Root::LoopIndex, behind),
            "loop" => {
                let (what, behind) = behind.split_once(['.', ':']).unwrap_or((behind, ""));
                match what {
                    "value" | "item" | "current_value" => (Root::LoopValue, behind),
                    "index" if behind.is_empty() => (Root::LoopIndex, behind),
                    _ => return None,
                }
            }
            "shared" | "shared_data" if !behind.is_empty() => (Root::Shared, behind),
            "execution_id" if behind.is_empty() => (Root::Execution, behind),
            _ => return None,
        };
        Some(Path { words, root, behind })
    }

    fn wrong<'n>(
        &self,
        why: impl std::fmt::Display,
        wanted: &str,
        names: impl Iterator<Item = &'n str>,
    ) -> crate::error::Error {
        let names: Vec<&str> = names.collect();
        let error = usage(format!("{{{{{}}}}}: {why}", self.words));
        match nearest(wanted, names.iter().copied()) {
            Some(near) => error.hint(format!("Did you mean {near}?")),
            None if names.is_empty() => error,
            None => error.hint(format!("There is: {}.", names.join(", "))),
        }
    }

    fn value(&self, context: &Context) -> Result<Value> {
        match self.root {
            Root::Step => {
                let steps = context.steps.borrow();
                let Some((name, rest)) = step_name(self.behind, |name| steps.get(name).is_some()) else {
                    let name = self.behind.split(['.', ':']).next().unwrap_or_default();
                    let names = steps.iter().map(|record| record.name.as_str());
                    return Err(self.wrong(format!("no step {name} has run"), name, names));
                };
                match steps.get(name) {
                    Some(record) => self.of_record(record, rest),
                    None => Ok(Value::Null),
                }
            }
            Root::Input => {
                // The words of v0.10: `{{input.input}}` is a text given alone.
                if self.behind == "input" && !context.input.is_object() {
                    return Ok((*context.input).clone());
                }
                self.within(&context.input, self.behind)
            }
            Root::LoopValue => match &context.turn {
                Some(turn) => self.within(&turn.value, self.behind),
                None => Err(usage(format!("{{{{{}}}}}: this is no loop", self.words))),
            },
            Root::LoopIndex => match &context.turn {
                Some(turn) => Ok(turn.index.into()),
                None => Err(usage(format!("{{{{{}}}}}: this is no loop", self.words))),
            },
            Root::Shared => {
                let shared = context.shared.borrow();
                if let Some(value) = shared.get(self.behind) {
                    return Ok(value.clone());
                }
                let (key, rest) = self.behind.split_once(['.', ':']).unwrap_or((self.behind, ""));
                match shared.get(key) {
                    Some(value) => self.within(value, rest),
                    None => {
                        Err(self.wrong("there is no such shared value", key, shared.all().keys().map(String::as_str)))
                    }
                }
            }
            Root::Execution => Ok(Value::from(&*context.execution)),
        }
    }

    /// What a step has left.
    fn of_record(&self, record: &Record, path: &str) -> Result<Value> {
        let (head, rest) = path.split_once(['.', ':']).unwrap_or((path, ""));
        match head {
            "" => Ok(record.output.clone()),
            "result" | "output" => self.within(&record.output, rest),
            "success" => Ok(record.success.into()),
            "skipped" => Ok(record.skipped.into()),
            "attempts" => Ok(record.attempts.into()),
            "duration_ms" => Ok(record.duration_ms.into()),
            "error" => Ok(record.error.as_ref().map_or(Value::Null, |error| error.message.clone().into())),
            head => {
                if let Some(value) = record.details.get(head) {
                    return self.within(value, rest);
                }
                if head == "text" {
                    return Ok(text(&record.output).into());
                }
                match &record.output {
                    Value::Object(members) if members.contains_key(head) => self.within(&record.output, path),
                    output => {
                        let inside = output.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
                        let names = ["result", "text", "success", "error"].into_iter().chain(inside);
                        Err(self.wrong(format!("step {} has no {head}", record.name), head, names))
                    }
                }
            }
        }
    }

    /// What stands in `value` under `path`.
    fn within(&self, value: &Value, path: &str) -> Result<Value> {
        let mut value = value;
        for key in path.split(['.', ':']).filter(|key| !key.is_empty()) {
            let next = match value {
                Value::Object(members) => members.get(key),
                // As scripts count.
                Value::Array(items) => key.parse::<usize>().ok().and_then(|place| items.get(place.checked_sub(1)?)),
                _ => None,
            };
            value = match (next, value) {
                (Some(next), _) => next,
                (None, Value::Object(members)) => {
                    return Err(self.wrong(format!("there is no {key}"), key, members.keys().map(String::as_str)));
                }
                (None, Value::Array(items)) => {
                    return Err(usage(format!(
                        "{{{{{}}}}}: there is no {key} in a list of {}",
                        self.words,
                        items.len()
                    )));
                }
                (None, Value::Null) => return Err(usage(format!("{{{{{}}}}}: there is no {key}", self.words))),
                (None, _) => return Err(usage(format!("{{{{{}}}}}: there is no {key} in {value}", self.words))),
            };
        }
        Ok(value.clone())
    }
}

/// The name at the start of `path`, which may hold dots itself, and what is behind it.
fn step_name(path: &str, known: impl Fn(&str) -> bool) -> Option<(&str, &str)> {
    let ends = path.match_indices(['.', ':']).map(|(at, _)| at).chain([path.len()]);
    let found = ends.filter(|end| known(&path[..*end])).max()?;
    Some((&path[..found], path[found..].trim_start_matches(['.', ':'])))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::json;

    use super::super::{Turn, test_context};
    use super::*;

    fn context() -> Context {
        let context = test_context(json!({"topic": "rust", "n": 3, "list": [10, {"deep": true}], "no": null}));
        let details = json!({"text": "forty-two", "operation": "evaluate", "result": {"result": 42}});
        let record = |name: &str, output: Value, details: &Value| Record {
            name: name.into(),
            success: true,
            output,
            details: details.as_object().cloned().unwrap_or_default(),
            attempts: 1,
            ..Record::default()
        };
        {
            let mut steps = context.steps.borrow_mut();
            steps.put(Rc::new(record("calc", json!({"result": 42}), &details)));
            steps.put(Rc::new(record("a.b", json!("dotted"), &json!({}))));
            steps.put(Rc::new(record("list", json!([1, "x"]), &json!({}))));
        }
        context.shared.borrow_mut().set("mood", json!({"now": "good"}));
        Context { turn: Some(Rc::new(Turn { value: json!({"id": 7}), index: 2 })), ..context }
    }

    #[test]
    fn every_spelling() {
        let context = context();
        for (template, expected) in [
            ("{{step.calc.result}}", json!({"result": 42})),
            ("{{ steps.calc.output.result }}", json!(42)),
            ("{{step:calc:output}}", json!({"result": 42})),
            ("{{step.calc}}", json!({"result": 42})),
            ("{{step.calc.text}}", json!("forty-two")),
            ("{{step.calc.success}}", json!(true)),
            ("{{step.a.b.result}}", json!("dotted")),
            ("{{step.list.result.2}}", json!("x")),
            ("{{step.list.text}}", json!("[1,\"x\"]")),
            ("{{input}}", (*context.input).clone()),
            ("{{input.n}}", json!(3)),
            ("{{input.list.2.deep}}", json!(true)),
            ("{{input.no}}", json!(null)),
            ("{{loop_value}}", json!({"id": 7})),
            ("{{loop_value.id}}", json!(7)),
            ("{{loop.value.id}} of {{loop_index}}", json!("7 of 2")),
            ("{{shared.mood.now}}", json!("good")),
            ("about {{input.topic}}: {{step.calc.result}}", json!("about rust: {\"result\":42}")),
            ("[{{input.no}}]", json!("[]")),
            ("{{input.n}}{{input.n}}", json!("33")),
            ("{{execution_id}}", json!("e1")),
            // Templates of others, and what is none.
            ("{{#each items}}{{this}}{{/each}} {{name}}", json!("{{#each items}}{{this}}{{/each}} {{name}}")),
            ("{{ input.topic | upper }}", json!("{{ input.topic | upper }}")),
            (r"\{{input.n}}", json!("{{input.n}}")),
            ("{{", json!("{{")),
            ("{{input.n", json!("{{input.n")),
            ("}} {{{{input.n}}", json!("}} {{3")),
            ("äö{{input.n}}ü", json!("äö3ü")),
        ] {
            assert_eq!(value(&json!(template), &context).unwrap(), expected, "{template}");
        }
        let nested = json!({"a": ["{{input.n}}", {"b": "{{input.list}}"}], "c": 1.5});
        let expected = json!({"a": [3, {"b": [10, {"deep": true}]}], "c": 1.5});
        assert_eq!(value(&nested, &context).unwrap(), expected);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let context = context();
        for (template, message, hint) in [
            ("{{step.clac.result}}", "{{step.clac.result}}: no step clac has run", Some("Did you mean calc?")),
            ("{{step.calc.reslut}}", "{{step.calc.reslut}}: step calc has no reslut", Some("Did you mean result?")),
            ("{{input.topik}}", "{{input.topik}}: there is no topik", Some("Did you mean topic?")),
            ("{{input.list.3}}", "{{input.list.3}}: there is no 3 in a list of 2", None),
            ("{{input.n.x}}", "{{input.n.x}}: there is no x in 3", None),
            ("{{shared.moot}}", "{{shared.moot}}: there is no such shared value", Some("Did you mean mood?")),
        ] {
            let error = value(&json!(template), &context).unwrap_err();
            assert_eq!((error.text(), error.next_step()), (message, hint));
        }
        let outside = Context { turn: None, ..context };
        let error = value(&json!("{{loop_value}}"), &outside).unwrap_err();
        assert_eq!(error.text(), "{{loop_value}}: this is no loop");
    }
}
