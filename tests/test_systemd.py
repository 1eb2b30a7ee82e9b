"""Kernels as services of a real systemd, as process 1 and as a user's: one boot for all of it."""
import json
import re

import pytest
from conftest import ROOT
from guest import SOURCE, BUILD, guest  # noqa: F401

UNIT = "llmspell-kernel@a.service"


@pytest.fixture(scope="module")
def machine(guest):  # noqa: F811
    """The guest with the suite installed by `make install` and one kernel as a service of the machine."""
    guest("make", "-C", SOURCE, "install", f"BUILD={BUILD}")
    guest.said = guest("llmspell-kernel", "install-service", "--system", "--id", "a", "--enable", "--start")
    return guest


def show(machine, unit, *properties, user=None):
    scope = ["--user"] if user else []
    out = machine("systemctl", *scope, "show", unit, *(f"--property={name}" for name in properties), user=user)
    return dict(line.split("=", 1) for line in out.splitlines())


def tool(machine, *words, kernel="a"):
    return machine("setpriv", "--reuid=llmspell", "--regid=llmspell", "--init-groups", "env", "HOME=/var/lib/llmspell",
                   "llmspell-tool", "--kernel", kernel, *words)


def test_it_is_installed_and_runs(machine):
    assert "enabled llmspell-kernel@a.service\nstarted llmspell-kernel@a.service\n" in machine.said
    state = show(machine, UNIT, "ActiveState", "SubState", "UnitFileState", "User", "NRestarts")
    assert state == {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "User": "llmspell", "NRestarts": "0"}
    assert tool(machine, "invoke", "calculator", "input=6*7") == "42\n"


def test_debug(machine):
    print(machine("systemctl", "status", UNIT))
    print(machine("journalctl", "-u", UNIT))
    print(machine("find", "/var/lib/llmspell", "/run/llmspell", "/var/log/llmspell", "-ls"))
    assert 0
