//! A target: what a metric of a case shall reach, by itself or beside another case, or which share of several cases shall
//! succeed; and what may be said of it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{CaseId, Direction, Metric, MetricKind, Reason};

/// Which side of a value is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `<`
    Below,
}

impl Comparison {
    /// Whether a value is on the wanted side.
    #[must_use]
    pub fn holds(self, seen: f64, wanted: f64) -> bool {
        match self {
            Self::AtLeast => seen >= wanted,
            Self::AtMost => seen <= wanted,
            Self::Above => seen > wanted,
            Self::Below => seen < wanted,
        }
    }

    /// Whether larger values are wanted.
    #[must_use]
    pub const fn wants_more(self) -> bool {
        matches!(self, Self::AtLeast | Self::Above)
    }
}

/// Several cases that a target is about together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Over {
    /// What the suite calls them: a benchmark, several with commas between them, or the suite itself.
    pub name: String,
    /// How many there are in the suite, wherever they can run: cases that were left out of a run have not succeeded.
    pub cases: u32,
}

/// A goal of one case, or of several together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// As the suite says it: `hbm_utilization >= 0.85`, `latency <= 2 ms`.
    pub that: String,
    /// Metric name.
    pub metric: String,
    /// Which side of the value is wanted.
    pub comparison: Comparison,
    /// The value, in the metric's unit; a ratio where the target is relative.
    pub value: f64,
    /// Set where the target is relative: the case whose value the ratio is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<CaseId>,
    /// Set where the target is about several cases together, each of which holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// Whether missing it fails CI; otherwise it is only shown.
    pub required: bool,
    /// Where the goal comes from, in the suite's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Target {
    /// What targets over cases are about: how many of them were measured, as a share of those that were tried.
    pub const SUCCESS_RATE: &'static str = "success_rate";

    /// [`Self::SUCCESS_RATE`] as a metric: counted, and never measured by a launch.
    #[must_use]
    pub fn success_rate() -> Metric {
        Metric {
            name: Self::SUCCESS_RATE.to_owned(),
            unit: "1".to_owned(),
            direction: Direction::HigherIsBetter,
            kind: MetricKind::Ratio,
            exact: true,
            derived: true,
        }
    }
}

impl fmt::Display for Target {
    /// `flop_rate >= 1.6 of gemm/m=8192@nvidia`, `success_rate >= 95 % over 12 cases`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.that)?;
        match (&self.of, &self.over) {
            (Some(of), _) => write!(f, " of {of}"),
            (None, Some(over)) => write!(f, " over {} {}", over.cases, if over.cases == 1 { "case" } else { "cases" }),
            (None, None) => Ok(()),
        }
    }
}

/// Whether a target is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetCall {
    /// The whole interval is on the wanted side.
    Met,
    /// The whole interval is on the other side.
    Missed,
    /// The data cannot say. Never a pass, never a failure.
    Inconclusive,
}

impl TargetCall {
    /// The words used everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl fmt::Display for TargetCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What was measured of a target's metric: in the metric's unit, or a ratio of two cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reading {
    /// Median of the launches; the ratio of two of them where the target is relative.
    pub value: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end of the interval.
    pub upper: f64,
    /// Two-sided coverage of the interval, e.g. `0.95`; 1 of what was counted, whose ends are what it can still become.
    pub confidence: f64,
}

/// The decision on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetVerdict {
    /// The answer.
    pub call: TargetCall,
    /// Why.
    pub reason: Reason,
    /// What was measured; absent where there are no numbers.
    pub reading: Option<Reading>,
    /// One sentence for a person: by how much, and what would decide it where it is open.
    pub note: String,
}
