//! `database_connector`: SQLite files, PostgreSQL, MySQL and MariaDB. Values are bound, never pasted into the statement; nothing is
//! changed unless the call asks for it and the policy (a file) or the configuration (a server) lets it.

mod mysql;
mod postgres;
mod sqlite;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::time::{Instant, SystemTime};

use rustix::event::PollFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Answer, Call, Effect, Level, Spelling, ToolSpec, example, required, rounds, timestamp, web, word};
use crate::error::{Class, Error, Result};

/// The database tool.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "database_connector",
    aliases: &["database", "sql"],
    category: "data",
    summary: "query SQLite, PostgreSQL, MySQL and MariaDB with bound values; schemas; transactions",
    level: Level::Restricted,
    effects: &[Effect::ReadFiles, Effect::WriteFiles, Effect::Network],
    spellings: &[
        Spelling::Param("connection", "database"),
        Spelling::Param("url", "database"),
        Spelling::Param("path", "database"),
        Spelling::Param("sql", "query"),
        Spelling::Param("input", "query"),
        Spelling::Param("parameters", "params"),
        Spelling::Value("operation", "exec", "execute"),
        Spelling::Value("operation", "select", "query"),
        Spelling::Value("operation", "tables", "schema"),
    ],
    examples: &[
        example(
            "all or nothing",
            r#"{"operation": "transaction", "database": "$TMP/a.db", "statements": [
                {"query": "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL)"},
                {"query": "INSERT INTO t (name) VALUES (?), (?)", "params": ["one", "it's"]}]}"#,
            r#"{"database_type": "sqlite", "rows_affected": 2}"#,
        ),
        example(
            "bound values",
            r#"{"operation": "query", "database": "$TMP/a.db", "query": "SELECT id, name FROM t WHERE name = ?", "params": ["it's"]}"#,
            r#"{"status": "executed", "results": [{"id": 2, "name": "it's"}], "row_count": 1, "truncated": false,
                "columns": [{"name": "id", "type": "INTEGER"}, {"name": "name", "type": "TEXT"}]}"#,
        ),
        example(
            "what is in it",
            r#"{"operation": "schema", "database": "$TMP/a.db"}"#,
            r#"{"tables": [{"name": "t", "kind": "table", "columns": [
                {"name": "id", "type": "INTEGER", "nullable": true, "primary_key": true},
                {"name": "name", "type": "TEXT", "nullable": false, "primary_key": false}]}]}"#,
        ),
        example(
            "more rows than wanted",
            r#"{"operation": "query", "database": "$TMP/a.db", "query": "SELECT id FROM t ORDER BY id", "max_rows": 1}"#,
            r#"{"results": [{"id": 1}], "row_count": 1, "truncated": true}"#,
        ),
    ],
};

/// Most bytes of rows in an answer; a file takes any number.
const MAX_BYTES: usize = 16 << 20;

/// Asks or changes a database. Placeholders are `?` (SQLite, MySQL) or `$1` (PostgreSQL).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// `query` reads, `execute` changes, `transaction` changes by several statements, all or none, `schema` tells the tables.
    operation: Operation,
    /// A name of `tools.database.connections`, a URL (`postgres://user@host/db`, `mysql://…`, `sqlite:path`), or the path of a
    /// SQLite file.
    #[serde(default = "default")]
    #[schemars(length(min = 1))]
    database: String,
    /// For `query` and `execute`: one statement.
    query: Option<String>,
    /// What stands for its placeholders: text, numbers, booleans, null; lists and objects as JSON (as arrays where PostgreSQL
    /// wants one).
    #[serde(default)]
    params: Vec<Value>,
    /// For `transaction`.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    statements: Vec<Statement>,
    /// What kind of statement; all but `SELECT` make a `query` an `execute`.
    #[serde(default)]
    query_type: QueryType,
    /// Most rows in the answer.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max_rows: usize,
    /// A file that takes all rows, one JSON object a line, instead of the answer.
    output_file: Option<String>,
    /// For `schema`: only the tables of this name.
    table: Option<String>,
    /// Longest time, seconds; the limit of the call if not given.
    #[schemars(range(min = 0.001, max = 86_400.0))]
    timeout_seconds: Option<f64>,
}

