//! How durations, sizes and paths stand in TOML, and what the schema says of them.

use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _, Visitor};

use crate::error::Result;

/// Reads a number or a text with `parse`.
struct Measure<T>(fn(&str) -> Result<T>);

impl<T> Visitor<'_> for Measure<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text with a unit")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(|error| E::custom(error.text()))
    }
}

/// `"30s"` or a number of seconds.
pub(super) mod duration {
    use std::time::Duration;

    use super::{Deserializer, Measure, Result};
    use crate::error::{Class, Error};
    use crate::units;

    /// A century: what is added to a clock must not overflow it.
    const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

    pub(in crate::config) fn serialize<S: serde::Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&units::show_duration(*duration))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        d.deserialize_any(Measure(parse))
    }

    fn parse(text: &str) -> Result<Duration> {
        units::duration(text).and_then(|duration| match duration > LONGEST {
            true => Err(Error::new(Class::Config, "more than a century")),
            false => Ok(duration),
        })
    }
}

/// As `duration`, where nothing may be set.
pub(super) mod some_duration {
    use std::time::Duration;

    use super::{Deserializer, Result};

    pub(in crate::config) fn serialize<S: serde::Serializer>(time: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::duration::serialize(time, s),
            None => s.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(d).map(Some)
    }
}

/// `"10MB"` or a number of bytes.
pub(super) mod size {
    use super::{Deserializer, Measure, Result};
    use crate::units;

    pub(in crate::config) fn serialize<S: serde::Serializer>(bytes: &u64, s: S) -> Result<S::Ok, S::Error> {
        let text = units::show_size(*bytes);
        match units::size(&text) {
            Ok(same) if same == *bytes => s.serialize_str(&text),
            _ => s.serialize_u64(*bytes),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        d.deserialize_any(Measure(units::size))
    }
}

/// A kernel's id, checked.
pub(super) fn id<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let id: String = serde::Deserialize::deserialize(d)?;
    crate::home::check_id(&id).map_err(|error| D::Error::custom(error.text()))?;
    Ok(Some(id))
}

pub(super) fn id_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "x-noun": "a kernel id", "x-like": "kernel-9555"})
}

pub(super) fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "x-noun": "a duration", "x-like": "30s"})
}

pub(super) fn size_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "x-noun": "a size", "x-like": "10MB"})
}

pub(super) fn path_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "x-noun": "a path", "x-like": "~/project", "x-path": true})
}

pub(super) fn file_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "x-noun": "a path", "x-like": "/run/llmspell/{id}.pid", "x-path": true})
}

pub(super) fn folder_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "x-noun": "a path", "x-like": "~/.llmspell/logs", "x-path": true})
}

pub(super) fn paths_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "x-noun": "a list of paths", "x-like": "[\"~/data\"]", "x-path": true})
}
