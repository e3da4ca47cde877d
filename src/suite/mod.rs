//! TOML → Suite → Plan.
//!
//! A text is read into the types of `format` (`read`: syntax, unknown keys, types), checked and expanded into cases
//! (`expand`, with `settings`, `work`, `axes` and `target`), and planned for a machine (`plan`). Must not know how anything is
//! run: it is told what hardware there is through [`BackendView`]. A table of prices (`prices`) stands beside a suite.

use std::fmt;
use std::path::Path;

use crate::domain::{Build, Case, Plan, Price, Skip, SuiteInfo, Workload};
use crate::suite::error::Problems;

mod at;
mod axes;
mod condition;
mod error;
mod expand;
mod format;
mod formula;
mod kernel;
mod known;
mod plan;
mod prices;
mod quantity;
mod read;
mod schema;
mod settings;
mod suggest;
mod target;
mod template;
#[cfg(test)]
mod tests;
pub mod waivers;
mod work;

pub use error::{Diagnostic, SuiteError};
pub use plan::shuffle;
pub use suggest::did_you_mean;

/// What a backend offers on this machine, as far as `when` conditions ask.
pub struct BackendView<'a> {
    /// Name.
    pub name: &'a str,
    /// Facts, or why it cannot run anything here.
    pub ready: Result<HardwareFacts, Skip>,
    /// Whether it can run a workload at all.
    pub supports: &'a dyn Fn(&Workload) -> Result<(), Skip>,
}

impl fmt::Debug for BackendView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut view = f.debug_struct("BackendView");
        view.field("name", &self.name).field("ready", &self.ready).finish_non_exhaustive()
    }
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
    /// Whether the reference workloads run in every session.
    pub reference_workloads: bool,
    /// How to build a checked-out tree.
    pub build: Build,
    /// What devices cost; empty where the suite names no table, or stands in no folder.
    pub prices: Vec<Price>,
}

impl Suite {
    /// Reads and validates a file. `backends` are the names that suites may use.
    ///
    /// # Errors
    /// With file, line, the offending text and the remedy.
    pub fn load(path: &Path, backends: &[&str]) -> Result<Self, SuiteError> {
        let bytes = std::fs::read(path).map_err(|source| SuiteError::Read { path: path.to_owned(), source })?;
        let origin = path.display().to_string();
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::read(&origin, text, backends, path.parent()),
            Err(error) => {
                let text = String::from_utf8_lossy(&bytes);
                let at = error.valid_up_to();
                let mut problems = Problems::default();
                problems.add(&(at..at), "the file is not UTF-8 text", "save it as UTF-8".to_owned());
                Err(problems.into_error(&origin, &text).expect("a problem was just noted"))
            }
        }
    }

    /// Validates a text that stands in no folder, so that its table of prices is not looked at; `origin` stands for the file
    /// name in errors.
    ///
    /// # Errors
    /// As [`Suite::load`].
    pub fn parse(origin: &str, text: &str, backends: &[&str]) -> Result<Self, SuiteError> {
        Self::read(origin, text, backends, None)
    }

    fn read(origin: &str, text: &str, backends: &[&str], folder: Option<&Path>) -> Result<Self, SuiteError> {
        let mut problems = Problems::default();
        let file = read::read(text, &mut problems);
        let named = file.as_ref().and_then(|file| file.prices.as_ref()).zip(folder);
        let prices = named.map(|(named, folder)| prices::beside(named, folder, &mut problems)).transpose()?.flatten();
        let expanded = file.map(|file| expand::expand(&file, text, backends, prices, &mut problems));
        match (expanded, problems.into_error(origin, text)) {
            (_, Some(error)) => Err(error),
            (Some(suite), None) => Ok(suite),
            (None, None) => unreachable!("a text that cannot be read leaves a problem"),
        }
    }

    /// The reference workloads, which a plan adds to the cases of a suite.
    #[must_use]
    pub fn reference_cases() -> Vec<Case> {
        plan::reference_cases()
    }

    /// Selects, decides what is skipped here and why, adds the reference workloads, and shuffles the launches.
    /// `launches` overrides the suite's number of launches a case.
    ///
    /// # Errors
    /// When the selection matches no case.
    pub fn plan(
        &self,
        selection: &Selection,
        machine: &[BackendView<'_>],
        seed: u64,
        launches: Option<u32>,
    ) -> Result<Plan, SuiteError> {
        plan::plan(self, selection, machine, seed, launches)
    }
}

/// The JSON Schema (draft 2020-12) of the suite format, generated from the types and the catalogue of workloads.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schema::json_schema()
}

/// The JSON Schema (draft 2020-12) of a table of prices.
#[must_use]
pub fn prices_schema() -> serde_json::Value {
    schema::prices_schema()
}
