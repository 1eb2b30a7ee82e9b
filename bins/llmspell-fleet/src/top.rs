//! `top`: the figures of `metrics` on a screen that keeps itself up to date, and the keys that stop and restart.
//!
//! One thread waits: for keys, signals, the next measurement and what the others report. A thread measures, as a kernel
//! that hangs makes that slow; each stop and restart has one of its own.

mod keys;
mod rows;
mod screen;
mod state;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use llmspell::cli::{Talk, is_closed_output, print, report};
use llmspell::daemon::signal_fd;
use llmspell::error::{Class, Error, Result};
use llmspell::fleet;
use llmspell::fleet::metrics::{Measured, measure};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::Signal;
use serde_json::json;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGWINCH};

pub(crate) use rows::SORTS;
use rows::{Before, COLUMNS, View};
use screen::Screen;
use state::{After, Mode, Top};

use crate::cli::Which;
use crate::{Fleet, PROGRAM, show};

/// How to show them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) which: Which,
    /// Between two measurements.
    pub(crate) every: Duration,
    /// How long a kernel may take to answer.
    pub(crate) limit: Duration,
    pub(crate) sort: usize,
    /// Printed instead of drawn; and how often.
    pub(crate) batch: Option<Batch>,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    Once,
    Forever,
}

impl Fleet {
    pub(crate) fn top(self, settings: Settings) -> Result<u8> {
        match settings.batch {
            Some(batch) => self.top_printed(&settings, batch),
            None => top(Arc::new(self), settings),
        }
    }

    fn measured(&self, settings: &Settings) -> Result<Vec<Measured>> {
        Ok(measure(self.choose(&settings.which)?, settings.limit))
    }

    fn top_printed(&self, settings: &Settings, batch: Batch) -> Result<u8> {
        let stop = signal_fd(&[SIGINT, SIGTERM])?;
        let mut before = Before::default();
        let view = View { sort: settings.sort, ..View::default() };
        loop {
            let begun = Instant::now();
            let rows = before.rows(self.measured(settings)?, &self.here, begun);
            let order = view.order(&rows);
            if self.json {
                show::document(json!({ "kernels": order.iter().map(|at| &rows[*at].numbers).collect::<Vec<_>>() }))?;
            } else if !rows.is_empty() {
                let cells = |at: &usize| COLUMNS.iter().map(|column| rows[*at].cell(column)).collect();
                let lines: Vec<Vec<String>> = order.iter().map(cells).collect();
                print(&show::table(&COLUMNS.map(|column| column.head), &lines))?;
            }
            if batch == Batch::Once || wait(&[&stop], settings.every.saturating_sub(begun.elapsed()))?[0] {
                return Ok(0);
            }
            if !self.json {
                print("\n")?;
            }
        }
    }
}

