-- `Workflow`: builders and workflows. Runs once when a state is opened; `native` holds what Rust provides: reading a definition
-- and running it. Functions of the script stay here, and a definition knows them by number.
local native = ...
local setmetatable, getmetatable, type, pairs, ipairs, error, load, format, rawget, next, concat, sort =
  setmetatable, getmetatable, type, pairs, ipairs, error, load, string.format, rawget, next, table.concat, table.sort
local fail, globals, Progress = native.fail, _G, Progress

local workflow = {}
local workflow_metatable = { __index = workflow, __name = "workflow", __metatable = "workflow" }
workflow_metatable.__tostring = function(self) return format("workflow %s (%s)", self.name, self.type) end

-- What is behind a workflow.
local inside = setmetatable({}, { __mode = "k" })
-- Those in use, and those that are kept because only their id is known.
local known, registered = setmetatable({}, { __mode = "v" }), {}
local default_error_handler
local debugging = false

local function wanted(value, kind, what)
  if type(value) ~= kind then fail(format("%s: %s expected, got %s", what, kind, type(value))) end
  return value
end

-- Conditions as text ------------------------------------------------------------------------------------------------------

-- A Lua expression over `input`, `steps`, `shared`, `loop_value` …, the shared values, and the globals.
local function expression(text, what)
  local now
  local env = setmetatable({}, {
    __index = function(_, key)
      local value = now[key]
      if value == nil then value = now.shared[key] end
      if value == nil then value = globals[key] end
      return value
    end,
  })
  local made, why = load("return " .. text, "=" .. what, "t", env)
  if not made then fail(why) end
  return function(context)
    now = context
    return made()
  end
end

-- Definitions -------------------------------------------------------------------------------------------------------------

-- Data of the script, in which a function would be a mistake.
local data_keys = { input = true, parameters = true, params = true, shared_data = true, shared = true, collection = true,
  value = true, left = true, right = true }
-- Where a text stands for a condition.
local condition_keys = { condition = true, when = true, while_condition = true, ["while"] = true }

local function named_function(name)
  local value = globals
  for part in name:gmatch("[^.]+") do
    value = type(value) == "table" and value[part] or nil
  end
  if type(value) ~= "function" then fail(format("function: there is no global function %s", name)) end
  return value
end

local plain

