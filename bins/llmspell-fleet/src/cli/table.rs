//! The rows: flags, operands and commands, with what is said about them.

use std::time::Duration;

use llmspell::cli::{Command, Engine, Example, Flag, Group, Operand, Value, names};
use llmspell::error::{Class, Error, Result};
use llmspell::fleet::watch::Settings;
use llmspell::fleet::{Backoff, Policy, logs};
use llmspell::home::check_id;
use llmspell::service::{FORMATS, Scope};

use super::apply::{APPLY, FLEET_FILES, GRACE_FLAG, SCALE};
use super::top::TOP;
use super::{ANSWER, Action, Args, Draft, GRACE, Logs, MOST, START, net};

const ENGINES: [(&str, Engine); 2] = [("lua", Engine::Lua), ("js", Engine::Js)];

pub(super) fn label(draft: &mut Draft, value: Value) -> Result<()> {
    let text = value.text()?;
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(Error::new(Class::Usage, format!("{text:?} is not of the form NAME=VALUE")));
    };
    draft.labels.insert(name.to_owned(), value.to_owned());
    Ok(())
}

const OUTPUT: Group<Draft> = Group::new(
    "Output",
    &[
        Flag::switch("json", |draft: &mut Draft| draft.json = true).doc(
            "Print one JSON document, for programs. Its `schema_version` tells its shape. `logs` and `watch` print one \
             object a line.",
        ),
        Flag::QUIET,
        Flag::VERBOSE,
    ],
);

const ALL: Flag<Draft> = Flag::switch("all", |draft: &mut Draft| draft.all = true).doc("Every kernel there is.");

pub(super) const fn timeout(doc: &'static str) -> Flag<Draft> {
    Flag::timeout(|draft: &mut Draft, value| {
        draft.timeout = Some(value.duration()?);
        Ok(())
    })
    .doc(doc)
}

pub(super) const KERNEL: Operand<Draft> = Operand::new("KERNEL", |draft: &mut Draft, value| {
    draft.operands.push(value.into_text()?);
    Ok(())
})
.doc(
    "The id of a kernel, the name of a group of them, `kernel-PORT`, a port or a PID; or, with a slash or at its end \
     `.json`, the connection file of a kernel anywhere.",
);

const NEW: Group<Draft> = Group::new(
    "New kernels",
    &[
        Flag::value("name", "NAME", |draft: &mut Draft, value| {
            let name = value.text()?;
            check_id(name)?;
            draft.name = Some(name.to_owned());
            Ok(())
        })
        .doc("Call the kernel NAME instead of `kernel-PORT`. Several are called NAME-1, NAME-2 and NAME together."),
        Flag::value("port", "PORT", |draft: &mut Draft, value| {
            draft.port = Some(value.parse("a port number")?);
            Ok(())
        })
        .short('p')
        .doc("Take PORT for the shell channel. Several take the ports behind it. The default is a free one from 9555 on."),
        Flag::value("count", "N", |draft: &mut Draft, value| {
            let count = value.parse("a number")?;
            if !(1..=MOST).contains(&count) {
                return Err(Error::new(Class::Usage, format!("{count} is not between 1 and {MOST}")));
            }
            draft.count = Some(count);
            Ok(())
        })
        .doc("Start N kernels, a group, also with 1, that `scale` makes larger and smaller."),
        Flag::value("workdir", "DIR", |draft: &mut Draft, value| {
            draft.workdir = Some(value.path()?);
            Ok(())
        })
        .doc("Let them work in the directory DIR instead of where you are."),
        Flag::value("env", "NAME=VALUE", |draft: &mut Draft, value| {
            let text = value.text()?;
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            if name.is_empty() {
                return Err(Error::new(Class::Usage, format!("{text:?} is not of the form NAME=VALUE")));
            }
            draft.env.insert(name.to_owned(), value);
            Ok(())
        })
        .doc(
            "Set a variable of theirs, now and whenever they are started again. With the NAME alone it is the value it \
             has here, which keeps a key out of the command line. It is kept in a file only you can read.",
        ),
        Flag::value("label", "NAME=VALUE", label).short('l').doc("Note something about them, to find them by."),
        timeout(
            "Give up on a kernel that is not ready after DURATION. The default is `30s`; 0 is as long as it takes.",
        ),
    ],
);

