"""`llmspell-fleet apply` and `scale`: what they would do, what they do, what they leave, and what is left of them when they are killed."""
import concurrent.futures
import json
import os
import signal
import socket
import subprocess

import pytest
from conftest import ROOT, WAIT, Watched, Wire, ended, program
from test_fleet import CONFIG, fleet, free_block, ours, until  # noqa: F401, a fixture
from test_fleet_faults import fakes  # noqa: F401, a fixture

SHOP = """fleet = "shop"
[defaults]
config = "a.toml"
labels = {{ tier = "one" }}
[kernels.web]
port = {port}
memory = "{memory}"
[kernels.pool]
port = {pool}
count = {count}
"""


class Shop:
    """A fleet in a file, on ports of its own."""

    def __init__(self, fleet):  # noqa: F811
        self.fleet, self.port = fleet, free_block(8)
        self.write()

    def write(self, text=SHOP, count=2, memory="2GB"):
        self.fleet.place.write("shop.toml", text.format(port=self.port, pool=self.port + 1, count=count, memory=memory))

    def plan(self, *words, code=0):
        document = self.fleet("apply", "shop.toml", "--dry-run", "--json", *words, code=code).json()
        assert document["schema_version"] == 1 and document["dry_run"] is True and document["name"] == "shop"
        return {row["id"]: row["action"] for row in document["changes"]}

    def __call__(self, *words, **more):
        return self.fleet("apply", "shop.toml", *words, **more)


@pytest.fixture
def shop(fleet):  # noqa: F811
    return Shop(fleet)


def pids(fleet):  # noqa: F811
    return {name: row["pid"] for name, row in fleet.rows().items()}


def test_a_file_becomes_kernels_and_stays_them(shop, fleet):  # noqa: F811
    all_new = {"pool-1": "create", "pool-2": "create", "web": "create"}
    assert shop.plan() == all_new and shop.plan("--detailed-exitcode", code=2) == all_new
    assert fleet.rows() == {}
    out = shop("--dry-run").out
    assert out == "+ pool-1  create\n+ pool-2  create\n+ web     create\nshop: 3 create\n"
    out = shop().out.splitlines()
    assert [text.split(" with PID ")[0] for text in out] == ["pool-1: started", "pool-2: started", "web: started", "shop: 3 create"]
    rows = fleet.rows()
    assert {name: (row["port"], row["group"], row["fleet"], row["labels"]) for name, row in rows.items()} == {
        "web": (shop.port, None, "shop", {"tier": "one"}),
        "pool-1": (shop.port + 1, "pool", "shop", {"tier": "one"}),
        "pool-2": (shop.port + 2, "pool", "shop", {"tier": "one"}),
    }
    # Again: nothing.
    before = pids(fleet)
    assert shop().out == "shop: nothing to do, 3 unchanged\n" and pids(fleet) == before
    assert shop.plan("--detailed-exitcode") == dict.fromkeys(before, "unchanged")


def test_only_what_differs_is_touched(shop, fleet):  # noqa: F811
    shop()
    before, file = pids(fleet), fleet.connection("web")
    shop.write(memory="1GB")
    assert shop.plan() == {"web": "restart", "pool-1": "unchanged", "pool-2": "unchanged"}
    with Wire(file) as wire:
        wire.ask("control", "status_request")
        out = shop().out
        assert f"web: restarted with PID {fleet.connection('web')['pid']} (memory: 2GB -> 1GB)\n" in out, out
        # The same ports and the same key: who was attached is back.
        assert wire.ask("control", "status_request").content["pid"] == fleet.connection("web")["pid"] != file["pid"]
    after = pids(fleet)
    assert {name for name in before if before[name] != after[name]} == {"web"}
    # A label and a policy need no other process.
    shop.write(SHOP.replace('"one"', '"two"').replace("[kernels.web]", 'restart = "always"\n[kernels.web]'), memory="1GB")
    out = shop().out
    assert "web: updated (restart: never -> always; labels: tier)\n" in out and pids(fleet) == after
    assert {row["restart"] for row in fleet.rows().values()} == {"always"}
    # The content of a configuration counts, its place alone does not.
    fleet.place.write("a.toml", CONFIG + "# more\n")
    assert set(shop.plan().values()) == {"restart"}
    fleet.place.write("a.toml", "[nonsense]\n")
    done = shop(code=3)
    assert "nonsense" in done.err and "2 more changes were not made" in done.err and pids(fleet) == after
    fleet.place.write("a.toml", CONFIG)
    assert shop().out.startswith("shop: nothing to do")
    # What was stopped or died is started.
    fleet("stop", "pool-1")
    with Watched(after["web"]) as watched:
        os.kill(after["web"], signal.SIGKILL)
        assert watched.ended()
    assert shop.plan() == {"web": "start", "pool-1": "start", "pool-2": "unchanged"}
    shop("--parallel", "2")
    assert {row["state"] for row in fleet.rows().values()} == {"running"}
    # Another port is another address.
    shop.port += 3
    assert shop.plan() == dict.fromkeys(after, "unchanged")
    shop.write(memory="1GB")
    shop()
    assert {row["port"] for row in fleet.rows().values()} == {shop.port, shop.port + 1, shop.port + 2}
    assert fleet("health").out.count("HEALTHY") == 3


