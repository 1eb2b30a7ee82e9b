//! `json_processor`: jq programs, by jaq, and JSON Schema.

mod program;

use jsonschema::Validator;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required};
use crate::error::{Class, Error, Result};

/// The JSON processor.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "json_processor",
    aliases: &["json", "jq"],
    category: "data",
    summary: "query and transform JSON with jq programs, validate it against JSON Schema",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles],
    spellings: &[
        Spelling::Param("json", "input"),
        Spelling::Param("data", "input"),
        Spelling::Param("file", "path"),
        Spelling::Param("filter", "query"),
        Spelling::Param("program", "query"),
        Spelling::Value("operation", "transform", "query"),
        Spelling::Value("operation", "jq", "query"),
    ],
    examples: &[
        example(
            "a query; `environment` is a name like any other",
            r#"{"query": ".environment.input | map(. + 1) | add", "input": {"environment": {"input": [1, 2]}}}"#,
            r#"{"result": 5, "results": [5], "count": 1}"#,
        ),
        example(
            "several results",
            r#"{"query": ".users[] | select(.age > 30) | .name", "input": {"users": [{"name": "a", "age": 40}, {"name": "b", "age": 20}, {"name": "c", "age": 31}]}}"#,
            r#"{"result": ["a", "c"], "results": ["a", "c"], "count": 2}"#,
        ),
        example(
            "JSON Lines, line by line",
            r#"{"operation": "stream", "query": ".n * 2", "input": "{\"n\": 1}\n{\"n\": 2}\n"}"#,
            r#"{"results": [2, 4], "count": 2}"#,
        ),
        example(
            "validate",
            r#"{"operation": "validate", "input": {"name": 5}, "schema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["id"]}}"#,
            r#"{"is_valid": false, "errors": [{"path": "", "keyword": "required"}, {"path": "/name", "keyword": "type", "message": "5 is not of type \"string\""}]}"#,
        ),
    ],
};

/// Most faults of a validation that are told.
const MAX_ERRORS: usize = 1000;

/// Runs a jq program over JSON, or validates JSON against a schema (drafts 4 to 2020-12, the last if it names none; references
/// to other hosts are not followed). The program reaches neither files nor the environment.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// `query`: run the program on the input; `stream`: on each line or value of a text; `validate`.
    #[serde(default)]
    operation: Operation,
    /// The JSON, or JSON text.
    #[serde(default)]
    input: Option<Value>,
    /// A file in place of it.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// The jq program.
    #[serde(default = "identity")]
    query: String,
    /// `validate`: the schema.
    schema: Option<Value>,
}

fn identity() -> String {
    ".".into()
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Query,
    Stream,
    Validate,
}

/// Queries or validates.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let text = match (&params.path, params.input) {
        (Some(_), Some(_)) => return Err(Error::new(Class::Usage, "path: given together with input")),
        (Some(path), None) => files::read_text(path, call)?,
        // A text that is no JSON is itself the input, as a script means it.
        (None, Some(Value::String(text))) => match params.operation {
            Operation::Stream => text,
            _ if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() => text,
            _ if text.trim_start().starts_with(['{', '[']) => text,
            _ => Value::String(text).to_string(),
        },
        // Nothing given: null, as `jq -n` has it.
        (None, input) => input.unwrap_or_default().to_string(),
    };
    if params.operation == Operation::Validate {
        let schema = match required(params.schema, "schema")? {
            Value::String(text) => {
                serde_json::from_str(&text).map_err(|e| Error::new(Class::Usage, format!("schema: not JSON: {e}")))?
            }
            schema => schema,
        };
        let data = serde_json::from_str(&text).map_err(|e| Error::new(Class::Tool, format!("input: not JSON: {e}")))?;
        return validate(&schema, &data, call);
    }
    let results = program::run(&params.query, &text, params.operation == Operation::Stream, call)?;
    let name = if params.operation == Operation::Stream { "stream" } else { "query" };
    let one = match results.as_slice() {
        [one] if name == "query" => one.clone(),
        _ => Value::Array(results.clone()),
    };
    let text = match &one {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).map_err(|e| Error::new(Class::Bug, e.to_string()))?,
    };
    Ok(Answer::new(name, json!({"result": one, "count": results.len(), "results": results})).text(text))
}

