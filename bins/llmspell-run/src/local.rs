//! A script in this process: its output goes to our streams, its questions are read from our standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use llmspell::cli::Silence;
use llmspell::cli::{Progress, is_closed_output, output_error, report};
use llmspell::daemon::{leave, signal_fd};
use llmspell::engine::{Interrupter, Output, Reason, Stream};
use llmspell::error::{Class, Error, Result};
use llmspell::protocol::content::Display;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::console;

/// Output is written when this much is gathered, or at a line's end on a terminal.
const BUFFER: usize = 64 * 1024;

/// How long a script may take to stop once it is told to; then the process ends without it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Our own streams as a script's.
pub(crate) struct Local {
    out: Mutex<Gathered>,
    /// How often is written.
    pace: Pace,
    input: Mutex<BufReader<File>>,
    /// Readable once the user wants the script to stop,
    stop: OwnedFd,
    /// and what makes it so.
    tell: OwnedFd,
    run: Mutex<Run>,
}

/// When output is written.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    Full,
    Lines,
    /// At once: somebody watches.
    Live,
}

/// The script that runs, if one does.
#[derive(Default)]
struct Run {
    /// Counts them.
    number: u64,
    interrupter: Option<Interrupter>,
    deadline: Option<Instant>,
    /// Whether it is to stop.
    stopped: bool,
}

struct Gathered {
    bytes: Vec<u8>,
    progress: Progress,
    /// Whether what was written last does not end its line.
    open_line: bool,
    /// What the script proposed as the next input.
    next_input: Option<String>,
    /// What is kept instead of being written, for `--json`: stdout and stderr.
    kept: Option<[Vec<u8>; 2]>,
    /// Whether nobody reads our standard output any more.
    closed: bool,
}

impl Local {
    /// Streams that are written to, or with `keep` only gathered; `live`: for somebody who watches.
    pub(crate) fn new(keep: bool, live: bool) -> Result<Arc<Self>> {
        let (stop, tell) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK).map_err(|e| Error::system("pipe", e.into()))?;
        let local = Local {
            out: Mutex::new(Gathered {
                bytes: Vec::new(),
                progress: Progress::default(),
                open_line: false,
                next_input: None,
                kept: keep.then(Default::default),
                closed: false,
            }),
            pace: match std::io::stdout().is_terminal() {
                _ if live => Pace::Live,
                true => Pace::Lines,
                false => Pace::Full,
            },
            input: Mutex::new(standard_input()?),
            stop,
            tell,
            run: Mutex::default(),
        };
        Ok(Arc::new(local))
    }

    /// A script begins: wishes to stop were for others.
    pub(crate) fn begin(&self, interrupter: Interrupter, deadline: Option<Instant>) {
        let mut run = self.run();
        drain(&self.stop);
        *run = Run { number: run.number + 1, interrupter: Some(interrupter), deadline, stopped: false };
        // Who watches the signals finds the script from here on; what came before, since Enter, is:
        run.stopped = console::take_early();
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process without the script, after what it printed.
    fn give_up(&self, class: Class) -> ! {
        // Locked, it is being written at this moment, to somebody who does not read.
        if let Ok(mut out) = self.out.try_lock() {
            let _ = out.write_out(&self.stop);
        }
        report(crate::PROGRAM, &Error::new(class, "the script does not stop; ending without it"));
        leave(i32::from(class.row().exit))
    }

    /// Whether nobody reads our standard output any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The script ended: so does what is drawn in place. Whether the last line is still open.
    pub(crate) fn end(&self) -> bool {
        if self.pace == Pace::Live {
            self.run().interrupter = None;
        }
        let mut out = self.lock();
        out.progress.end();
        std::mem::take(&mut out.open_line)
    }

    /// What the script proposed as the next input.
    pub(crate) fn next_input(&self) -> Option<String> {
        self.lock().next_input.take()
    }

    /// What was kept: stdout and stderr.
    pub(crate) fn kept(&self) -> [String; 2] {
        let kept = self.lock().kept.take().unwrap_or_default();
        kept.map(|bytes| {
            String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
        })
    }
}

