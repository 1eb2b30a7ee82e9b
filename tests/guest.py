"""A machine with systemd as PID 1: this machine's own files under a throw-away layer, booted by systemd-nspawn in about three
seconds. Nothing here is changed, and no network is reached. Needs root, as mounting does."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from conftest import BIN, ROOT, WAIT, Watched, children

SOURCE, BUILD = "/mnt/source", "/mnt/build"


def missing():
    """Why there can be no such machine here; nothing if there can."""
    if os.getuid() != 0:
        return "not root"
    for program in ("systemd-nspawn", "nsenter", "make", "loginctl"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return None


class Guest:
    """guest("systemctl", "status", …) runs a command in it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ls-guest-"))
        self.console = open(self.folder / "console", "w+b")
        root = self.folder / "root"
        root.mkdir()
        script = 'mount --bind / "$0" && exec systemd-nspawn "$@"'
        self.child = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, root, "--quiet", "--register=no", "--keep-unit",
             "-D", root, "--boot", "--console=pipe", "--volatile=overlay", "--private-network", f"--bind-ro={ROOT}:{SOURCE}",
             f"--bind-ro={BIN}:{BUILD}", "systemd.unit=basic.target", "systemd.show_status=no"],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT, start_new_session=True)
        self.init = None
        # nspawn tells nobody when systemd listens, so this is asked for until it answers.
        for _ in range(600):
            found = children(self.child.pid) if self.child.poll() is None else []
            if found and self.answers(found[0]):
                self.init = found[0]
                break
            try:
                self.child.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"nspawn ended: {self.output()}")
        assert self.init, f"no systemd within 30 s: {self.output()}"
        self("systemctl", "start", "systemd-logind.service", "systemd-user-sessions.service", "dbus.service")

    def output(self):
        return (self.folder / "console").read_text(errors="replace")

    @staticmethod
    def answers(init):
        done = subprocess.run(["nsenter", "-t", str(init), "-a", "systemctl", "is-active", "basic.target"], capture_output=True)
        return done.returncode == 0

    def command(self, words, user=None):
        if user:
            words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "env", f"HOME=/home/{user}", f"USER={user}",
                     f"XDG_RUNTIME_DIR=/run/user/{self.uid(user)}", *words]
        return ["nsenter", "-t", str(self.init), "-a", "--", "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root", "LANG=C.UTF-8", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", *map(str, words)]

    def run(self, *words, user=None, timeout=2 * WAIT):
        return subprocess.run(self.command(words, user), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                              cwd="/")

    def __call__(self, *words, user=None, timeout=2 * WAIT):
        """What a command that must succeed prints."""
        done = self.run(*words, user=user, timeout=timeout)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def uid(self, user):
        return int(self("id", "-u", user))

    def write(self, path, text):
        subprocess.run(self.command(["tee", path]), input=text, text=True, stdout=subprocess.DEVNULL, check=True)

    def stop(self):
        if self.init:
            self.run("systemctl", "poweroff", "--force")
        try:
            self.child.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.console.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def guest():
    if why := missing():
        pytest.skip(f"no machine with systemd of our own: {why}")
    guest = Guest()
    try:
        yield guest
    finally:
        guest.stop()
