//! What may be said of a case: the call, its severity, its reason, and the estimate behind it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::LaunchStatistic;

/// How much a change matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Below the first threshold, or not established.
    None,
    /// At or above the minor threshold.
    Minor,
    /// At or above the moderate threshold.
    Moderate,
    /// At or above the severe threshold.
    Severe,
}

impl Severity {
    /// All, in rising order.
    pub const ALL: [Self; 4] = [Self::None, Self::Minor, Self::Moderate, Self::Severe];

    /// The word used everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minor => "minor",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Better by a severity's worth.
    Improved,
    /// Shown to lie within the margin.
    Unchanged,
    /// Worse by a severity's worth.
    Regressed,
    /// The data cannot say. Never a pass, never a failure.
    Inconclusive,
    /// There is nothing to compare with, or it may not be compared.
    NotComparable,
}

impl Call {
    /// The words used everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Unchanged => "unchanged",
            Self::Regressed => "regressed",
            Self::Inconclusive => "inconclusive",
            Self::NotComparable => "not comparable",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why the call is what it is. The code is stable; tools may match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The interval's near bound and the estimate both reach the class.
    Established,
    /// The whole interval lies within the equivalence margin.
    WithinMargin,
    /// The change is smaller than the absolute floor of this metric.
    BelowFloor,
    /// The interval reaches beyond the margin on a side, and no class is established.
    WideInterval,
    /// Screened against history and suspicious; only fresh pairs may confirm it.
    Suspect,
    /// Too few launches in head for any statement.
    TooFewLaunches,
    /// An exact metric, equal on both sides.
    ExactEqual,
    /// An exact metric that differs.
    ExactChange,
    /// The base is zero: a relative change is undefined.
    ZeroBase,
    /// The direction of the metric is unknown: a change is shown and never fails.
    UnknownDirection,
    /// No earlier result of this case on this testbed.
    New,
    /// In the base, gone from head: a case, or a metric that may fail CI.
    Missing,
    /// Head did not measure this case (crash, time-out, out of memory, wrong numbers).
    HeadFailed,
    /// Head did not attempt this case here.
    HeadSkipped,
    /// Head measured this case, or another one that a target is about, without the metric that a target is about.
    NotMeasured,
    /// No base launch of this case was usable.
    BaseFailed,
    /// A value is negative, zero or not finite where that is impossible.
    BadValue,
    /// The reference workloads moved: the machine is not the one of the history.
    NoisySession,
    /// The base was told from itself in this session: the harness or the machine favours a side.
    ControlMoved,
    /// The smallest limit lies below what calibration says this testbed can tell.
    BelowNoiseFloor,
    /// Regressed, and a waiver covers it: shown, never failing.
    Waived,
    /// Regressed against the accepted level, and no worse than what the base branch itself has come to.
    Inherited,
}

impl Reason {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::WithinMargin => "within-margin",
            Self::BelowFloor => "below-floor",
            Self::WideInterval => "wide-interval",
            Self::Suspect => "suspect",
            Self::TooFewLaunches => "too-few-launches",
            Self::ExactEqual => "exact-equal",
            Self::ExactChange => "exact-change",
            Self::ZeroBase => "zero-base",
            Self::UnknownDirection => "unknown-direction",
            Self::New => "new",
            Self::Missing => "missing",
            Self::HeadFailed => "head-failed",
            Self::HeadSkipped => "head-skipped",
            Self::NotMeasured => "not-measured",
            Self::BaseFailed => "base-failed",
            Self::BadValue => "bad-value",
            Self::NoisySession => "noisy-session",
            Self::ControlMoved => "control-moved",
            Self::BelowNoiseFloor => "below-noise-floor",
            Self::Waived => "waived",
            Self::Inherited => "inherited",
        }
    }
}

/// Relative change of head against base with its interval.
///
/// All three are fractions of the base in the metric's own direction: `0.05` is "5 % more", whether or not more
/// is worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Point estimate.
    pub change: f64,
    /// Lower end of the interval; absent when unbounded.
    pub lower: Option<f64>,
    /// Upper end of the interval; absent when unbounded.
    pub upper: Option<f64>,
    /// Two-sided coverage of the interval, e.g. `0.90`.
    pub confidence: f64,
}

/// How a verdict that rests on fresh pairs came about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairedEvidence {
    /// Pairs that count.
    pub pairs: u32,
    /// Evidence that the change is larger than the share of the smallest class, on the estimate's side: the natural
    /// logarithm of a bet's winnings. `alpha = exp(-log_evidence)` bounds the chance of seeing as much without a change.
    pub log_evidence: f64,
    /// What stood for a launch.
    pub statistic: LaunchStatistic,
}

/// The decision on one metric of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The answer.
    pub call: Call,
    /// How much it matters; `none` unless improved or regressed.
    pub severity: Severity,
    /// Why.
    pub reason: Reason,
    /// Rests on history, or on a few pairs and a noise model: the gate honours only a provisional `severe`.
    pub provisional: bool,
    /// The change and its interval, where both sides have numbers.
    pub estimate: Option<Estimate>,
    /// One sentence for a person: what was seen, and what would decide it where it is open.
    pub note: String,
}
