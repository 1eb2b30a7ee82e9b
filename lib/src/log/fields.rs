//! What an event tells beside its text: fields, each a name and a value.

use log::kv::{Error, Key, Source, Value, VisitSource};
use log::{Level, Record};
use serde_json::{Map, Value as Json};

use super::redact;

/// Whether an event of `level` under `module` is written at all.
#[must_use]
pub fn enabled(level: Level, module: &str) -> bool {
    let metadata = log::Metadata::builder().level(level).target(module).build();
    level <= log::max_level() && log::logger().enabled(&metadata)
}

/// Logs `message` under `module`, for those whose module is not known when they are compiled.
pub fn event(level: Level, module: &str, message: &str, fields: &Map<String, Json>) {
    if enabled(level, module) {
        let fields = Fields(fields);
        let mut record = Record::builder();
        record.level(level).target(module).key_values(&fields);
        log::logger().log(&record.args(format_args!("{message}")).build());
    }
}

struct Fields<'a>(&'a Map<String, Json>);

impl Source for Fields<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), Error> {
        self.0.iter().try_for_each(|(name, value)| {
            let value = match value {
                Json::Bool(value) => Value::from(*value),
                Json::String(text) => Value::from(text.as_str()),
                Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                    (Some(integer), _) => Value::from(integer),
                    (None, Some(float)) => Value::from(float),
                    _ => Value::null(),
                },
                Json::Null => Value::null(),
                nested => Value::from_display(nested),
            };
            visitor.visit_pair(Key::from_str(name), value)
        })
    }
}

/// The fields of `record`, secrets masked by their names too.
pub(super) fn of(record: &Record<'_>) -> Map<String, Json> {
    struct Visitor(Map<String, Json>);
    impl<'kvs> VisitSource<'kvs> for Visitor {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
            let json = match (value.to_bool(), value.to_i64(), value.to_f64()) {
                (Some(value), ..) => Json::from(value),
                (_, Some(value), _) => Json::from(value),
                (_, _, Some(value)) => Json::from(value),
                _ if value.to_string() == "None" && value.to_borrowed_str().is_none() => Json::Null,
                _ => Json::from(value.to_string()),
            };
            let told = format!("{key}={}", json.as_str().map_or_else(|| json.to_string(), str::to_owned));
            let masked = redact(&told);
            let json = match masked.strip_prefix(&format!("{key}=")) {
                Some(text) if masked != told => Json::from(text),
                None => Json::from("<redacted>"),
                _ => json,
            };
            self.0.insert(key.to_string(), json);
            Ok(())
        }
    }
    let mut visitor = Visitor(Map::new());
    // What cannot be told is left out; the message counts.
    let _ = record.key_values().visit(&mut visitor);
    visitor.0
}

/// ` name=value` of each; text that is more than a word in quotes.
pub(super) fn text(fields: &Map<String, Json>) -> String {
    let pair = |(name, value): (&String, &Json)| match value.as_str() {
        Some(word) if !word.is_empty() && !word.contains([' ', '"', '=', '\n', '\t']) => format!(" {name}={word}"),
        _ => format!(" {name}={value}"),
    };
    fields.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_keep_their_types_and_secrets_are_masked() {
        let json = json!({"n": 1, "f": 0.5, "yes": true, "none": null, "text": "a b", "list": [1, 2],
            "api_key": "abcdef", "header": "Bearer abcdefghij"});
        let fields = Fields(json.as_object().unwrap());
        let mut record = Record::builder();
        let read = of(&record.key_values(&fields).build());
        let expected = json!({"n": 1, "f": 0.5, "yes": true, "none": null, "text": "a b", "list": "[1,2]",
            "api_key": "<redacted>", "header": "Bearer <redacted>"});
        assert_eq!(Json::Object(read.clone()), expected);
        let line = text(&read);
        assert!(line.contains(" n=1") && line.contains(" text=\"a b\"") && !line.contains("abcdef"), "{line}");
    }
}
