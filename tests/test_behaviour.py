"""What every good kernel does, asked of ours and of ipykernel alike: a test that ipykernel fails would be a wrong one."""
import time
import types

import pytest
from jupyter_spec import LIMIT, Kernel, installed

LANGUAGES = {
    "llmspell": types.SimpleNamespace(
        hello="print('hello')",
        value="6 * 7",
        set="x = {}",
        unset="print(x == nil)",
        error="error('boom')",
        fails_later="for i = 1, 3e7 do end error('boom')",
        endless="print('go') io.flush() while true do end",
        ask="io.write('a') print('got ' .. io.read())",
        both="io.write('out') io.stderr:write('err')",
        nothing="",
        incomplete="for i = 1, 3 do",
        invalid="x = = 1",
        complete=("s = '😀' string.form", "format"),
        inspect="string.format",
        display="h = display('one')",
        update="h:update('two')",
        clear="Display.clear()",
        register="""Comm.register('echo', function(comm, msg)
          comm:send({opened = msg.data.x})
          comm:on_msg(function(msg) comm:send({got = msg.data}, nil, msg.buffers) end)
        end)""",
    ),
    "python3": types.SimpleNamespace(
        hello="print('hello')",
        value="6 * 7",
        set="x = {}",
        unset="print('x' not in globals())",
        error="raise ValueError('boom')",
        fails_later="import time; time.sleep(0.5); raise ValueError('boom')",
        endless="print('go', flush=True)\nwhile True: pass",
        ask="print('a', end='')\nprint('got', input())",
        both="import sys; print('out', end=''); print('err', end='', file=sys.stderr)",
        nothing="",
        incomplete="for i in range(3):",
        invalid="x = = 1",
        complete=("s = '😀'; str.form", "format"),
        inspect="str.format",
        display="h = display('one', display_id=True)",
        update="h.update('two')",
        clear="from IPython.display import clear_output; clear_output()",
        register="""def echo(comm, msg):
            comm.send({'opened': msg['content']['data']['x']})
            comm.on_msg(lambda msg: comm.send({'got': msg['content']['data']}, buffers=msg['buffers']))
get_ipython().kernel.comm_manager.register_target('echo', echo)""",
    ),
}


@pytest.fixture(autouse=True, scope="module")
def spec():
    with installed() as place:
        yield place


@pytest.fixture(scope="module", params=LANGUAGES)
def name(request, spec):
    if request.param == "python3":
        pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    return request.param


@pytest.fixture(scope="module")
def shared(name):
    kernel = Kernel(name=name)
    yield kernel
    kernel.end()


@pytest.fixture
def kernel(shared):
    return shared


@pytest.fixture
def fresh(name):
    kernel = Kernel(name=name)
    yield kernel
    kernel.end()


@pytest.fixture
def code(name):
    return LANGUAGES[name]


def reply(kernel, msg_id):
    message = kernel.client.shell_channel.get_msg(timeout=LIMIT)
    assert message["parent_header"]["msg_id"] == msg_id
    return message["content"]


def streams(messages, name="stdout"):
    return "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream" and m["content"]["name"] == name)


def begin(kernel, code):
    """Starts what never ends; returns once it runs."""
    msg_id = kernel.send("execute_request", {"code": code.endless, "allow_stdin": False})
    while (message := kernel.client.get_iopub_msg(timeout=LIMIT))["msg_type"] != "stream":
        pass
    assert message["content"]["text"].startswith("go")
    return msg_id


def rest(kernel, msg_id):
    """What a request still publishes, up to its idle."""
    messages = []
    while not (messages and messages[-1]["content"].get("execution_state") == "idle"):
        message = kernel.client.get_iopub_msg(timeout=LIMIT)
        if message["parent_header"].get("msg_id") == msg_id:
            messages.append(message)
    return messages


def test_output_and_value_come_between_busy_and_idle(kernel, code):
    answer, messages = kernel.run(code.hello)
    assert answer["status"] == "ok" and streams(messages) == "hello\n"
    assert messages[0]["msg_type"] == "execute_input" and messages[0]["content"]["code"] == code.hello
    answer, messages = kernel.run(code.value)
    [result] = [m["content"] for m in messages if m["msg_type"] == "execute_result"]
    assert result["data"]["text/plain"] == "42" and result["execution_count"] == answer["execution_count"]
    assert (answer["user_expressions"], answer["payload"]) == ({}, [])


def test_both_streams(kernel, code):
    _, messages = kernel.run(code.both)
    assert (streams(messages), streams(messages, "stderr")) == ("out", "err")


