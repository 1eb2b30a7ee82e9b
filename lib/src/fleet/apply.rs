//! From what there is to what is wanted: the difference, and carrying it out step by step. Nothing of it is kept but
//! the records of the kernels: whoever is killed at it, the next one finds what is left to do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::cleanup::forget_kernel;
use super::desired::Desired;
use super::process::Here;
use super::restart::{check_config, drop_kept, replace, settled};
use super::spawn::{Spawned, create};
use super::stop::{End, stop};
use super::survey::{Condition, Kernel, natural, survey, unknown};
use super::wanted::{Claim, Wanted, digest};
use crate::error::{Class, Error, Result};
use crate::home::Home;
use crate::units;

/// What is done to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It is known and does not run.
    Start,
    /// Only its record changes.
    Update,
    /// It ends and starts again.
    Restart,
    /// It ends and stays known.
    Stop,
    /// It ends and is forgotten.
    Remove,
    /// Nothing.
    Keep,
}

impl Action {
    /// Its name in lists and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Start => "start",
            Action::Update => "update",
            Action::Restart => "restart",
            Action::Stop => "stop",
            Action::Remove => "remove",
            Action::Keep => "unchanged",
        }
    }

    /// New ones come first: what cannot start at all ends the change before anything that serves is touched.
    fn phase(self) -> usize {
        match self {
            Action::Create | Action::Start => 0,
            Action::Update | Action::Restart => 1,
            Action::Stop | Action::Remove | Action::Keep => 2,
        }
    }
}

/// What is done to one kernel, and why.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its id.
    pub id: String,
    /// What.
    pub action: Action,
    /// Why, in words.
    pub reasons: Vec<String>,
    goal: Option<Wanted>,
    /// Its port was asked for: no other will do.
    fixed: bool,
}

/// A difference.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every kernel it is about.
    pub changes: Vec<Change>,
    /// Kernels of the fleet that its file does not have any more, and that are left.
    pub left: Vec<String>,
}

impl Plan {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.action == Action::Keep)
    }

    /// How many kernels see `action`.
    #[must_use]
    pub fn count(&self, action: Action) -> usize {
        self.changes.iter().filter(|change| change.action == action).count()
    }
}

/// The right to change the fleet or the groups called so, for as long as it is kept.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "open they are locked")] Vec<Claim>);

impl Turn {
    /// Takes it. Another apply or scale of the same is waited for, which `waiting` is told first.
    ///
    /// # Errors
    /// What the system said.
    pub fn take(home: &Home, names: &[String], waiting: &mut dyn FnMut(&str)) -> Result<Self> {
        // In one order everywhere, so that two never wait for each other.
        let mut names: Vec<&String> = names.iter().collect();
        names.sort();
        names.dedup();
        let claim = |name: &String| match Claim::group(home, name, false) {
            Err(error) if error.class() == Class::Conflict => {
                waiting(name);
                Claim::group(home, name, true)
            }
            claim => claim,
        };
        names.into_iter().map(claim).collect::<Result<_>>().map(Turn)
    }
}

/// What must be done for `desired`. `prune` removes kernels of the fleet that its file does not name any more, `adopt`
/// takes over kernels that are not of this fleet.
///
/// # Errors
/// `Conflict` for a kernel of one of the names that is not of this fleet, or that cannot be judged from here.
pub fn plan(home: &Home, here: &Here, desired: &Desired, prune: bool, adopt: bool) -> Result<Plan> {
    let all = survey(home, here);
    let mut plan = Plan { changes: Vec::new(), left: Vec::new() };
    for goal in &desired.kernels {
        let known = all.iter().find(|kernel| kernel.id == goal.id);
        let mine = |kernel: &Kernel| owner(kernel) == Some(&desired.fleet);
        let change = match known {
            // A name that nobody uses any more.
            Some(kernel) if !mine(kernel) && is_free(kernel) => Change::new(Action::Create, goal),
            Some(kernel) => {
                refuse(kernel)?;
                if !mine(kernel) && !adopt {
                    let whose = owner(kernel).map_or("no fleet".to_owned(), |fleet| format!("the fleet {fleet}"));
                    return Err(Error::new(Class::Conflict, format!("kernel {}: there is one, of {whose}", kernel.id))
                        .hint("Nothing was changed. --adopt takes it over."));
                }
                compare(kernel, goal)
            }
            None => Change::new(Action::Create, goal),
        };
        plan.changes.push(change);
    }
    for kernel in all.iter().filter(|kernel| owner(kernel) == Some(&desired.fleet)).rev() {
        if desired.kernels.iter().any(|goal| goal.id == kernel.id) {
            continue;
        }
        let group = kernel.wanted.as_ref().and_then(|wanted| wanted.group.as_ref());
        let named = desired.names.iter().any(|name| *name == kernel.id || Some(name) == group);
        if named || prune {
            let why = if named { "more than the file wants" } else { "not in the file" };
            plan.changes.push(Change::end(Action::Remove, &kernel.id, why));
        } else {
            plan.left.push(kernel.id.clone());
        }
    }
    Ok(plan)
}

