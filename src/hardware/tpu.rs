//! TPUs of this host, by device files, the PCI bus and the environment; nothing is loaded, nothing is asked over the network.
//!
//! The maker's library takes half a minute a question where it asks for metadata that is not there, so this is looked at before it.
//! Must not know what runs on them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::hardware::host::Host;
use crate::hardware::{Absent, Finding, Level};

mod chip;
#[cfg(test)]
mod tests;

pub use chip::{CHIPS, Chip, Version};

/// The PCI vendor of TPUs.
const VENDOR: u16 = 0x1ae0;
/// What the maker's library locks while it owns the chips.
const LOCK: &str = "/tmp/libtpu_lockfile";

/// The TPU that this process may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tpu {
    /// Which chips; `None` where neither the bus nor the environment tells.
    pub version: Option<Version>,
    /// Device files, such as `/dev/accel0` or `/dev/vfio/0`: one a chip.
    pub devices: Vec<String>,
    /// What this host is a part of.
    pub slice: Slice,
    /// Whether the maker's library may ask the cloud for metadata (`TPU_SKIP_MDS_QUERY` is not set).
    pub asks_metadata: bool,
}

/// How this host's chips are connected with others. Whatever the environment does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Slice {
    /// As it was ordered: `v5litepod-16` (`TPU_ACCELERATOR_TYPE`).
    pub accelerator: Option<String>,
    /// Chips by dimension: `4x4` (`TPU_TOPOLOGY`, or the bounds of hosts times those of a host's chips).
    pub topology: Option<String>,
    /// Hosts.
    pub hosts: Option<usize>,
    /// Which of them this one is (`TPU_WORKER_ID`).
    pub worker: Option<usize>,
}

/// Another process that has the chips: only one can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// Its program's name, where that can be read.
    pub name: Option<String>,
    /// What it holds: the lock file or a device file.
    pub holds: String,
}

impl Tpu {
    /// Chips of this host that this process may use.
    #[must_use]
    pub const fn chips(&self) -> usize {
        self.devices.len()
    }

    /// `TPU v5e, 4 chips of 16 GiB with 1 core each, a single host, topology 2x2`.
    #[must_use]
    pub fn describe(&self) -> String {
        let count = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
        let chips = count(self.chips() as u64, "chip");
        let mut text = match self.version.map(Version::chip) {
            Some(chip) => format!(
                "TPU {}, {chips} of {} GiB with {} each",
                chip.name,
                chip.hbm_gib,
                count(chip.cores.into(), "core")
            ),
            None => format!("TPU of no known version, {chips}"),
        };
        match (self.slice.hosts, self.slice.worker) {
            (Some(1), _) => text += ", a single host",
            (Some(hosts), Some(worker)) => text += &format!(", host {worker} of {hosts}"),
            (Some(hosts), None) => text += &format!(", one of {hosts} hosts"),
            (None, _) => {}
        }
        if let Some(topology) = &self.slice.topology {
            text += &format!(", topology {topology}");
        }
        text
    }
}

/// The TPU of this host. Takes milliseconds.
///
/// # Errors
/// Why there is none, and what would change that.
pub fn detect() -> Result<Tpu, Absent> {
    on(&Host::this(), &variable)
}

/// Who else has the chips. Takes milliseconds; where there is a TPU, one look at every process's open files.
#[must_use]
pub fn owner(tpu: &Tpu) -> Option<Owner> {
    owner_on(&Host::this(), &tpu.devices)
}

