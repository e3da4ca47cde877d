//! `regrade compare --across backend`: the same work on every backend of a run, side by side.
//!
//! Says how they differ and never which is a regression: nothing here is a verdict, and the exit code is about measuring alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::cli::{Compare, Format};
use crate::command::context::{Context, find_run, print};
use crate::command::session::{Subject, load_suite, machine, measure, plan, suite_path_again};
use crate::command::{NotComparable, usage};
use crate::domain::{Case, CaseRecord, Launch, Metric, Outcome, OutcomeKind, Run};
use crate::exit::Exit;
use crate::render::format;
use crate::render::table::{Cell, Column, Row, Section, Table};
use crate::render::text;
use crate::runner::Ending;
use crate::stats::quantile::median;
use crate::store::Store;
use crate::verdict::policy;

/// The whole comparison.
#[derive(Debug, Serialize)]
struct Across {
    version: u32,
    run: String,
    suite: String,
    /// Said in every format: this is no judgement.
    note: &'static str,
    works: Vec<Work>,
    /// Work that the suite gives to one backend alone: there is nothing beside it.
    alone: Vec<String>,
}

/// One piece of work on several backends.
#[derive(Debug, Serialize)]
struct Work {
    /// The case without its backend.
    work: String,
    /// In the suite's order.
    backends: Vec<Side>,
}

/// The work on one backend.
#[derive(Debug, Serialize)]
struct Side {
    backend: String,
    device: Option<String>,
    /// The worst of its launches'.
    outcome: OutcomeKind,
    /// Why that is not `measured`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Launches that were measured.
    launches: usize,
    /// Medians over launches, in SI units.
    latency: Option<f64>,
    /// Latency of the first measured backend over this one's.
    speed: Option<f64>,
    device_memory: Option<f64>,
    peak_memory: Option<f64>,
    compile_time: Option<f64>,
    throughput: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throughput_unit: Option<String>,
    /// Of 10^15 operations, where the suite names prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_per_pflop: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_unit: Option<String>,
    /// Largest error of its numeric checks over what is allowed: numbers agree up to 1.
    error_of_tolerance: Option<f64>,
}

const NOTE: &str =
    "backends side by side: no regression verdict, and no claim that they do the same work in the same way";

/// Takes a stored run, or measures now, and shows it.
pub fn run(arguments: &Compare, context: &Context) -> Result<Exit> {
    if arguments.base.is_some() || arguments.all_pairs || arguments.history_only {
        return Err(usage("--across compares backends of one run: it takes a suite or --head RUN, and no base"));
    }
    let judges = [
        (arguments.gate.is_some(), "--gate"),
        (arguments.require_decision, "--require-decision"),
        (arguments.waivers.is_some(), "--waivers"),
        (arguments.budget.is_some(), "--budget"),
        (arguments.max_pairs.is_some(), "--max-pairs"),
    ];
    if let Some((_, flag)) = judges.iter().find(|(given, _)| *given) {
        return Err(usage(format!("{flag} is about verdicts, and --across makes none: leave it out")));
    }
    if let [_, more, ..] = arguments.targets.as_slice() {
        return Err(usage(format!(
            "--across measures one suite as it is here, and takes no commits: leave out `{more}`"
        )));
    }
    let (run, launches) = match (&arguments.head, arguments.targets.as_slice()) {
        (Some(name), []) => {
            let store = context.stored()?;
            let run = find_run(&store, name)?;
            let launches = store.launches(run.id, None)?;
            (run, launches)
        }
        (None, suite) => {
            if let Some(range) = suite.first().filter(|suite| suite.contains("..") && !Path::new(suite).exists()) {
                return Err(usage(format!(
                    "--across measures a suite as it is here, and takes no commits: leave out `{range}`"
                )));
            }
            let suite = load_suite(&suite_path_again(suite.first().map(Into::into).as_ref(), context)?)?;
            comparable(&plan(&suite, &arguments.select, &machine(), 0, None)?.cases)?;
            let mut store = context.store()?;
            let here = Subject::built_here(&suite, context)?;
            let measured = measure(&suite, &here, &arguments.select, &arguments.measure, &mut store, context)?;
            if measured.ending == Ending::Cancelled {
                return Ok(Exit::Environment);
            }
            let launches = store.launches(measured.run.id, None)?;
            (measured.run, launches)
        }
        _ => return Err(usage("give a suite to measure now, or --head RUN")),
    };
    let across = across(&run, &launches);
    if across.works.is_empty() {
        return Err(not_comparable(&[]));
    }
    match arguments.format {
        Format::Json => print(format!("{}\n", serde_json::to_string_pretty(&across)?).as_bytes())?,
        Format::Text => print(page(&across, context).as_bytes())?,
    }
    Ok(if across.works.iter().any(Work::failed) { Exit::CaseFailed } else { Exit::Pass })
}

