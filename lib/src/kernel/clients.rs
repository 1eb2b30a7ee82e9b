//! Who may connect to the ports: nobody beyond this machine unless the configuration names them. ZeroMQ closes every other
//! connection before a byte is read from it.

use std::net::IpAddr;

use zmq::Socket;

use super::sockets::set_option;
use crate::error::{Class, Error, Result};
use crate::protocol::connection::Transport;

/// `ZMQ_TCP_ACCEPT_FILTER` of zmq.h, which zmq-sys leaves out as libzmq would rather have ZAP; libzmq 4.3 keeps it.
const TCP_ACCEPT_FILTER: u32 = 38;

/// Blocks of addresses that may connect; empty: all that can.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// As `ZMQ_TCP_ACCEPT_FILTER` wants them.
    filters: Vec<String>,
    /// Whether the sockets take IPv6, in which IPv4 addresses are mapped ones.
    v6: bool,
}

impl Clients {
    /// Those of `list` that may connect to `ip`, an address or a name.
    ///
    /// # Errors
    /// `Config` for what is no address, and for an address others can reach without a list.
    pub(super) fn new(transport: Transport, ip: &str, list: &[String]) -> Result<Self> {
        if transport == Transport::Ipc {
            return Ok(Clients::default());
        }
        let bare = ip.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>().ok();
        let local = ip == "localhost" || address.is_some_and(|ip| ip.to_canonical().is_loopback());
        if list.is_empty() && !local {
            return Err(Error::new(Class::Config, format!("kernel.ip {ip}: other machines can reach it"))
                .hint("Say which may with --clients=LIST, such as 10.0.0.0/8. Messages are signed, not encrypted."));
        }
        let v6 = ip == "*" || address.is_some_and(|ip| ip.is_ipv6());
        let filters = list.iter().map(|block| filter(block, v6)).collect::<Result<Vec<_>>>()?;
        Ok(Clients { filters: filters.into_iter().flatten().collect(), v6 })
    }

    /// Makes `socket` refuse all others.
    pub(super) fn guard(&self, socket: &mut Socket) -> zmq::Result<()> {
        socket.set_ipv6(self.v6)?;
        let mut filters = self.filters.iter();
        filters.try_for_each(|filter| set_option(socket, TCP_ACCEPT_FILTER, filter.as_bytes()))
    }
}

/// `block` as libzmq compares it; none for an IPv6 block on an IPv4 socket. A plain IPv4 block on an IPv6 socket would be
/// read as the first bits of an IPv6 address, which all mapped addresses share.
fn filter(block: &str, v6: bool) -> Result<Option<String>> {
    let wrong = || {
        Error::new(Class::Config, format!("kernel.clients: {block:?} is not an address or a block such as 10.0.0.0/8"))
    };
    let (base, bits) = block.split_once('/').map_or((block, None), |(base, bits)| (base, Some(bits)));
    let base: IpAddr = base.trim().parse().map_err(|_| wrong())?;
    let width = if base.is_ipv4() { 32 } else { 128 };
    let bits: u32 = bits.map_or(Ok(width), |bits| bits.trim().parse()).map_err(|_| wrong())?;
    if bits > width {
        return Err(wrong());
    }
    Ok(match (base, v6) {
        (IpAddr::V4(base), false) => Some(format!("{base}/{bits}")),
        (IpAddr::V4(base), true) => Some(format!("::ffff:{base}/{}", bits + 96)),
        (IpAddr::V6(base), true) => Some(format!("{base}/{bits}")),
        (IpAddr::V6(_), false) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(ip: &str, list: &[&str]) -> Result<Vec<String>> {
        let list: Vec<_> = list.iter().map(|&block| block.to_owned()).collect();
        Clients::new(Transport::Tcp, ip, &list).map(|clients| clients.filters)
    }

    #[test]
    fn beyond_this_machine_somebody_must_be_named() {
        for ip in ["0.0.0.0", "::", "*", "192.168.1.5", "[2001:db8::1]", "example.org"] {
            let error = made(ip, &[]).unwrap_err();
            assert_eq!(error.class(), Class::Config, "{ip}");
            assert!(error.next_step().unwrap().contains("--clients"));
        }
        for ip in ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"] {
            assert!(made(ip, &[]).unwrap().is_empty(), "{ip}");
        }
        assert!(Clients::new(Transport::Ipc, "/run/k", &[]).is_ok());
    }

    #[test]
    fn blocks_are_what_libzmq_compares() {
        assert_eq!(made("0.0.0.0", &["10.0.0.0/8", "::1", "192.168.1.5"]).unwrap(), ["10.0.0.0/8", "192.168.1.5/32"]);
        assert_eq!(made("::", &["10.0.0.0/8", "fd00::/8"]).unwrap(), ["::ffff:10.0.0.0/104", "fd00::/8"]);
        for wrong in ["10.0.0.0/33", "example.org", "", "10.0.0.0/x", "::/129", "10.0.0.0/-1"] {
            assert_eq!(made("0.0.0.0", &[wrong]).unwrap_err().class(), Class::Config, "{wrong}");
        }
    }
}
