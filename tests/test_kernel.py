"""A kernel as Jupyter's own client sees it, and what only raw sockets can see of interrupts, queues and the end."""
import queue
import signal
import time
from datetime import datetime, timedelta, timezone

import pytest
from conftest import WAIT, children, text


class Cell:
    """The outcome of one execution through jupyter_client."""

    def __init__(self, client, code, answer=None, **options):
        options.setdefault("allow_stdin", answer is not None)
        self.id, self.messages, self.prompts = client.execute(code, **options), [], []
        while True:
            message = client.get_iopub_msg(timeout=WAIT) if answer is None else self.next(client, answer)
            if message["parent_header"].get("msg_id") != self.id:
                continue
            self.messages.append((message["msg_type"], message["content"]))
            if message["content"].get("execution_state") == "idle":
                break
        reply = client.get_shell_msg(timeout=WAIT)
        assert reply["parent_header"]["msg_id"] == self.id
        self.reply = reply["content"]
        self.types = [kind for kind, _ in self.messages[1:-1]]

    def next(self, client, answer):
        while True:
            try:
                return client.get_iopub_msg(timeout=0.05)
            except queue.Empty:
                if client.stdin_channel.msg_ready():
                    question = client.get_stdin_msg(timeout=WAIT)
                    assert question["parent_header"]["msg_id"] == self.id
                    self.prompts.append(question["content"])
                    client.input(answer.pop(0))

    def text(self, name="stdout"):
        return text(self.messages, name)

    def content(self, kind):
        return next(content for name, content in self.messages if name == kind)


@pytest.fixture
def client(kernel):
    return kernel("--transport", "tcp").client()


def test_kernel_info_on_shell_and_control(kernel):
    one = kernel()
    client = one.client()
    client.kernel_info()
    shell = client.get_shell_msg(timeout=WAIT)["content"]
    client.control_channel.send(client.session.msg("kernel_info_request", {}))
    control = client.get_control_msg(timeout=WAIT)["content"]
    assert shell == control
    assert shell["status"] == "ok" and shell["implementation"] == "llmspell" and shell["protocol_version"].startswith("5.")
    language = shell["language_info"]
    assert (language["name"], language["file_extension"], language["mimetype"]) == ("lua", ".lua", "text/x-lua")
    assert language["version"].startswith("5.4.") and shell["banner"]


def test_streams_keep_their_order(client):
    cell = Cell(client, "print('a') io.write('b', 1, '\\n') io.stderr:write('c\\n') io.stdout:write('d') print('e', nil, 2.5)")
    streams = [(c["name"], c["text"]) for kind, c in cell.messages if kind == "stream"]
    assert streams == [("stdout", "a\nb1\n"), ("stderr", "c\n"), ("stdout", "de\tnil\t2.5\n")]
    assert cell.types[0] == "execute_input"


def test_result_comes_after_the_output(client):
    cell = Cell(client, "print('out') return 6 * 7")
    assert cell.types == ["execute_input", "stream", "execute_result"]
    result = cell.content("execute_result")
    assert result["data"]["text/plain"] == "42" and result["execution_count"] == cell.reply["execution_count"] == 1
    assert cell.reply["status"] == "ok" and cell.reply["user_expressions"] == {} and cell.reply["payload"] == []


@pytest.mark.parametrize("code,shown", [("6 * 7", "42"), ("'text'", "text"), ("{1, x = 'y'}", '{1, x = "y"}'), ("1, 2", "1\t2"), ("false", "false")])
def test_expressions_show_their_value(client, code, shown):
    assert Cell(client, code).content("execute_result")["data"]["text/plain"] == shown


@pytest.mark.parametrize("code", ["", "x = 1", "nil", "-- nothing", "return", "local x <close> = nil"])
def test_no_value_no_result(client, code):
    cell = Cell(client, code)
    assert cell.types == ["execute_input"] and cell.reply["status"] == "ok"


def test_globals_stay(client):
    Cell(client, "x = 1 function f() return x end")
    assert Cell(client, "f()").content("execute_result")["data"]["text/plain"] == "1"


