//! What the whole programs cost, beside a floor measured in the same run. Prints a table; no number makes it fail.
//!
//! `cargo build --release && cargo bench -p llmspell-benches [-- --quick | --daemon | --agents | --fleet | --flows | --route | --tools | --sizes]`; the programs are those
//! beside it.

mod agents;
mod daemon;
mod fleet;
mod floor;
mod flows;
mod kernel;
mod process;
mod route;
mod tools;

use std::path::{Path, PathBuf};
use std::time::Instant;

use floor::Echo;
use kernel::Kernel;
use llmspell::protocol::connection::{Channel, Transport};
use process::{Folder, pss_mb, size_mb, switches_per_second};

/// What went wrong, for people.
type Result<T> = std::result::Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

const PROGRAMS: [&str; 4] = ["llmspell-kernel", "llmspell-run", "llmspell-tool", "llmspell-fleet"];
const LINES: &str = "for i = 1, 100000 do print('line ' .. i) end";
const LOOP: &str = "local x = 0 for i = 1, 50000000 do x = x + i % 7 end";

/// How often everything is done.
struct Effort {
    starts: usize,
    rounds: usize,
    per_round: usize,
    idle_seconds: f64,
    tools: usize,
    kernels: usize,
}

const FULL: Effort = Effort { starts: 10, rounds: 10, per_round: 200, idle_seconds: 5.0, tools: 20, kernels: 50 };
const QUICK: Effort = Effort { starts: 3, rounds: 3, per_round: 50, idle_seconds: 1.0, tools: 3, kernels: 10 };

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["--daemon"] => only_daemon(&FULL),
        ["--echo", endpoint] => floor::echo(endpoint),
        ["--replier", shell, iopub, key] => floor::replier(shell, iopub, key),
        [] => whole(&FULL),
        ["--quick"] => whole(&QUICK),
        ["--sizes"] => sizes(),
        ["--flows"] => Folder::new().and_then(|folder| flows::rows(&FULL, &programs()?.join(PROGRAMS[0]), folder.path())),
        ["--agents"] => Folder::new().and_then(|folder| agents::rows(&FULL, &programs()?, folder.path())),
        ["--route"] => Folder::new().and_then(|folder| route::rows(&FULL, &programs()?, folder.path())),
        ["--fleet"] => Folder::new().and_then(|folder| fleet::rows(&FULL, &programs()?, folder.path())),
        ["--tools"] => Folder::new().and_then(|folder| tools::rows(&FULL, &programs()?, folder.path())),
        _ => Err(
            "usage: cargo bench -p llmspell-benches [-- --quick | --daemon | --agents | --fleet | --flows | --route | --tools | --sizes]"
                .into(),
        ),
    };
    if let Err(error) = done {
        eprintln!("benchmark: {error}");
        std::process::exit(1);
    }
}

/// A line of the table. `ratio` is to the floor named in `what`.
#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn row(what: &str, value: &str, ratio: Option<f64>, aim: &str) {
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"));
    println!("{what:<52}{value:>28}{ratio:>9}  {aim}");
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn median(values: &mut [f64]) -> f64 {
    percentile(values, 50)
}

/// `12.3 ms (max 14.5)`
fn ms(values: &mut [f64]) -> String {
    format!("{:.1} ms (max {:.1})", median(values) * 1e3, percentile(values, 100) * 1e3)
}

/// Repeats `work` for its seconds.
fn repeat(count: usize, work: impl FnMut(usize) -> Result<f64>) -> Result<Vec<f64>> {
    (0..count).map(work).collect()
}

/// The folder of the programs: this one is in `deps` below it.
fn programs() -> Result<PathBuf> {
    let here = std::env::current_exe().map_err(text)?;
    here.ancestors()
        .skip(1)
        .take(2)
        .find(|dir| dir.join(PROGRAMS[0]).is_file())
        .map(Path::to_path_buf)
        .ok_or_else(|| "no llmspell-kernel beside this program; first: cargo build --release".to_owned())
}

