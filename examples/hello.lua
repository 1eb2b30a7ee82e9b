-- Says hello. Shows how a script gets its arguments.
--
--   $ llmspell-run examples/hello.lua --greeting Salve Marcus Livia
--   Salve, Marcus!
--   Salve, Livia!
--   hello.lua was given 2 names
--
-- ARGS holds what stands behind the script: named arguments under their name, the others from 1 on, the script's own
-- name at 0. arg is the plain list, as in lua(1).

local greeting = ARGS.greeting or "Hello"
local names = #ARGS > 0 and ARGS or { "world" }

for _, name in ipairs(names) do
  print(greeting .. ", " .. name .. "!")
end
print(("%s was given %d names"):format(ARGS[0], #ARGS))
