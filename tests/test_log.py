"""Logs of a kernel: where they go, how they turn over, and that no trouble with them stops it."""
import ctypes
import gzip
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import stat
import subprocess

import pytest
from conftest import WAIT, Watched, Wire, line, program
from test_daemon import Daemon, daemon, proc  # noqa: F401

LIBC = ctypes.CDLL(None)
LOUD = ("--log-level", "info")


def until(log, words):
    """The text of a log once it holds `words`; inotify tells of every change."""
    fd = LIBC.inotify_init1(os.O_CLOEXEC)
    try:
        assert LIBC.inotify_add_watch(fd, str(log.parent).encode(), 0x2 | 0x80 | 0x100) > 0  # modified, moved to, created
        while True:
            text = log.read_text() if log.exists() else ""
            if words in text:
                return text
            assert select.select([fd], [], [], WAIT)[0], f"{words!r} is not in {text!r}"
            os.read(fd, 65536)
    finally:
        os.close(fd)


def noise(pid, count=1):
    """Lines in the log: every SIGUSR1 is answered with one."""
    for _ in range(count):
        os.kill(pid, signal.SIGUSR1)


def lost(one):
    return one.status()["log"]["lost"]


def test_rotated_by_size_and_number(place, daemon):
    place.config('[daemon]\nmax_log_size = "2KB"\nmax_log_files = 3\n')
    one = daemon()
    log = place.home / "logs/llmspell-kernel.log"
    with one.wire() as wire:
        for _ in range(40):
            noise(one.pid)
            wire.ask("control", "status_request")
    files = sorted(path.name for path in log.parent.iterdir())
    assert len(files) == 4 and files[-1] == "llmspell-kernel.log", files
    assert all(re.fullmatch(r"llmspell-kernel\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(\.\d{3})?\.log", name) for name in files[:-1]), files
    assert all(path.stat().st_size <= 2000 and stat.S_IMODE(path.stat().st_mode) == 0o600 for path in log.parent.iterdir())
    assert os.readlink(f"/proc/{one.pid}/fd/2") == str(log), "standard error stayed behind"


def test_compressed_and_aged_at_the_start(place, daemon):
    logs = place.home / "logs"
    logs.mkdir(mode=0o700)
    old, young = (logs / f"llmspell-kernel.{day}T00-00-00Z.log" for day in ("2026-01-01", "2026-01-02"))
    old.write_text("old\n"), young.write_text("young\n"), (logs / "notes.log").write_text("mine")
    eight_days = old.stat().st_mtime - 8 * 86400
    os.utime(old, (eight_days, eight_days)), os.utime(logs / "notes.log", (eight_days, eight_days))
    place.config("[daemon]\ncompress_logs = true\n")
    daemon()
    while young.exists():  # the compressed one is whole before the other goes
        os.sched_yield()
    assert sorted(os.listdir(logs)) == [f"{young.name}.gz", "llmspell-kernel.log", "notes.log"]
    assert gzip.open(f"{young}.gz").read() == b"young\n"


def test_json_lines_and_levels_of_modules(place, daemon):
    place.config('[log]\nformat = "json"\nlevel = "error"\nmodules = { "llmspell::kernel" = "info" }\n')
    one = daemon()
    one.stop()
    lines = [json.loads(text) for text in (place.home / "logs/llmspell-kernel.log").read_text().splitlines()]
    assert {"time", "level", "module", "message"} == set(lines[0]) and lines[0]["level"] == "info"
    assert {entry["module"].split("::")[1] for entry in lines} == {"kernel"}


def test_secrets_are_masked(place, daemon):
    place.config('[tools.http_request.default_headers]\nX-Api-Key = "correct horse battery"\n[log]\nlevel = "trace"\n')
    one = daemon()
    with one.wire() as wire:
        wire.send("shell", "correct horse battery")
        wire.send("shell", "api_key=abcdefgh")
        text = until(place.home / "logs/llmspell-kernel.log", "unknown message type")
        wire.ask("control", "status_request")
    assert "<redacted>" in text and "horse" not in text and "abcdefgh" not in text and one.connection["key"] not in text


def test_with_logrotate(place, daemon):
    """logrotate renames the file, then sends SIGHUP: no line is lost and none is written to the old one."""
    one = daemon(*LOUD)
    log = place.home / "logs/llmspell-kernel.log"
    conf = place.write("rotate.conf", f"{log} {{\n rotate 3\n nodateext\n size 1\n postrotate\n  kill -HUP "
                       f"$(cat {place.home}/kernel/llmspell-kernel.pid)\n endscript\n}}\n", 0o600)
    for turn in range(2):
        subprocess.run([shutil.which("logrotate", path="/usr/sbin:/usr/bin"), "-f", "-s", place.root / "state", conf], check=True, env=place.env)
        until(log, "SIGHUP: log reopened")
        noise(one.pid)
        assert "SIGHUP" in until(log, "SIGUSR1").splitlines()[0]
    first = pathlib.Path(f"{log}.2").read_text()
    assert "ready" in first and "SIGUSR1" not in first and pathlib.Path(f"{log}.1").read_text().count("SIGUSR1") == 1
    assert os.readlink(f"/proc/{one.pid}/fd/2") == str(log)
    assert lost(one) == 0


