//! StableHLO programs through the PJRT plugins of XLA: TPU, NVIDIA, AMD, Intel and CPU, one adapter each, and one that compiles for
//! devices that are not here.
//!
//! Layers, from the bottom: `wire` (protobuf's format) · `pjrt` (the interface) · `plugins` (which there are) · `engine` (one, connected) · `models` and `operators`
//! (programs of the catalogue) · `tuning` (what a GPU's compiler finds by trying) · `running` (a program timed on a device), `trace`
//! (what its profiler saw), `runtime` (what libtpu saw) and `ahead` (compiled only). Plugins are loaded at run
//! time, in processes of their own only: some hang, and none can be unloaded.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::program::{Language, Manifest, Program};
use crate::backend::xla::ahead::{Ahead, Target};
use crate::backend::xla::engine::Engine;
use crate::backend::xla::pjrt::{Options, PjrtError};
use crate::backend::xla::plugins::{Platform, Plugin};
use crate::backend::xla::running::Running;
use crate::backend::xla::tuning::Tuning;
use crate::backend::{Availability, Backend, BackendError, Prepared, enough_cpus};
use crate::domain::{DeviceInfo, Skip, Workload, WorkloadKind};
use crate::hardware::{self, tpu};
use crate::measure::SubjectError;

mod ahead;
mod engine;
mod models;
mod operators;
mod pjrt;
pub mod plugins;
mod running;
mod runtime;
mod trace;
mod tuning;
mod wire;

/// Programs on the devices of one kind of plugin.
#[derive(Debug)]
pub struct Xla(pub Platform);

/// Programs compiled for devices that are not here.
#[derive(Debug)]
pub struct Compile;

/// Tells what a plugin says of itself, by the names of the facts of launches: `api`, `stablehlo_current_version` and the like. Loads the
/// library, so it belongs in a process of its own, which finds [`ENVIRONMENT`].
///
/// # Errors
/// Why it says no more.
pub fn describe(path: &Path, tell: &mut dyn FnMut(&str, &str)) -> Result<(), BackendError> {
    engine::describe(path, tell).map_err(|error| BackendError::Unsupported(error.to_string()))
}

/// Variables of workers: libtpu otherwise asks a cloud's metadata service for minutes and leaves files of logs in the temporary folder, and
/// XLA's log is worth its warnings alone.
pub const ENVIRONMENT: &[(&str, &str)] =
    &[("TPU_SKIP_MDS_QUERY", "1"), ("TPU_LOG_DIR", "disabled"), ("TF_CPP_MIN_LOG_LEVEL", "1")];

