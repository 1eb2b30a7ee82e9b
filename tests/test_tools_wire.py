"""Tools over the wire: every command, many at once, limits, cancellation; and that they delay nothing else."""
import pytest
from conftest import WAIT, tools

TOOLS = tools()


@pytest.fixture
def slow(kernel, server, place):
    """slow(config="", **kernel options): a kernel that may reach the server, and a wire to it."""

    def slow(config=""):
        place.config(config)
        return kernel(f"--allow-net={server.host}").wire()

    return slow


def call(wire, server, path="/slow", **more):
    content = {"command": "invoke", "name": "http_request", "params": {"url": server.url + path}, **more}
    return wire.send("shell", "tool_request", content)


def test_list(kernel):
    wire = kernel().wire()
    reply = wire.tool("list")
    assert reply["status"] == "ok" and reply["count"] == len(TOOLS)
    assert [tool["name"] for tool in reply["tools"]] == TOOLS
    assert all(tool["summary"] and tool["category"] and tool["level"] for tool in reply["tools"])
    some = wire.tool("list", category="filesystem")
    assert {"file_operations", "file_search"} <= {tool["name"] for tool in some["tools"]} < set(TOOLS)
    refused = wire.tool("list", category="nonsense")
    assert (refused["status"], refused["class"]) == ("error", "not_found")


@pytest.mark.parametrize("name", TOOLS)
def test_info_and_test(kernel, name):
    wire = kernel().wire()
    info = wire.tool("info", name=name)
    assert info["status"] == "ok" and info["name"] == name and info["schema"]["type"] == "object" and info["examples"]
    tested = wire.tool("test", name=name)
    assert tested["success"] is True and tested["cases"], tested


def test_invoke(kernel):
    reply = kernel().wire().tool("invoke", name="calculator", params={"expression": "2 + 2 * 3"})
    assert (reply["status"], reply["success"], reply["tool"]) == ("ok", True, "calculator")
    assert reply["result"]["result"] == 8 and reply["duration_ms"] > 0


def test_search(kernel):
    wire = kernel().wire()
    for query in ("hash", ["hash"]):
        assert wire.tool("search", query=query)["matches"][0]["name"] == "hash_calculator"
    assert wire.tool("search", query="xyzzy")["matches"] == []


@pytest.mark.parametrize("request_,class_,words", [
    ({"command": "frob"}, "usage", "frob"),
    ({"command": "info"}, "usage", "name"),
    ({"command": "invoke"}, "usage", "name"),
    ({"command": "invoke", "name": "calcluator"}, "not_found", "calcluator"),
    ({"command": "invoke", "name": "calculator", "params": []}, "usage", "not an object"),
    ({"command": "invoke", "name": "calculator", "params": {}}, "usage", "missing"),
    ({"command": "invoke", "name": "calculator", "params": {"expression": 5}}, "usage", "not a string"),
    ({"command": "invoke", "name": "calculator", "params": {"inptu": "1"}}, "usage", "did you mean"),
    ({"command": "invoke", "name": "calculator", "params": {"expression": "1 +"}}, "tool", "calculator"),
    ({"command": "invoke", "name": "file_operations", "params": {"operation": "read", "path": "/etc/shadow"}}, "denied", "/etc/shadow"),
    ({"command": "invoke", "name": "http_request", "params": {"url": "http://127.0.0.1:1/"}}, "denied", "127.0.0.1"),
    ({"command": "invoke", "name": "http_request", "params": {"url": "http://169.254.169.254/"}}, "denied", "169.254.169.254"),
    ({"command": "list", "timeout": 0}, "usage", "timeout"),
    ({"command": "list", "timeout": -1}, "usage", "timeout"),
])
def test_refusals(kernel, request_, class_, words):
    wire = kernel().wire()
    reply = wire.ask("shell", "tool_request", request_).content
    assert (reply["status"], reply["class"], reply["success"]) == ("error", class_, False), reply
    assert words in reply["evalue"] + (reply.get("hint") or "") and reply["error_type"]
    assert wire.tool("list")["status"] == "ok"


def test_unknown_tool_has_a_suggestion(kernel):
    assert "calculator" in kernel().wire().tool("invoke", name="calcluator")["hint"]


def test_slow_tools_delay_nothing(slow, server):
    wire = slow()
    headers = [call(wire, server) for _ in range(8)]
    for _ in headers:
        server.wait()
    assert wire.stdout("print('script')") == "script\n"
    assert wire.tool("invoke", name="calculator", params={"expression": "1+1"})["result"]["result"] == 2
    status = wire.ask("control", "status_request").content
    assert status["tools"]["running"] == 8 and status["busy"] is False
    server.release.set()
    done = {wire.recv("shell").parent["msg_id"] for _ in headers}
    assert done == {header["msg_id"] for header in headers}


