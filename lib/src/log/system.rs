//! The logs of the system: standard error as the journal reads it, syslog, and the journal's own protocol.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use log::{Level, Record};

use crate::config::LogFormat;

/// The severity of syslog(3).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Standard error.
pub(super) struct Stderr {
    journal: bool,
}

impl Stderr {
    pub(super) fn new() -> Option<Self> {
        Some(Stderr { journal: leads_to_journal().unwrap_or(false) })
    }

    /// Whether what is written there ends in the journal.
    pub(super) fn is_journal(&self) -> bool {
        self.journal
    }

    /// True when it was written. To the journal the severity goes in front, and no time, as it has its own.
    pub(super) fn write(&self, format: LogFormat, line: &str, level: Level) -> bool {
        let mut stderr = io::stderr().lock();
        if !self.journal {
            return stderr.write_all(line.as_bytes()).is_ok();
        }
        let line = match format {
            LogFormat::Text => line.split_once(' ').map_or(line, |(_, rest)| rest),
            LogFormat::Json => line,
        };
        stderr.write_all(format!("<{}>{line}", severity(level)).as_bytes()).is_ok()
    }
}

/// `$JOURNAL_STREAM` names device and inode of the stream it was set for, which may not be ours any more.
fn leads_to_journal() -> Option<bool> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let (device, inode) = stream.split_once(':')?;
    let stat = rustix::fs::fstat(rustix::stdio::stderr()).ok()?;
    Some(device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// A datagram socket that is connected anew when its other end was restarted.
struct Socket {
    path: &'static str,
    socket: Option<(UnixDatagram, u64)>,
}

impl Socket {
    const fn to(path: &'static str) -> Self {
        Socket { path, socket: None }
    }

    /// True when it was taken. A receiver that does not keep up loses messages; nobody waits for it.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = self.socket.as_ref().is_some_and(|(socket, _)| socket.send(bytes).is_ok());
        if sent {
            return true;
        }
        let inode = std::fs::metadata(self.path).map_or(0, |meta| meta.ino());
        if self.socket.as_ref().is_some_and(|(_, known)| *known == inode) {
            return false;
        }
        let connected = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(self.path)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        self.socket = connected.ok().map(|socket| (socket, inode));
        self.socket.as_ref().is_some_and(|(socket, _)| socket.send(bytes).is_ok())
    }
}

/// syslog(3) without its library: RFC 3164 as local daemons take it, facility `daemon`.
pub(super) struct Syslog(Socket);

impl Default for Syslog {
    fn default() -> Self {
        Syslog(Socket::to("/dev/log"))
    }
}

impl Syslog {
    pub(super) fn write(&mut self, record: &Record<'_>, message: &str) -> bool {
        const DAEMON: u8 = 3 << 3;
        let text = format!(
            "<{}>{}[{}]: {}: {}",
            DAEMON | severity(record.level()),
            program(),
            std::process::id(),
            record.target(),
            message.replace('\n', "\\n")
        );
        self.0.send(text.as_bytes())
    }
}

/// The journal: fields, each `NAME=value`, or `NAME`, its length and the bytes where the value has several lines.
pub(super) struct Journal(Socket);

impl Default for Journal {
    fn default() -> Self {
        Journal(Socket::to("/run/systemd/journal/socket"))
    }
}

impl Journal {
    pub(super) fn write(&mut self, record: &Record<'_>, message: &str) -> bool {
        self.0.send(&fields(record, message))
    }
}

fn fields(record: &Record<'_>, message: &str) -> Vec<u8> {
    let mut bytes = format!(
        "PRIORITY={}\nSYSLOG_IDENTIFIER={}\nSYSLOG_PID={}\nMODULE={}\nMESSAGE\n",
        severity(record.level()),
        program(),
        std::process::id(),
        record.target().replace('\n', " "),
    )
    .into_bytes();
    bytes.extend((message.len() as u64).to_le_bytes());
    bytes.extend(message.as_bytes());
    bytes.push(b'\n');
    bytes
}

/// The name of this program.
fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.is_empty() { "llmspell".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_is_one_field_of_the_journal() {
        let record = Record::builder().level(Level::Warn).target("a").build();
        let bytes = fields(&record, "x\nPRIORITY=0");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("PRIORITY=4\n"), "{text:?}");
        assert!(text.ends_with("MESSAGE\n\u{c}\0\0\0\0\0\0\0x\nPRIORITY=0\n"), "{text:?}");
    }
}
