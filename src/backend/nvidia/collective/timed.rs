//! A collective as the port wants it: settled, timed, every GPU watched, checked.
//!
//! Must not know what is exchanged. The work is bounded by links, whose peaks no table has, so there are no ceilings; nor does it
//! come near a power limit, so `pace` changes nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::backend::nvidia::collective::exchange::Exchange;
use crate::backend::nvidia::collective::stopwatch::{Lap, Stopwatch};
use crate::backend::nvidia::cuda::Result;
use crate::backend::nvidia::timed::{
    ASK_EVERY, ENERGY_S, EVENT_RESOLUTION_S, How, LEAST_CLOCK, LEAST_EMPTIES, WINDOW_S, WINDOWS, is_steady, loading,
    running,
};
use crate::backend::nvidia::work::Site;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo, Evidence, Metric};
use crate::hardware::Probe;
use crate::hardware::cuda::Library;
use crate::hardware::gpu::{FAULTS, Now};
use crate::measure::{Reading, Subject, SubjectError};
use crate::stats::quantile::median;

/// What is known of one GPU while it takes part.
#[derive(Debug)]
struct Watched {
    ordinal: i32,
    probe: Option<Probe>,
    before: Now,
    errors_before: Option<u64>,
    /// Every reason for low clocks that was seen while samples were taken.
    reasons: BTreeMap<&'static str, u64>,
    /// Clocks, power and temperatures seen between samples.
    seen: Vec<Now>,
    /// Clock once it had settled, Hz.
    settled_hz: f64,
    clocks_mhz: Vec<f64>,
}

/// A collective, ready to be timed.
#[derive(Debug)]
pub struct Timed {
    // First: communicators end before the streams and devices that they use.
    work: Exchange,
    watch: Stopwatch,
    sites: Vec<Site>,
    watched: Vec<Watched>,
    how: How,
    settle_s: f64,
    steady: bool,
    asked: Instant,
    /// Most that the buffers of any GPU take, bytes.
    device_memory: u64,
}

impl Timed {
    /// Opens the GPUs, makes the work and everything that times it.
    ///
    /// # Errors
    /// When the work cannot be made, or does not run.
    pub fn load(ordinals: &[usize], how: How, make: impl FnOnce(&[Site]) -> Result<Exchange>) -> Result<Self> {
        let sites = ordinals.iter().map(|ordinal| Site::open(*ordinal)).collect::<Result<Vec<_>>>()?;
        // Before anything runs here: what is on the devices now belongs to others.
        let watched = sites.iter().map(Watched::new).collect();
        let mut work = make(&sites)?;
        let device_memory = sites.iter().map(|site| site.device.highest_allocated()).max().unwrap_or(0);
        let mut watch = Stopwatch::new(&sites, how.method)?;
        // The first time loads code and connects GPUs: never behind a closed gate.
        watch.run(&mut work, 2)?;
        let (settle_s, steady, asked) = (0.0, false, Instant::now());
        Ok(Self { work, watch, sites, watched, how, settle_s, steady, asked, device_memory })
    }

    /// Runs until the clock of every GPU is steady.
    fn drive(&mut self, cap_s: f64) -> Result<()> {
        let start = Instant::now();
        let once = self.watch.time(&mut self.work, 1)?;
        let iterations = ((WINDOW_S / once.seconds.max(1e-7)).ceil() as u64).clamp(1, 1 << 16);
        let mut clocks: Vec<Vec<f64>> = vec![Vec::new(); self.watched.len()];
        loop {
            let lap = self.watch.time(&mut self.work, iterations)?;
            self.settle_s = start.elapsed().as_secs_f64();
            let mut steady = true;
            for ((seen, hz), watched) in clocks.iter_mut().zip(&lap.clocks_hz).zip(&mut self.watched) {
                let Some(hz) = hz else { continue };
                seen.push(*hz);
                let window = &seen[seen.len().saturating_sub(WINDOWS)..];
                watched.settled_hz = median(window);
                steady &= window.len() == WINDOWS && is_steady(window);
            }
            self.steady = steady;
            if steady || self.settle_s >= cap_s {
                return Ok(());
            }
        }
    }

    /// What the GPUs say of themselves, from time to time; a reason to throw the sample away.
    fn look(&mut self) -> Option<String> {
        if self.asked.elapsed() < ASK_EVERY {
            return None;
        }
        self.asked = Instant::now();
        // All are asked, whatever the first one says.
        let faults: Vec<String> = self.watched.iter_mut().filter_map(Watched::look).collect();
        faults.into_iter().next()
    }

