"""What the specification asks of every request, over jupyter_client."""

import os
import pathlib
import re
import time

import pytest
from jupyter_spec import LIMIT, Kernel, installed


@pytest.fixture(autouse=True, scope="module")
def spec():
    with installed() as place:
        yield place


@pytest.fixture(scope="module")
def kernel(spec):
    kernel = Kernel()
    yield kernel
    kernel.end()


@pytest.fixture
def fresh():
    kernels = []

    def make(*arguments, **options):
        kernels.append(Kernel(*arguments, **options))
        return kernels[-1]

    yield make
    for kernel in kernels:
        kernel.end()


# complete


def complete(kernel, code, cursor=None):
    content = {"code": code, "cursor_pos": len(code) if cursor is None else cursor}
    return kernel.ask("complete_request", content)[0]


def test_completion_counts_code_points(kernel):
    code = "s = '😀é' string.form"
    reply = complete(kernel, code)
    assert (reply["matches"], reply["cursor_start"], reply["cursor_end"]) == (["format"], len(code) - 4, len(code))
    (typed,) = reply["metadata"]["_jupyter_types_experimental"]
    assert typed == {
        "text": "format",
        "type": "function",
        "start": len(code) - 4,
        "end": len(code),
        "signature": "(format, …) → string",
    }
    reply = complete(kernel, "prin + 1", 4)
    assert (reply["matches"], reply["cursor_start"], reply["cursor_end"]) == (["print"], 0, 4)


def test_completion_of_everything(kernel):
    kernel.run("deep = {er = {est = 1}}")
    assert complete(kernel, "deep.er.e")["matches"] == ["est"]
    assert complete(kernel, "_G.dee")["matches"] == ["deep"]
    assert complete(kernel, "('x'):upp")["matches"] == ["upper"]
    assert complete(kernel, "whi")["matches"] == ["while"]
    assert complete(kernel, "Tool.invoke('calc")["matches"] == ["calculator"]
    assert "input" in complete(kernel, "Tool.invoke('calculator', {")["matches"]
    assert complete(kernel, "Tool.calculator{in")["matches"] == ["input"]
    assert complete(kernel, "x", 99)["status"] == "ok"
    assert complete(kernel, "")["status"] == "ok"
    pathlib.Path("mymodule.lua").write_text("return 1")
    assert complete(kernel, "require 'mymod")["matches"] == ["mymodule"]


def test_completion_runs_nothing(kernel):
    kernel.run("trap = setmetatable({}, {__index = function() ran = true end})")
    assert complete(kernel, "trap.x.y")["matches"] == []
    assert kernel.text("print(ran)") == "nil\n"


# inspect


def inspect(kernel, code, cursor=None, **more):
    content = {"code": code, "cursor_pos": len(code) if cursor is None else cursor, **more}
    return kernel.ask("inspect_request", content)[0]


def test_inspection(kernel):
    reply, _ = kernel.run("-- Twice.\nfunction double(x)\n  return 2 * x\nend")
    count = reply["execution_count"]
    found = inspect(kernel, "y = double(1)", 8)
    assert found["found"] and set(found["data"]) == {"text/plain", "text/markdown"}
    assert found["data"]["text/plain"] == f"double(x)\n\nTwice.\n\nDefined in cell [{count}], line 2"
    assert "return 2 * x" in inspect(kernel, "double", detail_level=1)["data"]["text/plain"]
    assert "return 2 * x" not in inspect(kernel, "double")["data"]["text/plain"]
    assert "- input (string)" in inspect(kernel, "Tool.calculator")["data"]["text/plain"]
    assert "`input`" in inspect(kernel, "Tool.calculator")["data"]["text/markdown"]
    assert inspect(kernel, "nosuchname") == {"status": "ok", "found": False, "data": {}, "metadata": {}}


# history


def history(kernel, access, **more):
    content = {"hist_access_type": access, "raw": True, "output": False, **more}
    return kernel.ask("history_request", content)[0]["history"]


