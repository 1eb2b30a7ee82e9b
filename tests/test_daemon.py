"""A kernel in the background: what its caller sees, what it leaves, what it inherits."""
import json
import os
import pathlib
import signal
import stat
import subprocess

import pytest

from conftest import Watched, Wire, program


class Daemon:
    """A kernel in the background, known by what it printed."""

    def __init__(self, ready):
        self.ready = ready
        self.pid, self.file = ready["pid"], pathlib.Path(ready["connection_file"])
        self.connection = json.loads(self.file.read_text())
        self.watched = Watched(self.pid)

    def wire(self):
        return Wire(self.connection)

    def status(self):
        with Wire(self.connection, channels=("control",)) as wire:
            return wire.ask("control", "status_request").content

    def stop(self, signal=signal.SIGTERM):
        os.kill(self.pid, signal)
        assert self.watched.ended()


@pytest.fixture
def daemon(run):
    """daemon("--id", "x", …): starts one; all are stopped at the end, and must end."""
    daemons = []

    def daemon(*args, **options):
        done = run("kernel", "start", "--daemon", "--json", *args, **options)
        assert done.code == 0 and done.err == "", done
        daemons.append(Daemon(done.json()))
        return daemons[-1]

    yield daemon
    for one in daemons:
        if not one.watched.ended(0):
            one.stop()
        os.close(one.watched.fd)


def proc(pid, name):
    return pathlib.Path(f"/proc/{pid}/{name}").read_text()


def test_the_caller_returns_when_the_kernel_is_ready(place, run, daemon):
    one = daemon("--id", "a")
    with one.wire() as wire:
        assert wire.stdout("print(1 + 1)") == "2\n"
    assert (place.home / "kernel/a.pid").read_text() == f"{one.pid}\n"
    done = run("kernel", "--daemon", "--id", "b")
    second = Watched(int((place.home / "kernel/b.pid").read_text()))
    assert done.out.startswith("kernel b is ready (PID ") and str(place.home / "kernel/b.json") in done.out
    assert run("tool", "-k", "b", "invoke", "calculator", "input=1+1").out == "2\n"
    subprocess.run(f"kill -TERM $(cat {place.home}/kernel/b.pid)", shell=True, check=True)
    assert second.ended()
    assert sorted(os.listdir(place.home / "kernel")) == ["a.json", "a.pid"]


def test_it_is_a_good_daemon(place, daemon):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    blocked = {signal.SIGTERM, signal.SIGHUP}
    done = subprocess.run([program("kernel"), "--daemon", "--json"], env=place.env, cwd=place.work, capture_output=True, close_fds=False,
                          preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked))
    one = Daemon(json.loads(done.stdout))
    os.close(write)
    assert os.read(read, 1) == b"", "it holds a descriptor of its caller"
    os.close(read)
    fields = proc(one.pid, "stat").rsplit(")", 1)[1].split()
    parent, group, session, tty = (int(fields[at]) for at in (1, 2, 3, 4))
    assert parent != os.getpid() and session == group != one.pid and tty == 0
    assert os.readlink(f"/proc/{one.pid}/cwd") == "/"
    assert "Umask:\t0077" in proc(one.pid, "status")
    log = place.home / "logs/llmspell-kernel.log"
    assert [os.readlink(f"/proc/{one.pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null", str(log), str(log)]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600 and stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    connection = one.connection
    start = proc(one.pid, "stat").rsplit(")", 1)[1].split()[19]
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (connection["kernel_id"], connection["pid"]) == ("llmspell-kernel", one.pid)
    assert connection["started"] == f"{boot}/{start}"
    assert connection["pid_namespace"] == os.stat(f"/proc/{one.pid}/ns/pid").st_ino
    one.stop()
    assert os.listdir(place.home / "kernel") == []


def test_it_works_where_it_was_started(place, daemon, tmp_path):
    (place.work / "here.txt").write_text("here")
    one = daemon("--log-level", "info", "--log-file", "my/{id}.txt", "--pid-file", "{id}.number", "--connection-file", "c.json")
    assert one.file == place.work / "c.json"
    with one.wire() as wire:
        assert wire.stdout('print(io.open("here.txt"):read("a"))') == "here\n"
    assert (place.work / "llmspell-kernel.number").read_text() == f"{one.pid}\n"
    assert "ready" in (place.work / "my/llmspell-kernel.txt").read_text()
    one.stop()
    assert not (place.work / "llmspell-kernel.number").exists() and not one.file.exists()
    two = daemon("--workdir", tmp_path)
    with two.wire() as wire:
        assert wire.execute('return io.open("here.txt")')[0]["status"] == "ok"
        assert wire.stdout('print((io.open("here.txt")))') == "nil\n"


@pytest.mark.parametrize("args, code, words", [
    (["--id", "taken"], 6, "kernel taken: "),
    (["--workdir", "no-such"], 5, "no such folder"),
    (["--log-file", "/dev/null/x.log"], 6, "log: /dev/null: not a folder"),
    (["--pid-file", "/no/such/folder/x.pid"], 5, "/no/such/folder/x.pid"),
    (["--ip", "203.0.113.7", "--port", "1"], 3, "203.0.113.7"),
    (["--config", "none.toml"], 3, "none.toml"),
    (["--engine", "js"], 10, "js"),
])
def test_a_failure_reaches_the_caller(run, daemon, place, args, code, words):
    daemon("--id", "taken")
    done = run("kernel", "--daemon", *args)
    assert (done.code, done.out) == (code, "") and words in done.err, done
    assert sorted(os.listdir(place.home / "kernel")) == ["taken.json", "taken.pid"]


def test_the_keys_of_the_release_notes(place, daemon):
    place.config(f'[daemon]\npid_file = "{place.home}/kernel/llmspell-kernel.pid"\nlog_dir = "{place.root}/l"\n'
                 'max_log_size = "10MB"\nmax_log_age_days = 7\nlog_rotation_on_size = true\n')
    daemon()
    daemon("--id", "b")  # is not disturbed by a file that names another kernel
    assert sorted(os.listdir(place.root / "l")) == ["b.log", "llmspell-kernel.log"]
