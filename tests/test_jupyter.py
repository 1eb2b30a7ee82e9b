"""jupyter_client's manager starting, interrupting, restarting and ending a kernel."""
import json
import os
import subprocess
import sys

import pytest
from conftest import WAIT, Place, program
from jupyter_client.manager import KernelManager


@pytest.fixture(autouse=True, scope="module")
def spec():
    """The kernel as Jupyter finds it, in a home of its own."""
    place = Place()
    for mode in ("message", "signal"):
        folder = place.root / "kernels" / f"llmspell-{mode}"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps({
            "argv": [program("kernel"), "-f", "{connection_file}"], "display_name": "Lua (llmspell)", "language": "lua",
            "interrupt_mode": mode, "kernel_protocol_version": "5.5"}))
    before = dict(os.environ)
    os.environ.update({**place.env, "JUPYTER_PATH": str(place.root), "JUPYTER_RUNTIME_DIR": str(place.run)})
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("mode", ["message", "signal"])
def test_life_under_a_manager(mode, transport, place):
    manager = KernelManager(kernel_name=f"llmspell-{mode}", transport=transport)
    if transport == "ipc":
        manager.ip = str(place.run / "k")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=WAIT)
        client.execute("print('go') while true do end", allow_stdin=False)
        while client.get_iopub_msg(timeout=WAIT)["msg_type"] != "stream":
            pass
        manager.interrupt_kernel()
        assert client.get_shell_msg(timeout=WAIT)["content"]["ename"] == "KeyboardInterrupt"
        assert client.execute_interactive("x = 1", timeout=WAIT, allow_stdin=False)["content"]["status"] == "ok"
        manager.restart_kernel()
        client.wait_for_ready(timeout=WAIT)
        reply = client.execute_interactive("", user_expressions={"x": "x"}, timeout=WAIT, allow_stdin=False, output_hook=lambda _: None)
        assert reply["content"]["user_expressions"]["x"]["data"]["text/plain"] == "nil"
        assert manager.is_alive()
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    assert not manager.is_alive()


def test_a_script_by_jupyter_run_prints_what_it_prints_and_nothing_else(place, run):
    """It gives the kernel the name of its script as a word of the command line."""
    assert run("kernel", "install", "--prefix", place.root / "p").code == 0
    place.write("a.lua", "print('hello')")
    env = {**place.env, "JUPYTER_PATH": str(place.root / "p/share/jupyter"), "JUPYTER_RUNTIME_DIR": str(place.run)}
    done = subprocess.run([sys.executable, "-m", "jupyter_client.runapp", "--kernel", "llmspell", "a.lua"], env=env, cwd=place.work,
                          capture_output=True, text=True, timeout=2 * WAIT)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done
