-- The same steps again and again: for each item of a list, and as long as a condition holds.
--
--   $ llmspell-run examples/workflow_loop.lua
--   1 LUA
--   2 RUST
--   27 takes 111 steps to 1
--
-- Other loops: with_count(n), with_range{start, ["end"], step}; break_when(condition) ends one after a pass.

local list = Workflow.builder():loop():name("list")
  :with_collection { "lua", "rust" }
  :add_step { name = "upper", type = "tool", tool = "text_manipulator",
    input = { operation = "uppercase", input = "{{loop_value}}" } }
  :add_step { name = "line", type = "function", parameters = { line = "{{loop_index}} {{step.upper.result.result}}" },
    ["function"] = function(ctx) print(ctx.parameters.line) end }
  :build()
list:execute()

-- Shared values go from pass to pass, and outlive a crash as results of steps do.
local collatz = Workflow.builder():loop():name("collatz")
  :with_while("shared.n ~= 1"):max_iterations(1000)
  :add_step { name = "next", type = "function", ["function"] = function(ctx)
    local n = ctx.shared.n
    ctx.shared.n = n % 2 == 0 and n // 2 or 3 * n + 1
  end }
  :build()
collatz:set_shared_data("n", 27)
local result = collatz:execute()
print(("27 takes %d steps to 1"):format(result.metadata.extra.completed_iterations))
