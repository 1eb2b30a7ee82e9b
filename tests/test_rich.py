"""What scripts show beside text: displays, values in their forms, coloured errors, progress."""
import base64
import re

import pytest

PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


@pytest.fixture
def wire(kernel):
    return kernel().wire()


def shown(messages):
    return [(kind, content) for kind, content in messages if kind not in ("execute_input", "stream")]


def test_displays_keep_their_place_between_the_streams(wire):
    reply, messages = wire.execute("print('a') display('b') io.stderr:write('c') Display.html('<b>d</b>') print('e')")
    assert reply["status"] == "ok"
    got = [content.get("text") or content["data"]["text/plain"] for kind, content in messages if kind != "execute_input"]
    assert got == ["a\n", "b", "c", "d", "e\n"]
    assert [kind for kind, _ in shown(messages)] == ["display_data", "display_data"]


def test_updates_name_their_display_and_clear_output_waits(wire):
    _, messages = wire.execute("h = Display.markdown('*1*')")
    [(kind, first)] = shown(messages)
    assert (kind, first["data"]["text/markdown"]) == ("display_data", "*1*")
    # The handle is updated from a later cell.
    _, messages = wire.execute("h:update('*2*') Display.clear(true) Display.clear()\nh")
    kinds = [(kind, content.get("wait")) for kind, content in shown(messages)]
    assert kinds == [("update_display_data", None), ("clear_output", True), ("clear_output", False)]
    update = shown(messages)[0][1]
    assert update["transient"]["display_id"] == first["transient"]["display_id"] and update["data"]["text/markdown"] == "*2*"


def test_a_silent_request_shows_nothing(wire):
    header = wire.send("shell", "execute_request", {"code": "display(1) Display.clear() return 2", "silent": True})
    assert [message.type for message in wire.published(header)] == ["status", "status"]


def test_images_are_read_through_the_policy(place, kernel):
    place.write("a.png", base64.b64decode(PNG))
    wire = kernel(f"--allow-read={place.work}").wire()
    _, messages = wire.execute("Display.png('a.png', {width = 40})")
    [(_, content)] = shown(messages)
    assert content["data"]["image/png"] == PNG and content["metadata"] == {"image/png": {"width": 40}}
    reply, _ = wire.execute("Display.png('/etc/passwd')")
    assert reply["ename"] == "DeniedError"


@pytest.mark.parametrize("code, text", [
    ("x = 1\nx + 1", "2"),
    ("local t = {1,\n2}\nt", "{1, 2}"),
    ("return 3", "3"),
    ("a = 1; a", "1"),
    ("n = 0\nlocal function f() n = n + 1 return n end\nf()", "1"),
    ("n = 0\nfor i = 1, 3 do\n  n = n + i\nend", None),
    ("io.write('hi')", None),
])
def test_the_last_expression_is_the_value(wire, code, text):
    reply, messages = wire.execute(code)
    assert reply["status"] == "ok", reply
    results = [content["data"]["text/plain"] for kind, content in messages if kind == "execute_result"]
    assert results == ([text] if text else [])


def test_values_have_all_their_forms(wire):
    _, messages = wire.execute("{{n = 1, s = '<i>'}, {n = 2}}")
    [(kind, content)] = shown(messages)
    assert kind == "execute_result"
    # JupyterLab prefers application/json to text/html: a table for people has its JSON under a type of ours.
    assert set(content["data"]) == {"text/plain", "text/html", "application/vnd.llmspell.table+json"}
    assert content["data"]["application/vnd.llmspell.table+json"] == [{"n": 1, "s": "<i>"}, {"n": 2}]
    assert content["data"]["text/plain"] == '{{n = 1, s = "<i>"}, {n = 2}}'
    assert "<td>&lt;i&gt;</td>" in content["data"]["text/html"]
    _, messages = wire.execute("{a = 1}")
    assert set(shown(messages)[0][1]["data"]) == {"text/plain", "application/json"}


def test_a_displayed_table_is_html_and_its_value_reaches_programs(run, kernel):
    one = kernel()
    rows = "{{n = 1}, {n = 2}}"
    for code, types in [(f"display({rows})", {"text/plain", "text/html", "application/vnd.llmspell.table+json"}),
                        (f"Display.table({rows})", {"text/plain", "text/html"})]:
        [(_, content)] = shown(one.wire().execute(code)[1])
        assert set(content["data"]) == types, code
    for where in ([], ["--kernel", one.id]):
        assert run("run", *where, "--json", "-e", rows).json()["result"] == [{"n": 1}, {"n": 2}]


def test_errors_are_coloured_in_the_traceback_only(wire):
    wire.execute("function f(x)\n  return x.y\nend")
    reply, messages = wire.execute("f()")
    error = shown(messages)[0][1]
    assert error["evalue"] == reply["evalue"] == "[1]:2: attempt to index a nil value (local 'x')"
    assert error["traceback"] == reply["traceback"] and "\x1b[" in error["traceback"][0]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"])).splitlines()
    assert plain[:4] == [f"LuaError: {error['evalue']}", "       1 | function f(x)", "-->    2 |   return x.y",
                         "       3 | end"]
    assert plain[-1] == "\t[2]:1: in main chunk"


def test_progress_is_one_display(wire):
    _, messages = wire.execute("local p = Progress(3, 'work') for i = 1, 3 do p:update(i) end p:done()")
    kinds = [kind for kind, _ in shown(messages)]
    assert kinds[0] == "display_data" and set(kinds[1:]) == {"update_display_data"}
    assert len({content["transient"]["display_id"] for _, content in shown(messages)}) == 1
    assert "100 %  3/3" in shown(messages)[-1][1]["data"]["text/plain"]


def test_run_prints_the_text_of_displays_the_same_way_everywhere(run, kernel):
    code = "Display.html('<b>x</b>') local h = display({1}) h:update(2) Progress(1, 'p'):done() error('no')"
    here = run("run", "-e", code)
    there = run("run", "--kernel", kernel().id, "-e", code)
    for done in (here, there):
        assert done.out == "x\n{1}\n2\n" and "\x1b" not in done.err
        assert "p  [########################] 100 %  1/1" in done.err
        assert "llmspell-run: -e:1: no\n-->    1 | Display" in done.err
    assert run("run", "--json", "-e", code).json()["stdout"] == "x\n{1}\n2\n"
