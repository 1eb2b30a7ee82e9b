//! Everything that loops ends, and nothing reaches the wrong script.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mlua::{Function, Lua as State, Value};

use super::super::{fault, run::Run, wait};
use super::*;
use crate::engine::{Interrupter, Reason};
use crate::runtime::CallOptions;

/// Runs `code`, interrupts it after a moment, and expects it to end for that reason and the engine to be as before.
fn ends(code: &str) -> ScriptError {
    let mut engine = engine();
    let error = interrupted(&mut engine, code);
    let after = run(&mut engine, "local s = 0 for i = 1, 100 do s = s + i end return s, coroutine.isyieldable()").0;
    assert_eq!(after.value.expect(code).text, "5050\tfalse");
    error
}

pub(super) fn interrupted(engine: &mut Lua, code: &str) -> ScriptError {
    let interrupter = engine.interrupter();
    let (started, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let helper = thread::spawn({
        let (started, over) = (Arc::clone(&started), Arc::clone(&over));
        move || {
            soon(Duration::from_secs(5), || started.load(Ordering::SeqCst));
            thread::sleep(Duration::from_millis(20));
            interrupter.0.interrupt(Reason::Interrupt);
            let end = Instant::now() + Duration::from_secs(5);
            while !over.load(Ordering::SeqCst) && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
            }
            // A script that does not end would hang the tests; better to end them.
            if !over.load(Ordering::SeqCst) {
                std::process::abort();
            }
        }
    });
    started.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let (outcome, _) = run(engine, code);
    over.store(true, Ordering::SeqCst);
    helper.join().unwrap();
    let error = outcome.error.unwrap_or_else(|| panic!("{code} ended well"));
    assert_eq!((error.class, error.ename.as_str()), (Class::Interrupted, "KeyboardInterrupt"), "{code}: {error:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{code}");
    assert!(engine.interrupter().0.pending_since().is_none());
    error
}

#[test]
fn loops() {
    for code in [
        "while true do end",
        "for i = 1, math.huge do end",
        "repeat until false",
        "::top:: goto top",
        "local function f() return f() end f()",
        "for _ in function() return 1 end do end",
        "local t = {} while true do t[1] = (t[1] or 0) + 1 end",
    ] {
        ends(code);
    }
}

#[test]
fn loops_that_catch() {
    for code in [
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(pcall, function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "xpcall(error, function() while true do end end)",
        "while true do xpcall(function() while true do end end, debug.traceback) end",
        "local function f() pcall(f) while true do end end while true do f() end",
        "while true do local ok = pcall(error, setmetatable({}, {__tostring = function() while true do end end})) end",
        "error(setmetatable({}, {__tostring = function() while true do end end}))",
    ] {
        ends(code);
    }
}

#[test]
fn loops_in_coroutines() {
    for code in [
        "coroutine.resume(coroutine.create(function() while true do end end))",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)()",
        "for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end",
        "while true do pcall(coroutine.wrap(function() pcall(coroutine.wrap(function() while true do end end)) end)) end",
        "local co = coroutine.wrap(function() while true do coroutine.yield(1) end end) while true do co() end",
        "local co = coroutine.create(function() local x <close> = setmetatable({}, {__close = function() while true do end end}) coroutine.yield() end) coroutine.resume(co) coroutine.close(co)",
        "local co = coroutine.wrap(function() local x <close> = setmetatable({}, {__close = function() while true do end end}) error('x') end) pcall(co)",
        "local co = coroutine.wrap(function() local x <close> = setmetatable({}, {__close = function() while true do end end}) while true do end end) pcall(co)",
        "while true do coroutine.close(coroutine.create(function() end)) end",
    ] {
        ends(code);
    }
}

#[test]
fn loops_below_c_functions() {
    for code in [
        "table.sort({3, 2, 1, 5, 4}, function() while true do end end)",
        "while true do pcall(table.sort, {3, 2, 1}, function() while true do end end) end",
        "string.gsub('abc', '.', function() while true do end end)",
        "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
        "local t = setmetatable({}, {__eq = function() while true do end end}) return t == setmetatable({}, getmetatable(t))",
        "local t = setmetatable({}, {__concat = function() while true do end end}) return t .. 'x'",
        "print(setmetatable({}, {__tostring = function() while true do end end}))",
        "return setmetatable({}, {__tostring = function() while true do end end})",
        "load(function() while true do end end)",
        "for _ in pairs(setmetatable({}, {__pairs = function() while true do end end})) do end",
        "local x <close> = setmetatable({}, {__close = function() while true do end end})",
        "while true do pcall(function() local x <close> = setmetatable({}, {__close = function() while true do end end}) end) end",
        "package.preload.looping = function() while true do end end require 'looping'",
        "while true do io.write('') end",
        "while true do print() end",
        "while true do pcall(JSON.parse, '{') end",
    ] {
        ends(code);
    }
}