/// Waits until some of `fds` are readable, or for `limit`.
fn wait<const N: usize>(fds: &[&OwnedFd; N], limit: Duration) -> Result<[bool; N]> {
    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
    let left = Timespec { tv_sec: limit.as_secs().min(1 << 40) as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    match poll(&mut fds, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(fds.map(|fd| !fd.revents().is_empty())),
        Err(error) => Err(Error::system("poll", error.into())),
    }
}

/// Empties what only wakes.
fn drain(fd: &OwnedFd) {
    while rustix::io::read(fd, &mut [0; 64]).is_ok_and(|count| count == 64) {}
}

/// What other threads tell.
enum News {
    Measured(Result<Vec<Measured>>, Instant),
    Said(String),
}

/// How to tell it: it is sent, and the one that waits is woken.
#[derive(Clone)]
struct Teller(Sender<News>, Arc<OwnedFd>);

impl Teller {
    fn tell(&self, news: News) {
        // Nobody listens only when everything ends.
        let _ = self.0.send(news);
        let _ = rustix::io::write(&self.1, &1_u64.to_ne_bytes());
    }
}

fn top(fleet: Arc<Fleet>, settings: Settings) -> Result<u8> {
    use std::io::IsTerminal;
    if !std::io::stdout().is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return Err(Error::new(Class::Usage, "top: standard output is no terminal that can be drawn on")
            .hint("--once prints the figures once, --batch again and again."));
    }
    let keys = keyboard()?;
    // Whatever is not there is said before the screen is taken.
    fleet.choose(&settings.which)?;
    let ends = [SIGTERM, SIGINT, SIGHUP];
    let ending = ends.map(|signal| signal_fd(&[signal]));
    let [term, int, hup] = ending;
    let (term, int, hup) = (term?, int?, hup?);
    let (resized, continued) = (signal_fd(&[SIGWINCH])?, signal_fd(&[SIGCONT])?);
    let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
    let woken = Arc::new(eventfd(0, flags).map_err(|e| Error::system("eventfd", e.into()))?);
    let (news, told) = mpsc::channel();
    let teller = Teller(news, woken.clone());
    let ask = sampler(fleet.clone(), settings.clone(), teller.clone());
    let view = View { sort: settings.sort, ..View::default() };
    let mut top = Top {
        fleet: &fleet,
        teller,
        rows: Vec::new(),
        view,
        chosen: None,
        place: 0,
        first: 0,
        page: 1,
        mode: Mode::Normal,
        details: false,
        message: String::new(),
        watched: false,
        measured: false,
        deeds: Vec::new(),
        plain: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
    };
    let mut before = Before::default();
    let mut screen = Screen::take()?;
    let mut next = Instant::now();
    let (mut asked, mut bytes) = (false, Vec::new());
    let exit = loop {
        if !asked && Instant::now() >= next {
            asked = ask.send(()).is_ok();
        }
        screen.draw(&mut top)?;
        // While one is on its way there is no time to wait for.
        let left = if asked { Duration::from_secs(3600) } else { next.saturating_duration_since(Instant::now()) };
        let ready = wait(&[&term, &int, &hup, &resized, &continued, &woken, &keys], left)?;
        if let Some(signal) = (0..3).find(|at| ready[*at]) {
            break 128 + ends[signal] as u8;
        }
        if ready[3] {
            drain(&resized);
        }
        if ready[4] {
            drain(&continued);
            screen.again()?;
        }
        if ready[5] {
            drain(&woken);
            let (measured, said) = take_news(&mut top, &told, &mut before)?;
            if measured {
                asked = false;
                next = Instant::now().max(next + settings.every);
            }
            if said {
                // What was done to a kernel is seen at once.
                next = Instant::now();
            }
        }
        match if ready[6] { typed(&mut top, &keys, &mut bytes)? } else { After::Wait } {
            After::Wait => {}
            After::Quit => break 0,
            After::Measure => next = Instant::now(),
            After::Redraw => screen.again()?,
            After::Suspend => screen.lend(|| {
                let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::TSTP);
            })?,
        }
    };
    let deeds = std::mem::take(&mut top.deeds);
    drop(screen);
    // A kernel that was ended to be started again is not left halfway.
    if deeds.iter().any(|deed| !deed.is_finished()) && fleet.talk != Talk::Quiet {
        report(PROGRAM, &Error::new(Class::Interrupted, "waits for what was begun"));
    }
    for deed in deeds {
        let _ = deed.join();
    }
    while let Ok(news) = told.try_recv() {
        if let News::Said(text) = news {
            report(PROGRAM, &Error::new(Class::Tool, text));
        }
    }
    Ok(exit)
}

/// The terminal keys come from: that on standard input, else that of the session.
fn keyboard() -> Result<OwnedFd> {
    let input = std::io::stdin();
    let keys = if rustix::termios::isatty(&input) {
        input.as_fd().try_clone_to_owned()
    } else {
        File::open("/dev/tty").map(OwnedFd::from)
    };
    keys.map_err(|error| Error::system("top: no terminal to read keys from", error))
}

/// The thread that measures whenever it is asked to.
fn sampler(fleet: Arc<Fleet>, settings: Settings, teller: Teller) -> Sender<()> {
    let (ask, asked) = mpsc::channel();
    std::thread::spawn(move || {
        while asked.recv().is_ok() {
            teller.tell(News::Measured(fleet.measured(&settings), Instant::now()));
        }
    });
    ask
}

/// Takes what others told; whether a measurement was among it, and whether something was done.
fn take_news(top: &mut Top<'_>, told: &Receiver<News>, before: &mut Before) -> Result<(bool, bool)> {
    let (mut measured, mut done) = (false, false);
    while let Ok(news) = told.try_recv() {
        match news {
            News::Measured(Ok(rows), at) => {
                top.rows = before.rows(rows, &top.fleet.here, at);
                top.watched = fleet::watch::is_running(&top.fleet.home);
                (top.measured, measured) = (true, true);
            }
            News::Measured(Err(error), _) if is_closed_output(&error) => return Err(error),
            // One that was named is gone.
            News::Measured(Err(error), _) => {
                top.rows.clear();
                top.message = error.to_string();
                measured = true;
            }
            News::Said(text) => (top.message, done) = (text, true),
        }
    }
    top.deeds.retain(|deed| !deed.is_finished());
    Ok((measured, done))
}

/// Takes the keys there are.
fn typed(top: &mut Top<'_>, from: &OwnedFd, bytes: &mut Vec<u8>) -> Result<After> {
    let mut buffer = [0; 1024];
    match rustix::io::read(from, &mut buffer) {
        // The terminal is gone.
        Ok(0) | Err(rustix::io::Errno::IO) => return Ok(After::Quit),
        Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
        Err(error) => return Err(Error::system("terminal", error.into())),
    }
    let mut after = After::Wait;
    for key in keys::take(bytes) {
        match top.key(key) {
            After::Wait => {}
            After::Quit => return Ok(After::Quit),
            other => after = other,
        }
    }
    Ok(after)
}
