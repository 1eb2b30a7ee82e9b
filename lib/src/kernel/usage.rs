//! `usage_request`: what JupyterLab's resource panel shows, by the names ipykernel gives it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::counters::cpu_seconds;

/// Remembers the last look, as percentages are of the time between two.
#[derive(Default)]
pub(super) struct Usage {
    last: Mutex<Option<Look>>,
}

struct Look {
    at: Instant,
    cpu_s: f64,
    host: Option<HostCpu>,
}

/// Ticks of all processors since the start of the system.
#[derive(Clone, Copy)]
struct HostCpu {
    busy: u64,
    all: u64,
}

impl Usage {
    /// The content of a `usage_reply`. Percentages are zero or absent the first time; figures the system does not tell are absent.
    pub(super) fn reply(&self) -> Value {
        let now = Look { at: Instant::now(), cpu_s: cpu_seconds(), host: host_cpu() };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = last.as_ref().map(|last| (now.at - last.at).as_secs_f64()).filter(|passed| *passed > 0.0);
        let kernel_cpu = match (&*last, passed) {
            (Some(last), Some(passed)) => (now.cpu_s - last.cpu_s).max(0.0) / passed * 100.0,
            _ => 0.0,
        };
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut reply = json!({
            "status": "ok",
            "hostname": hostname.trim(),
            "pid": std::process::id(),
            "kernel_cpu": tenth(kernel_cpu),
            "cpu_count": std::thread::available_parallelism().map_or(1, usize::from),
        });
        if let Some(bytes) = memory() {
            reply["kernel_memory"] = bytes.into();
        }
        if let (Some(then), Some(host)) = (last.as_ref().and_then(|last| last.host), now.host) {
            let all = host.all.saturating_sub(then.all);
            if all > 0 {
                let busy = host.busy.saturating_sub(then.busy);
                reply["host_cpu_percent"] = tenth(busy as f64 / all as f64 * 100.0).into();
            }
        }
        if let Some(memory) = host_memory() {
            reply["host_virtual_memory"] = memory;
        }
        *last = Some(now);
        reply
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Bytes that would be free without this process: its proportional share, else what is resident.
fn memory() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok();
    rollup.and_then(|text| field(&text, "Pss:")).or_else(|| {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        field(&status, "VmRSS:")
    })
}

/// A line `name N kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn host_cpu() -> Option<HostCpu> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guests are counted in user already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    Some(HostCpu { busy: all.saturating_sub(ticks.get(3)? + ticks.get(4)?), all })
}

/// By the names psutil has.
fn host_memory() -> Option<Value> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let (total, available) = (field(&text, "MemTotal:")?, field(&text, "MemAvailable:")?);
    let used = total.saturating_sub(available);
    let mut memory = Map::new();
    memory.insert("total".into(), total.into());
    memory.insert("available".into(), available.into());
    memory.insert("percent".into(), tenth(used as f64 / total.max(1) as f64 * 100.0).into());
    memory.insert("used".into(), used.into());
    for (name, line) in [
        ("free", "MemFree:"),
        ("active", "Active:"),
        ("inactive", "Inactive:"),
        ("buffers", "Buffers:"),
        ("cached", "Cached:"),
        ("shared", "Shmem:"),
        ("slab", "Slab:"),
    ] {
        if let Some(bytes) = field(&text, line) {
            memory.insert(name.into(), bytes.into());
        }
    }
    Some(Value::Object(memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_make_sense() {
        let usage = Usage::default();
        assert_eq!(usage.reply()["kernel_cpu"], 0.0);
        let from = Instant::now();
        while from.elapsed().as_millis() < 30 {
            std::hint::spin_loop();
        }
        let reply = usage.reply();
        assert!(reply["kernel_cpu"].as_f64().unwrap() > 0.0, "{reply}");
        assert!(reply["kernel_memory"].as_u64().unwrap() > 100_000);
        assert_eq!(reply["pid"], std::process::id());
        assert!(reply["host_virtual_memory"]["total"].as_u64() > reply["host_virtual_memory"]["available"].as_u64());
    }
}
