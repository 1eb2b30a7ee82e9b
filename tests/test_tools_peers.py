"""Tools with the programs of others on the other side: databases, mail, web servers, media. Each server starts once."""
import base64
import contextlib
import email
import email.policy
import gzip
import http.server
import json
import ssl
import subprocess
import threading
import xml.sax.saxutils

import peers
import pytest
from conftest import WAIT
from PIL import Image


def caller(wire, name):
    """call(…): the result of the tool, which must do; refused(…): class and text of its error."""

    def call(timeout=WAIT, **params):
        reply = wire.tool("invoke", name=name, params=params, timeout=timeout)
        assert reply["status"] == "ok", reply
        return reply["result"]

    def refused(**params):
        reply = wire.tool("invoke", name=name, params=params, timeout=WAIT)
        assert reply["status"] == "error", reply
        assert "geheim" not in json.dumps(reply), reply
        return reply["class"], reply["evalue"]

    return call, refused


def databases(call, refused, database, mark, text):
    """What holds for every server; `mark(n)` is its nth placeholder, `text` its type for text."""
    one, two = mark(1), mark(2)
    make = f"CREATE TABLE t (id INTEGER PRIMARY KEY, name {text} NOT NULL, amount NUMERIC(10,2), day DATE, at TIMESTAMP, data JSON)"
    insert = f"INSERT INTO t (id, name, amount, day, at, data) VALUES ({', '.join(mark(n) for n in range(1, 7))})"
    # MySQL ends a transaction at such statements, so it stands alone.
    call(operation="execute", database=database, query=make)
    rows = [[1, "it's; DROP TABLE t", "12.50", "2024-02-29", "2024-01-15 10:30:00", {"a": [1, None]}], [2, "ä€😀", -1, None, None, None]]
    done = call(operation="transaction", database=database, statements=[{"query": insert, "params": row} for row in rows])
    assert done["rows_affected"] == 2
    got = call(operation="query", database=database, query=f"SELECT * FROM t WHERE id >= {one} ORDER BY id", params=[1])
    first, second = got["results"]
    assert first == {"id": 1, "name": "it's; DROP TABLE t", "amount": "12.50", "day": "2024-02-29", "at": "2024-01-15T10:30:00",
                     "data": {"a": [1, None]}}
    assert (second["name"], second["amount"], second["day"]) == ("ä€😀", "-1.00", None)
    # All or nothing.
    twice = [{"query": f"UPDATE t SET name = {one}", "params": ["x"]}, {"query": insert, "params": rows[0]}]
    kind, words = refused(operation="transaction", database=database, statements=twice)
    assert kind == "tool", words
    got = call(operation="query", database=database, query=f"SELECT count(*) AS n FROM t WHERE name = {one}", params=["x"])
    assert got["results"] == [{"n": 0}]
    # Reading changes nothing.
    for query in ("DELETE FROM t", "UPDATE t SET name = 'x'", "DROP TABLE t", "CREATE TABLE u (id INTEGER)"):
        assert refused(operation="query", database=database, query=query)[0] == "tool"
    assert call(operation="query", database=database, query="DELETE FROM t WHERE id = 2", query_type="DELETE")["rows_affected"] == 1
    columns = {column["name"]: column for column in call(operation="schema", database=database, table="t")["tables"][0]["columns"]}
    assert list(columns) == ["id", "name", "amount", "day", "at", "data"]
    assert columns["id"]["primary_key"] is True and columns["name"]["nullable"] is False and columns["day"]["nullable"] is True
    # Wrong ones.
    assert refused(operation="query", database=database, query="SELEC 1")[0] == "tool"
    assert refused(operation="query", database=database, query=f"SELECT {one}")[0] == "usage"
    assert refused(operation="query", database=database, query="SELECT 1; SELECT 2")[0] == "tool"
    kind, words = refused(operation="query", database=database.replace("geheim", "geheimer"), query="SELECT 1")
    assert kind in ("tool", "remote"), words


