"""llmspell-tool(1): five commands, through a running kernel and through a private one."""
import json
import os
import signal

import pytest
from conftest import WAIT, Watched, children, ended, tools

TOOLS = tools()


@pytest.fixture(params=["private", "running"])
def tool(request, run, kernel, place):
    """tool("list", …), where a kernel runs and where none does; nothing is left behind."""
    if request.param == "running":
        kernel()
    yield lambda *args, **more: run("tool", *args, **more)
    assert os.listdir(place.tmp) == [], "left behind"


def test_list(tool):
    done = tool("list")
    assert (done.code, done.err) == (0, "") and all(name in done.out for name in TOOLS)
    assert [row["name"] for row in tool("list", "--json").json()["tools"]] == TOOLS
    files = tool("list", "--category", "filesystem", "--json").json()["tools"]
    assert {"file_operations", "file_search"} <= {row["name"] for row in files} < set(TOOLS)
    assert [row["name"] for row in tool("list", "--available", "--json").json()["tools"]] == TOOLS


def test_info(tool):
    done = tool("info", "calculator")
    assert done.code == 0 and "input" in done.out and "evaluate" in done.out
    assert tool("info", "calculator", "--show-schema").out != done.out
    assert tool("info", "calculator", "--json").json()["schema"]["type"] == "object"


def test_search(tool):
    assert tool("search", "hash", "--json").json()["matches"][0]["name"] == "hash_calculator"
    assert tool("search", "xyzzy").code == 1


def test_test(tool):
    done = tool("test", "calculator")
    assert done.code == 0 and done.out
    assert tool("test", "--all", "--json").json()["success"] is True


@pytest.mark.parametrize("args,input", [
    (["--params", '{"expression": "2 + 2 * 3"}'], ""),
    (["--params", "-"], '{"expression": "2 + 2 * 3"}'),
    (["--params", "@params.json"], ""),
    (["expression=2 + 2 * 3"], ""),
    (["input=2 + 2 * 3"], ""),
    (["input=:2 + 2 * 3"], ""),
    (["input=@expression.txt"], ""),
    (["input=@-"], "2 + 2 * 3"),
    (["input=2 + x * 3", 'variables={"x": 2}'], ""),
])
def test_invoke(tool, place, args, input):
    place.write("params.json", '{"expression": "2 + 2 * 3"}')
    place.write("expression.txt", "2 + 2 * 3")
    done = tool("invoke", "calculator", *args, "--json", input=input)
    assert (done.code, done.err) == (0, ""), done
    assert done.json()["result"]["result"] == 8
    assert "8" in tool("invoke", "calculator", *args, input=input).out


def test_old_names_find_tools(tool):
    for name in ("Calculator", "calculator_tool", "calculator-tool", "calc"):
        assert tool("invoke", name, "input=1+1", "--json").json()["result"]["result"] == 2


def test_paths_start_where_the_user_is(tool, place):
    place.write("sub/a.txt", "inside")
    done = tool("invoke", "file_operations", "operation=read", "path=a.txt", cwd=place.work / "sub")
    assert (done.code, done.out) == (0, "inside") or done.out == "inside\n", done


def test_formats(tool):
    one, pretty = (tool("list", "--format", name).out for name in ("json", "pretty"))
    assert json.loads(one).keys() == json.loads(pretty).keys() and one.count("\n") == 1 < pretty.count("\n")


# Bad input.


def test_invalid_json_params(tool):
    for text in ("{", "", "nonsense", '{"a": 1} x', "{'a': 1}"):
        done = tool("invoke", "calculator", "--params", text)
        assert (done.code, done.out) == (2, "") and done.err.startswith("llmspell-tool: --params: not JSON"), done
    for text in ("[1]", "5", "null", '"x"'):
        done = tool("invoke", "calculator", "--params", text)
        assert done.code == 2 and "not a JSON object" in done.err
    done = tool("invoke", "calculator", "--params", "-", input="{")
    assert done.code == 2 and "--params -" in done.err
    assert tool("invoke", "calculator", "--params", "@none.json").code == 5


def test_unknown_tool(tool):
    for args in (["info", "calcluator"], ["invoke", "calcluator"], ["invoke", "calcluator", "a=1"], ["test", "calcluator"]):
        done = tool(*args)
        assert (done.code, done.out) == (5, ""), done
        assert "tool calcluator: no such tool\nDid you mean calculator?\n" in done.err
    assert tool("list", "--category", "nonsense").code == 5


def test_wrong_type(tool):
    done = tool("invoke", "calculator", "--params", '{"input": 5}')
    assert done.code == 2 and "input: 5 is not a" in done.err
    done = tool("invoke", "calculator", "input=1", "variables=nonsense")
    assert done.code == 2 and "variables" in done.err
    done = tool("invoke", "hash_calculator", "input=x", "algorithm=sha-257")
    assert done.code == 2 and "algorithm" in done.err and "SHA" in done.err.upper()


def test_missing_parameter(tool):
    done = tool("invoke", "hash_calculator", "operation=verify", "input=x")
    assert done.code == 2 and "missing" in done.err or "needed" in done.err
    done = tool("invoke", "http_request")
    assert done.code == 2 and "http_request: input: missing" in done.err, done


