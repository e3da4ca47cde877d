//! Builds the view model from what was decided.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::{
    CaseId, CaseRecord, Evidence, LaunchId, LaunchSummary, Metric, Outcome, OutcomeKind, Price, Run, RunId, Severity,
};
use crate::report::{
    CaseView, ContextValue, LaunchValue, MetricView, PairedInfo, PriceRow, ReferenceRow, Report, Row, RunInfo, RunView,
    SCHEMA_VERSION, Side, SuiteOutcome, TargetRow,
};
use crate::stats::quantile::median;
use crate::verdict::policy::{SuiteDecision, is_failure};
use crate::verdict::target::Aimed;
use crate::verdict::{Judged, Judgement, Session, SideValues};

/// Sample vectors by launch and metric name, for the rows that show them.
pub type SampleSource<'a> = dyn Fn(RunId, LaunchId, &CaseId, &str) -> Option<Vec<f64>> + 'a;

/// Everything a report is built from.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The judged run.
    pub head: &'a Run,
    /// Its launches.
    pub head_launches: &'a [LaunchSummary],
    /// Headers of the runs that play base, in the order of `history`.
    pub base: &'a [&'a Run],
    /// Their launches.
    pub history: &'a [Session],
    /// What was decided.
    pub judgement: &'a Judgement<'a>,
    /// And about the targets.
    pub targets: &'a [Aimed<'a>],
    /// What it amounts to.
    pub decision: &'a SuiteDecision,
    /// File of the suite.
    pub suite_file: Option<String>,
    /// The severity from which CI fails.
    pub gate: Severity,
    /// Further findings.
    pub notes: Vec<String>,
    /// The command to type next.
    pub next: Option<String>,
    /// The paired session, where there was one.
    pub paired: Option<PairedInfo>,
    /// The prices that costs of head were made of.
    pub prices: Vec<Price>,
    /// When the report is made.
    pub at: Timestamp,
}

/// Builds a report. `samples` is asked for every launch of every row, and may decline.
#[must_use]
pub fn report(parts: Parts<'_>, samples: &SampleSource<'_>) -> Report {
    let records: BTreeMap<&CaseId, &CaseRecord> =
        parts.head.cases.iter().map(|record| (&record.case.id, record)).collect();
    let lines = lines(&parts.head.suite.text);
    let rows = parts
        .judgement
        .rows
        .iter()
        .map(|row| {
            let mut made = row_of(row, records.get(&row.case).copied(), samples);
            made.line = lines.get(made.benchmark.as_str()).copied();
            made
        })
        .collect();
    let mut notes = parts.judgement.notes.clone();
    notes.extend(parts.notes);
    let toolchains: Vec<&str> = parts.base.iter().map(|run| run.toolchain.as_str()).collect();
    notes.extend(other_toolchains(&parts.head.toolchain, &toolchains));
    Report {
        schema_version: SCHEMA_VERSION,
        regrade_version: env!("CARGO_PKG_VERSION").to_owned(),
        generated: parts.at,
        suite: parts.head.suite.name.clone(),
        suite_file: parts.suite_file,
        gate: parts.gate,
        testbed: parts.head.testbed.clone(),
        head: RunInfo::of(parts.head, parts.head_launches.len() as u64),
        base: parts
            .base
            .iter()
            .zip(parts.history)
            .map(|(run, session)| RunInfo::of(run, session.launches.len() as u64))
            .collect(),
        paired: parts.paired,
        outcome: SuiteOutcome {
            exit_code: parts.decision.exit.code(),
            headline: parts.decision.headline.clone(),
            next: parts.next,
            counts: parts.decision.counts.clone(),
        },
        rows,
        targets: target_rows(parts.head, parts.targets),
        context: context(parts.head, parts.head_launches, parts.history),
        prices: price_rows(parts.prices, parts.head),
        reference: parts
            .judgement
            .reference
            .iter()
            .map(|moved| ReferenceRow {
                case: moved.case.clone(),
                base: moved.base,
                head: moved.head,
                change: moved.base.zip(moved.head).map(|(base, head)| head / base - 1.0),
                base_launches: parts
                    .history
                    .iter()
                    .flat_map(|session| latencies(session.run, &session.launches, &moved.case, samples))
                    .collect(),
                head_launches: latencies(parts.head.id, parts.head_launches, &moved.case, samples),
            })
            .collect(),
        notes,
    }
}

