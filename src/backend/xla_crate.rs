//! HLO programs through the crate `xla`, a second engine: XLA's C++ (`xla_extension`) linked into this binary instead of a plugin
//! that is loaded. A build with the feature `xla-crate` alone has it.
//!
//! What is said here of the crate and the C++ behind it was read in its sources: nobody has linked or run this file. Must not
//! know plugins, which are the other adapter's.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value as Json, json};
use xla_rs::{ElementType, Error, HloModuleProto, PjRtBuffer, PjRtClient, PjRtLoadedExecutable, XlaComputation};

use crate::backend::program::{Element, Language, Program};
use crate::backend::{Availability, Backend, BackendError, Prepared, WorkCounts, enough_cpus};
use crate::domain::{Check, DeviceInfo, Metric, Skip, Workload, WorkloadKind};
use crate::hardware;
use crate::measure::{self, Subject, SubjectError};

/// Name of the backend in suites.
const NAME: &str = "xla-crate:cpu";
/// The engine as facts name it; `tests/structure.rs` holds it against the lock file.
const ENGINE: &str = "xla 0.5.4";
/// The process-wide flags of the linked XLA, which has none for one compilation.
const FLAGS: &str = "XLA_FLAGS";

/// HLO programs on the host's processors.
#[derive(Debug)]
pub struct XlaCrate;

impl Backend for XlaCrate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn describe(&self) -> &'static str {
        "HLO programs on the CPU (crate `xla`)"
    }

    /// It is linked, so where this process runs it is there.
    fn availability(&self) -> Availability {
        let model = hardware::stable_facts().get("cpu.model").cloned().unwrap_or_else(|| "CPU".to_owned());
        let facts = [("device".to_owned(), model.clone()), ("engine".to_owned(), ENGINE.to_owned())];
        let device = DeviceInfo { backend: NAME.to_owned(), name: model, facts: BTreeMap::new() };
        Availability::Ready { devices: vec![device], facts: facts.into() }
    }

    fn supports(&self, workload: &Workload) -> Result<(), Skip> {
        enough_cpus(workload)?;
        let skip = |reason: String, remedy: &str| Err(Skip { reason, remedy: remedy.to_owned() });
        match workload.kind {
            WorkloadKind::Command => return Ok(()),
            WorkloadKind::Program => {}
            _ => return skip(format!("{NAME} runs programs only"), "write a `program` (docs/xla.md)"),
        }
        let file = workload.optional_text("program").unwrap_or_default();
        if Language::of(file) == Language::StableHlo {
            return skip(
                format!("`{file}` is no HLO, and the crate `xla` reads nothing else"),
                "give it a `.hlo.txt` or a `.hlo.pb`; StableHLO runs with backends = [\"xla:cpu\"]",
            );
        }
        if workload.optional_text("compile_for").is_some() {
            return skip(
                "the crate `xla` compiles for devices that are here".to_owned(),
                "export it as StableHLO and write backends = [\"xla:compile\"]",
            );
        }
        // Its compilations take no options.
        if workload.optional_text("xla_flags").is_some() {
            return skip(
                "the crate `xla` takes no flags for one compilation".to_owned(),
                "remove `xla_flags`, and set XLA_FLAGS where regrade is started",
            );
        }
        let size = |name| workload.optional_size(name).ok().flatten();
        if size("replicas").is_some_and(|count| count > 1) || size("device").is_some_and(|first| first > 0) {
            return skip(format!("{NAME} has one device"), "remove `replicas` and `device`");
        }
        Ok(())
    }

    fn environment(&self) -> &'static [(&'static str, &'static str)] {
        // XLA's log is worth its warnings alone.
        &[("TF_CPP_MIN_LOG_LEVEL", "1")]
    }

    fn thread_variables(&self) -> &'static [&'static str] {
        // It sizes XLA's pools.
        &["NPROC"]
    }

    fn load(&self, workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        let word = workload.text("program").map_err(BackendError::Unsupported)?;
        let program =
            Program::read(&Program::found(word)).map_err(|error| BackendError::Unsupported(error.to_string()))?;
        let platforms = &program.manifest.platforms;
        if !platforms.is_empty() && !platforms.iter().any(|name| name == "cpu") {
            let what = format!("program `{}` is for {} only", program.manifest.name, platforms.join(", "));
            return Err(BackendError::Unsupported(what));
        }
        Ok(Box::new(Loaded::load(program, Language::of(word))?))
    }
}

/// A program, ready to be timed.
struct Loaded {
    // Buffers and programs hold their client, and go in any order.
    arguments: Vec<PjRtBuffer>,
    executable: PjRtLoadedExecutable,
    program: Program,
    client: PjRtClient,
    compile_s: f64,
    compile_cpu_s: Option<f64>,
    first_step_s: f64,
}

