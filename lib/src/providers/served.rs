//! A model of a service: a question with its repetitions, limits and cost.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::facade::Shared;
use super::mock::pause;
use super::services::Service;
use super::sse::{Event, Parser};
use super::transport::{self, Failure, Question, Take, broken};
use super::{Delta, Deltas, Model, Reader, Reply, Request, complaint, failed, price, structured};
use crate::error::{Class, Error, Result};
use crate::tools::{Call, Cancel};

/// The model.
pub(super) struct Served {
    /// `provider/model`
    pub(super) name: String,
    pub(super) model: String,
    pub(super) service: Service,
    pub(super) shared: Arc<Shared>,
}

impl Model for Served {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, request: &Request, cancel: &Cancel, deltas: &mut Deltas<'_>) -> Result<Reply> {
        let mut request = Request { model: self.model.clone(), ..request.clone() };
        request.max_tokens = request.max_tokens.or(self.service.section.max_tokens);
        let call = self.shared.call(&self.service, cancel)?;
        let Some(schema) = request.schema.clone() else { return self.once(&request, &call, deltas) };
        if self.service.quirks.json_object {
            request = structured::instruct(&request, &schema);
        }
        let mut reply = self.once(&request, &call, deltas)?;
        // One that wants tools has not answered yet.
        if reply.calls().next().is_some() {
            return Ok(reply);
        }
        let Err(wrong) = structured::check(&mut reply, &schema) else { return Ok(reply) };
        let (usage, cost) = (reply.usage, reply.cost);
        let mut reply = self.once(&structured::again(&request, &reply, &wrong), &call, deltas)?;
        reply.usage += usage;
        reply.cost = reply.cost.zip(cost).map(|(one, other)| one + other);
        match structured::check(&mut reply, &schema) {
            Ok(()) => Ok(reply),
            Err(wrong) => {
                Err(Error::new(Class::Remote, format!("{}: the answer does not fit the schema: {wrong}", self.name))
                    .hint("It was asked twice. A larger model or a simpler schema may help."))
            }
        }
    }
}

impl Served {
    /// One question, repeated while that may help.
    fn once(&self, request: &Request, call: &Call, deltas: &mut Deltas<'_>) -> Result<Reply> {
        let mut request = request.clone();
        let price = price::of(&self.service, &self.model, &self.shared.config);
        self.shared.budget.check(&self.name, &mut request, price)?;
        let pace = self.shared.pace(&self.service);
        let section = &self.service.section;
        let retries = section.retries.unwrap_or(self.shared.config.models.retries);
        let mut attempt = 0;
        loop {
            while let Some(wait) = pace.turn(Instant::now()) {
                self.rest(wait, call)?;
            }
            let mut heard = false;
            let mut listen = |delta: Delta| {
                heard = true;
                deltas(delta);
            };
            match self.attempt(&request, call, &mut listen) {
                Ok(mut reply) => {
                    if reply.model.is_empty() {
                        reply.model.clone_from(&self.model);
                    }
                    reply.model = format!("{}/{}", self.service.name, reply.model);
                    pace.took(&reply.usage);
                    price::tell(&mut reply, price);
                    self.shared.budget.add(reply.usage, reply.cost);
                    return Ok(reply);
                }
                Err(failure) => {
                    if failure.key {
                        self.shared.forget_key(&self.service);
                    }
                    call.check()?;
                    // What the script has heard cannot be said again.
                    if heard || !failure.again || attempt == retries {
                        let tries = if attempt > 0 { format!(" ({} tries)", attempt + 1) } else { String::new() };
                        let error = &failure.error;
                        let told = Error::new(error.class(), format!("{}{tries}", error.text()));
                        return Err(error.next_step().into_iter().fold(told, Error::hint));
                    }
                    let wait = failure.after.unwrap_or_else(|| back_off(attempt));
                    log::info!("{}: asked again in {wait:?}: {}", self.name, failure.error);
                    self.rest(wait, call)?;
                    attempt += 1;
                }
            }
        }
    }

    fn rest(&self, wait: Duration, call: &Call) -> Result<()> {
        let left = call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        pause(left.map_or(wait, |left| left.min(wait)), &call.cancel)?;
        call.check().map_err(|error| error.within(&self.name))
    }

