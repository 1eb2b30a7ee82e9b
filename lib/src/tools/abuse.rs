//! Tests for whatever tools there are: parameters that are wrong in each way their schema allows, and random ones. A new tool
//! is covered without a line here.
//!
//! `LLMSPELL_FUZZ_CALLS=1000000 cargo test --release -p llmspell --features full --lib tools::abuse` is the long version;
//! `LLMSPELL_FUZZ_SEED` repeats a run, `LLMSPELL_FUZZ_TOOL` limits it to one tool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::validate::resolve;
use super::{Call, Registry};
use crate::error::Class;
use crate::security::{Grants, Policy, Profile};

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// A call that reaches nothing but a folder of its own.
fn call(dir: &tempfile::TempDir) -> Call {
    let workdir = dir.path().to_path_buf();
    let write = vec![workdir.clone()];
    Call::new(Arc::new(Policy::new(Grants { profile: Profile::Safe, workdir, write, ..Grants::default() })))
}

/// The parameters of the examples of `info`, in `dir`.
fn examples(info: &Value, dir: &tempfile::TempDir) -> Vec<Map<String, Value>> {
    let place = dir.path().display().to_string();
    let of = |example: &Value| {
        let text = example["params"].to_string().replace("$TMP", &place).replace("$HTTP", "http://127.0.0.1:9");
        serde_json::from_str(&text).unwrap()
    };
    info["examples"].as_array().unwrap().iter().map(of).collect()
}

