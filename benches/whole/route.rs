//! What a detour through `llmspell-fleet route` adds, in echoes of the same transport.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use llmspell::protocol::connection::{Channel, Transport};

use crate::floor::Echo;
use crate::kernel::Kernel;
use crate::{Effort, Result, median, repeat, row, text};

pub(crate) fn rows(effort: &Effort, bin: &Path, dir: &Path) -> Result<()> {
    for (name, transport) in [("tcp", Transport::Tcp), ("ipc", Transport::Ipc)] {
        let direct = Kernel::start(&bin.join("llmspell-kernel"), dir, transport)?;
        let route = Route::start(bin, dir, direct.file(), transport)?;
        let routed = Kernel::attach(&dir.join(".llmspell/kernel/bench-route.json"))?;
        let echo = Echo::start(&match transport {
            Transport::Tcp => "tcp://127.0.0.1:9598".to_owned(),
            Transport::Ipc => format!("ipc://{}/echo-route", dir.display()),
        })?;
        let (mut floor, mut times) = (Vec::new(), [(); 4].map(|()| Vec::new()));
        for _ in 0..effort.rounds {
            let count = effort.per_round;
            floor.extend(echo.round(count)?);
            times[0].extend(repeat(count, |_| direct.info(Channel::Control))?);
            times[1].extend(repeat(count, |_| routed.info(Channel::Control))?);
            times[2].extend(repeat(count, |_| direct.execute("1+1").map(|done| done.0))?);
            times[3].extend(repeat(count, |_| routed.execute("1+1").map(|done| done.0))?);
        }
        let floor = median(&mut floor);
        row(&format!("route, {name}: floor: echo by libzmq"), &format!("p50 {:.0} us", floor * 1e6), None, "");
        let [mut info, mut info_routed, mut execute, mut execute_routed] = times;
        for (what, direct, routed) in [
            ("control kernel_info", &mut info, &mut info_routed),
            ("execute to idle", &mut execute, &mut execute_routed),
        ] {
            let (direct, routed) = (median(direct), median(routed));
            let added = routed - direct;
            let shown = format!("{:.0} + {:.0} us", direct * 1e6, added * 1e6);
            row(&format!("route, {name}: {what}, and what it adds"), &shown, Some(added / floor), "1.0x");
        }
        drop(route);
    }
    Ok(())
}

/// A route, killed at the end.
struct Route(Child);

impl Route {
    fn start(bin: &Path, dir: &Path, file: &Path, transport: Transport) -> Result<Self> {
        let mut command = Command::new(bin.join("llmspell-fleet"));
        command.args(["route", "--name", "bench-route"]).arg(file);
        if transport == Transport::Tcp {
            command.args(["--port", "0"]);
        }
        command.env_clear().env("HOME", dir).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(text)?;
        let stdout = child.stdout.take().ok_or("route: no output")?;
        let route = Route(child);
        let mut lines = BufReader::new(stdout).lines();
        loop {
            let line = lines.next().ok_or("the route ended")?.map_err(text)?;
            if line.contains("is ready") {
                // It goes on to tell; nobody has to read that.
                return Ok(route);
            }
        }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
