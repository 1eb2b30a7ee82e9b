"""The scripts in examples/: each does what its first comment says."""
import json
import re

import pytest
from conftest import ROOT

EXAMPLES = ROOT / "examples"


def said(name):
    """What the comment at the top shows: the words behind `llmspell-run` and the output, for each command line."""
    comment = re.match(r"(--.*\n)+", (EXAMPLES / name).read_text())[0]
    lines = [line[2:].removeprefix("   ") for line in comment.splitlines()]
    shown = []
    for line, raw in zip(lines, comment.splitlines()):
        if line.startswith("$ llmspell-run "):
            shown.append((line.split()[2:], []))
        elif shown and raw.startswith("--   "):
            shown[-1][1].append(line + "\n")
        elif shown and raw == "--" and shown[-1][1]:
            break
    return [(words, "".join(output)) for words, output in shown]


@pytest.mark.parametrize("name", [
    "hello.lua", "errors.lua", "workflow.lua", "workflow_parallel.lua", "workflow_conditional.lua", "workflow_loop.lua",
    "workflow_graph.lua", "workflow_errors.lua", "workflow_resume.lua", "workflow_agents.lua",
])
def test_it_prints_what_it_says(run, name):
    (words, output), = said(name)
    done = run("run", *words, cwd=ROOT)
    output = output.replace("/home/you/llmspell", str(ROOT))
    assert (done.out, done.err, done.code) == (output, "", 0)


def test_hello_greets_the_world(run):
    assert run("run", EXAMPLES / "hello.lua").out == "Hello, world!\nhello.lua was given 0 names\n"


def test_hello_as_v0_10_was_called(run):
    assert run("run", EXAMPLES / "hello.lua", "--", "--greeting", "Ave", "A").out == "Ave, A!\nhello.lua was given 1 names\n"


def test_progress(run, place):
    done = run("run", EXAMPLES / "progress.lua")
    lines = done.out.splitlines()
    assert [line.split(": ")[1] for line in lines[:3]] == ["64 of 200 MiB", "128 of 200 MiB", "192 of 200 MiB"]
    assert lines[3].split() == ["Calculated", "SHA-256", "hash", "72abf2ca8f36943ebe2e49ca3a51d409ca5f0bfcffab6c9d25643c17c32889da"]
    assert lines[4].split("\t")[:2] == ["false", "timeout"]
    assert list(place.tmp.iterdir()) == []


def test_fetch(run, server):
    denied = run("run", EXAMPLES / "fetch.lua", server.url + "/hello")
    assert denied.code == 1 and denied.out.startswith("denied: ") and "--allow-net=127.0.0.1" in denied.out
    done = run("run", f"--allow-net={server.host}", EXAMPLES / "fetch.lua", server.url + "/hello")
    assert (done.out, done.err, done.code) == (f"{server.url}/hello answered 200, 5 bytes of text/plain\n", "", 0)
    assert run("run", EXAMPLES / "fetch.lua").code == 1


