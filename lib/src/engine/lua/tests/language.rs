//! The language as scripts see it: output, values, arguments, JSON, completeness.

use super::*;
use crate::engine::Completeness;

#[test]
fn print_prints_as_lua_does() {
    assert_eq!(prints("print(1, 3.0, 'a', nil, true, 1e100)"), "1\t3.0\ta\tnil\ttrue\t1e+100\n");
    assert_eq!(prints("print()"), "\n");
    assert_eq!(prints("print(setmetatable({}, {__tostring = function() return 'mine' end}))"), "mine\n");
    assert_eq!(
        prints("print(pcall(print, setmetatable({}, {__tostring = function() return {} end})))"),
        "false\t'__tostring' must return a string\n"
    );
    assert_eq!(prints("print(setmetatable({}, {__tostring = function() return 1.5 end}))"), "1.5\n");
    let kept = Arc::new(Kept::default());
    engine().execute(&script("print('\\xff\\0z')"), &(Arc::clone(&kept) as Arc<dyn Output>));
    assert_eq!(*kept.out.lock().unwrap(), b"\xff\0z\n");
}

#[test]
fn standard_streams() {
    assert_eq!(prints("io.write('a', 1, 2.5):write('b', '\\n')"), "a12.5b\n");
    assert_eq!(
        prints("io.stdout:write('x'):flush() io.stdout:setvbuf('no') print(io.type(io.stdout), type(io.stdout))"),
        "xfile\tuserdata\n"
    );
    assert_eq!(prints("print(tostring(io.stdout):match('^file %(0x%x+%)$') ~= nil)"), "true\n");
    assert_eq!(
        prints("print(pcall(io.write, {}))"),
        "false\tt.lua:1: bad argument #1 to 'write' (string expected, got table)\n"
    );
    assert_eq!(prints("print(io.stdout:seek(), io.stdout:read())"), "nil\tnil\tBad file descriptor\t9\n");
    let kept = Arc::new(Kept::default());
    engine().execute(&script("io.stderr:write('oops')"), &(Arc::clone(&kept) as Arc<dyn Output>));
    assert_eq!(*kept.err.lock().unwrap(), b"oops");
}

#[test]
fn reading() {
    let ask = |code: &str, lines: &[&str]| {
        let kept = Arc::new(Kept::default());
        kept.answers.lock().unwrap().extend(lines.iter().map(|line| (*line).to_owned()));
        let script = Script { allow_stdin: true, ..script(code) };
        let outcome = engine().execute(&script, &(Arc::clone(&kept) as Arc<dyn Output>));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        outcome.value.map(|value| value.text).unwrap_or_default()
    };
    assert_eq!(ask("return io.read(), io.read(), io.read()", &["one", ""]), "one\t\tnil");
    assert_eq!(ask("return io.read('n', 'n', 'l')", &[" 12 0x1f rest"]), "12\t31\t rest");
    assert_eq!(ask("return io.read('n', 'n')", &["1.5e2", "-7"]), "150.0\t-7");
    assert_eq!(ask("return io.read('n')", &["abc"]), "");
    assert_eq!(ask("return io.read(2, 0, 3)", &["ab", "cd"]), "ab\t\t\ncd");
    assert_eq!(ask("return #io.read('a'), io.read('a'), io.read('l')", &["ab", "cd"]), "6\t\tnil");
    assert_eq!(ask("return io.read('L')", &["ab"]), "ab\n");
    assert_eq!(ask("local n = 0 for line in io.lines() do n = n + #line end return n", &["ab", "cde"]), "5");
    assert_eq!(ask("return io.stdin:read('*l')", &["old"]), "old");
    assert_eq!(ask("return io.read_password(), io.read_password('key: '), io.read_password()", &["a", ""]), "a\t\tnil");
    // The rest of a line that was begun comes first.
    assert_eq!(ask("return io.read(1), io.read_password(), io.read_password()", &["ab", "c"]), "a\tb\tc");
    assert_eq!(failure("io.read_password()").class, Class::Denied);
    assert!(failure("io.read_password(1)").evalue.contains("bad argument #1 to 'read_password'"));
    let error = failure("io.read()");
    assert_eq!(
        (error.class, error.evalue.as_str()),
        (Class::Denied, "t.lua:1: standard input: the client of this script does not answer questions")
    );
}

#[test]
fn values_for_people() {
    assert_eq!(value("1 + 1"), "2");
    assert_eq!(value("return 'text'"), "text");
    assert_eq!(value("return 1, nil, 'x'"), "1\tnil\tx");
    assert_eq!(value("x = 1"), "nothing");
    assert_eq!(value("return nil"), "nothing");
    assert_eq!(
        value("return {1, 2, {a = 'b\\n', ['c d'] = 3.0}, z = true}"),
        "{1, 2, {a = \"b\\n\", [\"c d\"] = 3.0}, z = true}"
    );
    assert_eq!(value("local t = {} t.t = t return t"), "{t = <cycle>}");
    assert_eq!(value("return {}"), "{}");
    assert_eq!(value("return {[JSON.null] = JSON.null}"), "{[JSON.null] = JSON.null}");
    assert!(value("local t = {} for i = 1, 1000 do t[i] = i end return t").ends_with("200, … 800 more}"));
    assert_eq!(value("local t = {} for i = 1, 20 do t = {t} end return t"), "{{{{{{{{{…}}}}}}}}}");
    assert_eq!(value("return setmetatable({}, {__tostring = function() return 'mine' end})"), "mine");
    assert!(value("return print").starts_with("function: "));
}

