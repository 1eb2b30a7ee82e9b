//! What a step of a workflow costs beside the bare call of its tool.

use std::path::Path;

use llmspell::protocol::connection::Transport;

use crate::kernel::Kernel;
use crate::{Effort, Result, median, ms, repeat, row};

/// Steps of one execution.
const STEPS: u32 = 1000;

pub(crate) fn rows(effort: &Effort, program: &Path, dir: &Path) -> Result<()> {
    let kernel = Kernel::start(program, dir, Transport::Ipc)?;
    let bare = format!("for _ = 1, {STEPS} do Tool.invoke('calculator', {{input = '1+1'}}) end");
    let tool = "{name = 's', type = 'tool', tool = 'calculator', input = {input = '1+1'}}";
    let function = "{name = 's', type = 'function', ['function'] = function() return 1 end}";
    let looped = |step: &str, checkpoint: bool| {
        format!(
            "Workflow.loop{{name = 'w', iterator = {{count = {STEPS}}}, checkpoint = {checkpoint}, body = {{{step}}}}}:execute()"
        )
    };
    let time = |code: &str| repeat(effort.rounds, |_| kernel.execute(code).map(|done| done.0));
    time(&bare)?;
    let mut floor = time(&bare)?;
    row(&format!("floor: Tool.invoke, {STEPS} times"), &ms(&mut floor), None, "");
    let floor = median(&mut floor);
    for (what, code, floor, aim) in [
        ("tool step over it, in memory", looped(tool, false), floor, "100 us"),
        ("tool step over it, with checkpoint", looped(tool, true), floor, "2000 us"),
        ("function step, in memory", looped(function, false), 0.0, "100 us"),
        ("function step, with checkpoint", looped(function, true), 0.0, "2000 us"),
    ] {
        let mut times = time(&code)?;
        let micros = (median(&mut times) - floor) * 1e6 / f64::from(STEPS);
        row(what, &format!("{micros:.1} us"), None, aim);
    }
    Ok(())
}
