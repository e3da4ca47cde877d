//! Records what this machine's noise does to measurements whose truth is known: the same workloads with 0 to 25 % of
//! real extra work, every launch a fresh worker process made by the library's own runner.
//!
//! `cargo run --release --example record_noise -- <file> [--rounds N] [--neighbours N]` writes one recording, whole after
//! every round, so that it can be stopped at any time. Neighbours are processes that burn cycles and stream through
//! memory in bursts. Must not judge anything: `examples/verdict_quality` does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anstream::eprintln;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use regrade::cli::Cli;
use regrade::command::{dispatch, exit_of};
use regrade::domain::{Case, Launch, Metric, OutcomeKind, PlanItem};
use regrade::runner::{self, Settings, Shared, Tree};
use regrade::suite::{BackendView, HardwareFacts, Selection, Suite};
use serde::Serialize;

/// Arms of a round, as extra work: the base, a second base, and five changes.
const EXTRA: [f64; 7] = [0.0, 0.0, 0.01, 0.02, 0.05, 0.10, 0.25];

/// Small enough that a sample holds hundreds of iterations, so that 1 % of extra work is whole iterations in a sample
/// as long as the base's.
const SUITE: &str = r#"
schema_version = 1
name = "noise"
description = "Small workloads whose noise is recorded"
backends = ["cpu"]
reference_workloads = false
launches = 1
timeout = "60s"

[defaults]
threads = 1

[sampling]
min_samples = 12
max_samples = 12
min_time = "50ms"
max_time = "1s"
min_sample_time = "5ms"
max_warmup = "40ms"

[[benchmark]]
name = "gemm"
operator = "gemm"
axes = { m = [64], n = [64], k = [64] }

[[benchmark]]
name = "softmax"
operator = "softmax"
rows = 16
cols = 512

[[benchmark]]
name = "attention"
operator = "attention"
implementation = "tiled"
heads = 2
seq = 16

[[benchmark]]
name = "copy"
operator = "copy"
bytes = 262_144

[[benchmark]]
name = "gpt2-tiny"
model = "gpt2-tiny"
mode = "decode"
seq = 2
tokens = 1
sampling = { min_sample_time = "25ms", max_warmup = "100ms" }
"#;

/// A recording, as `tests/fixtures/recordings/README.md` describes it.
#[derive(Debug, Serialize)]
struct Recording {
    machine: String,
    command: String,
    began: String,
    /// Busy processes beside the recorder.
    neighbours: usize,
    /// Extra work of each arm, as a fraction.
    extra: [f64; EXTRA.len()],
    unit: &'static str,
    workloads: Vec<Recorded>,
}

/// One workload.
#[derive(Debug, Serialize)]
struct Recorded {
    case: String,
    rounds: Vec<Round>,
}

/// One launch of every arm, made one after another.
#[derive(Debug, Serialize)]
struct Round {
    /// Seconds since the recording began.
    at: f64,
    /// The arms in the order in which they ran, drawn afresh every round.
    order: Vec<usize>,
    /// Wall time per iteration of every sample, by arm.
    latency: Vec<Vec<f64>>,
    /// Process CPU time per iteration, likewise.
    cpu_time: Vec<Vec<f64>>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        // The runner starts this very program as its worker.
        Some("worker") => return dispatch(&Cli::of_process()).unwrap_or_else(|error| exit_of(&error)).into(),
        Some("neighbour") => neighbour(number(&words, 2, "neighbour")),
        Some(file) if !file.starts_with('-') => record(Path::new(file), &words),
        _ => eprintln!("record_noise <file> [--rounds N] [--neighbours N]"),
    }
    ExitCode::SUCCESS
}

/// The number that follows a word, or that stands at a place.
fn number(words: &[String], at: usize, what: &str) -> u64 {
    words.get(at).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("`{what}` takes a number"))
}

fn option(words: &[String], name: &str, default: u64) -> u64 {
    words.iter().position(|word| word == name).map_or(default, |at| number(words, at + 1, name))
}

fn record(file: &Path, words: &[String]) {
    let rounds = option(words, "--rounds", 60);
    let neighbours = option(words, "--neighbours", 0);
    let cases = cases();
    let busy = Neighbours::start(neighbours);
    let mut random = ChaCha8Rng::seed_from_u64(neighbours);
    let start = Instant::now();
    let mut recording = Recording {
        machine: machine(),
        command: std::iter::once("cargo run --release --example record_noise --".to_owned())
            .chain(words[1..].iter().cloned())
            .collect::<Vec<_>>()
            .join(" "),
        began: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%MZ").to_string(),
        neighbours: neighbours as usize,
        extra: EXTRA,
        unit: "us",
        workloads: cases
            .iter()
            .map(|case| Recorded { case: case.id.as_str().to_owned(), rounds: Vec::new() })
            .collect(),
    };
    for round in 0..rounds {
        for at in shuffled(cases.len(), &mut random) {
            let taken = one_round(&cases[at], round as u32, &mut random, start);
            recording.workloads[at].rounds.push(taken);
        }
        let text = serde_json::to_string(&recording).expect("plain data");
        // A line a round, so that differences of two recordings can be read.
        std::fs::write(file, text.replace("{\"at\"", "\n{\"at\"") + "\n").expect("the recording can be written");
        eprintln!("round {} of {rounds}, {:.0} s", round + 1, start.elapsed().as_secs_f64());
    }
    drop(busy);
}

