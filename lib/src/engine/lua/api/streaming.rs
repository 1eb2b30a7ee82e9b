//! `Streaming`

use super::{Section, row};

pub(super) const STREAMING: Section = Section {
    title: "STREAMING",
    about: "Values that are made as they are asked for: a stream runs its function up to the next `Streaming.yield` each time one is wanted, so nothing piles up. An error of the function is raised where the value was asked for, and ends the stream.",
    values: &["stream"],
    rows: &[
        row("Streaming", "", "Streams."),
        row("Streaming.create", "(function) → stream", "A stream of what the function yields, and of what it returns.").example("local s = Streaming.create(function()\n  Streaming.yield('a')\n  return 'b'\nend)\nprint(s:next(), s:next(), s:next(), s:isDone())  --> a	b	nil	true"),
        row("Streaming.from", "(source) → stream", "A stream of the values of a list, or of the first values of an iterator.").example("print(#Streaming.from({1, 2, 3}):collect())  --> 3\nprint(Streaming.from(('a b'):gmatch('%w')):next())  --> a"),
        row("Streaming.yield", "(value) → …", "Hands a value to whoever reads the stream. The same as `coroutine.yield`.").errors("`script` outside of a stream.").example("print(Streaming.create(function() Streaming.yield(1) end):next())  --> 1"),
        row("stream.next", "(self) → value | nil", "The next value; nil at the end."),
        row("stream.isDone", "(self) → boolean", "Whether the function has ended. After the last value that was yielded it has not yet.").example("local s = Streaming.from {1}\nprint(s:next(), s:isDone(), s:next(), s:isDone())  --> 1	false	nil	true"),
        row("stream.collect", "(self [, most]) → list", "All values that are still to come, or so many; nil is none.").example("print(table.concat(Streaming.from({1, 2, 3}):collect(2), ' '))  --> 1 2"),
        row("stream.iter", "(self) → iterator", "For `for`. The stream itself can be called so, too.").example("for word in Streaming.from({'a', 'b'}):iter() do io.write(word) end\nprint()  --> ab"),
        row("stream.each", "(self, function) → integer", "Calls the function with every value, until it returns false; how many there were.").example("print(Streaming.from({1, 2}):each(function(n) end))  --> 2"),
        row("stream.map", "(self, function) → stream", "A stream of what the function makes of each value; nil leaves it out.").example("print(Streaming.from({1, 2}):map(function(n) return n * 10 end):next())  --> 10"),
        row("stream.filter", "(self, function) → stream", "A stream of the values for which the function returns true.").example("print(Streaming.from({1, 2, 3}):filter(function(n) return n > 2 end):next())  --> 3"),
        row("stream.take", "(self, count) → stream", "A stream of the first values.").example("local n = 0\nlocal endless = Streaming.create(function() while true do n = n + 1 Streaming.yield(n) end end)\nprint(#endless:take(3):collect(), n)  --> 3	3"),
        row("stream.close", "(self)", "Ends it; its variables to be closed are.").example("local s = Streaming.from {1, 2}\ns:close()\nprint(s:next(), s:isDone())  --> nil	true"),
    ],
};
