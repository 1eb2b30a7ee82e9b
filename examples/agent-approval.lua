-- An agent that may write a file, once a person has said yes. The run has an id: asked again, it goes on where it was,
-- with nothing asked, paid or done twice, also after a crash.
--
--   $ llmspell-run examples/agent-approval.lua           writes nothing yet
--   $ llmspell-kernel approvals list                     shows what is wanted
--   $ llmspell-kernel approvals approve ID               or deny ID "why", or edit ID '{…}'
--   $ llmspell-run examples/agent-approval.lua           goes on
--
-- With `:approval("ask")` it would ask at once; with `:approval("wait")` it would wait for the decision.

local agent = Agent.builder()
  :name("clerk")
  :system_prompt("You keep notes in files of this folder.")
  :tools{"file_operations"}
  :build()

local result = agent:invoke("Write the note 'call Ada' into todo.txt.", {run = "clerk-1"})
if result.paused then
  for _, call in ipairs(result.approvals) do
    print(call.id .. ": " .. call.tool .. " wants to write " .. call.arguments.path)
  end
else
  print(result.text)
end
