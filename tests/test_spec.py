"""Every message a kernel sends, against the shapes of the Jupyter specification (5.6): no field missing, none of another type,
none that neither the specification nor llmspell-protocol(7) knows."""
import datetime
import re

import jsonschema
import pytest
from conftest import Wire

TEXT, NUMBER, FLAG, ANY = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}, {}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def these(required, optional=()):
    """An object with these fields and no other."""
    return {"type": "object", "properties": {**required, **dict(optional)}, "required": list(required),
            "additionalProperties": False}


def many(item):
    return {"type": "array", "items": item}


def row(*items):
    return {"type": "array", "prefixItems": list(items), "minItems": len(items), "items": False}


def each(item, name=r"^"):
    return {"type": "object", "patternProperties": {name: item}, "additionalProperties": False}


# A bundle has something every client can show; only JSON is more than text.
BUNDLE = {"type": "object", "propertyNames": {"pattern": r"^[a-z]+/[\w.+-]+$"}, "required": ["text/plain"],
          "patternProperties": {r"[^n]$": TEXT, r"json$": ANY}, "additionalProperties": TEXT}
DISPLAY = {"data": BUNDLE, "metadata": {"type": "object"}}
TRANSIENT = these({}, {"display_id": {"type": "string", "minLength": 1}, "progress_ended": FLAG})
ERROR = {"ename": {"type": "string", "minLength": 1}, "evalue": TEXT, "traceback": many(TEXT)}
OURS = {"class": TEXT, "hint": TEXT, "exit": NUMBER}  # ERRORS of llmspell-protocol(7)
OK = {"status": {"const": "ok"}}
FAILED = {"status": {"const": "error"}, **ERROR}
COUNT = {"type": "integer", "minimum": 1}
COMM = {"comm_id": {"type": "string", "minLength": 1}, "data": {"type": "object"}}

# What a reply is when its status is ok.
REPLIES = {
    "execute_reply": these({**OK, "execution_count": NUMBER, "payload": many({"oneOf": [
        these({"source": {"const": "page"}, "data": BUNDLE, "start": NUMBER}),
        these({"source": {"const": "set_next_input"}, "text": TEXT, "replace": FLAG}),
    ]}), "user_expressions": each({"oneOf": [these({**OK, **DISPLAY}), these(FAILED, OURS)]})}),
    "inspect_reply": these({**OK, "found": FLAG, "data": {"anyOf": [BUNDLE, {"maxProperties": 0}]}, "metadata": {"type": "object"}}),
    "complete_reply": these({**OK, "matches": many(TEXT), "cursor_start": NUMBER, "cursor_end": NUMBER, "metadata": these({
        "_jupyter_types_experimental": many(these({"text": TEXT, "type": TEXT, "start": NUMBER, "end": NUMBER}, {"signature": TEXT}))})}),
    "history_reply": these({**OK, "history": many(row(COUNT, COUNT, {"oneOf": [TEXT, row(TEXT, {"type": ["string", "null"]})]}))}),
    "is_complete_reply": {"oneOf": [these({"status": {"const": "incomplete"}, "indent": {"type": "string", "pattern": "^ *$"}}),
                                    these({"status": {"enum": ["complete", "invalid", "unknown"]}})]},
    "connect_reply": these({**OK, **{f"{name}_port": PORT for name in ("shell", "iopub", "stdin", "control", "hb")}}),
    "comm_info_reply": these({**OK, "comms": each(these({"target_name": TEXT}))}),
    "kernel_info_reply": these({
        **OK, "protocol_version": {"const": "5.6"}, "implementation": {"const": "llmspell"},
        "implementation_version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+"},
        "language_info": these({
            "name": {"const": "lua"}, "version": {"type": "string", "pattern": r"^5\.4\.\d+$"}, "mimetype": {"const": "text/x-lua"},
            "file_extension": {"const": ".lua"}, "pygments_lexer": {"const": "lua"}, "codemirror_mode": {"const": "lua"},
            "nbconvert_exporter": {"const": "script"}}),
        "banner": {"type": "string", "minLength": 1}, "debugger": FLAG, "help_links": many(these({"text": TEXT, "url": {"type": "string", "pattern": "^https://"}})),
        "supported_features": many({"enum": ["debugger", "kernel subshells"]}), "kernel_id": TEXT}),
    "shutdown_reply": these({**OK, "restart": FLAG}),
    "interrupt_reply": these(OK),
    "usage_reply": these({**OK, "hostname": TEXT, "pid": COUNT, "kernel_cpu": {"type": "number"}, "kernel_memory": COUNT,
                          "cpu_count": COUNT}, {"host_cpu_percent": {"type": "number"}, "host_virtual_memory": {"type": "object"}}),
}
# What else there is.
OTHERS = {
    "status": these({"execution_state": {"enum": ["starting", "busy", "idle"]}}),
    "execute_input": these({"code": TEXT, "execution_count": COUNT}),
    "execute_result": these({**DISPLAY, "execution_count": COUNT}),
    "stream": these({"name": {"enum": ["stdout", "stderr"]}, "text": {"type": "string", "minLength": 1}}),
    "display_data": these({**DISPLAY, "transient": TRANSIENT}),
    "update_display_data": these({**DISPLAY, "transient": {"allOf": [TRANSIENT, {"required": ["display_id"]}]}}),
    "clear_output": these({"wait": FLAG}),
    "error": these(ERROR, OURS),
    "comm_open": these({**COMM, "target_name": TEXT}, {"target_module": TEXT}),
    "comm_msg": these(COMM),
    "comm_close": these(COMM),
    "iopub_welcome": these({"subscription": TEXT}),
    "input_request": these({"prompt": TEXT, "password": FLAG}),
    "shutdown_reply": REPLIES["shutdown_reply"],
}
HEADER = these({"msg_id": {"type": "string", "minLength": 1}, "session": {"type": "string", "minLength": 1},
                "username": TEXT, "date": TEXT, "msg_type": TEXT, "version": {"const": "5.6"}})
