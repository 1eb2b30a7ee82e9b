"""What can go wrong with many kernels: F1 to F37 of the list this project keeps to, as far as they are of the fleet.

The first words of each docstring are their numbers. A part runs against tests/fake_kernel.py, which misbehaves on order.
"""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import BIN, ROOT, WAIT, Done, Watched, children, line, program
from test_fleet import Fleet, fleet, free_port, ours, until  # noqa: F401, a fixture


class Fake(Fleet):
    """The same programs, but the kernels are made to misbehave."""

    def __init__(self, place):
        super().__init__(place, None)
        self.bin = place.root / "bin"
        self.bin.mkdir()
        try:
            os.link((BIN / "llmspell-fleet").resolve(), self.bin / "llmspell-fleet")
        except OSError:
            shutil.copy(BIN / "llmspell-fleet", self.bin)
        kernel = self.bin / "llmspell-kernel"
        kernel.write_text(f"#!/bin/sh\nexec {sys.executable} {ROOT}/tests/fake_kernel.py \"$@\"\n")
        kernel.chmod(0o755)
        self.run = self.run_here

    def run_here(self, name, *words, **_):
        done = subprocess.run([self.bin / f"llmspell-{name}", *map(str, words)], env=self.place.env, cwd=self.place.work,
                              capture_output=True, text=True, timeout=2 * WAIT)
        assert "panicked at" not in done.stderr, done.stderr
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def fake(self, fault, *words, **more):
        return self("spawn", "--env", f"FAKE={fault}", *words, **more)

    def watch(self, *words):
        words = words if "--probe" in words else ("--probe", "0", *words)
        child = subprocess.Popen([self.bin / "llmspell-fleet", "watch", "--json", *words], env=self.place.env,
                                 cwd=self.place.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.watches.append(child)
        self.event(child, "ready")
        return child


@pytest.fixture
def fakes(place):
    fake = Fake(place)
    yield fake
    fake.end()


def file_of(fleet, name):
    return fleet.place.home / "kernel" / f"{name}.json"


def edit(path, **changes):
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(document))


def alive(pid):
    return str(pid) in os.listdir("/proc") and pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] not in "ZX"


def test_a_killed_watch_leaves_kernels_that_the_next_takes_over(fleet):
    """F1"""
    names = fleet.spawn("a.toml", "--name", "pool", "--count", "5", "--restart", "always")
    watch = fleet.watch()
    os.kill(fleet.connection("pool-1")["pid"], signal.SIGKILL)
    fleet.event(watch, "started")  # one is a child of the watch, four are not
    pids = {name: fleet.connection(name)["pid"] for name in names}
    watch.kill()
    watch.wait()
    assert fleet.rows().keys() == set(names) and all(map(alive, pids.values()))
    watch = fleet.watch()
    assert {name: fleet.connection(name)["pid"] for name in names} == pids
    for name in ("pool-1", "pool-3"):
        os.kill(pids[name], signal.SIGKILL)
        assert fleet.event(watch, "started")["kernel"] == name
    assert len(ours(fleet) - {watch.pid}) == 5


def test_a_watch_killed_while_it_starts_a_kernel(fleet):
    """F1, F2: the next watch neither doubles nor loses it"""
    name, = fleet.spawn("a.toml", "--restart", "always")
    for wait in range(0, 40, 4):
        watch = fleet.watch("--stable", "0")
        until(lambda: fleet.row(name)["state"] == "running")
        os.kill(fleet.connection(name)["pid"], signal.SIGKILL)
        time.sleep(wait / 1000)
        watch.kill()
        watch.wait()
    watch = fleet.watch("--stable", "0")
    until(lambda: fleet.row(name)["state"] == "running")
    until(lambda: ours(fleet) - {watch.pid} == {fleet.connection(name)["pid"]})
    assert fleet("health", name).out.startswith("HEALTHY ")
    pid = fleet.connection(name)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: fleet.connection(name)["pid"] != pid)


