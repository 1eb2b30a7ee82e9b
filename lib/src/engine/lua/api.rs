//! The reference of what scripts find: one row a function or value. Inspection and completion read it.
//!
//! `tool.`, `comm.` and `file.` in lower case are the methods of the values of that kind.

/// One function, table or value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// `string.format`
    pub(super) name: &'static str,
    /// `(format, …) → string`; empty for what is not called.
    pub(super) signature: &'static str,
    /// Markdown.
    pub(super) doc: &'static str,
}

/// The row called `name`.
pub(super) fn entry(name: &str) -> Option<&'static Entry> {
    API.iter().find(|entry| entry.name == name)
}

const fn row(name: &'static str, signature: &'static str, doc: &'static str) -> Entry {
    Entry { name, signature, doc }
}

/// All of it.
pub(super) const API: &[Entry] = &[
    // The basic functions
    row("_G", "", "The table of all globals."),
    row("_VERSION", "", "The version of Lua, `Lua 5.4`."),
    row(
        "ARGS",
        "",
        "The script's arguments: `ARGS[0]` its name, `ARGS[1]` … the plain ones, `ARGS.key` those given as `--key value`. Nil when it was given none.",
    ),
    row("arg", "", "The script's arguments as typed; `arg[0]` is its name. Nil when it was given none."),
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
    ),
    row("loadfile", "(path [, mode [, env]]) → function | nil, message", "Compiles a Lua file without running it."),
    row("next", "(table [, key]) → key, value", "The entry behind `key`; with nil the first one; nil at the end."),
    row("pairs", "(t) → next, t, nil", "Goes through all entries: `for k, v in pairs(t) do … end`. Honours `__pairs`."),
    row("pcall", "(f, …) → true, … | false, error", "Calls `f`; an error becomes a result."),
    row("print", "(…)", "Writes its arguments to standard output, with tabs between and a newline behind."),
    row("rawequal", "(a, b) → boolean", "Compares without `__eq`."),
    row("rawget", "(table, key) → value", "Reads without `__index`."),
    row("rawlen", "(v) → integer", "The length of a table or string without `__len`."),
    row("rawset", "(table, key, value) → table", "Writes without `__newindex`."),
    row(
        "require",
        "(name) → value, path",
        "Loads a module once: looks in the script's folder, then along `package.path`; dots are folders. Returns what the module returned.",
    ),
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
    row("type", "(v) → string", "`nil`, `number`, `string`, `boolean`, `table`, `function`, `thread` or `userdata`."),
    row("warn", "(message, …)", "Emits a warning; `\"@on\"` and `\"@off\"` turn warnings on and off."),
    row(
        "xpcall",
        "(f, handler, …) → true, … | false, …",
        "As `pcall`; an error first goes through `handler`, where the traceback can still be read.",
    ),
    // coroutine
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
    // debug
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
    // io
    row("io", "", "Input and output. Files open as the policy allows; the standard streams are the client's."),
    row("io.close", "([file])", "Closes a file, or the default output."),
    row("io.flush", "()", "Makes what was written to the default output visible."),
    row("io.input", "([file]) → file", "Sets or returns the default input; a string is opened."),
    row("io.lines", "([path, …]) → iterator", "Goes through the lines of a file, which is closed at its end."),
    row(
        "io.open",
        "(path [, mode]) → file | nil, message, number",
        "Opens a file: `r`, `w`, `a`, with `+` for both and `b` behind.",
    ),
    row("io.output", "([file]) → file", "Sets or returns the default output; a string is opened."),
    row(
        "io.popen",
        "(command [, mode]) → file",
        "Starts a shell command and reads its output (`r`) or writes its input (`w`). Needs permission to run `sh`.",
    ),
    row(
        "io.read",
        "(…) → …",
        "Reads from the default input: `l` a line, `L` with its newline, `n` a number, `a` all, or so many bytes. In a notebook the client is asked.",
    ),
    row(
        "io.read_password",
        "([prompt]) → string | nil",
        "Asks the user for a line that is not shown while it is typed: a password or a key. Nil at the end of input. A client that answers no questions makes it an error.",
    ),
    row("io.stderr", "", "Standard error."),
    row("io.stdin", "", "Standard input: the client, when it answers questions."),
    row("io.stdout", "", "Standard output."),
    row("io.tmpfile", "() → file", "A temporary file that goes away by itself."),
    row("io.type", "(v) → string | nil", "`file`, `closed file`, or nil for what is no file."),
    row("io.write", "(…) → file", "Writes strings and numbers to the default output."),
    row("file.close", "(self)", "Closes the file."),
    row("file.flush", "(self) → file", "Makes what was written visible."),
    row("file.lines", "(self, …) → iterator", "Goes through the lines; leaves the file open."),
    row(
        "file.read",
        "(self, …) → …",
        "Reads `l` a line, `L` with its newline, `n` a number, `a` all, or so many bytes.",
    ),
    row("file.seek", "(self [, whence [, offset]]) → position", "Moves to `offset` from `set`, `cur` or `end`."),
    row("file.setvbuf", "(self, mode [, size])", "Buffering: `no`, `full` or `line`."),
    row("file.write", "(self, …) → file", "Writes strings and numbers."),
    // math
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
    // os
    row("os", "", "The system: time, environment, files, commands, as the policy allows."),
    row("os.clock", "() → number", "CPU seconds this process has used."),
    row(
        "os.date",
        "([format [, time]]) → string | table",
        "A time as text by `strftime` format, or as a table with `*t`; `!` in front for UTC.",
    ),
    row("os.difftime", "(a, b) → number", "Seconds from `b` to `a`."),
    row(
        "os.execute",
        "([command]) → true | nil, kind, code",
        "Runs a shell command; its output appears as the script's. Needs permission to run `sh`.",
    ),
    row("os.exit", "([code])", "Ends the script, not the kernel. Anything but 0 and true is a failure."),
    row("os.getenv", "(name) → string | nil", "An environment variable, if the policy shows it."),
    row("os.remove", "(path) → true | nil, message, number", "Removes a file or an empty folder."),
    row("os.rename", "(old, new) → true | nil, message, number", "Renames a file or folder."),
    row("os.setlocale", "([locale]) → string | nil", "Only tells: the locale is `C`."),
    row("os.time", "([table]) → integer", "Seconds since 1970, now or of a table with `year month day hour min sec`."),
    row("os.tmpname", "() → string", "The path of a new empty file for temporary use."),
    // package
    row("package", "", "What `require` uses."),
    row("package.config", "", "Separators used in paths."),
    row("package.loaded", "", "The modules that were loaded, by name."),
    row("package.path", "", "Where `require` looks behind the script's folder: templates with `?`, separated by `;`."),
    row("package.preload", "", "Loaders by module name, asked first."),
    row("package.searchers", "", "The functions by which `require` finds modules."),
    // string
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
    ),
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
    // table
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
    // utf8
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
    ),
    row(
        "utf8.len",
        "(s [, i [, j [, lax]]]) → integer | nil, position",
        "How many characters; nil and where, if it is not UTF-8.",
    ),
    row("utf8.offset", "(s, n [, i]) → integer", "The byte where character number `n` starts."),
    // llmspell
    row("JSON", "", "JSON to and from Lua values."),
    row("JSON.null", "", "JSON's null, where nil would leave nothing."),
    row("JSON.parse", "(text) → value", "A Lua value from JSON text. Null is nil."),
    row(
        "JSON.stringify",
        "(value) → string",
        "JSON text of a value. A table with `[1]` is an array, any other an object.",
    ),
    row(
        "State",
        "",
        "What is remembered, also after the script and the kernel have ended: JSON values by scope and key.",
    ),
    row("State.agent_get", "(id, key) → value", "What was kept for an agent."),
    row("State.agent_set", "(id, key, value)", "Keeps a value for an agent."),
    row("State.cleanup_backups", "([dry_run [, keep]]) → table", "Removes all copies but the newest `keep` (10)."),
    row("State.clear", "(scope) → integer", "Forgets all values of a scope; how many there were."),
    row(
        "State.compare_and_swap",
        "(scope, key, expected, new) → boolean",
        "Replaces the value by `new` if it is `expected`, in one step; whether it was. Nil stands for no value.",
    ),
    row("State.create_backup", "() → table", "Copies the whole store: `{success, backup_id, size_bytes}`."),
    row("State.delete", "(scope, key) → boolean", "Forgets a value; whether there was one."),
    row("State.exists", "(scope, key) → boolean", "Whether there is a value."),
    row("State.get", "(scope, key [, default]) → value", "The same as `State.load`."),
    row("State.get_migration_status", "() → table", "`{current_version}`: the number `State.migrate` counts."),
    row("State.get_storage_usage", "() → table", "`{items, value_bytes, file_bytes}`."),
    row(
        "State.increment",
        "(scope, key [, by]) → number",
        "Adds to a number (1, to 0 if there is none) in one step; the sum.",
    ),
    row("State.list_backups", "() → list", "The copies, oldest first: `{id, size}`."),
    row("State.list_keys", "(scope) → list", "The keys of a scope, in order."),
    row(
        "State.load",
        "(scope, key [, default]) → value",
        "The value, or `default`. In the scope `custom` a key that begins with a colon is a full name, `:SCOPE:KEY`.",
    ),
    row(
        "State.migrate",
        "(version, steps) → table",
        "Calls `steps[n]` for every version after the present one up to `version`, and counts each once it is done.",
    ),
    row("State.restore_backup", "(id) → table", "Makes all values those of a copy."),
    row(
        "State.save",
        "(scope, key, value)",
        "Keeps a value: anything `JSON.stringify` takes. It is safe once this returns.",
    ),
    row(
        "State.save_all",
        "(scope, values)",
        "Keeps every entry of a table under its key, all or none; much faster than one by one.",
    ),
    row("State.set", "(scope, key, value)", "The same as `State.save`."),
    row("State.tool_get", "(id, key) → value", "What was kept for a tool."),
    row("State.tool_set", "(id, key, value)", "Keeps a value for a tool."),
    row("State.validate_backup", "(id) → table", "Whether a copy is whole: `{backup_id, is_valid, error}`."),
    row("State.workflow_get", "(id, step) → value", "What a step of a workflow has left."),
    row("State.workflow_list", "(id) → list", "What the steps of a workflow have left, by name."),
    row(
        "Tool",
        "",
        "The tools of this kernel. `Tool.calculator{input = \"2+2\"}` calls one; `Tool.list()` tells which there are.",
    ),
    row("Tool.categories", "() → list", "The categories of the tools, sorted."),
    row(
        "Tool.discover",
        "([filter]) → list",
        "Tools of a category, or `{category = …, tag = …}`; the tag is looked for in the description.",
    ),
    row("Tool.execute", "(name, params [, options]) → table", "The same as `Tool.invoke`."),
    row("Tool.exists", "(name) → boolean", "Whether there is such a tool."),
    row("Tool.get", "(name) → tool | nil", "A tool as a table that can be called."),
    row("Tool.info", "(name) → table", "All about a tool: summary, parameters, schema, examples."),
    row(
        "Tool.invoke",
        "(name, params [, options]) → table",
        "Runs a tool: `{operation, success, result, …}`. A tool that says no gives `success = false` and `error`; wrong parameters and what the policy denies raise.\n\nOptions: `timeout` (seconds or `\"5s\"`), `on_progress` (a function that gets lines).",
    ),
    row("Tool.list", "([category]) → list", "`{name, description, category, level}` of every tool."),
    row(
        "Tool.search",
        "(words [, category]) → list",
        "Tools whose name, summary or parameters hold the words, best first.",
    ),
    row("Tool.test", "(name) → list", "Runs a tool's examples: `{title, passed, message}` each."),
    row("tool.category", "", "Its category."),
    row("tool.description", "", "What it does, in a sentence."),
    row("tool.execute", "(self, params [, options]) → table", "Runs the tool, as `Tool.invoke`."),
    row("tool.getSchema", "() → table", "The JSON Schema of its parameters."),
    row("tool.invoke", "(params [, options]) → table", "Runs the tool, as `Tool.invoke`."),
    row("tool.name", "", "Its name."),
    row("tool.schema", "", "The JSON Schema of its parameters."),
    row("tool.version", "", "Its version."),
    row("Comm", "", "Messages to and from a Jupyter client's widgets."),
    row("Comm.list", "() → table", "The comms that are open: target by id."),
    row(
        "Comm.open",
        "(target [, data [, metadata [, buffers]]]) → comm",
        "Opens a comm at the client that runs this script.",
    ),
    row(
        "Comm.register",
        "(target, function(comm, msg))",
        "Calls the function when a client opens a comm for `target`. `msg` has `data`, `metadata` and `buffers`.",
    ),
    row("Comm.unregister", "(target)", "A client's comm for `target` is closed at once again."),
    row("comm.close", "(self [, data [, metadata [, buffers]]])", "Closes the comm at both ends."),
    row("comm.id", "", "Its id."),
    row("comm.on_close", "(self, function(msg))", "Calls the function when the client closes the comm."),
    row("comm.on_msg", "(self, function(msg))", "Calls the function for every message of the client."),
    row(
        "comm.send",
        "(self, data [, metadata [, buffers]])",
        "Sends data, a table that has a JSON form, and a list of byte strings.",
    ),
    row("comm.target", "", "The target it was opened for."),
    row("help", "([name])", "Shows what is known of a function, a tool or a value; the name may be given as a string."),
    row(
        "set_next_input",
        "(text [, replace])",
        "Puts `text` into a new cell below this one, or into this one with `replace`.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_unique_and_say_something() {
        let mut names: Vec<_> = API.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for entry in API {
            assert!(entry.doc.ends_with('.') || entry.doc.ends_with('…'), "{}", entry.name);
            assert!(entry.signature.is_empty() || entry.signature.starts_with('('), "{}", entry.name);
        }
    }
}
