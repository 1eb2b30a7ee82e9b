"""llmspell-fleet: spawning, listing, asking, stopping, restarting; logs, metrics, scripts; the watch."""
import contextlib
import gzip
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import time

import pytest
from conftest import BIN, WAIT, Watched, Wire, ended, line, program

CONFIG = "[log]\nlevel = \"debug\"\n"


class Fleet:
    """llmspell-fleet with a home of its own; what it started is gone at the end."""

    def __init__(self, place, run):
        self.place, self.run = place, run
        self.watches = []

    def __call__(self, *words, code=0, **more):
        if words[0] == "spawn" and "--port" not in words and more.pop("ports", "apart") == "apart":
            # Tests run beside each other: what is killed here keeps its ports for its next start.
            words = (*words, "--port", free_block(int(words[words.index("--count") + 1]) if "--count" in words else 1))
        done = self.run("fleet", *words, **more)
        assert code is None or done.code == code, (words, done)
        return done

    def spawn(self, *words, **more):
        """Ids of what was spawned."""
        return self("spawn", *words, **more).out.split()

    def rows(self, command="list", *words, code=0):
        document = self(command, *words, "--json", code=code).json()
        assert document["schema_version"] == 1
        return {row["id"]: row for row in document["kernels"]}

    def row(self, name, command="list"):
        return self.rows(command, code=None)[name]

    def connection(self, name):
        return json.loads((self.place.home / "kernel" / f"{name}.json").read_text())

    def state(self, name):
        return json.loads((self.place.home / "fleet/state" / f"{name}.json").read_text())

    def watch(self, *words):
        child = subprocess.Popen([program("fleet"), "watch", "--json", "--probe", "0", *words], env=self.place.env,
                                 cwd=self.place.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.watches.append(child)
        self.event(child, "ready")
        return child

    def event(self, watch, what):
        """The next event of that kind."""
        while True:
            text = line(watch.stdout)
            assert text, f"the watch ended: {watch.stderr.read()}"
            event = json.loads(text)
            if event["event"] == what:
                return event

    def end(self):
        for watch in self.watches:
            watch.kill()
            watch.wait()
            watch.stdout.close()
            watch.stderr.close()
        self.run("fleet", "stop", "--all", "--force")
        try:
            until(lambda: not ours(self), 10)
        finally:
            for pid in ours(self):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def environment(pid):
    """Variables of a living process that is no zombie; empty when it is none of ours."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0]
        return "" if stat in "ZX" else pathlib.Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except (OSError, IndexError):
        return ""


def ours(fleet):
    """Processes with this home: kernels, whoever knows of them."""
    home = f"LLMSPELL_HOME={fleet.place.home}"
    return {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if home in environment(pid).split("\0")}


@pytest.fixture
def fleet(place, run):
    fleet = Fleet(place, run)
    place.write("a.toml", CONFIG)
    yield fleet
    fleet.end()


def free_block(count):
    """The first of some ports in a row that nobody uses."""
    while True:
        first = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def until(condition, timeout=WAIT):
    """For what no descriptor tells of: the end of a process that is buried by another."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_lines_of_the_release_notes(fleet):
    first, = fleet.spawn("a.toml", "lua", ports="as they come")
    second, = fleet.spawn("a.toml", "lua", ports="as they come")
    ports = [int(re.fullmatch(r"kernel-(\d+)", name)[1]) for name in (first, second)]
    assert 9555 <= ports[0] < ports[1]
    assert [fleet.connection(name)["shell_port"] for name in (first, second)] == ports
    listed = fleet("list").out
    assert re.search(rf"^{first} +running +\d+ +{ports[0]} +\d+MB +\d+s$", listed, re.M), listed
    kernel = fleet.connection(first)
    with Wire(kernel), Wire(kernel), Wire(kernel) as wire:
        out = fleet("health", first).out
        assert re.fullmatch(r"HEALTHY \(uptime: \d+s, memory: \d+MB, clients: 3\)\n", out), out
        status = wire.ask("control", "status_request").content
        megabytes = int(re.search(r"memory: (\d+)MB", out)[1])
        assert abs(megabytes - status["rss_bytes"] / 1e6) < 5
    assert fleet("stop", first).out == f"{first}: stopped\n"
    assert fleet.row(first)["state"] == "stopped"
    assert fleet("health", first, code=1).out == "STOPPED\n"
    assert not (fleet.place.home / "kernel" / f"{first}.json").exists()


def test_a_kernel_started_by_hand_is_there(fleet, kernel):
    port = free_port()
    one = kernel("--port", port)
    for name in (f"kernel-{port}", str(port), str(one.pid), "llmspell-kernel"):
        assert fleet("health", name).out.startswith("HEALTHY (uptime: "), name
    assert fleet.row("llmspell-kernel")["managed"] is False
    assert fleet("stop", f"kernel-{port}").out == "llmspell-kernel: stopped\n"
    assert one.ended() == 0


def test_names_of_nobody(fleet):
    done = fleet("health", "nope", code=5)
    assert done.err == "llmspell-fleet: kernel nope: unknown\nThere is none. Start one: llmspell-fleet spawn CONFIG\n"
    failed = fleet("health", "nope", "--json", code=5).json()
    assert failed["schema_version"] == 1 and failed["failed"]["class"] == "not_found"
    assert fleet("list").out == ""
    name, = fleet.spawn("--name", "first")
    assert "Did you mean first?" in fleet("stop", "fisrt", code=5).err
    assert fleet("spawn", "--name", "first", code=6).err.startswith("llmspell-fleet: kernel first: runs already (PID ")


def test_a_start_that_fails_says_why_and_leaves_nothing(fleet):
    fleet.place.write("bad.toml", "[nonsense]\n")
    done = fleet("spawn", "bad.toml", "--name", "bad", code=3)
    assert "bad.toml:1: nonsense" in done.err, done.err
    assert fleet.rows() == {}
    done = fleet("spawn", "missing.toml", code=5)
    assert done.err.startswith("llmspell-fleet: configuration missing.toml: no such file\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = fleet("spawn", "--port", taken.getsockname()[1], code=6)
        assert "address already in use" in done.err.lower(), done.err
    assert fleet.rows() == {}


def test_a_group(fleet):
    names = fleet.spawn("a.toml", "--name", "pool", "--count", "3", "--label", "tier=web", "--env", "A=1")
    assert sorted(names) == ["pool-1", "pool-2", "pool-3"]
    other, = fleet.spawn("a.toml")
    assert set(fleet.rows("list", "--label", "tier=web")) == set(names)
    out = fleet("health", "pool").out.splitlines()
    assert [re.split(" +", text)[:2] for text in out] == [[name, "HEALTHY"] for name in sorted(names)]
    healthy = fleet("health", "--json").json()
    assert healthy["healthy"] and len(healthy["kernels"]) == 4
    assert healthy["kernels"][0]["channels"] == {"heartbeat": True, "control": True, "shell": True}
    ran = fleet("exec", "pool", "--", "print(6 * 7)")
    assert ran.out == "42\n" * 3
    assert fleet("exec", other, "--", "error('x')", code=1).err.count("x")
    assert fleet("stop", "pool").out == "".join(f"{name}: stopped\n" for name in sorted(names))
    assert {row["state"] for name, row in fleet.rows().items() if name != other} == {"stopped"}
    assert fleet("cleanup").out == "".join(f"{name}: forgotten (stopped)\n" for name in sorted(names))
    assert set(fleet.rows()) == {other}


def test_a_restarted_kernel_keeps_ports_and_key(fleet):
    name, = fleet.spawn("a.toml")
    before = fleet.connection(name)
    with Wire(before) as wire:
        wire.ask("control", "status_request")
        out = fleet("restart", name).out
        after = fleet.connection(name)
        assert out == f"{name}: restarted with PID {after['pid']}\n" and after["pid"] != before["pid"]
        same = [key for key in before if key not in ("pid", "started")]
        assert {key: before[key] for key in same} == {key: after[key] for key in same}
        # The same sockets, the same key: the client is back without doing anything.
        assert wire.ask("control", "status_request").content["pid"] == after["pid"]
    assert fleet.row(name)["restarts"] == 1
    fleet("stop", name)
    assert fleet("restart", name).out.startswith(f"{name}: started with PID ")


def test_a_kernel_started_by_hand_is_taken_over(fleet, kernel):
    one = kernel("--id", "hand", "--port", free_port(), "--profile", "safe", env={"A_KEY": "secret"})
    fleet("restart", "hand")
    assert one.ended() == 0
    row = fleet.row("hand")
    assert row["managed"] and row["state"] == "running" and row["port"] == one.connection["shell_port"]
    wanted = json.loads((fleet.place.home / "fleet/wanted/hand.json").read_text())
    assert wanted["arguments"] == ["--profile", "safe"] and "secret" not in json.dumps(wanted)


def test_a_kernel_on_sockets_is_taken_over(fleet, kernel):
    one = kernel()
    row = fleet.row("llmspell-kernel")
    assert row["port"] is None and row["endpoint"].startswith("ipc://")
    fleet("restart", "llmspell-kernel")
    assert one.ended() == 0
    after = fleet.row("llmspell-kernel")
    assert after["endpoint"] == row["endpoint"] and after["pid"] != row["pid"]
    assert fleet("health", "llmspell-kernel").out.startswith("HEALTHY ")


def test_status_and_metrics(fleet):
    name, = fleet.spawn("a.toml", "--memory", "2GB", "--label", "x=y", "--env", "SECRET=hush", "--restart", "always")
    fleet("exec", name, "--", "print(1)")
    text = fleet("status", name).out
    for part in (f"{name}\n  state         ready\n", "1 executions", "restart       always, done 0 times; no watch runs to do it",
                 "2GB of memory, held by ", "labels        x=y", "variables     SECRET", "a.toml"):
        assert part in text, (part, text)
    document = fleet("status", "--json")
    assert "hush" not in text + document.out and document.json()["kernels"][0]["env"] == ["SECRET"]
    row = fleet.row(name, "metrics")
    assert row["executions"] == 1 and row["open_files"] > 10 and row["rss_bytes"] > 1e6 and row["cpu_s"] >= 0
    assert re.search(rf"^{name} +ready +\d", fleet("metrics").out, re.M)
    fleet("stop", name)
    assert "ready" not in fleet("status", name, code=1).out


def test_prometheus_reads_the_metrics(fleet):
    fleet.spawn("a.toml", "--name", "one")
    text = fleet("metrics", "--prometheus").out
    check_exposition(text)
    assert 'llmspell_kernel_up{kernel="one"} 1\n' in text and 'llmspell_kernels{state="ready"} 1\n' in text


def check_exposition(text):
    """The rules of `promtool check metrics`: names, types and help once and first, counters end in _total, labels quoted."""
    seen, current, samples = set(), None, set()
    assert text.endswith("\n")
    for one in text.splitlines():
        if one.startswith("# "):
            word, name, rest = re.fullmatch(r"# (HELP|TYPE) ([a-z_:][a-z0-9_:]*) (.+)", one).groups()
            if word == "HELP":
                assert name not in seen and rest.endswith("."), one
                seen.add(name)
                current = name
            else:
                assert name == current and rest in ("gauge", "counter"), one
                assert (rest == "counter") == name.endswith("_total"), one
            continue
        label = r'[a-z_][a-z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
        name, labels, value = re.fullmatch(rf"([a-z0-9_:]+)(\{{{label}(?:,{label})*\}})? (\S+)", one).groups()
        assert name == current and (name, labels) not in samples, one
        samples.add((name, labels))
        float(value)


def test_logs(fleet):
    names = fleet.spawn("a.toml", "--name", "pool", "--count", "2")
    out = fleet("logs", "pool-1").out
    assert re.search(r"^\d{4}-\d\d-\d\dT[\d:.]+Z INFO llmspell\S*: kernel pool-1 ready", out, re.M), out
    both = fleet("logs").out.splitlines()
    assert {text.split(": ")[0] for text in both} == set(names)
    stamps = re.findall(r"^pool-\d: (\d{4}-\S+Z) ", "\n".join(both), re.M)
    assert len(stamps) >= 2 and stamps == sorted(stamps)
    assert fleet("logs", "--grep", "pool-2 ready", "-n", "1").out.startswith("pool-2: ")
    assert fleet("logs", "--level", "error").out == ""
    assert fleet("logs", "--since", "2100-01-01T00:00:00Z").out == ""
    assert json.loads(fleet("logs", "--json", "-n", "1").out)["kernel"] in names
    follow = subprocess.Popen([program("fleet"), "logs", "-f", "-n", "0"], env=fleet.place.env, stdout=subprocess.PIPE)
    try:
        # What is awaited comes after the watch for it was set up, which nothing tells of: so it is made to come again.
        text, end = "", time.monotonic() + WAIT
        while "pool-1 ready" not in text:
            assert time.monotonic() < end
            fleet("restart", "pool-1")
            while "pool-1 ready" not in text and select.select([follow.stdout], [], [], 0.1)[0]:
                text = line(follow.stdout)
        assert text.startswith("pool-1: ")
        follow.send_signal(signal.SIGINT)
        assert follow.wait(WAIT) == 0
    finally:
        follow.kill()
        follow.wait()
        follow.stdout.close()


def test_logs_that_were_compressed(fleet):
    logs = fleet.place.home / "logs"
    logs.mkdir(mode=0o700)
    line = "2026-01-0{}T00:00:0{}.000Z INFO x: line {}\n"
    old = logs / "k.2026-01-02T00-00-00Z.log.gz"
    old.write_bytes(gzip.compress("".join(line.format(1, n, n) for n in range(5)).encode()) + gzip.compress(line.format(1, 5, 5).encode()))
    (logs / "k.2026-01-03T00-00-00Z.log").write_text(line.format(2, 0, 6))
    (logs / "k.2026-01-03T00-00-00Z.log.gz").write_bytes(b"half of it")
    (logs / "k.log").write_text(line.format(3, 0, 7))
    numbers = lambda *words: [int(text.split()[-1]) for text in fleet("logs", "k", *words).out.splitlines()]  # noqa: E731
    assert numbers() == list(range(8)) and numbers("-n", "4") == [4, 5, 6, 7]
    assert numbers("--grep", "line [26]") == [2, 6] and numbers("--since", "2026-01-01T00:00:03Z") == [3, 4, 5, 6, 7]
    # A damaged one has what can be read.
    old.write_bytes(old.read_bytes()[:-30])
    assert numbers("-n", "2") == [6, 7] and numbers()[-2:] == [6, 7]


def test_the_watch_starts_again_what_was_killed(fleet):
    """F3"""
    done = fleet("spawn", "a.toml", "--restart", "on-failure")
    assert "no watch runs" in done.err and "watch --unit" in done.err
    name = done.out.strip()
    before = fleet.connection(name)
    watch = fleet.watch()
    with Wire(before) as wire:
        for round in range(2):
            pid = fleet.connection(name)["pid"]
            with Watched(pid) as watched:
                os.kill(pid, signal.SIGKILL)
                assert watched.ended()
            started = fleet.event(watch, "started")
            assert started["kernel"] == name
            after = fleet.connection(name)
            assert after["pid"] != pid and after["key"] == before["key"]
            assert wire.ask("control", "status_request").content["pid"] == after["pid"]
    row = fleet.row(name)
    assert row["restarts"] == 2 and row["state"] == "running"
    assert fleet.state(name)["cause"] == "signal 9 (KILL)"
    assert "no watch runs" not in fleet("status", name).out
    # Who stops it means it.
    fleet("stop", name)
    assert fleet.row(name)["state"] == "stopped"
    # An end in good order is none to be repaired.
    other, = fleet.spawn("a.toml", "--restart", "on-failure")
    with Wire(fleet.connection(other)) as wire:
        wire.send("control", "shutdown_request", {"restart": False})
    event = fleet.event(watch, "ended")
    while event["kernel"] != other:
        event = fleet.event(watch, "ended")
    assert event["text"].startswith("ended: ") and event["text"].endswith("; not started again, as it ended well")
    watch.terminate()
    assert watch.wait(WAIT) == 0


def test_the_unit_of_the_watch_is_one(fleet):
    unit = fleet("watch", "--unit").out
    assert f'ExecStart="{(BIN / "llmspell-fleet").resolve()}" watch\n' in unit and "KillMode=process\n" in unit


def test_the_examples_of_the_page_run(fleet):
    """As a newcomer types them, one after the other; only the first port is one that no test beside this one takes."""
    fleet.place.write("openai.toml", CONFIG)
    env = {**fleet.place.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
    listed = subprocess.run([program("fleet"), "--generate", "examples"], capture_output=True, check=True)
    first, port = None, free_block(1)
    fleet.place.write("shop.toml", f'fleet = "shop"\n[kernels.web]\nconfig = "openai.toml"\nport = {free_block(1)}\n')
    for example in map(json.loads, listed.stdout.splitlines()):
        command = example["command"].replace("kernel-9555", first or "none").replace(" lua", f" lua --port {port}")
        if command.endswith(" &"):
            # It serves until the example that stops everything.
            fleet.watches.append(subprocess.Popen(["sh", "-c", f"exec {command[:-2]}"], env=env, cwd=fleet.place.work,
                                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            assert re.search("is ready|serving on", line(fleet.watches[-1].stdout)), command
            continue
        done = subprocess.run(["sh", "-c", command], env=env, cwd=fleet.place.work, capture_output=True, text=True, timeout=WAIT)
        assert (done.returncode, done.stderr) == (0, ""), (command, done)
        first = first or done.stdout.strip()
        assert done.stdout or "logs" in command or ">" in command, command
        if example.get("output"):
            assert done.stdout == example["output"], command
    fleet.watches[-1].terminate()
    assert [ended(child) for child in fleet.watches] == [0, 0]
    assert fleet.rows() == {} and "ExecStart" in (fleet.place.work / "llmspell-fleet-watch.service").read_text()


def test_a_closed_output_is_no_failure(fleet):
    """F25"""
    fleet.spawn("a.toml")
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{program('fleet')} list | true; {program('fleet')} logs | head -1"],
                          env=fleet.place.env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_complete(fleet):
    fleet.spawn("--name", "complete-me")
    script = f"""source <({program('fleet')} --generate bash)
        COMP_WORDS=(llmspell-fleet stop comp); COMP_CWORD=2; _llmspell_fleet; echo "${{COMPREPLY[*]}}" """
    done = subprocess.run(["bash", "-c", script], env=fleet.place.env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("complete-me\n", "")
    for shell in ("zsh", "fish"):
        if shutil.which(shell):
            made = fleet.place.write(f"made.{shell}", fleet("--generate", shell).out)
            done = subprocess.run([shell, "-n", made], capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, ""), shell
    if shutil.which("fish"):
        words = f"source {fleet.place.work}/made.fish; complete -C 'llmspell-fleet restart com'"
        done = subprocess.run(["fish", "--no-config", "-c", words], env=fleet.place.env, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("complete-me\n", "")
    if shutil.which("zsh"):
        words = "compdef() {}; compadd() { shift; print $@ }; source made.zsh; _llmspell_kernels"
        done = subprocess.run(["zsh", "-f", "-c", words], cwd=fleet.place.work, env=fleet.place.env, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("complete-me\n", "")
