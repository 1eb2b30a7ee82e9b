//! PostgreSQL. Reading happens in a read-only transaction; time limits are the server's, too.

use std::future::Future;
use std::pin::Pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use rustls::pki_types::ServerName;
use serde_json::{Number, Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};
use url::Url;

use super::{Job, Server, Sink, tables};
use crate::error::{Class, Error, Result};
use crate::tools::{Call, net};

type Fault = Box<dyn std::error::Error + Sync + Send>;

/// What the server says, in one line.
fn fault(server: &Server, error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(said) => {
            let error =
                Error::new(Class::Tool, format!("{}: {} ({})", server.host, said.message(), said.code().code()));
            match said.hint() {
                Some(hint) => error.hint(hint.replace('\n', " ")),
                None => error,
            }
        }
        None => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            server.fault(cause.unwrap_or_else(|| error.to_string()))
        }
    }
}

/// Starts TLS over a connection that is there, as `tls_config` trusts.
struct Rustls {
    name: ServerName<'static>,
    config: std::sync::Arc<rustls::ClientConfig>,
}

struct Encrypted(tokio_rustls::client::TlsStream<TcpStream>);

impl TlsConnect<TcpStream> for Rustls {
    type Stream = Encrypted;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            tokio_rustls::TlsConnector::from(self.config).connect(self.name, stream).await.map(Encrypted)
        })
    }
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

async fn connect(url: &Url, call: &Call) -> Result<(Client, Server)> {
    let (server, addresses) = Server::new(url, 5432, call)?;
    let mut config = Config::new();
    config.user(if server.user.is_empty() { "postgres" } else { &server.user }).application_name("llmspell");
    if let Some(password) = &server.password {
        config.password(password);
    }
    if let Some(name) = &server.database {
        config.dbname(name);
    }
    // The addresses that were checked, no second look-up.
    let stream = TcpStream::connect(&addresses[..]).await.map_err(|e| server.fault(crate::error::reason(&e)))?;
    let client = if server.tls {
        config.ssl_mode(SslMode::Require);
        let name = ServerName::try_from(server.host.clone()).map_err(|e| server.fault(e))?;
        let tls = Rustls { name, config: net::tls_config(call.settings.ca_file.as_deref())? };
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(|e| {
            fault(&server, &e)
                .hint("Without TLS: add ?sslmode=disable. With a certificate of one's own: set tools.ca_file.")
        })?;
        tokio::spawn(connection);
        client
    } else {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|e| fault(&server, &e))?;
        tokio::spawn(connection);
        client
    };
    if let Some(left) = call.remaining() {
        // The server stops what nobody waits for any more.
        let set = format!("SET statement_timeout = {}", left.as_millis().max(1));
        client.batch_execute(&set).await.map_err(|e| fault(&server, &e))?;
    }
    Ok((client, server))
}

/// Runs the statements in one transaction; how many rows they changed.
pub(super) async fn run(url: &Url, job: &Job, sink: &mut Sink, call: &Call) -> Result<u64> {
    for one in &job.statements {
        let first =
            one.query.trim_start().split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_uppercase();
        if matches!(
            first.as_str(),
            "COPY" | "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "END" | "ABORT" | "SAVEPOINT" | "LISTEN"
        ) {
            return Err(Error::new(Class::Usage, format!("query: {first}: not supported here"))
                .hint("Statements run in one transaction of their own; transaction takes several."));
        }
    }
    let (client, server) = connect(url, call).await?;
    let wrong = |e: tokio_postgres::Error| fault(&server, &e);
    client.batch_execute(if job.write { "BEGIN" } else { "BEGIN READ ONLY" }).await.map_err(wrong)?;
    let mut affected = 0;
    for one in &job.statements {
        let statement = client.prepare(&one.query).await.map_err(wrong)?;
        let wanted = statement.params().len();
        if wanted != one.params.len() {
            return Err(Error::new(Class::Usage, format!("params: {} for {wanted} placeholders", one.params.len())));
        }
        if !statement.columns().is_empty() {
            sink.columns(
                statement.columns().iter().map(|column| (column.name().to_owned(), column.type_().name().to_owned())),
            );
        }
        let count = statement.columns().len();
        let rows = client.query_raw(&statement, one.params.iter().map(Bound)).await.map_err(wrong)?;
        let mut rows = std::pin::pin!(rows);
        let mut whole = true;
        while let Some(row) = rows.try_next().await.map_err(wrong)? {
            let values = (0..count)
                .map(|index| row.try_get::<_, Option<Cell>>(index).map(|cell| cell.map_or(Value::Null, |cell| cell.0)));
            if !sink.push(values.collect::<Result<_, _>>().map_err(wrong)?, call)? {
                whole = false;
                break;
            }
        }
        if whole {
            affected += rows.rows_affected().filter(|_| job.write).unwrap_or(0);
        } else if !job.write {
            // The rest is not wanted; neither is the connection.
            return Ok(0);
        }
    }
    client.batch_execute("COMMIT").await.map_err(wrong)?;
    Ok(affected)
}

