"""Services: what install-service writes, what deploy/ holds is what engines accept, and who may connect from where."""
import contextlib
import json
import os
import plistlib
import re
import shutil
import signal
import subprocess
import socket
import sys

import pytest
import zmq
from conftest import BIN, ROOT, Watched, children, finish, line

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").rglob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.relative_to(DEPLOY / "systemd")))
def test_units_are_well_formed(unit, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    # A unit whose program is missing is refused too.
    copy = tmp_path / unit.name
    copy.write_text(re.sub("/usr/local/bin/llmspell-(kernel|fleet)", "/bin/true", unit.read_text()))
    scope = ["--user"] if unit.parent.name == "user" else []
    done = subprocess.run(["systemd-analyze", *scope, "verify", "--man=no", copy], capture_output=True, text=True,
                          env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert (done.stderr, done.returncode) == ("", 0)


def test_the_sandbox_is_tight(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    for unit in DEPLOY.glob("systemd/*.service"):
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True)
        exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)[1])
        assert exposure < 2, unit


def test_manifests_are_strictly_valid():
    pytest.importorskip("kubernetes_validate")
    for manifest in DEPLOY.glob("kubernetes/*.yaml"):
        done = subprocess.run([sys.executable, "-m", "kubernetes_validate", "--strict", manifest], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(" passed for resource ", done.stdout + done.stderr)) == 4


def test_compose_is_what_the_specification_says():
    pytest.importorskip("check_jsonschema")
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
                           DEPLOY / "docker/compose.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_property_list_and_the_job_can_be_read():
    loaded = plistlib.loads((DEPLOY / "launchd/org.llmspell.kernel.plist").read_bytes())
    assert loaded["Label"] == "org.llmspell.kernel" and loaded["KeepAlive"] == {"SuccessfulExit": False}
    assert loaded["ProgramArguments"][0].startswith("/") and loaded["Umask"] == 0o077
    hcl2 = pytest.importorskip("hcl2")
    with open(DEPLOY / "nomad/llmspell.nomad.hcl") as file:
        (job,) = hcl2.load(file)["job"]
    assert len(job['"llmspell"']["group"]) == 3


def test_print_is_what_is_written(run, place):
    shown = run("kernel", "install-service", "--user", "--id", "notes", "--print")
    done = run("kernel", "install-service", "--user", "--id", "notes")
    assert (shown.code, done.code, done.err) == (0, 0, "")
    folder = place.root / ".config/systemd/user"
    for name in ("llmspell-kernel.service", "llmspell-kernel@.service"):
        assert (folder / name).read_text() in shown.out
        assert f"wrote {folder / name}\n" in done.out
    config = place.root / ".llmspell/kernels/notes.toml"
    assert f"wrote {config}" in done.out and run("kernel", "config", "check", config).code == 0
    assert config.stat().st_mode & 0o777 == 0o600 and config.parent.stat().st_mode & 0o777 == 0o700
    again = run("kernel", "install-service", "--user", "--id", "notes")
    assert "unchanged" in again.out and "wrote" not in again.out
    (folder / "llmspell-kernel.service").write_text("[Service]\n")
    refused = run("kernel", "install-service", "--user")
    assert refused.code == 6 and "--force" in refused.err
    assert run("kernel", "install-service", "--user", "--force").code == 0
    gone = run("kernel", "uninstall-service", "--user")
    assert gone.code == 0 and not list(folder.iterdir()) and config.exists()
    assert run("kernel", "uninstall-service", "--user").code == 5


def test_launchd_has_its_folders(run, place):
    done = run("kernel", "install-service", "--user", "--service-type", "launchd", "--id", "notes", "-c",
               place.write("k.toml", ""))
    assert done.code == 0, done.err
    file = place.root / "Library/LaunchAgents/org.llmspell.kernel.notes.plist"
    loaded = plistlib.loads(file.read_bytes())
    assert loaded["ProgramArguments"] == [f"{BIN}/llmspell-kernel", "--id", "notes", "--config", f"{place.work}/k.toml"]
    assert os.path.isdir(loaded["WorkingDirectory"]) and os.path.isdir(os.path.dirname(loaded["StandardErrorPath"]))


@pytest.mark.skipif(os.getuid() != 0, reason="not root")
def test_what_a_system_service_cannot_reach_is_said(place, tmp_path):
    home = tmp_path / "llmspell-kernel"
    shutil.copy(BIN / "llmspell-kernel", home)
    # In a name space of its own, where /root is another folder.
    done = subprocess.run(["unshare", "-m", "sh", "-c", f'mount --bind {tmp_path} /root && /root/llmspell-kernel install-service'],
                          capture_output=True, text=True, env=place.env)
    assert done.returncode == 4 and "out of reach for a system service" in done.stderr, done


@pytest.mark.parametrize("ip", ["0.0.0.0", "::"])
def test_beyond_this_machine_clients_are_named(run, ip):
    done = run("kernel", "--ip", ip)
    assert done.code == 3 and "other machines can reach it" in done.err and "--allow-clients=LIST" in done.err
    done = run("kernel", "--ip", ip, "--allow-clients", "10.0.0.0/40")
    assert done.code == 3 and "not an address or a block" in done.err