SERIES = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n"


def streams(call, refused, database, folder):
    got = call(operation="query", database=database, query=SERIES.format(900), max_rows=10)
    assert (got["row_count"], got["truncated"]) == (10, True)
    got = call(operation="query", database=database, query=SERIES.format(900), output_file="rows.jsonl")
    lines = (folder / "rows.jsonl").read_text().splitlines()
    assert (got["row_count"], got["results"], json.loads(lines[-1])) == (900, [], {"i": 900}) and len(lines) == 900


def test_postgresql(kernel, place):
    with peers.postgres(place.root) as port:
        url = f"postgres://ada:geheim@127.0.0.1:{port}/postgres"
        place.env["PG_SECRET"] = "geheim"
        named = url.replace("geheim", "$PG_SECRET")
        place.config(f'tools.database = {{ allow_write = true, connections = {{ main = "{named}" }} }}')
        wire = kernel(f"--allow-net=127.0.0.1:{port}").wire()
        call, refused = caller(wire, "database-connector")
        databases(call, refused, url, lambda n: f"${n}", "TEXT")
        streams(call, refused, "main", place.work)
        got = call(operation="query", database="main", query="""SELECT 9007199254740993::int8 AS big, 1.5::float4 AS f, true AS b,
            ARRAY[1, NULL, 3] AS list, '\\x00ff'::bytea AS raw, '192.0.2.1'::inet AS ip, 'a1b2c3d4-0000-4000-8000-000000000000'::uuid AS id,
            'NaN'::numeric AS nan, '1999-12-31 23:59:59.5+00'::timestamptz AS at, $1::int[] AS given""", params=[[1, 2]])["results"][0]
        assert got == {"big": 9007199254740993, "f": 1.5, "b": True, "list": [1, None, 3], "raw": {"base64": "AP8="}, "ip": "192.0.2.1",
                       "id": "a1b2c3d4-0000-4000-8000-000000000000", "nan": "NaN", "at": "1999-12-31T23:59:59.5Z", "given": [1, 2]}
        assert refused(operation="query", database="main", query="SELECT pg_sleep(60)", timeout_seconds=0.3)[0] == "timeout"
        busy = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        for _ in range(100):
            if call(operation="query", database="main", query=busy)["results"] == [{"n": 0}]:
                break
        else:
            pytest.fail("the server still works on what nobody waits for")
        kind, words = refused(operation="query", database=url + "?sslmode=require", query="SELECT 1")
        assert kind == "remote", words
    # Without leave.
    place.config("")
    call, refused = caller(kernel(f"--allow-net=127.0.0.1:{port}", "--id=other").wire(), "database_connector")
    assert refused(operation="execute", database=url, query="DROP TABLE t")[0] == "denied"
    assert refused(operation="query", database=url, query="SELECT 1")[0] == "remote"


def test_mariadb(kernel, place):
    with peers.mariadb(place.root) as port:
        url = f"mysql://ada:geheim@127.0.0.1:{port}/d"
        place.config("tools.database.allow_write = true")
        wire = kernel(f"--allow-net=127.0.0.1:{port}").wire()
        call, refused = caller(wire, "database_connector")

        def lenient(**params):
            got = call(**params)
            for row in got.get("results", []):
                # Its JSON is a text with a check.
                if isinstance(row.get("data"), str):
                    row["data"] = json.loads(row["data"])
            return got

        databases(lenient, refused, url, lambda n: "?", "VARCHAR(100)")
        streams(call, refused, url, place.work)
        assert refused(operation="query", database=url, query="SELECT SLEEP(60)", timeout_seconds=0.3)[0] == "timeout"
        assert refused(operation="query", database=url, query="SELECT 1 INTO OUTFILE '/tmp/x'")[0] == "denied"


