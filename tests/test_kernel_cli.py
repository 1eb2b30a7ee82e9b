"""llmspell-kernel(1): files and their modes, conflicts, connection files of all kinds, signals, doctor."""
import json
import os
import re
import signal
import socket
import stat
import subprocess

import pytest
from conftest import WAIT, Kernel, ended, line, program


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def free_ports(count):
    """Ports nobody uses now, below the ephemeral range."""
    import random

    found = []
    while len(found) < count:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        found += [port] if port not in found else []
    return found


@pytest.mark.parametrize("flags,transport", [([], "ipc"), (["--port", "0"], "tcp"), (["--transport", "tcp"], "tcp"), (["--transport", "ipc"], "ipc")])
def test_files_and_their_modes(kernel, place, flags, transport):
    os.umask(0o000)
    one = kernel(*flags)
    os.umask(0o022)
    assert one.file == place.home / "kernel" / "llmspell-kernel.json" and one.ready["endpoint"].startswith(transport)
    pid_file = one.file.with_suffix(".pid")
    assert pid_file.read_text() == f"{one.pid}\n"
    assert (mode(one.file), mode(pid_file), mode(one.file.parent), mode(place.home)) == (0o600, 0o600, 0o700, 0o700)
    assert one.connection["transport"] == transport and len(one.connection["key"]) >= 32
    assert (one.connection["kernel_id"], one.connection["pid"], one.connection["signature_scheme"]) == (one.id, one.pid, "hmac-sha256")
    if transport == "ipc":
        [sockets] = place.run.glob("llmspell-*")
        assert mode(sockets) == 0o700
    one.child.terminate()
    assert one.ended() == 0
    assert os.listdir(one.file.parent) == [] and not list(place.run.glob("*/*"))


def test_two_kernels_have_two_keys_and_no_port_in_common(kernel):
    one, two = kernel("--id", "one", "--port", "0"), kernel("--id", "two", "--port", "0")
    ports = [c[f"{name}_port"] for c in (one.connection, two.connection) for name in ("shell", "iopub", "stdin", "control", "hb")]
    assert len(set(ports)) == 10 and one.connection["key"] != two.connection["key"]


def test_port(kernel):
    (port,) = free_ports(1)
    one = kernel("--port", str(port))
    assert one.connection["shell_port"] == port and one.wire().stdout("print(1)") == "1\n"


def test_ports(kernel):
    ports = free_ports(5)
    one = kernel("--ports", ",".join(map(str, ports)))
    assert [one.connection[f"{name}_port"] for name in ("shell", "iopub", "stdin", "control", "hb")] == ports
    assert one.wire().stdout("print(1)") == "1\n"


