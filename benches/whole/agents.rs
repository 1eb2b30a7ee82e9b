//! Agents in `llmspell-run`, on the mock provider. What one run costs is the difference between many and few.

use std::path::Path;

use super::{Effort, Result, median, process, row};

/// A hundred agents whose model takes 100 ms, once before and once after a call that a function of the script answers.
const MANY: &str = r#"local model = [[mock/{"repeat": true, "replies": [{"match": "go", "repeat": true, "delay": "100ms", "text": "x"}]}]]
local heard = 0
local a = Agent.create{name = "a", model = model}
local list = {}
for i = 1, COUNT do list[i] = {a, "go", {on_chunk = function() heard = heard + 1 end}} end
for _, r in ipairs(Agent.invoke_all(list)) do assert(r.success) end
assert(heard == COUNT)"#;

const PLAIN: &str = r#"local a = Agent.create{name = "a", model = "mock/echo", max_conversation_length = 0}
for _ = 1, COUNT do a:invoke("x") end"#;

/// Two turns and a call of a function of the script, each kept in the store.
const KEPT: &str = r#"local model = [[mock/{"replies": [{"match": "go", "repeat": true, "tool_calls": [{"name": "f"}]}, {"repeat": true, "text": "x"}]}]]
local f = {name = "f", handler = function() return 1 end}
local a = Agent.create{name = "a", model = model, tools = {f}, max_conversation_length = 0}
for _ = 1, COUNT do a:invoke("go") end"#;

pub(crate) fn rows(effort: &Effort, bin: &Path, dir: &Path) -> Result<()> {
    let program = bin.join("llmspell-run");
    let time = |script: &str, count: usize| {
        let script = script.replace("COUNT", &count.to_string());
        let mut all = (0..effort.starts.div_ceil(2))
            .map(|_| process::run(&program, &["-e", &script], dir))
            .collect::<Result<Vec<_>>>()?;
        Ok::<_, String>(median(&mut all))
    };
    let hundred = time(MANY, 100)? - time(MANY, 0)?;
    row("100 agents at 100 ms each, heard by the script", &format!("{:.0} ms", hundred * 1e3), None, "250 ms");
    for (what, script) in [("agent: one answer of the mock", PLAIN), ("agent: two answers and a call, all kept", KEPT)]
    {
        let one = (time(script, 1001)? - time(script, 1)?) / 1000.0;
        row(what, &format!("{:.0} us", one * 1e6), None, if script == PLAIN { "" } else { "2 ms a step" });
    }
    Ok(())
}
