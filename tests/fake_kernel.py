"""A kernel that misbehaves on order: what `llmspell-fleet` starts and asks, with the fault that $FAKE names.

Answers heartbeat, `status_request` and `kernel_info_request`; everything else of a kernel is missing.
"""
import hashlib
import hmac
import json
import os
import pathlib
import signal
import sys
import uuid

if sys.argv[1:3] == ["config", "check"]:
    sys.exit(0)
FAULT = os.environ.get("FAKE", "")
words = dict(zip(sys.argv[1:], sys.argv[2:]))
home, name, port = pathlib.Path(os.environ["LLMSPELL_HOME"]), words["--id"], int(words["--port"])
starts = home / f"{name}.starts"
with open(starts, "a") as count:
    count.write(f"{port}\n")
if FAULT == "fails-later" and len(starts.read_text().splitlines()) > 1:
    sys.exit("llmspell-kernel: made to fail\nThere is nothing to do.")
if FAULT == "conflict-once" and len(list(home.glob("*.starts"))) == 1:
    print("llmspell-kernel: somebody was faster", file=sys.stderr)
    sys.exit(6)
if FAULT == "never-ready":
    signal.pause()
if FAULT == "ignores-term":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

import zmq  # noqa: E402, after those that need not be slow

context, key = zmq.Context(), uuid.uuid4().hex
sockets, ports = {}, {"shell_port": port}
for channel in ("shell", "control", "hb", "iopub", "stdin"):
    sockets[channel] = context.socket(zmq.ROUTER)
    if channel == "shell":
        try:
            sockets[channel].bind(f"tcp://127.0.0.1:{port}")
        except zmq.ZMQError as error:
            print(f"llmspell-kernel: port {port}: {error}", file=sys.stderr)
            sys.exit(6)
    else:
        ports[channel + "_port"] = sockets[channel].bind_to_random_port("tcp://127.0.0.1")
stat = pathlib.Path("/proc/self/stat").read_text().rsplit(")")[1].split()
boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
connection = {"transport": "tcp", "ip": "127.0.0.1", **ports, "key": key, "signature_scheme": "hmac-sha256", "kernel_id": name,
              "pid": os.getpid(), "started": f"{boot}/{stat[19]}", "pid_namespace": os.stat("/proc/self/ns/pid").st_ino}
file = home / "kernel" / f"{name}.json"
file.parent.mkdir(mode=0o700, exist_ok=True)
temporary = file.with_suffix(".new")
temporary.touch(0o600)
temporary.write_text(json.dumps(connection))
temporary.rename(file)


def leave(*_):
    file.unlink(missing_ok=True)
    os._exit(0)


if FAULT != "ignores-term":
    signal.signal(signal.SIGTERM, leave)
print(json.dumps({"id": name, "pid": os.getpid(), "connection_file": str(file), "endpoint": f"tcp://127.0.0.1:{port}"}), flush=True)
if FAULT == "crashes":
    os._exit(3)

poller = zmq.Poller()
for channel in ("shell", "control", "hb"):
    poller.register(sockets[channel], zmq.POLLIN)
while True:
    for socket, _ in poller.poll():
        frames = socket.recv_multipart()
        if socket is sockets["hb"]:
            socket.send_multipart(frames)
            continue
        if FAULT == "heartbeat-only":
            continue
        at = frames.index(b"<IDS|MSG>")
        kind = json.loads(frames[at + 2])["msg_type"].replace("_request", "_reply")
        content = {"status": "ok", "pid": os.getpid(), "uptime_s": 1.0, "rss_bytes": 1000000, "clients": 0, "busy": False,
                   "executions": 0, "queue": 0, "errors": {}}
        header = {"msg_id": uuid.uuid4().hex, "session": "fake", "username": "fake", "msg_type": kind, "version": "5.3",
                  "date": "2026-01-01T00:00:00Z"}
        parts = [json.dumps(header).encode(), frames[at + 2], b"{}", json.dumps(content).encode()]
        signed = hmac.new(key.encode(), b"".join(parts), hashlib.sha256).hexdigest().encode()
        socket.send_multipart([*frames[:at], b"<IDS|MSG>", signed, *parts])
