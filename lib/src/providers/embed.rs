//! Texts as vectors, and texts in the order in which they answer a question.

use std::io;

use serde::Serialize;
use serde_json::{Value, json};

use super::facade::Shared;
use super::mock::pause;
use super::services::{Kind, Service};
use super::transport::{self, Question, Take, broken};
use super::{Dialect, Providers, Reply, Usage, complaint, count, failed, price};
use crate::error::{Class, Error, Result};
use crate::tools::{Call, Cancel};

/// Vectors of texts, in their order.
#[derive(Clone, Debug, Serialize)]
pub struct Embeddings {
    /// `provider/model`
    pub model: String,
    /// One a text, of length 1.
    pub vectors: Vec<Vec<f32>>,
    /// What it took.
    pub usage: Usage,
    /// US dollars, where the price is known.
    pub cost: Option<f64>,
}

/// Whether texts are asked about or asked for; models with two ways to embed tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// They are found.
    Document,
    /// They find.
    Query,
}

/// A text and how well it answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// Its place among those given, from 0.
    pub index: usize,
    /// Higher is better; comparable within one answer only.
    pub score: f64,
}

/// Texts, the best one first.
#[derive(Clone, Debug, Serialize)]
pub struct Reranked {
    /// `provider/model`
    pub model: String,
    /// The best.
    pub results: Vec<Ranked>,
}

/// How many texts a request may have.
fn most(service: &Service) -> usize {
    match (service.kind, service.row.name) {
        (Kind::Cohere, _) => 96,
        (Kind::Gemini, _) => 100,
        (_, "mistral") => 256,
        (Kind::Vectors, _) => 1000,
        _ => 2048,
    }
}

impl Providers {
    /// Vectors of `texts` by the model `name`, `provider/model`; of `dimensions` numbers where the model can choose.
    ///
    /// # Errors
    /// As [`super::Model::ask`]; `Usage` for a provider that does not embed.
    pub fn embed(
        &self,
        name: &str,
        texts: &[String],
        purpose: Purpose,
        dimensions: Option<u32>,
        cancel: &Cancel,
    ) -> Result<Embeddings> {
        let (service, model) = self.served(name)?;
        let mut all = Embeddings {
            model: format!("{}/{model}", service.name),
            vectors: Vec::with_capacity(texts.len()),
            usage: Usage::default(),
            cost: None,
        };
        let shared = self.shared();
        let price = price::of(&service, &model, &shared.config);
        for texts in texts.chunks(most(&service)) {
            let (path, body) = embedding(&service, &model, texts, purpose, dimensions)?;
            let mut size = super::Request {
                messages: vec![super::Message::text(super::Role::User, texts.concat())],
                ..super::Request::default()
            };
            shared.budget.check(&all.model, &mut size, price)?;
            let answer = post(shared, &service, &path, &body, cancel)?;
            let vectors = vectors(&answer);
            if vectors.len() != texts.len() {
                let text = format!("provider {}: {} vectors for {} texts", service.name, vectors.len(), texts.len());
                return Err(Error::new(Class::Remote, text));
            }
            all.vectors.extend(vectors);
            let places = [
                "/usage/prompt_tokens",
                "/usage/total_tokens",
                "/prompt_eval_count",
                "/meta/billed_units/input_tokens",
                "/usageMetadata/promptTokenCount",
            ];
            let usage = Usage { input_tokens: count(&answer, &places), ..Usage::default() };
            let mut reply = Reply { usage, ..Reply::default() };
            price::tell(&mut reply, price);
            shared.budget.add(usage, reply.cost);
            all.usage += usage;
            all.cost = reply.cost.map(|cost| cost + all.cost.unwrap_or(0.0));
        }
        if all.vectors.windows(2).any(|two| two[0].len() != two[1].len()) {
            return Err(Error::new(Class::Remote, format!("provider {}: vectors of different lengths", service.name)));
        }
        Ok(all)
    }

