//! GPU clocks locked at one value: whether they may be, holding them there, putting them back, and what they did meanwhile.
//!
//! Must not know who asks, nor how long. A lock outlives the process that sets it, so whoever has a [`Hold`] must be a process that
//! outlives what it is for.
//!
//! What was locked before cannot be put back: the driver's library sets and resets locked clocks and has no call that reads them.
//! [`Hold::put_back`] therefore gives the clocks back to the driver, and where a setting of somebody else's shows, there is no lock.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, ClockLimitId, GpuVirtualizationMode};
use nvml_wrapper::enums::device::GpuLockedClocksSetting;
use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};

use crate::hardware::host::Host;
use crate::hardware::nvml::{Absent, Probe, odd, open, shown};
use crate::hardware::visible::guessed;
use crate::hardware::{Finding, Level, parse, process};

/// How far from the lock a clock may be: this share, and never less than a step between clocks, of which Volta and later have one
/// every 15 MHz (`nvidia-smi -q -d SUPPORTED_CLOCKS`). The driver takes a step back when the chip is warm; two are another clock.
const TOLERANCE: f64 = 0.01;
const STEP_MHZ: f64 = 15.0;
/// How long the driver may take until the clock follows, and how often it is looked at.
const FOLLOWS: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// Equal looks, one behind the other, by which a clock that nobody gave a number for has settled.
const SETTLED: usize = 10;
/// How often putting back is tried.
const TRIES: usize = 3;
/// Device memory in use without a process to be seen: in a container the driver shows none of those outside it, and the smallest
/// context is larger.
const UNSEEN: u64 = 100 << 20;
/// NVIDIA, and controllers that compute, in the registers of the PCI bus.
const VENDOR: &str = "0x10de";
const CLASSES: [&str; 2] = ["0x0300", "0x0302"];
/// The kernel's bit for `CAP_SYS_ADMIN` (capabilities(7)), without which the driver lets nobody set clocks.
const ADMIN: u32 = 21;

/// Which clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The one that the GPU keeps up at its power limit whatever it does, by its maker's word (`NVML_CLOCK_LIMIT_ID_TDP`).
    Base,
    /// One of those that the device supports, MHz.
    Mhz(u32),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.pad("base"),
            Self::Mhz(mhz) => f.pad(&format!("{mhz} MHz")),
        }
    }
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = text.strip_suffix("MHz").map_or(text, str::trim_end);
        match number.parse() {
            _ if text == "base" => Ok(Self::Base),
            Ok(mhz) if mhz > 0 => Ok(Self::Mhz(mhz)),
            _ => Err(format!("`{text}` is no clock: write base, or a number of MHz")),
        }
    }
}

/// Why clocks are not locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is the matter.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether the clock that was asked for is one that there is not; otherwise it is this machine.
    pub asked_wrongly: bool,
}

impl Refusal {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into(), asked_wrongly: false }
    }

    fn wrongly(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { asked_wrongly: true, ..Self::new(reason, remedy) }
    }
}

impl From<Absent> for Refusal {
    fn from(absent: Absent) -> Self {
        Self::new(absent.reason, absent.remedy)
    }
}

/// What is said where clocks could not be put back, with what is left to do.
#[must_use]
pub fn still_locked(why: &str) -> String {
    format!(
        "GPU clocks may still be locked, they could not be put back ({why}): run `nvidia-smi --reset-gpu-clocks` as root"
    )
}

/// Whether a clock is the one that it is locked at, both in MHz.
#[must_use]
pub fn follows(mhz: f64, locked_mhz: u32) -> bool {
    let locked = f64::from(locked_mhz);
    (mhz - locked).abs() <= (TOLERANCE * locked).max(STEP_MHZ)
}

/// The clocks of every GPU that CUDA shows to this process, locked. They are put back when it is dropped, at the latest.
pub struct Hold {
    nvml: Nvml,
    /// Places in the driver's list, of those that are to be put back.
    locked: Vec<u32>,
    /// What they run at, MHz.
    pub mhz: u32,
    #[cfg(target_os = "linux")]
    _claims: Vec<std::os::unix::net::UnixListener>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("locked", &self.locked).field("mhz", &self.mhz).finish_non_exhaustive()
    }
}

