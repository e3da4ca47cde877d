//! What the machine does while a launch runs: two looks and the difference between them.
//!
//! Must not judge: it writes facts, and who reads them decides whether a sample is valid.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use crate::domain::Evidence;
use crate::hardware::cgroup::{Cgroup, Throttled};
use crate::hardware::host::Host;
use crate::hardware::parse::{self, CpuTimes, Pressure, ProcessStat};
use crate::hardware::processes;

/// How many foreign processes are named.
const TOP: usize = 3;

/// What a task can wait for, as the kernel names it.
const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];

/// Everything read at one moment.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    load_1m: Option<f64>,
    pressure: [Option<Pressure>; 3],
    times: Option<CpuTimes>,
    throttle_events: Option<u64>,
    throttled: Option<Throttled>,
    processes: Vec<ProcessStat>,
}

impl Look {
    fn take(host: &Host, cgroup: &Cgroup) -> Self {
        Self {
            load_1m: host.read("proc/loadavg").and_then(|text| parse::load_1m(&text)),
            pressure: RESOURCES.map(|name| parse::pressure(&host.read(format!("proc/pressure/{name}"))?)),
            times: host.read("proc/stat").and_then(|text| parse::cpu_times(&text)),
            throttle_events: throttle_events(host),
            throttled: cgroup.throttled(host),
            processes: processes::scan(host),
            at: Instant::now(),
        }
    }
}

/// Watches the machine while a launch runs.
#[derive(Debug)]
pub struct Watch {
    host: Host,
    cgroup: Cgroup,
    before: Look,
}

impl Watch {
    /// Takes the first look.
    #[must_use]
    pub fn start() -> Self {
        Self::start_on(Host::this())
    }

    /// Takes the first look at a given host.
    pub(super) fn start_on(host: Host) -> Self {
        let cgroup = Cgroup::locate(&host);
        let before = Look::take(&host, &cgroup);
        Self { host, cgroup, before }
    }

    /// Takes the second look and says what happened between the two. `own` are the process ids that belong to
    /// regrade beside this process (workers that still run), which are not foreign; nor are their descendants.
    ///
    /// Facts, each absent where the host does not tell:
    /// `watched_s`; `load_1m_before`, `load_1m`; for cpu, memory and io `pressure_*_some_avg10_percent_before`,
    /// `pressure_*_some_avg10_percent`, and `pressure_*_some_percent` over the interval; `busy_percent` and
    /// `steal_percent` of all processors; `foreign_cpu_percent` (100 is one processor) and `foreign_top`, the names of
    /// those that still run with their `cpu_percent`; `cpu_mhz_min`, `cpu_mhz_mean`, `cpu_mhz_max`; `cpu_governor`;
    /// `cpu_turbo`; `thermal_throttle_events`; `cgroup_throttled_periods`, `cgroup_throttled_s`;
    /// `memory_available_bytes`.
    #[must_use]
    pub fn finish(self, own: &[u32]) -> Evidence {
        let after = Look::take(&self.host, &self.cgroup);
        let mut facts = Facts(BTreeMap::new());
        let elapsed = (after.at - self.before.at).as_secs_f64();
        facts.put("watched_s", Some(elapsed));
        facts.put("load_1m_before", self.before.load_1m);
        facts.put("load_1m", after.load_1m);
        self.pressure(&after, elapsed, &mut facts);
        self.processors(&after, elapsed, own, &mut facts);
        facts.put("thermal_throttle_events", since(self.before.throttle_events, after.throttle_events));
        if let (Some(was), Some(is)) = (self.before.throttled, after.throttled) {
            facts.put("cgroup_throttled_periods", Some(is.periods.saturating_sub(was.periods)));
            facts.put("cgroup_throttled_s", Some((is.seconds - was.seconds).max(0.0)));
        }
        if let Some(mhz) = clocks(&self.host) {
            facts.put("cpu_mhz_min", Some(mhz.min));
            facts.put("cpu_mhz_mean", Some(mhz.mean));
            facts.put("cpu_mhz_max", Some(mhz.max));
        }
        facts.put("cpu_governor", governor(&self.host));
        facts.put("cpu_turbo", turbo(&self.host));
        let meminfo = self.host.read("proc/meminfo");
        facts.put("memory_available_bytes", meminfo.and_then(|text| parse::kilobytes(&text, "MemAvailable")));
        Evidence { source: std::env::consts::OS.to_owned(), facts: facts.0 }
    }

