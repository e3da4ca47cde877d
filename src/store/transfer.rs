//! Moving runs between stores: JSON Lines out and in, and one store into another.
//!
//! An export is a header line, then for each run, the oldest first, one line with its header and one line a launch, then
//! the baselines' names, then what was accepted of the runs' suites. Importing is an idempotent union through
//! [`Store::merge`]: a run goes in whole or not at all, and of two things of one name the newer counts, so that the order
//! of unions does not matter. Must not know any engine.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use thiserror::Error;

use crate::domain::{Acceptance, Launch, NoiseModel, Run, RunId, RunStatus};
use crate::store::{Baseline, Knowledge, RunQuery, Store, StoreError};

mod numbers;

/// The version of the format; raised when a reader of this one would misread the next.
pub const VERSION: u32 = 1;

/// Why runs could not be moved.
#[derive(Debug, Error)]
pub enum TransferError {
    /// One of the stores could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file could not be read or written.
    #[error("{doing}: {source}")]
    Io {
        /// Which of the two.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A line of an import is wrong.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong and what to do.
        what: String,
    },
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Runs.
    pub runs: u64,
    /// Launches.
    pub launches: u64,
    /// Acceptances of the runs' suites.
    pub acceptances: u64,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Runs that were not here before.
    pub runs: u64,
    /// Launches that were not here before.
    pub launches: u64,
    /// Launches that were here already.
    pub known: u64,
    /// Names given to runs, or moved to them because they were given later than the same names here.
    pub names: Vec<String>,
    /// Names that were given to another run here later, and were left alone.
    pub names_kept: Vec<String>,
    /// Acceptances that were not here before.
    pub acceptances: u64,
    /// Noise models that were not here before, or are newer than the ones here; an export has none.
    pub noise: u64,
}

impl Imported {
    /// Whether anything here is other than before.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.runs + self.launches + self.acceptances + self.noise > 0 || !self.names.is_empty()
    }
}

/// A line of the file. Launches are moved as JSON values, see [`numbers`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line {
    RegradeExport {
        version: u32,
    },
    Run {
        /// How many launch lines follow.
        launches: u64,
        run: Box<Run>,
    },
    Launch {
        run: RunId,
        launch: Json,
    },
    Baseline(Baseline),
    Acceptance(Acceptance),
}

/// Writes the runs that are named, or all, the oldest first, and the names that stand for them.
///
/// # Errors
/// When a run is not there, or reading or writing fails.
pub fn export(store: &dyn Store, only: &[RunId], out: &mut dyn Write) -> Result<Exported, TransferError> {
    let mut runs = if only.is_empty() {
        store.runs(&RunQuery::default())?
    } else {
        only.iter().map(|id| store.run(&id.to_string())).collect::<Result<_, _>>()?
    };
    runs.sort_by_key(|run| (run.started, run.id));
    runs.dedup_by_key(|run| run.id);

    let mut exported = Exported::default();
    write_line(out, &Line::RegradeExport { version: VERSION })?;
    let mut ids = Vec::with_capacity(runs.len());
    let suites: BTreeSet<String> = runs.iter().map(|run| run.suite.name.clone()).collect();
    for run in runs {
        let id = run.id;
        ids.push(id);
        let launches = store.launches(id, None)?;
        write_line(out, &Line::Run { launches: launches.len() as u64, run: Box::new(run) })?;
        exported.runs += 1;
        for launch in &launches {
            let launch = numbers::to_json(launch).map_err(|e| unwritable(e.into()))?;
            write_line(out, &Line::Launch { run: id, launch })?;
            exported.launches += 1;
        }
    }
    for baseline in store.baselines()? {
        if ids.contains(&baseline.run) {
            write_line(out, &Line::Baseline(baseline))?;
        }
    }
    for suite in suites {
        for acceptance in store.acceptances(&suite)? {
            write_line(out, &Line::Acceptance(acceptance))?;
            exported.acceptances += 1;
        }
    }
    out.flush().map_err(unwritable)?;
    Ok(exported)
}