impl Hold {
    /// Locks. Takes up to some seconds, until the clocks have followed.
    ///
    /// # Errors
    /// Where they may not be locked, or do not follow. All are as they were then; where not, the reason says so.
    pub fn take(asked: Asked) -> Result<Self, Refusal> {
        let nvml = open()?;
        let places = shown(&nvml)?;
        fit(&nvml, &places)?;
        let mut hold = Self {
            #[cfg(target_os = "linux")]
            _claims: claims(&nvml, &places)?,
            nvml,
            locked: Vec::new(),
            mhz: 0,
        };
        match hold.lock_all(&places, asked) {
            Ok(()) => Ok(hold),
            Err(refusal) => match hold.put_back() {
                Ok(()) => Err(refusal),
                Err(why) => {
                    let reason = format!("{}; besides, {}", refusal.reason, still_locked(&why));
                    Err(Refusal { reason, ..refusal })
                }
            },
        }
    }

    fn lock_all(&mut self, places: &[u32], asked: Asked) -> Result<(), Refusal> {
        if let Asked::Mhz(mhz) = asked {
            for place in places {
                let device = self.nvml.device_by_index(*place).map_err(odd)?;
                let name = device.name().unwrap_or_else(|_| "GPU".to_owned());
                offered(mhz, &supported(&device), &name)?;
            }
        }
        for place in places {
            self.lock(*place, asked)?;
        }
        for place in places {
            let mhz = self.settle(*place, asked)?;
            if self.mhz != 0 && self.mhz != mhz {
                return Err(Refusal::new(
                    format!("the GPUs here have different base clocks, {} MHz and {mhz} MHz", self.mhz),
                    "give a number that all support, or show one of them (CUDA_VISIBLE_DEVICES)",
                ));
            }
            self.mhz = mhz;
        }
        Ok(())
    }

    fn lock(&mut self, place: u32, asked: Asked) -> Result<(), Refusal> {
        let mut device = self.nvml.device_by_index(place).map_err(odd)?;
        let setting = match asked {
            // What nvbench's `--lock-gpu-clocks base` sets.
            Asked::Base => {
                GpuLockedClocksSetting::Symbolic { lower_bound: ClockLimitId::Tdp, upper_bound: ClockLimitId::Tdp }
            }
            Asked::Mhz(mhz) => GpuLockedClocksSetting::Numeric { min_clock_mhz: mhz, max_clock_mhz: mhz },
        };
        let refusal = match device.set_gpu_locked_clocks(setting) {
            Ok(()) => {
                self.locked.push(place);
                return Ok(());
            }
            Err(NvmlError::NoPermission) => Refusal::new(
                "the driver does not let this process lock clocks",
                "run as root (CAP_SYS_ADMIN), or leave --lock-clocks out",
            ),
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => Refusal::new(
                "this GPU or its driver cannot lock clocks",
                "leave --lock-clocks out; Volta and later can",
            ),
            Err(NvmlError::InvalidArg) => {
                Refusal::wrongly(format!("the driver takes {asked} for no clock"), "give another number of MHz")
            }
            Err(error) => {
                // Whether it was set is not known, so it is put back.
                self.locked.push(place);
                Refusal::new(format!("clocks could not be locked: {error}"), "look what `nvidia-smi` says")
            }
        };
        Err(refusal)
    }

