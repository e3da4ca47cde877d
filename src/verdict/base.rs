//! Which stored runs play base.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::domain::{CaseId, CaseRecord, Run, RunId, RunStatus};
use crate::verdict::policy::{HISTORY_DAYS, HISTORY_SESSIONS};

/// The runs chosen, newest first, and what a reader should know about the choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen<'a> {
    /// The history.
    pub runs: Vec<&'a Run>,
    /// One sentence each.
    pub notes: Vec<String>,
}

/// What makes a run a candidate.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The judged run, which is never its own base.
    pub head: RunId,
    /// Suite name.
    pub suite: &'a str,
    /// Testbed key: runs from elsewhere are never compared in silence.
    pub testbed: &'a str,
    /// Branch that plays base.
    pub base_branch: Option<&'a str>,
    /// Whether another branch may stand in where the base branch has no run.
    pub stand_ins: bool,
    /// Branch of the work tree: stands in while the base branch has no run.
    pub own_branch: Option<&'a str>,
    /// The end of the window: later runs do not count.
    pub now: Timestamp,
}

/// Chooses among `runs` (any order): complete, real, of this suite and testbed, within the window, of the base branch;
/// where that has none, of the own branch; where that has none either, of any.
#[must_use]
pub fn choose<'a>(runs: &'a [Run], wanted: &Wanted<'_>) -> Chosen<'a> {
    let oldest = wanted.now - SignedDuration::from_hours(24 * HISTORY_DAYS);
    let mut candidates: Vec<&Run> = runs
        .iter()
        .filter(|run| run.id != wanted.head && run.suite.name == wanted.suite && run.testbed.key == wanted.testbed)
        .filter(|run| run.status == RunStatus::Complete && run.unfit_as_base().is_none())
        .filter(|run| run.started >= oldest && run.started <= wanted.now)
        .collect();
    candidates.sort_by_key(|run| std::cmp::Reverse((run.started, run.id)));
    let on = |branch: Option<&str>| -> Vec<&'a Run> {
        candidates.iter().filter(|run| branch.is_some() && run.branch.as_deref() == branch).copied().collect()
    };
    let mut notes = Vec::new();
    let mut chosen = on(wanted.base_branch);
    if wanted.stand_ins && chosen.is_empty() && !candidates.is_empty() {
        let missing = wanted.base_branch.map_or("the base branch".to_owned(), |branch| format!("`{branch}`"));
        chosen = on(wanted.own_branch);
        if chosen.is_empty() {
            chosen = candidates;
            notes.push(format!("no run of {missing} on this testbed: compared with the runs of every branch"));
        } else {
            let own = wanted.own_branch.unwrap_or_default();
            notes.push(format!("no run of {missing} on this testbed: compared with earlier runs of `{own}`"));
        }
    }
    chosen.truncate(HISTORY_SESSIONS as usize);
    let dirty = chosen.iter().filter(|run| run.dirty).count();
    if dirty > 0 {
        notes.push(format!("{dirty} of the {} base runs measured a work tree with uncommitted changes", chosen.len()));
    }
    Chosen { runs: chosen, notes }
}

/// Cases of a base run that did other work than head's case of that name: a parameter that is no axis, or the words of a
/// command, were changed in the suite. Their launches say nothing about head.
#[must_use]
pub fn redefined(head: &[CaseRecord], base: &[CaseRecord]) -> BTreeSet<CaseId> {
    // Who writes an alias says that the work is the same; a command may well be called otherwise then.
    let now = |id: &CaseId| head.iter().find(|record| record.case.id == *id);
    base.iter()
        .filter(|old| {
            now(&old.case.id).is_some_and(|new| {
                let (old, new) = (&old.case.workload, &new.case.workload);
                old.kind != new.kind
                    || old.params != new.params
                    || old.command != new.command
                    || old.kernel != new.kernel
                    || {
                        // Commands and kernels bear their benchmark's name.
                        old.kind.is_built_in() && old.name != new.name
                    }
            })
        })
        .map(|record| record.case.id.clone())
        .collect()
}
