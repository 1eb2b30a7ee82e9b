//! Command line of llmspell-kernel(1).

use std::net::IpAddr;
use std::path::PathBuf;

use llmspell::agents::approval::Decision;
use llmspell::cli::{Command, Engine, Example, Flag, Group, Operand, Permissions, names};
use llmspell::error::{Class, Error, Result};
use llmspell::home::check_id;
use llmspell::kernelspec::{Place, Spec};
use llmspell::service::{FIRST_PORT, Format, Scope};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// What to do.
    pub(crate) action: Action,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Serve a kernel.
    Serve(Box<Serve>),
    /// Print the configuration in force, or one section of it.
    ConfigShow { section: Option<String>, json: bool },
    /// Check `file`, or the files a kernel would read.
    ConfigCheck { file: Option<PathBuf> },
    /// Write the default configuration; `-` or nothing is standard output.
    ConfigInit { output: Option<PathBuf>, force: bool },
    /// Rewrite a configuration of v0.10; print it unless `write`.
    ConfigMigrate { file: Option<PathBuf>, write: bool },
    /// Keep the key of a service.
    KeysSet { name: String },
    /// Print the names of the keys there are.
    KeysList { json: bool },
    /// Forget a key.
    KeysRemove { name: String },
    /// Print the calls of tools that wait for a person.
    ApprovalsList { json: bool },
    /// Decide on one.
    Approval { id: String, decision: Decision, json: bool },
    /// Look for what would keep a kernel from working.
    Doctor { json: bool },
    /// Tell Jupyter of the kernel.
    Install { place: Place, spec: Spec },
    /// Tell it no more.
    Uninstall { place: Place, name: Option<String> },
    /// Print the kernelspecs.
    List { place: Place, json: bool },
    /// Make a service of a kernel; print its files instead if `print`.
    InstallService { service: Service, print: bool },
    /// Remove it.
    UninstallService(Service),
    /// Write a connection file for a kernel to come.
    Connection { host: String, ports: [u16; 5], output: Option<PathBuf>, force: bool },
}

/// A service of systemd or launchd. What is `None` is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The kernel.
    pub(crate) id: Option<String>,
    /// Its configuration.
    pub(crate) config: Option<PathBuf>,
    /// Its ports.
    pub(crate) ports: Ports,
    /// Whose.
    pub(crate) scope: Option<Scope>,
    /// Of which engine.
    pub(crate) format: Option<Format>,
    /// Replace what somebody else wrote.
    pub(crate) force: bool,
    /// Start it with the machine.
    pub(crate) enable: bool,
    /// Start it now.
    pub(crate) start: bool,
}

/// A kernel to serve. What is `None` is left to the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Serve {
    /// Its id.
    pub(crate) id: Option<String>,
    /// Where it listens.
    pub(crate) ports: Ports,
    /// How; a port implies tcp.
    pub(crate) transport: Option<Transport>,
    /// The address to bind.
    pub(crate) ip: Option<IpAddr>,
    /// Who may connect to it.
    pub(crate) clients: Option<Vec<String>>,
    /// The connection file to use, or to write.
    pub(crate) connection_file: Option<PathBuf>,
    /// The working directory.
    pub(crate) workdir: Option<PathBuf>,
    /// The engine.
    pub(crate) engine: Option<Engine>,
    /// The level of the log.
    pub(crate) log_level: Option<LogLevel>,
    /// `--profile` and `--allow-`.
    pub(crate) permissions: Permissions,
    /// Print one JSON line when ready.
    pub(crate) json: bool,
    /// Go into the background.
    pub(crate) daemon: bool,
    /// Where the log goes.
    pub(crate) log_file: Option<PathBuf>,
    /// One more PID file.
    pub(crate) pid_file: Option<PathBuf>,
    /// `daemon.max_log_size`, a size.
    pub(crate) log_rotate_size: Option<String>,
    /// `daemon.max_log_files`.
    pub(crate) log_rotate_count: Option<u32>,
    /// When to end unused, a duration.
    pub(crate) idle_timeout: Option<String>,
    /// Most clients.
    pub(crate) max_clients: Option<u32>,
    /// Serve only the client that started it, with everything in this folder.
    pub(crate) private: Option<PathBuf>,
}

/// Which ports were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ports {
    /// None: free ones, or sockets in a folder.
    #[default]
    Any,
    /// The shell port; the others are free ones.
    Shell(u16),
    /// Shell, iopub, stdin, control, heartbeat.
    All([u16; 5]),
}

/// How clients reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Ports.
    Tcp,
    /// Sockets in a folder.
    Ipc,
}

const TRANSPORTS: [(&str, Transport); 2] = [("tcp", Transport::Tcp), ("ipc", Transport::Ipc)];

