//! `email_sender`: messages by SMTP (STARTTLS or TLS), Amazon SES or SendGrid. Sender, server and provider are configured, secrets
//! are in the environment, and nothing is said to be sent that was not accepted by the other side.

mod http;
mod smtp;

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MessageBuilder, MultiPart, SinglePart};
use lettre::{Address, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, files, timestamp, word};
use crate::config::MailProvider;
use crate::error::{Class, Error, Result};

/// The mail tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "email_sender",
    aliases: &["email", "mail"],
    category: "api",
    summary: "send mail with copies and attachments by SMTP, Amazon SES or SendGrid",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::Network],
    spellings: &[
        Spelling::Param("sender", "from"),
        Spelling::Param("recipient", "to"),
        Spelling::Param("recipients", "to"),
        Spelling::Param("text", "body"),
        Spelling::Param("message", "body"),
        Spelling::Value("operation", "send_email", "send"),
    ],
    examples: &[
        example(
            "what would be sent",
            r#"{"operation": "preview", "from": "Ada <ada@example.com>", "to": "bob@example.com", "subject": "Grüße", "body": "Hello"}"#,
            r#"{"from": "Ada <ada@example.com>", "to": ["bob@example.com"], "recipients": 1, "subject": "Grüße", "attachments": []}"#,
        ),
        example(
            "with copies, which only the others see",
            r#"{"operation": "preview", "from": "a@example.com", "to": ["b@example.com", "c@example.com"], "cc": "d@example.com",
                "bcc": "e@example.com", "subject": "s", "body": "b"}"#,
            r#"{"recipients": 4, "cc": ["d@example.com"], "bcc": ["e@example.com"]}"#,
        ),
        example(
            "an attachment",
            r#"{"operation": "preview", "from": "a@example.com", "to": "b@example.com", "subject": "s", "body": "<b>b</b>", "html": true,
                "attachments": [{"filename": "a.txt", "content": "aGVsbG8="}]}"#,
            r#"{"attachments": [{"filename": "a.txt", "content_type": "text/plain", "size": 5}]}"#,
        ),
    ],
};

/// Most bytes of all attachments.
const MAX_ATTACHED: usize = 25 << 20;

/// Sends a message. It is sent once: what fails in between is told, not tried again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// `send`, or `preview`: the finished message, not sent.
    #[serde(default)]
    operation: Operation,
    /// Who sends, `Name <address>` or an address; `tools.email.from_address` if not given.
    #[serde(default)]
    from: String,
    /// To whom: one or several.
    to: People,
    /// Who gets a copy.
    #[serde(default)]
    cc: People,
    /// Who gets a copy that nobody sees.
    #[serde(default)]
    bcc: People,
    /// Who is answered.
    reply_to: Option<String>,
    /// The subject.
    subject: String,
    /// The text.
    body: String,
    /// Whether `body` is HTML.
    #[serde(default)]
    html: bool,
    /// The same as plain text, for an HTML `body`.
    text_body: Option<String>,
    /// Files to send along.
    #[serde(default)]
    attachments: Vec<Attached>,
    /// How; `tools.email.provider` if not given.
    provider: Option<Provider>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Send,
    Preview,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Provider {
    Smtp,
    Ses,
    Sendgrid,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum People {
    One(String),
    Many(Vec<String>),
}

impl Default for People {
    fn default() -> Self {
        People::Many(Vec::new())
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Attached {
    /// The file.
    path: Option<String>,
    /// Its content instead, base64.
    content: Option<String>,
    /// What it is called; the name of the file if not given.
    filename: Option<String>,
    /// Its media type; by the name if not given.
    content_type: Option<String>,
}

/// A file to send along, read.
struct File {
    name: String,
    kind: String,
    bytes: Vec<u8>,
}

/// A message with everything that says where it goes.
struct Mail {
    from: Mailbox,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
    reply_to: Option<Mailbox>,
    subject: String,
    body: String,
    html: bool,
    text: Option<String>,
    files: Vec<File>,
}

/// What the other side said.
struct Sent {
    id: Option<String>,
    response: String,
}

fn usage(text: String) -> Error {
    Error::new(Class::Usage, text)
}

/// A variable of the kernel's own environment.
fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok()).filter(|value| !value.is_empty())
}

fn mailbox(text: &str, parameter: &str) -> Result<Mailbox> {
    text.trim()
        .parse()
        .map_err(|_| usage(format!("{parameter}: {text:?} is not an address")).hint("Such as Ada <ada@example.com>."))
}

fn people(people: &People, parameter: &str) -> Result<Vec<Mailbox>> {
    match people {
        People::One(text) => Ok(vec![mailbox(text, parameter)?]),
        People::Many(list) => list.iter().map(|text| mailbox(text, parameter)).collect(),
    }
}

/// Sends.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let settings = &call.settings.email;
    let provider = params.provider.unwrap_or(match settings.provider {
        MailProvider::Smtp => Provider::Smtp,
        MailProvider::Ses => Provider::Ses,
        MailProvider::Sendgrid => Provider::Sendgrid,
    });
    let operation = params.operation;
    let mail = mail(params, call)?;
    let message = message(&mail)?;
    let names = |people: &[Mailbox]| people.iter().map(ToString::to_string).collect::<Vec<_>>();
    let file = |file: &File| json!({"filename": file.name, "content_type": file.kind, "size": file.bytes.len()});
    let files: Vec<_> = mail.files.iter().map(file).collect();
    let formatted = message.formatted();
    let mut result = json!({
        "from": mail.from.to_string(), "to": names(&mail.to), "cc": names(&mail.cc), "bcc": names(&mail.bcc), "subject": mail.subject,
        "recipients": message.envelope().to().len(), "attachments": files, "size": formatted.len(),
    });
    if operation == Operation::Preview {
        result["message"] = String::from_utf8_lossy(&formatted).into();
        return Ok(Answer::new("preview", result).message("not sent"));
    }
    let sent = match provider {
        Provider::Smtp => smtp::send(message.envelope(), &formatted, call)?,
        Provider::Ses => http::ses(message.envelope(), &formatted, call)?,
        Provider::Sendgrid => http::sendgrid(&mail, call)?,
    };
    result["provider"] = word(&provider).into();
    result["status"] = "sent".into();
    result["message_id"] = sent.id.into();
    result["response"] = sent.response.into();
    result["timestamp"] = timestamp(SystemTime::now()).into();
    let count = message.envelope().to().len();
    Ok(Answer::new("send", result)
        .message(format!("accepted for {count} recipient{}", if count == 1 { "" } else { "s" })))
}

