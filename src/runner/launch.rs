//! One launch: starts the worker or the user's command, bounds it, and turns what it said, or how it died, into a
//! [`Launch`].

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;

use crate::backend::{self, Backend};
use crate::domain::{
    Case, Check, Direction, Evidence, Launch, LaunchId, Metric, MetricKind, Outcome, OutcomeKind, Samples, Value,
    WorkloadKind,
};
use crate::hardware::Watch;
use crate::protocol::{
    Message, OUTPUT_VARIABLE, REQUEST_VARIABLE, ReadError, Reading, Request, SESSION_VARIABLE, VERSION, read_messages,
};
use crate::runner::process::{self, Ended, Finished, Limits};
use crate::runner::{RunnerError, Settings, clocks, cost, words};

/// Variables by which engines and BLAS libraries size their thread pools: set to the case's thread count, so that it
/// is never a library's guess.
const THREAD_VARIABLES: &[&str] =
    &["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"];

/// The C library's allocator in built-in workloads: memory is kept between iterations instead of going back to the
/// kernel and being faulted in again, as the caching allocators of ML frameworks do. Page faults were more than half of
/// the naive attention's time and a third of a tiny training step's (reports/performance.md). Other C libraries ignore
/// the variable.
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.top_pad=67108864",
);

/// Makes one launch; `None` when it was cancelled from outside. `turn` picks the order of code.
pub fn make(
    case: &Case,
    index: u32,
    position: u32,
    turn: u32,
    settings: &Settings<'_>,
) -> Result<Option<Launch>, RunnerError> {
    let scratch = Scratch::new(settings.shared.path())?;
    let (worker, layout) = settings.tree.worker(turn);
    let command = command(case, index, worker, &scratch.output, settings)?;
    let limits = Limits {
        timeout: Duration::from_secs_f64(case.timeout_s),
        memory: case.memory_limit,
        output: Some((&scratch.file, MOST_OUTPUT)),
    };
    let started = Timestamp::now();
    let watch = Watch::start();
    let locked = settings.locked.as_deref();
    let (finished, readings) = clocks::watch(case, locked, || process::run(command, limits, settings.cancel));
    let finished = match finished {
        Ok(finished) => finished,
        Err(error) => {
            let reason = error.to_string();
            return Ok(Some(unstarted(case, index, position, started, reason)));
        }
    };
    let evidence = watch.finish(&[std::process::id()]);
    if finished.ended == Ended::Cancelled {
        return Ok(None);
    }
    let mut launch = unstarted(case, index, position, started, String::new());
    launch.finished = Timestamp::now();
    launch.evidence.push(evidence);
    if let Some(layout) = layout.filter(|_| case.workload.kind.is_built_in() && !case.reference) {
        let facts = [("layout".to_owned(), (layout + 1).into())].into();
        launch.evidence.push(Evidence { source: "build".to_owned(), facts });
    }
    launch.log = redact(&finished.log, &settings.secrets);
    let said = scratch.read(&settings.secrets);
    assemble(&mut launch, case, said, &finished);
    if launch.outcome.kind != OutcomeKind::Measured {
        // No fault of the work, and every later launch would end the same way.
        scratch.has_room()?;
    }
    if let Some(locked) = locked {
        clocks::verify(&mut launch, case, locked.asked, locked.mhz, &readings);
    }
    if !case.reference {
        cost::add(&mut launch, &settings.prices);
    }
    Ok(Some(launch))
}

fn unstarted(case: &Case, index: u32, position: u32, started: Timestamp, reason: String) -> Launch {
    Launch {
        id: LaunchId::fresh(),
        case: case.id.clone(),
        index,
        position,
        started,
        finished: started,
        outcome: Outcome::because(OutcomeKind::Failed, reason),
        samples: Vec::new(),
        values: Vec::new(),
        checks: Vec::new(),
        device: None,
        warmup: None,
        stop: None,
        evidence: Vec::new(),
        unknown: Vec::new(),
        log: String::new(),
    }
}

/// The most a worker may say, bytes: some three million samples.
const MOST_OUTPUT: u64 = 64 << 20;

/// The file a worker writes to, in a folder of its own that goes when the launch is over.
struct Scratch {
    folder: PathBuf,
    output: PathBuf,
    /// What is read in the end, whatever the worker puts in the file's place.
    file: File,
}

