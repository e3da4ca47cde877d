//! The CPU backend: models through candle, operators of our own and candle's, and the reference workloads.
//!
//! Must not know how samples are taken. One engine thread unless the case says otherwise; the runner sets the pool's
//! size in the worker's environment and [`Cpu::load`] refuses to run with another.

use crate::backend::{Availability, Backend, BackendError, Prepared};
use crate::domain::{Skip, Workload, WorkloadKind};

mod host;
mod model;
mod operator;
mod random;
mod reference;

/// Models and operators on the host's CPU.
#[derive(Debug)]
pub struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn describe(&self) -> &'static str {
        "models and operators on the host's CPU (candle, pure Rust)"
    }

    fn availability(&self) -> Availability {
        todo!()
    }

    fn supports(&self, workload: &Workload) -> Result<(), Skip> {
        match workload.kind {
            WorkloadKind::Model => model::supports(workload),
            WorkloadKind::Operator => operator::supports(workload),
            WorkloadKind::Reference | WorkloadKind::Command => Ok(()),
        }
    }

    fn load(&self, workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        match workload.kind {
            WorkloadKind::Model => model::load(workload, seed),
            WorkloadKind::Operator => operator::load(workload, seed),
            WorkloadKind::Reference => reference::load(workload, seed),
            WorkloadKind::Command => Err(BackendError::Unsupported(
                "a command is started by the runner, not by a backend".to_owned(),
            )),
        }
    }
}