def test_unknown_parameter(tool):
    done = tool("invoke", "calculator", "expresion=1")
    assert done.code == 2 and "expresion: no such parameter" in done.err


def test_failure_of_the_tool(tool):
    done = tool("invoke", "calculator", "input=1 +")
    assert (done.code, done.out) == (1, "") and done.err.startswith("llmspell-tool: calculator: ")


def test_denied(tool):
    assert tool("invoke", "file_operations", "operation=read", "path=/etc/shadow").code == 4
    assert tool("invoke", "http_request", "input=http://127.0.0.1:1/").code == 4


def test_errors_in_json(tool):
    done = tool("invoke", "calcluator", "--json")
    assert done.code == 5 and done.json()["class"] == "not_found" and "calculator" in done.json()["hint"]


@pytest.mark.parametrize("args", [[], ["lst"], ["info"], ["invoke"], ["invoke", "calculator", "x"], ["list", "--nonsense"], ["test"]])
def test_usage(run, place, args):
    done = run("tool", *args)
    assert (done.code, done.out) == (2, "") and done.err.startswith("llmspell-tool: ") and os.listdir(place.tmp) == []


def test_closed_stdout(start, kernel):
    kernel()
    for args in (["list"], ["list", "--json"], ["info", "calculator"]):
        child = start("tool", *args)
        child.stdout.close()
        assert ended(child) == 0 and child.stderr.read() == b""


# Which kernel.


def test_the_private_kernel_takes_flags_and_configuration(run, place, server):
    done = run("tool", "invoke", "http_request", f"input={server.url}/hello", f"--allow-net={server.host}", "--json")
    assert done.code == 0 and done.json()["result"]["status_code"] == 200
    config = place.write("off.toml", "[kernel.tools]\nenable_tool_cli = false\n")
    done = run("tool", "list", "--config", config)
    assert done.code == 4 and "turned off" in done.err


def test_a_wrong_configuration_of_the_private_kernel_is_told(run, place):
    place.config("[kernel]\ngrce = 5\n")
    done = run("tool", "list")
    assert done.code == 3 and "config.toml:2" in done.err and "did you mean grace" in done.err.lower(), done


def test_named_by_flag_and_by_environment(run, kernel, place):
    one = kernel("--id", "other", "--profile", "safe")
    place.write("a.txt", "x")
    read = ("invoke", "file_operations", "operation=read", "path=a.txt")
    assert run("tool", *read).code == 0, "nobody named it: a private kernel"
    for args, env in ((["-k", "other"], {}), (["-f", one.file], {}), ([], {"LLMSPELL_KERNEL": "other"}), (["-k", one.pid], {})):
        assert run("tool", *args, *read, env=env).code == 4, "the safe one was asked"
    assert run("tool", "list", env={"LLMSPELL_KERNEL": "nobody"}).code == 5


def test_dead_kernel(run, kernel):
    one = kernel()
    one.kill()
    assert one.file.exists()
    done = run("tool", "-f", one.file, "list")
    assert done.code == 5 and "not running" in done.err
    assert run("tool", "-k", one.id, "list").code == 5
    assert run("tool", "list").code == 0, "a private kernel instead"


def test_wrong_key(run, kernel, place):
    one = kernel()
    wrong = place.write("wrong.json", json.dumps({**one.connection, "key": "0" * 64}), 0o600)
    done = run("tool", "-f", wrong, "list", timeout=10)
    assert done.code == 4 and "key" in done.err, done
    assert one.status()["errors"]["signature"] >= 1


# Death in the middle.


def slow(start, server, *args):
    child = start("tool", *args, "invoke", "http_request", f"input={server.url}/slow")
    server.wait()
    return child


def test_kernel_killed_mid_request(start, server, kernel):
    one = kernel(f"--allow-net={server.host}")
    child = slow(start, server)
    one.kill()
    assert ended(child, 3) == 8 and b"went away" in child.stderr.read()


def test_private_kernel_killed_mid_request(start, server):
    child = slow(start, server, f"--allow-net={server.host}")
    (private,) = children(child.pid)
    os.kill(private, signal.SIGKILL)
    assert ended(child, 3) == 8


def test_client_killed_mid_request(start, server, kernel):
    one = kernel(f"--allow-net={server.host}")
    slow(start, server).kill()
    assert one.wire().tool("list")["status"] == "ok"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_private_kernel_outlives_its_client(start, server, place, how):
    child = slow(start, server, f"--allow-net={server.host}")
    (private,) = children(child.pid)
    with Watched(private) as watched:
        child.send_signal(how)
        code = ended(child)
        assert watched.ended(), "the private kernel goes on"
    assert code in (-signal.SIGKILL, 130, 143), code
    assert os.listdir(place.tmp) == [], "its folder goes with it"


def test_interrupt_cancels_the_call_and_nothing_else(start, server, kernel):
    one = kernel(f"--allow-net={server.host}")
    child, other = slow(start, server), slow(start, server)
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130
    assert one.status()["tools"]["running"] == 1
    server.release.set()
    assert ended(other) == 0


def test_timeout(run, server, kernel):
    kernel(f"--allow-net={server.host}")
    done = run("tool", "--timeout", "300ms", "invoke", "http_request", f"input={server.url}/slow", timeout=WAIT)
    assert done.code == 7, done
