//! What the tools that ask by HTTP share beside `http`: headers from parameters, the method, and answers as values.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::http::{Header, Request, Response};
use crate::error::{Class, Error, Result};

/// A request method.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub(super) enum Method {
    #[default]
    Get,
    Post,
    Put,
    Delete,
    Patch,
    Head,
    Options,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
        }
    }
}

/// `request` with the headers of a parameter: texts, numbers or booleans.
pub(super) fn with_headers(mut request: Request, headers: &Map<String, Value>) -> Result<Request> {
    for (name, value) in headers {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err(Error::new(Class::Usage, format!("headers.{name}: not a string"))),
        };
        request = request.header(Header::new(name, &text, false)?);
    }
    Ok(request)
}

/// `request` with `body`: a text as it is, anything else as JSON.
pub(super) fn with_body(request: Request, body: &Value) -> Result<Request> {
    match body {
        Value::Null => Ok(request),
        Value::String(text) => request.body(text.as_str(), "text/plain; charset=utf-8"),
        json => request.json(json),
    }
}

/// The headers of an answer; one that came several times is a list.
pub(super) fn headers(response: &Response) -> Map<String, Value> {
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in &response.headers {
        match headers.get_mut(name) {
            None => _ = headers.insert(name.clone(), value.as_str().into()),
            Some(Value::Array(values)) => values.push(value.as_str().into()),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    headers
}

/// A time limit in seconds, as parameters give it.
pub(super) fn seconds(limit: f64) -> Duration {
    Duration::try_from_secs_f64(limit).unwrap_or(Duration::from_secs(86_400))
}

/// What a status is called (RFC 9110, 15); empty for one without a name.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        418 => "I'm a teapot",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
