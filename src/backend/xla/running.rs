//! A program on devices, as the port wants it: compiled, filled, timed, watched, checked.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::backend::program::{Element, Program};
use crate::backend::xla::engine::Engine;
use crate::backend::xla::pjrt::{
    Buffer, Compiled, Device, Event, Executable, Options, PjrtError, Result, Value, offered,
};
use crate::backend::xla::plugins::{self, Platform};
use crate::backend::xla::tuning::Tuned;
use crate::backend::xla::{failed, loading};
use crate::backend::xla::{runtime, trace, tuning};
use crate::backend::{BackendError, Ceiling, Counted, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo, Evidence, Metric};
use crate::hardware::tpu::Version;
use crate::hardware::watched::{ASK_EVERY, Watched};
use crate::hardware::{Probe, peaks};
use crate::measure::{self, Reading, Subject, SubjectError};

/// Bytes of the array whose transfers are timed, and how often.
const TRANSFER: (usize, usize) = (64 << 20, 5);

/// Seconds of steps that are profiled.
const PROFILED_S: f64 = 0.02;

/// A program, ready to be timed.
#[derive(Debug)]
pub struct Running {
    // Buffers and programs go before the engine that they live in.
    /// Arguments of each device.
    arguments: Vec<Vec<Buffer>>,
    executable: Executable,
    program: Program,
    options: Options,
    engine: Engine,
    compile_s: f64,
    compile_cpu_s: Option<f64>,
    first_step_s: f64,
    costs: BTreeMap<String, f64>,
    watched: Option<Watched>,
    tuned: Tuned,
    profile: bool,
    /// What is not known beside the time, by its name in the evidence, and why.
    absent: BTreeMap<&'static str, String>,
    /// What a TPU's library told after measuring, or why nothing.
    told: Option<std::result::Result<BTreeMap<String, Json>, String>>,
    asked: Instant,
}

impl Running {
    /// Compiles, fills the arguments and runs once. `tuned` went before.
    ///
    /// # Errors
    /// When the plugin refuses any of it.
    pub fn load(
        engine: Engine,
        program: Program,
        options: Options,
        tuned: Tuned,
    ) -> std::result::Result<Self, BackendError> {
        // Before anything runs here: what is on the device now belongs to others.
        let watched = (engine.platform == Platform::Cuda).then(|| {
            let ordinal = engine.devices[0].local_id().unwrap_or(0);
            Watched::new(ordinal, u32::try_from(ordinal).ok().and_then(Probe::nth))
        });
        let (executable, compile_s, compile_cpu_s) = compile(|| engine.client.compile(&program.code, &options))?;
        let outputs = executable.outputs().map_err(|error| loading("compiling", error))?;
        let declared = program.manifest.outputs.len();
        if declared != 0 && outputs != declared {
            let what = format!("the program has {outputs} results, and its manifest {declared}");
            return Err(BackendError::Unsupported(what));
        }
        let arguments = fill(&engine.devices, &program).map_err(|error| loading("filling the arguments", error))?;
        let costs = costs(&executable).map_err(|error| loading("asking what the program costs", error))?;
        let mut running = Self {
            arguments,
            executable,
            program,
            options,
            engine,
            compile_s,
            compile_cpu_s,
            first_step_s: 0.0,
            costs,
            watched,
            tuned,
            profile: false,
            absent: BTreeMap::new(),
            told: None,
            asked: Instant::now(),
        };
        let start = Instant::now();
        running.steps(1).map_err(|error| loading("the first run", error))?;
        running.first_step_s = start.elapsed().as_secs_f64();
        Ok(running)
    }

    /// The same, with the device's own time asked of the profiler after measuring.
    #[must_use]
    pub fn profiled(mut self, profile: bool) -> Self {
        self.profile = profile;
        self
    }

    /// Starts so many runs one behind the other and waits for all of them; what is carried over is the next run's arguments.
    fn steps(&mut self, count: u64) -> Result<()> {
        let mut pending: Vec<Event> = Vec::new();
        for _ in 0..count {
            let (_, events) = self.step()?;
            pending.extend(events);
        }
        pending.iter().try_for_each(Event::wait)
    }

