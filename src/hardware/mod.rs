//! What this machine is (testbed) and what it is doing (telemetry).

use std::collections::BTreeMap;

use crate::domain::{Evidence, Testbed};

/// How good a finding is for measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// A plain fact.
    Info,
    /// Results will be noisier than they need be.
    Warn,
    /// Results will mean little.
    Bad,
}

/// One line of `regrade doctor`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Stable short name: `governor`, `load`, `steal`.
    pub id: &'static str,
    /// How good it is.
    pub level: Level,
    /// What was seen.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Stable facts of this host, by name.
#[must_use]
pub fn stable_facts() -> BTreeMap<String, String> {
    todo!()
}

/// The testbed of this host with further facts (from backends).
#[must_use]
pub fn testbed(_extra: BTreeMap<String, String>) -> Testbed {
    todo!()
}

/// Whether this machine is fit to measure.
#[must_use]
pub fn findings() -> Vec<Finding> {
    todo!()
}

/// Watches the machine while a launch runs.
#[derive(Debug)]
pub struct Watch;

impl Watch {
    /// Takes the first look.
    #[must_use]
    pub fn start() -> Self {
        todo!()
    }

    /// Takes the second look and says what happened between the two. `own` are the process ids that belong to
    /// regrade (harness and worker), which are not foreign.
    #[must_use]
    pub fn finish(self, _own: &[u32]) -> Evidence {
        todo!()
    }
}