    /// A reason to throw the sample away in the clocks that it ran at.
    fn slowed(&mut self, lap: &Lap) -> Option<String> {
        let mut slowed = None;
        for (watched, hz) in self.watched.iter_mut().zip(&lap.clocks_hz) {
            let Some(hz) = hz else { continue };
            watched.clocks_mhz.push(hz / 1e6);
            if *hz < LEAST_CLOCK * watched.settled_hz {
                let (ordinal, now, then) = (watched.ordinal, hz / 1e6, watched.settled_hz / 1e6);
                slowed = Some(format!("the SM clock of GPU {ordinal} fell to {now:.0} MHz from {then:.0} MHz"));
            }
        }
        slowed
    }

    /// Energy of one iteration on all GPUs together.
    fn joules(&mut self, latency_s: f64) -> Result<Option<f64>> {
        let counters = |watched: &[Watched]| -> Option<f64> {
            watched.iter().map(|watched| watched.probe.as_ref().and_then(Probe::energy_j)).sum()
        };
        let Some(before) = counters(&self.watched) else { return Ok(None) };
        let batch = ((0.05 / latency_s).ceil() as u64).clamp(1, 1 << 16);
        let (start, mut iterations) = (Instant::now(), 0_u64);
        while start.elapsed().as_secs_f64() < ENERGY_S {
            self.watch.run(&mut self.work, batch)?;
            iterations += batch;
        }
        Ok(counters(&self.watched).map(|after| (after - before) / iterations as f64))
    }

    /// How the GPUs are linked, as far as the driver tells.
    fn links(&self) -> BTreeMap<String, Json> {
        let gpu = |watched: &Watched| watched.probe.as_ref().and_then(Probe::gpu);
        let nvlinks: Vec<u32> = self.watched.iter().filter_map(gpu).map(|gpu| gpu.nvlinks).collect();
        let each = |(at, site): (usize, &Site)| site.device.reaches(&self.sites[(at + 1) % self.sites.len()].device);
        let reach = self.sites.iter().enumerate().map(each).collect::<Result<Vec<bool>>>();
        let kind = match (nvlinks.iter().all(|count| *count > 0), &reach) {
            _ if nvlinks.len() < self.watched.len() => "unknown",
            (true, _) => "NVLink",
            (false, Ok(reach)) if reach.iter().all(|can| *can) => "PCIe, from GPU to GPU",
            (false, _) => "PCIe, through the host",
        };
        [("links".to_owned(), json!(kind)), ("nvlinks".to_owned(), json!(nvlinks))].into()
    }
}

impl Watched {
    fn new(site: &Site) -> Self {
        let probe = site.device.bus_id().ok().and_then(|bus_id| Probe::at(&bus_id));
        Self {
            ordinal: site.device.ordinal,
            before: probe.as_ref().map(Probe::now).unwrap_or_default(),
            errors_before: probe.as_ref().and_then(Probe::uncorrected_errors),
            probe,
            reasons: BTreeMap::new(),
            seen: Vec::new(),
            settled_hz: 0.0,
            clocks_mhz: Vec::new(),
        }
    }

    fn look(&mut self) -> Option<String> {
        let now = self.probe.as_ref()?.now();
        let fault = now.limited_by.iter().find(|reason| FAULTS.contains(reason)).copied();
        for reason in &now.limited_by {
            *self.reasons.entry(reason).or_default() += 1;
        }
        self.seen.push(now);
        fault.map(|reason| format!("the clocks of GPU {} were held down: {reason}", self.ordinal))
    }

    fn evidence(&self) -> Evidence {
        let mut facts: BTreeMap<String, Json> = BTreeMap::new();
        let mut put = |name: &str, value: Json| {
            if !value.is_null() {
                facts.insert(name.to_owned(), value);
            }
        };
        put("gpu", json!(self.ordinal));
        put("settled_mhz", json!(self.settled_hz / 1e6));
        if !self.clocks_mhz.is_empty() {
            let of = |pick: fn(f64, f64) -> f64, start: f64| self.clocks_mhz.iter().copied().fold(start, pick);
            put("sm_mhz_min", json!(of(f64::min, f64::INFINITY)));
            put("sm_mhz_median", json!(median(&self.clocks_mhz)));
            put("sm_mhz_max", json!(of(f64::max, 0.0)));
        }
        put("busy_percent_before", json!(self.before.busy_percent));
        put("sm_mhz_before", json!(self.before.sm_mhz));
        put("temperature_c_before", json!(self.before.temperature_c));
        put("processes_before", json!(self.before.processes.len()));
        put("limited_by", json!(self.reasons));
        let highest = |of: fn(&Now) -> Option<f64>| self.seen.iter().filter_map(of).reduce(f64::max);
        put("power_w_max", json!(highest(|now| now.power_w)));
        put("temperature_c_max", json!(highest(|now| now.temperature_c.map(f64::from))));
        put("memory_mhz_max", json!(highest(|now| now.memory_mhz.map(f64::from))));
        if let (Some(was), Some(is)) = (self.errors_before, self.probe.as_ref().and_then(Probe::uncorrected_errors)) {
            put("uncorrected_errors", json!(is.saturating_sub(was)));
        }
        Evidence { source: "nvml".to_owned(), facts }
    }
}

