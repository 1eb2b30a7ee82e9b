//! `Comm`: what is sent, who hears.

use serde_json::{Value, json};

use super::*;
use crate::protocol::content::{Comm, CommContent, CommKind, Display};

/// Keeps what comms send.
#[derive(Default)]
struct Client(Mutex<Vec<Comm>>, Kept);

impl Output for Client {
    fn write(&self, stream: Stream, bytes: &[u8]) -> Result<()> {
        self.1.write(stream, bytes)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn display(&self, display: &Display, update: bool) -> Result<()> {
        self.1.display(display, update)
    }

    fn clear(&self, wait: bool) -> Result<()> {
        self.1.clear(wait)
    }

    fn input(&self, _: &str, _: bool) -> Result<Option<String>> {
        Ok(None)
    }

    fn comm(&self, message: &Comm) -> Result<()> {
        self.0.lock().unwrap().push(message.clone());
        Ok(())
    }
}

fn message(kind: CommKind, id: &str, data: Value) -> Comm {
    let target_name = (kind == CommKind::Open).then(|| "t".to_owned());
    let content = CommContent { comm_id: id.into(), target_name, data };
    Comm { kind, content, metadata: json!({"m": 1}), buffers: vec![b"\0\xff".to_vec()] }
}

#[test]
fn a_client_opens_talks_and_closes() {
    let mut lua = engine();
    let client = Arc::new(Client::default());
    let output: Arc<dyn Output> = Arc::clone(&client) as _;
    assert!(lua.comm(&message(CommKind::Open, "c", json!({})), None, &output).is_none());
    let code = "Comm.register('t', function(comm, msg)
            print('open', comm.id, comm.target, msg.data.x, msg.metadata.m, #msg.buffers[1])
            comm:on_msg(function(msg) comm:send({echo = msg.data.x}, {k = 'v'}, {msg.buffers[1]}) end)
            comm:on_close(function(msg) print('closed', msg.data.x) end)
        end)";
    assert!(lua.execute(&script(code), &output).error.is_none());
    assert!(lua.comm(&message(CommKind::Open, "c", json!({"x": 1})), None, &output).unwrap().error.is_none());
    assert_eq!(lua.comms(), [("c".into(), "t".into())]);
    lua.comm(&message(CommKind::Msg, "c", json!({"x": 2})), None, &output).unwrap();
    assert!(lua.comm(&message(CommKind::Msg, "other", json!({})), None, &output).is_none());
    lua.comm(&message(CommKind::Close, "c", json!({"x": 3})), None, &output).unwrap();
    assert!(lua.comms().is_empty());
    assert!(lua.comm(&message(CommKind::Msg, "c", json!({})), None, &output).is_none());
    assert_eq!(client.1.text(), "open\tc\tt\t1\t1\t2\nclosed\t3\n");
    let sent = client.0.lock().unwrap();
    assert_eq!((sent.len(), sent[0].kind), (1, CommKind::Msg));
    assert_eq!((&sent[0].content.data, &sent[0].metadata), (&json!({"echo": 2}), &json!({"k": "v"})));
    assert_eq!(sent[0].buffers, [b"\0\xff"]);
}

#[test]
fn a_script_opens_and_closes() {
    let mut lua = engine();
    let client = Arc::new(Client::default());
    let output: Arc<dyn Output> = Arc::clone(&client) as _;
    let code = "c = Comm.open('w', {a = 1}) c:send() assert(Comm.list()[c.id] == 'w') c:close({b = 2}) assert(not next(Comm.list()))";
    assert!(lua.execute(&script(code), &output).error.is_none());
    let kinds: Vec<_> = client.0.lock().unwrap().iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [CommKind::Open, CommKind::Msg, CommKind::Close]);
    assert_eq!(client.0.lock().unwrap()[0].content.target_name.as_deref(), Some("w"));
    assert_eq!(client.0.lock().unwrap()[1].content.data, json!({}));
    for code in ["c:send()", "c.send({})", "Comm.open('w', print)", "Comm.open('w', {}, {1})", "Comm.register('t')"] {
        assert_eq!(lua.execute(&script(code), &output).error.unwrap().class, Class::Usage, "{code}");
    }
    // Where nobody is at the other end.
    let outcome = run(&mut lua, "local ok, e = pcall(Comm.open, 'w') print(ok, e.class, next(Comm.list()))");
    assert_eq!(outcome.1, "false\tdenied\tnil\n");
}

#[test]
fn a_handler_that_fails_is_told_of() {
    let mut lua = engine();
    let output: Arc<dyn Output> = Arc::new(Client::default());
    lua.execute(&script("Comm.register('t', function() error('boom') end)"), &output);
    let outcome = lua.comm(&message(CommKind::Open, "c", json!({})), None, &output).unwrap();
    assert!(outcome.error.unwrap().evalue.contains("boom"));
    assert!(lua.comms().is_empty());
}
