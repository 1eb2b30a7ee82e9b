//! All models that can be asked, by name.

use std::sync::Arc;

use super::Model;
use super::mock::Mock;
use crate::config::Config;
use crate::error::{Class, Error, Result};
use crate::security::Policy;

/// The models of a configuration. Nothing is connected, and no key is looked for, before one is asked.
pub struct Providers {
    policy: Arc<Policy>,
}

impl Providers {
    /// Those `config` speaks of, and all that are known.
    #[must_use]
    pub fn new(_config: &Config, policy: Arc<Policy>) -> Self {
        Providers { policy }
    }

    /// The model called `name`: `provider/model`, or `""` for the default. Each call makes a new one: scripts of `mock` begin anew.
    ///
    /// # Errors
    /// `NotFound` for what is no provider, `Config` without a default.
    pub fn model(&self, name: &str) -> Result<Arc<dyn Model>> {
        match name.split_once('/') {
            Some(("mock", rest)) => Ok(Arc::new(Mock::new(rest, &self.policy)?)),
            _ => Err(Error::new(Class::NotFound, format!("model {name}: no such provider"))),
        }
    }
}