ON = {"iopub": {"status", "execute_input", "execute_result", "stream", "display_data", "update_display_data", "clear_output", "error",
                "comm_open", "comm_msg", "comm_close", "iopub_welcome", "shutdown_reply"},
      "stdin": {"input_request"}}


def check(message, channel):
    """Fails unless the message is what the specification says."""
    jsonschema.validate(message.header, HEADER)
    sent = datetime.datetime.fromisoformat(message.header["date"].replace("Z", "+00:00"))
    assert sent.tzinfo and abs((datetime.datetime.now(datetime.timezone.utc) - sent).total_seconds()) < 60
    assert isinstance(message.parent, dict) and isinstance(message.metadata, dict)
    kind, content = message.type, message.content
    if channel == "iopub":
        # By topic clients choose what they get.
        assert len(message.idents) == 1 and message.idents[0].decode().startswith((kind, "comm-") if kind != "iopub_welcome" else "")
    if channel in ON:
        assert kind in ON[channel]
        jsonschema.validate(content, OTHERS[kind])
    elif content["status"] == "error":
        more = {"execution_count": {"type": ["integer", "null"]}} if kind == "execute_reply" else {}
        jsonschema.validate(content, these({**FAILED, **more}, OURS))
    else:
        jsonschema.validate(content, REPLIES[kind])
        if kind == "complete_reply":
            assert content["cursor_start"] <= content["cursor_end"]
            typed = content["metadata"]["_jupyter_types_experimental"]
            assert [one["text"] for one in typed] == content["matches"]
            assert {(one["start"], one["end"]) for one in typed} <= {(content["cursor_start"], content["cursor_end"])}


class Strict(Wire):
    """A client that takes no message the specification does not know, and none twice."""

    def __init__(self, *arguments, **options):
        self.ids, self.types = set(), set()
        super().__init__(*arguments, **options)

    def recv(self, channel, timeout=30):
        message = super().recv(channel, timeout)
        check(message, channel)
        assert message.header["msg_id"] not in self.ids, f"twice: {message}"
        self.ids.add(message.header["msg_id"])
        self.types.add(message.type)
        return message


@pytest.fixture
def strict(kernel):
    with Strict(kernel().connection) as wire:
        yield wire


