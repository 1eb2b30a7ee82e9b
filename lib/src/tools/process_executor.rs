//! `process_executor`: one program with its arguments, as they stand and without a shell. The policy names the programs; without
//! leave none runs.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::process::{From, Program};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, web};
use crate::error::Result;

/// The program tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "process_executor",
    aliases: &["process", "exec", "shell_executor"],
    category: "system",
    summary: "run a program the policy allows, without a shell, and report its output and exit status",
    level: Level::Privileged,
    effects: &[Effect::RunPrograms],
    spellings: &[
        Spelling::Param("command", "executable"),
        Spelling::Param("program", "executable"),
        Spelling::Param("args", "arguments"),
        Spelling::Param("cwd", "working_directory"),
        Spelling::Param("env", "environment"),
        Spelling::Param("stdin", "input"),
        Spelling::Param("timeout", "timeout_seconds"),
    ],
    examples: &[
        example(
            "output and status",
            r#"{"executable": "echo", "arguments": ["a|b", "$HOME", "*"]}"#,
            r#"{"exit_code": 0, "success": true, "stdout": "a|b $HOME *\n", "stderr": "", "timed_out": false}"#,
        ),
        example("with input", r#"{"executable": "cat", "input": "hello"}"#, r#"{"stdout": "hello"}"#),
        example(
            "a failure is an answer",
            r#"{"executable": "cat", "arguments": ["missing"]}"#,
            r#"{"exit_code": 1, "success": false, "stdout": ""}"#,
        ),
    ],
};

/// Runs a program to its end. It sees the environment the policy shows, and dies with all it started when the call ends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The program: a name found in PATH, or a path. The policy is asked about the real file.
    #[schemars(length(min = 1))]
    executable: String,
    /// Its arguments, each as it stands: nothing is expanded.
    #[serde(default)]
    arguments: Vec<String>,
    /// Where it runs; the folder of the call if not given.
    working_directory: Option<String>,
    /// Variables to set, of those the policy shows.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// What it reads from standard input.
    #[serde(default)]
    input: String,
    /// Longest time, seconds; the limit of the call if not given.
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout_seconds: Option<f64>,
    /// Bytes that are kept of each stream; the rest is read and dropped.
    #[serde(default = "megabyte")]
    #[schemars(range(min = 1, max = 100_000_000))]
    max_output: usize,
    /// Most memory it may map, bytes.
    #[schemars(range(min = 1_000_000))]
    max_memory: Option<u64>,
}

fn megabyte() -> usize {
    1_000_000
}

/// Runs it.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let limited = params.timeout_seconds.map(|seconds| call.within(web::seconds(seconds)));
    let call = limited.as_ref().unwrap_or(call);
    let mut program =
        Program::new(&params.executable, call)?.args(&params.arguments).input(params.input).keep(params.max_output);
    if let Some(folder) = &params.working_directory {
        program = program.in_folder(folder, call)?;
    }
    for (name, value) in &params.environment {
        program = program.env(name, value, call)?;
    }
    if let Some(bytes) = params.max_memory {
        program = program.memory(bytes);
    }
    let mut tell = |from: From, bytes: &[u8]| {
        if from == From::Stdout && call.progress.is_some() {
            call.progress(String::from_utf8_lossy(bytes).trim_end());
        }
    };
    let finished = program.watch(call, &mut tell)?;
    let (stdout, binary) = text(finished.stdout);
    let (stderr, _) = text(finished.stderr);
    let success = finished.code == Some(0);
    let result = json!({
        "executable": params.executable, "arguments": params.arguments, "exit_code": finished.code, "signal": finished.signal,
        "success": success, "stdout": stdout, "stdout_encoding": if binary { "base64" } else { "text" }, "stderr": stderr,
        "truncated": finished.truncated, "timed_out": false,
        "execution_time_ms": u64::try_from(finished.took.as_millis()).unwrap_or(u64::MAX),
    });
    let ending = match (finished.code, finished.signal) {
        (Some(0), _) => "ended well".to_owned(),
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    };
    let answer = Answer::new("execute", result).message(format!("{} {ending}", params.executable));
    Ok(match stdout {
        Value::String(text) if !binary => answer.text(text),
        _ => answer,
    })
}

/// Output as text if it is, else as base64.
fn text(bytes: Vec<u8>) -> (Value, bool) {
    match String::from_utf8(bytes) {
        Ok(text) => (text.into(), false),
        // Cut in the middle of a character: the character goes.
        Err(error) if error.utf8_error().error_len().is_none() => {
            let end = error.utf8_error().valid_up_to();
            (String::from_utf8_lossy(&error.as_bytes()[..end]).into(), false)
        }
        Err(error) => (STANDARD.encode(error.as_bytes()).into(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::super::testing::bad;
    use super::*;
    use crate::error::Class;
    use crate::security::{Grants, Policy, Profile};
    use std::sync::Arc;

    fn run(params: Value) -> Result<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        let run = ["sh", "sleep", "pwd"].map(str::to_owned).into();
        let env = vec!["MINE".into(), "PATH".into()];
        let grants =
            Grants { profile: Profile::Safe, write: vec![path.clone()], workdir: path, run, env, ..Grants::default() };
        let call = Call::new(Arc::new(Policy::new(grants)));
        Ok(Registry::new().invoke("process_executor", params, &call)?["result"].take())
    }

    #[test]
    fn limits_hold() {
        let got = run(json!({"command": "sh", "args": ["-c", "printf 'aäb\\377'"]})).unwrap();
        assert_eq!((&got["stdout"], &got["stdout_encoding"]), (&json!("YcOkYv8="), &json!("base64")));
        let got = run(json!({"command": "sh", "args": ["-c", "printf aä"], "max_output": 2})).unwrap();
        assert_eq!((&got["stdout"], &got["truncated"]), (&json!("a"), &json!(true)));
        let error = run(json!({"command": "sleep", "args": ["100"], "timeout_seconds": 0.1})).unwrap_err();
        assert_eq!(error.class(), Class::Timeout);
        let got = run(json!({"command": "sh", "args": ["-c", "kill -9 $$"]})).unwrap();
        assert_eq!((&got["signal"], &got["exit_code"], &got["success"]), (&json!(9), &Value::Null, &json!(false)));
        let got =
            run(json!({"command": "sh", "args": ["-c", "echo $MINE; env | wc -l"], "env": {"MINE": "x"}})).unwrap();
        assert!(
            got["stdout"].as_str().unwrap().starts_with("x\n") && got["stdout"].as_str().unwrap().len() < 6,
            "{got}"
        );
    }

    #[test]
    fn what_was_not_granted_does_not_run() {
        for params in [
            json!({"command": "ls"}),
            json!({"command": "/bin/ls"}),
            json!({"command": "sh", "env": {"LD_PRELOAD": "x"}}),
            json!({"command": "sh", "cwd": "/etc"}),
        ] {
            assert_eq!(run(params.clone()).unwrap_err().class(), Class::Denied, "{params}");
        }
        // A name is no path: a program called as an allowed one is not that one.
        assert_eq!(run(json!({"command": "/tmp/sh"})).unwrap_err().class(), Class::Denied);
        bad(
            "process_executor",
            &[
                (json!({}), Class::Usage),
                (json!({"executable": ""}), Class::Usage),
                (json!({"executable": "sh"}), Class::Denied),
                (json!({"executable": "sh", "arguments": "x"}), Class::Usage),
                (json!({"executable": "sh", "environment": {"A": 1}}), Class::Usage),
            ],
        );
    }
}
