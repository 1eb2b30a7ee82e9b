//! The rows of what is there for clients over sockets: one kernel for many, and the fleet over HTTP.

use std::collections::BTreeMap;

use llmspell::cli::{Command, Flag, Group};
use llmspell::error::{Class, Error};
use llmspell::home::check_id;

use super::table::{KERNEL, label};
use super::{Action, Args, Draft, Route, Serve};

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

pub(super) const SERVE: Command<Draft, Args> = Command::new("serve", "serve the fleet over HTTP")
    .about(&[
        "Serves a page for browsers, the documents of the commands as JSON, and metrics, until SIGTERM or SIGINT. It listens \
         on `~/.llmspell/fleet/serve.sock`, which only you can open, as with `curl --unix-socket \
         ~/.llmspell/fleet/serve.sock http://localhost/metrics`; with `--listen` on an address.",
        "`/` is the page. `/metrics` is what `metrics --prometheus` prints. `/health` is what `health --json` prints, with \
         status 200 when all are well, else 503. `/api/list`, `/api/health`, `/api/status` and `/api/metrics` are what those \
         commands print with `--json`; with `/NAME` behind it for one kernel or group.",
        "A POST to `/api/stop` or `/api/restart` with `{\"kernels\": [NAME, ...]}`, or to `/api/spawn` with some of `config` \
         (a file in `~/.llmspell/kernels`), `engine`, `name`, `count`, `restart` and `labels`, does what the command does and \
         answers with its document. It needs the header `Authorization: Bearer TOKEN`, as does everything but the page \
         itself with `--listen`. The page asks for the token, or takes it from behind the `#` of its address.",
        "The token is the one in `--token-file`, else the credential `fleet-token` of the service, else the one in \
         `~/.llmspell/fleet/serve.token`. Requests under names that are not those of the service are refused, so that no \
         page of somebody else reaches it through a browser. A failure has `failed` with `class`, `error` and `hint`.",
    ])
    .flags(&[Group::new(
        "Serving",
        &[
            Flag::value("listen", "ADDRESS", |draft: &mut Draft, value| {
                draft.serve.listen = Some(value.parse("an address such as 127.0.0.1:8080")?);
                Ok(())
            })
            .doc("Listen on ADDRESS, such as `127.0.0.1:8080`; port 0 is any. It must be one of this machine alone."),
            Flag::switch("remote", |draft: &mut Draft| draft.serve.remote = true).doc(
                "Let ADDRESS be one that other machines reach. What is sent is not encrypted, the token included: only \
                 behind something that does.",
            ),
            Flag::value("host", "NAME", |draft: &mut Draft, value| {
                draft.serve.hosts.push(value.into_text()?);
                Ok(())
            })
            .doc("Answer requests that call the service NAME as well, as behind a proxy."),
            Flag::value("token-file", "FILE", |draft: &mut Draft, value| {
                draft.serve.token_file = Some(value.path()?);
                Ok(())
            })
            .doc("Read the token from FILE, or with `-` from standard input. The file must be yours alone."),
        ],
    )])
    .make(|mut draft| {
        let settings: Serve = std::mem::take(&mut draft.serve);
        if settings.listen.is_none() && (settings.remote || !settings.hosts.is_empty()) {
            return Err(Error::new(Class::Usage, "--remote, --host: only with --listen"));
        }
        draft.act(Action::Serve(settings))
    });
