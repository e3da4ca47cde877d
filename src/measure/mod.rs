//! Taking samples inside a worker: warm-up, calibration, sampling, stopping.
//!
//! [`measure`] first finds how many iterations make a readable batch, warms up until batches stop trending, fixes
//! the iterations a sample, and then samples until the median is known well enough or a cap is reached. Inside a
//! timed batch there is nothing but the subject's own work; every statistic is computed between batches.
//!
//! Must not know which backend it times, who asked, or where samples go. Works on any [`Subject`].

use std::time::Instant;

use thiserror::Error;

use crate::domain::{Sampling, StopReason, Warmup};
use crate::stats::quantile::median;

mod calibrate;
mod clock;
mod stopping;
mod warmup;

pub use clock::PROCESS_CPU as PROCESS_CPU_CLOCK;

#[cfg(test)]
mod tests;

/// What the clocks said about one timed batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Wall time of the batch by the clock named in [`Subject::clock`], seconds.
    pub wall_s: f64,
    /// Process CPU time of the batch (user and system, all threads), seconds.
    pub cpu_s: Option<f64>,
    /// Average clock of the device's processors during the batch, Hz.
    pub clock_hz: Option<f64>,
    /// Why the batch says nothing about the work: what the device did meanwhile. The sample is thrown away.
    pub disturbed: Option<String>,
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

/// There was no memory for an iteration; the engine's own words.
#[derive(Debug, Error)]
#[error("out of memory: {0}")]
struct OutOfMemory(String);

impl SubjectError {
    /// Of an engine that had no memory left.
    pub fn out_of_memory(context: String, engine: impl std::fmt::Display) -> Self {
        Self { context, source: Box::new(OutOfMemory(engine.to_string())) }
    }

    /// Whether it was made by [`Self::out_of_memory`].
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        self.source.is::<OutOfMemory>()
    }
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

    /// The smallest time that clock tells apart, the cost of reading it included, seconds. The default measures the
    /// host's clocks; whoever overrides [`Subject::time`] with another clock overrides this too.
    fn clock_resolution_s(&self) -> f64 {
        clock::host_resolution_s()
    }
}

/// Reads the clocks around `work`.
///
/// # Errors
/// As `work`.
pub fn host_time(work: impl FnOnce() -> Result<(), SubjectError>) -> Result<Reading, SubjectError> {
    let (result, reading) = clocked(work);
    result.map(|()| reading)
}

/// What `work` gives, and the clocks around it. The CPU clock is the outer pair: reading it costs a system call, which must not
/// count as wall time.
pub fn clocked<T>(work: impl FnOnce() -> T) -> (T, Reading) {
    let cpu_before = clock::process_cpu_s();
    let start = Instant::now();
    let result = work();
    let wall_s = start.elapsed().as_secs_f64();
    (result, Reading { wall_s, cpu_s: Some(clock::process_cpu_s() - cpu_before), ..Reading::default() })
}

/// The fewest samples a launch keeps, whatever was asked for (STATISTICS.md section 2: m >= 10).
pub const LEAST_SAMPLES: u32 = 10;

/// Disturbed samples that are thrown away before a launch is given up, at least; and as a share of those kept.
const DISCARDS: (usize, f64) = (20, 0.5);

/// What a launch measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Wall seconds per nominal iteration, one value a sample, in the order they were taken.
    pub latency: Vec<f64>,
    /// Process CPU seconds per nominal iteration, beside `latency`; absent when the subject cannot tell.
    pub cpu_time: Option<Vec<f64>>,
    /// Average clock of the device's processors, Hz, beside `latency`; absent when the subject cannot tell.
    pub clock_hz: Option<Vec<f64>>,
    /// Samples thrown away because the device was disturbed.
    pub discarded: usize,
    /// Nominal iterations a sample: what values were divided by.
    pub iterations: u64,
    /// Iterations that really ran in a sample: more than `iterations` only in a run with injected work.
    pub executed: u64,
    /// How the warm-up went.
    pub warmup: Warmup,
    /// Why sampling stopped.
    pub stop: StopReason,
    /// Resolution of the clock that was read, seconds.
    pub clock_resolution_s: f64,
}

