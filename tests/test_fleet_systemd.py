"""The watch of the fleet as a service of a real systemd: kernels outlive it, and it takes them over."""
import json

from conftest import ROOT
from guest import BUILD, SOURCE, guest  # noqa: F401, a fixture
from test_fleet import until

UNIT = "llmspell-fleet-watch.service"


def show(guest, *properties):  # noqa: F811
    out = guest("systemctl", "show", UNIT, *(f"--property={name}" for name in properties))
    return dict(line.split("=", 1) for line in out.splitlines())


def kernels(guest):  # noqa: F811
    return {row["id"]: row for row in json.loads(guest("llmspell-fleet", "list", "--json"))["kernels"]}


def test_the_watch_is_a_service(guest):  # noqa: F811
    """F1 and F34, the part of the fleet"""
    guest("make", "-C", SOURCE, "install", f"BUILD={BUILD}")
    guest.write(f"/etc/systemd/system/{UNIT}", guest("llmspell-fleet", "watch", "--unit"))
    guest("systemctl", "daemon-reload")
    guest("systemctl", "start", UNIT)
    assert show(guest, "ActiveState", "Type", "StatusText") == {
        "ActiveState": "active", "Type": "notify", "StatusText": "watching 0 kernels"}
    done = guest.run("llmspell-fleet", "spawn", f"{SOURCE}/{(ROOT / 'examples/config/local.toml').relative_to(ROOT)}", "--workdir",
                     "/root", "--restart", "on-failure")
    assert done.returncode == 0 and "no watch runs" not in done.stderr, done
    name = done.stdout.strip()
    until(lambda: show(guest, "StatusText") == {"StatusText": "watching 1 kernels"})
    first = kernels(guest)[name]["pid"]
    guest("kill", "-9", first)
    until(lambda: kernels(guest)[name]["pid"] not in (None, first))
    second = kernels(guest)[name]["pid"]
    assert kernels(guest)[name]["restarts"] == 1
    # Its own kernel is none of the unit's business: neither a stop nor a kill of the watch ends it.
    guest("systemctl", "restart", UNIT)
    assert kernels(guest)[name]["pid"] == second
    guest("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    until(lambda: show(guest, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "1"})
    assert kernels(guest)[name]["pid"] == second
    guest("kill", "-9", second)
    until(lambda: kernels(guest)[name]["pid"] not in (None, second))
    assert f"{name}: ended: signal 9 (KILL)" in guest("journalctl", "-u", UNIT, "-o", "cat")
    guest("systemctl", "stop", UNIT)
    assert guest("llmspell-fleet", "stop", "--all") == f"{name}: stopped\n"
