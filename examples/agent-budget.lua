-- Limits: turns, calls, time and money. What goes over one ends with an error of class `budget` or `timeout`.
--
--   llmspell-run --max-cost 0.05 --model openai/gpt-5-mini examples/agent-budget.lua

local agent = Agent.builder()
  :name("frugal")
  :tools{"calculator"}
  :max_tokens(200)            -- of one answer
  :max_turns(3)               -- answers of the model
  :max_tool_calls(5)
  :max_execution_time("1m")
  :build()

local ok, result = pcall(agent.invoke, agent, "Find the largest prime below 1000 with the calculator.")
if ok then
  print(result.text)
elseif result.class == "budget" or result.class == "timeout" then
  print("gave up: " .. result.message)
else
  error(result)
end
local sum = agent:get_metrics()
print(string.format("%d runs, %d failed", sum.total_executions, sum.failed))
