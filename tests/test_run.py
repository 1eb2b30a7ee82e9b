"""llmspell-run(1): where scripts come from and go to, how they end, in this process and in a running kernel."""
import json
import os
import signal
import subprocess
import time

import pytest
from conftest import ROOT, WAIT, Watched, ended, line, program

LOOP = "print('go') io.flush() while true do pcall(function() while true do end end) end"


@pytest.fixture(params=["here", "kernel"])
def where(request, kernel):
    """Flags that run a script in this process, and in a kernel: both must behave the same."""
    return [] if request.param == "here" else ["--kernel", kernel().id]


# Scripts and their arguments.


def test_a_file(run, place, where):
    script = place.write("sub/my script.lua", "#!/usr/bin/env llmspell-run\nprint('hello', arg[0], #arg) return 5")
    done = run("run", *where, script)
    assert (done.code, done.out, done.err) == (0, "hello\tmy script.lua\t0\n", "")


def test_standard_input(run, where):
    done = run("run", *where, "-", input="print('from stdin')")
    assert (done.code, done.out, done.err) == (0, "from stdin\n", "")


def test_code_shows_its_value(run, where):
    assert run("run", *where, "-e", "2 + 2 * 3").out == "8\n"
    assert run("run", *where, "-e", "print(1)").out == "1\n"


def test_arguments(run, place, where):
    script = place.write("a.lua", """
      print(arg[0], arg[1], arg[2], arg[3], #arg)
      print(ARGS[0], ARGS[1], ARGS['1'], ARGS.name, ARGS.flag, ARGS.x, #ARGS)
      print(...)""")
    done = run("run", *where, script, "one", "--name", "value", "--x=ü y", "--flag")
    assert done.out.splitlines() == ["a.lua\tone\t--name\tvalue\t5", "a.lua\tone\tone\tvalue\ttrue\tü y\t1",
                                     "one\t--name\tvalue\t--x=ü y\t--flag"]


def test_arguments_of_code(run, where):
    assert run("run", *where, "-e", "print(#arg, arg[1], arg[2])", "one", "--two").out == "2\tone\t--two\n"


def test_modules_beside_the_script(run, place):
    place.write("sub/module.lua", "return {name = 'module'}")
    script = place.write("sub/main.lua", "print(require('module').name)")
    assert run("run", script).out == "module\n"
    assert run("run", "sub/main.lua").out == "module\n"


def test_json(run, where):
    done = run("run", *where, "--json", "-e", "print('out') io.stderr:write('err') return {1, x = 'y'}")
    document = done.json()
    assert (document["status"], document["stdout"], document["stderr"], document["exit_status"]) == ("ok", "out\n", "err", 0)
    assert done.code == 0 and done.out.count("\n") == 1 and done.err == ""
    done = run("run", *where, "--json", "-e", "print('out') error('boom')")
    document = done.json()
    assert (done.code, document["status"], document["exit_status"], document["stdout"]) == (1, "error", 1, "out\n")
    assert document["error"]["evalue"] == "-e:1: boom" and document["error"]["traceback"]


def test_workdir(run, place):
    place.write("sub/a.txt", "inside")
    assert run("run", "--workdir", "sub", "-e", "print(io.open('a.txt'):read('a'))").out == "inside\n"


def test_two_streams(run, where):
    done = run("run", *where, "-e", "print('out') io.stderr:write('err\\n')")
    assert (done.out, done.err) == ("out\n", "err\n")


def test_input(run, where):
    done = run("run", *where, "-e", "print(io.read(), io.read('n'), io.read('a'))", input="first\n5 rest\nlast\n")
    assert (done.code, done.out) == (0, "first\t5\t rest\nlast\n\n")


def test_end_of_input(run, where):
    assert run("run", *where, "-e", "print(io.read())").out == "nil\n"


# Bad input, and how it ends.


@pytest.mark.parametrize("code,exit_", [
    ("os.exit(0)", 0), ("os.exit(true)", 0), ("os.exit(false)", 1), ("os.exit(7)", 7), ("os.exit(255)", 255),
    ("pcall(os.exit, 3)", 3), ("coroutine.wrap(os.exit)(4)", 4), ("error('x')", 1), ("x = = 1", 1), ("return 1", 0),
])
def test_exit_status(run, where, code, exit_):
    done = run("run", *where, "-e", code)
    assert done.code == exit_, done
    assert bool(done.err) == (code.startswith(("error", "x")))


def test_missing_script(run):
    done = run("run", "nowhere/none.lua")
    assert (done.code, done.out) == (5, "") and done.err.startswith("llmspell-run: nowhere/none.lua: no such file")


