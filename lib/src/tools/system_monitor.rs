//! `system_monitor`: what the machine is doing, as the system itself tells it. Processor use is measured between two looks;
//! nothing is estimated, and what a system does not tell is `null`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sysinfo::{
    CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, ProcessRefreshKind, ProcessesToUpdate, System,
};

use super::{Answer, Call, Level, Spelling, ToolSpec, example, word};
use crate::error::Result;

/// The monitor.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "system_monitor",
    aliases: &["system_info", "sysmon"],
    category: "system",
    summary: "measure processor, memory, disks, network and processes of this machine",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("interval", "interval_ms"),
        Spelling::Value("operation", "disks", "disk"),
        Spelling::Value("operation", "system", "all"),
    ],
    examples: &[
        example("memory", r#"{"operation": "memory"}"#, "{}"),
        example("processor use, measured for a fifth of a second", r#"{"operation": "cpu", "interval_ms": 200}"#, "{}"),
        example(
            "the processes that use most memory",
            r#"{"operation": "processes", "limit": 1}"#,
            r#"{"sorted_by": "memory"}"#,
        ),
    ],
};

/// Measures this machine. Sizes are bytes, shares are percent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What is wanted; `stats` is `all` without the processes.
    #[serde(default)]
    operation: Operation,
    /// How long processor use is measured, milliseconds.
    #[serde(default = "interval")]
    #[schemars(range(min = 200, max = 60_000))]
    interval_ms: u64,
    /// For `processes`: how many.
    #[serde(default = "limit")]
    #[schemars(range(min = 1, max = 1000))]
    limit: usize,
    /// For `processes`: what the first ones have most of.
    #[serde(default)]
    sort_by: Sort,
}

fn interval() -> u64 {
    200
}

fn limit() -> usize {
    10
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    All,
    Stats,
    Cpu,
    Memory,
    Disk,
    Network,
    Processes,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Sort {
    #[default]
    Memory,
    Cpu,
}

/// Looks, and looks again where a rate is wanted.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let Params { operation, interval_ms, limit, sort_by } = params;
    let whole = matches!(operation, Operation::All | Operation::Stats);
    let is = |wanted| whole || operation == wanted;
    let processes = operation == Operation::Processes || operation == Operation::All;
    let mut system = System::new();
    let mut networks = is(Operation::Network).then(Networks::new_with_refreshed_list);
    let kinds = ProcessRefreshKind::nothing().with_memory().with_cpu();
    if is(Operation::Cpu) || networks.is_some() || processes && sort_by == Sort::Cpu {
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_cpu_usage());
        if processes {
            system.refresh_processes_specifics(ProcessesToUpdate::All, true, kinds);
        }
        call.sleep(Duration::from_millis(interval_ms))?;
    }
    let mut result = Map::new();
    let mut formatted = Map::new();
    if is(Operation::Cpu) {
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_cpu_usage());
        let load = System::load_average();
        let each: Vec<_> = system.cpus().iter().map(|cpu| percent(cpu.cpu_usage())).collect();
        result.insert("cpu_usage_percent".into(), percent(system.global_cpu_usage()));
        result.insert("cpu_usage_each".into(), each.into());
        result.insert("cpu_count".into(), system.cpus().len().into());
        result.insert("load_average".into(), json!([load.one, load.five, load.fifteen]));
    }
    if is(Operation::Memory) {
        memory(&mut system, &mut result, &mut formatted);
    }
    if is(Operation::Disk) {
        let kinds = DiskRefreshKind::nothing().with_storage();
        let disks = Disks::new_with_refreshed_list_specifics(kinds);
        result.insert("disk_usage".into(), disks.iter().map(disk).collect::<Map<_, _>>().into());
    }
    if let Some(networks) = &mut networks {
        networks.refresh(true);
        let seconds = interval_ms as f64 / 1000.0;
        let row = |(name, data): (&String, &sysinfo::NetworkData)| {
            let row = json!({
                "received_bytes": data.total_received(), "transmitted_bytes": data.total_transmitted(),
                "received_bytes_per_second": (data.received() as f64 / seconds) as u64,
                "transmitted_bytes_per_second": (data.transmitted() as f64 / seconds) as u64,
                "errors": data.total_errors_on_received() + data.total_errors_on_transmitted(),
            });
            (name.clone(), row)
        };
        result.insert("network".into(), networks.iter().map(row).collect::<Map<_, _>>().into());
    }
    if whole || processes {
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, kinds);
        // Threads are listed beside the processes they belong to.
        let mut all: Vec<_> = system.processes().values().filter(|process| process.thread_kind().is_none()).collect();
        result.insert("process_count".into(), all.len().into());
        if processes {
            match sort_by {
                Sort::Memory => all.sort_by_key(|process| std::cmp::Reverse(process.memory())),
                Sort::Cpu => all.sort_by(|a, b| b.cpu_usage().total_cmp(&a.cpu_usage())),
            }
            let measured = sort_by == Sort::Cpu || whole;
            let row = |process: &&sysinfo::Process| {
                json!({
                    "pid": process.pid().as_u32(), "name": process.name().to_string_lossy(), "memory_bytes": process.memory(),
                    "cpu_percent": measured.then(|| percent(process.cpu_usage())),
                    "state": process.status().to_string().to_lowercase(), "run_time_seconds": process.run_time(),
                })
            };
            result.insert("processes".into(), all.iter().take(limit).map(row).collect::<Vec<_>>().into());
            result.insert("sorted_by".into(), if sort_by == Sort::Cpu { "cpu" } else { "memory" }.into());
        }
    }
    if whole {
        let uptime = System::uptime();
        result.insert("uptime_seconds".into(), uptime.into());
        formatted.insert("uptime".into(), humantime::format_duration(Duration::from_secs(uptime)).to_string().into());
        result.insert("host_name".into(), System::host_name().into());
        result.insert("system".into(), System::name().into());
        result.insert("system_version".into(), System::os_version().into());
        result.insert("kernel_version".into(), System::kernel_version().into());
        result.insert("architecture".into(), std::env::consts::ARCH.into());
    }
    if !formatted.is_empty() {
        result.insert("formatted".into(), formatted.into());
    }
    Ok(Answer::new(word(&operation), result.into()))
}