def test_history_over_restarts(fresh):
    first = fresh("--id", "remembers")
    for code in ["a = 1", "1 + 1", "a = 1"]:
        first.run(code)
    first.run("hidden = 1", store_history=False)
    first.run("hidden = 2", silent=True)
    assert history(first, "tail", n=10) == [[1, 1, "a = 1"], [1, 2, "1 + 1"], [1, 3, "a = 1"]]
    assert history(first, "range", session=0, start=2, stop=3, output=True) == [[1, 2, ["1 + 1", "2"]]]
    first.end()
    file = pathlib.Path(os.environ["LLMSPELL_HOME"]) / "store" / "remembers.db"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)

    again = fresh("--id", "remembers")
    again.run("b = 2")
    assert history(again, "tail", n=2) == [[1, 3, "a = 1"], [2, 1, "b = 2"]]
    assert history(again, "range", session=0, start=0) == [[2, 1, "b = 2"]]
    assert history(again, "range", session=-1, start=1, stop=2) == [[1, 1, "a = 1"]]
    assert history(again, "search", pattern="a*") == [[1, 1, "a = 1"], [1, 3, "a = 1"]]
    assert history(again, "search", pattern="a*", unique=True) == [[1, 3, "a = 1"]]
    assert history(again, "search", pattern="*", n=1) == [[2, 1, "b = 2"]]
    reply, _ = again.ask("history_request", {"hist_access_type": "sideways"})
    assert reply["status"] == "error"


def test_history_of_kernels_started_by_clients_is_one_and_outlives_them(fresh):
    one = fresh()
    one.run("x = 'first life'")
    one.manager.restart_kernel()
    one.client.wait_for_ready(timeout=LIMIT)
    one.client.history(hist_access_type="tail", n=1)
    while (msg := one.client.get_shell_msg(timeout=LIMIT))["msg_type"] != "history_reply":
        pass
    assert msg["content"]["history"][0][2] == "x = 'first life'"
    other = fresh()
    (line,) = history(other, "search", pattern="x = 'first*", unique=True)
    assert history(other, "range", session=line[0]) == [line]
    assert history(other, "range", session=0) == []
    other.run("x = 'second'")
    assert [line[1:] for line in history(other, "range", session=0)] == [[1, "x = 'second'"]]
    file = pathlib.Path(os.environ["LLMSPELL_HOME"]) / "store" / "jupyter.db"
    assert file.stat().st_mode & 0o777 == 0o600


def test_history_without_a_store(fresh):
    store = pathlib.Path(os.environ["LLMSPELL_HOME"]) / "store"
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    (store / "broken.db").write_text("this is no database, whatever it is called" * 100)
    kernel = fresh("--id", "broken")
    kernel.run("x = 1")
    assert history(kernel, "tail", n=5) == [[1, 1, "x = 1"]]


def test_only_what_is_stored_is_counted(kernel):
    before = kernel.run("return 1")[0]["execution_count"]
    reply, messages = kernel.run("return 1", store_history=False)
    assert [msg["content"]["execution_count"] for msg in messages] == [before + 1] * 2
    assert kernel.run("return 1", silent=True) [1] == []
    assert kernel.run("return 1")[0]["execution_count"] == before + 1


# comms


