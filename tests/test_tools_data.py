"""Computing, data and document tools beside other programs: what they make we read, what we make they read."""
import base64
import io
import json
import shutil
import subprocess
import tarfile
import uuid
import zipfile

import pytest


@pytest.fixture
def call(run, place):
    """call("tool", name=value…): the result of a tool, working in `place.work`."""
    def call(tool, ok=True, **params):
        done = run("tool", "invoke", tool, "--params", json.dumps(params), "--json", cwd=place.work)
        if ok:
            assert done.code == 0, done
            return done.json()["result"]
        assert done.code != 0, done
        return done
    return call


def test_base64_and_uuid(call):
    data = bytes(range(256))
    assert call("base64_encoder", operation="encode", input=data.hex(), binary_input=True)["output"] == base64.b64encode(data).decode()
    assert call("uuid_generator", version="v5", name="x", namespace="dns")["uuid"] == str(uuid.uuid5(uuid.NAMESPACE_DNS, "x"))
    assert call("uuid_generator", version="v3", name="x", namespace="url")["uuid"] == str(uuid.uuid3(uuid.NAMESPACE_URL, "x"))
    assert uuid.UUID(call("uuid_generator", version="v1")["uuid"]).version == 1


@pytest.mark.skipif(not shutil.which("patch"), reason="needs patch(1)")
def test_patches_of_diff_and_for_patch(call, place):
    old, new = "".join(f"line {n}\n" for n in range(50)), "".join(f"line {n}{'!' if n in (3, 40) else ''}\n" for n in range(1, 51))
    place.write("old", old), place.write("new", new)
    theirs = subprocess.run(["diff", "-u", "old", "new"], cwd=place.work, capture_output=True, text=True).stdout
    assert call("text_diff_patch", operation="apply", input=old, patch=theirs)["result"] == new
    ours = call("text_diff_patch", operation="make", path="old", new_file="new")["patch"]
    subprocess.run(["patch", "-s", "old"], cwd=place.work, input=ours, text=True, check=True)
    assert (place.work / "old").read_text() == new


@pytest.mark.parametrize("program", [
    ".", ".a[1:]", "[.a[] | . * 2]", "keys", "to_entries | map(.key)", ".a | group_by(. % 2)", "[.[] | type]", "tojson", ".a | @csv", "[\"x\\ty\", 1, null] | @tsv, @csv",
    ".s | ascii_upcase, length", "[.a[] as $x | $x, ($x | -.)]", "reduce .a[] as $i (0; . + $i)", "limit(2; .a[])", ".o.x.y // \"none\"",
    "[splits(\"x\")?]", ".s | sub(\"l+\"; \"L\")", "[range(0; 10; 3)]", "[.a | .[] |= . + 1 | .[]]", "del(.a)", "[paths(type == \"number\")]",
    "any(.a[]; . > 2)", ".a | @json", "[.a | combinations? // 1]", "with_entries(.value |= tostring)", "now | type",
])
def test_jq(call, place, program):
    data = {"a": [1, 2, 3], "s": "hello", "o": {"x": {}}}
    theirs = subprocess.run(["jq", "-c", program], input=json.dumps(data), capture_output=True, text=True)
    if theirs.returncode:
        return call("json_processor", ok=False, query=program, input=data)
    place.write("in.json", json.dumps(data))
    wanted = [json.loads(line) for line in theirs.stdout.splitlines()]
    assert call("json_processor", query=program, path="in.json")["results"] == wanted


def test_archives_of_other_programs(call, place):
    place.write("in/a.txt", "one"), place.write("in/sub/b.txt", "two\n" * 1000)
    shutil.make_archive(place.work / "z", "zip", place.work, "in")
    for flag, name in [("-cf", "t.tar"), ("-czf", "t.tgz"), ("--zstd -cf", "t.tar.zst")]:
        done = subprocess.run(["tar", *flag.split(), name, "in"], cwd=place.work, capture_output=True)
        if done.returncode == 0:
            assert call("archive_handler", operation="extract", path=name, target_path="out-" + name)["file_count"] == 2
            assert (place.work / ("out-" + name) / "in/sub/b.txt").read_text() == "two\n" * 1000
    assert call("archive_handler", operation="extract", path="z.zip", target_path="out")["file_count"] == 2
    call("archive_handler", operation="create", path="o.zip", input=["in"])
    with zipfile.ZipFile(place.work / "o.zip") as archive:
        assert archive.testzip() is None and archive.read("in/a.txt") == b"one"
    call("archive_handler", operation="create", path="o.tar.gz", input=["in"])
    with tarfile.open(place.work / "o.tar.gz") as archive:
        assert archive.extractfile("in/sub/b.txt").read() == b"two\n" * 1000


