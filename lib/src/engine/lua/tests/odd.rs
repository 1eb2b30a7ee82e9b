//! Every function of ours, as the reference lists them, with arguments nobody thought of: no panic, no hang, and an error that
//! is a string, or a table of a class that is no fault of ours.

use super::*;
use crate::engine::lua::api;

/// What is called: a value of each kind that has methods.
const RECEIVERS: &[(&str, &str)] = &[
    ("tool", "Tool.calculator"),
    ("file", "io.tmpfile()"),
    ("display", "display(1)"),
    ("progress", "Progress(3)"),
    ("logger", "Logger.get('x')"),
    ("timer", "Debug.timer('x')"),
    ("stream", "Streaming.from({1, 2, 3})"),
    ("agent", "(Agent.get('odd') or Agent.create{name = 'odd', model = 'mock/echo'})"),
    ("agent_builder", "Agent.builder():model('mock/echo')"),
];

/// Lua's own, which are as they are, and what ends the script.
const PASSED_OVER: &[&str] = &["os.exit", "os.date", "os.time", "os.difftime", "os.clock"];

/// Calls `target` with no argument, with each odd value, and with lists of them; `seed` says with which.
const CALLS: &str = r#"
local target, receiver, seed, classes = ...
local function deep(levels)
  local t = {}
  for _ = 1, levels do t = {t} end
  return t
end
local circle = {} circle.me = circle circle[1] = circle
local function raises() error("odd") end
local hostile = setmetatable({}, {__index = raises, __newindex = raises, __len = raises, __pairs = raises, __call = raises,
  __tostring = raises, __concat = raises, __eq = raises, __lt = raises, __name = "\xff", __metatable = false})
local values = {
  false, true, 0, -1, 1, 0.5, 0/0, 1/0, -1/0, math.maxinteger, math.mininteger, 1e308, 2^53,
  "", "x", "\xff\xfe", ("x"):rep(100000), "a\0b", "../../../etc/shadow", "%n%s%", "\27[31m", "a.b.c", "calculator", "kernel",
  "error", "(", "*", "5s", "-1", {}, {1, 2, 3}, {[1.5] = 2}, {1, x = 2}, {[true] = 1}, {name = {}, input = 1}, deep(200), circle, hostile,
  {max_depth = -1}, {max_depth = 1e9, indent_size = 1e9, max_string_length = 1e300}, {timeout = 0/0}, {id = "timer-1"},
  {_coroutine = 1}, print, raises, function() return hostile end, function() coroutine.yield(1) end,
  function(f) return f end, coroutine.create(raises), io.stdout, JSON.null, setmetatable({}, {__index = function() return 1 end}),
}
local function dice(most)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return seed // 65536 % most + 1
end
local failed = {}
local function check(ok, err, told)
  if ok or type(err) == "string" or rawequal(err, hostile) then return end
  if type(err) == "table" and (rawget(err, "class") == nil or classes[err.class]) then return end
  failed[#failed + 1] = string.format("%s with %s: %s", type(err), told, type(err) == "table" and err.message or "?")
end
local function try(count, ...)
  local told = {}
  for i = 1, count do told[i] = tostring(type((select(i, ...)))) end
  told = table.concat(told, ", ")
  if dice(2) == 1 then
    check(told, nil, told)
    local ok, err = pcall(target, ...)
    check(ok, err, told)
  else
    check((function(ok, ...) return ok, ... end)(coroutine.resume(coroutine.create(target), ...)))
  end
end
local function with(count, ...)
  if receiver then return try(count + 1, receiver(), ...) end
  return try(count, ...)
end
with(0)
with(1, nil)
for _, value in ipairs(values) do
  with(1, value)
  if receiver then try(1, value) end
end
for _ = 1, 50 do
  local count = 1 + dice(4)
  local list = {}
  for i = 1, count do list[i] = values[dice(#values + 1)] end
  with(count, table.unpack(list, 1, count))
end
return table.concat(failed, "\n")
"#;

fn attempt(entry: &api::Entry, seed: u64) -> Option<String> {
    let (kind, name) = entry.name.split_once('.').unwrap_or(("", entry.name));
    let (target, receiver) = if api::is_method(entry) {
        let (_, receiver) = RECEIVERS.iter().find(|(known, _)| *known == kind)?;
        (format!("({receiver}).{name}"), format!("function() return {receiver} end"))
    } else {
        (entry.name.to_owned(), "nil".to_owned())
    };
    let classes = crate::error::CLASSES.iter().filter(|row| row.class != Class::Bug);
    let classes: Vec<_> = classes.map(|row| format!("{} = true", row.name)).collect();
    let code = format!("return load([==[{CALLS}]==])({target}, {receiver}, {seed}, {{{}}})", classes.join(", "));
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Lua::new(runtime(folder.path(), |_, _| ())).unwrap();
    let deadline = Some(Instant::now() + Duration::from_secs(30));
    let script = Script { deadline, allow_stdin: true, ..script(&code) };
    let outcome = engine.execute(&script, &(Arc::new(Kept::default()) as Arc<dyn Output>));
    match (outcome.error, outcome.value) {
        (Some(error), _) => Some(error.evalue),
        (None, Some(value)) if !value.text.is_empty() => Some(value.text),
        _ => None,
    }
}

#[test]
fn no_argument_breaks_a_function() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("LLMSPELL_FUZZ_SEED").map_or(now % 2_147_483_648, |seed| seed.parse().unwrap());
    let of_lua = ["STRING", "TABLE", "MATH", "UTF8", "COROUTINE", "PACKAGE", "DEBUG LIBRARY", "BASIC FUNCTIONS"];
    let ours = api::SECTIONS.iter().filter(|section| !of_lua.contains(&section.title));
    let functions = ours.flat_map(|section| section.rows).filter(|entry| !entry.signature.is_empty());
    let mut wrong = String::new();
    for entry in functions.filter(|entry| !PASSED_OVER.contains(&entry.name)) {
        if let Some(what) = attempt(entry, seed) {
            wrong.push_str(&format!("{}: {what}\n", entry.name));
        }
    }
    assert!(wrong.is_empty(), "LLMSPELL_FUZZ_SEED={seed}\n{wrong}");
}