def test_what_is_removed(shop, fleet):  # noqa: F811
    fleet.spawn("a.toml", "--name", "mine")
    shop.write(count=3)
    shop()
    shop.write(count=1)
    assert shop.plan() == {"web": "unchanged", "pool-1": "unchanged", "pool-2": "remove", "pool-3": "remove"}
    out = shop().out.splitlines()
    assert out[:2] == ["pool-3: removed (more than the file wants)", "pool-2: removed (more than the file wants)"]
    assert set(fleet.rows()) == {"mine", "web", "pool-1"}
    # Whose name is gone from the file stays, unless that is said.
    shop.write('fleet = "shop"\n[kernels.pool]\nconfig = "a.toml"\ncount = 1\nport = {pool}\nlabels = {{ tier = "one" }}\n')
    out = shop().out
    assert out == "shop: nothing to do, 1 unchanged\nshop: not in the file, and left: web; --prune removes them\n"
    assert shop("--prune").out.startswith("web: removed (not in the file)\n")
    assert set(fleet.rows()) == {"mine", "pool-1"}
    # Fewer than one, and another shape.
    shop.write('fleet = "shop"\n[kernels.pool]\nconfig = "a.toml"\n')
    assert shop.plan() == {"pool": "create", "pool-1": "remove"}
    shop()
    shop.write('fleet = "shop"\n')
    shop("--prune")
    assert set(fleet.rows()) == {"mine"}


def test_kernels_of_others_are_left_alone(shop, fleet):  # noqa: F811
    pid = fleet.connection(*fleet.spawn("a.toml", "--name", "web"))["pid"]
    done = shop(code=6)
    assert done.err == "llmspell-fleet: kernel web: there is one, of no fleet\nNothing was changed. --adopt takes it over.\n"
    assert set(fleet.rows()) == {"web"}
    shop("--adopt")
    assert fleet.row("web")["fleet"] == "shop" and fleet.row("web")["pid"] != pid
    fleet.place.write("other.toml", 'fleet = "other"\n[kernels.web]\n')
    assert "there is one, of the fleet shop" in fleet("apply", "other.toml", code=6).err
    # A name that nobody uses any more is free.
    fleet("stop", "web")
    fleet("apply", "other.toml")
    assert fleet.row("web")["fleet"] == "other"


def test_what_is_wrong_with_a_file(shop, fleet):  # noqa: F811
    fleet.place.write("shop.toml", "fleet = 'shop'\n[kernels.web]\nmemroy = '1GB'\n")
    done = shop(code=3)
    assert done.err == "llmspell-fleet: shop.toml:3: kernels.web.memroy: unknown key; did you mean memory?\n"
    done = fleet("apply", "-", input="[kernels.web]\n", code=3)
    assert done.err.startswith("llmspell-fleet: standard input:1: fleet: is missing\nGive the fleet a name: ")
    assert "no such file" in fleet("apply", "gone.toml", code=5).err
    assert "only together with --dry-run" in shop("--detailed-exitcode", code=2).err
    fleet.place.write("shop.toml", "fleet = 'shop'\n[kernels.web]\nenv_from = ['A_KEY']\n")
    assert "A_KEY is not set here" in shop(code=3).err
    shop(env={"A_KEY": "secret"})
    assert "secret" not in shop("--dry-run", env={"A_KEY": "other"}).out
    assert fleet("exec", "web", "--", "print(1)").out == "1\n"