def test_smtp(kernel, place):
    from aiosmtpd import controller, smtp

    key, cert, ca = peers.certificate(place.root / "tls")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    got, logins = [], []

    class Handler:
        async def handle_RCPT(self, server, session, envelope, address, options):
            if address.startswith("nobody"):
                return "550 no such user"
            envelope.rcpt_tos.append(address)
            return "250 fine"

        async def handle_DATA(self, server, session, envelope):
            got.append((session.ssl is not None, envelope.mail_from, envelope.rcpt_tos, envelope.content))
            return "250 taken as 42"

    def login(server, session, envelope, mechanism, data):
        logins.append((data.login, data.password))
        return smtp.AuthResult(success=data.password == b"geheim", handled=False)

    server = controller.Controller(Handler(), hostname="127.0.0.1", port=peers.free_port(), tls_context=context, require_starttls=True,
                                   authenticator=login, auth_required=True)
    server.start()
    try:
        place.env["EMAIL_SMTP_PASSWORD"] = "geheim"
        settings = f'smtp_host = "localhost"\nsmtp_port = {server.port}\nsmtp_username = "ada"\nfrom_address = "Ada <ada@example.com>"\n'
        place.config(f'[tools]\nca_file = "{ca}"\n[tools.email]\n{settings}')
        place.write("a.bin", bytes(range(256)))
        call, refused = caller(kernel("--allow-net=localhost").wire(), "email-sender")
        done = call(to="bob@example.com", cc=["carol@example.com"], bcc="dora@example.com", subject="Grüße", body=".\nfirst dot",
                    attachments=[{"path": "a.bin"}])
        assert (done["status"], done["provider"], done["recipients"]) == ("sent", "smtp", 3) and "taken as 42" in done["response"]
        secure, sender, recipients, content = got[0]
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert secure and sender == "ada@example.com" and logins == [(b"ada", b"geheim")]
        assert set(recipients) == {"bob@example.com", "carol@example.com", "dora@example.com"}
        assert message["Subject"] == "Grüße" and b"dora" not in content
        assert message.get_body().get_content().splitlines() == [".", "first dot"]
        assert next(message.iter_attachments()).get_content() == bytes(range(256))
        assert refused(to="nobody@example.com", subject="s", body="b")[0] == "tool"
        # An authority nobody knows, a wrong password, no leave.
        place.config(f"[tools.email]\n{settings}")
        other = kernel("--allow-net=localhost", "--id=other").wire()
        assert caller(other, "email_sender")[1](to="bob@example.com", subject="s", body="b")[0] == "remote"
        place.env["EMAIL_SMTP_PASSWORD"] = "falsch"
        place.config(f'[tools]\nca_file = "{ca}"\n[tools.email]\n{settings}')
        third = kernel("--allow-net=localhost", "--id=third").wire()
        assert caller(third, "email_sender")[1](to="bob@example.com", subject="s", body="b")[0] == "tool"
        assert caller(kernel("--id=fourth").wire(), "email_sender")[1](to="bob@example.com", subject="s", body="b")[0] == "denied"
        assert len(got) == 1
    finally:
        server.stop()


