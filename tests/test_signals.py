"""What each signal does, from outside and from a script that runs."""
import os
import signal
import sqlite3

import pytest
from conftest import WAIT, Watched, Wire
from test_daemon import Daemon, daemon, proc  # noqa: F401
from test_log import until

SIGNALS = {signal.SIGHUP: "SIGHUP: log reopened", signal.SIGUSR1: 'SIGUSR1: {"', signal.SIGUSR2: "SIGUSR2: log level debug"}
LOOP = "print('go') io.flush() while true do end"


@pytest.fixture
def log(place):
    return place.home / "logs/llmspell-kernel.log"


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("busy", [False, True])
def test_what_only_logs(daemon, log, number, busy):
    one = daemon()
    with one.wire() as wire:
        if busy:
            header = wire.begin(LOOP)
        os.kill(one.pid, number)
        until(log, SIGNALS[number])
        if busy:
            wire.ask("control", "interrupt_request")
            assert wire.reply("shell", header).content["ename"] == "KeyboardInterrupt"
        assert wire.stdout("print(1)") == "1\n"


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_from_within_a_script(place, daemon, log, number):
    one = daemon("--allow-run")
    with one.wire() as wire:
        assert wire.stdout(f'print(os.execute("kill -{number.name[3:]} {one.pid}"))') == "true\texit\t0\n"
        until(log, SIGNALS[number])
        assert wire.stdout("print(1)") == "1\n"


def test_usr1_tells_the_status_even_of_a_quiet_kernel(place, daemon, log):
    one = daemon("--log-level", "off")
    with one.wire() as wire:
        wire.begin(LOOP)
        os.kill(one.pid, signal.SIGUSR1)
        text = until(log, "SIGUSR1: ")
        assert f'"pid":{one.pid}' in text and '"busy":true' in text and '"execution_count":1' in text
        wire.ask("control", "interrupt_request")


def test_usr2_steps_through_the_levels(daemon, log):
    one = daemon()
    for level in ("debug", "trace", "warn", "debug"):
        count = log.read_text().count(f"log level {level}\n") + 1
        os.kill(one.pid, signal.SIGUSR2)
        while until(log, f"log level {level}\n").count(f"log level {level}\n") < count:
            pass


def test_hup_takes_what_may_change_and_tells_the_rest(place, daemon, log):
    place.config('[kernel.tools]\nenable_tool_cli = true\n')
    one = daemon()
    with one.wire() as wire:
        assert wire.tool("invoke", name="calculator", params={"input": "1+1"})["status"] == "ok"
        place.config('[kernel]\nport = 9555\n[kernel.tools]\nenable_tool_cli = false\nmax_concurrent_tools = 2\n'
                     '[engines.lua]\ntimeout = "200ms"\n[log]\nlevel = "info"\n')
        os.kill(one.pid, signal.SIGHUP)
        text = until(log, "kernel.port: a new value takes effect at the next start")
        assert "configuration: engines.lua.timeout, kernel.tools.enable_tool_cli, kernel.tools.max_concurrent_tools, log.level changed" in text
        assert wire.tool("invoke", name="calculator", params={"input": "1+1"})["error_type"] == "denied"
        assert wire.execute("while true do end")[0]["ename"] == "TimeoutError"
        place.config("[kernel]\nprot = 1\n")
        os.kill(one.pid, signal.SIGHUP)
        assert "config.toml:2" in until(log, "configuration not taken").splitlines()[-1]
        assert wire.execute("while true do end")[0]["ename"] == "TimeoutError"


def test_fewer_and_more_tools_at_a_time(place, daemon, log, server):
    place.config('[kernel.tools]\nmax_concurrent_tools = 1\n[security]\nallow_net = ["*"]\n')
    one = daemon()
    with one.wire() as wire:
        headers = [wire.send("shell", "tool_request", {"command": "invoke", "name": "http_request", "params": {"input": f"{server.url}/slow{n}"}})
                   for n in range(3)]
        server.wait()
        assert server.arrived.empty()
        place.config('[kernel.tools]\nmax_concurrent_tools = 3\n[security]\nallow_net = ["*"]\n')
        os.kill(one.pid, signal.SIGHUP)
        server.wait(), server.wait()
        server.release.set()
        assert {wire.recv("shell").content["status"] for _ in headers} == {"ok"}


