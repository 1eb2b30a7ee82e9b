//! llmspell-kernel(1): one kernel, in the foreground or the background; the configuration; the doctor.

mod cli;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cli::{Action, Args, Ports, Serve};
use llmspell::agents::approval::{self, Decision};
use llmspell::agents::visible;
use llmspell::cli::{Engine, main as program, print, report, secret};
use llmspell::config::{Config, Level, Loaded, LogOutput, Origin, Sources, commands};
use llmspell::daemon::{Side, detach};
use llmspell::error::{Class, Error, Result};
use llmspell::home::{self, DEFAULT_KERNEL, Home};
use llmspell::kernel::{self, Admin, Ready, Reload, Settings};
use llmspell::kernelspec::{self, Folders};
use llmspell::log::{FileSettings, Sinks};
use llmspell::protocol::connection::{Connection, Transport};
use llmspell::providers::keys::Keys;
use llmspell::runtime::Runtime;
use llmspell::security::Policy;
use llmspell::service::install::Plan;
use llmspell::service::{Format, Scope, Setting};
use llmspell::{config, doctor, log, service};

const PROGRAM: &str = "llmspell-kernel";

fn main() -> ExitCode {
    program(&cli::CLI, run)
}

fn run(args: Args) -> Result<u8> {
    let mut sources = Sources::of_process()?;
    sources.file = args.config;
    match args.action {
        Action::Serve(serve) => self::serve(&serve, sources),
        Action::ConfigShow { section, json } => {
            let loaded = load(&sources)?;
            print(&commands::show(&loaded, section.as_deref(), json)?).map(|()| 0)
        }
        Action::ConfigCheck { file } => {
            sources.file = file.or(sources.file);
            let checked = commands::check(&sources);
            print(&checked.to_string())?;
            Ok(if checked.problems.is_empty() { 0 } else { Class::Config.row().exit })
        }
        Action::ConfigInit { output, force } => match output {
            Some(path) if path != Path::new("-") => commands::init(&path, force).map(|()| 0),
            _ => print(&commands::default_file()).map(|()| 0),
        },
        Action::ConfigMigrate { file, write } => {
            let file = file.or(sources.file).unwrap_or_else(|| sources.home.config_file());
            print(&commands::migrate(&file, write)?).map(|()| 0)
        }
        Action::Install { place, spec } => {
            let installed = kernelspec::install(&Folders::of_process(), &place, &spec)?;
            print(&format!("installed kernelspec {} in {}\n", installed.name, installed.folder.display())).map(|()| 0)
        }
        Action::Uninstall { place, name } => {
            let folder = kernelspec::uninstall(&Folders::of_process(), &place, name.as_deref())?;
            print(&format!("removed {}\n", folder.display())).map(|()| 0)
        }
        Action::List { place, json } => {
            let found = kernelspec::list(&Folders::of_process(), &place);
            if json {
                return print(&format!("{}\n", serde_json::json!({ "kernelspecs": found }))).map(|()| 0);
            }
            let width = found.iter().map(|one| one.name.len()).max().unwrap_or(0);
            for one in found {
                let missing = if one.works { "" } else { "  (its program is gone)" };
                print(&format!("{:width$}  {}{missing}\n", one.name, one.folder.display()))?;
            }
            Ok(0)
        }
        Action::InstallService { service, print: true } => {
            print(&service::show(&plan(service)?.files().into_iter().map(|(_, file)| file).collect::<Vec<_>>()))
                .map(|()| 0)
        }
        Action::InstallService { service, print: false } => {
            plan(service)?.install(&commands::default_file(), &mut |line| print(&(line + "\n"))).map(|()| 0)
        }
        Action::UninstallService(service) => plan(service)?.remove(&mut |line| print(&(line + "\n"))).map(|()| 0),
        Action::Connection { host, ports, output, force } => {
            let connection = Connection::new(Transport::Tcp, host, ports);
            match output {
                Some(path) if path != Path::new("-") => {
                    if path.exists() && !force {
                        let text = format!("{}: exists", path.display());
                        return Err(Error::new(Class::Conflict, text).hint("Overwrite it with --force."));
                    }
                    connection.write(&path).map(|()| 0)
                }
                _ => print(&(serde_json::to_string_pretty(&connection).unwrap_or_default() + "\n")).map(|()| 0),
            }
        }
        Action::KeysSet { name } => {
            let key = secret(&format!("key of {name}"))?;
            Keys::of(&sources.home).set(&name, &key).map(|()| 0)
        }
        Action::KeysList { json } => {
            let names = Keys::of(&sources.home).list()?;
            let text = if json {
                format!("{}\n", serde_json::json!({ "keys": names }))
            } else {
                names.iter().map(|name| format!("{name}\n")).collect()
            };
            print(&text).map(|()| 0)
        }
        Action::KeysRemove { name } => Keys::of(&sources.home).remove(&name).map(|()| 0),
        Action::ApprovalsList { json } => {
            let waiting = approval::everywhere(&sources.home)?;
            if json {
                let row = |(store, row): &(String, _)| {
                    let mut row = serde_json::to_value(row).unwrap_or_default();
                    row["store"] = store.as_str().into();
                    row
                };
                let rows: Vec<_> = waiting.iter().map(row).collect();
                return print(&format!("{}\n", serde_json::json!({ "approvals": rows }))).map(|()| 0);
            }
            for (store, row) in waiting {
                let call = format!("{} {}", row.tool, row.arguments);
                print(&format!("{}  {store}  {}  {}\n", row.id, visible(&row.agent), visible(&call)))?;
            }
            Ok(0)
        }
        Action::Approval { id, decision, json } => {
            let decided = approval::decide_anywhere(&sources.home, &id, &decision)?;
            let (call, refused) = (&decided.call, matches!(decision, Decision::Deny(_)));
            let word = if refused { "denied" } else { "approved" };
            if json {
                let mut shown = serde_json::to_value(call).unwrap_or_default();
                shown["decision"] = word.into();
                shown["woken"] = decided.woken.into();
                return print(&format!("{shown}\n")).map(|()| 0);
            }
            let what = format!("{} {}", call.tool, call.arguments);
            print(&format!("{word} {}: {}\n", call.id, visible(&what)))?;
            if !decided.woken {
                print(&format!("run {} of agent {} goes on when it is asked again\n", call.run, visible(&call.agent)))?;
            }
            Ok(0)
        }
        Action::Doctor { json } => {
            let loaded = Config::survey(&sources);
            let report = doctor::doctor(&sources.home, &loaded);
            print(&if json { format!("{}\n", report.json()) } else { report.to_string() })?;
            Ok(report.exit())
        }
    }
}

