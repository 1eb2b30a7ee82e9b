//! The rows of `apply` and `scale`.

use llmspell::cli::{Command, Flag, Group, Operand};
use llmspell::error::{Class, Error};
use llmspell::fleet::apply::Rules;

use super::table::timeout;
use super::{Action, Args, Draft, GRACE, MOST, START};

pub(super) const GRACE_FLAG: Flag<Draft> = Flag::value("grace", "DURATION", |draft: &mut Draft, value| {
    draft.grace = Some(value.duration()?);
    Ok(())
})
.doc("Kill a kernel that has not ended after DURATION. The default is `10s`.");

const ROLLING: Group<Draft> = Group::new(
    "Changing",
    &[
        Flag::switch("dry-run", |draft: &mut Draft| draft.dry_run = true).doc("Only tell what would be done."),
        Flag::switch("detailed-exitcode", |draft: &mut Draft| draft.detailed = true)
            .doc("With `--dry-run`, exit with 2 when there is something to do, as Terraform does."),
        Flag::value("parallel", "N", |draft: &mut Draft, value| {
            let count = value.parse("a number")?;
            if !(1..=64).contains(&count) {
                return Err(Error::new(Class::Usage, format!("{count} is not between 1 and 64")));
            }
            draft.parallel = Some(count);
            Ok(())
        })
        .doc("Change N kernels at one time. The default is 1."),
        GRACE_FLAG,
        timeout("Give up on a kernel that is not ready after DURATION. The default is `30s`."),
    ],
);

/// Flags of a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) dry_run: bool,
    pub(crate) detailed: bool,
    pub(crate) rules: Rules,
}

impl PartialEq for Change {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Draft {
    fn change(&self) -> Result<Change, Error> {
        if self.detailed && !self.dry_run {
            return Err(Error::new(Class::Usage, "--detailed-exitcode: only together with --dry-run"));
        }
        let rules = Rules {
            grace: self.grace.unwrap_or(GRACE),
            timeout: self.limit(START),
            parallel: self.parallel.unwrap_or(1),
        };
        Ok(Change { dry_run: self.dry_run, detailed: self.detailed, rules })
    }
}

pub(super) const APPLY: Command<Draft, Args> = Command::new("apply", "make the kernels what a file says")
    .about(&[
        "Reads the fleet that FILE describes, compares it with the kernels there are, and does what is missing: new \
         kernels first, then those whose settings changed, one at a time, the next when the one before is ready; those \
         that are too many last. A kernel that starts again keeps its ports and its key. When nothing differs nothing is \
         done. The first failure ends it, with the others still serving; after it, and after a command that was killed, \
         the same command goes on with what is left.",
        "Only kernels that an apply of the same fleet made are changed or removed. Fewer in the `count` of a name, or \
         another shape of it, removes those that are too many; kernels whose name is not in FILE any more are told and \
         left, unless `--prune` is given. A kernel of one of the names that is not of this fleet is a conflict, unless \
         `--adopt` is given.",
        "A change of the policy of restarts and of labels is noted without a new start. A kernel that was stopped or that \
         died is started. The section FLEET FILES of llmspell-fleet(1) tells what stands in FILE.",
    ])
    .flags(&[
        ROLLING,
        Group::new(
            "Which kernels",
            &[
                Flag::switch("prune", |draft: &mut Draft| draft.prune = true)
                    .doc("Remove kernels of the fleet that FILE does not name any more."),
                Flag::switch("adopt", |draft: &mut Draft| draft.adopt = true)
                    .doc("Take over kernels of the names in FILE that are not of this fleet."),
            ],
        ),
    ])
    .operands(&[Operand::new("FILE", |draft: &mut Draft, value| {
        draft.file = value.path()?;
        Ok(())
    })
    .doc("The file, in TOML; `-` is standard input.")])
    .make(|mut draft| {
        let change = draft.change()?;
        let (file, prune, adopt) = (std::mem::take(&mut draft.file), draft.prune, draft.adopt);
        draft.act(Action::Apply { file, prune, adopt, change })
    });

pub(super) const SCALE: Command<Draft, Args> = Command::new("scale", "change how many kernels a group has")
    .about(&[
        "Makes N kernels of the group NAME run, each like the first of them. Those that were stopped come back before new \
         ones are made; of those that are too many the highest number ends first, after its running work, and is \
         forgotten. With 0 the first one stays known as stopped, so that the group can grow again. Of two that scale the \
         same group, one waits for the other.",
    ])
    .flags(&[ROLLING])
    .operands(&[
        Operand::new("NAME", |draft: &mut Draft, value| {
            draft.name = Some(value.into_text()?);
            Ok(())
        })
        .doc("The name of a group that was spawned with `--count` or is in a file with `count`."),
        Operand::new("N", |draft: &mut Draft, value| {
            let count = value.parse("a number")?;
            if count > MOST {
                return Err(Error::new(Class::Usage, format!("{count} is not between 0 and {MOST}")));
            }
            draft.count = Some(count);
            Ok(())
        })
        .doc("How many of it shall run."),
    ])
    .make(|mut draft| {
        let change = draft.change()?;
        let (name, count) = (draft.name.take().unwrap_or_default(), draft.count.unwrap_or_default());
        draft.act(Action::Scale { name, count, change })
    });

/// What stands in a fleet's file.
pub(super) const FLEET_FILES: (&str, &[(&str, &str)]) = (
    "FLEET FILES",
    &[
        ("fleet", "The name of the fleet. Must be there; kernels carry it, and only those that do are touched."),
        (
            "[kernels.NAME]",
            "A kernel called NAME; with a `count` as many, called NAME-1, NAME-2 and NAME together. Its settings are the \
             keys below, none of which must be there.",
        ),
        ("[defaults]", "The same keys except `port` and `count`, for all kernels that do not say otherwise."),
        (
            "config",
            "The configuration, a path from the folder of the file, or the name of one in `~/.llmspell/kernels`. When its \
             content changes, its kernels start again.",
        ),
        ("engine", "`lua` or `js`."),
        ("port", "The port of the shell channel, of several that of the first. The default is a free one."),
        ("count", "How many, from 0."),
        ("workdir", "Where they work. The default is the folder of the file."),
        ("restart", "`never`, `on-failure` or `always`, as `--restart` of `spawn`."),
        ("memory, cpu", "Their limits, as `--memory` and `--cpu` of `spawn`: `\"512MB\"`, `0.5`."),
        ("env", "Variables: `{ NAME = \"value\" }`."),
        (
            "env_from",
            "Names of variables whose values are those they have where `apply` runs, which keeps keys out of the file.",
        ),
        ("labels", "What to find them by: `{ tier = \"web\" }`."),
        (
            "profile, allow_read, allow_write, allow_net, allow_run, allow_env",
            "Permissions, as the flags of `spawn`; `true`, or a list such as `[\"example.org\"]`.",
        ),
    ],
);
