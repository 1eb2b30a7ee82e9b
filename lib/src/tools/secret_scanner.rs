//! `secret_scanner`: finds keys, tokens and passwords in texts and files, without telling them.

use std::path::Path;
use std::sync::LazyLock;

use ignore::WalkBuilder;
use regex::{Captures, Regex, RegexSet};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, data_validation, example, required};
use crate::error::{Class, Error, Result};

/// The secret scanner.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "secret_scanner",
    aliases: &["secrets"],
    category: "utility",
    summary: "find keys, tokens and passwords in texts, files and folders; redact them",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles],
    spellings: &[Spelling::Param("text", "input"), Spelling::Param("file", "path")],
    examples: &[
        example(
            "a key in a text",
            r#"{"input": "a\naws = AKIAIOSFODNN7EXAMPLX"}"#,
            r#"{"count": 1, "findings": [{"rule": "aws_access_key_id", "line": 2, "column": 7, "preview": "AKIA…"}]}"#,
        ),
        example(
            "redact",
            r#"{"operation": "redact", "input": "password = \"hunter2-hunter2\" # x"}"#,
            r#"{"result": "password = \"[REDACTED]\" # x", "count": 1}"#,
        ),
        example(
            "nothing",
            r#"{"input": "password = \"${PASSWORD}\", id = 550e8400-e29b-41d4-a716-446655440000"}"#,
            r#"{"count": 0}"#,
        ),
    ],
};

/// Most finds that are listed.
const MAX_FINDINGS: usize = 1000;
/// Larger files are no sources.
const MAX_FILE: u64 = 5 << 20;

/// One kind of secret; the group 1, or the whole find, is the secret.
struct Rule {
    name: &'static str,
    about: &'static str,
    severity: &'static str,
    pattern: &'static str,
    /// Least bits per character that chance needs; words of a language have about three.
    entropy: f64,
}

const fn rule(
    name: &'static str,
    about: &'static str,
    severity: &'static str,
    pattern: &'static str,
    entropy: f64,
) -> Rule {
    Rule { name, about, severity, pattern, entropy }
}

const RULES: &[Rule] = &[
    rule("private_key", "a private key", "high", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----", 0.0),
    rule("aws_access_key_id", "an AWS access key id", "high", r"\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b", 2.5),
    rule(
        "aws_secret_key",
        "an AWS secret access key",
        "high",
        r#"(?i)aws.{0,20}?(?:secret|sk).{0,20}?['"=:\s]([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
        4.0,
    ),
    rule(
        "github_token",
        "a GitHub token",
        "high",
        r"\b(gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b",
        3.0,
    ),
    rule("gitlab_token", "a GitLab token", "high", r"\b(glpat-[A-Za-z0-9_-]{20,})", 3.0),
    rule("slack_token", "a Slack token", "high", r"\b(xox[abeoprs]-[A-Za-z0-9-]{10,250})\b", 2.5),
    rule(
        "slack_webhook",
        "a Slack webhook",
        "high",
        r"(https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/+]{40,60})",
        0.0,
    ),
    rule("google_api_key", "a Google API key", "high", r"\b(AIza[A-Za-z0-9_-]{35})\b", 3.0),
    rule("anthropic_key", "an Anthropic key", "high", r"\b(sk-ant-[A-Za-z0-9_-]{32,})", 3.0),
    rule("openai_key", "an OpenAI key", "high", r"\b(sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{32,})", 3.5),
    rule("huggingface_token", "a Hugging Face token", "high", r"\b(hf_[A-Za-z]{34})\b", 3.0),
    rule("stripe_key", "a Stripe key", "high", r"\b((?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,247})\b", 3.0),
    rule("sendgrid_key", "a SendGrid key", "high", r"\b(SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43})", 3.0),
    rule("npm_token", "an npm token", "high", r"\b(npm_[A-Za-z0-9]{36})\b", 3.0),
    rule("pypi_token", "a PyPI token", "high", r"\b(pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,})", 3.0),
    rule("telegram_token", "a Telegram bot token", "high", r"\b([0-9]{8,10}:AA[A-Za-z0-9_-]{33})\b", 3.0),
    rule("twilio_key", "a Twilio key", "high", r"\b(SK[0-9a-f]{32})\b", 3.0),
    rule(
        "jwt",
        "a JSON Web Token",
        "medium",
        r"\b(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})",
        3.5,
    ),
    rule(
        "url_password",
        "a password in a URL",
        "high",
        r#"\b[a-z][a-z0-9+.-]*://[^\s/:@'"<>]{1,100}:([^\s/:@'"<>]{3,100})@"#,
        1.5,
    ),
    rule(
        "bearer_token",
        "a bearer token",
        "medium",
        r"(?i)\bauthorization['\x22]?\s*[:=]\s*['\x22]?(?:bearer|token)\s+([A-Za-z0-9._~+/=-]{16,})",
        3.0,
    ),
    rule(
        "assigned_secret",
        "a secret set to a name that says so",
        "medium",
        r#"(?i)\b[a-z0-9_.-]*(?:passwd|password|passphrase|secret|api[_-]?key|access[_-]?key|auth[_-]?token|private[_-]?key|client[_-]?secret)[a-z0-9_]*['"]?\s*(?::=|=>|[:=])\s*['"]([^\s'"]{8,200})['"]"#,
        2.8,
    ),
    rule(
        "assigned_env",
        "a secret in an environment file",
        "medium",
        r"(?m)^\s*(?:export\s+)?[A-Z0-9_]*(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)[A-Z0-9_]*=([^\s'\x22#$]{8,200})\s*$",
        2.8,
    ),
    rule("credit_card", "a credit card number", "medium", r"\b((?:[0-9][ -]?){12,18}[0-9])\b", 0.0),
];

/// All rules compiled, and a set that tells at once which are worth a look.
static COMPILED: LazyLock<(RegexSet, Vec<Regex>)> = LazyLock::new(|| {
    let patterns = RULES.iter().map(|rule| rule.pattern);
    let set = RegexSet::new(patterns.clone()).expect("constant");
    (set, patterns.map(|pattern| Regex::new(pattern).expect("constant")).collect())
});

/// Looks for what looks like a secret. A find tells where it is and its first four characters, never all of it. What looks like a place
/// holder (`${NAME}`, `changeme`, `xxxx`) is none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do; `redact` gives the text back with `[REDACTED]` in place of each secret.
    #[serde(default)]
    operation: Operation,
    /// The text.
    input: Option<String>,
    /// A file, or a folder with all below it (except what .gitignore names), in place of the text.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// Only these rules; `rules` lists them.
    only: Option<Vec<String>>,
    /// Not these rules.
    #[serde(default)]
    except: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Scan,
    Redact,
    Rules,
}

