//! The calls that scripts of v0.10 make, and the shapes they read: each documented function of its globals.

use super::*;

/// What `code` prints, given arguments.
fn with_args(words: &[&str], code: &str) -> String {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    let kept = Arc::new(Kept::default());
    let script = Script { args: Some(Args { script: "t.lua".into(), words }), ..script(code) };
    let outcome = engine().execute(&script, &(Arc::clone(&kept) as Arc<dyn Output>));
    assert!(outcome.error.is_none(), "{code}: {:?}", outcome.error);
    kept.text()
}

#[test]
fn arguments() {
    let code = "print(ARGS['0'], ARGS[0], ARGS['1'], ARGS[1], #ARGS, ARGS.input, ARGS.verbose, arg[1], ...)";
    assert_eq!(
        with_args(&["--", "a b", "--input", "x\ny", "--verbose"], code),
        "t.lua\tt.lua\ta b\ta b\t1\tx\ny\ttrue\t--\t--\ta b\t--input\tx\ny\t--verbose\n"
    );
    assert_eq!(with_args(&["--a", "-1", "-b", "--c=d"], "print(ARGS.a, ARGS[1], ARGS.c)"), "-1\t-b\td\n");
    assert_eq!(prints("print(ARGS and ARGS.x, arg)"), "nil\tnil\n");
}

#[test]
fn json() {
    let text = prints(
        "local t = JSON.parse('{\"b\":[1,2.5,null],\"a\":{}}')
         print(math.type(t.b[1]), t.b[2], t.b[3], next(t.a), JSON.stringify(t))
         print(JSON.stringify({}), JSON.stringify({x = 0/0}), JSON.stringify({z = 1, a = 2}))
         local ok, e = pcall(JSON.parse, '{') print(ok, tostring(e):match('^JSON parse error: ') ~= nil)
         print(pcall(JSON.stringify, print))",
    );
    assert_eq!(
        text,
        "integer\t2.5\tnil\tnil\t{\"a\":{},\"b\":[1,2.5]}\n{}\t{\"x\":null}\t{\"a\":2,\"z\":1}\nfalse\ttrue\n\
         false\tJSON.stringify: a function has no JSON form\n"
    );
}

#[test]
fn tools() {
    let text = prints(
        "local first = Tool.list()[1] print(type(first.name), type(first.description), type(first.version))
         print(Tool.exists('calculator'), Tool.exists('nope'), Tool.get('nope'), Tool[1])
         local t = Tool.get('calculator')
         print(t.name, type(t.description), type(t.version), t.schema.name, type(t.schema.parameters[1].required))
         local r = t:execute({input = '2+3*4', operation = 'evaluate'})
         print(r.success, r.operation, r.result.result, type(r._raw_text), type(r.metadata))
         print(Tool.calculator:execute({input = '1'}).success, Tool.calculator.getSchema().name)
         local found = Tool.discover({category = 'utility'}) print(#found > 3, found[1].category)
         local ok, e = pcall(Tool.invoke, 'nope', {}) print(ok, type(tostring(e)))
         local no = Tool.invoke('calculator', {input = '2+'}) print(no.success, type(no.error.message))",
    );
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "string\tstring\tstring",
            "true\tfalse\tnil\tnil",
            "calculator\tstring\tstring\tcalculator\tboolean",
            "true\tevaluate\t14\tstring\ttable",
            "true\tcalculator",
            "true\tutility",
            "false\tstring",
            "false\tstring"
        ]
    );
}

