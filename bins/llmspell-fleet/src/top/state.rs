//! What `top` shows, and what keys make of it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use llmspell::error::Result;
use llmspell::fleet::logs::{Filter, Logs};
use llmspell::fleet::metrics::Measured;
use llmspell::fleet::{self, Condition, End, Kernel};
use ratatui::style::Style;
use serde_json::Value;

use super::keys::Key;
use super::rows::{COLUMNS, Row, SORTS, View};
use super::{News, Teller, screen};
use crate::{Fleet, show};

/// Lines of a log that are enough for any screen.
const LOG_LINES: usize = 100;

/// What can be done to a kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
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

pub(super) enum Mode {
    Normal,
    /// The filter is being typed.
    Typing,
    /// A question waits for its answer.
    Sure(Box<(Deed, Kernel)>),
    Help,
}

/// What is shown.
pub(super) struct Top<'a> {
    pub(super) fleet: &'a Arc<Fleet>,
    pub(super) teller: Teller,
    pub(super) rows: Vec<Row>,
    pub(super) view: View,
    /// The kernel under the bar.
    pub(super) chosen: Option<String>,
    /// The place it has, for when it is gone.
    pub(super) place: usize,
    pub(super) first: usize,
    pub(super) page: usize,
    pub(super) mode: Mode,
    pub(super) details: bool,
    pub(super) message: String,
    pub(super) watched: bool,
    pub(super) measured: bool,
    pub(super) deeds: Vec<JoinHandle<()>>,
    pub(super) plain: bool,
}

/// What a key leads to.
pub(super) enum After {
    Wait,
    Measure,
    Redraw,
    Suspend,
    Quit,
}

impl Top<'_> {
    pub(super) fn key(&mut self, key: Key) -> After {
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
    pub(super) fn shown(&self) -> Vec<usize> {
        self.view.order(&self.rows)
    }

    /// The place of the bar among `shown`.
    pub(super) fn selected(&self, shown: &[usize]) -> usize {
        let chosen = self.chosen.as_ref();
        let found = shown.iter().position(|at| chosen.is_some_and(|id| id == self.rows[*at].id()));
        found.unwrap_or(self.place.min(shown.len().saturating_sub(1)))
    }

    pub(super) fn current(&self) -> Option<&Row> {
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
    pub(super) fn heading(&self) -> (String, String) {
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
    pub(super) fn bottom(&self) -> String {
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

    pub(super) fn nothing(&self) -> &'static str {
        match (self.measured, self.rows.is_empty()) {
            (false, _) => "",
            (true, true) => "no kernels; llmspell-fleet spawn CONFIG starts one",
            (true, false) => "no kernel has this",
        }
    }

    /// Everything about the kernel under the bar, and the end of its log.
    pub(super) fn about(&self) -> (Vec<String>, Vec<String>) {
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

    pub(super) fn colour(&self, condition: Condition) -> Style {
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