#[test]
fn values_as_json() {
    let json = |code: &str| run(&mut engine(), code).0.value.unwrap().json.map(|json| json.to_string());
    assert_eq!(json("return {1, {b = 1, a = 2.0}}").unwrap(), r#"[1,{"a":2.0,"b":1}]"#);
    assert_eq!(json("return 1, 'x'").unwrap(), r#"[1,"x"]"#);
    assert_eq!(json("return 0/0").unwrap(), "null");
    assert_eq!(json("return print"), None);
    assert_eq!(json("local t = {} t.t = t return t"), None);
    assert_eq!(json("return '\\xff'"), None);
}

#[test]
fn json_global() {
    assert_eq!(
        prints("print(JSON.stringify({b = {1, 2}, a = {x = JSON.null}}))"),
        "{\"a\":{\"x\":null},\"b\":[1,2]}\n"
    );
    assert_eq!(
        prints(
            "local v = JSON.parse('{\"a\": [1, 2.5, null], \"e\": []}') print(v.a[1], v.a[2], v.a[3], JSON.stringify(v.e), JSON.stringify({}))"
        ),
        "1\t2.5\tnil\t[]\t{}\n"
    );
    assert_eq!(prints("print(math.type(JSON.parse('9007199254740993')), JSON.parse('1e3'))"), "integer\t1000.0\n");
    let error = failure("JSON.parse('{')");
    assert_eq!(error.class, Class::Usage);
    assert!(error.evalue.starts_with("t.lua:1: JSON parse error: "), "{}", error.evalue);
    assert!(failure("JSON.stringify(print)").evalue.contains("a function has no JSON form"));
    assert!(failure("JSON.stringify({1, a = 2})").evalue.contains("both an array and an object: key \"a\""));
    assert!(failure("local t = {} t.t = t JSON.stringify(t)").evalue.contains("circular"));
}

#[test]
fn arguments() {
    let args =
        |words: &[&str]| Args { script: "t.lua".into(), words: words.iter().map(|word| (*word).to_owned()).collect() };
    let code = "return ARGS[0], ARGS['1'], ARGS[1], #ARGS, ARGS.name, ARGS.flag, arg[0], #arg, select('#', ...), (...)";
    let script = Script { args: Some(args(&["--name", "v", "one", "--flag"])), ..script(code) };
    let mut engine = engine();
    let output = Arc::new(Kept::default()) as Arc<dyn Output>;
    let outcome = engine.execute(&script, &output);
    assert_eq!(outcome.value.unwrap().text, "t.lua\tone\tone\t1\tv\ttrue\tt.lua\t4\t4\t--name");
    assert_eq!(run(&mut engine, "return ARGS, arg, select('#', ...)").0.value.unwrap().text, "nil\tnil\t0");
}

#[test]
fn chunks() {
    assert_eq!(value("#!/usr/bin/env llmspell-run\nreturn debug.getinfo(1, 'l').currentline"), "2");
    assert_eq!(failure("\x1bLua").ename, "SyntaxError");
    assert_eq!(prints("print(load('\\27Lua'))"), "nil\tattempt to load a binary chunk (mode is 't')\n");
    assert_eq!(prints("print(load('return 1', 'x', 'b'))"), "nil\tattempt to load a text chunk (mode is '')\n");
    assert_eq!(
        prints("print(load('return x', 'x', 't', {x = 5})(), load('x = 1', 'x', nil, nil) ~= nil)"),
        "5\ttrue\n"
    );
    assert_eq!(
        value(
            "return string.dump, package.loadlib, package.cpath, debug.sethook, debug.getregistry, require('debug') == debug"
        ),
        "nil\tnil\tnil\tnil\tnil\ttrue"
    );
    let mut engine = engine();
    run(&mut engine, "kept = 5");
    assert_eq!(run(&mut engine, "kept").0.value.unwrap().text, "5");
}

#[test]
fn coroutines_are_as_in_lua() {
    assert_eq!(
        value(
            "local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end) local _, x = coroutine.resume(co, 1) local _, y = coroutine.resume(co, 5) return x, y, coroutine.status(co)"
        ),
        "2\t10\tdead"
    );
    assert_eq!(value("return coroutine.resume(coroutine.create(function() error({}) end)) == false"), "true");
    assert_eq!(prints("print(pcall(coroutine.wrap(function() error('x') end)))"), "false\tt.lua:1: x\n");
    assert_eq!(
        prints("local co = coroutine.wrap(function() end) co() print(pcall(co))"),
        "false\tcannot resume dead coroutine\n"
    );
    assert_eq!(
        prints("print(coroutine.resume(coroutine.running()))"),
        "false\tcannot resume non-suspended coroutine\n"
    );
    assert_eq!(prints("print(xpcall(function(...) return ... end, print, 1, 2))"), "true\t1\t2\n");
    assert_eq!(prints("print(xpcall(error, function(m) return m .. '!' end, 'a'))"), "false\ta!\n");
    assert_eq!(
        prints(
            "local co = coroutine.wrap(function() return xpcall(function() return coroutine.yield(1) end, print) end) print(co(), co(7))"
        ),
        "1\ttrue\t7\n"
    );
    assert_eq!(
        prints(
            "local closed local co = coroutine.create(function() local x <close> = setmetatable({}, {__close = function() closed = true end}) coroutine.yield() end) coroutine.resume(co) print(coroutine.close(co), closed)"
        ),
        "true\ttrue\n"
    );
    assert_eq!(
        prints("print(pcall(coroutine.close, coroutine.running()))"),
        "false\tcannot close a running coroutine\n"
    );
}

#[test]
fn completeness() {
    let mut engine = engine();
    let mut ask = |code: &str| engine.is_complete(code);
    for code in ["1 + 1", "x = 1", "foo", "return 1", "", "for i = 1, 2 do end", "--[[ done ]]", "f()"] {
        assert_eq!(ask(code), Completeness::Complete, "{code}");
    }
    for (code, depth) in [
        ("for i = 1, 2 do", 1),
        ("if x then\n  f(function()", 3),
        ("x = {", 1),
        ("x = [[", 0),
        ("--[==[ open ]]", 0),
        ("1 +", 0),
        ("if a then b() elseif c then", 1),
        ("function f() -- end end\n  local s = 'end end'", 1),
        ("repeat x()", 1),
    ] {
        assert_eq!(ask(code), Completeness::Incomplete("  ".repeat(depth)), "{code}");
    }
    for code in ["x = = 1", "end", "for i = do", "x = 'open", ")"] {
        assert_eq!(ask(code), Completeness::Invalid, "{code}");
    }
}

#[test]
fn memory_has_a_limit_and_the_state_survives_it() {
    let mut engine =
        Lua::new(runtime(Path::new("/tmp"), |config, _| config.engines.lua.max_memory_bytes = 16 << 20)).unwrap();
    for code in [
        "local t = {} while true do t[#t + 1] = ('x'):rep(100) .. #t end",
        "return ('x'):rep(1 << 30)",
        "local s = 'x' while true do s = s .. s end",
    ] {
        let error = run(&mut engine, code).0.error.unwrap();
        assert_eq!((error.class, error.evalue.as_str()), (Class::Script, "not enough memory"), "{code}");
        assert_eq!(run(&mut engine, "return 1").0.value.unwrap().text, "1");
    }
}

#[test]
fn the_language_is_told() {
    let language = engine().language();
    assert_eq!((language.name, language.file_extension), ("lua", ".lua"));
    assert!(language.version.starts_with("5.4."), "{}", language.version);
}

#[test]
fn a_value_costs_no_more_than_stated() {
    const DAG: &str = "local t = {} for i = 1, 34 do t = {t, t} end";
    let mut engine = engine();
    let began = Instant::now();
    let shown = run(&mut engine, &format!("{DAG} return t")).0.value.unwrap();
    assert!(shown.json.is_none());
    assert!(shown.text.len() < 128 << 10 && shown.text.contains("{…}"), "{}", shown.text.len());
    let shown = run(&mut engine, "local s = ('x'):rep(40 << 20) return {s, s}, s").0.value.unwrap();
    assert!(shown.json.is_none());
    assert!(shown.text.len() < 42 << 20 && shown.text.contains("… 41877504 more bytes"), "{}", shown.text.len());
    let shown = run(&mut engine, "local s = ('x'):rep(40 << 20) return s, s, s, s, s").0.value.unwrap();
    assert!(shown.json.is_none() && shown.text.ends_with("… 3 more"), "{}", shown.text.len());
    let error = run(&mut engine, &format!("{DAG} JSON.stringify(t)")).0.error.unwrap();
    assert_eq!(
        (error.class, error.evalue.as_str()),
        (Class::Usage, "t.lua:1: JSON.stringify: more than 1048576 values")
    );
    assert!(
        run(&mut engine, &format!("{DAG} Tool.invoke('calculator', t)")).0.error.unwrap().evalue.contains("more than")
    );
    let error = run(&mut engine, "JSON.parse('[' .. ('[],'):rep(2000000) .. '0]')").0.error.unwrap();
    assert!(error.evalue.contains("JSON parse error: more than 1048576 values"), "{}", error.evalue);
    assert_eq!(
        run(&mut engine, "return #JSON.parse('[\"\\\\\\\"' .. (',['):rep(1000000) .. '\"]')[1]").0.value.unwrap().text,
        "2000001"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_module_has_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("long.lua")).unwrap().set_len(65 << 20).unwrap();
    let mut engine = Lua::new(runtime(folder.path(), |_, _| ())).unwrap();
    assert_eq!(
        run(&mut engine, "return (select(2, loadfile('long.lua')))").0.value.unwrap().text,
        "long.lua: File too large"
    );
    assert!(run(&mut engine, "require('long')").0.error.is_some());
}
