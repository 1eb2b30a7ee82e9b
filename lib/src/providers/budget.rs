//! Limits before a call: what may be spent in a run and in a day, and how often a service may be asked in a minute.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::price::Price;
use super::{Part, Request, Usage};
use crate::config::{Models, Provider};
use crate::error::{Class, Error, Result};
use crate::home::{self, Home};

/// What was used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Answers.
    pub calls: u64,
    /// Tokens read and written.
    pub usage: Usage,
    /// US dollars, of those answers whose price is known.
    pub cost: f64,
}

/// The purse of one run or one kernel.
pub(super) struct Budget {
    max_cost: f64,
    max_tokens: u64,
    day: Option<Day>,
    spent: Mutex<Spent>,
}

/// What all that use a home folder spent today, in a file.
struct Day {
    max: f64,
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
struct Today {
    day: String,
    cost: f64,
}

fn over(what: String, hint: &str) -> Error {
    Error::new(Class::Budget, what).hint(hint)
}

impl Budget {
    pub(super) fn new(models: &Models, home: Option<&Home>) -> Self {
        let day = home.filter(|_| models.max_cost_per_day > 0.0);
        let day = day.map(|home| Day { max: models.max_cost_per_day, path: home.root().join("spent.json") });
        Budget { max_cost: models.max_cost, max_tokens: models.max_tokens_per_run, day, spent: Mutex::default() }
    }

    /// What was used so far.
    pub(super) fn spent(&self) -> Spent {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `request` to a model of `price` may be made; shortens its answer to what may still be spent.
    pub(super) fn check(&self, name: &str, request: &mut Request, price: Option<Price>) -> Result<()> {
        let spent = self.spent();
        let input = size(request);
        if self.max_tokens > 0 {
            let used = spent.usage.input_tokens + spent.usage.output_tokens;
            let left = self.max_tokens.saturating_sub(used.saturating_add(input));
            if left == 0 {
                let text = format!("models.max_tokens_per_run: {used} of {} tokens are used", self.max_tokens);
                return Err(over(text, "Raise it, or ask for less."));
            }
            shorten(request, left);
        }
        let day = self.day.as_ref().map(|day| Ok::<_, Error>((day.max, day.read()?, "models.max_cost_per_day")));
        let run = (self.max_cost > 0.0).then_some((self.max_cost, spent.cost, "models.max_cost"));
        for (max, spent, key) in run.into_iter().chain(day.transpose()?) {
            let Some(price) = price else {
                let hint = format!("Tell it: models.prices.\"{name}\" = [dollars for a million tokens read, written].");
                return Err(over(format!("{key}: the price of {name} is not known"), &hint));
            };
            if price.input == 0.0 && price.output == 0.0 {
                continue;
            }
            let left = max - spent - input as f64 * price.input / 1e6;
            let tokens =
                if price.output > 0.0 { (left * 1e6 / price.output).max(0.0) as u64 } else { u64::from(left > 0.0) };
            if tokens == 0 {
                let text = format!("{key}: {spent:.4} of {max} US dollars are spent, and {name} would cost more");
                return Err(over(text, "Raise it with --max-cost or in the configuration, or ask for less."));
            }
            if price.output > 0.0 {
                shorten(request, tokens);
            }
        }
        Ok(())
    }

    /// Adds an answer.
    pub(super) fn add(&self, usage: Usage, cost: Option<f64>) {
        {
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.calls += 1;
            spent.usage += usage;
            spent.cost += cost.unwrap_or(0.0);
        }
        if let (Some(day), Some(cost)) = (&self.day, cost)
            && let Err(error) = day.add(cost)
        {
            log::error!("{}: {error}", day.path.display());
        }
    }
}

/// Tokens of a request, rather too many than too few: three bytes are one.
fn size(request: &Request) -> u64 {
    let part = |part: &Part| match part {
        Part::Text { text } | Part::Reasoning { text, .. } => text.len(),
        Part::ToolCall { name, arguments, .. } => name.len() + arguments.to_string().len(),
        Part::ToolResult { content, .. } => content.len(),
        Part::Image { .. } => 3000,
        Part::File { data, .. } => data.len(),
    };
    let said: usize = request.messages.iter().flat_map(|message| &message.parts).map(part).sum();
    let tools: usize =
        request.tools.iter().map(|tool| tool.description.len() + tool.parameters.to_string().len()).sum();
    ((said + tools) / 3 + 4 * request.messages.len()) as u64
}

/// Only where the limit is near: a model that answers at length has its own.
fn shorten(request: &mut Request, most: u64) {
    const AMPLE: u64 = 128_000;
    if most < request.max_tokens.unwrap_or(AMPLE) {
        request.max_tokens = Some(most);
    }
}

impl Day {
    fn open(&self) -> Result<File> {
        let fault = |error| Error::io(&self.path, error);
        if let Some(dir) = self.path.parent() {
            home::private_dir(dir)?;
        }
        let options =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path);
        let file = options.map_err(fault)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| fault(error.into()))?;
        Ok(file)
    }

    fn today(file: &mut File) -> Today {
        let mut text = String::new();
        let read = file.read_to_string(&mut text);
        let day = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string();
        let known: Today = read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default();
        if known.day == day { known } else { Today { day, cost: 0.0 } }
    }

