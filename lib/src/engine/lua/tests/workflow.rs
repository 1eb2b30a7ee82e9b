//! The global `Workflow`, with tools and functions.

use super::*;

#[test]
fn one_step_after_another() {
    let text = prints(
        "local w = Workflow.builder():sequential():name('w')
           :add_step{name = 'add', type = 'tool', tool = 'calculator', input = {input = '{{input.a}} + 2'}}
           :add_step{name = 'twice', type = 'function', parameters = {n = '{{step.add.result.result}}'},
                     ['function'] = function(ctx) return ctx.parameters.n * 2 end}
           :build()
         local r = w:execute{a = 3}
         print(r.success, r.output, r.outputs.add.result, w:get_output('twice'), r.metadata.extra.total_steps)
         print(r.text:match('^Sequential workflow .w. completed successfully%. 2 steps executed%. Duration: ') ~= nil)
         print(State.load('custom', ':workflow:' .. r.execution_id .. ':twice'), State.workflow_get(r.execution_id, 'step:calculator:output').result)
         print(#r.media, #r.tool_calls, r.metadata.extra.workflow_type, w:get_execution_id() == r.execution_id)
         print(w, w:get_metrics().executions, w:get_metrics().succeeded)",
    );
    assert_eq!(text, "true\t10\t5\t10\t2\ntrue\n10\t5\n0\t0\tsequential\ttrue\nworkflow w (sequential)\t1\t1\n");
}

#[test]
fn side_by_side() {
    let text = prints(
        "local order = {}
         local function f(name) return {name = name, type = 'function', ['function'] = function() order[#order + 1] = name return name:upper() end} end
         local t = {name = 't', type = 'tool', tool = 'calculator', input = {input = '6*7'}}
         local r = Workflow.parallel{name = 'p', steps = {f 'a', t, f 'b'}, branches = {{name = 'two', steps = {f 'c', f 'd'}}}}:execute()
         print(table.concat(order), r.output.a, r.output.t.result, r.output.b, r.output.two)
         print(r.metadata.extra.total_branches, r.metadata.extra.successful_branches, r.metadata.extra.failed_branches)
         print(r.text:match('^[^.]*%. [^.]*'))",
    );
    assert_eq!(
        text,
        "cabd\tA\t42\tB\td\n4\t4\t0\nParallel workflow 'p' completed successfully. 4 branches executed, 4 succeeded, 0 failed\n"
            .replace("\td\n", "\tD\n")
    );
}

#[test]
fn by_condition() {
    let text = prints(
        "local function f(name) return {name = name, type = 'function', ['function'] = function() return name end} end
         local function choose(condition, shared)
           local w = Workflow.builder():conditional():name('c'):condition(condition):add_then_step(f 'yes'):add_else_step(f 'no'):build()
           for k, v in pairs(shared or {}) do w:set_shared_data(k, v) end
           local r = w:execute{n = 5}
           return r.output, r.metadata.extra.matched_branches
         end
         print(choose({type = 'always'})) print(choose({type = 'never'}))
         print(choose({type = 'shared_data_equals', key = 'mood', value = 'good'}, {mood = 'good'}))
         print(choose({type = 'shared_data_exists', key = 'mood'}))
         print(choose(function(ctx) return ctx.input.n > 3 end))
         print(choose('input.n > 7 or mood == \"good\"', {mood = 'good'}))
         print(choose({type = 'all', conditions = {'input.n == 5' and {type = 'always'}, function(ctx) return ctx.shared.x end}}))
         local many = Workflow.conditional{name = 'm', branches = {
           {condition = {type = 'equals', left = '{{input.n}}', right = 1}, steps = {f 'one'}},
           {condition = {type = 'equals', left = '{{input.n}}', right = 2}, steps = {f 'two'}}}, default_branch = {f 'other'}}
         print(many:execute{n = 1}.output, many:execute{n = 2}.output, many:execute{n = 3}.output)",
    );
    assert_eq!(text, "yes\t1\nno\t0\nyes\t1\nno\t0\nyes\t1\nyes\t1\nno\t0\none\ttwo\tother\n");
}

#[test]
fn again_and_again() {
    let text = prints(
        "local seen = {}
         local body = {{name = 's', type = 'function', parameters = {v = '{{loop_value}}'}, ['function'] = function(ctx)
           seen[#seen + 1] = ctx.parameters.v
           ctx.shared.sum = (ctx.shared.sum or 0) + ctx.loop_value
           return ctx.loop_index
         end}}
         local function run(iterator, more)
           seen = {}
           local definition = {name = 'l', iterator = iterator, body = body}
           for k, v in pairs(more or {}) do definition[k] = v end
           local r = Workflow.loop(definition):execute{items = {10, 20}}
           print(table.concat(seen, ' '), JSON.stringify(r.output), r.metadata.extra.completed_iterations, r.metadata.extra.break_reason)
         end
         run({range = {start = 1, ['end'] = 6, step = 2}})
         run({count = 2}) run({collection = {7, 8, 9}}, {max_iterations = 2}) run({collection = '{{input.items}}'})
         run({while_condition = function(ctx) return (ctx.shared.sum or 0) < 5 end})
         run({while_condition = '(shared.sum or 0) < 3'})
         run({count = 100}, {break_conditions = {'steps.s.result == 2'}})
         local r = Workflow.builder():loop():name('b'):with_range{start = 3, ['end'] = 1, step = -1}:add_step(body[1]):build():execute()
         print(r.text:match('%d of %d iterations completed'), r.metadata.extra.iterator_type)",
    );
    assert_eq!(
        text,
        "1 3 5\t[1,2,3]\t3\tnil\n1 2\t[1,2]\t2\tnil\n7 8\t[1,2]\t2\tnil\n10 20\t[1,2]\t2\tnil\n1 2 3\t[1,2,3]\t3\tcondition\n\
         1 2\t[1,2]\t2\tcondition\n1 2\t[1,2]\t2\tbreak condition 1\n2 of 2 iterations completed\trange\n"
    );
}

#[test]
fn in_one_another_and_by_need() {
    let text = prints(
        "local inner = Workflow.sequential{name = 'inner', steps = {
           {name = 'x', type = 'function', ['function'] = function(ctx) return ctx.input.n + 1 end}}}
         local outer = Workflow.loop{name = 'outer', iterator = {collection = {1, 2}}, body = {
           {name = 'i', type = 'workflow', workflow = inner, input = {n = '{{loop_value}}'}}}}
         print(JSON.stringify(outer:execute().output))
         local order = {}
         local function f(name, after) return {name = name, type = 'function', depends_on = after, ['function'] = function(ctx)
           order[#order + 1] = name
           local text = name
           for _, other in ipairs(after or {}) do text = text .. ctx.steps[other].result end
           return text
         end} end
         local g = Workflow.builder():graph():name('g'):add_step(f('d', {'b', 'c'})):add_step(f('c', {'a'})):add_step(f('b', {'a'})):add_step(f 'a'):build()
         local r = g:execute()
         print(table.concat(order), JSON.stringify(r.output))
         print(pcall(Workflow.graph, {name = 'g', steps = {f('a', {'b'}), f('b', {'a'})}}))",
    );
    assert_eq!(text, "[2,3]\nacbd\t{\"d\":\"dbaca\"}\nfalse\tworkflow g: steps need each other: a → b → a\n");
}

#[test]
fn when_steps_fail() {
    let text = prints(
        "local log = {}
         local function f(name, more)
           local step = {name = name, type = 'function', ['function'] = function(ctx) log[#log + 1] = name .. ctx.attempt return name end}
           for k, v in pairs(more or {}) do step[k] = v end
           return step
         end
         local function bad(times) return function(ctx) log[#log + 1] = 'x' .. ctx.attempt if ctx.attempt <= times then error('no luck', 0) end return 'luck' end end
         local function run(strategy, steps)
           log = {}
           local w = Workflow.sequential{name = 'w', error_strategy = strategy, steps = steps}
           local ok, r = pcall(w.execute, w)
           if ok then print(r.success, r.metadata.extra.failed_steps, table.concat(log, ' '), r.text:match('completed[^.]*'))
           else print(r.class, r.message, table.concat(log, ' ')) end
         end
         run('fail_fast', {f 'a', f('b', {['function'] = bad(9)}), f 'c'})
         run('continue', {f 'a', f('b', {['function'] = bad(9)}), f 'c'})
         run({type = 'retry', max_attempts = 3, delay_ms = 1}, {f('b', {['function'] = bad(2)}), f 'c'})
         run(nil, {f('b', {['function'] = bad(1), retry_count = 1, retry_delay_ms = 1}), f 'c'})
         run(nil, {f('b', {['function'] = bad(9), retry = {attempts = 2, delay_ms = 1}}), f 'c'})
         run(nil, {f('b', {['function'] = bad(9), on_error = 'continue'}), f('c', {when = {type = 'step_failed', step = 'b'}}), f('d', {when = {type = 'step_succeeded', step = 'b'}})})
         local function undo(name) return function(ctx) log[#log + 1] = 'undo ' .. name .. ' ' .. tostring(ctx.parameters.was) end end
         run('compensate', {
           f('a', {undo = {type = 'function', ['function'] = undo 'a', parameters = {was = '{{step.a.result}}'}}}),
           f('b', {undo = undo 'b'}), f 'c', f('d', {['function'] = bad(9)})})
         run(nil, {{name = 't', type = 'tool', tool = 'calculator', input = {input = '2 +'}}})
         run('retry', {{name = 't', type = 'tool', tool = 'calcluator'}})
         run(nil, {f('n', {['function'] = function() return nil, 'said no' end})})
         run(nil, {f('p', {parameters = {x = '{{step.nobody.result}}'}})})",
    );
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "script\tworkflow w: step b: no luck\ta1 x1",
            "false\t1\ta1 x1 c1\tcompleted, but 1 step failed",
            "true\t0\tx1 x2 x3 c1\tcompleted successfully",
            "true\t0\tx1 x2 c1\tcompleted successfully",
            "script\tworkflow w: step b: no luck\tx1 x2",
            "false\t1\tx1 c1\tcompleted, but 1 step failed",
            "script\tworkflow w: step d: no luck; 2 steps were undone\ta1 b1 c1 x1 undo b nil undo a a",
            "tool\tworkflow w: step t: calculator: expression: unexpected end\t",
            "not_found\tworkflow w: step t: tool calcluator: no such tool\t",
            "script\tworkflow w: step n: said no\t",
            "usage\tworkflow w: step p: {{step.nobody.result}}: no step nobody has run\t",
        ]
    );
}

#[test]
fn time_is_limited() {
    let text = prints(
        "local w = Workflow.sequential{name = 'w', steps = {{name = 'in', type = 'workflow', workflow = Workflow.sequential{name = 'i', steps = {
           {name = 'r', type = 'function', ['function'] = function() error('x') end, retry = {attempts = 5, delay_ms = 60000}}}}, timeout_ms = 30}}}
         local ok, e = pcall(w.execute, w) print(e.class, e.message)
         local v = Workflow.sequential{name = 'v', timeout_ms = 30, steps = {
           {name = 'r', type = 'function', ['function'] = function() error('x') end, retry = {attempts = 5, delay_ms = 60000}}}}
         ok, e = pcall(v.execute, v) print(e.class, e.message)",
    );
    assert_eq!(
        text,
        "timeout\tworkflow w: step in: workflow i: no result within 30ms\ntimeout\tworkflow v: no result within 30ms\n"
    );
}

