//! Scripts in a running kernel, whose output comes to our streams.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llmspell::cli::{Progress, is_closed_output, print};
use llmspell::client::{self, Client, Event, Watch};
use llmspell::engine::{Completeness, Completion, Completions, TABLE_JSON};
use llmspell::error::{Class, Error, Result};
use llmspell::home::Home;
use llmspell::protocol::content::{
    Complete, Display, ErrorContent, Execute, InputReply, Inspect, IsComplete, StreamContent, Tool, Words,
};
use serde_json::{Map, Value};

use crate::cli::Args;
use crate::console;
use crate::local::{self, Asker};
use crate::session::{End, Session, Source};
use crate::{Talk, eprint, eprint_line};

/// How long the console waits for what the kernel knows of the code that is being typed: it may run a script of somebody else.
const LOOK: Duration = Duration::from_millis(800);

/// A kernel, and our streams.
pub(crate) struct There {
    client: Client,
    /// The connection file.
    pub(crate) file: PathBuf,
    /// Readable once the user wants to stop.
    stop: OwnedFd,
    asker: Asker,
    cwd: PathBuf,
    timeout: Option<Duration>,
    /// Inputs so far, of all clients.
    count: u64,
    json: bool,
}

impl There {
    /// Connects.
    pub(crate) fn open(args: &Args, id: Option<&str>, file: Option<&Path>) -> Result<Self> {
        let home = Home::find()?;
        let file = client::find(&home, id, file)?.ok_or_else(|| Error::new(Class::NotFound, "no kernel runs"))?;
        let client = Client::open(&file, true)?;
        if args.talk == Talk::Verbose {
            eprint_line(&format!("running in the kernel of {}", file.display()));
        }
        let cwd = match &args.workdir {
            Some(dir) => std::path::absolute(dir).map_err(|e| Error::io(dir, e))?,
            None => std::env::current_dir().map_err(|e| Error::system("working folder", e))?,
        };
        Ok(There {
            client,
            file,
            stop: local::stop_fd()?,
            asker: Asker::new()?,
            cwd,
            timeout: args.timeout.filter(|limit| !limit.is_zero()),
            count: 0,
            json: args.json,
        })
    }

    /// What the kernel is called.
    pub(crate) fn name(&self) -> &str {
        self.client.name()
    }

    /// Learns how many inputs the kernel had.
    pub(crate) fn learn_count(&mut self) -> Result<()> {
        self.count = self.client.status()?.get("execution_count").and_then(Value::as_u64).unwrap_or_default();
        Ok(())
    }
}

impl Session for There {
    fn run(&mut self, source: &Source) -> Result<End> {
        let code = String::from_utf8(source.code.clone()).map_err(|_| {
            let name = source.name.as_deref().unwrap_or("=input");
            Error::new(Class::Usage, format!("{}: not UTF-8, which a kernel needs", &name[1..]))
        })?;
        let request = Execute {
            code,
            silent: false,
            store_history: source.name.is_none(),
            user_expressions: Default::default(),
            allow_stdin: true,
            stop_on_error: false,
            chunk_name: source.name.clone(),
            args: source.args.clone().map(|args| [vec![args.script], args.words].concat()),
            cwd: Some(self.cwd.to_string_lossy().into_owned()),
            timeout: self.timeout.map(|limit| limit.as_secs_f64()),
        };
        local::drain(&self.stop);
        if console::take_early() {
            let error = ErrorContent::from(&Error::new(Class::Interrupted, "interrupted"));
            return Ok(End { error: Some(error), ..End::default() });
        }
        let mut screen = Screen { end: End::default(), progress: Progress::default(), json: self.json };
        let asker = &mut self.asker;
        let mut on_event = |event| screen.on_event(event, asker);
        // The kernel stops the script in time; this is for one that nothing stops.
        let deadline = self.timeout.and_then(|limit| Instant::now().checked_add(limit)?.checked_add(local::PATIENCE));
        let stdin = std::io::stdin();
        let mut watch =
            Watch { on_event: &mut on_event, stop: Some(self.stop.as_fd()), input: Some(stdin.as_fd()), deadline };
        let reply = match self.client.execute(&request, &mut watch) {
            Ok(reply) => reply,
            // Nobody reads what it prints any more; the client told it to stop, as a pipe would.
            Err(error) if is_closed_output(&error) => return Ok(End { closed: true, ..End::default() }),
            Err(error) => {
                screen.progress.end();
                asker.give_up();
                return Err(error);
            }
        };
        screen.progress.end();
        asker.give_up();
        if request.store_history {
            self.count = reply.get("execution_count").and_then(Value::as_u64).unwrap_or(self.count + 1);
        }
        let mut end = screen.end;
        end.finish(reply, self.json)?;
        if let Some(error) = end.error.as_mut().filter(|_| self.json || !local::colours()) {
            error.traceback = error.traceback.iter().map(|line| without_colours(line)).collect();
            if let Some(first) = error.traceback.first_mut() {
                first.clone_from(&error.evalue);
            }
        }
        Ok(end)
    }

    fn number(&self) -> u64 {
        self.count + 1
    }