/// Says with which other compilers and engines the base was measured: they make no other testbed, so nothing else tells.
fn other_toolchains(head: &str, base: &[&str]) -> Option<String> {
    let differs = || base.iter().copied().filter(|one| *one != head);
    let others: Vec<&str> = differs().collect::<BTreeSet<_>>().into_iter().collect();
    let whose = match differs().count() {
        0 => return None,
        all if all == base.len() => "the base was".to_owned(),
        1 => format!("1 of {} runs of the base was", base.len()),
        some => format!("{some} of {} runs of the base were", base.len()),
    };
    Some(format!("{whose} measured with {}, head with {head}", others.join(" and with ")))
}

/// Lines of a suite's text that name a benchmark, from 1.
fn lines(text: &str) -> BTreeMap<&str, u32> {
    let mut inside = false;
    let mut found = BTreeMap::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.starts_with('[') {
            inside = line.starts_with("[[benchmark]]");
        }
        let name = line.strip_prefix("name").map(str::trim_start).and_then(|rest| rest.strip_prefix('='));
        let name = name.and_then(|rest| rest.trim().strip_prefix('"')?.split('"').next());
        if let Some(name) = name.filter(|_| inside) {
            found.entry(name).or_insert(number);
        }
    }
    found
}

fn row_of(row: &Judged<'_>, record: Option<&CaseRecord>, samples: &SampleSource<'_>) -> Row {
    let side = |side: &SideValues<'_>| side_of(side, &row.metric.name, samples);
    Row {
        case: row.case.clone(),
        line: None,
        benchmark: record.map_or_else(|| row.case.as_str().to_owned(), |record| record.case.benchmark.clone()),
        backend: record.map_or_else(String::new, |record| record.case.backend.clone()),
        owner: record.and_then(|record| record.case.owner.clone()),
        metric: row.metric.clone(),
        gating: row.gating,
        fails: row.fails,
        thresholds: row.thresholds,
        base: row.base.as_ref().and_then(side),
        head: row.head.as_ref().and_then(side),
        outcome: row.outcome.clone(),
        verdict: row.verdict.clone(),
        smallest_detectable: row.smallest_detectable,
        paired: row.paired,
    }
}

/// One side of a row. JSON has no word for NaN or infinity: a side that holds one is left out, the verdict says what it was.
fn side_of(side: &SideValues<'_>, metric: &str, samples: &SampleSource<'_>) -> Option<Side> {
    let finite = side.value.is_finite() && side.launches.iter().all(|used| used.value.is_finite());
    finite.then(|| Side {
        value: side.value,
        launches: side
            .launches
            .iter()
            .map(|used| LaunchValue {
                run: used.run,
                launch: used.launch.id,
                value: used.value,
                n: used.n,
                samples: samples(used.run, used.launch.id, &used.launch.case, metric)
                    .filter(|values| values.iter().all(|value| value.is_finite())),
            })
            .collect(),
    })
}

/// The targets of a run. A launch's median is all that they rest on, so that no samples go with it.
fn target_rows(head: &Run, targets: &[Aimed<'_>]) -> Vec<TargetRow> {
    let records: BTreeMap<&CaseId, &CaseRecord> = head.cases.iter().map(|record| (&record.case.id, record)).collect();
    let lines = lines(&head.suite.text);
    let row = |aimed: &Aimed<'_>| {
        let first = || head.cases.iter().find(|record| record.case.targets.contains(aimed.target));
        let case = records.get(&aimed.case).copied().or_else(first).map(|record| &record.case);
        let side = |side: &SideValues<'_>| side_of(side, &aimed.metric.name, &|_, _, _, _| None);
        let benchmark = case.map_or_else(|| aimed.case.as_str().to_owned(), |case| case.benchmark.clone());
        TargetRow {
            case: aimed.case.clone(),
            line: lines.get(benchmark.as_str()).copied(),
            benchmark,
            owner: case.and_then(|case| case.owner.clone()),
            target: aimed.target.clone(),
            metric: aimed.metric.clone(),
            head: aimed.head.as_ref().and_then(side),
            other: aimed.other.as_ref().and_then(side),
            fails: aimed.fails,
            verdict: aimed.verdict.clone(),
        }
    };
    targets.iter().map(row).collect()
}

