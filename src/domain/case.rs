//! Cases and the plan of a session.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{CaseId, Metric, Price, Severity, Target, Thresholds, Workload};

/// How long and how precisely a launch samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sampling {
    /// Fewest samples kept, at least 10 (STATISTICS.md section 2).
    pub min_samples: u32,
    /// Most samples kept.
    pub max_samples: u32,
    /// Stop when the 95 % interval of the median is within this share of it on both sides.
    pub precision: f64,
    /// Sampling goes on for at least this long, seconds, however precise: a launch shorter than the scheduler's
    /// disturbances is a sample of one mood.
    #[serde(default)]
    pub min_time_s: f64,
    /// Cap on sampling time, seconds. `min_samples` are taken even so.
    pub max_time_s: f64,
    /// Shortest useful sample, seconds: iterations a sample are raised until a sample lasts this long.
    pub min_sample_time_s: f64,
    /// Cap on the warm-up, seconds.
    pub max_warmup_s: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            min_samples: 10,
            max_samples: 1000,
            precision: 0.01,
            min_time_s: 0.2,
            max_time_s: 3.0,
            min_sample_time_s: 0.001,
            max_warmup_s: 2.0,
        }
    }
}

/// Why a case is not attempted here, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skip {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// One concrete combination: benchmark × axis values × backend × device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Case {
    /// Stable id.
    pub id: CaseId,
    /// The benchmark's name in its suite.
    pub benchmark: String,
    /// What is run.
    pub workload: Workload,
    /// Backend name.
    pub backend: String,
    /// For selection.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whom to ask.
    #[serde(default)]
    pub owner: Option<String>,
    /// Limits by metric name; the row `*` holds for every other metric.
    pub thresholds: BTreeMap<String, Thresholds>,
    /// Metrics whose regression may fail CI.
    pub gate_metrics: Vec<String>,
    /// What its metrics shall reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// How to sample.
    pub sampling: Sampling,
    /// A launch is killed after this many seconds.
    pub timeout_s: f64,
    /// A launch is killed above this resident size, bytes.
    pub memory_limit: Option<u64>,
    /// Metrics that a command reports itself, by name: unit, direction and kind as the suite describes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Metric>,
    /// Environment variables of a command, axis values filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Directory in which a command starts; relative to the harness's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Earlier ids of this case, so that a rename keeps its history.
    #[serde(default)]
    pub aliases: Vec<CaseId>,
    /// Hardware conditions it needs, as written in the suite.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Set when it cannot run here.
    #[serde(default)]
    pub skip: Option<Skip>,
    /// One of the pinned reference workloads that watch the machine: measured in every session, never judged.
    #[serde(default)]
    pub reference: bool,
}

impl Case {
    /// The limits that hold for a metric of this case.
    #[must_use]
    pub fn thresholds_for(&self, metric: &str) -> Thresholds {
        self.thresholds.get(metric).or_else(|| self.thresholds.get("*")).copied().unwrap_or_default()
    }

    /// A metric as the suite describes it, or as regrade itself does; `None` where neither knows it.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<Metric> {
        self.metrics.get(name).cloned().or_else(|| Metric::standard(name))
    }

    /// Whether a regression of this metric may fail CI.
    #[must_use]
    pub fn gates(&self, metric: &str) -> bool {
        !self.reference && self.gate_metrics.iter().any(|name| name == metric)
    }
}

/// The head of a suite, after parsing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SuiteInfo {
    /// Unique name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The severity from which CI fails.
    pub gate: Severity,
    /// Wall-time budget of a session, seconds.
    pub budget_s: Option<f64>,
    /// Launches of each case in a session.
    pub launches: u32,
    /// The suite's text as read, for the record.
    pub text: String,
    /// SHA-256 of the text, hex.
    pub hash: String,
}

/// One launch to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// Index into [`Plan::cases`].
    pub case: usize,
    /// Which launch of that case, from 0.
    pub launch: u32,
}

/// What a session will do, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The suite.
    pub suite: SuiteInfo,
    /// All cases in suite order, skipped ones included.
    pub cases: Vec<Case>,
    /// All launches of the cases that are not skipped, shuffled by `seed`.
    pub order: Vec<PlanItem>,
    /// What the order was drawn from.
    pub seed: u64,
    /// What devices cost, by the suite's table of prices.
    #[serde(default)]
    pub prices: Vec<Price>,
}
