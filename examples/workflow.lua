-- Steps one after another: tools, a function of the script, and a workflow in a workflow.
--
--   $ llmspell-run examples/workflow.lua
--   words   9
--   report  The quick brown fox jumps over the lazy dog: 9 words, sha256 d7a8fbb3
--   Sequential workflow 'report' completed successfully. 3 steps executed
--
-- {{input.KEY}} stands for what the workflow is given, {{step.NAME.result}} for what a step came to, with a path behind
-- if need be. A text that is nothing but a placeholder becomes the value itself, so a list stays a list.

local digest = Workflow.builder()
  :sequential():name("digest")
  :add_step{ name = "hash", type = "tool", tool = "hash_calculator",
    input = { operation = "hash", algorithm = "sha256", input = "{{input.text}}" } }
  :build()

local report = Workflow.builder()
  :sequential():name("report")
  :add_step{ name = "count", type = "function", parameters = { text = "{{input.text}}" },
    ["function"] = function(ctx)
      local words = 0
      for _ in ctx.parameters.text:gmatch("%S+") do words = words + 1 end
      return words
    end }
  :add_step{ name = "digest", type = "workflow", workflow = digest, input = { text = "{{input.text}}" } }
  :add_step{ name = "write", type = "function",
    parameters = { line = "{{input.text}}: {{step.count.result}} words, sha256 {{step.digest.result.hash}}" },
    ["function"] = function(ctx) return ctx.parameters.line:match("^(.-sha256 %x%x%x%x%x%x%x%x)") end }
  :build()

local result = report:execute { text = "The quick brown fox jumps over the lazy dog" }
print(("%-7s %s"):format("words", result.outputs.count))
print(("%-7s %s"):format("report", result.output))
print(result.text:match("^(.-)%. Duration"))
