//! `uuid_generator`: UUIDs of every version, ids made with them, and what an id says about itself.

use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::{Builder, Uuid, Variant, Version as Kind, uuid};

use super::{Answer, Call, Level, Spelling, ToolSpec, example, required, timestamp};
use crate::error::{Class, Error, Result};

/// The UUID generator.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "uuid_generator",
    aliases: &["uuid"],
    category: "utility",
    summary: "make UUIDs (v1, v3 to v8) and ids from them, validate and take them apart",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("input", "uuid"),
        Spelling::Value("version", "1", "v1"),
        Spelling::Value("version", "3", "v3"),
        Spelling::Value("version", "4", "v4"),
        Spelling::Value("version", "5", "v5"),
        Spelling::Value("version", "6", "v6"),
        Spelling::Value("version", "7", "v7"),
        Spelling::Value("version", "8", "v8"),
        Spelling::Value("format", "hyphenated", "standard"),
        Spelling::Value("operation", "parse", "validate"),
    ],
    examples: &[
        example("a random one", r#"{}"#, r#"{"version": "v4", "format": "standard"}"#),
        example(
            "the same name, the same UUID",
            r#"{"version": "v5", "name": "www.example.com"}"#,
            r#"{"uuid": "2ed6657d-e927-568b-95e1-2665a8aea6a2"}"#,
        ),
        example(
            "the id of an agent by its name",
            r#"{"operation": "deterministic", "name": "x"}"#,
            r#"{"id": "492ca0b5-50d9-57f9-8474-a5dc1f78dfce", "namespace": "agent"}"#,
        ),
        example(
            "when a time-ordered one was made",
            r#"{"operation": "validate", "uuid": "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"}"#,
            r#"{"valid": true, "version": "v7", "time": "2022-02-22T19:22:22.000000000Z"}"#,
        ),
    ],
};

/// Namespaces of this suite; ids made with them stay the same for ever.
const AGENT: Uuid = uuid!("6ba13d5a-3f5d-4a5b-9f7e-3d5a2f4d3a2b");
const TOOL: Uuid = uuid!("7cb24e6b-4f6e-5b6c-af8f-4e6b3f5e4b3c");
const WORKFLOW: Uuid = uuid!("8dc35f7c-5f7f-6c7d-bf9f-5f7c4f6f5c4d");
/// Most UUIDs of one call.
const MAX_COUNT: usize = 10_000;

/// Makes or validates UUIDs (RFC 9562). Versions 1 and 6 hold a random node id, never the hardware address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// `generate`: which version. 3 and 5 are digests of a name, 1, 6 and 7 hold the time, 8 the bytes of `data`.
    #[serde(default)]
    version: Version,
    /// `generate`: how to write it.
    #[serde(default)]
    format: Format,
    /// `generate`: how many.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    count: usize,
    /// `generate` of version 3 or 5, `deterministic`: the name.
    name: Option<String>,
    /// The namespace of the name: dns, url, oid, x500, agent, tool, workflow or a UUID; dns if not given, for
    /// `deterministic` agent.
    namespace: Option<String>,
    /// `generate` of version 8: 32 hexadecimal digits, of which version and variant are overwritten.
    data: Option<String>,
    /// `component_id`, `custom`: what stands in front; `component` if not given for `component_id`.
    prefix: Option<String>,
    /// `custom`: what stands behind.
    suffix: Option<String>,
    /// `component_id`, `custom`: only the first eight digits.
    #[serde(default)]
    short: bool,
    /// `custom`: with the seconds since 1970.
    #[serde(default)]
    timestamp: bool,
    /// `validate`: the text to look at.
    uuid: Option<String>,
}

fn one() -> usize {
    1
}

#[derive(Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Generate,
    ComponentId,
    Deterministic,
    Custom,
    Validate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Version {
    V1,
    V3,
    #[default]
    V4,
    V5,
    V6,
    V7,
    V8,
}

#[derive(Clone, Copy, Default, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Format {
    #[default]
    Standard,
    Simple,
    Urn,
    Braced,
}

