//! GPUs as plain data: what each is, what follows from that, and what `doctor` says about it.
//!
//! Must not know where the numbers come from: `nvml` reads them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::hardware::{Finding, Level, peaks};

/// Temperature from which a data-centre GPU is near its slowdown, degrees Celsius.
const HOT: u32 = 80;
/// Memory in use by others beyond which they are more than a leftover context, bytes.
const LEFTOVER: u64 = 1 << 30;

/// A GPU, as its driver describes it. What the driver does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Gpu {
    /// Its number, as CUDA counts here.
    pub index: u32,
    /// Exact product name, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// CUDA compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Device memory, bytes.
    pub memory: u64,
    /// Driver version.
    pub driver: String,
    /// The newest CUDA version that the driver runs, such as `13.0`.
    pub cuda: Option<String>,
    /// Streaming multiprocessors.
    pub multiprocessors: Option<u32>,
    /// Highest SM clock, MHz.
    pub max_sm_mhz: Option<u32>,
    /// Highest memory clock, MHz.
    pub max_memory_mhz: Option<u32>,
    /// Power limit in force, watts.
    pub power_limit_w: Option<f64>,
    /// Power limit as delivered, watts.
    pub default_power_limit_w: Option<f64>,
    /// Whether memory errors are corrected.
    pub ecc: Option<bool>,
    /// Whether it is cut into instances.
    pub mig: Option<bool>,
    /// Whether the driver stays loaded between processes.
    pub persistent: Option<bool>,
    /// Active `NVLink` connections.
    pub nvlinks: u32,
    /// Uncorrected memory errors since the driver was loaded.
    pub uncorrected_errors: Option<u64>,
    /// What it is doing now.
    pub now: Now,
}

/// What a GPU is doing at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Now {
    /// SM clock, MHz.
    pub sm_mhz: Option<u32>,
    /// Memory clock, MHz.
    pub memory_mhz: Option<u32>,
    /// Power drawn, watts.
    pub power_w: Option<f64>,
    /// Degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Share of the last sampling period in which a kernel ran, percent.
    pub busy_percent: Option<u32>,
    /// What holds its clocks down, by the driver's word.
    pub limited_by: Vec<&'static str>,
    /// Processes on it, with their memory in bytes where the driver tells.
    pub processes: Vec<(u32, Option<u64>)>,
}

/// Reasons of the driver that mean broken or badly cooled hardware, and not a setting or an ordinary power limit.
pub const FAULTS: [&str; 4] = ["hardware slowdown", "hardware thermal", "hardware power brake", "software thermal"];