    /// Starts one run. Results that are not carried over are returned.
    fn step(&mut self) -> Result<(Vec<Vec<Buffer>>, Vec<Event>)> {
        let carry = self.program.manifest.carry;
        let lists: Vec<Vec<&Buffer>> = self.arguments.iter().map(|list| list.iter().collect()).collect();
        let (mut results, events) = self.executable.launch(&lists, carry)?;
        for (list, results) in self.arguments.iter_mut().zip(&mut results) {
            for (place, result) in results.drain(..carry.min(results.len())).enumerate() {
                list[place] = result;
            }
        }
        Ok((results, events))
    }

    /// What a step costs on one device by the manifest, or by the compiler.
    fn flops(&self) -> Option<f64> {
        self.program.manifest.flops.or_else(|| self.costs.get("flops").copied())
    }

    fn look(&mut self) -> Option<String> {
        let watched = self.watched.as_mut()?;
        if self.asked.elapsed() < ASK_EVERY {
            return None;
        }
        self.asked = Instant::now();
        watched.look().map(|reason| format!("the GPU's clocks were held down: {reason}"))
    }

    /// Time to load the compiled program from its serialised form, which is what a cache saves; absent where it has none.
    fn reload(&self) -> Result<Option<f64>> {
        let Some(bytes) = offered(self.executable.serialize())? else { return Ok(None) };
        let start = Instant::now();
        let restored = offered(self.engine.client.restore(&bytes))?;
        Ok(restored.map(|_| start.elapsed().as_secs_f64()))
    }

    /// Bytes a second to the device and back: the fastest of some transfers.
    fn transfers(&self) -> Result<[f64; 2]> {
        let (bytes, times) = TRANSFER;
        let values = vec![0_u8; bytes];
        let shape = [(bytes / Element::F32.bytes()) as i64];
        let mut best = [f64::INFINITY; 2];
        for _ in 0..times {
            let start = Instant::now();
            let buffer = self.engine.devices[0].upload(Element::F32, &shape, &values)?;
            buffer.wait()?;
            best[0] = best[0].min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            buffer.download()?;
            best[1] = best[1].min(start.elapsed().as_secs_f64());
        }
        Ok(best.map(|seconds| bytes as f64 / seconds))
    }

    /// Time in which the device worked on one step.
    fn device_time(&mut self, latency_s: f64) -> std::result::Result<f64, String> {
        let steps = (PROFILED_S / latency_s).ceil().clamp(3.0, 1000.0);
        let client = self.engine.client.clone();
        let trace = client.profiled(|| self.steps(steps as u64)).map_err(|error| error.to_string())?;
        trace::busy_s(&trace).map(|seconds| seconds / steps)
    }

    /// What is known beside the time. A part that the plugin fails at is absent with its reason: the work was measured all the same.
    fn beside(&mut self) -> Vec<(&'static str, f64)> {
        let mut values = vec![(Metric::COMPILE_TIME, self.compile_s), (Metric::FIRST_STEP_TIME, self.first_step_s)];
        values.extend(self.compile_cpu_s.map(|seconds| (Metric::COMPILE_CPU_TIME, seconds)));
        let one = |name, value: Option<f64>| value.map(|value| (name, value)).into_iter().collect::<Vec<_>>();
        let parts = [
            ("no_reload_time", self.reload().map(|seconds| one(Metric::RELOAD_TIME, seconds))),
            (
                "no_device_memory",
                self.engine.peak_memory().map(|bytes| one(Metric::DEVICE_MEMORY, bytes.map(|bytes| bytes as f64))),
            ),
            ("no_description", described(&self.executable, &self.costs)),
            (
                "no_transfer_rates",
                self.transfers().map(|[up, down]| vec![(Metric::UPLOAD_RATE, up), (Metric::DOWNLOAD_RATE, down)]),
            ),
        ];
        for (name, part) in parts {
            match part {
                Ok(more) => values.extend(more),
                Err(error) => drop(self.absent.insert(name, error.to_string())),
            }
        }
        values
    }

    /// Runs once from the arguments as they were in the beginning, and compares.
    fn compare(&mut self) -> Result<Vec<Check>> {
        // Fresh arguments do not fit beside the old ones everywhere.
        self.arguments.clear();
        self.arguments = fill(&self.engine.devices, &self.program)?;
        let lists: Vec<Vec<&Buffer>> = self.arguments.iter().map(|list| list.iter().collect()).collect();
        let (results, events) = self.executable.launch(&lists, self.program.manifest.carry)?;
        events.iter().try_for_each(Event::wait)?;
        let mut checks = Vec::new();
        for (device, results) in results.iter().enumerate() {
            for (number, result) in results.iter().enumerate() {
                self.program.is_of(number, result.element()?, &result.shape()?).map_err(PjrtError::Argument)?;
            }
            let values = results.iter().map(Buffer::download).collect::<Result<Vec<_>>>()?;
            for mut check in self.program.check(&values) {
                if device > 0 {
                    check.name = format!("{} on device {device}", check.name);
                }
                checks.push(check);
            }
        }
        Ok(checks)
    }
}

