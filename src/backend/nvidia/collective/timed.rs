//! A collective as the port wants it: settled, timed, every GPU watched, checked.
//!
//! Must not know what is exchanged. The work is bounded by links, whose peaks no table has, so there are no ceilings; nor does it
//! come near a power limit, so `pace` changes nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::backend::nvidia::collective::exchange::Exchange;
use crate::backend::nvidia::collective::stopwatch::{Lap, Stopwatch};
use crate::backend::nvidia::counted;
use crate::backend::nvidia::cuda::Result;
use crate::backend::nvidia::timed::{
    EVENT_RESOLUTION_S, How, LEAST_EMPTIES, WINDOW_S, WINDOWS, is_steady, loading, running, watch,
};
use crate::backend::nvidia::work::Site;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo, Evidence, Metric};
use crate::hardware::Probe;
use crate::hardware::cuda::Library;
use crate::hardware::watched::{ASK_EVERY, Watched, joules};
use crate::measure::{Reading, Subject, SubjectError};
use crate::stats::quantile::median;

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
        let watched = sites.iter().map(|site| watch(&site.device)).collect();
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
        let held = |one: &mut Watched| Some((one.look()?, one.ordinal));
        let faults: Vec<(&str, i32)> = self.watched.iter_mut().filter_map(held).collect();
        faults.first().map(|(reason, ordinal)| format!("the clocks of GPU {ordinal} were held down: {reason}"))
    }

    /// A reason to throw the sample away in the clocks that it ran at.
    fn slowed(&mut self, lap: &Lap) -> Option<String> {
        let mut slowed = None;
        for (watched, hz) in self.watched.iter_mut().zip(&lap.clocks_hz) {
            let Some(hz) = hz else { continue };
            if let Some(fell) = watched.fell(*hz) {
                slowed = Some(format!("the SM clock of GPU {} {fell}", watched.ordinal));
            }
        }
        slowed
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

/// NCCL's settings in the environment, which choose algorithms and links.
fn settings() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    // Containers of NVIDIA's say there which version they brought: no setting, nor always the version that is loaded.
    let sets = |name: &str| name.starts_with("NCCL_") && name != "NCCL_VERSION";
    std::env::vars_os().filter_map(text).filter(|(name, _)| sets(name)).collect()
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
        DeviceInfo { backend: "nvidia".to_owned(), name: counted(names.iter().map(String::as_str)), facts }
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
            let (watch, work) = (&mut self.watch, &mut self.work);
            let joules = joules(&self.watched, latency_s, |iterations| watch.run(work, iterations)).map_err(loading)?;
            values.extend(joules.map(|joules| (Metric::ENERGY, joules)));
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
        let of = |watched: &Watched| {
            let mut facts = watched.facts();
            facts.insert("gpu".to_owned(), json!(watched.ordinal));
            Evidence { source: Evidence::GPU.to_owned(), facts }
        };
        [own].into_iter().chain(self.watched.iter().map(of)).collect()
    }

    fn check(&mut self) -> std::result::Result<Vec<Check>, BackendError> {
        let (watch, sites) = (&mut self.watch, &self.sites);
        self.work.check(sites, |work| watch.run(work, 1)).map_err(loading)
    }
}
