//! PORT: what can run a workload, and the table of adapters.
//!
//! A backend loads a workload into a [`Prepared`], which `measure` then times. Must not know how samples are taken,
//! stored or judged. Adapters import this file and never each other.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::backend::xla::plugins::Platform;
use crate::domain::{Check, DeviceInfo, Evidence, Skip, Workload};
use crate::measure::Subject;

pub mod cpu;
pub mod nvidia;
mod plain;
mod program;
pub mod xla;
#[cfg(feature = "xla-crate")]
mod xla_crate;

/// Whether a backend can run anything here.
#[derive(Debug, Clone, PartialEq)]
pub enum Availability {
    /// It can, on these devices; the facts are stable and belong in the testbed's fingerprint.
    Ready {
        /// At least one.
        devices: Vec<DeviceInfo>,
        /// Fact name → value, e.g. `engine` → `candle 0.11.1`, `isa` → `avx512`.
        facts: BTreeMap<String, String>,
    },
    /// It cannot, and what would change that.
    Unavailable(Skip),
}

/// What one iteration of a workload amounts to, declared from its shapes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WorkCounts {
    /// Floating-point operations (a multiply-add counts two).
    pub flops: Option<f64>,
    /// Bytes that must move to and from memory at least once.
    pub bytes: Option<f64>,
    /// Items and their unit: `(128.0, "tokens")`.
    pub items: Option<(f64, &'static str)>,
}

/// What a rate can be at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// The standard metric that says which share of it was reached.
    pub metric: &'static str,
    /// What is counted.
    pub of: Counted,
    /// FLOP/s or B/s.
    pub rate: f64,
    /// Whether a higher rate is impossible: a measurement that says so is wrong, not fast.
    pub hard: bool,
}

/// What a ceiling bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// [`WorkCounts::flops`].
    Flops,
    /// [`WorkCounts::bytes`].
    Bytes,
}