/// Compiles; the result, wall seconds and this process's CPU seconds.
pub fn compile<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<(T, f64, Option<f64>), BackendError> {
    let (compiled, reading) = measure::clocked(work);
    compiled.map(|compiled| (compiled, reading.wall_s, reading.cpu_s)).map_err(|error| loading("compiling", error))
}

/// Arguments of each device from the manifest.
fn fill(devices: &[Device], program: &Program) -> Result<Vec<Vec<Buffer>>> {
    let mut arguments: Vec<Vec<Buffer>> = devices.iter().map(|_| Vec::new()).collect();
    for (place, input) in program.manifest.inputs.iter().enumerate() {
        let values = input.values(program.manifest.seed, place);
        for (device, list) in devices.iter().zip(&mut arguments) {
            list.push(device.upload(input.element(), &input.shape, &values)?);
        }
    }
    // Transfers may go on behind the call; none may reach into the first run.
    arguments.iter().flatten().try_for_each(Buffer::wait)?;
    Ok(arguments)
}

/// The compiler's counts by XLA's names, where it offers any.
pub fn costs(compiled: &Compiled) -> Result<BTreeMap<String, f64>> {
    let costs = offered(compiled.costs())?.unwrap_or_default();
    let numbers = costs.into_iter().filter_map(|(name, value): (String, Value)| Some((name, value.number()?)));
    Ok(numbers.filter(|(_, value)| value.is_finite() && *value > 0.0).collect())
}

/// What a compiled program says of itself, as metrics.
pub fn described(compiled: &Compiled, costs: &BTreeMap<String, f64>) -> Result<Vec<(&'static str, f64)>> {
    let mut values = Vec::new();
    // Zero where the compiler does not count.
    values.extend(
        offered(compiled.code_size())?.filter(|bytes| *bytes > 0).map(|bytes| (Metric::CODE_SIZE, bytes as f64)),
    );
    if let Some(memory) = offered(compiled.memory())? {
        values.push((Metric::PROGRAM_MEMORY, memory.total() as f64));
        values.push((Metric::TEMPORARY_MEMORY, memory.temporary as f64));
    }
    values.extend(costs.get("flops").map(|flops| (Metric::COMPILED_FLOPS, *flops)));
    values.extend(costs.get("bytes accessed").map(|bytes| (Metric::COMPILED_BYTES, *bytes)));
    Ok(values)
}

impl Subject for Running {
    fn run(&mut self, iterations: u64) -> std::result::Result<(), SubjectError> {
        self.steps(iterations).map_err(failed)
    }

    fn time(&mut self, iterations: u64) -> std::result::Result<Reading, SubjectError> {
        let mut reading = measure::host_time(|| self.steps(iterations).map_err(failed))?;
        reading.disturbed = self.look();
        Ok(reading)
    }
}

impl Prepared for Running {
    fn device(&self) -> DeviceInfo {
        let mut facts = self.engine.facts.clone();
        facts.insert("program".to_owned(), json!(self.program.manifest.name));
        facts.insert("program_sha256".to_owned(), json!(self.program.manifest.sha256));
        facts.insert("program_made_with".to_owned(), json!(self.program.manifest.made_with));
        // The session's folder of results has another name each time.
        let flags: Vec<_> = self.options.flags.iter().filter(|(name, _)| name != tuning::FLAG).collect();
        if !flags.is_empty() {
            facts.insert("xla_flags".to_owned(), json!(format!("{flags:?}")));
        }
        DeviceInfo { backend: self.engine.platform.backend().to_owned(), name: self.engine.kind.clone(), facts }
    }

    fn counts(&self) -> WorkCounts {
        let devices = self.engine.devices.len();
        WorkCounts { flops: self.flops().map(|flops| flops * devices as f64), ..self.program.counts(devices) }
    }

    fn once_s(&self) -> f64 {
        self.tuned.spent_s
    }

