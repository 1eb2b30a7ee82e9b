"""The console of llmspell-run(1) in a pseudo-terminal: in its own process and on a running kernel."""
import re
import stat
import time

import pexpect
import pytest
from conftest import WAIT, program

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])")


class Sitting:
    """Somebody at a terminal. What is expected is looked for in what is seen after the last thing found."""

    def __init__(self, place, *args, env=None):
        env = {**place.env, "TERM": "xterm-256color", "NO_COLOR": "1", **(env or {})}
        self.child = pexpect.spawn(program("run"), [str(arg) for arg in args], env=env, cwd=str(place.work), timeout=WAIT,
                                   encoding="utf-8", dimensions=(50, 160))
        self.number = 0

    def prompt(self, number=None):
        """Waits for the next prompt; what is seen up to it, without what colours and moves."""
        self.number = number or self.number + 1
        self.child.expect_exact(f"[{self.number}]> ")
        seen = ESCAPES.sub("", self.child.before).replace("\r", "")
        # The editor is ready once the prompt is drawn as a whole.
        self.child.expect_exact("\x1b[?2026l")
        return seen

    def send(self, text):
        self.child.send(text)

    def type(self, text):
        self.send(text + "\r")

    def paste(self, text):
        """As terminals do it, and Enter."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    def does(self, text, counts=True):
        """Types an input; what is seen up to the next prompt."""
        self.type(text)
        return self.prompt(None if counts else self.number)

    def sees(self, text):
        self.child.expect_exact(text)

    def ends(self, code=0):
        self.child.expect(pexpect.EOF)
        seen = ESCAPES.sub("", self.child.before).replace("\r", "")
        self.child.close()
        assert (self.child.exitstatus, self.child.signalstatus) == (code, None), seen
        return seen


@pytest.fixture
def sit(place):
    sittings = []

    def sit(*args, **options):
        sittings.append(Sitting(place, *args, **options))
        sittings[-1].prompt()
        return sittings[-1]

    yield sit
    for sitting in sittings:
        sitting.child.close(force=True)


@pytest.fixture(params=["here", "kernel"])
def where(request, kernel):
    """Flags of a console in its own process, and on a running kernel: both must behave the same."""
    return [] if request.param == "here" else ["--kernel", kernel().id]


def test_values_output_and_errors(sit, where):
    console = sit(*where)
    assert "42\n" in console.does("6 * 7")
    assert "{1, 2, x = 3}\n" in console.does("t = {1, 2, x = 3}; t")
    seen = console.does("print('out') io.stderr:write('err\\n') io.write('open')")
    # A line that was not ended is.
    assert "out\nerr\nopen\n" in seen
    assert "nil" not in console.does("x = 1")
    console.paste("local function f()\rerror('no')\rend f()")
    seen = console.prompt()
    assert "[5]:2: no\n" in seen and "error('no')" in seen and "stack traceback:" in seen
    assert "1\n" in console.does("x")
    assert "[7]:1:" in console.does("= =")
    # The end is the user's.
    console.send("\x04")
    console.ends()


def test_a_block_is_read_to_its_end_and_indented(sit, where):
    console = sit(*where)
    console.type("for i = 1, 2 do")
    console.type("print('i' .. i)")
    console.sees("  print('i' .. i)")
    console.type("end")
    assert "i1\ni2\n" in console.prompt()
    # As one entry of the history.
    console.send("\x1b[A")
    console.sees("for i = 1, 2 do")
    console.sees("end")
    console.send("\r")
    assert "i1\ni2\n" in console.prompt()
    # Ctrl-C gets out of one.
    console.type("while true do")
    console.send("\x03")
    console.prompt(console.number)
    assert "3\n" in console.does("1 + 2")


def test_ctrl_c_stops_a_script_and_clears_a_line(sit, where):
    console = sit(*where)
    console.type("print('go') while true do end")
    console.sees("go\r\n")
    console.child.sendintr()
    assert "interrupted" in console.prompt()
    console.send("garbage(")
    console.sees("garbage(")
    console.send("\x03")
    console.prompt(console.number)
    assert "5\n" in console.does("2 + 3")
    # While it asks, too.
    console.type("print('ask') io.read()")
    console.sees("ask\r\n")
    console.child.sendintr()
    assert "interrupted" in console.prompt()
    assert "7\n" in console.does("3 + 4")


@pytest.mark.parametrize("pause", [0, 0.0003, 0.001, 0.003, 0.01, 0.03])
def test_ctrl_c_right_behind_enter_is_not_lost(sit, where, pause):
    console = sit(*where)
    console.child.delaybeforesend = None
    for number in range(1, 21):
        console.send("while true do end\r")
        time.sleep(pause)
        console.send("\x03")
        # A terminal may take the line away together with Ctrl-C; then nothing ran.
        console.child.expect(r"\[(\d+)\]> ")
        console.sees("\x1b[?2026l")
        console.send(f"'still ' .. {number}\r")
        console.sees(f"still {number}\r\n")
        console.child.expect(r"\[(\d+)\]> ")
        console.sees("\x1b[?2026l")


def test_completion(sit, where):
    console = sit(*where)
    console.does("my_very_long_name = 'found'")
    console.send("my_very_\t")
    console.sees("my_very_long_name")
    console.send("\r")
    assert "found\n" in console.prompt()
    console.send("string.re\t\t")
    console.sees("rep ")
    console.sees("reverse")
    console.send("\x03")
    console.prompt(console.number)
    console.send(".he\t\r")
    console.sees(".inspect NAME")


def test_questions(sit, where):
    console = sit(*where)
    console.type("io.write('name? ') n = io.read() print('hello ' .. n)")
    console.sees("name? ")
    console.send("you\n")
    assert "hello you\n" in console.prompt()
    console.type("p = io.read_password('secret: ') print(#p)")
    console.sees("secret: ")
    console.child.waitnoecho(WAIT)
    console.send("hunter2\n")
    seen = console.prompt()
    assert "7\n" in seen and "hunter2" not in seen
    assert console.child.getecho() is False  # the editor's, which draws what is typed
    assert "hunter2" in console.does("p")


def test_commands(sit, place, where):
    console = sit(*where)
    seen = console.does(".help", counts=False)
    assert ".inspect NAME" in seen and "Ctrl-R" in seen
    assert "calculator" in console.does(".tools", counts=False)
    seen = console.does(".tools hash", counts=False)
    assert "hash_calculator" in seen and "http_request" not in seen
    assert "(format, …) → string" in console.does("string.format?", counts=False)
    console.paste("-- Doubles.\rfunction double(x) return 2 * x end")
    console.prompt()
    assert "Doubles." in console.does(".inspect double", counts=False)
    assert "return 2 * x" in console.does("double??", counts=False)
    assert "nothing is known" in console.does(".inspect nowhere", counts=False)
    place.write("add.lua", "function add(a, b) return a + b end print('loaded', arg[0])")
    assert "loaded\tadd.lua" in console.does(".load add.lua", counts=False).expandtabs(1).replace("loaded add", "loaded\tadd")
    assert "5\n" in console.does("add(2, 3)")
    assert "no such file" in console.does(".load none.lua", counts=False)
    console.does(".save typed.lua", counts=False)
    assert (place.work / "typed.lua").read_text() == "-- Doubles.\nfunction double(x) return 2 * x end\nadd(2, 3)\n"
    assert "exists already" in console.does(".save typed.lua", counts=False)
    assert "Did you mean .help?" in console.does(".hepl", counts=False)
    seen = console.does(".reset", counts=False)
    if where:
        assert "others may use it" in seen
        assert "7\n" in console.does("add(3, 4)")
    else:
        assert "nil value" in console.does("add(3, 4)")
    console.type(".quit")
    console.ends()


def test_the_history_outlives_the_console(sit, place, where):
    console = sit(*where)
    console.does("remembered = 11")
    console.type(".quit")
    console.ends()
    file = place.home / "history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and "remembered = 11" in file.read_text()
    again = Sitting(place, *where)
    again.prompt(2 if where else 1)
    again.send("\x1b[A\x1b[A")
    again.sees("remembered = 11")
    again.send("\x03")
    again.prompt(again.number)
    again.type("os.exit(3)")
    again.ends(3)


def test_colours(sit, where):
    console = sit(*where, env={"NO_COLOR": ""})
    console.type("error('no')")
    console.sees("\x1b[1;31mLuaError\x1b[0m: [1]:1: no")
    console.sees("\x1b[1;32m-->")


def test_the_next_input_is_proposed(sit, where):
    console = sit(*where)
    console.does("set_next_input('6 * 7')")
    console.send("\r")
    assert "42\n" in console.prompt()
    assert "(format, …)" in console.does("help('string.format')")


def test_output_is_seen_as_it_comes(sit, where):
    console = sit(*where)
    console.type("io.write('begun') io.read() print('ended')")
    console.sees("begun")
    console.send("\n")
    assert "ended\n" in console.prompt()


def test_a_signal_ends_the_console_and_leaves_the_terminal_as_it_was(sit, where):
    console = sit(*where)
    console.child.kill(15)
    seen = console.ends(130)
    assert "ended by a signal" in seen


def test_a_signal_ends_a_script_and_the_console(sit, where):
    console = sit(*where)
    console.type("print('go') while true do end")
    console.sees("go\r\n")
    console.child.kill(15)
    assert "interrupted" in console.ends(130)


def test_a_script_that_does_not_stop_ends_with_the_console(sit):
    console = sit()
    console.type("print('go') setmetatable({}, {__gc = function() while true do end end}) collectgarbage()")
    console.sees("go\r\n")
    console.child.sendintr()
    console.sees("the script does not stop; Ctrl-C again ends the console")
    console.child.sendintr()
    assert "ending without it" in console.ends(130)


def test_a_script_outside_of_the_console_asks_for_a_password_as_well(place, where):
    sitting = Sitting(place, *where, "-e", "p = io.read_password() print(#p)")
    sitting.sees("Password: ")
    assert sitting.child.waitnoecho(WAIT)
    sitting.send("hunter2\n")
    seen = sitting.ends()
    assert "7\n" in seen and "hunter2" not in seen


def test_a_terminal_that_can_do_nothing(place):
    sitting = Sitting(place, env={"TERM": "dumb"})
    sitting.sees("[1]> ")
    sitting.send("6 * 7\n")
    sitting.sees("42\r\n")
    sitting.send(".quit\n")
    sitting.ends()


def test_the_end_of_the_kernel_is_told_at_once(sit, kernel):
    one = kernel()
    console = sit("--kernel", one.id)
    one.kill()
    assert "went away" in console.ends(8)
    other = kernel("--id", "other")
    console = sit("--kernel", "other")
    console.type("print('go') while true do end")
    console.sees("go\r\n")
    other.kill()
    assert "kernel other: went away" in console.ends(8)


def test_a_busy_kernel_does_not_hold_the_console_up(sit, kernel):
    one = kernel()
    console = sit("--kernel", one.id)
    wire = one.wire()
    wire.begin("print('go') while true do end")
    console.send("str\t")
    console.send("\x03")
    console.prompt(console.number)
    # What it typed waits for its turn, and can be stopped without stopping the other.
    console.type("1 + 1")
    console.sees("\x1b[?2004l")
    while not one.status()["queue"]:
        pass
    console.child.sendintr()
    assert "interrupted" in console.prompt()
    assert one.status()["busy"]
    wire.ask("control", "interrupt_request")


def test_without_a_terminal_the_script_is_standard_input(run):
    done = run("run", input="print('piped', arg[0])")
    assert (done.code, done.out, done.err) == (0, "piped\t-\n", "")


def test_json_is_for_programs(place):
    sitting = Sitting(place, "--json")
    assert "--json: the console is for people" in sitting.ends(2)