/// NCCL's settings in the environment, which choose algorithms and links.
fn settings() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    // Containers of NVIDIA's say there which version they brought: no setting, nor always the version that is loaded.
    let sets = |name: &str| name.starts_with("NCCL_") && name != "NCCL_VERSION";
    std::env::vars_os().filter_map(text).filter(|(name, _)| sets(name)).collect()
}

/// `2 x NVIDIA H100 80GB HBM3`.
fn named(names: &[String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts.iter().map(|(name, count)| format!("{count} x {name}")).collect::<Vec<_>>().join(", ")
}

impl Subject for Timed {
    fn run(&mut self, iterations: u64) -> std::result::Result<(), SubjectError> {
        self.watch.run(&mut self.work, iterations).map_err(running)
    }

    fn time(&mut self, iterations: u64) -> std::result::Result<Reading, SubjectError> {
        let lap = self.watch.time(&mut self.work, iterations).map_err(running)?;
        let fault = self.look();
        let disturbed = fault.or(self.slowed(&lap));
        Ok(Reading { wall_s: lap.seconds, cpu_s: None, clock_hz: lap.lowest_hz(), disturbed })
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
        let mut facts = self.links();
        let ordinals: Vec<i32> = self.watched.iter().map(|watched| watched.ordinal).collect();
        let more = [
            ("gpus", json!(self.sites.len())),
            ("ordinals", json!(ordinals)),
            ("bytes", json!(self.work.bytes())),
            ("nccl", json!(Library::Nccl.version())),
            ("nvrtc", json!(Library::Nvrtc.version())),
            ("nccl_settings", json!(settings())),
        ];
        facts.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let unnamed = |_| "NVIDIA GPU".to_owned();
        let names: Vec<String> = self.sites.iter().map(|site| site.device.name().unwrap_or_else(unnamed)).collect();
        DeviceInfo { backend: "nvidia".to_owned(), name: named(&names), facts }
    }

    /// The buffer of one GPU: what NCCL calls algorithm bandwidth follows from it.
    fn counts(&self) -> WorkCounts {
        WorkCounts { bytes: Some(self.work.bytes() as f64), ..WorkCounts::default() }
    }

    fn settle(&mut self, cap_s: f64) -> std::result::Result<(), BackendError> {
        self.drive(cap_s).map_err(loading)
    }

    fn doubt(&self, latency_s: f64) -> Option<String> {
        let empty_s = self.watch.empty_s();
        // In a batch kernels follow each other as closely as they can: that time is the work's own.
        (latency_s < LEAST_EMPTIES * empty_s).then(|| {
            format!(
                "too short for timing = \"{}\": {:.2} us, of which an empty kernel takes {:.2} us",
                self.how.method.name(),
                latency_s * 1e6,
                empty_s * 1e6
            )
        })
    }

    fn values(&mut self, latency_s: f64) -> std::result::Result<Vec<(&'static str, f64)>, BackendError> {
        let carried = self.work.kind().bus_factor(self.sites.len()) * self.work.bytes() as f64;
        let mut values =
            vec![(Metric::BUS_RATE, carried / latency_s), (Metric::DEVICE_MEMORY, self.device_memory as f64)];
        if self.how.energy {
            values.extend(self.joules(latency_s).map_err(loading)?.map(|joules| (Metric::ENERGY, joules)));
        }
        Ok(values)
    }

    fn evidence(&mut self) -> Vec<Evidence> {
        let facts = [
            ("settle_s", json!(self.settle_s)),
            ("settled", json!(self.steady)),
            ("empty_kernel_s", json!(self.watch.empty_s())),
        ];
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let own = Evidence { source: "cuda-events".to_owned(), facts };
        [own].into_iter().chain(self.watched.iter().map(Watched::evidence)).collect()
    }

    fn check(&mut self) -> std::result::Result<Vec<Check>, BackendError> {
        let (watch, sites) = (&mut self.watch, &self.sites);
        self.work.check(sites, |work| watch.run(work, 1)).map_err(loading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_counted_by_their_names() {
        let names = |names: &[&str]| named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["H100", "H100"]), "2 x H100");
        assert_eq!(names(&["H200", "H100", "H200"]), "1 x H100, 2 x H200");
    }
}
