//! What a script gets hold of is what it was given: no function of the engine or of Lua's own library behind ours, however it
//! looks. And what it costs outside of Lua's memory has an end.

use super::*;

/// `public`: every function reachable from globals and metatables, by its way there. `scan()`: what the stack shows beyond them.
const WALK: &str = r#"
public, found = {}, {}
local seen = {}
local function walk(value, way)
  if type(value) == 'function' then public[value] = public[value] or way return end
  local metatable = type(value) ~= 'table' and getmetatable(value) or type(value) == 'table' and getmetatable(value)
  if type(metatable) == 'table' and not seen[metatable] then walk(metatable, way .. '<meta>') end
  if type(value) ~= 'table' or seen[value] or value == public or value == found then return end
  seen[value] = true
  for key, member in next, value do
    walk(key, way .. '<key>')
    walk(member, way == '' and tostring(key) or way .. '.' .. tostring(key))
  end
end
local file = assert(io.tmpfile())
local _, fault = pcall(Tool.invoke, 'nothing')
walk(_G, '') walk('', 'string') walk(file, 'file') walk(io.stdout, 'stdout') walk(fault, 'error')
walk(coroutine.create(print), 'thread') walk(Tool.get('calculator'), 'tool') walk(JSON.parse('[]'), 'array')
local getinfo, getlocal, running = debug.getinfo, debug.getlocal, coroutine.running
local threads = {}
function scan(what)
  local function keep(value, where)
    if type(value) == 'function' and not public[value] and getinfo(value, 'S').what == 'C' then found[value] = what .. ' ' .. where end
    if type(value) == 'userdata' and io.type(value) == nil and value ~= JSON.null then found[value] = what .. ' ' .. where end
  end
  local function look(thread)
    for level = 0, 40 do
      local ok, info = pcall(getinfo, thread, level)
      if not ok or not info then break end
      keep(info.func, 'level ' .. level)
      local ok, info = pcall(getinfo, thread, level, 'f')
      if ok and info then keep(info.func, 'f level ' .. level) end
      for index = -20, 40 do
        local ok, name, value = pcall(getlocal, thread, level, index)
        if ok and name then
          keep(value, 'local ' .. name .. ' level ' .. level)
          if name:sub(1, 1) == '(' and name ~= '(vararg)' and value ~= nil then found[name] = what end
        end
      end
    end
  end
  look((running()))
  if main then look(main) end
  return true
end
main = running()
"#;

const CALLBACKS: &str = r#"
table.sort({3, 2, 1}, function(a, b) scan('sort') return a < b end)
string.gsub('a', 'a', function() scan('gsub') end)
load(function() scan('load') end)
load(function() scan('load again') error('x') end)
pcall(function() local x <close> = setmetatable({}, {__close = function() scan('close') end}) error('x') end)
xpcall(error, function() scan('handler') end, 'x')
for _ in coroutine.wrap(function() scan('wrap') coroutine.yield(1) scan('wrap') end) do scan('for') end
coroutine.resume(coroutine.create(function() scan('resume') end))
pcall(print, setmetatable({}, {__tostring = function() scan('print') return '' end}))
pcall(JSON.stringify, setmetatable({}, {__index = function() scan('index') end, __pairs = function() scan('pairs') end}))
tostring(setmetatable({}, {__tostring = function() scan('tostring') return '' end}))
package.preload.scanned = function() scan('require') end require('scanned')
table.insert(package.searchers, 1, function() scan('searcher') end) pcall(require, 'nowhere') table.remove(package.searchers, 1)
Tool.invoke('calculator', {input = '1+1'}, {on_progress = function() scan('progress') end})
pcall(Tool.invoke, 'calculator', setmetatable({}, {__index = function() scan('params') end}))
_ = setmetatable({}, {__index = function() scan('index') end}).x
_ = setmetatable({}, {__concat = function() scan('concat') end}) .. 'x'
table.concat(setmetatable({}, {__len = function() return 1 end, __index = function() scan('concat') return '' end}))
for _ in pairs(setmetatable({}, {__pairs = function() scan('pairs') return next, {} end})) do end
for _ in function() return scan('iterator') and nil end do end
-- Finalizers run wherever memory is asked for.
collectgarbage('generational')
local function mark(what) setmetatable({}, {__gc = function() scan('gc ' .. what) end}) end
local path = os.tmpname()
for round = 1, 150 do
  for _, step in ipairs{
    function() local f = io.open(path) if f then f:read('a') f:close() end end,
    function() local f = io.tmpfile() f:write('x') f:close() end,
    function() for _ in io.lines(path) do end end,
    function() load('return 1') load(function() end) end,
    function() pcall(loadfile, path) pcall(dofile, path) pcall(require, 'nowhere') end,
    function() JSON.parse('{"a": [1, 2, {"b": "c"}]}') JSON.stringify({1, {a = 'b'}}) end,
    function() Tool.list() Tool.get('calculator') pcall(Tool.invoke, 'nothing') end,
    function() os.getenv('HOME') os.date() os.rename(path .. 'x', path) os.execute() pcall(io.popen, 'true') end,
    function() tostring({}) string.rep('x', 100) string.format('%s', {}) table.pack(1, 2) debug.traceback() debug.getinfo(1) end,
    function() coroutine.wrap(function() coroutine.yield() end)() xpcall(error, debug.traceback) end,
  } do
    for _ = 1, round % 5 + 1 do mark(round) end
    step()
  end