def test_unreadable_script(run, place):
    # Root without its capabilities is a user like others.
    before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = run("run", place.write("x.lua", "print(1)", 0o000), before=before)
    assert (done.code, done.out) == (4, "") and "x.lua: permission denied" in done.err, done


def test_a_folder_is_no_script(run, place):
    done = run("run", place.work)
    assert done.code == 74 and "is a directory" in done.err


@pytest.mark.parametrize("content", [b"\x1bLuaT\0\x19\x93", b"\x7fELF\0\0\0", b"print(1)\0"])
def test_binary_script(run, place, where, content):
    done = run("run", *where, place.write("x.lua", content))
    assert (done.code, done.out) == (2, "") and "x.lua: not a text file" in done.err


def test_syntax_error(run, place, where):
    done = run("run", *where, place.write("x.lua", "print(1)\nlocal x = = 1\n"))
    assert (done.code, done.out) == (1, "") and "x.lua:2:" in done.err and done.err.startswith("llmspell-run: ")


def test_runtime_error_in_a_required_module(run, place):
    module = place.write("module.lua", "local M = {}\nfunction M.f()\n  error('deep')\nend\nreturn M\n")
    script = place.write("main.lua", "local m = require('module')\nm.f()\n")
    done = run("run", script)
    assert done.code == 1 and f"{module}:3: deep" in done.err.replace(str(place.work.resolve()), str(place.work)), done.err
    assert "main.lua:2:" in done.err


def test_error_in_a_module_while_it_is_required(run, place):
    place.write("module.lua", "\nerror('loading')\n")
    done = run("run", place.write("main.lua", "require('module')\n"))
    assert done.code == 1 and "module.lua:2: loading" in done.err and "main.lua:1:" in done.err, done.err


def test_missing_module(run, where):
    done = run("run", *where, "-e", "require('no.such')")
    assert done.code == 1 and "no.such" in done.err


@pytest.mark.parametrize("code,words", [
    ("error({code = 42, message = 'told'})", "told"), ("error({1, 2})", "[1,2]"), ("error(setmetatable({}, {__tostring = function() return 'shown' end}))", "shown"),
    ("error(true)", "boolean"), ("error(function() end)", "function"), ("local t = {} t.t = t error(t)", "table"),
])
def test_error_objects_that_are_tables(run, where, code, words):
    done = run("run", *where, "-e", code)
    assert done.code == 1 and words in done.err and done.err.startswith("llmspell-run: "), done.err


def test_output_of_100_MB(start, place, where):
    script = place.write("big.lua", "local s = ('x'):rep(99) for i = 1, 1 << 20 do print(s) end")
    child = start("run", *where, script)
    total = 0
    while chunk := os.read(child.stdout.fileno(), 1 << 20):
        total += len(chunk)
    assert (total, ended(child)) == (100 << 20, 0)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_closed_stdout(start, where, flags):
    child = start("run", *where, *flags, "-e", "for i = 1, 1e9 do print('line', i) if i == 100 then io.flush() end end" if not flags else "print(1)")
    if not flags:
        assert line(child.stdout) == "line\t1\n"
    child.stdout.close()
    assert ended(child) == 0 and child.stderr.read() == b""


def test_head(place, where):
    command = " ".join([program("run"), *where, "-e", "'while true do print(1) end' | head -1; echo ${PIPESTATUS[0]}"])
    done = subprocess.run(["bash", "-c", command], env=place.env, cwd=place.work, capture_output=True, timeout=WAIT)
    assert (done.stdout, done.stderr) == (b"1\n0\n", b"")


@pytest.mark.parametrize("args", [["--nonsense"], ["--timeout", "soon", "-e", "1"], ["--engine", "cobol", "-e", "1"], ["-q", "-v", "-e", "1"]])
def test_usage(run, args):
    done = run("run", *args)
    assert (done.code, done.out) == (2, "") and done.err.startswith("llmspell-run: ")


def test_an_engine_that_is_not_here(run):
    done = run("run", "--engine", "js", "-e", "1")
    assert done.code == 10 and "built without javascript" in done.err


def test_timeout(run, where):
    done = run("run", *where, "--timeout", "200ms", "-e", "while true do pcall(function() while true do end end) end")
    assert done.code == 7 and "time limit" in done.err