    fn ceilings(&mut self) -> std::result::Result<Vec<Ceiling>, BackendError> {
        let devices = self.engine.devices.len() as f64;
        // What the compiler counted may be no products of matrices, which alone the peaks are about.
        let precision = self.program.manifest.flops.map(|_| self.program.manifest.precision.as_str());
        // Not hard: a compiler may find that less need be done than the manifest says.
        let ceiling = |metric, of, rate: f64| Ceiling { metric, of, rate, hard: false };
        if let Some(version) = Version::of_kind(&self.engine.kind) {
            let chip = version.chip();
            // A device of PJRT may be half a chip.
            let told = self.engine.facts.get("device.num_cores").and_then(|cores| cores.as_str()?.parse::<f64>().ok());
            let Some(share) = told.map(|cores| cores / f64::from(chip.cores) * devices) else { return Ok(Vec::new()) };
            let flops = chip.bf16.filter(|_| precision == Some("bf16"));
            let flops = flops.map(|rate| ceiling(Metric::FLOPS_UTILIZATION, Counted::Flops, rate * 1e12 * share));
            let bytes = ceiling(Metric::HBM_UTILIZATION, Counted::Bytes, chip.bandwidth * 1e9 * share);
            return Ok(flops.into_iter().chain([bytes]).collect());
        }
        let gpu = self.watched.as_ref().and_then(|watched| watched.probe.as_ref()).and_then(Probe::gpu);
        let Some(peaks) = gpu.as_ref().and_then(peaks::of) else { return Ok(Vec::new()) };
        let flops = match precision {
            Some("bf16" | "f16") => Some(peaks.bf16),
            Some("f32") => Some(peaks.fp32),
            _ => None,
        };
        let flops = flops.map(|rate| ceiling(Metric::FLOPS_UTILIZATION, Counted::Flops, rate * 1e12 * devices));
        // Steps run on the same buffers: what fits in the cache is not bounded by memory.
        let bytes = peaks
            .beyond_cache(self.program.bytes())
            .then(|| ceiling(Metric::HBM_UTILIZATION, Counted::Bytes, peaks.bandwidth * 1e9 * devices));
        Ok(flops.into_iter().chain(bytes).collect())
    }

    fn values(&mut self, latency_s: f64) -> std::result::Result<Vec<(&'static str, f64)>, BackendError> {
        // At once: how busy a chip was is soon forgotten.
        self.told = (self.engine.platform == Platform::Tpu).then(runtime::facts);
        let mut values = self.beside();
        // Last: a profiler may slow down what comes after it.
        if self.profile {
            match self.device_time(latency_s) {
                Ok(seconds) => values.push((Metric::DEVICE_TIME, seconds)),
                Err(reason) => drop(self.absent.insert("no_device_time", reason)),
            }
        }
        Ok(values)
    }

    fn evidence(&mut self) -> Vec<Evidence> {
        let watched =
            self.watched.as_ref().map(|watched| Evidence { source: Evidence::GPU.to_owned(), facts: watched.facts() });
        let mut facts = BTreeMap::new();
        if self.tuned.spent_s > 0.0 {
            facts.insert(Evidence::ONCE_S.to_owned(), json!(self.tuned.spent_s));
        }
        if let Some(reason) = &self.tuned.failed {
            facts.insert("not_tuned".to_owned(), json!(reason));
        }
        facts.extend(self.absent.iter().map(|(name, reason)| ((*name).to_owned(), json!(reason))));
        marks(&self.executable, &self.engine.plugin, &mut facts);
        let told = self.told.clone().map(|told| {
            let facts = told.unwrap_or_else(|reason| [("no_metrics".to_owned(), json!(reason))].into());
            Evidence { source: "libtpu".to_owned(), facts }
        });
        watched.into_iter().chain(told).chain([Evidence { source: Evidence::XLA.to_owned(), facts }]).collect()
    }

    fn check(&mut self) -> std::result::Result<Vec<Check>, BackendError> {
        self.compare().map_err(|error| loading("running once more", error))
    }
}

/// What tells whether it is the same plugin as before, and whether it made the same of a program. The session has hashed the plugin
/// already; where it could keep no hash, this does, after the measurement.
pub fn marks(compiled: &Compiled, plugin: &plugins::Plugin, facts: &mut BTreeMap<String, serde_json::Value>) {
    if let Some(hash) = plugin.sha256() {
        facts.insert("plugin_sha256".to_owned(), json!(hash));
    }
    if let Ok(fingerprint) = compiled.fingerprint() {
        facts.insert("fingerprint".to_owned(), json!(fingerprint));
    }
}
