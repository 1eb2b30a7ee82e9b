"""llmspell-service(7): every line of its examples is typed, on a machine of its own where it needs one, and the deployment
lines of the release notes of v0.10.0 in today's form."""
import re
import subprocess

import pytest
from conftest import BIN, ROOT, WAIT
from guest import BUILD, SOURCE, guest  # noqa: F401
from test_pages import between

PAGE = (ROOT / "man/llmspell-service.7").read_text()
pytestmark = pytest.mark.xdist_group("deployment")


def lines(title):
    """The commands of an example, those that end in `|` with the next line."""
    text = between(PAGE, title).replace("|\n", "| ")
    return [line.strip() for line in text.splitlines()]


@pytest.fixture(scope="module")
def machine(guest):  # noqa: F811
    """Root without sudo, which there is none of: a shell function that does the same."""
    guest("mkdir", "-p", "/run/bin")
    guest.write("/run/bin/sudo", '#!/bin/sh\n[ "$1" = -u ] || exec "$@"\nuser=$2; shift 2\n'
                'exec setpriv --reuid="$user" --regid="$user" --init-groups env HOME="$(getent passwd "$user" | cut -d: -f6)" "$@"\n')
    guest("chmod", "755", "/run/bin/sudo")

    def type_in(line, user=None):
        line = line.replace("make install", f"make -C {SOURCE} install BUILD={BUILD}")
        done = guest.run("sh", "-c", f"export PATH=/run/bin:$PATH; cd /; {line}", user=user)
        assert done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    guest.type = type_in
    return guest


def test_on_a_machine_with_systemd(machine):
    shown = [machine.type(line) for line in lines("system")]
    assert "Active: active (running)" in shown[2] and "kernel notes is ready" in shown[3] and shown[4] == "42\n"
    for line in lines("credential"):
        machine.type(line)
    # It is read, and neither scripts nor other users see it.
    machine.type("printf '[kernel]\\nport = 9777\\n' >>/etc/llmspell/keys/notes.toml; systemctl restart llmspell-kernel@notes")
    assert machine.type("sudo -u llmspell llmspell-tool --kernel 9777 invoke calculator input=6*7") == "42\n"
    code = "print(io.open('/run/credentials/llmspell-kernel@notes.service/llmspell.toml'))"
    assert "nil" in machine.type(f'sudo -u llmspell llmspell-run --kernel notes -e "{code}"')
    machine.type("rm /etc/systemd/system/llmspell-kernel@notes.service.d/key.conf")
    for line in lines("edit"):
        machine.type(line)
    code = "local f = assert(io.open('/srv/data/x', 'w')); f:close(); print('written')"
    assert machine.type(f'sudo -u llmspell llmspell-run --kernel notes -e "{code}"') == "written\n"
    machine("useradd", "--create-home", "u2")
    machine("loginctl", "enable-linger", "u2")
    machine("timeout", str(WAIT), "sh", "-c", f"until [ -S /run/user/{machine.uid('u2')}/bus ]; do sleep .05; done")
    for line in lines("user")[:2]:
        shown = machine.type(line, user="u2")
    assert "Active: active (running)" in shown
    before = machine("systemctl", "show", "llmspell-kernel@notes", "-P", "MainPID")
    for line in lines("upgrade")[:-1]:
        machine.type(line)
    assert machine("systemctl", "show", "llmspell-kernel@notes", "-P", "MainPID") != before
    # The lines of the release notes, where `cp` was: the unit is there after `make install`.
    for line in ("sudo systemctl daemon-reload", "sudo systemctl enable llmspell-kernel", "sudo systemctl start llmspell-kernel"):
        machine.type(line)
    assert "Active: active (running)" in machine.type("sudo systemctl status llmspell-kernel")
    assert "kernel llmspell-kernel is ready" in machine.type("sudo journalctl -u llmspell-kernel")
    assert "stopped and disabled" in machine.type(lines("upgrade")[-1])
    # A package brings its own units below PREFIX: they are used now.
    machine.type("systemd-sysusers && systemctl enable --now llmspell-kernel@notes")
    assert machine("systemctl", "show", "llmspell-kernel@notes", "-P", "FragmentPath").startswith("/usr/local/lib/systemd/system/")
    assert machine.type("sudo -u llmspell llmspell-tool --kernel notes invoke calculator input=6*7") == "42\n"


@pytest.mark.parametrize("title", ["key", "hand"])
def test_by_hand(place, title):
    """In a shell, as written; what it leaves running is what it says it leaves."""
    env = {name: value for name, value in place.env.items() if name not in ("LLMSPELL_HOME", "XDG_RUNTIME_DIR")}
    env["PATH"] = f"{BIN}:{env['PATH']}"
    text = "\n".join(lines(title))
    if title == "key":
        text = text.replace("connection --ip", f"connection --ports {','.join(map(str, free(5)))} --ip")
    # A person takes longer to type the next line than a kernel to start.
    typed = re.sub(r"&$", "& for i in $(seq 300); do [ -e ~/.llmspell/kernel/*.json ] && break; sleep .1; done", text, flags=re.M)
    done = subprocess.run(["bash", "-c", typed + "\nkill %1 2>/dev/null; wait"], env=env, cwd=place.work, capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 0 and "42\n" in done.stdout, done
    assert not list((place.root / ".llmspell/kernel").iterdir())


def free(count):
    import contextlib
    import socket

    with contextlib.ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def test_what_a_fleet_hands_over_is_accepted(run, place):
    """Export of every format, read by what reads it."""
    yaml = pytest.importorskip("yaml")
    config = place.write("openai.toml", "[security]\nprofile = 'safe'\n")
    assert run("fleet", "export", "--format", "compose").code == 5
    words = ["--name", "pool", "--count", "2", "--restart", "always", "--memory", "1GB", "--env", "A_TOKEN=hidden", "--env", "B=1"]
    try:
        assert run("fleet", "spawn", config, *words).code == 0
        assert "--format: is missing" in run("fleet", "export").err
        shown = {name: run("fleet", "export", "--format", name).out for name in ("systemd", "launchd", "compose", "kubernetes", "nomad")}
        for name, text in shown.items():
            assert "hidden" not in text and "pool" in text, name
        compose = yaml.safe_load(shown["compose"])
        assert len(compose["services"]) == 2
        for service in compose["services"].values():
            assert service["restart"] == "always" and service["environment"]["B"] == "1" and "A_TOKEN" in service["environment"]
        out = place.work / "out"
        assert run("fleet", "export", "--format", "systemd", "-o", out).code == 0
        drop_ins = sorted(out.glob("llmspell-kernel@*.d/50-llmspell.conf"))
        assert len(drop_ins) == 2 and "MemoryMax=1000000000\n" in drop_ins[0].read_text()
    finally:
        run("fleet", "stop", "--all")
