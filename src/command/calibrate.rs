//! `regrade calibrate`: measures a suite against itself, learns what can be seen here, and proves that the gate trips.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::{Calibrate, Format};
use crate::command::arms::{self, Checkouts, Repository};
use crate::command::context::{Context, note, print};
use crate::command::paired::{self, Request, Session, Sides};
use crate::command::session::{self, CANCELLED, Header, Subject, load_suite, suite_path_again};
use crate::command::usage;
use crate::domain::{
    Call, Case, CaseId, LaunchSummary, Metric, MetricSummary, NoiseModel, Plan, RunId, Severity, WorkloadKind,
};
use crate::exit::Exit;
use crate::render::format;
use crate::render::table::{Cell, Column, Row, Section, Table};
use crate::runner::Ending;
use crate::store::Store;
use crate::suite::Suite;
use crate::verdict::builds::Builds;
use crate::verdict::calibration::{self, CHOICE_PAIRS, Learnt};
use crate::verdict::confirm::Rules;
use crate::verdict::escalate;
use crate::verdict::paired::PAIRS_MAX;

/// Work added to prove the gate, as a multiple of the severe threshold.
const PROOF: f64 = 2.0;
/// The most that a workload can be told to add.
const MOST_PROOF: f64 = 9.0;

/// Everything learnt.
#[derive(Debug, Serialize)]
struct Calibration {
    suite: String,
    testbed: String,
    pairs: u32,
    metrics: Vec<MetricRow>,
    /// Absent where it was not asked for, or no case can be made to do more work.
    proof: Option<Proof>,
}

/// One metric of one case.
#[derive(Debug, Serialize)]
struct MetricRow {
    #[serde(flatten)]
    model: NoiseModel,
    gating: bool,
    /// Half-width of the interval that the most pairs can give, a fraction.
    noise_floor: f64,
    /// The smallest threshold, a fraction.
    minor: f64,
    /// What to do about a threshold that means nothing here.
    advice: Option<String>,
}

/// Injected work, and what was found of it.
#[derive(Debug, Serialize)]
struct Proof {
    /// As a fraction, by case.
    injected: BTreeMap<CaseId, f64>,
    /// Cases in which it was found severe, and pairs made.
    found: Vec<CaseId>,
    /// What was said of the others.
    missed: BTreeMap<CaseId, String>,
    pairs: usize,
}