def test_a_rolling_change_ends_at_the_first_kernel_that_does_not_come_back(fakes):  # noqa: F811
    """F36"""
    text = 'fleet = "shop"\n[kernels.pool]\ncount = 3\nport = {}\nenv = {{ FAKE = "{}", X = "{}" }}\n'
    port = free_block(3)

    def write(*values):
        fakes.place.write("shop.toml", text.format(port, *values))

    write("", "1")
    fakes("apply", "shop.toml", "--parallel", "3")
    before = pids(fakes)
    write("never-ready-again", "2")
    done = fakes("apply", "shop.toml", "--timeout", "1s", code=7)
    assert "kernel pool-1: not ready in time" in done.err and "2 more changes were not made" in done.err
    after = pids(fakes)
    assert after["pool-1"] is None and {name: after[name] for name in ("pool-2", "pool-3")} == {name: before[name] for name in ("pool-2", "pool-3")}
    # Repaired, the same command does the rest.
    write("", "3")
    document = fakes("apply", "shop.toml", "--json").json()
    assert {row["id"]: row["action"] for row in document["changes"]} == {"pool-1": "start", "pool-2": "restart", "pool-3": "restart"}
    assert fakes("apply", "shop.toml", "--detailed-exitcode", "--dry-run").code == 0
    # A new one that fails is none.
    fakes.place.write("shop.toml", text.replace("count = 3", "count = 4").format(port, "", "3").replace(f"port = {port}\n", ""))
    fakes("apply", "shop.toml")
    fakes.place.write("more.toml", f'fleet = "more"\n[kernels.a]\nport = {free_block(1)}\nenv = {{ FAKE = "never-ready" }}\n[kernels.b]\n')
    assert fakes("apply", "more.toml", "--timeout", "500ms", code=7).err.count("not ready in time") == 1
    assert {name for name in fakes.rows() if not name.startswith("pool")} == set()


