//! The CPU backend's models.

use crate::backend::{BackendError, Prepared};
use crate::domain::{Skip, Workload};

/// Whether this model can run in the precision asked for.
pub fn supports(_workload: &Workload) -> Result<(), Skip> {
    todo!()
}

/// Loads a model.
pub fn load(_workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    todo!()
}