def test_full_disk(place):
    for words in ("run -e 'print(1)'", "run -e 'for i = 1, 1e6 do print(i) end'", "run --json -e 1", "tool list", "kernel config show"):
        command = f"{program(words.split()[0])} {words.split(' ', 1)[1]} > /dev/full"
        done = subprocess.run(["bash", "-c", command], env=place.env, cwd=place.work, capture_output=True, timeout=WAIT)
        assert done.returncode == 74 and b"no space left" in done.stderr, (words, done)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(place, closed):
    for words in ("run -e 'print(io.read())'", "tool list"):
        command = f"{program(words.split()[0])} {words.split(' ', 1)[1]} {closed}"
        done = subprocess.run(["bash", "-c", command], env=place.env, cwd=place.work, capture_output=True, timeout=WAIT)
        assert done.returncode == 0 and done.stderr == b"", (words, done)


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfprint(1)", b"print(1)\r\n", b"#!/bin/x\r\nprint(1)", b"\xef\xbb\xbf#!/bin/x\nprint(1)", b"-- \xff\nprint(1)",
                                  b"print(1)" + b" " * (1 << 20)])
def test_files_of_other_systems(run, place, text):
    assert run("run", place.write("x.lua", text)).out == "1\n"


def test_names_that_are_no_text(run, place):
    name = os.fsencode(place.work) + b"/\xff.lua"
    with open(name, "w") as file:
        file.write("print(#arg, arg[1])")
    done = run("run", name, b"\xfe")
    assert done.code == 0 and done.raw.startswith(b"1\t"), done


STUCK = "print('go') local s = ('a'):rep(100000) return s:find(('.-'):rep(50) .. 'b')"


def test_timeout_ends_what_cannot_be_stopped(run, where):
    done = run("run", *where, "--timeout", "100ms", "-e", STUCK)
    assert (done.code, done.out) == (7, "go\n") and done.err, done


def test_a_timeout_takes_a_waiting_script_out_of_the_queue(run, kernel):
    one = kernel()
    wire = one.wire()
    wire.begin("print('go') io.flush() while true do end")
    assert run("run", "-k", one.id, "--timeout", "100ms", "-e", "ran = true").code == 7
    deadline = time.monotonic() + WAIT
    while wire.ask("control", "status_request").content["queue"]:
        assert time.monotonic() < deadline
    wire.ask("control", "interrupt_request")
    wire.recv("shell")
    assert wire.stdout("print(ran)") == "nil\n"


@pytest.mark.parametrize("limit", ["18446744073709551615", "584554530000y", "1ns", "0"])
def test_odd_timeouts(run, where, limit):
    assert run("run", *where, "--timeout", limit, "-e", "return 1").code in (0, 2, 7)


# The user stops it.


def test_interrupt(start, where):
    child = start("run", *where, "-e", LOOP)
    assert line(child.stdout) == "go\n"
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130 and b"interrupted" in child.stderr.read()


def test_interrupt_while_it_asks(start, where):
    child = start("run", *where, "-e", "print('go') io.flush() io.read()")
    assert line(child.stdout) == "go\n"
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130


def test_interrupt_twice_ends_what_cannot_be_stopped(start, where):
    child = start("run", *where, "-e", "setmetatable({}, {__gc = function() print('go') io.flush() while true do end end}) collectgarbage()")
    assert line(child.stdout) == "go\n"
    with Watched(child.pid) as watched:
        while not watched.ended(0.1):  # two that arrive at once may be one
            child.send_signal(signal.SIGINT)
    assert child.wait() in (130, -signal.SIGINT)


def test_a_kernel_goes_on_after_an_interrupt(run, start, kernel):
    one = kernel()
    child = start("run", "-k", one.id, "-e", LOOP)
    assert line(child.stdout) == "go\n"
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130
    assert run("run", "-k", one.id, "-e", "print('here')").out == "here\n"


def test_interrupt_of_a_script_that_waits_for_its_turn(start, kernel):
    one = kernel()
    wire = one.wire()
    wire.begin("print('go') io.flush() while true do end")
    child = start("run", "-k", one.id, "-e", "ran = true")
    while wire.ask("control", "status_request").content["queue"] < 1:
        pass
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130, "while the other one still runs"
    assert wire.ask("control", "status_request").content["busy"] is True
    wire.ask("control", "interrupt_request")
    wire.recv("shell")
    assert wire.stdout("print(ran)") == "nil\n"


# A running kernel.


def test_a_kernel_keeps_state_and_is_found_by_many_names(run, kernel):
    one = kernel("--port", "0", "--id", "mine")
    assert run("run", "-k", "mine", "-e", "x = 5").code == 0
    port = one.connection["shell_port"]
    for name in ("mine", one.pid, port, f"kernel-{port}"):
        assert run("run", "-k", name, "-e", "print(x)").out == "5\n"
    assert run("run", "-f", one.file, "-e", "print(x)").out == "5\n"


def test_in_this_process_by_default(run, kernel):
    kernel()
    run("run", "-e", "x = 5")
    assert run("run", "-e", "print(x)").out == "nil\n"