    /// What the clock is once it has followed. A driver that reports success may not have locked anything.
    fn settle(&self, place: u32, asked: Asked) -> Result<u32, Refusal> {
        let device = self.nvml.device_by_index(place).map_err(odd)?;
        let unread = |error: NvmlError| {
            let reason =
                format!("the clock cannot be read, so that nothing would tell whether the lock holds: {error}");
            Refusal::new(reason, "leave --lock-clocks out")
        };
        let start = Instant::now();
        let mut seen: Vec<u32> = Vec::new();
        loop {
            let now = device.clock_info(Clock::SM).map_err(unread)?;
            let idle = reasons(&device).contains(ThrottleReasons::GPU_IDLE);
            match asked {
                Asked::Mhz(mhz) if follows(f64::from(now), mhz) => return Ok(mhz),
                Asked::Base if !idle => seen.push(now),
                _ => seen.clear(),
            }
            if seen.len() >= SETTLED && seen[seen.len() - SETTLED..].iter().all(|clock| *clock == now) {
                return Ok(now);
            }
            if start.elapsed() >= FOLLOWS {
                return match asked {
                    // What rests may clock down; the launches will tell.
                    Asked::Mhz(mhz) if idle => Ok(mhz),
                    Asked::Mhz(mhz) => Err(Refusal::new(
                        format!("the driver accepted the lock at {mhz} MHz, and the GPU goes on at {now} MHz"),
                        format!("leave --lock-clocks out; {}", held_down(reasons(&device))),
                    )),
                    Asked::Base => Err(Refusal::new(
                        "this GPU does not tell its base clock while it rests, so that nothing would tell whether the lock holds",
                        "give a number of MHz (`nvidia-smi -q -d SUPPORTED_CLOCKS` lists them)",
                    )),
                };
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Gives the clocks back to the driver.
    ///
    /// # Errors
    /// What could not be put back, in words.
    pub fn put_back(&mut self) -> Result<(), String> {
        let mut stuck = Vec::new();
        for place in std::mem::take(&mut self.locked) {
            let reset = || self.nvml.device_by_index(place)?.reset_gpu_locked_clocks();
            let mut done = reset();
            for _ in 1..TRIES {
                if done.is_ok() {
                    break;
                }
                std::thread::sleep(LOOK);
                done = reset();
            }
            stuck.extend(done.err().map(|error| format!("GPU {place}: {error}")));
        }
        if stuck.is_empty() { Ok(()) } else { Err(stuck.join("; ")) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Who wants to know whether it went well puts back by hand.
        let _ = self.put_back();
    }
}

/// Whether these GPUs are this session's alone and support what is asked of them, as far as can be told without setting anything.
fn fit(nvml: &Nvml, places: &[u32]) -> Result<(), Refusal> {
    let count = nvml.device_count().map_err(odd)?;
    alone(&Host::this(), count)?;
    let products: Vec<String> =
        (0..count).filter_map(|place| nvml.device_by_index(place).and_then(|device| device.name()).ok()).collect();
    let variable = |name: &str| std::env::var(name).ok();
    let (list, order) = (variable("CUDA_VISIBLE_DEVICES"), variable("CUDA_DEVICE_ORDER"));
    if guessed(list.as_deref(), order.as_deref(), &products) {
        return Err(Refusal::new(
            "which GPUs the numbers in CUDA_VISIBLE_DEVICES stand for is CUDA's guess where GPUs differ",
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by their `GPU-…` (`nvidia-smi -L`)",
        ));
    }
    for place in places {
        let device = nvml.device_by_index(*place).map_err(odd)?;
        if let Some((reason, remedy)) = obstacle(&device) {
            return Err(Refusal::new(format!("GPU {place}: {reason}"), remedy));
        }
    }
    Ok(())
}

/// Whether a machine shows signs of others who use it too, of whose `count` GPUs the driver shows.
fn alone(host: &Host, count: u32) -> Result<(), Refusal> {
    let bus = on_the_bus(host);
    if bus > count as usize {
        let reason =
            format!("this machine has {bus} NVIDIA GPUs and {count} of them are shown here, so others use it too");
        return Err(Refusal::new(reason, "lock clocks on a machine of one's own, or leave --lock-clocks out"));
    }
    let pipes = std::env::var("CUDA_MPS_PIPE_DIRECTORY").unwrap_or_else(|_| "/tmp/nvidia-mps".to_owned());
    if host.exists(format!("{}/control", pipes.trim_start_matches('/'))) {
        let reason = format!("CUDA's multi-process service is on (`{pipes}/control`): others may come at any time");
        return Err(Refusal::new(reason, "end it (`echo quit | nvidia-cuda-mps-control`), or leave --lock-clocks out"));
    }
    Ok(())
}

/// NVIDIA GPUs on the machine's bus, which a container sees whole.
fn on_the_bus(host: &Host) -> usize {
    let Ok(entries) = std::fs::read_dir(host.path("sys/bus/pci/devices")) else { return 0 };
    let word = |device: &std::path::Path, name: &str| std::fs::read_to_string(device.join(name)).unwrap_or_default();
    let is_gpu = |device: &std::path::Path| {
        let class = word(device, "class");
        word(device, "vendor").trim() == VENDOR && CLASSES.iter().any(|gpu| class.starts_with(gpu))
    };
    entries.flatten().filter(|entry| is_gpu(&entry.path())).count()
}

/// Why the clocks of a GPU are not one's own to set, and what to do.
fn obstacle(device: &Device<'_>) -> Option<(String, &'static str)> {
    if device.mig_mode().is_ok_and(|mode| mode.current != 0) {
        let reason = "MIG is on, and all instances of a GPU have one clock".to_owned();
        return Some((reason, "measure on a whole GPU, or leave --lock-clocks out"));
    }
    let virtual_part = |mode| !matches!(mode, GpuVirtualizationMode::Bare | GpuVirtualizationMode::PassThrough);
    if device.virtualization_mode().is_ok_and(virtual_part) {
        let reason = "it is shared by virtual machines (vGPU), which have one clock".to_owned();
        return Some((reason, "measure on a whole GPU, or leave --lock-clocks out"));
    }
    let lists = [
        device.running_compute_processes(),
        device.mps_running_compute_processes(),
        device.running_graphics_processes(),
    ];
    let others: BTreeSet<u32> = lists.into_iter().flatten().flatten().map(|process| process.pid).collect();
    if !others.is_empty() {
        let named =
            |pid: &u32| process(*pid).map_or_else(|| pid.to_string(), |found| format!("{pid} ({})", found.name));
        let names: Vec<String> = others.iter().map(named).collect();
        let reason = format!("others are on it: process {}", names.join(", "));
        return Some((reason, "end them, or leave --lock-clocks out: their clocks would be locked too"));
    }
    if let Some(used) = device.memory_info().ok().map(|memory| memory.used).filter(|used| *used > UNSEEN) {
        let reason = format!("{} MiB of its memory are in use by processes that cannot be seen from here", used >> 20);
        return Some((reason, "measure where the GPU is not shared, or leave --lock-clocks out"));
    }
    let clock = |clock: Result<u32, NvmlError>| clock.ok().map(f64::from);
    let applications = clock(device.applications_clock(Clock::Graphics));
    let delivered = clock(device.default_applications_clock(Clock::Graphics));
    let set = reasons(device).contains(ThrottleReasons::APPLICATIONS_CLOCKS_SETTING);
    set_by_others(set, clock(device.clock_info(Clock::SM)), applications, delivered).then(|| {
        let reason = "its clocks are held by a setting already, which nothing could put back".to_owned();
        (reason, "ask whoever set it; `nvidia-smi --reset-gpu-clocks`, as root, ends it")
    })
}

/// Whether somebody has locked the clocks, by what the driver tells: it says that a setting holds them, and the only one that can be
/// read, the clock for applications, is as delivered and elsewhere. A lock that holds nothing down at the moment does not show.
fn set_by_others(set: bool, now: Option<f64>, applications: Option<f64>, delivered: Option<f64>) -> bool {
    let elsewhere = now.zip(applications).is_some_and(|(now, applications)| !follows(now, applications as u32));
    set && applications == delivered && elsewhere
}

/// Sockets that no other process can have at the same time, one for each GPU, so that two sessions do not undo each other's locks.
/// They go with the process, however it ends.
#[cfg(target_os = "linux")]
fn claims(nvml: &Nvml, places: &[u32]) -> Result<Vec<std::os::unix::net::UnixListener>, Refusal> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let claim = |place: &u32| {
        let uuid = nvml.device_by_index(*place).and_then(|device| device.uuid()).map_err(odd)?;
        let name = format!("regrade-clocks-{uuid}");
        let address = SocketAddr::from_abstract_name(name.as_bytes());
        address.and_then(|address| UnixListener::bind_addr(&address)).map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::AddrInUse => "another session of regrade holds its clocks".to_owned(),
                _ => format!("it cannot be kept from other sessions of regrade: {error}"),
            };
            Refusal::new(format!("GPU {place}: {reason}"), "wait for it to end, or leave --lock-clocks out")
        })
    };
    places.iter().map(claim).collect()
}