def test_a_spawn_killed_at_any_moment_leaves_nothing_unknown(fleet):
    """F2"""
    for wait in range(0, 60, 3):
        child = subprocess.Popen([program("fleet"), "spawn", "a.toml", "--count", "2"], env=fleet.place.env, cwd=fleet.place.work,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait / 1000)
        child.kill()
        child.wait()
    # A kernel that was on its way arrives, or ends by itself; then each is known.
    until(lambda: ours(fleet) == {row["pid"] for row in fleet.rows().values() if row["pid"]})
    # What was ordered and not started is not taken for one that ended well.
    assert {row["state"] for row in fleet.rows().values()} <= {"running", "dead"}
    fleet("stop", "--all", "--timeout", "20")
    until(lambda: not ours(fleet))
    fleet("cleanup")
    assert fleet.rows() == {}
    assert not [file for file in (fleet.place.home / "fleet").rglob("*") if file.is_file() and file.suffix == ".json"]


def test_memory_is_limited(fleet):
    """F4, as far as a limit of the process goes; a cgroup of version 2 needs a machine that has it."""
    name, = fleet.spawn("a.toml", "--memory", "150MB", "--restart", "on-failure")
    done = fleet("exec", name, "--", "local t = {} for i = 1, 400 do t[i] = string.rep('x', 1024 * 1024) .. i end print('all')", code=None)
    assert done.code != 0 and "all" not in done.out
    big, = fleet.spawn("a.toml")
    assert fleet("exec", big, "--", "local t = {} for i = 1, 400 do t[i] = string.rep('x', 1024 * 1024) .. i end print('all')").out == "all\n"


def test_a_suspended_kernel(fleet):
    """F5"""
    name, = fleet.spawn("a.toml")
    pid = fleet.connection(name)["pid"]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] == "T")
    assert fleet.row(name)["state"] == "unhealthy"
    begun = time.monotonic()
    out = fleet("health", name, "--timeout", "300ms", code=1).out
    assert out.startswith("UNHEALTHY (suspended by a signal") and time.monotonic() - begun < 5
    assert pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] == "T", "asking it woke it"
    assert fleet("stop", name, "--timeout", "200ms").out == f"{name}: killed\n"
    assert not alive(pid)


def test_a_kernel_that_ignores_the_signal_is_killed_in_time(fakes):
    """F6"""
    name = fakes.fake("ignores-term").out.strip()
    begun = time.monotonic()
    assert fakes("stop", name, "--timeout", "1s").out == f"{name}: killed\n"
    assert 1 <= time.monotonic() - begun < 6
    assert fakes.row(name)["state"] == "stopped" and not file_of(fakes, name).exists()


def test_a_heart_that_beats_alone_is_not_health(fakes):
    """F7"""
    name = fakes.fake("heartbeat-only").out.strip()
    out = fakes("health", name, "--timeout", "500ms", code=1).out
    assert out == "DEGRADED (control, shell: no answer within 500ms)\n"
    row = fakes.rows("health", "--timeout", "500ms", code=1)[name]
    assert row["channels"] == {"heartbeat": True, "control": False, "shell": False} and not row["healthy"]


def test_a_kernel_that_does_not_answer_is_started_again(fakes):
    """F7 with the policy: silence counts as failure"""
    name = fakes.fake("heartbeat-only", "--restart", "on-failure").out.strip()
    pid = fakes.connection(name)["pid"]
    watch = fakes.watch("--probe", "200ms", "--timeout", "200ms")
    event = fakes.event(watch, "silent")
    assert event["kernel"] == name and "did not answer 3 times in a row (control, shell: no answer" in event["text"]
    assert fakes.event(watch, "started")["kernel"] == name
    assert fakes.connection(name)["pid"] != pid and not alive(pid)


