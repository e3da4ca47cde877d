//! The only maker of verdicts: head against the history of stored sessions (STATISTICS.md sections 2, 4 and 6), and head
//! against base in fresh pairs (sections 3 and 5); and head against what the suite wants of it.
//!
//! Renderers print what is decided here, publishers send it, nobody recomputes it. Must not know how launches were
//! made, where they are stored, or how a verdict is shown.
//!
//! A session is one run, a launch one worker process. Launch values are taken on the badness scale `y = d ln(x)`, with
//! `d = +1` where lower is better and `-1` where higher is, so that a positive difference is always worse.

pub mod base;
pub mod builds;
pub mod calibration;
pub mod chronicle;
pub mod claims;
pub mod confirm;
mod covariate;
pub mod cycles;
mod decide;
pub mod escalate;
pub mod guard;
pub mod halving;
mod history;
mod kind;
pub mod paired;
pub mod policy;
pub mod recorded;
pub mod shifts;
pub mod target;
pub mod waiver;

use crate::domain::{CaseId, LaunchSummary, Metric, Outcome, PairedEvidence, RunId, Thresholds, Verdict};

#[cfg(test)]
mod tests;

pub use history::{Head, judge, unpaired};

/// A relative change in the metric's own direction, as a fraction, on the badness scale: log units, positive is worse.
#[must_use]
pub fn badness(metric: &Metric, change: f64) -> f64 {
    kind::sign(metric) * change.ln_1p()
}

/// One stored run that plays base.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The run.
    pub run: RunId,
    /// Its launches, in the order they were made.
    pub launches: Vec<LaunchSummary>,
}

/// One launch of a side of a comparison, by its place in the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Used<'a> {
    /// Its run.
    pub run: RunId,
    /// The launch.
    pub launch: &'a LaunchSummary,
    /// Launch value in the metric's unit.
    pub value: f64,
    /// Samples behind it.
    pub n: u64,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct SideValues<'a> {
    /// Typical value in the metric's unit.
    pub value: f64,
    /// The launches that went into it.
    pub launches: Vec<Used<'a>>,
}

/// The decision on one metric of one case, with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged<'a> {
    /// The case.
    pub case: CaseId,
    /// The metric; `latency` stands in where there is no number at all.
    pub metric: Metric,
    /// Whether a regression of it may fail CI.
    pub gating: bool,
    /// Whether it does.
    pub fails: bool,
    /// The limits.
    pub thresholds: Thresholds,
    /// Base numbers.
    pub base: Option<SideValues<'a>>,
    /// Head numbers.
    pub head: Option<SideValues<'a>>,
    /// How the case ended in head.
    pub outcome: Option<Outcome>,
    /// The decision.
    pub verdict: Verdict,
    /// Smallest change that could have been called minor, as a fraction.
    pub smallest_detectable: Option<f64>,
    /// Set where fresh pairs decided.
    pub paired: Option<PairedEvidence>,
}

/// How one reference workload moved.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceMove {
    /// Its case.
    pub case: CaseId,
    /// Latency in the history, seconds.
    pub base: Option<f64>,
    /// Latency in head, seconds.
    pub head: Option<f64>,
}

/// Everything decided about a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement<'a> {
    /// One row a judged metric of a case, worst first.
    pub rows: Vec<Judged<'a>>,
    /// Reference workloads.
    pub reference: Vec<ReferenceMove>,
    /// Findings about the session as a whole.
    pub notes: Vec<String>,
}
