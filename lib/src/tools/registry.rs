//! The registry: the one door to the tools. Names, old spellings, validation against the schema, the envelope and the
//! worked examples are dealt with here, once for all tools.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use heck::ToSnakeCase;
use serde_json::{Map, Value, json};

use super::limits::{self, Rates};
use super::optional::{self, Optional};
use super::schema::{self, squeeze};
#[cfg(test)]
use super::validate;
use super::{Answer, Call, Effect, Spelling, Tool, ToolSpec, echo, faults};
use crate::error::{Class, Error, Result, nearest};
use crate::security::{Grants, Policy, Profile};

/// The tools of this process.
pub struct Registry {
    entries: Vec<Entry>,
    /// What was added while it runs, by name.
    added: RwLock<BTreeMap<String, Dynamic>>,
    rates: Rates,
}

/// What a tool that was added does.
type Work = Arc<dyn Fn(Value, &Call) -> Result<Answer> + Send + Sync>;

/// A tool that is added while the registry runs: an agent. It may wait for other tools.
#[derive(Clone)]
pub struct Dynamic {
    /// `snake_case`.
    pub name: String,
    /// One line.
    pub summary: String,
    /// JSON Schema of its parameters.
    pub schema: Value,
    /// What it does.
    pub run: Work,
}

impl Dynamic {
    fn row(&self) -> Value {
        json!({
            "name": self.name, "summary": self.summary, "category": AGENT, "level": "restricted", "available": true,
        })
    }

    fn info(&self) -> Value {
        json!({
            "name": self.name, "aliases": [], "category": AGENT, "summary": self.summary, "description": self.summary,
            "security_level": "restricted", "effects": [], "schema": self.schema,
            "parameters": schema::parameters(&self.schema), "spellings": {}, "examples": [],
        })
    }

    fn invoke(&self, params: Value, call: &Call) -> Result<Value> {
        let started = Instant::now();
        if !params.is_object() {
            return Err(Error::new(Class::Usage, "parameters: not an object"));
        }
        Ok(envelope((self.run)(params, call)?, started, call))
    }
}

/// The category of tools that are agents.
const AGENT: &str = "agent";

/// A tool with what is made of its parameters when first needed.
struct Entry {
    tool: Box<dyn Tool>,
    schema: OnceLock<Value>,
}

/// One executed example of a tool.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TestCase {
    /// What it shows.
    pub title: String,
    /// Whether the result was as documented.
    pub passed: bool,
    /// What was wrong.
    pub message: Option<String>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

/// Old names of parameters and what they are called now.
fn old_names(spec: &ToolSpec) -> Map<String, Value> {
    let renamed = |spelling: &Spelling| match spelling {
        Spelling::Param(old, new) => Some(((*old).to_owned(), Value::from(*new))),
        Spelling::Value(..) => None,
    };
    spec.spellings.iter().filter_map(renamed).collect()
}

