//! All models that can be asked, by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::{Budget, Pace, Spent};
use super::cassette::Cassette;
use super::mock::Mock;
use super::served::Served;
use super::services::{Kind, ROWS, Service, find, var};
use super::{Delta, Deltas, Model, Reply, Request, keys};
use crate::config::Config;
use crate::error::{Class, Error, Result};
use crate::home::Home;
use crate::security::{Grants, Policy, Profile};
use crate::tools::http::Waits;
use crate::tools::{Call, Cancel};

/// The models of a configuration. Nothing is connected, and no key is looked for, before one is asked.
pub struct Providers {
    policy: Arc<Policy>,
    shared: Arc<Shared>,
    /// What is wrong with the recordings; told when a model is asked for.
    fault: Option<String>,
}

/// What all models have in common.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) budget: Budget,
    pub(super) cassette: Cassette,
    home: Option<Home>,
    paces: Mutex<HashMap<String, Arc<Pace>>>,
    keys: Mutex<HashMap<String, Option<String>>>,
}

impl Shared {
    /// A call that reaches `service` and nothing else.
    pub(super) fn call(&self, service: &Service, cancel: &Cancel) -> Result<Call> {
        let url = service.url("")?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        let grants = Grants {
            profile: Profile::Safe,
            workdir: "/".into(),
            net: vec![format!("{host}:{port}")],
            net_deny: [&self.config.security.deny_net[..], &self.config.tools.http_request.blocked_hosts].concat(),
            ..Grants::default()
        };
        let mut call = Call::new(Arc::new(Policy::new(grants)));
        call.settings = Arc::new(self.config.tools.clone());
        call.cancel = cancel.clone();
        let total = self.config.models.total_timeout;
        Ok(if total.is_zero() { call } else { call.within(total) })
    }

    /// The key of `service`, looked for once.
    pub(super) fn key(&self, service: &Service) -> Result<Option<String>> {
        if self.cassette.plays() {
            return Ok(None);
        }
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(&service.name) {
            return Ok(key.clone());
        }
        let key = keys::find(service, self.home.as_ref())?;
        known.insert(service.name.clone(), key.clone());
        Ok(key)
    }

    /// The key was refused: it is looked for anew.
    pub(super) fn forget_key(&self, service: &Service) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&service.name);
    }

    pub(super) fn pace(&self, service: &Service) -> Arc<Pace> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(paces.entry(service.name.clone()).or_insert_with(|| Arc::new(Pace::new(&service.section))))
    }

    /// `headers` with ours and those of the section, which go before.
    pub(super) fn headers<'a>(
        &'a self,
        service: &'a Service,
        mut headers: Vec<(&'a str, String)>,
    ) -> Vec<(&'a str, String)> {
        headers.push(("user-agent", self.config.tools.http_request.user_agent.clone()));
        headers.push(("accept-encoding", "identity".into()));
        let own = &service.section.headers;
        headers.retain(|(name, _)| !own.keys().any(|known| known.eq_ignore_ascii_case(name)));
        headers.extend(own.iter().map(|(name, value)| (&name[..], value.clone())));
        headers
    }

    pub(super) fn waits(&self, service: &Service) -> Waits {
        let models = &self.config.models;
        Waits {
            connect: models.connect_timeout,
            response: service.section.timeout.unwrap_or(models.response_timeout),
            idle: models.idle_timeout,
        }
    }
}

/// A provider as scripts see it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// The service whose ways it has.
    pub kind: &'static str,
    /// The model that is asked when only the provider is named.
    pub model: Option<String>,
    /// Where it is.
    pub base_url: String,
    /// Whether it has a section, or its key is set.
    pub is_set_up: bool,
    /// Whether a key is there, or none is needed.
    pub has_key: bool,
}

impl Providers {
    /// Those `config` speaks of, and all that are known.
    #[must_use]
    pub fn new(config: &Config, policy: Arc<Policy>) -> Self {
        let home = Home::find().ok();
        let models = &config.models;
        let cassette = Cassette::new(models.record.as_deref(), models.replay.as_deref());
        let (cassette, fault) = match cassette {
            Ok(cassette) => (cassette, None),
            Err(error) => (Cassette::default(), Some(error.to_string())),
        };
        let shared = Shared {
            budget: Budget::new(models, home.as_ref()),
            cassette,
            home,
            config: config.clone(),
            paces: Mutex::default(),
            keys: Mutex::default(),
        };
        Providers { policy, shared: Arc::new(shared), fault }
    }