def test_error_has_place_and_traceback(client):
    cell = Cell(client, "local function inner()\n  error('boom')\nend\nprint('before')\ninner()\nprint('after')")
    assert cell.types == ["execute_input", "stream", "error"] and cell.text() == "before\n"
    error = cell.content("error")
    assert error["ename"] == cell.reply["ename"] == "LuaError"
    assert error["evalue"] == cell.reply["evalue"] == "[1]:2: boom", error
    assert error["traceback"] == cell.reply["traceback"]
    assert any("[1]:2:" in line and "inner" in line for line in error["traceback"][1:]), error
    assert any("[1]:5:" in line for line in error["traceback"]), error
    assert cell.reply["status"] == "error" and cell.reply["execution_count"] == 1


@pytest.mark.parametrize("code,ename,words", [
    ("x = = 1", "SyntaxError", "[1]:1: "),
    ("local t = nil; t.x = 1", "LuaError", "attempt to index a nil value"),
    ("error({code = 5})", "LuaError", '"code":5'),
    ("error(setmetatable({}, {__tostring = function() return 'told' end}))", "LuaError", "told"),
    ("error()", "LuaError", "nil"),
    ("error(nil)", "LuaError", "nil"),
    ("error(setmetatable({}, {__tostring = error}))", "LuaError", ""),
    ("string.rep()", "LuaError", "bad argument #1"),
    ("coroutine.wrap(function() error('inside') end)()", "LuaError", "[1]:1: inside"),
    ("assert(io.open('/etc/shadow'))", "DeniedError", "/etc/shadow: outside the folders"),
    ("Tool.get('calcluator').name", "LuaError", "attempt to index a nil value"),
    ("return #nil + {}", "LuaError", "attempt to"),
])
def test_errors(client, code, ename, words):
    cell = Cell(client, code)
    assert cell.reply["status"] == "error" and words in cell.reply["evalue"] and cell.reply["ename"] == ename, cell.reply
    assert Cell(client, "return 1").reply["status"] == "ok"


def test_silent_shows_and_counts_nothing(client):
    cell = Cell(client, "print('x') y = 5 return 1", silent=True)
    assert cell.types == [] and cell.reply["status"] == "ok" and cell.reply["execution_count"] == 0
    assert Cell(client, "error('x')", silent=True).types == []
    cell = Cell(client, "return y")
    assert cell.reply["execution_count"] == 1 and cell.content("execute_result")["data"]["text/plain"] == "5"


def test_count_goes_up_also_after_errors(client):
    counts = [Cell(client, code).reply["execution_count"] for code in ("return 1", "error('x')", "x = 1")]
    assert counts == [1, 2, 3]


def test_store_history_off_is_still_shown(client):
    assert Cell(client, "return 1", store_history=False).types == ["execute_input", "execute_result"]


def test_user_expressions(client):
    cell = Cell(client, "x = 5", user_expressions={"good": "x + 1", "bad": "nope()", "nothing": "nil"})
    expressions = cell.reply["user_expressions"]
    assert expressions["good"]["status"] == "ok" and expressions["good"]["data"]["text/plain"] == "6"
    assert expressions["bad"]["status"] == "error" and "nope" in expressions["bad"]["evalue"]
    assert expressions["nothing"]["status"] == "ok"
    assert "error" not in cell.types


@pytest.mark.parametrize("code,status,indent", [
    ("x = 1", "complete", None),
    ("1 + 1", "complete", None),
    ("", "complete", None),
    ("for i = 1, 3 do", "incomplete", "  "),
    ("f(function()\n  if x then", "incomplete", "      "),
    ("x = [[", "incomplete", ""),
    ("--[[", "incomplete", ""),
    ("x = = 1", "invalid", None),
    ("end", "invalid", None),
    ("'a", "invalid", None),
])
def test_is_complete(client, code, status, indent):
    client.is_complete(code)
    content = client.get_shell_msg(timeout=WAIT)["content"]
    assert (content["status"], content.get("indent")) == (status, indent)


