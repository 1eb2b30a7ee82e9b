//! SMTP submission (RFC 6409): to the checked address, encrypted unless the server is this machine or the configuration says so.

use std::net::SocketAddr;

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use super::{Sent, variable};
use crate::config::MailTls;
use crate::error::{Class, Error, Result};
use crate::tools::{Call, rounds};

/// Hands the message over.
pub(super) fn send(envelope: &Envelope, message: &[u8], call: &Call) -> Result<Sent> {
    let settings = &call.settings.email;
    let host = settings.smtp_host.clone().or_else(|| variable(&["EMAIL_SMTP_HOST"])).ok_or_else(|| {
        Error::new(Class::Config, "smtp: no server")
            .hint("Set tools.email.smtp_host, and EMAIL_SMTP_PASSWORD in the environment.")
    })?;
    let port = settings.smtp_port.or_else(|| variable(&["EMAIL_SMTP_PORT"])?.parse().ok());
    let port = port.unwrap_or(if settings.tls == MailTls::Tls { 465 } else { 587 });
    let username = settings.smtp_username.clone().or_else(|| variable(&["EMAIL_SMTP_USERNAME"]));
    let password = variable(&["EMAIL_SMTP_PASSWORD", "LLMSPELL_EMAIL_SMTP_PASSWORD"]);
    let addresses = call.policy.check_host(&host, port)?;
    let work = async {
        let mut connection = connect(&host, &addresses, call).await?;
        if let (Some(username), Some(password)) = (username, password) {
            if !connection.is_encrypted() && addresses.iter().any(|address| !address.ip().is_loopback()) {
                return Err(Error::new(Class::Denied, format!("{host}: no password without encryption")));
            }
            let credentials = Credentials::new(username, password);
            connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|e| fault(&host, &e))?;
        }
        let response = connection.send(envelope, message).await.map_err(|e| fault(&host, &e))?;
        // It has been accepted; how the server takes leave is no matter.
        drop(connection.quit().await);
        let text = response.message().collect::<Vec<_>>().join(" ");
        Ok(Sent { id: None, response: format!("{} {text}", response.code()) })
    };
    rounds::wait(call, work)
}

fn fault(host: &str, error: &lettre::transport::smtp::Error) -> Error {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let text = format!("{host}: {error}{cause}").replace(['\r', '\n'], " ");
    let class = if error.is_permanent() { Class::Tool } else { Class::Remote };
    let text = Error::new(class, text);
    if error.is_tls() {
        text.hint("tools.ca_file names more authorities; tools.email.tls says how it is encrypted.")
    } else {
        text
    }
}

/// A connection that said hello and is encrypted as it has to be.
async fn connect(host: &str, addresses: &[SocketAddr], call: &Call) -> Result<AsyncSmtpConnection> {
    let settings = &call.settings.email;
    let mut tls = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
    if let Some(file) = &call.settings.ca_file {
        let wrong = |what: String| Error::new(Class::Config, format!("tools.ca_file: {}: {what}", file.display()));
        let pem = std::fs::read(file).map_err(|e| wrong(crate::error::reason(&e)))?;
        tls = tls.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| wrong(e.to_string()))?);
    }
    let tls = tls.build().map_err(|e| fault(host, &e))?;
    let hello = ClientId::default();
    let at_once = (settings.tls == MailTls::Tls).then(|| tls.clone());
    let connect = AsyncSmtpConnection::connect_tokio1(addresses, None, &hello, at_once, None);
    let mut connection = connect.await.map_err(|e| fault(host, &e))?;
    if settings.tls == MailTls::Starttls {
        if connection.can_starttls() {
            connection.starttls(tls, &hello).await.map_err(|e| fault(host, &e))?;
        } else if addresses.iter().any(|address| !address.ip().is_loopback()) {
            return Err(Error::new(Class::Denied, format!("{host}: offers no encryption"))
                .hint("Set tools.email.tls = \"none\" to send without it."));
        }
    }
    Ok(connection)
}
