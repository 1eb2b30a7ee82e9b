//! `top`: the figures of `metrics` on a screen that keeps itself up to date, and the keys that stop and restart.
//!
//! One thread waits: for keys, signals, the next measurement and what the others report. A thread measures, as a kernel
//! that hangs makes that slow; each stop and restart has one of its own.

mod keys;
mod rows;
mod screen;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use llmspell::cli::{Talk, is_closed_output, print, report};
use llmspell::daemon::signal_fd;
use llmspell::error::{Class, Error, Result};
use llmspell::fleet::logs::{Filter, Logs};
use llmspell::fleet::metrics::{Measured, measure};
use llmspell::fleet::{self, Condition, End, Kernel};
use ratatui::style::Style;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::Signal;
use serde_json::{Value, json};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGWINCH};

use keys::Key;
pub(crate) use rows::SORTS;
use rows::{Before, COLUMNS, Row, View};
use screen::Screen;

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

/// Lines of a log that are enough for any screen.
const LOG_LINES: usize = 100;

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

/// What can be done to a kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Stop,
    Kill,
    Restart,
}

impl Deed {
    fn word(self) -> &'static str {
        match self {
            Deed::Stop => "stop",
            Deed::Kill => "kill",
            Deed::Restart => "restart",
        }
    }
}

enum Mode {
    Normal,
    /// The filter is being typed.
    Typing,
    /// A question waits for its answer.
    Sure(Box<(Deed, Kernel)>),
    Help,
}

/// What is shown.
struct Top<'a> {
    fleet: &'a Arc<Fleet>,
    teller: Teller,
    rows: Vec<Row>,
    view: View,
    /// The kernel under the bar.
    chosen: Option<String>,
    /// The place it has, for when it is gone.
    place: usize,
    first: usize,
    page: usize,
    mode: Mode,
    details: bool,
    message: String,
    watched: bool,
    measured: bool,
    deeds: Vec<JoinHandle<()>>,
    plain: bool,
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

