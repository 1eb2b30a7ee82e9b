-- Branches side by side: three commands that take 0.3 seconds each are done after little more than that.
--
--   $ llmspell-run --allow-run=sleep examples/workflow_parallel.lua
--   a true, b true, c true
--   at the same time: true
--
-- Tools and agents run on threads of their own, at most kernel.tools.max_concurrent_tools tools at a time. Functions of the
-- script run on its thread, one at a time, while the others work.

local builder = Workflow.builder():parallel():name("together"):max_concurrency(3)
for _, name in ipairs { "a", "b", "c" } do
  builder:add_step { name = name, type = "tool", tool = "process_executor", timeout_ms = 10000,
    input = { program = "sleep", args = { "0.3" } } }
end

local result = builder:build():execute()
local ended = {}
for _, name in ipairs { "a", "b", "c" } do
  ended[#ended + 1] = name .. " " .. tostring(result.outputs[name] ~= nil)
end
print(table.concat(ended, ", "))
print("at the same time: " .. tostring(result.metadata.execution_time_ms < 850))
