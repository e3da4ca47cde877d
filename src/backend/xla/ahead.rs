//! A program compiled for devices that are not here: nothing is run, and everything the compiler says is a metric.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};

use crate::backend::program::Program;
use crate::backend::xla::engine::said;
use crate::backend::xla::pjrt::{Compiled, Flag, Options, Plugin, Value};
use crate::backend::xla::plugins::{self, Platform};
use crate::backend::xla::running::{compile, costs, described, marks};
use crate::backend::xla::{failed, loading};
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo, Evidence, Metric};
use crate::hardware::python;
use crate::measure::{Subject, SubjectError};

/// Devices that compilers know by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Whose compiler.
    pub platform: Platform,
    /// The compiler's name of the devices.
    topology: String,
    options: Vec<(String, Value)>,
    flags: &'static [&'static str],
}

/// What the compiler must know of an H100 SXM to compile for one that is not here: XLA's `GpuTargetConfigProto`, the figures from the
/// CUDA programming guide (compute capability 9.0) and NVIDIA's datasheet.
const H100: &str = "gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 \
    shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 \
    block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 \
    l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84942979072 shared_memory_per_block_optin: 232448 \
    cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 } \
    platform_name: \"CUDA\" dnn_version_info { major: 9 minor: 8 } runtime_version { major: 12 minor: 9 } \
    device_description_str: \"NVIDIA H100 80GB HBM3\"";

/// XLA's flag for CUDA's folder.
pub const TOOLKIT_FLAG: &str = "xla_gpu_cuda_data_dir";

/// Generations of TPU that libtpu compiles for.
const TPUS: [&str; 5] = ["v4", "v5e", "v5p", "v6e", "v7x"];

impl Target {
    /// The devices of a suite's word: `v5e:2x2`, `h100`.
    ///
    /// # Errors
    /// When no compiler knows them.
    pub fn named(word: &str) -> Result<Self, String> {
        let generation = word.split(':').next().unwrap_or_default();
        if word == "h100" {
            return Ok(Self {
                platform: Platform::Cuda,
                topology: "h100".to_owned(),
                options: vec![
                    ("target_config".to_owned(), Value::Text(H100.to_owned())),
                    ("topology".to_owned(), Value::Text("1x1x1".to_owned())),
                ],
                // Choosing kernels by trying them needs a device.
                flags: &["xla_gpu_autotune_level=0"],
            });
        }
        // libtpu takes more sizes than a generation has, and dies of a zero.
        let sizes: Option<Vec<u32>> =
            word.split_once(':').and_then(|(_, sizes)| sizes.split('x').map(|size| size.parse().ok()).collect());
        let fits = |sizes: Vec<u32>| {
            let plane = ["v5e", "v6e"].contains(&generation);
            sizes.len() == if plane { 2 } else { 3 } && sizes.iter().all(|size| *size > 0)
        };
        if TPUS.contains(&generation) && sizes.is_some_and(fits) {
            // libtpu has another name for the newest.
            let topology = word.replacen("v7x:", "tpu7x:", 1);
            return Ok(Self { platform: Platform::Tpu, topology, options: Vec::new(), flags: &[] });
        }
        Err(format!(
            "no compiler here knows the devices `{word}`: write h100, or a TPU with its topology, such as v5e:2x2, v5p:2x2x1, v6e:2x2, \
             v4:2x2x1, v7x:2x2x1"
        ))
    }
}

/// The folder with `bin/ptxas` and NVIDIA's library of device functions, both of which the CUDA plugin needs to compile where there is no
/// toolkit it knows: of a toolkit, or of the `nvidia-cuda-nvcc` wheels of the active Python.
pub fn toolkit() -> Option<PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|folder| folder.join("ptxas").is_file())
        .filter_map(|folder| folder.parent().map(Path::to_owned))
        .collect();
    let wheels = python::packages()
        .into_iter()
        .flat_map(|folder| ["cu13", "cuda_nvcc"].map(|part| folder.join("nvidia").join(part)));
    let usual = PathBuf::from("/usr/local/cuda");
    let mut all = named.chain(beside).chain(wheels).chain([usual]);
    all.find(|folder| folder.join("nvvm/libdevice/libdevice.10.bc").is_file() && folder.join("bin/ptxas").is_file())
}

/// The version of the assembler that the CUDA plugin calls, such as `12.9`; none where it cannot be asked.
pub fn ptxas() -> Option<String> {
    let asked = Command::new(toolkit()?.join("bin/ptxas")).arg("--version").stdin(Stdio::null()).output().ok()?;
    release(&String::from_utf8_lossy(&asked.stdout))
}

/// `Cuda compilation tools, release 12.9, V12.9.86` says 12.9.
fn release(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("release ")?;
    let version = rest.split(',').next()?.trim();
    version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
}

