"""What a reading of the whole found, one test each: kernels and clients that must not get into each other's way."""
import json
import os
import signal
import subprocess

import zmq
from conftest import Wire, endpoint, line, program


def test_kernels_of_two_homes_share_nothing(kernel, place):
    """One runtime folder, one id: the sockets of the first stay its own while the second comes and goes."""
    first = kernel()
    second = kernel(env={"LLMSPELL_HOME": str(place.root / "other")})
    assert first.id == second.id and first.ready["endpoint"] != second.ready["endpoint"]
    assert second.status()["pid"] == second.pid
    second.stop()
    assert first.status()["pid"] == first.pid


def test_a_socket_somebody_listens_on_is_not_taken_over(kernel, place, run):
    """As ZeroMQ would, without a word."""
    first = kernel()
    os.rename(first.file, place.root / "kept.json")  # so that no connection file tells of the first
    taken = json.loads((place.root / "kept.json").read_text())
    for key in ("pid", "started", "kernel_id"):
        del taken[key]
    file = place.root / "taken.json"
    file.write_text(json.dumps(taken))
    file.chmod(0o600)
    done = run("kernel", "-f", file)
    assert done.code == 6 and "in use by another process" in done.err, done
    assert first.status()["pid"] == first.pid
    os.rename(place.root / "kept.json", first.file)


def test_a_foreign_folder_keeps_its_mode(kernel, place):
    """A Jupyter server's connection file over ipc: its folder is not ours to close."""
    folder = place.root / "open"
    folder.mkdir()
    folder.chmod(0o777)
    file = folder / "k.json"
    ports = {f"{name}_port": port for port, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)}
    file.write_text(json.dumps({"transport": "ipc", "ip": str(folder / "s"), "key": "k", "signature_scheme": "hmac-sha256", **ports}))
    file.chmod(0o600)
    one = kernel("-f", file)
    assert one.status()["pid"] == one.pid and folder.stat().st_mode & 0o777 == 0o777


def test_a_huge_subscription_is_not_taken_in(kernel):
    """It needs no key: its connection is ended, the kernel goes on."""
    one = kernel("--port", "0")
    with zmq.Context() as context:
        subscriber = context.socket(zmq.SUB)
        subscriber.linger = 0
        monitor = subscriber.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        subscriber.connect(endpoint(one.connection, "iopub"))
        subscriber.subscribe(b"x" * 10_000)
        assert monitor.poll(30_000), "still connected"
        subscriber.disable_monitor()
        monitor.close()
        subscriber.close()
    assert one.status()["pid"] == one.pid


def test_a_closed_pipe_interrupts_only_its_own_script(kernel, place):
    one = kernel()
    victim = one.wire()
    printing = subprocess.Popen([program("run"), "--kernel", one.id, "-e", "for i = 1, 1e5 do print(i) end"], env=place.env,
                                cwd=place.work, stdout=subprocess.PIPE)
    assert line(printing.stdout) == "1\n"
    header = victim.send("shell", "execute_request", {"code": "for i = 1, 5e7 do end return 'whole'", "allow_stdin": False})
    printing.stdout.close()
    assert printing.wait() == 0
    assert victim.reply("shell", header).content["status"] == "ok"


def test_user_expressions_have_the_deadline_of_their_request(kernel):
    wire = kernel().wire()
    content = {"code": "1", "timeout": 0.3, "user_expressions": {"a": "(function() while true do end end)()", "b": "1"}}
    reply = wire.ask("shell", "execute_request", content).content
    assert [reply["user_expressions"][name]["ename"] for name in "ab"] == ["TimeoutError"] * 2


def test_ctrl_c_while_nobody_reads_ends_it(start):
    """A full pipe: the first one is enough."""
    child = start("run", "-e", "while true do print(('x'):rep(1000)) end")
    assert line(child.stdout).startswith("x")
    with open(f"/proc/{child.pid}/wchan") as wchan:
        while "poll" not in wchan.read():
            wchan.seek(0)
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130


def test_what_was_printed_survives_two_ctrl_c(place):
    out = place.work / "out.txt"
    with open(out, "wb") as file:
        code = "print('precious') io.stderr:write('go\\n') setmetatable({}, {__gc = function() while true do end end}) collectgarbage()"
        child = subprocess.Popen([program("run"), "-e", code], env=place.env, cwd=place.work, stdout=file, stderr=subprocess.PIPE)
    try:
        assert line(child.stderr) == "go\n"
        while child.poll() is None:  # two that arrive at once may be one
            child.send_signal(signal.SIGINT)
    finally:
        child.kill()
        child.stderr.close()
    assert child.wait() == 130 and out.read_text() == "precious\n"