impl Output for Local {
    fn write(&self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let mut out = self.lock();
        if let Some(kept) = &mut out.kept {
            kept[usize::from(stream == Stream::Stderr)].extend_from_slice(bytes);
            return Ok(());
        }
        if out.progress.hide() {
            out.write_out(&self.stop)?;
        }
        if let Some(last) = bytes.last() {
            out.open_line = *last != b'\n';
        }
        match stream {
            Stream::Stdout => {
                out.bytes.extend_from_slice(bytes);
                let now = match self.pace {
                    Pace::Full => false,
                    Pace::Lines => bytes.contains(&b'\n'),
                    Pace::Live => true,
                };
                if now || out.bytes.len() >= BUFFER {
                    out.write_out(&self.stop)?;
                }
                Ok(())
            }
            Stream::Stderr => {
                // So that both appear in the order they were written.
                out.write_out(&self.stop)?;
                std::io::stderr().write_all(bytes).map_err(|e| Error::system("standard error", e))
            }
        }
    }

    fn flush(&self) -> Result<()> {
        self.lock().write_out(&self.stop)
    }

    fn display(&self, display: &Display, _update: bool) -> Result<()> {
        if let Some(ended) = display.transient.progress_ended {
            let mut out = self.lock();
            if out.kept.is_none() {
                out.write_out(&self.stop)?;
                out.progress.draw(display.text().unwrap_or_default(), ended);
            }
            return Ok(());
        }
        match display.text() {
            Some(text) => self.write(Stream::Stdout, format!("{text}\n").as_bytes()),
            None => Ok(()),
        }
    }

    fn clear(&self, _wait: bool) -> Result<()> {
        // What a terminal or a file has, it keeps.
        Ok(())
    }

    fn input(&self, prompt: &str, password: bool) -> Result<Option<String>> {
        self.write(Stream::Stdout, prompt.as_bytes())?;
        self.flush()?;
        let deadline = self.run().deadline;
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = ask(&mut input, password, &self.stop, deadline);
        // The end of the line was typed.
        self.lock().open_line = false;
        answer
    }

    fn is_stopped(&self) -> bool {
        self.run().stopped
    }

    fn next_input(&self, text: &str, _replace: bool) -> Result<()> {
        if self.pace != Pace::Live {
            return Err(Error::new(Class::Denied, "set_next_input: only the console has a next input"));
        }
        self.lock().next_input = Some(text.to_owned());
        Ok(())
    }
}

impl Gathered {
    /// Writes what is gathered; once `stop` is readable, only as much as goes without waiting.
    fn write_out(&mut self, stop: &OwnedFd) -> Result<()> {
        let out = rustix::stdio::stdout();
        let mut written = 0;
        let result = loop {
            let rest = &self.bytes[written..];
            if rest.is_empty() {
                break Ok(());
            }
            let mut fds = [PollFd::new(&out, PollFlags::OUT), PollFd::new(stop, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) if fds[0].revents().is_empty() => break Err(Error::new(Class::Interrupted, "interrupted")),
                // A pipe that is ready takes this much without waiting: PIPE_BUF.
                Ok(_) => match rustix::io::write(out, &rest[..rest.len().min(4096)]) {
                    Ok(count) => written += count,
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(error) => break Err(output_error(error.into())),
                },
                Err(Errno::INTR) => {}
                Err(error) => break Err(Error::system("standard output", error.into())),
            }
        };
        self.bytes.clear();
        result.inspect_err(|error| self.closed |= is_closed_output(error))
    }
}

/// Whether what we write to standard error may be coloured.
pub(crate) fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Our standard input, buffered by us: what poll cannot see must be known.
fn standard_input() -> Result<BufReader<File>> {
    let fd = std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| Error::system("standard input", e))?;
    Ok(BufReader::new(File::from(fd)))
}

/// Reads a line; `None` at the end. `stop` and `deadline` end the wait; `password` turns the terminal's echo off.
fn ask(
    input: &mut BufReader<File>,
    password: bool,
    stop: impl AsFd,
    deadline: Option<Instant>,
) -> Result<Option<String>> {
    let _silence = if password { Silence::new(input.get_ref()) } else { None };
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() {
            wait(input.get_ref().as_fd(), stop.as_fd(), deadline)?;
        }
        if let Some(answer) = read(input, &mut line)? {
            return Ok(answer);
        }
    }
}

/// Adds what there is to `line`. The whole line, once it ends; `Some(None)` when there is no more.
fn read(input: &mut BufReader<File>, line: &mut Vec<u8>) -> Result<Option<Option<String>>> {
    let bytes = input.fill_buf().map_err(|e| Error::system("standard input", e))?;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let taken = end.map_or(bytes.len(), |at| at + 1);
    line.extend_from_slice(&bytes[..taken]);
    input.consume(taken);
    if taken > 0 && end.is_none() {
        return Ok(None);
    }
    if taken == 0 && line.is_empty() {
        return Ok(Some(None));
    }
    let line = std::mem::take(line);
    let text = String::from_utf8(line).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    Ok(Some(Some(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))))
}