    /// `documents` in the order in which they answer `query`, the best `top` of them.
    ///
    /// # Errors
    /// As [`super::Model::ask`]; `Usage` for a provider that does not rank.
    pub fn rerank(
        &self,
        name: &str,
        query: &str,
        documents: &[String],
        top: Option<usize>,
        cancel: &Cancel,
    ) -> Result<Reranked> {
        let (service, model) = self.served(name)?;
        let path = match service.kind {
            Kind::Cohere => "v2/rerank",
            Kind::Chat | Kind::Vectors => "rerank",
            _ => return Err(cannot(&service, "rank")),
        };
        let mut body = json!({ "model": model, "query": query, "documents": documents });
        if let Some(top) = top {
            body[if service.row.name == "voyage" { "top_k" } else { "top_n" }] = top.into();
        }
        let answer = post(self.shared(), &service, path, &body, cancel)?;
        let list = [&answer["results"], &answer["data"], &answer].into_iter().find_map(Value::as_array);
        let ranked = |one: &Value| {
            let score = one["relevance_score"].as_f64().or_else(|| one["score"].as_f64())?;
            let index = usize::try_from(one["index"].as_u64()?).ok().filter(|index| *index < documents.len())?;
            Some(Ranked { index, score })
        };
        let results: Option<Vec<_>> = list.and_then(|list| list.iter().map(ranked).collect());
        let mut results =
            results.ok_or_else(|| failed(format!("provider {}: the answer has no ranks", service.name)))?;
        results.sort_by(|one, other| other.score.total_cmp(&one.score));
        results.truncate(top.unwrap_or(usize::MAX));
        Ok(Reranked { model: format!("{}/{model}", service.name), results })
    }

    fn served(&self, name: &str) -> Result<(Service, String)> {
        let (provider, model) = self.split(name)?;
        Ok((Service::of(&provider, &self.shared().config)?, model))
    }
}

fn cannot(service: &Service, what: &str) -> Error {
    Error::new(Class::Usage, format!("provider {}: does not {what} texts", service.name))
}

fn embedding(
    service: &Service,
    model: &str,
    texts: &[String],
    purpose: Purpose,
    dimensions: Option<u32>,
) -> Result<(String, Value)> {
    let query = purpose == Purpose::Query;
    let mut body = json!({ "model": model });
    let (path, size) = match service.kind {
        Kind::Gemini => {
            let name = format!("models/{}", model.strip_prefix("models/").unwrap_or(model));
            let task = if query { "RETRIEVAL_QUERY" } else { "RETRIEVAL_DOCUMENT" };
            let one = |text: &String| {
                let mut one = json!({ "model": name, "content": { "parts": [{ "text": text }] }, "taskType": task });
                if let Some(dimensions) = dimensions {
                    one["outputDimensionality"] = dimensions.into();
                }
                one
            };
            let all: Vec<Value> = texts.iter().map(one).collect();
            let safe: String = url::form_urlencoded::byte_serialize(&name.as_bytes()["models/".len()..]).collect();
            return Ok((format!("models/{safe}:batchEmbedContents"), json!({ "requests": all })));
        }
        Kind::Cohere => {
            body["texts"] = json!(texts);
            body["input_type"] = if query { "search_query" } else { "search_document" }.into();
            body["embedding_types"] = json!(["float"]);
            ("v2/embed", "output_dimension")
        }
        Kind::Ollama => {
            body["input"] = json!(texts);
            // What is too long would be cut without a word.
            body["truncate"] = false.into();
            ("api/embed", "dimensions")
        }
        Kind::Vectors if service.row.name == "voyage" => {
            body["input"] = json!(texts);
            body["input_type"] = if query { "query" } else { "document" }.into();
            ("embeddings", "output_dimension")
        }
        Kind::Vectors => {
            body["input"] = json!(texts);
            body["task"] = if query { "retrieval.query" } else { "retrieval.passage" }.into();
            ("embeddings", "dimensions")
        }
        Kind::Chat | Kind::Responses => {
            body["input"] = json!(texts);
            body["encoding_format"] = "float".into();
            ("embeddings", "dimensions")
        }
        Kind::Anthropic | Kind::Mock => return Err(cannot(service, "embed")),
    };
    if let Some(dimensions) = dimensions {
        body[size] = dimensions.into();
    }
    Ok((path.into(), body))
}

/// The vectors of an answer in whichever shape, in the order of the texts, of length 1.
fn vectors(answer: &Value) -> Vec<Vec<f32>> {
    let list = |value: &Value| value.as_array().cloned();
    let found: Vec<Value> = if let Some(mut data) = list(&answer["data"]) {
        data.sort_by_key(|one| one["index"].as_u64());
        data.iter().map(|one| one["embedding"].clone()).collect()
    } else if let Some(all) = list(&answer["embeddings"]["float"]) {
        all
    } else {
        let all = list(&answer["embeddings"]).unwrap_or_default();
        all.into_iter().map(|one| if one["values"].is_array() { one["values"].clone() } else { one }).collect()
    };
    found.iter().map_while(vector).collect()
}

