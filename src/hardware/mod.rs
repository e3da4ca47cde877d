//! What this machine is (testbed) and what it is doing (telemetry).
//!
//! Must not know what is measured or how it is judged. Hosts are read from procfs and sysfs, NVIDIA GPUs through the driver's
//! management library; other systems yield the few facts that the standard library has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::Testbed;

mod cgroup;
pub mod cuda;
mod facts;
mod findings;
pub mod gpu;
mod host;
pub mod lock;
mod nvml;
mod parse;
pub mod peaks;
mod probe;
mod processes;
pub mod python;
mod telemetry;
#[cfg(test)]
mod tests;
pub mod tpu;
mod visible;
pub mod watched;

pub use gpu::major_minor;
pub use nvml::{Absent, Probe};
pub use telemetry::Watch;

pub(crate) use parse::ProcessStat;

/// How good a finding is for measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// A plain fact.
    Info,
    /// Results will be noisier than they need be.
    Warn,
    /// Results will mean little.
    Bad,
}

/// One line of `regrade doctor`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Stable short name: `governor`, `load`, `steal`.
    pub id: &'static str,
    /// How good it is.
    pub level: Level,
    /// What was seen.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Stable facts of this host, by name.
///
/// `cpu.arch`, `cpu.cores` (processors this process may run on), `cpu.isa`, `cpu.model`, `cpu.quota` (CPUs' worth, if a
/// control group limits it), `cpu.signature` (vendor family/model/stepping), `machine.container`, `machine.virtual`,
/// `memory` (GiB, the smaller of host and control group), `os` (with the kernel's major and minor version),
/// `timing.method`.
#[must_use]
pub fn stable_facts() -> BTreeMap<String, String> {
    facts::stable(&host::Host::this())
}

/// The testbed of this host with further facts (from backends).
#[must_use]
pub fn testbed(extra: BTreeMap<String, String>) -> Testbed {
    let mut facts = stable_facts();
    facts.extend(extra);
    facts::testbed(facts)
}

/// Processors that this process may be scheduled on, before any quota.
#[must_use]
pub fn cores() -> Option<usize> {
    facts::cores(&host::Host::this())
}

/// Bytes that this process may use: the smaller of the host's memory and its control group's limit.
#[must_use]
pub fn memory() -> Option<u64> {
    facts::memory(&host::Host::this())
}

/// NVIDIA GPUs that CUDA shows to this process, in its order. Loading the driver's library takes some tens of milliseconds.
///
/// # Errors
/// Why there is none, and what would change that.
pub fn gpus() -> Result<Vec<gpu::Gpu>, Absent> {
    nvml::gpus()
}

/// Whether this machine is fit to measure. Takes about a second, half of it asleep and a third of it spinning; with a GPU up
/// to another second, loading CUDA's libraries.
#[must_use]
pub fn findings() -> Vec<Finding> {
    let mut findings = findings::all(&host::Host::this());
    let gpus = gpus().unwrap_or_default();
    findings.extend(gpus.iter().flat_map(gpu::Gpu::findings));
    if !gpus.is_empty() {
        findings.extend(lock::finding());
        findings.extend(cuda::findings());
    }
    findings
}

/// Every process that can be seen; one small file is read for each.
pub(crate) fn processes() -> Vec<ProcessStat> {
    processes::scan(&host::Host::this())
}

/// One process, which may be a zombie.
pub(crate) fn process(pid: u32) -> Option<ProcessStat> {
    parse::process_stat(&host::Host::this().read(format!("proc/{pid}/stat"))?)
}

/// Children of a process that its first thread started; empty where the kernel does not list them.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let listed = host::Host::this().read(format!("proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Resident set of a process now and at its highest, bytes; `None` once it is a zombie.
pub(crate) fn resident_bytes(pid: u32) -> Option<(u64, u64)> {
    let status = host::Host::this().read(format!("proc/{pid}/status"))?;
    Some((parse::kilobytes(&status, "VmRSS")?, parse::kilobytes(&status, "VmHWM")?))
}

/// Processes that the kernel has killed for want of memory, in this control group where that can be read, else on the
/// whole host.
pub(crate) fn oom_kills() -> Option<u64> {
    let host = host::Host::this();
    cgroup::Cgroup::locate(&host).oom_kills(&host).or_else(|| parse::counter(&host.read("proc/vmstat")?, "oom_kill"))
}

/// Entries of a folder whose names begin with `prefix`, by name.
fn sorted(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    found
}

/// Whole numbers in a file's name, for sorting by version: `libnvrtc.so.13.0` has 13 and 0.
fn numbers(path: &Path) -> Vec<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}
