//! PORT: where runs are kept, and the table of engines.
//!
//! Must not know how launches are made or judged. Every launch is its own transaction: killing the process loses at
//! most the launch in flight.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::domain::{Acceptance, CaseId, Evidence, Launch, LaunchSummary, NoiseModel, Price, Run, RunId, RunStatus};

pub mod sqlite;
pub mod summary;
pub mod transfer;

/// Why the store could not do it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Written by a newer regrade.
    #[error(
        "{path}: this database has schema version {found}, newer than the {known} this regrade knows; use the regrade that wrote it, or a newer one"
    )]
    Newer {
        /// Where.
        path: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file is not a database of ours, or is damaged.
    #[error("{path}: {what}")]
    NotOurs {
        /// Where.
        path: String,
        /// What was found, and what to do.
        what: String,
    },
    /// No such run, baseline or case.
    #[error("{0}")]
    NotFound(String),
    /// The operation is refused.
    #[error("{0}")]
    Refused(String),
    /// The system lets this user not read or write the file.
    #[error("{0}")]
    Denied(String),
    /// A stored value cannot be read back.
    #[error("run {run}: {what}")]
    Corrupt {
        /// Which run.
        run: String,
        /// What is wrong.
        what: String,
    },
    /// Another process held the database for too long.
    #[error("{context}: another process kept the database locked; try again when it is done")]
    Busy {
        /// What was being done.
        context: String,
    },
    /// The engine failed.
    #[error("{context}: {source}")]
    Engine {
        /// What was being done.
        context: String,
        /// The engine's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Whether arms of paired sessions count as runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Arms {
    /// Arms and runs of their own.
    #[default]
    All,
    /// Only runs of their own.
    Without,
    /// Only arms.
    Only,
}

/// Which runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunQuery {
    /// Of this suite.
    pub suite: Option<String>,
    /// On this testbed (key).
    pub testbed: Option<String>,
    /// On this branch.
    pub branch: Option<String>,
    /// At this commit (prefix).
    pub commit: Option<String>,
    /// Only runs that may serve as a base: complete, not synthetic, not from a debug build.
    pub fit_as_base: bool,
    /// Started before this moment.
    pub before: Option<Timestamp>,
    /// Whether arms of paired sessions are among them.
    pub arms: Arms,
    /// At most this many, the newest first.
    pub limit: Option<u32>,
}

/// A name given to a run on purpose. Names point at one run at a time; promoting again moves the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The name.
    pub name: String,
    /// The run it points at.
    pub run: RunId,
    /// When it was given.
    pub since: Timestamp,
}

/// What [`Store::prune`] did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs removed.
    pub runs: Vec<RunId>,
    /// Launches removed with them.
    pub launches: u64,
}

/// What [`Store::merge`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// Runs that were not here before.
    pub runs: u64,
    /// Launches that were not here before.
    pub launches: u64,
    /// Launches that were here already.
    pub known: u64,
}

/// What is known beside the runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Knowledge {
    /// Of the noise of metrics, by testbed, suite, case and metric.
    pub noise: Vec<NoiseModel>,
    /// Of changes, the oldest first.
    pub acceptances: Vec<Acceptance>,
}

/// Somewhere to keep runs.
pub trait Store {
    /// Starts a run: stores its header and cases. `status` is `running` until [`Store::finish_run`].
    ///
    /// # Errors
    /// When the id exists already or the engine fails.
    fn begin_run(&mut self, run: &Run) -> Result<(), StoreError>;

    /// Stores one launch, durably, in its own transaction.
    ///
    /// # Errors
    /// When the run does not exist, the launch does, or the engine fails.
    fn put_launch(&mut self, run: RunId, launch: &Launch) -> Result<(), StoreError>;

    /// Ends a run.
    ///
    /// # Errors
    /// When the run does not exist or the engine fails.
    fn finish_run(&mut self, run: RunId, status: RunStatus, at: Timestamp) -> Result<(), StoreError>;

    /// Puts a run that ended early back to `running`.
    ///
    /// # Errors
    /// When the run does not exist, is complete, or the engine fails.
    fn reopen_run(&mut self, run: RunId) -> Result<(), StoreError>;

    /// Marks as interrupted every run that says `running` and whose process is gone; returns them.
    ///
    /// # Errors
    /// When the engine fails.
    fn mark_interrupted(&mut self) -> Result<Vec<RunId>, StoreError>;

    /// Headers, newest first.
    ///
    /// # Errors
    /// When the engine fails.
    fn runs(&self, query: &RunQuery) -> Result<Vec<Run>, StoreError>;

    /// A run by id or unique prefix of it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    fn run(&self, id_prefix: &str) -> Result<Run, StoreError>;

    /// Launches with every sample, in the order they were made; of one case, or of all.
    ///
    /// # Errors
    /// When the run does not exist or the engine fails.
    fn launches(&self, run: RunId, case: Option<&CaseId>) -> Result<Vec<Launch>, StoreError>;

    /// Launches without their vectors, in the order they were made. Reads no sample blob.
    ///
    /// # Errors
    /// When the run does not exist or the engine fails.
    fn summaries(&self, run: RunId) -> Result<Vec<LaunchSummary>, StoreError>;

