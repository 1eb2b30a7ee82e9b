//! Connection files: where a kernel listens and with which key. Jupyter's keys, and beside them ours: who the kernel is.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Class, Error, Result};
use crate::home;

/// Ports below the ephemeral range, in which free ones are looked for.
const FIRST_FREE_PORT: u16 = 9600;
const LAST_FREE_PORT: u16 = 32_000;

/// Longest path of a Unix socket on Linux, bytes.
pub const SOCKET_PATH_MAX: usize = 107;

/// How bytes travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Sockets of the internet.
    #[default]
    Tcp,
    /// Sockets in the file system: `ip` is the path in front of `-PORT`.
    Ipc,
}

/// A connection file.
#[derive(Clone, Serialize, Deserialize)]
pub struct Connection {
    /// tcp or ipc.
    #[serde(default)]
    pub transport: Transport,
    /// Address, or path prefix for ipc.
    pub ip: String,
    /// Requests that run one after the other.
    pub shell_port: u16,
    /// Output for everybody.
    pub iopub_port: u16,
    /// Questions to the user.
    pub stdin_port: u16,
    /// Requests that overtake those on shell.
    pub control_port: u16,
    /// Echo.
    pub hb_port: u16,
    /// Key of the signatures, as text; empty: unsigned.
    #[serde(default)]
    pub key: String,
    /// Always `hmac-sha256`.
    #[serde(default = "hmac_sha256")]
    pub signature_scheme: String,
    /// The kernelspec it was started from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel_name: String,
    /// CurveZMQ keys; a kernel that cannot encrypt refuses a file that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve_publickey: Option<String>,
    /// See [`Connection::curve_publickey`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve_secretkey: Option<String>,
    /// Our id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_id: Option<String>,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Which process of that number: boot id and start time in clock ticks, `BOOT/TICKS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The PID namespace in which its number counts: the inode of `/proc/self/ns/pid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// What another program put there; kept.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

fn hmac_sha256() -> String {
    "hmac-sha256".into()
}

/// The five channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// ROUTER.
    Shell,
    /// XPUB.
    Iopub,
    /// ROUTER.
    Stdin,
    /// ROUTER.
    Control,
    /// Echo.
    Heartbeat,
}

impl Channel {
    /// In the order of `--ports`.
    pub const ALL: [Channel; 5] =
        [Channel::Shell, Channel::Iopub, Channel::Stdin, Channel::Control, Channel::Heartbeat];

    /// As messages name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Channel::Shell => "shell",
            Channel::Iopub => "iopub",
            Channel::Stdin => "stdin",
            Channel::Control => "control",
            Channel::Heartbeat => "heartbeat",
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({}, key redacted)", self.endpoint(Channel::Shell))
    }
}

impl Connection {
    /// A new connection with a fresh key. `ports` are shell, iopub, stdin, control, heartbeat; 0 stands for any.
    #[must_use]
    pub fn new(transport: Transport, ip: String, ports: [u16; 5]) -> Self {
        let [shell_port, iopub_port, stdin_port, control_port, hb_port] = ports;
        Connection {
            transport,
            ip,
            shell_port,
            iopub_port,
            stdin_port,
            control_port,
            hb_port,
            // 244 random bits from the system.
            key: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
            signature_scheme: hmac_sha256(),
            kernel_name: "llmspell".into(),
            curve_publickey: None,
            curve_secretkey: None,
            kernel_id: None,
            pid: None,
            started: None,
            pid_namespace: None,
            rest: serde_json::Map::new(),
        }
    }

