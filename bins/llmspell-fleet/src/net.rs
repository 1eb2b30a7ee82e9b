//! What serves clients over sockets: the route, and the fleet over HTTP.

use llmspell::cli::print;
use llmspell::error::Result;
use llmspell::fleet;
use serde_json::json;

use crate::Fleet;
use crate::cli::Route;

impl Fleet {
    pub(crate) fn route(&self, settings: &Route) -> Result<u8> {
        let json = self.json;
        let mut ready = |ready: &fleet::Ready| {
            // Nobody has to read it.
            let _ = print(&match json {
                true => format!(
                    "{}\n",
                    json!({
                        "event": "ready",
                        "id": ready.id,
                        "pid": ready.pid,
                        "connection_file": ready.connection_file,
                        "endpoint": ready.endpoint,
                    })
                ),
                false => format!(
                    "route {} is ready (PID {})\nlistening on {}\nconnection file {}\n",
                    ready.id,
                    ready.pid,
                    ready.endpoint,
                    ready.connection_file.display()
                ),
            });
        };
        let mut on = |event: &fleet::watch::Event| {
            let _ = print(&match json {
                true => format!("{}\n", json!({ "kernel": event.id, "event": event.what, "text": event.text })),
                false => format!("{}: {}\n", event.id, event.text),
            });
        };
        fleet::route::route(&self.home, &self.here, settings, &mut ready, &mut on).map(|()| 0)
    }
}