    fn pressure(&self, after: &Look, elapsed: f64, facts: &mut Facts) {
        for ((name, was), is) in RESOURCES.iter().zip(self.before.pressure).zip(after.pressure) {
            let (Some(was), Some(is)) = (was, is) else { continue };
            let stalled_s = is.total_us.saturating_sub(was.total_us) as f64 * 1e-6;
            facts.put(&format!("pressure_{name}_some_avg10_percent_before"), Some(was.avg10));
            facts.put(&format!("pressure_{name}_some_avg10_percent"), Some(is.avg10));
            facts.put(
                &format!("pressure_{name}_some_percent"),
                (elapsed > 0.0).then(|| (100.0 * stalled_s / elapsed).min(100.0)),
            );
        }
    }

    fn processors(&self, after: &Look, elapsed: f64, own: &[u32], facts: &mut Facts) {
        let mut own = own.to_vec();
        own.push(std::process::id());
        let usage = processes::usage(&self.before.processes, &after.processes, &own);
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let percent_of_one = |ticks: u64| 100.0 * ticks as f64 / (ticks_per_second * elapsed);
        if let (Some(was), Some(is)) = (self.before.times, after.times) {
            let total = is.total.saturating_sub(was.total);
            let busy = is.busy.saturating_sub(was.busy);
            let share = |ticks: u64| (total > 0).then(|| 100.0 * ticks as f64 / total as f64);
            facts.put("busy_percent", share(busy));
            facts.put("steal_percent", share(is.steal.saturating_sub(was.steal)));
            // From the machine's total, because a foreign process may start and end between the two looks.
            let foreign = busy.saturating_sub(usage.own_ticks);
            facts.put("foreign_cpu_percent", (elapsed > 0.0).then(|| percent_of_one(foreign)));
        }
        if !after.processes.is_empty() && elapsed > 0.0 {
            let top: Vec<Value> = usage
                .foreign
                .iter()
                .take(TOP)
                .map(|(name, ticks)| json!({ "name": name, "cpu_percent": percent_of_one(*ticks) }))
                .collect();
            facts.put("foreign_top", Some(top));
        }
    }
}

/// Facts under construction: what is absent is left out.
struct Facts(BTreeMap<String, Value>);

impl Facts {
    fn put(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }
}

/// The growth of a counter that both looks could read.
fn since(was: Option<u64>, is: Option<u64>) -> Option<u64> {
    Some(is?.saturating_sub(was?))
}

/// Times since boot that a core or its package was slowed down for heat, over all processors (Intel only).
pub fn throttle_events(host: &Host) -> Option<u64> {
    let counts = host.cpu_folders().into_iter().flat_map(|folder| {
        ["core_throttle_count", "package_throttle_count"]
            .map(|name| host.number(folder.join("thermal_throttle").join(name)))
    });
    counts.flatten().reduce(|a, b| a + b)
}

/// Clocks of all processors, MHz.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clocks {
    /// The slowest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The fastest.
    pub max: f64,
}

/// The present clocks, from cpufreq or else from `/proc/cpuinfo`.
pub fn clocks(host: &Host) -> Option<Clocks> {
    let mut mhz: Vec<f64> = host
        .cpu_folders()
        .into_iter()
        .filter_map(|folder| host.number(folder.join("cpufreq/scaling_cur_freq")))
        .map(|khz| khz as f64 * 1e-3)
        .collect();
    if mhz.is_empty() {
        mhz = parse::cpu_info(&host.read("proc/cpuinfo")?).mhz;
    }
    let min = mhz.iter().copied().min_by(f64::total_cmp)?;
    let max = mhz.iter().copied().max_by(f64::total_cmp)?;
    let mean = mhz.iter().sum::<f64>() / mhz.len() as f64;
    Some(Clocks { min, mean, max })
}

/// The frequency governor; several names, sorted, where the processors differ.
pub fn governor(host: &Host) -> Option<String> {
    let mut names: Vec<String> = host
        .cpu_folders()
        .into_iter()
        .filter_map(|folder| host.read(folder.join("cpufreq/scaling_governor")))
        .collect();
    names.sort();
    names.dedup();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Whether the processor may exceed its base clock.
pub fn turbo(host: &Host) -> Option<bool> {
    let no_turbo = host.number("sys/devices/system/cpu/intel_pstate/no_turbo");
    no_turbo.map(|off| off == 0).or_else(|| host.number("sys/devices/system/cpu/cpufreq/boost").map(|on| on == 1))
}