    /// Reads a connection file.
    ///
    /// # Errors
    /// `NotFound`; `Denied` when others than its owner could read the key or it belongs to somebody else;
    /// `Config` when it is not a connection file, or asks for encryption this build has not.
    pub fn read(path: &Path) -> Result<Self> {
        let thing = || format!("connection file {}", path.display());
        let mut file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
            .open(path)
            .map_err(|e| Error::system(thing(), e))?;
        let meta = file.metadata().map_err(|e| Error::system(thing(), e))?;
        let bad = |class, text: &str, hint: String| Err(Error::new(class, format!("{}: {text}", thing())).hint(hint));
        if !meta.is_file() {
            return bad(Class::Config, "not a file", "Name the JSON file a kernel wrote.".into());
        }
        if meta.uid() != rustix::process::geteuid().as_raw() && meta.uid() != 0 {
            return bad(
                Class::Denied,
                "belongs to another user",
                "Copy it to a file of your own if you trust it.".into(),
            );
        }
        if meta.mode() & 0o022 != 0 {
            let hint = format!("Whoever can write it can send you elsewhere: chmod 600 {}", path.display());
            return bad(Class::Denied, "others can write it", hint);
        }
        // A group that root let read it is root's decision: secrets of Kubernetes come so.
        let readers = if meta.uid() == 0 { 0o004 } else { 0o044 };
        if meta.mode() & readers != 0 {
            let hint = format!("Whoever reads the key can run code in the kernel: chmod 600 {}", path.display());
            return bad(Class::Denied, "others can read its key", hint);
        }
        let mut text = String::new();
        if meta.len() > 64 * 1024 || file.read_to_string(&mut text).is_err() {
            return bad(Class::Config, "not a connection file", "Name the JSON file a kernel wrote.".into());
        }
        Self::parse(&text).map_err(|error| error.within(thing()))
    }

    /// The connection in the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |class, text: &str, hint: &str| Err(Error::new(class, text).hint(hint));
        let connection: Connection = match serde_json::from_str(text) {
            Ok(connection) => connection,
            Err(error) if error.is_eof() => {
                return bad(Class::Config, "truncated", "The kernel may just be starting; or start it again.");
            }
            Err(error) => {
                let text = format!("not a connection file: {error}");
                return bad(Class::Config, &text, "Name the JSON file a kernel wrote.");
            }
        };
        if connection.signature_scheme != "hmac-sha256" {
            let text = format!("signature_scheme {:?} is not hmac-sha256", connection.signature_scheme);
            return bad(Class::Absent, &text, "Start the kernel with hmac-sha256.");
        }
        if connection.curve_publickey.is_some() || connection.curve_secretkey.is_some() {
            let hint = "The libzmq in this build has no CURVE. Leave the curve keys out, or use ipc.";
            return bad(Class::Absent, "asks for CurveZMQ encryption, which this build has not", hint);
        }
        Ok(connection)
    }

    /// Writes it with mode 0600, atomically.
    ///
    /// # Errors
    /// What the system said, naming the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a connection is JSON");
        home::write_private(path, text.as_bytes()).map_err(|e| e.within("connection file"))
    }

    /// Writes down which process this is.
    pub fn identify(&mut self) {
        let pid = std::process::id() as i32;
        (self.pid, self.started, self.pid_namespace) = (Some(pid), started(pid), pid_namespace());
    }

    /// Whether the process that wrote it still lives, and its PID means it here: not one of another container. Without
    /// /proc, whether a process of that number does.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        if self.is_elsewhere() {
            return false;
        }
        let Some(pid) = self.process().and_then(rustix::process::Pid::from_raw) else { return false };
        match (&self.started, started(pid.as_raw_nonzero().get())) {
            (Some(then), Some(now)) => *then == now,
            (Some(_), None) if Path::new("/proc/self/stat").exists() => false,
            _ => rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH),
        }
    }

    /// The PID in it, if it can be that of a kernel: 1 is one only where it is the first process of this container.
    #[must_use]
    pub fn process(&self) -> Option<i32> {
        /// `PROC_PID_INIT_INO`: the name space of the machine itself.
        const MACHINE: u64 = 0xEFFF_FFFC;
        let contained = || self.started.is_some() && self.pid_namespace.is_some_and(|namespace| namespace != MACHINE);
        self.pid.filter(|pid| *pid > 1 || (*pid == 1 && contained() && !self.is_elsewhere()))
    }

    /// Whether it was written in another PID name space, a container for one, so that its PID means nothing here.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.pid_namespace.is_some_and(|namespace| pid_namespace().is_some_and(|ours| ours != namespace))
    }

    /// The port of a channel.
    #[must_use]
    pub fn port(&self, channel: Channel) -> u16 {
        match channel {
            Channel::Shell => self.shell_port,
            Channel::Iopub => self.iopub_port,
            Channel::Stdin => self.stdin_port,
            Channel::Control => self.control_port,
            Channel::Heartbeat => self.hb_port,
        }
    }

    /// Sets the port of a channel.
    pub fn set_port(&mut self, channel: Channel, port: u16) {
        match channel {
            Channel::Shell => self.shell_port = port,
            Channel::Iopub => self.iopub_port = port,
            Channel::Stdin => self.stdin_port = port,
            Channel::Control => self.control_port = port,
            Channel::Heartbeat => self.hb_port = port,
        }
    }

    /// ZeroMQ's name of a channel.
    #[must_use]
    pub fn endpoint(&self, channel: Channel) -> String {
        let (ip, port) = (&self.ip, self.port(channel));
        match self.transport {
            Transport::Ipc => format!("ipc://{ip}-{port}"),
            Transport::Tcp if ip.contains(':') && !ip.starts_with('[') => format!("tcp://[{ip}]:{port}"),
            Transport::Tcp => format!("tcp://{ip}:{port}"),
        }
    }

    /// The socket file of a channel, for ipc.
    #[must_use]
    pub fn socket_file(&self, channel: Channel) -> Option<PathBuf> {
        (self.transport == Transport::Ipc).then(|| PathBuf::from(format!("{}-{}", self.ip, self.port(channel))))
    }
}