def test_term_drains(place, daemon, log):
    """Running work gets its grace, new work a clear refusal; history is kept, files go, and the last word is shutdown_reply."""
    one = daemon("--log-level", "info")
    with one.wire() as wire, one.wire() as other:
        wire.stdout("print('kept')")
        header = wire.begin("print('go') io.flush() local t = os.clock() while os.clock() < t + 0.3 do end print('done')")
        os.kill(one.pid, signal.SIGTERM)
        until(log, "SIGTERM: ending; running work has 5s")
        for kind, content in (("execute_request", {"code": "1"}), ("tool_request", {"command": "list"})):
            reply = other.ask("shell", kind, content).content
            assert reply["status"] == "error" and "shutting down" in str(reply), reply
        assert wire.reply("shell", header).content["status"] == "ok"
        while (message := wire.recv("iopub")).type != "shutdown_reply":
            pass
        assert message.content == {"status": "ok", "restart": False}
    assert one.watched.ended()
    assert os.listdir(place.home / "kernel") == [] and os.listdir(place.run / os.listdir(place.run)[0]) == []
    assert log.read_text().endswith("kernel ended\n")
    with sqlite3.connect(place.home / "store/llmspell-kernel.db") as store:
        tables = [name for name, in store.execute("select name from sqlite_master where type = 'table'")]
        assert any("print('kept')" in str(row) for table in tables for row in store.execute(f"select * from {table}"))


def test_term_of_a_script_without_end(daemon, place):
    place.config('[kernel]\ngrace = "100ms"\n')
    one = daemon()
    with one.wire() as wire:
        header = wire.begin(LOOP)
        os.kill(one.pid, signal.SIGTERM)
        assert wire.reply("shell", header).content["status"] == "error"
    assert one.watched.ended()


def test_int_stops_the_script_and_not_a_kernel_in_the_background(daemon):
    one = daemon()
    with one.wire() as wire:
        header = wire.begin(LOOP)
        os.kill(one.pid, signal.SIGINT)
        assert wire.reply("shell", header).content["ename"] == "KeyboardInterrupt"
        os.kill(one.pid, signal.SIGINT)
        assert wire.stdout("print(1)") == "1\n"


def test_an_unused_kernel_ends(place, daemon, log):
    one = daemon("--log-level", "info", "--idle-timeout", "400ms")
    with one.wire() as wire:  # connected is used, however quiet
        assert not one.watched.ended(1)
        wire.stdout("print(1)")
    assert one.watched.ended()
    assert "unused for 400ms; ending" in log.read_text()
    assert os.listdir(place.home / "kernel") == []


def test_work_without_a_client_is_use(daemon):
    one = daemon("--idle-timeout", "300ms")
    with Wire(one.connection, channels=("shell",)) as wire:
        wire.send("shell", "execute_request", {"code": "local t = os.clock() while os.clock() < t + 1 do end"})
        assert not one.watched.ended(0.8)
    assert one.watched.ended()


def test_more_clients_than_there_may_be(daemon):
    one = daemon("--max-clients", "2")
    with one.wire() as first, one.wire() as second:
        assert first.stdout("print(1)") == second.stdout("print(1)") == "1\n"
        with one.wire() as third:
            reply = third.execute("1")[0]
            assert (reply["ename"], reply["evalue"]) == ("ConflictError", "the kernel has its 2 clients"), reply
            assert "kernel.max_clients" in str(reply)
            assert third.tool("list")["status"] == "ok", "tools are for all"
            assert third.ask("shell", "kernel_info_request").content["status"] == "ok"
        assert first.stdout("print(1)") == "1\n"
    while one.status()["clients"]:
        pass
    with one.wire() as fourth:
        assert fourth.stdout("print(1)") == "1\n"
