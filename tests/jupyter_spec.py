"""A kernelspec written by hand, in a place of its own, and a kernel started from it, for the tests that go through jupyter_client."""
import contextlib
import json
import os
import shutil

from conftest import Place, program
from jupyter_client.manager import KernelManager

LIMIT = 20


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


class Kernel:
    """A kernel that jupyter_client started, and its client."""

    def __init__(self, *arguments, name="llmspell", **options):
        self.manager = KernelManager(kernel_name=name, **options)
        self.manager.start_kernel(extra_arguments=list(arguments))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT)
        # On a busy machine it asked more than once: what answers all of that is read before the first test.
        last = self.send("kernel_info_request")
        while self.client.shell_channel.get_msg(timeout=LIMIT)["parent_header"].get("msg_id") != last:
            pass
        while (msg := self.client.get_iopub_msg(timeout=LIMIT))["parent_header"].get("msg_id") != last or (
            msg["content"].get("execution_state") != "idle"
        ):
            pass

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=not self.manager.is_alive())
        self.manager.cleanup_resources()

    def send(self, msg_type, content=None, control=False, **more):
        channel = self.client.control_channel if control else self.client.shell_channel
        metadata, buffers = more.pop("metadata", None), more.pop("buffers", None)
        msg = self.client.session.msg(msg_type, content or {}, metadata=metadata)
        msg["header"].update(more)
        if buffers:
            self.client.session.send(channel.socket, msg, buffers=buffers)
        else:
            channel.send(msg)
        return msg["header"]["msg_id"]

    def iopub(self, msg_id):
        """Everything of a request, from its busy to its idle."""
        messages = []
        while True:
            msg = self.client.get_iopub_msg(timeout=LIMIT)
            assert msg["parent_header"].get("msg_id") == msg_id, msg
            messages.append(msg)
            if msg["msg_type"] == "status" and msg["content"]["execution_state"] == "idle":
                break
        assert messages[0]["content"] == {"execution_state": "busy"}
        return messages[1:-1]

    def ask(self, msg_type, content=None, control=False, **more):
        """The reply, and what was published meanwhile."""
        msg_id = self.send(msg_type, content, control, **more)
        channel = self.client.control_channel if control else self.client.shell_channel
        reply = channel.get_msg(timeout=LIMIT)
        assert reply["parent_header"]["msg_id"] == msg_id
        assert reply["msg_type"] == msg_type.replace("_request", "_reply")
        return reply["content"], self.iopub(msg_id)

    def run(self, code, **options):
        content = {"code": code, "allow_stdin": False, **options}
        reply, messages = self.ask("execute_request", content)
        return reply, messages

    def text(self, code):
        reply, messages = self.run(code)
        assert reply["status"] == "ok", reply
        return "".join(msg["content"].get("text", "") for msg in messages if msg["msg_type"] == "stream")
