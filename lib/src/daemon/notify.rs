//! What a service manager wants to know, as sd_notify(3) tells it: a datagram to the socket in `$NOTIFY_SOCKET`.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager; without one everything said is for nobody.
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// What the environment names, for this process.
    #[must_use]
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok();
        let socket = var("NOTIFY_SOCKET").and_then(|name| {
            let socket = UnixDatagram::unbound().ok()?;
            // It is always there to be read; if it is not, nobody waits for it.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address(&name)?))
        });
        let meant = var("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog = var("WATCHDOG_USEC").and_then(|usec| usec.parse().ok()).filter(|usec| *usec > 0 && meant);
        Notify { watchdog: watchdog.map(Duration::from_micros).filter(|_| socket.is_some()), socket }
    }

    /// Whether somebody listens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// How long the manager waits for a sign of life before it restarts the service.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Says `text`: lines `NAME=value`.
    pub fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            log::debug!("service manager: {error}");
        }
    }

    /// The configuration is being read again; [`Notify::ready`] ends it.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
    }

    /// The service serves, in the state `status`.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
    }

    /// The service ends, and takes no longer than `at_most` for it.
    pub fn stopping(&self, at_most: Duration) {
        self.say(&format!("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={}", at_most.as_micros()));
    }
}

/// A path, or behind `@` a name in the abstract space of Linux.
fn address(name: &str) -> Option<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name).ok();
    }
    name.starts_with('/').then(|| SocketAddr::from_pathname(name).ok()).flatten()
}
