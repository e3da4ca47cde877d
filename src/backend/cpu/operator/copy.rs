//! A memory copy: what the host's bandwidth allows, split over the engine's threads.
//!
//! Must not know how samples are taken.

use std::fmt;
use std::hint::black_box;

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::backend::cpu::{random, this_device};
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo, Workload};
use crate::measure::{Subject, SubjectError};

struct Copy {
    from: Vec<u8>,
    to: Vec<u8>,
    threads: usize,
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copy({} bytes, {} threads)", self.from.len(), self.threads)
    }
}

/// Loads `copy` with two buffers of `bytes`, both touched.
pub fn load(workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    let size = |name| workload.size(name).map_err(BackendError::Unsupported);
    let from = random::bytes(seed, "source", size("bytes")?);
    Ok(Box::new(Copy { to: inverted(&from), from, threads: size("threads")? }))
}

/// Wrong in every byte, so that a copy that does nothing is found out.
fn inverted(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

impl Subject for Copy {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        let share = self.from.len().div_ceil(self.threads.max(1)).max(1);
        for _ in 0..iterations {
            let (from, to) = (black_box(&self.from), black_box(&mut self.to));
            if self.threads > 1 {
                to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| to.copy_from_slice(from));
            } else {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }
}

impl Prepared for Copy {
    fn device(&self) -> DeviceInfo {
        this_device(rayon::current_num_threads())
    }

    /// Each byte read once and written once.
    fn counts(&self) -> WorkCounts {
        WorkCounts { bytes: Some(2.0 * self.from.len() as f64), ..WorkCounts::default() }
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        self.to = inverted(&self.from);
        self.run(1)
            .map_err(|error| BackendError::Engine { context: "checking copy".to_owned(), source: Box::new(error) })?;
        let wrong = self.from.iter().zip(&self.to).filter(|(from, to)| from != to).count();
        Ok(vec![Check::new("wrong bytes", "the bytes copied", wrong as f64, 0.0)])
    }
}