#[test]
fn state() {
    let text = prints(
        "State.save('global', 'x', {a = 1}) print(State.load('global', 'x').a, State.delete('global', 'x'))
         State.agent_set('a', 'k', 1) State.tool_set('t', 'k', 2) print(State.agent_get('a', 'k'), State.tool_get('t', 'k'))
         State.save('workflow:7', 'step', 'out') print(State.workflow_get('7', 'step'), State.workflow_list('7')[1])
         State.save('workflow:7', 'agent:bob:output', 'hi') print(State.load('custom', ':workflow:7:agent:bob:output'))
         print(#State.list_keys('nothing'), State.load('global', 'nothing'))",
    );
    assert_eq!(text, "1\ttrue\n1\t2\nout\tstep\nhi\n0\tnil\n");
}

#[test]
fn debugging() {
    let kept = Arc::new(Kept::default());
    let code = "
        Debug.setLevel('trace')
        for _, level in ipairs {'trace', 'debug', 'info', 'warn', 'error'} do Debug[level]('m ' .. level, 'mod') end
        Debug.log('warning', 'w') Debug.log(1, 'one') Debug.log('5', 'five') Debug.logWithData('info', 'd', {a = {1}}, 'mod')
        Debug.logWithData('info', 'f', print)
        Debug.log('off', 'never')
        local e = Debug.getCapturedEntries()
        print(#e, e[1].level, e[1].module, e[9].metadata.a[1], e[6].module, e[1].timestamp:match('^%d+-%d+-%d+T') ~= nil)
        print(#Debug.getCapturedEntries(2), Debug.getLevel(), Debug.setLevel('nope'), Debug.setLevel(2), Debug.getLevel())
        Debug.clearCaptured() Debug.info('too low') Debug.warn('seen') print(#Debug.getCapturedEntries())
        Debug.setEnabled(false) Debug.error('x') print(Debug.isEnabled(), #Debug.getCapturedEntries()) Debug.setEnabled(true)
        Debug.addModuleFilter('a.*', false) Debug.setDefaultFilterEnabled(true)
        print(Debug.addAdvancedFilter('a.b', 'exact', true), Debug.addAdvancedFilter('x', 'strange', true))
        Debug.error('1', 'a.b') Debug.error('2', 'a.c') Debug.error('3', 'b') print(#Debug.getCapturedEntries())
        local s = Debug.getFilterSummary() print(s.total_rules, s.rules[1].pattern_type, s.rules[2].pattern, s.default_enabled)
        print(Debug.removeModuleFilter('a.*'), Debug.removeModuleFilter('a.*')) Debug.clearModuleFilters()
        print(Debug.getFilterSummary().total_rules)";
    let outcome = engine().execute(&script(code), &(Arc::clone(&kept) as Arc<dyn Output>));
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(
        kept.text(),
        "10\tTRACE\tmod\t1\tnil\ttrue\n2\tTRACE\tfalse\ttrue\tWARN\n1\nfalse\t1\ntrue\tfalse\n3\n2\twildcard\ta.b\ttrue\ntrue\tfalse\n0\n"
    );
    let lines = String::from_utf8(kept.err.lock().unwrap().clone()).unwrap();
    let first = lines.lines().next().unwrap();
    assert!(first.len() > 23 && first[23..] == *" TRACE [mod] m trace" && &first[10..11] == " ", "{first}");
    assert!(lines.contains(" INFO [mod] d {\"a\":[1]}\n"), "{lines}");
}

#[test]
fn timers_memory_and_stack() {
    let text = prints(
        "local t = Debug.timer('work') while t:elapsed() < 10 do end
         print(type(t.id), t:lap('half'), t:elapsed() >= 9, Debug.recordEvent(t.id, 'event', {n = 1}))
         local ms = t:stop() print(ms >= 9 and ms < 10000, t:stop(), t:elapsed(), t:lap('x'), Debug.recordEvent(t.id, 'x'))
         print(Debug.performanceReport():find('work', 1, true) ~= nil)
         local report = JSON.parse(Debug.jsonReport())
         print(report.timers[1].name, report.timers[1].count, report.finished[1].laps[1].name, report.finished[1].events[1].data.n)
         print(report.timers[1].total_ms == ms, Debug.flameGraph():match('^work (%d+)') + 0 >= 9000)
         local before = Debug.memoryStats() collectgarbage() collectgarbage() local after = Debug.memoryStats()
         print(after.collections - before.collections >= 2, after.used_bytes > 10000, after.allocated_bytes > 0, after.resident_bytes > 1e6)
         local snapshot = Debug.memorySnapshot() print(type(snapshot.timestamp), snapshot.used_bytes > 0, snapshot.since_last)
         local function inner(x) local y = 'v' return Debug.stackTrace({capture_locals = true, include_source = true}), x, y end
         local trace = inner(7) print(trace:match('^stack traceback:') ~= nil, trace:find('local x = 7', 1, true) ~= nil, trace:find('> local function', 1, true) ~= nil)
         local function frames(n) if n > 0 then return (frames(n - 1)) end return JSON.parse(Debug.stackTraceJson({max_depth = 3})) end
         local s = frames(5) print(#s.frames, s.max_depth, s.truncated, s.frames[1]['function'], s.frames[1].source)",
    );
    assert_eq!(
        text,
        "string\ttrue\ttrue\ttrue\ntrue\tnil\tnil\tfalse\tfalse\ntrue\nwork\t1\thalf\t1\ntrue\ttrue\ntrue\ttrue\ttrue\ttrue\n\
         string\ttrue\tnil\ntrue\ttrue\ttrue\n3\t3\ttrue\tframes\tt.lua\n"
    );
}

#[test]
fn dumps() {
    let text = prints(
        "print(Debug.dump(5), Debug.dump('x'), Debug.dump(2.0), Debug.dump(nil), Debug.dump(true, 'yes'))
         print(Debug.dump({1, 'a'})) local c = {} c.c = c print(Debug.dumpCompact(c), Debug.dump({}))
         print(Debug.dumpCompact({a = {b = {c = {d = 1}}}}), Debug.dumpCompact({1,2,3,4,5,6,7,8,9,10,11}))
         print(#Debug.dumpVerbose(('y'):rep(2000)), Debug.dumpWithOptions({a = 1}, {show_types = false, indent_size = 1}, 'L'))",
    );
    assert_eq!(
        text,
        "5 (integer)\t\"x\" (string, 1 chars)\t2.0 (number)\tnil\tyes: true (boolean)\n\
         [ (array, 2 elements)\n  1 (integer),\n  \"a\" (string, 1 chars)\n]\n\
         {c = <circular reference>}\t{ (table, 0 pairs)}\n\
         {a = {b = {c = {…}}}}\t[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, … 1 more]\n\
         1026\tL: {\n a = 1\n}\n"
    );
}

#[test]
fn streams() {
    let text = prints(
        "local s = Streaming.create(function() for i = 1, 2 do coroutine.yield(i) end return 'end' end)
         print(s:next(), s:isDone(), s:next(), s:next(), s:next(), s:isDone(), type(s._coroutine), s._done)
         print(#Streaming.create(function() coroutine.yield(1) coroutine.yield(nil) coroutine.yield(3) end):collect())
         local bad = Streaming.create(function() coroutine.yield(1) error('broken', 0) end)
         print(bad:next(), pcall(bad.next, bad)) print(bad:isDone(), bad:next())
         local made = 0
         local lazy = Streaming.create(function() for i = 1, 10 do made = i Streaming.yield(i) end end)
         lazy:next() print(made)
         print(pcall(Streaming.create, 5)) print(pcall(s.next))",
    );
    assert_eq!(
        text,
        "1\tfalse\t2\tend\tnil\ttrue\tthread\ttrue\n2\n1\tfalse\tbroken\ntrue\tnil\n1\n\
         false\tStreaming.create: a function expected, got number\n\
         false\tstream.next: a stream expected, got nil; call it as stream:next()\n"
    );
}

#[test]
fn what_is_not_here_says_so() {
    for (code, words, hint) in [
        ("Session.create {}", "Session.create is not in this build", "State keeps"),
        ("Hook.register('x', print)", "Hook.register is not in this build", "Call what"),
        ("RAG.search('x')", "RAG.search is not in this build", "Tool.file_search"),
        ("Event.publish('x', 1)", "Event.publish is not in this build", "Call the"),
        ("Artifact.list('')", "Artifact.list is not in this build", "Keep text"),
        ("Replay.modes.exact = 1", "Replay.modes is not in this build", "Run the"),
        ("Tool.register('x', print)", "Tool.register is not in this build", "A function"),
        ("Config.setProvider('x', {})", "Config.setProvider is not in this build", "Scripts cannot"),
        ("State.list('x')", "State.list is not in this build", "It is State.list_keys"),
        ("JSON.encode {}", "JSON.encode is not in this build", "It is JSON.stringify"),
    ] {
        let error = failure(code);
        assert_eq!(error.class, Class::Absent, "{code}: {error:?}");
        assert_eq!(error.evalue, format!("t.lua:1: {words}"));
        assert!(error.hint.as_deref().is_some_and(|told| told.starts_with(hint)), "{code}: {error:?}");
    }
    assert_eq!(prints("print(Session, Tool.calculator.name)"), "Session (not in this build)\tcalculator\n");
    let (_, help) = run(&mut engine(), "help('Session')");
    assert!(help.starts_with("Session\n\nSessions: not in this build.\n\nState keeps"), "{help}");
    let denied = failure("Config.anything = 1");
    assert_eq!((denied.class, denied.evalue.contains("cannot change")), (Class::Denied, true));
    // What a script makes itself stays its own.
    assert_eq!(prints("Session = {create = function() return 7 end} print(Session.create())"), "7\n");
    assert_eq!(prints("Tool.register = function() return 8 end print(Tool.register())"), "8\n");
}

#[test]
fn misspelt_names_get_a_hint() {
    for (code, hint) in [
        ("Tool.invok('calculator', {})", Some("Did you mean Tool.invoke?")),
        ("local x = 1\nTool:lst()", Some("Did you mean Tool:list?")),
        ("tool.list()", Some("Did you mean Tool?")),
        ("Tol.list()", Some("Did you mean Tool?")),
        ("Tool.calcluator{input = '1'}", Some("Did you mean Tool.calculator?")),
        ("Tool.calculator:exeucte{input = '1'}", Some("Did you mean Tool.calculator:execute?")),
        ("State.laod('a', 'b')", Some("Did you mean State.load?")),
        ("pritn(1)", Some("Did you mean print?")),
        ("string.foramt('x')", Some("Did you mean string.format?")),
        ("local s = Streaming.from{1}\ns:colect()", Some("Did you mean s:collect?")),
        ("config.get('x')", Some("Did you mean Config?")),
        ("zzzqqq()", None),
        ("local t = {} t.qqqzzz()", None),
        ("x = nil + 1", None),
    ] {
        assert_eq!(failure(code).hint.as_deref(), hint, "{code}");
    }
}