impl Scratch {
    fn new(session: &Path) -> Result<Self, RunnerError> {
        let folder = session.join(format!("launch-{}", LaunchId::fresh()));
        let output = folder.join("messages.jsonl");
        let wrap = |source| RunnerError::Environment { context: format!("cannot create {}", folder.display()), source };
        std::fs::create_dir(&folder).map_err(wrap)?;
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&output).map_err(wrap)?;
        Ok(Self { folder, output, file })
    }

    /// An error where there is no room for what a worker says.
    fn has_room(&self) -> Result<(), RunnerError> {
        const BYTES: [u8; 4096] = [0; 4096];
        match std::fs::write(self.folder.join("probe"), BYTES) {
            Err(source) if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                Err(RunnerError::Environment {
                    context: format!(
                        "no room for what launches say in {}: free some, or set TMPDIR to a folder with more",
                        std::env::temp_dir().display()
                    ),
                    source,
                })
            }
            // A folder that the worker took away is told as what it said.
            _ => Ok(()),
        }
    }

    /// What the worker said, without secrets. More than [`MOST_OUTPUT`] is a broken last line.
    fn read(&self, secrets: &[String]) -> Reading {
        if !self.is_in_place() {
            let what = "the file that REGRADE_OUTPUT names was removed or replaced; append to it".to_owned();
            return Reading { broken: Some(ReadError { line: 0, what, text: String::new() }), ..Reading::default() };
        }
        let mut bytes = Vec::new();
        let mut file = &self.file;
        // A file that cannot be read back says nothing, and a worker that said nothing has failed.
        let _ = file.rewind().and_then(|()| file.take(MOST_OUTPUT).read_to_end(&mut bytes));
        read_messages(bytes.as_slice(), &|text| redact(text, secrets))
    }
}

