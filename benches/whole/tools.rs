//! Tools: what a call costs, and what work costs beside the programs everybody has for it.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use llmspell::config::Config;
use llmspell::protocol::connection::Transport;
use llmspell::runtime::Runtime;
use llmspell::security::{Grants, Policy};
use llmspell::tools::Registry;
use serde_json::json;

use crate::kernel::Kernel;
use crate::process::{self, pss_mb};
use crate::{Effort, PROGRAMS, Result, median, ms, percentile, repeat, row, text};

const CALCULATION: [&str; 3] = ["invoke", "calculator", "input=6*7"];

pub(crate) fn rows(effort: &Effort, bin: &Path, dir: &Path) -> Result<()> {
    calls_in_process()?;
    let kernel = Kernel::start(&bin.join(PROGRAMS[0]), dir, Transport::Ipc)?;
    let file = kernel.file().display().to_string();
    let tool = bin.join(PROGRAMS[2]);
    let live = [&CALCULATION[..], &["--connection-file", &file]].concat();
    let mut times = repeat(effort.tools, |_| process::run(&tool, &live, dir))?;
    row("llmspell-tool invoke, live kernel", &ms(&mut times), None, "10 ms");
    over_one_connection(&tool, &file, dir)?;
    let mut times = repeat(effort.tools, |_| process::run(&tool, &CALCULATION, dir))?;
    row("llmspell-tool invoke, private kernel", &ms(&mut times), None, "");
    let mut times = repeat(effort.tools, |_| process::run(&bin.join(PROGRAMS[1]), &["-e", "print(1)"], dir))?;
    row("llmspell-run -e 'print(1)'", &ms(&mut times), None, "");
    hashing(&tool, &file, dir)?;
    searching(&tool, &file, dir)?;
    querying(&tool, &file, dir)?;
    row("PSS after tool calls", &format!("{:.2} MB", pss_mb(kernel.pid())?), None, "");
    profiling(&bin.join(PROGRAMS[0]), &tool, dir)
}

/// The registry made, and a call without a wire: parameters, policy, limits, envelope. The floor is the arithmetic alone, which is
/// a thousandth of it.
fn calls_in_process() -> Result<()> {
    let mut times = repeat(200, |_| {
        let begun = Instant::now();
        black_box(Registry::new());
        Ok(begun.elapsed().as_secs_f64())
    })?;
    row("registry of all tools made", &micros(&mut times), None, "100 us");
    let runtime = Runtime::new(Config::default(), Policy::new(Grants::default()));
    let mut times = repeat(5_000, |_| {
        let call = runtime.call();
        let begun = Instant::now();
        black_box(runtime.invoke_here("uuid_generator", json!({}), &call).map_err(text)?);
        Ok(begun.elapsed().as_secs_f64())
    })?;
    row("a call in the process (uuid_generator)", &micros(&mut times), None, "20 us");
    Ok(())
}

fn micros(values: &mut [f64]) -> String {
    format!("{:.1} us (p99 {:.1})", median(values) * 1e6, percentile(values, 99) * 1e6)
}

fn over_one_connection(tool: &Path, file: &str, dir: &Path) -> Result<()> {
    let lines = dir.join("lines");
    let count = 20_000;
    let text_of_lines: String = (0..count).map(|n| format!("{{\"input\": \"{n}+1\"}}\n")).collect();
    fs::write(&lines, text_of_lines).map_err(text)?;
    for jobs in ["1", "10"] {
        let arguments = ["invoke", "calculator", "--jsonl", "--jobs", jobs, "--connection-file", file];
        let mut times = repeat(3, |_| {
            let input = File::open(&lines).map_err(text)?;
            process::run_with(tool, &arguments, dir, input.into())
        })?;
        let rate = format!("{:.0} /s", f64::from(count) / median(&mut times));
        let aim = if jobs == "10" { "5000 /s" } else { "" };
        row(&format!("llmspell-tool invoke --jsonl --jobs {jobs}"), &rate, None, aim);
    }
    fs::remove_file(&lines).map_err(text)
}

/// A row for `floor`, one for `ours` with the ratio, in turns; nothing where the program of the floor is not installed.
fn beside(what: &str, floor: (&str, &[&str]), ours: (&Path, &[&str]), dir: &Path, aim: &str) -> Result<()> {
    let Some(program) = ["/usr/bin", "/usr/local/bin", "/bin"]
        .map(|bin| Path::new(bin).join(floor.0))
        .into_iter()
        .find(|path| path.is_file())
    else {
        row(&format!("{what}: {} is not installed", floor.0), "", None, aim);
        return Ok(());
    };
    let (mut theirs, mut times) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        theirs.push(process::run(&program, floor.1, dir)?);
        times.push(process::run(ours.0, ours.1, dir)?);
    }
    row(&format!("floor: {}, {what}", floor.0), &ms(&mut theirs), None, "");
    row(what, &ms(&mut times), Some(median(&mut times) / median(&mut theirs)), aim);
    Ok(())
}