#[test]
fn the_place_is_told() {
    let error = ends("local function inner()\n  while true do end\nend\npcall(inner)");
    assert_eq!(error.evalue, "t.lua:2: interrupted");
    assert!(error.traceback.iter().any(|line| line.contains("t.lua:4: in main chunk")), "{:?}", error.traceback);
    let error = ends("coroutine.wrap(function()\n  while true do end\nend)()");
    assert_eq!(error.evalue, "t.lua:2: interrupted");
    assert!(error.traceback.iter().any(|line| line.contains("t.lua:3: in main chunk")), "{:?}", error.traceback);
}

#[test]
fn a_coroutine_that_outlived_the_interrupt_is_usable() {
    let mut engine = engine();
    interrupted(
        &mut engine,
        "kept = coroutine.wrap(function() while true do coroutine.yield(1) end end) while true do kept() end",
    );
    interrupted(
        &mut engine,
        "other = coroutine.create(function() pcall(function() while true do end end) end) coroutine.resume(other)",
    );
    let (outcome, _) = run(&mut engine, "return coroutine.status(other), coroutine.close(other)");
    assert_eq!(outcome.value.unwrap().text, "dead\ttrue");
    let (outcome, _) = run(&mut engine, "local s = 0 for i = 1, 1000 do s = s + 1 end return s");
    assert_eq!(outcome.value.unwrap().text, "1000");
}

#[test]
fn a_lua_function_called_from_rust() {
    let mut engine = engine();
    let call =
        fault::function(engine.state(), "call", |lua: &State, function: Function| fault::call(lua, &function, ()));
    engine.state().globals().set("call", call.unwrap()).unwrap();
    let plain =
        fault::function(engine.state(), "plain", |_: &State, function: Function| Ok(function.call::<Value>(())?));
    engine.state().globals().set("plain", plain.unwrap()).unwrap();
    interrupted(&mut engine, "while true do pcall(call, function() while true do end end) end");
    interrupted(&mut engine, "while true do pcall(plain, function() while true do end end) end");
    interrupted(
        &mut engine,
        "coroutine.wrap(function() call(function() coroutine.wrap(function() while true do end end)() end) end)()",
    );
}

/// A function that waits for `work` on the pool, with its lines as callbacks.
fn waiting(engine: &Lua, millis: u64) {
    let body = move |lua: &State, on_line: Function| {
        let run = Run::current().unwrap();
        let key = Arc::new(lua.create_registry_value(on_line)?);
        let result = wait::wait(lua, &run, |queue| {
            let lines = queue.clone();
            let work = move |call: &crate::tools::Call| {
                let end = Instant::now() + Duration::from_millis(millis);
                for number in 1.. {
                    call.check()?;
                    let key = Arc::clone(&key);
                    lines.call(Box::new(move |lua| {
                        fault::call(lua, &lua.registry_value::<Function>(&key)?, number).map(drop)
                    }));
                    thread::sleep(Duration::from_millis(5));
                    if Instant::now() > end {
                        break;
                    }
                }
                Ok("done")
            };
            let job = run.runtime.start(CallOptions::default(), work, move |result| queue.done(result));
            Ok(move || job.cancel())
        })??;
        Ok(result)
    };
    engine.state().globals().set("work", fault::function(engine.state(), "work", body).unwrap()).unwrap();
}

#[test]
fn waiting_for_work_serves_callbacks_and_ends_at_once() {
    let mut engine = engine();
    waiting(&engine, 20);
    let (outcome, text) = run(&mut engine, "local n = 0 local r = work(function(i) n = n + 1 end) print(r, n > 1)");
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(text, "done\ttrue\n");
    let (outcome, text) = run(&mut engine, "print(pcall(work, function(i) error('no more', 0) end))");
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(text, "false\tno more\n");
    let (outcome, _) =
        run(&mut engine, "local t = {} local ok, e = pcall(work, function() error(t) end) return e == t");
    assert_eq!(outcome.value.unwrap().text, "true");
    waiting(&engine, 60_000);
    interrupted(&mut engine, "work(function() end)");
    interrupted(&mut engine, "while true do pcall(work, function() end) end");
    interrupted(&mut engine, "work(function() while true do end end)");
    interrupted(&mut engine, "coroutine.wrap(function() work(function() end) end)()");
}

