//! SQLite: files the policy lets read, or write for what changes them. Other files cannot be attached.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Statement, params_from_iter};
use serde_json::{Value, json};

use super::{Job, Sink, poll, tables};
use crate::error::{Class, Error, Result};
use crate::tools::Call;

fn fault(path: &str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| Error::new(Class::Tool, format!("{path}: {}", error.to_string().replace('\n', " ")))
}

fn open(path: &str, write: bool, call: &Call) -> Result<Connection> {
    let (real, mode) = if write {
        (call.writable(path)?, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    } else {
        (call.readable(path)?, OpenFlags::SQLITE_OPEN_READ_ONLY)
    };
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(real, flags).map_err(fault(path))?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0).map_err(fault(path))?;
    let patience = call.remaining().unwrap_or(std::time::Duration::from_secs(30));
    connection.busy_timeout(patience.min(std::time::Duration::from_secs(600))).map_err(fault(path))?;
    Ok(connection)
}

/// Interrupts the connection when the call ends before `work` does.
fn watched<T>(connection: &Connection, call: &Call, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let handle = connection.get_interrupt_handle();
    let (ended, bell) = std::io::pipe().map_err(|e| Error::system("pipe", e))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The pipe is closed when the work is done.
            poll(call, std::os::fd::AsFd::as_fd(&ended));
            if !done.load(Ordering::Acquire) {
                handle.interrupt();
            }
        });
        let result = work();
        done.store(true, Ordering::Release);
        drop(bell);
        result
    })
}

/// A value as SQLite knows it; lists and objects are JSON text.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Bool(truth) => ToSqlOutput::Borrowed(ValueRef::Integer((*truth).into())),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => ToSqlOutput::Borrowed(ValueRef::Integer(whole)),
                (None, real) => ToSqlOutput::Borrowed(ValueRef::Real(real.unwrap_or(f64::NAN))),
            },
            Value::String(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            json => ToSqlOutput::from(json.to_string()),
        })
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(whole) => whole.into(),
        // No number of JSON: infinite.
        ValueRef::Real(real) => serde_json::Number::from_f64(real).map_or_else(|| real.to_string().into(), Value::from),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

/// The only statement in `query`.
fn prepare<'a>(connection: &'a Connection, query: &str, path: &str) -> Result<Statement<'a>> {
    connection.prepare(query).map_err(|error| match error {
        rusqlite::Error::MultipleStatement => Error::new(Class::Usage, "query: several statements")
            .hint("Give them as statements of the operation transaction."),
        error => fault(path)(error),
    })
}

fn step(connection: &Connection, job: &Job, path: &str, sink: &mut Sink, call: &Call) -> Result<u64> {
    let mut affected = 0;
    for one in &job.statements {
        let mut statement = prepare(connection, &one.query, path)?;
        let wanted = statement.parameter_count();
        if wanted != one.params.len() {
            return Err(Error::new(Class::Usage, format!("params: {} for {wanted} placeholders", one.params.len())));
        }
        let bound = params_from_iter(one.params.iter().map(Bound));
        if statement.column_count() == 0 {
            affected += statement.execute(bound).map_err(fault(path))? as u64;
            continue;
        }
        let columns: Vec<_> = statement
            .columns()
            .iter()
            .map(|column| (column.name().to_owned(), column.decl_type().unwrap_or_default().to_owned()))
            .collect();
        let count = columns.len();
        sink.columns(columns);
        let changes = connection.total_changes();
        {
            let mut rows = statement.query(bound).map_err(fault(path))?;
            while let Some(row) = rows.next().map_err(fault(path))? {
                let values = (0..count).map(|index| row.get_ref(index).map(value));
                if !sink.push(values.collect::<Result<_, _>>().map_err(fault(path))?, call)? {
                    break;
                }
            }
        }
        affected += connection.total_changes() - changes;
    }
    Ok(affected)
}

/// Runs the statements, all or none; how many rows they changed.
pub(super) fn run(path: &str, job: &Job, sink: &mut Sink, call: &Call) -> Result<u64> {
    let connection = open(path, job.write, call)?;
    watched(&connection, call, || {
        let together = job.statements.len() > 1;
        if together {
            connection.execute_batch("BEGIN IMMEDIATE").map_err(fault(path))?;
        }
        let affected = step(&connection, job, path, sink, call);
        if together {
            let end = if affected.is_ok() { "COMMIT" } else { "ROLLBACK" };
            let ended = connection.execute_batch(end).map_err(fault(path));
            affected.and_then(|affected| ended.map(|()| affected))
        } else {
            affected
        }
    })
}

/// The tables and views.
pub(super) fn schema(path: &str, job: &Job, call: &Call) -> Result<Vec<Value>> {
    let connection = open(path, false, call)?;
    let query = "SELECT m.name, m.type, c.name, c.type, NOT c.\"notnull\", c.pk > 0, c.dflt_value \
        FROM sqlite_schema m JOIN pragma_table_xinfo(m.name) c \
        WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND (?1 IS NULL OR m.name = ?1) \
        ORDER BY m.name, c.cid";
    watched(&connection, call, || {
        let mut statement = connection.prepare(query).map_err(fault(path))?;
        let rows = statement.query_map([&job.table], |row| {
            let text = |index| Ok::<_, rusqlite::Error>(value(row.get_ref(index)?));
            let flag = |index| Ok::<_, rusqlite::Error>(Value::from(row.get::<_, bool>(index)?));
            Ok([text(0)?, text(1)?, text(2)?, text(3)?, flag(4)?, flag(5)?, text(6)?])
        });
        let rows = rows.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>).map_err(fault(path))?;
        Ok(tables(rows))
    })
}
