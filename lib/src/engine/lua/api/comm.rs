//! `Comm`

use super::{Section, row};

pub(super) const COMM: Section = Section {
    title: "COMM",
    about: "Messages to and from a widget of a Jupyter client.",
    values: &["comm"],
    rows: &[
        row("Comm", "", "Messages to and from a Jupyter client's widgets."),
        row("Comm.list", "() → table", "The comms that are open: target by id.")
            .example("print(next(Comm.list()))  --> nil"),
        row(
            "Comm.open",
            "(target [, data [, metadata [, buffers]]]) → comm",
            "Opens a comm at the client that runs this script.",
        )
        .errors("`denied` where the client has no comms; `usage` for data that is no table.")
        .example("local comm = Comm.open('progress', {done = 0})\ncomm:send({done = 1})\ncomm:close()"),
        row(
            "Comm.register",
            "(target, function(comm, msg))",
            "Calls the function when a client opens a comm for `target`. `msg` has `data`, `metadata` and `buffers`.",
        )
        .example(
            "Comm.register('echo', function(comm, msg)\n  comm:on_msg(function(msg) comm:send(msg.data) end)\nend)",
        ),
        row("Comm.unregister", "(target)", "A client's comm for `target` is closed at once again.")
            .example("Comm.unregister('echo')"),
        row("comm.close", "(self [, data [, metadata [, buffers]]])", "Closes the comm at both ends."),
        row("comm.id", "", "Its id."),
        row("comm.on_close", "(self, function(msg))", "Calls the function when the client closes the comm.").example(
            "local comm = Comm.open('form', {title = 'Name'})\ncomm:on_close(function(msg) print('closed') end)",
        ),
        row("comm.on_msg", "(self, function(msg))", "Calls the function for every message of the client."),
        row(
            "comm.send",
            "(self, data [, metadata [, buffers]])",
            "Sends data, a table that has a JSON form, and a list of byte strings.",
        ),
        row("comm.target", "", "The target it was opened for."),
    ],
};