impl Registry {
    /// The tools of this build.
    pub fn new() -> Self {
        let entry = |tool| Entry { tool, schema: OnceLock::new() };
        let mut entries: Vec<_> = super::builtin().into_iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.spec().name);
        Registry { entries, added: RwLock::default(), rates: Rates::default() }
    }

    /// Adds a tool, instead of one that was added under its name before.
    ///
    /// # Errors
    /// `Conflict` when a tool of the build has that name, `Usage` when it can be no name.
    pub fn add(&self, tool: Dynamic) -> Result<()> {
        if self.find(&tool.name).is_ok() || self.is_absent(&tool.name) {
            return Err(Error::new(Class::Conflict, format!("tool {}: there is one of that name", tool.name)));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if !(1..=64).contains(&tool.name.len()) || !tool.name.bytes().all(fits) {
            let text = format!("tool {:?}: not 1 to 64 letters, digits, '_' and '-'", tool.name);
            return Err(Error::new(Class::Usage, text));
        }
        let mut added = self.added.write().unwrap_or_else(PoisonError::into_inner);
        added.insert(tool.name.clone(), tool);
        Ok(())
    }

    /// Takes a tool away that was added; whether there was one.
    pub fn take(&self, name: &str) -> bool {
        self.added.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// The tool called `name`, if it was added.
    #[must_use]
    pub fn added(&self, name: &str) -> Option<Dynamic> {
        self.added.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn all_added(&self, category: Option<&str>) -> Vec<Dynamic> {
        match category.is_none_or(|category| category.eq_ignore_ascii_case(AGENT)) {
            true => self.added.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect(),
            false => Vec::new(),
        }
    }

    /// `[{name, summary, category, level, available}]`, sorted by name; of one category, if given.
    ///
    /// # Errors
    /// `NotFound` for a category nobody has.
    pub fn list(&self, category: Option<&str>) -> Result<Vec<Value>> {
        let added = self.all_added(category);
        let mut rows: Vec<_> = match self.of(category) {
            Err(_) if !added.is_empty() => Vec::new(),
            rows => rows?.map(row).collect(),
        };
        if !added.is_empty() {
            rows.extend(added.iter().map(Dynamic::row));
            rows.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        }
        Ok(rows)
    }

    /// As `list`, with the tools that other builds have: `available` is false and `feature` says what they need.
    ///
    /// # Errors
    /// As `list`.
    pub fn list_all(&self, category: Option<&str>) -> Result<Vec<Value>> {
        let absent = optional::absent();
        let absent = absent.filter(|tool| category.is_none_or(|name| name.eq_ignore_ascii_case(tool.category)));
        let mut rows: Vec<_> = absent.map(Optional::row).collect();
        match self.list(category) {
            Ok(built) => rows.extend(built),
            Err(error) if rows.is_empty() => return Err(error),
            Err(_) => {}
        }
        rows.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        Ok(rows)
    }

    /// Name, aliases, category, summary, level, effects, schema, parameters as a flat list, examples.
    ///
    /// # Errors
    /// `NotFound`, with the nearest name.
    pub fn info(&self, name: &str) -> Result<Value> {
        if let Some(tool) = self.added(name) {
            return Ok(tool.info());
        }
        let entry = self.find(name)?;
        let spec = entry.spec();
        let schema = entry.schema();
        let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| Error::new(Class::Bug, e.to_string()));
        let mut examples = Vec::new();
        for example in spec.examples {
            let (params, result) = (json(example.params)?, json(example.result)?);
            examples.push(json!({"title": example.title, "params": params, "result": result}));
        }
        Ok(json!({
            "name": spec.name,
            "aliases": spec.aliases,
            "category": spec.category,
            "summary": spec.summary,
            "description": schema.get("description").and_then(Value::as_str).unwrap_or(spec.summary),
            "security_level": spec.level.name(),
            "effects": spec.effects.iter().map(|effect| effect.name()).collect::<Vec<_>>(),
            "schema": schema,
            "parameters": schema::parameters(schema),
            "spellings": old_names(spec),
            "examples": examples,
        }))
    }

    /// Tools whose name, summary, category, effects or parameters hold any of the words; those with most words first, as
    /// `list`.
    ///
    /// # Errors
    /// As `list`.
    pub fn search(&self, words: &[String], category: Option<&str>) -> Result<Vec<Value>> {
        let words: Vec<_> = words
            .iter()
            .flat_map(|word| word.split_whitespace())
            .map(squeeze)
            .filter(|word| !word.is_empty())
            .collect();
        let mut found = Vec::new();
        let mut behind = Vec::new();
        for tool in self.all_added(category) {
            let text = squeeze(&format!("{} {AGENT} {}", tool.name, tool.summary));
            if words.iter().any(|word| text.contains(word)) {
                behind.push(tool.row());
            }
        }
        let entries = match self.of(category) {
            Err(_) if !behind.is_empty() => return Ok(behind),
            entries => entries?,
        };
        for entry in entries {
            let spec = entry.spec();
            let schema = entry.schema();
            let names = schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
            let names = names.collect::<Vec<_>>().join(" ");
            let tags = spec.effects.iter().map(|effect| effect.name()).collect::<Vec<_>>().join(" ");
            let places = [
                (8, spec.name),
                (6, &spec.aliases.join(" ")),
                (4, spec.category),
                (3, spec.summary),
                (2, &tags),
                (1, &names),
            ];
            let weigh = |word: &String| {
                places.iter().filter(|(_, text)| squeeze(text).contains(word)).map(|(w, _)| w).sum::<u32>()
            };
            let weights: Vec<_> = words.iter().map(weigh).filter(|weight| *weight > 0).collect();
            if !weights.is_empty() {
                // One that is about more of the words goes before one that is more about a single one.
                found.push(((weights.len(), weights.iter().sum::<u32>()), entry));
            }
        }
        // Stable: equals stay sorted by name.
        found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        Ok(found.into_iter().map(|(_, entry)| row(entry)).chain(behind).collect())
    }

    /// Whether there is such a tool.
    pub fn exists(&self, name: &str) -> bool {
        self.find(name).is_ok() || self.added(name).is_some()
    }

    /// Looks whether `params` are such that the tool would run on them.
    ///
    /// # Errors
    /// As [`Registry::invoke`], before anything has happened.
    pub fn check(&self, name: &str, params: &Value) -> Result<()> {
        if self.added(name).is_some() {
            return Ok(());
        }
        let entry = self.find(name)?;
        entry.checked(params.clone()).map(drop).map_err(|error| error.within(entry.spec().name))
    }

    /// Checks `params` against the schema and runs the tool on this thread, within the limits of `[tools]`. Returns the
    /// envelope `{operation, success: true, message?, text?, result, metadata: {duration_ms, truncated?, bytes_before?}}`.
    ///
    /// # Errors
    /// `Usage` for wrong parameters, `NotFound`, `Absent`, `Denied`, `Budget` when it is called too often, `Timeout`, `Tool`
    /// when the tool itself says no.
    pub fn invoke(&self, name: &str, params: Value, call: &Call) -> Result<Value> {
        if let Some(tool) = self.added(name) {
            return tool.invoke(params, call).map_err(|error| error.within(name));
        }
        let entry = self.find(name)?;
        let spec = entry.spec();
        limits::permitted(spec, &call.settings)
            .and_then(|()| self.rates.count(spec.name, &call.settings))
            .and_then(|()| entry.invoke(params, call))
            .map_err(|error| error.within(spec.name))
    }

    /// The one name of the tool that is also called `name`.
    pub fn canonical(&self, name: &str) -> Option<&'static str> {
        self.find(name).ok().map(|entry| entry.spec().name)
    }

    /// Runs the tool's examples in order, in a fresh folder, under a policy that allows nothing else.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn test(&self, name: &str, call: &Call) -> Result<Vec<TestCase>> {
        let entry = self.find(name)?;
        let spec = entry.spec();
        let dir = tempfile::tempdir().map_err(|e| Error::system("temporary folder", e))?;
        let server = if spec.effects.contains(&Effect::Network) { Some(echo::Server::start()?) } else { None };
        let http = server.as_ref().map(|server| server.address.to_string()).unwrap_or_default();
        let policy = Policy::new(Grants {
            profile: Profile::Safe,
            workdir: dir.path().to_path_buf(),
            write: vec![dir.path().to_path_buf()],
            net: server.iter().map(|_| http.clone()).collect(),
            env: vec!["PATH".into()],
            run: vec!["cat".into(), "echo".into()],
            ..Grants::default()
        });
        let mut inner = Call::new(Arc::new(policy));
        inner.deadline = call.deadline;
        inner.cancel = call.cancel.clone();
        let tmp = dir.path().display().to_string();
        for (file, content) in super::example_files(spec.name) {
            std::fs::write(dir.path().join(file), content).map_err(|e| Error::system("temporary folder", e))?;
        }
        let fill = |text: &str| {
            let mut value = serde_json::from_str(text).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
            each_text(&mut value, &|text| text.replace("$TMP", &tmp).replace("$HTTP", &format!("http://{http}")));
            Ok(value)
        };
        let case = |example: &super::Example| -> TestCase {
            let outcome = fill(example.params).and_then(|params| {
                let (expected, actual) = (fill(example.result)?, entry.invoke(params, &inner)?);
                Ok(difference(&expected, &actual["result"], "result"))
            });
            let message = outcome.unwrap_or_else(|error: Error| Some(error.to_string()));
            TestCase { title: example.title.to_owned(), passed: message.is_none(), message }
        };
        Ok(spec.examples.iter().map(case).collect())
    }

    /// The canonical names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().map(|entry| entry.spec().name)
    }

    /// Whether `name` is a tool that other builds have, but not this one.
    pub fn is_absent(&self, name: &str) -> bool {
        self.find(name).is_err_and(|error| error.class() == Class::Absent)
    }

    fn find(&self, name: &str) -> Result<&Entry> {
        let wanted = plain(name);
        let bare = wanted.strip_suffix("_tool").unwrap_or(&wanted);
        let is = |known: &str| known == wanted || known == bare;
        self.entries.iter().find(|entry| entry.names().any(is)).ok_or_else(|| {
            if let Some(absent) = optional::absent().find(|tool| tool.names().any(is)) {
                return absent.refusal();
            }
            let error = Error::new(Class::NotFound, format!("tool {name}: no such tool"));
            let absent = optional::absent().flat_map(Optional::names);
            match nearest(bare, self.entries.iter().flat_map(Entry::names).chain(absent)) {
                Some(near) => error.hint(format!("Did you mean {near}?")),
                None => error.hint("See the list of tools."),
            }
        })
    }

    fn of(&self, category: Option<&str>) -> Result<impl Iterator<Item = &Entry>> {
        let category = category.map(str::to_lowercase);
        let matches = move |entry: &&Entry| category.as_ref().is_none_or(|category| entry.spec().category == category);
        if self.entries.iter().any(|entry| matches(&entry)) {
            return Ok(self.entries.iter().filter(matches));
        }
        let mut known: Vec<_> = self.entries.iter().map(|entry| entry.spec().category).collect();
        known.sort_unstable();
        known.dedup();
        Err(Error::new(Class::NotFound, "category: no tool has it").hint(format!("Categories: {}.", known.join(", "))))
    }
}