    /// The model called `name`: `provider/model`, a provider whose section names its model, the name of a well-known model,
    /// or `""` for the default. Behind it stand those of `models.fallback`. Each call makes a new one: scripts of `mock` begin anew.
    ///
    /// # Errors
    /// `NotFound` for what is no provider, `Config` without a default.
    pub fn model(&self, name: &str) -> Result<Arc<dyn Model>> {
        let first = self.one(name)?;
        let fallback = &self.shared.config.models.fallback;
        if fallback.is_empty() {
            return Ok(first);
        }
        let mut all = vec![first];
        for other in fallback.iter().filter(|other| *other != name) {
            let other = self.one(other).map_err(|error| error.within("models.fallback"))?;
            if all.iter().all(|known| known.name() != other.name()) {
                all.push(other);
            }
        }
        Ok(Arc::new(InTurn(all)))
    }

    fn one(&self, name: &str) -> Result<Arc<dyn Model>> {
        if let Some(fault) = &self.fault {
            return Err(Error::new(Class::Config, fault.clone()));
        }
        let name = name.trim();
        let default = self.shared.config.models.default.as_deref();
        let name = match name {
            "" => default.ok_or_else(|| self.no_default())?,
            name => name,
        };
        if let Some(rest) = name.strip_prefix("mock/") {
            return Ok(Arc::new(Mock::new(rest, &self.policy)?));
        }
        let (provider, model) = self.split(name)?;
        let service = Service::of(&provider, &self.shared.config)?;
        if service.kind == Kind::Mock {
            let Some(script) = &service.section.script else {
                return Err(Error::new(Class::Config, format!("providers.{provider}.script: not set"))
                    .hint("mock/echo repeats what it is told; a script is a file."));
            };
            return Ok(Arc::new(Mock::from_config(script)?));
        }
        let name = format!("{provider}/{model}");
        Ok(Arc::new(Served { name, model, service, shared: Arc::clone(&self.shared) }))
    }

    /// Provider and model.
    pub(super) fn split(&self, name: &str) -> Result<(String, String)> {
        let config = &self.shared.config;
        let is_provider = |name: &str| config.providers.contains_key(name) || find(name).is_some();
        if let Some((provider, model)) = name.split_once('/').filter(|(provider, _)| is_provider(provider)) {
            if model.is_empty() {
                return Err(Error::new(Class::Usage, format!("model {name}: no model behind the provider")));
            }
            return Ok((provider.to_owned(), model.to_owned()));
        }
        if is_provider(name) {
            let section = config.providers.get(name);
            let is_mock = find(name).is_some_and(|row| row.kind == Kind::Mock)
                || section.is_some_and(|section| section.r#type.as_deref() == Some("mock"));
            let model = section.and_then(|section| section.model.clone()).or_else(|| is_mock.then(String::new));
            return model.map(|model| (name.to_owned(), model)).ok_or_else(|| {
                Error::new(Class::Config, format!("provider {name}: no model named"))
                    .hint(format!("Write {name}/MODEL, or set model in [providers.{name}]."))
            });
        }
        if let Some((_, provider)) = FAMILIES.iter().find(|(begin, _)| name.starts_with(begin)) {
            return Ok(((*provider).to_owned(), name.to_owned()));
        }
        // A name of another model of the provider that is asked by default.
        let default = config.models.default.as_deref().and_then(|default| default.split_once('/'));
        match default {
            Some((provider, _)) if !name.contains('/') && is_provider(provider) => {
                Ok((provider.to_owned(), name.to_owned()))
            }
            _ => {
                let provider = name.split('/').next().unwrap_or(name);
                Err(Service::of(provider, config)
                    .err()
                    .unwrap_or_else(|| Error::new(Class::NotFound, format!("model {name}: not known"))))
            }
        }
    }

    /// Nobody said what to ask: what is there, and how to choose.
    fn no_default(&self) -> Error {
        let set_up: Vec<_> = self.list().into_iter().filter(|known| known.is_set_up && known.has_key).collect();
        let names: Vec<_> = set_up.iter().map(|known| known.name.as_str()).collect();
        let there = match &names[..] {
            [] => "no provider is set up".to_owned(),
            names => format!("set up: {}", names.join(", ")),
        };
        let like = names.first().copied().unwrap_or("ollama");
        Error::new(Class::Config, format!("no default model; {there}")).hint(format!(
            "Name one with --model {like}/MODEL, set LLMSPELL_MODEL, or set models.default in ~/.llmspell/config.toml."
        ))
    }

    /// All providers: those with a section, then those that are known.
    #[must_use]
    pub fn list(&self) -> Vec<Known> {
        let config = &self.shared.config;
        let known = ROWS.iter().map(|row| row.name).filter(|name| !config.providers.contains_key(*name));
        let names = config.providers.keys().map(String::as_str).chain(known);
        names.filter_map(|name| self.get(name).ok()).collect()
    }

    /// The provider called `name`.
    ///
    /// # Errors
    /// As [`Service::of`].
    pub fn get(&self, name: &str) -> Result<Known> {
        let service = Service::of(name, &self.shared.config)?;
        let has_key = keys::is_set(&service, self.shared.home.as_ref());
        let has_section = self.shared.config.providers.contains_key(name);
        // A server of one's own that nobody spoke of is not known to be there.
        let spoken = !service.row.keys.is_empty() && has_key || var(service.row.base_url_env).is_some();
        Ok(Known {
            kind: service.row.name,
            model: service.section.model.clone(),
            base_url: service.base_url,
            is_set_up: has_section || spoken,
            has_key,
            name: service.name,
        })
    }

    /// The name of the default model, if there is one.
    #[must_use]
    pub fn default_model(&self) -> Option<&str> {
        self.shared.config.models.default.as_deref()
    }

    /// What was used since these providers were made.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.shared.budget.spent()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Beginnings of names that belong to one service.
const FAMILIES: &[(&str, &str)] = &[
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gemini"),
    ("command-", "cohere"),
    ("mistral-", "mistral"),
    ("deepseek-", "deepseek"),
    ("grok-", "xai"),
];

/// Models that are asked one after the other, until one answers.
struct InTurn(Vec<Arc<dyn Model>>);

impl Model for InTurn {
    fn name(&self) -> &str {
        self.0.first().map_or("", |model| model.name())
    }

    fn ask(&self, request: &Request, cancel: &Cancel, deltas: &mut Deltas<'_>) -> Result<Reply> {
        let mut last = None;
        for model in &self.0 {
            let mut heard = false;
            let mut listen = |delta: Delta| {
                heard = true;
                deltas(delta);
            };
            match model.ask(request, cancel, &mut listen) {
                Err(error) if !heard && passing(&error) && !cancel.is_cancelled() => {
                    log::warn!("{}: {error}; the next model of models.fallback is asked", model.name());
                    // What the first said is what the caller asked for.
                    last.get_or_insert(error);
                }
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Class::Bug, "no model to ask")))
    }
}

/// Whether another service may do better.
fn passing(error: &Error) -> bool {
    matches!(error.class(), Class::Remote | Class::Timeout | Class::Budget)
}

#[cfg(test)]
mod tests {
    use super::super::{Message, Role};
    use super::*;