fn validate(schema: &Value, data: &Value, call: &Call) -> Result<Answer> {
    call.check()?;
    let validator: Validator = jsonschema::validator_for(schema).map_err(|e| {
        Error::new(Class::Usage, format!("schema: {}", super::lower(&e.to_string().replace('\n', " "))))
    })?;
    let mut errors = Vec::new();
    for error in validator.iter_errors(data).take(MAX_ERRORS) {
        call.check()?;
        let place = error.schema_path().to_string();
        let keyword =
            place.rsplit('/').find(|part| !part.is_empty() && part.parse::<usize>().is_err()).unwrap_or_default();
        errors.push(json!({
            "path": error.instance_path().to_string(), "schema_path": place, "keyword": keyword, "message": error.to_string(),
        }));
    }
    let valid = errors.is_empty();
    let message = if valid { "Valid".into() } else { format!("{} errors", errors.len()) };
    let result = json!({"is_valid": valid, "error_count": errors.len(), "errors": errors});
    Ok(Answer::new("validate", result).message(message))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    fn query(program: &str, input: Value) -> Value {
        result("jq", json!({"query": program, "input": input}))["results"].take()
    }

    #[test]
    fn programs_do_what_jq_does() {
        let input = json!({"a": [3, 1, 2], "s": "x,y", "o": {"k": null}});
        for (program, expected) in [
            (".", json!([input])),
            (".a | sort, length", json!([[1, 2, 3], 3])),
            (".a | map(select(. > 1)) | add", json!([5])),
            ("[.a[] as $x | $x * 2]", json!([[6, 2, 4]])),
            (".s | split(\",\")", json!([["x", "y"]])),
            ("[paths]|length", json!([7])),
            ("reduce .a[] as $x (0; . + $x)", json!([6])),
            ("def f(x): x + 1; f(.a[0])", json!([4])),
            ("def fac: if . <= 1 then 1 else . * (. - 1 | fac) end; 10 | fac", json!([3_628_800])),
            (".a |= map(. + 1) | .a", json!([[4, 2, 3]])),
            ("[.. | numbers]", json!([[3, 1, 2]])),
            ("path(..) | select(length == 2)", json!([["a", 0], ["a", 1], ["a", 2], ["o", "k"]])),
            ("try error(\"x\") catch .", json!(["x"])),
            ("[limit(3; range(100))]", json!([[0, 1, 2]])),
            ("[range(0; 10; 4)]", json!([[0, 4, 8]])),
            ("first(repeat(1))", json!([1])),
            ("[1 | until(. > 100; . * 2)]", json!([[128]])),
            ("@base64 \"\\(.s)\"", json!(["eCx5"])),
            ("[1, \"a\\\"b\", null, true] | @csv, @tsv", json!(["1,\"a\"\"b\",,true", "1\ta\"b\t\ttrue"])),
            (".s | test(\"^x\")", json!([true])),
            ("nan, infinite | isinfinite", json!([false, true])),
            ("empty", json!([])),
            ("label $out | foreach .a[] as $x (0; . + $x; if . > 3 then ., break $out else . end)", json!([3, 4])),
            (".o.k // 7", json!([7])),
            ("1000000 | [range(.)] | length", json!([1_000_000])),
            ("[1, [2, [3]]] | flatten", json!([[1, 2, 3]])),
            (".a | walk(if type == \"number\" then . + 1 else . end)", json!([[4, 2, 3]])),
            ("1e1000, nan", json!([f64::MAX, null])),
        ] {
            assert_eq!(query(program, input.clone()), expected, "{program}");
        }
    }

    #[test]
    fn inputs_are_texts_files_and_streams() {
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a.jsonl"), "1 2\n[3]\n").unwrap();
        let streamed = run("jq", json!({"operation": "stream", "path": "a.jsonl", "query": "."}), &call).unwrap();
        assert_eq!(streamed["result"]["results"], json!([1, 2, [3]]));
        assert_eq!(query(".", json!("plain text")), json!(["plain text"]));
        assert_eq!(query(".", json!("[1]")), json!([[1]]));
        assert_eq!(result("jq", json!({"query": "1 + 1"}))["result"], 2);
        assert_eq!(
            run("jq", json!({"query": ".", "input": "{\"a\": 1.50, \"b\": 12345678901234567890}"}), &call).unwrap()["result"]
                ["result"],
            json!({"a": 1.5, "b": 12_345_678_901_234_567_890_u64})
        );
    }

    #[test]
    fn what_would_not_end_is_stopped() {
        let (_dir, mut call) = folder();
        for program in [
            "def f: f; f",
            "repeat(1) | select(. > 1)",
            "def f: 1 + f; f",
            "last(range(1e18))",
            "[recurse(. + 1)] | length",
            "def f: (f)?; f",
            "0 | until(false; . + 1)",
            "reduce range(1e18) as $x (0; . + 1)",
            "[range(1e18)?] | length",
            "first(range(1e18) | select(. < 0))",
            "def f: try f catch f; f",
        ] {
            call.deadline = Some(std::time::Instant::now() + std::time::Duration::from_millis(200));
            let error = run("jq", json!({"query": program, "input": 0}), &call).unwrap_err();
            assert!(matches!(error.class(), Class::Timeout | Class::Tool), "{program}: {error}");
        }
        let deep = run("jq", json!({"query": "reduce range(100000) as $i (null; [.])"}), &folder().1).unwrap_err();
        assert_eq!(deep.class(), Class::Tool);
    }

    #[test]
    fn schemas_of_several_drafts() {
        for (schema, data, valid) in [
            (
                json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}),
                json!([1]),
                false,
            ),
            (json!({"prefixItems": [{"type": "string"}]}), json!([1]), false),
            (json!({"type": "integer", "minimum": 3}), json!(5), true),
            (json!(true), json!(null), true),
        ] {
            let checked = result("json-processor", json!({"operation": "validate", "input": data, "schema": schema}));
            assert_eq!(checked["is_valid"], valid, "{schema}");
        }
    }

    #[test]
    fn bad_input() {
        let wrong = |program: &str, class| (json!({"query": program, "input": {"a": 1}}), class);
        bad(
            "json_processor",
            &[
                wrong("", Class::Usage),
                wrong(".[", Class::Usage),
                wrong("$x", Class::Usage),
                wrong("frob", Class::Usage),
                wrong("\"unclosed", Class::Usage),
                wrong("import \"a\" as a; .", Class::Usage),
                wrong("input", Class::Usage),
                wrong(".a.b", Class::Tool),
                wrong("error(\"x\")", Class::Tool),
                wrong("env", Class::Tool),
                wrong("$ENV", Class::Usage),
                wrong("halt", Class::Tool),
                wrong("break $x", Class::Usage),
                (json!({"query": ".", "input": "{\"a\": "}), Class::Tool),
                (json!({"query": ".", "input": "[".repeat(100_000)}), Class::Tool),
                (json!({"query": "(".repeat(100_000)}), Class::Usage),
                (json!({"operation": "validate", "input": 1}), Class::Usage),
                (json!({"operation": "validate", "input": 1, "schema": {"type": "nonsense"}}), Class::Usage),
                (
                    json!({"operation": "validate", "input": 1, "schema": {"$ref": "http://example.com/x.json"}}),
                    Class::Usage,
                ),
                (json!({"operation": "validate", "input": "{", "schema": {}}), Class::Tool),
                (json!({"path": "/etc/passwd"}), Class::Denied),
                (json!({"path": "x", "input": 1}), Class::Usage),
            ],
        );
    }
}
