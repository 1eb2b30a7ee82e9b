//! Amazon SES (v2, signed with Signature Version 4) and SendGrid (v3), over HTTPS.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use lettre::address::Envelope;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Mail, Sent, person, variable};
use crate::error::{Class, Error, Result};
use crate::tools::Call;
use crate::tools::http::{self, Header, Request, Response};

/// Where `provider` is, unless the configuration moves it.
fn endpoint(provider: &str, usual: &str, path: &str, call: &Call) -> Result<Url> {
    let place = call.settings.email.endpoints.get(provider).map_or(usual, String::as_str);
    http::parse(&format!("{}{path}", place.trim_end_matches('/')), "tools.email.endpoints")
}

fn refused(provider: &str, response: &Response) -> Error {
    let body = response.json().unwrap_or_default();
    let places = ["/errors/0/message", "/message", "/Message"];
    let said = places.iter().find_map(|place| body.pointer(place)?.as_str()).unwrap_or("no reason given");
    let said = said.replace('\n', " ").chars().take(300).collect::<String>();
    let class = if response.status >= 500 || response.status == 429 { Class::Remote } else { Class::Tool };
    Error::new(class, format!("{provider}: status {}: {said}", response.status))
}

/// SendGrid: `POST /v3/mail/send`.
pub(super) fn sendgrid(mail: &Mail, call: &Call) -> Result<Sent> {
    let key =
        variable(&["EMAIL_SENDGRID_API_KEY", "LLMSPELL_API_KEY_SENDGRID", "SENDGRID_API_KEY"]).ok_or_else(|| {
            Error::new(Class::Config, "sendgrid: no key").hint("Set SENDGRID_API_KEY in the environment of the kernel.")
        })?;
    let list = |people: &[lettre::message::Mailbox]| people.iter().map(person).collect::<Vec<_>>();
    let mut to = json!({"to": list(&mail.to)});
    for (name, people) in [("cc", &mail.cc), ("bcc", &mail.bcc)] {
        if !people.is_empty() {
            to[name] = list(people).into();
        }
    }
    // Plain text has to come first.
    let mut content: Vec<Value> =
        mail.text.iter().filter(|_| mail.html).map(|text| json!({"type": "text/plain", "value": text})).collect();
    content.push(json!({"type": if mail.html { "text/html" } else { "text/plain" }, "value": mail.body}));
    let mut body = json!({
        "personalizations": [to], "from": person(&mail.from), "subject": mail.subject, "content": content,
    });
    if let Some(reply_to) = &mail.reply_to {
        body["reply_to"] = person(reply_to);
    }
    if !mail.files.is_empty() {
        let file = |file: &super::File| json!({"content": STANDARD.encode(&file.bytes), "filename": file.name, "type": file.kind, "disposition": "attachment"});
        body["attachments"] = mail.files.iter().map(file).collect();
    }
    let url = endpoint("sendgrid", "https://api.sendgrid.com", "/v3/mail/send", call)?;
    let request = Request::new("POST", url, &call.settings)?.stay();
    let response =
        request.header(Header::new("authorization", &format!("Bearer {key}"), true)?).json(&body)?.send(call)?;
    if !response.is_success() {
        return Err(refused("sendgrid", &response));
    }
    Ok(Sent { id: response.header("x-message-id").map(str::to_owned), response: response.status.to_string() })
}

/// SES: `POST /v2/email/outbound-emails` with the whole message.
pub(super) fn ses(envelope: &Envelope, message: &[u8], call: &Call) -> Result<Sent> {
    let missing = |what: &str| {
        Error::new(Class::Config, format!("ses: no {what}"))
            .hint("Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION in the environment of the kernel.")
    };
    let id = variable(&["EMAIL_SES_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"]).ok_or_else(|| missing("access key"))?;
    let secret =
        variable(&["EMAIL_SES_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"]).ok_or_else(|| missing("secret key"))?;
    let region = call.settings.email.ses_region.clone();
    let region = region.or_else(|| variable(&["EMAIL_SES_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"]));
    let region = region.ok_or_else(|| missing("region"))?;
    let body = json!({
        "FromEmailAddress": envelope.from().map(ToString::to_string),
        "Destination": {"ToAddresses": envelope.to().iter().map(ToString::to_string).collect::<Vec<_>>()},
        "Content": {"Raw": {"Data": STANDARD.encode(message)}},
    })
    .to_string();
    let usual = format!("https://email.{region}.amazonaws.com");
    let url = endpoint("ses", &usual, "/v2/email/outbound-emails", call)?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "");
    let token = variable(&["AWS_SESSION_TOKEN"]);
    let authorization = sign(&Signed {
        url: &url,
        body: &body,
        id: &id,
        secret: &secret,
        token: token.as_deref(),
        region: &region,
        service: "ses",
        now: &now,
    });
    let mut request = Request::new("POST", url, &call.settings)?.stay();
    request = request.header(Header::new("x-amz-date", &now, false)?);
    if let Some(token) = &token {
        request = request.header(Header::new("x-amz-security-token", token, true)?);
    }
    request = request.header(Header::new("authorization", &authorization, true)?);
    let response = request.body(body, "application/json")?.send(call)?;
    if !response.is_success() {
        return Err(refused("ses", &response));
    }
    let id = response.json()?["MessageId"].as_str().map(str::to_owned);
    Ok(Sent { id, response: response.status.to_string() })
}

/// What Signature Version 4 is made of.
struct Signed<'a> {
    url: &'a Url,
    body: &'a str,
    id: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
    region: &'a str,
    service: &'a str,
    /// `20150830T123600Z`
    now: &'a str,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The Authorization header of a POST of JSON without a query.
fn sign(what: &Signed<'_>) -> String {
    let host = &what.url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut headers = format!("content-type:application/json\nhost:{host}\nx-amz-date:{}\n", what.now);
    let mut names = "content-type;host;x-amz-date".to_owned();
    if let Some(token) = what.token {
        headers.push_str(&format!("x-amz-security-token:{token}\n"));
        names.push_str(";x-amz-security-token");
    }
    let body = hex(&Sha256::digest(what.body.as_bytes()));
    let request = format!("POST\n{}\n\n{headers}\n{names}\n{body}", what.url.path());
    let day = &what.now[..8];
    let scope = format!("{day}/{}/{}/aws4_request", what.region, what.service);
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", what.now, hex(&Sha256::digest(request.as_bytes())));
    let key = [day, what.region, what.service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", what.secret).into_bytes(), |key, part| mac(&key, part));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        what.id,
        hex(&mac(&key, &text))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_derived_as_amazon_documents() {
        // "Examples of how to derive a signing key for Signature Version 4".
        let key = ["20120215", "us-east-1", "iam", "aws4_request"]
            .iter()
            .fold(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec(), |key, part| mac(&key, part));
        assert_eq!(hex(&key), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    }

    #[test]
    fn headers_name_what_was_signed() {
        let url = Url::parse("https://email.us-east-1.amazonaws.com/v2/email/outbound-emails").unwrap();
        let signed = Signed {
            url: &url,
            body: "{}",
            id: "ID",
            secret: "S",
            token: Some("T"),
            region: "us-east-1",
            service: "ses",
            now: "20240115T103000Z",
        };
        let header = sign(&signed);
        assert!(header.starts_with("AWS4-HMAC-SHA256 Credential=ID/20240115/us-east-1/ses/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="), "{header}");
        assert_ne!(header, sign(&Signed { body: "[]", ..signed }));
    }
}
