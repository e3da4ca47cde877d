//! Plain data: the words of the project as types.
//!
//! Must not know: files, clocks, processes, databases, terminals. Nothing here does I/O or reads the environment.

mod acceptance;
mod build;
mod case;
mod id;
pub mod kernel;
mod launch;
mod metric;
mod noise;
mod price;
mod run;
mod sample;
mod target;
mod testbed;
mod threshold;
mod verdict;
mod waiver;
pub mod workload;

pub use acceptance::Acceptance;
pub use build::Build;
pub use case::{Case, Plan, PlanItem, Sampling, Skip, SuiteInfo};
pub use id::{CaseId, LaunchId, RunId, SessionId};
pub use launch::{Evidence, Launch, LaunchSummary, MetricSummary, Outcome, OutcomeKind, StopReason, Warmup};
pub use metric::{Direction, Metric, MetricKind};
pub use noise::{LaunchStatistic, NoiseModel};
pub use price::Price;
pub use run::{Arm, ArmSide, CaseRecord, Run, RunStatus};
pub use sample::{Check, Samples, Value};
pub use target::{Comparison, Over, Reading, Target, TargetCall, TargetVerdict};
pub use testbed::{DeviceInfo, Testbed};
pub use threshold::{InvalidThresholds, Thresholds};
pub use verdict::{Call, Estimate, PairedEvidence, Reason, Severity, Verdict};
pub use waiver::Waiver;
pub use workload::{ParamValue, Workload, WorkloadKind};

/// Bytes in hexadecimal, as hashes are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