def test_a_crash_loop_is_told_and_never_given_up(fakes):
    """F8; the sequence itself is tested with the rule, in Rust"""
    name = fakes.fake("crashes", "--restart", "on-failure", code=None).out.strip() or "kernel"
    name = next(iter(fakes.rows()), name)
    watch = fakes.watch("--backoff", "1ms", "--backoff-max", "200ms")
    until(lambda: fakes.row(name)["state"] == "crash-looping")
    row = fakes.row(name)
    assert "exit status 3; " in row["reason"] and "times in a row; next attempt in " in row["reason"]
    seen = fakes.state(name)["failures"]
    until(lambda: fakes.state(name)["failures"] >= seen + 2)
    assert watch.poll() is None
    # A way out: whoever stops it means it.
    fakes("stop", name)
    assert fakes.row(name)["state"] == "stopped"
    count = fakes.state(name)["failures"]
    time.sleep(0.5)  # more than the longest wait: a failure would be another one
    assert fakes.state(name)["failures"] == count


def test_files_of_the_dead_are_in_nobodys_way(fleet):
    """F9, F12, F27"""
    name, = fleet.spawn("a.toml")
    pid = fleet.connection(name)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))
    row = fleet.row(name)
    assert row["state"] == "dead" and row["pid"] is None and row["reason"]
    assert fleet("health", name, code=1).out.startswith("DEAD (")
    assert fleet("stop", name).out == f"{name}: was not running\n"
    for text in (b"", b"abc", b"0\n", b"-1\n", b"2147483648\n", b"9" * 5000, b"\xff\x00", b"1\r\n"):
        (fleet.place.home / "kernel" / f"{name}.pid").write_bytes(text)
        assert fleet("restart", name).out.startswith(f"{name}: started with PID ")
        fleet("stop", name)


@pytest.mark.parametrize("pid", [0, -1, 1, 2**31 - 1])
def test_numbers_that_mean_many_or_nobody(fleet, pid):
    """F12: never its own group, never everybody"""
    name, = fleet.spawn("a.toml", "--name", "k")
    real = fleet.connection(name)["pid"]
    edit(file_of(fleet, name), pid=pid)
    assert fleet.row(name)["state"] == "dead"
    assert fleet("stop", name).out == "k: was not running\n"
    assert alive(real)
    os.kill(real, signal.SIGKILL)


def test_what_stands_for_a_pid_file(fleet):
    """F13"""
    folder = fleet.place.home / "kernel"
    folder.mkdir(mode=0o700)
    precious = fleet.place.write("precious", "keep me")
    for index, make in enumerate((lambda path: path.symlink_to(precious), lambda path: os.mkfifo(path), lambda path: path.mkdir())):
        make(folder / f"k{index}.pid")
        done = fleet("spawn", "--name", f"k{index}", code=4)
        assert f"k{index}.pid: is " in done.err, done.err
    assert precious.read_text() == "keep me"
    os.mkfifo(folder / "pipe.json")
    assert "not a file" in fleet.row("pipe")["reason"]


