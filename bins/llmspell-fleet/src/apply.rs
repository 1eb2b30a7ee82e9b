//! `apply` and `scale`: showing what would be done, and doing it.

use std::io::{Read, Write};
use std::path::Path;

use llmspell::cli::{Talk, print, report};
use llmspell::error::{Error, Result};
use llmspell::fleet::apply::{self, Action, Done, Plan, Turn};
use llmspell::fleet::desired::{self, Desired, Surroundings};
use serde_json::{Value, json};

use crate::{Fleet, Outcome, PROGRAM, cli, show};

/// Something to do, as `--detailed-exitcode` tells it.
const CHANGES: u8 = 2;

impl Fleet {
    pub(crate) fn apply(&self, file: &Path, prune: bool, adopt: bool, change: &cli::Change) -> Result<u8> {
        let desired = self.desired(file)?;
        let groups: Vec<String> = desired.names.iter().cloned().chain([format!("@{}", desired.fleet)]).collect();
        self.change(&desired.fleet, &groups, change, &|| apply::plan(&self.home, &self.here, &desired, prune, adopt))
    }

    pub(crate) fn scale(&self, name: &str, count: usize, change: &cli::Change) -> Result<u8> {
        llmspell::home::check_id(name)?;
        self.change(name, &[name.to_owned()], change, &|| apply::scale(&self.home, &self.here, name, count))
    }

    fn desired(&self, file: &Path) -> Result<Desired> {
        let folder = std::env::current_dir().map_err(|e| Error::system("working folder", e))?;
        let (text, folder, name) = if file == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| Error::system("standard input", e))?;
            (text, folder, "standard input".to_owned())
        } else {
            let text = std::fs::read_to_string(file).map_err(|e| Error::io(file, e))?;
            let whole = folder.join(file);
            (text, whole.parent().unwrap_or(&folder).to_owned(), file.display().to_string())
        };
        let variable = |name: &str| std::env::var(name).ok();
        desired::read(&text, &Surroundings { name: &name, folder: &folder, home: &self.home, variable: &variable })
    }

    fn change(
        &self,
        what: &str,
        groups: &[String],
        change: &cli::Change,
        plan: &dyn Fn() -> Result<Plan>,
    ) -> Result<u8> {
        if change.dry_run {
            let plan = plan()?;
            if self.json {
                show::document(document(what, &plan, true, rows(&plan)))?;
            } else {
                print(&(shown(&plan) + &summary(what, &plan)))?;
            }
            return Ok(if change.detailed && !plan.is_empty() { CHANGES } else { 0 });
        }
        let _turn = Turn::take(&self.home, groups, &mut |name| {
            if self.talk != Talk::Quiet {
                let name = name.trim_start_matches('@');
                let _ = writeln!(std::io::stderr(), "{PROGRAM}: waits for another that changes {name}");
            }
        })?;
        let plan = plan()?;
        let total = plan.changes.len() - plan.count(Action::Keep);
        let (mut outcome, mut results, mut printed) = (Outcome::default(), Vec::new(), Ok(()));
        apply::roll(&self.home, &self.here, &plan, &change.rules, &mut |change, done| {
            self.progress("");
            let mut row = row(change);
            match done {
                Ok(done) => {
                    outcome.done += 1;
                    let (word, pid) = word(&done);
                    row["result"] = word.into();
                    row["pid"] = json!(pid);
                    let pid = pid.map(|pid| format!(" with PID {pid}")).unwrap_or_default();
                    let why = Some(change.reasons.join("; ")).filter(|why| !why.is_empty());
                    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
                    if !self.json && printed.is_ok() {
                        printed = print(&format!("{}: {word}{pid}{why}\n", change.id));
                    }
                }
                Err(error) => {
                    row["failed"] = show::error(&error);
                    report(PROGRAM, &error);
                    outcome.failed.push(error);
                }
            }
            results.push(row);
            self.progress(&format!("{} of {total} changes are made", outcome.done));
        });
        self.progress("");
        printed?;
        let left = total - outcome.done - outcome.failed.len();
        if self.json {
            let kept = plan.changes.iter().filter(|change| change.action == Action::Keep);
            results.extend(kept.map(row));
            let mut document = document(what, &plan, false, results);
            document["undone"] = left.into();
            show::document(document)?;
        } else if outcome.failed.is_empty() {
            print(&summary(what, &plan))?;
        }
        if left > 0 && !outcome.failed.is_empty() && self.talk != Talk::Quiet {
            let text = format!("{PROGRAM}: {left} more changes were not made; the same command goes on with them\n");
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        // What was done does not make the failure that ended it less.
        Ok(outcome.failed.first().map_or(0, |error| error.class().row().exit))
    }
}

/// A line for each kernel that something is done to.
fn shown(plan: &Plan) -> String {
    let changes = apply::sorted(plan);
    let changes: Vec<_> = changes.into_iter().filter(|change| change.action != Action::Keep).collect();
    let width = changes.iter().map(|change| change.id.len()).max().unwrap_or(0);
    let line = |change: &&apply::Change| {
        let sign = match change.action {
            Action::Create | Action::Start => '+',
            Action::Stop | Action::Remove => '-',
            _ => '~',
        };
        let why = if change.reasons.is_empty() { String::new() } else { format!(": {}", change.reasons.join("; ")) };
        format!("{sign} {:width$}  {}{why}\n", change.id, change.action.name())
    };
    changes.iter().map(line).collect()
}

/// `shop: 1 to create, 2 unchanged`, or what was done, which has the same numbers.
fn summary(what: &str, plan: &Plan) -> String {
    let actions =
        [Action::Create, Action::Start, Action::Update, Action::Restart, Action::Stop, Action::Remove, Action::Keep];
    let parts: Vec<String> = actions
        .iter()
        .map(|action| (plan.count(*action), action.name()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let text = match (plan.is_empty(), parts.is_empty()) {
        (true, true) => "nothing to do".to_owned(),
        (true, false) => format!("nothing to do, {}", parts.join(", ")),
        _ => parts.join(", "),
    };
    let left = match &plan.left[..] {
        [] => String::new(),
        left => format!("{what}: not in the file, and left: {}; --prune removes them\n", left.join(", ")),
    };
    format!("{what}: {text}\n{left}")
}

fn rows(plan: &Plan) -> Vec<Value> {
    apply::sorted(plan).into_iter().map(row).collect()
}

fn row(change: &apply::Change) -> Value {
    json!({ "id": change.id, "action": change.action.name(), "reasons": change.reasons })
}

fn document(what: &str, plan: &Plan, dry_run: bool, changes: Vec<Value>) -> Value {
    json!({ "name": what, "dry_run": dry_run, "changes": changes, "left": plan.left })
}

/// What was done in a word, and the PID of what runs since.
fn word(done: &Done) -> (&'static str, Option<i32>) {
    match done {
        Done::Started(spawned) => ("started", Some(spawned.ready.pid)),
        Done::Restarted(spawned) => ("restarted", Some(spawned.ready.pid)),
        Done::Updated => ("updated", None),
        Done::Stopped(_) => ("stopped", None),
        Done::Removed => ("removed", None),
        Done::Nothing => ("unchanged", None),
    }
}