    /// The prices that costs of a run's launches were made of, each once. Reads no sample blob.
    ///
    /// # Errors
    /// When the run does not exist or the engine fails.
    fn prices(&self, run: RunId) -> Result<Vec<Price>, StoreError> {
        let mut prices: Vec<Price> = self
            .evidence(run, Price::EVIDENCE)?
            .iter()
            .filter_map(|(_, evidence)| Price::of_evidence(evidence))
            .collect();
        prices
            .sort_by(|a, b| a.device.cmp(&b.device).then(a.date.cmp(&b.date)).then(a.per_hour.total_cmp(&b.per_hour)));
        prices.dedup();
        Ok(prices)
    }

    /// What launches of a run saw by one source, in the order of their making. Reads no sample blob.
    ///
    /// # Errors
    /// When the run does not exist or the engine fails.
    fn evidence(&self, run: RunId, source: &str) -> Result<Vec<(CaseId, Evidence)>, StoreError>;

    /// How many launches a run has.
    ///
    /// # Errors
    /// When the run does not exist or the engine fails.
    fn launch_count(&self, run: RunId) -> Result<u64, StoreError> {
        Ok(self.summaries(run)?.len() as u64)
    }

    /// Gives a run a name. Refuses what [`Run::unfit_as_base`] refuses, and runs that are not complete.
    ///
    /// # Errors
    /// When refused, not found, or the engine fails.
    fn promote(&mut self, name: &str, run: RunId, at: Timestamp) -> Result<(), StoreError>;

    /// Forgets a name; the run stays.
    ///
    /// # Errors
    /// When there is no such name or the engine fails.
    fn drop_baseline(&mut self, name: &str) -> Result<Baseline, StoreError>;

    /// All names.
    ///
    /// # Errors
    /// When the engine fails.
    fn baselines(&self) -> Result<Vec<Baseline>, StoreError>;

    /// Removes all but the newest `keep` runs of each (suite, testbed, branch) that are fit to be a base (complete, not
    /// synthetic, no debug build), and every unfit run older than those; named and running ones stay. With `dry_run`
    /// only says what it would remove.
    ///
    /// # Errors
    /// When the engine fails.
    fn prune(&mut self, keep: u32, dry_run: bool) -> Result<Pruned, StoreError>;

    /// Keeps what was learnt of metrics' noise; the newer of two models of a metric on a testbed stays.
    ///
    /// # Errors
    /// When the engine fails.
    fn put_noise(&mut self, models: &[NoiseModel]) -> Result<(), StoreError>;

    /// The noise models of a suite on a testbed (key), by case and metric.
    ///
    /// # Errors
    /// When the engine fails.
    fn noise(&self, suite: &str, testbed: &str) -> Result<Vec<NoiseModel>, StoreError>;

    /// Keeps an acceptance; the same one twice is kept once.
    ///
    /// # Errors
    /// When the engine fails.
    fn put_acceptance(&mut self, acceptance: &Acceptance) -> Result<(), StoreError>;

    /// The acceptances of a suite, the oldest first.
    ///
    /// # Errors
    /// When the engine fails.
    fn acceptances(&self, suite: &str) -> Result<Vec<Acceptance>, StoreError>;

    /// All noise models and acceptances, whether or not a run of their suite is here.
    ///
    /// # Errors
    /// When the engine fails.
    fn knowledge(&self) -> Result<Knowledge, StoreError>;

    /// Adds a run with launches from elsewhere, in one transaction; what is here already stays untouched, but that a
    /// run imported unfinished becomes complete when its complete self arrives.
    ///
    /// # Errors
    /// When the same id stands for something else here, or the engine fails.
    fn merge(&mut self, run: &Run, launches: &[Launch]) -> Result<Merged, StoreError>;
}

/// Why a run may not be promoted, with the remedy; the rule that every engine applies.
#[must_use]
pub fn unfit_as_baseline(run: &Run) -> Option<String> {
    match run.status {
        RunStatus::Complete => run.unfit_as_base(),
        RunStatus::Running => Some("it is still running; wait until it is complete".to_owned()),
        RunStatus::Interrupted => {
            Some("it was interrupted; complete it with `regrade run --resume`, or measure anew".to_owned())
        }
    }
}

/// A kind of store.
#[derive(Debug, Clone, Copy)]
pub struct Engine {
    /// Lower-case name.
    pub name: &'static str,
    /// Whether a file looks like one of its databases; fails when the file cannot be read.
    pub recognises: fn(&Path) -> io::Result<bool>,
    /// Opens for reading and writing; creates what is not there, migrates what is older.
    pub open: fn(&Path) -> Result<Box<dyn Store>, StoreError>,
    /// Opens what is there, for reading.
    pub open_read_only: fn(&Path) -> Result<Box<dyn Store>, StoreError>,
}

/// Every engine; the first is the default.
pub static ENGINES: &[Engine] = &[Engine {
    name: "sqlite",
    recognises: sqlite::recognises,
    open: |path| Ok(Box::new(sqlite::SqliteStore::open(path)?)),
    open_read_only: |path| Ok(Box::new(sqlite::SqliteStore::open_read_only(path)?)),
}];
