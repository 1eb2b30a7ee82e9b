//! Arrays of records, tables with the same kind of string keys, as tables for people: HTML and aligned text.

use mlua::{Lua, Table, Value};

use super::{run, show};

/// More rows are counted, not shown.
const MOST_ROWS: usize = 1000;
/// More columns are left out.
const MOST_COLUMNS: usize = 64;
/// A cell of text is cut behind this many characters.
const WIDEST_CELL: usize = 60;

/// What a table for people is made from.
pub(super) struct Records {
    columns: Vec<String>,
    rows: Vec<Vec<Option<Value>>>,
    /// Rows that are not among them.
    more: usize,
}

impl Records {
    /// The records in `value`, if it is a list of such; `columns` are those to show, else all, sorted.
    pub(super) fn of(value: &Value, columns: Option<Vec<String>>) -> Option<Records> {
        let Value::Table(list) = value else { return None };
        let length = list.raw_len();
        if length == 0 || show::has_tostring(list) {
            return None;
        }
        let mut tables = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        for index in 1..=length.min(MOST_ROWS) {
            if run::stopping() {
                return None;
            }
            let Ok(Value::Table(row)) = list.raw_get(index) else { return None };
            if row.raw_len() > 0 || show::has_tostring(&row) {
                return None;
            }
            let before = names.len();
            let mut any = false;
            for pair in row.pairs::<Value, Value>() {
                let Ok((Value::String(name), _)) = pair else { return None };
                any = true;
                names.insert(name.to_string_lossy());
            }
            if !any && before == 0 {
                return None;
            }
            tables.push(row);
        }
        let columns: Vec<_> = columns.unwrap_or_else(|| names.into_iter().collect());
        let columns: Vec<_> = columns.into_iter().take(MOST_COLUMNS).collect();
        let cell = |row: &Table, name: &String| row.raw_get::<Value>(name.as_str()).ok().filter(|cell| !cell.is_nil());
        let rows = tables.iter().map(|row| columns.iter().map(|name| cell(row, name)).collect()).collect();
        Some(Records { columns, rows, more: length.saturating_sub(MOST_ROWS) })
    }

    pub(super) fn html(&self, lua: &Lua) -> String {
        let mut html = String::from("<table>\n<thead><tr>");
        for name in &self.columns {
            html.push_str(&format!("<th>{}</th>", escape(name)));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for cell in row {
                let text = cell.as_ref().map(|cell| show::text(lua, cell)).unwrap_or_default();
                html.push_str(&format!("<td>{}</td>", escape(&text)));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody>\n</table>");
        if self.more > 0 {
            html.push_str(&format!("\n<p>… {} more rows</p>", self.more));
        }
        html
    }

    /// Columns under their names, numbers to the right.
    pub(super) fn text(&self, lua: &Lua) -> String {
        let cells: Vec<Vec<(String, bool)>> =
            self.rows.iter().map(|row| row.iter().map(|cell| text_cell(lua, cell.as_ref())).collect()).collect();
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| cells.iter().map(|row| width(&row[at].0)).max().unwrap_or(0).max(width(&self.columns[at])))
            .collect();
        let line = |cells: &mut dyn Iterator<Item = (&str, bool)>| {
            let padded = cells.zip(&widths).map(|((text, right), column)| {
                let space = " ".repeat(column - width(text));
                if right { space + text } else { text.to_owned() + &space }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let rules: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut lines = vec![
            line(&mut self.columns.iter().map(|name| (name.as_str(), false))),
            line(&mut rules.iter().map(|rule| (rule.as_str(), false))),
        ];
        lines.extend(cells.iter().map(|row| line(&mut row.iter().map(|(text, right)| (text.as_str(), *right)))));
        if self.more > 0 {
            lines.push(format!("… {} more rows", self.more));
        }
        lines.join("\n")
    }
}

/// One line, not too wide, and whether it is a number.
fn text_cell(lua: &Lua, cell: Option<&Value>) -> (String, bool) {
    let Some(cell) = cell else { return (String::new(), false) };
    let text = show::text(lua, cell).replace(['\n', '\r', '\t'], " ");
    let cut = match text.char_indices().nth(WIDEST_CELL) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    };
    (cut, matches!(cell, Value::Integer(_) | Value::Number(_)))
}

/// `text` as HTML shows it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            char => escaped.push(char),
        }
    }
    escaped
}

/// The text of HTML, roughly: without tags, its commonest entities read.
pub(super) fn strip(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        match tag.split_once('>') {
            Some((name, after)) => {
                let name = name.trim_end_matches('/').trim().to_ascii_lowercase();
                if ["br", "/p", "/tr", "/li", "/div", "/h1", "/h2", "/h3", "/h4"].contains(&name.as_str()) {
                    text.push('\n');
                }
                rest = after;
            }
            None => {
                text.push('<');
                rest = tag;
            }
        }
    }
    text.push_str(rest);
    for (entity, char) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", " "), ("&amp;", "&")] {
        text = text.replace(entity, char);
    }
    text.trim().to_owned()
}
