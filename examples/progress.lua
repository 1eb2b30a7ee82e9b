-- Follows a long call while it runs, and gives another one too little time.
--
--   $ llmspell-run examples/progress.lua
--
-- The third argument of Tool.invoke holds options: on_progress is called with a line of text whenever the tool has
-- something to tell; timeout is the longest the call may take, in seconds or as a text like "5s".

-- Something that takes a while: 200 MiB of zeros, which take no room on the disk.
local path = os.tmpname()
local file <close> = assert(io.open(path, "w"))
file:seek("set", 200 * 1024 * 1024 - 1)
file:write("\0")
file:close()

local answer = Tool.invoke("hash_calculator", { operation = "hash", file = path }, {
  timeout = "1m",
  on_progress = function(line) print("  " .. line) end,
})
print(answer.message, answer.result.hash)

-- A call that runs out of time is stopped, and the script goes on.
local ran, problem = pcall(Tool.invoke, "hash_calculator", { operation = "hash", file = path }, { timeout = 0.001 })
print(ran, problem.class, problem.message)

os.remove(path)