def test_comms(kernel):
    kernel.run(
        "Comm.register('echo', function(comm, msg)\n"
        "  comm:send({opened = msg.data.x})\n"
        "  comm:on_msg(function(msg) comm:send({got = msg.data}, {m = 1}, msg.buffers) end)\n"
        "  comm:on_close(function(msg) print('closed', msg.data.why) end)\n"
        "end)"
    )
    opened = kernel.iopub(kernel.send("comm_open", {"comm_id": "c1", "target_name": "echo", "data": {"x": 1}}))
    assert [(msg["msg_type"], msg["content"]) for msg in opened] == [
        ("comm_msg", {"comm_id": "c1", "data": {"opened": 1}})
    ]
    told = {"comms": {"c1": {"target_name": "echo"}}, "status": "ok"}
    assert kernel.ask("comm_info_request", {"target_name": "echo"})[0] == told
    assert kernel.ask("comm_info_request", {})[0] == told
    assert kernel.ask("comm_info_request", {"target_name": "other"})[0]["comms"] == {}
    sent = kernel.send("comm_msg", {"comm_id": "c1", "data": {"a": [1, 2]}}, buffers=[b"\0\xff\x01"])
    (msg,) = kernel.iopub(sent)
    assert msg["content"]["data"] == {"got": {"a": [1, 2]}} and msg["metadata"] == {"m": 1}
    assert [bytes(buffer) for buffer in msg["buffers"]] == [b"\0\xff\x01"]
    (msg,) = kernel.iopub(kernel.send("comm_close", {"comm_id": "c1", "data": {"why": "enough"}}))
    assert msg["content"]["text"] == "closed\tenough\n"
    assert kernel.ask("comm_info_request", {})[0]["comms"] == {}
    assert kernel.iopub(kernel.send("comm_msg", {"comm_id": "c1", "data": {}})) == []


def test_comms_nobody_takes_are_closed(kernel):
    (msg,) = kernel.iopub(kernel.send("comm_open", {"comm_id": "c2", "target_name": "nobody", "data": {}}))
    assert (msg["msg_type"], msg["content"]["comm_id"]) == ("comm_close", "c2")
    kernel.run("Comm.register('bad', function() error('boom') end)")
    messages = kernel.iopub(kernel.send("comm_open", {"comm_id": "c3", "target_name": "bad", "data": {}}))
    assert [msg["msg_type"] for msg in messages] == ["stream", "comm_close"]
    assert "boom" in messages[0]["content"]["text"]
    assert kernel.ask("comm_info_request", {})[0]["comms"] == {}


def test_comms_opened_by_a_script(kernel):
    reply, messages = kernel.run("w = Comm.open('widget', {model = 'x'}, {version = '2'}) w:close()")
    opened, closed = messages[1:]
    assert (opened["msg_type"], opened["content"]["target_name"]) == ("comm_open", "widget")
    assert (opened["content"]["data"], opened["metadata"]) == ({"model": "x"}, {"version": "2"})
    assert (closed["msg_type"], closed["content"]["comm_id"]) == ("comm_close", opened["content"]["comm_id"])


# the rest


def test_connect(kernel):
    reply, _ = kernel.ask("connect_request")
    info = kernel.manager.get_connection_info()
    for name in ["shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"]:
        assert reply[name] == info[name]


def test_usage(kernel):
    kernel.ask("usage_request", control=True)
    kernel.run("for i = 1, 1e6 do end")
    reply, _ = kernel.ask("usage_request", control=True)
    assert reply["pid"] == kernel.manager.provisioner.pid
    assert reply["kernel_cpu"] >= 0 and reply["kernel_memory"] > 1 << 20 and reply["cpu_count"] >= 1
    assert reply["host_virtual_memory"]["total"] > reply["host_virtual_memory"]["available"]
    assert reply["hostname"]


def test_usage_while_a_script_runs(kernel):
    msg_id = kernel.send("execute_request", {"code": "while true do end", "allow_stdin": False})
    assert kernel.client.get_iopub_msg(timeout=LIMIT)["content"] == {"execution_state": "busy"}
    kernel.client.get_iopub_msg(timeout=LIMIT)
    reply, _ = kernel.ask("usage_request", control=True)
    assert reply["pid"]
    kernel.send("interrupt_request", control=True)
    assert kernel.client.control_channel.get_msg(timeout=LIMIT)["content"]["status"] == "ok"
    reply = kernel.client.shell_channel.get_msg(timeout=LIMIT)
    assert (reply["parent_header"]["msg_id"], reply["content"]["ename"]) == (msg_id, "KeyboardInterrupt")
    idle = 0
    while idle < 2:
        msg = kernel.client.get_iopub_msg(timeout=LIMIT)
        idle += msg["content"].get("execution_state") == "idle"


