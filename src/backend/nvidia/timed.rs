//! A workload on a GPU as the port wants it: settled, timed by the stopwatch, watched, bounded and checked.
//!
//! Must not know what the workload computes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::backend::nvidia::cuda::{CudaError, Device, Result};
use crate::backend::nvidia::operator;
use crate::backend::nvidia::stopwatch::{Method, Stopwatch};
use crate::backend::nvidia::work::{Arithmetic, Site, Work};
use crate::backend::{BackendError, Ceiling, Counted, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo, Evidence, Metric};
use crate::hardware::cuda::Library;
use crate::hardware::watched::{ASK_EVERY, Watched, joules};
use crate::hardware::{Probe, peaks};
use crate::measure::{Reading, Subject, SubjectError};
use crate::stats::quantile::median;

/// What events tell apart, seconds (CUDA's programming guide: about half a microsecond).
pub const EVENT_RESOLUTION_S: f64 = 0.5e-6;

/// Windows that the settling clock is judged by, and how long each is.
pub const WINDOWS: usize = 10;
pub const WINDOW_S: f64 = 0.02;
/// The clock has settled when the medians of the window's halves differ by less than this share.
const SETTLED: f64 = 0.005;

/// Pauses where the power limit shows, as multiples of the sample before: they double until it does not.
const LEAST_REST: f64 = 1.0;
const MOST_REST: f64 = 16.0;
/// No pause is longer, seconds.
const LONGEST_PAUSE_S: f64 = 0.5;

/// Work that is not longer than this many empty kernels by the same method shows the method's cost, not its own.
pub const LEAST_EMPTIES: f64 = 1.25;

/// A device whose own copy stays below this share of its datasheet's bandwidth is ill, shared or throttled: a healthy one reaches 0.85
/// to 0.93 (H100: 0.90), whatever its power limit.
const LEAST_COPY: f64 = 0.5;

/// A workload, ready to be timed.
#[derive(Debug)]
pub struct Timed {
    site: Site,
    watch: Stopwatch,
    /// The same work on several sets of buffers, where the method rotates.
    works: Vec<Box<dyn Work>>,
    watched: Watched,
    how: How,
    /// The pause before each sample, as a multiple of what the sample takes.
    rest: f64,
    last_s: f64,
    settled: Settled,
    asked: Instant,
    measured: Vec<(&'static str, f64)>,
    /// What the measured rates say of the device, where it is not well.
    ill: Option<String>,
    /// What one set of buffers takes, bytes.
    device_memory: u64,
}

/// How the clock settled.
#[derive(Debug, Clone, Copy, Default)]
struct Settled {
    seconds: f64,
    clock_hz: f64,
    first_hz: f64,
    steady: bool,
}

/// How a workload is to be timed.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// By which method.
    pub method: Method,
    /// Whether the device rests between samples where the work would run into its power limit.
    pub rested: bool,
    /// Whether energy is counted too.
    pub energy: bool,
}

impl Timed {
    /// Makes a workload and everything that times it. `make` is called once for each set of buffers.
    ///
    /// # Errors
    /// When the workload cannot be made, or does not run.
    pub fn load(site: Site, how: How, make: &mut dyn FnMut(&Site) -> Result<Box<dyn Work>>) -> Result<Self> {
        // Before anything runs here: what is on the device now belongs to others.
        let watched = watch(&site.device);
        let held = site.device.highest_allocated();
        let mut works = vec![make(&site)?];
        let each = site.device.highest_allocated() - held;
        for _ in 1..sets(&site, how.method, each)? {
            works.push(make(&site)?);
        }
        let mut watch = Stopwatch::new(&site.device, how.method, &site.architecture)?;
        // The first time loads code and may pick algorithms: never behind a closed gate, and so for every set.
        let each_once = works.len().max(2) as u64;
        watch.run(&mut works, each_once)?;
        Ok(Self {
            site,
            watch,
            works,
            watched,
            how,
            rest: 0.0,
            last_s: 0.0,
            settled: Settled::default(),
            asked: Instant::now(),
            measured: Vec::new(),
            ill: None,
            device_memory: each,
        })
    }

