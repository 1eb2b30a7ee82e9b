//! `template_engine`: fills templates: Jinja and Tera by minijinja, Handlebars by handlebars.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::LazyLock;

use handlebars::Handlebars;
use minijinja::value::{Kwargs, Rest, Value as Jinja};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, required, word};
use crate::error::{Class, Error, Result};

/// The template engine.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "template_engine",
    aliases: &["template", "templates"],
    category: "utility",
    summary: "fill Jinja, Tera and Handlebars templates with data",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles],
    spellings: &[
        Spelling::Param("template", "input"),
        Spelling::Param("data", "context"),
        Spelling::Param("variables", "context"),
        Spelling::Value("engine", "jinja", "jinja2"),
        Spelling::Value("engine", "minijinja", "jinja2"),
        Spelling::Value("engine", "hbs", "handlebars"),
    ],
    examples: &[
        example(
            "Jinja",
            r#"{"input": "Hello {{ name|title }}!{% for n in list %} {{ loop.index }}:{{ n }}{% endfor %}", "context": {"name": "world", "list": ["a", "b"]}}"#,
            r#"{"rendered": "Hello World! 1:a 2:b", "engine": "tera"}"#,
        ),
        example(
            "Handlebars is recognised by its blocks",
            r#"{"input": "{{#each items}}{{this.name}};{{/each}}", "context": {"items": [{"name": "x"}, {"name": "<y>"}]}}"#,
            r#"{"rendered": "x;&lt;y&gt;;", "engine": "handlebars"}"#,
        ),
        example(
            "templates that use each other",
            r#"{"input": "{% extends 'base' %}{% block body %}{% include 'part' %}{% endblock %}", "templates": {"base": "<{% block body %}{% endblock %}>", "part": "p={{ p }}"}, "context": {"p": 1}}"#,
            r#"{"rendered": "<p=1>"}"#,
        ),
        example(
            "plain text is not escaped when told so",
            r#"{"input": "{{ a }}", "context": {"a": "x & y"}, "autoescape": false}"#,
            r#"{"rendered": "x & y"}"#,
        ),
    ],
};

/// Largest template, and what all may cost: a unit pays for an instruction or for 64 bytes that are made.
const MAX_TEMPLATE: usize = 1 << 20;
const FUEL: u64 = 4_000_000;
/// Deepest nesting of blocks or brackets in a Handlebars template.
const MAX_NESTING: usize = 64;

/// Fills a template. Jinja covers what Tera has in common with it, with Tera's named arguments of the usual filters. A variable that is not
/// there is an error unless `strict` is false. What is filled in is escaped for HTML unless `autoescape` is false. Templates reach
/// neither files nor programs, only the `templates` given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The template.
    input: Option<String>,
    /// A file in place of `input`.
    #[schemars(length(min = 1))]
    template_file: Option<String>,
    /// What fills it.
    #[serde(default)]
    context: Map<String, Value>,
    /// Which kind; recognised from the template if not given.
    engine: Option<Engine>,
    /// Whether to recognise the kind; false: Jinja unless `engine` says otherwise.
    #[serde(default = "super::yes")]
    auto_detect: bool,
    /// Other templates by name, for include, import, extends and partials.
    #[serde(default)]
    templates: BTreeMap<String, String>,
    /// Escape for HTML.
    #[serde(default = "super::yes")]
    autoescape: bool,
    /// Refuse variables that are not there, in place of filling in nothing.
    #[serde(default = "super::yes")]
    strict: bool,
    /// Where to write the text as well.
    #[schemars(length(min = 1))]
    output_file: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Engine {
    Tera,
    Jinja2,
    Handlebars,
}