fn vector(value: &Value) -> Option<Vec<f32>> {
    let numbers: Vec<f32> = match value {
        Value::Array(numbers) => numbers.iter().map(|one| one.as_f64().map(|one| one as f32)).collect::<Option<_>>()?,
        // Some servers send base64 whatever they are asked for.
        Value::String(text) => {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
        }
        _ => return None,
    };
    let length = numbers.iter().map(|one| f64::from(*one).powi(2)).sum::<f64>().sqrt();
    if numbers.is_empty() || !length.is_finite() {
        return None;
    }
    let scale = if length > 0.0 { (1.0 / length) as f32 } else { 1.0 };
    Some(numbers.into_iter().map(|one| one * scale).collect())
}

/// Collects an answer.
#[derive(Default)]
struct Whole(Vec<u8>);

impl Take for Whole {
    fn begin(&mut self, _: &str) {}

    fn bytes(&mut self, bytes: &[u8]) -> Result<bool> {
        self.0.extend_from_slice(bytes);
        Ok(true)
    }

    fn end(&mut self, cut: Option<&io::Error>) -> Result<()> {
        if cut.is_some() { Err(broken(cut)) } else { Ok(()) }
    }
}

/// Asks, again where that may help, and reads the answer.
fn post(shared: &Shared, service: &Service, path: &str, body: &Value, cancel: &Cancel) -> Result<Value> {
    let call: Call = shared.call(service, cancel)?;
    let retries = service.section.retries.unwrap_or(shared.config.models.retries);
    let pace = shared.pace(service);
    let mut attempt = 0;
    loop {
        while let Some(wait) = pace.turn(std::time::Instant::now()) {
            pause(wait, cancel)?;
        }
        let key = shared.key(service)?;
        let mut headers = match service.dialect() {
            Ok(dialect) => dialect.headers(key.as_deref(), service),
            Err(_) => super::openai::Chat.headers(key.as_deref(), service),
        };
        headers.push(("content-type", "application/json".into()));
        headers.push(("accept", "application/json".into()));
        let question = Question {
            name: &service.name,
            url: service.url(path)?,
            headers: shared.headers(service, headers),
            body,
            key: key.as_deref(),
            waits: shared.waits(service),
        };
        let mut whole = Whole::default();
        match transport::ask(&question, &shared.cassette, &call, &mut whole) {
            Ok(()) => {
                let wrong = |what: String| failed(format!("provider {}: {what}", service.name));
                let answer: Value = serde_json::from_slice(&whole.0)
                    .map_err(|error| wrong(format!("sent what is not JSON: {error}")))?;
                return match (&answer["error"], complaint(&answer)) {
                    (Value::Object(_) | Value::String(_), Some(text)) => Err(wrong(text)),
                    _ => Ok(answer),
                };
            }
            Err(failure) => {
                if failure.key {
                    shared.forget_key(service);
                }
                call.check()?;
                if !failure.again || attempt == retries {
                    return Err(failure.error);
                }
                pause(failure.after.unwrap_or_else(|| super::served::back_off(attempt)), cancel)?;
                attempt += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_many_shapes_and_leave_in_one() {
        let flat = |answer: Value| vectors(&answer);
        let expected = vec![vec![0.6, 0.8], vec![1.0, 0.0]];
        for answer in [
            json!({"data": [{"index": 1, "embedding": [2, 0]}, {"index": 0, "embedding": [3, 4]}]}),
            json!({"data": [{"index": 0, "embedding": "AABAQAAAgEA="}, {"index": 1, "embedding": [1, 0]}]}),
            json!({"embeddings": [[3, 4], [1.0, 0]]}),
            json!({"embeddings": {"float": [[3, 4], [1, 0]]}}),
            json!({"embeddings": [{"values": [3, 4]}, {"values": [1, 0]}]}),
        ] {
            assert_eq!(flat(answer.clone()), expected, "{answer}");
        }
        assert!(flat(json!({"data": [{"embedding": ["x"]}]})).is_empty());
    }
}