/// Refuses a plan in which nothing has anything beside it, before it is measured for nothing.
fn comparable(cases: &[Case]) -> Result<()> {
    let mut here: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases.iter().filter(|case| !case.reference && case.skip.is_none()) {
        *here.entry(work_of(case)).or_default() += 1;
    }
    let skipped = cases.iter().filter_map(|case| Some((case.backend.as_str(), case.skip.as_ref()?.reason.as_str())));
    if here.values().any(|backends| *backends >= 2) { Ok(()) } else { Err(not_comparable(&counted(skipped))) }
}

fn not_comparable(skipped: &[(&str, String)]) -> anyhow::Error {
    let mut message = "no benchmark runs on two backends here: name several in its `backends`".to_owned();
    for (backend, reason) in skipped {
        let _ = write!(message, "\n  {backend} is skipped: {reason}");
    }
    NotComparable(message).into()
}

/// Backends that were skipped, each with every reason once and how often, in the suite's order.
fn counted<'a>(skipped: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, String)> {
    let mut told: Vec<((&str, &str), usize)> = Vec::new();
    for one in skipped {
        match told.iter_mut().find(|(known, _)| *known == one) {
            Some((_, count)) => *count += 1,
            None => told.push((one, 1)),
        }
    }
    let times = |count| if count > 1 { format!(" ({count} benchmarks)") } else { String::new() };
    told.into_iter().map(|((backend, why), count)| (backend, text::clean(why) + &times(count))).collect()
}

/// The case without its backend.
fn work_of(case: &Case) -> &str {
    case.id.as_str().rsplit_once('@').map_or(case.id.as_str(), |(work, _)| work)
}

impl Work {
    fn failed(&self) -> bool {
        self.backends.iter().any(|side| policy::is_failure(side.outcome))
    }
}

/// Work on several backends, or that failed on its only one, and names of what else has one alone.
fn across(run: &Run, launches: &[Launch]) -> Across {
    let mut works: Vec<Work> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for record in run.cases.iter().filter(|record| !record.case.reference) {
        let case = &record.case;
        let own: Vec<&Launch> = launches.iter().filter(|launch| launch.case == case.id).collect();
        let name = work_of(case).to_owned();
        let place = *places.entry(name.clone()).or_insert_with(|| {
            works.push(Work { work: name, backends: Vec::new() });
            works.len() - 1
        });
        works[place].backends.push(side(record, &own));
    }
    let (mut works, alone): (Vec<Work>, Vec<Work>) =
        works.into_iter().partition(|work| work.backends.len() >= 2 || work.failed());
    for work in &mut works {
        let first = work.backends.iter().find_map(|side| side.latency);
        for side in &mut work.backends {
            side.speed = first.zip(side.latency).map(|(first, own)| first / own);
        }
    }
    let alone = alone.into_iter().map(|work| work.work).collect();
    Across { version: 1, run: run.id.to_string(), suite: run.suite.name.clone(), note: NOTE, works, alone }
}

