"""JupyterLab in a headless Chromium, against the installed kernelspec: what a person at a notebook sees.

One server and one browser for all of it. The pictures stay in `$CARGO_TARGET_DIR/lab`.
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
import zlib

import pytest

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

import notebooks  # noqa: E402
from conftest import BIN, WAIT, Kernel, Place, Watched, ended, line, program  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# One worker gets them all.
pytestmark = [pytest.mark.xdist_group("lab"), pytest.mark.skipif(not CHROMIUM, reason="no chromium in PATH")]

PICTURES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", BIN.parent), "lab")
LIMIT = 2 * WAIT * 1000  # milliseconds: a browser on a busy machine
TOKEN = uuid.uuid4().hex

SESSION = "() => { const w = window.jupyterapp.shell.currentWidget; return w && w.context && w.context.sessionContext }"
# A kernel is attached and idle. The indicator says so before there is one.
READY = f"""path => {{ const w = window.jupyterapp.shell.currentWidget, c = ({SESSION})();
  return !!(c && w.context.path === path && c.isReady && c.session?.kernel?.status === 'idle' && w.content.widgets.length) }}"""
CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets.filter(w => w.model.type === 'code')
  .map(w => ({count: w.model.executionCount, outputs: w.model.outputs.toJSON()}))"""


class Lab:
    def __init__(self, place):
        self.place, self.env = place, {
            **place.env, "JUPYTER_PATH": str(place.root / "share/jupyter"), "JUPYTER_CONFIG_DIR": str(place.root / "config"),
            "JUPYTER_DATA_DIR": str(place.root / "data"), "JUPYTER_RUNTIME_DIR": str(place.run / "jupyter"),
            "JUPYTERLAB_SETTINGS_DIR": str(place.root / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(place.root / "workspaces"),
            "JUPYTER_PREFER_ENV_PATH": "0"}
        self.external = place.run / "external"
        self.external.mkdir()
        news = place.root / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
        news.parent.mkdir(parents=True)
        news.write_text('{"fetchNews": "false"}')
        notebooks.install(program("kernel"), place.root, place.env)
        # One whose output is not paced, to see that it matters.
        config = place.write("hasty.toml", "[kernel.pace]\nwhen = 'never'\n")
        notebooks.install(program("kernel"), place.root, place.env, "--name", "hasty", "--config", str(config))
        # It prints where it is once it listens.
        self.log = open(place.root / "server.log", "w+b")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0",
             f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={place.work}", "--ServerApp.allow_external_kernels=True",
             f"--ServerApp.external_connection_dir={self.external}", "--ServerApp.terminals_enabled=False",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.expose_app_in_browser=True",
             "--KernelSpecManager.ensure_native_kernel=False"],
            env=self.env, cwd=place.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while "/lab?token=" not in (text := line(self.server.stdout, 3 * WAIT)):
            self.log.write(text.encode())
            assert text, f"JupyterLab ended: {(place.root / 'server.log').read_text()}"
        self.url = text.split("http://")[1].split("/lab")[0]
        self.url = f"http://{self.url}"
        self.drain = subprocess.Popen(["cat"], stdin=self.server.stdout, stdout=self.log)
        deadline = time.monotonic() + WAIT
        while True:  # it says so a moment before it listens, and nothing tells of that
            try:
                return self.api("status") and None
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def api(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/{path}", data=data, method=method,
                                         headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=WAIT) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method or 'GET/POST'} {path}: {error}") from None
        return json.loads(text) if text else None

    def stop(self):
        if self.server.poll() is None:
            self.server.terminate()
        ended(self.server)
        self.drain.wait(WAIT)
        self.server.stdout.close()
        self.log.close()


@pytest.fixture(scope="module")
def lab():
    place = Place()
    lab = Lab(place)
    try:
        yield lab
    finally:
        lab.stop()
        shutil.rmtree(place.root)


