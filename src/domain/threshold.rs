//! The limits that separate the severities.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::domain::Severity;

/// Limits of one metric: relative changes as fractions (`0.05` is 5 %), and a floor in the metric's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Thresholds {
    /// A change from here on matters.
    pub minor: f64,
    /// From here on CI fails by default.
    pub moderate: f64,
    /// From here on nobody ships it.
    pub severe: f64,
    /// Changes smaller than this, in the metric's unit, are never reported, whatever their percentage.
    #[serde(default)]
    pub absolute_floor: Option<f64>,
}

impl Default for Thresholds {
    /// 2 %, 5 %, 15 % (STATISTICS.md section 2.1).
    fn default() -> Self {
        Self { minor: 0.02, moderate: 0.05, severe: 0.15, absolute_floor: None }
    }
}

/// Why limits cannot be used.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidThresholds {
    /// Not `0 < minor < moderate < severe`.
    #[error(
        "thresholds must be above zero and rise from minor to moderate to severe, got {minor}, {moderate}, {severe}"
    )]
    Order {
        /// As given.
        minor: f64,
        /// As given.
        moderate: f64,
        /// As given.
        severe: f64,
    },
    /// Negative or not finite.
    #[error("an absolute floor must be a finite number of zero or more, got {0}")]
    Floor(f64),
}

impl Thresholds {
    /// Checks order and finiteness.
    ///
    /// # Errors
    /// When the limits do not rise, or the floor is negative or not finite.
    pub fn validate(&self) -> Result<(), InvalidThresholds> {
        let rising = self.minor > 0.0 && self.minor < self.moderate && self.moderate < self.severe;
        if !rising || !self.severe.is_finite() {
            return Err(InvalidThresholds::Order { minor: self.minor, moderate: self.moderate, severe: self.severe });
        }
        match self.absolute_floor {
            Some(floor) if !floor.is_finite() || floor < 0.0 => Err(InvalidThresholds::Floor(floor)),
            _ => Ok(()),
        }
    }

    /// The limits on the log scale, `T_j = ln(1 + limit)`, for minor, moderate, severe.
    #[must_use]
    pub fn log(&self) -> [f64; 3] {
        [self.minor.ln_1p(), self.moderate.ln_1p(), self.severe.ln_1p()]
    }

    /// The limit of a severity as a fraction; zero for `none`.
    #[must_use]
    pub fn of(&self, severity: Severity) -> f64 {
        match severity {
            Severity::None => 0.0,
            Severity::Minor => self.minor,
            Severity::Moderate => self.moderate,
            Severity::Severe => self.severe,
        }
    }
}