fn reasons(device: &Device<'_>) -> ThrottleReasons {
    device.current_throttle_reasons().unwrap_or(ThrottleReasons::NONE)
}

const fn held_down(reasons: ThrottleReasons) -> &'static str {
    if reasons.contains(ThrottleReasons::SW_POWER_CAP) {
        "its power limit holds it lower"
    } else {
        "a lower clock may be kept"
    }
}

/// Clocks at the highest memory clock, MHz, as the driver lists them.
fn supported(device: &Device<'_>) -> Vec<u32> {
    let memory = device.supported_memory_clocks().ok().and_then(|clocks| clocks.into_iter().max());
    memory.and_then(|memory| device.supported_graphics_clocks(memory).ok()).unwrap_or_default()
}

/// Whether a device has this clock.
fn offered(mhz: u32, supported: &[u32], name: &str) -> Result<(), Refusal> {
    if supported.contains(&mhz) {
        return Ok(());
    }
    let below = supported.iter().filter(|clock| **clock < mhz).max();
    let above = supported.iter().filter(|clock| **clock > mhz).min();
    let nearest: Vec<String> = below.into_iter().chain(above).map(|clock| format!("{clock} MHz")).collect();
    if nearest.is_empty() {
        let reason = format!("{name} does not tell which clocks it supports");
        return Err(Refusal::new(reason, "use --lock-clocks=base, or leave it out"));
    }
    Err(Refusal::wrongly(
        format!("{name} has no clock of {mhz} MHz"),
        format!("the nearest: {}", nearest.join(" and ")),
    ))
}