local function number_of(value, functions)
  functions[#functions + 1] = value
  return { ["$function"] = #functions - 1 }
end

local function member(key, value, functions, depth)
  if data_keys[key] then return value end
  if type(value) == "function" then return number_of(value, functions) end
  if type(value) == "string" and condition_keys[key] then return number_of(expression(value, "condition"), functions) end
  if type(value) == "table" then return plain(value, functions, depth + 1) end
  return value
end

-- In the same order in every process, so that functions have the same numbers when an execution is taken up again.
local function keys_of(value)
  local keys = {}
  for key in next, value do keys[#keys + 1] = key end
  sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
    return type(a) < type(b)
  end)
  return keys
end

function plain(value, functions, depth)
  if depth > 200 then fail("workflow: tables in one another without end") end
  if getmetatable(value) == "workflow" then
    local mine = inside[value]
    local copy = plain(mine.definition, functions, depth + 1)
    copy.id = value.id
    if next(mine.shared) ~= nil then copy.shared_data = mine.shared end
    return copy
  end
  local copy = {}
  for _, key in ipairs(keys_of(value)) do
    local item = value[key]
    if key == "agent" and type(item) ~= "string" then item = item.name end
    if key == "workflow" and type(item) == "string" then
      item = known[item] or fail(format("workflow: there is no workflow %s", item))
    end
    if key == "function" and type(item) == "string" then
      copy.function_name = item
      item = named_function(item)
    end
    if key == "break_conditions" and type(item) == "table" then
      local list = {}
      for place, one in ipairs(item) do
        list[place] = type(one) == "string" and number_of(expression(one, "break condition"), functions)
          or member(place, one, functions, depth)
      end
      copy[key] = list
    else
      copy[key] = member(key, item, functions, depth)
    end
  end
  return copy
end

local function make(definition)
  local functions = {}
  local made, id, name, kind = native.build(plain(definition, functions, 0))
  local self = setmetatable({ id = id, name = name, type = kind }, workflow_metatable)
  inside[self] = { definition = definition, native = made, functions = functions, shared = {}, hooks = {},
    metrics = { executions = 0, succeeded = 0, failed = 0, steps = 0, failed_steps = 0, total_ms = 0 } }
  known[id] = self
  return self
end

local function of(self, method)
  return inside[self] or fail(format("workflow expected, got %s; call it with a colon, as in workflow:%s()", type(self), method))
end

-- Builders ----------------------------------------------------------------------------------------------------------------

local builder = {}
local builder_metatable = { __index = builder, __name = "workflow_builder", __metatable = "workflow_builder" }

for _, kind in ipairs { "sequential", "parallel", "conditional", "loop", "graph" } do
  builder[kind] = function(self)
    self.definition.type = kind
    return self
  end
end
builder.loop_workflow = builder.loop

for _, key in ipairs { "name", "description", "error_strategy", "timeout_ms", "condition", "max_iterations",
  "max_concurrency", "checkpoint" } do
  builder[key] = function(self, value)
    if value == nil then fail(format("%s: a value expected", key)) end
    self.definition[key] = value
    return self
  end
end

local function add(key)
  return function(self, step)
    wanted(step, "table", "step")
    local list = self.definition[key] or {}
    self.definition[key] = list
    list[#list + 1] = step
    return self
  end
end
builder.add_step, builder.add_then_step, builder.add_else_step = add "steps", add "then_steps", add "else_steps"

-- `add_branch(condition, steps)` of a conditional, `add_branch(name, steps)` of a parallel workflow.
function builder:add_branch(first, steps)
  local list = self.definition.branches or {}
  self.definition.branches = list
  local branch = { steps = wanted(steps, "table", "steps") }
  if self.definition.type == "parallel" then
    branch.name = wanted(first, "string", "name")
  else
    branch.condition = first
  end
  list[#list + 1] = branch
  return self
end

local function over(self, key, value)
  self.definition.iterator = { [key] = value }
  return self
end

function builder:with_range(range)
  wanted(range, "table", "range")
  return over(self, "range", { start = range.start or 1, ["end"] = range["end"] or 10, step = range.step or 1 })
end

function builder:with_collection(items)
  if type(items) ~= "string" then wanted(items, "table", "collection") end
  return over(self, "collection", items)
end

function builder:with_count(count) return over(self, "count", wanted(count, "number", "count")) end

function builder:with_while(condition) return over(self, "while_condition", condition) end
builder.loop_condition = builder.with_while

function builder:break_when(condition)
  local list = self.definition.break_conditions or {}
  self.definition.break_conditions = list
  list[#list + 1] = condition
  return self
end

function builder:build()
  local definition = {}
  for key, value in pairs(self.definition) do definition[key] = value end
  local kind = definition.type
  if not kind then
    fail("workflow: no type; call sequential, parallel, conditional, loop or graph of the builder")
  end
  if not definition.name then definition.name = "workflow_" .. native.id():sub(1, 8) end
  if kind == "loop" then
    definition.body, definition.steps = definition.steps, nil
  elseif kind == "conditional" and definition.steps then
    fail("workflow " .. definition.name .. ": steps of a conditional workflow are added by add_then_step and add_else_step")
  end
  return make(definition)
end

-- Workflows ---------------------------------------------------------------------------------------------------------------

local function hook(mine, name, ...)
  local function_of = mine.hooks[name]
  if function_of then function_of(...) end
end

local function execute(self, mine, input, options)
  if options ~= nil then wanted(options, "table", "options") end
  hook(mine, "before", { workflow = self.name, workflow_id = self.id, input = input })
  local report, problem = native.execute(mine.native, mine.functions, input, options or {}, mine.shared, debugging)
  mine.last = report
  local metrics, extra = mine.metrics, report.metadata.extra
  metrics.executions = metrics.executions + 1
  local how = problem and "failed" or "succeeded"
  metrics[how] = metrics[how] + 1
  metrics.steps = metrics.steps + (extra.total_steps or 0)
  metrics.failed_steps = metrics.failed_steps + (extra.failed_steps or 0)
  metrics.last_ms = report.metadata.execution_time_ms
  metrics.total_ms = metrics.total_ms + metrics.last_ms
  if problem then
    local handler = mine.hooks.error or default_error_handler
    if handler then handler(problem, report) end
    error(problem, 0)
  end
  hook(mine, "after", report)
  return report
end

function workflow:execute(input, options) return execute(self, of(self, "execute"), input, options) end

function workflow:resume(id, options)
  local mine = of(self, "resume")
  local copy = {}
  for key, value in pairs(options or {}) do copy[key] = value end
  local input
  copy.id, input = native.unfinished(mine.native, id)
  return execute(self, mine, input, copy)
end

function workflow:get_info() return { id = self.id, name = self.name, type = self.type, steps = native.steps(of(self, "get_info").native) } end

function workflow:set_shared_data(key, value) of(self, "set_shared_data").shared[wanted(key, "string", "key")] = value end
function workflow:get_shared_data(key) return of(self, "get_shared_data").shared[key] end

function workflow:set_state(key, value)
  of(self, "set_state")
  return native.state(self.id, wanted(key, "string", "key"), true, value)
end
function workflow:get_state(key)
  of(self, "get_state")
  return native.state(self.id, wanted(key, "string", "key"), false)
end

local function last(self, method)
  local report = of(self, method).last
  return report or fail("No workflow execution found. Run execute() first.")
end

function workflow:get_output(step) return last(self, "get_output").outputs[step] end
function workflow:get_all_outputs()
  local copy = {}
  for step, output in pairs(last(self, "get_all_outputs").outputs) do copy[step] = output end
  return copy
end
function workflow:list_outputs()
  local names = {}
  for step in pairs(last(self, "list_outputs").outputs) do names[#names + 1] = step end
  table.sort(names)
  return names
end
function workflow:clear_outputs()
  local report = last(self, "clear_outputs")
  report.outputs = {}
  return { deleted = native.clear(report.execution_id) }
end
function workflow:get_execution_id() return last(self, "get_execution_id").execution_id end

for method, name in pairs { on_before_execute = "before", on_after_execute = "after", on_error = "error" } do
  workflow[method] = function(self, handler)
    local mine = of(self, method)
    if handler ~= nil then wanted(handler, "function", method) end
    mine.hooks[name] = handler
    return self
  end
end

function workflow:get_metrics()
  local copy = {}
  for key, value in pairs(of(self, "get_metrics").metrics) do copy[key] = value end
  if copy.executions > 0 then
    copy.average_ms = copy.total_ms / copy.executions
    copy.success_rate = copy.succeeded / copy.executions
  end
  return copy
end

function workflow:validate()
  of(self, "validate")
  local warnings = native.warnings(inside[self].native)
  return { valid = true, workflow_id = self.id, warnings = warnings, errors = {} }
end

function workflow:debug()
  local mine = of(self, "debug")
  return { workflow_id = self.id, name = self.name, type = self.type, metrics = self:get_metrics(),
    steps = native.steps(mine.native), last_execution = mine.last and mine.last.execution_id }
end

-- The global --------------------------------------------------------------------------------------------------------------

Workflow = {}

function Workflow.builder() return setmetatable({ definition = {} }, builder_metatable) end

for _, kind in ipairs { "sequential", "parallel", "conditional", "loop", "graph" } do
  Workflow[kind] = function(definition)
    wanted(definition, "table", "Workflow." .. kind)
    local copy = {}
    for key, value in pairs(definition) do copy[key] = value end
    copy.type = kind
    return make(copy)
  end
end

function Workflow.types() return { "sequential", "parallel", "conditional", "loop", "graph" } end

function Workflow.list()
  local list = {}
  for id, one in pairs(known) do
    list[#list + 1] = { id = id, name = one.name, type = one.type, description = inside[one].definition.description }
  end
  table.sort(list, function(a, b)
    if a.name == b.name then return a.id < b.id end
    return a.name < b.name
  end)
  return list
end

function Workflow.get(id)
  if known[id] then return known[id] end
  for _, one in pairs(known) do
    if one.name == id then return one end
  end
  return nil
end

function Workflow.register(kind, definition)
  local one = Workflow[wanted(kind, "string", "type")]
  if not rawget(builder, kind) or kind == "name" or not one then
    fail(format("type: %q is not one of %s", kind, concat(Workflow.types(), ", ")))
  end
  one = one(definition)
  registered[one.id] = one
  return one.id
end

function Workflow.remove(id)
  local one = Workflow.get(id)
  if not one then return false end
  registered[one.id], known[one.id] = nil, nil
  return true
end

function Workflow.clear()
  for id in pairs(known) do known[id] = nil end
  registered = {}
end

function Workflow.executions(name) return native.executions(name) end
function Workflow.forget(id) return native.forget(wanted(id, "string", "id")) end

function Workflow.setDefaultErrorHandler(handler)
  if handler ~= nil then wanted(handler, "function", "setDefaultErrorHandler") end
  default_error_handler = handler
end
function Workflow.enableDebug(on) debugging = on and true or false end
function Workflow.isDebugEnabled() return debugging end

-- What Rust calls ---------------------------------------------------------------------------------------------------------

local peek, steps_of, shared_of = native.peek, native.step, native.shared

local steps_metatable = {
  __index = function(self, name) return steps_of(rawget(self, 1), name) end,
  __newindex = function() fail("steps: they cannot be changed") end,
  __pairs = function(self)
    local handle = rawget(self, 1)
    local all = {}
    for _, name in ipairs(steps_of(handle)) do all[name] = steps_of(handle, name) end
    return next, all, nil
  end,
  __metatable = "steps",
}
local shared_metatable = {
  __index = function(self, key) return shared_of(rawget(self, 1), key) end,
  __newindex = function(self, key, value) shared_of(rawget(self, 1), wanted(key, "string", "shared"), true, value) end,
  __pairs = function(self) return next, shared_of(rawget(self, 1)), nil end,
  __metatable = "shared",
}
local context_metatable = { __name = "workflow_context", __metatable = "workflow_context" }
context_metatable.__index = function(self, key)
  local handle = rawget(self, 1)
  if key == "steps" then return setmetatable({ handle }, steps_metatable) end
  if key == "shared" then return setmetatable({ handle }, shared_metatable) end
  return peek(handle, key)
end

local face = {}

function face.context(handle) return setmetatable({ handle }, context_metatable) end

-- Progress of an execution that takes a while: `state` is what was returned before.
function face.progress(state, done, total, label, ended)
  if not state then
    if ended then return end
    state = Progress(total, label)
  end
  if done then state.count = done end
  state:update(state.count, label)
  if ended then state:done() end
  return state
end

return face
