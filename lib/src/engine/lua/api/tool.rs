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
        row("Tool.categories", "() → list", "The categories of the tools, sorted.").example("print(type(Tool.categories()[1]))  --> string"),
        row(
            "Tool.discover",
            "([filter]) → list",
            "Tools of a category, or `{category = …, tag = …}`; the tag is looked for in the description.",
        ).example("print(Tool.discover({category = 'utility'})[1].category)  --> utility\nprint(#Tool.discover({tag = 'no such word'}))  --> 0"),
        row("Tool.execute", "(name, params [, options]) → table", "The same as `Tool.invoke`.").example("print(Tool.execute('calculator', {input = '2+2'}).success)  --> true"),
        row("Tool.exists", "(name) → boolean", "Whether there is such a tool.").example("print(Tool.exists('calculator'), Tool.exists('time_machine'))  --> true	false"),
        row("Tool.get", "(name) → tool | nil", "A tool as a table that can be called.").example("local calculator = Tool.get('calculator')\nprint(calculator:execute({input = '6*7'}).result.result)  --> 42"),
        row("Tool.info", "(name) → table", "All about a tool: summary, parameters, schema, examples.").errors("`not_found` for no such tool, `absent` for one of other builds.").example("print(Tool.info('calculator').parameters[1].name)"),
        row(
            "Tool.invoke",
            "(name, params [, options]) → table",
            "Runs a tool: `{operation, success, result, …}`. A tool that says no gives `success = false` and `error`; wrong parameters and what the policy denies raise.\n\nOptions: `timeout` (seconds or `\"5s\"`), `on_progress` (a function that gets lines).",
        ).errors("`usage` for wrong parameters, `denied` by the policy, `timeout`, `not_found` for no such tool, `absent` for one of other builds.").example("local r = Tool.invoke('calculator', {input = '2+3*4'}, {timeout = '5s'})\nprint(r.success, r.result.result)  --> true	14\nlocal no = Tool.invoke('calculator', {input = '2+'})\nprint(no.success, no.error.class)  --> false	tool"),
        row("Tool.list", "([category]) → list", "`{name, description, category, level}` of every tool.").errors("`not_found` for no such category.").example("print(#Tool.list() > 10, Tool.list('utility')[1].category)  --> true	utility"),
        row(
            "Tool.search",
            "(words [, category]) → list",
            "Tools whose name, summary or parameters hold the words, best first.",
        ).errors("`not_found` for no such category.").example("print(Tool.search('uuid')[1].name)  --> uuid_generator"),
        row("Tool.test", "(name) → list", "Runs a tool's examples: `{title, passed, message}` each.").errors("`not_found` for no such tool, `absent` for one of other builds.").example("for _, case in ipairs(Tool.test('calculator')) do assert(case.passed, case.message) end"),
        row("tools", "", "The same table as `Tool`.").example("print(tools == Tool)  --> true"),
        row("tool.category", "", "Its category."),
        row("tool.description", "", "What it does, in a sentence."),
        row("tool.execute", "(self, params [, options]) → table", "Runs the tool, as `Tool.invoke`.").example("print(Tool.calculator:execute({input = '1+1'}).result.result)  --> 2"),
        row("tool.getSchema", "() → table", "The JSON Schema of its parameters.").example("print(Tool.calculator.getSchema().type)  --> object"),
        row("tool.invoke", "(params [, options]) → table", "Runs the tool, as `Tool.invoke`.").example("print(Tool.calculator.invoke({input = '1+1'}).result.result)  --> 2"),
        row("tool.name", "", "Its name."),
        row("tool.schema", "", "The JSON Schema of its parameters."),
        row("tool.version", "", "Its version."),
    ],
};
