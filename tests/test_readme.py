"""README.md: the session prints what it shows, the script runs, links lead somewhere, and it stays short."""
import re
import shlex
import subprocess

import pytest
from conftest import BIN, ROOT, ended, finish, line

TEXT = (ROOT / "README.md").read_text()


def block(kind):
    return re.search(rf"^```{kind}\n(.*?)^```$", TEXT, re.M | re.S)[1]


@pytest.fixture
def env(place):
    """As after installation, with the default home."""
    folder = place.root / "bin"
    folder.mkdir()
    for name in ("llmspell-kernel", "llmspell-run", "llmspell-tool"):
        (folder / name).symlink_to(BIN / name)
    (folder / "llmspell").symlink_to("llmspell-run")
    env = {name: value for name, value in place.env.items() if name not in ("LLMSPELL_HOME", "XDG_RUNTIME_DIR")}
    return {**env, "PATH": f"{folder}:{env['PATH']}"}


def test_the_session_prints_what_it_shows(place, env):
    place.write("notes.txt", "one\ntwo\n")
    background, status = None, 0
    try:
        for part in block("console").removeprefix("$ ").split("\n$ "):
            command, _, expected = part.partition("\n")
            expected = expected.rstrip("\n")
            if command.endswith(" &"):
                background = subprocess.Popen(shlex.split(command[:-2]), env=env, cwd=place.work, stdin=subprocess.PIPE,
                                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                lines = [line(background.stdout).rstrip("\n") for _ in expected.splitlines()]
                shown = "\n".join(lines).replace(str(place.root), "/home/you")
                expected = re.sub(r"PID \d+", f"PID {background.pid}", expected)
            else:
                done = subprocess.run(["bash", "-c", command.replace("$?", str(status))], env=env, cwd=place.work, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                shown, status = done.stdout.rstrip("\n"), done.returncode
            assert shown == expected, command
        assert ended(background) == 0
    finally:
        if background:
            finish(background)


def test_the_script_runs(run, place):
    place.write("a.txt", "first\nTODO: second\n")
    script = place.write("script.lua", block("lua"))
    script.rename(place.root / "script.lua")
    done = run("run", place.root / "script.lua", "given")
    assert (done.err, done.code) == ("", 0)
    assert done.out == ("./a.txt:2\tTODO: second\n67%\tgiven\n"
                        "denied\tfile_operations: /etc/shadow: outside the folders allowed to read\t"
                        "Allow it with --allow-read=/etc/shadow.\n")


def test_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
            assert link.startswith("https://") or (ROOT / link).exists(), f"{name}: {link}"
    for page, section in re.findall(r"`([\w.-]+)\((\d)\)`", TEXT):
        assert (ROOT / "man" / f"{page}.{section}").exists(), page


def test_what_is_missing_says_so(run):
    assert "built without javascript" in run("run", "--engine", "js", "-e", "1").err
    assert len(run("tool", "list", "--json").json()["tools"]) == 6


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150