/// What a key leads to.
enum After {
    Wait,
    Measure,
    Redraw,
    Suspend,
    Quit,
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

impl Top<'_> {
    fn key(&mut self, key: Key) -> After {
        match key {
            Key::Control('c') => return After::Quit,
            Key::Control('z') => return After::Suspend,
            Key::Control('l') => return After::Redraw,
            Key::Control(_) | Key::Other => return After::Wait,
            _ => {}
        }
        match &mut self.mode {
            Mode::Typing => self.type_filter(key),
            Mode::Sure(_) => {
                if let Mode::Sure(deed) = std::mem::replace(&mut self.mode, Mode::Normal)
                    && matches!(key, Key::Char('y' | 'Y'))
                {
                    let (deed, kernel) = *deed;
                    self.act(deed, kernel);
                }
            }
            Mode::Help => self.mode = Mode::Normal,
            Mode::Normal => return self.command(key),
        }
        After::Wait
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.mode = Mode::Normal,
            Key::Escape => {
                self.view.filter.clear();
                self.mode = Mode::Normal;
            }
            Key::Backspace => drop(self.view.filter.pop()),
            Key::Char(letter) => self.view.filter.push(letter),
            _ => {}
        }
    }

    fn command(&mut self, key: Key) -> After {
        self.message.clear();
        let page = self.page.max(1) as isize;
        match key {
            Key::Char('q') => return After::Quit,
            Key::Char(' ') => return After::Measure,
            Key::Char('?' | 'h') | Key::Help => self.mode = Mode::Help,
            Key::Char('/') => self.mode = Mode::Typing,
            Key::Escape => self.view.filter.clear(),
            Key::Enter => self.details = !self.details,
            Key::Up | Key::Char('k') => self.choose(-1),
            Key::Down | Key::Char('j') => self.choose(1),
            Key::PageUp => self.choose(-page),
            Key::PageDown => self.choose(page),
            Key::Home | Key::Char('g') => self.choose(isize::MIN / 2),
            Key::End | Key::Char('G') => self.choose(isize::MAX / 2),
            Key::Char('P') => self.sort("cpu"),
            Key::Char('M') => self.sort("memory"),
            Key::Char('T') => self.sort("uptime"),
            Key::Char('N') => self.sort("pid"),
            Key::Char('<') => self.view.sort = self.view.sort.saturating_sub(1),
            Key::Char('>') => self.view.sort = (self.view.sort + 1).min(COLUMNS.len() - 1),
            Key::Char('R') => self.view.reverse = !self.view.reverse,
            Key::Char('s') => self.ask(Deed::Stop),
            Key::Char('D') => self.ask(Deed::Kill),
            Key::Char('r') => self.ask(Deed::Restart),
            _ => {}
        }
        After::Wait
    }

    fn sort(&mut self, name: &str) {
        self.view.sort = SORTS.iter().find(|(known, _)| *known == name).map_or(0, |(_, at)| *at);
    }

    /// Places of the rows that are shown, in their order.
    fn shown(&self) -> Vec<usize> {
        self.view.order(&self.rows)
    }

    /// The place of the bar among `shown`.
    fn selected(&self, shown: &[usize]) -> usize {
        let chosen = self.chosen.as_ref();
        let found = shown.iter().position(|at| chosen.is_some_and(|id| id == self.rows[*at].id()));
        found.unwrap_or(self.place.min(shown.len().saturating_sub(1)))
    }

    fn current(&self) -> Option<&Row> {
        let shown = self.shown();
        shown.get(self.selected(&shown)).map(|at| &self.rows[*at])
    }

    fn choose(&mut self, by: isize) {
        let shown = self.shown();
        let last = shown.len().saturating_sub(1);
        self.place = self.selected(&shown).saturating_add_signed(by).min(last);
        self.chosen = shown.get(self.place).map(|at| self.rows[*at].id().to_owned());
    }

    fn ask(&mut self, deed: Deed) {
        let Some(row) = self.current() else { return };
        let kernel = row.measured.kernel.clone();
        // The bar stays at what was asked about.
        self.chosen = Some(kernel.id.clone());
        match kernel.condition {
            Condition::Foreign => self.message = format!("{}: {}", kernel.id, kernel.reason),
            _ if kernel.stat.is_none() && deed != Deed::Restart => {
                self.message = format!("{}: does not run", kernel.id);
            }
            _ => self.mode = Mode::Sure(Box::new((deed, kernel))),
        }
    }

    fn act(&mut self, deed: Deed, kernel: Kernel) {
        self.message = format!("{}: {} ...", kernel.id, deed.word());
        let (fleet, teller) = (Arc::clone(self.fleet), self.teller.clone());
        self.deeds.push(std::thread::spawn(move || {
            let said = done(&fleet, deed, &kernel);
            teller.tell(News::Said(said.unwrap_or_else(|error| match error.next_step() {
                Some(hint) => format!("{error}. {hint}"),
                None => error.to_string(),
            })));
        }));
    }

    /// What stands above the table.
    fn heading(&self) -> (String, String) {
        let states: Vec<String> = Condition::ALL
            .iter()
            .map(|state| (self.rows.iter().filter(|row| row.measured.kernel.condition == *state).count(), state.name()))
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
        let kernels = if self.rows.len() == 1 { "kernel" } else { "kernels" };
        let watch = if self.watched { "a watch runs" } else { "no watch runs" };
        let head = match self.measured {
            true => format!("llmspell-fleet top - {} {kernels}{states}; {watch}", self.rows.len()),
            false => "llmspell-fleet top - asking the kernels".to_owned(),
        };
        let sum = |field: &str| {
            self.rows.iter().filter_map(|row| row.numbers.get(field).and_then(Value::as_f64)).sum::<f64>()
        };
        let totals = format!(
            "CPU {:.1}%  memory {}  clients {:.0}  executions {:.0}",
            sum("cpu_percent"),
            show::memory(sum("rss_bytes") as u64),
            sum("clients"),
            sum("executions")
        );
        (head, totals)
    }

    /// What stands below it: a question, the filter, a message, or what the keys do.
    fn bottom(&self) -> String {
        match &self.mode {
            Mode::Sure(deed) => {
                let pid = deed.1.pid().map(|pid| format!(" (PID {pid})")).unwrap_or_default();
                format!("{} {}{pid}? y/n ", deed.0.word(), deed.1.id)
            }
            Mode::Typing => format!("filter: {}_", self.view.filter),
            _ if !self.message.is_empty() => self.message.clone(),
            _ if !self.view.filter.is_empty() => format!("filter: {}   Esc shows all", self.view.filter),
            _ => "q quit  ? keys  Enter details  / filter  P M T N sort  s stop  r restart".to_owned(),
        }
    }

    fn nothing(&self) -> &'static str {
        match (self.measured, self.rows.is_empty()) {
            (false, _) => "",
            (true, true) => "no kernels; llmspell-fleet spawn CONFIG starts one",
            (true, false) => "no kernel has this",
        }
    }

    /// Everything about the kernel under the bar, and the end of its log.
    fn about(&self) -> (Vec<String>, Vec<String>) {
        let Some(row) = self.current() else { return (Vec::new(), Vec::new()) };
        let Measured { kernel, answers, .. } = &row.measured;
        let text = show::status(kernel, answers, &self.fleet.here, &self.fleet.home, self.watched);
        // The first line is its name, which stands above already.
        let about = text.lines().skip(1).map(str::to_owned).collect();
        let ids = [kernel.id.clone()];
        let log = Logs::open(&self.fleet.home, Some(&ids), Filter::default()).and_then(|mut logs| logs.last(LOG_LINES));
        let lines = log.unwrap_or_default().into_iter().map(|line| line.text).collect();
        (about, lines)
    }

    fn colour(&self, condition: Condition) -> Style {
        if self.plain { Style::new() } else { screen::colour(condition) }
    }
}

/// Does what was asked for, and says what came of it.
fn done(fleet: &Fleet, deed: Deed, kernel: &Kernel) -> Result<String> {
    let (id, grace) = (&kernel.id, if deed == Deed::Kill { Duration::ZERO } else { crate::cli::GRACE });
    if deed == Deed::Restart {
        let (_, spawned) = fleet::restart(&fleet.home, &fleet.here, kernel, grace, crate::cli::START)?;
        return Ok(format!("{id}: runs with PID {}", spawned.ready.pid));
    }
    let mut ended = Ok(End::NotRunning);
    let kernels = std::slice::from_ref(kernel);
    fleet::stop(&fleet.home, &fleet.here, kernels, grace, &mut |_, end| ended = end);
    Ok(match ended? {
        End::NotRunning => format!("{id}: did not run"),
        End::Asked => format!("{id}: stopped"),
        End::Killed => format!("{id}: killed"),
    })
}
