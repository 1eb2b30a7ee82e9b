//! `io` and `os`: what reaches files, programs and the environment, through the policy.

use super::{Section, row};

pub(super) const IO: Section = Section {
    title: "IO",
    about: "Files open as the policy allows; the standard streams are the client's.",
    values: &["file"],
    rows: &[
        row("io", "", "Input and output. Files open as the policy allows; the standard streams are the client's."),
        row("io.close", "([file])", "Closes a file, or the default output."),
        row("io.flush", "()", "Makes what was written to the default output visible."),
        row("io.input", "([file]) → file", "Sets or returns the default input; a string is opened."),
        row("io.lines", "([path, …]) → iterator", "Goes through the lines of a file, which is closed at its end.").example("local file = io.open('t.txt', 'w') file:write('one\\ntwo\\n') file:close()\nfor line in io.lines('t.txt') do print(line) end\n--> one\n--> two"),
        row(
            "io.open",
            "(path [, mode]) → file | nil, message, number",
            "Opens a file: `r`, `w`, `a`, with `+` for both and `b` behind.",
        ).errors("`usage` for no such mode. What the policy denies is the message, an error value that `assert` raises.").example("local file = assert(io.open('notes.txt', 'w'))\nfile:write('kept\\n')\nfile:close()\nlocal none, message = io.open('/etc/shadow')\nprint(message.class)  --> denied"),
        row("io.output", "([file]) → file", "Sets or returns the default output; a string is opened."),
        row(
            "io.popen",
            "(command [, mode]) → file",
            "Starts a shell command and reads its output (`r`) or writes its input (`w`). Needs permission to run `sh`.",
        ).errors("`denied`, unless `sh` may be run.").example("local ok, err = pcall(io.popen, 'date')\nprint(ok, err.class)  --> false	denied"),
        row(
            "io.read",
            "(…) → …",
            "Reads from the default input: `l` a line, `L` with its newline, `n` a number, `a` all, or so many bytes. In a notebook the client is asked.",
        ).errors("`denied` where the client answers no questions.").example("local line = io.read('l')\nprint(line)  --> typed"),
        row(
            "io.read_password",
            "([prompt]) → string | nil",
            "Asks the user for a line that is not shown while it is typed: a password or a key. Nil at the end of input. A client that answers no questions makes it an error.",
        ).errors("`denied` where the client answers no questions.").example("local key = io.read_password('Key: ')\nprint(#key)  --> 5"),
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
    ],
};

pub(super) const OS: Section = Section {
    title: "OS",
    about: "Time, environment, files and commands, as the policy allows.",
    values: &[],
    rows: &[
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
        )
        .errors("`denied`, unless `sh` may be run.")
        .example("local ok, err = pcall(os.execute, 'true')\nprint(ok, err.class)  --> false	denied"),
        row("os.exit", "([code])", "Ends the script, not the kernel. Anything but 0 and true is a failure.")
            .example("if #arg == 0 then os.exit(2) end"),
        row("os.getenv", "(name) → string | nil", "An environment variable, if the policy shows it.")
            .example("print(os.getenv('OPENAI_API_KEY'))  --> nil"),
        row("os.remove", "(path) → true | nil, message, number", "Removes a file or an empty folder.")
            .example("print(os.remove('no such file'))  --> nil	no such file: No such file or directory	2"),
        row("os.rename", "(old, new) → true | nil, message, number", "Renames a file or folder."),
        row("os.setlocale", "([locale]) → string | nil", "Only tells: the locale is `C`."),
        row(
            "os.time",
            "([table]) → integer",
            "Seconds since 1970, now or of a table with `year month day hour min sec`.",
        )
        .example("print(os.date('!%Y', os.time {year = 2020, month = 7, day = 1}))  --> 2020"),
        row("os.tmpname", "() → string", "The path of a new empty file for temporary use."),
    ],
};