def test_input_is_asked_for_and_answered(client):
    cell = Cell(client, "io.write('name? ') local a, b = io.read('l', 'n') print('hello ' .. a, b + 1)", answer=["World", "41"])
    assert cell.reply["status"] == "ok" and len(cell.prompts) == 2
    assert all(prompt["password"] is False for prompt in cell.prompts)
    assert cell.text() == "name? hello World\t42\n"


def test_input_without_allow_stdin_is_an_error(client):
    cell = Cell(client, "return io.read()", allow_stdin=False)
    assert cell.reply["status"] == "error" and cell.reply["ename"] == "DeniedError", cell.reply


def test_a_password_is_asked_for_as_one(client):
    cell = Cell(client, "return #io.read_password(), #io.read_password('key: ')", answer=["hunter2", ""])
    assert cell.reply["status"] == "ok", cell.reply
    assert cell.prompts == [{"prompt": "Password: ", "password": True}, {"prompt": "key: ", "password": True}]
    cell = Cell(client, "return io.read_password()", allow_stdin=False)
    assert cell.reply["ename"] == "DeniedError" and "does not answer questions" in cell.reply["evalue"], cell.reply
    assert "allow_stdin" in cell.reply["hint"]


def test_an_answer_nobody_asked_for_or_of_somebody_else_is_dropped(kernel):
    one = kernel()
    wire, other = one.wire(), one.wire()
    # To a question that was given up; it may arrive after the next one is asked.
    wire.send("stdin", "input_reply", {"value": "early"}, parent={"msg_id": "gone", "msg_type": "input_request"})
    header = wire.send("shell", "execute_request", {"code": "return io.read()", "allow_stdin": True})
    question = wire.recv("stdin")
    assert question.type == "input_request" and question.parent == header
    other.send("stdin", "input_reply", {"value": "other"}, parent=question.header)
    wire.send("stdin", "input_reply", {"value": "mine"}, parent=question.header)
    wire.reply("shell", header)
    assert [m.content["data"]["text/plain"] for m in wire.published(header) if m.type == "execute_result"] == ["mine"]


LOOPS = {
    "loop": "while true do end",
    "pcall loop": "while true do pcall(function() while true do end end) end",
    "xpcall loop": "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "error loop": "while true do pcall(error, 'x') end",
    "coroutine": "local function f() while true do coroutine.yield() end end local c = coroutine.wrap(f) while true do c() end",
    "nested coroutines": "local function nest(n) if n == 0 then while true do end end return coroutine.wrap(nest)(n - 1) end nest(20)",
    "resume loop": "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "sort callback": "local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function(a, b) while true do end end)",
    "gsub callback": "string.gsub('x', 'x', function() while true do end end)",
    "metamethod": "local t = setmetatable({}, {__index = function(t, k) while true do end end}) return t.x",
    "tostring": "return setmetatable({}, {__tostring = function() while true do end end})",
    "close": "local x <close> = setmetatable({}, {__close = function() while true do end end}) while true do end",
    "printing": "while true do print('x') end",
    "allocating": "local t = {} while true do t = {t} if math.random() < 0.001 then t = {} end end",
    "input": "io.read()",
}


@pytest.mark.parametrize("name", LOOPS)
def test_interrupt_ends(kernel, name):
    wire = kernel().wire()
    header = wire.begin("print('go') io.flush() " + LOOPS[name], allow_stdin=name == "input")
    if name == "input":
        wire.recv("stdin")
    # Meanwhile everything else answers.
    wire.hb.send(b"ping")
    assert wire.hb.poll(WAIT * 1000) and wire.hb.recv() == b"ping"
    assert wire.ask("control", "kernel_info_request").content["status"] == "ok"
    status = wire.ask("control", "status_request").content
    assert status["busy"] is True and status["queue"] == 0
    assert wire.tool("invoke", name="calculator", params={"expression": "1+1"})["result"]["result"] == 2
    assert wire.ask("control", "interrupt_request").content == {"status": "ok"}
    reply = wire.reply("shell", header).content
    assert (reply["status"], reply["ename"], reply["class"]) == ("error", "KeyboardInterrupt", "interrupted"), reply
    assert wire.published(header)[-2].content["ename"] == "KeyboardInterrupt"
    assert wire.execute("return 1")[0]["status"] == "ok"
    assert wire.ask("control", "status_request").content["busy"] is False


