//! A job of Nomad: a group for each kernel, run by the docker driver.

use std::fmt::Write as _;

use super::{CONTAINER_CONFIG, File, IMAGE, Restart, Service, dns_name, list, probe, quoted};

const NAMES: [&str; 5] = ["shell", "iopub", "stdin", "control", "hb"];

pub(super) fn file(services: &[Service]) -> File {
    let mut text = String::from("job \"llmspell\" {\n  type = \"service\"\n");
    for (index, service) in services.iter().enumerate() {
        let ports = service.ports_at(index);
        let name = dns_name(&service.id);
        let _ = write!(text, "\n  group {} {{\n    count = {}\n\n    network {{\n", quoted(&name), service.count);
        for (name, port) in NAMES.iter().zip(ports) {
            // Clients are told of the ports by the connection file, so they are the same inside and outside.
            let _ = writeln!(text, "      port \"{name}\" {{ static = {port} }}");
        }
        let attempts = if service.restart == Restart::Never { 0 } else { 10 };
        let _ = write!(
            text,
            "    }}\n\n    restart {{\n      attempts = {attempts}\n      interval = \"5m\"\n      delay = \"5s\"\n      mode = \"{}\"\n    }}\n",
            if service.restart == Restart::Always { "delay" } else { "fail" },
        );
        let _ = write!(
            text,
            "\n    service {{\n      name = {}\n      provider = \"nomad\"\n      port = \"shell\"\n\n      check {{\n        \
             type = \"script\"\n        task = \"kernel\"\n        command = {}\n        args = {}\n        \
             interval = \"10s\"\n        timeout = \"5s\"\n      }}\n    }}\n",
            quoted(&name),
            quoted(probe(&service.id)[0]),
            list(&probe(&service.id)[1..]),
        );
        let _ = write!(
            text,
            "\n    task \"kernel\" {{\n      driver = \"docker\"\n      kill_timeout = \"30s\"\n\n      config {{\n        \
             image = \"{IMAGE}\"\n        ports = {}\n        args = {}\n        init = true\n        cap_drop = [\"ALL\"]\n",
            list(&NAMES),
            list(&service.container_args(index)).replace("${", "$${"),
        );
        if service.config.is_some() {
            let source = format!("local/{}.toml:{CONTAINER_CONFIG}/{}.toml:ro", service.id, service.id);
            let _ = writeln!(text, "        volumes = [{}]", quoted(&source));
        }
        let _ = write!(text, "      }}\n\n      env {{\n        LLMSPELL_KERNEL = {}\n", quoted(&service.id));
        for (name, value) in &service.environment {
            let _ = writeln!(text, "        {name} = {}", quoted(value).replace("${", "$${").replace("%{", "%%{"));
        }
        text.push_str("      }\n");
        if service.config.is_some() {
            let config = service.text.as_deref().unwrap_or_default();
            let _ = write!(
                text,
                "\n      template {{\n        destination = \"local/{}.toml\"\n        left_delimiter = \"[[[[\"\n        \
                 right_delimiter = \"]]]]\"\n        data = {}\n      }}\n",
                service.id,
                quoted(config).replace("${", "$${").replace("%{", "%%{"),
            );
        }
        let _ = write!(
            text,
            "\n      resources {{\n        cpu = {}\n        memory = {}\n      }}\n    }}\n  }}\n",
            service.cpu_percent.map_or(100, |percent| percent.saturating_mul(10)),
            service.memory_bytes.map_or(512, |bytes| bytes >> 20),
        );
    }
    text.push_str("}\n");
    File::new("llmspell.nomad.hcl", text)
}
