-- An agent with tools: one of llmspell's, and a function of this script. What the model calls is told on standard error.
--
--   llmspell-run --model openai/gpt-5-mini examples/agent-tools.lua "What do 3 apples and 2 pears cost?"

local prices = {apple = 0.40, pear = 0.55}

local price = {
  name = "price",
  description = "tells what one piece of a fruit costs, in euros",
  parameters = {fruit = "name of the fruit, in the singular"},
  repeatable = true, -- asking twice does no harm
  handler = function(params)
    -- An error is told to the model, which can do better.
    return prices[params.fruit] or error("no such fruit: " .. params.fruit)
  end,
}

local agent = Agent.builder()
  :name("shop")
  :system_prompt("You tell customers what fruit costs. Look prices up and have the calculator add; never guess.")
  :tools{"calculator", price}
  :max_turns(6)
  :build()

local result = agent:invoke(ARGS and ARGS[1] or "What do 3 apples and 2 pears cost?", {stream = true})
local about = result.metadata
print(string.format("%d turns, %d calls, %d of them failed", about.turns, about.tool_calls, about.tool_errors))