/// The latency of a reference workload in the launches of one run.
fn latencies(run: RunId, launches: &[LaunchSummary], case: &CaseId, samples: &SampleSource<'_>) -> Vec<LaunchValue> {
    let of_case = launches.iter().filter(|launch| launch.case == *case && launch.outcome.kind == OutcomeKind::Measured);
    of_case
        .filter_map(|launch| {
            let found = launch.metrics.iter().find(|summary| summary.metric.name == Metric::LATENCY)?;
            found.median.is_finite().then(|| LaunchValue {
                run,
                launch: launch.id,
                value: found.median,
                n: found.n,
                samples: samples(run, launch.id, case, Metric::LATENCY),
            })
        })
        .collect()
}

/// Derived metrics of every case, medians over all launches of a side.
fn context(head: &Run, head_launches: &[LaunchSummary], history: &[Session]) -> Vec<ContextValue> {
    let base = derived(history.iter().flat_map(|session| &session.launches));
    let order: BTreeMap<&CaseId, usize> =
        head.cases.iter().enumerate().map(|(place, record)| (&record.case.id, place)).collect();
    let mut values: Vec<ContextValue> = derived(head_launches.iter())
        .into_values()
        .filter(|(case, ..)| order.contains_key(case))
        .map(|(case, metric, values)| {
            let key = (case.as_str(), metric.name.as_str(), metric.unit.as_str());
            ContextValue {
                case: case.clone(),
                metric: metric.clone(),
                base: base.get(&key).map(|(.., values)| median(values)),
                head: Some(median(&values)),
            }
        })
        .collect();
    values.sort_by_key(|value| order.get(&value.case).copied());
    values
}

/// By case, name and unit: costs may have been in another currency.
type Derived<'a> = BTreeMap<(&'a str, &'a str, &'a str), (&'a CaseId, &'a Metric, Vec<f64>)>;

fn derived<'a>(launches: impl Iterator<Item = &'a LaunchSummary>) -> Derived<'a> {
    let mut map = Derived::new();
    for launch in launches.filter(|launch| launch.outcome.kind == OutcomeKind::Measured) {
        for summary in launch.metrics.iter().filter(|summary| summary.metric.derived && summary.median.is_finite()) {
            let key = (launch.case.as_str(), summary.metric.name.as_str(), summary.metric.unit.as_str());
            map.entry(key).or_insert_with(|| (&launch.case, &summary.metric, Vec::new())).2.push(summary.median);
        }
    }
    map
}

fn price_rows(prices: Vec<Price>, run: &Run) -> Vec<PriceRow> {
    prices.into_iter().map(|price| PriceRow::of(price, run.started)).collect()
}

/// Which costs of head and base are no comparison of the work, because the price of a device is another: one sentence each.
#[must_use]
pub fn other_prices(head: &[Price], base: &[Price]) -> Vec<String> {
    let differs = |own: &Price, old: &Price| own.per_hour != old.per_hour || own.currency != old.currency;
    head.iter()
        .filter(|own| base.iter().any(|old| old.device == own.device && differs(own, old)))
        .map(|own| {
            let device = &own.device;
            format!("the price of `{device}` is another than in the base: costs differ by more than the work there")
        })
        .collect()
}

