-- A first agent: it answers a question, and one more that needs the first answer. The answers are written as they come.
--
--   $ llmspell-run --model mock/echo examples/agent.lua
--   What is a shell?
--   Say that in one short sentence.
--   2 answers by mock/echo
--
-- mock/echo only repeats what it is told. With a real model: llmspell-run --model openai/gpt-5-mini …, or set
-- [models] default in the configuration; llmspell.toml(5) tells of providers and keys.

local agent = Agent.builder()
  :name("helper")
  :system_prompt("You explain technical words to newcomers, in plain English.")
  :max_tokens(500)
  :build()

local question = ARGS and ARGS[1] or "What is a shell?"
agent:invoke(question, {stream = true})
-- It remembers what was said.
local last = agent:invoke("Say that in one short sentence.", {stream = true})
print(agent:get_metrics().successful .. " answers by " .. last.metadata.model)
