"""Kernels as services of a real systemd, as process 1 and as a user's: one boot for all of it."""
import json
import re
import subprocess

import pytest
from conftest import ROOT, WAIT, finish, line
from guest import BUILD, SOURCE, guest  # noqa: F401

UNIT = "llmspell-kernel@a.service"
USER = "u1"
pytestmark = pytest.mark.xdist_group("systemd")


@pytest.fixture(scope="module")
def machine(guest):  # noqa: F811
    """The guest with the suite installed by `make install` and one kernel as a service of the machine."""
    guest("make", "-C", SOURCE, "install", f"BUILD={BUILD}")
    guest.said = guest("llmspell-kernel", "install-service", "--system", "--id", "a", "--enable", "--start")
    return guest


@pytest.fixture
def running(machine):
    """The machine with that kernel running as it was installed."""
    machine.run("rm", "-rf", f"/run/systemd/system/{UNIT}.d")
    machine.write("/etc/llmspell/kernels/a.toml", "")
    machine("systemctl", "daemon-reload")
    machine("systemctl", "reset-failed")
    machine("systemctl", "restart", UNIT)
    return machine


def show(machine, unit, *properties, user=None):
    scope = ["--user"] if user else []
    out = machine("systemctl", *scope, "show", unit, *(f"--property={name}" for name in properties), user=user)
    return dict(line.split("=", 1) for line in out.splitlines())


def override(machine, text, unit=UNIT):
    """A drop-in, as `systemctl edit --runtime` writes it."""
    machine("mkdir", "-p", f"/run/systemd/system/{unit}.d")
    machine.write(f"/run/systemd/system/{unit}.d/test.conf", f"[Service]\n{text}")
    machine("systemctl", "daemon-reload")
    machine("systemctl", "restart", unit)


AS_KERNELS = ["setpriv", "--reuid=llmspell", "--regid=llmspell", "--init-groups", "env", "--chdir=/var/lib/llmspell/a", "HOME=/var/lib/llmspell"]


def client(machine, program, *words, kernel="a"):
    return machine(*AS_KERNELS, f"llmspell-{program}", "--kernel", kernel, *words)


def script(machine, code, kernel="a"):
    return client(machine, "run", "-e", code, kernel=kernel)


def journal(machine, since, *words):
    return machine("journalctl", "--quiet", f"--after-cursor={since}", *words)


def cursor(machine):
    return machine("journalctl", "--quiet", "--lines=0", "--show-cursor").split("cursor: ")[1].strip()


def wait_for(machine, since, unit, text):
    """Reads the journal until a line of systemd or the kernel holds `text`; the line."""
    found = machine("timeout", str(WAIT), "sh", "-c",
                    'journalctl --quiet --no-tail --follow --output=cat --after-cursor="$1" UNIT="$2" + _SYSTEMD_UNIT="$2" | grep -m1 -e "$3"',
                    "sh", since, unit, text)
    assert found, text
    return found


def test_it_is_installed_and_runs(running):
    assert "enabled llmspell-kernel@a.service\nstarted llmspell-kernel@a.service\n" in running.said
    state = show(running, UNIT, "ActiveState", "SubState", "UnitFileState", "User", "NRestarts")
    assert state == {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "User": "llmspell", "NRestarts": "0"}
    assert client(running, "tool", "invoke", "calculator", "input=6*7") == "42\n"


def test_start_returns_when_clients_can_connect(running):
    for _ in range(3):
        running("systemctl", "restart", UNIT)
        assert client(running, "tool", "invoke", "calculator", "input=1") == "1\n"


def test_the_files_are_where_the_page_says_and_nobody_elses(running):
    script(running, "State.save('global', 'k', 1)") if "State" in (ROOT / "CHANGELOG.md").read_text() else script(running, "return 1")
    found = running("find", "/var/lib/llmspell", "/run/llmspell/a", "/var/log/llmspell", "-printf", "%M %u %p\\n").splitlines()
    for entry in found:
        mode, owner, _ = entry.split(" ", 2)
        assert owner == "llmspell" and mode[4:10] == "------", entry
    paths = " ".join(found)
    for path in ("/var/lib/llmspell/a", "/var/lib/llmspell/.llmspell/kernel/a.json", "/run/llmspell/a/llmspell/a-1"):
        assert path in paths
    running("systemctl", "stop", UNIT)
    left = running("find", "/run/llmspell", "/var/lib/llmspell/.llmspell/kernel").split()
    assert left == ["/run/llmspell", "/var/lib/llmspell/.llmspell/kernel"]