@pytest.mark.parametrize("ip, there, clients", [
    ("127.0.0.1", "127.0.0.1", "127.0.0.2,10.0.0.0/8"),
    ("0.0.0.0", "127.0.0.1", "127.0.0.2/31,10.0.0.0/8"),
    ("::", "127.0.0.1", "127.0.0.2"),
])
def test_only_named_clients_get_in(kernel, ip, there, clients):
    one = kernel("--ip", ip, "--port", "0", "--allow-clients", clients)
    port = one.connection["control_port"]

    def monitor(source):
        """The first thing that happens to a connection from there, once it is or is not a ZeroMQ one."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger, socket.reconnect_ivl = 0, -1
            watch = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
            socket.connect(f"tcp://{source}:0;{there}:{port}")
            assert watch.poll(30_000)
            event = int.from_bytes(watch.recv_multipart()[0][:2], sys.byteorder)
            socket.disable_monitor()
            return event

    assert monitor("127.0.0.2") == zmq.EVENT_HANDSHAKE_SUCCEEDED
    assert monitor("127.0.0.5") == zmq.EVENT_DISCONNECTED


def test_a_connection_file_that_both_sides_have(run, kernel, place):
    path = place.work / "there.json"
    ports = ",".join(str(port) for port in free(5))
    assert run("kernel", "connection", "--ip", "127.0.0.1", "--ports", ports, "-o", path).code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("kernel", "connection", "-o", path).code == 6
    before = path.read_text()
    one = kernel("--id", "far", "--connection-file", path, "--ip", "0.0.0.0", "--allow-clients", "127.0.0.0/8")
    assert one.ready["id"] == "far"
    assert path.read_text() == before, "it is not ours to change"
    done = run("tool", "--connection-file", path, "invoke", "calculator", "input=6*7")
    assert (done.out, done.err) == ("42\n", "")
    assert run("tool", "--kernel", "far", "invoke", "calculator", "input=6*7").out == "42\n"
    shown = json.loads(run("kernel", "connection").out)
    assert len(shown["key"]) == 64 and [shown[f"{c}_port"] for c in ("shell", "iopub", "stdin", "control", "hb")] == list(range(9555, 9560))


def arguments(words, config):
    """The command line of a container, with the configuration and ports of here."""
    words = list(words)
    words[words.index("--config") + 1] = str(config)
    words[words.index("--ports") + 1] = ",".join(str(port) for port in free(5))
    return words


def test_what_the_containers_run(run, kernel):
    """The command and the health check of every service of Compose."""
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())["services"]
    assert list(services) == ["kernel-openai", "kernel-anthropic", "kernel-local"]
    for name, service in services.items():
        source, inside, _ = service["volumes"][0].split(":")
        config = (DEPLOY / "docker" / source).resolve()
        assert inside in service["command"] and config.exists()
        probe = service["healthcheck"]["test"]
        assert probe[:2] == ["CMD", "llmspell-fleet"]
        assert run("fleet", *probe[2:]).code != 0
        kernel(*arguments(service["command"], config))
        assert run("fleet", *probe[2:]).code == 0, name


@pytest.mark.skipif(os.getuid() != 0, reason="not root")
def test_what_the_pods_run(run, kernel, place):
    """With the secret as Kubernetes mounts it: of root, readable for the group of the pod."""
    yaml = pytest.importorskip("yaml")
    for manifest in DEPLOY.glob("kubernetes/*.yaml"):
        documents = {one["kind"]: one for one in yaml.safe_load_all(manifest.read_text())}
        pod = documents["StatefulSet"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        config = place.write("kernel.toml", documents["ConfigMap"]["data"]["kernel.toml"])
        words = arguments(container["args"], config)
        secret = place.work / f"{manifest.stem}.json"
        assert run("kernel", "connection", "--ports", words[words.index("--ports") + 1], "-o", secret).code == 0
        secret.chmod(next(v["secret"]["defaultMode"] for v in pod["volumes"] if v["name"] == "connection"))
        words[words.index("--connection-file") + 1] = str(secret)
        kernel(*words)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container[probe]["exec"]["command"]
            assert run("fleet", *command[1:]).code == 0, (manifest, probe)
        secret.chmod(0o444)
        assert run("tool", "--connection-file", secret, "list").code == 4


def free(count):
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


@pytest.mark.skipif(os.getuid() != 0, reason="not root")
def test_a_kernel_in_a_container_of_its_own(run, start, place):
    """As its process 1, which it is known as inside; outside its PID means nothing, and clients come all the same."""
    words = ["--id", "inner", "--port", "0", "--json"]
    child = subprocess.Popen(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", BIN / "llmspell-kernel", *words],
                             stdout=subprocess.PIPE, env=place.env, cwd=place.work)
    try:
        ready = json.loads(line(child.stdout))
        assert ready["pid"] == 1
        (pid,) = children(child.pid)
        health = ["nsenter", "-t", str(pid), "--pid", "--mount", BIN / "llmspell-fleet", "health", "inner"]
        inside = subprocess.run(health, capture_output=True, text=True, env=place.env)
        assert inside.stdout.startswith("HEALTHY "), inside
        assert run("tool", "--connection-file", ready["connection_file"], "invoke", "calculator", "input=6*7").out == "42\n"
        assert run("tool", "--kernel", "inner", "list").code == 5, "nobody found by its PID"
        os.kill(pid, signal.SIGTERM)
        with Watched(child.pid) as watched:
            assert watched.ended()
    finally:
        finish(child)
