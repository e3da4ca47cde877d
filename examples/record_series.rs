//! Records real series: round after round, one launch of every case of `examples/record_series.toml`, each in a fresh
//! worker process, in an order shuffled anew each round. What a launch is stood for (median and best sample of its
//! wall time, median of its CPU time) goes to a JSON file with what the machine did meanwhile.
//!
//! `cargo run --release --example record_series -- target/release/regrade out.json 120 1`: the worker program, the
//! file, how many rounds, and how many busy neighbours to start and stop at random (0: none). The file is written
//! after every round, so that an interrupted recording is kept. Must not know what the series are used for.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use regrade::backend::BACKENDS;
use regrade::domain::{Launch, Metric, OutcomeKind, PlanItem, Samples};
use regrade::runner::{self, Event, Settings, Shared, Tree};
use regrade::stats::quantile::{median, sorted};
use regrade::suite::{BackendView, HardwareFacts, Selection, Suite};
use serde_json::{Value, json};

/// Seed of the orders and of the neighbours' comings and goings.
const SEED: u64 = 0x005e_71e5;
/// Chance, once a round, that the neighbours come, or that they go. A stay lasts ten rounds on average.
const CHANGE: f64 = 0.1;
/// Significant digits kept of a value: a thousandth of the noise.
const DIGITS: usize = 6;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// One case's launches so far.
#[derive(Default)]
struct Series {
    wall_median: Vec<f64>,
    wall_best: Vec<f64>,
    cpu_median: Vec<f64>,
    /// Share of the launch for which somebody waited for a processor, percent.
    pressure: Vec<f64>,
    /// What other programs used, percent of one processor.
    foreign: Vec<f64>,
}

impl Series {
    fn push(&mut self, launch: &Launch) -> Result<(), Error> {
        if launch.outcome.kind != OutcomeKind::Measured {
            return Err(format!("{}: {:?}", launch.case, launch.outcome).into());
        }
        let samples = |name: &str| {
            let found = launch.samples.iter().find(|samples: &&Samples| samples.metric.name == name);
            found.map(|samples| samples.values.as_slice()).ok_or_else(|| format!("{}: no {name}", launch.case))
        };
        let fact = |name: &str| {
            launch.evidence.iter().find_map(|evidence| evidence.facts.get(name)).and_then(Value::as_f64).unwrap_or(0.0)
        };
        let wall = samples(Metric::LATENCY)?;
        self.wall_median.push(median(wall));
        self.wall_best.push(sorted(wall)[0]);
        self.cpu_median.push(median(samples(Metric::CPU_TIME)?));
        self.pressure.push(fact("pressure_cpu_some_percent"));
        self.foreign.push(fact("foreign_cpu_percent"));
        Ok(())
    }
}

/// Processes that do nothing but use a processor; they end with this one, however it ends.
struct Neighbours(Vec<Child>);

impl Neighbours {
    fn come(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            let mut command = Command::new("sh");
            command.args(["-c", "while kill -0 $PPID; do :; done"]).stdin(Stdio::null()).stderr(Stdio::null());
            self.0.push(command.spawn()?);
        }
        Ok(())
    }

    fn go(&mut self) {
        for mut child in self.0.drain(..) {
            // One that is gone already needs no ending.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.go();
    }
}

/// A fair choice among `count`.
fn below(random: &mut ChaCha8Rng, count: usize) -> usize {
    (random.next_u64() % count as u64) as usize
}

fn rounded(values: &[f64]) -> Result<Vec<f64>, Error> {
    values.iter().map(|value| Ok(format!("{value:.*e}", DIGITS - 1).parse()?)).collect()
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [worker, output, rounds, neighbours] = arguments.as_slice() else {
        return Err("give the worker program, the output file, the rounds and the number of neighbours".into());
    };
    let (output, rounds, neighbours) = (PathBuf::from(output), rounds.parse::<u32>()?, neighbours.parse::<usize>()?);
    let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
    let suite = Suite::parse("record_series.toml", include_str!("record_series.toml"), &names)?;
    let supports = |_: &_| Ok(());
    let view = BackendView { name: "cpu", ready: Ok(HardwareFacts::default()), supports: &supports };
    let plan = suite.plan(&Selection::default(), &[view], SEED, Some(1))?;
    let cancel = AtomicBool::new(false);
    let settings = Settings {
        harness: PathBuf::from(worker).canonicalize()?,
        tree: Tree { workers: vec![PathBuf::from(worker).canonicalize()?], ..Tree::default() },
        seed: SEED,
        inject: [].into(),
        budget: None,
        shared: Shared::new()?,
        locked: None,
        secrets: Vec::new(),
        prices: Vec::new(),
        cancel: &cancel,
    };

    let started = jiff::Timestamp::now();
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut series: Vec<Series> = plan.cases.iter().map(|_| Series::default()).collect();
    let mut company = Neighbours(Vec::new());
    let mut present = Vec::new();
    for round in 0..rounds {
        if neighbours > 0 && (random.next_u64() as f64) < CHANGE * u64::MAX as f64 {
            if company.0.is_empty() { company.come(neighbours)? } else { company.go() }
        }
        present.push(company.0.len());
        let mut cases: Vec<usize> = (0..plan.cases.len()).filter(|case| plan.cases[*case].skip.is_none()).collect();
        for last in (1..cases.len()).rev() {
            cases.swap(last, below(&mut random, last + 1));
        }
        let items: Vec<(u32, PlanItem)> =
            (0..).zip(cases.iter().map(|case| PlanItem { case: *case, launch: round })).collect();
        let mut keep = |launch: &Launch| {
            let case = plan.cases.iter().position(|case| case.id == launch.case).ok_or("a case of the plan")?;
            series[case].push(launch)
        };
        runner::run(&plan, &items, &settings, &mut keep, &mut |_: Event<'_>| {})?;

        let mut rows = Vec::new();
        for (case, series) in plan.cases.iter().zip(&series) {
            rows.push(json!({
                "case": case.id,
                "wall_median_s": rounded(&series.wall_median)?,
                "wall_best_s": rounded(&series.wall_best)?,
                "cpu_median_s": rounded(&series.cpu_median)?,
                "pressure_cpu_percent": series.pressure.iter().map(|value| value.round()).collect::<Vec<_>>(),
                "foreign_cpu_percent": series.foreign.iter().map(|value| value.round()).collect::<Vec<_>>(),
            }));
        }
        let recording = json!({
            "started": started.to_string(),
            "finished": jiff::Timestamp::now().to_string(),
            "rounds": round + 1,
            "neighbours": present,
            "series": rows,
        });
        let unfinished = output.with_extension("unfinished");
        std::fs::write(&unfinished, serde_json::to_string(&recording)?)?;
        std::fs::rename(&unfinished, &output)?;
    }
    Ok(())
}