/// Levels of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What looks wrong.
    Warn,
    /// Starts, stops, requests.
    Info,
    /// Decisions.
    Debug,
    /// Messages.
    Trace,
}

const LOG_LEVELS: [(&str, LogLevel); 6] = [
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

impl LogLevel {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        LOG_LEVELS.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

/// Everything the rows below can write to.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    id: Option<String>,
    ports: Ports,
    transport: Option<Transport>,
    ip: Option<IpAddr>,
    connection_file: Option<PathBuf>,
    workdir: Option<PathBuf>,
    config: Option<PathBuf>,
    engine: Option<Engine>,
    log_level: Option<LogLevel>,
    permissions: Permissions,
    json: bool,
    daemon: bool,
    log_file: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    log_rotate_size: Option<String>,
    log_rotate_count: Option<u32>,
    idle_timeout: Option<String>,
    max_clients: Option<u32>,
    private: Option<PathBuf>,
    section: Option<String>,
    file: Option<PathBuf>,
    force: bool,
    write: bool,
    place: Place,
    name: Option<String>,
    display_name: Option<String>,
    clients: Option<Vec<String>>,
    host: Option<String>,
    scope: Option<Scope>,
    format: Option<Format>,
    enable: bool,
    start: bool,
    print: bool,
    word: Option<String>,
}

impl AsMut<Permissions> for Draft {
    fn as_mut(&mut self) -> &mut Permissions {
        &mut self.permissions
    }
}

impl AsMut<Option<Engine>> for Draft {
    fn as_mut(&mut self) -> &mut Option<Engine> {
        &mut self.engine
    }
}

impl Draft {
    fn serve(self) -> Result<Args> {
        let Draft {
            id,
            ports,
            transport,
            ip,
            clients,
            connection_file,
            workdir,
            engine,
            log_level,
            permissions,
            json,
            daemon,
            log_file,
            pid_file,
            log_rotate_size,
            log_rotate_count,
            idle_timeout,
            max_clients,
            private,
            config,
            word,
            ..
        } = self;
        if let (Some(word), None) = (&word, &connection_file) {
            let error = Error::new(Class::Usage, format!("{word:?}: unexpected operand"));
            return Err(error.hint("`llmspell-run` runs scripts."));
        }
        let serve = Serve {
            id,
            ports,
            transport,
            ip,
            clients,
            connection_file,
            workdir,
            engine,
            log_level,
            permissions,
            json,
            daemon,
            log_file,
            pid_file,
            log_rotate_size,
            log_rotate_count,
            idle_timeout,
            max_clients,
            private,
        };
        Ok(Args { config, action: Action::Serve(Box::new(serve)) })
    }

    fn service(self) -> (Service, bool) {
        let Draft { id, config, ports, scope, format, force, enable, start, print, .. } = self;
        (Service { id, config, ports, scope, format, force, enable, start }, print)
    }

    /// The call that was named, and what is decided.
    fn decide(self, decision: Decision) -> Result<Args> {
        let id = self.section.unwrap_or_default();
        Self::act(self.config, Action::Approval { id, decision, json: self.json })
    }

    /// Any other action.
    fn act(config: Option<PathBuf>, action: Action) -> Result<Args> {
        Ok(Args { config, action })
    }
}

const ID: Flag<Draft> = Flag::value("id", "ID", |draft: &mut Draft, value| {
    let id = value.text()?;
    check_id(id)?;
    draft.id = Some(id.to_owned());
    Ok(())
})
.doc("Call the kernel ID. Its files are named after it, and clients find it by it. The default is `llmspell-kernel`.");

const PORTS: Flag<Draft> = Flag::value("ports", "SHELL,IOPUB,STDIN,CONTROL,HB", |draft: &mut Draft, value| {
    draft.ports = Ports::All(value.parse_all("a port number")?);
    Ok(())
})
.doc("Listen on exactly these five ports. Containers and firewalls need them.");

const CLIENTS: Flag<Draft> = Flag::value("allow-clients", "LIST", |draft: &mut Draft, value| {
    draft.clients = Some(value.list()?);
    Ok(())
})
.doc(
    "Let only these addresses connect. LIST holds addresses and blocks such as `10.0.0.0/8`, separated by commas. \
     Messages are signed and not encrypted: whoever can connect reads the output.",
);

const ADDRESS: Group<Draft> = Group::new(
    "Address",
    &[
        ID,
        Flag::value("port", "PORT", |draft: &mut Draft, value| {
            draft.ports = Ports::Shell(value.parse("a port number")?);
            Ok(())
        })
        .short('p')
        .excludes(&["ports"])
        .doc(
            "Listen for requests on PORT. This is the shell port; the four others are free ones and stand in the \
             connection file.",
        ),
        PORTS,
        Flag::value("transport", "NAME", |draft: &mut Draft, value| {
            draft.transport = Some(value.pick(&TRANSPORTS)?);
            Ok(())
        })
        .choices(&names(&TRANSPORTS))
        .doc("Serve over ports or over sockets in a private folder. A port implies `tcp`."),
        Flag::value("ip", "ADDR", |draft: &mut Draft, value| {
            draft.ip = Some(value.parse("an IP address")?);
            Ok(())
        })
        .doc("Listen on the address ADDR. The default is `127.0.0.1`. Beyond this machine `--allow-clients` must say for whom."),
        CLIENTS,
        Flag::value("connection-file", "FILE", |draft: &mut Draft, value| {
            draft.connection_file = Some(value.path()?);
            Ok(())
        })
        .short('f')
        .doc(
            "Use the connection file FILE. If it exists, ports and key are taken from it, as Jupyter expects; else \
             it is written. FILE may be a registration file, see llmspell-jupyter(7).",
        ),
        Flag::value("private", "DIR", |draft: &mut Draft, value| {
            draft.private = Some(value.path()?);
            Ok(())
        })
        .hidden()
        .excludes(&["port", "ports", "transport", "ip", "connection-file"])
        .doc("Serve only the client that started it. The sockets lie in DIR, and the end of standard input ends it."),
    ],
);

const BACKGROUND: Group<Draft> = Group::new(
    "Background",
    &[
        Flag::switch("daemon", |draft: &mut Draft| draft.daemon = true).short('d').excludes(&["private"]).doc(
            "Go into the background. The command returns when the kernel is ready, with status 0, or when it failed, \
             with the cause and its status. The log goes to a file, its umask is 077. A service manager wants it in the foreground.",
        ),
        Flag::value("log-file", "FILE", |draft: &mut Draft, value| {
            draft.log_file = Some(value.path()?);
            Ok(())
        })
        .doc(
            "Log to FILE. `{id}` in it becomes the kernel's id. The default in the background is \
             `~/.llmspell/logs/ID.log`, in the foreground standard error.",
        ),
        Flag::value("pid-file", "FILE", |draft: &mut Draft, value| {
            draft.pid_file = Some(value.path()?);
            Ok(())
        })
        .doc("Write the process id to FILE as well. `{id}` in it becomes the kernel's id."),
        // Of v0.10; the configuration says the same.
        Flag::value("log-rotate-size", "SIZE", |draft: &mut Draft, value| {
            value.size()?;
            draft.log_rotate_size = Some(value.into_text()?);
            Ok(())
        })
        .hidden()
        .doc("Rotate the log before it is larger than SIZE."),
        Flag::value("log-rotate-count", "COUNT", |draft: &mut Draft, value| {
            draft.log_rotate_count = Some(value.parse("a count")?);
            Ok(())
        })
        .hidden()
        .doc("Keep COUNT old log files."),
    ],
);

const RUNNING: Group<Draft> = Group::new(
    "Running",
    &[
        Flag::workdir(|draft: &mut Draft, value| {
            draft.workdir = Some(value.path()?);
            Ok(())
        }),
        Flag::ENGINE,
        Flag::value("log-level", "LEVEL", |draft: &mut Draft, value| {
            draft.log_level = Some(value.pick(&LOG_LEVELS)?);
            Ok(())
        })
        .choices(&names(&LOG_LEVELS))
        .doc("Log what matters at LEVEL and above."),
        Flag::value("idle-timeout", "DURATION", |draft: &mut Draft, value| {
            value.duration()?;
            draft.idle_timeout = Some(value.into_text()?);
            Ok(())
        })
        .doc("End when nobody is connected and nothing runs for DURATION. The default, 0, is never."),
        Flag::value("max-clients", "COUNT", |draft: &mut Draft, value| {
            draft.max_clients = Some(value.parse("a count")?);
            Ok(())
        })
        .doc("Serve COUNT clients that follow the kernel, and refuse others. The default, 0, is any number."),
        Flag::switch("json", |draft: &mut Draft| draft.json = true).doc(
            "Print one JSON line when ready. It holds the id, the PID and the connection file, for programs that wait.",
        ),
    ],
);

const CONFIGURATION: Group<Draft> = Group::new(
    "Configuration",
    &[Flag::config(|draft: &mut Draft, value| {
        draft.config = Some(value.path()?);
        Ok(())
    })],
);

const PRINTED: Group<Draft> = Group::new(
    "Output",
    &[Flag::switch("json", |draft: &mut Draft| draft.json = true).doc("Print one JSON document, for programs.")],
);

const PLACE: Group<Draft> = Group::new(
    "Place",
    &[
        Flag::switch("user", |draft: &mut Draft| draft.place = Place::User)
            .excludes(&["sys-prefix", "prefix"])
            .doc("In the user's own folder of Jupyter. This is the default."),
        Flag::switch("sys-prefix", |draft: &mut Draft| draft.place = Place::Environment)
            .excludes(&["user", "prefix"])
            .doc("In the active Python environment."),
        Flag::value("prefix", "DIR", |draft: &mut Draft, value| {
            draft.place = Place::Prefix(value.path()?);
            Ok(())
        })
        .excludes(&["user", "sys-prefix"])
        .doc("In `DIR/share/jupyter`."),
    ],
);

const NAME: Flag<Draft> = Flag::value("name", "NAME", |draft: &mut Draft, value| {
    draft.name = Some(value.into_text()?);
    Ok(())
})
.doc("Call the kernelspec NAME. The default is `llmspell`.");

const INSTALL: Command<Draft, Args> = Command::new("install", "tell Jupyter of this kernel")
    .about(&["Writes a kernelspec: a folder with a description and logos, in which this program stands with its full \
              path. One that an earlier `install` wrote is replaced, another kernel's is not."])
    .flags(&[
        PLACE,
        Group::new(
            "Kernelspec",
            &[
                NAME,
                Flag::value("display-name", "TEXT", |draft: &mut Draft, value| {
                    draft.display_name = Some(value.into_text()?);
                    Ok(())
                })
                .doc("Let Jupyter show TEXT. The default is `Lua (llmspell)`."),
                Flag::ENGINE,
            ],
        ),
    ])
    .make(|draft| {
        let Draft { place, name, display_name, config, engine, .. } = draft;
        let engine = engine.map(|engine| engine.name().to_owned());
        Draft::act(None, Action::Install { place, spec: Spec { name, display_name, config, engine } })
    });

const UNINSTALL: Command<Draft, Args> = Command::new("uninstall", "remove what install wrote")
    .about(&["Removes a kernelspec that `install` wrote from the place that is named. Running kernels go on."])
    .flags(&[PLACE, Group::new("Kernelspec", &[NAME])])
    .make(|draft| Draft::act(draft.config, Action::Uninstall { place: draft.place, name: draft.name }));

const SERVICE: Group<Draft> = Group::new(
    "Service",
    &[
        Flag::switch("user", |draft: &mut Draft| draft.scope = Some(Scope::User))
            .excludes(&["system"])
            .doc("Yours: it runs with your rights. This is the default for everybody but root."),
        Flag::switch("system", |draft: &mut Draft| draft.scope = Some(Scope::System))
            .doc("The machine's: it runs as the user `llmspell`. This is the default for root."),
        Flag::value("service-type", "NAME", |draft: &mut Draft, value| {
            draft.format = Some(value.pick(&ENGINES)?);
            Ok(())
        })
        .choices(&names(&ENGINES))
        .doc("The program that supervises. The default is that of the operating system."),
        ID,
        Flag::switch("force", |draft: &mut Draft| draft.force = true).doc("Also where somebody else wrote the files."),
    ],
);

const ENGINES: [(&str, Format); 2] = [("systemd", Format::Systemd), ("launchd", Format::Launchd)];

const INSTALL_SERVICE: Command<Draft, Args> = Command::new("install-service", "make a service of a kernel")
    .about(&[
        "Writes the units of systemd, or the property list of launchd, with the full path of this program, and tells \
         what to do next. With systemd the kernel ID is the unit `llmspell-kernel@ID`, and the file that configures it \
         is `/etc/llmspell/kernels/ID.toml` or `~/.llmspell/kernels/ID.toml`; without `--id` it is `llmspell-kernel`, \
         and the usual files do. The page llmspell-service(7) tells the rest.",
    ])
    .flags(&[
        SERVICE,
        Group::new(
            "Doing",
            &[
                PORTS,
                Flag::switch("print", |draft: &mut Draft| draft.print = true)
                    .doc("Print the files instead of writing them."),
                Flag::switch("enable", |draft: &mut Draft| draft.enable = true)
                    .doc("Start it whenever the machine starts, or you log in."),
                Flag::switch("start", |draft: &mut Draft| draft.start = true).doc("Start it now, or again if it runs."),
            ],
        ),
    ])
    .make(|draft| {
        let (service, print) = draft.service();
        Draft::act(None, Action::InstallService { service, print })
    });

const UNINSTALL_SERVICE: Command<Draft, Args> = Command::new("uninstall-service", "remove what install-service wrote")
    .about(&["Stops the kernels of these services and removes the files. Configurations, state and logs stay."])
    .flags(&[SERVICE])
    .make(|draft| Draft::act(None, Action::UninstallService(draft.service().0)));

const CONNECTION: Command<Draft, Args> = Command::new("connection", "write a connection file for a kernel to come")
    .about(&["Makes a key. The kernel is started with `--connection-file` and the file, and each client is given a \
                  copy: for kernels in containers and on other machines, which cannot hand over what they chose \
                  themselves."])
    .flags(&[
        Group::new(
            "Reached at",
            &[
                Flag::value("ip", "HOST", |draft: &mut Draft, value| {
                    draft.host = Some(value.into_text()?);
                    Ok(())
                })
                .doc("The address or name by which clients reach it. The default is `127.0.0.1`."),
                PORTS,
            ],
        ),
        Group::new(
            "Output",
            &[
                Flag::value("output", "FILE", |draft: &mut Draft, value| {
                    draft.file = Some(value.path()?);
                    Ok(())
                })
                .short('o')
                .doc("Write to FILE, which nobody else can read. The default is standard output."),
                Flag::switch("force", |draft: &mut Draft| draft.force = true)
                    .doc("Overwrite FILE. Clients with the old key are then refused."),
            ],
        ),
    ])
    .make(|draft| {
        let ports = match draft.ports {
            Ports::All(ports) => ports,
            _ => std::array::from_fn(|i| FIRST_PORT + i as u16),
        };
        let host = draft.host.unwrap_or_else(|| "127.0.0.1".into());
        Draft::act(draft.config, Action::Connection { host, ports, output: draft.file, force: draft.force })
    });

const LIST: Command<Draft, Args> = Command::new("list", "print the kernelspecs that install wrote")
    .about(&["Looks wherever Jupyter does, and in the place that is named."])
    .flags(&[PLACE, PRINTED])
    .make(|draft| Draft::act(draft.config, Action::List { place: draft.place, json: draft.json }));

const FILE: Operand<Draft> = Operand::new("FILE", |draft: &mut Draft, value| {
    draft.file = Some(value.path()?);
    Ok(())
})
.optional()
.doc("The configuration file. The default is the user's own.");

const CONFIG: Command<Draft, Args> = Command::new("config", "show, check, write or migrate the configuration")
    .commands(&[
        Command::new("show", "print the configuration in force")
            .about(&["Prints every value a kernel started here would use, and where it came from: default, file, \
             environment or flag."])
            .flags(&[PRINTED])
            .operands(&[Operand::new("SECTION", |draft: &mut Draft, value| {
                draft.section = Some(value.into_text()?);
                Ok(())
            })
            .optional()
            .doc("Print this section only.")])
            .make(|draft| Draft::act(draft.config, Action::ConfigShow { section: draft.section, json: draft.json })),
        Command::new("check", "check a configuration file")
            .about(&["Says what is wrong and in which line. Silence and exit status 0 mean that nothing is."])
            .operands(&[FILE])
            .make(|draft| Draft::act(draft.config, Action::ConfigCheck { file: draft.file })),
        Command::new("init", "write a configuration file with every default, commented")
            .about(&["Writes to standard output, or to a file that must not exist yet."])
            .flags(&[Group::new(
                "Output",
                &[
                    Flag::value("output", "FILE", |draft: &mut Draft, value| {
                        draft.file = Some(value.path()?);
                        Ok(())
                    })
                    .short('o')
                    .doc("Write to FILE."),
                    Flag::switch("force", |draft: &mut Draft| draft.force = true).doc("Replace the file if it exists."),
                ],
            )])
            .make(|draft| Draft::act(draft.config, Action::ConfigInit { output: draft.file, force: draft.force })),
        Command::new("migrate", "rewrite a configuration of version 0.10")
            .about(&["Prints the file as this version wants it, with a comment where a key has no successor."])
            .flags(&[Group::new(
                "Output",
                &[Flag::switch("write", |draft: &mut Draft| draft.write = true)
                    .doc("Replace the file. The old one is kept beside it with the ending `.bak`.")],
            )])
            .operands(&[FILE])
            .make(|draft| Draft::act(draft.config, Action::ConfigMigrate { file: draft.file, write: draft.write })),
    ]);

const PROVIDER: Operand<Draft> = Operand::new("NAME", |draft: &mut Draft, value| {
    draft.section = Some(value.into_text()?);
    Ok(())
})
.doc("The provider: a service such as `openai`, or the NAME of a section `[providers.NAME]`.");

const KEYS: Command<Draft, Args> = Command::new("keys", "keep keys of model services")
    .about(&["Keys are kept in `~/.llmspell/keys.toml`, which only you can read. No command prints one. \
             llmspell.toml(5) tells where else a key is looked for, and in which order."])
    .commands(&[
        Command::new("set", "keep a key")
            .about(&["Asks for the key at a terminal without showing it; else reads the first line of standard \
                     input. A key is never an argument, as others could see it there."])
            .operands(&[PROVIDER])
            .make(|draft| {
                let name = draft.section.unwrap_or_default();
                Draft::act(draft.config, Action::KeysSet { name })
            }),
        Command::new("list", "print the names of the keys there are")
            .flags(&[PRINTED])
            .make(|draft| Draft::act(draft.config, Action::KeysList { json: draft.json })),
        Command::new("remove", "forget a key").operands(&[PROVIDER]).make(|draft| {
            let name = draft.section.unwrap_or_default();
            Draft::act(draft.config, Action::KeysRemove { name })
        }),
    ]);

const CALL: Operand<Draft> = Operand::new("ID", |draft: &mut Draft, value| {
    draft.section = Some(value.into_text()?);
    Ok(())
})
.doc("The call, by its id or the first letters of it.");

const APPROVALS: Command<Draft, Args> = Command::new("approvals", "decide on calls that wait for a person")
    .about(&[
        "An agent whose model wants to write files, run programs or send something waits for a person, unless its \
         script says otherwise. What waits is kept, in the stores of kernels and of llmspell-run(1), until it is \
         decided. A run that waits goes on at once; one that has paused goes on, with nothing done twice, when its \
         script asks it again: `agent:resume_run(ID)`, llmspell-lua(7).",
    ])
    .commands(&[
        Command::new("list", "print the calls that wait")
            .flags(&[PRINTED])
            .make(|draft| Draft::act(draft.config, Action::ApprovalsList { json: draft.json })),
        Command::new("approve", "allow a call")
            .flags(&[PRINTED])
            .operands(&[CALL])
            .make(|draft| draft.decide(Decision::Approve)),
        Command::new("deny", "refuse a call").flags(&[PRINTED]).operands(&[CALL, REASON]).make(|draft| {
            let reason = draft.word.clone();
            draft.decide(Decision::Deny(reason))
        }),
        Command::new("edit", "allow a call with other parameters")
            .flags(&[PRINTED])
            .operands(&[CALL, PARAMETERS])
            .make(|draft| {
                let text = draft.word.clone().unwrap_or_default();
                let parameters = serde_json::from_str(&text)
                    .map_err(|error| Error::new(Class::Usage, format!("PARAMETERS: {error}")))?;
                draft.decide(Decision::Edit(parameters))
            }),
    ]);

const REASON: Operand<Draft> = Operand::new("REASON", |draft: &mut Draft, value| {
    draft.word = Some(value.into_text()?);
    Ok(())
})
.optional()
.doc("Why; the model is told.");

const PARAMETERS: Operand<Draft> = Operand::new("PARAMETERS", |draft: &mut Draft, value| {
    draft.word = Some(value.into_text()?);
    Ok(())
})
.doc("All parameters of the call, as a JSON object.");

/// The parser, `--help`, the page and completions all read this.
pub(crate) const CLI: Command<Draft, Args> = Command::new(
    "llmspell-kernel",
    "run a kernel that serves scripts and tools",
)
.about(&[
    "Runs one kernel, in the foreground or with `--daemon` in the background, until it gets SIGTERM or, while \
         idle at a terminal, SIGINT. A kernel runs Lua scripts and tools for its clients: llmspell-run(1), llmspell-tool(1), Jupyter notebooks and editors. It speaks the \
         Jupyter protocol.",
    "Without flags its sockets lie in a private folder, and only the user who started it can reach it. `--port` \
         makes it listen on this machine's loopback address. Its connection file holds the address and the secret \
         key; whoever can read that file can run scripts.",
    "What scripts and tools may do is decided by the configuration and the permission flags, for every client \
         alike.",
    "Flags win over the environment, the environment over the configuration file, the file over the defaults.",
])
.synopsis(&[
    "[start] [FLAGS]",
    "config show|check|init|migrate [FLAGS] [OPERANDS]",
    "keys set|remove NAME",
    "keys list [FLAGS]",
    "approvals list|approve|deny|edit [FLAGS] [OPERANDS]",
    "doctor [FLAGS]",
    "install|uninstall|list [FLAGS]",
    "install-service|uninstall-service|connection [FLAGS]",
])
.common(&[CONFIGURATION])
.flags(&[ADDRESS, RUNNING, BACKGROUND, Group::PERMISSIONS])
.commands(&[
    Command::new("start", "run a kernel, as without a command")
        .about(&["The same as no command at all, with the same flags."])
        .flags(&[ADDRESS, RUNNING, BACKGROUND, Group::PERMISSIONS])
        .operands(&[Operand::new("WORD", |draft: &mut Draft, value| {
            draft.word = Some(value.text()?.to_owned());
            Ok(())
        })
        .optional()
        .repeated()
        .doc(
            "Together with `--connection-file`: passed over. Jupyter programs give their kernels words of their own, as \
             `jupyter run` does with the name of its script.",
        )])
        .make(Draft::serve),
    CONFIG,
    KEYS,
    APPROVALS,
    Command::new("doctor", "look for what would keep a kernel from working")
        .about(&["Checks the folders and their modes, the configuration, stale files, free ports and the limits of \
                 the system. Exits with 1 if something would keep a kernel from working."])
        .flags(&[PRINTED])
        .make(|draft| Draft::act(draft.config, Action::Doctor { json: draft.json })),
    INSTALL,
    UNINSTALL,
    LIST,
    INSTALL_SERVICE,
    UNINSTALL_SERVICE,
    CONNECTION,
])
.make(Draft::serve)
.signals(&[
    (
        "SIGTERM",
        "Ends the kernel with status 0. It takes no new work, running work goes on for `kernel.grace` at most, what has \
         to be kept is written, clients are told, its files are removed.",
    ),
    ("SIGINT", "Interrupts the script that runs. Without one, a kernel at a terminal ends."),
    (
        "SIGHUP",
        "Opens the log file anew, and reads the configuration again. Keys that llmspell.toml(5) marks are applied at \
         once; the log names those that wait for the next start. A configuration with an error changes nothing.",
    ),
    ("SIGUSR1", "Writes the status into the log."),
    ("SIGUSR2", "Logs more: first `debug`, then `trace`, then again what is configured."),
])
.environment(&[
    ("LLMSPELL_HOME", "The folder of all files instead of `~/.llmspell`."),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "Set by systemd for a service of `Type=notify` or `Type=notify-reload`. The kernel tells it when it is ready, \
         reloads or stops, and what it does. The watchdog is told that it lives only while its threads answer and a \
         script that is to stop does so within that time; a script that merely runs long is alive.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Set by systemd for `LoadCredential=`. `llmspell.toml` in it is one more configuration file, `connection-key` the \
         key of the connection instead of a random one. Scripts cannot read that folder.",
    ),
    ("JOURNAL_STREAM", "Set by systemd. Where standard error leads to the journal, lines have a severity and no time."),
])
.files(&[
    ("~/.llmspell/config.toml", "The user's configuration."),
    ("./llmspell.toml", "The project's configuration, which may narrow what is allowed and not widen it."),
    ("~/.llmspell/kernel/ID.json", "The connection file, removed at the end."),
    ("~/.llmspell/kernel/ID.pid", "The process id and a newline, locked while the kernel lives."),
    ("~/.llmspell/logs/ID.log", "The log of a kernel in the background; older ones have the time in their name."),
])
.examples(&[
    Example::new("Run the kernel that clients use when told nothing else.", "llmspell-kernel"),
    Example::new(
        "Run one on a port, with its connection file where another program expects it.",
        "llmspell-kernel start --port 59000 --connection-file ~/.llmspell/kernel.json",
    ),
    Example::new("Run one in the background, on a port.", "llmspell-kernel --daemon --port 9555"),
    Example::new(
        "Let scripts read one folder and reach one host, nothing else.",
        "llmspell-kernel --profile safe --allow-read=./data --allow-net=api.example.org",
    ),
    Example::new("Stop it.", "kill -TERM $(cat ~/.llmspell/kernel/llmspell-kernel.pid)"),
    Example::new("Start a configuration of your own.", "llmspell-kernel config init -o ~/.llmspell/config.toml"),
    Example::new(
        "Run one in the background that ends when nobody has used it for an hour.",
        "llmspell-kernel --daemon --id hour --idle-timeout 1h --max-clients 10",
    ),
    Example::new("Ask whether a configuration is right.", "llmspell-kernel config check ~/.llmspell/config.toml"),
    Example::new("Make it a choice in Jupyter.", "llmspell-kernel install"),
    Example::new("Ask whether a kernel would work here.", "llmspell-kernel doctor"),
    Example::new(
        "Show the unit of a kernel of your own that systemd would supervise.",
        "llmspell-kernel install-service --user --id notes --print",
    ),
])
.see_also(&[
    "llmspell-run(1)",
    "llmspell-tool(1)",
    "llmspell.toml(5)",
    "llmspell(7)",
    "llmspell-jupyter(7)",
    "llmspell-protocol(7)",
    "llmspell-service(7)",
]);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use llmspell::cli::{Grant, check, check_page};

    fn args(line: &str) -> Result<Args> {
        llmspell::cli::args(&CLI, line.split_whitespace())
    }

    fn serve(line: &str) -> Serve {
        match args(line).unwrap().action {
            Action::Serve(serve) => *serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_table_is_fit() {
        assert_eq!(check(&CLI), Vec::<String>::new());
    }

    #[test]
    fn the_page_is_what_the_table_says() {
        check_page(&CLI, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../man/llmspell-kernel.1"))).unwrap();
    }

    #[test]
    fn release_note_lines_work() {
        let kernel = serve("start --port 59000 --connection-file F");
        assert_eq!((&kernel.id, kernel.ports), (&None, Ports::Shell(59000)));
        assert_eq!(kernel.connection_file, Some("F".into()));
        assert_eq!(kernel, serve("-p59000 -f F"));
        assert_eq!(kernel, serve("start -p59000 -f F a.lua b"));
        assert_eq!(args("start a.lua").unwrap_err().class(), Class::Usage);
        let kernel = serve("start --daemon --port 9555 --log-file L --pid-file P");
        assert!(kernel.daemon);
        let rotated = serve("start --daemon --log-rotate-size 1048576 --log-rotate-count 3");
        assert_eq!((rotated.log_rotate_size.as_deref(), rotated.log_rotate_count), (Some("1048576"), Some(3)));
        let kernel2 = serve("start --idle-timeout 3600 --max-clients 10");
        assert_eq!((kernel2.idle_timeout.as_deref(), kernel2.max_clients), (Some("3600"), Some(10)));
        assert_eq!((kernel.log_file, kernel.pid_file), (Some("L".into()), Some("P".into())));
    }

    #[test]
    fn every_flag_arrives() {
        let kernel = serve(
            "--id a --ports 1,2,3,4,5 --transport tcp --ip ::1 --workdir / --engine lua --log-level debug --profile \
             safe --allow-read=/a,/b --allow-run --json",
        );
        assert_eq!(kernel.ports, Ports::All([1, 2, 3, 4, 5]));
        assert_eq!((kernel.transport, kernel.ip), (Some(Transport::Tcp), "::1".parse().ok()));
        assert_eq!((kernel.engine, kernel.log_level, kernel.json), (Some(Engine::Lua), Some(LogLevel::Debug), true));
        assert_eq!(kernel.permissions.read, Some(Grant::Only(vec!["/a".into(), "/b".into()])));
        assert_eq!(kernel.permissions.run, Some(Grant::All));
        assert_eq!(serve("--private /d").private, Some("/d".into()));
    }

    #[test]
    fn commands_have_flags_of_their_own() {
        let action = |line: &str| args(line).unwrap().action;
        assert_eq!(
            action("config show kernel --json"),
            Action::ConfigShow { section: Some("kernel".into()), json: true }
        );
        assert_eq!(action("config check"), Action::ConfigCheck { file: None });
        assert_eq!(action("config init -o x --force"), Action::ConfigInit { output: Some("x".into()), force: true });
        assert_eq!(action("config migrate x --write"), Action::ConfigMigrate { file: Some("x".into()), write: true });
        assert_eq!(action("doctor --json"), Action::Doctor { json: true });
        let spec = Spec { name: Some("n".into()), config: Some("c".into()), ..Spec::default() };
        let place = Place::Prefix("/p".into());
        assert_eq!(action("install --prefix /p --name n -c c"), Action::Install { place: place.clone(), spec });
        assert_eq!(action("uninstall --sys-prefix"), Action::Uninstall { place: Place::Environment, name: None });
        assert_eq!(action("list --prefix /p --json"), Action::List { place, json: true });
        assert_eq!(args("-c x config check").unwrap().config, Some("x".into()));
        for (line, text) in [
            ("config", "a command is missing"),
            ("config init --json", "--json: unknown flag"),
            ("--port 1 doctor", "--port: not a flag of `llmspell-kernel doctor`"),
            ("--port 1 --ports 1,2,3,4,5", "--port: not together with --ports"),
            ("--daemon --private /d", "--daemon: not together with --private"),
            ("--private /d --ip ::1", "--private: not together with --ip"),
            ("--port abc", "--port: \"abc\" is not a port number"),
            ("--ports 1,2", "--ports: 5 values are needed, 2 given"),
            ("--id a/b", "--id: kernel id \"a/b\": use 1 to 64 letters, digits, '.', '_' or '-'"),
            ("strat", "command: \"strat\" is unknown, did you mean start?"),
        ] {
            assert_eq!(args(line).unwrap_err().text(), text, "{line}");
        }
    }
}
