//! Which hosts may be reached. Addresses that are not public are refused unless a grant names them, however they are
//! written: `url` reads 2130706433, 0x7f.1 and 017700000001 as 127.0.0.1, and IPv6 forms that carry an IPv4 address
//! are judged by that. Sources: the IANA special-purpose address registries (RFC 6890), RFC 6052, RFC 3056.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use url::Host;

use super::{Grants, Profile};
use crate::error::{Class, Error, Result, reason};

/// See [`super::Policy::check_host`].
pub(super) fn check(grants: &Grants, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let name = parse(host)?;
    let denied = |why: &str| {
        Error::new(Class::Denied, format!("host {host}: {why}")).hint(format!("Allow it with --allow-net={host}."))
    };
    let forbidden = || {
        Error::new(Class::Denied, format!("host {host}: forbidden by the configuration"))
            .hint("It is in security.deny_net or tools.http_request.blocked_hosts; take it out there to allow it.")
    };
    let named = |list: &[String]| list.iter().any(|grant| names_host(grant, &name, port));
    if named(&grants.net_deny) {
        return Err(forbidden());
    }
    let allowed = grants.profile == Profile::Privileged || named(&grants.net);
    let public = grants.profile == Profile::Standard;
    // Without any chance to be allowed the name is not even looked up: a look-up tells others, too.
    if !allowed && !public && !grants.net.iter().any(|grant| block(grant).is_some()) {
        return Err(denied("no network allowed"));
    }
    let addresses: Vec<SocketAddr> = match &name {
        Host::Ipv4(ip) => vec![(*ip, port).into()],
        Host::Ipv6(ip) => vec![(*ip, port).into()],
        Host::Domain(name) => (name.as_str(), port)
            .to_socket_addrs()
            .map_err(|e| Error::new(Class::Remote, format!("host {host}: {}", reason(&e))).source(e))?
            .collect(),
    };
    if addresses.is_empty() {
        return Err(Error::new(Class::Remote, format!("host {host}: has no address")));
    }
    for ip in addresses.iter().map(SocketAddr::ip) {
        let listed = |list: &[String]| list.iter().any(|grant| names_address(grant, ip, port));
        if listed(&grants.net_deny) {
            return Err(forbidden());
        }
        if allowed || listed(&grants.net) {
            continue;
        }
        match special(ip) {
            Some(kind) => return Err(denied(&format!("{ip} is {kind}"))),
            None if public => {}
            None => return Err(denied("no network allowed")),
        }
    }
    Ok(addresses)
}

/// Whether `list`, written as [`Grants::net`], names this host; one that is a name is not looked up.
pub fn listed(list: &[String], host: &str, port: u16) -> bool {
    let Ok(name) = parse(host) else { return false };
    let ip = match &name {
        Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(*ip)),
        Host::Domain(_) => None,
    };
    list.iter().any(|grant| names_host(grant, &name, port) || ip.is_some_and(|ip| names_address(grant, ip, port)))
}

/// A name in lower case without the final dot, or an address in whichever notation.
fn parse(host: &str) -> Result<Host<String>> {
    let bare = host.strip_suffix('.').unwrap_or(host);
    let parsed = match bare.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>() {
        Ok(ip) => Ok(Host::Ipv6(ip)),
        Err(_) => Host::parse(bare),
    };
    parsed.map_err(|e| Error::new(Class::Usage, format!("host {host}: {e}")))
}

/// Whether `grant` names `host` by its name, or everything.
fn names_host(grant: &str, host: &Host<String>, port: u16) -> bool {
    let grant = grant.trim().to_lowercase();
    if grant == "*" {
        return true;
    }
    let Host::Domain(name) = host else { return false };
    let grant = match grant.rsplit_once(':') {
        Some((name, number)) if number.parse() == Ok(port) => name,
        Some(_) => return false,
        None => &grant,
    };
    match grant.strip_prefix("*.") {
        Some(domain) => name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => grant == name,
    }
}

/// Whether `grant` is the address `ip`, with or without `port`, or a block around it.
fn names_address(grant: &str, ip: IpAddr, port: u16) -> bool {
    let ip = ip.to_canonical();
    if let Ok(address) = grant.trim().parse::<SocketAddr>() {
        return address.ip() == ip && address.port() == port;
    }
    block(grant).is_some_and(|(base, bits)| match (base, ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => same(base.to_bits().into(), ip.to_bits().into(), 32, bits),
        (IpAddr::V6(base), IpAddr::V6(ip)) => same(base.to_bits(), ip.to_bits(), 128, bits),
        _ => false,
    })
}

/// `grant` as an address and the number of its leading bits that count.
fn block(grant: &str) -> Option<(IpAddr, u32)> {
    let grant = grant.trim();
    if let Ok(address) = grant.parse::<SocketAddr>() {
        return Some((address.ip(), if address.is_ipv4() { 32 } else { 128 }));
    }
    let (base, bits) = grant.split_once('/').map_or((grant, None), |(base, bits)| (base, Some(bits)));
    let base: IpAddr = base.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let width = if base.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(width), str::parse).ok().filter(|bits| *bits <= width)?;
    Some((base, bits))
}