impl Loaded {
    fn load(program: Program, language: Language) -> Result<Self, BackendError> {
        let client = PjRtClient::cpu().map_err(|error| loading("making XLA's client", &error))?;
        let module = match language {
            Language::HloProto => HloModuleProto::parse_proto(&program.code, true),
            Language::HloText | Language::StableHlo => {
                HloModuleProto::parse_and_return_unverified_module(&program.code)
            }
        };
        let computation =
            XlaComputation::from_proto(&module.map_err(|error| loading("reading the program as HLO", &error))?);
        let (executable, reading) = measure::clocked(|| client.compile(&computation));
        let executable = executable.map_err(|error| loading("compiling", &error))?;
        let arguments = fill(&client, &program).map_err(|error| loading("filling the arguments", &error))?;
        let mut loaded = Self {
            arguments,
            executable,
            program,
            client,
            compile_s: reading.wall_s,
            compile_cpu_s: reading.cpu_s,
            first_step_s: 0.0,
        };
        let start = Instant::now();
        let results = loaded.run_once().map_err(|error| loading("the first run", &error))?;
        loaded.first_step_s = start.elapsed().as_secs_f64();
        let (outputs, declared) = (results.len(), loaded.program.manifest.outputs.len());
        if declared != 0 && outputs != declared {
            let what = format!("the program has {outputs} results, and its manifest {declared}");
            return Err(BackendError::Unsupported(what));
        }
        loaded.carry(results);
        Ok(loaded)
    }

    /// The results of one run: those of the one device, a tuple taken apart. The crate makes its CPU client synchronous, so they are
    /// there when the call returns.
    fn run_once(&self) -> Result<Vec<PjRtBuffer>, Error> {
        Ok(self.executable.execute_b(&self.arguments)?.into_iter().next().unwrap_or_default())
    }

    /// The first results are the next run's first arguments, as many as the manifest says.
    fn carry(&mut self, results: Vec<PjRtBuffer>) {
        let places = self.arguments.iter_mut().take(self.program.manifest.carry);
        for (argument, result) in places.zip(results) {
            *argument = result;
        }
    }

    /// Runs once from the arguments as they were in the beginning, and compares.
    fn compare(&mut self) -> Result<Vec<Check>, Error> {
        // Fresh arguments do not fit beside the old ones everywhere.
        self.arguments.clear();
        self.arguments = fill(&self.client, &self.program)?;
        let values = self.run_once()?.iter().map(download).collect::<Result<Vec<_>, Error>>()?;
        Ok(self.program.check(&values))
    }
}

/// Arguments from the manifest.
fn fill(client: &PjRtClient, program: &Program) -> Result<Vec<PjRtBuffer>, Error> {
    let inputs = program.manifest.inputs.iter().enumerate();
    inputs
        .map(|(place, input)| {
            // Sizes are not negative in a manifest that was read.
            let sizes: Vec<usize> = input.shape.iter().map(|size| *size as usize).collect();
            let values = input.values(program.manifest.seed, place);
            client.buffer_from_host_raw_bytes(element(input.element()), &values, &sizes, None)
        })
        .collect()
}

/// A result as dense bytes; it waits for them.
fn download(buffer: &PjRtBuffer) -> Result<Vec<u8>, Error> {
    let literal = buffer.to_literal_sync()?;
    let mut bytes = vec![0; literal.size_bytes()];
    literal.copy_untyped_to(&mut bytes)?;
    Ok(bytes)
}

const fn element(element: Element) -> ElementType {
    match element {
        Element::F32 => ElementType::F32,
        Element::Bf16 => ElementType::Bf16,
        Element::F16 => ElementType::F16,
        Element::F64 => ElementType::F64,
        Element::I32 => ElementType::S32,
    }
}

impl Subject for Loaded {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        for _ in 0..iterations {
            let results = self.run_once().map_err(|error| SubjectError {
                context: "running the program".to_owned(),
                source: words(&error).into(),
            })?;
            self.carry(results);
        }
        Ok(())
    }
}

impl Prepared for Loaded {
    fn device(&self) -> DeviceInfo {
        let mut facts: BTreeMap<String, Json> = [
            ("engine".to_owned(), json!(ENGINE)),
            ("platform".to_owned(), json!(self.client.platform_name())),
            ("platform_version".to_owned(), json!(self.client.platform_version())),
            ("program".to_owned(), json!(self.program.manifest.name)),
            ("program_sha256".to_owned(), json!(self.program.manifest.sha256)),
            ("program_made_with".to_owned(), json!(self.program.manifest.made_with)),
        ]
        .into();
        if let Ok(flags) = std::env::var(FLAGS) {
            facts.insert("xla_flags".to_owned(), json!(flags));
        }
        let model = hardware::stable_facts().get("cpu.model").cloned();
        DeviceInfo { backend: NAME.to_owned(), name: model.unwrap_or_else(|| "CPU".to_owned()), facts }
    }

    fn counts(&self) -> WorkCounts {
        self.program.counts(1)
    }

    fn values(&mut self, _latency_s: f64) -> Result<Vec<(&'static str, f64)>, BackendError> {
        let mut values = vec![(Metric::COMPILE_TIME, self.compile_s), (Metric::FIRST_STEP_TIME, self.first_step_s)];
        values.extend(self.compile_cpu_s.map(|seconds| (Metric::COMPILE_CPU_TIME, seconds)));
        Ok(values)
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        self.compare().map_err(|error| loading("running once more", &error))
    }
}

/// An error of the crate as the port's.
fn loading(context: &str, error: &Error) -> BackendError {
    let words = words(error);
    // The crate passes absl's status on as its text alone.
    if words.contains("RESOURCE_EXHAUSTED") {
        return BackendError::OutOfMemory(words);
    }
    BackendError::Engine { context: context.to_owned(), source: words.into() }
}

/// The crate's words without its backtrace of Rust's side.
fn words(error: &Error) -> String {
    match error {
        Error::XlaError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
