"""Configuration as the programs see it: layers, refusals with line and suggestion, keys of v0.10, trust, the four commands."""
import json

import pytest


def grace(run, *args, **more):
    document = run("kernel", *args, "config", "show", "kernel", "--json", **more).json()["kernel.grace"]
    return document["value"], document["origin"]


def test_layers(run, place):
    assert grace(run) == ("5s", "default")
    place.config('[kernel]\ngrace = "6s"\n')
    assert grace(run)[0] == "6s" and grace(run)[1].endswith("config.toml:2")
    place.write("llmspell.toml", '[kernel]\ngrace = "7s"\n')
    assert grace(run) == ("7s", "./llmspell.toml:2")
    assert grace(run, env={"LLMSPELL_KERNEL_GRACE": "8s"}) == ("8s", "env LLMSPELL_KERNEL_GRACE")
    other = place.write("other.toml", '[kernel]\ngrace = "9s"\n')
    assert grace(run, "--config", other)[0] == "9s"
    assert grace(run, env={"LLMSPELL_CONFIG": str(other)})[0] == "9s"


def test_flags_win(kernel, place):
    place.config('[log]\nlevel = "error"\n')
    one = kernel("--log-level", "info", env={"LLMSPELL_LOG_LEVEL": "off"})
    assert "ready" in one.err()


@pytest.mark.parametrize("text,words", [
    ("[kernel]\n\ngrce = '1s'\n", ["config.toml:3", "grce", "did you mean", "grace"]),
    ("[krnel]\na = 1\n", ["config.toml:1", "krnel", "did you mean", "kernel"]),
    ("[kernel]\ngrace = 'soon'\n", ["config.toml:2", "kernel.grace", '"soon"', "duration"]),
    ("[kernel]\ngrace = [1]\n", ["config.toml:2", "kernel.grace"]),
    ("[kernel.tools]\nmax_concurrent_tools = 0\n", ["config.toml:2", "max_concurrent_tools"]),
    ("[security]\nprofile = 'saef'\n", ["config.toml:2", "security.profile", "safe"]),
    ("nonsense\n", ["config.toml:1"]),
    ("[kernel]\ngrace = '1s'\ngrace = '2s'\n", ["config.toml:3"]),
    ("\x00\x01", ["config.toml"]),
])
def test_unknown_config_key(run, place, text, words):
    place.config(text)
    for args in (["kernel"], ["run", "-e", "print(1)"], ["kernel", "config", "show"]):
        done = run(*args)
        assert (done.code, done.out) == (3, ""), done
        assert all(word in done.err for word in words), done.err
    done = run("kernel", "config", "check")
    assert done.code == 3 and all(word in done.out + done.err for word in words), done


def test_a_file_that_is_named_must_be_there(run):
    for args, env in ((["--config", "none.toml"], {}), ([], {"LLMSPELL_CONFIG": "/none.toml"})):
        done = run("run", *args, "-e", "1", env=env)
        assert done.code in (3, 5) and "none.toml" in done.err


def test_keys_of_v0_10_warn(run, place):
    place.config("[rag]\nenabled = true\n[engines.lua]\nstdlib = 'Safe'\n")
    done = run("run", "-e", "print('ran')")
    assert (done.code, done.out) == (0, "ran\n")
    assert "warning: config ~/home/config.toml:1: rag:" in done.err and "stdlib" in done.err, done.err
    assert run("run", "-q", "-e", "print('ran')").err == ""


def test_check_is_quiet_about_what_is_right(run, place):
    place.config("[kernel]\ngrace = '1s'\n")
    done = run("kernel", "config", "check")
    assert done.code == 0 and "error" not in done.out
    assert run("kernel", "config", "check", "none.toml").code in (3, 5)


def test_init_and_show(run, place):
    done = run("kernel", "config", "init")
    assert done.code == 0 and "#grace" in done.out
    file = place.work / "new.toml"
    assert run("kernel", "config", "init", "-o", file).code == 0 and file.read_text() == done.out
    assert run("kernel", "config", "init", "-o", file).code == 6
    assert run("kernel", "config", "init", "-o", file, "--force").code == 0
    assert run("kernel", "config", "check", file).code == 0
    assert run("kernel", "config", "show", "nonsense").code == 5
    assert json.loads(run("kernel", "config", "show", "--json").out)


def test_secrets_are_not_shown(run, place):
    place.config("[tools.http_request.default_headers]\nAuthorization = 'Bearer TOPSECRET'\n")
    for args in (["show"], ["show", "--json"], ["check"]):
        done = run("kernel", "config", *args)
        assert "TOPSECRET" not in done.out + done.err
    done = run("kernel", "doctor")
    assert "TOPSECRET" not in done.out + done.err


def test_migrate(run, place):
    old = place.write("old.toml", "[engines.lua]\ntimeout_ms = 1500\n[rag]\nenabled = true\n", 0o640)
    done = run("kernel", "config", "migrate", old)
    assert done.code == 0 and 'timeout = "1500ms"' in done.out and "# enabled = true" in done.out
    assert "timeout_ms" in old.read_text()
    assert run("kernel", "config", "migrate", "--write", old).code == 0
    assert "timeout_ms" not in old.read_text() and "timeout_ms" in (place.work / "old.toml.bak").read_text()
    assert run("kernel", "config", "check", old).code == 0


# Trust.


def test_a_project_may_not_widen_until_it_is_trusted(run, place):
    place.write("llmspell.toml", "[security]\nallow_read = ['/etc']\n")
    code = "print(io.open('/etc/hostname') and 'open' or 'closed')"
    done = run("run", "-e", code)
    assert done.out != "open\n" and "trust" in done.err and "allow_read" in done.err, done
    assert run("run", "--trust").code == 0
    assert run("run", "-e", code).out == "open\n"
    place.write("llmspell.toml", "[security]\nallow_read = ['/etc', '/usr']\n")
    done = run("run", "-e", code)
    assert done.out != "open\n" and "trust" in done.err, "a changed file is trusted no longer"


def test_a_project_may_narrow(run, place):
    place.write("llmspell.toml", "[security]\nprofile = 'safe'\n")
    place.write("a.txt", "x")
    assert run("run", "-e", "print(io.open('a.txt') and 'open' or 'closed')").out == "closed\n"


def test_trust_without_a_project_is_an_error(run):
    assert run("run", "--trust").code == 5


@pytest.mark.parametrize("name", ["openai", "anthropic", "local"])
def test_example_configurations(run, name):
    from conftest import ROOT

    assert run("kernel", "config", "check", ROOT / "examples" / "config" / f"{name}.toml").code == 0