def test_an_error_is_on_iopub_and_in_the_reply(kernel, code):
    answer, messages = kernel.run(code.error)
    [error] = [m["content"] for m in messages if m["msg_type"] == "error"]
    assert answer["status"] == "error" and "boom" in answer["evalue"] and isinstance(answer["traceback"], list)
    assert {k: error[k] for k in ("ename", "evalue", "traceback")} == {k: answer[k] for k in ("ename", "evalue", "traceback")}


def test_silent_says_and_counts_nothing(kernel, code):
    before = kernel.run(code.value)[0]["execution_count"]
    answer, messages = kernel.run(code.value, silent=True)
    assert answer["status"] == "ok" and messages == []
    assert kernel.run(code.value)[0]["execution_count"] == before + 1


def test_user_expressions(kernel, code):
    answer, _ = kernel.run(code.nothing, user_expressions={"good": "1 + 1", "bad": "nope()"})
    good, bad = answer["user_expressions"]["good"], answer["user_expressions"]["bad"]
    assert (good["status"], good["data"]["text/plain"], bad["status"]) == ("ok", "2", "error")


def test_an_answer_is_asked_for_on_stdin(kernel, code):
    msg_id = kernel.send("execute_request", {"code": code.ask, "allow_stdin": True})
    question = kernel.client.get_stdin_msg(timeout=LIMIT)
    assert question["parent_header"]["msg_id"] == msg_id and question["content"]["password"] is False
    kernel.client.input("42")
    assert reply(kernel, msg_id)["status"] == "ok"
    assert streams(rest(kernel, msg_id)) == "agot 42\n"


def test_without_allow_stdin_asking_is_an_error(kernel, code):
    answer, _ = kernel.run(code.ask, allow_stdin=False)
    assert answer["status"] == "error"


def test_an_asking_script_is_interrupted(kernel, code):
    msg_id = kernel.send("execute_request", {"code": code.ask, "allow_stdin": True})
    kernel.client.get_stdin_msg(timeout=LIMIT)
    kernel.manager.interrupt_kernel()
    assert (answer := reply(kernel, msg_id))["status"] == "error" and answer["ename"] == "KeyboardInterrupt"
    rest(kernel, msg_id)


def test_an_interrupt_ends_a_loop(fresh, code):
    msg_id = begin(fresh, code)
    fresh.manager.interrupt_kernel()
    assert reply(fresh, msg_id)["ename"] == "KeyboardInterrupt"
    messages = list(rest(fresh, msg_id))
    assert [m["content"]["ename"] for m in messages if m["msg_type"] == "error"] == ["KeyboardInterrupt"]
    assert fresh.client.execute_interactive(code.value, timeout=LIMIT, output_hook=lambda _: None)["content"]["status"] == "ok"


def test_control_answers_while_a_script_runs(fresh, code):
    msg_id = begin(fresh, code)
    asked = fresh.send("kernel_info_request", control=True)
    answer = fresh.client.control_channel.get_msg(timeout=LIMIT)
    assert answer["parent_header"]["msg_id"] == asked and answer["content"]["status"] == "ok"
    assert not fresh.client.shell_channel.msg_ready()
    fresh.manager.interrupt_kernel()
    assert reply(fresh, msg_id)["status"] == "error"


def test_an_error_aborts_what_is_queued_but_nothing_else(kernel, code):
    ids = [kernel.send("execute_request", {"code": text, "stop_on_error": True, "allow_stdin": False})
           for text in (code.fails_later, code.set, code.set)]
    other = kernel.send("is_complete_request", {"code": code.set})
    answers = [reply(kernel, msg_id) for msg_id in [*ids, other]]
    assert answers[0]["status"] == "error" and {a["status"] for a in answers[1:3]} <= {"error", "aborted"}
    assert answers[3]["status"] == "complete"
    for msg_id in ids[1:]:
        assert [m["msg_type"] for m in rest(kernel, msg_id)] == ["status", "status"]
    rest(kernel, other)
    assert kernel.run(code.hello)[0]["status"] == "ok", "what is sent after the reply runs"


def test_stop_on_error_false_aborts_nothing(kernel, code):
    ids = [kernel.send("execute_request", {"code": text, "stop_on_error": False, "allow_stdin": False})
           for text in (code.fails_later, code.value)]
    assert [reply(kernel, msg_id)["status"] for msg_id in ids] == ["error", "ok"]
    for msg_id in ids:
        rest(kernel, msg_id)


def test_is_complete(kernel, code):
    statuses = [kernel.ask("is_complete_request", {"code": text})[0]["status"] for text in (code.value, code.incomplete, code.invalid)]
    assert statuses == ["complete", "incomplete", "invalid"]


def test_completion_counts_code_points(kernel, code):
    text, word = code.complete
    answer, _ = kernel.ask("complete_request", {"code": text, "cursor_pos": len(text)})
    start = answer["cursor_start"]
    assert answer["cursor_end"] == len(text) and any((text[:start] + match).endswith(f".{word}") for match in answer["matches"])


