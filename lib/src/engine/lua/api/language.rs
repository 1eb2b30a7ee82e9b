//! What Lua has, as the policy allows it: all but `io` and `os`.

use super::{Section, row};

pub(super) const BASE: Section = Section {
    title: "BASIC FUNCTIONS",
    about: "Those of Lua 5.4, without what reads bytecode.",
    values: &[],
    rows: &[
        row("_G", "", "The table of all globals."),
        row("_VERSION", "", "The version of Lua, `Lua 5.4`."),
        row(
            "assert",
            "(v [, message …]) → v, …",
            "Raises `message` when `v` is false or nil; otherwise returns all its arguments.",
        ),
        row(
            "collectgarbage",
            "([option [, arg]])",
            "Controls the garbage collector: `collect`, `stop`, `restart`, `count` (kilobytes in use), `step`, `isrunning`, `incremental`, `generational`.",
        ),
        row("dofile", "(path) → …", "Runs a Lua file and returns what it returns. The policy must allow reading it."),
        row(
            "error",
            "(message [, level])",
            "Raises an error. With a string, the place is put in front: of the caller (`level` 1), of its caller (2), none (0).",
        ),
        row("getmetatable", "(object) → table | nil", "The metatable of a value, or its `__metatable` field."),
        row(
            "ipairs",
            "(t) → iterator, t, 0",
            "Goes through `t[1]`, `t[2]`, … up to the first nil: `for i, v in ipairs(t) do … end`.",
        ),
        row(
            "load",
            "(chunk [, name [, mode [, env]]]) → function | nil, message",
            "Compiles text, or what a function returns piece by piece. No bytecode.",
        ).example("print(load('return 1 + 1')())  --> 2\nprint(load('return return'))  --> nil	[string \"return return\"]:1: unexpected symbol near 'return'"),
        row("loadfile", "(path [, mode [, env]]) → function | nil, message", "Compiles a Lua file without running it."),
        row("next", "(table [, key]) → key, value", "The entry behind `key`; with nil the first one; nil at the end."),
        row(
            "pairs",
            "(t) → next, t, nil",
            "Goes through all entries: `for k, v in pairs(t) do … end`. Honours `__pairs`.",
        ),
        row("pcall", "(f, …) → true, … | false, error", "Calls `f`; an error becomes a result.").example("print(pcall(error, 'no'))  --> false	no"),
        row("print", "(…)", "Writes its arguments to standard output, with tabs between and a newline behind."),
        row("rawequal", "(a, b) → boolean", "Compares without `__eq`."),
        row("rawget", "(table, key) → value", "Reads without `__index`."),
        row("rawlen", "(v) → integer", "The length of a table or string without `__len`."),
        row("rawset", "(table, key, value) → table", "Writes without `__newindex`."),
        row(
            "require",
            "(name) → value, path",
            "Loads a module once: looks in the script's folder, then along `package.path`; dots are folders. Returns what the module returned.",
        ).errors("what the module raises, or that there is none, with the places that were looked at."),
        row(
            "select",
            "(n, …) → …",
            "The arguments from number `n` on, from the end when negative; `select('#', …)` counts them.",
        ),
        row("setmetatable", "(table, metatable) → table", "Sets a table's metatable; nil removes it."),
        row(
            "tonumber",
            "(v [, base]) → number | nil",
            "A number from a string, of a base from 2 to 36 if given; nil when it is none.",
        ),
        row("tostring", "(v) → string", "A value as text. Honours `__tostring` and `__name`."),
        row(
            "type",
            "(v) → string",
            "`nil`, `number`, `string`, `boolean`, `table`, `function`, `thread` or `userdata`.",
        ),
        row("warn", "(message, …)", "Emits a warning; `\"@on\"` and `\"@off\"` turn warnings on and off."),
        row(
            "xpcall",
            "(f, handler, …) → true, … | false, …",
            "As `pcall`; an error first goes through `handler`, where the traceback can still be read.",
        ),
    ],
};

pub(super) const COROUTINE: Section = Section {
    title: "COROUTINE",
    about: "Functions that can pause.",
    values: &[],
    rows: &[
        row("coroutine", "", "Coroutines: functions that can pause."),
        row(
            "coroutine.close",
            "(co) → true | false, error",
            "Closes a suspended or dead coroutine and its variables to be closed.",
        ),
        row("coroutine.create", "(f) → thread", "A new coroutine that will run `f`."),
        row("coroutine.isyieldable", "([co]) → boolean", "Whether the coroutine can yield."),
        row(
            "coroutine.resume",
            "(co, …) → true, … | false, error",
            "Starts or continues a coroutine; returns what it yields or returns.",
        ),
        row("coroutine.running", "() → thread, boolean", "The running coroutine, and whether it is the main one."),
        row("coroutine.status", "(co) → string", "`running`, `suspended`, `normal` or `dead`."),
        row(
            "coroutine.wrap",
            "(f) → function",
            "A function that resumes a new coroutine each time it is called; errors are raised.",
        ),
        row("coroutine.yield", "(…) → …", "Pauses the coroutine; returns what it is resumed with."),
    ],
};

