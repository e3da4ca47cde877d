//! A launch: one worker process and everything it told us, or how it ended instead.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{CaseId, Check, DeviceInfo, LaunchId, Metric, Samples, Value};

/// How a launch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Samples were taken and the numbers are right.
    Measured,
    /// Not attempted: hardware, backend or precision is not there.
    Skipped,
    /// Crash, error, or wrong numbers.
    Failed,
    /// Killed at its deadline.
    TimedOut,
    /// Killed at its memory limit, or by the kernel for want of memory.
    OutOfMemory,
    /// It ran, but the evidence says that its numbers mean nothing.
    Invalid,
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Measured => "measured",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::OutOfMemory => "out of memory",
            Self::Invalid => "invalid",
        })
    }
}

/// How a launch or a case ended, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Which ending.
    pub kind: OutcomeKind,
    /// One sentence; absent for `measured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Outcome {
    /// Samples were taken and the numbers are right.
    #[must_use]
    pub const fn measured() -> Self {
        Self { kind: OutcomeKind::Measured, reason: None }
    }

    /// The ending that stands for a case: the worst of its launches'.
    #[must_use]
    pub fn worst<'a>(launches: impl IntoIterator<Item = &'a Self>) -> Self {
        let badness = |kind: OutcomeKind| match kind {
            OutcomeKind::Measured => 0,
            OutcomeKind::Skipped => 1,
            OutcomeKind::Invalid => 2,
            OutcomeKind::TimedOut | OutcomeKind::OutOfMemory => 3,
            OutcomeKind::Failed => 4,
        };
        launches
            .into_iter()
            .max_by_key(|outcome| badness(outcome.kind))
            .cloned()
            .unwrap_or_else(|| Self::because(OutcomeKind::Skipped, "not reached: the session ended before its turn"))
    }

    /// Any other ending, with its reason.
    #[must_use]
    pub fn because(kind: OutcomeKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: Some(reason.into()) }
    }
}

/// How the warm-up went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Warmup {
    /// Iterations run before the first kept sample.
    pub iterations: u64,
    /// Time spent, seconds.
    pub seconds: f64,
    /// Whether the samples had stopped trending when it ended; `false` means the cap ended it.
    pub settled: bool,
}

/// Why sampling stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The statistic that will be judged is known to the precision asked for.
    Precise,
    /// The cap on the number of samples.
    MaxSamples,
    /// The cap on sampling time.
    MaxTime,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Precise => "precise",
            Self::MaxSamples => "max samples",
            Self::MaxTime => "max time",
        })
    }
}

/// What the machine did while a launch ran: facts by name, from one source.
///
/// Names carry their unit as a suffix where they have one: `cpu_mhz_mean`, `steal_percent`, `pressure_cpu_some_avg10_percent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Who saw it: `linux`, `nvml`, `worker`; `build` for which order of code ran.
    pub source: String,
    /// Numbers, texts, lists.
    pub facts: BTreeMap<String, serde_json::Value>,
}

impl Evidence {
    /// Who saw what GPUs did.
    pub const GPU: &'static str = "nvml";
    /// What XLA's engine tells of a program.
    pub const XLA: &'static str = "xla";
    /// The fact of seconds that this launch spent for all launches of its session.
    pub const ONCE_S: &'static str = "tuned_s";
}

/// Everything one worker process yielded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Launch {
    /// Unique for ever.
    pub id: LaunchId,
    /// What was measured.
    pub case: CaseId,
    /// Which launch of this case in its run, from 0.
    pub index: u32,
    /// Position in the session's shuffled order, from 0.
    pub position: u32,
    /// When the process was started.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When it had ended.
    #[schemars(with = "String")]
    pub finished: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Sampled metrics.
    pub samples: Vec<Samples>,
    /// Single-valued metrics.
    pub values: Vec<Value>,
    /// Numeric checks.
    pub checks: Vec<Check>,
    /// What it ran on, as the worker said.
    pub device: Option<DeviceInfo>,
    /// How the warm-up went.
    pub warmup: Option<Warmup>,
    /// Why sampling stopped.
    pub stop: Option<StopReason>,
    /// Telemetry.
    pub evidence: Vec<Evidence>,
    /// Messages nobody here understands, kept for those who do.
    pub unknown: Vec<serde_json::Value>,
    /// The end of the worker's own standard output and error.
    pub log: String,
}

/// The columns of one metric of one launch, so that comparing needs no sample vectors.
///
/// Order statistics are taken on the badness scale (STATISTICS.md section 2): `q25` and `min` are the good side,
/// so for a metric where higher is better they are the upper quartile and the maximum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricSummary {
    /// What the values mean.
    pub metric: Metric,
    /// Number of samples (1 for a single value).
    pub n: u64,
    /// Iterations a sample.
    pub iterations: u64,
    /// Median, in the metric's unit.
    pub median: f64,
    /// Quartile on the good side, type 7.
    pub q25: f64,
    /// Best value.
    pub min: f64,
    /// Quartile on the bad side, type 7.
    pub q75: f64,
}

/// A launch without its vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaunchSummary {
    /// The launch.
    pub id: LaunchId,
    /// What was measured.
    pub case: CaseId,
    /// Which launch of this case in its run.
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// One row a metric.
    pub metrics: Vec<MetricSummary>,
}
