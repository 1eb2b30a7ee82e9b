//! MySQL and MariaDB. Reading happens in a session that is read-only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Conn, OptsBuilder, Params, SslOpts};
use serde_json::{Number, Value, json};
use url::Url;

use super::{Job, Server, Sink, tables};
use crate::error::{Class, Error, Result};
use crate::tools::Call;

fn fault(server: &Server, error: &mysql_async::Error) -> Error {
    match error {
        mysql_async::Error::Server(said) => {
            Error::new(Class::Tool, format!("{}: {} ({})", server.host, said.message.replace('\n', " "), said.code))
        }
        error => server.fault(error),
    }
}

async fn connect(url: &Url, call: &Call) -> Result<(Conn, Server)> {
    let (server, addresses) = Server::new(url, 3306, call)?;
    let mut last = None;
    for address in addresses {
        // The address that was checked stands for the name; the certificate is still that of the name.
        let tls = server.tls.then(|| {
            let options = SslOpts::default().with_danger_tls_hostname_override(Some(server.host.clone()));
            match &call.settings.ca_file {
                Some(file) => options.with_root_certs(vec![file.clone().into()]),
                None => options,
            }
        });
        let options = OptsBuilder::default()
            .ip_or_hostname(address.ip().to_string())
            .tcp_port(server.port)
            .user(Some(&server.user))
            .pass(server.password.as_deref())
            .db_name(server.database.as_deref())
            .prefer_socket(Some(false))
            .ssl_opts(tls);
        match Conn::new(options).await {
            Ok(connection) => return Ok((connection, server)),
            // Another address would say the same.
            Err(error @ mysql_async::Error::Server(_)) => return Err(fault(&server, &error)),
            Err(error) => last = Some(fault(&server, &error)),
        }
    }
    Err(last.unwrap_or_else(|| server.fault("no address")))
}

/// Runs the statements in one transaction; how many rows they changed.
pub(super) async fn run(url: &Url, job: &Job, sink: &mut Sink, call: &Call) -> Result<u64> {
    if !job.write {
        // Writes a file of the server, whatever the transaction.
        let text = job.statements.iter().map(|one| one.query.to_lowercase()).collect::<Vec<_>>().join(" ");
        let words: Vec<_> = text.split_whitespace().collect();
        if words.windows(2).any(|pair| pair[0] == "into" && matches!(pair[1], "outfile" | "dumpfile")) {
            return Err(Error::new(Class::Denied, "query: INTO OUTFILE writes a file"));
        }
    }
    let (mut connection, server) = connect(url, call).await?;
    let wrong = |e: mysql_async::Error| fault(&server, &e);
    if !job.write {
        connection.query_drop("SET SESSION TRANSACTION READ ONLY").await.map_err(wrong)?;
    }
    connection.query_drop("START TRANSACTION").await.map_err(wrong)?;
    let mut affected = 0;
    for one in &job.statements {
        let statement = connection.prep(&one.query[..]).await.map_err(wrong)?;
        let wanted = usize::from(statement.num_params());
        if wanted != one.params.len() {
            return Err(Error::new(Class::Usage, format!("params: {} for {wanted} placeholders", one.params.len())));
        }
        let values: Vec<_> = one.params.iter().map(bound).collect();
        let params = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
        let mut result = connection.exec_iter(&statement, params).await.map_err(wrong)?;
        let columns = result.columns_ref().to_vec();
        if columns.is_empty() {
            affected += result.affected_rows();
            result.drop_result().await.map_err(wrong)?;
            continue;
        }
        sink.columns(columns.iter().map(|column| (column.name_str().into_owned(), type_name(column))));
        while let Some(row) = result.next().await.map_err(wrong)? {
            let values =
                row.unwrap().into_iter().zip(&columns).map(|(value, column)| json_value(value, column)).collect();
            if !sink.push(values, call)? {
                if !job.write {
                    // The rest is not wanted; neither is the connection.
                    return Ok(0);
                }
                break;
            }
        }
        result.drop_result().await.map_err(wrong)?;
    }
    connection.query_drop("COMMIT").await.map_err(wrong)?;
    // It said all there is to say; how it takes leave is no matter.
    drop(connection.disconnect().await);
    Ok(affected)
}