pub(super) const DEBUG: Section = Section {
    title: "DEBUG LIBRARY",
    about: "Of Lua's debug library only what looks.",
    values: &[],
    rows: &[
        row("debug", "", "What only looks: a part of Lua's debug library."),
        row(
            "debug.getinfo",
            "([thread,] f [, what]) → table",
            "Where a function or a level of the stack comes from: `source`, `currentline`, `name`, `nparams` …",
        ),
        row(
            "debug.getlocal",
            "([thread,] f, n) → name, value",
            "A local variable of a level of the stack, or the name of a function's parameter.",
        ),
        row("debug.traceback", "([thread,] [message [, level]]) → string", "The calls that lead here, as text."),
    ],
};

pub(super) const MATH: Section = Section {
    title: "MATH",
    about: "Mathematics; with the functions Lua 5.4 itself has dropped.",
    values: &[],
    rows: &[
        row("math", "", "Mathematics."),
        row("math.abs", "(x) → number", "The absolute value."),
        row("math.acos", "(x) → number", "Arc cosine, in radians."),
        row("math.asin", "(x) → number", "Arc sine, in radians."),
        row("math.atan", "(y [, x]) → number", "Arc tangent of `y/x`, in radians, in the right quadrant."),
        row("math.ceil", "(x) → integer", "The smallest integer not below `x`."),
        row("math.cos", "(x) → number", "Cosine of an angle in radians."),
        row("math.deg", "(x) → number", "Degrees from radians."),
        row("math.exp", "(x) → number", "e to the power of `x`."),
        row("math.floor", "(x) → integer", "The largest integer not above `x`."),
        row("math.fmod", "(x, y) → number", "The remainder of `x/y`, rounded towards zero."),
        row("math.atan2", "(y, x) → number", "The old name of `math.atan` with two arguments."),
        row("math.cosh", "(x) → number", "Hyperbolic cosine."),
        row("math.frexp", "(x) → m, e", "`m` and `e` such that `x = m * 2 ^ e`."),
        row("math.ldexp", "(m, e) → number", "`m * 2 ^ e`."),
        row("math.log10", "(x) → number", "The logarithm to base 10."),
        row("math.pow", "(x, y) → number", "The old way to write `x ^ y`."),
        row("math.sinh", "(x) → number", "Hyperbolic sine."),
        row("math.tanh", "(x) → number", "Hyperbolic tangent."),
        row("math.huge", "", "Infinity."),
        row("math.log", "(x [, base]) → number", "The logarithm; natural without a base."),
        row("math.max", "(x, …) → number", "The largest argument."),
        row("math.maxinteger", "", "The largest integer, 2^63 - 1."),
        row("math.min", "(x, …) → number", "The smallest argument."),
        row("math.mininteger", "", "The smallest integer, -2^63."),
        row("math.modf", "(x) → number, number", "The integral and the fractional part."),
        row("math.pi", "", "π."),
        row("math.rad", "(x) → number", "Radians from degrees."),
        row(
            "math.random",
            "([m [, n]]) → number",
            "A random number from 0 to 1, an integer from 1 to `m`, or from `m` to `n`.",
        ),
        row("math.randomseed", "([x [, y]])", "Seeds the generator; without arguments at random."),
        row("math.sin", "(x) → number", "Sine of an angle in radians."),
        row("math.sqrt", "(x) → number", "The square root."),
        row("math.tan", "(x) → number", "Tangent of an angle in radians."),
        row("math.tointeger", "(x) → integer | nil", "`x` as an integer, if it is one."),
        row("math.type", "(x) → string | nil", "`integer`, `float`, or nil for what is no number."),
        row("math.ult", "(m, n) → boolean", "Whether `m < n` as unsigned integers."),
    ],
};

