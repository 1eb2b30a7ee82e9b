"""Workflows: what was finished before a crash is not done again; parallel is parallel; an interrupt ends all of it."""
import json
import signal
import time

import pytest
from conftest import ended, line

STEPS = ["a", "b", "c", "d"]

# Each step appends to a file that it began and that it ended; the one named in `stop` waits to be killed in between.
FLOW = """
local log = ARGS.log
local function note(text) local f <close> = assert(io.open(log, "a")) f:write(text, "\\n") end
local function step(name)
  return { name = name, type = "function", ["function"] = function(ctx)
    note("began " .. name)
    if ARGS.stop == name then print("in " .. name) io.flush() while true do end end
    note("ended " .. name)
    ctx.shared.sum = (ctx.shared.sum or "") .. name
    return { of = name, sum = ctx.shared.sum }
  end }
end
local steps = { step "a", step "b", step "c", step "d" }
local kinds = {
  sequential = { name = "f", steps = steps },
  graph = { name = "f", max_concurrency = 1, steps = steps },
  parallel = { name = "f", branches = { { name = "only", steps = steps } } },
  conditional = { name = "f", condition = function() note("asked") return true end, then_steps = steps },
  loop = { name = "f", iterator = { count = 1 }, body = steps },
}
local w = Workflow[ARGS.kind](kinds[ARGS.kind])
local r = w:execute({ n = 1 }, { resume = true })
print(JSON.stringify(r.outputs.d), r.metadata.extra.resumed_steps)
"""


def flow(place, kind, stop="none"):
    script = place.write("flow.lua", FLOW)
    return ["--allow-write=" + str(place.work), script, "--kind", kind, "--stop", stop, "--log", place.work / "log"]


def noted(place):
    return (place.work / "log").read_text().split("\n")[:-1]


@pytest.mark.parametrize("kind", ["sequential", "graph", "parallel", "conditional", "loop"])
def test_a_kill_in_each_step(run, start, place, kind):
    for stop in STEPS:
        child = start("run", *flow(place, kind, stop))
        assert line(child.stdout) == f"in {stop}\n"
        child.kill()
        ended(child)
    done = run("run", *flow(place, kind))
    assert (done.err, done.code) == ("", 0)
    assert done.out.split("\t") == ['{"of":"d","sum":"abcd"}', "3\n"]
    notes = noted(place)
    # Finished steps ran exactly once; the one it was killed in began again.
    assert [note for note in notes if note.startswith("ended")] == [f"ended {step}" for step in STEPS]
    for step in STEPS:
        assert notes.count(f"began {step}") == 2, notes
    assert notes.count("asked") == (1 if kind == "conditional" else 0)
    # All of it is over: the next one starts from the beginning.
    assert run("run", *flow(place, kind)).out.endswith("\t0\n")


def test_loops_and_nested_workflows_go_on_in_their_pass(run, start, place):
    script = place.write("flow.lua", """
        local log = ARGS.log
        local function note(text) local f <close> = assert(io.open(log, "a")) f:write(text, "\\n") end
        local inner = Workflow.sequential{ name = "inner", steps = {
          { name = "x", type = "function", ["function"] = function(ctx) note("x" .. ctx.input.v) return ctx.input.v end },
          { name = "y", type = "function", ["function"] = function(ctx)
              if ARGS.stop == tostring(ctx.input.v) then print("in") io.flush() while true do end end
              note("y" .. ctx.input.v) return ctx.steps.x.result * 10 end } } }
        local w = Workflow.loop{ name = "outer", iterator = { collection = { 1, 2, 3 } }, body = {
          { name = "i", type = "workflow", workflow = inner, input = { v = "{{loop_value}}" } } } }
        print(JSON.stringify(w:execute({}, { id = "mine" }).output))""")
    words = ["--allow-write=" + str(place.work), script, "--log", place.work / "log", "--stop"]
    for stop in "13":
        child = start("run", *words, stop)
        assert line(child.stdout) == "in\n"
        child.kill()
        ended(child)
    assert run("run", *words, "none").out == "[10,20,30]\n"
    assert noted(place) == ["x1", "y1", "x2", "y2", "x3", "y3"]
    # What is done answers the same again.
    assert run("run", *words, "none").out == "[10,20,30]\n"
    assert len(noted(place)) == 6


def test_undoing_goes_on_after_a_kill(run, start, place):
    script = place.write("flow.lua", """
        local function note(text) local f <close> = assert(io.open(ARGS.log, "a")) f:write(text, "\\n") end
        local function step(name) return { name = name, type = "function", ["function"] = function() note(name) end,
          undo = function() if ARGS.stop == name then print("in") io.flush() while true do end end note("undo " .. name) end } end
        local w = Workflow.sequential{ name = "w", error_strategy = "compensate", steps = { step "a", step "b", step "c",
          { name = "bad", type = "function", ["function"] = function() error("no luck", 0) end } } }
        print(select(2, pcall(w.execute, w, {}, { resume = true })).message)""")
    words = ["--allow-write=" + str(place.work), script, "--log", place.work / "log", "--stop"]
    child = start("run", *words, "b")
    assert line(child.stdout) == "in\n"
    child.kill()
    ended(child)
    done = run("run", *words, "none")
    assert done.out == "workflow w: step bad: no luck; 3 steps were undone\n", done
    assert noted(place) == ["a", "b", "c", "undo c", "undo b", "undo a"]


