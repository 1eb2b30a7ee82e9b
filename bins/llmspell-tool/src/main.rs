//! llmspell-tool(1): asks a kernel about its tools, or to run one. With no kernel running, a private one answers.

mod cli;
mod show;

use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use cli::{Action, Args, Content, Format, Pair, Params, Tools};
use llmspell::cli::{Permissions, Talk, Target, main as program};
use llmspell::client::{self, Client, Event, Private, Watch};
use llmspell::daemon::signal_fd;
use llmspell::error::{Class, Error, Result};
use llmspell::home::Home;
use llmspell::protocol::content::{Tool, Words};
use serde_json::{Map, Value, json};

const PROGRAM: &str = "llmspell-tool";

fn main() -> ExitCode {
    program(&cli::CLI, run)
}

fn run(args: Args) -> Result<u8> {
    let progress = match &args.action {
        Action::Invoke { stream, .. } => *stream || args.talk != Talk::Quiet && std::io::stderr().is_terminal(),
        _ => false,
    };
    // Before anything is started: a bad parameter needs no kernel.
    let params = match &args.action {
        Action::Invoke { params, .. } => Some(Given::read(params)?),
        _ => None,
    };
    let mut kernel = Kernel::reach(&args, progress)?;
    let answered = kernel.answer(&args, params);
    match answered {
        Err(error) if args.format != Format::Text => {
            let row = error.class().row();
            let document = json!({
                "status": "error",
                "class": row.name,
                "error": error.text(),
                "error_type": row.error_type,
                "hint": error.next_step(),
            });
            show::json(&document, args.format)?;
            Err(error)
        }
        answered => answered,
    }
}

/// The kernel that answers, and how to stop it.
struct Kernel {
    reached: Reached,
    progress: bool,
    stop: OwnedFd,
}

enum Reached {
    Running(Client),
    Private(Private),
}

