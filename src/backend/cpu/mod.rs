//! The CPU backend: models through candle, operators of our own and candle's, and the reference workloads.
//!
//! Must not know how samples are taken. One engine thread unless the case says otherwise; the runner sets the pool's
//! size in the worker's environment and [`Cpu::load`] refuses to run with another.

use std::collections::BTreeMap;

use crate::backend::{Availability, Backend, BackendError, Prepared, enough_cpus};
use crate::domain::{DeviceInfo, Skip, Workload, WorkloadKind};

mod math;
mod model;
mod operator;
mod random;
mod reference;

/// The engine and its version; a test compares it with Cargo.lock.
const ENGINE: &str = "candle 0.11.1";

/// Models and operators on the host's CPU.
#[derive(Debug)]
pub struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn describe(&self) -> &'static str {
        "models and operators on the host's CPU (candle, pure Rust)"
    }

    fn availability(&self) -> Availability {
        Availability::Ready {
            devices: vec![device(BTreeMap::new())],
            facts: BTreeMap::from([
                ("engine".to_owned(), ENGINE.to_owned()),
                ("isa".to_owned(), instruction_set().to_owned()),
            ]),
        }
    }

    fn supports(&self, workload: &Workload) -> Result<(), Skip> {
        enough_cpus(workload)?;
        match workload.kind {
            WorkloadKind::Model => model::supports(workload),
            WorkloadKind::Operator => operator::supports(workload),
            WorkloadKind::Reference | WorkloadKind::Command => Ok(()),
            WorkloadKind::Kernel => Err(Skip {
                reason: "the cpu backend runs no CUDA kernels".to_owned(),
                remedy: "write backends = [\"nvidia\"]".to_owned(),
            }),
            WorkloadKind::Program => Err(Skip {
                reason: "the cpu backend runs no programs for XLA".to_owned(),
                remedy: "write backends = [\"xla:cpu\"], or another of XLA's".to_owned(),
            }),
        }
    }

    fn load(&self, workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        if matches!(workload.kind, WorkloadKind::Model | WorkloadKind::Operator) {
            use_threads(workload.size("threads").map_err(BackendError::Unsupported)?)?;
        }
        match workload.kind {
            WorkloadKind::Model => model::load(workload, seed),
            WorkloadKind::Operator => operator::load(workload, seed),
            WorkloadKind::Reference => reference::load(workload, seed),
            WorkloadKind::Command | WorkloadKind::Kernel | WorkloadKind::Program => {
                Err(BackendError::Unsupported("not a workload of the cpu backend".to_owned()))
            }
        }
    }

    /// Operators inside the engine's pool. From outside, each one that the engine spreads over its pool would first wake
    /// a sleeping thread: for a small layer norm that took as long as the work and varied twofold within a launch. Models
    /// stay on the caller's thread: their steps are long, and a tiny training step proved steadier there.
    fn on_its_thread(&self, workload: &Workload, job: &mut (dyn FnMut() + Send)) {
        match (workload.kind, workload.size("threads")) {
            (WorkloadKind::Operator, Ok(threads)) => {
                build_pool(threads);
                rayon::scope(|_| job());
            }
            _ => job(),
        }
    }
}

/// Builds rayon's pool with this many threads, unless it stands already.
fn build_pool(wanted: usize) {
    // An error means that the pool was built before, at which `use_threads` looks.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(wanted).build_global();
}

/// Builds the pool and sees that engine and pool agree.
fn use_threads(wanted: usize) -> Result<(), BackendError> {
    build_pool(wanted);
    agree(wanted, candle_core::utils::get_num_threads(), rayon::current_num_threads())
}

/// Whether the engine's own count and the pool's size are what the case asks for.
fn agree(wanted: usize, engine: usize, pool: usize) -> Result<(), BackendError> {
    if engine != wanted {
        return Err(BackendError::Unsupported(format!(
            "the case asks for {wanted} threads, the engine would use {engine}: set RAYON_NUM_THREADS={wanted} in the \
             worker's environment"
        )));
    }
    if pool != wanted {
        return Err(BackendError::Unsupported(format!(
            "the case asks for {wanted} threads, this process already has a pool of {pool}: load it in a fresh worker"
        )));
    }
    Ok(())
}

