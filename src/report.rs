//! The view model that every renderer reads: one report of head against its base, and one view of a single run.
//!
//! Holds numbers at full precision and verdicts already made. Must not know how anything is drawn, and decides
//! nothing: `verdict` has decided.

pub mod build;
pub mod foreign;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{
    CaseId, LaunchId, Metric, Outcome, PairedEvidence, Price, Run, RunId, RunStatus, SessionId, Severity, Target,
    TargetVerdict, Testbed, Thresholds, Verdict,
};

/// Version of the JSON form of [`Report`].
pub const SCHEMA_VERSION: u32 = 1;

/// Head compared with its base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this format.
    pub schema_version: u32,
    /// Version of regrade that made it.
    pub regrade_version: String,
    /// When it was made.
    #[schemars(with = "String")]
    pub generated: Timestamp,
    /// Suite name.
    pub suite: String,
    /// File of the suite, from where regrade was started; absent where stored runs were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite_file: Option<String>,
    /// The severity from which CI fails.
    pub gate: Severity,
    /// Where head was measured.
    pub testbed: Testbed,
    /// The judged run.
    pub head: RunInfo,
    /// The runs that play base, newest first; empty when there are none.
    pub base: Vec<RunInfo>,
    /// The paired session, where fresh pairs decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<PairedInfo>,
    /// What all verdicts amount to.
    pub outcome: SuiteOutcome,
    /// One row for each judged metric of each case, worst first.
    pub rows: Vec<Row>,
    /// One row for each target of head, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetRow>,
    /// Metrics that are shown and not judged.
    pub context: Vec<ContextValue>,
    /// The prices that costs of head were made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<PriceRow>,
    /// How the reference workloads moved.
    pub reference: Vec<ReferenceRow>,
    /// Findings about the session as a whole, each one sentence.
    pub notes: Vec<String>,
}

/// The circumstances of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    /// Its id.
    pub id: RunId,
    /// Full commit hash.
    pub commit: Option<String>,
    /// Branch name.
    pub branch: Option<String>,
    /// Whether the work tree had uncommitted changes.
    pub dirty: bool,
    /// When it began.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When it ended.
    #[schemars(with = "Option<String>")]
    pub finished: Option<Timestamp>,
    /// How far it got.
    pub status: RunStatus,
    /// Why its numbers are not of the workloads as written.
    pub synthetic: Option<String>,
    /// Measured by a debug build.
    pub debug_build: bool,
    /// Compiler and engine versions.
    pub toolchain: String,
    /// As typed.
    pub command_line: String,
    /// Seed of the launch order.
    pub seed: u64,
    /// Launches made.
    pub launches: u64,
}

impl RunInfo {
    /// From a header and a launch count.
    #[must_use]
    pub fn of(run: &Run, launches: u64) -> Self {
        Self {
            id: run.id,
            commit: run.commit.clone(),
            branch: run.branch.clone(),
            dirty: run.dirty,
            started: run.started,
            finished: run.finished,
            status: run.status,
            synthetic: run.synthetic.clone(),
            debug_build: run.debug_build,
            toolchain: run.toolchain.clone(),
            command_line: run.command_line.clone(),
            seed: run.seed,
            launches,
        }
    }
}

/// The circumstances of a paired session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PairedInfo {
    /// Its id; its arms are stored as runs.
    pub session: SessionId,
    /// Seed of the coins and of the order.
    pub seed: u64,
    /// The base as the user knows it.
    pub base: String,
    /// Its full commit hash.
    pub base_commit: String,
    /// The head as the user knows it.
    pub head: String,
    /// Its full commit hash; of a commit made for the purpose where the work tree had changes.
    pub head_commit: String,
    /// Cases that were paired.
    pub cases: u64,
    /// Pairs made.
    pub pairs: u64,
    /// Pairs of the base against itself.
    pub control_pairs: u64,
    /// Launches made, those before the first pair and the control stream's included.
    pub launches: u64,
    /// About how many launches the screen saved against pairing every case; absent where nothing was screened.
    pub launches_saved: Option<u64>,
}

/// What the whole suite amounts to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SuiteOutcome {
    /// Process exit code by the contract.
    pub exit_code: u8,
    /// The first line a person reads.
    pub headline: String,
    /// The command to type next, where there is an obvious one.
    pub next: Option<String>,
    /// Rows by call and severity, `regressed severe` → 2, and targets by call, `target missed` → 1.
    pub counts: BTreeMap<String, u64>,
}