    fn is_complete(&mut self, code: &str) -> Completeness {
        let reply = self.client.look("is_complete_request", &IsComplete { code: code.to_owned() }, LOOK);
        let reply = reply.unwrap_or_default();
        let text = |name: &str| reply.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match &*text("status") {
            "incomplete" => Completeness::Incomplete(text("indent")),
            "invalid" => Completeness::Invalid,
            _ => Completeness::Complete,
        }
    }

    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        let before = code.get(..cursor).unwrap_or(code);
        let request = Complete { code: code.to_owned(), cursor_pos: before.chars().count() };
        let reply = self.client.look("complete_request", &request, LOOK).unwrap_or_default();
        let position = |name: &str| {
            let position = reply.get(name).and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok())?;
            Some(code.char_indices().nth(position).map_or(code.len(), |(at, _)| at))
        };
        let matches = reply.get("matches").and_then(Value::as_array).into_iter().flatten();
        let completion = |text: &str| Completion { text: text.to_owned(), kind: "", signature: None };
        Completions {
            start: position("cursor_start").unwrap_or(cursor),
            end: position("cursor_end").unwrap_or(cursor),
            items: matches.filter_map(Value::as_str).map(completion).collect(),
        }
    }

    fn inspect(&mut self, code: &str, source: bool) -> Result<Option<String>> {
        let cursor_pos = code.chars().count();
        let request = Inspect { code: code.to_owned(), cursor_pos, detail_level: u8::from(source) };
        let reply = self.client.look("inspect_request", &request, LOOK)?;
        Ok(reply.get("data").and_then(|data| data.get("text/plain")?.as_str()).map(str::to_owned))
    }

    fn tools(&mut self, words: &[String]) -> Result<Vec<Value>> {
        let command = if words.is_empty() { "list" } else { "search" };
        let query = (!words.is_empty()).then(|| Words(words.to_vec()));
        let request = Tool { command: command.into(), query, ..Tool::default() };
        let deadline = Some(Instant::now() + Duration::from_secs(5));
        let mut watch = Watch { on_event: &mut |_| Ok(None), stop: None, input: None, deadline };
        let reply = self.client.tool(&request, &mut watch)?;
        match reply.get("tools").or(reply.get("matches")) {
            Some(Value::Array(tools)) => Ok(tools.clone()),
            _ => Ok(Vec::new()),
        }
    }

    fn reset(&mut self) -> Result<()> {
        Err(Error::new(Class::Denied, "a running kernel is not reset: others may use it")
            .hint("Stop it and start it again, or use a console without --kernel."))
    }

    fn place(&self) -> String {
        let banner = self.client.info().get("banner").and_then(Value::as_str).unwrap_or("an unknown program");
        format!("{banner}, in the kernel {}", self.client.name())
    }
}

/// What a running request has shown so far.
struct Screen {
    end: End,
    progress: Progress,
    json: bool,
}

impl Screen {
    fn on_event(&mut self, event: Event, asker: &mut Asker) -> Result<Option<InputReply>> {
        let Screen { end, progress, json } = self;
        if matches!(event, Event::Stream(_) | Event::Input(_)) {
            progress.hide();
        }
        if let Event::Stream(StreamContent { text, .. }) = &event
            && let Some(last) = text.chars().last()
        {
            end.open_line = last != '\n';
        }
        match event {
            Event::Stream(stream) if *json && stream.name == "stderr" => end.stderr.push_str(&stream.text),
            Event::Stream(stream) if *json => end.stdout.push_str(&stream.text),
            Event::Stream(stream) if stream.name == "stderr" => eprint(&stream.text),
            Event::Stream(stream) => print(&stream.text)?,
            Event::Display(display) | Event::Update(display) => match display.transient.progress_ended {
                Some(_) if *json => {}
                Some(ended) => progress.draw(display.text().unwrap_or_default(), ended),
                None => {
                    progress.hide();
                    print_display(&display, *json, &mut end.stdout)?;
                }
            },
            Event::Clear(_) => {}
            Event::Result(bundle) => {
                end.value = bundle.get("application/json").or(bundle.get(TABLE_JSON)).cloned();
                end.text = bundle.get("text/plain").and_then(Value::as_str).map(str::to_owned);
            }
            Event::Error(error) => end.error = Some(error),
            Event::Input(question) => {
                if asker.begin(question.password) {
                    if *json {
                        eprint(&question.prompt);
                    } else {
                        print(&question.prompt)?;
                    }
                }
                let answer = asker.answer()?;
                end.open_line &= answer.is_none();
                return Ok(answer.map(|value| InputReply { value }));
            }
        }
        Ok(None)
    }
}

impl End {
    /// Takes over what the reply says.
    fn finish(&mut self, reply: Map<String, Value>, json: bool) -> Result<()> {
        for item in reply.get("payload").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| item.pointer(name).and_then(Value::as_str);
            match text("/source") {
                Some("page") => {
                    let page = format!("{}\n", text("/data/text~1plain").unwrap_or_default());
                    if json { self.stdout.push_str(&page) } else { print(&page)? }
                }
                Some("set_next_input") => self.next_input = text("/text").map(str::to_owned),
                _ => {}
            }
        }
        if reply.get("status").and_then(Value::as_str) == Some("ok") {
            return Ok(());
        }
        let error = serde_json::from_value::<ErrorContent>(Value::Object(reply)).ok().or(self.error.take());
        self.exit = error.as_ref().and_then(|error| error.exit);
        self.error = error;
        Ok(())
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
