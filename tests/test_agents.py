"""Agents in the built programs, on the mock provider: approvals from other processes, kill -9, interrupts, terminals, notebooks."""
import json
import os
import pty
import select
import signal
import time

import pytest
from conftest import WAIT, ended, line, text


def call(name, **arguments):
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def agent(replies, **settings):
    """Lua that makes `a`."""
    model = "mock/" + json.dumps({"replies": replies})
    fields = "".join(f", {key} = {value}" for key, value in settings.items())
    return f"local a = Agent.create{{name = 'a', model = [==[{model}]==]{fields}}}\n"


WRITE = {**call("file_operations", operation="append", path="log.txt", input="x"), "match": "go"}


def test_a_run_that_waits_is_woken_from_another_process(start, run, place):
    script = agent([WRITE, "written"], tools="{'file_operations'}", approval="'wait'")
    child = start("run", "--allow-write=.", "-e", script + "print(a:invoke('go', {on_event = function(e) "
                  "if e.type == 'approval' then io.stderr:write(e.id .. '\\n') end end}).text)")
    waiting = line(child.stderr).strip()
    listed = run("kernel", "approvals", "list", "--json").json()["approvals"]
    assert [(row["id"], row["agent"], row["tool"], row["store"]) for row in listed] == [(waiting, "a", "file_operations", "default")]
    edited = json.dumps({"operation": "append", "path": "other.txt", "input": "y"})
    decided = run("kernel", "approvals", "edit", waiting, edited, "--json").json()
    assert decided["woken"] and decided["decision"] == "approved" and decided["arguments"]["path"] == "other.txt"
    assert line(child.stdout) == "written\n" and ended(child) == 0
    assert (place.work / "other.txt").read_text() == "y" and not (place.work / "log.txt").exists()
    assert run("kernel", "approvals", "list").out == ""


def test_a_denial_reaches_the_model(run, place):
    script = agent([WRITE, {"match": "denied by a person: too risky", "text": "as you wish"}], tools="{'file_operations'}")
    first = run("run", "--allow-write=.", "-e", script + "print(a:invoke('go', {run = 'r'}).approvals[1].id)")
    denied = run("kernel", "approvals", "deny", first.out.strip(), "too risky")
    assert denied.code == 0 and denied.out.startswith("denied ")
    done = run("run", "--allow-write=.", "-e", script + "print(a:resume_run('r').text)")
    assert (done.out, done.code) == ("as you wish\n", 0) and not (place.work / "log.txt").exists()


@pytest.mark.parametrize("words, code, message", [
    (["approve", "nothing"], 5, "no such call"),
    (["edit", "x", "{"], 2, "PARAMETERS"),
    (["edit", "x", "[1]"], 5, "no such call"),
    (["approve"], 2, "ID"),
])
def test_wrong_decisions(run, words, code, message):
    done = run("kernel", "approvals", *words)
    assert done.code == code and message in done.err


def test_kill_9_at_every_step_repeats_nothing(start, run, place):
    """Three turns with a call each. Killed while the model or a tool works, at each of them, again and again."""
    log = place.work / "done.txt"
    # Each thing that is done leaves a line; the one after it blocks until the process is killed.
    step = "local f = io.open('done.txt', 'a') f:write(p.n .. '\\n') f:close() "
    block = "if p.n == ARGS[1] then print('go') io.stdout:flush() io.read() end "
    tool = f"{{name = 'step', parameters = {{n = 'number'}}, repeatable = true, handler = function(p) {block} {step} return 'did ' .. p.n end}}"
    replies = [{**call("step", n="1"), "match": "go"}, {**call("step", n="2"), "match": "did 1"},
               {**call("step", n="3"), "match": "did 2"}, {"match": "did 3", "text": "over"}]
    script = place.write("s.lua", agent(replies, tools=f"{{{tool}}}") + "print(a:invoke('go', {run = 'r'}).text)")
    for n in ("1", "1", "2", "3"):
        child = start("run", "--allow-write=.", script, n)
        assert line(child.stdout) == "go\n"
        child.kill()
        assert ended(child) == -signal.SIGKILL
    done = run("run", "--allow-write=.", script, "none")
    assert (done.out, done.err, done.code) == ("over\n", "", 0)
    assert log.read_text() == "1\n2\n3\n"
    # It is over: asked once more, it answers the same, and asks no model.
    assert run("run", "--allow-write=.", script, "none").out == "over\n"
    other = run("run", "-e", agent([], name="'b'") + "print(a:invoke('something else', {run = 'r'}).text)")
    assert other.code == 6 and "something else" in other.err


def test_what_was_under_way_is_not_done_twice(start, run, place):
    tool = "{name = 'send', handler = function() print('go') io.stdout:flush() io.read() return 'sent' end}"
    replies = [{**call("send"), "match": "please"}, {"match": "it was not done again", "text": "unknown"}]
    script = place.write("s.lua", agent(replies, tools=f"{{{tool}}}") + "print(a:invoke('please', {run = 'r'}).text)")
    child = start("run", script)
    assert line(child.stdout) == "go\n"
    child.kill()
    ended(child)
    listed = run("run", "-e", "for _, r in ipairs(Agent.runs()) do print(r.id, r.status, r.agent) end")
    assert listed.out == "r\trunning\ta\n"
    done = run("run", script)
    assert (done.out, done.code) == ("unknown\n", 0)


