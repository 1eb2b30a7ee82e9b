//! `Workflow`

use super::{Section, row};

pub(super) const WORKFLOW: Section = Section {
    title: "WORKFLOW",
    about: "Steps one after another, side by side, by condition, in a loop, or in the order of what they need.\n\n\
        A step is a table with `name` and `type`: `tool` with `tool` and `input`; `agent` with `agent` and `input`; `workflow` \
        with `workflow` and perhaps `input`; `function` with `[\"function\"]`, called with a context, and `parameters`. Every \
        step may have `timeout_ms`, `retry_count`, `retry = {attempts, delay_ms, factor, max_delay_ms}`, `on_error` in place \
        of the workflow's `error_strategy`, `when` (a condition), and `undo` (a function or a step). Steps of a graph have \
        `depends_on`; a placeholder for another step's result is such a need too.\n\n\
        In texts of `input` and `parameters` stand `{{step.NAME.result}}`, `{{input.KEY}}`, `{{loop_value}}`, `{{loop_index}}`, \
        `{{shared.KEY}}` and `{{execution_id}}`, also with a path behind: `{{step.read.result.title}}`. A text that is \
        nothing else becomes the value itself. `\\\\{{` stays `{{`.\n\n\
        `error_strategy` is `fail_fast` (the default), `continue`, `retry`, `compensate` (what was done is undone in reverse \
        order), or a table with `type` and, for `retry`, `max_attempts` and `delay_ms`.\n\n\
        A condition is a function called with a context, a Lua expression as text, or a table with `type`: `always`, `never`, \
        `shared_data_equals` (`key`, `value`), `shared_data_exists` (`key`), `step_succeeded`, `step_failed`, \
        `step_result_equals`, `step_result_contains` (`step`, `value` or `text`), `equals` (`left`, `right`), `all`, `any` \
        (`conditions`), `not` (`condition`).\n\n\
        Functions run on the script's thread, one at a time; tools and agents run beside them. A function that is past its \
        `timeout_ms` fails once it returns. After every step its result is \
        kept in the store: an execution that failed, was interrupted or killed goes on behind it with `workflow:resume()` or \
        `execute(input, {resume = true})`. Only the step it was in is done again. Results are in the store, in clear, until \
        the execution has ended well.",
    values: &["workflow", "workflow_builder", "workflow_context"],
    rows: &[
        row("Workflow", "", "Workflows: steps of tools, agents, functions and other workflows.").example(
            "local w = Workflow.builder():sequential():name(\"sum\")\n\
             \x20 :add_step{name = \"add\", type = \"tool\", tool = \"calculator\", input = {input = \"{{input.a}} + {{input.b}}\"}}\n\
             \x20 :add_step{name = \"say\", type = \"function\", parameters = {n = \"{{step.add.result.result}}\"},\n\
             \x20   [\"function\"] = function(ctx) return \"it is \" .. ctx.parameters.n end}\n\
             \x20 :build()\n\
             print(w:execute{a = 2, b = 3}.output) --> it is 5",
        ),
        row("Workflow.builder", "() → workflow_builder", "Makes a workflow call by call."),
        row("Workflow.clear", "()", "Forgets all workflows; those that variables hold can still be executed."),
        row(
            "Workflow.conditional",
            "(definition) → workflow",
            "A workflow that runs the first branch whose condition holds: `{name, branches = {{condition, steps}, …}, default_branch}`, or `{name, condition, then_steps, else_steps}`; every one that holds with `execute_all_matching`.",
        ),
        row("Workflow.enableDebug", "(on)", "Whether every step is told on standard error."),
        row(
            "Workflow.executions",
            "([name]) → list",
            "Executions in the store, the newest first: `{id, workflow, status, input, began, changed}`. `interrupted`, `failed` and `paused` ones can be resumed.",
        ),
        row("Workflow.forget", "(id) → boolean", "Forgets an execution and what it left; whether there was one."),
        row("Workflow.get", "(id) → workflow | nil", "The workflow of this id or name, while it is in use."),
        row(
            "Workflow.graph",
            "(definition) → workflow",
            "A workflow whose steps run as soon as those they need have ended: `{name, steps, max_concurrency}`.",
        )
        .errors("`usage` for steps that need each other in a circle.")
        .example(
            "local order = {}\n\
             local function f(name, needs) return {name = name, type = \"function\", depends_on = needs,\n\
             \x20 [\"function\"] = function() order[#order + 1] = name end} end\n\
             Workflow.graph{name = \"g\", steps = {f(\"roof\", {\"walls\"}), f(\"walls\", {\"floor\"}), f(\"floor\")}}:execute()\n\
             print(table.concat(order, \" \")) --> floor walls roof",
        ),
        row("Workflow.isDebugEnabled", "() → boolean", "What `Workflow.enableDebug` was told."),
        row("Workflow.list", "() → list", "The workflows in use: `{id, name, type, description}`, by name."),
        row(
            "Workflow.loop",
            "(definition) → workflow",
            "A workflow that runs its steps again and again: `{name, iterator, body, break_conditions, max_iterations}`. The iterator is `{range = {start, end, step}}` (without the end), `{count = n}`, `{collection = list}` or `{while_condition = …}`. Its output is the list of those of the last 1000 passes.",
        )
        .example(
            "local w = Workflow.loop{name = \"l\", iterator = {collection = {\"a\", \"b\"}}, body = {\n\
             \x20 {name = \"up\", type = \"tool\", tool = \"text_manipulator\", input = {operation = \"uppercase\", input = \"{{loop_value}}\"}}}}\n\
             print(JSON.stringify(w:execute().output[2].result)) --> \"B\"",
        ),
        row(
            "Workflow.parallel",
            "(definition) → workflow",
            "A workflow whose branches run side by side: `{name, branches = {{name, steps}, …}, steps, max_concurrency}`; a step of its own is a branch. Its output has the last output of each.",
        ),
        row(
            "Workflow.register",
            "(type, definition) → id",
            "Makes a workflow that is kept until `Workflow.remove`; for steps that name it by its id.",
        ),
        row("Workflow.remove", "(id) → boolean", "Forgets a workflow; whether there was one."),
        row(
            "Workflow.sequential",
            "(definition) → workflow",
            "A workflow that runs its steps one after another: `{name, steps, description, error_strategy, timeout_ms, shared_data, checkpoint}`.",
        ),
        row(
            "Workflow.setDefaultErrorHandler",
            "(function(error, report))",
            "Is called when a workflow fails that has no handler of its own.",
        ),
        row("Workflow.types", "() → list", "`sequential`, `parallel`, `conditional`, `loop`, `graph`."),
        row("workflow.clear_outputs", "(self) → table", "Forgets what the last execution left: `{deleted}`."),
        row("workflow.debug", "(self) → table", "Steps, metrics and the last execution."),
        row(
            "workflow.execute",
            "(self [, input [, options]]) → table",
            "Runs it: `{text, success, output, outputs, errors, execution_id, media, tool_calls, metadata = {execution_time_ms, extra}}`. `outputs` has what each step came to; `metadata.extra` the counts, and `agent_outputs`. They are also in the state: `State.load(\"custom\", \":workflow:EXECUTION:agent:NAME:output\")`, for the last 100 executions.\n\nOptions: `id`, an execution of your own name, which goes on where it ended, and once it is done answers the same again; `resume`, to go on with an unfinished one of the same input if there is one; `checkpoint = false`, to keep nothing.",
        )
        .errors("what the step raised that ended it, with its class; `timeout`; `conflict` when the id is at work or is about something else."),
        row("workflow.get_all_outputs", "(self) → table", "The outputs of the last execution, by step."),
        row("workflow.get_execution_id", "(self) → id", "The id of the last execution."),
        row("workflow.get_info", "(self) → table", "`{id, name, type, steps}`."),
        row(
            "workflow.get_metrics",
            "(self) → table",
            "What was counted: `{executions, succeeded, failed, steps, failed_steps, total_ms, last_ms, average_ms, success_rate}`.",
        ),
        row("workflow.get_output", "(self, step) → value", "The output of a step in the last execution."),
        row("workflow.get_shared_data", "(self, key) → value", "What `set_shared_data` was told."),
        row("workflow.get_state", "(self, key) → value", "What `set_state` has kept."),
        row("workflow.id", "", "Its id."),
        row("workflow.list_outputs", "(self) → list", "The names of the steps with an output in the last execution."),
        row("workflow.name", "", "Its name."),
        row("workflow.on_after_execute", "(self, function(report)) → self", "Is called when an execution has ended well."),
        row("workflow.on_before_execute", "(self, function(info)) → self", "Is called before an execution."),
        row("workflow.on_error", "(self, function(error, report)) → self", "Is called when an execution has failed."),
        row(
            "workflow.resume",
            "(self [, id [, options]]) → table",
            "Goes on with an execution behind its last finished step; without an id with the newest unfinished one.",
        )
        .errors("`not_found` when there is none, `conflict` when the workflow has other steps than then."),
        row("workflow.set_shared_data", "(self, key, value)", "A shared value with which executions start."),
        row("workflow.set_state", "(self, key, value) → boolean", "Keeps a value under the workflow's id."),
        row("workflow.type", "", "One of `Workflow.types()`."),
        row("workflow.validate", "(self) → table", "`{valid, workflow_id, warnings, errors}`: tools and steps that are not there."),
        row("workflow_builder.add_branch", "(self, condition | name, steps) → self", "A branch of a conditional or parallel workflow."),
        row("workflow_builder.add_else_step", "(self, step) → self", "A step for when the condition does not hold."),
        row("workflow_builder.add_step", "(self, step) → self", "A step; of a loop, one of its body."),
        row("workflow_builder.add_then_step", "(self, step) → self", "A step for when the condition holds."),
        row("workflow_builder.break_when", "(self, condition) → self", "Ends the loop after a pass in which it holds."),
        row("workflow_builder.build", "(self) → workflow", "The workflow.").errors("`usage`, naming the step and the key that is wrong."),
        row("workflow_builder.checkpoint", "(self, on) → self", "Whether finished steps are kept for `resume`; true unless told."),
        row("workflow_builder.condition", "(self, condition) → self", "The condition of a conditional workflow."),
        row("workflow_builder.conditional", "(self) → self", "Makes it a conditional workflow."),
        row("workflow_builder.description", "(self, text) → self", "What it is for."),
        row("workflow_builder.error_strategy", "(self, strategy) → self", "What becomes of a step that fails."),
        row("workflow_builder.graph", "(self) → self", "Makes it a graph."),
        row("workflow_builder.loop", "(self) → self", "Makes it a loop."),
        row("workflow_builder.loop_condition", "(self, condition) → self", "The same as `with_while`."),
        row("workflow_builder.loop_workflow", "(self) → self", "The same as `loop`."),
        row("workflow_builder.max_concurrency", "(self, n) → self", "Most branches or steps at the same time; 256 unless told."),
        row("workflow_builder.max_iterations", "(self, n) → self", "Most passes of a loop; a million unless told, then it fails."),
        row("workflow_builder.name", "(self, text) → self", "What it is called."),
        row("workflow_builder.parallel", "(self) → self", "Makes it a parallel workflow."),
        row("workflow_builder.sequential", "(self) → self", "Makes it a sequential workflow."),
        row("workflow_builder.timeout_ms", "(self, milliseconds) → self", "How long all of it may take; also a text like `\"5m\"`."),
        row("workflow_builder.with_collection", "(self, list) → self", "Loops over a list, or what a placeholder stands for."),
        row("workflow_builder.with_count", "(self, n) → self", "Loops `n` times."),
        row("workflow_builder.with_range", "(self, {start, end, step}) → self", "Loops over numbers, without the end."),
        row("workflow_builder.with_while", "(self, condition) → self", "Loops as long as it holds, asked before each pass."),
        row("workflow_context.attempt", "", "How often the step was tried, this time included."),
        row("workflow_context.execution_id", "", "The id of the execution."),
        row("workflow_context.input", "", "What the workflow was given."),
        row("workflow_context.loop_index", "", "The number of the pass, from 1."),
        row("workflow_context.loop_value", "", "What the pass is about."),
        row("workflow_context.parameters", "", "The step's `parameters`, placeholders replaced."),
        row("workflow_context.shared", "", "Values that all steps share; they are changed by assignment."),
        row("workflow_context.step", "", "The name of the step."),
        row(
            "workflow_context.steps",
            "",
            "What steps have left, by name: `{result, text, success, error, attempts, duration_ms, …}`.",
        ),
        row("workflow_context.workflow", "", "The name of the workflow."),
    ],
};