/// This machine's CPU with facts of its own and the common ones.
fn device(mut facts: BTreeMap<String, serde_json::Value>) -> DeviceInfo {
    facts.insert("engine".to_owned(), ENGINE.into());
    facts.insert("isa".to_owned(), instruction_set().into());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    facts.insert("cores".to_owned(), cores.into());
    DeviceInfo { backend: "cpu".to_owned(), name: cpu_name(), facts }
}

/// What a workload with this many engine threads runs on.
fn this_device(threads: usize) -> DeviceInfo {
    device(BTreeMap::from([("threads".to_owned(), threads.into())]))
}

/// The CPU's name as its maker gives it; the architecture's where the kernel does not tell.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// The widest instruction set that the engine's matrix products choose here; it moves times by up to 1.8 and results
/// in the seventh digit.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl") {
            return "avx512";
        }
        if has!("avx2") && has!("fma") {
            return "avx2";
        }
        "sse2"
    }
    #[cfg(not(target_arch = "x86_64"))]
    if cfg!(target_arch = "aarch64") { "neon" } else { "scalar" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_is_the_locked_version() {
        let lock = include_str!("../../../Cargo.lock");
        let version = ENGINE.strip_prefix("candle ").expect("engine and version");
        assert!(lock.contains(&format!("name = \"candle-core\"\nversion = \"{version}\"\n")), "{ENGINE}");
    }

    #[test]
    fn is_always_ready_with_one_device_and_stable_facts() {
        let Availability::Ready { devices, facts } = Cpu.availability() else {
            panic!("the CPU is always there");
        };
        assert_eq!(devices.len(), 1);
        assert!(!devices[0].name.is_empty());
        assert!(devices[0].facts["cores"].as_u64().is_some_and(|cores| cores >= 1));
        assert_eq!(facts.keys().collect::<Vec<_>>(), ["engine", "isa"]);
        assert_eq!(Cpu.availability(), Cpu.availability());
    }

    #[test]
    fn threads_that_disagree_are_an_error_that_says_what_to_set() {
        assert!(agree(2, 2, 2).is_ok());
        let error = agree(1, 8, 1).unwrap_err().to_string();
        assert!(error.contains("asks for 1 threads") && error.contains("would use 8"), "{error}");
        assert!(error.contains("RAYON_NUM_THREADS=1"), "{error}");
        let error = agree(4, 4, 2).unwrap_err().to_string();
        assert!(error.contains("pool of 2"), "{error}");
    }

    #[test]
    fn more_threads_than_cpus_are_skipped() {
        let asks = |threads: usize| Workload {
            kind: WorkloadKind::Operator,
            name: "gemm".to_owned(),
            params: BTreeMap::from([("threads".to_owned(), crate::domain::ParamValue::Int(threads as i64))]),
            command: Vec::new(),
            kernel: None,
        };
        let here = std::thread::available_parallelism().expect("known").get();
        assert!(enough_cpus(&asks(here)).is_ok());
        let skip = Cpu.supports(&asks(here + 1)).expect_err("too many");
        assert!(skip.reason.contains(&format!("asks for {} threads", here + 1)), "{}", skip.reason);
        assert!(skip.remedy.contains(&format!("`threads` to {here}")), "{}", skip.remedy);
    }

    #[test]
    fn load_refuses_another_thread_count_than_the_engines() {
        let mut workload = Workload {
            kind: WorkloadKind::Model,
            name: "gpt2-tiny".to_owned(),
            params: BTreeMap::new(),
            command: Vec::new(),
            kernel: None,
        };
        let wrong = i64::try_from(candle_core::utils::get_num_threads()).expect("few cores") + 1;
        workload.params.insert("threads".to_owned(), crate::domain::ParamValue::Int(wrong));
        let error = Cpu.load(&workload, 1).err().expect("refused").to_string();
        assert!(error.contains(&format!("RAYON_NUM_THREADS={wrong}")), "{error}");
    }
}