impl Gpu {
    /// The family that its compute capability belongs to (CUDA C++ Programming Guide, compute capabilities).
    #[must_use]
    pub const fn architecture(&self) -> &'static str {
        match self.compute_capability {
            (7, 0 | 2) => "Volta",
            (7, 5) => "Turing",
            (8, 9) => "Ada Lovelace",
            (8, _) => "Ampere",
            (9, _) => "Hopper",
            (10 | 11, _) => "Blackwell (data centre)",
            (12, _) => "Blackwell (consumer)",
            (0..7, _) => "older than Volta",
            _ => "newer than Blackwell",
        }
    }

    /// What its tensor cores and memory engines can do, in words that suites may be chosen by.
    #[must_use]
    pub fn capabilities(&self) -> Vec<&'static str> {
        let from = |major: u32, minor: u32| self.compute_capability >= (major, minor);
        [
            (from(7, 0), "tensor cores"),
            (from(8, 0), "bf16"),
            (from(8, 0), "tf32"),
            (from(8, 9), "fp8"),
            (from(10, 0), "fp4"),
            (from(9, 0), "tma"),
            (from(9, 0), "clusters"),
        ]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect()
    }

    /// Whole GiB of its memory, rounded: the driver keeps a part that varies by version.
    #[must_use]
    pub fn memory_gib(&self) -> u64 {
        (self.memory as f64 / f64::from(1 << 30)).round() as u64
    }

    /// Facts that make two of them the same testbed: nothing that changes at boot or with the weather.
    #[must_use]
    pub fn facts(&self) -> BTreeMap<String, String> {
        let mut facts: BTreeMap<String, String> = [
            ("device", self.name.clone()),
            ("memory", format!("{} GiB", self.memory_gib())),
            ("compute_capability", format!("{}.{}", self.compute_capability.0, self.compute_capability.1)),
            ("driver", major_minor(&self.driver)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let on = |yes: bool| if yes { "on" } else { "off" }.to_owned();
        let more = [
            ("cuda", self.cuda.clone()),
            ("ecc", self.ecc.map(on)),
            ("mig", self.mig.map(on)),
            ("power_limit", self.power_limit_w.map(|watts| format!("{watts:.0} W"))),
        ];
        facts.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        facts
    }

    /// What `doctor` says.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.what_it_is()];
        findings.push(peaks::finding(self));
        findings.extend(self.settings());
        findings.extend(self.disturbances());
        findings
    }

    fn what_it_is(&self) -> Finding {
        let (major, minor) = self.compute_capability;
        let sms = self.multiprocessors.map_or_else(String::new, |count| format!(", {count} SMs"));
        let cuda = self.cuda.as_ref().map_or_else(String::new, |version| format!(", CUDA {version}"));
        let links = if self.nvlinks > 0 { format!(", {} NVLinks", self.nvlinks) } else { String::new() };
        let clocks = match (self.max_sm_mhz, self.max_memory_mhz) {
            (Some(sm), Some(memory)) => format!(", up to {sm} MHz (memory {memory} MHz)"),
            _ => String::new(),
        };
        let text = format!(
            "{}: {} ({} {major}.{minor}){sms}, {} GiB{clocks}{links}, driver {}{cuda}; {}",
            self.index,
            self.name,
            self.architecture(),
            self.memory_gib(),
            self.driver,
            self.capabilities().join(", ")
        );
        Finding { id: "gpu", level: Level::Good, text, remedy: None }
    }

    /// How it is set up.
    fn settings(&self) -> Vec<Finding> {
        let finding = |level, text: String, remedy: Option<&str>| Finding {
            id: "gpu",
            level,
            text: format!("{}: {text}", self.index),
            remedy: remedy.map(str::to_owned),
        };
        let mut findings = Vec::new();
        if self.mig == Some(true) {
            findings.push(finding(
                Level::Warn,
                "MIG is on: neighbours share its memory bandwidth and power".to_owned(),
                Some("measure on a whole GPU, or keep baselines of this instance size apart"),
            ));
        }
        if let (Some(limit), Some(default)) = (self.power_limit_w, self.default_power_limit_w)
            && limit < default
        {
            findings.push(finding(
                Level::Warn,
                format!("its power limit is {limit:.0} W instead of {default:.0} W"),
                Some("ask whoever lowered it; heavy kernels run slower than on other cards of its kind"),
            ));
        }
        if self.persistent == Some(false) {
            findings.push(finding(
                Level::Info,
                "the driver is unloaded between processes: each launch pays for loading it".to_owned(),
                Some("persistence mode, or the nvidia-persistenced service"),
            ));
        }
        if let Some(count) = self.uncorrected_errors.filter(|count| *count > 0) {
            findings.push(finding(
                Level::Bad,
                format!("{count} uncorrected memory errors since the driver was loaded"),
                Some("replace the card; its results may be wrong"),
            ));
        }
        findings
    }

    /// What disturbs it now.
    fn disturbances(&self) -> Vec<Finding> {
        let finding = |level, text: String, remedy: &str| Finding {
            id: "gpu",
            level,
            text: format!("{}: {text}", self.index),
            remedy: Some(remedy.to_owned()),
        };
        let now = &self.now;
        let mut findings = Vec::new();
        let faults: Vec<&str> = now.limited_by.iter().copied().filter(|reason| FAULTS.contains(reason)).collect();
        if !faults.is_empty() {
            let text = format!("its clocks are held down now: {}", faults.join(", "));
            findings.push(finding(Level::Bad, text, "cool it, or check its power supply, before measuring"));
        }
        if let Some(degrees) = now.temperature_c.filter(|degrees| *degrees >= HOT) {
            findings.push(finding(
                Level::Warn,
                format!("it is at {degrees} °C"),
                "let it cool down, or improve the airflow",
            ));
        }
        let memory: u64 = now.processes.iter().filter_map(|(_, memory)| *memory).sum();
        let busy = now.busy_percent.filter(|percent| *percent > 0);
        if busy.is_some() || memory > LEFTOVER {
            let percent = busy.map_or_else(String::new, |percent| format!(", busy {percent} % of the time"));
            let text = match now.processes.len() {
                1 => format!("another process is on it{percent}"),
                // In a container the driver does not show those of others.
                0 => format!("somebody else is on it{percent}"),
                several => format!("{several} other processes are on it{percent}"),
            };
            findings.push(finding(Level::Warn, text, "end them: who shares the GPU shares its clocks and caches"));
        }
        findings
    }
}

