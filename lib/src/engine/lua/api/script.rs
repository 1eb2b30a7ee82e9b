//! What surrounds a script: its arguments, its help.

use super::{Section, row};

pub(super) const SCRIPT: Section = Section {
    title: "THE SCRIPT",
    about: "Its arguments, and help.",
    values: &[],
    rows: &[
        row(
            "ARGS",
            "",
            "The script's arguments: `ARGS[0]` its name, `ARGS[1]` … the plain ones, `ARGS.key` those given as `--key value`. Nil when it was given none.",
        ),
        row("arg", "", "The script's arguments as typed; `arg[0]` is its name. Nil when it was given none."),
        row(
            "help",
            "([name])",
            "Shows what is known of a function, a tool or a value; the name may be given as a string.",
        ),
        row(
            "set_next_input",
            "(text [, replace])",
            "Puts `text` into a new cell below this one, or into this one with `replace`.",
        ),
    ],
};