/// Calibrates.
pub fn run(arguments: &Calibrate, context: &Context) -> Result<Exit> {
    session::listen_for_signals()?;
    let suite = load_suite(&suite_path_again(arguments.suite.as_ref(), context)?)?;
    let mut store = context.store()?;
    let machine = session::machine();
    let seed = arguments.seed.unwrap_or_else(session::fresh_seed);
    let plan = session::plan(&suite, &arguments.select, &machine, seed, None)?;
    let places = escalate::everything(&plan.cases);
    if places.is_empty() {
        context.tell("no case of this selection can run here; `regrade list` says why");
        return Ok(Exit::Nothing);
    }
    let here = Subject::here()?;
    let header = Header { tree: here.tree.clone(), testbed: session::testbed(&plan, &machine, &arguments.clocks) };
    let checkouts = checkouts(&suite, context)?;
    let (base, head) = match &checkouts {
        Some(checkouts) => (&checkouts.base, &checkouts.head),
        None => (&here.programs, &here.programs),
    };
    context.tell(&format!(
        "{}: {} pairs of each of {} against itself, seed {seed}",
        suite.info.name,
        arguments.pairs,
        format::plural(places.len(), "case", "cases")
    ));
    let mut measure = |escalated: &[usize], inject: BTreeMap<CaseId, f64>, most: usize, exhaustive: bool| {
        let sides = Sides { base, base_ref: None, head, head_ref: None };
        let request = Request {
            plan: &plan,
            escalated,
            sides,
            synthetic: (!inject.is_empty()).then(|| "regrade calibrate, to prove that the gate trips".to_owned()),
            inject,
            budget: arguments.budget,
            noise: store.noise(&suite.info.name, &header.testbed.key)?,
            builds: Builds::same(),
            rules: Rules { most, exhaustive },
            header: &header,
            clocks: &arguments.clocks,
        };
        paired::measure(&request, &mut store, context)
    };
    let session = measure(&places, BTreeMap::new(), arguments.pairs as usize, true)?;
    if session.sat.ending == Ending::Cancelled {
        context.tell("interrupted; the launches that were made are kept, nothing was learnt");
        return Ok(Exit::Environment);
    }
    let metrics = learn(&session, &suite, &header);
    if metrics.is_empty() {
        let failures: BTreeSet<String> = session.confirmation.failures().collect();
        note("too few pairs were measured to learn from");
        for failure in failures {
            note(&failure);
        }
        return Ok(Exit::Nothing);
    }
    let models: Vec<NoiseModel> = metrics.iter().map(|row| row.model.clone()).collect();
    let cancelled = |session: &Session| session.sat.ending == Ending::Cancelled;
    store_models(context, &models)?;
    let extra = if arguments.no_proof { BTreeMap::new() } else { injections(&plan, &places) };
    let proof = if extra.is_empty() {
        None
    } else {
        context.tell(&format!(
            "injecting real work into {}, to see whether the gate trips",
            format::plural(extra.len(), "case", "cases")
        ));
        let injected: Vec<usize> =
            places.iter().filter(|place| extra.contains_key(&plan.cases[**place].id)).copied().collect();
        let session = measure(&injected, extra.clone(), PAIRS_MAX, false)?;
        if cancelled(&session) {
            context.tell("interrupted; what was learnt is kept, the gate is not proven");
            return Ok(Exit::Environment);
        }
        Some(prove(&session, extra))
    };
    let calibration = Calibration {
        suite: suite.info.name.clone(),
        testbed: header.testbed.key.clone(),
        pairs: arguments.pairs,
        metrics,
        proof,
    };
    match arguments.format {
        Format::Json => print(format!("{}\n", serde_json::to_string_pretty(&calibration)?).as_bytes())?,
        Format::Text => print(text(&calibration, &header, context).as_bytes())?,
    }
    let refused: Vec<&MetricRow> =
        calibration.metrics.iter().filter(|row| row.gating && row.minor < row.noise_floor).collect();
    if !refused.is_empty() {
        return Err(usage(format!(
            "{} below the noise floor of this testbed: {}",
            format::plural(refused.len(), "threshold lies", "thresholds lie"),
            refused
                .iter()
                .map(|row| format!(
                    "{} of {}: {}",
                    row.model.metric,
                    row.model.case,
                    row.advice.as_deref().unwrap_or("")
                ))
                .collect::<Vec<_>>()
                .join("; ")
        )));
    }
    let unproven = calibration.proof.as_ref().is_some_and(|proof| !proof.missed.is_empty());
    Ok(if unproven { Exit::Inconclusive } else { Exit::Pass })
}

fn store_models(context: &Context, models: &[NoiseModel]) -> Result<()> {
    let mut store = context.store()?;
    store.put_noise(models)?;
    context.tell(&format!("learnt the noise of {}", format::plural(models.len(), "metric", "metrics")));
    Ok(())
}

/// The work tree built as `compare` would, where that matters: the suite builds the commands that it runs, or measures
/// its worker in several orders of code. Other built-in workloads are run by this very program.
fn checkouts(suite: &Suite, context: &Context) -> Result<Option<Checkouts>> {
    let Some(repository) = Repository::discover() else { return Ok(None) };
    if suite.build.command.is_empty() || (suite.build.worker.is_some() && suite.build.layouts < 2) {
        return Ok(None);
    }
    let here = repository.work_tree(&[&context.db])?;
    let checkouts = arms::prepare_alike(&repository, &here, suite, &CANCELLED, context)?;
    if let Some(why) = &checkouts.note {
        note(why);
    }
    Ok(Some(checkouts))
}

