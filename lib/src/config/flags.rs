//! Flags as the last layer: what the permission flags of a command line say, in the words of the configuration.

use std::path::Path;

use toml::Value;

use super::load::Sources;
use crate::cli::{Grant, Permissions};

impl Sources {
    /// Adds one flag's value.
    pub fn flag(&mut self, key: &str, value: impl Into<Value>, flag: &str) {
        self.flags.push((key.into(), value.into(), flag.into()));
    }

    /// Adds what the permission flags say. Paths become absolute from where the program was started.
    pub fn permissions(&mut self, permissions: &Permissions) {
        if let Some(profile) = permissions.profile {
            self.flag("security.profile", profile.name(), "--profile");
        }
        let grants = [
            ("read", &permissions.read),
            ("write", &permissions.write),
            ("net", &permissions.net),
            ("run", &permissions.run),
            ("env", &permissions.env),
        ];
        for (name, grant) in grants {
            let items = match grant {
                None => continue,
                Some(Grant::All) => vec!["*".into()],
                Some(Grant::Only(items)) if matches!(name, "read" | "write") => {
                    items.iter().map(|item| absolute(&self.dir, item)).collect()
                }
                Some(Grant::Only(items)) => items.clone(),
            };
            self.flag(&format!("security.allow_{name}"), items, &format!("--allow-{name}"));
        }
    }
}

fn absolute(dir: &Path, item: &str) -> String {
    if item == "*" || item.starts_with('~') { item.into() } else { dir.join(item).display().to_string() }
}
