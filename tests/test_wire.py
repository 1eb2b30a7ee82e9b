"""The wire protocol from outside, on raw sockets: what is refused, what is answered, in which order, on which channel."""
import json
import random
import time

import pytest
from conftest import WAIT

BIG = "x" * (20 << 20)


def alive(wire):
    """The kernel still answers on every channel."""
    assert wire.ask("shell", "kernel_info_request").content["status"] == "ok"
    assert wire.ask("control", "kernel_info_request").content["status"] == "ok"
    assert wire.execute("return 6 * 7")[0]["status"] == "ok"


def errors(wire):
    return wire.ask("control", "status_request").content["errors"]


def good(wire, **more):
    return wire.frames(wire.header("kernel_info_request"), {}, **more)


def changed(wire, at, frame):
    frames = good(wire)
    frames[at] = frame
    return frames


def header(wire, **changes):
    header = {**wire.header("kernel_info_request"), **changes}
    return {key: value for key, value in header.items() if value is not None}


DROPPED = {
    "forged": ("signature", lambda w: changed(w, 1, b"0" * 64)),
    "unsigned": ("signature", lambda w: changed(w, 1, b"")),
    "half a signature": ("signature", lambda w: changed(w, 1, good(w)[1][:32])),
    "signature of other frames": ("signature", lambda w: changed(w, 1, good(w)[1])),
    "content changed": ("signature", lambda w: changed(w, 5, b'{"x":1}')),
    "header changed": ("signature", lambda w: changed(w, 2, b"{}")),
    "parent changed": ("signature", lambda w: changed(w, 3, b'{"x":1}')),
    "empty": ("framing", lambda w: [b""]),
    "no delimiter": ("framing", lambda w: good(w)[1:]),
    "delimiter alone": ("framing", lambda w: [b"<IDS|MSG>"]),
    "delimiter in another case": ("framing", lambda w: changed(w, 0, b"<ids|msg>")),
    "content missing": ("framing", lambda w: good(w)[:-1]),
    "random bytes": ("framing", lambda w: [random.Random(7).randbytes(n) for n in (1, 100, 65536)]),
    "a thousand frames": ("framing", lambda w: [b"x"] * 1000),
    "header not JSON": ("json", lambda w: w.frames(b"{", {})),
    "header not UTF-8": ("json", lambda w: w.frames(b'{"msg_id":"\xff","msg_type":"x"}', {})),
    "header an array": ("json", lambda w: w.frames(b"[]", {})),
    "header without msg_id": ("json", lambda w: w.frames(header(w, msg_id=None), {})),
    "header without msg_type": ("json", lambda w: w.frames(header(w, msg_type=None), {})),
    "msg_type a number": ("json", lambda w: w.frames(header(w, msg_type=5), {})),
    "nested beyond reason": ("json", lambda w: w.frames(b"[" * 100_000, {})),
    "content an array": ("json", lambda w: w.frames(header(w), b"[1]")),
    "content not JSON": ("json", lambda w: w.frames(header(w), b"nonsense")),
    "content not UTF-8": ("json", lambda w: w.frames(header(w), b'{"code":"\xff"}')),
    "content empty": ("json", lambda w: w.frames(header(w), b"")),
    "metadata a number": ("json", lambda w: w.frames(header(w), {}, metadata=b"5")),
    "header of 2 MB": ("size", lambda w: w.frames(header(w, username="x" * (2 << 20)), {})),
}


@pytest.mark.parametrize("channel", ["shell", "control", "stdin"])
@pytest.mark.parametrize("name", DROPPED)
def test_is_dropped_and_counted(kernel, channel, name):
    wire = kernel().wire()
    counter, make = DROPPED[name]
    before = errors(wire)
    getattr(wire, channel).send_multipart(make(wire))
    if channel != "stdin":  # where nothing answers, so that one cannot know when it was counted
        assert wire.ask(channel, "kernel_info_request").content["status"] == "ok"
        assert errors(wire) == {**before, counter: before[counter] + 1}
    alive(wire)


def test_garbage_on_stdin_is_counted(kernel):
    wire = kernel().wire()
    wire.stdin.send_multipart([b"garbage"])
    # Its own connection: the next question and answer come after it.
    header = wire.send("shell", "execute_request", {"code": "return io.read()", "allow_stdin": True})
    question = wire.recv("stdin")
    wire.send("stdin", "input_reply", {"value": "x"}, parent=question.header)
    assert wire.reply("shell", header).content["status"] == "ok"
    assert errors(wire)["framing"] == 1


def test_a_repetition_is_refused(kernel):
    wire = kernel().wire()
    frames = wire.frames(wire.header("execute_request"), {"code": "n = (n or 0) + 1"})
    for _ in range(3):
        wire.shell.send_multipart(frames)
    assert wire.recv("shell").content["status"] == "ok"
    assert ("execute_result", "1") == next((kind, c["data"]["text/plain"]) for kind, c in wire.execute("return n")[1] if "data" in c)
    assert errors(wire)["replay"] == 2


