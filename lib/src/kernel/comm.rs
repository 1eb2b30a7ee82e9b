//! `comm_info_request`, and the three messages of a comm.

use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use super::outbox::Parent;
use super::script::{Requester, ScriptThread};
use crate::engine::{Outcome, Output, Stream};
use crate::protocol::content::{Comm, CommContent, CommInfo, CommKind};

impl ScriptThread {
    pub(super) fn comm_info(&mut self, parent: &Parent, request: &CommInfo) {
        let asked = |target: &str| request.target_name.as_deref().is_none_or(|name| name.is_empty() || name == target);
        let comms: Map<String, Value> = self
            .engine
            .comms()
            .into_iter()
            .filter(|(_, target)| asked(target))
            .map(|(id, target)| (id, json!({"target_name": target})))
            .collect();
        self.outbox.reply(parent, "comm_info_reply", &json!({"status": "ok", "comms": comms}));
    }

    /// Hands the message to the engine. What nobody wants to open, or fails to, is closed again; a message to a comm that is
    /// not there has no answer.
    pub(super) fn comm(&mut self, parent: &Parent, message: &Comm) {
        let deadline = self.deadline(None);
        let output: Arc<dyn Output> = Arc::new(Requester {
            outbox: Arc::clone(&self.outbox),
            gate: Arc::clone(&self.gate),
            parent: parent.clone(),
            silent: false,
            deadline,
            payload: Arc::new(Mutex::default()),
        });
        let outcome = self.engine.comm(message, deadline, &output);
        let error = outcome.as_ref().and_then(Outcome::error_content);
        if let Some(error) = &error {
            let text = format!("{}: {}\n", message.kind.name(), error.traceback.join("\n"));
            self.outbox.stream(&parent.header, Stream::Stderr, text.as_bytes());
        }
        if message.kind == CommKind::Open && (outcome.is_none() || error.is_some()) {
            let content = CommContent { comm_id: message.content.comm_id.clone(), target_name: None, data: json!({}) };
            let close = Comm { kind: CommKind::Close, content, metadata: json!({}), buffers: Vec::new() };
            self.outbox.comm(Some(&parent.header), &close);
        }
    }
}
