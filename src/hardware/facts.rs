//! The stable facts of a host: what makes two machines the same testbed.
//!
//! Never anything that changes at boot (clocks, load, addresses, ids) and never the host name: equal runners of a
//! fleet are one testbed. The kernel's major and minor version are in, because they bound an epoch
//! (STATISTICS.md section 7).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::domain::Testbed;
use crate::hardware::cgroup::Cgroup;
use crate::hardware::host::Host;
use crate::hardware::parse;

/// How launches are timed; to be raised when the meaning of a stored number changes.
const TIMING_METHOD: &str = "process-launch/1";

/// The facts, by name. What cannot be found out is absent.
pub fn stable(host: &Host) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.insert(name.to_owned(), value);
        }
    };
    let cpu = parse::cpu_info(&host.read("proc/cpuinfo").unwrap_or_default());
    let cgroup = Cgroup::locate(host);
    put("cpu.arch", Some(std::env::consts::ARCH.to_owned()));
    put("cpu.cores", cores(host).map(|count| count.to_string()));
    put("cpu.isa", Some(cpu.isa));
    put("cpu.model", Some(cpu.model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())));
    put("cpu.quota", cgroup.cpu_quota(host).map(|quota| format!("{quota:.2}")));
    put("cpu.signature", cpu.signature);
    put("machine.container", container(host).map(str::to_owned));
    put("machine.virtual", virtual_machine(host).map(|yes| if yes { "yes" } else { "no" }.to_owned()));
    put("memory", memory(host).map(|bytes| format!("{} GiB", round_gib(bytes))));
    put("os", Some(os(host)));
    put("timing.method", Some(TIMING_METHOD.to_owned()));
    facts
}

/// The testbed with these facts. Its key is the first 16 hex digits of the SHA-256 of the lines `name=value`,
/// sorted by name, each ended by a newline.
pub fn testbed(facts: BTreeMap<String, String>) -> Testbed {
    // A value with a line break could pass for two facts.
    let one_line = |text: String| text.replace(char::is_control, " ");
    let facts: BTreeMap<_, _> = facts.into_iter().map(|(name, value)| (one_line(name), one_line(value))).collect();
    let mut hash = Sha256::new();
    for (name, value) in &facts {
        hash.update(format!("{name}={value}\n"));
    }
    let head = hash.finalize().iter().take(8).fold(0, |bits: u64, byte| bits << 8 | u64::from(*byte));
    let key = format!("{head:016x}");
    Testbed { key, facts }
}

/// Processors that this process may be scheduled on, before any quota.
pub fn cores(host: &Host) -> Option<usize> {
    host.read("proc/self/status")
        .and_then(|status| parse::allowed_cpus(&status))
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
}

/// Bytes that this process may use: the smaller of the host's memory and the control group's limit.
pub fn memory(host: &Host) -> Option<u64> {
    let total = parse::kilobytes(&host.read("proc/meminfo")?, "MemTotal")?;
    Some(Cgroup::locate(host).memory_limit(host).map_or(total, |limit| limit.min(total)))
}

/// Whole GiB, rounded up in steps of a sixteenth of the size's power of two (at least 1 GiB).
///
/// The kernel keeps a part of the memory that varies by version: `MemTotal` of "64 GiB" is 62.5 to 62.8. Rounding up
/// gives the size on the label, and no kernel update moves it.
pub fn round_gib(bytes: u64) -> u64 {
    const GIB: u64 = 1 << 30;
    let whole = (bytes / GIB).max(1);
    let step = ((1 << whole.ilog2()) / 16).max(1);
    bytes.div_ceil(GIB * step) * step
}

/// Name and, on Linux, major and minor version of the kernel.
fn os(host: &Host) -> String {
    let kernel = host.read("proc/sys/kernel/osrelease").and_then(|release| parse::kernel_major_minor(&release));
    match kernel {
        Some(version) => format!("{} {version}", std::env::consts::OS),
        None => std::env::consts::OS.to_owned(),
    }
}

/// The kind of container this process runs in, `none` if there is no sign of one.
pub fn container(host: &Host) -> Option<&'static str> {
    if host.exists(".dockerenv") {
        return Some("docker");
    }
    if host.exists("run/.containerenv") {
        return Some("podman");
    }
    let groups = host.read("proc/1/cgroup")?;
    let named = ["kubepods", "docker", "containerd", "lxc"];
    Some(named.into_iter().find(|name| groups.contains(name)).unwrap_or("none"))
}

/// Whether a hypervisor runs beneath; `None` where nothing tells.
pub fn virtual_machine(host: &Host) -> Option<bool> {
    let text = host.read("proc/cpuinfo")?;
    if parse::cpu_info(&text).hypervisor || host.exists("sys/hypervisor/type") {
        return Some(true);
    }
    if text.contains("GenuineIntel") || text.contains("AuthenticAMD") {
        // x86 processors carry the flag whenever a hypervisor does not hide on purpose.
        return Some(false);
    }
    // Elsewhere the firmware's tables name the maker; Amazon's machines without hypervisor are `….metal`.
    let vendor = host.read("sys/class/dmi/id/sys_vendor")?;
    let product = host.read("sys/class/dmi/id/product_name").unwrap_or_default();
    let clouds = ["Amazon EC2", "Google", "QEMU", "Microsoft Corporation", "VMware", "Alibaba Cloud"];
    Some(clouds.iter().any(|name| vendor.starts_with(name)) && !product.contains("metal"))
}