fn whole(effort: &Effort) -> Result<()> {
    let bin = programs()?;
    let folder = Folder::new()?;
    let program = bin.join(PROGRAMS[0]);
    row("", "measured", None, "aim");
    starts(effort, &program, folder.path())?;
    daemon::daemon(effort, &program, folder.path())?;
    for transport in [Transport::Tcp, Transport::Ipc] {
        round_trips(effort, &program, folder.path(), transport)?;
    }
    work(&program, folder.path())?;
    memory(effort, &program, folder.path())?;
    tools::rows(effort, &bin, folder.path())?;
    flows::rows(effort, &program, folder.path())?;
    fleet::rows(effort, &bin, folder.path())?;
    agents::rows(effort, &bin, folder.path())?;
    route::rows(effort, &bin, folder.path())?;
    for name in PROGRAMS {
        row(&format!("size of {name}"), &format!("{:.2} MB", size_mb(&bin.join(name))?), None, size_aim(name));
    }
    Ok(())
}

fn only_daemon(effort: &Effort) -> Result<()> {
    let folder = Folder::new()?;
    row("", "measured", None, "aim");
    daemon::daemon(effort, &programs()?.join(PROGRAMS[0]), folder.path())
}

fn starts(effort: &Effort, program: &Path, dir: &Path) -> Result<()> {
    let mut floor = repeat(effort.starts, |_| process::run(Path::new("/bin/true"), &[] as &[&str], dir))?;
    row("floor: exec and end of /bin/true", &ms(&mut floor), None, "");
    for transport in [Transport::Tcp, Transport::Ipc] {
        let mut ends = Vec::new();
        let mut starts = repeat(effort.starts, |_| {
            let kernel = Kernel::start(program, dir, transport)?;
            let start = kernel.start;
            ends.push(kernel.shutdown()?);
            Ok(start)
        })?;
        let name = name(transport);
        row(&format!("{name}: exec to first kernel_info_reply"), &ms(&mut starts), None, "20 ms");
        row(&format!("{name}: shutdown_request to end of process"), &ms(&mut ends), None, "");
    }
    Ok(())
}

fn name(transport: Transport) -> &'static str {
    if transport == Transport::Tcp { "tcp" } else { "ipc" }
}

fn round_trips(effort: &Effort, program: &Path, dir: &Path, transport: Transport) -> Result<()> {
    let kernel = Kernel::start(program, dir, transport)?;
    let echo = Echo::start(&match transport {
        Transport::Tcp => "tcp://127.0.0.1:9599".to_owned(),
        Transport::Ipc => format!("ipc://{}/echo", dir.display()),
    })?;
    let replier = Kernel::start_replier(dir, transport)?;
    let name = name(transport);
    let labels =
        ["heartbeat", "control kernel_info", "shell kernel_info", "execute to idle", "the same, only replying"];
    let aims = ["1.3x", "", "", "3x", ""];
    let (mut floor, mut times) = (Vec::new(), [(); 5].map(|()| Vec::new()));
    for _ in 0..effort.rounds {
        let count = effort.per_round;
        floor.extend(echo.round(count)?);
        times[0].extend(repeat(count, |_| floor::echoed(&kernel.heartbeat))?);
        times[1].extend(repeat(count, |_| kernel.info(Channel::Control))?);
        times[2].extend(repeat(count, |_| kernel.info(Channel::Shell))?);
        times[3].extend(repeat(count, |_| kernel.execute("1+1").map(|done| done.0))?);
        times[4].extend(repeat(count, |_| replier.execute("1+1").map(|done| done.0))?);
    }
    let micros =
        |values: &mut [f64]| format!("p50 {:.0} us, p99 {:.0} us", median(values) * 1e6, percentile(values, 99) * 1e6);
    row(&format!("{name}: floor: echo by libzmq"), &micros(&mut floor), None, "");
    let floor = median(&mut floor);
    for ((label, aim), values) in labels.iter().zip(aims).zip(&mut times) {
        row(&format!("{name}: {label}"), &micros(values), Some(median(values) / floor), aim);
    }
    for count in [1000, 10_000] {
        let mut floor = repeat(3, |_| replier.pipelined(count))?;
        let mut ours = repeat(3, |_| kernel.pipelined(count))?;
        let rate = |values: &mut [f64]| format!("{:.0} /s", count as f64 / median(values));
        row(&format!("{name}: floor: {count} pipelined, only replying"), &rate(&mut floor), None, "");
        let ratio = median(&mut ours) / median(&mut floor);
        row(&format!("{name}: {count} pipelined executes"), &rate(&mut ours), Some(ratio), "10000 /s");
    }
    Ok(())
}

