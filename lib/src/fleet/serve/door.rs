//! Who is let in: the token, the names the service may be called by, where a request comes from.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use subtle::ConstantTimeEq;

use crate::error::{Class, Error, Result};
use crate::home::{self, Home};

/// What a token has at least and at most, characters.
const SHORTEST: usize = 16;
const LONGEST: usize = 4096;
/// What systemd's `LoadCredential=` may call it.
const CREDENTIAL: &str = "fleet-token";

/// The token, and the file it is in: the one that is named, else the credential of the service, else our own, which is made
/// when it is not there.
pub(super) fn token(home: &Home, file: Option<&Path>) -> Result<(String, Option<PathBuf>)> {
    if let Some(file) = file {
        let text = if file == Path::new("-") { read(std::io::stdin(), "standard input")? } else { private(file)? };
        return Ok((fit(&text, &file.display())?, (file != Path::new("-")).then(|| file.to_owned())));
    }
    if let Some(text) = home::credential(CREDENTIAL)? {
        return Ok((fit(&text, &format_args!("credential {CREDENTIAL}"))?, None));
    }
    let file = home.fleet_dir().join("serve.token");
    if !file.exists() {
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        home::write_private(&file, format!("{token}\n").as_bytes())?;
    }
    Ok((fit(&private(&file)?, &file.display())?, Some(file)))
}

fn fit(text: &str, thing: &dyn std::fmt::Display) -> Result<String> {
    let token = text.trim();
    if !(SHORTEST..=LONGEST).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let text = format!("token in {thing}: is not {SHORTEST} to {LONGEST} visible ASCII characters");
        return Err(Error::new(Class::Config, text).hint("Make one: openssl rand -hex 32"));
    }
    Ok(token.to_owned())
}

/// What is in a file that is its owner's alone.
fn private(path: &Path) -> Result<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file =
        fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| Error::io(path, error))?;
    let meta = file.metadata().map_err(|error| Error::io(path, error))?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw() || meta.uid() == 0;
    let bad = |what: &str| {
        Error::new(Class::Denied, format!("token file {}: {what}", path.display()))
            .hint(format!("Whoever reads it can end kernels: chmod 600 {}", path.display()))
    };
    match () {
        () if !meta.is_file() => Err(bad("is not a file")),
        () if !ours => Err(bad("belongs to another user")),
        // A group that root let read it is root's decision.
        () if meta.mode() & if meta.uid() == 0 { 0o037 } else { 0o077 } != 0 => Err(bad("others can read or write it")),
        () => read(file, &path.display().to_string()),
    }
}

fn read(source: impl Read, thing: &str) -> Result<String> {
    let mut text = String::new();
    source.take(2 * LONGEST as u64).read_to_string(&mut text).map_err(|error| Error::system(thing, error))?;
    Ok(text)
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It calls us by a name we do not have.
    Host,
    /// It was made by the page of somebody else.
    Origin,
    /// It has no token, or a wrong one.
    Token,
}

pub(super) struct Door {
    token: String,
    address: Option<SocketAddr>,
    hosts: Vec<String>,
}

impl Door {
    pub(super) fn new(token: String, address: Option<SocketAddr>, hosts: &[String]) -> Self {
        Door { token, address, hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Whether the request may be looked at at all. Through the local socket comes only who may open it; but to a port any
    /// page in a browser on this machine can lead, under a name it chose itself.
    pub(super) fn admits(&self, headers: &HeaderMap) -> std::result::Result<(), Refusal> {
        if self.address.is_none() {
            return Ok(());
        }
        let text = |name: HeaderName| match headers.get_all(&name).iter().collect::<Vec<_>>()[..] {
            [] => Ok(None),
            [only] => only.to_str().map(Some).map_err(|_| ()),
            _ => Err(()),
        };
        let host = text(HOST).ok().flatten().ok_or(Refusal::Host)?;
        if !self.is_ours(host) {
            return Err(Refusal::Host);
        }
        // Browsers say where a page came from; programs do not.
        match text(ORIGIN) {
            Ok(None) => Ok(()),
            Ok(Some(origin))
                if ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host)) =>
            {
                Ok(())
            }
            _ => Err(Refusal::Origin),
        }
    }

    /// Whether `host`, perhaps with a port, means us: an address cannot be rebound, a name can.
    fn is_ours(&self, host: &str) -> bool {
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or("", |(bare, _)| bare),
            None => host.rsplit_once(':').map_or(host, |(bare, _)| bare),
        };
        let bare = bare.to_ascii_lowercase();
        let address = bare.parse::<IpAddr>().ok();
        let local = self.address.is_some_and(|address| address.ip().is_loopback());
        match address {
            Some(ip) => !local || ip.is_loopback(),
            None => (local && bare == "localhost") || self.hosts.contains(&bare),
        }
    }

    /// Whether reading needs the token: the local socket is its owner's already.
    pub(super) fn is_guarded(&self) -> bool {
        self.address.is_some()
    }

    /// Whether the request has the token. How long it takes does not tell how much of it was right.
    pub(super) fn trusts(&self, headers: &HeaderMap) -> std::result::Result<(), Refusal> {
        let given =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
        let token =
            given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token.trim());
        if token.as_bytes().ct_eq(self.token.as_bytes()).into() { Ok(()) } else { Err(Refusal::Token) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn names_that_could_be_anybodys_are_refused() {
        let door = |address: &str, hosts: &[String]| Door::new("t".repeat(20), Some(address.parse().unwrap()), hosts);
        let local = door("127.0.0.1:8080", &[]);
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "127.0.0.1", "[::1]:8080"] {
            assert_eq!(local.admits(&headers(&[("host", host)])), Ok(()), "{host}");
        }
        for host in
            ["evil.example:8080", "127.0.0.1.evil.example", "10.0.0.5:8080", "", "localhost.", "[evil]:1", "::1"]
        {
            assert_eq!(local.admits(&headers(&[("host", host)])), Err(Refusal::Host), "{host}");
        }
        assert_eq!(local.admits(&headers(&[])), Err(Refusal::Host));
        let origin = |origin| local.admits(&headers(&[("host", "localhost:8080"), ("origin", origin)]));
        assert_eq!(origin("http://localhost:8080"), Ok(()));
        for other in ["http://evil.example", "null", "http://localhost:9090", "http://localhost:8080.evil.example"] {
            assert_eq!(origin(other), Err(Refusal::Origin), "{other}");
        }
        let remote = door("0.0.0.0:80", &["Fleet.Example".into()]);
        for host in ["10.0.0.5", "fleet.example:80", "[fd00::1]:80"] {
            assert_eq!(remote.admits(&headers(&[("host", host)])), Ok(()), "{host}");
        }
        assert_eq!(remote.admits(&headers(&[("host", "localhost")])), Err(Refusal::Host));
    }

    #[test]
    fn only_the_token_is_trusted() {
        let door = Door::new("0123456789abcdef".into(), None, &[]);
        let trusts = |value: &str| door.trusts(&headers(&[("authorization", value)])).is_ok();
        assert!(trusts("Bearer 0123456789abcdef") && trusts("bearer  0123456789abcdef"));
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!trusts(wrong), "{wrong}");
        }
        assert!(door.trusts(&HeaderMap::new()).is_err());
    }
}