    /// Drives the device with the work itself until its clock is steady; where the power limit holds it down, with pauses.
    ///
    /// Under the limit the driver's controller moves the clock for ever, by some percent, and differently in each process.
    /// Rested work runs at the clock that its first milliseconds have, which repeats.
    fn drive(&mut self, cap_s: f64) -> Result<Settled> {
        let start = Instant::now();
        let once = self.watch.time(&mut self.works, 1)?;
        let iterations = ((WINDOW_S / once.seconds.max(1e-7)).ceil() as u64).clamp(1, 1 << 16);
        let mut settled = Settled::default();
        let mut clocks: Vec<f64> = Vec::new();
        loop {
            // Rested samples are as short as those to come: one iteration, if it is long.
            let iterations = if self.rest > 0.0 { (iterations / 16).max(1) } else { iterations };
            self.pause();
            let lap = self.watch.time(&mut self.works, iterations)?;
            self.last_s = lap.seconds;
            let Some(clock_hz) = lap.clock_hz else { return Ok(settled) };
            clocks.push(clock_hz);
            if settled.first_hz == 0.0 {
                settled.first_hz = clock_hz;
            }
            settled.seconds = start.elapsed().as_secs_f64();
            let window = &clocks[clocks.len().saturating_sub(WINDOWS)..];
            settled.clock_hz = median(window);
            let capped = self.how.rested && self.power_capped();
            if capped && self.rest < MOST_REST {
                self.rest = (self.rest * 2.0).max(LEAST_REST);
                clocks.clear();
                continue;
            }
            settled.steady = window.len() == WINDOWS && is_steady(window);
            if settled.steady || settled.seconds >= cap_s {
                return Ok(settled);
            }
        }
    }

    fn pause(&self) {
        if self.rest > 0.0 {
            std::thread::sleep(Duration::from_secs_f64((self.rest * self.last_s).min(LONGEST_PAUSE_S)));
        }
    }

    fn power_capped(&self) -> bool {
        self.watched.probe.as_ref().is_some_and(|probe| probe.limited_by().contains(&"software power cap"))
    }

    /// What the device says of itself, from time to time; a reason to throw the sample away.
    fn look(&mut self) -> Option<String> {
        if self.asked.elapsed() < ASK_EVERY {
            return None;
        }
        self.asked = Instant::now();
        self.watched.look().map(|reason| format!("the GPU's clocks were held down: {reason}"))
    }

    /// Datasheet and measured rates that bound the work.
    fn bounds(&mut self) -> Result<Vec<Ceiling>> {
        let (arithmetic, counts) = (self.works[0].arithmetic(), self.works[0].counts());
        // What fits in the cache is not bounded by memory, unless it was flushed, and then only if little stays behind.
        let cache = self.site.device.l2_bytes()? as f64;
        let beyond = counts.bytes.is_some_and(|bytes| peaks::beyond_cache(bytes, cache));
        let counts_bytes = counts.bytes.is_some() && (beyond || self.how.method == Method::Cold);
        let mut ceilings = Vec::new();
        let peaks = self.watched.probe.as_ref().and_then(Probe::gpu).as_ref().and_then(peaks::of);
        if let Some(peaks) = peaks {
            if let Some(rate) = arithmetic.and_then(|arithmetic| peak_of(peaks, arithmetic)) {
                let metric = Metric::FLOPS_UTILIZATION;
                ceilings.push(Ceiling { metric, of: Counted::Flops, rate: rate * 1e12, hard: true });
            }
            if counts_bytes {
                let (metric, rate) = (Metric::HBM_UTILIZATION, peaks.bandwidth * 1e9);
                ceilings.push(Ceiling { metric, of: Counted::Bytes, rate, hard: beyond });
            }
        }
        if counts_bytes && let Some(rate) = operator::copy_rate(&self.site)? {
            self.measured.push(("measured_bandwidth_bytes_per_s", rate));
            self.ill = peaks.and_then(|peaks| ill(rate, peaks.bandwidth * 1e9));
            ceilings.push(Ceiling { metric: Metric::HBM_OF_MEASURED, of: Counted::Bytes, rate, hard: false });
        }
        if let Some(arithmetic) = arithmetic
            && let Some(rate) = operator::product_rate(&self.site, arithmetic)?
        {
            self.measured.push(("measured_flop_per_s", rate));
            ceilings.push(Ceiling { metric: Metric::FLOPS_OF_MEASURED, of: Counted::Flops, rate, hard: false });
        }
        Ok(ceilings)
    }
}

