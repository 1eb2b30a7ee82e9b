//! `data_converter`: JSON, JSON Lines, YAML, TOML, XML and CSV into one another.

mod table;
mod xml;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required, word};
use crate::error::{Class, Error, Result};

/// The data converter.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "data_converter",
    aliases: &["convert_data"],
    category: "data",
    summary: "convert between JSON, JSON Lines, YAML, TOML, XML and CSV",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("data", "input"),
        Spelling::Param("file", "path"),
        Spelling::Param("from_format", "from"),
        Spelling::Param("to_format", "to"),
        Spelling::Value("from", "yml", "yaml"),
        Spelling::Value("to", "yml", "yaml"),
        Spelling::Value("from", "ndjson", "jsonl"),
        Spelling::Value("to", "ndjson", "jsonl"),
        Spelling::Value("from", "json lines", "jsonl"),
        Spelling::Value("to", "json lines", "jsonl"),
    ],
    examples: &[
        example(
            "YAML to JSON",
            r#"{"input": "a: [1, two]\nb: {c: null}\n", "from": "yaml", "to": "json", "pretty": false}"#,
            r#"{"output": "{\"a\":[1,\"two\"],\"b\":{\"c\":null}}", "data": {"a": [1, "two"], "b": {"c": null}}}"#,
        ),
        example(
            "JSON to TOML",
            r#"{"input": {"title": "x", "owner": {"name": "Ann", "tags": ["a", "b"]}}, "to": "toml"}"#,
            r#"{"output": "title = \"x\"\n\n[owner]\nname = \"Ann\"\ntags = [\"a\", \"b\"]\n"}"#,
        ),
        example(
            "CSV to JSON",
            r#"{"input": "id,name\n1,\"Lee, Ann\"\n", "from": "csv", "to": "json"}"#,
            r#"{"data": [{"id": 1, "name": "Lee, Ann"}]}"#,
        ),
        example(
            "XML to JSON: attributes have an @, texts beside them are #text",
            r##"{"input": "<a x='1'><b>one</b><b>two</b><c k='v'>t</c></a>", "from": "xml", "to": "json"}"##,
            r##"{"data": {"a": {"@x": "1", "b": ["one", "two"], "c": {"@k": "v", "#text": "t"}}}}"##,
        ),
    ],
};

/// Converts data. `input` is the text, or the data itself. CSV is a list of objects with the same members; objects in
/// cells are written as JSON. TOML has no null, XML one root element: what a format cannot say is an error.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The text to convert, or JSON data.
    input: Option<Value>,
    /// A file in place of it, UTF-8.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// Where to write as well.
    #[schemars(length(min = 1))]
    output_file: Option<String>,
    /// The format of the input; by the name of the file if not given, else JSON.
    from: Option<Format>,
    /// The format to write; by the name of `output_file` if not given.
    to: Option<Format>,
    /// JSON and XML with line breaks.
    #[serde(default = "super::yes")]
    pretty: bool,
    /// CSV: what stands between cells.
    #[serde(default = "comma")]
    #[schemars(length(min = 1))]
    delimiter: String,
    /// Reading CSV: make numbers, true, false and empty cells of what looks like them. A number with a leading zero stays a text.
    #[serde(default = "super::yes")]
    infer_types: bool,
    /// Writing XML: the root element, where the data has none.
    #[serde(default = "root")]
    root: String,
}

fn comma() -> String {
    ",".into()
}

fn root() -> String {
    "root".into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Format {
    Json,
    Jsonl,
    Yaml,
    Toml,
    Xml,
    Csv,
}

/// Most levels of what is written: what JSON parsers take.
const MAX_DEPTH: usize = 128;

/// Converts.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let from = params.from.or_else(|| params.path.as_deref().and_then(by_name));
    let (data, from) = match (params.input, &params.path) {
        (Some(_), Some(_)) => return Err(Error::new(Class::Usage, "path: given together with input")),
        (Some(Value::String(text)), None) => {
            let from = from.unwrap_or(Format::Json);
            (read(&text, from, &params.delimiter, params.infer_types, call).map_err(|e| e.within("input"))?, from)
        }
        (Some(data), None) => (data, Format::Json),
        (None, path) => {
            let path = required(path.as_deref(), "input")?;
            let text = files::read_text(path, call)?;
            let from = from.ok_or_else(|| Error::new(Class::Usage, "from: missing").hint(FORMATS))?;
            (read(&text, from, &params.delimiter, params.infer_types, call).map_err(|e| e.within(path))?, from)
        }
    };
    if depth(&data) > MAX_DEPTH {
        return Err(Error::new(Class::Tool, format!("input: nested deeper than {MAX_DEPTH}")));
    }
    let to = params.to.or_else(|| params.output_file.as_deref().and_then(by_name));
    let to = to.ok_or_else(|| Error::new(Class::Usage, "to: missing").hint(FORMATS))?;
    call.check()?;
    let text = write(&data, to, &params.delimiter, params.pretty, &params.root)?;
    let mut result = json!({"from": from, "to": to, "output": text});
    if to == Format::Json {
        result["data"] = data;
    }
    if let Some(path) = &params.output_file {
        files::write(path, text.as_bytes(), call)?;
        result["output_file"] = path.as_str().into();
    }
    let message = format!("Converted {} to {}", word(&from), word(&to));
    Ok(Answer::new("convert", result).message(message).text(text))
}

