-- One of several branches, chosen by a condition.
--
--   $ llmspell-run examples/workflow_conditional.lua
--   3 is small
--   30 is large
--   300 is out of range
--
-- A condition is a function, a Lua expression as text, or a table such as { type = "step_succeeded", step = "fetch" }.

local function say(text)
  return { { name = "say", type = "function", parameters = { text = text },
    ["function"] = function(ctx) print(ctx.parameters.text) end } }
end

local sort = Workflow.conditional {
  name = "sort",
  branches = {
    { name = "small", condition = "input.n < 10", steps = say "{{input.n}} is small" },
    { name = "large", condition = function(ctx) return ctx.input.n < 100 end, steps = say "{{input.n}} is large" },
  },
  default_branch = say "{{input.n}} is out of range",
}

for _, n in ipairs { 3, 30, 300 } do sort:execute { n = n } end