impl Entry {
    fn spec(&self) -> &'static ToolSpec {
        self.tool.spec()
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.spec().name).chain(self.spec().aliases.iter().copied())
    }

    /// The schema, made once.
    fn schema(&self) -> &Value {
        self.schema.get_or_init(|| {
            let mut schema = self.tool.schema();
            schema::tidy(&mut schema);
            schema["title"] = self.spec().name.into();
            schema
        })
    }

    /// Its parameters in today's spelling, if they are right.
    fn checked(&self, params: Value) -> Result<Value> {
        let schema = self.schema();
        let Value::Object(mut params) = params else {
            return Err(
                Error::new(Class::Usage, "parameters: not an object").hint(r#"Give them as {"name": value, …}."#)
            );
        };
        respell(&mut params, self.spec().spellings, schema)?;
        let params = Value::Object(params);
        faults::check(schema, self.spec(), &params)?;
        Ok(params)
    }

    fn invoke(&self, params: Value, call: &Call) -> Result<Value> {
        let started = Instant::now();
        let params = self.checked(params)?;
        call.check()?;
        let answer = self.tool.run(params, call).map_err(|error| match error.next_step() {
            None if error.class() == Class::Usage => error.hint(faults::offer(self.schema())),
            _ => error,
        })?;
        Ok(envelope(answer, started, call))
    }
}

