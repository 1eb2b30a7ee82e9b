"""What Lua scripts reach beyond their own text: the log of the kernel, the configuration, their arguments."""
import json

import pytest

LOGGING = """
Logger.debug('quiet')
Logger.get('import'):debug('row', {n = 7, api_key = 'abcdefgh', who = 'Ada L'})
Logger.warn('free', {bytes = 0.5, ok = true, header = 'Bearer abcdefghijkl'})
Logger.with {run = 1}:error('a\\nb')
print(Logger.enabled('debug'), Logger.get('import'):enabled('debug'))
"""
LEVELS = '[log]\nlevel = "warn"\n[log.modules]\n"script::import" = "debug"\n'


def test_a_script_logs_through_the_one_log(run, place):
    place.config(LEVELS)
    done = run("run", "-e", LOGGING)
    assert (done.code, done.out) == (0, "false\ttrue\n"), done
    lines = [line.split(" ", 1)[1] for line in done.err.splitlines()]
    assert lines == [
        'DEBUG script::import: row api_key=<redacted> n=7 who="Ada L"',
        'WARN script: free bytes=0.5 header="Bearer <redacted>" ok=true',
        "ERROR script: a\\nb run=1",
    ]


def test_json_lines_have_fields(run, place):
    place.config(LEVELS)
    done = run("run", "-e", LOGGING, env={"LLMSPELL_LOG_FORMAT": "json"})
    first, second, third = map(json.loads, done.err.splitlines())
    assert first["module"] == "script::import" and first["fields"] == {"api_key": "<redacted>", "n": 7, "who": "Ada L"}
    assert second["fields"] == {"bytes": 0.5, "header": "Bearer <redacted>", "ok": True}
    assert (third["level"], third["message"], third["fields"]) == ("error", "a\nb", {"run": 1})


def test_a_kernel_keeps_what_cells_log(kernel, place):
    one = kernel("--id", "k", "--log-file", place.tmp / "k.log")
    with one.wire() as wire:
        assert wire.stdout("Logger.error('from a cell', {cell = 1}) Debug.info('seen') print('done')") == "done\n"
    text = (place.tmp / "k.log").read_text()
    assert "ERROR script: from a cell cell=1\n" in text and "seen" not in text


def test_scripts_read_the_configuration_and_no_secret(run, place):
    place.config('[tools.database.connections]\nmain = "postgres://ada:hidden-pass@db/x"\n'
                 '[tools.http_request.default_headers]\nAuthorization = "Bearer hidden-token"\n'
                 '[providers.mine]\ntype = "openai"\napi_key = "sk-hidden-key"\nbase_url = "http://127.0.0.1:1"\n')
    code = ("print(Config.get('tools.database.connections').main, Config.listProviders()[1]) "
            "print(Config.getProvider('mine').base_url, Config.get('kernel.port', 'none')) print(Config.toJson())")
    done = run("run", "-e", code, env={"LLMSPELL_KERNEL_GRACE": "7s"})
    lines = done.out.splitlines()
    assert lines[:2] == ["postgres://ada:<redacted>@db/x\tmine", "http://127.0.0.1:1\tnone"], done
    assert json.loads("\n".join(lines[2:]))["kernel"]["grace"] == "7s"
    assert "hidden" not in done.out


def test_arguments_of_a_script(run, place):
    place.write("args.lua", "print(ARGS[0], ARGS['1'], ARGS[2], ARGS.c, ARGS.d, arg[0], select('#', ...))")
    for dashes in ([], ["--"]):
        done = run("run", "args.lua", *dashes, "a", "b", "--c=d", "--d")
        assert done.out.split() == ["args.lua", "a", "b", "d", "true", "args.lua", str(4 + len(dashes))], done


@pytest.mark.parametrize(("code", "status", "words"), [
    ("Session.create {}", 10, ["Session.create is not in this build", "State keeps"]),
    ("Tool.invok('x')", 1, ["a nil value (field 'invok')", "Did you mean Tool.invoke?"]),
    ("Config.get('kernal.port')", 5, ["no such section or key"]),
    ("Config.x = 1", 4, ["Config.x: scripts cannot change the configuration", "config.toml"]),
    ("JSON.parse()", 2, ["bad argument #1 to 'parse' (string or number expected, got nil)"]),
])
def test_errors_name_the_thing_and_the_next_step(run, code, status, words):
    done = run("run", "-e", code)
    assert done.code == status, done
    assert all(word in done.err for word in words), done.err
