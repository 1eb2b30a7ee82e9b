//! Units of systemd: a template whose instances are kernels, and one for the default kernel.

use std::fmt::Write as _;

use super::{File, Restart, Scope, Service, Setting};
use crate::home::DEFAULT_KERNEL;

/// The unit of the default kernel.
pub const UNIT: &str = "llmspell-kernel.service";
/// The template of all others.
pub const TEMPLATE: &str = "llmspell-kernel@.service";

/// Both units, and for each service what differs from them; for the machine also its user.
pub(super) fn files(services: &[Service], setting: &Setting) -> Vec<File> {
    let mut files = vec![File::new(UNIT, unit(false, setting)), File::new(TEMPLATE, unit(true, setting))];
    if setting.scope == Scope::System {
        files.push(File::new("llmspell.sysusers", USER.into()));
    }
    let own = services.iter().filter_map(|service| {
        let text = drop_in(service, setting)?;
        Some(File::new(format!("{}.d/50-llmspell.conf", super::unit(&service.id)), text))
    });
    files.extend(own);
    files
}

/// For systemd-sysusers(8): who kernels of the machine run as.
const USER: &str = "u llmspell - \"llmspell kernels\" /var/lib/llmspell\n";

/// What the sandbox leaves: files below its own folders, the network, programs the policy allows.
const HARDENING: &str = "
# A wall around what the policy of the kernel allows. To let scripts reach more, use `systemctl edit`:
# ReadWritePaths=, BindPaths=, ProtectHome=.
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
RemoveIPC=yes
CapabilityBoundingSet=
";

/// What an ordinary user's systemd can do as well: nothing that needs a name space.
const EVERYWHERE: &str = "NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=prlimit64 setrlimit
SystemCallErrorNumber=EPERM
UMask=0077
";

fn unit(template: bool, setting: &Setting) -> String {
    let system = setting.scope == Scope::System;
    let (id, what) = if template { ("%i", "kernel %i") } else { (DEFAULT_KERNEL, "kernel") };
    let mut text = format!(
        "# Made by `llmspell-kernel install-service`; change it with `systemctl {}edit`.\n\
         [Unit]\n\
         Description=llmspell {what}\n\
         Documentation=man:llmspell-kernel(1) man:llmspell-service(7)\n",
        if system { "" } else { "--user " },
    );
    if system {
        text.push_str("Wants=network-online.target\nAfter=network-online.target\n");
    }
    // A crash loop ends after ten starts in five minutes, not never and not at the first bad second.
    text.push_str("StartLimitIntervalSec=300\nStartLimitBurst=10\n\n[Service]\nType=notify\nNotifyAccess=main\n");
    let mut command = format!("{} --id {id}", escaped(&setting.program.display().to_string()));
    if template {
        command +=
            if system { " --config /etc/llmspell/kernels/%i.toml" } else { " --config %h/.llmspell/kernels/%i.toml" };
    }
    let _ = writeln!(text, "ExecStart={command}");
    text.push_str("ExecReload=/bin/kill -HUP $MAINPID\n");
    if system {
        let _ = write!(
            text,
            "User=llmspell\n\
             Environment=LLMSPELL_HOME=%S/llmspell/.llmspell XDG_RUNTIME_DIR=%t/llmspell/{id}\n\
             EnvironmentFile=-/etc/llmspell/kernels/{id}.env\n\
             StateDirectory=llmspell llmspell/{id}\n\
             StateDirectoryMode=0700\n\
             LogsDirectory=llmspell\n\
             LogsDirectoryMode=0700\n\
             RuntimeDirectory=llmspell/{id}\n\
             RuntimeDirectoryMode=0700\n\
             WorkingDirectory=%S/llmspell/{id}\n",
        );
    } else {
        let _ = write!(
            text,
            "EnvironmentFile=-%h/.llmspell/kernels/{id}.env\n\
             StateDirectory=llmspell/{id}\n\
             StateDirectoryMode=0700\n\
             WorkingDirectory=%S/llmspell/{id}\n"
        );
    }
    text.push_str(
        "WatchdogSec=30\n\
         TimeoutStartSec=60\n\
         TimeoutStopSec=30\n\
         KillMode=mixed\n\
         Restart=on-failure\n\
         RestartSec=500ms\n\
         # Wrong usage, configuration or build, no permission, no such file: starting again does not help.\n\
         RestartPreventExitStatus=2 3 4 5 10\n\
         LimitNOFILE=65536\n",
    );
    text.push_str(if system {
        HARDENING
    } else {
        "\n# The policy of the kernel decides what scripts reach; this takes away what none of them needs.\n"
    });
    text.push_str(EVERYWHERE);
    let target = if system { "multi-user.target" } else { "default.target" };
    let _ = write!(text, "\n[Install]\nWantedBy={target}\n");
    text
}

/// What makes one kernel different; nothing if it is not.
fn drop_in(service: &Service, setting: &Setting) -> Option<String> {
    let mut text = String::new();
    let usual = match setting.scope {
        Scope::System => format!("/etc/llmspell/kernels/{}.toml", service.id),
        Scope::User => setting.home.join(format!(".llmspell/kernels/{}.toml", service.id)).display().to_string(),
    };
    let config = service.config.as_ref().map(|config| config.display().to_string());
    let config = config.filter(|config| service.id == DEFAULT_KERNEL || *config != usual);
    if config.is_some() || service.ports.is_some() {
        let mut command = format!("{} --id {}", escaped(&setting.program.display().to_string()), service.id);
        if let Some(config) = config.or_else(|| (service.id != DEFAULT_KERNEL).then_some(usual)) {
            let _ = write!(command, " --config {}", escaped(&config));
        }
        if let Some(ports) = service.ports {
            let _ = write!(command, " --ports {}", ports.map(|port| port.to_string()).join(","));
        }
        let _ = write!(text, "ExecStart=\nExecStart={command}\n");
    }
    for (name, value) in &service.environment {
        let _ = writeln!(text, "Environment={}", word(&format!("{name}={value}")));
    }
    match service.restart {
        Restart::OnFailure => {}
        Restart::Never => text.push_str("Restart=no\n"),
        Restart::Always => text.push_str("Restart=always\n"),
    }
    if let Some(bytes) = service.memory_bytes {
        let _ = writeln!(text, "MemoryMax={bytes}");
    }
    if let Some(percent) = service.cpu_percent {
        let _ = writeln!(text, "CPUQuota={percent}%");
    }
    (!text.is_empty()).then(|| format!("[Service]\n{text}"))
}

/// A word of a command line: no variable is put into it.
fn escaped(text: &str) -> String {
    word(text).replace('$', "$$")
}

/// A word: blanks do not split it, `%` and `\` mean nothing.
fn word(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@+%$".contains(c);
    if text.chars().all(plain) { text } else { format!("\"{}\"", text.replace('\n', "\\n")) }
}
