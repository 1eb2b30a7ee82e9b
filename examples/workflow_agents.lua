-- Agents as steps: two drafts side by side, then an editor who gets both. The mock provider stands in for models.
--
--   $ llmspell-run examples/workflow_agents.lua
--   editor  Merge: [tea: say it short] and [tea: say it long]
--   short   tea: say it short
--
-- Put `provider/model` of a service of yours in place of mock/echo, which repeats what it is told.

for _, name in ipairs { "short", "long", "editor" } do
  Agent.builder():name(name):model("mock/echo"):build()
end

local essay = Workflow.graph {
  name = "essay",
  steps = {
    { name = "first", type = "agent", agent = "short", input = "{{input.topic}}: say it short" },
    { name = "second", type = "agent", agent = "long", input = "{{input.topic}}: say it long" },
    { name = "final", type = "agent", agent = "editor",
      input = "Merge: [{{step.first.result}}] and [{{step.second.result}}]" },
  },
}

local result = essay:execute { topic = "tea" }
print("editor  " .. result.output.final)

-- What each agent said is in the result, and where scripts look for it in the state.
local key = ":workflow:" .. result.execution_id .. ":agent:short:output"
assert(State.load("custom", key) == result.metadata.extra.agent_outputs.short)
print("short   " .. State.load("custom", key))