const KEEPING: Group<Draft> = Group::new(
    "Restarts and limits",
    &[
        Flag::value("restart", "POLICY", |draft: &mut Draft, value| {
            draft.restart = value.pick(&Policy::ALL)?;
            Ok(())
        })
        .choices(&names(&Policy::ALL))
        .doc(
            "Start them again when they end. `on-failure` is after a crash and when they stop answering, `always` \
             whenever nobody asked for the end. `llmspell-fleet watch` does it and has to run.",
        ),
        Flag::value("memory", "SIZE", |draft: &mut Draft, value| {
            draft.memory = Some(value.size()?);
            Ok(())
        })
        .doc(
            "Let each have SIZE of memory at most. It is held by a cgroup where one can be made, else by a limit of \
             the process on its data; the answer says which.",
        ),
        Flag::value("cpu", "CPUS", |draft: &mut Draft, value| {
            let cpus: f64 = value.parse("a number of processors")?;
            if !(cpus > 0.0 && cpus <= 4096.0) {
                return Err(Error::new(Class::Usage, format!("{cpus} is not a number of processors")));
            }
            draft.cpu = Some(cpus);
            Ok(())
        })
        .doc(
            "Let each use CPUS processors' worth of time, such as `0.5`. It takes a cgroup; without one it is refused.",
        ),
    ],
);

