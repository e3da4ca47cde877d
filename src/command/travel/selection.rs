//! Which runs of a database are pushed: those that others may be compared with.
//!
//! By default the complete runs of the branches that play base, measured at a commit, and runs that bear a name. Runs of
//! pull requests stay away: where a branch has no runs of its own, any run on its testbed may stand in as base. Must not
//! know where runs are pushed to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use crate::cli::Push;
use crate::command::git::{self, WorkTree};
use crate::command::usage;
use crate::domain::{Run, RunId, RunStatus};
use crate::render::format;
use crate::store::{RunQuery, Store};

/// Why runs stayed away, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Running, or interrupted.
    unfinished: usize,
    /// Measured with injected work.
    synthetic: usize,
    /// Measured by a debug build.
    debug_build: usize,
    /// Arms of paired sessions.
    arms: usize,
    /// Measured with uncommitted changes.
    dirty: usize,
    /// Of a branch that plays no base, or of none.
    other_branch: usize,
}

impl LeftOut {
    /// One line, where there is something to say.
    pub fn write_text(&self, out: &mut dyn Write) -> Result<()> {
        let always =
            [(self.unfinished, "not complete"), (self.synthetic, "synthetic"), (self.debug_build, "of a debug build")];
        let by_default = [
            (self.other_branch, "of another branch"),
            (self.arms, "of a paired session"),
            (self.dirty, "with uncommitted changes"),
        ];
        let list = |reasons: &[(usize, &str)]| {
            let some = reasons.iter().filter(|(count, _)| *count > 0);
            some.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
        };
        let total = |reasons: &[(usize, &str)]| reasons.iter().map(|(count, _)| count).sum::<usize>();
        for (reasons, remedy) in [(by_default, "; --all takes them too"), (always, "")] {
            if total(&reasons) > 0 {
                let runs = format::plural(total(&reasons), "run stays", "runs stay");
                writeln!(out, "{runs} here: {}{remedy}", list(&reasons))?;
            }
        }
        Ok(())
    }
}

/// What is pushed and what is not.
#[derive(Debug)]
pub struct Selection {
    taken: BTreeSet<RunId>,
    left_out: LeftOut,
}

impl Selection {
    /// Decides on every stored run. `bases` are the branches that the place knows to play base, with their newest
    /// commits.
    ///
    /// # Errors
    /// A usage error where nothing says which branch plays base.
    pub fn new(arguments: &Push, mut bases: BTreeMap<String, Option<String>>, store: &dyn Store) -> Result<Self> {
        let tree = WorkTree::detect();
        if arguments.runs_of.is_empty() {
            if let Some(branch) = &tree.base_branch {
                bases.entry(branch.clone()).or_default();
            }
        } else {
            bases.retain(|branch, _| arguments.runs_of.contains(branch));
            for branch in &arguments.runs_of {
                bases.entry(branch.clone()).or_default();
            }
        }
        if bases.is_empty() && tree.commit.is_some() && !arguments.all {
            return Err(usage(
                "which branch plays base is not known here; name it with --runs-of, or push the runs of all with --all",
            ));
        }
        let named: BTreeSet<RunId> = store.baselines()?.into_iter().map(|baseline| baseline.run).collect();
        let mut selection = Self { taken: BTreeSet::new(), left_out: LeftOut::default() };
        let mut ancestry = BTreeMap::new();
        for run in store.runs(&RunQuery::default())? {
            let left_out = &mut selection.left_out;
            let reason = if run.status != RunStatus::Complete {
                Some(&mut left_out.unfinished)
            } else if run.synthetic.is_some() {
                Some(&mut left_out.synthetic)
            } else if run.debug_build {
                Some(&mut left_out.debug_build)
            } else if arguments.all || named.contains(&run.id) {
                None
            } else if run.arm.is_some() {
                Some(&mut left_out.arms)
            } else if run.dirty {
                Some(&mut left_out.dirty)
            } else if !of_a_base(&run, &bases, &mut ancestry) {
                Some(&mut left_out.other_branch)
            } else {
                None
            };
            match reason {
                Some(count) => *count += 1,
                None => {
                    selection.taken.insert(run.id);
                }
            }
        }
        Ok(selection)
    }

    /// Whether a run is pushed.
    pub fn takes(&self, run: &Run) -> bool {
        self.taken.contains(&run.id)
    }

    /// What is not.
    pub fn left_out(&self) -> LeftOut {
        self.left_out.clone()
    }
}

/// Whether a run is of a branch that plays base. One of a detached head that nothing explains is, when that branch holds
/// its commit; outside of git there are no branches to tell apart.
fn of_a_base(run: &Run, bases: &BTreeMap<String, Option<String>>, ancestry: &mut BTreeMap<String, bool>) -> bool {
    match (&run.branch, &run.commit) {
        (Some(branch), _) => bases.contains_key(branch),
        (None, None) => bases.is_empty(),
        (None, Some(commit)) => *ancestry.entry(commit.clone()).or_insert_with(|| {
            bases.iter().any(|(branch, tip)| match tip {
                Some(tip) => tip == commit || git::is_ancestor(commit, tip),
                None => [format!("refs/remotes/origin/{branch}"), format!("refs/heads/{branch}")]
                    .iter()
                    .any(|tip| git::is_ancestor(commit, tip)),
            })
        }),
    }
}