ERRORS = ["error('x')", "error({code = 5})", "x = = 1", "nil_value.field = 1", "Tool.invoke('nosuch')", "io.open('/etc/shadow'):read()",
          "os.exit(3)", "error()", "error(nil)", "error(setmetatable({}, {__tostring = error}))"]
SHOWN = ["1", "'a'", "nil", "{1, 2}", "{{a = 1}, {a = 2}}", "{a = {b = {1}}}", "print", "1, 2, nil", "0/0", "1/0", "{[1.5] = 1}", "'\\xff'",
         "{1, x = 2}", "setmetatable({}, {__tostring = function() return 'me' end})", "coroutine.create(print)", "true", "''", "{}",
         "math.mininteger", "JSON.null", "string.rep('x', 1e6)", "Tool.list()"]
DISPLAYED = ["display(1)", "display(nil)", "display({a = 1})", "display({{a = 1}})", "Display.html('<b>x</b>')", "Display.markdown('*x*')",
             "Display.json({1, 2})", "Display.json({})", "Display.svg('<svg/>')", "Display.latex('$x$')", "Display.text('x')",
             "Display.table({{a = 1, b = 'x'}, {a = 2}})", "h = display(1, {id = 'one'}) h:update(2) Display.update('one', 3) display(h)",
             "Display.clear() Display.clear(true)", "p = Progress(3, 'x') p:update(1) p:add() p:done()", "Progress()",
             "display({['text/html'] = '<i>x</i>', ['text/plain'] = 'x'})", "display('x', {metadata = {a = 1}})"]


def test_what_scripts_show(strict):
    for code in SHOWN:
        reply, messages = strict.execute(code)
        kinds = [kind for kind, _ in messages]
        assert reply["status"] == "ok" and kinds == ["execute_input"] + ["execute_result"] * (code != "nil"), code
        assert {content["execution_count"] for _, content in messages} == {reply["execution_count"]}
    for code in DISPLAYED:
        reply, _ = strict.execute(code)
        assert reply["status"] == "ok", (code, reply)
    for code in ["print()", "print('a', 1, nil)", "io.write('')", "io.stderr:write('e\\n')", "io.write('\\xff\\xfe')", "", "  \n", "-- only"]:
        reply, _ = strict.execute(code)
        assert reply["status"] == "ok", (code, reply)


def test_errors(strict):
    for code in ERRORS:
        reply, messages = strict.execute(code)
        (error,) = [content for kind, content in messages if kind == "error"]
        assert reply["status"] == "error" and {name: reply[name] for name in error} == error, code
        assert isinstance(reply["execution_count"], int)


def test_expressions_and_payloads(strict):
    expressions = {"a": "1 + 1", "b": "nosuch.field", "c": "{{a = 1}}", "d": "x = = 1", "e": "nil", "f": "'é'"}
    reply, _ = strict.execute("help('print') set_next_input('y', true)", user_expressions=expressions)
    assert reply["user_expressions"]["a"] == {"status": "ok", "data": {"text/plain": "2"}, "metadata": {}}
    assert {name: one["status"] for name, one in reply["user_expressions"].items()} == {
        "a": "ok", "b": "error", "c": "ok", "d": "error", "e": "ok", "f": "ok"}
    assert [one["source"] for one in reply["payload"]] == ["page", "set_next_input"]


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_questions_about_the_kernel(strict, channel):
    for kind in ("kernel_info", "connect"):
        reply, messages = strict.do(channel, f"{kind}_request")
        assert reply.type == f"{kind}_reply" and reply.content["status"] == "ok" and len(messages) == 2
    for kind in ("usage", "interrupt"):
        reply, messages = strict.do("control", f"{kind}_request")
        assert reply.content["status"] == "ok" and len(messages) == 2


CODES = ["", "x", "prin", "string.", "string.for", "('x'):", "require '", "Tool.", "Tool.invoke('", "Tool.invoke('calculator', {", "a.b.c.d",
         "local t = {1, 2", "if", "\"unfinished", "[[long", "-- comment", "é = '😀' .. str", "\U0001f600", "x:y:z(", "\0", "a\r\nb", "{" * 300]