/// Why a workload could not be loaded or run.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The workload's parameters make no sense to this backend.
    #[error("{0}")]
    Unsupported(String),
    /// A checkpoint is absent, unreadable or of other shapes.
    #[error("checkpoint {path}: {what}")]
    Checkpoint {
        /// As given in the suite.
        path: String,
        /// What is wrong and what was expected.
        what: String,
    },
    /// The workload does not fit into the device's memory.
    #[error("out of device memory: {0}")]
    OutOfMemory(String),
    /// The engine failed.
    #[error("{context}: {source}")]
    Engine {
        /// What was being done.
        context: String,
        /// The engine's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A workload that is loaded and ready to be timed.
pub trait Prepared: Subject {
    /// What it runs on, with the facts of this process: instruction set, threads.
    fn device(&self) -> DeviceInfo;

    /// What one iteration amounts to.
    fn counts(&self) -> WorkCounts;

    /// Whether it is run and timed at all; otherwise [`Prepared::values`] is everything there is to know of it.
    fn is_timed(&self) -> bool {
        true
    }

    /// Seconds of loading that the first launch of a session spends for all of them: they count for none.
    fn once_s(&self) -> f64 {
        0.0
    }

    /// Brings the device to a steady state before anything is timed, within `cap_s` seconds. Called once, after loading.
    ///
    /// # Errors
    /// When the work fails.
    fn settle(&mut self, cap_s: f64) -> Result<(), BackendError> {
        let _ = cap_s;
        Ok(())
    }

    /// Rates that bound the work's own. Called once, after measuring.
    ///
    /// # Errors
    /// When they could not be measured.
    fn ceilings(&mut self) -> Result<Vec<Ceiling>, BackendError> {
        Ok(Vec::new())
    }

    /// Single-valued metrics beside those that follow from latency and counts, by their standard names. Called once, after
    /// measuring. `latency_s` is the median.
    ///
    /// # Errors
    /// When one of them could not be measured.
    fn values(&mut self, latency_s: f64) -> Result<Vec<(&'static str, f64)>, BackendError> {
        let _ = latency_s;
        Ok(Vec::new())
    }

    /// Why the median cannot be believed, if it cannot: the method's own cost is too much of it. Called once, after measuring.
    fn doubt(&self, latency_s: f64) -> Option<String> {
        let _ = latency_s;
        None
    }

    /// What the device did meanwhile. Called once, after measuring.
    fn evidence(&mut self) -> Vec<Evidence> {
        Vec::new()
    }

    /// Compares its results with a reference. Called once, after measuring, because it may need as much memory as
    /// the workload itself.
    ///
    /// # Errors
    /// When the comparison could not be made; a comparison that fails is a [`Check`] with `pass == false`.
    fn check(&mut self) -> Result<Vec<Check>, BackendError>;
}

/// A way of running workloads.
pub trait Backend: Sync {
    /// Lower-case name, as in suites.
    fn name(&self) -> &'static str;

    /// One line for `regrade list` and `doctor`.
    fn describe(&self) -> &'static str;

    /// Whether it can run anything here. Never panics, never blocks for more than seconds.
    fn availability(&self) -> Availability;

    /// Versions of the libraries that do this work, major and minor, by name: part of what makes two machines the same testbed.
    /// Called once a session; loading them may take a second.
    fn toolkit(&self, _works: &[&Workload]) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The very build of what does this work, where its version does not tell it: a word for people, with a hash. For reports; it makes
    /// no other testbed. Called once a session; hashing may take a second.
    fn build(&self, _works: &[&Workload]) -> Option<String> {
        None
    }

    /// Variables that its worker processes find, unless the user has set them.
    fn environment(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Variables that size its engine's thread pool, beside those that everything knows.
    fn thread_variables(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether its work runs on NVIDIA GPUs, whose clocks a session may lock.
    fn on_nvidia_gpus(&self) -> bool {
        false
    }

    /// Whether it can run this workload at all (operators, precisions), assuming it is ready.
    ///
    /// # Errors
    /// The reason and the remedy when it cannot.
    fn supports(&self, workload: &Workload) -> Result<(), Skip>;

    /// Loads a workload: allocates, fills weights and inputs from `seed`, compiles.
    ///
    /// # Errors
    /// When parameters, checkpoint or engine do not allow it.
    fn load(&self, workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError>;

    /// Does a job, loading and measuring this workload, on the thread where it belongs, and returns when it is done:
    /// the caller's, unless the engine wants another.
    fn on_its_thread(&self, workload: &Workload, job: &mut (dyn FnMut() + Send)) {
        let _ = workload;
        job();
    }
}

/// Every adapter, in the order `regrade list` shows them.
pub static BACKENDS: &[&dyn Backend] = &[
    &cpu::Cpu,
    &nvidia::Nvidia,
    &xla::Xla(Platform::Cpu),
    &xla::Xla(Platform::Cuda),
    &xla::Xla(Platform::Rocm),
    &xla::Xla(Platform::Oneapi),
    &xla::Xla(Platform::Tpu),
    &xla::Compile,
    #[cfg(feature = "xla-crate")]
    &xla_crate::XlaCrate,
];

/// Refuses work for more threads than this process may use CPUs: they would take turns, and the scheduler would be measured.
pub(crate) fn enough_cpus(workload: &Workload) -> Result<(), Skip> {
    let here = std::thread::available_parallelism().map_or(1, usize::from);
    match workload.size("threads") {
        Ok(threads) if threads > here => Err(Skip {
            reason: format!("it asks for {threads} threads, and {here} of the machine's CPUs may be used here"),
            remedy: format!("set `threads` to {here} or fewer, or run it where there are as many"),
        }),
        _ => Ok(()),
    }
}

/// Whether there is a file of a program that a suite names.
#[must_use]
pub fn is_program_here(word: &str) -> bool {
    program::Program::found(word).is_file()
}

/// The adapter of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Backend> {
    BACKENDS.iter().copied().find(|backend| backend.name() == name)
}

/// How wrong results are: the largest difference over the largest value of the reference. NaN, which passes no check, when
/// anything is NaN, when nothing was compared, or when the counts differ.
#[must_use]
pub fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() || want.is_empty() {
        return f64::NAN;
    }
    // `f64::max` would drop a NaN.
    let largest = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
    let difference = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, largest);
    let scale = want.iter().map(|want| want.abs()).fold(0.0, largest);
    if difference == 0.0 { 0.0 } else { difference / scale }
}
