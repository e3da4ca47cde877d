//! The messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Case, Check, DeviceInfo, Evidence, Outcome, Samples, StopReason, Value, Warmup};

/// What a worker is asked to do: the JSON text in `REGRADE_REQUEST`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Protocol version.
    pub protocol: u32,
    /// The case, its parameters and its sampling rules.
    pub case: Case,
    /// Seed of weights and inputs: the same in every launch of a run, so that every launch does the same work.
    pub seed: u64,
    /// Which launch of this case this is, from 0.
    pub launch: u32,
    /// Seconds until the worker is killed.
    pub time_budget_s: f64,
    /// Extra real work asked for, as a fraction of the work (`0.3` is 30 %); zero in honest runs.
    #[serde(default)]
    pub inject: f64,
}

/// One line of a worker's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Who speaks.
    Hello {
        /// Protocol version spoken.
        protocol: u32,
        /// Program or library name.
        client: String,
        /// Its version.
        version: String,
    },
    /// What it runs on.
    Device(DeviceInfo),
    /// Samples of a metric.
    Samples(Samples),
    /// A single-valued metric.
    Value(Value),
    /// A numeric comparison with a reference.
    Check(Check),
    /// Telemetry.
    Evidence(Evidence),
    /// How the warm-up went.
    Warmup(Warmup),
    /// Why sampling stopped.
    Stop {
        /// The rule that ended it.
        reason: StopReason,
    },
    /// How it ended. A worker that dies without one has failed.
    Outcome(Outcome),
}