fn side(record: &CaseRecord, launches: &[&Launch]) -> Side {
    let outcome =
        record.skipped.clone().unwrap_or_else(|| Outcome::worst(launches.iter().map(|launch| &launch.outcome)));
    let measured: Vec<&&Launch> =
        launches.iter().filter(|launch| launch.outcome.kind == OutcomeKind::Measured).collect();
    let value = |name: &str| {
        let values: Vec<f64> = measured.iter().filter_map(|launch| Some(of(launch, name)?.1)).collect();
        (!values.is_empty()).then(|| median(&values))
    };
    let unit = |name: &str| measured.iter().find_map(|launch| Some(of(launch, name)?.0.unit.clone()));
    let errors = measured.iter().flat_map(|launch| &launch.checks).filter(|check| check.tolerance > 0.0);
    Side {
        backend: record.case.backend.clone(),
        device: measured.iter().find_map(|launch| Some(launch.device.as_ref()?.name.clone())),
        outcome: outcome.kind,
        reason: outcome.reason,
        launches: measured.len(),
        latency: value(Metric::LATENCY),
        speed: None,
        device_memory: value(Metric::DEVICE_MEMORY),
        peak_memory: value(Metric::PEAK_MEMORY),
        compile_time: value(Metric::COMPILE_TIME),
        throughput: value(Metric::THROUGHPUT),
        throughput_unit: unit(Metric::THROUGHPUT),
        cost_per_pflop: value(Metric::COST_PER_PFLOP),
        cost_unit: unit(Metric::COST_PER_PFLOP),
        error_of_tolerance: errors.map(|check| check.error / check.tolerance).reduce(f64::max),
    }
}

/// A launch's value of a metric: the median of its samples, or its single value.
fn of<'a>(launch: &'a Launch, name: &str) -> Option<(&'a Metric, f64)> {
    let samples = launch.samples.iter().find(|samples| samples.metric.name == name);
    let single = || launch.values.iter().find(|one| one.metric.name == name).map(|one| (&one.metric, one.value));
    samples.map(|samples| (&samples.metric, median(&samples.values))).or_else(single)
}

const COLUMNS: [Column; 8] = [
    Column::new("latency", true, false),
    Column::new("speed", true, false),
    Column::new("throughput", true, true),
    Column::new("memory", true, true),
    Column::new("compile", true, true),
    Column::new("cost", true, true),
    Column::new("error", true, true),
    Column::new("device", false, true),
];

/// A ratio of speeds; what is a thousand times slower is not 0.
fn speed(ratio: f64) -> String {
    let places = if ratio > 0.0 && ratio < 0.1 { 1 - ratio.log10().floor() as i32 } else { 2 };
    format!("{ratio:.*}x", usize::try_from(places).unwrap_or(2))
}

fn page(across: &Across, context: &Context) -> String {
    let style = context.style();
    let mut sections: Vec<Section> = across
        .works
        .iter()
        .map(|work| Section {
            heading: Some(Cell::plain(work.work.as_str())),
            rows: work.backends.iter().filter(|side| side.outcome != OutcomeKind::Skipped).map(row).collect(),
            closing: None,
        })
        .collect();
    let alone = if across.alone.is_empty() {
        String::new()
    } else {
        format!("\non one backend alone, with nothing beside it: {}\n", across.alone.join(", "))
    };
    let sides = across.works.iter().flat_map(|work| &work.backends);
    let skipped = counted(
        sides
            .filter(|side| side.outcome == OutcomeKind::Skipped)
            .map(|side| (side.backend.as_str(), side.reason.as_deref().unwrap_or_default())),
    );
    if !skipped.is_empty() {
        let rows = skipped.into_iter().map(|(backend, reason)| Row {
            label: backend.to_owned(),
            cells: Vec::new(),
            below: Some(Cell::plain(reason)),
        });
        let heading = Some(Cell::plain("skipped here"));
        sections.push(Section { heading, rows: rows.collect(), closing: None });
    }
    let table = Table { columns: COLUMNS.to_vec(), label: "backend", sections };
    let mut out = format!("{} · run {}\n\n", across.suite, across.run);
    for line in table.lines(style.width, style.colour) {
        out += &line;
        out.push('\n');
    }
    out += &alone;
    let _ = writeln!(
        out,
        "\nspeed: of the first measured backend's · memory: the device's where it counts, else the process's · error: of what the numeric check \
         allows\n{NOTE}"
    );
    out
}