/// What must be done so that `count` kernels of the group `name` run.
///
/// # Errors
/// `NotFound` without such a group, `Conflict` for a kernel that is none.
pub fn scale(home: &Home, here: &Here, name: &str, count: usize) -> Result<Plan> {
    let all = survey(home, here);
    let of_group = |kernel: &&Kernel| kernel.wanted.as_ref().and_then(|wanted| wanted.group.as_deref()) == Some(name);
    let mut members: BTreeMap<usize, (&Kernel, &Wanted)> = BTreeMap::new();
    for kernel in all.iter().filter(of_group) {
        let index = kernel.id.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).and_then(|n| n.parse().ok());
        if let (Some(index), Some(wanted)) = (index, &kernel.wanted) {
            members.insert(index, (kernel, wanted));
        }
    }
    let Some((first, (_, pattern))) = members.first_key_value().map(|(index, one)| (*index, *one)) else {
        return Err(match all.iter().any(|kernel| kernel.id == name) {
            true => Error::new(Class::Conflict, format!("kernel {name}: is one kernel, not a group"))
                .hint(format!("A group is made with --count: llmspell-fleet spawn --name {name} --count 2")),
            false => unknown(name, &all),
        });
    };
    let mut plan = Plan { changes: Vec::new(), left: Vec::new() };
    let mut running = 0;
    for (kernel, wanted) in members.values().filter(|(_, wanted)| wanted.run) {
        refuse(kernel)?;
        if running == count {
            continue;
        }
        running += 1;
        match kernel.stat {
            Some(_) => plan.changes.push(Change::new(Action::Keep, wanted)),
            None => plan.changes.push(Change::new(Action::Start, wanted).because(state(kernel))),
        }
    }
    // Those that were stopped come back, then new ones fill the gaps.
    let stopped = members.values().filter(|(_, wanted)| !wanted.run);
    for (kernel, wanted) in stopped.take(count - running) {
        running += 1;
        let goal = Wanted { run: true, ..(*wanted).clone() };
        plan.changes.push(Change::new(Action::Start, &goal).because(state(kernel)));
    }
    for index in (1..).filter(|index| !members.contains_key(index)).take(count - running) {
        // The port it would have, had they been spawned together.
        let port = usize::from(pattern.port) + index - first.min(index);
        let goal = Wanted {
            id: format!("{name}-{index}"),
            run: true,
            port: u16::try_from(port).unwrap_or_default(),
            config_digest: pattern.config.as_deref().map(digest).transpose()?,
            ..pattern.clone()
        };
        crate::home::check_id(&goal.id)?;
        plan.changes.push(Change { fixed: false, ..Change::new(Action::Create, &goal) });
    }
    // The highest first. The last one stays known, as it tells what the others would be like.
    let ending = members.iter().filter(|(_, (_, wanted))| wanted.run);
    let kept = |id: &str| plan.changes.iter().any(|change| change.id == id);
    let ending: Vec<Change> = ending
        .rev()
        .filter(|(_, (kernel, _))| !kept(&kernel.id))
        .map(|(index, (kernel, _))| {
            let action = if *index == first { Action::Stop } else { Action::Remove };
            Change::end(action, &kernel.id, "more than wanted")
        })
        .collect();
    plan.changes.extend(ending);
    Ok(plan)
}

impl Change {
    fn new(action: Action, goal: &Wanted) -> Self {
        let fixed = goal.port != 0;
        Change { id: goal.id.clone(), action, reasons: Vec::new(), goal: Some(goal.clone()), fixed }
    }

    fn end(action: Action, id: &str, why: &str) -> Self {
        Change { id: id.to_owned(), action, reasons: vec![why.to_owned()], goal: None, fixed: false }
    }

    fn because(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }
}

fn owner(kernel: &Kernel) -> Option<&String> {
    kernel.wanted.as_ref()?.fleet.as_ref()
}

/// Whether its name can be taken: it was stopped, or forgotten.
fn is_free(kernel: &Kernel) -> bool {
    matches!(kernel.condition, Condition::Stopped | Condition::Dead)
        && kernel.stat.is_none()
        && kernel.wanted.as_ref().is_none_or(|wanted| !wanted.run)
}