/// One judged metric of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The case.
    pub case: CaseId,
    /// Its benchmark.
    pub benchmark: String,
    /// Line of the suite's file, from 1, that names the benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Its backend.
    pub backend: String,
    /// Whom to ask.
    pub owner: Option<String>,
    /// The metric; for rows without any number (missing, failed, skipped) `latency` stands in.
    pub metric: Metric,
    /// Whether a regression of it may fail CI.
    pub gating: bool,
    /// Whether it does fail CI.
    pub fails: bool,
    /// The limits it was judged by.
    pub thresholds: Thresholds,
    /// The base side; absent where there is none.
    pub base: Option<Side>,
    /// The head side; absent where there is none.
    pub head: Option<Side>,
    /// How the case ended in head; absent when it is missing there.
    pub outcome: Option<Outcome>,
    /// The decision.
    pub verdict: Verdict,
    /// Smallest change that could have been told from none here, as a fraction of the base.
    pub smallest_detectable: Option<f64>,
    /// Set where fresh pairs decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<PairedEvidence>,
}

/// One target of one case of head, or of several together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetRow {
    /// The case; where the target is about several what the suite calls them, as `target.over` does.
    pub case: CaseId,
    /// Its benchmark; the first of several.
    pub benchmark: String,
    /// Line of the suite's file, from 1, that names the benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Whom to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What is wanted.
    pub target: Target,
    /// The metric that it is about.
    pub metric: Metric,
    /// What was measured of the case: the median over launches, and every launch; absent where there is none.
    pub head: Option<Side>,
    /// The same of the case that it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Side>,
    /// Whether it fails CI.
    pub fails: bool,
    /// The decision.
    pub verdict: TargetVerdict,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// Typical value in the metric's unit: head's session value, or the median of the base's session values.
    pub value: f64,
    /// Every launch that went into it.
    pub launches: Vec<LaunchValue>,
}

/// One launch of a side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaunchValue {
    /// Its run.
    pub run: RunId,
    /// The launch.
    pub launch: LaunchId,
    /// The launch value that was judged, in the metric's unit.
    pub value: f64,
    /// Number of samples behind it.
    pub n: u64,
    /// The samples themselves; absent where the report leaves them to the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<f64>>,
}

/// A metric that is shown and not judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContextValue {
    /// The case.
    pub case: CaseId,
    /// The metric.
    pub metric: Metric,
    /// Median over the base's launches.
    pub base: Option<f64>,
    /// Median over head's launches.
    pub head: Option<f64>,
}

/// A price that costs of a run were made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceRow {
    /// The price.
    pub price: Price,
    /// How many days before the run it was read; negative where that was later.
    pub age_days: i32,
    /// Whether it was so old that somebody should look whether it still holds.
    pub old: bool,
}

impl PriceRow {
    /// A price as of the day on which a run began (UTC).
    #[must_use]
    pub fn of(price: Price, began: Timestamp) -> Self {
        let age_days = price.age_days(began.to_zoned(TimeZone::UTC).date());
        Self { price, age_days, old: age_days > Price::OLD_AFTER_DAYS }
    }
}

/// How one reference workload moved between history and head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceRow {
    /// Its case.
    pub case: CaseId,
    /// Latency in history, seconds.
    pub base: Option<f64>,
    /// Latency in head, seconds.
    pub head: Option<f64>,
    /// Relative change, a fraction.
    pub change: Option<f64>,
    /// Its latency in every launch of the history, the newest session first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_launches: Vec<LaunchValue>,
    /// Its latency in every launch of head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub head_launches: Vec<LaunchValue>,
}

/// A single run for reading: what `run` and `report` print.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// Version of this format.
    pub schema_version: u32,
    /// Suite name.
    pub suite: String,
    /// The run.
    pub run: RunInfo,
    /// Where.
    pub testbed: Testbed,
    /// One row a case, in suite order.
    pub cases: Vec<CaseView>,
    /// One row for each target, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetRow>,
    /// The prices that its costs were made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<PriceRow>,
}

/// One case of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseView {
    /// The case.
    pub case: CaseId,
    /// How it ended: the worst outcome of its launches.
    pub outcome: Outcome,
    /// Launches that were measured.
    pub launches: u32,
    /// Watches the machine, is not part of the suite proper.
    pub reference: bool,
    /// One row a metric.
    pub metrics: Vec<MetricView>,
    /// What disturbed its device or held it back: `software power cap in 3 of 3 launches`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// One metric of one case of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricView {
    /// The metric.
    pub metric: Metric,
    /// Median over launches of the launch medians.
    pub median: f64,
    /// Smallest launch median.
    pub low: f64,
    /// Largest launch median.
    pub high: f64,
    /// Samples over all launches.
    pub n: u64,
}
