//! The terminal of `top`: taken, drawn on, and given back however the program ends.

use std::io::{Stdout, Write, stdout};

use llmspell::cli::output_error;
use llmspell::error::Result;
use llmspell::fleet::Condition;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{Block, Clear, Widget};

use super::rows::{COLUMNS, Column, Row};
use super::state::{Mode, Top};

/// A terminal in which single keys arrive and the screen is ours.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes it; a panic gives it back before it is told.
    pub(super) fn take() -> Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            before(panic);
        }));
        enter()?;
        Terminal::new(CrosstermBackend::new(stdout())).map(Screen).map_err(output_error).inspect_err(|_| leave())
    }

    pub(super) fn draw(&mut self, top: &mut Top<'_>) -> Result<()> {
        self.0.draw(|frame| draw(top, frame.buffer_mut())).map(drop).map_err(output_error)
    }

    /// Gives it back for as long as `meanwhile` takes.
    pub(super) fn lend(&mut self, meanwhile: impl FnOnce()) -> Result<()> {
        leave();
        meanwhile();
        self.again()
    }

    /// Takes it again, whatever stands there now.
    pub(super) fn again(&mut self) -> Result<()> {
        enter()?;
        self.0.clear().map_err(output_error)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> Result<()> {
    enable_raw_mode().and_then(|()| execute!(stdout(), EnterAlternateScreen, Hide)).map_err(output_error)
}

fn leave() {
    // Where there is no terminal any more there is nothing to give back.
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = stdout().flush();
}

/// The parts of the screen, top to bottom.
struct Parts {
    body: Rect,
    details: Option<Rect>,
    last: u16,
}

fn parts(area: Rect, details: bool) -> Parts {
    let room = area.height.saturating_sub(4);
    let below = if details { room.saturating_sub(room.min(3)).min(room * 2 / 3) } else { 0 };
    let body = Rect { y: area.y + 3, height: room - below, ..area };
    let details = (below > 0).then_some(Rect { y: body.bottom(), height: below, ..area });
    Parts { body, details, last: area.bottom().saturating_sub(1) }
}

fn draw(top: &mut Top<'_>, buffer: &mut Buffer) {
    let area = buffer.area;
    if area.height < 4 || area.width < 20 {
        line(buffer, area.y, "too small", Style::new());
        return;
    }
    let parts = parts(area, top.details);
    top.page = usize::from(parts.body.height.max(1));
    let (head, totals) = top.heading();
    line(buffer, area.y, &head, Style::new().add_modifier(Modifier::BOLD));
    line(buffer, area.y + 1, &totals, Style::new());
    table(top, buffer, parts.body);
    if let Some(part) = parts.details {
        details(top, buffer, part);
    }
    let style = match top.mode {
        Mode::Sure(_) => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
        _ => Style::new(),
    };
    line(buffer, parts.last, &top.bottom(), style);
    if matches!(top.mode, Mode::Help) {
        help(buffer);
    }
}

/// `text` from the left edge, cut at the right one.
fn line(buffer: &mut Buffer, y: u16, text: &str, style: Style) {
    let area = buffer.area;
    if y < area.bottom() {
        buffer.set_stringn(area.x, y, text.replace('\t', " "), area.width.into(), style);
    }
}

/// Which columns fit into `room`, and how wide they are.
pub(super) fn widths(rows: &[&Row], room: usize) -> Vec<(&'static Column, usize)> {
    let mut columns: Vec<(&Column, usize)> = COLUMNS
        .iter()
        .map(|column| {
            let cells = rows.iter().map(|row| row.cell(column).chars().count());
            (column, cells.chain([column.head.len()]).max().unwrap_or(0))
        })
        .collect();
    let sum = |columns: &[(&Column, usize)]| columns.iter().skip(1).map(|(_, width)| width + 1).sum::<usize>();
    let name = columns[0].1.min(12);
    while sum(&columns) + name > room && columns.len() > 1 {
        let Some(last) = (1..columns.len()).max_by_key(|at| columns[*at].0.rank) else { break };
        columns.remove(last);
    }
    columns[0].1 = columns[0].1.min(room - sum(&columns).min(room));
    columns
}

/// Texts to the left, figures to the right.
fn cells(columns: &[(&'static Column, usize)], cell: impl Fn(&'static Column) -> String) -> String {
    let mut text = String::new();
    for (index, (column, width)) in columns.iter().enumerate() {
        let (cell, width) = (cell(column), *width);
        // What was cut says so.
        let cell = match cell.chars().count() {
            count if count > width => cell.chars().take(width.saturating_sub(1)).chain(['+']).collect(),
            _ => cell,
        };
        text += &if index < 2 { format!("{cell:width$} ") } else { format!("{cell:>width$} ") };
    }
    text.truncate(text.trim_end().len());
    text
}

fn table(top: &mut Top<'_>, buffer: &mut Buffer, body: Rect) {
    let shown = top.shown();
    let rows: Vec<&Row> = shown.iter().map(|at| &top.rows[*at]).collect();
    let columns = widths(&rows, body.width.into());
    let head = cells(&columns, |column| column.head.to_owned());
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let wide = usize::from(body.width);
    line(buffer, body.y - 1, &format!("{head:wide$}"), reversed);
    // The column that sorts stands out.
    let mut x = 0;
    for (column, width) in &columns {
        if column.name == COLUMNS[top.view.sort].name {
            let area = Rect { x: body.x + x as u16, y: body.y - 1, width: *width as u16, height: 1 };
            buffer.set_style(
                area.intersection(body.union(area)),
                Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            );
        }
        x += width + 1;
    }
    let selected = top.selected(&shown);
    let height = usize::from(body.height);
    top.first =
        top.first.min(selected).max((selected + 1).saturating_sub(height)).min(rows.len().saturating_sub(height));
    for (at, row) in rows.iter().enumerate().skip(top.first).take(height) {
        let y = body.y + (at - top.first) as u16;
        let text = cells(&columns, |column| row.cell(column));
        let style = top.colour(row.measured.kernel.condition);
        if at == selected {
            line(buffer, y, &format!("{text:wide$}"), style.add_modifier(Modifier::REVERSED));
        } else {
            line(buffer, y, &text, style);
        }
    }
    if rows.is_empty() {
        line(buffer, body.y, top.nothing(), Style::new());
    }
}

fn details(top: &Top<'_>, buffer: &mut Buffer, part: Rect) {
    let title = top.current().map(|row| format!(" {} ", row.id())).unwrap_or_default();
    let rule: String = format!("--{title}{}", "-".repeat(part.width.into()));
    line(buffer, part.y, &rule, Style::new());
    let (about, log) = top.about();
    let room = usize::from(part.height) - 1;
    // The end of the log has at least a third of it.
    let about = &about[..about.len().min(room - (room / 3).min(log.len()))];
    let log = &log[log.len() - log.len().min(room - about.len())..];
    for (at, text) in about.iter().chain(log).enumerate() {
        line(buffer, part.y + 1 + at as u16, text, Style::new());
    }
}

const HELP: [&str; 13] = [
    "Up Down j k   choose a kernel; also PgUp PgDn Home End",
    "Enter         show or hide everything about it",
    "/             show only kernels with this in name, state,",
    "              group, fleet or labels; Esc shows all",
    "P M T N       sort by CPU, memory, uptime, PID",
    "< >           sort by the column to the left, the right",
    "R             the other way round",
    "s             stop the kernel; D kills it",
    "r             restart it, or start it again",
    "Space         measure now",
    "Ctrl-L        draw the screen anew",
    "Ctrl-Z        suspend",
    "q Ctrl-C      quit",
];

fn help(buffer: &mut Buffer) {
    let (area, wide) = (buffer.area, HELP.iter().map(|text| text.len()).max().unwrap_or(0) as u16 + 4);
    let (width, height) = (wide.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let part = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(part, buffer);
    let block = Block::bordered().title(" Keys ").border_set(ratatui::symbols::border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    });
    let inner = block.inner(part);
    block.render(part, buffer);
    for (at, text) in HELP.iter().take(inner.height.into()).enumerate() {
        buffer.set_stringn(
            inner.x + 1,
            inner.y + at as u16,
            text,
            usize::from(inner.width.saturating_sub(1)),
            Style::new(),
        );
    }
}

/// What a state looks like.
pub(super) fn colour(condition: Condition) -> Style {
    let colour = match condition {
        Condition::Ready | Condition::Running => Color::Green,
        Condition::Busy | Condition::Starting | Condition::Stopping => Color::Cyan,
        Condition::Degraded | Condition::Backoff | Condition::Foreign => Color::Yellow,
        Condition::Unhealthy | Condition::CrashLooping | Condition::Dead => Color::Red,
        Condition::Stopped => return Style::new().add_modifier(Modifier::DIM),
    };
    Style::new().fg(colour)
}