/// Variables of workers that only compile: libtpu otherwise lets one process of a host load it, whoever has chips or none.
const COMPILING: &[(&str, &str)] =
    &[ENVIRONMENT[0], ENVIRONMENT[1], ENVIRONMENT[2], ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")];

impl Backend for Xla {
    fn name(&self) -> &'static str {
        self.0.backend()
    }

    fn describe(&self) -> &'static str {
        match self.0 {
            Platform::Cpu => "XLA programs on the CPU (PJRT plugin)",
            Platform::Cuda => "XLA programs on NVIDIA GPUs (PJRT plugin)",
            Platform::Rocm => "XLA programs on AMD GPUs (PJRT plugin)",
            Platform::Oneapi => "XLA programs on Intel GPUs (PJRT plugin)",
            Platform::Tpu => "XLA programs on TPUs (libtpu)",
        }
    }

    fn availability(&self) -> Availability {
        match plugins::find(self.0).and_then(|plugin| Ok((device(self.0)?, plugin))) {
            Ok(((device, more), plugin)) => {
                let mut facts: BTreeMap<String, String> =
                    [("device".to_owned(), device.name.clone()), ("plugin".to_owned(), named(&plugin))].into();
                facts.extend(more);
                Availability::Ready { devices: vec![device], facts }
            }
            Err(skip) => Availability::Unavailable(skip),
        }
    }

    fn build(&self, _works: &[&Workload]) -> Option<String> {
        Some(built(&plugins::find(self.0).ok()?))
    }

    fn supports(&self, workload: &Workload) -> Result<(), Skip> {
        if workload.optional_text("compile_for").is_some() {
            return Err(Skip {
                reason: "a program that is compiled for other devices is not run".to_owned(),
                remedy: "give such benchmarks backends = [\"xla:compile\"]".to_owned(),
            });
        }
        if self.0 == Platform::Cpu {
            enough_cpus(workload)?;
        }
        // Their plugins take no choice of devices, and XLA places a program on the first ones that a client has.
        let chosen = match self.0 {
            Platform::Tpu => Some("TPU_VISIBLE_CHIPS"),
            Platform::Oneapi => Some("ONEAPI_DEVICE_SELECTOR"),
            Platform::Cpu | Platform::Cuda | Platform::Rocm => None,
        };
        if let (Some(variable), Ok(Some(1..))) = (chosen, workload.optional_size("device")) {
            return Err(Skip {
                reason: format!("{} runs programs on the first device it sees", self.name()),
                remedy: format!("leave out `device`, and choose with {variable} where regrade is started"),
            });
        }
        match workload.kind {
            WorkloadKind::Program => speaks(workload).and_then(|()| is_for(workload, self.0)),
            WorkloadKind::Command => Ok(()),
            WorkloadKind::Model => models::embedded(workload).map(|_| ()),
            WorkloadKind::Operator => operators::supports(workload),
            _ => Err(Skip {
                reason: format!("{} has no {} `{}`", self.name(), kind_word(workload.kind), workload.name),
                remedy: "write a `program`, or a `model` that was exported (`regrade list`)".to_owned(),
            }),
        }
    }

    fn on_nvidia_gpus(&self) -> bool {
        self.0 == Platform::Cuda
    }

    fn environment(&self) -> &'static [(&'static str, &'static str)] {
        ENVIRONMENT
    }

    fn thread_variables(&self) -> &'static [&'static str] {
        // It sizes the compiler's pool too: with one thread, BERT took ten times as long to compile for an H100.
        if self.0 == Platform::Cpu { &["NPROC"] } else { &[] }
    }

    fn load(&self, workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        let setup = Setup::of(self.0, workload, seed)?;
        let tuned = setup.tuning.as_ref().map(|tuning| tuning.prepare(tuning::elsewhere)).unwrap_or_default();
        let profile = workload.flag("device_time").unwrap_or(false);
        Ok(Box::new(Running::load(setup.open()?, setup.program, setup.options, tuned)?.profiled(profile)))
    }
}

/// What a workload runs and with what, before anything is connected.
struct Setup {
    platform: Platform,
    plugin: Plugin,
    program: Program,
    options: Options,
    tuning: Option<Tuning>,
    /// The first device, and how many.
    devices: (usize, usize),
}

impl Setup {
    fn of(platform: Platform, workload: &Workload, seed: u64) -> Result<Self, BackendError> {
        let plugin = found(platform)?;
        let program = program_of(workload, seed)?;
        let size = |name: &str, otherwise: usize| {
            Ok(workload.optional_size(name).map_err(BackendError::Unsupported)?.unwrap_or(otherwise))
        };
        let count = size("replicas", 1)?;
        let devices = (size("device", 0)?, count);
        let mut options = Options { replicas: u32::try_from(count).unwrap_or(1), ..options(workload, platform)? };
        let tuning = Tuning::of(workload, &plugin, &program);
        tuning.as_ref().map_or(Ok(()), |tuning| tuning.share(&mut options))?;
        Ok(Self { platform, plugin, program, options, tuning, devices })
    }

    fn open(&self) -> Result<Engine, BackendError> {
        let (first, count) = self.devices;
        Engine::open(self.platform, &self.plugin, first, count)
            .map_err(|error| loading(&format!("the plugin {}", self.plugin.path.display()), error))
    }
}

