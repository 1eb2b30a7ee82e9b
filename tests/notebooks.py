"""Runs the notebooks in examples/notebooks against an installed kernelspec.

`python tests/notebooks.py` writes their outputs into them; the tests compare.
"""
import json
import os
import pathlib
import re
import subprocess
import tempfile

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def install(program, prefix, env, *more):
    """Installs the kernelspec below `prefix`; what finds it there."""
    subprocess.run([program, "install", "--prefix", prefix, *more], check=True, env=env, stdout=subprocess.DEVNULL)
    return KernelSpecManager(kernel_dirs=[str(pathlib.Path(prefix, "share/jupyter/kernels"))], ensure_native_kernel=False)


def execute(path, specs, env, cwd, runtime):
    """The notebook with the outputs it has now."""
    notebook = nbformat.read(path, 4)
    manager = AsyncKernelManager(kernel_name="llmspell", kernel_spec_manager=specs,
                                 connection_file=str(pathlib.Path(runtime, f"{path.stem}.json")))
    client = NotebookClient(notebook, km=manager, timeout=60, resources={"metadata": {"path": str(cwd)}})
    client.owns_km = True  # so that the kernel ends with the notebook
    client.execute(env=env)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def outputs(notebook):
    """What the cells show, without what differs from run to run: times."""
    shown = [[dict(output) for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]
    return json.loads(re.sub(r"\d+\.\d s\b", "0.0 s", json.dumps(shown, sort_keys=True)))


if __name__ == "__main__":
    program = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "debug", "llmspell-kernel")
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "HOME": folder, "LLMSPELL_HOME": f"{folder}/home"}
        specs = install(program, folder, env)
        for path in NOTEBOOKS:
            nbformat.write(execute(path, specs, env, folder, folder), path)
            print(path.name)
