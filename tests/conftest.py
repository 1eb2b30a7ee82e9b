"""Shared by all tests: a place of its own for each, programs to run in it, and two kinds of client.

Nothing here sleeps to wait: readiness is the line a kernel prints, the end of a process is its pidfd, messages are polled for.
"""
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import queue
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import types
import uuid
from datetime import datetime, timezone

import pytest
import zmq

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("LLMSPELL_BIN") or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug")
WAIT = 30  # seconds: far longer than anything takes, so that only a hang fails
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


def tools(preset="full"):
    """The names of the tools in a build, from llmspell-builds(7), which the tests of the library compare with the list."""
    page, names = (ROOT / "man" / "llmspell-builds.7").read_text(), []
    for one in ("minimal", "common", "full"):
        listed = page.split(f'.\\" begin {one}\n')[1].split(f'.\\" end {one}\n')[0]
        names += listed.replace(",", " ").split()
        if one == preset:
            return sorted(names)


if not (BIN / "llmspell-kernel").exists():
    pytest.exit(f"{BIN}: no programs here; use tests/run, or set LLMSPELL_BIN", 5)


def program(name):
    return str(BIN / f"llmspell-{name}")


class Place:
    """A home, a runtime folder, a temporary folder and a working folder that nobody else uses, with short paths for sockets."""

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="ls-"))
        self.home, self.run, self.tmp, self.work = (self.root / name for name in ("home", "run", "tmp", "work"))
        for folder in (self.home, self.run, self.tmp, self.work):
            folder.mkdir(mode=0o700)
        keep = {name: os.environ[name] for name in ("PATH", "USER", "LLVM_PROFILE_FILE") if name in os.environ}
        self.env = {**keep, "HOME": str(self.root), "LLMSPELL_HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.run),
                    "TMPDIR": str(self.tmp), "LANG": "C.UTF-8", "RUST_BACKTRACE": "1"}

    def write(self, name, text, mode=None):
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        if mode is not None:
            path.chmod(mode)
        return path

    def config(self, text):
        (self.home / "config.toml").write_text(text)


@pytest.fixture
def place():
    place = Place()
    yield place
    shutil.rmtree(place.root)


class Done(types.SimpleNamespace):
    """How a program ended: code, out, err (text), raw (bytes of out)."""

    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(place):
    """run("tool", "list", …): runs a program to its end."""

    def run(name, *args, input=b"", env=None, cwd=None, timeout=WAIT, before=()):
        words = [arg if isinstance(arg, bytes) else str(arg) for arg in args]
        done = subprocess.run([*before, program(name), *words], input=input.encode() if isinstance(input, str) else input,
                              capture_output=True, timeout=timeout, cwd=cwd or place.work, env={**place.env, **(env or {})})
        err = done.stderr.decode()
        assert "panicked at" not in err, err
        return Done(code=done.returncode, out=done.stdout.decode(errors="replace"), raw=done.stdout, err=err)

    return run


@pytest.fixture
def start(place):
    """start("run", …): a program with pipes, killed at the end if it still runs."""
    with contextlib.ExitStack() as stack:

        def start(name, *args, env=None, cwd=None, stdin=subprocess.PIPE, **more):
            child = subprocess.Popen([program(name), *map(str, args)], stdin=stdin, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, cwd=cwd or place.work, env={**place.env, **(env or {})}, **more)
            stack.callback(finish, child)
            return child

        yield start


def finish(child):
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