@pytest.fixture
def folder(place):
    place.write("data/notes.md", "# Notes\n\nTODO: tidy up\n\nlast line without an end")
    place.write("data/sub/copy.md", "# Notes\n\nTODO: tidy up\n\nlast line without an end")
    place.write("data/sub/deep/blank", "")
    place.write("data/image.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    place.write("data/odd | `name`.txt", "a\tb c\n\n")
    place.write("data/not-text.txt", b"\xff\xfe\x00")
    place.write("data/.git/objects/ab", "x" * 5000)
    place.write("data/target/debug/big", "x" * 5000)
    (place.work / "data/loop").symlink_to(".")
    (place.work / "data/nowhere").symlink_to("missing")
    return place.work / "data"


def test_quickstart(run, place, folder):
    done = run("run", EXAMPLES / "quickstart.lua", "data")
    assert (done.err, done.code) == ("", 0)
    head, rest = done.out.split("\n\n", 1)
    assert head == "data: 6 files in 3 folders, 5.2 kB"
    kinds, rest = rest.split("\n\n", 1)
    assert [line.split()[0] for line in kinds.splitlines()] == [".png", ".md", ".txt", "none"]
    assert rest.splitlines() == [
        "Duplicates  1 file could go, 48 bytes",
        "Texts       4 files, 12 lines, 23 words",
        "Longest     notes.md, 5 lines",
        "Open ends   2 marks of TODO or FIXME",
        f"Report      {place.tmp}/llmspell-report.md",
    ]
    report = (place.tmp / "llmspell-report.md").read_text()
    for line in ("| .png | 1 | 5.1 kB | 98% |", "- 48 bytes each: `notes.md`, `sub/copy.md`",
                 "1 file is too large or no text after all.", "- `notes.md:3`: `TODO: tidy up`"):
        assert line in report.splitlines()
    assert "| `odd \\| 'name'.txt` | 2 | 3 | `a?b c` |" in report.splitlines()
    assert "target" not in report and ".git" not in report


def test_quickstart_twice_says_the_same(run, place, folder):
    for name in ("one.md", "two.md"):
        assert run("run", EXAMPLES / "quickstart.lua", "data/", "--report", name).code == 0
    one, two = ((place.work / name).read_text() for name in ("one.md", "two.md"))
    assert one == two and one.startswith("# Report on `data`\n")


def test_quickstart_in_a_kernel(run, kernel, folder):
    one = kernel()
    there = run("run", "--kernel", one.id, EXAMPLES / "quickstart.lua", "data")
    here = run("run", EXAMPLES / "quickstart.lua", "data")
    assert (there.out, there.err, there.code) == (here.out, "", 0)


@pytest.mark.parametrize("words, code, message", [
    (["nowhere"], 5, "nowhere: no such file or directory"),
    (["/etc"], 4, "--allow-read=/etc."),
    (["file"], 1, "file is not a folder"),
    (["a", "b"], 2, "usage: "),
    (["--help"], 2, "usage: "),
    (["--report"], 2, "usage: "),
    (["--report", "/proc/report"], 4, "--allow-write=/proc/report."),
])
def test_quickstart_says_what_is_wrong(run, place, words, code, message):
    place.write("file", "")
    done = run("run", EXAMPLES / "quickstart.lua", *words)
    assert done.code == code and message in done.err and done.out == ""


def test_quickstart_of_an_empty_folder(run, place):
    (place.work / "empty").mkdir()
    done = run("run", EXAMPLES / "quickstart.lua", "empty")
    assert done.code == 0 and done.out.startswith("empty: 0 files in 1 folder, 0 bytes\n\nDuplicates  none\n")


def tool_call(name, **arguments):
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


@pytest.fixture
def example(run, place):
    """example("agent.lua", [replies of the model], "word", …)"""

    def example(name, replies, *words, flags=(), **more):
        place.write("model.json", json.dumps({"replies": replies}))
        return run("run", "--model", "mock/model.json", *flags, EXAMPLES / name, *words, **more)

    return example


def test_first_agent(run):
    (words, output), = said("agent.lua")
    done = run("run", *words, cwd=ROOT)
    assert (done.out, done.err, done.code) == (output, "", 0)


def test_agent_with_tools(example):
    done = example("agent-tools.lua", [
        {"tool_calls": [{"name": "price", "arguments": {"fruit": "apple"}}, {"name": "price", "arguments": {"fruit": "kiwi"}}]},
        {**tool_call("calculator", input="3*0.4"), "match": "no such fruit: kiwi"},
        {"match": "1.2", "text": "They cost 1.20 euros."}])
    assert (done.out, done.code) == ("They cost 1.20 euros.\n3 turns, 3 calls, 1 of them failed\n", 0)
    assert '[shop: price {"fruit":"apple"}]' in done.err and "[shop: price: error" in done.err


def test_agents_as_a_team(example):
    # Each agent has a model of its own, which gives the first answer that fits.
    ask = {"tool_calls": [{"name": "optimist", "arguments": {"input": "rewrite?"}}, {"name": "sceptic", "arguments": {"input": "rewrite?"}}]}
    done = example("agent-team.lua", [{"match": "Should we", "text": "It is fast."}, {"match": "rewrite?", "text": "It is small."}])
    assert done.out.splitlines()[:2] == ["optimist: It is fast.", "sceptic: It is fast."]
    assert done.out.splitlines()[2] == "chair: It is fast."
    assert done.code == 0 and ask


def test_agent_that_extracts(example):
    good = {"title": "Review", "date": None, "people": ["Ada", "Bob"]}
    done = example("agent-extract.lua", [json.dumps(good)], input="Ada and Bob meet for a review")
    assert (done.out, done.err, done.code) == ("Review, some day, with Ada and Bob\n", "", 0)
    done = example("agent-extract.lua", [json.dumps({**good, "people": "all"})], input="x")
    assert done.code == 8 and "does not fit its schema" in done.err and done.out == ""


def test_agent_that_needs_approval(example, run, place):
    replies = [{**tool_call("file_operations", operation="write", path="todo.txt", input="call Ada"), "match": "Write the note"},
               {"match": "tool_output", "text": "It is written."}]
    first = example("agent-approval.lua", replies, flags=["--allow-write=."])
    assert first.out.endswith(": file_operations wants to write todo.txt\n") and first.code == 0
    assert not (place.work / "todo.txt").exists()
    listed = run("kernel", "approvals", "list")
    call = first.out.split(":")[0]
    assert listed.out.startswith(f"{call}  default  clerk  file_operations ") and listed.out.count("\n") == 1
    decided = run("kernel", "approvals", "approve", call[:5])
    assert decided.out.startswith(f"approved {call}: ") and "run clerk-1 of agent clerk" in decided.out
    again = run("kernel", "approvals", "deny", call)
    assert again.code == 6 and "it was approved before" in again.err
    for _ in range(2):
        done = example("agent-approval.lua", replies, flags=["--allow-write=."])
        assert (done.out, done.err, done.code) == ("It is written.\n", "", 0)
    assert (place.work / "todo.txt").read_text() == "call Ada"


def test_agent_with_a_budget(example):
    done = example("agent-budget.lua", [{**tool_call("calculator", input="997 % 7"), "repeat": True}])
    assert done.out == "gave up: agent frugal: no answer after 3 turns\n1 runs, 1 failed\n" and done.code == 0


def test_agent_with_a_local_model(example):
    done = example("agent-local.lua", ["Hello.", "Fine."], input="hi\nhow are you?\n")
    assert (done.out, done.code) == ("Hello.\nFine.\n", 0)
    assert done.err.count(" tokens, ") == 2


def test_every_example_is_tested():
    text = open(__file__).read()
    assert all(example.name in text for example in EXAMPLES.glob("*.lua"))
