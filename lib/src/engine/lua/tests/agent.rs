//! `Agent`, with models that are scripts.

use super::*;

fn in_folder(folder: &Path) -> Lua {
    let change = |_: &mut Config, grants: &mut Grants| grants.profile = crate::security::Profile::Privileged;
    let runtime = runtime(folder, change);
    runtime.state.keep_in(folder.join("k.db"));
    Lua::new(runtime).unwrap()
}

fn model(replies: &str) -> String {
    format!("[==[mock/{{\"replies\": {replies}}}]==]")
}

#[test]
fn results_have_the_shape_scripts_know() {
    let text = prints(&format!(
        "local a = Agent.create{{name = 'a', model = {}}}
         local r = a:invoke{{text = 'x'}} print(r.text, r.data, r.metadata.model, r.metadata.turns)
         r = a:execute('x') print(r.data.a, r.text)
         r = a:run{{text = 'x'}} print(r.success, r.result, r._raw_text)
         print(#a:get_history(), a:get_history()[1].role, a:get_metrics().successful)",
        model(r#"["plain", "{\"a\": 1}", "{\"success\": true, \"result\": 5}"]"#)
    ));
    assert_eq!(
        text,
        "plain\tnil\tmock/inline\t1\n1\t{\"a\": 1}\ntrue\t5\t{\"success\": true, \"result\": 5}\n6\tuser\t3\n"
    );
}

#[test]
fn functions_of_the_script_are_tools_and_hear_the_answer() {
    let text = prints(&format!(
        "local seen = {{}}
         local city = {{name = 'weather', description = 'tells it', parameters = {{city = 'where'}},
           handler = function(p) if p.city == 'x' then error('no such city') end return {{rain = p.city}} end}}
         local a = Agent.builder():name('a'):model({}):tools{{city}}:build()
         local r = a:invokeStream('go', function(c) seen[#seen + 1] = tostring(c) end, {{on_event = function(e) seen[#seen + 1] = e.type end}})
         print(r.text, r.chunks_received, r.metadata.tool_errors, table.concat(seen, ' '))",
        model(
            r#"[{"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "weather", "arguments": {"city": "x"}}]},
                {"match": "no such city", "chunks": ["it ", "rains"]}]"#
        )
    ));
    let (head, events) = text.trim_end().rsplit_once('\t').unwrap();
    assert_eq!(head, "it rains\t2\t1");
    let mut events: Vec<_> = events.split(' ').collect();
    events.sort_unstable();
    assert_eq!(events.join(","), ",it,rains,text,text,tool_call,tool_call,tool_result,tool_result");
}

#[test]
fn many_are_asked_side_by_side_while_the_script_answers() {
    let replies = r#"[{"delay": "100ms", "tool_calls": [{"name": "f", "arguments": {}}], "repeat": true, "match": "go"}, {"text": "x", "repeat": true}]"#;
    let begun = Instant::now();
    let text = prints(&format!(
        "local calls = 0
         local f = {{name = 'f', handler = function() calls = calls + 1 return 'ok' end}}
         local a = Agent.create{{name = 'a', model = {}, tools = {{f}}}}
         local list = {{}} for i = 1, 50 do list[i] = {{a, 'go'}} end
         local n = 0 for _, r in ipairs(Agent.invoke_all(list)) do if r.success and r.text == 'x' then n = n + 1 end end
         print(n, calls)
         local p, q = a:execute_async('go'), a:execute_async('go')
         print(p:await().text, q:await().text, q:is_done(), calls, pcall(p.await, p))",
        model(replies)
    ));
    assert!(text.starts_with("50\t50\nx\tx\ttrue\t52\tfalse\t"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(5), "one after the other");
}

#[test]
fn an_agent_calls_an_agent_whose_tool_calls_an_agent() {
    let call = |tool: &str| {
        model(&format!(
            r#"[{{"tool_calls": [{{"name": "{tool}", "arguments": {{"input": "x"}}}}]}}, "{tool} answered"]"#
        ))
    };
    let text = prints(&format!(
        "local deep = Agent.create{{name = 'deep', model = 'mock/echo'}}
         local ask = {{name = 'ask', handler = function(p) return deep:invoke('deep ' .. p.input).text end}}
         local inner = Agent.create{{name = 'inner', model = {}, tools = {{ask}}}}
         local outer = Agent.create{{name = 'outer', model = {}, tools = {{inner}}}}
         print(outer:invoke('go').text, deep:get_metrics().successful, Agent.get_hierarchy('outer').root.children[1].name)
         print(Agent.wrap_as_tool('deep', {{tool_name = 'deep_tool'}}), Tool.invoke('deep_tool', {{input = 'hi'}}).text)",
        call("ask"),
        call("inner")
    ));
    assert_eq!(text, "inner answered\t1\tinner\ndeep_tool\thi\n");
}

#[test]
fn what_writes_waits_until_somebody_decides() {
    let folder = tempfile::tempdir().unwrap();
    let replies = r#"[{"match": "go", "repeat": true, "tool_calls": [{"name": "file_operations", "arguments":
        {"operation": "write", "path": "a.txt", "input": "x"}}]}, {"text": "written", "repeat": true}]"#;
    let make =
        format!("local a = Agent.create{{name = 'a', model = {}, tools = {{'file_operations'}}}} ", model(replies));
    let (outcome, text) = run(
        &mut in_folder(folder.path()),
        &format!(
            "{make} local r = a:invoke('go', {{run = 'r'}}) print(r.paused, r.run, #r.approvals, r.approvals[1].tool, r.text)"
        ),
    );
    assert!(outcome.error.is_none(), "{outcome:?}");
    assert!(
        text.starts_with("true\tr\t1\tfile_operations\tpaused: waiting for approval of file_operations ("),
        "{text}"
    );
    let decide = "local w = Agent.approvals()[1] print(w.agent, w.arguments.path)
                  Agent.approve(w.id, {operation = 'write', path = 'b.txt', input = 'x'}) print(pcall(Agent.deny, w.id))";
    let (outcome, text) = run(&mut in_folder(folder.path()), decide);
    assert!(outcome.error.is_none() && text.starts_with("a\ta.txt\nfalse\tapproval "), "{text} {outcome:?}");
    let (outcome, text) = run(
        &mut in_folder(folder.path()),
        &format!("{make} print(a:resume_run('r').text, Agent.runs()[1].status, Agent.forget_run('r'), #Agent.runs())"),
    );
    assert!(outcome.error.is_none(), "{outcome:?}");
    assert_eq!(text, "written\tdone\ttrue\t0\n");
    assert!(folder.path().join("b.txt").exists() && !folder.path().join("a.txt").exists());
}

