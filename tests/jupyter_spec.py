"""A kernelspec written by hand, in a place of its own, for the tests that go through jupyter_client."""
import contextlib
import json
import os
import shutil

from conftest import Place, program


@contextlib.contextmanager
def installed():
    """`llmspell` is a kernel that Jupyter finds meanwhile; the working folder is its own too."""
    place = Place()
    folder = place.root / "kernels" / "llmspell"
    folder.mkdir(parents=True)
    argv = [program("kernel"), "--connection-file", "{connection_file}"]
    spec = {"argv": argv, "display_name": "llmspell", "language": "lua", "interrupt_mode": "message"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    environment, cwd = dict(os.environ), os.getcwd()
    os.environ.update({**place.env, "JUPYTER_PATH": str(place.root), "JUPYTER_RUNTIME_DIR": str(place.run)})
    os.chdir(place.work)
    try:
        yield place
    finally:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        shutil.rmtree(place.root)
