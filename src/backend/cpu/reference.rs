//! The pinned programs that watch the machine.

use crate::backend::{BackendError, Prepared};
use crate::domain::Workload;

/// Loads a reference workload.
pub fn load(_workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    todo!()
}