/// Whether this process may set clocks, by the kernel's word: the driver is asked by setting them only.
fn permitted(host: &Host) -> Option<bool> {
    let capabilities = parse::capabilities(&host.read("proc/self/status")?)?;
    Some(capabilities >> ADMIN & 1 == 1)
}

/// What `doctor` says, where there is a GPU.
#[must_use]
pub fn finding() -> Option<Finding> {
    let nvml = open().ok()?;
    let places = shown(&nvml).ok()?;
    let refusal = match permitted(&Host::this()) {
        Some(false) => Some(Refusal::new("this process lacks CAP_SYS_ADMIN", "as root it may")),
        _ => fit(&nvml, &places).err(),
    };
    Some(match refusal {
        None => Finding {
            id: "gpu clocks",
            level: Level::Info,
            text: "can be locked while a session measures, as far as the driver tells".to_owned(),
            remedy: Some("`--lock-clocks`, where latencies vary and `cycles` do not".to_owned()),
        },
        Some(Refusal { reason, remedy, .. }) => Finding {
            id: "gpu clocks",
            level: Level::Info,
            text: format!("cannot be locked by `--lock-clocks`: {reason}"),
            remedy: Some(remedy),
        },
    })
}

/// What a session's GPUs are locked at, and what they do, seen from a process that does not hold them.
#[derive(Debug)]
pub struct Locked {
    /// What was asked for.
    pub asked: Asked,
    /// What that is, MHz.
    pub mhz: u32,
    probes: Vec<Probe>,
}

/// Clocks that the driver told while a GPU was not at rest, MHz, and what held them down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    /// In the order they were read.
    pub mhz: Vec<f64>,
    /// The driver's words, each once.
    pub limited_by: BTreeSet<&'static str>,
}

impl Locked {
    /// The clocks of every GPU that CUDA shows to this process, which another one holds.
    #[must_use]
    pub fn at(asked: Asked, mhz: u32) -> Self {
        Self { asked, mhz, probes: (0..).map_while(Probe::nth).collect() }
    }

