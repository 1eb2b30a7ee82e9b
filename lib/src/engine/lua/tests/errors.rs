//! Errors as the user and as scripts see them.

use mlua::Lua as State;

use super::super::fault;
use super::*;

#[test]
fn runtime_errors_have_their_place_and_only_the_scripts_frames() {
    let error = failure("local function f()\n  local x = nil + 1\nend\nf()\n");
    assert_eq!((error.class, error.ename.as_str()), (Class::Script, "LuaError"));
    assert_eq!(error.evalue, "t.lua:2: attempt to perform arithmetic on a nil value");
    assert_eq!(error.traceback[0], error.evalue);
    assert_eq!(error.traceback[1..], ["t.lua:2: in local 'f'", "t.lua:4: in main chunk"]);
    let error = failure("error('plain', 0)");
    assert_eq!(error.evalue, "plain");
    assert_eq!(error.traceback[1..], ["[C]: in function 'error'", "t.lua:1: in main chunk"]);
}

#[test]
fn syntax_errors() {
    let error = failure("x = = 1");
    assert_eq!((error.class, error.ename.as_str()), (Class::Script, "SyntaxError"));
    assert_eq!(error.evalue, "t.lua:1: unexpected symbol near '='");
}

#[test]
fn raised_tables() {
    assert_eq!(failure("error({message = 'm'})").evalue, "t.lua:1: m");
    assert_eq!(failure("error({code = 5})").evalue, "t.lua:1: {\"code\":5}");
    assert_eq!(failure("error(setmetatable({}, {__tostring = function() return 'mine' end}))").evalue, "t.lua:1: mine");
    let error = failure("error({class = 'not_found', message = 'gone', hint = 'Look.'})");
    assert_eq!(
        (error.class, error.ename.as_str(), error.hint.as_deref()),
        (Class::NotFound, "NotFoundError", Some("Look."))
    );
    assert_eq!(failure("error({class = 'strange', message = 'x'})").class, Class::Script);
    assert!(failure("error(nil)").evalue.contains("error object is a nil value"));
}

fn failing(engine: &Lua) {
    let body = |_: &State, ()| -> std::result::Result<(), fault::Fault> {
        Err(Error::new(Class::Denied, "file x: outside of the roots").hint("Allow it.").into())
    };
    engine.state().globals().set("fail", fault::function(engine.state(), "fail", body).unwrap()).unwrap();
    let body = |_: &State, number: i64| -> std::result::Result<i64, fault::Fault> {
        Ok([1, 2][usize::try_from(number).unwrap()])
    };
    engine.state().globals().set("broken", fault::function(engine.state(), "broken", body).unwrap()).unwrap();
}

#[test]
fn our_errors_read_like_strings_and_keep_their_class() {
    let mut engine = engine();
    failing(&engine);
    let (outcome, text) = run(
        &mut engine,
        "local ok, e = pcall(fail) print(type(e), e.class, e.message, e.hint, tostring(e)) print('a ' .. e .. ' b', e .. 1) print(e:match('file (%w)'), (e:gsub('x', 'y')), e:find('x', 1, true), e:upper())",
    );
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(
        text,
        "table\tdenied\tfile x: outside of the roots\tAllow it.\tfile x: outside of the roots\na file x: outside of the roots b\tfile x: outside of the roots1\nx\tfile y: outside of the roots\t6\tFILE X: OUTSIDE OF THE ROOTS\n"
    );
    let error = run(&mut engine, "\nfail()").0.error.unwrap();
    assert_eq!(
        (error.class, error.ename.as_str(), error.hint.as_deref()),
        (Class::Denied, "DeniedError", Some("Allow it."))
    );
    assert_eq!(error.evalue, "t.lua:2: file x: outside of the roots");
    assert_eq!(error.traceback.last().unwrap(), "t.lua:2: in main chunk");
    let error = run(&mut engine, "local ok, e = pcall(fail) error(e)").0.error.unwrap();
    assert_eq!(error.class, Class::Denied);
}

#[test]
fn panics_are_errors_and_the_engine_goes_on() {
    let mut engine = engine();
    failing(&engine);
    let (outcome, text) = run(&mut engine, "print(broken(1)) local ok, e = pcall(broken, 7) print(ok, e.class)");
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(text, "2\nfalse\tbug\n");
    let error = run(&mut engine, "broken(-1)").0.error.unwrap();
    assert_eq!(error.class, Class::Bug);
    let error = run(&mut engine, "broken('x')").0.error.unwrap();
    assert_eq!(error.class, Class::Usage);
    assert!(error.evalue.starts_with("t.lua:1: bad argument #1 to 'broken' ("), "{}", error.evalue);
}

#[test]
fn overflows_are_plain_errors() {
    for code in [
        "local function f() return 1 + f() end f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
        "local function f() return coroutine.wrap(f)() + 1 end f()",
    ] {
        let mut engine = engine();
        let error = run(&mut engine, code).0.error.expect(code);
        assert_eq!(error.class, Class::Script, "{code}");
        assert!(error.traceback.len() < 40, "{code}: {}", error.traceback.len());
        assert_eq!(run(&mut engine, "return 1").0.value.unwrap().text, "1");
    }
}

#[test]
fn errors_below_rust_keep_their_value() {
    let mut engine = engine();
    let body = |lua: &State, function: mlua::Function| fault::call(lua, &function, ());
    engine.state().globals().set("call", fault::function(engine.state(), "call", body).unwrap()).unwrap();
    assert_eq!(
        run(&mut engine, "local t = {} local ok, e = pcall(call, function() error(t) end) return ok, e == t")
            .0
            .value
            .unwrap()
            .text,
        "false\ttrue"
    );
    let error = run(&mut engine, "call(function()\n  error('deep')\nend)").0.error.unwrap();
    assert_eq!(error.evalue, "t.lua:2: deep");
}
