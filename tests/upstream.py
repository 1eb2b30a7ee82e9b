"""A model service of the tests' own: answers each request with what a test gave it, in any pieces, cut or stalled anywhere."""
import json
import pathlib
import socket
import ssl
import threading
import types

RECORDINGS = pathlib.Path(__file__).resolve().parent / "recordings"
KINDS = {".sse": "text/event-stream", ".json": "application/json", ".ndjson": "application/x-ndjson"}


def recording(name, **how):
    """The answer that is in a file of `recordings`."""
    path = RECORDINGS / name
    return answer(path.read_bytes(), kind=KINDS[path.suffix], **how)


def answer(body=b"", status=200, kind="application/json", headers=(), pieces=None, cut=None, stall=False, length=False):
    """`pieces`: where the body is split; `cut`: after how many bytes of it the connection breaks; `stall`: it says no more."""
    body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body.encode() if isinstance(body, str) else body
    return types.SimpleNamespace(body=body, status=status, kind=kind, headers=list(headers), pieces=pieces or (), cut=cut,
                                 stall=stall, length=length)


class Upstream:
    """with Upstream(*answers) as up: … up.url, up.asked (path, headers, body of each request). The last answer stays."""

    def __init__(self, *answers, tls=None, choose=None):
        self.answers, self.choose, self.asked, self.open = list(answers), choose, [], []
        self.lock, self.free = threading.Lock(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.tls = None
        if tls:
            self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.tls.load_cert_chain(tls[1], tls[0])
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.free.set()
        # Closing alone does not wake who waits in accept.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as lines:
                while self.exchange(connection, lines):
                    pass
        except (OSError, ValueError):
            pass

    def exchange(self, connection, lines):
        first = lines.readline()
        if not first:
            return False
        headers = {}
        while (line := lines.readline().strip()):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        text = lines.read(int(headers.get("content-length", 0)))
        asked = types.SimpleNamespace(path=first.split()[1].decode(), headers=headers, body=json.loads(text or b"null"))
        with self.lock:
            number = len(self.asked)
            self.asked.append(asked)
            how = self.choose(asked, number) if self.choose else self.answers[min(number, len(self.answers) - 1)]
        head = [f"HTTP/1.1 {how.status} X", f"content-type: {how.kind}", *[f"{name}: {value}" for name, value in how.headers]]
        head += [f"content-length: {len(how.body)}"] if how.length else ["transfer-encoding: chunked"]
        body = how.body if how.cut is None else how.body[:how.cut]
        ends = sorted({*(at for at in how.pieces if 0 < at < len(body)), len(body)})
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        start = 0
        for end in ends:
            piece = body[start:end]
            if piece:
                connection.sendall(piece if how.length else b"%x\r\n%s\r\n" % (len(piece), piece))
            start = end
        if how.stall:
            self.free.wait(60)
            return False
        if how.cut is not None:
            return False
        if not how.length:
            connection.sendall(b"0\r\n\r\n")
        return headers.get("connection") != "close"
