//! The configuration as scripts may see it: every value that is set, secrets hidden.

use serde_json::Value;

use super::Config;
use super::keys::{self, is_secret, split};
use crate::error::{Class, Error, Result};

/// All values that are set, durations and sizes as text.
#[must_use]
pub fn view(config: &Config) -> Value {
    let mut values = serde_json::to_value(config).unwrap_or_default();
    hide(&mut values, &mut Vec::new());
    values
}

fn hide(value: &mut Value, path: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, member)| {
            path.push(name.clone());
            hide(member, path);
            path.pop();
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, path)),
        Value::String(_) if is_secret(path) => *value = "<redacted>".into(),
        Value::String(text) => {
            if let Some(masked) = without_password(text) {
                *text = masked;
            }
        }
        _ => {}
    }
}

/// A URL with a password, without it.
fn without_password(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (user, host) = rest[..end].rsplit_once('@')?;
    let (name, _) = user.split_once(':')?;
    Some(format!("{scheme}://{name}:<redacted>@{host}{}", &rest[end..]))
}

/// Whether `path`, such as `kernel.grace`, names a section, a key, or may be an entry of a table.
///
/// # Errors
/// `NotFound` when it does not, with what may have been meant.
pub fn known(path: &str) -> Result<()> {
    let names = split(path);
    if keys::find(&names).is_some() {
        return Ok(());
    }
    let error = Error::new(Class::NotFound, format!("configuration: {path}: no such section or key"));
    Err(match keys::nearest(&names) {
        Some(near) => {
            let section =
                path.rsplit_once('.').map(|(section, _)| format!("{section}.")).filter(|_| !near.contains('.'));
            error.hint(format!("Did you mean {}{near}?", section.unwrap_or_default()))
        }
        None => error.hint("llmspell.toml(5) lists all keys."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let mut config = Config::default();
        config.tools.http_request.default_headers = [("X-Api-Key".into(), "abc".into())].into();
        let url = "postgres://ada:pass@h:1/d?x=1";
        config.tools.database.connections = [("main".into(), url.into()), ("file".into(), "a.db".into())].into();
        let view = view(&config);
        assert_eq!(view["tools"]["http_request"]["default_headers"]["X-Api-Key"], "<redacted>");
        assert_eq!(view["tools"]["database"]["connections"]["main"], "postgres://ada:<redacted>@h:1/d?x=1");
        assert_eq!(view["tools"]["database"]["connections"]["file"], "a.db");
        assert_eq!(view["kernel"]["grace"], "5s");
    }

    #[test]
    fn names_that_are_none_are_told() {
        for (path, hint) in [
            ("kernel.tools.tool_timout", Some("Did you mean kernel.tools.tool_timeout?")),
            ("tool_timeout", Some("Did you mean kernel.tools.tool_timeout?")),
            ("kernal", Some("Did you mean kernel?")),
            ("", Some("llmspell.toml(5) lists all keys.")),
        ] {
            assert_eq!(known(path).unwrap_err().next_step(), hint, "{path}");
        }
        for path in ["kernel", "kernel.port", "tools.timeouts", "tools.timeouts.web_search"] {
            known(path).unwrap();
        }
    }
}
