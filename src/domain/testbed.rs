//! The testbed: the stable fingerprint of a machine, the only bound within which runs compare.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stable facts of a machine and their hash. Never holds anything that changes at boot, and never a host name
/// (the members of a fleet of equal runners are one testbed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Testbed {
    /// First 16 hex digits of the SHA-256 of the facts in canonical form.
    pub key: String,
    /// Facts by name: `cpu.model`, `cpu.cores`, `memory`, `os`, `backend.cpu.engine`, `timing.method`, …
    pub facts: BTreeMap<String, String>,
}

impl Testbed {
    /// The fact that says which clock the GPUs were locked at; absent where they were not.
    pub const LOCKED: &str = "clocks.locked";

    /// A short label a person recognises: the devices, where a backend used some, else the CPU.
    #[must_use]
    pub fn label(&self) -> String {
        let fact = |name: &str| self.facts.get(name).map_or("?", String::as_str);
        let told = |end: &str| {
            let of_backends = self.facts.iter().filter(|(name, _)| name.starts_with("backend.") && name.ends_with(end));
            of_backends.map(|(_, device)| device).find(|device| *device != fact("cpu.model"))
        };
        let device = match told(".devices").or_else(|| told(".device")) {
            Some(devices) => devices.clone(),
            None => format!("{} ({} cores)", fact("cpu.model"), fact("cpu.cores")),
        };
        match self.facts.get(Self::LOCKED) {
            Some(clock) => format!("{device}, clocks locked ({clock})"),
            None => device,
        }
    }
}

/// What a worker ran on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceInfo {
    /// Backend name.
    pub backend: String,
    /// Device name as a person knows it.
    pub name: String,
    /// Further facts: instruction set, threads, memory.
    #[serde(default)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_the_device_that_is_measured() {
        let label = |facts: &[(&str, &str)]| {
            let cpu = [("cpu.model", "AMD EPYC"), ("cpu.cores", "2")];
            let facts = cpu.iter().chain(facts).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Testbed { key: String::new(), facts: facts.collect() }.label()
        };
        assert_eq!(label(&[("backend.xla:cpu.device", "AMD EPYC")]), "AMD EPYC (2 cores)");
        assert_eq!(
            label(&[("backend.xla:cuda.device", "NVIDIA L4"), ("backend.xla:cpu.device", "AMD EPYC")]),
            "NVIDIA L4"
        );
        assert_eq!(
            label(&[("backend.nvidia.devices", "2 x NVIDIA L4"), ("backend.xla:cuda.device", "NVIDIA L4")]),
            "2 x NVIDIA L4"
        );
    }
}
