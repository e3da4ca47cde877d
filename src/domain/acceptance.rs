//! A change that a person accepted: the level of a metric from then on.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::CaseId;

/// What was accepted, how much of it, why, by whom, and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Acceptance {
    /// Suite name.
    pub suite: String,
    /// The case.
    pub case: CaseId,
    /// Metric name.
    pub metric: String,
    /// Relative change against the level before, a fraction in the metric's own direction.
    pub change: f64,
    /// Why it is accepted.
    pub reason: String,
    /// Who accepted it.
    pub who: String,
    /// From when on.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Until when; absent: for good.
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
    /// The commit that brought it, where it is known.
    pub commit: Option<String>,
}