/// Whether the kernel of this build has the tool.
fn is_there(tool: &Path, name: &str, file: &str, dir: &Path) -> Result<bool> {
    let mut info = Command::new(tool);
    info.args(["info", name, "--connection-file", file]).env_clear().env("HOME", dir);
    Ok(info.stdout(Stdio::null()).stderr(Stdio::null()).status().map_err(text)?.success())
}

fn hashing(tool: &Path, file: &str, dir: &Path) -> Result<()> {
    let zeros = dir.join("zeros");
    File::create(&zeros).and_then(|file| file.set_len(1 << 30)).map_err(text)?;
    let hash = ["invoke", "hash_calculator", "operation=hash", "file=zeros", "--connection-file", file];
    beside("hash_calculator of 1 GiB", ("sha256sum", &["zeros"]), (tool, &hash), dir, "1.2x")?;
    fs::remove_file(&zeros).map_err(text)
}

/// 20,000 files in 200 folders, 80 MB; one in a hundred has the word.
fn searching(tool: &Path, file: &str, dir: &Path) -> Result<()> {
    let tree = dir.join("tree");
    let line = "The quick brown fox jumps over the lazy dog, again and again.\n";
    for folder in 0..200 {
        let folder_path = tree.join(format!("d{folder}"));
        fs::create_dir_all(&folder_path).map_err(text)?;
        for number in 0..100 {
            let mut content = line.repeat(64);
            if number == 50 {
                content.push_str("needle here\n");
            }
            fs::write(folder_path.join(format!("f{number}.txt")), content).map_err(text)?;
        }
    }
    let search = [
        "invoke",
        "file_search",
        "pattern=needle",
        "path=tree",
        "recursive=true",
        "max_results=1000",
        "--connection-file",
        file,
    ];
    beside("file_search in 20,000 files", ("rg", &["-n", "needle", "tree"]), (tool, &search), dir, "2x")?;
    fs::remove_dir_all(&tree).map_err(text)
}

/// A filter over 100,000 objects.
fn querying(tool: &Path, file: &str, dir: &Path) -> Result<()> {
    let path = dir.join("objects.json");
    let objects: Vec<_> =
        (0..100_000).map(|n| json!({"id": n, "name": format!("name {n}"), "tags": ["a", "b"], "x": n % 97})).collect();
    fs::write(&path, json!(objects).to_string()).map_err(text)?;
    drop(objects);
    let filter = "[.[] | select(.x > 50) | .id] | add";
    let query = format!("query={filter}");
    let ours = ["invoke", "json_processor", "operation=query", "path=objects.json", &query, "--connection-file", file];
    if is_there(tool, "json_processor", file, dir)? {
        beside("json_processor over 100,000 objects", ("jq", &[filter, "objects.json"]), (tool, &ours), dir, "1.5x")?;
    } else {
        row("json_processor is not in this build", "", None, "1.5x");
    }
    fs::remove_file(&path).map_err(text)
}

/// 1 GB of CSV through a kernel of its own; how much more memory that took at its most.
fn profiling(program: &Path, tool: &Path, dir: &Path) -> Result<()> {
    let kernel = Kernel::start(program, dir, Transport::Ipc)?;
    let file = kernel.file().display().to_string();
    if !is_there(tool, "csv_analyzer", &file, dir)? {
        row("csv_analyzer is not in this build", "", None, "");
        return Ok(());
    }
    let path = dir.join("big.csv");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(text)?);
    let (mut written, mut number) = (0_u64, 0_u64);
    out.write_all(b"id,name,amount,day\n").map_err(text)?;
    while written < 1_000_000_000 {
        let line = format!(
            "{number},name {},{}.{:02},2026-01-{:02}\n",
            number % 5000,
            number % 977,
            number % 100,
            number % 28 + 1
        );
        out.write_all(line.as_bytes()).map_err(text)?;
        written += line.len() as u64;
        number += 1;
    }
    out.flush().map_err(text)?;
    let floor = process::run(Path::new("/usr/bin/wc"), &["-l", "big.csv"], dir)?;
    let seconds = process::run(
        tool,
        &[
            "invoke",
            "csv_analyzer",
            "operation=analyze",
            "path=big.csv",
            "--timeout",
            "600s",
            "--connection-file",
            &file,
        ],
        dir,
    )?;
    row("floor: wc -l of 1 GB of CSV", &format!("{floor:.2} s"), None, "");
    row("csv_analyzer: profile of 1 GB", &format!("{seconds:.1} s"), Some(seconds / floor), "");
    row("  most memory of its kernel", &format!("{:.1} MB", process::peak_mb(kernel.pid())?), None, "bounded");
    fs::remove_file(&path).map_err(text)
}