/// A program that was compiled and will not be run.
#[derive(Debug)]
pub struct Ahead {
    compiled: Compiled,
    plugin: plugins::Plugin,
    program: Program,
    target: String,
    kind: String,
    facts: BTreeMap<String, Json>,
    compile_s: f64,
    compile_cpu_s: Option<f64>,
}

impl Ahead {
    /// Compiles.
    ///
    /// # Errors
    /// When the plugin knows no such devices, or the program does not compile.
    pub fn load(
        plugin: &plugins::Plugin,
        target: &Target,
        program: Program,
        mut options: Options,
    ) -> Result<Self, BackendError> {
        let loaded = Plugin::load(&plugin.path).map_err(|error| loading("loading the compiler", error))?;
        let topology = loaded
            .topology(&target.topology, &target.options)
            .map_err(|error| loading("asking the compiler for its devices", error))?;
        let devices = topology.devices().map_err(|error| loading("asking for the devices", error))?;
        let mut flags = Options::flags_of(&target.flags.join(" ")).map_err(|error| loading("flags", error))?;
        let said_already = options.flags.iter().any(|(name, _)| name == TOOLKIT_FLAG);
        if let Some(folder) = toolkit().filter(|_| target.platform == Platform::Cuda && !said_already) {
            flags.push((TOOLKIT_FLAG.to_owned(), Flag::Text(folder.display().to_string())));
        }
        flags.append(&mut options.flags);
        options.flags = flags;
        let (compiled, compile_s, compile_cpu_s) = compile(|| topology.compile(&program.code, &options))?;
        let mut facts = said(&loaded, plugin).map_err(|error| loading("asking the plugin", error))?;
        facts.insert("devices".to_owned(), json!(devices.len()));
        let kind = devices.first().map_or_else(|| target.topology.clone(), |device| device.kind.clone());
        for (name, value) in devices.first().map(|device| device.attributes.as_slice()).unwrap_or_default() {
            facts.insert(format!("device.{name}"), json!(value.to_string()));
        }
        Ok(Self {
            compiled,
            plugin: plugin.clone(),
            program,
            target: target.topology.clone(),
            kind,
            facts,
            compile_s,
            compile_cpu_s,
        })
    }
}

impl Subject for Ahead {
    fn run(&mut self, _iterations: u64) -> Result<(), SubjectError> {
        Err(failed(crate::backend::xla::pjrt::PjrtError::Argument(
            "a program for another device is not run".to_owned(),
        )))
    }
}

impl Prepared for Ahead {
    fn is_timed(&self) -> bool {
        false
    }

    fn device(&self) -> DeviceInfo {
        let mut facts = self.facts.clone();
        facts.insert("program_sha256".to_owned(), json!(self.program.manifest.sha256));
        let name = format!("{} (compiled for, not here)", self.kind);
        DeviceInfo { backend: "xla:compile".to_owned(), name, facts }
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts { flops: self.program.manifest.flops, ..WorkCounts::default() }
    }

    fn values(&mut self, _latency_s: f64) -> Result<Vec<(&'static str, f64)>, BackendError> {
        let mut values = vec![(Metric::COMPILE_TIME, self.compile_s)];
        values.extend(self.compile_cpu_s.map(|seconds| (Metric::COMPILE_CPU_TIME, seconds)));
        let costs = costs(&self.compiled).map_err(|error| loading("asking what the program costs", error))?;
        values.extend(described(&self.compiled, &costs).map_err(|error| loading("asking about the program", error))?);
        Ok(values)
    }

    fn evidence(&mut self) -> Vec<Evidence> {
        let mut facts: BTreeMap<String, Json> = [("compiled_for".to_owned(), json!(self.target))].into();
        marks(&self.compiled, &self.plugin, &mut facts);
        vec![Evidence { source: Evidence::XLA.to_owned(), facts }]
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        // Nothing was run, so there are no numbers.
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assembler_says_its_version() {
        let said = "Copyright (c) 2005-2025\nCuda compilation tools, release 12.9, V12.9.86\nBuild cuda_12.9";
        assert_eq!(release(said).as_deref(), Some("12.9"));
        assert_eq!((release("a release of something"), release("")), (None, None));
    }

    #[test]
    fn devices_are_known_by_their_names() {
        assert_eq!(Target::named("h100").map(|target| target.platform), Ok(Platform::Cuda));
        assert_eq!(Target::named("v5e:2x2").map(|target| target.platform), Ok(Platform::Tpu));
        assert_eq!(Target::named("v7x:2x2x1").map(|target| target.topology).as_deref(), Ok("tpu7x:2x2x1"));
        for word in ["v5e", "v9:1", "", "v5e:", "H100", "v5e:0x2", "v5e:2x2x2", "v4:2x2", "v5p:2x2x", "v6e:2xa"] {
            assert!(Target::named(word).is_err(), "{word}");
        }
    }
}
