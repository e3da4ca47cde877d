//! GPUs through NVIDIA's management library, which comes with the driver and is loaded when it is asked for: one program
//! serves machines with and without it.

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use crate::hardware::gpu::{Gpu, Now};
use crate::hardware::visible::visible;

/// Most `NVLink` connections of a device (`NVML_NVLINK_MAX_LINKS`).
const LINKS: u32 = 18;
/// The driver's reasons, in our words (nvml.h, clocks event reasons).
const REASONS: [(ThrottleReasons, &str); 9] = [
    (ThrottleReasons::GPU_IDLE, "idle"),
    (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "clocks set"),
    (ThrottleReasons::SW_POWER_CAP, "software power cap"),
    (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
    (ThrottleReasons::SYNC_BOOST, "sync boost"),
    (ThrottleReasons::SW_THERMAL_SLOWDOWN, "software thermal"),
    (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hardware thermal"),
    (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hardware power brake"),
    (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display clocks"),
];

/// Why there are no GPUs to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// What is the matter.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// Every GPU that CUDA shows to this process, in its order.
///
/// # Errors
/// Where there is no driver, none that answers, or no device.
pub fn gpus() -> Result<Vec<Gpu>, Absent> {
    let nvml = open()?;
    let driver = nvml.sys_driver_version().map_err(odd)?;
    let cuda = nvml.sys_cuda_driver_version().ok();
    let cuda =
        cuda.map(|version| format!("{}.{}", cuda_driver_version_major(version), cuda_driver_version_minor(version)));
    let found: Result<Vec<Gpu>, NvmlError> = (0..)
        .zip(shown(&nvml)?)
        .map(|(index, place)| {
            let device = nvml.device_by_index(place)?;
            Ok(Gpu { index, driver: driver.clone(), cuda: cuda.clone(), ..of(&device)? })
        })
        .collect();
    found.map_err(odd)
}

fn absent(reason: impl Into<String>, remedy: &str) -> Absent {
    Absent { reason: reason.into(), remedy: remedy.to_owned() }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(super) fn odd(error: NvmlError) -> Absent {
    absent(format!("the NVIDIA driver does not answer: {error}"), "look what `nvidia-smi` says")
}

/// The driver's library.
pub(super) fn open() -> Result<Nvml, Absent> {
    Nvml::init().map_err(|error| match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            absent("there is no NVIDIA driver here", "install it where there is a GPU; in a container, pass the GPU in")
        }
        NvmlError::DriverNotLoaded => {
            absent("the NVIDIA driver is installed and not loaded", "load it, or look for a GPU in `lspci`")
        }
        other => odd(other),
    })
}

/// Places in the driver's list of the GPUs that CUDA shows to this process; at least one.
pub(super) fn shown(nvml: &Nvml) -> Result<Vec<u32>, Absent> {
    let count = nvml.device_count().map_err(odd)?;
    if count == 0 {
        let remedy = "look what `nvidia-smi` says; in a container, pass the GPU in";
        return Err(absent("the NVIDIA driver sees no GPU", remedy));
    }
    let names: Vec<Vec<String>> = (0..count)
        .map(|place| {
            let Ok(device) = nvml.device_by_index(place) else { return Vec::new() };
            let instances = instances(&device).into_iter().map(|instance| instance.uuid);
            device.uuid().into_iter().chain(instances).collect()
        })
        .collect();
    let list = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let shown: Vec<u32> = visible(list.as_deref(), &names).into_iter().map(|place| place as u32).collect();
    if shown.is_empty() {
        let reason = format!("CUDA_VISIBLE_DEVICES shows none of the {count} GPUs here");
        return Err(absent(reason, "name one of them in it (`nvidia-smi -L` lists them), or unset it"));
    }
    Ok(shown)
}

/// What a driver does not support on a device is absent.
fn of(device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let capability = device.cuda_compute_capability()?;
    let unsigned = |number: i32| u32::try_from(number).unwrap_or(0);
    let compute_capability = (unsigned(capability.major), unsigned(capability.minor));
    let watts = |milliwatts: u32| f64::from(milliwatts) / 1000.0;
    let mig = device.mig_mode().ok().map(|mode| mode.current != 0);
    let instance = if mig == Some(true) { instance(device) } else { None };
    let (name, memory, multiprocessors) = match instance {
        Some(Instance { name, memory, multiprocessors, .. }) => (name, memory, multiprocessors),
        None => (
            device.name()?,
            device.memory_info()?.total,
            device.num_cores().ok().map(|cores| cores / cores_per_multiprocessor(compute_capability)),
        ),
    };
    Ok(Gpu {
        name,
        compute_capability,
        memory,
        multiprocessors,
        max_sm_mhz: device.max_clock_info(Clock::SM).ok(),
        max_memory_mhz: device.max_clock_info(Clock::Memory).ok(),
        power_limit_w: device.enforced_power_limit().ok().map(watts),
        default_power_limit_w: device.power_management_limit_default().ok().map(watts),
        ecc: device.is_ecc_enabled().ok().map(|state| state.currently_enabled),
        mig,
        persistent: device.is_in_persistent_mode().ok(),
        nvlinks: (0..LINKS).filter(|link| device.link_wrapper_for(*link).is_active().unwrap_or(false)).count() as u32,
        uncorrected_errors: device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok(),
        now: now(device),
        ..Gpu::default()
    })
}

/// A part of a GPU that is cut into instances, as its own device: all that CUDA shows of it.
#[derive(Debug, Clone, PartialEq)]
struct Instance {
    uuid: String,
    name: String,
    memory: u64,
    multiprocessors: Option<u32>,
}

/// The instance that this process works on; `None` where the driver's library shows none.
fn instance(device: &Device<'_>) -> Option<Instance> {
    chosen(instances(device), std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
}

/// Every instance that a GPU is cut into.
fn instances(device: &Device<'_>) -> Vec<Instance> {
    let places = 0..device.mig_device_count().unwrap_or(0);
    places
        .filter_map(|place| {
            let part = device.mig_device_by_index(place).ok()?;
            Some(Instance {
                uuid: part.uuid().ok()?,
                name: part.name().ok()?,
                memory: part.memory_info().ok()?.total,
                multiprocessors: part.attributes().ok().map(|attributes| attributes.multiprocessor_count),
            })
        })
        .collect()
}

/// CUDA works on one instance: the first that the variable names, or the first of all.
fn chosen(instances: Vec<Instance>, visible: Option<&str>) -> Option<Instance> {
    let named = visible.into_iter().flat_map(|list| list.split(',')).map(str::trim).find_map(|word| {
        let unique = word.starts_with("MIG-");
        instances.iter().position(|instance| unique && instance.uuid.starts_with(word))
    });
    instances.into_iter().nth(named.unwrap_or(0))
}

fn now(device: &Device<'_>) -> Now {
    let reasons = device.current_throttle_reasons().unwrap_or(ThrottleReasons::NONE);
    let own = std::process::id();
    Now {
        sm_mhz: device.clock_info(Clock::SM).ok(),
        memory_mhz: device.clock_info(Clock::Memory).ok(),
        power_w: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
        temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
        busy_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        limited_by: words(reasons),
        processes: device
            .running_compute_processes()
            .unwrap_or_default()
            .into_iter()
            .filter(|process| process.pid != own)
            .map(|process| match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => (process.pid, Some(bytes)),
                UsedGpuMemory::Unavailable => (process.pid, None),
            })
            .collect(),
    }
}

/// A GPU that is watched while it works.
#[derive(Debug)]
pub struct Probe {
    nvml: Nvml,
    index: u32,
}

impl Probe {
    /// The GPU at this place on the bus (as CUDA writes it), which need not have CUDA's number for it here; `None` where the
    /// driver's library does not know it.
    #[must_use]
    pub fn at(bus_id: &str) -> Option<Self> {
        let nvml = Nvml::init().ok()?;
        let index = nvml.device_by_pci_bus_id(bus_id).ok()?.index().ok()?;
        Some(Self { nvml, index })
    }

    /// The GPU of this number, as CUDA counts here.
    #[must_use]
    pub fn nth(ordinal: u32) -> Option<Self> {
        let nvml = Nvml::init().ok()?;
        let index = shown(&nvml).ok()?.get(ordinal as usize).copied()?;
        Some(Self { nvml, index })
    }

    /// What it is.
    #[must_use]
    pub fn gpu(&self) -> Option<Gpu> {
        of(&self.nvml.device_by_index(self.index).ok()?).ok()
    }

    /// What it is doing. Takes up to a millisecond.
    #[must_use]
    pub fn now(&self) -> Now {
        self.nvml.device_by_index(self.index).map(|device| now(&device)).unwrap_or_default()
    }

    /// What holds its clocks down, alone: some microseconds.
    #[must_use]
    pub fn limited_by(&self) -> Vec<&'static str> {
        let reasons = self.nvml.device_by_index(self.index).and_then(|device| device.current_throttle_reasons());
        words(reasons.unwrap_or(ThrottleReasons::NONE))
    }

    /// SM clock, alone, MHz.
    #[must_use]
    pub fn sm_mhz(&self) -> Option<u32> {
        self.nvml.device_by_index(self.index).and_then(|device| device.clock_info(Clock::SM)).ok()
    }

    /// Energy since the driver was loaded, joules; counted on Volta and later.
    #[must_use]
    pub fn energy_j(&self) -> Option<f64> {
        let device = self.nvml.device_by_index(self.index).ok()?;
        device.total_energy_consumption().ok().map(|millijoules| millijoules as f64 / 1e3)
    }

    /// Uncorrected memory errors since the driver was loaded.
    #[must_use]
    pub fn uncorrected_errors(&self) -> Option<u64> {
        let device = self.nvml.device_by_index(self.index).ok()?;
        device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok()
    }
}

fn words(reasons: ThrottleReasons) -> Vec<&'static str> {
    REASONS.iter().filter(|(bit, _)| reasons.contains(*bit)).map(|(_, word)| *word).collect()
}

/// FP32 lanes of a multiprocessor (CUDA C++ Programming Guide, arithmetic throughput).
const fn cores_per_multiprocessor(compute_capability: (u32, u32)) -> u32 {
    match compute_capability {
        (7, _) | (8, 0) => 64,
        _ => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_instances_the_one_that_cuda_shows_counts() {
        let instance = |uuid: &str| Instance {
            uuid: uuid.to_owned(),
            name: "NVIDIA A100-SXM4-40GB MIG 1g.5gb".to_owned(),
            memory: 5 << 30,
            multiprocessors: Some(14),
        };
        let all = || vec![instance("MIG-aaa1"), instance("MIG-bbb2")];
        let uuid = |visible: Option<&str>| chosen(all(), visible).map(|instance| instance.uuid);
        assert_eq!(uuid(None).as_deref(), Some("MIG-aaa1"));
        assert_eq!(uuid(Some("0")).as_deref(), Some("MIG-aaa1"));
        assert_eq!(uuid(Some("MIG-bbb")).as_deref(), Some("MIG-bbb2"));
        assert_eq!(uuid(Some("MIG-ccc3, MIG-bbb2")).as_deref(), Some("MIG-bbb2"));
        assert_eq!(chosen(Vec::new(), None), None);
    }
}
