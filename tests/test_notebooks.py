"""Kernelspecs, and the example notebooks run by nbclient against one."""
import json
import pathlib

import nbformat
import pytest

pytest.importorskip("nbclient")

import notebooks  # noqa: E402
from conftest import program  # noqa: E402


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_is_stored_in_it(place, path):
    specs = notebooks.install(program("kernel"), place.root, place.env)
    executed = notebooks.execute(path, specs, place.env, place.work, place.run)
    stored = notebooks.outputs(nbformat.read(path, 4))
    assert any(stored) and notebooks.outputs(executed) == stored


def test_a_kernelspec_comes_is_listed_and_goes(place, run):
    env = {"JUPYTER_DATA_DIR": str(place.root / "data")}
    config = place.write("c.toml", "")
    done = run("kernel", "install", "--name", "Mine", "--display-name", "My Lua", "--config", "c.toml", "--engine", "lua", env=env)
    folder = place.root / "data" / "kernels" / "mine"
    assert (done.code, done.out) == (0, f"installed kernelspec mine in {folder}\n"), done
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["argv"] == [str(pathlib.Path(program("kernel")).resolve()), "start", "--connection-file", "{connection_file}",
                            "--config", str(config), "--engine", "lua"]
    assert (spec["display_name"], spec["language"], spec["interrupt_mode"]) == ("My Lua", "lua", "message")
    assert spec["kernel_protocol_version"] == "5.6"
    assert set(spec["metadata"]) == {"llmspell"}, "neither encryption nor a debugger is announced"
    assert sorted(file.name for file in folder.iterdir()) == ["kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"]
    listed = run("kernel", "list", "--json", env=env).json()["kernelspecs"]
    assert [(one["name"], one["folder"], one["works"]) for one in listed] == [("mine", str(folder), True)]
    assert run("kernel", "uninstall", "--name", "mine", env=env).code == 0 and not folder.exists()
    gone = run("kernel", "uninstall", "--name", "mine", env=env)
    assert gone.code != 0 and "no such kernelspec" in gone.err


def test_another_kernels_spec_stays(place, run):
    other = place.root / "share/jupyter/kernels/llmspell/kernel.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"argv": ["python3"]}')
    for command in ("install", "uninstall"):
        done = run("kernel", command, "--prefix", place.root)
        assert done.code != 0 and "another kernel's" in done.err
    assert other.read_text() == '{"argv": ["python3"]}'
    assert "VIRTUAL_ENV" in run("kernel", "install", "--sys-prefix").err