def test_completion_and_inspection_of_anything(strict):
    strict.execute("é = 1 t = {名前 = 1, ['a b'] = 2, end_ = 3}")
    for code in CODES + ["t."]:
        for cursor in {0, len(code) // 2, len(code), len(code) + 7}:
            reply = strict.ask("shell", "complete_request", {"code": code, "cursor_pos": cursor}).content
            assert reply["status"] == "ok" and reply["cursor_end"] <= len(code), code
            for level in (0, 1):
                asked = {"code": code, "cursor_pos": cursor, "detail_level": level}
                reply = strict.ask("shell", "inspect_request", asked).content
                assert reply["status"] == "ok" and reply["found"] == bool(reply["data"]), code
        assert strict.ask("shell", "is_complete_request", {"code": code}).content["status"] != "error"


def test_history(strict):
    for line in ("a = 1", "return 2", "error('no')", "return 2"):
        strict.execute(line)
    for access in ({"hist_access_type": "tail", "n": 2}, {"hist_access_type": "range", "session": 0, "start": 1, "stop": 3},
                   {"hist_access_type": "range"}, {"hist_access_type": "search", "pattern": "*2*", "n": 9},
                   {"hist_access_type": "search", "pattern": "*2*", "unique": True}):
        for output in (False, True):
            reply = strict.ask("shell", "history_request", {"raw": True, "output": output, **access}).content
            assert reply["status"] == "ok" and reply["history"], access
            assert all(isinstance(line[2], list) is output for line in reply["history"])


def test_comms(strict):
    strict.execute("Comm.register('echo', function(comm, msg) comm:on_msg(function(m) comm:send({got = m.data}) end) comm:send() end)")
    strict.published(strict.send("shell", "comm_open", {"comm_id": "c", "target_name": "echo", "data": {}}))
    strict.published(strict.send("shell", "comm_msg", {"comm_id": "c", "data": {"x": []}}))
    assert strict.ask("shell", "comm_info_request").content["comms"] == {"c": {"target_name": "echo"}}
    strict.published(strict.send("shell", "comm_close", {"comm_id": "c", "data": {}}))
    strict.published(strict.send("shell", "comm_open", {"comm_id": "d", "target_name": "nobody", "data": {}}))
    strict.execute("w = Comm.open('widget') w:send({x = {1}}) w:close()")
    assert {"comm_open", "comm_msg", "comm_close"} <= strict.types


def test_a_question_and_the_end(kernel):
    with Strict(kernel().connection) as strict:
        header = strict.send("shell", "execute_request", {"code": "return io.read(), io.read_password('p> ')", "allow_stdin": True})
        for password, prompt in [(False, ""), (True, "p> ")]:
            asked = strict.recv("stdin")
            assert asked.parent == header and asked.content == {"prompt": prompt, "password": password}
            strict.send("stdin", "input_reply", {"value": "é"}, parent=asked.header)
        assert strict.reply("shell", header).content["status"] == "ok"
        strict.published(header)
        strict.do("control", "shutdown_request", {"restart": True})


WRONG = ["create_subshell", "delete_subshell", "list_subshell", "debug", "nosuch"]


def test_what_is_not_here_is_refused_in_the_shape_of_an_error(strict):
    for kind in WRONG:
        for channel in ("shell", "control"):
            reply, messages = strict.do(channel, f"{kind}_request", {"subshell_id": "x"})
            assert reply.type == f"{kind}_reply" and reply.content["status"] == "error" and len(messages) == 2
    for kind in ("execute", "complete", "inspect", "history", "is_complete"):
        reply, _ = strict.do("shell", f"{kind}_request", {"code": 5})
        assert reply.content["status"] == "error"


def test_aborted(strict):
    headers = [strict.send("shell", "execute_request", {"code": code, "allow_stdin": False})
               for code in ("for i = 1, 3e7 do end error('x')", "y = 1", "y = 2")]
    replies = [strict.reply("shell", header).content for header in headers]
    assert [reply["ename"] for reply in replies] == ["LuaError", "Aborted", "Aborted"]
    for header in headers[1:]:
        # Not executed, so nothing is shown of it.
        assert [message.type for message in strict.published(header)] == ["status", "status"]
    assert strict.stdout("print(y)") == "nil\n"
