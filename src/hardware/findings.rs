//! What `regrade doctor` says about the machine: one finding a fact, with a remedy where there is one.
//!
//! Limits on pressure and steal are those at which STATISTICS.md section 8 (G5) drops a pair.

use std::time::Duration;

use crate::domain::Evidence;
use crate::hardware::cgroup::Cgroup;
use crate::hardware::host::Host;
use crate::hardware::probe::Jitter;
use crate::hardware::telemetry::{self, Watch};
use crate::hardware::{Finding, Level, facts, parse, probe};

/// How long the machine is watched, asleep.
const WATCHED: Duration = Duration::from_millis(500);

/// Clock sources that user space reads without a system call.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];

fn finding(id: &'static str, level: Level, text: impl Into<String>) -> Finding {
    Finding { id, level, text: text.into(), remedy: None }
}

impl Finding {
    fn remedy(mut self, remedy: &str) -> Self {
        self.remedy = Some(remedy.to_owned());
        self
    }

    /// The remedy only where something is wrong.
    fn remedy_if_wrong(self, remedy: &str) -> Self {
        if self.level >= Level::Warn { self.remedy(remedy) } else { self }
    }
}

/// `Bad` above `bad`, `Warn` above `warn`, else `Good`.
fn graded(value: f64, warn: f64, bad: f64) -> Level {
    if value > bad {
        Level::Bad
    } else if value > warn {
        Level::Warn
    } else {
        Level::Good
    }
}

/// Every finding about a host, fixed ones first.
pub fn all(host: &Host) -> Vec<Finding> {
    let watch = Watch::start_on(host.clone());
    std::thread::sleep(WATCHED);
    let evidence = watch.finish(&[]);
    let mut findings = standing(host);
    findings.extend(activity(host, &evidence));
    findings.push(timer(probe::timer_resolution()));
    findings.push(jitter(&probe::jitter()));
    findings.push(build());
    findings
}

