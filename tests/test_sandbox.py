"""What only a whole process shows of the sandbox: that it ends in time and grows no further, whatever a script leaves behind."""
import os
import signal
import time

import pytest
from conftest import ended, line

SHELL = "--allow-run=sh"


@pytest.mark.parametrize("code", [
    'return io.popen("sleep 30"):read("a")',
    'return io.popen("sleep 30"):close()',
    'for _ = 1, 5 do pcall(io.popen, "sleep 30") end collectgarbage() while true do end',
    'return os.execute("sleep 30")',
])
def test_the_time_limit_reaches_programs(run, code):
    began = time.monotonic()
    done = run("run", "--timeout", "1s", SHELL, "-e", code)
    assert done.code == 7, done.err
    assert 1 <= time.monotonic() - began < 6


def test_ctrl_c_reaches_a_pipe(start):
    child = start("run", SHELL, "-e", 'print("go") io.flush() return io.popen("sleep 30"):read("a")')
    assert line(child.stdout) == "go\n"
    child.send_signal(signal.SIGINT)
    assert ended(child, 5) in (130, -signal.SIGINT)


def test_a_finalizer_that_loops_keeps_no_process(run, kernel):
    code = "x = setmetatable({}, {__gc = function() while true do end end}) f = io.open('left', 'w') f:write('text') print(1)"
    assert run("run", "-e", code, timeout=10).out == "1\n"
    assert run("run", "-e", "print(io.open('left'):read('a'))").out == "text\n"
    serving = kernel()
    assert run("run", "--kernel", serving.id, "-e", code).out == "1\n"
    os.kill(serving.pid, signal.SIGTERM)
    assert serving.ended(10) == 0


def test_a_value_in_many_places_takes_no_memory(run):
    for args in ([], ["--json"]):
        done = run("run", *args, "-e", "local t={} for i=1,34 do t={t,t} end return t",
                   before=("prlimit", f"--as={3 << 30}"), timeout=20)
        assert done.code == 0, done.err
        assert len(done.out) < 1 << 20


def test_programs_see_no_secrets(run):
    code = "os.execute('echo \"$SECRET_TOKEN\"') print(io.popen('echo \"$SECRET_TOKEN\"'):read('a'))"
    assert run("run", SHELL, "-e", code, env={"SECRET_TOKEN": "hunter2"}).out == "\n\n\n"
    assert run("run", SHELL, "--allow-env=SECRET_TOKEN", "-e", code, env={"SECRET_TOKEN": "hunter2"}).out == "hunter2\nhunter2\n\n"


def test_a_pipe_in_the_file_system_does_not_hold_a_script(run, place):
    os.mkfifo(place.work / "pipe")
    done = run("run", "-e", "return (select(2, io.open('pipe'))).class", timeout=10)
    assert done.out == "denied\n"
