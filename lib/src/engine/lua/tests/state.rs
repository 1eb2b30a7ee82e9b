//! The global `State`.

use super::*;

#[test]
fn what_is_saved_is_loaded() {
    let text = prints(
        "State.save('global', 'x', {1, {a = 'b'}, true}) print(JSON.stringify(State.load('global', 'x')))
        print(State.load('global', 'y'), State.get('global', 'y', 7), State.exists('global', 'x'))
        State.save_all('s', {a = 1, b = 2}) print(JSON.stringify(State.list_keys('s')))
        print(State.increment('s', 'a', 4), State.increment('s', 'new'))
        print(State.compare_and_swap('s', 'b', 2, 3), State.compare_and_swap('s', 'b', 2, 4), State.load('s', 'b'))
        print(State.delete('s', 'a'), State.delete('s', 'a'), State.clear('s'))
        State.agent_set('w', 'mood', 'good') print(State.agent_get('w', 'mood'), State.load('agent', 'w:mood'))
        State.save('custom', ':workflow:7:agent:a:output', 'text')
        print(State.workflow_get('7', 'agent:a:output'), JSON.stringify(State.workflow_list('7')))",
    );
    assert_eq!(
        text,
        "[1,{\"a\":\"b\"},true]\nnil\t7\ttrue\n[\"a\",\"b\"]\n5\t1\ntrue\tfalse\t3\ntrue\tfalse\t2\ngood\tgood\ntext\t[\"agent:a:output\"]\n"
    );
}

#[test]
fn what_cannot_be_kept_is_refused() {
    for (code, words) in [
        ("State.save('g', '', 1)", "empty"),
        ("State.save('g')", "State.save: key: string expected, got nothing"),
        ("State.save('g', 'k', print)", "k: "),
        ("State.increment('g', 'k', 'much')", "number expected"),
        ("State.save('g', 'k', 'text') State.increment('g', 'k')", "g:k: not a number"),
        ("State.restore_backup('../x')", "memory only"),
        ("State.migrate(1, {})", "steps[1]: function expected"),
    ] {
        let error = failure(code);
        assert!(error.evalue.contains(words), "{code}: {}", error.evalue);
    }
}

#[test]
fn each_migration_is_done_once() {
    let text = prints(
        "local done = {}
        local steps = {function() done[#done + 1] = 1 end, function() done[#done + 1] = 2 end}
        State.migrate(1, steps)
        local all = State.migrate(2, steps)
        print(all.from_version, all.to_version, all.status, State.migrate(2, steps).status, JSON.stringify(done))
        print(pcall(State.migrate, 3, {[3] = function() error('no') end}), State.get_migration_status().current_version)",
    );
    assert!(text.starts_with("1\t2\tcompleted\tup_to_date\t[1,2]\nfalse"), "{text}");
    assert!(text.ends_with("\t2\n"), "{text}");
}