def test_a_repetition_on_another_channel_is_refused(kernel):
    wire = kernel().wire()
    frames = good(wire)
    wire.shell.send_multipart(frames)
    wire.recv("shell")
    wire.control.send_multipart(frames)
    assert errors(wire)["replay"] == 1


def test_another_key_is_no_key(kernel):
    one = kernel()
    stranger, wire = one.wire(key="f" * 64, channels=("shell", "control")), one.wire()
    stranger.send("control", "shutdown_request")
    stranger.send("shell", "execute_request", {"code": "stolen = true"})
    deadline = time.monotonic() + WAIT
    while errors(wire)["signature"] < 2:
        assert time.monotonic() < deadline
    alive(wire)
    assert wire.execute("return stolen")[1][1:] == []
    assert not stranger.shell.poll(0) and not stranger.control.poll(0)


CONTENTS = [
    ("execute_request", {}),
    ("execute_request", {"code": 5}),
    ("execute_request", {"code": None}),
    ("execute_request", {"code": "", "silent": "yes"}),
    ("execute_request", {"code": "", "user_expressions": []}),
    ("execute_request", {"code": "", "user_expressions": {"a": 1}}),
    ("execute_request", {"code": "", "timeout": "soon"}),
    ("execute_request", {"code": "", "args": "x"}),
    ("is_complete_request", {}),
    ("is_complete_request", {"code": ["x"]}),
    ("tool_request", {}),
    ("tool_request", {"command": 1}),
    ("tool_request", {"command": "invoke", "name": []}),
    ("tool_request", {"command": "search", "query": 3}),
    ("tool_request", {"command": "search", "query": [3]}),
    ("tool_request", {"command": "list", "timeout": "x"}),
    ("interrupt_request", {"msg_id": 4}),
    ("shutdown_request", {"restart": "maybe"}),
]


@pytest.mark.parametrize("msg_type,content", CONTENTS, ids=lambda value: str(value)[:40])
def test_wrong_types_in_content_are_answered(kernel, msg_type, content):
    wire = kernel().wire()
    channel = "control" if msg_type in ("interrupt_request", "shutdown_request") else "shell"
    reply, messages = wire.do(channel, msg_type, content)
    assert reply.type == msg_type.replace("_request", "_reply")
    assert (reply.content["status"], reply.content["class"]) == ("error", "usage"), reply.content
    assert reply.content["evalue"].startswith(msg_type) and isinstance(reply.content["traceback"], list)
    assert [m.content["execution_state"] for m in messages] == ["busy", "idle"]
    assert errors(wire)["content"] == 1
    alive(wire)


def test_null_is_as_good_as_absent(kernel):
    """Some clients write out what they leave open, as those of the jupyter-protocol crate do."""
    wire = kernel().wire()
    names = ("silent", "store_history", "user_expressions", "allow_stdin", "stop_on_error", "timeout", "cwd", "args", "chunk_name")
    reply, messages = wire.execute("return 1", **dict.fromkeys(names))
    assert reply["status"] == "ok" and reply["execution_count"] == 1 and [kind for kind, _ in messages] == ["execute_input", "execute_result"]
    for kind, content in [("inspect", {"code": "print", "cursor_pos": 5, "detail_level": None}),
                          ("history", {"hist_access_type": "tail", **dict.fromkeys(("n", "output", "raw", "session", "unique", "pattern"))}),
                          ("comm_info", {"target_name": None})]:
        assert wire.ask("shell", f"{kind}_request", content).content["status"] == "ok", kind


def test_content_nested_beyond_reason_is_answered(kernel):
    wire = kernel().wire()
    for msg_type, before in (("tool_request", '"command": "invoke", "params"'), ("execute_request", '"code": "", "args"')):
        content = f"{{{before}: {'[' * 100_000}{']' * 100_000}}}".encode()
        assert wire.ask("shell", msg_type, content).content["class"] == "usage"
    alive(wire)


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("msg_type", ["frobnicate_request", "_request", "hello", "", "execute_reply", "ü_request", "comm_shout"])
def test_unknown_types(kernel, channel, msg_type):
    wire = kernel().wire()
    header = wire.send(channel, msg_type)
    assert [m.content["execution_state"] for m in wire.published(header)] == ["busy", "idle"]
    if msg_type.endswith("_request"):
        reply = wire.reply(channel, header)
        assert reply.type == msg_type.replace("_request", "_reply")
        assert (reply.content["status"], reply.content["class"]) == ("error", "absent")
    assert errors(wire)["unknown_type"] == 1
    alive(wire)


REQUESTS = [
    ("shell", "kernel_info_request", {}),
    ("shell", "execute_request", {"code": "print(1) return 2"}),
    ("shell", "execute_request", {"code": "error('x')"}),
    ("shell", "execute_request", {"code": "print(1)", "silent": True}),
    ("shell", "is_complete_request", {"code": "x = 1"}),
    ("shell", "tool_request", {"command": "list"}),
    ("shell", "tool_request", {"command": "invoke", "name": "calculator", "params": {"expression": "1+1"}}),
    ("shell", "tool_request", {"command": "nonsense"}),
    ("shell", "status_request", {}),
    ("control", "kernel_info_request", {}),
    ("control", "interrupt_request", {}),
    ("control", "status_request", {}),
    ("control", "frobnicate_request", {}),
]


