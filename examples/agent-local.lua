-- A model on this machine. Nothing leaves it.
--
-- Ollama:     ollama pull qwen3:4b
--             llmspell-run --model ollama/qwen3:4b examples/agent-local.lua
-- llama.cpp:  llama-server -m model.gguf --jinja
--             llmspell-run --model llamacpp/model examples/agent-local.lua
--
-- Small models forget long conversations: here it is cut at 4096 tokens, with a summary of what was said before.

local agent = Agent.builder()
  :name("local")
  :system_prompt("Answer in one sentence.")
  :context_window(4096)
  :overflow("summarise")
  :max_tokens(300)
  :build()

for line in io.lines() do
  local result = agent:invoke(line, {stream = true})
  io.stderr:write(string.format("[%d tokens, %d ms]\n", result.metadata.context_tokens, result.metadata.execution_time_ms))
end