fn work(program: &Path, dir: &Path) -> Result<()> {
    let kernel = Kernel::start(program, dir, Transport::Tcp)?;
    let expected: usize = (1..=100_000).map(|line: u32| format!("line {line}\n").len()).sum();
    let (mut messages, mut missing) = (0, 0);
    let mut printed = repeat(5, |_| {
        let (seconds, count, bytes) = kernel.execute(LINES)?;
        (messages, missing) = (count, expected - bytes);
        Ok(seconds)
    })?;
    row("100000 printed lines", &ms(&mut printed), None, "200 ms");
    row("  messages, bytes missing", &format!("{messages}, {missing}"), None, "few, 0");
    for (what, code) in [
        ("interrupt of a loop", "while true do end"),
        ("interrupt of a pcall loop", "while true do pcall(function() while true do end end) end"),
    ] {
        let mut times = repeat(5, |_| kernel.interrupt(code))?;
        row(what, &ms(&mut times), None, "20 ms");
    }
    let lua = mlua::Lua::new();
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let begun = Instant::now();
        lua.load(LOOP).exec().map_err(text)?;
        floor.push(begun.elapsed().as_secs_f64());
        ours.push(kernel.execute(LOOP)?.0);
    }
    row("floor: 50 million iterations in plain Lua", &ms(&mut floor), None, "");
    row("50 million iterations in a kernel", &ms(&mut ours), Some(median(&mut ours) / median(&mut floor)), "1.0x");
    Ok(())
}

fn memory(effort: &Effort, program: &Path, dir: &Path) -> Result<()> {
    let kernel = Kernel::start(program, dir, Transport::Ipc)?;
    let idle = pss_mb(kernel.pid())?;
    row("PSS when idle", &format!("{idle:.2} MB"), None, "8 MB");
    let switches = switches_per_second(kernel.pid(), effort.idle_seconds)?;
    row("wake-ups when idle", &format!("{switches:.1} /s"), None, "0 /s");
    for round in 1..=3 {
        for _ in 0..10_000 {
            kernel.execute("1+1")?;
        }
        row(&format!("PSS after {round}0000 executes"), &format!("{:.2} MB", pss_mb(kernel.pid())?), None, "flat");
    }
    kernel.pipelined(10_000)?;
    row("PSS after 10000 pipelined executes", &format!("{:.2} MB", pss_mb(kernel.pid())?), None, "");
    Ok(())
}

fn size_aim(name: &str) -> &'static str {
    match name {
        "llmspell-kernel" => "10 MB",
        "llmspell-tool" | "llmspell-fleet" => "2 MB",
        _ => "",
    }
}

/// Builds every program alone, then all together: features of one may grow another.
fn sizes() -> Result<()> {
    let bin = programs()?;
    for name in PROGRAMS {
        process::build(&["-p", name])?;
        row(
            &format!("size of {name}, built alone"),
            &format!("{:.2} MB", size_mb(&bin.join(name))?),
            None,
            size_aim(name),
        );
    }
    process::build(&[])?;
    for name in PROGRAMS {
        row(&format!("size of {name}, built with all"), &format!("{:.2} MB", size_mb(&bin.join(name))?), None, "");
    }
    Ok(())
}
