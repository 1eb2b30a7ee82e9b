"""What a service manager is told, and when the watchdog is not: played by a socket of our own."""
import ctypes
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
from conftest import WAIT, Wire, line, program

LOOP = "print('go') io.flush() while true do end"


class Manager:
    """Listens as systemd does."""

    def __init__(self, place, name=None):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.name = name or str(place.root / "notify")
        self.socket.bind(self.name.replace("@", "\0", 1))
        self.env = {"NOTIFY_SOCKET": self.name}

    def next(self, timeout=WAIT):
        self.socket.settimeout(timeout)
        return dict(text.split("=", 1) for text in self.socket.recv(4096).decode().splitlines())

    def until(self, name, timeout=WAIT):
        while name not in (said := self.next(timeout)):
            pass
        return said

    def drain(self):
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            pass

    def silent(self, seconds):
        """Whether no sign of life comes for so long."""
        try:
            self.until("WATCHDOG", seconds)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def manager(place):
    return Manager(place)


def test_the_life_of_a_service(place, kernel, manager):
    one = kernel(env=manager.env)
    ready = manager.next()
    assert ready == {"READY": "1", "MAINPID": str(one.pid), "STATUS": "idle; 0 clients, 0 executions, 0 tool calls"}
    wire = one.wire()
    header = wire.begin(LOOP)
    assert manager.until("STATUS")["STATUS"] == "running a script; 1 client, 1 execution, 0 tool calls"
    wire.ask("control", "interrupt_request")
    wire.reply("shell", header)
    assert manager.until("STATUS")["STATUS"] == "idle; 1 client, 1 execution, 0 tool calls"
    os.kill(one.pid, signal.SIGHUP)
    reloading = manager.until("RELOADING")
    assert abs(int(reloading["MONOTONIC_USEC"]) / 1e6 - __import__("time").monotonic()) < WAIT
    assert manager.next()["READY"] == "1"
    os.kill(one.pid, signal.SIGTERM)
    stopping = manager.until("STOPPING")
    assert 5e6 < int(stopping["EXTEND_TIMEOUT_USEC"]) < 60e6


def test_a_name_in_the_abstract_space(place, kernel):
    manager = Manager(place, f"@llmspell-test-{os.getpid()}")
    kernel(env=manager.env)
    assert manager.next()["READY"] == "1"


def test_an_idle_kernel_says_nothing(kernel, manager):
    kernel(env=manager.env)
    manager.next()
    with pytest.raises(TimeoutError):
        manager.next(3)


@pytest.fixture
def watched(kernel, manager):
    one = kernel(env={**manager.env, "WATCHDOG_USEC": "400000"})
    manager.until("WATCHDOG")
    return one


@pytest.mark.parametrize("work", [LOOP, "print('go') io.flush() Tool.invoke('http_request', {{input = '{url}/slow'}})"],
                         ids=["loop", "tool"])
def test_long_work_is_alive(kernel, manager, server, work):
    one = kernel("--allow-net", env={**manager.env, "WATCHDOG_USEC": "400000"})
    wire = one.wire()
    header = wire.begin(work.replace("{{", "{").replace("}}", "}").replace("{url}", server.url))
    for _ in range(8):
        manager.until("WATCHDOG", 2)
    wire.ask("control", "interrupt_request")
    wire.reply("shell", header)


def test_a_stopped_process_is_not(watched, manager):
    os.kill(watched.pid, signal.SIGSTOP)
    manager.drain()
    assert manager.silent(1)
    os.kill(watched.pid, signal.SIGCONT)
    manager.until("WATCHDOG")


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


@pytest.fixture
def freeze():
    """Stops one thread of a process as a deadlock would, and lets it go again. A tracer is one thread: all is done in it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def freeze(pid, name, work):
        thread = next(int(tid) for tid in os.listdir(f"/proc/{pid}/task") if open(f"/proc/{pid}/task/{tid}/comm").read() == f"{name}\n")
        if libc.ptrace(PTRACE_SEIZE, thread, 0, 0) or libc.ptrace(PTRACE_INTERRUPT, thread, 0, 0):
            pytest.skip(f"ptrace: {os.strerror(ctypes.get_errno())}")
        os.waitpid(thread, 0x40000000)
        try:
            return work()
        finally:
            libc.ptrace(PTRACE_DETACH, thread, 0, 0)

    return freeze


def test_a_deadlocked_io_thread_is_not(watched, manager, freeze):
    def dead():
        manager.until("WATCHDOG")  # the last one may be on its way
        manager.until("WATCHDOG", 0.5) if not manager.silent(0.3) else None
        return manager.silent(1.2)

    assert freeze(watched.pid, "llmspell-kernel", dead)
    manager.until("WATCHDOG")
    assert "no sign of life to the watchdog: the io thread does not come round" in watched.err()


def test_a_deadlocked_script_thread_is_not(watched, manager, freeze):
    wire = watched.wire()

    def dead():
        wire.send("shell", "execute_request", {"code": "1"})
        while not manager.silent(1):
            pass
        return True

    assert freeze(watched.pid, "llmspell-script", dead)
    manager.until("WATCHDOG")
    assert "the script thread does not take requests" in watched.err()


def test_a_script_that_ignores_its_interrupt_is_not(watched, manager, place):
    wire = watched.wire()
    manager.drain()
    wire.begin("print('go') io.flush() string.find(('a'):rep(34), ('a?'):rep(34) .. ('a'):rep(34))")
    manager.until("WATCHDOG")
    wire.ask("control", "interrupt_request")
    while not manager.silent(1):
        pass
    assert "the script does not follow an interrupt" in watched.err()
    watched.kill()


def test_the_watchdog_of_another_process_is_not_ours(kernel, manager):
    kernel(env={**manager.env, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    manager.next()
    assert manager.silent(0.5)
