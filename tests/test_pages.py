"""The hand-written pages: they are well-formed, and the example of llmspell-protocol(7) prints what the page says."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from conftest import BIN, ROOT, WAIT, Watched

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


def test_the_examples_of_the_programs_run(place):
    """Every EXAMPLES line, as a newcomer types them one after the other; kernels go on behind the next ones."""
    place.write("report.lua", "print('month', ARGS.month or 'any')")
    place.write("notes.txt", "notes")
    (place.work / "data").mkdir()
    subprocess.run(["git", "init", "-q", place.work], check=True)
    env = {**place.env, "PATH": f"{BIN}:{os.environ['PATH']}", "LLMSPELL_MODEL": "mock/echo"}
    del env["LLMSPELL_HOME"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = str(free.getsockname()[1])
    kernels, daemons = [], []
    try:
        for program in ("kernel", "run", "tool"):
            listed = subprocess.run([BIN / f"llmspell-{program}", "--generate", "examples"], capture_output=True, check=True)
            examples = [json.loads(line) for line in listed.stdout.splitlines()]
            assert len(examples) >= 7
            # The one that ends the default kernel comes after those that need it.
            for example in sorted(examples, key=lambda example: "kill" in example["command"]):
                command = example["command"].replace("59000", port).replace("9555", other)
                if command.startswith("kill"):
                    continue
                serves = command.startswith("llmspell-kernel") and not re.match(r"\S+ (config|install|doctor)", command)
                if serves:
                    # Each under an id of its own where the line gives none, as the first holds the default.
                    command += f" --id other{len(kernels + daemons)}" if kernels else ""
                    if "--daemon" in command:
                        told = subprocess.run(["sh", "-c", command], env=env, cwd=place.work, stdout=subprocess.PIPE, check=True)
                        daemons.append(Watched(int(re.search(rb"is ready \(PID (\d+)", told.stdout)[1])))
                        continue
                    child = subprocess.Popen(["sh", "-c", f"exec {command}"], env=env, cwd=place.work, stdout=subprocess.PIPE)
                    kernels.append(child)
                    assert b"is ready" in child.stdout.readline(), command
                    continue
                done = subprocess.run(["sh", "-c", command], env=env, cwd=place.work, capture_output=True, timeout=WAIT)
                assert done.returncode == 0 and not done.stderr, (command, done)
                assert done.stdout or "config init" in command or "install" in command, command
                if example.get("output"):
                    assert done.stdout.decode() == example["output"], command
        stop = [e["command"] for e in map(json.loads, subprocess.run(
            [BIN / "llmspell-kernel", "--generate", "examples"], capture_output=True).stdout.splitlines()) if "kill" in e["command"]]
        subprocess.run(["sh", "-c", *stop], env=env, check=True)
        assert kernels[0].wait(WAIT) == 0
    finally:
        for daemon in daemons:
            signal.pidfd_send_signal(daemon.fd, signal.SIGTERM)
            assert daemon.ended()
        for child in kernels:
            child.terminate()
            child.wait()
            child.stdout.close()