@pytest.fixture(scope="module")
def browser(lab):
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.set_default_timeout(LIMIT)
        page.goto(f"{lab.url}/lab?token={TOKEN}")
        page.wait_for_function("() => window.jupyterapp && window.jupyterapp.restored")
        page.evaluate("() => window.jupyterapp.restored.then(() => null)")
        yield page
        browser.close()


class Notebook:
    """An open notebook of one's own."""

    def __init__(self, lab, page, name, cells, kernel=None, ends=True):
        import nbformat

        self.ends = ends
        self.lab, self.page, self.path = lab, page, f"{name}.ipynb"
        document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
        document.metadata.kernelspec = {"name": "llmspell", "display_name": "Lua (llmspell)", "language": "lua"}
        nbformat.write(document, lab.place.work / self.path)
        # A session that is there is attached to without a question.
        kernel = {"id": kernel} if kernel else {"name": "llmspell"}
        self.session = lab.api("sessions", {"path": self.path, "name": self.path, "type": "notebook", "kernel": kernel})
        page.evaluate("path => { window.jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'}) }", self.path)
        self.wait_ready()

    def wait_ready(self):
        self.page.wait_for_function(READY, arg=self.path)

    def command(self, name, **arguments):
        """Of Lab's menu, not waited for."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments])

    def locator(self, selector):
        return self.page.locator(f".jp-NotebookPanel:not(.lm-mod-hidden) {selector}")

    def cells(self):
        return self.page.evaluate(CELLS)

    def run_all(self):
        self.command("notebook:run-all-cells")

    def wait_run(self, *counts):
        """Until the code cells have these numbers and nothing runs."""
        self.page.wait_for_function(f"""counts => {{ const cells = ({CELLS})(), session = ({SESSION})();
          return session?.session?.kernel?.status === 'idle' && JSON.stringify(cells.map(c => c.count)) === counts
            && !window.jupyterapp.shell.currentWidget.content.widgets.some(w => w.prompt === '*') }}""",
                                    arg=json.dumps(list(counts), separators=(",", ":")))
        return self.cells()

    def edit(self, at=0):
        """Puts the cursor at the end of a cell."""
        editor = self.locator(".jp-CodeCell .cm-content").nth(at)
        editor.click()
        self.page.keyboard.press("Control+End")

    def picture(self, name):
        self.page.screenshot(path=PICTURES / f"{name}.png")

    def close(self):
        self.command("docmanager:save")
        self.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
        self.page.evaluate("() => { window.jupyterapp.shell.currentWidget.close() }")
        self.page.wait_for_function("path => window.jupyterapp.shell.currentWidget?.context?.path !== path", arg=self.path)
        if self.ends:  # as "Close and Shut Down Notebook" does
            self.lab.api(f"sessions/{self.session['id']}", method="DELETE")


@pytest.fixture
def notebook(lab, browser, request):
    opened = []

    def close():
        while opened:
            opened.pop().close()

    def notebook(*cells, **options):
        name = request.node.name.removeprefix("test_").replace("[", "-").replace("]", "")
        opened.append(Notebook(lab, browser, name, cells, **options))
        return opened[-1]

    notebook.close = close
    yield notebook
    close()


def text(cell, name="stdout"):
    parts = [output["text"] for output in cell["outputs"] if output["output_type"] == "stream" and output["name"] == name]
    return "".join(part if isinstance(part, str) else "".join(part) for part in parts)


def png(width, height, colour):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(colour) * width) * height
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_run_all_shows_every_kind_of_output(lab, notebook):
    lab.place.write("square.png", png(20, 10, (200, 60, 30)))
    book = notebook("print('hello, world')", "6 * 7", "Display.html('<b id=\"bold\">bold</b> <i>html</i>')",
                    "Display.png('square.png', {width = 120})",
                    "Display.table({{name = 'Ada', born = 1815}, {name = 'Alan', born = 1912}})", "Display.markdown('# A heading')",
                    "{{city = 'Oslo', rain = 12}, {city = 'Rome', rain = 3}}", "{city = 'Oslo', rain = {12, 3}}")
    book.run_all()
    cells = book.wait_run(1, 2, 3, 4, 5, 6, 7, 8)
    assert text(cells[0]) == "hello, world\n"
    assert cells[1]["outputs"][0]["data"]["text/plain"] == "42"
    assert book.locator(".jp-OutputArea-output b#bold").inner_text() == "bold"
    image = book.locator(".jp-RenderedImage img")
    image.wait_for()
    assert image.evaluate("img => img.decode().then(() => [img.naturalWidth, img.naturalHeight])") == [20, 10]
    book.locator(".jp-OutputArea-output h1").wait_for()
    book.picture("outputs")
    assert book.locator(".jp-OutputArea-output td").all_inner_texts()[:8] == [
        "1815", "Ada", "1912", "Alan", "Oslo", "12", "Rome", "3"]
    # Values are for programs too; JupyterLab shows those that are no table of records as a tree.
    assert cells[7]["outputs"][0]["data"]["application/json"] == {"city": "Oslo", "rain": [12, 3]}
    assert book.locator(".jp-RenderedJSON").count() == 1


def test_an_error_is_shown_and_stops_run_all(notebook):
    book = notebook("function f()\n  error('boom')\nend\nf()", "print('not reached')")
    book.run_all()
    error = book.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], .jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']")
    error.first.wait_for()
    book.picture("error")
    cells = book.wait_run(1, None)
    assert [output["ename"] for output in cells[0]["outputs"]] == ["LuaError"] and cells[1]["outputs"] == []
    assert "boom" in error.first.inner_text()
    # The next run is not held up by it.
    book.page.evaluate("() => { const c = window.jupyterapp.shell.currentWidget.content; c.activeCellIndex = 1 }")
    book.command("notebook:run-cell")
    assert text(book.wait_run(1, 2)[1]) == "not reached\n"


def test_a_question_is_asked_and_answered(notebook):
    book = notebook("io.write('name? ') print('hello ' .. io.read())")
    book.run_all()
    box = book.locator("input.jp-Stdin-input")
    box.wait_for()
    book.picture("question")
    box.fill("World")
    box.press("Enter")
    cells = book.wait_run(1)
    assert "hello World\n" in text(cells[0])
    book.picture("answer")


def test_the_stop_button_interrupts(notebook):
    book = notebook("print('go') while true do end", "print('after')")
    book.run_all()
    book.locator(".jp-OutputArea-output >> text=go").wait_for()
    assert book.locator(".jp-InputArea-prompt").first.inner_text().strip() == "[*]:"
    book.locator("[data-command='notebook:interrupt-kernel']").click()
    cells = book.wait_run(1, None)
    assert [output.get("ename") for output in cells[0]["outputs"]][-1] == "KeyboardInterrupt"
    book.picture("interrupted")
    book.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1 }")
    book.command("notebook:run-cell")
    assert text(book.wait_run(1, 2)[1]) == "after\n"


def test_restart_forgets_and_counts_from_one(notebook):
    book = notebook("x = (x or 0) + 1 print(x)")
    book.run_all()
    book.wait_run(1)
    book.run_all()
    assert text(book.wait_run(2)[0]) == "2\n"
    book.locator("[data-command='notebook:restart-kernel']").click()
    book.page.locator(".jp-Dialog .jp-mod-accept").click()
    book.page.wait_for_function(f"() => ({SESSION})().session.kernel.connectionStatus === 'connected'")
    book.page.locator(".jp-Dialog").wait_for(state="detached")
    book.wait_ready()
    book.run_all()
    assert text(book.wait_run(1)[0]) == "1\n"
    book.picture("restarted")


def test_tab_shows_completions(notebook):
    book = notebook("string.")
    book.edit()
    book.page.keyboard.press("Tab")
    items = book.page.locator(".jp-Completer .jp-Completer-item")
    items.first.wait_for()
    book.page.wait_for_function("() => document.querySelectorAll('.jp-Completer .jp-Completer-match').length > 5")
    book.picture("completion")
    names = book.page.locator(".jp-Completer .jp-Completer-match").all_inner_texts()
    assert {"byte", "format", "rep", "upper"} <= set(names)
    book.page.keyboard.type("upp")
    book.page.keyboard.press("Enter")
    book.page.wait_for_function("() => window.jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.source === 'string.upper'")


def test_shift_tab_shows_the_inspector(notebook):
    book = notebook("string.format")
    book.edit()
    book.page.keyboard.press("Shift+Tab")
    tooltip = book.page.locator(".jp-Tooltip")
    tooltip.wait_for()
    book.picture("inspector")
    assert "string.format(format, …)" in tooltip.inner_text() and "printf" in tooltip.inner_text()
    book.page.keyboard.press("Escape")
    tooltip.wait_for(state="detached")


def test_progress_is_updated_in_place(notebook):
    book = notebook("local p = Progress(3, 'work') for i = 1, 3 do p:update(i) end p:done()")
    book.run_all()
    (cell,) = book.wait_run(1)
    assert len(cell["outputs"]) == 1 and "3/3" in json.dumps(cell["outputs"])
    book.picture("progress")


def test_a_hundred_thousand_lines_arrive_whole(notebook):
    book = notebook("for i = 1, 100000 do print('line ' .. i) end", "print('next')")
    book.run_all()
    cells = book.wait_run(1, 2)
    assert text(cells[0]) == "".join(f"line {i}\n" for i in range(1, 100001))
    assert "rate exceeded" not in text(cells[0], "stderr") and text(cells[1]) == "next\n"
    book.picture("lines")


class Channels:
    """What the server lets through of a kernel, over its websocket."""

    def __init__(self, lab, name):
        import websocket

        self.lab, self.kernel = lab, lab.api("kernels", {"name": name})["id"]
        url = f"{lab.url}/api/kernels/{self.kernel}/channels?token={TOKEN}".replace("http", "ws", 1)
        self.socket = websocket.create_connection(url, timeout=2 * WAIT)

    def execute(self, code):
        """What arrived for it, idle last; kernel and server are then done with it."""
        header = {"msg_id": uuid.uuid4().hex, "session": "s", "username": "", "version": "5.3", "msg_type": "execute_request"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "user_expressions": {}}
        self.socket.send(json.dumps({"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}))
        messages, left = [], {"status", "execute_reply"}
        while left:
            message = json.loads(self.socket.recv())
            if message["parent_header"].get("msg_id") == header["msg_id"]:
                messages.append(message)
                if message["content"].get("execution_state") != "busy":
                    left.discard(message["msg_type"])
        return messages

    def end(self):
        self.socket.close()
        self.lab.api(f"kernels/{self.kernel}", method="DELETE")


@pytest.fixture
def channels(lab):
    opened = []

    def channels(name):
        opened.append(Channels(lab, name))
        return opened[-1]

    yield channels
    for one in opened:
        one.end()


LINES = "for i = 1, 40000 do print(i .. (' '):rep(100)) end"  # more than a server takes at once
EVENTS = "for i = 1, 4000 do display(i) end"


def streamed(messages, name="stdout"):
    return "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream" and m["content"]["name"] == name)


def test_a_servers_limits_cost_no_output(channels):
    one = channels("llmspell")
    messages = one.execute(LINES)
    assert streamed(messages, "stderr") == ""
    assert streamed(messages) == "".join(f"{i}{' ' * 100}\n" for i in range(1, 40001))
    assert [m["msg_type"] for m in messages if m["channel"] == "iopub"][-1] == "status", "idle is the last of them"
    shown = [m["content"]["data"]["text/plain"] for m in one.execute(EVENTS) if m["msg_type"] == "display_data"]
    assert shown == [str(i) for i in range(1, 4001)]


def test_a_kernel_that_waits_for_the_server_is_interrupted_at_once(channels, lab):
    one = channels("llmspell")
    header = {"msg_id": "endless", "session": "s", "username": "", "version": "5.3", "msg_type": "execute_request"}
    content = {"code": "while true do print(('x'):rep(1000)) end", "allow_stdin": False}
    one.socket.send(json.dumps({"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}))
    size = 0
    while size < 1_200_000:  # then it waits
        message = json.loads(one.socket.recv())
        size += len(message["content"].get("text", ""))
    begin = time.monotonic()
    lab.api(f"kernels/{one.kernel}/interrupt", {})
    while message["msg_type"] != "execute_reply":
        message = json.loads(one.socket.recv())
        assert "rate exceeded" not in message["content"].get("text", "")
    assert message["content"]["ename"] == "KeyboardInterrupt" and time.monotonic() - begin < 2


def test_a_kernel_that_does_not_wait_loses_output(channels):
    """Or these tests would prove nothing."""
    messages = channels("hasty").execute(LINES)
    assert "rate exceeded" in streamed(messages, "stderr") and len(streamed(messages)) < 40000 * 101


def test_a_kernel_ends_with_the_program_that_started_it(place):
    """Killed, so that it could not say so."""
    specs = notebooks.install(program("kernel"), place.root, place.env)
    file = place.run / "k.json"
    code = ("import sys, time; from jupyter_client import KernelManager; from jupyter_client.kernelspec import KernelSpecManager\n"
            "m = KernelManager(kernel_name='llmspell', connection_file=sys.argv[1],\n"
            "                  kernel_spec_manager=KernelSpecManager(kernel_dirs=[sys.argv[2]], ensure_native_kernel=False))\n"
            "m.start_kernel(); c = m.client(); c.start_channels(); c.wait_for_ready(timeout=30)\n"
            "print(m.provisioner.pid, flush=True); time.sleep(100)")
    starter = subprocess.Popen([sys.executable, "-c", code, str(file), specs.kernel_dirs[0]], env=place.env, stdout=subprocess.PIPE)
    try:
        while not (text := line(starter.stdout)).strip().isdigit():
            assert text
        with Watched(int(text)) as kernel:
            starter.kill()
            starter.wait()
            assert kernel.ended()
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_kernel_that_already_runs(lab, browser, notebook, transport):
    """It is found by its connection file, used, and left running when the notebook closes."""
    kernel = Kernel(lab.place, "--id", f"daemon-{transport}", "--transport", transport)
    link = lab.external / "daemon.json"
    try:
        assert kernel.wire().stdout("shared = 'from the daemon' print(1)") == "1\n"
        before = {one["id"] for one in lab.api("kernels")}
        # A copy stays when the kernel ends: jupyter_client 8.10 stumbles when the file of one that was shut down in Lab goes.
        link.symlink_to(kernel.file) if transport == "ipc" else shutil.copy(kernel.file, link)
        [found] = {one["id"] for one in lab.api("kernels")} - before
        book = notebook("print(shared) shared = 'from the notebook'", kernel=found, ends=transport == "tcp")
        book.run_all()
        assert text(book.wait_run(2)[0]) == "from the daemon\n"
        book.picture(f"daemon-{transport}")
        notebook.close()
        assert kernel.wire().stdout("print(shared)") == "from the notebook\n"
        if transport == "ipc":  # it is gone from the list with its file
            link.unlink()
            assert found not in {one["id"] for one in lab.api("kernels")}
        # Otherwise it was shut down with its notebook, which only makes Lab forget it.
        assert kernel.status()["pid"] == kernel.pid
    finally:
        kernel.stop()
