//! `compose.yaml`: a service for each kernel, reachable from this machine and from the other services.

use std::fmt::Write as _;

use super::{CONTAINER_CONFIG, File, IMAGE, Restart, Service, Setting, list, probe, quoted};

pub(super) fn file(services: &[Service], setting: &Setting) -> File {
    let mut text = String::from("services:\n");
    for (index, service) in services.iter().enumerate() {
        one(&mut text, service, index, setting);
    }
    let kept: Vec<_> = services.iter().filter(|service| service.published).collect();
    if !kept.is_empty() {
        text.push_str("volumes:\n");
    }
    for service in kept {
        let _ = writeln!(text, "  {}: {{}}", service.id);
    }
    File::new("compose.yaml", text)
}

fn one(text: &mut String, service: &Service, index: usize, setting: &Setting) {
    let id = &service.id;
    let _ = write!(text, "  {id}:\n    image: {IMAGE}\n");
    if let Some(sources) = &setting.sources {
        let context = quoted(&sources.display().to_string());
        let _ = write!(text, "    build:\n      context: {context}\n      dockerfile: deploy/docker/Dockerfile\n");
    }
    let restart = match service.restart {
        Restart::Never => "\"no\"",
        Restart::OnFailure => "on-failure",
        Restart::Always => "always",
    };
    let args = list(&service.container_args(index)).replace('$', "$$");
    let _ = write!(text, "    command: {args}\n    init: true\n    restart: {restart}\n");
    let _ = write!(text, "    environment:\n      LLMSPELL_KERNEL: {}\n", quoted(id));
    for (name, value) in &service.environment {
        let _ = writeln!(text, "      {name}: {}", quoted(value).replace('$', "$$"));
    }
    for name in &service.secrets {
        let _ = writeln!(text, "      {name}: ${{{name}:-}}");
    }
    if service.published
        && let [first, .., last] = service.ports_at(index)
    {
        // Loopback of this machine only: output is not encrypted.
        let _ = write!(text, "    ports:\n      - \"127.0.0.1:{first}-{last}:{first}-{last}\"\n");
    }
    text.push_str("    volumes:\n");
    if let Some(config) = &service.config {
        let from = config.display().to_string();
        let from = if from.starts_with(['.', '/']) { from } else { format!("./{from}") };
        let volume = quoted(&format!("{from}:{CONTAINER_CONFIG}/{id}.toml:ro"));
        let _ = writeln!(text, "      - {}", volume.replace('$', "$$"));
    }
    // What is not published may be scaled: each then has a volume of its own.
    let state = if service.published { format!("{id}:") } else { String::new() };
    let _ = writeln!(text, "      - {state}/var/lib/llmspell");
    let _ = write!(
        text,
        "    healthcheck:\n      test: {}\n      interval: 10s\n      timeout: 5s\n      retries: 3\n      start_period: 10s\n",
        list(&[&["CMD"][..], &probe(id)].concat()),
    );
    text.push_str(
        "    read_only: true\n    tmpfs:\n      - /tmp\n    cap_drop: [ALL]\n    security_opt: [\"no-new-privileges:true\"]\n    \
         stop_grace_period: 30s\n",
    );
    if service.memory_bytes.is_some() || service.cpu_percent.is_some() || service.count > 1 {
        text.push_str("    deploy:\n");
        if service.count > 1 {
            let _ = writeln!(text, "      replicas: {}", service.count);
        }
        if service.memory_bytes.is_some() || service.cpu_percent.is_some() {
            text.push_str("      resources:\n        limits:\n");
        }
        if let Some(percent) = service.cpu_percent {
            let _ = writeln!(text, "          cpus: \"{}.{:02}\"", percent / 100, percent % 100);
        }
        if let Some(bytes) = service.memory_bytes {
            let _ = writeln!(text, "          memory: \"{bytes}\"");
        }
    }
}