impl Measurement {
    /// The extra work of each sample as a fraction of the nominal work: exactly what ran, zero in an honest run.
    #[must_use]
    pub fn injected(&self) -> f64 {
        (self.executed - self.iterations) as f64 / self.iterations as f64
    }

    /// Median latency, seconds per nominal iteration (type-7: the mean of the middle two of an even count).
    #[must_use]
    pub fn median_latency_s(&self) -> f64 {
        median(&self.latency)
    }
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// An iteration failed.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A clock gave a time that cannot be: negative, not a number, or zero for a batch that must take time.
    #[error("the `{clock}` clock read {seconds} s for {iterations} iterations: such a time cannot be used")]
    Clock {
        /// Which clock.
        clock: &'static str,
        /// What it said.
        seconds: f64,
        /// For how many iterations.
        iterations: u64,
    },
    /// The device was disturbed so often that what is left says nothing.
    #[error("{discarded} samples had to be thrown away, {kept} were kept: {reason}")]
    Disturbed {
        /// What the device did.
        reason: String,
        /// Thrown away.
        discarded: usize,
        /// Kept.
        kept: usize,
    },
    /// The extra work asked for cannot be made of whole iterations.
    #[error("cannot inject {0} of extra work: give a fraction from 0.001 to 100 (0.3 is 30 %), or 0 for none")]
    Injection(f64),
}

/// Times a subject by these rules. `inject` is extra real work as a fraction of the nominal work (`0.3` is 30 %),
/// zero in honest runs: each sample then runs more iterations of the same work than its values are divided by.
///
/// The caps on time are held against the larger of the host's time and the sum of the subject's readings.
///
/// # Errors
/// When an iteration fails, a clock gives an impossible time, or `inject` is out of range.
pub fn measure(subject: &mut dyn Subject, sampling: &Sampling, inject: f64) -> Result<Measurement, MeasureError> {
    calibrate::validate_injection(inject)?;
    let clock_resolution_s = subject.clock_resolution_s();
    let target_s = calibrate::target_s(sampling.min_sample_time_s, clock_resolution_s);

    let (warmup, fastest_s) = warm_up(subject, sampling, target_s)?;
    let least = calibrate::iterations_for(fastest_s, target_s);
    let batch = calibrate::Batch::with_injection(least, inject).ok_or(MeasureError::Injection(inject))?;

    let sampled = take_samples(subject, sampling, batch)?;
    Ok(Measurement {
        latency: sampled.latency,
        cpu_time: sampled.cpu_time,
        clock_hz: sampled.clock_hz,
        discarded: sampled.discarded,
        iterations: batch.nominal,
        executed: batch.executed,
        warmup,
        stop: sampled.stop,
        clock_resolution_s,
    })
}

/// Warms up and returns how that went and the fastest seconds per iteration seen in the last batches.
fn warm_up(subject: &mut dyn Subject, sampling: &Sampling, target_s: f64) -> Result<(Warmup, f64), MeasureError> {
    let batch_s = target_s.max(sampling.max_warmup_s / warmup::BATCHES_IN_CAP);
    let mut watch = Stopwatch::start();
    let mut total = 0;
    let mut trend = warmup::Trend::new(sampling.precision);

    // Cold batches of growing size until one lasts long enough; only that last one says anything about a trend.
    let mut iterations = 1;
    loop {
        let wall_s = watch.time(subject, iterations)?.wall_s;
        total += iterations;
        match calibrate::next_iterations(iterations, wall_s, batch_s) {
            Some(more) => iterations = more,
            None if wall_s > 0.0 => break trend.push(wall_s / iterations as f64),
            None => return Err(impossible(subject, wall_s, iterations)),
        }
    }
    while !trend.settled() && watch.spent_s() < sampling.max_warmup_s {
        let reading = watch.time(subject, iterations)?;
        trend.push(positive(subject, reading.wall_s, iterations)? / iterations as f64);
        total += iterations;
    }
    let warmup = Warmup { iterations: total, seconds: watch.spent_s(), settled: trend.settled_at_cap() };
    Ok((warmup, trend.fastest()))
}

