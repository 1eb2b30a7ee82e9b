//! Completion and inspection: `|` is the cursor. Nothing of the user's may run.

use super::*;
use crate::engine::lua::api;
use crate::engine::lua::cursor::Chain;
use crate::engine::lua::look::{self, Thing};

fn cursor(code: &str) -> (String, usize) {
    let at = code.find('|').unwrap();
    (code.replacen('|', "", 1), at)
}

fn found(engine: &mut Lua, code: &str) -> crate::engine::Completions {
    let (code, at) = cursor(code);
    engine.complete(&code, at)
}

fn names(engine: &mut Lua, code: &str) -> Vec<String> {
    found(engine, code).items.into_iter().map(|item| item.text).collect()
}

fn told(engine: &mut Lua, code: &str) -> String {
    let (code, at) = cursor(code);
    engine.inspect(&code, at, false).map_or_else(|| "nothing".into(), |found| found.text)
}

fn cell(engine: &mut Lua, number: u32, code: &str) {
    let script = Script { code: code.as_bytes(), name: format!("=[{number}]"), ..Script::default() };
    let output: Arc<dyn Output> = Arc::new(Kept::default());
    let outcome = engine.execute(&script, &output);
    assert!(outcome.error.is_none(), "{code}: {:?}", outcome.error);
}

#[test]
fn names_fields_and_methods() {
    let mut lua = engine();
    cell(
        &mut lua,
        1,
        "alpha = {beta = {gamma = 1, ['no name'] = 2, get = function(self) end}, [1] = {x = 1}} alpine = 2
         class = {} class.__index = class function class:method() end class.value = 1
         object = setmetatable({own = 1}, class)",
    );
    assert_eq!(names(&mut lua, "al|"), ["alpha", "alpine"]);
    assert_eq!(names(&mut lua, "print(alph|, 1)"), ["alpha"]);
    assert_eq!(names(&mut lua, "x = alpha.|"), ["beta"]);
    assert_eq!(names(&mut lua, "alpha.beta.g|"), ["gamma", "get"].map(String::from));
    assert_eq!(names(&mut lua, "alpha['beta'].ga|"), ["gamma"]);
    assert_eq!(names(&mut lua, "alpha['be|"), ["beta"]);
    assert_eq!(names(&mut lua, "alpha[1].|"), ["x"]);
    assert_eq!(names(&mut lua, "_G.alpi|"), ["alpine"]);
    assert_eq!(names(&mut lua, "alpha.beta:|"), ["get"]);
    assert_eq!(names(&mut lua, "object.|"), ["__index", "method", "own", "value"]);
    assert_eq!(names(&mut lua, "object:|"), ["method"]);
    assert_eq!(names(&mut lua, "('x'):re|"), ["rep", "reverse"]);
    assert_eq!(names(&mut lua, "_VERSION:up|"), ["upper"]);
    assert_eq!(names(&mut lua, "io.stdout:wr|"), ["write"]);
    assert_eq!(names(&mut lua, "whil|"), ["while"]);
    assert_eq!(names(&mut lua, "local ownname = 1 print(ownn|"), ["ownname"]);
    for nothing in ["-- al|", "'al|", "nosuch.al|", "f().al|", "[[al|", "1.|", "goto al|", "alpine.x|"] {
        assert_eq!(names(&mut lua, nothing), [""; 0], "{nothing}");
    }
    let found = found(&mut lua, "😀 = al|pha");
    assert_eq!((found.start, found.end), (7, 9));
}

#[test]
fn kinds_and_signatures() {
    let mut lua = engine();
    cell(&mut lua, 1, "function add(a, b, ...) end");
    let item = |lua: &mut Lua, code: &str| {
        let found = found(lua, code);
        (found.items[0].kind, found.items[0].signature.clone().unwrap_or_default())
    };
    assert_eq!(item(&mut lua, "add|"), ("function", "(a, b, ...)".into()));
    assert_eq!(item(&mut lua, "string.forma|"), ("function", "(format, …) → string".into()));
    assert_eq!(item(&mut lua, "strin|").0, "module");
    assert_eq!(item(&mut lua, "whil|").0, "keyword");
    assert_eq!(item(&mut lua, "_VERSIO|").0, "instance");
}

