"""`llmspell-fleet top` in a pseudo-terminal: what stands on its screen, what its keys do, and what it leaves of the terminal."""
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pyte
import pytest
from conftest import WAIT, Watched, Wire, ended, line, program
from test_fleet import CONFIG, fleet, free_block  # noqa: F401, a fixture
from test_fleet_faults import fakes  # noqa: F401, a fixture


class Terminal:
    """A terminal of some size, with a program in it."""

    def __init__(self, words, env, size=(24, 80), **more):
        self.screen = pyte.Screen(size[1], size[0])
        self.stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        self.resize(*size, tell=False)
        self.before = termios.tcgetattr(slave)
        self.child = subprocess.Popen(words, env={"TERM": "xterm-256color", **env}, stdin=slave, stdout=slave, stderr=slave,
                                      start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **more)
        self.slave, self.raw = slave, b""

    def resize(self, rows, columns, tell=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.screen.resize(rows, columns)

    def text(self):
        return "\n".join(text.rstrip() for text in self.screen.display)

    def read(self, limit):
        if select.select([self.master], [], [], limit)[0]:
            with contextlib.suppress(OSError):
                new = os.read(self.master, 65536)
                self.raw += new
                self.stream.feed(new)
                return True
        return False

    def until(self, condition, timeout=WAIT):
        """Reads until the screen is as wanted, and returns what stands there."""
        wanted = condition if callable(condition) else lambda text: re.search(condition, text, re.M)
        end = time.monotonic() + timeout
        while not wanted(self.text()):
            more = self.read(1)
            assert time.monotonic() < end and (more or self.child.poll() is None), self.text()
        return self.text()

    def type(self, keys):
        os.write(self.master, keys.encode())

    def ended(self):
        with Watched(self.child.pid) as watched:
            end = time.monotonic() + WAIT
            while not watched.ended(0):
                assert time.monotonic() < end
                self.read(0.1)
        while self.read(0):
            pass
        return self.child.wait()

    def is_restored(self):
        """As it was: its modes, the screen of before, a cursor."""
        return termios.tcgetattr(self.slave) == self.before and self.raw.rindex(b"\x1b[?1049l") > self.raw.rindex(b"\x1b[?1049h") \
            and self.raw.rindex(b"\x1b[?25h") > self.raw.rindex(b"\x1b[?25l")

    def close(self):
        self.child.kill()
        self.child.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(place):
    with contextlib.ExitStack() as stack:

        def terminal(*flags, env=None, binary=None, words=None, **more):
            one = Terminal(words or [binary or program("fleet"), "top", *flags], {**place.env, **(env or {})}, cwd=place.work, **more)
            stack.callback(one.close)
            return one

        yield terminal


def test_the_screen(fleet, terminal):  # noqa: F811
    fleet.spawn("a.toml", "--name", "pool", "--count", "2", "--label", "tier=web")
    other, = fleet.spawn("a.toml", "--name", "other")
    fleet("stop", "other")
    with Wire(fleet.connection("pool-1")):
        top = terminal("--interval", "200ms")
        text = top.until(r"^pool-2 +ready").splitlines()
    assert text[0] == "llmspell-fleet top - 3 kernels: 2 ready, 1 stopped; no watch runs"
    assert re.fullmatch(r"CPU [\d.]+%  memory \d+MB  clients 1  executions 0", text[1]), text[1]
    assert re.fullmatch(r"KERNEL +STATE +PID +PORT +UPTIME +CPU% +MEMORY +CLIENTS +EXECS +RESTARTS", text[2].strip()), text[2]
    row = fleet.row("pool-1")
    assert re.fullmatch(rf"pool-1 +ready +{row['pid']} +{row['port']} +\d+s +[\d.]+ +\d+MB +1 +0 +0", text[4]), text
    assert re.fullmatch(r"other +stopped +- +\d+ +- +- +- +- +- +0", text[3]), text
    assert text[-1].startswith("q quit  ? keys")
    assert all(len(one) <= 80 for one in text)
    # What a script does is seen.
    fleet("exec", "pool-2", "--", "local t = os.clock() while os.clock() - t < 1 do end")
    top.until(r"^pool-2 +ready .* 1 +0$")
    # Everything about one, with the end of its log.
    top.type("j\r")
    text = top.until(r"kernel pool-1 ready")
    assert re.search(r"^-- pool-1 -+$", text, re.M) and re.search(r"^  labels +tier=web$", text, re.M), text
    # Kernels come and go by themselves.
    fleet("stop", "pool-2")
    top.until(r"^pool-2 +stopped")
    top.type("q")
    assert top.ended() == 0 and top.is_restored()


def test_order_and_filter(fleet, terminal):  # noqa: F811
    fleet.spawn("a.toml", "--name", "b", "--label", "tier=web")
    fleet.spawn("a.toml", "--name", "a")
    fleet.spawn("a.toml", "--name", "c")
    fleet("exec", "b", "--", "local t = os.clock() while os.clock() - t < 0.5 do end")
    fleet("exec", "c", "--", "x = string.rep('x', 100000000)")

    def order(text):
        return [name for name in re.findall(r"^([abc]) +ready", text, re.M)]

    top = terminal("--interval", "500ms")
    top.until(lambda text: order(text) == ["a", "b", "c"])
    top.type("M")
    top.until(lambda text: order(text)[0] == "c")
    top.type("R")
    top.until(lambda text: order(text)[-1] == "c")
    top.type("R" + "<" * 9)
    top.until(lambda text: order(text) == ["a", "b", "c"])
    top.type("/TIER")
    top.until(lambda text: order(text) == ["b"] and "filter: TIER_" in text)
    top.type("\x7f\x7f\x7f\x7fnone\r")
    top.until("no kernel has this")
    top.type("\x1b")
    top.until(lambda text: order(text) == ["a", "b", "c"])
    top.type("?")
    text = top.until(r"Ctrl-Z +suspend")
    assert "Keys" in text and "+--" in text
    top.type("?")
    top.until(lambda text: "Ctrl-Z" not in text)
    top.type("\x03")
    assert top.ended() == 0


def test_stopping_and_restarting(fleet, terminal):  # noqa: F811
    fleet.spawn("a.toml", "--name", "pool", "--count", "2")
    before = fleet.rows()
    top = terminal("pool", "--interval", "60s")
    top.until(r"^pool-2 +ready")
    top.type("\x1b[Bs")
    top.until(rf"^stop pool-2 \(PID {before['pool-2']['pid']}\)\? y/n")
    top.type("n")
    top.until("^q quit")
    top.type("sy")
    top.until("^pool-2: stopped$")
    top.until(r"^pool-2 +stopped")
    assert fleet.row("pool-2")["state"] == "stopped" and fleet.row("pool-1") ["pid"] == before["pool-1"]["pid"]
    top.type("s")
    top.until("^pool-2: does not run$")
    top.type("ry")
    top.until(r"^pool-2: runs with PID \d+$")
    top.until(r"^pool-2 +ready")
    top.type("gr")
    top.until(r"^restart pool-1 \(PID \d+\)\? y/n")
    # Who quits at once does not leave it ended.
    top.type("yq")
    assert top.ended() == 0
    row = fleet.row("pool-1")
    assert row["state"] == "running" and row["pid"] != before["pool-1"]["pid"] and row["port"] == before["pool-1"]["port"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_gives_the_terminal_back(fleet, terminal, name):  # noqa: F811
    top = terminal()
    top.until("no kernels; llmspell-fleet spawn CONFIG starts one")
    assert termios.tcgetattr(top.slave) != top.before
    top.child.send_signal(getattr(signal, name))
    assert top.ended() == 128 + getattr(signal, name) and top.is_restored()


def test_suspending(fleet, terminal):  # noqa: F811
    """In a shell, as only that can suspend what it started."""
    script = f"set -m; {program('fleet')} top --interval 200ms; echo is suspended; read x; fg >/dev/null; echo is over"
    top = terminal(words=["bash", "-c", script])
    top.until("no kernels")
    top.type("\x1a")
    top.until("^is suspended")
    assert top.is_restored()
    top.type("\n")
    top.until("no kernels")
    top.type("q")
    top.until("^is over")
    assert top.ended() == 0 and top.is_restored()


def test_sizes(fleet, terminal):  # noqa: F811
    fleet.spawn("a.toml", "--name", "a-kernel-with-a-name-that-is-far-too-long-for-any-column")
    top = terminal("--interval", "200ms", size=(24, 80))
    text = top.until(" ready ")
    assert "RESTARTS" in text and "+ ready" in text and all(len(one) <= 80 for one in text.splitlines()), text
    for columns, there, gone in ((132, "any-column ready", "+ ready"), (70, "EXECS", "RESTARTS"), (60, "CPU%", "EXECS"), (30, "STATE", "PID"), (20, "KERNEL", "PID")):
        top.resize(24, columns)
        text = top.until(lambda text, there=there, gone=gone: there in text and gone not in text and "ready" in text)
        assert all(len(one) <= columns for one in text.splitlines()), text
    for rows, columns, said in ((3, 80, "too small"), (24, 10, "too small"), (1, 1, "t"), (5, 80, "a-kernel")):
        top.resize(rows, columns)
        top.until(said)
    top.type("\r?")
    for rows, columns in ((5, 40), (12, 40), (7, 21), (4, 20), (40, 200)):
        top.resize(rows, columns)
        top.until("KERNEL|Keys|Up")
    assert "Keys" in top.until("Ctrl-Z")
    top.type("qq")
    assert top.ended() == 0
    assert b"panicked" not in top.raw


@pytest.mark.parametrize("env, coloured", [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours(fleet, terminal, env, coloured):  # noqa: F811
    fleet.spawn("a.toml", "--name", "one")
    fleet.spawn("a.toml", "--name", "two")
    top = terminal("--interval", "200ms", env=env)
    top.until("^two +ready")
    colours = {top.screen.buffer[4][x].fg for x in range(10)}
    assert colours == ({"00cd00"} if coloured else {"default"})  # the second colour of the palette, green
    assert not top.screen.buffer[4][0].reverse and top.screen.buffer[3][0].reverse


def test_many_rows_scroll(fakes, terminal):  # noqa: F811
    fakes("spawn", "--name", "k", "--count", "12", "--port", free_block(12))
    top = terminal("--interval", "300ms", size=(10, 80), binary=fakes.bin / "llmspell-fleet")
    top.until(r"^k-6 +ready")
    assert "k-7 " not in top.text()
    top.type("G")
    text = top.until(r"^k-12 +ready")
    assert "k-6 " not in text and "k-7 " in text
    top.type("\x1b[5~")
    top.until(r"^k-6 +ready")
    top.type("\x1b[H\r")
    top.until("^-- k-1 -")
    top.type("q")
    assert top.ended() == 0


def test_a_kernel_that_hangs_does_not_stop_the_screen(fakes, terminal):  # noqa: F811
    fakes.fake("heartbeat-only", "--name", "deaf", "--port", free_block(1))
    fakes("spawn", "--name", "well", "--port", free_block(1))
    top = terminal("--interval", "100ms", "--timeout", "1500ms", binary=fakes.bin / "llmspell-fleet")
    top.until("^deaf +degraded")
    for key in ("?", "x", "?", "x", "?", "x"):
        begun = time.monotonic()
        top.type(key)
        top.until((lambda text: "Ctrl-Z" in text) if key == "?" else (lambda text: "Ctrl-Z" not in text))
        assert time.monotonic() - begun < 1.4
    top.type("\r")
    top.until("state +degraded: control, shell: no answer within")
    top.type("q")
    assert top.ended() == 0


def test_printed(fleet):  # noqa: F811
    fleet.spawn("a.toml", "--name", "one")
    done = fleet("top", code=2)
    assert done.err == ("llmspell-fleet: top: standard output is no terminal that can be drawn on\n"
                        "--once prints the figures once, --batch again and again.\n")
    head, row = fleet("top", "--once").out.splitlines()
    assert head.split() == ["KERNEL", "STATE", "PID", "PORT", "UPTIME", "CPU%", "MEMORY", "CLIENTS", "EXECS", "RESTARTS"]
    assert re.fullmatch(r"one +ready +\d+ +\d+ +\d+s +[\d.]+ +\d+MB +0 +0 +0", row), row
    row = fleet("top", "--once", "--json", "--sort", "cpu").json()["kernels"][0]
    metrics = fleet.row("one", "metrics")
    assert set(metrics) < set(row) and set(row) - set(metrics) == {"pid", "port", "cpu_percent"}
    assert abs(row["rss_bytes"] - metrics["rss_bytes"]) < 5e6
    child = subprocess.Popen([program("fleet"), "top", "-b", "--json", "--interval", "100ms"], env=fleet.place.env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    rows = [json.loads(line(child.stdout))["kernels"][0] for _ in range(3)]
    assert {row["id"] for row in rows} == {"one"}
    child.terminate()
    assert ended(child) == 0 and child.stderr.read() == b""
    child.stdout.close()
    child.stderr.close()
    # Nobody reads any more.
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{program('fleet')} top -b --interval 100ms | head -1"],
                          env=fleet.place.env, capture_output=True, text=True, timeout=WAIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert fleet("top", "--interval", "1ms", code=2).err.startswith("llmspell-fleet: --interval: is less than 100ms")
    assert "only together with" in fleet("top", "--json", code=2).err
    assert "unknown" in fleet("top", "--once", "nobody", code=5).err