/// Makes or validates.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    match params.operation {
        Operation::Generate => generate(&params, call),
        Operation::ComponentId => {
            let prefix = params.prefix.as_deref().unwrap_or("component");
            let id = format!("{prefix}_{}", random(params.short));
            let result = json!({"id": id, "prefix": prefix, "short": params.short});
            Ok(Answer::new("component_id", result).message("Generated component ID").text(id))
        }
        Operation::Deterministic => {
            let name = required(params.name, "name")?;
            let called = params.namespace.as_deref().unwrap_or("agent");
            let id = Uuid::new_v5(&namespace(called)?, name.as_bytes()).to_string();
            let result = json!({"id": id, "namespace": called, "name": name});
            Ok(Answer::new("deterministic", result).message("Generated deterministic ID").text(id))
        }
        Operation::Custom => {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let time = params.timestamp.then(|| seconds.to_string());
            let parts = [params.prefix, time, Some(random(params.short)), params.suffix];
            let id = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
            let result = json!({"id": id, "timestamp": params.timestamp, "short": params.short});
            Ok(Answer::new("custom", result).message("Generated custom ID").text(id))
        }
        Operation::Validate => Ok(validate(&required(params.uuid, "uuid")?)),
    }
}

fn random(short: bool) -> String {
    let id = Uuid::new_v4();
    if short { id.simple().to_string()[..8].to_owned() } else { id.to_string() }
}

fn generate(params: &Params, call: &Call) -> Result<Answer> {
    let mut made = Vec::new();
    let node: [u8; 6] = {
        let [a, b, c, d, e, f, ..] = *Uuid::new_v4().as_bytes();
        // The multicast bit says that this is no hardware address.
        [a | 1, b, c, d, e, f]
    };
    for _ in 0..params.count.min(MAX_COUNT) {
        call.check()?;
        let name = || required(params.name.as_deref(), "name").map(str::as_bytes);
        let space = || namespace(params.namespace.as_deref().unwrap_or("dns"));
        let id = match params.version {
            Version::V1 => Uuid::now_v1(&node),
            Version::V3 => Uuid::new_v3(&space()?, name()?),
            Version::V4 => Uuid::new_v4(),
            Version::V5 => Uuid::new_v5(&space()?, name()?),
            Version::V6 => Uuid::now_v6(&node),
            Version::V7 => Uuid::now_v7(),
            Version::V8 => {
                let data = required(params.data.as_deref(), "data")?;
                let bytes = super::hash_calculator::unhex(data).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                let bytes =
                    bytes.ok_or_else(|| Error::new(Class::Usage, "data: not 32 hexadecimal digits (16 bytes)"))?;
                Builder::from_custom_bytes(bytes).into_uuid()
            }
        };
        made.push(match params.format {
            Format::Standard => id.hyphenated().to_string(),
            Format::Simple => id.simple().to_string(),
            Format::Urn => id.urn().to_string(),
            Format::Braced => id.braced().to_string(),
        });
    }
    let mut result = json!({"version": params.version, "format": params.format});
    let text = made.join("\n");
    result["uuid"] = made.first().cloned().into();
    if params.count > 1 {
        result["uuids"] = made.into();
    }
    Ok(Answer::new("generate", result).message("Generated UUID").text(text))
}

fn namespace(name: &str) -> Result<Uuid> {
    Ok(match name.to_lowercase().as_str() {
        "dns" => Uuid::NAMESPACE_DNS,
        "url" => Uuid::NAMESPACE_URL,
        "oid" => Uuid::NAMESPACE_OID,
        "x500" => Uuid::NAMESPACE_X500,
        "agent" => AGENT,
        "tool" => TOOL,
        "workflow" => WORKFLOW,
        other => Uuid::parse_str(other).map_err(|_| {
            Error::new(Class::Usage, format!("namespace: {name:?} is no namespace"))
                .hint("Namespaces: dns, url, oid, x500, agent, tool, workflow, or a UUID.")
        })?,
    })
}