    /// Reads every clock once.
    pub fn look(&self, readings: &mut Readings) {
        for probe in &self.probes {
            let limited_by = probe.limited_by();
            // At rest a GPU may clock down, lock or no lock.
            if !limited_by.contains(&"idle") {
                readings.mhz.extend(probe.sm_mhz().map(f64::from));
                readings.limited_by.extend(limited_by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_base_or_a_number() {
        for (text, clock) in [("base", Asked::Base), ("1410", Asked::Mhz(1410)), (" 1410 MHz", Asked::Mhz(1410))] {
            assert_eq!(text.parse(), Ok(clock));
        }
        for text in ["", "0", "-5", "max", "1410,1410", "1.4GHz"] {
            assert!(text.parse::<Asked>().is_err(), "{text}");
        }
        assert_eq!((Asked::Base.to_string(), Asked::Mhz(1410).to_string()), ("base".to_owned(), "1410 MHz".to_owned()));
    }

    #[test]
    fn a_step_of_the_driver_is_the_same_clock_and_two_are_not() {
        assert!(follows(1395.0, 1410) && follows(1410.0, 1410) && !follows(1380.0, 1410) && !follows(1440.0, 1410));
        assert!(follows(1961.0, 1980) && !follows(1950.0, 1980), "one per cent of a high clock is more than a step");
        assert!(follows(585.0, 600) && !follows(570.0, 600));
    }

    #[test]
    fn a_clock_that_there_is_not_is_refused_with_its_neighbours() {
        let clocks = [1980, 1965, 1950];
        assert_eq!(offered(1965, &clocks, "H100"), Ok(()));
        let refusal = |mhz| offered(mhz, &clocks, "H100").expect_err("no such clock");
        assert_eq!(refusal(1960).remedy, "the nearest: 1950 MHz and 1965 MHz");
        assert_eq!(refusal(2500).remedy, "the nearest: 1980 MHz");
        assert!(refusal(2500).asked_wrongly && !offered(1, &[], "K80").expect_err("none is known").asked_wrongly);
    }

    #[test]
    fn a_lock_of_somebody_elses_is_told_where_it_shows() {
        let shows =
            |set, now, applications, delivered| set_by_others(set, Some(now), Some(applications), Some(delivered));
        assert!(shows(true, 1200.0, 1980.0, 1980.0));
        assert!(!shows(false, 1200.0, 1980.0, 1980.0), "something else holds it down");
        assert!(!shows(true, 1980.0, 1980.0, 1980.0), "the clock for applications does, as delivered");
        assert!(!shows(true, 1200.0, 1200.0, 1980.0), "the clock for applications does, and a reset leaves that alone");
        assert!(!set_by_others(true, Some(1200.0), None, None), "nothing can be told");
    }

    #[test]
    fn gpus_on_the_bus_that_are_not_shown_are_somebody_elses() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = Host::at(folder.path());
        let device = |name: &str, vendor: &str, class: &str| {
            let place = folder.path().join("sys/bus/pci/devices").join(name);
            std::fs::create_dir_all(&place).expect("a folder");
            std::fs::write(place.join("vendor"), format!("{vendor}\n")).expect("a file");
            std::fs::write(place.join("class"), format!("{class}\n")).expect("a file");
        };
        assert_eq!(alone(&host, 1), Ok(()), "no bus is to be seen");
        device("0000:00:01.0", "0x10de", "0x030200");
        device("0000:00:02.0", "0x10de", "0x030000");
        device("0000:00:03.0", "0x10de", "0x068000"); // a bridge of NVIDIA's
        device("0000:00:04.0", "0x1002", "0x030000");
        assert_eq!(alone(&host, 2), Ok(()));
        let refusal = alone(&host, 1).expect_err("one GPU is hidden");
        assert!(refusal.reason.contains("2 NVIDIA GPUs and 1 of them"), "{}", refusal.reason);
        let pipes = folder.path().join("tmp/nvidia-mps");
        std::fs::create_dir_all(&pipes).expect("a folder");
        std::fs::write(pipes.join("control"), "").expect("a file");
        assert!(alone(&host, 2).expect_err("a service").reason.contains("multi-process service"));
    }

    #[test]
    fn who_may_set_clocks_is_told_by_the_kernel() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = Host::at(folder.path());
        std::fs::create_dir_all(folder.path().join("proc/self")).expect("a folder");
        let with = |line: &str| {
            std::fs::write(folder.path().join("proc/self/status"), format!("Name:\tx\n{line}\n")).expect("a file");
            permitted(&host)
        };
        assert_eq!(with("CapEff:\t000001ffffffffff"), Some(true));
        // Docker's default set.
        assert_eq!(with("CapEff:\t00000000a80425fb"), Some(false));
        assert_eq!(with("CapBnd:\t000001ffffffffff"), None);
    }
}
