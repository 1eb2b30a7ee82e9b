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

/// Sections each of whose functions stands in an example.
const SHOWN: &[&str] =
    &["THE SCRIPT", "TOOL", "STATE", "JSON", "CONFIG", "LOGGER", "DEBUG", "STREAMING", "DISPLAY", "COMM"];

#[test]
fn every_function_of_ours_has_an_example() {
    let ours: Vec<_> = api::SECTIONS.iter().filter(|section| SHOWN.contains(&section.title)).collect();
    assert_eq!(ours.len(), SHOWN.len());
    let shown = |entry: &&api::Entry| {
        let (_, name) = entry.name.rsplit_once('.').unwrap_or(("", entry.name));
        let mut examples = ours.iter().flat_map(|section| section.rows).map(|row| row.example);
        examples.any(|example| [":", "."].iter().any(|sign| example.contains(&format!("{sign}{name}"))))
            || !entry.example.is_empty()
    };
    let functions = ours.iter().flat_map(|section| section.rows).filter(|entry| !entry.signature.is_empty());
    let without: Vec<_> = functions.filter(|entry| !shown(entry)).map(|entry| entry.name).collect();
    assert!(without.is_empty(), "in no example: {without:?}");
}

#[test]
fn examples_do_what_they_say() {
    let mut wrong = String::new();
    for entry in api::entries().filter(|entry| !entry.example.is_empty()) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime(folder.path(), |_, _| ());
        runtime.state.keep_in(folder.path().join("state.db"));
        let mut engine = Lua::new(runtime).unwrap();
        let output = Arc::new(Notebook::default());
        let args = Args { script: "t.lua".into(), words: vec!["a".into(), "b".into(), "--c=d".into()] };
        let script = Script { args: Some(args), allow_stdin: true, ..script(entry.example) };
        let outcome = engine.execute(&script, &(Arc::clone(&output) as Arc<dyn Output>));
        if let Some(error) = outcome.error {
            wrong.push_str(&format!("{}: {}\n", entry.name, error.evalue));
        }
        let (promised, text) = (promised(entry.example), output.0.text());
        if !promised.is_empty() && text.lines().ne(promised.iter().map(String::as_str)) {
            wrong.push_str(&format!(
                "{}: {:?} instead of {promised:?}\n",
                entry.name,
                text.lines().collect::<Vec<_>>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