def test_one_works_on_an_execution_at_a_time(run, start, place):
    script = place.write("flow.lua", """
        local w = Workflow.sequential{ name = "w", steps = { { name = "s", type = "function", ["function"] = function()
          print("in") io.flush() if ARGS and ARGS.wait then while true do end end return 1 end } } }
        print(w:execute({}, { id = "only" }).output)""")
    child = start("run", script, "--wait")
    assert line(child.stdout) == "in\n"
    other = run("run", script)
    assert other.code == 6 and "run only" in other.err, other
    listed = run("run", "-e", "for _, e in ipairs(Workflow.executions()) do print(e.id, e.workflow, e.status) end")
    assert listed.out == "only\tw\trunning\n"
    child.kill()
    ended(child)
    listed = run("run", "-e", "for _, e in ipairs(Workflow.executions()) do print(e.id, e.workflow, e.status) end")
    assert listed.out == "only\tw\tinterrupted\n"
    assert run("run", script).out == "in\n1\n"


def test_parallel_is_parallel(run):
    code = """
        local steps = {}
        for i = 1, 6 do steps[i] = { name = "s" .. i, type = "tool", tool = "process_executor",
          input = { executable = "sleep", arguments = { "0.4" } } } end
        steps[7] = { name = "f", type = "function", ["function"] = function() return os.time() end }
        local r = Workflow.parallel{ name = "p", steps = steps }:execute()
        print(r.success, r.metadata.extra.successful_branches, r.metadata.execution_time_ms < 1600)"""
    assert run("run", "--allow-run=sleep", "-e", code).out == "true\t7\ttrue\n"


def test_an_interrupt_over_control_ends_it(kernel):
    one = kernel()
    with one.wire() as wire:
        code = """print("begun") Workflow.loop{ name = "w", error_strategy = "continue", iterator = { while_condition = "true" },
            body = { { name = "s", type = "function", ["function"] = function() error("x") end,
                       retry = { attempts = 9, delay_ms = 60000 } } } }:execute()"""
        header = wire.send("shell", "execute_request", {"code": code})
        time.sleep(0.2)
        began = time.monotonic()
        wire.send("control", "interrupt_request", {})
        reply = wire.reply("shell", header)
        assert reply.content["ename"] == "KeyboardInterrupt", reply
        assert time.monotonic() - began < 2
        assert wire.stdout("print(#Workflow.executions('w'), Workflow.executions('w')[1].status)") == "1\tinterrupted\n"


def test_ctrl_c_stops_the_commands_of_its_steps(start, place):
    code = """print("begun") io.stdout:flush() Workflow.sequential{ name = "w", steps = { { name = "s", type = "tool",
        tool = "process_executor", input = { executable = "sleep", arguments = { "97" } } } } }:execute()"""
    child = start("run", "--allow-run=sleep", "-e", code)
    assert line(child.stdout) == "begun\n"
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130


def test_agents_are_steps(run, place):
    code = """
        Agent.builder():name("echo"):model("mock/echo"):build()
        local w = Workflow.sequential{ name = "w", steps = {
          { name = "ask", type = "agent", agent = "echo", input = "say {{input.what}}" },
          { name = "use", type = "function", parameters = { said = "{{step.ask.result}}", model = "{{step.ask.model}}" },
            ["function"] = function(ctx) return ctx.parameters end } } }
        local r = w:execute{ what = "cheese" }
        print(JSON.stringify(r.output), r.metadata.extra.agent_outputs.echo)
        print(State.load("custom", ":workflow:" .. r.execution_id .. ":agent:echo:output"))
        print(select(2, pcall(Workflow.sequential{ name = "x", steps = {
          { name = "ask", type = "agent", agent = "ecco", input = "x" } } }.execute, w == nil)))"""
    done = run("run", "-e", code)
    lines = done.out.splitlines()
    assert json.loads(lines[0].split("\t")[0]) == {"said": "say cheese", "model": "mock/echo"}, done
    assert lines[0].split("\t")[1] == "say cheese" and lines[1] == "say cheese"


def test_huge_loops_are_bounded(run):
    done = run("run", "-e", """
        local steps = { { name = "s", type = "function", ["function"] = function() end } }
        print(pcall(Workflow.loop, { name = "l", iterator = { count = 1e7 }, body = steps }))
        local w = Workflow.loop{ name = "l", iterator = { count = 20000 }, body = steps, checkpoint = false }
        local r = w:execute() print(r.metadata.extra.completed_iterations, #r.output)""")
    assert done.out == "false\tworkflow l: 10000000 passes; 1000000 are the most\n20000\t0\n", done


def test_progress_is_told_where_it_takes_a_while(run):
    code = """local s = {} for i = 1, 3 do s[i] = { name = "s" .. i, type = "tool", tool = "process_executor",
        input = { executable = "sleep", arguments = { "0.3" } } } end
        Workflow.sequential{ name = "slow", steps = s }:execute()"""
    done = run("run", "--allow-run=sleep", "-e", code)
    assert done.code == 0 and "slow" in done.err and "3/3" in done.err, done
    assert run("run", "-e", "Workflow.sequential{ name = 'fast', steps = {} }:execute()").err == ""