#[test]
fn the_user_is_asked_where_the_agent_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let replies = r#"[{"tool_calls": [{"name": "file_operations", "arguments": {"operation": "write", "path": "a.txt", "input": "x"}}]}, "over"]"#;
    let make = |how: &str, name: &str| {
        format!(
            "local a = Agent.create{{name = '{name}', model = {}, tools = {{'file_operations'}}, approval = {how}}} print(a:invoke('go').text)",
            model(replies)
        )
    };
    let mut engine = in_folder(folder.path());
    let kept = Arc::new(Kept::default());
    *kept.answers.lock().unwrap() = VecDeque::from([
        "what?".to_owned(),
        "e".into(),
        r#"{"operation": "write", "path": "c.txt", "input": "x"}"#.into(),
    ]);
    let code = make("'ask'", "one");
    let outcome =
        engine.execute(&Script { allow_stdin: true, ..script(&code) }, &(Arc::clone(&kept) as Arc<dyn Output>));
    assert!(outcome.error.is_none(), "{outcome:?}");
    assert_eq!(kept.text(), "over\n");
    assert!(folder.path().join("c.txt").exists());
    let asks = "function(c) return c.tool == 'file_operations' and 'not today' end";
    let (outcome, text) = run(&mut engine, &make(&format!("{{file_operations = {asks}}}"), "two"));
    assert!(outcome.error.is_none() && text == "over\n", "{outcome:?}");
    assert!(!folder.path().join("a.txt").exists());
}

#[test]
fn what_cannot_be_is_told() {
    for (code, class, text) in [
        ("Agent.create{nam = 'x'}", Class::Usage, "nam: no such setting"),
        ("Agent.create{name = 'x', model = 'nobody/knows'}", Class::NotFound, "nobody"),
        ("Agent.create{name = 'x', model = 'mock/echo', tools = {'calculater'}}", Class::NotFound, "calculater"),
        ("Agent.create{name = 'x', model = 'mock/echo', temperature = 9}", Class::Usage, "temperature: 9"),
        ("Agent.create{name = 'x', model = 'mock/echo', tools = {{name = 'y'}}}", Class::Usage, "handler"),
        ("Agent.builder():model('mock/echo'):base_url('http://x'):build()", Class::Absent, "base_url"),
        ("Agent.create{name = 'x', model = 'mock/echo'}:set_state{}", Class::Absent, "set_state"),
        ("Agent.create{name = 'x', model = 'mock/echo'}.invoke('hi')", Class::Usage, "an agent expected"),
        ("Agent.create{name = 'x', model = 'mock/echo'}:invoke()", Class::Usage, "input: text or a table"),
        ("local a = Agent.create{name = 'x', model = 'mock/echo'} a:pause() a:invoke('x')", Class::Conflict, "Paused"),
        (
            "local a = Agent.create{name = 'x', model = 'mock/echo'} a:destroy() a:invoke('x')",
            Class::NotFound,
            "no such agent",
        ),
        ("Agent.get_info('nothing')", Class::NotFound, "no such template"),
        (
            "Agent.create{name = 'x', model = [[mock/{\"replies\": [{\"error\": {\"class\": \"budget\", \"text\": \"spent\"}}]}]]}:invoke('x')",
            Class::Budget,
            "spent",
        ),
    ] {
        let error = failure(code);
        assert!(error.class == class && error.evalue.contains(text), "{code}: {:?} {}", error.class, error.evalue);
    }
}

#[test]
fn an_interrupt_ends_a_run_at_once() {
    let mut engine = engine();
    let interrupter = engine.interrupter();
    let kept = Arc::new(Kept::default());
    let seen = Arc::clone(&kept);
    std::thread::spawn(move || {
        soon(Duration::from_secs(10), || seen.text().contains("go"));
        interrupter.0.interrupt(crate::engine::Reason::Interrupt);
    });
    let code = format!(
        "local a = Agent.create{{name = 'a', model = {}}} print('go') a:invoke('x')",
        model(r#"[{"text": "late", "delay": "1h"}]"#)
    );
    let begun = Instant::now();
    let outcome = engine.execute(&script(&code), &(Arc::clone(&kept) as Arc<dyn Output>));
    assert_eq!(outcome.error.unwrap().class, Class::Interrupted);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn every_function_has_its_row() {
    let text = prints(
        "local a, b = Agent.create{name = 'x', model = 'mock/echo'}, Agent.builder()
         for k in pairs(Agent) do print('Agent.' .. k) end
         for k in pairs(getmetatable(a).__index) do print('agent.' .. k) end
         for k in pairs(getmetatable(b).__index) do print('agent_builder.' .. k) end
         for k in pairs(getmetatable(a:execute_async('x')).__index) do print('pending.' .. k) end",
    );
    for name in text.lines() {
        assert!(crate::engine::lua::api::entry(name).is_some(), "{name}");
    }
}