def test_subshells_are_refused_clearly(kernel):
    info, _ = kernel.ask("kernel_info_request")
    assert "kernel subshells" not in info["supported_features"]
    for name in ["create", "delete", "list"]:
        reply, _ = kernel.ask(f"{name}_subshell_request", {"subshell_id": "x"}, control=True)
        assert reply["status"] == "error" and "subshells" in reply["evalue"]
    reply, _ = kernel.ask("execute_request", {"code": "ran_in_subshell = 1"}, subshell_id="nosuch")
    assert reply["status"] == "error" and "subshell" in reply["evalue"]
    assert kernel.text("print(ran_in_subshell)") == "nil\n"


def test_payloads(kernel):
    reply, messages = kernel.run("help('string.rep') set_next_input('x = 1')")
    page, following = reply["payload"]
    assert (page["source"], page["start"]) == ("page", 0)
    assert page["data"]["text/plain"].startswith("string.rep(s, n")
    assert following == {"source": "set_next_input", "text": "x = 1", "replace": False}
    assert [msg["msg_type"] for msg in messages] == ["execute_input"]
    assert kernel.run("return 1")[0]["payload"] == []
    reply, _ = kernel.run("for i = 1, 3 do set_next_input('x = ' .. i) end")
    assert [item["text"] for item in reply["payload"]] == ["x = 3"]


def test_stop_on_error(kernel):
    def queue(stop):
        ids = [
            kernel.send("execute_request", {"code": code, "stop_on_error": stop, "allow_stdin": False})
            for code in ["for i = 1, 3e7 do end error('boom')", "after = 1", "after = 2"]
        ]
        replies = [kernel.client.shell_channel.get_msg(timeout=LIMIT) for _ in ids]
        for msg_id in ids:
            kernel.iopub(msg_id)
        return [reply["content"]["status"] for reply in replies]

    assert queue(True) == ["error", "error", "error"]
    assert kernel.text("print(after)") == "nil\n"
    assert queue(False) == ["error", "ok", "ok"]


def test_questions(kernel):
    reply, _ = kernel.run("io.read()")
    assert reply["status"] == "error"
    msg_id = kernel.send("execute_request", {"code": "print('got ' .. io.read())", "allow_stdin": True})
    question = kernel.client.stdin_channel.get_msg(timeout=LIMIT)
    assert question["parent_header"]["msg_id"] == msg_id and question["content"]["password"] is False
    kernel.client.input("an answer")
    assert kernel.client.shell_channel.get_msg(timeout=LIMIT)["content"]["status"] == "ok"
    assert [msg["content"]["text"] for msg in kernel.iopub(msg_id) if msg["msg_type"] == "stream"] == ["got an answer\n"]


def test_unknown_and_wrong_requests_are_answered(kernel):
    assert kernel.ask("nosuch_request")[0]["status"] == "error"
    assert kernel.ask("complete_request", {"code": 1})[0]["status"] == "error"
    assert kernel.ask("complete_request", {"code": "x", "cursor_pos": -1})[0]["status"] == "error"
    assert kernel.iopub(kernel.send("comm_open", {"comm_id": 5})) == []
    assert kernel.text("print('alive')") == "alive\n"


@pytest.mark.parametrize("restart", [False, True])
def test_shutdown_echoes_restart(fresh, restart):
    kernel = fresh()
    kernel.run("x = 1")
    reply, messages = kernel.ask("shutdown_request", {"restart": restart}, control=True)
    assert reply == {"status": "ok", "restart": restart}
    assert [(msg["msg_type"], msg["content"]["restart"]) for msg in messages] == [("shutdown_reply", restart)]
    end = time.time() + 5
    while kernel.manager.is_alive() and time.time() < end:
        time.sleep(0.02)
    assert not kernel.manager.is_alive()


def test_restart_makes_a_new_session(fresh):
    kernel = fresh()
    kernel.run("x = 1")
    before = kernel.client.kernel_info(reply=True, timeout=LIMIT)["header"]["session"]
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=LIMIT)
    after = kernel.client.kernel_info(reply=True, timeout=LIMIT)
    assert after["header"]["session"] != before
    assert re.match(r"5\.\d", after["content"]["protocol_version"])