def test_two_processes_do_not_share_a_run(start, run, place):
    child = start("run", "-e", agent([{"chunks": ["go\n", "late"], "chunk_delay": "1h"}]) + "a:invoke('x', {run = 'r', stream = true})")
    assert line(child.stdout) == "go\n"
    script = agent(["early"]) + "print(a:invoke('x', {run = 'r'}).text)"
    done = run("run", "-e", script)
    assert done.code == 6 and "worked on" in done.err
    child.kill()
    ended(child)
    assert run("run", "-e", script).out == "early\n"


@pytest.mark.parametrize("error, code", [({"class": "budget", "text": "spent"}, 9), ({"class": "remote", "text": "cut"}, 8),
                                         ({"class": "timeout", "text": "slow"}, 7)])
def test_errors_of_models_keep_their_class(run, error, code):
    done = run("run", "-e", agent([{"chunks": ["par", "tial"], "error": error}]) + "a:invoke('x', {stream = true})")
    assert done.code == code and error["text"] in done.err and done.out == "partial"


def test_loops_without_end_are_a_matter_of_budget(run):
    forever = [{**call("calculator", input="1+1"), "repeat": True}]
    done = run("run", "-e", agent(forever, tools="{'calculator'}", max_turns=5) + "a:invoke('x')")
    assert done.code == 9 and "no answer after 5 turns" in done.err


def test_an_interrupt_ends_a_run_at_once(start):
    child = start("run", "-e", agent([{"text": "late", "delay": "1h"}]) + "print('go') io.flush() a:invoke('x')")
    assert line(child.stdout) == "go\n"
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130
    assert time.monotonic() - begun < 5


def test_pieces_come_as_they_are_made(start):
    child = start("run", "-e", agent([{"chunks": ["one\n", "two\n"], "chunk_delay": "1h"}]) + "a:invoke('x', {stream = true})")
    assert line(child.stdout) == "one\n"
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130


def test_a_terminal_is_not_commanded(place, run):
    evil = "\x1b]0;title\x07\x1b[2Jred\r\nline\rover\x9b31m\x00\x08"
    script = agent([evil, {"chunks": ["\x1b", "[31m"]}, call("calculator\x1b[2J", input="\x1b[2J"), "x"], tools="{'calculator'}",
                   approval="'ask'")
    script += "io.write(a:invoke('x').text) a:invoke('y', {stream = true}) a:invoke('z', {stream = true})"
    from conftest import program
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(place.work)
        os.execve(program("run"), ["llmspell-run", "-e", script], place.env)
    seen = b""
    while select.select([fd], [], [], WAIT)[0]:
        try:
            more = os.read(fd, 4096)
        except OSError:
            break
        if not more:
            break
        seen += more
    _, status = os.waitpid(pid, 0)
    assert status == 0, seen
    out = seen.decode()
    assert not any(c < " " and c not in "\r\n\t" for c in out) and "\x9b" not in out, out
    assert "red\r\nline\r\nover" in out and "␛[31m" in out


def test_a_notebook_sees_the_answer_as_it_is_made(kernel):
    with kernel().wire() as wire:
        reply, messages = wire.execute(agent([{"chunks": ["one ", "two"]}]) + "a:invoke('x', {stream = true})")
        assert reply["status"] == "ok" and text(messages) == "one two\n"
        assert len([1 for kind, _ in messages if kind == "stream"]) >= 1


def test_a_kernel_has_its_agents_as_tools_and_keeps_serving(kernel):
    one = kernel()
    with one.wire() as wire:
        wire.stdout(agent(["hello", {"error": "broken"}], description="'greets'") + "Agent.wrap_as_tool('a')")
        assert wire.tool("info", name="a_tool")["summary"] == "greets"
        assert wire.tool("invoke", name="a_tool", params={"input": "x"})["result"]["text"] == "hello"
        assert wire.tool("invoke", name="a_tool", params={"input": "x"})["status"] == "error"
        header = wire.begin(agent([{"text": "late", "delay": "1h"}], name="'b'").replace("name = 'a', ", "") + "print('go') a:invoke('x')")
        assert wire.tool("invoke", name="calculator", params={"input": "1+1"})["status"] == "ok"
        wire.send("control", "interrupt_request")
        reply = wire.recv("shell")
        assert reply.parent == header and reply.content["ename"] == "KeyboardInterrupt"
        assert wire.stdout("print(Agent.get('a'):get_metrics().failed)") == "1\n"


def test_a_hundred_at_once_with_answers_of_the_script(run):
    replies = [{**call("f"), "delay": "100ms", "repeat": True, "match": "go"}, {"text": "x", "repeat": True}]
    script = agent(replies, tools="{{name = 'f', handler = function() n = (n or 0) + 1 return n end}}")
    script += """local list = {} for i = 1, 100 do list[i] = {a, "go"} end
        local ok = 0 for _, r in ipairs(Agent.invoke_all(list)) do if r.success then ok = ok + 1 end end print(ok, n)"""
    assert run("run", "-e", script).out == "100\t100\n"