/// A secret: which rule, and its bytes in the text.
struct Find {
    rule: usize,
    start: usize,
    end: usize,
}

/// Looks.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    if params.operation == Operation::Rules {
        let list: Vec<Value> = RULES
            .iter()
            .map(|rule| json!({"name": rule.name, "description": rule.about, "severity": rule.severity}))
            .collect();
        return Ok(Answer::new("rules", json!({"rules": list})));
    }
    for (parameter, names) in [("only", params.only.as_deref().unwrap_or_default()), ("except", &params.except)] {
        if let Some(name) = names.iter().find(|name| !RULES.iter().any(|rule| rule.name == **name)) {
            return Err(Error::new(Class::Usage, format!("{parameter}: {name:?} is no rule"))
                .hint("operation = \"rules\" lists them."));
        }
    }
    let wanted = |rule: usize| {
        let name = RULES[rule].name;
        params.only.as_ref().is_none_or(|only| only.iter().any(|one| one == name))
            && !params.except.iter().any(|one| one == name)
    };
    if params.operation == Operation::Redact {
        let text = required(params.input, "input")?;
        let finds = scan(&text, &wanted, call)?;
        let (mut out, mut last) = (String::with_capacity(text.len()), 0);
        for find in &finds {
            out.push_str(&text[last..find.start]);
            out.push_str("[REDACTED]");
            last = find.end;
        }
        out.push_str(&text[last..]);
        return Ok(Answer::new("redact", json!({"result": out, "count": finds.len()})).text(out));
    }
    let mut findings = Vec::new();
    let (mut files, mut skipped) = (0_usize, 0_usize);
    match (&params.path, &params.input) {
        (Some(_), Some(_)) => return Err(Error::new(Class::Usage, "path: given together with input")),
        (None, input) => {
            let text = required(input.as_ref(), "input")?;
            describe(text, &scan(text, &wanted, call)?, None, &mut findings);
        }
        (Some(path), None) => {
            let root = call.readable(path)?;
            let walk = WalkBuilder::new(&root).hidden(false).follow_links(false).require_git(false).build();
            for entry in walk.filter_map(Result::ok) {
                call.check()?;
                if findings.len() >= MAX_FINDINGS {
                    break;
                }
                if !entry.file_type().is_some_and(|kind| kind.is_file()) || in_git(entry.path(), &root) {
                    continue;
                }
                let Some(text) = text_of(entry.path(), call)? else {
                    skipped += 1;
                    continue;
                };
                files += 1;
                let shown = match entry.path().strip_prefix(&root) {
                    Ok(rest) if !rest.as_os_str().is_empty() => Path::new(path).join(rest),
                    _ => path.into(),
                };
                describe(&text, &scan(&text, &wanted, call)?, Some(&shown), &mut findings);
                if files % 1000 == 0 {
                    call.progress(format!("{files} files"));
                }
            }
        }
    }
    let truncated = findings.len() > MAX_FINDINGS;
    findings.truncate(MAX_FINDINGS);
    let message = match findings.len() {
        0 => "No secrets found".into(),
        count => format!("{count} possible secrets found"),
    };
    let mut result = json!({"count": findings.len(), "findings": findings, "truncated": truncated});
    if params.path.is_some() {
        result["files_scanned"] = files.into();
        result["files_skipped"] = skipped.into();
    }
    Ok(Answer::new("scan", result).message(message))
}

