"""make install and uninstall, with the programs that are built already."""
import os
import re
import shutil
import subprocess

import pytest
from conftest import BIN, ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
PROGRAMS = ["llmspell-fleet", "llmspell-kernel", "llmspell-run", "llmspell-tool"]


def make(target, destination, build=BIN):
    return subprocess.run(["make", target, f"DESTDIR={destination}", "PREFIX=/usr", f"BUILD={build}"], cwd=ROOT,
                          capture_output=True, text=True)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def destination(tmp_path_factory):
    folder = tmp_path_factory.mktemp("destination with a blank")
    done = make("install", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_everything_is_there(destination):
    there = files(destination)
    expected = {f"usr/bin/{name}" for name in [*PROGRAMS, "llmspell"]}
    expected |= {f"usr/share/man/man{page.suffix[1:]}/{page.name}" for page in (ROOT / "man").iterdir()}
    for name in PROGRAMS:
        expected |= {f"usr/share/bash-completion/completions/{name}", f"usr/share/zsh/site-functions/_{name}",
                     f"usr/share/fish/vendor_completions.d/{name}.fish"}
    examples = [path.relative_to(ROOT) for path in (ROOT / "examples").rglob("*") if path.is_file()]
    expected |= {f"usr/share/doc/llmspell/{path}" for path in examples}
    deploy = [path.relative_to(ROOT) for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.parent.name != "user"]
    expected |= {f"usr/share/doc/llmspell/{path}" for path in deploy if path.parts[1] != "systemd"}
    expected |= {f"usr/lib/systemd/{scope}/llmspell-kernel{at}.service" for scope in ("system", "user") for at in ("", "@")}
    expected |= {f"usr/lib/systemd/user/llmspell-fleet-{unit}.service" for unit in ("route@", "serve")}
    expected.add("usr/lib/sysusers.d/llmspell.conf")
    expected |= {f"usr/share/doc/llmspell/{name}"
                 for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-APACHE", "LICENSE-MIT")}
    assert there == expected
    for path in (destination / path for path in there):
        mode = path.stat().st_mode & 0o777
        assert mode == (0o755 if path.parent.name == "bin" else 0o644), path
        assert path.stat().st_size > 0, path


def test_the_units_name_the_program_that_was_installed(destination):
    for unit in (destination / "usr/lib/systemd").rglob("*.service"):
        assert re.search(r"\nExecStart=/usr/bin/llmspell-(kernel --id|fleet (route|serve))", unit.read_text()), unit


def test_the_front_name_finds_the_programs(destination, place):
    env = {**place.env, "PATH": f"{destination}/usr/bin:/usr/bin:/bin"}
    for words in (["--version"], ["run", "--version"], ["kernel", "--version"], ["tool", "--version"], ["fleet", "--version"]):
        done = subprocess.run(["llmspell", *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0 and "0.11.0-dev" in done.stdout, done
    done = subprocess.run(["llmspell", "tool", "invoke", "calculator", "input=6*7", "--json"], env=env, capture_output=True,
                          text=True, cwd=place.work)
    assert done.returncode == 0 and "42" in done.stdout, done


def test_man_shows_the_pages(destination):
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    env = {**os.environ, "LC_ALL": "C.UTF-8", "MANROFFOPT": "-wall"}
    for page in (destination / "usr/share/man").rglob("*.[1-8]"):
        done = subprocess.run(["man", "-l", page], env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "") and "SEE ALSO" in done.stdout, page


def test_uninstall_leaves_nothing(destination):
    copy = destination.parent / "copy"
    shutil.copytree(destination, copy, symlinks=True)
    assert make("uninstall", copy).returncode == 0
    assert files(copy) == set()


def test_nothing_built_is_said(tmp_path):
    done = make("install", tmp_path / "to", tmp_path / "nothing")
    assert done.returncode != 0 and "run make first" in done.stderr
    assert not (tmp_path / "to").exists()