    fn attempt(&self, request: &Request, call: &Call, deltas: &mut Deltas<'_>) -> Result<Reply, Failure> {
        let dialect = self.service.dialect()?;
        let stream = !self.service.section.whole;
        let key = self.shared.key(&self.service)?;
        let body = dialect.body(request, &self.service, stream);
        let mut headers = dialect.headers(key.as_deref(), &self.service);
        headers.push(("content-type", "application/json".into()));
        headers.push((
            "accept",
            if stream { "text/event-stream, application/x-ndjson, application/json" } else { "application/json" }
                .into(),
        ));
        let question = Question {
            name: &self.service.name,
            url: self.service.url(&dialect.path(request, stream))?,
            headers: self.shared.headers(&self.service, headers),
            body: &body,
            key: key.as_deref(),
            waits: self.shared.waits(&self.service),
        };
        let mut taking = Taking::new(&self.service, stream, deltas)?;
        transport::ask(&question, &self.shared.cassette, call, &mut taking)?;
        Ok(taking.reader.reply())
    }
}

/// Half a second, doubled each time up to eight, less up to a quarter, so that many do not come back at once.
pub(super) fn back_off(attempt: u32) -> Duration {
    let most = Duration::from_millis(500 << attempt.min(4));
    let noise = u32::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().unwrap_or_default());
    most - most.mul_f64(f64::from(noise) / f64::from(u32::MAX) / 4.0)
}

/// An answer on its way to a reader.
pub(super) struct Taking<'a, 'd> {
    pub(super) reader: Box<dyn Reader>,
    /// None: it comes whole.
    parser: Option<Parser>,
    whole: Vec<u8>,
    events: Vec<Event>,
    finished: bool,
    deltas: &'a mut Deltas<'d>,
}

impl<'a, 'd> Taking<'a, 'd> {
    pub(super) fn new(service: &Service, stream: bool, deltas: &'a mut Deltas<'d>) -> Result<Self> {
        let dialect = service.dialect()?;
        Ok(Taking {
            reader: dialect.reader(service),
            parser: stream.then(|| if dialect.is_lines() { Parser::of_lines() } else { Parser::default() }),
            whole: Vec::new(),
            events: Vec::new(),
            finished: false,
            deltas,
        })
    }

    fn events(&mut self) -> Result<bool> {
        for event in std::mem::take(&mut self.events) {
            let data = event.data.trim();
            if data == "[DONE]" {
                self.finished = true;
                return Ok(false);
            }
            if data.is_empty() {
                continue;
            }
            let value: Value = serde_json::from_str(data)
                .map_err(|error| failed(format!("sent what is not JSON: {error}: {:?}", short(data))))?;
            if self.reader.event(&event.kind, &value, self.deltas)? {
                self.finished = true;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn short(text: &str) -> String {
    crate::log::redact(text).chars().take(100).collect()
}

impl Take for Taking<'_, '_> {
    fn begin(&mut self, media_type: &str) {
        // Asked for a stream, some servers answer whole; one that names no type is believed.
        if media_type == "application/json" && self.parser.as_ref().is_some_and(|parser| !parser.is_lines()) {
            self.parser = None;
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<bool> {
        match &mut self.parser {
            Some(parser) => {
                if !parser.feed(bytes, &mut self.events) {
                    return Err(failed("sent a line that is too long"));
                }
                self.events()
            }
            None => {
                self.whole.extend_from_slice(bytes);
                Ok(true)
            }
        }
    }

    fn end(&mut self, cut: Option<&io::Error>) -> Result<()> {
        let Some(parser) = &mut self.parser else {
            if cut.is_some() {
                return Err(broken(cut));
            }
            let value: Value = serde_json::from_slice(&self.whole).map_err(|error| {
                failed(format!("sent what is not JSON: {error}: {:?}", short(&String::from_utf8_lossy(&self.whole))))
            })?;
            // An error may come with the status of success.
            if let (Value::Object(_) | Value::String(_), Some(text)) = (&value["error"], complaint(&value)) {
                return Err(failed(text));
            }
            return self.reader.whole(&value, self.deltas);
        };
        if cut.is_none() {
            parser.end(&mut self.events);
            self.events()?;
        }
        if self.finished || self.reader.is_complete() { Ok(()) } else { Err(broken(cut)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_differ() {
        for attempt in 0..30 {
            let most = Duration::from_millis(500 << attempt.min(4));
            let wait = back_off(attempt);
            assert!(wait <= most && wait >= most.mul_f64(0.74), "{attempt}: {wait:?}");
        }
        assert_ne!(back_off(4), back_off(4));
    }
}