/// The tables and views of all schemas but the system's.
pub(super) async fn schema(url: &Url, job: &Job, call: &Call) -> Result<Vec<Value>> {
    let (client, server) = connect(url, call).await?;
    let query = "SELECT CASE WHEN n.nspname = 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END, \
        CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END, a.attname, format_type(a.atttypid, a.atttypmod), \
        NOT a.attnotnull, coalesce(a.attnum = ANY(i.indkey), false), pg_get_expr(d.adbin, d.adrelid) \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
        LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped \
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' \
        AND ($1::text IS NULL OR c.relname = $1) ORDER BY n.nspname, c.relname, a.attnum";
    let rows = client.query(query, &[&job.table]).await.map_err(|e| fault(&server, &e))?;
    let row = |row: tokio_postgres::Row| {
        let cell = |index| row.try_get::<_, Option<Cell>>(index).ok().flatten().map_or(Value::Null, |cell| cell.0);
        [cell(0), cell(1), cell(2), cell(3), cell(4), cell(5), cell(6)]
    };
    Ok(tables(rows.into_iter().map(row)))
}

/// A parameter, sent as text that the server reads as the type it wants.
#[derive(Debug)]
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Fault> {
        let text = match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::String(text) if !matches!(*kind, Type::JSON | Type::JSONB) => text.clone(),
            Value::Array(items) if matches!(kind.kind(), Kind::Array(_)) => array(items),
            json => json.to_string(),
        };
        if text.contains('\0') {
            return Err("PostgreSQL has no text with a NUL".into());
        }
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// An array as PostgreSQL writes it.
fn array(items: &[Value]) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let item = |item: &Value| match item {
        Value::Null => "NULL".to_owned(),
        Value::Array(items) => array(items),
        Value::String(text) => quote(text),
        Value::Object(_) => quote(&item.to_string()),
        plain => plain.to_string(),
    };
    format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(","))
}

/// A value of any type as JSON.
struct Cell(Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Fault> {
        cell(kind, raw).map(Cell)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn cell(kind: &Type, raw: &[u8]) -> Result<Value, Fault> {
    match kind.kind() {
        Kind::Array(_) => {
            let items = Vec::<Option<Cell>>::from_sql(kind, raw)?;
            return Ok(items.into_iter().map(|item| item.map_or(Value::Null, |cell| cell.0)).collect());
        }
        Kind::Enum(_) => return Ok(std::str::from_utf8(raw)?.into()),
        Kind::Domain(inner) => return cell(inner, raw),
        _ => {}
    }
    let float = |value: f64| Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::from);
    Ok(match *kind {
        Type::BOOL => bool::from_sql(kind, raw)?.into(),
        Type::INT2 => i16::from_sql(kind, raw)?.into(),
        Type::INT4 => i32::from_sql(kind, raw)?.into(),
        Type::INT8 => i64::from_sql(kind, raw)?.into(),
        Type::OID => u32::from_sql(kind, raw)?.into(),
        // The shortest text that is this number, not its widening.
        Type::FLOAT4 => float(f32::from_sql(kind, raw)?.to_string().parse()?),
        Type::FLOAT8 => float(f64::from_sql(kind, raw)?),
        Type::NUMERIC => numeric(raw)?.into(),
        Type::JSON => serde_json::from_slice(raw)?,
        Type::JSONB => serde_json::from_slice(raw.get(1..).unwrap_or_default())?,
        Type::UUID => uuid::Uuid::from_slice(raw)?.to_string().into(),
        Type::BYTEA => json!({"base64": STANDARD.encode(raw)}),
        Type::DATE => date(i32::from_sql(&Type::INT4, raw)?.into()).into(),
        Type::TIME => clock(i64::from_sql(&Type::INT8, raw)?).into(),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let zone = if *kind == Type::TIMESTAMPTZ { "Z" } else { "" };
            moment(i64::from_sql(&Type::INT8, raw)?, zone).into()
        }
        Type::INTERVAL => interval(raw)?.into(),
        Type::INET | Type::CIDR => address(raw)?.into(),
        _ => match std::str::from_utf8(raw) {
            Ok(text) if text.chars().all(|c| !c.is_control() || c.is_whitespace()) => text.into(),
            _ => json!({"base64": STANDARD.encode(raw)}),
        },
    })
}

fn short(raw: &[u8], at: usize) -> Result<i16, Fault> {
    let two = raw.get(at..at + 2).ok_or("too short")?;
    Ok(i16::from_be_bytes(two.try_into()?))
}