/// What callers get of an answer.
fn envelope(answer: Answer, started: Instant, call: &Call) -> Value {
    let mut envelope = Map::new();
    envelope.insert("operation".into(), answer.operation.into());
    envelope.insert("success".into(), true.into());
    envelope.extend(answer.message.map(|message| ("message".into(), message.into())));
    envelope.extend(answer.text.map(|text| ("text".into(), text.into())));
    envelope.insert("result".into(), answer.result);
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    envelope.insert("metadata".into(), json!({ "duration_ms": millis }));
    limits::cut(&mut envelope, call.settings.max_result_size);
    Value::Object(envelope)
}

/// Replaces old names and values by today's, and values that differ from a listed one only in case, `-` and `_` by that.
fn respell(params: &mut Map<String, Value>, spellings: &[Spelling], schema: &Value) -> Result<()> {
    for spelling in spellings {
        match *spelling {
            Spelling::Param(old, new) => {
                let Some(value) = params.remove(old) else { continue };
                if params.get(new).is_some_and(|given| *given != value) {
                    return Err(Error::new(
                        Class::Usage,
                        format!("{old}: differs from {new}, which is the same parameter"),
                    ));
                }
                params.insert(new.into(), value);
            }
            Spelling::Value(name, old, new) => {
                if let Some(Value::String(value)) =
                    params.get_mut(name).filter(|value| value.as_str().is_some_and(|v| squeeze(v) == squeeze(old)))
                {
                    *value = new.to_owned();
                }
            }
        }
    }
    schema::normalise(params, schema, schema);
    Ok(())
}