/// Which cases ran another program than in `base`, by what XLA's engine tells of each: the file changed, not only what runs it.
#[must_use]
pub fn other_programs(head: &[(CaseId, Evidence)], base: &[(CaseId, Evidence)]) -> Vec<String> {
    let programs = |seen: &[(CaseId, Evidence)]| {
        let hash = |(case, evidence): &(CaseId, Evidence)| {
            Some((case.clone(), evidence.facts.get("program_sha256")?.as_str()?.to_owned()))
        };
        seen.iter().filter_map(hash).collect::<BTreeMap<CaseId, String>>()
    };
    let base = programs(base);
    let differs = |(case, hash): &(CaseId, String)| base.get(case).is_some_and(|old| old != hash);
    programs(head)
        .into_iter()
        .filter(differs)
        .map(|(case, _)| format!("`{case}` runs another program than in the base: its file changed"))
        .collect()
}

/// Builds the view of a single run, with what was decided about its `targets`, the `prices` that its costs were made of, and what was
/// `seen` of GPUs.
#[must_use]
pub fn run_view(
    run: &Run,
    launches: &[LaunchSummary],
    targets: &[Aimed<'_>],
    prices: Vec<Price>,
    seen: &[(CaseId, Evidence)],
) -> RunView {
    let mut by_case: BTreeMap<&CaseId, Vec<&LaunchSummary>> = BTreeMap::new();
    for launch in launches {
        by_case.entry(&launch.case).or_default().push(launch);
    }
    let cases = run
        .cases
        .iter()
        .map(|record| {
            let launches = by_case.get(&record.case.id).map_or(&[][..], Vec::as_slice);
            CaseView {
                case: record.case.id.clone(),
                outcome: record
                    .skipped
                    .clone()
                    .unwrap_or_else(|| Outcome::worst(launches.iter().map(|launch| &launch.outcome))),
                launches: launches.iter().filter(|launch| launch.outcome.kind == OutcomeKind::Measured).count() as u32,
                reference: record.case.reference,
                metrics: metric_views(launches),
                labels: labels(seen.iter().filter(|(case, _)| *case == record.case.id).map(|(_, evidence)| evidence)),
            }
        })
        .collect();
    RunView {
        schema_version: SCHEMA_VERSION,
        suite: run.suite.name.clone(),
        run: RunInfo::of(run, launches.len() as u64),
        testbed: run.testbed.clone(),
        cases,
        targets: target_rows(run, targets),
        prices: price_rows(prices, run),
    }
}

/// Characters of a reason in a label.
const LONGEST_REASON: usize = 80;

/// What held GPUs back or disturbed them, and what was asked for and is absent, in how many of the launches that looked.
fn labels<'e>(seen: impl Iterator<Item = &'e Evidence>) -> Vec<String> {
    let mut counts: BTreeMap<(String, &str), u32> = BTreeMap::new();
    let mut launches: BTreeMap<&str, u32> = BTreeMap::new();
    for evidence in seen {
        *launches.entry(&evidence.source).or_default() += 1;
        let limits = evidence.facts.get("limited_by").and_then(|limits| limits.as_object());
        let limits = limits.into_iter().flat_map(|limits| limits.keys()).filter(|limit| *limit != "idle").cloned();
        let unsettled = evidence.facts.get("settled").is_some_and(|settled| settled == false);
        let shared = evidence.facts.get("processes_before").and_then(serde_json::Value::as_u64) > Some(0);
        let own = [(unsettled, "clock not settled"), (shared, "others on the GPU")];
        let own = own.into_iter().filter(|(is, _)| *is).map(|(_, label)| label.to_owned());
        let absent = evidence.facts.get("no_device_time").and_then(serde_json::Value::as_str);
        let absent = absent.map(|reason| {
            let short: String = reason.chars().take(LONGEST_REASON).collect();
            format!("no device time ({short})")
        });
        for label in limits.chain(own).chain(absent) {
            *counts.entry((label, &evidence.source)).or_default() += 1;
        }
    }
    let told = |((label, source), count)| format!("{label} in {count} of {} launches", launches[source]);
    counts.into_iter().map(told).collect()
}