end
os.remove(path)
local text = {}
for value, where in pairs(found) do text[#text + 1] = tostring(value) .. ' ' .. tostring(where) end
table.sort(text)
print(table.concat(text, '\n'))
"#;

#[test]
fn no_look_at_the_stack_shows_a_function_the_script_was_not_given() {
    // The first line is of the `print` among the callbacks.
    assert_eq!(prints(&format!("{WALK}{CALLBACKS}")), "\n\n");
}

/// Every function a script reaches, tried as `io.open` and as `load`.
#[test]
fn no_function_a_script_reaches_opens_files_or_loads_bytecode() {
    let text = prints(&format!(
        "{WALK}
        local binary = '\\27Lua\\x54\\0\\x19\\x93\\r\\n\\x1a\\n\\x04\\x08\\x08' .. string.pack('<i8n', 0x5678, 370.5)
        local skipped = {{['os.exit'] = true, ['io.read'] = true, ['io.lines'] = true, ['coroutine.yield'] = true}}
        local names = {{}}
        for f, way in pairs(public) do names[#names + 1] = way end
        assert(#names > 100, #names)
        for f, way in pairs(public) do
          if not skipped[way] and not way:find('^file') and not way:find('^std') and way:match('%a+$') ~= 'print' and way:match('%a+$') ~= 'write' then
            for _, args in ipairs{{{{'/etc/passwd', 'r'}}, {{'/etc/passwd'}}, {{binary, 'x', 'b'}}, {{binary}}}} do
              local results = table.pack(pcall(f, table.unpack(args)))
              for i = 2, results.n do
                local result = results[i]
                if io.type(result) == 'file' and way:match('%a+$') == 'open' then print('opened', way) end
                if type(result) == 'string' and result:find('root:', 1, true) then print('read', way) end
                if type(result) == 'function' and args[1] == binary and way:match('%a+$'):find('load') then print('loaded', way) end
              end
            end
          end
        end"
    ));
    // What is displayed on the way leaves this mark.
    assert_eq!(text.replace("<display>", ""), "");
}

#[test]
fn debug_shows_what_is_the_scripts_own() {
    assert_eq!(
        prints(
            "local function f(a, ...) local b = 2
               print(debug.getinfo(1, 'f').func == f, debug.getinfo(1).func, debug.getinfo(1, 'n').name)
               print(debug.getlocal(1, 1), debug.getlocal(1, 2)) print(debug.getlocal(1, -1)) end
             local ok, e = pcall(f, 1, 'v') print(debug.getinfo(print, 'f').func == print, debug.getlocal(f, 1))"
        )
        .lines()
        .filter(|line| !line.contains("function: "))
        .collect::<Vec<_>>(),
        ["a\t1\tb\t2", "(vararg)\tv", "true\ta"].map(|line| line.replace("a\t1\tb", "a\tb")),
    );
    assert_eq!(
        prints(
            "print(debug.getinfo(0).func, debug.getinfo(0, 'f').func, debug.getinfo(99), debug.getinfo(1, 'l').currentline)"
        ),
        "nil\tnil\tnil\t1\n"
    );
    assert_eq!(prints("print(debug.getlocal(0, 1), (pcall(debug.getlocal, 99, 1)))"), "nil\tfalse\n");
    assert_eq!(
        prints(
            "for k in pairs{1} do local names = {} local i = 1 while true do local n, v = debug.getlocal(1, i) if not n then break end names[#names + 1] = n .. '=' .. type(v) i = i + 1 end print(table.concat(names, ' ')) end"
        ),
        "(for state)=nil (for state)=nil (for state)=nil (for state)=nil k=number names=table i=number\n"
    );
}

#[test]
fn load_with_a_function_takes_pieces() {
    assert_eq!(
        prints(
            "local parts = {'return ', 4, '2', '', 'never'} local i = 0
             print(load(function() i = i + 1 return parts[i] end)())
             print(load(function() error('from the reader', 0) end))
             print(load(function() return {} end))
             print(load(function() i = (i < 10) and 10 or nil return i and '\\27Lua' end, 'x', 'b'))
             print(load(5.5)) print(pcall(load))"
        ),
        "42\nnil\tfrom the reader\nnil\treader function must return a string\nnil\tattempt to load a binary chunk (mode is '')\nnil\t[string \"5.5\"]:1: unexpected symbol near '5.5'\nfalse\tbad argument #1 to 'load' (function expected, got no value)\n"
    );
}

/// mlua's own `pcall` was neither to be yielded across nor safe with as many results as fit on the stack.
#[test]
fn pcall_is_luas() {
    assert_eq!(
        prints(
            "local co = coroutine.wrap(function() return pcall(function() return coroutine.yield(1) end) end) print(co(), co(7))"
        ),
        "1\ttrue\t7\n"
    );
    assert_eq!(prints("for n = 1, 300 do assert(pcall(table.unpack, {}, 1, n)) end"), "");
}

/// A finalizer that loops must not keep a process from ending; what was written must not get lost.
#[test]
fn an_engine_goes_without_running_finalizers() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, gone) = std::sync::mpsc::channel();
    let path = folder.path().to_path_buf();
    std::thread::spawn(move || {
        let mut engine = Lua::new(runtime(&path, |_, grants| grants.run = vec!["sh".into()])).unwrap();
        let code = "kept = setmetatable({}, {__gc = function() while true do end end})
            f = io.open('left', 'w') f:write('text')
            p = io.popen('sleep 30', 'w') p:write(('x'):rep(1 << 16)) p:flush() p:write('more')";
        let error = run(&mut engine, code).0.error;
        drop(engine);
        sender.send(error.map(|error| error.evalue)).unwrap();
    });
    assert_eq!(gone.recv_timeout(Duration::from_secs(2)).expect("ends"), None);
    assert_eq!(std::fs::read_to_string(folder.path().join("left")).unwrap(), "text");
}