/// What `install-service` is to do, with what the flags left open found out.
fn plan(asked: cli::Service) -> Result<Plan> {
    let scope = match asked.scope {
        Some(scope) => scope,
        None if service::install::is_root() => Scope::System,
        None => Scope::User,
    };
    let home = std::env::home_dir().filter(|home| home.is_absolute() || scope == Scope::System).ok_or_else(|| {
        Error::new(Class::Config, "HOME is not set").hint("A service of a user needs the user's home folder.")
    })?;
    let program = std::env::current_exe().map_err(|error| Error::system("path of this program", error))?;
    let mut service = service::Service::new(asked.id.as_deref().unwrap_or(DEFAULT_KERNEL));
    service.config =
        asked.config.map(|path| std::fs::canonicalize(&path).map_err(|error| Error::io(&path, error))).transpose()?;
    service.ports = match asked.ports {
        Ports::All(ports) => Some(ports),
        _ => None,
    };
    let format = asked.format.unwrap_or(if cfg!(target_os = "macos") { Format::Launchd } else { Format::Systemd });
    let setting = Setting { program, scope, home, sources: None };
    Ok(Plan { format, setting, service, force: asked.force, enable: asked.enable, start: asked.start })
}

/// The configuration, with its warnings on stderr.
fn load(sources: &Sources) -> Result<Loaded> {
    let loaded = Config::load(sources)?;
    for warning in &loaded.warnings {
        report(PROGRAM, &Error::new(Class::Config, format!("warning: {warning}")));
    }
    Ok(loaded)
}

