"""llmspell-fleet route: one connection file for many kernels, with clients of every kind, and what can go wrong on the way.

The first words of a docstring are the number of the fault it is about, of the list this project keeps to.
"""
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys

import pytest
from conftest import BIN, ROOT, WAIT, Watched, Wire, endpoint, ended, line, program, text
from test_fleet import fleet, until  # noqa: F401, a fixture
from test_pages import between

LOOP = "print('go') while true do end"


class Route:
    """A route that runs."""

    def __init__(self, place, *words, env=None):
        self.child = subprocess.Popen([program("fleet"), "route", "--json", *words], env={**place.env, **(env or {})}, cwd=place.work,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.seen, self.wires, self.done = [], [], None
        first = self.next()
        assert first, self.child.stderr.read()
        while first["event"] != "ready":
            self.seen.append(first)
            first = self.next()
        self.ready = first
        self.file = pathlib.Path(self.ready["connection_file"])
        self.connection = json.loads(self.file.read_text())

    def next(self):
        told = line(self.child.stdout)
        return json.loads(told) if told else None

    def event(self, what, kernel):
        while True:
            event = self.seen.pop(0) if self.seen else self.next()
            assert event, f"the route ended: {self.child.stderr.read()}"
            if (event["event"], event["kernel"]) == (what, kernel):
                return event

    def wire(self, **options):
        self.wires.append(Wire(self.connection, **options))
        return self.wires[-1]

    def status(self):
        with Wire(self.connection, channels=("control",)) as wire:
            return wire.ask("control", "status_request").content

    def end(self):
        """(status, rest of stdout, stderr); again, the same."""
        if self.done:
            return self.done
        for wire in self.wires:
            wire.context.destroy(0)
        if self.child.poll() is None:
            self.child.terminate()
        try:
            code = ended(self.child)
        finally:
            self.child.kill()
            self.child.wait()
            out, err = self.child.stdout.read(), self.child.stderr.read().decode()
            self.child.stdout.close()
            self.child.stderr.close()
        assert "panicked at" not in err, err
        self.done = code, out, err
        return self.done


@pytest.fixture
def route(fleet):  # noqa: F811
    """route("pool"): the route, which must end well."""
    routes = []

    def route(*words, **more):
        routes.append(Route(fleet.place, *words, **more))
        return routes[-1]

    yield route
    for one in routes:
        killed = one.child.poll() == -signal.SIGKILL
        code, _, err = one.end()
        assert killed or (code, err) == (0, "") and not one.file.exists()


@pytest.fixture
def pool(fleet):  # noqa: F811
    """The ids of two kernels that are called `pool`."""
    return fleet.spawn("--name", "pool", "--count", "2")


def kernel_of(wire):
    return wire.ask("control", "kernel_info_request").content["kernel_id"]


def lines(wire, header):
    """What is published of a request, as types."""
    return [message.type for message in wire.published(header)]


def test_the_programs_take_it_for_a_kernel(fleet, pool, route):  # noqa: F811
    one = route("pool")
    assert oct(one.file.stat().st_mode & 0o777) == "0o600"
    assert one.connection["key"] not in {fleet.connection(name)["key"] for name in pool}
    assert one.ready["pid"] == one.child.pid and one.connection["transport"] == "ipc"
    assert fleet.run("run", "--kernel", "route", "-e", "print(6 * 7)").out == "42\n"
    assert fleet.run("run", "--connection-file", one.file, "-e", "x = io.read() print(x)", input="words\n").out == "words\n"
    assert fleet.run("run", "--kernel", "route", "-e", "error('no')").code == 1
    assert fleet.run("tool", "--kernel", "route", "invoke", "calculator", "input=6*7").out == "42\n"
    assert "calculator" in fleet.run("tool", "--kernel", "route", "list").out
    assert fleet("exec", "route", "--", "print('there')").out == "there\n"
    row = fleet.row("route", "health")
    assert (row["state"], row["pid"]) == ("ready", one.child.pid)
    assert [member["ready"] for member in row["status"]["pool"]] == [True, True]
    assert fleet("stop", "route").out == "route: stopped\n" and ended(one.child) == 0
    assert not one.file.exists() and not list(fleet.place.run.rglob("route-*"))
    assert {row["state"] for row in fleet.rows().values()} == {"running"}


@pytest.mark.parametrize("how", [[], ["--port", "0"]], ids=["ipc", "tcp"])
def test_jupyters_client_works_through_it(fleet, pool, route, how):  # noqa: F811
    from jupyter_client import BlockingKernelClient

    one = route("pool", *how)
    client = BlockingKernelClient()
    client.load_connection_file(str(one.file))
    client.start_channels()
    try:
        client.wait_for_ready(timeout=WAIT)
        shown = []
        reply = client.execute_interactive("print('hello') return 6 * 7", timeout=WAIT, output_hook=shown.append)
        assert reply["content"]["status"] == "ok"
        assert [m["msg_type"] for m in shown] == ["status", "execute_input", "stream", "execute_result", "status"]
        reply = client.execute_interactive("io.write('name? ') print('hello ' .. io.read())", timeout=WAIT, allow_stdin=True,
                                           stdin_hook=lambda _: client.input("you"), output_hook=shown.append)
        assert reply["content"]["status"] == "ok" and "hello you" in str(shown)
        assert client.is_alive() and client.hb_channel.is_beating()
        assert client.complete("stri", reply=True, timeout=WAIT)["content"]["matches"]
    finally:
        client.stop_channels()


def test_jupyters_console_works_through_it(fleet, pool, route):  # noqa: F811
    pexpect = pytest.importorskip("pexpect")
    pytest.importorskip("jupyter_console")
    place, one = fleet.place, route("pool")
    env = {**place.env, "JUPYTER_RUNTIME_DIR": str(place.root / "jupyter"), "JUPYTER_CONFIG_DIR": str(place.root / "config"),
           "IPYTHONDIR": str(place.root / "ipython"), "TERM": "dumb"}
    child = pexpect.spawn(sys.executable, ["-m", "jupyter_console", "--existing", str(one.file), "--simple-prompt"], env=env,
                          cwd=str(place.work), timeout=2 * WAIT, encoding="utf-8", echo=False, dimensions=(50, 200))
    try:
        child.expect_exact("In [1]: ")
        child.sendline("6 * 7")
        child.expect_exact("Out[1]: 42")
        child.expect_exact("In [2]: ")
        child.sendline("io.write('name? ') n = io.read() print('hello ' .. n)")
        child.expect_exact("name? ")
        child.sendline("you")
        child.expect_exact("hello you")
    finally:
        child.close(force=True)


def test_sessions_go_to_the_least_busy_kernel_and_stay_there(pool, route):
    one = route("pool")
    a, b = one.wire(), one.wire()
    assert {kernel_of(a), kernel_of(b)} == set(pool)
    assert a.stdout("x = 'a' print(x)") == "a\n" and b.stdout("print(x)") == "nil\n"
    assert a.stdout("print(x)") == "a\n" and kernel_of(a) != kernel_of(b)
    # b's kernel is busy now, so who comes next goes to a's, and to b's once that has more to do.
    busy = b.begin(LOOP)
    c = one.wire()
    assert kernel_of(c) == kernel_of(a)
    status = one.status()
    assert status["clients"] == 3 and sorted(member["sessions"] for member in status["pool"]) == [1, 2]
    assert [m["in_flight"] for m in status["pool"] if m["id"] == kernel_of(b)] == [1]
    # An interrupt of one who has nothing to interrupt does nothing; then that of the one who has.
    c.ask("control", "interrupt_request")
    b.ask("control", "interrupt_request")
    assert b.reply("shell", busy).content["ename"] == "KeyboardInterrupt"
    # They leave, and are forgotten.
    for wire in (a, b, c):
        wire.context.destroy(0)
    until(lambda: one.status()["clients"] == 0)


LISTENER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from conftest import Wire
with Wire(json.load(open(sys.argv[2]))) as wire:
    print(json.dumps([wire.session, wire.stdout("print('mine')")]), flush=True)
    sys.stdin.readline()
    header = wire.send("shell", "execute_request", {"code": "print('last')", "allow_stdin": False})
    seen = []
    while not (seen and seen[-1].parent == header and seen[-1].content.get("execution_state") == "idle"):
        seen.append(wire.recv("iopub"))
    print(json.dumps([[m.parent.get("session"), m.type] for m in seen]), flush=True)
"""


def test_a_client_gets_what_is_its_own(fleet, route):  # noqa: F811
    fleet.spawn("--name", "pool")
    one = route("pool")
    other = subprocess.Popen([sys.executable, "-c", LISTENER, ROOT / "tests", one.file], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, env={**os.environ, "LLMSPELL_BIN": os.path.dirname(program("fleet"))})
    try:
        session, said = json.loads(line(other.stdout))
        assert said == "mine\n"
        # The same kernel, another process.
        wire = one.wire()
        assert wire.stdout("print('secret')") == "secret\n"
        assert one.status()["pool"][0]["sessions"] == 2
        # A client of the kernel itself is none of the route's either.
        with Wire(fleet.connection("pool")) as direct:
            direct.stdout("print('beside')")
        other.stdin.write(b"\n")
        other.stdin.flush()
        seen = json.loads(line(other.stdout))
        assert {parent for parent, _ in seen} == {session}
        assert [kind for _, kind in seen] == ["status", "execute_input", "stream", "status"]
        assert not wire.iopub.poll(0)
    finally:
        other.stdin.close()
        other.wait(WAIT)
        other.stdout.close()


def test_who_wants_less_gets_less(pool, route):
    import zmq

    one = route("pool")
    wire = one.wire(channels=("shell", "control"))
    iopub = wire.context.socket(zmq.SUB)
    iopub.subscribe(b"stream")
    iopub.connect(endpoint(one.connection, "iopub"))
    assert iopub.poll(WAIT * 1000) and iopub.recv_multipart()[0] == b"stream"
    wire.ask("shell", "execute_request", {"code": "print('x') return 1", "allow_stdin": False})
    assert iopub.poll(WAIT * 1000) and iopub.recv_multipart()[0] == b"stream"
    wire.ask("shell", "execute_request", {"code": "print('y')", "allow_stdin": False})
    assert iopub.poll(WAIT * 1000) and b'"y\\n"' in iopub.recv_multipart()[-1]


def test_a_kernel_is_killed_with_requests_on_their_way(fleet, pool, route):  # noqa: F811
    """F37"""
    one = route("pool")
    a, b = one.wire(), one.wire()
    homes = {wire: kernel_of(wire) for wire in (a, b)}
    b.stdout("kept = 'kept'")
    running = a.begin(LOOP)
    waiting = a.send("shell", "execute_request", {"code": "print('never')", "allow_stdin": False})
    looking = a.send("shell", "complete_request", {"code": "stri", "cursor_pos": 4})
    tool = a.send("shell", "tool_request", {"command": "invoke", "name": "system_monitor", "params": {"operation": "watch"}})
    os.kill(fleet.connection(homes[a])["pid"], signal.SIGKILL)
    replies = {message.parent["msg_id"]: message for message in [a.recv("shell") for _ in range(4)]}
    for header in (running, waiting):
        content = replies[header["msg_id"]].content
        assert (content["status"], content["ename"], content["class"]) == ("error", "RemoteError", "remote")
        assert homes[a] in content["evalue"] and "another kernel" in content["hint"]
    # What only looks was asked again; the tool may or may not have been quick enough to fail by itself.
    assert replies[looking["msg_id"]].content["matches"] and tool["msg_id"] in replies
    published = {}
    while not all(any(m.content.get("execution_state") == "idle" for m in published.get(h["msg_id"], [])) for h in (running, waiting)):
        message = a.recv("iopub")
        published.setdefault(message.parent["msg_id"], []).append(message)
    assert [m.type for m in published[waiting["msg_id"]]] == ["error", "status"]
    assert one.event("left", homes[a])["text"].startswith("left the pool: ")
    # The session goes on, and is told so once; the other one noticed nothing.
    reply, messages = a.execute("print(x)")
    assert reply["status"] == "ok" and text(messages) == "nil\n"
    assert text(messages, "stderr") == \
        f"kernel {homes[a]} went away; this session goes on in {homes[b]}, without what it had set there\n"
    assert a.execute("print(1)")[1][-1] == ("stream", {"name": "stdout", "text": "1\n"})
    assert kernel_of(a) == homes[b] and b.stdout("print(kept)") == "kept\n"


def test_kernels_come_and_go(fleet, route):  # noqa: F811
    one = route("pool")
    wire = one.wire()
    reply = wire.ask("shell", "execute_request", {"code": "1", "allow_stdin": False}).content
    assert reply["evalue"] == "route: no kernel of the pool is ready" and reply["class"] == "remote"
    assert fleet.row("route", "health")["state"] == "degraded"
    first, = fleet.spawn("--name", "other")
    ids = fleet.spawn("--name", "pool", "--count", "2")
    for name in ids:
        one.event("joined", name)
    assert kernel_of(wire) in ids and first not in {member["id"] for member in one.status()["pool"]}
    # Of those that are to go nobody hears an error.
    home = kernel_of(wire)
    fleet("stop", home)
    one.event("left", home)
    assert wire.stdout("print('still')") == "still\n" and kernel_of(wire) == next(iter(set(ids) - {home}))
    fleet("restart", kernel_of(wire))
    one.event("joined", next(iter(set(ids) - {home})))
    assert wire.stdout("print('again')") == "again\n"


def test_what_is_routed_is_chosen_by_name_label_and_file(fleet, route, kernel, place):  # noqa: F811
    red, = fleet.spawn("--name", "red", "-l", "colour=red")
    fleet.spawn("--name", "blue", "-l", "colour=blue")
    beside = kernel("--connection-file", place.work / "beside.json", "--id", "beside")
    routes = {"by-label": ["-l", "colour=red"], "by-name": ["blue"], "by-file": [str(place.work / "beside.json")], "by-none": []}
    for name, words in routes.items():
        routes[name] = {member["id"] for member in route("--name", name, *words).status()["pool"]}
    assert routes == {"by-label": {red}, "by-name": {"blue"}, "by-file": {"beside"}, "by-none": {"red", "blue", "beside"}}
    assert beside.pid


def test_one_name_is_one_route_and_no_kernels(fleet, pool, route):  # noqa: F811
    route("pool")
    again = fleet("route", "pool", code=6)
    assert again.err.startswith("llmspell-fleet: route: ") and "held by running process" in again.err
    for name in ("pool", "pool-1"):
        done = fleet("route", "--name", name, code=6)
        assert done.err == f"llmspell-fleet: {name}: kernels are called so\nGive the route another --name.\n"
    done = fleet("restart", "route", code=6)
    assert "is a route, not a kernel" in done.err
    assert fleet("route", "--name", "a/b", code=2).err.startswith("llmspell-fleet: --name: kernel id")


def test_a_route_that_was_killed_comes_back_to_its_clients(pool, route, fleet):  # noqa: F811
    one = route("pool")
    wire = one.wire()
    assert wire.stdout("print(1)") == "1\n"
    one.child.kill()
    one.child.wait()
    assert fleet.row("route")["state"] == "dead"
    two = route("pool")
    assert {k: v for k, v in two.connection.items() if k not in ("pid", "started")} == \
        {k: v for k, v in one.connection.items() if k not in ("pid", "started")}
    # The sockets connect again by themselves; a subscription is welcomed anew.
    assert wire.recv("iopub").type == "iopub_welcome"
    assert wire.stdout("print(2)") == "2\n"


def test_questions_go_to_who_asked(pool, route):
    one = route("pool")
    a, b = one.wire(), one.wire()
    asked = {wire: wire.send("shell", "execute_request", {"code": "print(io.read())", "allow_stdin": True}) for wire in (a, b)}
    for wire, header in asked.items():
        question = wire.recv("stdin")
        assert question.type == "input_request" and question.parent == header
        wire.send("stdin", "input_reply", {"value": wire.session}, parent=question.header)
    for wire, header in asked.items():
        assert wire.reply("shell", header).content["status"] == "ok"
        assert text([(m.type, m.content) for m in wire.published(header)]) == wire.session + "\n"


def test_one_client_does_not_end_what_others_use(pool, route):
    one = route("pool")
    wire = one.wire()
    reply, messages = wire.do("control", "shutdown_request", {"restart": False})
    assert (reply.type, reply.content["class"]) == ("shutdown_reply", "denied") and len(messages) == 2
    assert wire.ask("control", "connect_request").content["iopub_port"] == one.connection["iopub_port"]
    assert wire.stdout("print(1)") == "1\n" and len(one.status()["pool"]) == 2


def test_forgeries_and_garbage_are_dropped(fleet, pool, route):  # noqa: F811
    one = route("pool")
    wire = one.wire()
    with Wire(one.connection, key="wrong", channels=("shell", "control", "stdin")) as forger:
        for channel in ("shell", "control", "stdin"):
            forger.send(channel, "execute_request", {"code": "os.exit(3)"})
        for frames in ([b""], [b"<IDS|MSG>"], [b"a"] * 900, [b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"{}"]):
            forger.shell.send_multipart(frames)
        assert not forger.shell.poll(200)
    with Wire(one.connection, channels=("shell",)) as odd:
        for header in (b"{", b"[]", b"{}", b'{"msg_id": 5}', b"\xff"):
            odd.shell.send_multipart(odd.frames(header, {}))
        odd.shell.send_multipart(odd.frames(odd.header("kernel_info_request"), b"not json"))
        # What the kernel drops is nothing the route waits for with others.
        assert odd.ask("shell", "kernel_info_request").content["status"] == "ok"
    status = one.status()
    assert status["errors"]["signature"] >= 4 and status["errors"]["framing"] >= 2 and status["errors"]["json"] == 5
    assert wire.stdout("print('fine')") == "fine\n"


def raw(connection, channel):
    path = f"{connection['ip']}-{connection[channel + '_port']}"
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(WAIT)
    peer.connect(path)
    return peer


GREETING = b"\xff" + bytes(7) + b"\x01\x7f\x03\x00NULL" + bytes(48)
READY = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


def test_bytes_that_are_no_zmtp_end_their_connection_only(pool, route):
    one = route("pool")
    wire = one.wire()
    dice = random.Random(1)
    for bad in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" + bytes(8) + b"\x00", GREETING[:12] + b"CURVE" + bytes(47),
                GREETING + b"\x00\x01x", GREETING + READY + b"\x02" + b"\x7f" + b"\xff" * 7, GREETING + READY + b"\xf0\x00",
                GREETING + b"\x04\x06\x05ERROR", *(GREETING + READY + dice.randbytes(200) for _ in range(50))):
        for channel in ("shell", "iopub", "hb"):
            with raw(one.connection, channel) as peer:
                try:
                    peer.sendall(bad)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(4096):
                        pass
                except ConnectionError:
                    pass
    # One that says nothing, and one that stops in the middle, hold nobody up.
    with raw(one.connection, "shell"), raw(one.connection, "shell") as half:
        half.sendall(GREETING + READY + b"\x02\x00\x00\x00\x00\x0f\x00\x00\x00" + b"x" * 1000)
        assert wire.stdout("print('fine')") == "fine\n"
    assert len(one.status()["pool"]) == 2


def test_many_connections_are_refused_when_there_is_no_room(pool, route, place):
    one = route("pool")
    wire = one.wire()
    limits = pathlib.Path(f"/proc/{one.child.pid}/limits").read_text()
    assert re.search(r"Max open files +(\d+) +\1", limits)
    subprocess.run(["prlimit", f"--pid={one.child.pid}", "--nofile=64:64"], check=True)
    peers = [raw(one.connection, "shell") for _ in range(100)]
    assert wire.stdout("print('fine')") == "fine\n"
    for peer in peers:
        peer.close()
    late = one.wire()
    assert late.stdout("print('late')") == "late\n"


SLOW = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from conftest import Wire
wire = Wire(json.load(open(sys.argv[2])), room=1)
wire.send("shell", "execute_request", {"code": "print('go') for i = 1, 4000 do display(string.rep('x', 10000)) end", "allow_stdin": False})
print("sent", flush=True)
sys.stdin.readline()
"""


def test_one_that_does_not_read_harms_nobody(fleet, route):  # noqa: F811
    fleet.spawn("--name", "pool", "--count", "2")
    one = route("pool")
    slow = subprocess.Popen([sys.executable, "-c", SLOW, ROOT / "tests", one.file], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, env={**os.environ, "LLMSPELL_BIN": os.path.dirname(program("fleet"))})
    try:
        assert line(slow.stdout) == "sent\n"
        wire = one.wire()
        assert wire.stdout("print('fine')") == "fine\n"
        # Its kernel ends what it does, as after a while it is not waited for.
        until(lambda: not any(member["in_flight"] for member in one.status()["pool"]))
        until(lambda: one.status()["errors"].get("lost_messages"))
        assert one.status()["errors"]["slow_subscriber"] == 1
        assert one.status()["rss_bytes"] < 100e6
    finally:
        slow.stdin.close()
        slow.wait(WAIT)
        slow.stdout.close()


def test_much_output_arrives_whole(pool, route):
    one = route("pool")
    wire = one.wire()
    count = 20_000
    assert wire.stdout(f"for i = 1, {count} do print('line ' .. i) end") == "".join(f"line {i}\n" for i in range(1, count + 1))
    big = wire.stdout("print(string.rep('x', 5000000))")
    assert len(big) == 5_000_001
    requests = [wire.send("shell", "execute_request", {"code": f"print({i})", "allow_stdin": False}) for i in range(500)]
    assert [wire.recv("shell").parent["msg_id"] for _ in requests] == [header["msg_id"] for header in requests]


def test_it_waits_without_looking_round(pool, route):
    one = route("pool")
    one.wire().stdout("print(1)")

    def switches():
        status = pathlib.Path(f"/proc/{one.child.pid}/status").read_text()
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])

    import time
    time.sleep(0.3)
    before = switches()
    time.sleep(2)
    # The time limit of a handshake may pass once.
    assert switches() - before <= 1
    assert len(os.listdir(f"/proc/{one.child.pid}/task")) == 1


