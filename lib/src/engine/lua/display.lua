-- `display`, `Display` and `Progress`. Runs once when a state is opened; `native` holds what Rust provides.
local native = ...
local setmetatable, getmetatable, tostring, type, format, floor, rep =
  setmetatable, getmetatable, tostring, type, string.format, math.floor, string.rep
local min, max = math.min, math.max
local show, value_bundle, fail, new_id, now = native.show, native.value, native.fail, native.id, native.now

local function text_of(content, what)
  local kind = type(content)
  if kind == "string" then return content end
  if kind == "number" then return tostring(content) end
  fail(format("%s: text expected, got %s", what, kind))
end

-- What each kind of content is as a MIME bundle, and its metadata.
local kinds = {}

function kinds.value(value) return value_bundle(value) end

function kinds.text(value) return { ["text/plain"] = tostring(value) } end

function kinds.html(text)
  text = text_of(text, "Display.html")
  return { ["text/html"] = text, ["text/plain"] = native.text_of_html(text) }
end

function kinds.markdown(text)
  text = text_of(text, "Display.markdown")
  return { ["text/markdown"] = text, ["text/plain"] = text }
end

function kinds.latex(text)
  text = text_of(text, "Display.latex")
  return { ["text/latex"] = text, ["text/plain"] = text }
end

function kinds.json(value, options)
  local bundle = { ["application/json"] = value, ["text/plain"] = native.json(value) }
  return bundle, options.expanded ~= nil and { ["application/json"] = { expanded = options.expanded } } or nil
end

function kinds.svg(text)
  text = text_of(text, "Display.svg")
  return { ["image/svg+xml"] = text, ["text/plain"] = format("<svg, %d bytes>", #text) }
end

function kinds.png(image, options)
  if type(image) ~= "string" then fail("Display.png: bytes or a path expected, got " .. type(image)) end
  local data, size, width, height = native.png(image)
  local bundle = { ["image/png"] = data, ["text/plain"] = format("<png %dx%d, %d bytes>", width, height, size) }
  local sized = options.width or options.height
  return bundle, sized and { ["image/png"] = { width = options.width, height = options.height } } or nil
end

function kinds.table(rows, options)
  local text, html = native.records(rows, options.columns)
  return { ["text/plain"] = text, ["text/html"] = html }
end

-- What `display` answers: it can be updated, and is not shown as a value.
local handle = {}
local metatable = { __index = handle, __name = "display", __silent = true, __metatable = "display" }
metatable.__tostring = function(self) return "display " .. self.id end

local function checked(options)
  if options == nil then return {} end
  if type(options) ~= "table" then fail("display: options: table expected, got " .. type(options)) end
  if options.id ~= nil and type(options.id) ~= "string" then fail("display: id: text expected") end
  return options
end

local function send(kind, content, options, id, update)
  local bundle, metadata = kinds[kind](content, options)
  show(bundle, options.metadata or metadata, id, update, nil)
end

local function make(kind, content, options)
  options = checked(options)
  local self = setmetatable({ id = options.id or new_id(), kind = kind }, metatable)
  send(kind, content, options, self.id, false)
  return self
end

function handle:update(content, options)
  send(self.kind, content, checked(options), self.id, true)
  return self
end

function display(value, options) return make("value", value, options) end

Display = {}

for kind in pairs { text = 1, html = 1, markdown = 1, latex = 1, json = 1, svg = 1, png = 1, table = 1 } do
  Display[kind] = function(content, options) return make(kind, content, options) end
end

function Display.update(id, value, options)
  if getmetatable(id) == "display" then return id:update(value, options) end
  if type(id) ~= "string" then fail("Display.update: id: text expected, got " .. type(id)) end
  send("value", value, checked(options), id, true)
end

function Display.clear(wait) native.clear(wait and true or false) end

-- A line about work under way, redrawn in its place.
local progress = {}
local progress_metatable = { __index = progress, __name = "progress", __silent = true, __metatable = "Progress" }
progress_metatable.__tostring = function(self) return self:text() end
local WIDTH, PAUSE = 24, 0.1

local function seconds(time)
  if time < 60 then return format("%.1f s", time) end
  return format("%d:%02d min", time // 60, floor(time % 60))
end

function progress:text()
  local label = self.label ~= "" and self.label .. "  " or ""
  if not self.total then return format("%s%s", label, self.count) end
  local part = self.total > 0 and max(0, min(1, self.count / self.total)) or 1
  local filled = floor(part * WIDTH)
  return format("%s[%s%s] %3d %%  %s/%s", label, rep("#", filled), rep(".", WIDTH - filled), floor(part * 100),
    self.count, self.total)
end

local function draw(self, ended)
  local text = self:text()
  if ended then text = text .. "  " .. seconds(now() - self.begun) end
  local value = self.total and format(' max="%s"', self.total) or ""
  if self.total or ended then value = value .. format(' value="%s"', self.total and self.count or 1) end
  local amount = self.total and format("%s/%s", self.count, self.total) or tostring(self.count)
  local html = format("<label>%s <progress%s></progress> %s%s</label>", native.escape(self.label), value, amount,
    ended and " in " .. seconds(now() - self.begun) or "")
  show({ ["text/plain"] = text, ["text/html"] = html }, nil, self.id, self.drawn ~= nil, ended)
  self.drawn = now()
end

local function number(value, what)
  if type(value) ~= "number" then fail(format("Progress: %s: number expected, got %s", what, type(value))) end
  return value
end

function progress:update(count, label)
  if self.ended then return self end
  self.count = number(count, "count")
  if label ~= nil then self.label = tostring(label) end
  if now() - self.drawn >= PAUSE then draw(self, false) end
  return self
end

function progress:add(count) return self:update(self.count + (count or 1)) end

function progress:done()
  if not self.ended then
    self.ended = true
    if self.total then self.count = self.total end
    draw(self, true)
  end
  return self
end

function Progress(total, label)
  if total ~= nil then number(total, "total") end
  local self = { id = new_id(), total = total, count = 0, label = label and tostring(label) or "", begun = now() }
  draw(setmetatable(self, progress_metatable), false)
  return self
end
