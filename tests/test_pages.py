"""The hand-written pages: they are well-formed, and the example of llmspell-protocol(7) prints what the page says."""
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, WAIT

PAGES = sorted((ROOT / "man").glob("*.[1-8]"))


def between(text, title):
    """The lines of the .EX block between the comments `begin TITLE` and `end TITLE`, as the page shows them."""
    part = re.search(rf'^\.\\" begin {title}\b.*?\n(.*?)^\.\\" end {title}$', text, re.M | re.S)[1]
    lines = re.search(r"^\.EX\n(.*?)^\.EE$", part, re.M | re.S)[1]
    assert not re.search(r"^[.']", lines, re.M), "a line that roff would take for a request"
    shown = lines.replace(r"\-", "-").replace(r"\(dq", '"').replace(r"\e", "\\")
    assert shown.count("\\") == lines.count(r"\e"), "an escape this test does not know"
    return shown


@pytest.mark.parametrize("options", [[], ["--transport", "tcp"]], ids=["ipc", "tcp"])
def test_the_example_prints_what_the_page_says(kernel, tmp_path, options):
    page = (ROOT / "man" / "llmspell-protocol.7").read_text()
    script = tmp_path / "example.py"
    script.write_text(between(page, "example"))
    done = subprocess.run([sys.executable, script, kernel(*options).file], capture_output=True, text=True, timeout=WAIT)
    assert (done.stdout, done.stderr, done.returncode) == (between(page, "output"), "", 0)


def test_every_field_of_the_replies_is_described(kernel):
    page = (ROOT / "man" / "llmspell-protocol.7").read_text()
    one = kernel()
    replies = [one.status()]
    with one.wire() as wire:
        for request in ({"command": "list"}, {"command": "info", "name": "calculator"}, {"command": "search", "query": "text"},
                        {"command": "invoke", "name": "calculator", "params": {"input": "1"}},
                        {"command": "invoke", "name": "calculator", "params": {"input": "1 +"}},
                        {"command": "test", "name": "calculator"}):
            command = request.pop("command")
            replies.append(wire.tool(command, **request))
    for reply in replies:
        for field in reply:
            assert re.search(rf"\b{field}\b", page), f"{field} is not in llmspell-protocol(7)"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_well_formed(page):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", page], capture_output=True, text=True)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_pages_name_only_pages_that_exist():
    ours = {page.name for page in PAGES}
    for page in PAGES:
        for name, section in re.findall(r"\b(llmspell[\w.\\-]*) \(([1-8])\)", page.read_text()):
            name = name.replace("\\-", "-")
            assert f"{name}.{section}" in ours, f"{page.name} refers to {name}({section})"