/// Digits in groups of four; exact, therefore text.
fn numeric(raw: &[u8]) -> Result<String, Fault> {
    let (count, weight, sign, scale) = (short(raw, 0)?, short(raw, 2)?, short(raw, 4)?.cast_unsigned(), short(raw, 6)?);
    match sign {
        0xc000 => return Ok("NaN".into()),
        0xd000 => return Ok("Infinity".into()),
        0xf000 => return Ok("-Infinity".into()),
        _ => {}
    }
    let digit = |index: i32| -> Result<i16, Fault> {
        if (0..i32::from(count)).contains(&index) { short(raw, 8 + 2 * index as usize) } else { Ok(0) }
    };
    let mut text = String::new();
    for index in 0..=i32::from(weight.max(0)) {
        let group = if weight < 0 { 0 } else { digit(index)? };
        text.push_str(&if text.is_empty() { group.to_string() } else { format!("{group:04}") });
    }
    let whole = text.trim_start_matches('0');
    let mut text = if whole.is_empty() { "0".to_owned() } else { whole.to_owned() };
    if scale > 0 {
        let mut part = String::new();
        let mut index = i32::from(weight) + 1;
        while part.len() < scale as usize {
            part.push_str(&format!("{:04}", digit(index)?));
            index += 1;
        }
        part.truncate(scale as usize);
        text = format!("{text}.{part}");
    }
    Ok(if sign == 0x4000 { format!("-{text}") } else { text })
}

/// Days since 2000 as a date (Howard Hinnant's civil_from_days).
fn date(days: i64) -> String {
    match days {
        days if days == i64::from(i32::MAX) => return "infinity".into(),
        days if days == i64::from(i32::MIN) => return "-infinity".into(),
        _ => {}
    }
    // Since 0000-03-01.
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year < 1 { format!("{:04}-{month:02}-{day:02} BC", 1 - year) } else { format!("{year:04}-{month:02}-{day:02}") }
}

fn clock(micros: i64) -> String {
    let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let part = if rest == 0 { String::new() } else { format!(".{rest:06}").trim_end_matches('0').to_owned() };
    format!("{:02}:{:02}:{:02}{part}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn moment(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        _ => {
            const DAY: i64 = 86_400_000_000;
            format!("{}T{}{zone}", date(micros.div_euclid(DAY)), clock(micros.rem_euclid(DAY)))
        }
    }
}

/// ISO 8601.
fn interval(raw: &[u8]) -> Result<String, Fault> {
    let micros = i64::from_be_bytes(raw.get(..8).ok_or("too short")?.try_into()?);
    let days = i32::from_be_bytes(raw.get(8..12).ok_or("too short")?.try_into()?);
    let months = i32::from_be_bytes(raw.get(12..16).ok_or("too short")?.try_into()?);
    Ok(format!("P{months}M{days}DT{}S", micros as f64 / 1e6))
}

fn address(raw: &[u8]) -> Result<String, Fault> {
    let [_, bits, cidr, size, bytes @ ..] = raw else { return Err("too short".into()) };
    let ip: std::net::IpAddr = match (size, bytes) {
        (4, bytes) => <[u8; 4]>::try_from(bytes)?.into(),
        (_, bytes) => <[u8; 16]>::try_from(bytes)?.into(),
    };
    let full = if ip.is_ipv4() { 32 } else { 128 };
    Ok(if *cidr == 0 && *bits == full { ip.to_string() } else { format!("{ip}/{bits}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_numbers_are_written_as_the_server_does() {
        for (days, text) in [
            (0, "2000-01-01"),
            (-1, "1999-12-31"),
            (59, "2000-02-29"),
            (8780, "2024-01-15"),
            (-730_426, "0001-02-29 BC"),
        ] {
            assert_eq!(date(days), text);
        }
        assert_eq!(moment(-1, "Z"), "1999-12-31T23:59:59.999999Z");
        assert_eq!(clock(37_800_500_000), "10:30:00.5");
        let numeric =
            |parts: &[u16]| numeric(&parts.iter().flat_map(|part| part.to_be_bytes()).collect::<Vec<_>>()).unwrap();
        assert_eq!(numeric(&[2, 1, 0, 2, 12, 3456]), "123456.00");
        assert_eq!(numeric(&[2, 0, 0x4000, 3, 1, 500]), "-1.050");
        assert_eq!(numeric(&[1, 0xffff, 0, 4, 12]), "0.0012");
        assert_eq!(numeric(&[0, 0, 0, 0]), "0");
        assert_eq!(array(&[json!("a\"b"), json!(null), json!([1, true])]), "{\"a\\\"b\",NULL,{1,true}}");
    }
}