fn row(entry: &Entry) -> Value {
    let spec = entry.spec();
    json!({
        "name": spec.name,
        "summary": spec.summary,
        "category": spec.category,
        "level": spec.level.name(),
        "available": true,
    })
}

/// `name` as tools are called: `file_search` for `file-search`, `FileSearch` and `File Search`.
fn plain(name: &str) -> String {
    name.trim().to_snake_case()
}

fn each_text(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, change)),
        Value::Object(members) => members.values_mut().for_each(|member| each_text(member, change)),
        _ => {}
    }
}

/// Where `actual` does not contain `expected`; objects may have more members, everything else must be equal.
fn difference(expected: &Value, actual: &Value, path: &str) -> Option<String> {
    match (expected, actual) {
        (Value::Object(wanted), Value::Object(given)) => wanted.iter().find_map(|(name, wanted)| {
            let path = format!("{path}.{name}");
            match given.get(name) {
                Some(given) => difference(wanted, given, &path),
                None => Some(format!("{path}: missing")),
            }
        }),
        (Value::Array(wanted), Value::Array(given)) if wanted.len() == given.len() => wanted
            .iter()
            .zip(given)
            .enumerate()
            .find_map(|(index, (wanted, given))| difference(wanted, given, &format!("{path}[{index}]"))),
        _ if expected == actual => None,
        _ => Some(format!("{path}: expected {expected}, got {actual}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        let workdir = std::env::temp_dir();
        Call::new(Arc::new(Policy::new(Grants { profile: Profile::Safe, workdir, ..Grants::default() })))
    }

    fn fails(tool: &str, params: Value) -> Error {
        Registry::new().invoke(tool, params, &call()).unwrap_err()
    }

    #[test]
    fn every_example_of_every_tool_is_true() {
        let registry = Registry::new();
        for name in registry.names() {
            let cases = registry.test(name, &call()).unwrap();
            assert!(cases.len() >= 3, "{name}");
            for case in cases {
                assert!(case.passed, "{name}: {}: {}", case.title, case.message.unwrap_or_default());
            }
        }
    }

    #[test]
    fn specs_are_sound() {
        let registry = Registry::new();
        let mut names: Vec<_> = registry.entries.iter().flat_map(Entry::names).collect();
        assert!(names.iter().all(|name| *name == plain(name)));
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        for entry in &registry.entries {
            let schema = entry.schema();
            let info = registry.info(entry.spec().name).unwrap();
            assert_eq!(schema["additionalProperties"], false, "{}", entry.spec().name);
            for row in info["parameters"].as_array().unwrap() {
                assert_ne!(row["description"], "", "{} {row}", entry.spec().name);
            }
            for spelling in entry.spec().spellings {
                match spelling {
                    Spelling::Param(_, new) => assert!(schema["properties"].get(new).is_some(), "{new}"),
                    Spelling::Value(name, old, new) => {
                        let listed: Vec<_> = schema::choices(&schema["properties"][name]).collect();
                        assert!(listed.contains(new) && !listed.contains(old), "{old} {new}");
                    }
                }
            }
        }
    }

    /// Every keyword in `schema` is one that is checked or only for readers.
    fn understood(schema: &Value, at: &str) {
        let Value::Object(members) = schema else { return };
        for (name, value) in members {
            let at = format!("{at}/{name}");
            assert!(validate::KEYWORDS.contains(&name.as_str()), "{at}");
            match (name.as_str(), value) {
                ("properties" | "$defs", Value::Object(schemas)) => {
                    schemas.iter().for_each(|(name, schema)| understood(schema, &format!("{at}/{name}")));
                }
                ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
                    schemas.iter().for_each(|schema| understood(schema, &at));
                }
                ("items" | "additionalProperties", schema) => understood(schema, &at),
                _ => {}
            }
        }
    }

    #[test]
    fn schemas_say_only_what_is_checked() {
        for entry in &Registry::new().entries {
            understood(entry.schema(), entry.spec().name);
        }
    }

    #[test]
    fn names_are_found_in_every_spelling() {
        let registry = Registry::new();
        for name in [
            "calculator",
            "Calculator",
            "calculator_tool",
            "hash-calculator",
            "file-operations-tool",
            "FileOperationsTool",
            "File Operations",
            "file_reader",
            "http_client",
        ] {
            assert!(registry.exists(name), "{name}");
        }
        let error = registry.info("calcluator").unwrap_err();
        assert_eq!(error.to_string(), "tool calcluator: no such tool");
        assert_eq!(error.next_step(), Some("Did you mean calculator?"));
    }

    #[test]
    fn wrong_parameters_are_pointed_at() {
        for (tool, params, text) in [
            ("calculator", json!({}), "calculator: input: missing"),
            ("calculator", json!({"inptu": "1"}), "calculator: inptu: no such parameter; did you mean input?"),
            ("calculator", json!({"input": 5}), "calculator: input: 5 is not a string"),
            ("calculator", json!("1+1"), "calculator: parameters: not an object"),
            (
                "calculator",
                json!({"input": "1", "expression": "2"}),
                "calculator: expression: differs from input, which is the same parameter",
            ),
            (
                "file_search",
                json!({"path": ".", "pattern": "x", "max_depth": 1000}),
                "file_search: max_depth: 1000 is above 100",
            ),
        ] {
            let error = fails(tool, params);
            assert_eq!((error.class(), error.text()), (Class::Usage, text));
        }
        assert_eq!(fails("calc", json!({})).next_step(), Some("Parameters: input, operation, variables."));
        for (auth, text) in [
            (
                json!({"type": "bearr", "token": "t"}),
                "auth.type: \"bearr\" is not one of none, basic, bearer, api_key, custom; did you mean bearer?",
            ),
            (json!({"type": "bearer", "tokn": "t"}), "auth.tokn: no such parameter; did you mean token?"),
            (json!({"token": "t"}), "auth.type: missing"),
            (json!("Bearer x"), "auth: \"Bearer x\" is not an object"),
        ] {
            let error = fails("http_request", json!({"url": "http://localhost", "auth": auth}));
            assert_eq!(error.text(), format!("http_request: {text}"));
        }
        let error = fails("calculator", json!({"input": "x", "variables": {"x": "y"}}));
        assert_eq!(error.text(), "calculator: variables.x: \"y\" is not a number");
        let error = fails("file_operations", json!({"operation": "lst", "path": "."}));
        assert!(error.text().starts_with("file_operations: operation: \"lst\" is not one of read, write, "), "{error}");
        assert!(error.text().ends_with("; did you mean list_dir?"), "{error}");
    }

    #[test]
    fn the_envelope_has_its_members() {
        let envelope = Registry::new().invoke("Calculator", json!({"expression": "2+3*2"}), &call()).unwrap();
        assert_eq!(envelope["success"], true);
        assert_eq!(envelope["operation"], "evaluate");
        assert_eq!(envelope["result"]["result"], 8);
        assert!(envelope["metadata"]["duration_ms"].is_u64());
    }

    #[test]
    fn values_are_taken_in_every_spelling() {
        let run =
            |tool: &str, params| Registry::new().invoke(tool, params, &call()).unwrap()["result"]["result"].take();
        assert_eq!(run("text_manipulator", json!({"operation": "SnakeCase", "text": "A B"})), "a_b");
        assert_eq!(
            run(
                "text_manipulator",
                json!({"operation": "truncate", "input": "abcdef", "options": {"max_length": 4.0}})
            ),
            "a..."
        );
    }

    #[test]
    fn search_finds_by_fragments_and_list_by_category() {
        let registry = Registry::new();
        let found = registry.search(&["file system".into()], None).unwrap();
        assert!(found[0]["name"].as_str().unwrap().starts_with("file_"));
        assert!(
            registry
                .search(&["sha".into(), "digest".into()], None)
                .unwrap()
                .iter()
                .any(|row| row["name"] == "hash_calculator")
        );
        assert!(registry.search(&["zebra".into()], None).unwrap().is_empty());
        assert!(registry.list(Some("filesystem")).unwrap().iter().any(|row| row["name"] == "file_search"));
        assert_eq!(registry.list(Some("cooking")).unwrap_err().class(), Class::NotFound);
    }

    #[test]
    fn a_wrong_example_would_be_noticed() {
        assert_eq!(difference(&json!({"a": [1, {"b": 2}]}), &json!({"a": [1, {"b": 2, "c": 3}]}), "r"), None);
        assert_eq!(difference(&json!({"a": [1]}), &json!({"a": [2]}), "r").unwrap(), "r.a[0]: expected 1, got 2");
        assert_eq!(difference(&json!({"a": 1}), &json!({}), "r").unwrap(), "r.a: missing");
    }
}
