"""Models over the wire: recorded traffic of services, their faults, keys, limits of cost, recordings of our own."""
import json
import signal
import subprocess
import time

import pytest
from conftest import WAIT, program
from peers import certificate
from upstream import RECORDINGS, Upstream, answer, recording

EXPECTED = json.loads((RECORDINGS / "expected" / "replies.json").read_text())
KEY = "sk-test-0123456789abcdef"
BUSY = {"error": {"message": "busy"}}
# Asks as often as it is told and prints how each answer went.
LOOP = """
for i = 1, tonumber(arg[1]) do
  local ok, text, d = pcall(ask, "hi", {details = true})
  print(JSON.stringify(ok and {text = text, finish = d.finish, usage = d.usage} or {class = text.class, error = text.message}))
end"""


def configure(place, service, up, more="", base="", models=""):
    place.config(f'[models]\ndefault = "{service}/m"\nretries = 2\n{models}\n[providers.{service}]\nbase_url = "{up.url}{base}"\n'
                 f'api_key_env = "THE_KEY"\n{more}\n')


@pytest.fixture
def ask(run):
    def ask(*args, code=LOOP, count=1, **more):
        done = run("run", *args, "-e", code, count, env={"THE_KEY": KEY, **more.pop("env", {})}, **more)
        # Nothing that a program says has the key in it.
        assert KEY not in done.out + done.err
        return done

    return ask


def results(done):
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_recording_is_read_over_the_wire(place, ask, name):
    expected, service = EXPECTED[name], name.split("-")[0]
    with Upstream(recording(name)) as up:
        configure(place, service, up, "retries = 0")
        [got] = results(ask())
    if "error" in expected:
        assert got["class"] == expected["class"] and expected["error"] in got["error"]
        return
    assert got["finish"] == expected["finish"] and got["usage"] == expected["usage"]
    assert got["text"] == "".join(part["text"] for part in expected["parts"] if part["type"] == "text")
    assert KEY in "".join(up.asked[0].headers.values())
    assert up.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("tls", [False, True])
def test_an_answer_is_the_same_wherever_it_is_split(place, ask, tls):
    name = "anthropic-thinking.sse" if tls else "openai-text.sse"
    size = len((RECORDINGS / name).read_bytes())
    pair = certificate(place.root) if tls else None
    with Upstream(tls=pair, choose=lambda _, number: recording(name, pieces=[number + 1, number + 2])) as up:
        configure(place, name.split("-")[0], up)
        if tls:
            config = (place.home / "config.toml").read_text()
            place.config(config + f'\n[tools]\nca_file = "{pair[2]}"\n')
        got = results(ask(count=size, timeout=120))
    text = "".join(part["text"] for part in EXPECTED[name]["parts"] if part["type"] == "text")
    assert len(got) == size and {one.get("text") for one in got} == {text}, got[0]


def test_a_connection_that_breaks_is_an_error_wherever_it_does(place, ask):
    name = "openai-text.sse"
    body = (RECORDINGS / name).read_bytes()
    finished = body.index(b'"finish_reason": "stop"')
    with Upstream(choose=lambda _, number: recording(name, cut=number)) as up:
        configure(place, "openai", up, "retries = 0")
        got = results(ask(count=len(body), timeout=120))
    for cut, one in enumerate(got):
        if cut < finished:
            assert one.get("class") == "remote", (cut, one)
        else:
            assert one.get("class") == "remote" or one["text"] == "Grüß Gott 🌍", (cut, one)


def test_what_passes_is_asked_again_and_nothing_else(place, ask):
    soon = [("retry-after-ms", "20")]
    storm = [answer(BUSY, status=status, headers=soon) for status in (429, 503)]
    with Upstream(*storm, recording("openai-text.sse")) as up:
        configure(place, "openai", up)
        assert results(ask())[0]["text"] == "Grüß Gott 🌍"
        assert len(up.asked) == 3 and up.asked[0].body == up.asked[2].body
    for status, body, kind, count, code in [
        (429, BUSY, "budget", 3, 9),
        (500, "<html>\x1b[31m</html>", "remote", 3, 8),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "remote", 3, 8),
        (429, {"error": {"message": "no money", "code": "insufficient_quota"}}, "budget", 1, 9),
        (400, {"error": {"message": "bad request"}}, "remote", 1, 8),
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}, "denied", 1, 4),
        (404, {"error": {"message": "no such model"}}, "not_found", 1, 5),
        (302, "", "remote", 1, 8),
    ]:
        with Upstream(answer(body, status=status, headers=soon)) as up:
            configure(place, "openai", up)
            done = ask(code="print(ask('hi'))")
            assert done.code == code and f"status {status}" in done.err and "\x1b" not in done.err, done.err
            assert len(up.asked) == count, (status, len(up.asked))


def test_what_was_heard_is_not_said_again(place, ask):
    with Upstream(recording("openai-late-error.sse")) as up:
        configure(place, "openai", up)
        done = ask(code='local _ = pcall(ask, "hi", {on_text = function(t) print("heard " .. t) end})')
        assert done.out == "heard half\n" and len(up.asked) == 1