#[test]
fn deadlines() {
    let mut engine = engine();
    let output = Arc::new(Kept::default()) as Arc<dyn Output>;
    for _ in 0..3 {
        let mut code = script("while true do pcall(function() while true do end end) end");
        let began = Instant::now();
        code.deadline = Some(began + Duration::from_millis(50));
        let error = engine.execute(&code, &output).error.unwrap();
        assert_eq!((error.class, error.ename.as_str()), (Class::Timeout, "TimeoutError"));
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(50) && took < Duration::from_secs(1), "{took:?}");
    }
    // The deadline of a script that ended does not reach the next.
    let mut code = script("return 1");
    code.deadline = Some(Instant::now() + Duration::from_millis(30));
    assert!(engine.execute(&code, &output).error.is_none());
    let code = script("local t = os.clock() while os.clock() - t < 0.1 do end return 2");
    assert!(engine.execute(&code, &output).error.is_none());
    // A deadline that has passed already.
    let mut code = script("while true do end");
    code.deadline = Some(Instant::now());
    assert_eq!(engine.execute(&code, &output).error.unwrap().class, Class::Timeout);
}

#[test]
fn idle_it_does_nothing() {
    let mut engine = engine();
    let interrupter = engine.interrupter();
    for _ in 0..100 {
        interrupter.0.interrupt(Reason::Interrupt);
        assert!(interrupter.0.pending_since().is_none());
        assert_eq!(run(&mut engine, "return 1").0.value.unwrap().text, "1");
    }
    drop(engine);
    interrupter.0.interrupt(Reason::Interrupt);
}

/// Interrupts at any moment, also while scripts start and end, over several engines and threads.
#[test]
fn storms() {
    let over = Arc::new(AtomicBool::new(false));
    let scripts: Vec<_> = (0..3)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut engine = engine();
                let (sender, ready) = std::sync::mpsc::channel::<Interrupter>();
                let storm = thread::spawn(move || {
                    let interrupter = ready.recv().unwrap();
                    while !over.load(Ordering::Relaxed) {
                        interrupter.0.interrupt(Reason::Interrupt);
                        thread::sleep(Duration::from_micros(300));
                    }
                });
                sender.send(engine.interrupter()).unwrap();
                let mut ended = [0, 0];
                for _ in 0..300 {
                    let code = "local s = 0 for i = 1, 3000 do s = s + #tostring(i) pcall(coroutine.wrap(function() s = s + 0 end)) end return s";
                    let outcome = run(&mut engine, code).0;
                    match outcome.error {
                        Some(error) => {
                            assert_eq!(error.class, Class::Interrupted, "{error:?}");
                            ended[0] += 1;
                        }
                        None => {
                            assert_eq!(outcome.value.unwrap().text, "10893");
                            ended[1] += 1;
                        }
                    }
                }
                drop(engine);
                (storm, ended)
            })
        })
        .collect();
    let scripts: Vec<_> = scripts.into_iter().map(|script| script.join().unwrap()).collect();
    over.store(true, Ordering::Relaxed);
    for (storm, ended) in scripts {
        storm.join().unwrap();
        assert!(ended[0] > 0, "{ended:?}");
    }
}

#[test]
fn a_finalizer_that_loops_is_stuck_and_known() {
    let ready = std::sync::mpsc::channel();
    let kept = Arc::new(Kept::default());
    let output = Arc::clone(&kept) as Arc<dyn Output>;
    // The thread is left behind: nothing can end it. The process ends with the tests.
    thread::spawn(move || {
        let mut engine = engine();
        ready.0.send(engine.interrupter()).unwrap();
        let code = "setmetatable({}, {__gc = function() print('in') while true do end end}) collectgarbage()";
        engine.execute(&script(code), &output);
    });
    let interrupter = ready.1.recv().unwrap();
    soon(Duration::from_secs(10), || kept.text() == "in\n");
    interrupter.0.interrupt(Reason::Interrupt);
    thread::sleep(Duration::from_millis(50));
    assert!(interrupter.0.pending_since().unwrap().elapsed() >= Duration::from_millis(50));
}

#[test]
fn exit_cannot_be_caught() {
    for (code, exit) in [
        ("os.exit()", 0),
        ("os.exit(3)", 3),
        ("os.exit(true)", 0),
        ("os.exit(false)", 1),
        ("while true do pcall(os.exit, 7) end", 7),
        ("xpcall(os.exit, function() while true do end end, 8)", 8),
        ("while true do coroutine.wrap(function() pcall(os.exit, 9) end)() end", 9),
        ("table.sort({1, 2, 3}, function() os.exit(10) end)", 10),
    ] {
        let (outcome, text) = run(&mut engine(), &format!("{code} print('after')"));
        assert!(outcome.error.is_none(), "{code}: {:?}", outcome.error);
        assert_eq!((outcome.exit, text.as_str()), (Some(exit), ""), "{code}");
    }
}

#[test]
fn closed_output_ends_the_script() {
    let mut engine = engine();
    let output = Arc::new(Kept { closed: true, ..Kept::default() }) as Arc<dyn Output>;
    for code in ["while true do pcall(print, 1) end", "while true do pcall(io.write, 1) end"] {
        let error = engine.execute(&script(code), &output).error.unwrap();
        assert_eq!((error.class, error.evalue.as_str()), (Class::System, "t.lua:1: broken pipe"));
    }
}
