"""One kernel an id: PID files that lie, files that are not ours, starts that race."""
import json
import os
import pathlib
import signal
import subprocess

import pytest
from conftest import WAIT, Watched, program
from test_daemon import Daemon, daemon  # noqa: F401


@pytest.fixture
def file(place):
    folder = place.home / "kernel"
    folder.mkdir(mode=0o700)
    return folder / "a.pid"


@pytest.mark.parametrize("content", [b"", b"abc\n", b"0\n", b"1\n", b"-1\n", b"2147483648\n", b"9" * 5000, bytes(range(256)), b"12\r\n",
                                     b"other"], ids=lambda content: repr(content[:12]))
def test_what_a_dead_one_left_does_not_matter(file, daemon, content):
    with subprocess.Popen(["sleep", str(WAIT)]) as other:
        file.write_bytes(f"{other.pid}\n".encode() if content == b"other" else content)
        one = daemon("--id", "a")
        assert file.read_text() == f"{one.pid}\n"
        one.stop()
        assert other.poll() is None, "a stranger with that number was signalled"
        other.kill()


def test_a_reused_number_is_no_kernel(place, run, daemon, kernel):
    """The files of a kernel that was killed name a process that is now another: a program, then a kernel."""
    one = daemon("--id", "a")
    one.stop(signal.SIGKILL)
    living = kernel("--id", "b")
    with subprocess.Popen(["sleep", str(WAIT)]) as other:
        for pid in (other.pid, living.pid):
            one.file.write_text(json.dumps({**one.connection, "pid": pid}))
            assert run("tool", "-k", "a", "list").code == 5
            assert run("tool", "-k", str(pid), "list").code == (0 if pid == living.pid else 5)
        foreign = {**one.connection, "pid": living.pid, "started": living.connection["started"], "pid_namespace": 1}
        one.file.write_text(json.dumps(foreign))
        assert run("tool", "-k", "a", "list").code == 5
        two = daemon("--id", "a")
        assert two.connection["key"] == one.connection["key"], "clients cannot come back"
        assert other.poll() is None and living.status()["status"] == "ok"
        other.kill()


def test_after_kill_9_the_next_takes_over(place, daemon):
    one = daemon("--id", "a", "--port", "0")
    one.stop(signal.SIGKILL)
    assert sorted(os.listdir(place.home / "kernel")) == ["a.json", "a.pid"]
    two = daemon("--id", "a", "--port", "0")
    ports = [name for name in one.connection if name.endswith("_port")] + ["key"]
    assert [two.connection[name] for name in ports] == [one.connection[name] for name in ports]
    assert (place.home / "kernel/a.pid").read_text() == f"{two.pid}\n"


def test_files_that_are_not_ours(place, run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("x" * 100)
    (tmp_path / "link").symlink_to(precious)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name, words in (("link", "is a symbolic link"), ("fifo", "is not a file"), ("folder", "is not a file"),
                        ("precious", "is not a PID file")):
        done = run("kernel", "--daemon", "--pid-file", tmp_path / name)
        assert done.code == 4 and f"{tmp_path}/{name}: {words}\n" in done.err, done
    assert precious.read_text() == "x" * 100
    assert os.listdir(place.home / "kernel") == []


def test_no_room_for_a_pid_file(place):
    """On a full disk the start fails, says so, and leaves no empty file."""
    script = f"""
        mount -t tmpfs -o size=64k none {place.home} || exit 99
        mkdir -m 700 {place.home}/kernel {place.home}/logs {place.home}/store
        head -c 100000 /dev/zero > {place.home}/full 2> /dev/null
        {program('kernel')} --daemon; echo $?
        ls -A {place.home}/kernel
        rm {place.home}/full
        """
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], env=place.env, cwd=place.work, capture_output=True, text=True, timeout=WAIT)
    assert done.stdout == "74\n", done
    assert "no space left on device" in done.stderr.lower() and "llmspell-kernel.pid" in done.stderr


def test_a_hundred_starts_have_one_winner(place):
    starts = [subprocess.Popen([program("kernel"), "--daemon", "--json", "--id", "one"], env=place.env, cwd=place.work,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(100)]
    ends = [(start.communicate(timeout=4 * WAIT), start.returncode) for start in starts]
    won = [json.loads(out) for (out, _), code in ends if code == 0]
    assert len(won) == 1, ends
    with Watched(won[0]["pid"]) as winner:
        assert sorted({code for _, code in ends}) == [0, 6]
        assert all(b"kernel one: " in err and b": held by " in err for (_, err), code in ends if code)
        assert Daemon(won[0]).status()["pid"] == won[0]["pid"]
        assert (place.home / "kernel/one.pid").read_text() == f"{won[0]['pid']}\n"
        running = [pid for pid in os.listdir("/proc") if pid.isdigit() and b"\0one\0" in command(pid) and str(place.root) in environment(pid)]
        assert running == [str(won[0]["pid"])]
        os.kill(won[0]["pid"], signal.SIGTERM)
        assert winner.ended()
    assert os.listdir(place.home / "kernel") == []


def command(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def environment(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""