class Watched:
    """The end of any process, also one that is no child: `with Watched(pid) as w: …; assert w.ended()`."""

    def __init__(self, pid):
        self.fd = os.pidfd_open(pid)

    def ended(self, timeout=WAIT):
        return bool(select.select([self.fd], [], [], timeout)[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)


def ended(child, timeout=WAIT):
    """The exit status of a child, for which it waits without polling."""
    if child.poll() is not None:
        return child.returncode
    with Watched(child.pid) as watched:
        assert watched.ended(timeout), f"process {child.args} does not end"
    return child.wait()


def children(pid):
    return [int(child) for task in os.listdir(f"/proc/{pid}/task")
            for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]


def line(pipe, timeout=WAIT):
    """The next line of a pipe, newline included; empty at its end."""
    text = b""
    while not text.endswith(b"\n"):
        assert select.select([pipe], [], [], timeout)[0], f"no line within {timeout} s, only {text!r}"
        byte = os.read(pipe.fileno(), 1)
        if not byte:
            break
        text += byte
    return text.decode()


class Kernel:
    """A running kernel."""

    def __init__(self, place, *args, env=None, cwd=None):
        self.place, self.stack, self.expected = place, contextlib.ExitStack(), 0
        self.log = open(place.root / f"kernel-{uuid.uuid4().hex[:6]}.err", "w+b")
        self.child = subprocess.Popen([program("kernel"), "--json", *map(str, args)], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=self.log, cwd=cwd or place.work,
                                      env={**place.env, **(env or {})})
        ready = line(self.child.stdout)
        assert ready, f"kernel ended with {self.child.wait()}: {self.err()}"
        self.ready = json.loads(ready)
        self.id, self.pid, self.file = self.ready["id"], self.ready["pid"], pathlib.Path(self.ready["connection_file"])
        self.connection = json.loads(self.file.read_text())

    def err(self):
        return pathlib.Path(self.log.name).read_text()

    def wire(self, **options):
        return self.stack.enter_context(Wire(self.connection, **options))

    def client(self):
        """jupyter_client's client, connected."""
        from jupyter_client import BlockingKernelClient

        client = BlockingKernelClient()
        client.load_connection_file(str(self.file))
        client.start_channels()
        self.stack.callback(client.stop_channels)
        client.wait_for_ready(timeout=WAIT)
        return client

    def status(self):
        with Wire(self.connection, channels=("control",)) as wire:
            return wire.ask("control", "status_request").content

    def kill(self):
        """kill -9, which the end of the test is then prepared for."""
        self.expected = -signal.SIGKILL
        self.child.kill()
        self.child.wait()

    def ended(self, timeout=WAIT):
        return ended(self.child, timeout)

    def stop(self):
        self.stack.close()
        try:
            if self.child.poll() is None:
                self.child.terminate()
            code = self.ended()
        finally:
            self.child.kill()
            self.child.wait()
            self.child.stdout.close()
            self.log.close()
        assert "panicked at" not in self.err(), self.err()
        assert code == self.expected, f"kernel ended with {code}: {self.err()}"


@pytest.fixture
def kernel(place):
    """kernel("--port", "0", …): starts a kernel and waits until it is ready; every one must end cleanly."""
    kernels = []

    def kernel(*args, **options):
        kernels.append(Kernel(place, *args, **options))
        return kernels[-1]

    yield kernel
    with contextlib.ExitStack() as stack:
        for one in kernels:
            stack.callback(one.stop)


def endpoint(connection, channel):
    separator = "-" if connection["transport"] == "ipc" else ":"
    return f"{connection['transport']}://{connection['ip']}{separator}{connection[channel + '_port']}"


class Wire:
    """A client on raw ZeroMQ sockets: what is sent and what comes back, frame by frame."""

    def __init__(self, connection, key=None, session=None, channels=CHANNELS, room=0):
        self.key = (connection["key"] if key is None else key).encode()
        self.session, self.count, self.context = session or uuid.uuid4().hex, 0, zmq.Context()
        for channel in channels:
            kind = {"iopub": zmq.SUB, "hb": zmq.REQ}.get(channel, zmq.DEALER)
            socket = self.context.socket(kind)
            socket.linger = 0
            socket.rcvhwm, socket.sndhwm = room, 0
            if kind == zmq.DEALER:
                socket.identity = self.session.encode()
            if kind == zmq.SUB:
                socket.subscribe(b"")
            socket.connect(endpoint(connection, channel))
            setattr(self, channel, socket)
        if "iopub" in channels:
            # What others are told may come before it; from here on nothing is lost.
            while (welcome := self.recv("iopub")).type != "iopub_welcome":
                pass
            self.welcome = welcome

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.destroy(0)

    def header(self, msg_type):
        self.count += 1
        return {"msg_id": f"{self.session}_{self.count}", "session": self.session, "username": "test", "msg_type": msg_type,
                "version": "5.4", "date": datetime.now(timezone.utc).isoformat()}

    def sign(self, parts):
        return hmac.new(self.key, b"".join(parts), hashlib.sha256).hexdigest().encode() if self.key else b""

    def frames(self, header, content, parent=None, metadata=None, buffers=(), prefix=()):
        """Signed frames; dicts are encoded, bytes are taken as they are."""
        parts = [part if isinstance(part, bytes) else json.dumps(part).encode()
                 for part in (header, parent or {}, metadata or {}, content)]
        return [*prefix, b"<IDS|MSG>", self.sign(parts), *parts, *buffers]

    def send(self, channel, msg_type, content=None, **more):
        """Returns the header that was sent."""
        header = self.header(msg_type)
        getattr(self, channel).send_multipart(self.frames(header, content or {}, **more))
        return header

    def recv(self, channel, timeout=WAIT):
        socket = getattr(self, channel)
        assert socket.poll(timeout * 1000), f"no message on {channel} within {timeout} s"
        frames = socket.recv_multipart()
        at = frames.index(b"<IDS|MSG>")
        parts = frames[at + 2 : at + 6]
        assert frames[at + 1] == self.sign(parts), "signature"
        header, parent, metadata, content = map(json.loads, parts)
        return types.SimpleNamespace(idents=frames[:at], type=header["msg_type"], header=header, parent=parent,
                                     metadata=metadata, content=content, buffers=frames[at + 6 :])

    def reply(self, channel, header, timeout=WAIT):
        """The answer to what was sent with this header, which must be the next message there."""
        message = self.recv(channel, timeout)
        assert message.parent == header, f"answers another request: {message}"
        return message

    def ask(self, channel, msg_type, content=None, timeout=WAIT, **more):
        return self.reply(channel, self.send(channel, msg_type, content, **more), timeout)

    def published(self, header, timeout=WAIT):
        """All messages on iopub that belong to a request, up to its idle; others in between are dropped."""
        messages = []
        while not (messages and messages[-1].content.get("execution_state") == "idle"):
            message = self.recv("iopub", timeout)
            if message.parent == header:
                messages.append(message)
        return messages

    def do(self, channel, msg_type, content=None, timeout=WAIT, **more):
        """(reply, messages on iopub)"""
        header = self.send(channel, msg_type, content, **more)
        return self.reply(channel, header, timeout), self.published(header, timeout)

    def execute(self, code, wait=WAIT, **content):
        """(content of the reply, what was published between busy and idle as (type, content))"""
        reply, messages = self.do("shell", "execute_request", {"code": code, "allow_stdin": False, **content}, wait)
        assert [m.content["execution_state"] for m in (messages[0], messages[-1])] == ["busy", "idle"]
        return reply.content, [(m.type, m.content) for m in messages[1:-1]]

    def stdout(self, code, **content):
        """What a script that must succeed prints."""
        reply, messages = self.execute(code, **content)
        assert reply["status"] == "ok", reply
        return text(messages)

    def begin(self, code, **content):
        """Starts a script that prints `go` when it is about to block; returns its header once it did."""
        header = self.send("shell", "execute_request", {"code": code, "allow_stdin": False, **content})
        while True:
            message = self.recv("iopub")
            if message.parent == header and message.type == "stream" and "go" in message.content["text"]:
                return header

    def tool(self, command, timeout=WAIT, **content):
        return self.ask("shell", "tool_request", {"command": command, **content}, timeout).content


def text(messages, name="stdout"):
    return "".join(content["text"] for kind, content in messages if kind == "stream" and content["name"] == name)


@pytest.fixture
def server():
    """An HTTP server on this machine. `/hello` answers; `/slow` tells `arrived` and answers once `release` is set."""
    arrived, release = queue.Queue(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path.startswith("/slow"):
                arrived.put(self.path)
                release.wait(2 * WAIT)
            body = b"hello"
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads, httpd.block_on_close, httpd.request_queue_size = True, False, 128
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    host = f"127.0.0.1:{httpd.server_port}"
    yield types.SimpleNamespace(host=host, url=f"http://{host}", arrived=arrived, release=release,
                                wait=lambda: arrived.get(timeout=WAIT))
    release.set()
    httpd.shutdown()
    httpd.server_close()