/// Lets the compiler tune the kernels of a workload's program, for the launches of the session; nothing where nothing is to be tuned.
///
/// # Errors
/// Where there is no such backend, or it does not compile.
pub fn tune(backend: &str, workload: &Workload, seed: u64) -> Result<(), BackendError> {
    let platform = Platform::ALL.into_iter().find(|platform| platform.backend() == backend);
    let platform = platform.ok_or_else(|| BackendError::Unsupported(format!("`{backend}` has nothing to tune")))?;
    let setup = Setup::of(platform, workload, seed)?;
    if setup.tuning.is_none() {
        return Ok(());
    }
    let engine = setup.open()?;
    let compiled = engine.client.compile(&setup.program.code, &setup.options);
    compiled.map(drop).map_err(|error| loading("compiling", error))
}

fn found(platform: Platform) -> Result<Plugin, BackendError> {
    plugins::find(platform).map_err(|skip| BackendError::Unsupported(format!("{}; {}", skip.reason, skip.remedy)))
}

impl Backend for Compile {
    fn name(&self) -> &'static str {
        "xla:compile"
    }

    fn describe(&self) -> &'static str {
        "XLA programs compiled for TPUs and H100s that are not here"
    }

    fn availability(&self) -> Availability {
        let found = compilers();
        if found.is_empty() {
            return Availability::Unavailable(Skip {
                reason: "there is no compiler for TPUs or NVIDIA GPUs here".to_owned(),
                remedy: "install one: `regrade backend install xla-tpu` or `xla-cuda12`; neither needs the device"
                    .to_owned(),
            });
        }
        let devices = found
            .iter()
            .map(|plugin| DeviceInfo {
                backend: self.name().to_owned(),
                name: format!("compiler for {}", plugin.platform.name()),
                facts: BTreeMap::new(),
            })
            .collect();
        Availability::Ready { devices, facts: BTreeMap::new() }
    }

    /// The compilers, and what else of a vendor takes part: of the devices that are compiled for, so that another that is installed
    /// makes no other testbed.
    fn toolkit(&self, works: &[&Workload]) -> BTreeMap<String, String> {
        let used = compilers_for(works);
        let ptxas = used.iter().any(|plugin| plugin.platform == Platform::Cuda).then(ahead::ptxas).flatten();
        let plugins = used.iter().map(|plugin| (format!("plugin.{}", plugin.platform.name()), named(plugin)));
        plugins.chain(ptxas.map(|version| ("ptxas".to_owned(), version))).collect()
    }

    fn build(&self, works: &[&Workload]) -> Option<String> {
        let all: Vec<String> = compilers_for(works).iter().map(built).collect();
        (!all.is_empty()).then(|| all.join(" and "))
    }

    fn supports(&self, workload: &Workload) -> Result<(), Skip> {
        let Some(word) = workload.optional_text("compile_for") else {
            return Err(Skip {
                reason: "it does not say which devices to compile for".to_owned(),
                remedy: "give it a `program` with `compile_for`, such as \"v5e:2x2\" or \"h100\"".to_owned(),
            });
        };
        speaks(workload)?;
        let target =
            Target::named(word).map_err(|reason| Skip { reason, remedy: "correct `compile_for`".to_owned() })?;
        let flags = workload.optional_text("xla_flags").unwrap_or_default();
        if target.platform == Platform::Cuda && !flags.contains(ahead::TOOLKIT_FLAG) && ahead::toolkit().is_none() {
            return Err(Skip {
                reason: "compiling for NVIDIA GPUs needs CUDA's ptxas and libdevice".to_owned(),
                remedy: "install CUDA's toolkit and set CUDA_HOME, or `pip install nvidia-cuda-nvcc-cu12` into the active Python".to_owned(),
            });
        }
        is_for(workload, target.platform)?;
        plugins::find(target.platform).map(|_| ())
    }

    fn environment(&self) -> &'static [(&'static str, &'static str)] {
        COMPILING
    }

    fn load(&self, workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        let word = workload.text("compile_for").map_err(BackendError::Unsupported)?;
        let target = Target::named(word).map_err(BackendError::Unsupported)?;
        let plugin = found(target.platform)?;
        let options = options(workload, target.platform)?;
        Ok(Box::new(Ahead::load(&plugin, &target, program_of(workload, seed)?, options)?))
    }
}