#[test]
fn tools_and_their_parameters() {
    let mut lua = engine();
    assert_eq!(names(&mut lua, "Tool.invoke('calc|"), ["calculator"]);
    assert_eq!(names(&mut lua, "Tool.invoke(\"calc|\", {})"), ["calculator"]);
    assert_eq!(names(&mut lua, "Tool['calc|"), ["calculator"]);
    assert_eq!(names(&mut lua, "Tool.ca|"), ["calculator", "categories"]);
    assert!(names(&mut lua, "Tool.calculator.|").contains(&"execute".to_owned()));
    let parameters = names(&mut lua, "Tool.invoke('calculator', {|");
    assert!(parameters.contains(&"input".to_owned()) && !parameters.contains(&"while".to_owned()), "{parameters:?}");
    assert_eq!(names(&mut lua, "Tool.calculator{inp|"), ["input"]);
    assert_eq!(names(&mut lua, "Tool.calculator({input = '1', |"), parameters);
    assert!(names(&mut lua, "Tool.calculator{input = |").contains(&"while".to_owned()));
    assert!(names(&mut lua, "Tool.hash_calculator{algorithm = '|").contains(&"sha256".to_owned()));
    assert_eq!(names(&mut lua, "Tool.nothing{|").iter().filter(|name| *name == "input").count(), 0);
}

#[test]
fn modules() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["first.lua", "folder/inner.lua", "folder/init.lua", "other.txt"] {
        std::fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
        std::fs::write(dir.path().join(file), "return 1").unwrap();
    }
    let mut lua = Lua::new(runtime(dir.path(), |_, _| ())).unwrap();
    assert_eq!(names(&mut lua, "require 'f|"), ["first", "folder", "folder.inner"]);
    assert_eq!(names(&mut lua, "require(\"folder.|"), ["folder.inner"]);
    assert_eq!(names(&mut lua, "require 'oth|"), [""; 0]);
    assert_eq!(names(&mut lua, "require 'strin|"), ["string"]);
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("elsewhere.lua"), "return 1").unwrap();
    let path = other.path().to_path_buf();
    let mut lua = Lua::new(runtime(dir.path(), |config, _| config.engines.lua.package_paths.push(path))).unwrap();
    assert_eq!(names(&mut lua, "require 'else|"), ["elsewhere"]);
}

#[test]
fn nothing_is_run() {
    let mut lua = engine();
    cell(
        &mut lua,
        1,
        "ran = false
         local function run() ran = true error('no') end
         trap = setmetatable({}, {__index = run, __pairs = run, __tostring = run, __len = run, __name = 'Trap', __metatable = run})
         setmetatable(_G, {__index = run, __pairs = run})
         loop = {} setmetatable(loop, {__index = loop})",
    );
    for code in ["trap.|", "trap.x.|", "trap:|", "nosuch.|", "tr|", "loop.x|", "require 'x|"] {
        found(&mut lua, code);
        told(&mut lua, code);
    }
    assert_eq!(told(&mut lua, "tra|p"), "trap\n\nTrap with 0 entries");
    cell(&mut lua, 2, "assert(rawget(_G, 'ran') == false)");
}