    fn providers(change: impl FnOnce(&mut Config)) -> Providers {
        let mut config = Config::default();
        change(&mut config);
        let policy = Policy::new(Grants { profile: Profile::Safe, workdir: "/".into(), ..Grants::default() });
        Providers::new(&config, Arc::new(policy))
    }

    #[test]
    fn names_lead_to_models() {
        let all = providers(|config| {
            config.models.default = Some("ollama/llama".into());
            let section = crate::config::Provider { model: Some("m".into()), ..Default::default() };
            config.providers.insert("mine".into(), section);
        });
        let name = |name: &str| all.model(name).map(|model| model.name().to_owned());
        for (asked, found) in [
            ("", "ollama/llama"),
            ("other", "ollama/other"),
            ("openai/gpt-4o", "openai/gpt-4o"),
            ("gpt-4o", "openai/gpt-4o"),
            ("claude-x", "anthropic/claude-x"),
            ("openrouter/meta/llama", "openrouter/meta/llama"),
            ("mine", "mine/m"),
            ("mine/x", "mine/x"),
            ("mock/echo", "mock/echo"),
        ] {
            assert_eq!(name(asked).unwrap(), found, "{asked}");
        }
        assert_eq!(name("opnai/x").unwrap_err().to_string(), "provider opnai: not known; did you mean openai?");
        assert_eq!(name("openai").unwrap_err().to_string(), "provider openai: no model named");
        assert_eq!(name("openai/").unwrap_err().class(), Class::Usage);
        let error = providers(|_| {}).model("").err().unwrap();
        assert!(error.text().starts_with("no default model; "), "{error}");
    }

    #[test]
    fn the_next_is_asked_where_one_cannot_answer() {
        let all = providers(|config| config.models.fallback = vec!["mock/echo".into()]);
        let request = Request { messages: vec![Message::text(Role::User, "hi")], ..Request::default() };
        let ask = |name: &str| all.model(name).unwrap().ask(&request, &Cancel::default(), &mut |_| {});
        assert_eq!(ask(r#"mock/{"replies": [{"error": "down"}]}"#).unwrap().model, "mock/echo");
        let heard = ask(r#"mock/{"replies": [{"chunks": ["a", "b"], "error": "down"}]}"#).unwrap_err();
        assert_eq!(heard.text(), "mock/inline: down");
        let denied = ask(r#"mock/{"replies": [{"error": {"class": "denied", "text": "no"}}]}"#).unwrap_err();
        assert_eq!(denied.class(), Class::Denied);
    }
}