def test_another_process_has_the_number_now(fleet):
    """F10, F11, F28: the start decides, also between two kernels"""
    name, = fleet.spawn("a.toml", "--name", "a")
    other, = fleet.spawn("a.toml", "--name", "b")
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        real = fleet.connection(name)
        os.kill(real["pid"], signal.SIGKILL)
        until(lambda: not alive(real["pid"]))
        for pid in (stranger.pid, fleet.connection(other)["pid"]):
            file_of(fleet, name).write_text(json.dumps({**real, "pid": pid}))
            file_of(fleet, name).chmod(0o600)
            row = fleet.row(name)
            assert row["state"] in ("dead", "stopped") and row["pid"] is None
            fleet("health", name, code=1)
            assert fleet("stop", name).out == "a: was not running\n"
            assert fleet("stop", name, "--force").out == "a: was not running\n"
            assert alive(pid)
        # The same number and start in another boot.
        living = fleet.connection(other)
        boot, ticks = living["started"].split("/")
        edit(file_of(fleet, other), started=f"00000000-{boot[9:]}/{ticks}")
        row = fleet.row(other)
        assert row["state"] == "dead" and "started anew" in row["reason"]
        assert fleet("stop", other).out == "b: was not running\n" and alive(living["pid"])
        os.kill(living["pid"], signal.SIGKILL)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_of_elsewhere_is_never_signalled(fleet):
    """F29"""
    name, = fleet.spawn("a.toml")
    pid = fleet.connection(name)["pid"]
    edit(file_of(fleet, name), pid_namespace=1)
    row = fleet.row(name)
    assert row["state"] == "foreign" and "PID name space" in row["reason"]
    done = fleet("stop", name, code=4)
    assert "PID name space" in done.err and alive(pid)
    # It answers all the same, and by its connection file from wherever it can be reached.
    assert fleet("health", name).out.startswith("HEALTHY ")
    copy = fleet.place.work / "remote.json"
    copy.touch(0o600)
    copy.write_text(json.dumps({key: value for key, value in fleet.connection(name).items() if key not in ("pid", "started", "pid_namespace")}))
    assert fleet("health", "./remote.json").out.startswith("HEALTHY (uptime: ")
    assert fleet.rows("health", str(copy))[name]["state"] == "ready"
    os.kill(pid, signal.SIGKILL)
    assert fleet("health", "./remote.json", "--timeout", "300ms", code=1).out.startswith("FOREIGN (")


def test_ports_of_others_are_passed_over(fleet):
    """F14"""
    first, = fleet.spawn("a.toml", ports="as they come")
    base = fleet.connection(first)["shell_port"]
    with contextlib.ExitStack() as stack:
        taken = set()
        for port in range(base + 1, base + 4):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                taken.add(port)
        second, = fleet.spawn("a.toml", ports="as they come")
        assert fleet.connection(second)["shell_port"] not in taken | {base}


def test_many_at_the_same_time(fleet):
    """F15"""
    def spawn(*words):
        return fleet.run("fleet", "spawn", "a.toml", *words)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        port = free_port()
        done = list(pool.map(lambda _: spawn("--name", "one", "--port", port), range(8)))
        assert sorted(one.code for one in done) == [0] + [6] * 7, done
        done = list(pool.map(lambda _: spawn(), range(8)))
        assert [one.code for one in done] == [0] * 8, done
        assert len({one.out for one in done}) == 8
        rows = fleet.rows()
        assert set(rows) == {"one"} | {one.out.strip() for one in done}
        assert len({row["port"] for row in rows.values()}) == 9 and all(row["state"] == "running" for row in rows.values())
        # Stopping and restarting it at once: each does its work, and what was said last holds.
        words = [("restart", "one"), ("stop", "one")] * 4
        done = list(pool.map(lambda line: fleet.run("fleet", *line), words))
        # A start that is stopped on its way says so with 130.
        assert {one.code for one in done} <= {0, 130}, done
        fleet("stop", "one")
    assert len([pid for pid in ours(fleet)]) == 8


