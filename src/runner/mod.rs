//! Makes the launches of a plan, in its shuffled order, each in a fresh worker process.
//!
//! Emits events and prints nothing; keeps nothing: every finished launch is handed to the caller at once. Must not know
//! where launches are stored or what they mean.

pub mod build;
pub mod clocks;
mod cost;
mod launch;
pub mod pairs;
pub mod process;
mod shared;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

pub use shared::Shared;

use crate::domain::{Case, CaseId, Launch, OutcomeKind, Plan, PlanItem, Price};
use crate::hardware::lock::Locked;

/// Failed launches of one case after which the rest of its launches are not attempted.
const GIVE_UP_AFTER: u32 = 2;

/// Why the caller could not keep a launch: its own error.
pub type KeepError = Box<dyn std::error::Error + Send + Sync>;

/// Why a session could not go on.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// The worker could not be started at all, or its scratch files could not be made.
    #[error("{context}: {source}")]
    Environment {
        /// What was being done.
        context: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The caller could not keep a launch.
    #[error(transparent)]
    Keep(KeepError),
}

/// A tree of files whose programs are measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    /// The program that is started as `<program> worker` for built-in workloads: the same code in several orders, or
    /// one. Empty where every workload is a command.
    pub workers: Vec<PathBuf>,
    /// Where processes start; where the harness itself runs if absent.
    pub folder: Option<PathBuf>,
    /// Variables that processes find beside those of the harness.
    pub env: BTreeMap<String, String>,
}

impl Tree {
    /// Program of a tree, in the order of code that has its turn; and which of how many that is, where there are several.
    fn worker(&self, turn: u32) -> (&Path, Option<usize>) {
        let place = turn as usize % self.workers.len().max(1);
        let worker = self.workers.get(place).map_or(Path::new(""), PathBuf::as_path);
        (worker, (self.workers.len() > 1).then_some(place))
    }
}

/// How the launches of a plan are made.
#[derive(Debug)]
pub struct Settings<'a> {
    /// This very program, which runs the reference workloads whatever tree is measured.
    pub harness: PathBuf,
    /// What is measured.
    pub tree: Tree,
    /// Seed of weights and inputs.
    pub seed: u64,
    /// Extra real work by case id, as a fraction.
    pub inject: BTreeMap<CaseId, f64>,
    /// Wall-time budget of the session: no launch starts after it.
    pub budget: Option<Duration>,
    /// What the launches of the session share.
    pub shared: Arc<Shared>,
    /// What the clocks of its GPUs are locked at, if they are.
    pub locked: Option<Arc<Locked>>,
    /// Texts that must not reach logs: values of secrets in the environment.
    pub secrets: Vec<String>,
    /// What devices cost.
    pub prices: Vec<Price>,
    /// Set from outside to stop; the launch in flight is killed.
    pub cancel: &'a AtomicBool,
}

/// What happens, as listeners see it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A launch starts.
    Starting {
        /// Its case.
        case: &'a Case,
        /// Which launch of the case, from 0.
        launch: u32,
        /// Launches done so far, of `total`.
        done: usize,
        /// Launches to make in this sitting.
        total: usize,
    },
    /// A launch ended; it has been kept.
    Finished {
        /// The launch.
        launch: &'a Launch,
        /// Launches done so far, of `total`.
        done: usize,
        /// Launches to make in this sitting.
        total: usize,
    },
    /// A case failed repeatedly: its remaining launches are not attempted.
    GivenUp {
        /// Its case.
        case: &'a Case,
    },
}

/// Why the sitting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every launch was made.
    Complete,
    /// Stopped from outside.
    Cancelled,
    /// The budget was used up.
    OutOfBudget,
}

/// Makes the launches `items` of `plan`. `keep` is called with each finished launch, before its event.
///
/// # Errors
/// When a worker cannot be started or `keep` fails. A worker that fails is a launch with that outcome, not an error.
pub fn run(
    plan: &Plan,
    items: &[(u32, PlanItem)],
    settings: &Settings<'_>,
    keep: &mut dyn FnMut(&Launch) -> Result<(), KeepError>,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<Ending, RunnerError> {
    let start = Instant::now();
    let mut failures: BTreeMap<usize, u32> = BTreeMap::new();
    let total = items.len();
    for (done, (position, item)) in items.iter().enumerate() {
        if settings.cancel.load(Ordering::SeqCst) {
            return Ok(Ending::Cancelled);
        }
        if settings.budget.is_some_and(|budget| start.elapsed() >= budget) {
            return Ok(Ending::OutOfBudget);
        }
        let case = &plan.cases[item.case];
        if failures.get(&item.case).is_some_and(|count| *count >= GIVE_UP_AFTER) {
            continue;
        }
        listen(Event::Starting { case, launch: item.launch, done, total });
        let Some(launch) = launch::make(case, item.launch, *position, item.launch, settings)? else {
            return Ok(Ending::Cancelled);
        };
        keep(&launch).map_err(RunnerError::Keep)?;
        listen(Event::Finished { launch: &launch, done: done + 1, total });
        if matches!(launch.outcome.kind, OutcomeKind::Failed | OutcomeKind::TimedOut | OutcomeKind::OutOfMemory) {
            let count = failures.entry(item.case).or_insert(0);
            *count += 1;
            if *count == GIVE_UP_AFTER {
                listen(Event::GivenUp { case });
            }
        }
    }
    Ok(Ending::Complete)
}