/// Wherever the cursor stands in whatever code, there is an answer.
#[test]
fn nothing_panics() {
    let mut lua = engine();
    let codes = [
        "Tool.invoke('calculator', {input = \"1\\\"+1\"}, {timeout = '5s'}) -- 😀 é\nlocal x <close> = nil",
        "a[ [==[long]==] ].b['c'][1.5e+3][0xff] = ('é'):rep(3)..'\\\\'..[[\n]] goto ü ::l:: f{}'x'.y:z\"",
        "}{)(][ = , ; : . .. ... :: ~= <= // >> '\\",
        "require \"\\u{1F600}é\" help('é') x['😀",
        "\r\n\t\0\u{feff}--[==[ ]=] é",
    ];
    for code in codes {
        for at in 0..=code.len() + 1 {
            super::super::completion::complete(lua.state(), code, at);
            super::super::inspect::inspect(lua.state(), code, at, true);
            if let Some(part) = code.get(..at) {
                super::super::completion::complete(lua.state(), part, at);
                super::super::inspect::inspect(lua.state(), part, at, false);
            }
            if let Some(part) = code.get(at..) {
                lua.inspect(part, part.len() / 2, true);
            }
        }
    }
    // Large states are looked at in bounded time.
    cell(&mut lua, 1, "big = {} for i = 1, 200000 do big['k' .. i] = print end");
    let begun = Instant::now();
    assert_eq!(found(&mut lua, "big.|").items.len(), 2000);
    assert!(told(&mut lua, "big|").contains("… "));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn pages() {
    let mut lua = engine();
    cell(&mut lua, 1, "-- Not this.\n\n-- Adds two numbers.\n--- In full.\nfunction add(a, b)\n  return a + b\nend");
    cell(&mut lua, 2, "--[[ Says\nhello. ]]\nlocal function hello() end\ngreet = hello t = {n = 1, s = 'x', f = add}");
    assert_eq!(told(&mut lua, "add|"), "add(a, b)\n\nAdds two numbers.\nIn full.\n\nDefined in cell [1], line 5");
    assert_eq!(told(&mut lua, "greet|"), "greet()\n\nSays\nhello.\n\nDefined in cell [2], line 3");
    let page = lua.inspect("add", 2, true).unwrap();
    assert!(page.markdown.ends_with("```lua\nfunction add(a, b)\n  return a + b\nend\n```"), "{}", page.markdown);
    assert_eq!(told(&mut lua, "t|"), "t\n\ntable with 3 entries\n\n- f(a, b)\n- n: integer 1\n- s: string \"x\"");
    assert_eq!(told(&mut lua, "t.n|"), "t.n\n\ninteger: 1");
    assert!(told(&mut lua, "string.for|mat('x')").starts_with("string.format(format, …) → string\n\nFormats"));
    assert!(told(&mut lua, "string.format(|)").starts_with("string.format("));
    assert!(told(&mut lua, "string.format('%d', |").starts_with("string.format("));
    assert!(told(&mut lua, "('x'):re|p(2)").starts_with("string.rep("));
    assert!(told(&mut lua, "math.p|i").starts_with("math.pi\n\nπ."));
    assert!(told(&mut lua, "Tool.calcul|ator").starts_with("Tool.calculator(params [, options]) → table\n\nTool of"));
    assert!(told(&mut lua, "Tool.invoke('calc|ulator')").contains("- input (string"));
    assert!(told(&mut lua, "Tool.calculator{inp|ut = 1}").starts_with("calculator: input\n\ninput (string"));
    assert!(told(&mut lua, "Tool.invo|ke").starts_with("Tool.invoke(name"));
    assert!(told(&mut lua, "Tool.calculator:exec|ute").starts_with("tool.execute("));
    assert!(told(&mut lua, "AR|GS").starts_with("ARGS\n"));
    assert!(told(&mut lua, "io.stdout:clo|se()").starts_with("file.close(self)"));
    assert!(told(&mut lua, "_G.pri|nt").starts_with("print("));
    for nothing in ["nosuch|", "whil|e", "-- print|", "|", "1|", "'text|'"] {
        assert_eq!(told(&mut lua, nothing), "nothing", "{nothing}");
    }
    cell(&mut lua, 3, "print = function(mine) end");
    assert_eq!(told(&mut lua, "print|"), "print(mine)\n\nDefined in cell [3], line 1");
    let (_, text) = run(&mut lua, "help('string.rep')");
    assert!(text.starts_with("string.rep(s, n"), "{text}");
    assert!(run(&mut lua, "help(add)").1.starts_with("function(a, b)\n\nAdds"));
    assert!(run(&mut lua, "help(Tool.calculator)").1.starts_with("Tool.calculator("));
    assert_eq!(run(&mut lua, "help('nosuch')").0.error.unwrap().class, Class::NotFound);
}

#[test]
fn the_reference_and_the_state_agree() {
    let lua = engine();
    let state = lua.state();
    for entry in api::entries() {
        let there = matches!(look::resolve(state, &Chain::of(entry.name)), Some(Thing::Value(_)));
        assert!(there || api::is_method(entry) || ["ARGS", "arg"].contains(&entry.name), "{}", entry.name);
    }
    for (name, value) in look::fields(state, &mlua::Value::Table(state.globals())) {
        assert!(api::entry(&name).is_some(), "{name} is not in the reference");
        for field in look::fields(state, &value).keys().filter(|_| value.is_table() && name != "_G" && name != "tools")
        {
            assert!(api::entry(&format!("{name}.{field}")).is_some(), "{name}.{field} is not in the reference");
        }
    }
}
