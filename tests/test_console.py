"""Jupyter's own console on our kernel, in a pseudo-terminal: what it shows, asks, stops, and leaves behind."""
import contextlib
import os
import signal
import subprocess
import sys

import pexpect
import pytest
from conftest import WAIT, Watched, children, program

pytest.importorskip("jupyter_console", reason="jupyter_console is not installed")


@pytest.fixture
def console(place):
    """The console in its simple form, which draws no screen, with an installed kernelspec."""
    prefix = place.root / "prefix"
    subprocess.run([program("kernel"), "install", "--prefix", str(prefix), "--name", "llmspell"], check=True, env=place.env,
                   stdout=subprocess.DEVNULL)
    env = {**place.env, "JUPYTER_PATH": str(prefix / "share/jupyter"), "JUPYTER_RUNTIME_DIR": str(place.root / "jupyter"),
           "JUPYTER_CONFIG_DIR": str(place.root / "config"), "IPYTHONDIR": str(place.root / "ipython"), "TERM": "dumb"}
    child = pexpect.spawn(sys.executable, ["-m", "jupyter_console", "--kernel", "llmspell", "--simple-prompt"], env=env,
                          cwd=str(place.work), timeout=2 * WAIT, encoding="utf-8", echo=False, dimensions=(50, 200))
    yield child
    # A console that is killed leaves its kernel: not after a test.
    kernels = children(child.pid) if child.isalive() else []
    child.close(force=True)
    for kernel in kernels:
        with contextlib.suppress(ProcessLookupError):
            os.kill(kernel, signal.SIGKILL)


def prompt(child, number):
    child.expect_exact(f"In [{number}]: ")
    return child.before.replace("\r", "")


def kernel_of(child):
    [kernel] = [pid for pid in children(child.pid) if "llmspell-kernel" in open(f"/proc/{pid}/cmdline").read()]
    return kernel


def test_a_sitting_at_jupyter_console(console):
    banner = prompt(console, 1)
    assert "llmspell" in banner and "Lua 5.4" in banner
    with Watched(kernel_of(console)) as kernel:
        console.sendline("print('hello, world')")
        assert "hello, world\n" in prompt(console, 2)
        console.sendline("6 * 7")
        assert "Out[2]: 42" in prompt(console, 3)
        console.sendline("display('shown') io.stderr:write('err\\n')")
        seen = prompt(console, 4)
        assert "shown\n" in seen and "err\n" in seen
        console.sendline("error('no')")
        seen = prompt(console, 5)
        assert "LuaError" in seen and "[4]:1: no" in seen
        # Questions, and one whose answer is not shown.
        console.sendline("io.write('name? ') n = io.read() print('hello ' .. n)")
        # The console shows what is there when it asks, which may be less: the answer does not wait for it.
        console.sendline("you")
        seen = prompt(console, 6)
        assert "name? " in seen and "hello you\n" in seen
        console.sendline("p = io.read_password('secret: ') print(#p)")
        console.expect_exact("secret: ")
        console.waitnoecho(WAIT)
        console.sendline("hunter2")
        seen = prompt(console, 7)
        assert "7\n" in seen and "hunter2" not in seen
        # Ctrl-C stops the script, not the kernel.
        console.sendline("x = 5 print('go') while true do end")
        console.expect_exact("go")
        console.sendintr()
        assert "interrupted" in prompt(console, 8)
        console.sendline("x")
        assert "Out[8]: 5" in prompt(console, 9)
        console.sendeof()
        console.expect_exact("Do you really want to exit")
        console.sendline("y")
        console.expect(pexpect.EOF)
        assert kernel.ended(), "the kernel outlives its console"