def test_interrupt_says_where_it_was(kernel):
    wire = kernel().wire()
    header = wire.begin("print('go') io.flush()\nwhile true do\nend")
    wire.ask("control", "interrupt_request")
    reply = wire.reply("shell", header).content
    assert any("[1]:2" in line or "[1]:3" in line for line in reply["traceback"]), reply


def test_interrupt_by_signal(kernel):
    one = kernel()
    wire = one.wire()
    header = wire.begin("print('go') io.flush() while true do end")
    one.child.send_signal(signal.SIGINT)
    assert wire.reply("shell", header).content["ename"] == "KeyboardInterrupt"


def test_interrupt_of_an_idle_kernel_does_nothing(kernel):
    wire = kernel().wire()
    assert wire.ask("control", "interrupt_request").content["status"] == "ok"
    assert wire.execute("return 1")[0]["status"] == "ok"


def test_interrupt_of_another_request_does_nothing(kernel):
    wire = kernel().wire()
    header = wire.begin("print('go') io.flush() while not done do if os.clock() < 0 then break end end", timeout=WAIT)
    assert wire.ask("control", "interrupt_request", {"msg_id": "nobody"}).content["status"] == "ok"
    assert wire.ask("control", "status_request").content["busy"] is True
    wire.ask("control", "interrupt_request", {"msg_id": header["msg_id"]})
    assert wire.reply("shell", header).content["ename"] == "KeyboardInterrupt"


def queued(wire, *codes, **content):
    """Sends a script that fails once it is interrupted, and `codes` behind it, at once; returns all headers."""
    first = wire.begin("print('go') io.flush() while true do end", **content)
    rest = [wire.send("shell", "execute_request", {"code": code, "allow_stdin": False}) for code in codes]
    # kernel_info overtakes nothing on shell: when status counts them, all of them wait behind the first.
    while wire.ask("control", "status_request").content["queue"] < len(codes):
        pass
    wire.ask("control", "interrupt_request")
    return [first, *rest]


def test_an_error_aborts_what_is_queued(kernel):
    wire = kernel().wire()
    headers = queued(wire, "x = 1", "x = 2")
    replies = [wire.reply("shell", header).content for header in headers]
    assert [reply["status"] for reply in replies] == ["error"] * 3
    assert [reply["ename"] for reply in replies] == ["KeyboardInterrupt", "Aborted", "Aborted"]
    for header in headers[1:]:
        assert [m.type for m in wire.published(header)] == ["status", "status"]
    assert wire.execute("return x")[1][1:] == []
    assert wire.execute("return 1")[0]["status"] == "ok", "what is sent after the error runs"


def test_what_is_sent_after_an_error_runs(kernel):
    wire = kernel().wire()
    for _ in range(300):
        assert wire.execute("error('x')")[0]["status"] == "error"
        assert wire.ask("shell", "execute_request", {"code": "return 1"}).content["status"] == "ok"


@pytest.mark.parametrize("date", [
    lambda now: "", lambda now: "yesterday", lambda now: now.isoformat().replace("+00:00", "Z"),
    lambda now: now.astimezone(timezone(timedelta(hours=-8))).isoformat(), lambda now: now.astimezone(timezone(timedelta(hours=5))).isoformat(),
    lambda now: now.replace(tzinfo=None).isoformat(" "), lambda now: (now - timedelta(days=1)).isoformat(),
    lambda now: now.isoformat(timespec="milliseconds"), lambda now: now.isoformat(timespec="seconds"),
])
def test_whatever_a_clients_clock_says_what_it_sent_before_an_error_is_aborted_and_no_more(kernel, date):
    wire = kernel().wire()
    header = wire.header
    wire.header = lambda msg_type: {**header(msg_type), "date": date(datetime.now(timezone.utc))}
    replies = [wire.reply("shell", one).content["ename"] for one in queued(wire, "x = 1", "x = 2")]
    assert replies == ["KeyboardInterrupt", "Aborted", "Aborted"]
    for _ in range(50):
        assert wire.execute("error('x')")[0]["ename"] == "LuaError"
        assert wire.ask("shell", "execute_request", {"code": "return 1"}).content["status"] == "ok"


