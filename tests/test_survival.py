"""What a kernel has to stand: many clients, large messages, clients that stop reading or reading what they asked for."""
import contextlib
import os
import pathlib
import re
import resource
import socket
import time

import pytest
import zmq
from conftest import CHANNELS, WAIT, Watched, endpoint

CLIENTS = 500
BIG = 100 << 20


def limits(pid):
    line = re.search(r"^Max open files +(\d+) +(\d+)", pathlib.Path(f"/proc/{pid}/limits").read_text(), re.M)
    return int(line[1]), int(line[2])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def open_files(soft):
    """What is started meanwhile has this limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_500_idle_clients(kernel, transport):
    """Five connections each, more than the limit of descriptors most systems start with; the kernel raises its own."""
    with open_files(256) as hard:
        if hard < 8 * CLIENTS:
            pytest.skip(f"only {hard} descriptors may be open here")
        one = kernel("--transport", transport)
    assert limits(one.pid)[0] >= 8 * CLIENTS
    wire, before = one.wire(), descriptors(one.pid)
    with open_files(hard):
        context = zmq.Context()
        context.max_sockets = 6 * CLIENTS
        try:
            subscribers = []
            for _ in range(CLIENTS):
                for channel in CHANNELS:
                    client = context.socket({"iopub": zmq.SUB, "hb": zmq.REQ}.get(channel, zmq.DEALER))
                    client.linger = 0
                    if channel == "iopub":
                        client.subscribe(b"")
                        subscribers.append(client)
                    client.connect(endpoint(one.connection, channel))
            for subscriber in subscribers:
                assert subscriber.poll(WAIT * 1000), "no welcome"
                assert subscriber.recv_multipart()[0] == b""
            status = wire.ask("control", "status_request").content
            assert status["clients"] == CLIENTS + 1
            begin = time.monotonic()
            assert wire.stdout("print('here')") == "here\n"
            assert time.monotonic() - begin < 5
            for subscriber in subscribers:  # all of them followed it
                assert subscriber.poll(WAIT * 1000), "nothing of what ran"
        finally:
            context.destroy(0)
    deadline = time.monotonic() + WAIT
    while descriptors(one.pid) > before + 5:
        assert time.monotonic() < deadline, "connections of clients that are gone"
        wire.ask("control", "status_request")
    assert wire.ask("control", "status_request").content["errors"]["slow_subscriber"] == 0


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_messages_of_100_MB(kernel, transport):
    wire = kernel("--transport", transport).wire()
    assert wire.execute(f"--[[{'x' * BIG}]] return 1", silent=True)[0]["status"] == "ok"
    assert wire.ask("shell", "kernel_info_request", buffers=[b"\0" * BIG]).content["status"] == "ok"
    assert len(wire.stdout(f"local s = ('y'):rep(1 << 20) for i = 1, {BIG >> 20} do io.write(s) end")) == BIG
    assert wire.execute("return 1")[0]["status"] == "ok"


def test_a_frame_beyond_the_limit_ends_its_connection_alone(kernel):
    one = kernel("--port", "0")
    wire = one.wire()
    with zmq.Context() as context:
        sender = context.socket(zmq.DEALER)
        sender.linger = 0
        monitor = sender.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        sender.connect(endpoint(one.connection, "shell"))
        sender.send(bytes((256 << 20) + 1))
        assert monitor.poll(WAIT * 1000), "still connected"
        sender.disable_monitor()
        monitor.close()
        sender.close()
    assert wire.execute("return 1")[0]["status"] == "ok"


def test_a_subscriber_that_is_500_messages_behind_loses_the_rest_alone(kernel):
    """It gets what fits, in order and from the first; who reads gets everything, and nobody waits long."""
    one = kernel()
    wire, lazy = one.wire(), one.wire(room=1)

    def shown(reader, header):
        found = []
        while not found or found[-1] != "idle":
            message = reader.recv("iopub")
            if message.parent == header and message.type == "display_data":
                found.append(int(message.content["data"]["text/plain"]))
            elif message.parent == header and message.content.get("execution_state") == "idle":
                found.append("idle")
        return found[:-1]

    def show(count):
        return wire.send("shell", "execute_request", {"code": f"for i = 1, {count} do display(i) end", "allow_stdin": False})

    few = show(450)
    assert shown(wire, few) == list(range(1, 451))
    assert shown(lazy, few) == list(range(1, 451)), "less than the queue: it may take its time"
    many, begin = show(20_000), time.monotonic()
    assert shown(wire, many) == list(range(1, 20_001))
    assert time.monotonic() - begin < 20
    assert wire.ask("control", "status_request").content["errors"]["slow_subscriber"] > 0
    found = []
    while lazy.iopub.poll(1000):
        message = lazy.recv("iopub")
        if message.parent == many and message.type == "display_data":
            found.append(int(message.content["data"]["text/plain"]))
    assert len(found) >= 500 and found[:500] == list(range(1, 501)), "its queue was shorter than stated"
    # It reads again, so it gets again.
    last = show(3)
    assert shown(lazy, last) == shown(wire, last) == [1, 2, 3]


def test_replies_nobody_reads_hold_up_nobody(kernel):
    one = kernel()
    wire, deaf = one.wire(), one.wire(channels=("shell", "control"), room=1)
    for count in range(20_000):
        deaf.send("shell", "is_complete_request", {"code": "x = 1"})
        if count % 1000 == 0:
            assert wire.ask("control", "status_request", timeout=10).content["status"] == "ok"
    deadline = time.monotonic() + WAIT
    while wire.ask("control", "status_request").content["queue"]:
        assert time.monotonic() < deadline
    assert wire.execute("return 1")[0]["status"] == "ok"


def test_clients_of_one_identity_at_the_same_time(kernel):
    """The one that came last is answered; the others do no harm."""
    one = kernel()
    first = [one.wire(session="same") for _ in range(5)]
    last = one.wire(session="same")
    for number in range(20):
        for wire in first:
            wire.send("shell", "execute_request", {"code": f"n = {number}"})
        assert last.ask("control", "status_request").content["status"] == "ok"
    other = one.wire()
    assert other.stdout("print('here')") == "here\n"


def test_clients_that_come_and_go(kernel):
    one = kernel("--port", "0")
    wire, before = one.wire(), descriptors(one.pid)
    for _ in range(200):
        with one.wire(channels=("shell", "iopub")) as brief:
            brief.send("shell", "execute_request", {"code": "print(1)"})
    assert wire.stdout("print('here')") == "here\n"
    deadline = time.monotonic() + WAIT
    while descriptors(one.pid) > before + 5:
        assert time.monotonic() < deadline, "their connections stay"
        wire.ask("control", "status_request")
    assert wire.ask("control", "status_request").content["clients"] == 1


def test_what_is_no_ZeroMQ_does_no_harm(kernel):
    one = kernel("--port", "0")
    with contextlib.ExitStack() as stack:
        for channel in CHANNELS:
            for words in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100, b"\xff" * 5000, b"", bytes(range(256)) * 1000):
                stranger = stack.enter_context(socket.create_connection(("127.0.0.1", one.connection[f"{channel}_port"])))
                with contextlib.suppress(ConnectionError):
                    stranger.sendall(words)
        assert one.wire().stdout("print('here')") == "here\n"
    assert one.wire().stdout("print('still')") == "still\n"


@pytest.mark.parametrize("taken", range(5))
def test_all_five_ports_or_none(run, kernel, place, taken):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    ports = [one.getsockname()[1] for one in held]
    for at, one in enumerate(held):
        if at != taken:
            one.close()
    done = run("kernel", "--ports", ",".join(map(str, ports)))
    held[taken].close()
    assert done.code == 6 and str(ports[taken]) in done.err, done
    assert not list((place.home / "kernel").glob("*"))
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def test_faults_are_logged_once_per_kind_and_interval(kernel):
    one = kernel()
    wire, stranger = one.wire(), one.wire(key="f" * 64, channels=("shell",))
    for _ in range(500):
        stranger.send("shell", "kernel_info_request")
        wire.control.send_multipart([b"garbage"])
    while wire.ask("control", "status_request").content["errors"]["signature"] < 500:
        pass
    log = one.err() + "".join(path.read_text() for path in one.place.home.glob("logs/*") if path.is_file())
    assert (log.count("signature missing or wrong"), log.count("frames do not make a message")) == (1, 1), log[-2000:]
    with Watched(one.pid) as watched:
        assert not watched.ended(0)
