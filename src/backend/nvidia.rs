//! NVIDIA GPUs. In this version programs of one's own run there (`command` workloads): the backend says which devices there
//! are, and what makes two machines the same testbed. Operators and kernels of our own are to come.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::backend::{Availability, Backend, BackendError, Prepared};
use crate::domain::{DeviceInfo, Skip, Workload};
use crate::hardware::{self, gpu::Gpu};

/// The adapter.
#[derive(Debug)]
pub struct Nvidia;

impl Nvidia {
    const NAME: &'static str = "nvidia";

    fn skip() -> Skip {
        Skip {
            reason: "this version of regrade has no operators or models for NVIDIA GPUs yet".to_owned(),
            remedy: "measure a program of your own there: a `command` workload".to_owned(),
        }
    }
}

impl Backend for Nvidia {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn describe(&self) -> &'static str {
        "programs of your own on NVIDIA GPUs (CUDA)"
    }

    fn availability(&self) -> Availability {
        match hardware::gpus() {
            Ok(gpus) => Availability::Ready { facts: facts(&gpus), devices: gpus.iter().map(device).collect() },
            Err(absent) => Availability::Unavailable(Skip { reason: absent.reason, remedy: absent.remedy }),
        }
    }

    fn supports(&self, _workload: &Workload) -> Result<(), Skip> {
        Err(Self::skip())
    }

    fn load(&self, _workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        Err(BackendError::Unsupported(Self::skip().reason))
    }
}

/// What makes two machines the same testbed: the first GPU's facts, and how many of which there are.
fn facts(gpus: &[Gpu]) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for gpu in gpus {
        *counts.entry(&gpu.name).or_default() += 1;
    }
    let all: Vec<String> = counts.iter().map(|(name, count)| format!("{count} x {name}")).collect();
    let mut facts = gpus.first().map(Gpu::facts).unwrap_or_default();
    facts.insert("devices".to_owned(), all.join(", "));
    facts
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
