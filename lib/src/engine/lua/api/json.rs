//! `JSON`

use super::{Section, row};

pub(super) const JSON: Section = Section {
    title: "JSON",
    about: "Text of other programs as Lua values, and back.",
    values: &[],
    rows: &[
        row("JSON", "", "JSON to and from Lua values."),
        row("JSON.null", "", "JSON's null, where nil would leave nothing."),
        row("JSON.parse", "(text) → value", "A Lua value from JSON text. Null is nil."),
        row(
            "JSON.stringify",
            "(value) → string",
            "JSON text of a value. A table with `[1]` is an array, any other an object.",
        ),
    ],
};
