-- An execution that goes on behind what it has done, also after a crash.
--
--   $ llmspell-run examples/workflow_resume.lua
--   fetch
--   stopped: workflow nightly: step convert: the disk is full
--   convert
--   publish
--   1 step was not done again
--
-- After every step its result is kept in the store. With an id of its own, `execute(input, { id = "nightly-7" })` goes on
-- where that execution ended, whether it failed, was interrupted or was killed: run the script again. Without an id,
-- `execute(input, { resume = true })` looks for an unfinished one of the same workflow and input.

local full = true
local function step(name, body)
  return { name = name, type = "function", ["function"] = function(ctx)
    if body then body(ctx) end
    print(name)
    return name
  end }
end

local nightly = Workflow.sequential { name = "nightly", steps = {
  step "fetch",
  step("convert", function() if full then error("the disk is full", 0) end end),
  step "publish",
} }

local ran, problem = pcall(nightly.execute, nightly, { day = 7 })
if not ran then print("stopped: " .. problem.message) end

full = false
local result = nightly:resume()
print(result.metadata.extra.resumed_steps .. " step was not done again")