impl Kernel {
    fn reach(args: &Args, progress: bool) -> Result<Self> {
        let home = Home::find()?;
        let file = match &args.target {
            // A running kernel has its own configuration and permissions; these are for one of our own.
            Target::Unsaid if args.config.is_some() || args.permissions != Permissions::default() => None,
            Target::Unsaid => client::find(&home, None, None)?,
            Target::Kernel(id) => client::find(&home, Some(id), None)?,
            Target::File(file) => client::find(&home, None, Some(file))?,
        };
        let say = |text: String| {
            if args.talk == Talk::Verbose {
                let _ = writeln!(std::io::stderr(), "{PROGRAM}: {text}");
            }
        };
        // Before a child is started, so that Ctrl-C never leaves one behind without its client.
        let stop = signal_fd(&[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
        let reached = match file {
            Some(file) => {
                say(format!("asking the kernel of {}", file.display()));
                Reached::Running(Client::open(&file, progress)?)
            }
            None => {
                say("no kernel runs; asking a private one".into());
                let mut words: Vec<OsString> = args.permissions.to_words().into_iter().map(Into::into).collect();
                if let Some(config) = &args.config {
                    words.extend(["--config".into(), config.into()]);
                }
                Reached::Private(Private::start(&home, &words, progress)?)
            }
        };
        Ok(Kernel { reached, progress, stop })
    }

    fn ask(&mut self, request: &Tool) -> Result<Map<String, Value>> {
        let client = match &mut self.reached {
            Reached::Running(client) => client,
            Reached::Private(private) => &mut private.client,
        };
        let mut on_event = |event| {
            if let Event::Stream(stream) = event {
                let _ = std::io::stderr().write_all(stream.text.as_bytes());
            }
            Ok(None)
        };
        let mut watch = Watch { on_event: &mut on_event, stop: Some(self.stop.as_fd()), input: None, deadline: None };
        client.tool(request, &mut watch)
    }

    fn answer(&mut self, args: &Args, params: Option<Given>) -> Result<u8> {
        let request = |command: &str| Tool { command: command.into(), ..Tool::default() };
        let format = args.format;
        match &args.action {
            Action::List { category, available } => {
                let category = category.clone();
                let reply = self.ask(&Tool { category, available: *available, ..request("list") })?;
                show::list(&reply, "tools", format)?;
                Ok(0)
            }
            Action::Search { query, category } => {
                let query = Some(Words(vec![query.clone()]));
                let reply = self.ask(&Tool { query, category: category.clone(), ..request("search") })?;
                let found = show::list(&reply, "matches", format)?;
                Ok(u8::from(found == 0))
            }
            Action::Info { name, schema } => {
                let reply = self.ask(&Tool { name: Some(name.clone()), ..request("info") })?;
                show::info(&reply, *schema, format)?;
                Ok(0)
            }
            Action::Invoke { name, .. } => {
                let params = match params {
                    Some(Given::Object(params)) => params,
                    Some(Given::Pairs(pairs)) => self.typed(name, pairs)?,
                    None => Map::new(),
                };
                let cwd = std::env::current_dir().map_err(|e| Error::system("working folder", e))?;
                let reply = self.ask(&Tool {
                    name: Some(name.clone()),
                    params: Some(Value::Object(params)),
                    timeout: args.timeout.map(|limit| if limit.is_zero() { f64::MAX } else { limit.as_secs_f64() }),
                    stream: self.progress,
                    cwd: Some(cwd.to_string_lossy().into_owned()),
                    ..request("invoke")
                })?;
                show::result(&reply, format)?;
                Ok(0)
            }
            Action::Test { tools } => self.test(tools, args),
        }
    }

    fn test(&mut self, tools: &Tools, args: &Args) -> Result<u8> {
        let names = match tools {
            Tools::Named(names) => names.clone(),
            Tools::All => {
                let reply = self.ask(&Tool { command: "list".into(), ..Tool::default() })?;
                show::rows(&reply, "tools").iter().map(|row| show::text(row, "name").to_owned()).collect()
            }
        };
        let mut replies = Vec::new();
        let mut passed = true;
        for name in names {
            let timeout = args.timeout.filter(|limit| !limit.is_zero()).map(|limit| limit.as_secs_f64());
            let request = Tool { command: "test".into(), name: Some(name), timeout, ..Tool::default() };
            let reply = self.ask(&request)?;
            passed &= reply.get("success") == Some(&Value::Bool(true));
            match args.format {
                Format::Text => show::test(&reply, args.talk)?,
                _ => replies.push(Value::Object(reply)),
            }
        }
        match (args.format, tools) {
            (Format::Text, _) => {}
            (format, Tools::Named(names)) if names.len() == 1 => show::json(&replies[0], format)?,
            (format, _) => show::json(&json!({"status": "ok", "success": passed, "tests": replies}), format)?,
        }
        Ok(u8::from(!passed))
    }

    /// `name=value` as parameters, typed as the tool's schema says.
    fn typed(&mut self, tool: &str, pairs: Vec<(String, Text)>) -> Result<Map<String, Value>> {
        if pairs.iter().all(|(_, text)| matches!(text, Text::Plain(_))) {
            return Ok(pairs.into_iter().map(|(name, text)| (name, text.plain())).collect());
        }
        let info =
            Value::Object(self.ask(&Tool { command: "info".into(), name: Some(tool.into()), ..Tool::default() })?);
        let schema = &info["schema"];
        let value = |(name, text): (String, Text)| {
            let value = match text {
                Text::Plain(_) => text.plain(),
                Text::Typed(text) => {
                    let canonical = info["spellings"][&name].as_str().unwrap_or(&name);
                    typed(&text, &types(schema, &schema["properties"][canonical]))
                }
            };
            (name, value)
        };
        Ok(pairs.into_iter().map(value).collect())
    }
}

/// Parameters as they were given, files read.
enum Given {
    Object(Map<String, Value>),
    Pairs(Vec<(String, Text)>),
}

enum Text {
    /// To be typed by the schema.
    Typed(String),
    /// As it stands.
    Plain(String),
}

impl Text {
    fn plain(self) -> Value {
        match self {
            Text::Typed(text) | Text::Plain(text) => Value::String(text),
        }
    }
}

impl Given {
    fn read(params: &Params) -> Result<Self> {
        match params {
            Params::Json(text) => object(text, "--params"),
            Params::Stdin => object(&standard_input()?, "--params -"),
            Params::File(file) => object(&read(file)?, &format!("--params @{}", file.display())),
            Params::Pairs(pairs) => pairs.iter().map(text).collect::<Result<_>>().map(Given::Pairs),
        }
    }
}

fn object(text: &str, from: &str) -> Result<Given> {
    match serde_json::from_str(text) {
        Ok(Value::Object(params)) => Ok(Given::Object(params)),
        Ok(other) => Err(Error::new(Class::Usage, format!("{from}: {} is not a JSON object", show::kind(&other)))
            .hint(r#"Give parameters by name: --params '{"input": "2 + 2"}'"#)),
        Err(error) => Err(Error::new(Class::Usage, format!("{from}: not JSON: {error}"))
            .hint(r#"Quote it for the shell: --params '{"input": "2 + 2"}', or give name=value."#)),
    }
}

fn text(pair: &Pair) -> Result<(String, Text)> {
    let text = match &pair.content {
        Content::Typed(text) => Text::Typed(text.clone()),
        Content::Text(text) => Text::Plain(text.clone()),
        Content::File(file) => Text::Plain(read(file)?),
        Content::Stdin => Text::Plain(standard_input()?),
    };
    Ok((pair.name.clone(), text))
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).map_err(|e| Error::io(file, e))?;
    String::from_utf8(bytes).map_err(|_| Error::new(Class::Usage, format!("{}: not UTF-8 text", file.display())))
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| Error::system("standard input", e))?;
    Ok(text)
}

/// The JSON types a parameter may have; none when the schema does not say.
fn types<'a>(schema: &'a Value, property: &'a Value) -> Vec<&'a str> {
    if let Some(name) = property["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return types(schema, &schema["$defs"][name]);
    }
    let mut found: Vec<_> = match &property["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    for branch in ["anyOf", "oneOf", "allOf"] {
        for part in property[branch].as_array().into_iter().flatten() {
            found.extend(types(schema, part));
        }
    }
    if found.is_empty() && property.get("enum").is_some() {
        found.push("string");
    }
    found
}

/// `text` as a value of one of `types`. What does not fit stays text: the tool says what it wants.
fn typed(text: &str, types: &[&str]) -> Value {
    let strings_only = !types.is_empty() && types.iter().all(|one| matches!(*one, "string" | "null"));
    if strings_only {
        return Value::String(text.into());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if types.is_empty() && value.is_string() => Value::String(text.into()),
        Ok(value) if types.is_empty() || types.iter().any(|one| fits(&value, one)) => value,
        _ if types.contains(&"array") && !types.contains(&"string") => {
            text.split(',').map(|item| Value::String(item.trim().into())).collect()
        }
        _ => Value::String(text.into()),
    }
}

fn fits(value: &Value, name: &str) -> bool {
    match name {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_type_the_schema_names() {
        let schema = json!({
            "properties": {
                "s": {"type": "string"}, "n": {"type": ["number", "null"]}, "b": {"type": "boolean"},
                "list": {"type": "array"}, "e": {"$ref": "#/$defs/E"}, "any": true, "o": {"type": "object"},
                "either": {"anyOf": [{"type": "array"}, {"type": "string"}]},
            },
            "$defs": {"E": {"enum": ["a", "b"]}},
        });
        let value = |name: &str, text: &str| typed(text, &types(&schema, &schema["properties"][name]));
        assert_eq!(value("s", "5"), json!("5"));
        assert_eq!(value("n", "5.5"), json!(5.5));
        assert_eq!(value("n", "x"), json!("x"));
        assert_eq!(value("b", "true"), json!(true));
        assert_eq!(value("list", "[1]"), json!([1]));
        assert_eq!(value("list", "a, b"), json!(["a", "b"]));
        assert_eq!(value("either", "a,b"), json!("a,b"));
        assert_eq!(value("e", "a"), json!("a"));
        assert_eq!(value("o", r#"{"a": 1}"#), json!({"a": 1}));
        assert_eq!(value("any", "5"), json!(5));
        assert_eq!(value("any", "five"), json!("five"));
    }
}
