"""A kernel in the background: what its caller sees, what it leaves, what it inherits."""
import json
import os
import pathlib
import signal
import socket
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
        (place.work / "mod.lua").write_text("return {name = 'mod'}")
        assert wire.stdout("print(require('mod').name)") == "mod\n"
        assert wire.tool("invoke", name="file_operations", params={"operation": "read", "path": "here.txt"})["status"] == "ok"
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


def test_the_lines_of_v0_10(place, daemon, tmp_path):
    """`llmspell kernel start --daemon …`, `kernel stop`, as people wrote them."""
    (tmp_path / "llmspell").symlink_to(program("run"))
    for name in ("kernel", "fleet"):
        (tmp_path / f"llmspell-{name}").symlink_to(program(name))
    done = []

    def sh(line):
        done.append(subprocess.run(["sh", "-c", line], env={**place.env, "PATH": f"{tmp_path}:{place.env['PATH']}", "HOME": str(place.root)},
                                   cwd=place.work, capture_output=True, text=True))
        return done[-1]

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = sh(f"llmspell kernel start --daemon --port {port} --connection-file ~/kernel.json --idle-timeout 3600 --max-clients 10 "
               "--log-file ~/l.log --pid-file ~/p.pid --log-rotate-size 1048576 --log-rotate-count 5")
    assert start.returncode == 0, start
    pid = int((place.root / "p.pid").read_text())
    with Watched(pid) as watched:
        assert json.loads((place.root / "kernel.json").read_text())["shell_port"] == port
        assert (place.root / "l.log").exists()
        stop = sh("llmspell kernel stop")
        assert stop.returncode == 0, stop
        assert watched.ended()
    assert not (place.root / "p.pid").exists() and not (place.root / "kernel.json").exists()


def test_credentials_of_a_service(place, run, kernel, tmp_path):
    """What LoadCredential= brings: a configuration, and the key of the connection; neither is for scripts."""
    (tmp_path / "llmspell.toml").write_text('[kernel]\ngrace = "7s"\n[tools.http_request.default_headers]\nX-Api-Key = "correct horse"\n')
    (tmp_path / "connection-key").write_text("0123456789abcdef0123456789abcdef\n")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    shown = run("kernel", "config", "show", "kernel.grace", env=env).out
    assert '"7s"' in shown and f"{tmp_path}/llmspell.toml:2" in shown
    one = kernel("--allow-read", env=env)
    assert one.connection["key"] == "0123456789abcdef0123456789abcdef"
    for name in ("llmspell.toml", "connection-key"):
        assert one.wire().stdout(f'print((io.open("{tmp_path}/{name}")))') == "nil\n"
    (tmp_path / "connection-key").write_text("short")
    done = run("kernel", "--id", "b", env=env)
    assert done.code == 3 and "credential connection-key: shorter" in done.err


def test_a_caller_that_looks_away(place, run):
    """Nobody reads what it prints, or its caller is gone when it is ready: it serves all the same."""
    done = subprocess.run(["sh", "-c", f"{program('kernel')} --daemon | true"], env=place.env, cwd=place.work, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    one = int((place.home / "kernel/llmspell-kernel.pid").read_text())
    with Watched(one) as watched:
        assert run("tool", "invoke", "calculator", "input=1+1", "-k", "llmspell-kernel").out == "2\n"
        os.kill(one, signal.SIGTERM)
        assert watched.ended()


def test_standard_streams_may_be_closed(place):
    """Started without any: what it opens does not become standard error."""
    done = subprocess.run(["sh", "-c", f"exec {program('kernel')} --daemon <&- >&- 2>&-"], env=place.env, cwd=place.work)
    assert done.returncode in (0, 74)
    one = int((place.home / "kernel/llmspell-kernel.pid").read_text())
    with Watched(one) as watched:
        assert os.readlink(f"/proc/{one}/fd/2") == str(place.home / "logs/llmspell-kernel.log")
        os.kill(one, signal.SIGTERM)
        assert watched.ended()


def test_process_1_of_a_container_stays(place):
    done = subprocess.run(["unshare", "-pf", "--mount-proc", program("kernel"), "--daemon"], env=place.env, cwd=place.work, capture_output=True, text=True)
    assert done.returncode == 2 and "container would end with it\nLeave --daemon out" in done.stderr, done
