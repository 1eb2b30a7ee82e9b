-- The global `Streaming`: values that are made as they are asked for. Runs once when a state is opened; `fail` raises an
-- error value of ours.
local fail = ...
local create, resume, status, close, yield =
  coroutine.create, coroutine.resume, coroutine.status, coroutine.close, coroutine.yield
local type, error, getmetatable, setmetatable, rawget, rawset =
  type, error, getmetatable, setmetatable, rawget, rawset
local math_type = math.type

local stream = {}
local metatable = { __index = stream, __name = "stream" }

local function checked(self, method)
  if type(self) == "table" and getmetatable(self) == metatable and type(rawget(self, "_coroutine")) == "thread" then
    return self
  end
  fail("stream." .. method .. ": a stream expected, got " .. type(self) .. "; call it as stream:" .. method .. "()")
end

local function callable(value, what)
  if type(value) == "function" then return value end
  fail(what .. ": a function expected, got " .. type(value))
end

local function new(body)
  return setmetatable({ _coroutine = create(body), _done = false }, metatable)
end

-- The next value and true, or false at the end. What the function returns is its last value.
local function step(self)
  if rawget(self, "_done") then return nil, false end
  local thread = rawget(self, "_coroutine")
  local ok, value = resume(thread)
  if not ok then
    rawset(self, "_done", true)
    error(value, 0)
  end
  if status(thread) == "dead" then
    rawset(self, "_done", true)
    return value, value ~= nil
  end
  return value, true
end

function stream.next(self) return (step(checked(self, "next"))) end

function stream.isDone(self) return rawget(checked(self, "isDone"), "_done") end

function stream.collect(self, most)
  checked(self, "collect")
  if most ~= nil and math_type(most) ~= "integer" then
    fail("stream.collect: a whole number expected, got " .. type(most))
  end
  local values, count = {}, 0
  while not most or count < most do
    local value, more = step(self)
    if not more then break end
    if value ~= nil then
      count = count + 1
      values[count] = value
    end
  end
  return values
end

function stream.iter(self)
  checked(self, "iter")
  return function()
    while true do
      local value, more = step(self)
      if value ~= nil or not more then return value end
    end
  end
end

function stream.each(self, action)
  checked(self, "each")
  callable(action, "stream.each")
  local count = 0
  for value in stream.iter(self) do
    count = count + 1
    if action(value) == false then break end
  end
  return count
end

function stream.map(self, change)
  checked(self, "map")
  callable(change, "stream.map")
  return new(function()
    for value in stream.iter(self) do
      local changed = change(value)
      if changed ~= nil then yield(changed) end
    end
  end)
end

function stream.filter(self, fits)
  callable(fits, "stream.filter")
  return stream.map(self, function(value) if fits(value) then return value end end)
end

function stream.take(self, count)
  checked(self, "take")
  if math_type(count) ~= "integer" then fail("stream.take: a whole number expected, got " .. type(count)) end
  return new(function()
    local left = count
    while left > 0 do
      local value, more = step(self)
      if not more then return end
      if value ~= nil then
        left = left - 1
        yield(value)
      end
    end
  end)
end

-- Ends it; its variables to be closed are.
function stream.close(self)
  checked(self, "close")
  rawset(self, "_done", true)
  local thread = rawget(self, "_coroutine")
  local state = status(thread)
  if state ~= "suspended" and state ~= "dead" then fail("stream.close: the stream is at work") end
  local ok, message = close(thread)
  if not ok then error(message, 0) end
end

metatable.__call = function(self) return stream.next(self) end
metatable.__close = stream.close
metatable.__tostring = function(self)
  return rawget(self, "_done") and "stream (done)" or "stream"
end

Streaming = {}

function Streaming.create(body) return new(callable(body, "Streaming.create")) end

function Streaming.from(source)
  if type(source) == "table" then
    return new(function()
      for index = 1, #source do
        if source[index] ~= nil then yield(source[index]) end
      end
    end)
  end
  callable(source, "Streaming.from")
  return new(function()
    for value in source do yield(value) end
  end)
end

Streaming.yield = yield