/// Fills the template.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    let template = match &params.template_file {
        Some(_) if params.input.is_some() => {
            return Err(Error::new(Class::Usage, "template_file: given together with input"));
        }
        Some(path) => files::read_text(path, call)?,
        None => required(params.input, "input")?,
    };
    for (name, text) in params.templates.iter().map(|(name, text)| (name.as_str(), text)).chain([("input", &template)])
    {
        if text.len() > MAX_TEMPLATE {
            return Err(Error::new(Class::Usage, format!("{name}: a template larger than 1 MiB")));
        }
    }
    let engine = match params.engine {
        Some(engine) => engine,
        None if params.auto_detect && is_handlebars(&template) => Engine::Handlebars,
        None => Engine::Tera,
    };
    let context_size = serde_json::to_string(&params.context).map_or(0, |text| text.len());
    let mut out = Limited { bytes: Vec::new(), call, fault: None };
    let done = match engine {
        Engine::Handlebars => {
            by_handlebars(&template, &params.templates, &params.context, params.autoescape, params.strict, &mut out)
        }
        _ => by_jinja(&template, params.templates, &params.context, params.autoescape, params.strict, &mut out),
    };
    // Why writing stopped tells more than that it did.
    if let Some(fault) = out.fault.take() {
        return Err(fault);
    }
    done?;
    let text = String::from_utf8(out.bytes).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
    let mut result = json!({
        "rendered": text, "engine": word(&engine), "template_length": template.len(), "context_size": context_size,
    });
    if let Some(path) = &params.output_file {
        files::write(path, text.as_bytes(), call)?;
        result["output_file"] = path.as_str().into();
    }
    Ok(Answer::new("render", result).message("Template rendered").text(text))
}

fn is_handlebars(template: &str) -> bool {
    ["{{#", "{{/", "{{>", "{{{", "{{~#", "{{~/"].iter().any(|mark| template.contains(mark)) && !template.contains("{%")
}