def test_what_is_sent_in_one_go_with_an_error_is_aborted(kernel):
    wire = kernel().wire()
    for _ in range(50):
        content = {"allow_stdin": False}
        headers = [wire.send("shell", "execute_request", {"code": code, **content}) for code in ("error('x')", "y = 1", "y = 2", "y = 3")]
        assert [wire.reply("shell", header).content.get("ename") for header in headers] == ["LuaError", "Aborted", "Aborted", "Aborted"]


def test_stop_on_error_false_aborts_nothing(kernel):
    wire = kernel().wire()
    replies = [wire.reply("shell", h).content for h in queued(wire, "x = 1", "return x", stop_on_error=False)]
    assert [reply["status"] for reply in replies] == ["error", "ok", "ok"]


def test_an_error_aborts_only_its_own_clients_queue(kernel):
    one = kernel()
    wire, other = one.wire(), one.wire()
    first = wire.begin("print('go') io.flush() while true do end")
    header = other.send("shell", "execute_request", {"code": "return 1"})
    while wire.ask("control", "status_request").content["queue"] < 1:
        pass
    wire.ask("control", "interrupt_request")
    assert wire.reply("shell", first).content["status"] == "error"
    assert other.reply("shell", header).content["status"] == "ok"


def test_other_requests_in_the_queue_are_served_after_an_error(kernel):
    wire = kernel().wire()
    first = wire.begin("print('go') io.flush() while true do end")
    header = wire.send("shell", "is_complete_request", {"code": "x = 1"})
    wire.ask("control", "interrupt_request")
    wire.reply("shell", first)
    assert wire.reply("shell", header).content["status"] == "complete"


def test_two_clients_share_state_and_see_each_others_output(kernel):
    one = kernel()
    first, second = one.client(), one.client()
    cell = Cell(first, "shared = 'yes' print('first')")
    while (message := second.get_iopub_msg(timeout=WAIT))["msg_type"] != "stream":
        pass
    assert message["content"]["text"] == "first\n" and message["parent_header"]["msg_id"] == cell.id
    assert Cell(second, "return shared").content("execute_result")["data"]["text/plain"] == "yes"


def test_pipelined_requests_are_served_in_order(kernel):
    wire = kernel().wire()
    headers = [wire.send("shell", "execute_request", {"code": f"n = (n or 0) + 1 assert(n == {n})"}) for n in range(1, 1001)]
    for header in headers:
        assert wire.reply("shell", header).content["status"] == "ok"
    for header in headers:
        assert wire.published(header)[-1].content["execution_state"] == "idle"


def test_a_hundred_thousand_lines_arrive_in_few_messages(kernel):
    wire = kernel().wire()
    reply, messages = wire.execute("for i = 1, 100000 do print('line ' .. i) end")
    assert text(messages) == "".join(f"line {i}\n" for i in range(1, 100001))
    assert sum(kind == "stream" for kind, _ in messages) < 500


def test_bytes_that_are_no_text_are_replaced_and_characters_never_cut(kernel):
    wire = kernel().wire()
    assert wire.stdout("io.write('a\\xff\\0b')") == "a\ufffd\0b"
    assert wire.stdout("for i = 1, 100000 do io.write('€😀') end") == "€😀" * 100000


def test_a_subscriber_that_stops_reading_loses_alone(kernel):
    one = kernel()
    wire, _lazy = one.wire(), one.wire(room=1)
    _, messages = wire.execute("local s = ('x'):rep(65535) for i = 1, 1500 do print(s) end")
    assert len(text(messages)) == 1500 * 65536
    assert wire.ask("control", "status_request").content["errors"]["slow_subscriber"] > 0
    assert wire.execute("return 1")[0]["status"] == "ok"