/// What a copy at `rate` says of a device that should reach `datasheet`, both bytes/s.
pub fn ill(rate: f64, datasheet: f64) -> Option<String> {
    (rate < LEAST_COPY * datasheet).then(|| {
        format!(
            "this GPU is not well: its own copy reaches {:.0} % of its datasheet's bandwidth; `regrade doctor` measures it alone",
            100.0 * rate / datasheet
        )
    })
}

/// The driver's word on a device, from now on.
pub fn watch(device: &Device) -> Watched {
    Watched::new(device.ordinal, device.bus_id().ok().and_then(|bus_id| Probe::at(&bus_id)))
}

/// The datasheet's dense peak of a unit, TFLOP/s.
const fn peak_of(peaks: &peaks::Peaks, arithmetic: Arithmetic) -> Option<f64> {
    match arithmetic {
        Arithmetic::Fp32 => Some(peaks.fp32),
        Arithmetic::Tf32 => peaks.tf32,
        Arithmetic::Half => Some(peaks.bf16),
        Arithmetic::Fp8 => peaks.fp8,
        Arithmetic::Int8 => peaks.int8,
    }
}

/// How many sets of buffers a method rotates over.
///
/// In a graph, until they are five times the cache, so that nothing is found there. Cold work takes a few: where its buffers lie in
/// physical memory moves it by up to a percent, differently in each process (a training step on an H100: 925 or 931 us), and a launch
/// is to be about the work. Hot and batched work must find its data where it left them.
fn sets(site: &Site, method: Method, each: u64) -> Result<usize> {
    const MOST: u64 = 64;
    const CACHES: u64 = 5;
    const PLACES: u64 = 4;
    /// More takes longer to fill than it is worth.
    const MOST_BYTES: u64 = 512 << 20;
    let cache = site.device.l2_bytes()? as u64;
    let (free, _) = site.device.memory()?;
    let wanted = match method {
        Method::Graph => (CACHES * cache).div_ceil(each.max(1)).clamp(1, MOST),
        Method::Cold if each <= MOST_BYTES => PLACES,
        _ => 1,
    };
    let fits = 1 + free as u64 / 2 / each.max(1);
    Ok(wanted.min(fits) as usize)
}

/// Whether the medians of a window's halves agree.
pub fn is_steady(window: &[f64]) -> bool {
    let (first, second) = window.split_at(window.len() / 2);
    let (first, second) = (median(first), median(second));
    (second - first).abs() <= SETTLED * second
}

/// An error of the device as the port's.
pub fn loading(error: CudaError) -> BackendError {
    match error {
        error if error.is_out_of_memory() => BackendError::OutOfMemory(error.to_string()),
        CudaError::Parameter(reason) => BackendError::Unsupported(reason),
        error => BackendError::Engine { context: "on the GPU".to_owned(), source: Box::new(error) },
    }
}

/// A failed iteration as the measuring side's.
pub fn running(error: CudaError) -> SubjectError {
    let context = "on the GPU".to_owned();
    match error {
        error if error.is_out_of_memory() => SubjectError::out_of_memory(context, error),
        error => SubjectError { context, source: Box::new(error) },
    }
}

impl Subject for Timed {
    fn run(&mut self, iterations: u64) -> std::result::Result<(), SubjectError> {
        self.watch.run(&mut self.works, iterations).map_err(running)
    }

    fn time(&mut self, iterations: u64) -> std::result::Result<Reading, SubjectError> {
        self.pause();
        let lap = self.watch.time(&mut self.works, iterations).map_err(running)?;
        self.last_s = lap.seconds;
        let mut disturbed = self.look();
        if let Some(hz) = lap.clock_hz {
            let fell = self.watched.fell(hz);
            disturbed = disturbed.or(fell.map(|fell| format!("the SM clock {fell}")));
        }
        Ok(Reading { wall_s: lap.seconds, cpu_s: None, clock_hz: lap.clock_hz, disturbed })
    }