impl Scratch {
    /// Whether the name still stands for the file that was made.
    fn is_in_place(&self) -> bool {
        let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match (std::fs::symlink_metadata(&self.output), self.file.metadata()) {
            (Ok(named), Ok(ours)) => same(&named, &ours),
            _ => false,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nothing.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn command(
    case: &Case,
    index: u32,
    worker: &Path,
    output: &Path,
    settings: &Settings<'_>,
) -> Result<Command, RunnerError> {
    let request = Request {
        protocol: VERSION,
        case: case.clone(),
        seed: settings.seed,
        launch: index,
        time_budget_s: case.timeout_s,
        inject: settings.inject.get(&case.id).copied().unwrap_or(0.0),
    };
    let request = serde_json::to_string(&request).map_err(|error| RunnerError::Environment {
        context: format!("cannot write the request of {}", case.id),
        source: std::io::Error::other(error),
    })?;
    let mut command = match case.workload.command.split_first() {
        Some((program, arguments)) if case.workload.kind == WorkloadKind::Command => {
            let folder = case.working_dir.as_ref().map(PathBuf::from);
            let folder = match (&settings.tree.folder, folder) {
                (Some(tree), Some(folder)) => Some(tree.join(folder)),
                (tree, folder) => folder.or_else(|| tree.clone()),
            };
            let mut command = Command::new(in_tree(program, folder.as_deref(), settings));
            command.args(arguments).envs(&settings.tree.env).envs(&case.env);
            if let Some(folder) = folder {
                command.current_dir(folder);
            }
            command
        }
        _ => {
            // The code of a kernel or a program lies in the tree, and this program compiles and times it in both arms alike.
            let own = case.reference || matches!(case.workload.kind, WorkloadKind::Kernel | WorkloadKind::Program);
            let program = if own { settings.harness.as_path() } else { worker };
            let mut command = Command::new(program);
            command.arg("worker").envs(&settings.tree.env).env(ALLOCATOR.0, ALLOCATOR.1);
            let wanted = backend::find(&case.backend).map_or(&[][..], Backend::environment);
            command.envs(wanted.iter().copied().filter(|(name, _)| std::env::var_os(name).is_none()));
            if let Some(folder) = &settings.tree.folder {
                command.current_dir(folder);
            }
            command
        }
    };
    command.env(REQUEST_VARIABLE, request).env(OUTPUT_VARIABLE, output).env(SESSION_VARIABLE, settings.shared.path());
    if let Ok(threads) = case.workload.size("threads") {
        let own = backend::find(&case.backend).map_or(&[][..], Backend::thread_variables);
        // What a command's own table says counts more.
        for variable in THREAD_VARIABLES.iter().chain(own).filter(|variable| !case.env.contains_key(**variable)) {
            command.env(variable, threads.to_string());
        }
    }
    Ok(command)
}

/// A program that is named by a relative path lies in the tree that is measured: whether such a path is looked up before
/// or after changing into the folder differs between systems.
fn in_tree(program: &str, folder: Option<&Path>, settings: &Settings<'_>) -> PathBuf {
    match (&settings.tree.folder, folder) {
        (Some(_), Some(folder)) if program.contains('/') => folder.join(program),
        _ => PathBuf::from(program),
    }
}

/// Fills a launch with what the worker said, and decides how it ended.
fn assemble(launch: &mut Launch, case: &Case, said: Reading, finished: &Finished) {
    let silent = said.messages.is_empty() && said.unknown.is_empty() && said.broken.is_none();
    launch.unknown = said.unknown;
    let mut told = None;
    for message in said.messages {
        match message {
            Message::Hello { protocol, client, version } => launch.evidence.push(Evidence {
                source: "client".to_owned(),
                facts: [
                    ("protocol".to_owned(), protocol.into()),
                    ("client".to_owned(), client.into()),
                    ("version".to_owned(), version.into()),
                ]
                .into(),
            }),
            Message::Device(device) => launch.device = Some(device),
            Message::Samples(samples) => launch.samples.push(described(samples, case)),
            Message::Value(value) => {
                launch.values.push(Value { metric: describe(value.metric, case), value: value.value });
            }
            Message::Check(check) => launch.checks.push(check),
            Message::Evidence(evidence) => launch.evidence.push(evidence),
            Message::Warmup(warmup) => launch.warmup = Some(warmup),
            Message::Stop { reason } => launch.stop = Some(reason),
            Message::Outcome(outcome) => told = Some(outcome),
        }
    }
    let unsaid = told.is_none();
    launch.outcome = outcome(case, &finished.ended, told, said.broken, silent, &launch.checks);
    if let (true, Ended::Signalled(ABORT), Some(line)) = (unsaid, &finished.ended, words::out_of_memory(&launch.log)) {
        launch.outcome =
            Outcome::because(OutcomeKind::OutOfMemory, format!("{line}: the host has no more memory for it"));
    }
    if let (true, OutcomeKind::Failed, Some(words)) = (unsaid, launch.outcome.kind, words::last(&launch.log)) {
        launch.outcome.reason = launch.outcome.reason.take().map(|reason| format!("{reason}; its last words: {words}"));
    }
    if silent && launch.outcome.kind == OutcomeKind::Measured {
        from_outside(launch, finished);
    }
    if launch.outcome.kind == OutcomeKind::Measured
        && let Some(what) = nonsense(launch)
    {
        launch.outcome = Outcome::because(OutcomeKind::Failed, what);
    }
}

/// Why what was reported can be no measurement.
fn nonsense(launch: &Launch) -> Option<String> {
    if launch.samples.is_empty() && launch.values.is_empty() {
        return Some("ended well and reported no metric".to_owned());
    }
    if let Some(empty) = launch.samples.iter().find(|samples| samples.values.is_empty()) {
        return Some(format!("reported no value of `{}`", empty.metric.name));
    }
    let sampled =
        launch.samples.iter().flat_map(|samples| samples.values.iter().map(|value| (&samples.metric, *value)));
    let single = launch.values.iter().map(|value| (&value.metric, value.value));
    sampled.chain(single).find_map(|(metric, value)| {
        let impossible = !value.is_finite()
            || (metric.kind == MetricKind::Timing && value <= 0.0)
            || (metric.kind != MetricKind::Ratio && value < 0.0);
        impossible.then(|| format!("reported an impossible value: `{}` of {value} {}", metric.name, metric.unit))
    })
}

/// How the launch ended, from how its process ended and what it said. The process comes first: a worker that says
/// "measured" and then crashes has crashed.
fn outcome(
    case: &Case,
    ended: &Ended,
    told: Option<Outcome>,
    broken: Option<ReadError>,
    silent: bool,
    checks: &[Check],
) -> Outcome {
    match (ended, told) {
        (Ended::TimedOut, _) => Outcome::because(
            OutcomeKind::TimedOut,
            format!("killed at its time-out of {} s; raise `timeout` if it needs longer", case.timeout_s),
        ),
        (Ended::OverMemory { peak }, _) => {
            let resident = peak >> 20;
            let reason = match case.memory_limit {
                Some(limit) if *peak >= limit => format!(
                    "killed at {resident} MiB resident, its limit is {} MiB; raise `memory_limit` if it needs more",
                    limit >> 20
                ),
                _ => format!("killed by the kernel for want of memory, at {resident} MiB resident"),
            };
            Outcome::because(OutcomeKind::OutOfMemory, reason)
        }
        (Ended::OverOutput, _) => Outcome::because(
            OutcomeKind::Failed,
            format!("killed after writing more than {} MiB of messages; send fewer samples", MOST_OUTPUT >> 20),
        ),
        (Ended::Cancelled, _) => Outcome::because(OutcomeKind::Skipped, "cancelled"),
        (Ended::Signalled(signal), _) => {
            Outcome::because(OutcomeKind::Failed, format!("died of signal {signal} ({})", signal_name(*signal)))
        }
        (_, Some(told)) if told.kind != OutcomeKind::Measured => told,
        (Ended::Exited(0), told) => {
            if let Some(broken) = broken {
                return Outcome::because(OutcomeKind::Failed, broken.to_string());
            }
            if let Some(check) = checks.iter().find(|check| !check.pass) {
                return Outcome::because(
                    OutcomeKind::Failed,
                    format!(
                        "wrong numbers: `{}` is off by {:.3e} from {}, tolerance {:.3e}",
                        check.name, check.error, check.reference, check.tolerance
                    ),
                );
            }
            match told {
                Some(told) => told,
                None if silent && case.workload.kind == WorkloadKind::Command => Outcome::measured(),
                None => Outcome::because(OutcomeKind::Failed, "ended without an outcome message"),
            }
        }
        (Ended::Exited(code), _) => Outcome::because(OutcomeKind::Failed, format!("exited with status {code}")),
    }
}

/// What a process sends itself to end at once.
const ABORT: i32 = 6;

const fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => "illegal instruction",
        ABORT => "abort",
        7 => "bus error",
        8 => "arithmetic error",
        9 => "kill",
        11 => "segmentation fault",
        15 => "termination",
        _ => "see `man 7 signal`",
    }
}

/// A command that speaks nothing is measured from outside: one launch is one sample.
fn from_outside(launch: &mut Launch, finished: &Finished) {
    let value = |name: &str, value: f64| Value { metric: Metric::standard(name).expect("a standard metric"), value };
    launch.values.push(value(Metric::LATENCY, finished.wall.as_secs_f64()));
    // None at all is no measurement.
    let times = [(Metric::USER_TIME, finished.user_s), (Metric::SYSTEM_TIME, finished.system_s)];
    launch.values.extend(times.into_iter().filter(|(_, s)| *s > 0.0).map(|(name, seconds)| value(name, seconds)));
    launch.values.extend(finished.peak_rss.map(|bytes| value(Metric::PEAK_MEMORY, bytes as f64)));
}

fn described(mut samples: Samples, case: &Case) -> Samples {
    samples.metric = describe(samples.metric, case);
    samples
}

/// The suite's description of a metric comes first, then the client's own; a client that names a metric of ours and
/// says nothing about its direction means ours.
fn describe(metric: Metric, case: &Case) -> Metric {
    if let Some(described) = case.metrics.get(&metric.name) {
        return described.clone();
    }
    if metric.direction != Direction::Unknown {
        return metric;
    }
    match Metric::standard(&metric.name) {
        Some(standard) if standard.unit == metric.unit => standard,
        _ => metric,
    }
}

/// A text without secrets, as they are and as JSON writes them.
fn redact(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| {
        let quoted = serde_json::Value::from(secret.as_str()).to_string();
        text.replace(secret.as_str(), "[redacted]").replace(&quoted[1..quoted.len() - 1], "[redacted]")
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A launch that went well and told nothing yet.
    pub fn measured(case: &Case) -> Launch {
        Launch { outcome: Outcome::measured(), ..unstarted(case, 0, 0, Timestamp::now(), String::new()) }
    }
}