def test_memory_limit_is_an_error_and_the_kernel_goes_on(kernel, place):
    place.config('[engines.lua]\nmax_memory_bytes = "32MB"\n')
    wire = kernel().wire()
    for code in ("local t = {} for i = 1, 1e9 do t[i] = {i} end", "return ('x'):rep(1 << 30)",
                 "local s = 'x' while true do s = s .. s end"):
        reply, _ = wire.execute(code)
        assert reply["status"] == "error" and "not enough memory" in reply["evalue"], reply
    assert wire.stdout("local t = {} for i = 1, 1e5 do t[i] = i end print(#t)") == "100000\n"


def test_deep_recursion_is_an_error_and_the_kernel_goes_on(kernel):
    wire = kernel().wire()
    for code in ("local function f() return 1 + f() end f()", "string.gsub(('x'):rep(300000), ('.-'):rep(200) .. 'y', '')",
                 "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
                 "local s = ('('):rep(100000) load('return ' .. s) error('x')",
                 "local t = {} for i = 1, 100000 do t = {t} end return t",
                 "error(setmetatable({}, {__tostring = function(s) return tostring(s) end}))"):
        header = wire.send("shell", "execute_request", {"code": code, "timeout": 3, "allow_stdin": False})
        reply = wire.reply("shell", header).content
        assert reply["status"] in ("ok", "error")
    assert wire.stdout("print(1)") == "1\n"


@pytest.mark.parametrize("code", ["while true do end", "while true do pcall(function() while true do end end) end", "io.read()"])
def test_deadline(kernel, code):
    wire = kernel().wire()
    header = wire.send("shell", "execute_request", {"code": code, "timeout": 0.2, "allow_stdin": True})
    reply = wire.reply("shell", header).content
    assert (reply["ename"], reply["class"]) == ("TimeoutError", "timeout"), reply
    assert wire.execute("return 1")[0]["status"] == "ok"


def test_deadline_of_the_configuration_holds_for_all(kernel, place):
    place.config('[engines.lua]\ntimeout = "200ms"\n')
    wire = kernel().wire()
    for more in ({}, {"timeout": 1000}):
        assert wire.execute("while true do end", **more)[0]["ename"] == "TimeoutError"


@pytest.mark.parametrize("more", [{"chunk_name": ""}, {"chunk_name": "@"}, {"chunk_name": "@" + "x" * 10_000}, {"chunk_name": "=\0\x1b"}, {"chunk_name": "x\ny"},
                                  {"args": []}, {"args": ["\0", "ü", "--"]}, {"cwd": ""}, {"cwd": "nowhere"}, {"cwd": "/nowhere"},
                                  {"timeout": 1e300}, {"timeout": -5}, {"timeout": 1e-300}, {"code": "\0"}, {"code": "x = '\0'"}, {"code": "\ud800"}])
def test_strange_values_do_no_harm(kernel, more):
    wire = kernel().wire()
    wire.execute(**{"code": "error('x')", **more})
    assert wire.stdout("print(1)") == "1\n"


def test_os_exit_ends_the_script_not_the_kernel(kernel):
    wire = kernel().wire()
    assert wire.execute("print(1) os.exit(0) print(2)")[0]["status"] == "ok"
    reply, messages = wire.execute("pcall(os.exit, 3) print(2)")
    assert (reply["ename"], reply["evalue"], text(messages)) == ("SystemExit", "3", "")
    assert wire.execute("return 1")[0]["status"] == "ok"


def test_shutdown_is_answered_told_to_all_and_ends(kernel):
    one = kernel()
    wire, other = one.wire(), one.wire()
    header = wire.send("control", "shutdown_request", {"restart": True})
    assert wire.reply("control", header).content == {"status": "ok", "restart": True}
    messages = wire.published(header)
    assert [m.type for m in messages] == ["status", "shutdown_reply", "status"]
    assert other.recv("iopub").type in ("status", "shutdown_reply")
    assert one.ended() == 0
    assert not one.file.exists() and not list(one.place.run.glob("*/*"))


def test_shutdown_of_a_busy_kernel(kernel):
    one = kernel()
    wire = one.wire()
    header = wire.begin("print('go') io.flush() while true do pcall(function() while true do end end) end")
    queued = wire.send("shell", "execute_request", {"code": "return 1"})
    assert wire.ask("control", "shutdown_request").content["status"] == "ok"
    assert wire.reply("shell", header).content["status"] == "error"
    assert wire.reply("shell", queued).content["status"] == "error"
    assert one.ended() == 0