fn default() -> String {
    "default".into()
}

fn thousand() -> usize {
    1000
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    Query,
    Execute,
    Transaction,
    Schema,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
enum QueryType {
    #[default]
    Select,
    Insert,
    Update,
    Delete,
    Ddl,
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Statement {
    /// The statement.
    query: String,
    /// What stands for its placeholders.
    #[serde(default)]
    params: Vec<Value>,
}

/// What is to be done, whatever the engine.
struct Job {
    statements: Vec<Statement>,
    write: bool,
    table: Option<String>,
}

/// Where rows go, as they come.
struct Sink {
    columns: Vec<(String, String)>,
    rows: Vec<Value>,
    most: usize,
    bytes: usize,
    file: Option<BufWriter<File>>,
    count: usize,
    truncated: bool,
}

impl Sink {
    /// The columns of the rows that follow; a name that comes twice gets a number.
    fn columns(&mut self, columns: impl IntoIterator<Item = (String, String)>) {
        self.columns.clear();
        for (name, kind) in columns {
            let taken = |name: &str| self.columns.iter().any(|(known, _)| known == name);
            let mut unique = name.clone();
            let mut number = 2;
            while taken(&unique) {
                unique = format!("{name}_{number}");
                number += 1;
            }
            self.columns.push((unique, kind));
        }
    }

    /// Takes a row; whether it wants more.
    fn push(&mut self, values: Vec<Value>, call: &Call) -> Result<bool> {
        call.check()?;
        if self.file.is_none() && self.rows.len() == self.most {
            self.truncated = true;
            return Ok(false);
        }
        let row: Map<_, _> = self.columns.iter().map(|(name, _)| name.clone()).zip(values).collect();
        self.count += 1;
        if let Some(file) = &mut self.file {
            let line = serde_json::to_string(&row).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
            writeln!(file, "{line}").map_err(|e| Error::system("output_file", e))?;
            if self.count.is_multiple_of(100_000) {
                call.progress(format!("{} rows", self.count));
            }
            return Ok(true);
        }
        self.bytes += row.values().map(|value| value.as_str().map_or(8, str::len)).sum::<usize>();
        self.rows.push(row.into());
        if self.bytes > MAX_BYTES {
            self.truncated = true;
            return Ok(false);
        }
        Ok(true)
    }
}

/// Which engine, and where.
enum Place {
    Sqlite(String),
    Server { kind: &'static str, url: Url },
}

/// Asks or changes.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    let limited = params.timeout_seconds.map(|seconds| call.within(web::seconds(seconds)));
    let call = limited.as_ref().unwrap_or(call);
    let operation = params.operation;
    let write = matches!(operation, Operation::Execute | Operation::Transaction)
        || operation == Operation::Query && params.query_type != QueryType::Select;
    let statements = match operation {
        Operation::Schema => Vec::new(),
        Operation::Transaction if params.statements.is_empty() => {
            return Err(Error::new(Class::Usage, "statements: missing"));
        }
        Operation::Transaction => params.statements,
        _ => {
            let query = required(params.query.filter(|query| !query.trim().is_empty()), "query")?;
            vec![Statement { query, params: params.params }]
        }
    };
    let place = place(&params.database, call)?;
    if write && matches!(place, Place::Server { .. }) && !call.settings.database.allow_write {
        return Err(Error::new(Class::Denied, "database: changes are not allowed")
            .hint("Set tools.database.allow_write = true in the configuration."));
    }
    let file = match &params.output_file {
        Some(path) => {
            let options = OpenOptions::new().write(true).create(true).truncate(true).clone();
            Some(BufWriter::new(call.policy.open_write(&call.path(path), &options)?))
        }
        None => None,
    };
    let mut sink = Sink {
        columns: Vec::new(),
        rows: Vec::new(),
        most: params.max_rows,
        bytes: 0,
        file,
        count: 0,
        truncated: false,
    };
    let job = Job { statements, write, table: params.table };
    let started = Instant::now();
    let (kind, outcome) = match &place {
        Place::Sqlite(path) if operation == Operation::Schema => {
            ("sqlite", sqlite::schema(path, &job, call).map(Done::Tables))
        }
        Place::Sqlite(path) => ("sqlite", sqlite::run(path, &job, &mut sink, call).map(Done::Rows)),
        Place::Server { kind, url } => {
            let schema = operation == Operation::Schema;
            (*kind, rounds::wait(call, serve(kind, url, schema, &job, &mut sink, call)))
        }
    };
    let outcome = outcome.map_err(|error| call.check().err().unwrap_or(error))?;
    let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let now = timestamp(SystemTime::now());
    let answer = match outcome {
        Done::Tables(tables) => {
            let count = tables.len();
            let result =
                json!({"database": named(&params.database), "database_type": kind, "tables": tables, "timestamp": now});
            Answer::new("schema", result).message(format!("{count} tables"))
        }
        Done::Rows(affected) => {
            if let Some(file) = &mut sink.file {
                file.flush().map_err(|e| Error::system("output_file", e))?;
            }
            let columns: Vec<_> = sink.columns.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
            let result = json!({
                "database_type": kind, "status": "executed", "rows_affected": affected, "columns": columns,
                "row_count": sink.count, "results": sink.rows, "truncated": sink.truncated, "output_file": params.output_file,
                "execution_time_ms": took, "timestamp": now,
            });
            let message = if write { format!("{affected} rows changed") } else { format!("{} rows", sink.count) };
            Answer::new(word(&operation), result).message(message)
        }
    };
    Ok(answer)
}

enum Done {
    Rows(u64),
    Tables(Vec<Value>),
}

/// What a caller may see of `database`: no password.
fn named(database: &str) -> String {
    match Url::parse(database) {
        Ok(mut url) if url.password().is_some() => {
            _ = url.set_password(Some("********"));
            url.into()
        }
        _ => database.to_owned(),
    }
}

fn place(database: &str, call: &Call) -> Result<Place> {
    let connections = &call.settings.database.connections;
    let text = match connections.get(database) {
        Some(url) => url.clone(),
        None if database == "default" => {
            let names = ["DATABASE_POSTGRESQL_URL", "DATABASE_MYSQL_URL", "DATABASE_SQLITE_PATH", "DATABASE_URL"];
            names.iter().find_map(|name| std::env::var(name).ok()).ok_or_else(|| {
                Error::new(Class::Config, "database: no default connection")
                    .hint("Set tools.database.connections.default, or name a URL or a SQLite file.")
            })?
        }
        None => database.to_owned(),
    };
    let kind = match text.split_once(':').map(|(scheme, _)| scheme.to_lowercase()).as_deref() {
        Some("postgres" | "postgresql") => "postgresql",
        Some("mysql" | "mariadb") => "mysql",
        Some("sqlite") => {
            let path = text[7..].trim_start_matches("//");
            return Ok(Place::Sqlite(path.to_owned()));
        }
        _ if text.contains("://") => {
            return Err(Error::new(Class::Usage, "database: its URL is not of sqlite, postgres, mysql or mariadb"));
        }
        _ if text.contains(['/', '.']) || call.path(&text).exists() => return Ok(Place::Sqlite(text)),
        _ => {
            let names: Vec<_> = connections.keys().map(String::as_str).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Error::new(Class::Usage, format!("database: {database:?} is no connection, URL or path"))
                .hint(format!("Connections: {known}.")));
        }
    };
    let mut url = Url::parse(&text).map_err(|e| Error::new(Class::Usage, format!("database: not a URL: {e}")))?;
    // `$NAME` as the password is the variable NAME, so that no file need hold it.
    let variable = url.password().and_then(|password| {
        let password = decoded(password);
        password.strip_prefix('$').map(str::to_owned)
    });
    if let Some(name) = variable.filter(|_| connections.contains_key(database)) {
        let secret = std::env::var(&name).map_err(|_| {
            Error::new(Class::Config, format!("tools.database.connections.{database}: {name} is not set"))
        })?;
        _ = url.set_password(Some(&secret));
    }
    Ok(Place::Server { kind, url })
}

fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

/// What the URL of a server says.
struct Server {
    host: String,
    port: u16,
    user: String,
    password: Option<String>,
    database: Option<String>,
    tls: bool,
}

impl Server {
    fn new(url: &Url, port: u16, call: &Call) -> Result<(Self, Vec<std::net::SocketAddr>)> {
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| Error::new(Class::Usage, "database: its URL has no host"))?.to_owned();
        let port = url.port().unwrap_or(port);
        let addresses = call.policy.check_host(&host, port)?;
        let mut tls = addresses.iter().any(|address| !address.ip().is_loopback());
        for (name, value) in url.query_pairs() {
            match (
                name.to_lowercase().replace(['-', '_'], "").as_str(),
                value.to_lowercase().replace('_', "-").as_str(),
            ) {
                ("sslmode" | "ssl" | "tls", "disable" | "disabled" | "false" | "0") => tls = false,
                (
                    "sslmode" | "ssl" | "tls",
                    "require" | "required" | "verify-ca" | "verify-full" | "verify-identity" | "true" | "1",
                ) => {
                    tls = true;
                }
                ("sslmode" | "ssl" | "tls", _) => {
                    return Err(Error::new(Class::Usage, format!("database: {name}={value}: disable or require"))
                        .hint(
                            "With require the certificate is always verified; tools.ca_file names more authorities.",
                        ));
                }
                _ => {
                    return Err(Error::new(Class::Usage, format!("database: {name}: not a parameter of its URL"))
                        .hint("Known: sslmode=disable, sslmode=require."));
                }
            }
        }
        let name = decoded(url.path().trim_start_matches('/'));
        let server = Server {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            user: decoded(url.username()),
            password: url.password().map(decoded),
            database: Some(name).filter(|name| !name.is_empty()),
            tls,
        };
        Ok((server, addresses))
    }

    fn fault(&self, text: impl std::fmt::Display) -> Error {
        let text = text.to_string().replace('\n', " ");
        let text = match &self.password {
            Some(secret) if secret.len() > 2 => text.replace(secret.as_str(), "********"),
            _ => text,
        };
        Error::new(Class::Remote, format!("{}:{}: {text}", self.host, self.port))
    }
}