/// `580.159.04` → `580.159`: patch releases do not make another testbed.
#[must_use]
pub fn major_minor(version: &str) -> String {
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn h100() -> Gpu {
        Gpu {
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            compute_capability: (9, 0),
            memory: 85_520_809_984,
            driver: "580.159.04".to_owned(),
            cuda: Some("13.0".to_owned()),
            multiprocessors: Some(132),
            power_limit_w: Some(700.0),
            default_power_limit_w: Some(700.0),
            ecc: Some(true),
            mig: Some(false),
            ..Gpu::default()
        }
    }

    fn worst(gpu: &Gpu) -> Level {
        gpu.findings().iter().map(|finding| finding.level).max().expect("one at least")
    }

    #[test]
    fn the_family_follows_from_the_compute_capability() {
        let of = |major, minor| Gpu { compute_capability: (major, minor), ..h100() };
        for (major, minor, family, last) in [
            (7, 5, "Turing", "tensor cores"),
            (8, 0, "Ampere", "tf32"),
            (8, 9, "Ada Lovelace", "fp8"),
            (9, 0, "Hopper", "clusters"),
            (10, 0, "Blackwell (data centre)", "clusters"),
            (12, 0, "Blackwell (consumer)", "clusters"),
        ] {
            assert_eq!(of(major, minor).architecture(), family);
            assert_eq!(of(major, minor).capabilities().last(), Some(&last), "{family}");
        }
        assert!(!of(9, 0).capabilities().contains(&"fp4") && of(10, 0).capabilities().contains(&"fp4"));
        assert_eq!(of(6, 1).capabilities(), Vec::<&str>::new());
    }

    #[test]
    fn facts_survive_a_patch_of_the_driver_and_a_warm_day() {
        let mut other = h100();
        other.driver = "580.159.99".to_owned();
        other.now.temperature_c = Some(70);
        assert_eq!(other.facts(), h100().facts());
        other.power_limit_w = Some(500.0);
        assert_ne!(other.facts(), h100().facts());
    }

    #[test]
    fn what_disturbs_is_said_and_an_ordinary_power_limit_is_not() {
        assert_eq!(worst(&h100()), Level::Info);
        let with = |change: fn(&mut Gpu)| {
            let mut gpu = h100();
            change(&mut gpu);
            worst(&gpu)
        };
        assert_eq!(with(|gpu| gpu.now.limited_by = vec!["software power cap", "idle"]), Level::Info);
        assert_eq!(with(|gpu| gpu.now.limited_by = vec!["hardware slowdown"]), Level::Bad);
        assert_eq!(with(|gpu| gpu.power_limit_w = Some(500.0)), Level::Warn);
        assert_eq!(with(|gpu| gpu.now.processes = vec![(1, Some(4 << 30))]), Level::Warn);
        assert_eq!(with(|gpu| gpu.uncorrected_errors = Some(1)), Level::Bad);
        assert_eq!(with(|gpu| gpu.mig = Some(true)), Level::Warn);
    }
}
