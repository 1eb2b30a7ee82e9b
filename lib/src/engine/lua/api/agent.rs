//! `Agent`, builders, agents, and runs that were begun.

use super::{Section, row};

pub(super) const AGENT: Section = Section {
    title: "AGENT",
    about: "An agent is a model with instructions, tools and a conversation. Asked something, it asks its model, does the calls of \
            tools the model wants, tells the model what came of them, and so on until the model answers.\n\n\
            A model can call what its agent was allowed, nothing else. What writes files, runs programs, sends or changes the \
            system waits for a person first, unless `approval` says otherwise. Errors of tools go back to the model. Results \
            of tools are marked as data for it, and cut where they are long. Control characters in answers are made visible.\n\n\
            An agent that was asked under an id, `agent:invoke(input, {run = \"id\"})`, goes on where it was when it is asked \
            the same again, also after `kill -9`: no answer and no call is paid or done twice. What was under way then is not \
            done again, as nobody knows whether it was done; the model is told so. Runs are kept for 30 days.",
    values: &["agent", "agent_builder", "pending"],
    rows: &[
        row("Agent", "", "Agents: models with instructions, tools and a conversation."),
        row(
            "Agent.builder",
            "() → agent_builder",
            "Begins an agent: setters that can be chained, and `build` at the end.",
        )
        .example("local agent = Agent.builder():name(\"parrot\"):model(\"mock/echo\"):build()\nprint(agent:invoke(\"hello\").text) --> hello"),
        row(
            "Agent.create",
            "(settings) → agent",
            "Makes an agent of a table with what the setters of a builder set.",
        )
        .errors("`conflict` when there is one of that name, `usage` for wrong settings, `not_found` for an unknown model or tool.")
        .example("local agent = Agent.create{name = \"a\", model = \"mock/echo\", tools = {\"calculator\"}}\nprint(agent:has_tool(\"calculator\")) --> true"),
        row("Agent.get", "(name) → agent | nil", "The agent of that name."),
        row("Agent.list", "() → list", "`{name, description, model, state}` of every agent there is."),
        row("Agent.list_instances", "() → list", "The names of the agents there are."),
        row("Agent.register", "(settings) → name", "As `Agent.create`, also with tables of v0.10; answers the name."),
        row(
            "Agent.invoke_all",
            "({{agent, input [, options]}, …} [, {max_concurrent = n}]) → list",
            "Asks many agents, or one many things, side by side (128 at most unless said), each without the conversation. The \
             results are in the order of the questions; `success` is false where one failed, with `error`.",
        )
        .example("local a = Agent.create{name = \"a\", model = \"mock/echo\"}\nlocal r = Agent.invoke_all{{a, \"one\"}, {a, \"two\"}}\nprint(r[1].text, r[2].text) --> one\ttwo"),
        row(
            "Agent.create_composite",
            "(name, agents [, settings]) → agent",
            "An agent that has others as its tools; with the model of the first unless `settings` name one.",
        ),
        row(
            "Agent.wrap_as_tool",
            "(name [, {tool_name, description}]) → tool name",
            "Makes an agent a tool of everybody: `Tool.invoke(tool, {input = …})`, workflows, clients of the kernel.",
        )
        .errors("`conflict` when a tool of this build has that name."),
        row("Agent.list_templates", "() → list", "Names of the kinds of agents that are ready to be made."),
        row("Agent.discover", "() → list", "`{type, description}` of these kinds."),
        row("Agent.get_info", "(template) → table", "What such a kind is: description, instructions, settings."),
        row(
            "Agent.create_from_template",
            "(name, template [, settings]) → agent",
            "Makes one; `settings` go before those of the template.",
        ),
        row("Agent.get_details", "(name) → table", "State, configuration, metrics of an agent."),
        row("Agent.get_hierarchy", "(name) → table", "Its agents that are tools, and theirs: `{root = {name, children}}`."),
        row("Agent.list_capabilities", "() → table", "What each agent can do, by name."),
        row(
            "Agent.discover_by_capability",
            "(capability) → list",
            "Names of agents that can do it: `streaming`, `tools`, `context`, `composite`, `structured_output`, a tool's name, or \
             a word of name and description.",
        ),
        row(
            "Agent.create_context",
            "([config]) → id",
            "Makes a context, data that agents are told: `{conversation_id, user_id, session_id, scope, data}`.",
        ),
        row(
            "Agent.create_child_context",
            "(parent, scope, inheritance) → id",
            "One below it, that sees (`inherit`), copies (`copy`), is (`share`) or does not see (`isolate`) its data.",
        ),
        row("Agent.update_context", "(id, key, value)", "Keeps a value in a context."),
        row("Agent.get_context_data", "(id, key) → value", "A value of a context, its own or inherited.")
            .errors("`not_found` for an unknown context."),
        row("Agent.remove_context", "(id)", "Forgets a context."),
        row(
            "Agent.set_shared_memory",
            "(scope, key, value)",
            "Keeps a value for the life of the process. A scope is `{type = \"global\"}`, or one of `session`, `workflow`, \
             `agent`, `user` with an `id`.",
        ),
        row("Agent.get_shared_memory", "(scope, key) → value", "The value kept there."),
        row(
            "Agent.runs",
            "() → list",
            "Runs that are kept, of agents and workflows, newest first: `{id, kind, status, agent, error, began, changed}`. \
             The status is `running`, `paused`, `failed` or `done`; one that was killed is still `running`.",
        ),
        row("Agent.forget_run", "(id) → boolean", "Forgets a run and all that is kept of it."),
        row(
            "Agent.approvals",
            "() → list",
            "Calls that wait for a person: `{id, agent, tool, arguments, run, asked}`. `llmspell-kernel approvals` shows them too.",
        ),
        row(
            "Agent.approve",
            "(id [, parameters]) → table",
            "Allows a call, with other parameters if there are any; the first letters of the id will do.",
        )
        .errors("`not_found` when no such call waits, `conflict` when it was decided on before."),
        row("Agent.deny", "(id [, reason]) → table", "Refuses a call; the model is told the reason."),
        // The builder
        row("agent_builder.build", "(self) → agent", "Makes the agent. No model is asked yet.")
            .errors("As `Agent.create`."),
        row("agent_builder.name", "(self, name) → self", "Its name; `agent_` and eight digits without."),
        row("agent_builder.description", "(self, text) → self", "What it is for, in a sentence; other agents read it."),
        row(
            "agent_builder.model",
            "(self, name) → self",
            "Its model, `provider/model`; the configured one without. `mock/echo` repeats what it is told.",
        ),
        row("agent_builder.provider", "(self, name) → self", "The provider of a model that was named without."),
        row("agent_builder.system_prompt", "(self, text) → self", "Its instructions."),
        row("agent_builder.temperature", "(self, number) → self", "0 is dull, 2 wild."),
        row("agent_builder.top_p", "(self, number) → self", "Nucleus sampling, from 0 to 1."),
        row("agent_builder.max_tokens", "(self, count) → self", "Most tokens of one answer of the model."),
        row("agent_builder.stop", "(self, texts) → self", "Texts that end an answer."),
        row("agent_builder.seed", "(self, number) → self", "For answers that repeat, as far as the service can."),
        row("agent_builder.effort", "(self, word) → self", "How much it thinks: `low`, `medium`, `high` and what its service knows."),
        row(
            "agent_builder.schema",
            "(self, schema) → self",
            "Its answer is JSON of this JSON Schema; the result's `data` is the value.",
        ),
        row("agent_builder.extra", "(self, members) → self", "More members of each request, as its service knows them."),
        row(
            "agent_builder.tools",
            "(self, list) → self",
            "What it may call: names of tools (`\"*\"` is all), agents, and functions of the script as `{name, description, \
             parameters, handler}`. `parameters` is a JSON Schema, or short `{city = \"which city\"}`. `repeatable = true` \
             says that a call may be done again when nobody knows whether it was done.",
        )
        .example("local add = {name = \"add\", description = \"adds\", parameters = {a = {type = \"number\"}, b = {type = \"number\"}},\n  handler = function(p) return p.a + p.b end}\nlocal model = [[mock/{\"replies\": [{\"tool_calls\": [{\"name\": \"add\", \"arguments\": {\"a\": 2, \"b\": 3}}]}, \"five\"]}]]\nlocal agent = Agent.builder():name(\"adder\"):model(model):tools{add}:build()\nprint(agent:invoke(\"2+3?\").text) --> five"),
        row("agent_builder.allowed_tools", "(self, list) → self", "The same as `tools`; what is in both is allowed."),
        row("agent_builder.allow_tool", "(self, tool) → self", "Allows one more."),
        row("agent_builder.tool", "(self, tool) → self", "The same as `allow_tool`."),
        row(
            "agent_builder.approval",
            "(self, how) → self",
            "What happens when a call needs a person. `\"pause\"`: the run ends, and goes on when it is asked again. `\"wait\"`: \
             it waits until somebody decides. `\"ask\"`: the user of the script is asked.\n\nWhich calls do: a rule for all, or \
             a table with a rule for each tool, one as `default`, and the `mode`. Rules are `by_effect` (what writes, runs, \
             sends or changes the system), `never`, `always`, `deny`, or a function that gets `{agent, tool, arguments, id}` \
             and answers true, false, a reason against it, other parameters, or nil for a person to decide.",
        ),
        row("agent_builder.approve", "(self, tool, rule) → self", "A rule for one tool, as in `approval`."),
        row("agent_builder.max_execution_time", "(self, time) → self", "Most time of a run: seconds, or `\"5m\"` (300 s)."),
        row("agent_builder.max_turns", "(self, count) → self", "Most answers of the model in a run (20); then it is `budget`."),
        row("agent_builder.max_tool_calls", "(self, count) → self", "Most calls in a run (100); then it is `budget`."),
        row("agent_builder.max_parallel_tools", "(self, count) → self", "Calls at the same time (4)."),
        row("agent_builder.max_recursion_depth", "(self, count) → self", "How deep agents may call each other (10)."),
        row("agent_builder.max_result_bytes", "(self, count) → self", "Bytes of a tool's result that the model gets (16384)."),
        row("agent_builder.tool_timeout", "(self, time) → self", "Most time of a call; that of the configuration without."),
        row(
            "agent_builder.context_window",
            "(self, tokens) → self",
            "Tokens of a request from which on the conversation is made to fit. They are estimated from the text, four bytes of \
             ASCII or one other character each, corrected by what the service counted before.",
        ),
        row(
            "agent_builder.overflow",
            "(self, how) → self",
            "`\"trim\"` leaves the oldest out, `\"summarise\"` has the model make a summary of it, `\"error\"` fails.",
        ),
        row("agent_builder.max_conversation_length", "(self, count) → self", "Most messages that are remembered (100)."),
        row("agent_builder.resource_limits", "(self, table) → self", "`{max_execution_time_secs, max_tool_calls, max_recursion_depth}` of v0.10."),
        row("agent_builder.custom_config", "(self, table) → self", "`{system_prompt, max_conversation_length}` of v0.10."),
        row("agent_builder.agent_type", "(self, name) → self", "`\"basic\"` repeats what it is told, where no model is named."),
        row("agent_builder.type", "(self, name) → self", "Taken from scripts of v0.10; changes nothing."),
        row("agent_builder.max_memory_mb", "(self, count) → self", "Taken from scripts of v0.10; an agent has no memory of its own to limit."),
        row("agent_builder.base_url", "(self, url) → self", "Not here: it is the provider's, in the configuration."),
        row("agent_builder.api_key", "(self, key) → self", "Not here: it is the provider's, in the configuration."),
        // Agents
        row("agent.name", "", "Its name."),
        row(
            "agent.invoke",
            "(self, input [, options]) → table",
            "Asks it. Input is text, or `{text, parameters, media}` with pictures and documents as `{base64, format}` or \
             `{base64, mime, name}`.\n\nThe result has `text`, `data` where that is JSON, and `metadata`: `model`, `usage`, \
             `cost_usd`, `turns`, `tool_calls`, `tool_errors`, `execution_time_ms`, `context_tokens`, `finish_reason`, `run`. \
             Where calls wait for a person, `paused` is true, and there are `run` and `approvals`.\n\nOptions: `run` (an id to \
             go on under), `timeout`, `stream` (writes the answer as it comes), `on_chunk` and `on_event` (functions), `fresh` \
             (without the conversation), `context` (an id).",
        )
        .errors("`budget`, `timeout`, what its model says, `conflict` when it is paused or terminated."),
        row("agent.execute", "(self, input [, options]) → table", "The same as `invoke`."),
        row("agent.run", "(self, input [, options]) → table", "The same as `invoke`."),
        row(
            "agent.invokeStream",
            "(self, input [, function(chunk) [, options]]) → table",
            "Asks it, and calls the function with each piece of the answer as it comes: `{type, agent, text, index}`. Without a \
             function the answer is written. The result has `success` and `chunks_received` besides.",
        )
        .example("local agent = Agent.create{name = \"p\", model = \"mock/echo\"}\nlocal r = agent:invokeStream(\"one two\", function(chunk) print(chunk.index, chunk.text) end)\nprint(r.chunks_received)\n--> 1\tone \n--> 2\ttwo\n--> 2"),
        row("agent.execute_streaming", "(self, input [, function [, options]]) → table", "The same as `invokeStream`."),
        row(
            "agent.execute_async",
            "(self, input [, options]) → pending",
            "Begins a run and does not wait for it. Functions of the script that it needs are called while it is awaited.",
        )
        .example("local agent = Agent.create{name = \"p\", model = \"mock/echo\"}\nlocal one = agent:execute_async(\"later\")\nprint(one:await().text) --> later"),
        row("agent.invoke_async", "(self, input [, options]) → pending", "The same as `execute_async`."),
        row(
            "agent.resume_run",
            "(self, id [, options]) → table",
            "Goes on with a run that paused or was cut off, with what it was asked then.",
        )
        .errors("`not_found` for an unknown run, `conflict` while somebody works on it."),
        row("agent.execute_with_context", "(self, input, context [, options]) → table", "Asks it, and tells it the data of a context."),
        row("agent.invokeTool", "(self, name, params) → table", "Calls a tool for the script, as `Tool.invoke`."),
        row("agent.discover_tools", "(self) → list", "The names of what it may call."),
        row("agent.has_tool", "(self, name) → boolean", "Whether it may call that."),
        row("agent.get_tool_metadata", "(self, name) → table | nil", "`{name, description, version}` of one of its tools."),
        row("agent.get_all_tool_metadata", "(self) → table", "The same of all of them, by name."),
        row(
            "agent.get_state",
            "(self) → string",
            "`Uninitialized`, `Ready`, `Running`, `Paused`, `Error` or `Terminated`. Only in the last three it takes no work.",
        ),
        row("agent.get_agent_state", "(self) → string", "The same as `get_state`."),
        row("agent.initialize", "(self)", "From `Uninitialized` to `Ready`.").errors("`usage` from another state, as all that follow."),
        row("agent.start", "(self)", "From `Ready` or `Paused` to `Running`."),
        row("agent.pause", "(self)", "To `Paused`: it takes no work."),
        row("agent.resume", "(self)", "From `Paused` to `Running`."),
        row("agent.stop", "(self)", "From `Running` or `Paused` to `Ready`."),
        row("agent.terminate", "(self)", "To `Terminated`: it never takes work again."),
        row("agent.recover", "(self)", "From `Error` to `Ready`."),
        row("agent.set_error", "(self, message)", "To `Error`: it takes no work until it recovers."),
        row("agent.get_state_history", "(self) → list", "The last 100 changes: `{from, to, timestamp, elapsed, reason}`."),
        row("agent.get_state_metrics", "(self) → table", "`{current_state, total_transitions, recovery_attempts, uptime}`."),
        row("agent.get_last_error", "(self) → string | nil", "What went wrong last, unless something went right since."),
        row("agent.get_recovery_attempts", "(self) → integer", "How often it recovered."),
        row("agent.is_healthy", "(self) → boolean", "Whether it takes work and its last run did not fail."),
        row("agent.get_health", "(self) → table", "`{status, state, last_error, success_rate, timestamp}`."),
        row(
            "agent.get_metrics",
            "(self) → table",
            "What was counted and measured since it was made: `total_executions`, `successful`, `failed`, `paused`, \
             `interrupted`, `active`, rates, times, `turns`, `tool_calls`, `tool_errors`, `usage`, `cost_usd`. Rates and means \
             of nothing are nil.",
        ),
        row("agent.get_performance", "(self) → table", "The same as `get_metrics`."),
        row("agent.get_bridge_metrics", "(self) → table", "`{active_agents, total_tools, performance}`."),
        row("agent.get_config", "(self) → table", "Its settings."),
        row("agent.get_info", "(self) → table", "The same as `Agent.get_details`."),
        row("agent.get_id", "(self) → string", "Its name."),
        row("agent.get_history", "(self) → list", "The conversation: `{role, text, parts}` each."),
        row("agent.set_history", "(self, list)", "Makes it the conversation; `{role, text}` will do."),
        row("agent.reset", "(self)", "Forgets the conversation."),
        row("agent.save_state", "(self)", "Keeps conversation and settings in the store, under its name."),
        row("agent.load_state", "(self) → boolean", "Takes the kept conversation; whether there was one."),
        row("agent.delete_state", "(self)", "Forgets what was kept."),
        row("agent.logEvent", "(self, type, message)", "Writes a line into the log."),
        row("agent.set_state", "(self)", "Not here."),
        row("agent.configure_alerts", "(self)", "Not here."),
        row("agent.get_alerts", "(self)", "Not here."),
        row("agent.destroy", "(self)", "Forgets the agent.").errors("`not_found` when it is gone already."),
        row("pending.await", "(self) → table", "Waits for a run that was begun; its result, as of `agent.invoke`.")
            .errors("What the run failed with."),
        row("pending.is_done", "(self) → boolean", "Whether it has ended."),
        row("pending.cancel", "(self)", "Ends it; awaiting it raises `interrupted`."),
    ],
};
