//! Property lists of launchd. It reads no `~` and makes no folders, so every path is absolute and `install` makes them.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::home::DEFAULT_KERNEL;

use super::{File, Restart, Scope, Service, Setting};

/// The label of the kernel `id`.
pub(super) fn label(id: &str) -> String {
    if id == DEFAULT_KERNEL { "org.llmspell.kernel".into() } else { format!("org.llmspell.kernel.{id}") }
}

/// Where its standard error goes.
pub(super) fn log(service: &Service, setting: &Setting) -> PathBuf {
    match setting.scope {
        Scope::User => setting.home.join("Library/Logs/llmspell").join(format!("{}.log", service.id)),
        Scope::System => PathBuf::from(format!("/Library/Logs/llmspell/{}.log", service.id)),
    }
}

/// The folder it works in.
pub(super) fn workdir(service: &Service, setting: &Setting) -> PathBuf {
    match setting.scope {
        Scope::User => setting.home.join("Library/Application Support/llmspell").join(&service.id),
        Scope::System => PathBuf::from(format!("/Library/Application Support/llmspell/{}", service.id)),
    }
}

pub(super) fn file(service: &Service, setting: &Setting) -> File {
    let mut command = vec![setting.program.display().to_string(), "--id".into(), service.id.clone()];
    if let Some(config) = &service.config {
        command.extend(["--config".into(), config.display().to_string()]);
    }
    if let Some(ports) = service.ports {
        command.extend(["--ports".into(), ports.map(|port| port.to_string()).join(",")]);
    }
    let (log, workdir) = (log(service, setting).display().to_string(), workdir(service, setting).display().to_string());
    let mut environment = service.environment.clone();
    if setting.scope == Scope::System {
        environment.entry("LLMSPELL_HOME".into()).or_insert_with(|| format!("{workdir}/.llmspell"));
    }
    let mut dict = Dict::default();
    dict.string("Label", &label(&service.id));
    dict.raw("ProgramArguments", &array(&command));
    if !environment.is_empty() {
        let mut inner = Dict::default();
        environment.iter().for_each(|(name, value)| inner.string(name, value));
        dict.raw("EnvironmentVariables", &inner.done());
    }
    dict.string("WorkingDirectory", &workdir);
    dict.raw("RunAtLoad", "<true/>");
    match service.restart {
        Restart::Never => dict.raw("KeepAlive", "<false/>"),
        Restart::Always => dict.raw("KeepAlive", "<true/>"),
        Restart::OnFailure => {
            let mut inner = Dict::default();
            inner.raw("SuccessfulExit", "<false/>");
            dict.raw("KeepAlive", &inner.done());
        }
    }
    dict.raw("ThrottleInterval", "<integer>10</integer>");
    dict.raw("ExitTimeOut", "<integer>30</integer>");
    // 077: files of the kernel are its user's alone.
    dict.raw("Umask", "<integer>63</integer>");
    let mut limits = Dict::default();
    limits.raw("NumberOfFiles", "<integer>8192</integer>");
    if let Some(bytes) = service.memory_bytes {
        limits.raw("ResidentSetSize", &format!("<integer>{bytes}</integer>"));
    }
    dict.raw("SoftResourceLimits", &limits.done());
    dict.string("ProcessType", "Background");
    if setting.scope == Scope::System {
        dict.string("UserName", "_llmspell");
    }
    dict.string("StandardOutPath", "/dev/null");
    dict.string("StandardErrorPath", &log);
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- Made by `llmspell-kernel install-service`. -->\n\
         <plist version=\"1.0\">\n{}\n</plist>\n",
        dict.done()
    );
    File::new(format!("{}.plist", label(&service.id)), text)
}

#[derive(Default)]
struct Dict(String);

impl Dict {
    fn raw(&mut self, key: &str, value: &str) {
        let value = value.replace('\n', "\n\t");
        let _ = write!(self.0, "\t<key>{}</key>\n\t{value}\n", xml(key));
    }

    fn string(&mut self, key: &str, value: &str) {
        self.raw(key, &format!("<string>{}</string>", xml(value)));
    }

    fn done(self) -> String {
        format!("<dict>\n{}</dict>", self.0)
    }
}

fn array(items: &[String]) -> String {
    let items: String = items.iter().map(|item| format!("\t<string>{}</string>\n", xml(item))).collect();
    format!("<array>\n{items}</array>")
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\n', "&#10;")
}
