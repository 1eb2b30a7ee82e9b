"""Servers that other people wrote, each in a folder of its own on a free port, for tests of tools that talk to them."""
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time

from conftest import WAIT


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find(name, *more):
    path = ":".join([os.environ["PATH"], "/usr/sbin", "/sbin", *more])
    found = shutil.which(name, path=path)
    assert found, f"{name}: not installed; tests/run packages installs it"
    return found


@contextlib.contextmanager
def serving(command, port, log, **options):
    """Runs `command` until its port answers, and ends it afterwards."""
    with open(log, "wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)
    try:
        limit = time.monotonic() + WAIT
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert child.poll() is None and time.monotonic() < limit, pathlib.Path(log).read_text(errors="replace")
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        try:
            child.wait(WAIT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def unprivileged(folder, user):
    """What goes before a command that refuses to run as root; `folder` becomes its own."""
    if os.getuid() != 0:
        return []
    for parent in [folder, *folder.parents][:2]:
        parent.chmod(0o755)
    shutil.chown(folder, user)
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def certificate(folder):
    """The key and certificate of localhost and 127.0.0.1, and the authority that signed it."""
    folder.mkdir(exist_ok=True)
    key, cert, ca_key, ca = (folder / name for name in ("key.pem", "cert.pem", "ca-key.pem", "ca.pem"))

    def make(*args):
        subprocess.run([find("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", *args], check=True, capture_output=True)

    make("-subj", "/CN=test", "-keyout", ca_key, "-out", ca)
    make("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
         "-CA", ca, "-CAkey", ca_key, "-keyout", key, "-out", cert)
    return key, cert, ca


@contextlib.contextmanager
def postgres(root):
    folder, port = root / "pg", free_port()
    folder.mkdir()
    secret = folder / "secret"
    secret.write_text("geheim\n")
    before = unprivileged(folder, "postgres")
    binaries = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    bin_ = str(binaries[-1]) if binaries else ""
    subprocess.run([*before, find("initdb", bin_), "-D", folder / "data", "-U", "ada", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8",
                    f"--pwfile={secret}", "--locale=C"], check=True, capture_output=True, cwd="/")
    command = [*before, find("postgres", bin_), "-D", folder / "data", "-p", str(port), "-c", "listen_addresses=127.0.0.1",
               "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    with serving(command, port, root / "pg.log", cwd="/"):
        yield port


@contextlib.contextmanager
def mariadb(root):
    folder, port = root / "my", free_port()
    folder.mkdir()
    user = "root" if os.getuid() == 0 else os.environ.get("USER", "nobody")
    common = ["--no-defaults", f"--datadir={folder / 'data'}", f"--user={user}"]
    subprocess.run([find("mariadb-install-db"), *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
                   check=True, capture_output=True, cwd="/")
    start = root / "start.sql"
    start.write_text("CREATE DATABASE d CHARACTER SET utf8mb4;\nCREATE USER ada@'%' IDENTIFIED BY 'geheim';\nGRANT ALL ON d.* TO ada@'%';\n")
    command = [find("mariadbd"), *common, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 's'}",
               f"--pid-file={folder / 'pid'}", f"--init-file={start}", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"]
    with serving(command, port, root / "my.log", cwd="/"):
        yield port


@contextlib.contextmanager
def nginx(root, locations, tls=None):
    """`locations` are blocks of its configuration; `root / "www"` is served. Plain and TLS port."""
    folder, plain, secure = root / "nginx", free_port(), free_port()
    (folder / "logs").mkdir(parents=True)
    (root / "www").mkdir(exist_ok=True)
    if os.getuid() == 0:
        for part in (root, folder, root / "www"):
            part.chmod(0o755)
    listen = f"listen 127.0.0.1:{plain};"
    if tls:
        listen += f" listen 127.0.0.1:{secure} ssl; ssl_certificate {tls[1]}; ssl_certificate_key {tls[0]};"
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/logs/error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off; {temporary}
            types {{ text/html html; text/xml xml; text/plain txt; application/json json; application/rss+xml rss; }}
            server {{ {listen} root {root}/www; absolute_redirect off; gzip on; gzip_min_length 1; gzip_types *; {locations} }}
        }}""")
    command = [find("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "logs/start.log")]
    with serving(command, plain, root / "nginx.log"):
        yield plain, secure
