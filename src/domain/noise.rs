//! What is known of a metric's noise on a testbed, learnt from pairs of launches of the same program.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{CaseId, MetricSummary};

/// What stands for a launch: an order statistic of its samples on the badness scale, so that all but the median lie on
/// the good side (STATISTICS.md section 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LaunchStatistic {
    /// The median.
    #[default]
    #[serde(rename = "median")]
    Median,
    /// The quartile on the good side.
    #[serde(rename = "q25")]
    LowerQuartile,
    /// The best sample.
    #[serde(rename = "min")]
    Best,
}

impl LaunchStatistic {
    /// All, the default first.
    pub const ALL: [Self; 3] = [Self::Median, Self::LowerQuartile, Self::Best];

    /// The word used everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::LowerQuartile => "q25",
            Self::Best => "min",
        }
    }

    /// Which quantile on the badness scale.
    #[must_use]
    pub const fn share(self) -> f64 {
        match self {
            Self::Median => 0.5,
            Self::LowerQuartile => 0.25,
            Self::Best => 0.0,
        }
    }

    /// The value of a launch, in the metric's unit.
    #[must_use]
    pub const fn of(self, summary: &MetricSummary) -> f64 {
        match self {
            Self::Median => summary.median,
            Self::LowerQuartile => summary.q25,
            Self::Best => summary.min,
        }
    }
}

/// The noise of one metric of one case on one testbed (STATISTICS.md sections 2 and 3.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoiseModel {
    /// Testbed key.
    pub testbed: String,
    /// Suite name.
    pub suite: String,
    /// The case.
    pub case: CaseId,
    /// Metric name.
    pub metric: String,
    /// When it was learnt.
    #[schemars(with = "String")]
    pub measured: Timestamp,
    /// What stands for a launch from now on.
    pub statistic: LaunchStatistic,
    /// Spread of a pair's difference without any change, log units (`IQR / 1.349`).
    pub pair_spread: f64,
    /// Standard deviation of such differences, log units.
    pub pair_deviation: f64,
    /// Pairs behind it.
    pub pairs: u32,
    /// Verdicts other than "unchanged" or "inconclusive" among `trials` on data without a change.
    pub false_alarms: u32,
    /// Verdicts tried.
    pub trials: u32,
    /// Smallest slowdown that is found in four of five trials, a fraction; absent where none up to severe is.
    pub smallest_detectable: Option<f64>,
    /// Pairs that "unchanged" costs, the mean over the trials.
    pub unchanged_pairs: f64,
}
