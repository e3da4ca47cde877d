//! `regrade tune` (hidden): lets XLA's compiler tune the kernels that a worker's request needs, for the launches of the session.
//!
//! A process of its own, so that no launch measures differently for having tuned. Must not know what is measured.

use anyhow::Result;

use crate::backend::xla;
use crate::command::worker;
use crate::exit::Exit;
use crate::protocol;

/// Tunes.
pub fn run() -> Result<Exit> {
    worker::end_with_parent();
    let request = protocol::request_from_env()?;
    xla::tune(&request.case.backend, &request.case.workload, request.seed)?;
    Ok(Exit::Pass)
}