#[test]
fn an_interrupt_ends_it_at_once() {
    for code in [
        "Workflow.sequential{name = 'w', error_strategy = 'continue', steps = {{name = 'r', type = 'function', ['function'] = function() error('x') end, retry = {attempts = 5, delay_ms = 60000}}}}:execute()",
        "Workflow.loop{name = 'w', error_strategy = 'continue', iterator = {while_condition = 'true'}, body = {{name = 'r', type = 'function', ['function'] = function() while true do end end}}}:execute()",
        "Workflow.parallel{name = 'w', error_strategy = 'continue', steps = {{name = 'r', type = 'function', ['function'] = function() pcall(function() while true do end end) end}}}:execute()",
    ] {
        let mut engine = engine();
        let interrupter = engine.interrupter();
        let began = Instant::now();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            interrupter.0.interrupt(crate::engine::Reason::Interrupt);
        });
        let (outcome, _) = run(&mut engine, code);
        stopper.join().unwrap();
        assert_eq!(outcome.error.unwrap().class, Class::Interrupted, "{code}");
        assert!(began.elapsed() < Duration::from_secs(5), "{code}");
        let (outcome, text) = run(&mut engine, "print(1)");
        assert!(outcome.error.is_none() && text == "1\n");
    }
}

#[test]
fn what_there_is_besides() {
    let text = prints(
        "local function f(fn) return {{name = 's', type = 'function', ['function'] = fn or function() return 1 end}} end
         local log = {}
         local w = Workflow.sequential{name = 'w', steps = f()}
         w:on_before_execute(function(i) log[#log + 1] = 'before ' .. i.workflow end):on_after_execute(function(r) log[#log + 1] = 'after ' .. r.output end)
         w:execute() print(table.concat(log, ', '))
         local bad = Workflow.sequential{name = 'bad', steps = f(function() error('x', 0) end)}
         bad:on_error(function(e, r) print(e.message, r.success) end)
         print(pcall(bad.execute, bad)) print(bad:get_metrics().failed)
         print(Workflow.get('w') == w, Workflow.get(w.id) == w, Workflow.get('none'), #Workflow.list() >= 2)
         local id = Workflow.register('sequential', {name = 'r', steps = f()}) collectgarbage()
         print(Workflow.get(id):execute().output, Workflow.remove(id), Workflow.get(id))
         print(JSON.stringify(Workflow.types()))
         print(pcall(w.get_output, Workflow.sequential{name = 'n', steps = {}}, 'x'))
         print(select(2, pcall(Workflow.sequential, {name = 'n', steps = {{name = 'a', type = 'tol'}}})))
         print(select(2, pcall(Workflow.register, 'name', {})))
         print(select(2, pcall(w.execute, w, {}, {idd = 1})))
         print(w:validate().valid, Workflow.sequential{name = 'n', steps = {{name = 'a', type = 'tool', tool = 'calcluator'}}}:validate().warnings[1])
         w:set_state('k', {1}) print(w:get_state('k')[1], w:get_state('l'))
         print(w:clear_outputs().deleted > 0, w:get_output('s'))
         local deep deep = Workflow.sequential{name = 'deep', steps = f(function() return deep:execute().output end)}
         print(select(2, pcall(deep.execute, deep)).message:match('more than %d in one another'))",
    );
    assert_eq!(
        text,
        "before w, after 1\nworkflow bad: step s: x\tfalse\nfalse\tworkflow bad: step s: x\n1\ntrue\ttrue\tnil\ttrue\n1\ttrue\tnil\n\
         [\"sequential\",\"parallel\",\"conditional\",\"loop\",\"graph\"]\n\
         false\tNo workflow execution found. Run execute() first.\n\
         workflow n: step a: type: \"tol\" is not one of tool, agent, workflow, function\n\
         type: \"name\" is not one of sequential, parallel, conditional, loop, graph\n\
         options: idd: no such option\n\
         true\tstep a: there is no tool calcluator\n1\tnil\ntrue\tnil\nmore than 8 in one another\n"
    );
}

#[test]
fn an_execution_goes_on_behind_what_it_has_done() {
    let text = prints(
        "local done, broken = {}, true
         local function f(name) return {name = name, type = 'function', ['function'] = function(ctx)
           if name == 'b' and broken then error('not yet', 0) end
           done[#done + 1] = name .. (ctx.loop_index or '')
           ctx.shared[name] = true
           return name
         end} end
         local w = Workflow.sequential{name = 'w', steps = {f 'a', f 'b', f 'c'}}
         local ok, e = pcall(w.execute, w, {n = 1}, {id = 'night'})
         print(e.message, Workflow.executions('w')[1].status)
         print(select(2, pcall(w.execute, w, {n = 2}, {id = 'night'})).class)
         broken = false
         local r = w:resume('night')
         print(table.concat(done, ' '), r.metadata.extra.resumed_steps, r.outputs.a)
         print(w:execute({n = 1}, {id = 'night'}).execution_id, table.concat(done, ' '))
         print(pcall(w.resume, w, 'nobody'))
         done = {}
         local passes = 0
         local l = Workflow.loop{name = 'l', iterator = {count = 4}, body = {f 'p', {name = 'q', type = 'function', ['function'] = function(ctx)
           passes = passes + 1 if passes == 3 then error('in the third', 0) end done[#done + 1] = 'q' .. ctx.loop_index return ctx.loop_index * 10 end}}}
         print(pcall(l.execute, l, {}, {id = 'loop'}))
         print(JSON.stringify(l:resume('loop').output), table.concat(done, ' '))",
    );
    assert_eq!(
        text,
        "workflow w: step b: not yet\tfailed\nconflict\na b c\t1\ta\nnight\ta b c\nfalse\texecution nobody: there is none\n\
         false\tworkflow l: pass 3: step q: in the third\n[10,20,30,40]\tp1 q1 p2 q2 p3 q3 p4 q4\n"
    );
}