/// Samples per nominal iteration, and why sampling stopped.
struct Sampled {
    latency: Vec<f64>,
    cpu_time: Option<Vec<f64>>,
    clock_hz: Option<Vec<f64>>,
    discarded: usize,
    stop: StopReason,
}

fn take_samples(
    subject: &mut dyn Subject,
    sampling: &Sampling,
    batch: calibrate::Batch,
) -> Result<Sampled, MeasureError> {
    let mut rule = stopping::Rule::new(sampling);
    let mut latency = Vec::with_capacity(rule.room());
    let mut cpu_time = Vec::with_capacity(rule.room());
    let mut clock_hz = Vec::with_capacity(rule.room());
    let mut discarded = 0;
    let nominal = batch.nominal as f64;
    let mut watch = Stopwatch::start();
    let stop = loop {
        let reading = watch.time(subject, batch.executed)?;
        let wall_s = positive(subject, reading.wall_s, batch.executed)?;
        if let Some(reason) = reading.disturbed {
            discarded += 1;
            let kept = latency.len();
            if discarded > DISCARDS.0.max((DISCARDS.1 * kept as f64) as usize) {
                return Err(MeasureError::Disturbed { reason, discarded, kept });
            }
            continue;
        }
        latency.push(wall_s / nominal);
        cpu_time.extend(reading.cpu_s.map(|cpu_s| cpu_s / nominal));
        clock_hz.extend(reading.clock_hz);
        if let Some(stop) = rule.check(&latency, watch.spent_s()) {
            break stop;
        }
    };
    let complete = |values: Vec<f64>| (values.len() == latency.len()).then_some(values);
    Ok(Sampled { cpu_time: complete(cpu_time), clock_hz: complete(clock_hz), latency, discarded, stop })
}

/// The wall time of a reading, which must be a positive number.
fn positive(subject: &dyn Subject, wall_s: f64, iterations: u64) -> Result<f64, MeasureError> {
    if wall_s > 0.0 { Ok(wall_s) } else { Err(impossible(subject, wall_s, iterations)) }
}

fn impossible(subject: &dyn Subject, seconds: f64, iterations: u64) -> MeasureError {
    MeasureError::Clock { clock: subject.clock(), seconds, iterations }
}

/// Time spent in a phase: the host's, or the sum of readings where that is larger. A device's clock leaves out what
/// the host does between batches, and a scripted subject's readings are longer than the host's time.
struct Stopwatch {
    start: Instant,
    readings_s: f64,
}

impl Stopwatch {
    fn start() -> Self {
        Self { start: Instant::now(), readings_s: 0.0 }
    }

    /// Times a batch; refuses readings that are negative or no number. Zero may be: a short batch under a coarse clock.
    fn time(&mut self, subject: &mut dyn Subject, iterations: u64) -> Result<Reading, MeasureError> {
        let reading = subject.time(iterations)?;
        let possible = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        if !possible(reading.wall_s) {
            return Err(impossible(subject, reading.wall_s, iterations));
        }
        if let Some(cpu_s) = reading.cpu_s.filter(|&seconds| !possible(seconds)) {
            return Err(MeasureError::Clock { clock: clock::PROCESS_CPU, seconds: cpu_s, iterations });
        }
        self.readings_s += reading.wall_s;
        Ok(reading)
    }

    fn spent_s(&self) -> f64 {
        self.start.elapsed().as_secs_f64().max(self.readings_s)
    }
}