@pytest.mark.parametrize("how", ["spawn", "restart", "watch"])
def test_a_stop_does_not_wait_for_a_start(fakes, how):
    """A stop during a start ends it"""
    starts = fakes.place.home / "slow.starts"
    if how == "spawn":
        words = ["spawn", "--name", "slow", "--env", "FAKE=never-ready", "--port", free_port()]
    else:
        fakes.fake("never-ready-again", "--name", "slow", "--restart", "always")
        words = ["restart", "slow"] if how == "restart" else ["watch", "--probe", "0"]
    before = len(starts.read_text().splitlines()) if starts.exists() else 0
    child = subprocess.Popen([fakes.bin / "llmspell-fleet", *map(str, words)], env=fakes.place.env, cwd=fakes.place.work,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    fakes.watches.append(child)
    if how == "watch":
        line(child.stdout)
        os.kill(fakes.connection("slow")["pid"], signal.SIGKILL)
    until(lambda: starts.exists() and len(starts.read_text().splitlines()) > before)
    assert fakes.row("slow")["state"] == "starting"
    begun = time.monotonic()
    fakes("stop", "slow")
    assert time.monotonic() - begun < 10
    if how == "watch":
        child.kill()
    else:
        assert child.wait(WAIT) == 130 and b"stopped by another command" in child.stderr.read()
    until(lambda: not ours(fakes))


def test_a_port_that_is_lost_at_the_last_moment(fakes):
    """F16"""
    done = fakes.fake("conflict-once", ports="as they come")
    name = done.out.strip()
    assert fakes.row(name)["state"] == "running"
    tried = sorted(file.name for file in fakes.place.home.glob("*.starts"))
    assert len(tried) >= 2 and set(fakes.rows()) == {name}, tried
    # A port that was asked for is not exchanged.
    for file in fakes.place.home.glob("*.starts"):
        file.unlink()
    assert "somebody was faster" in fakes.fake("conflict-once", "--port", str(free_port()), code=6).err


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk(place):
    """F17"""
    script = f"""set -e
        mount -t tmpfs -o size=256k none {place.home}
        chmod 700 {place.home}
        {program('fleet')} spawn --name before >/dev/null
        dd if=/dev/zero of={place.home}/filler bs=1k count=1000 2>/dev/null || true
        set +e
        {program('fleet')} spawn --name after
        echo "status $?"
        {program('fleet')} stop before
        echo "status $?"
        find {place.home}/fleet -name '*.json' -size 0
        {program('fleet')} list --json
        rm {place.home}/filler
        {program('fleet')} stop --all --force >/dev/null"""
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], env=place.env, cwd=place.work, capture_output=True, text=True,
                          timeout=WAIT)
    if "unshare failed" in done.stderr or "mount: " in done.stderr:
        pytest.skip(f"no mounting here: {done.stderr}")
    said = done.stdout.splitlines()
    assert said[0] in ("status 74", "status 1") and "no space left on device" in done.stderr.lower(), done
    # One that runs stays known, and the old record is whole.
    document = json.loads(said[-1])
    assert [row["id"] for row in document["kernels"]] == ["before"], done
    assert not any(text.endswith(".json") for text in said), done


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_for_logs(place):
    """F18"""
    place.write("a.toml", "[log]\nlevel = \"trace\"\n")
    script = f"""mkdir -m 700 {place.home}/logs
        mount -t tmpfs -o size=32k,mode=700 none {place.home}/logs || exit 99
        {program('fleet')} spawn a.toml --name k --port {free_port()} || exit 1
        dd if=/dev/zero of={place.home}/logs/filler bs=1k count=100 2>/dev/null
        for i in 1 2 3; do {program('fleet')} exec k -- 'print("answers")'; done
        {program('fleet')} health k
        {program('fleet')} stop k"""
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], env=place.env, cwd=place.work, capture_output=True, text=True,
                          timeout=2 * WAIT)
    if done.returncode == 99 or "unshare failed" in done.stderr:
        pytest.skip(f"no mounting here: {done.stderr}")
    said = done.stdout.splitlines()
    assert said[:4] == ["k"] + ["answers"] * 3 and said[4].startswith("HEALTHY ") and said[5] == "k: stopped", done