def test_stalls_floods_and_nonsense_end(place, ask):
    with Upstream(recording("openai-text.sse", cut=300, stall=True), answer(stall=True, cut=0)) as up:
        configure(place, "openai", up, "retries = 0", models='idle_timeout = "200ms"')
        [got] = results(ask())
        assert got["class"] == "timeout" and "nothing came for 200ms" in got["error"]
    flood = b"data: " + b"x" * (70 << 20)
    for body, kind, words in [
        (flood, "text/event-stream", "too long|larger than"),
        (b"[" * 100_000, "application/json", "not JSON"),
        (b'data: {"choices": [{"delta": {"content": "\\u0000\\ud800"}}]}\n\n', "text/event-stream", "not JSON"),
        (b"", "text/event-stream", "before it was complete"),
        (b"\xff\xfe\x00", "application/json", "not JSON"),
    ]:
        with Upstream(answer(body, kind=kind)) as up:
            configure(place, "openai", up, "retries = 0")
            [got] = results(ask(timeout=60))
            assert got["class"] == "remote" and any(word in got["error"] for word in words.split("|")), got


def test_an_interrupt_ends_a_question_at_once(place, start):
    heard = (RECORDINGS / "openai-text.sse").read_bytes().index(b"Gott")
    with Upstream(recording("openai-text.sse", cut=heard, stall=True)) as up:
        configure(place, "openai", up)
        child = start("run", "-e", "print(ask('hi', {on_text = function(t) print(t) io.flush() end}))", env={"THE_KEY": KEY})
        child.stdout.readline()
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(WAIT) == 130, child.stderr.read()
        assert time.monotonic() - began < 5
        child = start("run", "--timeout", "300ms", "-e", "print(ask('hi'))", env={"THE_KEY": KEY})
        assert child.wait(WAIT) == 7


def test_keys_are_where_they_may_be_and_nowhere_else(place, run, ask):
    with Upstream(recording("openai-whole.json")) as up:
        place.config(f'[models]\ndefault = "mine/m"\n[providers.mine]\ntype = "openai"\nbase_url = "{up.url}"\napi_key = "{KEY}"\n')
        assert ask().code == 0 and up.asked[-1].headers["authorization"] == f"Bearer {KEY}"
        shown = run("kernel", "config", "show")
        assert KEY not in shown.out + shown.err and 'api_key = "<redacted>"' in shown.out
        place.config(f'[models]\ndefault = "mine/m"\n[providers.mine]\ntype = "openai"\nbase_url = "{up.url}"\n')
        # The key of a service goes to that service alone.
        assert ask(env={"OPENAI_API_KEY": KEY}).code == 0 and "authorization" not in up.asked[-1].headers
        assert ask(env={"LLMSPELL_MINE_API_KEY": "other"}).code == 0 and up.asked[-1].headers["authorization"] == "Bearer other"
        assert run("kernel", "keys", "set", "mine", input="from-the-file\n").code == 0
        assert ask().code == 0 and up.asked[-1].headers["authorization"] == "Bearer from-the-file"
        place.config('models.default = "m"')
        env = {"OPENAI_BASE_URL": up.url, "OPENAI_API_KEY": KEY, "LLMSPELL_MODEL": "openai/m"}
        assert ask(env=env).code == 0 and up.asked[-1].headers["authorization"] == f"Bearer {KEY}"
        log = ask("-v", env={**env, "LLMSPELL_LOG_LEVEL": "trace"})
        assert log.code == 0
    done = run("run", "--model", "openai/m", "-e", "ask('x')")
    assert done.code == 3 and "provider openai: no key" in done.err and "keys set openai" in done.err
    place.config("")
    done = run("run", "-e", "ask('x')")
    assert done.code == 3 and "no default model; no provider is set up" in done.err and "--model" in done.err


def test_a_purse_is_not_overdrawn(place, ask):
    reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 1000, "completion_tokens": 1000}}
    prices = '[models.prices]\n"openai/*" = [100.0, 400.0]\n'
    with Upstream(answer(reply)) as up:
        configure(place, "openai", up, prices)
        done = ask("--max-cost", "1", code="for i = 1, 5 do ask('hi') end")
        assert done.code == 9 and "models.max_cost" in done.err
        # The answers are shortened to what is left, and what is left after two is less than nothing.
        assert len(up.asked) == 2 and up.asked[1].body["max_completion_tokens"] < up.asked[0].body["max_completion_tokens"] < 2500
        configure(place, "openai", up, prices, models="max_cost_per_day = 0.6")
        assert ask(code="ask('hi')").code == 0 and ask(code="ask('hi')").code == 0
        assert ask(code="ask('hi')").code == 9
        configure(place, "openai", up)
        done = ask("--max-cost", "1", code="ask('hi')")
        assert done.code == 9 and "price of openai/m is not known" in done.err
        got = ask(code="local _, d = ask('hi', {details = true}) print(d.cost, Provider.spent().input_tokens)")
        assert got.out == "nil\t1000\n"