/// Plugins that compile for devices that are not here.
fn compilers() -> Vec<Plugin> {
    [Platform::Tpu, Platform::Cuda].into_iter().filter_map(|platform| plugins::find(platform).ok()).collect()
}

/// Those that do this work.
fn compilers_for(works: &[&Workload]) -> Vec<Plugin> {
    let wanted = |platform| {
        let targets = works.iter().filter_map(|work| Target::named(work.optional_text("compile_for")?).ok());
        targets.map(|target| target.platform).any(|target| target == platform)
    };
    compilers().into_iter().filter(|plugin| wanted(plugin.platform)).collect()
}

const fn kind_word(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Model => "model",
        WorkloadKind::Operator => "operator",
        WorkloadKind::Command => "command",
        WorkloadKind::Kernel => "kernel",
        WorkloadKind::Reference => "reference workload",
        WorkloadKind::Program => "program",
    }
}

/// A plugin as a fact of the testbed: its package with the version, or its file where that is all there is.
///
/// Its hash is no such fact. A package of another version was chosen, and its runs start a history of their own. A hash is another for
/// every build, and builds of the same name are what people who make plugins compare: were each a testbed, none would ever have a
/// base. So builds compare, and the report says that they differ ([`built`], and the evidence of each launch).
fn named(plugin: &Plugin) -> String {
    plugin.name()
}

/// A plugin with the beginning of its hash, for people; the whole of it is evidence of each launch.
fn built(plugin: &Plugin) -> String {
    const DIGITS: usize = 12;
    let hash = plugin.sha256().map_or_else(|| "cannot be read".to_owned(), |hash| hash[..DIGITS].to_owned());
    format!("{} (SHA-256 {hash})", plugin.name())
}

/// The first device of a kind and its stable facts, as far as can be told without the plugin.
fn device(platform: Platform) -> Result<(DeviceInfo, BTreeMap<String, String>), Skip> {
    let skip = |absent: hardware::Absent| Skip { reason: absent.reason, remedy: absent.remedy };
    let named = |name, facts| DeviceInfo { backend: platform.backend().to_owned(), name, facts };
    let bare = |name| (named(name, BTreeMap::new()), BTreeMap::new());
    Ok(match platform {
        Platform::Cuda => {
            let gpus = hardware::gpus().map_err(skip)?;
            let gpu = &gpus[0];
            let (major, minor) = gpu.compute_capability;
            let facts = [
                ("compute_capability".to_owned(), (f64::from(major) + f64::from(minor) / 10.0).into()),
                ("memory_bytes".to_owned(), gpu.memory.into()),
            ];
            (named(gpu.name.clone(), facts.into()), gpu.facts())
        }
        Platform::Cpu => {
            let model = hardware::stable_facts().get("cpu.model").cloned();
            bare(model.unwrap_or_else(|| "CPU".to_owned()))
        }
        Platform::Tpu => bare(tpu::detect().map_err(skip)?.describe()),
        // Nothing tells without the plugin; where there is none, launches fail with the plugin's own words.
        Platform::Rocm | Platform::Oneapi => bare(platform.name().to_owned()),
    })
}

/// Options of a compilation from a workload's parameters.
fn options(workload: &Workload, platform: Platform) -> Result<Options, BackendError> {
    let words = workload.optional_text("xla_flags").unwrap_or_default();
    let mut flags = Options::flags_of(words).map_err(|error| BackendError::Unsupported(error.to_string()))?;
    // One thread is one thread: the pool that NPROC sizes still has a helper.
    if platform == Platform::Cpu && workload.size("threads") == Ok(1) && !words.contains("xla_cpu_multi_thread_eigen") {
        flags.push(("xla_cpu_multi_thread_eigen".to_owned(), pjrt::Flag::Bool(false)));
    }
    Ok(Options { flags, ..Options::default() })
}