fn serve(serve: &Serve, mut sources: Sources) -> Result<u8> {
    if let Some(level) = serve.log_level {
        sources.flag("log.level", level.name(), "--log-level");
    }
    if let Some(engine) = serve.engine {
        // An engine this build has not is an error of its own, not one of the configuration.
        if engine == Engine::Lua {
            sources.flag("default_engine", engine.name(), "--engine");
        }
    }
    if let Some(dir) = &serve.workdir {
        sources.flag("kernel.workdir", sources.dir.join(dir).display().to_string(), "--workdir");
    }
    if let Some(clients) = &serve.clients {
        sources.flag("kernel.allow_clients", clients.clone(), "--allow-clients");
    }
    if let Some(limit) = &serve.idle_timeout {
        sources.flag("kernel.idle_timeout", limit.clone(), "--idle-timeout");
    }
    if let Some(size) = &serve.log_rotate_size {
        sources.flag("daemon.max_log_size", size.clone(), "--log-rotate-size");
    }
    if let Some(count) = serve.log_rotate_count {
        sources.flag("daemon.max_log_files", i64::from(count), "--log-rotate-count");
    }
    if let Some(clients) = serve.max_clients {
        sources.flag("kernel.max_clients", i64::from(clients), "--max-clients");
    }
    sources.permissions(&serve.permissions);
    let mut loaded = load(&sources)?;
    loaded.config.log.level = level(&loaded, serve.daemon);
    let Loaded { config, dir, .. } = loaded;
    config.secrets().for_each(log::hide);
    let settings = settings(serve, &config, &dir, &sources.home)?;
    let sinks = sinks(serve, &config, &dir, &settings, &sources.home)?;
    let workdir = config.kernel.workdir.clone().unwrap_or(dir);
    if !workdir.is_dir() {
        return Err(Error::new(Class::NotFound, format!("--workdir: {}: no such folder", workdir.display())));
    }
    // From here on no path is relative, and there is no thread yet.
    let mut notice = match serve.daemon {
        false => None,
        true => match detach()? {
            Side::Caller(ready) => return print(&ready).map(|()| 0),
            Side::Background(notice) => Some(notice),
        },
    };
    let outcome = log::start(&config.log, sinks).and_then(|log| {
        let mut grants = config.grants(&workdir, &sources.home);
        // They hold the key of this kernel.
        grants.hidden.extend(settings.connection_file.iter().chain(&settings.private).cloned());
        let runtime = Runtime::new(config, Policy::new(grants));
        let home = sources.home.clone();
        // Flags and environment as they were; files as they are then.
        let daemon = serve.daemon;
        let reload: Reload = Box::new(move || {
            let mut loaded = Config::load(&sources)?;
            loaded.config.log.level = level(&loaded, daemon);
            Ok(loaded)
        });
        let admin = Admin { log: Some(log), reload: Some(reload) };
        kernel::serve(&settings, &home, &runtime, admin, |ready| {
            let text = told(ready, serve.json || settings.private.is_some());
            // What a Jupyter program shows is its own; it knows where its kernel is.
            let quiet =
                settings.connection_file.is_some() && std::env::var_os("JPY_PARENT_PID").is_some() && !serve.json;
            match &mut notice {
                Some(notice) => notice.ready(&text),
                // Nobody has to read it.
                None if quiet => {}
                None => drop(print(&text)),
            }
        })
    });
    outcome.map(|()| 0).or_else(|error| {
        // The caller tells it; the log may be that of the kernel that is in the way.
        let told = notice.is_some_and(|mut notice| notice.failed(&error));
        if told { Ok(error.class().row().exit) } else { Err(error) }
    })
}