/// What cannot be judged from here is in the way.
fn refuse(kernel: &Kernel) -> Result<()> {
    if kernel.condition != Condition::Foreign {
        return Ok(());
    }
    Err(Error::new(Class::Conflict, format!("kernel {}: {}", kernel.id, kernel.reason))
        .hint("Nothing was changed. Choose another name, or remove its files if you are sure that it is gone."))
}

fn state(kernel: &Kernel) -> String {
    let reason = if kernel.reason.is_empty() { String::new() } else { format!(": {}", kernel.reason) };
    format!("it is {}{reason}", kernel.condition.name())
}

/// What makes `kernel` what `goal` says.
fn compare(kernel: &Kernel, goal: &Wanted) -> Change {
    let Some(wanted) = &kernel.wanted else {
        return Change::new(Action::Restart, goal).because("was started by hand");
    };
    let found = differences(wanted, goal);
    let action = match kernel.stat {
        None => Action::Start,
        Some(_) if found.iter().any(|one| one.restarts) => Action::Restart,
        Some(_) if found.is_empty() => Action::Keep,
        Some(_) => Action::Update,
    };
    let mut change = Change::new(action, goal);
    if kernel.stat.is_none() {
        change = change.because(state(kernel));
    }
    change.reasons.extend(found.into_iter().map(|one| one.text));
    change
}

struct Difference {
    text: String,
    /// Whether the process must be another one for it.
    restarts: bool,
}

fn differences(old: &Wanted, new: &Wanted) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |name: &str, from: Option<String>, to: Option<String>, restarts: bool| {
        if from != to {
            let show = |value: Option<String>| value.filter(|text| !text.is_empty()).unwrap_or_else(|| "none".into());
            found.push(Difference { text: format!("{name}: {} -> {}", show(from), show(to)), restarts });
        }
    };
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    if new.port != 0 {
        note("port", Some(old.port.to_string()), Some(new.port.to_string()), true);
    }
    note("config", path(&old.config), path(&new.config), true);
    note("engine", old.engine.clone(), new.engine.clone(), true);
    note("workdir", Some(old.workdir.display().to_string()), Some(new.workdir.display().to_string()), true);
    note("permissions", Some(old.arguments.join(" ")), Some(new.arguments.join(" ")), true);
    note("memory", old.memory.map(units::show_size), new.memory.map(units::show_size), true);
    note("cpu", old.cpu.map(|cpus| cpus.to_string()), new.cpu.map(|cpus| cpus.to_string()), true);
    note("restart", Some(old.restart.name().to_owned()), Some(new.restart.name().to_owned()), false);
    note("group", old.group.clone(), new.group.clone(), false);
    note("fleet", old.fleet.clone(), new.fleet.clone(), false);
    if old.config == new.config && old.config_digest != new.config_digest {
        found.push(Difference { text: "config: has other content".into(), restarts: true });
    }
    // Values of variables may be keys.
    for (name, restarts, old, new) in [("env", true, &old.env, &new.env), ("labels", false, &old.labels, &new.labels)] {
        let changed = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
        let changed: Vec<&str> = changed.filter(|key| old.get(*key) != new.get(*key)).map(String::as_str).collect();
        if !changed.is_empty() {
            found.push(Difference { text: format!("{name}: {}", changed.join(", ")), restarts });
        }
    }
    found
}

/// How to carry out a plan.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long a kernel may take to end before it is killed.
    pub grace: Duration,
    /// How long one may take to be ready.
    pub timeout: Duration,
    /// How many are changed at one time.
    pub parallel: usize,
}

/// What was done to a kernel.
#[derive(Clone, Debug)]
pub enum Done {
    /// It runs, and did not before.
    Started(Box<Spawned>),
    /// It ended and runs again.
    Restarted(Box<Spawned>),
    /// Its record was changed.
    Updated,
    /// It ended.
    Stopped(End),
    /// It ended and was forgotten.
    Removed,
    /// Somebody else had done it meanwhile.
    Nothing,
}

/// Carries out `plan` and tells `on` of each step. The next kernel is touched when the one before is ready; after a
/// failure no further one is.
pub fn roll(home: &Home, here: &Here, plan: &Plan, rules: &Rules, on: &mut dyn FnMut(&Change, Result<Done>)) {
    for phase in 0..3 {
        let changes =
            plan.changes.iter().filter(|change| change.action.phase() == phase && change.action != Action::Keep);
        let (next, failed) = (Mutex::new(changes), AtomicBool::new(false));
        let work = |tell: mpsc::Sender<(_, _)>| {
            while !failed.load(Ordering::SeqCst)
                && let Some(change) = next.lock().unwrap_or_else(PoisonError::into_inner).next()
            {
                let outcome = step(home, here, change, rules);
                if outcome.is_err() {
                    failed.store(true, Ordering::SeqCst);
                }
                if tell.send((change, outcome)).is_err() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            for _ in 0..rules.parallel.max(1) {
                let tell = tell.clone();
                scope.spawn(|| work(tell));
            }
            drop(tell);
            for (change, outcome) in told {
                on(change, outcome);
            }
        });
        if failed.into_inner() {
            return;
        }
    }
}