/// A model of every metric that has pairs enough.
fn learn(session: &Session, suite: &Suite, header: &Header) -> Vec<MetricRow> {
    let judged = |launch: &LaunchSummary| -> Vec<Metric> {
        launch.metrics.iter().map(|summary| summary.metric.clone()).filter(|metric| !metric.derived).collect()
    };
    let metrics: Vec<(&Case, &[[LaunchSummary; 2]], Metric)> = session
        .confirmation
        .launches()
        .flat_map(|(case, pairs)| {
            let known = pairs.first().map(|[launch, _]| judged(launch)).unwrap_or_default();
            known.into_iter().map(move |metric| (case, pairs, metric))
        })
        .collect();
    let comparisons = metrics.iter().filter(|(case, _, metric)| case.gates(&metric.name)).count();
    let measured = Timestamp::now();
    metrics
        .into_iter()
        .filter_map(|(case, pairs, metric)| {
            let of = |launch: &'_ LaunchSummary| -> Option<MetricSummary> {
                launch.metrics.iter().find(|summary| summary.metric.name == metric.name).cloned()
            };
            let found: Vec<[MetricSummary; 2]> = pairs.iter().filter_map(|[a, b]| Some([of(a)?, of(b)?])).collect();
            let borrowed: Vec<[&MetricSummary; 2]> = found.iter().map(|[a, b]| [a, b]).collect();
            let thresholds = case.thresholds_for(&metric.name);
            let learnt = calibration::learn(&metric, &thresholds, &borrowed, comparisons, PAIRS_MAX)?;
            let noise_floor = calibration::noise_floor(learnt.pair_spread, PAIRS_MAX);
            Some(MetricRow {
                gating: case.gates(&metric.name),
                noise_floor,
                minor: thresholds.minor,
                advice: advice(thresholds.minor, noise_floor, &learnt),
                model: model(&learnt, case, &metric, found.len(), suite, header, measured),
            })
        })
        .collect()
}

fn model(
    learnt: &Learnt,
    case: &Case,
    metric: &Metric,
    pairs: usize,
    suite: &Suite,
    header: &Header,
    measured: Timestamp,
) -> NoiseModel {
    NoiseModel {
        testbed: header.testbed.key.clone(),
        suite: suite.info.name.clone(),
        case: case.id.clone(),
        metric: metric.name.clone(),
        measured,
        statistic: learnt.statistic,
        pair_spread: learnt.pair_spread,
        pair_deviation: learnt.pair_deviation,
        pairs: pairs as u32,
        false_alarms: learnt.false_alarms,
        trials: learnt.trials,
        smallest_detectable: learnt.smallest_detectable,
        unchanged_pairs: learnt.unchanged_pairs,
    }
}

/// What to do where a threshold asks for more than this testbed can tell.
fn advice(minor: f64, floor: f64, learnt: &Learnt) -> Option<String> {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let smallest = learnt.smallest_detectable;
    if minor >= floor && smallest.is_some_and(|smallest| minor >= smallest) {
        return None;
    }
    let wanted = smallest.unwrap_or(floor).max(floor);
    let raise = format!("\"{}%\"", (1000.0 * wanted).ceil() / 10.0);
    Some(if minor < floor {
        format!(
            "minor = {} is below the noise floor of {}; raise it to {raise}, lengthen the launches (`min_time`), or calm \
             the machine (`regrade doctor`)",
            percent(minor),
            percent(floor)
        )
    } else {
        format!("changes near minor = {} will often stay inconclusive; {raise} is seen in four of five", percent(minor))
    })
}

/// Extra work for every case that can be made to do more: twice its severe threshold.
fn injections(plan: &Plan, places: &[usize]) -> BTreeMap<CaseId, f64> {
    places
        .iter()
        .map(|place| &plan.cases[*place])
        .filter(|case| case.workload.kind != WorkloadKind::Command)
        .map(|case| (case.id.clone(), (PROOF * case.thresholds_for(Metric::LATENCY).severe).min(MOST_PROOF)))
        .collect()
}

