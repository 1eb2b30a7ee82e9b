//! `display`, `Display` and `Progress`

use super::{Section, row};

pub(super) const DISPLAY: Section = Section {
    title: "DISPLAY",
    about: "What a script shows beside text: HTML, images, tables, a line about work under way. A notebook shows it as it is; a terminal gets the text of it.\n\nThe options of all of them: `id`, under which it can be updated, and `metadata`, a table by MIME type.",
    values: &["display", "progress"],
    rows: &[
        row(
            "display",
            "(value [, options]) → display",
            "Shows any value: a table of contents by MIME type as such, a list of records as a table, anything else as `print` would.",
        )
        .example("display {{name = 'Ada', born = 1815}, {name = 'Alan', born = 1912}}"),
        row("Display", "", "Shows a thing of a certain kind."),
        row("Display.text", "(text [, options]) → display", "Shows plain text.").example("Display.text('as it is')"),
        row("Display.html", "(html [, options]) → display", "Shows HTML; its text where there is no browser.")
            .example("Display.html('<b>bold</b>')"),
        row("Display.markdown", "(text [, options]) → display", "Shows Markdown.").example("Display.markdown('# Title')"),
        row("Display.latex", "(text [, options]) → display", "Shows a formula.").example("Display.latex('$e^{i\\\\pi} + 1$')"),
        row(
            "Display.json",
            "(value [, options]) → display",
            "Shows a value as a tree. `expanded` in the options opens it.",
        )
        .errors("`usage` for what `JSON.stringify` does not take.")
        .example("Display.json({answer = 42}, {expanded = true})"),
        row("Display.svg", "(text [, options]) → display", "Shows a drawing.")
            .example("Display.svg('<svg xmlns=\"http://www.w3.org/2000/svg\"><circle r=\"9\"/></svg>')"),
        row(
            "Display.png",
            "(image [, options]) → display",
            "Shows an image: its bytes, or the path of one. `width` and `height` in the options size it.",
        )
        .errors("`usage` for what is no PNG or larger than 32 MiB; `denied` where the policy does not allow reading it.")
        .example("print(pcall(Display.png, 'no image'))"),
        row(
            "Display.table",
            "(rows [, options]) → display",
            "Shows a list of tables with the same kind of keys as a table. `columns` in the options says which, and in which order.",
        )
        .errors("`usage` for any other value.")
        .example("Display.table({{a = 1, b = 2}}, {columns = {'b', 'a'}})"),
        row("Display.update", "(display, value [, options])", "Shows `value` in the place of what was shown; its id will do as well.")
            .example("display('begun', {id = 'state'})\nDisplay.update('state', 'done')"),
        row("Display.clear", "([wait])", "Takes away what was shown so far; with `wait` once something new is shown.")
            .example("Display.clear(true)"),
        row("display.update", "(self, value [, options]) → display", "Shows `value` in its place.")
            .example("display('begun'):update('done')"),
        row("display.id", "", "The id under which it can be updated."),
        row("display.kind", "", "`text`, `html` …; `value` for what `display` has shown."),
        row(
            "Progress",
            "([total [, label]]) → progress",
            "A line about work under way, redrawn in its place ten times a second at most; without `total` it only counts.",
        )
        .example("local p = Progress(3, 'files')\nfor n = 1, 3 do p:update(n) end\np:done()\nprint(p.count)  --> 3"),
        row("progress.update", "(self, count [, label]) → progress", "How far it is, and what about.")
            .example("Progress(10):update(5, 'half'):done()"),
        row("progress.add", "(self [, count]) → progress", "`count` (1) more is done.").example("Progress(10):add():add(9):done()"),
        row("progress.done", "(self) → progress", "It is over; the line stays, with the time it took.")
            .example("Progress():done()"),
        row("progress.text", "(self) → string", "The line.").example("print(Progress(4, 'x'):update(2):text():match('2/4'))  --> 2/4"),
        row("progress.count", "", "How far it is."),
        row("progress.total", "", "How far it is to go."),
        row("progress.label", "", "What stands in front."),
    ],
};