fn in_git(path: &Path, root: &Path) -> bool {
    path.strip_prefix(root).is_ok_and(|rest| rest.components().any(|part| part.as_os_str() == ".git"))
}

/// A file that is a text of a reasonable size; `None` for others and for what may not be read.
fn text_of(path: &Path, call: &Call) -> Result<Option<String>> {
    use std::io::Read;
    let file = match call.policy.open_read(path) {
        Ok(file) => file,
        Err(error) if matches!(error.class(), Class::Denied | Class::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    if read.is_err() || bytes.len() as u64 > MAX_FILE || bytes.contains(&0) {
        return Ok(None);
    }
    // Other encodings keep ASCII where it is.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The secrets of a text in order, none overlapping another; of two the more telling rule counts.
fn scan(text: &str, wanted: &dyn Fn(usize) -> bool, call: &Call) -> Result<Vec<Find>> {
    let (set, compiled) = &*COMPILED;
    let mut finds: Vec<Find> = Vec::new();
    for index in set.matches(text).into_iter().filter(|index| wanted(*index)) {
        for captures in compiled[index].captures_iter(text) {
            call.check()?;
            let Some(range) = secret(&RULES[index], &captures) else { continue };
            let free = |find: &Find| range.end <= find.start || find.end <= range.start;
            // Rules stand in the order of what they tell.
            if finds.iter().all(free) {
                finds.push(Find { rule: index, start: range.start, end: range.end });
            }
            if finds.len() > MAX_FINDINGS {
                break;
            }
        }
    }
    finds.sort_by_key(|find| find.start);
    Ok(finds)
}

/// Where the secret of a match is, unless it is none.
fn secret(rule: &Rule, captures: &Captures<'_>) -> Option<std::ops::Range<usize>> {
    let found = captures.get(1).unwrap_or_else(|| captures.get_match());
    let text = found.as_str();
    let is = match rule.name {
        "credit_card" => data_validation::is_card(text) && !text.chars().all(|c| "0 -".contains(c)),
        "private_key" | "slack_webhook" => true,
        _ => entropy(text) >= rule.entropy && !placeholder(text),
    };
    is.then(|| found.range())
}

/// What stands where a secret will be.
fn placeholder(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words = [
        "changeme",
        "placeholder",
        "your_",
        "your-",
        "yourpass",
        "example.com",
        "xxxx",
        "****",
        "todo",
        "redacted",
        "dummy",
    ];
    text.starts_with(['$', '<', '{', '%', '(', '['])
        || text.contains("${")
        || words.iter().any(|word| lower.contains(word))
}

/// Bits per character.
fn entropy(text: &str) -> f64 {
    let mut count = std::collections::HashMap::<char, f64>::new();
    let mut total = 0.0;
    for c in text.chars() {
        *count.entry(c).or_default() += 1.0;
        total += 1.0;
    }
    count.values().map(|n: &f64| -(n / total) * (n / total).log2()).sum()
}

fn describe(text: &str, finds: &[Find], path: Option<&Path>, findings: &mut Vec<Value>) {
    let (mut line, mut line_start, mut at) = (1, 0, 0);
    for find in finds {
        for (offset, _) in text[at..find.start].match_indices('\n') {
            line += 1;
            line_start = at + offset + 1;
        }
        at = find.start;
        let rule = &RULES[find.rule];
        let secret = &text[find.start..find.end];
        let shown = secret.chars().count() / 3;
        let mut finding = json!({
            "rule": rule.name, "description": rule.about, "severity": rule.severity, "line": line,
            "column": text[line_start..find.start].chars().count() + 1, "length": secret.chars().count(),
            "preview": format!("{}…", secret.chars().take(shown.min(4)).collect::<String>()),
        });
        if let Some(path) = path {
            finding["path"] = path.to_string_lossy().into();
        }
        findings.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, result, run};
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let finds = result("secret_scanner", json!({"input": text}))["findings"].take();
        finds.as_array().unwrap().iter().map(|find| find["rule"].as_str().unwrap().to_owned()).collect()
    }

    // Written in two parts, so that no scanner finds them here.
    #[test]
    fn each_kind_is_found_once_and_never_told() {
        let key = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7d";
        for (name, text) in [
            ("private_key", format!("-----BEGIN RSA {} KEY-----", "PRIVATE")),
            ("aws_secret_key", format!("aws_secret_access_key = {key}")),
            ("github_token", format!("x gh{}_{}", "p", &key[..36])),
            ("slack_token", format!("xox{}-123456789012-{}", "b", &key[..20])),
            ("google_api_key", format!("AI{}{}", "za", &key[..35])),
            ("anthropic_key", format!("sk-{}-api03-{key}", "ant")),
            ("openai_key", format!("sk-{}-{key}", "proj")),
            ("stripe_key", format!("sk_{}_{}", "live", &key[..24])),
            ("jwt", format!("ey{}.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP", "JhbGciOiJIUzI1NiJ9")),
            ("url_password", "postgres://user:s3cr3t@db.example/x".into()),
            ("bearer_token", "Authorization: Bearer abcDEF123456ghiJKL".into()),
            ("assigned_secret", r#""dbPassword": "kX9#mQ2$vL""#.into()),
            ("assigned_env", "DB_PASSWORD=kX9mQ2vLpZ".into()),
            ("credit_card", "4111 1111 1111 1111".into()),
        ] {
            assert_eq!(found(&text), [name], "{text}");
            let answer = result("secret_scanner", json!({"input": text})).to_string();
            assert!(!answer.contains(&key[8..36]) && !answer.contains("kX9#mQ2$vL"), "{answer}");
            let redacted = result("secret_scanner", json!({"operation": "redact", "input": text}));
            assert!(redacted["result"].as_str().unwrap().contains("[REDACTED]"));
        }
    }

    #[test]
    fn what_is_none_is_not_found() {
        for text in [
            "",
            "password",
            "password = \"\"",
            "password: str",
            "API_KEY=$OTHER",
            "token = get_token()",
            "secret = \"changeme-now\"",
            "https://example.com:8080/a@b",
            "4111 1111 1111 1112",
            "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "password = \"<your-password>\"",
            "sk-this-is-a-css-class-name-no-key",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn folders_are_walked_and_ignored_files_left_alone() {
        let (dir, call) = folder();
        let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        write("sub/.env", b"# x\nAPI_TOKEN=kX9mQ2vLpZ\n");
        write("ignored", b"API_TOKEN=kX9mQ2vLpZ\n");
        write(".gitignore", b"ignored\n");
        write("binary", b"\0API_TOKEN=kX9mQ2vLpZ\n");
        let scanned = run("secret_scanner", json!({"path": "."}), &call).unwrap()["result"].take();
        assert_eq!(scanned["count"], 1, "{scanned}");
        assert_eq!(
            (&scanned["findings"][0]["path"], &scanned["findings"][0]["line"]),
            (&json!("./sub/.env"), &json!(2))
        );
        assert_eq!((&scanned["files_scanned"], &scanned["files_skipped"]), (&json!(2), &json!(1)));
        let except = json!({"path": "sub/.env", "except": ["assigned_env"]});
        assert_eq!(run("secret_scanner", except, &call).unwrap()["result"]["count"], 0);
        call.cancel.cancel();
        assert_eq!(run("secret_scanner", json!({"path": "."}), &call).unwrap_err().class(), Class::Interrupted);
    }

    #[test]
    fn bad_input() {
        bad(
            "secret_scanner",
            &[
                (json!({}), Class::Usage),
                (json!({"input": "x", "path": "."}), Class::Usage),
                (json!({"input": "x", "only": ["nonsense"]}), Class::Usage),
                (json!({"operation": "redact", "path": "x"}), Class::Usage),
                (json!({"path": "absent"}), Class::NotFound),
                (json!({"path": "/etc"}), Class::Denied),
            ],
        );
    }
}
