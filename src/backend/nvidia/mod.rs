//! NVIDIA GPUs through CUDA: operators of our own and of NVIDIA's libraries, timed by the device's own events.
//!
//! Layers, from the bottom: `cuda` (the driver), `image` (code as bytes) and `compile` (the run-time compiler) · `blas` · `work`
//! (what every workload has in common, and the place where it is made) · `operator` (the workloads) · `stopwatch` (timing) ·
//! `timed` (a workload as the port wants it). Beside them, for several GPUs at once: `nccl` · `collective`. Everything is loaded
//! at run time: its absence is a reason with a remedy.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::backend::nvidia::collective::Kind;
use crate::backend::nvidia::stopwatch::Method;
use crate::backend::nvidia::timed::{How, Timed, loading};
use crate::backend::nvidia::work::Site;
use crate::backend::{Availability, Backend, BackendError, Prepared};
use crate::domain::{DeviceInfo, Skip, Workload, WorkloadKind};
use crate::hardware::cuda::Library;
use crate::hardware::{self, gpu::Gpu, major_minor};

mod blas;
mod collective;
mod compile;
mod cuda;
mod cudnn;
mod image;
mod kernels;
mod nccl;
mod operator;
mod stopwatch;
mod timed;
mod work;

/// The adapter.
#[derive(Debug)]
pub struct Nvidia;

impl Nvidia {
    const NAME: &'static str = "nvidia";
}

impl Backend for Nvidia {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn describe(&self) -> &'static str {
        "operators and kernels on NVIDIA GPUs (CUDA, cuBLASLt, cuDNN, NCCL)"
    }

    fn availability(&self) -> Availability {
        match hardware::gpus() {
            Ok(gpus) => Availability::Ready { facts: facts(&gpus), devices: gpus.iter().map(device).collect() },
            Err(absent) => Availability::Unavailable(Skip { reason: absent.reason, remedy: absent.remedy }),
        }
    }

    fn on_nvidia_gpus(&self) -> bool {
        true
    }

    fn toolkit(&self, _works: &[&Workload]) -> BTreeMap<String, String> {
        [("nvrtc", Library::Nvrtc), ("cublaslt", Library::CublasLt), ("cudnn", Library::Cudnn)]
            .into_iter()
            .filter_map(|(name, library)| Some((name.to_owned(), major_minor(&library.version()?))))
            .collect()
    }

    fn supports(&self, workload: &Workload) -> Result<(), Skip> {
        match workload.kind {
            WorkloadKind::Operator if Kind::of(workload).is_some() => collective::supports(workload),
            WorkloadKind::Operator | WorkloadKind::Kernel => operator::supports(workload),
            WorkloadKind::Command => Ok(()),
            WorkloadKind::Model | WorkloadKind::Program | WorkloadKind::Reference => Err(Skip {
                reason: format!("the nvidia backend has no model or program `{}`", workload.name),
                remedy: "write backends = [\"xla:cuda\"] for it, or measure a program of your own here (a `command`)"
                    .to_owned(),
            }),
        }
    }

    fn load(&self, workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        let word = workload.text("timing").map_err(BackendError::Unsupported)?;
        let method =
            Method::named(word).ok_or_else(|| BackendError::Unsupported(format!("`{word}` is no way of timing")))?;
        let how = How {
            method,
            rested: workload.text("pace").map_err(BackendError::Unsupported)? == "rested",
            energy: workload.flag("energy").map_err(BackendError::Unsupported)?,
        };
        if let Some(kind) = Kind::of(workload) {
            return Ok(Box::new(collective::load(kind, workload, seed, how).map_err(loading)?));
        }
        let site = Site::open(workload.size("device").map_err(BackendError::Unsupported)?).map_err(loading)?;
        let timed = Timed::load(site, how, &mut |site| operator::make(site, workload, seed)).map_err(loading)?;
        Ok(Box::new(timed))
    }
}

/// What makes two machines the same testbed: the first GPU's facts, and how many of which there are.
fn facts(gpus: &[Gpu]) -> BTreeMap<String, String> {
    let mut facts = gpus.first().map(Gpu::facts).unwrap_or_default();
    facts.insert("devices".to_owned(), counted(gpus.iter().map(|gpu| gpu.name.as_str())));
    facts
}

/// `1 x NVIDIA H100 PCIe, 2 x NVIDIA H200`.
fn counted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts.iter().map(|(name, count)| format!("{count} x {name}")).collect::<Vec<_>>().join(", ")
}

fn device(gpu: &Gpu) -> DeviceInfo {
    let (major, minor) = gpu.compute_capability;
    let facts: BTreeMap<String, Value> = [
        ("compute_capability", json!(f64::from(major) + f64::from(minor) / 10.0)),
        ("memory_bytes", json!(gpu.memory)),
        ("architecture", json!(gpu.architecture())),
        ("multiprocessors", json!(gpu.multiprocessors)),
        ("capabilities", json!(gpu.capabilities())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    DeviceInfo { backend: Nvidia::NAME.to_owned(), name: gpu.name.clone(), facts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_counted_by_their_names() {
        assert_eq!(counted(["H100", "H100"].into_iter()), "2 x H100");
        assert_eq!(counted(["H200", "H100", "H200"].into_iter()), "1 x H100, 2 x H200");
    }
}