@contextlib.contextmanager
def service(answers):
    """An HTTP service that answers POSTs and GETs from `answers` (path: body or status) and keeps what it was sent."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.path, dict(self.headers), body))
            answer = answers.get(self.path.split("?")[0], 404)
            status, body = (answer, b'{"message": "no: geheim"}') if isinstance(answer, int) else (200, json.dumps(answer).encode())
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Message-Id", "id-1")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = handle_any

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", seen
    finally:
        httpd.shutdown()
        httpd.server_close()


def test_services_with_keys(kernel, place):
    web = {"web": {"results": [{"title": "t", "url": "https://e.org/", "description": "s"}]}}
    answers = {"/v3/mail/send": {}, "/v2/email/outbound-emails": {"MessageId": "m"}, "/brave": web, "/google": 403}
    with service(answers) as (url, seen):
        names = ("SENDGRID_API_KEY", "AWS_SECRET_ACCESS_KEY", "BRAVE_API_KEY", "GOOGLE_SEARCH_API_KEY")
        place.env.update({name: "geheim" for name in names}, AWS_ACCESS_KEY_ID="AKID", AWS_REGION="eu-west-1")
        place.config(f"""
            [tools.email.endpoints]
            ses = "{url}"
            sendgrid = "{url}"
            [tools.web_search]
            google_engine_id = "e"
            [tools.web_search.endpoints]
            brave = "{url}/brave"
            google = "{url}/google"
        """)
        wire = kernel("--allow-net=127.0.0.1").wire()
        call, _ = caller(wire, "email_sender")
        mail = {"from": "a@example.com", "to": "b@example.com", "bcc": "c@example.com", "subject": "s", "body": "b"}
        assert call(provider="sendgrid", **mail)["message_id"] == "id-1"
        path, headers, body = seen.pop()
        sent = json.loads(body)
        assert (path, headers["authorization"]) == ("/v3/mail/send", "Bearer geheim")
        assert sent["personalizations"] == [{"to": [{"email": "b@example.com"}], "bcc": [{"email": "c@example.com"}]}]
        assert call(provider="ses", **mail)["message_id"] == "m"
        path, headers, body = seen.pop()
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/") and "/eu-west-1/ses/aws4_request" in headers["authorization"]
        assert b"Subject: s" in base64.b64decode(json.loads(body)["Content"]["Raw"]["Data"])
        call, refused = caller(wire, "web_search")
        got = call(query="x")
        assert got["provider"] == "brave" and got["results"][0]["url"] == "https://e.org/"
        assert seen.pop()[1]["x-subscription-token"] == "geheim"
        kind, words = refused(query="x", provider="google")
        assert kind == "remote" and "403" in words
        configured = {name for name, row in call(operation="providers")["providers"].items() if row["configured"]}
        assert configured == {"brave", "google", "duckduckgo"}


def test_web(kernel, place):
    www = place.root / "www"
    www.mkdir()
    key, cert, ca = peers.certificate(place.root / "tls")
    locations = """
        location /away { return 302 http://127.0.0.2:1/; }
        location /moved { return 301 /page.html; }
        location /loop { return 302 /loop; }
        location /teapot { return 418; }
    """
    with peers.nginx(place.root, locations, (key, cert)) as (port, secure):
        at = f"http://127.0.0.1:{port}"
        pages = {f"{at}/p{n}.html?a=1&b={n}" for n in range(50)}
        row = "".join(f"<url><loc>{xml.sax.saxutils.escape(page)}</loc><lastmod>2024-01-15</lastmod></url>" for page in sorted(pages))
        (www / "deep.xml.gz").write_bytes(gzip.compress(f"<urlset>{row}</urlset>".encode()))
        (www / "bomb.xml.gz").write_bytes(gzip.compress(b"<urlset>" + b" " * (60 << 20)))
        children = "".join(f"<sitemap><loc>{at}/{name}</loc></sitemap>" for name in ("deep.xml.gz", "bomb.xml.gz", "gone.xml", "index.xml"))
        (www / "index.xml").write_text(f'<?xml version="1.0"?><sitemapindex xmlns="x">{children}</sitemapindex>')
        (www / "robots.txt").write_text(f"User-agent: *\nDisallow: /p1\nSitemap: {at}/index.xml\n")
        (www / "page.html").write_bytes("<meta charset=iso-8859-1><title>Größe</title><p id=x>eins<p>zwei <a href='p1.html'>mehr</a>".encode("latin1"))
        (www / "feed.rss").write_text("<rss version='2.0'><channel><title>T</title><item><title>one</title><guid>1</guid></item></channel></rss>")
        place.config(f'[tools]\nca_file = "{ca}"\n')
        wire = kernel("--allow-net=127.0.0.1").wire()

        call, refused = caller(wire, "sitemap-crawler")
        got = call(url=at + "/", check_robots=True)
        assert {row["url"] for row in got["urls"]} == pages and got["stats"]["sitemaps_processed"] == 2
        assert {row["url"] for row in got["urls"] if not row["allowed"]} == {page for page in pages if page.startswith(f"{at}/p1")}
        assert [row["url"].rsplit("/")[-1] for row in got["errors"]] == ["bomb.xml.gz", "gone.xml"]
        assert call(url=at + "/deep.xml.gz", max_urls=7)["urls_found"] == 7

        call, refused = caller(wire, "web-scraper")
        got = call(url=at + "/moved", extract_links=True)
        assert got["content"]["title"] == "Größe" and got["content"]["text"] == "eins\nzwei mehr" and got["redirects"] == 1
        assert got["content"]["links"] == [{"url": at + "/p1.html", "text": "mehr", "rel": None}]
        assert call(url=f"https://127.0.0.1:{secure}/page.html", selector="#x")["content"]["selected_content"] == ["eins"]
        assert refused(url=at + "/away")[0] == "denied"
        assert refused(url=at + "/loop")[0] == "tool"
        assert refused(url=f"https://127.0.0.1:{port}/")[0] == "remote"

        call, refused = caller(wire, "feed_reader")
        got = call(url=at + "/feed.rss")
        assert got["items"][0]["title"] == "one" and got["etag"]
        assert call(url=at + "/feed.rss", etag=got["etag"])["not_modified"] is True
        assert refused(url=at + "/page.html")[0] == "tool"

        call, refused = caller(wire, "webpage-monitor")
        assert call(url=at + "/page.html", state_file="state.json")["has_changes"] is False
        (www / "page.html").write_text("<p id=x>eins<p>drei")
        got = call(url=at + "/page.html", state_file="state.json")
        assert [change["type"] for change in got["changes"]] == ["modification"] and got["changes"][0]["new_content"] == "drei"
        assert refused(url=at + "/teapot")[0] == "remote"
        assert refused(url=at + "/p1.html", state_file="state.json")[0] == "tool", "of another page"
        assert call(url=at + "/page.html", state_file="state.json")["has_changes"] is False

        call, _ = caller(wire, "service-checker")
        got = call(target=f"127.0.0.1:{secure}", check_type="tls")
        assert got["available"] and got["metadata"]["protocol"] in ("TLSv1_2", "TLSv1_3")
        assert call(target=at + "/teapot", check_type="http")["available"] is False
        call, _ = caller(wire, "url-analyzer")
        got = call(url=at + "/moved", fetch_metadata=True)["metadata"]
        assert got["redirect_location"] == "/page.html" and got["server"].startswith("nginx")
        call, _ = caller(wire, "api-tester")
        got = call(url=at + "/feed.rss", expect={"status": "2xx", "headers": {"content-type": "rss"}, "body_matches": "<title>\\w</title>"})
        assert got["passed"] and got["passed_count"] == 3


def test_media(kernel, place):
    ffmpeg = peers.find("ffmpeg")

    def make(name, *args):
        subprocess.run([ffmpeg, "-v", "error", "-y", *args, place.work / name], check=True)

    video = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=2", "-f", "lavfi", "-i", "sine=r=44100:d=2"]
    wire = kernel("--allow-run=ffmpeg").wire()
    call, refused = caller(wire, "video-processor")
    cases = {"a.mp4": ("h264", "aac"), "a.mov": ("h264", "aac"), "a.mkv": ("h264", "vorbis"), "a.webm": ("vp9", "opus"),
             "a.avi": ("mpeg4", "mp3"), "a.flv": ("flv1", "mp3")}
    extra = {"a.webm": ["-c:v", "libvpx-vp9"], "a.mkv": ["-c:a", "libvorbis"]}
    for name, (picture, sound) in cases.items():
        make(name, *video, *extra.get(name, []))
        got = call(file_path=name)["metadata"]
        seen = (got["format"], got["resolution"], got["video_codec"], got["audio_codec"])
        assert seen == (name[2:], {"width": 64, "height": 48}, picture, sound), (name, got)
        assert abs(got["duration_seconds"] - 2) < 0.15 and (got["fps"] is None or abs(got["fps"] - 10) < 0.2), (name, got)
        assert got["audio_sample_rate"] in (44100, 48000) and got["audio_channels"] in (1, 2), (name, got)
        whole = (place.work / name).read_bytes()
        # Cut anywhere it is an answer or a refusal, never a fall.
        for part in (3, 7, 40):
            place.write("cut", whole[:len(whole) // part])
            reply = wire.tool("invoke", name="video_processor", params={"file_path": "cut"})
            assert reply["status"] == "ok" or reply["class"] == "tool", (name, part, reply)
    call(operation="thumbnail", file_path="a.mp4", target_path="t.png", timestamp_seconds=1, max_width=32)
    assert Image.open(place.work / "t.png").size == (32, 24)
    assert call(operation="extract_frames", file_path="a.mp4", target_path="f/{}.jpg", count=5, interval_seconds=0.5)["count"] in (4, 5)
    assert call(operation="convert", file_path="a.mp4", target_path="b.webm", duration_seconds=0.5)["format"] == "webm"
    assert call(file_path="b.webm")["metadata"]["duration_seconds"] < 1
    place.write("list.mp4", f"ffconcat version 1.0\nfile '{place.work}/a.mp4'\n")
    assert refused(operation="thumbnail", file_path="list.mp4", target_path="x.png")[0] == "tool", "a playlist is no film"
    assert refused(operation="thumbnail", file_path="a.mp4", target_path="/etc/x.png")[0] == "denied"

    call, refused = caller(wire, "audio-processor")
    tone = ["-f", "lavfi", "-i", "sine=r=44100:d=2", "-metadata", "title=Ton", "-metadata", "artist=Ada"]
    for name in ("a.wav", "a.mp3", "a.flac", "a.ogg", "a.opus", "a.m4a", "a.aiff"):
        make(name, *tone)
        got = call(file_path=name)["metadata"]
        assert got["format"] == name[2:] and abs(got["duration_seconds"] - 2) < 0.1 and got["channels"] == 1, (name, got)
        if name not in ("a.aiff",):
            assert (got["title"], got["artist"]) == ("Ton", "Ada"), (name, got)
    assert call(operation="convert", source_path="a.wav", target_path="b.mp3", bit_rate=64000, start_seconds=0.5)["format"] == "mp3"
    got = call(file_path="b.mp3")["metadata"]
    assert 60_000 < got["bit_rate"] < 70_000 and 1.4 < got["duration_seconds"] < 1.7

    call, refused = caller(wire, "image-processor")
    picture = Image.new("RGB", (60, 40), "red")
    picture.paste("blue", (0, 0, 30, 40))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    picture.save(place.work / "p.jpg", exif=exif, dpi=(300, 300), quality=95)
    got = call(file_path="p.jpg")["metadata"]
    assert got["dimensions"] == {"width": 60, "height": 40} and got["orientation"] == 6 and "Maker" in got["exif"]["Make"]
    done = call(operation="resize", source_path="p.jpg", target_path="q.png", width=20)
    # Upright: 40 wide and 60 high, blue above.
    new = Image.open(place.work / "q.png").convert("RGB")
    assert (done["width"], done["height"], new.size) == (20, 30, (20, 30))
    assert new.getpixel((10, 3))[2] > 200 and new.getpixel((10, 27))[0] > 200
    for mode, name in (("L", "l.png"), ("RGBA", "a.png"), ("P", "p.gif"), ("1", "b.png"), ("I;16", "i.png"), ("CMYK", "c.jpg"), ("LA", "la.png")):
        Image.new(mode, (8, 6)).save(place.work / name)
        for target in ("o.jpg", "o.png", "o.gif", "o.webp", "o.bmp", "o.tiff"):
            call(operation="convert", source_path=name, target_path=target)
            assert Image.open(place.work / target).size == (8, 6), (name, target)
