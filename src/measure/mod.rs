//! Taking samples inside a worker: warm-up, calibration, sampling, stopping.
//!
//! Must not know which backend it times, who asked, or where samples go. Works on any [`Subject`].

use thiserror::Error;

/// What the clocks said about one timed batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Wall time of the batch by the clock named in [`Subject::clock`], seconds.
    pub wall_s: f64,
    /// Process CPU time of the batch (user and system, all threads), seconds.
    pub cpu_s: Option<f64>,
}

/// Why an iteration failed.
#[derive(Debug, Error)]
#[error("{context}: {source}")]
pub struct SubjectError {
    /// What was being run.
    pub context: String,
    /// The engine's own error.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Something that can be timed.
pub trait Subject {
    /// Runs `iterations` iterations and returns when their results are complete.
    ///
    /// # Errors
    /// When the engine fails; the launch then ends as failed.
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError>;

    /// Runs and times a batch. The default reads the host's clocks around [`Subject::run`]; a device backend
    /// overrides it to read its own.
    ///
    /// # Errors
    /// As [`Subject::run`].
    fn time(&mut self, iterations: u64) -> Result<Reading, SubjectError> {
        host_time(|| self.run(iterations))
    }

    /// Name of the wall clock that [`Subject::time`] reads.
    fn clock(&self) -> &'static str {
        "monotonic"
    }
}

fn host_time(work: impl FnOnce() -> Result<(), SubjectError>) -> Result<Reading, SubjectError> {
    use rustix::time::{ClockId, clock_gettime};
    let cpu = || {
        let t = clock_gettime(ClockId::ProcessCPUTime);
        t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
    };
    let cpu_before = cpu();
    let start = std::time::Instant::now();
    work()?;
    let wall_s = start.elapsed().as_secs_f64();
    Ok(Reading {
        wall_s,
        cpu_s: Some(cpu() - cpu_before),
    })
}