fn step(home: &Home, here: &Here, change: &Change, rules: &Rules) -> Result<Done> {
    match (change.action, &change.goal) {
        (Action::Create, Some(goal)) => {
            create(home, here, goal, change.fixed, rules.timeout).map(|spawned| Done::Started(Box::new(spawned)))
        }
        (_, Some(goal)) => bring(home, here, goal, rules),
        (action, None) => {
            let kernel = Kernel::look(home, here, &change.id);
            let mut ended = Ok(End::NotRunning);
            stop(home, here, std::slice::from_ref(&kernel), rules.grace, &mut |_, end| ended = end);
            match (ended?, action) {
                (end, Action::Stop) => Ok(Done::Stopped(end)),
                _ if forget_kernel(home, here, &kernel)? => Ok(Done::Removed),
                _ => Err(Error::new(Class::Conflict, format!("kernel {}: somebody started it again", change.id))),
            }
        }
    }
}

/// Makes a kernel that is known what `goal` says, whatever became of it since it was looked at.
fn bring(home: &Home, here: &Here, goal: &Wanted, rules: &Rules) -> Result<Done> {
    let _claim = Claim::wait(home, &goal.id)?;
    match bring_claimed(home, here, goal, rules) {
        // One that a killed command had begun to start was faster: then it is looked at as it is now.
        Err(error) if error.class() == Class::Conflict => match settled(home, here, &goal.id, rules.timeout)? {
            kernel if kernel.stat.is_some() => bring_claimed(home, here, goal, rules),
            _ => Err(error),
        },
        outcome => outcome,
    }
}

fn bring_claimed(home: &Home, here: &Here, goal: &Wanted, rules: &Rules) -> Result<Done> {
    let kernel = settled(home, here, &goal.id, rules.timeout)?;
    refuse(&kernel)?;
    let record = Wanted::read(home, &goal.id)?;
    let port = match (goal.port, &record) {
        (0, Some(record)) => record.port,
        (0, None) => kernel.port().unwrap_or_default(),
        (port, _) => port,
    };
    let goal = Wanted { run: true, port, ..goal.clone() };
    if let Some(record) = record.filter(|record| record.run && kernel.stat.is_some()) {
        let found = differences(&record, &goal);
        if found.is_empty() {
            drop_kept(home, &goal.id);
            return Ok(Done::Nothing);
        }
        if !found.iter().any(|one| one.restarts) {
            return goal.write(home).map(|()| Done::Updated);
        }
    }
    // What serves is not ended for a configuration that no kernel takes.
    check_config(&goal)?;
    let (end, spawned) = replace(home, here, &kernel, goal, rules.grace, rules.timeout)?;
    Ok(match end {
        End::NotRunning => Done::Started(Box::new(spawned)),
        _ => Done::Restarted(Box::new(spawned)),
    })
}

/// The kernels of `plan` in an order people expect.
pub fn sorted(plan: &Plan) -> Vec<&Change> {
    let mut changes: Vec<&Change> = plan.changes.iter().collect();
    changes.sort_by(|a, b| natural(&a.id).cmp(&natural(&b.id)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_without_values_of_variables() {
        let old = Wanted {
            port: 9555,
            memory: Some(1 << 20),
            env: BTreeMap::from([("KEY".into(), "secret".into()), ("A".into(), "1".into())]),
            ..Wanted::default()
        };
        assert!(differences(&old, &Wanted { port: 0, ..old.clone() }).is_empty());
        let new = Wanted {
            port: 9556,
            memory: None,
            env: BTreeMap::from([("KEY".into(), "other".into()), ("A".into(), "1".into())]),
            labels: BTreeMap::from([("x".into(), "y".into())]),
            config_digest: Some("1".into()),
            ..old.clone()
        };
        let found: Vec<(String, bool)> =
            differences(&old, &new).into_iter().map(|one| (one.text, one.restarts)).collect();
        assert_eq!(
            found,
            [
                ("port: 9555 -> 9556".into(), true),
                ("memory: 1MiB -> none".into(), true),
                ("config: has other content".into(), true),
                ("env: KEY".into(), true),
                ("labels: x".into(), false)
            ]
        );
    }
}