/// What `doctor` says. Where there is no TPU that is a plain fact, with a remedy only for who has the maker's library.
#[must_use]
pub fn findings(library_is_here: bool) -> Vec<Finding> {
    findings_on(&Host::this(), &variable, library_is_here)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn findings_on(host: &Host, variable: &dyn Fn(&str) -> Option<String>, library_is_here: bool) -> Vec<Finding> {
    let finding =
        |id, level, text: String, remedy: Option<&str>| Finding { id, level, text, remedy: remedy.map(str::to_owned) };
    let tpu = match on(host, variable) {
        Ok(tpu) => tpu,
        Err(absent) => {
            return vec![finding("tpu", Level::Info, absent.reason, library_is_here.then_some(&absent.remedy))];
        }
    };
    let mut findings = vec![finding("tpu", Level::Info, tpu.describe(), None)];
    if let Some(version) = tpu.version {
        let text = format!("a chip, by its maker's documentation: {}", version.chip().peaks());
        findings.push(finding("tpu_peaks", Level::Info, text, None));
    }
    if let Some(owner) = owner_on(host, &tpu.devices) {
        let name = owner.name.map_or_else(String::new, |name| format!(" ({name})"));
        findings.push(finding(
            "tpu_owner",
            Level::Warn,
            format!("process {}{name} holds {}: only one process can have the chips", owner.pid, owner.holds),
            Some("wait until it has ended, or end it; nothing can be measured here meanwhile"),
        ));
    }
    findings
}

fn on(host: &Host, variable: &dyn Fn(&str) -> Option<String>) -> Result<Tpu, Absent> {
    let told = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let on_bus = on_bus(host);
    let accelerator = told("TPU_ACCELERATOR_TYPE");
    let told_version = accelerator.as_deref().and_then(Version::of_type);
    let version = on_bus.as_ref().and_then(|chips| chips.iter().find_map(|version| *version)).or(told_version);
    let mut devices = numbered(host, "dev", "accel");
    // A host that passes other devices through to virtual machines has such files too.
    let expected = on_bus.as_ref().is_none_or(|chips| !chips.is_empty()) || told_version.is_some();
    if devices.is_empty() && expected {
        devices = numbered(host, "dev/vfio", "");
    }
    if devices.is_empty() {
        let chips = on_bus.map_or(0, |chips| chips.len());
        return Err(if chips == 0 {
            Absent {
                reason: "no TPU: no /dev/accel* or /dev/vfio device".to_owned(),
                remedy: "measure on a host with one; programs compile for TPUs without".to_owned(),
            }
        } else {
            let name = version.map_or_else(String::new, |version| format!(" {}", version.name()));
            Absent {
                reason: format!("{chips} of TPU{name} on the PCI bus, and no /dev/accel* or /dev/vfio device"),
                remedy: "pass the devices into the container, or load their driver".to_owned(),
            }
        });
    }
    let skips = told("TPU_SKIP_MDS_QUERY").is_some_and(|text| !["0", "false"].contains(&&*text.to_lowercase()));
    Ok(Tpu { version, devices, slice: slice(accelerator, &told), asks_metadata: !skips })
}

/// Chips on the PCI bus, each with its version if it is known; `None` where the bus cannot be read.
fn on_bus(host: &Host) -> Option<Vec<Option<Version>>> {
    let entries = std::fs::read_dir(host.path("sys/bus/pci/devices")).ok()?;
    let word = |device: &Path, name: &str| {
        let text = std::fs::read_to_string(device.join(name)).ok()?;
        u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    let chips = entries.flatten().map(|entry| entry.path()).filter_map(|device| {
        let id = word(&device, "device").filter(|id| Version::is_pci(*id))?;
        (word(&device, "vendor")? == VENDOR).then(|| Version::of_pci(id, word(&device, "subsystem_device")))
    });
    Some(chips.collect())
}

/// Files of a folder that are called `prefix` and a number, by number, as absolute paths. `/dev/accel` itself is the folder of the
/// kernel's own accelerators, which are others.
fn numbered(host: &Host, folder: &str, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(host.path(folder)).into_iter().flatten().flatten();
    let numbers: BTreeSet<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()).collect();
    numbers.into_iter().map(|number| format!("/{folder}/{prefix}{number}")).collect()
}

fn slice(accelerator: Option<String>, told: &dyn Fn(&str) -> Option<String>) -> Slice {
    let bounds = |name: &str| -> Option<Vec<usize>> {
        told(name)?.split(',').map(|word| word.trim().parse().ok().filter(|n| *n > 0)).collect()
    };
    // The names of older and of newer versions of the library.
    let hosts = bounds("TPU_HOST_BOUNDS").or_else(|| bounds("TPU_PROCESS_BOUNDS"));
    let chips = bounds("TPU_CHIPS_PER_HOST_BOUNDS").or_else(|| bounds("TPU_CHIPS_PER_PROCESS_BOUNDS"));
    let product = |hosts: &[usize], chips: &[usize]| {
        let sides: Vec<String> = hosts.iter().zip(chips).map(|(hosts, chips)| (hosts * chips).to_string()).collect();
        (hosts.len() == chips.len()).then(|| sides.join("x"))
    };
    let names = told("TPU_WORKER_HOSTNAMES");
    let named = names.map(|names| names.split(',').filter(|name| !name.trim().is_empty()).count());
    Slice {
        accelerator,
        topology: told("TPU_TOPOLOGY").or_else(|| product(hosts.as_deref()?, chips.as_deref()?)),
        hosts: named.filter(|count| *count > 0).or_else(|| hosts.map(|hosts| hosts.iter().product())),
        worker: told("TPU_WORKER_ID").and_then(|text| text.parse().ok()),
    }
}

fn owner_on(host: &Host, devices: &[String]) -> Option<Owner> {
    let name = |pid: u32| host.read(format!("proc/{pid}/comm")).filter(|name| !name.is_empty());
    if let Some(pid) = locked_by(host) {
        return Some(Owner { pid, name: name(pid), holds: LOCK.to_owned() });
    }
    let (pid, holds) = opened_by(host, devices)?;
    Some(Owner { pid, name: name(pid), holds })
}

/// Who locks the file. One that lies there unlocked was left behind, which does no harm.
fn locked_by(host: &Host) -> Option<u32> {
    let file = std::fs::metadata(host.path(LOCK.trim_start_matches('/'))).ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let id = format!("{major:02x}:{minor:02x}:{}", file.ino());
    host.read("proc/locks")?.lines().find_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; who waits has `->` in the second place.
        let mut words = line.split_whitespace().skip(1);
        let first = words.next().filter(|word| *word != "->");
        let pid: u32 = first.and_then(|_| words.nth(2))?.parse().ok()?;
        (words.next()? == id && is_another(pid)).then_some(pid)
    })
}

/// Who has a device open, among processes that may be looked into.
fn opened_by(host: &Host, devices: &[String]) -> Option<(u32, String)> {
    let of = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let pids = of(host.path("proc")).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_another(*pid)).find_map(|pid| {
        let held = of(host.path(format!("proc/{pid}/fd"))).find_map(|file| {
            let target = std::fs::read_link(file.path()).ok()?;
            devices.iter().find(|device| Path::new(device) == target)
        });
        held.map(|device| (pid, device.clone()))
    })
}

/// Processes of other containers show as 0.
fn is_another(pid: u32) -> bool {
    pid != 0 && pid != std::process::id()
}