/// Values of each type that no schema of ours lists.
fn kinds() -> [(&'static str, Value); 5] {
    [
        ("string", json!("\u{1}no such thing")),
        ("integer", json!(3)),
        ("boolean", json!(true)),
        ("array", json!([[[]]])),
        ("object", json!({"\u{1}no such member": [[]]})),
    ]
}

fn allows(root: &Value, schema: &Value, kind: &str) -> bool {
    let schema = resolve(root, schema);
    let branches = ["anyOf", "oneOf"].iter().filter_map(|name| schema[*name].as_array()).flatten();
    let is = |one: &Value| one == kind || one == "number" && kind == "integer";
    match &schema["type"] {
        Value::Null if schema["anyOf"].is_null() && schema["oneOf"].is_null() => true,
        Value::Null => branches.into_iter().any(|branch| allows(root, branch, kind)),
        Value::Array(many) => many.iter().any(is),
        one => is(one),
    }
}

#[test]
fn every_tool_refuses_what_its_schema_refuses_and_says_what() {
    let registry = Registry::new();
    let dir = tempfile::tempdir().unwrap();
    let call = call(&dir);
    let mut tried = 0;
    for name in registry.names() {
        let info = registry.info(name).unwrap();
        let schema = &info["schema"];
        let renamed = |name: String| info["spellings"][&name].as_str().map_or(name.clone(), str::to_owned);
        let base: Map<_, _> =
            examples(&info, &dir).remove(0).into_iter().map(|(name, value)| (renamed(name), value)).collect();
        let mut refused = |params: Value, told: &str| {
            tried += 1;
            let error = match registry.invoke(name, params.clone(), &call) {
                Ok(_) => panic!("{name}: {params} was taken"),
                Err(error) => error,
            };
            assert_eq!(error.class(), Class::Usage, "{name}: {params}: {error:?}");
            assert!(error.text().starts_with(&format!("{name}: ")), "{name}: {error}");
            assert!(error.text().contains(told), "{name}: {params}: {told:?} is not in {error}");
        };
        let with = |member: &str, value: Value| {
            let mut params = base.clone();
            params.insert(member.to_owned(), value);
            Value::Object(params)
        };
        for wrong in [json!([]), json!("x"), json!(5), json!(null)] {
            refused(wrong, "not an object");
        }
        refused(with("zzqq", json!(1)), "zzqq: no such parameter");
        for required in schema["required"].as_array().into_iter().flatten() {
            let required = required.as_str().unwrap();
            let mut params = base.clone();
            params.remove(required);
            refused(Value::Object(params), &format!("{required}: missing"));
        }
        for (member, property) in schema["properties"].as_object().unwrap() {
            let property = resolve(schema, property);
            for (kind, value) in kinds() {
                if !allows(schema, property, kind) {
                    refused(with(member, value), &format!("{member}: "));
                }
            }
            if property["enum"].is_array() {
                refused(with(member, json!("\u{1}no such choice")), &format!("{member}: "));
            }
            for (limit, step) in [("minimum", -1.0), ("maximum", 1.0)] {
                if let Some(limit) = property[limit].as_f64().filter(|limit| limit.abs() < 9e15) {
                    let beyond = limit + step;
                    let beyond = if property["type"] == "integer" { json!(beyond as i64) } else { json!(beyond) };
                    refused(with(member, beyond), if step < 0.0 { "is below" } else { "is above" });
                }
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "a",
    "é",
    "\u{10ffff}",
    "\u{202e}x",
    "..",
    "../../etc/passwd",
    "/",
    "/etc/shadow",
    "/dev/zero",
    ".",
    "a/b/c",
    "http://127.0.0.1:1/",
    "http://[::1]/",
    "http://a@b:99999/",
    "file:///etc/passwd",
    "://",
    "{",
    "[1,2",
    "{\"a\": [1, null]}",
    "[[[[[[[[[[[[[[[[",
    "(((((((((((((((((",
    "(a+)+$",
    "[a-",
    "\\",
    "\\u{d800}",
    "%",
    "%Y-%m-%d %Q",
    "{{",
    "{% for",
    "{{#a}}",
    "0",
    "-1",
    "1e999",
    "nan",
    "99999999999999999999999999",
    "0x7fffffffffffffff",
    "1/0",
    "9^9^9^9",
    "2024-02-30",
    "0000-00-00T99:99:99Z",
    "9999-12-31T23:59:59.999999999+14:00",
    "P1Y",
    "* * * * *",
    "*/0 99 31 2 8",
    "a,b\n\"c\n",
    "a\tb\r\n;",
    "<a><b></a>",
    "<!DOCTYPE x [",
    "---\n- &a [*a]",
    "@@ -1,99999 +1 @@\n-x",
    "AAAA====",
    "zz==",
    "urn:uuid:",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "/a/-",
    "/~2",
    "select 1; drop table x",
    "' or 1=1 --",
    "AKIAIOSFODNN7EXAMPLE",
    "-----BEGIN RSA PRIVATE KEY-----",
];

const NUMBERS: &[f64] = &[
    0.0,
    1.0,
    -1.0,
    2.0,
    10.0,
    0.5,
    255.0,
    256.0,
    65_535.0,
    65_536.0,
    1e9,
    -1e9,
    4_294_967_296.0,
    9_007_199_254_740_993.0,
    1e18,
    -1e18,
    1e300,
    -1e-300,
];

fn text(dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => dice.pick(TEXTS).repeat(1 + dice.below(300)),
        1 => [*dice.pick(TEXTS), *dice.pick(TEXTS), *dice.pick(TEXTS)].concat(),
        2 => (0..dice.below(40)).filter_map(|_| char::from_u32(dice.below(0x300) as u32)).collect(),
        _ => (*dice.pick(TEXTS)).to_owned(),
    }
}

fn number(dice: &mut Dice) -> Value {
    let number = *dice.pick(NUMBERS);
    match dice.below(3) {
        0 => json!(number as i64),
        1 => json!(dice.below(100)),
        _ => json!(number),
    }
}

fn anything(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth > 3 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(dice.one_in(2)),
        2 => number(dice),
        3 | 4 => json!(text(dice)),
        5 => (0..dice.below(5)).map(|_| anything(dice, depth + 1)).collect(),
        _ => (0..dice.below(5)).map(|_| (text(dice), anything(dice, depth + 1))).collect::<Map<_, _>>().into(),
    }
}

/// A value that `schema` takes, or nearly.
fn by_schema(dice: &mut Dice, root: &Value, schema: &Value, depth: usize) -> Value {
    let schema = resolve(root, schema);
    if dice.one_in(20) || depth > 6 {
        return anything(dice, depth);
    }
    if let Some(listed) = schema["enum"].as_array() {
        return dice.pick(listed).clone();
    }
    if let Some(only) = schema.get("const") {
        return only.clone();
    }
    for name in ["anyOf", "oneOf"] {
        if let Some(branches) = schema[name].as_array() {
            let branch = dice.pick(branches);
            return by_schema(dice, root, branch, depth + 1);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(many) => dice.pick(many).as_str().unwrap_or_default().to_owned(),
        Value::String(one) => one.clone(),
        _ => String::new(),
    };
    match kind.as_str() {
        "string" => json!(text(dice)),
        "boolean" => json!(dice.one_in(2)),
        "integer" | "number" => {
            let limits = [schema["minimum"].as_f64(), schema["maximum"].as_f64()];
            match limits.into_iter().flatten().nth(dice.below(3)) {
                Some(limit) if limit.abs() < 9e15 => json!(limit as i64),
                _ => number(dice),
            }
        }
        "array" => (0..dice.below(4)).map(|_| by_schema(dice, root, &schema["items"], depth + 1)).collect(),
        "object" => object(dice, root, schema, depth),
        _ => anything(dice, depth),
    }
}

fn object(dice: &mut Dice, root: &Value, schema: &Value, depth: usize) -> Value {
    let required = |name: &str| schema["required"].as_array().is_some_and(|list| list.iter().any(|one| one == name));
    let mut members = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if if required(name) { !dice.one_in(30) } else { dice.one_in(3) } {
            members.insert(name.clone(), by_schema(dice, root, property, depth + 1));
        }
    }
    if schema["additionalProperties"].is_object() || dice.one_in(40) {
        for _ in 0..dice.below(3) {
            members.insert(text(dice), by_schema(dice, root, &schema["additionalProperties"], depth + 1));
        }
    }
    members.into()
}

/// A text with a few bytes changed.
fn mutated(dice: &mut Dice, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(7),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, dice.pick(TEXTS).bytes())),
            _ => {
                let copy = bytes[at..].to_vec();
                bytes.extend_from_slice(&copy);
            }
        }
        bytes.truncate(1 << 14);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn mutate(dice: &mut Dice, value: &mut Value) {
    match value {
        Value::String(text) => *text = mutated(dice, text),
        Value::Array(items) if !items.is_empty() => {
            let at = dice.below(items.len());
            mutate(dice, &mut items[at]);
        }
        Value::Object(members) if !members.is_empty() => {
            let at = dice.below(members.len());
            if let Some(member) = members.values_mut().nth(at) {
                mutate(dice, member);
            }
        }
        value => *value = anything(dice, 2),
    }
}