    fn clock(&self) -> &'static str {
        self.how.method.clock()
    }

    fn clock_resolution_s(&self) -> f64 {
        EVENT_RESOLUTION_S
    }
}

impl Prepared for Timed {
    fn device(&self) -> DeviceInfo {
        let mut facts: BTreeMap<String, Json> = self.works[0].facts();
        facts.insert("ordinal".to_owned(), json!(self.site.device.ordinal));
        facts.insert("sets".to_owned(), json!(self.works.len()));
        facts.insert("nvrtc".to_owned(), json!(Library::Nvrtc.version()));
        let name = self.site.device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned());
        DeviceInfo { backend: "nvidia".to_owned(), name, facts }
    }

    fn counts(&self) -> WorkCounts {
        self.works[0].counts()
    }

    fn settle(&mut self, cap_s: f64) -> std::result::Result<(), BackendError> {
        self.settled = self.drive(cap_s).map_err(loading)?;
        self.watched.settled_hz = self.settled.clock_hz;
        Ok(())
    }

    fn ceilings(&mut self) -> std::result::Result<Vec<Ceiling>, BackendError> {
        self.bounds().map_err(loading)
    }

    fn doubt(&self, latency_s: f64) -> Option<String> {
        let empty_s = self.watch.empty_s();
        // In a graph kernels follow each other as closely as the device can: that time is the work's own.
        let short = (self.how.method != Method::Graph && latency_s < LEAST_EMPTIES * empty_s).then(|| {
            format!(
                "too short for timing = \"{}\": {:.2} us, of which an empty kernel takes {:.2} us; use timing = \"graph\"",
                self.how.method.name(),
                latency_s * 1e6,
                empty_s * 1e6
            )
        });
        short.or_else(|| self.ill.clone())
    }

    fn values(&mut self, latency_s: f64) -> std::result::Result<Vec<(&'static str, f64)>, BackendError> {
        let mut values = self.works[0].values();
        values.push((Metric::DEVICE_MEMORY, self.device_memory as f64));
        if self.how.energy {
            let (watch, works) = (&mut self.watch, &mut self.works);
            let one = std::slice::from_ref(&self.watched);
            let joules = joules(one, latency_s, |iterations| watch.run(works, iterations)).map_err(loading)?;
            values.extend(joules.map(|joules| (Metric::ENERGY, joules)));
        }
        Ok(values)
    }

    fn evidence(&mut self) -> Vec<Evidence> {
        let mut facts = self.watched.facts();
        let own = [
            ("settle_s", json!(self.settled.seconds)),
            ("settle_first_mhz", json!(self.settled.first_hz / 1e6)),
            ("settled", json!(self.settled.steady)),
            ("rest", json!(self.rest)),
            ("empty_kernel_s", json!(self.watch.empty_s())),
        ];
        let measured = self.measured.iter().map(|(name, rate)| (*name, json!(rate)));
        facts.extend(own.into_iter().chain(measured).map(|(name, value)| (name.to_owned(), value)));
        vec![Evidence { source: Evidence::GPU.to_owned(), facts }]
    }

    fn check(&mut self) -> std::result::Result<Vec<Check>, BackendError> {
        self.works[0].check(&self.site, self.watch.stream()).map_err(loading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_climbing_clock_has_not_settled() {
        let climbing: Vec<f64> = (0..10).map(|i| 1e9 + 5e7 * f64::from(i)).collect();
        assert!(!is_steady(&climbing));
        let noisy: Vec<f64> = (0..10).map(|i| 1.98e9 + if i % 2 == 0 { 1e6 } else { -1e6 }).collect();
        assert!(is_steady(&noisy));
    }

    #[test]
    fn a_device_far_below_its_datasheet_is_not_well() {
        assert_eq!(ill(3.0e12, 3.35e12), None);
        let said = ill(1.2e12, 3.35e12).expect("36 % is ill");
        assert!(said.contains("36 % of its datasheet's bandwidth"), "{said}");
    }
}
