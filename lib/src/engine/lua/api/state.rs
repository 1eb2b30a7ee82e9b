//! `State`

use super::{Section, row};

pub(super) const STATE: Section = Section {
    title: "STATE",
    about: "What is remembered, also after the script and the kernel have ended.",
    values: &[],
    rows: &[
        row(
            "State",
            "",
            "What is remembered, also after the script and the kernel have ended: JSON values by scope and key.",
        ),
        row("State.agent_get", "(id, key) → value", "What was kept for an agent.").example("State.agent_set('writer', 'mood', 'good')\nprint(State.agent_get('writer', 'mood'))  --> good"),
        row("State.agent_set", "(id, key, value)", "Keeps a value for an agent.").example("State.agent_set('writer', 'turns', 3)"),
        row("State.cleanup_backups", "([dry_run [, keep]]) → table", "Removes all copies but the newest `keep` (10).").example("State.create_backup()\nprint(#State.cleanup_backups(true, 0).removed, #State.list_backups())  --> 1	1"),
        row("State.clear", "(scope) → integer", "Forgets all values of a scope; how many there were.").example("State.save('cache', 'a', 1)\nprint(State.clear('cache'))  --> 1"),
        row(
            "State.compare_and_swap",
            "(scope, key, expected, new) → boolean",
            "Replaces the value by `new` if it is `expected`, in one step; whether it was. Nil stands for no value.",
        ).example("print(State.compare_and_swap('lock', 'owner', nil, 'me'))  --> true\nprint(State.compare_and_swap('lock', 'owner', nil, 'you'))  --> false"),
        row("State.create_backup", "() → table", "Copies the whole store: `{success, backup_id, size_bytes}`.").example("local copy = State.create_backup()\nprint(State.validate_backup(copy.backup_id).is_valid, #State.list_backups())  --> true	1").errors("`conflict` or `system` where the disk says no; `usage` where the state is in memory only."),
        row("State.delete", "(scope, key) → boolean", "Forgets a value; whether there was one.").example("State.save('global', 'x', 1)\nprint(State.delete('global', 'x'), State.delete('global', 'x'))  --> true	false"),
        row("State.exists", "(scope, key) → boolean", "Whether there is a value.").example("print(State.exists('global', 'x'))  --> false"),
        row("State.get", "(scope, key [, default]) → value", "The same as `State.load`.").example("print(State.get('global', 'theme', 'light'))  --> light"),
        row("State.get_migration_status", "() → table", "`{current_version}`: the number `State.migrate` counts.").example("print(State.get_migration_status().current_version)  --> 0"),
        row("State.get_storage_usage", "() → table", "`{items, value_bytes, file_bytes}`.").example("State.save('global', 'x', 'abc')\nprint(State.get_storage_usage().items)  --> 1"),
        row(
            "State.increment",
            "(scope, key [, by]) → number",
            "Adds to a number (1, to 0 if there is none) in one step; the sum.",
        ).errors("`usage` where the value is no number.").example("print(State.increment('stats', 'visits'), State.increment('stats', 'visits', 10))  --> 1	11"),
        row("State.list_backups", "() → list", "The copies, oldest first: `{id, size}`."),
        row("State.list_keys", "(scope) → list", "The keys of a scope, in order.").example("State.save('s', 'b', 1) State.save('s', 'a', 2)\nprint(table.concat(State.list_keys('s'), ' '))  --> a b"),
        row(
            "State.load",
            "(scope, key [, default]) → value",
            "The value, or `default`. In the scope `custom` a key that begins with a colon is a full name, `:SCOPE:KEY`.",
        ).example("State.save('global', 'user', {name = 'Ada'})\nprint(State.load('global', 'user').name, State.load('global', 'nobody'))  --> Ada	nil"),
        row(
            "State.migrate",
            "(version, steps) → table",
            "Calls `steps[n]` for every version after the present one up to `version`, and counts each once it is done.",
        ).errors("`usage` for a version below the present one, or a step that is no function; what a step raises.").example("State.save('global', 'name', 'Ada')\nlocal done = State.migrate(1, {function()\n  State.save('global', 'user', {name = State.load('global', 'name')})\nend})\nprint(done.from_version, done.to_version)  --> 0	1"),
        row("State.restore_backup", "(id) → table", "Makes all values those of a copy.").example("State.save('global', 'x', 1)\nlocal copy = State.create_backup()\nState.save('global', 'x', 2)\nState.restore_backup(copy.backup_id)\nprint(State.load('global', 'x'))  --> 1").errors("`not_found` for no such copy, `usage` where the state is in memory only."),
        row(
            "State.save",
            "(scope, key, value)",
            "Keeps a value: anything `JSON.stringify` takes. It is safe once this returns.",
        ).errors("`usage` for what has no JSON form, and for scopes and keys that are no names.").example("State.save('global', 'list', {1, 2, 3})\nprint(#State.load('global', 'list'))  --> 3"),
        row(
            "State.save_all",
            "(scope, values)",
            "Keeps every entry of a table under its key, all or none; much faster than one by one.",
        ).errors("`usage` as `State.save`; then nothing is kept.").example("State.save_all('cities', {Rome = 2.8, Oslo = 0.7})\nprint(State.load('cities', 'Oslo'))  --> 0.7"),
        row("State.set", "(scope, key, value)", "The same as `State.save`.").example("State.set('global', 'x', 1)\nprint(State.get('global', 'x'))  --> 1"),
        row("State.tool_get", "(id, key) → value", "What was kept for a tool.").example("State.tool_set('search', 'engine', 'b')\nprint(State.tool_get('search', 'engine'))  --> b"),
        row("State.tool_set", "(id, key, value)", "Keeps a value for a tool.").example("State.tool_set('search', 'engine', 'b')"),
        row("State.validate_backup", "(id) → table", "Whether a copy is whole: `{backup_id, is_valid, error}`."),
        row("State.workflow_get", "(id, step) → value", "What a step of a workflow has left.").example("print(State.workflow_get('no such run', 'step'))  --> nil"),
        row("State.workflow_list", "(id) → list", "What the steps of a workflow have left, by name.").example("print(#State.workflow_list('no such run'))  --> 0"),
    ],
};
