-- What becomes of a step that fails: tried again, passed over, or all that was done undone.
--
--   $ llmspell-run examples/workflow_errors.lua
--   retry       done after 3 tries
--   continue    Sequential workflow 'continue' completed, but 1 step failed
--   compensate  undo charge of 12
--   compensate  undo reserve
--   compensate  workflow compensate: step ship: no lorry; 2 steps were undone

local function step(name, body, more)
  local made = { name = name, type = "function", ["function"] = body }
  for key, value in pairs(more or {}) do made[key] = value end
  return made
end
local function say(what, text) print(("%-11s %s"):format(what, text)) end

-- The pause before each try is longer than the one before.
local flaky = step("flaky", function(ctx)
  if ctx.attempt < 3 then error("busy") end
  return "done after " .. ctx.attempt .. " tries"
end, { retry = { attempts = 5, delay_ms = 10, factor = 2 } })
say("retry", Workflow.sequential { name = "retry", steps = { flaky } }:execute().output)

local patient = Workflow.sequential { name = "continue", error_strategy = "continue",
  steps = { step("bad", function() error("no") end), step("good", function() return 1 end) } }
say("continue", patient:execute().text:match("^(.-)%. "))

local order = Workflow.sequential { name = "compensate", error_strategy = "compensate", steps = {
  step("reserve", function() return true end, { undo = function() say("compensate", "undo reserve") end }),
  step("charge", function() return { amount = 12 } end, { undo = {
    type = "function", parameters = { amount = "{{step.charge.result.amount}}" },
    ["function"] = function(ctx) say("compensate", "undo charge of " .. ctx.parameters.amount) end } }),
  step("ship", function() return nil, "no lorry" end),
} }
local _, problem = pcall(order.execute, order)
say("compensate", problem.message)
