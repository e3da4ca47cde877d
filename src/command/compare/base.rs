//! What plays base where history does: the run that was named, or the last runs of the base branch here.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::backend::BACKENDS;
use crate::cli::Compare;
use crate::command::context::find_run;
use crate::command::git::WorkTree;
use crate::command::session::{anew, go_on, typed};
use crate::command::{NotComparable, usage};
use crate::domain::{CaseId, Run, RunStatus};
use crate::store::sqlite::SqliteStore;
use crate::store::{RunQuery, Store, StoreError};
use crate::suite::Suite;
use crate::verdict::base::{self, Chosen, Wanted};

/// Base runs, owned.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// Newest first.
    pub runs: Vec<Run>,
    /// One sentence each.
    pub notes: Vec<String>,
}

/// The run that `--base` names; `None` where it names a branch, or is not given. What is neither is refused.
pub fn named_base(arguments: &Compare, suite: &str, store: &SqliteStore) -> Result<Option<Run>> {
    let Some(name) = &arguments.base else {
        return Ok(None);
    };
    if let Some(run) = named_run(store, name)? {
        if run.suite.name != suite {
            return Err(usage(format!(
                "--base {name}: run {} is of suite `{}`, not `{suite}`",
                run.id, run.suite.name
            )));
        }
        return Ok(Some(run));
    }
    let query = RunQuery {
        suite: Some(suite.to_owned()),
        branch: Some(name.clone()),
        fit_as_base: true,
        limit: Some(1),
        ..RunQuery::default()
    };
    if store.runs(&query)?.is_empty() {
        return Err(usage(format!(
            "--base {name}: no run, baseline or branch of that name has a usable run of `{suite}`; \
             `regrade baseline list` shows what is stored"
        )));
    }
    Ok(None)
}

/// A run that a name stands for by baseline name, `latest` or id.
pub fn named_run(store: &SqliteStore, name: &str) -> Result<Option<Run>> {
    if name == "latest" || store.baselines()?.iter().any(|baseline| baseline.name == name) {
        return Ok(Some(find_run(store, name)?));
    }
    let looks_like_an_id = name.len() >= 8 && name.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    match looks_like_an_id.then(|| store.run(name)) {
        Some(Ok(run)) => Ok(Some(run)),
        Some(Err(StoreError::NotFound(_))) | None => Ok(None),
        Some(Err(error)) => Err(error.into()),
    }
}

/// The run that was named, or the last runs of the base branch on this testbed among those that `fits` lets through. With
/// `stand_ins`, those of other branches where it has none.
pub fn choose_base(
    arguments: &Compare,
    head: &Run,
    named: Option<Run>,
    stand_ins: bool,
    store: &SqliteStore,
    fits: &dyn Fn(&Run) -> bool,
) -> Result<Base> {
    if let Some(run) = named {
        return explicit(head, run);
    }
    let tree = WorkTree::detect();
    let query = RunQuery {
        suite: Some(head.suite.name.clone()),
        testbed: Some(head.testbed.key.clone()),
        fit_as_base: true,
        ..RunQuery::default()
    };
    let mut stored = store.runs(&query)?;
    stored.retain(|run| fits(run));
    let wanted = Wanted {
        head: head.id,
        suite: &head.suite.name,
        testbed: &head.testbed.key,
        base_branch: arguments.base.as_deref().or(tree.base_branch.as_deref()),
        // Who names a branch means that branch.
        stand_ins: stand_ins && arguments.base.is_none(),
        own_branch: head.branch.as_deref(),
        now: head.started,
    };
    let Chosen { runs, mut notes } = base::choose(&stored, &wanted);
    if let (true, Some(branch)) = (runs.is_empty(), &arguments.base) {
        notes.push(format!("`{branch}` has no usable run on this testbed within the history's window"));
    }
    Ok(Base { runs: runs.into_iter().cloned().collect(), notes })
}

/// A single run that plays base because the user says so.
fn explicit(head: &Run, run: Run) -> Result<Base> {
    if run.id == head.id {
        return Err(usage(format!("run {} cannot be compared with itself", run.id)));
    }
    if run.testbed.key != head.testbed.key {
        let names: BTreeSet<&String> = head.testbed.facts.keys().chain(run.testbed.facts.keys()).collect();
        let of = |run: &Run, fact: &String| run.testbed.facts.get(fact).map_or("absent", String::as_str).to_owned();
        let differing: Vec<String> = names
            .into_iter()
            .map(|fact| (fact, of(&run, fact), of(head, fact)))
            .filter(|(_, base, head)| base != head)
            .map(|(fact, base, head)| format!("{fact}: `{base}` against `{head}`"))
            .collect();
        return Err(NotComparable(format!(
            "not comparable: base and head come from different testbeds ({}); measure both on one machine",
            differing.join("; ")
        ))
        .into());
    }
    let mut notes = Vec::new();
    if let Some(why) = run.unfit_as_base() {
        notes.push(format!("the base is no honest baseline: {why}"));
    }
    Ok(Base { runs: vec![run], notes })
}

/// Cases of the newest base run that head's suite no longer has. A suite text that this version cannot read says
/// nothing about what is gone.
pub fn gone(head: &Run, newest: &Run) -> BTreeSet<CaseId> {
    let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
    let Ok(suite) = Suite::parse(&head.suite.name, &head.suite.text, &names) else {
        return BTreeSet::new();
    };
    let known: BTreeSet<&CaseId> =
        suite.cases.iter().flat_map(|case| std::iter::once(&case.id).chain(&case.aliases)).collect();
    newest
        .cases
        .iter()
        .filter(|record| !record.case.reference && !known.contains(&record.case.id))
        .map(|record| record.case.id.clone())
        .collect()
}

/// What to say and to type where there is no base yet.
pub fn advice(arguments: &Compare, head: &Run, base: &Base, notes: &mut Vec<String>) -> Option<String> {
    if let Some(why) = head.unfit_as_base() {
        notes.push(format!("head can never be a baseline: {why}"));
    }
    if !base.runs.is_empty() {
        return None;
    }
    if head.status != RunStatus::Complete {
        return Some(go_on(head));
    }
    if head.unfit_as_base().is_none() {
        notes.push(format!(
            "no baseline of `{}` on this testbed yet: this run ({}) is stored as the first",
            head.suite.name, head.id
        ));
    }
    // What was typed compares next time, and has nothing to go on with then; for a stored head there is nothing to repeat.
    arguments.head.is_none().then(|| anew(&typed()))
}