/// Whether the first `bits` of two numbers of `width` bits are the same.
fn same(a: u128, b: u128, width: u32, bits: u32) -> bool {
    bits == 0 || (a ^ b) >> (width - bits) == 0
}

/// What kind of address this is when it is not a public one.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, d] = ip.octets();
    Some(match (a, b, c, d) {
        (0, ..) => "an address of this network",
        (127, ..) => "a loopback address",
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => "a private address",
        (169, 254, 169, 254) | (168, 63, 129, 16) => "a cloud metadata address",
        (169, 254, ..) => "a link-local address",
        (100, 64..=127, ..) => "a shared address of a provider",
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => "a documentation address",
        (192, 0, 0, _) | (192, 88, 99, _) | (198, 18..=19, ..) | (240.., ..) => "a reserved address",
        (224..=239, ..) => "a multicast address",
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let s = ip.segments();
    let embedded = |high: u16, low: u16| special_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    Some(match s {
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        // Compatible (deprecated), mapped, translated (RFC 2765), NAT64, 6to4: the IPv4 address inside decides.
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => return embedded(high, low),
        [0x64, 0xff9b, ..] => "an address of a translator",
        [0xfc00..=0xfdff, ..] => "a private address",
        [0xfe80..=0xfeff, ..] => "a link-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "a documentation address",
        [0x2001, 0..=0x1ff, ..] | [0x100, 0, 0, 0, ..] => "a reserved address",
        [0x2000..=0x3fff, ..] => return None,
        _ => "a reserved address",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(profile: Profile, net: &[&str], deny: &[&str]) -> Grants {
        let own = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Grants { profile, workdir: "/".into(), net: own(net), net_deny: own(deny), ..Grants::default() }
    }

    fn class(grants: &Grants, host: &str) -> Option<Class> {
        check(grants, host, 80).err().map(|error| error.class())
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_however_written() {
        let standard = grants(Profile::Standard, &[], &[]);
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "017700000001",
            "0.0.0.0",
            "0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.1.1",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "localhost",
            "LOCALHOST.",
        ] {
            assert_eq!(class(&standard, host), Some(Class::Denied), "{host}");
        }
        for host in ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "172.32.0.1", "100.128.0.1"] {
            assert_eq!(class(&standard, host), None, "{host}");
        }
    }

    #[test]
    fn a_name_that_leads_to_a_private_address_is_refused() {
        // The name looks public to every rule about names; only its address gives it away.
        let error = check(&grants(Profile::Standard, &["127.0.0.2"], &[]), "localhost", 80).unwrap_err();
        assert!(error.text().contains("loopback"), "{error}");
    }

    #[test]
    fn grants_name_hosts_ports_addresses_and_blocks() {
        for (grant, host, port, allowed) in [
            ("127.0.0.1", "127.0.0.1", 80, true),
            ("127.0.0.1:8080", "127.0.0.1", 8080, true),
            ("127.0.0.1:8080", "127.0.0.1", 80, false),
            ("127.0.0.0/8", "127.9.9.9", 80, true),
            ("10.0.0.0/8", "127.0.0.1", 80, false),
            ("0.0.0.0/0", "10.0.0.1", 80, true),
            ("[::1]:80", "::1", 80, true),
            ("fd00::/8", "fd12::1", 80, true),
            ("localhost", "localhost", 80, true),
            ("localhost:81", "localhost", 80, false),
            ("*", "127.0.0.1", 80, true),
        ] {
            let granted = check(&grants(Profile::Safe, &[grant], &[]), host, port).is_ok();
            assert_eq!(granted, allowed, "{grant} {host} {port}");
        }
        let domain = |name: &str| Host::Domain(name.to_owned());
        assert!(names_host("*.example.com", &domain("a.example.com"), 80));
        assert!(!names_host("*.example.com", &domain("example.com"), 80));
        assert!(!names_host("*.example.com", &domain("badexample.com"), 80));
    }

    #[test]
    fn deny_wins_and_safe_reaches_nothing() {
        assert_eq!(class(&grants(Profile::Privileged, &["*"], &["8.8.0.0/16"]), "8.8.8.8"), Some(Class::Denied));
        assert_eq!(class(&grants(Profile::Privileged, &[], &["localhost"]), "localhost"), Some(Class::Denied));
        assert_eq!(class(&grants(Profile::Privileged, &[], &[]), "127.0.0.1"), None);
        assert_eq!(class(&grants(Profile::Safe, &[], &[]), "8.8.8.8"), Some(Class::Denied));
        assert_eq!(
            class(&grants(Profile::Safe, &[], &[]), "no-such-name.invalid"),
            Some(Class::Denied),
            "not looked up"
        );
    }
}