def test_inspection(kernel, code):
    answer, _ = kernel.ask("inspect_request", {"code": code.inspect, "cursor_pos": len(code.inspect), "detail_level": 0})
    assert answer["found"] and "format" in answer["data"]["text/plain"]
    answer, _ = kernel.ask("inspect_request", {"code": "no_such_name", "cursor_pos": 4, "detail_level": 0})
    assert answer["status"] == "ok" and not answer["found"]


def test_a_display_is_updated_and_cleared(kernel, code):
    _, messages = kernel.run(code.display)
    [shown] = [m["content"] for m in messages if m["msg_type"] == "display_data"]
    _, messages = kernel.run(code.update)
    [updated] = [m["content"] for m in messages if m["msg_type"] == "update_display_data"]
    assert shown["transient"]["display_id"] == updated["transient"]["display_id"]
    assert "two" in updated["data"]["text/plain"]
    _, messages = kernel.run(code.clear)
    assert [m["content"] for m in messages if m["msg_type"] == "clear_output"] == [{"wait": False}]


def test_comms_carry_data_and_buffers(kernel, code):
    assert kernel.run(code.register)[0]["status"] == "ok"
    opened = kernel.iopub(kernel.send("comm_open", {"comm_id": "c1", "target_name": "echo", "data": {"x": 1}}))
    assert [m["content"]["data"] for m in opened if m["msg_type"] == "comm_msg"] == [{"opened": 1}]
    assert kernel.ask("comm_info_request", {"target_name": "echo"})[0]["comms"] == {"c1": {"target_name": "echo"}}
    sent = kernel.iopub(kernel.send("comm_msg", {"comm_id": "c1", "data": {"a": [1, "ü"]}}, buffers=[b"\0\xff", b""]))
    [message] = [m for m in sent if m["msg_type"] == "comm_msg"]
    assert message["content"]["data"] == {"got": {"a": [1, "ü"]}} and [bytes(b) for b in message["buffers"]] == [b"\0\xff", b""]
    kernel.iopub(kernel.send("comm_close", {"comm_id": "c1", "data": {}}))
    assert kernel.ask("comm_info_request", {})[0]["comms"] == {}


def test_a_comm_nobody_wants_is_closed(kernel):
    messages = kernel.iopub(kernel.send("comm_open", {"comm_id": "c2", "target_name": "nobody", "data": {}}))
    assert [m["content"]["comm_id"] for m in messages if m["msg_type"] == "comm_close"] == ["c2"]


def test_subshells_work_or_are_refused(kernel, code):
    """As the kernel says: one that announces them runs code in one beside a script, another refuses to make one."""
    features = kernel.ask("kernel_info_request")[0].get("supported_features", [])
    answer = kernel.ask("create_subshell_request", control=True)[0]
    if "kernel subshells" not in features:
        assert answer["status"] == "error" and "subshell" in answer["evalue"]
        return
    header = {"subshell_id": answer["subshell_id"]}
    assert kernel.ask("list_subshell_request", control=True)[0]["subshell_id"] == [answer["subshell_id"]]
    assert kernel.ask("execute_request", {"code": code.value, "allow_stdin": False}, **header)[0]["status"] == "ok"
    assert kernel.ask("delete_subshell_request", header, control=True)[0]["status"] == "ok"


def test_a_request_on_control_is_between_busy_and_idle(kernel):
    assert kernel.ask("kernel_info_request", control=True)[0]["status"] == "ok"  # `ask` looks for both


def test_shutdown_is_answered_and_told(fresh):
    answer, messages = None, []
    msg_id = fresh.send("shutdown_request", {"restart": False}, control=True)
    answer = fresh.client.control_channel.get_msg(timeout=LIMIT)["content"]
    assert answer == {"status": "ok", "restart": False}
    while not any(m["msg_type"] == "shutdown_reply" for m in messages):
        messages.append(fresh.client.get_iopub_msg(timeout=LIMIT))
    assert messages[-1]["parent_header"].get("msg_id") in (msg_id, None)
    deadline = time.monotonic() + LIMIT
    while fresh.manager.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_restart_forgets_and_has_a_new_session(fresh, code):
    fresh.run(code.set)
    before = fresh.client.kernel_info(reply=True, timeout=LIMIT)["header"]["session"]
    fresh.manager.restart_kernel()
    fresh.client.wait_for_ready(timeout=LIMIT)
    after = fresh.client.kernel_info(reply=True, timeout=LIMIT)["header"]["session"]
    assert before != after
    output = []
    fresh.client.execute_interactive(code.unset, timeout=LIMIT, allow_stdin=False, output_hook=output.append)
    assert streams(output).lower() == "true\n"