fn prove(session: &Session, injected: BTreeMap<CaseId, f64>) -> Proof {
    let run = RunId::fresh();
    let (rows, _) = session.confirmation.rows(run, run, Severity::Severe);
    let mut proof =
        Proof { found: Vec::new(), missed: BTreeMap::new(), pairs: session.confirmation.pairs_made(), injected };
    for case in proof.injected.keys() {
        let row = rows.iter().find(|row| row.case == *case && row.metric.name == Metric::LATENCY);
        match row {
            Some(row) if row.verdict.call == Call::Regressed && row.verdict.severity == Severity::Severe => {
                proof.found.push(case.clone());
            }
            Some(row) => {
                let verdict = &row.verdict;
                proof.missed.insert(case.clone(), format!("{} {}: {}", verdict.call, verdict.severity, verdict.note));
            }
            None => {
                proof.missed.insert(case.clone(), "not measured".to_owned());
            }
        }
    }
    proof
}

const COLUMNS: [Column; 8] = [
    Column::new("", false, false),
    Column::new("metric", false, false),
    Column::new("statistic", false, true),
    Column::new("a pair's spread", true, true),
    Column::new("noise floor", true, false),
    Column::new("detectable", true, false),
    Column::new("false alarms", true, true),
    Column::new("launches", true, false),
];

fn text(calibration: &Calibration, header: &Header, context: &Context) -> String {
    let style = context.style();
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let rows = calibration
        .metrics
        .iter()
        .map(|row| {
            let model = &row.model;
            let cells = vec![
                Cell::plain(if row.gating { "*" } else { "" }),
                Cell::plain(model.metric.as_str()),
                Cell::plain(model.statistic.as_str()),
                Cell::plain(percent(model.pair_spread.exp_m1())),
                Cell::plain(percent(row.noise_floor)),
                Cell::plain(model.smallest_detectable.map_or_else(|| "none".to_owned(), percent)),
                Cell::plain(format!("{} of {}", model.false_alarms, model.trials)),
                Cell::plain(format!("{:.0}", 2.0 * model.unchanged_pairs)),
            ];
            let below = row.advice.as_ref().filter(|_| row.gating).map(|advice| Cell::plain(advice.as_str()));
            Row { label: model.case.to_string(), cells, below }
        })
        .collect();
    let table = Table {
        columns: COLUMNS.to_vec(),
        label: "case",
        sections: vec![Section { heading: None, rows, closing: None }],
    };
    let mut out = format!("{} on {}\n\n", calibration.suite, header.testbed.label());
    for line in table.lines(style.width, style.colour) {
        out += &line;
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "\n* may fail CI · spread of a pair's difference without any change · noise floor: 95 % interval of {PAIRS_MAX} pairs \
         · detectable: smallest slowdown found in four of five · launches: what \"unchanged\" takes"
    );
    if calibration.pairs < CHOICE_PAIRS as u32 {
        let _ = writeln!(
            out,
            "{} pairs are too few to choose another statistic than the median; {CHOICE_PAIRS} are the least",
            calibration.pairs
        );
    }
    match &calibration.proof {
        None => {
            out += "The gate was not proven: `--no-proof` was given, or no case here can be made to do more work.\n";
        }
        Some(proof) => out += &proven(proof),
    }
    out
}

/// Whether the gate trips: where it missed a single case, that is not shown.
fn proven(proof: &Proof) -> String {
    let said = if proof.missed.is_empty() { "The gate trips" } else { "The gate is not proven" };
    let mut out = format!(
        "{said}: injected real work was found severe in {} of {} ({} pairs).\n",
        proof.found.len(),
        format::plural(proof.injected.len(), "case", "cases"),
        proof.pairs
    );
    for (case, what) in &proof.missed {
        let _ = writeln!(out, "  not in {case}: {what}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_missed_a_case_is_not_said_to_trip() {
        let injected = [("a".into(), 0.3), ("b".into(), 0.3)];
        let mut proof = Proof {
            injected: injected.into(),
            found: vec!["a".into(), "b".into()],
            missed: BTreeMap::new(),
            pairs: 20,
        };
        assert!(proven(&proof).starts_with("The gate trips: injected real work was found severe in 2 of 2 cases"));
        proof.found.pop();
        proof.missed.insert("b".into(), "inconclusive none: too few pairs".to_owned());
        let said = proven(&proof);
        assert!(said.starts_with("The gate is not proven: ") && said.contains("1 of 2 cases"), "{said}");
        assert!(said.contains("not in b: inconclusive"), "{said}");
    }
}
