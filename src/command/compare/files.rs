//! The samples that a report shows, and the files that it becomes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::domain::{Call, CaseId, Launch, LaunchId, RunId};
use crate::render::{RENDERERS, Style};
use crate::report::Report;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::verdict::Judged;

/// Samples that a report carries itself; above this, only flagged rows do and the rest stays in the database.
const MOST_SAMPLES: u64 = 1_000_000;
/// Columns of the table that is written to a file.
const REPORT_WIDTH: usize = 120;

/// Reads sample vectors for the rows of a report, case by case, once.
pub struct SampleReader<'a> {
    store: &'a SqliteStore,
    /// Rows that get their samples; `None` for all.
    only: Option<BTreeSet<(CaseId, String)>>,
    read: RefCell<BTreeMap<(RunId, CaseId), Vec<Launch>>>,
    error: RefCell<Option<StoreError>>,
}

impl<'a> SampleReader<'a> {
    pub fn new(store: &'a SqliteStore, rows: &[Judged<'_>]) -> Self {
        let sides = |row: &Judged<'_>| -> u64 {
            row.base.iter().chain(&row.head).flat_map(|side| &side.launches).map(|used| used.n).sum()
        };
        let total: u64 = rows.iter().map(sides).sum();
        let flagged = |row: &&Judged<'_>| row.fails || matches!(row.verdict.call, Call::Regressed | Call::Improved);
        let only = (total > MOST_SAMPLES)
            .then(|| rows.iter().filter(flagged).map(|row| (row.case.clone(), row.metric.name.clone())).collect());
        Self { store, only, read: RefCell::default(), error: RefCell::default() }
    }

    pub fn get(&self, run: RunId, launch: LaunchId, case: &CaseId, metric: &str) -> Option<Vec<f64>> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&(case.clone(), metric.to_owned()))) {
            return None;
        }
        let mut read = self.read.borrow_mut();
        let launches = read.entry((run, case.clone())).or_insert_with(|| {
            self.store.launches(run, Some(case)).unwrap_or_else(|error| {
                self.error.borrow_mut().get_or_insert(error);
                Vec::new()
            })
        });
        let found = launches.iter().find(|candidate| candidate.id == launch)?;
        found.samples.iter().find(|samples| samples.metric.name == metric).map(|samples| samples.values.clone())
    }

    pub fn failed(self) -> Result<()> {
        self.error.into_inner().map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Writes every format's files. Plots of an earlier comparison go first; whatever else is in the folder stays.
pub fn write_files(report: &Report, folder: &Path) -> Result<()> {
    let plots = folder.join("plots");
    for entry in std::fs::read_dir(&plots).into_iter().flatten().flatten() {
        let path = entry.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let picture = path.extension().is_some_and(|extension| extension == "svg" || extension == "png");
        if picture && (stem == "forest" || stem.starts_with("distribution-")) {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let style = Style { colour: false, width: REPORT_WIDTH };
    for renderer in RENDERERS {
        for artifact in renderer.report(report, style)? {
            let path = folder.join(&artifact.name);
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            std::fs::write(&path, &artifact.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
