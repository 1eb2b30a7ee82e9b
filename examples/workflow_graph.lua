-- Steps in the order of what they need; those that need nothing of each other run side by side.
--
--   $ llmspell-run examples/workflow_graph.lua
--   12 + 30 = 42
--   workflow circle: steps need each other: hen → egg → hen
--
-- A step needs what it names in depends_on, and the steps whose results its placeholders stand for.

local function calculate(name, input)
  return { name = name, type = "tool", tool = "calculator", input = { input = input } }
end

local sum = Workflow.graph {
  name = "sum",
  steps = {
    { name = "tell", type = "function", parameters = { a = "{{step.a.result.result}}", b = "{{step.b.result.result}}" },
      depends_on = { "total" },
      ["function"] = function(ctx)
        local p = ctx.parameters
        print(("%d + %d = %d"):format(p.a, p.b, ctx.steps.total.result.result))
      end },
    calculate("total", "{{step.a.result.result}} + {{step.b.result.result}}"),
    calculate("a", "3 * 4"),
    calculate("b", "5 * 6"),
  },
}
sum:execute()

local egg = { name = "egg", type = "function", depends_on = "hen", ["function"] = function() end }
local hen = { name = "hen", type = "function", depends_on = "egg", ["function"] = function() end }
local _, problem = pcall(Workflow.graph, { name = "circle", steps = { hen, egg } })
print(problem)
