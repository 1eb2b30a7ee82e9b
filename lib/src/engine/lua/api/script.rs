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
        ).example("-- script.lua a b --c=d\nprint(ARGS[0], ARGS[1], ARGS['2'], ARGS.c)  --> t.lua	a	b	d"),
        row("arg", "", "The script's arguments as typed; `arg[0]` is its name. Nil when it was given none.").example("print(arg[1], arg[3], select('#', ...))  --> a	--c=d	3"),
        row(
            "help",
            "([name])",
            "Shows what is known of a function, a tool or a value; the name may be given as a string.",
        ).errors("`not_found` for what is not known.").example("help('Tool.invoke')"),
        row(
            "set_next_input",
            "(text [, replace])",
            "Puts `text` into a new cell below this one, or into this one with `replace`.",
        ).errors("`denied` where the client has no cells.").example("set_next_input('print(1 + 1)')"),
    ],
};
