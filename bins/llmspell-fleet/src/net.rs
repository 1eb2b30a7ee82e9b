//! What serves clients over sockets: the route, and the fleet over HTTP.

use std::sync::Arc;

use llmspell::cli::print;
use llmspell::error::Result;
use llmspell::fleet;
use serde_json::json;

use crate::Fleet;
use crate::cli::{Route, Serve};

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

    pub(crate) fn serve(&self, settings: &Serve) -> Result<u8> {
        let json = self.json;
        let mut ready = |serving: &fleet::serve::Serving| {
            let file = serving.token_file.as_ref().map(|file| file.display().to_string());
            let _ = print(&match json {
                true => format!(
                    "{}\n",
                    json!({ "event": "ready", "pid": serving.pid, "endpoint": serving.endpoint, "token_file": file })
                ),
                false => format!(
                    "serving on {} (PID {})\n{}",
                    serving.endpoint,
                    serving.pid,
                    file.map(|file| format!("token in {file}\n")).unwrap_or_default()
                ),
            });
        };
        let on = Arc::new(move |text: &str| {
            let _ = print(&match json {
                true => format!("{}\n", json!({ "event": "action", "text": text })),
                false => format!("{text}\n"),
            });
        });
        fleet::serve::serve(&self.home, settings, &mut ready, on).map(|()| 0)
    }
}