fn validate(text: &str) -> Answer {
    let Ok(id) = Uuid::try_parse(text.trim()) else {
        let result = json!({"uuid": text, "valid": false, "error": "Invalid UUID format"});
        return Answer::new("validate", result).message("Not a UUID");
    };
    let variant = match id.get_variant() {
        Variant::NCS => "NCS",
        Variant::RFC4122 => "RFC4122",
        Variant::Microsoft => "Microsoft",
        _ => "Future",
    };
    let version = match id.get_version() {
        Some(Kind::Nil) => "nil".into(),
        Some(Kind::Max) => "max".into(),
        Some(_) => format!("v{}", id.get_version_num()).into(),
        None => Value::Null,
    };
    let mut result = json!({"uuid": text, "valid": true, "version": version, "variant": variant});
    if let Some(time) = id.get_timestamp() {
        let (seconds, nanos) = time.to_unix();
        let since = std::time::Duration::new(seconds, nanos);
        result["time"] = timestamp(UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)).into();
    }
    Answer::new("validate", result).message("A UUID")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    #[test]
    fn every_version_is_what_it_says() {
        for version in [1, 3, 4, 5, 6, 7, 8] {
            let data = "00112233445566778899aabbccddeeff";
            let made = result(
                "uuid_generator",
                json!({"version": version.to_string(), "name": "n", "data": data, "format": "urn"}),
            );
            assert_eq!(made["version"], format!("v{version}"));
            let seen = result("uuid_generator", json!({"operation": "validate", "uuid": made["uuid"]}));
            assert_eq!((&seen["version"], &seen["variant"]), (&json!(format!("v{version}")), &json!("RFC4122")));
            assert_eq!(seen["time"].is_string(), matches!(version, 1 | 6 | 7), "{seen}");
        }
        // RFC 9562, A.2 and A.4.
        let named =
            |version: &str| result("uuid", json!({"version": version, "name": "www.example.com"}))["uuid"].take();
        assert_eq!(named("v3"), "5df41881-3aed-3515-88a7-2f4a814cf09e");
        assert_eq!(named("v5"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn time_ordered_ones_are_ordered_and_all_differ() {
        for version in ["v6", "v7", "v1"] {
            let made = result("uuid_generator", json!({"version": version, "count": 1000}));
            let made: Vec<_> = made["uuids"].as_array().unwrap().iter().map(ToString::to_string).collect();
            let mut sorted = made.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), 1000);
            assert!(version == "v1" || sorted == made, "{version}");
        }
    }

    #[test]
    fn ids_are_made_of_their_parts() {
        let custom = json!({"operation": "custom", "prefix": "p", "suffix": "s", "short": true, "timestamp": true});
        let id = result("uuid_generator", custom)["id"].take();
        let parts: Vec<_> = id.as_str().unwrap().split('_').collect();
        assert_eq!((parts.len(), parts[0], parts[2].len(), parts[3]), (4, "p", 8, "s"));
        assert!(parts[1].parse::<u64>().unwrap() > 1_700_000_000);
        let id = result("uuid_generator", json!({"operation": "component-id", "prefix": "db"}))["id"].take();
        assert_eq!(id.as_str().unwrap().len(), 39);
        let tool = result("uuid", json!({"operation": "deterministic", "name": "x", "namespace": "tool"}));
        assert_eq!(tool["id"], "03e1fc55-803b-51fd-8f83-b4a71b2d9fce");
        let nothing = result("uuid", json!({"operation": "validate", "uuid": "zebra"}));
        assert_eq!(nothing["valid"], false);
    }

    #[test]
    fn bad_input() {
        bad(
            "uuid_generator",
            &[
                (json!({"version": "v2"}), Class::Usage),
                (json!({"version": "v5"}), Class::Usage),
                (json!({"version": "v5", "name": "n", "namespace": "nonsense"}), Class::Usage),
                (json!({"version": "v8"}), Class::Usage),
                (json!({"version": "v8", "data": "00"}), Class::Usage),
                (json!({"operation": "validate"}), Class::Usage),
                (json!({"count": 0}), Class::Usage),
                (json!({"count": 10_001}), Class::Usage),
            ],
        );
    }
}