const FORMATS: &str = "Formats: json, jsonl, yaml, toml, xml, csv.";

fn by_name(path: &str) -> Option<Format> {
    Some(match path.rsplit_once('.')?.1.to_lowercase().as_str() {
        "json" => Format::Json,
        "jsonl" | "ndjson" => Format::Jsonl,
        "yaml" | "yml" => Format::Yaml,
        "toml" => Format::Toml,
        "xml" | "svg" | "rss" | "xhtml" => Format::Xml,
        "csv" | "tsv" => Format::Csv,
        _ => return None,
    })
}

/// Without calling itself, as nobody has counted yet.
fn depth(value: &Value) -> usize {
    let (mut todo, mut most) = (vec![(value, 0)], 0);
    while let Some((value, depth)) = todo.pop() {
        most = most.max(depth);
        match value {
            Value::Array(items) => todo.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => todo.extend(members.values().map(|member| (member, depth + 1))),
            _ => {}
        }
    }
    most
}

fn read(text: &str, format: Format, delimiter: &str, infer: bool, call: &Call) -> Result<Value> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| {
        let error = error.to_string();
        let first = error.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Error::new(Class::Tool, format!("not {what}: {first}"))
    };
    match format {
        Format::Json => serde_json::from_str(text).map_err(|e| wrong("JSON", &e)),
        Format::Jsonl => {
            let line = |(number, line): (usize, &str)| {
                call.check()?;
                serde_json::from_str(line).map_err(|e| wrong("JSON", &e).within(format!("line {}", number + 1)))
            };
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            lines.map(line).collect::<Result<Vec<Value>>>().map(Value::Array)
        }
        Format::Yaml => {
            let mut documents = Vec::new();
            for document in serde_norway::Deserializer::from_str(text) {
                call.check()?;
                let value = serde_norway::Value::deserialize(document).map_err(|e| wrong("YAML", &e))?;
                documents.push(of_yaml(value, 0)?);
            }
            // A stream of documents is a list, one is itself.
            Ok(if documents.len() == 1 { documents.remove(0) } else { Value::Array(documents) })
        }
        Format::Toml => {
            let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
                let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
                Error::new(
                    Class::Tool,
                    format!("not TOML: line {line}: {}", e.message().lines().next().unwrap_or_default()),
                )
            })?;
            Ok(of_toml(toml::Value::Table(table)))
        }
        Format::Xml => xml::read(text, call),
        Format::Csv => table::read(text, delimiter, infer, call),
    }
}

fn write(data: &Value, format: Format, delimiter: &str, pretty: bool, root: &str) -> Result<String> {
    let bug = |e: &dyn std::fmt::Display| Error::new(Class::Bug, e.to_string());
    match format {
        Format::Json if pretty => serde_json::to_string_pretty(data).map_err(|e| bug(&e)),
        Format::Json => serde_json::to_string(data).map_err(|e| bug(&e)),
        Format::Jsonl => {
            let list = match data {
                Value::Array(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            Ok(list.iter().map(|value| format!("{value}\n")).collect())
        }
        Format::Yaml => serde_norway::to_string(data).map_err(|e| bug(&e)),
        Format::Toml => {
            let table = to_toml(data, "")?;
            if !table.is_table() {
                return Err(Error::new(Class::Tool, "TOML holds a table, but the data is not an object"));
            }
            toml::to_string(&table).map_err(|e| Error::new(Class::Tool, format!("not to be said in TOML: {e}")))
        }
        Format::Xml => xml::write(data, root, pretty),
        Format::Csv => table::write(data, delimiter),
    }
}

/// YAML has keys that are no texts, tags, and numbers JSON has not.
fn of_yaml(value: serde_norway::Value, depth: usize) -> Result<Value> {
    use serde_norway::Value as Yaml;
    if depth > MAX_DEPTH {
        return Err(Error::new(Class::Tool, format!("nested deeper than {MAX_DEPTH}")));
    }
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => value.into(),
        Yaml::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), ..) => n.into(),
            (_, Some(n), _) => n.into(),
            (_, _, Some(n)) if n.is_finite() => n.into(),
            _ => number.to_string().into(),
        },
        Yaml::String(text) => text.into(),
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().map(|item| of_yaml(item, depth + 1)).collect::<Result<_>>()?)
        }
        Yaml::Mapping(members) => {
            let mut map = serde_json::Map::new();
            for (key, value) in members {
                let key = match of_yaml(key, depth + 1)? {
                    Value::String(text) => text,
                    key => key.to_string(),
                };
                map.insert(key, of_yaml(value, depth + 1)?);
            }
            map.into()
        }
        Yaml::Tagged(tagged) => of_yaml(tagged.value, depth + 1)?,
    })
}