def test_a_busy_script_delays_no_tool(slow, server):
    wire = slow()
    header = wire.begin("print('go') io.flush() while true do end")
    assert wire.tool("invoke", name="http_request", params={"url": server.url + "/hello"})["result"]["status_code"] == 200
    wire.ask("control", "interrupt_request")
    wire.reply("shell", header)


def test_no_more_than_max_concurrent_tools_at_once(slow, server):
    wire = slow("[kernel.tools]\nmax_concurrent_tools = 2\n")
    headers = [call(wire, server, f"/slow/{n}") for n in range(4)]
    server.wait(), server.wait()
    # A full pool holds up neither scripts nor control, and those that wait can be cancelled.
    assert wire.stdout("print('script')") == "script\n"
    assert server.arrived.empty()
    wire.ask("control", "interrupt_request", {"msg_id": headers[3]["msg_id"]})
    assert wire.reply("shell", headers[3]).content["class"] == "interrupted"
    server.release.set()
    assert {wire.recv("shell").content["status"] for _ in range(3)} == {"ok"}


def test_timeout_of_the_request(slow, server):
    wire = slow()
    header = call(wire, server, timeout=0.3)
    server.wait()
    assert wire.reply("shell", header).content["class"] == "timeout"
    assert wire.ask("control", "status_request").content["tools"]["running"] == 0


def test_timeout_of_the_configuration(slow, server):
    wire = slow('[kernel.tools]\ntool_timeout = "300ms"\n')
    assert wire.reply("shell", call(wire, server)).content["class"] == "timeout"


def test_cancel_by_interrupt_request(slow, server):
    wire = slow()
    cancelled, other = call(wire, server), call(wire, server)
    server.wait(), server.wait()
    assert wire.ask("control", "interrupt_request", {"msg_id": cancelled["msg_id"]}).content["status"] == "ok"
    reply = wire.reply("shell", cancelled).content
    assert (reply["status"], reply["class"], reply["error_type"]) == ("error", "interrupted", "cancelled")
    assert wire.published(cancelled)[-1].content["execution_state"] == "idle"
    server.release.set()
    assert wire.reply("shell", other).content["status"] == "ok"


def test_shutdown_does_not_wait_for_tools(slow, server):
    wire = slow()
    header = call(wire, server)
    server.wait()
    assert wire.ask("control", "shutdown_request").content["status"] == "ok"
    assert wire.reply("shell", header).content["status"] == "error"


def test_tool_requests_can_be_turned_off(kernel, place):
    place.config("[kernel.tools]\nenable_tool_cli = false\n")
    wire = kernel().wire()
    for command in ("list", "info", "invoke", "search", "test"):
        reply = wire.tool(command, name="calculator")
        assert (reply["status"], reply["class"]) == ("error", "denied"), reply
    assert wire.stdout("print(Tool.get('calculator'):execute({expression = '1+1'}).result.result)") == "2\n"


def test_relative_paths_start_in_the_callers_folder(kernel, place):
    place.write("sub/a.txt", "inside")
    wire = kernel().wire()
    read = {"operation": "read", "path": "a.txt"}
    reply = wire.tool("invoke", name="file_operations", params=read, cwd=str(place.work / "sub"))
    assert reply["text"] == "inside"
    assert wire.tool("invoke", name="file_operations", params=read)["class"] == "not_found"
    assert wire.tool("invoke", name="file_operations", params=read, cwd="/etc")["status"] == "error"


@pytest.mark.parametrize("path", ["../home/config.toml", "link", "/proc/self/environ"])
def test_no_way_out_of_the_working_folder(kernel, place, path):
    place.config("")
    (place.work / "link").symlink_to(place.home / "config.toml")
    reply = kernel().wire().tool("invoke", name="file_operations", params={"operation": "read", "path": path})
    assert (reply["status"], reply["class"]) == ("error", "denied"), reply


def test_the_keys_are_out_of_reach_of_every_tool_and_script(kernel, place):
    one = kernel("--profile", "privileged")
    wire = one.wire()
    reply = wire.tool("invoke", name="file_operations", params={"operation": "read", "path": str(one.file)})
    assert (reply["status"], reply["class"]) == ("error", "denied"), reply
    assert "denied\n" == wire.stdout(f"print(io.open('{one.file}') or 'denied')")


def test_many_tools_from_many_clients(kernel):
    one = kernel()
    wires = [one.wire() for _ in range(4)]
    sent = [(wire, n, wire.send("shell", "tool_request", {"command": "invoke", "name": "calculator", "params": {"expression": f"{n}+1"}}))
            for n in range(50) for wire in wires]
    results = {wire: {} for wire in wires}
    for wire in wires:
        for _ in range(50):
            message = wire.recv("shell", WAIT)
            results[wire][message.parent["msg_id"]] = message.content["result"]["result"]
    assert all(results[wire][header["msg_id"]] == n + 1 for wire, n, header in sent)