/// Answers a kernel's questions from our standard input, never waiting for it.
pub(crate) struct Asker {
    input: BufReader<File>,
    line: Vec<u8>,
    /// The question that is open, and its silence.
    open: Option<Option<Silence>>,
}

impl Asker {
    pub(crate) fn new() -> Result<Self> {
        Ok(Asker { input: standard_input()?, line: Vec::new(), open: None })
    }

    /// A question is there; true when it is a new one.
    pub(crate) fn begin(&mut self, password: bool) -> bool {
        let new = self.open.is_none();
        if new {
            self.open = Some(if password { Silence::new(self.input.get_ref()) } else { None });
        }
        new
    }

    /// The question is no longer open.
    pub(crate) fn give_up(&mut self) {
        self.open = None;
        self.line.clear();
    }

    /// The answer, if all of it is there; `Some(None)` at the end of input.
    pub(crate) fn answer(&mut self) -> Result<Option<Option<String>>> {
        while !self.input.buffer().is_empty() || is_readable(self.input.get_ref()) {
            if let Some(answer) = read(&mut self.input, &mut self.line)? {
                self.open = None;
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }
}

fn is_readable(file: &File) -> bool {
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn wait(input: BorrowedFd<'_>, stop: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<()> {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(input, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) if !fds[1].revents().is_empty() => return Err(Error::new(Class::Interrupted, "interrupted")),
            Ok(0) => return Err(Error::new(Class::Timeout, "nobody answered in time")),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::system("standard input", error.into())),
        }
    }
}

/// Makes Ctrl-C and SIGTERM stop the script that runs. A second one ends the process, and so does a script that does not
/// stop within [`PATIENCE`] of the first one or of its deadline.
///
/// At the console the user is asked before: only a wish after [`PATIENCE`] ends the process, and none does while no script runs.
pub(crate) fn stop_on_signal(local: Arc<Local>) -> Result<()> {
    let signals = signal_fd(&[SIGINT, SIGTERM])?;
    let console = local.pace == Pace::Live;
    let watch = move || {
        // The script that was told to stop; whether it had its time.
        let (mut told, mut stubborn) = (0, false);
        let deadline = local.run().deadline.filter(|_| !console);
        let mut limit = deadline.and_then(|deadline| Some((deadline.checked_add(PATIENCE)?, Class::Timeout)));
        loop {
            let left = limit.map(|(at, _)| at.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let ready = poll(&mut [PollFd::new(&signals, PollFlags::IN)], timeout.as_ref());
            let (number, interrupter) = {
                let mut run = local.run();
                run.stopped |= ready == Ok(1);
                (run.number, run.interrupter.clone())
            };
            match ready {
                Err(_) => {}
                Ok(0) => match limit.take() {
                    Some((_, class)) if interrupter.is_some_and(|i| i.0.pending_since().is_some()) => {
                        if !console {
                            local.give_up(class);
                        }
                        stubborn = told == number;
                        let _ =
                            std::io::stderr().write_all(b"\nthe script does not stop; Ctrl-C again ends the console\n");
                    }
                    _ => {}
                },
                Ok(_) => {
                    drain(&signals);
                    let again = told == number;
                    match interrupter {
                        Some(_) if again && (stubborn || !console) => local.give_up(Class::Interrupted),
                        Some(_) if again => {}
                        Some(interrupter) => {
                            (told, stubborn) = (number, false);
                            limit = Some((Instant::now() + PATIENCE, Class::Interrupted));
                            let _ = rustix::io::write(&local.tell, b"!");
                            interrupter.0.interrupt(Reason::Interrupt);
                        }
                        None => {}
                    }
                }
            }
        }
    };
    std::thread::Builder::new().name("llmspell-signals".into()).spawn(watch).map_err(|e| Error::system("thread", e))?;
    Ok(())
}

/// Takes out of `fd`, which does not wait, what is there.
pub(crate) fn drain(fd: &OwnedFd) {
    while rustix::io::read(fd, &mut [0; 64]).is_ok_and(|count| count > 0) {}
}

/// Becomes readable at every Ctrl-C or SIGTERM.
pub(crate) fn stop_fd() -> Result<OwnedFd> {
    signal_fd(&[SIGINT, SIGTERM])
}
