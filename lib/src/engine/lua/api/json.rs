//! `JSON`

use super::{Section, row};

pub(super) const JSON: Section = Section {
    title: "JSON",
    about: "Text of other programs as Lua values, and back.",
    values: &[],
    rows: &[
        row("JSON", "", "JSON to and from Lua values."),
        row("JSON.null", "", "JSON's null, where nil would leave nothing.").example("print(JSON.stringify {1, JSON.null, 3})  --> [1,null,3]"),
        row("JSON.parse", "(text) → value", "A Lua value from JSON text. Null is nil.").errors("`usage` for what is no JSON, more than 64 MiB, or more than 1048576 values.").example("print(JSON.parse('{\"a\": [1, 2.5]}').a[2])  --> 2.5"),
        row(
            "JSON.stringify",
            "(value) → string",
            "JSON text of a value. A table with `[1]` is an array, any other an object.",
        ).errors("`usage` for functions, threads, text that is not UTF-8, tables that are both array and object, circular or deeper than 128 levels.").example("print(JSON.stringify {name = 'Ada', tags = {'x'}})  --> {\"name\":\"Ada\",\"tags\":[\"x\"]}"),
    ],
};
