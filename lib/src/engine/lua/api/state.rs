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
    ],
};