def test_status_tells_what_it_does(running):
    assert show(running, UNIT, "StatusText")["StatusText"].startswith("idle")
    shown = running("systemctl", "status", UNIT)
    assert "Active: active (running)" in shown and 'Status: "idle' in shown and "kernel a is ready" in shown
    with busy(running):
        running("timeout", str(WAIT), "sh", "-c", f"until systemctl show {UNIT} -P StatusText | grep '^running a script'; do sleep .1; done")


class busy:
    """A script that runs until the end of the block, or until somebody stops it."""

    def __init__(self, machine, code="print('go'); while true do end"):
        self.machine, self.code = machine, code

    def __enter__(self):
        words = [*AS_KERNELS, "llmspell-run", "--kernel", "a", "-e", self.code]
        self.child = subprocess.Popen(self.machine.command(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert line(self.child.stdout) == "go\n"
        return self

    def ended(self):
        """Exit status, what it still printed, and its complaint."""
        out, err = self.child.communicate(timeout=WAIT)
        return self.child.returncode, out.decode(), err.decode()

    def __exit__(self, *_):
        # nsenter waits for it in the name space of the guest, and would leave it behind.
        self.machine.run("pkill", "-KILL", "llmspell-run")
        finish(self.child)


def test_killed_it_is_back_at_once_with_its_key(running):
    before = running("cat", "/var/lib/llmspell/.llmspell/kernel/a.json")
    pid = show(running, UNIT, "MainPID")["MainPID"]
    since = cursor(running)
    running("systemctl", "kill", "--signal=KILL", UNIT)
    wait_for(running, since, UNIT, "Started llmspell-kernel@a")
    state = show(running, UNIT, "MainPID", "NRestarts", "ActiveState")
    assert state["MainPID"] != pid and state["NRestarts"] == "1" and state["ActiveState"] == "active"
    after = running("cat", "/var/lib/llmspell/.llmspell/kernel/a.json")
    assert json.loads(before)["key"] == json.loads(after)["key"]
    assert client(running, "tool", "invoke", "calculator", "input=6*7") == "42\n"
    assert "status=9/KILL" in journal(running, since, "-u", UNIT)


def test_one_that_hangs_is_ended_and_started_again(running):
    override(running, "WatchdogSec=2\n")
    since = cursor(running)
    running("systemctl", "kill", "--signal=STOP", UNIT)
    wait_for(running, since, UNIT, "Watchdog timeout")
    wait_for(running, since, UNIT, "Started llmspell-kernel@a")
    assert client(running, "tool", "invoke", "calculator", "input=6*7") == "42\n"


def test_a_script_that_runs_long_is_no_hang(running):
    override(running, "WatchdogSec=1\n")
    pid = show(running, UNIT, "MainPID")["MainPID"]
    with busy(running, "print('go'); local t = os.time(); while os.time() - t < 4 do end; print('done')") as script:
        assert script.ended() == (0, "done\n", "")
    assert show(running, UNIT, "MainPID", "NRestarts") == {"MainPID": pid, "NRestarts": "0"}


def test_reload_reads_the_configuration(running):
    pid = show(running, UNIT, "MainPID")["MainPID"]
    since = cursor(running)
    running.write("/etc/llmspell/kernels/a.toml", "[log]\nlevel = 'debug'\n")
    running("systemctl", "reload", UNIT)
    wait_for(running, since, UNIT, "SIGHUP: .*log.level")
    since = cursor(running)
    running.write("/etc/llmspell/kernels/a.toml", "[log]\nlevel = 'loud'\n")
    running("systemctl", "reload", UNIT)
    wait_for(running, since, UNIT, "loud")
    assert show(running, UNIT, "MainPID", "ActiveState") == {"MainPID": pid, "ActiveState": "active"}


def test_stop_ends_a_running_script_within_its_grace(running):
    running.write("/etc/llmspell/kernels/a.toml", "[kernel]\ngrace = '1s'\n")
    running("systemctl", "restart", UNIT)
    since = cursor(running)
    with busy(running) as script:
        running("systemctl", "stop", UNIT)
        code, _, err = script.ended()
        assert code != 0 and err
    assert show(running, UNIT, "Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}
    assert "timed out" not in journal(running, since, "-u", UNIT)


def test_stop_leaves_no_program_of_a_script(running):
    running.write("/etc/llmspell/kernels/a.toml", "[security]\nallow_run = ['*']\n")
    running("systemctl", "restart", UNIT)
    script(running, "os.execute('sleep 1000 & sleep 1001 >/dev/null 2>&1 &')")
    running("systemctl", "stop", UNIT)
    assert running.run("pgrep", "-u", "llmspell").stdout == ""


@pytest.mark.parametrize("text, status, word", [
    ("[kernel]\ngrace = 'soon'\n", "3", "is not a duration"),
    ("[security]\nprofil = 'safe'\n", "3", "did you mean profile"),
])
def test_a_wrong_configuration_is_told_and_not_tried_again(running, text, status, word):
    running.write("/etc/llmspell/kernels/a.toml", text)
    since = cursor(running)
    assert running.run("systemctl", "restart", UNIT).returncode != 0
    state = show(running, UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert state == {"ActiveState": "failed", "ExecMainStatus": status, "NRestarts": "0"}
    assert word in journal(running, since, "-u", UNIT)


def test_a_crash_loop_ends_and_can_be_started_again(running):
    machine, since = running, cursor(running)
    override(machine, "RestartSec=0\n[Unit]\nStartLimitBurst=3\n")
    for _ in range(3):
        machine.run("systemctl", "kill", "--signal=KILL", UNIT)
        machine("timeout", str(WAIT), "sh", "-c", f"until systemctl is-active -q {UNIT} || systemctl is-failed -q {UNIT}; do sleep .05; done")
        if show(machine, UNIT, "ActiveState")["ActiveState"] == "failed":
            break
    assert show(machine, UNIT, "ActiveState")["ActiveState"] == "failed"
    assert "Start request repeated too quickly" in journal(machine, since, "-u", UNIT)
    machine("systemctl", "reset-failed", UNIT)
    machine("systemctl", "start", UNIT)
    assert client(machine, "tool", "invoke", "calculator", "input=6*7") == "42\n"


def test_stopped_while_it_starts(running):
    for _ in range(5):
        running("systemctl", "stop", UNIT)
        running("systemctl", "start", "--no-block", UNIT)
        running("systemctl", "stop", UNIT)
        assert show(running, UNIT, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert running("find", "/var/lib/llmspell/.llmspell/kernel", "-type", "f") == ""


def test_each_instance_is_a_kernel_of_its_own(running):
    for name in ("b.x", "c_1"):
        running.write(f"/etc/llmspell/kernels/{name}.toml", "")
    running("systemctl", "start", "llmspell-kernel@b.x", "llmspell-kernel@c_1", "llmspell-kernel")
    for name in ("a", "b.x", "c_1", "llmspell-kernel"):
        assert client(running, "tool", "invoke", "calculator", "input=6*7", kernel=name) == "42\n"
    listed = running(*AS_KERNELS, "llmspell-fleet", "list")
    assert {line.split()[0] for line in listed.splitlines()[1:]} == {"a", "b.x", "c_1", "llmspell-kernel"}
    assert set(re.findall("running|ready", listed)) and "dead" not in listed
    running("systemctl", "stop", "llmspell-kernel@b.x", "llmspell-kernel@c_1", "llmspell-kernel")
    # One without a configuration says which file is missing, and is not tried for ever.
    since = cursor(running)
    assert running.run("systemctl", "start", "llmspell-kernel@none").returncode != 0
    assert "/etc/llmspell/kernels/none.toml" in journal(running, since, "-u", "llmspell-kernel@none")
    assert show(running, "llmspell-kernel@none", "ActiveState")["ActiveState"] == "failed"


def test_the_sandbox_lets_scripts_and_tools_work_and_nothing_more(running):
    running.write("/etc/llmspell/kernels/a.toml", "[security]\nprofile = 'privileged'\n")
    running.write("/etc/llmspell/kernels/a.env", "SECRET_KEY=s3cret\n")
    running("systemctl", "restart", UNIT)
    done = script(running, """
      local f = assert(io.open('notes.txt', 'w')); f:write('kept'); f:close()
      print(Tool.invoke('file_operations', {operation = 'read', path = 'notes.txt'}).success)
      local t = assert(io.open('/tmp/x', 'w')); t:close()
      print(os.execute('true'), os.getenv('SECRET_KEY'))
      print(Tool.invoke('hash_calculator', {operation = 'hash', input = 'x'}).success)
      for _, path in ipairs {'/etc/x', '/usr/x', '/home/u1/x', '/var/x', '/dev/sda'} do print(path, io.open(path, 'w') == nil) end
      print(#(io.popen('ls -A /home /root 2>/dev/null'):read('a'):gsub('/%w+:', ''):gsub('%s', '')))
    """)
    assert done.splitlines()[:3] == ["true", "true\ts3cret", "true"], done
    assert all(line.endswith("true") for line in done.splitlines()[3:8]), done
    assert done.splitlines()[8] == "0", done
    assert running("cat", "/var/lib/llmspell/a/notes.txt") == "kept"
    running("rm", "/etc/llmspell/kernels/a.env")


def test_it_serves_ports_and_the_network_of_the_machine(running):
    running.write("/etc/llmspell/kernels/a.toml", "[kernel]\nport = 9555\n[security]\nallow_net = ['127.0.0.1']\n")
    running("systemctl", "restart", UNIT)
    assert json.loads(running("cat", "/var/lib/llmspell/.llmspell/kernel/a.json"))["shell_port"] == 9555
    assert client(running, "tool", "invoke", "calculator", "input=6*7", kernel="9555") == "42\n"
    server = running.command(["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/var/empty", "8123"])
    running("mkdir", "-p", "/var/empty")
    child = subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        running("timeout", str(WAIT), "sh", "-c", "until ss -ltn | grep -q :8123; do sleep .05; done")
        out = script(running, "print(Tool.invoke('http_request', {url = 'http://127.0.0.1:8123/'}).success)")
        assert out == "true\n"
    finally:
        running.run("pkill", "-f", "http.server --bind 127.0.0.1")
        finish(child)


def test_the_journal_has_each_line_once(running):
    running.write("/etc/llmspell/kernels/a.toml", "[log]\nlevel = 'info'\n")
    since = cursor(running)
    running("systemctl", "restart", UNIT)
    lines = [json.loads(line) for line in journal(running, since, "-u", UNIT, "--output=json").splitlines()]
    ready = [line for line in lines if "kernel a is ready" in line["MESSAGE"]]
    assert len(ready) == 1 and ready[0]["SYSLOG_IDENTIFIER"] == "llmspell-kernel"
    assert running("find", "/var/log/llmspell", "/var/lib/llmspell/.llmspell", "-name", "*.log*", "-size", "+0") == ""


def test_the_service_of_a_user(machine):
    """Installed as that user, without linger said so, with it running on."""
    machine("useradd", "--create-home", USER)
    machine("loginctl", "enable-linger", USER)
    machine("timeout", str(WAIT), "sh", "-c", f"until [ -S /run/user/{machine.uid(USER)}/bus ]; do sleep .05; done")
    said = machine("llmspell-kernel", "install-service", "--enable", "--start", user=USER)
    assert f"wrote /home/{USER}/.config/systemd/user/llmspell-kernel.service\n" in said and "linger" not in said
    assert machine("llmspell-tool", "--kernel", "llmspell-kernel", "invoke", "calculator", "input=6*7", user=USER) == "42\n"
    machine("llmspell-kernel", "install-service", "--user", "--id", "notes", "--start", user=USER)
    state = show(machine, "llmspell-kernel@notes", "ActiveState", "StatusText", "UnitFileState", user=USER)
    assert state["ActiveState"] == "active" and state["StatusText"].startswith("idle")
    health = machine("llmspell-fleet", "health", user=USER)
    assert health.count("HEALTHY") == 2, health
    code = "local f = assert(io.open('/tmp/x-of-u1', 'w')); f:close(); print(io.open('/etc/x', 'w'))"
    assert "nil" in machine("env", "--chdir=/tmp", "llmspell-run", "--kernel", "notes", "-e", code, user=USER)
    pid = show(machine, "llmspell-kernel@notes", "MainPID", user=USER)["MainPID"]
    machine("systemctl", "--user", "kill", "--signal=KILL", "llmspell-kernel@notes", user=USER)
    machine("timeout", str(WAIT), "sh", "-c", f"until llmspell-tool --kernel notes list >/dev/null 2>&1; do sleep .05; done", user=USER)
    assert show(machine, "llmspell-kernel@notes", "MainPID", user=USER)["MainPID"] != pid
    machine("systemctl", "--user", "reload", "llmspell-kernel@notes", user=USER)
    machine("loginctl", "disable-linger", USER)
    machine("systemctl", "start", f"user@{machine.uid(USER)}.service")
    assert "loginctl enable-linger" in machine("llmspell-kernel", "install-service", user=USER)
    gone = machine("llmspell-kernel", "uninstall-service", user=USER)
    assert "removed" in gone and "kept" in gone
    assert machine.run("pgrep", "-u", USER, "llmspell-kernel").stdout == ""


def test_uninstalled_nothing_of_it_runs(running):
    """Last, as it takes away what the others need."""
    running("systemctl", "enable", "--now", "llmspell-kernel@a")
    said = running("llmspell-kernel", "uninstall-service", "--system")
    assert "removed /etc/systemd/system/llmspell-kernel@.service\n" in said
    assert running.run("pgrep", "-u", "llmspell").stdout == ""
    assert running("find", "/etc/systemd/system", "-name", "llmspell*") == ""
    assert running("systemctl", "list-units", "--all", "--plain", "--no-legend", "llmspell*") == ""
    assert running.run("test", "-e", "/etc/llmspell/kernels/a.toml").returncode == 0