fn row(side: &Side) -> Row {
    let shown = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| format::NOTHING.to_owned(), |value| format::quantity(value, unit))
    };
    let below = side.reason.as_deref().map(|reason| Cell::plain(text::clean(&format!("{}: {reason}", side.outcome))));
    if side.launches == 0 {
        return Row { label: side.backend.clone(), cells: Vec::new(), below };
    }
    let unit = |unit: &Option<String>| unit.clone().unwrap_or_default();
    Row {
        label: side.backend.clone(),
        cells: vec![
            Cell::plain(shown(side.latency, "s")),
            Cell::plain(side.speed.map_or_else(|| format::NOTHING.to_owned(), speed)),
            Cell::plain(shown(side.throughput, &unit(&side.throughput_unit))),
            Cell::plain(shown(side.device_memory.or(side.peak_memory), "B")),
            Cell::plain(shown(side.compile_time, "s")),
            Cell::plain(shown(side.cost_per_pflop, &unit(&side.cost_unit))),
            Cell::plain(
                side.error_of_tolerance.map_or_else(|| format::NOTHING.to_owned(), |error| format!("{error:.3}")),
            ),
            Cell::plain(side.device.as_deref().unwrap_or(format::NOTHING)),
        ],
        below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Check, LaunchId, Samples};

    fn launch(case: &str, latency: &[f64], error: f64) -> Launch {
        let metric = Metric::standard(Metric::LATENCY).expect("a standard name");
        Launch {
            id: LaunchId::fresh(),
            case: case.into(),
            index: 0,
            position: 0,
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::UNIX_EPOCH,
            outcome: Outcome::measured(),
            samples: vec![Samples { metric, iterations: 1, clock: None, values: latency.to_vec() }],
            values: Vec::new(),
            checks: vec![Check { name: "y".to_owned(), reference: "r".to_owned(), error, tolerance: 0.1, pass: true }],
            device: None,
            warmup: None,
            stop: None,
            evidence: Vec::new(),
            unknown: Vec::new(),
            log: String::new(),
        }
    }

    #[test]
    fn a_side_is_the_median_of_its_launches_and_the_worst_of_its_checks() {
        let case = crate::suite::Suite::reference_cases().remove(0);
        let record = CaseRecord { case, skipped: None };
        let mut launches = [launch("w@a", &[1.0, 2.0, 9.0], 0.01), launch("w@a", &[4.0], 0.05)];
        let told = side(&record, &launches.iter().collect::<Vec<_>>());
        assert_eq!((told.launches, told.latency), (2, Some(3.0)));
        assert!(told.error_of_tolerance.is_some_and(|error| (error - 0.5).abs() < 1e-12));
        assert_eq!((told.compile_time, told.outcome, told.reason), (None, OutcomeKind::Measured, None));
        // One that failed is not hidden by those that did not.
        launches[1].outcome = Outcome::because(OutcomeKind::Failed, "wrong numbers");
        let told = side(&record, &launches.iter().collect::<Vec<_>>());
        assert_eq!((told.launches, told.latency, told.outcome), (1, Some(2.0), OutcomeKind::Failed));
        assert_eq!(told.reason.as_deref(), Some("wrong numbers"));
        assert_eq!(side(&record, &[]).outcome, OutcomeKind::Skipped);
    }

    #[test]
    fn slow_backends_have_digits_too() {
        assert_eq!(
            [12.345, 1.0, 0.1, 0.0301, 0.000_123].map(speed),
            ["12.35x", "1.00x", "0.10x", "0.030x", "0.00012x"]
        );
        assert_eq!(speed(f64::NAN), "NaNx");
    }
}
