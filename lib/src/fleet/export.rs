//! What was ordered, as services for an engine that supervises.

use super::wanted::{Policy, Wanted};
use crate::service::{Restart, Service};

/// The kernel that was ordered. Variables that sound like secrets are named and their values left out.
#[must_use]
pub fn service(wanted: &Wanted) -> Service {
    let (secret, plain): (Vec<_>, Vec<_>) = wanted.env.iter().partition(|(name, _)| is_secret(name));
    Service {
        config: wanted.config.clone(),
        text: wanted.config.as_ref().and_then(|path| std::fs::read_to_string(path).ok()),
        port: Some(wanted.port).filter(|port| *port != 0),
        workdir: Some(wanted.workdir.clone()),
        arguments: wanted.arguments.clone(),
        environment: plain.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        secrets: secret.into_iter().map(|(name, _)| name.clone()).collect(),
        restart: match wanted.restart {
            Policy::Never => Restart::Never,
            Policy::OnFailure => Restart::OnFailure,
            Policy::Always => Restart::Always,
        },
        memory_bytes: wanted.memory,
        cpu_percent: wanted.cpu.map(|cpus| (cpus * 100.0).round().max(1.0) as u32),
        ..Service::new(&wanted.id)
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "CREDENTIAL"].iter().any(|word| name.contains(word))
}