/// The tables and views of the database of the URL, or of all that are not the system's.
pub(super) async fn schema(url: &Url, job: &Job, call: &Call) -> Result<Vec<Value>> {
    let (mut connection, server) = connect(url, call).await?;
    let query = "SELECT IF(t.table_schema = DATABASE(), t.table_name, CONCAT(t.table_schema, '.', t.table_name)), \
        IF(t.table_type LIKE '%VIEW%', 'view', 'table'), c.column_name, c.column_type, c.is_nullable = 'YES', \
        c.column_key = 'PRI', c.column_default \
        FROM information_schema.tables t JOIN information_schema.columns c \
        ON c.table_schema = t.table_schema AND c.table_name = t.table_name \
        WHERE (t.table_schema = DATABASE() OR DATABASE() IS NULL \
        AND t.table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')) \
        AND (? IS NULL OR t.table_name = ?) ORDER BY t.table_schema, t.table_name, c.ordinal_position";
    let rows: Vec<mysql_async::Row> =
        connection.exec(query, (&job.table, &job.table)).await.map_err(|e| fault(&server, &e))?;
    let row = |row: mysql_async::Row| {
        let cell = |index: usize| match row.as_ref(index) {
            Some(mysql_async::Value::Bytes(text)) => String::from_utf8_lossy(text).into(),
            Some(mysql_async::Value::Int(number)) => Value::from(*number != 0),
            _ => Value::Null,
        };
        [cell(0), cell(1), cell(2), cell(3), cell(4), cell(5), cell(6)]
    };
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    drop(connection.disconnect().await);
    Ok(tables(rows))
}

fn bound(value: &Value) -> mysql_async::Value {
    match value {
        Value::Null => mysql_async::Value::NULL,
        Value::Bool(truth) => mysql_async::Value::Int((*truth).into()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => mysql_async::Value::Int(whole),
            (None, Some(whole)) => mysql_async::Value::UInt(whole),
            (None, None) => mysql_async::Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => mysql_async::Value::Bytes(text.clone().into_bytes()),
        json => mysql_async::Value::Bytes(json.to_string().into_bytes()),
    }
}

/// `MYSQL_TYPE_VAR_STRING` as `var_string`.
fn type_name(column: &Column) -> String {
    let name = format!("{:?}", column.column_type()).to_lowercase();
    let name = name.strip_prefix("mysql_type_").unwrap_or(&name);
    // The code for blobs also stands for texts; the character set 63 is that of bytes.
    match (name, column.character_set()) {
        ("blob" | "tiny_blob" | "medium_blob" | "long_blob", set) if set != 63 => "text".into(),
        (name, _) => name.to_owned(),
    }
}

fn json_value(value: mysql_async::Value, column: &Column) -> Value {
    let float = |value: f64| Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::from);
    match value {
        mysql_async::Value::NULL => Value::Null,
        mysql_async::Value::Int(whole) => whole.into(),
        mysql_async::Value::UInt(whole) => whole.into(),
        mysql_async::Value::Float(real) => float(real.to_string().parse().unwrap_or(f64::from(real))),
        mysql_async::Value::Double(real) => float(real),
        mysql_async::Value::Date(year, month, day, hour, minute, second, micros) => {
            let day = format!("{year:04}-{month:02}-{day:02}");
            match column.column_type() {
                ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => day.into(),
                _ => format!("{day}T{hour:02}:{minute:02}:{second:02}{}", part(micros)).into(),
            }
        }
        mysql_async::Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let sign = if negative { "-" } else { "" };
            let hours = days * 24 + u32::from(hours);
            format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", part(micros)).into()
        }
        mysql_async::Value::Bytes(bytes) => {
            let binary = column.character_set() == 63 && column.flags().contains(ColumnFlags::BINARY_FLAG);
            let plain =
                matches!(column.column_type(), ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL);
            if column.column_type() == ColumnType::MYSQL_TYPE_JSON {
                return serde_json::from_slice(&bytes).unwrap_or_default();
            }
            match String::from_utf8(bytes) {
                Ok(text) if plain || !binary => text.into(),
                Ok(text) => json!({"base64": STANDARD.encode(text)}),
                Err(error) => json!({"base64": STANDARD.encode(error.as_bytes())}),
            }
        }
    }
}

fn part(micros: u32) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}") }
}