/// A log file that nobody asked for tells of the kernel's life; a terminal only of what needs attention.
fn level(loaded: &Loaded, daemon: bool) -> Level {
    match loaded.origin("log.level") {
        Origin::Default if daemon => Level::Info,
        _ => loaded.config.log.level,
    }
}

/// What is printed once clients can connect.
fn told(ready: &Ready, json: bool) -> String {
    if json {
        return serde_json::to_string(ready).unwrap_or_default() + "\n";
    }
    format!(
        "kernel {} is ready (PID {})\nlistening on {}\nconnection file {}\n",
        ready.id,
        ready.pid,
        ready.endpoint,
        ready.connection_file.display()
    )
}

/// Where the log goes.
fn sinks(serve: &Serve, config: &Config, dir: &Path, settings: &Settings, home: &Home) -> Result<Sinks> {
    let outputs = &config.log.outputs;
    let to = |output| outputs.contains(&output);
    let to_file = to(LogOutput::File) || serve.log_file.is_some() || outputs.is_empty() && serve.daemon;
    if settings.private.is_some() && serve.log_file.is_none() {
        return Ok(Sinks::stderr());
    }
    let file = if to_file {
        let id = settings.kernel_id()?;
        let path = match (&serve.log_file, &config.daemon.log_dir) {
            (Some(file), _) => home::for_kernel(&dir.join(file), &id),
            (None, Some(folder)) => home::for_kernel(folder, &id).join(format!("{id}.log")),
            (None, None) => home.log_file(&id),
        };
        Some(FileSettings::new(path, &config.daemon, serve.daemon))
    } else {
        None
    };
    // In the background standard error leads into the file.
    let stderr = to(LogOutput::Stderr) && !serve.daemon || outputs.is_empty() && !to_file;
    Ok(Sinks { file, stderr, syslog: to(LogOutput::Syslog), journald: to(LogOutput::Journald) })
}

/// Flags over configuration.
fn settings(serve: &Serve, config: &Config, dir: &Path, home: &Home) -> Result<Settings> {
    let transport = serve.transport.map(|transport| match transport {
        cli::Transport::Tcp => Transport::Tcp,
        cli::Transport::Ipc => Transport::Ipc,
    });
    let ports = match serve.ports {
        Ports::Shell(port) => Some([port, 0, 0, 0, 0]),
        Ports::All(ports) => Some(ports),
        Ports::Any => config.kernel.port.map(|port| [port, 0, 0, 0, 0]),
    };
    let wants_tcp = config.kernel.transport == config::Transport::Tcp || serve.ip.is_some();
    let mut settings = Settings {
        id: serve.id.clone().or_else(|| config.kernel.id.clone()),
        connection_file: serve.connection_file.as_ref().map(|file| dir.join(file)),
        transport: transport.or_else(|| wants_tcp.then_some(Transport::Tcp)),
        ip: serve.ip.unwrap_or(config.kernel.ip).to_string(),
        bind: serve.ip,
        clients: config.kernel.allow_clients.clone(),
        ports: if transport == Some(Transport::Ipc) { None } else { ports },
        private: serve.private.clone().map(|folder: PathBuf| dir.join(folder)),
        engine: serve.engine.map_or(config.default_engine.clone(), |engine| engine.name().into()),
        pid_file: None,
    };
    if settings.private.is_none() {
        let id = settings.kernel_id()?;
        // One that stands in the configuration for another kernel is not ours.
        let ours = |path: &PathBuf| path.parent() != Some(&home.kernel_dir()) || *path == home.pid_file(&id);
        let configured = config.daemon.pid_file.as_ref().map(|file| home::for_kernel(file, &id)).filter(ours);
        settings.pid_file = serve.pid_file.as_ref().map(|file| home::for_kernel(&dir.join(file), &id)).or(configured);
    }
    Ok(settings)
}
