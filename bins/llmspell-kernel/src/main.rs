//! llmspell-kernel(1): one kernel in the foreground; the configuration; the doctor.

mod cli;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cli::{Action, Args, Ports, Serve};
use llmspell::cli::{Engine, main as program, print, report};
use llmspell::config::{Config, Loaded, Sources, commands};
use llmspell::error::{Class, Error, Result};
use llmspell::kernel::{self, Settings};
use llmspell::kernelspec::{self, Folders};
use llmspell::protocol::connection::Transport;
use llmspell::runtime::Runtime;
use llmspell::security::Policy;
use llmspell::{config, doctor, log};

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
        Action::Doctor { json } => {
            let loaded = Config::survey(&sources);
            let report = doctor::doctor(&sources.home, &loaded);
            print(&if json { format!("{}\n", report.json()) } else { report.to_string() })?;
            Ok(report.exit())
        }
    }
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
        ports: if transport == Some(Transport::Ipc) { None } else { ports },
        private: serve.private.clone().map(|folder: PathBuf| dir.join(folder)),
        engine: serve.engine.map_or(config.default_engine.clone(), |engine| engine.name().into()),
        grace: config.kernel.grace,
    })
}
