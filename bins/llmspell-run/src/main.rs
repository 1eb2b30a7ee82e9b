//! llmspell-run(1): a script in this process or in a running kernel.

mod cli;
mod local;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use cli::{Args, Script};
use llmspell::cli::{Talk, Target, front, is_closed_output, main as program, print, report};
use llmspell::client::{self, Client, Event, Watch};
use llmspell::config::{self, Config, Sources};
use llmspell::engine::{self, Outcome, Output};
use llmspell::error::{Class, Error, Result};
use llmspell::home::Home;
use llmspell::log;
use llmspell::protocol::content::{Display, ErrorContent, Execute, InputReply};
use llmspell::runtime::Runtime;
use llmspell::security::Policy;
use serde_json::{Map, Value, json};

const PROGRAM: &str = "llmspell-run";

fn main() -> ExitCode {
    front::dispatch().unwrap_or_else(|| program(&cli::CLI, run))
}

fn run(args: Args) -> Result<u8> {
    if args.trust {
        let dir = std::env::current_dir().map_err(|e| Error::system("working folder", e))?;
        let file = config::trust(&Home::find()?, &dir)?;
        eprint_line(&format!("{} is trusted as it is now", file.display()));
    }
    let Some(source) = Source::read(&args)? else { return Ok(0) };
    let begun = Instant::now();
    let end = match &args.target {
        Target::Unsaid => in_process(&args, &source)?,
        Target::Kernel(id) => in_kernel(&args, &source, Some(id), None)?,
        Target::File(file) => in_kernel(&args, &source, None, Some(file))?,
    };
    end.show(&args, begun)
}

/// A script's text and what it is called.
struct Source {
    code: Vec<u8>,
    /// As Lua names chunks: `@FILE`, `=stdin`, `=-e`.
    name: String,
    /// `arg[0]`.
    script: String,
}

impl Source {
    fn read(args: &Args) -> Result<Option<Self>> {
        let source = match &args.script {
            Script::None => return Ok(None),
            Script::Code(code) => Source { code: code.clone().into(), name: "=-e".into(), script: "-e".into() },
            Script::Stdin => {
                let mut code = Vec::new();
                std::io::stdin().read_to_end(&mut code).map_err(|e| Error::system("standard input", e))?;
                Source { code, name: "=stdin".into(), script: "-".into() }
            }
            Script::File(file) => {
                let code = std::fs::read(file).map_err(|e| Error::io(file, e))?;
                let script = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // Its modules are beside it, wherever it works.
                let file = if args.workdir.is_some() {
                    &std::path::absolute(file).map_err(|e| Error::io(file, e))?
                } else {
                    file
                };
                Source { code, name: format!("@{}", file.display()), script }
            }
        };
        if source.code.starts_with(b"\x1bLua") || source.code.contains(&0) {
            let name = source.name.trim_start_matches(['@', '=']);
            return Err(Error::new(Class::Usage, format!("{name}: not a text file"))
                .hint("Give it the Lua source, not a compiled chunk or another binary file."));
        }
        Ok(Some(source))
    }
}

/// How a script ended, wherever it ran.
#[derive(Default)]
struct End {
    value: Option<Value>,
    text: Option<String>,
    error: Option<ErrorContent>,
    exit: Option<u8>,
    stdout: String,
    stderr: String,
    /// Nobody reads our output any more.
    closed: bool,
}

impl End {
    /// Prints what there is to print; the exit status.
    fn show(self, args: &Args, begun: Instant) -> Result<u8> {
        let status = match (&self.error, self.exit) {
            _ if self.closed => 0,
            (_, Some(code)) => code,
            (Some(error), None) => Class::from_name(&error.class).row().exit,
            (None, None) => 0,
        };
        if args.json {
            print(&format!("{}\n", self.json(status, begun)))?;
            return Ok(status);
        }
        if let (Some(error), None, false) = (&self.error, self.exit, self.closed) {
            let mut text = Error::from(error);
            if args.talk != Talk::Quiet && error.traceback.len() > 1 {
                let lines = error.traceback[1..].join("\n");
                text = Error::new(text.class(), format!("{}\n{lines}", text.text()));
                if let Some(hint) = &error.hint {
                    text = text.hint(hint.clone());
                }
            }
            report(PROGRAM, &text);
        }
        if let (Some(text), Script::Code(_)) = (&self.text, &args.script) {
            print(&format!("{text}\n"))?;
        }
        if args.talk == Talk::Verbose {
            eprint_line(&format!("ended after {:?} with exit status {status}", begun.elapsed()));
        }
        Ok(status)
    }

