-- The part of the standard library that is easier said in Lua: streams and error values. Runs once when a state is opened;
-- `native` holds what Rust provides. Everything privileged is reached through upvalues only, never through a local of a
-- function that calls back into the script.
local native = ...
local string, table, math, tostring, tonumber, type, select, error =
  string, table, math, tostring, tonumber, type, select, error
local format, match, sub, find = string.format, string.match, string.sub, string.find
local raw_type = io.type
local write_out, write_err, flush, input, password, open, place = native.write_out, native.write_err, native.flush,
  native.input, native.password, native.open, native.place

local function fail(message)
  error(place() .. message, 0)
end

-- Error values read like the strings they replace.
native.error_metatable.__name = "error"
native.error_metatable.__tostring = function(e) return tostring(e.message) end
native.error_metatable.__concat = function(a, b) return tostring(a) .. tostring(b) end
native.error_metatable.__index = function(_, key)
  local method = string[key]
  return method and function(e, ...) return method(tostring(e), ...) end
end

-- Standard streams.
local stream = {}
local metatable = { __index = stream, __name = "FILE*" }
local stdin, stdout, stderr = native.handle(metatable), native.handle(metatable), native.handle(metatable)
metatable.__tostring = function(self) return format("file (%p)", self) end

local function standard(file) return file == stdin or file == stdout or file == stderr end

local function bad_descriptor() return nil, "Bad file descriptor", 9 end

function stream.write(self, ...)
  if self == stdout then return write_out(self, ...) end
  if self == stderr then return write_err(self, ...) end
  return bad_descriptor()
end

function stream.flush(self)
  flush()
  return self
end

function stream.setvbuf() return true end

function stream.seek() return nil, "Illegal seek", 29 end

function stream.close()
  flush()
  return nil, "cannot close standard file"
end

-- What was typed but not read yet.
local pending = ""

local function more()
  local line = input()
  if line then pending = pending .. line .. "\n" end
  return line ~= nil
end

local readers = {}

function readers.L()
  if pending == "" and not more() then return nil end
  local stop = find(pending, "\n", 1, true) or #pending
  local line = sub(pending, 1, stop)
  pending = sub(pending, stop + 1)
  return line
end

function readers.l()
  local line = readers.L()
  return line and match(line, "^([^\n]*)")
end

function readers.a()
  local parts = { pending }
  pending = ""
  for line in input do parts[#parts + 1] = line .. "\n" end
  return table.concat(parts)
end

function readers.n()
  while not find(pending, "%S") do
    if not more() then return nil end
  end
  local blank, token = match(pending, "^(%s*)([%w%.+-]*)")
  token = sub(token, 1, 200)
  for length = #token, 1, -1 do
    local number = tonumber(sub(token, 1, length))
    if number then
      pending = sub(pending, #blank + length + 1)
      return number
    end
  end
  return nil
end

-- What a pipe brings.
_G.stdin = function() return readers.a() end

local function read_bytes(count)
  while #pending < count and more() do end
  if pending == "" and (count > 0 or not more()) then return nil end
  local bytes = sub(pending, 1, count)
  pending = sub(pending, count + 1)
  return bytes
end

local function read_one(what)
  if type(what) == "number" then return read_bytes(what) end
  local reader = readers[match(tostring(what), "^%*?(%a)") or ""]
  if not reader then fail("bad argument #1 to 'read' (invalid format)") end
  return reader()
end

function stream.read(self, ...)
  if self ~= stdin then return bad_descriptor() end
  local count = select("#", ...)
  if count == 0 then return readers.l() end
  local results = {}
  for i = 1, count do
    results[i] = read_one((select(i, ...)))
    if results[i] == nil then return table.unpack(results, 1, i) end
  end
  return table.unpack(results, 1, count)
end

function stream.lines(self, ...)
  local formats = table.pack(...)
  return function() return self:read(table.unpack(formats, 1, formats.n)) end
end

-- io
local default_input, default_output = stdin, stdout
io.stdin, io.stdout, io.stderr = stdin, stdout, stderr
io.open = open
io.popen = native.popen
io.tmpfile = native.tmpfile

function io.type(value)
  if standard(value) then return "file" end
  return raw_type(value)
end

function io.write(...)
  if default_output == stdout then return write_out(stdout, ...) end
  return default_output:write(...)
end

function io.read(...) return default_input:read(...) end

function io.read_password(prompt)
  if prompt ~= nil and type(prompt) ~= "string" then
    fail("bad argument #1 to 'read_password' (string expected, got " .. type(prompt) .. ")")
  end
  -- What stands behind a number that was read belongs to the line before.
  if pending ~= "" then return readers.l() end
  return password(prompt or "Password: ")
end

function io.flush() return default_output:flush() end

function io.close(file) return (file or default_output):close() end

local function opened(path, mode)
  local file, message = open(path, mode)
  if not file then
    if type(message) == "table" then error(message, 0) end
    fail(message)
  end
  return file
end

function io.input(file)
  if type(file) == "string" then file = opened(file, "r") end
  if file ~= nil then default_input = file end
  return default_input
end

function io.output(file)
  if type(file) == "string" then file = opened(file, "w") end
  if file ~= nil then default_output = file end
  return default_output
end

function io.lines(path, ...)
  if path == nil then return default_input:lines(...) end
  local file, formats = opened(path, "r"), table.pack(...)
  local function after(first, ...)
    if first == nil then file:close() end
    return first, ...
  end
  return function() return after(file:read(table.unpack(formats, 1, formats.n))) end, nil, nil, file
end

-- base
local loadfile = native.loadfile

function _G.loadfile(path, mode, ...)
  if select("#", ...) > 0 then return loadfile(path, mode, true, (...)) end
  return loadfile(path, mode, false)
end

function dofile(path)
  local chunk, message = loadfile(path, "t", false)
  if not chunk then error(message, 0) end
  return chunk()
end