@pytest.mark.parametrize("parallel", [1, 3])
def test_killed_at_any_moment_the_next_goes_on(shop, fleet, parallel):  # noqa: F811
    """F2 and F36: whatever is left, nothing is doubled, nothing is lost, and clients still know the way."""
    shop()
    keys = {name: fleet.connection(name)["key"] for name in fleet.rows()}
    for round in range(14):
        # Every kernel is to start again, and one comes or goes.
        memory, count = ("1GB", 3) if round % 2 else ("2GB", 2)
        fleet.place.write("a.toml", CONFIG + f"# {round}\n")
        shop.write(memory=memory, count=count)
        child = subprocess.Popen([program("fleet"), "apply", "shop.toml", "--parallel", str(parallel)], env=fleet.place.env,
                                 cwd=fleet.place.work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.wait(0.015 * round * (1 if parallel > 1 else 2))
        except subprocess.TimeoutExpired:
            child.kill()
        child.wait()
        # What it had begun to start may still be on its way.
        shop("--parallel", "3")
        rows = fleet.rows()
        assert set(rows) == {"web", *(f"pool-{index}" for index in range(1, count + 1))}, round
        until(lambda: len(ours(fleet)) == len(rows))
        assert {row["pid"] for row in rows.values()} == ours(fleet), round
        for name, key in keys.items():
            assert fleet.connection(name)["key"] == key, (round, name)
        assert shop("--dry-run", "--detailed-exitcode").code == 0
        assert {row["healthy"] for row in fleet.rows("health").values()} == {True}


def test_a_watch_goes_on_where_an_apply_was_killed(shop, fleet):  # noqa: F811
    text = SHOP.replace("[kernels.web]", 'restart = "always"\n[kernels.web]')
    shop.write(text)
    shop()
    fleet.watch()
    for round in range(4):
        fleet.place.write("a.toml", CONFIG + f"# {round}\n")
        child = subprocess.Popen([program("fleet"), "apply", "shop.toml"], env=fleet.place.env, cwd=fleet.place.work,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.wait(0.02 + 0.03 * round)
        except subprocess.TimeoutExpired:
            child.kill()
        child.wait()
        until(lambda: [row["state"] for row in fleet.rows().values()] == ["running"] * 3)


def test_a_group_grows_and_shrinks(fleet):  # noqa: F811
    port = free_block(6)
    fleet("spawn", "a.toml", "--name", "pool", "--count", "1", "--port", port, "--label", "x=y")
    assert fleet("scale", "pool", "3", "--dry-run").out == "+ pool-2  create\n+ pool-3  create\npool: 2 create, 1 unchanged\n"
    out = fleet("scale", "pool", "3").out.splitlines()
    assert [text.split(" ")[0] for text in out] == ["pool-2:", "pool-3:", "pool:"]
    rows = fleet.rows()
    assert [(row["port"], row["labels"], row["group"]) for row in rows.values()] == [(port + n, {"x": "y"}, "pool") for n in range(3)]
    assert fleet("scale", "pool", "3").out == "pool: nothing to do, 3 unchanged\n"
    # The highest ends first, when its script is done.
    with Wire(fleet.connection("pool-3")) as wire:
        header = wire.send("shell", "execute_request", {"code": "print('go') local t = os.clock() while os.clock() - t < 0.5 do end print('done')"})
        while "go" not in wire.recv("iopub").content.get("text", ""):
            pass
        assert fleet("scale", "pool", "1").out.splitlines()[0].startswith("pool-3: removed")
        assert wire.reply("shell", header).content["status"] == "ok"
    assert set(fleet.rows()) == {"pool-1"}
    # None, and back; one that was stopped by hand comes first.
    fleet("scale", "pool", "2")
    assert fleet("scale", "pool", "0").out.splitlines()[-1] == "pool: 1 stop, 1 remove"
    assert {name: row["state"] for name, row in fleet.rows().items()} == {"pool-1": "stopped"}
    assert fleet("scale", "pool", "2").out.splitlines()[0].startswith("pool-1: started")
    assert {row["port"] for row in fleet.rows().values()} == {port, port + 1}
    # What dies counts, and is started.
    pid = fleet.row("pool-2")["pid"]
    with Watched(pid) as watched:
        os.kill(pid, signal.SIGKILL)
        assert watched.ended()
    assert fleet("scale", "pool", "2").out.startswith("pool-2: started")
    # What is no group.
    assert "Did you mean" in fleet("scale", "pol", "2", code=5).err
    fleet.spawn("a.toml", "--name", "alone")
    assert fleet("scale", "alone", "2", code=6).err.startswith("llmspell-fleet: kernel alone: is one kernel, not a group\n")
    assert "-1" in fleet("scale", "pool", "--", "-1", code=2).err
    # A port that another has is passed over.
    with socket.create_server(("127.0.0.1", port + 2)):
        fleet("scale", "pool", "3")
    assert fleet.row("pool-3")["port"] != port + 2


def test_two_that_scale_end_at_one_of_both(fleet):  # noqa: F811
    fleet("spawn", "a.toml", "--name", "pool", "--count", "3", "--port", free_block(8))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for counts in ((5, 2), (1, 4), (2, 6, 3), (0, 3)):
            done = list(pool.map(lambda count: fleet("scale", "pool", count), counts))
            assert {one.code for one in done} == {0}
            running = [name for name, row in fleet.rows().items() if row["state"] == "running"]
            assert len(running) in counts and running == [f"pool-{n + 1}" for n in range(len(running))], counts
            assert len(ours(fleet)) == len(running)


def test_apply_and_scale_killed_while_another_waits(shop, fleet):  # noqa: F811
    shop()
    fleet.place.write("a.toml", CONFIG + "# other\n")
    first = subprocess.Popen([program("fleet"), "apply", "shop.toml"], env=fleet.place.env, cwd=fleet.place.work,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert first.stdout.readline()
    second = subprocess.Popen([program("fleet"), "scale", "pool", "4"], env=fleet.place.env, cwd=fleet.place.work,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first.kill()
    first.wait()
    first.stdout.close()
    assert ended(second, WAIT) == 0, second.stderr.read()
    second.stdout.close()
    second.stderr.close()
    assert len([name for name in fleet.rows() if name.startswith("pool-")]) == 4


def test_the_names_of_the_release_notes(fleet):  # noqa: F811
    fleet.spawn("a.toml", "--name", "pool", "--count", "2")
    assert fleet("ls").out.splitlines()[1:] and set(json.loads(fleet("ls", "--json").out)) == {"schema_version", "kernels"}
    assert fleet("log", "pool-1", "-n", "1").out
    assert fleet("kill", "pool-1").out == "pool-1: stopped\n"
    assert fleet("stop-all").out == "pool-2: stopped\n"
    assert "not together with --all" in fleet("kill-all", "pool-2", code=2).err
    assert fleet("clean").out.count("forgotten") == 2
    overview = fleet("--help").out
    places = [overview.index(f"\n{title}:\n") for title in ("Changing kernels", "Looking at kernels", "Supervising kernels", "Output")]
    assert places == sorted(places)
    assert "stop-all is stop --all" in fleet("stop", "--help").out and "kill-all" not in fleet("-h").out


def test_the_example_is_a_fleet(fleet):  # noqa: F811
    document = fleet("apply", ROOT / "examples/fleet.toml", "--dry-run", "--json").json()
    assert [row["id"] for row in document["changes"]] == ["front", "pool-1", "pool-2", "pool-3"]