fn memory(system: &mut System, result: &mut Map<String, Value>, formatted: &mut Map<String, Value>) {
    system.refresh_memory_specifics(MemoryRefreshKind::everything());
    let (total, used, available) = (system.total_memory(), system.used_memory(), system.available_memory());
    for (name, bytes) in [
        ("total_memory", total),
        ("used_memory", used),
        ("available_memory", available),
        ("total_swap", system.total_swap()),
        ("used_swap", system.used_swap()),
    ] {
        result.insert(format!("{name}_bytes"), bytes.into());
        formatted.insert(name.into(), human(bytes).into());
    }
    result.insert("memory_usage_percent".into(), share(used, total));
    // In a container its own limit counts.
    let limits = system.cgroup_limits().filter(|limits| limits.total_memory < total);
    let limits = limits
        .map(|limits| json!({"total_memory_bytes": limits.total_memory, "free_memory_bytes": limits.free_memory}));
    result.insert("container_limit".into(), limits.into());
}

fn disk(disk: &sysinfo::Disk) -> (String, Value) {
    let (total, available) = (disk.total_space(), disk.available_space());
    let used = total.saturating_sub(available);
    let row = json!({
        "total_bytes": total, "available_bytes": available, "used_bytes": used, "usage_percent": share(used, total),
        "filesystem": disk.file_system().to_string_lossy(), "device": disk.name().to_string_lossy(),
        "formatted": format!("{} of {}", human(used), human(total)),
    });
    (disk.mount_point().to_string_lossy().into_owned(), row)
}

/// Percent with one decimal.
fn percent(value: f32) -> Value {
    json!((f64::from(value) * 10.0).round() / 10.0)
}

fn share(part: u64, whole: u64) -> Value {
    if whole == 0 { Value::Null } else { json!((part as f64 / whole as f64 * 1000.0).round() / 10.0) }
}

/// `1.5 GB`, as disks are sold.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["bytes", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use crate::security::{Grants, Policy, Profile};
    use std::sync::Arc;

    fn call() -> Call {
        Call::new(Arc::new(Policy::new(Grants { profile: Profile::Safe, workdir: "/".into(), ..Grants::default() })))
    }

    fn run(params: Value) -> Result<Value> {
        Ok(Registry::new().invoke("system_monitor", params, &call())?["result"].take())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_figures_are_those_of_the_system() {
        let got = run(json!({})).unwrap();
        let told = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total: u64 = told.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(got["total_memory_bytes"], total * 1024);
        let cpus = std::fs::read_to_string("/proc/stat").unwrap();
        let cpus = cpus.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
        assert_eq!(got["cpu_count"], cpus);
        let uptime: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(got["uptime_seconds"].as_f64().unwrap() - uptime < 5.0, "{got}");
        assert!(got["process_count"].as_u64().unwrap() >= 1 && got["load_average"].as_array().unwrap().len() == 3);
        assert!(got["disk_usage"].as_object().unwrap().values().all(|disk| disk["total_bytes"].is_u64()));
        let whole = got["used_memory_bytes"].as_u64().unwrap() + got["available_memory_bytes"].as_u64().unwrap();
        assert!(whole <= total * 1024 + 1_000_000_000, "{got}");
        assert_eq!(got["host_name"], std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        assert!(got["network"].is_object() && got["processes"][0]["memory_bytes"].as_u64().unwrap() > 0);
    }

    #[test]
    fn a_busy_processor_is_measured_as_busy() {
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let busy = std::thread::spawn(move || while !stop.load(std::sync::atomic::Ordering::Relaxed) {});
        let got = run(json!({"operation": "cpu", "interval_ms": 300})).unwrap();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        busy.join().unwrap();
        assert!(got["cpu_usage_percent"].as_f64().unwrap() > 0.0, "{got}");
    }

    #[test]
    fn a_cancel_ends_the_measuring_and_wrong_calls_are_refused() {
        let call = call();
        call.cancel.cancel();
        let error = Registry::new().invoke("system_monitor", json!({"interval_ms": 60_000}), &call).unwrap_err();
        assert_eq!(error.class(), crate::error::Class::Interrupted);
        for params in [json!({"operation": "gpu"}), json!({"interval_ms": 1}), json!({"limit": 0}), json!({"x": 1})] {
            assert_eq!(run(params).unwrap_err().class(), crate::error::Class::Usage);
        }
        assert_eq!(
            (human(999), human(1500), human(2_000_000_000)),
            ("999 bytes".into(), "1.5 kB".into(), "2.0 GB".into())
        );
    }
}
