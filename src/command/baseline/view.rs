//! What `baseline list` and `baseline show` say, as data for JSON and as text for people.
//!
//! Must not know the store's inside: it is given headers and summaries.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::{CaseId, LaunchSummary, Metric, Outcome, OutcomeKind, Run, RunId, RunStatus};
use crate::render::format;
use crate::stats::quantile::quantile;
use crate::store::{Baseline, unfit_as_baseline};

/// Version of both JSON objects.
const VERSION: u32 = 1;
/// Enough of a UUIDv7 to hold its millisecond.
const SHORT_ID: usize = 13;
/// Enough of a commit hash.
const SHORT_COMMIT: usize = 7;

/// All of `baseline list`.
#[derive(Debug, Serialize)]
pub struct Listing {
    version: u32,
    baselines: Vec<Baseline>,
    runs: Vec<RunRow>,
}

/// A run in a list.
#[derive(Debug, Serialize)]
pub struct RunRow {
    id: RunId,
    suite: String,
    testbed: String,
    machine: String,
    branch: Option<String>,
    commit: Option<String>,
    dirty: bool,
    status: RunStatus,
    started: Timestamp,
    finished: Option<Timestamp>,
    cases: usize,
    launches: u64,
    /// Names that stand for it.
    names: Vec<String>,
    /// Why it cannot be a base, if it cannot.
    unfit: Option<String>,
}

impl RunRow {
    /// The row of a run.
    pub fn new(run: &Run, launches: u64, baselines: &[Baseline]) -> Self {
        Self {
            id: run.id,
            suite: run.suite.name.clone(),
            testbed: run.testbed.key.clone(),
            machine: run.testbed.label(),
            branch: run.branch.clone(),
            commit: run.commit.clone(),
            dirty: run.dirty,
            status: run.status,
            started: run.started,
            finished: run.finished,
            cases: run.cases.len(),
            launches,
            names: names_of(run.id, baselines),
            unfit: unfit_as_baseline(run),
        }
    }

    fn group(&self) -> (&str, &str, Option<&str>) {
        (&self.suite, &self.testbed, self.branch.as_deref())
    }

    fn cells(&self) -> Vec<String> {
        vec![
            short(&self.id.to_string(), SHORT_ID),
            format::moment(self.started),
            commit(self.commit.as_deref(), self.dirty),
            self.status.to_string(),
            format::plural(self.launches as usize, "launch", "launches"),
        ]
    }
}

fn names_of(run: RunId, baselines: &[Baseline]) -> Vec<String> {
    let names = baselines.iter().filter(|baseline| baseline.run == run);
    names.map(|baseline| baseline.name.clone()).collect()
}

impl Listing {
    /// Of names and of runs, the newest first.
    pub fn new(baselines: Vec<Baseline>, runs: Vec<RunRow>) -> Self {
        Self { version: VERSION, baselines, runs }
    }

    /// For people: names, then runs under a heading for each suite, testbed and branch.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.baselines.is_empty() {
            writeln!(out, "no named baselines; `regrade baseline promote RUN NAME` makes one")?;
        } else {
            writeln!(out, "baselines")?;
            let rows = self.baselines.iter().map(|baseline| {
                let id = short(&baseline.run.to_string(), SHORT_ID);
                vec![baseline.name.clone(), id, format!("since {}", format::moment(baseline.since))]
            });
            write_table(out, &rows.collect::<Vec<_>>())?;
        }
        if self.runs.is_empty() {
            return writeln!(out, "\nno runs match; `regrade run SUITE` makes one");
        }
        let mut groups: Vec<Vec<&RunRow>> = Vec::new();
        for run in &self.runs {
            match groups.iter_mut().find(|group| group[0].group() == run.group()) {
                Some(group) => group.push(run),
                None => groups.push(vec![run]),
            }
        }
        for group in groups {
            let first = group[0];
            writeln!(
                out,
                "\n{} on {} [{}], {}",
                first.suite,
                first.machine,
                first.testbed,
                branch(first.branch.as_deref())
            )?;
            let rows = table(&group.iter().map(|run| run.cells()).collect::<Vec<_>>());
            for (run, row) in group.iter().zip(rows) {
                writeln!(out, "{row}")?;
                if !run.names.is_empty() {
                    writeln!(out, "    baseline {}", run.names.join(", "))?;
                }
                if let Some(why) = &run.unfit {
                    writeln!(out, "    not fit as base: {why}")?;
                }
            }
        }
        Ok(())
    }
}

/// All of `baseline show`.
#[derive(Debug, Serialize)]
pub struct Detail {
    version: u32,
    names: Vec<String>,
    unfit: Option<String>,
    launches: usize,
    cases: Vec<CaseDetail>,
    run: Run,
}

/// A case of a run, over its launches.
#[derive(Debug, Serialize)]
struct CaseDetail {
    id: CaseId,
    skipped: Option<Outcome>,
    /// How many launches ended how.
    outcomes: BTreeMap<OutcomeKind, usize>,
    metrics: Vec<MetricDetail>,
}