/// The parser, `--help`, the page and completions all read this.
pub(crate) const CLI: Command<Draft, Args> = Command::new("llmspell-fleet", "start, watch and stop many kernels")
    .about(&[
        "Starts kernels, shows them, asks them how they are and ends them. Nothing has to run for that: the files below \
         `~/.llmspell` are the registry, and each command looks at them and at the processes. So kernels that were \
         started by hand are there as well, and nothing is lost when a command is killed.",
        "A process is known by its number, its start, the boot and the PID name space: no signal goes to a stranger \
         that has the number of a dead kernel.",
        "The state of a kernel is `starting`; `running`, which its process tells, or what its answers tell: `ready`, `busy` \
         (a script runs), `degraded` (some of it answers), `unhealthy` (none of it does, or it is suspended); `stopping`; \
         `stopped`, as it was asked to or ended well by itself; `dead`, which it should not be; `backoff` and \
         `crash-looping`, when a watch will start it again; `foreign`, which cannot be judged from here. The reason is told \
         with it.",
        "Exits with 1 when the answer is no: a kernel is not well or does not run, or of several some could not be served. \
         If there is only one, and it could not be served, the status is that of its error.",
    ])
    .common(&[OUTPUT])
    .commands(&[
        Command::new("spawn", "start kernels")
            .heading("Changing kernels")
            .about(&[
                "Starts a kernel with the configuration CONFIG and waits until it answers. It is called `kernel-PORT` \
                 and goes on in the background, with its log in `~/.llmspell/logs`. Without CONFIG it has your own \
                 configuration.",
                "A CONFIG that is not where you are is looked for in `~/.llmspell/kernels`. The name of a kernel that \
                 was stopped can be taken again.",
            ])
            .flags(&[NEW, KEEPING, Group::PERMISSIONS])
            .operands(&[
                Operand::new("CONFIG", |draft: &mut Draft, value| {
                    draft.config = Some(value.path()?);
                    Ok(())
                })
                .optional()
                .doc("The configuration of the kernels, a file."),
                Operand::new("ENGINE", |draft: &mut Draft, value| {
                    draft.engine = Some(value.pick(&ENGINES)?);
                    Ok(())
                })
                .optional()
                .doc("Their engine: `lua` or `js`. The default is what the configuration says."),
            ])
            .make(Draft::spawn),
        Command::new("list", "show the kernels")
            .heading("Looking at kernels")
            .aliases(&[("ls", &[])])
            .about(&[
                "Prints a line for each KERNEL, or for all that run or should: its id, its state, PID, port, memory, for \
                 how long it runs, and why it is in that state. It looks at files and processes and asks nobody; \
                 `health` does.",
                "A kernel on another machine or in a container is `foreign`: it is never signalled. Its connection file, \
                 given as KERNEL or laid into `~/.llmspell/kernel`, is all that `health`, `metrics` and `exec` need.",
            ])
            .flags(&[Group::new(
                "Choosing",
                &[Flag::value("label", "NAME=VALUE", label).short('l').doc("Only kernels that were given this label.")],
            )])
            .operands(&[KERNEL.optional().repeated()])
            .make(|mut draft| {
                let (which, labels) = (draft.some_or_all()?, std::mem::take(&mut draft.labels));
                draft.act(Action::List { which, labels })
            }),
        Command::new("health", "ask kernels how they are")
            .heading("Looking at kernels")
            .about(&[
                "Asks the heartbeat, the control and the shell channel of each KERNEL, or of all, each for itself and \
                 all at the same time. Exits with 0 when every one that should run is well, else with 1.",
                "`HEALTHY` answers on every channel; `BUSY` runs a script, behind which shell waits; `DEGRADED` does \
                 not answer on one; `UNHEALTHY` on none.",
            ])
            .flags(&[Group::new(
                "Asking",
                &[timeout("Wait DURATION for an answer. The default is `2s`.")],
            )])
            .operands(&[KERNEL.optional().repeated()])
            .make(|mut draft| {
                let (which, timeout) = (draft.some_or_all()?, draft.limit(ANSWER));
                draft.act(Action::Health { which, timeout })
            }),
        Command::new("stop", "end kernels")
            .heading("Changing kernels")
            .aliases(&[("kill", &[]), ("stop-all", &["all"]), ("kill-all", &["all"])])
            .about(&[
                "Asks each KERNEL to end, which lets a running script finish for the grace its configuration gives, and \
                 kills what has not ended after the time limit, with everything it started. It stays known as stopped; \
                 `cleanup` forgets it.",
            ])
            .flags(&[Group::new(
                "Stopping",
                &[
                    ALL,
                    Flag::switch("force", |draft: &mut Draft| draft.force = true)
                        .excludes(&["timeout"])
                        .doc("Kill at once."),
                    timeout("Kill a kernel that has not ended after DURATION. The default is `10s`."),
                ],
            )])
            .operands(&[KERNEL.optional().repeated()])
            .make(|mut draft| {
                let timeout = if draft.force { Duration::ZERO } else { draft.limit(GRACE) };
                let which = draft.named()?;
                draft.act(Action::Stop { which, timeout })
            }),
        Command::new("restart", "end kernels and start them again")
            .heading("Changing kernels")
            .about(&[
                "Ends each KERNEL and starts it again with the ports and the key it had, so that clients that are \
                 attached come back by themselves. One after the other: the next is touched when the one before \
                 answers again, and a failure ends it, with the others still serving.",
                "A kernel that was stopped is started. One that was started by hand is taken over: it gets its command \
                 line again and goes on in the background.",
            ])
            .flags(&[Group::new(
                "Restarting",
                &[
                    ALL,
                    GRACE_FLAG,
                    timeout("Give up on a kernel that is not ready after DURATION. The default is `30s`."),
                ],
            )])
            .operands(&[KERNEL.optional().repeated()])
            .make(|mut draft| {
                let (grace, timeout) = (draft.grace.unwrap_or(GRACE), draft.limit(START));
                let which = draft.named()?;
                draft.act(Action::Restart { which, grace, timeout })
            }),
        APPLY.heading("Changing kernels"),
        SCALE.heading("Changing kernels"),
        Command::new("status", "tell everything about kernels")
            .heading("Looking at kernels")
            .about(&[
                "Prints what is known of each KERNEL, or of all: state and reason, process, addresses, configuration, \
                 restarts and how it ended last, limits, log. Exits with 0 when all of them run, else with 1.",
            ])
            .flags(&[Group::new("Asking", &[timeout("Wait DURATION for an answer. The default is `2s`.")])])
            .operands(&[KERNEL.optional().repeated()])
            .make(|mut draft| {
                let (which, timeout) = (draft.some_or_all()?, draft.limit(ANSWER));
                draft.act(Action::Status { which, timeout })
            }),
        Command::new("logs", "show the logs of kernels")
            .heading("Looking at kernels")
            .aliases(&[("log", &[])])
            .about(&[
                "Prints the last lines of the log of each KERNEL, or of all, in order of time, each with the name of its \
                 kernel in front where there are several. Logs of kernels that are gone are there as well, and \
                 files that were rotated and compressed.",
            ])
            .flags(&[Group::new(
                "Lines",
                &[
                    Flag::switch("follow", |draft: &mut Draft| draft.follow = true)
                        .short('f')
                        .doc("Go on with what is written. Rotation and new kernels do not end it."),
                    Flag::value("lines", "N", |draft: &mut Draft, value| {
                        draft.count = Some(value.parse("a number")?);
                        Ok(())
                    })
                    .short('n')
                    .doc("Print the last N lines. The default is 100; with `--since` it is all of them."),
                    Flag::value("since", "TIME", |draft: &mut Draft, value| {
                        draft.since = Some(logs::moment(value.text()?)?);
                        Ok(())
                    })
                    .doc("Only what is not older than TIME. It is a duration such as `10m`, or `2026-01-02T03:04:05Z`."),
                    Flag::value("level", "LEVEL", |draft: &mut Draft, value| {
                        draft.level = Some(value.pick(&logs::LEVELS)?);
                        Ok(())
                    })
                    .choices(&names(&logs::LEVELS))
                    .doc("Only lines of LEVEL and graver ones."),
                    Flag::value("grep", "REGEX", |draft: &mut Draft, value| {
                        logs::pattern(value.text()?)?;
                        draft.grep = Some(value.into_text()?);
                        Ok(())
                    })
                    .doc("Only lines in which the regular expression REGEX is found."),
                ],
            )])
            .operands(&[KERNEL.optional().repeated()])
            .make(|mut draft| {
                let which = draft.some_or_all()?;
                let count = draft.count.unwrap_or(if draft.since.is_some() { usize::MAX } else { 100 });
                let Draft { follow, since, level, ref mut grep, .. } = draft;
                let logs = Logs { which, follow, count, since, level, grep: grep.take() };
                draft.act(Action::Logs(Box::new(logs)))
            }),
        Command::new("metrics", "measure kernels")
            .heading("Looking at kernels")
            .about(&[
                "Prints for each KERNEL, or for all, processor time, memory, open files, clients, executions, uptime and \
                 restarts. With `--prometheus` in the format that Prometheus reads, for the textfile collector of its \
                 node exporter for one.",
            ])
            .flags(&[Group::new(
                "Measuring",
                &[
                    Flag::switch("prometheus", |draft: &mut Draft| draft.prometheus = true)
                        .excludes(&["json"])
                        .doc("Print the text format of Prometheus."),
                    timeout("Wait DURATION for an answer. The default is `2s`."),
                ],
            )])
            .operands(&[KERNEL.optional().repeated()])
            .make(|mut draft| {
                let (which, timeout) = (draft.some_or_all()?, draft.limit(ANSWER));
                let prometheus = draft.prometheus;
                draft.act(Action::Metrics { which, prometheus, timeout })
            }),
        TOP.heading("Looking at kernels"),
        Command::new("exec", "run a script in kernels")
            .heading("Using kernels")
            .about(&[
                "Runs SCRIPT in KERNEL with llmspell-run(1), whose status is the answer. A SCRIPT that is a file is \
                 read, `-` is standard input, everything else is code. In a group it is run in one kernel after the \
                 other.",
            ])
            .synopsis(&["[FLAGS] KERNEL -- SCRIPT"])
            .operands(&[
                KERNEL,
                Operand::new("SCRIPT", |draft: &mut Draft, value| {
                    draft.operands.push(value.into_text()?);
                    Ok(())
                })
                .doc("A file, `-`, or code."),
            ])
            .make(|mut draft| {
                let script = draft.operands.pop().unwrap_or_default();
                let names = std::mem::take(&mut draft.operands);
                draft.act(Action::Exec { names, script })
            }),
        Command::new("cleanup", "forget the kernels that are gone")
            .heading("Changing kernels")
            .aliases(&[("clean", &[])])
            .about(&[
                "Forgets kernels that were stopped and those that are dead and not started again by a watch, and removes \
                 the files they left. Logs stay. Nothing that runs is touched.",
            ])
            .flags(&[Group::new(
                "Cleaning",
                &[Flag::switch("dry-run", |draft: &mut Draft| draft.dry_run = true)
                    .doc("Only tell what would be forgotten.")],
            )])
            .make(|draft| {
                let dry_run = draft.dry_run;
                draft.act(Action::Cleanup { dry_run })
            }),
        Command::new("export", "print kernels as services of another supervisor")
            .heading("Supervising kernels")
            .about(&[
                "Prints each KERNEL that was spawned, or all of them, as files for an engine that starts them itself: \
                 ports, limits, restarts, variables and permissions as they were ordered. The value of a variable whose \
                 name sounds like a secret is left out. The page llmspell-service(7) tells the rest.",
            ])
            .flags(&[Group::new(
                "Export",
                &[
                    Flag::value("format", "NAME", |draft: &mut Draft, value| {
                        draft.format = Some(value.pick(&FORMATS)?);
                        Ok(())
                    })
                    .choices(&names(&FORMATS))
                    .doc("The engine. Must be given."),
                    Flag::switch("system", |draft: &mut Draft| draft.scope = Scope::System)
                        .doc("For the machine instead of this user, with `systemd` and `launchd`."),
                    Flag::value("output", "DIR", |draft: &mut Draft, value| {
                        draft.output = Some(value.path()?);
                        Ok(())
                    })
                    .short('o')
                    .doc("Write the files into DIR. The default is standard output, with a line before each."),
                ],
            )])
            .operands(&[KERNEL.optional().repeated()])
            .make(|mut draft| {
                let Some(format) = draft.format else {
                    let known = FORMATS.map(|(name, _)| name).join(", ");
                    return Err(Error::new(Class::Usage, "--format: is missing").hint(format!("One of {known}.")));
                };
                let (which, scope, output) = (draft.some_or_all()?, draft.scope, draft.output.take());
                draft.act(Action::Export { which, format, scope, output })
            }),
        Command::new("watch", "start kernels again when they end")
            .heading("Supervising kernels")
            .about(&[
                "Starts kernels that were spawned with `--restart` again when they end, and kills those that do not \
                 answer on control three times in a row, which ends them. It runs until SIGTERM or SIGINT and prints \
                 what it does. The kernels do not need it: whatever becomes of it, they go on, and the next watch takes \
                 them over.",
                "The first restart is at once. If the kernel ends again before it was stable, the next waits for a \
                 random part of a time that doubles with each end; from the sixth in a row on, the kernel is \
                 crash-looping and is tried every half a minute to a minute, for ever.",
            ])
            .flags(&[Group::new(
                "Watching",
                &[
                    Flag::value("backoff", "DURATION", |draft: &mut Draft, value| {
                        draft.backoff = Some(value.duration()?);
                        Ok(())
                    })
                    .doc("Wait up to DURATION before the second restart. The default is `1s`."),
                    Flag::value("backoff-max", "DURATION", |draft: &mut Draft, value| {
                        draft.backoff_max = Some(value.duration()?);
                        Ok(())
                    })
                    .doc("Never wait longer than DURATION. The default is `1m`."),
                    Flag::value("stable", "DURATION", |draft: &mut Draft, value| {
                        draft.stable = Some(value.duration()?);
                        Ok(())
                    })
                    .doc("Forget earlier ends once a kernel has run for DURATION. The default is `1m`."),
                    Flag::value("probe", "DURATION", |draft: &mut Draft, value| {
                        draft.probe = Some(value.duration()?);
                        Ok(())
                    })
                    .doc("Ask the kernels every DURATION how they are. The default is `30s`; 0 is never."),
                    Flag::switch("unit", |draft: &mut Draft| draft.unit = true)
                        .doc("Print a unit for systemd that runs the watch, and do nothing else."),
                    timeout("Wait DURATION for an answer. The default is `2s`."),
                ],
            )])
            .make(|draft| {
                if draft.unit {
                    return draft.act(Action::WatchUnit);
                }
                let rule = Backoff::default();
                let backoff = Backoff {
                    first: draft.backoff.unwrap_or(rule.first),
                    most: draft.backoff_max.unwrap_or(rule.most),
                    stable: draft.stable.unwrap_or(rule.stable),
                    ..rule
                };
                let every = draft.probe.unwrap_or(Duration::from_secs(30));
                let limit = draft.limit(ANSWER);
                draft.act(Action::Watch(Settings { backoff, every, limit }))
            }),
        net::ROUTE,
        net::SERVE,
    ])
    .topics(&[FLEET_FILES])
    .environment(&[
        ("LLMSPELL_HOME", "The folder of all files instead of `~/.llmspell`."),
        ("NO_COLOR", "If not empty, nothing is coloured."),
    ])
    .files(&[
        ("~/.llmspell/kernel/ID.json", "The connection file of the kernel ID, and who its process is."),
        ("~/.llmspell/kernel/ID.pid", "Its PID."),
        ("~/.llmspell/fleet/wanted/ID.json", "What was ordered with `spawn`."),
        ("~/.llmspell/fleet/state/ID.json", "What happened to it since."),
        ("~/.llmspell/fleet/watch.pid", "The PID of the watch."),
        ("~/.llmspell/kernels", "Configurations that `spawn` finds from anywhere."),
        ("~/.llmspell/logs/ID.log", "Its log."),
        ("~/.llmspell/fleet/serve.sock", "The socket of `serve`."),
        ("~/.llmspell/fleet/serve.token", "Its token, made when it is first started."),
        ("~/.llmspell/kernel/route.json", "The connection file of a route."),
    ])
    .examples(&[
        Example::new("Start a kernel.", "llmspell-fleet spawn openai.toml lua"),
        Example::new("Start three that are called by one name.", "llmspell-fleet spawn openai.toml --name pool --count 3"),
        Example::new("See what there is.", "llmspell-fleet list"),
        Example::new("Ask one how it is.", "llmspell-fleet health kernel-9555"),
        Example::new("Ask all of them, in a script.", "llmspell-fleet health --json | jq -r '.kernels[].state'"),
        Example::new("Know everything about one.", "llmspell-fleet status kernel-9555"),
        Example::new("Run a script in one.", "llmspell-fleet exec kernel-9555 -- 'print(6 * 7)'").prints("42\n"),
        Example::new("Start it again; its clients come back.", "llmspell-fleet restart kernel-9555"),
        Example::new("See what went wrong in the last hour.", "llmspell-fleet logs --since 1h --level warn"),
        Example::new("See who uses what, once.", "llmspell-fleet top --once --sort cpu"),
        Example::new("Measure them for Prometheus.", "llmspell-fleet metrics --prometheus"),
        Example::new(
            "Let systemd run the watch that starts kernels again.",
            "llmspell-fleet watch --unit >llmspell-fleet-watch.service",
        ),
        Example::new("Give the three one connection file.", "llmspell-fleet route pool &"),
        Example::new("Use them as one.", "llmspell-fleet exec route -- 'print(6 * 7)'").prints("42\n"),
        Example::new("Serve a page, the API and the metrics of all of them.", "llmspell-fleet serve &"),
        Example::new("Hand them over to Compose.", "llmspell-fleet export --format compose >compose.yaml"),
        Example::new("Make the three five.", "llmspell-fleet scale pool 5"),
        Example::new("See what a fleet in a file would change.", "llmspell-fleet apply shop.toml --dry-run"),
        Example::new("Make it so.", "llmspell-fleet apply shop.toml"),
        Example::new("Stop the group.", "llmspell-fleet stop pool"),
        Example::new("Stop everything.", "llmspell-fleet stop --all"),
        Example::new("Forget what was stopped.", "llmspell-fleet cleanup"),
    ])
    .see_also(&["llmspell-kernel(1)", "llmspell-run(1)", "llmspell-tool(1)", "llmspell.toml(5)", "llmspell(7)"]);