fn write_line(out: &mut dyn Write, line: &Line) -> Result<(), TransferError> {
    serde_json::to_writer(&mut *out, line)
        .map_err(io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .map_err(unwritable)
}

fn unwritable(source: io::Error) -> TransferError {
    TransferError::Io { doing: "writing the export", source }
}

/// Reads an export into a store. Runs before a broken line stay imported, the run that it belongs to does not.
///
/// # Errors
/// With the number of the line that is wrong, or of the run's line when the store refuses the run.
pub fn import(from: &mut dyn BufRead, store: &mut dyn Store) -> Result<Imported, TransferError> {
    let mut lines = Lines { from, number: 0 };
    match lines.next()? {
        Some(Line::RegradeExport { version: VERSION }) => {}
        Some(Line::RegradeExport { version }) => {
            return Err(lines.wrong(format!(
                "format version {version}; this regrade reads {VERSION}: import with the regrade that exported, or a newer one"
            )));
        }
        _ => {
            return Err(
                lines.wrong("not an export of regrade: the first line must say {\"type\":\"regrade-export\",…}")
            );
        }
    }
    let mut imported = Imported::default();
    while let Some(line) = lines.next()? {
        match line {
            Line::Run { launches, run } => import_run(&mut lines, &run, launches, store, &mut imported)?,
            Line::Baseline(baseline) => {
                name(&baseline, store, &mut imported).map_err(|e| lines.wrong(e.to_string()))?;
            }
            Line::Acceptance(acceptance) => accept(&acceptance, store, &mut imported)?,
            Line::Launch { .. } => return Err(lines.wrong("a launch before its run; the file was cut or reordered")),
            Line::RegradeExport { .. } => {
                return Err(lines.wrong("a second header; import exports one at a time"));
            }
        }
    }
    Ok(imported)
}

fn import_run(
    lines: &mut Lines<'_>,
    run: &Run,
    announced: u64,
    store: &mut dyn Store,
    imported: &mut Imported,
) -> Result<(), TransferError> {
    let header_line = lines.number;
    let mut launches = Vec::new();
    while (launches.len() as u64) < announced {
        match lines.next()? {
            Some(Line::Launch { run: of, launch }) if of == run.id => {
                let launch = numbers::from_json(launch).map_err(|what| lines.wrong(format!("launch: {what}")))?;
                if !run.cases.iter().any(|record| record.case.id == launch.case) {
                    return Err(lines.wrong(format!("run {} has no case `{}`", run.id, launch.case)));
                }
                launches.push(launch);
            }
            Some(_) => {
                return Err(lines.wrong(format!(
                    "expected launch {} of {announced} of run {}; the file was cut or reordered, export again",
                    launches.len() + 1,
                    run.id
                )));
            }
            None => {
                return Err(lines.wrong(format!(
                    "the file ends after {} of {announced} launches of run {}; it was cut short, export again",
                    launches.len(),
                    run.id
                )));
            }
        }
    }
    merge(run, &launches, store, imported).map_err(|e| TransferError::Line { line: header_line, what: e.to_string() })
}

/// Adds everything of one store to another.
///
/// # Errors
/// When one of the stores fails or refuses; runs already moved stay.
pub fn merge_all(from: &dyn Store, into: &mut dyn Store) -> Result<Imported, TransferError> {
    merge_some(from, into, &|_| true)
}

/// Adds to a store the runs of another that `takes` lets through, the names of runs that are in both then, and all that
/// is known beside the runs.
///
/// # Errors
/// When one of the stores fails or refuses; runs already moved stay.
pub fn merge_some(
    from: &dyn Store,
    into: &mut dyn Store,
    takes: &dyn Fn(&Run) -> bool,
) -> Result<Imported, TransferError> {
    let mut imported = Imported::default();
    let mut here: HashMap<RunId, Run> = into.runs(&RunQuery::default())?.into_iter().map(|run| (run.id, run)).collect();
    for run in from.runs(&RunQuery::default())?.into_iter().rev().filter(takes) {
        // A complete run gets no more launches: reading every sample of a history to find it known would take longer
        // the more there is of it.
        let count = from.launch_count(run.id)?;
        let known =
            run.status == RunStatus::Complete && here.get(&run.id) == Some(&run) && into.launch_count(run.id)? == count;
        if known {
            imported.known += count;
        } else {
            merge(&run, &from.launches(run.id, None)?, into, &mut imported)?;
            here.insert(run.id, run);
        }
    }
    for baseline in from.baselines()?.into_iter().filter(|baseline| here.contains_key(&baseline.run)) {
        name(&baseline, into, &mut imported)?;
    }
    let Knowledge { noise, acceptances } = from.knowledge()?;
    for acceptance in &acceptances {
        accept(acceptance, into, &mut imported)?;
    }
    learn(noise, into, &mut imported)?;
    Ok(imported)
}

/// Keeps the noise models that are newer than what is here.
fn learn(mut models: Vec<NoiseModel>, store: &mut dyn Store, imported: &mut Imported) -> Result<(), StoreError> {
    let known = store.knowledge()?.noise;
    let of = |a: &NoiseModel, b: &NoiseModel| {
        (&a.testbed, &a.suite, &a.case, &a.metric) == (&b.testbed, &b.suite, &b.case, &b.metric)
    };
    models.retain(|model| !known.iter().any(|here| of(here, model) && here.measured >= model.measured));
    store.put_noise(&models)?;
    imported.noise += models.len() as u64;
    Ok(())
}

/// Keeps an acceptance that is not here.
fn accept(acceptance: &Acceptance, store: &mut dyn Store, imported: &mut Imported) -> Result<(), StoreError> {
    if !store.acceptances(&acceptance.suite)?.contains(acceptance) {
        store.put_acceptance(acceptance)?;
        imported.acceptances += 1;
    }
    Ok(())
}

fn merge(run: &Run, launches: &[Launch], store: &mut dyn Store, imported: &mut Imported) -> Result<(), StoreError> {
    let merged = store.merge(run, launches)?;
    imported.runs += merged.runs;
    imported.launches += merged.launches;
    imported.known += merged.known;
    Ok(())
}

/// Gives a run its name, unless the name was given to another run here later.
fn name(baseline: &Baseline, store: &mut dyn Store, imported: &mut Imported) -> Result<(), StoreError> {
    match store.baselines()?.into_iter().find(|here| here.name == baseline.name) {
        Some(here) if here.run == baseline.run && here.since >= baseline.since => {}
        // Of two names given at the same moment one must win everywhere: ids sort by age.
        Some(here) if (here.since, here.run) > (baseline.since, baseline.run) => imported.names_kept.push(here.name),
        _ => {
            store.promote(&baseline.name, baseline.run, baseline.since)?;
            imported.names.push(baseline.name.clone());
        }
    }
    Ok(())
}

/// Lines that are not blank, parsed, with their numbers.
struct Lines<'a> {
    from: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Line>, TransferError> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let got = self
                .from
                .read_until(b'\n', &mut bytes)
                .map_err(|source| TransferError::Io { doing: "reading the import", source })?;
            if got == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !bytes.trim_ascii().is_empty() {
                break;
            }
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            // serde counts lines within what it was given, which here is always the first.
            let place = format!(" at line {} column {}", e.line(), e.column());
            let what = e.to_string();
            self.wrong(what.strip_suffix(&place).unwrap_or(&what))
        })
    }

    fn wrong(&self, what: impl Into<String>) -> TransferError {
        TransferError::Line { line: self.number, what: what.into() }
    }
}