/// Candidates for a port of `ip` that nobody uses, in random order so that two kernels that start at once seldom meet.
/// A caller binds, and takes the next when somebody was faster.
pub fn free_ports(ip: &str) -> impl Iterator<Item = u16> {
    let span = LAST_FREE_PORT - FIRST_FREE_PORT;
    let start = (uuid::Uuid::new_v4().as_u128() % u128::from(span)) as u16;
    let ip = ip.trim_matches(['[', ']']).to_owned();
    (0..span).map(move |step| FIRST_FREE_PORT + (start + step) % span).filter(move |port| {
        let host = if ip == "*" { "0.0.0.0" } else { &ip };
        TcpListener::bind((host, *port)).is_ok()
    })
}

/// The inode of this process's PID namespace. `None` without /proc.
#[must_use]
pub fn pid_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|meta| meta.ino())
}

/// `BOOT/TICKS` of a process: the boot id and its start in clock ticks since boot. `None` once it is gone, or without /proc.
#[must_use]
pub fn started(pid: i32) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold blanks and parentheses; field 22 counts from behind its last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let ticks = fields.nth(18)?;
    (state != "Z" && state != "X").then(|| format!("{}/{ticks}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("llmspell-{name}-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn a_written_file_is_private_and_reads_back() {
        let dir = folder("connection");
        let path = dir.join("k.json");
        let mut connection = Connection::new(Transport::Tcp, "127.0.0.1".into(), [1, 2, 3, 4, 5]);
        connection.rest.insert("jupyter_session".into(), "a.ipynb".into());
        connection.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let back = Connection::read(&path).unwrap();
        assert_eq!((back.hb_port, &back.key), (5, &connection.key));
        assert_eq!(back.rest["jupyter_session"], "a.ipynb");
        assert_eq!(back.endpoint(Channel::Control), "tcp://127.0.0.1:4");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        let dir = folder("badconnection");
        let path = dir.join("k.json");
        let check = |text: &str, mode: u32, class: Class, words: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Connection::read(&path).unwrap_err();
            assert_eq!(error.class(), class, "{error}");
            assert!(error.text().contains(words), "{error}");
        };
        let mut good = Connection::new(Transport::Ipc, "/tmp/x".into(), [1, 2, 3, 4, 5]);
        let text = serde_json::to_string(&good).unwrap();
        check(&text, 0o644, Class::Denied, "others can read");
        check(&text, 0o620, Class::Denied, "others can write");
        check(&text[..text.len() / 2], 0o600, Class::Config, "truncated");
        check("{\"ip\": 5}", 0o600, Class::Config, "not a connection file");
        check("", 0o600, Class::Config, "truncated");
        check("\u{0}\u{1}", 0o600, Class::Config, "not a connection file");
        good.curve_publickey = Some("x".into());
        check(&serde_json::to_string(&good).unwrap(), 0o600, Class::Absent, "CurveZMQ");
        assert_eq!(Connection::read(&dir.join("none.json")).unwrap_err().class(), Class::NotFound);
        assert_eq!(Connection::read(&dir).unwrap_err().class(), Class::Config);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_process_has_one_start() {
        let me = std::process::id() as i32;
        assert_eq!(started(me), started(me));
        assert!(started(me).unwrap().contains('/'));
        assert_eq!(started(i32::MAX), None);
    }
}
