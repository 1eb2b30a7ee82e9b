//! The rows of `top`.

use std::time::Duration;

use llmspell::cli::{Command, Flag, Group, names};
use llmspell::error::{Class, Error};

use super::table::{KERNEL, timeout};
use super::{ANSWER, Action, Args, Draft};
use crate::top::{Batch, SORTS, Settings};

/// Less would measure the measuring.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) const TOP: Command<Draft, Args> = Command::new("top", "watch the figures of kernels")
    .about(&[
        "Shows each KERNEL, or all, with the figures of `metrics`, on the whole screen and again every two seconds. CPU% \
         is the share of one processor since the last time, at first that of the whole life of the process. The arrows \
         choose a kernel and Enter shows everything about it, with the end of its log; `s` stops it and `r` restarts it, \
         both after a question; `/` shows only some, `P`, `M`, `T` and `N` sort; `?` lists the keys; `q` quits. What does \
         not fit into a narrow screen is left out from the right.",
        "Without a terminal there are `--once` and `--batch`, which print. With `--json` each measurement is one document.",
    ])
    .flags(&[Group::new(
        "Showing",
        &[
            Flag::value("interval", "DURATION", |draft: &mut Draft, value| {
                let every = value.duration()?;
                if every < SHORTEST {
                    return Err(Error::new(Class::Usage, "is less than 100ms"));
                }
                draft.interval = Some(every);
                Ok(())
            })
            .doc("Measure every DURATION. The default is `2s`."),
            Flag::value("sort", "COLUMN", |draft: &mut Draft, value| {
                draft.sort = Some(value.pick(&SORTS)?);
                Ok(())
            })
            .choices(&names(&SORTS))
            .doc("Sort by COLUMN. The default is `kernel`."),
            Flag::switch("once", |draft: &mut Draft| draft.once = true)
                .excludes(&["batch"])
                .doc("Print the figures once instead of drawing."),
            Flag::switch("batch", |draft: &mut Draft| draft.batch = true)
                .short('b')
                .doc("Print them again and again, until SIGINT or SIGTERM."),
            timeout("Wait DURATION for an answer. The default is `2s`."),
        ],
    )])
    .operands(&[KERNEL.optional().repeated()])
    .make(|mut draft| {
        let (which, limit) = (draft.some_or_all()?, draft.limit(ANSWER));
        let batch = match (draft.once, draft.batch) {
            (true, _) => Some(Batch::Once),
            (_, true) => Some(Batch::Forever),
            _ if draft.json => {
                return Err(Error::new(Class::Usage, "--json: only together with --once or --batch"));
            }
            _ => None,
        };
        let (every, sort) = (draft.interval.unwrap_or(Duration::from_secs(2)), draft.sort.unwrap_or(0));
        draft.act(Action::Top(Box::new(Settings { which, every, limit, sort, batch })))
    });
