//! `graphql_query`: queries, mutations and introspection over HTTP (GraphQL over HTTP: POST of JSON).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::http::{self, Header, Request};
use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, required, web, word};
use crate::error::{Class, Error, Result};

/// The GraphQL tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "graphql_query",
    aliases: &["graphql"],
    category: "api",
    summary: "send GraphQL queries and mutations with variables, read a schema by introspection",
    level: Level::Privileged,
    effects: &[Effect::Network],
    spellings: &[
        Spelling::Param("query", "input"),
        Spelling::Param("url", "endpoint"),
        Spelling::Param("operationName", "operation_name"),
        Spelling::Value("operation", "introspect", "introspection"),
        Spelling::Value("operation", "schema", "introspection"),
    ],
    examples: &[
        example(
            "a query with variables",
            r#"{"endpoint": "$HTTP/graphql", "input": "query Q($n: Int) { echo(n: $n) }", "variables": {"n": 1}}"#,
            r#"{"operation": "query", "result": {"data": {"variables": {"n": 1}, "query": "query Q($n: Int) { echo(n: $n) }"}}}"#,
        ),
        example(
            "one of several operations",
            r#"{"endpoint": "$HTTP/graphql", "operation": "mutation", "input": "mutation A { a } mutation B { b }", "operation_name": "B"}"#,
            r#"{"operation": "mutation", "result": {"data": {"operationName": "B"}}}"#,
        ),
        example(
            "with a key of the service",
            r#"{"endpoint": "$HTTP/graphql", "input": "{ me }", "headers": {"Authorization": "Bearer t"}}"#,
            r#"{"status_code": 200, "result": {"data": {"query": "{ me }"}}}"#,
        ),
    ],
};

/// What tools that draw schemas ask for, with types seven levels deep.
const INTROSPECTION: &str = "query IntrospectionQuery { __schema { queryType { name } mutationType { name } \
    subscriptionType { name } types { ...FullType } directives { name description locations args { ...InputValue } } } } \
    fragment FullType on __Type { kind name description fields(includeDeprecated: true) { name description \
    args { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason } inputFields { ...InputValue } \
    interfaces { ...TypeRef } enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } \
    possibleTypes { ...TypeRef } } fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue } \
    fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name \
    ofType { kind name ofType { kind name ofType { kind name } } } } } } } }";

/// Asks a GraphQL service. Errors beside data are part of the answer; errors without data fail the call.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Where the service is.
    #[schemars(length(min = 1))]
    endpoint: String,
    /// What kind of request; `subscription` is refused, as an answer without end needs a connection this tool does not keep.
    #[serde(default)]
    operation: Operation,
    /// The document; for all but `introspection`.
    input: Option<String>,
    /// Values of its variables.
    #[serde(default)]
    variables: Map<String, Value>,
    /// Which operation of the document, when it holds several.
    operation_name: Option<String>,
    /// Headers to send.
    #[serde(default)]
    headers: Map<String, Value>,
    /// Longest time, seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout: f64,
}

fn thirty() -> f64 {
    30.0
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Query,
    Mutation,
    Introspection,
    Subscription,
}

/// Asks.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let document = match params.operation {
        Operation::Subscription => {
            return Err(Error::new(Class::Usage, "operation: subscription: not supported")
                .hint("Ask by query again and again, or use the service's own client."));
        }
        Operation::Introspection => INTROSPECTION.to_owned(),
        _ => required(params.input.filter(|text| !text.trim().is_empty()), "input")?,
    };
    let mut body = json!({"query": document});
    if !params.variables.is_empty() {
        body["variables"] = params.variables.into();
    }
    if let Some(name) = params.operation_name {
        body["operationName"] = name.into();
    }
    let url = http::parse(&params.endpoint, "endpoint")?;
    let request = web::with_headers(Request::new("POST", url, &call.settings)?, &params.headers)?;
    let accept = Header::new("accept", "application/graphql-response+json, application/json", false)?;
    let response = request.default_header(accept).json(&body)?.send_within(web::seconds(params.timeout), call)?;
    let answer = response.json()?;
    let Value::Object(members) = &answer else {
        return Err(Error::new(Class::Remote, format!("{}: its answer is not a GraphQL response", params.endpoint)));
    };
    let data = members.get("data").filter(|data| !data.is_null());
    let complaint = members.get("errors").and_then(|errors| errors.as_array()?.first());
    match (data, complaint) {
        (None, Some(first)) => {
            let text = first["message"].as_str().unwrap_or("an error without a message");
            let count = members["errors"].as_array().map_or(0, Vec::len);
            let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
            return Err(Error::new(Class::Tool, format!("{}: {}{more}", params.endpoint, text.replace('\n', " "))));
        }
        // Without either it is no GraphQL response, or a refusal of something in between.
        (None, None) if !members.contains_key("data") => {
            return Err(Error::new(Class::Remote, format!("{}: status {}, no data", params.endpoint, response.status)));
        }
        _ => {}
    }
    let name = word(&params.operation);
    let result = if params.operation == Operation::Introspection {
        json!({"operation": name, "endpoint": params.endpoint, "schema": answer["data"]["__schema"], "cached": false})
    } else {
        json!({"operation": name, "endpoint": params.endpoint, "result": answer, "status_code": response.status})
    };
    Ok(Answer::new(name, result))
}

#[cfg(test)]
mod tests {
    use super::super::testing::bad;
    use super::*;

    #[test]
    fn wrong_calls_are_refused() {
        bad(
            "graphql_query",
            &[
                (json!({}), Class::Usage),
                (json!({"endpoint": "http://127.0.0.1/"}), Class::Usage),
                (json!({"endpoint": "http://127.0.0.1/", "input": " "}), Class::Usage),
                (json!({"endpoint": "ftp://127.0.0.1/", "input": "{a}"}), Class::Usage),
                (json!({"endpoint": "http://127.0.0.1/", "input": "{a}"}), Class::Denied),
                (json!({"endpoint": "http://127.0.0.1/", "input": "{a}", "variables": []}), Class::Usage),
                (json!({"endpoint": "http://127.0.0.1/", "input": "{a}", "operation": "subscription"}), Class::Usage),
                (json!({"endpoint": "http://127.0.0.1/", "input": "{a}", "headers": {"a b": "c"}}), Class::Usage),
            ],
        );
    }
}
