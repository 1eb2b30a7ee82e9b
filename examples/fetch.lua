-- Fetches a page and says what came.
--
--   $ llmspell-run examples/fetch.lua https://example.org
--
-- Public hosts may be asked without further permission. This machine and its local network may not: that takes
-- --allow-net, as in
--
--   $ llmspell-run --allow-net=127.0.0.1:8000 examples/fetch.lua http://127.0.0.1:8000/

local url = ARGS[1] or error("usage: fetch.lua URL", 0)

local ran, answer = pcall(Tool.invoke, "http_request", { input = url, method = "GET" })
if not ran then
  print(answer.class .. ": " .. answer.message)
  if answer.hint then print(answer.hint) end
  os.exit(1)
end
if not answer.success then
  print("failed: " .. answer.error.message)
  os.exit(1)
end

local reply = answer.result
print(("%s answered %d, %d bytes of %s"):format(url, reply.status_code, #(answer.text or ""), reply.headers["content-type"] or "?"))