pub(super) const PACKAGE: Section = Section {
    title: "PACKAGE",
    about: "Modules: only Lua text, no C libraries.",
    values: &[],
    rows: &[
        row("package", "", "What `require` uses."),
        row("package.config", "", "Separators used in paths."),
        row("package.loaded", "", "The modules that were loaded, by name."),
        row(
            "package.path",
            "",
            "Where `require` looks behind the script's folder: templates with `?`, separated by `;`.",
        ),
        row("package.preload", "", "Loaders by module name, asked first."),
        row("package.searchers", "", "The functions by which `require` finds modules."),
    ],
};

pub(super) const STRING: Section = Section {
    title: "STRING",
    about: "Text, byte by byte.",
    values: &[],
    rows: &[
        row("string", "", "Text. All of it can be called as a method: `(\"x\"):rep(3)`."),
        row("string.byte", "(s [, i [, j]]) → integer, …", "The bytes from `i` to `j`; the first one without."),
        row("string.char", "(…) → string", "A string of these bytes."),
        row(
            "string.find",
            "(s, pattern [, init [, plain]]) → start, end, … | nil",
            "The first match of a pattern and its captures; `plain` looks for the text as it stands.",
        ),
        row(
            "string.format",
            "(format, …) → string",
            "Formats as C's printf does: `%d %5.2f %s %q %x`; `%q` writes a value as Lua reads it.",
        )
        .example("print(('%5.2f|%q'):format(math.pi, 'a\\nb'):gsub('\\n', 'n'))  -->  3.14|\"a\\nb\"	1"),
        row("string.gmatch", "(s, pattern [, init]) → iterator", "Goes through all matches of a pattern."),
        row(
            "string.gsub",
            "(s, pattern, replacement [, n]) → string, integer",
            "Replaces matches by a text with `%1`, from a table, or by a function; also returns how many.",
        ),
        row("string.len", "(s) → integer", "The length in bytes, `#s`."),
        row("string.lower", "(s) → string", "In lower case."),
        row("string.match", "(s, pattern [, init]) → … | nil", "The captures of the first match, or the match itself."),
        row("string.pack", "(format, …) → string", "Values as binary data: `<i4`, `>I2`, `s4`, `z`, `d` …"),
        row("string.packsize", "(format) → integer", "How long `string.pack` makes it."),
        row("string.rep", "(s, n [, separator]) → string", "`n` times `s`."),
        row("string.reverse", "(s) → string", "The bytes in reverse order."),
        row("string.sub", "(s, i [, j]) → string", "The bytes from `i` to `j`; negative ones count from the end."),
        row(
            "string.unpack",
            "(format, s [, position]) → …, position",
            "Values from binary data; the opposite of `string.pack`.",
        ),
        row("string.upper", "(s) → string", "In upper case."),
    ],
};

pub(super) const TABLE: Section = Section {
    title: "TABLE",
    about: "Lists.",
    values: &[],
    rows: &[
        row("table", "", "Lists."),
        row(
            "table.concat",
            "(list [, separator [, i [, j]]]) → string",
            "The strings and numbers of a list as one string.",
        ),
        row(
            "table.insert",
            "(list, [position,] value)",
            "Puts a value at the end or at a position; what is behind moves up.",
        ),
        row("table.move", "(a, from, end, to [, b]) → table", "Copies `a[from..end]` to `to`, in `b` if given."),
        row("table.pack", "(…) → table", "The arguments as a list, with their number as `n`."),
        row(
            "table.remove",
            "(list [, position]) → value",
            "Takes out the last value or the one at a position; what is behind moves down.",
        ),
        row("table.sort", "(list [, less])", "Sorts in place, by `<` or by `less(a, b)`."),
        row("table.unpack", "(list [, i [, j]]) → …", "The values of a list as results."),
    ],
};

pub(super) const UTF8: Section = Section {
    title: "UTF8",
    about: "Text, character by character.",
    values: &[],
    rows: &[
        row("utf8", "", "UTF-8."),
        row("utf8.char", "(…) → string", "A string of these code points."),
        row("utf8.charpattern", "", "A pattern for one character."),
        row(
            "utf8.codepoint",
            "(s [, i [, j [, lax]]]) → integer, …",
            "The code points of the characters from byte `i` to `j`.",
        ),
        row(
            "utf8.codes",
            "(s [, lax]) → iterator",
            "Goes through positions and code points: `for p, c in utf8.codes(s) do … end`.",
        )
        .example("for p, c in utf8.codes('aé') do print(p, c) end\n--> 1	97\n--> 2	233"),
        row(
            "utf8.len",
            "(s [, i [, j [, lax]]]) → integer | nil, position",
            "How many characters; nil and where, if it is not UTF-8.",
        ),
        row("utf8.offset", "(s, n [, i]) → integer", "The byte where character number `n` starts."),
    ],
};