async fn serve(kind: &str, url: &Url, schema: bool, job: &Job, sink: &mut Sink, call: &Call) -> Result<Done> {
    match (kind, schema) {
        ("postgresql", true) => postgres::schema(url, job, call).await.map(Done::Tables),
        ("postgresql", false) => postgres::run(url, job, sink, call).await.map(Done::Rows),
        (_, true) => mysql::schema(url, job, call).await.map(Done::Tables),
        (_, false) => mysql::run(url, job, sink, call).await.map(Done::Rows),
    }
}

/// Whether `fd` is readable now; for what waits without a runtime.
fn poll(call: &Call, fd: std::os::fd::BorrowedFd<'_>) -> bool {
    call.cancel.poll(&[(fd, PollFlags::IN)], call.deadline).is_ok_and(|ready| !ready[0].is_empty())
}

/// The rows of `name, kind, column, type, nullable, primary_key, default` as tables.
fn tables(rows: impl IntoIterator<Item = [Value; 7]>) -> Vec<Value> {
    let mut tables: Vec<Value> = Vec::new();
    for [name, kind, column, data, nullable, key, default] in rows {
        if tables.last().is_none_or(|table| table["name"] != name) {
            tables.push(json!({"name": name, "kind": kind, "columns": []}));
        }
        let row = json!({"name": column, "type": data, "nullable": nullable, "primary_key": key, "default": default});
        if let Some(columns) = tables.last_mut().and_then(|table| table["columns"].as_array_mut()) {
            columns.push(row);
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, folder, run};
    use super::*;

    #[test]
    fn reading_changes_nothing_and_files_stay_inside() {
        let (dir, call) = folder();
        let sql = |operation: &str, query: &str| {
            run("database_connector", json!({"operation": operation, "database": "a.db", "query": query}), &call)
        };
        sql("execute", "CREATE TABLE t (x)").unwrap();
        for query in ["INSERT INTO t VALUES (1)", "DROP TABLE t", "PRAGMA user_version = 5", "DELETE FROM t"] {
            assert_eq!(sql("query", query).unwrap_err().class(), Class::Tool, "{query}");
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("b.db");
        for query in [format!("ATTACH '{}' AS b", target.display()), format!("VACUUM INTO '{}'", target.display())] {
            assert!(sql("execute", &query).is_err(), "{query}");
            assert!(!target.exists());
        }
        let error = sql("execute", "INSERT INTO t VALUES (1); DROP TABLE t").unwrap_err();
        assert!(error.text().contains("several statements"), "{error}");
        assert!(sql("query", "SELECT load_extension('x')").is_err());
        std::fs::write(dir.path().join("text.db"), "no database, but long enough to look at".repeat(50)).unwrap();
        let params = json!({"operation": "schema", "database": "text.db"});
        assert_eq!(run("database_connector", params, &call).unwrap_err().class(), Class::Tool);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "reading leaves no file behind");
    }

    #[test]
    fn values_keep_their_kinds_and_transactions_are_whole() {
        let (dir, call) = folder();
        let run = |params: Value| {
            let mut all = json!({"database": "sqlite:a.db"});
            all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
            run("database_connector", all, &call).map(|mut envelope| envelope["result"].take())
        };
        let values = json!([1, 1.5, "ä'", null, true, {"a": [1]}]);
        let query = "SELECT ?1 AS a, ?2 AS b, ?3 AS c, ?4 AS d, ?5 AS e, ?6 AS f, x'00ff' AS g, 1 AS a";
        run(json!({"operation": "execute", "query": "CREATE TABLE t (x UNIQUE)"})).unwrap();
        let got = run(json!({"operation": "query", "query": query, "params": values})).unwrap();
        let row = json!({"a": 1, "b": 1.5, "c": "ä'", "d": null, "e": 1, "f": "{\"a\":[1]}", "g": {"base64": "AP8="}, "a_2": 1});
        assert_eq!(got["results"], json!([row]));
        let insert = json!({"query": "INSERT INTO t VALUES (1)"});
        assert!(run(json!({"operation": "transaction", "statements": [insert, insert]})).is_err());
        let count = json!({"operation": "query", "query": "SELECT count(*) AS n FROM t"});
        assert_eq!(run(count).unwrap()["results"][0]["n"], 0, "nothing of it is left");
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n";
        let got = run(json!({"operation": "query", "query": many, "output_file": "rows.jsonl"})).unwrap();
        assert_eq!((&got["row_count"], &got["results"]), (&json!(5000), &json!([])));
        assert_eq!(
            std::fs::read_to_string(dir.path().join("rows.jsonl")).unwrap().lines().last(),
            Some("{\"i\":5000}")
        );
    }

    #[test]
    fn an_endless_query_ends_with_the_call() {
        let (_dir, call) = folder();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let make = json!({"operation": "execute", "database": "a.db", "query": "CREATE TABLE t (x)"});
        run("database_connector", make, &call).unwrap();
        let params = json!({"operation": "query", "database": "a.db", "query": endless, "timeout_seconds": 0.2});
        assert_eq!(run("database_connector", params.clone(), &call).unwrap_err().class(), Class::Timeout);
        let cancel = call.cancel.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            cancel.cancel();
        });
        let mut params = params;
        params["timeout_seconds"] = json!(3600);
        assert_eq!(run("database_connector", params, &call).unwrap_err().class(), Class::Interrupted);
        thread.join().unwrap();
    }

    #[test]
    fn wrong_calls_are_refused() {
        let query = |database: &str| json!({"operation": "query", "database": database, "query": "SELECT 1"});
        bad(
            "database_connector",
            &[
                (json!({}), Class::Usage),
                (json!({"operation": "query", "database": "a.db"}), Class::Usage),
                (json!({"operation": "transaction", "database": "a.db"}), Class::Usage),
                (query("nonsense"), Class::Usage),
                (query("oracle://h/d"), Class::Usage),
                (query("missing.db"), Class::NotFound),
                (query("/etc/passwd"), Class::Denied),
                (query("postgres://u:p@127.0.0.1/d"), Class::Denied),
                (query("mysql://u:p@127.0.0.1/d"), Class::Denied),
                (
                    json!({"operation": "execute", "database": "postgres://127.0.0.1/", "query": "DROP TABLE t"}),
                    Class::Denied,
                ),
                (json!({"operation": "query", "database": "a.db", "query": "SELECT 1", "params": "x"}), Class::Usage),
            ],
        );
        assert_eq!(named("postgres://u:geheim@h/d"), "postgres://u:********@h/d");
    }
}