def test_hostile_archives(call, place):
    with zipfile.ZipFile(place.work / "evil.zip", "w") as archive:
        archive.writestr("../evil", "x")
    assert call("archive_handler", ok=False, operation="extract", path="evil.zip", target_path="out").code == 4
    with tarfile.open(place.work / "evil.tar", "w") as archive:
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, str(place.tmp)
        archive.addfile(link)
        entry = tarfile.TarInfo("l/evil")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    call("archive_handler", operation="extract", path="evil.tar", target_path="out")
    assert not (place.tmp / "evil").exists() and not (place.work / "evil").exists()
    with zipfile.ZipFile(place.work / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    done = call("archive_handler", ok=False, operation="extract", path="bomb.zip", target_path="out", max_total_size=1_000_000)
    assert done.code == 1 and not (place.work / "out/zeros").exists()


def test_workbooks_of_openpyxl(call, place):
    openpyxl = pytest.importorskip("openpyxl")
    import datetime
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Data"
    for row in (["name", "when", "n"], ["Ann", datetime.date(2024, 3, 4), 1.5], ["Bob", datetime.datetime(2024, 3, 4, 15, 30), 7]):
        sheet.append(row)
    book.create_sheet("Far")["XFD1048576"] = 1
    book["Far"]["A1"] = 1
    book.save(place.work / "a.xlsx")
    rows = call("excel_processor", path="a.xlsx", sheet="Data")["rows"]
    assert rows == [{"name": "Ann", "when": "2024-03-04", "n": 1.5}, {"name": "Bob", "when": "2024-03-04T15:30:00", "n": 7}]
    assert call("excel_processor", ok=False, path="a.xlsx", sheet="Far").code == 1
    call("excel_processor", operation="write", target_path="b.xlsx", rows=[{"a": 1, "b": "x"}])
    assert [[cell.value for cell in row] for row in openpyxl.load_workbook(place.work / "b.xlsx").active] == [["a", "b"], [1, "x"]]


def test_parquet_of_pyarrow(call, place):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet
    table = arrow.table({"id": [1, 2, None], "s": ["a", None, "c"], "f": [1.5, 2.5, 3.5], "b": [True, False, None]})
    for compression in ("snappy", "zstd", "gzip", "none"):
        parquet.write_table(table, place.work / "a.parquet", compression=compression)
        columns = call("csv_analyzer", path="a.parquet")["columns"]
        assert [(c["name"], c["data_type"], c["null_count"]) for c in columns] == [
            ("id", "integer", 1), ("s", "string", 1), ("f", "float", 0), ("b", "boolean", 1)], compression
    call("csv_analyzer", operation="convert", path="a.parquet", output_file="b.parquet")
    assert parquet.read_table(place.work / "b.parquet").to_pydict() == table.to_pydict()
    place.write("cut.parquet", "PAR1" + "x" * 100)
    assert call("csv_analyzer", ok=False, path="cut.parquet").code == 1


def test_pdf_of_reportlab_and_for_pypdf(call, place):
    reportlab = pytest.importorskip("reportlab.pdfgen.canvas")
    pypdf = pytest.importorskip("pypdf")
    canvas = reportlab.Canvas(str(place.work / "a.pdf"))
    canvas.setTitle("Größe"), canvas.setAuthor("Ann")
    for page in ("First page", "Second page"):
        canvas.drawString(100, 700, page)
        canvas.showPage()
    canvas.save()
    assert call("pdf_processor", operation="extract_pages", path="a.pdf")["pages"][1]["text"] == "Second page"
    facts = call("pdf_processor", operation="extract_metadata", path="a.pdf")
    assert (facts["title"], facts["author"], facts["page_count"]) == ("Größe", "Ann", 2)
    writer = pypdf.PdfWriter(place.work / "a.pdf")
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(place.work / "locked.pdf")
    for password in ({}, {"password": "wrong"}):
        done = call("pdf_processor", ok=False, path="locked.pdf", **password)
        assert done.code == 1 and "encrypted" in done.err
    assert "First page" in call("pdf_processor", path="locked.pdf", password="secret")["text"]
    call("pdf_processor", operation="generate", content="# Title\n\nSome *text*.", target_path="b.pdf", title="T")
    made = pypdf.PdfReader(place.work / "b.pdf")
    assert made.metadata.title == "T" and "Some text." in made.pages[0].extract_text().replace("\n", " ")