def test_a_log_that_is_removed_comes_back(place, daemon):
    one = daemon(*LOUD)
    log = place.home / "logs/llmspell-kernel.log"
    shutil.rmtree(log.parent)
    while not log.exists():  # looked for once a second
        noise(one.pid)
        one.status()
    noise(one.pid)
    until(log, "SIGUSR1")
    with one.wire() as wire:
        assert wire.stdout("print(1)") == "1\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_full_disk_stops_nothing(place):
    """The log lies on a disk that is full: the kernel goes on, counts what it loses, and tells of it once there is room."""
    logs = place.root / "small"
    logs.mkdir()
    script = f"""
        mount -t tmpfs -o size=16k none {logs} || exit 99
        {program('kernel')} --daemon --json --log-file {logs}/k.log {' '.join(LOUD)} || exit 98
        head -c 100000 /dev/zero > {logs}/full 2> /dev/null
        read step; rm {logs}/full; echo free
        read step; cat {logs}/k.log"""
    with subprocess.Popen(["unshare", "-m", "sh", "-c", script], env=place.env, cwd=place.work,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        one = Daemon(json.loads(line(shell.stdout)))
        with one.wire() as wire:
            while lost(one) < 3:
                noise(one.pid)
            assert wire.stdout("print('still here')") == "still here\n"
        shell.stdin.write(b"free\n"), shell.stdin.flush()
        assert line(shell.stdout) == "free\n"
        count = lost(one)
        noise(one.pid)
        assert lost(one) == count >= 3
        text = shell.communicate(b"show\n", timeout=WAIT)[0].decode()
        assert f"{count} messages before this one were lost\n" in text and text.endswith("}\n"), text
        one.stop()
        os.close(one.watched.fd)


def test_under_the_journal_lines_have_a_severity_and_no_time(place, kernel):
    """As under systemd: $JOURNAL_STREAM names what standard error is; if it names something else, it is not the journal."""
    ours, theirs = socket.socketpair()
    here = os.fstat(theirs.fileno())
    for name, starts in ((f"{here.st_dev}:{here.st_ino}", "<6>INFO llmspell::kernel: "), (f"{here.st_dev}:1", "20")):
        child = subprocess.Popen([program("kernel"), "--id", name.replace(":", "-"), *LOUD], stderr=theirs, stdout=subprocess.DEVNULL,
                                 stdin=subprocess.DEVNULL, env={**place.env, "JOURNAL_STREAM": name}, cwd=place.work)
        text = ours.recv(4096).decode()
        child.terminate()
        assert child.wait(WAIT) == 0
        assert text.startswith(starts), text
        ours.setblocking(False)
        while True:
            try:
                ours.recv(65536)
            except BlockingIOError:
                break
        ours.setblocking(True)


def test_the_logs_of_the_system(place):
    """syslog and the journal's own protocol, each once, also when standard error is the journal too."""
    dev, journal = place.root / "dev", place.root / "journal"
    dev.mkdir(), journal.mkdir()
    sockets = {}
    for name, path in (("syslog", dev / "log"), ("journald", journal / "socket")):
        sockets[name] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sockets[name].bind(str(path))
        sockets[name].settimeout(WAIT)
    for name in ("null", "urandom"):
        (dev / name).touch()
    script = f"""mkdir -p /run/systemd/journal; for f in null urandom; do mount --bind /dev/$f {dev}/$f; done
        mount --bind {journal} /run/systemd/journal && mount --rbind {dev} /dev && exec {program('kernel')} {' '.join(LOUD)}"""
    place.config('[log]\noutputs = ["syslog", "journald"]\n')
    child = subprocess.Popen(["unshare", "-m", "sh", "-c", script], env=place.env, cwd=place.work, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        text = sockets["syslog"].recv(4096).decode()
        assert re.match(r"<30>llmspell-kernel\[\d+\]: llmspell::kernel: kernel llmspell-kernel ready at ipc://", text), text
        fields = sockets["journald"].recv(4096)
        assert fields.startswith(b"PRIORITY=6\nSYSLOG_IDENTIFIER=llmspell-kernel\n") and b"MODULE=llmspell::kernel\nMESSAGE\n" in fields
    finally:
        child.terminate()
        out, err = child.communicate(timeout=WAIT)
    assert (child.returncode, err) == (0, b"")


def test_a_broken_log_at_the_start_is_told(run, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("kernel", "--log-file", tmp_path / "file" / "x.log")
    assert done.code == 6 and "log: " in done.err and "not a folder" in done.err
