//! TOML → Suite → Plan.
//!
//! Must not know how anything is run: it is told what hardware there is through [`BackendView`].

use std::path::Path;

use crate::domain::{Case, Plan, Skip, SuiteInfo, Workload};

/// Why a suite is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SuiteError(pub String);

/// What a backend offers on this machine, as far as `when` conditions ask.
pub struct BackendView<'a> {
    /// Name.
    pub name: &'a str,
    /// Facts, or why it cannot run anything here.
    pub ready: Result<HardwareFacts, Skip>,
    /// Whether it can run a workload at all.
    pub supports: &'a dyn Fn(&Workload) -> Result<(), Skip>,
}

/// Facts that `when` conditions may name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HardwareFacts {
    /// CUDA compute capability, e.g. 9.0.
    pub compute_capability: Option<f64>,
    /// Device memory (for `cpu`: the host's), bytes.
    pub memory: Option<u64>,
    /// Physical or schedulable cores.
    pub cores: Option<u64>,
    /// Device name.
    pub device: Option<String>,
}

/// Which cases.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Globs over case ids; a case matches if any does; empty selects all.
    pub filters: Vec<String>,
    /// Tags; a case matches if it has any; empty selects all.
    pub tags: Vec<String>,
    /// Backend names; empty selects all.
    pub backends: Vec<String>,
}

/// A suite that passed validation.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Its head.
    pub info: SuiteInfo,
    /// Every case it expands to, in suite order, before any look at the machine.
    pub cases: Vec<Case>,
}

impl Suite {
    /// Reads and validates a file. `backends` are the names that suites may use.
    ///
    /// # Errors
    /// With file, line, the offending text and the remedy.
    pub fn load(_path: &Path, _backends: &[&str]) -> Result<Self, SuiteError> {
        todo!()
    }

    /// Validates a text; `origin` stands for the file name in errors.
    ///
    /// # Errors
    /// As [`Suite::load`].
    pub fn parse(_origin: &str, _text: &str, _backends: &[&str]) -> Result<Self, SuiteError> {
        todo!()
    }

    /// Selects, decides what is skipped here and why, adds the reference workloads, and shuffles the launches.
    ///
    /// # Errors
    /// When a filter or tag selects nothing.
    pub fn plan(
        &self,
        _selection: &Selection,
        _machine: &[BackendView<'_>],
        _seed: u64,
        _launches: Option<u32>,
    ) -> Result<Plan, SuiteError> {
        todo!()
    }
}

/// The JSON Schema of the suite format, generated from the types.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    todo!()
}