/// What the machine is and how it is set up.
pub fn standing(host: &Host) -> Vec<Finding> {
    [
        Some(cpu(host)),
        memory(host),
        virtual_machine(host),
        quota(host),
        memory_limit(host),
        smt(host),
        Some(governor(host)),
        turbo(host),
        frequency(host),
        clock_source(host),
        swap(host),
        aslr(host),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the machine did while it was watched.
pub fn activity(host: &Host, evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        [load(host, evidence), foreign(host, evidence), steal(evidence)].into_iter().flatten().collect();
    findings.extend(pressure(evidence));
    findings.extend(throttling(evidence));
    findings
}

fn fact(evidence: &Evidence, name: &str) -> Option<f64> {
    evidence.facts.get(name)?.as_f64()
}

fn cpu(host: &Host) -> Finding {
    let facts = facts::stable(host);
    let get = |name: &str| facts.get(name).map_or("?", String::as_str);
    finding("cpu", Level::Info, format!("{}, {} cores, {}", get("cpu.model"), get("cpu.cores"), get("cpu.isa")))
}

fn memory(host: &Host) -> Option<Finding> {
    let text = host.read("proc/meminfo")?;
    let total = parse::kilobytes(&text, "MemTotal")?;
    let free = parse::kilobytes(&text, "MemAvailable")?;
    let used = 1.0 - free as f64 / total as f64;
    Some(
        finding("memory", graded(used, 0.8, 0.95), format!("{} available of {}", gib(free), gib(total)))
            .remedy_if_wrong("end what holds the memory, or measure smaller shapes"),
    )
}

fn virtual_machine(host: &Host) -> Option<Finding> {
    let container = facts::container(host).filter(|kind| *kind != "none");
    let inside = container.map_or_else(String::new, |kind| format!(", in a container ({kind})"));
    Some(if facts::virtual_machine(host)? {
        finding("machine", Level::Info, format!("virtual{inside}")).remedy(
            "neighbours on the host cannot be seen from here: trust paired runs more than history, and watch steal",
        )
    } else {
        finding("machine", Level::Good, format!("physical{inside}"))
    })
}

fn quota(host: &Host) -> Option<Finding> {
    let quota = Cgroup::locate(host).cpu_quota(host)?;
    let cores = facts::cores(host)? as f64;
    let level = if quota < cores { Level::Warn } else { Level::Good };
    Some(finding("cpu_quota", level, format!("{quota:.2} CPUs of {cores:.0}")).remedy_if_wrong(
        "a quota stops the process in bursts: pin it to whole cores instead (cpuset, `--cpuset-cpus`)",
    ))
}

fn memory_limit(host: &Host) -> Option<Finding> {
    let limit = Cgroup::locate(host).memory_limit(host)?;
    Some(finding("memory_limit", Level::Info, format!("{} by control group", gib(limit))))
}

fn smt(host: &Host) -> Option<Finding> {
    Some(match host.read("sys/devices/system/cpu/smt/active")?.as_str() {
        "1" => finding("smt", Level::Info, "two threads share a core").remedy(
            "keep the sibling idle: pin to one thread a core, or write `off` to /sys/devices/system/cpu/smt/control",
        ),
        _ => finding("smt", Level::Good, "no threads share a core, as far as can be seen"),
    })
}

fn governor(host: &Host) -> Finding {
    match telemetry::governor(host) {
        Some(name) if name == "performance" => finding("governor", Level::Good, name),
        Some(name) => finding("governor", Level::Warn, name).remedy("`sudo cpupower frequency-set -g performance`"),
        None => finding("governor", Level::Info, "not shown by this machine"),
    }
}

fn turbo(host: &Host) -> Option<Finding> {
    Some(if telemetry::turbo(host)? {
        finding("turbo", Level::Warn, "on: the clock depends on heat and on the neighbours").remedy(
            "write 1 to /sys/devices/system/cpu/intel_pstate/no_turbo, or 0 to /sys/devices/system/cpu/cpufreq/boost",
        )
    } else {
        finding("turbo", Level::Good, "off")
    })
}

fn frequency(host: &Host) -> Option<Finding> {
    let telemetry::Clocks { min, mean, max } = telemetry::clocks(host)?;
    Some(finding("frequency", Level::Info, format!("{min:.0} to {max:.0} MHz, mean {mean:.0}")))
}

fn clock_source(host: &Host) -> Option<Finding> {
    let name = host.read("sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    Some(if FAST_CLOCKS.contains(&name.as_str()) {
        finding("clock_source", Level::Good, name)
    } else {
        finding("clock_source", Level::Warn, format!("{name}: each reading is a system call"))
            .remedy("boot with `clocksource=tsc` if the processor's counter is invariant")
    })
}

fn swap(host: &Host) -> Option<Finding> {
    let text = host.read("proc/meminfo")?;
    let total = parse::kilobytes(&text, "SwapTotal")?;
    let used = total.saturating_sub(parse::kilobytes(&text, "SwapFree")?);
    if total == 0 {
        return Some(finding("swap", Level::Good, "none"));
    }
    // What was swapped out long ago does no harm; much of it means that memory was short.
    let level = graded(used as f64 / total as f64, 0.25, f64::INFINITY);
    Some(
        finding("swap", level, format!("{} used of {}", gib(used), gib(total)))
            .remedy_if_wrong("`sudo swapoff -a` while measuring, memory permitting"),
    )
}

fn aslr(host: &Host) -> Option<Finding> {
    Some(match host.number("proc/sys/kernel/randomize_va_space")? {
        0 => finding(
            "aslr",
            Level::Info,
            "off: every launch has the same memory layout, so its luck is not averaged out",
        ),
        _ => finding("aslr", Level::Info, "on: layout varies by launch and is averaged over launches"),
    })
}

fn load(host: &Host, evidence: &Evidence) -> Option<Finding> {
    let load = fact(evidence, "load_1m")?;
    let cores = facts::cores(host)? as f64;
    Some(
        finding("load", graded(load / cores, 0.3, 1.0), format!("{load:.2} over a minute on {cores:.0} cores"))
            .remedy_if_wrong("wait until other work has ended, or measure on a quieter machine"),
    )
}

fn foreign(host: &Host, evidence: &Evidence) -> Option<Finding> {
    let percent = fact(evidence, "foreign_cpu_percent")?;
    let share = percent / (100.0 * facts::cores(host)? as f64);
    let top: Vec<String> = evidence
        .facts
        .get("foreign_top")
        .and_then(|value| value.as_array())
        .into_iter()
        .flatten()
        .filter_map(|row| Some(format!("{} {:.0} %", row["name"].as_str()?, row["cpu_percent"].as_f64()?)))
        .collect();
    let names = if top.is_empty() { String::new() } else { format!(" ({})", top.join(", ")) };
    Some(
        finding("other_work", graded(share, 0.05, 0.4), format!("{percent:.0} % of one core{names}"))
            .remedy_if_wrong("stop these processes or measure elsewhere"),
    )
}

fn steal(evidence: &Evidence) -> Option<Finding> {
    let percent = fact(evidence, "steal_percent")?;
    Some(
        finding("steal", graded(percent, 0.5, 2.0), format!("{percent:.1} % taken by the hypervisor"))
            .remedy_if_wrong("the host is shared out too thinly: use a dedicated instance, or pair every comparison"),
    )
}

fn pressure(evidence: &Evidence) -> Vec<Finding> {
    let limits = [
        ("cpu", "cpu_pressure", 5.0, 20.0),
        ("memory", "memory_pressure", 1.0, 10.0),
        ("io", "io_pressure", 10.0, 40.0),
    ];
    limits
        .into_iter()
        .filter_map(|(name, id, warn, bad)| {
            let percent = fact(evidence, &format!("pressure_{name}_some_avg10_percent"))?;
            Some(
                finding(id, graded(percent, warn, bad), format!("{percent:.1} % of the last 10 s"))
                    .remedy_if_wrong("work is waiting for this resource: let it end, or give the machine more"),
            )
        })
        .collect()
}

fn throttling(evidence: &Evidence) -> Vec<Finding> {
    let count = |id, name, what: &str, remedy| {
        let events = fact(evidence, name)?;
        Some(finding(id, graded(events, 0.0, 0.0), format!("{events:.0} {what}")).remedy_if_wrong(remedy))
    };
    [
        count(
            "heat",
            "thermal_throttle_events",
            "slow-downs for heat while watched",
            "let it cool, and lower the clock until it holds",
        ),
        count(
            "throttling",
            "cgroup_throttled_periods",
            "stops by the CPU quota while watched",
            "raise the quota or use fewer threads",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn timer(resolution: Duration) -> Finding {
    let nanos = resolution.as_nanos() as f64;
    finding("timer", graded(nanos, 200.0, 10_000.0), format!("steps of {nanos:.0} ns"))
        .remedy_if_wrong("see clock source; samples are lengthened to make up for it")
}

fn jitter(jitter: &Jitter) -> Finding {
    let Jitter { p50_s, p99_s, max_s, slices } = *jitter;
    finding(
        "jitter",
        graded(p99_s / p50_s, 1.1, 1.5),
        format!(
            "equal work of {:.0} µs: p99 {:+.1} %, worst {:+.0} % ({slices} slices)",
            p50_s * 1e6,
            100.0 * (p99_s / p50_s - 1.0),
            100.0 * (max_s / p50_s - 1.0),
        ),
    )
    .remedy_if_wrong("something takes the core away: see load, steal and other work; pin the run to isolated cores")
}

fn build() -> Finding {
    if cfg!(debug_assertions) {
        finding("build", Level::Bad, "debug build of regrade: it records no baseline").remedy("`cargo build --release`")
    } else {
        finding("build", Level::Good, "release build of regrade")
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
