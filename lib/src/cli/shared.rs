//! Flags that several programs have: which kernel to use, what a script or tool may do, how much to say.
//! A draft lends the field they write to through [`AsMut`].

use std::path::PathBuf;

use super::table::{Flag, Group, Value, names};
use crate::error::Result;
use crate::home;

/// Script engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Lua 5.4.
    Lua,
    /// JavaScript.
    Js,
}

const ENGINES: [(&str, Engine); 2] = [("lua", Engine::Lua), ("js", Engine::Js)];

impl Engine {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        ENGINES.iter().find(|(_, engine)| *engine == self).map_or("", |(name, _)| name)
    }
}

/// How much to say on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Talk {
    /// Errors only.
    Quiet,
    /// What a user wants to know.
    #[default]
    Normal,
    /// What happens.
    Verbose,
}

/// Which kernel a client means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nothing was said; the program decides.
    #[default]
    Unsaid,
    /// The kernel with this id, port or PID.
    Kernel(String),
    /// The kernel this connection file belongs to.
    File(PathBuf),
}

/// Named sets of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Nothing but computing.
    Safe,
    /// What the configuration allows by default.
    Standard,
    /// Everything the user may do.
    Privileged,
}

const PROFILES: [(&str, Profile); 3] =
    [("safe", Profile::Safe), ("standard", Profile::Standard), ("privileged", Profile::Privileged)];

/// What one `--allow-` flag grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Everything.
    All,
    /// These and nothing else.
    Only(Vec<String>),
}

/// The permission flags of a command line; `None` where one was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// `--profile`.
    pub profile: Option<Profile>,
    /// `--allow-read`: files and folders, as typed.
    pub read: Option<Grant>,
    /// `--allow-write`: files and folders, as typed.
    pub write: Option<Grant>,
    /// `--allow-net`: `host` or `host:port`.
    pub net: Option<Grant>,
    /// `--allow-run`: names or paths of programs.
    pub run: Option<Grant>,
    /// `--allow-env`: names of variables.
    pub env: Option<Grant>,
}

impl Profile {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        PROFILES.iter().find(|(_, profile)| *profile == self).map_or("", |(name, _)| name)
    }
}

impl Permissions {
    /// The flags that say the same, for the command line of a child.
    #[must_use]
    pub fn to_words(&self) -> Vec<String> {
        let grants =
            [("read", &self.read), ("write", &self.write), ("net", &self.net), ("run", &self.run), ("env", &self.env)];
        let grants = grants.into_iter().filter_map(|(name, grant)| match grant {
            None => None,
            Some(Grant::All) => Some(format!("--allow-{name}")),
            Some(Grant::Only(items)) => Some(format!("--allow-{name}={}", items.join(","))),
        });
        self.profile.map(|profile| format!("--profile={}", profile.name())).into_iter().chain(grants).collect()
    }
}

/// Adds what one flag grants to what earlier ones did.
fn grant(slot: &mut Option<Grant>, value: Option<Value>) -> Result<()> {
    let granted = match (slot.take(), value) {
        (Some(Grant::All), _) | (_, None) => Grant::All,
        (Some(Grant::Only(before)), Some(value)) => Grant::Only([before, value.list()?].concat()),
        (None, Some(value)) => Grant::Only(value.list()?),
    };
    *slot = Some(granted);
    Ok(())
}

impl<D: AsMut<Permissions>> Group<D> {
    /// `--profile` and the `--allow-` flags.
    pub const PERMISSIONS: Self = Group::new(
        "Permissions",
        &[
            Flag::value("profile", "NAME", |draft: &mut D, value| {
                draft.as_mut().profile = Some(value.pick(&PROFILES)?);
                Ok(())
            })
            .choices(&names(&PROFILES))
            .doc(
                "Start from the set of permissions called NAME. `safe` computes and touches nothing, `standard` is \
                 the default, `privileged` may do what you may do. The other flags of this group add to it.",
            ),
            Flag::optional("allow-read", "LIST", |draft: &mut D, value| grant(&mut draft.as_mut().read, value)).doc(
                "Allow reading files. LIST names files and folders, separated by commas; without it everything may \
                 be read, except the keys and state of llmspell itself.",
            ),
            Flag::optional("allow-write", "LIST", |draft: &mut D, value| grant(&mut draft.as_mut().write, value)).doc(
                "Allow writing files. LIST names files and folders, separated by commas; without it every place may \
                 be written, except the keys and state of llmspell itself.",
            ),
            Flag::optional("allow-net", "LIST", |draft: &mut D, value| grant(&mut draft.as_mut().net, value)).doc(
                "Allow network access. LIST names hosts, `example.org` or `example.org:443`, separated by commas; \
                 without it any host.",
            ),
            Flag::optional("allow-run", "LIST", |draft: &mut D, value| grant(&mut draft.as_mut().run, value))
                .doc("Allow running programs. LIST names programs, separated by commas; without it any program."),
            Flag::optional("allow-env", "LIST", |draft: &mut D, value| grant(&mut draft.as_mut().env, value)).doc(
                "Allow reading environment variables. LIST names variables, separated by commas; without it all of \
                 them.",
            ),
        ],
    );
}

impl<D: AsMut<Target>> Group<D> {
    /// `--kernel` and `--connection-file`.
    pub const TARGET: Self = Group::new(
        "Kernel",
        &[
            Flag::value("kernel", "ID", |draft: &mut D, value| {
                let id = value.text()?;
                home::check_id(id)?;
                *draft.as_mut() = Target::Kernel(id.to_owned());
                Ok(())
            })
            .short('k')
            .excludes(&["connection-file"])
            .doc("Use the running kernel ID. Its port or PID serves as well."),
            Flag::value("connection-file", "FILE", |draft: &mut D, value| {
                *draft.as_mut() = Target::File(value.path()?);
                Ok(())
            })
            .short('f')
            .excludes(&["kernel"])
            .doc("Use the running kernel that wrote the connection file FILE."),
        ],
    );
}

