//! The server on a free loopback port against which the examples of network tools run: it tells what it was asked.
//! `/status/N` answers with the status N, `/redirect/N` leads through N redirects to `/`, `/graphql` puts what it was sent below
//! `data`, `/serve?type=T&body=B` answers with B.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Largest request body it reads.
const MAX_BODY: u64 = 1 << 20;

/// Serves until dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        let fault = |e| Error::system("loopback server", e);
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                // A client that breaks off is its own affair.
                drop(answer(stream));
            }
        });
        Ok(Server { address, over, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes it from `accept`.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new((&stream).take(2 * MAX_BODY));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or("/").to_owned());
    let mut headers = Map::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), Value::from(value.trim()));
    }
    let length = headers.get("content-length").and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.take(MAX_BODY.min(length)).read_to_end(&mut body)?;
    let told =
        json!({"method": method, "path": path, "headers": headers, "body": String::from_utf8_lossy(&body)}).to_string();
    let asked = path.strip_prefix("/serve?").map(|query| url::form_urlencoded::parse(query.as_bytes()).into_owned());
    let asked: std::collections::HashMap<_, _> = asked.into_iter().flatten().collect();
    let kind = asked.get("type").map_or("application/json", String::as_str);
    let told = match asked.get("body") {
        Some(body) => body.clone(),
        None if path == "/graphql" => {
            let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
            json!({ "data": sent }).to_string()
        }
        None => told,
    };
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|number| number.parse::<u16>().ok());
    let (status, location) = match (number("/status/"), number("/redirect/")) {
        (Some(status), _) => (status, String::new()),
        (_, Some(0 | 1)) => (302, "Location: /\r\n".to_owned()),
        (_, Some(left)) => (302, format!("Location: /redirect/{}\r\n", left - 1)),
        _ => (200, String::new()),
    };
    let length = told.len();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\n{location}Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if method != "HEAD" {
        stream.write_all(told.as_bytes())?;
    }
    stream.flush()
}
