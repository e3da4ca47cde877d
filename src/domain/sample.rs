//! Raw measurements: the record everything else is computed from. Nothing is rounded here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Metric;

/// The samples of one metric in one launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Samples {
    /// What the values mean.
    pub metric: Metric,
    /// Iterations in each timed batch; the values are already divided by it.
    pub iterations: u64,
    /// The clock that was read: `monotonic`, `process-cpu`, `cuda-event`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// One value a sample, per iteration, in the metric's unit, in the order they were taken.
    pub values: Vec<f64>,
}

/// A metric with a single value in a launch: peak memory, load time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Value {
    /// What the value means.
    pub metric: Metric,
    /// In the metric's unit.
    pub value: f64,
}

/// A numerical comparison with a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What was compared: `logits`, `gradient`.
    pub name: String,
    /// What it was compared with, in words: `f64 forward pass`.
    pub reference: String,
    /// The observed error, in the measure that `reference` implies (relative to the reference's scale). JSON has no word
    /// for a number that is none: there it is `null`.
    #[serde(deserialize_with = "number_or_none")]
    pub error: f64,
    /// The largest error that passes.
    pub tolerance: f64,
    /// Whether `error <= tolerance`; a NaN error does not pass.
    pub pass: bool,
}

/// `null` is what JSON makes of NaN.
fn number_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Check {
    /// Compares; a NaN error fails.
    #[must_use]
    pub fn new(name: &str, reference: &str, error: f64, tolerance: f64) -> Self {
        Self { name: name.to_owned(), reference: reference.to_owned(), error, tolerance, pass: error <= tolerance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_is_no_number_survives_json_and_fails() {
        let text = serde_json::to_string(&Check::new("logits", "f64", f64::NAN, 1e-3)).expect("plain data");
        let check: Check = serde_json::from_str(&text).expect("what was written can be read");
        assert!(check.error.is_nan() && !check.pass);
    }
}
