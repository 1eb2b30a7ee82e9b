//! `Logger`

use super::{Section, row};

pub(super) const LOGGER: Section = Section {
    title: "LOGGER",
    about: "Lines in the log of the kernel, beside its own: with its format, its files, its rotation, and secrets masked. What a script logs is of the module `script`, what a named logger logs of `script::NAME`; `[log]` and `[log.modules]` of llmspell.toml(5) say which levels are written. Nothing of it is output of the script.\n\nFields are a table of names and values; JSON lines have them as `fields`, others behind the message as `name=value`. A table in it becomes JSON text.",
    values: &["logger"],
    rows: &[
        row("Logger", "", "The log."),
        row("Logger.trace", "(message [, fields])", "Logs at the level `trace`.").example("Logger.trace('every step', {n = 1})"),
        row("Logger.debug", "(message [, fields])", "Logs at the level `debug`.").example("Logger.debug('read', {bytes = 512})"),
        row("Logger.info", "(message [, fields])", "Logs at the level `info`.").example("Logger.info('order stored', {order = 4711, user = 'ada'})"),
        row("Logger.warn", "(message [, fields])", "Logs at the level `warn`.").example("Logger.warn('slow answer', {ms = 1200})"),
        row("Logger.error", "(message [, fields])", "Logs at the level `error`.").example("Logger.error('order lost', {order = 4711})"),
        row("Logger.log", "(level, message [, fields])", "Logs at a level given by its name, or its number from 0 (`off`) to 5 (`trace`).").example("Logger.log('info', 'begun')\nprint(pcall(Logger.log, 'loud', 'x'))  --> false	Logger.log: \"loud\" is no level"),
        row("Logger.enabled", "(level) → boolean", "Whether a line of this level is written, for what costs something to put together.").example("if Logger.enabled('debug') then Logger.debug(JSON.stringify({1, 2, 3})) end"),
        row("Logger.get", "(name) → logger", "A logger for a part of the script; its methods are those of `Logger`.").errors("`usage` for a name of anything but letters, digits and `_ - . :`.").example("local log = Logger.get('import')\nlog:info('begun')\nprint(log.name)  --> import"),
        row("Logger.with", "(fields) → logger", "A logger whose lines all have these fields too.").example("local log = Logger.with {run = 7}\nlog:warn('retried', {times = 2})"),
        row("logger.trace", "(self, message [, fields])", "Logs at the level `trace`."),
        row("logger.debug", "(self, message [, fields])", "Logs at the level `debug`."),
        row("logger.info", "(self, message [, fields])", "Logs at the level `info`.").example("Logger.get('mail'):info('sent', {to = 3})"),
        row("logger.warn", "(self, message [, fields])", "Logs at the level `warn`."),
        row("logger.error", "(self, message [, fields])", "Logs at the level `error`."),
        row("logger.log", "(self, level, message [, fields])", "As `Logger.log`."),
        row("logger.enabled", "(self, level) → boolean", "As `Logger.enabled`, for this logger."),
        row("logger.get", "(self, name) → logger", "A logger below this one.").example("print(Logger.get('a'):get('b').name)  --> a::b"),
        row("logger.with", "(self, fields) → logger", "This logger with more fields."),
        row("logger.name", "", "Its name; nil for one of `Logger.with`."),
        row("logger.fields", "", "The fields of all its lines."),
    ],
};