fn mail(params: Params, call: &Call) -> Result<Mail> {
    let configured = || call.settings.email.from_address.clone().or_else(|| variable(&["EMAIL_DEFAULT_SENDER"]));
    let from = Some(params.from).filter(|from| !from.trim().is_empty()).or_else(configured);
    let from = from.ok_or_else(|| usage("from: missing".into()).hint("Set it, or tools.email.from_address."))?;
    let to = people(&params.to, "to")?;
    if to.is_empty() {
        return Err(usage("to: nobody".into()));
    }
    let mut total = 0;
    let mut files = Vec::new();
    for attached in params.attachments {
        let (bytes, name) = match (&attached.path, &attached.content) {
            (Some(path), None) => {
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                (files::read(path, call)?, Some(name))
            }
            (None, Some(content)) => {
                let bytes =
                    STANDARD.decode(content).map_err(|e| usage(format!("attachments.content: not base64: {e}")))?;
                (bytes, None)
            }
            _ => return Err(usage("attachments: each needs a path or a content".into())),
        };
        total += bytes.len();
        if total > MAX_ATTACHED {
            return Err(Error::new(Class::Tool, format!("attachments: larger than {MAX_ATTACHED} bytes together")));
        }
        let name = attached.filename.or(name).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| usage("attachments.filename: missing".into()))?;
        let kind = attached.content_type.unwrap_or_else(|| media_type(&name).to_owned());
        files.push(File { name, kind, bytes });
    }
    Ok(Mail {
        from: mailbox(&from, "from")?,
        to,
        cc: people(&params.cc, "cc")?,
        bcc: people(&params.bcc, "bcc")?,
        reply_to: params.reply_to.as_deref().map(|text| mailbox(text, "reply_to")).transpose()?,
        subject: params.subject,
        body: params.body,
        html: params.html,
        text: params.text_body,
        files,
    })
}

/// By the ending; what is not known is bytes.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).as_deref() {
        Some("txt" | "log" | "md") => "text/plain",
        Some("html" | "htm") => "text/html",
        Some("csv") => "text/csv",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("zip") => "application/zip",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("svg") => "image/svg+xml",
        Some("mp3") => "audio/mpeg",
        Some("mp4") => "video/mp4",
        Some("xlsx") => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        Some("docx") => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        _ => "application/octet-stream",
    }
}