    fn read(&self) -> Result<f64> {
        Ok(Self::today(&mut self.open()?).cost)
    }

    fn add(&self, cost: f64) -> Result<()> {
        let fault = |error| Error::io(&self.path, error);
        let mut file = self.open()?;
        let mut today = Self::today(&mut file);
        today.cost += cost;
        let text = serde_json::to_vec(&today).map_err(|error| Error::new(Class::Bug, error.to_string()))?;
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&text)).map_err(fault)?;
        file.set_len(text.len() as u64).map_err(fault)
    }
}

/// How often one service may be asked.
pub(super) struct Pace {
    requests: u32,
    tokens: u64,
    /// When it was asked in the last minute, and the tokens each took.
    past: Mutex<VecDeque<(Instant, u64)>>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Pace {
    pub(super) fn new(section: &Provider) -> Self {
        Pace { requests: section.requests_per_minute, tokens: section.tokens_per_minute, past: Mutex::default() }
    }

    /// Takes a place in the queue: how long to wait before the next look, or nothing when it is one's turn.
    pub(super) fn turn(&self, now: Instant) -> Option<Duration> {
        if self.requests == 0 && self.tokens == 0 {
            return None;
        }
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        while past.front().is_some_and(|(at, _)| now.duration_since(*at) >= MINUTE) {
            past.pop_front();
        }
        let full = self.requests > 0 && past.len() >= self.requests as usize
            || self.tokens > 0 && past.iter().map(|(_, tokens)| tokens).sum::<u64>() >= self.tokens;
        match past.front() {
            Some((at, _)) if full => Some(MINUTE.saturating_sub(now.duration_since(*at))),
            _ => {
                past.push_back((now, 0));
                None
            }
        }
    }

    /// Tells what the last answer took.
    pub(super) fn took(&self, usage: &Usage) {
        if self.tokens > 0 {
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, tokens)) = past.iter_mut().rev().find(|(_, tokens)| *tokens == 0) {
                *tokens = usage.input_tokens + usage.output_tokens;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::services::Service;
    use super::super::{Message, Role, price};
    use super::*;
    use crate::config::Config;

    fn request(text: &str) -> Request {
        Request { messages: vec![Message::text(Role::User, text)], ..Request::default() }
    }

    #[test]
    fn nothing_is_asked_beyond_the_purse() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h"));
        let mut config = Config::default();
        config.models.max_cost = 1.0;
        config.models.prices = [("openai/m".into(), vec![1.0, 10.0])].into();
        let service = Service::of("openai", &config).unwrap();
        let price = price::of(&service, "m", &config);
        let budget = Budget::new(&config.models, Some(&home));
        let mut short = request("hi");
        budget.check("openai/m", &mut short, price).unwrap();
        // A dollar buys a hundred thousand tokens.
        assert_eq!(short.max_tokens, Some(99_999));
        assert_eq!(budget.check("openai/m", &mut request("hi"), None).unwrap_err().class(), Class::Budget);
        budget.add(Usage { output_tokens: 99_999, ..Usage::default() }, Some(0.99999));
        let mut rest = request("hi");
        budget.check("openai/m", &mut rest, price).unwrap_err();
        assert_eq!(budget.spent().calls, 1);

        config.models.max_cost = 0.0;
        config.models.max_cost_per_day = 0.5;
        let (one, two) = (Budget::new(&config.models, Some(&home)), Budget::new(&config.models, Some(&home)));
        one.check("openai/m", &mut request("hi"), price).unwrap();
        one.add(Usage::default(), Some(0.5));
        let error = two.check("openai/m", &mut request("hi"), price).unwrap_err();
        assert!(error.text().starts_with("models.max_cost_per_day: 0.5000 of 0.5"), "{error}");
        fs::write(home.root().join("spent.json"), "{\"day\":\"2020-01-01\",\"cost\":9}").unwrap();
        two.check("openai/m", &mut request("hi"), price).unwrap();
        fs::write(home.root().join("spent.json"), "garbage").unwrap();
        two.check("openai/m", &mut request("hi"), price).unwrap();

        config.models.max_cost_per_day = 0.0;
        config.models.max_tokens_per_run = 100;
        let budget = Budget::new(&config.models, None);
        budget.check("x/m", &mut request("hi"), None).unwrap();
        budget.add(Usage { input_tokens: 60, output_tokens: 40, ..Usage::default() }, None);
        assert_eq!(budget.check("x/m", &mut request("hi"), None).unwrap_err().class(), Class::Budget);
    }

    #[test]
    fn a_minute_has_so_many_requests_and_tokens() {
        let section = Provider { requests_per_minute: 2, tokens_per_minute: 100, ..Provider::default() };
        let pace = Pace::new(&section);
        let now = Instant::now();
        assert_eq!((pace.turn(now), pace.turn(now)), (None, None));
        assert_eq!(pace.turn(now + Duration::from_secs(10)), Some(Duration::from_secs(50)));
        assert_eq!(pace.turn(now + MINUTE), None);
        pace.took(&Usage { input_tokens: 100, ..Usage::default() });
        assert!(pace.turn(now + MINUTE).is_some());
        assert_eq!(Pace::new(&Provider::default()).turn(now), None);
    }
}
