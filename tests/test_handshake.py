"""Started with a registration file: the kernel chooses its ports and tells the launcher."""
import hashlib
import hmac
import json
import os
import signal
import time
import uuid

import pytest
import zmq
from conftest import WAIT, Kernel, Wire, ended


class Launcher:
    """The registration socket of "Kernel startup handshake", and the file that tells of it."""

    def __init__(self, place, transport="tcp", kernel_id=None, socket=zmq.ROUTER, **changes):
        self.key, self.context = uuid.uuid4().hex, zmq.Context()
        self.socket = self.context.socket(socket)
        self.socket.linger = 0
        if transport == "tcp":
            ip, port = "127.0.0.1", self.socket.bind_to_random_port("tcp://127.0.0.1")
        else:
            ip, port = str(place.run / "launcher"), 1
            self.socket.bind(f"ipc://{ip}-{port}")
        self.file = place.root / f"registration-{uuid.uuid4().hex[:6]}.json"
        self.text = json.dumps({"kernel_id": kernel_id or str(uuid.uuid4()), "transport": transport, "registration_ip": ip,
                                "registration_port": port, "signature_scheme": "hmac-sha256", "key": self.key, **changes})
        self.file.write_text(self.text)
        self.file.chmod(0o600)
        self.info = json.loads(self.text)

    def sign(self, content):
        return hmac.new(self.key.encode(), content, hashlib.sha256).hexdigest().encode() if self.key else b""

    def take(self):
        """The kernel's message, as (routing frames, connection)."""
        assert self.socket.poll(WAIT * 1000), "the kernel does not register"
        frames = self.socket.recv_multipart()
        at = frames.index(b"<IDS|MSG>")
        signature, content = frames[at + 1 :]
        assert signature == self.sign(content)
        connection = json.loads(content)
        ports = {name: connection.pop(name) for name in ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")}
        assert connection == {"kernel_id": self.info["kernel_id"]} and all(isinstance(port, str) for port in ports.values())
        return frames[:at], {"transport": self.info["transport"], "ip": self.info["registration_ip"], "key": self.key,
                             "signature_scheme": "hmac-sha256", **{name: int(port) for name, port in ports.items()}}

    def acknowledge(self, routing, content=b"ACK"):
        self.socket.send_multipart([*routing, b"<IDS|MSG>", self.sign(content), content])

    def end(self):
        self.context.destroy(0)


@pytest.fixture
def launcher(place):
    launchers = []

    def launcher(**options):
        launchers.append(Launcher(place, **options))
        return launchers[-1]

    yield launcher
    for one in launchers:
        one.end()


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_the_launcher_is_told_and_its_clients_connect(place, start, launcher, transport):
    there = launcher(transport=transport)
    child = start("kernel", "-f", there.file, "--json")
    routing, connection = there.take()
    assert there.socket.poll(0) == 0 and not (place.home / "kernel" / f"{there.info['kernel_id']}.json").exists()
    there.acknowledge(routing)
    with Wire(connection) as wire:
        assert wire.ask("shell", "kernel_info_request").content["kernel_id"] == there.info["kernel_id"]
        assert wire.stdout("print(6 * 7)") == "42\n"
        # Others find it by its own connection file; the launcher's stays as it was, and no history outlives it.
        own = json.loads((place.home / "kernel" / f"{there.info['kernel_id']}.json").read_text())
        assert {name: own[name] for name in connection} == connection
        assert wire.ask("control", "shutdown_request").content["status"] == "ok"
    assert ended(child) == 0
    assert there.file.read_text() == there.text
    assert not [path for path in place.home.rglob("*") if path.is_file() and path.parent.name not in ("logs", "store")]
    assert [path.name for path in place.run.glob("launcher*")] == (["launcher-1"] if transport == "ipc" else [])


def test_jupyter_client_connects_to_what_was_registered(start, launcher):
    from jupyter_client import BlockingKernelClient

    there = launcher()
    child = start("kernel", "-f", there.file)
    routing, connection = there.take()
    there.acknowledge(routing, b'{"status":"ok"}')
    client = BlockingKernelClient()
    client.load_connection_info(connection)
    client.start_channels()
    client.wait_for_ready(timeout=WAIT)
    client.shutdown()
    assert client.get_control_msg(timeout=WAIT)["content"]["status"] == "ok"
    client.stop_channels()
    assert ended(child) == 0


def test_one_launcher_many_kernels(start, launcher):
    """What the handshake is for: no two of them take the same port."""
    there = launcher(kernel_id="same")
    for _ in range(5):
        there.info["kernel_id"] = str(uuid.uuid4())
        there.file.write_text(json.dumps(there.info))
        start("kernel", "-f", there.file)
        routing, connection = there.take()
        there.acknowledge(routing)
        with Wire(connection) as wire:
            assert wire.ask("control", "status_request").content["id"] == there.info["kernel_id"]


def test_an_answer_of_somebody_else_is_none(start, launcher):
    there = launcher()
    child = start("kernel", "-f", there.file)
    routing, connection = there.take()
    there.socket.send_multipart([*routing, b"<IDS|MSG>", b"0" * 64, b"ACK"])
    there.socket.send_multipart([*routing, b"ACK"])
    there.acknowledge(routing)
    with Wire(connection) as wire:
        assert wire.ask("shell", "kernel_info_request").content["status"] == "ok"
    child.terminate()
    assert ended(child) == 0


def test_nobody_acknowledges(start, launcher, place):
    there = launcher()
    begin = time.monotonic()
    child = start("kernel", "-f", there.file)
    there.take()
    out, err = child.communicate(timeout=WAIT)
    assert child.returncode == 7 and time.monotonic() - begin > 5, err
    assert b"nobody acknowledges" in err
    assert not [path for path in place.home.rglob("*") if path.is_file() and path.parent.name not in ("logs", "store")]


def test_a_signal_ends_the_wait(start, launcher):
    there = launcher()
    child = start("kernel", "-f", there.file)
    there.take()
    child.send_signal(signal.SIGTERM)
    assert ended(child, 5) == 130


@pytest.mark.parametrize("changes,code,words", [
    ({"signature_scheme": "hmac-md5"}, 10, "hmac-md5"),
    ({"curve_publickey": "x" * 40, "curve_secretkey": "x" * 40}, 10, "CurveZMQ"),
    ({"registration_port": "door"}, 3, "registration"),
])
def test_files_that_cannot_be_served(run, launcher, changes, code, words):
    there = launcher(**changes)
    done = run("kernel", "-f", there.file)
    assert done.code == code and words in done.err, done


def test_a_file_others_can_read_is_refused(run, launcher):
    there = launcher()
    os.chmod(there.file, 0o644)
    done = run("kernel", "-f", there.file)
    assert done.code == 4 and "others can read its key" in done.err