@pytest.mark.parametrize("name,hint", [("nobody", "llmspell-kernel"), ("llmspell-kernle", "Did you mean llmspell-kernel?")])
def test_no_such_kernel(run, kernel, name, hint):
    kernel()
    done = run("run", "-k", name, "-e", "1")
    assert done.code == 5 and f"kernel {name}: not running" in done.err and hint in done.err


def test_kernel_killed_mid_request(start, kernel):
    one = kernel()
    child = start("run", "-k", one.id, "-e", "print('before') io.flush() while true do end")
    assert line(child.stdout) == "before\n"
    one.kill()
    assert ended(child, 3) == 8
    assert b"went away" in child.stderr.read()


def test_kernel_killed_mid_request_while_it_asks(start, kernel):
    one = kernel("--transport", "tcp")
    child = start("run", "-k", one.id, "-e", "print('go') io.flush() io.read()")
    assert line(child.stdout) == "go\n"
    one.kill()
    assert ended(child, 3) == 8


def test_kernel_shut_down_mid_request(start, kernel):
    one = kernel()
    child = start("run", "-k", one.id, "-e", "print('go') io.flush() while true do end")
    assert line(child.stdout) == "go\n"
    one.wire().ask("control", "shutdown_request")
    assert ended(child, 3) != 0 and child.stderr.read()


def test_client_killed_mid_request(run, start, kernel):
    one = kernel()
    child = start("run", "-k", one.id, "-e", "print('go') io.flush() local t = os.time() while os.time() < t + 2 do print(t) end")
    assert line(child.stdout) == "go\n"
    child.kill()
    assert run("run", "-k", one.id, "-e", "print('here')").out == "here\n"


def test_two_scripts_at_once_wait_for_each_other(start, kernel):
    one = kernel()
    children = [start("run", "-k", one.id, "-e", f"for i = 1, 100 do print({n}) end") for n in range(4)]
    for n, child in enumerate(children):
        out, err = child.communicate(timeout=WAIT)
        assert (child.returncode, out.decode(), err) == (0, f"{n}\n" * 100, b"")


# Policy.


def test_profiles(run, place):
    place.write("a.txt", "inside")
    read = "print(io.open('a.txt') and 'yes' or 'no')"
    assert run("run", "-e", read).out == "yes\n"
    assert run("run", "--profile", "safe", "-e", read).out == "no\n"
    assert run("run", "--profile", "safe", "--allow-read=.", "-e", read).out == "yes\n"


@pytest.mark.parametrize("code", ["os.execute('true')", "io.popen('true')", "package.loadlib('libc.so.6', '*')", "os.remove('/etc/hostname')"])
def test_programs_and_libraries_are_off(run, code):
    done = run("run", "-e", f"print(pcall(function() return assert({code}) end))")
    assert done.out.startswith("false"), done


def test_programs_where_allowed(run):
    assert run("run", "--allow-run=sh", "-e", "print(os.execute('echo out; exit 3'))").out == "out\nnil\texit\t3\n"


def test_environment_is_hidden_unless_allowed(run):
    code = "print(os.getenv('SECRET_TOKEN'))"
    assert run("run", "-e", code, env={"SECRET_TOKEN": "x"}).out == "nil\n"
    assert run("run", "--allow-env=SECRET_TOKEN", "-e", code, env={"SECRET_TOKEN": "x"}).out == "x\n"


def test_the_front_name(place):
    link = place.root / "llmspell"
    link.symlink_to(program("run"))
    for words, out in ((["run", "-e", "print(1)"], "1\n"), (["tool", "list", "--json"], None), (["kernel", "--version"], None)):
        done = subprocess.run([link, *words], env={**place.env, "PATH": f"{os.path.dirname(program('run'))}:{place.env['PATH']}"},
                              capture_output=True, text=True, timeout=WAIT, cwd=place.work)
        assert done.returncode == 0 and (out is None or done.stdout == out), done


def test_examples(run, place):
    """Every example script that needs no network and no model runs, on the examples themselves; test_examples.py compares what they print."""
    scripts = sorted(path for path in (ROOT / "examples").glob("*.lua") if not path.name.startswith(("fetch", "agent", "workflow")))
    assert scripts, "no examples"
    for script in scripts:
        done = run("run", script, ROOT / "examples", cwd=ROOT / "examples")
        assert done.code == 0 and done.out and not done.err, (script, done)


def test_version_and_help(run):
    for name in ("run", "tool", "kernel"):
        assert run(name, "--version").out.startswith(f"llmspell-{name} 0.")
        done = run(name, "--help")
        assert done.code == 0 and done.out.splitlines()[0] and not done.err


def test_json_is_json_whatever_the_script_prints(run):
    assert json.loads(run("run", "--json", "-e", "io.write('\\xff\\0\"\\n')").out)["stdout"]