/// A metric over the measured launches of a case.
#[derive(Debug, Serialize)]
struct MetricDetail {
    metric: Metric,
    launches: usize,
    samples: u64,
    /// Median of the launches' medians, in the metric's unit.
    median: f64,
}

impl Detail {
    /// Of a run and the summaries of its launches.
    pub fn new(baselines: &[Baseline], launches: &[LaunchSummary], run: Run) -> Self {
        let mut by_case: BTreeMap<&CaseId, Vec<&LaunchSummary>> = BTreeMap::new();
        for launch in launches {
            by_case.entry(&launch.case).or_default().push(launch);
        }
        let cases = run.cases.iter().map(|record| {
            let launches = by_case.get(&record.case.id).map_or(&[][..], Vec::as_slice);
            let mut outcomes = BTreeMap::new();
            for launch in launches {
                *outcomes.entry(launch.outcome.kind).or_insert(0) += 1;
            }
            CaseDetail {
                id: record.case.id.clone(),
                skipped: record.skipped.clone(),
                outcomes,
                metrics: metrics(launches),
            }
        });
        Self {
            version: VERSION,
            names: names_of(run.id, baselines),
            unfit: unfit_as_baseline(&run),
            launches: launches.len(),
            cases: cases.collect(),
            run,
        }
    }

    /// For people.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let run = &self.run;
        let finished = run.finished.map_or_else(|| "not yet".to_owned(), format::moment);
        let mut rows = vec![
            ("run", run.id.to_string()),
            ("names", self.names.join(", ")),
            ("status", run.status.to_string()),
            ("not fit as base", self.unfit.clone().unwrap_or_default()),
            ("suite", format!("{} ({})", run.suite.name, short(&run.suite.hash, 12))),
            ("commit", commit(run.commit.as_deref(), run.dirty)),
            ("branch", run.branch.clone().unwrap_or_else(|| "none".to_owned())),
            ("testbed", format!("{} [{}]", run.testbed.label(), run.testbed.key)),
            ("toolchain", run.toolchain.clone()),
            ("regrade", run.regrade_version.clone()),
            ("command", run.command_line.clone()),
            ("seed", run.seed.to_string()),
            ("started", format::moment(run.started)),
            ("finished", finished),
            ("cases", run.cases.len().to_string()),
            ("launches", self.launches.to_string()),
        ];
        rows.retain(|(_, value)| !value.is_empty());
        let rows = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]);
        write_table(out, &rows.collect::<Vec<_>>())?;
        for case in &self.cases {
            writeln!(out, "\n{}  {}", case.id, case.ending())?;
            let rows = case.metrics.iter().map(|row| {
                vec![
                    row.metric.name.clone(),
                    format::quantity(row.median, &row.metric.unit),
                    format!(
                        "{}, {}",
                        format::plural(row.launches, "launch", "launches"),
                        format::plural(row.samples as usize, "sample", "samples")
                    ),
                ]
            });
            write_table(out, &rows.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

impl CaseDetail {
    fn ending(&self) -> String {
        if let Some(skipped) = &self.skipped {
            return format!("{}: {}", skipped.kind, skipped.reason.as_deref().unwrap_or("no reason given"));
        }
        if self.outcomes.is_empty() {
            return "no launch".to_owned();
        }
        let counted: Vec<String> = self.outcomes.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        counted.join(", ")
    }
}

/// One row a metric, in the order of the first launch that has it.
fn metrics(launches: &[&LaunchSummary]) -> Vec<MetricDetail> {
    let mut rows: Vec<(&Metric, u64, Vec<f64>)> = Vec::new();
    let measured = launches.iter().filter(|launch| launch.outcome.kind == OutcomeKind::Measured);
    for summary in measured.flat_map(|launch| &launch.metrics) {
        match rows.iter_mut().find(|(metric, ..)| metric.name == summary.metric.name) {
            Some((_, samples, medians)) => {
                *samples += summary.n;
                medians.push(summary.median);
            }
            None => rows.push((&summary.metric, summary.n, vec![summary.median])),
        }
    }
    rows.into_iter()
        .map(|(metric, samples, mut medians)| {
            medians.sort_by(f64::total_cmp);
            MetricDetail { metric: metric.clone(), launches: medians.len(), samples, median: quantile(&medians, 0.5) }
        })
        .collect()
}

fn short(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

fn commit(commit: Option<&str>, dirty: bool) -> String {
    let short = commit.map_or_else(|| "no commit".to_owned(), |hash| short(hash, SHORT_COMMIT));
    if dirty { format!("{short} (dirty)") } else { short }
}

fn branch(branch: Option<&str>) -> String {
    branch.map_or_else(|| "no branch".to_owned(), |name| format!("branch {name}"))
}

/// Rows indented by two, columns aligned.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}"));
        cells.collect::<Vec<_>>().concat().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn write_table(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    table(rows).iter().try_for_each(|row| writeln!(out, "{row}"))
}
