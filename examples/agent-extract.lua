-- Facts out of a text, as JSON of a schema: an answer that does not fit it is refused, never passed on.
--
--   llmspell-run --model openai/gpt-5-mini examples/agent-extract.lua < mail.txt

local agent = Agent.create{
  name = "extract",
  system_prompt = "Take the meeting out of the text. Dates are YYYY-MM-DD. What the text does not say is null.",
  temperature = 0,
  schema = {
    type = "object", additionalProperties = false, required = {"title", "date", "people"},
    properties = {
      title = {type = "string"},
      date = {type = {"string", "null"}},
      people = {type = "array", items = {type = "string"}},
    },
  },
}

local meeting = agent:invoke(io.read("a")).data
print(meeting.title .. ", " .. (meeting.date or "some day") .. ", with " .. table.concat(meeting.people, " and "))
