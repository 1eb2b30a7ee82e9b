//! Every example of the reference is run, and prints what it says.

use super::*;
use crate::engine::lua::api;

/// Takes what scripts show and send, as a notebook does.
#[derive(Default)]
struct Notebook(Kept);

impl Output for Notebook {
    fn write(&self, stream: Stream, bytes: &[u8]) -> Result<()> {
        self.0.write(stream, bytes)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn display(&self, _: &Display, _: bool) -> Result<()> {
        Ok(())
    }

    fn clear(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn input(&self, _: &str, _: bool) -> Result<Option<String>> {
        Ok(Some("typed".into()))
    }

    fn comm(&self, _: &crate::protocol::content::Comm) -> Result<()> {
        Ok(())
    }

    fn page(&self, _: &crate::engine::Inspected) -> Result<()> {
        Ok(())
    }

    fn next_input(&self, _: &str, _: bool) -> Result<()> {
        Ok(())
    }
}

/// What stands behind `-->` in an example.
fn promised(example: &str) -> Vec<String> {
    example.lines().filter_map(|line| Some(line.split_once("--> ")?.1.to_owned())).collect()
}

#[test]
fn examples_do_what_they_say() {
    for entry in api::entries().filter(|entry| !entry.example.is_empty()) {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Lua::new(runtime(folder.path(), |_, _| ())).unwrap();
        let output = Arc::new(Notebook::default());
        let args = Args { script: "t.lua".into(), words: vec!["a".into(), "b".into(), "--c=d".into()] };
        let script = Script { args: Some(args), allow_stdin: true, ..script(entry.example) };
        let outcome = engine.execute(&script, &(Arc::clone(&output) as Arc<dyn Output>));
        assert!(outcome.error.is_none(), "{}: {:?}", entry.name, outcome.error);
        let (promised, text) = (promised(entry.example), output.0.text());
        if !promised.is_empty() {
            assert_eq!(text.lines().collect::<Vec<_>>(), promised, "{}", entry.name);
        }
    }
}