fn metric_views(launches: &[&LaunchSummary]) -> Vec<MetricView> {
    let mut views: Vec<(Metric, Vec<f64>, u64)> = Vec::new();
    for summary in
        launches.iter().filter(|launch| launch.outcome.kind == OutcomeKind::Measured).flat_map(|launch| &launch.metrics)
    {
        match views.iter_mut().find(|(metric, ..)| *metric == summary.metric) {
            Some((_, medians, n)) => {
                medians.push(summary.median);
                *n += summary.n;
            }
            None => views.push((summary.metric.clone(), vec![summary.median], summary.n)),
        }
    }
    views
        .into_iter()
        .map(|(metric, medians, n)| MetricView {
            metric,
            median: median(&medians),
            low: medians.iter().copied().fold(f64::INFINITY, f64::min),
            high: medians.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            n,
        })
        .collect()
}

/// Whether any case of a run failed, and whether any was measured.
#[must_use]
pub fn tally(view: &RunView) -> (usize, usize) {
    let cases = || view.cases.iter().filter(|case| !case.reference);
    let failed = cases().filter(|case| is_failure(case.outcome.kind)).count();
    let measured = cases().filter(|case| case.outcome.kind == OutcomeKind::Measured).count();
    (failed, measured)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_held_gpus_back_is_counted_over_the_launches_that_looked() {
        let saw = |facts: serde_json::Value| {
            let facts = facts.as_object().expect("facts").clone().into_iter().collect();
            Evidence { source: Evidence::GPU.to_owned(), facts }
        };
        let quiet = saw(json!({ "limited_by": { "idle": 3 }, "processes_before": 0, "settled": true }));
        let capped = saw(json!({ "limited_by": { "software power cap": 9, "idle": 1 }, "settled": false }));
        let shared = saw(json!({ "limited_by": { "software power cap": 1 }, "processes_before": 2 }));
        assert_eq!(labels([&quiet].into_iter()), Vec::<String>::new());
        assert_eq!(
            labels([&quiet, &capped, &shared].into_iter()),
            [
                "clock not settled in 1 of 3 launches",
                "others on the GPU in 1 of 3 launches",
                "software power cap in 2 of 3 launches"
            ]
        );
    }

    #[test]
    fn what_was_asked_for_and_is_absent_is_told_of_the_launches_of_its_own_source() {
        let saw = |source: &str, facts: serde_json::Value| {
            let facts = facts.as_object().expect("facts").clone().into_iter().collect();
            Evidence { source: source.to_owned(), facts }
        };
        let gpu = saw(Evidence::GPU, json!({ "limited_by": { "power": 1 } }));
        let told = saw(Evidence::XLA, json!({ "fingerprint": "f" }));
        let absent = saw(Evidence::XLA, json!({ "no_device_time": "the plugin has no profiler" }));
        assert_eq!(
            labels([&gpu, &told, &absent].into_iter()),
            ["no device time (the plugin has no profiler) in 1 of 2 launches", "power in 1 of 1 launches"]
        );
    }

    #[test]
    fn another_program_of_a_case_is_told() {
        let ran = |case: &str, hash: &str| {
            let facts = [("program_sha256".to_owned(), json!(hash))].into();
            (CaseId(case.to_owned()), Evidence { source: Evidence::XLA.to_owned(), facts })
        };
        let base = [ran("a", "1"), ran("b", "1"), ran("b", "1")];
        assert_eq!(other_programs(&base, &base), Vec::<String>::new());
        let head = [ran("a", "1"), ran("b", "2"), ran("b", "2"), ran("new", "3")];
        assert_eq!(other_programs(&head, &base), ["`b` runs another program than in the base: its file changed"]);
    }

    #[test]
    fn other_toolchains_of_the_base_are_told() {
        for (base, note) in [
            (&[][..], None),
            (&["a", "a"], None),
            (&["b", "b"], Some("the base was measured with b, head with a")),
            (&["a", "b"], Some("1 of 2 runs of the base was measured with b, head with a")),
            (&["c", "a", "b"], Some("2 of 3 runs of the base were measured with b and with c, head with a")),
        ] {
            assert_eq!(other_toolchains("a", base).as_deref(), note, "{base:?}");
        }
    }
}