STUCK = "setmetatable({}, {__gc = function() print('go') io.flush() while true do end end}) collectgarbage()"


def test_what_cannot_be_stopped_is_stuck_and_does_not_hold_up_the_end(kernel):
    one = kernel()
    wire = one.wire()
    wire.begin(STUCK)
    assert wire.ask("control", "status_request").content["stuck"] is False
    wire.ask("control", "interrupt_request")
    while not (status := wire.ask("control", "status_request").content)["stuck"]:
        pass
    assert status["busy"] is True
    assert wire.tool("list")["status"] == "ok"
    assert wire.ask("control", "shutdown_request").content["status"] == "ok"
    assert one.ended() == 0 and not one.file.exists()


def test_sigterm_lets_running_work_finish(kernel):
    one = kernel()
    wire = one.wire()
    header = wire.begin("print('go') io.flush() local t = os.time() while os.time() < t + 1 do end print('done')")
    one.child.terminate()
    assert wire.reply("shell", header).content["status"] == "ok"
    assert text([(m.type, m.content) for m in wire.published(header)]) == "done\n"
    assert one.ended() == 0


def test_sigterm_ends_work_after_its_grace(kernel, place):
    place.config('[kernel]\ngrace = "100ms"\n')
    one = kernel()
    wire = one.wire()
    header = wire.begin("print('go') io.flush() while true do end")
    one.child.terminate()
    assert wire.reply("shell", header).content["status"] == "error"
    assert one.ended() == 0


def test_a_stopping_kernel_takes_no_more_work(kernel):
    one = kernel()
    wire = one.wire()
    wire.begin("print('go') io.flush() while true do end")
    one.child.terminate()
    while not wire.ask("control", "status_request").content["stopping"]:
        pass
    refused = wire.ask("shell", "tool_request", {"command": "list"}).content
    assert refused["status"] == "error" and "shutting down" in refused["evalue"]
    wire.ask("control", "shutdown_request")
    assert one.ended() == 0


def test_a_clients_end_in_mid_request_leaves_the_kernel_fine(kernel):
    one = kernel()
    with one.wire() as wire:
        wire.begin("print('go') io.flush() local t = os.time() while os.time() < t + 1 do print(t) end")
    assert one.wire().stdout("print('here')") == "here\n"


def test_an_asking_clients_end_can_be_interrupted(kernel):
    one = kernel()
    with one.wire() as wire:
        wire.send("shell", "execute_request", {"code": "io.read()", "allow_stdin": True})
        wire.recv("stdin")
    wire = one.wire()
    wire.ask("control", "interrupt_request")
    assert wire.stdout("print('here')") == "here\n"


def test_status(kernel):
    one = kernel("--id", "named")
    wire = one.wire()
    wire.execute("return 1")
    wire.tool("invoke", name="calculator", params={"expression": "1"})
    wire.tool("invoke", name="calculator", params={})
    status = wire.ask("control", "status_request").content
    assert (status["id"], status["pid"], status["execution_count"], status["queue"]) == ("named", one.pid, 1, 0)
    assert status["tools"] == {"running": 0, "done": 1, "failed": 1}
    assert 0 < status["rss_bytes"] < 200e6 and 0 <= status["cpu_s"] < 100 and status["uptime_s"] > 0
    assert set(status["errors"].values()) == {0}


def test_clients_are_counted_while_they_are_there(kernel):
    one = kernel()
    wire = one.wire()
    with one.wire():
        assert wire.ask("control", "status_request").content["clients"] == 2
    deadline = time.monotonic() + WAIT
    while wire.ask("control", "status_request").content["clients"] != 1:
        assert time.monotonic() < deadline


def test_a_kernel_has_no_children_and_few_threads(kernel):
    one = kernel()
    assert children(one.pid) == []


def test_every_option_of_start(kernel):
    assert kernel("start", "--log-level", "debug", "--engine", "lua").wire().stdout("print(1)") == "1\n"
