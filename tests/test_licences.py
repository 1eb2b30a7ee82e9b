"""The licences of all locked crates are those deny.toml accepts, also where cargo-deny is not installed."""
import json
import re
import subprocess

from conftest import ROOT


def accepted(expression, allowed):
    """Whether an SPDX expression can be satisfied; `/` is the old way to write OR."""
    words = re.findall(r"[()]|[^\s()]+(?: WITH [^\s()]+)?", expression.replace("/", " OR "))
    logic = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
    return eval(" ".join(logic.get(word) or str(word in allowed) for word in words))


def test_expressions():
    assert accepted("MIT/Apache-2.0", {"MIT"}) and accepted("(A OR B) AND C", {"B", "C"})
    assert not accepted("(A OR B) AND C", {"A", "B"}) and not accepted("GPL-3.0", {"MIT"})
    assert accepted("X WITH E OR Y", {"X WITH E"}) and not accepted("X WITH E", {"X"})


def test_every_crate_is_under_an_accepted_licence():
    allow = re.search(r"^allow = \[(.*?)^\]", (ROOT / "deny.toml").read_text(), re.M | re.S)[1]
    allowed = set(re.findall(r'^\s*"([^"]+)"', allow, re.M))
    metadata = subprocess.run(["cargo", "metadata", "--format-version=1", "--locked", "--all-features"], cwd=ROOT,
                              capture_output=True, text=True, check=True).stdout
    refused = {package["name"]: package["license"] for package in json.loads(metadata)["packages"]
               if not accepted(package["license"] or "none", allowed)}
    assert refused == {}