#[test]
fn no_tool_panics_on_random_parameters() {
    let variable = |name: &str| std::env::var(name).ok();
    let long: Option<usize> = variable("LLMSPELL_FUZZ_CALLS").and_then(|count| count.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = variable("LLMSPELL_FUZZ_SEED").map_or(now, |seed| seed.parse().unwrap());
    let registry = Registry::new();
    let only = variable("LLMSPELL_FUZZ_TOOL");
    let names: Vec<_> = registry.names().filter(|name| only.as_ref().is_none_or(|only| only == name)).collect();
    let calls = long.unwrap_or(6_000) / names.len().max(1);
    let (mut made, mut succeeded) = (0, 0);
    for name in names {
        let mut dice = Dice(seed | 1);
        let dir = tempfile::tempdir().unwrap();
        let info = registry.info(name).unwrap();
        let known = examples(&info, &dir);
        let begun = Instant::now();
        for _ in 0..calls {
            // A tool that waits by trade gets fewer calls in the short version.
            if long.is_none() && begun.elapsed() > Duration::from_secs(2) {
                break;
            }
            let params = if dice.one_in(2) {
                object(&mut dice, &info["schema"], &info["schema"], 0)
            } else {
                let mut params = Value::Object(dice.pick(&known).clone());
                mutate(&mut dice, &mut params);
                params
            };
            let limited = call(&dir).within(Duration::from_millis(if long.is_none() { 50 } else { 5 }));
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| registry.invoke(name, params.clone(), &limited)));
            let shown = || format!("LLMSPELL_FUZZ_SEED={seed} LLMSPELL_FUZZ_TOOL={name} {params}");
            match outcome {
                Err(_) => panic!("panicked: {}", shown()),
                Ok(Err(error)) => assert_ne!(error.class(), Class::Bug, "{error}: {}", shown()),
                Ok(Ok(_)) => succeeded += 1,
            }
            assert!(started.elapsed() < Duration::from_secs(20), "deaf to its time limit: {}", shown());
            made += 1;
        }
    }
    println!("{made} calls, {succeeded} succeeded");
    assert!(only.is_some() || succeeded > made / 100, "{succeeded} of {made}: the parameters are never right");
}