def test_port_taken(run, place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("kernel", "--port", port)
        assert done.code == 6 and str(port) in done.err and "use" in done.err, done
        ports = [*free_ports(4), port]
        assert run("kernel", "--ports", ",".join(map(str, ports))).code == 6
    assert not list((place.home / "kernel").glob("*.json")), "nothing is left behind"


def test_same_id_twice(run, kernel):
    one = kernel()
    before = one.file.read_text()
    done = run("kernel")
    assert done.code == 6 and str(one.pid) in done.err and "llmspell-kernel" in done.err
    assert one.file.read_text() == before and one.wire().stdout("print(1)") == "1\n"


@pytest.mark.parametrize("id", ["", "../x", ".x", "a/b", "a b", "x" * 65])
def test_bad_id(run, id):
    assert run("kernel", "--id", id).code == 2


@pytest.mark.parametrize("args", [["--nonsense"], ["--port", "x"], ["--port", "70000"], ["--ports", "1,2,3"], ["--transport", "pigeon"],
                                  ["--ip", "nowhere"], ["--engine", "cobol"], ["--log-level", "loud"], ["extra"], ["--daemon", "--private", "/"]])
def test_usage(run, args):
    done = run("kernel", *args)
    assert done.code in (2, 10) and done.out == "" and done.err.startswith("llmspell-kernel: ")


def test_an_engine_that_is_not_here(run, place):
    done = run("kernel", "--engine", "js")
    assert done.code == 10 and "built without javascript" in done.err
    assert not list((place.home / "kernel").glob("*"))


def test_workdir(kernel, run, place):
    place.write("sub/a.txt", "inside")
    one = kernel("--workdir", "sub")
    assert one.wire().stdout("print(io.open('a.txt'):read('a'))") == "inside\n"
    assert run("kernel", "--id", "x", "--workdir", "none").code == 5


# Connection files, as clients and as a kernel read them.


def bad_files(place, connection):
    text = json.dumps(connection)
    return {
        "missing": (place.work / "none.json", 5, "no such file"),
        "truncated": (place.write("t.json", text[: len(text) // 2], 0o600), 3, "truncated"),
        "empty": (place.write("e.json", "", 0o600), 3, "truncated"),
        "foreign JSON": (place.write("f.json", '{"name": "x", "version": 1}', 0o600), 3, "not a connection file"),
        "foreign text": (place.write("g.json", "hello", 0o600), 3, "not a connection file"),
        "binary": (place.write("b.json", bytes(range(256)), 0o600), 3, "not a connection file"),
        "directory": (place.work, 3, "not a file"),
        "readable by others": (place.write("r.json", text, 0o644), 4, "others can read"),
        "writable by others": (place.write("w.json", text, 0o622), 4, "others can write"),
        "another signature": (place.write("s.json", json.dumps({**connection, "signature_scheme": "hmac-md5"}), 0o600), 10, "hmac-md5"),
        "encryption": (place.write("c.json", json.dumps({**connection, "curve_publickey": "x"}), 0o600), 10, "CurveZMQ"),
        "port out of range": (place.write("p.json", json.dumps({**connection, "shell_port": 70000}), 0o600), 3, "not a connection file"),
    }


@pytest.mark.parametrize("name", ["missing", "truncated", "empty", "foreign JSON", "foreign text", "binary", "directory", "readable by others",
                                  "writable by others", "another signature", "encryption", "port out of range"])
def test_connection_file(run, kernel, place, name):
    one = kernel("--transport", "tcp")
    file, code, words = bad_files(place, one.connection)[name]
    for args in (["tool", "-f", file, "list"], ["run", "-f", file, "-e", "1"]):
        done = run(*args)
        assert (done.code, done.out) == (code, "") and words in done.err and str(file) in done.err, done
    if name != "missing":
        done = run("kernel", "--connection-file", file)
        assert done.code == code and words in done.err, done


@pytest.mark.parametrize("program_", ["tool", "run"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_nobody_at_the_other_end(run, place, program_, transport):
    ports = dict(zip([f"{n}_port" for n in ("shell", "iopub", "stdin", "control", "hb")], free_ports(5)))
    ip = "127.0.0.1" if transport == "tcp" else str(place.run / "none")
    file = place.write("dead.json", json.dumps({"transport": transport, "ip": ip, "key": "x", **ports}), 0o600)
    done = run(program_, "-f", file, *(["list"] if program_ == "tool" else ["-e", "1"]), timeout=15)
    assert done.code in (5, 7) and done.err.startswith(f"llmspell-{program_}: kernel"), done


def test_somebody_else_at_the_other_end(run, place):
    """A server that accepts and says nothing, and one that closes at once: an error, never a hang."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        file = place.write("mute.json", json.dumps({"ip": "127.0.0.1", "key": "x", **{f"{n}_port": port for n in ("shell", "iopub", "stdin", "control", "hb")}}), 0o600)
        done = run("tool", "-f", file, "list", timeout=15)
        assert done.code in (4, 5, 7, 8) and done.err, done


@pytest.mark.parametrize("key", ["wrong", ""])
def test_wrong_key(run, kernel, place, key):
    one = kernel()
    file = place.write("wrong.json", json.dumps({**one.connection, "key": key}), 0o600)
    done = run("run", "-f", file, "-e", "print(1)", timeout=15)
    assert done.code == 4 and "key" in done.err and done.out == ""
    assert one.wire().stdout("print(1)") == "1\n"


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_file_that_jupyter_made_is_used_as_it_is_and_stays(kernel, place, transport):
    from jupyter_client.connect import write_connection_file

    ip = "" if transport == "tcp" else str(place.run / "kernel-ipc")
    path, config = write_connection_file(str(place.work / "kernel-abc.json"), transport=transport, ip=ip, key=b"abc-def")
    before = open(path).read()
    one = kernel("-f", path)
    assert one.id == "kernel-abc" and open(path).read() == before
    assert [one.connection[name] for name in config] == [config[name] if name != "key" else "abc-def" for name in config]
    assert one.client().is_alive() is not None and one.wire().stdout("print(1)") == "1\n"
    one.child.terminate()
    assert one.ended() == 0 and open(path).read() == before


def test_an_unsigned_connection_is_allowed_when_the_file_says_so(kernel, place):
    from jupyter_client.connect import write_connection_file

    path, _ = write_connection_file(str(place.work / "k.json"), key=b"")
    assert kernel("-f", path).wire().stdout("print(1)") == "1\n"


def test_a_connection_file_elsewhere_is_written_and_removed(kernel, run, place):
    file = place.work / "sub" / "my.json"
    file.parent.mkdir()
    one = kernel("--connection-file", "sub/my.json", "--id", "mine")
    assert one.file == file and mode(file) == 0o600
    assert run("tool", "-k", "mine", "list").code == run("tool", "-f", file, "list").code == 0
    done = run("kernel", "--connection-file", file, "--id", "other")
    assert done.code == 6 and str(one.pid) in done.err
    one.child.terminate()
    assert one.ended() == 0 and not file.exists()


# Signals.


def test_sigterm_ends_it_gracefully(kernel, place):
    one = kernel()
    wire = one.wire()
    one.child.terminate()
    kinds = []
    while "shutdown_reply" not in kinds:
        kinds.append(wire.recv("iopub").type)
    assert one.ended() == 0 and os.listdir(one.file.parent) == []


def test_sigint_does_nothing_to_an_idle_kernel_without_a_terminal(kernel):
    one = kernel()
    for _ in range(3):
        one.child.send_signal(signal.SIGINT)
        assert one.wire().stdout("print(1)") == "1\n"


def test_sigint_ends_an_idle_kernel_at_a_terminal(place):
    import pty

    leader, follower = pty.openpty()
    child = subprocess.Popen([program("kernel"), "--json"], stdin=follower, stdout=subprocess.PIPE, env=place.env, cwd=place.work)
    try:
        assert line(child.stdout)
        child.send_signal(signal.SIGINT)
        assert ended(child) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        os.close(leader), os.close(follower)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_kill_9_leaves_files_that_the_next_start_takes_over(place, transport):
    one = Kernel(place, "--transport", transport)
    one.kill()
    assert one.file.exists() and one.file.with_suffix(".pid").exists()
    two = Kernel(place, "--transport", transport)
    try:
        same = ("key", "shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
        assert [one.connection[name] for name in same] == [two.connection[name] for name in same]
        assert two.connection["pid"] == two.pid != one.pid
        assert two.wire().stdout("print(1)") == "1\n"
    finally:
        two.stop()


def test_clients_of_a_killed_kernel_come_back_to_the_next(place):
    one = Kernel(place, "--transport", "tcp")
    with one.wire() as wire:
        wire.stdout("x = 1")
        one.kill()
        two = Kernel(place, "--transport", "tcp")
        try:
            assert wire.ask("shell", "kernel_info_request").content["status"] == "ok"
        finally:
            two.stop()


def test_stale_and_hostile_pid_files(place):
    folder = place.home / "kernel"
    folder.mkdir(mode=0o700)
    for text in ("", "garbage\n", "1\n", f"{os.getpid()}\n", "999999999\n"):
        (folder / "llmspell-kernel.pid").write_text(text)
        one = Kernel(place)
        assert (folder / "llmspell-kernel.pid").read_text() == f"{one.pid}\n"
        one.stop()


def test_a_symbolic_link_is_no_pid_file(run, place):
    (place.home / "kernel").mkdir(mode=0o700)
    victim = place.write("victim", "precious")
    (place.home / "kernel" / "llmspell-kernel.pid").symlink_to(victim)
    assert run("kernel").code == 4 and victim.read_text() == "precious"


def test_home_open_to_others_is_closed(kernel, place):
    place.home.chmod(0o755)
    kernel()
    assert mode(place.home) == 0o700


def test_no_home(run, place):
    done = run("kernel", env={"LLMSPELL_HOME": "", "HOME": ""})
    assert done.code == 3 and "HOME" in done.err


def test_socket_paths_that_are_too_long_say_so(run, place):
    deep = place.root / ("d" * 100)
    deep.mkdir()
    done = run("kernel", env={"XDG_RUNTIME_DIR": str(deep)})
    assert done.code == 3 and "107 bytes" in done.err


def test_without_json_it_says_where_to_connect(start):
    child = start("kernel")
    lines = [line(child.stdout) for _ in range(3)]
    assert str(child.pid) in lines[0] and "ipc://" in lines[1] and "llmspell-kernel.json" in lines[2]
    child.terminate()
    assert ended(child) == 0


def test_nobody_has_to_read_what_it_says(start, run):
    child = start("kernel")
    assert line(child.stdout)
    child.stdout.close()
    child.stderr.close()
    assert run("tool", "-k", "llmspell-kernel", "list").code == 0
    child.terminate()
    assert ended(child) == 0


def test_a_private_kernel_ends_with_its_parent(start, place):
    folder = place.tmp / "private"
    folder.mkdir(mode=0o700)
    child = start("kernel", "--private", folder)
    ready = json.loads(line(child.stdout))
    assert mode(ready["connection_file"]) == 0o600 and ready["endpoint"].startswith("ipc://")
    child.stdin.close()
    assert ended(child) == 0 and not folder.exists() and not (place.home / "kernel").exists()


def test_doctor(run, kernel, place):
    done = run("kernel", "doctor")
    assert done.code == 0 and done.out and not done.err
    kernel()
    document = run("kernel", "doctor", "--json").json()
    assert all(check["status"] in ("ok", "warn") for check in document["checks"])
    place.config("[kernel]\ngrce = 1\n")
    done = run("kernel", "doctor")
    assert done.code == 1 and "grce" in done.out
    place.config("")


def test_doctor_sees_a_stale_file(run, place):
    one = Kernel(place)
    one.kill()
    done = run("kernel", "doctor")
    assert re.search("llmspell-kernel", done.out), done.out


def test_of_many_that_start_at_once_under_one_id_one_serves(start, run, place):
    children = [start("kernel", "--json") for _ in range(6)]
    lines = [line(child.stdout) for child in children]
    (winner,) = [child for child, text in zip(children, lines) if text]
    assert sorted(ended(child) for child in children if child is not winner) == [6] * 5
    assert run("tool", "-k", "llmspell-kernel", "list").code == 0
    assert (place.home / "kernel" / "llmspell-kernel.pid").read_text() == f"{winner.pid}\n"
    winner.terminate()
    assert ended(winner) == 0 and os.listdir(place.home / "kernel") == []


def test_many_kernels_start_at_once_on_free_ports(start):
    children = [start("kernel", "--json", "--id", f"k{n}", "--transport", "tcp") for n in range(8)]
    endpoints = {json.loads(line(child.stdout))["endpoint"] for child in children}
    assert len(endpoints) == 8
    for child in children:
        child.terminate()
    assert [ended(child) for child in children] == [0] * 8


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_more_clients_than_the_soft_limit_of_open_files(kernel, transport):
    import resource

    _, hard = soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    one = kernel("--transport", transport)
    resource.setrlimit(resource.RLIMIT_NOFILE, soft)
    wires = [one.wire() for _ in range(40)]
    for at, wire in enumerate(wires):
        assert wire.stdout(f"print({at})") == f"{at}\n"
    assert one.status()["clients"] == 40
