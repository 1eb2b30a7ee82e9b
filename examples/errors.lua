-- What can go wrong, and how a script learns of it.
--
--   $ llmspell-run examples/errors.lua
--   tool       calculator: expression: unexpected end
--   not_found  tool calcluator: no such tool
--              Did you mean calculator?
--   usage      hash_calculator: input: 42 is not a string
--   not_found  file_operations: /home/you/llmspell/no such file: no such file or directory
--   denied     file_operations: /etc/shadow: outside the folders allowed to read
--              Allow it with --allow-read=/etc/shadow.
--   denied     http_request: host 127.0.0.1: 127.0.0.1 is a loopback address
--              Allow it with --allow-net=127.0.0.1.
--   string     out of ideas
--
-- A tool that ran and failed gives an answer with success = false. Everything else is raised as an error value with a
-- class, a message and often a hint; it also works where a string is expected. llmspell(7) lists the classes. An error
-- that nobody catches ends the script with the exit status of its class.

local attempts = {
  { "calculator", { input = "2 +" } },
  { "calcluator", { input = "2 + 2" } },
  { "hash_calculator", { operation = "hash", input = 42 } },
  { "file_operations", { operation = "read", path = "no such file" } },
  { "file_operations", { operation = "read", path = "/etc/shadow" } },
  { "http_request", { input = "http://127.0.0.1:9/" } },
}

for _, attempt in ipairs(attempts) do
  local tool, params = table.unpack(attempt)
  local ran, answer = pcall(Tool.invoke, tool, params)
  local problem = ran and answer.error or answer
  print(("%-10s %s"):format(problem.class, problem.message))
  if problem.hint then print(("%-10s %s"):format("", problem.hint)) end
end

-- Its own errors a script raises as ever.
local ran, problem = pcall(error, "out of ideas", 0)
print(("%-10s %s"):format(type(problem), problem))
