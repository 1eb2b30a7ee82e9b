//! `Tool`, which is also called `tools`, and the tools themselves.

use super::{Section, row};

pub(super) const TOOL: Section = Section {
    title: "TOOL",
    about: "The tools of this build; llmspell-tools(7) tells of each. `tools` is the same table.",
    values: &["tool"],
    rows: &[
        row(
            "Tool",
            "",
            "The tools of this kernel. `Tool.calculator{input = \"2+2\"}` calls one; `Tool.list()` tells which there are.",
        ),
        row("Tool.categories", "() → list", "The categories of the tools, sorted."),
        row(
            "Tool.discover",
            "([filter]) → list",
            "Tools of a category, or `{category = …, tag = …}`; the tag is looked for in the description.",
        ),
        row("Tool.execute", "(name, params [, options]) → table", "The same as `Tool.invoke`."),
        row("Tool.exists", "(name) → boolean", "Whether there is such a tool."),
        row("Tool.get", "(name) → tool | nil", "A tool as a table that can be called."),
        row("Tool.info", "(name) → table", "All about a tool: summary, parameters, schema, examples."),
        row(
            "Tool.invoke",
            "(name, params [, options]) → table",
            "Runs a tool: `{operation, success, result, …}`. A tool that says no gives `success = false` and `error`; wrong parameters and what the policy denies raise.\n\nOptions: `timeout` (seconds or `\"5s\"`), `on_progress` (a function that gets lines).",
        ),
        row("Tool.list", "([category]) → list", "`{name, description, category, level}` of every tool."),
        row(
            "Tool.search",
            "(words [, category]) → list",
            "Tools whose name, summary or parameters hold the words, best first.",
        ),
        row("Tool.test", "(name) → list", "Runs a tool's examples: `{title, passed, message}` each."),
        row("tools", "", "The same table as `Tool`."),
        row("tool.category", "", "Its category."),
        row("tool.description", "", "What it does, in a sentence."),
        row("tool.execute", "(self, params [, options]) → table", "Runs the tool, as `Tool.invoke`."),
        row("tool.getSchema", "() → table", "The JSON Schema of its parameters."),
        row("tool.invoke", "(params [, options]) → table", "Runs the tool, as `Tool.invoke`."),
        row("tool.name", "", "Its name."),
        row("tool.schema", "", "The JSON Schema of its parameters."),
        row("tool.version", "", "Its version."),
    ],
};