/// What a workload runs.
fn program_of(workload: &Workload, seed: u64) -> Result<Program, BackendError> {
    if workload.kind == WorkloadKind::Operator {
        return operators::program(workload, seed).map_err(BackendError::Unsupported);
    }
    if workload.kind == WorkloadKind::Model {
        let files = models::embedded(workload).map_err(|skip| BackendError::Unsupported(skip.reason))?;
        return Program::of(files.program.to_vec(), files.manifest.as_bytes()).map_err(BackendError::Unsupported);
    }
    let path = Program::found(workload.text("program").map_err(BackendError::Unsupported)?);
    Program::read(&path).map_err(|error| BackendError::Unsupported(error.to_string()))
}

/// Refuses a program in another language than plugins are given.
fn speaks(workload: &Workload) -> Result<(), Skip> {
    match workload.optional_text("program") {
        Some(file) if Language::of(file) != Language::StableHlo => Err(Skip {
            reason: format!("`{file}` is HLO, and plugins are given StableHLO"),
            remedy: "export it as StableHLO (suites/models/README.md), or build regrade with the feature `xla-crate` and write \
                     backends = [\"xla-crate:cpu\"] (docs/xla.md)"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Refuses a program that is for other devices, as far as its manifest can be read: what is wrong with it is told when it runs.
fn is_for(workload: &Workload, platform: Platform) -> Result<(), Skip> {
    let file = workload.optional_text("program").map(Program::found);
    let Some(manifest) = file.and_then(|file| Manifest::beside(&file).ok()) else { return Ok(()) };
    let platforms = &manifest.platforms;
    if platforms.is_empty() || platforms.iter().any(|name| name == platform.name()) {
        return Ok(());
    }
    Err(Skip {
        reason: format!("program `{}` is for {} only", manifest.name, platforms.join(", ")),
        remedy: "give such benchmarks the `backends` that it is for, or export it for others too".to_owned(),
    })
}

/// An error of a plugin as the port's.
fn loading(context: &str, error: PjrtError) -> BackendError {
    match error {
        error if error.is_out_of_memory() => BackendError::OutOfMemory(error.to_string()),
        error => BackendError::Engine { context: context.to_owned(), source: Box::new(error) },
    }
}

/// A failed iteration as the measuring side's.
fn failed(error: PjrtError) -> SubjectError {
    let context = "running the program".to_owned();
    match error {
        error if error.is_out_of_memory() => SubjectError::out_of_memory(context, error),
        error => SubjectError { context, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ParamValue;

    fn program(params: &[(&str, ParamValue)]) -> Workload {
        Workload {
            kind: WorkloadKind::Program,
            name: "program".to_owned(),
            params: params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            command: Vec::new(),
            kernel: None,
        }
    }

    #[test]
    fn another_device_than_the_first_is_skipped_where_a_plugin_takes_no_choice() {
        let on = |platform, device| Xla(platform).supports(&program(&[("device", ParamValue::Int(device))]));
        for (platform, variable) in [(Platform::Tpu, "TPU_VISIBLE_CHIPS"), (Platform::Oneapi, "ONEAPI_DEVICE_SELECTOR")]
        {
            assert_eq!(on(platform, 0), Ok(()));
            assert!(on(platform, 1).expect_err("the second").remedy.contains(variable), "{platform:?}");
        }
        for platform in [Platform::Cuda, Platform::Rocm] {
            assert_eq!(on(platform, 1), Ok(()));
        }
    }

    #[test]
    fn compilers_of_other_devices_than_the_work_s_make_no_testbed() {
        let h100 = program(&[("compile_for", ParamValue::Text("h100".to_owned()))]);
        let tpu = program(&[("compile_for", ParamValue::Text("v5e:2x2".to_owned()))]);
        let all: BTreeMap<String, String> = Compile.toolkit(&[&tpu, &h100]);
        let of = |work| Compile.toolkit(&[work]);
        assert!(Compile.toolkit(&[]).is_empty());
        // Whatever is installed here.
        assert!(of(&tpu).keys().all(|name| name == "plugin.tpu"));
        assert!(of(&h100).keys().all(|name| name == "plugin.cuda" || name == "ptxas"));
        assert_eq!(of(&tpu).into_iter().chain(of(&h100)).collect::<BTreeMap<_, _>>(), all);
    }
}