fn one_round(case: &Case, round: u32, random: &mut ChaCha8Rng, start: Instant) -> Round {
    let order = shuffled(EXTRA.len(), random);
    let at = (start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    let mut taken = Round {
        at,
        order: order.clone(),
        latency: vec![Vec::new(); EXTRA.len()],
        cpu_time: vec![Vec::new(); EXTRA.len()],
    };
    for arm in order {
        let launch = launch(case, round, EXTRA[arm]);
        taken.latency[arm] = samples(&launch, Metric::LATENCY);
        taken.cpu_time[arm] = samples(&launch, Metric::CPU_TIME);
    }
    taken
}

/// One fresh process.
fn launch(case: &Case, round: u32, extra: f64) -> Launch {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let settings = Settings {
        harness: own_program(),
        tree: Tree { workers: vec![own_program()], ..Tree::default() },
        seed: 0x5eed,
        inject: if extra > 0.0 { BTreeMap::from([(case.id.clone(), extra)]) } else { BTreeMap::new() },
        budget: None,
        shared: Shared::new().expect("a temporary folder"),
        locked: None,
        secrets: Vec::new(),
        prices: Vec::new(),
        cancel: &NEVER,
    };
    let plan = regrade::domain::Plan {
        suite: suite().info,
        cases: vec![case.clone()],
        order: vec![PlanItem { case: 0, launch: round }],
        seed: 0,
        prices: Vec::new(),
    };
    let mut made = None;
    let items = [(0, plan.order[0])];
    let mut keep = |launch: &Launch| {
        made = Some(launch.clone());
        Ok(())
    };
    runner::run(&plan, &items, &settings, &mut keep, &mut |_| ()).expect("the worker starts");
    let launch = made.expect("one launch was asked for");
    assert!(launch.outcome.kind == OutcomeKind::Measured, "{}: {:?} {}", case.id, launch.outcome, launch.log);
    launch
}

/// Microseconds to five significant digits: far below the noise, and a fifth of the size.
fn samples(launch: &Launch, metric: &str) -> Vec<f64> {
    let found = launch.samples.iter().find(|samples| samples.metric.name == metric).expect("every launch has it");
    found.values.iter().map(|seconds| format!("{:.4e}", seconds * 1e6).parse().expect("a number")).collect()
}

fn suite() -> Suite {
    Suite::parse("record_noise", SUITE, &["cpu"]).expect("the suite is right")
}

fn cases() -> Vec<Case> {
    let supports = |_: &regrade::domain::Workload| Ok(());
    let views = [BackendView { name: "cpu", ready: Ok(HardwareFacts::default()), supports: &supports }];
    suite().plan(&Selection::default(), &views, 0, None).expect("there are cases").cases
}

fn own_program() -> PathBuf {
    std::env::current_exe().expect("a program knows where it is")
}

fn machine() -> String {
    let testbed = regrade::hardware::testbed(BTreeMap::new());
    testbed.label()
}

/// Fisher and Yates.
fn shuffled(n: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
    }
    order
}

/// Busy processes, ended with this value.
#[derive(Debug)]
struct Neighbours(Vec<Child>);

impl Neighbours {
    fn start(count: u64) -> Self {
        let start = |seed: u64| {
            Command::new(own_program()).args(["neighbour", &seed.to_string()]).spawn().expect("a neighbour starts")
        };
        Self((1..=count).map(start).collect())
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that is gone already disturbs nobody.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Bursts of arithmetic and of streaming through memory, with pauses, until killed.
fn neighbour(seed: u64) {
    /// Far beyond every cache.
    const BUFFER: usize = 64 << 20;
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut from, mut to) = (vec![1_u8; BUFFER], vec![0_u8; BUFFER]);
    // Exponential, so that no length of burst or pause is typical.
    let mut span = |mean_s: f64| {
        let u = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        (Duration::from_secs_f64(-mean_s * (1.0 - u).ln()).min(Duration::from_secs(20)), u)
    };
    loop {
        let (burst, _) = span(1.5);
        let (_, kind) = span(1.0);
        let start = Instant::now();
        let mut x = 1.0_f64;
        while start.elapsed() < burst {
            if kind < 0.5 {
                to.copy_from_slice(&from);
                std::mem::swap(&mut from, &mut to);
            } else {
                for _ in 0..1_000_000 {
                    x = x.mul_add(0.999_999, 1e-6);
                }
            }
        }
        std::hint::black_box((x, &to));
        std::thread::sleep(span(2.0).0);
    }
}