    fn json(self, status: u8, begun: Instant) -> Value {
        let result = match (self.value, self.text) {
            (Some(value), _) => value,
            (None, Some(text)) => Value::String(text),
            (None, None) => Value::Null,
        };
        let mut document = json!({
            "status": if self.error.is_none() && status == 0 { "ok" } else { "error" },
            "result": result,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "exit_status": status,
            "duration_ms": begun.elapsed().as_micros() as f64 / 1000.0,
        });
        if let Some(error) = &self.error {
            document["error"] = serde_json::to_value(error).unwrap_or_default();
        }
        document
    }
}

fn words(args: &Args) -> Vec<String> {
    args.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn in_process(args: &Args, source: &Source) -> Result<End> {
    let mut sources = Sources::of_process()?;
    sources.file.clone_from(&args.config);
    if let Some(dir) = &args.workdir {
        sources.flag("kernel.workdir", sources.dir.join(dir).display().to_string(), "--workdir");
    }
    sources.permissions(&args.permissions);
    let loaded = Config::load(&sources)?;
    if args.talk != Talk::Quiet {
        loaded.warnings.iter().for_each(|warning| eprint_line(&format!("warning: {warning}")));
    }
    let config = loaded.config;
    let _log = log::start(&config.log, log::Sinks::stderr())?;
    config.secrets().for_each(log::hide);
    let workdir = config.kernel.workdir.clone().unwrap_or(loaded.dir);
    let policy = Policy::new(config.grants(&workdir, &sources.home));
    let limit = match args.timeout {
        Some(limit) => limit,
        None => config.engines.lua.timeout,
    };
    let deadline = Some(limit).filter(|limit| !limit.is_zero()).and_then(|limit| Instant::now().checked_add(limit));
    let name = args.engine.map_or_else(|| config.default_engine.clone(), |engine| engine.name().into());
    let runtime = Runtime::new(config, policy);
    runtime.remember(&sources.home, Some("default"));
    let mut engine = engine::make(&name, runtime)?;
    let (local, tell) = local::Local::new(args.json, deadline)?;
    local::stop_on_signal(engine.interrupter(), Arc::clone(&local), tell)?;
    let output: Arc<dyn Output> = Arc::clone(&local) as _;
    let outcome = engine.execute(
        &engine::Script {
            code: &source.code,
            name: source.name.clone(),
            args: Some(engine::Args { script: source.script.clone(), words: words(args) }),
            deadline,
            allow_stdin: true,
            cwd: Some(workdir),
            own_folder: true,
        },
        &output,
    );
    local.end();
    let flushed = local.flush();
    let closed = local.is_closed();
    if !closed && outcome.error.is_none() {
        flushed?;
    }
    let [stdout, stderr] = local.kept();
    let Outcome { value, error, exit } = outcome;
    let (value, text) = value.map_or((None, None), |shown| (shown.json, Some(shown.text)));
    Ok(End {
        value,
        text,
        error: error.map(|error| error.content(!args.json && local::colours())),
        exit,
        stdout,
        stderr,
        closed,
    })
}

fn in_kernel(args: &Args, source: &Source, id: Option<&str>, file: Option<&Path>) -> Result<End> {
    let home = Home::find()?;
    let file = client::find(&home, id, file)?.ok_or_else(|| Error::new(Class::NotFound, "no kernel runs"))?;
    let code = String::from_utf8(source.code.clone())
        .map_err(|_| Error::new(Class::Usage, format!("{}: not UTF-8, which a kernel needs", &source.name[1..])))?;
    let mut client = Client::open(&file, true)?;
    if args.talk == Talk::Verbose {
        eprint_line(&format!("running in the kernel of {}", file.display()));
    }
    let stop = local::stop_fd()?;
    let cwd = match &args.workdir {
        Some(dir) => std::path::absolute(dir).map_err(|e| Error::io(dir, e))?,
        None => std::env::current_dir().map_err(|e| Error::system("working folder", e))?,
    };
    let request = Execute {
        code,
        silent: false,
        store_history: false,
        user_expressions: Default::default(),
        allow_stdin: true,
        stop_on_error: false,
        chunk_name: Some(source.name.clone()),
        args: Some([vec![source.script.clone()], words(args)].concat()),
        cwd: Some(cwd.to_string_lossy().into_owned()),
        timeout: args.timeout.filter(|limit| !limit.is_zero()).map(|limit| limit.as_secs_f64()),
    };
    let mut end = End::default();
    let mut progress = local::Progress::default();
    let stdin = std::io::stdin();
    let mut asker = local::Asker::new()?;
    let mut on_event = |event| -> Result<Option<InputReply>> {
        if matches!(event, Event::Stream(_) | Event::Input(_)) {
            progress.hide();
        }
        match event {
            Event::Stream(stream) if args.json && stream.name == "stderr" => end.stderr.push_str(&stream.text),
            Event::Stream(stream) if args.json => end.stdout.push_str(&stream.text),
            Event::Stream(stream) if stream.name == "stderr" => {
                let _ = std::io::stderr().write_all(stream.text.as_bytes());
            }
            Event::Stream(stream) => print(&stream.text)?,
            Event::Display(display) | Event::Update(display) => match display.transient.progress_ended {
                Some(_) if args.json => {}
                Some(ended) => progress.draw(display.text().unwrap_or_default(), ended),
                None => {
                    progress.hide();
                    print_display(&display, args.json, &mut end.stdout)?;
                }
            },
            Event::Clear(_) => {}
            Event::Result(bundle) => {
                end.value = bundle.get("application/json").cloned();
                end.text = bundle.get("text/plain").and_then(Value::as_str).map(str::to_owned);
            }
            Event::Error(error) => end.error = Some(error),
            Event::Input(question) => {
                if asker.begin(question.password) {
                    if args.json {
                        eprint(&question.prompt);
                    } else {
                        print(&question.prompt)?;
                    }
                }
                return Ok(asker.answer()?.map(|value| InputReply { value }));
            }
        }
        Ok(None)
    };
    // The kernel stops the script in time; this is for one that nothing stops.
    let limit = args.timeout.filter(|limit| !limit.is_zero());
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit)?.checked_add(local::PATIENCE));
    let mut watch = Watch { on_event: &mut on_event, stop: Some(stop.as_fd()), input: Some(stdin.as_fd()), deadline };
    let reply = match client.execute(&request, &mut watch) {
        Ok(reply) => reply,
        // Nobody reads what it prints any more; the client told it to stop, as a pipe would.
        Err(error) if is_closed_output(&error) => return Ok(End { closed: true, ..End::default() }),
        Err(error) => return Err(error),
    };
    progress.end();
    end.finish(reply);
    if let Some(error) = end.error.as_mut().filter(|_| args.json || !local::colours()) {
        error.traceback = error.traceback.iter().map(|line| without_colours(line)).collect();
        if let Some(first) = error.traceback.first_mut() {
            first.clone_from(&error.evalue);
        }
    }
    Ok(end)
}

impl End {
    /// Takes over what the reply says.
    fn finish(&mut self, reply: Map<String, Value>) {
        if reply.get("status").and_then(Value::as_str) == Some("ok") {
            return;
        }
        let error = serde_json::from_value::<ErrorContent>(Value::Object(reply)).ok().or(self.error.take());
        self.exit = error.as_ref().and_then(|error| error.exit);
        self.error = error;
    }
}

/// The text of something displayed.
fn print_display(display: &Display, keep: bool, kept: &mut String) -> Result<()> {
    let Some(text) = display.text() else { return Ok(()) };
    if keep {
        kept.push_str(text);
        kept.push('\n');
        return Ok(());
    }
    print(&format!("{text}\n"))
}

/// `text` without the codes that colour it.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

fn eprint(text: &str) {
    // Nothing is left to tell the user with when standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn eprint_line(text: &str) {
    eprint(&format!("{}: {text}\n", PROGRAM));
}
