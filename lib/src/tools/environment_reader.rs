//! `environment_reader`: variables of the kernel's environment, as far as the policy allows. It changes none: programs get
//! theirs from `process_executor`.

use globset::GlobBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, required};
use crate::error::{Class, Error, Result};
use crate::security::secret_env;

/// The environment tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "environment_reader",
    aliases: &["environment", "env_reader", "env"],
    category: "system",
    summary: "read environment variables the policy allows; lists mask secrets",
    level: Level::Restricted,
    effects: &[Effect::ReadEnvironment],
    spellings: &[
        Spelling::Param("name", "variable_name"),
        Spelling::Param("variable", "variable_name"),
        Spelling::Value("operation", "read", "get"),
        Spelling::Value("operation", "list_all", "list"),
        Spelling::Value("operation", "search", "pattern"),
    ],
    examples: &[
        example(
            "one variable",
            r#"{"operation": "get", "variable_name": "PATH"}"#,
            r#"{"variable_name": "PATH", "found": true}"#,
        ),
        example(
            "by pattern",
            r#"{"operation": "pattern", "pattern": "PAT[A-Z]"}"#,
            r#"{"pattern": "PAT[A-Z]", "count": 1}"#,
        ),
        example("all that may be read", r#"{"operation": "list"}"#, r#"{"count": 1, "masked": []}"#),
    ],
};

/// Reads environment variables. What the policy does not allow is neither listed nor told to be there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do; `set` is refused, as nothing changes the environment of a running kernel.
    operation: Operation,
    /// For `get`: the name.
    variable_name: Option<String>,
    /// For `pattern`: a name with `*`, `?` and `[a-z]`.
    pattern: Option<String>,
    /// For `set`.
    #[serde(rename = "value")]
    #[expect(dead_code, reason = "accepted, so that the refusal is about the operation")]
    to: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    Get,
    List,
    Pattern,
    Set,
}

/// What stands for a secret.
const MASK: &str = "********";

/// Reads.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    match params.operation {
        Operation::Get => {
            let name = required(params.variable_name, "variable_name")?;
            // RFC-less, but so does execve: a name is anything without these.
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Error::new(Class::Usage, format!("variable_name: {name:?} is not the name of a variable")));
            }
            call.policy.check_env(&name)?;
            let value = std::env::var_os(&name).map(|value| value.to_string_lossy().into_owned());
            // The value is in the result only: messages end up in logs.
            let message = format!("{name} is {}", if value.is_some() { "set" } else { "not set" });
            let answer =
                Answer::new("get", json!({"variable_name": name, "found": value.is_some(), "value": value.clone()}))
                    .message(message);
            Ok(match value {
                Some(value) => answer.text(value),
                None => answer,
            })
        }
        Operation::List => Ok(Answer::new("list", listed(call, |_| true).into())),
        Operation::Pattern => {
            let pattern = required(params.pattern, "pattern")?;
            let glob = GlobBuilder::new(&pattern)
                .build()
                .map_err(|e| Error::new(Class::Usage, format!("pattern: {}", e.kind())))?
                .compile_matcher();
            let mut found = listed(call, |name| glob.is_match(name));
            found.insert("pattern".into(), pattern.into());
            Ok(Answer::new("pattern", found.into()))
        }
        Operation::Set => Err(Error::new(Class::Denied, "operation: set: the environment is read only")
            .hint("Give a program its variables with the environment parameter of process_executor.")),
    }
}

/// `{variables, count, masked}` of the allowed variables whose names are `wanted`.
fn listed(call: &Call, wanted: impl Fn(&str) -> bool) -> Map<String, Value> {
    let mut variables = Map::new();
    let mut masked = Vec::new();
    let mut all: Vec<_> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
    all.sort();
    for (name, value) in all.into_iter().filter(|(name, _)| wanted(name) && call.policy.check_env(name).is_ok()) {
        let value = value.to_string_lossy();
        let shown = if secret_env(&name) { MASK.into() } else { without_password(&value) };
        if shown != value {
            masked.push(Value::from(name.as_str()));
        }
        variables.insert(name, shown.into());
    }
    let count = variables.len();
    Map::from_iter([
        ("variables".to_owned(), variables.into()),
        ("count".to_owned(), count.into()),
        ("masked".to_owned(), masked.into()),
    ])
}

/// `value`, unless it is a URL with a password: then with that masked.
fn without_password(value: &str) -> String {
    let url = Url::parse(value).ok().filter(|url| url.password().is_some());
    let masked = url.and_then(|mut url| url.set_password(Some(MASK)).ok().map(|()| url.into()));
    masked.unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use crate::security::{Grants, Policy, Profile};
    use std::sync::Arc;

    fn run(env: &[&str], params: Value) -> Result<Value> {
        let env = env.iter().map(|name| (*name).to_owned()).collect();
        let policy = Policy::new(Grants { profile: Profile::Safe, workdir: "/".into(), env, ..Grants::default() });
        Ok(Registry::new().invoke("environment_reader", params, &Call::new(Arc::new(policy)))?["result"].take())
    }

    #[test]
    fn only_what_is_allowed_is_seen() {
        let get = |env: &[&str], name: &str| run(env, json!({"operation": "get", "name": name}));
        assert_eq!(get(&["PATH"], "PATH").unwrap()["value"], std::env::var("PATH").unwrap());
        assert_eq!(
            get(&["NO_SUCH"], "NO_SUCH").unwrap(),
            json!({"variable_name": "NO_SUCH", "found": false, "value": null})
        );
        let error = get(&[], "HOME").unwrap_err();
        assert_eq!((error.class(), error.next_step()), (Class::Denied, Some("Allow it with --allow-env=HOME.")));
        assert_eq!(run(&[], json!({"operation": "list"})).unwrap()["count"], 0);
        // Cargo sets it for every test.
        let listed = run(&["*"], json!({"operation": "pattern", "pattern": "CARGO_MANIFEST_*"})).unwrap();
        assert_eq!(listed["variables"]["CARGO_MANIFEST_DIR"], env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn passwords_in_urls_are_masked() {
        assert_eq!(without_password("postgres://u:geheim@h/db"), "postgres://u:********@h/db");
        for plain in ["https://h/a", "/usr/bin:/bin", "a:b@c", "postgres://u@h/db"] {
            assert_eq!(without_password(plain), plain);
        }
    }

    #[test]
    fn wrong_calls_say_what_is_wrong() {
        for (params, class, text) in [
            (json!({}), Class::Usage, "operation: missing"),
            (json!({"operation": "get"}), Class::Usage, "variable_name: missing"),
            (json!({"operation": "get", "name": "A=B"}), Class::Usage, "variable_name: \"A=B\" is not the name"),
            (json!({"operation": "pattern"}), Class::Usage, "pattern: missing"),
            (json!({"operation": "pattern", "pattern": "[a"}), Class::Usage, "pattern: unclosed"),
            (json!({"operation": "set", "name": "A", "value": "b"}), Class::Denied, "operation: set: the environment"),
            (json!({"operation": "gett"}), Class::Usage, "operation: \"gett\" is not one of"),
        ] {
            let error = run(&["*"], params.clone()).unwrap_err();
            assert_eq!(error.class(), class, "{params}");
            assert!(error.text().starts_with(&format!("environment_reader: {text}")), "{error}");
        }
    }
}
