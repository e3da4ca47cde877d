//! The CPU backend's operators.

use crate::backend::{BackendError, Prepared};
use crate::domain::{Skip, Workload};

/// Whether this operator can run in the precision asked for.
pub fn supports(_workload: &Workload) -> Result<(), Skip> {
    todo!()
}

/// Loads a operator.
pub fn load(_workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    todo!()
}