def test_a_log_that_is_renamed_removed_and_truncated(fleet):  # noqa: F811
    """F19: each line once"""
    logs = fleet.place.home / "logs"
    logs.mkdir(mode=0o700)
    log, old = logs / "k.log", logs / "k.2026-01-03T00-00-00Z.log"

    def write(path, number, mode="a"):
        with path.open(mode) as file:
            file.write(f"2026-01-02T00:00:0{number}.000Z INFO x: line {number}{' with more' * (number == 0)}\n")

    write(log, 0)
    follow = subprocess.Popen([program("fleet"), "logs", "k", "-f", "-n", "1"], env=fleet.place.env, stdout=subprocess.PIPE)

    def follows(number):
        assert f"x: line {number}" in line(follow.stdout)

    try:
        follows(0)
        write(log, 1)
        follows(1)
        log.rename(old)
        write(old, 2)
        follows(2)
        write(log, 3)
        follows(3)
        log.unlink()
        write(log, 4)
        follows(4)
        write(log, 5)
        follows(5)
        write(log, 6, "w")
        follows(6)
        # Half a line is none yet.
        with log.open("a") as file:
            file.write("2026-01-02T00:00:07.000Z INFO x: line")
            file.flush()
            file.write(" 7\n")
        follows(7)
        follow.terminate()
        assert (follow.stdout.read(), follow.wait(WAIT)) == (b"", 0)
    finally:
        follow.kill()
        follow.wait()
        follow.stdout.close()


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
/* The time of day is moved by the seconds in $CLOCK; nothing else is. */
int clock_gettime(clockid_t id, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, time);
    FILE *file = id == CLOCK_REALTIME && getenv("CLOCK") ? fopen(getenv("CLOCK"), "r") : 0;
    long by = 0;
    if (file && fscanf(file, "%ld", &by) == 1) time->tv_sec += by;
    if (file) fclose(file);
    return done;
}
"""


def test_a_clock_that_jumps(fleet):  # noqa: F811
    """F20: no policy, no age and no limit goes by the time of day"""
    source, library, clock = (fleet.place.root / name for name in ("clock.c", "clock.so", "clock"))
    source.write_text(CLOCK)
    done = subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    clock.write_text("0")
    fleet.place.env.update(LD_PRELOAD=str(library), CLOCK=str(clock))
    name, = fleet.spawn("a.toml", "--restart", "always")
    watch = fleet.watch("--backoff", "10s")
    for by in (3600, -3600, -int(time.time()) + 10, 10 ** 9):
        clock.write_text(str(by))
        begun = time.monotonic()
        pid = fleet.connection(name)["pid"]
        assert 0 <= fleet.row(name)["uptime_s"] < 60
        assert fleet("health", name).out.startswith("HEALTHY (uptime: ") and int(fleet("health", name).out.split()[2].rstrip("s,")) < 60
        fleet("restart", name)
        assert fleet.row(name)["pid"] != pid and time.monotonic() - begun < WAIT
        # It did jump.
        last = (fleet.place.home / f"logs/{name}.log").read_text().splitlines()[-1]
        assert last.startswith(time.strftime("%Y-", time.gmtime(time.time() + by))), last
    # It jumped, and yet the first restart is at once.
    with Watched(fleet.row(name)["pid"]) as watched:
        os.kill(fleet.row(name)["pid"], signal.SIGKILL)
        assert watched.ended()
    fleet.event(watch, "started")
    clock.write_text("-3600")
    assert fleet.row(name)["state"] == "running" and fleet("logs", name, "-n", "1").out
    fleet("stop", name)


def test_what_a_kernel_started_ends_with_it(fleet):
    """F21"""
    name, = fleet.spawn("--allow-run", "--allow-read", "--allow-write")
    out = fleet("exec", name, "--", "os.execute('sleep 600 & echo $! >left; true')", code=None)
    left = fleet.place.work / "left"
    assert left.exists(), out
    pid = int(left.read_text())
    if alive(pid):
        fleet("stop", name, "--force")
        until(lambda: not alive(pid))


@pytest.mark.parametrize("text, words", [
    ("", "truncated"), ('{"ip"', "truncated"), ("\0\1", "not a connection file"), ('{"ip": 5}', "not a connection file"),
    ('{"ip":"127.0.0.1","shell_port":70000,"iopub_port":1,"stdin_port":1,"control_port":1,"hb_port":1}', "70000"),
    ('{"ip":"127.0.0.1","shell_port":1,"iopub_port":1,"stdin_port":1,"control_port":1,"hb_port":1,"signature_scheme":"md5"}', "md5"),
    (" " * 10_000_000, "not a connection file"),
], ids=["empty", "cut", "binary", "wrong", "port", "scheme", "huge"])
def test_broken_connection_files(fleet, text, words):
    """F22"""
    folder = fleet.place.home / "kernel"
    folder.mkdir(mode=0o700)
    (folder / "k.json").write_text(text)
    (folder / "k.json").chmod(0o600)
    row = fleet.row("k")
    assert row["state"] == "unhealthy" and row["reason"].startswith("connection file invalid: ") and words in row["reason"]
    assert words in fleet("health", "k", code=1).out
    assert fleet("stop", "k").out == "k: was not running\n"


def test_homes_that_cannot_be(fleet, place):
    """F23"""
    file = place.write("file", "")
    for env, code, words in (({"LLMSPELL_HOME": str(file)}, 6, str(file)), ({"LLMSPELL_HOME": "/proc/nothing"}, None, "/proc/nothing"),
                             ({"LLMSPELL_HOME": "", "HOME": ""}, 3, "neither LLMSPELL_HOME nor HOME is set")):
        done = fleet.run("fleet", "spawn", env=env)
        assert done.code == code or code is None and done.code != 0, done
        assert words in done.err, done
        assert fleet.run("fleet", "list", env=env).code in (0, 3)


def test_too_few_descriptors(fleet):
    """F24"""
    names = fleet.spawn("a.toml", "--count", "3")
    for words, count, code, said in ((["list"], 8, 0, "running"), (["health"], 8, 1, "RUNNING (cannot be asked: too few open files"),
                                     (["health"], 45, 0, "HEALTHY"), (["spawn", "a.toml"], 7, 74, "too many open files")):
        done = fleet.run("fleet", *words, before=["prlimit", f"--nofile={count}:{count}"])
        assert done.code == code and said in done.out + done.err, done
    assert set(fleet.rows()) >= set(names)


def test_signals_of_the_watch_are_not_for_the_kernels(fleet):
    """F26"""
    name, = fleet.spawn("a.toml", "--restart", "always")
    watch = subprocess.Popen([program("fleet"), "watch"], env=fleet.place.env, stdout=subprocess.PIPE, start_new_session=True)
    fleet.watches.append(watch)
    watch.stderr = watch.stdout
    assert line(watch.stdout) == "watching 1 kernels\n"
    os.kill(fleet.connection(name)["pid"], signal.SIGKILL)
    while "started again" not in line(watch.stdout):
        pass
    pid = fleet.connection(name)["pid"]
    os.killpg(watch.pid, signal.SIGHUP)
    assert watch.poll() is None
    other = fleet.run("fleet", "watch")
    assert (other.code, other.err) == (6, "llmspell-fleet: another watch runs\n")
    os.killpg(watch.pid, signal.SIGINT)
    assert watch.wait(WAIT) == 0 and alive(pid)


def test_after_a_reboot_the_watch_starts_what_should_run(fleet):
    """F28"""
    name, = fleet.spawn("a.toml", "--restart", "always")
    stopped, = fleet.spawn("a.toml", "--restart", "always")
    fleet("stop", stopped)
    pid = fleet.connection(name)["pid"]
    with Watched(pid) as watched:
        os.kill(pid, signal.SIGKILL)
        assert watched.ended()
    edit(file_of(fleet, name), started="00000000-0000-0000-0000-000000000000/1")
    watch = fleet.watch()
    assert fleet.event(watch, "started")["kernel"] == name
    assert fleet.row(stopped)["state"] == "stopped"


def test_records_of_another_version_or_none(fleet):
    """F30"""
    name, = fleet.spawn("a.toml", "--name", "k")
    record = fleet.place.home / "fleet/wanted/k.json"
    old = record.read_text()
    for text, words in ((old[:40], "EOF"), ("", "EOF"), (old.replace('"schema_version": 1', '"schema_version": 9'), "newer")):
        record.write_text(text)
        row = fleet.row("k")
        assert row["state"] == "running" and words in row["reason"], row
        assert record.read_text() == text
        assert words in fleet("restart", "k", code=3).err
    record.write_text(old)
    folder = record.parent
    for number in range(1000):
        (folder / f"many-{number}.json").write_text(old.replace('"k"', f'"many-{number}"'))
    begun = time.monotonic()
    assert len(fleet.rows()) == 1001
    assert time.monotonic() - begun < 5, "a debug build on a busy machine; the benchmark says how long it takes"


def test_the_program_of_a_running_kernel_is_replaced(fakes):
    """F31"""
    name = fakes.fake("").out.strip()
    (fakes.bin / "llmspell-kernel").unlink()
    assert fakes.row(name)["state"] == "running"
    assert fakes("health", name).out.startswith("HEALTHY ")
    done = fakes("spawn", code=None)
    assert done.code in (4, 5, 3, 74) or "llmspell-kernel" in done.err, done
    (fakes.bin / "llmspell-kernel").write_text("#!/bin/sh\nexit 0\n")
    (fakes.bin / "llmspell-kernel").chmod(0o600)
    if os.geteuid():
        assert "permission denied" in fakes("spawn", code=4).err
    fakes("stop", name)


def test_a_configuration_that_changed(fleet):
    """F32"""
    config = fleet.place.write("c.toml", "[log]\nlevel = \"info\"\n")
    name, = fleet.spawn("c.toml", "--restart", "always")
    config.write_text("[log]\nlevel = \"warn\"\n")
    assert "another than when it was started" in fleet("status", name).out
    watch = fleet.watch()
    os.kill(fleet.connection(name)["pid"], signal.SIGKILL)
    assert "configuration is another" in fleet.event(watch, "started")["text"]
    assert "started again" in fleet.event(watch, "started")["text"]
    assert "configuration is another" in fleet("restart", name).err
    config.unlink()
    assert "c.toml" in fleet("restart", name, code=5).err
    assert fleet.row(name)["state"] == "running", "what runs is not ended for nothing"


def test_many_rounds_leave_nothing(fleet):
    """F33, a short one"""
    name, = fleet.spawn("a.toml", "--restart", "always")
    watch = fleet.watch("--stable", "0")

    def used():
        return len(os.listdir(f"/proc/{watch.pid}/fd")), len(children(watch.pid)), len(list(fleet.place.home.rglob("*")))

    def round():
        os.kill(fleet.connection(name)["pid"], signal.SIGKILL)
        fleet.event(watch, "started")

    round()
    before = used()
    for _ in range(20):
        round()
    until(lambda: used() <= before)
    assert fleet.row(name)["restarts"] == 21


def test_a_rolling_restart_ends_at_the_first_failure(fleet):
    """F36"""
    config = fleet.place.write("c.toml", "[log]\nlevel = \"info\"\n")
    fleet.spawn("c.toml", "--name", "pool", "--count", "3")
    pids = {name: row["pid"] for name, row in fleet.rows().items()}
    config.write_text("[nonsense]\n")
    done = fleet("restart", "pool", code=3)
    assert "2 kernels were left as they are: kernel pool-1: " in done.err and "nonsense" in done.err
    assert {name: row["pid"] for name, row in fleet.rows().items()} == pids, "what runs is not ended for nothing"


def test_a_rolling_restart_ends_at_the_first_kernel_that_does_not_come_back(fakes):
    """F36"""
    fakes.fake("fails-later", "--name", "pool", "--count", "3")
    pids = {name: row["pid"] for name, row in fakes.rows().items()}
    done = fakes("restart", "pool", code=1)
    assert "2 kernels were left as they are: kernel pool-1: made to fail" in done.err, done
    rows = fakes.rows()
    assert rows["pool-1"]["state"] in ("dead", "stopped")
    assert {name: rows[name]["pid"] for name in ("pool-2", "pool-3")} == {name: pids[name] for name in ("pool-2", "pool-3")}
    assert fakes("health", "pool-2").out.startswith("HEALTHY ")
