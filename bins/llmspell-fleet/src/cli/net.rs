//! The rows of what is there for clients over sockets: one kernel for many, and the fleet over HTTP.

use std::collections::BTreeMap;

use llmspell::cli::{Command, Flag, Group};
use llmspell::home::check_id;

use super::table::{KERNEL, label};
use super::{Action, Args, Draft, Route};

/// The id of a route that is given none.
const NAME: &str = "route";

pub(super) const ROUTE: Command<Draft, Args> = Command::new("route", "give clients one kernel for many")
    .about(&[
        "Serves one connection file for a pool of equal kernels: each KERNEL, or all there are. Clients take it for a \
         kernel: `llmspell-run --kernel route`, `llmspell-tool --kernel route`, `jupyter console --existing` with the \
         file. It runs until SIGTERM or SIGINT. Kernels that come, go or are stopped are noticed at once; a KERNEL may \
         also be the name of a group that is spawned later.",
        "The session of a client is bound to the least busy kernel that is ready, and stays there, as what its scripts set \
         is there. When that kernel dies, the requests that are on their way are answered with an error at once, \
         those that only look are asked again elsewhere, and the session goes on in another kernel, which it is told. \
         Of what kernels publish, a client gets what concerns its own sessions: all those of its process, or over \
         ports of its machine, as a subscription does not say more.",
        "Messages are verified with the key of the route and signed anew, so that clients never have the key of a kernel. \
         They cannot end kernels through it, and an interrupt without a script of one's own does nothing. A route that \
         was killed has the addresses and the key it had when it is started again. `llmspell-fleet list`, `health`, \
         `status` and `stop` know a route like a kernel.",
    ])
    .flags(&[Group::new(
        "Routing",
        &[
            Flag::value("name", "NAME", |draft: &mut Draft, value| {
                let name = value.text()?;
                check_id(name)?;
                draft.name = Some(name.to_owned());
                Ok(())
            })
            .doc("Call the route NAME instead of `route`."),
            Flag::value("label", "NAME=VALUE", label).short('l').doc("Only kernels that were given this label."),
            Flag::value("port", "PORT", |draft: &mut Draft, value| {
                draft.port = Some(value.parse("a port number")?);
                Ok(())
            })
            .short('p')
            .doc(
                "Listen on ports of this machine, PORT for the shell channel; 0 is any. The default is local sockets, which \
                 nobody else can reach.",
            ),
        ],
    )])
    .operands(&[KERNEL.optional().repeated()])
    .make(|mut draft| {
        let names = std::mem::take(&mut draft.operands);
        let id = draft.name.take().unwrap_or_else(|| NAME.to_owned());
        let labels: BTreeMap<String, String> = std::mem::take(&mut draft.labels);
        let port = draft.port;
        draft.act(Action::Route(Route { id, names, labels, port }))
    });