fn of_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(n) => n.into(),
        toml::Value::Float(n) if n.is_finite() => n.into(),
        toml::Value::Float(n) => n.to_string().into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(of_toml).collect(),
        toml::Value::Table(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, of_toml(value))).collect())
        }
    }
}

fn to_toml(value: &Value, path: &str) -> Result<toml::Value> {
    let lacks = |what: &str| {
        Error::new(Class::Tool, format!("{}: TOML has no {what}", if path.is_empty() { "input" } else { path }))
    };
    Ok(match value {
        Value::Null => return Err(lacks("null").hint("Leave the member out.")),
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => n.into(),
            (_, Some(n)) if number.is_f64() => n.into(),
            _ => return Err(lacks("number so large")),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => {
            let item = |(at, item): (usize, &Value)| to_toml(item, &format!("{path}[{at}]"));
            toml::Value::Array(items.iter().enumerate().map(item).collect::<Result<_>>()?)
        }
        Value::Object(members) => {
            let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let member = |(name, value): (&String, &Value)| Ok((name.clone(), to_toml(value, &at(name))?));
            toml::Value::Table(members.iter().map(member).collect::<Result<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    #[test]
    fn every_format_leads_to_every_other_and_back() {
        let data = json!([{"id": 1, "name": "Lee, \"Ann\"", "on": true}, {"id": 2, "name": "<b> & ä", "on": false}]);
        for format in ["json", "jsonl", "yaml", "csv"] {
            let text = result("data_converter", json!({"input": data, "to": format}))["output"].take();
            let back = result("data_converter", json!({"input": text, "from": format, "to": "json"}));
            assert_eq!(back["data"], data, "{format} {text}");
        }
        let data = json!({"a": {"b": ["x", "<&>\"'"], "c": {"d": "1.5"}}});
        for format in ["xml", "toml", "yaml", "json"] {
            let text = result("data_converter", json!({"input": data, "to": format}))["output"].take();
            let back = result("data_converter", json!({"input": text, "from": format, "to": "json"}));
            assert_eq!(back["data"], data, "{format} {text}");
        }
    }

    #[test]
    fn formats_are_known_by_names_of_files() {
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a.yml"), "a: 1\n---\na: 0x10\n").unwrap();
        run("data_converter", json!({"path": "a.yml", "output_file": "out/a.csv"}), &call).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("out/a.csv")).unwrap(), "a\n1\n16\n");
        let tsv = json!({"path": "out/a.csv", "to": "xml", "pretty": false});
        let xml = run("data_converter", tsv, &call).unwrap();
        assert_eq!(
            xml["text"],
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><root><item><a>1</a></item><item><a>16</a></item></root>"
        );
    }

    #[test]
    fn bad_input() {
        let read = |text: &str, from: &str| (json!({"input": text, "from": from, "to": "json"}), Class::Tool);
        let write = |data: Value, to: &str| (json!({"input": data, "to": to}), Class::Tool);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
        let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        bad(
            "data_converter",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "{}"}), Class::Usage),
                (json!({"input": "{}", "to": "protobuf"}), Class::Usage),
                (json!({"input": "{}", "path": "x", "to": "json"}), Class::Usage),
                (json!({"path": "absent.json", "to": "json"}), Class::NotFound),
                (json!({"path": "/etc/passwd", "from": "csv", "to": "json"}), Class::Denied),
                (json!({"input": "a", "from": "csv", "to": "json", "delimiter": "ab"}), Class::Usage),
                read("{", "json"),
                read("{}\n{", "jsonl"),
                read("a: [", "yaml"),
                read("a: *b", "yaml"),
                read(bomb, "yaml"),
                read("a = ", "toml"),
                read("a,b\n1", "csv"),
                read("<a>", "xml"),
                read("<a></b>", "xml"),
                read("<a/><b/>", "xml"),
                read("", "xml"),
                read("<a>&nope;</a>", "xml"),
                read("<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>", "xml"),
                read(&deep("[", "]"), "json"),
                read(&deep("[", "]"), "yaml"),
                read(&deep("<a>", "</a>"), "xml"),
                write(json!({"a": null}), "toml"),
                write(json!([1]), "toml"),
                write(json!({"a": u64::MAX}), "toml"),
                write(json!({"a b": 1}), "xml"),
                write(json!([1]), "csv"),
            ],
        );
    }
}