impl<D> Flag<D> {
    /// `--config`; `set` stores the path.
    pub const fn config(set: fn(&mut D, Value) -> Result<()>) -> Self {
        Flag::value("config", "FILE", set).short('c').doc("Read the configuration FILE instead of the user's own.")
    }

    /// `--workdir`; `set` stores the path.
    pub const fn workdir(set: fn(&mut D, Value) -> Result<()>) -> Self {
        Flag::value("workdir", "DIR", set).doc(
            "Work in the directory DIR. Scripts and tools take relative paths from there. The default is where you \
             are.",
        )
    }

    /// `--timeout`; `set` stores the duration.
    pub const fn timeout(set: fn(&mut D, Value) -> Result<()>) -> Self {
        Flag::value("timeout", "DURATION", set).doc(
            "Give up after DURATION, such as `30s` or `2h`. A plain number is seconds, and 0 is as long as it takes.",
        )
    }
}

impl<D: AsMut<Option<Engine>>> Flag<D> {
    /// `--engine`.
    pub const ENGINE: Self = Flag::value("engine", "NAME", |draft: &mut D, value| {
        *draft.as_mut() = Some(value.pick(&ENGINES)?);
        Ok(())
    })
    .choices(&names(&ENGINES))
    .doc(
        "Run scripts with the engine NAME. The default follows the ending of a script's file, then the configuration.",
    );
}

impl<D: AsMut<Talk>> Flag<D> {
    /// `--quiet`.
    pub const QUIET: Self = Flag::switch("quiet", |draft: &mut D| *draft.as_mut() = Talk::Quiet)
        .short('q')
        .excludes(&["verbose"])
        .doc("Say nothing but errors on standard error.");

    /// `--verbose`.
    pub const VERBOSE: Self = Flag::switch("verbose", |draft: &mut D| *draft.as_mut() = Talk::Verbose)
        .short('v')
        .excludes(&["quiet"])
        .doc("Say on standard error what happens.");
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::parse::{Request, parse};
    use super::super::{Command, check};
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Draft(Permissions, Target, Talk, Option<Engine>);

    impl AsMut<Permissions> for Draft {
        fn as_mut(&mut self) -> &mut Permissions {
            &mut self.0
        }
    }

    impl AsMut<Target> for Draft {
        fn as_mut(&mut self) -> &mut Target {
            &mut self.1
        }
    }

    impl AsMut<Talk> for Draft {
        fn as_mut(&mut self) -> &mut Talk {
            &mut self.2
        }
    }

    impl AsMut<Option<Engine>> for Draft {
        fn as_mut(&mut self) -> &mut Option<Engine> {
            &mut self.3
        }
    }

    const PROGRAM: Command<Draft, Draft> = Command::new("client", "ask")
        .flags(&[Group::PERMISSIONS, Group::TARGET, Group::new("Other", &[Flag::QUIET, Flag::VERBOSE, Flag::ENGINE])])
        .make(Ok);

    fn run(words: &[&str]) -> Result<Draft> {
        match parse(&PROGRAM, words.iter().map(OsString::from))? {
            Request::Run(draft) => Ok(draft),
            Request::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn the_tables_are_fit() {
        assert_eq!(check(&PROGRAM), Vec::<String>::new());
    }

    #[test]
    fn grants_add_up_and_can_be_handed_on() {
        let words =
            ["--profile=safe", "--allow-read=a,b", "--allow-read=c", "--allow-net", "--allow-net=x", "--allow-env="];
        let permissions = run(&words).unwrap().0;
        assert_eq!(permissions.read, Some(Grant::Only(["a", "b", "c"].map(str::to_owned).to_vec())));
        assert_eq!((permissions.net.clone(), permissions.env.clone()), (Some(Grant::All), Some(Grant::Only(vec![]))));
        let again = permissions.to_words();
        assert_eq!(again, ["--profile=safe", "--allow-read=a,b,c", "--allow-net", "--allow-env="]);
        assert_eq!(run(&again.iter().map(String::as_str).collect::<Vec<_>>()).unwrap().0, permissions);
    }

    #[test]
    fn talk_is_one_of_three() {
        assert_eq!(run(&[]).unwrap().2, Talk::Normal);
        assert_eq!(run(&["-q"]).unwrap().2, Talk::Quiet);
        assert_eq!(
            run(&["-v", "--engine=js"]).unwrap(),
            Draft(Permissions::default(), Target::Unsaid, Talk::Verbose, Some(Engine::Js))
        );
        assert_eq!(run(&["-v", "-q"]).unwrap_err().text(), "--verbose: not together with --quiet");
    }

    #[test]
    fn a_client_means_one_kernel() {
        assert_eq!(run(&[]).unwrap().1, Target::Unsaid);
        assert_eq!(run(&["-k", "9555"]).unwrap().1, Target::Kernel("9555".into()));
        assert_eq!(run(&["-f", "x.json"]).unwrap().1, Target::File("x.json".into()));
        assert_eq!(run(&["-f", "x", "-k", "y"]).unwrap_err().text(), "--connection-file: not together with --kernel");
        assert!(run(&["-k", "../x"]).unwrap_err().text().starts_with("--kernel: kernel id"));
    }
}