/// Takes the text, up to a size, as long as the call may go on.
struct Limited<'a> {
    bytes: Vec<u8>,
    call: &'a Call,
    fault: Option<Error>,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = self.call.settings.file_operations.max_file_size;
        let fault = match self.call.check() {
            Err(error) => error,
            Ok(()) if (self.bytes.len() + bytes.len()) as u64 > most => {
                Error::new(Class::Tool, format!("the text grows beyond {most} bytes"))
                    .hint("Raise tools.file_operations.max_file_size.")
            }
            Ok(()) => {
                self.bytes.extend_from_slice(bytes);
                return Ok(bytes.len());
            }
        };
        self.fault.get_or_insert(fault);
        Err(io::Error::other("stopped"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn by_jinja(
    template: &str,
    templates: BTreeMap<String, String>,
    context: &Map<String, Value>,
    escape: bool,
    strict: bool,
    out: &mut Limited<'_>,
) -> Result<()> {
    let mut env = Environment::new();
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(100);
    env.set_undefined_behavior(if strict { UndefinedBehavior::SemiStrict } else { UndefinedBehavior::Chainable });
    env.set_auto_escape_callback(move |_| if escape { AutoEscape::Html } else { AutoEscape::None });
    tera_filters(&mut env);
    for (name, text) in templates {
        env.add_template_owned(name, text).map_err(|error| jinja_fault(&error))?;
    }
    let template = env.template_from_named_str("input", template).map_err(|error| jinja_fault(&error))?;
    template
        .render_captured_to(Jinja::from(minijinja::value::Serde(context)), out)
        .map_err(|error| jinja_fault(&error))?;
    Ok(())
}

fn jinja_fault(error: &minijinja::Error) -> Error {
    // What went wrong inside an included template is the source.
    let mut inner: &minijinja::Error = error;
    while let Some(source) = std::error::Error::source(inner).and_then(|source| source.downcast_ref()) {
        inner = source;
    }
    let kind = super::lower(&inner.kind().to_string());
    let text = inner.detail().map_or(kind.clone(), |detail| format!("{kind}: {detail}"));
    let place = match (inner.name(), inner.line()) {
        (Some(name), Some(line)) => format!("{name}:{line}: "),
        _ => String::new(),
    };
    let error = Error::new(Class::Tool, format!("{place}{}", text.replace('\n', " ")));
    match inner.kind() {
        ErrorKind::UndefinedError => error.hint("Give it in context, or say strict = false."),
        ErrorKind::TemplateNotFound => error.hint("Give it in templates."),
        _ => error,
    }
}

/// Filters as Tera names them and their arguments, where Jinja differs.
fn tera_filters(env: &mut Environment<'_>) {
    fn argument(args: &[Jinja], named: &Kwargs, at: usize, name: &str) -> Result<Option<Jinja>, minijinja::Error> {
        match named.get::<Option<Jinja>>(name)? {
            Some(value) => Ok(Some(value)),
            None => Ok(args.get(at).cloned()),
        }
    }
    fn text(value: Option<Jinja>, other: &str) -> String {
        value.map_or_else(|| other.to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
    env.add_filter("default", |value: Jinja, args: Rest<Jinja>, named: Kwargs| {
        let other = argument(&args, &named, 0, "value")?.unwrap_or_else(|| Jinja::from(""));
        let falsy = argument(&args, &named, 1, "boolean")?.is_some_and(|flag| flag.is_true());
        Ok::<_, minijinja::Error>(if value.is_undefined() || falsy && !value.is_true() { other } else { value })
    });
    env.add_filter("replace", |value: String, args: Rest<Jinja>, named: Kwargs| {
        let (from, to) = (argument(&args, &named, 0, "from")?, argument(&args, &named, 1, "to")?);
        Ok::<_, minijinja::Error>(value.replace(&text(from, ""), &text(to, "")))
    });
    env.add_filter("truncate", |value: String, args: Rest<Jinja>, named: Kwargs| {
        let length = argument(&args, &named, 0, "length")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(255);
        let end = text(argument(&args, &named, 1, "end")?, "…");
        Ok::<_, minijinja::Error>(match value.char_indices().nth(length) {
            Some((at, _)) => format!("{}{end}", &value[..at]),
            None => value,
        })
    });
    env.add_filter("split", |value: String, args: Rest<Jinja>, named: Kwargs| {
        let pattern = text(argument(&args, &named, 0, "pat")?, " ");
        Ok::<_, minijinja::Error>(value.split(&pattern).map(Jinja::from).collect::<Jinja>())
    });
    env.add_filter("join", |value: Jinja, args: Rest<Jinja>, named: Kwargs| {
        let between = text(argument(&args, &named, 0, "sep")?, "");
        let parts: Vec<String> = value.try_iter()?.map(|part| part.to_string()).collect();
        Ok::<_, minijinja::Error>(parts.join(&between))
    });
    env.add_filter("json_encode", |value: Jinja, named: Kwargs| {
        let pretty = named.get::<Option<bool>>("pretty")?.unwrap_or(false);
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        text.map(Jinja::from_safe_string).map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
    });
    env.add_filter("slugify", |value: String| heck::AsKebabCase(value).to_string());
    env.add_filter("wordcount", |value: String| value.split_whitespace().count());
    env.add_filter("date", |value: Jinja, args: Rest<Jinja>, named: Kwargs| {
        let format = text(argument(&args, &named, 0, "format")?, "%Y-%m-%d");
        let zone = text(argument(&args, &named, 1, "timezone")?, "UTC");
        let fault = |error: &Error| minijinja::Error::new(ErrorKind::InvalidOperation, error.text().to_owned());
        let zone = super::date_time_handler::time_zone(&zone, "timezone").map_err(|error| fault(&error))?;
        let shown = value.to_string();
        let time = super::date_time_handler::parse(&shown, &zone)
            .ok_or_else(|| fault(&Error::new(Class::Tool, format!("{shown:?} is no date and time"))))?;
        super::date_time_handler::write(&time.with_time_zone(zone), &format).map_err(|error| fault(&error))
    });
}

fn by_handlebars(
    template: &str,
    templates: &BTreeMap<String, String>,
    context: &Map<String, Value>,
    escape: bool,
    strict: bool,
    out: &mut Limited<'_>,
) -> Result<()> {
    sound(template, templates)?;
    let mut engine = Handlebars::new();
    engine.set_strict_mode(strict);
    if !escape {
        engine.register_escape_fn(handlebars::no_escape);
    }
    handlebars::handlebars_helper!(uppercase: |text: str| text.to_uppercase());
    handlebars::handlebars_helper!(lowercase: |text: str| text.to_lowercase());
    engine.register_helper("uppercase", Box::new(uppercase));
    engine.register_helper("lowercase", Box::new(lowercase));
    let parsed = |error: handlebars::TemplateError| {
        let (place, reason) = (error.pos(), error.reason().to_string());
        let place = place.map(|(line, column)| format!("{line}:{column}: ")).unwrap_or_default();
        // The parser draws a picture below its first line.
        let reason = reason.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned();
        Error::new(Class::Tool, format!("input:{place}{}", super::lower(reason.trim_start_matches("= "))))
    };
    for (name, text) in templates {
        engine.register_template_string(name, text).map_err(parsed)?;
    }
    engine.register_template_string("input", template).map_err(parsed)?;
    engine.render_to_write("input", context, out).map_err(|error| {
        let place = error.line_no.map(|line| format!("input:{line}: ")).unwrap_or_default();
        let reason = error.reason().to_string().replace('\n', " ");
        let fault = Error::new(Class::Tool, format!("{place}{}", super::lower(&reason)));
        match error.reason() {
            handlebars::RenderErrorReason::MissingVariable(_) => {
                fault.hint("Give it in context, or say strict = false.")
            }
            handlebars::RenderErrorReason::PartialNotFound(_) => fault.hint("Give it in templates."),
            _ => fault,
        }
    })
}

/// Refuses what would nest without end: the engine calls itself for blocks, brackets and partials.
fn sound(template: &str, templates: &BTreeMap<String, String>) -> Result<()> {
    static PARTIAL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"\{\{~?#?>\s*["']?([^\s"'}~]+)"#).expect("constant"));
    static INLINE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{\{~?#?\s*\*|\{\{~?#?>\s*\(").expect("constant"));
    let mut uses: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, text) in templates.iter().map(|(name, text)| (name.as_str(), text.as_str())).chain([("input", template)])
    {
        if INLINE.is_match(text) {
            return Err(Error::new(Class::Usage, format!("{name}: inline and computed partials are not taken"))
                .hint("Give partials in templates and name them."));
        }
        let deepest = |open: &str, close: &str| {
            let mut marks: Vec<(usize, i64)> = text.match_indices(open).map(|(at, _)| (at, 1)).collect();
            marks.extend(text.match_indices(close).map(|(at, _)| (at, -1)));
            marks.sort_unstable();
            let mut depth = 0_i64;
            marks.iter().fold(0, |most, (_, step)| {
                depth = (depth + step).max(0);
                most.max(depth)
            })
        };
        let deep = deepest("{{#", "{{/").max(deepest("{{~#", "{{~/")).max(deepest("(", ")")).max(deepest("[", "]"));
        if usize::try_from(deep).unwrap_or(0) > MAX_NESTING {
            return Err(Error::new(Class::Usage, format!("{name}: nested deeper than {MAX_NESTING}")));
        }
        uses.insert(name, PARTIAL.captures_iter(text).filter_map(|found| Some(found.get(1)?.as_str())).collect());
    }
    // Whoever is reached from itself never ends.
    for start in uses.keys() {
        let (mut seen, mut todo) = (HashSet::new(), uses[start].clone());
        while let Some(name) = todo.pop() {
            if name == *start {
                return Err(Error::new(Class::Usage, format!("{start}: includes itself")));
            }
            if seen.insert(name) {
                todo.extend(uses.get(name).into_iter().flatten());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    #[test]
    fn tera_templates_of_old_scripts_work() {
        let context = json!({"name": "Ann Lee", "n": [3, 1, 2], "when": "2024-03-04T15:30:00Z", "html": "<b>"});
        for (template, expected) in [
            ("{{ name | upper }}", "ANN LEE"),
            ("{{ name | replace(from=\"Ann\", to=\"Bob\") }}", "Bob Lee"),
            ("{{ missing | default(value=\"none\") }}", "none"),
            ("{{ missing | default('x') }}", "x"),
            ("{{ name | truncate(length=3) }}", "Ann…"),
            ("{{ n | sort | join(sep=\", \") }}", "1, 2, 3"),
            ("{{ name | split(pat=\" \") | last }}", "Lee"),
            ("{{ name | slugify }}", "ann-lee"),
            ("{{ when | date(format=\"%d.%m.%Y\") }}", "04.03.2024"),
            ("{{ html }}{{ html | safe }}", "&lt;b&gt;<b>"),
            ("{{ n | json_encode }}", "[3,1,2]"),
            ("{% if n | length > 2 %}many{% else %}few{% endif %}", "many"),
            ("{% macro hi(x) %}hi {{ x }}{% endmacro %}{{ hi(1) }}", "hi 1"),
            ("{% set a = 1 + 2 %}{{ a ~ '!' }}", "3!"),
            ("{% raw %}{{ x }}{% endraw %}{# note #}", "{{ x }}"),
        ] {
            let rendered = result("template-engine", json!({"input": template, "context": context}));
            assert_eq!(rendered["rendered"], expected, "{template}");
        }
    }

    #[test]
    fn handlebars_has_helpers_and_partials() {
        let params = json!({
            "template": "{{#if on}}{{uppercase a}}{{else}}no{{/if}} {{> part b=2}}", "templates": {"part": "[{{b}}]"},
            "context": {"on": true, "a": "x"},
        });
        assert_eq!(result("template_engine", params)["rendered"], "X [2]");
        let loose = json!({"input": "{{a}}-{{{b}}}", "engine": "hbs", "strict": false, "context": {"b": "<"}});
        assert_eq!(result("template_engine", loose)["rendered"], "-<");
    }

    #[test]
    fn what_would_not_end_is_stopped() {
        let (dir, mut call) = folder();
        std::fs::write(
            dir.path().join("t"),
            "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxx{% endfor %}{% endfor %}",
        )
        .unwrap();
        let endless = json!({"template_file": "t"});
        assert_eq!(run("template_engine", endless.clone(), &call).unwrap_err().class(), Class::Tool);
        call.deadline = Some(std::time::Instant::now() + std::time::Duration::from_millis(5));
        assert!(matches!(run("template_engine", endless, &call).unwrap_err().class(), Class::Timeout | Class::Tool));
        let nested = |open: &str, close: &str, count: usize| format!("{}x{}", open.repeat(count), close.repeat(count));
        for input in [
            nested("{{#if a}}", "{{/if}}", 10_000),
            nested("{{#if (", ")}}", 1) + &"(".repeat(10_000),
            nested("{% if a %}", "{% endif %}", 10_000),
            format!("{{{{ {} }}}}", nested("(", ")", 10_000)),
            format!("{{{{ {} }}}}", nested("[", "]", 10_000)),
            "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}".into(),
        ] {
            let error = run("template_engine", json!({"input": input, "context": {"a": 1}}), &call).unwrap_err();
            assert!(matches!(error.class(), Class::Tool | Class::Usage | Class::Timeout), "{error}");
        }
    }

    #[test]
    fn bad_input() {
        let jinja = |text: &str| (json!({"input": text}), Class::Tool);
        let handlebars = |text: &str| (json!({"input": text, "engine": "handlebars"}), Class::Tool);
        bad(
            "template_engine",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "x", "engine": "erb"}), Class::Usage),
                (json!({"input": "x", "context": []}), Class::Usage),
                jinja("{{ x }}"),
                jinja("{{ x"),
                jinja("{% if %}"),
                jinja("{% include '/etc/passwd' %}"),
                jinja("{{ 'a' * 10000000000000 }}"),
                jinja("{{ 1 // 0 }}"),
                handlebars("{{x}}"),
                handlebars("{{#if x}}"),
                handlebars("{{> none}}"),
                handlebars("{{#frob x}}{{/frob}}"),
                (json!({"input": "{{> a}}", "templates": {"a": "{{> b}}", "b": "{{> a}}"}}), Class::Usage),
                (json!({"input": "{{#*inline \"a\"}}{{> a}}{{/inline}}{{> a}}"}), Class::Usage),
                (json!({"template_file": "/etc/passwd"}), Class::Denied),
                (json!({"input": "x".repeat(MAX_TEMPLATE + 1)}), Class::Usage),
            ],
        );
    }
}
