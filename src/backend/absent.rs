//! Backends that suites may name and this version does not contain: absence is a value, with a reason and a remedy.

use crate::backend::{Availability, Backend, BackendError, Prepared};
use crate::domain::{Skip, Workload};

/// A name without an engine.
#[derive(Debug)]
pub struct Absent {
    /// Name in suites.
    pub name: &'static str,
    /// One line.
    pub describe: &'static str,
}

impl Absent {
    fn skip(&self) -> Skip {
        Skip {
            reason: format!("this version of regrade has no `{}` backend yet", self.name),
            remedy: "measure through a `command` workload meanwhile".to_owned(),
        }
    }
}

impl Backend for Absent {
    fn name(&self) -> &'static str {
        self.name
    }

    fn describe(&self) -> &'static str {
        self.describe
    }

    fn availability(&self) -> Availability {
        Availability::Unavailable(self.skip())
    }

    fn supports(&self, _workload: &Workload) -> Result<(), Skip> {
        Err(self.skip())
    }

    fn load(&self, _workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        Err(BackendError::Unsupported(self.skip().reason))
    }
}