def test_what_is_recorded_is_replayed_without_a_service_or_a_key(place, ask, run):
    with Upstream(recording("openai-text.sse")) as up:
        configure(place, "openai", up)
        live = ask("--record", "tape.jsonl", count=2)
    tape = place.work / "tape.jsonl"
    assert KEY not in tape.read_text() and tape.stat().st_mode & 0o777 == 0o600
    again = run("run", "--replay", "tape.jsonl", "-e", LOOP, 2)
    assert again.out == live.out and again.code == 0
    more = run("run", "--replay", "tape.jsonl", "-e", "ask('something else')")
    assert more.code == 5 and "no answer to this request" in more.err


def test_json_that_does_not_fit_is_asked_for_once_more(place, ask):
    def whole(text):
        return answer({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    code = """local v, d = ask("give", {details = true, schema = {type = "object", properties = {n = {type = "integer"}}, required = {"n"}}})
    print(v.n, d.usage.input_tokens)"""
    with Upstream(whole('{"n": "x"}'), whole('```json\n{"n": 5}\n```')) as up:
        configure(place, "openai", up)
        assert ask(code=code).out == "5\t2\n"
        repair = up.asked[1].body["messages"]
        assert repair[-2]["content"] == '{"n": "x"}' and "n: not of type integer" in repair[-1]["content"]
    with Upstream(whole("sorry")) as up:
        configure(place, "openai", up)
        done = ask(code=code)
        assert done.code == 8 and "does not fit the schema" in done.err and len(up.asked) == 2


def test_another_model_answers_when_one_cannot(place, ask):
    with Upstream(answer(BUSY, status=500, headers=[("retry-after-ms", "1")])) as up:
        configure(place, "openai", up, models='fallback = ["mock/echo"]')
        done = ask(code="local t, d = ask('hi', {details = true}) print(t, d.model)")
        assert done.out == "hi\tmock/echo\n" and len(up.asked) == 3


def test_requests_wait_for_their_turn(place, ask):
    with Upstream(recording("openai-whole.json")) as up:
        configure(place, "openai", up, "requests_per_minute = 2", models='total_timeout = "2s"')
        got = results(ask(count=3))
        assert [one.get("class") for one in got] == [None, None, "timeout"] and len(up.asked) == 2


def test_texts_are_embedded_and_ranked(place, ask):
    def respond(asked, _):
        body, n = asked.body, lambda items: [[3.0, 4.0] for _ in items]
        if asked.path.endswith("rerank"):
            return answer({"results": [{"index": 0, "relevance_score": -1.5}, {"index": 1, "score": 0.25}]})
        if "requests" in body:
            return answer({"embeddings": [{"values": v} for v in n(body["requests"])]})
        if "texts" in body:
            return answer({"embeddings": {"float": n(body["texts"])}, "meta": {"billed_units": {"input_tokens": 4}}})
        if asked.path.startswith("/api"):
            return answer({"embeddings": n(body["input"]), "prompt_eval_count": 4})
        data = [{"index": i, "embedding": v} for i, v in enumerate(n(body["input"]))]
        return answer({"data": data[::-1], "usage": {"total_tokens": 4}})

    code = "local v = Provider.embed('%s/m', {'a', 'b'}, {dimensions = 2, purpose = 'query'}) print(#v, v[1][1], v[2][2])"
    with Upstream(choose=respond) as up:
        for service, path in [("openai", "/embeddings"), ("gemini", "/models/m:batchEmbedContents"), ("ollama", "/api/embed"),
                              ("cohere", "/v2/embed"), ("voyage", "/embeddings"), ("jina", "/embeddings"), ("vllm", "/embeddings")]:
            configure(place, service, up)
            got = ask(code=code % service)
            one, two, three = got.out.split()
            assert (one, round(float(two), 5), round(float(three), 5)) == ("2", 0.6, 0.8), got.err
            assert up.asked[-1].path == path
        for service in ("cohere", "voyage", "jina", "llamacpp"):
            configure(place, service, up)
            got = ask(code=f"for _, r in ipairs(Provider.rerank('{service}/m', 'q', {{'x', 'y'}}, 2)) do print(r.index, r.score) end")
            assert got.out == "2\t0.25\n1\t-1.5\n", got.err
    configure(place, "anthropic", up)
    assert "does not embed" in ask(code="Provider.embed('anthropic/m', 'a')").err


def test_a_pipe_and_a_prompt(place, run):
    done = run("run", "--model", "mock/echo", "-e", "print(ask('Review:', stdin()))", input="a diff\n")
    assert done.out == "Review:\n\na diff\n"


def test_a_key_is_not_shown_while_it_is_typed(place):
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(program("kernel"), ["keys", "set", "openai"], env=place.env, encoding="utf-8", timeout=WAIT)
    child.expect("key of openai: ")
    child.waitnoecho()
    child.sendline(KEY)
    child.expect(pexpect.EOF)
    assert KEY not in child.before
    done = subprocess.run([program("kernel"), "keys", "list"], env=place.env, capture_output=True, text=True)
    assert done.stdout == "openai\n"