fn message(mail: &Mail) -> Result<Message> {
    let mut builder: MessageBuilder =
        Message::builder().from(mail.from.clone()).subject(mail.subject.clone()).message_id(None);
    for to in &mail.to {
        builder = builder.to(to.clone());
    }
    for cc in &mail.cc {
        builder = builder.cc(cc.clone());
    }
    // The envelope has them, the message has not.
    for bcc in &mail.bcc {
        builder = builder.bcc(bcc.clone());
    }
    if let Some(reply_to) = &mail.reply_to {
        builder = builder.reply_to(reply_to.clone());
    }
    let wrong = |e: lettre::error::Error| usage(format!("message: {e}"));
    let alone = || if mail.html { SinglePart::html(mail.body.clone()) } else { SinglePart::plain(mail.body.clone()) };
    let both = mail
        .text
        .as_ref()
        .filter(|_| mail.html)
        .map(|text| MultiPart::alternative_plain_html(text.clone(), mail.body.clone()));
    if mail.files.is_empty() {
        return match both {
            Some(both) => builder.multipart(both).map_err(wrong),
            None => builder.singlepart(alone()).map_err(wrong),
        };
    }
    let mixed = MultiPart::mixed();
    let mut mixed = match both {
        Some(both) => mixed.multipart(both),
        None => mixed.singlepart(alone()),
    };
    for file in &mail.files {
        let kind = ContentType::parse(&file.kind)
            .map_err(|_| usage(format!("attachments.content_type: {:?} is not a media type", file.kind)))?;
        mixed = mixed.singlepart(Attachment::new(file.name.clone()).body(file.bytes.clone(), kind));
    }
    builder.multipart(mixed).map_err(wrong)
}

/// `{email, name?}` as the services take it.
fn person(mailbox: &Mailbox) -> Value {
    match &mailbox.name {
        Some(name) => json!({"email": mailbox.email.to_string(), "name": name}),
        None => json!({"email": address(&mailbox.email)}),
    }
}

fn address(address: &Address) -> String {
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    #[test]
    fn messages_hold_what_they_should_and_no_hidden_copy() {
        let (dir, call) = folder();
        std::fs::write(dir.path().join("a.bin"), [0, 255, 1]).unwrap();
        let params = json!({
            "operation": "preview", "from": "Ä <a@example.com>", "to": "b@example.com", "bcc": "secret@example.com",
            "reply_to": "r@example.com", "subject": "s", "body": "<p>x</p>", "html": true, "text_body": "x",
            "attachments": [{"path": "a.bin"}],
        });
        let got = run("email_sender", params, &call).unwrap();
        let text = got["result"]["message"].as_str().unwrap();
        for part in [
            "Reply-To: r@example.com",
            "multipart/alternative",
            "text/html",
            "filename=\"a.bin\"",
            "AP8B",
            "Message-ID: <",
        ] {
            assert!(text.contains(part), "{part} {text}");
        }
        assert!(!text.contains("secret@"), "{text}");
    }

    #[test]
    fn wrong_calls_are_refused() {
        let with = |more: Value| {
            let mut all = json!({"from": "a@example.com", "to": "b@example.com", "subject": "s", "body": "b", "operation": "preview"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        bad(
            "email_sender",
            &[
                (json!({}), Class::Usage),
                (with(json!({"to": []})), Class::Usage),
                (with(json!({"to": "nonsense"})), Class::Usage),
                (with(json!({"to": "a@b.c\r\nBcc: d@e.f"})), Class::Usage),
                (with(json!({"from": "x"})), Class::Usage),
                (with(json!({"from": ""})), Class::Usage),
                (with(json!({"attachments": [{}]})), Class::Usage),
                (with(json!({"attachments": [{"content": "!", "filename": "a"}]})), Class::Usage),
                (with(json!({"attachments": [{"content": "YQ=="}]})), Class::Usage),
                (
                    with(json!({"attachments": [{"content": "YQ==", "filename": "a", "content_type": "nonsense"}]})),
                    Class::Usage,
                ),
                (with(json!({"attachments": [{"path": "/etc/passwd"}]})), Class::Denied),
                (with(json!({"attachments": [{"path": "missing"}]})), Class::NotFound),
                (with(json!({"operation": "send"})), Class::Config),
                (with(json!({"operation": "send", "provider": "ses"})), Class::Config),
                (with(json!({"operation": "send", "provider": "sendgrid"})), Class::Config),
            ],
        );
    }
}
