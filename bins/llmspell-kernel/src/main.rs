//! llmspell-kernel(1): one kernel in the foreground; the configuration; the doctor.

mod cli;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cli::{Action, Args, Ports, Serve};
use llmspell::cli::{Engine, main as program, print, report};
use llmspell::config::{Config, Loaded, Sources, commands};
use llmspell::error::{Class, Error, Result};
use llmspell::home::DEFAULT_KERNEL;
use llmspell::kernel::{self, Settings};
use llmspell::kernelspec::{self, Folders};
use llmspell::protocol::connection::{Connection, Transport};
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
        sources.flag("kernel.clients", clients.clone(), "--clients");
    }
    sources.permissions(&serve.permissions);
    let Loaded { config, dir, .. } = load(&sources)?;
    let _log = log::start(&config.log)?;
    config.secrets().for_each(log::hide);

    let settings = settings(serve, &config, &dir)?;
    let workdir = config.kernel.workdir.clone().unwrap_or(dir);
    if !workdir.is_dir() {
        return Err(Error::new(Class::NotFound, format!("--workdir: {}: no such folder", workdir.display())));
    }
    let mut grants = config.grants(&workdir, &sources.home);
    // They hold the key of this kernel.
    grants.hidden.extend(settings.connection_file.iter().chain(&settings.private).cloned());
    let policy = Policy::new(grants);
    let runtime = Runtime::new(config, policy);
    kernel::serve(&settings, &sources.home, &runtime, |ready| {
        let text = if serve.json || settings.private.is_some() {
            serde_json::to_string(ready).unwrap_or_default() + "\n"
        } else {
            format!(
                "kernel {} is ready (PID {})\nlistening on {}\nconnection file {}\n",
                ready.id,
                ready.pid,
                ready.endpoint,
                ready.connection_file.display()
            )
        };
        // Nobody has to read it.
        let _ = print(&text);
    })?;
    Ok(0)
}

/// Flags over configuration.
fn settings(serve: &Serve, config: &Config, dir: &Path) -> Result<Settings> {
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
    Ok(Settings {
        id: serve.id.clone().or_else(|| config.kernel.id.clone()),
        connection_file: serve.connection_file.as_ref().map(|file| dir.join(file)),
        transport: transport.or_else(|| wants_tcp.then_some(Transport::Tcp)),
        ip: serve.ip.unwrap_or(config.kernel.ip).to_string(),
        bind: serve.ip,
        clients: config.kernel.clients.clone(),
        ports: if transport == Some(Transport::Ipc) { None } else { ports },
        private: serve.private.clone().map(|folder: PathBuf| dir.join(folder)),
        engine: serve.engine.map_or(config.default_engine.clone(), |engine| engine.name().into()),
        grace: config.kernel.grace,
    })
}