def test_the_end_answers_what_is_on_its_way(pool, route):
    one = route("pool")
    wire = one.wire()
    header = wire.begin(LOOP)
    with Watched(one.child.pid) as watched:
        one.child.terminate()
        reply = wire.reply("shell", header)
        assert reply.content["evalue"] == "route: the route is stopping"
        assert lines(wire, header)[-1] == "status"
        assert watched.ended()


def test_a_service_manager_is_told(pool, route, place):
    name = place.root / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(WAIT)
        manager.bind(str(name))
        one = route("pool", env={"NOTIFY_SOCKET": str(name)})
        assert manager.recv(1000) == b"READY=1" and manager.recv(1000) == b"STATUS=routing to 2 of 2 kernels"
        one.child.terminate()
        assert manager.recv(1000) == b"STOPPING=1"


def test_no_secret_is_shown(pool, route, fleet):  # noqa: F811
    one = route("pool")
    keys = {one.connection["key"], *(fleet.connection(name)["key"] for name in pool)}
    _, out, err = one.end()
    told = json.dumps(one.ready) + json.dumps(one.seen) + out.decode() + err
    assert not any(key in told for key in keys)


def test_the_example_of_the_page_on_services_runs(fleet):  # noqa: F811
    env = {**fleet.place.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
    # The home is where the page says.
    (fleet.place.root / ".llmspell").symlink_to(fleet.place.home)
    typed = between((ROOT / "man/llmspell-service.7").read_text(), "pool")
    ready = {"route": "kernel/route-pool.json", "serve": "fleet/serve.sock"}
    for name, file in ready.items():
        # A person takes longer to type the next line than they to start.
        typed = re.sub(rf"(fleet {name} .*&)$", rf"\1 for i in $(seq 300); do [ -e ~/.llmspell/{file} ] && break; sleep .1; done",
                       typed, flags=re.M)
    done = subprocess.run(["bash", "-c", typed + "kill %2; wait"], env=env, cwd=fleet.place.work, capture_output=True, text=True,
                          timeout=2 * WAIT)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "42\n" in done.stdout and '"healthy":true' in done.stdout
