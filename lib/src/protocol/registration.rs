//! Registration files: what a kernel gets instead of a connection file from a launcher that lets it choose its ports.
//!
//! Source: "Registration file format" and "Kernel startup handshake" of the Jupyter specification, version 5.6. The kernel
//! sends `<IDS|MSG>`, signature and one content frame to the registration socket, and gets an acknowledgement of the
//! same shape, whose content is the launcher's own affair.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::connection::{Channel, Connection, Transport, read_private};
use super::wire::{DELIMITER, Signer};
use crate::error::{Class, Error, Result};

/// A registration file.
#[derive(Clone, Deserialize)]
pub struct Registration {
    /// What the launcher calls the kernel; goes back to it.
    #[serde(default)]
    pub kernel_id: String,
    #[serde(default)]
    transport: Transport,
    #[serde(alias = "ip")]
    registration_ip: String,
    #[serde(deserialize_with = "port")]
    registration_port: u16,
    #[serde(default)]
    key: String,
}

/// A number, or one written as text.
fn port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<u16, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Port {
        Number(u16),
        Text(String),
    }
    match Port::deserialize(deserializer)? {
        Port::Number(port) => Ok(port),
        Port::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// What a launcher says about where to listen.
pub enum Startup {
    /// On these ports, with this key.
    Connection(Box<Connection>),
    /// Wherever there is room; it wants to be told.
    Registration(Registration),
}

impl Startup {
    /// Reads a connection file or a registration file.
    ///
    /// # Errors
    /// Those of [`Connection::read`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_private(path)?;
        Self::parse(&text).map_err(|error| error.within(format!("connection file {}", path.display())))
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let is_registration = |value: &serde_json::Value| value.get("registration_port").is_some();
        if !serde_json::from_str(text).is_ok_and(|value| is_registration(&value)) {
            return Ok(Startup::Connection(Box::new(Connection::parse(text)?)));
        }
        let registration: Registration = serde_json::from_str(text).map_err(|error| {
            Error::new(Class::Config, format!("not a registration file: {error}"))
                .hint("Name the JSON file a launcher of kernels wrote.")
        })?;
        // The same limits as for a connection: other schemes and encryption are not here.
        registration.check(text)?;
        Ok(Startup::Registration(registration))
    }
}

impl Registration {
    fn check(&self, text: &str) -> Result<()> {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
        fields.insert("ip".into(), self.registration_ip.clone().into());
        for port in ["shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"] {
            fields.insert(port.into(), 0.into());
        }
        Connection::parse(&serde_json::Value::Object(fields).to_string()).map(|_| ())
    }

    /// The connection to make: where the launcher is, on free ports, with its key.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let mut connection = Connection::new(self.transport, self.registration_ip.clone(), [0; 5]);
        connection.key.clone_from(&self.key);
        if self.transport == Transport::Ipc {
            // The launcher's other kernels may have theirs beside it: five names nobody uses.
            let taken = |port| port == self.registration_port || socket(&connection.ip, port).exists();
            let start = uuid::Uuid::new_v4().as_u128() as u16;
            let free: Vec<u16> = (0..u16::MAX)
                .map(|step| start.wrapping_add(step).max(1))
                .filter(|port| !taken(*port))
                .take(5)
                .collect();
            for (channel, port) in Channel::ALL.into_iter().zip(free) {
                connection.set_port(channel, port);
            }
        }
        connection
    }

    /// ZeroMQ's name of the registration socket.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let mut there = Connection::new(self.transport, self.registration_ip.clone(), [0; 5]);
        there.set_port(Channel::Shell, self.registration_port);
        there.endpoint(Channel::Shell)
    }

    /// The message that tells where `connection` listens.
    #[must_use]
    pub fn message(&self, connection: &Connection) -> Vec<Vec<u8>> {
        let port = |channel| connection.port(channel).to_string();
        let content = json!({
            "kernel_id": self.kernel_id,
            "control_port": port(Channel::Control),
            "shell_port": port(Channel::Shell),
            "stdin_port": port(Channel::Stdin),
            "iopub_port": port(Channel::Iopub),
            "hb_port": port(Channel::Heartbeat),
        });
        let content = content.to_string().into_bytes();
        vec![DELIMITER.to_vec(), Signer::new(&self.key).sign([&*content]).into_bytes(), content]
    }

    /// Whether `frames` are an acknowledgement from who has the key.
    #[must_use]
    pub fn acknowledges(&self, frames: &[Vec<u8>]) -> bool {
        let behind = frames.iter().position(|frame| frame == DELIMITER).map(|at| &frames[at + 1..]);
        matches!(behind, Some([signature, content]) if Signer::new(&self.key).verify(signature, [&**content]))
    }
}

fn socket(prefix: &str, port: u16) -> std::path::PathBuf {
    format!("{prefix}-{port}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"kernel_id": "k", "transport": "tcp", "registration_ip": "127.0.0.1", "registration_port": 51587,
        "signature_scheme": "hmac-sha256", "key": "secret"}"#;

    fn registration(text: &str) -> Registration {
        match Startup::parse(text).unwrap() {
            Startup::Registration(registration) => registration,
            Startup::Connection(_) => panic!("a connection file"),
        }
    }

    #[test]
    fn a_registration_file_is_told_from_a_connection_file() {
        let found = registration(FILE);
        assert_eq!((found.endpoint(), &*found.kernel_id), ("tcp://127.0.0.1:51587".into(), "k"));
        assert_eq!(found.connection().key, "secret");
        assert_eq!(registration(&FILE.replace("51587", "\"51587\"")).endpoint(), "tcp://127.0.0.1:51587");
        let connection = serde_json::to_string(&Connection::new(Transport::Tcp, "::1".into(), [1; 5])).unwrap();
        assert!(matches!(Startup::parse(&connection), Ok(Startup::Connection(_))));
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        let refused = |from: &str, to: &str| Startup::parse(&FILE.replace(from, to)).err().map(|error| error.class());
        assert_eq!(refused("51587", "99999"), Some(Class::Config));
        assert_eq!(refused("51587", "\"door\""), Some(Class::Config));
        assert_eq!(refused("hmac-sha256", "hmac-md5"), Some(Class::Absent));
        assert_eq!(refused("\"key\"", "\"curve_publickey\": \"x\", \"key\""), Some(Class::Absent));
        assert_eq!(refused("\"registration_ip\"", "\"address\""), Some(Class::Config));
    }

    #[test]
    fn what_is_sent_is_signed_and_so_is_what_is_taken() {
        let there = registration(FILE);
        let mut connection = there.connection();
        connection.set_port(Channel::Control, 7);
        let mut frames = there.message(&connection);
        assert!(there.acknowledges(&frames));
        let content: serde_json::Value = serde_json::from_slice(&frames[2]).unwrap();
        assert_eq!((&content["kernel_id"], &content["control_port"]), (&json!("k"), &json!("7")));
        frames[2] = b"ACK".to_vec();
        assert!(!there.acknowledges(&frames) && !there.acknowledges(&frames[..2]) && !there.acknowledges(&[]));
    }

    #[test]
    fn sockets_in_a_shared_folder_stay_whose_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("s").display().to_string();
        let text = FILE.replace("\"tcp\"", "\"ipc\"").replace("127.0.0.1", &prefix);
        let connection = registration(&text).connection();
        let mut ports = Channel::ALL.map(|channel| connection.port(channel));
        ports.sort_unstable();
        assert!(ports.windows(2).all(|pair| pair[0] < pair[1]) && ports[0] > 0 && !ports.contains(&51587));
    }
}
