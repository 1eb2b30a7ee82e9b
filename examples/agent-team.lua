-- Several agents: two are asked side by side, and a third, which has them as tools, decides whom to ask.
--
--   llmspell-run --model anthropic/claude-sonnet-4-5 examples/agent-team.lua "Should we rewrite it in Lua?"

local question = ARGS and ARGS[1] or "Should we rewrite it in Lua?"

local optimist = Agent.create{name = "optimist", description = "finds what speaks for something",
  system_prompt = "Give the two best reasons for what you are asked about. Two sentences."}
local sceptic = Agent.create{name = "sceptic", description = "finds what speaks against something",
  system_prompt = "Give the two best reasons against what you are asked about. Two sentences."}

-- Both at once.
for _, answer in ipairs(Agent.invoke_all{{optimist, question}, {sceptic, question}}) do
  if not answer.success then error(answer.error) end
  print(answer.metadata.agent .. ": " .. answer.text)
end

-- One that asks the others itself.
local chair = Agent.create_composite("chair", {optimist, sceptic}, {
  system_prompt = "Ask both the optimist and the sceptic, then decide in one sentence.",
})
print("chair: " .. chair:invoke(question).text)