@pytest.mark.parametrize("channel,msg_type,content", REQUESTS, ids=lambda value: str(value)[:40])
def test_busy_first_idle_last_and_the_reply_where_it_was_asked(kernel, channel, msg_type, content):
    wire = kernel().wire()
    header = {**wire.header(msg_type), "x-extra": [1, {"a": "ü"}]}
    wire.__dict__[channel].send_multipart(wire.frames(header, content, prefix=(b"hop-1", b"\x00hop-2")))
    reply = wire.reply(channel, header)
    assert reply.idents == [b"hop-1", b"\x00hop-2"], "the reply goes back along all identities"
    assert reply.type == msg_type.replace("_request", "_reply")
    assert reply.header["session"] != header["session"] and reply.header["version"].startswith("5.")
    assert reply.header["date"].endswith("Z") and "T" in reply.header["date"]
    seen = wire.published(header)
    last = wire.send("shell", "kernel_info_request")
    while not (seen[-1].parent == last and seen[-1].content["execution_state"] == "idle"):
        seen.append(wire.recv("iopub"))
    mine = [m for m in seen if m.parent == header]
    states = [(at, m.content["execution_state"]) for at, m in enumerate(mine) if m.type == "status"]
    assert states == [(0, "busy"), (len(mine) - 1, "idle")]
    assert all(m.parent in (header, last) for m in seen)
    ids = [m.header["msg_id"] for m in seen] + [reply.header["msg_id"]]
    assert len(set(ids)) == len(ids)


def test_a_request_without_session_or_date_is_served(kernel):
    wire = kernel().wire()
    header = {"msg_id": "1", "msg_type": "kernel_info_request"}
    wire.shell.send_multipart(wire.frames(header, {}))
    assert wire.reply("shell", header).content["status"] == "ok"


@pytest.mark.parametrize("parent", [b"", b"[]", b"{", b"\xff", b'{"msg_id": 4}', b'"x"'])
def test_a_strange_parent_header_does_no_harm(kernel, parent):
    wire = kernel().wire()
    assert wire.ask("shell", "kernel_info_request", parent=parent or None).content["status"] == "ok"


def test_buffers_are_taken(kernel):
    wire = kernel().wire()
    reply = wire.ask("shell", "execute_request", {"code": "return 1"}, buffers=[b"", b"\x00" * 1000, b"<IDS|MSG>"])
    assert reply.content["status"] == "ok"


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_messages_of_20_MB(kernel, transport):
    wire = kernel("--transport", transport).wire()
    assert wire.execute(f"--[[{BIG}]] return 1", silent=True)[0]["status"] == "ok"
    assert wire.ask("control", "kernel_info_request", buffers=[BIG.encode()]).content["status"] == "ok"
    assert wire.stdout(f"print(('y'):rep({len(BIG)}))") == "y" * len(BIG) + "\n"


def test_identity_taken_over_by_a_client_that_comes_back(kernel):
    one = kernel()
    first = one.wire(session="same")
    alive(first)
    second = one.wire(session="same")
    alive(second)


def test_heartbeat_is_an_echo(kernel):
    wire = kernel().wire()
    for ping in (b"ping", b"", b"\xff" * 100_000):
        wire.hb.send(ping)
        assert wire.hb.poll(WAIT * 1000) and wire.hb.recv() == ping


def test_every_subscriber_is_welcomed(kernel):
    one = kernel()
    for wire in (one.wire(), one.wire()):
        assert (wire.welcome.type, wire.welcome.content, wire.welcome.parent) == ("iopub_welcome", {"subscription": ""}, {})


def test_anything_at_all(kernel):
    """Random changes of a good message, thousands of them: dropped or answered, never the end of the kernel."""
    wire = kernel("--log-level", "off").wire()
    dice = random.Random(20261123)
    for count in range(3000):
        frames = wire.frames(wire.header("is_complete_request"), {"code": "x = {1, 'a', [[b]]}"})
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(frames))
            frame = bytearray(frames[at])
            action = dice.randrange(4)
            if action == 0 and frame:
                frame[dice.randrange(len(frame))] = dice.randrange(256)
            elif action == 1:
                frame[dice.randint(0, len(frame)) :] = dice.randbytes(dice.randint(0, 30))
            elif action == 2:
                frames.insert(at, bytes(frame))
            elif len(frames) > 1:
                del frames[at]
                continue
            frames[at] = bytes(frame)
        if dice.random() < 0.5 and b"<IDS|MSG>" in frames[:-5]:  # signed, so that the rest is read
            at = frames.index(b"<IDS|MSG>")
            frames[at + 1] = wire.sign(frames[at + 2 : at + 6])
        wire.__dict__[dice.choice(("shell", "control", "stdin"))].send_multipart(frames)
    last = wire.send("shell", "kernel_info_request")
    while wire.recv("shell").parent != last:
        pass
    last = wire.send("control", "status_request")
    while (reply := wire.recv("control")).parent != last:
        pass
    assert sum(reply.content["errors"].values()) > 1000, json.dumps(reply.content)
